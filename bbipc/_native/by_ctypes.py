"""The calls of the native library by ctypes: on any Python, and the reference for the built-in functions of CPython.

Those that take nothing but numbers and names are in ``plain_calls``, which is made from the header.

Short calls that can't block keep the GIL. Waits, and copies of more than ``COPY_HOLDING_GIL_MAX`` bytes, release it.
"""

from __future__ import annotations

import ctypes
import sys
from array import array
from ctypes import byref, c_char, c_int32, c_int64, c_uint16, c_uint32, c_uint64, create_string_buffer

from . import declarations
from .buffers import PYPY, checked_range, let_go_on_pypy, memory_of, view_of, with_memory
from .handles import NewHandle
from .plain_calls import *  # noqa: F403 - this has all calls, and the others are those
from .results import LARGER_THAN_ROOM, RECEIVED, owner_of, pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, TypeVar

    from typing_extensions import Buffer

    from .classes import EventsT, NativeStream, OwnerT, SocketT

    ReceivedT = TypeVar("ReceivedT")

#: Bytes. The kernel copies this many in 3 to 10 microseconds (Linux, local and TCP), and the other threads wait for
#: that time. Releasing the GIL costs little where no thread wants it, but a busy thread that gets it keeps it for
#: milliseconds. So all threads gain if it is kept. `python -m tests.benchmarks --only gil` measures both.
COPY_HOLDING_GIL_MAX = 65536

#: How many sockets one call of the library reports at the most; more follow in the next.
_REPORTS_MAX = 1024

# ---- Reading and writing ----


def read_into(handle: int, buffer: Buffer, start: Any, end: Any, peek: bool) -> int:
    if type(buffer) is bytearray and buffer and not PYPY:
        # What most programs use, without the questions that the others need.
        return _read_into(handle, byref(c_char.from_buffer(buffer)), *checked_range(start, end, len(buffer)), peek)
    view = view_of(buffer, "read_into() needs a writable, contiguous buffer, such as a bytearray")
    try:
        if view.readonly:
            raise TypeError(
                f"read_into() needs a writable, contiguous buffer, such as a bytearray; this"
                f" {type(buffer).__name__} is read-only"
            )
        first, last = checked_range(start, end, view.nbytes)
        memory = memory_of(view)
        if memory is not None:
            return _read_into(handle, memory, first, last, peek)
        data = read(handle, last - first, peek)
        if isinstance(data, int):
            return data
        view.cast("B")[first : first + len(data)] = data
        return len(data)
    finally:
        let_go_on_pypy(view)


def _read_into(handle: int, address: Any, start: int, end: int, peek: bool) -> int:
    code = c_int32()
    call = declarations.read if end - start <= COPY_HOLDING_GIL_MAX else declarations.read_much
    result: int = call(handle, address, start, end, declarations.PEEK if peek else 0, byref(code))
    return result if result >= 0 else pack(result, code.value)


def write(handle: int, data: Buffer, start: Any, end: Any) -> int:
    def write_now(address: Any, first: int, last: int) -> int:
        return _write(handle, address, first, last)

    return with_memory(
        data, "write() needs a contiguous buffer of bytes, such as bytes or a memoryview", start, end, write_now
    )


def _write(handle: int, address: Any, start: int, end: int) -> int:
    code = c_int32()
    call = declarations.write if end - start <= COPY_HOLDING_GIL_MAX else declarations.write_much
    result: int = call(handle, address, start, end, byref(code))
    return result if result >= 0 else pack(result, code.value)


#: Buffers between two reads. A list, because no thread and no signal can come in the middle of its append() or pop().
_spare_buffers: list[ctypes.Array[c_char]] = []
_SPARE_BUFFERS_MAX = 8


def _take_buffer() -> ctypes.Array[c_char]:
    """One of COPY_HOLDING_GIL_MAX bytes. What is read into it is to be copied before it is left."""
    try:
        return _spare_buffers.pop()
    except IndexError:
        return create_string_buffer(COPY_HOLDING_GIL_MAX)


