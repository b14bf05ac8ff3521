//! Taking the place of a server that has died.
//!
//! Two starters that connect, find nobody, delete the file and bind can delete one another's. So whoever takes the
//! place of a server holds a lock for as long as it serves: on a file beside the socket's, PATHNAME.lock.
//!
//! - flock(2), not fcntl(2): fcntl's locks of a process are lost when it closes any descriptor of the file, and a
//!   daemon that forks when it has begun to listen would lose them too. A flock lives as long as a process has the
//!   descriptor, and so does the socket; exec closes both. The process that made the server takes the lock away from
//!   all others when it closes (LOCK_UN).
//! - The lock's file may be deleted by whoever has the lock. Another may have opened it before; so whoever gets the
//!   lock looks whether the file is still at its name, and begins again if it is not. First the socket's file goes,
//!   then the lock's, then the lock: as long as there is something to protect, nobody else has it.
//! - Whether a server lives, only connecting tells. macOS and FreeBSD refuse where a backlog is full, as if nobody
//!   listened. Against that there is the lock too.
//! - The new file is made at PATHNAME.new, or a name as good, and gets its place when it listens already. So nobody who
//!   connects to find out can take it for dead. A process that ends on the way leaves a file there, which the next one
//!   deletes.

const std = @import("std");
const sys = @import("../sys.zig");
const socket_files = @import("socket_file.zig");
const status = @import("../../base/status.zig");
const LocalOptions = @import("../../base/local_options.zig").LocalOptions;
const unix_name = @import("unix_name.zig");
const Name = unix_name.Name;
const Identity = socket_files.Identity;
const SocketFile = socket_files.SocketFile;

/// How often the lock's file may be deleted by others while it is waited for.
const tries_max = 100;

/// A name beside a server's.
const Beside = struct {
    buffer: [SocketFile.path_max]u8,
    length: usize,

    fn of(pathname: []const u8, suffix: []const u8) Beside {
        var self: Beside = .{ .buffer = undefined, .length = pathname.len + suffix.len };
        @memcpy(self.buffer[0..pathname.len], pathname);
        @memcpy(self.buffer[pathname.len..self.length], suffix);
        self.buffer[self.length] = 0;
        return self;
    }

    /// PATHNAME.new; or a shorter name that is only this pathname's, if that would be too long for a socket.
    fn new(pathname: []const u8, is_short: bool) Beside {
        if (!is_short) return .of(pathname, new_suffix);
        const start = if (std.mem.findScalarLast(u8, pathname, '/')) |slash| slash + 1 else 0;
        var buffer: [16]u8 = undefined;
        const hash = std.hash.Wyhash.hash(0, pathname[start..]);
        const name = std.mem.print(&buffer, "{x:0>16}", .{hash}) catch unreachable;
        const directory: Beside = .of(pathname[0..start], name);
        return .of(directory.text(), new_suffix);
    }

    fn text(self: *const Beside) [:0]const u8 {
        return self.buffer[0..self.length :0];
    }
};

const lock_suffix = ".lock";
const new_suffix = ".new";

fn running(failure: *status.Failure) status.Error {
    failure.system_code = sys.codeOf(.ADDRINUSE);
    return error.ServerRunning;
}

/// What the system says of an open file.
fn found(there: sys.Found(sys.files.FileStatus), failure: *status.Failure) status.Error!sys.files.FileStatus {
    return switch (there) {
        .file => |file| file,
        .nothing => failure.system(sys.codeOf(.NOENT)),
        .unknown => |e| failure.system(sys.codeOf(e)),
    };
}

