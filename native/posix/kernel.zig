//! The one switch among the POSIX systems: each file has the same names, which sys.zig tells of.

const builtin = @import("builtin");

pub const kernel = switch (builtin.os.tag) {
    .linux => @import("linux.zig"),
    .macos, .freebsd => @import("bsd.zig"),
    else => unreachable, // platform.zig knows better
};
