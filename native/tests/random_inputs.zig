//! Random bytes as what a remote end has sent, in random pieces, beside a second reader of the form that is as simple
//! as can be. Whatever comes: the same messages, no crash, and no more memory than what has come needs.

const std = @import("std");
const blocks = @import("../core/blocks.zig");
const Inbox = @import("../core/inbox.zig").Inbox;

const Failure = error{ OtherMessages, OtherEnd, OtherBytes, TooMuchMemory, OutOfMemory };

/// Bytes of an input at the most. A few of them are repeated until they fill several blocks.
const input_max = 96;
const repeated_max = 3 * blocks.block_size;

const Input = struct {
    random: std.Random,
    room: []u8,
    bytes: []u8 = &.{},

    fn add(input: *Input, more: []const u8) void {
        const start = input.bytes.len;
        const count = @min(more.len, input_max - start);
        @memcpy(input.room[start..][0..count], more[0..count]);
        input.bytes = input.room[0 .. start + count];
    }

    fn addNumber(input: *Input, comptime Number: type, number: Number) void {
        var bytes: [@sizeOf(Number)]u8 = undefined;
        std.mem.writeInt(Number, &bytes, number, .big);
        input.add(&bytes);
    }

    /// Two messages, one of them large at least, with what there is before, between and behind them.
    fn addLarge(input: *Input) void {
        const small_size = input.bytes.len;
        var size = small_size;
        for ([_]u32{ repeated_max / 2, repeated_max / 4 }) |most| {
            const body_size = input.random.uintAtMost(u32, most);
            std.mem.writeInt(u32, input.room[size..][0..4], body_size, .big);
            @memset(input.room[size + 4 ..][0..body_size], 'x');
            size += 4 + body_size;
            @memcpy(input.room[size..][0..small_size], input.room[0..small_size]);
            size += small_size;
        }
        // Mostly they are not lost behind what can be no message.
        const first = if (input.random.uintLessThan(u32, 4) == 0) 0 else small_size;
        input.bytes = input.room[first..size];
    }

    /// Messages, headers without them, and noise.
    fn make(input: *Input) void {
        const random = input.random;
        input.bytes = input.room[0..0];
        for (0..random.uintAtMost(usize, 6)) |_| {
            const size = random.uintAtMost(u32, 24);
            switch (random.uintLessThan(u32, 8)) {
                0, 1, 2 => input.addNumber(u32, size),
                3 => {
                    input.add("\xff\xff\xff\xff");
                    input.addNumber(u64, size);
                },
                4 => {
                    input.add("\xff\xff\xff\xff");
                    input.addNumber(u64, random.int(u64) >> random.int(u6));
                },
                5 => input.addNumber(u32, random.int(u32) >> random.int(u5)),
                6 => input.addNumber(u32, @as(u32, 1) << 31 | random.uintAtMost(u32, 2)),
                else => {},
            }
            var noise: [24]u8 = undefined;
            random.bytes(&noise);
            if (!random.boolean()) @memset(&noise, 0);
            input.add(noise[0..size]);
        }
        if (input.bytes.len == 0 or random.uintLessThan(u32, 1 << 14) != 0) return;
        if (random.boolean()) return input.addLarge();
        const once = input.bytes.len;
        const times = random.uintAtMost(usize, repeated_max / once);
        for (1..@max(times, 1)) |time| @memcpy(input.room[time * once ..][0..once], input.room[0..once]);
        input.bytes = input.room[0 .. @max(times, 1) * once];
    }
};

/// What bytes begin with: the size of the message with its header, and that of the header; or what there is instead.
const Expected = union(enum) {
    incomplete,
    too_large,
    message: struct { header_size: usize, size: usize },

    fn of(bytes: []const u8, size_max: u64) Expected {
        var header_size: usize = 4;
        if (bytes.len < header_size) return .incomplete;
        var body_size: u64 = 0;
        for (bytes[0..4]) |byte| body_size = body_size << 8 | byte;
        if (body_size == 0xffff_ffff) {
            header_size = 12;
            if (bytes.len < header_size) return .incomplete;
            body_size = 0;
            for (bytes[4..12]) |byte| body_size = body_size << 8 | byte;
        } else if (body_size >= 1 << 31) return .too_large;
        if (body_size > size_max) return .too_large;
        if (body_size > bytes.len - header_size) return .incomplete;
        return .{ .message = .{ .header_size = header_size, .size = header_size + @as(usize, @intCast(body_size)) } };
    }
};

