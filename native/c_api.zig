//! The exported functions: they check their arguments, call, and map the error. bbipc.h documents them.

const std = @import("std");
const events = @import("base/events.zig");
const handles = @import("core/handles.zig");
const places = @import("base/places.zig");
const platform = @import("platform.zig");
const net = @import("net/address.zig");
const pollers = @import("core/poller.zig");
const Server = @import("core/server.zig").Server;
const socket_events = @import("core/socket_events.zig");
const Stream = @import("core/stream.zig").Stream;
const polling = @import("core/poll_sockets.zig");
const python = @import("cpython/python.zig");
const status = @import("base/status.zig");
const transfer = @import("core/transfer.zig");

const Handle = handles.Handle;
const Result = i64;
const table = &handles.table;

pub const version = versionOf(@embedFile("include/bbipc.h"));

/// The header is the one place where the version is written.
fn versionOf(comptime header: []const u8) [:0]const u8 {
    @setEvalBranchQuota(header.len * 4);
    const define = "#define BBIPC_VERSION \"";
    const start = std.mem.indexOf(u8, header, define).? + define.len;
    const size = std.mem.indexOfScalar(u8, header[start..], '"').?;
    return header[start..][0..size] ++ "";
}

fn finish(outcome: status.Error!Result, failure: *const status.Failure, system_code: ?*i32) Result {
    return outcome catch |err| {
        if (status.carriesSystemCode(err)) {
            if (system_code) |out| out.* = failure.system_code;
        }
        return status.fromError(err);
    };
}

fn finishPlain(outcome: status.Error!Result) Result {
    return outcome catch |err| status.fromError(err);
}

// ---- The library ----

pub export fn bbipc_version() callconv(.c) [*:0]const u8 {
    return version;
}

pub export fn bbipc_error_message(code: Result) callconv(.c) [*:0]const u8 {
    return status.message(code);
}

pub export fn bbipc_open_handles() callconv(.c) u64 {
    return table.open_count.load(.monotonic);
}

pub export fn bbipc_before_fork() callconv(.c) void {
    table.beforeFork();
}

pub export fn bbipc_after_fork_in_parent() callconv(.c) void {
    table.afterForkInParent();
}

pub export fn bbipc_after_fork_in_child() callconv(.c) void {
    table.afterForkInChild();
}

pub export fn bbipc_prepare_to_wait(system_code: ?*i32) callconv(.c) Result {
    var failure: status.Failure = .{};
    return finish(prepareToWait(&failure), &failure, system_code);
}

fn prepareToWait(failure: *status.Failure) status.Error!Result {
    handles.prepareToWait();
    handles.lock.lock();
    defer handles.lock.unlock();
    const sleeper: platform.poll.Sleeper = try .take(failure);
    sleeper.giveBack();
    return 0;
}

pub export fn bbipc_pending_operations() callconv(.c) u64 {
    return platform.sys.pendingOperations();
}

pub export fn bbipc_finish_writes(timeout_ns: i64) callconv(.c) Result {
    checkTimeout(timeout_ns) catch |err| return status.fromError(err);
    return @intFromBool(platform.finishWrites(if (timeout_ns == forever) null else @intCast(timeout_ns)));
}

pub export fn bbipc_close(handle: Handle) callconv(.c) Result {
    const is_clean = table.close(handle) catch |err| return status.fromError(err);
    return @intFromBool(!is_clean);
}

pub export fn bbipc_abort(stream: Handle) callconv(.c) Result {
    table.abort(stream) catch |err| return status.fromError(err);
    return 0;
}

pub export fn bbipc_fileno(socket: Handle) callconv(.c) Result {
    const slot = table.pinSocket(socket) catch |err| return status.fromError(err);
    defer slot.unpin();
    return finishPlain(switch (slot.object) {
        .server => |*server| server.fileno(),
        .stream => |*stream| stream.fileno(),
        .none, .poller => unreachable,
    });
}

// ---- Making servers and streams ----

/// Reserves first, so that nothing is made that there is no handle for.
fn publishNew(
    comptime kind: std.meta.Tag(handles.Object),
    make: anytype,
    failure: *status.Failure,
) status.Error!Result {
    const slot = try table.reserve();
    errdefer table.abandon(slot);
    return table.publish(slot, @unionInit(handles.Object, @tagName(kind), try make.run(failure)));
}

const reuse_address = 0x1;
const delete_on_close = 0x1;
const peek_flag = 0x1;

