//! The files that local servers make, as macOS and FreeBSD have them.
//!
//! - fchmod(2) of a socket is refused (macOS), or does not say what mode its file gets. fchmodat(2) need not follow
//!   links.
//! - macOS's bind follows a symbolic link that leads nowhere.

const std = @import("std");
const c = std.c;
const common = @import("common.zig");

const Descriptor = c.fd_t;

fn signed(result: anytype) isize {
    return if (result >= 0) @intCast(result) else -@as(isize, c._errno().*);
}

pub const FileIdentity = struct {
    device: c.dev_t,
    inode: c.ino_t,

    pub fn eql(a: FileIdentity, b: FileIdentity) bool {
        return std.meta.eql(a, b);
    }
};

/// Only of sockets: a link that bind has followed is not ours.
pub fn identityAt(pathname: [*:0]const u8) common.Found(FileIdentity) {
    return switch (statusAt(pathname)) {
        .file => |file| if (file.kind == .socket) .{ .file = file.identity } else .nothing,
        .nothing => .nothing,
        .unknown => |e| .{ .unknown = e },
    };
}

pub const FileStatus = common.FileStatus(FileIdentity);

/// A symbolic link is itself.
pub fn statusAt(pathname: [*:0]const u8) common.Found(FileStatus) {
    var information: c.Stat = undefined;
    const result = signed(c.fstatat(c.AT.FDCWD, pathname, &information, c.AT.SYMLINK_NOFOLLOW));
    if (result < 0) return common.absent(FileStatus, result);
    return .{ .file = statusFrom(&information) };
}

pub fn statusOf(fd: Descriptor) common.Found(FileStatus) {
    var information: c.Stat = undefined;
    const result = signed(c.fstat(fd, &information));
    return if (result < 0) common.absent(FileStatus, result) else .{ .file = statusFrom(&information) };
}

fn statusFrom(information: *const c.Stat) FileStatus {
    const mode = information.mode;
    return .{
        .identity = .{ .device = information.dev, .inode = information.ino },
        .kind = if (c.S.ISSOCK(mode)) .socket else if (c.S.ISREG(mode)) .regular else .other,
        .user = information.uid,
        .mode = mode & common.mode_max,
    };
}

pub fn unlink(pathname: [*:0]const u8) isize {
    return signed(c.unlink(pathname));
}

/// Fails where something is at the new name.
pub fn link(old: [*:0]const u8, new: [*:0]const u8) isize {
    return signed(c.link(old, new));
}

pub fn rename(old: [*:0]const u8, new: [*:0]const u8) isize {
    return signed(c.rename(old, new));
}

pub fn workingDirectory(buffer: []u8) ?[]u8 {
    _ = c.getcwd(buffer.ptr, buffer.len) orelse return null;
    const name = std.mem.sliceTo(buffer, 0);
    return if (name.len > 0 and name[0] == '/') name else null;
}

/// Who a file belongs to that this process makes.
pub fn user() u32 {
    return c.geteuid();
}

// ---- Permissions ----

/// Only the file itself has them here.
pub fn presetMode(_: Descriptor, _: u32) void {}

/// Of this very file, a socket: whoever can write to the directory may have put another in its place. There is no way
/// to hold on to a file that can't be opened, so it is looked at before and after.
pub fn setMode(pathname: [*:0]const u8, identity: FileIdentity, mode: u32) isize {
    if (!isThere(pathname, identity)) return common.resultOf(.NOENT);
    const result = signed(c.fchmodat(c.AT.FDCWD, pathname, @intCast(mode), c.AT.SYMLINK_NOFOLLOW));
    if (result < 0) return result;
    return if (isThere(pathname, identity)) 0 else common.resultOf(.NOENT);
}

fn isThere(pathname: [*:0]const u8, identity: FileIdentity) bool {
    return switch (identityAt(pathname)) {
        .file => |there| there.eql(identity),
        .nothing, .unknown => false,
    };
}

/// These systems have no other names for what is open.
pub const ShortName = struct {
    pub fn of(_: [:0]const u8) ?ShortName {
        return null;
    }

    pub fn text(_: *const ShortName) []const u8 {
        unreachable;
    }

    pub fn close(_: *const ShortName) void {}
};

// ---- The lock ----

/// Never waits, whatever is there, and follows no link.
pub fn openLock(pathname: [*:0]const u8) isize {
    const flags: c.O = .{
        .ACCMODE = .RDWR,
        .CREAT = true,
        .NOFOLLOW = true,
        .CLOEXEC = true,
        .NONBLOCK = true,
        .NOCTTY = true,
    };
    return signed(c.open(pathname, flags, @as(c_uint, 0o600)));
}

/// Without waiting: EAGAIN if another has it.
pub fn lock(fd: Descriptor) isize {
    return signed(c.flock(fd, common.LOCK.EX | common.LOCK.NB));
}

/// For all who have inherited the descriptor.
pub fn unlock(fd: Descriptor) void {
    _ = c.flock(fd, common.LOCK.UN);
}
