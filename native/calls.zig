//! What the library does for those outside, as functions of Zig: with slices and errors. The C interface and the layer
//! for CPython stand on it. bbipc.h documents the calls, which have the same names there.
//!
//! A call that can fail with a code of the system's takes a `failure`, in which that is left.

const std = @import("std");
const events = @import("base/events.zig");
const handles = @import("core/handles.zig");
const messages = @import("core/messages.zig");
const net = @import("net/address.zig");
const places = @import("base/places.zig");
const platform = @import("platform.zig");
const pollers = @import("core/poller.zig");
const polling = @import("core/poll_sockets.zig");
const Server = @import("core/server.zig").Server;
const shortage = @import("core/shortage.zig");
const socket_events = @import("core/socket_events.zig");
const spinning = @import("core/spinning.zig");
const status = @import("base/status.zig");
const Stream = @import("core/stream.zig").Stream;
const transfer = @import("core/transfer.zig");

pub const Ipv4 = net.Ipv4;
pub const Ipv6 = net.Ipv6;
pub const Listening = net.Listening;
pub const LocalOptions = @import("base/local_options.zig").LocalOptions;
pub const Backend = platform.Backend;
pub const Deadline = platform.sys.Deadline;
pub const Handle = handles.Handle;

const Failure = status.Failure;
const Slot = handles.Slot;
const table = &handles.table;

/// An answer as a number, which is how both interfaces give it.
pub fn numberOf(answer: anytype) i64 {
    return switch (@typeInfo(@TypeOf(answer))) {
        .void => 0,
        .bool => @intFromBool(answer),
        .int => @intCast(answer),
        .@"enum" => @backingInt(answer),
        else => comptime unreachable,
    };
}

/// Whether a call can fail with a code of the system's: then its last argument is a failure.
pub fn takesFailure(comptime call: anytype) bool {
    const types = @typeInfo(@TypeOf(call)).@"fn".param_types;
    return types[types.len - 1].? == *Failure;
}

const forever_ns = -1;

fn checkTimeout(timeout_ns: i64) status.Error!void {
    if (timeout_ns < forever_ns) return error.InvalidArgument;
}

// ---- The library ----

pub fn openHandles() u64 {
    return table.open_count.load(.monotonic);
}

pub fn beforeFork() void {
    table.beforeFork();
}

pub fn afterForkInParent() void {
    table.afterForkInParent();
}

pub fn afterForkInChild() void {
    table.afterForkInChild();
}

pub fn prepareToWait(failure: *Failure) status.Error!void {
    handles.prepareToWait();
    handles.lock.lock();
    defer handles.lock.unlock();
    const sleeper: platform.poll.Sleeper = try .take(failure);
    sleeper.giveBack();
}

pub fn pendingOperations() u64 {
    return platform.sys.pendingOperations();
}

/// Whether all has been taken.
pub fn finishWrites(timeout_ns: i64) status.Error!bool {
    try checkTimeout(timeout_ns);
    return platform.finishWrites(if (timeout_ns == forever_ns) null else @intCast(timeout_ns));
}

/// The most that a wait looks before it sleeps: BBIPC_SPINNING_... of bbipc.h, or nanoseconds.
pub fn setSpinning(longest_ns: i64) status.Error!void {
    const adaptive = -1;
    if (longest_ns < adaptive or longest_ns > spinning.longest_max_ns) return error.InvalidArgument;
    spinning.setLongest(if (longest_ns == adaptive) spinning.default_ns else @intCast(longest_ns));
}

/// How much of a stream's last message is lost, in bytes; or 1 for a server whose file the system refuses to delete.
pub fn close(handle: Handle) status.Error!u64 {
    const slot = try table.pin(handle);
    defer slot.unpin();
    const lost = if (slot.object == .stream) messages.lostByClose(slot) else 0;
    const is_file_deleted = try table.close(handle);
    return if (is_file_deleted) lost else 1;
}

pub fn abort(stream: Handle) status.Error!void {
    return table.abort(stream);
}

pub fn fileno(socket: Handle) status.Error!i64 {
    const slot = try table.pinSocket(socket);
    defer slot.unpin();
    return switch (slot.object) {
        .server => |*server| server.fileno(),
        .stream => |*stream| stream.fileno(),
        .none, .poller => unreachable,
    };
}

// ---- Making servers and streams ----

