"""Streams and servers from elsewhere: of descriptors that something else has made, and pairs without a server."""

from __future__ import annotations

import errno
import os
import sys
from operator import index

from ._native import calls, declarations, results
from .errors import SocketError, failure_error
from .ipv4 import Ipv4TcpServer, Ipv4TcpStream
from .ipv6 import Ipv6TcpServer, Ipv6TcpStream
from .local import LocalServer, LocalStream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar, Union

    from .sockets import Socket, StreamServer, StreamSocket

    AdoptedT = TypeVar("AdoptedT", bound=Socket)

    AnyStream = Union[LocalStream, Ipv4TcpStream, Ipv6TcpStream]
    AnyServer = Union[LocalServer, Ipv4TcpServer, Ipv6TcpServer]

#: What a descriptor becomes, by the namespace of its address.
_STREAMS: dict[int, type[AnyStream]] = {
    declarations.NAMESPACE_LOCAL: LocalStream,
    declarations.NAMESPACE_IPV4: Ipv4TcpStream,
    declarations.NAMESPACE_IPV6: Ipv6TcpStream,
}
_SERVERS: dict[int, type[AnyServer]] = {
    declarations.NAMESPACE_LOCAL: LocalServer,
    declarations.NAMESPACE_IPV4: Ipv4TcpServer,
    declarations.NAMESPACE_IPV6: Ipv6TcpServer,
}

_WHAT = "TCP" if sys.platform == "win32" else "TCP, and local (Unix) sockets"
_IS_BBIPCS = "a socket of bbipc has it already"
_ADVICE = {
    errno.EBADF: "nothing is open by that number",
    errno.ENOTSOCK: "it is a file, a pipe or a terminal; only sockets can be adopted",
    errno.EPROTOTYPE: "it is a socket for datagrams, or of another type than streams",
    errno.EAFNOSUPPORT: f"it is a socket of another family; those that can be adopted are {_WHAT}",
    errno.EBUSY: _IS_BBIPCS,
}
_ADVICE_FOR_STREAM = {
    **_ADVICE,
    errno.ENOTCONN: "it is not connected: connect it first, and wait until the connection stands",
}
if sys.platform == "win32":
    _ADVICE_FOR_STREAM[errno.ENOTSOCK] = "it is no number of a socket; pipes and files can't be adopted"

_DESCRIPTOR_MAX = 2**63 - 1


def _check_descriptor(descriptor: int) -> int:
    try:
        number = index(descriptor)
    except TypeError:
        hint = "; give up a Python socket's by its detach()" if hasattr(descriptor, "detach") else ""
        raise TypeError(f"descriptor must be an int, not {type(descriptor).__name__}{hint}") from None
    if not 0 <= number <= _DESCRIPTOR_MAX:
        raise ValueError(f"descriptor can't be {number}")
    return number


def _name(socket: LocalServer | LocalStream) -> None:
    """Has an adopted local socket know its pathname."""
    found = calls.local_pathname(socket._handle)
    # The system refuses only where somebody has closed the descriptor meanwhile.
    socket._local_pathname = "" if isinstance(found, int) else os.fsdecode(found)


def make_stream_pair() -> tuple[LocalStream, LocalStream]:
    """The two ends of a new local connection, without a server: ``socketpair(2)``, on Windows a pipe.

    For two threads, for tests, and for a child made by ``os.fork``. :func:`start_process` is for other programs.

    :raises SocketError: if the system refuses: ``EMFILE``.
    """
    made = calls.make_stream_pair(LocalStream)
    if isinstance(made, int):
        raise failure_error(made, "make a pair of streams")
    for stream in made:
        stream._local_pathname = ""
    return made


def adopt_stream(descriptor: int) -> StreamSocket:
    """Makes a stream of a connection that something else has made: a parent, inetd, another library, Python itself.

    The stream has the descriptor from then on, and closes it. Where this fails, the descriptor stays the caller's::

        stream = bbipc.adopt_stream(python_socket.detach())

    The descriptor becomes close-on-exec, and Nagle's algorithm is switched off. Other options stay. Who shares the
    description (``dup(2)``, ``fork(2)``) is not disturbed, for whether it blocks is left as it is, but on macOS and
    Windows. Nobody else may read or write meanwhile, of course.

    :param descriptor: a number: that of a connected socket, TCP or local; on Windows of TCP only. Not a
        Python object: its ``detach()`` gives up the number.
    :returns: a :class:`LocalStream`, :class:`Ipv4TcpStream` or :class:`Ipv6TcpStream`.
    :raises SocketError: ``EBADF`` if nothing is open by that number, ``ENOTSOCK`` for a file or a pipe, ``EPROTOTYPE``
        for a socket of datagrams, ``EAFNOSUPPORT`` for one of another family, ``ENOTCONN`` for one that is not
        connected, ``EINVAL`` for one that listens, ``EBUSY`` for a descriptor that a socket of bbipc has already.
    """
    number = _check_descriptor(descriptor)
    listens = "it listens; adopt_server() takes it"
    made = calls.adopt_stream(number, _STREAMS)
    return _adopted(made, f"adopt descriptor {number} as a stream", listens, _ADVICE_FOR_STREAM)


def adopt_server(descriptor: int) -> StreamServer:
    """Makes a server of a socket that listens, which something else has made. :func:`adopt_stream` tells the rules.

    Where the description is shared, mind that the first :meth:`~StreamServer.accept_connection` makes it non-blocking.
    A local server that was adopted deletes no file when it closes.

    :func:`activated_servers` is for those that systemd has made.

    :param descriptor: a number: that of a listening socket, TCP or local; on Windows of TCP only.
    :returns: a :class:`LocalServer`, :class:`Ipv4TcpServer` or :class:`Ipv6TcpServer`.
    :raises SocketError: as :func:`adopt_stream` does; ``EINVAL`` for a socket that does not listen.
    """
    number = _check_descriptor(descriptor)
    listens_not = "it does not listen; adopt_stream() takes one that is connected"
    made = calls.adopt_server(number, _SERVERS)
    return _adopted(made, f"adopt descriptor {number} as a server", listens_not, _ADVICE)


def _adopted(made: AdoptedT | int, action: str, wrong_kind: str, advice: dict[int, str]) -> AdoptedT:
    """What was made of a descriptor; or raises why nothing was."""
    if isinstance(made, int):
        if results.status_of(made) == declarations.ERROR_WRONG_KIND:
            raise SocketError(errno.EINVAL, f"cannot {action}: {wrong_kind}")
        raise failure_error(made, action, advice=advice)
    if isinstance(made, (LocalStream, LocalServer)):
        _name(made)
    return made
