//! The system calls that the Windows side needs: declarations of kernel32, ws2_32 and ntdll (nothing else is linked, no
//! C run-time among it), and the small things that every platform supplies.
//!
//! Zig's standard library has neither completion ports nor Winsock, and wraps the rest in types of its own, so all that
//! is called is declared here, as the Windows headers have it.

const std = @import("std");
const windows = std.os.windows;
const status = @import("../base/status.zig");

pub const HANDLE = windows.HANDLE;
pub const invalid_handle: HANDLE = windows.INVALID_HANDLE_VALUE;
pub const SOCKET = usize;
pub const BOOL = c_int;

/// What the system still has of this process: every operation block that it can write to, and every packet that is
/// queued for one.
pub var pending_operations: std.atomic.Value(u32) = .init(0);

pub fn pendingOperations() u64 {
    return pending_operations.load(.acquire);
}

pub const pageSize = std.heap.defaultQueryPageSize;

// ---- Error codes ----

// Those that the library makes itself.
pub const would_block = code.wsa_ewouldblock;
pub const not_connected = code.wsa_enotconn;
pub const connection_aborted = code.wsa_econnaborted;
pub const refused_connection = code.wsa_econnrefused;
pub const busy = code.busy;

/// Those of GetLastError and WSAGetLastError that the library acts on or makes itself.
pub const code = struct {
    pub const file_not_found = 2;
    pub const path_not_found = 3;
    pub const too_many_open_files = 4;
    pub const access_denied = 5;
    pub const not_enough_memory = 8;
    pub const broken_pipe = 109;
    pub const busy = 170;
    pub const wait_io_completion = 192;
    pub const bad_pipe = 230;
    pub const pipe_busy = 231;
    pub const no_data = 232;
    pub const pipe_not_connected = 233;
    pub const wait_timeout = 258;
    pub const no_system_resources = 1450;
    pub const wsa_eacces = 10013;
    pub const wsa_efault = 10014;
    pub const wsa_einval = 10022;
    pub const wsa_emfile = 10024;
    pub const wsa_ewouldblock = 10035;
    pub const wsa_einprogress = 10036;
    pub const wsa_enotsock = 10038;
    pub const wsa_eprototype = 10041;
    pub const wsa_eopnotsupp = 10045;
    pub const wsa_eafnosupport = 10047;
    pub const wsa_eaddrinuse = 10048;
    pub const wsa_econnaborted = 10053;
    pub const wsa_econnreset = 10054;
    pub const wsa_enobufs = 10055;
    pub const wsa_enotconn = 10057;
    pub const wsa_econnrefused = 10061;
};

/// Whether the system lacks what a new socket or pipe takes, which can come back.
pub fn isShortage(number: i32) bool {
    return switch (number) {
        code.too_many_open_files, code.not_enough_memory, code.no_system_resources => true,
        code.wsa_emfile, code.wsa_enobufs => true,
        else => false,
    };
}

pub const NtStatus = enum(u32) {
    success = 0,
    pending = 0x103,
    object_name_not_found = 0xc0000034,
    pipe_disconnected = 0xc00000b0,
    pipe_closing = 0xc00000b1,
    pipe_connected = 0xc00000b2,
    cancelled = 0xc0000120,
    pipe_broken = 0xc000014b,
    _,

    /// Errors leave no packet behind; success and warnings do.
    pub fn isError(self: NtStatus) bool {
        return @backingInt(self) >> 30 == 3;
    }

    pub fn toCode(self: NtStatus) i32 {
        return @bitCast(RtlNtStatusToDosError(self));
    }
};

pub fn lastCode() i32 {
    return @bitCast(GetLastError());
}

// ---- kernel32 ----

pub const OVERLAPPED_ENTRY = extern struct {
    key: usize,
    /// What was given as the operation's context: never looked into as an OVERLAPPED.
    context: ?*anyopaque,
    internal: usize,
    bytes: u32,
};

