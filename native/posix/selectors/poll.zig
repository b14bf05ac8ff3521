//! poll(2): what bbipc_poll_socket and bbipc_poll_sockets wait with, and a selector for pollers on any POSIX system. On
//! macOS and FreeBSD it is kqueue.zig's, which behaves as Linux's does.
//!
//! How it behaves, and its traps (poll(2), and fs/select.c of Linux 6):
//!
//! - It is level-triggered by nature. A wait costs what is watched, not what is ready.
//! - POLLHUP, POLLERR and POLLNVAL are reported unasked and can't be masked; a negative descriptor is passed over. So
//!   what is of no more interest is left out, or made negative.
//! - POLLIN is also reported at the end of the stream; POLLRDHUP, always asked for with it, tells.
//! - More entries than the process may have descriptors (RLIMIT_NOFILE) are refused, with EINVAL.
//! - With a timeout of 0, a signal can end it too: EINTR.
//! - The list of a wait is fixed once it has begun. Whoever changes the selector's list wakes the waiting threads.
//! - The kernel looks descriptors up by number, each time it is woken. One that another thread closes, and that comes
//!   to mean another file in this wait, could be reported: poll only looks, and the report's handle is then out of date
//!   and recognised as such. poll_sockets pins its sockets, so there it can't happen.

const std = @import("std");
const sys = @import("../sys.zig");
const Key = @import("key.zig").Key;
const readiness = @import("../readiness.zig");
const Backoff = @import("../../base/backoff.zig").Backoff;
const events = @import("../../base/events.zig");
const status = @import("../../base/status.zig");

const allocator = sys.allocator;

/// What a wait of poll_sockets knows of one socket.
pub const Entry = sys.pollfd;
/// One, for the waker.
pub const spare_entries = 1;

pub const entryOf = readiness.entryOf;
pub const conditionsOf = readiness.conditionsOf;

/// What wakes the threads in poll_sockets: one for all of them. Its functions are called with the library's lock
/// held.
pub const Sleeper = struct {
    waker: sys.Waker,

    var shared: ?Sleeper = null;
    var process: sys.Process = .none;

    pub fn take(failure: *status.Failure) status.Error!Sleeper {
        if (shared) |sleeper| {
            if (process.isCurrent()) return sleeper;
            // Inherited by a child whose program did not call after_fork_in_child.
            forget();
        }
        // In a variable first: a failure in the middle of an assignment would leave half a sleeper.
        const sleeper: Sleeper = .{ .waker = try .open(failure) };
        shared = sleeper;
        process = .current();
        return sleeper;
    }

    pub fn giveBack(_: Sleeper) void {}

    /// In a forked child: it is the parent's.
    pub fn forget() void {
        if (shared) |sleeper| sleeper.waker.close();
        shared = null;
    }
};

/// Waits for the sockets of all entries but the spare one. Whether something is ready, be it the sleeper's waker.
pub fn wait(sleeper: ?Sleeper, entries: []Entry, timeout_ns: ?u64, failure: *status.Failure) status.Error!bool {
    const sockets_count = entries.len - spare_entries;
    const watched = if (sleeper) |one| watched: {
        entries[sockets_count] = entryOf(one.waker.fd, .{ .readable = true });
        break :watched entries;
    } else entries[0..sockets_count];
    return try waitForEntries(watched, if (sleeper == null) null else sockets_count, timeout_ns, failure) > 0;
}

/// Returns how many are ready. `waker` is the place of the entry that ends the wait.
fn waitForEntries(entries: []sys.pollfd, waker: ?usize, timeout_ns: ?u64, failure: *status.Failure) status.Error!usize {
    var result = sys.repeatedAtOnce(timeout_ns, sys.poll, .{ entries, timeout_ns });
    if (result == sys.resultOf(.INVAL)) result = waitInParts(entries, waker, timeout_ns);
    if (result < 0) return sys.waitRefused(result, failure);
    return @intCast(result);
}

/// The same for more entries than the process may have descriptors (RLIMIT_NOFILE): the kernel takes no more. A process
/// can have more open, or list a socket many times. This looks at parts of them, and between two looks waits for the
/// waker alone.
fn waitInParts(entries: []sys.pollfd, waker: ?usize, timeout_ns: ?u64) isize {
    const deadline: sys.Deadline = .afterNs(timeout_ns);
    var backoff: Backoff = .{};
    while (true) {
        const ready = lookInParts(entries);
        if (ready != 0 or deadline == .now) return ready;
        const left_ns = deadline.remainingNs();
        if (left_ns == 0) return 0;
        const place = waker orelse return ready;
        // The next look counts it.
        const result = sys.poll(entries[place..][0..1], backoff.limit(left_ns));
        if (result < 0) return result;
    }
}