def _leave_buffer(buffer: ctypes.Array[c_char]) -> None:
    """To the next call."""
    if len(_spare_buffers) < _SPARE_BUFFERS_MAX:
        _spare_buffers.append(buffer)


#: Bytes. No system's call reads more at once. Windows counts all of a buffer as used, and a 32-bit program may have no
#: room for it; there is hardly ever more to read than this.
_READ_MAX = 2**24 if sys.platform == "win32" or sys.maxsize < 2**32 else 2**31 - 4096


def read(handle: int, size: int, peek: bool) -> bytes | int:
    """Up to ``size`` bytes (1 or more), or a failure."""
    if size > COPY_HOLDING_GIL_MAX:
        return _read_much(handle, size, peek)
    buffer = _take_buffer()
    code = c_int32()
    result: int = declarations.read(handle, buffer, 0, size, declarations.PEEK if peek else 0, byref(code))
    data = ctypes.string_at(buffer, result) if result > 0 else b""
    _leave_buffer(buffer)
    return data if result >= 0 else pack(result, code.value)


def _read_much(handle: int, size: int, peek: bool) -> bytes | int:
    import mmap

    # Fresh pages of the system: only those that are read into cost anything, whatever the size.
    try:
        memory = mmap.mmap(-1, min(size, _READ_MAX))
    except OSError as error:
        raise MemoryError(f"there is no memory for {size} bytes") from error
    result = _read_into(handle, byref(c_char.from_buffer(memory)), 0, len(memory), peek)
    return memory[:result] if result >= 0 else result


# ---- Reading and writing that waits ----


def read_exactly(handle: int, size: int, timeout_ns: int) -> bytes | int:
    """``size`` bytes (1 or more), fewer if they did not come in time, or a failure."""
    buffer = create_string_buffer(size)
    code = c_int32()
    result: int = declarations.read_exactly(handle, buffer, 0, size, timeout_ns, byref(code))
    return ctypes.string_at(buffer, result) if result >= 0 else pack(result, code.value)


def write_all(handle: int, data: Buffer, start: int, timeout_ns: int) -> int:
    """How many bytes were written in time."""

    def write_waiting(address: Any, first: int, last: int) -> int:
        code = c_int32()
        result: int = declarations.write_all(handle, address, first, last, timeout_ns, byref(code))
        return result if result >= 0 else pack(result, code.value)

    return with_memory(
        data, "write_all() needs a contiguous buffer of bytes, such as bytes", start, None, write_waiting
    )


def write_many(items: list[tuple[Any, Buffer]], kind: type[NativeStream]) -> list[tuple[int, int]]:
    """The places of the items that were not taken wholly, with what was taken of each, or its failure.

    A stream that did not take all of its data is given no more. Makes tuples of the items in the list.
    """
    pieces: list[tuple[int, memoryview]] = []
    try:
        return _write_pieces(pieces, items, kind)
    finally:
        for _, view in pieces:
            let_go_on_pypy(view)


def _write_pieces(
    pieces: list[tuple[int, memoryview]], items: list[tuple[Any, Buffer]], kind: type[NativeStream]
) -> list[tuple[int, int]]:
    for stream, data, what in _checked_items(items, kind, "write_many()", "its data", "writes to"):
        pieces.append((stream._handle, view_of(data, what)))
    later: dict[int, int] = {}
    unfinished = []
    for place, (handle, view) in enumerate(pieces):
        taken = later[handle] if handle in later else write(handle, view, 0, None)
        if taken != view.nbytes:
            unfinished.append((place, taken))
            later[handle] = min(taken, 0)
    return unfinished


def _checked_items(
    items: list[tuple[Any, Buffer]], kind: type[NativeStream], name: str, data_name: str, does: str
) -> Iterator[tuple[Any, Buffer, str]]:
    """Each stream, its data, and what the data must be, for the function of this name."""
    for position, item in enumerate(items):
        try:
            stream, data = item
        except (TypeError, ValueError):
            raise TypeError(f"{name} needs pairs of a stream and {data_name}; item {position} is none") from None
        # The caller needs the tuple too: an iterator can't be asked again, and other threads may change a list.
        items[position] = stream, data
        # Not a stand-in, such as a weakref.proxy().
        if not issubclass(type(stream), kind):
            raise TypeError(f"{name} {does} streams; that of item {position} is a {type(stream).__name__}")
        yield stream, data, f"item {position} of {name} needs a contiguous buffer of bytes, such as bytes"


