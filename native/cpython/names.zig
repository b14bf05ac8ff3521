//! Names of attributes and parameters, kept as objects: Python's compiler has the same ones, so that a name is known by
//! its address, and an attribute is found at once.
//!
//! They are the main interpreter's, which ends last. Another one is given an object of its own each time.

const std = @import("std");
const python = @import("api.zig");

const Object = python.Object;
const api = &python.api;

pub const Name = enum {
    __new__,
    _closed,
    _handle,
    _sets,
    _sockets,
    buffer,
    data,
    end,
    max_bytes,
    peek,
    size,
    start,
    timeout,
};

var kept: std.EnumArray(Name, *Object) = undefined;
var are_kept: std.atomic.Value(bool) = .init(false);

/// To be called in the main interpreter before a name is asked for by `keptOf`. False with an exception set.
pub fn keep() bool {
    if (are_kept.load(.acquire)) return true;
    // If two threads come at once, both write the same.
    for (std.enums.values(Name)) |name| {
        kept.set(name, api.PyUnicode_InternFromString(@tagName(name)) orelse return false);
    }
    are_kept.store(true, .release);
    return true;
}

/// For the main interpreter alone, and borrowed.
pub fn keptOf(name: Name) *Object {
    return kept.get(name);
}

/// In any interpreter. Null with an exception set.
pub fn of(name: Name) ?*Object {
    if (!are_kept.load(.acquire) or !isMainInterpreter()) return api.PyUnicode_InternFromString(@tagName(name));
    const object = kept.get(name);
    api.Py_IncRef(object);
    return object;
}

pub fn isMainInterpreter() bool {
    return api.PyInterpreterState_GetID(api.PyInterpreterState_Get()) == 0;
}
