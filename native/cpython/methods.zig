//! Built-in methods of streams and pollers, and what they ask of these: `NativeStream` and `NativePoller` in the
//! package declare it.
//!
//! Their references are the methods in Python, which the classes keep by the same names with "_python_" in front.
//!
//! Nothing is kept between two calls but names, which are the main interpreter's: its classes alone have such methods.

const std = @import("std");
const arguments = @import("arguments.zig");
const bounds = @import("bounds.zig");
const calls = @import("../calls.zig");
const names = @import("names.zig");
const python = @import("api.zig");

const Handle = calls.Handle;
const Method = python.Method;
const Name = names.Name;
const Object = python.Object;
const Returned = arguments.Returned;
const api = &python.api;

// ---- Making them ----

/// A built-in method with these parameters, of which only the first can be given without their names.
pub fn builtIn(
    comptime name: [:0]const u8,
    comptime parameters: []const Name,
    comptime positional_max: usize,
    comptime code: anytype,
) Method {
    const Given = Arguments(parameters, positional_max);
    return .{ .name = name, .flags = Method.fast_call | Method.keywords, .function = &struct {
        fn call(object: *Object, all: [*]const *Object, count: isize, keywords: ?*Object) callconv(.c) ?*Object {
            const named = Given.of(all, count, keywords);
            const returned: Returned = if (named) |given| code(object, given) else error.Unusual;
            return returned catch refer("_python_" ++ name, object, all, count, keywords);
        }
    }.call };
}

/// The arguments of a method, by the names of its parameters.
fn Arguments(comptime parameters: []const Name, comptime positional_max: usize) type {
    return struct {
        const Self = @This();

        values: [parameters.len]?*Object = @splat(null),

        /// Null for too many, for one that is given twice, and for a name that is no parameter's, or another object.
        fn of(all: [*]const *Object, count: isize, keywords: ?*Object) ?Self {
            const positional: usize = @intCast(count);
            if (positional > positional_max) return null;
            var self: Self = .{};
            for (all[0..positional], self.values[0..positional]) |argument, *value| value.* = argument;
            const named = keywords orelse return self;
            for (0..@intCast(api.PyTuple_Size(named))) |at| {
                const place = placeOf(api.PyTuple_GetItem(named, @intCast(at)).?) orelse return null;
                if (self.values[place] != null) return null;
                self.values[place] = all[positional + at];
            }
            return self;
        }

        fn placeOf(keyword: *Object) ?usize {
            inline for (parameters, 0..) |name, place| {
                if (keyword == names.keptOf(name)) return place;
            }
            return null;
        }

        pub fn get(self: *const Self, comptime name: Name) ?*Object {
            return self.values[comptime std.mem.indexOfScalar(Name, parameters, name).?];
        }
    };
}

/// Has the method of this name, in Python, deal with arguments that are not the usual ones.
fn refer(
    comptime name: [*:0]const u8,
    object: *Object,
    all: [*]const *Object,
    count: isize,
    keywords: ?*Object,
) ?*Object {
    if (!forgetsUsual()) return null;
    const reference = api.PyObject_GetAttrString(object, name) orelse return null;
    defer api.Py_DecRef(reference);
    const positional = arguments.tupleOf(all[0..@intCast(count)]) orelse return null;
    defer api.Py_DecRef(positional);
    const keyword_names = keywords orelse return api.PyObject_CallObject(reference, positional);
    const named = api.PyDict_New() orelse return null;
    defer api.Py_DecRef(named);
    const named_count: usize = @intCast(api.PySequence_Size(keyword_names));
    for (all[@intCast(count)..][0..named_count], 0..) |argument, index| {
        const keyword = api.PySequence_GetItem(keyword_names, @intCast(index)) orelse return null;
        defer api.Py_DecRef(keyword);
        if (api.PyObject_SetItem(named, keyword, argument) != 0) return null;
    }
    return api.PyObject_Call(reference, positional, named);
}

/// Forgets an exception that says that an argument is unusual: the reference raises it again. The arguments are the
/// program's own objects, and a signal's handler may interrupt their code and raise anything: such an exception is
/// kept.
fn forgetsUsual() bool {
    if (api.PyErr_Occurred() == null) return true;
    inline for (.{ "AttributeError", "BufferError", "OverflowError", "TypeError", "ValueError" }) |kind| {
        if (api.PyErr_ExceptionMatches(@field(api, "PyExc_" ++ kind).*) != 0) {
            api.PyErr_Clear();
            return true;
        }
    }
    return false;
}

// ---- What they have in common ----

/// Null with an exception set.
pub fn attributeOf(object: *Object, comptime name: Name) ?*Object {
    return api.PyObject_GetAttr(object, names.keptOf(name));
}

/// Null for an object that is not finished yet, with an exception set.
pub fn handleOf(object: *Object) ?Handle {
    const attribute = attributeOf(object, ._handle) orelse return null;
    defer api.Py_DecRef(attribute);
    return arguments.numberOf(Handle, attribute);
}

/// How many bytes a parameter with a default allows. Null for an unusual argument.
pub fn maxBytesOf(given: ?*Object) ?usize {
    const size = if (given) |object| arguments.sizeOf(object) orelse 0 else bounds.max_bytes_default;
    return if (size == 0 or size > bounds.read_max) null else size;
}

/// Calls a method that the class has in Python.
pub fn callMethod(object: *Object, name: [*:0]const u8, given: []const *Object) ?*Object {
    const method = api.PyObject_GetAttrString(object, name) orelse return null;
    defer api.Py_DecRef(method);
    const all = arguments.tupleOf(given) orelse return null;
    defer api.Py_DecRef(all);
    return api.PyObject_CallObject(method, all);
}

/// What is left of a method's timeout while it waits, in pieces.
pub const Remaining = struct {
    timeout: *Object,
    deadline: calls.Deadline,
    /// The piece before the package looks for signals.
    first_slice_ns: i64,
    is_whole: bool,

    pub fn of(timeout: ?*Object) error{Unusual}!Remaining {
        const given = timeout orelse api._Py_NoneStruct;
        const timeout_ns = try arguments.timeoutNsOf(given);
        const slice_ns = if (timeout_ns < 0) bounds.first_slice_ns else @min(timeout_ns, bounds.first_slice_ns);
        return .{
            .timeout = given,
            .deadline = .after(timeout_ns),
            .first_slice_ns = slice_ns,
            .is_whole = slice_ns == timeout_ns,
        };
    }

    /// In seconds, for the package.
    pub fn seconds(remaining: *const Remaining) ?*Object {
        const left_ns: i64 = if (remaining.deadline.remainingNs()) |ns| @intCast(ns) else -1;
        return arguments.secondsOf(remaining.timeout, left_ns);
    }
};