# ---- Messages ----


def send_messages(handle: int, messages: list[Buffer], start: int, timeout_ns: int) -> int:
    """Twice how many of the messages were taken in time, from a place in the list on, and one more if the stream keeps
    the rest of the last; or a failure."""
    if start == len(messages) - 1:
        return _send_one(handle, messages[start], timeout_ns)
    # Their addresses, in an array that keeps them alive.
    listed = [data if type(data) is bytes else bytes(data) for data in messages[start:]]
    if not listed:
        return 0
    pointers = (ctypes.c_char_p * len(listed))(*listed)
    sizes = array("Q", map(len, listed))
    unsent, code = c_uint64(), c_int32()
    count: int = declarations.send_messages(
        handle, pointers, _address(sizes), len(listed), timeout_ns, byref(unsent), byref(code)
    )
    return _sent(count, unsent, code)


def _send_one(handle: int, data: Buffer, timeout_ns: int) -> int:
    def send(address: Any, first: int, last: int) -> int:
        unsent, code = c_uint64(), c_int32()
        count: int = declarations.send_message(handle, address, first, last, timeout_ns, byref(unsent), byref(code))
        return _sent(count, unsent, code)

    return with_memory(data, "a message must be a contiguous buffer of bytes, such as bytes", 0, None, send)


def _sent(count: int, unsent: c_uint64, code: c_int32) -> int:
    if count < 0:
        return pack(count, code.value)
    return 2 * count + (1 if count and unsent.value else 0)


def send_messages_to_many(items: list[tuple[Any, Buffer]], kind: type[NativeStream]) -> list[tuple[int, int]]:
    """The places of the messages that were not taken, with 0 if there was no room, or the failure.

    What comes behind such a message for the same stream is not taken either. Makes tuples of the items in the list.
    """
    places: dict[int, list[int]] = {}
    messages: list[Buffer] = []
    for stream, data, what in _checked_items(items, kind, "send_messages()", "a message", "sends on"):
        places.setdefault(stream._handle, []).append(len(messages))
        messages.append(data if type(data) is bytes else view_of(data, what).tobytes())
    untaken = []
    for handle, its_places in places.items():
        untaken += _send_to_one(handle, its_places, messages)
    return sorted(untaken)


def _send_to_one(handle: int, places: list[int], messages: list[Any]) -> list[tuple[int, int]]:
    size_max: int = declarations.max_message_size(handle)
    if size_max < 0:
        return [(place, pack(size_max, 0)) for place in places]
    sizes = [len(messages[place]) for place in places]
    allowed = next((index for index, size in enumerate(sizes) if size > size_max), len(places))
    sent = send_messages(handle, [messages[place] for place in places[:allowed]], 0, 0) if allowed else 0
    taken = sent >> 1 if sent >= 0 else 0
    outcome = min(sent, 0)
    if taken == allowed < len(places):
        outcome = pack(declarations.ERROR_MESSAGE_TOO_LARGE, 0)
    return [(place, outcome) for place in places[taken:]]


def receive_message(handle: int, timeout_ns: int) -> list[bytes] | int:
    """A list with the message, 0 if none came in time, or a failure."""
    size, code = c_uint64(), c_int32()
    # Room for what a message usually has; a larger one costs a second call.
    usual = buffer = _take_buffer()
    try:
        while True:
            room = len(buffer)
            result: int = declarations.receive_message(handle, buffer, 0, room, byref(size), timeout_ns, byref(code))
            if result == RECEIVED:
                return [ctypes.string_at(buffer, size.value)]
            if result != LARGER_THAN_ROOM:
                return result if result >= 0 else pack(result, code.value)
            # All of it has come.
            buffer = create_string_buffer(size.value)
    finally:
        _leave_buffer(usual)


