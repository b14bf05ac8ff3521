"""What streams read into and write: every kind of buffer, and parts of one; and what is refused."""

from __future__ import annotations

import ctypes
import io
import mmap
import time
from array import array
from pathlib import Path
from typing import Any, Callable

import pytest

import bbipc
from bbipc import Events
from patience import PATIENCE
from readiness import half_closes
from streaming import await_event, pattern, send
from threads import Waiting
from transports import Transport


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
