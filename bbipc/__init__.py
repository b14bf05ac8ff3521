"""One non-blocking interface for talking between processes over TCP and local streams.

A *stream* is a bidirectional channel of bytes, a *server* is where streams come from, and changes of state are learnt
by polling: with a stream's own predicates, with :func:`poll_socket` and :func:`poll_sockets`, or, for many sockets,
with a :class:`Poller`. A *message* is bytes that are received whole, as they were sent. Nothing else blocks, but for
methods of streams and functions that connect, which take a timeout, and what resolves the names of hosts. A re-creation
of the Common Lisp system *Basic Binary IPC*.
"""

from ._native.calls import calling_layer
from ._native.library import __version__, get_include, get_library
from ._native.spinning import set_spinning
from .activation import ActivatedServers, activated_servers
from .addresses import Address
from .adopting import adopt_server, adopt_stream, make_stream_pair
from .authentication import authenticate, authenticate_peer
from .connecting import connect, connect_to_tcp_server, listen
from .credentials import PeerCredentials
from .errors import (
    AlreadyMonitoredError,
    AuthenticationError,
    BbipcError,
    EndOfStreamError,
    MessageTooLargeError,
    NoConnectionAvailableError,
    NoLocalServerError,
    NotMonitoredError,
    PollerClosedError,
    ServerAlreadyRunningError,
    SocketClosedError,
    SocketError,
    TimeoutError,
    UnsupportedOperationError,
    WrongProcessError,
)
from .events import Events
from .ipv4 import (
    IPV4_ANY,
    IPV4_LOOPBACK,
    Ipv4TcpServer,
    Ipv4TcpStream,
    connect_to_ipv4_tcp_server,
    make_ipv4_tcp_server,
    resolve_ipv4_address,
)
from .ipv6 import (
    IPV6_ANY,
    IPV6_LOOPBACK,
    Ipv6TcpServer,
    Ipv6TcpStream,
    connect_to_ipv6_tcp_server,
    make_ipv6_tcp_server,
    resolve_ipv6_address,
)
from .local import LocalServer, LocalStream, connect_to_local_server, make_local_server
from .polling import Poller, make_poller, poll_socket, poll_sockets
from .processes import connect_to_parent, start_process
from .sockets import Socket, StreamServer, StreamSocket, send_messages, write_many

__all__ = [
    "IPV4_ANY",
    "IPV4_LOOPBACK",
    "IPV6_ANY",
    "IPV6_LOOPBACK",
    "ActivatedServers",
    "Address",
    "AlreadyMonitoredError",
    "AuthenticationError",
    "BbipcError",
    "EndOfStreamError",
    "Events",
    "Ipv4TcpServer",
    "Ipv4TcpStream",
    "Ipv6TcpServer",
    "Ipv6TcpStream",
    "LocalServer",
    "LocalStream",
    "MessageTooLargeError",
    "NoConnectionAvailableError",
    "NoLocalServerError",
    "NotMonitoredError",
    "PeerCredentials",
    "Poller",
    "PollerClosedError",
    "ServerAlreadyRunningError",
    "Socket",
    "SocketClosedError",
    "SocketError",
    "StreamServer",
    "StreamSocket",
    "TimeoutError",
    "UnsupportedOperationError",
    "WrongProcessError",
    "__version__",
    "activated_servers",
    "adopt_server",
    "adopt_stream",
    "authenticate",
    "authenticate_peer",
    "calling_layer",
    "connect",
    "connect_to_ipv4_tcp_server",
    "connect_to_ipv6_tcp_server",
    "connect_to_local_server",
    "connect_to_parent",
    "connect_to_tcp_server",
    "get_include",
    "get_library",
    "listen",
    "make_ipv4_tcp_server",
    "make_ipv6_tcp_server",
    "make_local_server",
    "make_poller",
    "make_stream_pair",
    "poll_socket",
    "poll_sockets",
    "resolve_ipv4_address",
    "resolve_ipv6_address",
    "send_messages",
    "set_spinning",
    "start_process",
    "write_many",
]
