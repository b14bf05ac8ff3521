//! The events, and the one table of rules that turns what a system says of a stream into them. Selectors and platforms
//! differ in how they learn the facts, never in what follows from them.

const std = @import("std");

pub const connection_available: u32 = 0x001;
pub const determined: u32 = 0x002;
pub const connection_succeeded: u32 = 0x004;
pub const connection_failed: u32 = 0x008;
pub const data_available: u32 = 0x010;
pub const ready_to_write: u32 = 0x020;
pub const remote_disconnected: u32 = 0x040;
pub const end_of_data: u32 = 0x080;
pub const write_space: u32 = 0x100;
pub const connection_severed: u32 = 0x200;
pub const message_available: u32 = 0x400;
pub const message_space: u32 = 0x800;
/// What waits inside the library ask for, and nobody else can.
pub const inside = struct {
    /// Nothing of a message is left in the stream.
    pub const flushed: u32 = 0x8000_0000;
    /// The system has bytes that the stream has not, or the end.
    pub const more_data: u32 = 0x4000_0000;
    pub const all = inside.flushed | inside.more_data;
};
const flushed = inside.flushed;
const more_data = inside.more_data;

pub const of_servers: u32 = connection_available;
pub const of_streams: u32 = determined | connection_succeeded | connection_failed | data_available | ready_to_write |
    remote_disconnected | end_of_data | write_space | connection_severed | message_available | message_space;

const of_incoming = data_available | message_available | more_data;
const of_room = ready_to_write | write_space | message_space;

/// What is certain of a stream and will never change back. Kept with the stream, and only ever added to.
pub const Known = packed struct(u8) {
    /// The attempt to connect has ended.
    determined: bool = false,
    /// It has ended without a connection.
    failed: bool = false,
    /// The remote end sends no more.
    ended: bool = false,
    /// Nothing travels any more, in either direction.
    severed: bool = false,
    /// It sends no more, and every byte has been read.
    drained: bool = false,
    /// This end sends no more.
    finished: bool = false,
    _: u2 = 0,

    pub const established: Known = .{ .determined = true };
    pub const refused: Known = .{ .determined = true, .failed = true, .ended = true, .severed = true, .drained = true };

    pub fn gone(known: Known) bool {
        return known.failed or known.ended or known.severed;
    }
};

/// What a stream keeps itself, on the way from and to the system.
pub const Kept = packed struct(u8) {
    /// Bytes that have come and were not read.
    bytes: bool = false,
    /// They begin with a whole message, or with what can never become one.
    message: bool = false,
    /// The rest of a message that is to be sent.
    rest: bool = false,
    _: u5 = 0,

    /// Whether a message could be received, or never will be: then bytes are left at the end.
    fn hasMessage(kept: Kept, known: Known) bool {
        return kept.message or (kept.bytes and known.drained);
    }
};

/// What changes from moment to moment.
pub const Moment = struct {
    /// At least one byte can be read from the system.
    data: bool,
    /// The system would take at least one byte.
    space: bool,
    kept: Kept = .{},
};

/// The events that hold: the table of bbipc.h.
pub fn ofStream(known: Known, moment: Moment) u32 {
    if (!known.determined) return 0;
    const gone = known.gone();
    const kept = moment.kept;
    const space = !known.finished and moment.space and !kept.rest;
    var result = determined;
    if (!gone) result |= connection_succeeded;
    if (gone) result |= connection_failed;
    if (moment.data or kept.bytes) result |= data_available;
    if (moment.data or known.drained) result |= more_data;
    if (kept.hasMessage(known)) result |= message_available;
    if (!gone and space) result |= ready_to_write;
    if (gone) result |= remote_disconnected;
    // Only `drained` is certain: there may be other reasons why nothing can be read now.
    if (known.drained and !kept.bytes) result |= end_of_data;
    if (!known.severed and space) result |= write_space | message_space;
    if (known.severed) result |= connection_severed;
    if (!kept.rest) result |= flushed;
    return result;
}

