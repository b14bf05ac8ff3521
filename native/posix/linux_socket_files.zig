//! The files that local servers make, as Linux has them.
//!
//! - fstat(2) of a socket's descriptor tells nothing of its file, and fchmod(2) does not change it. But bind(2) gives
//!   the file the mode that fchmod has set before, without what the umask takes away (unix_bind_bsd).
//! - chmod(2) follows links. fchmodat2(2), Linux 6.6, need not; before that there is only the name that /proc has for a
//!   descriptor.

const std = @import("std");
const builtin = @import("builtin");
const linux = std.os.linux;
const common = @import("common.zig");

const Descriptor = linux.fd_t;

fn signed(result: usize) isize {
    return @bitCast(result);
}

pub const FileIdentity = struct {
    /// As stat(2) has it.
    device: u64,
    inode: u64,

    pub fn eql(a: FileIdentity, b: FileIdentity) bool {
        return std.meta.eql(a, b);
    }
};

/// A symbolic link is itself.
pub fn identityAt(pathname: [*:0]const u8) common.Found(FileIdentity) {
    return switch (statusAt(pathname)) {
        .file => |file| .{ .file = file.identity },
        .nothing => .nothing,
        // Kernels before 4.11 don't have statx, and the sandboxes of some programs forbid it.
        .unknown => olderIdentityAt(pathname),
    };
}

pub const FileStatus = common.FileStatus(FileIdentity);

/// The same, with what kind of file it is and whose.
pub fn statusAt(pathname: [*:0]const u8) common.Found(FileStatus) {
    return statusBy(linux.AT.FDCWD, pathname, linux.AT.SYMLINK_NOFOLLOW);
}

pub fn statusOf(fd: Descriptor) common.Found(FileStatus) {
    return statusBy(fd, "", linux.AT.EMPTY_PATH);
}

fn statusBy(directory: Descriptor, pathname: [*:0]const u8, flags: u32) common.Found(FileStatus) {
    var information: linux.Statx = undefined;
    const asked: linux.STATX = .{ .TYPE = true, .MODE = true, .UID = true, .INO = true };
    const result = signed(linux.statx(directory, pathname, flags | linux.AT.STATX_DONT_SYNC, asked, &information));
    if (result < 0) return common.absent(FileStatus, result);
    return .{ .file = .{
        .identity = .{
            .device = numberOfDevice(information.dev_major, information.dev_minor),
            .inode = information.ino,
        },
        .kind = switch (information.mode & linux.S.IFMT) {
            linux.S.IFSOCK => .socket,
            linux.S.IFREG => .regular,
            else => .other,
        },
        .user = information.uid,
        .mode = information.mode & common.mode_max,
    } };
}

/// The kernel's new_encode_dev.
fn numberOfDevice(major: u32, minor: u32) u64 {
    return (minor & 0xff) | (@as(u64, major) << 8) | (@as(u64, minor & ~@as(u32, 0xff)) << 12);
}

/// Where the older call puts the numbers of the file and of its device: in the kernel's <asm/stat.h>, struct stat with
/// 64-bit words, else stat64.
const older_stat = struct {
    const number: linux.SYS = if (@hasField(linux.SYS, "newfstatat")) .newfstatat else .fstatat64;
    const device_at = 0;
    const inode_at = if (@sizeOf(usize) == 8) 8 else switch (builtin.cpu.arch) {
        .x86 => 88,
        .arm => 96,
        else => @compileError("look it up"),
    };
    /// More than the structure has on any processor.
    const size = 256;
};

fn olderIdentityAt(pathname: [*:0]const u8) common.Found(FileIdentity) {
    var information: [older_stat.size]u8 align(8) = undefined;
    const directory: usize = @bitCast(@as(isize, linux.AT.FDCWD));
    const result = signed(linux.syscall4(
        older_stat.number,
        directory,
        @intFromPtr(pathname),
        @intFromPtr(&information),
        linux.AT.SYMLINK_NOFOLLOW,
    ));
    if (result < 0) return common.absent(FileIdentity, result);
    return .{ .file = .{
        .device = std.mem.readInt(u64, information[older_stat.device_at..][0..8], builtin.cpu.arch.endian()),
        .inode = std.mem.readInt(u64, information[older_stat.inode_at..][0..8], builtin.cpu.arch.endian()),
    } };
}

test "the older call tells the same of a file" {
    for ([_][*:0]const u8{ "/", "/proc", "/dev/null", "/proc/self/exe", "/nowhere", "/dev/null/nowhere" }) |pathname| {
        try std.testing.expectEqual(identityAt(pathname), olderIdentityAt(pathname));
    }
}

