//! Calls the C interface at random, from one thread or several, with good and bad arguments: made-up, stale and closed
//! handles, handles of the wrong kind, crossed and absurd ranges, null pointers, malformed names. Every result must be
//! one that bbipc.h allows; in the end everything is closed, and nothing may be left.
//!
//! Usage: random-calls CALLS SEED [THREADS]
//!        random-calls inputs COUNT SEED    (what streams are made to believe: random_inputs.zig)
//!
//! One thread with the same seed makes the same calls again, but for what depends on time.

const std = @import("std");
const c = @import("bbipc_h");
const random_inputs = @import("random_inputs.zig");
const sys = @import("../platform.zig").sys;
const support = @import("end_to_end/support.zig");
const system = support.system;
const ipv6_loopback = support.ipv6_loopback;

comptime {
    _ = @import("../c_api.zig");
}

const Handle = c.bbipc_handle;

fn fail(comptime format: []const u8, arguments: anytype) noreturn {
    std.debug.print("random-calls: " ++ format ++ "\n", arguments);
    std.process.exit(1);
}

pub fn main(init: std.process.Init) !void {
    const arguments = try init.minimal.args.toSlice(init.arena.allocator());
    if (arguments.len == 4 and std.mem.eql(u8, arguments[1], "inputs")) {
        const inputs_count = numberOf(usize, arguments[2]);
        try random_inputs.run(inputs_count, numberOf(u64, arguments[3]));
        var text: [64]u8 = undefined;
        const line = try std.mem.print(&text, "{d} inputs\n", .{inputs_count});
        return std.Io.File.stdout().writeStreamingAll(init.io, line);
    }
    if (arguments.len < 3 or arguments.len > 4) fail("usage: random-calls CALLS SEED [THREADS]", .{});
    const calls = numberOf(usize, arguments[1]);
    const seed = numberOf(u64, arguments[2]);
    const threads_count = if (arguments.len > 3) numberOf(usize, arguments[3]) else 1;
    if (threads_count == 0 or threads_count > threads_max) fail("1 to {d} threads", .{threads_max});

    const shared: Shared = try .init(init.io);
    defer shared.deinit(init.io);
    try system.warmUp();
    const descriptors_before = try system.openDescriptors(init.io);
    const start_ns = sys.monotonicNs();

    const callers = try init.gpa.alloc(Caller, threads_count);
    defer init.gpa.free(callers);
    var threads: [threads_max]std.Thread = undefined;
    for (callers, threads[0..callers.len], 0..) |*caller, *thread, number| {
        caller.* = .init(&shared, seed +% number, calls / threads_count + @intFromBool(number < calls % threads_count));
        thread.* = try std.Thread.spawn(.{}, Caller.run, .{caller});
    }
    var total: Tally = .{};
    for (callers, threads[0..callers.len]) |*caller, thread| {
        thread.join();
        total.add(caller.tally);
    }
    pool.closeAll();

    const elapsed_ns = sys.monotonicNs() - start_ns;
    if (c.bbipc_open_handles() != 0) fail("{d} handles are left", .{c.bbipc_open_handles()});
    // Both ends of every connection are closed, so nothing can be in the way of the rest.
    if (c.bbipc_finish_writes(patience_ns) != 1) fail("writes go on although everything is closed", .{});
    const end_ns = sys.monotonicNs() + patience_ns;
    while (sys.monotonicNs() < end_ns) {
        if (c.bbipc_pending_operations() == 0 and try system.openDescriptors(init.io) == descriptors_before) break;
        std.Thread.yield() catch {};
    }
    if (c.bbipc_pending_operations() != 0) fail("{d} operations are pending", .{c.bbipc_pending_operations()});
    const descriptors = try system.openDescriptors(init.io);
    if (descriptors != descriptors_before) {
        fail("{d} descriptors before, {d} after", .{ descriptors_before, descriptors });
    }
    // Calls that all fail would prove nothing.
    for (std.enums.values(Operation)) |operation| {
        if (calls < 200_000 or operation.weight() == 0 or operation.lacksIpv6()) continue;
        if (total.succeeded.get(operation) == 0) fail("{t} never succeeded", .{operation});
    }
    var buffer: [256]u8 = undefined;
    const format = "{d} calls, seed {d}, threads {d}: {d} succeeded, " ++
        "{d} bytes written, {d} read, {d} forks, {d}.{d} s\n";
    const text = try std.mem.print(&buffer, format, .{
        total.calls,
        seed,
        threads_count,
        total.successes(),
        total.written,
        total.read,
        total.forks,
        elapsed_ns / std.time.ns_per_s,
        elapsed_ns % std.time.ns_per_s / (std.time.ns_per_s / 10),
    });
    try std.Io.File.stdout().writeStreamingAll(init.io, text);
}

const threads_max = 64;
const patience_ns = 20 * std.time.ns_per_s;

fn numberOf(comptime Number: type, text: []const u8) Number {
    return std.fmt.parseInt(Number, text, 10) catch fail("not a number: {s}", .{text});
}

const Kind = enum { server, stream, poller };

