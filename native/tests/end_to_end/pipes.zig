//! What is particular to local streams that are named pipes: names, and operations that outlast calls and threads.

const std = @import("std");
const support = @import("support.zig");
const testing = std.testing;

const c = support.c;
const backends = support.backends;
const connectLocal = support.connectLocal;
const expectEvents = support.expectEvents;
const Handle = support.Handle;
const makeLocal = support.makeLocal;
const onTransport = support.onTransport;
const patience_ns = support.patience_ns;
const poll = support.poll;
const Stage = support.Stage;
const Step = support.Step;
const succeed = support.succeed;
const system = support.system;
const waitOnce = support.waitOnce;

const data_available: u32 = c.BBIPC_DATA_AVAILABLE;
const end_of_data: u32 = c.BBIPC_END_OF_DATA;
const severed: u32 = c.BBIPC_CONNECTION_SEVERED;
const write_space: u32 = c.BBIPC_WRITE_SPACE;

/// How long a test waits to see that nothing happens.
const nothing_ns = 50 * std.time.ns_per_ms;

/// Bytes per call to the system at most.
const write_max = 65536;

// ---- Names ----

test "a name goes with its last handle, whatever the flag for that says" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const name = stage.names.free();
            for ([_]u32{ 0, c.BBIPC_DELETE_ON_CLOSE }) |flags| {
                const server = try stage.keep(makeLocal(name.text(), 4, flags, null));
                try testing.expect(name.exists());
                const pair = try stage.pairWith(.{ .handle = server, .address = .{ .local = name } });
                stage.close(server);
                // The accepted stream still has it, and nobody listens.
                try testing.expect(name.exists());
                var code: i32 = 0;
                try support.expectSystem(.ADDRINUSE, makeLocal(name.text(), 4, flags, &code), code);
                try support.expectSystem(.AGAIN, connectLocal(name.text(), &code), code);
                stage.close(pair.far);
                stage.close(pair.near);
                try awaitFree(name);
                const nobody = connectLocal(name.text(), &code);
                try support.expectCode(c.BBIPC_ERROR_NO_LOCAL_SERVER, .NOENT, nobody, code);
            }
        }
    }.body);
}

fn awaitFree(name: support.Name) !void {
    const end_ns = support.monotonicNs() + patience_ns;
    while (support.monotonicNs() < end_ns) {
        if (!name.exists()) return;
        std.Thread.yield() catch {};
    }
    return error.NameStays;
}

test "a name that somebody has is refused, however it is written" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(4);
            const name = server.address.local.text();
            var upper: support.Name = server.address.local;
            for (upper.buffer[0..upper.size]) |*byte| byte.* = std.ascii.toUpper(byte.*);
            for ([_][]const u8{ "", "\\\\.\\pipe\\", "//./pipe/", "\\\\?\\pipe\\", "\\\\.\\PIPE/" }) |beginning| {
                for ([_][]const u8{ name, upper.text() }) |end| {
                    errdefer std.debug.print("{s}{s}:\n", .{ beginning, end });
                    var buffer: [128]u8 = undefined;
                    const whole = try std.mem.print(&buffer, "{s}{s}", .{ beginning, end });
                    var code: i32 = 0;
                    try support.expectSystem(.ADDRINUSE, makeLocal(whole, 4, 0, &code), code);
                    const near = try stage.keep(connectLocal(whole, null));
                    const far = try stage.accept(server);
                    stage.close(near);
                    stage.close(far);
                }
            }
        }
    }.body);
}

test "a name that another program has is refused" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const name = stage.names.free();
            const listener: system.Listener = try .listenLocal(name.text());
            var code: i32 = 0;
            const refused = makeLocal(name.text(), 4, 0, &code);
            const client = try system.Peer.connectLocal(name.text());
            const peer = try listener.accept();
            peer.close();
            client.close();
            try support.expectSystem(.ADDRINUSE, refused, code);
        }
    }.body);
}

