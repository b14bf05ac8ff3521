"""The IPv4 namespace: servers and streams over TCP (RFC 9293)."""

from __future__ import annotations

from ._native import calls, declarations
from .errors import failure_error
from .hosts import format_dotted_quad, parse_dotted_quad
from .sockets import StreamServer, StreamSocket
from .tcp import (
    TcpServerMethods,
    TcpStreamMethods,
    addresses_of,
    advice_for_server,
    advice_for_stream,
    check_backlog,
    check_local,
    check_port,
)

#: The address of this machine for itself. (The original's ``+ipv4-loopback+``.)
IPV4_LOOPBACK = "127.0.0.1"
#: Every address of this machine, for a server. (The original's ``+ipv4-any+``.)
IPV4_ANY = "0.0.0.0"


def _parse_host_address(text: str, name: str) -> int:
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str such as '127.0.0.1', not {type(text).__name__}")
    try:
        return parse_dotted_quad(text)
    except ValueError:
        hint = "the functions for IPv6 take that one" if ":" in text else "resolve_ipv4_address() finds that of a name"
        raise ValueError(
            f"{name} must be an IPv4 address in dotted-quad form such as '127.0.0.1', not {text!r}; {hint}"
        ) from None


def _address_of(socket: Ipv4TcpServer | Ipv4TcpStream, *, remote: bool) -> tuple[str, int]:
    found = calls.ipv4_address(socket._handle, remote)
    if isinstance(found, int):
        # Not by _error, whose message would describe the socket by its address.
        raise failure_error(found, "tell the address", socket)
    host, port = found
    return format_dotted_quad(host), port


class Ipv4TcpServer(TcpServerMethods, StreamServer):
    """A server for TCP connections. (The original's ``ipv4-tcp-server``.) :func:`make_ipv4_tcp_server` makes it."""

    __slots__ = ()

    def accept_connection(self) -> Ipv4TcpStream:
        """The stream to the client that has waited longest: :meth:`StreamServer.accept_connection`."""
        return self._accept(Ipv4TcpStream)

    def _address(self, *, remote: bool) -> tuple[str, int]:
        return _address_of(self, remote=remote)


class Ipv4TcpStream(TcpStreamMethods, StreamSocket):
    """A TCP connection. (The original's ``ipv4-tcp-stream``.)

    :func:`connect_to_ipv4_tcp_server` and :meth:`Ipv4TcpServer.accept_connection` make it. Nagle's algorithm is off
    (``TCP_NODELAY``): what is written leaves at once, so join small pieces before writing them.
    """

    __slots__ = ()

    def _address(self, *, remote: bool) -> tuple[str, int]:
        return _address_of(self, remote=remote)


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
        check_port(port, "port"),
        check_backlog(backlog),
        declarations.REUSE_ADDRESS if reuse_address else 0,
        Ipv4TcpServer,
    )
    if isinstance(server, int):
        advice = advice_for_server("ipv4", reuse_address=reuse_address)
        raise failure_error(server, f"listen on {host_address}:{port}", advice=advice)
    return server


def connect_to_ipv4_tcp_server(
    host_address: str,
    port: int,
    *,
    local_host_address: str | None = None,
    local_port: int | None = None,
    reuse_address: bool = False,
) -> Ipv4TcpStream:
    """Starts to connect, and returns the stream at once. (``connect-to-ipv4-tcp-server``.)

    Wait for ``DETERMINED`` to learn the outcome. A server that refuses or can't be reached raises nothing: the stream
    is, or becomes, ``CONNECTION_FAILED``, and :meth:`~StreamSocket.connection_error` says why.

    :param host_address: a dotted quad; :func:`resolve_ipv4_address` finds that of a name.
    :param port: 0 to 65535.
    :param local_host_address: this end's address; ``None`` lets the system choose.
    :param local_port: this end's port; ``None`` lets the system choose.
    :param reuse_address: with a local port: take it although earlier connections from there linger (``SO_REUSEADDR``,
        ``socket(7)``). On Linux those must have been made with it too. On Windows it changes nothing: such a port is
        free there in any case.
    :raises ValueError: for an address that is not a dotted quad, a port out of range, and ``reuse_address`` without a
        local port.
    :raises SocketError: if this end can't be set up: ``EADDRINUSE``, ``EADDRNOTAVAIL``, ``EMFILE``.
    """
    local_host = 0 if local_host_address is None else _parse_host_address(local_host_address, "local_host_address")
    local = check_local(local_port, reuse_address=reuse_address)
    stream = calls.connect_to_ipv4_tcp_server(
        _parse_host_address(host_address, "host_address"),
        check_port(port, "port"),
        local_host,
        local,
        declarations.REUSE_ADDRESS if reuse_address else 0,
        Ipv4TcpStream,
    )
    if isinstance(stream, int):
        by_way_of = f" from {local_host_address or IPV4_ANY}:{local}" if local_host or local else ""
        advice = advice_for_stream(reuse_address=reuse_address, local_port=local)
        raise failure_error(stream, f"connect to {host_address}:{port}{by_way_of}", advice=advice)
    return stream


def resolve_ipv4_address(hostname: str) -> str | None:
    """The IPv4 address of a host's name, as a dotted quad; ``None`` if it has none. (``resolve-ipv4-address``.)

    Blocks for as long as the system's resolver takes (``getaddrinfo(3)``); a thread keeps a program responsive.

    :raises ValueError: if it can't be a host's name.
    :raises SocketError: if the resolver fails: no server answers, for example.
    """
    found = addresses_of(hostname, "AF_INET")
    if not found:
        return None
    address = found[0][0]
    assert isinstance(address, str)
    return address
