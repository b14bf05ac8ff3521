//! The states of sockets: what holds in each, and who learns that one has become another.

const std = @import("std");
const support = @import("support.zig");
const testing = std.testing;

const c = support.c;
const backends = support.backends;
const eachTransport = support.eachTransport;
const expectEvents = support.expectEvents;
const gone = support.gone;
const Handle = support.Handle;
const idle = support.idle;
const onTransport = support.onTransport;
const patience_ns = support.patience_ns;
const poll = support.poll;
const Stage = support.Stage;
const Step = support.Step;
const stream_events = support.stream_events;
const succeed = support.succeed;
const waitOnce = support.waitOnce;

const determined: u32 = c.BBIPC_DETERMINED;
const succeeded: u32 = c.BBIPC_CONNECTION_SUCCEEDED;
const data_available: u32 = c.BBIPC_DATA_AVAILABLE;
const ready_to_write: u32 = c.BBIPC_READY_TO_WRITE;
const end_of_data: u32 = c.BBIPC_END_OF_DATA;
const write_space: u32 = c.BBIPC_WRITE_SPACE;
const room = write_space | c.BBIPC_MESSAGE_SPACE;
/// Bytes before an end are less than a message: none will come.
const cut = data_available | c.BBIPC_MESSAGE_AVAILABLE;
const severed: u32 = c.BBIPC_CONNECTION_SEVERED;
const connection_available: u32 = c.BBIPC_CONNECTION_AVAILABLE;

// ---- States: every way of asking agrees ----

/// Waits for what shall hold; then asks for every set of events, in every way there is.
fn expectState(stage: *Stage, socket: Handle, possible: u32, expected: u32) !void {
    for (0..32) |bit| {
        const event = @as(u32, 1) << @intCast(bit);
        if (expected & event != 0) try support.awaitEvent(socket, event);
    }
    try expectEvents(expected, poll(socket, possible, 0));

    var pollers: [backends.len]Handle = undefined;
    for (&pollers, backends) |*poller, backend| {
        poller.* = try stage.poller(backend);
        _ = try succeed(c.bbipc_monitor_socket(poller.*, socket, 0, null));
    }
    defer for (pollers) |poller| stage.close(poller);
    var subsets: support.Subsets = .{ .of = possible };
    while (subsets.next()) |asked| {
        // All of them would take an emulator minutes.
        if (@popCount(asked) > 4 and asked != possible) continue;
        errdefer std.debug.print("asked for {b}:\n", .{asked});
        try expectEvents(asked & expected, poll(socket, asked, 0));
        for (pollers) |poller| {
            _ = try succeed(c.bbipc_set_monitored_events(poller, socket, asked, null));
            // Level-triggered: the second time is like the first.
            for (0..2) |_| try expectEvents(asked & expected, try waitOnce(poller, socket, 0));
        }
    }
}

/// One state of a stream, and how it comes about.
const State = struct {
    name: []const u8,
    make: *const fn (*Stage, Stage.Pair) anyerror!void,
    tcp: u32,
    unix: u32,
    /// Without the states with a finished end, which a pipe can't have.
    pipe: u32,
    ending: support.Ending = .orderly,

    fn held(state: State, stage: *const Stage) u32 {
        return switch (stage.kind()) {
            .tcp => state.tcp,
            .unix => state.unix,
            .pipe => state.pipe,
        };
    }

    fn expected(state: State, stage: *const Stage) u32 {
        return stage.shown(state.held(stage), state.ending);
    }

    fn possible(state: State, stage: *const Stage) u32 {
        return stage.askable(state.held(stage), state.ending);
    }
};

