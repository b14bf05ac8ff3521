//! Sockets that somebody else has made: what they are, and how they become the library's.
//!
//! The descriptor stays the caller's unless all of it succeeds. What is done to it before, that it is closed by exec,
//! comes last, so that a refusal mostly leaves it as it was.

const std = @import("std");
const sys = @import("../sys.zig");
const net = @import("../../net/address.zig");
const status = @import("../../base/status.zig");
const tcp = @import("tcp.zig");
const Socket = @import("socket.zig").Socket;

/// A local server that somebody else has made.
pub const UnixListener = struct { descriptor: sys.Descriptor };

const Kind = enum { stream, server };

/// An address of any family, as the system tells it.
const Name = struct {
    storage: extern union {
        any: sys.sockaddr,
        unix: sys.sockaddr.un,
        /// More than any address has: struct sockaddr_storage.
        bytes: [128]u8,
    } = .{ .bytes = @splat(0) },
    size: sys.socklen_t = 128,

    const path_at = @offsetOf(sys.sockaddr.un, "path");

    fn of(socket: sys.Descriptor, comptime ask: anytype, failure: *status.Failure) status.Error!Name {
        var name: Name = .{};
        const result = ask(socket, &name.storage.any, &name.size);
        return if (result < 0) sys.refused(result, failure) else name;
    }

    /// That of TCP, or null for a local one.
    fn family(name: *const Name, failure: *status.Failure) status.Error!?net.Family {
        return switch (name.storage.any.family) {
            sys.AF.UNIX => null,
            sys.AF.INET => .ipv4,
            sys.AF.INET6 => .ipv6,
            else => failure.system(sys.codeOf(.AFNOSUPPORT)),
        };
    }

    /// Of a Unix socket. Empty if it has none. Linux's abstract names begin with a NUL, and others end with one.
    fn pathname(name: *const Name) []const u8 {
        const bytes = &name.storage.bytes;
        if (name.size <= path_at) return "";
        const path = bytes[path_at..@min(name.size, bytes.len)];
        return if (path[0] == 0 and sys.has_abstract_names) path else std.mem.sliceTo(path, 0);
    }
};

/// A server, or a stream before its remote end is known.
pub const Adopted = struct {
    descriptor: sys.Descriptor,
    /// That of TCP, or null for a local one.
    family: ?net.Family,

    fn takeOver(adopted: Adopted, failure: *status.Failure) status.Error!void {
        const result = sys.takeOver(adopted.descriptor);
        if (result < 0) return sys.refused(result, failure);
        // Refused only of a connection that has ended. Accepted streams inherit it from their server.
        if (adopted.family != null) _ = sys.setOption(adopted.descriptor, sys.IPPROTO.TCP, sys.TCP.NODELAY, 1);
    }
};

/// Makes sure that the descriptor is of a kind that the library can use.
fn check(number: i64, kind: Kind, failure: *status.Failure) status.Error!Adopted {
    const no_descriptor = sys.codeOf(.BADF);
    if (number < 0) return failure.system(no_descriptor);
    const descriptor = std.math.cast(sys.Descriptor, number) orelse return failure.system(no_descriptor);
    const socket_type = try sys.getOption(descriptor, sys.SOL.SOCKET, sys.SO.TYPE, failure);
    if (socket_type != sys.SOCK.STREAM) return failure.system(sys.codeOf(.PROTOTYPE));
    const name: Name = try .of(descriptor, sys.localName, failure);
    const family = try name.family(failure);
    const listens = try sys.isListening(descriptor, failure);
    if (listens != (kind == .server)) return error.WrongKind;
    return .{ .descriptor = descriptor, .family = family };
}

pub const Stream = struct { socket: Socket, remote: net.Address };

pub fn stream(number: i64, failure: *status.Failure) status.Error!Stream {
    const adopted = try check(number, .stream, failure);
    const socket: Socket = .{ .descriptor = adopted.descriptor };
    const remote = remoteAddress(adopted, failure) catch |err| address: {
        if (err != error.System) return err;
        // macOS says EINVAL of a socket whose remote end has gone.
        if (failure.system_code == sys.codeOf(.INVAL)) failure.system_code = sys.codeOf(.NOTCONN);
        if (failure.system_code != sys.codeOf(.NOTCONN)) return err;
        try wasConnected(socket, failure);
        break :address if (adopted.family) |family| net.Address.unspecified(family) else .local;
    };
    try adopted.takeOver(failure);
    return .{ .socket = socket, .remote = remote };
}

fn remoteAddress(adopted: Adopted, failure: *status.Failure) status.Error!net.Address {
    if (adopted.family != null) return tcp.remoteAddress(adopted.descriptor, failure);
    _ = try Name.of(adopted.descriptor, sys.remoteName, failure);
    return .local;
}

/// Systems forget who was at the other end when it has gone, but its bytes are still to be read, and then comes the
/// end. A socket that never was connected has neither.
fn wasConnected(socket: Socket, failure: *status.Failure) status.Error!void {
    var byte: [1]u8 = undefined;
    switch (socket.receive(&byte, true)) {
        .count => {},
        .broken => |code| return failure.system(code),
        .nothing, .refused, .not_ours => return failure.system(sys.codeOf(.NOTCONN)),
    }
}

pub fn server(number: i64, failure: *status.Failure) status.Error!Adopted {
    const adopted = try check(number, .server, failure);
    try adopted.takeOver(failure);
    return adopted;
}

/// The pathname of a Unix socket, or else that of its remote end, copied: how long it is. 0 if neither has one.
pub fn copyPathname(descriptor: sys.Descriptor, room: []u8, failure: *status.Failure) status.Error!usize {
    const own: Name = try .of(descriptor, sys.localName, failure);
    if (own.pathname().len > 0) return copied(own.pathname(), room);
    // A server has none, and who has gone may have none any more.
    const remote: Name = Name.of(descriptor, sys.remoteName, failure) catch return 0;
    return copied(remote.pathname(), room);
}

fn copied(pathname: []const u8, room: []u8) status.Error!usize {
    if (pathname.len > room.len) return error.InvalidArgument;
    @memcpy(room[0..pathname.len], pathname);
    return pathname.len;
}

pub fn pair(failure: *status.Failure) status.Error![2]Socket {
    var descriptors: [2]sys.Descriptor = undefined;
    const result = sys.localPair(&descriptors);
    if (result < 0) return sys.refused(result, failure);
    return .{ .{ .descriptor = descriptors[0] }, .{ .descriptor = descriptors[1] } };
}

pub fn duplicate(descriptor: sys.Descriptor, failure: *status.Failure) status.Error!i64 {
    const result = sys.duplicate(descriptor);
    return if (result < 0) sys.refused(result, failure) else result;
}
