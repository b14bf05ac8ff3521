"""Pollers over completion ports: what no longer holds is not reported, and every place is watched."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

import bbipc
from bbipc import Events, Poller, StreamSocket, poll_socket
from patience import PATIENCE
from transports import Transport, fill

if sys.platform != "win32":
    pytest.skip("pipes with instances, handles and completion ports are Windows' own", allow_module_level=True)


from pipe_checks import CLIENT, DATA, END, SPACE, in_threads, when_asleep


@pytest.fixture
def poller() -> Iterator[Poller]:
    with bbipc.make_poller() as made:
        yield made


def until(stream: StreamSocket, events: Events) -> None:
    assert poll_socket(stream, events, PATIENCE)


def test_a_wait_without_time_tells_what_holds_now(transport: Transport, poller: Poller) -> None:
    """It doesn't miss an event because a packet of the past came first, nor tell of one that no longer holds."""
    stream, _ = transport.pair()
    poller.monitor_socket(stream, Events())
    ready = Events.READY_TO_WRITE
    for _ in range(100):
        for asked, holds in (
            (ready, ready),
            (DATA, Events()),
            (DATA | ready, ready),
            (END, Events()),
            (Events.DETERMINED, Events.DETERMINED),
            (Events.DETERMINED | DATA, Events.DETERMINED),
            (Events(), Events()),
        ):
            poller.set_monitored_events(stream, asked)
            for _ in range(2):
                assert poller.wait_for_events(0) == ([(stream, holds)] if holds else [])


def test_data_that_has_been_read_is_not_reported(transport: Transport, poller: Poller) -> None:
    stream, peer = transport.pair()
    poller.monitor_socket(stream, DATA)
    for number in range(100):
        peer.write_all(b"x" * (1 + number % 3))
        seen = number % 2 == 1
        if seen:
            assert poller.wait_for_events(PATIENCE) == [(stream, DATA)]
        else:
            until(stream, DATA)
        assert stream.read(1) == b"x"
        if number % 3:
            # The next wait itself looks at what a wait has reported; otherwise the news may be on its way.
            assert poller.wait_for_events(0 if seen else PATIENCE) == [(stream, DATA)]
            assert len(stream.read()) == number % 3
        for timeout in (0, 0, 0.001):
            assert poller.wait_for_events(timeout) == []


def test_data_that_come_and_go_do_not_stop_a_poller(transport: Transport, poller: Poller) -> None:
    """What arrives while packets of earlier data are about is reported."""
    stream, peer = transport.pair()
    poller.monitor_socket(stream, DATA)
    for _ in range(100):
        peer.write(b"x")
        assert stream.read_exactly(1, PATIENCE) == b"x"
        peer.write(b"y")
        assert poller.wait_for_events(PATIENCE) == [(stream, DATA)]
        assert stream.read_exactly(1, PATIENCE) == b"y"


def test_news_that_comes_too_late_leaves_the_poller_asleep(transport: Transport, poller: Poller) -> None:
    stream, peer = transport.pair()
    poller.monitor_socket(stream, DATA)
    for _ in range(20):
        assert poller.wait_for_events(0) == []
        peer.write_all(b"x")
        # By the next wait it is read.
        assert stream.read_exactly(1, PATIENCE) == b"x"
        assert poller.wait_for_events(0) == []
    began = time.process_time()
    assert poller.wait_for_events(1) == []
    assert time.process_time() - began < 0.1
    delays = []
    for _ in range(10):
        timer = threading.Timer(0.12, lambda: delays.append(-time.perf_counter()) or peer.write_all(b"x"))
        timer.start()
        assert poller.wait_for_events(PATIENCE)
        delays[-1] += time.perf_counter()
        timer.join()
        assert stream.read_exactly(1, PATIENCE) == b"x"
    # If the stream were looked at now and then, delays would be tens of ms; on a busy machine some are in any case.
    assert sorted(delays)[2] < 0.015


def test_room_that_is_used_up_is_not_reported(transport: Transport, poller: Poller) -> None:
    stream, peer = transport.pair()
    poller.monitor_socket(stream, SPACE)
    for _ in range(3):
        assert poller.wait_for_events(PATIENCE) == [(stream, SPACE)]
        total = fill(stream)
        assert poller.wait_for_events(0) == []
        with when_asleep(partial(peer.read_exactly, total)):
            assert poller.wait_for_events(PATIENCE) == [(stream, SPACE)]


