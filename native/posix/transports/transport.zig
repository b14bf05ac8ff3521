//! What a stream or server of a POSIX system is made of: platform.zig tells what each function does.

const sys = @import("../sys.zig");
const adopting = @import("adopting.zig");
const readiness = @import("../readiness.zig");
const tcp = @import("tcp.zig");
const unix = @import("unix.zig");
const Socket = @import("socket.zig").Socket;
const arrivals = @import("../../base/arrivals.zig");
const events = @import("../../base/events.zig");
const Attempt = @import("../../base/attempt.zig").Attempt;
const Credentials = @import("../../base/credentials.zig").Credentials;
const LocalOptions = @import("../../base/local_options.zig").LocalOptions;
const net = @import("../../net/address.zig");
const status = @import("../../base/status.zig");
const Outcome = @import("../../base/outcome.zig").Outcome;

pub const Descriptor = sys.Descriptor;

pub const Transport = union(enum) {
    tcp: Socket,
    unix: Socket,

    /// Whether the system tells why a connection was severed whenever it is asked. Else it is asked at once.
    pub fn tellsReasonLater(_: *const Transport) bool {
        return true;
    }

    pub fn receive(transport: *Transport, buffer: []u8, peek: bool) Outcome {
        return switch (transport.*) {
            inline else => |socket| socket.receive(buffer, peek),
        };
    }

    pub fn look(transport: *Transport) Outcome {
        return switch (transport.*) {
            inline else => |socket| socket.look(),
        };
    }

    pub fn send(transport: *Transport, data: []const u8) Outcome {
        return switch (transport.*) {
            inline else => |socket| socket.send(data),
        };
    }

    pub fn canFinishWriting(_: *const Transport) bool {
        return true;
    }

    pub fn finishWriting(transport: *Transport, failure: *status.Failure) status.Error!void {
        return switch (transport.*) {
            inline else => |socket| socket.finishWriting(failure),
        };
    }

    pub fn conditionsNow(transport: *Transport, failure: *status.Failure) status.Error!events.Conditions {
        return readiness.conditionsNow(transport.watched(), failure);
    }

    pub fn takeError(transport: *Transport) i32 {
        return switch (transport.*) {
            inline else => |socket| socket.takeError(),
        };
    }

    /// Whether an attempt that has ended without an error has connected, though the remote end has gone by now. That is
    /// not certain.
    pub fn hasConnected(_: *const Transport) bool {
        return false;
    }

    /// EPIPE says that a write came after an orderly end. The system tells it to the next call, so the order of the
    /// calls would decide which one hears it.
    pub fn isOfWrite(_: *const Transport, code: i32) bool {
        return code == sys.codeOf(.PIPE);
    }

    /// Here only an error of a read tells of a reset.
    pub fn resetAtEnd(_: *Transport) ?i32 {
        return null;
    }

    pub fn reasonIsRead(_: *const Transport) bool {
        return false;
    }

    pub fn reasonOfSevering(transport: *Transport) i32 {
        return transport.takeError();
    }

    pub fn watched(transport: *Transport) Descriptor {
        return switch (transport.*) {
            inline else => |socket| socket.descriptor,
        };
    }

    pub fn fileno(transport: *const Transport) status.Error!i64 {
        return switch (transport.*) {
            inline else => |socket| socket.descriptor,
        };
    }

    pub fn localAddress(transport: *Transport, failure: *status.Failure) status.Error!net.Address {
        return switch (transport.*) {
            .tcp => |socket| try tcp.localAddress(socket.descriptor, failure),
            .unix => .local,
        };
    }

    pub fn peerCredentials(transport: *Transport, failure: *status.Failure) status.Error!Credentials {
        const socket = switch (transport.*) {
            .tcp => return error.WrongKind,
            .unix => |socket| socket,
        };
        var credentials: Credentials = .{};
        const result = sys.peerCredentials(socket.descriptor, &credentials);
        return if (result < 0) sys.refused(result, failure) else credentials;
    }

    /// Of a local stream: how long it is, and a copy.
    pub fn copyPathname(transport: *Transport, room: []u8, failure: *status.Failure) status.Error!usize {
        return switch (transport.*) {
            .tcp => error.WrongKind,
            .unix => |socket| adopting.copyPathname(socket.descriptor, room, failure),
        };
    }

    /// A descriptor for somebody else, who goes on with the connection. Another number than the stream's own, which
    /// other threads may be using.
    pub fn detach(transport: *Transport, failure: *status.Failure) status.Error!i64 {
        return adopting.duplicate(transport.watched(), failure);
    }

    /// What was written to a local stream is with the remote end already.
    pub fn prepareAbort(transport: *Transport) void {
        switch (transport.*) {
            .tcp => |socket| sys.resetOnClose(socket.descriptor),
            .unix => {},
        }
    }

    /// Whether what is left to be sent goes out after the close.
    pub fn sendsAfterClose(_: *const Transport) bool {
        return false;
    }

    pub fn close(transport: *Transport, _: []const u8) void {
        switch (transport.*) {
            inline else => |socket| sys.close(socket.descriptor),
        }
    }
};

/// A connection that was accepted.
pub const Accepted = struct { transport: Transport, remote: net.Address };

