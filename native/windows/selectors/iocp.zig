//! The completion port: Windows' selector.
//!
//! How it behaves, and its traps (GetQueuedCompletionStatusEx; afd.zig and pipes/ tell of what is watched):
//!
//! - A port is a queue of packets, each of which says that one operation has ended. It knows no readiness, and what it
//!   says was so when the packet was queued. So a packet is taken for a hint: its socket is asked anew when it is
//!   reported.
//! - To be level-triggered, what was reported is watched anew by the next wait. If its condition still holds, its
//!   packet is queued at once, behind the others': nobody starves, and a wait costs what is ready, not what is watched.
//! - Each watch has one packet to come at the most. Its memory goes when that has been dequeued, however it was
//!   cancelled and whatever became of the socket; packets carry the watch, and the watch the socket's handle, or 0 when
//!   it is nobody's.
//! - A packet goes to one thread. Where several wait, one that takes what is another's passes it on (reportToOthers,
//!   signalsTaken).
//! - Of pipes the reaper tells, a moment late. A wait that would return with nothing lets it finish first (isOver,
//!   beginTurn).
//! - A watch for more than before is cancelled, and begun anew when its packet has come back. So a wait can find
//!   nothing but packets of the past; then it looks again (isOutdated). And a wait takes no more packets than it has
//!   room for, so those of the past could pile up before the others: from some hundred on they are all taken at once
//!   (takeQueued).
//! - A socket's handle is associated with the port only once in its life. So no user's handle ever is: AFD's helper
//!   handles are.
//! - The port's closing wakes nobody. The poller wakes its threads first.

const std = @import("std");
const sys = @import("../sys.zig");
const afd = @import("../afd.zig");
const events = @import("../../base/events.zig");
const status = @import("../../base/status.zig");
const reaper = @import("../pipes/reaper.zig");
const transports = @import("../transports/transport.zig");
const watchers = @import("../watchers.zig");
const Watcher = watchers.Watcher;

const allocator = sys.allocator;

/// What one wait takes at the most. More wait for the next.
const reports_per_wait_max = 512;

/// The most watches that may be cancelled with their packets to come. Beyond that, all queued packets are taken.
const cancelled_max = 256;

/// The numbers are those of bbipc.h.
pub const Backend = enum(i32) {
    iocp = 3,

    pub const default: Backend = .iocp;
};

/// One socket that one selector watches. Lives until it is disarmed and has no packet to come.
pub const Watch = struct {
    watcher: Watcher,
    /// 0 when nobody wants to hear of it any more.
    handle: i64,
    descriptor: transports.Descriptor,
    /// How often in a row the packet came, and nothing of interest held.
    idle_packets: u8 = 0,

    fn fromNode(node: *watchers.List.Node) *Watch {
        return .from(.fromNode(node));
    }

    fn from(watcher: *Watcher) *Watch {
        return @alignCast(@fieldParentPtr("watcher", watcher));
    }

    /// Whether a server was just asked for this one, and its clients had gone: nothing is wrong then.
    fn wasAboutVanished(watch: *const Watch) bool {
        return watch.descriptor == .tcp_server and watch.descriptor.tcp_server.passed_over;
    }
};

/// A watched socket, as selectors know it.
pub const Key = struct {
    handle: i64,
    descriptor: transports.Descriptor,
    /// The selector's own, while armed.
    watch: ?*Watch = null,
};

