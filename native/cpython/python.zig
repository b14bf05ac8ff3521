//! The calling layer for CPython: built-in functions over the C interface, for the calls that programs make most.
//!
//! The library is linked with no Python. The package hands it the addresses of the functions of `Api`, the same from
//! 3.9 on, with and without a GIL; so one library serves every version, at the cost of a C extension. They are
//! CPython's stable ABI, but for `_PyBytes_Resize` (and those of buffers before 3.11), which have never changed either.
//! Objects are never looked into: their layout is the version's own business.
//!
//! Each built-in function has a reference: the Python function that does the same by ctypes. Arguments of the usual types are
//! dealt with here; with all others the reference is called, which takes more kinds of them, or says what is wrong. So
//! both layers take the same arguments and raise the same errors, and none is raised here but for want of memory.
//!
//! Short calls that can't block keep the GIL. Waits, and copies of more than `copy_holding_gil_max` bytes, release it.
//! Nothing is kept between two calls but one `bytes` object to read into, and the names of attributes and parameters and the
//! methods' documentation, which are the main interpreter's, as are the only classes that have such methods.

const std = @import("std");
const c_api = @import("../c_api.zig");
const deadlines = @import("../core/deadline.zig");
const events = @import("../base/events.zig");
const places = @import("../base/places.zig");
const status = @import("../base/status.zig");
const unfilled = @import("../base/unfilled.zig");

const Handle = i64;

/// Bytes: the package's COPY_HOLDING_GIL_MAX, which says why so many.
const copy_holding_gil_max = 65536;

/// Bytes: what `read` and `receive` read of a stream if they aren't told.
const max_bytes_default = 65536;

/// Bytes. More is read into other memory than that of a `bytes` object, by the references.
const read_max = 1 << 20;

/// How many sockets one wait reports at the most, as many as that of the references.
const reports_max = 1024;

const Object = opaque {};

/// Py_buffer, fixed by the stable ABI.
const Buffer = extern struct {
    memory: ?[*]u8,
    owner: ?*Object,
    size: isize,
    item_size: isize,
    is_read_only: c_int,
    dimensions: c_int,
    format: ?[*:0]u8,
    shape: ?[*]isize,
    strides: ?[*]isize,
    suboffsets: ?[*]isize,
    internal: ?*anyopaque,

    const simple = 0;
    const writable = 1;

    /// A memoryview of the same memory, for `letGo` before this buffer is released. Null with an exception set.
    fn view(buffer: *const Buffer) ?*Object {
        return api.PyMemoryView_FromBuffer(&.{
            .memory = buffer.memory,
            .owner = null,
            .size = buffer.size,
            .item_size = 1,
            .is_read_only = 1,
            .dimensions = 1,
            .format = @constCast("B"),
            .shape = null,
            .strides = null,
            .suboffsets = null,
            .internal = null,
        });
    }

    fn release(buffer: *Buffer) void {
        api.PyBuffer_Release(buffer);
    }

    /// Its memory; something that is no null pointer, if it is empty.
    fn start(buffer: *const Buffer) [*]u8 {
        return buffer.memory orelse @ptrCast(@constCast(""));
    }
};

/// PyMethodDef.
const Method = extern struct {
    name: [*:0]const u8,
    function: *const anyopaque,
    flags: c_int,
    documentation: ?[*:0]const u8 = null,

    const fast_call = 0x80; // METH_FASTCALL: an array of arguments
    const keywords = 0x2; // METH_KEYWORDS: and the names of the last of them
};

const Function = fn (reference: *Object, arguments: [*]const *Object, count: isize) callconv(.c) ?*Object;

/// What the library needs of CPython, by the names there.
const Api = struct {
    _PyBytes_Resize: *const fn (*?*Object, isize) callconv(.c) c_int,
    _Py_NoneStruct: *Object,
    PyBuffer_Release: *const fn (*Buffer) callconv(.c) void,
    PyBytes_AsString: *const fn (*Object) callconv(.c) ?[*]u8,
    PyBytes_FromStringAndSize: *const fn (?[*]const u8, isize) callconv(.c) ?*Object,
    PyCFunction_NewEx: *const fn (*const Method, *Object, ?*Object) callconv(.c) ?*Object,
    PyDescr_NewMethod: *const fn (*Object, *const Method) callconv(.c) ?*Object,
    PyDict_New: *const fn () callconv(.c) ?*Object,
    PyErr_CheckSignals: *const fn () callconv(.c) c_int,
    PyErr_Clear: *const fn () callconv(.c) void,
    PyErr_ExceptionMatches: *const fn (*Object) callconv(.c) c_int,
    PyErr_Fetch: *const fn (*?*Object, *?*Object, *?*Object) callconv(.c) void,
    PyErr_NoMemory: *const fn () callconv(.c) ?*Object,
    PyErr_Occurred: *const fn () callconv(.c) ?*Object,
    PyErr_Restore: *const fn (?*Object, ?*Object, ?*Object) callconv(.c) void,
    PyEval_RestoreThread: *const fn (?*anyopaque) callconv(.c) void,
    PyEval_SaveThread: *const fn () callconv(.c) ?*anyopaque,
    PyExc_AttributeError: **Object,
    PyExc_BufferError: **Object,
    PyExc_Exception: **Object,
    PyExc_MemoryError: **Object,
    PyExc_OverflowError: **Object,
    PyExc_TypeError: **Object,
    PyExc_ValueError: **Object,
    PyFloat_AsDouble: *const fn (*Object) callconv(.c) f64,
    PyFloat_FromDouble: *const fn (f64) callconv(.c) ?*Object,
    PyFloat_Type: *Object,
    PyInterpreterState_Get: *const fn () callconv(.c) *anyopaque,
    PyInterpreterState_GetID: *const fn (*anyopaque) callconv(.c) i64,
    PyList_Append: *const fn (*Object, *Object) callconv(.c) c_int,
    PyList_GetItem: *const fn (*Object, isize) callconv(.c) ?*Object,
    PyList_New: *const fn (isize) callconv(.c) ?*Object,
    PyList_SetItem: *const fn (*Object, isize, ?*Object) callconv(.c) c_int,
    PyList_SetSlice: *const fn (*Object, isize, isize, ?*Object) callconv(.c) c_int,
    PyList_Size: *const fn (*Object) callconv(.c) isize,
    PyList_Type: *Object,
    PyLong_AsLongLong: *const fn (*Object) callconv(.c) c_longlong,
    PyLong_AsSsize_t: *const fn (*Object) callconv(.c) isize,
    PyLong_FromLongLong: *const fn (c_longlong) callconv(.c) ?*Object,
    PyLong_Type: *Object,
    PyMem_Free: *const fn (?*anyopaque) callconv(.c) void,
    PyMem_Malloc: *const fn (usize) callconv(.c) ?*anyopaque,
    PyMemoryView_FromBuffer: *const fn (*const Buffer) callconv(.c) ?*Object,
    PyObject_Call: *const fn (*Object, *Object, ?*Object) callconv(.c) ?*Object,
    PyObject_CallObject: *const fn (*Object, *Object) callconv(.c) ?*Object,
    PyObject_GC_Track: *const fn (*Object) callconv(.c) void,
    PyObject_GC_UnTrack: *const fn (*Object) callconv(.c) void,
    PyObject_GetAttr: *const fn (*Object, *Object) callconv(.c) ?*Object,
    PyObject_GetAttrString: *const fn (*Object, [*:0]const u8) callconv(.c) ?*Object,
    PyObject_GetBuffer: *const fn (*Object, *Buffer, c_int) callconv(.c) c_int,
    PyObject_GetItem: *const fn (*Object, *Object) callconv(.c) ?*Object,
    PyObject_IsTrue: *const fn (*Object) callconv(.c) c_int,
    PyObject_SetItem: *const fn (*Object, *Object, *Object) callconv(.c) c_int,
    PyObject_Type: *const fn (*Object) callconv(.c) ?*Object,
    PySequence_GetItem: *const fn (*Object, isize) callconv(.c) ?*Object,
    PySequence_Size: *const fn (*Object) callconv(.c) isize,
    PyThread_get_thread_ident: *const fn () callconv(.c) c_ulong,
    PyTuple_GetItem: *const fn (*Object, isize) callconv(.c) ?*Object,
    PyTuple_New: *const fn (isize) callconv(.c) ?*Object,
    PyTuple_SetItem: *const fn (*Object, isize, ?*Object) callconv(.c) c_int,
    PyTuple_Size: *const fn (*Object) callconv(.c) isize,
    PyTuple_Type: *Object,
    PyType_IsSubtype: *const fn (*Object, *Object) callconv(.c) c_int,
    PyUnicode_FromString: *const fn ([*:0]const u8) callconv(.c) ?*Object,
    PyUnicode_InternFromString: *const fn ([*:0]const u8) callconv(.c) ?*Object,
    Py_DecRef: *const fn (*Object) callconv(.c) void,
    Py_IncRef: *const fn (*Object) callconv(.c) void,
};

