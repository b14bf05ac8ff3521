//! Waiting: bbipc_poll_socket, bbipc_poll_sockets and pollers, in one thread and in several.

const std = @import("std");
const builtin = @import("builtin");
const support = @import("support.zig");
const testing = std.testing;

const c = support.c;
const backends = support.backends;
const eachTransport = support.eachTransport;
const expectEvents = support.expectEvents;
const Handle = support.Handle;
const onTransport = support.onTransport;
const patience_ns = support.patience_ns;
const poll = support.poll;
const Stage = support.Stage;
const Step = support.Step;
const succeed = support.succeed;
const waitFor = support.waitFor;
const waitOnce = support.waitOnce;

const determined: u32 = c.BBIPC_DETERMINED;
const data_available: u32 = c.BBIPC_DATA_AVAILABLE;
const ready_to_write: u32 = c.BBIPC_READY_TO_WRITE;
const write_space: u32 = c.BBIPC_WRITE_SPACE;
const connection_available: u32 = c.BBIPC_CONNECTION_AVAILABLE;

// ---- poll_socket and poll_sockets ----

test "a wait lasts as long as it was told to" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            const timeout_ns = 30 * std.time.ns_per_ms;
            var start_ns = support.monotonicNs();
            try expectEvents(0, poll(pair.near, data_available, timeout_ns));
            try testing.expect(support.monotonicNs() - start_ns >= timeout_ns);
            for (backends) |backend| {
                const poller = try stage.poller(backend);
                _ = try succeed(c.bbipc_monitor_socket(poller, pair.near, data_available, null));
                start_ns = support.monotonicNs();
                try expectEvents(0, try waitOnce(poller, pair.near, timeout_ns));
                try testing.expect(support.monotonicNs() - start_ns >= timeout_ns);
            }
        }
    }.body);
}

test "poll_sockets takes hundreds of sockets of every kind, and answers in their order" {
    try onTransport(.tcp, struct {
        fn body(stage: *Stage) !void {
            var local: Stage = try .init(.local);
            defer local.deinit();
            const pairs = 125;
            var sockets: [4 * pairs + 2]Handle = undefined;
            var asked: [sockets.len]u32 = undefined;
            var happened: [sockets.len]u32 = undefined;
            const servers = [_]Stage.Server{ try stage.makeServer(256), try local.makeServer(256) };
            for (0..pairs) |index| {
                const tcp_pair = try stage.pairWith(servers[0]);
                const local_pair = try local.pairWith(servers[1]);
                sockets[4 * index ..][0..4].* = .{ tcp_pair.near, tcp_pair.far, local_pair.near, local_pair.far };
            }
            @memset(&asked, data_available);
            for (sockets[4 * pairs ..], asked[4 * pairs ..], servers) |*socket, *events, server| {
                socket.* = server.handle;
                events.* = connection_available;
            }
            const all = c.bbipc_poll_sockets;
            try testing.expectEqual(0, all(&sockets, &asked, &happened, sockets.len, 0, null, null, null));
            try testing.expectEqualSlices(u32, &@as([sockets.len]u32, @splat(0)), &happened);

            // One after the other, so that each index is the only one once.
            for (0..4 * pairs) |index| {
                try testing.expectEqual(1, support.write(sockets[index ^ 1], "x"));
                try testing.expectEqual(
                    1,
                    all(&sockets, &asked, &happened, sockets.len, patience_ns, null, null, null),
                );
                for (happened, 0..) |events, at| try expectEvents(if (at == index) data_available else 0, events);
                try support.expectBytes(sockets[index], "x");
            }
            // All at once.
            for (sockets[0 .. 4 * pairs]) |socket| try testing.expectEqual(1, support.write(socket, "y"));
            _ = try stage.connect(servers[0]);
            _ = try local.connect(servers[1]);
            for (sockets, asked) |socket, event| try support.awaitEvent(socket, event);
            const ready = all(&sockets, &asked, &happened, sockets.len, 0, null, null, null);
            try testing.expectEqual(@as(i64, sockets.len), ready);
            try testing.expectEqualSlices(u32, &asked, &happened);
        }
    }.body);
}

