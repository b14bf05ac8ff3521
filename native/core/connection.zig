//! What a stream knows of its connection.

const std = @import("std");
const events = @import("../base/events.zig");

/// Facts are added from several threads at once, never taken back.
const AtomicKnown = struct {
    bits: std.atomic.Value(u8),

    fn init(known: events.Known) AtomicKnown {
        return .{ .bits = .init(@bitCast(known)) };
    }

    pub fn load(self: *const AtomicKnown) events.Known {
        return @bitCast(self.bits.load(.acquire));
    }

    pub fn add(self: *AtomicKnown, known: events.Known) void {
        const bits: u8 = @bitCast(known);
        var now: events.Known = @bitCast(self.bits.fetchOr(bits, .acq_rel) | bits);
        // Both ends have finished.
        if (!now.finished or !now.ended or now.severed) return;
        now.severed = true;
        _ = self.bits.fetchOr(@bitCast(now), .acq_rel);
    }
};

pub const Connection = struct {
    known: AtomicKnown = .init(.{}),
    /// The system's code for why the connection failed or was severed, once it is known: the system tells it once only.
    error_code: std.atomic.Value(i32) = .init(0),

    pub const established: Connection = .{ .known = .init(.established) };

    pub fn establish(connection: *Connection) void {
        connection.known.add(.established);
    }

    pub fn fail(connection: *Connection, code: i32) void {
        connection.keepError(code);
        connection.known.add(.refused);
    }

    /// The first reason stays. 0 is none.
    pub fn keepError(connection: *Connection, code: i32) void {
        if (code == 0) return;
        _ = connection.error_code.cmpxchgStrong(0, code, .acq_rel, .acquire);
    }

    pub fn errorCode(connection: *const Connection) i32 {
        return connection.error_code.load(.acquire);
    }
};

test "an end that both have made severs the connection, in either order" {
    const testing = std.testing;
    for ([_][2]events.Known{
        .{ .{ .finished = true }, .{ .ended = true } },
        .{ .{ .ended = true }, .{ .finished = true } },
    }) |order| {
        var connection: Connection = .established;
        connection.known.add(order[0]);
        try testing.expect(!connection.known.load().severed);
        connection.known.add(order[1]);
        try testing.expect(connection.known.load().severed);
    }
}
