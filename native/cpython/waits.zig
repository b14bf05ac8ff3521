//! Waiting: the built-in functions, and the built-in methods of pollers.

const arguments = @import("arguments.zig");
const bounds = @import("bounds.zig");
const calling = @import("calling.zig");
const calls = @import("../calls.zig");
const methods = @import("methods.zig");
const places = @import("../base/places.zig");
const python = @import("api.zig");
const reporting = @import("reports.zig");
const unfilled = @import("../base/unfilled.zig");

const Handle = calls.Handle;
const Names = reporting.Names;
const Object = python.Object;
const Remaining = methods.Remaining;
const Reports = reporting.Reports;
const Returned = arguments.Returned;
const api = &python.api;

// ---- Functions ----

/// poll_socket(handle, events, timeout_ns, place)
pub fn pollSocket(given: *const [4]*Object) Returned {
    const handle = arguments.numberOf(Handle, given[0]) orelse return error.Unusual;
    const asked = arguments.numberOf(u32, given[1]) orelse return error.Unusual;
    const timeout_ns = arguments.numberOf(i64, given[2]) orelse return error.Unusual;
    var place = arguments.numberOf(u32, given[3]) orelse return error.Unusual;
    const all = .{ handle, asked, timeout_ns, &place };
    const outcome = calling.callReleasingIf(timeout_ns != 0, calls.pollSocket, all);
    return arguments.numberObject(calling.placed(outcome, timeout_ns, place));
}

/// wait_for_events(poller, sockets, sets, timeout_ns, place) -> a list of the sockets with their events, or a failure
///
/// sockets and sets: see Names.
pub fn waitForEvents(given: *const [5]*Object) Returned {
    return unfilled.with(Reports, waitForEventsWith, .{given});
}

fn waitForEventsWith(reports: *Reports, given: *const [5]*Object) Returned {
    const poller = arguments.numberOf(Handle, given[0]) orelse return error.Unusual;
    const timeout_ns = arguments.numberOf(i64, given[3]) orelse return error.Unusual;
    var place = arguments.numberOf(u32, given[4]) orelse return error.Unusual;
    const found = calling.placed(reports.wait(poller, timeout_ns, &place), timeout_ns, place);
    if (found < 0) return arguments.numberObject(found);
    return reports.list(found, .{ .sockets = given[1], .sets = given[2] });
}

/// receive(poller, sockets, sets, max_bytes, timeout_ns, place) -> a list of the sockets with their events and what was
/// read, or a failure
pub fn receive(given: *const [6]*Object) Returned {
    return unfilled.with(Reports, receiveWith, .{given});
}

fn receiveWith(reports: *Reports, given: *const [6]*Object) Returned {
    const poller = arguments.numberOf(Handle, given[0]) orelse return error.Unusual;
    const max_bytes = arguments.sizeOf(given[3]) orelse return error.Unusual;
    const timeout_ns = arguments.numberOf(i64, given[4]) orelse return error.Unusual;
    var place = arguments.numberOf(u32, given[5]) orelse return error.Unusual;
    if (max_bytes == 0 or max_bytes > bounds.read_max) return error.Unusual;
    const found = calling.placed(reports.wait(poller, timeout_ns, &place), timeout_ns, place);
    if (found < 0) return arguments.numberObject(found);
    return reports.received(found, .{ .sockets = given[1], .sets = given[2] }, max_bytes);
}

/// receive_messages_of_many(poller, sockets, sets, timeout_ns, place) -> a list of the sockets with their events and
/// lists of messages, or a failure
pub fn receiveMessages(given: *const [5]*Object) Returned {
    return unfilled.with(Reports, receiveMessagesWith, .{given});
}

fn receiveMessagesWith(reports: *Reports, given: *const [5]*Object) Returned {
    const poller = arguments.numberOf(Handle, given[0]) orelse return error.Unusual;
    const timeout_ns = arguments.numberOf(i64, given[3]) orelse return error.Unusual;
    var place = arguments.numberOf(u32, given[4]) orelse return error.Unusual;
    const found = calling.placed(reports.wait(poller, timeout_ns, &place), timeout_ns, place);
    if (found < 0) return arguments.numberObject(found);
    return reports.withMessages(found, .{ .sockets = given[1], .sets = given[2] });
}

// ---- Methods ----

/// wait_for_events(self, timeout=None)
pub fn waitForEventsMethod(poller: *Object, given: anytype) Returned {
    return switch (wait(poller, given.get(.timeout), null)) {
        .done => |result| result,
        .unusual => error.Unusual,
        .goes_on => |rest| goOn(poller, "_wait_for_events_on", rest, null),
    };
}

/// receive(self, timeout=None, max_bytes=65536)
pub fn receiveMethod(poller: *Object, given: anytype) Returned {
    const max_bytes = given.get(.max_bytes);
    const size = methods.maxBytesOf(max_bytes) orelse return error.Unusual;
    return switch (wait(poller, given.get(.timeout), size)) {
        .done => |result| result,
        .unusual => error.Unusual,
        .goes_on => |rest| goOn(poller, "_receive_on", rest, max_bytes),
    };
}

/// Has the package go on with a wait, by the method of that name: with the wait's place, the seconds that are left, and
/// the size as it was given.
fn goOn(poller: *Object, name: [*:0]const u8, rest: Wait.Rest, max_bytes: ?*Object) ?*Object {
    const seconds = rest.remaining.seconds() orelse return null;
    defer api.Py_DecRef(seconds);
    const place = arguments.numberObject(rest.place) orelse return null;
    defer api.Py_DecRef(place);
    if (max_bytes) |object| return methods.callMethod(poller, name, &.{ place, seconds, object });
    return methods.callMethod(poller, name, &.{ place, seconds });
}

/// A poller's wait, up to where the package would look for signals. With a size, it also reads.
///
/// A function of its own, so that the room for reports is off the stack, which may be small, when Python is called.
noinline fn wait(poller: *Object, timeout: ?*Object, size: ?usize) Wait {
    return unfilled.with(Reports, Wait.run, .{ poller, timeout, size });
}

const Wait = union(enum) {
    /// A list, or null with an exception set.
    done: ?*Object,
    /// Unusual arguments; or a failure, which the package finds again when it waits itself.
    unusual,
    /// For the package.
    goes_on: Rest,

    const Rest = struct { remaining: Remaining, place: u32 };

    fn run(reports: *Reports, poller: *Object, timeout: ?*Object, size: ?usize) Wait {
        const remaining = Remaining.of(timeout) catch return .unusual;
        const handle = methods.handleOf(poller) orelse return .unusual;
        var place: u32 = places.none;
        const outcome = reports.wait(handle, remaining.first_slice_ns, &place);
        if (outcome > 0) return .{ .done = report(reports, outcome, poller, size) };
        if (calling.isInterrupted(outcome) or (outcome == 0 and !remaining.is_whole)) {
            return .{ .goes_on = .{ .remaining = remaining, .place = place } };
        }
        if (outcome == 0 or calling.isWoken(outcome)) return .{ .done = api.PyList_New(0) };
        return .unusual;
    }

    fn report(reports: *Reports, found: i64, poller: *Object, size: ?usize) ?*Object {
        const sockets = methods.attributeOf(poller, ._sockets) orelse return null;
        defer api.Py_DecRef(sockets);
        const sets = methods.attributeOf(poller, ._sets) orelse return null;
        defer api.Py_DecRef(sets);
        const names: Names = .{ .sockets = sockets, .sets = sets };
        return if (size) |max_bytes| reports.received(found, names, max_bytes) else reports.list(found, names);
    }
};
