//! Messages: bytes with their size before them (base/framing.zig), on any stream. What has come of one is kept in the
//! stream until all of it is there, and so is the rest of one that the system has not taken.

const std = @import("std");
const blocks = @import("blocks.zig");
const copying = @import("../base/copying.zig");
const events = @import("../base/events.zig");
const framing = @import("../base/framing.zig");
const handles = @import("handles.zig");
const places = @import("../base/places.zig");
const polling = @import("poll_sockets.zig");
const status = @import("../base/status.zig");
const transfer = @import("transfer.zig");
const Mailbox = @import("mailbox.zig").Mailbox;
const Outbox = @import("outbox.zig").Outbox;
const Stream = @import("stream.zig").Stream;

const Deadline = @import("../platform.zig").sys.Deadline;

fn mailboxOf(slot: *handles.Slot) status.Error!*Mailbox {
    const stream = &slot.object.stream;
    if (stream.mailbox.load(.acquire)) |mailbox| return mailbox;
    handles.lock.lock();
    defer handles.lock.unlock();
    return stream.needMailbox();
}

pub fn sizeMax(slot: *handles.Slot) status.Error!u64 {
    const mailbox = try mailboxOf(slot);
    mailbox.incoming.lock.lock();
    defer mailbox.incoming.lock.unlock();
    return mailbox.incoming.message_size_max;
}

pub fn setSizeMax(slot: *handles.Slot, size: u64) status.Error!void {
    const mailbox = try mailboxOf(slot);
    const before: transfer.Before = .of(slot);
    defer before.tell();
    mailbox.incoming.lock.lock();
    defer mailbox.incoming.lock.unlock();
    mailbox.incoming.message_size_max = size;
    // What has come may be allowed now.
    mailbox.noteIncoming();
}

// ---- Receiving ----

/// One taking of what has come, with the lock of that.
const Taking = struct {
    stream: *Stream,
    mailbox: *Mailbox,
    before: transfer.Before,
    /// Whether the last read has found less than there was room for.
    is_short: bool = false,

    fn begin(slot: *handles.Slot) status.Error!Taking {
        const mailbox = try mailboxOf(slot);
        const before: transfer.Before = .of(slot);
        mailbox.incoming.lock.lock();
        return .{ .stream = &slot.object.stream, .mailbox = mailbox, .before = before };
    }

    /// After `settleIncoming`.
    fn end(taking: *const Taking) void {
        taking.mailbox.incoming.lock.unlock();
        taking.before.tellRead(false);
    }

    /// Reads once more. False if nothing comes now; an error if nothing will. After a short read another would only
    /// find nothing, or the end, which matters to who has taken nothing yet.
    fn readMore(taking: *Taking, has_taken: bool, failure: *status.Failure) status.Error!bool {
        if (taking.is_short and has_taken) return false;
        const incoming = &taking.mailbox.incoming;
        const count = taking.stream.fill(taking.mailbox, failure) catch |err| {
            const has_ended = taking.stream.connection.known.load().drained;
            return if (has_ended and !incoming.isEmpty()) error.MessageCut else err;
        };
        taking.is_short = incoming.end < incoming.memory.len;
        if (count > 0) return true;
        if (!taking.stream.connection.known.load().drained) return false;
        return if (incoming.isEmpty()) error.EndOfData else error.MessageCut;
    }
};

/// Gives whole messages to the taker while it takes them (`take`), and reads what has come unless it has enough
/// (`hasEnough`). How many it has taken. An error is left for the next call unless there are none.
pub fn takeNow(slot: *handles.Slot, taker: anytype, failure: *status.Failure) status.Error!usize {
    var taking: Taking = try .begin(slot);
    defer taking.end();
    defer taking.mailbox.settleIncoming();
    const incoming = &taking.mailbox.incoming;
    var count: usize = 0;
    while (true) {
        switch (incoming.front()) {
            .message => |message| {
                if (!taker.take(incoming.bodyOf(message))) return count;
                incoming.removeMessage(message);
                count += 1;
                continue;
            },
            .too_large => return if (count > 0) count else error.MessageTooLarge,
            .incomplete => {},
        }
        if (count > 0 and taker.hasEnough()) return count;
        const goes_on = taking.readMore(count > 0, failure) catch |err| return if (count > 0) count else err;
        if (!goes_on) return count;
    }
}

