//! One end of a named pipe: what local streams are made of.
//!
//! How they behave, and their traps (CreateNamedPipe, ntifs.h; what was measured is in docs/platforms.md):
//!
//! - A pipe has no readiness: a program starts an operation and hears of its end. So readability is learnt by a read of
//!   zero bytes, which ends when bytes arrive or the remote end goes, and room by the end of the one write that may be
//!   under way. Either is a hint: whoever is woken asks the pipe itself, for a peer's write of zero bytes ends such a
//!   read too.
//! - An operation that ends at once leaves no packet (FILE_SKIP_COMPLETION_PORT_ON_SUCCESS), one whose context is null
//!   never does. Errors leave none either.
//! - A write that does not fit waits for the reader, whole. Cancelled, it may have been read in part, and the system
//!   does not tell how much; so it is left alone. Where the handle is closed under it, it is lost; so the reaper closes
//!   it after the write.
//! - The remote end's write does not end before it is read either. Two ends that both close with a write under way
//!   would wait for each other. So what still comes to such an end is read and thrown away.
//! - DisconnectNamedPipe discards what the client has not read, and the client hears another error than that of an end
//!   (STATUS_PIPE_DISCONNECTED), which some take for a failure. But it frees the instance and the pipe's name, which
//!   otherwise live until both ends are closed. So it is called only for what is given up. FlushFileBuffers blocks: it
//!   is never called.
//!
//! The library's lock guards listeners, watchers and the reaper's list. Each pipe has a lock of its own for what moves
//! bytes, which is taken inside the library's, never around it.

const std = @import("std");
const sys = @import("../sys.zig");
const reaper = @import("reaper.zig");
const watchers = @import("../watchers.zig");
const copying = @import("../../base/copying.zig");
const events = @import("../../base/events.zig");
const status = @import("../../base/status.zig");
const Operation = reaper.Operation;
const Outcome = @import("../../base/outcome.zig").Outcome;

const allocator = sys.allocator;

/// Bytes that the system keeps for each direction. A write that fits in ends at once.
pub const buffer_size = 65536;
/// Bytes per write at most: they are copied, for the caller's buffer must not be the system's after the call.
const write_max = 65536;
pub const flag_overlapped = 0x40000000;
/// What a client opens its end for: GENERIC_READ and GENERIC_WRITE, but for FILE_CREATE_PIPE_INSTANCE. A server that
/// gave that right to others would let them be servers at its name.
pub const client_access = 0x0012019b;
const open_existing = 3;
const security_sqos_present = 0x00100000;
const security_identification = 0x00010000;
const skip_port_on_success = 0x1;
const fsctl_disconnect = 0x00110004;
pub const fsctl_listen = 0x00110008;

const no_offset: i64 = 0;

/// Whether the system's code says that the remote end has gone. Others say that a call could not be made.
pub fn isEnd(code: i32) bool {
    return switch (code) {
        sys.code.broken_pipe, sys.code.bad_pipe, sys.code.no_data, sys.code.pipe_not_connected => true,
        else => false,
    };
}

/// What the system says of one end of a pipe.
pub fn localInformation(handle: sys.HANDLE) ?sys.FILE_PIPE_LOCAL_INFORMATION {
    var block: sys.IO_STATUS_BLOCK = .{};
    var information: sys.FILE_PIPE_LOCAL_INFORMATION = undefined;
    const size = @sizeOf(sys.FILE_PIPE_LOCAL_INFORMATION);
    const class = sys.FILE_PIPE_LOCAL_INFORMATION.class;
    const result = sys.NtQueryInformationFile(handle, &block, &information, size, class);
    return if (result.isError()) null else information;
}

/// Writes that are under way, those of closed pipes included.
var pending_writes: std.atomic.Value(u32) = .init(0);

/// Whether remote ends have taken all that was written, within that time (null: for ever).
pub fn finishWrites(timeout_ns: ?u64) bool {
    const deadline: sys.Deadline = .afterNs(timeout_ns);
    while (pending_writes.load(.acquire) > 0) {
        if (deadline.remainingNs() == 0) return false;
        sys.Sleep(1);
    }
    return true;
}