/// A new object's handle. Reserves first, so that nothing is made that there is no handle for.
fn publishNew(
    comptime kind: std.meta.Tag(handles.Object),
    comptime make: anytype,
    arguments: anytype,
    failure: *Failure,
) status.Error!Handle {
    const slot = try table.reserve();
    errdefer table.abandon(slot);
    const object = try @call(.auto, make, arguments ++ .{failure});
    return table.publish(slot, @unionInit(handles.Object, @tagName(kind), object));
}

pub fn makeIpv4TcpServer(address: Ipv4, how: Listening, failure: *Failure) status.Error!Handle {
    if (how.backlog < 0) return error.InvalidArgument;
    return publishNew(.server, Server.listenTcp, .{ net.Address{ .ipv4 = address }, how }, failure);
}

pub fn connectToIpv4TcpServer(
    remote: Ipv4,
    local: Ipv4,
    reuse_address: bool,
    failure: *Failure,
) status.Error!Handle {
    const any = std.meta.eql(local, Ipv4.unspecified);
    return connectTcp(.{ .ipv4 = remote }, if (any) null else .{ .ipv4 = local }, reuse_address, failure);
}

pub fn makeIpv6TcpServer(address: Ipv6, how: Listening, failure: *Failure) status.Error!Handle {
    if (how.backlog < 0) return error.InvalidArgument;
    if (how.dual_stack and !address.isAny()) return error.InvalidArgument;
    if (address.isMapped()) return error.InvalidArgument;
    return publishNew(.server, Server.listenTcp, .{ net.Address{ .ipv6 = address }, how }, failure);
}

pub fn connectToIpv6TcpServer(
    remote: Ipv6,
    local: Ipv6,
    reuse_address: bool,
    failure: *Failure,
) status.Error!Handle {
    if (remote.isMapped()) return error.InvalidArgument;
    if (local.isMapped()) return error.InvalidArgument;
    const any = std.meta.eql(local, Ipv6.unspecified);
    return connectTcp(.{ .ipv6 = remote }, if (any) null else .{ .ipv6 = local }, reuse_address, failure);
}

fn connectTcp(
    remote: net.Address,
    local: ?net.Address,
    reuse_address: bool,
    failure: *Failure,
) status.Error!Handle {
    // Only a port that the caller chose can be one that lingers.
    if (reuse_address and (local == null or local.?.port() == 0)) return error.InvalidArgument;
    const from: ?net.Local = if (local) |address| .{ .address = address, .reuse_address = reuse_address } else null;
    return publishNew(.stream, Stream.connectTcp, .{ remote, from }, failure);
}

pub fn localPathnameLimit() u64 {
    return platform.pathname_limit;
}

/// Bytes.
pub const pathname_max = platform.pathname_max;

fn checkPathname(pathname: []const u8) status.Error!void {
    if (pathname.len == 0) return error.InvalidArgument;
    if (pathname.len > pathname_max) return error.NameTooLong;
}

pub fn makeLocalServer(pathname: []const u8, options: LocalOptions, failure: *Failure) status.Error!Handle {
    if (options.backlog < 0) return error.InvalidArgument;
    if (options.permissions) |mode| if (mode > LocalOptions.permissions_max) return error.InvalidArgument;
    try checkPathname(pathname);
    return publishNew(.server, Server.listenLocal, .{ pathname, options }, failure);
}

pub fn connectToLocalServer(pathname: []const u8, failure: *Failure) status.Error!Handle {
    try checkPathname(pathname);
    return publishNew(.stream, Stream.connectLocal, .{pathname}, failure);
}

pub fn acceptConnection(server: Handle, failure: *Failure) status.Error!Handle {
    const slot = try table.pinKind(server, .server);
    defer slot.unpin();
    const closings_before = shortage.closings();
    const stream = publishNew(.stream, Server.accept, .{&slot.object.server}, failure) catch |err| {
        setPause(slot, shortage.isShortage(err, failure), closings_before);
        return err;
    };
    setPause(slot, false, closings_before);
    return stream;
}

/// After a try to accept. Those who wait for the server wait otherwise from now on.
fn setPause(server: *Slot, pauses: bool, closings_before: u32) void {
    const pause = &server.object.server.pause;
    if (!pauses and !pause.wasBegun()) return;
    handles.lock.lock();
    defer handles.lock.unlock();
    if (pauses) pause.begin(platform.sys.monotonicNs(), closings_before) else pause.end();
    if (!server.isClosed()) socket_events.becameKnown(server);
}

