//! Wrong handles, kinds, events and arguments, for every function.

const std = @import("std");
const support = @import("support.zig");
const testing = std.testing;

const c = support.c;
const eachTransport = support.eachTransport;
const expectEvents = support.expectEvents;
const Handle = support.Handle;
const onTransport = support.onTransport;
const poll = support.poll;
const Stage = support.Stage;
const Step = support.Step;
const stream_events = support.stream_events;
const succeed = support.succeed;
const waitFor = support.waitFor;

const data_available: u32 = c.BBIPC_DATA_AVAILABLE;
const connection_available: u32 = c.BBIPC_CONNECTION_AVAILABLE;

const Kinds = struct {
    tcp_server: bool = false,
    local_server: bool = false,
    tcp_stream: bool = false,
    local_stream: bool = false,
    poller: bool = false,
};

/// A function that takes a handle, called with good arguments otherwise.
const HandleCall = struct {
    name: []const u8,
    takes: Kinds,
    run: *const fn (Handle, Handle) i64,

    const sockets: Kinds = .{ .tcp_server = true, .local_server = true, .tcp_stream = true, .local_stream = true };
    const streams: Kinds = .{ .tcp_stream = true, .local_stream = true };
    const pollers: Kinds = .{ .poller = true };
};

const handle_calls = [_]HandleCall{
    .{ .name = "fileno", .takes = HandleCall.sockets, .run = struct {
        fn run(handle: Handle, _: Handle) i64 {
            return orUnsupportedByPipes(c.bbipc_fileno(handle));
        }
    }.run },
    .{ .name = "namespace", .takes = HandleCall.sockets, .run = struct {
        fn run(handle: Handle, _: Handle) i64 {
            return c.bbipc_namespace(handle);
        }
    }.run },
    .{ .name = "local_pathname", .takes = .{ .local_server = true, .local_stream = true }, .run = struct {
        fn run(handle: Handle, _: Handle) i64 {
            var buffer: [300]u8 = undefined;
            return orUnsupportedByPipes(c.bbipc_local_pathname(handle, &buffer, buffer.len, null));
        }
    }.run },
    .{ .name = "ipv4_local_address", .takes = .{ .tcp_server = true, .tcp_stream = true }, .run = struct {
        fn run(handle: Handle, _: Handle) i64 {
            return c.bbipc_ipv4_local_address(handle, null, null, null);
        }
    }.run },
    .{ .name = "ipv4_remote_address", .takes = .{ .tcp_stream = true }, .run = struct {
        fn run(handle: Handle, _: Handle) i64 {
            return c.bbipc_ipv4_remote_address(handle, null, null);
        }
    }.run },
    // There is none of IPv6 among them.
    .{ .name = "ipv6_local_address", .takes = .{}, .run = struct {
        fn run(handle: Handle, _: Handle) i64 {
            return c.bbipc_ipv6_local_address(handle, null, null, null, null);
        }
    }.run },
    .{ .name = "ipv6_remote_address", .takes = .{}, .run = struct {
        fn run(handle: Handle, _: Handle) i64 {
            return c.bbipc_ipv6_remote_address(handle, null, null, null);
        }
    }.run },
    .{ .name = "accept_connection", .takes = .{ .tcp_server = true, .local_server = true }, .run = struct {
        fn run(handle: Handle, _: Handle) i64 {
            const result = c.bbipc_accept_connection(handle, null);
            return if (result == c.BBIPC_ERROR_NO_CONNECTION) 0 else result;
        }
    }.run },
    .{ .name = "read", .takes = HandleCall.streams, .run = struct {
        fn run(handle: Handle, _: Handle) i64 {
            var buffer: [4]u8 = undefined;
            return support.read(handle, &buffer);
        }
    }.run },
    .{ .name = "write", .takes = HandleCall.streams, .run = struct {
        fn run(handle: Handle, _: Handle) i64 {
            return support.write(handle, "x");
        }
    }.run },
    .{ .name = "read_exactly", .takes = HandleCall.streams, .run = struct {
        fn run(handle: Handle, _: Handle) i64 {
            var buffer: [4]u8 = undefined;
            return c.bbipc_read_exactly(handle, &buffer, 0, buffer.len, 0, null);
        }
    }.run },
    .{ .name = "write_all", .takes = HandleCall.streams, .run = struct {
        fn run(handle: Handle, _: Handle) i64 {
            return c.bbipc_write_all(handle, "x", 0, 1, 0, null);
        }
    }.run },
    .{ .name = "connection_error", .takes = HandleCall.streams, .run = struct {
        fn run(handle: Handle, _: Handle) i64 {
            return c.bbipc_connection_error(handle, null);
        }
    }.run },
    .{ .name = "poll_socket", .takes = HandleCall.sockets, .run = struct {
        fn run(handle: Handle, _: Handle) i64 {
            return poll(handle, 0, 0);
        }
    }.run },
    .{ .name = "poll_sockets", .takes = HandleCall.sockets, .run = struct {
        fn run(handle: Handle, _: Handle) i64 {
            var happened: u32 = 0;
            const asked: u32 = 0;
            return c.bbipc_poll_sockets(&handle, &asked, &happened, 1, 0, null, null, null);
        }
    }.run },
    .{ .name = "poller_backend", .takes = HandleCall.pollers, .run = struct {
        fn run(handle: Handle, _: Handle) i64 {
            return c.bbipc_poller_backend(handle);
        }
    }.run },
    .{
        .name = "poller_fileno",
        .takes = HandleCall.pollers,
        .run = struct {
            fn run(handle: Handle, _: Handle) i64 {
                // A completion port has none.
                return orUnsupportedByPipes(c.bbipc_poller_fileno(handle, null));
            }
        }.run,
    },
    .{ .name = "monitor_socket, as the poller", .takes = HandleCall.pollers, .run = struct {
        fn run(handle: Handle, other: Handle) i64 {
            const result = c.bbipc_monitor_socket(handle, other, 0, null);
            if (result == 0) _ = c.bbipc_unmonitor_socket(handle, other);
            return result;
        }
    }.run },
    .{ .name = "unmonitor_socket, as the poller", .takes = HandleCall.pollers, .run = struct {
        fn run(handle: Handle, other: Handle) i64 {
            return c.bbipc_unmonitor_socket(handle, other);
        }
    }.run },
    .{ .name = "monitored_events, as the poller", .takes = HandleCall.pollers, .run = struct {
        fn run(handle: Handle, other: Handle) i64 {
            return orNotMonitored(c.bbipc_monitored_events(handle, other));
        }
    }.run },
    .{ .name = "set_monitored_events, as the poller", .takes = HandleCall.pollers, .run = struct {
        fn run(handle: Handle, other: Handle) i64 {
            return orNotMonitored(c.bbipc_set_monitored_events(handle, other, 0, null));
        }
    }.run },
    .{ .name = "monitored_sockets", .takes = HandleCall.pollers, .run = struct {
        fn run(handle: Handle, _: Handle) i64 {
            return c.bbipc_monitored_sockets(handle, null, 0);
        }
    }.run },
    .{ .name = "wait_for_events", .takes = HandleCall.pollers, .run = struct {
        fn run(handle: Handle, _: Handle) i64 {
            return waitFor(handle, 0);
        }
    }.run },
    .{ .name = "wake", .takes = HandleCall.pollers, .run = struct {
        fn run(handle: Handle, _: Handle) i64 {
            return c.bbipc_wake(handle);
        }
    }.run },
    .{ .name = "finish_writing", .takes = HandleCall.streams, .run = struct {
        fn run(handle: Handle, _: Handle) i64 {
            return orUnsupportedByPipes(c.bbipc_finish_writing(handle, null));
        }
    }.run },
};