const Write = struct {
    operation: Operation,
    pipe: *Pipe,
    size: u32,
    bytes: [write_max]u8,

    /// With room for these bytes only.
    fn create(pipe: *Pipe, data: []const u8) ?*Write {
        const memory = allocator.alignedAlloc(u8, .of(Write), @offsetOf(Write, "bytes") + data.len) catch return null;
        const self: *Write = @ptrCast(memory.ptr);
        self.operation = .{ .ended = Pipe.writeEnded };
        self.pipe = pipe;
        self.size = @intCast(data.len);
        copying.copy(&self.bytes, data);
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

/// The reading, and throwing away, of what still comes to a pipe that is closed and whose last write is under way.
/// Without it, two ends that are closed in this way would each wait for the other's reading for ever.
const Sink = struct {
    operation: Operation = .{ .ended = Pipe.sinkEnded },
    pipe: *Pipe,
    /// Bytes. More than any reasonable write that blocks the remote end until it is read. A remote end that never stops
    /// must not take this for a reader: after these bytes, the write is given up.
    remaining: usize = 64 * 1024 * 1024,
    bytes: [buffer_size]u8 = undefined,

    fn of(operation: *Operation) *Sink {
        return @fieldParentPtr("operation", operation);
    }
};

/// What a server's end waits for that is to have one client, who says a word and hears another. A client who does not
/// is sent away, and the next may come.
const Awaiting = struct {
    operation: Operation = .{ .ended = Pipe.listenEnded },
    /// Whether the packet of its listening is still to come.
    pending: bool = false,
    pipe: *Pipe,
    words: Words,
    /// Whether the client has come.
    done: bool = false,

    /// How many are sent away in one go.
    const clients_max = 16;

    fn of(operation: *Operation) *Awaiting {
        return @alignCast(@fieldParentPtr("operation", operation));
    }
};

/// Bytes of a word.
pub const word_size = 32;
/// What the client says, and what it hears then.
pub const Words = [2][word_size]u8;

/// One end of a pipe.
pub const Pipe = struct {
    handle: sys.HANDLE,
    /// Whether operations that end at once leave no packet.
    skips: bool,

    // Under the library's lock.
    watching: watchers.List = .{},
    hint: Operation = .{ .ended = hintEnded },
    hint_pending: bool = false,
    /// The buffer for its read of no bytes.
    nothing: [1]u8 = undefined,
    looked_at: reaper.LookedAt = .{ .look = lookNow },
    closed: bool = false,
    /// Closing gives up what the remote end has not read.
    aborts: bool = false,
    sink: ?*Sink = null,
    /// What is written after the close, and the memory that it is in.
    rest: []const u8 = &.{},
    rest_memory: []u8 = &.{},
    closing: reaper.Closing = .{ .giveUp = giveUpNow },
    /// Null for a pipe that was connected from the beginning.
    awaiting: ?*Awaiting = null,

    // Under this lock.
    lock: sys.Lock = .{},
    write_pending: ?*Write = null,
    write_lost: bool = false,

    /// Owns the handle, which reports to the reaper's port, if it succeeds.
    pub fn create(handle: sys.HANDLE) status.Error!*Pipe {
        const self = try allocator.create(Pipe);
        self.* = .{
            .handle = handle,
            .skips = sys.SetFileCompletionNotificationModes(handle, skip_port_on_success) != 0,
        };
        return self;
    }

    // ---- Bytes ----

    pub fn read(self: *Pipe, buffer: []u8, peek: bool) Outcome {
        // Two readers would both see the same bytes, and one of them would then wait for more.
        self.lock.lock();
        defer self.lock.unlock();
        const room: u32 = @intCast(@min(buffer.len, std.math.maxInt(i32)));
        const available = switch (self.look()) {
            .unread => |count| count,
            .failed => |why| return .{ .refused = why },
            // Whether a write was lost decides what kind of end this is. The system's code is the same for every end.
            .gone => return if (self.write_pending == null) .{ .broken = 0 } else .nothing,
        };
        if (available == 0) return .nothing;
        // Not more than is there: the system sets aside as much memory as is asked for.
        const size = @min(room, available);
        if (peek) {
            var count: u32 = 0;
            const peeked = sys.PeekNamedPipe(self.handle, buffer.ptr, size, &count, null, null);
            if (peeked == 0) return failed(sys.lastCode());
            return .{ .count = count };
        }

        var block: sys.IO_STATUS_BLOCK = .{};
        const result = sys.NtReadFile(self.handle, null, null, null, &block, buffer.ptr, size, &no_offset, null);
        if (result == .pending) self.cancelAndWait(&block);
        const outcome = if (result == .pending) block.now() else result;
        if (outcome.isError()) {
            return if (outcome == .cancelled) .nothing else failed(outcome.toCode());
        }
        return if (block.information == 0) .nothing else .{ .count = block.information };
    }

    fn failed(why: i32) Outcome {
        return if (isEnd(why)) .{ .broken = 0 } else .{ .refused = why };
    }

    const Look = union(enum) {
        /// How many bytes.
        unread: u32,
        /// Nothing is to be read any more.
        gone,
        /// The system could not tell, for want of memory for example.
        failed: i32,
    };

    fn look(self: *Pipe) Look {
        var available: u32 = 0;
        if (sys.PeekNamedPipe(self.handle, null, 0, null, &available, null) != 0) return .{ .unread = available };
        const why = sys.lastCode();
        return if (isEnd(why)) .gone else .{ .failed = why };
    }

    /// The bytes were there, so this does not happen. But after the call the system must not use the caller's buffer.
    fn cancelAndWait(self: *Pipe, block: *sys.IO_STATUS_BLOCK) void {
        @branchHint(.cold);
        sys.cancel(self.handle, block);
        while (block.now() == .pending) sys.Sleep(1);
    }

    pub fn write(self: *Pipe, data: []const u8) Outcome {
        self.lock.lock();
        defer self.lock.unlock();
        if (self.write_pending != null) return .nothing;
        const copy = Write.create(self, data[0..@min(data.len, write_max)]) orelse
            return .{ .refused = sys.code.not_enough_memory };
        const operation = &copy.operation;
        const size = copy.size;
        operation.begin();
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
        operation.endAtOnce();
        _ = pending_writes.fetchSub(1, .acq_rel);
        self.write_pending = null;
        copy.destroy();
        if (result.isError()) return .{ .refused = result.toCode() };
        return if (count == 0) .nothing else .{ .count = @min(count, size) };
    }

    // ---- Events. With the library's lock held ----

    pub fn conditionsNow(self: *Pipe) events.Conditions {
        // Nothing holds before the connection stands.
        if (!self.hasMetClient()) return .{};
        const looked = self.look();
        const room = room: {
            self.lock.lock();
            defer self.lock.unlock();
            break :room self.write_pending == null;
        };
        // A write that is under way ends with the pipe. How it ended decides what kind of end this is, so the write is
        // waited for.
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
    pub fn watch(self: *Pipe, one: *watchers.Watcher) void {
        self.watching.append(&one.node);
        self.tellWatchers();
    }

    pub fn unwatch(self: *Pipe, one: *watchers.Watcher) void {
        self.watching.remove(&one.node);
        if (self.watching.first == null) reaper.leaveAlone(&self.looked_at);
    }

    /// The most messages of no bytes that are passed over in one go.
    const empty_messages_max = 16;

    fn lookNow(one: *reaper.LookedAt) void {
        const self: *Pipe = @alignCast(@fieldParentPtr("looked_at", one));
        self.tellWatchers();
    }

    /// Tells the watchers whose conditions hold, and makes sure that the others hear of theirs.
    fn tellWatchers(self: *Pipe) void {
        // Whether anybody watches or not: the client waits for an answer.
        if (!self.hasMetClient()) return;
        for (0..empty_messages_max) |_| {
            if (self.watching.first == null) return reaper.leaveAlone(&self.looked_at);
            watchers.tell(&self.watching, self.conditionsNow());
            if (!self.anyoneReads()) return reaper.leaveAlone(&self.looked_at);
            if (self.hint_pending) return reaper.leaveAlone(&self.looked_at);
            // The watchers that are left wait for the end, which no operation tells of before the bytes are read.
            if (self.hasUnread()) return reaper.lookAt(&self.looked_at);
            if (!self.startHint()) return reaper.leaveAlone(&self.looked_at);
        }
        reaper.lookAt(&self.looked_at);
    }

    /// Whether somebody waits for what a read of zero bytes tells.
    fn anyoneReads(self: *Pipe) bool {
        var next = self.watching.first;
        while (next) |node| : (next = node.next) {
            const interest = watchers.Watcher.fromNode(node).interest;
            if (interest.readable or interest.ended or interest.severed) return true;
        }
        return false;
    }

    /// Starts the read of zero bytes. True if it has ended already.
    fn startHint(self: *Pipe) bool {
        std.debug.assert(!self.hint_pending);
        const operation = &self.hint;
        operation.begin();
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
        operation.endAtOnce();
        self.hint_pending = false;
        return true;
    }

    fn hintEnded(operation: *Operation) void {
        const self: *Pipe = @alignCast(@fieldParentPtr("hint", operation));
        self.hint_pending = false;
        if (self.closed) return self.freeIfDone();
        self.tellWatchers();
    }

    fn writeEnded(operation: *Operation) void {
        const self = Write.of(operation).pipe;
        {
            self.lock.lock();
            defer self.lock.unlock();
            const done = self.write_pending.?;
            if (done.operation.block.now().isError()) self.write_lost = true;
            self.write_pending = null;
            done.destroy();
        }
        const goes_on = self.closed and self.writeRest();
        // Afterwards, so that somebody who waits for all writes does not see a moment without one.
        _ = pending_writes.fetchSub(1, .acq_rel);
        if (goes_on) {
            // The remote end reads: the time begins anew.
            reaper.expectNoEnd(&self.closing);
            return reaper.expectEnd(&self.closing);
        }
        if (!self.closed) return self.tellWatchers();
        reaper.expectNoEnd(&self.closing);
        if (self.sink) |sink| sys.cancel(self.handle, &sink.operation.block);
        _ = sys.CloseHandle(self.handle);
        self.freeIfDone();
    }

    // ---- A client that is awaited. With the library's lock held ----

    /// Whether the client is there that was awaited, if one was. Goes on with what leads there, as far as it can now.
    fn hasMetClient(self: *Pipe) bool {
        const awaiting = self.awaiting orelse return true;
        if (awaiting.done or self.closed) return awaiting.done;
        for (0..Awaiting.clients_max) |_| {
            const Information = sys.FILE_PIPE_LOCAL_INFORMATION;
            const state = (localInformation(self.handle) orelse break).state;
            if (state == Information.state_listening or state == Information.state_disconnected) {
                // The packet of the listening leads here again.
                if (awaiting.pending or self.listen(awaiting)) return false;
                continue;
            }
            const is_there = state == Information.state_connected;
            switch (self.look()) {
                .unread => |count| if (count >= word_size) {
                    awaiting.done = self.exchangeWords(&awaiting.words);
                    if (awaiting.done) return true;
                } else if (is_there) {
                    // Its packet leads here again.
                    if (self.hint_pending or !self.startHint()) return false;
                    continue;
                },
                .gone => {},
                .failed => break,
            }
            self.disconnect();
        }
        // For want of memory, or there are too many.
        reaper.lookAt(&self.looked_at);
        return false;
    }

    /// False if it has ended at once: a client may be there.
    fn listen(self: *Pipe, awaiting: *Awaiting) bool {
        const operation = &awaiting.operation;
        operation.begin();
        const block = &operation.block;
        const result = sys.NtFsControlFile(self.handle, null, null, operation, block, fsctl_listen, null, 0, null, 0);
        awaiting.pending = !result.isError() and !(result == .success and self.skips);
        if (!awaiting.pending) operation.endAtOnce();
        return awaiting.pending;
    }

    fn listenEnded(operation: *Operation) void {
        const awaiting: *Awaiting = .of(operation);
        awaiting.pending = false;
        if (awaiting.pipe.closed) return awaiting.pipe.freeIfDone();
        awaiting.pipe.tellWatchers();
    }

    /// Whether the client has said the word.
    fn exchangeWords(self: *Pipe, words: *const Words) bool {
        var said: [word_size]u8 = undefined;
        const outcome = self.read(&said, false);
        if (outcome != .count or outcome.count != word_size) return false;
        // Not by a comparison whose time tells how much of it was right.
        var difference: u8 = 0;
        for (&said, &words[0]) |one, other| difference |= one ^ other;
        if (difference != 0) return false;
        // There is room for it. A client that has gone by now is one that came.
        _ = self.write(&words[1]);
        return true;
    }

    /// Of a server's end. The client loses what it has not read.
    fn disconnect(self: *Pipe) void {
        var block: sys.IO_STATUS_BLOCK = .{};
        const result = sys.NtFsControlFile(self.handle, null, null, null, &block, fsctl_disconnect, null, 0, null, 0);
        // It ends at once. But after this call the system must not use the block.
        if (result == .pending) self.cancelAndWait(&block);
    }

    // ---- The end ----

    /// The rest is written afterwards, for as long as a write may be under way then.
    pub fn close(self: *Pipe, rest: []const u8) void {
        sys.library_lock.lock();
        defer sys.library_lock.unlock();
        std.debug.assert(self.watching.first == null);
        self.closed = true;
        if (self.hint_pending) sys.cancel(self.handle, &self.hint.block);
        if (self.awaiting) |awaiting| if (awaiting.pending) sys.cancel(self.handle, &awaiting.operation.block);
        reaper.leaveAlone(&self.looked_at);
        if (self.aborts) self.giveUp() else self.keepRest(rest);
        // Nobody else uses it any more, so there is no write to come but of the rest. One that is under way must end
        // first.
        if (self.write_pending == null and !self.writeRest()) {
            _ = sys.CloseHandle(self.handle);
        } else if (!self.aborts) {
            self.startSink();
            reaper.expectEnd(&self.closing);
        }
        self.freeIfDone();
    }

    fn keepRest(self: *Pipe, rest: []const u8) void {
        if (rest.len == 0) return;
        self.rest_memory = allocator.dupe(u8, rest) catch return;
        self.rest = self.rest_memory;
    }

    /// Writes what is left of the rest. Whether a write of it is under way: its packet comes.
    fn writeRest(self: *Pipe) bool {
        while (self.rest.len > 0 and !self.write_lost) {
            const outcome = self.write(self.rest);
            if (outcome != .count) break;
            self.rest = self.rest[outcome.count..];
            if (self.write_pending != null) return true;
        }
        if (self.rest_memory.len > 0) allocator.free(self.rest_memory);
        self.rest = &.{};
        self.rest_memory = &.{};
        return false;
    }

    /// Discards what the remote end has not read, and ends a write that is under way; its packet comes. A client can
    /// discard only that write.
    fn giveUp(self: *Pipe) void {
        if (self.write_pending) |one| sys.cancel(self.handle, &one.operation.block);
        const information = localInformation(self.handle) orelse return;
        if (information.end == sys.FILE_PIPE_LOCAL_INFORMATION.end_server) self.disconnect();
    }

    fn giveUpNow(one: *reaper.Closing) void {
        const self: *Pipe = @alignCast(@fieldParentPtr("closing", one));
        self.giveUp();
    }

    fn startSink(self: *Pipe) void {
        const sink = allocator.create(Sink) catch return;
        sink.* = .{ .pipe = self };
        self.sink = sink;
        self.goOnSinking();
    }

    /// For more reads the library's lock is not held: a packet of our own has the reaper go on after others' turns.
    const reads_per_turn_max = 4;

    fn goOnSinking(self: *Pipe) void {
        const sink = self.sink.?;
        const operation = &sink.operation;
        var reads: u32 = 0;
        while (sink.remaining > 0) : (reads += 1) {
            operation.begin();
            if (reads == reads_per_turn_max) return reaper.goOnLater(operation);
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
            operation.endAtOnce();
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

    fn sinkEnded(operation: *Operation) void {
        const sink: *Sink = .of(operation);
        const self = sink.pipe;
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
        if (self.awaiting) |awaiting| {
            if (awaiting.pending) return;
            allocator.destroy(awaiting);
        }
        std.debug.assert(self.rest_memory.len == 0);
        allocator.destroy(self);
    }
};

// ---- Instances ----

const access_duplex = 0x3;
const flag_first_instance = 0x00080000;
const mode_reject_remote_clients = 0x8;

/// A new instance of a pipe, to which only this machine's programs can connect. Invalid where it can't be made.
pub fn createInstance(
    name: [:0]const u16,
    first: bool,
    instances_max: u32,
    security: *const sys.SECURITY_ATTRIBUTES,
) sys.HANDLE {
    return sys.CreateNamedPipeW(
        name,
        access_duplex | flag_overlapped | (if (first) @as(u32, flag_first_instance) else 0),
        // Byte type, byte read mode and blocking are zeros.
        mode_reject_remote_clients,
        instances_max,
        buffer_size,
        buffer_size,
        0,
        security,
    );
}

pub fn isOnlyInstance(handle: sys.HANDLE) bool {
    const information = localInformation(handle) orelse return true;
    return information.current_instances <= 1;
}

/// The only instance of a pipe of this name, whose client is still to come.
pub fn awaitClient(
    name: [:0]const u16,
    descriptor: *const anyopaque,
    words: *const Words,
    failure: *status.Failure,
) status.Error!*Pipe {
    const self = try makeOnly(name, descriptor, failure);
    errdefer self.close(&.{});
    const awaiting = try allocator.create(Awaiting);
    awaiting.* = .{ .pipe = self, .words = words.* };
    sys.library_lock.lock();
    defer sys.library_lock.unlock();
    self.awaiting = awaiting;
    _ = self.hasMetClient();
    return self;
}

/// Both ends of a pipe of this name, which has a single instance. ERROR_PIPE_BUSY if the name is another's, or another
/// was quicker to connect.
pub fn makePair(
    name: [:0]const u16,
    descriptor: *const anyopaque,
    failure: *status.Failure,
) status.Error![2]*Pipe {
    const first = try makeOnly(name, descriptor, failure);
    errdefer first.close(&.{});
    return .{ first, try connect(name, failure) };
}

/// The server's end of a pipe that has no other instance.
fn makeOnly(name: [:0]const u16, descriptor: *const anyopaque, failure: *status.Failure) status.Error!*Pipe {
    {
        sys.library_lock.lock();
        defer sys.library_lock.unlock();
        try reaper.start(failure);
    }
    const security: sys.SECURITY_ATTRIBUTES = .{ .descriptor = descriptor };
    const handle = createInstance(name, true, 1, &security);
    if (handle == sys.invalid_handle) {
        const why = sys.lastCode();
        return failure.system(if (why == sys.code.access_denied) sys.code.pipe_busy else why);
    }
    errdefer _ = sys.CloseHandle(handle);
    // Wine takes no notice of FILE_FLAG_FIRST_PIPE_INSTANCE.
    if (!isOnlyInstance(handle)) return failure.system(sys.code.pipe_busy);
    try reaper.associate(handle, failure);
    return .create(handle);
}

// ---- Clients ----

pub fn connect(name: [:0]const u16, failure: *status.Failure) status.Error!*Pipe {
    {
        sys.library_lock.lock();
        defer sys.library_lock.unlock();
        try reaper.start(failure);
    }
    const handle = sys.CreateFileW(
        name,
        client_access,
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
    try reaper.associate(handle, failure);
    return .create(handle);
}
