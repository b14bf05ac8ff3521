//! What is particular to IPv4 and to local sockets.

const std = @import("std");
const support = @import("support.zig");
const testing = std.testing;

const c = support.c;
const connectLocal = support.connectLocal;
const Handle = support.Handle;
const onTransport = support.onTransport;
const Stage = support.Stage;
const succeed = support.succeed;

const end_of_data: u32 = c.BBIPC_END_OF_DATA;

// ---- IPv4 ----

test "both ends of an IPv4 connection know both addresses, also after the end" {
    try onTransport(.tcp, struct {
        const Address = struct { host: u32, port: u16 };

        fn localOf(socket: Handle) !Address {
            var address: Address = undefined;
            _ = try succeed(c.bbipc_ipv4_local_address(socket, &address.host, &address.port, null));
            return address;
        }

        fn remoteOf(stream: Handle) !Address {
            var address: Address = undefined;
            _ = try succeed(c.bbipc_ipv4_remote_address(stream, &address.host, &address.port));
            return address;
        }

        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(1);
            const pair = try stage.pairWith(server);
            const loopback = 0x7f000001;
            const address: Address = .{ .host = loopback, .port = server.address.tcp };
            try testing.expectEqual(address, try localOf(server.handle));
            try testing.expectEqual(address, try remoteOf(pair.near));
            try testing.expectEqual(address, try localOf(pair.far));
            const near = try localOf(pair.near);
            try testing.expectEqual(loopback, near.host);
            try testing.expectEqual(near, try remoteOf(pair.far));
            const remote = try remoteOf(pair.far);
            stage.close(pair.near);
            try support.awaitEvent(pair.far, end_of_data);
            try testing.expectEqual(remote, try remoteOf(pair.far));
        }
    }.body);
}

test "a stream can be bound before it connects" {
    try onTransport(.tcp, struct {
        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(4);
            // A port that was free a moment ago, which another program may have taken since: hence the few tries.
            var host: u32 = 0;
            var port: u16 = 0;
            for (0..20) |_| {
                const scout = try stage.makeServer(1);
                stage.close(scout.handle);
                var code: i32 = 0;
                const result = c.bbipc_connect_to_ipv4_tcp_server(
                    0x7f000001,
                    server.address.tcp,
                    support.system.second_loopback,
                    scout.address.tcp,
                    0,
                    &code,
                );
                if (result == c.BBIPC_ERROR_SYSTEM and support.isCode(.ADDRINUSE, code)) continue;
                const stream = try stage.keep(result);
                _ = try succeed(c.bbipc_ipv4_local_address(stream, &host, &port, null));
                try testing.expectEqual(support.system.second_loopback, host);
                try testing.expectEqual(scout.address.tcp, port);
                const accepted = try stage.accept(server);
                _ = try succeed(c.bbipc_ipv4_remote_address(accepted, &host, &port));
                try testing.expectEqual(support.system.second_loopback, host);
                break;
            } else return error.NoFreePort;
            // An address of another machine can't be bound to (RFC 5737).
            var code: i32 = 0;
            const port_of_server = server.address.tcp;
            const foreign = c.bbipc_connect_to_ipv4_tcp_server(0x7f000001, port_of_server, 0xc0000201, 0, 0, &code);
            try support.expectSystem(.ADDRNOTAVAIL, foreign, code);
        }
    }.body);
}

test "a port in use is refused, one that only remembers connections is taken with the flag for it" {
    try onTransport(.tcp, struct {
        fn body(stage: *Stage) !void {
            const reuse = c.BBIPC_REUSE_ADDRESS;
            const server = try stage.keep(c.bbipc_make_ipv4_tcp_server(0x7f000001, 0, 1, reuse, null));
            var port: u16 = 0;
            _ = try succeed(c.bbipc_ipv4_local_address(server, null, &port, null));
            var code: i32 = 0;
            for ([_]u32{ 0, reuse }) |flags| {
                try support.expectSystem(.ADDRINUSE, makeTcp(port, flags, &code), code);
            }
            // The end that closes first keeps the port in TIME_WAIT.
            const pair = try stage.pairWith(.{ .handle = server, .address = .{ .tcp = port } });
            stage.close(server);
            stage.close(pair.far);
            try support.awaitEvent(pair.near, end_of_data);
            stage.close(pair.near);
            if (support.system.guardsRememberedPorts()) {
                try support.expectSystem(.ADDRINUSE, makeTcp(port, 0, &code), code);
            }
            _ = try stage.keep(makeTcp(port, reuse, null));
        }

        fn makeTcp(port: u16, flags: u32, code: ?*i32) i64 {
            return c.bbipc_make_ipv4_tcp_server(0x7f000001, port, 1, flags, code);
        }
    }.body);
}

// ---- Local sockets ----

test "a local server with a full backlog has no room until it accepts" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(1);
            // Systems differ in how many more than the backlog they take.
            for (0..8) |_| {
                var code: i32 = 0;
                const result = connectLocal(server.address.local.text(), &code);
                if (result < 0) {
                    try support.expectCode(support.system.full_backlog_error, .full_backlog, result, code);
                    break;
                }
                _ = try stage.keep(result);
            } else return error.NeverFull;
            _ = try stage.accept(server);
            _ = try stage.connect(server);
        }
    }.body);
}
