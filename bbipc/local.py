"""The local namespace: streams between programs of one machine.

Unix domain sockets (``unix(7)``); on Windows named pipes, in byte mode.
"""

from __future__ import annotations

import errno
import operator
import os
import stat
import sys

from ._native import calls, declarations, results
from ._native.owner import warn_caller
from .addresses import Address
from .credentials import PeerCredentials
from .errors import (
    NoLocalServerError,
    ServerAlreadyRunningError,
    SocketError,
    errno_of,
    failure_error,
    system_error,
)
from .patience import NO_PATIENCE, Patience, may_pass
from .sockets import StreamServer, StreamSocket
from .tcp import check_backlog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Union

    Pathname = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]


if sys.platform == "win32":
    #: UTF-16 code units of a pipe's whole name (CreateNamedPipe).
    _NAME_LIMIT = 256
    _PIPES = "\\\\.\\pipe\\"

    def _pipe_name(name: str) -> str:
        """The pipe that a plain name, a path, or a pipe's whole name means."""
        straight = name.replace("/", "\\")
        if straight[: len(_PIPES)].lower() in (_PIPES, "\\\\?\\pipe\\"):
            return _PIPES + straight[len(_PIPES) :]
        if "\\" not in straight and not os.path.splitdrive(name)[0]:
            return _PIPES + name
        _machine, _, rest = straight[2:].partition("\\")
        if straight.startswith("\\\\") and rest.lower().startswith("pipe\\"):
            raise ValueError(
                f"a local server's pathname can't be the network name of a pipe, {name!r}; this machine's own pipe is"
                f" {_PIPES + rest[5:]!r}"
            )
        path = os.path.abspath(name)
        if path.startswith("\\\\.\\") and not straight.startswith(("\\\\.\\", "\\\\?\\")):
            # The system takes the last part for a device, in whatever directory: "C:/run/aux" for "\\.\aux".
            directory, last = os.path.split(name)
            path = os.path.join(os.path.abspath(directory or "."), last)
        # The prefix of a path without the usual length limit, and that of a path on another machine: names of pipes
        # have no empty parts.
        if path.startswith("\\\\?\\"):
            path = path[4:]
        elif path.startswith("\\\\"):
            path = "UNC" + path[1:]
        return _PIPES + path

    def _encode(plain: str | bytes) -> bytes:
        """The pipe's name as the library takes it: UTF-8, and lone surrogates, which Windows allows in names."""
        name = _pipe_name(os.fsdecode(plain))
        if name == _PIPES:
            raise ValueError(f"a local server's pathname can't be empty: {plain!r}")
        units = name.encode("utf-16-le", "surrogatepass")
        if len(units) // 2 > _NAME_LIMIT:
            raise SocketError(
                errno.ENAMETOOLONG,
                f"the pathname {plain!r} names a pipe, {name!r}, of {len(units) // 2} UTF-16 units; Windows allows"
                f" {_NAME_LIMIT}. Use a shorter pathname, or a plain name such as 'build-server'",
            )
        return units.decode("utf-16-le", "surrogatepass").encode("utf-8", "surrogatepass")

else:
    #: Bytes.
    _PATHNAME_LIMIT = declarations.local_pathname_limit()

    def _encode(plain: str | bytes) -> bytes:
        """The pathname as the system takes it."""
        encoded = os.fsencode(plain)
        if len(encoded) > _PATHNAME_LIMIT:
            raise SocketError(
                errno.ENAMETOOLONG,
                f"the pathname {plain!r} has {len(encoded)} bytes; this system allows local sockets {_PATHNAME_LIMIT}."
                " Use a shorter directory, or change to it and use a relative pathname",
            )
        return encoded


def _check_pathname(pathname: Pathname) -> tuple[str | bytes, bytes]:
    """The pathname as users see it, and as the library takes it."""
    plain = os.fspath(pathname)
    if not plain:
        raise ValueError("a local server's pathname can't be empty")
    if (b"\0" if isinstance(plain, bytes) else "\0") in plain:  # type: ignore[operator]
        raise ValueError(f"a local server's pathname can't contain a NUL character: {plain!r}")
    return plain, _encode(plain)


