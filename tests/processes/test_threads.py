"""Any call from any thread, and what one thread's calls do to the waits of others."""

from __future__ import annotations

import contextlib
import errno
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

import bbipc
from bbipc import Events, Socket, StreamSocket
from patience import PATIENCE, least_of_three
from peer import MANY, REST_IS_LEFT, STREAM_WAITS, Pattern
from readiness import TELLS_ENDS_LATE, needs_half_close
from systems import BACKLOG_MAX, WINDOWS
from threads import PROMPTLY, Failing, Waiting
from transports import Transport, monitoring

# ---- Closing what another thread waits for ----


@pytest.mark.filterwarnings(REST_IS_LEFT)
@pytest.mark.parametrize("timeout", [None, PATIENCE])
@pytest.mark.parametrize("name", STREAM_WAITS)
def test_closing_a_stream_ends_another_threads_wait(transport: Transport, name: str, timeout: float | None) -> None:
    stream, _ = transport.pair()
    waiting = Waiting(partial(STREAM_WAITS[name], stream, timeout))
    stream.close()
    with pytest.raises(bbipc.SocketClosedError) as caught:
        waiting.result()
    assert caught.value.socket is stream
    assert caught.value.errno == errno.EBADF


def test_closing_a_server_ends_another_threads_wait(transport: Transport) -> None:
    server = transport.make_server()
    waiting = Waiting(lambda: bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE))
    server.close()
    with pytest.raises(bbipc.SocketClosedError):
        waiting.result()


