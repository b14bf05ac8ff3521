//! TCP over IPv4 and IPv6, by Winsock's non-blocking sockets. No overlapped operation moves data, so no buffer outlives
//! a call; what happens to a socket is learnt from AFD (afd.zig).

const std = @import("std");
const sys = @import("../sys.zig");
const afd = @import("../afd.zig");
const arrivals = @import("../../base/arrivals.zig");
const events = @import("../../base/events.zig");
const net = @import("../../net/address.zig");
const status = @import("../../base/status.zig");
const watchers = @import("../watchers.zig");
const Attempt = @import("../../base/attempt.zig").Attempt;
const Outcome = @import("../../base/outcome.zig").Outcome;

const SockaddrIn = extern struct {
    family: u16 = af_inet,
    port: u16,
    address: u32,
    zero: [8]u8 = @splat(0),
};

const SockaddrIn6 = extern struct {
    family: u16 = af_inet6,
    port: u16,
    flow: u32 = 0,
    address: [16]u8,
    scope: u32,
};

const af_inet = 2;
const af_inet6 = 23;
const sock_stream = 1;
const ipproto_tcp = 6;
const tcp_nodelay = 1;
const ipproto_ipv6 = 41;
const ipv6_v6only = 27;
const sol_socket = 0xffff;
const so_acceptconn = 0x0002;
const so_error = 0x1007;
const so_type = 0x1008;
const so_linger = 0x0080;
const so_exclusiveaddruse: i32 = ~@as(i32, 0x0004);
const msg_peek = 0x2;
const sd_send = 1;
const fionbio: u32 = 0x8004667e;
/// Which socket is below those of all layered providers; which is the next one below, for a select() and the like.
const sio_base_handle = 0x48000022;
const sio_bsp_handle = 0x4800001b;
const sio_bsp_handle_select = 0x4800001c;
const sio_bsp_handle_poll = 0x4800001d;
const wsa_flag_overlapped = 0x01;
const wsa_flag_no_handle_inherit = 0x80;
const handle_flag_inherit = 0x1;
const invalid_socket = std.math.maxInt(usize);

/// WSAPROTOCOL_INFOW, which only the system looks into.
const ProtocolInfo = extern struct { words: [157]u32 };

const winsock = struct {
    pub extern "ws2_32" fn WSAStartup(u16, *anyopaque) callconv(.winapi) i32;
    pub extern "ws2_32" fn WSAGetLastError() callconv(.winapi) i32;
    pub extern "ws2_32" fn WSASocketW(i32, i32, i32, ?*ProtocolInfo, u32, u32) callconv(.winapi) sys.SOCKET;
    pub extern "ws2_32" fn WSADuplicateSocketW(sys.SOCKET, u32, *ProtocolInfo) callconv(.winapi) i32;
    pub extern "ws2_32" fn WSAIoctl(
        socket: sys.SOCKET,
        control: u32,
        input: ?*const anyopaque,
        input_size: u32,
        output: ?*anyopaque,
        output_size: u32,
        returned: *u32,
        overlapped: ?*anyopaque,
        routine: ?*const anyopaque,
    ) callconv(.winapi) i32;
    pub extern "ws2_32" fn ioctlsocket(sys.SOCKET, u32, *u32) callconv(.winapi) i32;
    pub extern "ws2_32" fn closesocket(sys.SOCKET) callconv(.winapi) i32;
    pub extern "ws2_32" fn bind(sys.SOCKET, *const AnyName, i32) callconv(.winapi) i32;
    pub extern "ws2_32" fn listen(sys.SOCKET, i32) callconv(.winapi) i32;
    pub extern "ws2_32" fn connect(sys.SOCKET, *const AnyName, i32) callconv(.winapi) i32;
    pub extern "ws2_32" fn accept(sys.SOCKET, *AnyName, *i32) callconv(.winapi) sys.SOCKET;
    pub extern "ws2_32" fn getsockname(sys.SOCKET, *AnyName, *i32) callconv(.winapi) i32;
    pub extern "ws2_32" fn getpeername(sys.SOCKET, *AnyName, *i32) callconv(.winapi) i32;
    pub extern "ws2_32" fn getsockopt(sys.SOCKET, i32, i32, *anyopaque, *i32) callconv(.winapi) i32;
    pub extern "ws2_32" fn setsockopt(sys.SOCKET, i32, i32, *const anyopaque, i32) callconv(.winapi) i32;
    pub extern "ws2_32" fn recv(sys.SOCKET, [*]u8, i32, i32) callconv(.winapi) i32;
    pub extern "ws2_32" fn send(sys.SOCKET, [*]const u8, i32, i32) callconv(.winapi) i32;
    pub extern "ws2_32" fn shutdown(sys.SOCKET, i32) callconv(.winapi) i32;
};

