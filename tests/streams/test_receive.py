"""Poller.receive reads from every stream that is ready, and waits for one. No byte is lost or doubled."""

from __future__ import annotations

import contextlib
import errno
import math
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import bbipc
from bbipc import Events, Poller, Socket, StreamSocket
from bbipc._native import by_ctypes
from bbipc.events import SETS
from descriptors import descriptors_for
from patience import PATIENCE
from peer import Pattern
from readiness import TELLS_ENDS_LATE, needs_half_close, needs_reset, sever
from systems import BACKLOG_MAX, LOCAL_ROOM, WINDOWS
from threads import Failing, Waiting
from transports import STREAM_EVENTS, Transport

DATA = Events.DATA_AVAILABLE
END = Events.END_OF_DATA

#: Sockets that one call reports at the most (the documentation of wait_for_events).
REPORTS_MAX = 1024


def with_data(stream: StreamSocket) -> StreamSocket:
    """The stream, once it has something to read."""
    assert bbipc.poll_socket(stream, DATA, PATIENCE)
    return stream


# ---- What it reports ----


def test_every_stream_with_data_is_read(transport: Transport, poller: Poller) -> None:
    pairs = [transport.pair() for _ in range(5)]
    expected = {}
    for number, (stream, remote) in enumerate(pairs):
        poller.monitor_socket(stream, DATA)
        if number % 2 == 0:
            expected[stream] = b"%d" % number * (number + 1)
            remote.write_all(expected[stream], PATIENCE)
            with_data(stream)
    received = poller.receive(PATIENCE)
    assert {stream: data for stream, _, data in received} == expected
    assert {events for _, events, _ in received} == {DATA}
    assert poller.receive(0) == []


def test_what_holds_is_reported_and_read_on_by_every_call(transport: Transport, poller: Poller) -> None:
    stream, remote = transport.pair()
    poller.monitor_socket(stream, DATA)
    remote.write_all(b"abcdefg", PATIENCE)
    with_data(stream)
    for expected in (b"abc", b"def", b"g"):
        assert poller.receive(PATIENCE, 3) == [(stream, DATA, expected)]
    assert poller.receive(0, 3) == []
    # Calls of all kinds go on where the last has ended.
    remote.write_all(b"1234", PATIENCE)
    assert poller.receive(PATIENCE, max_bytes=1) == [(stream, DATA, b"1")]
    assert poller.wait_for_events(PATIENCE) == [(stream, DATA)]
    assert stream.read(1) == b"2"
    assert poller.receive(PATIENCE, max_bytes=100) == [(stream, DATA, b"34")]


def test_only_a_stream_that_is_watched_for_data_is_read(transport: Transport, poller: Poller) -> None:
    watched, watched_remote = transport.pair()
    other, other_remote = transport.pair()
    poller.monitor_socket(watched, DATA | Events.WRITE_SPACE)
    poller.monitor_socket(other, Events.WRITE_SPACE)
    for remote in (watched_remote, other_remote):
        remote.write_all(b"x", PATIENCE)
    with_data(watched)
    with_data(other)
    reported = {stream: (events, data) for stream, events, data in poller.receive(PATIENCE)}
    assert reported == {watched: (DATA | Events.WRITE_SPACE, b"x"), other: (Events.WRITE_SPACE, b"")}
    assert other.read() == b"x"
    poller.set_monitored_events(watched, Events())
    poller.set_monitored_events(other, Events())
    assert poller.receive(0.01) == []


def test_servers_are_reported_without_bytes(transport: Transport, poller: Poller) -> None:
    server = transport.make_server()
    poller.monitor_socket(server, Events.CONNECTION_AVAILABLE)
    transport.connect(server)
    assert poller.receive(PATIENCE) == [(server, Events.CONNECTION_AVAILABLE, b"")]
    stream = transport.keep(server.accept_connection())
    poller.monitor_socket(stream, Events.WRITE_SPACE)
    assert poller.receive(PATIENCE) == [(stream, Events.WRITE_SPACE, b"")]


