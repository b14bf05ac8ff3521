"""Any call from any thread, and what one thread's calls do to the waits of others."""

from __future__ import annotations

import contextlib
import errno
import gc
import inspect
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import bbipc
from bbipc import Events, Poller, Socket, StreamServer, StreamSocket
from bbipc._native import calls
from bbipc._native.declarations import open_handles
from conftest import PATIENCE, WINDOWS, Transport, fill
from patience import least_of_three
from peer import MANY, STREAM_WAITS, WAITS, Pattern, eager_threads, read_piece, write_piece
from readiness import TELLS_ENDS_LATE, needs_half_close
from systems import BACKENDS, BACKLOG_MAX
from threads import PROMPTLY, Failing, Waiting


def monitoring(*sockets: Socket, events: Events, backend: str | None = None) -> Poller:
    poller = bbipc.make_poller(backend)
    for socket in sockets:
        poller.monitor_socket(socket, events)
    return poller


# ---- Closing what another thread waits for ----


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
    """A wait that was woken for another's sake went on by looking now and then, up to 50 ms late and for ever."""
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
    """Were its number free at once, a new stream would get it, and the waiting thread that stream's bytes."""
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
    """It can't write the rest any more (a write says EPIPE), but waited for as long as the remote end lived."""
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


# ---- Interleavings ----
#
# A thread is stopped at every instruction of bbipc's Python code in turn, and another call is made there: by another
# thread, or in the same one as a signal handler would. CPython with a GIL switches threads at some of these places
# only; which, changes from version to version, and without a GIL it is all of them.

PACKAGE = os.path.dirname(bbipc.__file__)


class Stopping(threading.Thread):
    """Does something, and something else when it comes to its instruction (or line) number `at` in bbipc."""

    def __init__(
        self, work: Callable[[], object], at: int, meanwhile: Callable[[], object], unit: str = "opcode"
    ) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._unit = unit
        self._units_left = at
        self._meanwhile = meanwhile
        self.stopped = False
        self.error: BaseException | None = None
        self.start()
        self.join(PATIENCE)
        assert not self.is_alive(), "the thread hangs"

    def run(self) -> None:
        # Python 3.12 traces instructions only where somebody wished for it before.
        sys._getframe().f_trace_opcodes = self._unit == "opcode"
        sys.settrace(self._trace)
        try:
            self._work()
        except BaseException as error:
            self.error = error
        finally:
            sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, _argument: object) -> Any:
        # Finalizers run in whichever thread happens to collect, and have nothing to do with its work.
        if not frame.f_code.co_filename.startswith(PACKAGE) or frame.f_code.co_name == "__del__":
            return None
        frame.f_trace_opcodes = self._unit == "opcode"
        if event == self._unit:
            self._units_left -= 1
            if self._units_left == 0:
                self.stopped = True
                self._meanwhile()
        return self._trace