const AnyName = extern union { ipv4: SockaddrIn, ipv6: SockaddrIn6 };

/// An address of TCP in the system's form.
const Name = struct {
    name: AnyName,
    size: i32,

    fn of(address: net.Address) Name {
        return switch (address) {
            .local => unreachable,
            .ipv4 => |one| .{ .size = @sizeOf(SockaddrIn), .name = .{ .ipv4 = .{
                .port = std.mem.nativeToBig(u16, one.port),
                .address = std.mem.nativeToBig(u32, one.host),
            } } },
            .ipv6 => |one| .{ .size = @sizeOf(SockaddrIn6), .name = .{ .ipv6 = .{
                .port = std.mem.nativeToBig(u16, one.port),
                .address = one.host,
                .scope = one.scope,
            } } },
        };
    }

    fn toAddress(name: *const Name) net.Address {
        if (name.name.ipv4.family == af_inet6) return .{ .ipv6 = .{
            .host = name.name.ipv6.address,
            .scope = name.name.ipv6.scope,
            .port = std.mem.bigToNative(u16, name.name.ipv6.port),
        } };
        return .{ .ipv4 = .{
            .host = std.mem.bigToNative(u32, name.name.ipv4.address),
            .port = std.mem.bigToNative(u16, name.name.ipv4.port),
        } };
    }
};

/// Winsock counts start-ups in each process; the library's own lasts until the process ends.
var started: std.atomic.Value(bool) = .init(false);

fn start(failure: *status.Failure) status.Error!void {
    if (started.load(.acquire)) return;
    const version_2_2 = 0x0202;
    // WSADATA, which has 408 bytes at the most.
    var data: [512]u8 align(8) = undefined;
    const result = winsock.WSAStartup(version_2_2, &data);
    if (result != 0) return failure.system(result);
    try afd.prepare(failure);
    started.store(true, .release);
}

