//! Messages: whole ones or none, whatever they are cut into.

const std = @import("std");
const support = @import("support.zig");
const testing = std.testing;

const c = support.c;
const backends = support.backends;
const eachTransport = support.eachKind;
const expectEvents = support.expectEvents;
const Handle = support.Handle;
const patience_ns = support.patience_ns;
const poll = support.poll;
const Stage = support.Stage;
const succeed = support.succeed;
const waitOnce = support.waitOnce;

const data_available: u32 = c.BBIPC_DATA_AVAILABLE;
const end_of_data: u32 = c.BBIPC_END_OF_DATA;
const write_space: u32 = c.BBIPC_WRITE_SPACE;
const message_available: u32 = c.BBIPC_MESSAGE_AVAILABLE;
const message_space: u32 = c.BBIPC_MESSAGE_SPACE;

fn send(stream: Handle, data: []const u8, timeout_ns: i64) c.bbipc_result {
    return c.bbipc_send_message(stream, data.ptr, 0, data.len, timeout_ns, null, null);
}

/// Data whose pages differ. The caller frees it.
fn makeNumbered(size: usize) ![]u8 {
    const data = try testing.allocator.alloc(u8, size);
    @memset(data, 0xa5);
    const step = 1024;
    for (0..size / step) |place| std.mem.writeInt(u32, data[place * step ..][0..4], @intCast(place), .big);
    return data;
}

fn expectMessage(stream: Handle, expected: []const u8) !void {
    var buffer: [256]u8 = undefined;
    var size: u64 = 0;
    try testing.expectEqual(1, c.bbipc_receive_message(stream, &buffer, 0, buffer.len, &size, patience_ns, null));
    try testing.expectEqualStrings(expected, buffer[0..@intCast(size)]);
}

fn receiveNow(stream: Handle) c.bbipc_result {
    var buffer: [256]u8 = undefined;
    var size: u64 = 0;
    return c.bbipc_receive_message(stream, &buffer, 0, buffer.len, &size, 0, null);
}

test "messages come as they were sent, in both directions, the empty one too" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            try testing.expectEqual(1, send(pair.near, "hello", patience_ns));
            try testing.expectEqual(1, send(pair.near, "", patience_ns));
            try testing.expectEqual(1, send(pair.far, "goodbye", patience_ns));
            try expectMessage(pair.far, "hello");
            try expectMessage(pair.far, "");
            try expectMessage(pair.near, "goodbye");
            try testing.expectEqual(0, receiveNow(pair.near));
        }
    }.body);
}

test "a message that comes byte by byte is reported once, when it is whole" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            for (backends) |backend| {
                const pair = try stage.pair();
                const poller = try stage.poller(backend);
                const asked = message_available | end_of_data;
                try testing.expectEqual(0, c.bbipc_monitor_socket(poller, pair.far, asked, null));
                const wire = "\x00\x00\x00\x05hello";
                for (wire[0 .. wire.len - 1]) |byte| {
                    try support.writeAll(pair.near, &.{byte});
                    try support.awaitEvent(pair.far, data_available);
                    try expectEvents(0, try waitOnce(poller, pair.far, 0));
                    try expectEvents(0, poll(pair.far, asked, 0));
                }
                try support.writeAll(pair.near, wire[wire.len - 1 ..]);
                try expectEvents(message_available, try waitOnce(poller, pair.far, patience_ns));
                try expectEvents(message_available, poll(pair.far, asked, 0));
                try expectMessage(pair.far, "hello");
                try expectEvents(0, try waitOnce(poller, pair.far, 0));
                // The next one, by the same watch.
                try testing.expectEqual(1, send(pair.near, "again", patience_ns));
                try expectEvents(message_available, try waitOnce(poller, pair.far, patience_ns));
                try expectMessage(pair.far, "again");
                stage.close(pair.near);
                try expectEvents(end_of_data, try waitOnce(poller, pair.far, patience_ns));
            }
        }
    }.body);
}