pub const SECURITY_ATTRIBUTES = extern struct {
    size: u32 = @sizeOf(SECURITY_ATTRIBUTES),
    descriptor: ?*const anyopaque,
    inherit: BOOL = 0,
};

pub extern "kernel32" fn GetLastError() callconv(.winapi) u32;
pub extern "kernel32" fn CloseHandle(HANDLE) callconv(.winapi) BOOL;
pub extern "kernel32" fn CreateIoCompletionPort(HANDLE, ?HANDLE, usize, u32) callconv(.winapi) ?HANDLE;
pub extern "kernel32" fn GetQueuedCompletionStatusEx(
    port: HANDLE,
    entries: [*]OVERLAPPED_ENTRY,
    count: u32,
    removed: *u32,
    timeout_ms: u32,
    alertable: BOOL,
) callconv(.winapi) BOOL;
extern "kernel32" fn CreateWaitableTimerExW(
    ?*const SECURITY_ATTRIBUTES,
    ?[*:0]const u16,
    u32,
    u32,
) callconv(.winapi) ?HANDLE;
extern "kernel32" fn SetWaitableTimer(
    timer: HANDLE,
    due: *const i64,
    period_ms: i32,
    called: *const fn (?*anyopaque, u32, u32) callconv(.winapi) void,
    argument: ?*anyopaque,
    resumes: BOOL,
) callconv(.winapi) BOOL;
extern "kernel32" fn CancelWaitableTimer(HANDLE) callconv(.winapi) BOOL;
pub extern "kernel32" fn PostQueuedCompletionStatus(HANDLE, u32, usize, ?*anyopaque) callconv(.winapi) BOOL;
pub extern "kernel32" fn SetFileCompletionNotificationModes(HANDLE, u8) callconv(.winapi) BOOL;
pub extern "kernel32" fn SetHandleInformation(HANDLE, u32, u32) callconv(.winapi) BOOL;
pub extern "kernel32" fn CreateNamedPipeW(
    name: [*:0]const u16,
    open_mode: u32,
    pipe_mode: u32,
    instances_max: u32,
    out_size: u32,
    in_size: u32,
    default_timeout_ms: u32,
    security: ?*const SECURITY_ATTRIBUTES,
) callconv(.winapi) HANDLE;
pub extern "kernel32" fn CreateFileW(
    name: [*:0]const u16,
    access: u32,
    share: u32,
    security: ?*const SECURITY_ATTRIBUTES,
    disposition: u32,
    flags: u32,
    template: ?HANDLE,
) callconv(.winapi) HANDLE;
pub extern "kernel32" fn GetNamedPipeClientProcessId(HANDLE, *u32) callconv(.winapi) BOOL;
pub extern "kernel32" fn GetNamedPipeServerProcessId(HANDLE, *u32) callconv(.winapi) BOOL;
pub extern "kernel32" fn OpenProcess(access: u32, inherit: BOOL, number: u32) callconv(.winapi) ?HANDLE;
pub extern "kernel32" fn WaitNamedPipeW(name: [*:0]const u16, timeout_ms: u32) callconv(.winapi) BOOL;
pub extern "kernel32" fn PeekNamedPipe(
    pipe: HANDLE,
    buffer: ?*anyopaque,
    size: u32,
    read: ?*u32,
    available: ?*u32,
    left: ?*u32,
) callconv(.winapi) BOOL;
pub extern "kernel32" fn CreateThread(
    security: ?*const SECURITY_ATTRIBUTES,
    stack_size: usize,
    start: *const fn (?*anyopaque) callconv(.winapi) u32,
    parameter: ?*anyopaque,
    flags: u32,
    id: ?*u32,
) callconv(.winapi) ?HANDLE;
pub extern "kernel32" fn GetModuleHandleExW(u32, *const anyopaque, *?HANDLE) callconv(.winapi) BOOL;
pub extern "kernel32" fn SetConsoleCtrlHandler(
    ?*const fn (u32) callconv(.winapi) BOOL,
    BOOL,
) callconv(.winapi) BOOL;
pub extern "kernel32" fn Sleep(milliseconds: u32) callconv(.winapi) void;
pub extern "kernel32" fn GetCurrentThreadId() callconv(.winapi) u32;
pub extern "kernel32" fn GetCurrentProcessId() callconv(.winapi) u32;
extern "kernel32" fn GetActiveProcessorCount(group: u16) callconv(.winapi) u32;
pub extern "kernel32" fn QueryPerformanceCounter(*i64) callconv(.winapi) BOOL;
pub extern "kernel32" fn QueryPerformanceFrequency(*i64) callconv(.winapi) BOOL;
pub extern "kernel32" fn GetStdHandle(u32) callconv(.winapi) ?HANDLE;
pub extern "kernel32" fn WriteFile(HANDLE, [*]const u8, u32, ?*u32, ?*anyopaque) callconv(.winapi) BOOL;
pub extern "kernel32" fn AcquireSRWLockExclusive(*SRWLOCK) callconv(.winapi) void;
pub extern "kernel32" fn ReleaseSRWLockExclusive(*SRWLOCK) callconv(.winapi) void;

