//! A stream that others read too, on POSIX systems: other threads, or a child that shares it.

const std = @import("std");
const support = @import("support.zig");
const sys = @import("../../platform.zig").sys;
const testing = std.testing;

const c = support.c;
const Handle = support.Handle;
const patience_ns = support.patience_ns;
const poll = support.poll;
const Stage = support.Stage;

const data_available: u32 = c.BBIPC_DATA_AVAILABLE;
const end_of_data: u32 = c.BBIPC_END_OF_DATA;
const remote_disconnected: u32 = c.BBIPC_REMOTE_DISCONNECTED;

// The kernels of macOS and FreeBSD let one thread at a time into recv, and tell the others that it would block. Taken
// for "nothing is there", that answer became the end of the data, with bytes before it.
test "no end of data is told while bytes are unread that another thread is looking at" {
    try support.eachTransport(struct {
        const looks = 20_000;
        /// Copying this keeps the other thread inside recv most of the time. It fits TCP's window; behind more bytes,
        /// no end would be told.
        const size = 1 << 15;

        fn peek(fd: sys.Descriptor, stop: *std.atomic.Value(bool)) i64 {
            const buffer = testing.allocator.alloc(u8, size) catch return -1;
            defer testing.allocator.free(buffer);
            while (!stop.load(.monotonic)) {
                if (sys.receive(fd, buffer.ptr, buffer.len, true) == 0) return -1;
            }
            return 0;
        }

        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            const data: [size]u8 = @splat('d');
            const written = try support.succeed(support.write(pair.far, &data));
            try testing.expect(written > 0);
            stage.end(pair.far);
            try support.awaitEvent(pair.near, remote_disconnected);

            var stop: std.atomic.Value(bool) = .init(false);
            var peeking: support.Call(peek) = undefined;
            const fd: sys.Descriptor = @intCast(try support.succeed(c.bbipc_fileno(pair.near)));
            try peeking.start(.{ fd, &stop });
            const looked = look(pair.near);
            stop.store(true, .monotonic);
            try testing.expectEqual(0, peeking.join());
            try looked;

            try testing.expectEqual(@as(u64, @intCast(written)), try support.drain(pair.near));
            try support.awaitEvent(pair.near, end_of_data);
        }

        /// Asks for both again and again. What can't be told for certain is not told; a wait hears of it.
        fn look(near: Handle) !void {
            for (0..support.often(looks)) |_| {
                const happened = try support.succeed(poll(near, data_available | end_of_data, 0));
                if (happened & end_of_data != 0) return error.EndOfDataBeforeItsEnd;
            }
            try support.expectEvents(data_available, poll(near, data_available | end_of_data, patience_ns));
        }
    }.body);
}
