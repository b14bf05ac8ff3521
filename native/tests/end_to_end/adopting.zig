//! Descriptors from elsewhere, streams that are given away, and pairs without a server.

const std = @import("std");
const support = @import("support.zig");
const testing = std.testing;

const c = support.c;
const eachTransport = support.eachTransport;
const Handle = support.Handle;
const onTransport = support.onTransport;
const Stage = support.Stage;
const succeed = support.succeed;
const system = support.system;

const end_of_data: u32 = c.BBIPC_END_OF_DATA;

fn canDetach(stage: *const Stage) bool {
    return stage.kind() != .pipe;
}

fn namespaceOf(stage: *const Stage) i64 {
    return switch (stage.transport) {
        .tcp => c.BBIPC_NAMESPACE_IPV4,
        .tcp6 => c.BBIPC_NAMESPACE_IPV6,
        .local => c.BBIPC_NAMESPACE_LOCAL,
    };
}

/// Bytes both ways.
fn expectConnected(one: Handle, other: Handle) !void {
    try support.writeAll(one, "there");
    try support.expectBytes(other, "there");
    try support.writeAll(other, "and back");
    try support.expectBytes(one, "and back");
}

test "the two streams of a pair are connected, and see each other's end" {
    const open_before = c.bbipc_open_handles();
    var others: [20]Handle = undefined;
    var ones: [20]Handle = undefined;
    for (&ones, &others) |*one, *other| {
        one.* = try succeed(c.bbipc_make_stream_pair(other, null));
        try testing.expect(one.* != other.*);
    }
    for (ones, others) |one, other| {
        try testing.expectEqual(c.BBIPC_NAMESPACE_LOCAL, c.bbipc_namespace(one));
        try expectConnected(one, other);
        try testing.expectEqual(0, c.bbipc_close(one));
        try support.awaitEvent(other, end_of_data);
        try testing.expectEqual(0, c.bbipc_close(other));
    }
    try testing.expectEqual(c.BBIPC_ERROR_INVALID_ARGUMENT, c.bbipc_make_stream_pair(null, null));
    try testing.expectEqual(open_before, c.bbipc_open_handles());
}

test "a stream that is detached goes on as another" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            if (!canDetach(stage)) {
                try testing.expectEqual(c.BBIPC_ERROR_UNSUPPORTED, c.bbipc_detach(pair.near, null));
                return expectConnected(pair.near, pair.far);
            }
            const poller = try stage.poller(c.BBIPC_BACKEND_DEFAULT);
            _ = try succeed(c.bbipc_monitor_socket(poller, pair.near, c.BBIPC_DATA_AVAILABLE, null));
            const old = try succeed(c.bbipc_fileno(pair.near));
            const descriptor = try succeed(c.bbipc_detach(pair.near, null));
            try testing.expect(descriptor != old);
            const gone = c.BBIPC_ERROR_INVALID_HANDLE;
            try testing.expectEqual(gone, c.bbipc_detach(pair.near, null));
            try testing.expectEqual(gone, c.bbipc_fileno(pair.near));
            try testing.expectEqual(gone, c.bbipc_close(pair.near));
            try testing.expectEqual(0, c.bbipc_monitored_sockets(poller, null, 0));
            // The poller is not told of a connection that is another's.
            try support.writeAll(pair.far, "x");
            try testing.expectEqual(0, support.waitFor(poller, 0));

            const again = try stage.keep(c.bbipc_adopt_stream(descriptor, null));
            try testing.expectEqual(descriptor, c.bbipc_fileno(again));
            try testing.expectEqual(namespaceOf(stage), c.bbipc_namespace(again));
            try support.expectBytes(again, "x");
            try expectConnected(again, pair.far);
            stage.close(again);
            try support.awaitEvent(pair.far, end_of_data);
        }
    }.body);
}