pub const SRWLOCK = extern struct { pointer: ?*anyopaque = null };

// ---- ntdll ----

pub const IO_STATUS_BLOCK = extern struct {
    /// The system writes the status last.
    status: extern union { value: NtStatus, pointer: ?*anyopaque } = .{ .value = .pending },
    information: usize = 0,

    /// What an operation has written can be read once this says that it has ended.
    pub fn now(block: *const IO_STATUS_BLOCK) NtStatus {
        return @atomicLoad(NtStatus, &block.status.value, .acquire);
    }
};

pub const UNICODE_STRING = extern struct {
    size: u16,
    size_max: u16,
    buffer: [*]const u16,
};

pub const OBJECT_ATTRIBUTES = extern struct {
    size: u32 = @sizeOf(OBJECT_ATTRIBUTES),
    root: ?HANDLE = null,
    name: *const UNICODE_STRING,
    attributes: u32 = 0,
    security: ?*const anyopaque = null,
    quality: ?*const anyopaque = null,
};

/// What a call says of a named pipe's end (ntifs.h, FilePipeLocalInformation).
pub const FILE_PIPE_LOCAL_INFORMATION = extern struct {
    type: u32,
    configuration: u32,
    maximum_instances: u32,
    current_instances: u32,
    inbound_quota: u32,
    read_data_available: u32,
    outbound_quota: u32,
    write_quota_available: u32,
    state: u32,
    end: u32,

    pub const class = 24;
    pub const state_disconnected = 1;
    pub const state_listening = 2;
    pub const state_connected = 3;
    pub const end_server = 1;
};

