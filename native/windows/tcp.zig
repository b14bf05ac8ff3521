//! IPv4 servers and streams over Winsock's non-blocking sockets. No overlapped operation moves data, so no buffer outlives a
//! call; what happens to a socket is learnt from AFD (afd.zig).

const std = @import("std");
const sys = @import("sys.zig");
const afd = @import("afd.zig");
const status = @import("../status.zig");
const Connection = @import("../connection.zig").Connection;
const sockets = @import("stream.zig");

const SockaddrIn = extern struct {
    family: u16 = af_inet,
    port: u16,
    address: u32,
    zero: [8]u8 = @splat(0),
};

const af_inet = 2;
const sock_stream = 1;
const ipproto_tcp = 6;
const tcp_nodelay = 1;
const sol_socket = 0xffff;
const so_error = 0x1007;
const so_exclusiveaddruse: i32 = ~@as(i32, 0x0004);
const msg_peek = 0x2;
const sd_send = 1;
const fionbio: u32 = 0x8004667e;
const sio_base_handle = 0x48000022;
const wsa_flag_overlapped = 0x01;
const wsa_flag_no_handle_inherit = 0x80;
const handle_flag_inherit = 0x1;
const invalid_socket = std.math.maxInt(usize);

const winsock = struct {
    pub extern "ws2_32" fn WSAStartup(u16, *anyopaque) callconv(.winapi) i32;
    pub extern "ws2_32" fn WSAGetLastError() callconv(.winapi) i32;
    pub extern "ws2_32" fn WSASocketW(i32, i32, i32, ?*anyopaque, u32, u32) callconv(.winapi) sys.SOCKET;
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
    pub extern "ws2_32" fn bind(sys.SOCKET, *const SockaddrIn, i32) callconv(.winapi) i32;
    pub extern "ws2_32" fn listen(sys.SOCKET, i32) callconv(.winapi) i32;
    pub extern "ws2_32" fn connect(sys.SOCKET, *const SockaddrIn, i32) callconv(.winapi) i32;
    pub extern "ws2_32" fn accept(sys.SOCKET, *SockaddrIn, *i32) callconv(.winapi) sys.SOCKET;
    pub extern "ws2_32" fn getsockname(sys.SOCKET, *SockaddrIn, *i32) callconv(.winapi) i32;
    pub extern "ws2_32" fn getsockopt(sys.SOCKET, i32, i32, *anyopaque, *i32) callconv(.winapi) i32;
    pub extern "ws2_32" fn setsockopt(sys.SOCKET, i32, i32, *const anyopaque, i32) callconv(.winapi) i32;
    pub extern "ws2_32" fn recv(sys.SOCKET, [*]u8, i32, i32) callconv(.winapi) i32;
    pub extern "ws2_32" fn send(sys.SOCKET, [*]const u8, i32, i32) callconv(.winapi) i32;
    pub extern "ws2_32" fn shutdown(sys.SOCKET, i32) callconv(.winapi) i32;
};

