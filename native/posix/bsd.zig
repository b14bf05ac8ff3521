//! The part of sys.zig for macOS and FreeBSD, through their libc: their system calls are no stable interface.
//!
//! Where they differ from Linux, and from one another (their manual pages; XNU's and FreeBSD's sources):
//!
//! - macOS has no accept4, no SOCK_CLOEXEC and no SOCK_NONBLOCK: a process that another thread starts in that very
//!   moment inherits the descriptor.
//! - macOS has no MSG_NOSIGNAL that its oldest supported version knows: SO_NOSIGPIPE, which accepted sockets inherit.
//!   Its send does not know MSG_DONTWAIT either: there only O_NONBLOCK keeps a write from blocking.
//! - poll is good for a look, but not for a wait: see kqueue_poll.zig. macOS's POLLHUP means either direction; macOS
//!   takes a kqueue for closed if it is asked for more than POLLIN; and a signal's handler may end a look, for that is
//!   the wait of a kqueue whose deadline has passed.
//! - A kqueue is not inherited by fork(): in the child its number means nothing, or another file.
//! - A connection that was reset before accept took it is ECONNABORTED, or on macOS an address of no size, or a socket
//!   that fcntl refuses (EINVAL).
//! - Closing a TCP socket with bytes unread does not reset the connection on FreeBSD, but does on Linux and on macOS
//!   (tcp_disconnect). A local connection is reset on neither macOS nor FreeBSD.
//! - A local server's full backlog is ECONNREFUSED, as if nobody listened. With TCP, macOS drops the request, as Linux
//!   does, and the client asks again; FreeBSD lets the client in and resets it a moment later.
//! - While a thread is inside recv, another thread's recv with MSG_DONTWAIT is EWOULDBLOCK, even if bytes are unread
//!   (XNU's sblock, FreeBSD's SOCK_IO_RECV_LOCK). It does not mean that nothing is there.
//! - A send may fail for want of memory (ENOBUFS), which passes like a full buffer; and on macOS 11 with EPROTOTYPE in
//!   the moment in which the connection breaks. Later ones say ECONNRESET for that (tcp_usr_send), as libuv does for
//!   EPROTOTYPE.

const std = @import("std");
const builtin = @import("builtin");
const c = std.c;
const common = @import("common.zig");
const Credentials = @import("../base/credentials.zig").Credentials;
const rules = @import("bsd_rules.zig");
pub const files = @import("bsd_socket_files.zig");

const is_macos = builtin.os.tag == .macos;

pub const Descriptor = c.fd_t;
pub const AF = c.AF;
pub const SOCK = c.SOCK;
pub const SOL = c.SOL;
pub const SO = c.SO;
pub const IPPROTO = c.IPPROTO;
pub const TCP = c.TCP;
/// netinet6/in6.h, of both systems; Zig has none.
pub const IPV6 = struct {
    pub const V6ONLY = 27;
};
pub const sockaddr = c.sockaddr;
pub const socklen_t = c.socklen_t;
pub const pollfd = c.pollfd;
pub const POLL = c.POLL;

pub const has_kqueue = true;

/// libc's, which knows of forks itself.
pub const has_allocator = true;
pub const allocator = std.heap.c_allocator;
pub fn lockAllocator() void {}
pub fn unlockAllocator() void {}

/// FreeBSD's poll.h has it (13.1 and later), Zig's POLL has not. On macOS it is ours: see `poll`.
pub const POLLRDHUP = rules.rdhup;

/// What FreeBSD takes for a timeout at the most is 100,000,000 seconds; whoever waits longer waits again.
const timeout_seconds_max = 100_000_000;

