//! What transports tell of a system call that moves bytes.

/// What became of the call. core/stream.zig says what follows from it.
pub const Outcome = union(enum) {
    count: usize,
    /// Not now.
    nothing,
    /// The call alone failed, by the kernel or by a sandbox, with the system's code. It says nothing of the connection.
    refused: i32,
    /// The descriptor is not the stream's any more: somebody closed it behind our back.
    not_ours: i32,
    /// The connection has failed. The code is 0 where the system tells no reason.
    broken: i32,
};
