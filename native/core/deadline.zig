//! When a wait is over, on the system's monotonic clock.

const std = @import("std");
const sys = @import("../platform.zig").sys;

pub const Deadline = union(enum) {
    never,
    /// Not to wait at all: no clock needs to be read.
    now,
    at_ns: u64,

    pub fn after(timeout_ns: i64) Deadline {
        if (timeout_ns < 0) return .never;
        if (timeout_ns == 0) return .now;
        return .{ .at_ns = sys.monotonicNs() +| @as(u64, @intCast(timeout_ns)) };
    }

    /// Null is for ever.
    pub fn afterNs(timeout_ns: ?u64) Deadline {
        return after(@intCast(@min(timeout_ns orelse return .never, std.math.maxInt(i64))));
    }

    /// Null is for ever.
    pub fn remainingNs(deadline: Deadline) ?u64 {
        return switch (deadline) {
            .never => null,
            .now => 0,
            .at_ns => |at_ns| at_ns -| sys.monotonicNs(),
        };
    }
};

test "a deadline that has passed leaves nothing, one that never comes leaves for ever" {
    const testing = std.testing;
    try testing.expectEqual(null, Deadline.after(-1).remainingNs());
    try testing.expectEqual(0, Deadline.after(0).remainingNs());
    const hour_ns = 3600 * std.time.ns_per_s;
    const left_ns = Deadline.after(hour_ns).remainingNs().?;
    try testing.expect(left_ns > hour_ns - std.time.ns_per_min and left_ns <= hour_ns);
    try testing.expect(Deadline.after(std.math.maxInt(i64)).remainingNs().? > hour_ns);
}