// ---- From elsewhere, and to there ----

/// The two ends of a new connection.
pub fn makeStreamPair(failure: *Failure) status.Error![2]Handle {
    const slots = try table.reservePair();
    errdefer for (slots) |slot| table.abandon(slot);
    const ends = try platform.makePair(failure);
    var streams: [2]Handle = undefined;
    for (slots, ends, &streams) |slot, end, *stream| {
        stream.* = table.publish(slot, .{ .stream = .established(end, .local) });
    }
    return streams;
}

/// What the remote end says, and what it hears.
pub const Words = platform.Words;

pub fn makeStreamForClient(pathname: []const u8, words: *const Words, failure: *Failure) status.Error!Handle {
    try checkPathname(pathname);
    return publishNew(.stream, Stream.awaitClient, .{ pathname, words }, failure);
}

pub fn adoptStream(descriptor: i64, failure: *Failure) status.Error!Handle {
    return table.adopt(descriptor, .stream, Stream.adopt, failure);
}

pub fn adoptServer(descriptor: i64, failure: *Failure) status.Error!Handle {
    return table.adopt(descriptor, .server, Server.adopt, failure);
}

pub fn detach(stream: Handle, failure: *Failure) status.Error!i64 {
    return table.detach(stream, failure);
}

/// Of a server or a stream.
pub fn namespace(socket: Handle) status.Error!net.Namespace {
    const slot = try table.pinSocket(socket);
    defer slot.unpin();
    return switch (slot.object) {
        .server => |*server| server.listener.namespace(),
        .stream => |*stream| stream.remote_address.namespace(),
        .none, .poller => unreachable,
    };
}

/// How long it is, 0 if there is none, and a copy.
pub fn localPathname(socket: Handle, room: []u8, failure: *Failure) status.Error!usize {
    const slot = try table.pinSocket(socket);
    defer slot.unpin();
    return switch (slot.object) {
        .server => |*server| server.listener.copyPathname(room, failure),
        .stream => |*stream| stream.transport.copyPathname(room, failure),
        .none, .poller => unreachable,
    };
}

// ---- Addresses ----

pub fn ipv4LocalAddress(socket: Handle, failure: *Failure) status.Error!Ipv4 {
    return ipv4Of(try localAddress(socket, failure));
}

pub fn ipv4RemoteAddress(stream: Handle) status.Error!Ipv4 {
    return ipv4Of(try remoteAddress(stream));
}

pub fn ipv6LocalAddress(socket: Handle, failure: *Failure) status.Error!Ipv6 {
    return ipv6Of(try localAddress(socket, failure));
}

pub fn ipv6RemoteAddress(stream: Handle) status.Error!Ipv6 {
    return ipv6Of(try remoteAddress(stream));
}

fn localAddress(socket: Handle, failure: *Failure) status.Error!net.Address {
    const slot = try table.pinSocket(socket);
    defer slot.unpin();
    return switch (slot.object) {
        .server => |*server| server.localAddress(failure),
        .stream => |*stream| stream.localAddress(failure),
        .none, .poller => unreachable,
    };
}

fn remoteAddress(stream: Handle) status.Error!net.Address {
    const slot = try table.pinKind(stream, .stream);
    defer slot.unpin();
    return slot.object.stream.remote_address;
}

fn ipv4Of(address: net.Address) status.Error!Ipv4 {
    return if (address == .ipv4) address.ipv4 else error.WrongKind;
}

fn ipv6Of(address: net.Address) status.Error!Ipv6 {
    return if (address == .ipv6) address.ipv6 else error.WrongKind;
}

pub const Credentials = @import("base/credentials.zig").Credentials;

/// Of a local stream. The system is asked each time.
pub fn peerCredentials(stream: Handle, failure: *Failure) status.Error!Credentials {
    const slot = try table.pinKind(stream, .stream);
    defer slot.unpin();
    return slot.object.stream.transport.peerCredentials(failure);
}

// ---- Reading and writing ----