const states = [_]State{
    .{
        .name = "established",
        .make = Step.all(.{Step.nothing}),
        .tcp = idle,
        .unix = idle,
        .pipe = idle,
    },
    .{
        .name = "unread bytes",
        .make = Step.all(.{Step.farWrites}),
        .tcp = idle | data_available,
        .unix = idle | data_available,
        .pipe = idle | data_available,
    },
    .{
        .name = "all bytes read",
        .make = Step.all(.{ Step.farWrites, Step.nearReads }),
        .tcp = idle,
        .unix = idle,
        .pipe = idle,
    },
    .{
        .name = "full",
        .make = Step.all(.{Step.nearFills}),
        .tcp = determined | succeeded,
        .unix = determined | succeeded,
        .pipe = determined | succeeded,
    },
    .{
        .name = "full no more",
        .make = Step.all(.{ Step.nearFills, Step.farDrains }),
        .tcp = idle,
        .unix = idle,
        .pipe = idle,
    },
    .{
        .name = "finished",
        .make = Step.all(.{Step.nearFinishes}),
        .tcp = determined | succeeded,
        .unix = determined | succeeded,
        .pipe = idle,
    },
    .{
        .name = "finished, unread bytes",
        .make = Step.all(.{ Step.nearFinishes, Step.farWrites }),
        .tcp = determined | succeeded | data_available,
        .unix = determined | succeeded | data_available,
        .pipe = idle | data_available,
    },
    .{
        .name = "the remote end has finished",
        .make = Step.all(.{Step.farFinishes}),
        .tcp = gone | end_of_data | room,
        .unix = gone | end_of_data | room,
        .pipe = idle,
    },
    .{
        .name = "the remote end has finished, unread bytes",
        .make = Step.all(.{ Step.farWrites, Step.farFinishes }),
        .tcp = gone | cut | room,
        .unix = gone | cut | room,
        .pipe = idle | data_available,
    },
    .{
        .name = "the remote end has finished, all bytes read",
        .make = Step.all(.{ Step.farWrites, Step.farFinishes, Step.nearReads }),
        .tcp = gone | end_of_data | room,
        .unix = gone | end_of_data | room,
        .pipe = idle,
    },
    .{
        .name = "the remote end has finished, full",
        .make = Step.all(.{ Step.farFinishes, Step.nearFills }),
        .tcp = gone | end_of_data,
        .unix = gone | end_of_data,
        .pipe = determined | succeeded,
    },
    .{
        .name = "the remote end has finished, full, unread bytes",
        .make = Step.all(.{ Step.farWrites, Step.farFinishes, Step.nearFills }),
        .tcp = gone | cut,
        .unix = gone | cut,
        .pipe = determined | succeeded | data_available,
    },
    .{
        .name = "finished at both ends",
        .make = Step.all(.{ Step.nearFinishes, Step.farFinishes }),
        .tcp = gone | end_of_data | severed,
        .unix = gone | end_of_data | severed,
        .pipe = idle,
    },
    .{
        .name = "finished at both ends, unread bytes",
        .make = Step.all(.{ Step.nearFinishes, Step.farWrites, Step.farFinishes }),
        .tcp = gone | cut | severed,
        .unix = gone | cut | severed,
        .pipe = idle | data_available,
    },
    .{
        // TCP can't tell it from a remote end that has only finished.
        .name = "the remote end has closed",
        .make = Step.all(.{Step.farCloses}),
        .tcp = gone | end_of_data | room,
        .unix = gone | end_of_data | severed,
        .pipe = gone | end_of_data | severed,
    },
    .{
        .name = "the remote end has closed, unread bytes",
        .make = Step.all(.{ Step.farWrites, Step.farCloses }),
        .tcp = gone | cut | room,
        .unix = gone | cut | severed,
        .pipe = gone | cut | severed,
    },
    .{
        .name = "finished, and the remote end has closed",
        .make = Step.all(.{ Step.nearFinishes, Step.farCloses }),
        .tcp = gone | end_of_data | severed,
        .unix = gone | end_of_data | severed,
        .pipe = gone | end_of_data | severed,
    },
    .{
        .name = "reset",
        .make = Step.all(.{ Step.nearWrites, Step.farResets }),
        .tcp = gone | end_of_data | severed,
        .unix = gone | end_of_data | severed,
        .pipe = gone | end_of_data | severed,
        .ending = .reset,
    },
    .{
        .name = "reset, unread bytes",
        .make = Step.all(.{ Step.farWrites, Step.nearWrites, Step.farResets }),
        .tcp = gone | cut | severed,
        .unix = gone | cut | severed,
        .pipe = gone | cut | severed,
        .ending = .reset,
    },
    .{
        .name = "reset, all bytes read",
        .make = Step.all(.{ Step.farWrites, Step.nearWrites, Step.farResets, Step.nearReadsRest }),
        .tcp = gone | end_of_data | severed,
        .unix = gone | end_of_data | severed,
        .pipe = gone | end_of_data | severed,
        .ending = .reset,
    },
};

