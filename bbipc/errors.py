"""The errors. All share :class:`BbipcError`, and each also is the built-in error that a Python programmer expects."""

from __future__ import annotations

import builtins
import errno
import io
import os
import sys

from ._native import declarations, results

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeVar

    from .sockets import Socket

    SocketErrorT = TypeVar("SocketErrorT", bound="SocketError")

if sys.platform == "win32":
    import ctypes


class BbipcError(Exception):
    """The base of every error of this package, but for the ``TypeError`` and ``ValueError`` of a wrong argument."""


class _SocketErrorType(type):
    # Not by a __new__ of SocketError, where OSError would take no arguments from the __init__ of a derived class.
    def __call__(cls, *args: Any, **keywords: Any) -> Any:
        """Makes the error that also is the built-in one, as ``OSError`` itself does."""
        number = args[0] if len(args) > 1 and isinstance(args[0], int) else None
        has_code = sys.platform == "win32" and len(args) > 3 and isinstance(args[3], int)
        if has_code:
            number = number or errno_of(args[3])
        chosen = _classes.get((cls, number))
        if chosen is None:
            if type(cls.__init__) is not _BuiltInInit:  # type: ignore[misc]
                # What its arguments mean is its own business.
                return type.__call__(cls, *args, **keywords)
            chosen = _with_built_in(cls, number)
        error = type.__call__(chosen, *args, **keywords)
        if has_code:
            # OSError has made an errno of its own from winerror.
            error.errno = number
            error.args = (number, *error.args[1:])
        return error


_BuiltInInit = type(OSError.__init__)


class SocketError(BbipcError, OSError, metaclass=_SocketErrorType):
    """The system refused something. (The original's ``socket-error``.)

    Like every ``OSError`` it has ``errno``, whose name is the same on every system, and on Windows ``winerror``, the
    system's own code; that is ``None`` for what bbipc itself refuses.

    It is also the built-in error that Python has for its ``errno`` (PEP 3151): ``EPIPE`` is a ``BrokenPipeError`` too,
    ``ECONNRESET`` a ``ConnectionResetError``, ``ECONNREFUSED`` a ``ConnectionRefusedError``, ``EACCES`` a
    ``PermissionError``, ``ENOENT`` a ``FileNotFoundError``. ``EADDRINUSE``, for example, has none.

    Pickled, or copied by ``copy.deepcopy``, it loses its ``socket`` and, like every exception, its ``__cause__``.
    """

    #: The reason, as in the module ``errno``.
    errno: int
    #: The socket that it happened to; None if there was none yet.
    socket: Socket | None = None

    #: The class itself, but for those that _with_built_in makes of it.
    _kind: type[SocketError]

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "_kind" not in vars(cls):
            cls._kind = cls

    def __reduce__(self) -> tuple[object, ...]:
        # To another process the error can go, from a worker for example; its socket can't.
        return self._kind, self._arguments(), {name: value for name, value in vars(self).items() if name != "socket"}

    def __copy__(self) -> SocketError:
        again = self._kind(*self._arguments())
        vars(again).update(vars(self))
        return again

    def _arguments(self) -> tuple[Any, ...]:
        # OSError takes the names of files out of its args.
        if self.filename is None or len(self.args) < 2:
            return self.args
        return *self.args[:2], self.filename, getattr(self, "winerror", None), self.filename2


SocketError._kind = SocketError

#: The classes that are a kind of SocketError and a built-in error, by these two. They come with the first error.
_with_built_ins: dict[tuple[type[SocketError], type[OSError]], type[SocketError]] = {}
#: The same by the kind and the errno, for speed.
_classes: dict[tuple[type[Any], object], type[Any]] = {}


def _with_built_in(kind: type[SocketErrorT], number: object) -> type[SocketErrorT]:
    """The kind of error that also is the built-in one for an errno, as OSError itself becomes that."""
    plain, built_in = kind._kind, type(OSError(number, ""))
    if not issubclass(plain, built_in) and (plain, built_in) not in _with_built_ins:
        # Without a comprehension: where memory ends as it makes its cell, a debug build of CPython 3.11 is aborted.
        names = {
            "__doc__": plain.__doc__,
            "__module__": plain.__module__,
            "__qualname__": plain.__qualname__,
            "_kind": plain,
        }
        made = type(plain.__name__, (plain, built_in), names)
        _with_built_ins.setdefault((plain, built_in), made)
    chosen: type[Any] = _with_built_ins.get((plain, built_in), plain)
    if number in errno.errorcode:
        _classes[kind, number] = chosen
    return chosen


class SocketClosedError(SocketError):
    """The socket has been closed, here or by another thread. ``errno`` is ``EBADF``."""


