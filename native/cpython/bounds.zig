//! Bounds that the built-in functions share with the package: a test compares them with its own.

const std = @import("std");

/// Bytes: the package's COPY_HOLDING_GIL_MAX, which says why it is 65536.
pub const copy_holding_gil_max = 65536;

/// Bytes: what `read` and `receive` read of a stream if they aren't told.
pub const max_bytes_default = 65536;

/// Bytes. More is read into other memory than that of a `bytes` object, by the references.
pub const read_max = 1 << 20;

/// How many sockets one wait reports at the most, as many as that of the references.
pub const reports_max = 1024;

/// How long a wait may be before the package looks for signals.
pub const first_slice_ns = 5 * std.time.ns_per_ms;

/// How long it may be at the most, once it has lasted.
pub const last_slice_ns = std.time.ns_per_s;

/// How many messages one call receives of a stream at the most.
pub const messages_max = 1 << 20;

/// Bytes of messages, after which one call reads no more.
pub const messages_enough = 1 << 18;