test "names are UTF-8, may have separators, and need no directory" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const lone_surrogate = "-\u{ed}\u{a0}\u{80}";
            for ([_][]const u8{
                "\\missing\\nothing", "/missing/other", "-Gr\u{fc}\u{df}e \u{1f40d}", lone_surrogate,
            }) |end| {
                const name = try std.mem.concat(testing.allocator, u8, &.{ stage.names.place(), end });
                defer testing.allocator.free(name);
                errdefer std.debug.print("{s}:\n", .{name});
                var code: i32 = 0;
                errdefer std.debug.print("code {d}\n", .{code});
                const server = try stage.keep(makeLocal(name, 1, 0, &code));
                _ = try stage.keep(connectLocal(name, &code));
                _ = try stage.accept(.{ .handle = server, .address = .{ .tcp = 0 } });
            }
        }
    }.body);
}

test "names may be as long as the limit in UTF-16, and not longer, and have no NUL" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const limit: usize = @intCast(c.bbipc_local_pathname_limit());
            const prefix = "\\\\.\\pipe\\";
            var name: [1000]u8 = undefined;
            const place = stage.names.place();
            for ([_][]const u8{ "n", "\u{e4}", "\u{20ac}" }) |character| {
                const units = limit - prefix.len;
                var size = place.len;
                @memcpy(name[0..size], place);
                for (0..units - place.len) |_| {
                    @memcpy(name[size..][0..character.len], character);
                    size += character.len;
                }
                const server = try stage.keep(makeLocal(name[0..size], 1, 0, null));
                _ = try stage.keep(connectLocal(name[0..size], null));
                stage.close(server);
                @memcpy(name[size..][0..character.len], character);
                size += character.len;
                try testing.expectEqual(c.BBIPC_ERROR_NAME_TOO_LONG, makeLocal(name[0..size], 1, 0, null));
                try testing.expectEqual(c.BBIPC_ERROR_NAME_TOO_LONG, connectLocal(name[0..size], null));
            }
            for ([_]u64{ name.len, std.math.maxInt(u32), std.math.maxInt(u64) }) |size| {
                const too_long = c.BBIPC_ERROR_NAME_TOO_LONG;
                try testing.expectEqual(too_long, c.bbipc_make_local_server(&name, size, 1, -1, 0, null));
                try testing.expectEqual(too_long, c.bbipc_connect_to_local_server(&name, size, null));
                try testing.expectEqual(too_long, c.bbipc_connect_to_local_server(null, size, null));
            }
            const refused = c.BBIPC_ERROR_INVALID_ARGUMENT;
            for ([_][]const u8{
                "", "\x00", "\x00a", "a\x00", "a\x00b", "\xff", "a\xc3", prefix, "//./pipe/",
            }) |malformed| {
                errdefer std.debug.print("{x}:\n", .{malformed});
                try testing.expectEqual(refused, makeLocal(malformed, 1, 0, null));
                try testing.expectEqual(refused, connectLocal(malformed, null));
            }
            try testing.expectEqual(refused, c.bbipc_make_local_server(null, 1, 1, -1, 0, null));
            try testing.expectEqual(refused, c.bbipc_connect_to_local_server(null, 1, null));
        }
    }.body);
}

test "a server has as many places as its backlog, and again when it has accepted" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            for ([_]i32{ 1, 2, 7 }) |backlog| {
                const server = try stage.makeServer(backlog);
                for (0..2) |_| {
                    for (0..@intCast(backlog)) |_| _ = try stage.connect(server);
                    var code: i32 = 0;
                    try support.expectSystem(.AGAIN, connectLocal(server.address.local.text(), &code), code);
                    for (0..@intCast(backlog)) |_| _ = try stage.accept(server);
                }
            }
        }
    }.body);
}

// ---- Writes ----

/// As the test of the bytes has it, so that a byte in the wrong place is seen.
fn byteAt(index: usize) u8 {
    return @truncate(index *% 31 +% (index >> 8));
}

/// Writes until the system has no room. Returns how many bytes.
fn writeMost(stream: Handle) !usize {
    var data: [write_max + 1]u8 = undefined;
    var total: usize = 0;
    for (0..1000) |_| {
        for (&data, total..) |*byte, index| byte.* = byteAt(index);
        const size: usize = @intCast(try succeed(support.write(stream, &data)));
        if (size == 0) return total;
        try testing.expect(size <= write_max);
        total += size;
    }
    return error.NeverFull;
}

