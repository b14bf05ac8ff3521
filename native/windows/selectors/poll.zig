//! What bbipc_poll_socket and bbipc_poll_sockets wait with. Windows has no call that waits for any number of sockets
//! and pipes and says which are ready. So the sockets are asked one by one, and a selector watches them only while the
//! thread sleeps.

const std = @import("std");
const sys = @import("../sys.zig");
const iocp = @import("iocp.zig");
const events = @import("../../base/events.zig");
const status = @import("../../base/status.zig");
const transports = @import("../transports/transport.zig");
const watchers = @import("../watchers.zig");

/// What a wait of poll_sockets knows of one socket.
pub const Entry = struct {
    key: iocp.Key,
    interest: ?events.Interest,
    conditions: events.Conditions = .{},
    armed: bool = false,
};

const looks_pause = 64;

/// The waker's port is the sleeper's.
pub const spare_entries = 0;

/// What to ask for one socket. Null asks nothing.
pub fn entryOf(descriptor: transports.Descriptor, interest: ?events.Interest) Entry {
    // Reports only wake, so the handle is anything but the 0 of a watch that nobody wants.
    return .{ .key = .{ .handle = 1, .descriptor = descriptor }, .interest = interest };
}

pub fn conditionsOf(entry: Entry) events.Conditions {
    return entry.conditions;
}

/// A selector for one thread's wait. Some are kept for the next waits. Its functions are called with the library's lock
/// held.
pub const Sleeper = struct {
    waker: sys.Waker,
    bed: *Bed,

    const Bed = struct {
        selector: iocp.Selector,
        next: ?*Bed,
    };

    var free: ?*Bed = null;
    var free_count: usize = 0;

    /// The most that are kept. Each is two handles of the system's.
    const free_max = 16;

    pub fn take(failure: *status.Failure) status.Error!Sleeper {
        if (free) |bed| {
            free = bed.next;
            free_count -= 1;
            return .{ .waker = .{ .port = bed.selector.port.handle }, .bed = bed };
        }
        const waker: sys.Waker = try .open(failure);
        errdefer waker.close();
        const bed = try sys.allocator.create(Bed);
        errdefer sys.allocator.destroy(bed);
        bed.* = .{ .selector = try .open(.default, waker, failure), .next = null };
        return .{ .waker = waker, .bed = bed };
    }

    pub fn giveBack(sleeper: Sleeper) void {
        if (free_count == free_max) {
            sleeper.bed.selector.close();
            sleeper.waker.close();
            return sys.allocator.destroy(sleeper.bed);
        }
        // Helpers that only a wait for many sockets needed are not kept.
        sleeper.bed.selector.closeHelpers(1);
        sleeper.bed.next = free;
        free = sleeper.bed;
        free_count += 1;
    }
};

/// Whether a socket is ready. Without a sleeper it only asks.
pub fn wait(
    sleeper: ?Sleeper,
    watched: []Entry,
    timeout_ns: ?u64,
    failure: *status.Failure,
) status.Error!bool {
    if (askAll(watched)) return true;
    const ours = sleeper orelse {
        // Who looks again and again leaves the lock to others for longer than it takes it.
        for (0..looks_pause) |_| std.atomic.spinLoopHint();
        return false;
    };
    const selector = &ours.bed.selector;
    var shot: iocp.Selector.Snapshot = undefined;
    shot.start();
    {
        sys.library_lock.lock();
        defer sys.library_lock.unlock();
        errdefer disarmAll(selector, watched);
        try armAll(selector, watched, failure);
        try selector.snapshot(&shot);
    }
    const waited = shot.wait(shot.room.len, timeout_ns, failure);
    {
        sys.library_lock.lock();
        defer sys.library_lock.unlock();
        selector.discard(&shot);
        disarmAll(selector, watched);
    }
    // The watches that were cancelled.
    selector.drain();
    try waited;
    return askAll(watched);
}

/// Whether one of them is what was asked for.
fn askAll(entries: []Entry) bool {
    sys.library_lock.lock();
    defer sys.library_lock.unlock();
    var any = false;
    for (entries) |*entry| {
        const interest = entry.interest orelse continue;
        const conditions = transports.conditionsNow(entry.key.descriptor);
        const told = watchers.isOfInterest(interest, conditions);
        entry.conditions = if (told) conditions else .{};
        if (told) any = true;
    }
    return any;
}

fn armAll(selector: *iocp.Selector, entries: []Entry, failure: *status.Failure) status.Error!void {
    for (entries) |*entry| {
        const interest = entry.interest orelse continue;
        try selector.arm(&entry.key, interest, failure);
        entry.armed = true;
    }
}

fn disarmAll(selector: *iocp.Selector, entries: []Entry) void {
    for (entries) |*entry| {
        if (entry.armed) selector.disarm(&entry.key);
        entry.armed = false;
    }
}
