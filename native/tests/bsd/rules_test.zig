//! What posix/bsd_rules.zig decides, over stand-ins of both kernels.

const std = @import("std");
const rules = @import("../../posix/bsd_rules.zig");
const stand_ins = @import("stand_ins.zig");
const testing = std.testing;

const in = rules.in;
const out = rules.out;
const rdhup = rules.rdhup;
const hup = rules.hup;
const nval = rules.nval;
const about = rules.about;
const conditions = rules.conditions;
const merge = rules.merge;

fn expectConditions(expected: i16, asked: i16, file: stand_ins.File) !void {
    errdefer std.debug.print("asked for 0x{x} of {any}\n", .{ asked, file });
    try testing.expectEqual(expected, stand_ins.conditions(.macos, asked, file));
    try testing.expectEqual(expected, stand_ins.conditions(.freebsd, asked, file));
}

test "a kqueue that has nothing to tell, the waker of every wait, ends no wait" {
    try expectConditions(0, in, .{ .kqueue = false });
    try expectConditions(in, in, .{ .kqueue = true });
    try expectConditions(nval, in, .closed);
    try expectConditions(0, in, .{ .server = false });
    try expectConditions(in, in, .{ .server = true });
}

test "each direction's end is told apart, on macOS and on FreeBSD" {
    const all = in | out | rdhup;
    for ([_]bool{ false, true }) |unread| for ([_]i64{ 0, 1 }) |room| {
        const bytes: i16 = if (unread) in else 0;
        const space: i16 = if (room > 0) out else 0;
        try expectConditions(bytes | space, all, .{ .stream = .{ .unread = unread, .room = room } });
        const ended: stand_ins.File = .{ .stream = .{ .unread = unread, .room = room, .ended = true } };
        try expectConditions(in | rdhup | space, all, ended);
        // What can't be sent any more "has room": the write tells.
        try expectConditions(bytes | out, all, .{ .stream = .{ .unread = unread, .room = room, .shut = true } });
        const severed: stand_ins.File = .{ .stream = .{ .unread = unread, .room = room, .ended = true, .shut = true } };
        try expectConditions(in | rdhup | hup, all, severed);
        try expectConditions(hup, 0, severed);
    };
}

test "what the kernel does not answer is no answer" {
    const Failing = struct {
        looks: *u32,
        fails_at: u32,

        pub fn look(kernel: @This(), events: i16) error{Failed}!i16 {
            defer kernel.looks.* += 1;
            if (kernel.looks.* == kernel.fails_at) return error.Failed;
            return hup | (in & events);
        }
    };
    for (0..4) |fails_at| {
        var looks: u32 = 0;
        const told = conditions(.macos, in, Failing{ .looks = &looks, .fails_at = @intCast(fails_at) });
        if (fails_at < 3) try testing.expectError(error.Failed, told) else try testing.expectEqual(in | hup, told);
    }
}

const Change = struct {
    ident: usize,
    filter: i16,
    edge: bool,

    fn isEdge(change: Change) bool {
        return change.edge;
    }
};

test "a stream that is listed twice is watched for what both ask: the level is not overwritten by the edge" {
    const read = -1;
    const write = -2;
    // WRITE_SPACE of 7, then CONNECTION_SEVERED of 7; END_OF_DATA of 3, then DATA_AVAILABLE of 3; 5 once.
    var changes = [_]Change{
        .{ .ident = 7, .filter = write, .edge = false },
        .{ .ident = 3, .filter = read, .edge = true },
        .{ .ident = 7, .filter = read, .edge = true },
        .{ .ident = 7, .filter = write, .edge = true },
        .{ .ident = 5, .filter = read, .edge = true },
        .{ .ident = 3, .filter = read, .edge = false },
        .{ .ident = 7, .filter = read, .edge = true },
    };
    const merged = merge(Change, &changes, Change.isEdge);
    try testing.expectEqualSlices(Change, &.{
        .{ .ident = 3, .filter = read, .edge = false },
        .{ .ident = 5, .filter = read, .edge = true },
        .{ .ident = 7, .filter = write, .edge = false },
        .{ .ident = 7, .filter = read, .edge = true },
    }, merged);
    try testing.expectEqual(2, about(Change, merged, 7).len);
    try testing.expectEqual(1, about(Change, merged, 5).len);
    try testing.expectEqual(0, about(Change, merged, 4).len);
    try testing.expectEqual(0, merge(Change, changes[0..0], Change.isEdge).len);
}
