//! What the tests of the C interface share. They call what bbipc.h declares, as a C program would, and look behind it
//! only to learn that another thread has begun to wait.

const std = @import("std");
const builtin = @import("builtin");
const handles = @import("../handles.zig");
const platform = @import("../platform.zig");
const sys = platform.sys;
const testing = std.testing;

/// The header, translated to Zig by the build.
pub const c = @import("bbipc_h");
pub const Handle = c.bbipc_handle;

/// Longer than any wait that succeeds; reached only by one that fails.
pub const patience_ns = 20 * std.time.ns_per_s;

pub const stream_events: u32 = c.BBIPC_STREAM_EVENTS;
pub const backends = [_]i32{ c.BBIPC_BACKEND_EPOLL, c.BBIPC_BACKEND_POLL };

/// What may be asked of a connection that stands, with nothing unread and room to write.
pub const idle: u32 = c.BBIPC_DETERMINED | c.BBIPC_CONNECTION_SUCCEEDED | c.BBIPC_READY_TO_WRITE | c.BBIPC_WRITE_SPACE;
/// What holds of every connection whose remote end has gone.
pub const gone: u32 = c.BBIPC_DETERMINED | c.BBIPC_CONNECTION_FAILED | c.BBIPC_REMOTE_DISCONNECTED;

pub fn monotonicNs() u64 {
    return sys.monotonicNs();
}

/// The answer of a call that must succeed.
pub fn succeed(result: c.bbipc_result) error{CallFailed}!i64 {
    if (result >= 0) return result;
    std.debug.print("unexpected result {d}: {s}\n", .{ result, std.mem.span(c.bbipc_error_message(result)) });
    return error.CallFailed;
}

/// A result that comes with a code of the system's.
pub fn expectCode(expected: i64, expected_code: std.posix.E, result: c.bbipc_result, system_code: i32) !void {
    try testing.expectEqual(expected, result);
    try testing.expectEqual(@as(i32, @intCast(@backingInt(expected_code))), system_code);
}

pub fn expectSystem(expected: std.posix.E, result: c.bbipc_result, system_code: i32) !void {
    return expectCode(c.BBIPC_ERROR_SYSTEM, expected, result, system_code);
}

/// Like expectEqual, but names the events.
pub fn expectEvents(expected: u32, actual: i64) !void {
    if (expected == actual) return;
    std.debug.print("expected the events", .{});
    printEvents(expected);
    std.debug.print(", found", .{});
    if (actual < 0) std.debug.print(" the error {d}", .{actual}) else printEvents(@intCast(actual));
    std.debug.print("\n", .{});
    return error.WrongEvents;
}

fn printEvents(events: u32) void {
    const names = [_][]const u8{
        "CONNECTION_AVAILABLE",
        "DETERMINED",
        "CONNECTION_SUCCEEDED",
        "CONNECTION_FAILED",
        "DATA_AVAILABLE",
        "READY_TO_WRITE",
        "REMOTE_DISCONNECTED",
        "END_OF_DATA",
        "WRITE_SPACE",
        "CONNECTION_SEVERED",
    };
    if (events == 0) std.debug.print(" none", .{});
    for (names, 0..) |name, bit| {
        if (events >> @intCast(bit) & 1 != 0) std.debug.print(" {s}", .{name});
    }
}

/// The sets of events that consist of these, in order, the empty set first.
pub const Subsets = struct {
    of: u32,
    current: ?u32 = 0,

    pub fn next(subsets: *Subsets) ?u32 {
        const result = subsets.current orelse return null;
        const following = (result -% subsets.of) & subsets.of;
        subsets.current = if (following == 0) null else following;
        return result;
    }
};

// ---- Calls, made easy to write ----

pub fn poll(socket: Handle, events: u32, timeout_ns: i64) c.bbipc_result {
    return c.bbipc_poll_socket(socket, events, timeout_ns, null);
}