fn lookInParts(entries: []sys.pollfd) isize {
    var ready: isize = 0;
    var part_max = entries.len;
    var done: usize = 0;
    while (done < entries.len) {
        const part = entries[done..][0..@min(part_max, entries.len - done)];
        const result = sys.repeatedAtOnce(0, sys.poll, .{ part, 0 });
        if (result == sys.resultOf(.INVAL) and part.len > 1) {
            part_max = part.len / 2;
            continue;
        }
        if (result < 0) return result;
        ready += result;
        done += part.len;
    }
    return ready;
}

pub const Poll = struct {
    /// Parallel to `keys`; the waker is the first of both.
    entries: std.ArrayList(sys.pollfd) = .empty,
    keys: std.ArrayList(?*Key) = .empty,
    /// Where the next wait starts to look, so that all get their turn when more are ready than it takes.
    turn: usize = 0,
    /// The memory of the last wait, for the next.
    spare: Memory = .{},

    pub fn open(waker: sys.Waker) status.Error!Poll {
        var self: Poll = .{};
        errdefer self.close();
        try self.append(waker.fd, null, .{ .readable = true });
        return self;
    }

    pub fn close(self: *Poll) void {
        self.entries.deinit(allocator);
        self.keys.deinit(allocator);
        self.spare.free();
    }

    fn append(self: *Poll, descriptor: sys.Descriptor, key: ?*Key, interest: events.Interest) status.Error!void {
        std.debug.assert(self.entries.items.len == self.keys.items.len);
        try self.entries.ensureUnusedCapacity(allocator, 1);
        try self.keys.append(allocator, key);
        self.entries.appendAssumeCapacity(entryOf(descriptor, interest));
    }

    pub fn arm(self: *Poll, key: *Key, interest: events.Interest, _: *status.Failure) status.Error!void {
        try self.append(key.descriptor, key, interest);
        key.position = @intCast(self.keys.items.len - 1);
    }

    pub fn rearm(self: *Poll, key: *Key, interest: events.Interest) bool {
        std.debug.assert(self.keys.items[key.position] == key);
        self.entries.items[key.position] = entryOf(key.descriptor, interest);
        return true;
    }

    pub fn disarm(self: *Poll, key: *Key) void {
        const position = key.position;
        std.debug.assert(self.keys.items[position] == key);
        _ = self.entries.swapRemove(position);
        _ = self.keys.swapRemove(position);
        if (position < self.keys.items.len) self.keys.items[position].?.position = position;
    }

    pub fn snapshot(self: *Poll) status.Error!Snapshot {
        var shot: Snapshot = .{ .memory = self.spare };
        self.spare = .{};
        errdefer self.discard(&shot);
        const count = self.entries.items.len;
        shot.memory.entries.clearRetainingCapacity();
        shot.memory.handles.clearRetainingCapacity();
        try shot.memory.entries.appendSlice(allocator, self.entries.items);
        try shot.memory.handles.ensureTotalCapacity(allocator, count);
        for (self.keys.items) |key| shot.memory.handles.appendAssumeCapacity(if (key) |one| one.handle else 0);
        shot.cursor = if (self.turn < count) self.turn else 0;
        return shot;
    }

    pub fn discard(self: *Poll, shot: *Snapshot) void {
        if (shot.ready_count > 0) self.turn = shot.cursor;
        if (self.spare.entries.capacity == 0) {
            self.spare = shot.memory;
        } else {
            shot.memory.free();
        }
    }
};

const Memory = struct {
    entries: std.ArrayList(sys.pollfd) = .empty,
    handles: std.ArrayList(i64) = .empty,

    fn free(memory: *Memory) void {
        memory.entries.deinit(allocator);
        memory.handles.deinit(allocator);
    }
};

pub const Snapshot = struct {
    memory: Memory,
    /// Where the look at the results goes on, and how many entries it has yet to see.
    cursor: usize = 0,
    unseen: usize = 0,
    /// How many of those are ready, and how many of them the caller takes.
    ready_count: usize = 0,
    reports_max: usize = 0,

    pub fn wait(
        shot: *Snapshot,
        reports_max: usize,
        timeout_ns: ?u64,
        failure: *status.Failure,
    ) status.Error!void {
        std.debug.assert(reports_max > 0);
        // The waker is the first.
        shot.ready_count = try waitForEntries(shot.memory.entries.items, 0, timeout_ns, failure);
        shot.unseen = shot.memory.entries.items.len;
        shot.reports_max = reports_max;
    }

    pub fn isEmpty(shot: *const Snapshot) bool {
        return shot.ready_count == 0;
    }

    pub fn next(shot: *Snapshot) ?events.Report {
        const entries = shot.memory.entries.items;
        while (shot.unseen > 0 and shot.ready_count > 0 and shot.reports_max > 0) {
            const index = shot.cursor;
            shot.cursor = (index + 1) % entries.len;
            shot.unseen -= 1;
            if (entries[index].revents == 0) continue;
            shot.ready_count -= 1;
            shot.reports_max -= 1;
            return .{ .handle = shot.memory.handles.items[index], .conditions = conditionsOf(entries[index]) };
        }
        return null;
    }
};