class NoConnectionAvailableError(SocketError, BlockingIOError):
    """No client waits to be accepted. (The original's ``no-connection-available-error``.)"""


class NoLocalServerError(SocketError):
    """Nothing listens at the pathname. (The original's ``no-local-server-error``.)

    Where nothing is at the pathname it is a ``FileNotFoundError`` (``ENOENT``; ``NotADirectoryError`` if a part before
    the last is a file). Otherwise it is a ``ConnectionRefusedError`` (``ECONNREFUSED``), and the message says what is
    there: a socket that nobody listens on, or something that is not a socket at all and must not be deleted.

    On macOS and FreeBSD a ``ConnectionRefusedError`` may also mean a server whose backlog is full.
    """


class ServerAlreadyRunningError(SocketError):
    """A server lives at the pathname: ``make_local_server(..., replace_dead=True)`` leaves it alone.

    Or one is about to, or is closing. ``errno`` is ``EADDRINUSE``.
    """


class EndOfStreamError(BbipcError, EOFError):
    """The remote end went before all was read or written.

    Its ``__cause__`` is the :class:`SocketError`, if the connection was severed rather than closed.
    """

    #: What :meth:`~bbipc.StreamSocket.read_exactly` had read, and what had come of a message, with its header. Empty
    #: where the end came between two messages.
    partial: bytes = b""
    #: How many bytes :meth:`~bbipc.StreamSocket.write_all` had written.
    bytes_written: int = 0
    #: How many messages the stream had taken.
    accepted: int = 0


class TimeoutError(BbipcError, builtins.TimeoutError):
    """The time was up before all was read, written, sent or received, or before a connection stood."""

    #: What :meth:`~bbipc.StreamSocket.read_exactly` had read.
    partial: bytes = b""
    #: How many bytes :meth:`~bbipc.StreamSocket.write_all` had written.
    bytes_written: int = 0
    #: How many messages the stream has taken. They must not be sent again: what has not gone of the last of them goes
    #: out by itself, in the stream's next wait.
    accepted: int = 0


class MessageTooLargeError(BbipcError, ValueError):
    """A message is longer than the stream's :attr:`~bbipc.StreamSocket.max_message_size`.

    It is also raised for bytes that no message begins with: the remote end sends something else. What has come stays
    unread, and no message is received any more until the bound is raised, or the bytes are read; sending goes on. A
    message that was to be sent was not. From :meth:`~bbipc.StreamSocket.read_until` it says that the delimiter is not
    among the first ``max_bytes`` bytes.
    """


class AuthenticationError(BbipcError, PermissionError):
    """One end of a stream has not proved to the other that it has the key, or could not. ``errno`` is ``EACCES``.

    The message says which end, and what to do. It is an ``OSError``, as a connection's other errors are, so that a
    server that serves each client within ``except OSError`` loses that client only. It is none of multiprocessing's,
    which has an ``AuthenticationError`` of its own.
    """


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


#: What a user can do about the system's most frequent refusals. The caller of failure_error may know better.
_ADVICE = {
    errno.EADDRINUSE: "another socket has that address; choose another, or wait until it is free",
    errno.EADDRNOTAVAIL: "no network interface of this machine has that address, or no port of it is left",
    errno.EACCES: "this user may not",
    errno.EAGAIN: "the server's backlog is full; try again when it has accepted somebody",
    errno.EMFILE: "this process has no descriptor left; close sockets, or raise the limit (ulimit -n)",
    errno.ENFILE: "the system has no descriptor left",
    errno.ENOBUFS: "the system has no memory, or no port, left for it; close sockets",
    errno.ECONNREFUSED: "nobody listens there; start the server first",
    errno.ENETUNREACH: "this machine has no way into that network",
    errno.ETIMEDOUT: "the remote end's machine does not answer",
    errno.ECONNRESET: "the remote end closed without reading all that was sent to it, or broke the connection off",
    errno.EPIPE: "the remote end has gone, or finish_writing() was called before",
    errno.ENOTCONN: "the connection is not established (any more)",
}

