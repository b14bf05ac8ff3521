//! What a stream or server is made of on Windows: platform.zig tells what each function does.

const sys = @import("../sys.zig");
const afd = @import("../afd.zig");
const identity = @import("../pipes/identity.zig");
const listeners = @import("../pipes/listener.zig");
const named = @import("pipe.zig");
const pipes = @import("../pipes/pipe.zig");
const tcp = @import("tcp.zig");
const events = @import("../../base/events.zig");
const net = @import("../../net/address.zig");
const status = @import("../../base/status.zig");
const Attempt = @import("../../base/attempt.zig").Attempt;
const Credentials = @import("../../base/credentials.zig").Credentials;
const LocalOptions = @import("../../base/local_options.zig").LocalOptions;
const Outcome = @import("../../base/outcome.zig").Outcome;

/// What a selector watches: the kernel's side of a server or stream. It stays until its last watch is gone.
pub const Descriptor = union(enum) {
    tcp: *tcp.Socket,
    tcp_server: *tcp.Listener,
    pipe: *pipes.Pipe,
    pipe_server: *listeners.Listener,
};

/// What the system says of it now. With the library's lock held.
pub fn conditionsNow(descriptor: Descriptor) events.Conditions {
    return switch (descriptor) {
        inline else => |one| one.conditionsNow(),
    };
}

pub const Transport = union(enum) {
    tcp: tcp.Socket,
    pipe: *pipes.Pipe,

    /// A thread that hears of a severed connection asks why at once: the next read could tell of an end only.
    pub fn tellsReasonLater(_: *const Transport) bool {
        return false;
    }

    pub fn receive(transport: *Transport, buffer: []u8, peek: bool) Outcome {
        return switch (transport.*) {
            .tcp => |*socket| socket.receive(buffer, peek),
            .pipe => |pipe| pipe.read(buffer, peek),
        };
    }

    pub fn look(transport: *Transport) Outcome {
        var byte: [1]u8 = undefined;
        return transport.receive(&byte, true);
    }

    pub fn send(transport: *Transport, data: []const u8) Outcome {
        return switch (transport.*) {
            .tcp => |*socket| socket.send(data),
            .pipe => |pipe| pipe.write(data),
        };
    }

    pub fn canFinishWriting(transport: *const Transport) bool {
        return transport.* == .tcp;
    }

    pub fn finishWriting(transport: *Transport, failure: *status.Failure) status.Error!void {
        return transport.tcp.finishWriting(failure);
    }

    pub fn conditionsNow(transport: *Transport, _: *status.Failure) status.Error!events.Conditions {
        return switch (transport.*) {
            .tcp => |*socket| socket.conditionsNow(),
            .pipe => |pipe| pipe.conditionsNow(),
        };
    }

    /// Pipes connect at once, so they have none.
    pub fn takeError(transport: *Transport) i32 {
        return switch (transport.*) {
            .tcp => |*socket| socket.takeError(),
            .pipe => 0,
        };
    }

    /// Whether an attempt that has ended without an error has connected, though the remote end has gone by now.
    pub fn hasConnected(transport: *const Transport) bool {
        return transport.* == .pipe;
    }

    /// No code of Windows says that.
    pub fn isOfWrite(_: *const Transport, _: i32) bool {
        return false;
    }

    /// Wine tells of an end after a reset too. And a write that was accepted is lost if the remote end went without
    /// reading it.
    pub fn resetAtEnd(transport: *Transport) ?i32 {
        const severed = switch (transport.*) {
            .tcp => |*socket| afd.conditionsNow(socket.base).severed,
            .pipe => |pipe| pipe.lostWrite(),
        };
        return if (severed) sys.code.wsa_econnreset else null;
    }

    /// The socket itself knows the reason best. But Wine has none for a reset.
    pub fn reasonIsRead(transport: *const Transport) bool {
        return transport.* == .tcp;
    }

    pub fn reasonOfSevering(transport: *Transport) i32 {
        return switch (transport.*) {
            .tcp => sys.code.wsa_econnreset,
            .pipe => |pipe| if (pipe.lostWrite()) sys.code.wsa_econnreset else 0,
        };
    }

    pub fn watched(transport: *Transport) Descriptor {
        return switch (transport.*) {
            .tcp => |*socket| .{ .tcp = socket },
            .pipe => |pipe| .{ .pipe = pipe },
        };
    }

    pub fn fileno(transport: *const Transport) status.Error!i64 {
        return switch (transport.*) {
            .tcp => |socket| @intCast(socket.socket),
            .pipe => error.Unsupported,
        };
    }

    pub fn localAddress(transport: *Transport, failure: *status.Failure) status.Error!net.Address {
        return switch (transport.*) {
            .tcp => |*socket| try socket.localAddress(failure),
            .pipe => .local,
        };
    }

    pub fn peerCredentials(transport: *Transport, failure: *status.Failure) status.Error!Credentials {
        return switch (transport.*) {
            .tcp => error.WrongKind,
            .pipe => |pipe| identity.ofPeer(pipe.handle, failure),
        };
    }

    /// The system knows of no pathnames, only of the names of pipes that were made of them.
    pub fn copyPathname(transport: *Transport, _: []u8, _: *status.Failure) status.Error!usize {
        return if (transport.* == .tcp) error.WrongKind else error.Unsupported;
    }

    /// A number for somebody else, who goes on with the connection. Another than the stream's own, which other threads
    /// may be using. A pipe reports to the library's completion port, and can report to no other.
    pub fn detach(transport: *Transport, failure: *status.Failure) status.Error!i64 {
        return switch (transport.*) {
            .tcp => |*socket| @intCast(try socket.duplicate(failure)),
            .pipe => error.Unsupported,
        };
    }

    pub fn prepareAbort(transport: *Transport) void {
        switch (transport.*) {
            .tcp => |*socket| socket.prepareAbort(),
            .pipe => |pipe| pipe.aborts = true,
        }
    }

    /// Whether what is left to be sent goes out after the close.
    pub fn sendsAfterClose(transport: *const Transport) bool {
        return transport.* == .pipe;
    }

    pub fn close(transport: *Transport, rest: []const u8) void {
        switch (transport.*) {
            .tcp => |*socket| socket.close(),
            .pipe => |pipe| pipe.close(rest),
        }
    }
};

