//! The exported functions: they check their arguments, call, and map what comes of it to a result. bbipc.h documents
//! them. (Those of the layer for CPython are exported by cpython/built_ins.zig.)

const std = @import("std");
const calls = @import("calls.zig");
const copying = @import("base/copying.zig");
const status = @import("base/status.zig");

const Handle = calls.Handle;
const Result = i64;

pub const version = versionOf(@embedFile("include/bbipc.h"));

/// The header is the one place where the version is written.
fn versionOf(comptime header: []const u8) [:0]const u8 {
    @setEvalBranchQuota(header.len * 4);
    const define = "#define BBIPC_VERSION \"";
    const start = std.mem.indexOf(u8, header, define).? + define.len;
    const size = std.mem.indexOfScalar(u8, header[start..], '"').?;
    return header[start..][0..size] ++ "";
}

// ---- Calling ----

/// Calls with these arguments, and maps what comes of it. An argument may be what a check has made of it, or the error
/// of one that has failed. `system_code` is null for a call that never has one.
fn call(system_code: ?*i32, comptime function: anytype, arguments: anytype) Result {
    var failure: status.Failure = .{};
    return mapped(checkedCall(function, arguments, &failure), &failure, system_code);
}

fn checkedCall(
    comptime function: anytype,
    arguments: anytype,
    failure: *status.Failure,
) @typeInfo(@TypeOf(function)).@"fn".return_type.? {
    var checked: std.meta.ArgsTuple(@TypeOf(function)) = undefined;
    inline for (arguments, 0..) |argument, place| {
        checked[place] = if (@typeInfo(@TypeOf(argument)) == .error_union) try argument else argument;
    }
    if (comptime calls.takesFailure(function)) checked[arguments.len] = failure;
    return @call(.auto, function, checked);
}

fn mapped(outcome: anytype, failure: *const status.Failure, system_code: ?*i32) Result {
    return calls.numberOf(outcome catch |err| return failed(err, failure, system_code));
}

fn failed(err: status.Error, failure: *const status.Failure, system_code: ?*i32) Result {
    if (status.carriesSystemCode(err)) {
        if (system_code) |out| out.* = failure.system_code;
    }
    return status.fromError(err);
}

// ---- Arguments ----

const reuse_address = 0x1;
const dual_stack = 0x2;
const delete_on_close = 0x1;
const replace_dead = 0x2;
const peek = 0x1;

/// Whether the one flag that there is, is set.
fn isSet(flags: u32, flag: u32) status.Error!bool {
    try checkFlags(flags, flag);
    return flags & flag != 0;
}

fn checkFlags(flags: u32, allowed: u32) status.Error!void {
    if (flags & ~allowed != 0) return error.InvalidArgument;
}

fn listeningOf(backlog: i32, flags: u32, allowed: u32) status.Error!calls.Listening {
    try checkFlags(flags, allowed);
    return .{
        .backlog = backlog,
        .reuse_address = flags & reuse_address != 0,
        .dual_stack = flags & dual_stack != 0,
    };
}

const Ipv6Host = calls.Ipv6.Host;

fn ipv6Of(host_address: ?*const Ipv6Host, scope_id: u32, port: u16) status.Error!calls.Ipv6 {
    const host = host_address orelse return error.InvalidArgument;
    return .{ .host = host.*, .scope = scope_id, .port = port };
}

fn Bytes(comptime Memory: type) type {
    return if (Memory == ?[*]u8) []u8 else []const u8;
}

/// The range of the memory, which must lie in what can be addressed. Only the caller knows how large the memory is.
fn rangeOf(memory: anytype, start: u64, end: u64) status.Error!Bytes(@TypeOf(memory)) {
    if (start > end) return error.InvalidArgument;
    if (start == end) return &.{};
    const first = memory orelse return error.InvalidArgument;
    if (end > std.math.maxInt(usize) - @intFromPtr(first)) return error.InvalidArgument;
    return first[@intCast(start)..@intCast(end)];
}

/// A pathname that is too long is not looked at, wherever it is.
fn pathnameOf(pathname: ?[*]const u8, size: u64) status.Error![]const u8 {
    if (size > calls.pathname_max) return error.NameTooLong;
    return rangeOf(pathname, 0, size);
}

fn Items(comptime Array: type) type {
    const pointer = @typeInfo(@typeInfo(Array).optional.child).pointer;
    return if (pointer.attrs.@"const") []const pointer.child else []pointer.child;
}

