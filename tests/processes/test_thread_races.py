"""Many threads at once: no byte arrives elsewhere, no wait ends early, and nobody is shown what is half done."""

from __future__ import annotations

import contextlib
import errno
import gc
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import bbipc
from bbipc import Events, Poller, Socket, StreamServer, StreamSocket
from bbipc._native import calls
from patience import PATIENCE
from peer import MANY, REST_IS_LEFT, WAITS, Pattern, eager_threads, read_piece, write_piece
from systems import BACKENDS
from threads import PROMPTLY, Failing
from transports import Transport, fill, monitoring

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
    """Objects that are tracked before they are complete. Any use of one of these crashes Python."""
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
        # If the collector didn't track them, it would never free the cycles that they are in.
        assert gc.is_tracked(reports)
        assert all(gc.is_tracked(report) for report in reports)


@needs_referents
def test_nobody_is_shown_a_report_while_its_bytes_are_read(transport: Transport) -> None:
    streams = [transport.pair() for _ in range(8)]
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            # Python's own tuple() shows another thread one of ten places while it fills it. A report has three.
            assert [one for one in with_empty_places((tuple,)) if one.startswith("tuple of 3 ")] == []

    looking = Failing(look)
    try:
        with eager_threads(), monitoring(*(stream for stream, _ in streams), events=Events.DATA_AVAILABLE) as poller:
            received = expected = 0
            for _ in range(300):
                # Enough bytes that some of the reads let other threads run.
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
    """The error of a stream was looked for in the caller's list, after another thread had taken the item out."""
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


@pytest.mark.filterwarnings(REST_IS_LEFT)
@pytest.mark.parametrize("name", WAITS)
def test_a_thread_with_the_smallest_stack_waits(transport: Transport, name: str) -> None:
    """The stack had room for a thousand reports twice when a wait went on after its first milliseconds."""
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