/// The handles that were given, open or closed by now. Whatever is open is in it, or in the hands of one thread.
const Pool = struct {
    const size_max = 160;

    /// Not every processor can exchange a handle in one step.
    lock: sys.Lock = .{},
    handles: [3][size_max]Handle = @splat(@splat(0)),

    fn of(self: *Pool, kind: Kind) []Handle {
        return switch (kind) {
            .server => self.handles[0][0..20],
            .stream => self.handles[1][0..size_max],
            .poller => self.handles[2][0..12],
        };
    }

    /// One of this kind.
    fn pick(self: *Pool, kind: Kind, random: std.Random) Handle {
        self.lock.lock();
        defer self.lock.unlock();
        const among = self.of(kind);
        return among[random.uintLessThan(usize, among.len)];
    }

    /// Puts a handle in the place of another, which is returned.
    fn exchange(self: *Pool, kind: Kind, handle: Handle, random: std.Random) Handle {
        self.lock.lock();
        defer self.lock.unlock();
        const among = self.of(kind);
        const place = &among[random.uintLessThan(usize, among.len)];
        defer place.* = handle;
        return place.*;
    }

    /// For the last thread.
    fn closeAll(self: *Pool) void {
        for (self.handles) |kind| for (kind) |handle| {
            _ = c.bbipc_close(handle);
        };
    }
};

var pool: Pool = .{};

/// What all threads have in common.
const Shared = struct {
    buffer: [64]u8,
    size: usize,
    /// An address of this run's own, so that no other program's server is called by mistake.
    host: u32,

    fn init(io: std.Io) !Shared {
        var self: Shared = undefined;
        self.size = (try system.makePlace(io, &self.buffer)).len;
        var random: u64 = 0;
        io.random(std.mem.asBytes(&random));
        // All of 127.0.0.0/8 is the machine itself.
        self.host = if (system.second_loopback == 0x7f000001)
            0x7f000001 // there is no other
        else
            @truncate(0x7f000101 | (random & 0x00fefefe));
        return self;
    }

    fn deinit(self: *const Shared, io: std.Io) void {
        system.removePlace(io, self.place());
    }

    /// What the names of local servers begin with.
    fn place(self: *const Shared) []const u8 {
        return self.buffer[0..self.size];
    }
};

const Operation = enum {
    make_ipv4_tcp_server,
    connect_to_ipv4_tcp_server,
    make_ipv6_tcp_server,
    connect_to_ipv6_tcp_server,
    make_local_server,
    connect_to_local_server,
    accept_connection,
    make_stream_pair,
    make_stream_for_client,
    detach,
    namespace,
    local_pathname,
    make_poller,
    close,
    abort,
    fileno,
    ipv4_local_address,
    ipv4_remote_address,
    ipv6_local_address,
    ipv6_remote_address,
    peer_credentials,
    read,
    write,
    read_exactly,
    write_all,
    send_message,
    send_messages,
    drain,
    unsent,
    receive_message,
    receive_messages,
    read_until,
    max_message_size,
    set_max_message_size,
    finish_writing,
    connection_error,
    poll_socket,
    poll_sockets,
    poller_backend,
    poller_fileno,
    monitor_socket,
    unmonitor_socket,
    monitored_events,
    set_monitored_events,
    monitored_sockets,
    wait_for_events,
    wake,
    library,
    fork,

    /// How often, in proportion. Connections over TCP are few, since the system remembers each for a minute.
    fn weight(operation: Operation) u32 {
        return switch (operation) {
            .make_ipv4_tcp_server => 60,
            .connect_to_ipv4_tcp_server => 120,
            .make_ipv6_tcp_server => 60,
            .connect_to_ipv6_tcp_server => 120,
            .ipv6_local_address, .ipv6_remote_address => 250,
            .make_local_server => 300,
            .connect_to_local_server => 1200,
            .accept_connection => 1500,
            .make_stream_pair => 200,
            .make_stream_for_client => if (system.has_pipes) 100 else 0,
            .detach => 300,
            .namespace => 250,
            .local_pathname => if (system.has_pipes) 0 else 250,
            .make_poller => 100,
            .close => 500,
            .abort => 100,
            .fileno, .ipv4_local_address, .ipv4_remote_address => 250,
            .peer_credentials, .connection_error, .poller_backend => 250,
            .read, .write => 2500,
            .read_exactly, .write_all => 500,
            .send_message, .receive_message => 1200,
            .send_messages, .receive_messages => 600,
            .drain, .unsent, .read_until, .max_message_size, .set_max_message_size => 250,
            .finish_writing => 200,
            .poller_fileno => 30,
            .poll_socket, .wait_for_events => 1500,
            .poll_sockets => 500,
            .monitor_socket, .set_monitored_events => 1200,
            .unmonitor_socket, .monitored_events, .wake => 400,
            .monitored_sockets => 200,
            .library => 150,
            .fork => if (system.has_fork) 1 else 0,
        };
    }

    /// Whether it can't succeed on this machine.
    fn lacksIpv6(operation: Operation) bool {
        return switch (operation) {
            .make_ipv6_tcp_server, .connect_to_ipv6_tcp_server => !support.hasIpv6(),
            .ipv6_local_address, .ipv6_remote_address => !support.hasIpv6(),
            else => false,
        };
    }

    const count = @typeInfo(Operation).@"enum".field_names.len;
    const weights: [count]u32 = weights: {
        var result: [count]u32 = undefined;
        for (&result, 0..) |*one, index| one.* = weight(@fromBackingInt(@intCast(index)));
        break :weights result;
    };
};