/// Reads to the end. Returns how many bytes.
fn readAll(stream: Handle) !usize {
    var buffer: [10_007]u8 = undefined;
    var total: usize = 0;
    while (true) {
        const events = try succeed(poll(stream, data_available | end_of_data, patience_ns));
        if (events & data_available == 0) {
            try expectEvents(end_of_data, events);
            return total;
        }
        const size: usize = @intCast(try succeed(support.read(stream, &buffer)));
        for (buffer[0..size], total..) |byte, index| try testing.expectEqual(byteAt(index), byte);
        total += size;
    }
}

test "a write that waits for the reader keeps out the next, and both arrive whole" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            const first = try writeMost(pair.near);
            try testing.expect(first >= write_max);
            try testing.expectEqual(0, support.write(pair.near, "x"));
            try expectEvents(0, poll(pair.near, write_space | c.BBIPC_READY_TO_WRITE, nothing_ns));
            try testing.expect(c.bbipc_pending_operations() > 0);
            var buffer: [write_max]u8 = undefined;
            var count: usize = 0;
            while (count < first) {
                try support.awaitEvent(pair.far, data_available);
                const size: usize = @intCast(try succeed(support.read(pair.far, &buffer)));
                for (buffer[0..size], count..) |byte, index| try testing.expectEqual(byteAt(index), byte);
                count += size;
            }
            try testing.expectEqual(first, count);
            try support.awaitEvent(pair.near, write_space);
            try testing.expectEqual(1, support.write(pair.near, "x"));
            try support.expectBytes(pair.far, "x");
        }
    }.body);
}

test "what was written before closing arrives, also what waited for the reader" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(4);
            for (0..20) |round| {
                const pair = try stage.pairWith(server);
                // Either end may be the one that writes.
                const writer, const reader = if (round % 2 == 0) .{ pair.near, pair.far } else .{ pair.far, pair.near };
                const written = try writeMost(writer);
                stage.close(writer);
                try testing.expectEqual(0, c.bbipc_finish_writes(0));
                try testing.expectEqual(0, c.bbipc_finish_writes(std.time.ns_per_ms));
                try testing.expectEqual(written, try readAll(reader));
                try testing.expectEqual(1, c.bbipc_finish_writes(patience_ns));
                stage.close(reader);
            }
            try testing.expectEqual(c.BBIPC_ERROR_INVALID_ARGUMENT, c.bbipc_finish_writes(-2));
            try testing.expectEqual(1, c.bbipc_finish_writes(c.BBIPC_FOREVER));
        }
    }.body);
}

test "a closed stream's last write ends with the reader" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            _ = try writeMost(pair.near);
            stage.close(pair.near);
            try testing.expectEqual(0, c.bbipc_finish_writes(0));
            stage.close(pair.far);
            try testing.expectEqual(1, c.bbipc_finish_writes(patience_ns));
        }
    }.body);
}

test "a write to a remote end that has gone is an error each time" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            try Step.farCloses(stage, pair);
            for (0..3) |_| {
                var code: i32 = 0;
                try support.expectSystem(.PIPE, c.bbipc_write(pair.near, "x", 0, 1, &code), code);
            }
            try testing.expectEqual(0, c.bbipc_connection_error(pair.near, null));
        }
    }.body);
}

test "a server that closes with bytes from clients that it has not accepted leaves nothing behind" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(8);
            var streams: [8]Handle = undefined;
            for (&streams) |*stream| {
                stream.* = try stage.connect(server);
                _ = try writeMost(stream.*);
            }
            stage.close(server.handle);
            for (streams) |stream| {
                try support.awaitEvent(stream, severed);
                var code: i32 = 0;
                try support.expectCode(1, .CONNRESET, c.bbipc_connection_error(stream, &code), code);
            }
        }
    }.body);
}

// ---- Waits ----

