"""Waits that sleep, take no processor time, and hear all that is asked of a stream that is listed twice."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import partial

import pytest

import bbipc
from bbipc import Events, StreamSocket
from patience import PATIENCE, least_of_three
from peer import REST_IS_LEFT, WAITS
from threads import Failing, Waiting
from transports import Transport, fill

LASTS = 1.0
#: Seconds of processor time for all waits together, which take a hundredth. A wait that spins takes what it gets of its
#: second.
MOST = 0.1


def poll_few(stream: StreamSocket, timeout: float | None) -> object:
    """Few enough that the library looks at each before it waits."""
    return bbipc.poll_sockets([stream] * 3, [Events.DATA_AVAILABLE, Events.END_OF_DATA, Events()], timeout)


def poll_server(transport: Transport, _: StreamSocket, timeout: float | None) -> object:
    return bbipc.poll_socket(transport.make_server(), Events.CONNECTION_AVAILABLE, timeout)


@pytest.mark.filterwarnings(REST_IS_LEFT)
def test_waits_of_a_second_take_hardly_any_time_of_the_processor(transport: Transport) -> None:
    """In every way, each in a thread of its own, and all in the same second."""
    waits: dict[str, Callable[[StreamSocket, float | None], object]] = {
        **WAITS,
        "poll_sockets of few": poll_few,
        "poll_socket of a server": partial(poll_server, transport),
    }
    # "main" is the main thread, whose waits are made of pieces, for the sake of signals.
    pairs = {name: transport.pair() for name in (*waits, "main")}

    def wait(name: str) -> None:
        began = time.perf_counter()
        with contextlib.suppress(bbipc.TimeoutError):
            waits.get(name, WAITS["poll_socket"])(pairs[name][0], LASTS)
        assert time.perf_counter() - began > LASTS - 0.05, f"{name} ended before its time was up"

    def work() -> float:
        before = time.process_time()
        threads = [Failing(partial(wait, name)) for name in waits]
        wait("main")
        for thread in threads:
            thread.join()
        return time.process_time() - before

    assert least_of_three(work, MOST) < MOST


@pytest.mark.parametrize("first", [Events.WRITE_SPACE, Events.CONNECTION_SEVERED])
def test_room_is_told_of_a_stream_that_is_listed_for_its_severing_too(transport: Transport, first: Events) -> None:
    """In either order: a kqueue has one watch for both, and neither must take the place of the other."""
    stream, remote = transport.pair()
    fill(stream)
    asked = [first, (Events.WRITE_SPACE | Events.CONNECTION_SEVERED) & ~first]
    waiting = Waiting(lambda: bbipc.poll_sockets([stream, stream], asked, PATIENCE))
    while waiting.waits:
        remote.read()
        bbipc.poll_socket(remote, Events.DATA_AVAILABLE, 0.01)
    assert waiting.result() == [one & Events.WRITE_SPACE for one in asked]


def test_bytes_are_told_of_a_stream_that_is_listed_for_its_end_too(transport: Transport) -> None:
    stream, remote = transport.pair()
    asked = [Events.END_OF_DATA, Events.DATA_AVAILABLE, Events.CONNECTION_SEVERED]
    waiting = Waiting(lambda: bbipc.poll_sockets([stream] * 3, asked, PATIENCE))
    remote.write(b"x")
    assert waiting.result() == [Events(), Events.DATA_AVAILABLE, Events()]
