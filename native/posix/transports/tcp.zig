//! TCP over IPv4 and IPv6 (ip(7), ipv6(7), tcp(7)).

const std = @import("std");
const sys = @import("../sys.zig");
const net = @import("../../net/address.zig");
const status = @import("../../base/status.zig");
const Attempt = @import("../../base/attempt.zig").Attempt;

const Socket = @import("socket.zig").Socket;

pub const Listener = struct { descriptor: sys.Descriptor, family: net.Family };

/// An address of TCP in the system's form.
const Name = struct {
    name: extern union { ipv4: sys.sockaddr.in, ipv6: sys.sockaddr.in6 },
    size: sys.socklen_t,

    fn of(address: net.Address) Name {
        return switch (address) {
            .local => unreachable,
            .ipv4 => |one| .{ .size = @sizeOf(sys.sockaddr.in), .name = .{ .ipv4 = .{
                .port = std.mem.nativeToBig(u16, one.port),
                .addr = std.mem.nativeToBig(u32, one.host),
            } } },
            .ipv6 => |one| .{ .size = @sizeOf(sys.sockaddr.in6), .name = .{ .ipv6 = .{
                .port = std.mem.nativeToBig(u16, one.port),
                .flowinfo = 0,
                .addr = one.host,
                .scope_id = one.scope,
            } } },
        };
    }

    /// Of any family, to be filled.
    const unfilled: Name = room: {
        var name: Name = .of(.{ .ipv6 = .unspecified });
        // Where nothing comes, an address of IPv4 with nothing in it.
        name.name.ipv6.family = sys.AF.INET;
        break :room name;
    };

    fn toAddress(name: *const Name) net.Address {
        if (name.name.ipv4.family == sys.AF.INET6) return .{ .ipv6 = .{
            .host = name.name.ipv6.addr,
            .scope = name.name.ipv6.scope_id,
            .port = std.mem.bigToNative(u16, name.name.ipv6.port),
        } };
        return .{ .ipv4 = .{
            .host = std.mem.bigToNative(u32, name.name.ipv4.addr),
            .port = std.mem.bigToNative(u16, name.name.ipv4.port),
        } };
    }
};

/// Accepts a connection, and tells the address of its remote end.
pub fn accept(descriptor: sys.Descriptor, remote: *net.Address) isize {
    var name: Name = .unfilled;
    const result = sys.accept(descriptor, @ptrCast(&name.name), &name.size);
    if (result >= 0) remote.* = name.toAddress();
    return result;
}

pub fn localAddress(descriptor: sys.Descriptor, failure: *status.Failure) status.Error!net.Address {
    var name: Name = .unfilled;
    const result = sys.localName(descriptor, @ptrCast(&name.name), &name.size);
    if (result < 0) return sys.refused(result, failure);
    return name.toAddress();
}

pub fn remoteAddress(descriptor: sys.Descriptor, failure: *status.Failure) status.Error!net.Address {
    var name: Name = .unfilled;
    const result = sys.remoteName(descriptor, @ptrCast(&name.name), &name.size);
    if (result < 0) return sys.refused(result, failure);
    return name.toAddress();
}

fn bind(address: net.Address, descriptor: sys.Descriptor, failure: *status.Failure) status.Error!void {
    const name: Name = .of(address);
    const result = sys.bind(descriptor, &name.name, name.size);
    if (result < 0) return sys.refused(result, failure);
}

/// The system's own choice of whether IPv6 sockets take IPv4 too differs, and can be changed (ipv6(7), inet6(4)).
fn open(family: net.Family, dual_stack: bool, failure: *status.Failure) status.Error!sys.Descriptor {
    const result = sys.streamSocket(switch (family) {
        .ipv4 => sys.AF.INET,
        .ipv6 => sys.AF.INET6,
    });
    if (result < 0) return sys.refused(result, failure);
    const descriptor: sys.Descriptor = @intCast(result);
    errdefer sys.close(descriptor);
    if (family == .ipv6) try set(descriptor, sys.IPPROTO.IPV6, sys.IPV6.V6ONLY, @intFromBool(!dual_stack), failure);
    // Accepted streams inherit it from their server, which saves a call for each.
    try set(descriptor, sys.IPPROTO.TCP, sys.TCP.NODELAY, 1, failure);
    return descriptor;
}

fn set(
    descriptor: sys.Descriptor,
    level: i32,
    option: u32,
    value: c_int,
    failure: *status.Failure,
) status.Error!void {
    const result = sys.setOption(descriptor, level, option, value);
    if (result < 0) return sys.refused(result, failure);
}

fn reuseAddress(descriptor: sys.Descriptor, failure: *status.Failure) status.Error!void {
    return set(descriptor, sys.SOL.SOCKET, sys.SO.REUSEADDR, 1, failure);
}

pub fn listen(address: net.Address, how: net.Listening, failure: *status.Failure) status.Error!Listener {
    const descriptor = try open(address.family(), how.dual_stack, failure);
    errdefer sys.close(descriptor);
    if (how.reuse_address) try reuseAddress(descriptor, failure);
    try bind(address, descriptor, failure);
    const result = sys.listen(descriptor, how.backlog);
    if (result < 0) return sys.refused(result, failure);
    return .{ .descriptor = descriptor, .family = address.family() };
}

pub fn connect(remote: net.Address, local: ?net.Local, failure: *status.Failure) status.Error!Attempt(Socket) {
    const descriptor = try open(remote.family(), false, failure);
    errdefer sys.close(descriptor);
    if (local) |from| {
        if (from.reuse_address) try reuseAddress(descriptor, failure);
        if (from.address.port() == 0) sys.choosePortLate(descriptor);
        try bind(from.address, descriptor, failure);
    }

    const name: Name = .of(remote);
    const result = sys.connect(descriptor, &name.name, name.size);
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
