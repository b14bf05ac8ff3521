"""The local namespace: streams between programs of one machine. Unix domain sockets (``unix(7)``)."""

from __future__ import annotations

import errno
import os

from . import _calls, _ffi
from .errors import NoLocalServerError, SocketError, failure_error, socket_error
from .ipv4 import check_backlog
from .sockets import StreamServer, StreamSocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Union

    Pathname = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]


def _check_pathname(pathname: Pathname) -> tuple[str | bytes, bytes]:
    """The pathname as users see it, and as the system takes it."""
    plain = os.fspath(pathname)
    encoded = os.fsencode(plain)
    if not encoded:
        raise ValueError("a local server's pathname can't be empty")
    if b"\0" in encoded:
        raise ValueError(f"a local server's pathname can't contain a NUL character: {plain!r}")
    limit = _ffi.local_pathname_limit()
    if len(encoded) > limit:
        raise SocketError(
            errno.ENAMETOOLONG,
            f"the pathname {plain!r} has {len(encoded)} bytes; this system allows local sockets {limit}."
            " Use a shorter directory, or change to it and use a relative pathname",
        )
    return plain, encoded


class _LocalSocket:
    __slots__ = ()

    if TYPE_CHECKING:
        _local_pathname: str | bytes

        def _check_open(self, action: str) -> None: ...

    @property
    def local_pathname(self) -> str | bytes:
        """The server's pathname, as it was given. (``local-pathname``.)"""
        self._check_open("tell the pathname")
        return self._local_pathname

    def _describe(self) -> str:
        return repr(self._local_pathname)


class LocalServer(_LocalSocket, StreamServer):
    """A server for local connections. (The original's ``local-server``.) :func:`make_local_server` makes it."""

    __slots__ = ("_local_pathname",)

    def accept_connection(self) -> LocalStream:
        """The stream to the client that has waited longest: :meth:`StreamServer.accept_connection`."""
        stream = super().accept_connection()
        assert isinstance(stream, LocalStream)
        return stream

    def _accepted(self, made: _ffi.NewHandle) -> LocalStream:
        stream = LocalStream._adopt(made)
        stream._local_pathname = self._local_pathname
        return stream


class LocalStream(_LocalSocket, StreamSocket):
    """A local connection. (The original's ``local-stream``.)

    :func:`connect_to_local_server` and :meth:`LocalServer.accept_connection` make it.
    """

    __slots__ = ("_local_pathname",)


def make_local_server(pathname: Pathname, *, backlog: int = 128, delete_on_close: bool = True) -> LocalServer:
    """A server that listens at once. (``make-local-server``.)

    Who may connect is decided by the permissions of the directory and of the file, which is made with the process's
    ``umask``.

    :param pathname: must not exist yet. ``str``, ``bytes`` or path-like; at most 107 bytes on Linux, 103 on macOS and
        FreeBSD.
    :param backlog: how many clients the system keeps waiting for :meth:`~StreamServer.accept_connection`.
    :param delete_on_close: :meth:`~Socket.close` deletes the file, if it is still the one that this server made. In a
        forked child it never does.
    :raises ValueError: for a pathname that is empty or contains a NUL.
    :raises SocketError: if the system refuses: ``EADDRINUSE`` if the pathname exists, ``ENAMETOOLONG``, ``ENOENT`` if
        its directory does not exist, ``EACCES``.
    """
    plain, encoded = _check_pathname(pathname)
    result, made = _calls.make_local_server(
        encoded, len(encoded), check_backlog(backlog), _ffi.DELETE_ON_CLOSE if delete_on_close else 0
    )
    if result < 0:
        action = f"listen at {plain!r}"
        if _calls.code_of(result) == errno.EADDRINUSE:
            advice = (
                "the pathname exists: another server listens there, or one that ended badly left it; then delete it"
            )
            raise socket_error(errno.EADDRINUSE, action, advice=advice)
        raise failure_error(result, action)
    server = LocalServer._adopt(made)
    server._local_pathname = plain
    return server


def connect_to_local_server(pathname: Pathname) -> LocalStream:
    """Connects to the server that listens at a pathname. (``connect-to-local-server``.)

    :param pathname: ``str``, ``bytes`` or path-like.
    :raises NoLocalServerError: where nothing listens: there is no such file, or a file that nobody listens on.
    :raises ValueError: for a pathname that is empty or contains a NUL.
    :raises SocketError: if the system refuses: ``EAGAIN`` if the server's backlog is full (try again), ``EACCES``,
        ``ENAMETOOLONG``.
    """
    plain, encoded = _check_pathname(pathname)
    result, made = _calls.connect_to_local_server(encoded, len(encoded))
    if result < 0:
        if _calls.status_of(result) == _ffi.ERROR_NO_LOCAL_SERVER:
            code = _calls.code_of(result)
            why = "nobody listens there" if code == errno.ECONNREFUSED else "there is no such file"
            raise NoLocalServerError(code, f"no server listens at {plain!r}: {why}; start the server first")
        raise failure_error(result, f"connect to {plain!r}")
    stream = LocalStream._adopt(made)
    stream._local_pathname = plain
    return stream