/// The items of an array, which may be null if it has none.
fn itemsOf(array: anytype, count: u64) status.Error!Items(@TypeOf(array)) {
    if (count == 0) return &.{};
    const first = array orelse return error.InvalidArgument;
    const room = std.math.maxInt(usize) - @intFromPtr(first);
    if (count > room / @sizeOf(@TypeOf(first[0]))) return error.InvalidArgument;
    return first[0..@intCast(count)];
}

/// The same for an output array, which may be larger than the number of items that can exist.
fn roomOf(array: anytype, capacity: u64) status.Error!Items(@TypeOf(array)) {
    if (capacity == 0) return &.{};
    const first = array orelse return error.InvalidArgument;
    return first[0..@intCast(@min(capacity, std.math.maxInt(u32)))];
}

fn backendOf(number: i32) status.Error!calls.Backend {
    if (number == 0) return .default;
    return std.enums.fromInt(calls.Backend, number) orelse error.Unsupported;
}

// ---- The library ----

pub export fn bbipc_version() callconv(.c) [*:0]const u8 {
    return version;
}

pub export fn bbipc_error_message(code: Result) callconv(.c) [*:0]const u8 {
    return status.message(code);
}

pub export fn bbipc_open_handles() callconv(.c) u64 {
    return calls.openHandles();
}

pub export fn bbipc_before_fork() callconv(.c) void {
    calls.beforeFork();
}

pub export fn bbipc_after_fork_in_parent() callconv(.c) void {
    calls.afterForkInParent();
}

pub export fn bbipc_after_fork_in_child() callconv(.c) void {
    calls.afterForkInChild();
}

pub export fn bbipc_prepare_to_wait(system_code: ?*i32) callconv(.c) Result {
    return call(system_code, calls.prepareToWait, .{});
}

pub export fn bbipc_pending_operations() callconv(.c) u64 {
    return calls.pendingOperations();
}

pub export fn bbipc_finish_writes(timeout_ns: i64) callconv(.c) Result {
    return call(null, calls.finishWrites, .{timeout_ns});
}

pub export fn bbipc_set_spinning(longest_ns: i64) callconv(.c) Result {
    return call(null, calls.setSpinning, .{longest_ns});
}

pub export fn bbipc_close(handle: Handle) callconv(.c) Result {
    return call(null, calls.close, .{handle});
}

pub export fn bbipc_abort(stream: Handle) callconv(.c) Result {
    return call(null, calls.abort, .{stream});
}

pub export fn bbipc_fileno(socket: Handle) callconv(.c) Result {
    return call(null, calls.fileno, .{socket});
}

// ---- Making servers and streams ----

pub export fn bbipc_make_ipv4_tcp_server(
    host_address: u32,
    port: u16,
    backlog: i32,
    flags: u32,
    system_code: ?*i32,
) callconv(.c) Result {
    const address: calls.Ipv4 = .{ .host = host_address, .port = port };
    return call(system_code, calls.makeIpv4TcpServer, .{ address, listeningOf(backlog, flags, reuse_address) });
}

pub export fn bbipc_connect_to_ipv4_tcp_server(
    host_address: u32,
    port: u16,
    local_host_address: u32,
    local_port: u16,
    flags: u32,
    system_code: ?*i32,
) callconv(.c) Result {
    const remote: calls.Ipv4 = .{ .host = host_address, .port = port };
    const local: calls.Ipv4 = .{ .host = local_host_address, .port = local_port };
    return call(system_code, calls.connectToIpv4TcpServer, .{ remote, local, isSet(flags, reuse_address) });
}

pub export fn bbipc_make_ipv6_tcp_server(
    host_address: ?*const Ipv6Host,
    scope_id: u32,
    port: u16,
    backlog: i32,
    flags: u32,
    system_code: ?*i32,
) callconv(.c) Result {
    return call(system_code, calls.makeIpv6TcpServer, .{
        ipv6Of(host_address, scope_id, port), listeningOf(backlog, flags, reuse_address | dual_stack),
    });
}