/// Functions that take a socket in a poller's company. `other` is the poller here.
const poller_calls = [_]HandleCall{
    .{ .name = "monitor_socket", .takes = HandleCall.sockets, .run = struct {
        fn run(handle: Handle, poller: Handle) i64 {
            const result = c.bbipc_monitor_socket(poller, handle, 0, null);
            if (result == 0) _ = c.bbipc_unmonitor_socket(poller, handle);
            return result;
        }
    }.run },
    .{ .name = "set_monitored_events", .takes = HandleCall.sockets, .run = struct {
        fn run(handle: Handle, poller: Handle) i64 {
            return orNotMonitored(c.bbipc_set_monitored_events(poller, handle, 0, null));
        }
    }.run },
};

/// Functions for which a socket that is gone is as good as one that was never monitored.
const forgiving_calls = [_]HandleCall{
    .{ .name = "unmonitor_socket", .takes = HandleCall.sockets, .run = struct {
        fn run(handle: Handle, poller: Handle) i64 {
            return c.bbipc_unmonitor_socket(poller, handle);
        }
    }.run },
    .{ .name = "monitored_events", .takes = HandleCall.sockets, .run = struct {
        fn run(handle: Handle, poller: Handle) i64 {
            return orNotMonitored(c.bbipc_monitored_events(poller, handle));
        }
    }.run },
};

