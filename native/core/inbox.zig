//! What has come to a stream and was not read yet: bytes in memory of its own, which may begin with a message.
//!
//! Memory follows what has come, never what a header announces. It is read into a block that many streams share in
//! turn; what is left of that for long, because a message is not whole, moves to memory of its size.

const std = @import("std");
const platform = @import("../platform.zig");
const blocks = @import("blocks.zig");
const copying = @import("../base/copying.zig");
const framing = @import("../base/framing.zig");
const status = @import("../base/status.zig");

const allocator = platform.sys.allocator;

pub const message_size_default = 16 * 1024 * 1024;

/// What the bytes begin with.
pub const Front = union(enum) {
    /// Less than a message.
    incomplete,
    message: Message,
    /// One that is longer than allowed, or what no message begins with.
    too_large,
};

pub const Message = struct {
    /// Of the header.
    start: usize,
    end: usize,
};

/// All its functions are called with its lock held, which is taken inside the library's, never around it.
pub const Inbox = struct {
    lock: platform.sys.Lock = .{},
    /// A block, or larger memory, or what a few bytes need.
    memory: []u8 = &.{},
    start: usize = 0,
    end: usize = 0,
    /// Bytes of the last message, with its header: the next may be as large.
    last_size: usize = 0,
    /// Bytes of a message at the most.
    message_size_max: u64 = message_size_default,

    /// Bytes. What is less than this in a block moves out of it while there is no message for anybody to take at once.
    const small_max = blocks.block_size / 8;

    pub fn unread(inbox: *const Inbox) []const u8 {
        return inbox.memory[inbox.start..inbox.end];
    }

    pub fn isEmpty(inbox: *const Inbox) bool {
        return inbox.start == inbox.end;
    }

    pub fn front(inbox: *const Inbox) Front {
        const bytes = inbox.unread();
        const header = switch (framing.parse(bytes)) {
            .incomplete => return .incomplete,
            .malformed => return .too_large,
            .header => |header| header,
        };
        if (header.body_size > inbox.message_size_max) return .too_large;
        if (header.body_size > bytes.len - header.size) return .incomplete;
        return .{ .message = .{ .start = header.size, .end = header.size + @as(usize, @intCast(header.body_size)) } };
    }

    /// The message that the bytes begin with, without its header.
    pub fn bodyOf(inbox: *const Inbox, message: Message) []const u8 {
        return inbox.unread()[message.start..message.end];
    }

    /// Room for what is read next, behind the rest. `added` tells how much of it was filled.
    pub fn room(inbox: *Inbox) status.Error![]u8 {
        try inbox.makeRoom();
        const free = inbox.memory[inbox.end..];
        const kept = inbox.unread();
        // Behind a large message nothing is read, so that nothing needs to be moved.
        const whole = inbox.announced();
        if (whole <= blocks.block_size or whole <= kept.len) return free;
        return free[0..@intCast(@min(free.len, whole - kept.len))];
    }

    /// Bytes of the message that they begin with, and its header. 0 if that is not known.
    fn announced(inbox: *const Inbox) u64 {
        return switch (framing.parse(inbox.unread())) {
            .header => |header| header.size +| header.body_size,
            else => 0,
        };
    }

    fn makeRoom(inbox: *Inbox) status.Error!void {
        const kept = inbox.unread().len;
        if (inbox.memory.len < blocks.block_size) {
            std.debug.assert(kept < blocks.block_size);
            const large = if (inbox.last_size > blocks.block_size) blocks.takeSpareLarge(inbox.last_size) else null;
            inbox.moveTo(large orelse try blocks.take());
        } else if (inbox.memory.len - inbox.end < inbox.memory.len / 4) {
            const whole = inbox.announced();
            if (whole > kept and whole <= inbox.memory.len - inbox.start) return;
            if (kept <= inbox.memory.len / 2) {
                @memmove(inbox.memory[0..kept], inbox.unread());
                inbox.start = 0;
                inbox.end = kept;
            } else {
                const is_near = whole > inbox.memory.len and whole <= 4 * inbox.memory.len;
                inbox.moveTo(try blocks.takeLarge(if (is_near) @intCast(whole) else 2 * inbox.memory.len));
            }
        }
    }

    pub fn added(inbox: *Inbox, count: usize) void {
        inbox.end += count;
        std.debug.assert(inbox.end <= inbox.memory.len);
    }

    /// Copies the first bytes out of it.
    pub fn copyTo(inbox: *const Inbox, buffer: []u8) usize {
        const count = @min(buffer.len, inbox.end - inbox.start);
        copying.copy(buffer, inbox.unread()[0..count]);
        return count;
    }

    /// The message that the bytes begin with has been received.
    pub fn removeMessage(inbox: *Inbox, message: Message) void {
        inbox.last_size = message.end;
        inbox.remove(message.end);
    }

    /// The first bytes have been read.
    pub fn remove(inbox: *Inbox, count: usize) void {
        inbox.start += count;
        std.debug.assert(inbox.start <= inbox.end);
    }

    /// Gives back memory that is not needed now. To be called when nobody reads on at once.
    pub fn settle(inbox: *Inbox) void {
        const kept = inbox.unread().len;
        if (kept == 0) return inbox.release();
        if (inbox.memory.len < blocks.block_size or kept > small_max or inbox.front() == .message) return;
        // Without memory of that size it stays where it is.
        inbox.moveTo(allocator.alloc(u8, kept) catch return);
    }

    fn moveTo(inbox: *Inbox, memory: []u8) void {
        const kept = inbox.copyTo(memory);
        inbox.release();
        inbox.memory = memory;
        inbox.end = kept;
    }

    pub fn release(inbox: *Inbox) void {
        if (inbox.memory.len > blocks.block_size) {
            blocks.giveBackLarge(inbox.memory);
        } else if (inbox.memory.len == blocks.block_size) {
            blocks.giveBack(inbox.memory[0..blocks.block_size]);
        } else if (inbox.memory.len > 0) allocator.free(inbox.memory);
        inbox.memory = &.{};
        inbox.start = 0;
        inbox.end = 0;
    }
};