pub extern "ntdll" fn RtlNtStatusToDosError(NtStatus) callconv(.winapi) u32;
pub extern "ntdll" fn RtlAllocateHeap(*anyopaque, u32, usize) callconv(.winapi) ?*anyopaque;
pub extern "ntdll" fn RtlFreeHeap(*anyopaque, u32, ?*anyopaque) callconv(.winapi) u8;
pub extern "ntdll" fn NtCreateFile(
    handle: *HANDLE,
    access: u32,
    attributes: *const OBJECT_ATTRIBUTES,
    block: *IO_STATUS_BLOCK,
    allocation_size: ?*const i64,
    file_attributes: u32,
    share: u32,
    disposition: u32,
    options: u32,
    ea: ?*const anyopaque,
    ea_size: u32,
) callconv(.winapi) NtStatus;
pub extern "ntdll" fn NtDeviceIoControlFile(
    file: HANDLE,
    event: ?HANDLE,
    routine: ?*const anyopaque,
    context: ?*anyopaque,
    block: *IO_STATUS_BLOCK,
    control: u32,
    input: ?*const anyopaque,
    input_size: u32,
    output: ?*anyopaque,
    output_size: u32,
) callconv(.winapi) NtStatus;
pub extern "ntdll" fn NtFsControlFile(
    file: HANDLE,
    event: ?HANDLE,
    routine: ?*const anyopaque,
    context: ?*anyopaque,
    block: *IO_STATUS_BLOCK,
    control: u32,
    input: ?*const anyopaque,
    input_size: u32,
    output: ?*anyopaque,
    output_size: u32,
) callconv(.winapi) NtStatus;
pub extern "ntdll" fn NtReadFile(
    file: HANDLE,
    event: ?HANDLE,
    routine: ?*const anyopaque,
    context: ?*anyopaque,
    block: *IO_STATUS_BLOCK,
    buffer: *anyopaque,
    size: u32,
    offset: ?*const i64,
    key: ?*const u32,
) callconv(.winapi) NtStatus;
pub extern "ntdll" fn NtWriteFile(
    file: HANDLE,
    event: ?HANDLE,
    routine: ?*const anyopaque,
    context: ?*anyopaque,
    block: *IO_STATUS_BLOCK,
    buffer: *const anyopaque,
    size: u32,
    offset: ?*const i64,
    key: ?*const u32,
) callconv(.winapi) NtStatus;
pub extern "ntdll" fn NtCancelIoFileEx(HANDLE, *const IO_STATUS_BLOCK, *IO_STATUS_BLOCK) callconv(.winapi) NtStatus;
pub extern "ntdll" fn NtQueryInformationFile(
    file: HANDLE,
    block: *IO_STATUS_BLOCK,
    information: *anyopaque,
    size: u32,
    class: u32,
) callconv(.winapi) NtStatus;
pub extern "ntdll" fn RtlWaitOnAddress(
    *const anyopaque,
    *const anyopaque,
    usize,
    ?*const i64,
) callconv(.winapi) NtStatus;
pub extern "ntdll" fn RtlWakeAddressAll(*const anyopaque) callconv(.winapi) void;
pub extern "ntdll" fn NtOpenProcessToken(HANDLE, u32, *HANDLE) callconv(.winapi) NtStatus;
pub extern "ntdll" fn NtQueryInformationToken(HANDLE, u32, *anyopaque, u32, *u32) callconv(.winapi) NtStatus;
pub extern "ntdll" fn RtlCreateSecurityDescriptor(*anyopaque, u32) callconv(.winapi) NtStatus;
pub extern "ntdll" fn RtlSetDaclSecurityDescriptor(*anyopaque, u8, ?*const anyopaque, u8) callconv(.winapi) NtStatus;
pub extern "ntdll" fn RtlCreateAcl(*anyopaque, u32, u32) callconv(.winapi) NtStatus;
pub extern "ntdll" fn RtlAddAccessAllowedAce(*anyopaque, u32, u32, *const anyopaque) callconv(.winapi) NtStatus;

/// Ends one operation of a file early. Its packet comes in any case.
pub fn cancel(file: HANDLE, block: *const IO_STATUS_BLOCK) void {
    var outcome: IO_STATUS_BLOCK = .{};
    // Not found: it has ended already.
    _ = NtCancelIoFileEx(file, block, &outcome);
}

// ---- Memory ----

/// The process's heap. Whole pages, as other platforms use, are 64 KiB apart here.
pub const allocator: std.mem.Allocator = .{ .ptr = undefined, .vtable = &heap };

const heap: std.mem.Allocator.VTable = .{
    .alloc = heapAlloc,
    .resize = std.mem.Allocator.noResize,
    .remap = std.mem.Allocator.noRemap,
    .free = heapFree,
};

/// What the heap aligns to.
const heap_alignment: std.mem.Alignment = .fromByteUnits(2 * @sizeOf(usize));

fn heapAlloc(_: *anyopaque, size: usize, alignment: std.mem.Alignment, _: usize) ?[*]u8 {
    std.debug.assert(alignment.order(heap_alignment) != .gt);
    return @ptrCast(RtlAllocateHeap(windows.GetProcessHeap().?, 0, size));
}

