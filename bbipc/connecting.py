"""Servers and streams by their addresses: for programs to which it is one what transport they use."""

from __future__ import annotations

import errno

from .addresses import EVERY_HOST, Address, is_number
from .attempts import Race, Target, start_one
from .errors import SocketError
from .hosts import endpoint, format_ipv6, parse_ipv6
from .ipv4 import IPV4_ANY, connect_to_ipv4_tcp_server, make_ipv4_tcp_server
from .ipv6 import IPV6_ANY, connect_to_ipv6_tcp_server, make_ipv6_tcp_server
from .local import connect_to_local_server, make_local_server
from .patience import Patience
from .tcp import addresses_of, check_port

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .ipv4 import Ipv4TcpStream
    from .ipv6 import Ipv6TcpStream
    from .sockets import StreamServer, StreamSocket

#: What a machine without IPv6 says of it.
_WITHOUT_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL})


def listen(address: str, **options: Any) -> StreamServer:
    """A server that listens at an address: :class:`Address` tells which there are.

    A name of a host is resolved, and the server listens on the first address of IPv4 that it has; on one of IPv6 if it
    has no other. ``"tcp:*:PORT"`` is one server for every address of both families, or of IPv4 alone on a machine that
    has no IPv6.

    :param options: those of :func:`make_ipv4_tcp_server`, :func:`make_ipv6_tcp_server` or :func:`make_local_server`,
        whichever makes the server. All of these have ``backlog``. ``reuse_address`` is True if nothing else is said: so
        a server that has ended can start again at once.
    :returns: a :class:`Ipv4TcpServer`, :class:`Ipv6TcpServer` or :class:`LocalServer`. Its :attr:`~Socket.address`
        tells where it listens, with the port that the system has chosen for port 0.
    :raises ValueError: for what is no address; the message says what one looks like.
    :raises TypeError: for an option that a server of that kind does not have.
    :raises SocketError: if the system refuses, as by those functions; ``ENXIO`` for a name that has no address. Or the
        resolver fails, which takes as long as it takes.
    """
    where = Address(address)
    if where.pathname is not None:
        _check_options("listen", where, make_local_server, options)
        return make_local_server(where.pathname, **options)
    assert where.host is not None
    assert where.port is not None
    if where.host == EVERY_HOST:
        _check_options("listen", where, make_ipv4_tcp_server, options)
        return _listen_everywhere(where.port, {"reuse_address": True, **options})
    hosts = _hosts_of(where.host)
    if not hosts:
        raise _no_host(f"listen on {where}", where.host)
    host = next((one for one in hosts if ":" not in one), hosts[0])
    make = make_ipv6_tcp_server if ":" in host else make_ipv4_tcp_server
    _check_options("listen", where, make, options)
    return make(host, where.port, **{"reuse_address": True, **options})


def _listen_everywhere(port: int, options: dict[str, Any]) -> StreamServer:
    try:
        return make_ipv6_tcp_server(IPV6_ANY, port, dual_stack=True, **options)
    except SocketError as error:
        if error.errno not in _WITHOUT_IPV6:
            raise
    return make_ipv4_tcp_server(IPV4_ANY, port, **options)


def connect(address: str, *, timeout: float | None = 0, **options: Any) -> StreamSocket:
    """A stream to the server at an address: :class:`Address` tells which there are.

    With a timeout, it waits until the connection stands, also for a server that is not up yet; without one it does not
    wait, and the connection may be under way. :func:`connect_to_tcp_server` and :func:`connect_to_local_server` say
    more.

    :param timeout: seconds; ``None`` waits for ever, 0 not at all.
    :param options: over TCP, those of :func:`connect_to_tcp_server`.
    :returns: a :class:`Ipv4TcpStream`, :class:`Ipv6TcpStream` or :class:`LocalStream`.
    :raises ValueError: for what is no address, or none to connect to, and a timeout that is negative or NaN.
    :raises TypeError: for an option that a stream of that kind does not have.
    :raises TimeoutError: when the time is up; its ``__cause__`` is why the last try failed.
    :raises NoLocalServerError: at once, if no local server is there and there is no timeout.
    :raises SocketError: if the system refuses, as by those functions.
    """
    where = Address(address)
    if where.pathname is not None:
        _check_options("connect", where, connect_to_local_server, options)
        return connect_to_local_server(where.pathname, timeout=timeout)
    assert where.host is not None
    assert where.port is not None
    _check_options("connect", where, connect_to_tcp_server, options)
    return connect_to_tcp_server(where.host, where.port, timeout, **options)


