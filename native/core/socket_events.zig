//! What pollers, poll_sockets and the C interface ask of servers and streams alike. With the library's lock held.

const platform = @import("../platform.zig");
const events = @import("../base/events.zig");
const handles = @import("handles.zig");
const status = @import("../base/status.zig");

/// The events that a socket of this kind can have.
pub fn eventsAllowed(socket: *const handles.Slot) u32 {
    return switch (socket.object) {
        .server => events.of_servers,
        .stream => events.of_streams,
        .none, .poller => unreachable,
    };
}

/// How to learn of the asked-for events, by what is known of the socket now.
pub fn planOf(socket: *const handles.Slot, asked: u32) events.Plan {
    return switch (socket.object) {
        .server => |*server| server.plan(asked),
        .stream => |*stream| .ofStream(asked, stream.connection.known.load(), stream.kept()),
        .none, .poller => unreachable,
    };
}

/// What selectors watch of it.
pub fn watchedOf(socket: *handles.Slot) platform.Descriptor {
    return switch (socket.object) {
        .server => |*server| server.watched(),
        .stream => |*stream| stream.watched(),
        .none, .poller => unreachable,
    };
}

/// The socket's events that hold, by what a selector reported (null: ask the socket itself). A connection whose outcome
/// becomes known by that, or what the stream keeps from then on, is told to every poller that has it.
pub fn eventsOf(
    socket: *handles.Slot,
    conditions: ?events.Conditions,
    asked: u32,
    failure: *status.Failure,
) status.Error!u32 {
    switch (socket.object) {
        .server => |*server| {
            return if (conditions) |given| server.eventsOf(given, asked) else server.probe(asked, failure);
        },
        .stream => |*stream| {
            const before = stream.connection.known.load();
            const changes_before = stream.changes();
            const result = if (conditions) |given|
                stream.eventsOf(given, asked, failure)
            else
                stream.probe(asked, failure);
            const is_determined = !before.determined and stream.connection.known.load().determined;
            if (is_determined or changes_before != stream.changes()) becameKnown(socket);
            return result;
        },
        .none, .poller => unreachable,
    }
}

/// Another number after the look at a socket has moved bytes, of a message. Then a selector that reports the same again
/// has something new to report.
pub fn changesOf(socket: *const handles.Slot) u32 {
    return switch (socket.object) {
        .stream => |*stream| stream.changes(),
        .server => 0,
        .none, .poller => unreachable,
    };
}

/// For events of messages, what a stream keeps. To be called before they are asked for.
pub fn prepare(socket: *handles.Slot, asked: u32) status.Error!void {
    if (asked & (events.message_available | events.message_space) == 0) return;
    _ = try socket.object.stream.needMailbox();
}

/// The asked-for events may hold from now on, whatever the selectors report.
pub fn becameKnown(socket: *handles.Slot) void {
    handles.table.notifyPollWaiters(socket);
    if (socket.registrations.first != null) handles.poller_hooks.becameKnown(socket);
}
