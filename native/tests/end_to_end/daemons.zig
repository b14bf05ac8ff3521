//! Local servers that start again, for whom, and who is there.

const std = @import("std");
const support = @import("support.zig");
const testing = std.testing;

const c = support.c;
const connectLocal = support.connectLocal;
const Handle = support.Handle;
const makeLocal = support.makeLocal;
const onTransport = support.onTransport;
const Stage = support.Stage;
const system = support.system;

const replacing: u32 = c.BBIPC_DELETE_ON_CLOSE | c.BBIPC_REPLACE_DEAD;

fn expectRunning(name: []const u8) !void {
    var code: i32 = 0;
    try testing.expectEqual(c.BBIPC_ERROR_SERVER_RUNNING, makeLocal(name, 1, replacing, &code));
    try testing.expect(code > 0);
}

test "a server that lives is not replaced, whether it holds the place or not" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            for ([_]u32{ replacing, c.BBIPC_DELETE_ON_CLOSE }) |flags| {
                const name = stage.names.free();
                const server = try stage.keep(makeLocal(name.text(), 4, flags, null));
                const before = system.openDescriptors(testing.io);
                for (0..3) |_| try expectRunning(name.text());
                try testing.expectEqual(before, system.openDescriptors(testing.io));
                _ = try stage.keep(connectLocal(name.text(), null));
                stage.close(server);
                stage.close(try stage.keep(makeLocal(name.text(), 4, replacing, null)));
            }
        }
    }.body);
}

test "a dead server's file is replaced, and nothing is left at the close" {
    if (system.has_pipes) return error.SkipZigTest; // no pipe's name outlives its server
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const name = stage.names.free();
            for (0..3) |_| {
                stage.close(try stage.keep(makeLocal(name.text(), 4, 0, null)));
                const server = try stage.keep(makeLocal(name.text(), 4, replacing, null));
                _ = try stage.keep(connectLocal(name.text(), null));
                try testing.expect(try isBeside(name.text(), ".lock"));
                try testing.expect(!try isBeside(name.text(), ".new"));
                stage.close(server);
                try testing.expect(!name.exists());
                try testing.expect(!try isBeside(name.text(), ".lock"));
            }
        }

        fn isBeside(name: []const u8, suffix: []const u8) !bool {
            const beside = try std.mem.concat(testing.allocator, u8, &.{ name, suffix });
            defer testing.allocator.free(beside);
            return support.nameExists(beside);
        }
    }.body);
}

test "a file that is no socket is not replaced" {
    if (system.has_pipes) return error.SkipZigTest; // the name of a pipe is no file
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const name = stage.names.free();
            const file = try std.Io.Dir.createFileAbsolute(testing.io, name.text(), .{});
            file.close(testing.io);
            var code: i32 = 0;
            try support.expectSystem(.ADDRINUSE, makeLocal(name.text(), 1, replacing, &code), code);
            try testing.expect(name.exists());
        }
    }.body);
}

test "servers with permissions serve, whether they replace or not" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            for ([_]i32{ 0o600, 0o666 }) |permissions| for ([_]u32{ c.BBIPC_DELETE_ON_CLOSE, replacing }) |flags| {
                const name = stage.names.free();
                const text = name.text();
                const made = c.bbipc_make_local_server(text.ptr, text.len, 1, permissions, flags, null);
                const server = try stage.keep(made);
                if (!system.has_pipes) {
                    const status = try std.Io.Dir.cwd().statFile(testing.io, text, .{});
                    try testing.expectEqual(permissions, @as(i32, @intCast(status.permissions.toMode() & 0o777)));
                }
                _ = try stage.keep(connectLocal(text, null));
                try support.awaitEvent(server, c.BBIPC_CONNECTION_AVAILABLE);
                stage.close(server);
            };
        }
    }.body);
}

test "both ends of a local stream tell who is there, and no TCP stream does" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            for ([_]Handle{ pair.near, pair.far }) |stream| {
                var user: i64 = -2;
                var group: i64 = -2;
                var process: i64 = -2;
                var text: [c.BBIPC_SECURITY_ID_SIZE]u8 = @splat(0);
                const asked = c.bbipc_peer_credentials;
                const size = try support.succeed(asked(stream, &user, &group, &process, &text, text.len, null));
                try testing.expectEqual(system.currentProcess(), process);
                try testing.expectEqual(system.currentUser(), user);
                try testing.expect(group >= -1);
                try testing.expectEqual(system.has_pipes, size > 0);
                if (size > 0) try testing.expect(std.mem.startsWith(u8, &text, "S-1-"));
                // Every pointer may be null, and too little room is left alone.
                try testing.expectEqual(size, asked(stream, null, null, null, null, 0, null));
                var little: [1]u8 = .{'.'};
                try testing.expectEqual(size, asked(stream, null, null, null, &little, @intFromBool(size == 0), null));
                try testing.expectEqual('.', little[0]);
            }
        }
    }.body);
    try onTransport(.tcp, struct {
        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            const result = c.bbipc_peer_credentials(pair.near, null, null, null, null, 0, null);
            try testing.expectEqual(c.BBIPC_ERROR_WRONG_KIND, result);
        }
    }.body);
}
