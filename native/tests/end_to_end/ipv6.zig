//! What is particular to IPv6. A machine without ::1 leaves these tests out.

const std = @import("std");
const support = @import("support.zig");
const testing = std.testing;

const c = support.c;
const Handle = support.Handle;
const onTransport = support.onTransport;
const Stage = support.Stage;
const succeed = support.succeed;

const any: [16]u8 = @splat(0);
const loopback = support.ipv6_loopback;
/// 127.0.0.1 in IPv6's form.
const mapped_loopback: [16]u8 = any[0..10].* ++ .{ 0xff, 0xff, 127, 0, 0, 1 };
/// No machine's (RFC 3849).
const foreign: [16]u8 = .{ 0x20, 0x01, 0x0d, 0xb8 } ++ any[0..11].* ++ .{1};

const refused = c.BBIPC_ERROR_INVALID_ARGUMENT;

const Address = struct { host: [16]u8, scope: u32, port: u16 };

fn localOf(socket: Handle) !Address {
    var address: Address = .{ .host = @splat(0xa5), .scope = 0xa5, .port = 0 };
    _ = try succeed(c.bbipc_ipv6_local_address(socket, &address.host, &address.scope, &address.port, null));
    return address;
}

fn remoteOf(stream: Handle) !Address {
    var address: Address = .{ .host = @splat(0xa5), .scope = 0xa5, .port = 0 };
    _ = try succeed(c.bbipc_ipv6_remote_address(stream, &address.host, &address.scope, &address.port));
    return address;
}

test "both ends of an IPv6 connection know both addresses, also after the end" {
    if (!support.hasIpv6()) return error.SkipZigTest;
    try onTransport(.tcp6, struct {
        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(1);
            const pair = try stage.pairWith(server);
            const address: Address = .{ .host = loopback, .scope = 0, .port = server.address.tcp6 };
            try testing.expectEqual(address, try localOf(server.handle));
            try testing.expectEqual(address, try remoteOf(pair.near));
            try testing.expectEqual(address, try localOf(pair.far));
            const near = try localOf(pair.near);
            try testing.expectEqual(loopback, near.host);
            try testing.expectEqual(near, try remoteOf(pair.far));
            stage.close(pair.near);
            try support.awaitEvent(pair.far, c.BBIPC_END_OF_DATA);
            try testing.expectEqual(near, try remoteOf(pair.far));
            // The functions of the other family say that it is not theirs, and every pointer may be null.
            try testing.expectEqual(c.BBIPC_ERROR_WRONG_KIND, c.bbipc_ipv4_local_address(pair.far, null, null, null));
            try testing.expectEqual(c.BBIPC_ERROR_WRONG_KIND, c.bbipc_ipv4_remote_address(pair.far, null, null));
            try testing.expectEqual(0, c.bbipc_ipv6_local_address(pair.far, null, null, null, null));
            try testing.expectEqual(0, c.bbipc_ipv6_remote_address(pair.far, null, null, null));
        }
    }.body);
}

test "a server for every address takes IPv4 only if it was asked to" {
    if (!support.hasIpv6()) return error.SkipZigTest;
    try onTransport(.tcp6, struct {
        fn body(stage: *Stage) !void {
            const both = try stage.keep(c.bbipc_make_ipv6_tcp_server(&any, 0, 0, 4, c.BBIPC_DUAL_STACK, null));
            const port = (try localOf(both)).port;
            const stream = try stage.keep(c.bbipc_connect_to_ipv4_tcp_server(0x7f000001, port, 0, 0, 0, null));
            try support.awaitEvent(both, c.BBIPC_CONNECTION_AVAILABLE);
            const accepted = try stage.keep(c.bbipc_accept_connection(both, null));
            try support.awaitEvent(stream, c.BBIPC_CONNECTION_SUCCEEDED);
            const local: Address = .{ .host = mapped_loopback, .scope = 0, .port = port };
            try testing.expectEqual(local, try localOf(accepted));
            var local_port: u16 = 0;
            _ = try succeed(c.bbipc_ipv4_local_address(stream, null, &local_port, null));
            const remote: Address = .{ .host = mapped_loopback, .scope = 0, .port = local_port };
            try testing.expectEqual(remote, try remoteOf(accepted));
            try testing.expectEqual(4, support.write(stream, "four"));
            try support.expectBytes(accepted, "four");
            stage.close(both);

            // Without the flag each family has the port for itself, whatever the system's setting is.
            const only = try stage.keep(c.bbipc_make_ipv6_tcp_server(&any, 0, 0, 4, 0, null));
            const its_port = (try localOf(only)).port;
            const other = c.bbipc_make_ipv4_tcp_server(0, its_port, 4, 0, null);
            if (other > 0) {
                // Another program may have had it.
                try testing.expectEqual(0, c.bbipc_close(other));
                const nobody = try stage.keep(
                    c.bbipc_connect_to_ipv4_tcp_server(0x7f000001, its_port, 0, 0, 0, null),
                );
                try support.awaitEvent(nobody, c.BBIPC_CONNECTION_FAILED);
            }
            // The address of all addresses is this machine for a client.
            const near = try stage.keep(c.bbipc_connect_to_ipv6_tcp_server(&any, 0, its_port, null, 0, 0, 0, null));
            try support.awaitEvent(only, c.BBIPC_CONNECTION_AVAILABLE);
            const far = try stage.keep(c.bbipc_accept_connection(only, null));
            try testing.expectEqual(loopback, (try localOf(far)).host);
            try testing.expectEqual(any, (try remoteOf(near)).host);
        }
    }.body);
}

