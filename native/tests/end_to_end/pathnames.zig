//! The files that local servers make, where local sockets are Unix domain sockets.

const std = @import("std");
const support = @import("support.zig");
const testing = std.testing;

const c = support.c;
const connectLocal = support.connectLocal;
const makeLocal = support.makeLocal;
const onTransport = support.onTransport;
const Stage = support.Stage;

test "a local server's pathname is deleted when it closes, if that was asked for" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const name = stage.names.free();
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
            const name = stage.names.free();
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
            const name = stage.names.free();
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
            const name = stage.names.free();
            try std.process.setCurrentPath(testing.io, stage.names.place());
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
            const limit: usize = @intCast(c.bbipc_local_pathname_limit());
            var name: [256]u8 = @splat('n');
            const directory = stage.names.place();
            @memcpy(name[0..directory.len], directory);
            name[directory.len] = '/';
            const server = try stage.keep(makeLocal(name[0..limit], 1, c.BBIPC_DELETE_ON_CLOSE, null));
            try testing.expect(support.nameExists(name[0..limit]));
            _ = try stage.keep(connectLocal(name[0..limit], null));
            stage.close(server);
            try testing.expect(!support.nameExists(name[0..limit]));

            const too_long = c.BBIPC_ERROR_NAME_TOO_LONG;
            for ([_]u64{ limit + 1, name.len, std.math.maxInt(u32), std.math.maxInt(u64) }) |size| {
                try testing.expectEqual(too_long, c.bbipc_make_local_server(&name, size, 1, -1, 0, null));
                try testing.expectEqual(too_long, c.bbipc_connect_to_local_server(&name, size, null));
                try testing.expectEqual(too_long, c.bbipc_connect_to_local_server(null, size, null));
            }
            const refused = c.BBIPC_ERROR_INVALID_ARGUMENT;
            name[limit - 1] = 0;
            for ([_][]const u8{ "", "\x00", "\x00abstract", "a\x00", "a\x00b", name[0..limit] }) |malformed| {
                try testing.expectEqual(refused, makeLocal(malformed, 1, 0, null));
                try testing.expectEqual(refused, connectLocal(malformed, null));
            }
            try testing.expectEqual(refused, c.bbipc_make_local_server(null, 1, 1, -1, 0, null));
            try testing.expectEqual(refused, c.bbipc_connect_to_local_server(null, 1, null));
        }
    }.body);
}

test "a directory that isn't there has no room for a server, and none in it" {
    try onTransport(.local, struct {
        fn body(stage: *Stage) !void {
            const name = stage.names.free();
            const missing = try std.mem.concat(testing.allocator, u8, &.{ name.text(), "/nothing" });
            defer testing.allocator.free(missing);
            var code: i32 = 0;
            try support.expectSystem(.NOENT, makeLocal(missing, 1, c.BBIPC_DELETE_ON_CLOSE, &code), code);
            try testing.expectEqual(c.BBIPC_ERROR_NO_LOCAL_SERVER, connectLocal(missing, null));
        }
    }.body);
}
