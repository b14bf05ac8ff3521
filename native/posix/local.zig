//! Local servers and streams: Unix domain sockets (unix(7)).

const std = @import("std");
const sys = @import("sys.zig");
const status = @import("../status.zig");
const sockets = @import("stream.zig");

/// One byte of sun_path is left for the closing NUL, which some systems and many tools expect.
pub const pathname_max = @sizeOf(@FieldType(sys.sockaddr.un, "path")) - 1;

/// The same, as bbipc.h tells it.
pub const pathname_limit = pathname_max;

const Name = struct {
    address: sys.sockaddr.un = .{ .path = @splat(0) },
    size: sys.socklen_t,

    fn of(pathname: []const u8) status.Error!Name {
        if (pathname.len == 0) return error.InvalidArgument;
        if (pathname.len > pathname_max) return error.NameTooLong;
        if (std.mem.indexOfScalar(u8, pathname, 0) != null) return error.InvalidArgument;
        var name: Name = .{ .size = @intCast(@offsetOf(sys.sockaddr.un, "path") + pathname.len + 1) };
        @memcpy(name.address.path[0..pathname.len], pathname);
        return name;
    }
};

/// The file that a server made, to be deleted when it closes.
pub const Pathname = struct {
    /// Null if it is not to be deleted, or can't be told from others.
    identity: ?sys.FileIdentity,
    process_id: i32,
    /// Absolute, for the program may change its directory. Closed by a NUL.
    buffer: [path_max]u8,

    const path_max = 4096;

    fn make(pathname: []const u8, delete_on_close: bool) status.Error!*Pathname {
        const self = try std.heap.page_allocator.create(Pathname);
        errdefer self.free();
        self.identity = null;
        self.process_id = sys.processId();
        if (!delete_on_close) return self;

        var length: usize = 0;
        if (pathname[0] != '/') {
            const directory = sys.workingDirectory(self.buffer[0 .. path_max - pathname_max - 2]) orelse "";
            length = directory.len;
            // Unreachable working directories leave the relative name.
            if (length > 0) {
                self.buffer[length] = '/';
                length += 1;
            }
        }
        @memcpy(self.buffer[length..][0..pathname.len], pathname);
        self.buffer[length + pathname.len] = 0;
        return self;
    }

    pub fn free(self: *Pathname) void {
        std.heap.page_allocator.destroy(self);
    }

    fn text(self: *const Pathname) [*:0]const u8 {
        return @ptrCast(&self.buffer);
    }

    /// A forked child that closes its copy of the server leaves the parent's file alone.
    pub fn deleteIfOurs(self: *Pathname) void {
        const made = self.identity orelse return;
        if (self.process_id != sys.processId()) return;
        const there = sys.fileIdentity(self.text()) orelse return;
        if (made.eql(there)) _ = sys.unlink(self.text());
    }
};

pub fn listen(
    pathname: []const u8,
    backlog: i32,
    delete_on_close: bool,
    failure: *status.Failure,
) status.Error!sockets.Server {
    const name: Name = try .of(pathname);
    const made: *Pathname = try .make(pathname, delete_on_close);
    errdefer made.free();
    const descriptor = try open(failure);
    errdefer sys.close(descriptor);

    const bound = sys.bind(descriptor, &name.address, name.size);
    if (bound < 0) return sys.refused(bound, failure);
    if (delete_on_close) made.identity = sys.fileIdentity(made.text());
    errdefer made.deleteIfOurs();
    const listening = sys.listen(descriptor, backlog);
    if (listening < 0) return sys.refused(listening, failure);
    return .{ .descriptor = descriptor, .namespace = .{ .local = made } };
}

pub fn connect(pathname: []const u8, failure: *status.Failure) status.Error!sockets.Stream {
    const name: Name = try .of(pathname);
    const descriptor = try open(failure);
    errdefer sys.close(descriptor);
    const result = sys.connect(descriptor, &name.address, name.size);
    // Unix sockets connect at once or not at all.
    if (result < 0) {
        const e = sys.failureOf(result);
        failure.system_code = sys.codeOf(e);
        return if (sys.nobodyListens(e)) error.NoLocalServer else error.System;
    }
    var stream: sockets.Stream = .{ .descriptor = descriptor, .remote_address = null };
    stream.connection.establish();
    return stream;
}

fn open(failure: *status.Failure) status.Error!sys.Descriptor {
    const result = sys.streamSocket(sys.AF.UNIX);
    if (result < 0) return sys.refused(result, failure);
    return @intCast(result);
}