const ListenIpv4 = struct {
    address: net.Ipv4,
    backlog: i32,
    reuse: bool,

    fn run(self: ListenIpv4, failure: *status.Failure) status.Error!Server {
        return Server.listenIpv4(self.address, self.backlog, self.reuse, failure);
    }
};

pub export fn bbipc_make_ipv4_tcp_server(
    host_address: u32,
    port: u16,
    backlog: i32,
    flags: u32,
    system_code: ?*i32,
) callconv(.c) Result {
    if (backlog < 0) return status.fromError(error.InvalidArgument);
    if (flags & ~@as(u32, reuse_address) != 0) return status.fromError(error.InvalidArgument);
    var failure: status.Failure = .{};
    const make: ListenIpv4 = .{
        .address = .{ .host = host_address, .port = port },
        .backlog = backlog,
        .reuse = flags & reuse_address != 0,
    };
    return finish(publishNew(.server, make, &failure), &failure, system_code);
}

const ConnectIpv4 = struct {
    remote: net.Ipv4,
    local: net.Ipv4,

    fn run(self: ConnectIpv4, failure: *status.Failure) status.Error!Stream {
        return Stream.connectIpv4(self.remote, self.local, failure);
    }
};

pub export fn bbipc_connect_to_ipv4_tcp_server(
    host_address: u32,
    port: u16,
    local_host_address: u32,
    local_port: u16,
    system_code: ?*i32,
) callconv(.c) Result {
    var failure: status.Failure = .{};
    const make: ConnectIpv4 = .{
        .remote = .{ .host = host_address, .port = port },
        .local = .{ .host = local_host_address, .port = local_port },
    };
    return finish(publishNew(.stream, make, &failure), &failure, system_code);
}

pub export fn bbipc_local_pathname_limit() callconv(.c) u64 {
    return platform.pathname_limit;
}

fn pathnameOf(pathname: ?[*]const u8, size: u64) status.Error![]const u8 {
    if (size == 0) return error.InvalidArgument;
    if (size > platform.pathname_max) return error.NameTooLong;
    const start = pathname orelse return error.InvalidArgument;
    return start[0..@intCast(size)];
}

const ListenLocal = struct {
    pathname: []const u8,
    backlog: i32,
    delete: bool,

    fn run(self: ListenLocal, failure: *status.Failure) status.Error!Server {
        return Server.listenLocal(self.pathname, self.backlog, self.delete, failure);
    }
};

pub export fn bbipc_make_local_server(
    pathname: ?[*]const u8,
    pathname_size: u64,
    backlog: i32,
    flags: u32,
    system_code: ?*i32,
) callconv(.c) Result {
    if (backlog < 0) return status.fromError(error.InvalidArgument);
    if (flags & ~@as(u32, delete_on_close) != 0) return status.fromError(error.InvalidArgument);
    var failure: status.Failure = .{};
    const make: ListenLocal = .{
        .pathname = pathnameOf(pathname, pathname_size) catch |err| return status.fromError(err),
        .backlog = backlog,
        .delete = flags & delete_on_close != 0,
    };
    return finish(publishNew(.server, make, &failure), &failure, system_code);
}

const ConnectLocal = struct {
    pathname: []const u8,

    fn run(self: ConnectLocal, failure: *status.Failure) status.Error!Stream {
        return Stream.connectLocal(self.pathname, failure);
    }
};

pub export fn bbipc_connect_to_local_server(
    pathname: ?[*]const u8,
    pathname_size: u64,
    system_code: ?*i32,
) callconv(.c) Result {
    var failure: status.Failure = .{};
    const make: ConnectLocal = .{
        .pathname = pathnameOf(pathname, pathname_size) catch |err| return status.fromError(err),
    };
    return finish(publishNew(.stream, make, &failure), &failure, system_code);
}

const Accept = struct {
    server: *Server,

    fn run(self: Accept, failure: *status.Failure) status.Error!Stream {
        return self.server.accept(failure);
    }
};

pub export fn bbipc_accept_connection(server: Handle, system_code: ?*i32) callconv(.c) Result {
    var failure: status.Failure = .{};
    const slot = table.pinKind(server, .server) catch |err| return status.fromError(err);
    defer slot.unpin();
    const make: Accept = .{ .server = &slot.object.server };
    return finish(publishNew(.stream, make, &failure), &failure, system_code);
}

// ---- Addresses ----

