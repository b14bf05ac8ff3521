//! The thread that learns what becomes of pipes' operations: it takes the packets of one port, and tells who began
//! them.
//!
//! - The system owns an operation's block and buffer until its packet is dequeued, also when it was cancelled or the
//!   handle closed. Hence they live on the heap, and the reaper alone frees what it has dequeued.
//! - The remote end's going is visible at once in the pipe's state, but while bytes are unread no operation tells of
//!   it. For a wait for that alone, the reaper looks at the pipe now and then.
//! - A remote end that neither reads nor closes would keep a closed end, its 128 KiB and its name for ever: after a
//!   time the write is given up.
//! - The port and its thread start with the first pipe: a program without any has neither.

const std = @import("std");
const sys = @import("../sys.zig");
const status = @import("../../base/status.zig");

/// How long a closed pipe's write waits for its reader. A reader that takes the 128 KiB at 5 KiB a second has time
/// enough.
pub var unread_after_close_ns: u64 = 30 * std.time.ns_per_s;

/// One operation that the system has, or has had. Its packet's context is its address.
pub const Operation = struct {
    block: sys.IO_STATUS_BLOCK = .{},
    /// Called when its packet has come. With the library's lock held.
    ended: *const fn (*Operation) void,

    fn fromContext(context: *anyopaque) *Operation {
        return @ptrCast(@alignCast(context));
    }

    /// The system has it from now on.
    pub fn begin(operation: *Operation) void {
        operation.block = .{};
        _ = sys.pending_operations.fetchAdd(1, .acq_rel);
    }

    /// It has ended at once, and no packet comes.
    pub fn endAtOnce(_: *Operation) void {
        _ = sys.pending_operations.fetchSub(1, .acq_rel);
    }
};

/// Somebody who is looked at now and then.
pub const LookedAt = struct {
    /// With the library's lock held.
    look: *const fn (*LookedAt) void,
    in_list: bool = false,
    node: std.DoublyLinkedList.Node = .{},
};

/// Somebody who is given up after some time.
pub const Closing = struct {
    /// With the library's lock held.
    giveUp: *const fn (*Closing) void,
    in_list: bool = false,
    give_up_ns: u64 = 0,
    node: std.DoublyLinkedList.Node = .{},
};

const Reaper = struct {
    port: sys.HANDLE,
    /// Pipes with bytes unread whose end somebody waits for.
    looked_at: std.DoublyLinkedList = .{},
    looked_at_count: u32 = 0,
    /// When to look at them next.
    look_at_ns: u64 = 0,
    /// Closed pipes whose writes are under way, the one that is given up first at the head.
    closing: std.DoublyLinkedList = .{},

    const look_interval_ns = 25 * std.time.ns_per_ms;
    /// With many pipes it looks less often, so as not to take a processor's time.
    const look_share_ns = 200 * std.time.ns_per_us;
    const stack_size = 128 * 1024;

    fn run(_: ?*anyopaque) callconv(.winapi) u32 {
        const self = &reaper.?;
        while (true) {
            var room: [64]sys.OVERLAPPED_ENTRY = undefined;
            var failure: status.Failure = .{};
            const packets = sys.dequeue(self.port, &room, self.untilNext(), &failure) catch {
                // Only for want of the system's memory.
                sys.Sleep(1);
                continue;
            };
            sys.library_lock.lock();
            defer sys.library_lock.unlock();
            for (packets) |packet| {
                const context = packet.context orelse {
                    // A mark: what came before it is done, and what is to be looked at is looked at.
                    self.look_at_ns = 0;
                    _ = marks_passed.fetchAdd(1, .acq_rel);
                    sys.RtlWakeAddressAll(&marks_passed.raw);
                    continue;
                };
                const operation: *Operation = .fromContext(context);
                _ = sys.pending_operations.fetchSub(1, .acq_rel);
                operation.ended(operation);
            }
            if (self.looked_at_count > 0 and sys.monotonicNs() >= self.look_at_ns) self.look();
            self.giveUpOverdue();
        }
    }

    /// Returns the count of marks that have been passed once this one has been.
    fn mark(self: *Reaper) u32 {
        const number = marks_made.fetchAdd(1, .acq_rel) +% 1;
        sys.post(self.port, null);
        return number;
    }

    fn untilNext(self: *Reaper) ?u64 {
        sys.library_lock.lock();
        defer sys.library_lock.unlock();
        var next_ns: ?u64 = if (self.looked_at_count == 0) null else self.look_at_ns;
        if (self.closing.first) |node| {
            const first: *Closing = @alignCast(@fieldParentPtr("node", node));
            next_ns = @min(next_ns orelse first.give_up_ns, first.give_up_ns);
        }
        return (next_ns orelse return null) -| sys.monotonicNs();
    }

    fn giveUpOverdue(self: *Reaper) void {
        while (self.closing.first) |node| {
            const first: *Closing = @alignCast(@fieldParentPtr("node", node));
            if (sys.monotonicNs() < first.give_up_ns) return;
            expectNoEnd(first);
            first.giveUp(first);
        }
    }

    fn look(self: *Reaper) void {
        self.look_at_ns = sys.monotonicNs() + @max(look_interval_ns, self.looked_at_count * look_share_ns);
        var next = self.looked_at.first;
        while (next) |node| {
            next = node.next;
            const one: *LookedAt = @alignCast(@fieldParentPtr("node", node));
            one.look(one);
        }
    }
};

