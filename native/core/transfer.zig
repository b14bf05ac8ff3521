//! Reading and writing that waits until all has come or gone: one call where a caller would make one for every piece,
//! and one for every wait.

const events = @import("../base/events.zig");
const handles = @import("handles.zig");
const places = @import("../base/places.zig");
const socket_events = @import("socket_events.zig");
const polling = @import("poll_sockets.zig");
const status = @import("../base/status.zig");

const Deadline = @import("../platform.zig").sys.Deadline;

/// What a call may change that other threads wait for.
pub const Before = struct {
    slot: *handles.Slot,
    known: events.Known,
    changes: u32,

    pub fn of(slot: *handles.Slot) Before {
        const stream = &slot.object.stream;
        return .{ .slot = slot, .known = stream.connection.known.load(), .changes = stream.changes() };
    }

    /// After a write.
    pub fn tell(before: Before) void {
        if (before.changes != before.slot.object.stream.changes()) tellOthers(before.slot, .of_change);
    }

    /// After a read. When the last byte of a remote end that has gone is read, this tells the threads that wait for the
    /// end. No kernel does.
    pub fn tellRead(before: Before, peeks: bool) void {
        const stream = &before.slot.object.stream;
        const now = stream.connection.known.load();
        if (now != before.known or (now.ended and !now.drained and !peeks)) return tellOthers(before.slot, .of_end);
        before.tell();
    }
};

/// How much was read now, at least a byte unless nothing is there.
pub fn read(slot: *handles.Slot, buffer: []u8, peek: bool, failure: *status.Failure) status.Error!usize {
    const before: Before = .of(slot);
    defer before.tellRead(peek);
    return slot.object.stream.read(buffer, peek, failure);
}

/// How much was written now.
pub fn write(slot: *handles.Slot, data: []const u8, failure: *status.Failure) status.Error!usize {
    const before: Before = .of(slot);
    defer before.tell();
    return slot.object.stream.write(data, failure);
}

/// Other threads may wait for what has become true, or has another plan now.
fn tellOthers(slot: *handles.Slot, news: enum { of_change, of_end }) void {
    handles.lock.lock();
    defer handles.lock.unlock();
    if (slot.waiting == 0 and slot.registrations.first == null) return;
    const known = slot.object.stream.connection.known.load();
    if (news == .of_end and known.ended and !known.drained) {
        var failure: status.Failure = .{};
        // If the look fails, the threads that wait ask now and then.
        _ = slot.object.stream.hasUnread(&failure) catch false;
    }
    socket_events.becameKnown(slot);
}

/// How much was read when the buffer was full, or nothing more came in time. What fails after the first byte is left
/// for the next call, so that no byte is lost.
pub fn readExactly(
    slot: *handles.Slot,
    buffer: []u8,
    begins: enum { by_reading, by_waiting },
    deadline: Deadline,
    failure: *status.Failure,
) status.Error!usize {
    const stream = &slot.object.stream;
    var goes_on: ?bool = null;
    var count: usize = 0;
    var ended = false;
    var reads = begins == .by_reading;
    while (true) {
        if (reads) {
            const taken = read(slot, buffer[count..], false, failure) catch |err| return if (count > 0) count else err;
            count += taken;
            if (count == buffer.len) return count;
            if (taken == 0) ended = ended or stream.connection.known.load().drained;
            if (ended) return if (count > 0) count else error.EndOfData;
        }
        // After less than it asked for, another read would only find nothing. The wait finds that out.
        if (deadline == .now) return count;
        var place = places.none;
        const asked = events.data_available | events.end_of_data;
        const happened = waitFor(slot, asked, deadline, &place, &goes_on, failure) catch |err|
            return if (count > 0) count else err;
        if (happened == 0) return count;
        ended = happened & events.data_available == 0;
        reads = true;
    }
}

/// How much was written when all was written, or there was no more room in time.
pub fn writeAll(
    slot: *handles.Slot,
    data: []const u8,
    deadline: Deadline,
    failure: *status.Failure,
) status.Error!usize {
    var goes_on: ?bool = null;
    var count: usize = 0;
    while (true) {
        // Taken before the write: a place that is taken later would miss a finish_writing in between.
        var place = polling.placeOf(&.{slot}, &.{events.write_space});
        count += write(slot, data[count..], failure) catch |err| return if (count > 0) count else err;
        if (count == data.len or deadline == .now) return count;
        const asked = events.write_space | events.connection_severed;
        const happened = waitFor(slot, asked, deadline, &place, &goes_on, failure) catch |err|
            return if (count > 0) count else err;
        if (happened & events.write_space != 0) continue;
        if (happened == 0 or count > 0) return count;
        return write(slot, data, failure);
    }
}

/// Whether the call is probably not the first piece of a wait: the last one found nothing in its time.
fn goesOn(slot: *handles.Slot) bool {
    handles.lock.lock();
    defer handles.lock.unlock();
    return slot.spinner.is_idle;
}

/// `goes_on` is the call's own: null before its first wait.
pub fn waitFor(
    slot: *handles.Slot,
    asked: u32,
    deadline: Deadline,
    place: *u32,
    goes_on: *?bool,
    failure: *status.Failure,
) status.Error!u32 {
    if (goes_on.* == null) goes_on.* = goesOn(slot);
    var happened: u32 = 0;
    _ = try polling.pollSockets(.{
        .sockets = &.{slot.handle()},
        .asked = &.{asked},
        .happened = (&happened)[0..1],
        .place = place,
        .goes_on = goes_on.*.?,
    }, deadline, failure);
    return happened;
}
