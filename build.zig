const std = @import("std");
const builtin = @import("builtin");

/// The version that the package index's `ziglang` is pinned to in pyproject.toml.
const zig_version = "0.17.1";

comptime {
    if (!std.mem.eql(u8, builtin.zig_version_string, zig_version)) @compileError(
        "bbipc is built with Zig " ++ zig_version ++ ", this is " ++ builtin.zig_version_string ++
            ". Run: python -m pip install ziglang==" ++ zig_version ++ ", then: python -m ziglang build",
    );
}

pub fn build(b: *std.Build) void {
    const target = b.standardTargetOptions(.{});
    // Assertions stay in the library that people use: a bug that is noticed is better than data that is lost.
    const optimize = b.option(std.builtin.Optimize, "optimize", "Default: safe") orelse .safe;

    const library = b.addLibrary(.{
        .name = "bbipc",
        .linkage = .dynamic,
        .root_module = b.createModule(.{
            .root_source_file = b.path("native/root.zig"),
            .target = target,
            .optimize = optimize,
            .link_libc = false,
            .strip = true,
            .unwind_tables = .none,
        }),
    });
    b.installArtifact(library);
}