/// As good as success: the handles were right.
fn orNotMonitored(result: i64) i64 {
    return if (result == c.BBIPC_ERROR_NOT_MONITORED) 0 else result;
}

fn orUnsupportedByPipes(result: i64) i64 {
    return if (support.system.has_pipes and result == c.BBIPC_ERROR_UNSUPPORTED) 0 else result;
}

test "each function takes its own kinds of handle and refuses the others" {
    try onTransport(.tcp, struct {
        fn body(stage: *Stage) !void {
            var local: Stage = try .init(.local);
            defer local.deinit();
            const poller = try stage.poller(c.BBIPC_BACKEND_DEFAULT);
            const objects = .{
                .tcp_server = (try stage.makeServer(1)).handle,
                .local_server = (try local.makeServer(1)).handle,
                .tcp_stream = (try stage.pair()).near,
                .local_stream = (try local.pair()).near,
                .poller = poller,
            };
            const socket = objects.tcp_server;
            inline for (@typeInfo(Kinds).@"struct".field_names) |kind| {
                for (handle_calls) |call| {
                    errdefer std.debug.print("{s} of a {s}:\n", .{ call.name, kind });
                    try expectKind(@field(call.takes, kind), call.run(@field(objects, kind), socket));
                }
                for (poller_calls ++ forgiving_calls) |call| {
                    errdefer std.debug.print("{s} of a {s}:\n", .{ call.name, kind });
                    try expectKind(@field(call.takes, kind), call.run(@field(objects, kind), poller));
                }
            }
        }

        fn expectKind(takes: bool, result: i64) !void {
            if (takes) try testing.expect(result >= 0) else try testing.expectEqual(c.BBIPC_ERROR_WRONG_KIND, result);
        }
    }.body);
}

test "made-up, closed and negative handles are refused by every function" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            const poller = try stage.poller(c.BBIPC_BACKEND_DEFAULT);
            const closed = try stage.poller(support.last_backend);
            stage.close(closed);
            const top: Handle = 1 << 62;
            const handles = [_]Handle{
                0,                     -1,                    1,          pair.near + top,
                pair.near + (1 << 32), pair.near ^ (1 << 31), closed,     closed + (1 << 32),
                std.math.maxInt(i64),  std.math.minInt(i64),  -pair.near, 0xffff_ffff,
            };
            for (handles) |handle| {
                errdefer std.debug.print("handle {x}:\n", .{handle});
                for (handle_calls) |call| {
                    errdefer std.debug.print("{s}:\n", .{call.name});
                    try testing.expectEqual(c.BBIPC_ERROR_INVALID_HANDLE, call.run(handle, pair.near));
                }
                for (poller_calls) |call| {
                    errdefer std.debug.print("{s}:\n", .{call.name});
                    try testing.expectEqual(c.BBIPC_ERROR_INVALID_HANDLE, call.run(handle, poller));
                }
                for (forgiving_calls) |call| try testing.expectEqual(0, call.run(handle, poller));
                try testing.expectEqual(c.BBIPC_ERROR_INVALID_HANDLE, c.bbipc_close(handle));
            }
        }
    }.body);
}

test "a handle is never given twice, and a stale one never means what took its place" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            const poller = try stage.poller(c.BBIPC_BACKEND_DEFAULT);
            // Enough handles that every free slot is used, and some slots again.
            var stale: std.ArrayList(Handle) = .empty;
            defer stale.deinit(testing.allocator);
            const count = support.slotsCount() + 100;
            for (0..count) |_| {
                const server = try stage.makeServer(1);
                stage.close(server.handle);
                try stale.append(testing.allocator, server.handle);
            }
            std.mem.sortUnstable(Handle, stale.items, {}, std.sort.asc(Handle));
            for (stale.items[1..], stale.items[0 .. count - 1]) |handle, before| try testing.expect(handle != before);

            // Something in many of the slots.
            var open: [100]Handle = undefined;
            for (&open) |*handle| handle.* = try stage.poller(support.last_backend);
            defer for (open) |handle| stage.close(handle);
            var slots_shared: usize = 0;
            for (stale.items) |handle| {
                for (open) |other| slots_shared += @intFromBool(support.slotOf(handle) == support.slotOf(other));
                for (handle_calls) |call| {
                    try testing.expectEqual(c.BBIPC_ERROR_INVALID_HANDLE, call.run(handle, pair.near));
                }
                for (poller_calls) |call| {
                    try testing.expectEqual(c.BBIPC_ERROR_INVALID_HANDLE, call.run(handle, poller));
                }
                try testing.expectEqual(c.BBIPC_ERROR_INVALID_HANDLE, c.bbipc_close(handle));
            }
            try testing.expect(slots_shared > 0);
        }
    }.body);
}

