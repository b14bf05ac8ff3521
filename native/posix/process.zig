//! Which process this is.

const std = @import("std");
const common = @import("common.zig");
const kernel = @import("kernel.zig").kernel;

/// Not by its number alone, which another process may have had or have: a later one, or one of another PID namespace
/// (pid_namespaces(7)). Asked by every use of a poller.
pub const Process = struct {
    /// Of a process and all whom it has forked, no two have the same.
    identity: common.ProcessIdentity,

    /// No process.
    pub const none: Process = .{ .identity = .{ .generation = 0, .number = 0 } };

    pub fn current() Process {
        return .{ .identity = kernel.currentProcess() };
    }

    pub fn isCurrent(process: Process) bool {
        return std.meta.eql(process, current());
    }

    /// In a forked child, at once.
    pub fn afterFork() void {
        kernel.countFork();
    }
};