const testing = std.testing;

fn put(inbox: *Inbox, bytes: []const u8) !void {
    var left = bytes;
    while (left.len > 0) {
        const room = try inbox.room();
        const count = @min(room.len, left.len);
        @memcpy(room[0..count], left[0..count]);
        inbox.added(count);
        left = left[count..];
    }
}

test "a message is whole with its last byte, wherever it is cut" {
    const wire = "\x00\x00\x00\x03abc\x00\x00\x00\x00\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x01x";
    var cut: usize = 0;
    while (cut <= wire.len) : (cut += 1) {
        var inbox: Inbox = .{};
        defer inbox.release();
        var bodies: [3]u8 = undefined;
        var count: usize = 0;
        for ([_][]const u8{ wire[0..cut], wire[cut..] }) |piece| {
            try put(&inbox, piece);
            inbox.settle();
            while (true) switch (inbox.front()) {
                .message => |message| {
                    bodies[count] = @intCast(inbox.bodyOf(message).len);
                    count += 1;
                    inbox.remove(message.end);
                },
                .incomplete => break,
                .too_large => return error.TooLarge,
            };
            inbox.settle();
        }
        try testing.expectEqualSlices(u8, &.{ 3, 0, 1 }, bodies[0..count]);
        try testing.expectEqual(0, inbox.memory.len);
    }
}

test "what is announced takes no memory, and what is too large is told at once" {
    var inbox: Inbox = .{ .message_size_max = 1 << 30 };
    defer inbox.release();
    try put(&inbox, "\x40\x00\x00\x00begins");
    inbox.settle();
    try testing.expectEqual(Front.incomplete, inbox.front());
    try testing.expectEqual(10, inbox.memory.len);
    inbox.message_size_max -= 1;
    try testing.expectEqual(Front.too_large, inbox.front());
}

test "a large message does not move any more once all of it has room" {
    var inbox: Inbox = .{};
    defer inbox.release();
    const size = 200_000;
    var body: [size]u8 = @splat(7);
    try put(&inbox, "\x00\x03\x0d\x40");
    try put(&inbox, body[0 .. size / 2]);
    const memory = inbox.memory.ptr;
    try testing.expect(inbox.memory.len >= size + 4);
    try put(&inbox, body[size / 2 ..]);
    try testing.expectEqual(memory, inbox.memory.ptr);
    try testing.expectEqual(size, inbox.bodyOf(inbox.front().message).len);
}

test "memory grows with what has come, and goes with it" {
    var inbox: Inbox = .{};
    defer inbox.release();
    var body: [300_000]u8 = undefined;
    for (&body, 0..) |*byte, index| byte.* = @truncate(index * 7);
    try put(&inbox, "\x00\x04\x93\xe0");
    try put(&inbox, &body);
    try testing.expect(inbox.memory.len <= 4 * 1024 * 1024);
    try testing.expectEqualSlices(u8, &body, inbox.bodyOf(inbox.front().message));
    inbox.remove(inbox.unread().len);
    inbox.settle();
    try testing.expectEqual(0, inbox.memory.len);
}