/// The right to be the server at a pathname.
pub const Claim = struct {
    file: *const SocketFile,
    /// Open, and locked until `giveUp`.
    lock: sys.Descriptor,
    identity: Identity,

    pub fn take(file: *const SocketFile, failure: *status.Failure) status.Error!Claim {
        const name: Beside = .of(file.text(), lock_suffix);
        for (0..tries_max) |_| {
            const opened = sys.files.openLock(name.text());
            if (opened < 0) {
                if (sys.failureOf(opened) == .INTR) continue;
                return sys.refused(opened, failure);
            }
            const lock: sys.Descriptor = @intCast(opened);
            errdefer sys.close(lock);
            const here = try found(sys.files.statusOf(lock), failure);
            // Whoever owns it could hold the lock for ever.
            if (here.kind != .regular or here.user != sys.files.user()) return failure.system(sys.codeOf(.ACCES));
            const locked = sys.files.lock(lock);
            if (locked < 0) switch (sys.failureOf(locked)) {
                .AGAIN => return running(failure),
                else => return sys.refused(locked, failure),
            };
            switch (sys.files.statusAt(name.text())) {
                .file => |there| if (there.identity.eql(here.identity))
                    return .{ .file = file, .lock = lock, .identity = here.identity },
                .nothing => {},
                .unknown => |e| return failure.system(sys.codeOf(e)),
            }
            // Its holder has deleted it meanwhile.
            sys.close(lock);
        }
        return running(failure);
    }

    /// The lock is free, though its descriptor is still open. Only for the process that took it.
    pub fn giveUp(claim: *Claim) void {
        const name: Beside = .of(claim.file.text(), lock_suffix);
        switch (sys.files.statusAt(name.text())) {
            // Refused where the directory is read-only by now, for example: then it stays, and is used again.
            .file => |there| if (there.identity.eql(claim.identity)) {
                _ = sys.files.unlink(name.text());
            },
            .nothing, .unknown => {},
        }
        sys.files.unlock(claim.lock);
    }

    /// Binds the socket, lets it listen, and gives its file the place. Returns the file.
    pub fn replace(
        claim: *const Claim,
        descriptor: sys.Descriptor,
        pathname: []const u8,
        options: LocalOptions,
        failure: *status.Failure,
    ) status.Error!socket_files.Made {
        const there = try find(claim.file.text(), pathname, failure);
        switch (there) {
            .nothing, .dead => {},
            .alive => return running(failure),
            .foreign => return failure.system(sys.codeOf(.ADDRINUSE)),
        }
        const is_short = claim.file.length + new_suffix.len > unix_name.pathname_max;
        const whole: Beside = .new(claim.file.text(), is_short);
        const given: Beside = .new(pathname, is_short);
        switch (try find(whole.text(), given.text(), failure)) {
            .nothing => {},
            .dead => |identity| _ = socket_files.delete(whole.text(), .{ .file = identity }),
            // A starter that is being killed: the system closes what it had open one after the other.
            .alive => return running(failure),
            .foreign => return failure.system(sys.codeOf(.ADDRINUSE)),
        }

        if (options.permissions) |mode| sys.files.presetMode(descriptor, mode);
        try bind(descriptor, whole.text(), given.text(), failure);
        const made = sys.files.identityAt(whole.text());
        errdefer _ = socket_files.delete(whole.text(), made);
        switch (made) {
            .file => {},
            .nothing => return failure.system(sys.codeOf(.NOENT)),
            .unknown => |e| return failure.system(sys.codeOf(e)),
        }
        if (options.permissions) |mode| try socket_files.setMode(whole.text(), made, mode, failure);
        const listening = sys.listen(descriptor, options.backlog);
        if (listening < 0) return sys.refused(listening, failure);
        try claim.place(whole.text(), there, failure);
        return made;
    }

    /// From its first name to its own.
    fn place(claim: *const Claim, new: [:0]const u8, replaced: Found, failure: *status.Failure) status.Error!void {
        const own = claim.file.text();
        if (replaced == .dead) switch (sys.files.identityAt(own)) {
            // Whoever holds no lock may have changed what is there; then it is not ours to replace.
            .file => |there| if (there.eql(replaced.dead)) {
                const renamed = sys.files.rename(new, own);
                return if (renamed < 0) sys.refused(renamed, failure) else {};
            } else return failure.system(sys.codeOf(.ADDRINUSE)),
            .unknown => |e| return failure.system(sys.codeOf(e)),
            .nothing => {},
        };
        const linked = sys.files.link(new, own);
        if (linked < 0) {
            const e = sys.failureOf(linked);
            return failure.system(sys.codeOf(if (e == .EXIST) .ADDRINUSE else e));
        }
        // Where it stays, the next server deletes it.
        _ = sys.files.unlink(new);
    }
};

/// What is at a pathname.
const Found = union(enum) {
    nothing,
    /// A socket of this user that nobody listens on.
    dead: Identity,
    alive,
    /// No socket, or another user's, or not one of streams: never to be deleted.
    foreign,
};

fn find(whole: [:0]const u8, given: []const u8, failure: *status.Failure) status.Error!Found {
    const file = switch (sys.files.statusAt(whole)) {
        .file => |file| file,
        .nothing => return .nothing,
        .unknown => |e| return failure.system(sys.codeOf(e)),
    };
    if (file.kind != .socket or file.user != sys.files.user()) return .foreign;
    const result = sys.streamSocket(sys.AF.UNIX);
    if (result < 0) return sys.refused(result, failure);
    const descriptor: sys.Descriptor = @intCast(result);
    defer sys.close(descriptor);
    const connected = try withName(sys.connect, descriptor, whole, given);
    if (connected >= 0) return .alive;
    return switch (sys.failureOf(connected)) {
        .CONNREFUSED => .{ .dead = file.identity },
        // Its backlog is full.
        .AGAIN => .alive,
        .NOENT => .nothing,
        .PROTOTYPE => .foreign,
        else => |e| failure.system(sys.codeOf(e)),
    };
}

fn bind(
    descriptor: sys.Descriptor,
    whole: [:0]const u8,
    given: []const u8,
    failure: *status.Failure,
) status.Error!void {
    const bound = try withName(sys.bind, descriptor, whole, given);
    if (bound < 0) return sys.refused(bound, failure);
}

/// Calls bind or connect with the absolute name, or one that is short enough.
fn withName(
    comptime call: anytype,
    descriptor: sys.Descriptor,
    whole: [:0]const u8,
    given: []const u8,
) status.Error!isize {
    if (Name.of(whole)) |name| {
        return call(descriptor, &name.address, name.size);
    } else |_| {}
    if (sys.files.ShortName.of(whole)) |short| {
        defer short.close();
        if (Name.of(short.text())) |name| {
            return call(descriptor, &name.address, name.size);
        } else |_| {}
    }
    const name: Name = try .of(given);
    return call(descriptor, &name.address, name.size);
}
