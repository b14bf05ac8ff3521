//! What poll(2) is asked of a socket, and what its answer means.

const sys = @import("sys.zig");
const events = @import("../base/events.zig");
const status = @import("../base/status.zig");

/// What to ask of the kernel for one socket. Null asks nothing, not even what it would report unasked.
pub fn entryOf(descriptor: sys.Descriptor, interest: ?events.Interest) sys.pollfd {
    const asked = interest orelse return .{ .fd = sys.none, .events = 0, .revents = 0 };
    var bits: i16 = 0;
    if (asked.readable) bits |= sys.POLL.IN;
    if (asked.writable) bits |= sys.POLL.OUT;
    if (asked.ended) bits |= sys.POLLRDHUP;
    return .{ .fd = descriptor, .events = bits, .revents = 0 };
}

pub fn conditionsOf(entry: sys.pollfd) events.Conditions {
    return .{
        .readable = entry.revents & sys.POLL.IN != 0,
        .writable = entry.revents & sys.POLL.OUT != 0,
        .ended = entry.revents & sys.POLLRDHUP != 0,
        .severed = entry.revents & (sys.POLL.HUP | sys.POLL.ERR | sys.POLL.NVAL) != 0,
    };
}

/// What the kernel says of one socket now.
pub fn conditionsNow(descriptor: sys.Descriptor, failure: *status.Failure) status.Error!events.Conditions {
    var entry = entryOf(descriptor, .{ .readable = true, .writable = true, .ended = true });
    const result = sys.pollNow(&entry);
    if (result < 0) return sys.refused(result, failure);
    return conditionsOf(entry);
}