/// Gives the bytes up to and with the delimiter to the taker, if they have come. They are at most `size_max`. The place
/// is that of a wait for more.
pub fn takeUntilNow(
    slot: *handles.Slot,
    delimiter: []const u8,
    size_max: usize,
    taker: anytype,
    place: *u32,
    failure: *status.Failure,
) status.Error!bool {
    var taking: Taking = try .begin(slot);
    defer taking.end();
    // Nobody else moves bytes before the lock is released.
    defer place.* = polling.placeOf(&.{slot}, &.{events.inside.more_data});
    defer taking.mailbox.settleIncoming();
    const incoming = &taking.mailbox.incoming;
    var searched: usize = 0;
    while (true) {
        const unread = incoming.unread();
        const within = unread[0..@min(unread.len, size_max)];
        if (std.mem.indexOfPos(u8, within, searched, delimiter)) |start| {
            const end = start + delimiter.len;
            if (!taker.take(within[0..end])) return false;
            incoming.remove(end);
            return true;
        }
        if (unread.len >= size_max) return error.MessageTooLarge;
        searched = unread.len -| (delimiter.len - 1);
        if (!try taking.readMore(false, failure)) return false;
    }
}

/// Copies one message, or says how large it is.
pub const CopyTaker = struct {
    buffer: []u8,
    /// Of the message, whether it was copied or not.
    size: ?usize = null,

    pub fn take(taker: *CopyTaker, body: []const u8) bool {
        if (taker.size != null) return false;
        taker.size = body.len;
        if (body.len > taker.buffer.len) return false;
        copying.copy(taker.buffer, body);
        return true;
    }

    pub fn hasEnough(_: *const CopyTaker) bool {
        return true;
    }
};

pub const Received = enum { nothing, message, larger_than_room };

/// The next message, when it is whole, if it comes in time.
pub fn receive(
    slot: *handles.Slot,
    buffer: []u8,
    size: *usize,
    deadline: Deadline,
    failure: *status.Failure,
) status.Error!Received {
    var goes_on: ?bool = null;
    while (true) {
        var taker: CopyTaker = .{ .buffer = buffer };
        const count = try takeNow(slot, &taker, failure);
        if (taker.size) |its_size| {
            size.* = its_size;
            return if (count > 0) .message else .larger_than_room;
        }
        if (deadline == .now) return .nothing;
        if (!try waitForMessage(slot, deadline, &goes_on, failure)) return .nothing;
    }
}

/// False when the time is up.
pub fn waitForMessage(
    slot: *handles.Slot,
    deadline: Deadline,
    goes_on: *?bool,
    failure: *status.Failure,
) status.Error!bool {
    var place = places.none;
    const asked = events.message_available | events.end_of_data;
    return try transfer.waitFor(slot, asked, deadline, &place, goes_on, failure) != 0;
}

/// For bytes that the stream had not at that place. False when the time is up.
fn waitForMore(
    slot: *handles.Slot,
    deadline: Deadline,
    place: *u32,
    goes_on: *?bool,
    failure: *status.Failure,
) status.Error!bool {
    const happened = transfer.waitFor(slot, events.inside.more_data, deadline, place, goes_on, failure) catch |err|
        // Another thread has brought them.
        return if (err == error.Woken) true else err;
    return happened != 0;
}

/// How many bytes were read up to and with the delimiter, 0 if it did not come in time.
pub fn readUntil(
    slot: *handles.Slot,
    delimiter: []const u8,
    buffer: []u8,
    deadline: Deadline,
    failure: *status.Failure,
) status.Error!usize {
    var goes_on: ?bool = null;
    while (true) {
        var taker: CopyTaker = .{ .buffer = buffer };
        var place = places.none;
        if (try takeUntilNow(slot, delimiter, buffer.len, &taker, &place, failure)) return taker.size.?;
        if (deadline == .now) return 0;
        if (!try waitForMore(slot, deadline, &place, &goes_on, failure)) return 0;
    }
}