test "poll_sockets takes the same socket twice, and none at all" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            const sockets = [_]Handle{ pair.near, pair.near, pair.near };
            const asked = [_]u32{ write_space, data_available, determined };
            var happened: [3]u32 = undefined;
            try testing.expectEqual(
                2,
                c.bbipc_poll_sockets(&sockets, &asked, &happened, 3, patience_ns, null, null, null),
            );
            try testing.expectEqualSlices(u32, &.{ write_space, 0, determined }, &happened);
            const timeout_ns = 10 * std.time.ns_per_ms;
            const start_ns = support.monotonicNs();
            try testing.expectEqual(0, c.bbipc_poll_sockets(null, null, null, 0, timeout_ns, null, null, null));
            try testing.expect(support.monotonicNs() - start_ns >= timeout_ns);
        }
    }.body);
}

test "a socket whose end is only now noticed is counted once" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            try Step.farWrites(stage, pair);
            try Step.farEnds(stage, pair);
            try stage.awaitArrival(pair.near, data_available | c.BBIPC_REMOTE_DISCONNECTED);
            const asked: u32 = c.BBIPC_CONNECTION_SUCCEEDED | data_available;
            var happened: u32 = 0;
            const count = c.bbipc_poll_sockets(&pair.near, &asked, &happened, 1, patience_ns, null, null, null);
            try testing.expectEqual(1, count);
            try testing.expect(happened & data_available != 0);
        }
    }.body);
}

test "many sockets in one poller and in one wait: all are reported, none twice before the others" {
    try support.system.allowDescriptors(2048);
    try eachTransport(struct {
        const pairs_count = 400;

        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(128);
            var near: [pairs_count]Handle = undefined;
            var far: [pairs_count]Handle = undefined;
            for (&near, &far) |*one, *other| {
                const pair = try stage.pairWith(server);
                one.* = pair.near;
                other.* = pair.far;
            }
            for (backends) |backend| try expectAllReported(stage, backend, &near, &far);
            var happened: [pairs_count]u32 = undefined;
            const asked: [pairs_count]u32 = @splat(data_available);
            const none = c.bbipc_poll_sockets(&near, &asked, &happened, near.len, 0, null, null, null);
            try testing.expectEqual(0, none);
            for (far) |stream| try testing.expectEqual(1, support.write(stream, "x"));
            for (near) |stream| try support.awaitEvent(stream, data_available);
            const all = c.bbipc_poll_sockets(&near, &asked, &happened, near.len, patience_ns, null, null, null);
            try testing.expectEqual(pairs_count, all);
            for (near) |stream| try support.expectBytes(stream, "x");
        }

        fn expectAllReported(stage: *Stage, backend: i32, near: []const Handle, far: []const Handle) !void {
            const poller = try stage.poller(backend);
            defer stage.close(poller);
            for (near) |stream| _ = try succeed(c.bbipc_monitor_socket(poller, stream, data_available, null));
            var sockets: [64]Handle = undefined;
            var happened: [64]u32 = undefined;
            try testing.expectEqual(
                0,
                c.bbipc_wait_for_events(poller, &sockets, &happened, sockets.len, 0, null, null),
            );
            for (far) |stream| try testing.expectEqual(1, support.write(stream, "x"));
            for (near) |stream| try support.awaitEvent(stream, data_available);

            // Nothing is read yet, so whoever was reported could be again.
            var reported: std.AutoHashMapUnmanaged(Handle, void) = .empty;
            defer reported.deinit(testing.allocator);
            while (reported.count() < near.len) {
                const result = c.bbipc_wait_for_events(
                    poller,
                    &sockets,
                    &happened,
                    sockets.len,
                    patience_ns,
                    null,
                    null,
                );
                const count: usize = @intCast(try succeed(result));
                try testing.expect(count > 0);
                for (sockets[0..count], happened[0..count]) |socket, events| {
                    try expectEvents(data_available, events);
                    const is_known = (try reported.getOrPut(testing.allocator, socket)).found_existing;
                    // Of pipes a poller hears a moment late, so that others may come again meanwhile.
                    if (is_known and reported.count() < near.len and stage.kind() != .pipe) {
                        // What is left over in the last wait of a round may be anybody's.
                        try testing.expect(near.len - reported.count() < sockets.len);
                    }
                }
            }
            for (near) |stream| try support.expectBytes(stream, "x");
        }
    }.body);
}