/// Packets without a context, which the reaper meets behind those that were there before.
var marks_made: std.atomic.Value(u32) = .init(0);
var marks_passed: std.atomic.Value(u32) = .init(0);

/// Returns when the reaper has handled all packets that are there now. Without the library's lock: the reaper needs it.
pub fn waitForAll() void {
    const number = reaper.?.mark();
    while (true) {
        const passed = marks_passed.load(.acquire);
        // Compared modulo 2^32, for the counts overflow.
        if (@as(i32, @bitCast(passed -% number)) >= 0) return;
        _ = sys.RtlWaitOnAddress(&marks_passed.raw, &passed, @sizeOf(u32), null);
    }
}

/// Null until the first pipe.
var reaper: ?Reaper = null;

/// With the library's lock held, as all below.
pub fn start(failure: *status.Failure) status.Error!void {
    if (reaper != null) return;
    const port = try sys.createPort(failure);
    errdefer _ = sys.CloseHandle(port);
    reaper = .{ .port = port };
    errdefer reaper = null;
    const thread = sys.CreateThread(null, Reaper.stack_size, Reaper.run, null, 0, null) orelse
        return failure.system(sys.lastCode());
    _ = sys.CloseHandle(thread);
    sys.stayLoaded();
}

/// Has the file's operations report here.
pub fn associate(file: sys.HANDLE, failure: *status.Failure) status.Error!void {
    return sys.associate(reaper.?.port, file, failure);
}

/// Has the operation end in its turn, behind others.
pub fn goOnLater(operation: *Operation) void {
    operation.block = .{ .status = .{ .value = .success } };
    sys.post(reaper.?.port, operation);
}

/// A pipe is closed, and its write is under way.
pub fn expectEnd(one: *Closing) void {
    const self = &reaper.?;
    std.debug.assert(!one.in_list);
    one.in_list = true;
    one.give_up_ns = sys.monotonicNs() + unread_after_close_ns;
    self.closing.append(&one.node);
    // It may sleep without a limit until it hears of the first.
    if (self.closing.first == &one.node) _ = self.mark();
}

pub fn expectNoEnd(one: *Closing) void {
    if (!one.in_list) return;
    one.in_list = false;
    reaper.?.closing.remove(&one.node);
}

pub fn lookAt(one: *LookedAt) void {
    if (one.in_list) return;
    const self = &reaper.?;
    one.in_list = true;
    self.looked_at.append(&one.node);
    self.looked_at_count += 1;
    // It sleeps without a limit until it hears of the first.
    if (self.looked_at_count == 1) _ = self.mark();
}

pub fn leaveAlone(one: *LookedAt) void {
    if (!one.in_list) return;
    const self = &reaper.?;
    one.in_list = false;
    self.looked_at.remove(&one.node);
    self.looked_at_count -= 1;
}
