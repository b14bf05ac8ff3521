//! What TCP and Unix sockets have in common: a descriptor that moves bytes.

const std = @import("std");
const sys = @import("../sys.zig");
const status = @import("../../base/status.zig");
const Outcome = @import("../../base/outcome.zig").Outcome;

/// How often to look into a stream before its unread bytes count as uncertain.
const looks_max = 4;

pub const Socket = struct {
    descriptor: sys.Descriptor,

    /// Bytes per call to the system at most: what fits any platform's signed result.
    const size_max = std.math.maxInt(i32) & ~@as(usize, 0xfff);

    pub fn receive(socket: Socket, buffer: []u8, peek: bool) Outcome {
        const result = sys.receive(socket.descriptor, buffer.ptr, @min(buffer.len, size_max), peek);
        return if (result >= 0) .{ .count = @intCast(result) } else failedToReceive(sys.failureOf(result));
    }

    fn failedToReceive(e: sys.E) Outcome {
        return switch (e) {
            .AGAIN => .nothing,
            .BADF, .NOTSOCK => .{ .not_ours = sys.codeOf(e) },
            else => if (isOfCall(e)) .{ .refused = sys.codeOf(e) } else .{ .broken = sys.codeOf(e) },
        };
    }

    /// Whether an error is one of the call alone, by the kernel or by a sandbox, and says nothing of the connection.
    fn isOfCall(e: sys.E) bool {
        return switch (e) {
            .FAULT, .NOMEM, .NOBUFS, .BADF, .NOTSOCK, .INVAL, .IO, .PERM, .ACCES, .NOSYS => true,
            else => false,
        };
    }

    /// Whether bytes of a remote end that has gone are unread. Not by FIONREAD, which stops at urgent data. `nothing`
    /// if it is not certain.
    pub fn look(socket: Socket) Outcome {
        var byte: [1]u8 = undefined;
        for (0..looks_max) |_| {
            const outcome = socket.receive(&byte, true);
            if (outcome != .nothing) return outcome;
            // The end was reported, but the look did not find it: on macOS and FreeBSD another thread is reading.
            if (sys.countUnread(socket.descriptor) > 0) return .{ .count = 1 };
            sys.yield();
        }
        return .nothing;
    }

    pub fn send(socket: Socket, data: []const u8) Outcome {
        const result = sys.send(socket.descriptor, data.ptr, @min(data.len, size_max));
        if (result >= 0) return .{ .count = @intCast(result) };
        return switch (sys.failureOf(result)) {
            .AGAIN => .nothing,
            // The system tells it once, to whoever asks first; later calls would only say EPIPE.
            .CONNRESET, .TIMEDOUT, .HOSTUNREACH, .NETUNREACH => |e| .{ .broken = sys.codeOf(e) },
            else => |e| .{ .refused = sys.codeOf(e) },
        };
    }

    pub fn finishWriting(socket: Socket, failure: *status.Failure) status.Error!void {
        const result = sys.shutdownWriting(socket.descriptor);
        if (result < 0) return sys.refused(result, failure);
    }

    /// What the system has to tell of the socket, once. 0 is nothing.
    pub fn takeError(socket: Socket) i32 {
        if (sys.takeSocketError(socket.descriptor)) |code| return code;
        // A sandbox may forbid the question. A read gets the same code.
        var byte: [1]u8 = undefined;
        return switch (socket.receive(&byte, true)) {
            .broken => |code| code,
            else => 0,
        };
    }
};