class _LocalSocket:
    __slots__ = ()

    if TYPE_CHECKING:
        _local_pathname: str | bytes

        def _check_open(self, action: str) -> None: ...

    def _make_address(self) -> Address:
        return Address._of_pathname(self._local_pathname)

    @property
    def local_pathname(self) -> str | bytes:
        """The server's pathname, as it was given. (``local-pathname``.)

        Of an adopted socket, the pathname that the system knows, as a ``str``; one of Linux's abstract names begins
        with a NUL. Empty without one: :func:`make_stream_pair`, ``socketpair(2)``.
        """
        self._check_open("tell the pathname")
        return self._local_pathname

    def _describe(self) -> str:
        return repr(self._local_pathname) if self._local_pathname else "unnamed"


class LocalServer(_LocalSocket, StreamServer):
    """A server for local connections. (The original's ``local-server``.) :func:`make_local_server` makes it."""

    __slots__ = ("_local_pathname",)

    def accept_connection(self) -> LocalStream:
        """The stream to the client that has waited longest: :meth:`StreamServer.accept_connection`."""
        stream = self._accept(LocalStream)
        stream._local_pathname = self._local_pathname
        return stream

    def _tell_left(self, result: int) -> None:
        warn_caller(
            f"the system refuses to delete the socket file {self._local_pathname!r}, so it is left: delete it before a"
            " server listens there again",
            RuntimeWarning,
        )


class LocalStream(_LocalSocket, StreamSocket):
    """A local connection. (The original's ``local-stream``.)

    :func:`connect_to_local_server`, :meth:`LocalServer.accept_connection`, :func:`make_stream_pair`,
    :func:`adopt_stream`, :func:`start_process` and :func:`connect_to_parent` make it.
    """

    __slots__ = ("_local_pathname",)

    def peer_credentials(self) -> PeerCredentials:
        """Who is at the other end: the user, the group and the process.

        The system is asked, each time; nothing of it can be forged by the peer. But it tells of the moment in which
        the stream was connected, so there is more to know:

        - The process may have ended since, and its number be another's. So do not decide by ``process_id`` who may do
          what, nor by what ``/proc`` says of it: decide by ``user_id``. What a program did with its user afterwards
          (``setuid``) is not told.
        - A process can hand its end to another, as a child or by passing the descriptor.
        - A client is told of the process that called ``listen``: of systemd, or of a parent that has ended since, where
          another one accepts.
        - Both ends of a pair are told of the process that made it (:func:`make_stream_pair`), whoever has the other one
          now. So is a parent of itself, for the stream to its child is a pair on POSIX systems
          (:func:`start_process`).

        :raises SocketError: if the stream is closed, or the system refuses.
        """
        told = calls.peer_credentials(self._handle)
        if isinstance(told, int):
            raise failure_error(told, "tell who is at the other end", self)
        user, group, process = (None if number < 0 else number for number in told[:3])
        return PeerCredentials(user, group, process, told[3] or None)


if sys.platform == "win32":
    _NO_SUCH = "there is no such pipe; start the server first"
    _REFUSED = "nobody listens there; start the server first"
    _NOT_FOR_US = "this user may not: the server is another user's, or its pipe goes in one direction only"
    _IN_USE = (
        "another server listens at that name, or a stream of one is still open, at either end; choose another name, or"
        " give up such streams by abort()"
    )
    _RUNNING = _IN_USE
    #: A name that exists is in use instead (EADDRINUSE).
    _FORBIDDEN = (
        r"this process may not make a pipe of that name; in an AppContainer names begin with \\.\pipe\LOCAL" + "\\"
    )

    def _check_permissions(permissions: int) -> None:
        if permissions not in (0o600, 0o666):
            raise ValueError(
                f"permissions must be 0o600, for this user, or 0o666, for every user of this machine, on Windows; not"
                f" {oct(permissions)}"
            )

    def _no_socket(_pathname: str | bytes, *, follow_links: bool) -> str | None:
        """Files have no part in it."""
        return None

    def _advice_to_listen(_pathname: str | bytes, _replace_dead: bool) -> dict[int, str]:
        """What a user can do about an errno of make_local_server."""
        return {errno.EADDRINUSE: _IN_USE, errno.EACCES: _FORBIDDEN}

    def _advice_to_connect(_pathname: str | bytes) -> dict[int, str]:
        """What a user can do about an errno of connect_to_local_server."""
        return {errno.ECONNREFUSED: _REFUSED, errno.ENOENT: _NO_SUCH, errno.EACCES: _NOT_FOR_US}

