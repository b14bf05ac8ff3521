//! A server that has a client, and no descriptor or no memory to accept it with. Every wait would report the client at
//! once, and every try to accept it would fail: a plain loop would keep a processor busy with nothing. So after such a
//! failure the server pauses: no wait reports it for a while, or until this process has closed something.

const std = @import("std");
const platform = @import("../platform.zig");
const status = @import("../base/status.zig");

/// How many servers, streams and pollers have been unmade.
var closings_count: std.atomic.Value(u32) = .init(0);

/// After an object's descriptors and memory were given back.
pub fn noteClosing() void {
    _ = closings_count.fetchAdd(1, .acq_rel);
}

pub fn closings() u32 {
    return closings_count.load(.acquire);
}

/// Whether this failure of an accept is for want of descriptors or memory.
pub fn isShortage(err: status.Error, failure: *const status.Failure) bool {
    return switch (err) {
        error.OutOfMemory => true,
        error.System => platform.sys.isShortage(failure.system_code),
        else => false,
    };
}

/// With the library's lock held, but for `wasBegun`.
pub const Pause = struct {
    /// On the clock of platform.sys.
    until_ns: u64 = 0,
    /// It grows while nothing was accepted.
    length_ns: u64 = 0,
    /// What `closings` told before the failure.
    closings_before: u32 = 0,
    begun: std.atomic.Value(bool) = .init(false),

    const first_ns = 10 * std.time.ns_per_ms;
    const last_ns = 50 * std.time.ns_per_ms;

    pub fn begin(pause: *Pause, now_ns: u64, closings_before: u32) void {
        pause.length_ns = std.math.clamp(2 * pause.length_ns, first_ns, last_ns);
        pause.until_ns = now_ns + pause.length_ns;
        pause.closings_before = closings_before;
        pause.begun.store(true, .release);
    }

    /// An accept has not failed like that.
    pub fn end(pause: *Pause) void {
        pause.begun.store(false, .release);
        pause.until_ns = 0;
        pause.length_ns = 0;
    }

    /// Whether there is anything to end.
    pub fn wasBegun(pause: *const Pause) bool {
        return pause.begun.load(.acquire);
    }

    pub fn isOver(pause: *const Pause) bool {
        if (!pause.wasBegun() or pause.closings_before != closings()) return true;
        return platform.sys.monotonicNs() >= pause.until_ns;
    }
};

test "pauses grow while nothing is accepted, and end when something is closed" {
    const testing = std.testing;
    var pause: Pause = .{};
    try testing.expect(pause.isOver());
    const now_ns = platform.sys.monotonicNs();
    for ([_]u64{ 10, 20, 40, 50, 50 }) |length_ms| {
        pause.begin(now_ns, closings());
        try testing.expectEqual(now_ns + length_ms * std.time.ns_per_ms, pause.until_ns);
    }
    pause.begin(now_ns + std.time.ns_per_hour, closings());
    try testing.expect(!pause.isOver());
    noteClosing();
    try testing.expect(pause.isOver());
    pause.end();
    pause.begin(now_ns, closings());
    try testing.expectEqual(now_ns + 10 * std.time.ns_per_ms, pause.until_ns);
}

test isShortage {
    const testing = std.testing;
    try testing.expect(isShortage(error.OutOfMemory, &.{}));
    try testing.expect(!isShortage(error.NoConnection, &.{ .system_code = platform.sys.would_block }));
    try testing.expect(!isShortage(error.System, &.{ .system_code = platform.sys.connection_aborted }));
}