/// The conditions that a selector watches for.
pub const Interest = packed struct(u8) {
    /// Bytes, the end of the stream, or a connection to accept.
    readable: bool = false,
    /// Room for a write, or the end of an attempt to connect.
    writable: bool = false,
    /// The remote end has finished sending.
    ended: bool = false,
    /// The severed connection alone, which selectors report in any case while they watch the socket.
    severed: bool = false,
    _: u4 = 0,

    pub fn isEmpty(interest: Interest) bool {
        return interest == Interest{};
    }
};

/// What a selector reports of a socket: the same conditions, and one that it reports unasked.
pub const Conditions = packed struct(u8) {
    readable: bool = false,
    writable: bool = false,
    ended: bool = false,
    /// Nothing travels any more, or the attempt to connect failed.
    severed: bool = false,
    _: u4 = 0,

    pub fn isEmpty(conditions: Conditions) bool {
        return conditions == Conditions{};
    }
};

/// What a selector tells of one socket.
pub const Report = struct {
    handle: i64,
    /// Null if the selector knows only in part what holds: the socket itself must be asked.
    conditions: ?Conditions,
    /// Whether the next wait brings it again if nothing changes.
    repeats: bool = true,
};

/// What a wait has come to.
pub const Found = enum { found, nothing_found };

/// How the asked-for events of a socket are learnt.
pub const Plan = struct {
    asks: Asks = .never,
    /// What the selector watches it for; null if it is not to watch it at all.
    watches: ?Interest = null,
    /// What holds will not hold for long: the selector goes on watching what it does, for the next time.
    is_passing: bool = false,

    /// How often the socket itself is asked.
    pub const Asks = enum {
        never,
        /// One of the events is told by no kernel: that another process has read the last unread byte of a remote end
        /// that has gone.
        now_and_then,
        /// At every wait: one of them holds already, whatever the selector would say.
        always,
    };

    /// None of them can ever hold again. A selector would report the dead connection for ever.
    pub const parked: Plan = .{};

    pub fn ofStream(asked: u32, known: Known, kept: Kept) Plan {
        std.debug.assert(asked & ~(of_streams | inside.all) == 0);
        // Whoever has the stream sends its rest, whatever was asked.
        const sends = kept.rest and !known.severed;
        if (asked == 0 and !sends) return .parked;
        if (!known.determined) return .{ .watches = .{
            .readable = asked & of_incoming != 0,
            .writable = asked & (determined | connection_succeeded | of_room) != 0,
            .ended = true,
            .severed = true,
        } };
        if (asked & passing(known, kept) != 0) return .{ .asks = .always, .is_passing = true };
        if (asked & certain(known, kept) != 0 and !sends) return .{ .asks = .always };

        const possible = possibleOf(asked, known, kept);
        const readable = possible & of_incoming != 0;
        // A watch for bytes reports the end for ever, and so tells when the last byte has been read: nobody needs to
        // ask.
        const drains = known.gone() and possible & end_of_data != 0 and !readable and !kept.bytes;
        const interest: Interest = .{
            .readable = readable,
            .writable = possible & of_room != 0 or sends,
            .ended = endMatters(possible, known) and !known.ended,
            .severed = possible & connection_severed != 0,
        };
        // A severed connection is reported unasked and for ever, so it is watched only for unread data.
        const watched = if (known.severed) readable else !interest.isEmpty();
        return .{
            .asks = if (asked & certain(known, kept) != 0) .always else if (drains) .now_and_then else .never,
            .watches = if (watched) interest else null,
        };
    }

    /// The events that hold until somebody reads.
    fn passing(known: Known, kept: Kept) u32 {
        var holds: u32 = 0;
        if (kept.bytes) holds |= data_available;
        if (kept.hasMessage(known)) holds |= message_available;
        return holds;
    }

    /// The events that hold for good, or until somebody sends a message.
    fn certain(known: Known, kept: Kept) u32 {
        var holds = determined;
        holds |= if (known.gone()) connection_failed | remote_disconnected else connection_succeeded;
        if (known.drained and !kept.bytes) holds |= end_of_data;
        if (known.drained) holds |= more_data;
        if (known.severed) holds |= connection_severed;
        if (!kept.rest) holds |= flushed;
        return holds;
    }

    fn possibleOf(asked: u32, known: Known, kept: Kept) u32 {
        var possible = asked;
        if (known.gone()) possible &= ~(ready_to_write | connection_succeeded);
        if (known.severed) possible &= ~(write_space | message_space | flushed);
        if (known.finished) possible &= ~of_room;
        // What comes no more can be read only while it is kept, and that holds already.
        if (known.drained) possible &= ~of_incoming;
        if (known.drained and kept.bytes) possible &= ~end_of_data;
        return possible;
    }

    fn endMatters(possible: u32, known: Known) bool {
        // Whoever reports data or readiness to write must know of the end, or would report it wrongly.
        const without_end = determined | connection_succeeded | connection_severed | write_space | message_space |
            flushed;
        if (possible & ~without_end != 0) return true;
        // After our own end, the remote end severs the connection.
        return known.finished and possible & connection_severed != 0;
    }

    /// A server that pauses has nothing to report, and no kernel tells when that is over.
    pub fn ofServer(asked: u32, pauses: bool) Plan {
        std.debug.assert(asked & ~of_servers == 0);
        if (asked == 0) return .parked;
        return if (pauses) .{ .asks = .now_and_then } else .{ .watches = .{ .readable = true } };
    }
};

