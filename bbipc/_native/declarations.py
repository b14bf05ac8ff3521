"""The C interface, declared for ctypes: the constants and functions of native/include/bbipc.h in its order.

Made from the header by native/packaging/make_declarations.py, which says what releases the GIL. Not to be
changed by hand.
"""

from __future__ import annotations

from ctypes import POINTER, c_char_p, c_int32, c_int64, c_uint16, c_uint32, c_uint64, c_void_p, py_object

from .handles import NewHandle
from .library import declare, keeping, releasing

# Errors
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
ERROR_MESSAGE_TOO_LARGE = -17
ERROR_MESSAGE_CUT = -18
ERROR_SERVER_RUNNING = -19

# Events
CONNECTION_AVAILABLE = 0x001
DETERMINED = 0x002
CONNECTION_SUCCEEDED = 0x004
CONNECTION_FAILED = 0x008
DATA_AVAILABLE = 0x010
READY_TO_WRITE = 0x020
REMOTE_DISCONNECTED = 0x040
END_OF_DATA = 0x080
WRITE_SPACE = 0x100
CONNECTION_SEVERED = 0x200
MESSAGE_AVAILABLE = 0x400
MESSAGE_SPACE = 0x800
SERVER_EVENTS = 0x001
STREAM_EVENTS = 0xFFE

# The library
SPINNING_ADAPTIVE = -1
SPINNING_OFF = 0
error_message = declare(keeping, "error_message", c_char_p, c_int64)
open_handles = declare(keeping, "open_handles", c_uint64)
before_fork = declare(releasing, "before_fork", None)
after_fork_in_parent = declare(releasing, "after_fork_in_parent", None)
after_fork_in_child = declare(releasing, "after_fork_in_child", None)
prepare_to_wait = declare(keeping, "prepare_to_wait", c_int64, POINTER(c_int32))
pending_operations = declare(keeping, "pending_operations", c_uint64)
finish_writes = declare(releasing, "finish_writes", c_int64, c_int64)
set_spinning = declare(keeping, "set_spinning", c_int64, c_int64)
close = declare(keeping, "close", c_int64, c_int64)
abort = declare(keeping, "abort", c_int64, c_int64)
fileno = declare(keeping, "fileno", c_int64, c_int64)

# IPv4 servers and streams
REUSE_ADDRESS = 0x1
make_ipv4_tcp_server = declare(
    keeping, "make_ipv4_tcp_server", NewHandle, c_uint32, c_uint16, c_int32, c_uint32, POINTER(c_int32)
)
connect_to_ipv4_tcp_server = declare(
    keeping, "connect_to_ipv4_tcp_server", NewHandle, c_uint32, c_uint16, c_uint32, c_uint16, c_uint32, POINTER(c_int32)
)
ipv4_local_address = declare(
    keeping, "ipv4_local_address", c_int64, c_int64, POINTER(c_uint32), POINTER(c_uint16), POINTER(c_int32)
)
ipv4_remote_address = declare(keeping, "ipv4_remote_address", c_int64, c_int64, POINTER(c_uint32), POINTER(c_uint16))

# IPv6 servers and streams
DUAL_STACK = 0x2
make_ipv6_tcp_server = declare(
    keeping, "make_ipv6_tcp_server", NewHandle, c_void_p, c_uint32, c_uint16, c_int32, c_uint32, POINTER(c_int32)
)
connect_to_ipv6_tcp_server = declare(
    keeping,
    "connect_to_ipv6_tcp_server",
    NewHandle,
    c_void_p,
    c_uint32,
    c_uint16,
    c_void_p,
    c_uint32,
    c_uint16,
    c_uint32,
    POINTER(c_int32),
)
ipv6_local_address = declare(
    keeping, "ipv6_local_address", c_int64, c_int64, c_void_p, POINTER(c_uint32), POINTER(c_uint16), POINTER(c_int32)
)
ipv6_remote_address = declare(
    keeping, "ipv6_remote_address", c_int64, c_int64, c_void_p, POINTER(c_uint32), POINTER(c_uint16)
)