else:
    _NO_SUCH = "there is no such file; start the server first"
    _REFUSED = "nobody listens there; start the server first"
    if sys.platform != "linux":
        # macOS and FreeBSD say no more than this of a server without room.
        _REFUSED = "nobody listens there, or the server's backlog is full; start the server first, or try again soon"
    _IN_USE = (
        "a socket file is there: another server listens on it, or one that ended badly left it; replace_dead=True takes"
        " the place of one that has died"
    )
    _RUNNING = "another server lives there; end it first, or be its client"
    _NOT_A_DIRECTORY = "a part of the pathname before the last is not a directory; check the pathname"

    _KINDS = (
        (stat.S_ISREG, "a regular file"),
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISCHR, "a character device"),
        (stat.S_ISBLK, "a block device"),
    )

    def _no_socket(pathname: str | bytes, *, follow_links: bool) -> str | None:
        """What is at a pathname that is not a socket. None for a socket, for nothing, and where nobody can tell."""
        try:
            mode = os.stat(pathname, follow_symlinks=follow_links).st_mode
        except OSError:
            return None
        return next((words for is_that, words in _KINDS if is_that(mode)), None)

    def _check_permissions(permissions: int) -> None:
        if not 0 <= permissions <= 0o777:
            raise ValueError(f"permissions must be from 0 to 0o777, not {oct(permissions)}")

    def _beside(pathname: str | bytes, suffix: str) -> str | bytes:
        return pathname + (suffix if isinstance(pathname, str) else suffix.encode())  # type: ignore[operator]

    def _owner(pathname: str | bytes) -> int | None:
        """Whose file is there. None for nobody's, and where nobody can tell."""
        try:
            return os.lstat(pathname).st_uid
        except OSError:
            return None

    def _in_use(pathname: str | bytes, replace_dead: bool) -> str:
        """What is there that can't be replaced."""
        # bind(2) follows no links.
        kind = _no_socket(pathname, follow_links=False)
        if kind:
            return f"{kind} is there, not a socket; choose another pathname"
        if not replace_dead:
            return _IN_USE
        owner = _owner(pathname)
        if owner not in (None, os.geteuid()):
            return f"a socket of another user is there, of the one with the number {owner}; choose another pathname"
        new = _beside(pathname, ".new")
        if _owner(new) is not None:
            kind = _no_socket(new, follow_links=False) or "a socket"
            return f"{kind} is at {new!r}, which the server needs for a moment; choose another pathname"
        return "a socket is there that no server of streams has left; choose another pathname"

    def _lock_refused(pathname: str | bytes) -> str | None:
        """Why the lock's file can't be used. None if it is not that."""
        lock = _beside(pathname, ".lock")
        kind = _no_socket(lock, follow_links=False)
        owner = _owner(lock)
        if owner is None or (kind == "a regular file" and owner == os.geteuid()):
            return None
        if kind != "a regular file":
            return f"{kind or 'a socket'} is at {lock!r}, where the server's lock belongs; choose another pathname"
        return f"{lock!r}, the server's lock, is the file of the user with the number {owner}"

    def _advice_to_listen(pathname: str | bytes, replace_dead: bool) -> dict[int, str]:
        """What a user can do about an errno of make_local_server."""
        no_lock = _lock_refused(pathname) if replace_dead else None
        by_lock = dict.fromkeys((errno.ELOOP, errno.EMLINK, errno.EISDIR, errno.ENXIO), no_lock) if no_lock else {}
        no_file = "this user may not make a file in that directory, or not search a directory before it"
        return {
            **{number: why for number, why in by_lock.items() if why},
            errno.ENOSYS: "permissions and replace_dead need statx(2), which Linux has since 4.11",
            errno.EADDRINUSE: _in_use(pathname, replace_dead),
            errno.EACCES: no_lock or no_file,
            errno.EPERM: "the file system there may be one that can't hold sockets; choose another directory",
            errno.ENOENT: "the directory does not exist",
            errno.ENOTDIR: _NOT_A_DIRECTORY,
        }

    def _advice_to_connect(pathname: str | bytes) -> dict[int, str]:
        """What a user can do about an errno of connect_to_local_server."""
        kind = _no_socket(pathname, follow_links=True)
        leads_nowhere = "a symbolic link is there that leads nowhere; start the server first, or check the pathname"
        return {
            errno.ECONNREFUSED: f"{kind} is there, not a socket; check the pathname" if kind else _REFUSED,
            errno.EACCES: "this user may not write to what is there, or not search a directory before it",
            errno.ENOENT: leads_nowhere if os.path.islink(pathname) else _NO_SUCH,
            errno.ENOTDIR: _NOT_A_DIRECTORY,
            errno.EPROTOTYPE: "the socket there is not one of streams; check the pathname",
        }