test "closing counts, and closing twice is an error" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const before = c.bbipc_open_handles();
            const poller = try succeed(c.bbipc_make_poller(c.BBIPC_BACKEND_DEFAULT, null));
            try testing.expectEqual(before + 1, c.bbipc_open_handles());
            try testing.expectEqual(0, c.bbipc_close(poller));
            try testing.expectEqual(before, c.bbipc_open_handles());
            try testing.expectEqual(c.BBIPC_ERROR_INVALID_HANDLE, c.bbipc_close(poller));
            try testing.expectEqual(before, c.bbipc_open_handles());
            const pair = try stage.pair();
            try testing.expectEqual(before + 2, c.bbipc_open_handles());
            stage.close(pair.near);
            stage.close(pair.far);
            try testing.expectEqual(before, c.bbipc_open_handles());
        }
    }.body);
}

test "events that the socket's kind can't have are refused" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(1);
            const pair = try stage.pair();
            const poller = try stage.poller(c.BBIPC_BACKEND_DEFAULT);
            try testing.expectEqual(0, c.bbipc_monitor_socket(poller, server.handle, 0, null));
            try testing.expectEqual(0, c.bbipc_monitor_socket(poller, pair.near, 0, null));
            const other = try stage.poller(c.BBIPC_BACKEND_DEFAULT);
            for ([_]struct { Handle, u32 }{
                .{ server.handle, stream_events | connection_available },
                .{ server.handle, data_available },
                .{ server.handle, 1 << 31 },
                .{ pair.near, connection_available },
                .{ pair.near, data_available | connection_available },
                .{ pair.near, 0x1000 },
                .{ pair.near, 1 << 30 },
                .{ pair.near, 1 << 31 },
                .{ pair.near, 0xffff_ffff },
            }) |wrong| {
                const socket, const events = wrong;
                const refused = c.BBIPC_ERROR_WRONG_EVENTS;
                try testing.expectEqual(refused, poll(socket, events, c.BBIPC_FOREVER));
                try testing.expectEqual(refused, c.bbipc_monitor_socket(other, socket, events, null));
                try testing.expectEqual(refused, c.bbipc_set_monitored_events(poller, socket, events, null));
                const sockets = [_]Handle{ pair.near, socket };
                const asked = [_]u32{ data_available, events };
                var happened: [2]u32 = undefined;
                var index: u64 = 17;
                const result = c.bbipc_poll_sockets(
                    &sockets,
                    &asked,
                    &happened,
                    2,
                    c.BBIPC_FOREVER,
                    null,
                    &index,
                    null,
                );
                try testing.expectEqual(refused, result);
                try testing.expectEqual(1, index);
            }
            try testing.expectEqual(0, c.bbipc_monitored_sockets(other, null, 0));
            try expectEvents(0, c.bbipc_monitored_events(poller, pair.near));
        }
    }.body);
}

