//! bbipc_read_exactly and bbipc_write_all: what has come is never lost, and every way a wait can end is told.

const std = @import("std");
const support = @import("support.zig");
const testing = std.testing;

const c = support.c;
const eachTransport = support.eachTransport;
const expectSystem = support.expectSystem;
const Handle = support.Handle;
const patience_ns = support.patience_ns;
const Stage = support.Stage;

const data_available: u32 = c.BBIPC_DATA_AVAILABLE;

fn readExactly(stream: Handle, buffer: []u8, timeout_ns: i64) c.bbipc_result {
    return c.bbipc_read_exactly(stream, buffer.ptr, 0, buffer.len, timeout_ns, null);
}

fn writeAll(stream: Handle, data: []const u8, timeout_ns: i64) c.bbipc_result {
    return c.bbipc_write_all(stream, data.ptr, 0, data.len, timeout_ns, null);
}

fn byteAt(index: usize) u8 {
    return @truncate(index *% 31 +% (index >> 8));
}

test "more than the system has room for is written and read in one call each" {
    try eachTransport(struct {
        const total = 3 << 20;
        var source: [total]u8 = undefined;
        var target: [total]u8 = undefined;

        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            for (&source, 0..) |*byte, index| byte.* = byteAt(index);
            @memset(&target, 0);
            var reading: support.Call(readExactly) = undefined;
            try reading.start(.{ pair.far, &target, patience_ns });
            const written = writeAll(pair.near, &source, patience_ns);
            // Whatever went wrong, the other thread must end.
            if (written != total) stage.end(pair.near);
            try testing.expectEqual(total, reading.join());
            try testing.expectEqual(total, written);
            try testing.expectEqualSlices(u8, &source, &target);
        }
    }.body);
}

test "a part of the buffer is filled, and nothing else is touched" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            try testing.expectEqual(4, c.bbipc_write_all(pair.near, "abcdef", 1, 5, 0, null));
            var buffer = "........".*;
            try testing.expectEqual(3, c.bbipc_read_exactly(pair.far, &buffer, 2, 5, patience_ns, null));
            try testing.expectEqualStrings("..bcd...", &buffer);
            try testing.expectEqual(0, c.bbipc_read_exactly(pair.far, &buffer, 8, 8, patience_ns, null));
        }
    }.body);
}

test "what came in time is returned, and a wait without a byte lasts as long as it was told to" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            const timeout_ns = 30 * std.time.ns_per_ms;
            var buffer: [8]u8 = undefined;
            try testing.expectEqual(0, readExactly(pair.far, &buffer, 0));
            try testing.expectEqual(3, support.write(pair.near, "abc"));
            try support.awaitEvent(pair.far, data_available);
            for ([_][]const u8{ "abc", "" }) |expected| {
                const start_ns = support.monotonicNs();
                try testing.expectEqual(@as(i64, @intCast(expected.len)), readExactly(pair.far, &buffer, timeout_ns));
                try testing.expect(support.monotonicNs() - start_ns >= timeout_ns);
                try testing.expectEqualStrings(expected, buffer[0..expected.len]);
            }
        }
    }.body);
}

test "without a reader as much is written as there is room for, and then nothing" {
    try eachTransport(struct {
        var data: [16 << 20]u8 = @splat(7);

        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            const timeout_ns = 20 * std.time.ns_per_ms;
            const written = writeAll(pair.near, &data, timeout_ns);
            try testing.expect(written > 0 and written < data.len);
            const start_ns = support.monotonicNs();
            // A system may find some room yet: what is certain is that it does not take forever, and that all arrives.
            const more = writeAll(pair.near, data[@intCast(written)..], timeout_ns);
            try testing.expect(more >= 0);
            if (more == 0) try testing.expect(support.monotonicNs() - start_ns >= timeout_ns);
            try testing.expectEqual(
                written + more,
                readExactly(pair.far, data[0..@intCast(written + more)], patience_ns),
            );
        }
    }.body);
}