/// Waits for one event that must come.
pub fn awaitEvent(socket: Handle, event: u32) !void {
    std.debug.assert(@popCount(event) == 1);
    try expectEvents(event, poll(socket, event, patience_ns));
}

pub fn write(stream: Handle, data: []const u8) c.bbipc_result {
    return c.bbipc_write(stream, data.ptr, 0, data.len, null);
}

pub fn read(stream: Handle, buffer: []u8) c.bbipc_result {
    return c.bbipc_read(stream, buffer.ptr, 0, buffer.len, 0, null);
}

pub fn makeLocal(name: []const u8, backlog: i32, flags: u32, system_code: ?*i32) c.bbipc_result {
    return c.bbipc_make_local_server(name.ptr, name.len, backlog, flags, system_code);
}

pub fn connectLocal(name: []const u8, system_code: ?*i32) c.bbipc_result {
    return c.bbipc_connect_to_local_server(name.ptr, name.len, system_code);
}

pub fn writeAll(stream: Handle, data: []const u8) !void {
    var written: usize = 0;
    while (written < data.len) {
        try awaitEvent(stream, c.BBIPC_WRITE_SPACE);
        written += @intCast(try succeed(write(stream, data[written..])));
    }
}

/// Reads so many bytes, which must come.
pub fn expectBytes(stream: Handle, expected: []const u8) !void {
    var buffer: [256]u8 = undefined;
    var count: usize = 0;
    while (count < expected.len) {
        try awaitEvent(stream, c.BBIPC_DATA_AVAILABLE);
        const room = buffer[0..@min(buffer.len, expected.len - count)];
        const size: usize = @intCast(try succeed(read(stream, room)));
        try testing.expect(size > 0);
        try testing.expectEqualStrings(expected[count..][0..size], room[0..size]);
        count += size;
    }
}

/// Writes until neither end's buffers take any more. Returns the number of bytes.
pub fn fill(stream: Handle) !u64 {
    const data: [65536]u8 = @splat('f');
    // No event says "still full", and TCP moves bytes to the other end's buffer in its own time.
    const settled_ns = 50 * std.time.ns_per_ms;
    var total: u64 = 0;
    while (try succeed(poll(stream, c.BBIPC_WRITE_SPACE, settled_ns)) != 0) {
        total += @intCast(try succeed(write(stream, &data)));
    }
    return total;
}

/// Reads until nothing is there. Returns the number of bytes.
pub fn drain(stream: Handle) !u64 {
    var buffer: [65536]u8 = undefined;
    var total: u64 = 0;
    while (true) {
        const size = try succeed(read(stream, &buffer));
        if (size == 0) return total;
        total += @intCast(size);
    }
}

/// Waits with a poller that has this socket alone. Returns its events, 0 if there are none.
pub fn waitOnce(poller: Handle, socket: Handle, timeout_ns: i64) !u32 {
    var sockets: [4]Handle = undefined;
    var happened: [4]u32 = undefined;
    const count = try succeed(c.bbipc_wait_for_events(poller, &sockets, &happened, sockets.len, timeout_ns, null));
    if (count == 0) return 0;
    try testing.expectEqual(1, count);
    try testing.expectEqual(socket, sockets[0]);
    try testing.expect(happened[0] != 0);
    return happened[0];
}

/// Waits with a poller that has few sockets. Returns the events if it was one, else how many they were, or the error.
pub fn waitFor(poller: Handle, timeout_ns: i64) i64 {
    var sockets: [4]Handle = undefined;
    var happened: [4]u32 = undefined;
    const count = c.bbipc_wait_for_events(poller, &sockets, &happened, sockets.len, timeout_ns, null);
    return if (count == 1) happened[0] else count;
}

// ---- Sockets of either namespace ----

pub const Transport = enum { tcp, local };

const loopback = 0x7f000001;

