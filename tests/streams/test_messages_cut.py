"""Messages that are cut anywhere, through every way of receiving, mixed with all that reads bytes: none lost or twice.

All of it is checked against the form of multiprocessing.connection as tests/support/framing.py has it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bbipc
from bbipc import Events, StreamSocket
from framing import AVAILABLE, WAYS, Receive, framed, framed_long, long, short
from patience import PATIENCE
from streaming import pattern
from systems import BACKENDS, LOCAL_ROOM, WINDOWS, make_directory
from transports import Transport

#: What is not there now and never comes: seconds of a wait for it.
NOT_AT_ALL = 0.0

SMALL = {
    "an empty one": framed(b""),
    "one byte": framed(b"x"),
    "several empty ones": framed(b"", b"", b""),
    "around a header's size": framed(*(pattern(size, size) for size in (3, 4, 5, 11, 12, 13))),
    "the long form": framed_long(b"", b"x", b"twelve bytes", b"") + framed(b"short") + framed_long(b"long"),
    "like headers": framed(short(4), long(2**40), b"\xff" * 12, bytes(8)),
}
EVERYTHING_SMALL = b"".join(SMALL.values())

BLOCK = 65536


def messages_of(wire: bytes) -> list[bytes]:
    """The whole messages that it begins with."""
    found: list[bytes] = []
    while True:
        front = front_of(wire)
        if not isinstance(front, int):
            return found
        found.append(body_of(wire[:front]))
        wire = wire[front:]


def front_of(wire: bytes, size_max: int = 1 << 24) -> int | str:
    """How many bytes the message has that it begins with, or why there is none."""
    if len(wire) < 4:
        return "incomplete"
    header, size = 4, int.from_bytes(wire[:4], "big", signed=True)
    if size == -1:
        if len(wire) < 12:
            return "incomplete"
        header, size = 12, int.from_bytes(wire[4:12], "big")
    if not 0 <= size <= size_max:
        return "too large"
    return header + size if header + size <= len(wire) else "incomplete"


def body_of(message: bytes) -> bytes:
    return message[12:] if message[:4] == b"\xff\xff\xff\xff" else message[4:]


FULL = os.environ.get("BBIPC_TESTS_FULL") == "1"
#: The native tests cut messages there.
pytestmark = pytest.mark.skipif(WINDOWS, reason="it takes minutes under Wine, and asks little of the system")


class Fed:
    """A stream whose remote end is written in pieces, and what has been received of it."""

    def __init__(self, stream: StreamSocket, remote: StreamSocket, receive: Receive) -> None:
        self._stream, self._remote, self._receive = stream, remote, receive
        self._wire = b""
        self._received: list[bytes] = []

    def feed(self, piece: bytes) -> None:
        """Then what is whole comes, and nothing else."""
        self._wire += piece
        while piece:
            piece = piece[self._remote.write(piece) :]
            if piece:
                # It makes room: a pipe has little.
                self._received += self._receive(NOT_AT_ALL)
        expected = messages_of(self._wire)
        while len(self._received) < len(expected):
            received = self._receive(PATIENCE)
            assert received, "a message does not come"
            self._received += received
        assert self._received == expected
        assert self._receive(NOT_AT_ALL) == []

    def feed_all(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self.feed(piece)
        # For the next round.
        assert self._stream.read() == b""
        self._wire, self._received = b"", []


@pytest.fixture(params=WAYS)
def fed(request: pytest.FixtureRequest, transport: Transport) -> Iterator[Fed]:
    stream, remote = transport.pair()
    with WAYS[request.param](stream) as receive:
        yield Fed(stream, remote, receive)


def byte_by_byte(wire: bytes) -> list[bytes]:
    return [wire[place : place + 1] for place in range(len(wire))]


def test_byte_by_byte(fed: Fed) -> None:
    fed.feed_all(byte_by_byte(EVERYTHING_SMALL))


@pytest.mark.parametrize("wire", SMALL.values(), ids=SMALL)
def test_in_all_cuts_of_two(fed: Fed, wire: bytes) -> None:
    for cut in range(len(wire) + 1):
        fed.feed_all([wire[:cut], wire[cut:]] if cut else [wire])


#: Bodies such that the message, or the next header, ends just before, at and after the border of a block.
LARGE_SIZES = [BLOCK - 13, BLOCK - 12, BLOCK - 5, BLOCK - 4, BLOCK - 3, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK]


@pytest.mark.parametrize("form", [framed, framed_long])
def test_around_the_borders_of_blocks(fed: Fed, form: Callable[..., bytes]) -> None:
    for size in LARGE_SIZES if LOCAL_ROOM > BLOCK else [BLOCK // 16]:
        wire = form(pattern(size, size), b"behind")
        header = len(form(b""))
        for cut in (1, header - 1, header, header + 1, BLOCK - 1, BLOCK, header + size - 1, header + size):
            fed.feed_all([wire[:cut], wire[cut:]])


@pytest.mark.long
@pytest.mark.timeout(600)
def test_large_ones_byte_by_byte(fed: Fed) -> None:
    # What comes before lets the bytes begin somewhere in a block.
    head = framed(pattern(1, BLOCK - 40), b"")
    tail = framed(pattern(2, 9000), b"last")
    fed.feed_all([head[:-30], *byte_by_byte(head[-30:] + tail)])


def cuts_of(wire: bytes, places: Iterable[int]) -> list[bytes]:
    borders = [0, *sorted({place % (len(wire) + 1) for place in places}), len(wire)]
    return [wire[first:last] for first, last in itertools.pairwise(borders) if last > first]


sizes = st.one_of(st.integers(0, 20), st.integers(4000, 20_000), st.sampled_from([8191, 8192, 8193, 16_384, 16_385]))
wires = st.lists(st.tuples(sizes, st.booleans()), min_size=1, max_size=6)


@settings(max_examples=80, deadline=None)
@given(of=wires, places=st.lists(st.integers(0, 1 << 17), max_size=8), way=st.sampled_from(sorted(WAYS)))
def test_in_random_cuts(of: list[tuple[int, bool]], places: list[int], way: str) -> None:
    pieces = [(framed_long if is_long else framed)(pattern(size, size)) for size, is_long in of]
    wire = b"".join(pieces)
    for name in ("tcp", "local"):
        with made_pair(name) as (stream, remote), WAYS[way](stream) as receive:
            # Elsewhere than on Linux there is less room.
            Fed(stream, remote, receive).feed_all(cuts_of(wire, [*places, *range(0, len(wire), LOCAL_ROOM // 2)]))


@contextlib.contextmanager
def made_pair(name: str) -> Iterator[tuple[StreamSocket, StreamSocket]]:
    """For tests that hypothesis runs more than once."""
    directory = make_directory()
    transport = Transport(name, directory)
    try:
        yield transport.pair()
    finally:
        transport.close()
        shutil.rmtree(directory, ignore_errors=True)


# ---- Mixed with bytes ----

#: Bytes of a message at the most in the model, so that hostile headers are easy to come by.
SIZE_MAX = 300

Step = tuple[str, int]

steps = st.lists(
    st.one_of(
        st.tuples(st.just("feed"), st.integers(1, 40)),
        st.tuples(st.just("feed"), st.integers(1, 2000)),
        st.tuples(
            st.sampled_from(
                [
                    *("receive", "receive", "receive_many", "read", "peek", "read_exactly", "read_until", "poll"),
                    *("wait_for_events", "poller_receive", "receive_bytes", "time_out", "set_bound", "finish", "check"),
                ]
            ),
            st.integers(1, 12),
        ),
    ),
    max_size=60,
)

contents = st.lists(
    st.one_of(
        st.binary(max_size=40).map(framed),
        st.binary(max_size=10).map(framed_long),
        st.integers(0, SIZE_MAX + 2).map(lambda size: framed(pattern(size, size))),
        st.binary(max_size=6),
        st.sampled_from([b"line\n", b"\n\n", short(-2), long(2**63), short(200) + b"unfinished\n"]),
    ),
    min_size=1,
    max_size=12,
).map(b"".join)

Outcome = Union[bytes, list[bytes], str]


class Model:
    """A stream, its remote end, and the bytes that have been written and not read."""

    def __init__(self, stream: StreamSocket, remote: StreamSocket, pollers: list[bbipc.Poller], content: bytes) -> None:
        self.stream, self.remote = stream, remote
        self.poller, self.of_bytes = pollers
        self.left = content
        self.unread = b""
        self.bound = stream.max_message_size = SIZE_MAX
        self.has_ended = False
        self.poller.monitor_socket(stream, AVAILABLE)
        self.of_bytes.monitor_socket(stream, Events.DATA_AVAILABLE | Events.END_OF_DATA)

    def front(self) -> int | str:
        front = front_of(self.unread, self.bound)
        if front == "incomplete" and self.has_ended:
            return "cut" if self.unread else "end"
        return front

    def take(self, count: int) -> bytes:
        taken, self.unread = self.unread[:count], self.unread[count:]
        return taken

    def outcome(self, receive: Callable[[], bytes | list[bytes]], tries: int = 2) -> Outcome:
        """What a call returns, or a word for its error."""
        try:
            got = receive()
        except bbipc.TimeoutError:
            # Without time, it does not look for the end behind the bytes that it has just found.
            return self.outcome(receive, 1) if self.has_ended and tries > 1 else "incomplete"
        except bbipc.MessageTooLargeError:
            return "too large"
        except bbipc.EndOfStreamError as error:
            if error.__cause__ is not None or error.partial not in (b"", self.unread):
                return repr(error)
            return "cut" if error.partial else "end"
        if got == [] and self.has_ended and tries > 1:
            return self.outcome(receive, 1)
        return got

    def step(self, step: Step) -> None:
        name, number = step
        getattr(self, name)(number)

    def check(self, _: int = 0) -> None:
        front = self.front()
        happened = bbipc.poll_socket(self.stream, AVAILABLE | Events.DATA_AVAILABLE | Events.END_OF_DATA, 0)
        assert happened.data_available == bool(self.unread)
        assert happened.end_of_data == (front == "end")
        assert happened.message_available == (front not in ("incomplete", "end"))

    # ---- Steps ----

    def feed(self, size: int) -> None:
        if self.has_ended:
            return
        piece, self.left = self.left[:size], self.left[size:]
        self.remote.write_all(piece, PATIENCE)
        self.unread += piece

    def finish(self, number: int) -> None:
        if number == 1 and not self.has_ended:
            self.remote.close()
            self.has_ended = True

    def set_bound(self, number: int) -> None:
        self.bound = self.stream.max_message_size = SIZE_MAX + (number - 6)

    def receive(self, _: int) -> None:
        front = self.front()
        got = self.outcome(lambda: self.stream.receive_message(0))
        if isinstance(front, int):
            assert got == body_of(self.take(front))
        else:
            self.ended(front, got)

    def ended(self, front: str, got: Outcome) -> None:
        assert got == front
        if front == "cut":
            self.unread = b""

    def receive_many(self, number: int) -> None:
        got = self.outcome(lambda: self.stream.receive_messages(number))
        front = self.front()
        if isinstance(front, str):
            self.ended(front, front if got == [] and front in ("end", "incomplete") else got)
            return
        assert isinstance(got, list)
        assert 1 <= len(got) <= number
        for message in got:
            front = self.front()
            assert isinstance(front, int)
            assert message == body_of(self.take(front))
        if len(got) < number:
            assert isinstance(self.front(), str)

    def read(self, number: int) -> None:
        assert self.stream.read(number) == self.take(number)

    def peek(self, number: int) -> None:
        assert self.stream.read(number * number, peek=True) == self.unread[: number * number]

    def read_exactly(self, number: int) -> None:
        if number <= len(self.unread):
            assert self.stream.read_exactly(number, 0) == self.take(number)

    def read_until(self, number: int) -> None:
        size_max = 10 * number
        place = self.unread.find(b"\n", 0, size_max)
        got = self.outcome(lambda: self.stream.read_until(b"\n", 0, size_max))
        if place >= 0:
            assert got == self.take(place + 1)
        elif len(self.unread) >= size_max:
            assert got == "too large"
        else:
            self.ended(("cut" if self.unread else "end") if self.has_ended else "incomplete", got)

    def poll(self, number: int) -> None:
        event, holds = (
            (AVAILABLE, self.front() not in ("incomplete", "end")),
            (Events.DATA_AVAILABLE, bool(self.unread)),
            (Events.END_OF_DATA, self.front() == "end"),
        )[number % 3]
        assert bbipc.poll_sockets([self.stream], event, 0) == [event if holds else Events()]

    def receive_bytes(self, number: int) -> None:
        reports = self.of_bytes.receive(0, number)
        data = self.take(number)
        ended = not data and self.has_ended
        assert [one for _, _, one in reports] == ([data] if data or ended else [])
        assert all(happened.end_of_data == ended for _, happened, _ in reports)

    def poller_receive(self, _: int) -> None:
        front = self.front()
        reports = self.poller.receive_messages(0)
        if front in ("incomplete", "end"):
            assert reports == []
            return
        ((one, happened, messages),) = reports
        assert (one, happened) == (self.stream, AVAILABLE)
        assert bool(messages) == isinstance(front, int)
        for message in messages:
            front = self.front()
            assert isinstance(front, int)
            assert message == body_of(self.take(front))

    def wait_for_events(self, _: int) -> None:
        front = self.front()
        expected = [] if front in ("incomplete", "end") else [(self.stream, AVAILABLE)]
        assert self.poller.wait_for_events(0) == expected

    def time_out(self, number: int) -> None:
        if self.front() == "incomplete":
            assert self.outcome(lambda: self.stream.receive_message(0.0001 * number)) == "incomplete"


mixed = given(content=contents, steps=steps, name=st.sampled_from(["tcp", "local"]), backend=st.sampled_from(BACKENDS))


def check_mixed(content: bytes, steps: list[Step], name: str, backend: str) -> None:
    with contextlib.ExitStack() as stack:
        stream, remote = stack.enter_context(made_pair(name))
        pollers = [stack.enter_context(bbipc.make_poller(backend)) for _ in range(2)]
        model = Model(stream, remote, pollers, content)
        for step in steps:
            model.step(step)
        model.check()


@settings(max_examples=400, deadline=None)
@mixed
def test_messages_and_bytes_mixed(content: bytes, steps: list[Step], name: str, backend: str) -> None:
    check_mixed(content, steps, name, backend)


@pytest.mark.long
@pytest.mark.timeout(1200)
@settings(max_examples=20_000 if FULL else 2_000, deadline=None)
@mixed
def test_messages_and_bytes_mixed_for_long(content: bytes, steps: list[Step], name: str, backend: str) -> None:
    check_mixed(content, steps, name, backend)
