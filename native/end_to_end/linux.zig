//! What the tests need of Linux: windows.zig has the same names.

const std = @import("std");
const support = @import("support.zig");
const sys = @import("../platform.zig").sys;
const linux = std.os.linux;
const c = support.c;

pub const backends = [_]i32{ c.BBIPC_BACKEND_EPOLL, c.BBIPC_BACKEND_POLL };
pub const backends_lacking = [_]i32{ c.BBIPC_BACKEND_IOCP, c.BBIPC_BACKEND_KQUEUE };

/// Local streams are Unix domain sockets.
pub const has_pipes = false;
pub const has_fork = true;
/// A client that finds the backlog full waits, and the system looks again a second later.
pub fn waitsForBacklog() bool {
    return true;
}

/// Bytes that arrived before a reset can be read.
pub fn resetKeepsData() bool {
    return true;
}

/// Whether the end of a TCP stream shows only when the bytes before it are read.
pub fn hidesEndOfTcp() bool {
    return false;
}

/// Whether a port that only remembers connections is refused to whoever does not ask for it.
pub fn guardsRememberedPorts() bool {
    return true;
}

pub fn codesOf(reason: support.Reason) []const i32 {
    return switch (reason) {
        inline else => |one| &.{@backingInt(@field(linux.E, @tagName(one)))},
    };
}

// ---- Names ----

pub const separator = '/';

/// Makes room for names of this run's own, in a directory that is short enough for them.
pub fn makePlace(io: std.Io, buffer: []u8) ![]const u8 {
    var random: u64 = 0;
    io.random(std.mem.asBytes(&random));
    const name = try std.mem.print(buffer, "/tmp/bbipc-{x:0>16}", .{random});
    try std.Io.Dir.createDirAbsolute(io, name, .default_dir);
    return name;
}

pub fn removePlace(io: std.Io, name: []const u8) void {
    std.Io.Dir.cwd().deleteTree(io, name) catch {};
}

pub fn nameExists(io: std.Io, name: []const u8) bool {
    std.Io.Dir.accessAbsolute(io, name, .{}) catch return false;
    return true;
}

// ---- What this process has ----

/// How many descriptors this process has open.
pub fn openDescriptors(io: std.Io) !usize {
    const directory = try std.Io.Dir.openDirAbsolute(io, "/proc/self/fd", .{ .iterate = true });
    defer directory.close(io);
    var iterator = directory.iterate();
    var count: usize = 0;
    while (try iterator.next(io)) |_| count += 1;
    return count;
}

/// What the library keeps for good is made with the first wait.
pub fn warmUp() !void {
    _ = try support.succeed(c.bbipc_prepare_to_wait(null));
}

/// How much memory this process has mapped.
pub fn mappedBytes(io: std.Io) !u64 {
    var buffer: [8192]u8 = undefined;
    const text = try std.Io.Dir.cwd().readFile(io, "/proc/self/statm", &buffer);
    return try std.fmt.parseInt(u64, std.mem.sliceTo(text, ' '), 10) * std.heap.pageSize();
}

/// Nothing but what is given back to the system counts as given back.
pub const mapped_bytes_slack = 0;

// ---- Threads ----

/// This thread runs only when no other wants to, from now on.
pub fn runIdly() !void {
    const idle_class = 5;
    const priority: i32 = 0;
    const result = linux.syscall3(.sched_setscheduler, 0, idle_class, @intFromPtr(&priority));
    if (result != 0) return error.Unexpected;
}

/// What Linux says of a thread of this process under a label.
fn statusOf(io: std.Io, thread_id: i32, comptime label: []const u8, buffer: []u8) ![]const u8 {
    var name_buffer: [64]u8 = undefined;
    const name = try std.mem.print(&name_buffer, "/proc/self/task/{d}/status", .{thread_id});
    const text = try std.Io.Dir.cwd().readFile(io, name, buffer);
    const line = "\n" ++ label ++ ":";
    const start = (std.mem.indexOf(u8, text, line) orelse return error.NoSuchLine) + line.len;
    return std.mem.trim(u8, std.mem.sliceTo(text[start..], '\n'), " \t");
}

/// How often a thread of this process has gone to sleep of its own accord.
pub fn sleepsOf(io: std.Io, thread_id: i32) !u64 {
    var buffer: [8192]u8 = undefined;
    return std.fmt.parseInt(u64, try statusOf(io, thread_id, "voluntary_ctxt_switches", &buffer), 10);
}