// The kernels' own headers: if Zig's declarations drift from them, this must not compile.
comptime {
    std.debug.assert(@sizeOf(sockaddr.in) == 16);
    std.debug.assert(@offsetOf(sockaddr.in, "len") == 0);
    std.debug.assert(@offsetOf(sockaddr.in, "port") == 2);
    std.debug.assert(@sizeOf(sockaddr.in6) == 28);
    std.debug.assert(@offsetOf(sockaddr.in6, "len") == 0);
    std.debug.assert(@offsetOf(sockaddr.in6, "port") == 2);
    std.debug.assert(@offsetOf(sockaddr.in6, "addr") == 8);
    std.debug.assert(@offsetOf(sockaddr.in6, "scope_id") == 24);
    std.debug.assert(@sizeOf(sockaddr.un) == 106);
    std.debug.assert(@offsetOf(sockaddr.un, "len") == 0);
    std.debug.assert(@offsetOf(sockaddr.un, "path") == 2);
    std.debug.assert(@sizeOf(pollfd) == 8);
    std.debug.assert(SOL.SOCKET == 0xffff);
    std.debug.assert(SO.ERROR == 0x1007);
    std.debug.assert(SO.REUSEADDR == 0x4);
    std.debug.assert(AF.UNIX == 1);
    std.debug.assert(AF.INET == 2);
    std.debug.assert(AF.INET6 == if (is_macos) 30 else 28);
    std.debug.assert(IPPROTO.TCP == 6);
    std.debug.assert(IPPROTO.IPV6 == 41);
    std.debug.assert(TCP.NODELAY == 1);
    std.debug.assert(POLL.IN == 1);
    std.debug.assert(POLL.OUT == 4);
    std.debug.assert(POLL.HUP == rules.hup);
    std.debug.assert(POLL.IN == rules.in);
    std.debug.assert(POLL.OUT == rules.out);
    std.debug.assert(POLL.ERR == rules.err);
    std.debug.assert(POLL.NVAL == rules.nval);
    std.debug.assert(c.MSG.PEEK == 2);
    std.debug.assert(c.MSG.DONTWAIT == 0x80);
    std.debug.assert(common.codeOf(.AGAIN) == 35);
    std.debug.assert(common.codeOf(.INPROGRESS) == 36);
    std.debug.assert(common.codeOf(.CONNREFUSED) == 61);
    if (is_macos) {
        std.debug.assert(SO.NOSIGPIPE == 0x1022);
        std.debug.assert(@sizeOf(c.Stat) == 144);
    } else {
        std.debug.assert(c.MSG.NOSIGNAL == 0x20000);
        std.debug.assert(c.SOCK.CLOEXEC == 0x10000000);
        std.debug.assert(c.SOCK.NONBLOCK == 0x20000000);
        std.debug.assert(@sizeOf(c.Stat) == 224);
    }
}

/// The form that sys.zig promises.
fn signed(result: anytype) isize {
    return if (result >= 0) @intCast(result) else -@as(isize, c._errno().*);
}

// ---- Sockets ----

pub fn streamSocket(family: u32) isize {
    if (!is_macos) return signed(c.socket(family, c.SOCK.STREAM | c.SOCK.CLOEXEC | c.SOCK.NONBLOCK, 0));
    const result = signed(c.socket(family, c.SOCK.STREAM, 0));
    return if (result < 0) result else prepared(@intCast(result));
}

/// macOS: gives a new socket what it could not be made with.
fn prepared(fd: Descriptor) isize {
    for ([_]isize{ closeOnExec(fd), setStatusFlags(fd, nonblocking) }) |result| {
        if (result >= 0) continue;
        close(fd);
        return result;
    }
    // Refused only where the peer has gone already (EINVAL), and accepted sockets have it from their server.
    _ = setOption(fd, SOL.SOCKET, SO.NOSIGPIPE, 1);
    return fd;
}

pub const nonblocking: usize = @as(u32, @bitCast(c.O{ .NONBLOCK = true }));

pub fn statusFlags(fd: Descriptor) isize {
    return signed(c.fcntl(fd, c.F.GETFL));
}

pub fn setStatusFlags(fd: Descriptor, flags: usize) isize {
    return signed(c.fcntl(fd, c.F.SETFL, @as(c_int, @intCast(flags))));
}

fn closeOnExec(fd: Descriptor) isize {
    return signed(c.fcntl(fd, c.F.SETFD, @as(c_int, c.FD_CLOEXEC)));
}

pub fn bind(fd: Descriptor, address: *const anyopaque, size: socklen_t) isize {
    return signed(c.bind(fd, @ptrCast(@alignCast(address)), size));
}

pub fn listen(fd: Descriptor, backlog: i32) isize {
    return signed(c.listen(fd, @intCast(backlog)));
}

pub fn connect(fd: Descriptor, address: *const anyopaque, size: socklen_t) isize {
    return signed(c.connect(fd, @ptrCast(@alignCast(address)), size));
}

