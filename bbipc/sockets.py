"""What servers and streams of every namespace have in common."""

from __future__ import annotations

import errno
from operator import index

from ._native import buffers, calls, declarations, results
from ._native.owner import HandleOwner, warn_caller
from ._native.waiting import BEGINNING, Deadline, wait
from .addresses import Address
from .errors import (
    EndOfStreamError,
    SocketError,
    TimeoutError,
    UnsupportedOperationError,
    closed_error,
    failure_error,
    no_connection_error,
    socket_error,
)
from .events import SERVER_EVENTS, STREAM_EVENTS, Events
from .messages import MessageMethods

TYPE_CHECKING = False
if TYPE_CHECKING:
    import weakref
    from collections.abc import Iterable
    from typing import Any, ClassVar, NoReturn, Protocol, TypeVar

    from typing_extensions import Buffer, Self

    StreamT = TypeVar("StreamT", bound="StreamSocket")

    class MonitoringPoller(Protocol):
        """What a socket that closes needs of the pollers."""

        def _forget(self, socket: Socket) -> None: ...


_CONNECTION_AVAILABLE = int(Events.CONNECTION_AVAILABLE)
_DETERMINED = int(Events.DETERMINED)
_CONNECTION_SUCCEEDED = int(Events.CONNECTION_SUCCEEDED)
_CONNECTION_FAILED = int(Events.CONNECTION_FAILED)
_DATA_AVAILABLE = int(Events.DATA_AVAILABLE)
_READY_TO_WRITE = int(Events.READY_TO_WRITE)
_REMOTE_DISCONNECTED = int(Events.REMOTE_DISCONNECTED)
_END_OF_DATA = int(Events.END_OF_DATA)
_WRITE_SPACE = int(Events.WRITE_SPACE)
_CONNECTION_SEVERED = int(Events.CONNECTION_SEVERED)

#: Bytes. What read_exactly makes room for before it has come.
_CHUNK_MAX = 1 << 20

#: Why a stream can't be detached.
_KEEPS_BYTES = (
    "it keeps bytes of messages, which would be lost: receive them, or read() them, and call drain() for what is sent"
)

#: The open pollers of this process, by their handles: a socket that closes leaves them.
open_pollers: dict[int, weakref.ref[MonitoringPoller]] = {}

#: What the system says when the remote end goes while something is under way.
_REMOTE_WENT = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED, errno.ETIMEDOUT})


