//! Addresses of servers and streams, the same on every system.

const std = @import("std");

/// Both in the host's byte order, as in bbipc.h.
pub const Ipv4 = struct {
    host: u32,
    port: u16,

    pub const unspecified: Ipv4 = .{ .host = 0, .port = 0 };

    const loopback_host = 0x7f000001;

    /// Whom a client of this address reaches: the address of all addresses stands for this machine itself.
    pub fn reached(address: Ipv4) Ipv4 {
        return if (address.host == 0) .{ .host = loopback_host, .port = address.port } else address;
    }

    pub fn eql(a: Ipv4, b: Ipv4) bool {
        return std.meta.eql(a, b);
    }
};

/// The host's bytes as on the wire (RFC 4291); the scope is the number of an interface, of a link-local address (RFC
/// 4007), and the port in the host's byte order.
pub const Ipv6 = struct {
    host: Host,
    scope: u32 = 0,
    port: u16,

    pub const Host = [16]u8;

    pub const unspecified: Ipv6 = .{ .host = any, .port = 0 };

    const any: Host = @splat(0);
    const loopback: Host = any[0..15].* ++ .{1};
    /// What stands before an IPv4 address (RFC 4291, 2.5.5.2).
    const mapped_prefix: [12]u8 = any[0..10].* ++ .{ 0xff, 0xff };

    pub fn isAny(address: Ipv6) bool {
        return std.mem.eql(u8, &address.host, &any);
    }

    /// An IPv4 address in the form that a socket for both has it in.
    pub fn isMapped(address: Ipv6) bool {
        return std.mem.startsWith(u8, &address.host, &mapped_prefix);
    }

    /// Whom a client of this address reaches: the address of all addresses stands for this machine itself.
    pub fn reached(address: Ipv6) Ipv6 {
        return if (address.isAny()) .{ .host = loopback, .port = address.port } else address;
    }

    /// Not by the scope: systems tell it of link-local addresses only, whatever they were given.
    pub fn eql(a: Ipv6, b: Ipv6) bool {
        return a.port == b.port and std.mem.eql(u8, &a.host, &b.host);
    }
};

pub const Family = enum { ipv4, ipv6 };

/// The numbers are those of bbipc.h.
pub const Namespace = enum(i64) {
    local = 1,
    ipv4 = 2,
    ipv6 = 3,

    pub fn ofFamily(of: Family) Namespace {
        return switch (of) {
            .ipv4 => .ipv4,
            .ipv6 => .ipv6,
        };
    }
};

pub const Address = union(enum) {
    /// A pathname's, which only its user knows.
    local,
    ipv4: Ipv4,
    ipv6: Ipv6,

    /// The address of a socket that has none yet.
    pub fn unspecified(of: Family) Address {
        return switch (of) {
            .ipv4 => .{ .ipv4 = .unspecified },
            .ipv6 => .{ .ipv6 = .unspecified },
        };
    }

    pub fn namespace(address: Address) Namespace {
        return switch (address) {
            .local => .local,
            .ipv4 => .ipv4,
            .ipv6 => .ipv6,
        };
    }

    /// Of an address of TCP.
    pub fn family(address: Address) Family {
        return switch (address) {
            .local => unreachable,
            .ipv4 => .ipv4,
            .ipv6 => .ipv6,
        };
    }

    pub fn port(address: Address) u16 {
        return switch (address) {
            .local => 0,
            inline else => |one| one.port,
        };
    }

    /// Whom a client of this address reaches.
    pub fn reached(address: Address) Address {
        return switch (address) {
            .local => .local,
            .ipv4 => |one| .{ .ipv4 = one.reached() },
            .ipv6 => |one| .{ .ipv6 = one.reached() },
        };
    }

    pub fn eql(a: Address, b: Address) bool {
        if (std.meta.activeTag(a) != std.meta.activeTag(b)) return false;
        return switch (a) {
            .local => true,
            .ipv4 => |one| one.eql(b.ipv4),
            .ipv6 => |one| one.eql(b.ipv6),
        };
    }
};

/// What a TCP stream is bound to before it connects.
pub const Local = struct {
    address: Address,
    /// Bind although earlier connections of the port linger.
    reuse_address: bool = false,
};

/// How a TCP server listens.
pub const Listening = struct {
    backlog: i32,
    /// Bind although earlier connections of the port linger.
    reuse_address: bool = false,
    /// Of the IPv6 address of all addresses: take clients of IPv4 too.
    dual_stack: bool = false,
};

test "the address of all addresses is this machine for a client" {
    const testing = std.testing;
    try testing.expectEqual(Ipv4{ .host = 0x7f000001, .port = 7 }, Ipv4.reached(.{ .host = 0, .port = 7 }));
    try testing.expectEqual(Ipv4{ .host = 0x01000000, .port = 7 }, Ipv4.reached(.{ .host = 0x01000000, .port = 7 }));
    const loopback: Ipv6 = .{ .host = .{ 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 }, .port = 7 };
    try testing.expectEqual(loopback, Ipv6.reached(.{ .host = @splat(0), .port = 7 }));
    try testing.expectEqual(loopback, loopback.reached());
    const other: Ipv6 = .{ .host = .{ 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, .scope = 3, .port = 7 };
    try testing.expectEqual(other, other.reached());
}

test "an IPv4 address in IPv6's form is told from others" {
    const testing = std.testing;
    const mapped: Ipv6.Host = .{ 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1 };
    try testing.expect(Ipv6.isMapped(.{ .host = mapped, .port = 0 }));
    for (0..12) |place| {
        var other = mapped;
        other[place] ^= 0x10;
        try testing.expect(!Ipv6.isMapped(.{ .host = other, .port = 0 }));
    }
}

test "addresses of two families are never the same, and a scope makes none another" {
    const testing = std.testing;
    const one: Ipv6 = .{ .host = .{ 0xfe, 0x80 } ++ @as([13]u8, @splat(0)) ++ .{1}, .scope = 2, .port = 7 };
    var other = one;
    other.scope = 0;
    try testing.expect(Address.eql(.{ .ipv6 = one }, .{ .ipv6 = other }));
    other.port = 8;
    try testing.expect(!Address.eql(.{ .ipv6 = one }, .{ .ipv6 = other }));
    other = one;
    other.host[15] = 2;
    try testing.expect(!Address.eql(.{ .ipv6 = one }, .{ .ipv6 = other }));
    try testing.expect(!Address.eql(.{ .ipv4 = .unspecified }, .{ .ipv6 = .unspecified }));
    try testing.expect(!Address.eql(.local, .{ .ipv4 = .unspecified }));
}
