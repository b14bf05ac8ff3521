//! What the kernels' files and all above them share on POSIX systems: errors as results, and what calls return.

const std = @import("std");
const status = @import("../base/status.zig");

/// The system's error codes.
pub const E = std.posix.E;

/// What flock(2) is asked for: the same numbers everywhere.
pub const LOCK = std.posix.LOCK;

/// The error in a result below zero.
pub fn failureOf(result: isize) E {
    std.debug.assert(result < 0);
    return @fromBackingInt(@intCast(-result));
}

pub fn codeOf(e: E) i32 {
    return @backingInt(e);
}

/// An error as a result.
pub fn resultOf(e: E) isize {
    return -@as(isize, codeOf(e));
}

/// What a caller returns after a result below zero.
pub fn refused(result: isize, failure: *status.Failure) status.Error {
    return failure.system(codeOf(failureOf(result)));
}

/// The same after a wait, which a signal's handler may have ended.
pub fn waitRefused(result: isize, failure: *status.Failure) status.Error {
    return if (failureOf(result) == .INTR) error.Interrupted else refused(result, failure);
}

/// A file as a kernel tells it from others.
pub fn Found(comptime FileIdentity: type) type {
    return union(enum) {
        file: FileIdentity,
        nothing,
        /// The system does not tell, for this reason.
        unknown: E,
    };
}

/// What a call says that asks for a file and fails.
pub fn absent(comptime File: type, result: isize) Found(File) {
    return switch (failureOf(result)) {
        .NOENT, .NOTDIR => .nothing,
        else => |e| .{ .unknown = e },
    };
}

/// The bits of a file's mode that chmod(2) sets.
pub const mode_max = 0o7777;

/// What a kernel says of a file.
pub fn FileStatus(comptime FileIdentity: type) type {
    return struct {
        identity: FileIdentity,
        kind: enum { socket, regular, other },
        /// Whose it is.
        user: u32,
        mode: u32,
    };
}

/// What tells a process from all others. See process.zig.
pub const ProcessIdentity = struct {
    generation: u32,
    /// 0 where the generation alone is certain.
    number: i32,
};

/// Says something last and ends the process: for the library's own panics, where nothing may be unwound.
pub fn abort(write: fn ([]const u8) void, text: []const u8) noreturn {
    for ([_][]const u8{ "bbipc: internal error: ", text, "\n" }) |part| write(part);
    // Not SIGABRT by kill(2): a handler for it could return.
    @trap();
}
