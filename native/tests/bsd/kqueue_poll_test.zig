//! Waits of posix/kqueue_poll.zig, over stand-ins of both kernels.

const std = @import("std");
const rules = @import("../../posix/bsd_rules.zig");
const stand_ins = @import("stand_ins.zig");
const Of = @import("../../posix/kqueue_poll.zig").Of;
const testing = std.testing;

const File = stand_ins.File;
const waker = 1;

/// One wait, over both kernels.
const Case = struct {
    start: []const stand_ins.Happening,
    then: []const stand_ins.Happening = &.{},
    /// Descriptors and what is asked of them, then what is told.
    entries: []const [2]i16,
    told: []const i16,
    timeout_ns: ?u64 = null,
    looks_refused: usize = 0,
    has_kqueues: bool = true,

    fn run(case: Case) !void {
        inline for (.{ .macos, .freebsd }) |system| {
            errdefer std.debug.print("over the kernel of {t}:\n", .{@as(rules.System, system)});
            const sys = stand_ins.System(system);
            sys.begin(case.start, case.then);
            sys.has_kqueues = case.has_kqueues;
            var entries: [8]sys.pollfd = undefined;
            for (case.entries, 0..) |entry, index| entries[index] = .{ .fd = entry[0], .events = entry[1] };
            const ready = Of(sys).poll(entries[0..case.entries.len], case.timeout_ns);
            try testing.expect(ready >= 0);
            var expected: isize = 0;
            for (case.told, entries[0..case.told.len]) |told, entry| {
                try testing.expectEqual(told, entry.revents);
                expected += @intFromBool(told != 0);
            }
            try testing.expectEqual(expected, ready);
            // It slept until something came: no wait is begun again and again.
            try testing.expect(sys.waits <= case.then.len + 2);
            if (case.has_kqueues) try testing.expectEqual(0, sys.pauses);
        }
    }
};

fn stream(fd: i32, state: File.Stream) stand_ins.Happening {
    return .{ .fd = fd, .file = .{ .stream = state } };
}

const idle_waker: stand_ins.Happening = .{ .fd = waker, .file = .{ .kqueue = false } };

test "a wait beside the idle waker sleeps until its time is up" {
    try Case.run(.{
        .start = &.{ idle_waker, stream(3, .{ .room = 0 }) },
        .entries = &.{ .{ 3, rules.in | rules.out | rules.rdhup }, .{ waker, rules.in } },
        .told = &.{ 0, 0 },
        .timeout_ns = std.time.ns_per_s,
    });
}

test "a wait ends with the waker's signal, and with what arrives" {
    const start = [_]stand_ins.Happening{ idle_waker, stream(3, .{}) };
    const entries = [_][2]i16{ .{ 3, rules.in | rules.rdhup }, .{ waker, rules.in } };
    const signal: stand_ins.Happening = .{ .fd = waker, .file = .{ .kqueue = true } };
    try Case.run(.{ .start = &start, .then = &.{signal}, .entries = &entries, .told = &.{ 0, rules.in } });
    const bytes = stream(3, .{ .unread = true });
    try Case.run(.{ .start = &start, .then = &.{bytes}, .entries = &entries, .told = &.{ rules.in, 0 } });
    const end = stream(3, .{ .unread = true, .ended = true });
    try Case.run(.{ .start = &start, .then = &.{end}, .entries = &entries, .told = &.{ rules.in | rules.rdhup, 0 } });
}

test "a stream that is listed for room and for its severing hears of the first bytes of room, in either order" {
    const start = [_]stand_ins.Happening{ idle_waker, stream(3, .{ .room = 0 }) };
    const some_room = [_]stand_ins.Happening{stream(3, .{ .room = 2048 })};
    const last: [2]i16 = .{ waker, rules.in };
    try Case.run(.{
        .start = &start,
        .then = &some_room,
        .entries = &.{ .{ 3, rules.out }, .{ 3, 0 }, last },
        .told = &.{ rules.out, 0, 0 },
    });
    try Case.run(.{
        .start = &start,
        .then = &some_room,
        .entries = &.{ .{ 3, 0 }, .{ 3, rules.out }, last },
        .told = &.{ 0, rules.out, 0 },
    });
}

