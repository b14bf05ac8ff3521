//! The Windows platform: what platform.zig asks for.

const builtin = @import("builtin");
const pipes = @import("pipes/pipe.zig");

pub const sys = @import("sys.zig");
pub const transports = @import("transports/transport.zig");
pub const selectors = @import("selectors/iocp.zig");
pub const poll = @import("selectors/poll.zig");

pub const finishWrites = pipes.finishWrites;

/// What Windows calls when it loads the library. Zig's own would be one more exported function, and bring thread-local
/// storage with it.
pub fn entryPoint(_: ?*anyopaque, _: u32, _: ?*anyopaque) callconv(.winapi) sys.BOOL {
    return 1;
}

comptime {
    if (builtin.output_mode == .Lib) {
        @export(&entryPoint, .{ .name = "DllMainCRTStartup", .visibility = .hidden });
    }
}
