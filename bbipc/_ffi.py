"""The C interface, declared for ctypes: the functions of native/include/bbipc.h in the header's order.

Functions that can block or copy much release the GIL; the others keep it. A test compares every declaration with the
header.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_int32, c_int64, c_uint16, c_uint32, c_uint64, c_void_p, py_object

from ._library import keeping, releasing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: No error: a piece of a wait is over, and the code is the wait's place.
TIME_IS_UP = 0
ERROR_INVALID_ARGUMENT = -1
ERROR_INVALID_HANDLE = -2
ERROR_WRONG_KIND = -3
ERROR_WRONG_EVENTS = -4
ERROR_SYSTEM = -5
ERROR_OUT_OF_MEMORY = -6
ERROR_NO_CONNECTION = -7
ERROR_NO_LOCAL_SERVER = -8
ERROR_NAME_TOO_LONG = -9
ERROR_INTERRUPTED = -10
ERROR_ALREADY_MONITORED = -11
ERROR_NOT_MONITORED = -12
ERROR_WRONG_PROCESS = -13
ERROR_UNSUPPORTED = -14
ERROR_WOKEN = -15
ERROR_END_OF_DATA = -16

REUSE_ADDRESS = 0x1
DELETE_ON_CLOSE = 0x1
PEEK = 0x1
FOREVER = -1

#: What close returns for a local server whose file it could not delete.
FILE_IS_LEFT = 1

#: What connection_error returns for a connection that could not be established.
CONNECTION_NOT_ESTABLISHED = 2

BACKENDS = {"epoll": 1, "poll": 2, "iocp": 3, "kqueue": 4}
BACKEND_DEFAULT = 0


def _declare(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(library, "bbipc_" + name)
    function.restype = result
    function.argtypes = list(arguments)
    return function


class NewHandle(c_int64):
    """A handle that the library has just made, or a failure. Closes what nobody takes.

    It is there before Python looks for signals again. So when a handler raises, the handle is not lost with the result.
    """

    def __del__(self) -> None:
        if self.value > 0:
            close(self.value)


class SettledHandle(c_int64):
    """What a NewHandle becomes when somebody has taken it, or when it is a failure.

    Nothing is left to close, and no code runs when it goes. For Python looks for signals where a function begins, and
    what a handler raises inside of a ``__del__`` is lost. CPython 3.14 finds many there.
    """


_handle = c_int64
_result = c_int64
_code = POINTER(c_int32)
_place = POINTER(c_uint32)

# The library
error_message = _declare(keeping, "error_message", c_char_p, _result)
open_handles = _declare(keeping, "open_handles", c_uint64)
before_fork = _declare(releasing, "before_fork", None)
after_fork_in_parent = _declare(releasing, "after_fork_in_parent", None)
after_fork_in_child = _declare(releasing, "after_fork_in_child", None)
prepare_to_wait = _declare(keeping, "prepare_to_wait", _result, _code)
pending_operations = _declare(keeping, "pending_operations", c_uint64)
finish_writes = _declare(releasing, "finish_writes", _result, c_int64)
close = _declare(keeping, "close", _result, _handle)
abort = _declare(keeping, "abort", _result, _handle)
fileno = _declare(keeping, "fileno", _result, _handle)

# IPv4 servers and streams
make_ipv4_tcp_server = _declare(
    keeping, "make_ipv4_tcp_server", NewHandle, c_uint32, c_uint16, c_int32, c_uint32, _code
)
connect_to_ipv4_tcp_server = _declare(
    keeping, "connect_to_ipv4_tcp_server", NewHandle, c_uint32, c_uint16, c_uint32, c_uint16, _code
)
ipv4_local_address = _declare(
    keeping, "ipv4_local_address", _result, _handle, POINTER(c_uint32), POINTER(c_uint16), _code
)
ipv4_remote_address = _declare(keeping, "ipv4_remote_address", _result, _handle, POINTER(c_uint32), POINTER(c_uint16))

# Local servers and streams
local_pathname_limit = _declare(keeping, "local_pathname_limit", c_uint64)
make_local_server = _declare(keeping, "make_local_server", NewHandle, c_void_p, c_uint64, c_int32, c_uint32, _code)
connect_to_local_server = _declare(keeping, "connect_to_local_server", NewHandle, c_void_p, c_uint64, _code)

# Servers
accept_connection = _declare(keeping, "accept_connection", NewHandle, _handle, _code)

# Streams
read = _declare(keeping, "read", _result, _handle, c_void_p, c_uint64, c_uint64, c_uint32, _code)
read_much = _declare(releasing, "read", _result, _handle, c_void_p, c_uint64, c_uint64, c_uint32, _code)
write = _declare(keeping, "write", _result, _handle, c_void_p, c_uint64, c_uint64, _code)
write_much = _declare(releasing, "write", _result, _handle, c_void_p, c_uint64, c_uint64, _code)
read_exactly = _declare(releasing, "read_exactly", _result, _handle, c_void_p, c_uint64, c_uint64, c_int64, _code)
write_all = _declare(releasing, "write_all", _result, _handle, c_void_p, c_uint64, c_uint64, c_int64, _code)
finish_writing = _declare(keeping, "finish_writing", _result, _handle, _code)
connection_error = _declare(keeping, "connection_error", _result, _handle, _code)

# Polling
poll_socket = _declare(keeping, "poll_socket", _result, _handle, c_uint32, c_int64, _place, _code)
poll_socket_waiting = _declare(releasing, "poll_socket", _result, _handle, c_uint32, c_int64, _place, _code)
poll_sockets = _declare(
    keeping, "poll_sockets", _result, c_void_p, c_void_p, c_void_p, c_uint64, c_int64, _place, POINTER(c_uint64), _code
)
poll_sockets_waiting = _declare(
    releasing,
    "poll_sockets",
    _result,
    c_void_p,
    c_void_p,
    c_void_p,
    c_uint64,
    c_int64,
    _place,
    POINTER(c_uint64),
    _code,
)

# Pollers
make_poller = _declare(keeping, "make_poller", NewHandle, c_int32, _code)
poller_backend = _declare(keeping, "poller_backend", _result, _handle)
monitor_socket = _declare(keeping, "monitor_socket", _result, _handle, _handle, c_uint32, _code)
unmonitor_socket = _declare(keeping, "unmonitor_socket", _result, _handle, _handle)
monitored_events = _declare(keeping, "monitored_events", _result, _handle, _handle)
set_monitored_events = _declare(keeping, "set_monitored_events", _result, _handle, _handle, c_uint32, _code)
monitored_sockets = _declare(keeping, "monitored_sockets", _result, _handle, c_void_p, c_uint64)
wait_for_events = _declare(
    keeping, "wait_for_events", _result, _handle, c_void_p, c_void_p, c_uint64, c_int64, _place, _code
)
wait_for_events_waiting = _declare(
    releasing, "wait_for_events", _result, _handle, c_void_p, c_void_p, c_uint64, c_int64, _place, _code
)
wake = _declare(keeping, "wake", _result, _handle)

# The calling layer for CPython
cpython_needs = _declare(keeping, "cpython_needs", c_char_p)
cpython_bind = _declare(keeping, "cpython_bind", _result, c_void_p, c_uint64)
cpython_function = _declare(keeping, "cpython_function", py_object, c_char_p, py_object)
cpython_method = _declare(keeping, "cpython_method", py_object, py_object, c_char_p, c_char_p)


def register_at_fork() -> None:
    """Has the library told of every fork of this process.

    By libc itself (pthread_atfork(3)), not by os.register_at_fork: that would run Python code while the library's lock
    is held, and so let in a thread that waits for the lock while the forking thread waits for the GIL.

    musl has pthread_atfork in its libc, macOS in libSystem. FreeBSD has one in libthr, with which every Python is
    linked, and one in libc that calls it.
    """
    libc = ctypes.CDLL(None)
    handlers = [ctypes.cast(one, c_void_p) for one in (before_fork, after_fork_in_parent, after_fork_in_child)]
    for name, arguments in (
        ("pthread_atfork", handlers),
        # What glibc's pthread_atfork calls; that itself is not in its shared library. The last argument says which
        # library to forget the handlers with: none.
        ("__register_atfork", [*handlers, None]),
    ):
        register = getattr(libc, name, None)
        if register is not None:
            register.argtypes = [c_void_p] * len(arguments)
            if register(*arguments) != 0:
                raise MemoryError("no memory to register bbipc's fork handlers")
            return
    raise ImportError("bbipc can't be told of forks: this system's C library has no pthread_atfork")
