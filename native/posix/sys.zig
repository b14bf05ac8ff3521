//! The system calls that the POSIX side needs, in one form: a result below zero is the negated error code.
//!
//! On Linux they are made without libc (see architecture.md): the same library then loads under glibc and musl. Calls
//! are repeated here where a signal may cut short what can't be told from doing nothing; waits are not, their callers
//! must let signal handlers run.

const std = @import("std");
const builtin = @import("builtin");
const linux = std.os.linux;
const status = @import("../status.zig");

/// What small objects are made with. The library has no libc to ask.
pub const allocator = std.heap.page_allocator;

comptime {
    // macOS and FreeBSD come with their selector; until then nothing pretends to serve them.
    if (builtin.os.tag != .linux) @compileError("bbipc does not support this operating system yet");
}

pub const Descriptor = linux.fd_t;
pub const none: Descriptor = -1;

/// The system's error codes.
pub const E = linux.E;
pub const AF = linux.AF;
pub const sockaddr = linux.sockaddr;
pub const socklen_t = linux.socklen_t;
pub const pollfd = linux.pollfd;
pub const POLL = linux.POLL;

/// poll.h has it, Zig's POLL has not.
pub const POLLRDHUP = if (builtin.cpu.arch.isSPARC()) 0x800 else 0x2000;

/// The error in a result below zero.
pub fn failureOf(result: isize) E {
    std.debug.assert(result < 0);
    return @fromBackingInt(@intCast(-result));
}

pub fn codeOf(e: E) i32 {
    return @backingInt(e);
}

fn signed(result: usize) isize {
    return @bitCast(result);
}

// ---- Sockets ----

pub fn streamSocket(family: u32) isize {
    return signed(linux.socket(family, linux.SOCK.STREAM | linux.SOCK.CLOEXEC | linux.SOCK.NONBLOCK, 0));
}

pub fn bind(fd: Descriptor, address: *const anyopaque, size: socklen_t) isize {
    return signed(linux.bind(fd, @ptrCast(@alignCast(address)), size));
}

pub fn listen(fd: Descriptor, backlog: i32) isize {
    return signed(linux.listen(fd, @intCast(backlog)));
}

pub fn connect(fd: Descriptor, address: *const anyopaque, size: socklen_t) isize {
    return signed(linux.connect(fd, address, size));
}

pub fn accept(fd: Descriptor, address: ?*sockaddr, size: ?*socklen_t) isize {
    return signed(linux.accept4(fd, address, size, linux.SOCK.CLOEXEC | linux.SOCK.NONBLOCK));
}

pub fn localName(fd: Descriptor, address: *sockaddr, size: *socklen_t) isize {
    return signed(linux.getsockname(fd, address, size));
}

/// MSG_DONTWAIT besides O_NONBLOCK: whoever shares the description, a child for example, can switch O_NONBLOCK off.
pub fn receive(fd: Descriptor, buffer: [*]u8, size: usize, peek: bool) isize {
    const flags: u32 = linux.MSG.DONTWAIT | (if (peek) @as(u32, linux.MSG.PEEK) else 0);
    while (true) {
        const result = signed(linux.recvfrom(fd, buffer, size, flags, null, null));
        if (result < 0 and failureOf(result) == .INTR) continue;
        return result;
    }
}

pub fn send(fd: Descriptor, data: [*]const u8, size: usize) isize {
    while (true) {
        const result = signed(linux.sendto(fd, data, size, linux.MSG.DONTWAIT | linux.MSG.NOSIGNAL, null, 0));
        if (result < 0 and failureOf(result) == .INTR) continue;
        return result;
    }
}

pub fn shutdownWriting(fd: Descriptor) isize {
    return signed(linux.shutdown(fd, linux.SHUT.WR));
}

pub fn setOption(fd: Descriptor, level: i32, option: u32, value: c_int) isize {
    return signed(linux.setsockopt(fd, level, option, std.mem.asBytes(&value), @sizeOf(c_int)));
}

/// SO_ERROR, which the system forgets once it has told it: the caller must keep it.
pub fn takeSocketError(fd: Descriptor) i32 {
    var code: c_int = 0;
    var size: socklen_t = @sizeOf(c_int);
    const result = signed(linux.getsockopt(fd, linux.SOL.SOCKET, linux.SO.ERROR, std.mem.asBytes(&code), &size));
    return if (result < 0) codeOf(failureOf(result)) else code;
}

/// The kernel frees the number even where it reports an error (close(2)), so there is nothing to repeat.
pub fn close(fd: Descriptor) void {
    _ = linux.close(fd);
}

// ---- Files ----

/// What tells one file from another for as long as somebody has it open.
pub const FileIdentity = struct {
    device_major: u32,
    device_minor: u32,
    inode: u64,

    pub fn eql(a: FileIdentity, b: FileIdentity) bool {
        return std.meta.eql(a, b);
    }
};

