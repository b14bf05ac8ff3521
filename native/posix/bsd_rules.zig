//! What bsd.zig and kqueue_poll.zig decide without a kernel, in a file that every system compiles and tests, over
//! kernels that are stood in for.

const std = @import("std");

// <poll.h>: the same on Linux, macOS and FreeBSD. POLLRDHUP is FreeBSD's, and ours on macOS.
pub const in = 0x1;
pub const out = 0x4;
pub const err = 0x8;
pub const hup = 0x10;
pub const nval = 0x20;
pub const rdhup = 0x4000;

pub const System = enum { macos, freebsd };

/// What poll(2) as Linux has it would tell of one descriptor, of what is asked and of what is told unasked.
///
/// `kernel.look(events)` is the system's own poll for this descriptor, with no time to wait. Its error is passed on.
pub fn conditions(comptime system: System, asked: i16, kernel: anytype) !i16 {
    const told = switch (system) {
        .macos => try conditionsOnMacos(kernel),
        .freebsd => try kernel.look(in | out | rdhup),
    };
    // FreeBSD 15 says it of a local stream too that can send no more, by our own half-close for one. A write tells.
    if (told & hup != 0 and told & rdhup == 0) return ((told & ~@as(i16, hup)) | out) & asked;
    return told & (asked | err | nval | hup);
}

/// As long as there is no end to tell of, macOS's poll tells all. If there is, each direction has to be asked for by
/// itself.
fn conditionsOnMacos(kernel: anytype) !i16 {
    const told: i16 = try kernel.look(in | out);
    // A kqueue, the waker for one, can be asked for POLLIN alone (XNU's kqueue_kqfilter): anything else says that it
    // isn't open.
    if (told & nval != 0) return kernel.look(in);
    if (told & hup == 0) return told;
    const incoming: i16 = try kernel.look(in);
    const outgoing: i16 = try kernel.look(out);
    if (incoming & hup == 0) return incoming | out;
    if (outgoing & hup == 0) return in | rdhup | outgoing;
    return in | rdhup | hup;
}

/// One watch of a kqueue, as the kernel identifies it. `isEdge` is whether it tells once.
///
/// A kqueue has one watch for each descriptor and filter, and one that is added again takes the place of the first: its
/// flags stay, its level is lost. So where a descriptor is listed twice, there is one change for both: the one that
/// tells more, the level-triggered one. Puts those that stay in front, in the order of their descriptors.
pub fn merge(comptime Event: type, list: []Event, comptime isEdge: fn (Event) bool) []Event {
    const Order = struct {
        fn before(_: void, a: Event, b: Event) bool {
            if (a.ident != b.ident) return a.ident < b.ident;
            if (a.filter != b.filter) return a.filter < b.filter;
            return !isEdge(a) and isEdge(b);
        }
    };
    std.mem.sort(Event, list, {}, Order.before);
    var count: usize = 0;
    for (list) |event| {
        if (count > 0 and list[count - 1].ident == event.ident and list[count - 1].filter == event.filter) continue;
        list[count] = event;
        count += 1;
    }
    return list[0..count];
}

/// Those of a list in the order of descriptors that are about one descriptor.
pub fn about(comptime Event: type, list: []const Event, ident: usize) []const Event {
    const first = std.sort.lowerBound(Event, list, ident, struct {
        fn order(wanted: usize, event: Event) std.math.Order {
            return std.math.order(wanted, event.ident);
        }
    }.order);
    var end = first;
    while (end < list.len and list[end].ident == ident) end += 1;
    return list[first..end];
}

const testing = std.testing;
const stand_ins = @import("bsd_stand_ins.zig");

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
