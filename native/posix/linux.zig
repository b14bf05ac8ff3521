//! Linux's part of sys.zig: system calls, made without libc (see architecture.md), so that the same library loads under
//! glibc and musl.

const std = @import("std");
const builtin = @import("builtin");
const linux = std.os.linux;
const common = @import("common.zig");
const Credentials = @import("../base/credentials.zig").Credentials;
const linux_files = @import("linux_files.zig");
pub const files = @import("linux_socket_files.zig");
const status = @import("../base/status.zig");

pub const Descriptor = linux.fd_t;
pub const AF = linux.AF;
pub const SOCK = linux.SOCK;
pub const SOL = linux.SOL;
pub const SO = linux.SO;
pub const IPPROTO = linux.IPPROTO;
pub const TCP = linux.TCP;
pub const IPV6 = linux.IPV6;
pub const sockaddr = linux.sockaddr;
pub const socklen_t = linux.socklen_t;
pub const pollfd = linux.pollfd;
pub const POLL = linux.POLL;

pub const has_kqueue = false;
pub const kevents = {};
/// There is no libc to ask: memory.zig.
pub const has_allocator = false;

/// poll.h has it, Zig's POLL has not.
pub const POLLRDHUP = if (builtin.cpu.arch.isSPARC()) 0x800 else 0x2000;

fn signed(result: usize) isize {
    return @bitCast(result);
}

/// 32-bit processors have each call that takes a time twice. A kernel may be built without the one with 32 bits for the
/// seconds (CONFIG_COMPAT_32BIT_TIME). Kernels before 5.1 lack the one with 64, and old sandboxes forbid it with other
/// errors than ENOSYS. So the one with 32 is tried first.
const has_times_twice = @hasField(linux.SYS, "ppoll") and @hasField(linux.SYS, "ppoll_time64");

fn isLacking(result: isize) bool {
    return result == common.resultOf(.NOSYS);
}

// ---- Sockets ----

/// Calls std.os.linux's function of this name. But on s390x, kernels before 4.3 have only socketcall(2) for all of
/// them, which Zig does not use there.
fn socketCall(comptime name: []const u8, arguments: std.meta.ArgsTuple(@TypeOf(@field(linux, name)))) isize {
    if (builtin.cpu.arch != .s390x) return signed(@call(.auto, @field(linux, name), arguments));
    const numbers = .{
        .socket = 1,
        .bind = 2,
        .connect = 3,
        .listen = 4,
        .getsockname = 6,
        .getpeername = 7,
        .socketpair = 8,
        .sendto = 11,
        .recvfrom = 12,
        .shutdown = 13,
        .setsockopt = 14,
        .getsockopt = 15,
        .accept4 = 18,
    };
    var words: [arguments.len]usize = undefined;
    inline for (&words, arguments) |*word, argument| word.* = switch (@typeInfo(@TypeOf(argument))) {
        .int => @bitCast(@as(isize, @intCast(argument))),
        else => @intFromPtr(argument),
    };
    return signed(linux.syscall2(.socketcall, @field(numbers, name), @intFromPtr(&words)));
}

pub fn streamSocket(family: u32) isize {
    return socketCall("socket", .{ family, linux.SOCK.STREAM | linux.SOCK.CLOEXEC | linux.SOCK.NONBLOCK, 0 });
}

pub fn bind(fd: Descriptor, address: *const anyopaque, size: socklen_t) isize {
    return socketCall("bind", .{ fd, @ptrCast(@alignCast(address)), size });
}

pub fn listen(fd: Descriptor, backlog: i32) isize {
    return socketCall("listen", .{ fd, @intCast(backlog) });
}

pub fn connect(fd: Descriptor, address: *const anyopaque, size: socklen_t) isize {
    return socketCall("connect", .{ fd, address, size });
}

pub fn accept(fd: Descriptor, address: ?*sockaddr, size: ?*socklen_t) isize {
    return socketCall("accept4", .{ fd, address, size, linux.SOCK.CLOEXEC | linux.SOCK.NONBLOCK });
}

pub fn clientVanished(e: common.E) bool {
    return switch (e) {
        // accept(2): the last six come from the network.
        .INTR, .CONNABORTED, .PROTO, .NETDOWN, .NOPROTOOPT, .HOSTDOWN, .NONET, .HOSTUNREACH, .NETUNREACH => true,
        else => false,
    };
}

pub fn nobodyListens(e: common.E) bool {
    return switch (e) {
        .NOENT, .CONNREFUSED, .NOTDIR => true,
        else => false,
    };
}