pub fn accept(fd: Descriptor, address: ?*sockaddr, size: ?*socklen_t) isize {
    const result = signed(if (is_macos)
        c.accept(fd, address, size)
    else
        c.accept4(fd, address, size, c.SOCK.CLOEXEC | c.SOCK.NONBLOCK));
    if (result < 0) return result;
    if (size) |one| if (one.* == 0) {
        close(@intCast(result));
        return common.resultOf(.CONNABORTED);
    };
    if (!is_macos) return result;
    const accepted = prepared(@intCast(result));
    return if (accepted == common.resultOf(.INVAL)) common.resultOf(.CONNABORTED) else accepted;
}

pub fn clientVanished(e: common.E) bool {
    return switch (e) {
        .INTR, .CONNABORTED, .PROTO, .NETDOWN, .HOSTDOWN, .HOSTUNREACH, .NETUNREACH => true,
        else => false,
    };
}

pub fn nobodyListens(e: common.E) bool {
    return switch (e) {
        // The last is a file that is no socket.
        .NOENT, .CONNREFUSED, .NOTDIR, .NOTSOCK => true,
        else => false,
    };
}

/// Linux alone has a way to.
pub fn choosePortLate(_: Descriptor) void {}

pub fn localName(fd: Descriptor, address: *sockaddr, size: *socklen_t) isize {
    return signed(c.getsockname(fd, address, size));
}

pub fn remoteName(fd: Descriptor, address: *sockaddr, size: *socklen_t) isize {
    return signed(c.getpeername(fd, address, size));
}

pub fn localPair(pair: *[2]Descriptor) isize {
    const flags: u32 = if (is_macos) 0 else c.SOCK.CLOEXEC | c.SOCK.NONBLOCK;
    const result = signed(c.socketpair(AF.UNIX, c.SOCK.STREAM | flags, 0, pair));
    if (result < 0 or !is_macos) return result;
    const first = prepared(pair[0]);
    const second = if (first < 0) first else prepared(pair[1]);
    if (second >= 0) return 0;
    // What could not be prepared is closed already.
    close(pair[if (first < 0) 1 else 0]);
    return second;
}

/// MSG_DONTWAIT keeps each call from blocking, so O_NONBLOCK is left to those who share the description. But not on
/// macOS, whose send does not know that flag.
pub fn takeOver(fd: Descriptor) isize {
    const closes = closeOnExec(fd);
    if (closes < 0 or !is_macos) return closes;
    const flags = statusFlags(fd);
    if (flags < 0) return flags;
    const blocks_never = setStatusFlags(fd, @as(usize, @intCast(flags)) | nonblocking);
    if (blocks_never < 0) return blocks_never;
    // Refused only where the peer has gone already.
    _ = setOption(fd, SOL.SOCKET, SO.NOSIGPIPE, 1);
    return 0;
}

pub fn duplicate(fd: Descriptor, lowest: c_int) isize {
    return signed(c.fcntl(fd, c.F.DUPFD_CLOEXEC, lowest));
}

pub fn receive(fd: Descriptor, buffer: [*]u8, size: usize, peek: bool) isize {
    const flags: u32 = c.MSG.DONTWAIT | (if (peek) @as(u32, c.MSG.PEEK) else 0);
    return signed(c.recvfrom(fd, buffer, size, flags, null, null));
}

/// FIONREAD: both kernels answer it while another thread is inside recv, and count bytes behind urgent data too.
pub fn countUnread(fd: Descriptor) usize {
    const count_unread = 0x4004667f;
    var count: c_int = 0;
    return if (c.ioctl(fd, count_unread, &count) < 0) 0 else @intCast(@max(0, count));
}

pub fn send(fd: Descriptor, data: [*]const u8, size: usize) isize {
    const flags: u32 = if (is_macos) 0 else c.MSG.DONTWAIT | c.MSG.NOSIGNAL;
    const result = signed(c.sendto(fd, data, size, flags, null, 0));
    if (result == common.resultOf(.NOBUFS)) return common.resultOf(.AGAIN);
    return if (is_macos and result == common.resultOf(.PROTOTYPE)) common.resultOf(.CONNRESET) else result;
}

pub fn shutdownWriting(fd: Descriptor) isize {
    return signed(c.shutdown(fd, c.SHUT.WR));
}

pub fn setOption(fd: Descriptor, level: i32, option: u32, value: c_int) isize {
    return signed(c.setsockopt(fd, level, option, std.mem.asBytes(&value), @sizeOf(c_int)));
}

/// The close of a TCP socket gives up what is under way, and resets the connection (setsockopt(2)). The unit of macOS's
/// lingering does not matter to 0.
pub fn resetOnClose(fd: Descriptor) void {
    const linger: extern struct { on: c_int, seconds: c_int } = .{ .on = 1, .seconds = 0 };
    _ = c.setsockopt(fd, SOL.SOCKET, SO.LINGER, std.mem.asBytes(&linger), @sizeOf(@TypeOf(linger)));
}

