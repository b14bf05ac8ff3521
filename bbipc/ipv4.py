"""The IPv4 namespace: servers and streams over TCP (RFC 9293)."""

from __future__ import annotations

import errno
import sys
from operator import index

from ._native import calls, declarations
from .errors import SocketError, failure_error
from .sockets import Socket, StreamServer, StreamSocket

#: The address of this machine for itself. (The original's ``+ipv4-loopback+``.)
IPV4_LOOPBACK = "127.0.0.1"
#: Every address of this machine, for a server. (The original's ``+ipv4-any+``.)
IPV4_ANY = "0.0.0.0"

#: The numbers that a dotted quad is made of, by how they are written there.
_NUMBERS = {str(number): number for number in range(256)}

_PORT_MAX = 65535
_BACKLOG_MAX = 2**31 - 1


def _parse_host_address(text: str, name: str) -> int:
    """A dotted quad's number. As strict as inet_pton(3), which takes no octal and no short forms."""
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str such as '127.0.0.1', not {type(text).__name__}")
    try:
        first, second, third, fourth = text.split(".")
        return _NUMBERS[first] << 24 | _NUMBERS[second] << 16 | _NUMBERS[third] << 8 | _NUMBERS[fourth]
    except (KeyError, ValueError):
        raise ValueError(
            f"{name} must be an IPv4 address in dotted-quad form such as '127.0.0.1', not {text!r};"
            " resolve_ipv4_address() finds the address of a name"
        ) from None


def _format_host_address(number: int) -> str:
    return f"{number >> 24}.{number >> 16 & 0xFF}.{number >> 8 & 0xFF}.{number & 0xFF}"


def _integer(value: int, name: str) -> int:
    try:
        return index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, not {type(value).__name__}") from None


def _check_port(port: int, name: str) -> int:
    number = _integer(port, name)
    if not 0 <= number <= _PORT_MAX:
        raise ValueError(f"{name} must be 0 to {_PORT_MAX}, not {number}")
    return number


def check_backlog(backlog: int) -> int:
    """The backlog as the library takes it."""
    number = _integer(backlog, "backlog")
    if not 0 <= number <= _BACKLOG_MAX:
        raise ValueError(f"backlog must be 0 to {_BACKLOG_MAX}, not {number}")
    return number


def _address_of(socket: Socket, *, remote: bool) -> tuple[str, int]:
    found = calls.ipv4_address(socket._handle, remote)
    if isinstance(found, int):
        # Not by _error, whose message would describe the socket by its address.
        raise failure_error(found, "tell the address", socket)
    host, port = found
    return _format_host_address(host), port


class Ipv4TcpServer(StreamServer):
    """A server for TCP connections. (The original's ``ipv4-tcp-server``.) :func:`make_ipv4_tcp_server` makes it."""

    __slots__ = ()

    def accept_connection(self) -> Ipv4TcpStream:
        """The stream to the client that has waited longest: :meth:`StreamServer.accept_connection`."""
        return self._accept(Ipv4TcpStream)

    @property
    def host_address(self) -> str:
        """The address that it listens on, as a dotted quad. (``host-address``.)"""
        return _address_of(self, remote=False)[0]

    @property
    def port(self) -> int:
        """The port that it listens on, also if the system chose it. (``port``.)"""
        return _address_of(self, remote=False)[1]

    def _describe(self) -> str:
        return "{}:{}".format(*_address_of(self, remote=False))


class Ipv4TcpStream(StreamSocket):
    """A TCP connection. (The original's ``ipv4-tcp-stream``.)

    :func:`connect_to_ipv4_tcp_server` and :meth:`Ipv4TcpServer.accept_connection` make it. Nagle's algorithm is off
    (``TCP_NODELAY``): what is written leaves at once, so join small pieces before writing them.
    """

    __slots__ = ()

    @property
    def local_host_address(self) -> str:
        """This end's address, as a dotted quad. (``local-host-address``.)"""
        return _address_of(self, remote=False)[0]

    @property
    def local_port(self) -> int:
        """This end's port. (``local-port``.)"""
        return _address_of(self, remote=False)[1]

    @property
    def remote_host_address(self) -> str:
        """The remote end's address, as a dotted quad, also after it has gone. (``remote-host-address``.)"""
        return _address_of(self, remote=True)[0]

    @property
    def remote_port(self) -> int:
        """The remote end's port, also after it has gone. (``remote-port``.)"""
        return _address_of(self, remote=True)[1]

    def _describe(self) -> str:
        return "{}:{} -> {}:{}".format(*_address_of(self, remote=False), *_address_of(self, remote=True))


_EACCES = "this user may not; a port below 1024 needs permission, and a firewall or a sandbox can forbid any"
_IN_USE = "another socket has that address and port; choose another, or end the program that has it"
#: The system does not tell which of the two it is.
_IN_USE_OR_LINGERING = (
    "another socket has that address and port: choose another; or connections of a server that has ended linger there"
    " (TIME_WAIT), for a minute or so: pass reuse_address=True, each time that this server is made"
)
if sys.platform == "win32":
    _EACCES = "this user may not; the system can keep a port back"
    _KEPT_BACK = (
        "; or Windows keeps the port back, for Hyper-V and WSL for example: 'netsh interface ipv4 show"
        " excludedportrange protocol=tcp' lists such ports"
    )
    _IN_USE += _KEPT_BACK
    _IN_USE_OR_LINGERING += _KEPT_BACK