test "in every state, every way of asking for every set of events gives the same answer" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            for (states) |state| {
                errdefer std.debug.print("in the state \"{s}\":\n", .{state.name});
                const pair = try stage.pair();
                defer stage.close(pair.near);
                try state.make(stage, pair);
                try expectState(stage, pair.near, state.possible(stage), state.expected(stage));
                // To have been asked changes nothing.
                try expectEvents(state.expected(stage), poll(pair.near, state.possible(stage), 0));
            }
        }
    }.body);
}

test "in every state, a poller that has watched from the start says what a new one does" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            for (states) |state| for (backends) |backend| {
                errdefer std.debug.print("in the state \"{s}\", backend {d}:\n", .{ state.name, backend });
                const pair = try stage.pair();
                defer stage.close(pair.near);
                const events = [_]u32{
                    determined,     succeeded,                   c.BBIPC_CONNECTION_FAILED, data_available,
                    ready_to_write, c.BBIPC_REMOTE_DISCONNECTED, end_of_data,               write_space,
                    severed,        state.possible(stage),
                };
                var pollers: [events.len]Handle = undefined;
                for (&pollers, events) |*poller, asked| {
                    poller.* = try stage.poller(backend);
                    _ = try succeed(c.bbipc_monitor_socket(poller.*, pair.near, asked, null));
                    _ = try waitOnce(poller.*, pair.near, 0);
                }
                defer for (pollers) |poller| stage.close(poller);
                try state.make(stage, pair);
                const expected = state.expected(stage);
                try stage.awaitArrival(pair.near, expected);
                for (pollers, events) |poller, asked| {
                    // All that holds comes, if not with the first wait.
                    const end_ns = support.monotonicNs() + patience_ns;
                    var found: u32 = 0;
                    while (asked & expected & ~found != 0 and support.monotonicNs() < end_ns) {
                        found |= try waitOnce(poller, pair.near, patience_ns);
                    }
                    try expectEvents(asked & expected, try waitOnce(poller, pair.near, 0));
                }
            };
        }
    }.body);
}

test "a connection that is refused is determined and failed" {
    try onTransport(.tcp, struct {
        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(1);
            stage.close(server.handle);
            const stream = try stage.connect(server);
            try expectState(stage, stream, stream_events, gone | end_of_data | severed);
            try expectRefusedCalls(stream);
        }
    }.body);
}

fn expectRefusedCalls(stream: Handle) !void {
    const refused = support.Reason.CONNREFUSED;
    var code: i32 = 0;
    var buffer: [8]u8 = undefined;
    for (0..2) |_| {
        code = 0;
        try support.expectCode(2, refused, c.bbipc_connection_error(stream, &code), code);
        code = 0;
        try support.expectSystem(refused, c.bbipc_read(stream, &buffer, 0, buffer.len, 0, &code), code);
        code = 0;
        try support.expectSystem(refused, c.bbipc_write(stream, &buffer, 0, buffer.len, &code), code);
        code = 0;
        try support.expectSystem(refused, c.bbipc_finish_writing(stream, &code), code);
    }
}

test "a refused connection tells why, also to whoever asks nothing else first" {
    try onTransport(.tcp, struct {
        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(1);
            stage.close(server.handle);
            const stream = try stage.connect(server);
            try support.awaitEvent(stream, determined);
            try expectRefusedCalls(stream);
        }
    }.body);
}