/// Null where there is no such file, or on kernels before statx (4.11).
pub fn fileIdentity(pathname: [*:0]const u8) ?FileIdentity {
    var information: linux.Statx = undefined;
    const flags = linux.AT.SYMLINK_NOFOLLOW | linux.AT.STATX_DONT_SYNC;
    if (signed(linux.statx(linux.AT.FDCWD, pathname, flags, .{ .INO = true }, &information)) < 0) return null;
    return .{
        .device_major = information.dev_major,
        .device_minor = information.dev_minor,
        .inode = information.ino,
    };
}

pub fn unlink(pathname: [*:0]const u8) isize {
    return signed(linux.unlink(pathname));
}

/// The working directory's absolute name with its closing NUL, in the buffer. Null if it is too long or unreachable.
pub fn workingDirectory(buffer: []u8) ?[]u8 {
    const result = signed(linux.getcwd(buffer.ptr, buffer.len));
    if (result <= 1 or buffer[0] != '/') return null;
    return buffer[0..@intCast(result - 1)];
}

// ---- Waiting ----

pub const Waker = struct {
    fd: Descriptor,

    /// A signal stays until it is taken down, and wakes everybody who waits for this waker.
    pub const lasts = true;

    pub fn open(failure: *status.Failure) status.Error!Waker {
        const result = signed(linux.eventfd(0, linux.EFD.CLOEXEC | linux.EFD.NONBLOCK));
        if (result < 0) return failure.system(codeOf(failureOf(result)));
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

/// Waits for poll(2) conditions. timeout_ns null is for ever.
pub fn poll(descriptors: []pollfd, timeout_ns: ?u64) isize {
    if (timeout_ns) |ns| {
        if (ns == 0) return signed(linux.poll(descriptors.ptr, @intCast(descriptors.len), 0));
        var time: linux.timespec = .{
            .sec = @intCast(@min(ns / std.time.ns_per_s, std.math.maxInt(i32))),
            .nsec = @intCast(ns % std.time.ns_per_s),
        };
        return signed(linux.ppoll(descriptors.ptr, @intCast(descriptors.len), &time, null));
    }
    return signed(linux.ppoll(descriptors.ptr, @intCast(descriptors.len), null, null));
}

pub fn monotonicNs() u64 {
    var time: linux.timespec = undefined;
    // Not linux.clock_gettime: it looks for the vDSO with libc's getauxval, which the library must not need.
    const number = if (@hasField(linux.SYS, "clock_gettime")) .clock_gettime else .clock_gettime64;
    const result = signed(linux.syscall2(number, @backingInt(linux.CLOCK.MONOTONIC), @intFromPtr(&time)));
    std.debug.assert(result == 0); // there is no Linux without it
    return @as(u64, @intCast(time.sec)) * std.time.ns_per_s + @as(u64, @intCast(time.nsec));
}

pub fn threadId() i32 {
    return linux.gettid();
}

pub fn processId() i32 {
    return linux.getpid();
}

/// Whether processes are made by fork().
pub const forks = true;

/// Lets others run who may be waiting for what this thread gave up.
pub fn yield() void {
    _ = linux.sched_yield();
}

/// Signals interrupt waits by themselves.
pub fn prepareToWait() void {}

/// What the system still has of this process's operations: nothing, for POSIX systems do theirs at once.
pub fn pendingOperations() u64 {
    return 0;
}

/// What was written is the system's, which needs no process to deliver it.
pub fn finishWrites(_: ?u64) bool {
    return true;
}

/// Says something last and ends the process: for the library's own panics, where nothing may be unwound.
pub fn abort(text: []const u8) noreturn {
    for ([_][]const u8{ "bbipc: internal error: ", text, "\n" }) |part| {
        _ = linux.write(2, part.ptr, part.len);
    }
    // Not SIGABRT by kill(2): a handler for it could return.
    @trap();
}

/// A lock for short sections. Not fair and not recursive: a thread that finds it taken spins for a moment, then sleeps
/// in the kernel (Drepper, Futexes Are Tricky).
pub const Lock = struct {
    state: std.atomic.Value(u32) = .init(unlocked),

    const unlocked = 0;
    const locked = 1;
    const contended = 2;
    const spins_max = 100;

    pub fn lock(self: *Lock) void {
        if (self.state.cmpxchgWeak(unlocked, locked, .acquire, .monotonic) == null) return;
        self.lockSlowly();
    }

    fn lockSlowly(self: *Lock) void {
        @branchHint(.cold);
        for (0..spins_max) |_| {
            if (self.state.load(.monotonic) == unlocked) {
                if (self.state.cmpxchgWeak(unlocked, locked, .acquire, .monotonic) == null) return;
            }
            std.atomic.spinLoopHint();
        }
        while (self.state.swap(contended, .acquire) != unlocked) {
            _ = linux.futex_4arg(&self.state.raw, .{ .cmd = .WAIT, .private = true }, contended, null);
        }
    }

    pub fn unlock(self: *Lock) void {
        const before = self.state.swap(unlocked, .release);
        std.debug.assert(before != unlocked);
        if (before == contended) {
            _ = linux.futex_3arg(&self.state.raw, .{ .cmd = .WAKE, .private = true }, 1);
        }
    }

    /// In a forked child, for the only thread there is: it took the lock before the fork, the sleepers stayed behind.
    pub fn resetAfterFork(self: *Lock) void {
        self.state.store(unlocked, .release);
    }
};
