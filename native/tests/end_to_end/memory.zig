//! What the library takes of the system's memory, it gives back.

const std = @import("std");
const support = @import("support.zig");
const testing = std.testing;

const c = support.c;
const backends = support.backends;
const eachTransport = support.eachKind;
const Handle = support.Handle;
const patience_ns = support.patience_ns;
const Stage = support.Stage;
const system = support.system;

const write_space: u32 = c.BBIPC_WRITE_SPACE;

test "connections, pollers and waits give their memory back" {
    if (std.valgrind.runningOnValgrind() > 0) return error.SkipZigTest; // would count Valgrind's own memory
    if (system.isEmulated()) return error.SkipZigTest; // would count the emulator's own memory
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            // The first rounds fill what is kept for reuse.
            try rounds(stage, 20);
            const before = try system.mappedBytes(testing.io);
            try rounds(stage, 200);
            const after = try system.mappedBytes(testing.io);
            if (after <= before + system.mapped_bytes_slack and system.mapped_bytes_slack > 0) return;
            try testing.expectEqual(before, after);
        }

        fn rounds(stage: *Stage, count: usize) !void {
            for (0..count) |_| for (backends) |backend| {
                const server = try stage.makeServer(4);
                defer stage.close(server.handle);
                const poller = try stage.poller(backend);
                defer stage.close(poller);
                var streams: [24]Handle = undefined;
                for (0..streams.len / 2) |index| {
                    const pair = try stage.pairWith(server);
                    streams[2 * index] = pair.near;
                    streams[2 * index + 1] = pair.far;
                }
                defer for (streams) |stream| stage.close(stream);
                for (streams) |stream| {
                    try testing.expectEqual(0, c.bbipc_monitor_socket(poller, stream, write_space, null));
                }
                var happened: [streams.len]u32 = undefined;
                const asked: [streams.len]u32 = @splat(write_space);
                const all = c.bbipc_poll_sockets(
                    &streams,
                    &asked,
                    &happened,
                    streams.len,
                    patience_ns,
                    null,
                    null,
                    null,
                );
                try testing.expectEqual(@as(i64, streams.len), all);
                var sockets: [streams.len]Handle = undefined;
                const reported = c.bbipc_wait_for_events(
                    poller,
                    &sockets,
                    &happened,
                    sockets.len,
                    patience_ns,
                    null,
                    null,
                );
                try testing.expectEqual(@as(i64, streams.len), reported);
            };
        }
    }.body);
}
