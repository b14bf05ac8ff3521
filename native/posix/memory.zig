//! Memory for the library's objects and arrays on Linux, where it has no libc to ask. Zig's own allocator of pages
//! can't serve: it asserts that munmap(2) never fails. At the limit of mappings (vm.max_map_count), munmap(2) fails if
//! it has to split one.
//!
//! Blocks have the size of a power of two. Small ones are cut out of chunks that are kept for good; each large one is a
//! mapping of its own. What is freed and not given back to the system is kept for the next block of its size.

const std = @import("std");
const linux = std.os.linux;
const Lock = @import("lock.zig").Lock;

const smallest_log2 = 6;
/// As large as a chunk: from here on, a block is a mapping of its own.
const large_log2 = 16;
const sizes_count = @bitSizeOf(usize) - 1;

const Free = struct { next: ?*Free };

var lock: Lock = .{};
/// By the logarithm of their size.
var free_blocks: [sizes_count]?*Free = @splat(null);
/// What is left of the last chunk.
var chunk: []u8 = &.{};

pub const allocator: std.mem.Allocator = .{ .ptr = undefined, .vtable = &.{
    .alloc = allocate,
    .resize = resize,
    .remap = remap,
    .free = free,
} };

pub fn lockAllocator() void {
    lock.lock();
}

pub fn unlockAllocator() void {
    lock.unlock();
}

/// Null for more than can be addressed.
fn sizeLog2(size: usize, alignment: std.mem.Alignment) ?u7 {
    const least = @max(size, alignment.toByteUnits(), 1 << smallest_log2);
    const log2 = std.math.log2_int_ceil(usize, least);
    return if (log2 < sizes_count) log2 else null;
}

fn allocate(_: *anyopaque, size: usize, alignment: std.mem.Alignment, _: usize) ?[*]u8 {
    if (alignment.toByteUnits() > std.heap.page_size_min) return null;
    const log2 = sizeLog2(size, alignment) orelse return null;
    lock.lock();
    defer lock.unlock();
    if (free_blocks[log2]) |block| {
        free_blocks[log2] = block.next;
        return @ptrCast(block);
    }
    const bytes = @as(usize, 1) << @intCast(log2);
    return if (log2 >= large_log2) map(bytes) else cut(bytes);
}

fn map(bytes: usize) ?[*]align(std.heap.page_size_min) u8 {
    const flags: linux.MAP = .{ .TYPE = .PRIVATE, .ANONYMOUS = true };
    const result: isize = @bitCast(linux.mmap(null, bytes, .{ .READ = true, .WRITE = true }, flags, -1, 0));
    // Addresses of 32-bit processes can be negative.
    if (result < 0 and result > -4096) return null;
    return @ptrFromInt(@as(usize, @bitCast(result)));
}

fn cut(bytes: usize) ?[*]u8 {
    // Blocks lie at multiples of their size, up to that of a page.
    const step = @min(bytes, std.heap.page_size_min);
    const skipped = (step - @intFromPtr(chunk.ptr) % step) % step;
    if (chunk.len < skipped + bytes) {
        const fresh = map(1 << large_log2) orelse return null;
        // The rest of the last chunk is lost: it is less than a block.
        chunk = fresh[0 .. 1 << large_log2];
        return cut(bytes);
    }
    const block = chunk[skipped..][0..bytes];
    chunk = chunk[skipped + bytes ..];
    return block.ptr;
}

fn resize(_: *anyopaque, memory: []u8, alignment: std.mem.Alignment, size: usize, _: usize) bool {
    return sizeLog2(memory.len, alignment) == sizeLog2(size, alignment);
}

fn remap(context: *anyopaque, memory: []u8, alignment: std.mem.Alignment, size: usize, from: usize) ?[*]u8 {
    return if (resize(context, memory, alignment, size, from)) memory.ptr else null;
}

fn free(_: *anyopaque, memory: []u8, alignment: std.mem.Alignment, _: usize) void {
    const log2 = sizeLog2(memory.len, alignment).?;
    const bytes = @as(usize, 1) << @intCast(log2);
    lock.lock();
    defer lock.unlock();
    if (log2 >= large_log2) {
        const result: isize = @bitCast(linux.munmap(@alignCast(memory.ptr), bytes));
        if (result == 0) return;
    }
    const block: *Free = @ptrCast(@alignCast(memory.ptr));
    block.* = .{ .next = free_blocks[log2] };
    free_blocks[log2] = block;
}

test "blocks are distinct, aligned and used again" {
    const testing = std.testing;
    for ([_]usize{ 1, 63, 64, 65, 4000, 4096, 65535, 65536, 65537, 1 << 20 }) |size| {
        const first = try allocator.alloc(u8, size);
        const second = try allocator.alignedAlloc(u64, .of(u64), size);
        @memset(first, 1);
        @memset(second, 2);
        for (first) |byte| try testing.expectEqual(1, byte);
        for (second) |word| try testing.expectEqual(2, word);
        const address = first.ptr;
        allocator.free(first);
        const again = try allocator.alloc(u8, size);
        // A mapping of its own may be made elsewhere the next time.
        if (size <= 1 << (large_log2 - 1)) try testing.expectEqual(address, again.ptr);
        allocator.free(again);
        allocator.free(second);
    }
}

test "an array grows in place within its block, and keeps what it has when it moves" {
    const testing = std.testing;
    var list: std.ArrayList(u32) = .empty;
    defer list.deinit(allocator);
    for (0..100_000) |number| try list.append(allocator, @intCast(number));
    for (list.items, 0..) |item, number| try testing.expectEqual(number, item);
}
