//! Reading and writing: the built-in functions, and the built-in methods of streams.

const arguments = @import("arguments.zig");
const bounds = @import("bounds.zig");
const bytes = @import("bytes.zig");
const calling = @import("calling.zig");
const calls = @import("../calls.zig");
const methods = @import("methods.zig");
const python = @import("api.zig");

const Handle = calls.Handle;
const Object = python.Object;
const Piece = arguments.Piece;
const Remaining = methods.Remaining;
const Returned = arguments.Returned;
const Room = bytes.Room;
const api = &python.api;

// ---- Outcomes ----

fn readBytes(handle: Handle, room: []u8, peeks: bool) i64 {
    return calling.callReleasingIf(calling.isMuch(room.len), calls.read, .{ handle, room, peeks });
}

fn writeBytes(handle: Handle, data: []const u8) i64 {
    return calling.callReleasingIf(calling.isMuch(data.len), calls.write, .{ handle, data });
}

/// How much was read in time: first what is there, with the GIL if it is little.
fn readInTime(handle: Handle, room: []u8, timeout_ns: i64) i64 {
    const releases = calling.isMuch(room.len);
    const first = calling.callReleasingIf(releases, calls.readExactly, .{ handle, room, 0 });
    if (first < 0 or first == room.len or timeout_ns == 0) return first;
    // Nothing more is there now, which a wait need not find out by reading.
    const rest = calling.callReleasing(calls.readWhenThere, .{ handle, room[@intCast(first)..], timeout_ns });
    return if (first == 0 or rest > 0) first + rest else first;
}

/// The same for writing.
fn writeInTime(handle: Handle, data: []const u8, timeout_ns: i64) i64 {
    const first = writeBytes(handle, data);
    if (first < 0 or first == data.len or timeout_ns == 0) return first;
    const rest = calling.callReleasing(calls.writeAll, .{ handle, data[@intCast(first)..], timeout_ns });
    return if (first == 0 or rest > 0) first + rest else first;
}

// ---- Functions ----

/// read_into(handle, buffer, start, end, peek)
pub fn readInto(given: *const [5]*Object) Returned {
    const handle = arguments.numberOf(Handle, given[0]) orelse return error.Unusual;
    const peeks = arguments.isTrue(given[4]) orelse return error.Unusual;
    var piece = Piece.of(given[1], .writing, given[2], given[3]) orelse return error.Unusual;
    defer piece.release();
    return arguments.numberObject(readBytes(handle, piece.bytes(), peeks));
}

/// read(handle, size, peek) -> bytes, or a failure
pub fn read(given: *const [3]*Object) Returned {
    const handle = arguments.numberOf(Handle, given[0]) orelse return error.Unusual;
    const size = arguments.sizeOf(given[1]) orelse return error.Unusual;
    const peeks = arguments.isTrue(given[2]) orelse return error.Unusual;
    if (size == 0 or size > bounds.read_max) return error.Unusual;
    var room: Room = .take(size);
    defer room.leave();
    if (!room.isReady()) return null;
    const outcome = readBytes(handle, room.bytes(), peeks);
    return if (outcome >= 0) room.handOut(outcome) else arguments.numberObject(outcome);
}

/// read_exactly(handle, size, timeout_ns) -> bytes, fewer if they did not come in time, or a failure
pub fn readExactly(given: *const [3]*Object) Returned {
    const handle = arguments.numberOf(Handle, given[0]) orelse return error.Unusual;
    const size = arguments.sizeOf(given[1]) orelse return error.Unusual;
    const timeout_ns = arguments.numberOf(i64, given[2]) orelse return error.Unusual;
    if (size == 0 or size > bounds.read_max) return error.Unusual;
    const data = bytes.make(size) orelse return null;
    return bytes.cut(data, size, readInTime(handle, bytes.all(data, size), timeout_ns));
}

/// write(handle, data, start, end)
pub fn write(given: *const [4]*Object) Returned {
    const handle = arguments.numberOf(Handle, given[0]) orelse return error.Unusual;
    var piece = Piece.of(given[1], .reading, given[2], given[3]) orelse return error.Unusual;
    defer piece.release();
    return arguments.numberObject(writeBytes(handle, piece.bytes()));
}

/// write_all(handle, data, start, timeout_ns) -> how many bytes were written in time, or a failure
pub fn writeAll(given: *const [4]*Object) Returned {
    const handle = arguments.numberOf(Handle, given[0]) orelse return error.Unusual;
    const timeout_ns = arguments.numberOf(i64, given[3]) orelse return error.Unusual;
    var piece = Piece.of(given[1], .reading, given[2], null) orelse return error.Unusual;
    defer piece.release();
    return arguments.numberObject(writeInTime(handle, piece.bytes(), timeout_ns));
}

// ---- Methods ----

/// read(self, max_bytes=65536, *, peek=False)
pub fn readMethod(stream: *Object, given: anytype) Returned {
    const size = methods.maxBytesOf(given.get(.max_bytes)) orelse return error.Unusual;
    const peeks = try peeksOf(given.get(.peek));
    const handle = methods.handleOf(stream) orelse return error.Unusual;
    var room: Room = .take(size);
    defer room.leave();
    if (!room.isReady()) return null;
    const outcome = readBytes(handle, room.bytes(), peeks);
    return if (outcome >= 0) room.handOut(outcome) else raise(stream, "read", outcome);
}