pub export fn bbipc_connect_to_ipv6_tcp_server(
    host_address: ?*const Ipv6Host,
    scope_id: u32,
    port: u16,
    local_host_address: ?*const Ipv6Host,
    local_scope_id: u32,
    local_port: u16,
    flags: u32,
    system_code: ?*i32,
) callconv(.c) Result {
    const local_host = local_host_address orelse &calls.Ipv6.unspecified.host;
    const local = ipv6Of(local_host, local_scope_id, local_port);
    return call(system_code, calls.connectToIpv6TcpServer, .{
        ipv6Of(host_address, scope_id, port), local, isSet(flags, reuse_address),
    });
}

pub export fn bbipc_local_pathname_limit() callconv(.c) u64 {
    return calls.localPathnameLimit();
}

pub export fn bbipc_make_local_server(
    pathname: ?[*]const u8,
    pathname_size: u64,
    backlog: i32,
    permissions: i32,
    flags: u32,
    system_code: ?*i32,
) callconv(.c) Result {
    return call(system_code, calls.makeLocalServer, .{
        pathnameOf(pathname, pathname_size), localOptions(backlog, permissions, flags),
    });
}

fn localOptions(backlog: i32, permissions: i32, flags: u32) status.Error!calls.LocalOptions {
    if (flags & ~@as(u32, delete_on_close | replace_dead) != 0) return error.InvalidArgument;
    if (permissions < -1) return error.InvalidArgument;
    return .{
        .backlog = backlog,
        .deletes = flags & delete_on_close != 0,
        .replaces_dead = flags & replace_dead != 0,
        .permissions = if (permissions == -1) null else @intCast(permissions),
    };
}

pub export fn bbipc_connect_to_local_server(
    pathname: ?[*]const u8,
    pathname_size: u64,
    system_code: ?*i32,
) callconv(.c) Result {
    return call(system_code, calls.connectToLocalServer, .{pathnameOf(pathname, pathname_size)});
}

pub export fn bbipc_accept_connection(server: Handle, system_code: ?*i32) callconv(.c) Result {
    return call(system_code, calls.acceptConnection, .{server});
}

// ---- From elsewhere, and to there ----

pub export fn bbipc_make_stream_pair(other: ?*Handle, system_code: ?*i32) callconv(.c) Result {
    const out = other orelse return status.fromError(error.InvalidArgument);
    var failure: status.Failure = .{};
    const streams = calls.makeStreamPair(&failure) catch |err| return failed(err, &failure, system_code);
    out.* = streams[1];
    return streams[0];
}

pub export fn bbipc_make_stream_for_client(
    pathname: ?[*]const u8,
    pathname_size: u64,
    words: ?[*]const u8,
    words_size: u64,
    system_code: ?*i32,
) callconv(.c) Result {
    return call(system_code, calls.makeStreamForClient, .{
        pathnameOf(pathname, pathname_size), wordsOf(words, words_size),
    });
}

fn wordsOf(words: ?[*]const u8, size: u64) status.Error!*const calls.Words {
    if (size != @sizeOf(calls.Words)) return error.InvalidArgument;
    return @ptrCast(words orelse return error.InvalidArgument);
}

pub export fn bbipc_adopt_stream(descriptor: i64, system_code: ?*i32) callconv(.c) Result {
    return call(system_code, calls.adoptStream, .{descriptor});
}

pub export fn bbipc_adopt_server(descriptor: i64, system_code: ?*i32) callconv(.c) Result {
    return call(system_code, calls.adoptServer, .{descriptor});
}

pub export fn bbipc_detach(stream: Handle, system_code: ?*i32) callconv(.c) Result {
    return call(system_code, calls.detach, .{stream});
}

pub export fn bbipc_namespace(socket: Handle) callconv(.c) Result {
    return call(null, calls.namespace, .{socket});
}

pub export fn bbipc_local_pathname(
    socket: Handle,
    buffer: ?[*]u8,
    capacity: u64,
    system_code: ?*i32,
) callconv(.c) Result {
    return call(system_code, calls.localPathname, .{ socket, rangeOf(buffer, 0, capacity) });
}

// ---- Addresses ----

pub export fn bbipc_ipv4_local_address(
    socket: Handle,
    host_address: ?*u32,
    port: ?*u16,
    system_code: ?*i32,
) callconv(.c) Result {
    var failure: status.Failure = .{};
    return mapped(stored(calls.ipv4LocalAddress(socket, &failure), host_address, port), &failure, system_code);
}

pub export fn bbipc_ipv4_remote_address(stream: Handle, host_address: ?*u32, port: ?*u16) callconv(.c) Result {
    return mapped(stored(calls.ipv4RemoteAddress(stream), host_address, port), &.{}, null);
}

