//! Servers and streams over a descriptor: all that IPv4 and local sockets have in common on POSIX systems.

const std = @import("std");
const sys = @import("sys.zig");
const poll = @import("selectors/poll.zig");
const tcp = @import("transports/tcp.zig");
const local = @import("transports/unix.zig");
const Connection = @import("../core/connection.zig").Connection;
const events = @import("../core/events.zig");
const status = @import("../core/status.zig");

/// A client that came and went is passed over; this bounds how many in one call.
const vanished_clients_max = 1024;

/// How often a stream is looked into before it is not certain whether it has unread bytes.
const looks_max = 4;

pub const Server = struct {
    descriptor: sys.Descriptor,
    namespace: union(enum) {
        ipv4,
        local: *local.Pathname,
    },

    pub fn accept(server: *Server, failure: *status.Failure) status.Error!Stream {
        // accept has no MSG_DONTWAIT, and whoever shares the description can have switched O_NONBLOCK off.
        const may_block = sys.ensureNonBlocking(server.descriptor) < 0;
        for (0..vanished_clients_max) |_| {
            if (may_block) {
                const conditions = try poll.conditionsNow(server.descriptor, failure);
                if (!conditions.readable) break;
            }
            var address: tcp.Address = .unspecified;
            const result = switch (server.namespace) {
                .ipv4 => address.accept(server.descriptor),
                .local => sys.accept(server.descriptor, null, null),
            };
            if (result >= 0) return .{
                .descriptor = @intCast(result),
                .remote_address = switch (server.namespace) {
                    .ipv4 => address,
                    .local => null,
                },
                .connection = .established,
            };
            const e = sys.failureOf(result);
            if (e == .AGAIN) break;
            if (!sys.clientVanished(e)) return failure.system(sys.codeOf(e));
        }
        failure.system_code = sys.codeOf(.AGAIN);
        return error.NoConnection;
    }

    pub fn localAddress(server: *Server, failure: *status.Failure) status.Error!tcp.Address {
        return switch (server.namespace) {
            .ipv4 => tcp.Address.ofDescriptor(server.descriptor, failure),
            .local => error.WrongKind,
        };
    }

    pub fn watched(server: *Server) sys.Descriptor {
        return server.descriptor;
    }

    pub fn fileno(server: *const Server) status.Error!i64 {
        return server.descriptor;
    }

    pub fn eventsOf(_: *Server, conditions: events.Conditions, asked: u32) u32 {
        return if (conditions.readable) asked & events.connection_available else 0;
    }

    pub fn probe(server: *Server, asked: u32, failure: *status.Failure) status.Error!u32 {
        return server.eventsOf(try poll.conditionsNow(server.descriptor, failure), asked);
    }

    /// What close does at once. `deinit` waits until the last call that uses the server has returned. False if it
    /// leaves a file.
    pub fn prepareClose(server: *Server) bool {
        return switch (server.namespace) {
            .ipv4 => true,
            // Before the descriptor is closed: while it is open, its file's inode number belongs to nobody else.
            .local => |pathname| pathname.deleteIfOurs(),
        };
    }

    pub fn deinit(server: *Server) void {
        sys.close(server.descriptor);
        switch (server.namespace) {
            .ipv4 => {},
            .local => |pathname| pathname.free(),
        }
    }
};