fn peeksOf(peek: ?*Object) error{Unusual}!bool {
    return arguments.isTrue(peek orelse return false) orelse error.Unusual;
}

/// read_into(self, buffer, start=0, end=None, *, peek=False)
pub fn readIntoMethod(stream: *Object, given: anytype) Returned {
    const buffer = given.get(.buffer) orelse return error.Unusual;
    const peeks = try peeksOf(given.get(.peek));
    const handle = methods.handleOf(stream) orelse return error.Unusual;
    var piece = Piece.of(buffer, .writing, given.get(.start), given.get(.end)) orelse return error.Unusual;
    defer piece.release();
    const outcome = readBytes(handle, piece.bytes(), peeks);
    return if (outcome >= 0) arguments.numberObject(outcome) else raise(stream, "read", outcome);
}

/// write(self, data, start=0, end=None)
pub fn writeMethod(stream: *Object, given: anytype) Returned {
    const data = given.get(.data) orelse return error.Unusual;
    const handle = methods.handleOf(stream) orelse return error.Unusual;
    var piece = Piece.of(data, .reading, given.get(.start), given.get(.end)) orelse return error.Unusual;
    defer piece.release();
    const outcome = writeBytes(handle, piece.bytes());
    return if (outcome >= 0) arguments.numberObject(outcome) else raise(stream, "write", outcome);
}

/// Has the stream raise what a failure means.
fn raise(stream: *Object, action: [*:0]const u8, outcome: i64) ?*Object {
    const failure = arguments.numberObject(outcome) orelse return null;
    defer api.Py_DecRef(failure);
    const words = api.PyUnicode_FromString(action) orelse return null;
    defer api.Py_DecRef(words);
    return methods.callMethod(stream, "_raise", &.{ failure, words });
}

/// read_exactly(self, size, timeout=None)
pub fn readExactlyMethod(stream: *Object, given: anytype) Returned {
    const size_object = given.get(.size) orelse return error.Unusual;
    const remaining: Remaining = try .of(given.get(.timeout));
    const size = arguments.sizeOf(size_object) orelse 0;
    if (size == 0 or size > bounds.read_max) return error.Unusual;
    const handle = methods.handleOf(stream) orelse return error.Unusual;

    const data = bytes.make(size) orelse return null;
    const outcome = readInTime(handle, bytes.all(data, size), remaining.first_slice_ns);
    if (outcome == size) return data;
    return goOn(stream, "_read_on", size_object, bytes.cut(data, size, doneOf(outcome)), &remaining);
}

/// write_all(self, data, timeout=None)
pub fn writeAllMethod(stream: *Object, given: anytype) Returned {
    const data_object = given.get(.data) orelse return error.Unusual;
    const remaining: Remaining = try .of(given.get(.timeout));
    const handle = methods.handleOf(stream) orelse return error.Unusual;
    var piece = Piece.of(data_object, .reading, null, null) orelse return error.Unusual;
    var is_free = true;
    // Memory that an object still has a view of is never released.
    defer if (is_free) piece.release();
    const data = piece.bytes();
    const outcome = writeInTime(handle, data, remaining.first_slice_ns);
    if (outcome == data.len) return python.none();
    // Not the object itself: it may return other bytes if it is asked again.
    const view = piece.buffer.view() orelse return null;
    defer api.Py_DecRef(view);
    const returned = goOn(stream, "_write_on", view, arguments.numberObject(doneOf(outcome)), &remaining);
    is_free = letGo(view);
    return returned;
}

/// What a first piece has done: 0 if only the piece has ended.
pub fn doneOf(outcome: i64) i64 {
    return if (calling.isInterrupted(outcome) or calling.isWoken(outcome)) 0 else outcome;
}

/// Has the package go on with a call, by the method of that name: with the first argument, the result so far, and the
/// seconds that are left. Takes the reference to the result.
fn goOn(
    stream: *Object,
    name: [*:0]const u8,
    first: *Object,
    so_far: ?*Object,
    remaining: *const Remaining,
) ?*Object {
    const done = so_far orelse return null;
    defer api.Py_DecRef(done);
    const seconds = remaining.seconds() orelse return null;
    defer api.Py_DecRef(seconds);
    return methods.callMethod(stream, name, &.{ first, done, seconds });
}

/// Releases a memoryview, which the traceback of an exception may have. False if that fails; an exception stays set.
fn letGo(view: *Object) bool {
    var exception: [3]?*Object = @splat(null);
    api.PyErr_Fetch(&exception[0], &exception[1], &exception[2]);
    defer api.PyErr_Restore(exception[0], exception[1], exception[2]);
    const returned = methods.callMethod(view, "release", &.{}) orelse {
        api.PyErr_Clear();
        return false;
    };
    api.Py_DecRef(returned);
    return true;
}