/// One namespace's sockets, as a test uses them. What it makes, it closes.
pub const Stage = struct {
    transport: Transport,
    directory: Directory,
    kept: std.ArrayList(Handle) = .empty,

    pub fn init(transport: Transport) !Stage {
        return .{ .transport = transport, .directory = try .init() };
    }

    pub fn deinit(stage: *Stage) void {
        for (stage.kept.items) |handle| _ = c.bbipc_close(handle);
        stage.kept.deinit(testing.allocator);
        stage.directory.deinit();
    }

    /// The handle in a result that must be one.
    pub fn keep(stage: *Stage, result: c.bbipc_result) !Handle {
        const handle = try succeed(result);
        errdefer _ = c.bbipc_close(handle);
        try testing.expect(handle > 0);
        try stage.kept.append(testing.allocator, handle);
        return handle;
    }

    pub const Server = struct {
        handle: Handle,
        address: union(Transport) { tcp: u16, local: Directory.Name },
    };

    pub fn makeServer(stage: *Stage, backlog: i32) !Server {
        switch (stage.transport) {
            .tcp => {
                const handle = try stage.keep(c.bbipc_make_ipv4_tcp_server(loopback, 0, backlog, 0, null));
                var port: u16 = 0;
                _ = try succeed(c.bbipc_ipv4_local_address(handle, null, &port, null));
                return .{ .handle = handle, .address = .{ .tcp = port } };
            },
            .local => {
                const name = stage.directory.freeName();
                const made = makeLocal(name.text(), backlog, c.BBIPC_DELETE_ON_CLOSE, null);
                return .{ .handle = try stage.keep(made), .address = .{ .local = name } };
            },
        }
    }

    /// A connection to the server, which may still be under way.
    pub fn connect(stage: *Stage, server: Server) !Handle {
        return stage.keep(switch (server.address) {
            .tcp => |port| c.bbipc_connect_to_ipv4_tcp_server(loopback, port, 0, 0, null),
            .local => |name| connectLocal(name.text(), null),
        });
    }

    pub fn accept(stage: *Stage, server: Server) !Handle {
        try awaitEvent(server.handle, c.BBIPC_CONNECTION_AVAILABLE);
        return stage.keep(c.bbipc_accept_connection(server.handle, null));
    }

    pub const Pair = struct { near: Handle, far: Handle };

    pub fn pairWith(stage: *Stage, server: Server) !Pair {
        const near = try stage.connect(server);
        const far = try stage.accept(server);
        try awaitEvent(near, c.BBIPC_CONNECTION_SUCCEEDED);
        return .{ .near = near, .far = far };
    }

    /// The two ends of a connection that stands.
    pub fn pair(stage: *Stage) !Pair {
        const server = try stage.makeServer(16);
        defer stage.close(server.handle);
        return stage.pairWith(server);
    }

    pub fn poller(stage: *Stage, backend: i32) !Handle {
        return stage.keep(c.bbipc_make_poller(backend, null));
    }

    /// Closes it before the test ends.
    pub fn close(stage: *Stage, handle: Handle) void {
        const index = std.mem.indexOfScalar(Handle, stage.kept.items, handle).?;
        _ = stage.kept.swapRemove(index);
        std.debug.assert(c.bbipc_close(handle) == 0);
    }
};

