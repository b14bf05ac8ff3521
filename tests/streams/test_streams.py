"""Streams of every namespace: what is read is what was written, and nothing that arrived is ever lost."""

from __future__ import annotations

import ctypes
import errno
import io
import mmap
import os
import socket
import subprocess
import sys
import threading
import time
from array import array
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bbipc
from bbipc import Events, StreamSocket
from patience import PATIENCE
from readiness import RESETS_DISCARD, TELLS_ENDS_LATE, half_closes, needs_half_close, needs_reset, sever
from systems import WINDOWS
from threads import Waiting
from transports import STREAM_EVENTS, Transport, fill, reset

ESTABLISHED = Events.DETERMINED | Events.CONNECTION_SUCCEEDED
GONE = Events.DETERMINED | Events.CONNECTION_FAILED | Events.REMOTE_DISCONNECTED
WRITABLE = Events.READY_TO_WRITE | Events.WRITE_SPACE

#: Its length is prime to that of every buffer, so that a byte in the wrong place is a wrong byte.
PATTERN = os.urandom(65_521)


def pattern(position: int, size: int) -> bytes:
    """What a stream carries at a position."""
    start = position % len(PATTERN)
    return (PATTERN * ((start + size) // len(PATTERN) + 1))[start : start + size]


def events_of(stream: StreamSocket) -> Events:
    return bbipc.poll_socket(stream, STREAM_EVENTS, 0)


def await_event(stream: StreamSocket, events: Events) -> None:
    assert bbipc.poll_socket(stream, events, PATIENCE)


def send(sender: StreamSocket, receiver: StreamSocket, data: bytes) -> None:
    """Writes what fits into the buffers, and waits until it has arrived."""
    sender.write_all(data, PATIENCE)
    await_event(receiver, Events.DATA_AVAILABLE)
    while len(receiver.read(len(data), peek=True)) < len(data):
        pass


# ---- Reading and writing ----


def test_bytes_arrive_in_order_in_both_directions(transport: Transport) -> None:
    one, other = transport.pair()
    for sender, receiver in ((one, other), (other, one)):
        for word in (b"first", b"second", b"third"):
            assert sender.write(word) == len(word)
        assert receiver.read_exactly(16, PATIENCE) == b"firstsecondthird"
        assert receiver.read() == b""
        assert not receiver.data_available()


def test_read_takes_at_most_what_is_asked_for(transport: Transport) -> None:
    one, other = transport.pair()
    send(one, other, b"abcdef")
    assert other.read(4) == b"abcd"
    assert other.read(4) == b"ef"
    assert other.read(4) == b""


@pytest.mark.parametrize("size", [1, 65535, 65536, 65537, 10_000_000])
def test_read_of_every_size_returns_what_is_there(transport: Transport, size: int) -> None:
    one, other = transport.pair()
    send(one, other, b"abc")
    assert other.read(size) == b"abc"[:size]


def test_what_read_returned_does_not_change_later(transport: Transport) -> None:
    one, other = transport.pair()
    send(one, other, b"abc")
    first = other.read()
    send(one, other, b"xyz")
    assert other.read() == b"xyz"
    assert first == b"abc"


def test_peek_leaves_the_bytes_in_the_stream(transport: Transport) -> None:
    one, other = transport.pair()
    send(one, other, b"abcdef")
    buffer = bytearray(4)
    for _ in range(2):
        assert other.read(peek=True) == b"abcdef"
        assert other.read(2, peek=True) == b"ab"
        assert other.read_into(buffer, peek=True) == 4
        assert buffer == b"abcd"
        assert other.data_available()
    assert other.read_into(buffer, 1, 3) == 2
    assert buffer == b"aabd"
    assert other.read(peek=True) == b"cdef"
    assert other.read() == b"cdef"
    assert other.read(peek=True) == b""


def test_peek_is_given_by_name(transport: Transport) -> None:
    stream, _ = transport.pair()
    with pytest.raises(TypeError):
        stream.read(1, True)  # type: ignore[misc]
    with pytest.raises(TypeError):
        stream.read_into(bytearray(1), 0, 1, True)  # type: ignore[misc]


def test_reading_nothing_reads_nothing(transport: Transport) -> None:
    one, other = transport.pair()
    send(one, other, b"abc")
    assert other.read(0) == b""
    assert other.read_into(bytearray()) == 0
    assert other.read_into(bytearray(3), 2, 2) == 0
    assert other.read_into(bytearray(3), 3) == 0
    assert other.read_exactly(0) == b""
    assert other.read() == b"abc"


def test_writing_nothing_writes_nothing(transport: Transport) -> None:
    one, other = transport.pair()
    for empty in (b"", bytearray(), memoryview(b""), array("d"), memoryview(b"abc")[1:1]):
        assert one.write(empty) == 0
        one.write_all(empty)
    assert one.write(b"abc", 3) == 0
    assert one.write(b"abc", 1, 1) == 0
    if half_closes(transport):
        one.finish_writing()
    else:
        one.close()
    await_event(other, Events.END_OF_DATA)
    assert other.read() == b""


def test_start_and_end_choose_a_part(transport: Transport) -> None:
    one, other = transport.pair()
    assert one.write(b"0123456789", 2, 5) == 3
    assert one.write(b"0123456789", 8) == 2
    assert one.write(b"0123456789", end=1) == 1
    assert one.write(b"0123456789", start=5, end=None) == 5
    assert other.read_exactly(11, PATIENCE) == b"23489056789"
    send(one, other, b"abcdef")
    buffer = bytearray(b"----------")
    assert other.read_into(buffer, 2, 5) == 3
    assert other.read_into(buffer, start=8) == 2
    assert other.read_into(buffer, end=1) == 1
    assert buffer == b"f-abc---de"


def test_start_and_end_count_bytes_not_items(transport: Transport) -> None:
    one, other = transport.pair()
    numbers = array("q", [1, 2, 3])
    assert one.write(numbers, 8, 16) == 8
    received = array("q", [0, 0, 0])
    await_event(other, Events.DATA_AVAILABLE)
    assert other.read_into(received, 16, 24) == 8
    assert received == array("q", [0, 0, 2])


# ---- Every kind of buffer ----


def mapped_file(directory: Path, content: bytes, access: int) -> mmap.mmap:
    path = directory / "mapped"
    path.write_bytes(content)
    with open(path, "r+b") as file:
        return mmap.mmap(file.fileno(), 0, access=access)


def numpy_array(content: bytes) -> Any:
    numpy = pytest.importorskip("numpy", reason="NumPy is not installed")
    return numpy.frombuffer(bytearray(content), dtype=numpy.int32).reshape(2, -1)


class BytesOfOurs(bytes):
    pass


class Pair(ctypes.Structure):
    _fields_ = (("a", ctypes.c_uint32), ("b", ctypes.c_uint32))


#: Buffers of 8 bytes with a given content, that can be written to.
WRITABLE_BUFFERS: dict[str, Callable[[bytes, Path], Any]] = {
    "bytearray": lambda content, _: bytearray(content),
    "memoryview": lambda content, _: memoryview(bytearray(content)),
    "memoryview-slice": lambda content, _: memoryview(bytearray(b"<<<" + content + b">>"))[3:11],
    "memoryview-2d": lambda content, _: memoryview(bytearray(content)).cast("B", (2, 4)),
    "memoryview-of-ints": lambda content, _: memoryview(bytearray(content)).cast("I"),
    "array": lambda content, _: array("h", content),
    "mmap": lambda content, directory: mapped_file(directory, content, mmap.ACCESS_WRITE),
    "ctypes-array": lambda content, _: (ctypes.c_char * 8).from_buffer_copy(content),
    "ctypes-struct": lambda content, _: Pair.from_buffer_copy(content),
    "ctypes-number": lambda content, _: ctypes.c_uint64.from_buffer_copy(content),
    "bytesio": lambda content, _: io.BytesIO(content).getbuffer(),
    "numpy": lambda content, _: numpy_array(content),
}
#: The same, that can only be read.
READ_ONLY_BUFFERS: dict[str, Callable[[bytes, Path], Any]] = {
    "bytes": lambda content, _: content,
    "bytes-subclass": lambda content, _: BytesOfOurs(content),
    "memoryview-of-bytes": lambda content, _: memoryview(content),
    "memoryview-slice": lambda content, _: memoryview(b"<<<" + content + b">>")[3:11],
    "memoryview-read-only": lambda content, _: memoryview(bytearray(content)).toreadonly(),
    "mmap-read-only": lambda content, directory: mapped_file(directory, content, mmap.ACCESS_READ),
}
NOT_BUFFERS = [None, "text", 8, 1.0, [1, 2, 3], object(), io.BytesIO(b"abc")]


@pytest.mark.parametrize("kind", WRITABLE_BUFFERS)
def test_every_writable_buffer_is_read_into(transport: Transport, directory: Path, kind: str) -> None:
    one, other = transport.pair()
    buffer = WRITABLE_BUFFERS[kind](b"--------", directory)
    send(one, other, b"abcdef")
    assert other.read_into(buffer, 1, 5, peek=True) == 4
    assert bytes(memoryview(buffer).cast("B")) == b"-abcd---"
    assert other.read_into(buffer) == 6
    assert bytes(memoryview(buffer).cast("B")) == b"abcdef--"


@pytest.mark.parametrize("kind", [*WRITABLE_BUFFERS, *READ_ONLY_BUFFERS])
def test_every_buffer_is_written(transport: Transport, directory: Path, kind: str) -> None:
    one, other = transport.pair()
    for make in (WRITABLE_BUFFERS.get(kind), READ_ONLY_BUFFERS.get(kind)):
        if make is None:
            continue
        buffer = make(b"01234567", directory)
        assert one.write(buffer) == 8
        assert one.write(buffer, 3, 5) == 2
        one.write_all(buffer, PATIENCE)
        assert other.read_exactly(18, PATIENCE) == b"012345673401234567"
        assert bytes(memoryview(buffer).cast("B")) == b"01234567"


@pytest.mark.parametrize("kind", READ_ONLY_BUFFERS)
def test_a_read_only_buffer_is_not_read_into(transport: Transport, directory: Path, kind: str) -> None:
    one, other = transport.pair()
    buffer = READ_ONLY_BUFFERS[kind](b"01234567", directory)
    send(one, other, b"abc")
    with pytest.raises(TypeError, match="read-only"):
        other.read_into(buffer)
    assert bytes(memoryview(buffer)) == b"01234567"
    assert other.read() == b"abc"


@pytest.mark.parametrize("empty", [b"", memoryview(b"")])
def test_an_empty_read_only_buffer_is_refused_too(transport: Transport, empty: Any) -> None:
    stream, _ = transport.pair()
    with pytest.raises(TypeError, match="read-only"):
        stream.read_into(empty)


@pytest.mark.parametrize("empty", [bytearray(), memoryview(bytearray()), array("d"), (ctypes.c_char * 0)()])
def test_an_empty_buffer_takes_nothing(transport: Transport, empty: Any) -> None:
    one, other = transport.pair()
    send(one, other, b"abc")
    assert other.read_into(empty) == 0
    assert other.read_into(empty, 0, 0) == 0
    with pytest.raises(ValueError, match="start and end"):
        other.read_into(empty, 0, 1)
    assert other.read() == b"abc"


@pytest.mark.parametrize("slice_", [slice(None, None, 2), slice(None, None, -1), slice(6, 0, -3)])
def test_a_buffer_that_is_not_contiguous_is_refused(transport: Transport, slice_: slice) -> None:
    one, other = transport.pair()
    send(one, other, b"abc")
    with pytest.raises(TypeError, match="not contiguous"):
        other.read_into(memoryview(bytearray(8))[slice_])
    with pytest.raises(TypeError, match="not contiguous"):
        one.write(memoryview(bytes(8))[slice_])
    with pytest.raises(TypeError, match="not contiguous"):
        one.write_all(memoryview(bytes(8))[slice_], 0)
    assert other.read() == b"abc"


@pytest.mark.parametrize("other_object", NOT_BUFFERS, ids=lambda one: type(one).__name__)
def test_what_is_no_buffer_is_refused(transport: Transport, other_object: Any) -> None:
    one, other = transport.pair()
    send(one, other, b"abc")
    with pytest.raises(TypeError, match=type(other_object).__name__):
        other.read_into(other_object)
    with pytest.raises(TypeError, match=type(other_object).__name__):
        one.write(other_object)
    with pytest.raises(TypeError, match=type(other_object).__name__):
        one.write_all(other_object, 0)
    assert other.read() == b"abc"


def test_a_released_memoryview_is_refused(transport: Transport) -> None:
    stream, _ = transport.pair()
    released = memoryview(bytearray(8))
    released.release()
    with pytest.raises(ValueError, match="released"):
        stream.read_into(released)
    with pytest.raises(ValueError, match="released"):
        stream.write(released)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (-1, None),
        (0, -1),
        (9, None),
        (0, 9),
        (5, 4),
        (9, 9),
        (8, 7),
        (-3, -1),
        (2**31, None),
        (0, 2**32 + 4),
        (2**32, 2**32 + 4),
        (2**63, None),
        (0, 2**64 + 4),
        (-(2**70), 2**70),
    ],
)
def test_a_range_outside_the_buffer_is_refused(transport: Transport, start: int, end: int | None) -> None:
    one, other = transport.pair()
    send(one, other, b"abc")
    buffer = bytearray(8)
    for kind in (buffer, memoryview(buffer)):
        with pytest.raises(ValueError, match="start and end"):
            other.read_into(kind, start, end)
        with pytest.raises(ValueError, match="start and end"):
            other.read_into(kind, start, end, peek=True)
    for data in (bytes(8), buffer, memoryview(bytes(8))):
        with pytest.raises(ValueError, match="start and end"):
            one.write(data, start, end)
    assert buffer == bytes(8)
    assert other.read() == b"abc"