test "a write of no bytes is neither data nor an end, and wakes nobody" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(4);
            const peer = try system.Peer.connectLocal(server.address.local.text());
            defer peer.close();
            const stream = try stage.accept(server);
            const asked = data_available | end_of_data | severed | @as(u32, c.BBIPC_REMOTE_DISCONNECTED);
            const poller = try stage.poller(c.BBIPC_BACKEND_DEFAULT);
            _ = try succeed(c.bbipc_monitor_socket(poller, stream, asked, null));
            try expectEvents(0, try waitOnce(poller, stream, 0));
            var waiting: support.Call(poll) = undefined;
            try waiting.start(.{ stream, asked, patience_ns });
            try support.awaitPolling(1);
            for (0..40) |_| try peer.write("");
            try expectEvents(0, try waitOnce(poller, stream, nothing_ns));
            var buffer: [8]u8 = undefined;
            try testing.expectEqual(0, support.read(stream, &buffer));
            try expectEvents(0, poll(stream, asked, 0));
            try support.awaitPolling(1);
            try peer.write("x");
            try expectEvents(data_available, waiting.join());
            try expectEvents(data_available, try waitOnce(poller, stream, patience_ns));
            try support.expectBytes(stream, "x");
        }
    }.body);
}

test "what a thread began goes on after the thread has ended" {
    try onTransport(.local, struct {
        fn arm(poller: Handle, stream: Handle) i64 {
            const monitored = c.bbipc_monitor_socket(poller, stream, data_available | write_space, null);
            if (monitored < 0) return monitored;
            // Watched from here on, in this thread's name.
            const waited = support.waitFor(poller, 0);
            if (waited != 0) return -100;
            const data: [write_max]u8 = @splat('w');
            return support.write(stream, &data);
        }

        fn connect(name: *const support.Name) i64 {
            return connectLocal(name.text(), null);
        }

        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            const poller = try stage.poller(c.BBIPC_BACKEND_DEFAULT);
            const filled = try writeMost(pair.near);
            var arming: support.Call(arm) = undefined;
            try arming.start(.{ poller, pair.near });
            try testing.expectEqual(0, arming.join());
            try expectEvents(0, try waitOnce(poller, pair.near, nothing_ns));
            try testing.expectEqual(3, support.write(pair.far, "abc"));
            try expectEvents(data_available, try waitOnce(poller, pair.near, patience_ns));
            try support.expectBytes(pair.near, "abc");
            // The write that was under way is another thread's too: this one's stays.
            try testing.expectEqual(filled, try support.drain(pair.far));
            try support.awaitEvent(pair.near, write_space);

            var writing: support.Call(writeAsThread) = undefined;
            try writing.start(.{pair.near});
            const written: usize = @intCast(try succeed(writing.join()));
            stage.close(pair.near);
            try testing.expectEqual(written, try readAll(pair.far));

            // A server's places too, which are listened at by who makes it and by who accepts.
            const server = try stage.makeServer(1);
            const name = server.address.local;
            for (0..3) |_| {
                var connecting: support.Call(connect) = undefined;
                try connecting.start(.{&name});
                const near = try stage.keep(connecting.join());
                var accepting: support.Call(accept) = undefined;
                try accepting.start(.{server.handle});
                const far = try stage.keep(accepting.join());
                try testing.expectEqual(1, support.write(near, "x"));
                try support.expectBytes(far, "x");
            }
        }

        fn writeAsThread(stream: Handle) i64 {
            return @intCast(writeMost(stream) catch return -1);
        }

        fn accept(server: Handle) i64 {
            return c.bbipc_accept_connection(server, null);
        }
    }.body);
}

test "a socket that closes while its pipe is watched, read and written to leaves nothing behind" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(4);
            for (0..200) |round| {
                const pair = try stage.pairWith(server);
                var pollers: [2]Handle = undefined;
                for (&pollers, 0..) |*poller, index| {
                    poller.* = try stage.poller(backends[index % backends.len]);
                    _ = try succeed(c.bbipc_monitor_socket(poller.*, pair.near, data_available | severed, null));
                    const available: u32 = c.BBIPC_CONNECTION_AVAILABLE;
                    _ = try succeed(c.bbipc_monitor_socket(poller.*, server.handle, available, null));
                    try expectEvents(0, support.waitFor(poller.*, 0));
                }
                if (round % 3 != 0) _ = try writeMost(pair.near);
                if (round % 3 == 2) _ = try writeMost(pair.far);
                // In every order.
                if (round % 2 == 0) stage.close(pair.near);
                stage.close(pair.far);
                for (pollers) |poller| stage.close(poller);
                if (round % 2 != 0) stage.close(pair.near);
            }
            try testing.expectEqual(1, c.bbipc_finish_writes(patience_ns));
        }
    }.body);
}
