//! Named pipes: what local servers and streams are made of, and the thread that learns what becomes of their operations.
//!
//! How they behave, and their traps (CreateNamedPipe, ntifs.h; what was measured is in docs/platforms.md):
//!
//! - A pipe has no readiness: one starts an operation and hears of its end. So readability is learnt by a read of zero bytes,
//!   which ends when bytes arrive or the remote end goes, and room by the end of the one write that may be under way. Either is
//!   a hint: whoever is woken asks the pipe itself, for a peer's write of zero bytes ends such a read too.
//! - The system owns an operation's block and buffer until its packet is dequeued, also when it was cancelled or the handle
//!   closed. Hence they live on the heap, and the reaper alone frees what it has dequeued.
//! - An operation that ends at once leaves no packet (FILE_SKIP_COMPLETION_PORT_ON_SUCCESS), one whose context is null never
//!   does. Errors leave none either.
//! - A write that does not fit waits for the reader, whole. Cancelled, it may have been read in part, and the system does not
//!   tell how much; so it is left alone. Where the handle is closed under it, it is lost; so the reaper closes it after the
//!   write.
//! - The remote end's going is visible at once in the pipe's state, but while bytes are unread no operation tells of it. Who
//!   waits for that alone is served by looking now and then.
//! - A client needs an instance that listens, and takes it. So a server keeps as many as its backlog, and makes the next
//!   before it hands one out. A client can be gone again by then, with or without bytes for us.
//! - Nor does the remote end's write end before it is read. Two ends that close with a write under way each would wait for each
//!   other: so what still comes to such an end is read and thrown away.
//! - A remote end that neither reads nor closes would keep a closed end, its 128 KiB and its name for ever: after a
//!   time the write is given up.
//! - DisconnectNamedPipe discards what the client has not read, and the client hears another error than that of an end
//!   (STATUS_PIPE_DISCONNECTED), which some take for a failure. It frees the instance, though, which else lives until
//!   both ends are closed, and the pipe's name with it. So it is for what is given up, and for nothing else.
//!   FlushFileBuffers blocks: it is never called.
//! - The port and its thread start with the first pipe: a program without any has neither.
//!
//! The library's lock guards listeners, watchers and the reaper's list. Each pipe has a lock of its own for what moves bytes,
//! which is taken inside the library's, never around it.

const std = @import("std");
const sys = @import("sys.zig");
const tcp = @import("transports/tcp.zig");
const iocp = @import("selectors/iocp.zig");
const events = @import("../core/events.zig");
const deadlines = @import("../core/deadline.zig");
const handles = @import("../core/handles.zig");
const status = @import("../core/status.zig");

const allocator = sys.allocator;

/// Bytes that the system keeps for each direction. A write that fits in ends at once.
const buffer_size = 65536;
/// Bytes per write at most: they are copied, for the caller's buffer must not be the system's after the call.
const write_max = 65536;
/// How long a closed pipe's write waits for its reader. A reader that takes the 128 KiB at 5 KiB a second has time
/// enough.
pub var unread_after_close_ns: u64 = 30 * std.time.ns_per_s;
/// A server's instances at most, however large its backlog.
const instances_max = 1024;

const access_duplex = 0x3;
const flag_overlapped = 0x40000000;
const flag_first_instance = 0x00080000;
const mode_reject_remote_clients = 0x8;
const unlimited_instances = 255;
const generic_read = 0x80000000;
const generic_write = 0x40000000;
const open_existing = 3;
const security_sqos_present = 0x00100000;
const security_identification = 0x00010000;
const skip_port_on_success = 0x1;
const fsctl_listen = 0x00110008;
const fsctl_disconnect = 0x00110004;

const no_offset: i64 = 0;

/// Whether the system's code says that the remote end has gone. Others say that a call could not be made.
pub fn isEnd(code: i32) bool {
    return switch (code) {
        sys.code.broken_pipe, sys.code.bad_pipe, sys.code.no_data, sys.code.pipe_not_connected => true,
        else => false,
    };
}

/// What the system says of one end of a pipe.
fn localInformation(handle: sys.HANDLE) ?sys.FILE_PIPE_LOCAL_INFORMATION {
    var block: sys.IO_STATUS_BLOCK = .{};
    var information: sys.FILE_PIPE_LOCAL_INFORMATION = undefined;
    const size = @sizeOf(sys.FILE_PIPE_LOCAL_INFORMATION);
    const class = sys.FILE_PIPE_LOCAL_INFORMATION.class;
    const result = sys.NtQueryInformationFile(handle, &block, &information, size, class);
    return if (result.isError()) null else information;
}