def test_the_end_comes_after_the_last_byte(transport: Transport, poller: Poller) -> None:
    stream, remote = transport.pair()
    poller.monitor_socket(stream, DATA | END)
    remote.write_all(b"the last", PATIENCE)
    remote.close()
    received = b""
    while True:
        ((reported, events, data),) = poller.receive(PATIENCE, 3)
        assert reported is stream
        if events == END:
            assert data == b""
            break
        assert events == DATA
        assert data
        received += data
    assert received == b"the last"
    # For as long as it is monitored.
    assert poller.receive(PATIENCE) == [(stream, END, b"")]
    assert stream.end_of_data()


def test_a_half_closed_stream_is_received_to_its_end_and_written_to(transport: Transport, poller: Poller) -> None:
    needs_half_close(transport)
    stream, remote = transport.pair()
    poller.monitor_socket(stream, DATA | END)
    remote.write_all(b"question", PATIENCE)
    remote.finish_writing()
    assert poller.receive(PATIENCE) == [(stream, DATA, b"question")]
    assert poller.receive(PATIENCE) == [(stream, END, b"")]
    assert bbipc.write_many([(stream, b"answer")]) == []
    assert remote.read_exactly(6, PATIENCE) == b"answer"


def test_a_reset_stream_does_not_spoil_the_others(transport: Transport, poller: Poller) -> None:
    needs_reset(transport)
    stream, peer = transport.python_peer()
    pairs = [transport.pair() for _ in range(4)]
    for number, (one, remote) in enumerate(pairs):
        if number == 2:
            poller.monitor_socket(stream, DATA | Events.CONNECTION_SEVERED)
        poller.monitor_socket(one, DATA)
        remote.write_all(b"%d" % number, PATIENCE)
        with_data(one)
    sever(peer, stream)
    assert bbipc.poll_socket(stream, Events.CONNECTION_SEVERED, PATIENCE)
    received = poller.receive(PATIENCE)
    assert {one: data for one, events, data in received if events == DATA} == {
        one: b"%d" % number for number, (one, _) in enumerate(pairs)
    }
    assert [(events, data) for one, events, data in received if one is stream] == [(Events.CONNECTION_SEVERED, b"")]
    with pytest.raises(bbipc.SocketError) as caught:
        stream.read()
    assert caught.value.errno in (errno.ECONNRESET, errno.EPIPE)
    assert caught.value.socket is stream


def test_a_failed_read_is_left_for_the_next_call_to_tell(transport: Transport) -> None:
    """The event was there, and the stream is gone when its turn comes: another thread has closed it."""
    stream, remote = transport.pair()
    closed, closed_remote = transport.pair()
    with bbipc.make_poller() as poller:
        for one, other in ((stream, remote), (closed, closed_remote)):
            poller.monitor_socket(one, DATA)
            other.write_all(b"x", PATIENCE)
            with_data(one)

        class Sets(dict):  # type: ignore[type-arg]
            """Its items are asked for between the wait and the reading."""

            def __missing__(self, number: int) -> Events:
                # As a close() in another thread does before it comes to the pollers.
                bbipc._native.calls.close(closed._handle)
                return Events(number)

        received = bbipc._native.calls.receive(poller._handle, poller._sockets, Sets(), 100, 0, 0)
        assert isinstance(received, list)
        assert {one: data for one, _, data in received} == {stream: b"x", closed: b""}
        with pytest.raises(bbipc.SocketClosedError):
            closed.read()


@pytest.mark.parametrize("raised", [KeyError, MemoryError])
def test_only_where_memory_ends_the_others_are_left(
    transport: Transport, poller: Poller, monkeypatch: pytest.MonkeyPatch, raised: type[Exception]
) -> None:
    """What a signal's handler raises comes out. Here by ctypes, where handlers run between two reads."""
    streams = [transport.pair() for _ in range(2)]
    for stream, remote in streams:
        poller.monitor_socket(stream, DATA)
        remote.write_all(b"data", PATIENCE)
        with_data(stream)
    read, failures = by_ctypes.read, iter([None, raised])

    def failing_read(handle: int, size: int, peek: bool) -> bytes | int:
        if failure := next(failures):
            raise failure
        return read(handle, size, peek)

    monkeypatch.setattr(by_ctypes, "read", failing_read)
    arguments = (poller._handle, poller._sockets, SETS, 10, 1_000_000, 0)
    if raised is KeyError:
        with pytest.raises(KeyError):
            by_ctypes.receive(*arguments)
        return
    received = by_ctypes.receive(*arguments)
    assert isinstance(received, list)
    ((first, _, data),) = received
    assert data == b"data"
    (other,) = {stream for stream, _ in streams} - {first}
    assert other.read() == b"data"


