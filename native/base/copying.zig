//! Copies of many bytes. Without a libc, Zig's own memcpy copies 16 bytes at a time or fewer; a processor that has an
//! instruction for it does better (Intel 64 and IA-32 Architectures Optimization Reference Manual: Enhanced REP MOVSB).

const std = @import("std");
const builtin = @import("builtin");

const has_instruction = builtin.cpu.arch == .x86_64;

/// Bytes. The instruction takes as long to begin as to copy some hundred.
const much = 1024;

/// Copies all of `from` to the beginning of `to`. They don't overlap.
pub fn copy(to: []u8, from: []const u8) void {
    if (has_instruction and from.len >= much) {
        std.debug.assert(to.len >= from.len);
        _ = asm volatile ("rep movsb"
            : [to_end] "={rdi}" (-> usize),
            : [to] "0" (to.ptr),
              [from] "{rsi}" (from.ptr),
              [count] "{rcx}" (from.len),
            : .{ .rsi = true, .rcx = true, .memory = true });
        return;
    }
    @memcpy(to[0..from.len], from);
}

test "copies of every size are whole, and touch nothing else" {
    const testing = std.testing;
    var from: [5000]u8 = undefined;
    for (&from, 0..) |*byte, index| byte.* = @truncate(index *% 151 +% 1);
    for ([_]usize{ 0, 1, 15, 1023, 1024, 1025, 4099 }) |size| {
        var to: [5000]u8 = @splat(0);
        copy(to[1..], from[0..size]);
        try testing.expectEqualSlices(u8, from[0..size], to[1..][0..size]);
        try testing.expectEqual(0, to[0]);
        try testing.expectEqual(0, to[1 + size]);
    }
}