const api_names = @typeInfo(Api).@"struct".field_names;

pub const names: [:0]const u8 = blk: {
    var joined: [:0]const u8 = api_names[0];
    for (api_names[1..]) |name| joined = joined ++ " " ++ name;
    break :blk joined;
};

/// One process has one CPython, whose addresses these are for all its interpreters.
var api: Api = undefined;
var is_bound: std.atomic.Value(bool) = .init(false);

pub fn bind(addresses: []const u64) status.Error!void {
    if (addresses.len != api_names.len) return error.InvalidArgument;
    for (addresses) |address| {
        if (address == 0 or address > std.math.maxInt(usize)) return error.InvalidArgument;
    }
    // Were two interpreters to come at once, both would write the same.
    inline for (api_names, addresses) |name, address| @field(api, name) = @ptrFromInt(@as(usize, @intCast(address)));
    is_bound.store(true, .release);
}

const functions = [_]Method{
    builtIn("close", over(c_api.bbipc_close)),
    builtIn("fileno", over(c_api.bbipc_fileno)),
    builtIn("monitor_socket", over(c_api.bbipc_monitor_socket)),
    builtIn("monitored_events", over(c_api.bbipc_monitored_events)),
    builtIn("poll_socket", &pollSocket),
    builtIn("read", &read),
    builtIn("read_exactly", &readExactly),
    builtIn("read_into", &readInto),
    builtIn("receive", &receive),
    builtIn("set_monitored_events", over(c_api.bbipc_set_monitored_events)),
    builtIn("unmonitor_socket", over(c_api.bbipc_unmonitor_socket)),
    builtIn("wait_for_events", &waitForEvents),
    builtIn("wake", over(c_api.bbipc_wake)),
    builtIn("write", &write),
    builtIn("write_all", &writeAll),
    builtIn("write_many", &writeMany),
};

fn builtIn(name: [*:0]const u8, code: *const Function) Method {
    return .{ .name = name, .function = code, .flags = Method.fast_call };
}

pub fn function(name: [*:0]const u8, reference: *anyopaque) ?*anyopaque {
    if (!is_bound.load(.acquire)) return null;
    for (&functions) |*one| {
        if (std.mem.orderZ(u8, one.name, name) == .eq) return api.PyCFunction_NewEx(one, @ptrCast(reference), null);
    }
    return none();
}

/// ctypes takes no null pointer for an object, unless an exception is set.
fn none() *Object {
    api.Py_IncRef(api._Py_NoneStruct);
    return api._Py_NoneStruct;
}

// ---- Arguments and results ----

/// Has the reference deal with arguments that are not the usual ones.
fn refer(reference: *Object, arguments: [*]const *Object, count: isize) ?*Object {
    if (!forgets()) return null;
    const all = tupleOf(arguments, count) orelse return null;
    defer api.Py_DecRef(all);
    return api.PyObject_CallObject(reference, all);
}

fn tupleOf(items: [*]const *Object, count: isize) ?*Object {
    const tuple = api.PyTuple_New(count) orelse return null;
    for (items[0..@intCast(count)], 0..) |item, index| {
        api.Py_IncRef(item);
        _ = api.PyTuple_SetItem(tuple, @intCast(index), item);
    }
    return tuple;
}

/// Forgets an exception that says that an argument is unusual: the reference raises it again. False for one that is to end
/// more than a call, such as Ctrl-C's, which comes while an argument's own code runs; and for want of memory, without which
/// the reference can do nothing either.
fn forgets() bool {
    if (api.PyErr_Occurred() == null) return true;
    if (api.PyErr_ExceptionMatches(api.PyExc_MemoryError.*) != 0) return false;
    return forgetsKind("Exception");
}

/// The same for a method. Its arguments are the program's own objects, whose code may be interrupted by a signal's handler that
/// raises anything: that is not asked for twice.
fn forgetsUsual() bool {
    if (api.PyErr_Occurred() == null) return true;
    inline for (.{ "AttributeError", "BufferError", "OverflowError", "TypeError", "ValueError" }) |kind| {
        if (forgetsKind(kind)) return true;
    }
    return false;
}

fn forgetsKind(comptime kind: []const u8) bool {
    const class = @field(api, "PyExc_" ++ kind);
    if (api.PyErr_ExceptionMatches(class.*) == 0) return false;
    api.PyErr_Clear();
    return true;
}

/// Null for what is no int or does not fit; an exception may be set.
fn numberOf(comptime Number: type, object: *Object) ?Number {
    const number = api.PyLong_AsLongLong(object);
    if (number == -1 and api.PyErr_Occurred() != null) return null;
    return std.math.cast(Number, number);
}

/// A size or a place in a buffer. Null, with no exception set, for what is none.
fn sizeOf(object: *Object) ?usize {
    const size = api.PyLong_AsSsize_t(object);
    if (size >= 0) return @intCast(size);
    if (size == -1 and api.PyErr_Occurred() != null) api.PyErr_Clear();
    return null;
}

/// Of that type, and of none derived from it.
fn isExactly(object: *Object, expected: *Object) bool {
    const its_type = api.PyObject_Type(object).?;
    defer api.Py_DecRef(its_type);
    return its_type == expected;
}

/// Null with an exception set.
fn isTrue(object: *Object) ?bool {
    return switch (api.PyObject_IsTrue(object)) {
        0 => false,
        1 => true,
        else => null,
    };
}

/// Null with an exception set.
fn bufferOf(object: *Object, flags: c_int) ?Buffer {
    var buffer: Buffer = undefined;
    return if (api.PyObject_GetBuffer(object, &buffer, flags) == 0) buffer else null;
}

const Range = struct { start: usize, end: usize };

/// Null for one that is not in the buffer. A start or an end that is not given is that of the buffer.
fn rangeOf(start: ?*Object, end: ?*Object, buffer: *const Buffer) ?Range {
    const size: usize = @intCast(buffer.size);
    const range: Range = .{
        .start = if (start) |object| sizeOf(object) orelse return null else 0,
        .end = if (end == null or end == api._Py_NoneStruct) size else sizeOf(end.?) orelse return null,
    };
    return if (range.start <= range.end and range.end <= size) range else null;
}

/// A result as the package takes it: a failure carries the system's code too (`_pack` there).
fn numbered(result: i64, code: i32) ?*Object {
    return api.PyLong_FromLongLong(if (result >= 0) result else failureOf(result, code));
}

fn failureOf(result: i64, code: i32) i64 {
    return -((@as(i64, code) << 8) | -result);
}