/// Both in the host's byte order, as in bbipc.h.
pub const Address = struct {
    host: u32,
    port: u16,

    pub const unspecified: Address = .{ .host = 0, .port = 0 };

    fn toSystem(address: Address) SockaddrIn {
        return .{
            .port = std.mem.nativeToBig(u16, address.port),
            .address = std.mem.nativeToBig(u32, address.host),
        };
    }

    fn fromSystem(address: SockaddrIn) Address {
        return .{
            .host = std.mem.bigToNative(u32, address.address),
            .port = std.mem.bigToNative(u16, address.port),
        };
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

/// What moved a step further, or why not.
pub const Outcome = union(enum) {
    count: usize,
    /// Not now.
    nothing,
    /// The system's code.
    failed: i32,
};

pub const Socket = struct {
    socket: sys.SOCKET,
    /// What AFD knows it by: providers can wrap it.
    base: sys.HANDLE,

    fn open(failure: *status.Failure) status.Error!Socket {
        try start(failure);
        const flags = wsa_flag_overlapped | wsa_flag_no_handle_inherit;
        const socket = winsock.WSASocketW(af_inet, sock_stream, ipproto_tcp, null, 0, flags);
        if (socket == invalid_socket) return failure.system(winsock.WSAGetLastError());
        return adopt(socket, failure);
    }

    /// Owns the socket from the call on.
    fn adopt(socket: sys.SOCKET, failure: *status.Failure) status.Error!Socket {
        errdefer _ = winsock.closesocket(socket);
        var non_blocking: u32 = 1;
        if (winsock.ioctlsocket(socket, fionbio, &non_blocking) != 0) return failure.system(winsock.WSAGetLastError());
        var self: Socket = .{ .socket = socket, .base = @ptrFromInt(socket) };
        var size: u32 = 0;
        // Where there is no such question, nothing wraps the socket.
        _ = winsock.WSAIoctl(socket, sio_base_handle, null, 0, @ptrCast(&self.base), @sizeOf(sys.HANDLE), &size, null, null);
        const one: i32 = 1;
        try self.set(ipproto_tcp, tcp_nodelay, one, failure);
        return self;
    }

    pub fn close(self: *Socket) void {
        _ = winsock.closesocket(self.socket);
    }

    fn set(self: *Socket, level: i32, option: i32, value: i32, failure: *status.Failure) status.Error!void {
        const result = winsock.setsockopt(self.socket, level, option, &value, @sizeOf(i32));
        if (result != 0) return failure.system(winsock.WSAGetLastError());
    }

    fn bindTo(self: *Socket, address: Address, failure: *status.Failure) status.Error!void {
        const name = address.toSystem();
        if (winsock.bind(self.socket, &name, @sizeOf(SockaddrIn)) == 0) return;
        const why = winsock.WSAGetLastError();
        // Another socket has the port for itself.
        return failure.system(if (why == sys.code.wsa_eacces) sys.code.wsa_eaddrinuse else why);
    }

    pub fn localAddress(self: *Socket, failure: *status.Failure) status.Error!Address {
        var name = Address.unspecified.toSystem();
        var size: i32 = @sizeOf(SockaddrIn);
        if (winsock.getsockname(self.socket, &name, &size) == 0) return .fromSystem(name);
        const why = winsock.WSAGetLastError();
        // It has none yet.
        return if (why == sys.code.wsa_einval) .unspecified else failure.system(why);
    }

    pub const Accepted = union(enum) {
        client: struct { socket: Socket, address: Address },
        nothing,
        /// It came and went.
        vanished,
    };

    pub fn acceptClient(self: *Socket, failure: *status.Failure) status.Error!Accepted {
        // Somebody who has the socket's number can have made it a blocking one.
        if (!afd.conditionsNow(self.base).readable) return .nothing;
        var name = Address.unspecified.toSystem();
        var size: i32 = @sizeOf(SockaddrIn);
        const socket = winsock.accept(self.socket, &name, &size);
        if (socket == invalid_socket) {
            const why = winsock.WSAGetLastError();
            if (why == sys.code.wsa_ewouldblock) return .nothing;
            return if (isOfClient(why)) .vanished else failure.system(why);
        }
        // The flag of the listening socket is not passed on.
        _ = sys.SetHandleInformation(@ptrFromInt(socket), handle_flag_inherit, 0);
        const client = adopt(socket, failure) catch |err|
            return if (isOfClient(failure.system_code)) .vanished else err;
        return .{ .client = .{ .socket = client, .address = .fromSystem(name) } };
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
        return outcome(winsock.recv(self.socket, buffer.ptr, size, if (peek) msg_peek else 0));
    }

    pub fn transmit(self: *Socket, data: []const u8) Outcome {
        return outcome(winsock.send(self.socket, data.ptr, @intCast(@min(data.len, send_max)), 0));
    }

    fn outcome(result: i32) Outcome {
        if (result >= 0) return .{ .count = @intCast(result) };
        const why = winsock.WSAGetLastError();
        return if (why == sys.code.wsa_ewouldblock) .nothing else .{ .failed = why };
    }

    pub fn finishWriting(self: *Socket) i32 {
        return if (winsock.shutdown(self.socket, sd_send) == 0) 0 else winsock.WSAGetLastError();
    }

    /// SO_ERROR: why an attempt to connect has failed.
    pub fn takeError(self: *Socket) i32 {
        var why: i32 = 0;
        var size: i32 = @sizeOf(i32);
        const result = winsock.getsockopt(self.socket, sol_socket, so_error, &why, &size);
        return if (result == 0) why else winsock.WSAGetLastError();
    }
};

pub fn listen(
    address: Address,
    backlog: i32,
    reuse_address: bool,
    failure: *status.Failure,
) status.Error!sockets.Server {
    var socket: Socket = try .open(failure);
    errdefer socket.close();
    // Never SO_REUSEADDR: here it would let two servers have one port. Without either option a server can have the port of
    // an earlier one whose connections linger; with this one it can't, and no other program can take the port from it.
    if (!reuse_address) try socket.set(sol_socket, so_exclusiveaddruse, 1, failure);
    try socket.bindTo(address, failure);
    if (winsock.listen(socket.socket, backlog) != 0) return failure.system(winsock.WSAGetLastError());
    return .{ .transport = .{ .tcp = socket } };
}

/// A port of the system's choice can be the very port that is connected to. TCP then connects the socket with itself
/// (simultaneous open, RFC 9293, 3.5), where a user expects to be refused; another try gets another port.
const self_connects_max = 8;

pub fn connect(remote: Address, local: Address, failure: *status.Failure) status.Error!sockets.Stream {
    for (0..self_connects_max) |_| {
        var stream = try connectOnce(remote, local, failure);
        errdefer stream.transport.tcp.socket.close();
        if (local.port != 0 or stream.connection.known.load().failed) return stream;
        const chosen = try stream.transport.tcp.socket.localAddress(failure);
        if (!std.meta.eql(chosen, remote)) return stream;
        stream.transport.tcp.socket.close();
    }
    return failure.system(sys.code.wsa_econnrefused);
}

fn connectOnce(remote: Address, local: Address, failure: *status.Failure) status.Error!sockets.Stream {
    var socket: Socket = try .open(failure);
    errdefer socket.close();
    if (!std.meta.eql(local, Address.unspecified)) try socket.bindTo(local, failure);

    var connection: Connection = .{};
    const name = remote.toSystem();
    if (winsock.connect(socket.socket, &name, @sizeOf(SockaddrIn)) == 0) {
        connection.establish();
    } else switch (winsock.WSAGetLastError()) {
        sys.code.wsa_ewouldblock, sys.code.wsa_einprogress => {},
        else => |why| connection.fail(why),
    }
    return .{ .connection = connection, .transport = .{ .tcp = .{ .socket = socket, .remote_address = remote } } };
}
