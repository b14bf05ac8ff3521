//! The Windows platform: what platform.zig asks for.

pub const sys = @import("sys.zig");
pub const tcp = @import("tcp.zig");
pub const local = @import("local.zig");
pub const poll = @import("poll.zig");
const iocp = @import("iocp.zig");
const sockets = @import("stream.zig");

pub const Server = sockets.Server;
pub const Stream = sockets.Stream;
pub const Selector = iocp.Selector;
pub const Backend = iocp.Backend;
