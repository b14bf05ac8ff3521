//! Unix domain sockets (unix(7)).

const std = @import("std");
const sys = @import("../sys.zig");
const status = @import("../../base/status.zig");
const Socket = @import("socket.zig").Socket;

pub const Listener = struct {
    descriptor: sys.Descriptor,
    pathname: *Pathname,
};

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
    /// Null if it is not to be deleted.
    made: ?sys.Found,
    process: sys.Process,
    /// Absolute, for the program may change its directory. Closed by a NUL.
    buffer: [path_max]u8,
    length: usize,

    const path_max = 4096;

    fn make(pathname: []const u8) status.Error!*Pathname {
        const self = try sys.allocator.create(Pathname);
        self.made = null;
        self.process = .current();
        self.length = 0;
        if (pathname[0] != '/') {
            const directory = sys.workingDirectory(self.buffer[0 .. path_max - pathname_max - 2]) orelse "";
            self.length = directory.len;
            // Unreachable working directories leave the relative name.
            if (self.length > 0) {
                self.buffer[self.length] = '/';
                self.length += 1;
            }
        }
        @memcpy(self.buffer[self.length..][0..pathname.len], pathname);
        self.length += pathname.len;
        self.buffer[self.length] = 0;
        return self;
    }

    pub fn free(self: *Pathname) void {
        sys.allocator.destroy(self);
    }

    fn text(self: *const Pathname) [*:0]const u8 {
        return @ptrCast(&self.buffer);
    }

    /// Makes the file.
    fn bind(
        self: *Pathname,
        descriptor: sys.Descriptor,
        pathname: []const u8,
        failure: *status.Failure,
    ) status.Error!void {
        const name: Name = try .of(pathname);
        // By the absolute name where there is room for it: another thread may change the directory meanwhile.
        if (Name.of(self.buffer[0..self.length])) |whole| {
            const bound = sys.bind(descriptor, &whole.address, whole.size);
            if (bound >= 0) {
                self.made = sys.fileIdentity(self.text());
                return;
            }
            const e = sys.failureOf(bound);
            if (e == .ADDRINUSE or pathname.len == self.length) return failure.system(sys.codeOf(e));
            // The process may be allowed to search this directory, but not those above.
        } else |_| {}
        const before = sys.fileIdentity(self.text());
        const bound = sys.bind(descriptor, &name.address, name.size);
        if (bound < 0) return sys.refused(bound, failure);
        // A file that was there before is another's: ours was made in another directory. If the system does not tell,
        // ours can't be found by that name either.
        self.made = if (before == .nothing) sys.fileIdentity(self.text()) else .unknown;
    }

    /// False if the file is left, because the system refused to say what it is, or to delete it. A forked child that
    /// closes its copy of the server leaves the parent's file alone.
    pub fn deleteIfOurs(self: *Pathname) bool {
        const made = self.made orelse return true;
        if (!self.process.isCurrent()) return true;
        const ours = switch (made) {
            .file => |identity| identity,
            .nothing => return true,
            .unknown => return false,
        };
        switch (sys.fileIdentity(self.text())) {
            .file => |there| if (!ours.eql(there)) return true,
            .nothing => return true,
            .unknown => return false,
        }
        const deleted = sys.unlink(self.text());
        return deleted >= 0 or sys.failureOf(deleted) == .NOENT;
    }
};

pub fn listen(
    pathname: []const u8,
    backlog: i32,
    delete_on_close: bool,
    failure: *status.Failure,
) status.Error!Listener {
    _ = try Name.of(pathname);
    const made: *Pathname = try .make(pathname);
    errdefer made.free();
    const descriptor = try open(failure);
    errdefer sys.close(descriptor);

    try made.bind(descriptor, pathname, failure);
    errdefer _ = made.deleteIfOurs();
    const listening = sys.listen(descriptor, backlog);
    if (listening < 0) return sys.refused(listening, failure);
    if (!delete_on_close) made.made = null;
    return .{ .descriptor = descriptor, .pathname = made };
}

pub fn connect(pathname: []const u8, failure: *status.Failure) status.Error!Socket {
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
    return .{ .descriptor = descriptor };
}

fn open(failure: *status.Failure) status.Error!sys.Descriptor {
    const result = sys.streamSocket(sys.AF.UNIX);
    if (result < 0) return sys.refused(result, failure);
    return @intCast(result);
}
