//! Connecting, accepting, and what addresses a connection has: the built-in functions.
//!
//! All of them keep the GIL: none waits for a peer, neither for its part of a handshake nor for room in a backlog.

const arguments = @import("arguments.zig");
const calling = @import("calling.zig");
const calls = @import("../calls.zig");
const names = @import("names.zig");
const python = @import("api.zig");
const status = @import("../base/status.zig");

const Handle = calls.Handle;
const Object = python.Object;
const Returned = arguments.Returned;
const api = &python.api;

/// accept_connection(server, kind) -> an object of that kind, which owns the new handle; or a failure
pub fn acceptConnection(given: *const [2]*Object) Returned {
    const server = arguments.numberOf(Handle, given[0]) orelse return error.Unusual;
    return make(given[1], calls.acceptConnection, .{server});
}

/// connect_to_ipv4_tcp_server(host_address, port, local_host_address, local_port, flags, kind) -> as accept_connection
pub fn connectToIpv4TcpServer(given: *const [6]*Object) Returned {
    const remote = try ipv4Of(given[0], given[1]);
    const local = try ipv4Of(given[2], given[3]);
    // A flag is unusual.
    if (arguments.numberOf(u32, given[4]) != 0) return error.Unusual;
    return make(given[5], calls.connectToIpv4TcpServer, .{ remote, local, false });
}

fn ipv4Of(host: *Object, port: *Object) error{Unusual}!calls.Ipv4 {
    return .{
        .host = arguments.numberOf(u32, host) orelse return error.Unusual,
        .port = arguments.numberOf(u16, port) orelse return error.Unusual,
    };
}

/// connect_to_local_server(pathname, kind) -> as accept_connection
pub fn connectToLocalServer(given: *const [2]*Object) Returned {
    if (!arguments.isExactly(given[0], api.PyBytes_Type)) return error.Unusual;
    const start = api.PyBytes_AsString(given[0]).?;
    const pathname = start[0..@intCast(api.PyBytes_Size(given[0]))];
    return make(given[1], calls.connectToLocalServer, .{pathname});
}

/// ipv4_address(handle, remote) -> the host address and the port, or a failure
pub fn ipv4Address(given: *const [2]*Object) Returned {
    const handle = arguments.numberOf(Handle, given[0]) orelse return error.Unusual;
    const is_remote = arguments.isTrue(given[1]) orelse return error.Unusual;
    var address: calls.Ipv4 = .unspecified;
    const outcome = calling.call(storeAddress, .{ handle, is_remote, &address });
    if (outcome < 0) return arguments.numberObject(outcome);
    return arguments.pairOf(address.host, address.port);
}

fn storeAddress(handle: Handle, is_remote: bool, address: *calls.Ipv4, failure: *status.Failure) status.Error!void {
    address.* = try if (is_remote) calls.ipv4RemoteAddress(handle) else calls.ipv4LocalAddress(handle, failure);
}

// ---- Owners ----

/// Calls what makes a handle, and makes its owner before Python can look for signals: a handler that raises then drops
/// the owner, which closes the handle.
fn make(kind: *Object, comptime function: anytype, given: anytype) Returned {
    // Classes of other kinds are for the reference.
    if (!arguments.isExactly(kind, api.PyType_Type)) return error.Unusual;
    const outcome = calling.call(function, given);
    if (outcome < 0) return arguments.numberObject(outcome);
    if (ownerOf(kind, outcome)) |owner| return owner;
    _ = calling.call(calls.close, .{outcome});
    return null;
}

/// Null with an exception set, if there is no memory, or no object of this class owns anything.
fn ownerOf(kind: *Object, handle: Handle) ?*Object {
    const number = arguments.numberObject(handle) orelse return null;
    defer api.Py_DecRef(number);
    const owner = objectOf(kind) orelse return null;
    if (set(owner, ._handle, number) and set(owner, ._closed, api._Py_FalseStruct)) return owner;
    api.Py_DecRef(owner);
    return null;
}

/// What object.__new__ makes, which runs no code of the class. Null with an exception set.
fn objectOf(kind: *Object) ?*Object {
    const name = names.of(.__new__) orelse return null;
    defer api.Py_DecRef(name);
    const new = api.PyObject_GetAttr(api.PyBaseObject_Type, name) orelse return null;
    defer api.Py_DecRef(new);
    const all = arguments.tupleOf(&.{kind}) orelse return null;
    defer api.Py_DecRef(all);
    return api.PyObject_CallObject(new, all);
}

/// False with an exception set.
fn set(object: *Object, name: names.Name, value: *Object) bool {
    const its_name = names.of(name) orelse return false;
    defer api.Py_DecRef(its_name);
    return api.PyObject_SetAttr(object, its_name, value) == 0;
}