pub fn getOption(fd: Descriptor, level: i32, option: u32, value: *c_int) isize {
    var size: socklen_t = @sizeOf(c_int);
    return signed(c.getsockopt(fd, level, option, std.mem.asBytes(value), &size));
}

/// 1 for a socket that listens, 0 for another. XNU's headers have SO_ACCEPTCONN too, but its getsockopt does not know
/// it (sogetoptlock): there the option is read from what the kernel tells of descriptors (sys/proc_info.h).
pub fn isListening(fd: Descriptor) isize {
    if (!is_macos) {
        var value: c_int = 0;
        const result = getOption(fd, SOL.SOCKET, SO.ACCEPTCONN, &value);
        return if (result < 0) result else @intFromBool(value != 0);
    }
    const socket_information = 3; // PROC_PIDFDSOCKETINFO
    var told: SocketInformation = undefined;
    const size = proc_pidfdinfo(c.getpid(), fd, socket_information, &told, @sizeOf(SocketInformation));
    // 0 where it fails.
    if (size < @sizeOf(SocketInformation)) return signed(@as(c_int, -1));
    return @intFromBool(@as(u16, @bitCast(told.options)) & SO.ACCEPTCONN != 0);
}

/// struct socket_fdinfo, of which the options alone matter here (soi_options).
const SocketInformation = extern struct {
    before: [188]u8 align(8),
    options: c_short,
    after: [602]u8,

    comptime {
        std.debug.assert(@sizeOf(SocketInformation) == 792);
        std.debug.assert(SO.ACCEPTCONN == 0x2);
    }
};

/// libproc.h; it is in libSystem.
extern "c" fn proc_pidfdinfo(process: c_int, fd: c_int, what: c_int, buffer: *anyopaque, size: c_int) c_int;

/// LOCAL_PEERCRED (sys/ucred.h): who connected, or called listen. FreeBSD 13 and later tell the process with it, macOS
/// by another option, as long as the remote end is there.
pub fn peerCredentials(fd: Descriptor, credentials: *Credentials) isize {
    const Told = extern struct {
        version: c_uint,
        user: u32,
        groups_count: c_short,
        groups: [16]u32,
        process: if (is_macos) void else extern union { pointer: ?*anyopaque, number: c.pid_t },
    };
    comptime std.debug.assert(@offsetOf(Told, "groups") == 12);
    const level = 0; // SOL_LOCAL
    const peer_credentials = 1;
    const peer_process = 2;
    var told: Told = undefined;
    var size: socklen_t = if (is_macos) 76 else @sizeOf(Told);
    const result = signed(c.getsockopt(fd, level, peer_credentials, &told, &size));
    credentials.* = .{};
    if (result >= 0) {
        credentials.user = Credentials.idOf(told.user);
        if (told.groups_count > 0) credentials.group = Credentials.idOf(told.groups[0]);
    } else {
        // macOS notes them where a server is connected to, and not of a pair (unp_connect2).
        const is_pair = is_macos and result == common.resultOf(.NOTCONN);
        if (!is_pair) return result;
    }
    if (!is_macos) {
        if (size == @sizeOf(Told)) credentials.process = Credentials.processOf(told.process.number);
        return 0;
    }
    var process: c.pid_t = 0;
    size = @sizeOf(c.pid_t);
    if (c.getsockopt(fd, level, peer_process, &process, &size) >= 0)
        credentials.process = Credentials.processOf(process);
    return 0;
}

/// The kernel frees the number even where it reports an error (close(2)), so there is nothing to repeat.
pub fn close(fd: Descriptor) void {
    _ = c.close(fd);
}

// ---- Waiting ----

/// kqueue(2).
pub const kevents = struct {
    pub const filter_user = if (is_macos) -10 else -11;
    pub const note_nseconds = if (is_macos) 0x4 else 0x8;
    pub const size = if (is_macos) 32 else 64;

    pub const Kevent = c.Kevent;
    pub const EVFILT = c.EVFILT;
    pub const EV = c.EV;
    pub const NOTE = c.NOTE;

    pub fn make() isize {
        const result = signed(c.kqueue());
        if (result >= 0) _ = closeOnExec(@intCast(result));
        return result;
    }

    pub fn call(fd: Descriptor, changes: []const Kevent, reports: []Kevent, timeout_ns: ?u64) isize {
        var time = timeOf(timeout_ns orelse 0);
        return signed(c.kevent(
            fd,
            changes.ptr,
            @intCast(changes.len),
            reports.ptr,
            @intCast(reports.len),
            if (timeout_ns == null) null else &time,
        ));
    }

    pub fn sleep(duration_ns: u64) isize {
        const time = timeOf(duration_ns);
        return signed(c.nanosleep(&time, null));
    }
};