#: How many messages are asked for at a time, and how many one call receives at the most.
_MESSAGES_SOME = 1024
_MESSAGES_MAX = 1 << 20
#: Bytes of messages, after which one call receives no more: a remote end that never stops must not keep it.
_MESSAGES_ENOUGH = 1 << 18


def receive_messages(handle: int, max_messages: int) -> list[bytes] | int:
    """What is there, of any length if ``max_messages`` is 0, or a failure."""
    buffer = _take_buffer()
    try:
        return _receive_messages_into(buffer, handle, max_messages)
    finally:
        _leave_buffer(buffer)


def _receive_messages_into(buffer: ctypes.Array[c_char], handle: int, max_messages: int) -> list[bytes] | int:
    sizes = array("Q", bytes(8 * _MESSAGES_SOME))
    messages: list[bytes] = []
    limit = max_messages or _MESSAGES_MAX
    received = 0
    while True:
        wanted = min(limit - len(messages), _MESSAGES_SOME)
        code = c_int32()
        count: int = declarations.receive_messages(handle, buffer, len(buffer), _address(sizes), wanted, byref(code))
        if count < 0:
            return messages or pack(count, code.value)
        start = 0
        for size in sizes[:count]:
            messages.append(ctypes.string_at(ctypes.addressof(buffer) + start, size))
            start += size
        if not messages and sizes[0]:
            # It needs more room. Another thread may take it first.
            result = receive_message(handle, 0)
            return (result or []) if not isinstance(result, int) or result >= 0 else result
        received += start
        if count < wanted or len(messages) == limit or received >= _MESSAGES_ENOUGH:
            return messages


def read_until(handle: int, delimiter: bytes, max_bytes: int, timeout_ns: int) -> bytes | int:
    """The bytes up to and with the delimiter, 0 if they did not come in time, or a failure."""
    buffer = create_string_buffer(max_bytes)
    code = c_int32()
    result: int = declarations.read_until(handle, delimiter, len(delimiter), buffer, max_bytes, timeout_ns, byref(code))
    if result > 0:
        return ctypes.string_at(buffer, result)
    return pack(result, code.value) if result < 0 else 0


def drain(handle: int, timeout_ns: int) -> int:
    """1 when nothing of a message is left to be sent, 0 when the time is up, or a failure."""
    code = c_int32()
    result: int = declarations.drain(handle, timeout_ns, byref(code))
    return result if result >= 0 else pack(result, code.value)


# ---- Sockets ----


def connection_error(handle: int) -> tuple[int, int]:
    """The result, and the system's code where that is 1 or 2."""
    code = c_int32()
    result: int = declarations.connection_error(handle, byref(code))
    return (result if result >= 0 else pack(result, code.value)), code.value


def ipv4_address(handle: int, remote: bool) -> tuple[int, int] | int:
    """The host address and the port, or a failure."""
    host, port, code = c_uint32(), c_uint16(), c_int32()
    if remote:
        result: int = declarations.ipv4_remote_address(handle, byref(host), byref(port))
    else:
        result = declarations.ipv4_local_address(handle, byref(host), byref(port), byref(code))
    return (host.value, port.value) if result >= 0 else pack(result, code.value)


def ipv6_address(handle: int, remote: bool) -> tuple[bytes, int, int] | int:
    """The 16 bytes of the host address, the scope id and the port, or a failure."""
    host, scope, port, code = create_string_buffer(16), c_uint32(), c_uint16(), c_int32()
    if remote:
        result: int = declarations.ipv6_remote_address(handle, host, byref(scope), byref(port))
    else:
        result = declarations.ipv6_local_address(handle, host, byref(scope), byref(port), byref(code))
    return (host.raw, scope.value, port.value) if result >= 0 else pack(result, code.value)


def peer_credentials(handle: int) -> tuple[int, int, int, str] | int:
    """The user, the group, the process, each -1 if it is not known; and the text of a security identifier."""
    user, group, process, code = c_int64(), c_int64(), c_int64(), c_int32()
    text = create_string_buffer(declarations.SECURITY_ID_SIZE)
    result: int = declarations.peer_credentials(
        handle, byref(user), byref(group), byref(process), text, len(text), byref(code)
    )
    if result < 0:
        return pack(result, code.value)
    return user.value, group.value, process.value, text.raw[:result].decode("ascii")


