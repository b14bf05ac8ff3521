const std = @import("std");
const builtin = @import("builtin");

/// The version that pyproject.toml names too.
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
    // Only LLVM's code tells Valgrind which memory is undefined; without it, Valgrind finds little.
    const valgrind = b.option(bool, "valgrind", "Make the native tests for Valgrind; it may need -Dcpu=baseline");

    const library = addLibrary(b, target, optimize);
    library.installHeader(b.path("native/include/bbipc.h"), "bbipc.h");
    b.installArtifact(library);

    const check = b.step("check", "Compile the library for every target in native/packaging/targets.json");
    for (everyTarget(b)) |one| {
        const compiled = addLibrary(b, one, optimize);
        _ = compiled.getEmittedBin(); // or it would only be analysed
        check.dependOn(&compiled.step);
    }

    // The tests call what the header declares, as a C program would.
    const header = b.createModule(.{
        .root_source_file = b.addTranslateC(.{
            .root_source_file = b.path("native/include/bbipc.h"),
            // For no system: with one, its <stdint.h> would be looked for on this machine.
            .target = b.resolveTargetQuery(.{ .cpu_arch = target.result.cpu.arch, .os_tag = .freestanding }),
            .optimize = optimize,
            .link_libc = false,
        }).getOutput(),
        .target = target,
        .optimize = optimize,
    });

    // One executable that needs nothing beside it: the tests of every file, and those of the C interface end to end.
    const tests = b.addTest(.{
        .name = "bbipc-tests",
        .root_module = testModule(b, "native/root.zig", header, target, optimize_asked orelse .debug, valgrind),
        .use_llvm = valgrind,
    });
    const run_tests = addRun(b, tests);
    run_tests.has_side_effects = true;
    b.step("test", "Run the native tests").dependOn(&run_tests.step);

    const random_calls = b.addExecutable(.{
        .name = "random-calls",
        .root_module = testModule(b, "native/random_calls.zig", header, target, optimize, valgrind),
        .use_llvm = valgrind,
    });
    const run_random_calls = addRun(b, random_calls);
    run_random_calls.addPassthruArgs();
    b.step("random-calls", "Call the C interface at random: -- CALLS SEED [THREADS]").dependOn(&run_random_calls.step);

    const test_binary = b.step("test-binary", "Install bbipc-tests and random-calls, to copy and run where there is no Zig");
    for ([_]*std.Build.Step.Compile{ tests, random_calls }) |binary| {
        test_binary.dependOn(&b.addInstallArtifact(binary, .{}).step);
    }
}

/// Runs a program that was built. One for Windows runs under Wine elsewhere, which Zig would only do if it was asked for
/// with -fwine each time.
fn addRun(b: *std.Build, program: *std.Build.Step.Compile) *std.Build.Step.Run {
    const target = program.rootModuleTarget();
    const host = b.graph.host.result;
    if (target.os.tag != .windows or host.os.tag == .windows) return b.addRunArtifact(program);
    // Zig then says that this machine can't run it.
    if (target.cpu.arch != host.cpu.arch) return b.addRunArtifact(program);
    const run = b.addSystemCommand(&.{"wine"});
    run.setName(b.fmt("run {s} under Wine", .{program.name}));
    run.addArtifactArg(program);
    if (program.kind == .@"test") run.enableTestRunnerMode();
    // Wine would report every call that it has only a stub of.
    if (b.graph.environ_map.get("WINEDEBUG") == null) run.setEnvironmentVariable("WINEDEBUG", "-all");
    return run;
}

/// Linux is called without libc, Windows by its own libraries; the system calls of the others are no stable interface.
fn needsLibc(target: std.Build.ResolvedTarget) bool {
    return switch (target.result.os.tag) {
        .linux, .windows => false,
        else => true,
    };
}

fn addLibrary(b: *std.Build, target: std.Build.ResolvedTarget, optimize: std.builtin.Optimize) *std.Build.Step.Compile {
    return b.addLibrary(.{
        .name = "bbipc",
        .linkage = .dynamic,
        .root_module = b.createModule(.{
            .root_source_file = b.path("native/root.zig"),
            .target = target,
            .optimize = optimize,
            .link_libc = needsLibc(target),
            .strip = true,
            .unwind_tables = .none,
        }),
    });
}

fn everyTarget(b: *std.Build) []const std.Build.ResolvedTarget {
    const Entry = struct { zig_target: []const u8, cpu: ?[]const u8 = null };
    const text = @embedFile("native/packaging/targets.json");
    const arena = b.graph.arena;
    const entries = std.json.parseFromSliceLeaky([]Entry, arena, text, .{ .ignore_unknown_fields = true }) catch |err|
        std.debug.panic("native/packaging/targets.json: {t}", .{err});
    const targets = b.graph.alloc(std.Build.ResolvedTarget, entries.len);
    for (targets, entries) |*target, entry| {
        const query = std.Target.Query.parse(.{
            .arch_os_abi = entry.zig_target,
            .cpu_features = entry.cpu,
        }) catch |err| std.debug.panic("native/packaging/targets.json: {s}: {t}", .{ entry.zig_target, err });
        target.* = b.resolveTargetQuery(query);
    }
    return targets;
}

fn testModule(
    b: *std.Build,
    root_source_file: []const u8,
    header: *std.Build.Module,
    target: std.Build.ResolvedTarget,
    optimize: std.builtin.Optimize,
    valgrind: ?bool,
) *std.Build.Module {
    return b.createModule(.{
        .root_source_file = b.path(root_source_file),
        .imports = &.{.{ .name = "bbipc_h", .module = header }},
        .target = target,
        .optimize = optimize,
        .link_libc = needsLibc(target),
        .valgrind = valgrind,
    });
}