if sys.platform == "win32":
    _ADVICE[errno.EMFILE] = "this process has too many sockets; close some"
    #: What the library says where it finds no socket of the system below those of layered providers.
    _ADVICE[errno.EOPNOTSUPP] = (
        "a program that sits between others and the network, a layered service provider, hides the system's socket;"
        " 'netsh winsock show catalog' lists such"
    )

    #: The errno of codes for which OSError has none, or one that says less. Winsock's codes are errno's own.
    _ERRNO = {
        8: errno.ENOMEM,  # ERROR_NOT_ENOUGH_MEMORY
        14: errno.ENOMEM,  # ERROR_OUTOFMEMORY
        64: errno.ECONNRESET,  # ERROR_NETNAME_DELETED
        109: errno.EPIPE,  # ERROR_BROKEN_PIPE
        121: errno.ETIMEDOUT,  # ERROR_SEM_TIMEOUT
        123: errno.EINVAL,  # ERROR_INVALID_NAME
        161: errno.EINVAL,  # ERROR_BAD_PATHNAME
        170: errno.EBUSY,  # ERROR_BUSY
        206: errno.ENAMETOOLONG,  # ERROR_FILENAME_EXCED_RANGE
        230: errno.ENOTCONN,  # ERROR_BAD_PIPE
        231: errno.EAGAIN,  # ERROR_PIPE_BUSY
        232: errno.EPIPE,  # ERROR_NO_DATA: the pipe is being closed
        233: errno.EPIPE,  # ERROR_PIPE_NOT_CONNECTED
        536: errno.ENOTCONN,  # ERROR_PIPE_LISTENING
        1225: errno.ECONNREFUSED,  # ERROR_CONNECTION_REFUSED
        1231: errno.ENETUNREACH,  # ERROR_NETWORK_UNREACHABLE
        1232: errno.EHOSTUNREACH,  # ERROR_HOST_UNREACHABLE
        1236: errno.ECONNABORTED,  # ERROR_CONNECTION_ABORTED
        1450: errno.ENOMEM,  # ERROR_NO_SYSTEM_RESOURCES
        1455: errno.ENOMEM,  # ERROR_COMMITMENT_LIMIT
        10053: errno.ECONNRESET,  # WSAECONNABORTED: what a write may say after a reset
        10058: errno.EPIPE,  # WSAESHUTDOWN: finish_writing() was called before
    }

    def errno_of(code: int) -> int:
        """The errno that one of the system's codes means."""
        if code in _ERRNO:
            return _ERRNO[code]
        number = OSError(0, "", None, code).errno
        assert number is not None
        return number

    def _words_of(code: int) -> str:
        # strerror() knows the numbers of C, not those of Winsock.
        words = ctypes.FormatError(code).rstrip(" .")
        return words if words != "<no description>" else errno.errorcode.get(errno_of(code), f"error {code}")

else:

    def errno_of(code: int) -> int:
        """The errno that one of the system's codes means."""
        return code

    _words_of = os.strerror


def _limit_advice() -> str | None:
    """What to do where poll(2) refuses even one entry: in a sandbox that allows no descriptor more."""
    if sys.platform == "win32":
        return None
    import resource

    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] != 0:
        return None
    return "the limit of descriptors is 0 (RLIMIT_NOFILE), so the system answers no poll(2): set it to 1 or more"


def system_error(kind: type[SocketErrorT], code: int, message: str) -> SocketErrorT:
    """An error of this kind, for one of the system's codes."""
    if sys.platform == "win32":
        return kind(errno_of(code), message, None, code)
    return kind(code, message)


def socket_error(code: int, action: str, socket: Socket | None = None, advice: str | None = None) -> SocketError:
    """The error for one of the system's codes. The action completes "cannot ..."."""
    hint = advice or _ADVICE.get(errno_of(code))
    if hint is None and code == errno.EINVAL:
        hint = _limit_advice()
    message = f"cannot {action}: {_words_of(code)}" + (f" ({hint})" if hint else "")
    error = system_error(SocketError, code, message)
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


def failure_error(
    failure: int, action: str, socket: Socket | None = None, advice: Mapping[int, str] | None = None
) -> Exception:
    """The error for a failure of a native call; with advice for an errno, where there is better than the usual."""
    status, code = results.status_of(failure), results.code_of(failure)
    if status == declarations.ERROR_SYSTEM:
        return socket_error(code, action, socket, advice.get(errno_of(code)) if advice else None)
    if status == declarations.ERROR_INVALID_HANDLE and socket is not None:
        return closed_error(action, socket)
    if status == declarations.ERROR_OUT_OF_MEMORY:
        return MemoryError(f"cannot {action}: {results.message_of(failure)}")
    if status == declarations.ERROR_UNSUPPORTED:
        return UnsupportedOperationError(f"cannot {action}: {results.message_of(failure)}")
    if status in (declarations.ERROR_INVALID_ARGUMENT, declarations.ERROR_WRONG_EVENTS, declarations.ERROR_WRONG_KIND):
        return ValueError(f"cannot {action}: {results.message_of(failure)}")
    return BbipcError(f"cannot {action}: {results.message_of(failure)}")
