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
    const optimize_asked = b.option(std.builtin.Optimize, "optimize", "Default: safe; for the tests, debug");
    const optimize = optimize_asked orelse .safe;

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

    const tests = addTests(b, target, optimize_asked orelse .debug);
    const run_tests = b.addRunArtifact(tests);
    run_tests.has_side_effects = true; // what they test is more than their own bytes
    b.step("test", "Run the native tests").dependOn(&run_tests.step);
    const test_binary = b.step("test-binary", "Install the native tests, to run them elsewhere or under other tools");
    test_binary.dependOn(&b.addInstallArtifact(tests, .{}).step);
}

/// One executable that needs nothing beside it: the tests of every file, and of the C interface end to end.
fn addTests(b: *std.Build, target: std.Build.ResolvedTarget, optimize: std.builtin.Optimize) *std.Build.Step.Compile {
    const header = b.addTranslateC(.{
        .root_source_file = b.path("native/bbipc.h"),
        .target = target,
        .optimize = optimize,
        .link_libc = false,
    });
    return b.addTest(.{
        .name = "bbipc-tests",
        .root_module = b.createModule(.{
            .root_source_file = b.path("native/root.zig"),
            .imports = &.{.{ .name = "bbipc_h", .module = header.createModule() }},
            .target = target,
            .optimize = optimize,
            .link_libc = false,
        }),
    });
}
