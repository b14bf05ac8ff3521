//! Named pipes as local servers and streams: their names, and who may open them.

const std = @import("std");
const sys = @import("../sys.zig");
const identity = @import("../pipes/identity.zig");
const listeners = @import("../pipes/listener.zig");
const pipes = @import("../pipes/pipe.zig");
const reaper = @import("../pipes/reaper.zig");
const status = @import("../../base/status.zig");

/// With the question mark the rest is taken literally. With a dot, Windows would take "..", and dots and spaces at the
/// end, for what they mean in paths.
const prefix = "\\\\?\\pipe\\";

/// UTF-16 code units of a whole name (CreateNamedPipe).
pub const pathname_limit = 256;
/// The most bytes that such a name has as it is given (WTF-8: UTF-8, and lone surrogates, which names can have).
pub const pathname_max = 3 * pathname_limit;

const Name = struct {
    buffer: [pathname_limit + 1]u16,
    size: usize,

    fn of(pathname: []const u8) status.Error!Name {
        if (std.mem.indexOfScalar(u8, pathname, 0) != null) return error.InvalidArgument;
        const rest = if (startsLikePipe(pathname)) pathname[prefix.len..] else pathname;
        if (rest.len == 0) return error.InvalidArgument;
        // The next function looks beyond a character that is cut off.
        if (!std.unicode.wtf8ValidateSlice(rest)) return error.InvalidArgument;
        const size = std.unicode.calcWtf16LeLen(rest) catch unreachable;
        if (prefix.len + size > pathname_limit) return error.NameTooLong;

        var name: Name = .{ .buffer = undefined, .size = prefix.len + size };
        for (prefix, name.buffer[0..prefix.len]) |byte, *unit| unit.* = byte;
        const converted = std.unicode.wtf8ToWtf16Le(name.buffer[prefix.len..], rest) catch unreachable;
        std.debug.assert(converted == size);
        // Both separators mean the same in paths, but not to the system in the names of pipes.
        std.mem.replaceScalar(u16, name.buffer[prefix.len..][0..size], '/', '\\');
        name.buffer[name.size] = 0;
        return name;
    }

    fn text(name: *const Name) [:0]const u16 {
        return name.buffer[0..name.size :0];
    }
};

/// Whether it is the whole name of a pipe of this machine: \\.\pipe\... or \\?\pipe\..., with either separator.
fn startsLikePipe(pathname: []const u8) bool {
    if (pathname.len < prefix.len) return false;
    for (pathname[0..prefix.len], prefix) |given, wanted| {
        const same = switch (wanted) {
            '\\' => given == '\\' or given == '/',
            '?' => given == '.' or given == '?',
            else => std.ascii.toLower(given) == wanted,
        };
        if (!same) return false;
    }
    return true;
}

/// Permissions as chmod(2) has them, as far as a pipe can have the like.
pub fn listen(
    pathname: []const u8,
    backlog: i32,
    permissions: ?u32,
    failure: *status.Failure,
) status.Error!*listeners.Listener {
    const name: Name = try .of(pathname);
    const who: Who = switch (permissions orelse 0o600) {
        0o600 => .this_user,
        0o666 => .everybody,
        else => return error.InvalidArgument,
    };
    return .listen(name.text(), backlog, try security(who, failure), failure);
}

pub fn connect(pathname: []const u8, failure: *status.Failure) status.Error!*pipes.Pipe {
    const name: Name = try .of(pathname);
    return pipes.connect(name.text(), failure);
}

// ---- Both ends of one ----

/// So that no two pairs of this process have the same name.
var pairs_count: std.atomic.Value(u32) = .init(0);

/// Nobody else can have such a name, unless by intention. Who has, or connects before us, makes this pipe fail, and the
/// next has another name.
const names_max = 16;

pub fn makePair(failure: *status.Failure) status.Error![2]*pipes.Pipe {
    var buffer: [pathname_limit]u8 = undefined;
    for (0..names_max) |_| {
        const parts = .{ sys.GetCurrentProcessId(), pairs_count.fetchAdd(1, .monotonic), sys.monotonicNs() };
        const pathname = std.mem.print(&buffer, "bbipc-pair-{d}-{d}-{d}", parts) catch unreachable;
        const name: Name = try .of(pathname);
        const made = pipes.makePair(name.text(), try security(.this_user, failure), failure) catch |err| {
            const is_taken = err == error.System and failure.system_code == sys.code.pipe_busy;
            if (is_taken) continue;
            return err;
        };
        return made;
    }
    return failure.system(sys.code.pipe_busy);
}

/// An end of a pipe of this name whose client is still to come, and says a word: see pipes/pipe.zig.
pub fn awaitClient(pathname: []const u8, words: *const pipes.Words, failure: *status.Failure) status.Error!*pipes.Pipe {
    const name: Name = try .of(pathname);
    return pipes.awaitClient(name.text(), try security(.this_user, failure), words, failure);
}

// ---- Who may open a server's pipe ----

/// Whom a pipe lets in, besides SYSTEM and Administrators.
const Who = enum { this_user, everybody };

