//! Accepting connections: a client can come and go before it is accepted, which is no error of the server.

const status = @import("status.zig");

/// What one call of the system's gave.
pub fn Arrival(comptime Client: type) type {
    return union(enum) {
        client: Client,
        /// Nobody waits to be accepted.
        nothing,
        /// One came and went.
        vanished,
    };
}

/// The most clients that have gone that one accept passes over.
const vanished_max = 1024;

/// The first client that is still there, if any is. `acceptOne` returns an Arrival.
pub fn first(comptime Client: type, comptime acceptOne: anytype, arguments: anytype) status.Error!?Client {
    for (0..vanished_max) |_| {
        const arrival: Arrival(Client) = try @call(.auto, acceptOne, arguments);
        switch (arrival) {
            .client => |client| return client,
            .nothing => return null,
            .vanished => {},
        }
    }
    return null;
}

test first {
    const testing = @import("std").testing;
    const Door = struct {
        vanished_count: usize,
        comes: bool,

        fn acceptOne(door: *@This()) status.Error!Arrival(u8) {
            if (door.vanished_count == 0) return if (door.comes) .{ .client = 7 } else .nothing;
            door.vanished_count -= 1;
            return .vanished;
        }
    };
    for ([_]struct { Door, ?u8 }{
        .{ .{ .vanished_count = 0, .comes = true }, 7 },
        .{ .{ .vanished_count = vanished_max - 1, .comes = true }, 7 },
        .{ .{ .vanished_count = 3, .comes = false }, null },
        // The next call goes on.
        .{ .{ .vanished_count = vanished_max, .comes = true }, null },
    }) |case| {
        var door = case[0];
        try testing.expectEqual(case[1], try first(u8, Door.acceptOne, .{&door}));
    }
}