# Local servers and streams
DELETE_ON_CLOSE = 0x1
REPLACE_DEAD = 0x2
DEFAULT_PERMISSIONS = -1
SECURITY_ID_SIZE = 183
local_pathname_limit = declare(keeping, "local_pathname_limit", c_uint64)
make_local_server = declare(
    keeping, "make_local_server", NewHandle, c_void_p, c_uint64, c_int32, c_int32, c_uint32, POINTER(c_int32)
)
connect_to_local_server = declare(keeping, "connect_to_local_server", NewHandle, c_void_p, c_uint64, POINTER(c_int32))
peer_credentials = declare(
    keeping,
    "peer_credentials",
    c_int64,
    c_int64,
    POINTER(c_int64),
    POINTER(c_int64),
    POINTER(c_int64),
    c_char_p,
    c_uint64,
    POINTER(c_int32),
)

# From elsewhere, and to there
NAMESPACE_LOCAL = 1
NAMESPACE_IPV4 = 2
NAMESPACE_IPV6 = 3
make_stream_pair = declare(keeping, "make_stream_pair", NewHandle, POINTER(c_int64), POINTER(c_int32))
make_stream_for_client = declare(
    keeping, "make_stream_for_client", NewHandle, c_void_p, c_uint64, c_void_p, c_uint64, POINTER(c_int32)
)
adopt_stream = declare(keeping, "adopt_stream", NewHandle, c_int64, POINTER(c_int32))
adopt_server = declare(keeping, "adopt_server", NewHandle, c_int64, POINTER(c_int32))
detach = declare(keeping, "detach", c_int64, c_int64, POINTER(c_int32))
namespace = declare(keeping, "namespace", c_int64, c_int64)
local_pathname = declare(keeping, "local_pathname", c_int64, c_int64, c_void_p, c_uint64, POINTER(c_int32))

# Servers
accept_connection = declare(keeping, "accept_connection", NewHandle, c_int64, POINTER(c_int32))

# Streams
PEEK = 0x1
read = declare(keeping, "read", c_int64, c_int64, c_void_p, c_uint64, c_uint64, c_uint32, POINTER(c_int32))
read_much = declare(releasing, "read", c_int64, c_int64, c_void_p, c_uint64, c_uint64, c_uint32, POINTER(c_int32))
write = declare(keeping, "write", c_int64, c_int64, c_void_p, c_uint64, c_uint64, POINTER(c_int32))
write_much = declare(releasing, "write", c_int64, c_int64, c_void_p, c_uint64, c_uint64, POINTER(c_int32))
read_exactly = declare(
    releasing, "read_exactly", c_int64, c_int64, c_void_p, c_uint64, c_uint64, c_int64, POINTER(c_int32)
)
write_all = declare(releasing, "write_all", c_int64, c_int64, c_void_p, c_uint64, c_uint64, c_int64, POINTER(c_int32))

# Messages
send_message = declare(
    releasing,
    "send_message",
    c_int64,
    c_int64,
    c_void_p,
    c_uint64,
    c_uint64,
    c_int64,
    POINTER(c_uint64),
    POINTER(c_int32),
)
send_messages = declare(
    releasing,
    "send_messages",
    c_int64,
    c_int64,
    c_void_p,
    c_void_p,
    c_uint64,
    c_int64,
    POINTER(c_uint64),
    POINTER(c_int32),
)
drain = declare(releasing, "drain", c_int64, c_int64, c_int64, POINTER(c_int32))
unsent = declare(keeping, "unsent", c_int64, c_int64)
receive_message = declare(
    releasing,
    "receive_message",
    c_int64,
    c_int64,
    c_void_p,
    c_uint64,
    c_uint64,
    POINTER(c_uint64),
    c_int64,
    POINTER(c_int32),
)
receive_messages = declare(
    keeping, "receive_messages", c_int64, c_int64, c_void_p, c_uint64, c_void_p, c_uint64, POINTER(c_int32)
)
read_until = declare(
    releasing, "read_until", c_int64, c_int64, c_void_p, c_uint64, c_void_p, c_uint64, c_int64, POINTER(c_int32)
)
max_message_size = declare(keeping, "max_message_size", c_int64, c_int64)
set_max_message_size = declare(keeping, "set_max_message_size", c_int64, c_int64, c_uint64)

