//! What the tests of the C interface share. They call what bbipc.h declares, as a C program would, and look behind it
//! only to learn that another thread has begun to wait.

const std = @import("std");
const builtin = @import("builtin");
const basics = @import("basics.zig");
const handles = @import("../../core/handles.zig");
const testing = std.testing;

pub const c = basics.c;
pub const Handle = basics.Handle;
pub const patience_ns = basics.patience_ns;
pub const monotonicNs = basics.monotonicNs;
pub const succeed = basics.succeed;
pub const Reason = basics.Reason;
pub const poll = basics.poll;
pub const awaitPolling = basics.awaitPolling;
pub const awaitWaiting = basics.awaitWaiting;
pub const Call = basics.Call;
pub const beginLooking = basics.beginLooking;
pub const endLooking = basics.endLooking;
pub const makeLook = basics.makeLook;
pub const hasLooked = basics.hasLooked;
pub const makeSeveralLook = basics.makeSeveralLook;

/// The tests' only switch on the operating system.
pub const system = switch (builtin.os.tag) {
    .windows => @import("windows.zig"),
    else => @import("posix.zig"),
};

pub const stream_events: u32 = c.BBIPC_STREAM_EVENTS;
pub const backends = system.backends;
/// The system's last one, for whoever needs one that is not the default where there is a choice.
pub const last_backend = backends[backends.len - 1];

/// What may be asked of a connection that stands, with nothing unread and room to write.
pub const idle: u32 = c.BBIPC_DETERMINED | c.BBIPC_CONNECTION_SUCCEEDED | c.BBIPC_READY_TO_WRITE | c.BBIPC_WRITE_SPACE |
    c.BBIPC_MESSAGE_SPACE;
/// What holds of every connection whose remote end has gone.
pub const gone: u32 = c.BBIPC_DETERMINED | c.BBIPC_CONNECTION_FAILED | c.BBIPC_REMOTE_DISCONNECTED;

/// A result that comes with a code of the system's.
pub fn expectCode(expected: i64, reason: Reason, result: c.bbipc_result, system_code: i32) !void {
    try testing.expectEqual(expected, result);
    if (isCode(reason, system_code)) return;
    std.debug.print("expected a code that says {t}, found {d}\n", .{ reason, system_code });
    return error.WrongCode;
}

pub fn expectSystem(expected: Reason, result: c.bbipc_result, system_code: i32) !void {
    return expectCode(c.BBIPC_ERROR_SYSTEM, expected, result, system_code);
}