pub fn unlink(pathname: [*:0]const u8) isize {
    return signed(linux.unlink(pathname));
}

/// Fails where something is at the new name.
pub fn link(old: [*:0]const u8, new: [*:0]const u8) isize {
    return signed(linux.link(old, new));
}

pub fn rename(old: [*:0]const u8, new: [*:0]const u8) isize {
    return signed(linux.rename(old, new));
}

pub fn workingDirectory(buffer: []u8) ?[]u8 {
    const result = signed(linux.getcwd(buffer.ptr, buffer.len));
    if (result <= 1 or buffer[0] != '/') return null;
    return buffer[0..@intCast(result - 1)];
}

/// Who a file belongs to that this process makes.
pub fn user() u32 {
    return linux.geteuid();
}

// ---- Permissions ----

/// What the file of a socket will have, but for what the umask takes away. Where it is refused, `setMode` does all.
pub fn presetMode(socket: Descriptor, mode: u32) void {
    _ = linux.fchmod(socket, mode);
}

/// Of this very file, a socket: whoever can write to the directory may have put another in its place.
pub fn setMode(pathname: [*:0]const u8, identity: FileIdentity, mode: u32) isize {
    const opened = signed(linux.open(pathname, .{ .PATH = true, .NOFOLLOW = true, .CLOEXEC = true }, 0));
    if (opened < 0) return opened;
    const fd: Descriptor = @intCast(opened);
    defer _ = linux.close(fd);
    const file = switch (statusOf(fd)) {
        .file => |file| file,
        .nothing => return common.resultOf(.NOENT),
        .unknown => |e| return common.resultOf(e),
    };
    if (file.kind != .socket or !file.identity.eql(identity)) return common.resultOf(.NOENT);
    if (file.mode == mode) return 0;
    if (signed(linux.fchmodat2(fd, "", mode, linux.AT.EMPTY_PATH)) >= 0) return 0;
    var buffer: [open_name_max]u8 = undefined;
    return signed(linux.chmod(openName(&buffer, fd, ""), mode));
}

// ---- Names of what is open ----

const open_name_max = 512;

/// The name of a file in a directory that is open, or that of the descriptor itself.
fn openName(buffer: *[open_name_max]u8, fd: Descriptor, rest: []const u8) [:0]const u8 {
    return std.mem.printSentinel(buffer, "/proc/self/fd/{d}{s}", .{ fd, rest }, 0) catch unreachable;
}

/// Another name for a file whose own is too long for a socket, good for as long as the directory is open. The file need
/// not be there.
pub const ShortName = struct {
    directory: Descriptor,
    buffer: [open_name_max]u8,
    length: usize,

    /// Null if there can't be one.
    pub fn of(pathname: [:0]const u8) ?ShortName {
        const slash = std.mem.findScalarLast(u8, pathname, '/') orelse return null;
        if (pathname.len - slash > 256) return null;
        var directory: [4096]u8 = undefined;
        if (slash + 1 >= directory.len) return null;
        @memcpy(directory[0 .. slash + 1], pathname[0 .. slash + 1]);
        directory[slash + 1] = 0;
        const flags: linux.O = .{ .PATH = true, .DIRECTORY = true, .CLOEXEC = true };
        const opened = signed(linux.open(directory[0 .. slash + 1 :0], flags, 0));
        if (opened < 0) return null;
        var self: ShortName = .{ .directory = @intCast(opened), .buffer = undefined, .length = 0 };
        self.length = openName(&self.buffer, self.directory, pathname[slash..]).len;
        return self;
    }

    pub fn text(self: *const ShortName) []const u8 {
        return self.buffer[0..self.length];
    }

    pub fn close(self: *const ShortName) void {
        _ = linux.close(self.directory);
    }
};

// ---- The lock ----

/// Never waits, whatever is there, and follows no link.
pub fn openLock(pathname: [*:0]const u8) isize {
    const flags: linux.O = .{
        .ACCMODE = .RDWR,
        .CREAT = true,
        .NOFOLLOW = true,
        .CLOEXEC = true,
        .NONBLOCK = true,
        .NOCTTY = true,
    };
    return signed(linux.open(pathname, flags, 0o600));
}

/// Without waiting: EAGAIN if another has it.
pub fn lock(fd: Descriptor) isize {
    return signed(linux.flock(fd, common.LOCK.EX | common.LOCK.NB));
}

/// For all who have inherited the descriptor.
pub fn unlock(fd: Descriptor) void {
    _ = linux.flock(fd, common.LOCK.UN);
}