/// Returns when a thread of this process sleeps in the kernel.
pub fn awaitSleep(io: std.Io, thread_id: i32) !void {
    const end_ns = support.monotonicNs() + support.patience_ns;
    var buffer: [8192]u8 = undefined;
    while (support.monotonicNs() < end_ns) {
        if ((try statusOf(io, thread_id, "State", &buffer))[0] == 'S') return;
        std.Thread.yield() catch {};
    }
    return error.NeverSleeps;
}

// ---- Sockets behind the library's back ----

/// Returns how many bytes the system took, or less than zero.
pub fn sendBehind(descriptor: i64, data: []const u8) i64 {
    return sys.send(@intCast(descriptor), data.ptr, data.len);
}

// ---- Peers that know nothing of this library ----

/// One end of a connection. It blocks.
pub const Peer = struct {
    descriptor: linux.fd_t,

    pub fn connectTcp(port: u16) !Peer {
        const descriptor = try openSocket(linux.AF.INET);
        errdefer _ = linux.close(descriptor);
        const address = loopback(port);
        _ = try checked(linux.connect(descriptor, &address, @sizeOf(linux.sockaddr.in)));
        return .{ .descriptor = descriptor };
    }

    pub fn connectLocal(name: []const u8) !Peer {
        const descriptor = try openSocket(linux.AF.UNIX);
        errdefer _ = linux.close(descriptor);
        const address = pathname(name);
        _ = try checked(linux.connect(descriptor, &address, @sizeOf(linux.sockaddr.un)));
        return .{ .descriptor = descriptor };
    }

    pub fn write(peer: Peer, data: []const u8) !void {
        const result = linux.sendto(peer.descriptor, data.ptr, data.len, linux.MSG.NOSIGNAL, null, 0);
        if (try checked(result) != data.len) return error.Unexpected;
    }

    /// 0 at the end.
    pub fn read(peer: Peer, buffer: []u8) !usize {
        return checked(linux.read(peer.descriptor, buffer.ptr, buffer.len));
    }

    pub fn close(peer: Peer) void {
        _ = linux.close(peer.descriptor);
    }
};

pub const Listener = struct {
    descriptor: linux.fd_t,

    pub fn listenTcp() !Listener {
        const descriptor = try openSocket(linux.AF.INET);
        errdefer _ = linux.close(descriptor);
        const address = loopback(0);
        _ = try checked(linux.bind(descriptor, @ptrCast(&address), @sizeOf(linux.sockaddr.in)));
        _ = try checked(linux.listen(descriptor, 8));
        return .{ .descriptor = descriptor };
    }

    pub fn listenLocal(name: []const u8) !Listener {
        const descriptor = try openSocket(linux.AF.UNIX);
        errdefer _ = linux.close(descriptor);
        const address = pathname(name);
        _ = try checked(linux.bind(descriptor, @ptrCast(&address), @sizeOf(linux.sockaddr.un)));
        _ = try checked(linux.listen(descriptor, 8));
        return .{ .descriptor = descriptor };
    }

    pub fn port(listener: Listener) u16 {
        var address = loopback(0);
        var size: linux.socklen_t = @sizeOf(linux.sockaddr.in);
        const result = linux.getsockname(listener.descriptor, @ptrCast(&address), &size);
        std.debug.assert(result == 0);
        return std.mem.bigToNative(u16, address.port);
    }

    pub fn accept(listener: Listener) !Peer {
        const result = try checked(linux.accept4(listener.descriptor, null, null, linux.SOCK.CLOEXEC));
        return .{ .descriptor = @intCast(result) };
    }

    pub fn close(listener: Listener) void {
        _ = linux.close(listener.descriptor);
    }
};

fn openSocket(family: u32) !linux.fd_t {
    return @intCast(try checked(linux.socket(family, linux.SOCK.STREAM | linux.SOCK.CLOEXEC, 0)));
}

fn checked(result: usize) !usize {
    return if (linux.errno(result) == .SUCCESS) result else error.Unexpected;
}

fn loopback(port: u16) linux.sockaddr.in {
    return .{ .port = std.mem.nativeToBig(u16, port), .addr = std.mem.nativeToBig(u32, 0x7f000001) };
}

fn pathname(name: []const u8) linux.sockaddr.un {
    var address: linux.sockaddr.un = .{ .path = @splat(0) };
    @memcpy(address.path[0..name.len], name);
    return address;
}