pub const Socket = struct {
    socket: sys.SOCKET,
    /// What AFD knows it by: providers can wrap it.
    base: sys.HANDLE,
    family: net.Family,

    fn open(family: net.Family, dual_stack: bool, failure: *status.Failure) status.Error!Socket {
        try start(failure);
        const flags = wsa_flag_overlapped | wsa_flag_no_handle_inherit;
        const number: i32 = switch (family) {
            .ipv4 => af_inet,
            .ipv6 => af_inet6,
        };
        const socket = winsock.WSASocketW(number, sock_stream, ipproto_tcp, null, 0, flags);
        if (socket == invalid_socket) return failure.system(winsock.WSAGetLastError());
        var self = try adopt(socket, family, failure);
        errdefer self.close();
        if (family == .ipv6) try self.set(ipproto_ipv6, ipv6_v6only, @intFromBool(!dual_stack), failure);
        return self;
    }

    /// Owns the socket from the call on.
    fn adopt(socket: sys.SOCKET, family: net.Family, failure: *status.Failure) status.Error!Socket {
        errdefer _ = winsock.closesocket(socket);
        return prepare(socket, family, failure);
    }

    /// Owns the socket if it succeeds.
    fn prepare(socket: sys.SOCKET, family: net.Family, failure: *status.Failure) status.Error!Socket {
        if (!makeNonBlocking(socket)) return failure.system(winsock.WSAGetLastError());
        const base = findBase(BaseQuestions, @ptrFromInt(socket)) orelse return failure.system(sys.code.wsa_eopnotsupp);
        var self: Socket = .{ .socket = socket, .base = base, .family = family };
        // The system can refuse it, of a connection that was reset for example (WSAEINVAL). The socket works without.
        var ignored: status.Failure = .{};
        self.set(ipproto_tcp, tcp_nodelay, 1, &ignored) catch {};
        return self;
    }

    /// Another number of the same socket, not inherited by other processes.
    pub fn duplicate(self: *Socket, failure: *status.Failure) status.Error!sys.SOCKET {
        var information: ProtocolInfo = undefined;
        if (winsock.WSADuplicateSocketW(self.socket, sys.GetCurrentProcessId(), &information) != 0)
            return failure.system(winsock.WSAGetLastError());
        const any = -1; // FROM_PROTOCOL_INFO
        const flags = wsa_flag_overlapped | wsa_flag_no_handle_inherit;
        const socket = winsock.WSASocketW(any, any, any, &information, 0, flags);
        return if (socket == invalid_socket) failure.system(winsock.WSAGetLastError()) else socket;
    }

    fn makeNonBlocking(socket: sys.SOCKET) bool {
        var non_blocking: u32 = 1;
        return winsock.ioctlsocket(socket, fionbio, &non_blocking) == 0;
    }

    /// What is under way is given up by the coming close, and the remote end gets a reset.
    pub fn prepareAbort(self: *Socket) void {
        const linger: extern struct { on: u16, seconds: u16 } = .{ .on = 1, .seconds = 0 };
        _ = winsock.setsockopt(self.socket, sol_socket, so_linger, &linger, @sizeOf(@TypeOf(linger)));
    }

    pub fn close(self: *Socket) void {
        _ = winsock.closesocket(self.socket);
    }

    fn set(self: *Socket, level: i32, option: i32, value: i32, failure: *status.Failure) status.Error!void {
        const result = winsock.setsockopt(self.socket, level, option, &value, @sizeOf(i32));
        if (result != 0) return failure.system(winsock.WSAGetLastError());
    }

    fn bindTo(self: *Socket, address: net.Address, failure: *status.Failure) status.Error!void {
        const name: Name = .of(address);
        if (winsock.bind(self.socket, &name.name, name.size) == 0) return;
        const why = winsock.WSAGetLastError();
        // Another socket has the port for itself.
        return failure.system(if (why == sys.code.wsa_eacces) sys.code.wsa_eaddrinuse else why);
    }

    pub fn localAddress(self: *Socket, failure: *status.Failure) status.Error!net.Address {
        const unspecified: net.Address = .unspecified(self.family);
        var name: Name = .of(unspecified);
        if (winsock.getsockname(self.socket, &name.name, &name.size) == 0) return name.toAddress();
        const why = winsock.WSAGetLastError();
        // It has none yet.
        return if (why == sys.code.wsa_einval) unspecified else failure.system(why);
    }

    fn acceptClient(self: *Socket, failure: *status.Failure) status.Error!arrivals.Arrival(Client) {
        // Somebody who has the socket's number can have made it a blocking one.
        if (!makeNonBlocking(self.socket)) return failure.system(winsock.WSAGetLastError());
        var name: Name = .of(.unspecified(self.family));
        const socket = winsock.accept(self.socket, &name.name, &name.size);
        if (socket == invalid_socket) {
            const why = winsock.WSAGetLastError();
            if (why == sys.code.wsa_ewouldblock) return .nothing;
            return if (isOfClient(why)) .vanished else failure.system(why);
        }
        // The flag of the listening socket is not passed on.
        _ = sys.SetHandleInformation(@ptrFromInt(socket), handle_flag_inherit, 0);
        const client = adopt(socket, self.family, failure) catch |err|
            return if (isOfClient(failure.system_code)) .vanished else err;
        return .{ .client = .{ .socket = client, .address = name.toAddress() } };
    }

    /// Whether what went wrong is that one client's, and no error of the server.
    fn isOfClient(why: i32) bool {
        return switch (why) {
            sys.code.wsa_econnreset, sys.code.wsa_econnaborted, sys.code.wsa_enotconn => true,
            else => false,
        };
    }

    /// Bytes per call at most. A large one would have the system hold as much memory as it names.
    const receive_max = std.math.maxInt(i32);
    const send_max = 256 * 1024;

    pub fn receive(self: *Socket, buffer: []u8, peek: bool) Outcome {
        const size: i32 = @intCast(@min(buffer.len, receive_max));
        const result = winsock.recv(self.socket, buffer.ptr, size, if (peek) msg_peek else 0);
        return if (result >= 0) .{ .count = @intCast(result) } else failedToReceive(winsock.WSAGetLastError());
    }

    pub fn send(self: *Socket, data: []const u8) Outcome {
        const result = winsock.send(self.socket, data.ptr, @intCast(@min(data.len, send_max)), 0);
        return if (result >= 0) .{ .count = @intCast(result) } else failedToSend(winsock.WSAGetLastError());
    }

    fn failedToReceive(why: i32) Outcome {
        return switch (why) {
            sys.code.wsa_ewouldblock => .nothing,
            sys.code.wsa_efault, sys.code.wsa_enobufs, sys.code.wsa_enotsock => .{ .refused = why },
            // Said of an attempt to connect that has failed for a reason of its own.
            sys.code.wsa_enotconn => .{ .broken = 0 },
            else => .{ .broken = why },
        };
    }

    fn failedToSend(why: i32) Outcome {
        return switch (why) {
            sys.code.wsa_ewouldblock => .nothing,
            sys.code.wsa_econnreset, sys.code.wsa_econnaborted => .{ .broken = why },
            else => .{ .refused = why },
        };
    }

    pub fn finishWriting(self: *Socket, failure: *status.Failure) status.Error!void {
        if (winsock.shutdown(self.socket, sd_send) != 0) return failure.system(winsock.WSAGetLastError());
    }

    /// With the library's lock held.
    pub fn conditionsNow(self: *Socket) events.Conditions {
        return afd.conditionsNow(self.base);
    }

    /// SO_ERROR: why an attempt to connect has failed.
    pub fn takeError(self: *Socket) i32 {
        var why: i32 = 0;
        var size: i32 = @sizeOf(i32);
        const result = winsock.getsockopt(self.socket, sol_socket, so_error, &why, &size);
        return if (result == 0) why else winsock.WSAGetLastError();
    }
};

