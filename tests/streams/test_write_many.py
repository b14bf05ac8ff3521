"""write_many writes to many streams what they take, and tells of the rest. No byte is lost or doubled."""

from __future__ import annotations

import errno
import threading
import weakref
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import pytest

import bbipc
from bbipc import Events, StreamSocket
from patience import PATIENCE
from peer import Pattern
from readiness import needs_half_close, sever
from systems import WINDOWS
from threads import Failing
from transports import Transport, fill


def read_all(stream: StreamSocket, size: int) -> bytes:
    """Reads ``size`` bytes, and makes sure that there is not one more."""
    data = stream.read_exactly(size, PATIENCE) if size else b""
    assert stream.read() == b""
    return data


def test_all_is_written(transport: Transport) -> None:
    pairs = [transport.pair() for _ in range(5)]
    items = [(stream, b"%d" % number * 100) for number, (stream, _) in enumerate(pairs)]
    assert bbipc.write_many(items) == []
    for number, (_, remote) in enumerate(pairs):
        assert read_all(remote, 100) == b"%d" % number * 100


@pytest.mark.parametrize("items", [[], (), {}, "", iter([])])
def test_nothing_is_written_of_nothing(items: Any) -> None:
    assert bbipc.write_many(items) == []


def test_items_come_from_whatever_has_them(transport: Transport) -> None:
    stream, remote = transport.pair()
    kinds: list[Any] = [
        [(stream, b"a")],
        ((stream, b"a"),),
        {(stream, b"a")},
        {stream: b"a"}.items(),
        ((one, b"a") for one in [stream]),
        zip([stream], [b"a"]),
        [[stream, b"a"]],
        iter([(stream, b"a")]),
    ]
    for items in kinds:
        assert bbipc.write_many(items) == []
    assert read_all(remote, len(kinds)) == b"a" * len(kinds)


def test_data_are_any_contiguous_buffer(transport: Transport) -> None:
    stream, remote = transport.pair()
    numbers = array("H", [1, 2, 3])
    growing = bytearray(b"bytearray")
    data = [b"bytes", growing, memoryview(b"-view-")[1:5], numbers, memoryview(bytearray(8)).cast("B", (2, 4)), b""]
    items: list[tuple[StreamSocket, Any]] = [(stream, one) for one in data]
    assert bbipc.write_many(items) == []
    # The buffers are released at once.
    growing += b"!"
    numbers.append(4)
    expected = b"bytesbytearrayview" + array("H", [1, 2, 3]).tobytes() + bytes(8)
    assert read_all(remote, len(expected)) == expected


def test_the_items_of_one_stream_keep_their_order(transport: Transport) -> None:
    pairs = [transport.pair() for _ in range(3)]
    pattern = Pattern(5)
    items = [(pairs[number % 3][0], pattern.at(number * 10, 10)) for number in range(300)]
    assert bbipc.write_many(items) == []
    for which, (_, remote) in enumerate(pairs):
        assert read_all(remote, 1000) == b"".join(pattern.at(number * 10, 10) for number in range(which, 300, 3))


def test_what_is_not_taken_is_told_and_nothing_overtakes_it(transport: Transport) -> None:
    """A stream takes a part of its item, and nothing of those that follow, however small."""
    stream, remote = transport.pair()
    other, other_remote = transport.pair()
    large = Pattern(1).at(0, 16 << 20)
    items: list[tuple[StreamSocket, bytes]] = [
        (other, b"one "),
        (stream, b"first"),
        (stream, large),
        (other, b"two "),
        (stream, b"more"),
        (stream, b""),
        (other, b"three"),
        (stream, b"last"),
    ]
    unfinished = bbipc.write_many(items)
    assert [place for place, _ in unfinished] == [2, 4, 7]
    taken = unfinished[0][1]
    assert isinstance(taken, int)
    assert 0 < taken < len(large)
    assert unfinished[1:] == [(4, 0), (7, 0)]
    assert read_all(other_remote, 13) == b"one two three"
    expected = b"first" + large[:taken]
    assert remote.read_exactly(len(expected), PATIENCE) == expected
    assert remote.read() == b""
    # And the rest can follow.
    assert bbipc.poll_socket(stream, Events.WRITE_SPACE, PATIENCE)
    (unfinished_place,) = (place for place, _ in bbipc.write_many([(stream, large[taken:])]))
    assert unfinished_place == 0


