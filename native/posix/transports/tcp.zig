//! TCP over IPv4 (ip(7), tcp(7)).

const std = @import("std");
const sys = @import("../sys.zig");
const net = @import("../../net/address.zig");
const status = @import("../../base/status.zig");
const Attempt = @import("../../base/attempt.zig").Attempt;

const Socket = @import("socket.zig").Socket;

pub const Listener = struct { descriptor: sys.Descriptor };

/// An address of TCP in the system's form.
fn toSystem(address: net.Address) sys.sockaddr.in {
    return .{
        .port = std.mem.nativeToBig(u16, address.ipv4.port),
        .addr = std.mem.nativeToBig(u32, address.ipv4.host),
    };
}

fn fromSystem(address: sys.sockaddr.in) net.Address {
    return .{ .ipv4 = .{
        .host = std.mem.bigToNative(u32, address.addr),
        .port = std.mem.bigToNative(u16, address.port),
    } };
}

/// Of any family, to be filled.
const unspecified: net.Address = .{ .ipv4 = .unspecified };

/// Accepts a connection, and tells the address of its remote end.
pub fn accept(descriptor: sys.Descriptor, remote: *net.Address) isize {
    var name = toSystem(unspecified);
    var size: sys.socklen_t = @sizeOf(sys.sockaddr.in);
    const result = sys.accept(descriptor, @ptrCast(&name), &size);
    if (result >= 0) remote.* = fromSystem(name);
    return result;
}

pub fn localAddress(descriptor: sys.Descriptor, failure: *status.Failure) status.Error!net.Address {
    var name = toSystem(unspecified);
    var size: sys.socklen_t = @sizeOf(sys.sockaddr.in);
    const result = sys.localName(descriptor, @ptrCast(&name), &size);
    if (result < 0) return sys.refused(result, failure);
    return fromSystem(name);
}

pub fn remoteAddress(descriptor: sys.Descriptor, failure: *status.Failure) status.Error!net.Address {
    var name = toSystem(unspecified);
    var size: sys.socklen_t = @sizeOf(sys.sockaddr.in);
    const result = sys.remoteName(descriptor, @ptrCast(&name), &size);
    if (result < 0) return sys.refused(result, failure);
    return fromSystem(name);
}

fn bind(address: net.Address, descriptor: sys.Descriptor, failure: *status.Failure) status.Error!void {
    const name = toSystem(address);
    const result = sys.bind(descriptor, &name, @sizeOf(sys.sockaddr.in));
    if (result < 0) return sys.refused(result, failure);
}

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
    address: net.Address,
    backlog: i32,
    reuse_address: bool,
    failure: *status.Failure,
) status.Error!Listener {
    const descriptor = try open(failure);
    errdefer sys.close(descriptor);
    if (reuse_address) try set(descriptor, sys.SOL.SOCKET, sys.SO.REUSEADDR, failure);
    // Accepted streams inherit it, which saves a call for each.
    try set(descriptor, sys.IPPROTO.TCP, sys.TCP.NODELAY, failure);
    try bind(address, descriptor, failure);
    const result = sys.listen(descriptor, backlog);
    if (result < 0) return sys.refused(result, failure);
    return .{ .descriptor = descriptor };
}

pub fn connect(remote: net.Address, local: ?net.Address, failure: *status.Failure) status.Error!Attempt(Socket) {
    const descriptor = try open(failure);
    errdefer sys.close(descriptor);
    try set(descriptor, sys.IPPROTO.TCP, sys.TCP.NODELAY, failure);
    if (local) |address| {
        if (address.port() == 0) sys.choosePortLate(descriptor);
        try bind(address, descriptor, failure);
    }

    const name = toSystem(remote);
    const result = sys.connect(descriptor, &name, @sizeOf(sys.sockaddr.in));
    if (result >= 0) return .{ .transport = .{ .descriptor = descriptor }, .state = .connected };
    return .{
        .transport = .{ .descriptor = descriptor },
        .state = switch (sys.failureOf(result)) {
            // Interrupted or not, the attempt goes on.
            .INPROGRESS, .INTR => .under_way,
            else => |e| .{ .failed = sys.codeOf(e) },
        },
    };
}
