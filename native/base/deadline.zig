//! When a wait is over, on a system's monotonic clock.

const std = @import("std");

pub fn Deadline(comptime monotonicNs: fn () u64) type {
    return union(enum) {
        const Self = @This();

        never,
        /// Not to wait at all: no clock needs to be read.
        now,
        at_ns: u64,

        pub fn after(timeout_ns: i64) Self {
            if (timeout_ns < 0) return .never;
            if (timeout_ns == 0) return .now;
            return .{ .at_ns = monotonicNs() +| @as(u64, @intCast(timeout_ns)) };
        }

        /// Null is for ever.
        pub fn afterNs(timeout_ns: ?u64) Self {
            return after(@intCast(@min(timeout_ns orelse return .never, std.math.maxInt(i64))));
        }

        /// Whether nothing was left at this time, which the caller has just asked the clock for.
        pub fn hadPassedAt(deadline: Self, now_ns: u64) bool {
            return switch (deadline) {
                .never => false,
                .now => true,
                .at_ns => |at_ns| now_ns >= at_ns,
            };
        }

        /// Null is for ever.
        pub fn remainingNs(deadline: Self) ?u64 {
            return switch (deadline) {
                .never => null,
                .now => 0,
                .at_ns => |at_ns| at_ns -| monotonicNs(),
            };
        }
    };
}