/// A watch over many sockets. `Snapshot.wait` is called without the library's lock, all else with it.
pub const Selector = struct {
    /// Watches point to it, so a selector stays where it is while anything is armed.
    port: watchers.Port,
    helpers: std.ArrayList(*afd.Helper) = .empty,
    idle: watchers.List = .{},

    /// The waker's port is the selector's.
    pub fn open(_: Backend, waker: sys.Waker, _: *status.Failure) status.Error!Selector {
        return .{ .port = .{ .handle = waker.port } };
    }

    /// Every socket was disarmed before, and no thread waits.
    pub fn close(selector: *Selector) void {
        std.debug.assert(selector.idle.first == null);
        selector.drain();
        selector.closeHelpers(0);
        selector.helpers.deinit(allocator);
    }

    /// A completion port can be waited for by its own calls alone.
    pub fn show(_: *Selector, _: *status.Failure) status.Error!i64 {
        return error.Unsupported;
    }

    /// For a selector that is shown.
    pub fn setAlarm(_: *Selector, _: ?u64) void {
        unreachable;
    }

    /// All but `keep` of them. Nothing is armed.
    pub fn closeHelpers(selector: *Selector, keep: usize) void {
        while (selector.helpers.items.len > keep) {
            const helper = selector.helpers.pop().?;
            std.debug.assert(helper.watches_count == 0);
            helper.close();
            allocator.destroy(helper);
        }
    }

    /// Takes what packets are still to come of watches that were cancelled.
    /// No other thread uses the selector.
    pub fn drain(selector: *Selector) void {
        var shot: Snapshot = .{ .selector = selector };
        var failure: status.Failure = .{};
        while (selector.port.pending_count > 0) {
            shot.wait(reports_per_wait_max, null, &failure) catch sys.Sleep(1);
            selector.discard(&shot);
        }
    }

    pub fn arm(selector: *Selector, key: *Key, interest: events.Interest, failure: *status.Failure) status.Error!void {
        const watch = try allocator.create(Watch);
        errdefer allocator.destroy(watch);
        watch.* = .{
            .watcher = .{ .port = &selector.port, .interest = interest },
            .handle = key.handle,
            .descriptor = key.descriptor,
        };
        switch (key.descriptor) {
            .tcp, .tcp_server => watch.watcher.helper = try selector.takeHelper(failure),
            .pipe, .pipe_server => {},
        }
        selector.idle.append(&watch.watcher.node);
        key.watch = watch;
    }

    fn takeHelper(selector: *Selector, failure: *status.Failure) status.Error!*afd.Helper {
        // If the last helper has no room, another may.
        if (selector.helpers.getLastOrNull()) |last| {
            if (last.watches_count < afd.Helper.watches_max) {
                last.watches_count += 1;
                return last;
            }
        }
        for (selector.helpers.items, 0..) |helper, index| {
            if (helper.watches_count >= afd.Helper.watches_max) continue;
            helper.watches_count += 1;
            const last = selector.helpers.items.len - 1;
            std.mem.swap(*afd.Helper, &selector.helpers.items[index], &selector.helpers.items[last]);
            return helper;
        }
        try selector.helpers.ensureUnusedCapacity(allocator, 1);
        const helper = try allocator.create(afd.Helper);
        errdefer allocator.destroy(helper);
        helper.* = try .open(selector.port.handle, failure);
        helper.watches_count = 1;
        selector.helpers.appendAssumeCapacity(helper);
        return helper;
    }

    pub fn rearm(selector: *Selector, key: *Key, interest: events.Interest) bool {
        const watch = key.watch.?;
        watch.watcher.interest = interest;
        watch.idle_packets = 0;
        switch (watch.watcher.state) {
            .idle => {},
            // Its pipe looks at what it waits for now.
            .watching => {
                unwatch(watch);
                watch.watcher.leave(.idle);
                selector.idle.append(&watch.watcher.node);
            },
            .pending => {
                const asks_more = afd.eventsOf(interest) & ~watch.watcher.asked != 0;
                if (watch.watcher.isPolled() and asks_more) watch.watcher.cancel();
            },
        }
        return true;
    }

    pub fn disarm(selector: *Selector, key: *Key) void {
        const watch = key.watch.?;
        key.watch = null;
        if (watch.watcher.helper) |helper| helper.watches_count -= 1;
        watch.handle = 0;
        switch (watch.watcher.state) {
            .idle => selector.idle.remove(&watch.watcher.node),
            .watching => {
                unwatch(watch);
                watch.watcher.leave(.idle);
            },
            .pending => {
                watch.watcher.leaveList();
                if (watch.watcher.isPolled()) watch.watcher.cancel();
                return; // it goes with its packet
            },
        }
        allocator.destroy(watch);
    }

    fn unwatch(watch: *Watch) void {
        switch (watch.descriptor) {
            .tcp, .tcp_server => unreachable,
            inline .pipe, .pipe_server => |one| one.unwatch(&watch.watcher),
        }
    }

    /// Only a wait begins watches, so a thread that waits already does not see a new one.
    pub fn changesNeedNotice(_: *const Selector) bool {
        return true;
    }

    /// Begins to watch what is to be watched, for a wait.
    pub fn snapshot(selector: *Selector, shot: *Snapshot) status.Error!void {
        if (selector.port.cancelled_count > cancelled_max) selector.takeQueued();
        selector.beginAll();
        shot.begin(selector);
    }

    /// The other threads that wait hear of what this one has taken and still holds.
    pub fn reportToOthers(selector: *Selector) void {
        selector.beginAll();
    }

    /// Takes all packets that are there. The watches that live are begun anew, in the same order; signals go back.
    fn takeQueued(selector: *Selector) void {
        var room: [64]sys.OVERLAPPED_ENTRY = undefined;
        var signals_count: usize = 0;
        // What is queued meanwhile is for the next time.
        for (0..selector.port.pending_count / room.len + 1) |_| {
            var failure: status.Failure = .{};
            const packets = sys.dequeue(selector.port.handle, &room, 0, &failure) catch break;
            for (packets) |packet| {
                if (selector.taken(packet) == .signal) signals_count += 1;
            }
            if (packets.len < room.len) break;
        }
        for (0..signals_count) |_| sys.post(selector.port.handle, null);
    }

    const Taken = union(enum) {
        signal,
        /// The watch was nobody's any more, and is gone.
        nobodys,
        /// It is idle now.
        watch: *Watch,
    };

    fn taken(selector: *Selector, packet: sys.OVERLAPPED_ENTRY) Taken {
        const watch: *Watch = .from(@ptrCast(@alignCast(packet.context orelse return .signal)));
        std.debug.assert(watch.watcher.state == .pending);
        selector.port.pending_count -= 1;
        if (watch.watcher.cancelled) selector.port.cancelled_count -= 1;
        _ = sys.pending_operations.fetchSub(1, .acq_rel);
        if (watch.handle == 0) {
            allocator.destroy(watch);
            return .nobodys;
        }
        watch.watcher.leaveList();
        watch.watcher.state = .idle;
        watch.watcher.queued = false;
        selector.idle.append(&watch.watcher.node);
        return .{ .watch = watch };
    }

    fn beginAll(selector: *Selector) void {
        while (selector.idle.popFirst()) |node| {
            const watch: *Watch = .fromNode(node);
            watch.watcher.cancelled = false;
            switch (watch.descriptor) {
                .tcp => |socket| _ = selector.beginPoll(watch, socket.base),
                .tcp_server => |listener| if (listener.held != null) {
                    watch.watcher.queuePacket();
                } else if (selector.beginPoll(watch, listener.socket.base)) {
                    watch.watcher.in_list = &listener.watching;
                    listener.watching.append(&watch.watcher.node);
                },
                inline .pipe, .pipe_server => |one| {
                    watch.watcher.state = .watching;
                    selector.port.watching_count += 1;
                    one.watch(&watch.watcher);
                },
            }
        }
    }

    fn beginPoll(selector: *Selector, watch: *Watch, base: sys.HANDLE) bool {
        watch.watcher.asked = afd.eventsOf(watch.watcher.interest);
        if (watch.watcher.poll.submit(watch.watcher.helper.?.handle, base, watch.watcher.asked, &watch.watcher)) {
            watch.watcher.state = .pending;
            selector.port.pending_count += 1;
            _ = sys.pending_operations.fetchAdd(1, .acq_rel);
            return true;
        }
        // Somebody closed it behind our back, or the system has no memory: look at it at once.
        watch.idle_packets = idle_packets_max;
        watch.watcher.queuePacket();
        return false;
    }

    /// Whether a wait that has found something, or whose time is up, ends with that. It goes on if it was told of
    /// nothing but the past, and once when pipes are watched: their packets may still be in the reaper's hands.
    pub fn isOver(selector: *const Selector, shot: *Snapshot, found: events.Found) bool {
        if (found == .nothing_found and shot.isOutdated()) return false;
        if (shot.hearing == .done or selector.port.watching_count == 0) return true;
        shot.hearing = .next;
        return false;
    }

    /// After a wait: what was dequeued and not looked at is watched anew.
    pub fn discard(_: *Selector, shot: *Snapshot) void {
        while (shot.cursor < shot.packets.len) _ = shot.take();
    }

    /// How often in a row a packet may come in vain before the poller is told that something is wrong.
    const idle_packets_max = 3;

    /// One wait's own memory, and its reports.
    pub const Snapshot = struct {
        selector: *Selector,
        room: [reports_per_wait_max]sys.OVERLAPPED_ENTRY = undefined,
        packets: []const sys.OVERLAPPED_ENTRY = &.{},
        cursor: usize = 0,
        signals_count: usize = 0,
        in_vain_count: usize = 0,
        /// Whether the reaper has been waited for, or is to be before the next turn.
        hearing: enum { not_yet, next, done } = .not_yet,

        /// Once in each wait.
        pub fn start(shot: *Snapshot) void {
            shot.hearing = .not_yet;
        }

        /// Without the lock, which the reaper needs.
        pub fn beginTurn(shot: *Snapshot) void {
            if (shot.hearing != .next) return;
            reaper.waitForAll();
            shot.hearing = .done;
        }

        /// All but the room, which is not filled (see unfilled.zig).
        fn begin(shot: *Snapshot, selector: *Selector) void {
            shot.selector = selector;
            shot.packets = &.{};
            shot.cursor = 0;
            shot.signals_count = 0;
            shot.in_vain_count = 0;
        }

        pub fn wait(
            shot: *Snapshot,
            reports_max: usize,
            timeout_ns: ?u64,
            failure: *status.Failure,
        ) status.Error!void {
            std.debug.assert(reports_max > 0);
            shot.packets = &.{};
            shot.cursor = 0;
            shot.packets = try sys.dequeueInTime(
                shot.selector.port.handle,
                shot.room[0..@min(reports_max, reports_per_wait_max)],
                timeout_ns,
                failure,
            );
        }

        pub fn isEmpty(shot: *const Snapshot) bool {
            return shot.packets.len == 0;
        }

        pub fn next(shot: *Snapshot) ?events.Report {
            while (shot.cursor < shot.packets.len) {
                const watch = shot.take() orelse continue;
                var conditions = transports.conditionsNow(watch.descriptor);
                if (watch.descriptor == .tcp and watch.watcher.poll.lasting().severed) conditions.severed = true;
                if (watch.watcher.wants(conditions)) {
                    watch.idle_packets = 0;
                } else if (watch.watcher.cancelled or watch.idle_packets < idle_packets_max) {
                    if (!watch.watcher.cancelled and !watch.wasAboutVanished()) watch.idle_packets += 1;
                    shot.in_vain_count += 1;
                    continue;
                }
                return .{ .handle = watch.handle, .conditions = conditions };
            }
            return null;
        }

        /// The next packet's watch, which is idle now. Null for a signal, and for a watch that is nobody's.
        fn take(shot: *Snapshot) ?*Watch {
            const packet = shot.packets[shot.cursor];
            shot.cursor += 1;
            switch (shot.selector.taken(packet)) {
                .signal => shot.signals_count += 1,
                .nobodys => shot.in_vain_count += 1,
                .watch => |watch| return watch,
            }
            return null;
        }

        pub fn signalsTaken(shot: *const Snapshot) usize {
            return shot.signals_count;
        }

        fn isOutdated(shot: *const Snapshot) bool {
            return shot.in_vain_count > 0 or shot.signals_count > 0;
        }
    };
};
