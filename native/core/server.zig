//! Servers, the same on every system and for every transport.

const platform = @import("../platform.zig");
const events = @import("../base/events.zig");
const net = @import("../net/address.zig");
const shortage = @import("shortage.zig");
const status = @import("../base/status.zig");
const LocalOptions = @import("../base/local_options.zig").LocalOptions;
const Stream = @import("stream.zig").Stream;

pub const Server = struct {
    listener: platform.Listener,
    pause: shortage.Pause = .{},

    pub fn listenTcp(address: net.Address, how: net.Listening, failure: *status.Failure) status.Error!Server {
        return .{ .listener = try platform.listenTcp(address, how, failure) };
    }

    pub fn listenLocal(pathname: []const u8, options: LocalOptions, failure: *status.Failure) status.Error!Server {
        return .{ .listener = try platform.listenLocal(pathname, options, failure) };
    }

    pub fn adopt(descriptor: i64, failure: *status.Failure) status.Error!Server {
        return .{ .listener = try platform.adoptListener(descriptor, failure) };
    }

    pub fn accept(server: *Server, failure: *status.Failure) status.Error!Stream {
        const accepted = try server.listener.accept(failure) orelse {
            failure.system_code = platform.sys.would_block;
            return error.NoConnection;
        };
        return .established(accepted.transport, accepted.remote);
    }

    pub fn localAddress(server: *Server, failure: *status.Failure) status.Error!net.Address {
        return server.listener.localAddress(failure);
    }

    pub fn watched(server: *Server) platform.Descriptor {
        return server.listener.watched();
    }

    pub fn fileno(server: *const Server) status.Error!i64 {
        return server.listener.fileno();
    }

    /// How to learn of the asked-for events. With the library's lock held.
    pub fn plan(server: *const Server, asked: u32) events.Plan {
        return .ofServer(asked, !server.pause.isOver());
    }

    /// Which of the asked-for events hold, by what a selector reported. With the library's lock held.
    pub fn eventsOf(server: *const Server, conditions: events.Conditions, asked: u32) u32 {
        return if (conditions.readable and server.pause.isOver()) asked & events.connection_available else 0;
    }

    /// Which of the asked-for events hold now. With the library's lock held.
    pub fn probe(server: *Server, asked: u32, failure: *status.Failure) status.Error!u32 {
        if (!server.pause.isOver()) return 0;
        return server.eventsOf(try server.listener.conditionsNow(failure), asked);
    }

    /// What close does at once. `deinit` waits until the last call that uses the server has returned. False if it
    /// leaves a file.
    pub fn prepareClose(server: *Server) bool {
        return server.listener.prepareClose();
    }

    pub fn deinit(server: *Server) void {
        server.listener.close();
    }
};