test "a stream that keeps bytes of messages is not detached" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            if (!canDetach(stage)) return;
            const pair = try stage.pair();
            const poller = try stage.poller(c.BBIPC_BACKEND_DEFAULT);
            _ = try succeed(c.bbipc_monitor_socket(poller, pair.near, c.BBIPC_DATA_AVAILABLE, null));
            var buffer: [8]u8 = undefined;
            var size: u64 = 0;
            try support.writeAll(pair.far, "\x00\x00\x00\x04ab");
            try support.awaitEvent(pair.near, c.BBIPC_DATA_AVAILABLE);
            const receive = c.bbipc_receive_message;
            try testing.expectEqual(0, receive(pair.near, &buffer, 0, buffer.len, &size, 0, null));
            var code: i32 = 0;
            try support.expectSystem(.BUSY, c.bbipc_detach(pair.near, &code), code);
            try testing.expectEqual(1, c.bbipc_monitored_sockets(poller, null, 0));
            try support.writeAll(pair.far, "cd");
            try testing.expectEqual(1, receive(pair.near, &buffer, 0, buffer.len, &size, support.patience_ns, null));
            try testing.expectEqualStrings("abcd", buffer[0..@intCast(size)]);

            // Larger than what any system keeps of it.
            const large = try testing.allocator.alloc(u8, 16 << 20);
            defer testing.allocator.free(large);
            @memset(large, 'x');
            try testing.expectEqual(1, c.bbipc_send_message(pair.near, large.ptr, 0, large.len, 0, null, null));
            try support.expectSystem(.BUSY, c.bbipc_detach(pair.near, &code), code);
            _ = try support.drain(pair.far);
            while (c.bbipc_unsent(pair.near) > 0) _ = try support.drain(pair.far);
            system.closeDescriptor(try succeed(c.bbipc_detach(pair.near, null)));
            _ = try support.drainToEnd(pair.far);
        }
    }.body);
}

test "waits for a stream that is detached end" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            if (!canDetach(stage)) return;
            const pair = try stage.pair();
            var waiting: support.Call(support.poll) = undefined;
            try waiting.start(.{ pair.near, c.BBIPC_DATA_AVAILABLE, support.patience_ns });
            try support.awaitPolling(1);
            system.closeDescriptor(try succeed(c.bbipc_detach(pair.near, null)));
            try testing.expectEqual(c.BBIPC_ERROR_INVALID_HANDLE, waiting.join());
        }
    }.body);
}

test "sockets that others have made are adopted, and those of the library are not" {
    try support.eachKind(struct {
        fn body(stage: *Stage) !void {
            const name = stage.names.free();
            const listener: system.Listener = switch (stage.transport) {
                .tcp => try .listenTcp(),
                .tcp6 => unreachable,
                .local => try .listenLocal(name.text()),
            };
            var code: i32 = 0;
            if (stage.kind() == .pipe) {
                const client: system.Peer = try .connectLocal(name.text());
                defer client.close();
                const accepted = try listener.accept();
                defer accepted.close();
                for ([_]system.Peer{ client, accepted }) |end| {
                    try testing.expectEqual(c.BBIPC_ERROR_SYSTEM, c.bbipc_adopt_stream(end.number(), &code));
                }
                return;
            }
            try testing.expectEqual(c.BBIPC_ERROR_WRONG_KIND, c.bbipc_adopt_stream(listener.number(), null));
            const server = try stage.keep(c.bbipc_adopt_server(listener.number(), null));
            try testing.expectEqual(namespaceOf(stage), c.bbipc_namespace(server));
            try support.expectSystem(.BUSY, c.bbipc_adopt_server(listener.number(), &code), code);

            const peer: system.Peer = switch (stage.transport) {
                .tcp => try .connectTcp(listener.port()),
                .tcp6 => unreachable,
                .local => try .connectLocal(name.text()),
            };
            try testing.expectEqual(c.BBIPC_ERROR_WRONG_KIND, c.bbipc_adopt_server(peer.number(), null));
            const near = try stage.keep(c.bbipc_adopt_stream(peer.number(), null));
            const far = try stage.accept(.{ .handle = server, .address = undefined });
            try expectConnected(near, far);
            for ([_]Handle{ near, far, server }) |socket| {
                const own = try succeed(c.bbipc_fileno(socket));
                try support.expectSystem(.BUSY, c.bbipc_adopt_stream(own, &code), code);
            }
            if (stage.transport == .local) {
                var buffer: [300]u8 = undefined;
                for ([_]Handle{ near, far, server }) |socket| {
                    const size = try succeed(c.bbipc_local_pathname(socket, &buffer, buffer.len, null));
                    try testing.expectEqualStrings(name.text(), buffer[0..@intCast(size)]);
                }
                const short = c.bbipc_local_pathname(near, &buffer, 1, null);
                try testing.expectEqual(c.BBIPC_ERROR_INVALID_ARGUMENT, short);
                // It is not this server's file.
                stage.close(server);
                try testing.expect(name.exists());
            }
        }
    }.body);
}

test "what is no socket is refused" {
    for ([_]i64{ -1, std.math.minInt(i64), std.math.maxInt(i64), std.math.maxInt(i32) }) |number| {
        for ([_]i64{ c.bbipc_adopt_stream(number, null), c.bbipc_adopt_server(number, null) }) |result| {
            try testing.expectEqual(c.BBIPC_ERROR_SYSTEM, result);
        }
    }
}