// ---- The reaper ----

/// One operation that the system has, or has had. Its packet's context is its address.
const Operation = struct {
    block: sys.IO_STATUS_BLOCK = .{},
    kind: enum { hint, write, sink, connect },

    fn fromContext(context: *anyopaque) *Operation {
        return @ptrCast(@alignCast(context));
    }
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
            const lock = &handles.table.lock;
            lock.lock();
            defer lock.unlock();
            for (packets) |packet| {
                const context = packet.context orelse {
                    // A mark: what came before it is done, and what is to be looked at is looked at.
                    self.look_at_ns = 0;
                    _ = marks_passed.fetchAdd(1, .acq_rel);
                    sys.RtlWakeAddressAll(&marks_passed.raw);
                    continue;
                };
                finish(.fromContext(context));
            }
            if (self.looked_at_count > 0 and sys.monotonicNs() >= self.look_at_ns) self.look();
            self.giveUpOverdue();
        }
    }

    fn finish(operation: *Operation) void {
        _ = sys.pending_operations.fetchSub(1, .acq_rel);
        switch (operation.kind) {
            .hint => Pipe.ofHint(operation).hintEnded(),
            .write => Write.of(operation).pipe.writeEnded(),
            .sink => Sink.of(operation).pipe.sinkEnded(),
            .connect => Instance.of(operation).connectEnded(),
        }
    }

    /// Returns the count of marks that have been passed once this one has been.
    fn mark(self: *Reaper) u32 {
        const number = marks_made.fetchAdd(1, .acq_rel) +% 1;
        sys.post(self.port, null);
        return number;
    }

    fn untilNext(self: *Reaper) ?u64 {
        const lock = &handles.table.lock;
        lock.lock();
        defer lock.unlock();
        var next_ns: ?u64 = if (self.looked_at_count == 0) null else self.look_at_ns;
        if (self.closing.first) |node| {
            const pipe: *Pipe = @alignCast(@fieldParentPtr("in_closing", node));
            next_ns = @min(next_ns orelse pipe.give_up_ns, pipe.give_up_ns);
        }
        return (next_ns orelse return null) -| sys.monotonicNs();
    }

    /// The pipe is closed, and its write is under way.
    fn expectEnd(self: *Reaper, pipe: *Pipe) void {
        std.debug.assert(!pipe.is_closing);
        pipe.is_closing = true;
        pipe.give_up_ns = sys.monotonicNs() + unread_after_close_ns;
        self.closing.append(&pipe.in_closing);
        // It may sleep without a limit until it hears of the first.
        if (self.closing.first == &pipe.in_closing) _ = self.mark();
    }

    fn expectNoEnd(self: *Reaper, pipe: *Pipe) void {
        if (!pipe.is_closing) return;
        pipe.is_closing = false;
        self.closing.remove(&pipe.in_closing);
    }

    fn giveUpOverdue(self: *Reaper) void {
        while (self.closing.first) |node| {
            const pipe: *Pipe = @alignCast(@fieldParentPtr("in_closing", node));
            if (sys.monotonicNs() < pipe.give_up_ns) return;
            self.expectNoEnd(pipe);
            pipe.giveUp();
        }
    }

    fn look(self: *Reaper) void {
        self.look_at_ns = sys.monotonicNs() + @max(look_interval_ns, self.looked_at_count * look_share_ns);
        var next = self.looked_at.first;
        while (next) |node| {
            next = node.next;
            const pipe: *Pipe = @alignCast(@fieldParentPtr("in_looked_at", node));
            pipe.tellWatchers();
        }
    }

    fn lookAt(self: *Reaper, pipe: *Pipe) void {
        if (pipe.is_looked_at) return;
        pipe.is_looked_at = true;
        self.looked_at.append(&pipe.in_looked_at);
        self.looked_at_count += 1;
        // It sleeps without a limit until it hears of the first.
        if (self.looked_at_count == 1) _ = self.mark();
    }

    fn leaveAlone(self: *Reaper, pipe: *Pipe) void {
        if (!pipe.is_looked_at) return;
        pipe.is_looked_at = false;
        self.looked_at.remove(&pipe.in_looked_at);
        self.looked_at_count -= 1;
    }
};

