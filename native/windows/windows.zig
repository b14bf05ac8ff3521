//! The Windows platform: what platform.zig asks for.

const builtin = @import("builtin");

pub const sys = @import("sys.zig");
pub const tcp = @import("transports/tcp.zig");
pub const local = @import("transports/pipe.zig");
pub const poll = @import("selectors/poll.zig");
const iocp = @import("selectors/iocp.zig");
const sockets = @import("stream.zig");

pub const Server = sockets.Server;
pub const Stream = sockets.Stream;
pub const Selector = iocp.Selector;
pub const Backend = iocp.Backend;

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