/// The port is chosen when the remote end is known: many streams can then share one. Linux 4.2 and later.
pub fn choosePortLate(fd: Descriptor) void {
    _ = setOption(fd, linux.IPPROTO.IP, linux.IP.BIND_ADDRESS_NO_PORT, 1);
}

pub fn localName(fd: Descriptor, address: *sockaddr, size: *socklen_t) isize {
    return socketCall("getsockname", .{ fd, address, size });
}

pub fn remoteName(fd: Descriptor, address: *sockaddr, size: *socklen_t) isize {
    return socketCall("getpeername", .{ fd, address, size });
}

pub fn localPair(pair: *[2]Descriptor) isize {
    const kind = linux.SOCK.STREAM | linux.SOCK.CLOEXEC | linux.SOCK.NONBLOCK;
    return socketCall("socketpair", .{ AF.UNIX, kind, 0, pair });
}

/// MSG_DONTWAIT keeps each call from blocking, so O_NONBLOCK is left to those who share the description.
pub fn takeOver(fd: Descriptor) isize {
    return signed(linux.fcntl(fd, linux.F.SETFD, linux.FD_CLOEXEC));
}

pub fn duplicate(fd: Descriptor, lowest: usize) isize {
    return signed(linux.fcntl(fd, linux.F.DUPFD_CLOEXEC, lowest));
}

pub fn receive(fd: Descriptor, buffer: [*]u8, size: usize, peek: bool) isize {
    const flags: u32 = linux.MSG.DONTWAIT | (if (peek) @as(u32, linux.MSG.PEEK) else 0);
    return socketCall("recvfrom", .{ fd, buffer, size, flags, null, null });
}

/// Nobody has to ask: a read waits while another thread reads.
pub fn countUnread(_: Descriptor) usize {
    return 0;
}

pub fn send(fd: Descriptor, data: [*]const u8, size: usize) isize {
    return socketCall("sendto", .{ fd, data, size, linux.MSG.DONTWAIT | linux.MSG.NOSIGNAL, null, 0 });
}

pub fn shutdownWriting(fd: Descriptor) isize {
    return socketCall("shutdown", .{ fd, linux.SHUT.WR });
}

pub fn setOption(fd: Descriptor, level: i32, option: u32, value: c_int) isize {
    return socketCall("setsockopt", .{ fd, level, option, std.mem.asBytes(&value), @sizeOf(c_int) });
}

/// The close of a TCP socket gives up what is under way, and resets the connection (socket(7)).
pub fn resetOnClose(fd: Descriptor) void {
    const linger: extern struct { on: c_int, seconds: c_int } = .{ .on = 1, .seconds = 0 };
    const size = @sizeOf(@TypeOf(linger));
    _ = socketCall("setsockopt", .{ fd, linux.SOL.SOCKET, linux.SO.LINGER, std.mem.asBytes(&linger), size });
}

pub fn getOption(fd: Descriptor, level: i32, option: u32, value: *c_int) isize {
    var size: socklen_t = @sizeOf(c_int);
    return socketCall("getsockopt", .{ fd, level, option, std.mem.asBytes(value), &size });
}

/// 1 for a socket that listens, 0 for another.
pub fn isListening(fd: Descriptor) isize {
    var value: c_int = 0;
    const result = getOption(fd, linux.SOL.SOCKET, linux.SO.ACCEPTCONN, &value);
    return if (result < 0) result else @intFromBool(value != 0);
}

/// SO_PEERCRED: who connected, or called listen, and made the socket of a pair.
pub fn peerCredentials(fd: Descriptor, credentials: *Credentials) isize {
    const Told = extern struct { process: i32, user: u32, group: u32 };
    var told: Told = undefined;
    var size: socklen_t = @sizeOf(Told);
    const arguments = .{ fd, linux.SOL.SOCKET, linux.SO.PEERCRED, std.mem.asBytes(&told), &size };
    const result = socketCall("getsockopt", arguments);
    if (result < 0) return result;
    credentials.* = .{
        .user = Credentials.idOf(told.user),
        .group = Credentials.idOf(told.group),
        .process = Credentials.processOf(told.process),
    };
    return 0;
}

pub const nonblocking: usize = @as(u32, @bitCast(linux.O{ .NONBLOCK = true }));

pub fn statusFlags(fd: Descriptor) isize {
    return signed(linux.fcntl(fd, linux.F.GETFL, 0));
}