pub export fn bbipc_ipv6_local_address(
    socket: Handle,
    host_address: ?*Ipv6Host,
    scope_id: ?*u32,
    port: ?*u16,
    system_code: ?*i32,
) callconv(.c) Result {
    var failure: status.Failure = .{};
    const found = calls.ipv6LocalAddress(socket, &failure);
    return mapped(storedWithScope(found, host_address, scope_id, port), &failure, system_code);
}

pub export fn bbipc_ipv6_remote_address(
    stream: Handle,
    host_address: ?*Ipv6Host,
    scope_id: ?*u32,
    port: ?*u16,
) callconv(.c) Result {
    return mapped(storedWithScope(calls.ipv6RemoteAddress(stream), host_address, scope_id, port), &.{}, null);
}

fn storedWithScope(
    outcome: status.Error!calls.Ipv6,
    host_address: ?*Ipv6Host,
    scope_id: ?*u32,
    port: ?*u16,
) status.Error!void {
    const address = try outcome;
    if (host_address) |out| out.* = address.host;
    if (scope_id) |out| out.* = address.scope;
    if (port) |out| out.* = address.port;
}

fn stored(outcome: status.Error!calls.Ipv4, host_address: ?*u32, port: ?*u16) status.Error!void {
    const address = try outcome;
    if (host_address) |out| out.* = address.host;
    if (port) |out| out.* = address.port;
}

pub export fn bbipc_peer_credentials(
    stream: Handle,
    user_id: ?*i64,
    group_id: ?*i64,
    process_id: ?*i64,
    security_id: ?[*]u8,
    capacity: u64,
    system_code: ?*i32,
) callconv(.c) Result {
    var failure: status.Failure = .{};
    const told = calls.peerCredentials(stream, &failure) catch |err| return failed(err, &failure, system_code);
    if (user_id) |out| out.* = told.user;
    if (group_id) |out| out.* = told.group;
    if (process_id) |out| out.* = told.process;
    if (security_id) |out| {
        if (told.security_size <= capacity) @memcpy(out, told.security[0..told.security_size]);
    }
    return @intCast(told.security_size);
}

// ---- Reading and writing ----

pub export fn bbipc_read(
    stream: Handle,
    buffer: ?[*]u8,
    start: u64,
    end: u64,
    flags: u32,
    system_code: ?*i32,
) callconv(.c) Result {
    return call(system_code, calls.read, .{ stream, rangeOf(buffer, start, end), isSet(flags, peek) });
}

pub export fn bbipc_write(
    stream: Handle,
    data: ?[*]const u8,
    start: u64,
    end: u64,
    system_code: ?*i32,
) callconv(.c) Result {
    return call(system_code, calls.write, .{ stream, rangeOf(data, start, end) });
}

pub export fn bbipc_read_exactly(
    stream: Handle,
    buffer: ?[*]u8,
    start: u64,
    end: u64,
    timeout_ns: i64,
    system_code: ?*i32,
) callconv(.c) Result {
    return call(system_code, calls.readExactly, .{ stream, rangeOf(buffer, start, end), timeout_ns });
}

pub export fn bbipc_write_all(
    stream: Handle,
    data: ?[*]const u8,
    start: u64,
    end: u64,
    timeout_ns: i64,
    system_code: ?*i32,
) callconv(.c) Result {
    return call(system_code, calls.writeAll, .{ stream, rangeOf(data, start, end), timeout_ns });
}

// ---- Messages ----

pub export fn bbipc_send_message(
    stream: Handle,
    data: ?[*]const u8,
    start: u64,
    end: u64,
    timeout_ns: i64,
    unsent: ?*u64,
    system_code: ?*i32,
) callconv(.c) Result {
    var failure: status.Failure = .{};
    const outcome = sendOne(stream, rangeOf(data, start, end), timeout_ns, &failure);
    return sentOf(outcome, stream, unsent, &failure, system_code);
}

fn sendOne(
    stream: Handle,
    message: status.Error![]const u8,
    timeout_ns: i64,
    failure: *status.Failure,
) status.Error!calls.Sent {
    return calls.sendMessages(stream, &.{try message}, timeout_ns, failure);
}

