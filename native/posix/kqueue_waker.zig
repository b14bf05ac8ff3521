//! The waker of macOS and FreeBSD.

const kernel = @import("kernel.zig").kernel;
const common = @import("common.zig");
const kqueue_changes = @import("kqueue_changes.zig");
const status = @import("../base/status.zig");
const Process = @import("process.zig").Process;

const kevents = kernel.kevents;
const EV = kevents.EV;
const EVFILT = kevents.EVFILT;
const changing = kqueue_changes.Of(kevents);
const change = changing.change;
const make = changing.make;

/// The number of the waker in its kqueue. Level-triggered: it is reported to every thread until it is taken down.
const waker_number = 0;

/// A kqueue with an EVFILT_USER. It is readable, so that it can be waited for in poll too; and a poller with this
/// selector watches its sockets with the very same kqueue.
pub const Waker = struct {
    fd: kernel.Descriptor,
    process: Process,

    /// A signal stays until it is taken down, and wakes everybody who waits for this waker.
    pub const lasts = true;

    pub fn open(failure: *status.Failure) status.Error!Waker {
        const result = kevents.make();
        if (result < 0) return common.refused(result, failure);
        const waker: Waker = .{ .fd = @intCast(result), .process = .current() };
        errdefer waker.close();
        const added = make(waker.fd, &.{change(waker_number, EVFILT.USER, EV.ADD, 0)});
        if (added < 0) return common.refused(added, failure);
        return waker;
    }

    /// A forked child has no kqueue, and must not close what has its number.
    pub fn close(waker: Waker) void {
        if (waker.process.isCurrent()) kernel.close(waker.fd);
    }

    pub fn signal(waker: Waker) void {
        var trigger = change(waker_number, EVFILT.USER, 0, 0);
        trigger.fflags = kevents.NOTE.TRIGGER;
        _ = make(waker.fd, &.{trigger});
    }

    pub fn drain(waker: Waker) void {
        _ = make(waker.fd, &.{
            change(waker_number, EVFILT.USER, EV.DELETE, 0),
            change(waker_number, EVFILT.USER, EV.ADD, 0),
        });
    }
};
