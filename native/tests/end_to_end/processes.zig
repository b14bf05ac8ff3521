//! The library among the rest of its process, where that has signals, a limit of descriptors, and can fork.

const std = @import("std");
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
const waitFor = support.waitFor;
const waitOnce = support.waitOnce;

const data_available: u32 = c.BBIPC_DATA_AVAILABLE;
const write_space: u32 = c.BBIPC_WRITE_SPACE;

// ---- Signals ----

test "a signal handler that runs ends a wait, which can be taken up again" {
    try onTransport(.local, struct {
        const system = support.system;
        const Waiting = struct { thread: system.Thread = undefined, is_known: std.atomic.Value(bool) = .init(false) };

        fn introduce(waiting: *Waiting) void {
            waiting.thread = system.currentThread();
            waiting.is_known.store(true, .release);
        }

        fn pollAs(waiting: *Waiting, socket: Handle) i64 {
            introduce(waiting);
            return poll(socket, data_available, patience_ns);
        }

        fn waitAs(waiting: *Waiting, poller: Handle) i64 {
            introduce(waiting);
            return waitFor(poller, patience_ns);
        }

        fn body(stage: *Stage) !void {
            const handling: system.SignalHandling = try .begin();
            defer handling.end();
            const pair = try stage.pair();
            {
                var thread: Waiting = .{};
                var waiting: support.Call(pollAs) = undefined;
                try waiting.start(.{ &thread, pair.near });
                try support.awaitPolling(1);
                try interrupt(&thread);
                try testing.expectEqual(c.BBIPC_ERROR_INTERRUPTED, waiting.join());
            }
            for (backends) |backend| {
                const poller = try stage.poller(backend);
                var thread: Waiting = .{};
                var waiting: support.Call(waitAs) = undefined;
                try waiting.start(.{ &thread, poller });
                try support.awaitWaiting(poller, 1);
                try interrupt(&thread);
                try testing.expectEqual(c.BBIPC_ERROR_INTERRUPTED, waiting.join());
            }
        }

        /// Signals the thread once it sleeps in the kernel: before that, a handler would run to no effect.
        fn interrupt(waiting: *Waiting) !void {
            try testing.expect(waiting.is_known.load(.acquire));
            try system.awaitSleep(testing.io, waiting.thread);
            try system.signalThread(waiting.thread);
        }
    }.body);
}

// ---- Descriptors ----

test "a wait without a descriptor to spare is a wait all the same" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            const none: support.system.NoDescriptors = try .begin();
            defer none.end();
            try testing.expectEqual(c.BBIPC_ERROR_SYSTEM, c.bbipc_make_poller(c.BBIPC_BACKEND_DEFAULT, null));
            const timeout_ns = 30 * std.time.ns_per_ms;
            const start_ns = support.monotonicNs();
            try expectEvents(0, poll(pair.near, data_available, timeout_ns));
            try testing.expect(support.monotonicNs() - start_ns >= timeout_ns);
            var waiting: support.Call(poll) = undefined;
            try waiting.start(.{ pair.near, data_available, patience_ns });
            try support.awaitPolling(1);
            try Step.farWrites(stage, pair);
            try expectEvents(data_available, waiting.join());
            try Step.nearReads(stage, pair);
            stage.end(pair.far);
            try support.awaitEvent(pair.near, c.BBIPC_END_OF_DATA);
        }
    }.body);
}

// ---- Fork ----

/// Runs a function in a forked child and returns what it returned there, 0 to 255.
fn inChild(comptime function: anytype, arguments: anytype) !u8 {
    c.bbipc_before_fork();
    const process_id = try support.system.fork();
    if (process_id == 0) {
        c.bbipc_after_fork_in_child();
        support.system.exitChild(@call(.auto, function, arguments) catch |err| code: {
            std.debug.print("in the child: {t}\n", .{err});
            break :code 255;
        });
    }
    c.bbipc_after_fork_in_parent();
    return support.system.awaitChild(process_id);
}

test "a fork while a wait looks changes nothing of it, and the child's own waits are in order" {
    try support.beginLooking();
    defer support.endLooking();
    try eachTransport(struct {
        fn child(stage: *Stage, pair: Stage.Pair) !u8 {
            try support.writeAll(pair.far, "x");
            const own = try stage.pair();
            support.makeLook(own.near, std.time.ns_per_ms);
            try expectEvents(0, poll(own.near, data_available, 2 * std.time.ns_per_ms));
            try support.writeAll(own.far, "y");
            try support.awaitEvent(own.near, data_available);
            return 42;
        }

        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            support.makeLook(pair.near, std.time.ns_per_s / 2);
            var waiting: support.Call(poll) = undefined;
            try waiting.start(.{ pair.near, data_available, patience_ns });
            try support.awaitPolling(1);
            try testing.expectEqual(42, try inChild(child, .{ stage, pair }));
            try expectEvents(data_available, waiting.join());
        }
    }.body);
}

test "a child uses the servers and streams that it inherits" {
    try eachTransport(struct {
        fn child(stage: *Stage, server: Stage.Server, pair: Stage.Pair) !u8 {
            try support.expectBytes(pair.far, "question");
            try support.writeAll(pair.far, "answer");
            const accepted = try stage.accept(server);
            try support.writeAll(accepted, "from the child");
            // A poller of its own.
            for (backends) |backend| {
                const poller = try stage.poller(backend);
                try testing.expectEqual(0, c.bbipc_monitor_socket(poller, pair.far, write_space, null));
                try expectEvents(write_space, try waitOnce(poller, pair.far, patience_ns));
            }
            return 42;
        }

        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(4);
            const pair = try stage.pairWith(server);
            const client = try stage.connect(server);
            try support.writeAll(pair.near, "question");
            try testing.expectEqual(42, try inChild(child, .{ stage, server, pair }));
            try support.expectBytes(pair.near, "answer");
            try support.expectBytes(client, "from the child");
        }
    }.body);
}

