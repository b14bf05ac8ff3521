//! What the tests need of Windows: posix.zig has the same names. Zig's standard library declares few of the system's
//! functions, so they are declared here.

const std = @import("std");
const basics = @import("basics.zig");
const windows = std.os.windows;
const c = basics.c;
const HANDLE = windows.HANDLE;

pub const backends = [_]i32{c.BBIPC_BACKEND_IOCP};
pub const backends_lacking = [_]i32{ c.BBIPC_BACKEND_EPOLL, c.BBIPC_BACKEND_POLL, c.BBIPC_BACKEND_KQUEUE };

/// Local streams are named pipes: they can't be finished, only closed, and have no number for other libraries.
pub const has_pipes = true;
pub const has_fork = false;
pub const is_linux = false;

// Wine is Windows above and Linux below: its TCP is Linux's, and what Windows makes of it is Wine's.

pub fn isWine() bool {
    const ntdll = GetModuleHandleW(std.unicode.utf8ToUtf16LeStringLiteral("ntdll.dll")) orelse return false;
    return GetProcAddress(ntdll, "wine_get_version") != null;
}

/// Windows refuses a client that finds the backlog full, who then tries again for a second or two.
pub fn waitsForBacklog() bool {
    return isWine();
}

/// Makes the coming close of a TCP socket a reset. It is one in any case when bytes are unread.
pub fn prepareReset(_: i64) !void {}

/// What a loopback connection does is known when the call that does it returns.
pub fn awaitBehind(_: i64, _: u32) !void {}

pub fn currentProcess() i64 {
    return GetCurrentProcessId();
}

/// Windows has no numbers for them.
pub fn currentUser() i64 {
    return -1;
}

/// There is no limit to speak of.
pub fn allowDescriptors(_: u32) !void {}

/// There are no Unix domain sockets to ask this of.
pub fn resetsLocal() bool {
    return false;
}

/// A stream that has had no room for this time is full. On a busy machine Wine's TCP makes room late.
pub const full_after_ns = 250 * std.time.ns_per_ms;

/// What a local client gets that finds the backlog full.
pub const full_backlog_error = c.BBIPC_ERROR_SYSTEM;

/// Another address of this machine than 127.0.0.1, if it has one from the start.
pub const second_loopback: u32 = 0x7f000002;

/// Windows drops what has not been read when a reset arrives.
pub fn resetKeepsData() bool {
    return isWine();
}

/// Wine hides the end of a TCP stream behind the bytes before it.
pub fn hidesEndOfTcp() bool {
    return isWine();
}

/// Windows guards a port whose server asked for that while it was open; what connections leave behind differs.
pub fn guardsRememberedPorts() bool {
    return false;
}

/// Whether an emulator runs this program that does less than the system. Wine is dealt with above.
pub fn isEmulated() bool {
    return false;
}

pub fn codesOf(reason: basics.Reason) []const i32 {
    return switch (reason) {
        // WSAEWOULDBLOCK; ERROR_PIPE_BUSY
        .AGAIN, .full_backlog => &.{ 10035, 231 },
        .ADDRINUSE => &.{10048},
        .ADDRNOTAVAIL => &.{10049},
        .BUSY => &.{170},
        .CONNREFUSED => &.{10061},
        .CONNRESET => &.{10054},
        .NOENT => &.{2},
        .NOTCONN => &.{10057},
        // WSAESHUTDOWN; ERROR_NO_DATA, ERROR_BROKEN_PIPE
        .PIPE => &.{ 10058, 232, 109 },
    };
}

// ---- Names ----

/// Pipes have no directories. A plain name is enough.
pub const separator = '-';

pub fn makePlace(io: std.Io, buffer: []u8) ![]const u8 {
    var random: u64 = 0;
    io.random(std.mem.asBytes(&random));
    return std.mem.print(buffer, "bbipc-{x:0>16}", .{random});
}

pub fn removePlace(_: std.Io, _: []const u8) void {}

/// Asks without connecting, which would take a place at the server.
pub fn nameExists(_: std.Io, name: []const u8) bool {
    var buffer: [name_max]u16 = undefined;
    if (WaitNamedPipeW(fullName(&buffer, name), 1).toBool()) return true;
    return windows.GetLastError() != .FILE_NOT_FOUND;
}

const name_max = 512;

fn fullName(buffer: *[name_max]u16, name: []const u8) [*:0]const u16 {
    const prefix = std.unicode.utf8ToUtf16LeStringLiteral("\\\\.\\pipe\\");
    @memcpy(buffer[0..prefix.len], prefix);
    const size = std.unicode.wtf8ToWtf16Le(buffer[prefix.len .. name_max - 1], name) catch unreachable;
    buffer[prefix.len + size] = 0;
    return buffer[0 .. prefix.len + size :0];
}

