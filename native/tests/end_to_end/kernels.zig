//! Linux kernels that lack a call: a filter of calls (seccomp(2)) makes this kernel refuse it to one thread.

const std = @import("std");
const handles = @import("../../core/handles.zig");
const support = @import("support.zig");
const linux = std.os.linux;
const testing = std.testing;

const c = support.c;
const Handle = support.Handle;
const onTransport = support.onTransport;
const patience_ns = support.patience_ns;
const poll = support.poll;
const Stage = support.Stage;
const system = support.system;

const data_available: u32 = c.BBIPC_DATA_AVAILABLE;

/// What a thread returns that could not `lack`.
const no_filter = -1000;

/// From now on, this thread's kernel lacks these calls. False where calls can't be filtered.
fn lack(comptime calls: []const linux.SYS) bool {
    const Instruction = extern struct { code: u16, skip_if_true: u8 = 0, skip_if_false: u8 = 0, value: u32 };
    // BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K (linux/bpf_common.h)
    const load = 0x20;
    const skip_if_equal = 0x15;
    const leave = 0x06;
    var program: [calls.len + 3]Instruction = undefined;
    program[0] = .{ .code = load, .value = @offsetOf(linux.SECCOMP.data, "nr") };
    inline for (calls, 1..) |call, index| program[index] = .{
        .code = skip_if_equal,
        .value = @intCast(@backingInt(call)),
        .skip_if_true = calls.len + 1 - index,
    };
    program[calls.len + 1] = .{ .code = leave, .value = linux.SECCOMP.RET.ALLOW };
    program[calls.len + 2] = .{ .code = leave, .value = linux.SECCOMP.RET.ERRNO | @as(
        u32,
        @backingInt(linux.E.NOSYS),
    ) };

    const filter: extern struct { size: c_ushort, program: [*]const Instruction } = .{
        .size = program.len,
        .program = &program,
    };
    const promise = linux.prctl(@backingInt(linux.PR.SET_NO_NEW_PRIVS), 1, 0, 0, 0);
    if (linux.errno(promise) != .SUCCESS) return false;
    const mode = linux.SECCOMP.MODE.FILTER;
    const result = linux.prctl(@backingInt(linux.PR.SET_SECCOMP), mode, @intFromPtr(&filter), 0, 0);
    return linux.errno(result) == .SUCCESS;
}

test "where the kernel has no 32-bit times, waits last as long and the lock is slept for" {
    const has_times_twice = @hasField(linux.SYS, "ppoll") and @hasField(linux.SYS, "ppoll_time64");
    if (!has_times_twice) return error.SkipZigTest; // 64-bit processors have one kind of times
    try onTransport(.local, struct {
        const calls = [_]linux.SYS{ .ppoll, .clock_gettime, .futex };
        const timeout_ns = 20 * std.time.ns_per_ms;

        fn waitedNs(stream: Handle) i64 {
            if (!lack(&calls)) return no_filter;
            const start_ns = support.monotonicNs();
            const result = poll(stream, data_available, timeout_ns);
            return if (result == 0) @intCast(support.monotonicNs() - start_ns) else result;
        }

        fn pollAs(thread: *std.atomic.Value(system.Thread), stream: Handle) i64 {
            thread.store(system.currentThread(), .release);
            if (!lack(&calls)) return no_filter;
            return poll(stream, data_available, 0);
        }

        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            var waiting: support.Call(waitedNs) = undefined;
            try waiting.start(.{pair.near});
            const waited_ns = waiting.join();
            if (waited_ns == no_filter) return error.SkipZigTest; // qemu-user filters no calls, nor do all kernels
            try testing.expect(waited_ns >= timeout_ns);

            var thread: std.atomic.Value(system.Thread) = .init(0);
            var polling: support.Call(pollAs) = undefined;
            const slept = slept: {
                handles.lock.lock();
                defer handles.lock.unlock();
                try polling.start(.{ &thread, pair.near });
                while (thread.load(.acquire) == 0) std.Thread.yield() catch {};
                break :slept system.awaitSleep(testing.io, thread.load(.acquire));
            };
            try testing.expectEqual(0, polling.join());
            try slept;
        }
    }.body);
}

test "where the kernel has no 32-bit times, a poller that is watched has its alarm" {
    const has_times_twice = @hasField(linux.SYS, "timerfd_settime") and @hasField(linux.SYS, "timerfd_settime64");
    if (!has_times_twice) return error.SkipZigTest; // 64-bit processors have one kind of times
    try onTransport(.local, struct {
        const calls = [_]linux.SYS{.timerfd_settime};

        /// The descriptor's conditions when the alarm has rung.
        fn ring(poller: Handle) i64 {
            if (!lack(&calls)) return no_filter;
            const descriptor = c.bbipc_poller_fileno(poller, null);
            if (descriptor < 0) return descriptor;
            var socket: Handle = 0;
            var happened: u32 = 0;
            const reported = c.bbipc_wait_for_events(poller, &socket, &happened, 1, 0, null, null);
            if (reported != 0) return -1;
            var entry: linux.pollfd = .{ .fd = @intCast(descriptor), .events = linux.POLL.IN, .revents = 0 };
            _ = linux.poll((&entry)[0..1], 1, patience_ns / std.time.ns_per_ms);
            return entry.revents;
        }

        fn body(stage: *Stage) !void {
            const pair = try stage.pair();
            const poller = try stage.poller(c.BBIPC_BACKEND_EPOLL);
            // An unread byte, and the end: another process could read it, of which no kernel tells.
            try testing.expectEqual(1, support.write(pair.far, "x"));
            stage.close(pair.far);
            try testing.expectEqual(0, c.bbipc_monitor_socket(poller, pair.near, c.BBIPC_END_OF_DATA, null));
            var ringing: support.Call(ring) = undefined;
            try ringing.start(.{poller});
            const result = ringing.join();
            if (result == no_filter) return error.SkipZigTest; // qemu-user filters no calls, nor do all kernels
            try testing.expectEqual(linux.POLL.IN, result);
        }
    }.body);
}
