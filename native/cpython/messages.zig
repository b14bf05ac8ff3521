//! Sending and receiving messages: the built-in functions, and the built-in methods of streams.

const arguments = @import("arguments.zig");
const bounds = @import("bounds.zig");
const bytes = @import("bytes.zig");
const calling = @import("calling.zig");
const calls = @import("../calls.zig");
const methods = @import("methods.zig");
const python = @import("api.zig");
const status = @import("../base/status.zig");
const streams = @import("streams.zig");

const Handle = calls.Handle;
const Object = python.Object;
const Remaining = methods.Remaining;
const Returned = arguments.Returned;
const api = &python.api;

// ---- Sending ----

/// Twice how many messages were taken, and one more if the stream keeps the rest of the last.
fn send(stream: Handle, all: []const []const u8, timeout_ns: i64, failure: *status.Failure) status.Error!i64 {
    return numberOf(try calls.sendMessages(stream, all, timeout_ns, failure));
}

fn numberOf(sent: calls.Sent) i64 {
    return @intCast(2 * sent.count + @intFromBool(sent.count > 0 and sent.is_rest_left));
}

/// The same: first what can go now, with the GIL if it is little. What is much is copied only if the time is up.
pub fn sendInTime(stream: Handle, all: []const []const u8, size: usize, timeout_ns: i64) i64 {
    if (calling.isMuch(size)) return calling.callReleasing(send, .{ stream, all, timeout_ns });
    const first = calling.call(send, .{ stream, all, 0 });
    if (first < 0 or first == 2 * all.len or timeout_ns == 0) return first;
    const count: usize = @intCast(@divFloor(first, 2));
    if (count < all.len) {
        const second = calling.callReleasing(send, .{ stream, all[count..], timeout_ns });
        if (second > 0) return @intCast(2 * count + @as(usize, @intCast(second)));
        return if (count > 0) first else second;
    }
    return if (calling.callReleasing(calls.drain, .{ stream, timeout_ns }) == 1) first - 1 else first;
}

/// The bytes of messages that are nothing but `bytes`, and their objects, which stay.
const Messages = struct {
    memory: *anyopaque,
    slices: [][]const u8,
    objects: []*Object,
    known: usize = 0,
    size: usize = 0,

    fn make(count: usize) ?Messages {
        const memory = api.PyMem_Malloc(count * (@sizeOf([]const u8) + @sizeOf(*Object))) orelse {
            _ = api.PyErr_NoMemory();
            return null;
        };
        const slices: [*][]const u8 = @ptrCast(@alignCast(memory));
        const objects: [*]*Object = @ptrCast(@alignCast(slices + count));
        return .{ .memory = memory, .slices = slices[0..count], .objects = objects[0..count] };
    }

    /// False for an item of another type; an exception may be set.
    fn read(messages: *Messages, list: *Object, start: usize) bool {
        for (messages.slices, messages.objects, start..) |*slice, *object, place| {
            object.* = api.PySequence_GetItem(list, @intCast(place)) orelse return false;
            messages.known += 1;
            slice.* = bytesOf(object.*) orelse return false;
            messages.size += slice.len;
        }
        return true;
    }

    fn release(messages: *const Messages) void {
        for (messages.objects[0..messages.known]) |object| api.Py_DecRef(object);
        api.PyMem_Free(messages.memory);
    }
};

/// Null for another object than `bytes`.
pub fn bytesOf(object: *Object) ?[]const u8 {
    if (!arguments.isExactly(object, api.PyBytes_Type)) return null;
    return bytes.all(object, @intCast(api.PyBytes_Size(object)));
}