@pytest.mark.parametrize("bad", [1.0, "1", b"1", [1]])
def test_a_range_of_no_integers_is_refused(transport: Transport, bad: Any) -> None:
    one, other = transport.pair()
    send(one, other, b"abc")
    for arguments in ((bad,), (0, bad)):
        with pytest.raises(TypeError, match=type(bad).__name__):
            other.read_into(bytearray(8), *arguments)
        with pytest.raises(TypeError, match=type(bad).__name__):
            one.write(bytes(8), *arguments)
    assert other.read() == b"abc"


def test_a_range_may_be_of_anything_that_is_an_index(transport: Transport) -> None:
    class Two:
        def __index__(self) -> int:
            return 2

    one, other = transport.pair()
    assert one.write(b"abcdef", Two()) == 4  # type: ignore[arg-type]
    assert one.write(b"abcdef", True, Two()) == 1  # type: ignore[arg-type]
    assert other.read_exactly(5, PATIENCE) == b"cdefb"


@pytest.mark.parametrize("size", [-1, -(2**70)])
def test_a_negative_size_is_refused(transport: Transport, size: int) -> None:
    stream, _ = transport.pair()
    with pytest.raises(ValueError, match="negative"):
        stream.read(size)
    with pytest.raises(ValueError, match="negative"):
        stream.read_exactly(size)