pub fn setStatusFlags(fd: Descriptor, flags: usize) isize {
    return signed(linux.fcntl(fd, linux.F.SETFL, flags));
}

/// The kernel frees the number even where it reports an error (close(2)), so there is nothing to repeat.
pub fn close(fd: Descriptor) void {
    _ = linux.close(fd);
}

// ---- Waiting ----

pub const Waker = struct {
    fd: Descriptor,

    /// A signal stays until it is taken down, and wakes everybody who waits for this waker.
    pub const lasts = true;

    pub fn open(failure: *status.Failure) status.Error!Waker {
        const result = signed(linux.eventfd(0, linux.EFD.CLOEXEC | linux.EFD.NONBLOCK));
        if (result < 0) return common.refused(result, failure);
        return .{ .fd = @intCast(result) };
    }

    pub fn close(waker: Waker) void {
        _ = linux.close(waker.fd);
    }

    /// Readable from here on, until `drain`. Full (EAGAIN) is readable too.
    pub fn signal(waker: Waker) void {
        const one: u64 = 1;
        _ = linux.write(waker.fd, std.mem.asBytes(&one), @sizeOf(u64));
    }

    pub fn drain(waker: Waker) void {
        var count: u64 = 0;
        _ = linux.read(waker.fd, std.mem.asBytes(&count), @sizeOf(u64));
    }
};

pub fn poll(descriptors: []pollfd, timeout_ns: ?u64) isize {
    if (timeout_ns) |ns| {
        if (ns == 0) return signed(linux.poll(descriptors.ptr, @intCast(descriptors.len), 0));
        var time: linux.timespec = .{
            .sec = @intCast(@min(ns / std.time.ns_per_s, std.math.maxInt(i32))),
            .nsec = @intCast(ns % std.time.ns_per_s),
        };
        return pollUntil(descriptors, &time);
    }
    return pollUntil(descriptors, null);
}

fn pollUntil(descriptors: []pollfd, time: ?*linux.timespec) isize {
    const result = signed(linux.ppoll(descriptors.ptr, @intCast(descriptors.len), time, null));
    if (!has_times_twice or !isLacking(result)) return result;
    var wide: linux.kernel_timespec = if (time) |one| .{ .sec = one.sec, .nsec = one.nsec } else undefined;
    const wide_time = if (time == null) 0 else @intFromPtr(&wide);
    return signed(linux.syscall5(.ppoll_time64, @intFromPtr(descriptors.ptr), descriptors.len, wide_time, 0, 0));
}

pub fn pollNow(entry: *pollfd) isize {
    return poll(entry[0..1], 0);
}

pub fn monotonicNs() u64 {
    var time: linux.timespec = undefined;
    if (@sizeOf(usize) == 8) {
        // Without a system call (vdso(7)): every wait with a timeout reads the clock.
        if (signed(linux.clock_gettime(.MONOTONIC, &time)) < 0) tellsNoTime();
        return nanosecondsOf(time);
    }
    const number = if (@hasField(linux.SYS, "clock_gettime")) .clock_gettime else .clock_gettime64;
    const clock = @backingInt(linux.CLOCK.MONOTONIC);
    const result = signed(linux.syscall2(number, clock, @intFromPtr(&time)));
    if (has_times_twice and isLacking(result)) {
        var wide: linux.kernel_timespec = undefined;
        if (signed(linux.syscall2(.clock_gettime64, clock, @intFromPtr(&wide))) < 0) tellsNoTime();
        return nanosecondsOf(wide);
    }
    if (result < 0) tellsNoTime();
    return nanosecondsOf(time);
}

/// Only a sandbox refuses the time. Without it, a wait would never end.
fn tellsNoTime() noreturn {
    @branchHint(.cold);
    common.abort(writeError, "clock_gettime(2) is refused: does a sandbox forbid it?");
}

/// Zig looks for the vDSO with libc's getauxval, which the library must not need. In a program Zig has its own.
fn auxiliaryValue(kind: usize) callconv(.c) usize {
    var vector: [64]std.elf.Auxv = undefined;
    const found = linux_files.read("/proc/self/auxv", std.mem.sliceAsBytes(&vector)) orelse return 0;
    for (vector[0 .. found.len / @sizeOf(std.elf.Auxv)]) |entry| {
        if (entry.a_type == kind) return entry.a_un.a_val;
    }
    return 0;
}

comptime {
    if (builtin.output_mode == .Lib) @export(&auxiliaryValue, .{ .name = "getauxval", .visibility = .hidden });
}