test "an end that is waited for alone is told to every thread of a poller" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            for (backends) |backend| for ([_]bool{ false, true }) |unread| {
                const pair = try stage.pair();
                defer stage.close(pair.near);
                if (unread) try Step.farWrites(stage, pair);
                const poller = try stage.poller(backend);
                _ = try succeed(c.bbipc_monitor_socket(poller, pair.near, c.BBIPC_REMOTE_DISCONNECTED, null));
                var waits: [3]support.Call(waitFor) = undefined;
                for (&waits) |*wait| try wait.start(.{ poller, patience_ns });
                try support.awaitWaiting(poller, waits.len);
                stage.close(pair.far);
                const hides = stage.kind() == .tcp and support.system.hidesEndOfTcp();
                if (unread and hides) _ = try support.drain(pair.near);
                for (&waits) |*wait| try expectEvents(c.BBIPC_REMOTE_DISCONNECTED, wait.join());
            };
        }
    }.body);
}

test "a poller never reports room to write for a remote end that has gone" {
    try onTransport(.tcp, struct {
        fn body(stage: *Stage) !void {
            for (backends) |backend| {
                const pair = try stage.pair();
                defer stage.close(pair.near);
                const poller = try stage.poller(backend);
                _ = try succeed(c.bbipc_monitor_socket(poller, pair.near, ready_to_write, null));
                try expectEvents(ready_to_write, try waitOnce(poller, pair.near, patience_ns));
                stage.close(pair.far);
                // Not by the library, which would know of the end then.
                try stage.awaitArrival(pair.near, c.BBIPC_REMOTE_DISCONNECTED);
                try expectEvents(0, try waitOnce(poller, pair.near, 0));
            }
        }
    }.body);
}

test "the last byte before an end is told to a second thread of a poller, which slept through the end" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            for (backends) |backend| {
                const pair = try stage.pair();
                defer stage.close(pair.near);
                try Step.farWrites(stage, pair);
                const poller = try stage.poller(backend);
                _ = try succeed(c.bbipc_monitor_socket(poller, pair.near, c.BBIPC_END_OF_DATA, null));
                var waits: [2]support.Call(waitFor) = undefined;
                try waits[0].start(.{ poller, 200 * std.time.ns_per_ms });
                try waits[1].start(.{ poller, patience_ns });
                try support.awaitWaiting(poller, waits.len);
                stage.close(pair.far);
                try testing.expectEqual(0, waits[0].join());
                try Step.nearReads(stage, pair);
                try expectEvents(c.BBIPC_END_OF_DATA, waits[1].join());
            }
        }
    }.body);
}

test "closing a socket ends the waits for it, and no others" {
    try eachTransport(struct {
        fn pollTwo(first: Handle, second: Handle, failed_index: *u64) i64 {
            const sockets = [_]Handle{ first, second };
            const asked = [_]u32{ data_available, data_available };
            var happened: [2]u32 = undefined;
            return c.bbipc_poll_sockets(&sockets, &asked, &happened, 2, patience_ns, null, failed_index, null);
        }

        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            const bystanders = try stage.pair();
            var one: support.Call(poll) = undefined;
            var two: support.Call(pollTwo) = undefined;
            var bystander: support.Call(poll) = undefined;
            var failed_index: u64 = 17;
            try one.start(.{ pair.near, data_available, patience_ns });
            try two.start(.{ bystanders.near, pair.near, &failed_index });
            try bystander.start(.{ bystanders.near, data_available, patience_ns });
            try support.awaitPolling(3);
            stage.close(pair.near);
            try testing.expectEqual(c.BBIPC_ERROR_INVALID_HANDLE, one.join());
            try testing.expectEqual(c.BBIPC_ERROR_INVALID_HANDLE, two.join());
            try testing.expectEqual(1, failed_index);
            try support.awaitPolling(1);
            try testing.expectEqual(3, support.write(bystanders.far, "abc"));
            try expectEvents(data_available, bystander.join());
        }
    }.body);
}