/// Packets without a context, which the reaper meets behind those that were there before.
var marks_made: std.atomic.Value(u32) = .init(0);
var marks_passed: std.atomic.Value(u32) = .init(0);

/// Returns when the reaper has done with all packets that are there now. Without the library's lock, which it needs.
pub fn waitForReaper() void {
    const number = reaper.?.mark();
    while (true) {
        const passed = marks_passed.load(.acquire);
        // In a circle, for they overflow.
        if (@as(i32, @bitCast(passed -% number)) >= 0) return;
        _ = sys.RtlWaitOnAddress(&marks_passed.raw, &passed, @sizeOf(u32), null);
    }
}

/// Null until the first pipe.
var reaper: ?Reaper = null;

/// With the library's lock held.
fn startReaper(failure: *status.Failure) status.Error!void {
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

/// Writes that are under way, those of closed pipes included.
var pending_writes: std.atomic.Value(u32) = .init(0);

/// Whether remote ends have taken all that was written, within that time (null: for ever).
pub fn finishWrites(timeout_ns: ?u64) bool {
    const longest_ns = std.math.maxInt(i64);
    const deadline: deadlines.Deadline = if (timeout_ns) |ns| .after(@intCast(@min(ns, longest_ns))) else .never;
    while (pending_writes.load(.acquire) > 0) {
        if (deadline.remainingNs() == 0) return false;
        sys.Sleep(1);
    }
    return true;
}

// ---- Streams ----

const Write = struct {
    operation: Operation = .{ .kind = .write },
    pipe: *Pipe,
    size: u32,
    bytes: [write_max]u8,

    /// With room for so many bytes only.
    fn create(pipe: *Pipe, data: []const u8) ?*Write {
        const memory = allocator.alignedAlloc(u8, .of(Write), @offsetOf(Write, "bytes") + data.len) catch return null;
        const self: *Write = @ptrCast(memory.ptr);
        self.operation = .{ .kind = .write };
        self.pipe = pipe;
        self.size = @intCast(data.len);
        @memcpy(self.bytes[0..data.len], data);
        return self;
    }

    fn destroy(self: *Write) void {
        const memory: [*]align(@alignOf(Write)) u8 = @ptrCast(self);
        allocator.free(memory[0 .. @offsetOf(Write, "bytes") + self.size]);
    }

    fn of(operation: *Operation) *Write {
        return @fieldParentPtr("operation", operation);
    }
};

/// The reading, and throwing away, of what still comes to a pipe that is closed and whose last write is under way. Were the
/// remote end closed in the same way, each would wait for the other's reading for ever.
const Sink = struct {
    operation: Operation = .{ .kind = .sink },
    pipe: *Pipe,
    /// So many bytes, more than any reasonable write that the remote end does not come back from before it is read. One that
    /// never stops shall not take this for a reader: after so many, the write is given up.
    remaining: usize = 64 * 1024 * 1024,
    bytes: [buffer_size]u8 = undefined,

    fn of(operation: *Operation) *Sink {
        return @fieldParentPtr("operation", operation);
    }
};

/// One end of a pipe.
pub const Pipe = struct {
    handle: sys.HANDLE,
    /// Whether operations that end at once leave no packet.
    skips: bool,

    // Under the library's lock.
    watchers: std.DoublyLinkedList = .{},
    hint: Operation = .{ .kind = .hint },
    hint_pending: bool = false,
    /// The buffer of its no bytes.
    nothing: [1]u8 = undefined,
    is_looked_at: bool = false,
    in_looked_at: std.DoublyLinkedList.Node = .{},
    closed: bool = false,
    /// Closing gives up what the remote end has not read.
    aborts: bool = false,
    sink: ?*Sink = null,
    is_closing: bool = false,
    in_closing: std.DoublyLinkedList.Node = .{},
    /// When its last write is given up.
    give_up_ns: u64 = 0,

    // Under this lock.
    lock: sys.Lock = .{},
    write_pending: ?*Write = null,
    write_lost: bool = false,

    /// Owns the handle, which reports to the reaper's port, if it succeeds.
    fn create(handle: sys.HANDLE) status.Error!*Pipe {
        const self = try allocator.create(Pipe);
        self.* = .{
            .handle = handle,
            .skips = sys.SetFileCompletionNotificationModes(handle, skip_port_on_success) != 0,
        };
        return self;
    }

    fn ofHint(operation: *Operation) *Pipe {
        return @alignCast(@fieldParentPtr("hint", operation));
    }

    // ---- Bytes ----

    pub fn read(self: *Pipe, buffer: []u8, peek: bool) tcp.Outcome {
        // Two readers would both see the same bytes, and one of them would then wait for more.
        self.lock.lock();
        defer self.lock.unlock();
        const room: u32 = @intCast(@min(buffer.len, std.math.maxInt(i32)));
        const available = switch (self.look()) {
            .unread => |count| count,
            .failed => |why| return .{ .failed = why },
            // Whether a write was lost decides what this end is.
            .gone => |why| return if (self.write_pending == null) .{ .failed = why } else .nothing,
        };
        if (available == 0) return .nothing;
        // Not more than is there: the system sets aside as much memory as is asked for.
        const size = @min(room, available);
        if (peek) {
            var count: u32 = 0;
            if (sys.PeekNamedPipe(self.handle, buffer.ptr, size, &count, null, null) == 0) return .{ .failed = sys.lastCode() };
            return .{ .count = count };
        }

        var block: sys.IO_STATUS_BLOCK = .{};
        const result = sys.NtReadFile(self.handle, null, null, null, &block, buffer.ptr, size, &no_offset, null);
        if (result == .pending) self.finishNow(&block);
        const outcome = if (result == .pending) block.now() else result;
        if (outcome.isError()) {
            return if (outcome == .cancelled) .nothing else .{ .failed = outcome.toCode() };
        }
        return if (block.information == 0) .nothing else .{ .count = block.information };
    }

    const Look = union(enum) {
        /// How many bytes.
        unread: u32,
        /// Nothing is to be read any more; the system's code says so.
        gone: i32,
        /// The system could not tell, for want of memory for example.
        failed: i32,
    };

    fn look(self: *Pipe) Look {
        var available: u32 = 0;
        if (sys.PeekNamedPipe(self.handle, null, 0, null, &available, null) != 0) return .{ .unread = available };
        const why = sys.lastCode();
        return if (isEnd(why)) .{ .gone = why } else .{ .failed = why };
    }

    /// The bytes were there, so this does not happen; but the buffer is the caller's after the call in any case.
    fn finishNow(self: *Pipe, block: *sys.IO_STATUS_BLOCK) void {
        @branchHint(.cold);
        sys.cancel(self.handle, block);
        while (block.now() == .pending) sys.Sleep(1);
    }

    pub fn write(self: *Pipe, data: []const u8) tcp.Outcome {
        self.lock.lock();
        defer self.lock.unlock();
        if (self.write_pending != null) return .nothing;
        const copy = Write.create(self, data[0..@min(data.len, write_max)]) orelse
            return .{ .failed = sys.code.not_enough_memory };
        const operation = &copy.operation;
        const size = copy.size;
        _ = sys.pending_operations.fetchAdd(1, .acq_rel);
        _ = pending_writes.fetchAdd(1, .acq_rel);
        self.write_pending = copy;
        const result = sys.NtWriteFile(
            self.handle,
            null,
            null,
            operation,
            &operation.block,
            &copy.bytes,
            size,
            &no_offset,
            null,
        );
        const ended = result.isError() or (result == .success and self.skips);
        // Otherwise its packet comes.
        if (!ended) return .{ .count = size };
        const count = operation.block.information;
        _ = sys.pending_operations.fetchSub(1, .acq_rel);
        _ = pending_writes.fetchSub(1, .acq_rel);
        self.write_pending = null;
        copy.destroy();
        if (result.isError()) return .{ .failed = result.toCode() };
        return if (count == 0) .nothing else .{ .count = @min(count, size) };
    }

    // ---- Events. With the library's lock held ----

    pub fn conditionsNow(self: *Pipe) events.Conditions {
        const looked = self.look();
        const room = room: {
            self.lock.lock();
            defer self.lock.unlock();
            break :room self.write_pending == null;
        };
        // A write that is under way ends with the pipe. How it ended decides what the pipe's end is, so that is waited for.
        const gone = room and (looked == .gone or self.remoteHasClosed());
        const unread = looked == .unread and looked.unread > 0;
        return .{ .readable = unread or gone, .writable = room and !gone, .ended = gone, .severed = gone };
    }

    fn remoteHasClosed(self: *Pipe) bool {
        const information = localInformation(self.handle) orelse return false;
        return information.state != sys.FILE_PIPE_LOCAL_INFORMATION.state_connected;
    }

    fn hasUnread(self: *Pipe) bool {
        const looked = self.look();
        return looked == .unread and looked.unread > 0;
    }

    /// Whether the remote end has gone without reading a write that was under way.
    pub fn lostWrite(self: *Pipe) bool {
        self.lock.lock();
        defer self.lock.unlock();
        return self.write_lost;
    }

    /// The watch is told when one of its conditions may hold: at once if one does.
    pub fn watch(self: *Pipe, one: *iocp.Watch) void {
        self.watchers.append(&one.node);
        self.tellWatchers();
    }

    pub fn unwatch(self: *Pipe, one: *iocp.Watch) void {
        self.watchers.remove(&one.node);
        if (self.watchers.first == null) reaper.?.leaveAlone(self);
    }

    /// So many messages of no bytes are passed over in one go.
    const empty_messages_max = 16;

    /// Tells those whose conditions hold, and sees to it that the others hear of theirs.
    fn tellWatchers(self: *Pipe) void {
        const ours = &reaper.?;
        for (0..empty_messages_max) |_| {
            if (self.watchers.first == null) return ours.leaveAlone(self);
            iocp.tell(&self.watchers, self.conditionsNow());
            if (!self.anyoneReads()) return ours.leaveAlone(self);
            if (self.hint_pending) return ours.leaveAlone(self);
            // Who is still here waits for the end, which no operation tells of before the bytes are read.
            if (self.hasUnread()) return ours.lookAt(self);
            if (!self.startHint()) return ours.leaveAlone(self);
        }
        ours.lookAt(self);
    }

    /// Whether somebody waits for what a read of zero bytes tells.
    fn anyoneReads(self: *Pipe) bool {
        var next = self.watchers.first;
        while (next) |node| : (next = node.next) {
            const interest = iocp.Watch.fromNode(node).interest;
            if (interest.readable or interest.ended or interest.severed) return true;
        }
        return false;
    }

    /// Starts the read of zero bytes. True if it has ended already.
    fn startHint(self: *Pipe) bool {
        std.debug.assert(!self.hint_pending);
        const operation = &self.hint;
        operation.block = .{};
        _ = sys.pending_operations.fetchAdd(1, .acq_rel);
        self.hint_pending = true;
        const result = sys.NtReadFile(
            self.handle,
            null,
            null,
            operation,
            &operation.block,
            &self.nothing,
            0,
            &no_offset,
            null,
        );
        if (!result.isError() and !(result == .success and self.skips)) return false;
        _ = sys.pending_operations.fetchSub(1, .acq_rel);
        self.hint_pending = false;
        return true;
    }

    fn hintEnded(self: *Pipe) void {
        self.hint_pending = false;
        if (self.closed) return self.freeIfDone();
        self.tellWatchers();
    }

    fn writeEnded(self: *Pipe) void {
        {
            self.lock.lock();
            defer self.lock.unlock();
            const done = self.write_pending.?;
            if (done.operation.block.now().isError()) self.write_lost = true;
            self.write_pending = null;
            done.destroy();
        }
        _ = pending_writes.fetchSub(1, .acq_rel);
        if (!self.closed) return self.tellWatchers();
        reaper.?.expectNoEnd(self);
        if (self.sink) |sink| sys.cancel(self.handle, &sink.operation.block);
        _ = sys.CloseHandle(self.handle);
        self.freeIfDone();
    }

    // ---- The end ----

    pub fn close(self: *Pipe) void {
        const lock = &handles.table.lock;
        lock.lock();
        defer lock.unlock();
        std.debug.assert(self.watchers.first == null);
        self.closed = true;
        if (self.hint_pending) sys.cancel(self.handle, &self.hint.block);
        if (self.aborts) self.giveUp();
        // Nobody else uses it any more, so there is no write to come. One that is under way must end first.
        if (self.write_pending == null) {
            _ = sys.CloseHandle(self.handle);
        } else if (!self.aborts) {
            self.startSink();
            reaper.?.expectEnd(self);
        }
        self.freeIfDone();
    }

    /// What the remote end has not read is discarded, and a write that is under way ends; its packet comes. A client
    /// can discard no more than that write.
    fn giveUp(self: *Pipe) void {
        if (self.write_pending) |one| sys.cancel(self.handle, &one.operation.block);
        const information = localInformation(self.handle) orelse return;
        if (information.end != sys.FILE_PIPE_LOCAL_INFORMATION.end_server) return;
        var block: sys.IO_STATUS_BLOCK = .{};
        const result = sys.NtFsControlFile(self.handle, null, null, null, &block, fsctl_disconnect, null, 0, null, 0);
        // It ends at once; but the block must not be the system's any more.
        if (result == .pending) self.finishNow(&block);
    }

    fn startSink(self: *Pipe) void {
        const sink = allocator.create(Sink) catch return;
        sink.* = .{ .pipe = self };
        self.sink = sink;
        self.goOnSinking();
    }

    /// The library's lock is not held for longer: a packet of our own has the reaper go on after others' turns.
    const reads_per_turn_max = 4;

    fn goOnSinking(self: *Pipe) void {
        const sink = self.sink.?;
        const operation = &sink.operation;
        var reads: u32 = 0;
        while (sink.remaining > 0) : (reads += 1) {
            operation.block = .{};
            _ = sys.pending_operations.fetchAdd(1, .acq_rel);
            if (reads == reads_per_turn_max) {
                operation.block = .{ .status = .{ .value = .success } };
                return sys.post(reaper.?.port, operation);
            }
            const result = sys.NtReadFile(
                self.handle,
                null,
                null,
                operation,
                &operation.block,
                &sink.bytes,
                @intCast(@min(sink.bytes.len, sink.remaining)),
                &no_offset,
                null,
            );
            // Its packet comes.
            if (!result.isError() and !(result == .success and self.skips)) return;
            _ = sys.pending_operations.fetchSub(1, .acq_rel);
            if (result.isError()) break;
            sink.remaining -|= operation.block.information;
        }
        // The remote end only writes. Like one that is reset, it will not get the rest.
        if (sink.remaining == 0) {
            if (self.write_pending) |write_given_up| sys.cancel(self.handle, &write_given_up.operation.block);
        }
        self.sink = null;
        allocator.destroy(sink);
    }

    fn sinkEnded(self: *Pipe) void {
        const sink = self.sink.?;
        const block = &sink.operation.block;
        // After the end of the write the handle is closed.
        if (self.write_pending == null or block.now().isError()) {
            self.sink = null;
            allocator.destroy(sink);
            return self.freeIfDone();
        }
        sink.remaining -|= block.information;
        self.goOnSinking();
    }

    /// Closed, and nothing of it is with the system.
    fn freeIfDone(self: *Pipe) void {
        if (self.hint_pending or self.write_pending != null or self.sink != null) return;
        allocator.destroy(self);
    }
};

// ---- Servers ----

/// One instance of a server's pipe, until it is handed out.
const Instance = struct {
    operation: Operation = .{ .kind = .connect },
    /// Whether its packet is still to come.
    pending: bool = true,
    /// Null once the handle is another's, or closed, and only the packet is waited for.
    handle: ?sys.HANDLE,
    listener: *Listener,
    has_client: bool = false,
    /// In the listener's list of those that listen, or of those that have a client.
    node: std.DoublyLinkedList.Node = .{},

    fn of(operation: *Operation) *Instance {
        return @fieldParentPtr("operation", operation);
    }

    fn fromNode(node: *std.DoublyLinkedList.Node) *Instance {
        return @fieldParentPtr("node", node);
    }

    /// The packet of its listening came.
    fn connectEnded(self: *Instance) void {
        const listener = self.listener;
        self.pending = false;
        listener.pending_count -= 1;
        const handle = self.handle orelse {
            allocator.destroy(self);
            return listener.freeIfDone();
        };
        if (self.has_client) {
            // Seen before by somebody who asked; those who wait have not been told.
        } else if (self.operation.block.now().isError()) {
            // Not for a client's sake: those are handed out, also when they have gone. Another takes its place.
            listener.listening.remove(&self.node);
            _ = sys.CloseHandle(handle);
            allocator.destroy(self);
            listener.lost_count += 1;
            listener.replaceLost();
        } else {
            listener.listening.remove(&self.node);
            self.has_client = true;
            listener.clients.append(&self.node);
        }
        iocp.tell(&listener.watchers, listener.conditionsNow());
    }

    /// Its handle is another's now, or closed.
    fn release(self: *Instance) void {
        self.handle = null;
        if (!self.pending) allocator.destroy(self);
    }
};

/// A server's pipe. All its functions but `listen`, `accept` and `close` are called with the library's lock held.
pub const Listener = struct {
    name: [:0]const u16,
    security: sys.SECURITY_ATTRIBUTES,
    watchers: std.DoublyLinkedList = .{},
    listening: std.DoublyLinkedList = .{},
    /// Oldest first.
    clients: std.DoublyLinkedList = .{},
    /// How many packets of instances are to come.
    pending_count: u32 = 0,
    /// Instances that ended badly and could not be replaced at once.
    lost_count: u32 = 0,
    closed: bool = false,

    /// Owns neither the name nor the security descriptor: it copies the one, and needs the other for the process's life.
    pub fn listen(
        name: [:0]const u16,
        backlog: i32,
        security: *const anyopaque,
        failure: *status.Failure,
    ) status.Error!*Listener {
        const lock = &handles.table.lock;
        const self = made: {
            lock.lock();
            defer lock.unlock();
            try startReaper(failure);
            const copy = try allocator.dupeSentinel(u16, name, 0);
            errdefer allocator.free(copy);
            const self = try allocator.create(Listener);
            self.* = .{ .name = copy, .security = .{ .descriptor = security } };
            break :made self;
        };
        errdefer self.close();
        const count = std.math.clamp(backlog, 1, instances_max);
        for (0..@intCast(count)) |index| {
            // Each by itself, so that a thousand don't hold up all other threads.
            lock.lock();
            defer lock.unlock();
            try self.addInstance(index == 0, failure);
        }
        return self;
    }

    fn addInstance(self: *Listener, first: bool, failure: *status.Failure) status.Error!void {
        const handle = sys.CreateNamedPipeW(
            self.name,
            access_duplex | flag_overlapped | (if (first) @as(u32, flag_first_instance) else 0),
            // Byte type, byte read mode and blocking are zeros.
            mode_reject_remote_clients,
            unlimited_instances,
            buffer_size,
            buffer_size,
            0,
            &self.security,
        );
        if (handle == sys.invalid_handle) {
            const why = sys.lastCode();
            return failure.system(if (first) refusalOfFirst(why, nameExists(self.name)) else why);
        }
        errdefer _ = sys.CloseHandle(handle);
        // Wine takes no notice of FILE_FLAG_FIRST_PIPE_INSTANCE.
        if (first and !isOnlyInstance(handle)) return failure.system(sys.code.wsa_eaddrinuse);
        try sys.associate(reaper.?.port, handle, failure);
        const instance = try allocator.create(Instance);
        errdefer allocator.destroy(instance);
        instance.* = .{ .handle = handle, .listener = self };

        const operation = &instance.operation;
        _ = sys.pending_operations.fetchAdd(1, .acq_rel);
        const result = sys.NtFsControlFile(
            handle,
            null,
            null,
            operation,
            &operation.block,
            fsctl_listen,
            null,
            0,
            null,
            0,
        );
        if (!result.isError()) {
            self.pending_count += 1;
            return self.listening.append(&instance.node);
        }
        instance.pending = false;
        _ = sys.pending_operations.fetchSub(1, .acq_rel);
        switch (result) {
            // A client was quicker; the other says that it has gone again.
            .pipe_connected, .pipe_closing => {
                instance.has_client = true;
                self.clients.append(&instance.node);
            },
            else => return failure.system(result.toCode()),
        }
    }

    /// The system has one code for a name that somebody else has and for one that this process may not make: one
    /// outside LOCAL\ in an AppContainer, for example.
    fn refusalOfFirst(why: i32, exists: bool) i32 {
        return switch (why) {
            sys.code.pipe_busy => sys.code.wsa_eaddrinuse,
            sys.code.access_denied => if (exists) sys.code.wsa_eaddrinuse else why,
            else => why,
        };
    }

    /// Asks without connecting.
    fn nameExists(name: [:0]const u16) bool {
        const no_wait = 1; // NMPWAIT_NOWAIT
        return sys.WaitNamedPipeW(name, no_wait) != 0 or sys.lastCode() != sys.code.file_not_found;
    }

    fn isOnlyInstance(handle: sys.HANDLE) bool {
        const information = localInformation(handle) orelse return true;
        return information.current_instances <= 1;
    }

    fn replaceLost(self: *Listener) void {
        var failure: status.Failure = .{};
        while (self.lost_count > 0) : (self.lost_count -= 1) self.addInstance(false, &failure) catch return;
    }

    pub fn accept(self: *Listener, failure: *status.Failure) status.Error!?*Pipe {
        const lock = &handles.table.lock;
        lock.lock();
        defer lock.unlock();
        self.findClients();
        const node = self.clients.first orelse return null;
        const instance: *Instance = .fromNode(node);
        const pipe = try Pipe.create(instance.handle.?);
        errdefer allocator.destroy(pipe);
        // Before this one goes, or a client could find none, and the name could become another's.
        try self.addInstance(false, failure);
        self.clients.remove(node);
        instance.release();
        return pipe;
    }

    /// A client that has connected is here, also while the reaper is still on its way to the packet. The system gives a
    /// client the instance that has listened longest.
    fn findClients(self: *Listener) void {
        if (self.lost_count > 0) self.replaceLost();
        while (self.listening.first) |node| {
            const instance: *Instance = .fromNode(node);
            const information = localInformation(instance.handle.?) orelse return;
            if (information.state == sys.FILE_PIPE_LOCAL_INFORMATION.state_listening) return;
            self.listening.remove(node);
            instance.has_client = true;
            self.clients.append(node);
        }
    }

    pub fn conditionsNow(self: *Listener) events.Conditions {
        self.findClients();
        return .{ .readable = self.clients.first != null };
    }

    pub fn watch(self: *Listener, one: *iocp.Watch) void {
        self.watchers.append(&one.node);
        iocp.tell(&self.watchers, self.conditionsNow());
    }

    pub fn unwatch(self: *Listener, one: *iocp.Watch) void {
        self.watchers.remove(&one.node);
    }

    pub fn close(self: *Listener) void {
        const lock = &handles.table.lock;
        lock.lock();
        defer lock.unlock();
        self.closeWithLock();
    }

    fn closeWithLock(self: *Listener) void {
        std.debug.assert(self.watchers.first == null);
        self.closed = true;
        while (self.clients.popFirst()) |node| {
            const instance: *Instance = .fromNode(node);
            _ = sys.CloseHandle(instance.handle.?);
            instance.release();
        }
        while (self.listening.popFirst()) |node| {
            const instance: *Instance = .fromNode(node);
            sys.cancel(instance.handle.?, &instance.operation.block);
            _ = sys.CloseHandle(instance.handle.?);
            instance.release();
        }
        self.freeIfDone();
    }

    fn freeIfDone(self: *Listener) void {
        if (!self.closed or self.pending_count > 0) return;
        if (self.name.len > 0) allocator.free(self.name);
        allocator.destroy(self);
    }
};

test "a name is in use where it is there, and else it is forbidden" {
    const taken: i32 = sys.code.wsa_eaddrinuse;
    const denied: i32 = sys.code.access_denied;
    for ([_]struct { i32, bool, i32 }{
        .{ denied, true, taken },
        .{ denied, false, denied },
        .{ sys.code.pipe_busy, true, taken },
        .{ sys.code.pipe_busy, false, taken },
        .{ sys.code.path_not_found, true, sys.code.path_not_found },
    }) |case| try std.testing.expectEqual(case[2], Listener.refusalOfFirst(case[0], case[1]));
    for ([_][:0]const u16{
        std.unicode.utf8ToUtf16LeStringLiteral("\\\\?\\pipe\\bbipc-nobody"),
        std.unicode.utf8ToUtf16LeStringLiteral("\\\\.\\pipe\\bbipc-nobody"),
    }) |nobodys| try std.testing.expect(!Listener.nameExists(nobodys));
}

// ---- Clients ----

pub fn connect(name: [:0]const u16, failure: *status.Failure) status.Error!*Pipe {
    {
        const lock = &handles.table.lock;
        lock.lock();
        defer lock.unlock();
        try startReaper(failure);
    }
    const handle = sys.CreateFileW(
        name,
        generic_read | generic_write,
        0,
        null,
        open_existing,
        // A server learns who its client is, but can't act in its name.
        flag_overlapped | security_sqos_present | security_identification,
        null,
    );
    if (handle == sys.invalid_handle) switch (sys.lastCode()) {
        sys.code.file_not_found, sys.code.path_not_found => |why| {
            failure.system_code = why;
            return error.NoLocalServer;
        },
        else => |why| return failure.system(why),
    };
    errdefer _ = sys.CloseHandle(handle);
    try sys.associate(reaper.?.port, handle, failure);
    return .create(handle);
}
