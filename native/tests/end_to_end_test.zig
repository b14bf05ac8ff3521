//! The core and the C interface, end to end: real sockets, threads and processes, through the functions of bbipc.h.

const std = @import("std");
const testing = std.testing;
const c = @import("bbipc_h");
const system = @import("end_to_end/support.zig").system;

test {
    _ = @import("end_to_end/bytes.zig");
    _ = @import("end_to_end/transfers.zig");
    _ = @import("end_to_end/states.zig");
    _ = @import("end_to_end/messages.zig");
    _ = @import("end_to_end/aborts.zig");
    _ = @import("end_to_end/waits.zig");
    _ = @import("end_to_end/looks.zig");
    _ = @import("end_to_end/arguments.zig");
    _ = @import("end_to_end/ipv6.zig");
    _ = @import("end_to_end/namespaces.zig");
    _ = @import("end_to_end/foreign.zig");
    _ = @import("end_to_end/daemons.zig");
    _ = @import("end_to_end/adopting.zig");
    _ = @import("end_to_end/memory.zig");
    if (system.has_pipes) _ = @import("end_to_end/awaited.zig");
    _ = if (system.has_pipes) @import("end_to_end/pipes.zig") else @import("end_to_end/pathnames.zig");
    // Windows has neither signals nor fork().
    if (system.has_fork) _ = @import("end_to_end/processes.zig");
    if (!system.has_pipes) _ = @import("end_to_end/readers.zig");
    if (!system.has_pipes) _ = @import("end_to_end/shown.zig");
    if (system.is_linux) _ = @import("end_to_end/kernels.zig");
}

test "the version and the messages" {
    try testing.expectEqualStrings(c.BBIPC_VERSION, std.mem.span(c.bbipc_version()));
    var code: i64 = 1;
    while (code >= -19) : (code -= 1) try testing.expect(std.mem.span(c.bbipc_error_message(code)).len > 0);
    const invalid_handle = std.mem.span(c.bbipc_error_message(c.BBIPC_ERROR_INVALID_HANDLE));
    try testing.expect(std.mem.indexOf(u8, invalid_handle, "handle") != null);
}
