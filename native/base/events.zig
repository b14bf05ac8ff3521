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

pub const of_servers: u32 = connection_available;
pub const of_streams: u32 = determined | connection_succeeded | connection_failed | data_available | ready_to_write |
    remote_disconnected | end_of_data | write_space | connection_severed;

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

/// What changes from moment to moment.
pub const Moment = struct {
    /// At least one byte can be read.
    data: bool,
    /// A write would take at least one byte.
    space: bool,
};

/// The events that hold: the table of bbipc.h.
pub fn ofStream(known: Known, moment: Moment) u32 {
    if (!known.determined) return 0;
    const gone = known.gone();
    var result = determined;
    if (!gone) result |= connection_succeeded;
    if (gone) result |= connection_failed;
    if (moment.data) result |= data_available;
    if (!gone and !known.finished and moment.space) result |= ready_to_write;
    if (gone) result |= remote_disconnected;
    // Only `drained` is certain: there may be other reasons why nothing can be read now.
    if (known.drained) result |= end_of_data;
    if (!known.severed and !known.finished and moment.space) result |= write_space;
    if (known.severed) result |= connection_severed;
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

    pub fn ofStream(asked: u32, known: Known) Plan {
        std.debug.assert(asked & ~of_streams == 0);
        if (asked == 0) return .parked;
        if (!known.determined) return .{ .watches = .{
            .readable = asked & data_available != 0,
            .writable = asked & (determined | connection_succeeded | ready_to_write | write_space) != 0,
            .ended = true,
            .severed = true,
        } };
        if (asked & certain(known) != 0) return .{ .asks = .always };

        const possible = possibleOf(asked, known);
        const readable = possible & data_available != 0;
        // A watch for bytes reports the end for ever, and so tells when the last byte has been read: nobody needs to
        // ask.
        const drains = known.gone() and possible & end_of_data != 0 and !readable;
        const interest: Interest = .{
            .readable = readable,
            .writable = possible & (ready_to_write | write_space) != 0,
            .ended = endMatters(possible, known) and !known.ended,
            .severed = possible & connection_severed != 0,
        };
        // A severed connection is reported unasked and for ever, so it is watched only for unread data.
        const watched = if (known.severed) readable else !interest.isEmpty();
        return .{ .asks = if (drains) .now_and_then else .never, .watches = if (watched) interest else null };
    }

    /// The events that hold for good.
    fn certain(known: Known) u32 {
        var holds = determined;
        holds |= if (known.gone()) connection_failed | remote_disconnected else connection_succeeded;
        if (known.drained) holds |= end_of_data;
        if (known.severed) holds |= connection_severed;
        return holds;
    }

    fn possibleOf(asked: u32, known: Known) u32 {
        var possible = asked;
        if (known.gone()) possible &= ~(ready_to_write | connection_succeeded);
        if (known.severed) possible &= ~write_space;
        if (known.finished) possible &= ~(ready_to_write | write_space);
        if (known.drained) possible &= ~data_available;
        return possible;
    }

    fn endMatters(possible: u32, known: Known) bool {
        // Whoever reports data or readiness to write must know of the end, or would report it wrongly.
        if (possible & ~(determined | connection_succeeded | write_space | connection_severed) != 0) return true;
        // After our own end, the remote end severs the connection.
        return known.finished and possible & connection_severed != 0;
    }

    pub fn ofServer(asked: u32) Plan {
        std.debug.assert(asked & ~of_servers == 0);
        return if (asked == 0) .parked else .{ .watches = .{ .readable = true } };
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
            .expected = stands | ready_to_write | write_space,
        },
        .{ .known = finished, .moment = .{ .data = false, .space = true }, .expected = stands },
        .{
            .known = half_closed,
            .moment = .{ .data = true, .space = true },
            .expected = gone | data_available | write_space,
        },
        .{
            .known = half_closed,
            .moment = .{ .data = false, .space = true },
            .expected = gone | write_space,
        },
        .{
            .known = half_closed_drained,
            .moment = .{ .data = false, .space = true },
            .expected = gone | end_of_data | write_space,
        },
        .{ .known = severed, .moment = .{ .data = true, .space = true }, .expected = dead | data_available },
        .{ .known = severed, .moment = .{ .data = false, .space = true }, .expected = dead },
        .{ .known = severed_drained, .moment = .{ .data = false, .space = true }, .expected = dead | end_of_data },
        .{ .known = .refused, .moment = .{ .data = false, .space = true }, .expected = dead | end_of_data },
    };
    for (cases) |case| try testing.expectEqual(case.expected, ofStream(case.known, case.moment));
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

test "a plan never sleeps through an event that holds, and never spins on one that can't" {
    for (0..256) |bits| {
        const known: Known = @bitCast(@as(u8, @intCast(bits)));
        if (!reachable(known)) continue;
        for (0..of_streams + 1) |asked_bits| {
            const asked: u32 = @intCast(asked_bits);
            if (asked & ~of_streams != 0) continue;
            const plan: Plan = .ofStream(asked, known);
            for ([_]bool{ false, true }) |data| for ([_]bool{ false, true }) |space| {
                if (data and (known.drained or !known.determined)) continue;
                if (space and !known.determined) continue;
                const happened = asked & ofStream(known, .{ .data = data, .space = space });
                if (plan.asks == .always) continue;
                // The selector fires for what is asked of it, and for a severed connection in any case.
                const fires = if (plan.watches) |interest|
                    (interest.readable and data) or (interest.writable and space) or
                        (known.ended and (interest.readable or interest.ended)) or known.severed
                else
                    false;
                if (happened != 0) try testing.expect(fires);
                if (plan.watches != null and known.severed) try testing.expect(asked & data_available != 0);
                // Only for an end that no kernel tells.
                if (plan.asks == .never) continue;
                try testing.expect(asked & end_of_data != 0 and asked & data_available == 0);
                try testing.expect(known.gone() and !known.drained);
            };
        }
    }
}
