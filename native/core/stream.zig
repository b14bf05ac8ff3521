//! Streams, the same on every system and for every transport: what is sent and received, what follows from the errors,
//! and what is known of the connection. A transport moves bytes, and tells what the system says.

const std = @import("std");
const platform = @import("../platform.zig");
const events = @import("../base/events.zig");
const net = @import("../net/address.zig");
const status = @import("../base/status.zig");
const Connection = @import("connection.zig").Connection;

const Transport = platform.Transport;

pub const Stream = struct {
    transport: Transport,
    /// Kept, because the system forgets it when the connection ends.
    remote_address: net.Address,
    connection: Connection = .{},

    pub fn established(transport: Transport, remote_address: net.Address) Stream {
        return .{ .transport = transport, .remote_address = remote_address, .connection = .established };
    }

    // ---- Connecting ----

    pub fn connectLocal(pathname: []const u8, failure: *status.Failure) status.Error!Stream {
        return .established(try platform.connectLocal(pathname, failure), .local);
    }

    /// The port that the system chooses can be the very port that the stream connects to. TCP then connects the socket
    /// to itself (simultaneous open, RFC 9293, 3.5), where a user expects a refusal. Another try gets another port.
    const self_connects_max = 8;

    /// `local` is the address to connect from, if it matters.
    pub fn connectTcp(remote: net.Address, local: ?net.Address, failure: *status.Failure) status.Error!Stream {
        const chooses_port = if (local) |address| address.port() == 0 else true;
        for (0..self_connects_max) |_| {
            var attempt = try platform.connectTcp(remote, local, failure);
            errdefer attempt.transport.close();
            if (chooses_port and attempt.state != .failed) {
                const chosen = try attempt.transport.localAddress(failure);
                if (chosen.eql(remote.reached())) {
                    attempt.transport.close();
                    continue;
                }
            }
            var stream: Stream = .{ .transport = attempt.transport, .remote_address = remote };
            switch (attempt.state) {
                .connected => stream.connection.establish(),
                .under_way => {},
                .failed => |code| stream.connection.fail(code),
            }
            return stream;
        }
        return failure.system(platform.sys.refused_connection);
    }

    // ---- Bytes ----

    pub fn read(stream: *Stream, buffer: []u8, peek: bool, failure: *status.Failure) status.Error!usize {
        std.debug.assert(buffer.len > 0);
        if (!try stream.stands(failure)) return 0;
        switch (stream.transport.receive(buffer, peek)) {
            .count => |count| if (count > 0) return count,
            .nothing => return 0,
            .refused, .not_ours => |code| return failure.system(code),
            .broken => |code| stream.broke(code),
        }
        if (stream.transport.resetAtEnd()) |code| stream.broke(code);
        // The system gives unread bytes first: this is the end of them.
        stream.connection.known.add(.{ .ended = true, .drained = true });
        const code = stream.connection.errorCode();
        return if (code == 0) 0 else failure.system(code);
    }

    pub fn write(stream: *Stream, data: []const u8, failure: *status.Failure) status.Error!usize {
        std.debug.assert(data.len > 0);
        if (!try stream.stands(failure)) return 0;
        switch (stream.transport.send(data)) {
            .count => |count| return count,
            .nothing => return 0,
            .refused, .not_ours => |code| return failure.system(code),
            .broken => |code| {
                // What has come is still to be read.
                stream.keepError(code);
                return failure.system(code);
            },
        }
    }

    /// False while the attempt to connect goes on.
    fn stands(stream: *const Stream, failure: *status.Failure) status.Error!bool {
        const known = stream.connection.known.load();
        if (known.failed) return failure.system(stream.connection.errorCode());
        return known.determined;
    }

    pub fn finishWriting(stream: *Stream, failure: *status.Failure) status.Error!void {
        if (!stream.transport.canFinishWriting()) return error.Unsupported;
        // Linux would break off the attempt to connect.
        if (!try stream.stands(failure)) return failure.system(platform.sys.not_connected);
        if (stream.connection.known.load().finished) return;
        // Linux lets a severed local connection be finished, but not one of TCP.
        const conditions = try stream.transport.conditionsNow(failure);
        if (conditions.severed) return failure.system(platform.sys.not_connected);
        try stream.transport.finishWriting(failure);
        stream.connection.known.add(.{ .finished = true });
    }

    // ---- Events. With the library's lock held ----

    /// Which of the asked-for events hold now.
    pub fn probe(stream: *Stream, asked: u32, failure: *status.Failure) status.Error!u32 {
        return stream.eventsOf(try stream.transport.conditionsNow(failure), asked, failure);
    }

    /// Which of the asked-for events hold, by what a selector reported.
    pub fn eventsOf(
        stream: *Stream,
        conditions: events.Conditions,
        asked: u32,
        failure: *status.Failure,
    ) status.Error!u32 {
        const known = &stream.connection.known;
        if (!known.load().determined) {
            if (conditions.isEmpty()) return 0;
            try stream.determine(conditions, failure);
        }
        if (conditions.severed) {
            known.add(.{ .ended = true, .severed = true });
        } else if (conditions.ended) {
            known.add(.{ .ended = true });
        }
        var data = conditions.readable;
        if (known.load().gone()) {
            // Selectors report the end as readable too.
            data = false;
            if (!known.load().drained and asked & (events.data_available | events.end_of_data) != 0) {
                data = try stream.hasUnread(failure);
            }
        }
        const result = asked & events.ofStream(known.load(), .{ .data = data, .space = conditions.writable });
        if (conditions.severed and !stream.transport.tellsReasonLater()) try stream.learnReason(failure);
        return result;
    }

    /// Whether bytes of a remote end that has gone are still to be read. It adds `drained` if there are none for
    /// certain.
    pub fn hasUnread(stream: *Stream, failure: *status.Failure) status.Error!bool {
        switch (stream.transport.look()) {
            .count => |count| if (count > 0) return true,
            // The end was reported, but the look did not find it: nothing is certain.
            .nothing => return false,
            .refused => |code| return failure.system(code),
            // Nothing can be read any more.
            .not_ours => {},
            .broken => |code| stream.broke(code),
        }
        stream.connection.known.add(.{ .drained = true });
        return false;
    }

    /// Something was reported while the stream was connecting: the attempt has ended.
    fn determine(stream: *Stream, conditions: events.Conditions, failure: *status.Failure) status.Error!void {
        const code = stream.transport.takeError();
        if (code == 0 and !conditions.severed) return stream.connection.establish();
        // Kept first: the system tells the code once, and the look for bytes may fail.
        stream.keepError(code);
        // Was it established and severed before anybody looked? What arrived in between must not be lost. And a child
        // that shares the socket may have written to it.
        if (stream.transport.isOfWrite(code) or try stream.hasUnread(failure)) {
            return stream.connection.known.add(.{ .determined = true, .ended = true, .severed = true });
        }
        // The code is 0 if another process that shares the socket took it.
        stream.connection.fail(if (code == 0) platform.sys.connection_aborted else code);
    }

    // ---- Why it ended ----

    /// 0 if there is none (yet). With the library's lock held.
    pub fn connectionError(stream: *Stream, failure: *status.Failure) status.Error!i32 {
        _ = try stream.probe(events.of_streams, failure);
        const known = stream.connection.known.load();
        if (known.determined and known.severed and stream.transport.tellsReasonLater()) try stream.learnReason(failure);
        return stream.connection.errorCode();
    }

    /// Asks why it was severed, if that is not known.
    fn learnReason(stream: *Stream, failure: *status.Failure) status.Error!void {
        if (stream.connection.errorCode() != 0) return;
        if (stream.transport.reasonIsRead()) _ = try stream.hasUnread(failure);
        stream.keepError(stream.transport.reasonOfSevering());
    }

    /// Reading has failed for good.
    fn broke(stream: *Stream, code: i32) void {
        stream.keepError(code);
        stream.connection.known.add(.{ .ended = true, .severed = true });
    }

    fn keepError(stream: *Stream, code: i32) void {
        if (!stream.transport.isOfWrite(code)) stream.connection.keepError(code);
    }

    // ---- The rest ----

    pub fn localAddress(stream: *Stream, failure: *status.Failure) status.Error!net.Address {
        return stream.transport.localAddress(failure);
    }

    pub fn watched(stream: *Stream) platform.Descriptor {
        return stream.transport.watched();
    }

    pub fn fileno(stream: *const Stream) status.Error!i64 {
        return stream.transport.fileno();
    }

    /// The coming close gives up what the remote end has not yet read or received. With the library's lock held.
    pub fn prepareAbort(stream: *Stream) void {
        stream.transport.prepareAbort();
    }

    pub fn deinit(stream: *Stream) void {
        stream.transport.close();
    }
};
