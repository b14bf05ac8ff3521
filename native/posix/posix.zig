//! The POSIX platform: what platform.zig asks for.

pub const sys = @import("sys.zig");
pub const transports = @import("transports/transport.zig");
pub const selectors = @import("selectors/selector.zig");
pub const poll = @import("selectors/poll.zig");

/// What was written is the system's, which needs no process to deliver it.
pub fn finishWrites(_: ?u64) bool {
    return true;
}

/// Libraries have none here.
pub const entryPoint = {};
