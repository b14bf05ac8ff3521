//! The system calls that the POSIX side needs, in one form: a result below zero is the negated error code.
//!
//! What the kernels do differently lives in linux.zig and bsd.zig, which have the same names. A call is repeated where
//! a signal may end it and the result can't be told from having done nothing. Waits are not: their callers must let
//! signal handlers run.

const std = @import("std");
const common = @import("common.zig");
const kernel = @import("kernel.zig").kernel;
const memory = if (kernel.has_allocator) kernel else @import("memory.zig");
const status = @import("../base/status.zig");

/// What objects and arrays are made with, but those that are never freed.
pub const allocator = memory.allocator;
/// fork() copies a consistent allocator only between these two, which the library's fork handlers call.
pub const lockAllocator = memory.lockAllocator;
pub const unlockAllocator = memory.unlockAllocator;

pub const Lock = @import("lock.zig").Lock;
pub const Process = @import("process.zig").Process;

/// Guards all that the library knows (core/handles.zig). It is here because the systems' own files take it too. It has
/// a cache line for itself, so that a thread which takes it does not slow the threads that don't.
pub var library_lock: Lock align(std.atomic.cache_line) = .{};

pub const Descriptor = kernel.Descriptor;
pub const none: Descriptor = -1;

pub const E = common.E;
pub const failureOf = common.failureOf;
pub const codeOf = common.codeOf;
pub const resultOf = common.resultOf;
pub const refused = common.refused;
pub const waitRefused = common.waitRefused;

pub const AF = kernel.AF;
pub const SOCK = kernel.SOCK;
pub const SOL = kernel.SOL;
pub const SO = kernel.SO;
pub const IPPROTO = kernel.IPPROTO;
pub const TCP = kernel.TCP;
pub const IPV6 = kernel.IPV6;
/// Whether a Unix socket's name that begins with a NUL is one.
pub const has_abstract_names = !has_kqueue;
pub const sockaddr = kernel.sockaddr;
pub const socklen_t = kernel.socklen_t;
pub const pollfd = kernel.pollfd;
pub const POLL = kernel.POLL;
pub const POLLRDHUP = kernel.POLLRDHUP;

// Codes that the library makes itself.
pub const would_block = codeOf(.AGAIN);
pub const not_connected = codeOf(.NOTCONN);
pub const connection_aborted = codeOf(.CONNABORTED);
pub const refused_connection = codeOf(.CONNREFUSED);
pub const busy = codeOf(.BUSY);

// ---- Sockets ----

/// Non-blocking and closed by exec, as are those that `accept` makes. Writing to it raises no signal.
pub const streamSocket = kernel.streamSocket;
pub const bind = kernel.bind;
pub const listen = kernel.listen;
pub const connect = kernel.connect;
pub const accept = kernel.accept;
pub const localName = kernel.localName;
pub const remoteName = kernel.remoteName;
pub const choosePortLate = kernel.choosePortLate;
pub const setOption = kernel.setOption;
pub const resetOnClose = kernel.resetOnClose;
pub const close = kernel.close;

/// Two Unix sockets that are connected to one another. Each is like one of `streamSocket`.
pub const localPair = kernel.localPair;

/// Makes a socket that somebody else has made as fit for the library as its own: closed by exec, and never blocking.
pub const takeOver = kernel.takeOver;

/// Another descriptor of the same description, closed by exec. The standard streams' numbers are for those.
pub fn duplicate(fd: Descriptor) isize {
    return kernel.duplicate(fd, 3);
}

/// An option that is a number.
pub fn getOption(fd: Descriptor, level: i32, option: u32, failure: *status.Failure) status.Error!c_int {
    var value: c_int = 0;
    const result = kernel.getOption(fd, level, option, &value);
    return if (result < 0) refused(result, failure) else value;
}

pub fn isListening(fd: Descriptor, failure: *status.Failure) status.Error!bool {
    const result = kernel.isListening(fd);
    return if (result < 0) refused(result, failure) else result != 0;
}

/// Whether an error of accept is about one client and no error of the server.
pub const clientVanished = kernel.clientVanished;

/// Whether the system lacks what a new descriptor takes, which can come back.
pub fn isShortage(code: i32) bool {
    return switch (code) {
        codeOf(.MFILE), codeOf(.NFILE), codeOf(.NOMEM), codeOf(.NOBUFS) => true,
        else => false,
    };
}

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

/// How many bytes are unread, after a read that would block: that can mean that another thread is inside recv. 0 if it
/// can't be told.
pub const countUnread = kernel.countUnread;

pub fn send(fd: Descriptor, data: [*]const u8, size: usize) isize {
    while (true) {
        const result = kernel.send(fd, data, size);
        if (result < 0 and failureOf(result) == .INTR) continue;
        return result;
    }
}

/// Who is at the other end of a Unix socket.
pub const peerCredentials = kernel.peerCredentials;

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

/// Those that local servers make. A `FileIdentity` tells one from another for as long as somebody has it open.
pub const files = kernel.files;
pub const Found = common.Found;

// ---- Waiting ----

/// Whether kqueue(2) is the system's way of watching many sockets; else it is epoll(7).
pub const has_kqueue = kernel.has_kqueue;
pub const kevents = kernel.kevents;

pub const Waker = if (has_kqueue) @import("kqueue_waker.zig").Waker else kernel.Waker;

/// Waits for poll(2) conditions. timeout_ns null is for ever.
pub const poll = if (has_kqueue) @import("kqueue_poll.zig").Of(@This()).poll else kernel.poll;

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
pub const Deadline = @import("../base/deadline.zig").Deadline(monotonicNs);

/// No two threads of a process have the same at the same time, and none has 0.
pub const ThreadId = kernel.ThreadId;
pub const threadId = kernel.threadId;

/// Whether processes are made by fork().
pub const forks = true;

/// How many processors there are for this process and its peers, or the time of how many.
pub const usableProcessors = kernel.usableProcessors;

/// Lets others run who may be waiting for what this thread gave up.
pub const yield = kernel.yield;

pub const pageSize = kernel.pageSize;

test pageSize {
    // A program, unlike a library, has Zig's own getauxval.
    try std.testing.expectEqual(std.heap.defaultQueryPageSize(), pageSize());
}

/// Signals interrupt waits by themselves.
pub fn prepareToWait(_: *const fn () void) void {}

/// What the system still has of this process's operations: nothing, for POSIX systems do theirs at once.
pub fn pendingOperations() u64 {
    return 0;
}

/// Says something last and ends the process.
pub fn abort(text: []const u8) noreturn {
    common.abort(kernel.writeError, text);
}
