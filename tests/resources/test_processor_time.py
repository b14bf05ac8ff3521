"""Processor time: a wait takes none, whatever the state of what it waits for."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

import bbipc
from bbipc import Events, Socket, StreamSocket
from child_processes import Processes, processor_seconds
from patience import PATIENCE, least_of_three
from peer import WAITS, command, until_asleep
from readiness import TELLS_ENDS_LATE, needs_half_close, sever
from systems import BACKENDS, WINDOWS
from transports import Transport, fill, reset


def established(transport: Transport) -> StreamSocket:
    return transport.pair()[0]


def full(transport: Transport) -> StreamSocket:
    stream, _ = transport.pair()
    fill(stream)
    return stream


def with_unread_bytes(transport: Transport) -> StreamSocket:
    stream, remote = transport.pair()
    remote.write(b"unread")
    assert bbipc.poll_socket(stream, Events.DATA_AVAILABLE, PATIENCE)
    return stream


def half_closed(transport: Transport) -> StreamSocket:
    needs_half_close(transport)
    stream, remote = transport.pair()
    remote.finish_writing()
    assert bbipc.poll_socket(stream, Events.END_OF_DATA, PATIENCE)
    return stream


def half_closed_and_full(transport: Transport) -> StreamSocket:
    stream = half_closed(transport)
    fill(stream)
    return stream


def half_closed_and_unread(transport: Transport) -> StreamSocket:
    needs_half_close(transport)
    stream, remote = transport.pair()
    remote.write(b"unread")
    remote.finish_writing()
    known = Events.DATA_AVAILABLE if TELLS_ENDS_LATE else Events.REMOTE_DISCONNECTED
    assert bbipc.poll_socket(stream, known, PATIENCE)
    return stream


def finished_writing(transport: Transport) -> StreamSocket:
    needs_half_close(transport)
    stream, _ = transport.pair()
    stream.finish_writing()
    return stream


def finished_at_both_ends(transport: Transport) -> StreamSocket:
    needs_half_close(transport)
    stream, remote = transport.pair()
    remote.finish_writing()
    stream.finish_writing()
    assert bbipc.poll_socket(stream, Events.CONNECTION_SEVERED, PATIENCE)
    return stream


def severed(transport: Transport) -> StreamSocket:
    stream, peer = transport.python_peer()
    sever(peer, stream)
    assert bbipc.poll_socket(stream, Events.CONNECTION_SEVERED, PATIENCE)
    return stream


def severed_and_unread(transport: Transport) -> StreamSocket:
    stream, peer = transport.python_peer()
    peer.sendall(b"unread")
    assert bbipc.poll_socket(stream, Events.DATA_AVAILABLE, PATIENCE)
    reset(peer, stream)
    assert bbipc.poll_socket(stream, Events.CONNECTION_SEVERED, PATIENCE)
    return stream


WRITING = Events.READY_TO_WRITE | Events.WRITE_SPACE
GONE = Events.REMOTE_DISCONNECTED | Events.CONNECTION_FAILED | Events.CONNECTION_SEVERED

#: What a stream is like, and events that don't hold then: some never again, though the kernel reports the socket for
#: ever.
IDLE: list[tuple[Callable[[Transport], StreamSocket], Events]] = [
    (established, Events.DATA_AVAILABLE | Events.END_OF_DATA | GONE),
    (established, Events()),
    (full, WRITING | Events.DATA_AVAILABLE),
    (with_unread_bytes, Events.END_OF_DATA | GONE),
    (with_unread_bytes, Events()),
    (half_closed, Events.DATA_AVAILABLE | Events.READY_TO_WRITE | Events.CONNECTION_SUCCEEDED),
    (half_closed, Events.CONNECTION_SEVERED),
    (half_closed_and_full, Events.WRITE_SPACE | Events.CONNECTION_SEVERED),
    (half_closed_and_unread, Events.END_OF_DATA),
    (half_closed_and_unread, Events.CONNECTION_SEVERED | (Events() if TELLS_ENDS_LATE else Events.READY_TO_WRITE)),
    (finished_writing, WRITING | Events.DATA_AVAILABLE | GONE),
    (finished_at_both_ends, WRITING | Events.DATA_AVAILABLE | Events.CONNECTION_SUCCEEDED),
    (severed, WRITING | Events.DATA_AVAILABLE | Events.CONNECTION_SUCCEEDED),
    (severed, Events()),
    (severed_and_unread, WRITING | Events.CONNECTION_SUCCEEDED),
]


@pytest.mark.parametrize(("make", "events"), IDLE, ids=lambda case: getattr(case, "__name__", str(case)))
def test_a_wait_for_nothing_costs_no_processor_time(
    transport: Transport, make: Callable[[Transport], StreamSocket], events: Events
) -> None:
    stream = make(transport)
    check_idle(stream, events)


def test_a_wait_for_a_server_costs_no_processor_time(transport: Transport) -> None:
    server = transport.make_server()
    check_idle(server, Events.CONNECTION_AVAILABLE)
    transport.connect(server)
    assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
    check_idle(server, Events())


def check_idle(socket: Socket, events: Events) -> None:
    """Waits in every way at once. Each wait lasts as long as it should and takes no processor time."""
    # Windows counts processor time in steps of 16 ms.
    lasts = 0.6 if WINDOWS else 0.15
    failures: list[str] = []

    def measure(name: str, wait: Callable[[float], object]) -> None:
        def work() -> float:
            began, worked = time.perf_counter(), time.thread_time()
            result = wait(lasts)
            elapsed, worked = time.perf_counter() - began, time.thread_time() - worked
            if result or elapsed < lasts:
                failures.append(f"{name}: {result!r} after {elapsed} s")
            return worked

        worked = least_of_three(work, lasts / 10)
        if worked >= lasts / 10:
            failures.append(f"{name}: {worked} s of {lasts} working")

    with contextlib.ExitStack() as stack:
        waits: dict[str, Callable[[float], object]] = {
            "poll_socket": partial(bbipc.poll_socket, socket, events),
            "poll_sockets": lambda timeout: any(bbipc.poll_sockets([socket] * 20, events, timeout)),
        }
        for backend in BACKENDS:
            poller = stack.enter_context(bbipc.make_poller(backend))
            poller.monitor_socket(socket, events)
            waits[backend] = poller.wait_for_events
        first_named, *others = waits.items()
        threads = [threading.Thread(target=measure, args=named) for named in others]
        for thread in threads:
            thread.start()
        # The main thread waits in another way, for the sake of signals.
        measure(*first_named)
        for thread in threads:
            thread.join()
    assert not failures


@pytest.mark.parametrize("name", WAITS)
def test_a_program_that_only_waits_uses_no_processor(transport: Transport, name: str) -> None:
    """The library's own threads, where it has any, use none either."""
    server = transport.make_server(backlog=1)
    with Processes() as processes:
        process = processes.start(command("wait", "connect", server.address, name, None))
        transport.accept(server)
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        until_asleep(process.pid)

        def work() -> float:
            before = processor_seconds(process)
            # Systems count in steps of 10 or 16 ms.
            assert not bbipc.poll_sockets([], [], 1.5 if WINDOWS else 0.5)
            return processor_seconds(process) - before

        worked = least_of_three(work, 0.04)
        assert process.poll() is None
    assert worked < 0.04


@pytest.mark.parametrize("events", [Events.REMOTE_DISCONNECTED, Events.CONNECTION_SEVERED, Events.END_OF_DATA])
def test_a_wait_for_the_end_beside_unread_bytes_hardly_uses_the_processor(
    transport: Transport, backend: str, events: Events
) -> None:
    """Counts all threads of the process: if no system call waits for the end alone, one has to look now and then."""
    stream = with_unread_bytes(transport)
    # Windows counts in steps of 16 ms.
    lasts = 3.0 if WINDOWS else 0.5
    most = 0.03 * lasts
    with bbipc.make_poller(backend) as poller:
        poller.monitor_socket(stream, events)
        assert not poller.wait_for_events(0)

        def work() -> float:
            before = time.process_time()
            assert not poller.wait_for_events(lasts)
            return time.process_time() - before

        assert least_of_three(work, most) < most