fn heapFree(_: *anyopaque, memory: []u8, _: std.mem.Alignment, _: usize) void {
    _ = RtlFreeHeap(windows.GetProcessHeap().?, 0, memory.ptr);
}

// ---- Time, threads, processes ----

pub fn monotonicNs() u64 {
    var count: i64 = undefined;
    var frequency: i64 = undefined;
    // Neither fails since Windows XP.
    _ = QueryPerformanceCounter(&count);
    _ = QueryPerformanceFrequency(&frequency);
    const ns = @as(u128, @intCast(count)) * std.time.ns_per_s / @as(u128, @intCast(frequency));
    return @intCast(ns);
}

pub const Deadline = @import("../base/deadline.zig").Deadline(monotonicNs);

/// How many processors there are for this process and its peers.
pub fn usableProcessors() u32 {
    const all_groups = 0xffff;
    return GetActiveProcessorCount(all_groups);
}

/// How long to wait in the system's unit, rounded up so that no wait ends early.
pub fn milliseconds(timeout_ns: ?u64) u32 {
    const infinite = std.math.maxInt(u32);
    const ns = timeout_ns orelse return infinite;
    const ms = std.math.divCeil(u64, ns, std.time.ns_per_ms) catch unreachable;
    return @intCast(@min(ms, infinite - 1));
}

pub const ThreadId = i32;

pub fn threadId() ThreadId {
    return @bitCast(GetCurrentThreadId());
}

/// Nothing is inherited that would have to know its process.
pub const Process = struct {
    pub fn current() Process {
        return .{};
    }

    pub fn isCurrent(_: Process) bool {
        return true;
    }

    pub fn afterFork() void {}
};

pub fn lockAllocator() void {}
pub fn unlockAllocator() void {}

pub fn abort(text: []const u8) noreturn {
    const standard_error: u32 = @bitCast(@as(i32, -12));
    if (GetStdHandle(standard_error)) |handle| {
        for ([_][]const u8{ "bbipc: internal error: ", text, "\n" }) |part| {
            _ = WriteFile(handle, part.ptr, @intCast(part.len), null, null);
        }
    }
    @trap();
}

/// Threads that run code of the library, and handlers that the system calls, must not outlive it: it stays loaded.
pub fn stayLoaded() void {
    const pin = 0x1;
    const from_address = 0x4;
    var module: ?HANDLE = null;
    _ = GetModuleHandleExW(pin | from_address, &stayLoaded, &module);
}

/// Whether processes are made by fork().
pub const forks = false;

/// Lets other threads run, which may wait for what this thread gave up.
pub fn yield() void {
    Sleep(1);
}

// ---- Ctrl-C ----

var heeds_console: std.atomic.Value(bool) = .init(false);
/// Has all waits end. Set before the system can call.
var interrupt_waits: *const fn () void = undefined;

/// Nothing interrupts a thread that waits for a completion port, so Ctrl-C has to be heard of (SetConsoleCtrlHandler).
/// For the process's life, from the first thing that can be waited with.
pub fn prepareToWait(interrupt: *const fn () void) void {
    if (heeds_console.swap(true, .acq_rel)) return;
    interrupt_waits = interrupt;
    stayLoaded();
    // A process that refuses is one without a console, and without Ctrl-C.
    _ = SetConsoleCtrlHandler(consoleEvent, 1);
}

/// Runs in a thread that the system makes for it. What the event leads to is decided by the program's own handlers,
/// which are called after this one.
fn consoleEvent(event: u32) callconv(.winapi) BOOL {
    const ctrl_break = 1;
    if (event <= ctrl_break) interrupt_waits();
    return 0;
}

// ---- Locks ----

