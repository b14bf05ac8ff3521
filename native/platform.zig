//! The only switch on the operating system in the library.
//!
//! What a platform supplies, under the same names on every system:
//!
//!   sys        Lock, Waker, monotonicNs, processId, abort
//!   tcp        listen, connect: IPv4 servers and streams
//!   local      listen, connect, pathname_max: local servers and streams
//!   Server     accept, localAddress, prepareClose, deinit, descriptor; eventsOf: what a selector's report means
//!   Stream     read, write, finishWriting, connectionError, localAddress, remoteAddress, deinit, descriptor, known,
//!              probe; eventsOf
//!   Selector   one of the system's ways of watching many sockets (open, close, arm, rearm, disarm, snapshot, wait),
//!              chosen by a Backend
//!   poll       the wait behind bbipc_poll_socket and bbipc_poll_sockets
//!
//! architecture.md says which files they live in.

const builtin = @import("builtin");

const implementation = switch (builtin.os.tag) {
    .linux => @import("posix/posix.zig"),
    else => @compileError("bbipc does not support this operating system yet"),
};

pub const sys = implementation.sys;
pub const tcp = implementation.tcp;
pub const local = implementation.local;
pub const Server = implementation.Server;
pub const Stream = implementation.Stream;
pub const Selector = implementation.Selector;
pub const Backend = implementation.Backend;
pub const poll = implementation.poll;