@pytest.mark.parametrize("size", [1.0, "1", None, b""])
def test_a_size_that_is_no_integer_is_refused(transport: Transport, size: Any) -> None:
    stream, _ = transport.pair()
    with pytest.raises(TypeError):
        stream.read(size)
    with pytest.raises(TypeError):
        stream.read_exactly(size)


@pytest.mark.parametrize("size", [2**62, 2**63, 2**64, 2**70])
def test_a_size_that_no_memory_has_is_a_maximum_but_no_request(transport: Transport, size: int) -> None:
    one, other = transport.pair()
    send(one, other, b"abc")
    assert other.read(size, peek=True) == b"abc"
    assert other.read(size) == b"abc"
    send(one, other, b"def")
    with pytest.raises(bbipc.TimeoutError) as caught:
        other.read_exactly(size, 0)
    assert caught.value.partial == b"def"


def test_no_buffer_is_held_after_the_call(transport: Transport) -> None:
    one, other = transport.pair()
    buffer = bytearray(8)

    def assert_free() -> None:
        # A bytearray can't be resized while somebody holds its memory.
        buffer.append(0)
        buffer.pop()

    send(one, other, b"abc")
    other.read_into(buffer)
    assert_free()
    one.write(buffer)
    assert_free()
    one.write_all(buffer, PATIENCE)
    assert_free()
    for arguments in ((9,), (0, "x"), (5, 4)):
        with pytest.raises((ValueError, TypeError)):
            other.read_into(buffer, *arguments)  # type: ignore[arg-type]
        assert_free()
        with pytest.raises((ValueError, TypeError)):
            one.write(buffer, *arguments)  # type: ignore[arg-type]
        assert_free()
    if half_closes(transport):
        one.finish_writing()
    else:
        other.close()
    with pytest.raises(bbipc.SocketError):
        one.write(buffer)
    assert_free()
    one.close()
    with pytest.raises(bbipc.SocketError):
        one.write(buffer)
    with pytest.raises(bbipc.SocketError):
        one.read_into(buffer)
    assert_free()


