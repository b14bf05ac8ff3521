//! Watches of sockets and pipes, as these see them: whom they tell, and how. The selector knows what is watched, and
//! for whom (selectors/iocp.zig).

const std = @import("std");
const sys = @import("sys.zig");
const afd = @import("afd.zig");
const events = @import("../base/events.zig");

/// Those that wait to be told by the same pipe, listener or server.
pub const List = std.DoublyLinkedList;

/// What a selector counts of the packets that come to its port.
pub const Port = struct {
    handle: sys.HANDLE,
    /// How many packets are to come, and how many of them of watches that were cancelled.
    pending_count: u32 = 0,
    cancelled_count: u32 = 0,
    /// How many watches their pipes will tell, through the reaper.
    watching_count: u32 = 0,
};

/// One watch. Its packets' context is its address.
pub const Watcher = struct {
    port: *Port,
    interest: events.Interest,
    state: State = .idle,
    /// For TCP: the poll, the helper it goes to, and what it asks for.
    poll: afd.Poll = .{},
    helper: ?*afd.Helper = null,
    asked: u32 = 0,
    cancelled: bool = false,
    /// Whether the packet to come is one of our own.
    queued: bool = false,
    /// A TCP server's list of watchers, while AFD is to tell of it.
    in_list: ?*List = null,
    /// In the selector's list of those that the next wait begins to watch, or in the list of watchers of what is
    /// watched.
    node: List.Node = .{},

    pub const State = enum {
        /// To be begun by the next wait.
        idle,
        /// Its pipe will tell.
        watching,
        /// A packet is to come.
        pending,
    };

    pub fn fromNode(node: *List.Node) *Watcher {
        return @alignCast(@fieldParentPtr("node", node));
    }

    pub fn wants(watcher: *const Watcher, conditions: events.Conditions) bool {
        return isOfInterest(watcher.interest, conditions);
    }

    pub fn leave(watcher: *Watcher, state: State) void {
        std.debug.assert(state != .watching);
        if (watcher.state == .watching) watcher.port.watching_count -= 1;
        watcher.state = state;
    }

    pub fn isPolled(watcher: *const Watcher) bool {
        return watcher.helper != null;
    }

    /// Ends the poll early. Its packet comes in any case.
    pub fn cancel(watcher: *Watcher) void {
        std.debug.assert(watcher.state == .pending);
        // What was queued is on its way.
        if (watcher.cancelled or watcher.queued) return;
        watcher.cancelled = true;
        watcher.port.cancelled_count += 1;
        watcher.poll.cancel(watcher.helper.?.handle);
    }

    /// The server that it watches has it no longer in its list.
    pub fn leaveList(watcher: *Watcher) void {
        const list = watcher.in_list orelse return;
        list.remove(&watcher.node);
        watcher.in_list = null;
    }

    /// A packet of our own, and none of AFD's.
    pub fn queuePacket(watcher: *Watcher) void {
        watcher.leave(.pending);
        watcher.queued = true;
        watcher.port.pending_count += 1;
        _ = sys.pending_operations.fetchAdd(1, .acq_rel);
        sys.post(watcher.port.handle, watcher);
    }
};

/// Whether what holds is what was asked for. A severed connection is told unasked, as by every selector.
pub fn isOfInterest(interest: events.Interest, conditions: events.Conditions) bool {
    return (interest.readable and conditions.readable) or
        (interest.writable and conditions.writable) or
        (interest.ended and conditions.ended) or
        conditions.severed;
}

/// Queues the packets of those watchers of a pipe that want what holds. With the library's lock held.
pub fn tell(list: *List, conditions: events.Conditions) void {
    var next = list.first;
    while (next) |node| {
        next = node.next;
        const watcher: *Watcher = .fromNode(node);
        if (!watcher.wants(conditions)) continue;
        list.remove(node);
        watcher.queuePacket();
    }
}

/// Watchers whose polls AFD has look again at what they watch. With the library's lock held.
pub fn lookAgain(list: *List) void {
    var next = list.first;
    while (next) |node| : (next = node.next) Watcher.fromNode(node).cancel();
}
