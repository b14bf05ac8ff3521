"""The set of events that sockets can have."""

from __future__ import annotations

from operator import index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, ClassVar, NoReturn

_NAMES = (
    "CONNECTION_AVAILABLE",
    "DETERMINED",
    "CONNECTION_SUCCEEDED",
    "CONNECTION_FAILED",
    "DATA_AVAILABLE",
    "READY_TO_WRITE",
    "REMOTE_DISCONNECTED",
    "END_OF_DATA",
    "WRITE_SPACE",
    "CONNECTION_SEVERED",
    "MESSAGE_AVAILABLE",
    "MESSAGE_SPACE",
)


_ALL = (1 << len(_NAMES)) - 1


class Events:
    """A set of events.

    Its members combine with ``|``, ``&``, ``-``, ``^`` and ``~``; ``a in b`` tells whether ``b`` has every event of
    ``a``; the empty set is false. Each event also is a boolean attribute in lower case, the fastest way to ask for it::

        if events.data_available: ...

    ``Events(number)`` makes a set of its ``int``; the numbers are those of the C interface. Equal sets are one object.

    :raises ValueError: for a number that has bits of no event.

    =========================  ======================================================================================
    member                     holds when
    =========================  ======================================================================================
    ``CONNECTION_AVAILABLE``   ``accept_connection()`` would return a stream (servers only; the others: streams only)
    ``DETERMINED``             the attempt to connect has ended, either way; for ever after
    ``CONNECTION_SUCCEEDED``   the connection stands: established, not failed, and the remote end not gone
    ``CONNECTION_FAILED``      it could not be established, or the remote end is gone
    ``DATA_AVAILABLE``         at least one byte can be read now, also after the remote end has gone
    ``READY_TO_WRITE``         established, remote end not gone, and a write would take at least one byte
    ``REMOTE_DISCONNECTED``    the remote end has closed or finished sending, or the connection is severed
    ``END_OF_DATA``            every byte has been read and no more will come
    ``WRITE_SPACE``            a write would take at least one byte, also when the remote end has finished sending
    ``CONNECTION_SEVERED``     nothing travels any more, in either direction: reset, finished at both ends, or refused
    ``MESSAGE_AVAILABLE``      ``receive_message()`` would return or raise at once; not at an end between two messages
    ``MESSAGE_SPACE``          ``send_message(data, timeout=0)`` would take a message: nothing of an earlier one is left
    =========================  ======================================================================================

    In the original system: ``connection-available-p``, ``determinedp``, ``connection-succeeded-p``,
    ``connection-failed-p``, ``data-available-p``, ``ready-to-write-p`` and ``remote-disconnected-p``; the others
    are our own. A wait for ``WRITE_SPACE`` has to ask for ``CONNECTION_SEVERED`` too, to learn that there will be no
    room.
    """

    # Not enum.IntFlag: there a single test costs 0.5 to 1 microseconds (CPython 3.11 to 3.13). Every set is made once,
    # so a result is looked up and a test reads an attribute.
    __slots__ = ("_bits", *(name.lower() for name in _NAMES))

    CONNECTION_AVAILABLE: ClassVar[Events]
    DETERMINED: ClassVar[Events]
    CONNECTION_SUCCEEDED: ClassVar[Events]
    CONNECTION_FAILED: ClassVar[Events]
    DATA_AVAILABLE: ClassVar[Events]
    READY_TO_WRITE: ClassVar[Events]
    REMOTE_DISCONNECTED: ClassVar[Events]
    END_OF_DATA: ClassVar[Events]
    WRITE_SPACE: ClassVar[Events]
    CONNECTION_SEVERED: ClassVar[Events]
    MESSAGE_AVAILABLE: ClassVar[Events]
    MESSAGE_SPACE: ClassVar[Events]

    if TYPE_CHECKING:
        _bits: int

        @property
        def connection_available(self) -> bool: ...
        @property
        def determined(self) -> bool: ...
        @property
        def connection_succeeded(self) -> bool: ...
        @property
        def connection_failed(self) -> bool: ...
        @property
        def data_available(self) -> bool: ...
        @property
        def ready_to_write(self) -> bool: ...
        @property
        def remote_disconnected(self) -> bool: ...
        @property
        def end_of_data(self) -> bool: ...
        @property
        def write_space(self) -> bool: ...
        @property
        def connection_severed(self) -> bool: ...
        @property
        def message_available(self) -> bool: ...
        @property
        def message_space(self) -> bool: ...

    def __new__(cls, value: int | Events = 0) -> Events:
        if isinstance(value, Events):
            return value
        number = index(value)
        if not 0 <= number <= _ALL:
            raise ValueError(f"{number} is not a set of events: it must be 0 to {_ALL}")
        return SETS[number]

    def __init_subclass__(cls) -> None:
        raise TypeError("Events can't be subclassed: its sets are made once")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a set of events can't be changed: combine sets with |, & and -")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a set of events can't be changed: combine sets with |, & and -")

    def __or__(self, other: Events) -> Events:
        return SETS[self._bits | other._bits] if isinstance(other, Events) else NotImplemented

    def __and__(self, other: Events) -> Events:
        return SETS[self._bits & other._bits] if isinstance(other, Events) else NotImplemented

    def __sub__(self, other: Events) -> Events:
        return SETS[self._bits & ~other._bits] if isinstance(other, Events) else NotImplemented

    def __xor__(self, other: Events) -> Events:
        return SETS[self._bits ^ other._bits] if isinstance(other, Events) else NotImplemented

    def __invert__(self) -> Events:
        return SETS[self._bits ^ _ALL]

    def __contains__(self, other: Any) -> bool:
        if not isinstance(other, Events):
            raise TypeError(f"a set of events contains Events, not {type(other).__name__}")
        return self._bits & other._bits == other._bits

    def __bool__(self) -> bool:
        return self._bits != 0

    def __int__(self) -> int:
        return self._bits

    __index__ = __int__

    def __len__(self) -> int:
        return bin(self._bits).count("1")

    def __iter__(self) -> Iterator[Events]:
        """The single events of the set, in the order of their numbers."""
        return (SETS[1 << position] for position in range(len(_NAMES)) if self._bits >> position & 1)

    # Equal sets are the same object, so the inherited __eq__ and __hash__ are right.

    def __reduce__(self) -> tuple[type[Events], tuple[int]]:
        return Events, (self._bits,)

    def __repr__(self) -> str:
        if not self._bits:
            return "Events(0)"
        return " | ".join(f"Events.{name}" for position, name in enumerate(_NAMES) if self._bits >> position & 1)

    def __str__(self) -> str:
        if not self._bits:
            return "no events"
        return ", ".join(name for position, name in enumerate(_NAMES) if self._bits >> position & 1)


def _make(bits: int) -> Events:
    events: Events = object.__new__(Events)
    object.__setattr__(events, "_bits", bits)
    for position, name in enumerate(_NAMES):
        object.__setattr__(events, name.lower(), bool(bits >> position & 1))
    return events


class _Sets(dict[int, Events]):
    def __missing__(self, bits: int) -> Events:
        # Two threads may come here at once: they must get the same object.
        return self.setdefault(bits, _make(bits))


#: The sets by their numbers, each made when it is first needed: all of them would cost an import milliseconds.
SETS = _Sets()

for _position, _name in enumerate(_NAMES):
    setattr(Events, _name, SETS[1 << _position])

SERVER_EVENTS = Events.CONNECTION_AVAILABLE
STREAM_EVENTS = ~SERVER_EVENTS
