//! What is particular to IPv4 and to local sockets.

const std = @import("std");
const builtin = @import("builtin");
const support = @import("support.zig");
const testing = std.testing;

const c = support.c;
const connectLocal = support.connectLocal;
const Handle = support.Handle;
const makeLocal = support.makeLocal;
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
                    0x7f000002,
                    scout.address.tcp,
                    &code,
                );
                if (result == c.BBIPC_ERROR_SYSTEM and code == @backingInt(std.posix.E.ADDRINUSE)) continue;
                const stream = try stage.keep(result);
                _ = try succeed(c.bbipc_ipv4_local_address(stream, &host, &port, null));
                try testing.expectEqual(0x7f000002, host);
                try testing.expectEqual(scout.address.tcp, port);
                const accepted = try stage.accept(server);
                _ = try succeed(c.bbipc_ipv4_remote_address(accepted, &host, &port));
                try testing.expectEqual(0x7f000002, host);
                break;
            } else return error.NoFreePort;
            // An address of another machine can't be bound to (RFC 5737).
            var code: i32 = 0;
            const foreign = c.bbipc_connect_to_ipv4_tcp_server(0x7f000001, server.address.tcp, 0xc0000201, 0, &code);
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
            try support.expectSystem(.ADDRINUSE, makeTcp(port, 0, &code), code);
            _ = try stage.keep(makeTcp(port, reuse, null));
        }

        fn makeTcp(port: u16, flags: u32, code: ?*i32) i64 {
            return c.bbipc_make_ipv4_tcp_server(0x7f000001, port, 1, flags, code);
        }
    }.body);
}

// ---- Local pathnames ----

test "a local server's pathname is deleted when it closes, if that was asked for" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const name = stage.directory.freeName();
            const deleting = try stage.keep(makeLocal(name.text(), 1, c.BBIPC_DELETE_ON_CLOSE, null));
            try testing.expect(name.exists());
            stage.close(deleting);
            try testing.expect(!name.exists());

            const leaving = try stage.keep(makeLocal(name.text(), 1, 0, null));
            stage.close(leaving);
            try testing.expect(name.exists());
            // Nobody listens there any more.
            var code: i32 = 0;
            const nobody = connectLocal(name.text(), &code);
            try support.expectCode(c.BBIPC_ERROR_NO_LOCAL_SERVER, .CONNREFUSED, nobody, code);
            try support.expectSystem(.ADDRINUSE, makeLocal(name.text(), 1, 0, &code), code);
        }
    }.body);
}

test "a pathname that is another server's by now is left alone" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const name = stage.directory.freeName();
            const first = try stage.keep(makeLocal(name.text(), 1, c.BBIPC_DELETE_ON_CLOSE, null));
            try std.Io.Dir.deleteFileAbsolute(testing.io, name.text());
            const second = try stage.keep(makeLocal(name.text(), 1, c.BBIPC_DELETE_ON_CLOSE, null));
            stage.close(first);
            try testing.expect(name.exists());
            _ = try stage.keep(connectLocal(name.text(), null));
            stage.close(second);
            try testing.expect(!name.exists());
        }
    }.body);
}

test "a pathname where some file lies by now is left alone, and nobody listens there" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const name = stage.directory.freeName();
            const server = try stage.keep(makeLocal(name.text(), 1, c.BBIPC_DELETE_ON_CLOSE, null));
            try std.Io.Dir.deleteFileAbsolute(testing.io, name.text());
            const file = try std.Io.Dir.createFileAbsolute(testing.io, name.text(), .{});
            file.close(testing.io);
            stage.close(server);
            try testing.expect(name.exists());
            try testing.expectEqual(c.BBIPC_ERROR_NO_LOCAL_SERVER, connectLocal(name.text(), null));
        }
    }.body);
}

test "a relative pathname is deleted although the program has changed its directory" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const before = try std.process.currentPathAlloc(testing.io, testing.allocator);
            defer testing.allocator.free(before);
            const name = stage.directory.freeName();
            try std.process.setCurrentPath(testing.io, stage.directory.text());
            const made = makeLocal(std.fs.path.basename(name.text()), 1, c.BBIPC_DELETE_ON_CLOSE, null);
            try std.process.setCurrentPath(testing.io, before);
            const server = try stage.keep(made);
            try testing.expect(name.exists());
            stage.close(server);
            try testing.expect(!name.exists());
        }
    }.body);
}

test "pathnames may be as long as the limit, and not longer, and have no NUL" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const limit: usize = c.bbipc_local_pathname_limit();
            var name: [256]u8 = @splat('n');
            const directory = stage.directory.text();
            @memcpy(name[0..directory.len], directory);
            name[directory.len] = '/';
            const server = try stage.keep(makeLocal(name[0..limit], 1, c.BBIPC_DELETE_ON_CLOSE, null));
            try testing.expect(support.fileExists(name[0..limit]));
            _ = try stage.keep(connectLocal(name[0..limit], null));
            stage.close(server);
            try testing.expect(!support.fileExists(name[0..limit]));

            const too_long = c.BBIPC_ERROR_NAME_TOO_LONG;
            for ([_]u64{ limit + 1, name.len, std.math.maxInt(u32), std.math.maxInt(u64) }) |size| {
                try testing.expectEqual(too_long, c.bbipc_make_local_server(&name, size, 1, 0, null));
                try testing.expectEqual(too_long, c.bbipc_connect_to_local_server(&name, size, null));
                try testing.expectEqual(too_long, c.bbipc_connect_to_local_server(null, size, null));
            }
            const refused = c.BBIPC_ERROR_INVALID_ARGUMENT;
            name[limit - 1] = 0;
            for ([_][]const u8{ "", "\x00", "\x00abstract", "a\x00", "a\x00b", name[0..limit] }) |malformed| {
                try testing.expectEqual(refused, makeLocal(malformed, 1, 0, null));
                try testing.expectEqual(refused, connectLocal(malformed, null));
            }
            try testing.expectEqual(refused, c.bbipc_make_local_server(null, 1, 1, 0, null));
            try testing.expectEqual(refused, c.bbipc_connect_to_local_server(null, 1, null));
        }
    }.body);
}

test "a local server with a full backlog is there, but has no room" {
    if (builtin.os.tag != .linux) return error.SkipZigTest; // how many a backlog takes differs
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(0);
            _ = try stage.connect(server);
            var code: i32 = 0;
            try support.expectSystem(.AGAIN, connectLocal(server.address.local.text(), &code), code);
            _ = try stage.accept(server);
            _ = try stage.connect(server);
        }
    }.body);
}

test "a directory that isn't there has no room for a server, and none in it" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const name = stage.directory.freeName();
            const missing = try std.mem.concat(testing.allocator, u8, &.{ name.text(), "/nothing" });
            defer testing.allocator.free(missing);
            var code: i32 = 0;
            try support.expectSystem(.NOENT, makeLocal(missing, 1, c.BBIPC_DELETE_ON_CLOSE, &code), code);
            try testing.expectEqual(c.BBIPC_ERROR_NO_LOCAL_SERVER, connectLocal(missing, null));
        }
    }.body);
}