// ---- Sending ----

/// Bytes. A message of this size or less leaves in one piece with its header.
const whole_max = 16 * 1024;

/// Messages in a block, with their headers.
const Pack = struct {
    /// How many messages, at least one.
    count: usize = 0,
    /// Bytes of the block.
    size: usize = 0,
    /// What the block lacks of the last message.
    more: []const u8 = &.{},

    /// As many as there is room for; or the beginning of a large one alone.
    fn of(block: *blocks.Block, messages: []const []const u8) Pack {
        var pack: Pack = .{};
        for (messages) |message| {
            const is_large = message.len > whole_max;
            if (pack.count > 0 and (is_large or pack.size + framing.header_max + message.len > block.len)) break;
            pack.size += framing.write(block[pack.size..][0..framing.header_max], message.len);
            const here = if (is_large) whole_max else message.len;
            copying.copy(block[pack.size..], message[0..here]);
            pack.size += here;
            pack.count += 1;
            pack.more = message[here..];
            if (is_large) break;
        }
        return pack;
    }

    /// Keeps what is left of the message in which the system stopped, and returns how many are taken with that.
    fn keepCut(pack: Pack, block: *const blocks.Block, sent: usize, outgoing: *Outbox) status.Error!usize {
        var start: usize = 0;
        for (0..pack.count) |index| {
            const header = framing.parse(block[start..pack.size]).header;
            const end = @min(start + header.size + header.body_size, pack.size);
            if (sent == start) return index;
            if (sent < end) {
                try outgoing.keep(block[sent..@intCast(end)], if (end == pack.size) pack.more else &.{});
                return index + 1;
            }
            start = @intCast(end);
        }
        return pack.count;
    }
};

pub const Sent = struct {
    /// How many messages the system has taken, or the stream keeps the rest of.
    count: usize,
    /// Whether it keeps the rest of the last one.
    is_rest_left: bool,
};

/// Hands over as many messages as can go now, in their order. `lends` says that their memory stays until `endLoan`.
pub fn sendNow(
    slot: *handles.Slot,
    messages: []const []const u8,
    lends: bool,
    failure: *status.Failure,
) status.Error!Sent {
    const mailbox = try mailboxOf(slot);
    const before: transfer.Before = .of(slot);
    defer before.tell();
    const outgoing = &mailbox.outgoing;
    outgoing.lock.lock();
    defer outgoing.lock.unlock();
    if (!try slot.object.stream.sendRest(mailbox, failure)) return .{ .count = 0, .is_rest_left = true };
    defer mailbox.noteOutgoing();
    const block = try blocks.take();
    defer blocks.giveBack(block);
    var count: usize = 0;
    while (count < messages.len and outgoing.isEmpty()) {
        const taken = sendPack(&slot.object.stream, outgoing, block, messages[count..], lends, failure) catch |err|
            return if (count > 0) .{ .count = count, .is_rest_left = false } else err;
        if (taken == 0) break;
        count += taken;
    }
    return .{ .count = count, .is_rest_left = !outgoing.isEmpty() };
}

/// How many of the first messages were taken, 0 if there is no room.
fn sendPack(
    stream: *Stream,
    outgoing: *Outbox,
    block: *blocks.Block,
    messages: []const []const u8,
    lends: bool,
    failure: *status.Failure,
) status.Error!usize {
    const pack: Pack = .of(block, messages);
    const sent = try stream.send(block[0..pack.size], failure);
    if (sent < pack.size) return pack.keepCut(block, sent, outgoing);
    var more = pack.more;
    while (more.len > 0) {
        // What fails in the middle of a message, fails again for whoever sends its rest.
        const count = stream.send(more, failure) catch 0;
        more = more[count..];
        if (count > 0) continue;
        if (lends) outgoing.borrow(more) else try outgoing.keep(more, &.{});
        break;
    }
    return pack.count;
}

