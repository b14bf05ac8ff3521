"""Messages: bytes with their size before them, on any stream."""

from __future__ import annotations

from operator import index

from ._native import buffers, calls, declarations, results
from ._native.waiting import Deadline, wait
from .errors import EndOfStreamError, MessageTooLargeError, SocketError, TimeoutError
from .events import Events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, NoReturn

    from typing_extensions import Buffer

_MESSAGE_AVAILABLE = int(Events.MESSAGE_AVAILABLE)
_MESSAGE_SPACE = int(Events.MESSAGE_SPACE)
_SIZE_MAX = 2**63 - 1
_HEADER_MAX = 12


class MessageMethods:
    """What streams do with messages."""

    __slots__ = ()

    if TYPE_CHECKING:
        # Of StreamSocket.
        _handle: int

        def read(self, max_bytes: int = ..., *, peek: bool = ...) -> bytes: ...  # noqa: D102
        def connection_error(self) -> SocketError | None: ...  # noqa: D102
        def remote_disconnected(self) -> bool: ...  # noqa: D102
        def _check_open(self, action: str) -> None: ...
        def _error(self, failure: int, action: str) -> Exception: ...
        def _holds(self, event: int) -> bool: ...
        def _remote_went(self, error: Exception) -> bool: ...
        def _time_is_up(self, what: str, **done: Any) -> TimeoutError: ...

    @property
    def max_message_size(self) -> int:
        """How many bytes a message may have, in either direction: 16 MiB (16,777,216) at first.

        It can be set. Memory is taken for what has come of a message, not for what is announced.

        :raises ValueError: for a negative bound, and for one of 2**63 or more.
        """
        result: int = calls.max_message_size(self._handle)
        if result < 0:
            raise self._error(result, "tell the bound of messages")
        return result

    @max_message_size.setter
    def max_message_size(self, size: int) -> None:
        size = index(size)
        if not 0 <= size <= _SIZE_MAX:
            raise ValueError(f"max_message_size must be 0 to 2**63 - 1, not {size}")
        result = calls.set_max_message_size(self._handle, size)
        if result < 0:
            raise self._error(result, "set the bound of messages")

    def message_available(self) -> bool:
        """Whether :meth:`receive_message` would return or raise at once.

        Not at an end between two messages: that is :meth:`end_of_data`.
        """
        return self._holds(_MESSAGE_AVAILABLE)

    def message_space(self) -> bool:
        """Whether ``send_message(data, timeout=0)`` would take a message.

        Nothing of an earlier one is left then, and a write would take at least one byte.
        """
        return self._holds(_MESSAGE_SPACE)

    # ---- Sending ----

    def send_message(self, data: Buffer, timeout: float | None = None) -> None:
        """Sends bytes as a message: the remote end receives all of them together, or nothing.

        The form is that of ``multiprocessing.connection``, whose ``recv_bytes()`` may be at the remote end.

        :param data: any contiguous buffer: ``bytes``, ``bytearray``, ``memoryview``, ``array``, a NumPy array.
        :param timeout: seconds until all of it has gone to the system; ``None`` waits for ever, 0 not at all.
        :raises TypeError: for any other object; nothing has been sent then.
        :raises ValueError: for a timeout that is negative or NaN; nothing has been sent then.
        :raises MessageTooLargeError: if it is longer than :attr:`max_message_size`; nothing has been sent then.
        :raises TimeoutError: when the time is up. If its ``accepted`` is 1, the stream keeps the rest of the message,
            which must not be sent again: the rest goes out in the next wait for the stream, or of a poller that has it,
            or by :meth:`drain`. If it is 0, nothing was taken, because there was no room, or because the rest of an
            earlier message is left.
        :raises EndOfStreamError: when the remote end goes first. The message may have arrived, or not.
        :raises SocketError: if the connection could not be established, after ``finish_writing()`` (``EPIPE``), and if
            the system refuses.
        """
        deadline = Deadline(timeout)
        self._check_open("send a message")
        # So that it keeps its size meanwhile.
        view = buffers.view_of(data, "send_message() needs a contiguous buffer of bytes, such as bytes")
        try:
            self._send_until([data if type(data) is bytes else view], deadline)
        finally:
            buffers.let_go(view)

    def send_messages(self, messages: Iterable[Buffer], timeout: float | None = None) -> None:
        """Sends many messages in one call: small ones together, in as few system calls as the system's buffer allows.

        :param messages: any contiguous buffers, each a message.
        :param timeout: seconds until all have gone to the system; ``None`` waits for ever, 0 not at all.
        :raises TypeError: for any other object among them; nothing has been sent then.
        :raises MessageTooLargeError: if one is longer than :attr:`max_message_size`; nothing has been sent then.
        :raises TimeoutError: when the time is up; how many were taken until then is its ``accepted``. They must not be
            sent again: what is left of the last goes out by itself, as by :meth:`send_message`.
        :raises EndOfStreamError: when the remote end goes first; it has ``accepted`` too.
        :raises SocketError: as :meth:`send_message`, with ``accepted`` too, if any had been taken.
        """
        deadline = Deadline(timeout)
        self._check_open("send messages")
        # A copy, for another thread may change theirs.
        listed = list(messages)
        if type(messages) in (bytes, bytearray, memoryview):
            raise TypeError("send_messages() needs several messages, in a list for example; for one: send_message()")
        for place, data in enumerate(listed):
            if type(data) is not bytes:
                what = f"messages[{place}] of send_messages() must be a contiguous buffer of bytes, such as bytes"
                listed[place] = buffers.view_of(data, what).tobytes()
        if listed:
            self._send_until(listed, deadline)

    def _raise_unsent(self, failure: int, accepted: int, size: int) -> NoReturn:
        """Raises why a message of this size was not sent: a failure, or 0 when the time is up."""
        raise self._unsent_error(failure, accepted, size)

    def _unsent_error(self, failure: int, accepted: int, size: int) -> Exception:
        return self._not_sent(failure, accepted, size) if failure else self._not_in_time(accepted, 1)

    def _send_until(self, messages: list[Any], deadline: Deadline) -> None:
        accepted = 0
        is_rest_left = 0
        while accepted < len(messages):
            result = wait(deadline, calls.send_messages, self._handle, messages, accepted)
            if result < 0:
                raise self._not_sent(result, accepted, max(memoryview(data).nbytes for data in messages))
            accepted += result >> 1
            is_rest_left = result & 1
            if not result and deadline.passed():
                raise self._not_in_time(accepted, len(messages))
        if is_rest_left and not self._drains(accepted, deadline):
            raise self._not_in_time(accepted, len(messages))

    def _not_in_time(self, accepted: int, count: int) -> TimeoutError:
        if count == 1 and accepted:
            what = "a message, whose rest goes out by itself and must not be sent again, was not sent wholly on"
        elif count == 1:
            what = "a message was not sent on"
        else:
            what = f"{accepted} of {count} messages, which must not be sent again, were taken by"
        return self._time_is_up(what, accepted=accepted)

    def _drains(self, accepted: int, deadline: Deadline) -> bool:
        """Whether the rest of the last message goes in time."""
        while True:
            result = wait(deadline, calls.drain, self._handle)
            if result < 0:
                raise self._not_sent(result, accepted, 0)
            if result or deadline.passed():
                return bool(result)

    def drain(self, timeout: float | None = None) -> None:
        """Waits until the rest of a message that the stream keeps has gone to the system. Mostly there is none.

        :param timeout: seconds; ``None`` waits for ever, 0 not at all.
        :raises TimeoutError: when the time is up.
        :raises EndOfStreamError: when the remote end goes first.
        :raises SocketError: if the system refuses.
        """
        deadline = Deadline(timeout)
        self._check_open("drain")
        if not self._drains(0, deadline):
            raise self._time_is_up(f"{self.unsent()} bytes of a message had not gone to")

    def unsent(self) -> int:
        """How many bytes of a message the stream keeps, after it has tried to send them. See :meth:`drain`."""
        result: int = calls.unsent(self._handle)
        if result < 0:
            raise self._error(result, "tell what is unsent")
        return result

    def _not_sent(self, failure: int, accepted: int, size: int) -> Exception:
        """The error for a failure, and the size of the longest message."""
        if results.status_of(failure) == declarations.ERROR_MESSAGE_TOO_LARGE:
            return self._too_large_to_send(size)
        error = self._error(failure, "send a message")
        # EPIPE after our own finish_writing() is no news of the remote end.
        if self._remote_went(error) and self.remote_disconnected():
            ended = EndOfStreamError(f"the remote end of the {self!r} went before all was sent")
            ended.__cause__ = error
            error = ended
        if accepted:
            error.__dict__["accepted"] = accepted
        return error

    def _too_large_to_send(self, size: int) -> MessageTooLargeError:
        if size <= self.max_message_size:
            return MessageTooLargeError(
                f"a message of {size} bytes was not sent on the {self!r}: one before it is longer than max_message_size"
            )
        return MessageTooLargeError(
            f"a message of {size} bytes is longer than the max_message_size of the {self!r}, {self.max_message_size};"
            " nothing has been sent"
        )

    # ---- Receiving ----

    def receive_message(self, timeout: float | None = None) -> bytes:
        """Receives a message, and waits until all of it has come.

        The form is that of ``multiprocessing.connection``, whose ``send_bytes()`` may be at the remote end.

        :param timeout: seconds; ``None`` waits for ever, 0 not at all.
        :raises ValueError: for a timeout that is negative or NaN.
        :raises TimeoutError: when the time is up. Nothing is lost: what has come of a message stays in the stream.
        :raises EndOfStreamError: at the end. Its ``partial`` is empty if that is between two messages; else it is what
            has come of the last one, with its header, and is read by that.
        :raises MessageTooLargeError: if the message is longer than :attr:`max_message_size`. It stays unread.
        :raises SocketError: if the connection could not be established, or the system refuses.
        """
        deadline = Deadline(timeout)
        self._check_open("receive a message")
        return self._receive_until(0, deadline)

    def _receive_on(self, result: int, timeout: float | None) -> bytes:
        """Goes on with a receive_message that began with this result."""
        return self._receive_until(result, Deadline(timeout))

    def _receive_until(self, result: list[bytes] | int, deadline: Deadline) -> bytes:
        while True:
            if not isinstance(result, int):
                return result[0]
            if result < 0:
                raise self._not_received(result, "receive a message")
            result = wait(deadline, calls.receive_message, self._handle)
            if not result and deadline.passed():
                raise self._time_is_up("received no whole message from")

    def receive_messages(self, max_messages: int | None = None) -> list[bytes]:
        """Receives the messages that are there now, without waiting.

        Wait for ``MESSAGE_AVAILABLE`` and ``END_OF_DATA`` before.

        :param max_messages: how many at the most. ``None`` sets no number.
        :returns: the messages, at least one if one is whole. It may leave others for the next call, so that one stream
            does not fill the memory. An empty list if none is whole, and at an end between two messages
            (:meth:`end_of_data` tells).
        :raises ValueError: if ``max_messages`` is not positive.
        :raises EndOfStreamError: if the end came in the middle of a message, and there is none before it; see
            :meth:`receive_message`.
        :raises MessageTooLargeError: if the next message is longer than :attr:`max_message_size`. It stays unread.
        :raises SocketError: once all has been received from a connection that was severed, and from one that could not
            be established.
        """
        count = 0 if max_messages is None else index(max_messages)
        if count < 0 or (count == 0 and max_messages is not None):
            raise ValueError(f"max_messages must be positive: {count}")
        result = calls.receive_messages(self._handle, count)
        if not isinstance(result, int):
            return result
        if results.status_of(result) == declarations.ERROR_END_OF_DATA:
            return []
        raise self._not_received(result, "receive messages")

    def messages(self, timeout: float | None = None) -> Iterator[bytes]:
        """Iterates over the messages that come, until the remote end has closed or finished writing.

        :param timeout: seconds for each message; ``None`` waits for ever.
        :raises TimeoutError: when no message has come in time; then a new iterator goes on.
        :raises EndOfStreamError: if the end comes in the middle of a message, or because the connection was severed
            (then it has a ``__cause__``).
        :raises MessageTooLargeError: as :meth:`receive_message`.
        :raises SocketError: as :meth:`receive_message`.
        """
        while True:
            try:
                message = self.receive_message(timeout)
            except EndOfStreamError as error:
                if error.partial or error.__cause__ is not None:
                    raise
                return
            yield message

    def read_until(self, delimiter: Buffer, timeout: float | None = None, max_bytes: int = 65536) -> bytes:
        """Reads up to and with a delimiter, the end of a line for example, and waits until it has come.

        :param delimiter: one byte or more.
        :param timeout: seconds; ``None`` waits for ever, 0 not at all.
        :param max_bytes: how many bytes are read at the most, with the delimiter.
        :raises ValueError: if ``delimiter`` is empty, or longer than ``max_bytes``.
        :raises TimeoutError: when the time is up. Nothing is lost: what has come stays in the stream.
        :raises EndOfStreamError: at the end; what came before it is its ``partial``, and is read by that.
        :raises MessageTooLargeError: if the delimiter is not among the first ``max_bytes`` bytes. They stay unread.
        :raises SocketError: if the connection could not be established, or the system refuses.
        """
        what = "the delimiter must be a contiguous buffer of bytes, such as b'\\n'"
        wanted = buffers.view_of(delimiter, what).tobytes()
        size = index(max_bytes)
        if not 0 < len(wanted) <= size:
            raise ValueError(f"the delimiter must have 1 to max_bytes={size} bytes, not {len(wanted)}")
        deadline = Deadline(timeout)
        self._check_open("read")
        while True:
            result = wait(deadline, calls.read_until, self._handle, wanted, size)
            if not isinstance(result, int):
                return result
            if results.status_of(result) == declarations.ERROR_MESSAGE_TOO_LARGE and result < 0:
                raise MessageTooLargeError(f"{wanted!r} is not among the first {size} bytes of the {self!r}")
            if result < 0:
                raise self._not_received(result, "read")
            if deadline.passed():
                raise self._time_is_up(f"{wanted!r} did not come from")

    def _not_received(self, failure: int, action: str) -> Exception:
        status = results.status_of(failure)
        if status == declarations.ERROR_MESSAGE_TOO_LARGE:
            return self._too_large_to_receive()
        if status == declarations.ERROR_MESSAGE_CUT:
            partial, cause = self._read_rest()
            cause = cause or self.connection_error()
            ended = EndOfStreamError(
                f"the remote end of the {self!r} went in the middle: {len(partial)} bytes had come"
            )
            ended.__dict__["partial"] = partial
            ended.__cause__ = cause
            return ended
        if status == declarations.ERROR_END_OF_DATA:
            return EndOfStreamError(f"the remote end of the {self!r} has finished")
        error = self._error(failure, action)
        if not self._remote_went(error):
            return error
        ended = EndOfStreamError(f"the remote end of the {self!r} has gone")
        ended.__cause__ = error
        return ended

    def _read_rest(self) -> tuple[bytes, SocketError | None]:
        """What is there, and what fails then."""
        chunks: list[bytes] = []
        try:
            while True:
                chunk = self.read()
                if not chunk:
                    return b"".join(chunks), None
                chunks.append(chunk)
        except SocketError as error:
            return b"".join(chunks), error

    def _too_large_to_receive(self) -> MessageTooLargeError:
        header = self.read(_HEADER_MAX, peek=True)
        size = int.from_bytes(header[:4], "big", signed=True)
        if size == -1 and len(header) == _HEADER_MAX:
            size = int.from_bytes(header[4:], "big")
        if size < 0:
            return MessageTooLargeError(
                f"the remote end of the {self!r} sends no messages: none begins with {bytes(header[:4])!r}"
            )
        return MessageTooLargeError(
            f"the remote end of the {self!r} announced a message of {size} bytes, or sends no messages: it began with"
            f" {bytes(header[:4])!r}; the stream's max_message_size is {self.max_message_size}"
        )
