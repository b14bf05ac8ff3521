//! The library's root: its exports, its panic handler, and the list of files with tests.

const std = @import("std");
const builtin = @import("builtin");
const platform = @import("platform.zig");

comptime {
    _ = @import("c_api.zig");
    _ = @import("cpython/built_ins.zig");
}

/// Named so that Zig leaves out its own on Windows.
pub const DllMainCRTStartup = platform.entryPoint;

/// What Zig's allocator of pages asks.
pub const std_options: std.Options = .{ .queryPageSize = platform.sys.pageSize };

/// An assertion that fails is a bug of the library. It says so and ends the process: to go on could lose data. Tests
/// keep the standard handler and its stack traces.
pub const panic = if (builtin.is_test) std.debug.FullPanic(std.debug.defaultPanic) else std.debug.FullPanic(struct {
    fn call(text: []const u8, _: ?usize) noreturn {
        @branchHint(.cold);
        platform.sys.abort(text);
    }
}.call);

test {
    _ = @import("base/status.zig");
    _ = @import("base/events.zig");
    _ = @import("tests/deadline_test.zig");
    _ = @import("base/places.zig");
    _ = @import("base/arrivals.zig");
    _ = @import("base/spinner.zig");
    _ = @import("base/framing.zig");
    _ = @import("base/copying.zig");
    _ = @import("core/blocks.zig");
    _ = @import("core/inbox.zig");
    _ = platform.sys;
    _ = platform.sys.allocator;
    _ = @import("net/address.zig");
    _ = @import("tests/bsd/rules_test.zig");
    _ = @import("tests/bsd/kqueue_poll_test.zig");
    _ = @import("core/handles.zig");
    _ = @import("core/spinning.zig");
    _ = @import("core/poller.zig");
    _ = @import("tests/c_api_test.zig");
    _ = @import("tests/random_inputs.zig");
    _ = @import("tests/end_to_end_test.zig");
}