def test_a_client_that_was_accepted_is_not_reported(transport: Transport, poller: Poller) -> None:
    server = transport.make_server()
    poller.monitor_socket(server, CLIENT)
    for number in range(50):
        clients = [transport.connect(server) for _ in range(1 + number % 2)]
        if number % 3:
            assert poller.wait_for_events(PATIENCE) == [(server, CLIENT)]
        for _ in clients:
            transport.accept(server).close()
        assert poller.wait_for_events(0) == []
        assert poller.wait_for_events(0.001) == []


def test_interest_that_grows_and_shrinks_reaches_a_thread_that_waits(transport: Transport, poller: Poller) -> None:
    """More interest takes back a watch of the system's and begins another; less leaves one that asks for too much."""
    stream, peer = transport.pair()
    poller.monitor_socket(stream, END)
    reports: list[list[tuple[bbipc.Socket, Events]]] = []
    heard = threading.Semaphore(0)
    over = threading.Event()

    def wait() -> None:
        while not over.is_set():
            report = poller.wait_for_events(PATIENCE)
            if report:
                reports.append(report)
                # One report of each, not all that a loop can make.
                poller.set_monitored_events(stream, END)
                heard.release()

    (thread,) = in_threads(wait)
    try:
        peer.write_all(b"x")
        until(stream, DATA)
        for number in range(100):
            asked = (DATA, SPACE, DATA | SPACE)[number % 3]
            # Something that does not hold in between, sometimes.
            if number % 2:
                poller.set_monitored_events(stream, Events())
            poller.set_monitored_events(stream, asked)
            assert heard.acquire(timeout=PATIENCE)
            assert reports.pop() == [(stream, asked)]
        assert stream.read() == b"x"
        poller.set_monitored_events(stream, DATA)
        assert not heard.acquire(timeout=0.05)
        peer.write_all(b"y")
        assert heard.acquire(timeout=PATIENCE)
        assert reports == [[(stream, DATA)]]
    finally:
        over.set()
        poller.wake()
        thread.join()


@pytest.mark.parametrize("count", [31, 32, 33, 64, 65, 130])
def test_every_place_in_a_poller_is_watched(directory: Path, poller: Poller, count: int) -> None:
    """Sockets share helper handles, 32 to one, and take each other's places there."""
    transport = Transport("tcp", directory)
    try:
        pairs = [transport.pair() for _ in range(count)]
        for stream, _ in pairs:
            poller.monitor_socket(stream, DATA)
        chance = random.Random(count)
        for _ in range(3):
            for stream, peer in [*chance.sample(pairs, 10), pairs[0], pairs[-1]]:
                peer.write(b"x")
                assert poller.wait_for_events(PATIENCE) == [(stream, DATA)]
                assert stream.read() == b"x"
            for stream, _ in chance.sample(pairs, count // 2):
                poller.unmonitor_socket(stream)
                if chance.random() < 0.5:
                    poller.wait_for_events(0)
                poller.monitor_socket(stream, DATA)
        for _, peer in pairs:
            peer.write(b"x")
        seen: set[bbipc.Socket] = set()
        while len(seen) < count:
            for one, happened in poller.wait_for_events(PATIENCE):
                assert happened == DATA
                assert isinstance(one, StreamSocket)
                assert one.read() == b"x"
                seen.add(one)
        assert poller.wait_for_events(0) == []
    finally:
        transport.close()


def test_more_threads_than_the_system_waits_for_objects(transport: Transport) -> None:
    """WaitForMultipleObjects takes 64. All hear of one byte, in every way at once."""
    stream, peer = transport.pair()
    pollers = [bbipc.make_poller() for _ in range(30)]
    try:
        for one in pollers:
            one.monitor_socket(stream, DATA)
        outcomes: list[Events] = []
        works: list[Callable[[], object]] = [
            *[lambda: outcomes.append(poll_socket(stream, DATA, PATIENCE)) for _ in range(20)],
            *[lambda: outcomes.append(bbipc.poll_sockets([stream], DATA, PATIENCE)[0]) for _ in range(20)],
            *[lambda one=one: outcomes.append(dict(one.wait_for_events(PATIENCE))[stream]) for one in pollers],
        ]
        threads = in_threads(*works)
        peer.write_all(b"x")
        for thread in threads:
            thread.join()
        assert outcomes == [DATA] * 70
    finally:
        for one in pollers:
            one.close()
