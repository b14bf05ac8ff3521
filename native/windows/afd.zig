//! AFD, the driver below Winsock: asks about sockets, and watches them.
//!
//! How it behaves, and its traps (undocumented, but what select() and WSAPoll are made of; wepoll, mio and libuv rely
//! on it too):
//!
//! - IOCTL_AFD_POLL goes to any handle of the device, not to the socket, and names the sockets it asks about. With a
//!   timeout of zero it is a question; else it completes once, when one of the conditions holds: at once if one does
//!   already. So it is level-triggered if it is begun again after each report.
//! - It wants the base handle of a socket: layered providers wrap it (SIO_BASE_HANDLE).
//! - RECEIVE tells of bytes only, the end of them is DISCONNECT; both hold together while bytes are unread. DISCONNECT
//!   is level-triggered too, so it must not be asked for once it is known. ABORT is a reset.
//! - While a socket is connecting, SEND tells that it has succeeded and CONNECT_FAIL that it has failed.
//! - The operation's block and the answer's memory are the system's until the packet is dequeued, also after it was
//!   cancelled.
//! - Wine 8 keeps DISCONNECT back until all bytes are read; and after a reset it still lets unread bytes be read, which
//!   Windows discards.

const std = @import("std");
const sys = @import("sys.zig");
const events = @import("../base/events.zig");
const status = @import("../base/status.zig");

pub const receive: u32 = 0x001;
pub const send: u32 = 0x004;
pub const disconnect: u32 = 0x008;
pub const abort: u32 = 0x010;
pub const local_close: u32 = 0x020;
pub const accept: u32 = 0x080;
pub const connect_fail: u32 = 0x100;

const everything = receive | send | disconnect | abort | local_close | accept | connect_fail;

const ioctl_poll = 0x00012024;

/// AFD_POLL_INFO for one socket.
pub const PollInformation = extern struct {
    /// In units of 100 ns; negative is relative to now.
    timeout: i64,
    count: u32 = 1,
    exclusive: u32 = 0,
    socket: sys.HANDLE,
    events: u32,
    status: sys.NtStatus = .success,
};

/// What to watch for. A severed connection and a failed attempt are reported unasked, as by every selector.
pub fn eventsOf(interest: events.Interest) u32 {
    var result = abort | local_close | connect_fail;
    // The end of the stream is readable.
    if (interest.readable) result |= receive | accept | disconnect;
    if (interest.writable) result |= send;
    if (interest.ended) result |= disconnect;
    return result;
}

fn conditionsOf(reported: u32) events.Conditions {
    const ended = reported & disconnect != 0;
    return .{
        .readable = reported & (receive | accept) != 0 or ended,
        .writable = reported & send != 0,
        .ended = ended,
        .severed = reported & (abort | local_close | connect_fail) != 0,
    };
}

fn open(synchronous: bool, failure: *status.Failure) status.Error!sys.HANDLE {
    const text = std.unicode.utf8ToUtf16LeStringLiteral("\\Device\\Afd\\bbipc");
    const size = text.len * 2;
    const name: sys.UNICODE_STRING = .{ .size = size, .size_max = size, .buffer = text };
    const attributes: sys.OBJECT_ATTRIBUTES = .{ .name = &name };
    const synchronize = 0x00100000;
    const share_all = 0x7;
    const open_existing = 1;
    const synchronous_io_nonalert = 0x20;
    var handle: sys.HANDLE = undefined;
    var block: sys.IO_STATUS_BLOCK = .{};
    const result = sys.NtCreateFile(
        &handle,
        synchronize,
        &attributes,
        &block,
        null,
        0,
        share_all,
        open_existing,
        if (synchronous) synchronous_io_nonalert else 0,
        null,
        0,
    );
    return if (result == .success) handle else failure.system(result.toCode());
}

// ---- Asking ----

/// The handle for questions, for the life of the process. A synchronous one: its calls return with the answer.
var asking: std.atomic.Value(?sys.HANDLE) = .init(null);

/// Before the first question.
pub fn prepare(failure: *status.Failure) status.Error!void {
    if (asking.load(.acquire) != null) return;
    const handle = try open(true, failure);
    // Another thread may have come first.
    if (asking.cmpxchgStrong(null, handle, .acq_rel, .acquire) != null) _ = sys.CloseHandle(handle);
}

/// What holds of a socket now.
pub fn conditionsNow(socket: sys.HANDLE) events.Conditions {
    // No answer: somebody closed the socket behind our back.
    return ask(socket) orelse .{ .severed = true };
}

/// Whether it is one of AFD's sockets, and none that wraps one.
pub fn knows(socket: sys.HANDLE) bool {
    return ask(socket) != null;
}

fn ask(socket: sys.HANDLE) ?events.Conditions {
    var block: sys.IO_STATUS_BLOCK = .{};
    const question: PollInformation = .{ .timeout = 0, .socket = socket, .events = everything };
    // Apart from the question: the system may write nothing when no condition holds.
    var answer: PollInformation = .{ .timeout = 0, .count = 0, .socket = socket, .events = 0 };
    const size = @sizeOf(PollInformation);
    const result = sys.NtDeviceIoControlFile(
        asking.load(.acquire).?,
        null,
        null,
        null,
        &block,
        ioctl_poll,
        &question,
        size,
        &answer,
        size,
    );
    if (result.isError()) return null;
    return if (answer.count == 0) .{} else conditionsOf(answer.events);
}

// ---- Watching ----

/// A handle for watching some of a port's sockets. The system looks through all polls of a handle when one of them
/// ends, so each serves a few.
pub const Helper = struct {
    handle: sys.HANDLE,
    watches_count: u32 = 0,

    pub const watches_max = 32;

    pub fn open(port: sys.HANDLE, failure: *status.Failure) status.Error!Helper {
        const handle = try afdOpen(false, failure);
        errdefer _ = sys.CloseHandle(handle);
        try sys.associate(port, handle, failure);
        return .{ .handle = handle };
    }

    pub fn close(helper: Helper) void {
        _ = sys.CloseHandle(helper.handle);
    }
};

const afdOpen = open;

/// One socket's watch: a poll that is with the system, or not. Must not move while it is.
pub const Poll = struct {
    block: sys.IO_STATUS_BLOCK = .{},
    information: PollInformation = undefined,

    /// False if the system refuses: then no packet comes. Otherwise a packet with this context comes in any case.
    pub fn submit(poll: *Poll, helper: sys.HANDLE, socket: sys.HANDLE, asked: u32, context: *anyopaque) bool {
        poll.block = .{};
        poll.information = .{ .timeout = std.math.maxInt(i64), .socket = socket, .events = asked };
        const size = @sizeOf(PollInformation);
        const result = sys.NtDeviceIoControlFile(
            helper,
            null,
            null,
            context,
            &poll.block,
            ioctl_poll,
            &poll.information,
            size,
            &poll.information,
            size,
        );
        return !result.isError();
    }

    pub fn cancel(poll: *Poll, helper: sys.HANDLE) void {
        sys.cancel(helper, &poll.block);
    }

    /// What it has reported and never changes back: a failed attempt to connect is not told twice everywhere.
    pub fn lasting(poll: *const Poll) events.Conditions {
        if (poll.block.now() != .success or poll.information.count == 0) return .{};
        return .{ .severed = poll.information.events & (abort | connect_fail) != 0 };
    }
};
