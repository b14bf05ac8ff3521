//! A poller's descriptor, as another loop watches it: on POSIX systems.

const std = @import("std");
const support = @import("support.zig");
const sys = @import("../../platform.zig").sys;
const c = support.c;

const testing = std.testing;
const Handle = support.Handle;
const Stage = support.Stage;
const eachTransport = support.eachTransport;
const succeed = support.succeed;

/// The system's own, and not poll's, which has no descriptor.
const backend = support.system.backends[0];

const Shown = struct {
    poller: Handle,
    descriptor: sys.Descriptor,

    fn make(stage: *Stage) !Shown {
        const poller = try stage.poller(backend);
        const descriptor = try succeed(c.bbipc_poller_fileno(poller, null));
        return .{ .poller = poller, .descriptor = @intCast(descriptor) };
    }

    fn isReadable(shown: Shown) !bool {
        // macOS takes a kqueue for closed if it is asked for more.
        var entry: sys.pollfd = .{ .fd = shown.descriptor, .events = sys.POLL.IN, .revents = 0 };
        try testing.expect(sys.pollNow(&entry) >= 0);
        return entry.revents != 0;
    }

    fn awaitReadable(shown: Shown) !void {
        const end_ns = support.monotonicNs() + support.patience_ns;
        while (!try shown.isReadable()) {
            if (support.monotonicNs() > end_ns) return error.NeverReadable;
            std.Thread.yield() catch {};
        }
    }

    /// What a wait reports, in which the descriptor has nothing to say.
    fn look(shown: Shown) !u32 {
        var socket: Handle = 0;
        var happened: u32 = 0;
        const result = c.bbipc_wait_for_events(shown.poller, (&socket)[0..1], (&happened)[0..1], 1, 0, null, null);
        if (result == c.BBIPC_ERROR_WOKEN) return 0;
        _ = try succeed(result);
        return happened;
    }

    fn expectQuiet(shown: Shown) !void {
        // What has passed may be told once more.
        for (0..3) |_| {
            try testing.expectEqual(0, try shown.look());
            if (!try shown.isReadable()) return;
        }
        return error.NeverQuiet;
    }
};

test "a poller's descriptor tells what no kernel does, for as long as it holds" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const shown: Shown = try .make(stage);
            try shown.expectQuiet();
            try testing.expectEqual(0, c.bbipc_wake(shown.poller));
            try testing.expect(try shown.isReadable());
            try shown.expectQuiet();

            const pair = try stage.pair();
            _ = try succeed(c.bbipc_monitor_socket(shown.poller, pair.near, c.BBIPC_DETERMINED, null));
            for (0..2) |_| {
                try testing.expect(try shown.isReadable());
                try testing.expectEqual(c.BBIPC_DETERMINED, try shown.look());
            }
            _ = try succeed(c.bbipc_set_monitored_events(shown.poller, pair.near, c.BBIPC_DATA_AVAILABLE, null));
            try shown.expectQuiet();
            try testing.expectEqual(1, support.write(pair.far, "x"));
            try shown.awaitReadable();
            try testing.expectEqual(c.BBIPC_DATA_AVAILABLE, try shown.look());
            _ = try succeed(c.bbipc_unmonitor_socket(shown.poller, pair.near));
            try shown.expectQuiet();
        }
    }.body);
}

test "a poller's descriptor tells of the end after the last byte was read, and looks for it meanwhile" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const shown: Shown = try .make(stage);
            const pair = try stage.pair();
            _ = try succeed(c.bbipc_monitor_socket(shown.poller, pair.near, c.BBIPC_END_OF_DATA, null));
            try testing.expectEqual(1, support.write(pair.far, "x"));
            stage.close(pair.far);
            try stage.awaitArrival(pair.near, c.BBIPC_REMOTE_DISCONNECTED);
            try shown.awaitReadable();
            try shown.expectQuiet();
            // A byte is unread, and another process may read it: no kernel tells of that.
            try shown.awaitReadable();
            try shown.expectQuiet();
            var byte: [1]u8 = undefined;
            try testing.expectEqual(1, c.bbipc_read(pair.near, &byte, 0, byte.len, 0, null));
            try testing.expect(try shown.isReadable());
            try testing.expectEqual(c.BBIPC_END_OF_DATA, try shown.look());
        }
    }.body);
}
