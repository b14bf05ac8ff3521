//! kqueue: the selector of macOS and FreeBSD, and what wakes it.
//!
//! How it behaves, and its traps (kqueue(2); XNU's kern_event.c and uipc_socket.c; FreeBSD's of the same names):
//!
//! - A watch (knote) is for one descriptor and one filter, and a kqueue has one of each at most: to add it again
//!   changes it, but keeps the flags that it was made with. So a watch of another kind is deleted first, and a
//!   descriptor that is listed twice is added once.
//! - EVFILT_READ is level-triggered, and fires for bytes and for the end alike. A wait for the end alone would spin on
//!   unread bytes, so its watch is made with EV_CLEAR, and fires once for whatever arrives. A report of bytes leads to
//!   nothing; a report of the end does not come again. NOTE_LOWAT is no way out: macOS limits it to the buffer's size.
//! - A connection that is severed shuts one direction after the other, each with a report of its own. So a wait for
//!   that alone watches EVFILT_WRITE, whose end comes last, with a NOTE_LOWAT that no buffer has room for. macOS limits
//!   this to the buffer's size too, so the watch also fires once when everything that was written has been taken. That
//!   report leads to nothing.
//! - What is told once is told to one of the threads that wait. The poller must tell the others.
//! - EV_EOF on EVFILT_READ says that no more arrives, also while bytes are unread; on EVFILT_WRITE, that nothing can be
//!   sent any more, which our own half-close brings about too, and on FreeBSD 15 a local peer that reads no more. Only
//!   both together say that the connection is severed. So a report with EV_EOF is a reason to ask the socket itself,
//!   and nothing more.
//! - After the peer has closed a TCP connection in order, EVFILT_WRITE has no EV_EOF until a reset comes; a local
//!   stream has it at once.
//! - The socket's error comes with EV_EOF in `fflags`. It is still taken with SO_ERROR, as elsewhere.
//! - Readable and writable are two reports. When there are more than one call takes, the second of two may be missing.
//! - Closing a descriptor takes its watches away. Closing the kqueue itself, or a watched socket, need not wake a
//!   thread in kevent. Hence the waker.
//! - It is not inherited by fork: in a child its number means nothing, or another file. Hence wakers know their
//!   process.
//! - Reports carry the socket's handle, so one that is out of date when it is read is recognised.
//! - A level-triggered watch that has been reported goes to the end of the kernel's list, so nobody starves.
//! - Its descriptor is readable while it has something to report, so it can be watched itself: by select, poll, and
//!   other kqueues.
//! - EVFILT_TIMER counts in milliseconds unless told otherwise; one that is added again begins anew.
//! - Its numbers differ: EVFILT_USER is -10 on macOS and -11 on FreeBSD.

const std = @import("std");
const sys = @import("../sys.zig");
const Key = @import("key.zig").Key;
const kqueue_changes = @import("../kqueue_changes.zig");
const events = @import("../../base/events.zig");
const status = @import("../../base/status.zig");

const kernel = sys.kevents;
const EV = kernel.EV;
const EVFILT = kernel.EVFILT;
const Kevent = kernel.Kevent;

comptime {
    // <sys/event.h> of each system.
    std.debug.assert(EVFILT.READ == -1);
    std.debug.assert(EVFILT.WRITE == -2);
    std.debug.assert(EV.ADD == 0x1);
    std.debug.assert(EV.DELETE == 0x2);
    std.debug.assert(EV.CLEAR == 0x20);
    std.debug.assert(EV.RECEIPT == 0x40);
    std.debug.assert(EV.ERROR == 0x4000);
    std.debug.assert(EV.EOF == 0x8000);
    std.debug.assert(kernel.NOTE.TRIGGER == 0x01000000);
    std.debug.assert(EVFILT.USER == kernel.filter_user);
    std.debug.assert(EVFILT.TIMER == -7);
    std.debug.assert(EV.ONESHOT == 0x10);
    std.debug.assert(kernel.NOTE.NSECONDS == kernel.note_nseconds);
    std.debug.assert(@sizeOf(Kevent) == kernel.size);
    std.debug.assert(@offsetOf(Kevent, "filter") == 8);
    std.debug.assert(@offsetOf(Kevent, "data") == 16);
    std.debug.assert(@offsetOf(Kevent, "udata") == 24);
}

const changing = kqueue_changes.Of(kernel);
const changes_max = changing.changes_max;
const deletes = changing.deletes;
const make = changing.make;
const Watch = changing.Watch;