/// The pinned stream. While the connection's outcome is not known, it is asked for.
fn pinStream(stream: Handle, failure: *Failure) status.Error!*Slot {
    const slot = try table.pinKind(stream, .stream);
    errdefer slot.unpin();
    if (!slot.object.stream.connection.known.load().determined) {
        handles.lock.lock();
        defer handles.lock.unlock();
        _ = try socket_events.eventsOf(slot, null, events.determined, failure);
    }
    return slot;
}

pub fn read(stream: Handle, buffer: []u8, peeks: bool, failure: *Failure) status.Error!usize {
    const slot = try pinStream(stream, failure);
    defer slot.unpin();
    if (buffer.len == 0) return 0;
    return transfer.read(slot, buffer, peeks, failure);
}

pub fn write(stream: Handle, data: []const u8, failure: *Failure) status.Error!usize {
    const slot = try pinStream(stream, failure);
    defer slot.unpin();
    if (data.len == 0) return 0;
    return transfer.write(slot, data, failure);
}

pub fn readExactly(stream: Handle, buffer: []u8, timeout_ns: i64, failure: *Failure) status.Error!usize {
    const slot = try pinStream(stream, failure);
    defer slot.unpin();
    try checkTimeout(timeout_ns);
    if (buffer.len == 0) return 0;
    return transfer.readExactly(slot, buffer, .by_reading, .after(timeout_ns), failure);
}

/// The same for a caller who knows that nothing is there yet. There is at least a byte to read.
pub fn readWhenThere(stream: Handle, buffer: []u8, timeout_ns: i64, failure: *Failure) status.Error!usize {
    const slot = try pinStream(stream, failure);
    defer slot.unpin();
    return transfer.readExactly(slot, buffer, .by_waiting, .after(timeout_ns), failure);
}

pub fn writeAll(stream: Handle, data: []const u8, timeout_ns: i64, failure: *Failure) status.Error!usize {
    const slot = try pinStream(stream, failure);
    defer slot.unpin();
    try checkTimeout(timeout_ns);
    if (data.len == 0) return 0;
    return transfer.writeAll(slot, data, .after(timeout_ns), failure);
}

// ---- Messages ----

pub const Sent = messages.Sent;
pub const Received = messages.Received;
pub const CopyTaker = messages.CopyTaker;

/// How many messages have gone or are kept, in their order.
pub fn sendMessages(
    stream: Handle,
    all: []const []const u8,
    timeout_ns: i64,
    failure: *Failure,
) status.Error!Sent {
    const slot = try pinStream(stream, failure);
    defer slot.unpin();
    try checkTimeout(timeout_ns);
    try checkSizes(slot, all, failure);
    return messages.send(slot, all, .after(timeout_ns), failure);
}

/// The same for one whose memory stays until `endLoan`. So what is left of a large one need not be copied.
pub fn sendLent(stream: Handle, message: []const u8, timeout_ns: i64, failure: *Failure) status.Error!Sent {
    const slot = try pinStream(stream, failure);
    defer slot.unpin();
    try checkTimeout(timeout_ns);
    try checkSizes(slot, &.{message}, failure);
    return messages.sendLent(slot, &.{message}, .after(timeout_ns), failure);
}

/// The memory of a message goes. A stream that is closed meanwhile has ended the loan itself.
pub fn endLoan(stream: Handle, message: []const u8) status.Error!void {
    const slot = try table.pinKind(stream, .stream);
    defer slot.unpin();
    return messages.endLoan(slot, message);
}

fn checkSizes(slot: *Slot, all: []const []const u8, failure: *Failure) status.Error!void {
    const size_max = try messages.sizeMax(slot);
    for (all, 0..) |message, index| {
        errdefer failure.index = index;
        if (message.len > size_max) return error.MessageTooLarge;
    }
}

/// Whether nothing of a message is left to be sent.
pub fn drain(stream: Handle, timeout_ns: i64, failure: *Failure) status.Error!bool {
    const slot = try pinStream(stream, failure);
    defer slot.unpin();
    try checkTimeout(timeout_ns);
    return messages.drain(slot, .after(timeout_ns), failure);
}

/// Bytes.
pub fn unsent(stream: Handle) status.Error!u64 {
    const slot = try table.pinKind(stream, .stream);
    defer slot.unpin();
    return messages.unsent(slot);
}

