//! The failures that the library knows, and their numbers in bbipc.h.

/// What can go wrong inside the library. The system's own code travels beside it, in a `Failure`.
pub const Error = error{
    InvalidArgument,
    InvalidHandle,
    WrongKind,
    WrongEvents,
    System,
    OutOfMemory,
    NoConnection,
    NoLocalServer,
    NameTooLong,
    Interrupted,
    AlreadyMonitored,
    NotMonitored,
    WrongProcess,
    Unsupported,
    Woken,
    EndOfData,
    MessageTooLarge,
    MessageCut,
    ServerRunning,
};

/// What an error can't carry: filled in before the error is returned.
pub const Failure = struct {
    /// The system's code. Meaningful where `carriesSystemCode` says so.
    system_code: i32 = 0,
    /// Which of several sockets was at fault.
    index: ?usize = null,

    /// So that a call site can say `return failure.system(code)`.
    pub fn system(failure: *Failure, code: i32) Error {
        failure.system_code = code;
        return error.System;
    }
};

/// Exhaustive, so that an error without a number does not compile.
pub fn fromError(err: Error) i64 {
    return switch (err) {
        error.InvalidArgument => -1,
        error.InvalidHandle => -2,
        error.WrongKind => -3,
        error.WrongEvents => -4,
        error.System => -5,
        error.OutOfMemory => -6,
        error.NoConnection => -7,
        error.NoLocalServer => -8,
        error.NameTooLong => -9,
        error.Interrupted => -10,
        error.AlreadyMonitored => -11,
        error.NotMonitored => -12,
        error.WrongProcess => -13,
        error.Unsupported => -14,
        error.Woken => -15,
        error.EndOfData => -16,
        error.MessageTooLarge => -17,
        error.MessageCut => -18,
        error.ServerRunning => -19,
    };
}

pub fn carriesSystemCode(err: Error) bool {
    return switch (err) {
        error.System, error.NoConnection, error.NoLocalServer, error.ServerRunning => true,
        else => false,
    };
}

/// One for each number, in order: messages[n] explains -(n + 1).
pub const messages = [_][*:0]const u8{
    "an argument is outside what the function allows",
    "no such handle: it is closed, or was never given",
    "the handle is of another kind than the function needs",
    "the socket's kind can't have one of the events",
    "the operating system refused: see its own code",
    "out of memory, or out of handles",
    "no connection waits to be accepted",
    "no server listens at the pathname",
    "the pathname is too long for a local socket",
    "a signal handler ran: call again with the time that is left",
    "the poller monitors the socket already",
    "the poller does not monitor the socket",
    "the poller belongs to another process: make one after fork()",
    "this system can't do it",
    "the wait was ended by a wake-up",
    "every byte has been read and no more will come",
    "the message is longer than the stream's max_message_size allows, or is none",
    "the remote end has gone in the middle of a message",
    "another server lives at the pathname, or is about to",
};

pub fn message(code: i64) [*:0]const u8 {
    if (code >= 0) return "success";
    if (code < -@as(i64, messages.len)) return "an unknown error code";
    return messages[@intCast(-code - 1)];
}

const testing = @import("std").testing;

test "every error has a number and a message of its own" {
    var seen: [messages.len]bool = @splat(false);
    inline for (@typeInfo(Error).error_set.error_names.?) |name| {
        const code = fromError(@field(Error, name));
        const index: usize = @intCast(-code - 1);
        try testing.expect(!seen[index]);
        seen[index] = true;
    }
    for (seen) |one| try testing.expect(one);
}

test "codes that were never given have a message too" {
    const std = @import("std");
    for ([_]i64{ 1, -20, std.math.minInt(i64), std.math.maxInt(i64) }) |code| {
        try testing.expect(std.mem.span(message(code)).len > 0);
    }
}