test "a poller in a child can only be closed, and that leaves the parent's alone" {
    try eachTransport(struct {
        fn child(poller: Handle, pair: Stage.Pair) !u8 {
            const refused = c.BBIPC_ERROR_WRONG_PROCESS;
            try testing.expectEqual(refused, waitFor(poller, 0));
            try testing.expectEqual(refused, c.bbipc_wake(poller));
            try testing.expectEqual(refused, c.bbipc_monitor_socket(poller, pair.far, data_available, null));
            try testing.expectEqual(refused, c.bbipc_set_monitored_events(poller, pair.near, 0, null));
            try testing.expectEqual(refused, c.bbipc_unmonitor_socket(poller, pair.near));
            try testing.expectEqual(refused, c.bbipc_monitored_events(poller, pair.near));
            try testing.expectEqual(refused, c.bbipc_monitored_sockets(poller, null, 0));
            // A monitored socket that closes here stays in the parent's poller.
            try testing.expectEqual(0, c.bbipc_close(pair.near));
            try testing.expectEqual(0, c.bbipc_close(poller));
            return 42;
        }

        fn body(stage: *Stage) !void {
            for (backends) |backend| {
                const pair = try stage.pair();
                const poller = try stage.poller(backend);
                try testing.expectEqual(0, c.bbipc_monitor_socket(poller, pair.near, data_available, null));
                try testing.expectEqual(42, try inChild(child, .{ poller, pair }));
                try testing.expectEqual(1, c.bbipc_monitored_sockets(poller, null, 0));
                try expectEvents(0, try waitOnce(poller, pair.near, 0));
                try Step.farWrites(stage, pair);
                try expectEvents(data_available, try waitOnce(poller, pair.near, patience_ns));
            }
        }
    }.body);
}

test "a child that closes its copy of a local server leaves the pathname to the parent" {
    try onTransport(.local, struct {
        fn child(server: Handle) !u8 {
            try testing.expectEqual(0, c.bbipc_close(server));
            return 42;
        }

        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(4);
            try testing.expectEqual(42, try inChild(child, .{server.handle}));
            try testing.expect(server.address.local.exists());
            _ = try stage.pairWith(server);
        }
    }.body);
}

test "a child of a program whose other threads wait and work is in order" {
    try eachTransport(struct {
        const Shared = struct {
            stop: std.atomic.Value(bool) = .init(false),

            fn work(shared: *Shared) i64 {
                var rounds: i64 = 0;
                while (!shared.stop.load(.monotonic)) {
                    const poller = c.bbipc_make_poller(c.BBIPC_BACKEND_DEFAULT, null);
                    if (poller < 0) return poller;
                    if (waitFor(poller, 0) != 0) return -1;
                    if (c.bbipc_close(poller) != 0) return -1;
                    rounds += 1;
                }
                return rounds;
            }
        };

        fn child(stage: *Stage, pair: Stage.Pair, poller: Handle) !u8 {
            // What the parent's threads wait with can be waited with, and closed, here.
            try support.writeAll(pair.far, "x");
            try expectEvents(data_available, poll(pair.near, data_available, patience_ns));
            try testing.expectEqual(0, c.bbipc_close(poller));
            try testing.expectEqual(0, c.bbipc_close(pair.near));
            // In a child of a program with threads, qemu-user 7.2 fails an assertion of its own with the first new
            // thread.
            if (support.system.isEmulated()) return 42;
            const other = try stage.pair();
            var waiting: support.Call(poll) = undefined;
            try waiting.start(.{ other.near, data_available, patience_ns });
            try support.awaitPolling(1);
            stage.close(other.near);
            try testing.expectEqual(c.BBIPC_ERROR_INVALID_HANDLE, waiting.join());
            return 42;
        }

        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            const poller = try stage.poller(c.BBIPC_BACKEND_DEFAULT);
            var shared: Shared = .{};
            var working: support.Call(Shared.work) = undefined;
            var polling: support.Call(poll) = undefined;
            var waiting: support.Call(waitFor) = undefined;
            try working.start(.{&shared});
            try polling.start(.{ pair.near, data_available, patience_ns });
            // As long as all children take: a fork takes a second on a busy machine under qemu-user.
            try waiting.start(.{ poller, 10 * patience_ns });
            try support.awaitPolling(1);
            try support.awaitWaiting(poller, 1);
            var returned: anyerror!u8 = 42;
            for (0..10) |_| {
                returned = inChild(child, .{ stage, pair, poller });
                if ((returned catch 0) != 42) break;
                // The child's byte.
                if (polling.join() != data_available) break;
                try support.expectBytes(pair.near, "x");
                try polling.start(.{ pair.near, data_available, patience_ns });
                try support.awaitPolling(1);
            }
            try testing.expectEqual(1, support.write(pair.far, "y"));
            try testing.expectEqual(0, c.bbipc_wake(poller));
            shared.stop.store(true, .monotonic);
            try expectEvents(data_available, polling.join());
            try testing.expectEqual(c.BBIPC_ERROR_WOKEN, waiting.join());
            try testing.expect(working.join() > 0);
            try testing.expectEqual(42, try returned);
        }
    }.body);
}