fn nanosecondsOf(time: anytype) u64 {
    return @as(u64, @intCast(time.sec)) * std.time.ns_per_s + @as(u64, @intCast(time.nsec));
}

pub const ThreadId = i32;

pub fn threadId() ThreadId {
    return linux.gettid();
}

/// How many forks led here, as far as anybody has noticed.
var forks_count: std.atomic.Value(u32) = .init(1);

pub fn countFork() void {
    _ = forks_count.fetchAdd(1, .monotonic);
}

pub fn currentProcess() common.ProcessIdentity {
    const generation = wiped_memory.get() orelse
        return .{ .generation = forks_count.load(.monotonic), .number = linux.getpid() };
    const known = generation.load(.monotonic);
    return .{ .generation = if (known != 0) known else firstLook(generation), .number = 0 };
}

fn firstLook(generation: *wiped_memory.Word) u32 {
    const next = forks_count.fetchAdd(1, .monotonic) + 1;
    return generation.cmpxchgStrong(0, next, .monotonic, .monotonic) orelse next;
}

/// A word that is 0 again in a child made by fork(), whoever made it: also where no handler of ours runs.
const wiped_memory = struct {
    const Word = std.atomic.Value(u32);

    const undecided = 0;
    const lacking = 1;
    /// Its address, or one of these. Once decided, it stays.
    var address: std.atomic.Value(usize) = .init(undecided);

    fn get() ?*Word {
        const known = address.load(.acquire);
        const decided = if (known == undecided) decide() else known;
        return if (decided == lacking) null else @ptrFromInt(decided);
    }

    fn decide() usize {
        @branchHint(.cold);
        const made = make();
        const mine = if (made) |word| @intFromPtr(word) else lacking;
        const theirs = address.cmpxchgStrong(undecided, mine, .acq_rel, .acquire) orelse return mine;
        if (made) |word| free(word);
        return theirs;
    }

    fn make() ?*Word {
        const flags: linux.MAP = .{ .TYPE = .PRIVATE, .ANONYMOUS = true };
        const mapped = signed(linux.mmap(null, pageSize(), .{ .READ = true, .WRITE = true }, flags, -1, 0));
        if (mapped < 0 and mapped > -4096) return null;
        const page: *Word = @ptrFromInt(@as(usize, @bitCast(mapped)));
        const wipe_on_fork = 18; // MADV_WIPEONFORK, Linux 4.14
        // qemu-user takes any advice, and most of it does nothing there.
        if (advise(page, 0x7fff_ffff) < 0 and advise(page, wipe_on_fork) == 0) return page;
        free(page);
        return null;
    }

    fn advise(page: *Word, advice: u32) isize {
        return signed(linux.madvise(@ptrCast(page), pageSize(), advice));
    }

    fn free(page: *Word) void {
        _ = linux.munmap(@ptrCast(page), pageSize());
    }
};

pub const usableProcessors = @import("linux_processors.zig").usable;

/// Lets others run who may be waiting for what this thread gave up.
pub fn yield() void {
    _ = linux.sched_yield();
}

/// The size of a page, where the architecture alone does not tell it. Zig asks libc's getauxval, which the library must
/// not need. This asks the kernel, which refuses advice on an address that is not a page's.
pub fn pageSize() usize {
    const found = struct {
        var bytes: std.atomic.Value(usize) = .init(0);
    };
    var bytes = found.bytes.load(.monotonic);
    if (bytes == 0) {
        bytes = std.heap.page_size_min;
        while (bytes < std.heap.page_size_max) : (bytes *= 2) {
            if (signed(linux.syscall3(.madvise, bytes, 0, linux.MADV.NORMAL)) == 0) break;
        }
        found.bytes.store(bytes, .monotonic);
    }
    return bytes;
}

pub fn writeError(text: []const u8) void {
    _ = linux.write(2, text.ptr, text.len);
}

// ---- Sleeping for the lock (futex(2)) ----

pub fn sleepWhile(word: *const u32, value: u32) void {
    futex(word, .{ .cmd = .WAIT, .private = true }, value);
}

pub fn wakeOne(word: *const u32) void {
    futex(word, .{ .cmd = .WAKE, .private = true }, 1);
}

fn futex(word: *const u32, operation: linux.FUTEX_OP, value: u32) void {
    const result = signed(linux.futex_4arg(word, operation, value, null));
    if (!has_times_twice or !isLacking(result)) return;
    _ = linux.syscall4(.futex_time64, @intFromPtr(word), @as(u32, @bitCast(operation)), value, 0);
}