pub const Listener = union(enum) {
    tcp: tcp.Listener,
    unix: unix.Listener,
    /// A local server that somebody else has made. Its file is not ours to delete.
    adopted_unix: adopting.UnixListener,

    pub fn accept(listener: *Listener, failure: *status.Failure) status.Error!?Accepted {
        // accept has no MSG_DONTWAIT, and whoever shares the description can have switched O_NONBLOCK off.
        const may_block = sys.ensureNonBlocking(listener.watched()) < 0;
        return arrivals.first(Accepted, acceptOne, .{ listener, may_block, failure });
    }

    fn acceptOne(
        listener: *Listener,
        may_block: bool,
        failure: *status.Failure,
    ) status.Error!arrivals.Arrival(Accepted) {
        if (may_block and !(try listener.conditionsNow(failure)).readable) return .nothing;
        var remote: net.Address = .local;
        const result = switch (listener.*) {
            .tcp => |one| tcp.accept(one.descriptor, &remote),
            .unix, .adopted_unix => sys.accept(listener.watched(), null, null),
        };
        if (result < 0) {
            const e = sys.failureOf(result);
            if (e == .AGAIN) return .nothing;
            return if (sys.clientVanished(e)) .vanished else failure.system(sys.codeOf(e));
        }
        const socket: Socket = .{ .descriptor = @intCast(result) };
        const transport: Transport = if (listener.* == .tcp) .{ .tcp = socket } else .{ .unix = socket };
        return .{ .client = .{ .transport = transport, .remote = remote } };
    }

    pub fn conditionsNow(listener: *Listener, failure: *status.Failure) status.Error!events.Conditions {
        return readiness.conditionsNow(listener.watched(), failure);
    }

    pub fn watched(listener: *Listener) Descriptor {
        return switch (listener.*) {
            inline else => |one| one.descriptor,
        };
    }

    pub fn fileno(listener: *const Listener) status.Error!i64 {
        return switch (listener.*) {
            inline else => |one| one.descriptor,
        };
    }

    pub fn localAddress(listener: *Listener, failure: *status.Failure) status.Error!net.Address {
        return switch (listener.*) {
            .tcp => |one| try tcp.localAddress(one.descriptor, failure),
            .unix, .adopted_unix => .local,
        };
    }

    pub fn namespace(listener: *const Listener) net.Namespace {
        return switch (listener.*) {
            .tcp => |one| .ofFamily(one.family),
            .unix, .adopted_unix => .local,
        };
    }

    /// Of a local server: how long it is, and a copy.
    pub fn copyPathname(listener: *Listener, room: []u8, failure: *status.Failure) status.Error!usize {
        return switch (listener.*) {
            .tcp => error.WrongKind,
            .unix, .adopted_unix => adopting.copyPathname(listener.watched(), room, failure),
        };
    }

    pub fn prepareClose(listener: *Listener) bool {
        return switch (listener.*) {
            .tcp, .adopted_unix => true,
            .unix => |*one| one.prepareClose(),
        };
    }

    pub fn close(listener: *Listener) void {
        switch (listener.*) {
            .tcp, .adopted_unix => sys.close(listener.watched()),
            .unix => |*one| one.close(),
        }
    }
};

// ---- Making them ----

pub fn listenTcp(address: net.Address, how: net.Listening, failure: *status.Failure) status.Error!Listener {
    return .{ .tcp = try tcp.listen(address, how, failure) };
}

pub fn listenLocal(pathname: []const u8, options: LocalOptions, failure: *status.Failure) status.Error!Listener {
    return .{ .unix = try unix.listen(pathname, options, failure) };
}

pub fn connectTcp(remote: net.Address, local: ?net.Local, failure: *status.Failure) status.Error!Attempt(Transport) {
    const attempt = try tcp.connect(remote, local, failure);
    return .{ .transport = .{ .tcp = attempt.transport }, .state = attempt.state };
}

/// Local sockets connect at once or not at all.
pub fn connectLocal(pathname: []const u8, failure: *status.Failure) status.Error!Transport {
    return .{ .unix = try unix.connect(pathname, failure) };
}

// ---- Adopting them ----

/// The connection of a descriptor that is the caller's, and stays the caller's where this fails.
pub fn adoptStream(number: i64, failure: *status.Failure) status.Error!Accepted {
    const adopted = try adopting.stream(number, failure);
    const is_local = adopted.remote == .local;
    const transport: Transport = if (is_local) .{ .unix = adopted.socket } else .{ .tcp = adopted.socket };
    return .{ .transport = transport, .remote = adopted.remote };
}

pub fn adoptListener(number: i64, failure: *status.Failure) status.Error!Listener {
    const adopted = try adopting.server(number, failure);
    const descriptor = adopted.descriptor;
    const family = adopted.family orelse return .{ .adopted_unix = .{ .descriptor = descriptor } };
    return .{ .tcp = .{ .descriptor = descriptor, .family = family } };
}

/// The two ends of a new local connection.
pub fn makePair(failure: *status.Failure) status.Error![2]Transport {
    const sockets = try adopting.pair(failure);
    return .{ .{ .unix = sockets[0] }, .{ .unix = sockets[1] } };
}

/// A stream whose remote end is still to come. Here descriptors are inherited instead.
pub fn awaitClient(_: []const u8, _: *const Words, _: *status.Failure) status.Error!Transport {
    return error.Unsupported;
}

pub const Words = [2][32]u8;

pub const pathname_max = unix.pathname_max;
pub const pathname_limit = unix.pathname_limit;