class Scene:
    """What the interleaved calls are made on. Everything is new for every interleaving."""

    def __init__(self, directory: Path) -> None:
        # On Windows a server has a pipe for each client that it has room for, and of scenes there are thousands.
        self.server = bbipc.make_local_server(str(directory / "s"), backlog=2)
        self.stream = bbipc.connect_to_local_server(self.server.local_pathname)
        self.remote = self.server.accept_connection()
        self.client = bbipc.connect_to_local_server(self.server.local_pathname)
        self.poller = bbipc.make_poller()
        self.other_poller = bbipc.make_poller()
        self.accepted: list[StreamSocket] = []
        self.received: list[bytes] = []

    def monitor(self) -> None:
        self.poller.monitor_socket(self.stream, Events.WRITE_SPACE)

    def monitor_elsewhere(self) -> None:
        self.other_poller.monitor_socket(self.stream, Events.WRITE_SPACE)

    def unmonitor(self) -> None:
        self.poller.unmonitor_socket(self.stream)

    def change(self) -> None:
        self.poller.set_monitored_events(self.stream, Events.WRITE_SPACE | Events.DATA_AVAILABLE)

    def wait(self) -> None:
        result = self.poller.wait_for_events(0)
        assert len({socket for socket, _ in result}) == len(result)

    def close_stream(self) -> None:
        self.stream.close()
        assert self.stream.closed

    def close_poller(self) -> None:
        self.poller.close()
        assert self.poller.closed

    def accept(self) -> None:
        self.accepted.append(self.server.accept_connection())

    def write(self) -> None:
        self.stream.write(b"bytes")

    def read(self) -> None:
        self.received.append(self.remote.read(3))

    def read_exactly(self) -> None:
        self.received.append(self.remote.read_exactly(3, 0))

    def read_much(self) -> None:
        self.received.append(self.remote.read(200_000))

    def read_into_bytearray(self) -> None:
        self._read_into(bytearray(5))

    def read_into_view(self) -> None:
        self._read_into(memoryview(bytearray(5)))

    def _read_into(self, buffer: bytearray | memoryview) -> None:
        size = self.remote.read_into(buffer)
        self.received.append(bytes(buffer[:size]))

    def write_bytearray(self) -> None:
        self.stream.write(bytearray(b"bytes"))

    def write_view(self) -> None:
        self.stream.write(memoryview(b"bytes"))

    def write_all(self) -> None:
        self.stream.write_all(b"bytes", PATIENCE)

    def close_remote(self) -> None:
        self.remote.close()

    def poll(self) -> None:
        bbipc.poll_socket(self.stream, Events.WRITE_SPACE, 0)

    def poll_several(self) -> None:
        bbipc.poll_sockets([self.remote, self.stream, self.server], [Events.DATA_AVAILABLE] * 2 + [Events()], 0)

    def describe(self) -> None:
        assert repr(self.stream).startswith("<LocalStream")
        assert repr(self.poller).startswith("<Poller")

    def list_sockets(self) -> None:
        self.poller.monitored_sockets()

    def check(self) -> None:
        """Whatever came of the calls, everything agrees afterwards."""
        pollers = [poller for poller in (self.poller, self.other_poller) if not poller.closed]
        for poller in pollers:
            # What Python keeps and what the library monitors are the same.
            monitored = not self.stream.closed and bool(poller.monitored_events(self.stream))
            assert poller.monitored_sockets() == [self.stream] * monitored
            assert [socket for socket, _ in poller.wait_for_events(0)] == [self.stream] * monitored
        # Which of two calls read first can't be told from the order in which they return.
        in_order, reverse = b"".join(self.received), b"".join(self.received[::-1])
        assert b"bytes".startswith(in_order) or b"bytes".startswith(reverse)
        assert len(self.accepted) <= 1
        self.stream.close()
        for poller in pollers:
            assert poller.monitored_sockets() == []

    def close(self) -> None:
        sockets: list[Socket] = [self.server, self.stream, self.remote, self.client, *self.accepted]
        for socket in sockets:
            socket.close()
        for poller in (self.poller, self.other_poller):
            poller.close()


