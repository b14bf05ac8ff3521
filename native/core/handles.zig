//! Handles: numbers to objects, with generations and pins; and the library's one lock.
//!
//! A handle is a slot's index (low 32 bits) and its generation (the 31 bits above). A slot's `use` carries whether it
//! is closed, and how many calls use it now (pins), so that pinning is one atomic exchange and takes no lock. `close`
//! marks the slot; the object goes when the last pin does; the next object in the slot has the next generation. Slots
//! never move and are never freed, so a made-up handle can always be looked at.
//!
//! The generation is a number of its own, because some 32-bit processors have no atomic operations on 64 bits. It
//! changes only while the slot is closed and has no pins: once a slot is pinned, its generation is certain. An old
//! handle whose slot is reopened just then pins the new object for a moment, and lets it go.
//!
//! One lock guards all the rest (slots' tables, registrations, waiters, what a stream knows of its connection). It is
//! held for short sections that never block; reading and writing don't take it. One lock can't deadlock with itself,
//! and fork() needs only take that one to find everything in order.

const std = @import("std");
const platform = @import("../platform.zig");
const status = @import("../base/status.zig");
const shortage = @import("shortage.zig");
const waiters = @import("waiters.zig");
const Mailbox = @import("mailbox.zig").Mailbox;
const Server = @import("server.zig").Server;
const Spinner = @import("../base/spinner.zig").Spinner;
const Stream = @import("stream.zig").Stream;
const sys = platform.sys;

pub const Handle = i64;

/// The library's one lock. Below the platforms, whose own threads take it too.
pub const lock = &sys.library_lock;

pub const Object = union(enum) {
    none,
    server: Server,
    stream: Stream,
    poller: *Poller,
};

/// A poller, of which the table knows nothing but what it can be asked.
pub const Poller = opaque {};

/// What the table asks of pollers, which stand above it. With the library's lock held, but for `destroy`.
pub const PollerHooks = struct {
    /// The poller closes.
    detachAll: *const fn (*Poller) void,
    /// Somebody pressed Ctrl-C.
    interrupt: *const fn (*Poller) void,
    destroy: *const fn (*Poller) void,
    /// A socket that pollers have closes.
    socketCloses: *const fn (*Slot) void,
    /// Something became known of a socket that pollers have.
    becameKnown: *const fn (*Slot) void,
};

/// Registered with the first poller. Without one, no object is a poller, and no socket has a registration.
pub var poller_hooks: *const PollerHooks = undefined;

pub fn registerPollers(hooks: *const PollerHooks) void {
    lock.lock();
    defer lock.unlock();
    poller_hooks = hooks;
}

pub const Slot = struct {
    use: std.atomic.Value(u32) = .init(closed_bit),
    generation: std.atomic.Value(u32) = .init(1),
    index: u32,
    next_free: ?*Slot = null,
    object: Object = .none,
    /// For sockets: one for each poller that monitors this one.
    registrations: std.DoublyLinkedList = .{},
    /// For sockets: how many threads wait in poll_sockets for this one.
    waiting: u32 = 0,
    /// For sockets: what the waits for this one alone have learnt.
    spinner: Spinner = .{},

    const closed_bit: u32 = 1 << 31;
    const pins_mask: u32 = closed_bit - 1;

    /// Its current handle. Only for a slot that is pinned, or not closed under the lock.
    pub fn handle(slot: *const Slot) Handle {
        return @as(Handle, slot.generation.load(.monotonic)) << 32 | slot.index;
    }

    pub fn isClosed(slot: *const Slot) bool {
        return slot.use.load(.acquire) & closed_bit != 0;
    }

    pub fn isSocket(slot: *const Slot) bool {
        return switch (slot.object) {
            .server, .stream => true,
            .none, .poller => false,
        };
    }

    /// Keeps the object alive until `unpin`, unless it is closed or of another generation. Called without the lock, for
    /// `unpin` may take it.
    fn pin(slot: *Slot, generation: u32) status.Error!void {
        // Seldom wrong, and certain below.
        if (slot.generation.load(.monotonic) != generation) return error.InvalidHandle;
        var use = slot.use.load(.monotonic);
        while (true) {
            if (use & closed_bit != 0) return error.InvalidHandle;
            if (use & pins_mask == pins_mask) return error.OutOfMemory;
            use = slot.use.cmpxchgWeak(use, use + 1, .acquire, .monotonic) orelse break;
        }
        if (slot.generation.load(.monotonic) == generation) return;
        slot.unpin();
        return error.InvalidHandle;
    }

    pub fn unpin(slot: *Slot) void {
        const before = slot.use.fetchSub(1, .acq_rel);
        std.debug.assert(before & pins_mask > 0);
        if (before == closed_bit | 1) table.unmake(slot);
    }
};