def make_local_server(
    pathname: Pathname,
    *,
    backlog: int = 128,
    delete_on_close: bool = True,
    permissions: int | None = None,
    replace_dead: bool = False,
) -> LocalServer:
    r"""A server that listens at once. (``make-local-server``.)

    On Unix the pathname is that of a socket file. Who may connect is decided by the permissions of its directory and of
    the file: a client needs to search the one, and to write to the other.

    On Windows it is the name of a pipe, and no file appears anywhere. A plain name such as ``"build-server"`` means
    ``\\.\pipe\build-server``. A path is made absolute: ``"C:/run/build"`` means ``\\.\pipe\C:\run\build``, and needs no
    such directory. The whole name of a pipe is taken as it is. Case does not matter. Only the user whom the process
    runs as, Administrators and the system itself may connect, if ``permissions`` don't say otherwise, and nobody from
    another machine. The name is taken until
    the server and all streams that it accepted are closed; on Windows itself probably at both ends.
    :meth:`~StreamSocket.abort` gives up a stream whose client does not close.

    :param pathname: must not exist yet, but see ``replace_dead``. ``str``, ``bytes`` or path-like; at most 107 bytes on
        Linux, 103 on macOS and FreeBSD; on Windows 256 UTF-16 units for the whole name of the pipe.
    :param backlog: how many clients the system keeps waiting for :meth:`~StreamServer.accept_connection`. On Windows 1
        to 1024; less and more count as that.
    :param delete_on_close: :meth:`~Socket.close` deletes the file, if it is still the one that this server made. In a
        forked child it never does. Where the system refuses, it warns (``RuntimeWarning``). A process that a signal
        ends, ``SIGTERM`` for example, closes nothing, so the file stays and the next server is refused, unless it
        replaces the dead. A pipe's name always goes by itself.
    :param permissions: the file's mode, ``0o600`` for example. It has it before anybody can connect, and the process's
        ``umask`` neither counts nor changes. ``None`` is ``0o777`` without what the ``umask`` takes away. On Windows
        ``0o600`` is what ``None`` is too, and ``0o666`` lets every user of this machine connect; there is no other.
    :param replace_dead: takes the place of a server of this user that has died and left its file. A server that lives
        is :class:`ServerAlreadyRunningError`. Of any number of programs that start at once, one gets the place. The
        server keeps a lock, on a file beside its own (the pathname and ``.lock``), and for a moment there is a third
        (the pathname and ``.new``, or a shorter name of 20 characters, which must not be too long either; on Linux it
        may). On Windows no server leaves anything.
    :raises ValueError: for a pathname that is empty or contains a NUL, and for permissions that there are not.
    :raises ServerAlreadyRunningError: with ``replace_dead``, for a server that lives, starts or closes.
    :raises SocketError: if the system refuses: ``EADDRINUSE`` if the pathname exists, ``ENAMETOOLONG``, ``ENOENT`` if
        its directory does not exist, ``EACCES``. What exists stays as it is, and the message says what it is: a socket,
        a regular file, a directory. Nothing but a dead server's socket is ever replaced. ``ENOSYS`` for
        ``permissions`` and ``replace_dead`` on a Linux before 4.11, which has no ``statx``.
    """
    plain, encoded = _check_pathname(pathname)
    if permissions is not None:
        permissions = operator.index(permissions)
        _check_permissions(permissions)
    server = calls.make_local_server(
        encoded,
        check_backlog(backlog),
        declarations.DEFAULT_PERMISSIONS if permissions is None else permissions,
        (declarations.DELETE_ON_CLOSE if delete_on_close else 0) | (declarations.REPLACE_DEAD if replace_dead else 0),
        LocalServer,
    )
    if isinstance(server, int):
        raise _listening_error(server, plain, replace_dead)
    server._local_pathname = plain
    return server


