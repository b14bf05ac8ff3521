//! How long to sleep before asking again where no kernel tells (see events.Plan.Asks): soon at first, then seldom.

const std = @import("std");

pub const Backoff = struct {
    interval_ns: u64 = first_ns,

    const first_ns = 1 * std.time.ns_per_ms;
    const last_ns = 50 * std.time.ns_per_ms;

    /// The shorter of the interval and what remains.
    pub fn limit(backoff: *Backoff, remaining_ns: ?u64) u64 {
        const interval_ns = backoff.interval_ns;
        backoff.interval_ns = @min(interval_ns * 2, last_ns);
        return @min(interval_ns, remaining_ns orelse std.math.maxInt(u64));
    }
};
