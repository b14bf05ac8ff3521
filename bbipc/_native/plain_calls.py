"""Calls by ctypes of the functions that take nothing but numbers and names.

Made from native/include/bbipc.h by native/packaging/make_declarations.py. Not to be changed by hand.
"""

from __future__ import annotations

from ctypes import byref, c_int32

from . import declarations
from .results import owner_of, pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .classes import OwnerT
    from .handles import NewHandle

__all__ = [
    "abort",
    "accept_connection",
    "close",
    "connect_to_ipv4_tcp_server",
    "connect_to_ipv6_tcp_server",
    "connect_to_local_server",
    "detach",
    "fileno",
    "finish_writing",
    "make_ipv4_tcp_server",
    "make_ipv6_tcp_server",
    "make_local_server",
    "make_poller",
    "make_stream_for_client",
    "max_message_size",
    "monitor_socket",
    "monitored_events",
    "namespace",
    "poller_backend",
    "poller_fileno",
    "set_max_message_size",
    "set_monitored_events",
    "unmonitor_socket",
    "unsent",
    "wake",
]

close: Callable[[int], int] = declarations.close
abort: Callable[[int], int] = declarations.abort
fileno: Callable[[int], int] = declarations.fileno
namespace: Callable[[int], int] = declarations.namespace
unsent: Callable[[int], int] = declarations.unsent
max_message_size: Callable[[int], int] = declarations.max_message_size
set_max_message_size: Callable[[int, int], int] = declarations.set_max_message_size
poller_backend: Callable[[int], int] = declarations.poller_backend
unmonitor_socket: Callable[[int, int], int] = declarations.unmonitor_socket
monitored_events: Callable[[int, int], int] = declarations.monitored_events
wake: Callable[[int], int] = declarations.wake


def make_ipv4_tcp_server(host_address: int, port: int, backlog: int, flags: int, kind: type[OwnerT]) -> OwnerT | int:
    code = c_int32()
    made: NewHandle = declarations.make_ipv4_tcp_server(host_address, port, backlog, flags, byref(code))
    return owner_of(made, code, kind)


def connect_to_ipv4_tcp_server(
    host_address: int, port: int, local_host_address: int, local_port: int, flags: int, kind: type[OwnerT]
) -> OwnerT | int:
    code = c_int32()
    made: NewHandle = declarations.connect_to_ipv4_tcp_server(
        host_address, port, local_host_address, local_port, flags, byref(code)
    )
    return owner_of(made, code, kind)


def make_ipv6_tcp_server(
    host_address: bytes, scope_id: int, port: int, backlog: int, flags: int, kind: type[OwnerT]
) -> OwnerT | int:
    code = c_int32()
    made: NewHandle = declarations.make_ipv6_tcp_server(host_address, scope_id, port, backlog, flags, byref(code))
    return owner_of(made, code, kind)


def connect_to_ipv6_tcp_server(
    host_address: bytes,
    scope_id: int,
    port: int,
    local_host_address: bytes,
    local_scope_id: int,
    local_port: int,
    flags: int,
    kind: type[OwnerT],
) -> OwnerT | int:
    code = c_int32()
    made: NewHandle = declarations.connect_to_ipv6_tcp_server(
        host_address, scope_id, port, local_host_address, local_scope_id, local_port, flags, byref(code)
    )
    return owner_of(made, code, kind)


def make_local_server(pathname: bytes, backlog: int, permissions: int, flags: int, kind: type[OwnerT]) -> OwnerT | int:
    code = c_int32()
    made: NewHandle = declarations.make_local_server(pathname, len(pathname), backlog, permissions, flags, byref(code))
    return owner_of(made, code, kind)


def connect_to_local_server(pathname: bytes, kind: type[OwnerT]) -> OwnerT | int:
    code = c_int32()
    made: NewHandle = declarations.connect_to_local_server(pathname, len(pathname), byref(code))
    return owner_of(made, code, kind)


def make_stream_for_client(pathname: bytes, words: bytes, kind: type[OwnerT]) -> OwnerT | int:
    code = c_int32()
    made: NewHandle = declarations.make_stream_for_client(pathname, len(pathname), words, len(words), byref(code))
    return owner_of(made, code, kind)


def detach(stream: int) -> int:
    code = c_int32()
    result: int = declarations.detach(stream, byref(code))
    return result if result >= 0 else pack(result, code.value)


def accept_connection(server: int, kind: type[OwnerT]) -> OwnerT | int:
    code = c_int32()
    made: NewHandle = declarations.accept_connection(server, byref(code))
    return owner_of(made, code, kind)


def finish_writing(stream: int) -> int:
    code = c_int32()
    result: int = declarations.finish_writing(stream, byref(code))
    return result if result >= 0 else pack(result, code.value)


def make_poller(backend: int, kind: type[OwnerT]) -> OwnerT | int:
    code = c_int32()
    made: NewHandle = declarations.make_poller(backend, byref(code))
    return owner_of(made, code, kind)


def poller_fileno(poller: int) -> int:
    code = c_int32()
    result: int = declarations.poller_fileno(poller, byref(code))
    return result if result >= 0 else pack(result, code.value)


def monitor_socket(poller: int, socket: int, events: int) -> int:
    code = c_int32()
    result: int = declarations.monitor_socket(poller, socket, events, byref(code))
    return result if result >= 0 else pack(result, code.value)


def set_monitored_events(poller: int, socket: int, events: int) -> int:
    code = c_int32()
    result: int = declarations.set_monitored_events(poller, socket, events, byref(code))
    return result if result >= 0 else pack(result, code.value)