test "a server has a connection available until it is accepted" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(16);
            try expectState(stage, server.handle, connection_available, 0);
            var code: i32 = 0;
            const nobody = c.bbipc_accept_connection(server.handle, &code);
            try support.expectCode(c.BBIPC_ERROR_NO_CONNECTION, .AGAIN, nobody, code);
            _ = try stage.connect(server);
            _ = try stage.connect(server);
            try expectState(stage, server.handle, connection_available, connection_available);
            const first = try stage.accept(server);
            try expectState(stage, server.handle, connection_available, connection_available);
            _ = try stage.accept(server);
            try expectState(stage, server.handle, connection_available, 0);
            // An accepted stream outlives its server.
            stage.close(server.handle);
            try expectEvents(idle, poll(first, stream_events, 0));
        }
    }.body);
}

test "a server that closes severs the connections that it has not accepted" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(16);
            const stream = try stage.connect(server);
            try support.awaitEvent(stream, succeeded);
            try support.awaitEvent(server.handle, connection_available);
            stage.close(server.handle);
            try expectState(stage, stream, stream_events, gone | end_of_data | severed);
            var code: i32 = 0;
            const reason = c.bbipc_connection_error(stream, &code);
            // A pipe does not tell how its other end has gone, nor does a local stream of FreeBSD 15.
            if (stage.kind() == .pipe) return testing.expectEqual(0, reason);
            if (stage.kind() == .unix and !support.system.resetsLocal() and reason == 0) return;
            try support.expectCode(1, .CONNRESET, reason, code);
        }
    }.body);
}

// ---- Transitions: who waits for an event learns of it ----

const Transition = struct {
    name: []const u8,
    before: *const fn (*Stage, Stage.Pair) anyerror!void,
    step: *const fn (*Stage, Stage.Pair) anyerror!void,
    /// What held before the step, and what holds after it. Null where the step leads nowhere.
    tcp: ?[2]u32,
    unix: ?[2]u32,
    pipe: ?[2]u32,
    ending: support.Ending = .orderly,

    fn holds(transition: Transition, stage: *const Stage) ?[2]u32 {
        return switch (stage.kind()) {
            .tcp => transition.tcp,
            .unix => transition.unix,
            .pipe => transition.pipe,
        };
    }

    fn possible(transition: Transition, stage: *const Stage) u32 {
        const held = transition.holds(stage).?;
        return stage.askable(held[0], transition.ending) & stage.askable(held[1], transition.ending);
    }

    fn expected(transition: Transition, stage: *const Stage) ?[2]u32 {
        const held = transition.holds(stage) orelse return null;
        const before = stage.shown(held[0], transition.ending);
        const after = stage.shown(held[1], transition.ending);
        return if (before == after) null else .{ before, after };
    }
};