test "a descriptor is not closed while another thread waits with it" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            for (0..50) |_| {
                const pair = try stage.pair();
                defer stage.close(pair.far);
                var waiting: support.Call(poll) = undefined;
                try waiting.start(.{ pair.near, data_available, patience_ns });
                // No matter how far the other thread is.
                stage.close(pair.near);
                const next = try stage.pair();
                defer stage.close(next.near);
                defer stage.close(next.far);
                try testing.expectEqual(1, support.write(next.far, "x"));
                try testing.expectEqual(c.BBIPC_ERROR_INVALID_HANDLE, waiting.join());
            }
        }
    }.body);
}

// ---- Pollers ----

test "a poller knows what it monitors" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            for (backends) |backend| {
                const pair = try stage.pair();
                const server = try stage.makeServer(1);
                const poller = try stage.poller(backend);
                try testing.expectEqual(backend, c.bbipc_poller_backend(poller));
                try testing.expectEqual(0, c.bbipc_monitored_sockets(poller, null, 0));
                const unknown = c.BBIPC_ERROR_NOT_MONITORED;
                try testing.expectEqual(unknown, c.bbipc_monitored_events(poller, pair.near));
                try testing.expectEqual(unknown, c.bbipc_set_monitored_events(poller, pair.near, write_space, null));
                try testing.expectEqual(0, c.bbipc_unmonitor_socket(poller, pair.near));

                try testing.expectEqual(0, c.bbipc_monitor_socket(poller, pair.near, data_available, null));
                try testing.expectEqual(0, c.bbipc_monitor_socket(poller, pair.far, 0, null));
                try testing.expectEqual(0, c.bbipc_monitor_socket(poller, server.handle, connection_available, null));
                const again = c.bbipc_monitor_socket(poller, pair.near, write_space, null);
                try testing.expectEqual(c.BBIPC_ERROR_ALREADY_MONITORED, again);
                try expectEvents(data_available, c.bbipc_monitored_events(poller, pair.near));
                try expectEvents(0, c.bbipc_monitored_events(poller, pair.far));
                try expectEvents(connection_available, c.bbipc_monitored_events(poller, server.handle));

                var found: [4]Handle = @splat(0);
                try testing.expectEqual(3, c.bbipc_monitored_sockets(poller, &found, found.len));
                for ([_]Handle{ pair.near, pair.far, server.handle }) |socket| {
                    try testing.expectEqual(1, std.mem.countScalar(Handle, &found, socket));
                }
                found = @splat(0);
                try testing.expectEqual(3, c.bbipc_monitored_sockets(poller, &found, 2));
                try testing.expect(found[1] != 0);
                try testing.expectEqual(0, found[2]);

                try testing.expectEqual(0, c.bbipc_set_monitored_events(poller, pair.near, 0, null));
                try expectEvents(0, c.bbipc_monitored_events(poller, pair.near));
                try testing.expectEqual(1, c.bbipc_unmonitor_socket(poller, pair.near));
                try testing.expectEqual(0, c.bbipc_unmonitor_socket(poller, pair.near));
                stage.close(pair.far);
                try testing.expectEqual(0, c.bbipc_unmonitor_socket(poller, pair.far));
                try testing.expectEqual(unknown, c.bbipc_monitored_events(poller, pair.far));
                try testing.expectEqual(1, c.bbipc_monitored_sockets(poller, &found, found.len));
                try testing.expectEqual(server.handle, found[0]);
                stage.close(server.handle);
                try testing.expectEqual(0, c.bbipc_monitored_sockets(poller, &found, found.len));
            }
        }
    }.body);
}

