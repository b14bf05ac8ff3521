//! Waits that look before they sleep. Each look here lasts longer than the test, so what comes, comes in the middle of
//! it: nothing is lost, and nothing is late.

const std = @import("std");
const support = @import("support.zig");
const testing = std.testing;

const c = support.c;
const Handle = support.Handle;
const patience_ns = support.patience_ns;
const Stage = support.Stage;
const succeed = support.succeed;

const data_available: u32 = c.BBIPC_DATA_AVAILABLE;
const connection_severed: u32 = c.BBIPC_CONNECTION_SEVERED;

/// What is late by as much was not seen while the wait looked.
const look_ns = std.time.ns_per_s / 2;

/// Every kind of transport, and waits that may look for long.
fn eachTransport(body: fn (*Stage) anyerror!void) !void {
    try support.beginLooking();
    defer support.endLooking();
    try support.eachKind(body);
}

/// A wait in another thread, which looks.
const Looking = struct {
    const Kind = enum { poll_socket, poll_sockets, read_exactly, poller };

    call: support.Call(wait) = undefined,
    began_ns: u64 = 0,

    fn wait(kind: Kind, handle: Handle) i64 {
        var byte: [1]u8 = undefined;
        var happened: [2]u32 = undefined;
        return switch (kind) {
            .poll_socket => support.poll(handle, data_available, patience_ns),
            .poll_sockets => c.bbipc_poll_sockets(
                &[_]Handle{ handle, handle },
                &[_]u32{ data_available, connection_severed },
                &happened,
                2,
                patience_ns,
                null,
                null,
                null,
            ),
            .read_exactly => c.bbipc_read_exactly(handle, &byte, 0, 1, patience_ns, null),
            .poller => support.waitFor(handle, patience_ns),
        };
    }

    fn start(looking: *Looking, kind: Kind, handle: Handle) !void {
        if (kind == .poll_sockets) support.makeSeveralLook(look_ns) else support.makeLook(handle, look_ns);
        try looking.call.start(.{ kind, handle });
        if (kind == .poller) try support.awaitWaiting(handle, 1) else try support.awaitPolling(1);
        looking.began_ns = support.monotonicNs();
    }

    /// What the wait returned, which must not have taken as long as the look.
    fn end(looking: *Looking) !i64 {
        const result = looking.call.join();
        try testing.expect(support.monotonicNs() - looking.began_ns < look_ns / 2);
        return result;
    }
};

const of_sockets = [_]Looking.Kind{ .poll_socket, .poll_sockets, .read_exactly };

test "bytes that come while a wait looks end it" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            var looking: Looking = .{};
            for (of_sockets) |kind| {
                try looking.start(kind, pair.near);
                try testing.expectEqual(1, support.write(pair.far, "x"));
                const expected: i64 = if (kind == .poll_socket) data_available else 1;
                try testing.expectEqual(expected, try looking.end());
                if (kind != .poll_sockets) try testing.expect(support.hasLooked(pair.near));
                _ = try support.drain(pair.near);
            }
            for (support.backends) |backend| {
                const poller = try stage.poller(backend);
                _ = try succeed(c.bbipc_monitor_socket(poller, pair.near, data_available, null));
                try looking.start(.poller, poller);
                try testing.expectEqual(1, support.write(pair.far, "x"));
                try testing.expectEqual(data_available, try looking.end());
                try testing.expect(support.hasLooked(poller));
                _ = try support.drain(pair.near);
            }
        }
    }.body);
}

test "a socket that another thread closes ends the wait that looks" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            for (of_sockets) |kind| {
                const pair = try stage.pair();
                var looking: Looking = .{};
                try looking.start(kind, pair.near);
                stage.close(pair.near);
                try testing.expectEqual(c.BBIPC_ERROR_INVALID_HANDLE, try looking.end());
            }
        }
    }.body);
}

test "a poller that is woken, that loses a socket, or that closes, ends the wait that looks" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            for (support.backends) |backend| {
                const pair = try stage.pair();
                const poller = try stage.poller(backend);
                _ = try succeed(c.bbipc_monitor_socket(poller, pair.near, data_available, null));
                var looking: Looking = .{};
                try looking.start(.poller, poller);
                _ = try succeed(c.bbipc_wake(poller));
                try testing.expectEqual(c.BBIPC_ERROR_WOKEN, try looking.end());

                try looking.start(.poller, poller);
                stage.close(pair.near);
                try testing.expectEqual(c.BBIPC_ERROR_WOKEN, try looking.end());

                try looking.start(.poller, poller);
                stage.close(poller);
                try testing.expectEqual(c.BBIPC_ERROR_INVALID_HANDLE, try looking.end());
            }
        }
    }.body);
}

test "a socket that joins a poller is watched by the wait that looks" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            for (support.backends) |backend| {
                const pair = try stage.pair();
                const poller = try stage.poller(backend);
                try testing.expectEqual(1, support.write(pair.far, "x"));
                var looking: Looking = .{};
                try looking.start(.poller, poller);
                _ = try succeed(c.bbipc_monitor_socket(poller, pair.near, data_available, null));
                try testing.expectEqual(data_available, try looking.end());
            }
        }
    }.body);
}

test "a wait that looks ends when its time is up" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            const timeout_ns = 20 * std.time.ns_per_ms;
            support.makeLook(pair.near, look_ns);
            const began_ns = support.monotonicNs();
            try testing.expectEqual(0, support.poll(pair.near, data_available, timeout_ns));
            const took_ns = support.monotonicNs() - began_ns;
            try testing.expect(took_ns >= timeout_ns);
            try testing.expect(took_ns < look_ns);
        }
    }.body);
}

test "a wait that has looked in vain sleeps, and hears of what comes then" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            const short_ns = std.time.ns_per_ms;
            var waiting: support.Call(Looking.wait) = undefined;
            for (of_sockets) |kind| {
                if (kind == .poll_sockets) support.makeSeveralLook(short_ns) else support.makeLook(pair.near, short_ns);
                try waiting.start(.{ kind, pair.near });
                try support.awaitPolling(1);
                const later_ns = support.monotonicNs() + 10 * short_ns;
                while (support.monotonicNs() < later_ns) try std.Thread.yield();
                try testing.expectEqual(1, support.write(pair.far, "x"));
                const expected: i64 = if (kind == .poll_socket) data_available else 1;
                try testing.expectEqual(expected, waiting.join());
                _ = try support.drain(pair.near);
            }
        }
    }.body);
}

test "spinning has its limits" {
    for ([_]i64{ -2, std.time.ns_per_s + 1, std.math.minInt(i64), std.math.maxInt(i64) }) |wrong| {
        try testing.expectEqual(c.BBIPC_ERROR_INVALID_ARGUMENT, c.bbipc_set_spinning(wrong));
    }
    for ([_]i64{ std.time.ns_per_s, 1, c.BBIPC_SPINNING_OFF, c.BBIPC_SPINNING_ADAPTIVE }) |right| {
        try testing.expectEqual(0, c.bbipc_set_spinning(right));
    }
}