// ---- Below layered providers ----

const BaseQuestions = struct {
    fn ask(socket: sys.HANDLE, question: u32) ?sys.HANDLE {
        var base: sys.HANDLE = undefined;
        var size: u32 = 0;
        const number = @intFromPtr(socket);
        const room: *anyopaque = @ptrCast(&base);
        const result = winsock.WSAIoctl(number, question, null, 0, room, @sizeOf(sys.HANDLE), &size, null, null);
        return if (result == 0) base else null;
    }

    const isAfds = afd.knows;
};

/// More than anybody installs.
const layers_max = 16;

/// The socket that AFD knows, below those of layered providers. They must not answer SIO_BASE_HANDLE themselves, but
/// some do, with an error; then each layer is asked for the next (as wepoll and mio do).
fn findBase(system: type, socket: sys.HANDLE) ?sys.HANDLE {
    var current = socket;
    for (0..layers_max) |_| {
        if (system.ask(current, sio_base_handle)) |base| return base;
        current = for ([_]u32{ sio_bsp_handle_select, sio_bsp_handle_poll, sio_bsp_handle }) |question| {
            const below = system.ask(current, question) orelse continue;
            if (below != current) break below;
        } else break;
    }
    // Where there are no such questions, nothing wraps it.
    return if (system.isAfds(current)) current else null;
}

test "the socket below layered providers is found, also where they don't tell it" {
    const testing = std.testing;
    const Layers = struct {
        /// Number 1 is AFD's; each other wraps the one below. Those of `silent` and above don't know of
        /// SIO_BASE_HANDLE.
        var silent: usize = 99;
        var answered: u32 = sio_bsp_handle_poll;
        var hides = false;

        fn ask(socket: sys.HANDLE, question: u32) ?sys.HANDLE {
            const number = @intFromPtr(socket);
            if (question == sio_base_handle) return if (number < silent) @ptrFromInt(1) else null;
            if (hides or question != answered) return null;
            return @ptrFromInt(@max(number - 1, 1));
        }

        fn isAfds(socket: sys.HANDLE) bool {
            return @intFromPtr(socket) == 1;
        }
    };
    const base: ?sys.HANDLE = @ptrFromInt(1);
    const third: sys.HANDLE = @ptrFromInt(3);
    try testing.expectEqual(base, findBase(Layers, third));
    const questions = [_]u32{ sio_bsp_handle_select, sio_bsp_handle_poll, sio_bsp_handle };
    for ([_]usize{ 3, 2, 1 }) |silent| for (questions) |answered| {
        Layers.silent = silent;
        Layers.answered = answered;
        try testing.expectEqual(base, findBase(Layers, third));
    };
    // No question is answered: that is right for a socket that is not wrapped, and otherwise an error.
    Layers.hides = true;
    try testing.expectEqual(base, findBase(Layers, base.?));
    try testing.expectEqual(null, findBase(Layers, third));
}

