//! Servers and streams, whichever transport they have: TCP sockets or named pipes.

const std = @import("std");
const sys = @import("sys.zig");
const afd = @import("afd.zig");
const tcp = @import("transports/tcp.zig");
const pipes = @import("pipes.zig");
const Connection = @import("../core/connection.zig").Connection;
const events = @import("../core/events.zig");
const status = @import("../core/status.zig");

pub const Server = struct {
    transport: union(enum) {
        tcp: *tcp.Listener,
        pipe: *pipes.Listener,
    },

    pub fn accept(server: *Server, failure: *status.Failure) status.Error!Stream {
        switch (server.transport) {
            .tcp => |listener| if (try listener.accept(failure)) |client| return .{
                .connection = .established,
                .transport = .{ .tcp = .{ .socket = client.socket, .remote_address = client.address } },
            },
            .pipe => |listener| if (try listener.accept(failure)) |pipe| return .ofPipe(pipe),
        }
        failure.system_code = sys.code.wsa_ewouldblock;
        return error.NoConnection;
    }

    pub fn localAddress(server: *Server, failure: *status.Failure) status.Error!tcp.Address {
        return switch (server.transport) {
            .tcp => |listener| listener.socket.localAddress(failure),
            .pipe => error.WrongKind,
        };
    }

    pub fn watched(server: *Server) sys.Descriptor {
        return switch (server.transport) {
            .tcp => |listener| .{ .tcp_server = listener },
            .pipe => |listener| .{ .pipe_server = listener },
        };
    }

    pub fn fileno(server: *const Server) status.Error!i64 {
        return switch (server.transport) {
            .tcp => |listener| @intCast(listener.socket.socket),
            .pipe => error.Unsupported,
        };
    }

    pub fn eventsOf(_: *Server, conditions: events.Conditions, asked: u32) u32 {
        return if (conditions.readable) asked & events.connection_available else 0;
    }

    pub fn probe(server: *Server, asked: u32, _: *status.Failure) status.Error!u32 {
        return server.eventsOf(conditionsNow(server.watched()), asked);
    }

    /// A pipe's name goes by itself.
    pub fn prepareClose(_: *Server) bool {
        return true;
    }

    pub fn deinit(server: *Server) void {
        switch (server.transport) {
            inline .tcp, .pipe => |listener| listener.close(),
        }
    }
};

/// What the system says of a server or stream now. With the library's lock held.
pub fn conditionsNow(watched: sys.Descriptor) events.Conditions {
    return switch (watched) {
        .tcp => |socket| afd.conditionsNow(socket.base),
        inline .tcp_server, .pipe, .pipe_server => |one| one.conditionsNow(),
    };
}