test "a socket may be in several pollers, and leaves them all when it closes" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            var pollers: [6]Handle = undefined;
            for (&pollers, 0..) |*poller, index| {
                poller.* = try stage.poller(backends[index % backends.len]);
                try testing.expectEqual(0, c.bbipc_monitor_socket(poller.*, pair.near, data_available, null));
            }
            try Step.farWrites(stage, pair);
            for (pollers) |poller| try expectEvents(data_available, try waitOnce(poller, pair.near, patience_ns));
            stage.close(pollers[0]);
            stage.close(pair.near);
            for (pollers[1..]) |poller| {
                try testing.expectEqual(0, c.bbipc_monitored_sockets(poller, null, 0));
                try expectEvents(0, try waitOnce(poller, pair.near, 0));
            }
        }
    }.body);
}

test "hundreds of ready sockets all get their turn, however few a wait takes" {
    try eachTransport(struct {
        const count = 250;

        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(256);
            var near: [count]Handle = undefined;
            for (&near) |*stream| {
                const pair = try stage.pairWith(server);
                stream.* = pair.near;
                try testing.expectEqual(1, support.write(pair.far, "x"));
                try support.awaitEvent(pair.near, data_available);
            }
            for (backends) |backend| for ([_]usize{ 1, 7, 64, count, 2 * count }) |capacity| {
                errdefer std.debug.print("backend {d}, capacity {d}:\n", .{ backend, capacity });
                const poller = try stage.poller(backend);
                defer stage.close(poller);
                // A third stands, a third comes from the selector, and a third comes from both.
                for (near, 0..) |stream, index| {
                    const asked = ([_]u32{ data_available, determined, data_available | determined })[index % 3];
                    try testing.expectEqual(0, c.bbipc_monitor_socket(poller, stream, asked, null));
                }
                var sockets: [2 * count]Handle = undefined;
                var happened: [2 * count]u32 = undefined;
                var seen: [count]bool = @splat(false);
                var seen_count: usize = 0;
                // Twice the fair number of waits, for the selector and the standing share them.
                const waits_max = 2 * (count + capacity - 1) / capacity + 2;
                for (0..waits_max) |_| {
                    const result = c.bbipc_wait_for_events(
                        poller,
                        &sockets,
                        &happened,
                        capacity,
                        patience_ns,
                        null,
                        null,
                    );
                    const reported: usize = @intCast(try succeed(result));
                    try testing.expect(reported > 0 and reported <= capacity);
                    for (sockets[0..reported], happened[0..reported], 0..) |socket, events, position| {
                        // None twice in one wait.
                        try testing.expectEqual(position, std.mem.indexOfScalar(Handle, &sockets, socket).?);
                        const index = std.mem.indexOfScalar(Handle, &near, socket).?;
                        const asked = ([_]u32{ data_available, determined, data_available | determined })[index % 3];
                        try expectEvents(asked, events);
                        seen_count += @intFromBool(!seen[index]);
                        seen[index] = true;
                    }
                }
                try testing.expectEqual(count, seen_count);
            };
        }
    }.body);
}