/// send_messages(handle, messages, start, timeout_ns) -> twice how many were taken in time, and one more if the stream
/// keeps the rest of the last; or a failure
pub fn sendMessages(given: *const [4]*Object) Returned {
    const handle = arguments.numberOf(Handle, given[0]) orelse return error.Unusual;
    const start = arguments.sizeOf(given[2]) orelse return error.Unusual;
    const timeout_ns = arguments.numberOf(i64, given[3]) orelse return error.Unusual;
    if (!arguments.isExactly(given[1], api.PyList_Type)) return error.Unusual;
    const count: usize = @intCast(api.PyList_Size(given[1]));
    if (start >= count) return error.Unusual;
    var messages = Messages.make(count - start) orelse return null;
    defer messages.release();
    if (!messages.read(given[1], start)) return error.Unusual;
    return arguments.numberObject(sendInTime(handle, messages.slices, messages.size, timeout_ns));
}

fn sendLent(stream: Handle, message: []const u8, timeout_ns: i64, failure: *status.Failure) status.Error!i64 {
    return numberOf(try calls.sendLent(stream, message, timeout_ns, failure));
}

/// One message that is sent in pieces of time, as its memory stays.
const Sending = struct {
    stream: Handle,
    data: []const u8,
    /// As `send` has it, of what is sent so far.
    outcome: i64 = 0,
    /// A failure, or 0.
    failure: i64 = 0,

    const all_gone = 2;

    /// False with an exception set, for a signal's handler has raised.
    fn run(sending: *Sending, remaining: *const Remaining) bool {
        defer sending.endLoan();
        const is_much = calling.isMuch(sending.data.len);
        sending.keep(calling.callReleasingIf(is_much, sendLent, .{ sending.stream, sending.data, 0 }));
        var slice_ns: u64 = bounds.first_slice_ns;
        while (sending.outcome != all_gone and sending.failure == 0) {
            const left_ns = remaining.deadline.remainingNs() orelse bounds.last_slice_ns;
            if (left_ns == 0) break;
            const was_interrupted = sending.goOn(@intCast(@min(left_ns, slice_ns)));
            if (api.PyErr_CheckSignals() != 0) return false;
            slice_ns = if (was_interrupted) bounds.first_slice_ns else @min(2 * slice_ns, bounds.last_slice_ns);
        }
        return true;
    }

    /// Whether a signal has ended it.
    fn goOn(sending: *Sending, timeout_ns: i64) bool {
        const result = if (sending.outcome == 0)
            calling.callReleasing(sendLent, .{ sending.stream, sending.data, timeout_ns })
        else
            calling.callReleasing(calls.drain, .{ sending.stream, timeout_ns });
        if (calling.isInterrupted(result)) return true;
        if (calling.isWoken(result)) return false;
        if (result < 0 or sending.outcome == 0) {
            sending.keep(result);
        } else if (result == 1) sending.outcome = all_gone;
        return false;
    }

    fn keep(sending: *Sending, result: i64) void {
        if (result < 0) sending.failure = result else sending.outcome = result;
    }

    fn endLoan(sending: *Sending) void {
        if (sending.outcome == 0 or sending.outcome == all_gone) return;
        const result = calling.callReleasing(calls.endLoan, .{ sending.stream, sending.data });
        // For want of memory the rest is lost: it does not go out by itself.
        if (result < 0 and sending.failure == 0) sending.failure = result;
    }
};

/// send_message(self, data, timeout=None)
pub fn sendMessageMethod(stream: *Object, given: anytype) Returned {
    const data_object = given.get(.data) orelse return error.Unusual;
    const remaining: Remaining = try .of(given.get(.timeout));
    const handle = methods.handleOf(stream) orelse return error.Unusual;
    var piece = arguments.Piece.of(data_object, .reading, null, null) orelse return error.Unusual;
    defer piece.release();
    var sending: Sending = .{ .stream = handle, .data = piece.bytes() };
    if (!sending.run(&remaining)) return null;
    if (sending.outcome == Sending.all_gone) return python.none();
    const failure = arguments.numberObject(sending.failure) orelse return null;
    defer api.Py_DecRef(failure);
    const accepted = arguments.numberObject(@divFloor(sending.outcome, 2)) orelse return null;
    defer api.Py_DecRef(accepted);
    const size = arguments.numberObject(@intCast(sending.data.len)) orelse return null;
    defer api.Py_DecRef(size);
    return methods.callMethod(stream, "_raise_unsent", &.{ failure, accepted, size });
}