def test_a_full_stream_takes_nothing_and_the_others_all(transport: Transport) -> None:
    full, remote = transport.pair()
    other, other_remote = transport.pair()
    total = fill(full)
    # Whether or not the system needs more than a byte of room to take one byte.
    large = bytes(64 << 20)
    unfinished = bbipc.write_many([(full, large), (other, b"a"), (full, b"y"), (other, b"b")])
    assert [place for place, _ in unfinished] == [0, 2]
    assert unfinished[1] == (2, 0)
    taken = unfinished[0][1]
    assert isinstance(taken, int)
    assert read_all(other_remote, 2) == b"ab"
    assert remote.read_exactly(total + taken, PATIENCE) == bytes(total + taken)
    assert remote.read() == b""


def test_a_bad_stream_does_not_spoil_the_others(transport: Transport) -> None:
    good, remote = transport.pair()
    severed, peer = transport.python_peer()
    closed, _ = transport.pair()
    sever(peer, severed)
    assert bbipc.poll_socket(severed, Events.CONNECTION_SEVERED, PATIENCE)
    closed.close()
    items = [
        (good, b"1"),
        (closed, b"x"),
        (severed, b"x"),
        (good, b"2"),
        (severed, b"y"),
        (closed, b""),
        (good, b"3"),
    ]
    unfinished = bbipc.write_many(items)
    assert read_all(remote, 3) == b"123"
    assert [place for place, _ in unfinished] == [1, 2, 4, 5]
    for place, error in unfinished:
        stream, data = items[place]
        assert isinstance(error, bbipc.SocketError)
        assert error.socket is stream
        # What write() alone says.
        with pytest.raises(bbipc.SocketError) as caught:
            stream.write(data)
        # A reset is told once. After that a write says that nothing can be written: another built-in error.
        assert type(error).__name__ == type(caught.value).__name__
        if stream is not severed:
            assert str(error) == str(caught.value)
    assert [type(error) for _, error in unfinished if isinstance(error, bbipc.SocketClosedError)] == [
        bbipc.SocketClosedError
    ] * 2


def test_a_stream_that_has_finished_writing_is_bad(transport: Transport) -> None:
    needs_half_close(transport)
    stream, _ = transport.pair()
    stream.finish_writing()
    ((place, error),) = bbipc.write_many([(stream, b"x")])
    assert place == 0
    assert isinstance(error, bbipc.SocketError)
    assert error.errno == errno.EPIPE


WRONG: dict[str, Callable[[StreamSocket], Any]] = {
    "no pair": lambda _: 5,
    "None": lambda _: None,
    "a stream alone": lambda stream: stream,
    "one thing": lambda stream: (stream,),
    "three things": lambda stream: (stream, b"x", 0),
    "no stream": lambda _: (None, b"x"),
    "its number": lambda stream: (stream.fileno() if not WINDOWS else 5, b"x"),
    "its class": lambda stream: (type(stream), b"x"),
    "text": lambda stream: (stream, "x"),
    "no data": lambda stream: (stream, None),
    "a number": lambda stream: (stream, 1),
    "not contiguous": lambda stream: (stream, memoryview(b"abcd")[::2]),
    "the wrong way round": lambda stream: (b"x", stream),
    "what only stands for a stream": lambda stream: (weakref.proxy(stream), b"x"),
    "what only looks like a stream": lambda _: (mock.Mock(spec=StreamSocket), b"x"),
}


@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("transport", ["local"], indirect=True)
def test_wrong_items_are_refused_before_anything_is_written(transport: Transport, name: str, place: int) -> None:
    stream, remote = transport.pair()
    growing = bytearray(b"x")
    items: list[Any] = [(stream, b"x"), (stream, growing), (stream, b"x"), (stream, b"x")]
    items.insert(place, WRONG[name](stream))
    for given in (items, iter(items), tuple(items)):
        with pytest.raises(TypeError, match=rf"\b{place}\b"):
            bbipc.write_many(given)  # type: ignore[arg-type]
    growing += b"x"
    stream.write(b"only")
    assert read_all(remote, 4) == b"only"