/// The same for a piece of a wait. Where the wait goes on, after a signal or because the time of this piece is up, it
/// carries the wait's place.
fn placed(result: i64, timeout_ns: i64, place: u32, code: i32) ?*Object {
    const goes_on = if (result == 0) timeout_ns != 0 else result == status.fromError(error.Interrupted);
    return if (goes_on) api.PyLong_FromLongLong(failureOf(result, @intCast(place))) else numbered(result, code);
}

/// `call` of these arguments, with the GIL released.
fn released(comptime call: anytype, arguments: anytype) i64 {
    const thread = api.PyEval_SaveThread();
    defer api.PyEval_RestoreThread(thread);
    return @call(.auto, call, arguments);
}

/// The same if that many bytes are too many to copy with it, or that long a wait.
fn releasedIf(releases: bool, comptime call: anytype, arguments: anytype) i64 {
    return if (releases) released(call, arguments) else @call(.auto, call, arguments);
}

/// A built-in function for one of the C interface that takes numbers, and can't block.
fn over(comptime call: anytype) *const Function {
    const types = @typeInfo(@TypeOf(call)).@"fn".param_types;
    const has_code = types[types.len - 1].? == ?*i32;
    const numbers_count = types.len - @intFromBool(has_code);
    return &struct {
        fn builtIn(reference: *Object, arguments: [*]const *Object, count: isize) callconv(.c) ?*Object {
            if (count != numbers_count) return refer(reference, arguments, count);
            var code: i32 = 0;
            var values: std.meta.ArgsTuple(@TypeOf(call)) = undefined;
            inline for (0..numbers_count) |index| {
                values[index] = numberOf(types[index].?, arguments[index]) orelse return refer(reference, arguments, count);
            }
            if (has_code) values[numbers_count] = &code;
            return numbered(@call(.auto, call, values), code);
        }
    }.builtIn;
}

// ---- Reading and writing ----

/// read_into(handle, buffer, start, end, peek)
fn readInto(reference: *Object, arguments: [*]const *Object, count: isize) callconv(.c) ?*Object {
    if (count != 5) return refer(reference, arguments, count);
    const handle = numberOf(Handle, arguments[0]) orelse return refer(reference, arguments, count);
    const peeks = isTrue(arguments[4]) orelse return refer(reference, arguments, count);
    var buffer = bufferOf(arguments[1], Buffer.writable) orelse return refer(reference, arguments, count);
    const range = rangeOf(arguments[2], arguments[3], &buffer) orelse {
        buffer.release();
        return refer(reference, arguments, count);
    };
    defer buffer.release();
    var code: i32 = 0;
    const result = releasedIf(range.end - range.start > copy_holding_gil_max, c_api.bbipc_read, .{
        handle, buffer.start(), range.start, range.end, @as(u32, @intFromBool(peeks)), &code,
    });
    return numbered(result, code);
}

/// read(handle, size, peek) -> bytes, or a failure
fn read(reference: *Object, arguments: [*]const *Object, count: isize) callconv(.c) ?*Object {
    if (count != 3) return refer(reference, arguments, count);
    const handle = numberOf(Handle, arguments[0]) orelse return refer(reference, arguments, count);
    const size = sizeOf(arguments[1]) orelse return refer(reference, arguments, count);
    const peeks = isTrue(arguments[2]) orelse return refer(reference, arguments, count);
    if (size == 0 or size > read_max) return refer(reference, arguments, count);
    var room: Room = .take(size);
    defer room.leave();
    if (!room.isReady()) return null;
    var code: i32 = 0;
    const result = releasedIf(size > copy_holding_gil_max, c_api.bbipc_read, room.arguments(handle, peeks, &code));
    return if (result >= 0) room.handOut(result) else numbered(result, code);
}

/// read_exactly(handle, size, timeout_ns) -> bytes, fewer if they did not come in time, or a failure
fn readExactly(reference: *Object, arguments: [*]const *Object, count: isize) callconv(.c) ?*Object {
    if (count != 3) return refer(reference, arguments, count);
    const handle = numberOf(Handle, arguments[0]) orelse return refer(reference, arguments, count);
    const size = sizeOf(arguments[1]) orelse return refer(reference, arguments, count);
    const timeout_ns = numberOf(i64, arguments[2]) orelse return refer(reference, arguments, count);
    if (size == 0 or size > read_max) return refer(reference, arguments, count);
    const data = newBytes(size) orelse return null;
    var code: i32 = 0;
    const result = readInTime(handle, startOf(data)[0..size], timeout_ns, &code);
    return cut(data, size, result, code);
}

/// How much was read in time: first what is there, with the GIL if it is little.
fn readInTime(handle: Handle, room: []u8, timeout_ns: i64, code: *i32) i64 {
    const is_much = room.len > copy_holding_gil_max;
    const first = releasedIf(is_much, c_api.bbipc_read_exactly, .{ handle, room.ptr, 0, room.len, 0, code });
    if (first < 0 or first == room.len or timeout_ns == 0) return first;
    // Nothing more is there now, which a wait need not find out by reading.
    const rest = released(c_api.readWhenThere, .{ handle, room[@intCast(first)..], timeout_ns, code });
    return if (first == 0 or rest > 0) first + rest else first;
}

/// Whether a wait has ended for the caller to go on with it.
fn goesOn(result: i64) bool {
    return result == status.fromError(error.Interrupted) or result == status.fromError(error.Woken);
}

/// write(handle, data, start, end)
fn write(reference: *Object, arguments: [*]const *Object, count: isize) callconv(.c) ?*Object {
    if (count != 4) return refer(reference, arguments, count);
    const handle = numberOf(Handle, arguments[0]) orelse return refer(reference, arguments, count);
    var buffer = bufferOf(arguments[1], Buffer.simple) orelse return refer(reference, arguments, count);
    const range = rangeOf(arguments[2], arguments[3], &buffer) orelse {
        buffer.release();
        return refer(reference, arguments, count);
    };
    defer buffer.release();
    var code: i32 = 0;
    const result = releasedIf(range.end - range.start > copy_holding_gil_max, c_api.bbipc_write, .{
        handle, buffer.start(), range.start, range.end, &code,
    });
    return numbered(result, code);
}

/// write_all(handle, data, start, timeout_ns) -> how many bytes were written in time, or a failure
fn writeAll(reference: *Object, arguments: [*]const *Object, count: isize) callconv(.c) ?*Object {
    if (count != 4) return refer(reference, arguments, count);
    const handle = numberOf(Handle, arguments[0]) orelse return refer(reference, arguments, count);
    const timeout_ns = numberOf(i64, arguments[3]) orelse return refer(reference, arguments, count);
    var buffer = bufferOf(arguments[1], Buffer.simple) orelse return refer(reference, arguments, count);
    const range = rangeOf(arguments[2], null, &buffer) orelse {
        buffer.release();
        return refer(reference, arguments, count);
    };
    defer buffer.release();
    var code: i32 = 0;
    const result = writeInTime(handle, buffer.start()[range.start..range.end], timeout_ns, &code);
    return numbered(result, code);
}

/// The same for writing.
fn writeInTime(handle: Handle, data: []const u8, timeout_ns: i64, code: *i32) i64 {
    const is_much = data.len > copy_holding_gil_max;
    const first = releasedIf(is_much, c_api.bbipc_write, .{ handle, data.ptr, 0, data.len, code });
    if (first < 0 or first == data.len or timeout_ns == 0) return first;
    const rest = released(c_api.bbipc_write_all, .{ handle, data.ptr, @as(u64, @intCast(first)), data.len, timeout_ns, code });
    return if (first == 0 or rest > 0) first + rest else first;
}

fn newBytes(size: usize) ?*Object {
    return api.PyBytes_FromStringAndSize(null, @intCast(size));
}

