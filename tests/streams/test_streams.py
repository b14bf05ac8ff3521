"""Streams of every namespace: what is read is what was written, as much as there is room for."""

from __future__ import annotations

import threading
from array import array

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bbipc
from bbipc import Events, StreamSocket
from patience import PATIENCE
from readiness import half_closes
from streaming import ESTABLISHED, WRITABLE, await_event, events_of, pattern, send
from systems import WINDOWS
from transports import Transport, fill

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
                # The end of a write that was under way can be known a moment after its bytes were read.
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