def local_pathname(handle: int) -> bytes | int:
    """The pathname of a local socket as the system knows it, empty if there is none; or a failure."""
    # One that Linux takes can fill all of its room.
    room = create_string_buffer(declarations.local_pathname_limit() + 1)
    code = c_int32()
    result: int = declarations.local_pathname(handle, room, len(room), byref(code))
    return room.raw[:result] if result >= 0 else pack(result, code.value)


# ---- From elsewhere, and to there ----


def make_stream_pair(kind: type[OwnerT]) -> tuple[OwnerT, OwnerT] | int:
    """The two ends of a connection, or a failure."""
    other, code = NewHandle(), c_int32()
    made: NewHandle = declarations.make_stream_pair(byref(other), byref(code))
    first = owner_of(made, code, kind)
    if isinstance(first, int):
        return first
    second = owner_of(other, code, kind)
    assert not isinstance(second, int)
    return first, second


def adopt_stream(descriptor: int, kinds: Mapping[int, type[OwnerT]]) -> OwnerT | int:
    """What owns a stream of the descriptor, of the kind for its namespace; or a failure."""
    code = c_int32()
    return _owner_of_its_kind(declarations.adopt_stream(descriptor, byref(code)), code, kinds)


def adopt_server(descriptor: int, kinds: Mapping[int, type[OwnerT]]) -> OwnerT | int:
    """The same for a server."""
    code = c_int32()
    return _owner_of_its_kind(declarations.adopt_server(descriptor, byref(code)), code, kinds)


def _owner_of_its_kind(made: NewHandle, code: c_int32, kinds: Mapping[int, type[OwnerT]]) -> OwnerT | int:
    # The same classes own a failure as any other.
    namespace = declarations.namespace(made) if made.value > 0 else declarations.NAMESPACE_LOCAL
    return owner_of(made, code, kinds[namespace])


# ---- Waiting ----


def _placed(result: int, timeout_ns: int, place: c_uint32, code: c_int32) -> int:
    """The result of a piece of a wait: with the wait's place, where it goes on behind this piece."""
    goes_on = timeout_ns != 0 if result == 0 else result == declarations.ERROR_INTERRUPTED
    if goes_on:
        return pack(result, place.value)
    return result if result >= 0 else pack(result, code.value)


def poll_socket(handle: int, events: int, timeout_ns: int, place: int) -> int:
    at, code = c_uint32(place), c_int32()
    call = declarations.poll_socket_waiting if timeout_ns else declarations.poll_socket
    result: int = call(handle, events, timeout_ns, byref(at), byref(code))
    return _placed(result, timeout_ns, at, code)


def _address(numbers: array[int]) -> int:
    return numbers.buffer_info()[0]


#: The system looks at this number of sockets in the time that a copy which keeps the GIL may take.
_POLLED_MAX = 64


class SocketList:
    """The arguments and results of a :func:`poll_sockets`."""

    def __init__(self, handles: list[int], events: list[int]) -> None:
        self._handles = array("q", handles)
        self._events = array("I", events)
        self._happened = array("I", bytes(4 * len(events)))

    def poll(self, timeout_ns: int, place: int) -> tuple[int, int | None]:
        """The result, and the index of the socket that a failure lies with."""
        at, code = c_uint32(place), c_int32()
        failed_index = c_uint64(len(self._handles))
        call = (
            declarations.poll_sockets_waiting
            if timeout_ns or len(self._handles) > _POLLED_MAX
            else declarations.poll_sockets
        )
        result: int = call(
            _address(self._handles),
            _address(self._events),
            _address(self._happened),
            len(self._handles),
            timeout_ns,
            byref(at),
            byref(failed_index),
            byref(code),
        )
        failed = failed_index.value
        return _placed(result, timeout_ns, at, code), (failed if failed < len(self._handles) else None)

    def happened(self) -> list[int]:
        return self._happened.tolist()


