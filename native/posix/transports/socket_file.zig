//! The file that a local server makes, to be deleted when it closes.

const sys = @import("../sys.zig");
const unix_name = @import("unix_name.zig");
const status = @import("../../base/status.zig");
const Name = unix_name.Name;

pub const Identity = sys.files.FileIdentity;
pub const Made = sys.Found(Identity);

pub const SocketFile = struct {
    /// Null if it is not to be deleted.
    made: ?Made,
    process: sys.Process,
    /// Absolute, for the program may change its directory. Closed by a NUL.
    buffer: [path_max]u8,
    length: usize,

    pub const path_max = 4096;
    /// Of the names beside it.
    pub const suffix_max = 20;

    pub fn make(pathname: []const u8) status.Error!*SocketFile {
        const self = try sys.allocator.create(SocketFile);
        self.made = null;
        self.process = .current();
        self.length = 0;
        if (pathname[0] != '/') {
            const room = path_max - unix_name.pathname_max - suffix_max - 2;
            const directory = sys.files.workingDirectory(self.buffer[0..room]) orelse "";
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

    pub fn free(self: *SocketFile) void {
        sys.allocator.destroy(self);
    }

    pub fn text(self: *const SocketFile) [:0]const u8 {
        return self.buffer[0..self.length :0];
    }

    /// Makes the file. It stays where this succeeds.
    pub fn bind(
        self: *SocketFile,
        descriptor: sys.Descriptor,
        pathname: []const u8,
        permissions: ?u32,
        failure: *status.Failure,
    ) status.Error!void {
        if (permissions) |mode| sys.files.presetMode(descriptor, mode);
        try self.bindAny(descriptor, pathname, failure);
        const mode = permissions orelse return;
        errdefer _ = self.deleteIfOurs();
        try setMode(self.text(), self.made.?, mode, failure);
    }

    fn bindAny(
        self: *SocketFile,
        descriptor: sys.Descriptor,
        pathname: []const u8,
        failure: *status.Failure,
    ) status.Error!void {
        const name: Name = try .of(pathname);
        // By the absolute name where there is room for it: another thread may change the directory meanwhile.
        if (Name.of(self.text())) |whole| {
            const bound = sys.bind(descriptor, &whole.address, whole.size);
            if (bound >= 0) {
                self.made = sys.files.identityAt(self.text());
                return;
            }
            const e = sys.failureOf(bound);
            if (e == .ADDRINUSE or pathname.len == self.length) return failure.system(sys.codeOf(e));
            // The process may be allowed to search this directory, but not those above.
        } else |_| {}
        const before = sys.files.identityAt(self.text());
        const bound = sys.bind(descriptor, &name.address, name.size);
        if (bound < 0) return sys.refused(bound, failure);
        // A file that was there before is another's: ours was made in another directory. If the system does not tell,
        // ours can't be found by that name either.
        self.made = switch (before) {
            .nothing => sys.files.identityAt(self.text()),
            .file => .{ .unknown = .EXIST },
            .unknown => before,
        };
    }

    /// False if the file is left, because the system refused to say what it is, or to delete it. A forked child that
    /// closes its copy of the server leaves the parent's file alone.
    pub fn deleteIfOurs(self: *const SocketFile) bool {
        const made = self.made orelse return true;
        if (!self.process.isCurrent()) return true;
        return delete(self.text(), made);
    }
};

/// Deletes a file, if it is still at its name. False if it is left, because the system refused.
pub fn delete(pathname: [:0]const u8, made: Made) bool {
    const ours = switch (made) {
        .file => |identity| identity,
        .nothing => return true,
        .unknown => return false,
    };
    switch (sys.files.identityAt(pathname)) {
        .file => |there| if (!ours.eql(there)) return true,
        .nothing => return true,
        .unknown => return false,
    }
    const deleted = sys.files.unlink(pathname);
    return deleted >= 0 or sys.failureOf(deleted) == .NOENT;
}

/// Before anybody can connect: bind gives the file the process's umask, which is not the library's to change.
pub fn setMode(pathname: [:0]const u8, made: Made, mode: u32, failure: *status.Failure) status.Error!void {
    const identity = switch (made) {
        .file => |identity| identity,
        .nothing => return failure.system(sys.codeOf(.NOENT)),
        .unknown => |e| return failure.system(sys.codeOf(e)),
    };
    const result = sys.files.setMode(pathname, identity, mode);
    if (result < 0) return sys.refused(result, failure);
}
