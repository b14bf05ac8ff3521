//! How a message begins on the wire: with its size, in the form that Python's multiprocessing.connection has
//! (Lib/multiprocessing/connection.py, Connection._send_bytes). Four bytes, a signed number in network byte order; or
//! -1, and then the size in eight bytes, unsigned.

const std = @import("std");

/// Bytes of the longest header.
pub const header_max = 12;
const short_header = 4;
const short_max = std.math.maxInt(i32);
const long_mark: i32 = -1;

/// A header, and the size of the message that follows it.
pub const Header = struct {
    size: usize,
    body_size: u64,
};

pub const Parsed = union(enum) {
    /// There are not enough bytes to tell.
    incomplete,
    header: Header,
    /// No sender of this form begins a message like this.
    malformed,
};

pub fn parse(bytes: []const u8) Parsed {
    if (bytes.len < short_header) return .incomplete;
    const short = std.mem.readInt(i32, bytes[0..short_header], .big);
    if (short >= 0) return .{ .header = .{ .size = short_header, .body_size = @intCast(short) } };
    if (short != long_mark) return .malformed;
    if (bytes.len < header_max) return .incomplete;
    const body_size = std.mem.readInt(u64, bytes[short_header..header_max], .big);
    return .{ .header = .{ .size = header_max, .body_size = body_size } };
}

/// Writes the header of a message of that size to the beginning of the room, and returns the header's own size.
pub fn write(room: *[header_max]u8, body_size: u64) usize {
    if (body_size <= short_max) {
        std.mem.writeInt(i32, room[0..short_header], @intCast(body_size), .big);
        return short_header;
    }
    std.mem.writeInt(i32, room[0..short_header], long_mark, .big);
    std.mem.writeInt(u64, room[short_header..header_max], body_size, .big);
    return header_max;
}

const testing = std.testing;

test "every size comes back, and no cut header is taken for a whole one" {
    const sizes = [_]u64{ 0, 1, 255, 65536, short_max - 1, short_max, short_max + 1, 1 << 40, std.math.maxInt(u64) };
    for (sizes) |body_size| {
        var room: [header_max]u8 = undefined;
        const size = write(&room, body_size);
        try testing.expectEqual(@as(usize, if (body_size > short_max) header_max else short_header), size);
        for (0..size) |cut| try testing.expectEqual(Parsed.incomplete, parse(room[0..cut]));
        try testing.expectEqual(Parsed{ .header = .{ .size = size, .body_size = body_size } }, parse(room[0..size]));
    }
}

test "a negative size other than the mark of the long form is none" {
    for ([_]i32{ -2, -3, std.math.minInt(i32) }) |number| {
        var room: [short_header]u8 = undefined;
        std.mem.writeInt(i32, &room, number, .big);
        try testing.expectEqual(Parsed.malformed, parse(&room));
    }
}