# The end of writing, and of the connection
finish_writing = declare(keeping, "finish_writing", c_int64, c_int64, POINTER(c_int32))
connection_error = declare(keeping, "connection_error", c_int64, c_int64, POINTER(c_int32))

# Polling
FOREVER = -1
poll_socket = declare(keeping, "poll_socket", c_int64, c_int64, c_uint32, c_int64, POINTER(c_uint32), POINTER(c_int32))
poll_socket_waiting = declare(
    releasing, "poll_socket", c_int64, c_int64, c_uint32, c_int64, POINTER(c_uint32), POINTER(c_int32)
)
poll_sockets = declare(
    keeping,
    "poll_sockets",
    c_int64,
    c_void_p,
    c_void_p,
    c_void_p,
    c_uint64,
    c_int64,
    POINTER(c_uint32),
    POINTER(c_uint64),
    POINTER(c_int32),
)
poll_sockets_waiting = declare(
    releasing,
    "poll_sockets",
    c_int64,
    c_void_p,
    c_void_p,
    c_void_p,
    c_uint64,
    c_int64,
    POINTER(c_uint32),
    POINTER(c_uint64),
    POINTER(c_int32),
)

# Pollers
BACKEND_DEFAULT = 0
BACKEND_EPOLL = 1
BACKEND_POLL = 2
BACKEND_IOCP = 3
BACKEND_KQUEUE = 4
BACKENDS = {"epoll": BACKEND_EPOLL, "poll": BACKEND_POLL, "iocp": BACKEND_IOCP, "kqueue": BACKEND_KQUEUE}
make_poller = declare(keeping, "make_poller", NewHandle, c_int32, POINTER(c_int32))
poller_backend = declare(keeping, "poller_backend", c_int64, c_int64)
poller_fileno = declare(keeping, "poller_fileno", c_int64, c_int64, POINTER(c_int32))
monitor_socket = declare(keeping, "monitor_socket", c_int64, c_int64, c_int64, c_uint32, POINTER(c_int32))
unmonitor_socket = declare(keeping, "unmonitor_socket", c_int64, c_int64, c_int64)
monitored_events = declare(keeping, "monitored_events", c_int64, c_int64, c_int64)
set_monitored_events = declare(keeping, "set_monitored_events", c_int64, c_int64, c_int64, c_uint32, POINTER(c_int32))
monitored_sockets = declare(keeping, "monitored_sockets", c_int64, c_int64, c_void_p, c_uint64)
wait_for_events = declare(
    keeping,
    "wait_for_events",
    c_int64,
    c_int64,
    c_void_p,
    c_void_p,
    c_uint64,
    c_int64,
    POINTER(c_uint32),
    POINTER(c_int32),
)
wait_for_events_waiting = declare(
    releasing,
    "wait_for_events",
    c_int64,
    c_int64,
    c_void_p,
    c_void_p,
    c_uint64,
    c_int64,
    POINTER(c_uint32),
    POINTER(c_int32),
)
wake = declare(keeping, "wake", c_int64, c_int64)

# The calling layer for CPython
cpython_needs = declare(keeping, "cpython_needs", c_char_p)
cpython_bind = declare(keeping, "cpython_bind", c_int64, c_void_p, c_uint64)
cpython_functions = declare(keeping, "cpython_functions", c_char_p)
cpython_methods = declare(keeping, "cpython_methods", c_char_p)
cpython_function = declare(keeping, "cpython_function", py_object, c_char_p, py_object)
cpython_method = declare(keeping, "cpython_method", py_object, py_object, c_char_p, c_char_p)