class Socket(HandleOwner):
    """A server or a stream. (The original's ``socket``.)

    Made by the ``make_...``, ``connect_...`` and ``accept_connection`` functions, never by its class. Any method may be
    called from any thread. One that is dropped without :meth:`close` is closed with a ``ResourceWarning``.

    Usable in a ``with`` statement, which closes it (the original's ``with-socket``).

    :raises SocketClosedError: from every method and property but :meth:`close` and :attr:`closed`, once it is closed.
    """

    __slots__ = ()

    _EVENTS: ClassVar[Events] = Events()

    def __init__(self, *_arguments: object, **_keywords: object) -> None:
        raise TypeError(
            f"{type(self).__name__} objects are made by functions, not by their class: use make_ipv4_tcp_server(),"
            " make_local_server(), connect_to_ipv4_tcp_server(), connect_to_local_server(), those for IPv6, or"
            " accept_connection()"
        )

    def close(self) -> None:
        """Closes the socket, which also leaves every poller. Again, it does nothing. (``close-socket``.)

        Other threads that wait on it stop waiting. Bytes that were received and not read are lost. What was written
        still travels to the remote end, with one exception: if bytes are unread when a TCP stream is closed, or arrive
        afterwards, the system resets the connection (RFC 1122, 4.2.2.13), and throws away what it has not delivered
        yet. To have all delivered, call :meth:`~StreamSocket.finish_writing`, read until
        :meth:`~StreamSocket.end_of_data`, and close then. The guide shows it, on its page about streams.

        A local server that can't delete its file warns: ``RuntimeWarning``. A stream that keeps the rest of a message
        tries once more to send it; what is lost then is a ``ResourceWarning``, which says how much. Both are closed all
        the same.
        """
        self._closed = True
        # Also if it was closed before: that may have been interrupted. The library knows, and refuses.
        result = calls.close(self._handle)
        self._leave_pollers()
        if result > 0:
            self._tell_left(result)

    def _leave_pollers(self) -> None:
        for reference in list(open_pollers.values()):
            poller = reference()
            if poller is not None:
                poller._forget(self)

    def _tell_left(self, result: int) -> None:
        """Warns of what close has left."""
        raise NotImplementedError

    @property
    def closed(self) -> bool:
        """Whether it has been closed. (``socket-closed-p``.)"""
        return self._closed

    @property
    def address(self) -> Address:
        """Where it is, as text that :func:`listen` and :func:`connect` take: ``"tcp:127.0.0.1:12345"``.

        Of a server, where it listens, with the port that the system chose. Of a stream over TCP, where its remote end
        is. Of a local stream, where its server listens, at both ends.
        """
        self._check_open("tell the address")
        return self._make_address()

    def _make_address(self) -> Address:
        raise NotImplementedError

    def fileno(self) -> int:
        """The file descriptor. It stays the socket's: don't close it, or use it after :meth:`close`.

        On Windows the number of the TCP socket, what ``socket.fileno()`` tells there. Whoever watches it in another
        loop, and receives messages, receives until nothing is there: a stream may keep messages of which the system
        knows nothing any more.

        :raises UnsupportedOperationError: for named pipes on Windows, which have none.
        """
        result: int = calls.fileno(self._handle)
        if result < 0:
            if results.status_of(result) == declarations.ERROR_UNSUPPORTED:
                raise UnsupportedOperationError(
                    f"the {self!r} has no descriptor on this system: wait for it with bbipc's own functions"
                )
            raise self._error(result, "tell the descriptor")
        return result

    def __enter__(self) -> Self:
        self._check_open("enter a with statement")
        return self

    def __repr__(self) -> str:
        try:
            details = "closed" if self._closed else self._describe()
        except SocketError:
            details = "closed"
        except AttributeError:
            # Interrupted while it was made.
            details = "unfinished"
        return f"<{type(self).__name__} {details}>"

    def _describe(self) -> str:
        raise NotImplementedError

    def _check_open(self, action: str) -> None:
        if self._closed:
            raise closed_error(action, self)

    def _error(self, failure: int, action: str) -> Exception:
        if results.status_of(failure) == declarations.ERROR_SYSTEM:
            action = f"{action} (the {self!r})"
        return failure_error(failure, action, self)

    def _raise(self, failure: int, action: str) -> NoReturn:
        raise self._error(failure, action)

    def _check_events(self, events: Events) -> int:
        """The events as the library takes them."""
        if not isinstance(events, Events):
            raise TypeError(f"events must be Events, such as Events.DATA_AVAILABLE, not {type(events).__name__}")
        wrong = events - self._EVENTS
        if wrong:
            raise ValueError(f"{type(self).__name__} objects can't have {wrong}; their events are {self._EVENTS}")
        return int(events)

    def _holds(self, event: int) -> bool:
        result = calls.poll_socket(self._handle, event, 0, BEGINNING)
        if result < 0:
            raise self._error(result, "tell the events")
        return result != 0


class StreamServer(Socket):
    """Listens, and hands out a stream for every client. (The original's ``stream-server``.)"""

    __slots__ = ()

    _EVENTS = SERVER_EVENTS

    def accept_connection(self) -> StreamSocket:
        """The stream to the client that has waited longest. It outlives the server. (``accept-connection``.)

        After a failure for want of descriptors or memory (``EMFILE``, ``ENFILE``, ``ENOMEM``, ``ENOBUFS``) the server
        pauses: no wait reports it for 10 to 50 milliseconds, or until this process has closed a server, a stream or a
        poller. So a loop of waits and accepts doesn't spin. This method itself tries each time.

        :raises NoConnectionAvailableError: at once, if no client waits.
        :raises SocketError: if the system refuses, ``EMFILE`` for example; the client goes on waiting then. But macOS
            gives up a client for which the process has no descriptor left.
        """
        raise NotImplementedError

    def _accept(self, kind: type[StreamT]) -> StreamT:
        stream = calls.accept_connection(self._handle, kind)
        if isinstance(stream, int):
            if results.status_of(stream) == declarations.ERROR_NO_CONNECTION:
                raise no_connection_error(self)
            raise self._error(stream, "accept a connection")
        return stream

    def connection_available(self) -> bool:
        """Whether :meth:`accept_connection` would return a stream. (``connection-available-p``.)"""
        return self._holds(_CONNECTION_AVAILABLE)