pub fn receiveMessage(
    stream: Handle,
    buffer: []u8,
    size: *usize,
    timeout_ns: i64,
    failure: *Failure,
) status.Error!Received {
    const slot = try pinStream(stream, failure);
    defer slot.unpin();
    try checkTimeout(timeout_ns);
    return messages.receive(slot, buffer, size, .after(timeout_ns), failure);
}

/// How many messages the taker has taken: see messages.takeNow.
pub fn takeMessages(stream: Handle, taker: anytype, failure: *Failure) status.Error!usize {
    const slot = try pinStream(stream, failure);
    defer slot.unpin();
    return messages.takeNow(slot, taker, failure);
}

/// Whether a message, or the end, has come in time.
pub fn waitForMessage(stream: Handle, timeout_ns: i64, failure: *Failure) status.Error!bool {
    const slot = try pinStream(stream, failure);
    defer slot.unpin();
    try checkTimeout(timeout_ns);
    var goes_on: ?bool = null;
    return messages.waitForMessage(slot, .after(timeout_ns), &goes_on, failure);
}

/// How many bytes, 0 if the delimiter did not come in time.
pub fn readUntil(
    stream: Handle,
    delimiter: []const u8,
    buffer: []u8,
    timeout_ns: i64,
    failure: *Failure,
) status.Error!usize {
    const slot = try pinStream(stream, failure);
    defer slot.unpin();
    try checkTimeout(timeout_ns);
    if (delimiter.len == 0 or delimiter.len > buffer.len) return error.InvalidArgument;
    return messages.readUntil(slot, delimiter, buffer, .after(timeout_ns), failure);
}

pub fn maxMessageSize(stream: Handle) status.Error!u64 {
    const slot = try table.pinKind(stream, .stream);
    defer slot.unpin();
    return messages.sizeMax(slot);
}

pub fn setMaxMessageSize(stream: Handle, size: u64) status.Error!void {
    const slot = try table.pinKind(stream, .stream);
    defer slot.unpin();
    if (size > std.math.maxInt(i64)) return error.InvalidArgument;
    return messages.setSizeMax(slot, size);
}

// ---- The end of writing, and of the connection ----

pub fn finishWriting(stream: Handle, failure: *Failure) status.Error!void {
    const slot = try pinStream(stream, failure);
    defer slot.unpin();
    try slot.object.stream.finishWriting(failure);
    handles.lock.lock();
    defer handles.lock.unlock();
    socket_events.becameKnown(slot);
}

pub const ConnectionError = union(enum) {
    none,
    /// The connection was established and has ended, with the system's code for the reason.
    severed: i32,
    /// With the system's code.
    not_established: i32,
};

pub fn connectionError(stream: Handle, failure: *Failure) status.Error!ConnectionError {
    const slot = try pinStream(stream, failure);
    defer slot.unpin();
    handles.lock.lock();
    defer handles.lock.unlock();
    const code = try slot.object.stream.connectionError(failure);
    if (code == 0) return .none;
    const failed = slot.object.stream.connection.known.load().failed;
    return if (failed) .{ .not_established = code } else .{ .severed = code };
}

// ---- Polling ----

/// The part of the events that holds. A place of null is for a wait in one piece.
pub fn pollSocket(
    socket: Handle,
    asked: u32,
    timeout_ns: i64,
    place: ?*u32,
    failure: *Failure,
) status.Error!u32 {
    var happened: u32 = 0;
    _ = try pollSockets(&.{socket}, &.{asked}, (&happened)[0..1], timeout_ns, place, failure);
    return happened;
}

/// How many of the sockets have one of their events. The slices are of the same length.
pub fn pollSockets(
    sockets: []const Handle,
    asked: []const u32,
    happened: []u32,
    timeout_ns: i64,
    place: ?*u32,
    failure: *Failure,
) status.Error!usize {
    try checkTimeout(timeout_ns);
    if (sockets.len > std.math.maxInt(i32)) return error.InvalidArgument;
    for (asked, 0..) |one, index| {
        errdefer failure.index = index;
        if (one & events.inside.all != 0) return error.WrongEvents;
    }
    var own_place: u32 = places.none;
    const its_place = place orelse &own_place;
    return polling.pollSockets(.{
        .sockets = sockets,
        .asked = asked,
        .happened = happened,
        .place = its_place,
        .goes_on = its_place.* != places.none,
    }, .after(timeout_ns), failure);
}

// ---- Pollers ----