fn timeOf(ns: u64) c.timespec {
    const seconds = ns / std.time.ns_per_s;
    if (seconds >= timeout_seconds_max) return .{ .sec = timeout_seconds_max, .nsec = 0 };
    return .{ .sec = @intCast(seconds), .nsec = @intCast(ns % std.time.ns_per_s) };
}

pub fn pollNow(entry: *pollfd) isize {
    const Look = struct {
        fd: Descriptor,

        pub fn look(kernel: @This(), events: i16) error{Failed}!i16 {
            var one = [_]pollfd{.{ .fd = kernel.fd, .events = events, .revents = 0 }};
            // Repeated after a signal: the look does not wait, and a report that comes once would be lost.
            while (c.poll(&one, 1, 0) < 0) if (c._errno().* != common.codeOf(.INTR)) return error.Failed;
            return one[0].revents;
        }
    };
    const system: rules.System = if (is_macos) .macos else .freebsd;
    entry.revents = rules.conditions(system, entry.events, Look{ .fd = entry.fd }) catch return signed(@as(c_int, -1));
    return @intFromBool(entry.revents != 0);
}

pub fn monotonicNs() u64 {
    // The clock that kevent's timeouts run by: macOS's MONOTONIC goes on while the machine sleeps.
    const clock: c.clockid_t = if (is_macos) .UPTIME_RAW else .MONOTONIC;
    var time: c.timespec = undefined;
    const result = c.clock_gettime(clock, &time);
    std.debug.assert(result == 0);
    return @as(u64, @intCast(time.sec)) * std.time.ns_per_s + @as(u64, @intCast(time.nsec));
}

pub const ThreadId = u64;

pub fn threadId() ThreadId {
    if (!is_macos) {
        var id: c_long = undefined;
        const result = thr_self(&id);
        std.debug.assert(result == 0);
        return @intCast(id);
    }
    var id: u64 = undefined;
    const result = c.pthread_threadid_np(null, &id);
    std.debug.assert(result == 0);
    return id;
}

/// FreeBSD's sys/thr.h. The same as pthread_getthreadid_np, which would need libthr besides libc.
extern "c" fn thr_self(id: *c_long) c_int;

/// How many forks led here.
var forks_count: std.atomic.Value(u32) = .init(1);

pub fn countFork() void {
    _ = forks_count.fetchAdd(1, .monotonic);
}

pub fn currentProcess() common.ProcessIdentity {
    return .{ .generation = forks_count.load(.monotonic), .number = c.getpid() };
}

pub fn usableProcessors() u32 {
    var count: c_int = 0;
    var size: usize = @sizeOf(c_int);
    // Where it is refused, several.
    if (c.sysctlbyname("hw.ncpu", &count, &size, null, 0) != 0) return std.math.maxInt(u32);
    return @intCast(@max(count, 0));
}

pub fn yield() void {
    _ = c.sched_yield();
}

pub const pageSize = std.heap.defaultQueryPageSize;

pub fn writeError(text: []const u8) void {
    _ = c.write(2, text.ptr, text.len);
}

// ---- Sleeping for the lock ----

pub fn sleepWhile(word: *const u32, value: u32) void {
    if (is_macos) {
        _ = c.__ulock_wait(.{ .op = .COMPARE_AND_WAIT, .NO_ERRNO = true }, word, value, 0);
    } else {
        const wait = @backingInt(c.UMTX_OP.WAIT_UINT_PRIVATE);
        _ = c._umtx_op(@intFromPtr(word), wait, value, 0, 0);
    }
}

pub fn wakeOne(word: *const u32) void {
    if (is_macos) {
        _ = c.__ulock_wake(.{ .op = .COMPARE_AND_WAIT, .NO_ERRNO = true }, word, 0);
    } else {
        _ = c._umtx_op(@intFromPtr(word), @backingInt(c.UMTX_OP.WAKE_PRIVATE), 1, 0, 0);
    }
}
