//! What is written is what is read.

const std = @import("std");
const support = @import("support.zig");
const testing = std.testing;

const c = support.c;
const backends = support.backends;
const eachTransport = support.eachTransport;
const Handle = support.Handle;
const patience_ns = support.patience_ns;
const poll = support.poll;
const Stage = support.Stage;
const succeed = support.succeed;
const waitOnce = support.waitOnce;

const data_available: u32 = c.BBIPC_DATA_AVAILABLE;
const end_of_data: u32 = c.BBIPC_END_OF_DATA;
const write_space: u32 = c.BBIPC_WRITE_SPACE;

// ---- Bytes ----

test "what is written is read, in both directions" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            try testing.expectEqual(0, support.read(pair.near, &[_]u8{}));
            try testing.expectEqual(5, support.write(pair.near, "hello"));
            try support.expectBytes(pair.far, "hello");
            try testing.expectEqual(7, support.write(pair.far, "goodbye"));
            try support.expectBytes(pair.near, "goodbye");
            var buffer: [8]u8 = undefined;
            try testing.expectEqual(0, support.read(pair.near, &buffer));
        }
    }.body);
}

test "start and end choose a part of the buffer, and nothing else is touched" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            try testing.expectEqual(3, c.bbipc_write(pair.near, "abcdef", 2, 5, null));
            try support.awaitEvent(pair.far, data_available);
            var buffer = "........".*;
            try testing.expectEqual(2, c.bbipc_read(pair.far, &buffer, 1, 3, 0, null));
            try testing.expectEqualStrings(".cd.....", &buffer);
            try testing.expectEqual(0, c.bbipc_read(pair.far, &buffer, 8, 8, 0, null));
            try testing.expectEqual(1, c.bbipc_read(pair.far, &buffer, 7, 8, 0, null));
            try testing.expectEqualStrings(".cd....e", &buffer);
        }
    }.body);
}

test "peeking leaves the bytes where they are" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            try testing.expectEqual(3, support.write(pair.near, "abc"));
            try support.awaitEvent(pair.far, data_available);
            var buffer: [3]u8 = undefined;
            for (0..2) |_| {
                try testing.expectEqual(3, c.bbipc_read(pair.far, &buffer, 0, 3, c.BBIPC_PEEK, null));
                try testing.expectEqualStrings("abc", &buffer);
            }
            try support.expectBytes(pair.far, "abc");
            try testing.expectEqual(0, c.bbipc_read(pair.far, &buffer, 0, 3, c.BBIPC_PEEK, null));
        }
    }.body);
}

test "a mebibyte is echoed through full buffers, byte for byte" {
    try eachTransport(struct {
        const total = 1 << 20;

        fn body(stage: *Stage) !void {
            for (backends) |backend| {
                const pair = try stage.pair();
                var echo: support.Call(serve) = undefined;
                try echo.start(.{ pair.far, backend });
                const sent = send(pair.near);
                // Whatever went wrong, the other thread must end.
                stage.end(pair.near);
                try testing.expectEqual(total, echo.join());
                try sent;
            }
        }

        fn byteAt(index: usize) u8 {
            return @truncate(index *% 31 +% (index >> 8));
        }

        fn send(stream: Handle) !void {
            var written: usize = 0;
            var read: usize = 0;
            var buffer: [10_007]u8 = undefined;
            while (read < total) {
                const asked = if (written < total) data_available | write_space else data_available;
                const events = try succeed(poll(stream, asked, patience_ns));
                try testing.expect(events != 0);
                if (events & write_space != 0) {
                    const piece = buffer[0..@min(buffer.len, total - written)];
                    for (piece, written..) |*byte, index| byte.* = byteAt(index);
                    written += @intCast(try succeed(support.write(stream, piece)));
                }
                if (events & data_available != 0) {
                    const size: usize = @intCast(try succeed(support.read(stream, &buffer)));
                    for (buffer[0..size], read..) |byte, index| try testing.expectEqual(byteAt(index), byte);
                    read += size;
                }
            }
            try testing.expectEqual(total, read);
        }

        /// Echoes with a poller until the other end finishes. Returns how many bytes, or less than zero.
        fn serve(stream: Handle, backend: i32) i64 {
            return serveOrFail(stream, backend) catch -1;
        }

        fn serveOrFail(stream: Handle, backend: i32) !i64 {
            const poller = try succeed(c.bbipc_make_poller(backend, null));
            defer _ = c.bbipc_close(poller);
            _ = try succeed(c.bbipc_monitor_socket(poller, stream, data_available | end_of_data, null));
            var buffer: [4096]u8 = undefined;
            var kept: []const u8 = &.{};
            var echoed: i64 = 0;
            while (true) {
                const events = try waitOnce(poller, stream, patience_ns);
                if (events == 0) return error.TimedOut;
                if (kept.len == 0) {
                    if (events & end_of_data != 0) return echoed;
                    kept = buffer[0..@intCast(try succeed(support.read(stream, &buffer)))];
                }
                const size = try succeed(support.write(stream, kept));
                kept = kept[@intCast(size)..];
                echoed += size;
                const asked = if (kept.len > 0) write_space else data_available | end_of_data;
                _ = try succeed(c.bbipc_set_monitored_events(poller, stream, asked, null));
            }
        }
    }.body);
}