fn startOf(bytes: *Object) [*]u8 {
    return api.PyBytes_AsString(bytes).?;
}

/// The bytes that were read into the beginning of new ones, or the failure. Takes the reference.
fn cut(bytes: *Object, size: usize, result: i64, code: i32) ?*Object {
    if (result == size) return bytes;
    if (result < 0) {
        api.Py_DecRef(bytes);
        return numbered(result, code);
    }
    var resized: ?*Object = bytes;
    // On a failure it is null, and the exception is set.
    _ = api._PyBytes_Resize(&resized, @intCast(result));
    return resized;
}

/// A `bytes` object to read into, which is there before a byte is read, so that none is lost for want of memory. Then it is
/// copied out of, or handed out itself.
const Room = struct {
    size: usize,
    bytes: ?*Object = null,
    /// Another thread made it: without a GIL, only that thread can cut it.
    is_foreign: bool = false,

    /// What one call leaves to the next. Were it freed, malloc would give it back to the system together with what was read
    /// into other memory below, and have both mapped again, page by page, by the next call. The memory begins with its thread.
    var spare: std.atomic.Value(?*Object) = .init(null);
    const spare_size = 65536;

    /// Bytes. Fewer are copied out of the room, which then serves again. More are handed out in the room itself, cut to its size:
    /// that costs a new room instead.
    const copied_max = 8192;

    fn take(size: usize) Room {
        var room: Room = .{ .size = size };
        if (size > spare_size) return room;
        room.bytes = spare.swap(null, .acquire);
        if (room.bytes) |bytes| room.is_foreign = maker(bytes).* != api.PyThread_get_thread_ident();
        return room;
    }

    /// What there is room for: a spare serves all that ask for less.
    fn capacity(room: *const Room) usize {
        return @max(room.size, spare_size);
    }

    fn maker(bytes: *Object) *align(1) c_ulong {
        return @ptrCast(startOf(bytes));
    }

    /// False with an exception set.
    fn isReady(room: *Room) bool {
        if (room.bytes == null) {
            room.bytes = newBytes(room.capacity());
            room.is_foreign = false;
        }
        return room.bytes != null;
    }

    /// Those of bbipc_read.
    fn arguments(room: *const Room, handle: Handle, peeks: bool, code: *i32) std.meta.ArgsTuple(@TypeOf(c_api.bbipc_read)) {
        return .{ handle, startOf(room.bytes.?), 0, room.size, @intFromBool(peeks), code };
    }

    /// What was read into it: so many bytes. Null with an exception set if there is neither memory for a copy nor can the
    /// room be made smaller; then they are lost.
    fn handOut(room: *Room, result: i64) ?*Object {
        const bytes = room.bytes.?;
        if (result <= copied_max or room.is_foreign) {
            if (api.PyBytes_FromStringAndSize(startOf(bytes), @intCast(result))) |copy| return copy;
            api.PyErr_Clear();
        }
        room.bytes = null;
        return cut(bytes, room.capacity(), result, 0);
    }

    /// To the next call, unless it has one.
    fn leave(room: *Room) void {
        const bytes = room.bytes orelse return;
        if (room.size > spare_size) return api.Py_DecRef(bytes);
        if (!room.is_foreign) maker(bytes).* = api.PyThread_get_thread_ident();
        if (spare.swap(bytes, .acq_rel)) |other| api.Py_DecRef(other);
    }
};

// ---- Waiting ----

/// poll_socket(handle, events, timeout_ns, place)
fn pollSocket(reference: *Object, arguments: [*]const *Object, count: isize) callconv(.c) ?*Object {
    if (count != 4) return refer(reference, arguments, count);
    const handle = numberOf(Handle, arguments[0]) orelse return refer(reference, arguments, count);
    const asked = numberOf(u32, arguments[1]) orelse return refer(reference, arguments, count);
    const timeout_ns = numberOf(i64, arguments[2]) orelse return refer(reference, arguments, count);
    var place = numberOf(u32, arguments[3]) orelse return refer(reference, arguments, count);
    var code: i32 = 0;
    const result = releasedIf(timeout_ns != 0, c_api.bbipc_poll_socket, .{ handle, asked, timeout_ns, &place, &code });
    return placed(result, timeout_ns, place, code);
}

/// What one wait of a poller reports.
const Reports = struct {
    sockets: [reports_max]Handle,
    happened: [reports_max]u32,

    fn wait(reports: *Reports, poller: Handle, timeout_ns: i64, place: *u32, code: *i32) i64 {
        return releasedIf(timeout_ns != 0, c_api.bbipc_wait_for_events, .{
            poller, &reports.sockets, &reports.happened, reports_max, timeout_ns, place, code,
        });
    }

    /// The sockets with their events.
    fn list(reports: *const Reports, found: i64, sockets: *Object, sets: *Object) ?*Object {
        var result = Filling.make(@intCast(found)) orelse return null;
        var reporter: Reporter = .{ .sockets = sockets, .sets = sets };
        defer reporter.drop();
        for (reports.sockets[0..@intCast(found)], reports.happened[0..@intCast(found)]) |handle, happened| {
            if (reporter.report(handle, happened, 2)) |report| {
                result.add(report);
            } else if (api.PyErr_Occurred() != null) return result.drop();
        }
        return result.finish();
    }

    /// The sockets with their events, and with at most that many bytes read from each that has some.
    ///
    /// The list is there before a byte is read. Where memory ends then, the next wait reports the others again.
    fn received(reports: *Reports, found: i64, sockets: *Object, sets: *Object, max_bytes: usize) ?*Object {
        const nothing = newBytes(0) orelse return null;
        defer api.Py_DecRef(nothing);
        var result = reports.unread(found, sockets, sets, nothing) orelse return null;
        // One for a signal's handler, which has been due since the wait and may raise.
        if (api.PyErr_CheckSignals() != 0 or !result.cut()) return result.drop();
        var room: Room = .take(max_bytes);
        defer room.leave();
        var turns: Turns = .{};
        var has_read = false;
        var memory_ended = false;
        for (reports.sockets[0..result.count], reports.happened[0..result.count], 0..) |handle, happened, place| {
            const report = api.PyList_GetItem(result.list, @intCast(place)).?;
            // Complete, unless bytes come: then it is again.
            defer api.PyObject_GC_Track(report);
            if (happened & events.data_available == 0 or memory_ended) continue;
            if (!room.isReady()) {
                memory_ended = true;
                continue;
            }
            var code: i32 = 0;
            // Seldom as much as there is room for, unless that was made larger for it.
            const copies = if (max_bytes > copy_holding_gil_max) max_bytes else 0;
            const size = turns.call(copies, c_api.bbipc_read, room.arguments(handle, false, &code));
            // Nothing is there, or it can't be read: the next call for that stream tells why.
            if (size <= 0) continue;
            const data = room.handOut(size) orelse {
                memory_ended = true;
                continue;
            };
            _ = api.PyTuple_SetItem(report, 2, data);
            has_read = true;
        }
        if (memory_ended) {
            if (!has_read) return result.drop();
            api.PyErr_Clear();
        }
        return result.finish();
    }

    /// The sockets with their events and no bytes. The handles and numbers of those that have left the poller since go from the
    /// arrays too.
    fn unread(reports: *Reports, found: i64, sockets: *Object, sets: *Object, nothing: *Object) ?Filling {
        var result = Filling.make(@intCast(found)) orelse return null;
        var reporter: Reporter = .{ .sockets = sockets, .sets = sets };
        defer reporter.drop();
        for (0..@intCast(found)) |place| {
            const handle = reports.sockets[place];
            const happened = reports.happened[place];
            const report = reporter.report(handle, happened, 3) orelse {
                if (api.PyErr_Occurred() == null) continue;
                _ = result.drop();
                return null;
            };
            // Until it is complete, as the list: see Filling.
            api.PyObject_GC_UnTrack(report);
            api.Py_IncRef(nothing);
            _ = api.PyTuple_SetItem(report, 2, nothing);
            reports.sockets[result.count] = handle;
            reports.happened[result.count] = happened;
            result.add(report);
        }
        return result;
    }
};