def _listening_error(result: int, plain: str | bytes, replace_dead: bool) -> Exception:
    action = f"listen at {plain!r}"
    status = results.status_of(result)
    if status == declarations.ERROR_SERVER_RUNNING:
        message = f"cannot {action}: {_RUNNING}"
        return system_error(ServerAlreadyRunningError, results.code_of(result), message)
    if status == declarations.ERROR_NAME_TOO_LONG:
        why = "with replace_dead a longer name beside it must fit into a socket's name; use a shorter directory"
        return SocketError(errno.ENAMETOOLONG, f"cannot {action}: {why}")
    return failure_error(result, action, advice=_advice_to_listen(plain, replace_dead))


def _connecting_error(result: int, plain: str | bytes) -> Exception:
    advice = _advice_to_connect(plain)
    if results.status_of(result) != declarations.ERROR_NO_LOCAL_SERVER:
        return failure_error(result, f"connect to {plain!r}", advice=advice)
    code = results.code_of(result)
    if errno_of(code) == errno.ENOTSOCK:
        # What macOS and FreeBSD say of a file that is not a socket.
        code = errno.ECONNREFUSED
    why = advice.get(errno_of(code), _NO_SUCH)
    return system_error(NoLocalServerError, code, f"no server listens at {plain!r}: {why}")


def connect_to_local_server(pathname: Pathname, *, timeout: float | None = 0) -> LocalStream:
    """Connects to the server that listens at a pathname. (``connect-to-local-server``.)

    With a timeout, it waits until there is a server with room for another client: where nothing is at the pathname yet,
    nobody listens, or the backlog is full. It tries again after pauses of 25 ms at the most. What no server can change
    is raised at once: something that is not a socket, missing permission, a pathname that is too long. (Permission is
    asked for twice, for a server that starts may be about to give it.)

    :param pathname: ``str``, ``bytes`` or path-like; it means what it means to :func:`make_local_server`.
    :param timeout: seconds; ``None`` waits for ever, 0 not at all.
    :raises TimeoutError: when the time is up; its ``__cause__`` is why the last try failed.
    :raises NoLocalServerError: where nothing listens. If nothing is there (on Windows: no such pipe), it is a
        ``FileNotFoundError``, or a ``NotADirectoryError`` (``ENOTDIR``). Otherwise it is a ``ConnectionRefusedError``,
        and the message says what is there: a socket file that a server left, or something that is not a socket. So it
        is not by itself a reason to delete the file. On macOS and FreeBSD the server's backlog may be full, for they
        say the same then.
    :raises ValueError: for a pathname that is empty or contains a NUL, and a timeout that is negative or NaN.
    :raises SocketError: if the system refuses: ``EAGAIN`` if the server's backlog is full, on Linux and Windows (try
        again), ``EACCES``, ``ENAMETOOLONG``. On Windows ``EAGAIN`` also for a server that is closed while streams that
        it accepted live.
    """
    plain, encoded = _check_pathname(pathname)
    # Most calls are such, and the other costs a microsecond.
    patience = NO_PATIENCE if timeout == 0 else Patience(timeout)
    forbidden = False
    while True:
        stream = calls.connect_to_local_server(encoded, LocalStream)
        if not isinstance(stream, int):
            stream._local_pathname = plain
            return stream
        number = errno_of(results.code_of(stream))
        is_new = number == errno.EACCES and not forbidden
        forbidden = number == errno.EACCES
        if not patience or not (is_new or (may_pass(number) and not _no_socket(plain, follow_links=True))):
            raise _connecting_error(stream, plain)
        if not patience.pause():
            raise patience.time_is_up(_connecting_error(stream, plain))
