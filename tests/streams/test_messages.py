"""Messages: who wakes for one, what is left of one, and many threads and signals at once.

What they are cut into is in test_messages_cut.py, and what is no message in test_messages_hostile.py.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import random
import signal
import sys
import threading
import time
import warnings
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import bbipc
from bbipc import Events, Poller, StreamSocket
from child_processes import Processes
from framing import AVAILABLE, AVAILABLE_OR_END, framed, short
from patience import PATIENCE
from peer import eager_threads, until_asleep
from readiness import goes_on_after_close, needs_half_close, sever, warned_of_the_rest
from streaming import await_event, pattern
from systems import BACKENDS, LOCAL_ROOM, WINDOWS
from threads import Failing, Waiting
from transports import Transport, fill, monitoring

SPACE = Events.MESSAGE_SPACE

#: Bytes that no system's buffers take, and that a stream may send.
LARGE = (1 << 23) - 7


def receive_all(stream: StreamSocket, count: int) -> list[bytes]:
    return [stream.receive_message(PATIENCE) for _ in range(count)]


# ---- Both ways ----


def test_buffers_of_every_kind(transport: Transport) -> None:
    stream, remote = transport.pair()
    buffers: list[Any] = [b"bytes", bytearray(b"array"), memoryview(b"a view")[2:], array("H", [1, 2, 3]), b""]
    for buffer in buffers:
        stream.send_message(buffer, PATIENCE)
    stream.send_messages(iter(buffers), PATIENCE)
    assert bbipc.send_messages([(stream, buffer) for buffer in buffers]) == []
    assert receive_all(remote, 15) == 3 * [bytes(memoryview(buffer).cast("B")) for buffer in buffers]


@pytest.mark.parametrize("wrong", ["text", None, 3, [b"x"], memoryview(bytes(10))[::2]])
def test_other_objects_are_refused_and_nothing_is_sent(transport: Transport, wrong: Any) -> None:
    stream, remote = transport.pair()
    with pytest.raises((TypeError, BufferError)):
        stream.send_message(wrong, PATIENCE)
    with pytest.raises((TypeError, BufferError)):
        stream.send_messages([b"good", wrong], PATIENCE)
    with pytest.raises((TypeError, BufferError)):
        bbipc.send_messages([(stream, b"good"), (stream, wrong)])
    stream.send_message(b"first", PATIENCE)
    assert remote.receive_message(PATIENCE) == b"first"


@pytest.mark.parametrize("wrong", [b"abc", bytearray(b"abc"), memoryview(b"abc")])
def test_one_message_is_not_many(transport: Transport, wrong: Any) -> None:
    stream, _ = transport.pair()
    with pytest.raises(TypeError, match="for one: send_message"):
        stream.send_messages(wrong)


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_timeouts_that_are_none(transport: Transport, poller: Poller, timeout: float) -> None:
    stream, remote = transport.pair()
    remote.send_message(b"x")
    calls: list[Callable[[], object]] = [
        partial(stream.send_message, b"y", timeout),
        partial(stream.send_messages, [b"y"], timeout),
        partial(stream.drain, timeout),
        partial(stream.receive_message, timeout),
        partial(stream.read_until, b"x", timeout),
        partial(poller.receive_messages, timeout),
        lambda: next(stream.messages(timeout)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="timeout"):
            call()
    assert stream.receive_message(PATIENCE) == b"x"
    with pytest.raises(bbipc.TimeoutError):
        remote.receive_message(0)


@pytest.mark.parametrize("count", [0, -1, -(2**70)])
def test_max_messages_must_be_positive(transport: Transport, count: int) -> None:
    stream, _ = transport.pair()
    with pytest.raises(ValueError, match="max_messages must be positive"):
        stream.receive_messages(count)


@pytest.mark.parametrize("count", ["1", 1.0, b"1", [1]])
def test_max_messages_must_be_an_int(transport: Transport, count: Any) -> None:
    stream, _ = transport.pair()
    with pytest.raises(TypeError):
        stream.receive_messages(count)


def test_max_messages_is_any_number(transport: Transport) -> None:
    stream, remote = transport.pair()
    stream.send_messages([b"%d" % number for number in range(10)], PATIENCE)
    await_event(remote, AVAILABLE)
    assert remote.receive_messages(True) == [b"0"]
    assert remote.receive_messages(3) == [b"1", b"2", b"3"]
    assert remote.receive_messages(2**70) == [b"%d" % number for number in range(4, 10)]


def test_many_sizes_at_once(transport: Transport) -> None:
    """More than any buffer takes, small and large ones, in one call."""
    generator = random.Random(1)
    sizes = [generator.choice([0, 1, 100, 5000, 16_380, 16_384, 16_385, 65_536, 200_000]) for _ in range(300)]
    stream, remote = transport.pair()
    sender = Failing(lambda: stream.send_messages([pattern(size, size) for size in sizes], PATIENCE))
    received: list[bytes] = []
    while len(received) < len(sizes):
        await_event(remote, AVAILABLE)
        received += remote.receive_messages()
    sender.join()
    assert received == [pattern(size, size) for size in sizes]
    assert remote.receive_messages() == []


def test_messages_of_many_streams(transport: Transport) -> None:
    """A stream that fails, one that is full, and one whose message is too large keep nobody back."""
    good, good_remote = transport.pair()
    full, _ = transport.pair()
    gone, gone_remote = transport.pair()
    bounded, bounded_remote = transport.pair()
    closed, _ = transport.pair()
    fill(full)
    with contextlib.suppress(bbipc.TimeoutError):
        full.send_message(b"fills what is left" * 5000, 0)
    sever(gone_remote, gone)
    await_event(gone, Events.CONNECTION_SEVERED)
    bounded.max_message_size = 3
    closed.close()
    items = [
        *((good, b"1"), (full, b"2"), (gone, b"3"), (bounded, b"4"), (closed, b"5")),
        *((good, b"6"), (full, b"7"), (gone, b"8"), (bounded, b"long"), (closed, b"9")),
        *((good, b"10"), (bounded, b"11")),
    ]
    untaken = bbipc.send_messages(items)
    outcomes = dict(untaken)
    assert [place for place, _ in untaken] == sorted(outcomes) == [1, 2, 4, 6, 7, 8, 9, 11]
    for place in (1, 6):
        assert isinstance(outcomes[place], bbipc.TimeoutError)
    assert isinstance(outcomes[2], (bbipc.EndOfStreamError, bbipc.SocketError))
    assert type(outcomes[2]) is type(outcomes[7])
    assert isinstance(outcomes[4], bbipc.SocketClosedError)
    assert isinstance(outcomes[9], bbipc.SocketClosedError)
    # What is behind it is not taken either.
    assert isinstance(outcomes[8], bbipc.MessageTooLargeError)
    assert isinstance(outcomes[11], bbipc.MessageTooLargeError)
    assert receive_all(good_remote, 3) == [b"1", b"6", b"10"]
    assert receive_all(bounded_remote, 1) == [b"4"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        full.close()


# ---- Nobody wakes for a half message ----


def drip(remote: StreamSocket, wire: bytes) -> None:
    for place in range(len(wire)):
        remote.write_all(wire[place : place + 1], PATIENCE)
        time.sleep(0.001)


@pytest.mark.parametrize("way", ["poll_socket", "poll_sockets", "receive_message", *BACKENDS])
def test_a_message_that_drips_is_reported_once(transport: Transport, way: str) -> None:
    stream, remote = transport.pair()
    other, _ = transport.pair()
    body = pattern(0, 1000)
    reports = 0
    with contextlib.ExitStack() as stack:
        sender = Failing(partial(drip, remote, framed(body)))
        if way == "poll_socket":
            assert bbipc.poll_socket(stream, AVAILABLE_OR_END, PATIENCE) == AVAILABLE
        elif way == "poll_sockets":
            assert bbipc.poll_sockets([other, stream], AVAILABLE, PATIENCE) == [Events(), AVAILABLE]
        elif way != "receive_message":
            poller = stack.enter_context(monitoring(stream, other, events=AVAILABLE_OR_END, backend=way))
            assert poller.wait_for_events(PATIENCE) == [(stream, AVAILABLE)]
        reports += 1
        # It is whole: the first report came with the last byte.
        assert stream.receive_message(0 if way != "receive_message" else PATIENCE) == body
        sender.join()
    assert reports == 1
    assert not stream.data_available()


def test_whoever_asks_for_bytes_hears_of_them(transport: Transport, backend: str) -> None:
    """Also while another poller waits for the message, and has taken the bytes into the stream."""
    stream, remote = transport.pair()
    with (
        monitoring(stream, events=AVAILABLE, backend=backend) as of_messages,
        monitoring(stream, events=Events.DATA_AVAILABLE, backend=backend) as of_bytes,
    ):
        waiting = Waiting(of_messages.wait_for_events)
        for byte in framed(b"ab")[:-1]:
            remote.write_all(bytes([byte]), PATIENCE)
            assert of_bytes.wait_for_events(PATIENCE) == [(stream, Events.DATA_AVAILABLE)]
            assert bbipc.poll_socket(stream, Events.DATA_AVAILABLE, PATIENCE)
            assert stream.read_exactly(1, PATIENCE) == bytes([byte])
            assert of_bytes.wait_for_events(0) == []
        assert waiting.waits
        remote.write_all(framed(b"")[1:] + framed(b"whole"), PATIENCE)
        assert waiting.result() == [(stream, AVAILABLE)]


@pytest.mark.parametrize("way", ["poll_socket", *BACKENDS])
def test_read_until_sees_what_a_wait_for_a_message_has_taken(transport: Transport, way: str) -> None:
    stream, remote = transport.pair()
    for _ in range(20):
        with contextlib.ExitStack() as stack:
            wait: Callable[[], object]
            if way == "poll_socket":
                wait = partial(bbipc.poll_socket, stream, AVAILABLE | Events.CONNECTION_SEVERED, PATIENCE)
            else:
                poller = stack.enter_context(monitoring(stream, events=AVAILABLE, backend=way))
                wait = partial(poller.wait_for_events, PATIENCE)
            watching = Failing(wait)
            reading = Waiting(partial(stream.read_until, b"\n", PATIENCE))
            # A part of a message, in two parts.
            remote.write_all(short(7), PATIENCE)
            remote.write_all(b"abc\n", PATIENCE)
            assert reading.result() == short(7) + b"abc\n"
            remote.send_message(b"", PATIENCE)
            watching.join()
            assert stream.receive_message(PATIENCE) == b""


@pytest.mark.parametrize("receive", ["receive_message", "receive_messages", "read_until", "poller"])
def test_the_last_message_tells_whoever_waits_for_the_end(transport: Transport, receive: str) -> None:
    """At once, and not only when the wait looks again."""
    delays: list[float] = []
    # A machine that is busy with other things takes longer, but not each time.
    while len(delays) < 10 and min(delays, default=1) > 0.005:
        stream, remote = transport.pair()
        remote.send_message(b"last\n", PATIENCE)
        remote.close()
        with monitoring(stream, events=Events.END_OF_DATA) as poller, monitoring(stream, events=AVAILABLE) as receiver:
            waits = [Waiting(partial(bbipc.poll_socket, stream, Events.END_OF_DATA)), Waiting(poller.wait_for_events)]
            # Long enough that they look seldom.
            time.sleep(0.2)
            began = time.perf_counter()
            if receive == "poller":
                assert receiver.receive_messages(PATIENCE) == [(stream, AVAILABLE, [b"last\n"])]
            elif receive == "read_until":
                assert stream.read_until(b"\n", PATIENCE) == framed(b"last\n")
            else:
                assert getattr(stream, receive)() in (b"last\n", [b"last\n"])
            assert [wait.result() for wait in waits] == [Events.END_OF_DATA, [(stream, Events.END_OF_DATA)]]
            delays.append(max(wait.ended_at for wait in waits) - began)
    assert min(delays) < 0.005, delays


# ---- The rest of a message ----


class Rest:
    """A stream that keeps the rest of a message, and its remote end."""

    def __init__(self, transport: Transport) -> None:
        self.stream, self.remote = transport.pair()
        self.remote.max_message_size = self.stream.max_message_size = LARGE
        self.body = pattern(0, LARGE)
        with pytest.raises(bbipc.TimeoutError, match="whose rest goes out by itself") as raised:
            self.stream.send_message(self.body, 0)
        assert raised.value.accepted == 1

    def receive_with(self, push: Callable[[], object]) -> None:
        """The message comes while something lets its rest go out."""
        over = threading.Event()

        def push_on() -> None:
            while not over.is_set():
                push()

        pushing = Failing(push_on)
        try:
            assert self.remote.receive_message(PATIENCE) == self.body
        finally:
            over.set()
            pushing.join()


@pytest.fixture
def rest(transport: Transport) -> Rest:
    return Rest(transport)


def test_meanwhile_nothing_else_goes(rest: Rest, backend: str) -> None:
    stream = rest.stream
    with monitoring(stream, events=SPACE | Events.WRITE_SPACE | Events.READY_TO_WRITE, backend=backend) as poller:
        assert poller.wait_for_events(0) == []
        assert stream.write(b"x") == 0
        assert bbipc.write_many([(stream, b"x")]) == [(0, 0)]
        for send in (stream.send_message, lambda data, timeout: stream.send_messages([data, data], timeout)):
            for timeout in (0, 0.01):
                with pytest.raises(bbipc.TimeoutError) as raised:
                    send(b"second", timeout)
                assert raised.value.accepted == 0
        with pytest.raises(bbipc.TimeoutError) as written:
            stream.write_all(b"bytes", 0.01)
        assert written.value.bytes_written == 0
        untaken = bbipc.send_messages([(stream, b"second"), (stream, b"third")])
        assert [(place, type(error)) for place, error in untaken] == [(0, bbipc.TimeoutError), (1, bbipc.TimeoutError)]
        assert not stream.message_space()
        assert not stream.write_space()
        assert not stream.ready_to_write()
        with pytest.raises(bbipc.TimeoutError, match="bytes of a message had not gone"):
            stream.drain(0.01)
        receiving = Waiting(partial(rest.remote.receive_message, PATIENCE))
        while receiving.waits:
            poller.wait_for_events(0.01)
        assert receiving.result() == rest.body
        ((one, happened),) = poller.wait_for_events(PATIENCE)
        assert (one, happened) == (stream, SPACE | Events.WRITE_SPACE | Events.READY_TO_WRITE)
    stream.drain(0)
    stream.send_message(b"second", PATIENCE)
    assert rest.remote.receive_message(PATIENCE) == b"second"
    assert not rest.remote.data_available()


PUSHES: dict[str, Callable[[StreamSocket], object]] = {
    "poll_socket": lambda stream: bbipc.poll_socket(stream, Events.DATA_AVAILABLE, 0.01),
    "poll_socket for nothing": lambda stream: bbipc.poll_socket(stream, Events(), 0.01),
    "poll_sockets": lambda stream: bbipc.poll_sockets([stream] * 20, AVAILABLE, 0.01),
    "write_space": lambda stream: stream.write_space(),
    "receive_message": lambda stream: _time_out(stream.receive_message),
    "read_exactly": lambda stream: _time_out(partial(stream.read_exactly, 1)),
    "read_until": lambda stream: _time_out(partial(stream.read_until, b"x")),
    "drain": lambda stream: _time_out(stream.drain),
    "drain(0)": lambda stream: _time_out(lambda timeout: stream.drain(0)),
}


def _time_out(call: Callable[[float], object]) -> None:
    with contextlib.suppress(bbipc.TimeoutError):
        call(0.01)


@pytest.mark.parametrize("push", PUSHES.values(), ids=PUSHES)
def test_the_rest_goes_out_in_every_wait_for_the_stream(rest: Rest, push: Callable[[StreamSocket], object]) -> None:
    rest.receive_with(lambda: push(rest.stream))
    rest.stream.drain(0)


@pytest.mark.parametrize(
    ("call", "events"),
    [
        *(("wait_for_events", events) for events in (Events(), AVAILABLE, Events.DATA_AVAILABLE, SPACE)),
        ("receive", Events.DATA_AVAILABLE),
        ("receive_messages", AVAILABLE),
    ],
)
def test_the_rest_goes_out_in_every_wait_of_a_poller(rest: Rest, backend: str, call: str, events: Events) -> None:
    with monitoring(rest.stream, events=events, backend=backend) as poller:
        rest.receive_with(lambda: getattr(poller, call)(0.01))


def test_the_rest_of_a_stream_that_a_poller_waits_for_already(transport: Transport, backend: str) -> None:
    stream, remote = transport.pair()
    remote.max_message_size = LARGE
    with monitoring(stream, events=AVAILABLE, backend=backend) as poller:
        waiting = Waiting(poller.wait_for_events)
        with pytest.raises(bbipc.TimeoutError):
            stream.send_message(bytes(LARGE), 0)
        assert remote.receive_message(PATIENCE) == bytes(LARGE)
        assert waiting.waits
        remote.send_message(b"thanks", PATIENCE)
        assert waiting.result() == [(stream, AVAILABLE)]


def test_finish_writing_comes_after_the_rest(transport: Transport, rest: Rest) -> None:
    needs_half_close(transport)
    rest.stream.finish_writing()
    rest.stream.finish_writing()
    assert rest.stream.write(b"x") == 0
    rest.receive_with(lambda: bbipc.poll_socket(rest.stream, Events.DATA_AVAILABLE, 0.01))
    assert bbipc.poll_socket(rest.remote, AVAILABLE_OR_END, PATIENCE) == Events.END_OF_DATA
    with pytest.raises(bbipc.SocketError):
        rest.stream.send_message(b"x", PATIENCE)
    rest.remote.send_message(b"and back", PATIENCE)
    assert rest.stream.receive_message(PATIENCE) == b"and back"


def test_a_sender_behind_finish_writing_hears_of_it(transport: Transport, rest: Rest) -> None:
    needs_half_close(transport)
    sending = Waiting(partial(rest.stream.send_message, b"second"))
    rest.stream.finish_writing()
    assert rest.remote.receive_message(PATIENCE) == rest.body
    with pytest.raises(bbipc.SocketError):
        sending.result()
    assert list(rest.remote.messages(PATIENCE)) == []


def test_close_makes_a_last_try_and_warns_of_the_rest(rest: Rest) -> None:
    if goes_on_after_close(rest.stream):
        pytest.skip("a named pipe goes on with the rest, which a native test looks at")
    remote = rest.remote
    # Room, which nobody but close has noticed.
    taken = b""
    while len(taken) < LOCAL_ROOM // 2:
        await_event(remote, Events.DATA_AVAILABLE)
        taken += remote.read(4096)
    with pytest.warns(ResourceWarning, match="bytes of a message unsent: call drain") as caught:
        rest.stream.close()
    (warning,) = caught
    assert warning.filename == __file__
    unsent = int(str(warning.message).split("closed with ")[1].split()[0])
    with pytest.raises(bbipc.EndOfStreamError) as raised:
        # The header is gone: what is left reads as anything.
        remote.read_exactly(2 * LARGE, PATIENCE)
    assert len(taken) + len(raised.value.partial) + unsent == 4 + LARGE
    assert framed(rest.body).startswith(taken + raised.value.partial)


def test_close_sends_what_there_is_room_for(transport: Transport) -> None:
    stream, remote = transport.pair()
    remote.max_message_size = LARGE
    before = fill(stream)
    with pytest.raises(bbipc.TimeoutError) as raised:
        stream.send_message(b"small" * 4000, 0)
    if not raised.value.accepted:
        # There is no room for a byte of it, so nothing is kept.
        remote.read_exactly(before, PATIENCE)
        return
    remote.read_exactly(before, PATIENCE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stream.close()
    assert list(remote.messages(PATIENCE)) == [b"small" * 4000]


def test_a_dropped_stream_warns_too(transport: Transport) -> None:
    stream, remote = transport.pair()
    transport.let_go()
    with pytest.raises(bbipc.TimeoutError):
        stream.send_message(bytes(LARGE), 0)
    made = [stream]
    del stream
    with pytest.warns(ResourceWarning):
        made.pop()
    remote.close()


def test_abort_gives_the_rest_up_and_says_nothing(rest: Rest) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rest.stream.abort()
    with pytest.raises(bbipc.BbipcError):
        rest.remote.receive_message(PATIENCE)


def test_a_rest_after_a_reset(rest: Rest) -> None:
    rest.remote.close()
    with pytest.raises(bbipc.EndOfStreamError) as raised:
        rest.stream.drain(PATIENCE)
    assert isinstance(raised.value.__cause__, bbipc.SocketError)
    assert not rest.stream.message_space()
    for _ in range(2):
        with pytest.raises(bbipc.EndOfStreamError) as raised:
            rest.stream.send_message(b"x", PATIENCE)
    with pytest.raises(bbipc.EndOfStreamError):
        rest.stream.write_all(b"x", PATIENCE)
    ((_, error),) = bbipc.send_messages([(rest.stream, b"x")])
    assert isinstance(error, bbipc.EndOfStreamError)
    with warned_of_the_rest(rest.stream):
        rest.stream.close()


def test_a_changed_buffer_is_sent_as_it_was(transport: Transport) -> None:
    """The rest is a copy, once the call has returned."""
    stream, remote = transport.pair()
    remote.max_message_size = LARGE
    data = bytearray(pattern(0, LARGE))
    with pytest.raises(bbipc.TimeoutError):
        stream.send_message(data, 0.01)
    data[:] = bytes(len(data))
    draining = Failing(partial(stream.drain, PATIENCE))
    assert remote.receive_message(PATIENCE) == pattern(0, LARGE)
    draining.join()


def test_a_timeout_of_many_says_how_many(transport: Transport) -> None:
    stream, remote = transport.pair()
    messages = [pattern(number, 30_000) for number in range(1000)]
    accepted = 0
    received: list[bytes] = []
    while accepted < len(messages):
        try:
            stream.send_messages(messages[accepted:], 0.001)
            accepted = len(messages)
        except bbipc.TimeoutError as error:
            accepted += error.accepted
        while remote.message_available():
            received += remote.receive_messages()
    draining = Failing(partial(stream.drain, PATIENCE))
    received += receive_all(remote, len(messages) - len(received))
    draining.join()
    assert received == messages


# ---- fork() ----


@pytest.mark.skipif(WINDOWS, reason="Windows has no fork()")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_only_the_parent_sends_the_rest(rest: Rest) -> None:
    child = os.fork()
    if child == 0:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                rest.stream.drain(PATIENCE)
                bbipc.poll_socket(rest.stream, AVAILABLE, 0.05)
                rest.stream.close()
                rest.remote.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0) == (child, 0)
    rest.receive_with(lambda: bbipc.poll_socket(rest.stream, AVAILABLE, 0.01))
    assert not rest.remote.data_available()


@pytest.mark.skipif(WINDOWS, reason="Windows has no fork()")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_children_among_threads_that_send_and_receive(transport: Transport) -> None:
    stream, remote = transport.pair()
    over = threading.Event()
    messages = [pattern(number, 40_000) for number in range(20)]
    counts = [0, 0]

    def send() -> None:
        while not over.is_set():
            stream.send_messages(messages, PATIENCE)
            counts[0] += len(messages)
        stream.send_message(b"over", PATIENCE)

    def receive() -> None:
        for data in remote.messages(PATIENCE):
            if data == b"over":
                return
            assert data == messages[counts[1] % len(messages)]
            counts[1] += 1

    threads = [Failing(send), Failing(receive)]
    for _ in range(30):
        child = os.fork()
        if child == 0:
            try:
                made = bbipc.make_poller()
                made.close()
                stream.close()
                remote.close()
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0) == (child, 0)
    over.set()
    for thread in threads:
        thread.join()
    assert counts[0] == counts[1]


# ---- Threads ----


def numbered(sender: int, number: int) -> bytes:
    """A message that says whose it is, and whose every part does."""
    size = (sender * 7919 + number * 104_729) % 3000
    if number % 50 == 0:
        size *= 60
    head = b"%d %d:" % (sender, number)
    return head + bytes([sender]) * size


def check_numbered(data: bytes) -> tuple[int, int]:
    head, _, body = data.partition(b":")
    sender, number = map(int, head.split())
    assert data == numbered(sender, number)
    assert set(body) <= {sender}
    return sender, number


@pytest.mark.parametrize("eager", [False, True])
def test_many_senders_and_many_receivers(transport: Transport, eager: bool) -> None:
    """No message is torn, lost or doubled, and those of one sender come in its order to one receiver."""
    senders, each = 4, 150
    stream, remote = transport.pair()
    received: list[list[tuple[int, int]]] = [[] for _ in range(4)]

    def send(sender: int) -> None:
        for number in range(0, each, 3):
            messages = [numbered(sender, one) for one in range(number, number + 3)]
            if number % 2:
                stream.send_messages(messages, PATIENCE)
            else:
                for message in messages:
                    stream.send_message(message, PATIENCE)

    def receive(place: int) -> None:
        with monitoring(remote, events=AVAILABLE_OR_END) as poller:
            while True:
                messages: list[bytes] = []
                ended = False
                if place == 0:
                    try:
                        messages = [remote.receive_message(PATIENCE)]
                    except bbipc.EndOfStreamError:
                        ended = True
                elif place == 1:
                    happened = bbipc.poll_socket(remote, AVAILABLE_OR_END, PATIENCE)
                    messages = remote.receive_messages(2)
                    ended = happened.end_of_data
                else:
                    for _, happened, some in poller.receive_messages(PATIENCE):
                        messages += some
                        ended = happened.end_of_data
                received[place] += map(check_numbered, messages)
                if ended and not messages:
                    return

    with eager_threads() if eager else contextlib.nullcontext():
        receivers = [Failing(partial(receive, place)) for place in range(4)]
        sending = [Failing(partial(send, sender)) for sender in range(senders)]
        for thread in sending:
            thread.join()
        stream.close()
        for thread in receivers:
            thread.join()
    everything = Counter(one for some in received for one in some)
    assert everything == Counter((sender, number) for sender in range(senders) for number in range(each))
    for some in received:
        for sender in range(senders):
            numbers = [number for one, number in some if one == sender]
            assert numbers == sorted(numbers)


def test_a_poller_with_messages_beside_a_thread_that_reads_bytes(transport: Transport, backend: str) -> None:
    """Every byte goes to one of them."""
    stream, remote = transport.pair()
    count, body = 3000, b"0123456789"
    read = 0
    over = threading.Event()

    def read_bytes() -> None:
        nonlocal read
        while not over.is_set():
            read += len(stream.read(3))
            time.sleep(0)

    with monitoring(stream, events=AVAILABLE, backend=backend) as poller:
        reading = Failing(read_bytes)
        sending = Failing(lambda: remote.send_messages([body] * count, PATIENCE))
        received = 0
        give_up_at = time.perf_counter() + PATIENCE
        # Where messages begin, nobody knows any more: only the number of bytes is certain.
        while sending.is_alive() or received + read < count * (4 + len(body)):
            assert time.perf_counter() < give_up_at
            for one, _, messages in poller.receive_messages(0.01):
                assert one is stream
                received += sum(4 + len(data) for data in messages)
                if not messages:
                    received += len(stream.read(1))
        over.set()
        reading.join()
        sending.join()
    assert received + read == count * (4 + len(body))


@pytest.mark.parametrize("wait", ["receive_message", "messages", "read_until", "poll_socket"])
def test_closing_ends_the_waits_of_receivers(transport: Transport, wait: str) -> None:
    stream, remote = transport.pair()
    remote.write_all(short(11) + b"half", PATIENCE)
    waits: dict[str, Callable[[], object]] = {
        "receive_message": stream.receive_message,
        "messages": lambda: list(stream.messages()),
        "read_until": partial(stream.read_until, b"\n"),
        "poll_socket": partial(bbipc.poll_socket, stream, AVAILABLE),
    }
    waiting = Waiting(waits[wait])
    stream.close()
    with pytest.raises(bbipc.SocketClosedError):
        waiting.result()


@pytest.mark.parametrize("wait", ["send_message", "send_messages", "drain"])
def test_closing_ends_the_waits_of_senders(transport: Transport, wait: str) -> None:
    stream, _ = transport.pair()
    if wait == "drain":
        with pytest.raises(bbipc.TimeoutError):
            stream.send_message(bytes(LARGE), 0)
    waits: dict[str, Callable[[], object]] = {
        "send_message": partial(stream.send_message, bytes(LARGE)),
        "send_messages": partial(stream.send_messages, [bytes(LARGE)] * 3),
        "drain": stream.drain,
    }
    waiting = Waiting(waits[wait])
    with warned_of_the_rest(stream):
        stream.close()
    with pytest.raises(bbipc.SocketClosedError):
        waiting.result()


@pytest.mark.parametrize("events", [Events(), AVAILABLE, SPACE])
def test_a_sender_that_waits_while_a_poller_has_the_stream(transport: Transport, backend: str, events: Events) -> None:
    """Both of them send the rest, and each byte goes once."""
    stream, remote = transport.pair()
    remote.max_message_size = LARGE
    over = threading.Event()
    with monitoring(stream, events=events, backend=backend) as poller:

        def wait() -> None:
            while not over.is_set():
                poller.wait_for_events(PATIENCE)

        waiting = Failing(wait)
        for size in (LARGE, 1, 300_000):
            sending = Failing(partial(stream.send_message, pattern(1, size), PATIENCE))
            assert remote.receive_message(PATIENCE) == pattern(1, size)
            sending.join()
        over.set()
        poller.wake()
        waiting.join()


def test_a_wake_ends_receive_messages(poller: Poller) -> None:
    waiting = Waiting(poller.receive_messages)
    poller.wake()
    assert waiting.result() == []


def test_closing_the_poller_ends_receive_messages(transport: Transport, backend: str) -> None:
    stream, remote = transport.pair()
    poller = monitoring(stream, events=AVAILABLE, backend=backend)
    waiting = Waiting(poller.receive_messages)
    poller.close()
    with pytest.raises(bbipc.PollerClosedError, match="cannot receive messages"):
        waiting.result()
    remote.send_message(b"x")
    assert stream.receive_message(PATIENCE) == b"x"


def test_a_closed_stream_can_do_nothing(transport: Transport) -> None:
    stream, _ = transport.pair()
    stream.close()
    calls: list[Callable[[], object]] = [
        *(partial(stream.send_message, b"x"), partial(stream.send_messages, [b"x"]), partial(stream.send_messages, [])),
        *(stream.drain, stream.receive_message, stream.receive_messages, lambda: list(stream.messages())),
        *(partial(stream.read_until, b"x"), stream.message_available, stream.message_space),
        *(lambda: stream.max_message_size, lambda: setattr(stream, "max_message_size", 1)),
    ]
    for call in calls:
        with pytest.raises(bbipc.SocketClosedError):
            call()


# ---- Signals ----


class HandlerError(Exception):
    """What the handler raises."""


#: The signal of these tests.
NUMBER = signal.SIGBREAK if sys.platform == "win32" else signal.SIGUSR1


@contextlib.contextmanager
def interrupted_when_asleep() -> Iterator[None]:
    """A handler of a signal raises once this thread waits."""
    this, this_native = threading.get_ident(), threading.get_native_id()

    def interrupt() -> None:
        until_asleep(os.getpid(), this_native)
        signal.pthread_kill(this, NUMBER)

    def handler(_number: int, _frame: object) -> None:
        raise HandlerError

    before = signal.signal(NUMBER, handler)
    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    try:
        with pytest.raises(HandlerError):
            yield
    finally:
        thread.join()
        signal.signal(NUMBER, before)


needs_signals = pytest.mark.skipif(WINDOWS, reason="Windows has no signals for one thread")


@needs_signals
@pytest.mark.parametrize("wait", ["receive_message", "messages", "read_until", "poll_socket", *BACKENDS])
def test_a_receiver_that_is_interrupted_loses_nothing(transport: Transport, wait: str) -> None:
    stream, remote = transport.pair()
    with monitoring(stream, events=AVAILABLE, backend=wait if wait in BACKENDS else None) as poller:
        waits: dict[str, Callable[[], object]] = {
            "receive_message": stream.receive_message,
            "messages": lambda: list(stream.messages()),
            "read_until": partial(stream.read_until, b"\n"),
            "poll_socket": partial(bbipc.poll_socket, stream, AVAILABLE),
        }
        wire = framed(b"whole")
        for cut in range(len(wire)):
            remote.write_all(wire[:cut], PATIENCE)
            with interrupted_when_asleep():
                waits.get(wait, poller.receive_messages)()
            remote.write_all(wire[cut:], PATIENCE)
            assert stream.receive_message(PATIENCE) == b"whole"
            assert not stream.data_available()


@needs_signals
@pytest.mark.parametrize("wait", ["send_message", "send_messages", "drain"])
def test_a_sender_that_is_interrupted_sends_nothing_twice(transport: Transport, wait: str) -> None:
    """The message that had begun goes out, as after a timeout; none of those behind it does."""
    stream, remote = transport.pair()
    remote.max_message_size = LARGE
    body = pattern(3, LARGE)
    if wait == "drain":
        with pytest.raises(bbipc.TimeoutError):
            stream.send_message(body, 0)
    with interrupted_when_asleep():
        if wait == "drain":
            stream.drain()
        elif wait == "send_message":
            stream.send_message(body)
        else:
            stream.send_messages([b"first", body, b"never"])
    gc.collect()
    draining = Failing(partial(stream.drain, PATIENCE))
    if wait == "send_messages":
        assert remote.receive_message(PATIENCE) == b"first"
    assert remote.receive_message(PATIENCE) == body
    draining.join()
    stream.send_message(b"next", PATIENCE)
    assert remote.receive_message(PATIENCE) == b"next"


@needs_signals
def test_signals_that_raise_nothing_disturb_nothing(transport: Transport) -> None:
    stream, remote = transport.pair()
    this = threading.get_ident()
    over = threading.Event()
    handled = 0

    def handler(_number: int, _frame: object) -> None:
        nonlocal handled
        handled += 1

    def disturb() -> None:
        while not over.is_set():
            signal.pthread_kill(this, NUMBER)
            time.sleep(0.0003)

    def answer() -> None:
        for data in remote.messages(PATIENCE):
            remote.send_message(data, PATIENCE)

    before = signal.signal(NUMBER, handler)
    threads = [Failing(answer), Failing(disturb)]
    try:
        for number in range(300):
            body = pattern(number, 1 + number * 997)
            stream.send_message(body, PATIENCE)
            assert stream.receive_message(PATIENCE) == body
    finally:
        over.set()
        threads[1].join()
        signal.signal(NUMBER, before)
    stream.close()
    threads[0].join()
    assert handled


@needs_signals
@pytest.mark.skipif(bbipc.calling_layer() == "ctypes", reason="a call of ctypes waits and takes in one")
@pytest.mark.parametrize("way", ["receive_message", "poller"])
def test_handlers_that_raise_at_any_moment_take_no_message_with_them(transport: Transport, way: str) -> None:
    """Or hardly any: one that raises behind the last look of the call does, whatever is called."""
    stream, remote = transport.pair()
    this = threading.get_ident()
    over = threading.Event()
    generator = random.Random(1)
    #: Else it would raise in the test itself, or in what runs the test.
    may_raise = False

    def handler(_number: int, _frame: object) -> None:
        nonlocal may_raise
        if may_raise:
            may_raise = False
            raise HandlerError

    def disturb() -> None:
        while not over.is_set():
            time.sleep(generator.random() * 0.002)
            signal.pthread_kill(this, NUMBER)

    def send() -> None:
        for number in range(1500):
            remote.send_message(b"%d" % number, PATIENCE)
            if number % 3 == 0:
                time.sleep(0.0002)
        remote.send_message(b"last", PATIENCE)

    received: list[bytes] = []
    raised = 0
    before = signal.signal(NUMBER, handler)
    threads = [Failing(send), Failing(disturb)]
    with monitoring(stream, events=AVAILABLE) as poller:
        while not (received and received[-1] == b"last"):
            try:
                may_raise = True
                if way == "receive_message":
                    received.append(stream.receive_message(PATIENCE))
                else:
                    for _, _, messages in poller.receive_messages(PATIENCE):
                        received += messages
                may_raise = False
            except HandlerError:  # noqa: PERF203
                raised += 1
        over.set()
        for thread in threads:
            thread.join()
        signal.signal(NUMBER, before)
    assert len(set(received)) == len(received)
    assert raised
    assert (1501 - len(received)) * 20 <= raised


# ---- Streams that do not stand yet, or never will ----


def test_nothing_is_accepted_before_the_connection_stands(transport: Transport) -> None:
    """And what is sent meanwhile by a call that waits arrives."""
    server = transport.make_server()
    stream = transport.connect(server)
    sending = Failing(partial(stream.send_message, b"hello", PATIENCE))
    remote = transport.accept(server)
    assert remote.receive_message(PATIENCE) == b"hello"
    sending.join()


def test_a_connection_that_is_refused_is_an_error_of_every_call(backend: str) -> None:
    with bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 0) as server:
        port = server.port
    with bbipc.connect_to_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, port) as stream, bbipc.make_poller(backend) as poller:
        poller.monitor_socket(stream, AVAILABLE_OR_END)
        calls: list[Callable[[], object]] = [
            *(partial(stream.receive_message, PATIENCE), stream.receive_messages, partial(stream.read_until, b"x")),
            *(partial(stream.send_message, b"x", PATIENCE), partial(stream.send_messages, [b"x"] * 2, PATIENCE)),
            lambda: list(stream.messages(PATIENCE)),
        ]
        for call in calls:
            with pytest.raises(bbipc.SocketError) as raised:
                call()
            assert raised.value.errno == errno.ECONNREFUSED
        ((_, error),) = bbipc.send_messages([(stream, b"x")])
        assert isinstance(error, bbipc.SocketError)
        assert error.errno == errno.ECONNREFUSED
        assert not stream.message_available()
        assert not stream.message_space()
        assert poller.receive_messages(PATIENCE) == [(stream, Events.END_OF_DATA, [])]


def test_servers_have_no_messages(transport: Transport, poller: Poller) -> None:
    server: Any = transport.make_server()
    for event in (AVAILABLE, SPACE):
        with pytest.raises(ValueError, match="can't have"):
            poller.monitor_socket(server, event)
        with pytest.raises(ValueError, match="can't have"):
            bbipc.poll_socket(server, event, 0)
    with pytest.raises(TypeError):
        bbipc.send_messages([(server, b"x")])
    poller.monitor_socket(server, Events.CONNECTION_AVAILABLE)
    transport.connect(server)
    assert poller.receive_messages(PATIENCE) == [(server, Events.CONNECTION_AVAILABLE, [])]


# ---- Programs that do odd things meanwhile ----


def test_messages_from_an_iterator_that_fails_or_closes(transport: Transport) -> None:
    stream, remote = transport.pair()

    def failing() -> Iterator[bytes]:
        yield b"never sent"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stream.send_messages(failing(), PATIENCE)
    stream.send_message(b"first", PATIENCE)
    assert remote.receive_message(PATIENCE) == b"first"

    def closing() -> Iterator[bytes]:
        yield b"never sent"
        stream.close()

    with pytest.raises(bbipc.SocketClosedError):
        stream.send_messages(closing(), PATIENCE)
    assert list(remote.messages(PATIENCE)) == []


def test_a_view_that_is_released(transport: Transport) -> None:
    stream, remote = transport.pair()
    view = memoryview(b"released")
    view.release()
    for send in (
        lambda: stream.send_message(view, PATIENCE),
        lambda: stream.send_messages([b"good", view], PATIENCE),
        lambda: bbipc.send_messages([(stream, b"good"), (stream, view)]),
    ):
        with pytest.raises(ValueError, match="released"):
            send()
    stream.send_message(b"first", PATIENCE)
    assert remote.receive_message(PATIENCE) == b"first"


def test_a_buffer_can_be_resized_after_the_call(transport: Transport) -> None:
    """Nothing of it is held, whatever the call has come to."""
    stream, _ = transport.pair()
    data = bytearray(LARGE)
    with pytest.raises(bbipc.TimeoutError):
        stream.send_message(data, 0.01)
    data += b"x"
    with pytest.raises(bbipc.TimeoutError):
        stream.send_message(data, 0)
    data.clear()
    with warned_of_the_rest(stream):
        stream.close()


def test_many_streams_with_messages_have_their_turns(backend: str, transport: Transport) -> None:
    """A stream that always has messages keeps no other from its turn."""
    pairs = [transport.pair() for _ in range(20)]
    streams = [stream for stream, _ in pairs]
    busy, busy_remote = pairs[0]
    over = threading.Event()

    def keep_busy() -> None:
        while not over.is_set():
            busy_remote.send_messages([b"busy"] * 100, PATIENCE)

    with monitoring(*streams, events=AVAILABLE, backend=backend) as poller:
        sending = Failing(keep_busy)
        try:
            for stream, remote in pairs[1:]:
                remote.send_message(b"once", PATIENCE)
                give_up_at = time.perf_counter() + PATIENCE
                while all(one is not stream for one, _, _ in poller.receive_messages(PATIENCE)):
                    assert time.perf_counter() < give_up_at
        finally:
            over.set()
            while sending.is_alive():
                busy.read()
            sending.join()


def test_messages_among_pollers_that_share_a_stream(transport: Transport) -> None:
    """Each message comes to one of them, and none sleeps on one."""
    stream, remote = transport.pair()
    count = 2000
    received: Counter[bytes] = Counter()
    left = threading.Semaphore(0)
    over = threading.Event()

    def receive(backend: str) -> None:
        with monitoring(stream, events=AVAILABLE, backend=backend) as poller:
            while not over.is_set():
                for _, _, messages in poller.receive_messages(0.05):
                    received.update(messages)
                    for _ in messages:
                        left.release()

    threads = [Failing(partial(receive, backend)) for backend in BACKENDS * 2]
    for first in range(0, count, 10):
        remote.send_messages([b"%d" % number for number in range(first, first + 10)], PATIENCE)
        for _ in range(10):
            assert left.acquire(timeout=PATIENCE), "a message is lost"
    over.set()
    for thread in threads:
        thread.join()
    assert received == Counter(b"%d" % number for number in range(count))


CLOSES_WITH_A_REST = """
import bbipc
import sys
from bbipc import Events
server = bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 0)
stream = bbipc.connect_to_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, server.port)
bbipc.poll_socket(stream, Events.CONNECTION_SUCCEEDED)
try:
    stream.send_message(bytes(1 << 23), 0)