/// How many were taken; and how much is left of the last.
fn sentOf(
    outcome: status.Error!calls.Sent,
    stream: Handle,
    unsent: ?*u64,
    failure: *const status.Failure,
    system_code: ?*i32,
) Result {
    const sent = outcome catch |err| return failed(err, failure, system_code);
    if (unsent) |out| out.* = if (sent.is_rest_left) calls.unsent(stream) catch 0 else 0;
    return calls.numberOf(sent.count);
}

pub export fn bbipc_send_messages(
    stream: Handle,
    messages: ?[*]const ?*const anyopaque,
    sizes: ?[*]const u64,
    count: u64,
    timeout_ns: i64,
    unsent: ?*u64,
    system_code: ?*i32,
) callconv(.c) Result {
    var failure: status.Failure = .{};
    const outcome = sendAll(stream, itemsOf(messages, count), itemsOf(sizes, count), timeout_ns, &failure);
    return sentOf(outcome, stream, unsent, &failure, system_code);
}

/// In parts, for the library takes messages as slices.
fn sendAll(
    stream: Handle,
    given_messages: status.Error![]const ?*const anyopaque,
    given_sizes: status.Error![]const u64,
    timeout_ns: i64,
    failure: *status.Failure,
) status.Error!calls.Sent {
    const messages = try given_messages;
    const sizes = try given_sizes;
    const size_max = try calls.maxMessageSize(stream);
    for (messages, sizes) |message, size| {
        if (size > size_max) return error.MessageTooLarge;
        _ = try messageOf(message, size);
    }
    const deadline: calls.Deadline = .after(timeout_ns);
    var all: calls.Sent = .{ .count = 0, .is_rest_left = false };
    while (true) {
        var part: [64][]const u8 = undefined;
        const part_count = @min(part.len, messages.len - all.count);
        for (part[0..part_count], all.count..) |*one, index| one.* = try messageOf(messages[index], sizes[index]);
        const left_ns: i64 = if (deadline.remainingNs()) |ns| @intCast(ns) else timeout_ns;
        const sent = calls.sendMessages(stream, part[0..part_count], left_ns, failure) catch |err|
            return if (all.count > 0) all else err;
        all.count += sent.count;
        all.is_rest_left = sent.is_rest_left;
        if (sent.count < part_count or sent.is_rest_left or all.count == messages.len) return all;
    }
}

fn messageOf(memory: ?*const anyopaque, size: u64) status.Error![]const u8 {
    return rangeOf(@as(?[*]const u8, @ptrCast(memory)), 0, size);
}

pub export fn bbipc_drain(stream: Handle, timeout_ns: i64, system_code: ?*i32) callconv(.c) Result {
    return call(system_code, calls.drain, .{ stream, timeout_ns });
}

pub export fn bbipc_unsent(stream: Handle) callconv(.c) Result {
    return call(null, calls.unsent, .{stream});
}

pub export fn bbipc_receive_message(
    stream: Handle,
    buffer: ?[*]u8,
    start: u64,
    end: u64,
    size: ?*u64,
    timeout_ns: i64,
    system_code: ?*i32,
) callconv(.c) Result {
    var its_size: usize = 0;
    const result = call(system_code, calls.receiveMessage, .{
        stream, rangeOf(buffer, start, end), &its_size, timeout_ns,
    });
    if (size) |out| out.* = its_size;
    return result;
}

/// Stores messages one behind the other, and their sizes; or the size of the first that needs more room.
const StoringTaker = struct {
    room: []u8,
    sizes: []u64,
    count: usize = 0,

    pub fn take(taker: *StoringTaker, body: []const u8) bool {
        if (taker.count == taker.sizes.len) return false;
        const has_room = body.len <= taker.room.len;
        if (has_room or taker.count == 0) taker.sizes[taker.count] = body.len;
        if (!has_room) return false;
        copying.copy(taker.room, body);
        taker.room = taker.room[body.len..];
        taker.count += 1;
        return true;
    }

    pub fn hasEnough(taker: *const StoringTaker) bool {
        return taker.count == taker.sizes.len;
    }
};

pub export fn bbipc_receive_messages(
    stream: Handle,
    buffer: ?[*]u8,
    capacity: u64,
    sizes: ?[*]u64,
    sizes_capacity: u64,
    system_code: ?*i32,
) callconv(.c) Result {
    var failure: status.Failure = .{};
    const outcome = receiveAll(stream, rangeOf(buffer, 0, capacity), roomOf(sizes, sizes_capacity), &failure);
    return mapped(outcome, &failure, system_code);
}