class _Reports:
    """Room for what one wait of a poller reports. Used by one thread at a time."""

    __slots__ = ("_addresses", "_events", "_handles")

    def __init__(self) -> None:
        self._handles = array("q", bytes(8 * _REPORTS_MAX))
        self._events = array("I", bytes(4 * _REPORTS_MAX))
        # An array that never grows never moves.
        self._addresses = _address(self._handles), _address(self._events)

    def wait(self, poller: int, timeout_ns: int, place: int) -> int:
        at, code = c_uint32(place), c_int32()
        call = declarations.wait_for_events_waiting if timeout_ns else declarations.wait_for_events
        result: int = call(poller, *self._addresses, _REPORTS_MAX, timeout_ns, byref(at), byref(code))
        return _placed(result, timeout_ns, at, code)

    def pairs(self, count: int) -> zip[tuple[int, int]]:
        """The handles and the events of the first ones."""
        return zip(self._handles[:count], self._events[:count])


#: Between two waits. Threads, and signal handlers, that wait at the same time each have their own.
_spare_reports: list[_Reports] = []


def wait_for_events(
    poller: int, sockets: Mapping[int, SocketT], sets: Mapping[int, EventsT], timeout_ns: int, place: int
) -> list[tuple[SocketT, EventsT]] | int:
    """What a wait reports, by the sockets of the handles and the sets of the numbers; or a failure."""
    try:
        reports = _spare_reports.pop()
    except IndexError:
        reports = _Reports()
    count = reports.wait(poller, timeout_ns, place)
    pairs = [*reports.pairs(count)] if count > 0 else []
    _spare_reports.append(reports)
    if count < 0:
        return count
    # A socket can have left since, or be about to: another thread takes it out.
    found = [(sockets.get(handle), sets[happened]) for handle, happened in pairs]
    return [(socket, happened) for socket, happened in found if socket is not None]


def receive(
    poller: int,
    sockets: Mapping[int, SocketT],
    sets: Mapping[int, EventsT],
    max_bytes: int,
    timeout_ns: int,
    place: int,
) -> list[tuple[SocketT, EventsT, bytes]] | int:
    """The same, and what is read from each stream that has data. A failed read is left for the next call to tell."""
    reports = wait_for_events(poller, sockets, sets, timeout_ns, place)
    if isinstance(reports, int):
        return reports

    def read_of(socket: SocketT, happened: EventsT) -> bytes:
        data = read(socket._handle, max_bytes, False) if happened.data_available else b""
        return data if isinstance(data, bytes) else b""

    return _with_received(reports, read_of)


def receive_messages_of_many(
    poller: int, sockets: Mapping[int, SocketT], sets: Mapping[int, EventsT], timeout_ns: int, place: int
) -> list[tuple[SocketT, EventsT, list[bytes]]] | int:
    """What a wait reports, with the messages of each stream that has some. Errors are left for the next call to
    tell."""
    reports = wait_for_events(poller, sockets, sets, timeout_ns, place)
    if isinstance(reports, int):
        return reports

    def messages_of(socket: SocketT, happened: EventsT) -> list[bytes]:
        messages = receive_messages(socket._handle, 0) if happened.message_available else []
        return messages if isinstance(messages, list) else []

    return _with_received(reports, messages_of)


def _with_received(
    reports: list[tuple[SocketT, EventsT]], receive_of: Callable[[SocketT, EventsT], ReceivedT]
) -> list[tuple[SocketT, EventsT, ReceivedT]]:
    received: list[tuple[SocketT, EventsT, ReceivedT]] = []
    for socket, happened in reports:
        try:
            taken = receive_of(socket, happened)
        except MemoryError:
            # What has been received must not be lost, and the next wait reports the others.
            if not received:
                raise
            break
        received.append((socket, happened, taken))
    return received


if array("I").itemsize != 4 or array("q").itemsize != 8:  # pragma: no cover
    raise ImportError("bbipc needs a Python whose arrays of type 'I' have items of 4 bytes")