class StreamSocket(MessageMethods, Socket):
    """One end of a bidirectional channel of bytes. (The original's ``stream-socket``.)"""

    __slots__ = ()

    _EVENTS = STREAM_EVENTS

    def _tell_left(self, result: int) -> None:
        warn_caller(
            f"a {type(self).__name__} was closed with {result} bytes of a message unsent: call drain() before close()",
            ResourceWarning,
        )

    def abort(self) -> None:
        """Closes the stream, and gives up what was written and has not arrived. On a closed stream it does nothing.

        A TCP connection is reset: reading at the remote end raises ``ECONNRESET``. On Unix, a local stream is closed as
        by :meth:`~Socket.close`: what was written is with the remote end already. On Windows, where a pipe that is
        closed waits for its reader (for 30 seconds), it ends at once: the remote end loses the write that is under way,
        a client also what it has not read, and the pipe's name is free again. The remote end of a local stream sees the
        end, and not that something is missing.
        """
        if not self._closed:
            calls.abort(self._handle)
        self.close()

    def detach(self) -> int:
        """Closes the stream, but not its connection: returns a descriptor with which somebody else goes on.

        The stream leaves every poller, and other threads that wait on it stop waiting, as with :meth:`~Socket.close`.
        No byte is lost: messages stay whole, and the error of a :meth:`read_exactly` has the ``partial`` that it had
        read.

        The descriptor is the caller's: pass it on, or close it. Its number is a new one (``dup(2)``), since other
        threads may still be using the old. It is close-on-exec, and non-blocking if bbipc made the socket. A Python
        socket that is to block is told so: ``socket.socket(fileno=stream.detach()).setblocking(True)``.

        On Windows it is the number of a TCP socket, which ``socket.socket(fileno=...)`` takes.

        :raises SocketError: ``EBUSY`` while the stream keeps bytes of messages that would be lost: what was received
            and not read, or the rest of what was sent; receive or :meth:`read` them, or :meth:`drain`. ``EMFILE``
            without a descriptor left. The stream goes on then.
        :raises UnsupportedOperationError: for named pipes on Windows, which can't.
        """
        self._check_open("detach")
        result: int = calls.detach(self._handle)
        if result >= 0:
            self._closed = True
            self._leave_pollers()
            return result
        if results.status_of(result) == declarations.ERROR_UNSUPPORTED:
            raise UnsupportedOperationError(f"the {self!r} can't be detached on this system: relay its bytes instead")
        raise failure_error(result, f"detach (the {self!r})", self, {errno.EBUSY: _KEEPS_BYTES})

    # ---- What is so now ----

    def determined(self) -> bool:
        """Whether the attempt to connect has ended, either way. True for ever after. (``determinedp``.)"""
        return self._holds(_DETERMINED)

    def connection_failed(self) -> bool:
        """Whether the connection could not be established, or the remote end is gone. (``connection-failed-p``.)"""
        return self._holds(_CONNECTION_FAILED)

    def connection_succeeded(self) -> bool:
        """Whether the connection stands: established, not failed, remote end not gone. (``connection-succeeded-p``.)"""
        return self._holds(_CONNECTION_SUCCEEDED)

    def data_available(self) -> bool:
        """Whether at least one byte can be read now, also after the remote end has gone. (``data-available-p``.)"""
        return self._holds(_DATA_AVAILABLE)

    def ready_to_write(self) -> bool:
        """Whether the remote end is there and a write would take at least one byte. (``ready-to-write-p``.)

        False once the remote end has finished sending, though it may still read: :meth:`write_space`.
        """
        return self._holds(_READY_TO_WRITE)

    def remote_disconnected(self) -> bool:
        """Whether the remote end has closed or finished sending, or the connection is severed.

        Bytes may still be unread. (``remote-disconnected-p``.)
        """
        return self._holds(_REMOTE_DISCONNECTED)

    def end_of_data(self) -> bool:
        """Whether every byte has been read and no more will come."""
        return self._holds(_END_OF_DATA)

    def write_space(self) -> bool:
        """Whether a write would take at least one byte, also when the remote end has finished sending."""
        return self._holds(_WRITE_SPACE)

    def connection_severed(self) -> bool:
        """Whether nothing travels any more, in either direction."""
        return self._holds(_CONNECTION_SEVERED)

    def connection_error(self) -> SocketError | None:
        """Why the connection failed or was severed.

        ``None`` if it was not, if that is not known yet, or if the remote end closed in an orderly way.
        """
        result, code = calls.connection_error(self._handle)
        if result < 0:
            raise self._error(result, "tell the connection's error")
        if result == 0:
            return None
        return socket_error(code, f"reach the remote end of the {self!r}", self)

    # ---- Reading and writing ----

    def read_into(self, buffer: Buffer, start: int = 0, end: int | None = None, *, peek: bool = False) -> int:
        """Reads what is there now into a buffer. (``read-from-stream``.)

        :param buffer: any writable, contiguous buffer: ``bytearray``, ``memoryview``, ``array``, ``mmap``, a NumPy
            array of any type and shape. Nothing is copied on the way.
        :param start: where in the buffer to begin, in bytes.
        :param end: where to stop, in bytes; ``None`` for the buffer's end.
        :param peek: leave the bytes in the stream.
        :returns: how many bytes it put there, 0 to ``end - start``. 0 means that nothing is there now; ask
            :meth:`end_of_data` whether more will come.
        :raises TypeError: for any other object.
        :raises ValueError: if ``start`` and ``end`` are not in the buffer or crossed; nothing has been read then.
        :raises SocketError: once all has been read from a connection that was severed (``ECONNRESET``), and from one
            that could not be established.
        """
        result = calls.read_into(self._handle, buffer, start, end, peek)
        if result < 0:
            raise self._error(result, "read")
        return result

    def read(self, max_bytes: int = 65536, *, peek: bool = False) -> bytes:
        """Reads what is there now: like :meth:`read_into`, but makes the ``bytes``.

        :param max_bytes: how many bytes at the most.
        :param peek: leave the bytes in the stream.
        :returns: what is there, at most ``max_bytes``. Empty if nothing is there now; ask :meth:`end_of_data` whether
            more will come.
        :raises ValueError: if ``max_bytes`` is negative.
        :raises SocketError: once all has been read from a connection that was severed (``ECONNRESET``), and from one
            that could not be established.
        """
        size = index(max_bytes)
        if size < 0:
            raise ValueError(f"max_bytes can't be negative: {size}")
        if size == 0:
            self._check_open("read")
            return b""
        result = calls.read(self._handle, size, peek)
        if isinstance(result, int):
            raise self._error(result, "read")
        return result

    def write(self, data: Buffer, start: int = 0, end: int | None = None) -> int:
        """Hands bytes to the system. (``write-to-stream``.)

        :param data: any contiguous buffer: ``bytes``, ``bytearray``, ``memoryview``, ``array``, a NumPy array.
        :param start: where in it to begin, in bytes.
        :param end: where to stop, in bytes; ``None`` for its end.
        :returns: how many bytes the system took, 0 to ``end - start``; 0 if it has no room now, the connection is not
            established yet, or the stream still keeps the rest of a message. What was not taken is the caller's to
            write again: wait for ``WRITE_SPACE`` and ``CONNECTION_SEVERED``, for both. (``READY_TO_WRITE`` does not
            hold once the remote end has finished sending, though it may still read.)
        :raises TypeError: for any other object.
        :raises ValueError: if ``start`` and ``end`` are not in the buffer or crossed; nothing has been written then.
        :raises SocketError: if the connection is severed or could not be established, and after
            :meth:`finish_writing` (``EPIPE``). There is no ``SIGPIPE``.
        """
        result = calls.write(self._handle, data, start, end)
        if result < 0:
            raise self._error(result, "write")
        return result

    def finish_writing(self) -> None:
        """No more bytes follow: the half-close (``shutdown(2)``). Again, it does nothing.

        The remote end reads to the end of what was written, and can still answer. If the stream keeps the rest of a
        message, it finishes when that has gone.

        :raises SocketError: if the connection is not established, or severed.
        :raises UnsupportedOperationError: for named pipes on Windows, which can't.
        """
        result = calls.finish_writing(self._handle)
        if result < 0:
            if results.status_of(result) == declarations.ERROR_UNSUPPORTED:
                raise UnsupportedOperationError(
                    f"the {self!r} can't be half-closed on this system: let what is written say where it ends, or close"
                )
            raise self._error(result, "finish writing")

    def read_exactly(self, size: int, timeout: float | None = None) -> bytes:
        """Reads a number of bytes, and waits until all of them have come.

        :param size: how many bytes, 0 or more.
        :param timeout: seconds for all of them; ``None`` waits for ever, 0 not at all.
        :returns: ``size`` bytes, never fewer.
        :raises ValueError: if ``size`` is negative, and for a timeout that is negative or NaN; nothing has been read
            then.
        :raises TimeoutError: when the time is up; what was read until then is its ``partial``.
        :raises EndOfStreamError: when the remote end goes first; it has ``partial`` too.
        :raises MemoryError: where there is no memory; what was read until then is its ``chunks``, a list of ``bytes``.
        :raises SocketError: if the connection could not be established, or the system refuses, for want of memory for
            example. Then it has ``partial`` too, if anything had been read.
        """
        size = index(size)
        if size < 0:
            raise ValueError(f"size can't be negative: {size}")
        # Also for its errors.
        deadline = Deadline(timeout)
        self._check_open("read")
        return self._read_until(size, b"", deadline) if size else b""

    def _read_on(self, size: int, result: bytes | int, timeout: float | None) -> bytes:
        """Goes on with a read_exactly that began with this result."""
        return self._read_until(index(size), result, Deadline(timeout))

    def _read_until(self, size: int, result: bytes | int, deadline: Deadline) -> bytes:
        chunks: list[bytes] = []
        try:
            return self._read_chunks(size, result, deadline, chunks)
        except MemoryError as error:
            # There may be none to join them.
            error.__dict__["chunks"] = chunks
            raise

    def _read_chunks(self, size: int, result: bytes | int, deadline: Deadline, chunks: list[bytes]) -> bytes:
        missing = size
        while True:
            if not isinstance(result, int):
                chunks.append(result)
                missing -= len(result)
                if not missing:
                    return b"".join(chunks)
            elif result < 0:
                raise self._not_read(result, size, b"".join(chunks))
            # Memory for what comes, not for what a peer may only have announced.
            result = wait(deadline, calls.read_exactly, self._handle, min(missing, _CHUNK_MAX))
            if not result and deadline.passed():
                partial = b"".join(chunks)
                raise self._time_is_up(f"read {len(partial)} of {size} bytes from", partial=partial)

    def write_all(self, data: Buffer, timeout: float | None = None) -> None:
        """Writes all of a buffer, and waits for room. Also while the connection is being established.

        :param data: any contiguous buffer, as for :meth:`write`.
        :param timeout: seconds for all of it; ``None`` waits for ever, 0 not at all.
        :raises TypeError: for any other object; nothing has been written then.
        :raises ValueError: for a timeout that is negative or NaN; nothing has been written then.
        :raises TimeoutError: when the time is up; how many bytes were written until then is its ``bytes_written``.
        :raises EndOfStreamError: when the remote end goes first; it has ``bytes_written`` too.
        :raises SocketError: if the connection could not be established, after :meth:`finish_writing` (``EPIPE``), and
            if the system refuses. It has ``bytes_written`` too, if anything had been written.
        """
        deadline = Deadline(timeout)
        self._check_open("write")
        # So that it keeps its size meanwhile.
        view = buffers.view_of(data, "write_all() needs a contiguous buffer of bytes, such as bytes")
        try:
            # By ctypes, what can only be read costs more than bytes themselves, and on PyPy a copy each time.
            self._write_until(data if type(data) is bytes else view, view.nbytes, 0, deadline)
        finally:
            buffers.let_go(view)

    def _write_on(self, data: memoryview, result: int, timeout: float | None) -> None:
        """Goes on with a write_all that began with this result.

        The data is a view that the caller releases. No other is made of it: a signal's handler may raise at any moment,
        and what it then leaves in a traceback would outlive the memory.
        """
        self._write_until(data, data.nbytes, result, Deadline(timeout))

    def _write_until(self, source: Buffer, size: int, result: int, deadline: Deadline) -> None:
        count = 0
        while True:
            if result < 0:
                raise self._not_written(result, count, size)
            count += result
            if count == size:
                return
            result = wait(deadline, calls.write_all, self._handle, source, count)
            if not result and deadline.passed():
                raise self._time_is_up(f"wrote {count} of {size} bytes to", bytes_written=count)

    # These make their errors in a frame that ends, so that no error refers to a frame that refers to the error:
    # such a cycle would keep the socket until it is collected.

    def _not_read(self, failure: int, size: int, partial: bytes) -> Exception:
        if results.status_of(failure) == declarations.ERROR_END_OF_DATA:
            return self._end_of_stream(len(partial), size, partial=partial)
        error = self._error(failure, "read")
        if not self._remote_went(error):
            if partial:
                error.__dict__["partial"] = partial
            return error
        ended = self._end_of_stream(len(partial), size, partial=partial)
        ended.__cause__ = error
        return ended

    def _not_written(self, failure: int, count: int, size: int) -> Exception:
        error = self._error(failure, "write")
        # EPIPE after our own finish_writing() is no news of the remote end.
        if not self._remote_went(error) or not self.remote_disconnected():
            if count:
                error.__dict__["bytes_written"] = count
            return error
        ended = self._end_of_stream(count, size, bytes_written=count)
        ended.__cause__ = error
        return ended

    def _remote_went(self, error: Exception) -> bool:
        """Whether the error says that the remote end of an established connection has gone."""
        return isinstance(error, SocketError) and error.errno in _REMOTE_WENT and self._was_established()

    def _end_of_stream(self, count: int, size: int, **done: Any) -> EndOfStreamError:
        error = EndOfStreamError(f"the remote end of the {self!r} went after {count} of {size} bytes")
        error.__dict__.update(done)
        return error

    def _time_is_up(self, what: str, **done: Any) -> TimeoutError:
        error = TimeoutError(errno.ETIMEDOUT, f"{what} the {self!r} before the time was up")
        error.__dict__.update(done)
        return error

    def _was_established(self) -> bool:
        result, _ = calls.connection_error(self._handle)
        return result != results.CONNECTION_NOT_ESTABLISHED