// ---- Sockets that somebody else has made ----

const Adopted = struct {
    socket: sys.SOCKET,
    family: net.Family,

    /// Owns the socket if it succeeds. Operations of its former owner go on, and completion ports don't matter: nothing
    /// here is overlapped.
    fn takeOver(adopted: Adopted, failure: *status.Failure) status.Error!Socket {
        const taken: Socket = try .prepare(adopted.socket, adopted.family, failure);
        _ = sys.SetHandleInformation(@ptrFromInt(adopted.socket), handle_flag_inherit, 0);
        return taken;
    }
};

/// Makes sure that it is a TCP socket that listens, or doesn't.
fn check(number: i64, should_listen: bool, failure: *status.Failure) status.Error!Adopted {
    try start(failure);
    const socket = std.math.cast(sys.SOCKET, number) orelse return failure.system(sys.code.wsa_enotsock);
    if (try optionOf(socket, so_type, failure) != sock_stream) return failure.system(sys.code.wsa_eprototype);
    // Room for an address of any family. One that is not bound has none.
    var name: extern union { any: AnyName, bytes: [128]u8 } = .{ .bytes = @splat(0) };
    var size: i32 = @sizeOf(@TypeOf(name));
    if (winsock.getsockname(socket, &name.any, &size) != 0) {
        const why = winsock.WSAGetLastError();
        return failure.system(if (why == sys.code.wsa_einval) sys.code.wsa_enotconn else why);
    }
    const family: net.Family = switch (name.any.ipv4.family) {
        af_inet => .ipv4,
        af_inet6 => .ipv6,
        else => return failure.system(sys.code.wsa_eafnosupport),
    };
    const listens = try optionOf(socket, so_acceptconn, failure) != 0;
    return if (listens == should_listen) .{ .socket = socket, .family = family } else error.WrongKind;
}

fn optionOf(socket: sys.SOCKET, option: i32, failure: *status.Failure) status.Error!i32 {
    // Some options are a single byte.
    var value: i32 = 0;
    var size: i32 = @sizeOf(i32);
    if (winsock.getsockopt(socket, sol_socket, option, &value, &size) != 0)
        return failure.system(winsock.WSAGetLastError());
    return value;
}

pub fn adoptStream(number: i64, failure: *status.Failure) status.Error!Client {
    const adopted = try check(number, false, failure);
    var name: Name = .of(.unspecified(adopted.family));
    if (winsock.getpeername(adopted.socket, &name.name, &name.size) != 0)
        return failure.system(winsock.WSAGetLastError());
    return .{ .socket = try adopted.takeOver(failure), .address = name.toAddress() };
}

pub fn adoptListener(number: i64, failure: *status.Failure) status.Error!*Listener {
    const adopted = try check(number, true, failure);
    return .create(try adopted.takeOver(failure));
}

// ---- Servers ----

pub const Client = struct { socket: Socket, address: net.Address };

