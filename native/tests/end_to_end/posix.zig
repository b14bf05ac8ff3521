//! What the tests need of Linux, macOS and FreeBSD: windows.zig has the same names.

const std = @import("std");
const builtin = @import("builtin");
const basics = @import("basics.zig");
const sys = @import("../../platform.zig").sys;
const c = basics.c;

pub const is_linux = builtin.os.tag == .linux;

/// What makes the system's calls where the library makes none: on Linux without libc, as the library.
const raw = if (is_linux) std.os.linux else std.c;

const epoll = c.BBIPC_BACKEND_EPOLL;
const kqueue = c.BBIPC_BACKEND_KQUEUE;

pub const backends = [_]i32{ if (is_linux) epoll else kqueue, c.BBIPC_BACKEND_POLL };
pub const backends_lacking = [_]i32{ if (is_linux) kqueue else epoll, c.BBIPC_BACKEND_IOCP };

/// Local streams are Unix domain sockets.
pub const has_pipes = false;
pub const has_fork = true;
/// A stream that has had no room for this time is full. FreeBSD acknowledges late, and lets buffers grow.
pub const full_after_ns = (if (is_linux) 50 else 300) * std.time.ns_per_ms;

/// Whether TCP clients that find a backlog of 0 full wait, and the system looks again a second later. macOS lets them
/// wait too, but takes 0 for 128.
pub fn waitsForBacklog() bool {
    return is_linux;
}

/// What a local client gets that finds the backlog full. macOS and FreeBSD say what they say where nobody listens.
pub const full_backlog_error = if (is_linux) c.BBIPC_ERROR_SYSTEM else c.BBIPC_ERROR_NO_LOCAL_SERVER;

/// Another address of this machine than 127.0.0.1, if it has one from the start.
pub const second_loopback: u32 = if (is_linux) 0x7f000002 else 0x7f000001;

/// Makes the coming close of a TCP socket a reset. On Linux and macOS it is one in any case when bytes are unread.
pub fn prepareReset(descriptor: i64) !void {
    if (is_linux) return;
    const linger: extern struct { on: c_int, seconds: c_int } = .{ .on = 1, .seconds = 0 };
    const size: raw.socklen_t = @sizeOf(@TypeOf(linger));
    const option = if (builtin.os.tag == .macos) 0x1080 else raw.SO.LINGER; // SO_LINGER_SEC counts in seconds there
    _ = try checked(raw.setsockopt(@intCast(descriptor), raw.SOL.SOCKET, option, &linger, size));
}

/// Returns when the kernel knows what a stream will be told, but not the library: FreeBSD's loopback takes a moment.
pub fn awaitBehind(descriptor: i64, events: u32) !void {
    var bits: i16 = 0;
    if (events & c.BBIPC_DATA_AVAILABLE != 0) bits |= sys.POLL.IN;
    if (events & c.BBIPC_REMOTE_DISCONNECTED != 0) bits |= sys.POLLRDHUP;
    if (events & c.BBIPC_CONNECTION_SEVERED != 0) bits |= sys.POLL.HUP;
    var entry: sys.pollfd = .{ .fd = @intCast(descriptor), .events = bits, .revents = 0 };
    const end_ns = basics.monotonicNs() + basics.patience_ns;
    while (basics.monotonicNs() < end_ns) {
        const result = sys.pollNow(&entry);
        if (result >= 0 and entry.revents & bits == bits) return;
        std.Thread.yield() catch {};
    }
    return error.NeverKnown;
}

/// Whether closing a local stream with bytes unread is told to the other end as a reset, and not as an orderly end.
pub fn resetsLocal() bool {
    return is_linux;
}

/// Bytes that arrived before a reset can be read.
pub fn resetKeepsData() bool {
    return true;
}

/// Whether the end of a TCP stream shows only when the bytes before it are read.
pub fn hidesEndOfTcp() bool {
    return false;
}

/// Whether a port that only remembers connections is refused to whoever does not ask for it. FreeBSD does so too, but
/// in one of six runs in an overloaded emulator it had forgotten them by then.
pub fn guardsRememberedPorts() bool {
    return is_linux;
}