// ---- What this process has ----

/// How many handles this process has open, without AFD's helpers: the library keeps some selectors for threads that
/// wait, and how many of them have a helper changes. They are counted among the handles of all processes: on Wine, the
/// function that counts those of one process finds none.
pub fn openDescriptors(_: std.Io) !usize {
    // The access that a helper is opened with, and nothing else here.
    const synchronize = 0x00100000;
    const all_handles = 64;
    const too_small = 0xc0000004;
    const Entry = extern struct {
        object: usize,
        process_id: usize,
        handle: usize,
        access: u32,
        trace: u16,
        type: u16,
        attributes: u32,
        reserved: u32,
    };
    const Header = extern struct { count: usize, reserved: usize };
    var size: u32 = 1 << 16;
    while (size <= 1 << 28) : (size *= 2) {
        const buffer = try std.heap.page_allocator.alignedAlloc(u8, .of(Header), size);
        defer std.heap.page_allocator.free(buffer);
        const result = NtQuerySystemInformation(all_handles, buffer.ptr, size, null);
        if (result == too_small) continue;
        if (result != 0) return error.Unexpected;
        const header: *const Header = @ptrCast(buffer.ptr);
        const entries: [*]const Entry = @ptrCast(@alignCast(buffer.ptr + @sizeOf(Header)));
        var count: usize = 0;
        for (entries[0..header.count]) |entry| {
            if (entry.process_id == GetCurrentProcessId() and entry.access != synchronize) count += 1;
        }
        return count;
    }
    return error.Unexpected;
}

var is_warm = false;

/// What the library keeps for good is made at the first use: the thread that serves pipes, the handle that asks about
/// sockets, and what threads that wait at the same time wait with.
pub fn warmUp() !void {
    if (is_warm) return;
    is_warm = true;
    _ = try basics.succeed(c.bbipc_prepare_to_wait(null));
    _ = c.bbipc_connect_to_local_server("bbipc-nobody", 12, null);
    const server = try basics.succeed(c.bbipc_make_ipv4_tcp_server(0x7f000001, 0, 1, 0, null));
    // The timer of short waits.
    if (basics.poll(server, c.BBIPC_CONNECTION_AVAILABLE, 20 * std.time.ns_per_ms) != 0) return error.Unexpected;
    var waits: [waiting_threads_max]basics.Call(basics.poll) = undefined;
    for (&waits) |*wait| try wait.start(.{ server, c.BBIPC_CONNECTION_AVAILABLE, basics.patience_ns });
    try basics.awaitPolling(waits.len);
    _ = try basics.succeed(c.bbipc_close(server));
    for (&waits) |*wait| {
        if (wait.join() != c.BBIPC_ERROR_INVALID_HANDLE) return error.Unexpected;
    }
}

/// More than any test has.
const waiting_threads_max = 80;

/// How much memory of its own this process has: neither programs nor files that are mapped.
pub fn mappedBytes(_: std.Io) !u64 {
    const committed = 0x1000;
    const private = 0x20000;
    var address: usize = 0;
    var total: u64 = 0;
    var information: MemoryInformation = undefined;
    while (VirtualQuery(@ptrFromInt(address), &information, @sizeOf(MemoryInformation)) != 0) {
        if (information.state == committed and information.type == private) total += information.size;
        address = std.math.add(usize, information.base, information.size) catch break;
    }
    return total;
}

/// The system's heap keeps some of what it gets back, and threads that end go a little later. A few bytes for each
/// connection would be more.
pub const mapped_bytes_slack = 64 * 1024;

// ---- Threads ----

/// This thread runs only when no other wants to, from now on. Wine makes nothing of it.
pub fn runIdly() !void {
    const idle = -15;
    if (!SetThreadPriority(GetCurrentThread(), idle).toBool()) return error.Unexpected;
}

// ---- Sockets behind the library's back ----

/// Returns how many bytes the system took, or less than zero.
pub fn sendBehind(descriptor: i64, data: []const u8) i64 {
    return ws2.send(@intCast(descriptor), data.ptr, @intCast(data.len), 0);
}

/// Waits until the remote end's last byte, and its end, have arrived.
pub fn awaitEndBehind(descriptor: i64) !void {
    const end_ns = basics.monotonicNs() + basics.patience_ns;
    var byte: [1]u8 = undefined;
    while (basics.monotonicNs() < end_ns) {
        if (ws2.recv(@intCast(descriptor), &byte, 1, ws2.MSG_PEEK) == 0) return;
        std.Thread.yield() catch {};
    }
    return error.NoEnd;
}