def connect_to_tcp_server(
    host: str,
    port: int,
    timeout: float | None = 0,
    *,
    local_host_address: str | None = None,
    local_port: int | None = None,
    reuse_address: bool = False,
) -> Ipv4TcpStream | Ipv6TcpStream:
    """A stream to a port of a host, which may have several addresses, of both families.

    With a timeout, it waits until the connection stands. All addresses of the host are tried, IPv6 and IPv4 in turn, in
    the order that the resolver has them in. The next one is tried when the last has failed, or has been silent for 250
    ms; the first connection that stands is taken, the others are closed (RFC 8305). If none stands, all are tried again
    after a pause of 25 ms at the most, until the time is up: a server may be about to start, or to have room in its
    backlog. So a server may see attempts that are given up again. Where the system keeps silent about a full backlog
    (Linux, macOS), or tries again by itself before it tells that nobody listens (Windows), a server that is ready is
    noticed within a second.

    What no server that starts would change is raised at once: a host without an address, no way into its network
    (``ENETUNREACH``), a firewall of this machine, this end's address or port. But a machine that does not answer
    (``EHOSTUNREACH``, ``ETIMEDOUT``) may be starting too.

    Without a timeout, it starts the attempt and returns the stream at once, as :func:`connect_to_ipv4_tcp_server` does.
    If an attempt fails in that moment, it is the next address's turn.

    :param host: an IPv4 or IPv6 address, without brackets, or a name. That is resolved once, which takes as long as it
        takes: the timeout does not end it.
    :param port: 1 to 65535.
    :param timeout: seconds; ``None`` waits for ever, 0 not at all.
    :param local_host_address: this end's address; ``None`` lets the system choose. Only addresses of its family are
        tried.
    :param local_port: this end's port; ``None`` lets the system choose. With one, an address is not tried again before
        the system has given it up, and several can be tried at a time only if ``reuse_address`` is set.
    :param reuse_address: as for :func:`connect_to_ipv4_tcp_server`.
    :raises ValueError: for what is neither an address nor a name, numbers out of range, and a timeout that is negative
        or NaN.
    :raises TimeoutError: when the time is up; its ``__cause__`` is why the last attempt failed, ``None`` if there was
        no answer.
    :raises SocketError: if no attempt can succeed; ``ENXIO`` for a host that has no address. Or the resolver fails.
    """
    patience = Patience(timeout)
    if check_port(port, "port") == 0:
        raise ValueError("port must be 1 to 65535 to connect to, not 0: by 0 a server lets the system choose")
    if host == EVERY_HOST:
        raise ValueError(f"{EVERY_HOST!r} stands for the addresses that a server listens on: connect to one of them")
    hosts = _hosts_of(host)
    more = ""
    if isinstance(local_host_address, str):
        hosts = [one for one in hosts if (":" in one) == (":" in local_host_address)]
        more = f" of the family of {local_host_address}"
    if not hosts:
        raise _no_host(f"connect to {endpoint(host, port)}", host, more)
    own: dict[str, Any] = {
        "local_host_address": local_host_address,
        "local_port": local_port,
        "reuse_address": reuse_address,
    }
    targets = [_target(host, one, port, own) for one in _in_turn(hosts)]
    return Race(targets, patience).winner() if patience else start_one(targets)


def _target(host: str, host_address: str, port: int, own: dict[str, Any]) -> Target:
    connect = connect_to_ipv6_tcp_server if ":" in host_address else connect_to_ipv4_tcp_server
    where = endpoint(host_address, port)
    return Target(
        where if host_address == host else f"{host} ({where})",
        lambda: connect(host_address, port, **own),
        one_at_a_time=own["local_port"] is not None,
    )


def _check_options(what: str, address: Address, function: Callable[..., object], options: dict[str, Any]) -> None:
    known = sorted(set(function.__kwdefaults__ or ()) - {"timeout"})
    for name in options:
        if name not in known:
            raise TypeError(
                f"{what}() has no option {name!r} for {address}; "
                + (f"those that it has there are {', '.join(known)}" if known else "it has none there")
            )


def _hosts_of(host: str) -> list[str]:
    """The addresses of a host, in the resolver's order. An address is its own."""
    if isinstance(host, str) and (":" in host or is_number(host)):
        return [host]
    found: dict[str, None] = {}
    for host_address, *more in addresses_of(host, "AF_UNSPEC"):
        # Those of IPv6 have four parts: the port, the flow, and the scope.
        if len(more) < 3:
            found[host_address] = None
            continue
        text = format_ipv6(parse_ipv6(host_address.partition("%")[0]))
        found[f"{text}%{more[2]}" if more[2] and ":" in text else text] = None
    return list(found)


def _in_turn(hosts: list[str]) -> list[str]:
    """The addresses with their families in turn, beginning with that of the first (RFC 8305, 4)."""
    first = [one for one in hosts if (":" in one) == (":" in hosts[0])]
    second = [one for one in hosts if one not in first]
    mixed = [one for pair in zip(first, second) for one in pair]
    shorter = min(len(first), len(second))
    return mixed + first[shorter:] + second[shorter:]


def _no_host(action: str, host: str, more: str = "") -> SocketError:
    return SocketError(errno.ENXIO, f"cannot {action}: the host {host!r} has no address{more}")