calls.give_methods(StreamSocket)


def write_many(items: Iterable[tuple[Socket, Buffer]]) -> list[tuple[int, int | Exception]]:
    """Hands bytes of many streams to the system, in one call: a batch, the fastest way to serve many.

    What a loop of :meth:`StreamSocket.write` does, but a stream that fails does not stop the others::

        for place, written in bbipc.write_many(items):
            stream, data = items[place]  # of which `written` bytes were written, or none because of an error

    :param items: pairs of a stream and its data, any contiguous buffer. A stream may come more than once: its data keep
        their order. Their type is that of what :meth:`Poller.receive` returns, where every stream is a ``Socket``.
    :returns: the items that were not written wholly, in their order; mostly none. Each is a pair: its place in
        ``items``, from 0 on, and how many bytes the system took, or the error that ``write`` would have raised. The
        rest of an item is the caller's to write again, before what follows: a stream that did not take all of one takes
        nothing more in this call, and what is behind an error has the same error.
    :raises TypeError: for an item that is not a pair of a stream and a contiguous buffer, a server among them; nothing
        has been written then.
    :raises ValueError: for a buffer that was released, a ``memoryview``; nothing has been written then.
    """
    # A copy, for another thread may change theirs before the errors are made.
    listed = list(items)
    unfinished = calls.write_many(listed, StreamSocket)
    return [(place, taken if taken >= 0 else listed[place][0]._error(taken, "write")) for place, taken in unfinished]