test "the end is told after the last byte, at once and also to those who don't wait" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            try testing.expectEqual(3, support.write(pair.far, "abc"));
            stage.end(pair.far);
            var buffer: [8]u8 = undefined;
            try testing.expectEqual(3, readExactly(pair.near, &buffer, c.BBIPC_FOREVER));
            try testing.expectEqualStrings("abc", buffer[0..3]);
            for ([_]i64{ c.BBIPC_FOREVER, 0, patience_ns }) |timeout_ns| {
                try testing.expectEqual(c.BBIPC_ERROR_END_OF_DATA, readExactly(pair.near, &buffer, timeout_ns));
            }
        }
    }.body);
}

/// A thread that waits for bytes of a stream, and one that waits for room in it.
const BothWaits = struct {
    var data: [16 << 20]u8 = @splat(7);

    buffer: [8]u8 = undefined,
    reading: support.Call(readExactly) = undefined,
    writing: support.Call(writeAll) = undefined,

    fn start(waits: *BothWaits, stream: Handle) !void {
        try waits.reading.start(.{ stream, &waits.buffer, c.BBIPC_FOREVER });
        try waits.writing.start(.{ stream, &data, c.BBIPC_FOREVER });
        try support.awaitPolling(2);
    }

    /// What the reader got. The writer got rid of some bytes first.
    fn end(waits: *BothWaits) !c.bbipc_result {
        const written = waits.writing.join();
        try testing.expect(written > 0 and written < data.len);
        return waits.reading.join();
    }
};

test "a remote end that goes meanwhile ends both waits" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            var waits: BothWaits = .{};
            try waits.start(pair.near);
            try stage.reset(pair.far);
            // An orderly end or a reset, as the system has it.
            const read = try waits.end();
            try testing.expect(read == c.BBIPC_ERROR_END_OF_DATA or read == c.BBIPC_ERROR_SYSTEM);
            // What failed after the first byte, the next call tells.
            var code: i32 = 0;
            const data = &BothWaits.data;
            const again = c.bbipc_write_all(pair.near, data, 0, data.len, c.BBIPC_FOREVER, &code);
            try testing.expectEqual(c.BBIPC_ERROR_SYSTEM, again);
            try testing.expect(code != 0);
        }
    }.body);
}

test "a stream that is closed meanwhile ends both waits" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            var waits: BothWaits = .{};
            try waits.start(pair.near);
            stage.close(pair.near);
            try testing.expectEqual(c.BBIPC_ERROR_INVALID_HANDLE, try waits.end());
        }
    }.body);
}

test "a refused connection is told by both" {
    var stage: Stage = try .init(.tcp);
    defer stage.deinit();
    const server = try stage.makeServer(1);
    stage.close(server.handle);
    const stream = try stage.connect(server);
    var buffer: [8]u8 = undefined;
    var code: i32 = 0;
    const read = c.bbipc_read_exactly(stream, &buffer, 0, buffer.len, patience_ns, &code);
    try expectSystem(.CONNREFUSED, read, code);
    const written = c.bbipc_write_all(stream, &buffer, 0, buffer.len, patience_ns, &code);
    try expectSystem(.CONNREFUSED, written, code);
}

test "wrong arguments are refused" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            var buffer: [8]u8 = undefined;
            for ([_]i64{ -2, std.math.minInt(i64) }) |timeout_ns| {
                try testing.expectEqual(c.BBIPC_ERROR_INVALID_ARGUMENT, readExactly(pair.near, &buffer, timeout_ns));
                try testing.expectEqual(c.BBIPC_ERROR_INVALID_ARGUMENT, writeAll(pair.near, &buffer, timeout_ns));
            }
            try testing.expectEqual(
                c.BBIPC_ERROR_INVALID_ARGUMENT,
                c.bbipc_read_exactly(pair.near, &buffer, 2, 1, 0, null),
            );
            try testing.expectEqual(
                c.BBIPC_ERROR_INVALID_ARGUMENT,
                c.bbipc_read_exactly(pair.near, null, 0, 1, 0, null),
            );
            try testing.expectEqual(
                c.BBIPC_ERROR_INVALID_ARGUMENT,
                c.bbipc_write_all(pair.near, &buffer, 2, 1, 0, null),
            );
            try testing.expectEqual(c.BBIPC_ERROR_INVALID_ARGUMENT, c.bbipc_write_all(pair.near, null, 0, 1, 0, null));
        }
    }.body);
}