pub export fn bbipc_ipv4_local_address(
    socket: Handle,
    host_address: ?*u32,
    port: ?*u16,
    system_code: ?*i32,
) callconv(.c) Result {
    var failure: status.Failure = .{};
    return finish(localAddress(socket, host_address, port, &failure), &failure, system_code);
}

fn localAddress(socket: Handle, host: ?*u32, port: ?*u16, failure: *status.Failure) status.Error!Result {
    const slot = try table.pinSocket(socket);
    defer slot.unpin();
    try storeAddress(switch (slot.object) {
        .server => |*server| try server.localAddress(failure),
        .stream => |*stream| try stream.localAddress(failure),
        .none, .poller => unreachable,
    }, host, port);
    return 0;
}

pub export fn bbipc_ipv4_remote_address(stream: Handle, host_address: ?*u32, port: ?*u16) callconv(.c) Result {
    return finishPlain(remoteAddress(stream, host_address, port));
}

fn remoteAddress(stream: Handle, host: ?*u32, port: ?*u16) status.Error!Result {
    const slot = try table.pinKind(stream, .stream);
    defer slot.unpin();
    try storeAddress(slot.object.stream.remote_address, host, port);
    return 0;
}

fn storeAddress(of: net.Address, host: ?*u32, port: ?*u16) status.Error!void {
    const address = switch (of) {
        .local => return error.WrongKind,
        .ipv4 => |address| address,
    };
    if (host) |out| out.* = address.host;
    if (port) |out| out.* = address.port;
}

// ---- Reading and writing ----

/// The pinned stream. While the connection's outcome is not known, it is asked for.
fn pinStream(stream: Handle, failure: *status.Failure) status.Error!*handles.Slot {
    const slot = try table.pinKind(stream, .stream);
    errdefer slot.unpin();
    if (!slot.object.stream.connection.known.load().determined) {
        handles.lock.lock();
        defer handles.lock.unlock();
        _ = try socket_events.eventsOf(slot, null, events.determined, failure);
    }
    return slot;
}

pub export fn bbipc_read(
    stream: Handle,
    buffer: ?[*]u8,
    start: u64,
    end: u64,
    flags: u32,
    system_code: ?*i32,
) callconv(.c) Result {
    var failure: status.Failure = .{};
    return finish(read(stream, buffer, start, end, flags, &failure), &failure, system_code);
}

fn read(
    stream: Handle,
    buffer: ?[*]u8,
    start: u64,
    end: u64,
    flags: u32,
    failure: *status.Failure,
) status.Error!Result {
    const slot = try pinStream(stream, failure);
    defer slot.unpin();
    if (flags & ~@as(u32, peek_flag) != 0) return error.InvalidArgument;
    const part = try partOf(buffer, start, end);
    if (part.len == 0) return 0;
    return @intCast(try transfer.read(slot, part, flags & peek_flag != 0, failure));
}

pub export fn bbipc_write(
    stream: Handle,
    data: ?[*]const u8,
    start: u64,
    end: u64,
    system_code: ?*i32,
) callconv(.c) Result {
    var failure: status.Failure = .{};
    return finish(write(stream, data, start, end, &failure), &failure, system_code);
}

fn write(
    stream: Handle,
    data: ?[*]const u8,
    start: u64,
    end: u64,
    failure: *status.Failure,
) status.Error!Result {
    const slot = try pinStream(stream, failure);
    defer slot.unpin();
    const part = try partOf(data, start, end);
    if (part.len == 0) return 0;
    return @intCast(try slot.object.stream.write(part, failure));
}

pub export fn bbipc_read_exactly(
    stream: Handle,
    buffer: ?[*]u8,
    start: u64,
    end: u64,
    timeout_ns: i64,
    system_code: ?*i32,
) callconv(.c) Result {
    var failure: status.Failure = .{};
    return finish(readExactly(stream, buffer, start, end, timeout_ns, &failure), &failure, system_code);
}

fn readExactly(
    stream: Handle,
    buffer: ?[*]u8,
    start: u64,
    end: u64,
    timeout_ns: i64,
    failure: *status.Failure,
) status.Error!Result {
    const slot = try pinStream(stream, failure);
    defer slot.unpin();
    try checkTimeout(timeout_ns);
    const part = try partOf(buffer, start, end);
    if (part.len == 0) return 0;
    return @intCast(try transfer.readExactly(slot, part, .by_reading, .after(timeout_ns), failure));
}

/// The same for a caller who knows that nothing is there yet, and with at least a byte to read.
pub fn readWhenThere(stream: Handle, buffer: []u8, timeout_ns: i64, system_code: *i32) Result {
    var failure: status.Failure = .{};
    return finish(waitAndRead(stream, buffer, timeout_ns, &failure), &failure, system_code);
}

