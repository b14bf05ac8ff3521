//! Unix domain sockets (unix(7)).

const sys = @import("../sys.zig");
const socket_files = @import("socket_file.zig");
const status = @import("../../base/status.zig");
const Claim = @import("claim.zig").Claim;
const LocalOptions = @import("../../base/local_options.zig").LocalOptions;
const Name = @import("unix_name.zig").Name;
const Socket = @import("socket.zig").Socket;
const SocketFile = socket_files.SocketFile;
const unix_name = @import("unix_name.zig");

pub const pathname_max = unix_name.pathname_max;

/// The same, as bbipc.h tells it.
pub const pathname_limit = pathname_max;

pub const Listener = struct {
    descriptor: sys.Descriptor,
    file: *SocketFile,
    claim: ?Claim,

    /// What the close does at once. Before the descriptor is closed: while it is open, its file's inode number belongs
    /// to nobody else. False if it leaves the file.
    pub fn prepareClose(listener: *Listener) bool {
        if (!listener.file.process.isCurrent()) return true;
        const is_deleted = listener.file.deleteIfOurs();
        if (listener.claim) |*claim| claim.giveUp();
        return is_deleted;
    }

    pub fn close(listener: *Listener) void {
        sys.close(listener.descriptor);
        if (listener.claim) |claim| sys.close(claim.lock);
        listener.file.free();
    }
};

pub fn listen(pathname: []const u8, options: LocalOptions, failure: *status.Failure) status.Error!Listener {
    _ = try Name.of(pathname);
    const file: *SocketFile = try .make(pathname);
    errdefer file.free();
    if (!options.replaces_dead) {
        const descriptor = try open(failure);
        errdefer sys.close(descriptor);
        try file.bind(descriptor, pathname, options.permissions, failure);
        errdefer _ = file.deleteIfOurs();
        const listening = sys.listen(descriptor, options.backlog);
        if (listening < 0) return sys.refused(listening, failure);
        if (!options.deletes) file.made = null;
        return .{ .descriptor = descriptor, .file = file, .claim = null };
    }

    var claim: Claim = try .take(file, failure);
    errdefer {
        claim.giveUp();
        sys.close(claim.lock);
    }
    const descriptor = try open(failure);
    errdefer sys.close(descriptor);
    file.made = try claim.replace(descriptor, pathname, options, failure);
    if (!options.deletes) file.made = null;
    return .{ .descriptor = descriptor, .file = file, .claim = claim };
}

pub fn connect(pathname: []const u8, failure: *status.Failure) status.Error!Socket {
    const name: Name = try .of(pathname);
    const descriptor = try open(failure);
    errdefer sys.close(descriptor);
    const result = sys.connect(descriptor, &name.address, name.size);
    // Unix sockets connect at once or not at all.
    if (result < 0) {
        const e = sys.failureOf(result);
        failure.system_code = sys.codeOf(e);
        return if (sys.nobodyListens(e)) error.NoLocalServer else error.System;
    }
    return .{ .descriptor = descriptor };
}

fn open(failure: *status.Failure) status.Error!sys.Descriptor {
    const result = sys.streamSocket(sys.AF.UNIX);
    if (result < 0) return sys.refused(result, failure);
    return @intCast(result);
}
