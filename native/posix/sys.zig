//! The system calls that the POSIX side needs, in one form: a result below zero is the negated error code.
//!
//! What the kernels do differently lives in linux.zig and bsd.zig, which have the same names. Calls are repeated where a
//! signal may cut short what can't be told from doing nothing; waits are not, their callers must let signal handlers
//! run.

const std = @import("std");
const builtin = @import("builtin");
const status = @import("../core/status.zig");

const kernel = switch (builtin.os.tag) {
    .linux => @import("linux.zig"),
    .macos, .freebsd => @import("bsd.zig"),
    else => unreachable, // platform.zig knows better
};

/// What objects and arrays are made with, but those that are never freed.
pub const allocator = kernel.allocator;
/// fork() copies the allocator in order only between the two, which the library's fork handlers call.
pub const lockAllocator = kernel.lockAllocator;
pub const unlockAllocator = kernel.unlockAllocator;

pub const Descriptor = kernel.Descriptor;
pub const none: Descriptor = -1;

/// The system's error codes.
pub const E = kernel.E;
pub const AF = kernel.AF;
pub const SOL = kernel.SOL;
pub const SO = kernel.SO;
pub const IPPROTO = kernel.IPPROTO;
pub const TCP = kernel.TCP;
pub const sockaddr = kernel.sockaddr;
pub const socklen_t = kernel.socklen_t;
pub const pollfd = kernel.pollfd;
pub const POLL = kernel.POLL;
pub const POLLRDHUP = kernel.POLLRDHUP;

/// The kernel's own way of watching many sockets.
pub const selector = kernel.selector;

/// The error in a result below zero.
pub fn failureOf(result: isize) E {
    std.debug.assert(result < 0);
    return @fromBackingInt(@intCast(-result));
}

pub fn codeOf(e: E) i32 {
    return @backingInt(e);
}

/// An error as a result.
pub fn resultOf(e: E) isize {
    return -@as(isize, codeOf(e));
}

/// What a caller returns after a result below zero.
pub fn refused(result: isize, failure: *status.Failure) status.Error {
    return failure.system(codeOf(failureOf(result)));
}

/// The same after a wait, which a signal's handler may have ended.
pub fn waitRefused(result: isize, failure: *status.Failure) status.Error {
    return if (failureOf(result) == .INTR) error.Interrupted else refused(result, failure);
}

// ---- Sockets ----

/// Non-blocking and closed by exec, as are those that `accept` makes. Writing to it raises no signal.
pub const streamSocket = kernel.streamSocket;
pub const bind = kernel.bind;
pub const listen = kernel.listen;
pub const connect = kernel.connect;
pub const accept = kernel.accept;
pub const localName = kernel.localName;
pub const choosePortLate = kernel.choosePortLate;
pub const setOption = kernel.setOption;
pub const resetOnClose = kernel.resetOnClose;
pub const close = kernel.close;

/// Whether an error of accept is about one client and no error of the server.
pub const clientVanished = kernel.clientVanished;

/// Whether an error of connect says that nobody listens at a pathname.
pub const nobodyListens = kernel.nobodyListens;

/// MSG_DONTWAIT besides O_NONBLOCK: whoever shares the description, a child for example, can switch O_NONBLOCK off.
pub fn receive(fd: Descriptor, buffer: [*]u8, size: usize, peek: bool) isize {
    while (true) {
        const result = kernel.receive(fd, buffer, size, peek);
        if (result < 0 and failureOf(result) == .INTR) continue;
        return result;
    }
}

/// How many bytes are unread, for whoever was told that a read would block, since that can mean that another thread is
/// inside recv. 0 if it can't be told.
pub const countUnread = kernel.countUnread;

pub fn send(fd: Descriptor, data: [*]const u8, size: usize) isize {
    while (true) {
        const result = kernel.send(fd, data, size);
        if (result < 0 and failureOf(result) == .INTR) continue;
        return result;
    }
}

pub const shutdownWriting = kernel.shutdownWriting;

