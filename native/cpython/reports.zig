//! What a wait of a poller reports, as lists of Python.

const arguments = @import("arguments.zig");
const bounds = @import("bounds.zig");
const bytes = @import("bytes.zig");
const calling = @import("calling.zig");
const calls = @import("../calls.zig");
const events = @import("../base/events.zig");
const messages = @import("messages.zig");
const python = @import("api.zig");

const Handle = calls.Handle;
const Object = python.Object;
const Room = bytes.Room;
const api = &python.api;

/// What one wait of a poller reports.
pub const Reports = struct {
    sockets: [bounds.reports_max]Handle,
    happened: [bounds.reports_max]u32,

    /// The outcome: how many sockets there are, or a failure.
    pub fn wait(reports: *Reports, poller: Handle, timeout_ns: i64, place: *u32) i64 {
        return calling.callReleasingIf(timeout_ns != 0, calls.waitForEvents, .{
            poller, &reports.sockets, &reports.happened, timeout_ns, place,
        });
    }

    /// The sockets with their events.
    pub fn list(reports: *const Reports, found: i64, names: Names) ?*Object {
        var result = Filling.make(@intCast(found)) orelse return null;
        var reporter: Reporter = .{ .names = names };
        defer reporter.drop();
        for (reports.sockets[0..@intCast(found)], reports.happened[0..@intCast(found)]) |handle, happened| {
            if (reporter.report(handle, happened, 2)) |report| {
                result.add(report);
            } else if (api.PyErr_Occurred() != null) return result.drop();
        }
        return result.made();
    }

    /// The sockets with their events, and with at most `size` bytes read from each that has some.
    ///
    /// The list is made before a byte is read. If memory ends then, the next wait reports the others again.
    pub fn received(reports: *Reports, found: i64, names: Names, max_bytes: usize) ?*Object {
        const nothing = bytes.make(0) orelse return null;
        defer api.Py_DecRef(nothing);
        var result = reports.unread(found, names, nothing) orelse return null;
        // Runs signal handlers now: they have been due since the wait, and may raise.
        if (api.PyErr_CheckSignals() != 0 or !result.cut()) return result.drop();
        var reader: Reader = .{ .room = .take(max_bytes) };
        defer reader.room.leave();
        for (reports.sockets[0..result.count], reports.happened[0..result.count], 0..) |handle, happened, place| {
            const report = api.PyList_GetItem(result.list, @intCast(place)).?;
            // The tuple is complete when it has its bytes, or when none come.
            defer api.PyObject_GC_Track(report);
            if (happened & events.data_available == 0 or reader.memory_ended) continue;
            if (reader.read(handle)) |data| _ = api.PyTuple_SetItem(report, 2, data);
        }
        if (reader.memory_ended) {
            if (!reader.has_read) return result.drop();
            api.PyErr_Clear();
        }
        return result.made();
    }

    /// The sockets with their events, and with the messages that each stream has received.
    ///
    /// The lists are made before a message is taken. If memory ends then, the next wait reports the others again.
    pub fn withMessages(reports: *Reports, found: i64, names: Names) ?*Object {
        var result = reports.unread(found, names, api._Py_NoneStruct) orelse return null;
        // Runs signal handlers now: they have been due since the wait, and may raise.
        if (api.PyErr_CheckSignals() != 0 or !result.cut()) return result.drop();
        for (0..result.count) |place| {
            const taken = api.PyList_New(0) orelse return result.drop();
            const report = api.PyList_GetItem(result.list, @intCast(place)).?;
            _ = api.PyTuple_SetItem(report, 2, taken);
            api.PyObject_GC_Track(report);
        }
        for (reports.sockets[0..result.count], reports.happened[0..result.count], 0..) |handle, happened, place| {
            if (happened & events.message_available == 0) continue;
            const report = api.PyList_GetItem(result.list, @intCast(place)).?;
            if (messages.takeAfterWait(handle, api.PyTuple_GetItem(report, 2).?)) continue;
            if (place == 0) return result.drop();
            api.PyErr_Clear();
            result.count = place;
            break;
        }
        if (!result.cut()) {
            // The others stay, with no messages: better than to lose those that were received.
            api.PyErr_Clear();
            result.count = result.room;
        }
        return result.made();
    }

    /// The sockets with their events and no bytes. Sockets that have left the poller since are taken out of the arrays
    /// too.
    fn unread(reports: *Reports, found: i64, names: Names, nothing: *Object) ?Filling {
        var result = Filling.make(@intCast(found)) orelse return null;
        var reporter: Reporter = .{ .names = names };
        defer reporter.drop();
        for (0..@intCast(found)) |place| {
            const handle = reports.sockets[place];
            const happened = reports.happened[place];
            const report = reporter.report(handle, happened, 3) orelse {
                if (api.PyErr_Occurred() == null) continue;
                _ = result.drop();
                return null;
            };
            // Untracked until it is complete, like the list: see Filling.
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

/// Reads from one stream after another.
const Reader = struct {
    room: Room,
    turns: calling.Turns = .{},
    has_read: bool = false,
    /// With an exception set.
    memory_ended: bool = false,

    /// Null where nothing is there, or it can't be read: the next call for that stream tells why.
    fn read(reader: *Reader, handle: Handle) ?*Object {
        if (!reader.room.isReady()) {
            reader.memory_ended = true;
            return null;
        }
        const room = reader.room.bytes();
        // A read seldom fills the room, unless the room was made larger for it.
        const copies = if (calling.isMuch(room.len)) room.len else 0;
        const size = reader.turns.call(copies, calls.read, .{ handle, room, false });
        if (size <= 0) return null;
        const data = reader.room.handOut(size);
        if (data == null) reader.memory_ended = true else reader.has_read = true;
        return data;
    }
};

/// What a poller has for the numbers of reports.
pub const Names = struct {
    /// The objects by their handles.
    sockets: *Object,
    /// The sets of events by their numbers.
    sets: *Object,
};

/// Makes what is reported of a socket.
const Reporter = struct {
    names: Names,
    /// Most sockets of one wait have the same events.
    happened: u32 = 0,
    set: ?*Object = null,

    /// The object of a handle, and its events, in a new tuple of that size. Null without an exception if the socket has
    /// left the poller since, or is about to: another thread takes it out.
    fn report(reporter: *Reporter, handle: Handle, happened: u32, size: isize) ?*Object {
        const set = reporter.setOf(happened) orelse return null;
        const socket = arguments.itemOf(reporter.names.sockets, handle) orelse {
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
            reporter.set = arguments.itemOf(reporter.names.sets, happened);
            reporter.happened = happened;
        }
        return reporter.set;
    }

    fn drop(reporter: *Reporter) void {
        if (reporter.set) |set| api.Py_DecRef(set);
        reporter.set = null;
    }
};

/// A list that is being filled from its beginning, with room for all that may come. Until it is complete, the garbage
/// collector does not track it: gc.get_objects() would hand it to other threads, and its empty places crash Python.
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
        const first: isize = @intCast(filling.count);
        if (api.PyList_SetSlice(filling.list, first, @intCast(filling.room), null) != 0) return false;
        filling.room = filling.count;
        return true;
    }

    fn made(filling: *Filling) ?*Object {
        if (!filling.cut()) return filling.drop();
        api.PyObject_GC_Track(filling.list);
        return filling.list;
    }
};