test "an address of IPv6 that can't be meant is refused" {
    if (!support.hasIpv6()) return error.SkipZigTest;
    try onTransport(.tcp6, struct {
        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(4);
            const port = server.address.tcp6;
            const make = c.bbipc_make_ipv6_tcp_server;
            const connect = c.bbipc_connect_to_ipv6_tcp_server;
            try testing.expectEqual(refused, make(null, 0, 0, 1, 0, null));
            try testing.expectEqual(refused, make(&mapped_loopback, 0, 0, 1, 0, null));
            try testing.expectEqual(refused, make(&loopback, 0, 0, 1, c.BBIPC_DUAL_STACK, null));
            try testing.expectEqual(refused, make(&loopback, 0, 0, -1, 0, null));
            for ([_]u32{ 4, 7, 1 << 31, 0xffff_ffff }) |flags| {
                try testing.expectEqual(refused, make(&any, 0, 0, 1, flags, null));
                try testing.expectEqual(refused, connect(&loopback, 0, port, null, 0, 0, flags, null));
            }
            try testing.expectEqual(refused, connect(null, 0, port, null, 0, 0, 0, null));
            try testing.expectEqual(refused, connect(&mapped_loopback, 0, port, null, 0, 0, 0, null));
            try testing.expectEqual(refused, connect(&loopback, 0, port, &mapped_loopback, 0, 0, 0, null));
            try testing.expectEqual(refused, connect(&loopback, 0, port, null, 0, 0, c.BBIPC_DUAL_STACK, null));
            // Only a port that was chosen can linger.
            const reuse = c.BBIPC_REUSE_ADDRESS;
            try testing.expectEqual(refused, connect(&loopback, 0, port, null, 0, 0, reuse, null));
            try testing.expectEqual(refused, connect(&loopback, 0, port, &loopback, 0, 0, reuse, null));
            try testing.expectEqual(refused, c.bbipc_connect_to_ipv4_tcp_server(0x7f000001, port, 0, 0, reuse, null));
            var code: i32 = 0;
            try support.expectSystem(.ADDRNOTAVAIL, make(&foreign, 0, 0, 1, 0, &code), code);
            try support.expectSystem(.ADDRNOTAVAIL, connect(&loopback, 0, port, &foreign, 0, 0, 0, &code), code);
            try support.expectSystem(.ADDRINUSE, make(&loopback, 0, port, 1, 0, &code), code);
        }
    }.body);
}

test "a stream connects again from a port whose connection lingers" {
    try support.eachTcp(struct {
        fn body(stage: *Stage) !void {
            const first, const second = .{ try stage.makeServer(4), try stage.makeServer(4) };
            const reuse = c.BBIPC_REUSE_ADDRESS;
            // A port that was free a moment ago, which another program may have taken since: hence the few tries.
            for (0..20) |_| {
                const scout = try stage.makeServer(1);
                stage.close(scout.handle);
                const local_port = scout.port();
                var code: i32 = 0;
                const result = stage.connectFrom(first, local_port, reuse, &code);
                if (result == c.BBIPC_ERROR_SYSTEM and support.isCode(.ADDRINUSE, code)) continue;
                const stream = try stage.keep(result);
                const accepted = try stage.accept(first);
                try support.awaitEvent(stream, c.BBIPC_CONNECTION_SUCCEEDED);
                // The end that closes first keeps the port in TIME_WAIT.
                stage.close(stream);
                try support.awaitEvent(accepted, c.BBIPC_END_OF_DATA);
                stage.close(accepted);
                if (support.system.guardsRememberedPorts()) {
                    try support.expectSystem(.ADDRINUSE, stage.connectFrom(second, local_port, 0, &code), code);
                }
                const again = try stage.keep(stage.connectFrom(second, local_port, reuse, null));
                try support.awaitEvent(again, c.BBIPC_CONNECTION_SUCCEEDED);
                _ = try stage.accept(second);
                break;
            } else return error.NoFreePort;
        }
    }.body);
}