const transitions = [_]Transition{
    .{
        .name = "bytes arrive",
        .before = Step.nothing,
        .step = Step.farWrites,
        .tcp = .{ idle, idle | data_available },
        .unix = .{ idle, idle | data_available },
        .pipe = .{ idle, idle | data_available },
    },
    .{
        .name = "the remote end finishes",
        .before = Step.nothing,
        .step = Step.farFinishes,
        .tcp = .{ idle, gone | end_of_data | room },
        .unix = .{ idle, gone | end_of_data | room },
        .pipe = null, // a pipe is not finished
    },
    .{
        .name = "the remote end finishes, bytes are unread",
        .before = Step.farWrites,
        .step = Step.farFinishes,
        .tcp = .{ idle | data_available, gone | cut | room },
        .unix = .{ idle | data_available, gone | cut | room },
        .pipe = null, // a pipe is not finished
    },
    .{
        .name = "the last byte is read",
        .before = Step.all(.{ Step.farWrites, Step.farFinishes }),
        .step = Step.nearReads,
        .tcp = .{ gone | cut | room, gone | end_of_data | room },
        .unix = .{ gone | cut | room, gone | end_of_data | room },
        .pipe = null, // a pipe is not finished
    },
    .{
        .name = "the last byte is read after a reset",
        .before = Step.all(.{ Step.farWrites, Step.nearWrites, Step.farResets }),
        .step = Step.nearReads,
        .tcp = .{ gone | cut | severed, gone | end_of_data | severed },
        .unix = .{ gone | cut | severed, gone | end_of_data | severed },
        .pipe = .{ gone | cut | severed, gone | end_of_data | severed },
        .ending = .reset,
    },
    .{
        .name = "room for a write",
        .before = Step.nearFills,
        .step = Step.farDrains,
        .tcp = .{ determined | succeeded, idle },
        .unix = .{ determined | succeeded, idle },
        .pipe = .{ determined | succeeded, idle },
    },
    .{
        .name = "room for a write, the remote end has finished",
        .before = Step.all(.{ Step.farFinishes, Step.nearFills }),
        .step = Step.farDrains,
        .tcp = .{ gone | end_of_data, gone | end_of_data | room },
        .unix = .{ gone | end_of_data, gone | end_of_data | room },
        .pipe = null, // a pipe is not finished
    },
    .{
        .name = "the remote end closes",
        .before = Step.nothing,
        .step = Step.farCloses,
        .tcp = .{ idle, gone | end_of_data | room },
        .unix = .{ idle, gone | end_of_data | severed },
        .pipe = .{ idle, gone | end_of_data | severed },
    },
    .{
        .name = "the remote end closes, bytes are unread",
        .before = Step.farWrites,
        .step = Step.farCloses,
        .tcp = .{ idle | data_available, gone | cut | room },
        .unix = .{ idle | data_available, gone | cut | severed },
        .pipe = .{ idle | data_available, gone | cut | severed },
    },
    .{
        .name = "the remote end resets",
        .before = Step.nearWrites,
        .step = Step.farResets,
        .tcp = .{ idle, gone | end_of_data | severed },
        .unix = .{ idle, gone | end_of_data | severed },
        .pipe = .{ idle, gone | end_of_data | severed },
        .ending = .reset,
    },
    .{
        .name = "a write to a closed remote end brings a reset",
        .before = Step.farCloses,
        .step = Step.nearWritesToNobody,
        .tcp = .{ gone | end_of_data | room, gone | end_of_data | severed },
        .unix = null, // severed already
        .pipe = null, // severed already
    },
    .{
        .name = "this end finishes after the remote end",
        .before = Step.farFinishes,
        .step = Step.nearFinishes,
        .tcp = .{ gone | end_of_data | room, gone | end_of_data | severed },
        .unix = .{ gone | end_of_data | room, gone | end_of_data | severed },
        .pipe = null, // a pipe is not finished
    },
};

test "an event that comes ends every wait for it, alone or with one that doesn't come" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            for (transitions) |transition| {
                errdefer std.debug.print("when {s}:\n", .{transition.name});
                const held = transition.expected(stage) orelse continue;
                const pair = try stage.pair();
                defer stage.close(pair.near);
                try transition.before(stage, pair);
                const possible = transition.possible(stage);
                try expectState(stage, pair.near, possible, held[0]);
                try expectWoken(stage, pair.near, possible, held[0], held[1], struct {
                    stage: *Stage,
                    pair: Stage.Pair,
                    step: *const fn (*Stage, Stage.Pair) anyerror!void,

                    fn run(self: @This()) !void {
                        return self.step(self.stage, self.pair);
                    }
                }{ .stage = stage, .pair = pair, .step = transition.step });
                try expectState(stage, pair.near, possible, held[1]);
            }
        }
    }.body);
}