pub const Stream = struct {
    descriptor: sys.Descriptor,
    /// Null for local streams. Kept, because the system forgets it when the connection ends.
    remote_address: ?tcp.Address,
    connection: Connection = .{},

    /// Bytes per call to the system at most: what fits any platform's signed result.
    const size_max = std.math.maxInt(i32) & ~@as(usize, 0xfff);

    pub fn read(stream: *Stream, buffer: []u8, peek: bool, failure: *status.Failure) status.Error!usize {
        std.debug.assert(buffer.len > 0);
        const known = stream.connection.known.load();
        if (known.failed) return failure.system(stream.connection.errorCode());
        if (!known.determined) return 0;

        const result = sys.receive(stream.descriptor, buffer.ptr, @min(buffer.len, size_max), peek);
        if (result > 0) return @intCast(result);
        if (result < 0) switch (sys.failureOf(result)) {
            .AGAIN => return 0,
            else => |e| {
                if (isOfCall(e)) return failure.system(sys.codeOf(e));
                stream.keepError(sys.codeOf(e));
                stream.connection.known.add(.{ .ended = true, .severed = true });
            },
        };
        // The system gives unread bytes first: this is the end of them.
        stream.connection.known.add(.{ .ended = true, .drained = true });
        const code = stream.connection.errorCode();
        return if (code == 0) 0 else failure.system(code);
    }

    /// Whether an error is one of the call alone, by the kernel or by a sandbox, and says nothing of the connection.
    fn isOfCall(e: sys.E) bool {
        return switch (e) {
            .FAULT, .NOMEM, .NOBUFS, .BADF, .NOTSOCK, .INVAL, .IO, .PERM, .ACCES, .NOSYS => true,
            else => false,
        };
    }

    pub fn write(stream: *Stream, data: []const u8, failure: *status.Failure) status.Error!usize {
        std.debug.assert(data.len > 0);
        const known = stream.connection.known.load();
        if (known.failed) return failure.system(stream.connection.errorCode());
        if (!known.determined) return 0;

        const result = sys.send(stream.descriptor, data.ptr, @min(data.len, size_max));
        if (result >= 0) return @intCast(result);
        switch (sys.failureOf(result)) {
            .AGAIN => return 0,
            .CONNRESET, .TIMEDOUT, .HOSTUNREACH, .NETUNREACH => |e| {
                // The system tells it once, to whoever asks first; later calls would only say EPIPE.
                stream.keepError(sys.codeOf(e));
                return failure.system(sys.codeOf(e));
            },
            else => |e| return failure.system(sys.codeOf(e)),
        }
    }

    pub fn finishWriting(stream: *Stream, failure: *status.Failure) status.Error!void {
        const known = stream.connection.known.load();
        if (known.failed) return failure.system(stream.connection.errorCode());
        // Linux would break off the attempt to connect.
        if (!known.determined) return failure.system(sys.codeOf(.NOTCONN));
        if (known.finished) return;
        // Linux lets a severed local connection be finished, but not one of TCP.
        const conditions = try poll.conditionsNow(stream.descriptor, failure);
        if (conditions.severed) return failure.system(sys.codeOf(.NOTCONN));
        const result = sys.shutdownWriting(stream.descriptor);
        if (result < 0) return sys.refused(result, failure);
        stream.connection.known.add(.{ .finished = true });
    }

    /// 0 if there is none (yet). Called with the library's lock held, as are the functions below.
    pub fn connectionError(stream: *Stream, failure: *status.Failure) status.Error!i32 {
        _ = try stream.probe(events.of_streams, failure);
        const known = stream.connection.known.load();
        if (known.determined and known.severed and stream.connection.errorCode() == 0) {
            stream.keepError(stream.takeError());
        }
        return stream.connection.errorCode();
    }

    /// Which of the asked-for events hold, by what a selector reported of the stream.
    pub fn eventsOf(
        stream: *Stream,
        conditions: events.Conditions,
        asked: u32,
        failure: *status.Failure,
    ) status.Error!u32 {
        return Connection.eventsOf(stream, conditions, asked, failure);
    }

    /// Whether bytes of a remote end that has gone are still to be read. Not by FIONREAD, which stops at urgent data.
    pub fn hasUnread(stream: *Stream, failure: *status.Failure) status.Error!bool {
        var byte: [1]u8 = undefined;
        for (0..looks_max) |_| {
            const result = sys.receive(stream.descriptor, &byte, 1, true);
            if (result > 0) return true;
            if (result < 0) switch (sys.failureOf(result)) {
                // The end has been reported, but this is not it: on macOS and FreeBSD another thread is reading.
                .AGAIN => {
                    if (sys.countUnread(stream.descriptor) > 0) return true;
                    sys.yield();
                    continue;
                },
                // Somebody closed the descriptor behind our back: nothing can be read any more.
                .BADF, .NOTSOCK => {},
                else => |e| {
                    if (isOfCall(e)) return failure.system(sys.codeOf(e));
                    // The system tells it once.
                    stream.keepError(sys.codeOf(e));
                },
            };
            stream.connection.known.add(.{ .drained = true });
            return false;
        }
        // Neither is certain: `drained` is not added.
        return false;
    }

    /// Which of the asked-for events hold now.
    pub fn probe(stream: *Stream, asked: u32, failure: *status.Failure) status.Error!u32 {
        return stream.eventsOf(try poll.conditionsNow(stream.descriptor, failure), asked, failure);
    }

    /// A selector reported something while the stream was connecting: the attempt has ended.
    pub fn determine(stream: *Stream, conditions: events.Conditions, failure: *status.Failure) status.Error!void {
        const code = stream.takeError();
        if (code == 0 and !conditions.severed) return stream.connection.known.add(.established);
        // The system tells it once, and to look for bytes may fail.
        stream.keepError(code);
        // Established and severed before anybody looked? What arrived in between must not be lost. EPIPE says that somebody
        // has written to it: a child that shares it.
        if (code == sys.codeOf(.PIPE) or try stream.hasUnread(failure)) {
            return stream.connection.known.add(.{ .determined = true, .ended = true, .severed = true });
        }
        // The code is 0 if another process that shares the socket took it.
        stream.connection.fail(if (code == 0) sys.codeOf(.CONNABORTED) else code);
    }

    /// What the system has to tell of the socket, once. 0 is nothing.
    fn takeError(stream: *Stream) i32 {
        if (sys.takeSocketError(stream.descriptor)) |code| return code;
        // A sandbox may forbid to ask for it. A read is told the same.
        var byte: [1]u8 = undefined;
        const result = sys.receive(stream.descriptor, &byte, 1, true);
        if (result >= 0) return 0;
        const e = sys.failureOf(result);
        return if (e == .AGAIN or isOfCall(e)) 0 else sys.codeOf(e);
    }

    fn keepError(stream: *Stream, code: i32) void {
        // EPIPE says that a write came after an orderly end: no reason for that end. The system tells it to whoever calls
        // next, and so it would depend on the order of the calls who hears it.
        if (code != sys.codeOf(.PIPE)) stream.connection.keepError(code);
    }

    pub fn watched(stream: *Stream) sys.Descriptor {
        return stream.descriptor;
    }

    pub fn fileno(stream: *const Stream) status.Error!i64 {
        return stream.descriptor;
    }

    pub fn localAddress(stream: *Stream, failure: *status.Failure) status.Error!tcp.Address {
        if (stream.remote_address == null) return error.WrongKind;
        return tcp.Address.ofDescriptor(stream.descriptor, failure);
    }

    pub fn remoteAddress(stream: *Stream) status.Error!tcp.Address {
        return stream.remote_address orelse error.WrongKind;
    }

    /// The coming close gives up what the remote end has not got yet. What was written to a local stream is with it
    /// already.
    pub fn prepareAbort(stream: *Stream) void {
        if (stream.remote_address != null) sys.resetOnClose(stream.descriptor);
    }

    pub fn deinit(stream: *Stream) void {
        sys.close(stream.descriptor);
    }
};