/// The system's default lets everybody read. A Unix socket's lets nobody but its owner connect, and root: so does this
/// one, to the user whom the process runs as, to SYSTEM and to Administrators. And to every user of this machine, if
/// that is asked for; no pipe of ours lets other machines in.
const Security = struct {
    /// A SECURITY_DESCRIPTOR with pointers, which is smaller.
    descriptor: [64]u8 align(8),
    acl: [256]u8 align(8),
    user: identity.User,

    fn fill(self: *Security, allowed: Who) sys.NtStatus {
        var result = self.user.ask(identity.this_process);
        if (result.isError()) return result;

        const acl_revision = 2;
        result = sys.RtlCreateAcl(&self.acl, self.acl.len, acl_revision);
        if (result.isError()) return result;
        const file_all_access = 0x1f01ff;
        for ([_]*const anyopaque{ self.user.sid(), &local_system, &administrators }) |who| {
            result = sys.RtlAddAccessAllowedAce(&self.acl, acl_revision, file_all_access, who);
            if (result.isError()) return result;
        }
        if (allowed == .everybody) {
            result = sys.RtlAddAccessAllowedAce(&self.acl, acl_revision, pipes.client_access, &everyone);
            if (result.isError()) return result;
        }
        const descriptor_revision = 1;
        result = sys.RtlCreateSecurityDescriptor(&self.descriptor, descriptor_revision);
        if (result.isError()) return result;
        return sys.RtlSetDaclSecurityDescriptor(&self.descriptor, 1, &self.acl, 0);
    }
};

fn Sid(comptime parts: usize) type {
    return extern struct {
        revision: u8 = 1,
        count: u8 = parts,
        /// SECURITY_NT_AUTHORITY, if nothing else is said.
        authority: [6]u8 = .{ 0, 0, 0, 0, 0, 5 },
        parts: [parts]u32,
    };
}

const local_system: Sid(1) = .{ .parts = .{18} };
const administrators: Sid(2) = .{ .parts = .{ 32, 544 } };

/// SECURITY_WORLD_SID_AUTHORITY: whoever is logged on, but nobody anonymous.
const everyone: Sid(1) = .{ .authority = .{ 0, 0, 0, 0, 0, 1 }, .parts = .{0} };

/// Each filled once, for the process's life: its user never changes.
var security_memory: std.enums.EnumArray(Who, Security) = .initUndefined();
var security_ready: std.enums.EnumSet(Who) = .empty;
var security_lock: sys.Lock = .{};

fn security(who: Who, failure: *status.Failure) status.Error!*const anyopaque {
    security_lock.lock();
    defer security_lock.unlock();
    const memory = security_memory.getPtr(who);
    if (!security_ready.contains(who)) {
        const result = memory.fill(who);
        if (result.isError()) return failure.system(result.toCode());
        security_ready.insert(who);
    }
    return &memory.descriptor;
}

const testing = std.testing;

fn expectName(expected: []const u8, pathname: []const u8) !void {
    const name: Name = try .of(pathname);
    var buffer: [pathname_max]u8 = undefined;
    const size = std.unicode.wtf16LeToWtf8(&buffer, name.text());
    try testing.expectEqualStrings(expected, buffer[0..size]);
}

test "names: plain, paths, and whole names of pipes" {
    try expectName("\\\\?\\pipe\\build-server", "build-server");
    try expectName("\\\\?\\pipe\\C:\\run\\d.sock", "C:\\run/d.sock");
    const wholes = [_][]const u8{ "\\\\.\\pipe\\x", "//./pipe/x", "\\\\?\\PIPE\\x" };
    for (wholes) |whole| try expectName("\\\\?\\pipe\\x", whole);
    try expectName("\\\\?\\pipe\\\\\\.\\pipeline", "\\\\.\\pipeline");
}

test "names: what can't be one" {
    for ([_][]const u8{ "a\x00b", "\\\\.\\pipe\\", "\xff", "a\xc3" }) |wrong| {
        try testing.expectError(error.InvalidArgument, Name.of(wrong));
    }
    const longest: [pathname_limit - prefix.len]u8 = @splat('x');
    _ = try Name.of(&longest);
    try testing.expectError(error.NameTooLong, Name.of(longest ++ "x"));
    // Counted in UTF-16, not in bytes.
    var umlauts: [2 * longest.len]u8 = undefined;
    for (0..longest.len) |index| umlauts[2 * index ..][0..2].* = "\u{e4}".*;
    _ = try Name.of(&umlauts);
}

test "a write that nobody reads is given up some time after its pipe was closed" {
    const before_ns = reaper.unread_after_close_ns;
    reaper.unread_after_close_ns = 50 * std.time.ns_per_ms;
    defer reaper.unread_after_close_ns = before_ns;
    var buffer: [64]u8 = undefined;
    const pathname = try std.mem.print(&buffer, "bbipc-unread-{d}", .{sys.threadId()});
    const data: [pathname_max]u8 = @splat('x');
    for ([_]bool{ false, true }) |accepted_writes| {
        var failure: status.Failure = .{};
        const server = try listen(pathname, 1, null, &failure);
        const client = try connect(pathname, &failure);
        const accepted = (try server.accept(&failure)).?;
        server.close();
        const writer = if (accepted_writes) accepted else client;
        const reader = if (accepted_writes) client else accepted;
        while (writer.write(&data) == .count) {}
        writer.close(&.{});
        try testing.expect(sys.pendingOperations() > 0);

        const end_ns = sys.monotonicNs() + 10 * std.time.ns_per_s;
        while (sys.pendingOperations() > 0 and sys.monotonicNs() < end_ns) sys.yield();
        try testing.expectEqual(0, sys.pendingOperations());
        // A client that stays has no part in the name.
        if (!accepted_writes) reader.close(&.{});
        const again = try listen(pathname, 1, null, &failure);
        again.close();
        if (accepted_writes) reader.close(&.{});
    }
}
