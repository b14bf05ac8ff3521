//! What the tests' files of one system need of their own: calls, and other threads that make them.

const std = @import("std");
const handles = @import("../../core/handles.zig");
const pollers = @import("../../core/poller.zig");
const polling = @import("../../core/poll_sockets.zig");
const Spinner = @import("../../base/spinner.zig").Spinner;
const sys = @import("../../platform.zig").sys;

/// The header, translated to Zig by the build.
pub const c = @import("bbipc_h");
pub const Handle = c.bbipc_handle;

/// Longer than any wait that succeeds; reached only by one that fails.
pub const patience_ns = 20 * std.time.ns_per_s;

pub fn monotonicNs() u64 {
    return sys.monotonicNs();
}

/// The answer of a call that must succeed.
pub fn succeed(result: c.bbipc_result) error{CallFailed}!i64 {
    if (result >= 0) return result;
    std.debug.print("unexpected result {d}: {s}\n", .{ result, std.mem.span(c.bbipc_error_message(result)) });
    return error.CallFailed;
}

/// What a code of the system's says, by the name that POSIX has for it where that is the same everywhere.
pub const Reason = enum {
    AGAIN,
    ADDRINUSE,
    ADDRNOTAVAIL,
    BUSY,
    CONNREFUSED,
    CONNRESET,
    NOENT,
    NOTCONN,
    PIPE,
    full_backlog,
};

pub fn poll(socket: Handle, events: u32, timeout_ns: i64) c.bbipc_result {
    return c.bbipc_poll_socket(socket, events, timeout_ns, null, null);
}

/// Returns when this number of threads waits in bbipc_poll_socket and bbipc_poll_sockets.
pub fn awaitPolling(threads: usize) !void {
    const Look = struct {
        fn count(_: void) usize {
            return handles.table.poll_waiters.list.len();
        }
    };
    try awaitCount(threads, {}, Look.count);
}

/// Returns when this number of threads waits with the poller.
pub fn awaitWaiting(poller: Handle, threads: usize) !void {
    const Look = struct {
        fn count(handle: Handle) usize {
            const slot = handles.table.find(handle) orelse return 0;
            return pollers.of(slot).waiters.list.len();
        }
    };
    try awaitCount(threads, poller, Look.count);
}

/// Waits may look for a second. Skips the test where none does.
pub fn beginLooking() !void {
    if (sys.usableProcessors() < 2) return error.SkipZigTest;
    _ = try succeed(c.bbipc_set_spinning(std.time.ns_per_s));
}

pub fn endLooking() void {
    std.debug.assert(c.bbipc_set_spinning(c.BBIPC_SPINNING_ADAPTIVE) == 0);
}

/// The next waits for this socket, or with this poller, look for this time before they sleep: as if that had proved
/// to be better.
pub fn makeLook(handle: Handle, look_ns: u32) void {
    handles.lock.lock();
    defer handles.lock.unlock();
    spinnerOf(handle).* = looking(look_ns);
}

fn spinnerOf(handle: Handle) *Spinner {
    const slot = handles.table.find(handle).?;
    return if (slot.isSocket()) &slot.spinner else &pollers.of(slot).spinner;
}

/// Whether a wait has looked since makeLook, and an event has ended it.
pub fn hasLooked(handle: Handle) bool {
    handles.lock.lock();
    defer handles.lock.unlock();
    return spinnerOf(handle).looks_count > 0;
}

/// The same for waits for more than one socket.
pub fn makeSeveralLook(look_ns: u32) void {
    handles.lock.lock();
    defer handles.lock.unlock();
    polling.spinner_of_several = looking(look_ns);
}

fn looking(look_ns: u32) Spinner {
    return .{ .state = .looking, .slept_ns = look_ns / 5 * 8, .looked_ns = 1, .waits_left = 100 };
}

fn awaitCount(expected: usize, context: anytype, comptime count: fn (@TypeOf(context)) usize) !void {
    const end_ns = monotonicNs() + patience_ns;
    while (monotonicNs() < end_ns) {
        {
            handles.lock.lock();
            defer handles.lock.unlock();
            if (count(context) == expected) return;
        }
        std.Thread.yield() catch {};
    }
    return error.NobodyWaits;
}

/// A call in another thread. `join` gives what it returned.
pub fn Call(comptime function: anytype) type {
    return struct {
        const Self = @This();
        const Arguments = std.meta.ArgsTuple(@TypeOf(function));

        thread: std.Thread = undefined,
        result: c.bbipc_result = 0,

        /// `call` must stay where it is until it is joined.
        pub fn start(call: *Self, arguments: Arguments) !void {
            call.* = .{};
            call.thread = try std.Thread.spawn(.{}, run, .{ call, arguments });
        }

        fn run(call: *Self, arguments: Arguments) void {
            call.result = @call(.auto, function, arguments);
        }

        pub fn join(call: *Self) c.bbipc_result {
            call.thread.join();
            return call.result;
        }
    };
}