test "two threads that wait with one poller each hear of a socket once a wait" {
    try onTransport(.local, struct {
        const capacity = 8;

        /// Returns how many waits reported a socket twice.
        fn waitOften(poller: Handle) i64 {
            var sockets: [capacity]Handle = undefined;
            var happened: [capacity]u32 = undefined;
            var doubled: i64 = 0;
            for (0..support.often(20_000)) |_| {
                const result = c.bbipc_wait_for_events(poller, &sockets, &happened, capacity, 0, null, null);
                if (result < 0) return result;
                const count: usize = @intCast(result);
                for (sockets[0..count], 0..) |socket, index| {
                    if (std.mem.indexOfScalar(Handle, sockets[0..index], socket) == null) continue;
                    doubled += 1;
                    break;
                }
            }
            return doubled;
        }

        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(16);
            for (backends) |backend| {
                const poller = try stage.poller(backend);
                for (0..capacity / 2) |_| {
                    const pair = try stage.pairWith(server);
                    try testing.expectEqual(0, c.bbipc_monitor_socket(poller, pair.near, determined, null));
                    try testing.expectEqual(0, c.bbipc_monitor_socket(poller, pair.far, determined, null));
                }
                var other: support.Call(waitOften) = undefined;
                try other.start(.{poller});
                const ours = waitOften(poller);
                try testing.expectEqual(0, other.join());
                try testing.expectEqual(0, ours);
            }
        }
    }.body);
}

test "waking ends the wait that is under way, or else the next, and only that" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            for (backends) |backend| {
                const poller = try stage.poller(backend);
                try testing.expectEqual(0, c.bbipc_wake(poller));
                try testing.expectEqual(0, c.bbipc_wake(poller));
                try testing.expectEqual(c.BBIPC_ERROR_WOKEN, waitFor(poller, patience_ns));
                const start_ns = support.monotonicNs();
                try testing.expectEqual(0, waitFor(poller, 10 * std.time.ns_per_ms));
                try testing.expect(support.monotonicNs() - start_ns >= 10 * std.time.ns_per_ms);
                for (0..30) |_| {
                    var waiting: support.Call(waitFor) = undefined;
                    try waiting.start(.{ poller, c.BBIPC_FOREVER });
                    try testing.expectEqual(0, c.bbipc_wake(poller));
                    try testing.expectEqual(c.BBIPC_ERROR_WOKEN, waiting.join());
                }
                // A wait that is woken still tells what is ready.
                const pair = try stage.pair();
                try testing.expectEqual(0, c.bbipc_monitor_socket(poller, pair.near, write_space, null));
                try testing.expectEqual(0, c.bbipc_wake(poller));
                try expectEvents(write_space, waitFor(poller, patience_ns));
            }
        }
    }.body);
}

test "closing a poller ends its waits, closing a monitored socket ends them early" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            for (backends) |backend| {
                const pair = try stage.pair();
                const poller = try stage.poller(backend);
                try testing.expectEqual(0, c.bbipc_monitor_socket(poller, pair.near, data_available, null));
                var waits: [3]support.Call(waitFor) = undefined;
                for (&waits) |*wait| try wait.start(.{ poller, patience_ns });
                try support.awaitWaiting(poller, waits.len);
                stage.close(pair.near);
                for (&waits) |*wait| try testing.expectEqual(c.BBIPC_ERROR_WOKEN, wait.join());
                for (&waits) |*wait| try wait.start(.{ poller, patience_ns });
                try support.awaitWaiting(poller, waits.len);
                stage.close(poller);
                for (&waits) |*wait| try testing.expectEqual(c.BBIPC_ERROR_INVALID_HANDLE, wait.join());
            }
        }
    }.body);
}

test "a wait in pieces misses no socket that is closed between two of them" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            for (backends) |backend| {
                const poller = try stage.poller(backend);
                const pair = try stage.pair();
                _ = try succeed(c.bbipc_monitor_socket(poller, pair.near, data_available, null));
                var place: u32 = 0;
                try testing.expectEqual(0, waitPiece(poller, 1, &place));
                stage.close(pair.near);
                // Whoever waits from here on has nothing to do with it.
                try testing.expectEqual(0, waitFor(poller, 1));
                try testing.expectEqual(c.BBIPC_ERROR_WOKEN, waitPiece(poller, patience_ns, &place));
                place = 0;
                try testing.expectEqual(0, waitPiece(poller, 0, &place));
                try testing.expectEqual(0, waitPiece(poller, 1, &place));
            }
        }

        fn waitPiece(poller: Handle, timeout_ns: i64, place: *u32) c.bbipc_result {
            var socket: Handle = 0;
            var happened: u32 = 0;
            return c.bbipc_wait_for_events(poller, &socket, &happened, 1, timeout_ns, place, null);
        }
    }.body);
}

