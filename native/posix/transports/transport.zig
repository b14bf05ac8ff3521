//! What a stream or server of a POSIX system is made of: platform.zig tells what each function does.

const sys = @import("../sys.zig");
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
            .unix => |one| sys.accept(one.descriptor, null, null),
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
            .unix => .local,
        };
    }

    pub fn prepareClose(listener: *Listener) bool {
        return switch (listener.*) {
            .tcp => true,
            .unix => |*one| one.prepareClose(),
        };
    }

    pub fn close(listener: *Listener) void {
        switch (listener.*) {
            .tcp => |one| sys.close(one.descriptor),
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

pub const pathname_max = unix.pathname_max;
pub const pathname_limit = unix.pathname_limit;