// ---- Receiving ----

/// Makes an object of one message, unless that is so large that another thread may run meanwhile.
const ObjectTaker = struct {
    object: ?*Object = null,
    /// There is no memory for it, with an exception set.
    has_failed: bool = false,
    /// Of one that is large.
    size: ?usize = null,

    pub fn take(taker: *ObjectTaker, body: []const u8) bool {
        if (taker.object != null) return false;
        if (calling.isMuch(body.len)) {
            taker.size = body.len;
            return false;
        }
        taker.object = api.PyBytes_FromStringAndSize(body.ptr, @intCast(body.len));
        taker.has_failed = taker.object == null;
        return !taker.has_failed;
    }

    pub fn hasEnough(_: *const ObjectTaker) bool {
        return true;
    }
};

/// Adds messages to a list, as many as may come. None of its calls runs code of a program: the stream's lock is held.
const ListTaker = struct {
    list: *Object,
    count: usize = 0,
    count_max: usize,
    size: usize = 0,
    /// How many bytes are enough, with at least one message.
    size_enough: usize,
    /// With an exception set.
    has_failed: bool = false,
    is_large: bool = false,

    pub fn take(taker: *ListTaker, body: []const u8) bool {
        if (taker.count == taker.count_max) return false;
        if (calling.isMuch(body.len)) {
            taker.is_large = true;
            return false;
        }
        const object = api.PyBytes_FromStringAndSize(body.ptr, @intCast(body.len)) orelse return taker.fail();
        defer api.Py_DecRef(object);
        if (api.PyList_Append(taker.list, object) != 0) return taker.fail();
        taker.count += 1;
        taker.size += body.len;
        return true;
    }

    fn fail(taker: *ListTaker) bool {
        taker.has_failed = true;
        return false;
    }

    pub fn hasEnough(taker: *const ListTaker) bool {
        return taker.count == taker.count_max or taker.size >= taker.size_enough;
    }
};

const Received = union(enum) {
    /// Null with an exception set.
    object: ?*Object,
    /// Zero if nothing has come in time, or a failure.
    outcome: i64,
};

/// A message that is there.
fn receiveNow(stream: Handle) Received {
    while (true) {
        var taker: ObjectTaker = .{};
        const count = calling.call(calls.takeMessages, .{ stream, &taker });
        if (taker.object != null or taker.has_failed) return .{ .object = taker.object };
        const size = taker.size orelse return .{ .outcome = @min(count, 0) };
        // Another thread may take it first.
        if (receiveLarge(stream, size)) |received| return received;
    }
}

/// Null if the message is another one meanwhile.
fn receiveLarge(stream: Handle, size: usize) ?Received {
    const object = bytes.make(size) orelse return .{ .object = null };
    var its_size: usize = 0;
    const result = calling.callReleasing(calls.receiveMessage, .{ stream, bytes.all(object, size), &its_size, 0 });
    const received = calls.numberOf(calls.Received.message);
    if (result == received) return .{ .object = bytes.cut(object, size, @intCast(its_size)) };
    api.Py_DecRef(object);
    return if (result < 0) .{ .outcome = result } else null;
}

fn receiveInTime(stream: Handle, timeout_ns: i64) Received {
    const first = receiveNow(stream);
    if (first != .outcome or first.outcome != 0 or timeout_ns == 0) return first;
    const waited = calling.callReleasing(calls.waitForMessage, .{ stream, timeout_ns });
    if (waited <= 0) return .{ .outcome = waited };
    // A handler that raises would take the message with it.
    return if (api.PyErr_CheckSignals() != 0) .{ .object = null } else receiveNow(stream);
}

