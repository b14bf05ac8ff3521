//! A named pipe's server.
//!
//! How it behaves, and its traps (CreateNamedPipe, ntifs.h; what was measured is in docs/platforms.md):
//!
//! - A client needs an instance that listens, and takes it. So a server keeps as many as its backlog, and makes the
//!   next before it hands one out. A client can be gone again by then, with or without bytes for us.

const std = @import("std");
const sys = @import("../sys.zig");
const pipes = @import("pipe.zig");
const reaper = @import("reaper.zig");
const watchers = @import("../watchers.zig");
const events = @import("../../base/events.zig");
const status = @import("../../base/status.zig");
const Operation = reaper.Operation;
const Pipe = pipes.Pipe;

const allocator = sys.allocator;

/// A server's instances at most, however large its backlog.
const instances_max = 1024;

const unlimited_instances = 255;

/// One instance of a server's pipe, until it is handed out.
const Instance = struct {
    operation: Operation = .{ .ended = connectEnded },
    /// Whether its packet is still to come.
    pending: bool = true,
    /// Null once the handle is another's, or closed, and only the packet is waited for.
    handle: ?sys.HANDLE,
    listener: *Listener,
    has_client: bool = false,
    /// In the listener's list of those that listen, or of those that have a client.
    node: std.DoublyLinkedList.Node = .{},

    fn fromNode(node: *std.DoublyLinkedList.Node) *Instance {
        return @fieldParentPtr("node", node);
    }

    /// The packet of its listening came.
    fn connectEnded(operation: *Operation) void {
        const self: *Instance = @alignCast(@fieldParentPtr("operation", operation));
        const listener = self.listener;
        self.pending = false;
        listener.pending_count -= 1;
        const handle = self.handle orelse {
            allocator.destroy(self);
            return listener.freeIfDone();
        };
        if (self.has_client) {
            // A thread that asked has seen the client before; the threads that wait have not been told.
        } else if (self.operation.block.now().isError()) {
            // Not because a client has gone: such clients are handed out too. Another instance takes its place.
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
        watchers.tell(&listener.watching, listener.conditionsNow());
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
    watching: watchers.List = .{},
    listening: std.DoublyLinkedList = .{},
    /// Oldest first.
    clients: std.DoublyLinkedList = .{},
    /// How many packets of instances are to come.
    pending_count: u32 = 0,
    /// Instances that ended badly and could not be replaced at once.
    lost_count: u32 = 0,
    closed: bool = false,

    /// Owns neither the name nor the security descriptor: it copies the name, and needs the descriptor for the
    /// process's life.
    pub fn listen(
        name: [:0]const u16,
        backlog: i32,
        security: *const anyopaque,
        failure: *status.Failure,
    ) status.Error!*Listener {
        const lock = &sys.library_lock;
        const self = made: {
            lock.lock();
            defer lock.unlock();
            try reaper.start(failure);
            const copy = try allocator.dupeSentinel(u16, name, 0);
            errdefer allocator.free(copy);
            const self = try allocator.create(Listener);
            self.* = .{ .name = copy, .security = .{ .descriptor = security } };
            break :made self;
        };
        errdefer self.close();
        const count = std.math.clamp(backlog, 1, instances_max);
        for (0..@intCast(count)) |index| {
            // The lock is let go between two instances, so that a thousand don't hold up all other threads.
            lock.lock();
            defer lock.unlock();
            try self.addInstance(index == 0, failure);
        }
        return self;
    }

    fn addInstance(self: *Listener, first: bool, failure: *status.Failure) status.Error!void {
        const handle = pipes.createInstance(self.name, first, unlimited_instances, &self.security);
        if (handle == sys.invalid_handle) {
            const why = sys.lastCode();
            return failure.system(if (first) refusalOfFirst(why, nameExists(self.name)) else why);
        }
        errdefer _ = sys.CloseHandle(handle);
        // Wine takes no notice of FILE_FLAG_FIRST_PIPE_INSTANCE.
        if (first and !pipes.isOnlyInstance(handle)) return failure.system(sys.code.wsa_eaddrinuse);
        try reaper.associate(handle, failure);
        const instance = try allocator.create(Instance);
        errdefer allocator.destroy(instance);
        instance.* = .{ .handle = handle, .listener = self };

        const operation = &instance.operation;
        operation.begin();
        const result = sys.NtFsControlFile(
            handle,
            null,
            null,
            operation,
            &operation.block,
            pipes.fsctl_listen,
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
        operation.endAtOnce();
        switch (result) {
            // A client was quicker. `pipe_closing` says that it has gone again.
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

    fn replaceLost(self: *Listener) void {
        var failure: status.Failure = .{};
        while (self.lost_count > 0) : (self.lost_count -= 1) self.addInstance(false, &failure) catch return;
    }

    pub fn accept(self: *Listener, failure: *status.Failure) status.Error!?*Pipe {
        const lock = &sys.library_lock;
        lock.lock();
        defer lock.unlock();
        self.findClients();
        const node = self.clients.first orelse return null;
        const instance: *Instance = .fromNode(node);
        const pipe = try Pipe.create(instance.handle.?);
        errdefer allocator.destroy(pipe);
        // Before this instance goes. Otherwise a client could find none, and the name could become another's.
        try self.addInstance(false, failure);
        self.clients.remove(node);
        instance.release();
        return pipe;
    }

    /// Finds the clients that have connected, also those whose packets the reaper has yet to take. The system gives a
    /// client the instance that has listened longest.
    fn findClients(self: *Listener) void {
        if (self.lost_count > 0) self.replaceLost();
        while (self.listening.first) |node| {
            const instance: *Instance = .fromNode(node);
            const information = pipes.localInformation(instance.handle.?) orelse return;
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

    pub fn watch(self: *Listener, one: *watchers.Watcher) void {
        self.watching.append(&one.node);
        watchers.tell(&self.watching, self.conditionsNow());
    }

    pub fn unwatch(self: *Listener, one: *watchers.Watcher) void {
        self.watching.remove(&one.node);
    }

    pub fn close(self: *Listener) void {
        const lock = &sys.library_lock;
        lock.lock();
        defer lock.unlock();
        self.closeWithLock();
    }

    fn closeWithLock(self: *Listener) void {
        std.debug.assert(self.watching.first == null);
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