/// Makes what is reported of a socket.
const Reporter = struct {
    /// The objects by their handles.
    sockets: *Object,
    /// The sets of events by their numbers.
    sets: *Object,
    /// Most sockets of one wait have the same.
    happened: u32 = 0,
    set: ?*Object = null,

    /// The object of a handle, and its events, in a new tuple of that size. Null without an exception if the socket has left
    /// the poller since, or is about to: another thread takes it out.
    fn report(reporter: *Reporter, handle: Handle, happened: u32, size: isize) ?*Object {
        const set = reporter.setOf(happened) orelse return null;
        const socket = itemOf(reporter.sockets, handle) orelse {
            api.PyErr_Clear();
            return null;
        };
        const tuple = api.PyTuple_New(size) orelse {
            api.Py_DecRef(socket);
            return null;
        };
        api.Py_IncRef(set);
        _ = api.PyTuple_SetItem(tuple, 0, socket);
        _ = api.PyTuple_SetItem(tuple, 1, set);
        return tuple;
    }

    fn setOf(reporter: *Reporter, happened: u32) ?*Object {
        if (reporter.set == null or reporter.happened != happened) {
            reporter.drop();
            reporter.set = itemOf(reporter.sets, happened);
            reporter.happened = happened;
        }
        return reporter.set;
    }

    fn drop(reporter: *Reporter) void {
        if (reporter.set) |set| api.Py_DecRef(set);
        reporter.set = null;
    }
};

fn itemOf(dictionary: *Object, number: i64) ?*Object {
    const key = api.PyLong_FromLongLong(number) orelse return null;
    defer api.Py_DecRef(key);
    return api.PyObject_GetItem(dictionary, key);
}

/// A list that is being filled from its beginning, with room for all that may come. Until it is complete, the collector of
/// garbage doesn't know of it: gc.get_objects() would hand it to other threads, and its empty places crash Python.
const Filling = struct {
    list: *Object,
    room: usize,
    count: usize = 0,

    fn make(room: usize) ?Filling {
        const list = api.PyList_New(@intCast(room)) orelse return null;
        api.PyObject_GC_UnTrack(list);
        return .{ .list = list, .room = room };
    }

    /// Takes the reference.
    fn add(filling: *Filling, item: *Object) void {
        _ = api.PyList_SetItem(filling.list, @intCast(filling.count), item);
        filling.count += 1;
    }

    fn drop(filling: *Filling) ?*Object {
        api.Py_DecRef(filling.list);
        return null;
    }

    /// Takes away the room that was not needed. False with an exception set.
    fn cut(filling: *Filling) bool {
        if (filling.count == filling.room) return true;
        if (api.PyList_SetSlice(filling.list, @intCast(filling.count), @intCast(filling.room), null) != 0) return false;
        filling.room = filling.count;
        return true;
    }

    fn finish(filling: *Filling) ?*Object {
        if (!filling.cut()) return filling.drop();
        api.PyObject_GC_Track(filling.list);
        return filling.list;
    }
};

/// wait_for_events(poller, sockets, sets, timeout_ns, place) -> a list of the sockets with their events, or a failure
///
/// sockets and sets: see Reporter.
fn waitForEvents(reference: *Object, arguments: [*]const *Object, count: isize) callconv(.c) ?*Object {
    return unfilled.with(Reports, waitForEventsWith, .{ reference, arguments, count });
}

fn waitForEventsWith(reports: *Reports, reference: *Object, arguments: [*]const *Object, count: isize) ?*Object {
    if (count != 5) return refer(reference, arguments, count);
    const poller = numberOf(Handle, arguments[0]) orelse return refer(reference, arguments, count);
    const timeout_ns = numberOf(i64, arguments[3]) orelse return refer(reference, arguments, count);
    var place = numberOf(u32, arguments[4]) orelse return refer(reference, arguments, count);
    var code: i32 = 0;
    const found = reports.wait(poller, timeout_ns, &place, &code);
    if (found < 0 or (found == 0 and timeout_ns != 0)) return placed(found, timeout_ns, place, code);
    return reports.list(found, arguments[1], arguments[2]);
}

/// Releases the GIL now and then among calls that keep it: when they would copy more than one may.
const Turns = struct {
    copied: u64 = 0,

    /// What a call costs besides, as if it were copied.
    const call_bytes = 512;

    /// With the bytes that the call copies at the most, or will most likely.
    fn call(turns: *Turns, copies: u64, comptime native: anytype, arguments: anytype) i64 {
        const releases = turns.copied +| copies > copy_holding_gil_max;
        if (releases) turns.copied = 0;
        const result = releasedIf(releases, native, arguments);
        turns.copied += call_bytes;
        if (result > 0 and !releases) turns.copied += @intCast(result);
        return result;
    }
};

/// receive(poller, sockets, sets, max_bytes, timeout_ns, place) -> a list of the sockets with their events and what was
/// read, or a failure
fn receive(reference: *Object, arguments: [*]const *Object, count: isize) callconv(.c) ?*Object {
    return unfilled.with(Reports, receiveWith, .{ reference, arguments, count });
}

fn receiveWith(reports: *Reports, reference: *Object, arguments: [*]const *Object, count: isize) ?*Object {
    if (count != 6) return refer(reference, arguments, count);
    const poller = numberOf(Handle, arguments[0]) orelse return refer(reference, arguments, count);
    const max_bytes = sizeOf(arguments[3]) orelse return refer(reference, arguments, count);
    const timeout_ns = numberOf(i64, arguments[4]) orelse return refer(reference, arguments, count);
    var place = numberOf(u32, arguments[5]) orelse return refer(reference, arguments, count);
    if (max_bytes == 0 or max_bytes > read_max) return refer(reference, arguments, count);
    var code: i32 = 0;
    const found = reports.wait(poller, timeout_ns, &place, &code);
    if (found < 0 or (found == 0 and timeout_ns != 0)) return placed(found, timeout_ns, place, code);
    return reports.received(found, arguments[1], arguments[2], max_bytes);
}

// ---- Writing to many ----

const Item = struct { handle: Handle, data: Buffer };

/// write_many(items, kind) -> a list of the places of the items that were not taken wholly, with what was taken of each, or
/// its failure
///
/// items: a list of tuples of a stream, of that kind, and its data.
fn writeMany(reference: *Object, arguments: [*]const *Object, count: isize) callconv(.c) ?*Object {
    if (count != 2 or !isExactly(arguments[0], api.PyList_Type)) return refer(reference, arguments, count);
    const size = api.PyList_Size(arguments[0]);
    if (size == 0) return refer(reference, arguments, count);
    const memory = api.PyMem_Malloc(@as(usize, @intCast(size)) * @sizeOf(Item)) orelse return api.PyErr_NoMemory();
    defer api.PyMem_Free(memory);
    const items = @as([*]Item, @ptrCast(@alignCast(memory)))[0..@intCast(size)];
    var known: usize = 0;
    defer for (items[0..known]) |*item| item.data.release();
    const reader: ItemReader = .{ .kind = arguments[1], .handle_name = api.PyUnicode_InternFromString("_handle") orelse return null };
    defer reader.drop();
    // All of them before the first byte is written, so that a wrong one spoils nothing.
    for (items, 0..) |*item, place| {
        item.* = reader.read(arguments[0], @intCast(place)) orelse return refer(reference, arguments, count);
        known += 1;
    }
    // For what is not taken wholly: most of the time nothing is added.
    var unfinished = Unfinished.make() orelse return null;
    // A handler that raises does it while nothing is written.
    if (api.PyErr_CheckSignals() != 0) return unfinished.drop();
    var turns: Turns = .{};
    for (items, 0..) |item, place| {
        const length: u64 = @intCast(item.data.size);
        const outcome = unfinished.earlier(item.handle) orelse blk: {
            var code: i32 = 0;
            const taken = turns.call(length, c_api.bbipc_write, .{ item.handle, item.data.start(), 0, length, &code });
            break :blk if (taken >= 0) taken else failureOf(taken, code);
        };
        if (outcome == length) continue;
        if (!unfinished.add(place, item.handle, outcome)) return unfinished.drop();
    }
    return unfinished.finish();
}