test "messages and bytes may be mixed" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            try support.writeAll(pair.near, "line\n\x00\x00\x00\x02okrest");
            try testing.expect(try succeed(c.bbipc_send_message(pair.near, "end", 0, 3, patience_ns, null, null)) == 1);
            var buffer: [64]u8 = undefined;
            const line = c.bbipc_read_until(pair.far, "\n", 1, &buffer, buffer.len, patience_ns, null);
            try testing.expectEqual(5, line);
            try testing.expectEqualStrings("line\n", buffer[0..5]);
            try expectMessage(pair.far, "ok");
            try expectEvents(data_available, poll(pair.far, data_available | end_of_data, 0));
            try testing.expectEqual(4, c.bbipc_read(pair.far, &buffer, 0, 4, c.BBIPC_PEEK, null));
            try testing.expectEqual(4, c.bbipc_read_exactly(pair.far, &buffer, 0, 4, patience_ns, null));
            try testing.expectEqualStrings("rest", buffer[0..4]);
            try expectMessage(pair.far, "end");
            try expectEvents(0, poll(pair.far, data_available, 0));
        }
    }.body);
}

test "the end between two messages is no message, and the end inside of one is" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            for ([_][]const u8{ "", "\x00", "\x00\x00\x00\x03", "\x00\x00\x00\x03ab" }) |part| {
                const pair = try stage.pair();
                try testing.expectEqual(1, send(pair.near, "first", patience_ns));
                if (part.len > 0) try support.writeAll(pair.near, part);
                stage.close(pair.near);
                try expectMessage(pair.far, "first");
                const asked = message_available | end_of_data;
                const expected = if (part.len > 0) message_available else end_of_data;
                try expectEvents(expected, poll(pair.far, asked, patience_ns));
                const failure: i64 = if (part.len > 0) c.BBIPC_ERROR_MESSAGE_CUT else c.BBIPC_ERROR_END_OF_DATA;
                for (0..2) |_| try testing.expectEqual(failure, receiveNow(pair.far));
                if (part.len == 0) continue;
                try support.expectBytes(pair.far, part);
                try expectEvents(end_of_data, poll(pair.far, asked, 0));
            }
        }
    }.body);
}

test "what is too large takes no memory and stays, until the bound is raised" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            try testing.expectEqual(16 << 20, c.bbipc_max_message_size(pair.far));
            try testing.expectEqual(0, c.bbipc_set_max_message_size(pair.far, 4));
            try testing.expectEqual(c.BBIPC_ERROR_INVALID_ARGUMENT, c.bbipc_set_max_message_size(pair.far, 1 << 63));
            try testing.expectEqual(1, send(pair.near, "hello", patience_ns));
            try expectEvents(message_available, poll(pair.far, message_available, patience_ns));
            for (0..2) |_| try testing.expectEqual(c.BBIPC_ERROR_MESSAGE_TOO_LARGE, receiveNow(pair.far));
            try testing.expectEqual(c.BBIPC_ERROR_MESSAGE_TOO_LARGE, send(pair.far, "hello", patience_ns));
            try testing.expectEqual(1, send(pair.far, "back", patience_ns));
            try expectMessage(pair.near, "back");
            try testing.expectEqual(0, c.bbipc_set_max_message_size(pair.far, 5));
            try expectMessage(pair.far, "hello");
            const hostile_ones = [_][]const u8{
                "\xff\xff\xff\xfe",
                "\x80\x00\x00\x00",
                "\x7f\xff\xff\xff",
                "\xff\xff\xff\xff\x80\x00\x00\x00\x00\x00\x00\x00",
            };
            for (hostile_ones) |hostile| {
                const other = try stage.pair();
                try support.writeAll(other.near, hostile);
                try expectEvents(message_available, poll(other.far, message_available, patience_ns));
                try testing.expectEqual(c.BBIPC_ERROR_MESSAGE_TOO_LARGE, receiveNow(other.far));
            }
        }
    }.body);
}

