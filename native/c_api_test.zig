//! Compares what the library exports and counts with what native/bbipc.h promises, so that they can't drift apart.

const std = @import("std");
const c = @import("bbipc_h");
const c_api = @import("c_api.zig");
const events = @import("events.zig");
const platform = @import("platform.zig");
const status = @import("status.zig");
const testing = std.testing;

const prefix = "bbipc_";

test "every function of the header is exported with the same types, and nothing else is" {
    @setEvalBranchQuota(100_000);
    // Only public functions can be compared.
    try testing.expect(@hasDecl(c_api, "bbipc_version"));
    var declared: usize = 0;
    inline for (@typeInfo(c).@"struct".decl_names) |name| {
        if (comptime !isFunction(c, name)) continue;
        declared += 1;
        errdefer std.debug.print("{s} is in bbipc.h:\n", .{name});
        if (!@hasDecl(c_api, name)) return error.NotExported;
        try expectSameFunction(@TypeOf(@field(c, name)), @TypeOf(@field(c_api, name)));
    }
    var exported: usize = 0;
    inline for (@typeInfo(c_api).@"struct".decl_names) |name| {
        if (comptime !isFunction(c_api, name)) continue;
        exported += 1;
        errdefer std.debug.print("{s} is exported:\n", .{name});
        if (!@hasDecl(c, name)) return error.NotInHeader;
    }
    try testing.expectEqual(declared, exported);
    try testing.expect(declared > 0);
}

fn isFunction(comptime File: type, comptime name: []const u8) bool {
    return std.mem.startsWith(u8, name, prefix) and @typeInfo(@TypeOf(@field(File, name))) == .@"fn";
}

fn expectSameFunction(comptime Declared: type, comptime Exported: type) !void {
    const declared = @typeInfo(Declared).@"fn";
    const exported = @typeInfo(Exported).@"fn";
    try testing.expect(comptime std.meta.eql(declared.attrs, exported.attrs));
    try expectSameType(declared.return_type.?, exported.return_type.?);
    try testing.expectEqual(declared.param_types.len, exported.param_types.len);
    inline for (declared.param_types, exported.param_types, 1..) |declared_type, exported_type, number| {
        errdefer std.debug.print("parameter {d}:\n", .{number});
        try expectSameType(declared_type.?, exported_type.?);
    }
}

/// C has one kind of pointer; Zig says of each whether it may be null and how many it points to.
fn expectSameType(comptime Declared: type, comptime Exported: type) !void {
    if (Declared == Exported) return;
    errdefer std.debug.print("{s} in bbipc.h, {s} in c_api.zig:\n", .{ @typeName(Declared), @typeName(Exported) });
    const declared = comptime pointerOf(Declared) orelse return error.OtherType;
    const exported = comptime pointerOf(Exported) orelse return error.OtherType;
    try testing.expectEqual(declared.attrs.@"const", exported.attrs.@"const");
    // Bytes of any kind are void in C.
    if (declared.child == anyopaque and exported.child == u8) return;
    if (declared.child != exported.child) return error.OtherTarget;
}

fn pointerOf(comptime Pointer: type) ?std.builtin.Type.Pointer {
    return switch (@typeInfo(Pointer)) {
        .pointer => |pointer| pointer,
        .optional => |optional| pointerOf(optional.child),
        else => null,
    };
}

test "every pointer may be null, for C can't say otherwise" {
    @setEvalBranchQuota(100_000);
    inline for (@typeInfo(c_api).@"struct".decl_names) |name| {
        if (comptime !isFunction(c_api, name)) continue;
        inline for (@typeInfo(@TypeOf(@field(c_api, name))).@"fn".param_types) |parameter| {
            try testing.expect(@typeInfo(parameter.?) != .pointer);
        }
    }
}

test "every error has the number that the header gives it, and the header has no others" {
    @setEvalBranchQuota(100_000);
    const names = @typeInfo(status.Error).error_set.error_names.?;
    inline for (names) |name| {
        const number = @field(c, "BBIPC_ERROR_" ++ upperCase(name));
        try testing.expectEqual(number, status.fromError(@field(status.Error, name)));
    }
    try testing.expectEqual(countConstants("BBIPC_ERROR_"), names.len);
}

/// How many constants of the header begin so.
fn countConstants(comptime beginning: []const u8) usize {
    comptime var count: usize = 0;
    inline for (@typeInfo(c).@"struct".decl_names) |name| {
        if (comptime std.mem.startsWith(u8, name, beginning)) count += 1;
    }
    return count;
}

/// InvalidHandle and invalid_handle are both INVALID_HANDLE.
fn upperCase(comptime name: []const u8) []const u8 {
    comptime var result: []const u8 = "";
    inline for (name, 0..) |character, index| {
        if (std.ascii.isUpper(character) and index > 0) result = result ++ "_";
        result = result ++ .{std.ascii.toUpper(character)};
    }
    return result;
}

test "every event has the bit that the header gives it" {
    @setEvalBranchQuota(100_000);
    comptime var all: u32 = 0;
    inline for (@typeInfo(events).@"struct".decl_names) |name| {
        if (@TypeOf(@field(events, name)) != u32) continue;
        if (comptime std.mem.startsWith(u8, name, "of_")) continue;
        const bit = @field(events, name);
        try testing.expectEqual(@field(c, "BBIPC_" ++ upperCase(name)), bit);
        try testing.expectEqual(1, @popCount(bit));
        try testing.expectEqual(0, all & bit);
        all |= bit;
    }
    try testing.expectEqual(c.BBIPC_SERVER_EVENTS, events.of_servers);
    try testing.expectEqual(c.BBIPC_STREAM_EVENTS, events.of_streams);
    try testing.expectEqual(all, events.of_servers | events.of_streams);
    try testing.expectEqual(0, events.of_servers & events.of_streams);
}

test "every backend has the number that the header gives it" {
    const names = @typeInfo(platform.Backend).@"enum".field_names;
    inline for (names) |name| {
        const number = @field(c, "BBIPC_BACKEND_" ++ upperCase(name));
        try testing.expectEqual(number, @backingInt(@field(platform.Backend, name)));
    }
}
