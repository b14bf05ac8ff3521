//! write_many: writing to many streams in one call.

const arguments = @import("arguments.zig");
const calling = @import("calling.zig");
const calls = @import("../calls.zig");
const names = @import("names.zig");
const python = @import("api.zig");

const Handle = calls.Handle;
const Object = python.Object;
const Piece = arguments.Piece;
const Returned = arguments.Returned;
const api = &python.api;

const Item = struct { handle: Handle, data: Piece };

/// write_many(items, kind) -> a list of the places of the items that were not taken wholly, with what was taken of
/// each, or its failure
///
/// items: a list of tuples of a stream, of that kind, and its data.
pub fn writeMany(given: *const [2]*Object) Returned {
    if (!arguments.isExactly(given[0], api.PyList_Type)) return error.Unusual;
    const size: usize = @intCast(api.PyList_Size(given[0]));
    if (size == 0) return error.Unusual;
    const memory = api.PyMem_Malloc(size * @sizeOf(Item)) orelse return api.PyErr_NoMemory();
    defer api.PyMem_Free(memory);
    const items = @as([*]Item, @ptrCast(@alignCast(memory)))[0..size];
    var known: usize = 0;
    defer for (items[0..known]) |*item| item.data.release();
    const handle_name = names.of(._handle) orelse return null;
    defer api.Py_DecRef(handle_name);
    const reader: ItemReader = .{ .kind = given[1], .handle_name = handle_name };
    // All of them before the first byte is written, so that a wrong one spoils nothing.
    for (items, 0..) |*item, place| {
        item.* = reader.read(given[0], @intCast(place)) orelse return error.Unusual;
        known += 1;
    }
    return writeItems(items);
}

fn writeItems(items: []const Item) ?*Object {
    // For the items that are not taken wholly: most of the time there are none.
    var unfinished = Unfinished.make() orelse return null;
    // If a signal's handler raises, nothing has been written yet.
    if (api.PyErr_CheckSignals() != 0) return unfinished.drop();
    var turns: calling.Turns = .{};
    for (items, 0..) |*item, place| {
        const data = item.data.bytes();
        const outcome = unfinished.earlier(item.handle) orelse
            turns.call(data.len, calls.write, .{ item.handle, data });
        if (outcome == data.len) continue;
        if (!unfinished.add(place, item.handle, outcome)) return unfinished.drop();
    }
    return unfinished.made();
}

const ItemReader = struct {
    kind: *Object,
    handle_name: *Object,

    /// Null if that is no item, or an unusual one; an exception may be set.
    fn read(reader: *const ItemReader, items: *Object, place: isize) ?Item {
        const pair = api.PySequence_GetItem(items, place) orelse return null;
        defer api.Py_DecRef(pair);
        if (!arguments.isExactly(pair, api.PyTuple_Type) or api.PyTuple_Size(pair) != 2) return null;
        const stream = api.PyTuple_GetItem(pair, 0).?;
        if (!reader.isStream(stream)) return null;
        const handle = api.PyObject_GetAttr(stream, reader.handle_name) orelse return null;
        defer api.Py_DecRef(handle);
        return .{
            .handle = arguments.numberOf(Handle, handle) orelse return null,
            .data = Piece.of(api.PyTuple_GetItem(pair, 1).?, .reading, null, null) orelse return null,
        };
    }

    /// Whether the object's own type is of the kind: a proxy is not.
    fn isStream(reader: *const ItemReader, object: *Object) bool {
        const its_type = api.PyObject_Type(object).?;
        defer api.Py_DecRef(its_type);
        return api.PyType_IsSubtype(its_type, reader.kind) != 0;
    }
};

/// What was not taken wholly, for want of room or because of an error. Later items for such a stream must not overtake
/// it.
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
        const pair = arguments.pairOf(@intCast(place), outcome) orelse return false;
        defer api.Py_DecRef(pair);
        if (api.PyList_Append(unfinished.list, pair) != 0) return false;
        if (unfinished.later == null) unfinished.later = api.PyDict_New() orelse return false;
        const key = arguments.numberObject(handle) orelse return false;
        defer api.Py_DecRef(key);
        const value = arguments.numberObject(@min(outcome, 0)) orelse return false;
        defer api.Py_DecRef(value);
        return api.PyObject_SetItem(unfinished.later.?, key, value) == 0;
    }

    fn earlier(unfinished: *Unfinished, handle: Handle) ?i64 {
        const outcome = arguments.itemOf(unfinished.later orelse return null, handle) orelse {
            // For want of memory, none of the others is written.
            const is_lost = api.PyErr_ExceptionMatches(api.PyExc_MemoryError.*) != 0;
            api.PyErr_Clear();
            return if (is_lost) 0 else null;
        };
        defer api.Py_DecRef(outcome);
        return api.PyLong_AsLongLong(outcome);
    }

    fn made(unfinished: *Unfinished) ?*Object {
        if (unfinished.later) |later| api.Py_DecRef(later);
        return unfinished.list;
    }

    fn drop(unfinished: *Unfinished) ?*Object {
        api.Py_DecRef(unfinished.made().?);
        return null;
    }
};