#: What is done before, what is interrupted, and what is done then.
INTERLEAVINGS: list[tuple[list[Callable[[Scene], None]], Callable[[Scene], None], Callable[[Scene], None]]] = [
    ([], Scene.monitor, Scene.monitor),
    ([], Scene.monitor, Scene.unmonitor),
    ([], Scene.monitor, Scene.wait),
    ([], Scene.monitor, Scene.close_stream),
    ([], Scene.monitor, Scene.close_poller),
    ([], Scene.monitor, Scene.monitor_elsewhere),
    ([Scene.monitor], Scene.unmonitor, Scene.unmonitor),
    ([Scene.monitor], Scene.unmonitor, Scene.monitor),
    ([Scene.monitor], Scene.unmonitor, Scene.monitor_elsewhere),
    ([Scene.monitor], Scene.unmonitor, Scene.close_stream),
    ([Scene.monitor], Scene.unmonitor, Scene.close_poller),
    ([Scene.monitor], Scene.change, Scene.unmonitor),
    ([Scene.monitor], Scene.change, Scene.close_stream),
    ([Scene.monitor], Scene.change, Scene.close_poller),
    ([Scene.monitor], Scene.wait, Scene.wait),
    ([Scene.monitor], Scene.wait, Scene.unmonitor),
    ([Scene.monitor], Scene.wait, Scene.close_stream),
    ([Scene.monitor], Scene.wait, Scene.close_poller),
    ([Scene.monitor], Scene.list_sockets, Scene.close_stream),
    ([Scene.monitor], Scene.list_sockets, Scene.close_poller),
    ([Scene.monitor, Scene.monitor_elsewhere], Scene.close_stream, Scene.close_stream),
    ([Scene.monitor], Scene.close_stream, Scene.close_poller),
    ([Scene.monitor], Scene.close_stream, Scene.unmonitor),
    ([], Scene.close_stream, Scene.monitor),
    ([Scene.monitor], Scene.close_poller, Scene.close_poller),
    ([Scene.monitor], Scene.close_poller, Scene.close_stream),
    ([Scene.monitor], Scene.close_poller, Scene.unmonitor),
    ([], Scene.close_poller, Scene.monitor),
    ([Scene.monitor], Scene.close_poller, Scene.monitor_elsewhere),
    ([], Scene.accept, Scene.accept),
    ([], Scene.write, Scene.close_stream),
    ([Scene.write], Scene.read, Scene.read),
    ([Scene.write], Scene.read, Scene.close_remote),
    ([Scene.write], Scene.read_exactly, Scene.close_remote),
    ([Scene.write], Scene.read_exactly, Scene.close_stream),
    ([Scene.write], Scene.read_much, Scene.read),
    ([Scene.write], Scene.read_into_bytearray, Scene.close_remote),
    ([Scene.write], Scene.read_into_view, Scene.close_remote),
    ([], Scene.write_bytearray, Scene.close_stream),
    ([], Scene.write_view, Scene.close_stream),
    ([], Scene.write_all, Scene.close_stream),
    ([], Scene.poll, Scene.close_stream),
    ([], Scene.poll_several, Scene.close_stream),
    ([Scene.monitor], Scene.describe, Scene.close_stream),
    ([Scene.monitor], Scene.describe, Scene.close_poller),
]

#: What a call may say when another came in between.
PERMITTED = (
    bbipc.AlreadyMonitoredError,
    bbipc.NotMonitoredError,
    bbipc.SocketClosedError,
    bbipc.PollerClosedError,
    bbipc.NoConnectionAvailableError,
)


class Interleaving:
    """One call that is interrupted at its instruction number `at`, and another that is made there."""

    def __init__(self, interrupted: Callable[[], None], then: Callable[[], None], at: int, by_a_thread: bool) -> None:
        self._then = then
        self._thread = threading.Thread(target=self._call, daemon=True)
        self._error: BaseException | None = None
        stopping = Stopping(interrupted, at, self._call_in_a_thread if by_a_thread else self._call)
        self.happened = stopping.stopped
        if self.happened and by_a_thread:
            self._thread.join(PATIENCE)
            assert not self._thread.is_alive(), "the call hangs"
        for error in (self._error, stopping.error):
            if error is not None and not isinstance(error, PERMITTED):
                raise AssertionError(f"at instruction {at}") from error

    def _call(self) -> None:
        try:
            self._then()
        except BaseException as error:
            self._error = error

    def _call_in_a_thread(self) -> None:
        self._thread.start()
        # It may have to wait for what is interrupted, and then comes after it.
        self._thread.join(0.2)


#: Where these are built-in methods, nothing comes into the middle of them.
BUILT_IN = (
    {
        Scene.read,
        Scene.read_much,
        Scene.read_exactly,
        Scene.read_into_bytearray,
        Scene.read_into_view,
        Scene.wait,
        Scene.write,
        Scene.write_all,
        Scene.write_bytearray,
        Scene.write_view,
    }
    if not inspect.isfunction(StreamSocket.write)
    else set()
)


def least_instructions(interrupted: Callable[[Scene], None], in_python: int) -> int:
    return 0 if interrupted in BUILT_IN else in_python


def interleaving_name(case: object) -> str | None:
    if isinstance(case, list):
        return " ".join(step.__name__ for step in case) or "nothing"
    return getattr(case, "__name__", None)