def test_an_item_need_not_say_twice_what_it_is(transport: Transport) -> None:
    """An iterator for example, which is used up before the error is made."""
    stream, remote = transport.pair()
    closed, _ = transport.pair()
    closed.close()
    items = [iter((stream, b"x")), iter((closed, b"y")), iter((stream, b"z"))]
    ((place, error),) = bbipc.write_many(items)  # type: ignore[arg-type]
    assert place == 1
    assert isinstance(error, bbipc.SocketClosedError)
    assert remote.read_exactly(2, PATIENCE) == b"xz"


def test_servers_and_pollers_are_no_streams(transport: Transport) -> None:
    with bbipc.make_poller() as poller:
        for one in (transport.make_server(), poller):
            with pytest.raises(TypeError, match=type(one).__name__):
                bbipc.write_many([(one, b"x")])  # type: ignore[list-item]


@pytest.mark.parametrize("items", [None, 5, object()])
def test_what_is_no_items_is_refused(items: Any) -> None:
    with pytest.raises(TypeError):
        bbipc.write_many(items)


def test_an_error_among_the_items_is_the_programs(transport: Transport) -> None:
    """A generator's exception comes out, and nothing has been written."""
    stream, remote = transport.pair()

    class OfTheProgramError(Exception):
        pass

    def items() -> Iterator[tuple[StreamSocket, bytes]]:
        yield stream, b"x"
        raise OfTheProgramError

    with pytest.raises(OfTheProgramError):
        bbipc.write_many(items())
    stream.write(b"only")
    assert read_all(remote, 4) == b"only"


def test_large_items_are_written_in_rounds(transport: Transport) -> None:
    """As the documentation says: the rest of an item before what follows it."""
    pairs = [transport.pair() for _ in range(3)]
    size = 1_000_000
    received: list[bytes] = [b""] * len(pairs)

    def read(number: int) -> None:
        received[number] = pairs[number][1].read_exactly(3 * size, PATIENCE)

    readers = [Failing(partial(read, number)) for number in range(len(pairs))]
    items = [
        (stream, memoryview(Pattern(number).at(part * size, size)))
        for part in range(3)
        for number, (stream, _) in enumerate(pairs)
    ]
    while items:
        unfinished = bbipc.write_many(items)
        rest = []
        for place, taken in unfinished:
            assert isinstance(taken, int)
            stream, data = items[place]
            rest.append((stream, data[taken:]))
        items = rest
        if items:
            bbipc.poll_sockets([stream for stream, _ in items], Events.WRITE_SPACE, PATIENCE)
    for reader in readers:
        reader.join()
    assert received == [Pattern(number).at(0, 3 * size) for number in range(len(pairs))]


def test_threads_write_many_at_once(transport: Transport) -> None:
    """To streams of their own, and to one that all of them share, where each item arrives whole."""
    shared, shared_remote = transport.pair()
    threads_count, rounds = 4, 50
    pairs = [transport.pair() for _ in range(threads_count)]
    begin = threading.Barrier(threads_count)

    def write(number: int) -> None:
        begin.wait(PATIENCE)
        for turn in range(rounds):
            items = [(pairs[number][0], Pattern(number).at(turn * 80, 80)), (shared, bytes([number]) * 16)]
            assert bbipc.write_many(items) == []

    writers = [Failing(partial(write, number)) for number in range(threads_count)]
    for writer in writers:
        writer.join()
    for number, (_, remote) in enumerate(pairs):
        assert read_all(remote, 80 * rounds) == Pattern(number).at(0, 80 * rounds)
    mixed = read_all(shared_remote, 16 * threads_count * rounds)
    pieces = [mixed[position : position + 16] for position in range(0, len(mixed), 16)]
    assert Counter(pieces) == {bytes([number]) * 16: rounds for number in range(threads_count)}


def test_a_connection_under_way_takes_nothing_or_all(transport: Transport) -> None:
    """As write() does. Whether the connection is established already depends on the system."""
    server = transport.make_server()
    stream = transport.connect(server)
    unfinished = bbipc.write_many([(stream, b"early")])
    assert unfinished in ([], [(0, 0)])
    accepted = transport.accept(server)
    if unfinished:
        assert bbipc.poll_socket(stream, Events.READY_TO_WRITE, PATIENCE)
        assert bbipc.write_many([(stream, b"early")]) == []
    assert read_all(accepted, 5) == b"early"
