//! `bytes` objects that are read into.

const std = @import("std");
const arguments = @import("arguments.zig");
const python = @import("api.zig");

const Object = python.Object;
const api = &python.api;

pub fn make(size: usize) ?*Object {
    return api.PyBytes_FromStringAndSize(null, @intCast(size));
}

fn startOf(object: *Object) [*]u8 {
    return api.PyBytes_AsString(object).?;
}

/// All of a new one, of that size.
pub fn all(object: *Object, size: usize) []u8 {
    return startOf(object)[0..size];
}

/// What was read into the beginning of a new one of that size, or the failure. Takes the reference.
pub fn cut(object: *Object, size: usize, outcome: i64) ?*Object {
    if (outcome == size) return object;
    if (outcome < 0) {
        api.Py_DecRef(object);
        return arguments.numberObject(outcome);
    }
    var resized: ?*Object = object;
    // On a failure it is null, and the exception is set.
    _ = api._PyBytes_Resize(&resized, @intCast(outcome));
    return resized;
}

/// A `bytes` object to read into, which is there before a byte is read, so that none is lost for want of memory. Then
/// it is copied out of, or handed out itself.
pub const Room = struct {
    size: usize,
    object: ?*Object = null,
    /// Another thread made it: without a GIL, only that thread can cut it.
    is_foreign: bool = false,

    /// What one call leaves to the next. If it were freed, malloc would give it back to the system together with what
    /// was read into other memory below, and have both mapped again, page by page, by the next call. The memory begins
    /// with its thread.
    var spare: std.atomic.Value(?*Object) = .init(null);
    const spare_size = 65536;

    /// Bytes. Fewer are copied out of the room, which then serves again. More are handed out in the room itself, cut to
    /// its size: that costs a new room instead.
    const copied_max = 8192;

    pub fn take(size: usize) Room {
        var room: Room = .{ .size = size };
        if (size > spare_size) return room;
        room.object = spare.swap(null, .acquire);
        if (room.object) |object| room.is_foreign = maker(object).* != api.PyThread_get_thread_ident();
        return room;
    }

    /// Its size: a spare also serves callers that ask for less.
    fn capacity(room: *const Room) usize {
        return @max(room.size, spare_size);
    }

    fn maker(object: *Object) *align(1) c_ulong {
        return @ptrCast(startOf(object));
    }

    /// False with an exception set.
    pub fn isReady(room: *Room) bool {
        if (room.object == null) {
            room.object = make(room.capacity());
            room.is_foreign = false;
        }
        return room.object != null;
    }

    /// Where to read into, once it is ready.
    pub fn bytes(room: *const Room) []u8 {
        return all(room.object.?, room.size);
    }

    /// The bytes that were read into it. Null with an exception set if there is neither memory for a copy nor can the
    /// room be made smaller; then they are lost.
    pub fn handOut(room: *Room, count: i64) ?*Object {
        const object = room.object.?;
        if (count <= copied_max or room.is_foreign) {
            if (api.PyBytes_FromStringAndSize(startOf(object), @intCast(count))) |copy| return copy;
            api.PyErr_Clear();
        }
        room.object = null;
        return cut(object, room.capacity(), count);
    }

    /// To the next call, unless it has one.
    pub fn leave(room: *Room) void {
        const object = room.object orelse return;
        if (room.size > spare_size) return api.Py_DecRef(object);
        if (!room.is_foreign) maker(object).* = api.PyThread_get_thread_ident();
        if (spare.swap(object, .acq_rel)) |other| api.Py_DecRef(other);
    }
};