/// A connection that was accepted.
pub const Accepted = struct { transport: Transport, remote: net.Address };

pub const Listener = union(enum) {
    tcp: *tcp.Listener,
    pipe: *listeners.Listener,

    pub fn accept(listener: *Listener, failure: *status.Failure) status.Error!?Accepted {
        switch (listener.*) {
            .tcp => |one| {
                const client = try one.accept(failure) orelse return null;
                return .{ .transport = .{ .tcp = client.socket }, .remote = client.address };
            },
            .pipe => |one| {
                const pipe = try one.accept(failure) orelse return null;
                return .{ .transport = .{ .pipe = pipe }, .remote = .local };
            },
        }
    }

    pub fn conditionsNow(listener: *Listener, _: *status.Failure) status.Error!events.Conditions {
        return switch (listener.*) {
            inline else => |one| one.conditionsNow(),
        };
    }

    pub fn watched(listener: *Listener) Descriptor {
        return switch (listener.*) {
            .tcp => |one| .{ .tcp_server = one },
            .pipe => |one| .{ .pipe_server = one },
        };
    }

    pub fn fileno(listener: *const Listener) status.Error!i64 {
        return switch (listener.*) {
            .tcp => |one| @intCast(one.socket.socket),
            .pipe => error.Unsupported,
        };
    }

    pub fn localAddress(listener: *Listener, failure: *status.Failure) status.Error!net.Address {
        return switch (listener.*) {
            .tcp => |one| try one.socket.localAddress(failure),
            .pipe => .local,
        };
    }

    pub fn namespace(listener: *const Listener) net.Namespace {
        return switch (listener.*) {
            .tcp => |one| .ofFamily(one.socket.family),
            .pipe => .local,
        };
    }

    /// See that of Transport.
    pub fn copyPathname(listener: *Listener, _: []u8, _: *status.Failure) status.Error!usize {
        return if (listener.* == .tcp) error.WrongKind else error.Unsupported;
    }

    /// A pipe's name goes by itself.
    pub fn prepareClose(_: *Listener) bool {
        return true;
    }

    pub fn close(listener: *Listener) void {
        switch (listener.*) {
            inline else => |one| one.close(),
        }
    }
};

// ---- Making them ----

pub fn listenTcp(address: net.Address, how: net.Listening, failure: *status.Failure) status.Error!Listener {
    return .{ .tcp = try tcp.listen(address, how, failure) };
}

/// A pipe has no file that could stay: its name goes with its last handle. So nobody is dead whose name is taken.
pub fn listenLocal(pathname: []const u8, options: LocalOptions, failure: *status.Failure) status.Error!Listener {
    const made = named.listen(pathname, options.backlog, options.permissions, failure) catch |err| {
        const is_taken = err == error.System and failure.system_code == sys.code.wsa_eaddrinuse;
        return if (is_taken and options.replaces_dead) error.ServerRunning else err;
    };
    return .{ .pipe = made };
}

pub fn connectTcp(remote: net.Address, local: ?net.Local, failure: *status.Failure) status.Error!Attempt(Transport) {
    const attempt = try tcp.connect(remote, local, failure);
    return .{ .transport = .{ .tcp = attempt.transport }, .state = attempt.state };
}

/// Pipes connect at once or not at all.
pub fn connectLocal(pathname: []const u8, failure: *status.Failure) status.Error!Transport {
    return .{ .pipe = try named.connect(pathname, failure) };
}

// ---- Adopting them ----

/// The connection of a socket that is the caller's, and stays the caller's where this fails.
pub fn adoptStream(number: i64, failure: *status.Failure) status.Error!Accepted {
    const client = try tcp.adoptStream(number, failure);
    return .{ .transport = .{ .tcp = client.socket }, .remote = client.address };
}

pub fn adoptListener(number: i64, failure: *status.Failure) status.Error!Listener {
    return .{ .tcp = try tcp.adoptListener(number, failure) };
}

/// The two ends of a new pipe.
pub fn makePair(failure: *status.Failure) status.Error![2]Transport {
    const ends = try named.makePair(failure);
    return .{ .{ .pipe = ends[0] }, .{ .pipe = ends[1] } };
}

/// A stream whose remote end is still to come.
pub fn awaitClient(pathname: []const u8, words: *const Words, failure: *status.Failure) status.Error!Transport {
    return .{ .pipe = try named.awaitClient(pathname, words, failure) };
}

pub const Words = pipes.Words;

pub const pathname_max = named.pathname_max;
pub const pathname_limit = named.pathname_limit;
