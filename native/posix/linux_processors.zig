//! How many processors Linux has for this process and its peers: those that are online, and the quota of its control
//! groups (cgroups(7)), which containers have. Not its affinity: who is bound to one processor can have a peer on
//! another.

const std = @import("std");
const read = @import("linux_files.zig").read;

/// More for a quota that has not been found: nothing limits the processors then.
const unlimited = std.math.maxInt(u32);

pub fn usable() u32 {
    // Not on the stack, which may be a small one, with a wait's reports on it.
    const buffer = std.heap.page_allocator.alloc(u8, buffer_size) catch return unlimited;
    defer std.heap.page_allocator.free(buffer);
    return @min(online(buffer), inQuota(buffer));
}

/// The longest list of groups and the longest pathname that are understood.
const list_max = 6 * 1024;
const pathname_max = 1024;
const text_max = 64;
const buffer_size = list_max + pathname_max + 2 * text_max;

fn online(buffer: []u8) u32 {
    return countOf(read("/sys/devices/system/cpu/online", buffer) orelse return unlimited);
}

/// Of a list such as "0-3,8". One that can't be understood is of several.
fn countOf(list: []const u8) u32 {
    var count: u32 = 0;
    var ranges = std.mem.tokenizeAny(u8, list, ",\n");
    while (ranges.next()) |range| {
        var ends = std.mem.splitScalar(u8, range, '-');
        const lower = ends.first();
        const first = std.fmt.parseInt(u16, lower, 10) catch return unlimited;
        const last = std.fmt.parseInt(u16, ends.next() orelse lower, 10) catch return unlimited;
        count += @as(u32, last -| first) + 1;
    }
    return if (count == 0) unlimited else count;
}

/// Whole processors' worth of time that the control groups allow. In a container, the mounted tree begins at its own.
fn inQuota(buffer: []u8) u32 {
    const groups = read("/proc/self/cgroup", buffer[0..list_max]) orelse return unlimited;
    const room = buffer[list_max..];
    var quota: u32 = unlimited;
    var lines = std.mem.tokenizeScalar(u8, groups, '\n');
    while (lines.next()) |line| {
        const group = Group.of(line) orelse continue;
        // Each of those above it limits it too.
        var pathname = std.mem.trimEnd(u8, group.pathname, "/");
        while (true) {
            quota = @min(quota, quotaAt(group.version, pathname, room));
            if (pathname.len == 0) break;
            pathname = pathname[0 .. std.mem.lastIndexOfScalar(u8, pathname, '/') orelse 0];
        }
    }
    return quota;
}

const Group = struct {
    version: enum { v1, v2 },
    pathname: []const u8,

    /// A line of /proc/self/cgroup: hierarchy, controllers and pathname. Null if it does not rule processors.
    fn of(line: []const u8) ?Group {
        var parts = std.mem.splitScalar(u8, line, ':');
        const hierarchy = parts.next() orelse return null;
        const controllers = parts.next() orelse return null;
        const pathname = parts.rest();
        if (std.mem.eql(u8, hierarchy, "0") and controllers.len == 0) return .{ .version = .v2, .pathname = pathname };
        var names = std.mem.splitScalar(u8, controllers, ',');
        while (names.next()) |name| {
            if (std.mem.eql(u8, name, "cpu")) return .{ .version = .v1, .pathname = pathname };
        }
        return null;
    }
};

fn quotaAt(version: @FieldType(Group, "version"), group: []const u8, buffer: []u8) u32 {
    const pathname = buffer[0..pathname_max];
    const first = buffer[pathname_max..][0..text_max];
    const second = buffer[pathname_max..][text_max..];
    switch (version) {
        .v2 => {
            const text = readIn(pathname, "/sys/fs/cgroup", group, "/cpu.max", first) orelse return unlimited;
            var words = std.mem.tokenizeAny(u8, text, " \n");
            return processorsOf(words.next(), words.next());
        },
        .v1 => {
            const tree = "/sys/fs/cgroup/cpu";
            const quota = readIn(pathname, tree, group, "/cpu.cfs_quota_us", first) orelse return unlimited;
            const period = readIn(pathname, tree, group, "/cpu.cfs_period_us", second) orelse return unlimited;
            return processorsOf(std.mem.trimEnd(u8, quota, "\n"), std.mem.trimEnd(u8, period, "\n"));
        },
    }
}

/// Of a quota and its period in microseconds. "max", and -1, are none.
fn processorsOf(quota: ?[]const u8, period: ?[]const u8) u32 {
    const quota_us = std.fmt.parseInt(u32, quota orelse return unlimited, 10) catch return unlimited;
    const period_us = std.fmt.parseInt(u32, period orelse return unlimited, 10) catch return unlimited;
    return std.math.divFloor(u32, quota_us, period_us) catch unlimited;
}

fn readIn(pathname: []u8, tree: []const u8, group: []const u8, file: []const u8, buffer: []u8) ?[]u8 {
    var length: usize = 0;
    for ([_][]const u8{ tree, group, file, "\x00" }) |part| {
        if (length + part.len > pathname.len) return null;
        @memcpy(pathname[length..][0..part.len], part);
        length += part.len;
    }
    return read(pathname[0 .. length - 1 :0], buffer);
}

const testing = std.testing;

test "lines of /proc/self/cgroup" {
    const v2 = Group.of("0::/user.slice/one:two").?;
    try testing.expectEqual(.v2, v2.version);
    try testing.expectEqualStrings("/user.slice/one:two", v2.pathname);
    const v1 = Group.of("4:cpu,cpuacct:/docker/12").?;
    try testing.expectEqual(.v1, v1.version);
    try testing.expectEqualStrings("/docker/12", v1.pathname);
    for ([_][]const u8{ "", "0", "3:memory:/a", "5:cpuset:/b", "1:name=systemd:/c" }) |line| {
        try testing.expectEqual(null, Group.of(line));
    }
}

test processorsOf {
    for ([_]struct { ?[]const u8, ?[]const u8, u32 }{
        .{ "max", "100000", unlimited },
        .{ "-1", "100000", unlimited },
        .{ null, null, unlimited },
        .{ "200000", null, unlimited },
        .{ "200000", "0", unlimited },
        .{ "200000", "100000", 2 },
        .{ "199999", "100000", 1 },
        .{ "50000", "100000", 0 },
    }) |case| try testing.expectEqual(case[2], processorsOf(case[0], case[1]));
}

test countOf {
    for ([_]struct { []const u8, u32 }{
        .{ "0\n", 1 },       .{ "0-1\n", 2 },    .{ "0-3,8\n", 5 },
        .{ "0,2,4-5\n", 4 }, .{ "", unlimited }, .{ "none\n", unlimited },
    }) |case| try testing.expectEqual(case[1], countOf(case[0]));
}

test "this machine tells its processors" {
    var buffer: [buffer_size]u8 = undefined;
    try testing.expect(online(&buffer) >= 1);
    try testing.expect(usable() <= online(&buffer));
}
