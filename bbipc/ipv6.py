"""The IPv6 namespace: servers and streams over TCP (RFC 9293) with the addresses of IPv6 (RFC 4291)."""

from __future__ import annotations

import errno
import sys

from ._native import calls, declarations
from .addresses import EVERY_HOST, Address
from .errors import SocketError, failure_error
from .hosts import MAPPED, endpoint, format_ipv6, is_link_local, parse_ipv6
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

#: The address of this machine for itself.
IPV6_LOOPBACK = "::1"
#: Every address of this machine, for a server.
IPV6_ANY = "::"

_ANY = bytes(16)
_SCOPE_MAX = 2**32 - 1

_ADVICE = {
    errno.EAFNOSUPPORT: "this system has no IPv6; the functions for IPv4 do without",
    errno.EADDRNOTAVAIL: (
        "no network interface of this machine has that address, or no port of it is left; without IPv6 not even"
        f" {IPV6_LOOPBACK} is there"
    ),
    errno.ENODEV: "this machine has no network interface of that number",
}

# ---- Text and bytes ----


def _parse_scope(scope: str, text: str, name: str) -> int:
    if scope.isascii() and scope.isdigit():
        number = int(scope) if len(scope) <= len(str(_SCOPE_MAX)) else 0
        if 1 <= number <= _SCOPE_MAX:
            return number
    elif scope and "\0" not in scope:
        # Here, because nothing else needs it and it takes long to import.
        import socket

        try:
            return socket.if_nametoindex(scope)
        except OSError as error:
            raise SocketError(
                errno.ENODEV, f"this machine has no network interface {scope!r}, which {name} names, {text!r}"
            ) from error
    raise ValueError(
        f"what is behind the % in {name} must be the name of a network interface, or a number from 1 to {_SCOPE_MAX},"
        f" not {scope!r}"
    )


def _parse_host_address(text: str, name: str) -> tuple[bytes, int]:
    """The 16 bytes of an address, and its scope id or 0."""
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str such as '::1', not {type(text).__name__}")
    plain, has_scope, scope = text.partition("%")
    try:
        host = parse_ipv6(plain)
    except ValueError:
        if ":" in text:
            hint = "it stands without brackets and without a port"
        elif text.count(".") == 3:
            hint = "the functions for IPv4 take that one"
        else:
            hint = "resolve_ipv6_address() finds that of a name"
        raise ValueError(f"{name} must be an IPv6 address such as '::1', not {text!r}; {hint}") from None
    if host.startswith(MAPPED):
        raise ValueError(
            f"{name} is an IPv4 address in IPv6's form, {text!r}: give {format_ipv6(host)!r} to the functions for IPv4"
        )
    if has_scope:
        return host, _parse_scope(scope, text, name)
    if is_link_local(host):
        raise ValueError(
            f"{name} is a link-local address, {text!r}, which every network interface can have: name the interface"
            f" behind it, as in '{text}%eth0'"
        )
    return host, 0


def _format_scope(scope: int) -> str:
    """As the system's users write it: the name of an interface; on Windows its number."""
    if sys.platform != "win32":
        # Here, because nothing else needs it and it takes long to import.
        import socket

        try:
            return socket.if_indextoname(scope)
        except OSError:
            # It has gone.
            pass
    return str(scope)


def _format_host_address(host: bytes, scope: int) -> str:
    return f"{format_ipv6(host)}%{_format_scope(scope)}" if scope else format_ipv6(host)


# ---- Sockets ----


def _address_of(socket: Ipv6TcpServer | Ipv6TcpStream, *, remote: bool) -> tuple[str, int]:
    found = calls.ipv6_address(socket._handle, remote)
    if isinstance(found, int):
        # Not by _error, whose message would describe the socket by its address.
        raise failure_error(found, "tell the address", socket)
    host, scope, port = found
    return _format_host_address(host, scope), port


class Ipv6TcpServer(TcpServerMethods, StreamServer):
    """A server for TCP connections over IPv6. :func:`make_ipv6_tcp_server` makes it."""

    __slots__ = ("_dual_stack",)

    _dual_stack: bool

    def accept_connection(self) -> Ipv6TcpStream:
        """The stream to the client that has waited longest: :meth:`StreamServer.accept_connection`."""
        return self._accept(Ipv6TcpStream)

    def _address(self, *, remote: bool) -> tuple[str, int]:
        return _address_of(self, remote=remote)

    def _make_address(self) -> Address:
        # An adopted one, which nobody here has made, has no such attribute.
        if getattr(self, "_dual_stack", False):
            return Address._of_host(EVERY_HOST, self.port)
        return super()._make_address()


class Ipv6TcpStream(TcpStreamMethods, StreamSocket):
    """A TCP connection over IPv6.

    :func:`connect_to_ipv6_tcp_server` and :meth:`Ipv6TcpServer.accept_connection` make it. A client of IPv4, which a
    server for both can have, shows its address of IPv4. Nagle's algorithm is off (``TCP_NODELAY``): what is written
    leaves at once, so join small pieces before writing them.
    """

    __slots__ = ()

    def _address(self, *, remote: bool) -> tuple[str, int]:
        return _address_of(self, remote=remote)