def send_messages(items: Iterable[tuple[Socket, Buffer]]) -> list[tuple[int, Exception]]:
    """Sends messages on many streams, in one call and without waiting.

    What a loop of ``send_message(data, timeout=0)`` does, but small messages of one stream leave together, and a stream
    that fails does not stop the others::

        for place, error in bbipc.send_messages(items):
            stream, message = items[place]  # was not taken

    :param items: pairs of a stream and a message, any contiguous buffer. A stream may come more than once: its messages
        keep their order.
    :returns: the messages that were not taken, in their order; mostly none. Each is a pair: its place in ``items``,
        from 0 on, and the error that ``send_message`` would have raised: a :class:`TimeoutError` if there was no room.
        All others were taken whole: of one for each stream, the stream may keep the rest, as after ``send_message``.
        Behind a message that was not taken, none is taken of the same stream.
    :raises TypeError: for an item that is not a pair of a stream and a contiguous buffer, a server among them; nothing
        has been sent then.
    """
    # A copy, for another thread may change theirs before the errors are made.
    listed: list[Any] = list(items)
    if not listed:
        return []
    untaken = calls.send_messages_to_many(listed, StreamSocket)
    return [(place, _unsent_error(listed[place], outcome)) for place, outcome in untaken]


def _unsent_error(item: tuple[StreamSocket, Buffer], outcome: int) -> Exception:
    stream, message = item
    return stream._unsent_error(outcome, 0, memoryview(message).nbytes)
