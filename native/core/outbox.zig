//! The rest of a message that the system did not take: of one at the most. It goes out before anything else does.

const std = @import("std");
const blocks = @import("blocks.zig");
const copying = @import("../base/copying.zig");
const platform = @import("../platform.zig");
const status = @import("../base/status.zig");

/// All its functions are called with its lock held, which is taken inside the library's, never around it. Who sends
/// anything on the stream holds it too.
pub const Outbox = struct {
    lock: platform.sys.Lock = .{},
    rest: []const u8 = &.{},
    /// What the rest is in; empty while it is in the memory of a caller, who waits until it has gone.
    memory: []u8 = &.{},
    /// Whether writing finishes when the rest has gone.
    finishes: bool = false,
    /// For want of memory, the rest of a message was lost: nothing can follow.
    is_cut: bool = false,

    pub fn isEmpty(outbox: *const Outbox) bool {
        return outbox.rest.len == 0;
    }

    /// Keeps copies, one behind the other.
    pub fn keep(outbox: *Outbox, first: []const u8, second: []const u8) status.Error!void {
        std.debug.assert(outbox.isEmpty());
        const memory = blocks.allocate(first.len + second.len) catch |err| {
            outbox.is_cut = true;
            return err;
        };
        copying.copy(memory, first);
        copying.copy(memory[first.len..], second);
        outbox.memory = memory;
        outbox.rest = memory;
    }

    /// The memory stays the caller's, who calls `own` before it goes.
    pub fn borrow(outbox: *Outbox, rest: []const u8) void {
        std.debug.assert(outbox.isEmpty());
        outbox.rest = rest;
    }

    /// Whether the rest is in this memory of a caller.
    pub fn isIn(outbox: *const Outbox, lent: []const u8) bool {
        const start = @intFromPtr(lent.ptr);
        const rest_start = @intFromPtr(outbox.rest.ptr);
        return !outbox.isEmpty() and rest_start >= start and rest_start < start + lent.len;
    }

    /// The caller's memory goes, if the rest is in one's.
    pub fn own(outbox: *Outbox) status.Error!void {
        if (outbox.isEmpty() or outbox.memory.len > 0) return;
        const rest = outbox.rest;
        outbox.rest = &.{};
        try outbox.keep(rest, &.{});
    }

    /// The system has taken the first bytes.
    pub fn remove(outbox: *Outbox, count: usize) void {
        outbox.rest = outbox.rest[count..];
        if (outbox.isEmpty()) outbox.release();
    }

    pub fn release(outbox: *Outbox) void {
        if (outbox.memory.len > 0) blocks.free(outbox.memory);
        outbox.memory = &.{};
        outbox.rest = &.{};
    }
};
