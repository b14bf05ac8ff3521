//! Reading and writing that waits until all has come or gone: one call where a caller would make one for every piece, and
//! one for every wait.

const deadlines = @import("deadline.zig");
const events = @import("events.zig");
const handles = @import("handles.zig");
const polling = @import("poll_sockets.zig");
const status = @import("status.zig");

const Deadline = deadlines.Deadline;

/// How much was read when the buffer was full, or nothing more came in time. What fails after the first byte is left for the
/// next call, so that no byte is lost.
pub fn readExactly(
    slot: *handles.Slot,
    buffer: []u8,
    begins: enum { by_reading, by_waiting },
    deadline: Deadline,
    failure: *status.Failure,
) status.Error!usize {
    const stream = &slot.object.stream;
    var count: usize = 0;
    var ended = false;
    var reads = begins == .by_reading;
    while (true) {
        if (reads) {
            const taken = stream.read(buffer[count..], false, failure) catch |err| return if (count > 0) count else err;
            count += taken;
            if (count == buffer.len) return count;
            if (taken == 0) ended = ended or stream.connection.known.load().drained;
            if (ended) return if (count > 0) count else error.EndOfData;
        }
        // After less than it asked for, to read again would only tell that nothing is there. The wait does.
        if (deadline == .now) return count;
        const happened = waitFor(slot, events.data_available | events.end_of_data, deadline, failure) catch |err|
            return if (count > 0) count else err;
        if (happened == 0) return count;
        ended = happened & events.data_available == 0;
        reads = true;
    }
}

/// How much was written when all was, or no more had room in time.
pub fn writeAll(slot: *handles.Slot, data: []const u8, deadline: Deadline, failure: *status.Failure) status.Error!usize {
    const stream = &slot.object.stream;
    var count: usize = 0;
    while (true) {
        count += stream.write(data[count..], failure) catch |err| return if (count > 0) count else err;
        if (count == data.len or deadline == .now) return count;
        const happened = waitFor(slot, events.write_space | events.connection_severed, deadline, failure) catch |err|
            return if (count > 0) count else err;
        if (happened & events.write_space != 0) continue;
        if (happened == 0 or count > 0) return count;
        return stream.write(data, failure);
    }
}

fn waitFor(slot: *handles.Slot, asked: u32, deadline: Deadline, failure: *status.Failure) status.Error!u32 {
    var happened: u32 = 0;
    _ = try polling.pollSockets(.{
        .sockets = &.{slot.handle()},
        .asked = &.{asked},
        .happened = (&happened)[0..1],
    }, deadline, failure);
    return happened;
}