const Tally = struct {
    calls: u64 = 0,
    written: u64 = 0,
    read: u64 = 0,
    forks: u64 = 0,
    succeeded: std.EnumArray(Operation, u64) = .initFill(0),

    fn add(tally: *Tally, other: Tally) void {
        tally.calls += other.calls;
        tally.written += other.written;
        tally.read += other.read;
        tally.forks += other.forks;
        for (&tally.succeeded.values, other.succeeded.values) |*sum, one| sum.* += one;
    }

    fn successes(tally: *const Tally) u64 {
        var sum: u64 = 0;
        for (tally.succeeded.values) |one| sum += one;
        return sum;
    }
};

/// One thread and its random numbers.
const Caller = struct {
    shared: *const Shared,
    generator: std.Random.DefaultPrng,
    calls: usize,
    tally: Tally = .{},
    is_child: bool = false,
    code: i32 = 0,
    buffer: [4096]u8 = @splat(filler),

    const filler = 0xa5;
    const many = 40;

    fn init(shared: *const Shared, seed: u64, calls: usize) Caller {
        return .{ .shared = shared, .generator = .init(seed), .calls = calls };
    }

    fn run(self: *Caller) void {
        for (0..self.calls) |_| {
            const index = self.random().weightedIndex(u32, &Operation.weights);
            const operation: Operation = @fromBackingInt(@intCast(index));
            // A child makes no children.
            self.call(if (operation == .fork and self.is_child) .library else operation);
        }
    }

    fn random(self: *Caller) std.Random {
        return self.generator.random();
    }

    fn oneIn(self: *Caller, chances: u32) bool {
        return self.random().uintLessThan(u32, chances) == 0;
    }

    // ---- Arguments ----

    /// Mostly a handle of the kind, possibly closed by now; sometimes any other, sometimes one that was never given.
    fn handle(self: *Caller, kind: Kind) Handle {
        const given = self.pick(if (self.oneIn(16)) self.random().enumValue(Kind) else kind);
        if (!self.oneIn(32)) return given;
        const any = self.random().int(i64);
        return switch (self.random().uintLessThan(u32, 7)) {
            0 => any,
            1 => 0,
            2 => -given,
            3 => given ^ @as(i64, 1) << self.random().int(u6),
            4 => given +% (@as(i64, 1) << 32),
            5 => any & 0x7fff,
            else => any & 0x7fff_0000_00ff,
        };
    }

    fn pick(self: *Caller, kind: Kind) Handle {
        return pool.pick(kind, self.random());
    }

    fn socket(self: *Caller) Handle {
        return self.handle(if (self.oneIn(6)) .server else .stream);
    }

    fn events(self: *Caller) u32 {
        if (self.oneIn(32)) return self.random().int(u32);
        if (self.oneIn(8)) return c.BBIPC_SERVER_EVENTS;
        return self.random().int(u32) & self.random().int(u32) & c.BBIPC_STREAM_EVENTS;
    }

    /// Seldom a wait at all, and never a long one.
    fn timeoutNs(self: *Caller) i64 {
        if (self.oneIn(64)) return -2 - @as(i64, self.random().int(u32));
        if (!self.oneIn(32)) return 0;
        return self.random().uintAtMost(u32, std.time.ns_per_ms);
    }

    fn flags(self: *Caller) u32 {
        return if (self.oneIn(32)) self.random().int(u32) else self.random().uintAtMost(u32, 1);
    }

    fn flagsOrNone(self: *Caller) u32 {
        return if (self.oneIn(16)) self.random().int(u32) else 0;
    }

    fn backlog(self: *Caller) i32 {
        return if (self.oneIn(16)) self.random().int(i32) else self.random().uintAtMost(u8, 16);
    }

    fn codePointer(self: *Caller) ?*i32 {
        self.code = 0;
        return if (self.oneIn(4)) null else &self.code;
    }

    const Range = struct { start: u64, end: u64 };

    /// Inside the buffer, or such that it must be refused: the library can't know how large the buffer is.
    fn range(self: *Caller) Range {
        const one = self.random().uintAtMost(u64, self.buffer.len);
        const other = self.random().uintAtMost(u64, self.buffer.len);
        if (self.oneIn(16)) return .{ .start = self.random().int(u64) | 1 << 63, .end = other };
        if (self.oneIn(16)) return .{ .start = one, .end = std.math.maxInt(u64) - other };
        if (self.oneIn(16)) return .{ .start = @max(one, other), .end = @min(one, other) };
        return .{ .start = @min(one, other), .end = @max(one, other) };
    }

    const Name = struct {
        bytes: [600]u8 = undefined,
        size: u64 = 0,
        is_null: bool = false,

        fn pointer(name: *const Name) ?*const anyopaque {
            return if (name.is_null) null else &name.bytes;
        }
    };

    /// A name of this run's, or an odd one, that is refused on most systems.
    fn localName(self: *Caller, number: u64) Name {
        var name: Name = .{};
        const place = self.shared.place();
        const format = "{s}" ++ .{system.separator} ++ "{d}";
        const text = std.mem.print(&name.bytes, format, .{ place, number }) catch unreachable;
        name.size = text.len;
        if (!self.oneIn(16)) return name;
        switch (self.random().uintLessThan(u32, 7)) {
            0 => name.bytes[self.random().uintLessThan(usize, text.len)] = 0,
            1 => name.size = 0,
            2 => name.size = self.random().int(u64) | 1 << 20,
            3 => {
                @memset(name.bytes[text.len..], 'x');
                name.size = name.bytes.len;
            },
            4 => name.size = place.len, // where there are directories, one that is there
            // Not before the separator, or the file would lie outside the run's directory. No character in UTF-8.
            5 => name.bytes[self.random().intRangeLessThan(usize, place.len + 1, text.len)] = 0xff,
            else => name.is_null = true,
        }
        return name;
    }

    /// Few, so that clients find servers.
    fn serverNumber(self: *Caller) u64 {
        return self.random().uintLessThan(u64, 12);
    }

    /// A socket for a poller: often one that it has.
    fn socketOf(self: *Caller, poller: Handle) Handle {
        var sockets: [many]Handle = undefined;
        const count = @min(c.bbipc_monitored_sockets(poller, &sockets, many), many);
        if (count <= 0 or self.oneIn(2)) return self.socket();
        return sockets[self.random().uintLessThan(usize, @intCast(count))];
    }

    // ---- Results ----

    /// Puts a new handle into the pool, and closes the one that was in its place.
    fn keep(self: *Caller, kind: Kind, result: i64) void {
        if (result < 0) return;
        if (result == 0) fail("a {t} has the handle 0", .{kind});
        _ = c.bbipc_close(pool.exchange(kind, result, self.random()));
    }

    fn expectEvents(_: *Caller, asked: u32, result: u32) void {
        if (result & ~asked != 0) fail("asked for the events {x}, answered {x}", .{ asked, result });
    }

    // ---- Calls ----

    fn call(self: *Caller, operation: Operation) void {
        self.code = 0;
        const code_asked = self.codePointer();
        const result = self.make(operation, code_asked);
        self.tally.calls += 1;
        if (result >= 0) {
            self.tally.succeeded.getPtr(operation).* += 1;
        } else if (c.bbipc_error_message(result) == c.bbipc_error_message(std.math.minInt(i64))) {
            fail("{t} gave {d}, which is no error of the header's", .{ operation, result });
        }
        if (code_asked == null or result >= 0) return;
        const carries = result == c.BBIPC_ERROR_SYSTEM or result == c.BBIPC_ERROR_NO_CONNECTION or
            result == c.BBIPC_ERROR_NO_LOCAL_SERVER or result == c.BBIPC_ERROR_SERVER_RUNNING;
        if (carries and self.code <= 0) fail("{t} gave {d} with the code {d}", .{ operation, result, self.code });
        if (!carries and self.code != 0) fail("{t} gave {d} and the code {d}", .{ operation, result, self.code });
    }

    fn makeLocalServer(self: *Caller, code: ?*i32) i64 {
        // A name that stays when its server closes can't be used again.
        const replaces: u32 = if (self.oneIn(4)) c.BBIPC_REPLACE_DEAD else 0;
        const made_flags = (if (self.oneIn(16)) self.flags() else c.BBIPC_DELETE_ON_CLOSE) | replaces;
        const permissions: i32 = switch (self.random().uintAtMost(u8, 7)) {
            0 => self.random().int(i32),
            1 => self.random().uintAtMost(u16, 0o777),
            2 => 0o600,
            else => c.BBIPC_DEFAULT_PERMISSIONS,
        };
        const stays = made_flags & c.BBIPC_DELETE_ON_CLOSE == 0;
        const name = self.localName(if (stays) self.random().int(u64) else self.serverNumber());
        return c.bbipc_make_local_server(
            name.pointer(),
            name.size,
            self.backlog(),
            permissions,
            made_flags,
            code,
        );
    }

    fn make(self: *Caller, operation: Operation, code: ?*i32) i64 {
        switch (operation) {
            .make_ipv4_tcp_server => {
                const host = if (self.oneIn(32)) 0xc0000201 else self.shared.host; // RFC 5737: no machine's
                const made = c.bbipc_make_ipv4_tcp_server(host, 0, self.backlog(), self.flags(), code);
                self.keep(.server, made);
                return made;
            },
            .connect_to_ipv4_tcp_server => {
                var port: u16 = 0;
                // Port 0 is nobody's.
                if (!self.oneIn(16)) _ = c.bbipc_ipv4_local_address(self.pick(.server), null, &port, null);
                const local_host = if (self.oneIn(4)) self.shared.host else 0;
                const asked = self.flagsOrNone();
                const made = c.bbipc_connect_to_ipv4_tcp_server(self.shared.host, port, local_host, 0, asked, code);
                self.keep(.stream, made);
                return made;
            },
            .make_ipv6_tcp_server, .connect_to_ipv6_tcp_server, .ipv6_local_address, .ipv6_remote_address => {
                return self.useIpv6(operation, code);
            },
            .make_local_server => {
                const made = self.makeLocalServer(code);
                self.keep(.server, made);
                return made;
            },
            .connect_to_local_server => {
                const name = self.localName(self.serverNumber());
                const made = c.bbipc_connect_to_local_server(name.pointer(), name.size, code);
                self.keep(.stream, made);
                return made;
            },
            .accept_connection => {
                const accepted = c.bbipc_accept_connection(self.handle(.server), code);
                self.keep(.stream, accepted);
                return accepted;
            },
            .make_stream_pair, .make_stream_for_client, .detach, .namespace, .local_pathname => {
                return self.makeElsewhere(operation, code);
            },
            .make_poller => {
                const backend = if (self.oneIn(8)) self.random().int(i32) else self.random().uintAtMost(u8, 4);
                const made = c.bbipc_make_poller(backend, code);
                self.keep(.poller, made);
                return made;
            },
            .close => return c.bbipc_close(if (self.oneIn(8)) self.handle(.poller) else self.socket()),
            .abort => return c.bbipc_abort(self.handle(.stream)),
            .fileno, .ipv4_local_address, .ipv4_remote_address, .peer_credentials => return self.ask(operation, code),
            else => return self.moveBytes(operation, code),
        }
    }

    fn ask(self: *Caller, operation: Operation, code: ?*i32) i64 {
        var host: u32 = 0;
        var port: u16 = 0;
        const host_asked = if (self.oneIn(4)) null else &host;
        const port_asked = if (self.oneIn(4)) null else &port;
        switch (operation) {
            .fileno => return c.bbipc_fileno(self.socket()),
            .ipv4_local_address => return c.bbipc_ipv4_local_address(self.socket(), host_asked, port_asked, code),
            .ipv4_remote_address => return c.bbipc_ipv4_remote_address(self.socket(), host_asked, port_asked),
            .peer_credentials => {
                var user: i64 = 0;
                var text: [c.BBIPC_SECURITY_ID_SIZE]u8 = undefined;
                const room = self.random().uintAtMost(u8, text.len);
                const asked = if (self.oneIn(4)) null else &user;
                return c.bbipc_peer_credentials(self.handle(.stream), asked, null, null, &text, room, code);
            },
            else => unreachable,
        }
    }

    fn useIpv6(self: *Caller, operation: Operation, code: ?*i32) i64 {
        var host: [16]u8 = ipv6_loopback;
        var scope: u32 = 0;
        var port: u16 = 0;
        const host_asked: ?[*]u8 = if (self.oneIn(4)) null else &host;
        const port_asked = if (self.oneIn(4)) null else &port;
        switch (operation) {
            .make_ipv6_tcp_server => {
                if (self.oneIn(32)) self.random().bytes(host[0..12]);
                const made = c.bbipc_make_ipv6_tcp_server(host_asked, 0, 0, self.backlog(), self.flagsOrNone(), code);
                self.keep(.server, made);
                return made;
            },
            .connect_to_ipv6_tcp_server => {
                // Port 0 is nobody's.
                if (!self.oneIn(16)) _ = c.bbipc_ipv6_local_address(self.pick(.server), null, null, &port, null);
                const local_host: ?[*]u8 = if (self.oneIn(4)) &host else null;
                const asked = self.flagsOrNone();
                const made = c.bbipc_connect_to_ipv6_tcp_server(host_asked, 0, port, local_host, 0, 0, asked, code);
                self.keep(.stream, made);
                return made;
            },
            .ipv6_local_address => {
                return c.bbipc_ipv6_local_address(self.socket(), host_asked, &scope, port_asked, code);
            },
            .ipv6_remote_address => {
                return c.bbipc_ipv6_remote_address(self.socket(), host_asked, &scope, port_asked);
            },
            else => unreachable,
        }
    }

    fn makeElsewhere(self: *Caller, operation: Operation, code: ?*i32) i64 {
        switch (operation) {
            .make_stream_pair => {
                var other: Handle = 0;
                const made = c.bbipc_make_stream_pair(if (self.oneIn(64)) null else &other, code);
                self.keep(.stream, made);
                if (made > 0) self.keep(.stream, other);
                return made;
            },
            .make_stream_for_client => {
                const name = self.localName(self.serverNumber());
                const size: u64 = if (self.oneIn(32)) self.random().int(u64) | 1 else 64;
                const words: ?*const anyopaque = if (self.oneIn(64)) null else &self.buffer;
                const made = c.bbipc_make_stream_for_client(name.pointer(), name.size, words, size, code);
                self.keep(.stream, made);
                return made;
            },
            .detach => {
                // Numbers that are nobody's: any other could be that of a socket which another thread is making.
                if (self.oneIn(64)) return c.bbipc_adopt_server(self.random().int(i64) | std.math.minInt(i64), code);
                const descriptor = c.bbipc_detach(self.handle(.stream), code);
                if (descriptor < 0) return descriptor;
                const adopted = c.bbipc_adopt_stream(descriptor, code);
                if (adopted < 0) system.closeDescriptor(descriptor);
                self.keep(.stream, adopted);
                return adopted;
            },
            .namespace => return c.bbipc_namespace(self.socket()),
            .local_pathname => {
                var room: [300]u8 = undefined;
                return c.bbipc_local_pathname(self.socket(), &room, if (self.oneIn(8)) 0 else room.len, code);
            },
            else => unreachable,
        }
    }

    fn moveBytes(self: *Caller, operation: Operation, code: ?*i32) i64 {
        switch (operation) {
            .read => return self.read(code),
            .write => {
                if (self.oneIn(64)) self.fill(self.pick(.stream));
                const part = self.range();
                const data: ?*const anyopaque = if (self.oneIn(64)) null else &self.buffer;
                const size = c.bbipc_write(self.handle(.stream), data, part.start, part.end, code);
                if (size > 0) self.tally.written += @intCast(size);
                return size;
            },
            .read_exactly => {
                const part = self.range();
                const room: ?*anyopaque = if (self.oneIn(64)) null else &self.buffer;
                const timeout_ns = self.timeoutNs();
                return self.checkRead(
                    part,
                    c.bbipc_read_exactly(self.handle(.stream), room, part.start, part.end, timeout_ns, code),
                );
            },
            .write_all => {
                const part = self.range();
                const data: ?*const anyopaque = if (self.oneIn(64)) null else &self.buffer;
                const timeout_ns = self.timeoutNs();
                const size = c.bbipc_write_all(self.handle(.stream), data, part.start, part.end, timeout_ns, code);
                if (size > 0) self.tally.written += @intCast(size);
                return size;
            },
            .finish_writing => return c.bbipc_finish_writing(self.handle(.stream), code),
            .connection_error => {
                const result = c.bbipc_connection_error(self.handle(.stream), code);
                if (result > 2) fail("connection_error gave {d}", .{result});
                if (code != null and result >= 0 and (result == 0) != (self.code == 0)) {
                    fail("connection_error gave {d} with the code {d}", .{ result, self.code });
                }
                return result;
            },
            else => return self.moveMessages(operation, code),
        }
    }

    /// Sizes of messages whose headers have no other bytes than these.
    const header_bytes = [_]u8{ 0x00, 0x01, 0x10 };
    const message_sizes = [_]u64{ 0, 1, 0x10, 0x100, 0x101, 0x110, 0x1000 };

    fn messageSize(self: *Caller) u64 {
        return message_sizes[self.random().uintLessThan(usize, message_sizes.len)];
    }

    fn moveMessages(self: *Caller, operation: Operation, code: ?*i32) i64 {
        switch (operation) {
            .send_message => {
                // Or what is refused: `range` gives nothing else behind the buffer's end.
                const part = self.range();
                const is_refused = part.start > part.end or part.end > self.buffer.len;
                const size = if (is_refused) part.end else self.messageSize();
                const start = if (is_refused) part.start else 0;
                const data: ?*const anyopaque = if (self.oneIn(64)) null else &self.buffer;
                var unsent: u64 = 0;
                const unsent_asked = if (self.oneIn(4)) null else &unsent;
                const stream = self.handle(.stream);
                const timeout_ns = self.timeoutNs();
                const result = c.bbipc_send_message(stream, data, start, size, timeout_ns, unsent_asked, code);
                if (result > 1) fail("of one message {d} were sent", .{result});
                if (result <= 0 and unsent != 0) fail("{d} bytes of no message are left", .{unsent});
                if (result == 1) self.tally.written += size;
                return result;
            },
            .send_messages => return self.sendMessages(code),
            .drain => return c.bbipc_drain(self.handle(.stream), self.timeoutNs(), code),
            .unsent => return c.bbipc_unsent(self.handle(.stream)),
            .receive_message => return self.receiveMessage(code),
            .receive_messages => return self.receiveMessages(code),
            .read_until => return self.readUntil(code),
            .max_message_size => return c.bbipc_max_message_size(self.handle(.stream)),
            .set_max_message_size => {
                const size = if (self.oneIn(4)) self.random().int(u64) >> self.random().int(u6) else 1 << 24;
                return c.bbipc_set_max_message_size(self.handle(.stream), size);
            },
            else => return self.wait(operation, code),
        }
    }

    fn sendMessages(self: *Caller, code: ?*i32) i64 {
        var messages: [many]?*const anyopaque = undefined;
        var sizes: [many]u64 = undefined;
        for (&messages, &sizes) |*message, *size| {
            message.* = &self.buffer;
            size.* = self.messageSize();
            if (self.oneIn(512)) message.* = null;
            if (self.oneIn(512)) size.* = self.random().int(u64) | 1 << 63;
        }
        var count = self.random().uintAtMost(u64, many);
        if (self.oneIn(64)) count = self.random().int(u64) | 1 << 63;
        var unsent: u64 = 0;
        const result = c.bbipc_send_messages(
            self.handle(.stream),
            if (self.oneIn(64)) null else &messages,
            if (self.oneIn(64)) null else &sizes,
            count,
            self.timeoutNs(),
            if (self.oneIn(4)) null else &unsent,
            code,
        );
        if (result > 0 and result > count) fail("of {d} messages {d} were sent", .{ count, result });
        if (result <= 0) return result;
        for (sizes[0..@intCast(result)]) |size| self.tally.written += size;
        return result;
    }

    fn receiveMessage(self: *Caller, code: ?*i32) i64 {
        const part = self.range();
        const room: ?*anyopaque = if (self.oneIn(64)) null else &self.buffer;
        var size: u64 = 0;
        const size_asked = if (self.oneIn(64)) null else &size;
        const stream = self.handle(.stream);
        const timeout_ns = self.timeoutNs();
        const result = c.bbipc_receive_message(stream, room, part.start, part.end, size_asked, timeout_ns, code);
        if (result > 2) fail("receive_message gave {d}", .{result});
        const has_room = result == 2 and size_asked != null and size <= part.end - part.start;
        if (has_room) fail("{d} bytes have no room", .{size});
        // Who doesn't ask can't know how much of it was touched.
        if (result == 1 and size_asked == null) size = part.end - part.start;
        if (result == 1) _ = self.checkRead(part, @intCast(size));
        return result;
    }

    fn receiveMessages(self: *Caller, code: ?*i32) i64 {
        var sizes: [many]u64 = undefined;
        const capacity = if (self.oneIn(64)) self.random().int(u64) | 1 << 63 else self.buffer.len;
        const sizes_capacity = if (self.oneIn(64)) self.random().int(u64) | 1 << 63 else many;
        const is_absurd = capacity > self.buffer.len or sizes_capacity > many;
        const result = c.bbipc_receive_messages(
            // Nothing may be stored where there is more room than there can be.
            if (is_absurd) self.random().int(i64) | std.math.minInt(i64) else self.handle(.stream),
            if (self.oneIn(64)) null else &self.buffer,
            capacity,
            if (self.oneIn(64)) null else &sizes,
            sizes_capacity,
            code,
        );
        if (result <= 0) return result;
        if (result > many) fail("{d} messages in the room for {d}", .{ result, many });
        var total: u64 = 0;
        for (sizes[0..@intCast(result)]) |size| total += size;
        _ = self.checkRead(.{ .start = 0, .end = self.buffer.len }, @intCast(total));
        return result;
    }

    fn readUntil(self: *Caller, code: ?*i32) i64 {
        const delimiters = [_][]const u8{ "\x00", "\x00\x00", "\xa5", "\xa5\xa5\xa5\xa5\x00", "\n", "" };
        const delimiter = delimiters[self.random().uintLessThan(usize, delimiters.len)];
        const capacity = self.random().uintAtMost(u64, self.buffer.len);
        const result = c.bbipc_read_until(
            self.handle(.stream),
            if (self.oneIn(64)) null else delimiter.ptr,
            if (self.oneIn(64)) self.random().int(u64) | 1 << 63 else delimiter.len,
            if (self.oneIn(64)) null else &self.buffer,
            capacity,
            self.timeoutNs(),
            code,
        );
        if (result <= 0) return result;
        if (!std.mem.endsWith(u8, self.buffer[0..@intCast(result)], delimiter)) fail("read up to something else", .{});
        return self.checkRead(.{ .start = 0, .end = capacity }, result);
    }

    fn wait(self: *Caller, operation: Operation, code: ?*i32) i64 {
        switch (operation) {
            .poll_socket => {
                const asked = self.events();
                const result = c.bbipc_poll_socket(self.socket(), asked, self.timeoutNs(), null, code);
                if (result >= 0) self.expectEvents(asked, @intCast(result));
                return result;
            },
            .poll_sockets => return self.pollSockets(code),
            .poller_backend => return c.bbipc_poller_backend(self.handle(.poller)),
            .poller_fileno => return c.bbipc_poller_fileno(self.handle(.poller), code),
            .monitor_socket => return c.bbipc_monitor_socket(self.handle(.poller), self.socket(), self.events(), code),
            .unmonitor_socket => {
                const poller = self.handle(.poller);
                return c.bbipc_unmonitor_socket(poller, self.socketOf(poller));
            },
            .monitored_events => {
                const poller = self.handle(.poller);
                return c.bbipc_monitored_events(poller, self.socketOf(poller));
            },
            .set_monitored_events => {
                const poller = self.handle(.poller);
                return c.bbipc_set_monitored_events(poller, self.socketOf(poller), self.events(), code);
            },
            .monitored_sockets => {
                var sockets: [many]Handle = undefined;
                const room = self.random().uintAtMost(u64, many);
                const stored: ?[*]Handle = if (self.oneIn(8)) null else &sockets;
                return c.bbipc_monitored_sockets(self.handle(.poller), stored, room);
            },
            .wait_for_events => return self.waitForEvents(code),
            .wake => return c.bbipc_wake(self.handle(.poller)),
            else => return self.callAnythingElse(operation, code),
        }
    }

    fn callAnythingElse(self: *Caller, operation: Operation, code: ?*i32) i64 {
        switch (operation) {
            .library => {
                const error_code = self.random().int(i64) >> self.random().int(u6);
                if (std.mem.span(c.bbipc_error_message(error_code)).len == 0) fail("{d} has no message", .{error_code});
                if (std.mem.span(c.bbipc_version()).len == 0) fail("no version", .{});
                if (c.bbipc_local_pathname_limit() == 0) fail("no pathnames", .{});
                if (c.bbipc_open_handles() > 10_000) fail("{d} handles", .{c.bbipc_open_handles()});
                if (c.bbipc_pending_operations() > 100_000) fail("{d} operations", .{c.bbipc_pending_operations()});
                const closed = c.bbipc_finish_writes(0);
                if (closed != 0 and closed != 1) fail("finish_writes gave {d}", .{closed});
                return c.bbipc_prepare_to_wait(code);
            },
            .fork => return if (system.has_fork) self.fork() else unreachable,
            else => unreachable, // the functions above have all others
        }
    }

    /// Writes more than a local stream has room for.
    fn fill(self: *Caller, stream: Handle) void {
        for (0..100) |_| {
            const size = c.bbipc_write(stream, &self.buffer, 0, self.buffer.len, null);
            if (size <= 0) return;
            self.tally.written += @intCast(size);
        }
    }

    fn read(self: *Caller, code: ?*i32) i64 {
        const part = self.range();
        const room: ?*anyopaque = if (self.oneIn(64)) null else &self.buffer;
        return self.checkRead(part, c.bbipc_read(self.handle(.stream), room, part.start, part.end, self.flags(), code));
    }

    fn checkRead(self: *Caller, part: Range, size: i64) i64 {
        if (size <= 0) return size;
        if (size > part.end - part.start) fail("read {d} bytes of {d}", .{ size, part.end - part.start });
        self.tally.read += @intCast(size);
        // Whatever was written is filler or of a header, and nothing outside the range is touched.
        for (self.buffer[@intCast(part.start)..][0..@intCast(size)]) |*byte| {
            if (std.mem.findScalar(u8, &header_bytes, byte.*) != null) byte.* = filler;
        }
        for (self.buffer) |byte| {
            if (byte != filler) fail("read a byte that nobody wrote", .{});
        }
        return size;
    }

    fn pollSockets(self: *Caller, code: ?*i32) i64 {
        var sockets: [many]Handle = undefined;
        var asked: [many]u32 = undefined;
        var happened: [many]u32 = undefined;
        const good = !self.oneIn(4);
        const size = self.random().uintAtMost(usize, many);
        for (&sockets, &asked) |*one, *of_one| {
            const is_server = self.oneIn(6);
            one.* = if (good) self.pick(if (is_server) .server else .stream) else self.socket();
            of_one.* = if (good and is_server) c.BBIPC_SERVER_EVENTS else self.events();
            if (good and !is_server) of_one.* &= c.BBIPC_STREAM_EVENTS;
        }
        var count: u64 = if (good) size % 4 else size;
        // Nobody can mean this number. It must be refused before any socket is looked at.
        if (self.oneIn(32)) count = self.random().int(u64) | 1 << 31;
        const no_sockets = self.oneIn(64);
        const nobody = std.math.maxInt(u64);
        var index: u64 = nobody;
        const result = c.bbipc_poll_sockets(
            if (no_sockets) null else &sockets,
            if (self.oneIn(64)) null else &asked,
            if (self.oneIn(64)) null else &happened,
            count,
            self.timeoutNs(),
            null,
            if (self.oneIn(4)) null else &index,
            code,
        );
        if (index != nobody and index >= count) fail("the socket {d} of {d} is at fault", .{ index, count });
        if (result < 0 or count == 0) return result;
        var found: i64 = 0;
        for (asked[0..@intCast(count)], happened[0..@intCast(count)]) |one, events_of_one| {
            self.expectEvents(one, events_of_one);
            found += @intFromBool(events_of_one != 0);
        }
        if (found != result) fail("poll_sockets gave {d}, and {d} have events", .{ result, found });
        return result;
    }

    fn waitForEvents(self: *Caller, code: ?*i32) i64 {
        var sockets: [many]Handle = undefined;
        var happened: [many]u32 = undefined;
        const capacity = self.random().uintAtMost(u64, many);
        const result = c.bbipc_wait_for_events(
            self.handle(.poller),
            if (self.oneIn(64)) null else &sockets,
            if (self.oneIn(64)) null else &happened,
            capacity,
            self.timeoutNs(),
            null,
            code,
        );
        if (result < 0) return result;
        if (result > capacity) fail("{d} events in the room for {d}", .{ result, capacity });
        const count: usize = @intCast(result);
        for (sockets[0..count], happened[0..count]) |one, events_of_one| {
            if (one <= 0 or events_of_one == 0) fail("the socket {d} has the events {d}", .{ one, events_of_one });
        }
        return result;
    }

    /// A child that goes on where the parent is, for a while.
    fn fork(self: *Caller) i64 {
        pool.lock.lock();
        c.bbipc_before_fork();
        const process_id = system.fork() catch fail("no child can be made", .{});
        if (process_id == 0) {
            c.bbipc_after_fork_in_child();
            pool.lock.resetAfterFork();
            self.is_child = true;
            self.calls = 200;
            self.run();
            pool.closeAll();
            system.exitChild(0);
        }
        c.bbipc_after_fork_in_parent();
        pool.lock.unlock();
        const code = system.awaitChild(process_id) catch fail("a child was killed by a signal", .{});
        if (code != 0) fail("a child ended with the code {d}", .{code});
        self.tally.forks += 1;
        return 0;
    }
};
