//! The names of Unix domain sockets, as bind(2) and connect(2) take them.

const std = @import("std");
const sys = @import("../sys.zig");
const status = @import("../../base/status.zig");

/// One byte of sun_path is left for the closing NUL, which some systems and many tools expect.
pub const pathname_max = @sizeOf(@FieldType(sys.sockaddr.un, "path")) - 1;

pub const Name = struct {
    address: sys.sockaddr.un = .{ .path = @splat(0) },
    size: sys.socklen_t,

    pub fn of(pathname: []const u8) status.Error!Name {
        if (pathname.len == 0) return error.InvalidArgument;
        if (pathname.len > pathname_max) return error.NameTooLong;
        if (std.mem.findScalar(u8, pathname, 0) != null) return error.InvalidArgument;
        var name: Name = .{ .size = @intCast(@offsetOf(sys.sockaddr.un, "path") + pathname.len + 1) };
        @memcpy(name.address.path[0..pathname.len], pathname);
        return name;
    }
};