except bbipc.TimeoutError:
    pass
stream.close()
server.close()
"""


def test_a_script_that_closes_with_a_rest_is_warned(tmp_path: Path, processes: Processes) -> None:
    """A script's module belongs to no package, and says so with None."""
    script = tmp_path / "script.py"
    script.write_text(CLOSES_WITH_A_REST, encoding="utf-8")
    finished = processes.run([sys.executable, "-Walways", str(script)])
    assert (finished.returncode, finished.stdout) == (0, "")
    first, line = finished.stderr.splitlines()
    assert first.startswith(f"{script}:12: ResourceWarning: a Ipv4TcpStream was closed with ")
    assert line.strip() == "stream.close()"


def test_a_stream_closes_while_others_send_what_it_was_lent(transport: Transport) -> None:
    """Whoever still sends the rest of a message never reads memory that its sender has taken back."""
    # Wine takes more than a second each.
    for number in range(3 if WINDOWS else 30):
        stream, remote = transport.pair()

        def send(stream: StreamSocket = stream) -> None:
            with contextlib.suppress(bbipc.BbipcError):
                stream.send_message(bytes(LARGE))

        def drain(stream: StreamSocket = stream) -> None:
            with contextlib.suppress(bbipc.BbipcError):
                while True:
                    bbipc.poll_socket(stream, AVAILABLE, 0.001)

        def read(remote: StreamSocket = remote) -> None:
            with contextlib.suppress(bbipc.BbipcError):
                while remote.read_exactly(1000, PATIENCE) in (bytes(1000), short(LARGE) + bytes(996)):
                    pass
                raise AssertionError("other bytes come")

        threads = [Failing(send), Failing(drain), Failing(drain), Failing(read)]
        time.sleep(number * 0.0002)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            stream.close()
        for thread in threads:
            thread.join()