fn waitAndRead(stream: Handle, buffer: []u8, timeout_ns: i64, failure: *status.Failure) status.Error!Result {
    const slot = try pinStream(stream, failure);
    defer slot.unpin();
    return @intCast(try transfer.readExactly(slot, buffer, .by_waiting, .after(timeout_ns), failure));
}

pub export fn bbipc_write_all(
    stream: Handle,
    data: ?[*]const u8,
    start: u64,
    end: u64,
    timeout_ns: i64,
    system_code: ?*i32,
) callconv(.c) Result {
    var failure: status.Failure = .{};
    return finish(writeAll(stream, data, start, end, timeout_ns, &failure), &failure, system_code);
}

fn writeAll(
    stream: Handle,
    data: ?[*]const u8,
    start: u64,
    end: u64,
    timeout_ns: i64,
    failure: *status.Failure,
) status.Error!Result {
    const slot = try pinStream(stream, failure);
    defer slot.unpin();
    try checkTimeout(timeout_ns);
    const part = try partOf(data, start, end);
    if (part.len == 0) return 0;
    return @intCast(try transfer.writeAll(slot, part, .after(timeout_ns), failure));
}

fn Part(comptime Memory: type) type {
    return if (Memory == ?[*]u8) []u8 else []const u8;
}

/// The range of the memory, which must lie in what can be addressed. Only the caller knows how large the memory is.
fn partOf(memory: anytype, start: u64, end: u64) status.Error!Part(@TypeOf(memory)) {
    if (start > end) return error.InvalidArgument;
    if (start == end) return &.{};
    const first = memory orelse return error.InvalidArgument;
    if (end > std.math.maxInt(usize) - @intFromPtr(first)) return error.InvalidArgument;
    return first[@intCast(start)..@intCast(end)];
}

pub export fn bbipc_finish_writing(stream: Handle, system_code: ?*i32) callconv(.c) Result {
    var failure: status.Failure = .{};
    return finish(finishWriting(stream, &failure), &failure, system_code);
}

fn finishWriting(stream: Handle, failure: *status.Failure) status.Error!Result {
    const slot = try pinStream(stream, failure);
    defer slot.unpin();
    try slot.object.stream.finishWriting(failure);
    handles.lock.lock();
    defer handles.lock.unlock();
    socket_events.becameKnown(slot);
    return 0;
}

pub export fn bbipc_connection_error(stream: Handle, system_code: ?*i32) callconv(.c) Result {
    var failure: status.Failure = .{};
    const outcome = connectionError(stream, &failure);
    // A reason that is no failure of this call has its code too.
    if (failure.system_code != 0) {
        if (system_code) |out| out.* = failure.system_code;
    }
    return finishPlain(outcome);
}

fn connectionError(stream: Handle, failure: *status.Failure) status.Error!Result {
    const slot = try pinStream(stream, failure);
    defer slot.unpin();
    handles.lock.lock();
    defer handles.lock.unlock();
    const code = try slot.object.stream.connectionError(failure);
    if (code == 0) return 0;
    failure.system_code = code;
    return if (slot.object.stream.connection.known.load().failed) 2 else 1;
}

// ---- Polling ----

const forever = -1;

fn checkTimeout(timeout_ns: i64) status.Error!void {
    if (timeout_ns < forever) return error.InvalidArgument;
}

pub export fn bbipc_poll_socket(
    socket: Handle,
    asked: u32,
    timeout_ns: i64,
    place: ?*u32,
    system_code: ?*i32,
) callconv(.c) Result {
    var failure: status.Failure = .{};
    return finish(pollSocket(socket, asked, timeout_ns, place, &failure), &failure, system_code);
}

fn pollSocket(socket: Handle, asked: u32, timeout_ns: i64, place: ?*u32, failure: *status.Failure) status.Error!Result {
    try checkTimeout(timeout_ns);
    var happened: u32 = 0;
    var own_place: u32 = places.none;
    _ = try polling.pollSockets(.{
        .sockets = &.{socket},
        .asked = &.{asked},
        .happened = (&happened)[0..1],
        .place = place orelse &own_place,
    }, .after(timeout_ns), failure);
    return happened;
}