@pytest.mark.parametrize("by_a_thread", [True, False], ids=["thread", "signal handler"])
@pytest.mark.parametrize(("before", "interrupted", "then"), INTERLEAVINGS, ids=interleaving_name)
def test_a_call_that_comes_between(
    directory: Path,
    before: list[Callable[[Scene], None]],
    interrupted: Callable[[Scene], None],
    then: Callable[[Scene], None],
    by_a_thread: bool,
) -> None:
    handles_before = open_handles()
    for at in range(1, 10_000):
        scene = Scene(directory)
        try:
            for step in before:
                step(scene)
            interleaving = Interleaving(partial(interrupted, scene), partial(then, scene), at, by_a_thread)
            scene.check()
        finally:
            scene.close()
        assert open_handles() == handles_before
        if not interleaving.happened:
            assert at > least_instructions(interrupted, 10), "nothing was interrupted"
            return


INTERRUPTED: list[tuple[list[Callable[[Scene], None]], Callable[[Scene], None]]] = [
    ([Scene.write], Scene.read),
    ([Scene.write], Scene.read_much),
    ([Scene.write], Scene.read_into_view),
    ([Scene.write], Scene.read_exactly),
    ([], Scene.write),
    ([], Scene.write_view),
    ([], Scene.write_all),
    ([], Scene.monitor),
    ([Scene.monitor], Scene.unmonitor),
    ([Scene.monitor], Scene.change),
    ([Scene.monitor], Scene.wait),
    ([], Scene.poll),
    ([], Scene.poll_several),
    ([Scene.monitor], Scene.close_stream),
    ([Scene.monitor], Scene.close_poller),
]


@pytest.mark.parametrize(("before", "interrupted"), INTERRUPTED, ids=interleaving_name)
def test_a_call_that_is_interrupted_can_be_made_again(
    directory: Path, before: list[Callable[[Scene], None]], interrupted: Callable[[Scene], None]
) -> None:
    """Ctrl-C before any line of bbipc: nothing is lost but what the call was about to do."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    handles_before = open_handles()
    for at in range(1, 10_000):
        scene = Scene(directory)
        try:
            for step in before:
                step(scene)
            stopping = Stopping(partial(interrupted, scene), at, interrupt, "line")
            if not stopping.stopped:
                assert at > least_instructions(interrupted, 3), "nothing was interrupted"
                return
            assert type(stopping.error) is KeyboardInterrupt
            # It may have come to that already.
            with contextlib.suppress(bbipc.AlreadyMonitoredError, bbipc.TimeoutError):
                interrupted(scene)
            # Bytes that were read, but did not come to be returned, are lost.
            scene.received.clear()
            scene.check()
        finally:
            scene.close()
        assert open_handles() == handles_before, f"interrupted before line number {at}"


# ---- Descriptors that come and go ----


@eager_threads()
def test_no_bytes_arrive_at_another_stream(transport: Transport) -> None:
    """Streams that threads use are closed under them, and their descriptors' numbers taken by others at once."""
    server = transport.make_server(backlog=1024)
    over = time.perf_counter() + 2.0
    numbers = iter(range(1, 1 << 22))
    pairing = threading.Lock()
    in_use: dict[int, tuple[StreamSocket, StreamSocket]] = {}
    transferred = closed = 0

    def new_pair() -> tuple[int, StreamSocket, StreamSocket]:
        # One at a time, so that who connects is who is accepted.
        with pairing:
            connecting = connect(server)
            assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
            return next(numbers), connecting, server.accept_connection()

    def transfer() -> None:
        nonlocal transferred
        slot = threading.get_ident()
        while time.perf_counter() < over:
            number, sender, receiver = new_pair()
            pattern = Pattern(number)
            written = read = 0
            in_use[slot] = sender, receiver
            try:
                while time.perf_counter() < over:
                    written = write_piece(sender, pattern, written)
                    bbipc.poll_socket(receiver, Events.DATA_AVAILABLE | Events.END_OF_DATA, 0.1)
                    read = read_piece(receiver, pattern, read)
            except bbipc.SocketError as error:
                # Its own end was closed, or the other.
                if error.errno not in (errno.EBADF, errno.EPIPE, errno.ECONNRESET):
                    raise
            sender.close()
            receiver.close()
            transferred += read

    def close_others() -> None:
        nonlocal closed
        while time.perf_counter() < over:
            for pair in list(in_use.values()):
                pair[closed % 2].close()
                closed += 1
            # A little later, so that they come to transfer something.
            bbipc.poll_sockets([], [], 0.001)

    def take_numbers() -> None:
        """Opens and closes, and puts its own pattern where others' bytes must not be."""
        while time.perf_counter() < over:
            number, sender, receiver = new_pair()
            sender.write(Pattern(number).at(0, 800))
            with bbipc.make_poller() as poller:
                poller.monitor_socket(receiver, Events.DATA_AVAILABLE)
                assert poller.wait_for_events(PATIENCE) == [(receiver, Events.DATA_AVAILABLE)]
            read_piece(receiver, Pattern(number), 0)
            sender.close()
            receiver.close()

    works = [transfer, transfer, transfer, close_others, take_numbers, take_numbers]
    threads = [Failing(work) for work in works]
    for thread in threads:
        thread.join()
    assert transferred > 1 << 20
    assert closed > 20


