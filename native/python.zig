//! The calling layer for CPython: built-in functions over the C interface, for the calls that programs make most.
//!
//! The library is linked with no Python. The package hands it the addresses of the functions of `Api`, all of CPython's
//! stable ABI and the same from 3.9 on, with and without a GIL; so one library serves every version, at the cost of a C
//! extension. Objects are never looked into: their layout is the version's own business.
//!
//! Each built-in function has a reference: the Python function that does the same by ctypes. Arguments of the usual types are
//! dealt with here; with all others the reference is called, which takes more kinds of them, or says what is wrong. So
//! both layers take the same arguments and raise the same errors, and none is raised here but for want of memory.
//!
//! Short calls that can't block keep the GIL. Waits, and copies of more than `copy_holding_gil_max` bytes, release it.
//! Nothing is kept between two calls but the names of attributes and the methods' documentation, which are the main
//! interpreter's, as are the only classes that have such methods.

const std = @import("std");
const c_api = @import("c_api.zig");
const deadlines = @import("deadline.zig");
const events = @import("events.zig");
const status = @import("status.zig");
const unfilled = @import("unfilled.zig");

const Handle = i64;

/// Bytes. Copying so much takes the kernel about as long as letting go of the GIL and taking it again can: the package's
/// COPY_HOLDING_GIL_MAX, which says how that was measured.
const copy_holding_gil_max = 65536;

/// Bytes. More is read into other memory than that of a `bytes` object, by the references.
const read_max = 1 << 20;