def test_a_stream_that_has_left_meanwhile_is_not_read(transport: Transport) -> None:
    """The thread that takes it out of the poller reads the rest itself."""
    stream, remote = transport.pair()
    with bbipc.make_poller() as poller:
        poller.monitor_socket(stream, DATA)
        remote.write_all(b"x", PATIENCE)
        with_data(stream)
        sets = {int(DATA): DATA}
        assert bbipc._native.calls.receive(poller._handle, {}, sets, 100, 0, 0) == []
        assert stream.read() == b"x"


def test_one_call_reports_1024_and_the_next_the_others_first(backend: str, directory: Path) -> None:
    pairs_count = 128 if WINDOWS else 540
    with descriptors_for(2 * pairs_count + 100), contextlib.ExitStack() as stack:
        server = stack.enter_context(bbipc.make_local_server(str(directory / "s"), backlog=BACKLOG_MAX))
        poller = stack.enter_context(bbipc.make_poller(backend))
        streams: list[StreamSocket] = []
        for _ in range(pairs_count):
            one = stack.enter_context(bbipc.connect_to_local_server(server.local_pathname))
            assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
            streams += [one, stack.enter_context(server.accept_connection())]
        for stream in streams:
            poller.monitor_socket(stream, DATA)
            assert stream.write(b"twice") == 5
        for stream in streams:
            with_data(stream)
        received: list[tuple[Socket, bytes]] = []
        while len(received) < 2 * len(streams):
            report = poller.receive(PATIENCE, 3)
            assert 0 < len(report) <= REPORTS_MAX
            assert len({socket for socket, _, _ in report}) == len(report)
            received += [(socket, data) for socket, _, data in report]
        assert poller.receive(0) == []
        # No stream has a second turn before each has had its first.
        assert Counter(received[: len(streams)]) == Counter((stream, b"twi") for stream in streams)
        assert Counter(received[len(streams) :]) == Counter((stream, b"ce") for stream in streams)


def test_every_event_is_reported_beside_the_bytes(transport: Transport, poller: Poller) -> None:
    """The part of the monitored events that held before the reading."""
    stream, remote = transport.pair()
    poller.monitor_socket(stream, STREAM_EVENTS)
    remote.write_all(b"x", PATIENCE)
    with_data(stream)
    expected = bbipc.poll_socket(stream, STREAM_EVENTS, 0)
    assert expected.data_available
    assert poller.receive(PATIENCE) == [(stream, expected, b"x")]
    ((_, events, data),) = poller.receive(PATIENCE)
    assert (events, data) == (expected - DATA, b"")
    remote.write_all(b"y", PATIENCE)
    remote.close()
    known = DATA if TELLS_ENDS_LATE else Events.REMOTE_DISCONNECTED
    assert bbipc.poll_socket(stream, known, PATIENCE)
    with_data(stream)
    ((_, events, data),) = poller.receive(PATIENCE)
    assert events.data_available
    assert not events.end_of_data
    assert data == b"y"


# ---- How much ----


@pytest.mark.parametrize("max_bytes", [1000, 8192, 8193, 65536, 65537, 1 << 20, (1 << 20) + 1, 1 << 40])
def test_large_data_come_in_many_calls(transport: Transport, max_bytes: int) -> None:
    """Two streams at once, each with its own bytes; whatever of the room for them is used."""
    size = 150_000 if max_bytes == 1000 else 3_000_000
    pairs = [transport.pair() for _ in range(2)]
    received: dict[Socket, list[bytes]] = {stream: [] for stream, _ in pairs}
    left = size * len(pairs)
    with bbipc.make_poller() as poller:
        for stream, _ in pairs:
            poller.monitor_socket(stream, DATA)
        writers = [
            Failing(partial(remote.write_all, Pattern(number).at(0, size), PATIENCE))
            for number, (_, remote) in enumerate(pairs)
        ]
        while left:
            report = poller.receive(PATIENCE, max_bytes)
            assert report
            for stream, events, data in report:
                assert events == DATA
                assert 0 < len(data) <= max_bytes
                received[stream].append(data)
                left -= len(data)
        for writer in writers:
            writer.join()
    for number, (stream, _) in enumerate(pairs):
        assert b"".join(received[stream]) == Pattern(number).at(0, size)


