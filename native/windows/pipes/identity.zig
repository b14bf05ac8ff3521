//! Who runs a process: this one, or the one at the other end of a pipe.

const std = @import("std");
const sys = @import("../sys.zig");
const pipes = @import("pipe.zig");
const status = @import("../../base/status.zig");
const Credentials = @import("../../base/credentials.zig").Credentials;

/// A TOKEN_USER, and the SID that it points to.
pub const User = struct {
    buffer: [128]u8 align(8) = undefined,

    pub fn sid(user: *const User) *const Sid {
        return @as(*const *const Sid, @ptrCast(&user.buffer)).*;
    }

    pub fn ask(user: *User, process: sys.HANDLE) sys.NtStatus {
        const token_query = 0x8;
        const token_user = 1;
        var token: sys.HANDLE = undefined;
        const result = sys.NtOpenProcessToken(process, token_query, &token);
        if (result.isError()) return result;
        defer _ = sys.CloseHandle(token);
        var size: u32 = 0;
        return sys.NtQueryInformationToken(token, token_user, &user.buffer, user.buffer.len, &size);
    }
};

pub const this_process: sys.HANDLE = @ptrFromInt(std.math.maxInt(usize));

/// As winnt.h has it; its last part is as long as `count` says.
pub const Sid = extern struct {
    revision: u8,
    count: u8,
    authority: [6]u8,
    first: u32,

    /// Its usual text, "S-1-5-18" (ConvertSidToStringSid).
    fn print(sid: *const Sid, buffer: *[Credentials.security_max]u8) []const u8 {
        const parts_max = 15;
        const authority = std.mem.readInt(u48, &sid.authority, .big);
        const is_long = authority > std.math.maxInt(u32);
        var text = if (is_long)
            std.mem.print(buffer, "S-{d}-0x{x:0>12}", .{ sid.revision, authority }) catch unreachable
        else
            std.mem.print(buffer, "S-{d}-{d}", .{ sid.revision, authority }) catch unreachable;
        const parts: [*]const u32 = @ptrCast(&sid.first);
        for (parts[0..@min(sid.count, parts_max)]) |part| {
            const added = std.mem.print(buffer[text.len..], "-{d}", .{part}) catch unreachable;
            text = buffer[0 .. text.len + added.len];
        }
        return text;
    }
};

/// The server's process for a client, and the client's for a server, as they were when the pipe was made and opened
/// (GetNamedPipeClientProcessId). That process can have ended, and its number be another's by now.
pub fn ofPeer(pipe: sys.HANDLE, failure: *status.Failure) status.Error!Credentials {
    const information = pipes.localInformation(pipe) orelse return failure.system(sys.code.bad_pipe);
    var number: u32 = 0;
    const told = if (information.end == sys.FILE_PIPE_LOCAL_INFORMATION.end_server)
        sys.GetNamedPipeClientProcessId(pipe, &number)
    else
        sys.GetNamedPipeServerProcessId(pipe, &number);
    if (told == 0) return failure.system(sys.lastCode());
    var credentials: Credentials = .{ .process = Credentials.processOf(number) };

    const query_limited_information = 0x1000;
    // Refused for another user's process, unless this one has rights over it.
    const process = sys.OpenProcess(query_limited_information, 0, number) orelse return credentials;
    defer _ = sys.CloseHandle(process);
    var user: User = .{};
    if (user.ask(process).isError()) return credentials;
    credentials.security_size = user.sid().print(&credentials.security).len;
    return credentials;
}

test "texts of security identifiers" {
    const administrators: extern struct { head: [8]u8, parts: [2]u32 } = .{
        .head = .{ 1, 2, 0, 0, 0, 0, 0, 5 },
        .parts = .{ 32, 544 },
    };
    const longest: extern struct { head: [8]u8, parts: [15]u32 } = .{
        .head = .{ 1, 15, 255, 255, 255, 255, 255, 255 },
        .parts = @splat(std.math.maxInt(u32)),
    };
    var buffer: [Credentials.security_max]u8 = undefined;
    const short: *const Sid = @ptrCast(&administrators);
    try std.testing.expectEqualStrings("S-1-5-32-544", short.print(&buffer));
    const long: *const Sid = @ptrCast(&longest);
    const text = long.print(&buffer);
    try std.testing.expectEqual(Credentials.security_max, text.len);
    try std.testing.expect(std.mem.startsWith(u8, text, "S-1-0xffffffffffff-4294967295-4294967295-"));
}
