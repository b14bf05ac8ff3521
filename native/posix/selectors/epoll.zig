//! epoll: Linux's selector, the default there.
//!
//! How it behaves, and its traps (epoll(7), and fs/eventpoll.c of Linux 6):
//!
//! - It is level-triggered here: a ready socket stays on the kernel's ready list, and each epoll_wait moves what it has
//!   reported to the end of that list. So when more are ready than one wait takes, the next waits report the others
//!   first, and nobody starves. The cost of a wait follows the ready list, not the number of sockets.
//! - EPOLLHUP and EPOLLERR are reported unasked and can't be masked. A connection that is dead and of no more interest
//!   would end every wait at once, for ever; the poller takes such a socket out (events.Plan).
//! - EPOLLIN is also reported at the end of the stream. EPOLLRDHUP, always asked for with it, tells whether EPOLLIN
//!   alone can be believed.
//! - It watches open file descriptions, not descriptors. One that a child shares stays watched after the parent has
//!   closed its own number, and can't be removed any more then. Hence: every socket is removed before it is closed.
//! - A forked child shares the very same epoll instance: if it removed a socket, the parent would lose it. Hence
//!   pollers know their process.
//! - Closing the epoll descriptor, or a watched socket, does not wake a thread in epoll_wait. Hence the waker.
//! - Reports carry the socket's handle, so one that is out of date when it is read is recognised.
//! - Its descriptor is readable while its ready list is not empty, so it can be watched itself: by select, poll, and
//!   other epoll instances, up to five deep (ELOOP). A time is no file, so a descriptor that is to be readable then has
//!   a timerfd among those that it watches.
//! - epoll_wait counts in milliseconds; timeouts are rounded up, so that none ends early. epoll_pwait2 counts in
//!   nanoseconds; kernels before 5.11 lack it.

const std = @import("std");
const linux = std.os.linux;
const sys = @import("../sys.zig");
const Key = @import("key.zig").Key;
const events = @import("../../base/events.zig");
const status = @import("../../base/status.zig");

/// What one epoll_wait takes at the most. More wait for the next.
const reports_per_wait_max = 1024;

/// The numbers are those of bbipc.h.
pub const Backend = enum(i32) {
    epoll = 1,
    poll = 2,

    pub const default: Backend = .epoll;
};

/// A timerfd, readable from its time on.
const Alarm = struct {
    fd: sys.Descriptor,

    /// Kernels before 5.1 lack the call with 64 bits of seconds, and some have only that one.
    const has_times_twice = @hasField(linux.SYS, "timerfd_settime") and @hasField(linux.SYS, "timerfd_settime64");

    fn open(failure: *status.Failure) status.Error!Alarm {
        const result: isize = @bitCast(linux.timerfd_create(.MONOTONIC, .{ .CLOEXEC = true, .NONBLOCK = true }));
        if (result < 0) return sys.refused(result, failure);
        return .{ .fd = @intCast(result) };
    }

    /// From now. 0 is never. What was due before is forgotten.
    fn set(alarm: Alarm, from_now_ns: u64) isize {
        var time: linux.itimerspec = .{
            .it_interval = .{ .sec = 0, .nsec = 0 },
            .it_value = .{
                .sec = @intCast(from_now_ns / std.time.ns_per_s),
                .nsec = @intCast(from_now_ns % std.time.ns_per_s),
            },
        };
        const result: isize = @bitCast(linux.timerfd_settime(alarm.fd, .{ .ABSTIME = false }, &time, null));
        if (!has_times_twice or result >= 0 or sys.failureOf(result) != .NOSYS) return result;
        const wide = [2]linux.kernel_timespec{
            .{ .sec = 0, .nsec = 0 },
            .{ .sec = @intCast(time.it_value.sec), .nsec = @intCast(time.it_value.nsec) },
        };
        return @bitCast(linux.syscall4(.timerfd_settime64, @as(u32, @bitCast(alarm.fd)), 0, @intFromPtr(&wide), 0));
    }
};