def test_what_one_stream_gets_is_no_other_streams(transport: Transport, poller: Poller) -> None:
    """Streams share the room that they are read into: what was handed out stays as it was."""
    sizes = [1, 100, 8000, 7, min(30_000, LOCAL_ROOM), 2]
    pairs = [transport.pair() for _ in sizes]
    sent = {}
    for number, (stream, remote) in enumerate(pairs):
        poller.monitor_socket(stream, DATA)
        sent[stream] = bytes([number + 1]) * sizes[number]
        remote.write_all(sent[stream], PATIENCE)
    received = dict.fromkeys(sent, b"")
    give_up_at = time.perf_counter() + PATIENCE
    kept = []
    while received != sent:
        assert time.perf_counter() < give_up_at
        for stream, _, data in poller.receive(PATIENCE):
            assert isinstance(stream, StreamSocket)
            received[stream] += data
            kept.append((stream, data, bytearray(data)))
    assert all(data == copied for _, data, copied in kept)


@pytest.mark.parametrize("size", [0, -1, -(2**70)])
def test_max_bytes_must_be_positive(transport: Transport, poller: Poller, size: int) -> None:
    stream, remote = transport.pair()
    poller.monitor_socket(stream, DATA)
    remote.write_all(b"x", PATIENCE)
    with pytest.raises(ValueError, match=f"max_bytes must be positive: {size}"):
        poller.receive(0, size)
    assert stream.read_exactly(1, PATIENCE) == b"x"


@pytest.mark.parametrize("size", [None, "1", 1.0, b"1", [1]])
def test_max_bytes_must_be_an_int(poller: Poller, size: Any) -> None:
    with pytest.raises(TypeError, match=type(size).__name__):
        poller.receive(0, size)
    with pytest.raises(TypeError, match=type(size).__name__):
        poller.receive(max_bytes=size)


def test_max_bytes_is_whatever_stands_for_an_int(transport: Transport, poller: Poller) -> None:
    stream, remote = transport.pair()
    poller.monitor_socket(stream, DATA)
    remote.write_all(b"abcd", PATIENCE)
    with_data(stream)

    class Two:
        def __index__(self) -> int:
            return 2

    for size in (Two(), True, 2**70):
        expected = {True: b"c", 2**70: b"d"}.get(size, b"ab") if isinstance(size, int) else b"ab"
        assert poller.receive(PATIENCE, size) == [(stream, DATA, expected)]  # type: ignore[arg-type]


# ---- How long ----