/// A server's socket.
///
/// A connection that AFD tells of can be reset before it is accepted, and is nobody's then. So a server that is asked
/// whether a client is there accepts it: only a client that it holds is certain. It holds one at the most.
///
/// AFD tells nobody of that client any more. So a watch that begins while the server holds a client is told at once. A
/// watch that had begun before is cancelled, and its packet leads to another look.
pub const Listener = struct {
    socket: Socket,
    // Under the library's lock.
    held: ?Client = null,
    /// Whether the last look for a client found some that had gone.
    passed_over: bool = false,
    /// Those that AFD is to tell.
    watching: watchers.List = .{},

    /// Owns the socket if it succeeds.
    fn create(socket: Socket) status.Error!*Listener {
        const self = try sys.allocator.create(Listener);
        self.* = .{ .socket = socket };
        return self;
    }

    /// With the library's lock held.
    pub fn conditionsNow(self: *Listener) events.Conditions {
        if (self.held != null) return .{ .readable = true };
        self.passed_over = false;
        const conditions = afd.conditionsNow(self.socket.base);
        if (!conditions.readable) return conditions;
        var failure: status.Failure = .{};
        // What the system refuses, accept_connection tells.
        const client = self.next(&failure) catch return conditions;
        if (client == null) return .{};
        self.held = client;
        watchers.lookAgain(&self.watching);
        return .{ .readable = true };
    }

    pub fn accept(self: *Listener, failure: *status.Failure) status.Error!?Client {
        const lock = &sys.library_lock;
        lock.lock();
        defer lock.unlock();
        const held = self.held orelse return self.next(failure);
        self.held = null;
        return held;
    }

    fn next(self: *Listener, failure: *status.Failure) status.Error!?Client {
        return arrivals.first(Client, acceptOne, .{ self, failure });
    }

    fn acceptOne(self: *Listener, failure: *status.Failure) status.Error!arrivals.Arrival(Client) {
        const arrival = try self.socket.acceptClient(failure);
        if (arrival == .vanished) self.passed_over = true;
        return arrival;
    }

    pub fn close(self: *Listener) void {
        std.debug.assert(self.watching.first == null);
        // As the system does with those that nobody has accepted.
        if (self.held) |*client| {
            client.socket.prepareAbort();
            client.socket.close();
        }
        self.socket.close();
        sys.allocator.destroy(self);
    }
};

/// The backlog for listen(), which cuts a plain number above 200 to 200, without an error. A negated number is taken as
/// it is, up to 65535 (SOMAXCONN_HINT).
fn backlogFor(backlog: i32) i32 {
    const plain_max = 200;
    const hint_max = 65535;
    return if (backlog <= plain_max) backlog else -@min(backlog, hint_max);
}

test "a backlog above 200 is a hint, for the system would cut it" {
    const testing = std.testing;
    for ([_][2]i32{
        .{ 0, 0 },        .{ 128, 128 },      .{ 200, 200 },      .{ 201, -201 },
        .{ 5000, -5000 }, .{ 65535, -65535 }, .{ 65536, -65535 }, .{ std.math.maxInt(i32), -65535 },
    }) |case| try testing.expectEqual(case[1], backlogFor(case[0]));
}

pub fn listen(address: net.Address, how: net.Listening, failure: *status.Failure) status.Error!*Listener {
    var socket: Socket = try .open(address.family(), how.dual_stack, failure);
    errdefer socket.close();
    // Never SO_REUSEADDR: here it would let two servers have one port. Without either option a server can have the port
    // of an earlier one whose connections linger; with this one it can't, and no other program can take the port from
    // it.
    if (!how.reuse_address) try socket.set(sol_socket, so_exclusiveaddruse, 1, failure);
    try socket.bindTo(address, failure);
    if (winsock.listen(socket.socket, backlogFor(how.backlog)) != 0) return failure.system(winsock.WSAGetLastError());
    return .create(socket);
}

/// Elsewhere a client of the address that stands for all reaches this machine itself. Windows refuses it
/// (WSAEADDRNOTAVAIL).
pub fn connect(remote: net.Address, local: ?net.Local, failure: *status.Failure) status.Error!Attempt(Socket) {
    var socket: Socket = try .open(remote.family(), false, failure);
    errdefer socket.close();
    // Without an option for it, as said of servers: a port whose connections linger is free, and SO_REUSEADDR would let
    // the stream have one that another socket uses.
    if (local) |from| try socket.bindTo(from.address, failure);

    const name: Name = .of(remote.reached());
    const result = winsock.connect(socket.socket, &name.name, name.size);
    if (result == 0) return .{ .transport = socket, .state = .connected };
    return .{ .transport = socket, .state = switch (winsock.WSAGetLastError()) {
        sys.code.wsa_ewouldblock, sys.code.wsa_einprogress => .under_way,
        else => |why| .{ .failed = why },
    } };
}