pub export fn bbipc_poll_sockets(
    sockets: ?[*]const Handle,
    asked: ?[*]const u32,
    happened: ?[*]u32,
    count: u64,
    timeout_ns: i64,
    place: ?*u32,
    failed_index: ?*u64,
    system_code: ?*i32,
) callconv(.c) Result {
    var failure: status.Failure = .{};
    const outcome = pollSockets(sockets, asked, happened, count, timeout_ns, place, &failure);
    if (failure.index) |index| {
        if (failed_index) |out| out.* = index;
    }
    return finish(outcome, &failure, system_code);
}

fn pollSockets(
    sockets: ?[*]const Handle,
    asked: ?[*]const u32,
    happened: ?[*]u32,
    count: u64,
    timeout_ns: i64,
    place: ?*u32,
    failure: *status.Failure,
) status.Error!Result {
    try checkTimeout(timeout_ns);
    if (count > std.math.maxInt(i32)) return error.InvalidArgument;
    if (count > 0 and (sockets == null or asked == null or happened == null)) return error.InvalidArgument;
    const size: usize = @intCast(count);
    var own_place: u32 = places.none;
    const request: polling.Request = .{
        .sockets = if (size == 0) &.{} else sockets.?[0..size],
        .asked = if (size == 0) &.{} else asked.?[0..size],
        .happened = if (size == 0) &.{} else happened.?[0..size],
        .place = place orelse &own_place,
    };
    return @intCast(try polling.pollSockets(request, .after(timeout_ns), failure));
}

// ---- Pollers ----

const MakePoller = struct {
    backend: platform.Backend,

    fn run(self: MakePoller, failure: *status.Failure) status.Error!*handles.Poller {
        return pollers.Poller.create(self.backend, failure);
    }
};

pub export fn bbipc_make_poller(backend: i32, system_code: ?*i32) callconv(.c) Result {
    var failure: status.Failure = .{};
    const make: MakePoller = .{
        .backend = backendOf(backend) orelse return status.fromError(error.Unsupported),
    };
    return finish(publishNew(.poller, make, &failure), &failure, system_code);
}

fn backendOf(number: i32) ?platform.Backend {
    if (number == 0) return .default;
    return std.enums.fromInt(platform.Backend, number);
}

pub export fn bbipc_poller_backend(poller: Handle) callconv(.c) Result {
    const slot = table.pinKind(poller, .poller) catch |err| return status.fromError(err);
    defer slot.unpin();
    return @backingInt(pollers.of(slot).backend);
}

/// A poller and a socket, pinned.
const Pair = struct {
    poller: *handles.Slot,
    socket: *handles.Slot,

    fn pin(poller: Handle, socket: Handle) status.Error!Pair {
        const poller_slot = try table.pinKind(poller, .poller);
        errdefer poller_slot.unpin();
        return .{ .poller = poller_slot, .socket = try table.pinSocket(socket) };
    }

    fn unpin(pair: Pair) void {
        pair.socket.unpin();
        pair.poller.unpin();
    }
};

pub export fn bbipc_monitor_socket(poller: Handle, socket: Handle, asked: u32, system_code: ?*i32) callconv(.c) Result {
    var failure: status.Failure = .{};
    return finish(monitor(poller, socket, asked, &failure), &failure, system_code);
}

fn monitor(poller: Handle, socket: Handle, asked: u32, failure: *status.Failure) status.Error!Result {
    const pair: Pair = try .pin(poller, socket);
    defer pair.unpin();
    if (asked & ~socket_events.eventsAllowed(pair.socket) != 0) return error.WrongEvents;
    handles.lock.lock();
    defer handles.lock.unlock();
    try pollers.of(pair.poller).monitor(pair.socket, asked, failure);
    return 0;
}

pub export fn bbipc_unmonitor_socket(poller: Handle, socket: Handle) callconv(.c) Result {
    return finishPlain(unmonitor(poller, socket));
}

fn unmonitor(poller: Handle, socket: Handle) status.Error!Result {
    const slot = try table.pinKind(poller, .poller);
    defer slot.unpin();
    handles.lock.lock();
    defer handles.lock.unlock();
    return @intFromBool(try pollers.of(slot).unmonitor(try findSocket(socket)));
}

/// With the lock held: an open socket, or null for one that is closed.
fn findSocket(socket: Handle) status.Error!?*handles.Slot {
    const slot = table.find(socket) orelse return null;
    return if (slot.isSocket()) slot else error.WrongKind;
}

pub export fn bbipc_monitored_events(poller: Handle, socket: Handle) callconv(.c) Result {
    return finishPlain(monitoredEvents(poller, socket));
}