def make_ipv4_tcp_server(
    host_address: str, port: int, *, reuse_address: bool = False, backlog: int = 128
) -> Ipv4TcpServer:
    """A server that listens at once. (``make-ipv4-tcp-server``.)

    :param host_address: a dotted quad: :data:`IPV4_LOOPBACK` for this machine's programs only, :data:`IPV4_ANY` for
        all.
    :param port: 0 to 65535; 0 lets the system choose, and :attr:`Ipv4TcpServer.port` tells.
    :param reuse_address: listen although connections of an earlier server linger (``SO_REUSEADDR``, ``socket(7)``). On
        Linux that server must have been made with it too. On Windows False keeps other programs from taking the port
        (``SO_EXCLUSIVEADDRUSE``), also while such connections linger. Two servers never share an address and a port.
        But macOS and FreeBSD let one for every address and one for a single address listen side by side, if the later
        has this set; Windows does, for programs of the same user, if the earlier has.
    :param backlog: how many clients the system keeps waiting for :meth:`~StreamServer.accept_connection`; the system
        cuts it to its own limit, 128 on macOS and FreeBSD.
    :raises ValueError: for an address that is not a dotted quad, and numbers out of range.
    :raises SocketError: if the system refuses: ``EADDRINUSE`` for a port in use, ``EADDRNOTAVAIL`` for an address that
        is not this machine's, ``EACCES`` for a port that needs permission.
    """
    server = calls.make_ipv4_tcp_server(
        _parse_host_address(host_address, "host_address"),
        _check_port(port, "port"),
        check_backlog(backlog),
        declarations.REUSE_ADDRESS if reuse_address else 0,
        Ipv4TcpServer,
    )
    if isinstance(server, int):
        in_use = _IN_USE if reuse_address else _IN_USE_OR_LINGERING
        advice = {errno.EADDRINUSE: in_use, errno.EACCES: _EACCES}
        raise failure_error(server, f"listen on {host_address}:{port}", advice=advice)
    return server


def connect_to_ipv4_tcp_server(
    host_address: str,
    port: int,
    *,
    local_host_address: str | None = None,
    local_port: int | None = None,
) -> Ipv4TcpStream:
    """Starts to connect, and returns the stream at once. (``connect-to-ipv4-tcp-server``.)

    Wait for ``DETERMINED`` to learn the outcome. A server that refuses or can't be reached raises nothing: the stream
    is, or becomes, ``CONNECTION_FAILED``, and :meth:`~StreamSocket.connection_error` says why.

    :param host_address: a dotted quad; :func:`resolve_ipv4_address` finds that of a name.
    :param port: 0 to 65535.
    :param local_host_address: this end's address; ``None`` lets the system choose.
    :param local_port: this end's port; ``None`` lets the system choose.
    :raises ValueError: for an address that is not a dotted quad, and a port out of range.
    :raises SocketError: if this end can't be set up: ``EADDRINUSE``, ``EADDRNOTAVAIL``, ``EMFILE``.
    """
    local_host = 0 if local_host_address is None else _parse_host_address(local_host_address, "local_host_address")
    local = 0 if local_port is None else _check_port(local_port, "local_port")
    stream = calls.connect_to_ipv4_tcp_server(
        _parse_host_address(host_address, "host_address"), _check_port(port, "port"), local_host, local, Ipv4TcpStream
    )
    if isinstance(stream, int):
        by_way_of = f" from {local_host_address or IPV4_ANY}:{local}" if local_host or local else ""
        raise failure_error(stream, f"connect to {host_address}:{port}{by_way_of}")
    return stream


#: What Windows says of a name that exists and has no IPv4 address; Python's socket module has no name for it.
_WSANO_DATA = 11004


def _resolver_error(error: OSError, hostname: str, *, again: bool) -> SocketError:
    number = errno.EAGAIN if again else errno.EIO
    message = f"cannot resolve {hostname!r}: {error.strerror}"
    if sys.platform == "win32" and error.errno is not None:
        # The resolver's codes are Windows'; but errno has no names for them.
        return SocketError(number, message, None, error.errno)
    return SocketError(number, message)


def resolve_ipv4_address(hostname: str) -> str | None:
    """The IPv4 address of a host's name, as a dotted quad; ``None`` if it has none. (``resolve-ipv4-address``.)

    Blocks for as long as the system's resolver takes (``getaddrinfo(3)``); a thread keeps a program responsive.

    :raises ValueError: if it can't be a host's name.
    :raises SocketError: if the resolver fails: no server answers, for example.
    """
    # Here, because nothing else needs it and it takes long to import.
    import socket

    if not isinstance(hostname, str):
        raise TypeError(f"hostname must be a str, not {type(hostname).__name__}")
    if not hostname:
        # Windows would take it for this machine's own.
        return None
    if "\0" in hostname:
        # The resolver would take what is before it.
        raise ValueError(f"{hostname!r} can't be a host's name: it contains a NUL character")
    try:
        found = socket.getaddrinfo(hostname, None, socket.AF_INET, socket.SOCK_STREAM)
    except socket.gaierror as error:
        no_such = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
        # Linux' number, which Wine hands on.
        no_such.add(getattr(socket, "EAI_ADDRFAMILY", -9))
        no_such.add(_WSANO_DATA)
        if error.errno in no_such:
            return None
        raise _resolver_error(error, hostname, again=error.errno == socket.EAI_AGAIN) from error
    except UnicodeError as error:
        raise ValueError(f"{hostname!r} can't be a host's name: {error}") from error
    if not found:
        return None
    address = found[0][4][0]
    assert isinstance(address, str)
    return address