// ---- Peers that know nothing of this library ----

/// One end of a connection. It blocks.
pub fn closeDescriptor(number: i64) void {
    _ = ws2.closesocket(@intCast(number));
}

pub const Peer = union(enum) {
    socket: ws2.SOCKET,
    pipe: HANDLE,

    pub fn number(peer: Peer) i64 {
        return switch (peer) {
            .socket => |socket| @intCast(socket),
            .pipe => |handle| @intCast(@intFromPtr(handle)),
        };
    }

    pub fn connectTcp(port: u16) !Peer {
        const socket = try ws2.open();
        errdefer _ = ws2.closesocket(socket);
        const address: ws2.Address = .loopback(port);
        if (ws2.connect(socket, &address, @sizeOf(ws2.Address)) != 0) return error.Unexpected;
        return .{ .socket = socket };
    }

    pub fn connectLocal(name: []const u8) !Peer {
        var buffer: [name_max]u16 = undefined;
        const generic_read_write = 0xc0000000;
        const open_existing = 3;
        const handle = CreateFileW(fullName(&buffer, name), generic_read_write, 0, null, open_existing, 0, null);
        if (handle == windows.INVALID_HANDLE_VALUE) return error.Unexpected;
        return .{ .pipe = handle };
    }

    pub fn write(peer: Peer, data: []const u8) !void {
        var written: u32 = 0;
        switch (peer) {
            .socket => |socket| {
                const result = ws2.send(socket, data.ptr, @intCast(data.len), 0);
                if (result < 0) return error.Unexpected;
                written = @intCast(result);
            },
            .pipe => |handle| {
                const done = WriteFile(handle, data.ptr, @intCast(data.len), &written, null).toBool();
                if (!done) return error.Unexpected;
            },
        }
        if (written != data.len) return error.Unexpected;
    }

    /// 0 at the end.
    pub fn read(peer: Peer, buffer: []u8) !usize {
        switch (peer) {
            .socket => |socket| {
                const result = ws2.recv(socket, buffer.ptr, @intCast(buffer.len), 0);
                if (result < 0) return error.Unexpected;
                return @intCast(result);
            },
            .pipe => |handle| {
                var size: u32 = 0;
                if (ReadFile(handle, buffer.ptr, @intCast(buffer.len), &size, null).toBool()) return size;
                return if (windows.GetLastError() == .BROKEN_PIPE) 0 else error.Unexpected;
            },
        }
    }

    pub fn close(peer: Peer) void {
        switch (peer) {
            .socket => |socket| _ = ws2.closesocket(socket),
            .pipe => |handle| _ = CloseHandle(handle),
        }
    }
};

pub const Listener = union(enum) {
    socket: struct { socket: ws2.SOCKET, port: u16 },
    /// The pipe that waits for the one client.
    pipe: HANDLE,

    pub fn number(listener: Listener) i64 {
        return switch (listener) {
            .socket => |one| @intCast(one.socket),
            .pipe => |handle| @intCast(@intFromPtr(handle)),
        };
    }

    pub fn listenTcp() !Listener {
        const socket = try ws2.open();
        errdefer _ = ws2.closesocket(socket);
        var address: ws2.Address = .loopback(0);
        var size: c_int = @sizeOf(ws2.Address);
        if (ws2.bind(socket, &address, size) != 0) return error.Unexpected;
        if (ws2.listen(socket, 8) != 0) return error.Unexpected;
        if (ws2.getsockname(socket, &address, &size) != 0) return error.Unexpected;
        return .{ .socket = .{ .socket = socket, .port = std.mem.bigToNative(u16, address.port) } };
    }

    pub fn listenLocal(name: []const u8) !Listener {
        var buffer: [name_max]u16 = undefined;
        const duplex = 3;
        const byte_mode_blocking = 0;
        const handle = CreateNamedPipeW(fullName(&buffer, name), duplex, byte_mode_blocking, 1, 4096, 4096, 0, null);
        if (handle == windows.INVALID_HANDLE_VALUE) return error.Unexpected;
        return .{ .pipe = handle };
    }

    pub fn port(listener: Listener) u16 {
        return listener.socket.port;
    }

    /// The client must have connected.
    pub fn accept(listener: Listener) !Peer {
        switch (listener) {
            .socket => |one| {
                const accepted = ws2.accept(one.socket, null, null);
                if (accepted == ws2.INVALID_SOCKET) return error.Unexpected;
                return .{ .socket = accepted };
            },
            .pipe => |handle| {
                const there = ConnectNamedPipe(handle, null).toBool() or windows.GetLastError() == .PIPE_CONNECTED;
                if (!there) return error.Unexpected;
                return .{ .pipe = handle };
            },
        }
    }

    /// After accepting.
    pub fn close(listener: Listener) void {
        switch (listener) {
            .socket => |one| _ = ws2.closesocket(one.socket),
            .pipe => {}, // it is the connection now
        }
    }
};

