//! base/deadline.zig, by the system's clock.

const std = @import("std");
const Deadline = @import("../platform.zig").sys.Deadline;

test "a deadline that has passed leaves nothing, one that never comes leaves for ever" {
    const testing = std.testing;
    try testing.expectEqual(null, Deadline.after(-1).remainingNs());
    try testing.expectEqual(0, Deadline.after(0).remainingNs());
    const hour_ns = 3600 * std.time.ns_per_s;
    const left_ns = Deadline.after(hour_ns).remainingNs().?;
    try testing.expect(left_ns > hour_ns - std.time.ns_per_min and left_ns <= hour_ns);
    try testing.expect(Deadline.after(std.math.maxInt(i64)).remainingNs().? > hour_ns);
}

test "a deadline has passed at a time that is not before it" {
    const testing = std.testing;
    try testing.expect(!Deadline.after(-1).hadPassedAt(std.math.maxInt(u64)));
    try testing.expect(Deadline.after(0).hadPassedAt(0));
    const deadline: Deadline = .{ .at_ns = 7 };
    try testing.expect(!deadline.hadPassedAt(6));
    try testing.expect(deadline.hadPassedAt(7));
}