/// SO_ERROR, which the system forgets once it has told it: the caller must keep it. Null if it can't be asked.
pub fn takeSocketError(fd: Descriptor) ?i32 {
    var code: c_int = 0;
    const result = kernel.getOption(fd, SOL.SOCKET, SO.ERROR, &code);
    return if (result < 0) null else code;
}

/// Whoever shares the description, a child for example, can have switched O_NONBLOCK off.
pub fn ensureNonBlocking(fd: Descriptor) isize {
    const flags = kernel.statusFlags(fd);
    if (flags < 0 or flags & kernel.nonblocking != 0) return flags;
    return kernel.setStatusFlags(fd, @as(usize, @intCast(flags)) | kernel.nonblocking);
}

// ---- Files ----

/// What tells one file from another for as long as somebody has it open. Null where a local server's file can't be told.
pub const FileIdentity = kernel.FileIdentity;
pub const fileIdentity = kernel.fileIdentity;
pub const unlink = kernel.unlink;

/// What a pathname names now.
pub const Found = union(enum) {
    file: FileIdentity,
    nothing,
    /// The system does not tell.
    unknown,
};

/// The working directory's absolute name with its closing NUL, in the buffer. Null if it is too long or unreachable.
pub const workingDirectory = kernel.workingDirectory;

// ---- Waiting ----

pub const Waker = kernel.Waker;

/// kqueue(2), where the system has it.
pub const kevents = kernel.kevents;

/// Waits for poll(2) conditions. timeout_ns null is for ever.
pub const poll = kernel.poll;

/// The conditions of one descriptor now.
pub fn pollNow(entry: *pollfd) isize {
    return repeatedAtOnce(0, kernel.pollNow, .{entry});
}

/// The result of a wait. One that only looks is repeated after a signal: it does not hold the signal's handler up.
pub fn repeatedAtOnce(timeout_ns: ?u64, comptime call: anytype, arguments: anytype) isize {
    while (true) {
        const result: isize = @call(.auto, call, arguments);
        if (timeout_ns != 0 or result >= 0 or failureOf(result) != .INTR) return result;
    }
}

pub const monotonicNs = kernel.monotonicNs;

/// No two threads of a process have the same at the same time, and none has 0.
pub const ThreadId = kernel.ThreadId;
pub const threadId = kernel.threadId;

/// Which process this is. Not by its number alone, which another process may have had or have: a later one, or one of
/// another PID namespace (pid_namespaces(7)). Asked by every use of a poller.
pub const Process = struct {
    /// Of a process and all whom it has forked, no two have the same.
    generation: u32,
    /// 0 where the generation alone is certain.
    number: i32,

    /// No process.
    pub const none: Process = .{ .generation = 0, .number = 0 };

    pub fn current() Process {
        return kernel.currentProcess();
    }

    pub fn isCurrent(process: Process) bool {
        return std.meta.eql(process, current());
    }

    /// In a forked child, at once.
    pub fn afterFork() void {
        kernel.countFork();
    }
};

/// Whether processes are made by fork().
pub const forks = true;

/// Lets others run who may be waiting for what this thread gave up.
pub const yield = kernel.yield;

pub const pageSize = kernel.pageSize;

test pageSize {
    // A program, unlike a library, has Zig's own getauxval.
    try std.testing.expectEqual(std.heap.defaultQueryPageSize(), pageSize());
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
    for ([_][]const u8{ "bbipc: internal error: ", text, "\n" }) |part| kernel.writeError(part);
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
        while (self.state.swap(contended, .acquire) != unlocked) kernel.sleepWhile(&self.state.raw, contended);
    }

    pub fn unlock(self: *Lock) void {
        const before = self.state.swap(unlocked, .release);
        std.debug.assert(before != unlocked);
        if (before == contended) kernel.wakeOne(&self.state.raw);
    }

    /// In a forked child, for the only thread there is: it took the lock before the fork, the sleepers stayed behind.
    pub fn resetAfterFork(self: *Lock) void {
        self.state.store(unlocked, .release);
    }
};