/// Bytes. A read of no more is copied out of the room for it, which then serves the next stream. More is handed out in that
/// room itself, cut to its size: that costs a new room instead.
const copied_max = 8192;

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
    PyErr_Occurred: *const fn () callconv(.c) ?*Object,
    PyEval_RestoreThread: *const fn (?*anyopaque) callconv(.c) void,
    PyEval_SaveThread: *const fn () callconv(.c) ?*anyopaque,
    PyExc_Exception: **Object,
    PyExc_MemoryError: **Object,
    PyFloat_AsDouble: *const fn (*Object) callconv(.c) f64,
    PyFloat_FromDouble: *const fn (f64) callconv(.c) ?*Object,
    PyFloat_Type: *Object,
    PyInterpreterState_Get: *const fn () callconv(.c) *anyopaque,
    PyInterpreterState_GetID: *const fn (*anyopaque) callconv(.c) i64,
    PyList_Append: *const fn (*Object, *Object) callconv(.c) c_int,
    PyList_New: *const fn (isize) callconv(.c) ?*Object,
    PyList_SetItem: *const fn (*Object, isize, ?*Object) callconv(.c) c_int,
    PyList_SetSlice: *const fn (*Object, isize, isize, ?*Object) callconv(.c) c_int,
    PyList_Size: *const fn (*Object) callconv(.c) isize,
    PyLong_AsLongLong: *const fn (*Object) callconv(.c) c_longlong,
    PyLong_AsSsize_t: *const fn (*Object) callconv(.c) isize,
    PyLong_FromLongLong: *const fn (c_longlong) callconv(.c) ?*Object,
    PyLong_Type: *Object,
    PyMem_Free: *const fn (?*anyopaque) callconv(.c) void,
    PyMem_Malloc: *const fn (usize) callconv(.c) ?*anyopaque,
    PyObject_Call: *const fn (*Object, *Object, ?*Object) callconv(.c) ?*Object,
    PyObject_CallObject: *const fn (*Object, *Object) callconv(.c) ?*Object,
    PyObject_GC_Track: *const fn (*Object) callconv(.c) void,
    PyObject_GC_UnTrack: *const fn (*Object) callconv(.c) void,
    PyObject_GetAttr: *const fn (*Object, *Object) callconv(.c) ?*Object,
    PyObject_GetAttrString: *const fn (*Object, [*:0]const u8) callconv(.c) ?*Object,
    PyObject_GetBuffer: *const fn (*Object, *Buffer, c_int) callconv(.c) c_int,
    PyObject_GetItem: *const fn (*Object, *Object) callconv(.c) ?*Object,
    PyObject_IsInstance: *const fn (*Object, *Object) callconv(.c) c_int,
    PyObject_IsTrue: *const fn (*Object) callconv(.c) c_int,
    PyObject_SetItem: *const fn (*Object, *Object, *Object) callconv(.c) c_int,
    PyObject_Type: *const fn (*Object) callconv(.c) ?*Object,
    PySequence_GetItem: *const fn (*Object, isize) callconv(.c) ?*Object,
    PySequence_Size: *const fn (*Object) callconv(.c) isize,
    PyTuple_GetItem: *const fn (*Object, isize) callconv(.c) ?*Object,
    PyTuple_New: *const fn (isize) callconv(.c) ?*Object,
    PyTuple_SetItem: *const fn (*Object, isize, ?*Object) callconv(.c) c_int,
    PyTuple_Size: *const fn (*Object) callconv(.c) isize,
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
/// more than a call, such as Ctrl-C's, which comes while an argument's own code runs.
fn forgets() bool {
    if (api.PyErr_Occurred() == null) return true;
    if (api.PyErr_ExceptionMatches(api.PyExc_Exception.*) == 0) return false;
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

fn rangeOf(start: *Object, end: *Object, buffer: *const Buffer) ?Range {
    const size: usize = @intCast(buffer.size);
    const range: Range = .{
        .start = sizeOf(start) orelse return null,
        .end = if (end == api._Py_NoneStruct) size else sizeOf(end) orelse return null,
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
    // Before it is read into, so that nothing that was read is lost for want of memory.
    const data = newBytes(size) orelse return null;
    var code: i32 = 0;
    const result = releasedIf(size > copy_holding_gil_max, c_api.bbipc_read, .{
        handle, startOf(data), 0, size, @as(u32, @intFromBool(peeks)), &code,
    });
    return cut(data, size, result, code);
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
    const range = rangeOf(arguments[2], api._Py_NoneStruct, &buffer) orelse {
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

// ---- Waiting ----

/// poll_socket(handle, events, timeout_ns)
fn pollSocket(reference: *Object, arguments: [*]const *Object, count: isize) callconv(.c) ?*Object {
    if (count != 3) return refer(reference, arguments, count);
    const handle = numberOf(Handle, arguments[0]) orelse return refer(reference, arguments, count);
    const asked = numberOf(u32, arguments[1]) orelse return refer(reference, arguments, count);
    const timeout_ns = numberOf(i64, arguments[2]) orelse return refer(reference, arguments, count);
    var code: i32 = 0;
    return numbered(releasedIf(timeout_ns != 0, c_api.bbipc_poll_socket, .{ handle, asked, timeout_ns, &code }), code);
}

/// What one wait of a poller reports.
const Reports = struct {
    sockets: [reports_max]Handle,
    happened: [reports_max]u32,

    fn wait(reports: *Reports, poller: Handle, timeout_ns: i64, code: *i32) i64 {
        return releasedIf(timeout_ns != 0, c_api.bbipc_wait_for_events, .{
            poller, &reports.sockets, &reports.happened, reports_max, timeout_ns, code,
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
    fn received(reports: *const Reports, found: i64, sockets: *Object, sets: *Object, max_bytes: usize) ?*Object {
        const nothing = newBytes(0) orelse return null;
        defer api.Py_DecRef(nothing);
        var reporter: Reporter = .{ .sockets = sockets, .sets = sets };
        defer reporter.drop();
        // The sets first: one that is new is made by Python code, which may be interrupted. Nothing has been read then.
        for (reports.happened[0..@intCast(found)]) |happened| _ = reporter.setOf(happened) orelse return null;
        // As may a signal's handler, which has been due since the wait.
        if (api.PyErr_CheckSignals() != 0) return null;
        var result = Filling.make(@intCast(found)) orelse return null;
        var room: Room = .{ .size = max_bytes };
        defer room.drop();
        for (reports.sockets[0..@intCast(found)], reports.happened[0..@intCast(found)]) |handle, happened| {
            const reads = happened & events.data_available != 0;
            // All that is needed is there before a byte is read. Where memory ends, the next wait reports the others.
            if (reads and !room.isReady()) break;
            const report = reporter.report(handle, happened, 3) orelse {
                if (api.PyErr_Occurred() != null) break;
                continue;
            };
            // Until it is complete, as the list: see Filling.
            api.PyObject_GC_UnTrack(report);
            const data = (if (reads) room.read(handle) else null) orelse blk: {
                if (reads and api.PyErr_Occurred() != null) {
                    api.Py_DecRef(report);
                    return result.drop();
                }
                api.Py_IncRef(nothing);
                break :blk nothing;
            };
            _ = api.PyTuple_SetItem(report, 2, data);
            api.PyObject_GC_Track(report);
            result.add(report);
        }
        if (api.PyErr_Occurred() != null) {
            if (result.count == 0) return result.drop();
            api.PyErr_Clear();
        }
        return result.finish();
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
    room: isize,
    count: isize = 0,

    fn make(room: isize) ?Filling {
        const list = api.PyList_New(room) orelse return null;
        api.PyObject_GC_UnTrack(list);
        return .{ .list = list, .room = room };
    }

    /// Takes the reference.
    fn add(filling: *Filling, item: *Object) void {
        _ = api.PyList_SetItem(filling.list, filling.count, item);
        filling.count += 1;
    }

    fn drop(filling: *Filling) ?*Object {
        api.Py_DecRef(filling.list);
        return null;
    }

    /// The list without the room that was not needed.
    fn finish(filling: *Filling) ?*Object {
        if (filling.count != filling.room) {
            if (api.PyList_SetSlice(filling.list, filling.count, filling.room, null) != 0) return filling.drop();
        }
        api.PyObject_GC_Track(filling.list);
        return filling.list;
    }
};

/// wait_for_events(poller, sockets, sets, timeout_ns) -> a list of the sockets with their events, or a failure
///
/// sockets and sets: see Reporter.
fn waitForEvents(reference: *Object, arguments: [*]const *Object, count: isize) callconv(.c) ?*Object {
    return unfilled.with(Reports, waitForEventsWith, .{ reference, arguments, count });
}

fn waitForEventsWith(reports: *Reports, reference: *Object, arguments: [*]const *Object, count: isize) ?*Object {
    if (count != 4) return refer(reference, arguments, count);
    const poller = numberOf(Handle, arguments[0]) orelse return refer(reference, arguments, count);
    const timeout_ns = numberOf(i64, arguments[3]) orelse return refer(reference, arguments, count);
    var code: i32 = 0;
    const found = reports.wait(poller, timeout_ns, &code);
    if (found < 0) return numbered(found, code);
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

/// receive(poller, sockets, sets, max_bytes, timeout_ns) -> a list of the sockets with their events and what was read, or a
/// failure
fn receive(reference: *Object, arguments: [*]const *Object, count: isize) callconv(.c) ?*Object {
    return unfilled.with(Reports, receiveWith, .{ reference, arguments, count });
}

fn receiveWith(reports: *Reports, reference: *Object, arguments: [*]const *Object, count: isize) ?*Object {
    if (count != 5) return refer(reference, arguments, count);
    const poller = numberOf(Handle, arguments[0]) orelse return refer(reference, arguments, count);
    const max_bytes = sizeOf(arguments[3]) orelse return refer(reference, arguments, count);
    const timeout_ns = numberOf(i64, arguments[4]) orelse return refer(reference, arguments, count);
    if (max_bytes == 0 or max_bytes > read_max) return refer(reference, arguments, count);
    var code: i32 = 0;
    const found = reports.wait(poller, timeout_ns, &code);
    if (found < 0) return numbered(found, code);
    return reports.received(found, arguments[1], arguments[2], max_bytes);
}

/// A `bytes` object to read into, and then to hand out or to use again.
const Room = struct {
    size: usize,
    bytes: ?*Object = null,
    turns: Turns = .{},

    fn isReady(room: *Room) bool {
        if (room.bytes == null) room.bytes = newBytes(room.size);
        return room.bytes != null;
    }

    /// Null if nothing is there, or it can't be read: the next call for that stream tells why. With an exception set, what was
    /// read is lost, for there was neither memory for a copy nor could the room be made smaller.
    fn read(room: *Room, handle: Handle) ?*Object {
        const bytes = room.bytes.?;
        var code: i32 = 0;
        // Seldom as much as there is room for, unless that was made larger for it.
        const copies = if (room.size > copy_holding_gil_max) room.size else 0;
        const result = room.turns.call(copies, c_api.bbipc_read, .{ handle, startOf(bytes), 0, room.size, 0, &code });
        if (result <= 0) return null;
        if (result <= copied_max) {
            if (api.PyBytes_FromStringAndSize(startOf(bytes), @intCast(result))) |copy| return copy;
            api.PyErr_Clear();
        }
        room.bytes = null;
        return cut(bytes, room.size, result, code);
    }

    fn drop(room: *Room) void {
        if (room.bytes) |bytes| api.Py_DecRef(bytes);
    }
};

// ---- Writing to many ----

const Item = struct { handle: Handle, data: Buffer };

/// write_many(items, kind) -> a list of the places of the items that were not taken wholly, with what was taken of each, or
/// its failure
///
/// items: a list of tuples of a stream, of that kind, and its data.
fn writeMany(reference: *Object, arguments: [*]const *Object, count: isize) callconv(.c) ?*Object {
    if (count != 2) return refer(reference, arguments, count);
    const size = api.PyList_Size(arguments[0]);
    if (size <= 0) return refer(reference, arguments, count);
    const memory = api.PyMem_Malloc(@as(usize, @intCast(size)) * @sizeOf(Item)) orelse return refer(reference, arguments, count);
    defer api.PyMem_Free(memory);
    const items = @as([*]Item, @ptrCast(@alignCast(memory)))[0..@intCast(size)];
    var known: usize = 0;
    defer for (items[0..known]) |*item| item.data.release();
    var reader: ItemReader = .{ .kind = arguments[1], .handle_name = api.PyUnicode_InternFromString("_handle") orelse return null };
    defer reader.drop();
    // All of them before the first byte is written, so that a wrong one spoils nothing.
    for (items, 0..) |*item, place| {
        item.* = reader.read(arguments[0], @intCast(place)) orelse return refer(reference, arguments, count);
        known += 1;
    }
    // As is the memory for what becomes of them, which most of the time is not needed.
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
    /// The last type that was found to be of that kind.
    found: ?*Object = null,

    /// Null if it is none, or an unusual one; an exception may be set.
    fn read(reader: *ItemReader, items: *Object, place: isize) ?Item {
        const pair = api.PySequence_GetItem(items, place) orelse return null;
        defer api.Py_DecRef(pair);
        if (api.PyTuple_Size(pair) != 2) return null;
        const stream = api.PyTuple_GetItem(pair, 0).?;
        if (!reader.isStream(stream)) return null;
        const handle = api.PyObject_GetAttr(stream, reader.handle_name) orelse return null;
        defer api.Py_DecRef(handle);
        return .{
            .handle = numberOf(Handle, handle) orelse return null,
            .data = bufferOf(api.PyTuple_GetItem(pair, 1).?, Buffer.simple) orelse return null,
        };
    }

    fn isStream(reader: *ItemReader, object: *Object) bool {
        const its_type = api.PyObject_Type(object).?;
        if (its_type == reader.found) {
            api.Py_DecRef(its_type);
            return true;
        }
        if (api.PyObject_IsInstance(object, reader.kind) != 1) {
            api.Py_DecRef(its_type);
            return false;
        }
        if (reader.found) |before| api.Py_DecRef(before);
        reader.found = its_type;
        return true;
    }

    fn drop(reader: *ItemReader) void {
        if (reader.found) |its_type| api.Py_DecRef(its_type);
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

// ---- Methods of streams ----

const MethodFunction = fn (stream: *Object, arguments: [*]const *Object, count: isize, keywords: ?*Object) callconv(.c) ?*Object;

/// Their documentation is the package's, kept for as long as the process lives: a program may import the package again, and
/// the classes of both copies have these methods.
var methods = [_]Method{
    builtInMethod("read_exactly", &readExactlyMethod),
    builtInMethod("read_into", &readIntoMethod),
    builtInMethod("receive", &receiveMethod),
    builtInMethod("wait_for_events", &waitForEventsMethod),
    builtInMethod("write", &writeMethod),
    builtInMethod("write_all", &writeAllMethod),
};

/// The names of the attributes with a handle, and with a poller's sockets and sets of events (see Reporter). The main
/// interpreter's, for whose classes alone the methods are, and which ends last.
var handle_name: *Object = undefined;
var sockets_name: *Object = undefined;
var sets_name: *Object = undefined;

fn builtInMethod(name: [*:0]const u8, code: *const MethodFunction) Method {
    return .{ .name = name, .function = code, .flags = Method.fast_call | Method.keywords };
}

pub fn method(class: *anyopaque, name: [*:0]const u8, documentation: [*:0]const u8) ?*anyopaque {
    if (!is_bound.load(.acquire)) return null;
    if (api.PyInterpreterState_GetID(api.PyInterpreterState_Get()) != 0) return none();
    for (&methods) |*one| {
        if (std.mem.orderZ(u8, one.name, name) != .eq) continue;
        handle_name = api.PyUnicode_InternFromString("_handle") orelse return null;
        sockets_name = api.PyUnicode_InternFromString("_sockets") orelse return null;
        sets_name = api.PyUnicode_InternFromString("_sets") orelse return null;
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

/// Has the method of this name, in Python, deal with arguments that are not the usual ones.
fn referMethod(comptime name: [*:0]const u8, stream: *Object, arguments: [*]const *Object, count: isize, keywords: ?*Object) ?*Object {
    if (!forgets()) return null;
    const reference = api.PyObject_GetAttrString(stream, name) orelse return null;
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

/// Null for a stream that is not finished yet, with an exception set.
fn handleOf(stream: *Object) ?Handle {
    const attribute = api.PyObject_GetAttr(stream, handle_name) orelse return null;
    defer api.Py_DecRef(attribute);
    return numberOf(Handle, attribute);
}

/// A stream's handle, and the range of a buffer.
const Piece = struct {
    handle: Handle,
    buffer: Buffer,
    range: Range,

    /// Null for unusual arguments, which are (buffer, start=0, end=None) else; an exception may be set.
    fn of(stream: *Object, arguments: [*]const *Object, count: isize, keywords: ?*Object, flags: c_int) ?Piece {
        if (keywords != null or count < 1 or count > 3) return null;
        const handle = handleOf(stream) orelse return null;
        var buffer = bufferOf(arguments[0], flags) orelse return null;
        const range: ?Range = if (count == 1)
            .{ .start = 0, .end = @intCast(buffer.size) }
        else
            rangeOf(arguments[1], if (count > 2) arguments[2] else api._Py_NoneStruct, &buffer);
        if (range == null) buffer.release();
        return .{ .handle = handle, .buffer = buffer, .range = range orelse return null };
    }

    fn isMuch(piece: *const Piece) bool {
        return piece.range.end - piece.range.start > copy_holding_gil_max;
    }
};

/// read_into(self, buffer, start=0, end=None, *, peek=False)
fn readIntoMethod(stream: *Object, arguments: [*]const *Object, count: isize, keywords: ?*Object) callconv(.c) ?*Object {
    var piece = Piece.of(stream, arguments, count, keywords, Buffer.writable) orelse
        return referMethod("_python_read_into", stream, arguments, count, keywords);
    defer piece.buffer.release();
    var code: i32 = 0;
    const result = releasedIf(piece.isMuch(), c_api.bbipc_read, .{
        piece.handle, piece.buffer.start(), piece.range.start, piece.range.end, 0, &code,
    });
    return if (result >= 0) numbered(result, code) else fail(stream, "read", result, code);
}

/// write(self, data, start=0, end=None)
fn writeMethod(stream: *Object, arguments: [*]const *Object, count: isize, keywords: ?*Object) callconv(.c) ?*Object {
    var piece = Piece.of(stream, arguments, count, keywords, Buffer.simple) orelse
        return referMethod("_python_write", stream, arguments, count, keywords);
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

/// A timeout as the package takes it. Null for an unusual one; an exception may be set.
fn timeoutNsOf(timeout: *Object) ?i64 {
    if (timeout == api._Py_NoneStruct) return -1;
    // Others have a float of their own, or are numbers for another purpose.
    const its_type = api.PyObject_Type(timeout).?;
    defer api.Py_DecRef(its_type);
    if (its_type != api.PyFloat_Type and its_type != api.PyLong_Type) return null;
    const seconds = api.PyFloat_AsDouble(timeout);
    // Not a number is neither.
    if (!(seconds >= 0 and seconds <= std.math.maxInt(i32))) return null;
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
fn readExactlyMethod(stream: *Object, arguments: [*]const *Object, count: isize, keywords: ?*Object) callconv(.c) ?*Object {
    const name = "_python_read_exactly";
    if (keywords != null or count < 1 or count > 2) return referMethod(name, stream, arguments, count, keywords);
    const timeout = if (count > 1) arguments[1] else api._Py_NoneStruct;
    const timeout_ns = timeoutNsOf(timeout) orelse return referMethod(name, stream, arguments, count, keywords);
    const size = sizeOf(arguments[0]) orelse return referMethod(name, stream, arguments, count, keywords);
    if (size == 0 or size > read_max) return referMethod(name, stream, arguments, count, keywords);
    const handle = handleOf(stream) orelse return referMethod(name, stream, arguments, count, keywords);

    const data = newBytes(size) orelse return null;
    const deadline: deadlines.Deadline = .after(timeout_ns);
    var code: i32 = 0;
    const result = readInTime(handle, startOf(data)[0..size], firstSliceNs(timeout_ns), &code);
    if (result == size) return data;
    return goOn(stream, "_read_on", arguments[0], cut(data, size, if (goesOn(result)) 0 else result, code), timeout, deadline);
}

/// write_all(self, data, timeout=None)
fn writeAllMethod(stream: *Object, arguments: [*]const *Object, count: isize, keywords: ?*Object) callconv(.c) ?*Object {
    const timeout = if (count > 1) arguments[1] else api._Py_NoneStruct;
    const timeout_ns = if (count <= 2) timeoutNsOf(timeout) else null;
    var piece = (if (timeout_ns != null) Piece.of(stream, arguments, @min(count, 1), keywords, Buffer.simple) else null) orelse
        return referMethod("_python_write_all", stream, arguments, count, keywords);
    defer piece.buffer.release();
    const data = piece.buffer.start()[0..piece.range.end];
    const deadline: deadlines.Deadline = .after(timeout_ns.?);
    var code: i32 = 0;
    const result = writeInTime(piece.handle, data, firstSliceNs(timeout_ns.?), &code);
    if (result == data.len) return none();
    return goOn(stream, "_write_on", arguments[0], numbered(if (goesOn(result)) 0 else result, code), timeout, deadline);
}

// ---- Methods of pollers ----

/// A function of its own, so that the room is on the stack for no longer.
fn waited(poller: *Object, timeout: *Object, max_bytes: ?usize) PollerWait {
    return unfilled.with(Reports, PollerWait.run, .{ poller, timeout, max_bytes });
}

/// wait_for_events(self, timeout=None)
fn waitForEventsMethod(poller: *Object, arguments: [*]const *Object, count: isize, keywords: ?*Object) callconv(.c) ?*Object {
    const name = "_python_wait_for_events";
    if (keywords != null or count > 1) return referMethod(name, poller, arguments, count, keywords);
    const timeout = if (count > 0) arguments[0] else api._Py_NoneStruct;
    return switch (@call(.never_inline, waited, .{ poller, timeout, null })) {
        .done => |result| result,
        .unusual => referMethod(name, poller, arguments, count, keywords),
        .goes_on => |left_ns| PollerWait.goOn(poller, name, timeout, left_ns, &.{}),
    };
}

/// receive(self, timeout=None, max_bytes=65536)
fn receiveMethod(poller: *Object, arguments: [*]const *Object, count: isize, keywords: ?*Object) callconv(.c) ?*Object {
    const name = "_python_receive";
    if (keywords != null or count > 2) return referMethod(name, poller, arguments, count, keywords);
    const max_bytes = if (count > 1) sizeOf(arguments[1]) orelse 0 else copy_holding_gil_max;
    if (max_bytes == 0 or max_bytes > read_max) return referMethod(name, poller, arguments, count, keywords);
    const timeout = if (count > 0) arguments[0] else api._Py_NoneStruct;
    return switch (@call(.never_inline, waited, .{ poller, timeout, max_bytes })) {
        .done => |result| result,
        .unusual => referMethod(name, poller, arguments, count, keywords),
        .goes_on => |left_ns| PollerWait.goOn(poller, name, timeout, left_ns, arguments[1..@intCast(@max(1, count))]),
    };
}

/// A poller's wait, up to where the package would look for signals. What follows from it in Python is called when the room
/// for reports has gone from the stack, which may be small.
const PollerWait = union(enum) {
    /// A list, or null with an exception set.
    done: ?*Object,
    /// Unusual arguments; or a failure, which the package finds again when it waits itself.
    unusual,
    /// For the package, with what is left of the time, below zero for ever.
    goes_on: i64,

    /// With a number of bytes, also reads.
    fn run(reports: *Reports, poller: *Object, timeout: *Object, max_bytes: ?usize) PollerWait {
        const timeout_ns = timeoutNsOf(timeout) orelse return .unusual;
        const handle = handleOf(poller) orelse return .unusual;
        const slice_ns = firstSliceNs(timeout_ns);
        const deadline: deadlines.Deadline = .after(timeout_ns);
        var code: i32 = 0;
        const result = reports.wait(handle, slice_ns, &code);
        if (result > 0) {
            const sockets = api.PyObject_GetAttr(poller, sockets_name) orelse return .{ .done = null };
            defer api.Py_DecRef(sockets);
            const sets = api.PyObject_GetAttr(poller, sets_name) orelse return .{ .done = null };
            defer api.Py_DecRef(sets);
            return .{ .done = if (max_bytes) |size|
                reports.received(result, sockets, sets, size)
            else
                reports.list(result, sockets, sets) };
        }
        if (result == status.fromError(error.Interrupted) or (result == 0 and slice_ns != timeout_ns)) {
            return .{ .goes_on = if (deadline.remainingNs()) |ns| @intCast(ns) else -1 };
        }
        if (result == 0 or result == status.fromError(error.Woken)) return .{ .done = api.PyList_New(0) };
        return .unusual;
    }

    /// Has the package go on, by the method of that name.
    fn goOn(poller: *Object, comptime name: [*:0]const u8, timeout: *Object, left_ns: i64, more: []const *Object) ?*Object {
        const left = secondsOf(timeout, left_ns) orelse return null;
        defer api.Py_DecRef(left);
        var all = [_]*Object{ left, undefined };
        for (more, 1..) |one, index| all[index] = one;
        return referMethod(name, poller, &all, @intCast(1 + more.len), null);
    }
};
