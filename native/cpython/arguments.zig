//! Objects of Python as arguments of the library, and its results as objects.
//!
//! Arguments of the usual types are dealt with here, all others by the reference: see functions.zig and methods.zig.

const std = @import("std");
const python = @import("api.zig");

const Buffer = python.Buffer;
const Object = python.Object;
const api = &python.api;

/// What a built-in function or method returns: null with an exception set. Unusual arguments are for its reference; an
/// exception may be set then.
pub const Returned = error{Unusual}!?*Object;

/// Null for what is no int or does not fit; an exception may be set.
pub fn numberOf(comptime Number: type, object: *Object) ?Number {
    const number = api.PyLong_AsLongLong(object);
    if (number == -1 and api.PyErr_Occurred() != null) return null;
    return std.math.cast(Number, number);
}

/// A size or a place in a buffer. Null, with no exception set, for what is none.
pub fn sizeOf(object: *Object) ?usize {
    const size = api.PyLong_AsSsize_t(object);
    if (size >= 0) return @intCast(size);
    if (size == -1 and api.PyErr_Occurred() != null) api.PyErr_Clear();
    return null;
}

/// Whether the object is of that type, and not of a derived one.
pub fn isExactly(object: *Object, expected: *Object) bool {
    const its_type = api.PyObject_Type(object).?;
    defer api.Py_DecRef(its_type);
    return its_type == expected;
}

/// Null with an exception set.
pub fn isTrue(object: *Object) ?bool {
    return switch (api.PyObject_IsTrue(object)) {
        0 => false,
        1 => true,
        else => null,
    };
}

/// A timeout as the package's methods take it, in nanoseconds.
pub fn timeoutNsOf(timeout: *Object) error{Unusual}!i64 {
    if (timeout == api._Py_NoneStruct) return -1;
    // Others have a float of their own, or are numbers for another purpose.
    if (!isExactly(timeout, api.PyFloat_Type) and !isExactly(timeout, api.PyLong_Type)) return error.Unusual;
    const seconds = api.PyFloat_AsDouble(timeout);
    // NaN passes neither comparison.
    if (!(seconds >= 0 and seconds <= std.math.maxInt(i32))) return error.Unusual;
    return @trunc(@ceil(seconds * std.time.ns_per_s));
}

/// What is left of a timeout, as it was given if it does not end.
pub fn secondsOf(timeout: *Object, left_ns: i64) ?*Object {
    if (left_ns >= 0) return api.PyFloat_FromDouble(@as(f64, @floatFromInt(left_ns)) / std.time.ns_per_s);
    api.Py_IncRef(timeout);
    return timeout;
}

/// The bytes of an object that lends them, or a range of them.
pub const Piece = struct {
    buffer: Buffer,
    start: usize,
    end: usize,

    pub const Use = enum(c_int) { reading = Buffer.simple, writing = Buffer.writable };

    /// Null for an object that lends no bytes, and for a range outside them; an exception may be set. The default of
    /// `start` and `end` is that of the buffer.
    pub fn of(object: *Object, use: Use, start: ?*Object, end: ?*Object) ?Piece {
        var piece: Piece = .{ .buffer = undefined, .start = 0, .end = 0 };
        if (api.PyObject_GetBuffer(object, &piece.buffer, @backingInt(use)) != 0) return null;
        if (piece.find(start, end)) return piece;
        piece.release();
        return null;
    }

    fn find(piece: *Piece, start: ?*Object, end: ?*Object) bool {
        const size: usize = @intCast(piece.buffer.size);
        if (start) |object| piece.start = sizeOf(object) orelse return false;
        piece.end = if (end == null or end == api._Py_NoneStruct) size else sizeOf(end.?) orelse return false;
        return piece.start <= piece.end and piece.end <= size;
    }

    pub fn bytes(piece: *const Piece) []u8 {
        return piece.buffer.start()[piece.start..piece.end];
    }

    pub fn release(piece: *Piece) void {
        piece.buffer.release();
    }
};

pub fn numberObject(number: i64) ?*Object {
    return api.PyLong_FromLongLong(number);
}

pub fn tupleOf(items: []const *Object) ?*Object {
    const tuple = api.PyTuple_New(@intCast(items.len)) orelse return null;
    for (items, 0..) |item, index| {
        api.Py_IncRef(item);
        _ = api.PyTuple_SetItem(tuple, @intCast(index), item);
    }
    return tuple;
}

/// A tuple of two numbers.
pub fn pairOf(first: i64, second: i64) ?*Object {
    const pair = api.PyTuple_New(2) orelse return null;
    for ([_]i64{ first, second }, 0..) |number, index| {
        const object = numberObject(number) orelse {
            api.Py_DecRef(pair);
            return null;
        };
        _ = api.PyTuple_SetItem(pair, @intCast(index), object);
    }
    return pair;
}

/// What a dictionary, or what stands for one, has for a number.
pub fn itemOf(dictionary: *Object, number: i64) ?*Object {
    const key = numberObject(number) orelse return null;
    defer api.Py_DecRef(key);
    return api.PyObject_GetItem(dictionary, key);
}