/// What one kevent takes at the most. More wait for the next.
const reports_per_wait_max = 512;

/// The numbers are those of bbipc.h.
pub const Backend = enum(i32) {
    poll = 2,
    kqueue = 4,

    pub const default: Backend = .kqueue;
};

pub const Selector = struct {
    fd: sys.Descriptor,

    pub fn open(waker: sys.Waker, _: *status.Failure) status.Error!Selector {
        return .{ .fd = waker.fd };
    }

    /// The waker's own.
    pub fn close(_: *Selector) void {}

    /// The descriptor that is readable while there is something to report, for those outside.
    pub fn show(self: *Selector, _: *status.Failure) status.Error!sys.Descriptor {
        return self.fd;
    }

    /// The number of the alarm in its kqueue, among EVFILT_TIMERs.
    const alarm_number = 0;

    /// The descriptor that is shown is readable from then on, until a wait has heard of it (null: no more for that
    /// reason).
    pub fn setAlarm(self: *Selector, from_now_ns: ?u64) void {
        // Deleted first: what was due before is forgotten.
        var changes = [_]Kevent{
            changing.change(alarm_number, EVFILT.TIMER, EV.DELETE, 0),
            changing.change(alarm_number, EVFILT.TIMER, EV.ADD | EV.ONESHOT, 0),
        };
        changes[1].fflags = kernel.NOTE.NSECONDS;
        changes[1].data = @intCast(from_now_ns orelse 0);
        _ = make(self.fd, changes[0..if (from_now_ns == null) 1 else 2]);
    }

    pub fn arm(
        self: *Selector,
        key: *Key,
        interest: events.Interest,
        failure: *status.Failure,
    ) status.Error!void {
        var room: [2]Kevent = undefined;
        const result = make(self.fd, adds(key, interest, &room));
        if (result >= 0) return;
        self.disarm(key);
        return sys.refused(result, failure);
    }

    /// Watches anew, so that what the old watches have told already is told again.
    pub fn rearm(self: *Selector, key: *Key, interest: events.Interest) bool {
        var room: [changes_max]Kevent = undefined;
        room[0..2].* = deletes(key.descriptor);
        return make(self.fd, room[0 .. 2 + adds(key, interest, room[2..]).len]) >= 0;
    }

    pub fn disarm(self: *Selector, key: *Key) void {
        // It fails only where somebody closed the descriptor behind our back, and the kernel has forgotten both.
        _ = make(self.fd, &deletes(key.descriptor));
    }

    fn adds(key: *const Key, interest: events.Interest, room: []Kevent) []const Kevent {
        return Watch.of(interest).changes(key.descriptor, key.handle, room);
    }
};

pub const Snapshot = struct {
    fd: sys.Descriptor,
    reports: [reports_per_wait_max]Kevent = undefined,
    count: usize = 0,
    cursor: usize = 0,
    /// A socket's other report may have had no room, or tell of an end: then this one alone says too much.
    is_partial: bool = false,

    pub fn wait(
        shot: *Snapshot,
        reports_max: usize,
        timeout_ns: ?u64,
        failure: *status.Failure,
    ) status.Error!void {
        std.debug.assert(reports_max > 0);
        const room = @min(reports_max, reports_per_wait_max);
        const result = sys.repeatedAtOnce(
            timeout_ns,
            kernel.call,
            .{ shot.fd, &.{}, shot.reports[0..room], timeout_ns },
        );
        shot.cursor = 0;
        shot.count = 0;
        if (result < 0) return sys.waitRefused(result, failure);
        shot.count = @intCast(result);
        shot.is_partial = shot.count == room;
        for (shot.reports[0..shot.count]) |event| {
            if (event.flags & EV.EOF != 0) shot.is_partial = true;
        }
    }

    pub fn isEmpty(shot: *const Snapshot) bool {
        return shot.count == 0;
    }

    pub fn next(shot: *Snapshot) ?events.Report {
        if (shot.cursor == shot.count) return null;
        const event = &shot.reports[shot.cursor];
        shot.cursor += 1;
        if (event.filter == EVFILT.USER or event.filter == EVFILT.TIMER) return .{ .handle = 0, .conditions = .{} };
        return .{
            .handle = @as(isize, @bitCast(event.udata)),
            .conditions = if (shot.is_partial) null else .{
                .readable = event.filter == EVFILT.READ,
                .writable = event.filter == EVFILT.WRITE,
            },
            .repeats = event.flags & EV.CLEAR == 0,
        };
    }
};