/// Has threads and pollers wait for each event that comes, alone and with each that doesn't, then takes the step.
fn expectWoken(stage: *Stage, stream: Handle, possible: u32, before: u32, after: u32, step: anytype) !void {
    const Wait = struct {
        asked: u32,
        thread: support.Call(poll) = undefined,
        pollers: [backends.len]Handle = undefined,
    };
    var waits: [64]Wait = undefined;
    var count: usize = 0;
    const never = possible & ~before & ~after;
    var subsets: support.Subsets = .{ .of = possible & ~before };
    while (subsets.next()) |asked| {
        if (@popCount(asked & after) != 1 or @popCount(asked & never) > 1) continue;
        waits[count] = .{ .asked = asked };
        count += 1;
    }
    try testing.expect(count > 0);
    for (waits[0..count]) |*wait| {
        for (&wait.pollers, backends) |*poller, backend| {
            poller.* = try stage.poller(backend);
            _ = try succeed(c.bbipc_monitor_socket(poller.*, stream, wait.asked, null));
            try expectEvents(0, try waitOnce(poller.*, stream, 0));
        }
    }
    for (waits[0..count]) |*wait| try wait.thread.start(.{ stream, wait.asked, patience_ns });
    try support.awaitPolling(count);
    const stepped = step.run();
    for (waits[0..count]) |*wait| {
        errdefer std.debug.print("a thread that waited for {b}:\n", .{wait.asked});
        try expectEvents(wait.asked & after, wait.thread.join());
    }
    try stepped;
    for (waits[0..count]) |wait| for (wait.pollers) |poller| {
        errdefer std.debug.print("a poller that was asked for {b}:\n", .{wait.asked});
        try expectEvents(wait.asked & after, try waitOnce(poller, stream, patience_ns));
        stage.close(poller);
    };
}

// The next know how Linux treats a full backlog: it leaves the client waiting, and looks again a second later. Others
// refuse, or accept more than the backlog.

test "a connection under way has no event, and every wait for its outcome learns of it" {
    if (!support.system.waitsForBacklog()) return error.SkipZigTest;
    try onTransport(.tcp, struct {
        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(0);
            const stream = try connectionUnderWay(stage, server);
            try expectWoken(stage, stream, stream_events, 0, idle, struct {
                stage: *Stage,
                server: Stage.Server,

                fn run(self: @This()) !void {
                    _ = try self.stage.accept(self.server);
                }
            }{ .stage = stage, .server = server });
            try expectState(stage, stream, stream_events, idle);
        }
    }.body);
}

test "a connection under way that is refused in the end tells every wait" {
    if (!support.system.waitsForBacklog()) return error.SkipZigTest;
    try onTransport(.tcp, struct {
        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(0);
            const stream = try connectionUnderWay(stage, server);
            try expectWoken(stage, stream, stream_events, 0, gone | end_of_data | severed, struct {
                stage: *Stage,
                server: Stage.Server,

                fn run(self: @This()) !void {
                    self.stage.close(self.server.handle);
                }
            }{ .stage = stage, .server = server });
            try expectRefusedCalls(stream);
        }
    }.body);
}

test "a wait for the outcome of a connection is not slept through while another thread fills its buffer" {
    if (!support.system.waitsForBacklog()) return error.SkipZigTest;
    try onTransport(.tcp, struct {
        fn pollIdly(stream: Handle) i64 {
            support.system.runIdly() catch return -1;
            return poll(stream, determined, patience_ns);
        }

        fn keepBusy(stop: *std.atomic.Value(bool)) void {
            while (!stop.load(.monotonic)) std.atomic.spinLoopHint();
        }

        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(0);
            const stream = try connectionUnderWay(stage, server);
            var waiting: support.Call(pollIdly) = undefined;
            try waiting.start(.{stream});
            try support.awaitPolling(1);
            var stop: std.atomic.Value(bool) = .init(false);
            var busy: [64]std.Thread = undefined;
            const busy_count = @min(busy.len, try std.Thread.getCpuCount() + 1);
            _ = try stage.accept(server);
            for (busy[0..busy_count]) |*thread| thread.* = try std.Thread.spawn(.{}, keepBusy, .{&stop});
            const filled = fillAtOnce(stream);
            stop.store(true, .monotonic);
            for (busy[0..busy_count]) |thread| thread.join();
            try expectEvents(determined, waiting.join());
            try filled;
        }

        fn fillAtOnce(stream: Handle) !void {
            const data: [65536]u8 = @splat('f');
            try support.awaitEvent(stream, succeeded);
            for (0..2) |_| {
                while (try succeed(support.write(stream, &data)) > 0) {}
            }
        }
    }.body);
}