pub const Stream = struct {
    connection: Connection = .{},
    transport: union(enum) {
        tcp: struct {
            socket: tcp.Socket,
            /// Kept, because the system forgets it when the connection ends.
            remote_address: tcp.Address,
        },
        pipe: *pipes.Pipe,
    },

    pub fn ofPipe(pipe: *pipes.Pipe) Stream {
        return .{ .connection = .established, .transport = .{ .pipe = pipe } };
    }

    pub fn read(stream: *Stream, buffer: []u8, peek: bool, failure: *status.Failure) status.Error!usize {
        std.debug.assert(buffer.len > 0);
        const known = stream.connection.known.load();
        if (known.failed) return failure.system(stream.connection.errorCode());
        if (!known.determined) return 0;

        switch (stream.receive(buffer, peek)) {
            .count => |count| if (count > 0) return count else stream.tellReset(),
            .nothing => return 0,
            .failed => |code| {
                if (!stream.isEnd(code)) return failure.system(code);
                stream.broke(code);
                stream.tellReset();
            },
        }
        // The system gives unread bytes first: this is the end of them.
        stream.connection.known.add(.{ .ended = true, .drained = true });
        const code = stream.connection.errorCode();
        return if (code == 0) 0 else failure.system(code);
    }

    fn receive(stream: *Stream, buffer: []u8, peek: bool) tcp.Outcome {
        return switch (stream.transport) {
            .tcp => |*one| one.socket.receive(buffer, peek),
            .pipe => |pipe| pipe.read(buffer, peek),
        };
    }

    pub fn write(stream: *Stream, data: []const u8, failure: *status.Failure) status.Error!usize {
        std.debug.assert(data.len > 0);
        const known = stream.connection.known.load();
        if (known.failed) return failure.system(stream.connection.errorCode());
        if (!known.determined) return 0;

        const outcome = switch (stream.transport) {
            .tcp => |*one| one.socket.transmit(data),
            .pipe => |pipe| pipe.write(data),
        };
        switch (outcome) {
            .count => |count| return count,
            .nothing => return 0,
            .failed => |code| {
                if (code == sys.code.wsa_econnreset or code == sys.code.wsa_econnaborted) stream.connection.keepError(code);
                return failure.system(code);
            },
        }
    }

    pub fn finishWriting(stream: *Stream, failure: *status.Failure) status.Error!void {
        const known = stream.connection.known.load();
        switch (stream.transport) {
            .pipe => return error.Unsupported,
            .tcp => |*one| {
                if (known.failed) return failure.system(stream.connection.errorCode());
                if (!known.determined) return failure.system(sys.code.wsa_enotconn);
                if (known.finished) return;
                if (afd.conditionsNow(one.socket.base).severed) return failure.system(sys.code.wsa_enotconn);
                const code = one.socket.finishWriting();
                if (code != 0) return failure.system(code);
                stream.connection.known.add(.{ .finished = true });
            },
        }
    }

    /// 0 if there is none (yet). Called with the library's lock held, as are the functions below.
    pub fn connectionError(stream: *Stream, failure: *status.Failure) status.Error!i32 {
        _ = try stream.probe(events.of_streams, failure);
        return stream.connection.errorCode();
    }

    /// Which of the asked-for events hold, by what a selector reported of the stream.
    pub fn eventsOf(
        stream: *Stream,
        conditions: events.Conditions,
        asked: u32,
        failure: *status.Failure,
    ) status.Error!u32 {
        const result = try Connection.eventsOf(stream, conditions, asked, failure);
        if (conditions.severed and stream.connection.errorCode() == 0) switch (stream.transport) {
            // The socket itself knows the reason best. But Wine has none for a reset.
            .tcp => {
                _ = try stream.hasUnread(failure);
                stream.connection.keepError(sys.code.wsa_econnreset);
            },
            // A write that was accepted, and that the remote end went without reading.
            .pipe => |pipe| if (pipe.lostWrite()) stream.connection.keepError(sys.code.wsa_econnreset),
        };
        return result;
    }

    /// Reading has come to the end. On Wine that is what it says after a reset too.
    fn tellReset(stream: *Stream) void {
        const severed = switch (stream.transport) {
            .tcp => |*one| afd.conditionsNow(one.socket.base).severed,
            .pipe => |pipe| pipe.lostWrite(),
        };
        if (severed) stream.broke(sys.code.wsa_econnreset);
    }

    pub fn hasUnread(stream: *Stream, failure: *status.Failure) status.Error!bool {
        var byte: [1]u8 = undefined;
        switch (stream.receive(&byte, true)) {
            .count => |count| if (count > 0) return true,
            // The end has been reported, but this is not it: nothing is certain.
            .nothing => return false,
            .failed => |code| if (stream.isEnd(code)) stream.broke(code) else return failure.system(code),
        }
        stream.connection.known.add(.{ .drained = true });
        return false;
    }

    /// Whether a failure to read is the end of the connection, and not of the call alone.
    fn isEnd(stream: *const Stream, code: i32) bool {
        return switch (stream.transport) {
            .pipe => pipes.isEnd(code),
            .tcp => switch (code) {
                sys.code.wsa_efault, sys.code.wsa_enobufs, sys.code.wsa_enotsock => false,
                else => true,
            },
        };
    }

    /// Reading has failed for good.
    fn broke(stream: *Stream, code: i32) void {
        // A pipe says so of every end, a socket of an attempt to connect that has failed for a reason of its own.
        const tells_nothing = pipes.isEnd(code) or code == sys.code.wsa_enotconn;
        if (!tells_nothing) stream.connection.keepError(code);
        stream.connection.known.add(.{ .ended = true, .severed = true });
    }

    /// Which of the asked-for events hold now.
    pub fn probe(stream: *Stream, asked: u32, failure: *status.Failure) status.Error!u32 {
        return stream.eventsOf(conditionsNow(stream.watched()), asked, failure);
    }

    /// Something was reported while the stream was connecting, as only TCP streams are: the attempt has ended.
    pub fn determine(stream: *Stream, conditions: events.Conditions, failure: *status.Failure) status.Error!void {
        const code = stream.transport.tcp.socket.takeError();
        if (code == 0 and !conditions.severed) return stream.connection.establish();
        stream.connection.keepError(code);
        // Established and severed before anybody looked? What arrived in between must not be lost.
        if (try stream.hasUnread(failure)) {
            return stream.connection.known.add(.{ .determined = true, .ended = true, .severed = true });
        }
        stream.connection.fail(if (code == 0) sys.code.wsa_econnaborted else code);
    }

    pub fn watched(stream: *Stream) sys.Descriptor {
        return switch (stream.transport) {
            .tcp => |*one| .{ .tcp = &one.socket },
            .pipe => |pipe| .{ .pipe = pipe },
        };
    }

    pub fn fileno(stream: *const Stream) status.Error!i64 {
        return switch (stream.transport) {
            .tcp => |one| @intCast(one.socket.socket),
            .pipe => error.Unsupported,
        };
    }

    pub fn localAddress(stream: *Stream, failure: *status.Failure) status.Error!tcp.Address {
        return switch (stream.transport) {
            .tcp => |*one| one.socket.localAddress(failure),
            .pipe => error.WrongKind,
        };
    }

    pub fn remoteAddress(stream: *Stream) status.Error!tcp.Address {
        return switch (stream.transport) {
            .tcp => |one| one.remote_address,
            .pipe => error.WrongKind,
        };
    }

    /// The coming close gives up what the remote end has not read, or not got, yet. With the library's lock held.
    pub fn prepareAbort(stream: *Stream) void {
        switch (stream.transport) {
            .tcp => |*one| one.socket.prepareAbort(),
            .pipe => |pipe| pipe.aborts = true,
        }
    }

    pub fn deinit(stream: *Stream) void {
        switch (stream.transport) {
            .tcp => |*one| one.socket.close(),
            .pipe => |pipe| pipe.close(),
        }
    }
};