/// A lock for short sections. Not fair and not recursive.
pub const Lock = struct {
    system: SRWLOCK = .{},

    pub fn lock(self: *Lock) void {
        AcquireSRWLockExclusive(&self.system);
    }

    pub fn unlock(self: *Lock) void {
        ReleaseSRWLockExclusive(&self.system);
    }
};

/// Guards all that the library knows (core/handles.zig). Here, for the reaper and the listeners take it too.
pub var library_lock: Lock = .{};

// ---- Completion ports ----

/// No packet waits because enough threads are running (the concurrency limit): a thread that waits must be woken.
const concurrency_max = std.math.maxInt(i32);

pub fn createPort(failure: *status.Failure) status.Error!HANDLE {
    return CreateIoCompletionPort(invalid_handle, null, 0, concurrency_max) orelse failure.system(lastCode());
}

/// Has the file's operations report to the port.
pub fn associate(port: HANDLE, file: HANDLE, failure: *status.Failure) status.Error!void {
    if (CreateIoCompletionPort(file, port, 0, 0) == null) return failure.system(lastCode());
}

/// Takes packets; none when the time is up. A wait ends at a tick of the system's clock, up to 15.6 ms late.
pub fn dequeue(
    port: HANDLE,
    entries: []OVERLAPPED_ENTRY,
    timeout_ns: ?u64,
    failure: *status.Failure,
) status.Error![]OVERLAPPED_ENTRY {
    return (try takePackets(port, entries, timeout_ns, 0, failure)) orelse entries[0..0];
}

/// The same, but a wait of less than a second ends soon after its time is up: a timer of high resolution ends it.
pub fn dequeueInTime(
    port: HANDLE,
    entries: []OVERLAPPED_ENTRY,
    timeout_ns: ?u64,
    failure: *status.Failure,
) status.Error![]OVERLAPPED_ENTRY {
    const ns = timeout_ns orelse return dequeue(port, entries, null, failure);
    if (ns == 0 or ns >= std.time.ns_per_s) return dequeue(port, entries, ns, failure);
    const until_ns = monotonicNs() + ns;
    // What is there already needs no timer.
    const ready = try dequeue(port, entries, 0, failure);
    if (ready.len > 0) return ready;
    const timer = FineTimer.take() orelse return dequeue(port, entries, ns, failure);
    defer timer.giveBack();
    while (true) {
        const left_ns = until_ns -| monotonicNs();
        if (left_ns == 0) return entries[0..0];
        timer.start(left_ns);
        // The call's own time limit stays, for the case that the timer fails.
        if (try takePackets(port, entries, left_ns, 1, failure)) |packets| return packets;
    }
}

/// Null when the thread was interrupted by a timer, or by anybody's procedure call; that happens only if it is
/// alertable.
fn takePackets(
    port: HANDLE,
    entries: []OVERLAPPED_ENTRY,
    timeout_ns: ?u64,
    alertable: BOOL,
    failure: *status.Failure,
) status.Error!?[]OVERLAPPED_ENTRY {
    var count: u32 = 0;
    const limit = milliseconds(timeout_ns);
    if (GetQueuedCompletionStatusEx(port, entries.ptr, @intCast(entries.len), &count, limit, alertable) != 0)
        return if (count == 0 and alertable != 0) null else entries[0..count];
    // The count can be wrong where the call fails.
    return switch (lastCode()) {
        code.wait_timeout => entries[0..0],
        code.wait_io_completion => null,
        else => |why| failure.system(why),
    };
}