/// Whether qemu-user runs this program for another processor than it is made for. It answers for /proc/self/exe, but
/// not for the other name of that link, which tells what the kernel runs.
pub fn isEmulated() bool {
    if (!is_linux) return false;
    const program = processorOf("/proc/self/exe") orelse return false;
    const runs = processorOf("/proc/thread-self/exe") orelse return false;
    return !std.mem.eql(u8, &program, &runs);
}

/// What tells processors apart in the header of an ELF file: word size, byte order and machine.
fn processorOf(name: [*:0]const u8) ?[4]u8 {
    const opened: isize = @bitCast(raw.open(name, .{ .CLOEXEC = true }, 0));
    if (opened < 0) return null;
    const descriptor: raw.fd_t = @intCast(opened);
    defer _ = raw.close(descriptor);
    var head: [20]u8 = undefined;
    if (raw.read(descriptor, &head, head.len) != head.len) return null;
    return .{ head[4], head[5], head[18], head[19] };
}

pub fn codesOf(reason: basics.Reason) []const i32 {
    return switch (reason) {
        .full_backlog => codesOf(if (is_linux) .AGAIN else .CONNREFUSED),
        inline else => |one| &.{@backingInt(@field(raw.E, @tagName(one)))},
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
    if (!is_linux) return countDescriptors();
    const directory = try std.Io.Dir.openDirAbsolute(io, "/proc/self/fd", .{ .iterate = true });
    defer directory.close(io);
    var iterator = directory.iterate();
    var count: usize = 0;
    while (try iterator.next(io)) |_| count += 1;
    return count;
}

/// FreeBSD's /dev/fd shows only the first three of them, unless something is mounted there.
fn countDescriptors() usize {
    const descriptors_max = 4096;
    var count: usize = 0;
    for (0..descriptors_max) |descriptor| {
        count += @intFromBool(raw.fcntl(@intCast(descriptor), raw.F.GETFD) >= 0);
    }
    return count;
}

/// Lets this process have `count` descriptors: macOS gives 256 at first.
pub fn allowDescriptors(count: u32) !void {
    const limits = try std.posix.getrlimit(.NOFILE);
    if (limits.cur >= count) return;
    try std.posix.setrlimit(.NOFILE, .{ .cur = @min(count, limits.max), .max = limits.max });
}

/// This process gets no more descriptors, until `end`.
pub const NoDescriptors = struct {
    before: std.posix.rlimit,

    pub fn begin() !NoDescriptors {
        const before = try std.posix.getrlimit(.NOFILE);
        const lowest_free = try checked(raw.dup(2));
        _ = raw.close(@intCast(lowest_free));
        try std.posix.setrlimit(.NOFILE, .{ .cur = @intCast(lowest_free), .max = before.max });
        return .{ .before = before };
    }

    pub fn end(none: *const NoDescriptors) void {
        std.posix.setrlimit(.NOFILE, none.before) catch {};
    }
};

/// What the library keeps for good is made with the first wait.
pub fn warmUp() !void {
    _ = try basics.succeed(c.bbipc_prepare_to_wait(null));
}

/// How much memory this process has mapped.
pub fn mappedBytes(io: std.Io) !u64 {
    if (!is_linux) return error.SkipZigTest; // read from /proc
    var buffer: [8192]u8 = undefined;
    const text = try std.Io.Dir.cwd().readFile(io, "/proc/self/statm", &buffer);
    return try std.fmt.parseInt(u64, std.mem.sliceTo(text, ' '), 10) * std.heap.pageSize();
}

/// Nothing but what is given back to the system counts as given back.
pub const mapped_bytes_slack = 0;

// ---- Threads ----

/// This thread runs only when no other wants to, from now on.
pub fn runIdly() !void {
    if (!is_linux) return error.Unexpected; // for a test that only Linux can run
    const idle_class = 5;
    const priority: i32 = 0;
    const result = raw.syscall3(.sched_setscheduler, 0, idle_class, @intFromPtr(&priority));
    if (result != 0) return error.Unexpected;
}

/// How a thread of this process is known to the system.
pub const Thread = if (is_linux) i32 else raw.pthread_t;

pub fn currentThread() Thread {
    return if (is_linux) raw.gettid() else raw.pthread_self();
}

/// What Linux says of a thread of this process under a label.
fn statusOf(io: std.Io, thread: Thread, comptime label: []const u8, buffer: []u8) ![]const u8 {
    var name_buffer: [64]u8 = undefined;
    const name = try std.mem.print(&name_buffer, "/proc/self/task/{d}/status", .{thread});
    const text = try std.Io.Dir.cwd().readFile(io, name, buffer);
    const line = "\n" ++ label ++ ":";
    const start = (std.mem.indexOf(u8, text, line) orelse return error.NoSuchLine) + line.len;
    return std.mem.trim(u8, std.mem.sliceTo(text[start..], '\n'), " \t");
}

/// How often a thread of this process has gone to sleep of its own accord.
pub fn sleepsOf(io: std.Io, thread: Thread) !u64 {
    if (!is_linux) return error.SkipZigTest; // read from /proc
    var buffer: [8192]u8 = undefined;
    return std.fmt.parseInt(u64, try statusOf(io, thread, "voluntary_ctxt_switches", &buffer), 10);
}

/// Returns when a thread of this process sleeps in the kernel.
pub fn awaitSleep(io: std.Io, thread: Thread) !void {
    if (!is_linux) {
        // No call tells this on both macOS and FreeBSD. The thread is about to sleep, and this is a hundred times what
        // it takes.
        var nothing: [0]sys.pollfd = .{};
        const result = sys.poll(&nothing, 100 * std.time.ns_per_ms);
        return if (result == 0) {} else error.Unexpected;
    }
    const end_ns = basics.monotonicNs() + basics.patience_ns;
    var buffer: [8192]u8 = undefined;
    while (basics.monotonicNs() < end_ns) {
        if ((try statusOf(io, thread, "State", &buffer))[0] == 'S') return;
        std.Thread.yield() catch {};
    }
    return error.NeverSleeps;
}

// ---- Signals and processes ----

fn ignoreSignal(_: raw.SIG) callconv(.c) void {}

/// A signal that `signalThread` sends runs a handler that does nothing, until `end`.
pub const SignalHandling = struct {
    before: raw.Sigaction,

    pub fn begin() !SignalHandling {
        const ours: raw.Sigaction = .{
            .handler = .{ .handler = ignoreSignal },
            .mask = std.mem.zeroes(raw.sigset_t),
            .flags = 0,
        };
        var handling: SignalHandling = .{ .before = undefined };
        if (raw.sigaction(.USR1, &ours, &handling.before) != 0) return error.Unexpected;
        return handling;
    }

    pub fn end(handling: *const SignalHandling) void {
        _ = raw.sigaction(.USR1, &handling.before, null);
    }
};

pub fn signalThread(thread: Thread) !void {
    const result = if (is_linux) raw.tgkill(raw.getpid(), thread, .USR1) else raw.pthread_kill(thread, .USR1);
    if (result != 0) return error.Unexpected;
}

/// Returns twice: 0 in the child.
pub fn currentProcess() i64 {
    return raw.getpid();
}

pub fn currentUser() i64 {
    return raw.geteuid();
}

pub fn fork() !i32 {
    return @intCast(try checked(raw.fork()));
}

/// Ends a child, and none of what its parent would do at its end is done.
pub fn exitChild(code: u8) noreturn {
    if (is_linux) raw.exit_group(code) else raw._exit(code);
}

/// What the child exited with.
pub fn awaitChild(process_id: i32) !u8 {
    var status: if (is_linux) i32 else c_int = -1;
    while (true) {
        const result = checked(raw.waitpid(process_id, &status, 0)) catch continue; // a signal
        if (result == @as(usize, @intCast(process_id))) break;
    }
    const bits: u32 = @bitCast(status);
    if (!raw.W.IFEXITED(bits)) return error.KilledByASignal;
    return @intCast(raw.W.EXITSTATUS(bits));
}

// ---- Sockets behind the library's back ----

/// Returns how many bytes the system took, or less than zero.
pub fn sendBehind(descriptor: i64, data: []const u8) i64 {
    return sys.send(@intCast(descriptor), data.ptr, data.len);
}

// ---- Peers that know nothing of this library ----

/// One end of a connection. It blocks.
pub fn closeDescriptor(number: i64) void {
    _ = raw.close(@intCast(number));
}

pub const Peer = struct {
    descriptor: raw.fd_t,

    pub fn number(peer: Peer) i64 {
        return peer.descriptor;
    }

    pub fn connectTcp(port: u16) !Peer {
        const descriptor = try openSocket(raw.AF.INET);
        errdefer _ = raw.close(descriptor);
        const address = loopback(port);
        _ = try checked(raw.connect(descriptor, @ptrCast(&address), @sizeOf(raw.sockaddr.in)));
        return .{ .descriptor = descriptor };
    }

    pub fn connectLocal(name: []const u8) !Peer {
        const descriptor = try openSocket(raw.AF.UNIX);
        errdefer _ = raw.close(descriptor);
        const address = pathname(name);
        _ = try checked(raw.connect(descriptor, @ptrCast(&address), @sizeOf(raw.sockaddr.un)));
        return .{ .descriptor = descriptor };
    }

    pub fn write(peer: Peer, data: []const u8) !void {
        const result = raw.sendto(peer.descriptor, data.ptr, data.len, 0, null, 0);
        if (try checked(result) != data.len) return error.Unexpected;
    }

    /// 0 at the end.
    pub fn read(peer: Peer, buffer: []u8) !usize {
        return checked(raw.read(peer.descriptor, buffer.ptr, buffer.len));
    }

    pub fn close(peer: Peer) void {
        _ = raw.close(peer.descriptor);
    }
};

pub const Listener = struct {
    descriptor: raw.fd_t,

    pub fn number(listener: Listener) i64 {
        return listener.descriptor;
    }

    pub fn listenTcp() !Listener {
        const descriptor = try openSocket(raw.AF.INET);
        errdefer _ = raw.close(descriptor);
        const address = loopback(0);
        _ = try checked(raw.bind(descriptor, @ptrCast(&address), @sizeOf(raw.sockaddr.in)));
        _ = try checked(raw.listen(descriptor, 8));
        return .{ .descriptor = descriptor };
    }

    pub fn listenLocal(name: []const u8) !Listener {
        const descriptor = try openSocket(raw.AF.UNIX);
        errdefer _ = raw.close(descriptor);
        const address = pathname(name);
        _ = try checked(raw.bind(descriptor, @ptrCast(&address), @sizeOf(raw.sockaddr.un)));
        _ = try checked(raw.listen(descriptor, 8));
        return .{ .descriptor = descriptor };
    }

    pub fn port(listener: Listener) u16 {
        var address = loopback(0);
        var size: raw.socklen_t = @sizeOf(raw.sockaddr.in);
        const result = raw.getsockname(listener.descriptor, @ptrCast(&address), &size);
        std.debug.assert(result == 0);
        return std.mem.bigToNative(u16, address.port);
    }

    pub fn accept(listener: Listener) !Peer {
        const result = try checked(raw.accept(listener.descriptor, null, null));
        return .{ .descriptor = @intCast(result) };
    }

    pub fn close(listener: Listener) void {
        _ = raw.close(listener.descriptor);
    }
};

fn openSocket(family: u32) !raw.fd_t {
    return @intCast(try checked(raw.socket(family, raw.SOCK.STREAM, 0)));
}

/// What a call returned, if it was no error.
fn checked(result: anytype) !usize {
    const value: isize = if (@TypeOf(result) == usize) @bitCast(result) else result;
    return if (value < 0) error.Unexpected else @intCast(value);
}

fn loopback(port: u16) raw.sockaddr.in {
    return .{ .port = std.mem.nativeToBig(u16, port), .addr = std.mem.nativeToBig(u32, 0x7f000001) };
}

fn pathname(name: []const u8) raw.sockaddr.un {
    var address: raw.sockaddr.un = .{ .path = @splat(0) };
    @memcpy(address.path[0..name.len], name);
    return address;
}