/// Steps that lead from state to state. `near` is the stream that is looked at.
pub const Step = struct {
    pub fn nothing(_: *Stage, _: Stage.Pair) !void {}

    pub fn farWrites(_: *Stage, pair: Stage.Pair) !void {
        try testing.expectEqual(3, write(pair.far, "abc"));
    }

    pub fn nearWrites(_: *Stage, pair: Stage.Pair) !void {
        try testing.expectEqual(3, write(pair.near, "def"));
        try awaitEvent(pair.far, c.BBIPC_DATA_AVAILABLE);
    }

    pub fn nearReads(_: *Stage, pair: Stage.Pair) !void {
        try expectBytes(pair.near, "abc");
    }

    pub fn nearFills(_: *Stage, pair: Stage.Pair) !void {
        try testing.expect(try fill(pair.near) > 0);
    }

    pub fn farDrains(_: *Stage, pair: Stage.Pair) !void {
        try testing.expect(try drain(pair.far) > 0);
    }

    pub fn farFinishes(_: *Stage, pair: Stage.Pair) !void {
        try testing.expectEqual(0, c.bbipc_finish_writing(pair.far, null));
    }

    pub fn nearFinishes(_: *Stage, pair: Stage.Pair) !void {
        try testing.expectEqual(0, c.bbipc_finish_writing(pair.near, null));
    }

    pub fn farCloses(stage: *Stage, pair: Stage.Pair) !void {
        stage.close(pair.far);
    }

    /// A TCP stack answers what comes for a closed socket with a reset.
    pub fn nearWritesToNobody(_: *Stage, pair: Stage.Pair) !void {
        try testing.expectEqual(3, write(pair.near, "def"));
    }

    pub fn all(comptime steps: anytype) *const fn (*Stage, Stage.Pair) anyerror!void {
        return struct {
            fn run(stage: *Stage, pair: Stage.Pair) anyerror!void {
                inline for (steps) |step| try step(stage, pair);
            }
        }.run;
    }
};

/// Runs a test over every namespace, and sees that it gives everything back.
pub fn eachTransport(comptime body: fn (*Stage) anyerror!void) !void {
    for ([_]Transport{ .tcp, .local }) |transport| {
        errdefer std.debug.print("over {t}:\n", .{transport});
        try onTransport(transport, body);
    }
}

pub fn onTransport(transport: Transport, comptime body: fn (*Stage) anyerror!void) !void {
    _ = try succeed(c.bbipc_prepare_to_wait(null));
    const handles_before = c.bbipc_open_handles();
    const descriptors_before = openDescriptors();
    {
        var stage: Stage = try .init(transport);
        defer stage.deinit();
        try body(&stage);
    }
    try testing.expectEqual(handles_before, c.bbipc_open_handles());
    try testing.expectEqual(descriptors_before, openDescriptors());
}

/// A private directory for the pathnames of local servers, short enough for them.
pub const Directory = struct {
    buffer: [64]u8 = undefined,
    size: usize = 0,
    names_count: usize = 0,

    pub const Name = struct {
        buffer: [96]u8 = undefined,
        size: usize,

        pub fn text(name: *const Name) []const u8 {
            return name.buffer[0..name.size];
        }

        pub fn exists(name: *const Name) bool {
            return fileExists(name.text());
        }
    };

    pub fn init() !Directory {
        var self: Directory = .{};
        var random: u64 = 0;
        testing.io.random(std.mem.asBytes(&random));
        self.size = (try std.mem.print(&self.buffer, "/tmp/bbipc-{x:0>16}", .{random})).len;
        try std.Io.Dir.createDirAbsolute(testing.io, self.text(), .default_dir);
        return self;
    }

    pub fn deinit(self: *Directory) void {
        std.Io.Dir.cwd().deleteTree(testing.io, self.text()) catch {};
    }

    pub fn text(self: *const Directory) []const u8 {
        return self.buffer[0..self.size];
    }

    /// A pathname where nothing is.
    pub fn freeName(self: *Directory) Name {
        var name: Name = .{ .size = 0 };
        name.size = (std.mem.print(&name.buffer, "{s}/{d}", .{ self.text(), self.names_count }) catch unreachable).len;
        self.names_count += 1;
        return name;
    }
};

pub fn fileExists(name: []const u8) bool {
    std.Io.Dir.accessAbsolute(testing.io, name, .{}) catch return false;
    return true;
}

/// How many descriptors this process has open. Null where the system has no way to tell that is known here.
pub fn openDescriptors() ?usize {
    if (builtin.os.tag != .linux) return null;
    const directory = std.Io.Dir.openDirAbsolute(testing.io, "/proc/self/fd", .{ .iterate = true }) catch return null;
    defer directory.close(testing.io);
    var iterator = directory.iterate();
    var count: usize = 0;
    while (iterator.next(testing.io) catch return null) |_| count += 1;
    return count;
}

