//! A watched socket, as selectors know it.

const sys = @import("../sys.zig");

pub const Key = struct {
    handle: i64,
    descriptor: sys.Descriptor,
    /// The selector's own: where it keeps the socket.
    position: u32 = 0,
};
