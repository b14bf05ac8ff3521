//! IPv4 servers and streams (ip(7), tcp(7)).

const std = @import("std");
const sys = @import("../sys.zig");
const status = @import("../../core/status.zig");
const sockets = @import("../stream.zig");

/// Both in the host's byte order, as in bbipc.h.
pub const Address = struct {
    host: u32,
    port: u16,

    pub const unspecified: Address = .{ .host = 0, .port = 0 };

    fn toSystem(address: Address) sys.sockaddr.in {
        return .{
            .port = std.mem.nativeToBig(u16, address.port),
            .addr = std.mem.nativeToBig(u32, address.host),
        };
    }

    fn fromSystem(address: sys.sockaddr.in) Address {
        return .{
            .host = std.mem.bigToNative(u32, address.addr),
            .port = std.mem.bigToNative(u16, address.port),
        };
    }

    /// Accepts a connection, and becomes the address of its remote end.
    pub fn accept(address: *Address, server: sys.Descriptor) isize {
        var name: sys.sockaddr.in = unspecified.toSystem();
        var size: sys.socklen_t = @sizeOf(sys.sockaddr.in);
        const result = sys.accept(server, @ptrCast(&name), &size);
        if (result >= 0) address.* = fromSystem(name);
        return result;
    }

    pub fn ofDescriptor(descriptor: sys.Descriptor, failure: *status.Failure) status.Error!Address {
        var name: sys.sockaddr.in = unspecified.toSystem();
        var size: sys.socklen_t = @sizeOf(sys.sockaddr.in);
        const result = sys.localName(descriptor, @ptrCast(&name), &size);
        if (result < 0) return sys.refused(result, failure);
        return fromSystem(name);
    }

    fn bind(address: Address, descriptor: sys.Descriptor, failure: *status.Failure) status.Error!void {
        const name = address.toSystem();
        const result = sys.bind(descriptor, &name, @sizeOf(sys.sockaddr.in));
        if (result < 0) return sys.refused(result, failure);
    }
};

fn open(failure: *status.Failure) status.Error!sys.Descriptor {
    const result = sys.streamSocket(sys.AF.INET);
    if (result < 0) return sys.refused(result, failure);
    return @intCast(result);
}

fn set(descriptor: sys.Descriptor, level: i32, option: u32, failure: *status.Failure) status.Error!void {
    const result = sys.setOption(descriptor, level, option, 1);
    if (result < 0) return sys.refused(result, failure);
}

pub fn listen(
    address: Address,
    backlog: i32,
    reuse_address: bool,
    failure: *status.Failure,
) status.Error!sockets.Server {
    const descriptor = try open(failure);
    errdefer sys.close(descriptor);
    if (reuse_address) try set(descriptor, sys.SOL.SOCKET, sys.SO.REUSEADDR, failure);
    // Accepted streams inherit it, which saves a call for each.
    try set(descriptor, sys.IPPROTO.TCP, sys.TCP.NODELAY, failure);
    try address.bind(descriptor, failure);
    const result = sys.listen(descriptor, backlog);
    if (result < 0) return sys.refused(result, failure);
    return .{ .descriptor = descriptor, .namespace = .ipv4 };
}

/// A port of the system's choice can be the very port that is connected to. TCP then connects the socket with itself
/// (simultaneous open, RFC 9293, 3.5), where a user expects to be refused; another try gets another port.
const self_connects_max = 8;

pub fn connect(remote: Address, local: Address, failure: *status.Failure) status.Error!sockets.Stream {
    for (0..self_connects_max) |_| {
        var stream = try connectOnce(remote, local, failure);
        errdefer stream.deinit();
        if (local.port != 0 or stream.connection.known.load().failed) return stream;
        const chosen = try Address.ofDescriptor(stream.descriptor, failure);
        if (!std.meta.eql(chosen, remote)) return stream;
        stream.deinit();
    }
    return failure.system(sys.codeOf(.CONNREFUSED));
}

fn connectOnce(remote: Address, local: Address, failure: *status.Failure) status.Error!sockets.Stream {
    const descriptor = try open(failure);
    errdefer sys.close(descriptor);
    try set(descriptor, sys.IPPROTO.TCP, sys.TCP.NODELAY, failure);
    if (!std.meta.eql(local, Address.unspecified)) {
        if (local.port == 0) sys.choosePortLate(descriptor);
        try local.bind(descriptor, failure);
    }

    var stream: sockets.Stream = .{ .descriptor = descriptor, .remote_address = remote };
    const name = remote.toSystem();
    const result = sys.connect(descriptor, &name, @sizeOf(sys.sockaddr.in));
    if (result >= 0) {
        stream.connection.establish();
    } else switch (sys.failureOf(result)) {
        // Interrupted or not, the attempt goes on.
        .INPROGRESS, .INTR => {},
        else => |e| stream.connection.fail(sys.codeOf(e)),
    }
    return stream;
}