/// The part of a handle that is used again.
pub fn slotOf(handle: Handle) u32 {
    return @truncate(@as(u64, @intCast(handle)));
}

pub fn slotsCount() u32 {
    handles.table.lock.lock();
    defer handles.table.lock.unlock();
    return handles.table.slots_count;
}

// ---- Other threads ----

/// Returns when so many threads wait in bbipc_poll_socket and bbipc_poll_sockets.
pub fn awaitPolling(threads: usize) !void {
    const Look = struct {
        fn count(_: void) usize {
            return handles.table.poll_waiters.list.len();
        }
    };
    try awaitCount(threads, {}, Look.count);
}

/// Returns when so many threads wait with the poller.
pub fn awaitWaiting(poller: Handle, threads: usize) !void {
    const Look = struct {
        fn count(handle: Handle) usize {
            const slot = handles.table.find(handle) orelse return 0;
            return slot.object.poller.waiters.list.len();
        }
    };
    try awaitCount(threads, poller, Look.count);
}

fn awaitCount(expected: usize, context: anytype, comptime count: fn (@TypeOf(context)) usize) !void {
    const end_ns = monotonicNs() + patience_ns;
    while (monotonicNs() < end_ns) {
        {
            handles.table.lock.lock();
            defer handles.table.lock.unlock();
            if (count(context) == expected) return;
        }
        std.Thread.yield() catch {};
    }
    return error.NobodyWaits;
}

/// What Linux says of a thread of this process under a label.
fn statusOf(thread_id: i32, comptime label: []const u8, buffer: []u8) ![]const u8 {
    var name_buffer: [64]u8 = undefined;
    const name = try std.mem.print(&name_buffer, "/proc/self/task/{d}/status", .{thread_id});
    const text = try std.Io.Dir.cwd().readFile(testing.io, name, buffer);
    const line = "\n" ++ label ++ ":";
    const start = (std.mem.indexOf(u8, text, line) orelse return error.NoSuchLine) + line.len;
    return std.mem.trim(u8, std.mem.sliceTo(text[start..], '\n'), " \t");
}

/// How often a thread of this process has gone to sleep of its own accord. Linux.
pub fn sleepsOf(thread_id: i32) !u64 {
    var buffer: [8192]u8 = undefined;
    return std.fmt.parseInt(u64, try statusOf(thread_id, "voluntary_ctxt_switches", &buffer), 10);
}

/// Returns when a thread of this process sleeps in the kernel. Linux.
pub fn awaitSleep(thread_id: i32) !void {
    const end_ns = monotonicNs() + patience_ns;
    var buffer: [8192]u8 = undefined;
    while (monotonicNs() < end_ns) {
        if ((try statusOf(thread_id, "State", &buffer))[0] == 'S') return;
        std.Thread.yield() catch {};
    }
    return error.NeverSleeps;
}

/// How much memory this process has mapped. Linux.
pub fn mappedBytes() !u64 {
    var buffer: [8192]u8 = undefined;
    const text = try std.Io.Dir.cwd().readFile(testing.io, "/proc/self/statm", &buffer);
    return try std.fmt.parseInt(u64, std.mem.sliceTo(text, ' '), 10) * std.heap.pageSize();
}

/// A call in another thread. `join` gives what it returned.
pub fn Call(comptime function: anytype) type {
    return struct {
        const Self = @This();
        const Arguments = std.meta.ArgsTuple(@TypeOf(function));

        thread: std.Thread = undefined,
        result: c.bbipc_result = 0,

        /// `call` must stay where it is until it is joined.
        pub fn start(call: *Self, arguments: Arguments) !void {
            call.* = .{};
            call.thread = try std.Thread.spawn(.{}, run, .{ call, arguments });
        }

        fn run(call: *Self, arguments: Arguments) void {
            call.result = @call(.auto, function, arguments);
        }

        pub fn join(call: *Self) c.bbipc_result {
            call.thread.join();
            return call.result;
        }
    };
}