/// The memory of a message that was lent goes.
pub fn endLoan(slot: *handles.Slot, message: []const u8) status.Error!void {
    const mailbox = try mailboxOf(slot);
    mailbox.outgoing.lock.lock();
    defer mailbox.outgoing.lock.unlock();
    defer mailbox.noteOutgoing();
    if (mailbox.outgoing.isIn(message)) try mailbox.outgoing.own();
}

/// Hands over messages, and waits for room until all have gone, or the time is up. An error is left for the next call
/// unless none has been taken.
pub fn send(
    slot: *handles.Slot,
    messages: []const []const u8,
    deadline: Deadline,
    failure: *status.Failure,
) status.Error!Sent {
    if (deadline == .now) return sendNow(slot, messages, false, failure);
    const sent = try sendLent(slot, messages, deadline, failure);
    if (sent.count > 0) try endLoan(slot, messages[sent.count - 1]);
    return sent;
}

/// The same for messages whose memory stays until `endLoan`.
pub fn sendLent(
    slot: *handles.Slot,
    messages: []const []const u8,
    deadline: Deadline,
    failure: *status.Failure,
) status.Error!Sent {
    var sent: Sent = .{ .count = 0, .is_rest_left = false };
    // Nobody can end the loan of a stream that is closed.
    defer if (slot.isClosed()) slot.object.stream.endLoans();
    if (deadline == .now) return sendNow(slot, messages, true, failure);
    sendWaiting(slot, messages, deadline, &sent, failure) catch |err| return if (sent.count > 0) sent else err;
    return sent;
}

fn sendWaiting(
    slot: *handles.Slot,
    messages: []const []const u8,
    deadline: Deadline,
    sent: *Sent,
    failure: *status.Failure,
) status.Error!void {
    var goes_on: ?bool = null;
    var is_severed = false;
    while (true) {
        // Taken before anything is sent: a place that is taken later would miss a finish_writing in between.
        var place = polling.placeOf(&.{slot}, &.{events.message_space});
        const now = try sendNow(slot, messages[sent.count..], true, failure);
        sent.count += now.count;
        sent.is_rest_left = now.is_rest_left;
        const are_all_taken = sent.count == messages.len;
        if (are_all_taken and !now.is_rest_left) return;
        if (is_severed) return;
        const asked = if (are_all_taken) events.inside.flushed else events.message_space;
        const wanted = asked | events.connection_severed;
        const happened = try transfer.waitFor(slot, wanted, deadline, &place, &goes_on, failure);
        if (happened == 0) return;
        is_severed = happened & asked == 0;
    }
}

/// Whether nothing is left to be sent, when that is so or the time is up.
pub fn drain(slot: *handles.Slot, deadline: Deadline, failure: *status.Failure) status.Error!bool {
    if (deadline == .now) return !(try sendNow(slot, &.{}, false, failure)).is_rest_left;
    var sent: Sent = .{ .count = 0, .is_rest_left = false };
    try sendWaiting(slot, &.{}, deadline, &sent, failure);
    return !sent.is_rest_left;
}

/// How many bytes are left to be sent, after another try.
pub fn unsent(slot: *handles.Slot) usize {
    const stream = &slot.object.stream;
    const mailbox = stream.mailbox.load(.acquire) orelse return 0;
    const before: transfer.Before = .of(slot);
    defer before.tell();
    mailbox.outgoing.lock.lock();
    defer mailbox.outgoing.lock.unlock();
    var ignored: status.Failure = .{};
    _ = stream.sendRest(mailbox, &ignored) catch {};
    return mailbox.outgoing.rest.len;
}

/// How many bytes are lost when the stream closes now.
pub fn lostByClose(slot: *handles.Slot) usize {
    const left = unsent(slot);
    return if (slot.object.stream.transport.sendsAfterClose()) 0 else left;
}