# ---- Full buffers ----


def test_a_full_stream_takes_nothing_until_there_is_room(transport: Transport) -> None:
    one, other = transport.pair()
    written = fill(one)
    assert one.write(b"x") == 0
    assert events_of(one) == ESTABLISHED
    assert not one.ready_to_write()
    assert not one.write_space()
    assert len(other.read_exactly(written, PATIENCE)) == written
    await_event(one, Events.READY_TO_WRITE)
    assert events_of(one) == ESTABLISHED | WRITABLE
    assert one.write(b"x") == 1


@pytest.mark.parametrize("size", [1, 70_000, 5_000_000])
def test_write_all_and_read_exactly_move_any_amount(transport: Transport, size: int) -> None:
    one, other = transport.pair()
    data = pattern(0, size)
    received = []
    reading = threading.Thread(target=lambda: received.append(other.read_exactly(size, PATIENCE)))
    reading.start()
    one.write_all(memoryview(data), PATIENCE)
    reading.join()
    assert received == [data]


def test_two_streams_that_write_only_do_not_block_each_other(transport: Transport) -> None:
    one, other = transport.pair()
    written = [fill(one), fill(other)]
    assert all(written)
    assert not any(bbipc.poll_sockets([one, other], Events.READY_TO_WRITE, 0))
    assert len(one.read_exactly(written[1], PATIENCE)) == written[1]
    assert len(other.read_exactly(written[0], PATIENCE)) == written[0]


sizes = st.one_of(st.integers(0, 9), st.integers(0, 5_000), st.integers(0, 400_000))
operation = st.tuples(st.sampled_from(["write", "read", "read_into", "peek"]), st.integers(0, 1), sizes)


