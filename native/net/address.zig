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
};

pub const Address = union(enum) {
    /// A pathname's, which only its user knows.
    local,
    ipv4: Ipv4,

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
        };
    }

    pub fn eql(a: Address, b: Address) bool {
        return std.meta.eql(a, b);
    }
};

test "the address of all addresses is this machine for a client" {
    const testing = std.testing;
    try testing.expectEqual(Ipv4{ .host = 0x7f000001, .port = 7 }, Ipv4.reached(.{ .host = 0, .port = 7 }));
    try testing.expectEqual(Ipv4{ .host = 0x01000000, .port = 7 }, Ipv4.reached(.{ .host = 0x01000000, .port = 7 }));
}