fn receiveAll(
    stream: Handle,
    room: status.Error![]u8,
    sizes: status.Error![]u64,
    failure: *status.Failure,
) status.Error!usize {
    var taker: StoringTaker = .{ .room = try room, .sizes = try sizes };
    return calls.takeMessages(stream, &taker, failure);
}

pub export fn bbipc_read_until(
    stream: Handle,
    delimiter: ?[*]const u8,
    delimiter_size: u64,
    buffer: ?[*]u8,
    capacity: u64,
    timeout_ns: i64,
    system_code: ?*i32,
) callconv(.c) Result {
    return call(system_code, calls.readUntil, .{
        stream, rangeOf(delimiter, 0, delimiter_size), rangeOf(buffer, 0, capacity), timeout_ns,
    });
}

pub export fn bbipc_max_message_size(stream: Handle) callconv(.c) Result {
    return call(null, calls.maxMessageSize, .{stream});
}

pub export fn bbipc_set_max_message_size(stream: Handle, size: u64) callconv(.c) Result {
    return call(null, calls.setMaxMessageSize, .{ stream, size });
}

// ---- The end of writing, and of the connection ----

pub export fn bbipc_finish_writing(stream: Handle, system_code: ?*i32) callconv(.c) Result {
    return call(system_code, calls.finishWriting, .{stream});
}

pub export fn bbipc_connection_error(stream: Handle, system_code: ?*i32) callconv(.c) Result {
    var failure: status.Failure = .{};
    const reason = calls.connectionError(stream, &failure) catch |err| return failed(err, &failure, system_code);
    switch (reason) {
        .none => return 0,
        // This call has not failed, but stores a code all the same.
        .severed, .not_established => |code| {
            if (system_code) |out| out.* = code;
            return if (reason == .severed) 1 else 2;
        },
    }
}

// ---- Polling ----

pub export fn bbipc_poll_socket(
    socket: Handle,
    asked: u32,
    timeout_ns: i64,
    place: ?*u32,
    system_code: ?*i32,
) callconv(.c) Result {
    return call(system_code, calls.pollSocket, .{ socket, asked, timeout_ns, place });
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
    const outcome = checkedCall(calls.pollSockets, .{
        itemsOf(sockets, count), itemsOf(asked, count), itemsOf(happened, count), timeout_ns, place,
    }, &failure);
    if (failure.index) |index| {
        if (failed_index) |out| out.* = index;
    }
    return mapped(outcome, &failure, system_code);
}

// ---- Pollers ----

pub export fn bbipc_make_poller(backend: i32, system_code: ?*i32) callconv(.c) Result {
    return call(system_code, calls.makePoller, .{backendOf(backend)});
}

pub export fn bbipc_poller_backend(poller: Handle) callconv(.c) Result {
    return call(null, calls.pollerBackend, .{poller});
}

pub export fn bbipc_poller_fileno(poller: Handle, system_code: ?*i32) callconv(.c) Result {
    return call(system_code, calls.pollerFileno, .{poller});
}

pub export fn bbipc_monitor_socket(poller: Handle, socket: Handle, asked: u32, system_code: ?*i32) callconv(.c) Result {
    return call(system_code, calls.monitorSocket, .{ poller, socket, asked });
}

pub export fn bbipc_unmonitor_socket(poller: Handle, socket: Handle) callconv(.c) Result {
    return call(null, calls.unmonitorSocket, .{ poller, socket });
}

pub export fn bbipc_monitored_events(poller: Handle, socket: Handle) callconv(.c) Result {
    return call(null, calls.monitoredEvents, .{ poller, socket });
}

pub export fn bbipc_set_monitored_events(
    poller: Handle,
    socket: Handle,
    asked: u32,
    system_code: ?*i32,
) callconv(.c) Result {
    return call(system_code, calls.setMonitoredEvents, .{ poller, socket, asked });
}

pub export fn bbipc_monitored_sockets(poller: Handle, sockets: ?[*]Handle, capacity: u64) callconv(.c) Result {
    return call(null, calls.monitoredSockets, .{ poller, roomOf(sockets, capacity) });
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
    return call(system_code, calls.waitForEvents, .{
        poller, roomOf(sockets, capacity), roomOf(happened, capacity), timeout_ns, place,
    });
}

pub export fn bbipc_wake(poller: Handle) callconv(.c) Result {
    return call(null, calls.wake, .{poller});
}