const testing = std.testing;

test "an undetermined stream has no events" {
    try testing.expectEqual(0, ofStream(.{}, .{ .data = false, .space = false }));
}

test "the table of events, in every reachable state" {
    const stands = determined | connection_succeeded;
    const gone = determined | connection_failed | remote_disconnected;
    const dead = gone | connection_severed;
    const Case = struct { known: Known, moment: Moment, expected: u32 };
    const space = write_space | message_space;
    const established: Known = .established;
    const half_closed: Known = .{ .determined = true, .ended = true };
    const half_closed_drained: Known = .{ .determined = true, .ended = true, .drained = true };
    const severed: Known = .{ .determined = true, .ended = true, .severed = true };
    const severed_drained: Known = .{ .determined = true, .ended = true, .severed = true, .drained = true };
    const finished: Known = .{ .determined = true, .finished = true };
    const cases = [_]Case{
        .{ .known = established, .moment = .{ .data = false, .space = false }, .expected = stands },
        .{ .known = established, .moment = .{ .data = true, .space = false }, .expected = stands | data_available },
        .{
            .known = established,
            .moment = .{ .data = false, .space = true },
            .expected = stands | ready_to_write | space,
        },
        .{ .known = finished, .moment = .{ .data = false, .space = true }, .expected = stands },
        .{
            .known = half_closed,
            .moment = .{ .data = true, .space = true },
            .expected = gone | data_available | space,
        },
        .{
            .known = half_closed,
            .moment = .{ .data = false, .space = true },
            .expected = gone | space,
        },
        .{
            .known = half_closed_drained,
            .moment = .{ .data = false, .space = true },
            .expected = gone | end_of_data | space,
        },
        .{ .known = severed, .moment = .{ .data = true, .space = true }, .expected = dead | data_available },
        .{ .known = severed, .moment = .{ .data = false, .space = true }, .expected = dead },
        .{ .known = severed_drained, .moment = .{ .data = false, .space = true }, .expected = dead | end_of_data },
        .{ .known = .refused, .moment = .{ .data = false, .space = true }, .expected = dead | end_of_data },
    };
    for (cases) |case| {
        const happened = ofStream(case.known, case.moment);
        try testing.expectEqual(case.expected | flushed, happened & ~more_data);
        try testing.expectEqual(case.moment.data or case.known.drained, happened & more_data != 0);
    }
}

