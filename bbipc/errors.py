"""The errors. All share :class:`BbipcError`, and each also is the built-in error that a Python programmer expects."""

from __future__ import annotations

import builtins
import errno
import io
import os

from . import _calls, _ffi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .sockets import Socket


class BbipcError(Exception):
    """The base of every error of this package, but for the ``TypeError`` and ``ValueError`` of a wrong argument."""


class SocketError(BbipcError, OSError):
    """The system refused something. (The original's ``socket-error``.)

    It has ``errno``, and on Windows ``winerror``, like every ``OSError``.
    """

    #: The system's code, as in the module ``errno``.
    errno: int
    #: The socket that it happened to; None if there was none yet.
    socket: Socket | None = None

    def __reduce__(self) -> tuple[type[SocketError], tuple[object, ...]]:
        # To another process the error can go, from a worker for example; its socket can't.
        return type(self), self.args


class SocketClosedError(SocketError):
    """The socket has been closed, here or by another thread. ``errno`` is ``EBADF``."""


class NoConnectionAvailableError(SocketError, BlockingIOError):
    """No client waits to be accepted. (The original's ``no-connection-available-error``.)"""


class NoLocalServerError(SocketError, FileNotFoundError):
    """Nothing listens at the pathname. (The original's ``no-local-server-error``.)"""


class EndOfStreamError(BbipcError, EOFError):
    """The remote end went before all was read or written.

    Its ``__cause__`` is the :class:`SocketError`, if the connection was severed rather than closed.
    """

    #: What :meth:`~bbipc.StreamSocket.read_exactly` had read.
    partial: bytes = b""
    #: How many bytes :meth:`~bbipc.StreamSocket.write_all` had written.
    bytes_written: int = 0


class TimeoutError(BbipcError, builtins.TimeoutError):
    """The time was up before all was read or written."""

    #: What :meth:`~bbipc.StreamSocket.read_exactly` had read.
    partial: bytes = b""
    #: How many bytes :meth:`~bbipc.StreamSocket.write_all` had written.
    bytes_written: int = 0


class PollerClosedError(BbipcError, ValueError):
    """The poller has been closed, here or by another thread."""


class AlreadyMonitoredError(BbipcError, ValueError):
    """The poller monitors the socket already: use ``set_monitored_events``."""


class NotMonitoredError(BbipcError, LookupError):
    """The poller does not monitor the socket: use ``monitor_socket``."""


class WrongProcessError(BbipcError, RuntimeError):
    """A poller was used in another process than the one that made it, after ``fork``."""


class UnsupportedOperationError(BbipcError, io.UnsupportedOperation):
    """This system, or this kind of socket, can't do it."""


#: What a user can do about the system's refusals that most often meet them.
_ADVICE = {
    errno.EADDRINUSE: "another socket has that address; choose another, or wait until it is free",
    errno.EADDRNOTAVAIL: "no network interface of this machine has that address, or no port of it is left",
    errno.EACCES: "this user may not; ports below 1024 and foreign directories need permission",
    errno.EAGAIN: "the server's backlog is full; try again when it has accepted somebody",
    errno.EMFILE: "this process has no descriptor left; close sockets, or raise the limit (ulimit -n)",
    errno.ENFILE: "the system has no descriptor left",
    errno.ENOENT: "the directory does not exist",
    errno.ENOTDIR: "a part of the pathname before the last is no directory",
    errno.ECONNREFUSED: "nobody listens there; start the server first",
    errno.ETIMEDOUT: "the remote end's machine does not answer",
    errno.ECONNRESET: "the remote end closed without reading all that was sent to it, or broke the connection off",
    errno.EPIPE: "the remote end has gone, or finish_writing() was called before",
    errno.ENOTCONN: "the connection is not established (any more)",
}


def socket_error(code: int, action: str, socket: Socket | None = None, advice: str | None = None) -> SocketError:
    """The error for one of the system's codes. The action completes «cannot ...»."""
    hint = advice or _ADVICE.get(code)
    error = SocketError(code, f"cannot {action}: {os.strerror(code)}" + (f" ({hint})" if hint else ""))
    error.socket = socket
    return error


def closed_error(action: str, socket: Socket) -> SocketClosedError:
    """The error for a use of a closed socket."""
    error = SocketClosedError(errno.EBADF, f"cannot {action}: the {type(socket).__name__} is closed")
    error.socket = socket
    return error


def no_connection_error(server: Socket) -> NoConnectionAvailableError:
    """The error of a server that no client waits for."""
    error = NoConnectionAvailableError(
        errno.EAGAIN, f"no connection is available at the {server!r}: wait for Events.CONNECTION_AVAILABLE"
    )
    error.socket = server
    return error


def failure_error(failure: int, action: str, socket: Socket | None = None) -> Exception:
    """The error for a failure of a native call."""
    status, code = _calls.status_of(failure), _calls.code_of(failure)
    if status == _ffi.ERROR_SYSTEM:
        return socket_error(code, action, socket)
    if status == _ffi.ERROR_INVALID_HANDLE and socket is not None:
        return closed_error(action, socket)
    if status == _ffi.ERROR_OUT_OF_MEMORY:
        return MemoryError(f"cannot {action}: {_calls.message_of(failure)}")
    if status == _ffi.ERROR_UNSUPPORTED:
        return UnsupportedOperationError(f"cannot {action}: {_calls.message_of(failure)}")
    if status in (_ffi.ERROR_INVALID_ARGUMENT, _ffi.ERROR_WRONG_EVENTS, _ffi.ERROR_WRONG_KIND):
        return ValueError(f"cannot {action}: {_calls.message_of(failure)}")
    return BbipcError(f"cannot {action}: {_calls.message_of(failure)}")
