//! Calls of the library: with the GIL or without, and what comes of them in one number.
//!
//! Short calls that can't block keep the GIL. Waits, and copies of more than `copy_holding_gil_max` bytes, release it.
//!
//! That number is the outcome: zero or more is the answer, less is a failure, which carries its status and the system's
//! code. bbipc/_native/results.py takes it apart.

const bounds = @import("bounds.zig");
const calls = @import("../calls.zig");
const python = @import("api.zig");
const status = @import("../base/status.zig");

const api = &python.api;

/// `function` of these arguments.
pub fn call(comptime function: anytype, arguments: anytype) i64 {
    var failure: status.Failure = .{};
    const all = if (comptime calls.takesFailure(function)) arguments ++ .{&failure} else arguments;
    return calls.numberOf(@call(.auto, function, all) catch |err| return failureOf(err, &failure));
}

fn failureOf(err: status.Error, failure: *const status.Failure) i64 {
    const code = if (status.carriesSystemCode(err)) failure.system_code else 0;
    return pack(status.fromError(err), code);
}

/// The outcome of a call that would fail with this.
pub fn outcomeOf(err: status.Error) i64 {
    return pack(status.fromError(err), 0);
}

const status_bits = 8;

fn pack(number: i64, code: i64) i64 {
    return -((code << status_bits) | -number);
}

/// Whether the outcome is this failure.
fn isError(outcome: i64, err: status.Error) bool {
    if (outcome >= 0) return false;
    return -outcome & ((1 << status_bits) - 1) == -status.fromError(err);
}

/// Without the GIL.
pub fn callReleasing(comptime function: anytype, arguments: anytype) i64 {
    const thread = api.PyEval_SaveThread();
    defer api.PyEval_RestoreThread(thread);
    return call(function, arguments);
}

/// Without the GIL for a wait, or for more bytes than may be copied with it.
pub fn callReleasingIf(releases: bool, comptime function: anytype, arguments: anytype) i64 {
    return if (releases) callReleasing(function, arguments) else call(function, arguments);
}

/// Whether a copy of this size releases the GIL.
pub fn isMuch(bytes_count: usize) bool {
    return bytes_count > bounds.copy_holding_gil_max;
}

/// Releases the GIL now and then among calls that keep it: when together they would copy more than one call may.
pub const Turns = struct {
    copied: u64 = 0,

    /// The other cost of a call, as a number of copied bytes.
    const call_bytes = 512;

    /// With the number of bytes that the call copies, at the most or most likely.
    pub fn call(turns: *Turns, copies: u64, comptime function: anytype, arguments: anytype) i64 {
        const releases = turns.copied +| copies > bounds.copy_holding_gil_max;
        if (releases) turns.copied = 0;
        const outcome = callReleasingIf(releases, function, arguments);
        turns.copied += call_bytes;
        if (outcome > 0 and !releases) turns.copied += @intCast(outcome);
        return outcome;
    }
};

/// The outcome of a piece of a wait. Where the wait goes on, after a signal or because the time of this piece is up, it
/// carries the wait's place.
pub fn placed(outcome: i64, timeout_ns: i64, place: u32) i64 {
    if (outcome == 0) return if (timeout_ns != 0) pack(0, place) else 0;
    return if (isInterrupted(outcome)) pack(status.fromError(error.Interrupted), place) else outcome;
}

pub fn isInterrupted(outcome: i64) bool {
    return isError(outcome, error.Interrupted);
}

pub fn isWoken(outcome: i64) bool {
    return isError(outcome, error.Woken);
}
