//! Blocks of memory for bytes on their way: to read into before it is known how many have come, and to put small
//! messages together in. They are used for moments, so a few serve many streams.

const std = @import("std");
const platform = @import("../platform.zig");

const allocator = platform.sys.allocator;

/// Bytes.
pub const block_size = 65536;
pub const Block = [block_size]u8;

const spares_max = 4;
/// What was given back, for the next to take. More is the system's again.
var spares: [spares_max]std.atomic.Value(?*Block) = @splat(.init(null));

pub fn take() error{OutOfMemory}!*Block {
    for (&spares) |*spare| {
        if (spare.load(.monotonic) == null) continue;
        if (spare.swap(null, .acquire)) |block| return block;
    }
    return (try allocate(block_size))[0..block_size];
}

/// Memory that nobody fills first: where safety is on, Zig would, and have the system find every page of it.
pub fn allocate(size: usize) error{OutOfMemory}![]u8 {
    const memory = allocator.rawAlloc(size, .@"1", @returnAddress()) orelse return error.OutOfMemory;
    return memory[0..size];
}

pub fn free(memory: []u8) void {
    allocator.rawFree(memory, .@"1", @returnAddress());
}

pub fn giveBack(block: *Block) void {
    for (&spares) |*spare| {
        if (spare.load(.monotonic) != null) continue;
        if (spare.cmpxchgStrong(null, block, .release, .monotonic) == null) return;
    }
    free(block);
}

// ---- Larger ones ----

/// Bytes. What is larger is the system's again at once.
const large_max = 4 * 1024 * 1024;

/// What was given back last. Else each large message would cost a mapping of its own, page by page.
var spare_large: std.atomic.Value(?[*]u8) = .init(null);

/// The size of memory that is nobody's is kept in it.
fn sizeOf(memory: [*]u8) *align(1) usize {
    return @ptrCast(memory);
}

/// More than a block, and at least that many bytes.
pub fn takeLarge(size: usize) error{OutOfMemory}![]u8 {
    std.debug.assert(size > block_size);
    return takeSpareLarge(size) orelse allocate(size);
}

/// Memory for at least that many bytes, if it is to be had without asking the system.
pub fn takeSpareLarge(size: usize) ?[]u8 {
    const spare = spare_large.swap(null, .acquire) orelse return null;
    const memory = spare[0..sizeOf(spare).*];
    if (memory.len >= size) return memory;
    giveBackLarge(memory);
    return null;
}

pub fn giveBackLarge(memory: []u8) void {
    if (memory.len > large_max) return free(memory);
    sizeOf(memory.ptr).* = memory.len;
    const other = spare_large.swap(memory.ptr, .acq_rel) orelse return;
    // The larger one serves more.
    const others = other[0..sizeOf(other).*];
    if (others.len <= memory.len) return free(others);
    if (spare_large.swap(other, .acq_rel)) |third| free(third[0..sizeOf(third).*]);
}

test "large memory that was given back serves again, if it is large enough" {
    const testing = std.testing;
    const first = try takeLarge(2 * block_size);
    giveBackLarge(first);
    const second = try takeLarge(block_size + 1);
    try testing.expectEqual(first.ptr, second.ptr);
    try testing.expectEqual(2 * block_size, second.len);
    giveBackLarge(second);
    const third = try takeLarge(4 * block_size);
    try testing.expectEqual(4 * block_size, third.len);
    giveBackLarge(third);
}

test "a block that was given back is taken again, and two are never the same" {
    const testing = std.testing;
    const first = try take();
    const second = try take();
    try testing.expect(first != second);
    giveBack(first);
    const third = try take();
    try testing.expectEqual(first, third);
    giveBack(second);
    giveBack(third);
}