test "arguments outside their range are refused, and nothing is done" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const refused = c.BBIPC_ERROR_INVALID_ARGUMENT;
            const pair = try stage.pair();
            try Step.farWrites(stage, pair);
            try support.awaitEvent(pair.near, data_available);
            var buffer: [8]u8 = @splat('.');
            const huge = std.math.maxInt(u64);
            const crossed = [_][2]u64{ .{ 3, 2 }, .{ 1, 0 }, .{ 8, 7 }, .{ huge, 0 } };
            const beyond_memory = [_][2]u64{ .{ 0, huge }, .{ huge - 1, huge } };
            for (crossed ++ beyond_memory) |range| {
                const start, const end = range;
                try testing.expectEqual(refused, c.bbipc_read(pair.near, &buffer, start, end, 0, null));
                try testing.expectEqual(refused, c.bbipc_write(pair.near, &buffer, start, end, null));
            }
            try testing.expectEqual(refused, c.bbipc_read(pair.near, null, 0, 1, 0, null));
            try testing.expectEqual(refused, c.bbipc_write(pair.near, null, 0, 1, null));
            try testing.expectEqual(0, c.bbipc_read(pair.near, null, 0, 0, 0, null));
            try testing.expectEqual(0, c.bbipc_write(pair.near, null, huge, huge, null));
            for ([_]u32{ 2, 3, 1 << 31, 0xffff_ffff }) |flags| {
                try testing.expectEqual(refused, c.bbipc_read(pair.near, &buffer, 0, 8, flags, null));
                try testing.expectEqual(refused, c.bbipc_make_ipv4_tcp_server(0, 0, 1, flags, null));
            }
            for ([_]u32{ 4, 5, 1 << 31, 0xffff_ffff }) |flags| {
                try testing.expectEqual(refused, c.bbipc_make_local_server("a", 1, 1, -1, flags, null));
            }
            for ([_]i32{ -2, 0o1000, std.math.maxInt(i32), std.math.minInt(i32) }) |permissions| {
                try testing.expectEqual(refused, c.bbipc_make_local_server("a", 1, 1, permissions, 0, null));
            }
            try testing.expectEqualStrings("........", &buffer);
            try support.expectBytes(pair.near, "abc");
            try expectEvents(0, poll(pair.far, data_available, 0));

            for ([_]i32{ -1, std.math.minInt(i32) }) |backlog| {
                try testing.expectEqual(refused, c.bbipc_make_ipv4_tcp_server(0, 0, backlog, 0, null));
                try testing.expectEqual(refused, c.bbipc_make_local_server("a", 1, backlog, -1, 0, null));
            }
            const poller = try stage.poller(c.BBIPC_BACKEND_DEFAULT);
            var happened: [4]u32 = undefined;
            var sockets: [4]Handle = @splat(pair.near);
            const asked: [4]u32 = @splat(data_available);
            for ([_]i64{ -2, std.math.minInt(i64) }) |timeout_ns| {
                try testing.expectEqual(refused, poll(pair.near, data_available, timeout_ns));
                try testing.expectEqual(refused, waitFor(poller, timeout_ns));
                const result = c.bbipc_poll_sockets(&sockets, &asked, &happened, 1, timeout_ns, null, null, null);
                try testing.expectEqual(refused, result);
            }
            const all = c.bbipc_poll_sockets;
            try testing.expectEqual(refused, all(null, &asked, &happened, 1, 0, null, null, null));
            try testing.expectEqual(refused, all(&sockets, null, &happened, 1, 0, null, null, null));
            try testing.expectEqual(refused, all(&sockets, &asked, null, 1, 0, null, null, null));
            for ([_]u64{ 1 << 31, 1 << 61, huge }) |count| {
                try testing.expectEqual(refused, all(&sockets, &asked, &happened, count, 0, null, null, null));
            }
            const wait = c.bbipc_wait_for_events;
            try testing.expectEqual(refused, wait(poller, &sockets, &happened, 0, 0, null, null));
            try testing.expectEqual(refused, wait(poller, null, &happened, 1, 0, null, null));
            try testing.expectEqual(refused, wait(poller, &sockets, null, 1, 0, null, null));
            try testing.expectEqual(0, wait(poller, &sockets, &happened, huge, 0, null, null));
            try testing.expectEqual(refused, c.bbipc_monitored_sockets(poller, null, 1));
            const unknown = [_]i32{ -1, 5, std.math.maxInt(i32), std.math.minInt(i32) };
            for (unknown ++ support.system.backends_lacking) |backend| {
                try testing.expectEqual(c.BBIPC_ERROR_UNSUPPORTED, c.bbipc_make_poller(backend, null));
            }
        }
    }.body);
}

test "the system's code is stored where it is promised, and left alone elsewhere" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            var buffer: [4]u8 = undefined;
            var code: i32 = 17;
            try testing.expectEqual(c.BBIPC_ERROR_INVALID_HANDLE, c.bbipc_read(-1, &buffer, 0, 4, 0, &code));
            try testing.expectEqual(c.BBIPC_ERROR_INVALID_ARGUMENT, c.bbipc_read(pair.near, &buffer, 4, 3, 0, &code));
            try testing.expectEqual(0, c.bbipc_read(pair.near, &buffer, 0, 4, 0, &code));
            try testing.expectEqual(17, code);
            const name = stage.names.free();
            const nobody = support.connectLocal(name.text(), &code);
            try support.expectCode(c.BBIPC_ERROR_NO_LOCAL_SERVER, .NOENT, nobody, code);
        }
    }.body);
}
