//! What the library needs of CPython: its functions and objects, by their names there.
//!
//! The library is linked with no Python. The package hands it the addresses of what is in `Api`, the same from 3.9 on,
//! with and without a GIL; so one library serves every version, at the cost of a C extension. They are CPython's stable
//! ABI, but for `_PyBytes_Resize` (and those of buffers before 3.11), which have never changed either. Objects are
//! never looked into: their layout is the version's own business.

const std = @import("std");
const status = @import("../base/status.zig");

pub const Object = opaque {};

/// Py_buffer, fixed by the stable ABI.
pub const Buffer = extern struct {
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

    pub const simple = 0;
    pub const writable = 1;

    /// A memoryview of the same memory, to be released before this buffer is released. Null with an exception set.
    pub fn view(buffer: *const Buffer) ?*Object {
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

    pub fn release(buffer: *Buffer) void {
        api.PyBuffer_Release(buffer);
    }

    /// Its memory; something that is no null pointer, if it is empty.
    pub fn start(buffer: *const Buffer) [*]u8 {
        return buffer.memory orelse @ptrCast(@constCast(""));
    }
};

/// PyMethodDef.
pub const Method = extern struct {
    name: [*:0]const u8,
    function: *const anyopaque,
    flags: c_int,
    documentation: ?[*:0]const u8 = null,

    pub const fast_call = 0x80; // METH_FASTCALL: an array of arguments
    pub const keywords = 0x2; // METH_KEYWORDS: and the names of the last of them
};

const Api = struct {
    _PyBytes_Resize: *const fn (*?*Object, isize) callconv(.c) c_int,
    _Py_FalseStruct: *Object,
    _Py_NoneStruct: *Object,
    PyBaseObject_Type: *Object,
    PyBuffer_Release: *const fn (*Buffer) callconv(.c) void,
    PyBytes_AsString: *const fn (*Object) callconv(.c) ?[*]u8,
    PyBytes_FromStringAndSize: *const fn (?[*]const u8, isize) callconv(.c) ?*Object,
    PyBytes_Size: *const fn (*Object) callconv(.c) isize,
    PyBytes_Type: *Object,
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
    PyObject_SetAttr: *const fn (*Object, *Object, *Object) callconv(.c) c_int,
    PyObject_SetItem: *const fn (*Object, *Object, *Object) callconv(.c) c_int,
    PyObject_Type: *const fn (*Object) callconv(.c) ?*Object,
    PySequence_GetItem: *const fn (*Object, isize) callconv(.c) ?*Object,
    PySequence_Size: *const fn (*Object) callconv(.c) isize,
    PySequence_Tuple: *const fn (*Object) callconv(.c) ?*Object,
    PyThread_get_thread_ident: *const fn () callconv(.c) c_ulong,
    PyTuple_GetItem: *const fn (*Object, isize) callconv(.c) ?*Object,
    PyTuple_New: *const fn (isize) callconv(.c) ?*Object,
    PyTuple_SetItem: *const fn (*Object, isize, ?*Object) callconv(.c) c_int,
    PyTuple_Size: *const fn (*Object) callconv(.c) isize,
    PyTuple_Type: *Object,
    PyType_IsSubtype: *const fn (*Object, *Object) callconv(.c) c_int,
    PyType_Type: *Object,
    PyUnicode_FromString: *const fn ([*:0]const u8) callconv(.c) ?*Object,
    PyUnicode_InternFromString: *const fn ([*:0]const u8) callconv(.c) ?*Object,
    Py_DecRef: *const fn (*Object) callconv(.c) void,
    Py_IncRef: *const fn (*Object) callconv(.c) void,
};

const field_names = @typeInfo(Api).@"struct".field_names;

/// Separated by spaces.
pub const names: [:0]const u8 = blk: {
    var joined: [:0]const u8 = field_names[0];
    for (field_names[1..]) |name| joined = joined ++ " " ++ name;
    break :blk joined;
};

/// A process has one CPython, and all its interpreters have these addresses.
pub var api: Api = undefined;
var is_bound: std.atomic.Value(bool) = .init(false);

pub fn bind(addresses: []const u64) status.Error!void {
    if (addresses.len != field_names.len) return error.InvalidArgument;
    for (addresses) |address| {
        if (address == 0 or address > std.math.maxInt(usize)) return error.InvalidArgument;
    }
    // If two interpreters come at once, both write the same.
    inline for (field_names, addresses) |name, address| @field(api, name) = @ptrFromInt(@as(usize, @intCast(address)));
    is_bound.store(true, .release);
}

pub fn isBound() bool {
    return is_bound.load(.acquire);
}

/// ctypes takes no null pointer for an object, unless an exception is set.
pub fn none() *Object {
    api.Py_IncRef(api._Py_NoneStruct);
    return api._Py_NoneStruct;
}
