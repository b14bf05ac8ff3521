//! Writing to many streams in one call: write_many, and send_messages.

const std = @import("std");
const arguments = @import("arguments.zig");
const calling = @import("calling.zig");
const calls = @import("../calls.zig");
const messages = @import("messages.zig");
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

// ---- Messages ----

/// One message of several streams' messages, and what became of it.
const Letter = struct {
    handle: Handle,
    data: []const u8,
    outcome: i64 = 0,

    const taken = 1;

    fn isBefore(letters: []const Letter, one: usize, other: usize) bool {
        const handle = letters[one].handle;
        const other_handle = letters[other].handle;
        return if (handle == other_handle) one < other else handle < other_handle;
    }
};

/// send_messages_to_many(items, kind) -> a list of the places of the messages that were not taken, with 0 if there was
/// no room, or the failure
///
/// items: a list of tuples of a stream, of that kind, and its message.
pub fn sendMessages(given: *const [2]*Object) Returned {
    if (!arguments.isExactly(given[0], api.PyList_Type)) return error.Unusual;
    const count: usize = @intCast(api.PyList_Size(given[0]));
    if (count == 0) return error.Unusual;
    const memory = api.PyMem_Malloc(count * (@sizeOf(Letter) + @sizeOf([]const u8) + @sizeOf(usize))) orelse
        return api.PyErr_NoMemory();
    defer api.PyMem_Free(memory);
    const letters = @as([*]Letter, @ptrCast(@alignCast(memory)))[0..count];
    const slices = @as([*][]const u8, @ptrCast(@alignCast(letters.ptr + count)))[0..count];
    const order = @as([*]usize, @ptrCast(slices.ptr + count))[0..count];
    const handle_name = names.of(._handle) orelse return null;
    defer api.Py_DecRef(handle_name);
    const reader: ItemReader = .{ .kind = given[1], .handle_name = handle_name };
    // The tuples keep them alive; a copy of the list, for another thread may change it.
    const items = api.PySequence_Tuple(given[0]) orelse return null;
    defer api.Py_DecRef(items);
    if (api.PyTuple_Size(items) != count) return error.Unusual;
    for (letters, order, 0..) |*letter, *place, index| {
        letter.* = reader.letterOf(api.PyTuple_GetItem(items, @intCast(index)).?) orelse return error.Unusual;
        place.* = index;
    }
    // For the messages that are not taken: most of the time there are none.
    const list = api.PyList_New(0) orelse return null;
    // If a signal's handler raises, nothing has been sent yet.
    if (api.PyErr_CheckSignals() != 0) {
        api.Py_DecRef(list);
        return null;
    }
    std.sort.pdq(usize, order, @as([]const Letter, letters), Letter.isBefore);
    var start: usize = 0;
    while (start < count) {
        var end = start + 1;
        while (end < count and letters[order[end]].handle == letters[order[start]].handle) end += 1;
        sendToOne(letters, order[start..end], slices[start..end]);
        start = end;
    }
    return addUntaken(letters, list);
}

/// Sends the messages of one stream, in as few calls of the system as can be.
fn sendToOne(letters: []Letter, order: []const usize, slices: [][]const u8) void {
    const handle = letters[order[0]].handle;
    const size_max = calling.call(calls.maxMessageSize, .{handle});
    var size: usize = 0;
    var allowed_count: usize = 0;
    for (order, slices) |place, *slice| {
        slice.* = letters[place].data;
        if (slice.len > size_max) break;
        size += slice.len;
        allowed_count += 1;
    }
    var outcome = size_max;
    var taken_count: usize = 0;
    if (allowed_count > 0) {
        outcome = messages.sendInTime(handle, slices[0..allowed_count], size, 0);
        if (outcome >= 0) taken_count = @intCast(@divFloor(outcome, 2));
    }
    for (order, 0..) |place, index| {
        letters[place].outcome = if (index < taken_count) Letter.taken else @min(outcome, 0);
    }
    if (outcome < 0 or taken_count < allowed_count or allowed_count == order.len) return;
    for (order[allowed_count..]) |place| letters[place].outcome = calling.outcomeOf(error.MessageTooLarge);
}

/// Takes the reference to the list.
fn addUntaken(letters: []const Letter, list: *Object) ?*Object {
    for (letters, 0..) |letter, place| {
        if (letter.outcome == Letter.taken) continue;
        const pair = arguments.pairOf(@intCast(place), letter.outcome) orelse {
            api.Py_DecRef(list);
            return null;
        };
        defer api.Py_DecRef(pair);
        if (api.PyList_Append(list, pair) == 0) continue;
        api.Py_DecRef(list);
        return null;
    }
    return list;
}

// ---- Items ----

const ItemReader = struct {
    kind: *Object,
    handle_name: *Object,

    /// Null if that is no item, or an unusual one; an exception may be set.
    fn read(reader: *const ItemReader, items: *Object, place: isize) ?Item {
        const pair = api.PySequence_GetItem(items, place) orelse return null;
        defer api.Py_DecRef(pair);
        return .{
            .handle = reader.handleIn(pair) orelse return null,
            .data = Piece.of(api.PyTuple_GetItem(pair, 1).?, .reading, null, null) orelse return null,
        };
    }

    /// The same for a message, which is nothing but `bytes`.
    fn letterOf(reader: *const ItemReader, pair: *Object) ?Letter {
        return .{
            .handle = reader.handleIn(pair) orelse return null,
            .data = messages.bytesOf(api.PyTuple_GetItem(pair, 1).?) orelse return null,
        };
    }

    /// That of the stream in a pair, if it is one.
    fn handleIn(reader: *const ItemReader, pair: *Object) ?Handle {
        if (!arguments.isExactly(pair, api.PyTuple_Type) or api.PyTuple_Size(pair) != 2) return null;
        const stream = api.PyTuple_GetItem(pair, 0).?;
        if (!reader.isStream(stream)) return null;
        const handle = api.PyObject_GetAttr(stream, reader.handle_name) orelse return null;
        defer api.Py_DecRef(handle);
        return arguments.numberOf(Handle, handle);
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