/// Receives one message into a list, which is made first, so that no message is lost for want of memory; null with an
/// exception set. Or what there is instead: zero, or a failure.
fn listed(comptime receive: anytype, given: anytype) union(enum) { list: ?*Object, outcome: i64 } {
    const list = api.PyList_New(1) orelse return .{ .list = null };
    const received = @call(.auto, receive, given);
    if (received == .object) {
        if (received.object) |object| {
            _ = api.PyList_SetItem(list, 0, object);
            return .{ .list = list };
        }
    }
    api.Py_DecRef(list);
    return if (received == .object) .{ .list = null } else .{ .outcome = received.outcome };
}

/// receive_message(handle, timeout_ns) -> a list with the message, 0 if none came in time, or a failure
pub fn receiveMessage(given: *const [2]*Object) Returned {
    const handle = arguments.numberOf(Handle, given[0]) orelse return error.Unusual;
    const timeout_ns = arguments.numberOf(i64, given[1]) orelse return error.Unusual;
    return switch (listed(receiveInTime, .{ handle, timeout_ns })) {
        .list => |list| list,
        .outcome => |outcome| arguments.numberObject(outcome),
    };
}

/// receive_message(self, timeout=None)
pub fn receiveMessageMethod(stream: *Object, given: anytype) Returned {
    const remaining: Remaining = try .of(given.get(.timeout));
    const handle = methods.handleOf(stream) orelse return error.Unusual;
    return switch (receiveInTime(handle, remaining.first_slice_ns)) {
        .object => |object| object,
        .outcome => |outcome| {
            const failure = arguments.numberObject(streams.doneOf(outcome)) orelse return null;
            defer api.Py_DecRef(failure);
            const seconds = remaining.seconds() orelse return null;
            defer api.Py_DecRef(seconds);
            return methods.callMethod(stream, "_receive_on", &.{ failure, seconds });
        },
    };
}

/// receive_messages(handle, max_messages) -> a list of what is there, of any length if that is 0, or a failure
pub fn receiveMessages(given: *const [2]*Object) Returned {
    const handle = arguments.numberOf(Handle, given[0]) orelse return error.Unusual;
    const count_max = arguments.sizeOf(given[1]) orelse return error.Unusual;
    const list = api.PyList_New(0) orelse return null;
    var taker: ListTaker = .{
        .list = list,
        .count_max = if (count_max == 0) bounds.messages_max else count_max,
        .size_enough = bounds.messages_enough,
    };
    const outcome = calling.call(calls.takeMessages, .{ handle, &taker });
    if (taker.count > 0) {
        if (taker.has_failed) api.PyErr_Clear();
        return list;
    }
    if (taker.is_large) {
        api.Py_DecRef(list);
        return switch (listed(receiveNow, .{handle})) {
            .list => |list_of_one| list_of_one,
            .outcome => |large| if (large < 0) arguments.numberObject(large) else api.PyList_New(0),
        };
    }
    if (outcome == 0 and !taker.has_failed) return list;
    api.Py_DecRef(list);
    return if (taker.has_failed) null else arguments.numberObject(outcome);
}

/// Adds to the empty list what a wait has brought into the stream. An error is left for the next call. False with an
/// exception set if memory ends before the first message is in the list, which stays empty then.
pub fn takeAfterWait(stream: Handle, list: *Object) bool {
    // The wait has read what was there.
    var taker: ListTaker = .{ .list = list, .count_max = bounds.messages_max, .size_enough = 0 };
    _ = calling.call(calls.takeMessages, .{ stream, &taker });
    if (taker.has_failed and taker.count == 0) return false;
    if (taker.has_failed) api.PyErr_Clear();
    if (taker.count > 0 or !taker.is_large) return true;
    // The place first, so that the message is not lost for want of memory.
    if (api.PyList_Append(list, api._Py_NoneStruct) != 0) return false;
    const received = receiveNow(stream);
    if (received == .object) {
        if (received.object) |message| {
            _ = api.PyList_SetItem(list, 0, message);
            return true;
        }
    }
    var exception: [3]?*Object = @splat(null);
    api.PyErr_Fetch(&exception[0], &exception[1], &exception[2]);
    _ = api.PyList_SetSlice(list, 0, 1, null);
    api.PyErr_Restore(exception[0], exception[1], exception[2]);
    return received != .object;
}
