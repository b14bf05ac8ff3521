//! bbipc_abort: what it gives up, and what the remote end and other threads see of it.

const std = @import("std");
const support = @import("support.zig");
const testing = std.testing;

const c = support.c;
const eachTransport = support.eachTransport;
const Handle = support.Handle;
const patience_ns = support.patience_ns;
const Stage = support.Stage;

/// Aborts it before the test ends.
fn abort(stage: *Stage, stream: Handle) !void {
    const index = std.mem.indexOfScalar(Handle, stage.kept.items, stream).?;
    _ = stage.kept.swapRemove(index);
    try testing.expectEqual(0, c.bbipc_abort(stream));
}

test "a stream that is aborted is closed, and nothing else can be aborted" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(1);
            const poller = try stage.poller(c.BBIPC_BACKEND_DEFAULT);
            const pair = try stage.pairWith(server);
            const before = c.bbipc_open_handles();
            _ = try support.succeed(c.bbipc_monitor_socket(poller, pair.near, c.BBIPC_DATA_AVAILABLE, null));
            for ([_]Handle{ server.handle, poller }) |other| {
                try testing.expectEqual(c.BBIPC_ERROR_WRONG_KIND, c.bbipc_abort(other));
            }
            try abort(stage, pair.near);
            try testing.expectEqual(before - 1, c.bbipc_open_handles());
            try testing.expectEqual(0, c.bbipc_monitored_sockets(poller, null, 0));
            for ([_]Handle{ pair.near, 0, -1 }) |none| {
                try testing.expectEqual(c.BBIPC_ERROR_INVALID_HANDLE, c.bbipc_abort(none));
            }
        }
    }.body);
}

test "the remote end of an aborted stream hears of a reset over TCP, and else of the end" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            for ([_]bool{ false, true }) |with_unread| {
                const pair = try stage.pair();
                // With everything read and nothing under way a close would be orderly.
                if (with_unread) try testing.expectEqual(3, support.write(pair.near, "abc"));
                if (with_unread) try support.awaitEvent(pair.far, c.BBIPC_DATA_AVAILABLE);
                try abort(stage, pair.near);
                try support.awaitEvent(pair.far, c.BBIPC_CONNECTION_SEVERED);
                _ = try support.drainToEnd(pair.far);
                var code: i32 = 0;
                var buffer: [8]u8 = undefined;
                const read = c.bbipc_read(pair.far, &buffer, 0, 8, 0, &code);
                if (stage.kind() == .tcp) {
                    try support.expectSystem(.CONNRESET, read, code);
                } else {
                    try testing.expectEqual(0, read);
                    try support.awaitEvent(pair.far, c.BBIPC_END_OF_DATA);
                }
                stage.close(pair.far);
            }
        }
    }.body);
}

test "a write that nobody reads is given up, by either end" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            for ([_]bool{ false, true }) |accepted_writes| {
                const pair = try stage.pair();
                const writer = if (accepted_writes) pair.far else pair.near;
                const reader = if (accepted_writes) pair.near else pair.far;
                const written = try support.fill(writer);
                try abort(stage, writer);
                // Of a pipe that is only closed, this is for the reader to bring about.
                const end_ns = support.monotonicNs() + patience_ns;
                while (c.bbipc_pending_operations() != 0 and support.monotonicNs() < end_ns) {
                    std.Thread.yield() catch {};
                }
                try testing.expectEqual(0, c.bbipc_pending_operations());
                try testing.expect(try support.drainToEnd(reader) <= written);
                stage.close(reader);
            }
        }
    }.body);
}

fn readExactly(stream: Handle, buffer: []u8, timeout_ns: i64) c.bbipc_result {
    return c.bbipc_read_exactly(stream, buffer.ptr, 0, buffer.len, timeout_ns, null);
}

test "a thread that waits for bytes hears that the stream was aborted" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            var buffer: [1]u8 = undefined;
            var reading: support.Call(readExactly) = undefined;
            try reading.start(.{ pair.near, &buffer, patience_ns });
            const waiting = support.awaitPolling(1);
            const aborted = abort(stage, pair.near);
            try testing.expectEqual(c.BBIPC_ERROR_INVALID_HANDLE, reading.join());
            try waiting;
            try aborted;
        }
    }.body);
}
