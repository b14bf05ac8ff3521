//! Compares what the library exports and counts with what native/include/bbipc.h promises, so that they
//! can't drift apart.

const std = @import("std");
const c = @import("bbipc_h");
const events = @import("../base/events.zig");
const platform = @import("../platform.zig");
const status = @import("../base/status.zig");
const testing = std.testing;

/// Those that export functions.
const files = .{ @import("../c_api.zig"), @import("../cpython/built_ins.zig") };

test "every function of the header is exported with the same types, and nothing else is" {
    @setEvalBranchQuota(100_000);
    const declared = comptime functionsOf(c);
    var differences: usize = 0;
    inline for (declared) |name| {
        const difference: ?[]const u8 = comptime if (exporterOf(name)) |File|
            differenceOf(@TypeOf(@field(c, name)), @TypeOf(@field(File, name)))
        else
            "is no \"pub export fn\" of these files"; // of others, nothing can be learnt
        if (difference) |text| {
            std.debug.print("{s} {s}\n", .{ name, text });
            differences += 1;
        }
    }
    inline for (files) |File| {
        inline for (comptime functionsOf(File)) |name| {
            if (@hasDecl(c, name)) continue;
            std.debug.print("{s} is not in bbipc.h\n", .{name});
            differences += 1;
        }
    }
    try testing.expect(declared.len > 0);
    try testing.expectEqual(0, differences);
}

fn exporterOf(comptime name: []const u8) ?type {
    for (files) |File| {
        if (@hasDecl(File, name)) return File;
    }
    return null;
}

/// The names of a file's functions that belong to the C interface.
fn functionsOf(comptime File: type) []const []const u8 {
    var names: []const []const u8 = &.{};
    for (@typeInfo(File).@"struct".decl_names) |name| {
        if (!std.mem.startsWith(u8, name, "bbipc_")) continue;
        if (@typeInfo(@TypeOf(@field(File, name))) == .@"fn") names = names ++ .{name};
    }
    return names;
}

fn differenceOf(comptime Declared: type, comptime Exported: type) ?[]const u8 {
    const declared = @typeInfo(Declared).@"fn";
    const exported = @typeInfo(Exported).@"fn";
    if (!std.meta.eql(declared.attrs, exported.attrs)) return "has another calling convention";
    if (!isSameType(declared.return_type.?, exported.return_type.?)) return "returns another type";
    if (declared.param_types.len != exported.param_types.len) return "has another number of parameters";
    for (declared.param_types, exported.param_types, 1..) |in_header, in_library, number| {
        if (isSameType(in_header.?, in_library.?)) continue;
        return std.fmt.comptimePrint("differs in parameter {d}: {s} in bbipc.h, {s} in the library", .{
            number,
            @typeName(in_header.?),
            @typeName(in_library.?),
        });
    }
    return null;
}

/// C has one kind of pointer; Zig says of each whether it may be null and how many it points to.
fn isSameType(comptime Declared: type, comptime Exported: type) bool {
    if (Declared == Exported) return true;
    const declared = pointerOf(Declared) orelse return false;
    const exported = pointerOf(Exported) orelse return false;
    if (declared.attrs.@"const" != exported.attrs.@"const") return false;
    // A parameter of C that is an array is a pointer to its first item.
    if (@typeInfo(exported.child) == .array) return declared.child == @typeInfo(exported.child).array.child;
    // Bytes of any kind are void in C.
    return declared.child == exported.child or (declared.child == anyopaque and exported.child == u8);
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
    inline for (files) |File| {
        inline for (comptime functionsOf(File)) |name| {
            inline for (@typeInfo(@TypeOf(@field(File, name))).@"fn".param_types) |parameter| {
                errdefer std.debug.print("{s}\n", .{name});
                try testing.expect(@typeInfo(parameter.?) != .pointer);
            }
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

/// How many constants of the header begin with this.
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
