//! What Linux tells in small files.

const linux = @import("std").os.linux;

/// What one read gives, of what the buffer has room for. Null if the file can't be read.
pub fn read(pathname: [*:0]const u8, buffer: []u8) ?[]u8 {
    const file: isize = @bitCast(linux.open(pathname, .{ .CLOEXEC = true }, 0));
    if (file < 0) return null;
    defer _ = linux.close(@intCast(file));
    const size: isize = @bitCast(linux.read(@intCast(file), buffer.ptr, buffer.len));
    return if (size < 0) null else buffer[0..@intCast(size)];
}
