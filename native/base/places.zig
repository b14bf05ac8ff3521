//! The place of a wait that its caller cuts into pieces. With it, the wait does not miss an event that comes between
//! two pieces and ends it. A place is a count of such events, as a number that a caller can hand from one piece to the
//! next.

const std = @import("std");

/// Before the first piece.
pub const none: u32 = 0;

/// The place behind this number of events.
pub fn after(count: u64) u32 {
    // What a failure's code has room for. Nobody closes more sockets between two pieces.
    return @intCast(count % std.math.maxInt(i31) + 1);
}

test "a place is none of the places before it" {
    try std.testing.expect(after(0) != none);
    try std.testing.expect(after(1) != after(0));
    for ([_]u64{ std.math.maxInt(u64), std.math.maxInt(i31), std.math.maxInt(i31) - 1 }) |count| {
        try std.testing.expect(after(count) != none);
        try std.testing.expect(after(count) != after(count -% 1));
        try std.testing.expect(after(count) <= std.math.maxInt(i32));
    }
}
