//! Built-in functions, and their references: the Python functions that do the same by ctypes.
//!
//! Arguments of the usual types are dealt with by the built-in function. With all others the reference is called, which
//! takes more kinds of them, or says what is wrong. So both layers take the same arguments and raise the same errors,
//! and none is raised here but for want of memory, and for a class whose objects can't own a handle.

const std = @import("std");
const arguments = @import("arguments.zig");
const calling = @import("calling.zig");
const calls = @import("../calls.zig");
const python = @import("api.zig");

const Method = python.Method;
const Object = python.Object;
const Returned = arguments.Returned;
const api = &python.api;

/// A built-in function with this number of arguments, whose code takes an array of them.
pub fn builtIn(
    comptime name: [:0]const u8,
    comptime count: usize,
    comptime code: fn (*const [count]*Object) Returned,
) Method {
    return .{ .name = name, .flags = Method.fast_call, .function = &struct {
        fn call(reference: *Object, given: [*]const *Object, given_count: isize) callconv(.c) ?*Object {
            const returned: Returned = if (given_count == count) code(given[0..count]) else error.Unusual;
            return returned catch refer(reference, given[0..@intCast(given_count)]);
        }
    }.call };
}

/// A built-in function over one of the library that takes numbers, and can't block.
pub fn builtInOver(comptime name: [:0]const u8, comptime function: anytype) Method {
    const types = @typeInfo(@TypeOf(function)).@"fn".param_types;
    const count = types.len - @intFromBool(calls.takesFailure(function));
    comptime var number_types: [count]type = undefined;
    inline for (&number_types, types[0..count]) |*number_type, its_type| number_type.* = its_type.?;
    const Numbers = @Tuple(&number_types);
    return builtIn(name, count, struct {
        fn code(given: *const [count]*Object) Returned {
            var numbers: Numbers = undefined;
            inline for (&numbers, given) |*number, object| {
                number.* = arguments.numberOf(@TypeOf(number.*), object) orelse return error.Unusual;
            }
            return arguments.numberObject(calling.call(function, numbers));
        }
    }.code);
}

/// Has the reference deal with arguments that are not the usual ones.
fn refer(reference: *Object, given: []const *Object) ?*Object {
    if (!forgets()) return null;
    const all = arguments.tupleOf(given) orelse return null;
    defer api.Py_DecRef(all);
    return api.PyObject_CallObject(reference, all);
}

/// Forgets an exception that says that an argument is unusual: the reference raises it again. False for an exception
/// that must end more than the call, such as Ctrl-C's, which comes while an argument's own code runs. Also false for
/// want of memory, without which the reference can do nothing either.
fn forgets() bool {
    if (api.PyErr_Occurred() == null) return true;
    if (api.PyErr_ExceptionMatches(api.PyExc_MemoryError.*) != 0) return false;
    if (api.PyErr_ExceptionMatches(api.PyExc_Exception.*) == 0) return false;
    api.PyErr_Clear();
    return true;
}
