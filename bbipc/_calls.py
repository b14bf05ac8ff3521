"""How the classes call the native library: by ctypes, or by built-in functions of CPython. They can't tell which.

Every function returns a number, or what it is named for: zero or more is the answer, less is a failure that carries the
status and the system's code together (:func:`status_of`, :func:`code_of`). So no call needs a second one to learn why
it failed.

The built-in functions are taken where they can be had. ``BBIPC_CALLS``, ``ctypes`` or ``cpython``, in the environment
chooses otherwise.
"""

from __future__ import annotations

import os

from . import _ctypes_calls
from ._ctypes_calls import (
    SocketList,
    abort,
    accept_connection,
    close,
    code_of,
    connect_to_ipv4_tcp_server,
    connect_to_local_server,
    connection_error,
    fileno,
    finish_writing,
    ipv4_address,
    let_go,
    make_ipv4_tcp_server,
    make_local_server,
    make_poller,
    message_of,
    monitor_socket,
    monitored_events,
    poll_socket,
    poller_backend,
    read,
    read_exactly,
    read_into,
    receive,
    set_monitored_events,
    status_of,
    unmonitor_socket,
    view_of,
    wait_for_events,
    wake,
    write,
    write_all,
    write_many,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from .polling import Poller
    from .sockets import StreamSocket

__all__ = [
    "SocketList",
    "abort",
    "accept_connection",
    "calling_layer",
    "close",
    "code_of",
    "connect_to_ipv4_tcp_server",
    "connect_to_local_server",
    "connection_error",
    "fileno",
    "finish_writing",
    "give_methods",
    "ipv4_address",
    "let_go",
    "make_ipv4_tcp_server",
    "make_local_server",
    "make_poller",
    "message_of",
    "monitor_socket",
    "monitored_events",
    "poll_socket",
    "poller_backend",
    "read",
    "read_exactly",
    "read_into",
    "receive",
    "set_monitored_events",
    "status_of",
    "unmonitor_socket",
    "view_of",
    "wait_for_events",
    "wake",
    "write",
    "write_all",
    "write_many",
]


def _take_built_ins(asked: str) -> Literal["cpython", "ctypes"]:
    if asked not in ("", "cpython", "ctypes"):
        raise ImportError(f"the environment variable BBIPC_CALLS must be 'cpython', 'ctypes' or not set, not {asked!r}")
    if asked == "ctypes":
        return "ctypes"
    from . import _cpython_calls

    try:
        built_in = _cpython_calls.bind()
    except _cpython_calls.NotAvailable as error:
        if asked:
            raise ImportError(f"BBIPC_CALLS asks for CPython's built-in functions, but {error}") from error
        return "ctypes"
    for name in _cpython_calls.NAMES:
        globals()[name] = built_in(name.encode("ascii"), getattr(_ctypes_calls, name))
    return "cpython"


_layer = _take_built_ins(os.environ.get("BBIPC_CALLS", ""))


def calling_layer() -> Literal["cpython", "ctypes"]:
    """How this process calls the native library: by ``"ctypes"``, or by built-in functions of ``"cpython"``.

    The results are the same. Built-in functions cost as little as those of a C extension; ctypes works on any Python,
    PyPy included. The environment variable ``BBIPC_CALLS``, set to one of the two before the import, chooses.
    """
    return _layer


def give_methods(kind: type[StreamSocket | Poller]) -> None:
    """Gives a class built-in methods in the place of those that do little more than call a built-in function."""
    if _layer == "cpython":
        from . import _cpython_calls

        _cpython_calls.give_methods(kind)
