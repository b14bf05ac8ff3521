//! The library with peers that don't use it: the system's own calls, which block.

const std = @import("std");
const support = @import("support.zig");
const testing = std.testing;

const c = support.c;
/// The peers know one family.
const eachTransport = support.eachKind;
const Handle = support.Handle;
const Stage = support.Stage;
const system = support.system;

fn connectTo(server: Stage.Server) !system.Peer {
    return switch (server.address) {
        .tcp => |port| .connectTcp(port),
        .tcp6 => unreachable,
        .local => |name| .connectLocal(name.text()),
    };
}

/// A server that is not ours, and a stream of ours that is connected to it.
fn accepted(stage: *Stage) !struct { stream: Handle, peer: system.Peer } {
    const name = stage.names.free();
    const listener: system.Listener = switch (stage.transport) {
        .tcp => try .listenTcp(),
        .tcp6 => unreachable,
        .local => try .listenLocal(name.text()),
    };
    defer listener.close();
    const stream = try stage.connect(.{ .handle = 0, .address = switch (stage.transport) {
        .tcp => .{ .tcp = listener.port() },
        .tcp6 => unreachable,
        .local => .{ .local = name },
    } });
    return .{ .stream = stream, .peer = try listener.accept() };
}

test "a client that writes and closes at once is heard to the end" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(4);
            for (0..20) |_| {
                const peer = try connectTo(server);
                try peer.write("first");
                try peer.write("last");
                peer.close();
                const stream = try stage.accept(server);
                defer stage.close(stream);
                try support.expectBytes(stream, "firstlast");
                try support.awaitEvent(stream, c.BBIPC_END_OF_DATA);
                var buffer: [8]u8 = undefined;
                try testing.expectEqual(0, support.read(stream, &buffer));
                try testing.expectEqual(0, c.bbipc_connection_error(stream, null));
            }
        }
    }.body);
}

test "a client that came and went without a word is no error of the server" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(16);
            for (0..5) |_| {
                const peer = try connectTo(server);
                peer.close();
            }
            // Whether they are accepted is the system's affair.
            const peer = try connectTo(server);
            defer peer.close();
            try peer.write("x");
            while (true) {
                const stream = try stage.accept(server);
                defer stage.close(stream);
                const events: u32 = c.BBIPC_DATA_AVAILABLE | c.BBIPC_REMOTE_DISCONNECTED;
                const happened = try support.succeed(support.poll(stream, events, support.patience_ns));
                if (happened & c.BBIPC_DATA_AVAILABLE == 0) continue;
                return support.expectBytes(stream, "x");
            }
        }
    }.body);
}

test "bytes go both ways with a client that is not ours" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(4);
            const peer = try connectTo(server);
            defer peer.close();
            const stream = try stage.accept(server);
            try exchange(stream, peer);
            stage.close(stream);
            var buffer: [8]u8 = undefined;
            try testing.expectEqual(0, try peer.read(&buffer));
        }
    }.body);
}

test "bytes go both ways with a server that is not ours" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const ends = try accepted(stage);
            {
                defer ends.peer.close();
                try exchange(ends.stream, ends.peer);
            }
            try support.awaitEvent(ends.stream, c.BBIPC_END_OF_DATA);
        }
    }.body);
}

/// Questions and answers of many sizes.
fn exchange(stream: Handle, peer: system.Peer) !void {
    var data: [2000]u8 = undefined;
    for (&data, 0..) |*byte, index| byte.* = @truncate(index *% 7);
    var buffer: [data.len]u8 = undefined;
    for ([_]usize{ 1, 2, 100, 1999, 2000 }) |size| {
        try support.writeAll(stream, data[0..size]);
        var count: usize = 0;
        while (count < size) {
            const read = try peer.read(buffer[count..size]);
            try testing.expect(read > 0);
            count += read;
        }
        try testing.expectEqualSlices(u8, data[0..size], buffer[0..size]);
        try peer.write(data[0..size]);
        try support.expectBytes(stream, data[0..size]);
    }
}