/// Ends a wait of the thread that starts it, if that is alertable, about when its time is up: Windows 10 1803 and later
/// (CreateWaitableTimerExW).
const FineTimer = struct {
    handle: HANDLE,

    const high_resolution = 2;
    const may_be_set = 2; // TIMER_MODIFY_STATE
    /// One is kept, so that most waits needn't make theirs.
    var spare: std.atomic.Value(?HANDLE) = .init(null);

    fn take() ?FineTimer {
        const made = spare.swap(null, .acquire) orelse CreateWaitableTimerExW(null, null, high_resolution, may_be_set);
        return .{ .handle = made orelse return null };
    }

    /// It fails only for wrong arguments.
    fn start(timer: FineTimer, timeout_ns: u64) void {
        // What is less than 0 counts from now, in units of 100 ns.
        const due = -@as(i64, @intCast(std.math.divCeil(u64, timeout_ns, 100) catch unreachable));
        _ = SetWaitableTimer(timer.handle, &due, 0, called, null, 0);
    }

    /// That the thread was interrupted is all that is wanted.
    fn called(_: ?*anyopaque, _: u32, _: u32) callconv(.winapi) void {}

    /// Takes back a call that has not been made, too.
    fn giveBack(timer: FineTimer) void {
        _ = CancelWaitableTimer(timer.handle);
        const left_over = spare.swap(timer.handle, .release) orelse return;
        _ = CloseHandle(left_over);
    }
};

/// Queues a packet of our own.
pub fn post(port: HANDLE, context: ?*anyopaque) void {
    // It fails only for want of the system's memory. The packet must come: somebody waits for it, or it is counted.
    while (PostQueuedCompletionStatus(port, 0, 0, context) == 0) Sleep(1);
}

/// Wakes one of the threads that wait at a port, by a packet without a context.
pub const Waker = struct {
    port: HANDLE,

    /// A signal is heard by one thread.
    pub const lasts = false;

    pub fn open(failure: *status.Failure) status.Error!Waker {
        return .{ .port = try createPort(failure) };
    }

    pub fn close(waker: Waker) void {
        _ = CloseHandle(waker.port);
    }

    pub fn signal(waker: Waker) void {
        post(waker.port, null);
    }

    pub fn drain(_: Waker) void {}
};

const testing = std.testing;

test "a timer ends a wait that has no limit, and a packet ends it before" {
    var failure: status.Failure = .{};
    const port = try createPort(&failure);
    defer _ = CloseHandle(port);
    var room: [1]OVERLAPPED_ENTRY = undefined;
    const timer = FineTimer.take() orelse return error.SkipZigTest; // before Windows 10 1803
    defer timer.giveBack();
    const began_ns = monotonicNs();
    timer.start(3 * std.time.ns_per_ms);
    try testing.expectEqual(null, try takePackets(port, &room, null, 1, &failure));
    try testing.expect(monotonicNs() - began_ns > 2 * std.time.ns_per_ms);
    timer.start(3600 * std.time.ns_per_s);
    post(port, null);
    try testing.expectEqual(1, (try takePackets(port, &room, null, 1, &failure)).?.len);
}

test "a timer that is given back interrupts no later wait, and is taken again" {
    var failure: status.Failure = .{};
    const port = try createPort(&failure);
    defer _ = CloseHandle(port);
    var room: [1]OVERLAPPED_ENTRY = undefined;
    const timer = FineTimer.take() orelse return error.SkipZigTest; // before Windows 10 1803
    timer.start(1);
    Sleep(20);
    timer.giveBack();
    try testing.expectEqual(0, (try takePackets(port, &room, 0, 1, &failure)).?.len);
    const again = FineTimer.take().?;
    defer again.giveBack();
    try testing.expectEqual(timer.handle, again.handle);
}

test "a wait in time ends neither early nor with what came too late" {
    var failure: status.Failure = .{};
    const port = try createPort(&failure);
    defer _ = CloseHandle(port);
    var room: [1]OVERLAPPED_ENTRY = undefined;
    for ([_]u64{ 1, 200, 1_000, 100_000, 2_500_000 }) |timeout_ns| {
        const began_ns = monotonicNs();
        try testing.expectEqual(0, (try dequeueInTime(port, &room, timeout_ns, &failure)).len);
        try testing.expect(monotonicNs() - began_ns >= timeout_ns);
    }
    post(port, null);
    try testing.expectEqual(1, (try dequeueInTime(port, &room, 2_500_000, &failure)).len);
}