fn monitoredEvents(poller: Handle, socket: Handle) status.Error!Result {
    const slot = try table.pinKind(poller, .poller);
    defer slot.unpin();
    handles.lock.lock();
    defer handles.lock.unlock();
    return try pollers.of(slot).monitoredEvents(try findSocket(socket));
}

pub export fn bbipc_set_monitored_events(
    poller: Handle,
    socket: Handle,
    asked: u32,
    system_code: ?*i32,
) callconv(.c) Result {
    var failure: status.Failure = .{};
    return finish(setMonitored(poller, socket, asked, &failure), &failure, system_code);
}

fn setMonitored(poller: Handle, socket: Handle, asked: u32, failure: *status.Failure) status.Error!Result {
    const pair: Pair = try .pin(poller, socket);
    defer pair.unpin();
    if (asked & ~socket_events.eventsAllowed(pair.socket) != 0) return error.WrongEvents;
    handles.lock.lock();
    defer handles.lock.unlock();
    try pollers.of(pair.poller).setMonitored(pair.socket, asked, failure);
    return 0;
}

pub export fn bbipc_monitored_sockets(poller: Handle, sockets: ?[*]Handle, capacity: u64) callconv(.c) Result {
    return finishPlain(monitoredSockets(poller, sockets, capacity));
}

fn monitoredSockets(poller: Handle, sockets: ?[*]Handle, capacity: u64) status.Error!Result {
    const slot = try table.pinKind(poller, .poller);
    defer slot.unpin();
    if (capacity > 0 and sockets == null) return error.InvalidArgument;
    const room_size: usize = @intCast(@min(capacity, std.math.maxInt(u32)));
    const room: []Handle = if (sockets) |first| first[0..room_size] else &.{};
    handles.lock.lock();
    defer handles.lock.unlock();
    return @intCast(try pollers.of(slot).monitored(room));
}

pub export fn bbipc_wait_for_events(
    poller: Handle,
    sockets: ?[*]Handle,
    happened: ?[*]u32,
    capacity: u64,
    timeout_ns: i64,
    place: ?*u32,
    system_code: ?*i32,
) callconv(.c) Result {
    var failure: status.Failure = .{};
    const outcome = waitForEvents(poller, sockets, happened, capacity, timeout_ns, place, &failure);
    return finish(outcome, &failure, system_code);
}

fn waitForEvents(
    poller: Handle,
    sockets: ?[*]Handle,
    happened: ?[*]u32,
    capacity: u64,
    timeout_ns: i64,
    place: ?*u32,
    failure: *status.Failure,
) status.Error!Result {
    const slot = try table.pinKind(poller, .poller);
    defer slot.unpin();
    try checkTimeout(timeout_ns);
    if (capacity == 0) return error.InvalidArgument;
    var results: pollers.Poller.Results = .{
        .sockets = sockets orelse return error.InvalidArgument,
        .events = happened orelse return error.InvalidArgument,
        .capacity = @intCast(@min(capacity, std.math.maxInt(u32))),
    };
    var own_place: u32 = places.none;
    try pollers.of(slot).wait(&results, timeout_ns, place orelse &own_place, failure);
    return @intCast(results.count);
}

pub export fn bbipc_wake(poller: Handle) callconv(.c) Result {
    const slot = table.pinKind(poller, .poller) catch |err| return status.fromError(err);
    defer slot.unpin();
    handles.lock.lock();
    defer handles.lock.unlock();
    pollers.of(slot).wake() catch |err| return status.fromError(err);
    return 0;
}

// ---- The calling layer for CPython ----

pub export fn bbipc_cpython_needs() callconv(.c) [*:0]const u8 {
    return python.names;
}

pub export fn bbipc_cpython_bind(addresses: ?[*]const u64, count: u64) callconv(.c) Result {
    const first = addresses orelse return status.fromError(error.InvalidArgument);
    python.bind(first[0..@intCast(@min(count, std.math.maxInt(u32)))]) catch |err| return status.fromError(err);
    return 0;
}

pub export fn bbipc_cpython_function(name: ?[*:0]const u8, reference: ?*anyopaque) callconv(.c) ?*anyopaque {
    return python.function(name orelse return null, reference orelse return null);
}

pub export fn bbipc_cpython_method(class: ?*anyopaque, name: ?[*:0]const u8, documentation: ?[*:0]const u8) callconv(.c) ?*anyopaque {
    return python.method(class orelse return null, name orelse return null, documentation orelse return null);
}
