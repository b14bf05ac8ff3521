//! Streams whose remote end is still to come: a client of a pipe that says a word.

const std = @import("std");
const support = @import("support.zig");
const testing = std.testing;

const c = support.c;
const connectLocal = support.connectLocal;
const Handle = support.Handle;
const onTransport = support.onTransport;
const Stage = support.Stage;
const succeed = support.succeed;

const determined: u32 = c.BBIPC_DETERMINED;
const end_of_data: u32 = c.BBIPC_END_OF_DATA;

const first: [32]u8 = @splat('1');
const second: [32]u8 = @splat('2');
const words = first ++ second;

/// How long a test waits to see that nothing happens.
const nothing_ns = 50 * std.time.ns_per_ms;

fn await(stage: *Stage, name: support.Name) !Handle {
    const text = name.text();
    return stage.keep(c.bbipc_make_stream_for_client(text.ptr, text.len, &words, words.len, null));
}

fn connect(stage: *Stage, name: support.Name, word: []const u8) !Handle {
    // The one who was sent away has it for a moment.
    const end_ns = support.monotonicNs() + support.patience_ns;
    var code: i32 = 0;
    var result = connectLocal(name.text(), &code);
    while (result == c.BBIPC_ERROR_SYSTEM and support.monotonicNs() < end_ns) {
        std.Thread.yield() catch {};
        result = connectLocal(name.text(), &code);
    }
    const client = try stage.keep(result);
    if (word.len > 0) try support.writeAll(client, word);
    return client;
}

fn expectAnswered(client: Handle) !void {
    try support.expectBytes(client, &second);
}

test "the stream stands when the client has said the word" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const name = stage.names.free();
            const stream = try await(stage, name);
            try testing.expectEqual(c.BBIPC_NAMESPACE_LOCAL, c.bbipc_namespace(stream));
            try testing.expectEqual(0, support.poll(stream, support.stream_events, 0));
            try testing.expectEqual(0, support.write(stream, "early"));
            var buffer: [8]u8 = undefined;
            try testing.expectEqual(0, support.read(stream, &buffer));
            try testing.expectEqual(0, support.poll(stream, support.stream_events, nothing_ns));

            // The word can come in pieces, with what follows.
            const client = try connect(stage, name, first[0..7]);
            try testing.expectEqual(0, support.poll(stream, determined, nothing_ns));
            try support.writeAll(client, first[7..] ++ "hello");
            // Answered whether anybody asks for the stream or not.
            try expectAnswered(client);
            try support.awaitEvent(stream, c.BBIPC_CONNECTION_SUCCEEDED);
            try support.expectBytes(stream, "hello");
            try support.writeAll(stream, "back");
            try support.expectBytes(client, "back");
            stage.close(client);
            try support.awaitEvent(stream, end_of_data);
            try testing.expectEqual(0, c.bbipc_connection_error(stream, null));
        }
    }.body);
}

test "clients without the word are sent away, and the next may come" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const name = stage.names.free();
            const stream = try await(stage, name);
            const poller = try stage.poller(c.BBIPC_BACKEND_DEFAULT);
            _ = try succeed(c.bbipc_monitor_socket(poller, stream, determined, null));
            for (0..3) |_| {
                const stranger = try connect(stage, name, &second);
                try support.awaitEvent(stranger, c.BBIPC_CONNECTION_SEVERED);
                stage.close(stranger);
                const silent = try connect(stage, name, "");
                stage.close(silent);
                const short = try connect(stage, name, first[0..31]);
                stage.close(short);
                try testing.expectEqual(0, support.waitFor(poller, 0));
            }
            const client = try connect(stage, name, &first);
            try expectAnswered(client);
            try testing.expectEqual(determined, try support.waitOnce(poller, stream, support.patience_ns));
            // There is one instance, and it is taken.
            try testing.expectEqual(c.BBIPC_ERROR_SYSTEM, connectLocal(name.text(), null));
        }
    }.body);
}

test "a client that goes at once has been there" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            for ([_][]const u8{ &first, first ++ "last words" }) |said| {
                const name = stage.names.free();
                const stream = try await(stage, name);
                const client = try connect(stage, name, said);
                stage.close(client);
                try support.awaitEvent(stream, c.BBIPC_REMOTE_DISCONNECTED);
                try support.expectBytes(stream, said[first.len..]);
                try support.awaitEvent(stream, end_of_data);
                var buffer: [8]u8 = undefined;
                try testing.expectEqual(0, support.read(stream, &buffer));
            }
        }
    }.body);
}

test "a stream whose client never comes is closed, at each stage, and its name is free again" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            for ([_]?[]const u8{ null, "", first[0..5], &first, &second }) |said| {
                const name = stage.names.free();
                const stream = try await(stage, name);
                const client = if (said) |word| try connect(stage, name, word) else 0;
                var waiting: support.Call(support.poll) = undefined;
                try waiting.start(.{ stream, c.BBIPC_DATA_AVAILABLE, support.patience_ns });
                try support.awaitPolling(1);
                stage.close(stream);
                try testing.expectEqual(c.BBIPC_ERROR_INVALID_HANDLE, waiting.join());
                if (client != 0) {
                    try support.awaitEvent(client, c.BBIPC_CONNECTION_SEVERED);
                    stage.close(client);
                }
                const end_ns = support.monotonicNs() + support.patience_ns;
                while (name.exists() and support.monotonicNs() < end_ns) std.Thread.yield() catch {};
                try testing.expect(!name.exists());
            }
        }
    }.body);
}

test "a name that is taken, and words of another size, are refused" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const server = try stage.makeServer(1);
            const text = server.address.local.text();
            const make = c.bbipc_make_stream_for_client;
            try testing.expectEqual(c.BBIPC_ERROR_SYSTEM, make(text.ptr, text.len, &words, words.len, null));
            const free = stage.names.free();
            const name = free.text();
            const refused = c.BBIPC_ERROR_INVALID_ARGUMENT;
            try testing.expectEqual(refused, make(name.ptr, name.len, &words, words.len - 1, null));
            try testing.expectEqual(refused, make(name.ptr, name.len, null, words.len, null));
            try testing.expectEqual(refused, make(name.ptr, 0, &words, words.len, null));
        }
    }.body);
}