// ---- The system's functions ----

const MemoryInformation = extern struct {
    base: usize,
    allocation_base: usize,
    allocation_protection: u32,
    partition: u16,
    size: usize,
    state: u32,
    protection: u32,
    type: u32,
};

const BOOL = windows.BOOL;

extern "kernel32" fn CloseHandle(HANDLE) callconv(.winapi) BOOL;
extern "kernel32" fn ConnectNamedPipe(HANDLE, ?*anyopaque) callconv(.winapi) BOOL;
extern "kernel32" fn CreateFileW([*:0]const u16, u32, u32, ?*anyopaque, u32, u32, ?HANDLE) callconv(.winapi) HANDLE;
extern "kernel32" fn CreateNamedPipeW(
    [*:0]const u16,
    u32,
    u32,
    u32,
    u32,
    u32,
    u32,
    ?*anyopaque,
) callconv(.winapi) HANDLE;
extern "kernel32" fn GetCurrentProcessId() callconv(.winapi) u32;
extern "kernel32" fn GetCurrentThread() callconv(.winapi) HANDLE;
extern "kernel32" fn GetModuleHandleW([*:0]const u16) callconv(.winapi) ?HANDLE;
extern "kernel32" fn GetProcAddress(HANDLE, [*:0]const u8) callconv(.winapi) ?*const anyopaque;
extern "kernel32" fn ReadFile(HANDLE, [*]u8, u32, *u32, ?*anyopaque) callconv(.winapi) BOOL;
extern "kernel32" fn SetThreadPriority(HANDLE, c_int) callconv(.winapi) BOOL;
extern "kernel32" fn VirtualQuery(?*const anyopaque, *MemoryInformation, usize) callconv(.winapi) usize;
extern "kernel32" fn WaitNamedPipeW([*:0]const u16, u32) callconv(.winapi) BOOL;
extern "kernel32" fn WriteFile(HANDLE, [*]const u8, u32, *u32, ?*anyopaque) callconv(.winapi) BOOL;
extern "ntdll" fn NtQuerySystemInformation(u32, *anyopaque, u32, ?*u32) callconv(.winapi) u32;

const ws2 = struct {
    const SOCKET = usize;
    const INVALID_SOCKET = std.math.maxInt(usize);
    const MSG_PEEK = 2;

    const Address = extern struct {
        family: u16,
        port: u16,
        host: u32,
        zero: [8]u8 = @splat(0),

        fn loopback(port: u16) Address {
            const inet = 2;
            return .{
                .family = inet,
                .port = std.mem.nativeToBig(u16, port),
                .host = std.mem.nativeToBig(u32, 0x7f000001),
            };
        }
    };

    fn open() !SOCKET {
        var information: [512]u8 align(8) = undefined;
        const version_2_2 = 0x0202;
        // Never taken back: it counts.
        if (WSAStartup(version_2_2, &information) != 0) return error.Unexpected;
        const inet = 2;
        const stream = 1;
        const result = ws2.socket(inet, stream, 0);
        return if (result == INVALID_SOCKET) error.Unexpected else result;
    }

    extern "ws2_32" fn WSAStartup(u16, *anyopaque) callconv(.winapi) c_int;
    extern "ws2_32" fn accept(SOCKET, ?*Address, ?*c_int) callconv(.winapi) SOCKET;
    extern "ws2_32" fn bind(SOCKET, *const Address, c_int) callconv(.winapi) c_int;
    extern "ws2_32" fn closesocket(SOCKET) callconv(.winapi) c_int;
    extern "ws2_32" fn connect(SOCKET, *const Address, c_int) callconv(.winapi) c_int;
    extern "ws2_32" fn getsockname(SOCKET, *Address, *c_int) callconv(.winapi) c_int;
    extern "ws2_32" fn listen(SOCKET, c_int) callconv(.winapi) c_int;
    extern "ws2_32" fn recv(SOCKET, [*]u8, c_int, c_int) callconv(.winapi) c_int;
    extern "ws2_32" fn send(SOCKET, [*]const u8, c_int, c_int) callconv(.winapi) c_int;
    extern "ws2_32" fn socket(c_int, c_int, c_int) callconv(.winapi) SOCKET;
};
