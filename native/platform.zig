//! The only switch on the operating system in the library, but for the one of the POSIX side: posix/sys.zig.
//!
//! What a platform supplies, under the same names on every system:
//!
//!   sys        Lock, Waker, Descriptor, ThreadId, Process, allocator, lockAllocator, unlockAllocator, monotonicNs, threadId,
//!              forks, yield, pageSize, prepareToWait, pendingOperations, finishWrites, abort
//!   tcp        listen, connect: IPv4 servers and streams
//!   local      listen, connect, pathname_max, pathname_limit: local servers and streams
//!   Server     accept, localAddress, prepareClose, deinit, fileno; watched: what selectors watch of it; eventsOf: what a
//!              selector's report means; probe: what holds now
//!   Stream     read, write, finishWriting, connectionError, localAddress, remoteAddress, prepareAbort, deinit, fileno;
//!              connection: what is known of it; watched, eventsOf, probe
//!   Selector   one of the system's ways of watching many sockets, chosen by a Backend: open, close, arm, rearm, disarm,
//!              snapshot, discard, changesNeedNotice, reportToOthers, hearsLate, hear; Snapshot: wait, next, signalsTaken, outdated
//!   entryPoint what the system calls when it loads the library, or nothing
//!   poll       the wait behind bbipc_poll_socket and bbipc_poll_sockets: Sleeper, Entry, wait
//!
//! architecture.md says which files they live in.

const builtin = @import("builtin");

const implementation = switch (builtin.os.tag) {
    .linux, .macos, .freebsd => @import("posix/posix.zig"),
    .windows => @import("windows/windows.zig"),
    else => @compileError("bbipc does not support this operating system"),
};

pub const sys = implementation.sys;
pub const tcp = implementation.tcp;
pub const local = implementation.local;
pub const Server = implementation.Server;
pub const Stream = implementation.Stream;
pub const Selector = implementation.Selector;
pub const Backend = implementation.Backend;
pub const poll = implementation.poll;
pub const entryPoint = implementation.entryPoint;