/// Some systems have several codes that say the same.
pub fn isCode(reason: Reason, system_code: i32) bool {
    return std.mem.indexOfScalar(i32, system.codesOf(reason), system_code) != null;
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
        "MESSAGE_AVAILABLE",
        "MESSAGE_SPACE",
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
    return c.bbipc_make_local_server(name.ptr, name.len, backlog, c.BBIPC_DEFAULT_PERMISSIONS, flags, system_code);
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

/// Reads these bytes, which must come.
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
    var total: u64 = 0;
    while (try succeed(poll(stream, c.BBIPC_WRITE_SPACE, system.full_after_ns)) != 0) {
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

/// Reads until nothing comes any more, whatever the end is. Returns the number of bytes.
pub fn drainToEnd(stream: Handle) !u64 {
    const data: u32 = c.BBIPC_DATA_AVAILABLE;
    var buffer: [65536]u8 = undefined;
    var total: u64 = 0;
    while (try succeed(poll(stream, data | c.BBIPC_END_OF_DATA, patience_ns)) & data != 0) {
        const size = read(stream, &buffer);
        if (size < 0) break;
        total += @intCast(size);
    }
    return total;
}

/// Waits with a poller that has this socket alone. Returns its events, 0 if there are none.
pub fn waitOnce(poller: Handle, socket: Handle, timeout_ns: i64) !u32 {
    var sockets: [4]Handle = undefined;
    var happened: [4]u32 = undefined;
    const count = try succeed(
        c.bbipc_wait_for_events(poller, &sockets, &happened, sockets.len, timeout_ns, null, null),
    );
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
    const count = c.bbipc_wait_for_events(poller, &sockets, &happened, sockets.len, timeout_ns, null, null);
    return if (count == 1) happened[0] else count;
}

// ---- Sockets of every namespace ----

/// TCP over IPv4, over IPv6, and local streams.
pub const Transport = enum { tcp, tcp6, local };

/// What a stream is to the system. Local streams are Unix domain sockets or named pipes.
pub const Kind = enum { tcp, unix, pipe };

const loopback = 0x7f000001;
pub const ipv6_loopback: [16]u8 = @as([15]u8, @splat(0)) ++ .{1};

var said_that_ipv6_lacks = false;

/// Whether this machine has ::1. Says so once if it has not.
pub fn hasIpv6() bool {
    const server = c.bbipc_make_ipv6_tcp_server(&ipv6_loopback, 0, 0, 1, 0, null);
    if (server > 0) return c.bbipc_close(server) == 0;
    if (!said_that_ipv6_lacks) std.debug.print("this machine has no ::1: nothing is tested over IPv6\n", .{});
    said_that_ipv6_lacks = true;
    return false;
}

/// One namespace's sockets, as a test uses them. What it makes, it closes.
pub const Stage = struct {
    transport: Transport,
    names: Names,
    kept: std.ArrayList(Handle) = .empty,

    pub fn init(transport: Transport) !Stage {
        return .{ .transport = transport, .names = try .init() };
    }

    pub fn deinit(stage: *Stage) void {
        for (stage.kept.items) |handle| _ = c.bbipc_close(handle);
        stage.kept.deinit(testing.allocator);
        stage.names.deinit();
    }

    pub fn kind(stage: *const Stage) Kind {
        return switch (stage.transport) {
            .tcp, .tcp6 => .tcp,
            .local => if (system.has_pipes) .pipe else .unix,
        };
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
        address: union(Transport) { tcp: u16, tcp6: u16, local: Name },

        pub fn port(server: Server) u16 {
            return switch (server.address) {
                .tcp, .tcp6 => |number| number,
                .local => unreachable,
            };
        }
    };

    pub fn makeServer(stage: *Stage, backlog: i32) !Server {
        switch (stage.transport) {
            .tcp => {
                const handle = try stage.keep(c.bbipc_make_ipv4_tcp_server(loopback, 0, backlog, 0, null));
                var port: u16 = 0;
                _ = try succeed(c.bbipc_ipv4_local_address(handle, null, &port, null));
                return .{ .handle = handle, .address = .{ .tcp = port } };
            },
            .tcp6 => {
                const made = c.bbipc_make_ipv6_tcp_server(&ipv6_loopback, 0, 0, backlog, 0, null);
                const handle = try stage.keep(made);
                var port: u16 = 0;
                _ = try succeed(c.bbipc_ipv6_local_address(handle, null, null, &port, null));
                return .{ .handle = handle, .address = .{ .tcp6 = port } };
            },
            .local => {
                const name = stage.names.free();
                const made = makeLocal(name.text(), backlog, c.BBIPC_DELETE_ON_CLOSE, null);
                return .{ .handle = try stage.keep(made), .address = .{ .local = name } };
            },
        }
    }

    /// A connection to the server, which may still be under way.
    pub fn connect(stage: *Stage, server: Server) !Handle {
        return stage.keep(switch (server.address) {
            .tcp, .tcp6 => stage.connectFrom(server, 0, 0, null),
            .local => |name| connectLocal(name.text(), null),
        });
    }

    /// By TCP, from a port of this end's.
    pub fn connectFrom(_: *Stage, server: Server, local_port: u16, flags: u32, code: ?*i32) c.bbipc_result {
        const connect6 = c.bbipc_connect_to_ipv6_tcp_server;
        return switch (server.address) {
            .tcp => |port| c.bbipc_connect_to_ipv4_tcp_server(loopback, port, 0, local_port, flags, code),
            .tcp6 => |port| connect6(&ipv6_loopback, 0, port, null, 0, local_port, flags, code),
            .local => unreachable,
        };
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

    /// Sends no more: finishes, or closes what can't be finished.
    pub fn end(stage: *Stage, stream: Handle) void {
        if (stage.kind() == .pipe) return stage.close(stream);
        std.debug.assert(c.bbipc_finish_writing(stream, null) == 0);
    }

    /// Closes it with bytes unread, which resets a TCP connection.
    pub fn reset(stage: *Stage, stream: Handle) !void {
        if (stage.kind() == .tcp) try system.prepareReset(try succeed(c.bbipc_fileno(stream)));
        stage.close(stream);
    }

    /// Lets the kernel hear what it will tell of a stream, without the library.
    pub fn awaitArrival(stage: *Stage, stream: Handle, events: u32) !void {
        if (stage.kind() == .pipe) return; // whose calls do it
        try system.awaitBehind(try succeed(c.bbipc_fileno(stream)), events);
    }

    /// What can be asked of a state without changing it: a wait for a message reads the bytes that hide an end.
    pub fn askable(stage: *const Stage, events: u32, way: Ending) u32 {
        const changes = stage.shown(events, way) != events;
        return if (changes) stream_events & ~@as(u32, c.BBIPC_MESSAGE_AVAILABLE) else stream_events;
    }

    /// What the system shows of a state.
    pub fn shown(stage: *const Stage, events: u32, way: Ending) u32 {
        if (stage.kind() != .tcp) return events;
        const unread: u32 = c.BBIPC_DATA_AVAILABLE | c.BBIPC_REMOTE_DISCONNECTED;
        if (events & unread != unread) return events;
        switch (way) {
            .reset => {
                if (system.resetKeepsData()) return events;
                return gone | c.BBIPC_END_OF_DATA | c.BBIPC_CONNECTION_SEVERED;
            },
            .orderly => {
                // What both ends have finished is told at once everywhere.
                if (!system.hidesEndOfTcp() or events & c.BBIPC_CONNECTION_SEVERED != 0) return events;
                const stands: u32 = c.BBIPC_DETERMINED | c.BBIPC_CONNECTION_SUCCEEDED | c.BBIPC_DATA_AVAILABLE;
                const space: u32 = c.BBIPC_READY_TO_WRITE | c.BBIPC_WRITE_SPACE | c.BBIPC_MESSAGE_SPACE;
                return if (events & c.BBIPC_WRITE_SPACE != 0) stands | space else stands;
            },
        }
    }
};

/// How the remote end has gone, if it has.
pub const Ending = enum { orderly, reset };

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

    pub fn nearReadsRest(stage: *Stage, pair: Stage.Pair) !void {
        // A reset has left nothing.
        if (stage.kind() == .tcp and !system.resetKeepsData()) return;
        try nearReads(stage, pair);
    }

    pub fn nearFills(_: *Stage, pair: Stage.Pair) !void {
        try testing.expect(try fill(pair.near) > 0);
    }

    pub fn farDrains(_: *Stage, pair: Stage.Pair) !void {
        try testing.expect(try drain(pair.far) > 0);
    }

    /// To no effect where a pipe can't be finished.
    pub fn farFinishes(stage: *Stage, pair: Stage.Pair) !void {
        try expectFinish(stage, pair.far);
    }

    pub fn nearFinishes(stage: *Stage, pair: Stage.Pair) !void {
        try expectFinish(stage, pair.near);
    }

    fn expectFinish(stage: *Stage, stream: Handle) !void {
        const expected = if (stage.kind() == .pipe) c.BBIPC_ERROR_UNSUPPORTED else 0;
        try testing.expectEqual(expected, c.bbipc_finish_writing(stream, null));
    }

    pub fn farEnds(stage: *Stage, pair: Stage.Pair) !void {
        stage.end(pair.far);
    }

    pub fn farCloses(stage: *Stage, pair: Stage.Pair) !void {
        stage.close(pair.far);
    }

    pub fn farResets(stage: *Stage, pair: Stage.Pair) !void {
        try stage.reset(pair.far);
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

/// How often to do what goes wrong only now and then. Valgrind looks for other faults, and takes a hundred times as
/// long.
pub fn often(times: usize) usize {
    return if (std.valgrind.runningOnValgrind() > 0) times / 100 else times;
}

/// Runs a test over every namespace, and sees that it gives everything back.
pub fn eachTransport(comptime body: fn (*Stage) anyerror!void) !void {
    return overAll(&.{ .tcp, .tcp6, .local }, body);
}

/// The same for a test to which TCP's family is all the same.
pub fn eachKind(comptime body: fn (*Stage) anyerror!void) !void {
    return overAll(&.{ .tcp, .local }, body);
}

pub fn eachTcp(comptime body: fn (*Stage) anyerror!void) !void {
    return overAll(&.{ .tcp, .tcp6 }, body);
}

fn overAll(transports: []const Transport, comptime body: fn (*Stage) anyerror!void) !void {
    for (transports) |transport| {
        // Valgrind takes minutes for what no family of TCP does in a way of its own.
        const is_left_out = !hasIpv6() or std.valgrind.runningOnValgrind() > 0;
        if (transport == .tcp6 and is_left_out) continue;
        errdefer std.debug.print("over {t}:\n", .{transport});
        try onTransport(transport, body);
    }
}

pub fn onTransport(transport: Transport, comptime body: fn (*Stage) anyerror!void) !void {
    try system.warmUp();
    const handles_before = c.bbipc_open_handles();
    const descriptors_before = try system.openDescriptors(testing.io);
    {
        var stage: Stage = try .init(transport);
        defer stage.deinit();
        try body(&stage);
    }
    try testing.expectEqual(handles_before, c.bbipc_open_handles());
    // Where operations can be under way, they take a moment to end.
    const end_ns = monotonicNs() + patience_ns;
    while (monotonicNs() < end_ns) {
        if (c.bbipc_pending_operations() == 0 and
            try system.openDescriptors(testing.io) == descriptors_before) break;
        std.Thread.yield() catch {};
    }
    try testing.expectEqual(0, c.bbipc_pending_operations());
    try testing.expectEqual(descriptors_before, try system.openDescriptors(testing.io));
}

/// A name for a local server.
pub const Name = struct {
    buffer: [96]u8 = undefined,
    size: usize = 0,

    pub fn text(name: *const Name) []const u8 {
        return name.buffer[0..name.size];
    }

    pub fn exists(name: *const Name) bool {
        return nameExists(name.text());
    }
};

pub fn nameExists(name: []const u8) bool {
    return system.nameExists(testing.io, name);
}

/// Names that nobody else uses, for local servers.
pub const Names = struct {
    buffer: [64]u8 = undefined,
    size: usize = 0,
    count: usize = 0,

    pub fn init() !Names {
        var self: Names = .{};
        self.size = (try system.makePlace(testing.io, &self.buffer)).len;
        return self;
    }

    pub fn deinit(self: *Names) void {
        system.removePlace(testing.io, self.place());
    }

    /// What they all begin with: a directory, where the system has such.
    pub fn place(self: *const Names) []const u8 {
        return self.buffer[0..self.size];
    }

    /// A name that is free.
    pub fn free(self: *Names) Name {
        var name: Name = .{};
        const format = "{s}" ++ .{system.separator} ++ "{d}";
        name.size = (std.mem.print(&name.buffer, format, .{ self.place(), self.count }) catch unreachable).len;
        self.count += 1;
        return name;
    }
};

/// The part of a handle that is used again.
pub fn slotOf(handle: Handle) u32 {
    return @truncate(@as(u64, @intCast(handle)));
}

pub fn slotsCount() u32 {
    handles.lock.lock();
    defer handles.lock.unlock();
    return handles.table.slots_count;
}

// ---- Other threads ----

/// Does what Ctrl-C does where no signal handler runs in the waiting thread.
pub fn interruptAll() void {
    handles.table.interruptAll();
}