/// A stream whose attempt to connect waits for the server to accept others.
fn connectionUnderWay(stage: *Stage, server: Stage.Server) !Handle {
    const first = try stage.connect(server);
    try support.awaitEvent(first, succeeded);
    const stream = try stage.connect(server);
    try expectState(stage, stream, stream_events, 0);
    var buffer: [8]u8 = undefined;
    var code: i32 = 0;
    try testing.expectEqual(0, support.read(stream, &buffer));
    try testing.expectEqual(0, support.write(stream, "early"));
    try testing.expectEqual(0, c.bbipc_connection_error(stream, &code));
    try support.expectSystem(.NOTCONN, c.bbipc_finish_writing(stream, &code), code);
    return stream;
}

test "an end that the library had not noticed leaves a wait for more than success waiting for the rest" {
    // Over a local stream, where the remote end's finishing is visible at once, so that nothing need look for it. Over
    // TCP where local streams are pipes, which can't be finished.
    try onTransport(if (support.system.has_pipes) .tcp else .local, struct {
        fn farFinishes(stage: *Stage, pair: Stage.Pair) !void {
            try Step.farFinishes(stage, pair);
            if (support.system.has_pipes) try support.system.awaitEndBehind(try succeed(c.bbipc_fileno(pair.near)));
        }

        fn body(stage: *Stage) !void {
            {
                const pair = try stage.pair();
                try farFinishes(stage, pair);
                var waiting: support.Call(poll) = undefined;
                try waiting.start(.{ pair.near, succeeded | severed, patience_ns });
                try support.awaitPolling(1);
                // TCP learns of more than an orderly end by what comes back for a write.
                if (stage.kind() == .tcp) try Step.nearWrites(stage, pair);
                try Step.farResets(stage, pair);
                try expectEvents(severed, waiting.join());
            }
            {
                const pair = try stage.pair();
                try Step.nearFills(stage, pair);
                try farFinishes(stage, pair);
                var waiting: support.Call(poll) = undefined;
                try waiting.start(.{ pair.near, succeeded | write_space, patience_ns });
                try support.awaitPolling(1);
                try Step.farDrains(stage, pair);
                try expectEvents(write_space, waiting.join());
            }
        }
    }.body);
}

// ---- After the end ----

test "bytes that arrived before a reset are read first, then comes the error, each time" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            try Step.farWrites(stage, pair);
            // Only a write that was under way tells of a pipe that it was severed.
            if (stage.kind() == .pipe) try Step.nearFills(stage, pair) else try Step.nearWrites(stage, pair);
            try Step.farResets(stage, pair);
            try support.awaitEvent(pair.near, severed);
            try Step.nearReadsRest(stage, pair);
            var buffer: [8]u8 = undefined;
            for (0..2) |_| {
                var code: i32 = 0;
                if (stage.kind() == .unix and !support.system.resetsLocal()) {
                    try testing.expectEqual(0, c.bbipc_read(pair.near, &buffer, 0, 8, 0, &code));
                    try testing.expectEqual(0, c.bbipc_connection_error(pair.near, &code));
                    try support.expectSystem(.PIPE, c.bbipc_write(pair.near, "x", 0, 1, &code), code);
                    continue;
                }
                try support.expectSystem(.CONNRESET, c.bbipc_read(pair.near, &buffer, 0, 8, 0, &code), code);
                code = 0;
                try support.expectCode(1, .CONNRESET, c.bbipc_connection_error(pair.near, &code), code);
                try testing.expectEqual(c.BBIPC_ERROR_SYSTEM, support.write(pair.near, "x"));
            }
        }
    }.body);
}

test "an orderly end is no error: a read gives nothing, and there is no reason to tell" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            try Step.farWrites(stage, pair);
            try Step.farCloses(stage, pair);
            const told = stage.shown(gone | data_available, .orderly) & c.BBIPC_REMOTE_DISCONNECTED;
            if (told != 0) try support.awaitEvent(pair.near, c.BBIPC_REMOTE_DISCONNECTED);
            var code: i32 = 17;
            try testing.expectEqual(0, c.bbipc_connection_error(pair.near, &code));
            try support.expectBytes(pair.near, "abc");
            try support.awaitEvent(pair.near, c.BBIPC_REMOTE_DISCONNECTED);
            var buffer: [8]u8 = undefined;
            for (0..2) |_| {
                try testing.expectEqual(0, c.bbipc_read(pair.near, &buffer, 0, 8, 0, &code));
                try testing.expectEqual(0, c.bbipc_connection_error(pair.near, &code));
            }
            try testing.expectEqual(17, code);
        }
    }.body);
}

