"""What the native layer needs of the classes, whichever way it is called: all that it knows of them.

Type checkers compare the classes with this where they are handed over; while a program runs, nobody imports it. What
native/cpython/ takes of objects by their names is in here, as a test makes sure.

Built-in methods take the places of those in Python, which stay in the class: with ``by_cpython.IN_PYTHON`` in front of
their names, by which the built-in ones call them for unusual arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, Protocol, TypeVar

from typing_extensions import Buffer


class NativeEvents(Protocol):
    """A set of events."""

    @property
    def data_available(self) -> bool: ...
    @property
    def message_available(self) -> bool: ...


class NativeSocket(Protocol):
    """What owns a handle."""

    _handle: int


class NativeOwner(NativeSocket, Protocol):
    """What is made together with a handle. It has both attributes from then on, and none of them before."""

    _closed: bool


EventsT = TypeVar("EventsT", bound=NativeEvents)
OwnerT = TypeVar("OwnerT", bound=NativeOwner)
SocketT = TypeVar("SocketT", bound=NativeSocket)


class NativeStream(NativeSocket, Protocol):
    """What built-in methods of streams need, and which there are."""

    def read(self, max_bytes: int = ..., *, peek: bool = ...) -> bytes: ...
    def read_exactly(self, size: int, timeout: float | None = ...) -> bytes: ...
    def read_into(self, buffer: Buffer, start: int = ..., end: int | None = ..., *, peek: bool = ...) -> int: ...
    def receive_message(self, timeout: float | None = ...) -> bytes: ...
    def send_message(self, data: Buffer, timeout: float | None = ...) -> None: ...
    def write(self, data: Buffer, start: int = ..., end: int | None = ...) -> int: ...
    def write_all(self, data: Buffer, timeout: float | None = ...) -> None: ...

    def _raise(self, failure: int, action: str) -> NoReturn:
        """Raises what a failure means. The action completes "cannot ..."."""

    def _read_on(self, size: int, result: bytes | int, timeout: float | None) -> bytes:
        """Goes on with a read_exactly that began with this result, and has these seconds left."""

    def _receive_on(self, result: int, timeout: float | None) -> bytes:
        """Goes on with a receive_message that began with this result, and has these seconds left."""

    def _raise_unsent(self, failure: int, accepted: int, size: int) -> NoReturn:
        """Raises why a message of this size was not sent: a failure, or 0 when the time is up."""

    def _write_on(self, data: memoryview, result: int, timeout: float | None) -> None:
        """Goes on with a write_all that began with this result, and has these seconds left.

        The data is a view that the caller releases.
        """


class NativePoller(NativeSocket, Protocol):
    """What built-in methods of pollers need, and which there are."""

    @property
    def _sockets(self) -> Mapping[int, Any]:
        """What is reported, by the handles."""

    @property
    def _sets(self) -> Mapping[int, Any]:
        """The sets of events, by their numbers."""

    def wait_for_events(self, timeout: float | None = ...) -> list[Any]: ...
    def receive(self, timeout: float | None = ..., max_bytes: int = ...) -> list[Any]: ...

    def _wait_for_events_on(self, place: int, timeout: float | None) -> list[Any]:
        """Goes on with a wait_for_events that has come to this place, and has these seconds left."""

    def _receive_on(self, place: int, timeout: float | None, max_bytes: int = ...) -> list[Any]:
        """Goes on with a receive that has come to this place, and has these seconds left."""