test "the rest of a message goes out in any wait, before anything else, and then the end" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const size = 16 << 20;
            const data = try makeNumbered(size);
            defer testing.allocator.free(data);
            const Way = enum { poll, poller, poller_that_asks_nothing, drain, unsent };
            for (std.enums.values(Way)) |way| {
                const pair = try stage.pair();
                var unsent: u64 = 0;
                try testing.expectEqual(1, c.bbipc_send_message(pair.near, data.ptr, 0, size, 0, &unsent, null));
                try testing.expect(unsent > 0);
                try testing.expectEqual(0, send(pair.near, "second", 0));
                try testing.expectEqual(0, support.write(pair.near, "x"));
                try expectEvents(0, poll(pair.near, write_space | message_space, 0));
                const poller = try stage.poller(c.BBIPC_BACKEND_DEFAULT);
                const asked = if (way == .poller) message_space else 0;
                try testing.expectEqual(0, c.bbipc_monitor_socket(poller, pair.near, asked, null));
                try testing.expectEqual(0, c.bbipc_set_max_message_size(pair.far, size));
                const received = try testing.allocator.alloc(u8, size);
                defer testing.allocator.free(received);
                var received_size: u64 = 0;
                var count: usize = 0;
                while (count == 0) {
                    const one_ms = std.time.ns_per_ms;
                    _ = switch (way) {
                        .poll => poll(pair.near, message_space, one_ms),
                        .poller => try waitOnce(poller, pair.near, one_ms),
                        .poller_that_asks_nothing => try waitOnce(poller, pair.near, one_ms),
                        .drain => c.bbipc_drain(pair.near, one_ms, null),
                        .unsent => c.bbipc_unsent(pair.near),
                    };
                    const buffer = received.ptr;
                    const result = c.bbipc_receive_message(pair.far, buffer, 0, size, &received_size, 0, null);
                    count = @intCast(try succeed(result));
                }
                try testing.expectEqual(size, received_size);
                try testing.expect(std.mem.eql(u8, data, received));
                try testing.expectEqual(1, c.bbipc_drain(pair.near, patience_ns, null));
                try testing.expectEqual(1, send(pair.near, "second", patience_ns));
                try expectMessage(pair.far, "second");
            }
        }
    }.body);
}

test "a close that leaves a part of a message says how much, unless the system goes on with it" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const size = 16 << 20;
            const data = try makeNumbered(size);
            defer testing.allocator.free(data);
            const pair = try stage.pair();
            var unsent: u64 = 0;
            try testing.expectEqual(1, c.bbipc_send_message(pair.near, data.ptr, 0, size, 0, &unsent, null));
            const lost = c.bbipc_close(pair.near);
            const received = try testing.allocator.alloc(u8, size);
            defer testing.allocator.free(received);
            if (stage.kind() != .pipe) {
                try testing.expect(lost > 0 and lost <= unsent);
                try support.awaitEvent(pair.far, message_available);
                try testing.expectEqual(c.BBIPC_ERROR_MESSAGE_CUT, receiveNow(pair.far));
                const rest = size + 4 - @as(u64, @intCast(lost));
                const count = c.bbipc_read_exactly(pair.far, received.ptr, 0, rest, patience_ns, null);
                try testing.expectEqual(@as(i64, @intCast(rest)), count);
                return;
            }
            try testing.expectEqual(0, lost);
            var received_size: u64 = 0;
            const result = c.bbipc_receive_message(pair.far, received.ptr, 0, size, &received_size, patience_ns, null);
            try testing.expectEqual(1, result);
            try testing.expectEqual(size, received_size);
            try testing.expect(std.mem.eql(u8, data, received));
            try testing.expectEqual(1, c.bbipc_finish_writes(patience_ns));
            try testing.expectEqual(c.BBIPC_ERROR_END_OF_DATA, try receiveEnd(pair.far));
        }
    }.body);
}

fn receiveEnd(stream: Handle) !i64 {
    try support.awaitEvent(stream, end_of_data);
    return receiveNow(stream);
}

test "many messages in one call, and as many as came in one" {
    try eachTransport(struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            const count = 300;
            var texts: [count][8]u8 = undefined;
            var messages: [count]?*const anyopaque = undefined;
            var sizes: [count]u64 = undefined;
            for (&texts, &messages, &sizes, 0..) |*text, *message, *size, index| {
                _ = try std.mem.print(text, "{d:0>8}", .{index});
                message.* = text;
                size.* = index % 9;
            }
            const sent = c.bbipc_send_messages(pair.near, &messages, &sizes, count, patience_ns, null, null);
            try testing.expectEqual(count, sent);
            var received: usize = 0;
            while (received < count) {
                try support.awaitEvent(pair.far, message_available);
                var buffer: [512]u8 = undefined;
                var some: [64]u64 = undefined;
                const result = c.bbipc_receive_messages(pair.far, &buffer, buffer.len, &some, some.len, null);
                const taken = try succeed(result);
                try testing.expect(taken > 0);
                var start: usize = 0;
                for (some[0..@intCast(taken)]) |its_size| {
                    const size: usize = @intCast(its_size);
                    try testing.expectEqual(received % 9, size);
                    try testing.expectEqualStrings(texts[received][0..size], buffer[start..][0..size]);
                    start += size;
                    received += 1;
                }
            }
            try testing.expectEqual(0, receiveNow(pair.far));
        }
    }.body);
}
