//! Which process this is.

const std = @import("std");
const common = @import("common.zig");
const kernel = @import("kernel.zig").kernel;

/// A number alone is not enough: a later process may have the same, or one of another PID namespace
/// (pid_namespaces(7)). Every use of a poller asks for it.
pub const Process = struct {
    /// A process and all that it has forked have different identities.
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