test "a stream that is listed for its end and for bytes hears of both" {
    const start = [_]stand_ins.Happening{ idle_waker, stream(3, .{}) };
    const entries = [_][2]i16{ .{ 3, rules.rdhup }, .{ 3, rules.in }, .{ waker, rules.in } };
    const bytes = [_]stand_ins.Happening{stream(3, .{ .unread = true })};
    try Case.run(.{ .start = &start, .then = &bytes, .entries = &entries, .told = &.{ 0, rules.in, 0 } });
    const end = [_]stand_ins.Happening{stream(3, .{ .ended = true })};
    try Case.run(.{ .start = &start, .then = &end, .entries = &entries, .told = &.{ rules.rdhup, rules.in, 0 } });
}

test "who waits for the severing alone sleeps through bytes, room and either end" {
    try Case.run(.{
        .start = &.{ idle_waker, stream(3, .{ .room = 0 }) },
        .then = &.{
            stream(3, .{ .room = 0, .unread = true }),
            stream(3, .{ .unread = true }),
            stream(3, .{ .unread = true, .ended = true }),
            stream(3, .{ .unread = true, .ended = true, .shut = true }),
        },
        .entries = &.{ .{ 3, 0 }, .{ waker, rules.in } },
        .told = &.{ rules.hup, 0 },
    });
}

test "every entry of a descriptor that another thread closed is told so" {
    inline for (.{ .macos, .freebsd }) |system| {
        const sys = stand_ins.System(system);
        sys.begin(&.{idle_waker}, &.{});
        var entries: [3]sys.pollfd = .{
            .{ .fd = 3, .events = rules.out },
            .{ .fd = waker, .events = rules.in },
            .{ .fd = 3, .events = 0 },
        };
        var room: [6]sys.kevents.Kevent = undefined;
        try testing.expectEqual(2, Of(sys).watchAll(8, &entries, &room));
        for ([_]i16{ rules.nval, 0, rules.nval }, entries) |told, entry| try testing.expectEqual(told, entry.revents);
    }
}

test "a report that is told once is not lost when the socket can't be asked: the wait fails" {
    inline for (.{ .macos, .freebsd }) |system| {
        const sys = stand_ins.System(system);
        sys.begin(&.{ idle_waker, stream(3, .{}) }, &.{stream(3, .{ .shut = true, .ended = true })});
        // Enough entries that the wait takes no look first: that look would be refused instead.
        var entries: [18]sys.pollfd = @splat(.{ .fd = -1, .events = 0 });
        entries[0].fd = 3;
        sys.looks_refused = 2;
        try testing.expectEqual(sys.resultOf(.NOMEM), Of(sys).poll(&entries, null));
        sys.looks_refused = 0;
        try testing.expectEqual(1, Of(sys).poll(&entries, null));
        try testing.expectEqual(rules.hup, entries[0].revents);
    }
}

test "without a kqueue to be had, a wait looks now and then, and ends in time" {
    const start = [_]stand_ins.Happening{ idle_waker, stream(3, .{}) };
    const entries = [_][2]i16{ .{ 3, rules.in }, .{ waker, rules.in } };
    try Case.run(.{
        .start = &start,
        .entries = &entries,
        .told = &.{ 0, 0 },
        .timeout_ns = std.time.ns_per_s,
        .has_kqueues = false,
    });
    const bytes = [_]stand_ins.Happening{stream(3, .{ .unread = true })};
    const told = [_]i16{ rules.in, 0 };
    try Case.run(.{ .start = &start, .then = &bytes, .entries = &entries, .told = &told, .has_kqueues = false });
}