def make_ipv6_tcp_server(
    host_address: str, port: int, *, reuse_address: bool = False, backlog: int = 128, dual_stack: bool = False
) -> Ipv6TcpServer:
    """A server that listens at once.

    :param host_address: an address such as ``"2001:db8::1"``: :data:`IPV6_LOOPBACK` for this machine's programs only,
        :data:`IPV6_ANY` for all. A link-local address needs its interface behind it, by name or by number:
        ``"fe80::1%eth0"``, ``"fe80::1%2"``.
    :param port: 0 to 65535; 0 lets the system choose, and :attr:`Ipv6TcpServer.port` tells.
    :param reuse_address: as for :func:`make_ipv4_tcp_server`.
    :param backlog: as for :func:`make_ipv4_tcp_server`.
    :param dual_stack: with :data:`IPV6_ANY`: take clients of IPv4 too. Without it the server takes clients of IPv6
        only, and a server of IPv4 can have the same port, whatever the system's setting is (``IPV6_V6ONLY``,
        ``ipv6(7)``).
    :raises ValueError: for what is no IPv6 address, an IPv4 address in IPv6's form, a link-local address without its
        interface, numbers out of range, and ``dual_stack`` with a single address.
    :raises SocketError: if the system refuses: ``EADDRINUSE`` for a port in use, ``EADDRNOTAVAIL`` for an address that
        is not this machine's, ``EACCES`` for a port that needs permission, ``EAFNOSUPPORT`` without IPv6, ``ENODEV``
        for an interface that is not there.
    """
    host, scope = _parse_host_address(host_address, "host_address")
    if dual_stack and host != _ANY:
        raise ValueError(
            f"dual_stack needs host_address {IPV6_ANY!r}, every address, not {host_address!r}: clients of IPv4 have"
            " other addresses to connect to"
        )
    flags = (declarations.REUSE_ADDRESS if reuse_address else 0) | (declarations.DUAL_STACK if dual_stack else 0)
    server = calls.make_ipv6_tcp_server(
        host, scope, check_port(port, "port"), check_backlog(backlog), flags, Ipv6TcpServer
    )
    if isinstance(server, int):
        advice = {**_ADVICE, **advice_for_server("ipv6", reuse_address=reuse_address)}
        raise failure_error(server, f"listen on {endpoint(host_address, port)}", advice=advice)
    server._dual_stack = dual_stack
    return server


def connect_to_ipv6_tcp_server(
    host_address: str,
    port: int,
    *,
    local_host_address: str | None = None,
    local_port: int | None = None,
    reuse_address: bool = False,
) -> Ipv6TcpStream:
    """Starts to connect, and returns the stream at once.

    Wait for ``DETERMINED`` to learn the outcome. A server that refuses or can't be reached raises nothing: the stream
    is, or becomes, ``CONNECTION_FAILED``, and :meth:`~StreamSocket.connection_error` says why.

    :param host_address: an address such as ``"2001:db8::1"``; :func:`resolve_ipv6_address` finds that of a name. A
        link-local address needs this machine's interface to it, by name or by number: ``"fe80::1%eth0"``.
    :param port: 0 to 65535.
    :param local_host_address: this end's address; ``None`` lets the system choose.
    :param local_port: this end's port; ``None`` lets the system choose.
    :param reuse_address: as for :func:`connect_to_ipv4_tcp_server`.
    :raises ValueError: for what is no IPv6 address, an IPv4 address in IPv6's form, a link-local address without its
        interface, a port out of range, and ``reuse_address`` without a local port.
    :raises SocketError: if this end can't be set up: ``EADDRINUSE``, ``EADDRNOTAVAIL``, ``EMFILE``, ``EAFNOSUPPORT``
        without IPv6, ``ENODEV`` for an interface that is not there.
    """
    host, scope = _parse_host_address(host_address, "host_address")
    local_host, local_scope = _ANY, 0
    if local_host_address is not None:
        local_host, local_scope = _parse_host_address(local_host_address, "local_host_address")
    local = check_local(local_port, reuse_address=reuse_address)
    flags = declarations.REUSE_ADDRESS if reuse_address else 0
    stream = calls.connect_to_ipv6_tcp_server(
        host, scope, check_port(port, "port"), local_host, local_scope, local, flags, Ipv6TcpStream
    )
    if isinstance(stream, int):
        bound = local_host != _ANY or local
        by_way_of = f" from {endpoint(local_host_address or IPV6_ANY, local)}" if bound else ""
        advice = {**_ADVICE, **advice_for_stream(reuse_address=reuse_address, local_port=local)}
        raise failure_error(stream, f"connect to {endpoint(host_address, port)}{by_way_of}", advice=advice)
    return stream


def resolve_ipv6_address(hostname: str) -> str | None:
    """The IPv6 address of a host's name, with the interface if it is link-local; ``None`` if it has none.

    Blocks for as long as the system's resolver takes (``getaddrinfo(3)``); a thread keeps a program responsive.

    :raises ValueError: if it can't be a host's name.
    :raises SocketError: if the resolver fails: no server answers, for example.
    """
    for host_address, _port, _flow, scope in addresses_of(hostname, "AF_INET6"):
        host = parse_ipv6(host_address.partition("%")[0])
        if not host.startswith(MAPPED):
            return _format_host_address(host, scope)
    return None