test "the table of events, with what the stream keeps" {
    const stands = determined | connection_succeeded;
    const gone = determined | connection_failed | remote_disconnected;
    const half_closed: Known = .{ .determined = true, .ended = true };
    const drained: Known = .{ .determined = true, .ended = true, .drained = true };
    const Case = struct { known: Known = .established, kept: Kept, expected: u32 };
    const cases = [_]Case{
        .{ .kept = .{ .rest = true }, .expected = stands },
        .{
            .kept = .{ .bytes = true },
            .expected = stands | data_available | ready_to_write | write_space | message_space | flushed,
        },
        .{
            .kept = .{ .bytes = true, .message = true, .rest = true },
            .expected = stands | data_available | message_available,
        },
        .{
            .known = half_closed,
            .kept = .{ .bytes = true },
            .expected = gone | data_available | write_space | message_space | flushed,
        },
        // The message that has begun will never be whole.
        .{
            .known = drained,
            .kept = .{ .bytes = true },
            .expected = gone | data_available | message_available | write_space | message_space | flushed,
        },
        .{ .known = drained, .kept = .{ .rest = true }, .expected = gone | end_of_data },
    };
    for (cases) |case| {
        const happened = ofStream(case.known, .{ .data = false, .space = true, .kept = case.kept });
        try testing.expectEqual(case.expected, happened & ~more_data);
    }
}

/// Known states that can occur: what follows from what.
fn reachable(known: Known) bool {
    if (known._ != 0) return false;
    if (!known.determined) return known == Known{};
    if (known.severed and !known.ended) return false;
    if (known.drained and !known.ended) return false;
    if (known.failed) return known.severed and known.drained;
    return true;
}

fn canBe(known: Known, kept: Kept, moment: Moment) bool {
    if (kept.message and !kept.bytes) return false;
    if (!known.determined) return kept == Kept{} and !moment.data and !moment.space;
    if (known.failed and kept != Kept{}) return false;
    return !(known.drained and moment.data);
}

/// Whether the plan does for these events what it must.
fn expectAwake(plan: Plan, asked: u32, known: Known, moment: Moment) !void {
    const kept = moment.kept;
    const happened = asked & ofStream(known, moment);
    // The selector fires for what is asked of it, and for a severed connection in any case.
    const fires = if (plan.watches) |interest|
        (interest.readable and moment.data) or (interest.writable and moment.space) or
            (known.ended and (interest.readable or interest.ended)) or known.severed
    else
        false;
    if (plan.is_passing) return testing.expect(plan.asks == .always and happened != 0);
    // The rest goes out whatever was asked.
    if (kept.rest and moment.space and !known.severed) try testing.expect(fires);
    if (plan.asks == .always) return;
    if (happened != 0) try testing.expect(fires);
    if (plan.watches != null and known.severed) try testing.expect(asked & of_incoming != 0);
    // Only for an end that no kernel tells.
    if (plan.asks == .never) return;
    try testing.expect(asked & end_of_data != 0 and asked & of_incoming == 0 and !kept.bytes);
    try testing.expect(known.gone() and !known.drained);
}

test "a plan never sleeps through an event that holds, and never spins on one that can't" {
    for (0..256) |bits| {
        const known: Known = @bitCast(@as(u8, @intCast(bits)));
        if (!reachable(known)) continue;
        for (0..4 * (of_streams + 1)) |number| {
            const asked = @as(u32, @intCast(number)) & of_streams | @as(u32, @intCast(number & 1)) << 31 |
                @as(u32, @intCast(number & 0x1000)) << 18;
            if (number & 0x2000 != 0) continue;
            const is_large = @popCount(asked) > 3 and asked != of_streams;
            for (0..8) |kept_bits| for ([_]bool{ false, true }) |data| for ([_]bool{ false, true }) |space| {
                const kept: Kept = @bitCast(@as(u8, @intCast(kept_bits)));
                // All sets of what the system tells; with what the stream keeps, or for waits inside, those of a few.
                if (is_large and (kept_bits != 0 or asked & inside.all != 0)) continue;
                const moment: Moment = .{ .data = data, .space = space, .kept = kept };
                if (!canBe(known, kept, moment)) continue;
                try expectAwake(.ofStream(asked, known, kept), asked, known, moment);
            };
        }
    }
}