def connect(server: StreamServer) -> StreamSocket:
    if isinstance(server, bbipc.Ipv4TcpServer):
        return bbipc.connect_to_ipv4_tcp_server(server.host_address, server.port)
    assert isinstance(server, bbipc.LocalServer)
    return bbipc.connect_to_local_server(server.local_pathname)


@pytest.mark.parametrize("backend", [*BACKENDS, None])
def test_threads_that_close_the_same(transport: Transport, backend: str | None) -> None:
    """Closing is done once, whoever does it."""
    for _ in range(50):
        stream, remote = transport.pair()
        poller = monitoring(stream, events=Events.DATA_AVAILABLE, backend=backend)
        start = threading.Barrier(4)

        def close(start: threading.Barrier = start, stream: StreamSocket = stream, poller: Poller = poller) -> None:
            start.wait(PATIENCE)
            stream.close()
            poller.close()

        threads = [Failing(close) for _ in range(4)]
        for thread in threads:
            thread.join()
        assert stream.closed
        assert poller.closed
        assert bbipc.poll_socket(remote, Events.REMOTE_DISCONNECTED, PATIENCE)


# ---- Time ----


@eager_threads()
def test_no_wait_ends_early_whatever_other_threads_do(transport: Transport) -> None:
    """Odd timeouts, to see that they are rounded up, while other threads' sockets come, go and are waited for."""
    stream, _ = transport.pair()
    full, _ = transport.pair()
    fill(full)
    over = threading.Event()

    def disturb() -> None:
        while not over.is_set():
            one, other = transport.pair()
            waiter = threading.Thread(target=wait_and_be_closed, args=(one,))
            waiter.start()
            one.close()
            waiter.join()
            other.close()

    def wait_and_be_closed(one: StreamSocket) -> None:
        with pytest.raises(bbipc.SocketClosedError):
            bbipc.poll_socket(one, Events.DATA_AVAILABLE)

    def poll_several(timeout: float) -> object:
        return any(bbipc.poll_sockets([stream] * MANY, Events.DATA_AVAILABLE, timeout))

    def wait_with(backend: str) -> Callable[[float], object]:
        def wait(timeout: float) -> object:
            with monitoring(stream, events=Events.DATA_AVAILABLE, backend=backend) as poller:
                return poller.wait_for_events(timeout)

        return wait

    def timed_out(call: Callable[..., object], argument: object) -> Callable[[float], object]:
        def wait(timeout: float) -> object:
            with pytest.raises(bbipc.TimeoutError):
                call(argument, timeout)
            return None

        return wait

    waits: list[Callable[[float], object]] = [
        lambda timeout: bbipc.poll_socket(stream, Events.DATA_AVAILABLE, timeout),
        poll_several,
        *map(wait_with, BACKENDS),
        timed_out(stream.read_exactly, 1),
        # More than any buffers take: those of TCP find room for some bytes later, though they were full.
        timed_out(full.write_all, bytes(1 << 25)),
    ]

    def wait_often(wait: Callable[[float], object]) -> None:
        for timeout in (0.0001, 0.000999999, 0.0010001, 0.0123456789, 0.1, 0.25):
            began = time.perf_counter()
            result = wait(timeout)
            elapsed = time.perf_counter() - began
            assert not result
            assert elapsed >= timeout
            assert elapsed < timeout + PROMPTLY

    disturbing = Failing(disturb)
    threads = [Failing(partial(wait_often, wait)) for wait in waits]
    try:
        for thread in threads:
            thread.join()
    finally:
        over.set()
        disturbing.join()