@pytest.mark.parametrize("timeout", [-1, -0.001, math.nan])
def test_a_timeout_that_is_none_is_refused(poller: Poller, timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        poller.receive(timeout)


@pytest.mark.parametrize("timeout", ["1", b"1", [], Events()])
def test_a_timeout_of_another_type_is_refused(poller: Poller, timeout: Any) -> None:
    with pytest.raises(TypeError, match="timeout"):
        poller.receive(timeout)


def test_it_waits_for_as_long_as_it_is_asked_to(transport: Transport, poller: Poller) -> None:
    stream, _ = transport.pair()
    poller.monitor_socket(stream, DATA)
    for timeout in (0, 0.05):
        began = time.perf_counter()
        assert poller.receive(timeout) == []
        assert timeout <= time.perf_counter() - began < timeout + 1


@pytest.mark.parametrize("timeout", [None, PATIENCE, math.inf])
def test_it_waits_until_data_come(transport: Transport, poller: Poller, timeout: float | None) -> None:
    stream, remote = transport.pair()
    poller.monitor_socket(stream, DATA)
    waiting = Waiting(partial(poller.receive, timeout))
    remote.write(b"!")
    assert waiting.result() == [(stream, DATA, b"!")]


def test_a_wake_ends_it(poller: Poller) -> None:
    waiting = Waiting(poller.receive)
    poller.wake()
    assert waiting.result() == []
    poller.wake()
    assert poller.receive(PATIENCE) == []
    assert poller.receive(0.01) == []


def test_closing_a_monitored_stream_ends_it_with_nothing(transport: Transport, poller: Poller) -> None:
    stream, _ = transport.pair()
    other, _ = transport.pair()
    poller.monitor_socket(stream, DATA)
    poller.monitor_socket(other, DATA)
    waiting = Waiting(poller.receive)
    stream.close()
    assert waiting.result() == []
    assert poller.monitored_sockets() == [other]


def test_closing_the_poller_ends_it(transport: Transport, backend: str) -> None:
    stream, remote = transport.pair()
    poller = bbipc.make_poller(backend)
    poller.monitor_socket(stream, DATA)
    waiting = Waiting(poller.receive)
    poller.close()
    with pytest.raises(bbipc.PollerClosedError, match="cannot receive"):
        waiting.result()
    remote.write(b"x")
    with pytest.raises(bbipc.PollerClosedError, match="cannot receive"):
        poller.receive(0)
    assert stream.read_exactly(1, PATIENCE) == b"x"


def test_a_closed_stream_is_not_reported(transport: Transport, poller: Poller) -> None:
    pairs = [transport.pair() for _ in range(3)]
    for stream, remote in pairs:
        poller.monitor_socket(stream, DATA)
        remote.write_all(b"x", PATIENCE)
        with_data(stream)
    pairs[1][0].close()
    assert {stream for stream, _, _ in poller.receive(PATIENCE)} == {pairs[0][0], pairs[2][0]}


def test_threads_that_receive_at_once_share_the_bytes(transport: Transport, backend: str) -> None:
    """Each byte goes to one of the threads. Nobody but the threads could tell which was first."""
    size = 256 * 300
    pairs = [transport.pair() for _ in range(6)]
    everything = bytes(range(256)) * (size // 256)
    received: list[tuple[Socket, bytes]] = []
    left = threading.Semaphore(0)

    with bbipc.make_poller(backend) as poller:
        for stream, _ in pairs:
            poller.monitor_socket(stream, DATA)
        over = threading.Event()

        def receive() -> None:
            while not over.is_set():
                for stream, events, data in poller.receive(PATIENCE, 997):
                    assert events == DATA
                    received.append((stream, data))
                    for _ in data:
                        left.release()
            # For the next to look.
            poller.wake()

        receivers = [Failing(receive) for _ in range(4)]
        writers = [Failing(partial(remote.write_all, everything, PATIENCE)) for _, remote in pairs]
        for writer in writers:
            writer.join()
        for _ in range(size * len(pairs)):
            assert left.acquire(timeout=PATIENCE), "bytes are lost"
        over.set()
        poller.wake()
        for receiver in receivers:
            receiver.join()
    for stream, _ in pairs:
        of_stream = Counter(b"".join(data for one, data in received if one is stream))
        assert of_stream == dict.fromkeys(range(256), size // 256)


def test_receive_serves_an_echo_of_many_streams(transport: Transport, poller: Poller) -> None:
    """Both batches, as a server uses them."""
    pairs = [transport.pair() for _ in range(10)]
    size = 40_000
    for stream, _ in pairs:
        poller.monitor_socket(stream, DATA | END)
    echoed: list[bytes] = [b""] * len(pairs)

    def ask(number: int) -> None:
        remote = pairs[number][1]
        pattern = Pattern(number)
        for position in range(0, size, 4000):
            remote.write_all(pattern.at(position, 4000), PATIENCE)
            echoed[number] += remote.read_exactly(4000, PATIENCE)
        remote.close()

    clients = [Failing(partial(ask, number)) for number in range(len(pairs))]
    open_count = len(pairs)
    rest: dict[StreamSocket, bytes] = {}
    while open_count:
        items: list[tuple[StreamSocket, bytes]] = []
        for stream, events, data in poller.receive(0.01 if rest else PATIENCE):
            assert isinstance(stream, StreamSocket)
            if events.data_available:
                rest[stream] = rest.get(stream, b"") + data
            else:
                open_count -= 1
                stream.close()
        items = list(rest.items())
        rest = {items[place][0]: items[place][1][taken:] for place, taken in bbipc.write_many(items)}  # type: ignore[misc]
    for client in clients:
        client.join()
    assert echoed == [Pattern(number).at(0, size) for number in range(len(pairs))]