pub const Selector = struct {
    fd: sys.Descriptor,
    /// Once the selector is shown.
    alarm: ?Alarm = null,

    pub fn open(waker: sys.Waker, failure: *status.Failure) status.Error!Selector {
        const result: isize = @bitCast(linux.epoll_create1(linux.EPOLL.CLOEXEC));
        if (result < 0) return sys.refused(result, failure);
        var self: Selector = .{ .fd = @intCast(result) };
        errdefer self.close();
        try self.control(linux.EPOLL.CTL_ADD, waker.fd, 0, .{ .readable = true }, failure);
        return self;
    }

    pub fn close(self: *Selector) void {
        if (self.alarm) |alarm| sys.close(alarm.fd);
        sys.close(self.fd);
    }

    /// The descriptor that is readable while there is something to report, for those outside.
    pub fn show(self: *Selector, failure: *status.Failure) status.Error!sys.Descriptor {
        if (self.alarm == null) {
            const alarm: Alarm = try .open(failure);
            errdefer sys.close(alarm.fd);
            // Whether a sandbox allows it is told now, and not missed later.
            const result = alarm.set(0);
            if (result < 0) return sys.refused(result, failure);
            try self.control(linux.EPOLL.CTL_ADD, alarm.fd, 0, .{ .readable = true }, failure);
            self.alarm = alarm;
        }
        return self.fd;
    }

    /// The descriptor that is shown is readable from then on (null: no more for that reason).
    pub fn setAlarm(self: *Selector, from_now_ns: ?u64) void {
        _ = self.alarm.?.set(from_now_ns orelse 0);
    }

    pub fn arm(
        self: *Selector,
        key: *Key,
        interest: events.Interest,
        failure: *status.Failure,
    ) status.Error!void {
        try self.control(linux.EPOLL.CTL_ADD, key.descriptor, key.handle, interest, failure);
    }

    pub fn rearm(self: *Selector, key: *Key, interest: events.Interest) bool {
        var failure: status.Failure = .{};
        self.control(linux.EPOLL.CTL_MOD, key.descriptor, key.handle, interest, &failure) catch return false;
        return true;
    }

    pub fn disarm(self: *Selector, key: *Key) void {
        var failure: status.Failure = .{};
        // It fails only where somebody closed the descriptor behind our back, and the kernel has forgotten it.
        self.control(linux.EPOLL.CTL_DEL, key.descriptor, key.handle, .{}, &failure) catch {};
    }

    fn control(
        self: *Selector,
        operation: u32,
        fd: sys.Descriptor,
        handle: i64,
        interest: events.Interest,
        failure: *status.Failure,
    ) status.Error!void {
        var bits: u32 = 0;
        if (interest.readable) bits |= linux.EPOLL.IN;
        if (interest.writable) bits |= linux.EPOLL.OUT;
        if (interest.ended) bits |= linux.EPOLL.RDHUP;
        var event: linux.epoll_event = .{ .events = bits, .data = .{ .u64 = @bitCast(handle) } };
        const result: isize = @bitCast(linux.epoll_ctl(self.fd, operation, fd, &event));
        if (result < 0) return sys.refused(result, failure);
    }
};

/// Whether the kernel has epoll_pwait2, as far as is known.
var is_fine_to_be_had: std.atomic.Value(bool) = .init(true);

pub const Snapshot = struct {
    fd: sys.Descriptor,
    reports: [reports_per_wait_max]linux.epoll_event = undefined,
    count: usize = 0,
    cursor: usize = 0,

    pub fn wait(
        shot: *Snapshot,
        reports_max: usize,
        timeout_ns: ?u64,
        failure: *status.Failure,
    ) status.Error!void {
        std.debug.assert(reports_max > 0);
        const reports_count: u32 = @intCast(@min(reports_max, reports_per_wait_max));
        const result = sys.repeatedAtOnce(timeout_ns, waitOnce, .{ shot, reports_count, timeout_ns });
        shot.cursor = 0;
        shot.count = 0;
        if (result < 0) return sys.waitRefused(result, failure);
        shot.count = @intCast(result);
    }

    fn waitOnce(shot: *Snapshot, reports_count: u32, timeout_ns: ?u64) isize {
        if (timeout_ns) |ns| {
            if (shot.waitFinely(reports_count, ns)) |result| return result;
        }
        const timeout_ms: i32 = if (timeout_ns) |ns| @intCast(@min(
            std.math.divCeil(u64, ns, std.time.ns_per_ms) catch unreachable,
            std.math.maxInt(i32),
        )) else -1;
        return @bitCast(linux.epoll_wait(shot.fd, &shot.reports, reports_count, timeout_ms));
    }

    /// By epoll_pwait2, where milliseconds are not fine enough. Null if they are, or where that call can't be made.
    fn waitFinely(shot: *Snapshot, reports_count: u32, timeout_ns: u64) ?isize {
        if (timeout_ns % std.time.ns_per_ms == 0 or timeout_ns > std.time.ns_per_s) return null;
        if (!is_fine_to_be_had.load(.monotonic)) return null;
        const timeout: linux.kernel_timespec = .{ .sec = 0, .nsec = @intCast(timeout_ns) };
        const result: isize = @bitCast(linux.syscall6(
            .epoll_pwait2,
            @bitCast(@as(isize, shot.fd)),
            @intFromPtr(&shot.reports),
            reports_count,
            @intFromPtr(&timeout),
            0,
            0,
        ));
        if (result >= 0) return result;
        switch (sys.failureOf(result)) {
            .INTR, .BADF, .INVAL, .FAULT, .NOMEM => return result,
            // A sandbox that is older than the call may forbid it, with any error.
            else => is_fine_to_be_had.store(false, .monotonic),
        }
        return null;
    }

    pub fn isEmpty(shot: *const Snapshot) bool {
        return shot.count == 0;
    }

    pub fn next(shot: *Snapshot) ?events.Report {
        if (shot.cursor == shot.count) return null;
        const event = &shot.reports[shot.cursor];
        shot.cursor += 1;
        return .{
            .handle = @bitCast(event.data.u64),
            .conditions = .{
                .readable = event.events & linux.EPOLL.IN != 0,
                .writable = event.events & linux.EPOLL.OUT != 0,
                .ended = event.events & linux.EPOLL.RDHUP != 0,
                .severed = event.events & (linux.EPOLL.HUP | linux.EPOLL.ERR) != 0,
            },
        };
    }
};