const generation_max = std.math.maxInt(u31);

pub var table: Table = .{};

pub const Table = struct {
    /// Segment k has first_segment_slots << k slots. Set once, read without the lock.
    segments: [segments_max]std.atomic.Value(?[*]Slot) = @splat(.init(null)),
    slots_count: u32 = 0,
    /// Oldest first, so that a generation is used up as late as can be.
    free_first: ?*Slot = null,
    free_last: ?*Slot = null,
    open_count: std.atomic.Value(u32) = .init(0),
    /// The threads in poll_sockets, of the process that is named.
    poll_waiters: waiters.Waiters = .{},
    poll_waiters_process: ?sys.Process = null,
    /// How many objects are being made or unmade. A fork waits until there are none: no object would own their
    /// descriptors in the child.
    unsettled_count: u32 = 0,
    /// Whether a fork waits for that, so that nobody begins another object. The fork holds the gate meanwhile.
    fork_waits: bool = false,
    fork_gate: sys.Lock = .{},
    /// The thread that is about to fork, and how many handlers of it have come: they may be registered more than once,
    /// by two copies of the Python package for example.
    forking_thread: std.atomic.Value(sys.ThreadId) = .init(0),
    forking_depth: u32 = 0,

    const first_segment_slots = 64;
    const segments_max = 25;

    const Place = struct { segment: u5, offset: u32, size: u32 };

    fn placeOf(index: u32) ?Place {
        const blocks = index / first_segment_slots + 1;
        const segment = std.math.log2_int(u32, blocks);
        if (segment >= segments_max) return null;
        const size = @as(u32, first_segment_slots) << segment;
        return .{ .segment = segment, .offset = index - (size - first_segment_slots), .size = size };
    }

    fn slotAt(self: *Table, index: u32) ?*Slot {
        const place = placeOf(index) orelse return null;
        const segment = self.segments[place.segment].load(.acquire) orelse return null;
        return &segment[place.offset];
    }

    fn slotOf(self: *Table, handle: Handle) status.Error!struct { slot: *Slot, generation: u32 } {
        if (handle <= 0) return error.InvalidHandle;
        const slot = self.slotAt(@truncate(@as(u64, @intCast(handle)))) orelse return error.InvalidHandle;
        return .{ .slot = slot, .generation = @intCast(handle >> 32) };
    }

    /// The slot of an open handle, which stays until `unpin`.
    pub fn pin(self: *Table, handle: Handle) status.Error!*Slot {
        const found = try self.slotOf(handle);
        try found.slot.pin(found.generation);
        return found.slot;
    }

    pub fn pinSocket(self: *Table, handle: Handle) status.Error!*Slot {
        const slot = try self.pin(handle);
        if (slot.isSocket()) return slot;
        slot.unpin();
        return error.WrongKind;
    }

    pub fn pinKind(self: *Table, handle: Handle, comptime kind: std.meta.Tag(Object)) status.Error!*Slot {
        const slot = try self.pin(handle);
        if (slot.object == kind) return slot;
        slot.unpin();
        return error.WrongKind;
    }

    /// With the lock held: the slot of an open handle, which can't go before the lock does.
    pub fn find(self: *Table, handle: Handle) ?*Slot {
        const found = self.slotOf(handle) catch return null;
        if (found.slot.isClosed() or found.slot.generation.load(.monotonic) != found.generation) return null;
        return found.slot;
    }

    /// A slot for an object to come. `publish` or `abandon` it.
    pub fn reserve(self: *Table) status.Error!*Slot {
        self.lockToUnsettle();
        defer lock.unlock();
        const slot = try self.takeFree();
        self.unsettled_count += 1;
        return slot;
    }

    /// Two at once: with one in its hands, a thread that begins another would wait for a fork that waits for it.
    pub fn reservePair(self: *Table) status.Error![2]*Slot {
        self.lockToUnsettle();
        defer lock.unlock();
        const first = try self.takeFree();
        errdefer self.release(first);
        const second = try self.takeFree();
        self.unsettled_count += 2;
        return .{ first, second };
    }

    fn takeFree(self: *Table) status.Error!*Slot {
        if (self.free_first) |slot| {
            self.free_first = slot.next_free;
            if (slot.next_free == null) self.free_last = null;
            slot.next_free = null;
            return slot;
        }
        const place = placeOf(self.slots_count) orelse return error.OutOfMemory;
        if (place.offset == 0) {
            const segment = try std.heap.page_allocator.alloc(Slot, place.size);
            for (segment, self.slots_count..) |*slot, index| slot.* = .{ .index = @intCast(index) };
            self.segments[place.segment].store(segment.ptr, .release);
        }
        self.slots_count += 1;
        return self.slotAt(self.slots_count - 1).?;
    }

    pub fn publish(self: *Table, slot: *Slot, object: Object) Handle {
        lock.lock();
        defer lock.unlock();
        return self.publishWithLock(slot, object);
    }

    fn publishWithLock(self: *Table, slot: *Slot, object: Object) Handle {
        std.debug.assert(slot.object == .none);
        std.debug.assert(slot.isClosed());
        slot.object = object;
        slot.spinner = .{};
        _ = self.open_count.fetchAdd(1, .monotonic);
        const handle = slot.handle();
        slot.use.store(0, .release);
        self.unsettled_count -= 1;
        return handle;
    }

    /// Publishes what is made of somebody else's descriptor. Both in one go, or two threads could adopt the same one.
    pub fn adopt(
        self: *Table,
        descriptor: i64,
        comptime kind: std.meta.Tag(Object),
        comptime make: anytype,
        failure: *status.Failure,
    ) status.Error!Handle {
        const slot = try self.reserve();
        errdefer self.abandon(slot);
        lock.lock();
        defer lock.unlock();
        if (self.owns(descriptor)) return failure.system(sys.busy);
        return self.publishWithLock(slot, @unionInit(Object, @tagName(kind), try make(descriptor, failure)));
    }

    /// With the lock held: whether an open socket has this descriptor.
    fn owns(self: *Table, descriptor: i64) bool {
        for (0..self.slots_count) |index| {
            const slot = self.slotAt(@intCast(index)).?;
            if (slot.isClosed()) continue;
            const its = switch (slot.object) {
                .server => |*server| server.fileno(),
                .stream => |*stream| stream.fileno(),
                .none, .poller => continue,
            } catch continue;
            if (its == descriptor) return true;
        }
        return false;
    }

    pub fn abandon(self: *Table, slot: *Slot) void {
        lock.lock();
        defer lock.unlock();
        self.release(slot);
        self.unsettled_count -= 1;
    }

    fn release(self: *Table, slot: *Slot) void {
        std.debug.assert(slot.object == .none);
        std.debug.assert(slot.isClosed());
        slot.next_free = null;
        if (self.free_last) |last| last.next_free = slot else self.free_first = slot;
        self.free_last = slot;
    }

    /// False if a local server's file is left, because the system refused to delete it.
    pub fn close(self: *Table, handle: Handle) status.Error!bool {
        const slot = try self.pin(handle);
        defer slot.unpin();
        {
            lock.lock();
            defer lock.unlock();
            if (slot.isClosed()) return error.InvalidHandle; // by another thread, since the pin
            self.closeWithLock(slot);
        }
        // Whoever lends memory from now on sees that it is closed. Other threads may still send what is left.
        if (slot.object == .stream) slot.object.stream.endLoans();
        return if (slot.object == .server) slot.object.server.prepareClose() else true;
    }

    fn closeWithLock(self: *Table, slot: *Slot) void {
        switch (slot.object) {
            .none => unreachable,
            .poller => |one| poller_hooks.detachAll(one),
            .server, .stream => {
                if (slot.registrations.first != null) poller_hooks.socketCloses(slot);
                self.notifyPollWaiters(slot);
            },
        }
        _ = slot.use.fetchOr(Slot.closed_bit, .acq_rel);
        _ = self.open_count.fetchSub(1, .monotonic);
    }

    /// Closes a stream whose connection goes on: a descriptor of it for somebody else.
    pub fn detach(self: *Table, handle: Handle, failure: *status.Failure) status.Error!i64 {
        const slot = try self.pinKind(handle, .stream);
        defer slot.unpin();
        lock.lock();
        defer lock.unlock();
        if (slot.isClosed()) return error.InvalidHandle;
        const descriptor = try slot.object.stream.detach(failure);
        self.closeWithLock(slot);
        return descriptor;
    }

    /// Closes a stream, and gives up what the remote end has not got yet.
    pub fn abort(self: *Table, handle: Handle) status.Error!void {
        const slot = try self.pinKind(handle, .stream);
        defer slot.unpin();
        {
            lock.lock();
            defer lock.unlock();
            if (slot.isClosed()) return error.InvalidHandle;
            slot.object.stream.prepareAbort();
        }
        _ = try self.close(handle);
    }

    /// Who has descriptors for a moment that are no object's begins and ends it by these: a fork waits meanwhile.
    pub fn beginUnsettled(self: *Table) void {
        self.lockToUnsettle();
        defer lock.unlock();
        self.unsettled_count += 1;
    }

    pub fn endUnsettled(self: *Table) void {
        lock.lock();
        defer lock.unlock();
        self.unsettled_count -= 1;
    }

    /// The last pin of a closed slot has gone.
    fn unmake(self: *Table, slot: *Slot) void {
        self.beginUnsettled();
        switch (slot.object) {
            .none => unreachable,
            .poller => |one| poller_hooks.destroy(one),
            .server => |*one| one.deinit(),
            .stream => |*one| one.deinit(),
        }
        shortage.noteClosing();
        lock.lock();
        defer lock.unlock();
        self.unsettled_count -= 1;
        std.debug.assert(slot.registrations.first == null);
        std.debug.assert(slot.waiting == 0);
        slot.object = .none;
        const generation = slot.generation.load(.monotonic);
        // A slot whose generations are used up is never used again, or its handles would be.
        if (generation == generation_max) return;
        slot.generation.store(generation + 1, .monotonic);
        self.release(slot);
    }

    /// With the lock held: the threads that wait in poll_sockets.
    pub fn pollWaiters(self: *Table) *waiters.Waiters {
        if (!self.hasOwnPollWaiters()) {
            // Inherited by a child whose program did not call after_fork_in_child.
            self.poll_waiters = .{};
            self.poll_waiters_process = .current();
        }
        return &self.poll_waiters;
    }

    /// With the lock held: the threads that wait in poll_sockets for this socket look at it again.
    pub fn notifyPollWaiters(self: *Table, slot: *const Slot) void {
        if (slot.waiting == 0) return;
        // In a child they are the parent's threads, and the waker is the parent's too.
        if (self.hasOwnPollWaiters()) self.poll_waiters.notifyAll(.again);
    }

    fn hasOwnPollWaiters(self: *const Table) bool {
        const process = self.poll_waiters_process orelse return false;
        return process.isCurrent();
    }

    /// Somebody pressed Ctrl-C: all waits end.
    pub fn interruptAll(self: *Table) void {
        lock.lock();
        defer lock.unlock();
        self.pollWaiters().notifyAll(.interrupt);
        for (0..self.slots_count) |index| {
            const slot = self.slotAt(@intCast(index)).?;
            if (slot.object == .poller and !slot.isClosed()) poller_hooks.interrupt(slot.object.poller);
        }
    }

    /// fork() copies the lock and the tables, but only the thread that calls it: take the lock, so that the copy is in
    /// order, and forget in the child what the other threads were at.
    pub fn beforeFork(self: *Table) void {
        const thread = sys.threadId();
        if (self.forking_thread.load(.monotonic) != thread) {
            self.lockSettled();
            self.forEachMailbox(Mailbox.lock);
            sys.lockAllocator();
            self.forking_thread.store(thread, .monotonic);
        }
        self.forking_depth += 1;
    }

    /// Takes the lock when no object is being made or unmade. None takes long, for none of these system calls waits.
    /// Threads that would begin another one meanwhile wait, or under load that moment would never come.
    fn lockSettled(self: *Table) void {
        self.fork_gate.lock();
        defer self.fork_gate.unlock();
        lock.lock();
        self.fork_waits = true;
        while (self.unsettled_count > 0) {
            lock.unlock();
            sys.yield();
            lock.lock();
        }
        self.fork_waits = false;
    }

    /// Takes the lock to begin making or unmaking an object, when no fork waits for the others.
    fn lockToUnsettle(self: *Table) void {
        while (true) {
            lock.lock();
            if (!self.fork_waits) return;
            lock.unlock();
            self.fork_gate.lock();
            self.fork_gate.unlock();
        }
    }

    /// Whether this is the last handler of a fork. Without a first, there is nothing to do.
    fn forkEnds(self: *Table) bool {
        if (self.forking_depth == 0) return false;
        self.forking_depth -= 1;
        if (self.forking_depth > 0) return false;
        self.forking_thread.store(0, .monotonic);
        return true;
    }

    pub fn afterForkInParent(self: *Table) void {
        if (!self.forkEnds()) return;
        sys.unlockAllocator();
        self.forEachMailbox(Mailbox.unlock);
        lock.unlock();
    }

    /// With the lock held, so that none comes or goes. A thread that has one of their locks never waits for that one.
    fn forEachMailbox(self: *Table, comptime function: fn (*Mailbox) void) void {
        for (0..self.slots_count) |index| {
            const slot = self.slotAt(@intCast(index)).?;
            if (slot.object != .stream) continue;
            if (slot.object.stream.mailbox.load(.acquire)) |mailbox| function(mailbox);
        }
    }

    pub fn afterForkInChild(self: *Table) void {
        // Without fork(), the caller is no child, and the other threads are here.
        if (!sys.forks) return self.afterForkInParent();
        if (!self.forkEnds()) return;
        sys.unlockAllocator();
        self.forEachMailbox(Mailbox.afterForkInChild);
        sys.Process.afterFork();
        platform.poll.Sleeper.forget();
        self.poll_waiters = .{};
        lock.resetAfterFork();
        // Another thread may have been about to fork too.
        self.fork_gate.resetAfterFork();
        for (0..self.slots_count) |index| {
            const slot = self.slotAt(@intCast(index)).?;
            slot.waiting = 0;
            const use = slot.use.load(.monotonic);
            // Pinned by threads that are not here.
            for (0..use & Slot.pins_mask) |_| slot.unpin();
            // One of these threads took the last pin off a closed object, and was about to unmake it.
            if (use == Slot.closed_bit and slot.object != .none) self.unmake(slot);
        }
    }
};

/// What a thread does before it waits, or makes what it will wait with.
pub fn prepareToWait() void {
    sys.prepareToWait(interruptAll);
}

fn interruptAll() void {
    table.interruptAll();
}

const testing = std.testing;

test "places: every index has one, next to its neighbour's" {
    var expected: u64 = 0;
    for (0..Table.segments_max) |segment| {
        const size = @as(u64, Table.first_segment_slots) << @intCast(segment);
        const first = Table.placeOf(@intCast(expected)).?;
        try testing.expectEqual(segment, first.segment);
        try testing.expectEqual(0, first.offset);
        const last = Table.placeOf(@intCast(expected + size - 1)).?;
        try testing.expectEqual(segment, last.segment);
        try testing.expectEqual(size - 1, last.offset);
        expected += size;
    }
    try testing.expectEqual(null, Table.placeOf(@intCast(expected)));
    try testing.expectEqual(null, Table.placeOf(std.math.maxInt(u32)));
}

test "made-up handles are no handles" {
    for ([_]Handle{ 0, -1, 1, 63, 1 << 32, std.math.minInt(Handle), std.math.maxInt(Handle) }) |handle| {
        try testing.expectError(error.InvalidHandle, table.pin(handle));
    }
}