class Direction:
    """One direction of a stream, and the model of it: how far was written, and how far read."""

    def __init__(self, sender: StreamSocket, receiver: StreamSocket) -> None:
        self.sender = sender
        self.receiver = receiver
        self.written = 0
        self.read = 0

    def apply(self, action: str, size: int) -> None:
        under_way = self.written - self.read
        if action == "write":
            if WINDOWS and size and not under_way:
                # That a write which was under way is done can be known a moment later than that its bytes were read.
                await_event(self.sender, Events.WRITE_SPACE)
            taken = self.sender.write(pattern(self.written, size))
            assert 0 <= taken <= size
            if size and not under_way:
                assert taken
            self.written += taken
            return
        if under_way:
            await_event(self.receiver, Events.DATA_AVAILABLE)
        else:
            assert not self.receiver.data_available()
        if action == "read_into":
            buffer = bytearray(size + 7)
            count = self.receiver.read_into(buffer, 3, 3 + size)
            data = bytes(buffer[3 : 3 + count])
            assert not any(buffer[:3])
            assert not any(buffer[3 + count :])
        else:
            data = self.receiver.read(size, peek=action == "peek")
        assert len(data) <= min(size, under_way)
        assert bool(data) == (min(size, under_way) > 0)
        assert data == pattern(self.read, len(data))
        if action != "peek":
            self.read += len(data)

    def read_rest(self) -> None:
        rest = self.written - self.read
        assert self.receiver.read_exactly(rest, PATIENCE) == pattern(self.read, rest)

    def finish(self) -> None:
        self.sender.finish_writing()
        self.read_rest()
        await_event(self.receiver, Events.END_OF_DATA)
        assert self.receiver.read() == b""


@settings(deadline=None, database=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(operation, min_size=10, max_size=60))
def test_any_sequence_of_reads_and_writes_keeps_every_byte(
    transport: Transport, sequence: list[tuple[str, int, int]]
) -> None:
    one, other = transport.pair()
    directions = [Direction(one, other), Direction(other, one)]
    for action, which, size in sequence:
        directions[which].apply(action, size)
    for direction in directions:
        if half_closes(transport):
            direction.finish()
        else:
            direction.read_rest()
    transport.close()


# ---- The time is up, or the remote end goes ----


def test_read_exactly_tells_what_it_has_when_the_time_is_up(transport: Transport) -> None:
    one, other = transport.pair()
    send(one, other, b"abc")
    with pytest.raises(bbipc.TimeoutError, match="3 of 10") as caught:
        other.read_exactly(10, 0.01)
    assert caught.value.partial == b"abc"
    assert caught.value.errno == errno.ETIMEDOUT
    one.write_all(b"defg")
    assert other.read_exactly(4, PATIENCE) == b"defg"


def test_read_exactly_without_time_reads_what_is_there(transport: Transport) -> None:
    one, other = transport.pair()
    send(one, other, b"abcdef")
    assert other.read_exactly(3, 0) == b"abc"
    with pytest.raises(bbipc.TimeoutError) as caught:
        other.read_exactly(4, 0)
    assert caught.value.partial == b"def"


def test_write_all_tells_what_it_did_when_the_time_is_up(transport: Transport) -> None:
    one, other = transport.pair()
    size = 20_000_000
    for timeout in (0.1, 0):
        with pytest.raises(bbipc.TimeoutError, match=f"of {size}") as caught:
            one.write_all(pattern(0, size), timeout)
        written = caught.value.bytes_written
        assert 0 < written < size
        assert other.read_exactly(written, PATIENCE) == pattern(0, written)
        assert not bbipc.poll_socket(other, Events.DATA_AVAILABLE, 0.01)
        await_event(one, Events.READY_TO_WRITE)


@pytest.mark.parametrize("timeout", [PATIENCE, None])
def test_a_buffer_keeps_its_size_while_write_all_waits(transport: Transport, timeout: float | None) -> None:
    """One that grew would never be written to its end."""
    one, other = transport.pair()
    data = bytearray(pattern(0, 20_000_000))
    waiting = Waiting(lambda: one.write_all(data, timeout=timeout))
    # Past the first wait, from which Python comes back to look for signals.
    time.sleep(0.05)
    with pytest.raises(BufferError):
        data.append(1)
    assert other.read_exactly(len(data), PATIENCE) == data
    assert waiting.result() is None
    data.append(1)


def test_a_buffer_is_free_once_write_all_has_ended_with_an_error(transport: Transport) -> None:
    one, _ = transport.pair()
    data = bytearray(20_000_000)
    with pytest.raises(bbipc.TimeoutError) as caught:
        one.write_all(data, 0.02)
    # Also while the error, and with it its traceback, is still there.
    data.append(1)
    assert caught.value.bytes_written < len(data)


