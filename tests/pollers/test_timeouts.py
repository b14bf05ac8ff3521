"""Timeouts: the same seconds, and the same refusals, for everything that waits."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Callable

import pytest

import bbipc
from bbipc import Events, StreamSocket
from patience import PATIENCE
from peer import REST_IS_LEFT
from systems import BACKENDS
from transports import Transport

# Of a message that was being sent.
pytestmark = pytest.mark.filterwarnings(REST_IS_LEFT)

#: Waits for something that does not happen by itself. The result is true if it has happened.
Wait = Callable[[StreamSocket, Any], object]


def wait_for_events(backend: str) -> Wait:
    def wait(stream: StreamSocket, timeout: Any) -> object:
        with bbipc.make_poller(backend) as poller:
            poller.monitor_socket(stream, Events.DATA_AVAILABLE)
            return poller.wait_for_events(timeout)

    return wait


def poll_sockets(stream: StreamSocket, timeout: Any) -> object:
    return any(bbipc.poll_sockets([stream], Events.DATA_AVAILABLE, timeout))


def read_exactly(stream: StreamSocket, timeout: Any) -> object:
    try:
        return stream.read_exactly(1, timeout)
    except bbipc.TimeoutError:
        return b""


def receive_message(stream: StreamSocket, timeout: Any) -> object:
    try:
        return stream.receive_message(timeout)
    except bbipc.TimeoutError:
        return b""


def read_until(stream: StreamSocket, timeout: Any) -> object:
    try:
        return stream.read_until(b"x", timeout)
    except bbipc.TimeoutError:
        return b""


def receive_messages(stream: StreamSocket, timeout: Any) -> object:
    with bbipc.make_poller() as poller:
        poller.monitor_socket(stream, Events.MESSAGE_AVAILABLE)
        return poller.receive_messages(timeout)


def goes_in_time(send: Callable[[bytes, Any], None], timeout: Any) -> bool:
    try:
        send(bytes(10_000_000), timeout)
    except bbipc.TimeoutError:
        return False
    return True


def send_message(stream: StreamSocket, timeout: Any) -> object:
    return goes_in_time(stream.send_message, timeout)


def write_all(stream: StreamSocket, timeout: Any) -> object:
    return goes_in_time(stream.write_all, timeout)


READERS: dict[str, Wait] = {
    "poll_socket": lambda stream, timeout: bbipc.poll_socket(stream, Events.DATA_AVAILABLE, timeout),
    "poll_sockets": poll_sockets,
    **{f"wait_for_events-{backend}": wait_for_events(backend) for backend in BACKENDS},
    "read_exactly": read_exactly,
}
WAITS = {
    **READERS,
    "write_all": write_all,
    "receive_message": receive_message,
    "read_until": read_until,
    "receive_messages": receive_messages,
    "send_message": send_message,
}


@pytest.fixture(params=WAITS)
def wait(request: pytest.FixtureRequest) -> Wait:
    return WAITS[request.param]


@pytest.fixture(params=READERS)
def wait_to_read(request: pytest.FixtureRequest) -> Wait:
    return READERS[request.param]


@pytest.fixture
def pair(directory: Any) -> Iterator[tuple[StreamSocket, StreamSocket]]:
    transport = Transport("local", directory)
    yield transport.pair()
    transport.close()


@pytest.mark.parametrize("timeout", [-1, -0.5, -1e-12, -5e-324, -math.inf, -(10**30), -1e300])
def test_a_negative_timeout_is_refused(pair: Any, wait: Wait, timeout: float) -> None:
    with pytest.raises(ValueError, match="negative"):
        wait(pair[0], timeout)


def test_nan_is_refused(pair: Any, wait: Wait) -> None:
    with pytest.raises(ValueError, match="NaN"):
        wait(pair[0], math.nan)


@pytest.mark.parametrize("timeout", ["0", b"0", "soon", [1], 1j, timedelta(seconds=1), object()])
def test_what_is_no_number_is_refused(pair: Any, wait: Wait, timeout: Any) -> None:
    with pytest.raises(TypeError, match=type(timeout).__name__):
        wait(pair[0], timeout)


@pytest.mark.parametrize("timeout", [-1, math.nan])
def test_a_bad_timeout_is_refused_although_nothing_needs_to_be_waited_for(pair: Any, timeout: float) -> None:
    stream, peer = pair
    peer.write(b"here")
    for wait in READERS.values():
        with pytest.raises(ValueError, match="timeout"):
            wait(stream, timeout)
    with pytest.raises(ValueError, match="timeout"):
        stream.read_exactly(0, timeout)
    with pytest.raises(ValueError, match="timeout"):
        stream.write_all(b"", timeout)
    with pytest.raises(ValueError, match="timeout"):
        bbipc.poll_sockets([], Events(), timeout)
    assert stream.read() == b"here"


@pytest.mark.parametrize("timeout", [0.1, 0.0105, 0.0005])
def test_a_wait_does_not_end_before_its_time(pair: Any, wait: Wait, timeout: float) -> None:
    stream = pair[0]
    begun = time.perf_counter()
    assert not wait(stream, timeout)
    assert timeout <= time.perf_counter() - begun < PATIENCE


@pytest.mark.parametrize("timeout", [1e-9, 1e-12, 5e-324])
def test_the_shortest_timeouts_end(pair: Any, wait: Wait, timeout: float) -> None:
    assert not wait(pair[0], timeout)


@pytest.mark.parametrize("timeout", [0, 0.0, -0.0, False])
def test_zero_does_not_wait(pair: Any, wait: Wait, timeout: float) -> None:
    stream = pair[0]
    begun = time.perf_counter()
    for _ in range(10):
        assert not wait(stream, timeout)
    # If any of them were taken for a second, ten would last this long.
    assert time.perf_counter() - begun < 10


@pytest.mark.parametrize(
    "timeout", [None, math.inf, 1e300, 10**30, 2**63, 2**63 / 1e9, 9223372036, 9223372037, 2**31, 86400.0]
)
def test_the_longest_timeouts_wait_until_something_happens(pair: Any, wait_to_read: Wait, timeout: float) -> None:
    stream, peer = pair
    happens = threading.Timer(0.02, peer.write, [b"!"])
    happens.start()
    assert wait_to_read(stream, timeout)
    happens.join()


def test_read_exactly_counts_one_timeout_for_all_its_reads(pair: Any) -> None:
    stream, peer = pair
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.02):
            peer.write(b".")

    dripping = threading.Thread(target=drip)
    dripping.start()
    begun = time.perf_counter()
    with pytest.raises(bbipc.TimeoutError) as caught:
        stream.read_exactly(1_000_000, 0.2)
    assert 0.2 <= time.perf_counter() - begun < PATIENCE
    assert caught.value.partial.strip(b".") == b""
    stop.set()
    dripping.join()