fn check(random: std.Random, input: []const u8) Failure!void {
    var inbox: Inbox = .{ .message_size_max = sizeMax(random) };
    defer inbox.release();
    var come: usize = 0;
    var gone: usize = 0;
    while (true) {
        const piece_size = @min(input.len - come, pieceSize(random, input.len));
        const room = inbox.room() catch return error.OutOfMemory;
        const count = @min(room.len, piece_size);
        @memcpy(room[0..count], input[come..][0..count]);
        inbox.added(count);
        come += count;
        gone += try takeMessages(random, &inbox, input[gone..come]);
        // As whoever reads bytes does.
        if (random.uintLessThan(u32, 8) == 0) gone += try readBytes(random, &inbox, input[gone..come]);
        if (random.uintLessThan(u32, 8) == 0) inbox.message_size_max = sizeMax(random);
        inbox.settle();
        if (!std.mem.eql(u8, inbox.unread(), input[gone..come])) return error.OtherBytes;
        if (inbox.memory.len > memoryMax(come - gone)) return error.TooMuchMemory;
        if (come == input.len) return;
    }
}

/// None for nothing. Memory doubles, and what was larger once may serve again, whatever a header announces.
fn memoryMax(kept: usize) usize {
    return if (kept == 0) 0 else 4 * repeated_max;
}

fn sizeMax(random: std.Random) u64 {
    return switch (random.uintLessThan(u32, 4)) {
        0 => random.uintAtMost(u64, 24),
        1 => std.math.maxInt(i64),
        else => 1 << 24,
    };
}

fn pieceSize(random: std.Random, input_size: usize) usize {
    return switch (random.uintLessThan(u32, 4)) {
        0 => 1,
        1 => random.uintAtMost(usize, 16) + 1,
        2 => random.uintAtMost(usize, input_size) + 1,
        else => std.math.maxInt(usize),
    };
}

/// How many bytes they have.
fn takeMessages(random: std.Random, inbox: *Inbox, bytes: []const u8) Failure!usize {
    var gone: usize = 0;
    while (random.uintLessThan(u32, 16) != 0) {
        const expected: Expected = .of(bytes[gone..], inbox.message_size_max);
        switch (inbox.front()) {
            .incomplete => return if (expected == .incomplete) gone else error.OtherEnd,
            .too_large => return if (expected == .too_large) gone else error.OtherEnd,
            .message => |message| {
                if (expected != .message) return error.OtherMessages;
                const one = expected.message;
                if (message.start != one.header_size or message.end != one.size) return error.OtherMessages;
                const body = bytes[gone..][one.header_size..one.size];
                if (!std.mem.eql(u8, inbox.bodyOf(message), body)) return error.OtherBytes;
                inbox.removeMessage(message);
                gone += one.size;
            },
        }
    }
    return gone;
}

fn readBytes(random: std.Random, inbox: *Inbox, bytes: []const u8) Failure!usize {
    var buffer: [16]u8 = undefined;
    const part = buffer[0..random.uintAtMost(usize, buffer.len)];
    const count = inbox.copyTo(part);
    if (!std.mem.eql(u8, part[0..count], bytes[0..@min(bytes.len, part.len)])) return error.OtherBytes;
    inbox.remove(count);
    return count;
}

pub fn run(inputs_count: usize, seed: u64) !void {
    var room: [repeated_max + input_max]u8 = undefined;
    for (0..inputs_count) |number| {
        var generator: std.Random.DefaultPrng = .init(seed +% number);
        var input: Input = .{ .random = generator.random(), .room = &room };
        input.make();
        check(input.random, input.bytes) catch |err| {
            std.debug.print("input {d} of seed {d}: {t}: {x}\n", .{ number, seed, err, input.bytes });
            return err;
        };
    }
}

test "random bytes give the messages that they have, and no more" {
    // Valgrind takes a hundred times as long.
    try run(if (std.valgrind.runningOnValgrind() > 0) 500 else 20_000, 1);
}