@pytest.mark.parametrize("position", [0, MANY // 2, MANY - 1])
def test_closing_one_of_many_ends_poll_sockets_and_is_named(transport: Transport, position: int) -> None:
    server = transport.make_server()
    streams = [transport.connect(server) for _ in range(MANY)]
    waiting = Waiting(lambda: bbipc.poll_sockets(streams, Events.DATA_AVAILABLE))
    streams[position].close()
    with pytest.raises(bbipc.SocketClosedError) as caught:
        waiting.result()
    assert caught.value.socket is streams[position]


@pytest.mark.filterwarnings(REST_IS_LEFT)
def test_every_wait_for_a_closed_stream_ends(transport: Transport) -> None:
    stream, _ = transport.pair()
    waits = [Waiting(partial(wait, stream, None)) for wait in list(STREAM_WAITS.values()) * 3]
    stream.close()
    for waiting in waits:
        with pytest.raises(bbipc.SocketClosedError):
            waiting.result()


@pytest.mark.parametrize("threads", [1, 4])
def test_closing_a_poller_ends_other_threads_waits(transport: Transport, backend: str, threads: int) -> None:
    stream, _ = transport.pair()
    poller = monitoring(stream, events=Events.DATA_AVAILABLE, backend=backend)
    waits = [Waiting(poller.wait_for_events) for _ in range(threads)]
    poller.close()
    for waiting in waits:
        with pytest.raises(bbipc.PollerClosedError):
            waiting.result()
    assert not stream.data_available()


@pytest.mark.parametrize("threads", [1, 4])
def test_closing_a_monitored_socket_ends_waits_with_nothing(transport: Transport, backend: str, threads: int) -> None:
    server = transport.make_server()
    stream, other = transport.connect(server), transport.connect(server)
    with monitoring(stream, other, events=Events.DATA_AVAILABLE, backend=backend) as poller:
        waits = [Waiting(poller.wait_for_events) for _ in range(threads)]
        stream.close()
        assert [waiting.result() for waiting in waits] == [[]] * threads
        assert poller.monitored_sockets() == [other]


def test_closing_another_socket_disturbs_no_wait(transport: Transport) -> None:
    """A wait that was woken for another socket went on by looking now and then, up to 50 ms late and for ever."""
    streams = [transport.pair() for _ in range(6)]
    waits = [Waiting(partial(bbipc.poll_socket, end, Events.DATA_AVAILABLE)) for end, _ in streams]
    for _ in range(10):
        closed, _ = transport.pair()
        ended = Waiting(partial(bbipc.poll_socket, closed, Events.DATA_AVAILABLE))
        closed.close()
        with pytest.raises(bbipc.SocketClosedError):
            ended.result()
    assert all(waiting.waits for waiting in waits)

    def work() -> float:
        began = time.process_time()
        assert not bbipc.poll_sockets([], [], 0.3)
        return time.process_time() - began

    # A single thread that spins takes more than 0.3; a busy machine makes little of it look like much.
    assert least_of_three(work, 0.1) < 0.1
    delays = []
    for (_, remote), waiting in zip(streams, waits):
        written_at = time.perf_counter()
        remote.write(b"!")
        assert waiting.result() == Events.DATA_AVAILABLE
        delays.append(waiting.ended_at - written_at)
    # One of them may be held up by other work of the machine.
    assert sorted(delays)[len(delays) // 2] < 0.01


def test_a_descriptor_outlives_the_waits_for_it(transport: Transport) -> None:
    """If its number were free at once, a new stream would get it, and the waiting thread that stream's bytes."""
    for _ in range(20):
        stream, _ = transport.pair()
        waits = [Waiting(partial(bbipc.poll_socket, stream, Events.DATA_AVAILABLE)) for _ in range(2)]
        stream.close()
        _, remote = transport.pair()
        remote.write(b"!")
        for waiting in waits:
            with pytest.raises(bbipc.SocketClosedError):
                waiting.result()


def test_finishing_to_write_ends_another_threads_write_all(transport: Transport) -> None:
    """write_all can't write the rest (a write says EPIPE), but it waited for as long as the remote end lived."""
    needs_half_close(transport)
    stream, _ = transport.pair()
    waiting = Waiting(lambda: stream.write_all(bytes(64 << 20)))
    stream.finish_writing()
    with pytest.raises(bbipc.SocketError) as caught:
        waiting.result()
    assert caught.value.errno == errno.EPIPE


# ---- Changing what another thread waits for ----


def test_a_socket_monitored_meanwhile_is_reported(transport: Transport, backend: str) -> None:
    stream, remote = transport.pair()
    with bbipc.make_poller(backend) as poller:
        waiting = Waiting(poller.wait_for_events)
        poller.monitor_socket(stream, Events.DATA_AVAILABLE)
        assert waiting.waits
        remote.write(b"!")
        assert waiting.result() == [(stream, Events.DATA_AVAILABLE)]


@pytest.mark.parametrize("event", [Events.READY_TO_WRITE, Events.CONNECTION_SUCCEEDED, Events.DETERMINED])
def test_an_event_that_holds_already_is_reported_at_once(transport: Transport, backend: str, event: Events) -> None:
    stream, other = transport.pair()
    with monitoring(other, events=Events.DATA_AVAILABLE, backend=backend) as poller:
        waiting = Waiting(poller.wait_for_events)
        poller.monitor_socket(stream, event)
        assert waiting.result() == [(stream, event)]

        poller.set_monitored_events(stream, Events.DATA_AVAILABLE)
        waiting = Waiting(poller.wait_for_events)
        poller.set_monitored_events(stream, event | Events.DATA_AVAILABLE)
        assert waiting.result() == [(stream, event)]


def test_events_that_are_no_longer_monitored_are_not_reported(transport: Transport, backend: str) -> None:
    stream, remote = transport.pair()
    other, other_remote = transport.pair()
    with monitoring(stream, other, events=Events.DATA_AVAILABLE, backend=backend) as poller:
        waiting = Waiting(poller.wait_for_events)
        poller.set_monitored_events(stream, Events())
        remote.write(b"!")
        other_remote.write(b"!")
        assert waiting.result() == [(other, Events.DATA_AVAILABLE)]

        other.read()
        poller.set_monitored_events(stream, Events.REMOTE_DISCONNECTED)
        waiting = Waiting(poller.wait_for_events)
        poller.unmonitor_socket(stream)
        remote.close()
        other_remote.write(b"!")
        assert waiting.result() == [(other, Events.DATA_AVAILABLE)]


def test_a_connection_that_another_thread_determines_is_reported(transport: Transport, backend: str) -> None:
    server = transport.make_server()
    stream = transport.connect(server)
    with monitoring(stream, events=Events.CONNECTION_FAILED, backend=backend) as poller:
        assert bbipc.poll_socket(stream, Events.CONNECTION_SUCCEEDED, PATIENCE)
        waiting = Waiting(poller.wait_for_events)
        transport.accept(server).close()
        assert waiting.result() == [(stream, Events.CONNECTION_FAILED)]


def test_an_end_that_another_thread_reads_to_is_reported(transport: Transport, backend: str) -> None:
    stream, remote = transport.pair()
    remote.write(b"unread")
    remote.close()
    known = Events.DATA_AVAILABLE if TELLS_ENDS_LATE else Events.REMOTE_DISCONNECTED
    assert bbipc.poll_socket(stream, known, PATIENCE)
    with monitoring(stream, events=Events.END_OF_DATA, backend=backend) as poller:
        waits = [
            Waiting(poller.wait_for_events),
            Waiting(lambda: bbipc.poll_socket(stream, Events.END_OF_DATA)),
        ]
        assert stream.read() == b"unread"
        assert [waiting.result() for waiting in waits] == [[(stream, Events.END_OF_DATA)], Events.END_OF_DATA]


# ---- Waking ----


def test_every_wake_ends_a_wait(backend: str) -> None:
    """Eight threads wake one that waits: after each wake a wait ends, or has ended since."""
    wakers_count, wakes_each = 8, 100
    ended = 0
    changed = threading.Condition()
    over = threading.Event()

    with bbipc.make_poller(backend) as poller:

        def wait() -> None:
            nonlocal ended
            while not over.is_set():
                assert poller.wait_for_events() == []
                with changed:
                    ended += 1
                    changed.notify_all()

        def has_ended_since(before: int) -> bool:
            return ended > before

        def wake() -> None:
            for _ in range(wakes_each):
                with changed:
                    before = ended
                    poller.wake()
                    assert changed.wait_for(partial(has_ended_since, before), PATIENCE), "a wake was lost"

        waiting = Waiting(wait)
        wakers = [Failing(wake) for _ in range(wakers_count)]
        for waker in wakers:
            waker.join()
        over.set()
        poller.wake()
        waiting.result()
        assert ended <= wakers_count * wakes_each + 1


def test_a_wake_before_the_wait_ends_the_next_and_no_other(backend: str) -> None:
    with bbipc.make_poller(backend) as poller:
        poller.wake()
        poller.wake()
        assert poller.wait_for_events(PATIENCE) == []
        began = time.perf_counter()
        assert poller.wait_for_events(0.05) == []
        assert time.perf_counter() - began >= 0.05


def test_a_wake_ends_one_of_several_waits(backend: str) -> None:
    with bbipc.make_poller(backend) as poller:
        waits = [Waiting(poller.wait_for_events) for _ in range(4)]
        for still_waiting in (3, 2, 1, 0):
            poller.wake()
            give_up_at = time.perf_counter() + PROMPTLY
            while sum(waiting.waits for waiting in waits) > still_waiting:
                assert time.perf_counter() < give_up_at, "the wake ended no wait"
                time.sleep(0.001)
            assert sum(waiting.waits for waiting in waits) == still_waiting
        assert [waiting.result() for waiting in waits] == [[]] * 4


# ---- Several threads with one poller ----


def test_threads_share_a_poller_and_its_streams(transport: Transport, backend: str) -> None:
    """Every byte is read once, by one of them, whoever is told of it."""
    streams = [transport.pair() for _ in range(8)]
    size_each = 20_000
    received: dict[StreamSocket, list[bytes]] = {stream: [] for stream, _ in streams}
    left = len(streams) * size_each
    lock = threading.Lock()
    done = threading.Event()

    with bbipc.make_poller(backend) as poller:
        for stream, _ in streams:
            poller.monitor_socket(stream, Events.DATA_AVAILABLE)

        def serve() -> None:
            nonlocal left
            while not done.is_set():
                for stream, events in poller.wait_for_events(PATIENCE):
                    assert events == Events.DATA_AVAILABLE
                    assert isinstance(stream, StreamSocket)
                    with lock:
                        data = stream.read(997)
                        received[stream].append(data)
                        left -= len(data)
                        if left == 0:
                            done.set()
            # For the next to look.
            poller.wake()

        servers = [Failing(serve) for _ in range(4)]
        for number, (_, remote) in enumerate(streams):
            remote.write_all(Pattern(number).at(0, size_each), PATIENCE)
        assert done.wait(PATIENCE)
        poller.wake()
        for server in servers:
            server.join()
    for number, (stream, _) in enumerate(streams):
        assert b"".join(received[stream]) == Pattern(number).at(0, size_each)


def test_no_wait_reports_a_socket_twice(backend: str, directory: Path) -> None:
    """More sockets than one wait takes in a go, and several threads that wait."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(bbipc.make_local_server(str(directory / "s"), backlog=1024))
        streams: list[StreamSocket] = []
        while len(streams) < 600:
            streams.append(stack.enter_context(bbipc.connect_to_local_server(server.local_pathname)))
            if len(streams) % BACKLOG_MAX == 0:
                for _ in range(BACKLOG_MAX):
                    stack.enter_context(server.accept_connection())
        poller = stack.enter_context(monitoring(*streams, events=Events.CONNECTION_SUCCEEDED, backend=backend))
        seen: set[Socket] = set()

        def wait() -> None:
            # The system is asked about each socket that is reported: on Windows about pipes, where Wine takes long to
            # answer. A system call of a program for i686 (int 0x80) can take ten times as long as others.
            for _ in range(50 if WINDOWS or sys.maxsize < 2**32 else 200):
                reported = [stream for stream, _ in poller.wait_for_events(PATIENCE)]
                assert len(reported) == len(set(reported)), "a socket is reported twice"
                seen.update(reported)

        for thread in [Failing(wait) for _ in range(4)]:
            thread.join()
        assert seen == set(streams)
