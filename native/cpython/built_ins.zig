//! The calling layer for CPython: built-in functions for the calls that programs make most, and built-in methods, by
//! their names; and the functions of the C interface by which the package gets them.

const std = @import("std");
const batches = @import("batches.zig");
const calls = @import("../calls.zig");
const connections = @import("connections.zig");
const functions = @import("functions.zig");
const messages = @import("messages.zig");
const methods = @import("methods.zig");
const names = @import("names.zig");
const python = @import("api.zig");
const status = @import("../base/status.zig");
const streams = @import("streams.zig");
const waits = @import("waits.zig");

const Method = python.Method;
const api = &python.api;

const all_functions = [_]Method{
    functions.builtIn("accept_connection", 2, connections.acceptConnection),
    functions.builtInOver("close", calls.close),
    functions.builtIn("connect_to_ipv4_tcp_server", 6, connections.connectToIpv4TcpServer),
    functions.builtIn("connect_to_local_server", 2, connections.connectToLocalServer),
    functions.builtInOver("fileno", calls.fileno),
    functions.builtIn("ipv4_address", 2, connections.ipv4Address),
    functions.builtInOver("monitor_socket", calls.monitorSocket),
    functions.builtInOver("monitored_events", calls.monitoredEvents),
    functions.builtIn("poll_socket", 4, waits.pollSocket),
    functions.builtIn("read", 3, streams.read),
    functions.builtIn("read_exactly", 3, streams.readExactly),
    functions.builtIn("read_into", 5, streams.readInto),
    functions.builtIn("receive", 6, waits.receive),
    functions.builtIn("receive_message", 2, messages.receiveMessage),
    functions.builtIn("receive_messages", 2, messages.receiveMessages),
    functions.builtIn("receive_messages_of_many", 5, waits.receiveMessages),
    functions.builtIn("send_messages", 4, messages.sendMessages),
    functions.builtIn("send_messages_to_many", 2, batches.sendMessages),
    functions.builtInOver("set_monitored_events", calls.setMonitoredEvents),
    functions.builtInOver("unmonitor_socket", calls.unmonitorSocket),
    functions.builtIn("wait_for_events", 5, waits.waitForEvents),
    functions.builtInOver("wake", calls.wake),
    functions.builtIn("write", 4, streams.write),
    functions.builtIn("write_all", 4, streams.writeAll),
    functions.builtIn("write_many", 2, batches.writeMany),
};

const all_methods = [_]Method{
    methods.builtIn("read", &.{ .max_bytes, .peek }, 1, streams.readMethod),
    methods.builtIn("read_exactly", &.{ .size, .timeout }, 2, streams.readExactlyMethod),
    methods.builtIn("read_into", &.{ .buffer, .start, .end, .peek }, 3, streams.readIntoMethod),
    methods.builtIn("receive", &.{ .timeout, .max_bytes }, 2, waits.receiveMethod),
    methods.builtIn("receive_message", &.{.timeout}, 1, messages.receiveMessageMethod),
    methods.builtIn("send_message", &.{ .data, .timeout }, 2, messages.sendMessageMethod),
    methods.builtIn("wait_for_events", &.{.timeout}, 1, waits.waitForEventsMethod),
    methods.builtIn("write", &.{ .data, .start, .end }, 3, streams.writeMethod),
    methods.builtIn("write_all", &.{ .data, .timeout }, 2, streams.writeAllMethod),
};

/// The same with their documentation, which is the package's and is kept for as long as the process lives: a program
/// may import the package again, and the classes of both copies have these methods.
var documented_methods = all_methods;

/// The one of this name.
fn find(all: anytype, name: [*:0]const u8) ?@TypeOf(&all[0]) {
    for (all) |*one| {
        if (std.mem.orderZ(u8, one.name, name) == .eq) return one;
    }
    return null;
}

pub export fn bbipc_cpython_needs() callconv(.c) [*:0]const u8 {
    return python.names;
}

pub export fn bbipc_cpython_functions() callconv(.c) [*:0]const u8 {
    return comptime namesOf(&all_functions);
}

pub export fn bbipc_cpython_methods() callconv(.c) [*:0]const u8 {
    return comptime namesOf(&all_methods);
}

fn namesOf(comptime all: []const Method) [:0]const u8 {
    var joined: [:0]const u8 = "";
    for (all) |one| joined = joined ++ (if (joined.len > 0) " " else "") ++ std.mem.span(one.name);
    return joined;
}

pub export fn bbipc_cpython_bind(addresses: ?[*]const u64, count: u64) callconv(.c) i64 {
    const first = addresses orelse return status.fromError(error.InvalidArgument);
    python.bind(first[0..@intCast(@min(count, std.math.maxInt(u32)))]) catch |err| return status.fromError(err);
    return 0;
}

pub export fn bbipc_cpython_function(name: ?[*:0]const u8, reference: ?*anyopaque) callconv(.c) ?*anyopaque {
    const its_name = name orelse return null;
    const its_reference = reference orelse return null;
    if (!python.isBound()) return null;
    if (names.isMainInterpreter() and !names.keep()) return null;
    const found = find(&all_functions, its_name) orelse return python.none();
    return api.PyCFunction_NewEx(found, @ptrCast(its_reference), null);
}

pub export fn bbipc_cpython_method(
    class: ?*anyopaque,
    name: ?[*:0]const u8,
    documentation: ?[*:0]const u8,
) callconv(.c) ?*anyopaque {
    const its_class = class orelse return null;
    const its_name = name orelse return null;
    const its_documentation = documentation orelse return null;
    if (!python.isBound()) return null;
    if (!names.isMainInterpreter()) return python.none();
    if (!names.keep()) return null;
    const found = find(&documented_methods, its_name) orelse return python.none();
    if (found.documentation == null) found.documentation = copyOf(its_documentation) orelse return python.none();
    return api.PyDescr_NewMethod(@ptrCast(its_class), found);
}

fn copyOf(text: [*:0]const u8) ?[*:0]const u8 {
    const size = std.mem.len(text) + 1;
    const memory: [*]u8 = @ptrCast(api.PyMem_Malloc(size) orelse return null);
    @memcpy(memory[0..size], text[0..size]);
    return @ptrCast(memory);
}