pub fn makePoller(backend: Backend, failure: *Failure) status.Error!Handle {
    return publishNew(.poller, pollers.Poller.create, .{backend}, failure);
}

pub fn pollerBackend(poller: Handle) status.Error!Backend {
    const slot = try table.pinKind(poller, .poller);
    defer slot.unpin();
    return pollers.of(slot).backend;
}

pub fn pollerFileno(poller: Handle, failure: *Failure) status.Error!i64 {
    const slot = try table.pinKind(poller, .poller);
    defer slot.unpin();
    handles.lock.lock();
    defer handles.lock.unlock();
    return pollers.of(slot).fileno(failure);
}

/// A poller, and a socket of a kind that can have these events, both pinned.
const Pair = struct {
    poller: *Slot,
    socket: *Slot,

    fn pin(poller: Handle, socket: Handle, asked: u32) status.Error!Pair {
        const poller_slot = try table.pinKind(poller, .poller);
        errdefer poller_slot.unpin();
        const socket_slot = try table.pinSocket(socket);
        errdefer socket_slot.unpin();
        if (asked & ~socket_events.eventsAllowed(socket_slot) != 0) return error.WrongEvents;
        return .{ .poller = poller_slot, .socket = socket_slot };
    }

    fn unpin(pair: Pair) void {
        pair.socket.unpin();
        pair.poller.unpin();
    }
};

pub fn monitorSocket(poller: Handle, socket: Handle, asked: u32, failure: *Failure) status.Error!void {
    const pair: Pair = try .pin(poller, socket, asked);
    defer pair.unpin();
    handles.lock.lock();
    defer handles.lock.unlock();
    try pollers.of(pair.poller).monitor(pair.socket, asked, failure);
}

pub fn setMonitoredEvents(poller: Handle, socket: Handle, asked: u32, failure: *Failure) status.Error!void {
    const pair: Pair = try .pin(poller, socket, asked);
    defer pair.unpin();
    handles.lock.lock();
    defer handles.lock.unlock();
    try pollers.of(pair.poller).setMonitored(pair.socket, asked, failure);
}

/// Whether it was there.
pub fn unmonitorSocket(poller: Handle, socket: Handle) status.Error!bool {
    const slot = try table.pinKind(poller, .poller);
    defer slot.unpin();
    handles.lock.lock();
    defer handles.lock.unlock();
    return pollers.of(slot).unmonitor(try findSocket(socket));
}

pub fn monitoredEvents(poller: Handle, socket: Handle) status.Error!u32 {
    const slot = try table.pinKind(poller, .poller);
    defer slot.unpin();
    handles.lock.lock();
    defer handles.lock.unlock();
    return pollers.of(slot).monitoredEvents(try findSocket(socket));
}

/// With the lock held: an open socket, or null for one that is closed.
fn findSocket(socket: Handle) status.Error!?*Slot {
    const slot = table.find(socket) orelse return null;
    return if (slot.isSocket()) slot else error.WrongKind;
}

/// How many there are, which may be more than there is room for.
pub fn monitoredSockets(poller: Handle, room: []Handle) status.Error!u64 {
    const slot = try table.pinKind(poller, .poller);
    defer slot.unpin();
    handles.lock.lock();
    defer handles.lock.unlock();
    return pollers.of(slot).monitored(room);
}

/// How many sockets are reported, with their events. The slices are of the same length. A place of null is for a wait
/// in one piece.
pub fn waitForEvents(
    poller: Handle,
    sockets: []Handle,
    happened: []u32,
    timeout_ns: i64,
    place: ?*u32,
    failure: *Failure,
) status.Error!usize {
    std.debug.assert(sockets.len == happened.len);
    const slot = try table.pinKind(poller, .poller);
    defer slot.unpin();
    try checkTimeout(timeout_ns);
    if (sockets.len == 0) return error.InvalidArgument;
    var results: pollers.Poller.Results = .{
        .sockets = sockets.ptr,
        .events = happened.ptr,
        .capacity = sockets.len,
    };
    var own_place: u32 = places.none;
    try pollers.of(slot).wait(&results, timeout_ns, place orelse &own_place, failure);
    return results.count;
}

pub fn wake(poller: Handle) status.Error!void {
    const slot = try table.pinKind(poller, .poller);
    defer slot.unpin();
    handles.lock.lock();
    defer handles.lock.unlock();
    try pollers.of(slot).wake();
}