test "the reason for a severed connection does not depend on what was called before" {
    try onTransport(.tcp, struct {
        const Answers = struct { reason: i64, code: i32, read: i64 };

        fn body(stage: *Stage) !void {
            var first: ?Answers = null;
            for ([_][]const u8{ "", "e", "r", "w" }) |before| {
                errdefer std.debug.print("after the calls \"{s}\":\n", .{before});
                const pair = try stage.pair();
                defer stage.close(pair.near);
                try Step.farCloses(stage, pair);
                try support.awaitEvent(pair.near, end_of_data);
                try Step.nearWritesToNobody(stage, pair);
                try support.awaitEvent(pair.near, severed);
                for (before) |call| _ = switch (call) {
                    'e' => c.bbipc_connection_error(pair.near, null),
                    'r' => reading(pair.near),
                    'w' => support.write(pair.near, "x"),
                    else => unreachable,
                };
                var code: i32 = 0;
                const reason = c.bbipc_connection_error(pair.near, &code);
                const answers: Answers = .{ .reason = reason, .code = code, .read = reading(pair.near) };
                if (first) |expected| try testing.expectEqual(expected, answers) else first = answers;
            }
        }

        fn reading(stream: Handle) i64 {
            var buffer: [8]u8 = undefined;
            return support.read(stream, &buffer);
        }
    }.body);
}

test "a connection that came and went before anybody looked is of one mind about it" {
    try onTransport(.tcp, struct {
        fn body(stage: *Stage) !void {
            for ([_]bool{ false, true }) |finishes| {
                errdefer std.debug.print("finishes first: {}\n", .{finishes});
                const server = try stage.makeServer(1);
                const near = try stage.connect(server);
                const far = try stage.accept(server);
                // Not by bbipc_write, which would look whether the connection stands.
                const descriptor = try succeed(c.bbipc_fileno(near));
                try testing.expectEqual(1, support.system.sendBehind(descriptor, "x"));
                try support.awaitEvent(far, data_available);
                if (finishes) try testing.expectEqual(0, c.bbipc_finish_writing(far, null));
                try stage.reset(far);

                try expectState(stage, near, stream_events, gone | end_of_data | severed);
                var code: i32 = 0;
                const reason = c.bbipc_connection_error(near, &code);
                var buffer: [8]u8 = undefined;
                var read_code: i32 = 0;
                const read = c.bbipc_read(near, &buffer, 0, buffer.len, 0, &read_code);
                if (finishes and reason == 0) {
                    // The remote end's bytes came to an orderly end.
                    try testing.expectEqual(0, read);
                } else {
                    try testing.expect(reason > 0 and code > 0);
                    try testing.expectEqual(c.BBIPC_ERROR_SYSTEM, read);
                    try testing.expectEqual(code, read_code);
                }
            }
        }
    }.body);
}

test "finishing twice is no error, and a write after it is" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            try Step.nearFinishes(stage, pair);
            try Step.nearFinishes(stage, pair);
            if (stage.kind() == .pipe) {
                // Refused, and nothing has changed.
                try testing.expectEqual(1, support.write(pair.near, "x"));
                return support.expectBytes(pair.far, "x");
            }
            var code: i32 = 0;
            try support.expectSystem(.PIPE, c.bbipc_write(pair.near, "x", 0, 1, &code), code);
            try testing.expectEqual(0, c.bbipc_connection_error(pair.near, null));
            // The other end can still answer.
            try support.awaitEvent(pair.far, end_of_data);
            try Step.farWrites(stage, pair);
            try Step.nearReads(stage, pair);
        }
    }.body);
}