const ItemReader = struct {
    kind: *Object,
    handle_name: *Object,

    /// Null if it is none, or an unusual one; an exception may be set.
    fn read(reader: *const ItemReader, items: *Object, place: isize) ?Item {
        const pair = api.PySequence_GetItem(items, place) orelse return null;
        defer api.Py_DecRef(pair);
        if (!isExactly(pair, api.PyTuple_Type) or api.PyTuple_Size(pair) != 2) return null;
        const stream = api.PyTuple_GetItem(pair, 0).?;
        if (!reader.isStream(stream)) return null;
        const handle = api.PyObject_GetAttr(stream, reader.handle_name) orelse return null;
        defer api.Py_DecRef(handle);
        return .{
            .handle = numberOf(Handle, handle) orelse return null,
            .data = bufferOf(api.PyTuple_GetItem(pair, 1).?, Buffer.simple) orelse return null,
        };
    }

    /// Of the kind itself, not only in the place of one.
    fn isStream(reader: *const ItemReader, object: *Object) bool {
        const its_type = api.PyObject_Type(object).?;
        defer api.Py_DecRef(its_type);
        return api.PyType_IsSubtype(its_type, reader.kind) != 0;
    }

    fn drop(reader: *const ItemReader) void {
        api.Py_DecRef(reader.handle_name);
    }
};

/// What was not taken wholly, for want of room or because of an error. What else is meant for such a stream must not
/// overtake that.
const Unfinished = struct {
    /// Pairs of a place and an outcome.
    list: *Object,
    /// By the handles of these streams: what becomes of their later items. Nothing is taken, or the same failure.
    later: ?*Object = null,

    fn make() ?Unfinished {
        return .{ .list = api.PyList_New(0) orelse return null };
    }

    /// False with an exception set.
    fn add(unfinished: *Unfinished, place: usize, handle: Handle, outcome: i64) bool {
        const pair = api.PyTuple_New(2) orelse return false;
        defer api.Py_DecRef(pair);
        _ = api.PyTuple_SetItem(pair, 0, api.PyLong_FromLongLong(@intCast(place)) orelse return false);
        _ = api.PyTuple_SetItem(pair, 1, api.PyLong_FromLongLong(outcome) orelse return false);
        if (api.PyList_Append(unfinished.list, pair) != 0) return false;
        if (unfinished.later == null) unfinished.later = api.PyDict_New() orelse return false;
        const key = api.PyLong_FromLongLong(handle) orelse return false;
        defer api.Py_DecRef(key);
        const value = api.PyLong_FromLongLong(@min(outcome, 0)) orelse return false;
        defer api.Py_DecRef(value);
        return api.PyObject_SetItem(unfinished.later.?, key, value) == 0;
    }

    fn earlier(unfinished: *Unfinished, handle: Handle) ?i64 {
        const outcome = itemOf(unfinished.later orelse return null, handle) orelse {
            // For want of memory, none of the others is written.
            const is_lost = api.PyErr_ExceptionMatches(api.PyExc_MemoryError.*) != 0;
            api.PyErr_Clear();
            return if (is_lost) 0 else null;
        };
        defer api.Py_DecRef(outcome);
        return api.PyLong_AsLongLong(outcome);
    }

    fn finish(unfinished: *Unfinished) ?*Object {
        if (unfinished.later) |later| api.Py_DecRef(later);
        return unfinished.list;
    }

    fn drop(unfinished: *Unfinished) ?*Object {
        api.Py_DecRef(unfinished.finish().?);
        return null;
    }
};

// ---- Methods ----

/// Their documentation is the package's, kept for as long as the process lives: a program may import the package again, and
/// the classes of both copies have these methods.
var methods = [_]Method{
    builtInMethod("read", Arguments(&.{ .max_bytes, .peek }, 1), readMethod),
    builtInMethod("read_exactly", Arguments(&.{ .size, .timeout }, 2), readExactlyMethod),
    builtInMethod("read_into", Arguments(&.{ .buffer, .start, .end, .peek }, 3), readIntoMethod),
    builtInMethod("receive", Arguments(&.{ .timeout, .max_bytes }, 2), receiveMethod),
    builtInMethod("wait_for_events", Arguments(&.{.timeout}, 1), waitForEventsMethod),
    builtInMethod("write", Arguments(&.{ .data, .start, .end }, 3), writeMethod),
    builtInMethod("write_all", Arguments(&.{ .data, .timeout }, 2), writeAllMethod),
};

/// Names of attributes: a handle, and a poller's sockets and sets of events (see Reporter). And of parameters.
const Name = enum { _handle, _sets, _sockets, buffer, data, end, max_bytes, peek, size, start, timeout };

/// The same names as Python's compiler has them, so that they are compared by their addresses. The main interpreter's, for
/// whose classes alone the methods are, and which ends last.
var interned: std.EnumArray(Name, *Object) = undefined;
var names_are_interned: std.atomic.Value(bool) = .init(false);

/// False with an exception set.
fn internNames() bool {
    if (names_are_interned.load(.acquire)) return true;
    // Were two threads to come at once, both would write the same.
    for (std.enums.values(Name)) |name| interned.set(name, api.PyUnicode_InternFromString(@tagName(name)) orelse return false);
    names_are_interned.store(true, .release);
    return true;
}

/// What a method's code returns: null with an exception set. Unusual arguments are for its reference; an exception may be set.
const Returned = error{Unusual}!?*Object;

fn builtInMethod(comptime name: [:0]const u8, comptime Given: type, comptime code: anytype) Method {
    return .{ .name = name, .flags = Method.fast_call | Method.keywords, .function = &struct {
        fn call(object: *Object, arguments: [*]const *Object, count: isize, keywords: ?*Object) callconv(.c) ?*Object {
            const returned: Returned = if (Given.of(arguments, count, keywords)) |given| code(object, given) else error.Unusual;
            return returned catch referMethod("_python_" ++ name, object, arguments, count, keywords);
        }
    }.call };
}

pub fn method(class: *anyopaque, name: [*:0]const u8, documentation: [*:0]const u8) ?*anyopaque {
    if (!is_bound.load(.acquire)) return null;
    if (api.PyInterpreterState_GetID(api.PyInterpreterState_Get()) != 0) return none();
    if (!internNames()) return null;
    for (&methods) |*one| {
        if (std.mem.orderZ(u8, one.name, name) != .eq) continue;
        if (one.documentation == null) one.documentation = copyOf(documentation) orelse return none();
        return api.PyDescr_NewMethod(@ptrCast(class), one);
    }
    return none();
}

fn copyOf(text: [*:0]const u8) ?[*:0]const u8 {
    const size = std.mem.len(text) + 1;
    const memory: [*]u8 = @ptrCast(api.PyMem_Malloc(size) orelse return null);
    @memcpy(memory[0..size], text[0..size]);
    return @ptrCast(memory);
}