test "a wait in pieces misses no finish_writing between two of them" {
    try onTransport(.tcp, struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            _ = try support.fill(pair.near);
            var place: u32 = 0;
            try testing.expectEqual(0, c.bbipc_poll_socket(pair.near, write_space, 1, &place, null));
            try testing.expectEqual(0, c.bbipc_finish_writing(pair.near, null));
            try testing.expectEqual(0, c.bbipc_poll_socket(pair.near, write_space, 0, &place, null));
            const result = c.bbipc_poll_socket(pair.near, write_space, patience_ns, &place, null);
            try testing.expectEqual(c.BBIPC_ERROR_WOKEN, result);
            // One that begins now waits for what can't come any more, as long as it was told to.
            place = 0;
            try testing.expectEqual(0, c.bbipc_poll_socket(pair.near, write_space, 1, &place, null));
        }
    }.body);
}

test "whoever reads the last byte ends the waits for the end, at once" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const end_of_data: u32 = c.BBIPC_END_OF_DATA;
            // There nobody can know of an end before the last byte has been read.
            if (stage.kind() == .tcp and support.system.hidesEndOfTcp()) return;
            for (backends) |backend| {
                const poller = try stage.poller(backend);
                // More than are asked by each wait.
                var pairs: [12]Stage.Pair = undefined;
                for (&pairs) |*pair| {
                    pair.* = try stage.pair();
                    try Step.farWrites(stage, pair.*);
                    stage.end(pair.far);
                    try support.awaitEvent(pair.near, c.BBIPC_REMOTE_DISCONNECTED);
                    _ = try succeed(c.bbipc_monitor_socket(poller, pair.near, end_of_data, null));
                }
                try testing.expectEqual(0, waitFor(poller, 1));
                for (pairs) |pair| {
                    var waiting: support.Call(waitFor) = undefined;
                    try waiting.start(.{ poller, patience_ns });
                    var buffer: [64]u8 = undefined;
                    try testing.expect(support.read(pair.near, &buffer) > 0);
                    try expectEvents(end_of_data, waiting.join());
                    try testing.expectEqual(1, c.bbipc_unmonitor_socket(poller, pair.near));
                }
            }
        }
    }.body);
}

test "a wait that is under way hears of sockets that come, change and go" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            for (backends) |backend| {
                const pair = try stage.pair();
                const poller = try stage.poller(backend);
                var waiting: support.Call(waitFor) = undefined;

                try waiting.start(.{ poller, patience_ns });
                try support.awaitWaiting(poller, 1);
                try testing.expectEqual(0, c.bbipc_monitor_socket(poller, pair.near, write_space, null));
                try expectEvents(write_space, waiting.join());

                try testing.expectEqual(0, c.bbipc_set_monitored_events(poller, pair.near, data_available, null));
                try waiting.start(.{ poller, patience_ns });
                try support.awaitWaiting(poller, 1);
                try testing.expectEqual(0, c.bbipc_set_monitored_events(poller, pair.near, determined, null));
                try expectEvents(determined, waiting.join());

                try testing.expectEqual(0, c.bbipc_set_monitored_events(poller, pair.near, data_available, null));
                try waiting.start(.{ poller, patience_ns });
                try support.awaitWaiting(poller, 1);
                try testing.expectEqual(1, c.bbipc_unmonitor_socket(poller, pair.near));
                try Step.farWrites(stage, pair);
                try support.awaitEvent(pair.near, data_available);
                try testing.expectEqual(0, c.bbipc_monitor_socket(poller, pair.far, ready_to_write, null));
                try expectEvents(ready_to_write, waiting.join());
            }
        }
    }.body);
}