def with_empty_places(kinds: tuple[type, ...]) -> list[str]:
    """What the collector of garbage tells of that isn't complete yet. Any use of one of these crashes Python."""
    objects = [one for one in gc.get_objects() if type(one) in kinds]
    return [
        f"{type(one).__name__} of {len(one)} with {count}"
        for one, count in ((one, len(gc.get_referents(one))) for one in objects)
        if count < len(one)
    ]


class Looking(dict):  # type: ignore[type-arg]
    """A dictionary whose items are looked up by Python code, as other threads may run meanwhile."""

    def __init__(self, items: dict[int, Socket]) -> None:
        super().__init__(items)
        self.found: list[str] = []

    def __getitem__(self, key: int) -> Socket:
        self.found += with_empty_places((list, tuple))
        socket: Socket = super().__getitem__(key)
        return socket


needs_referents = pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="only the collector of CPython tells of objects that are being made"
)


@needs_referents
@pytest.mark.parametrize("wait", [Poller.wait_for_events, Poller.receive], ids=lambda wait: wait.__name__)
def test_nobody_is_shown_a_report_that_is_not_complete(
    transport: Transport, wait: Callable[[Poller, float], list[Any]]
) -> None:
    streams = [transport.pair() for _ in range(3)]
    with monitoring(*(stream for stream, _ in streams), events=Events.DATA_AVAILABLE) as poller:
        looking = poller._sockets = Looking(poller._sockets)
        for stream, remote in streams:
            remote.write(b"data")
            assert bbipc.poll_socket(stream, Events.DATA_AVAILABLE, PATIENCE)
        reports = wait(poller, 0)
        assert looking.found == []
        assert {report[0] for report in reports} == {stream for stream, _ in streams}
        # A collector that doesn't know of them would never free the cycles that they are in.
        assert gc.is_tracked(reports)
        assert all(gc.is_tracked(report) for report in reports)


@needs_referents
def test_nobody_is_shown_a_report_while_its_bytes_are_read(transport: Transport) -> None:
    streams = [transport.pair() for _ in range(8)]
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            assert with_empty_places((tuple,)) == []

    looking = Failing(look)
    try:
        with eager_threads(), monitoring(*(stream for stream, _ in streams), events=Events.DATA_AVAILABLE) as poller:
            received = expected = 0
            for _ in range(300):
                # So much that some of the reads let other threads run.
                expected += sum(remote.write(bytes(60_000)) for _, remote in streams)
                while received < expected:
                    reports = poller.receive(PATIENCE)
                    assert reports
                    received += sum(len(data) for _, _, data in reports)
    finally:
        over.set()
        looking.join()


def test_the_items_of_write_many_may_change_while_it_writes(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of a stream was looked for in the list of the caller, where another thread had taken the item out."""
    closed, _ = transport.pair()
    closed.close()
    items = [(closed, b"data")]
    write = calls.write_many

    def write_and_let_others_run(*arguments: Any) -> Any:
        result = write(*arguments)
        items.clear()
        return result

    monkeypatch.setattr(calls, "write_many", write_and_let_others_run)
    [(place, error)] = bbipc.write_many(items)
    assert place == 0
    assert isinstance(error, bbipc.SocketClosedError)


@pytest.mark.parametrize("name", WAITS)
def test_a_thread_with_the_smallest_stack_waits(transport: Transport, name: str) -> None:
    """Room for a thousand reports was on it twice when a wait went on after its first milliseconds."""
    stream, _ = transport.pair()
    smallest = 32768  # CPython's own limit; systems may ask for more
    before = threading.stack_size()
    try:
        threading.stack_size(smallest)
    except ValueError:
        pytest.skip(f"no thread has as little as {smallest} bytes here")
    try:
        ended: list[object] = []

        def wait() -> None:
            with contextlib.suppress(bbipc.TimeoutError):
                ended.append(WAITS[name](stream, 0.02))
            ended.append(None)

        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(PATIENCE)
    finally:
        threading.stack_size(before)
    assert ended
