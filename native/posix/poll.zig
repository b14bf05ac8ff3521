//! poll(2): what bbipc_poll_socket and bbipc_poll_sockets wait with, and a selector for pollers on any POSIX system. On
//! macOS and FreeBSD it is kqueue.zig's, which behaves as Linux's does.
//!
//! How it behaves, and its traps (poll(2), and fs/select.c of Linux 6):
//!
//! - It is level-triggered by nature. A wait costs what is watched, not what is ready.
//! - POLLHUP, POLLERR and POLLNVAL are reported unasked and can't be masked; a negative descriptor is passed over. So
//!   what is of no more interest is left out, or made negative.
//! - POLLIN is also reported at the end of the stream; POLLRDHUP, always asked for with it, tells.
//! - The list of a wait is fixed once it has begun. Whoever changes the selector's list wakes the waiting threads.
//! - The kernel looks descriptors up by number, each time it is woken. One that another thread closes, and that comes
//!   to mean another file in this wait, could be reported: poll only looks, and the report's handle is then out of date
//!   and recognised as such. poll_sockets pins its sockets, so there it can't happen.

const std = @import("std");
const sys = @import("sys.zig");
const posix = @import("posix.zig");
const events = @import("../events.zig");
const status = @import("../status.zig");

const allocator = sys.allocator;

/// What a wait of poll_sockets knows of one socket.
pub const Entry = sys.pollfd;

/// What to ask of the kernel for one socket. Null asks nothing, not even what it would report unasked.
pub fn entryOf(descriptor: sys.Descriptor, interest: ?events.Interest) sys.pollfd {
    const asked = interest orelse return .{ .fd = sys.none, .events = 0, .revents = 0 };
    var bits: i16 = 0;
    if (asked.readable) bits |= sys.POLL.IN;
    if (asked.writable) bits |= sys.POLL.OUT;
    if (asked.ended) bits |= sys.POLLRDHUP;
    return .{ .fd = descriptor, .events = bits, .revents = 0 };
}

pub fn conditionsOf(entry: sys.pollfd) events.Conditions {
    return .{
        .readable = entry.revents & sys.POLL.IN != 0,
        .writable = entry.revents & sys.POLL.OUT != 0,
        .ended = entry.revents & sys.POLLRDHUP != 0,
        .severed = entry.revents & (sys.POLL.HUP | sys.POLL.ERR | sys.POLL.NVAL) != 0,
    };
}

/// What the kernel says of one socket now.
pub fn conditionsNow(descriptor: sys.Descriptor) events.Conditions {
    var entry = entryOf(descriptor, .{ .readable = true, .writable = true, .ended = true });
    return if (sys.pollNow(&entry) <= 0) .{} else conditionsOf(entry);
}

/// What wakes the threads in poll_sockets: one for all of them. Its functions are called with the library's lock
/// held.
pub const Sleeper = struct {
    waker: sys.Waker,

    var shared: ?Sleeper = null;
    var process_id: i32 = 0;

    pub fn take(failure: *status.Failure) status.Error!Sleeper {
        if (shared) |sleeper| {
            if (process_id == sys.processId()) return sleeper;
            // Inherited by a child whose program did not call after_fork_in_child.
            forget();
        }
        shared = .{ .waker = try .open(failure) };
        process_id = sys.processId();
        return shared.?;
    }

    pub fn giveBack(_: Sleeper) void {}

    /// In a forked child: it is the parent's.
    pub fn forget() void {
        if (shared) |sleeper| sleeper.waker.close();
        shared = null;
    }
};

/// Waits for the sockets of all entries but the last, which is for the sleeper's waker.
pub fn wait(
    sleeper: ?Sleeper,
    entries: []Entry,
    timeout_ns: ?u64,
    failure: *status.Failure,
) (status.Error || error{TooMany})!void {
    const sockets_count = entries.len - 1;
    const watched = if (sleeper) |one| watched: {
        entries[sockets_count] = entryOf(one.waker.fd, .{ .readable = true });
        break :watched entries;
    } else entries[0..sockets_count];
    _ = try waitForEntries(watched, timeout_ns, failure);
}

fn waitForEntries(
    entries: []sys.pollfd,
    timeout_ns: ?u64,
    failure: *status.Failure,
) (status.Error || error{TooMany})!usize {
    const result = sys.poll(entries, timeout_ns);
    if (result == sys.resultOf(.INVAL)) return error.TooMany;
    if (result < 0) return sys.waitRefused(result, failure);
    return @intCast(result);
}

pub const Poll = struct {
    /// Parallel to `keys`; the waker is the first of both.
    entries: std.ArrayList(sys.pollfd) = .empty,
    keys: std.ArrayList(?*posix.Selector.Key) = .empty,
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

    fn append(self: *Poll, descriptor: sys.Descriptor, key: ?*posix.Selector.Key, interest: events.Interest) status.Error!void {
        std.debug.assert(self.entries.items.len == self.keys.items.len);
        try self.entries.ensureUnusedCapacity(allocator, 1);
        try self.keys.append(allocator, key);
        self.entries.appendAssumeCapacity(entryOf(descriptor, interest));
    }

    pub fn arm(self: *Poll, key: *posix.Selector.Key, interest: events.Interest, _: *status.Failure) status.Error!void {
        try self.append(key.descriptor, key, interest);
        key.position = @intCast(self.keys.items.len - 1);
    }

    pub fn rearm(self: *Poll, key: *posix.Selector.Key, interest: events.Interest) bool {
        std.debug.assert(self.keys.items[key.position] == key);
        self.entries.items[key.position] = entryOf(key.descriptor, interest);
        return true;
    }

    pub fn disarm(self: *Poll, key: *posix.Selector.Key) void {
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
        shot.ready_count = waitForEntries(shot.memory.entries.items, timeout_ns, failure) catch |err| switch (err) {
            error.TooMany => return failure.system(sys.codeOf(.INVAL)),
            else => |other| return other,
        };
        shot.unseen = shot.memory.entries.items.len;
        shot.reports_max = reports_max;
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