test "an interrupt ends every wait that is under way, each of which can be taken up again" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            const server = try stage.makeServer(1);
            var polls: [3]support.Call(poll) = undefined;
            var pollers: [backends.len]Handle = undefined;
            var waits: [2 * backends.len]support.Call(waitFor) = undefined;
            for (&pollers, backends) |*poller, backend| {
                poller.* = try stage.poller(backend);
                _ = try succeed(c.bbipc_monitor_socket(poller.*, pair.near, data_available, null));
            }
            for (0..5) |_| {
                for (polls[0..2]) |*one| try one.start(.{ pair.near, data_available, patience_ns });
                try polls[2].start(.{ server.handle, connection_available, c.BBIPC_FOREVER });
                for (&waits, 0..) |*one, index| {
                    try one.start(.{ pollers[index % backends.len], c.BBIPC_FOREVER });
                }
                try support.awaitPolling(polls.len);
                for (pollers) |poller| try support.awaitWaiting(poller, 2);
                support.interruptAll();
                for (&polls) |*one| try testing.expectEqual(c.BBIPC_ERROR_INTERRUPTED, one.join());
                for (&waits) |*one| try testing.expectEqual(c.BBIPC_ERROR_INTERRUPTED, one.join());
            }
            // It was for those alone who waited.
            for (pollers) |poller| try expectEvents(0, try waitOnce(poller, pair.near, 10 * std.time.ns_per_ms));
            try expectEvents(0, poll(pair.near, data_available, 10 * std.time.ns_per_ms));
            try Step.farWrites(stage, pair);
            for (pollers) |poller| try expectEvents(data_available, try waitOnce(poller, pair.near, patience_ns));
        }
    }.body);
}

test "a thread that hears of what concerns another goes on sleeping" {
    if (builtin.os.tag != .linux) return error.SkipZigTest; // how often a thread slept is read from /proc
    try onTransport(.local, struct {
        const Sleeper = struct {
            thread: support.system.Thread = undefined,
            is_known: std.atomic.Value(bool) = .init(false),
        };

        fn pollAsSleeper(sleeper: *Sleeper, socket: Handle) i64 {
            sleeper.thread = support.system.currentThread();
            sleeper.is_known.store(true, .release);
            return poll(socket, data_available, patience_ns);
        }

        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            var sleepers: [4]Sleeper = @splat(.{});
            var waits: [sleepers.len]support.Call(pollAsSleeper) = undefined;
            for (&waits, &sleepers) |*wait, *sleeper| try wait.start(.{ sleeper, pair.near });
            for (0..20) |_| {
                const other = try stage.pair();
                var waiting: support.Call(poll) = undefined;
                try waiting.start(.{ other.near, data_available, patience_ns });
                try support.awaitPolling(waits.len + 1);
                stage.close(other.near);
                try testing.expectEqual(c.BBIPC_ERROR_INVALID_HANDLE, waiting.join());
                stage.close(other.far);
            }
            // Nothing happens any more, and the only way to see that is to let time pass.
            var before: [sleepers.len]u64 = @splat(0);
            for (0..100) |_| {
                const last = before;
                try sleepsOf(&sleepers, &before);
                if (std.mem.eql(u64, &last, &before)) break;
                try pause(20 * std.time.ns_per_ms);
            }
            try pause(300 * std.time.ns_per_ms);
            var after: [sleepers.len]u64 = undefined;
            try sleepsOf(&sleepers, &after);
            try Step.farWrites(stage, pair);
            for (&waits) |*wait| try expectEvents(data_available, wait.join());
            try testing.expectEqualSlices(u64, &before, &after);
        }

        fn sleepsOf(sleepers: []Sleeper, counts: []u64) !void {
            for (sleepers, counts) |*sleeper, *count| {
                try testing.expect(sleeper.is_known.load(.acquire));
                count.* = try support.system.sleepsOf(testing.io, sleeper.thread);
            }
        }

        fn pause(duration_ns: i64) !void {
            try testing.expectEqual(0, c.bbipc_poll_sockets(null, null, null, 0, duration_ns, null, null, null));
        }
    }.body);
}