/// The arguments of a method, by the names of its parameters. Only the first of them can be given without their names.
fn Arguments(comptime parameters: []const Name, comptime positional_max: usize) type {
    return struct {
        const Self = @This();

        values: [parameters.len]?*Object = @splat(null),

        /// Null for too many, for one that is given twice, and for a name that is no parameter's, or not interned.
        fn of(arguments: [*]const *Object, count: isize, keywords: ?*Object) ?Self {
            const given: usize = @intCast(count);
            if (given > positional_max) return null;
            var self: Self = .{};
            for (arguments[0..given], self.values[0..given]) |argument, *value| value.* = argument;
            const named = keywords orelse return self;
            for (0..@intCast(api.PyTuple_Size(named))) |at| {
                const place = placeOf(api.PyTuple_GetItem(named, @intCast(at)).?) orelse return null;
                if (self.values[place] != null) return null;
                self.values[place] = arguments[given + at];
            }
            return self;
        }

        fn placeOf(keyword: *Object) ?usize {
            inline for (parameters, 0..) |name, place| {
                if (keyword == interned.get(name)) return place;
            }
            return null;
        }

        fn get(self: *const Self, comptime name: Name) ?*Object {
            return self.values[comptime std.mem.indexOfScalar(Name, parameters, name).?];
        }
    };
}

/// Has the method of this name, in Python, deal with arguments that are not the usual ones.
fn referMethod(comptime name: [*:0]const u8, object: *Object, arguments: [*]const *Object, count: isize, keywords: ?*Object) ?*Object {
    if (!forgetsUsual()) return null;
    const reference = api.PyObject_GetAttrString(object, name) orelse return null;
    defer api.Py_DecRef(reference);
    const positional = tupleOf(arguments, count) orelse return null;
    defer api.Py_DecRef(positional);
    const keyword_names = keywords orelse return api.PyObject_CallObject(reference, positional);
    const named = api.PyDict_New() orelse return null;
    defer api.Py_DecRef(named);
    const named_count: usize = @intCast(api.PySequence_Size(keyword_names));
    for (arguments[@intCast(count)..][0..named_count], 0..) |argument, index| {
        const keyword = api.PySequence_GetItem(keyword_names, @intCast(index)) orelse return null;
        defer api.Py_DecRef(keyword);
        if (api.PyObject_SetItem(named, keyword, argument) != 0) return null;
    }
    return api.PyObject_Call(reference, positional, named);
}

/// Has the stream raise what a failure means.
fn fail(stream: *Object, comptime action: [*:0]const u8, result: i64, code: i32) ?*Object {
    const raise = api.PyObject_GetAttrString(stream, "_raise") orelse return null;
    defer api.Py_DecRef(raise);
    const arguments = api.PyTuple_New(2) orelse return null;
    defer api.Py_DecRef(arguments);
    _ = api.PyTuple_SetItem(arguments, 0, numbered(result, code) orelse return null);
    _ = api.PyTuple_SetItem(arguments, 1, api.PyUnicode_FromString(action) orelse return null);
    return api.PyObject_CallObject(raise, arguments);
}

/// Null for an object that is not finished yet, with an exception set.
fn handleOf(object: *Object) ?Handle {
    const attribute = api.PyObject_GetAttr(object, interned.get(._handle)) orelse return null;
    defer api.Py_DecRef(attribute);
    return numberOf(Handle, attribute);
}

// ---- Methods of streams ----

/// A stream's handle, and the range of a buffer.
const Piece = struct {
    handle: Handle,
    buffer: Buffer,
    range: Range,

    /// Null for what is unusual; an exception may be set.
    fn of(stream: *Object, object: *Object, start: ?*Object, end: ?*Object, flags: c_int) ?Piece {
        const handle = handleOf(stream) orelse return null;
        var buffer = bufferOf(object, flags) orelse return null;
        const range = rangeOf(start, end, &buffer);
        if (range == null) buffer.release();
        return .{ .handle = handle, .buffer = buffer, .range = range orelse return null };
    }

    fn isMuch(piece: *const Piece) bool {
        return piece.range.end - piece.range.start > copy_holding_gil_max;
    }
};

/// read(self, max_bytes=65536, *, peek=False)
fn readMethod(stream: *Object, given: anytype) Returned {
    const size = if (given.get(.max_bytes)) |max_bytes| sizeOf(max_bytes) orelse 0 else max_bytes_default;
    if (size == 0 or size > read_max) return error.Unusual;
    const peeks = try peeksOf(given.get(.peek));
    const handle = handleOf(stream) orelse return error.Unusual;
    var room: Room = .take(size);
    defer room.leave();
    if (!room.isReady()) return null;
    var code: i32 = 0;
    const result = releasedIf(size > copy_holding_gil_max, c_api.bbipc_read, room.arguments(handle, peeks, &code));
    return if (result >= 0) room.handOut(result) else fail(stream, "read", result, code);
}

fn peeksOf(peek: ?*Object) error{Unusual}!bool {
    return isTrue(peek orelse return false) orelse error.Unusual;
}

/// read_into(self, buffer, start=0, end=None, *, peek=False)
fn readIntoMethod(stream: *Object, given: anytype) Returned {
    const buffer = given.get(.buffer) orelse return error.Unusual;
    const peeks = try peeksOf(given.get(.peek));
    var piece = Piece.of(stream, buffer, given.get(.start), given.get(.end), Buffer.writable) orelse return error.Unusual;
    defer piece.buffer.release();
    var code: i32 = 0;
    const result = releasedIf(piece.isMuch(), c_api.bbipc_read, .{
        piece.handle, piece.buffer.start(), piece.range.start, piece.range.end, @as(u32, @intFromBool(peeks)), &code,
    });
    return if (result >= 0) numbered(result, code) else fail(stream, "read", result, code);
}

/// write(self, data, start=0, end=None)
fn writeMethod(stream: *Object, given: anytype) Returned {
    const data = given.get(.data) orelse return error.Unusual;
    var piece = Piece.of(stream, data, given.get(.start), given.get(.end), Buffer.simple) orelse return error.Unusual;
    defer piece.buffer.release();
    var code: i32 = 0;
    const result = releasedIf(piece.isMuch(), c_api.bbipc_write, .{
        piece.handle, piece.buffer.start(), piece.range.start, piece.range.end, &code,
    });
    return if (result >= 0) numbered(result, code) else fail(stream, "write", result, code);
}

/// How long a wait may be before the package looks for signals: its _FIRST_SLICE_NS.
const first_slice_ns = 5 * std.time.ns_per_ms;

fn firstSliceNs(timeout_ns: i64) i64 {
    return if (timeout_ns < 0) first_slice_ns else @min(timeout_ns, first_slice_ns);
}

/// A timeout as the package takes it.
fn timeoutNsOf(timeout: *Object) error{Unusual}!i64 {
    if (timeout == api._Py_NoneStruct) return -1;
    // Others have a float of their own, or are numbers for another purpose.
    if (!isExactly(timeout, api.PyFloat_Type) and !isExactly(timeout, api.PyLong_Type)) return error.Unusual;
    const seconds = api.PyFloat_AsDouble(timeout);
    // Not a number is neither.
    if (!(seconds >= 0 and seconds <= std.math.maxInt(i32))) return error.Unusual;
    return @trunc(@ceil(seconds * std.time.ns_per_s));
}

/// What is left of a timeout, as it was given if it does not end.
fn secondsOf(timeout: *Object, left_ns: i64) ?*Object {
    if (left_ns >= 0) return api.PyFloat_FromDouble(@as(f64, @floatFromInt(left_ns)) / std.time.ns_per_s);
    api.Py_IncRef(timeout);
    return timeout;
}