def test_a_numpy_array_of_dates_is_bytes_too(transport: Transport) -> None:
    """NumPy describes no items of such arrays, only their bytes."""
    numpy = pytest.importorskip("numpy", reason="NumPy is not installed")
    one, other = transport.pair()
    dates = numpy.arange(3_000_000).astype("M8[s]")
    waiting = Waiting(lambda: one.write_all(dates, timeout=PATIENCE))
    assert other.read_exactly(dates.nbytes, PATIENCE) == dates.tobytes()
    assert waiting.result() is None
    few = dates[5:7]
    assert one.write(few, 8) == 8
    assert bbipc.write_many([(one, few)]) == []
    assert other.read_exactly(24, PATIENCE) == few.tobytes()[8:] + few.tobytes()
    one.write_all(few[::-1].copy(), timeout=PATIENCE)
    await_event(other, Events.DATA_AVAILABLE)
    assert other.read_into(few) == 16
    assert list(few.astype(int)) == [6, 5]
    few.setflags(write=False)
    with pytest.raises(TypeError, match="read-only"):
        other.read_into(few)
    with pytest.raises(ValueError, match="contiguous"):
        one.write_all(dates[::2], timeout=PATIENCE)


def test_more_than_there_is_memory_for_is_a_memory_error(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = transport.pair()
    send(one, other, b"abcdef")

    def no_memory(*_arguments: object) -> object:
        raise OSError(errno.ENOMEM, "no memory")

    with monkeypatch.context() as patched:
        patched.setattr(mmap, "mmap", no_memory)
        with pytest.raises(MemoryError, match="2097152 bytes"):
            other.read(1 << 21)
    assert other.read(1 << 21) == b"abcdef"


def test_nothing_is_lost_when_the_remote_end_writes_and_closes_at_once(transport: Transport, backend: str) -> None:
    one, other = transport.pair()
    written = 0
    # Or less, where it takes no more.
    while written < 40_000 and (taken := one.write(pattern(written, 10_000))):
        written += taken
    one.close()
    if transport.name == "local" or not TELLS_ENDS_LATE:
        await_event(other, Events.REMOTE_DISCONNECTED)
    await_event(other, Events.DATA_AVAILABLE)
    assert other.data_available()
    assert not other.end_of_data()
    with bbipc.make_poller(backend) as poller:
        poller.monitor_socket(other, Events.DATA_AVAILABLE | Events.END_OF_DATA)
        read = 0
        while True:
            ((_, happened),) = poller.wait_for_events(PATIENCE)
            if happened.end_of_data:
                break
            data = other.read(10_000)
            assert data
            assert data == pattern(read, len(data))
            read += len(data)
    assert read == written
    assert not other.data_available()
    assert other.end_of_data()
    assert other.connection_error() is None


def test_after_an_orderly_close_reads_are_empty_for_ever(transport: Transport) -> None:
    one, other = transport.pair()
    one.close()
    await_event(other, Events.END_OF_DATA)
    for _ in range(3):
        assert other.read() == b""
        assert other.read_into(bytearray(8)) == 0
        assert other.read(peek=True) == b""
        assert GONE | Events.END_OF_DATA in events_of(other)
        assert other.connection_error() is None


def test_read_exactly_tells_what_it_has_when_the_remote_end_closes(transport: Transport) -> None:
    one, other = transport.pair()
    one.write_all(b"abc")
    one.close()
    with pytest.raises(bbipc.EndOfStreamError, match="3 of 10") as caught:
        other.read_exactly(10, PATIENCE)
    assert caught.value.partial == b"abc"
    assert caught.value.__cause__ is None
    with pytest.raises(bbipc.EndOfStreamError) as again:
        other.read_exactly(1)
    assert again.value.partial == b""


def test_read_exactly_reads_the_last_bytes_of_a_closed_stream(transport: Transport) -> None:
    one, other = transport.pair()
    one.write_all(b"abc")
    one.close()
    assert other.read_exactly(3, PATIENCE) == b"abc"
    assert other.read_exactly(0) == b""


def test_read_exactly_tells_what_it_has_when_the_connection_is_reset(transport: Transport) -> None:
    needs_reset(transport)
    stream, peer = transport.python_peer()
    peer.sendall(b"abc")
    await_event(stream, Events.DATA_AVAILABLE)
    sever(peer, stream)
    kept = b"" if RESETS_DISCARD and transport.name == "tcp" else b"abc"
    if not kept:
        await_event(stream, Events.CONNECTION_SEVERED)
    with pytest.raises(bbipc.EndOfStreamError, match=f"{len(kept)} of 10") as caught:
        stream.read_exactly(10, PATIENCE)
    assert caught.value.partial == kept
    assert isinstance(caught.value.__cause__, bbipc.SocketError)
    assert caught.value.__cause__.errno == errno.ECONNRESET


def test_write_all_tells_what_it_did_when_the_remote_end_has_closed(transport: Transport) -> None:
    one, other = transport.pair()
    other.close()
    await_event(one, Events.REMOTE_DISCONNECTED)
    with pytest.raises(bbipc.EndOfStreamError, match="of 20000000") as caught:
        one.write_all(bytes(20_000_000), PATIENCE)
    assert 0 <= caught.value.bytes_written < 20_000_000
    assert isinstance(caught.value.__cause__, bbipc.SocketError)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_write_all_ends_when_the_remote_end_goes_meanwhile(transport: Transport, how: str) -> None:
    stream, peer = transport.python_peer()
    fill(stream)
    goes = threading.Timer(0.02, peer.close if how == "close" else lambda: reset(peer, stream))
    goes.start()
    with pytest.raises(bbipc.EndOfStreamError) as caught:
        stream.write_all(bytes(20_000_000), PATIENCE)
    goes.join()
    assert caught.value.bytes_written == 0


# ---- The connection is severed ----


def test_a_reset_leaves_what_had_arrived_readable(transport: Transport) -> None:
    needs_reset(transport)
    stream, peer = transport.python_peer()
    peer.sendall(b"abc")
    await_event(stream, Events.DATA_AVAILABLE)
    sever(peer, stream)
    await_event(stream, Events.CONNECTION_SEVERED)
    if not (RESETS_DISCARD and transport.name == "tcp"):
        assert events_of(stream) == GONE | Events.CONNECTION_SEVERED | Events.DATA_AVAILABLE
        assert stream.read(peek=True) == b"abc"
        assert stream.read(2) == b"ab"
        assert stream.read() == b"c"
    assert events_of(stream) == GONE | Events.CONNECTION_SEVERED | Events.END_OF_DATA
    for _ in range(2):
        for attempt in (stream.read, lambda: stream.read_into(bytearray(8)), lambda: stream.read(peek=True)):
            with pytest.raises(bbipc.SocketError) as caught:
                attempt()
            assert caught.value.errno == errno.ECONNRESET
            assert caught.value.socket is stream


@pytest.mark.parametrize("first", ["read", "write", "connection_error"])
def test_why_a_connection_was_reset_is_told_whoever_asks_first(transport: Transport, first: str) -> None:
    needs_reset(transport)
    stream, peer = transport.python_peer()
    sever(peer, stream)
    await_event(stream, Events.CONNECTION_SEVERED)
    if first == "read":
        with pytest.raises(bbipc.SocketError):
            stream.read()
    elif first == "write":
        with pytest.raises(bbipc.SocketError):
            stream.write(b"x")
    for _ in range(2):
        error = stream.connection_error()
        assert isinstance(error, bbipc.SocketError)
        assert error.errno == errno.ECONNRESET
        assert error.socket is stream
    with pytest.raises(bbipc.SocketError) as reading:
        stream.read()
    assert reading.value.errno == errno.ECONNRESET


def test_a_write_to_a_reset_stream_raises_and_sends_no_signal(transport: Transport) -> None:
    stream, peer = transport.python_peer()
    reset(peer, stream)
    await_event(stream, Events.CONNECTION_SEVERED)
    for _ in range(3):
        with pytest.raises(bbipc.SocketError) as caught:
            stream.write(b"x")
        assert caught.value.errno in (errno.ECONNRESET, errno.EPIPE)
        assert caught.value.socket is stream


def test_a_write_to_a_closed_remote_end_raises(transport: Transport) -> None:
    one, other = transport.pair()
    other.close()
    await_event(one, Events.REMOTE_DISCONNECTED)
    if transport.name == "tcp":
        # TCP finds out that nobody reads by writing.
        assert one.write(b"x") == 1
        await_event(one, Events.CONNECTION_SEVERED)
    with pytest.raises(bbipc.SocketError) as caught:
        one.write(b"x")
    assert caught.value.errno in (errno.ECONNRESET, errno.EPIPE)


@pytest.mark.skipif(WINDOWS, reason="Windows has no SIGPIPE")
def test_no_write_sends_sigpipe(directory: Path) -> None:
    # Python ignores the signal, so in this program it does what it does to others: kills.
    program = """
import signal, sys
import bbipc
from bbipc import Events

signal.signal(signal.SIGPIPE, signal.SIG_DFL)
for server, connect in (
    (bbipc.make_ipv4_tcp_server("127.0.0.1", 0), lambda one: bbipc.connect_to_ipv4_tcp_server("127.0.0.1", one.port)),
    (bbipc.make_local_server(sys.argv[1]), lambda one: bbipc.connect_to_local_server(one.local_pathname)),
):
    with server, connect(server) as stream:
        bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, 10)
        server.accept_connection().close()
        bbipc.poll_socket(stream, Events.REMOTE_DISCONNECTED, 10)
        for _ in range(3):
            try:
                stream.write(b"x" * 1000)
            except bbipc.SocketError:
                pass
            else:
                bbipc.poll_socket(stream, Events.CONNECTION_SEVERED, 10)
        try:
            stream.write_all(b"x" * 1000000)
        except bbipc.EndOfStreamError:
            pass
print("alive")
"""
    command = [sys.executable, "-c", program, str(directory / "s")]
    assert subprocess.run(command, check=True, timeout=PATIENCE, stdout=subprocess.PIPE).stdout == b"alive\n"


# ---- The half-close ----


def test_a_half_close_leaves_the_other_direction_open(transport: Transport) -> None:
    needs_half_close(transport)
    one, other = transport.pair()
    for finishing, answering in ((one, other), (other, one)):
        finishing.write_all(b"question")
        finishing.finish_writing()
        assert answering.read_exactly(8, PATIENCE) == b"question"
        await_event(answering, Events.END_OF_DATA)
        if finishing is other:
            break
        assert events_of(finishing) == ESTABLISHED
        assert events_of(answering) == GONE | Events.END_OF_DATA | Events.WRITE_SPACE
        assert answering.connection_error() is None
        assert answering.write(b"answer") == 6
        answering.write_all(b" and more", PATIENCE)
        assert finishing.read_exactly(15, PATIENCE) == b"answer and more"
        assert events_of(finishing) == ESTABLISHED
    severed = GONE | Events.END_OF_DATA | Events.CONNECTION_SEVERED
    await_event(one, Events.CONNECTION_SEVERED)
    await_event(other, Events.CONNECTION_SEVERED)
    assert events_of(one) == events_of(other) == severed
    assert one.connection_error() is None
    assert other.connection_error() is None


def test_after_finish_writing_nothing_more_can_be_written(transport: Transport) -> None:
    needs_half_close(transport)
    one, other = transport.pair()
    one.finish_writing()
    for attempt in (lambda: one.write(b"x"), lambda: one.write_all(b"x", PATIENCE)):
        with pytest.raises(bbipc.SocketError) as caught:
            attempt()
        assert caught.value.errno == errno.EPIPE
        assert "finish_writing" in str(caught.value)
    assert one.connection_succeeded()
    assert one.write(b"") == 0
    await_event(other, Events.END_OF_DATA)


def test_a_half_close_loses_nothing_that_was_written_before(transport: Transport) -> None:
    needs_half_close(transport)
    one, other = transport.pair()
    written = fill(one)
    one.finish_writing()
    assert len(other.read_exactly(written, PATIENCE)) == written
    await_event(other, Events.END_OF_DATA)


def test_write_all_serves_a_peer_that_has_finished_and_still_reads(transport: Transport) -> None:
    needs_half_close(transport)
    stream, peer = transport.python_peer()
    peer.shutdown(socket.SHUT_WR)
    await_event(stream, Events.END_OF_DATA)
    data = pattern(0, 10_000_000)
    received = bytearray()

    def read_all() -> None:
        while len(received) < len(data):
            received.extend(peer.recv(1_000_000))

    reading = threading.Thread(target=read_all)
    reading.start()
    stream.write_all(data, PATIENCE)
    reading.join()
    assert received == data


def test_bytes_unread_when_both_ends_have_finished_are_not_lost(transport: Transport) -> None:
    needs_half_close(transport)
    one, other = transport.pair()
    one.finish_writing()
    await_event(other, Events.END_OF_DATA)
    other.write_all(b"last words")
    other.finish_writing()
    await_event(one, Events.CONNECTION_SEVERED)
    assert events_of(one) == GONE | Events.CONNECTION_SEVERED | Events.DATA_AVAILABLE
    assert one.read_exactly(10, PATIENCE) == b"last words"
    assert events_of(one) == GONE | Events.CONNECTION_SEVERED | Events.END_OF_DATA
    assert one.connection_error() is None


def test_whoever_waits_for_space_alone_is_told_that_it_will_not_come(transport: Transport, backend: str) -> None:
    stream, peer = transport.python_peer()
    fill(stream)
    with bbipc.make_poller(backend) as poller:
        poller.monitor_socket(stream, Events.WRITE_SPACE | Events.CONNECTION_SEVERED)
        assert poller.wait_for_events(0) == []
        reset(peer, stream)
        assert poller.wait_for_events(PATIENCE) == [(stream, Events.CONNECTION_SEVERED)]
        assert not stream.write_space()


def test_a_stream_read_by_python_and_back(transport: Transport) -> None:
    stream, peer = transport.python_peer()
    stream.write_all(b"to python")
    assert peer.recv(100) == b"to python"
    peer.sendall(b"from python")
    assert stream.read_exactly(11, PATIENCE) == b"from python"
