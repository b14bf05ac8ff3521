//! The only switch on the operating system in the library, but for the one among the POSIX systems (posix/kernel.zig),
//! and what tells macOS from FreeBSD (posix/bsd.zig).
//!
//! What a platform supplies, under the same names on every system; `contract` below checks that they are there:
//!
//! - sys: Lock, library_lock, Waker, ThreadId, Process, allocator, the clock and its Deadline, and the codes of errors
//!   that the library makes itself.
//! - Transport, what a stream is made of. receive, look, send: what became of the call (base/outcome.zig).
//!   conditionsNow, takeError, resetAtEnd, reasonOfSevering: what the system says of the connection.
//! - Listener, what a server is made of; and the functions that make either.
//! - Descriptor, what selectors watch of a transport or a listener.
//! - Selector, one of the system's ways of watching many sockets, chosen by a Backend. Its Snapshot is one wait's.
//! - Key, a watched socket.
//! - poll, the wait behind bbipc_poll_socket and bbipc_poll_sockets: Sleeper, Entry, wait.
//! - finishWrites; and entryPoint, what the system calls when it loads the library, or nothing.

const std = @import("std");
const builtin = @import("builtin");

const implementation = switch (builtin.os.tag) {
    .linux, .macos, .freebsd => @import("posix/posix.zig"),
    .windows => @import("windows/windows.zig"),
    else => @compileError("bbipc does not support this operating system"),
};

pub const sys = implementation.sys;
pub const poll = implementation.poll;
pub const finishWrites = implementation.finishWrites;
pub const entryPoint = implementation.entryPoint;

pub const Selector = implementation.selectors.Selector;
pub const Key = implementation.selectors.Key;
pub const Backend = implementation.selectors.Backend;

const transports = implementation.transports;
pub const Transport = transports.Transport;
pub const Listener = transports.Listener;
pub const Descriptor = transports.Descriptor;
pub const listenTcp = transports.listenTcp;
pub const listenLocal = transports.listenLocal;
pub const connectTcp = transports.connectTcp;
pub const connectLocal = transports.connectLocal;
pub const makePair = transports.makePair;
pub const awaitClient = transports.awaitClient;
pub const Words = transports.Words;
pub const adoptStream = transports.adoptStream;
pub const adoptListener = transports.adoptListener;
/// Bytes that a local pathname may have, and the same in the system's unit, as bbipc.h tells it.
pub const pathname_max = transports.pathname_max;
pub const pathname_limit = transports.pathname_limit;

/// Each has these, whether somebody calls them yet or not.
const contract = .{
    .{ sys, "Lock library_lock Waker ThreadId Process allocator lockAllocator unlockAllocator" },
    .{ sys, "monotonicNs Deadline threadId forks usableProcessors yield pageSize prepareToWait" },
    .{ sys, "pendingOperations abort isShortage" },
    .{ sys, "would_block not_connected connection_aborted refused_connection busy" },
    .{ poll, "Sleeper Entry spare_entries wait entryOf conditionsOf" },
    .{ Transport, "receive look send canFinishWriting finishWriting conditionsNow" },
    .{ Transport, "takeError hasConnected isOfWrite resetAtEnd reasonIsRead reasonOfSevering tellsReasonLater" },
    .{ Transport, "watched fileno localAddress copyPathname peerCredentials detach" },
    .{ Transport, "prepareAbort sendsAfterClose close" },
    .{ Listener, "accept conditionsNow watched fileno localAddress namespace copyPathname prepareClose close" },
    .{ Selector, "open close arm rearm disarm snapshot discard changesNeedNotice reportToOthers isOver Snapshot" },
    .{ Selector, "show setAlarm" },
    .{ Selector.Snapshot, "start beginTurn wait isEmpty next signalsTaken" },
};

comptime {
    @setEvalBranchQuota(100_000);
    for (contract) |entry| {
        var names = std.mem.tokenizeScalar(u8, entry[1], ' ');
        while (names.next()) |name| {
            if (!@hasDecl(entry[0], name)) @compileError(@typeName(entry[0]) ++ " has no " ++ name);
        }
    }
}