/// Has the package go on with a call: by the method of that name, with the first argument, with what has become of it so far,
/// and with the seconds that are left.
fn goOn(stream: *Object, comptime name: [*:0]const u8, first: *Object, so_far: ?*Object, timeout: *Object, deadline: deadlines.Deadline) ?*Object {
    const done = so_far orelse return null;
    const rest = api.PyTuple_New(3) orelse {
        api.Py_DecRef(done);
        return null;
    };
    defer api.Py_DecRef(rest);
    api.Py_IncRef(first);
    _ = api.PyTuple_SetItem(rest, 0, first);
    _ = api.PyTuple_SetItem(rest, 1, done);
    const left_ns: i64 = if (deadline.remainingNs()) |ns| @intCast(ns) else -1;
    _ = api.PyTuple_SetItem(rest, 2, secondsOf(timeout, left_ns) orelse return null);
    const method_of_rest = api.PyObject_GetAttrString(stream, name) orelse return null;
    defer api.Py_DecRef(method_of_rest);
    return api.PyObject_CallObject(method_of_rest, rest);
}

/// read_exactly(self, size, timeout=None)
fn readExactlyMethod(stream: *Object, given: anytype) Returned {
    const size_object = given.get(.size) orelse return error.Unusual;
    const timeout = given.get(.timeout) orelse api._Py_NoneStruct;
    const timeout_ns = try timeoutNsOf(timeout);
    const size = sizeOf(size_object) orelse 0;
    if (size == 0 or size > read_max) return error.Unusual;
    const handle = handleOf(stream) orelse return error.Unusual;

    const data = newBytes(size) orelse return null;
    const deadline: deadlines.Deadline = .after(timeout_ns);
    var code: i32 = 0;
    const result = readInTime(handle, startOf(data)[0..size], firstSliceNs(timeout_ns), &code);
    if (result == size) return data;
    return goOn(stream, "_read_on", size_object, cut(data, size, if (goesOn(result)) 0 else result, code), timeout, deadline);
}

/// write_all(self, data, timeout=None)
fn writeAllMethod(stream: *Object, given: anytype) Returned {
    const data_object = given.get(.data) orelse return error.Unusual;
    const timeout = given.get(.timeout) orelse api._Py_NoneStruct;
    const timeout_ns = try timeoutNsOf(timeout);
    var piece = Piece.of(stream, data_object, null, null, Buffer.simple) orelse return error.Unusual;
    var is_free = true;
    // Memory that somebody still has a view of is lent for good.
    defer if (is_free) piece.buffer.release();
    const data = piece.buffer.start()[0..piece.range.end];
    const deadline: deadlines.Deadline = .after(timeout_ns);
    var code: i32 = 0;
    const result = writeInTime(piece.handle, data, firstSliceNs(timeout_ns), &code);
    if (result == data.len) return none();
    // Not the object itself: asked for its bytes again, it may have others.
    const view = piece.buffer.view() orelse return null;
    defer api.Py_DecRef(view);
    const outcome = goOn(stream, "_write_on", view, numbered(if (goesOn(result)) 0 else result, code), timeout, deadline);
    is_free = letGo(view);
    return outcome;
}

/// Releases a memoryview, which the traceback of an exception may have. Whether that could be done; the exception stays set.
fn letGo(view: *Object) bool {
    var exception: [3]?*Object = @splat(null);
    api.PyErr_Fetch(&exception[0], &exception[1], &exception[2]);
    defer api.PyErr_Restore(exception[0], exception[1], exception[2]);
    const is_released = isReleased(view);
    if (!is_released) api.PyErr_Clear();
    return is_released;
}

/// False with an exception set.
fn isReleased(view: *Object) bool {
    const release = api.PyObject_GetAttrString(view, "release") orelse return false;
    defer api.Py_DecRef(release);
    const nothing = api.PyTuple_New(0) orelse return false;
    defer api.Py_DecRef(nothing);
    const done = api.PyObject_CallObject(release, nothing) orelse return false;
    api.Py_DecRef(done);
    return true;
}

// ---- Methods of pollers ----

/// wait_for_events(self, timeout=None)
fn waitForEventsMethod(poller: *Object, given: anytype) Returned {
    return waited("wait_for_events", poller, given.get(.timeout), null, null);
}

/// receive(self, timeout=None, max_bytes=65536)
fn receiveMethod(poller: *Object, given: anytype) Returned {
    const max_bytes = given.get(.max_bytes);
    const size = if (max_bytes) |object| sizeOf(object) orelse 0 else max_bytes_default;
    if (size == 0 or size > read_max) return error.Unusual;
    return waited("receive", poller, given.get(.timeout), size, max_bytes);
}

/// A poller's wait, up to where the package would look for signals; then the package goes on, by the method of that
/// name with "_" in front and "_on" behind. With a size, it also reads, and `max_bytes` is that as it was given.
fn waited(comptime name: [:0]const u8, poller: *Object, timeout: ?*Object, size: ?usize, max_bytes: ?*Object) Returned {
    const given = timeout orelse api._Py_NoneStruct;
    // A function of its own: the room for reports has gone from the stack, which may be small, when Python is called.
    switch (@call(.never_inline, unfilledWait, .{ poller, given, size })) {
        .done => |result| return result,
        .unusual => return error.Unusual,
        .goes_on => |rest| {
            const left = secondsOf(given, rest.left_ns) orelse return null;
            defer api.Py_DecRef(left);
            const place = api.PyLong_FromLongLong(rest.place) orelse return null;
            defer api.Py_DecRef(place);
            const all = [_]*Object{ place, left, max_bytes orelse left };
            const method_of_rest = api.PyObject_GetAttrString(poller, "_" ++ name ++ "_on") orelse return null;
            defer api.Py_DecRef(method_of_rest);
            const arguments = tupleOf(&all, if (max_bytes != null) 3 else 2) orelse return null;
            defer api.Py_DecRef(arguments);
            return api.PyObject_CallObject(method_of_rest, arguments);
        },
    }
}

fn unfilledWait(poller: *Object, timeout: *Object, size: ?usize) Wait {
    return unfilled.with(Reports, Wait.run, .{ poller, timeout, size });
}

const Wait = union(enum) {
    /// A list, or null with an exception set.
    done: ?*Object,
    /// Unusual arguments; or a failure, which the package finds again when it waits itself.
    unusual,
    /// For the package, with what is left of the time, below zero for ever, and the wait's place.
    goes_on: struct { left_ns: i64, place: u32 },

    fn run(reports: *Reports, poller: *Object, timeout: *Object, size: ?usize) Wait {
        const timeout_ns = timeoutNsOf(timeout) catch return .unusual;
        const handle = handleOf(poller) orelse return .unusual;
        const slice_ns = firstSliceNs(timeout_ns);
        const deadline: deadlines.Deadline = .after(timeout_ns);
        var code: i32 = 0;
        var place: u32 = places.none;
        const result = reports.wait(handle, slice_ns, &place, &code);
        if (result > 0) {
            const sockets = api.PyObject_GetAttr(poller, interned.get(._sockets)) orelse return .{ .done = null };
            defer api.Py_DecRef(sockets);
            const sets = api.PyObject_GetAttr(poller, interned.get(._sets)) orelse return .{ .done = null };
            defer api.Py_DecRef(sets);
            return .{ .done = if (size) |max_bytes|
                reports.received(result, sockets, sets, max_bytes)
            else
                reports.list(result, sockets, sets) };
        }
        if (result == status.fromError(error.Interrupted) or (result == 0 and slice_ns != timeout_ns)) {
            return .{ .goes_on = .{
                .left_ns = if (deadline.remainingNs()) |ns| @intCast(ns) else -1,
                .place = place,
            } };
        }
        if (result == 0 or result == status.fromError(error.Woken)) return .{ .done = api.PyList_New(0) };
        return .unusual;
    }
};
