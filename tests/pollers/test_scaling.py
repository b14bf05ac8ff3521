"""What a wait costs grows with the events that it reports, not with the sockets that the poller monitors."""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
from collections.abc import Iterator

import pytest

import bbipc
from bbipc import Events, Poller, StreamSocket
from descriptors import descriptors_for
from systems import BACKENDS, WINDOWS
from transports import Transport

MANY = {"tcp": 2_000, "local": 500} if WINDOWS else {"tcp": 10_000, "local": 10_000}

FEW = 10
#: The cost of a wait with MANY idle sockets, at most, as a multiple of that with FEW.
RATIO_MAX = 1.2

WAITS = 2000
#: Other programs can only make a measurement worse, and not in all rounds alike: the best round is the truest.
ROUNDS = 5


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Lets this process have as many as it needs."""
    with descriptors_for(max(MANY.values()) + 100):
        yield


@pytest.fixture
def collector_off() -> Iterator[None]:
    """Python's garbage collector looks at every object that there is, from time to time."""
    gc.disable()
    yield
    gc.enable()


def median_wait_ns(pollers: list[Poller], active: StreamSocket) -> list[float]:
    """What a wait that reports the active stream costs each poller. They take turns, so all meet the same noise."""
    times_ns: list[list[int]] = [[] for _ in pollers]
    expected = [(active, Events.DATA_AVAILABLE)]
    clock = time.perf_counter_ns
    for _ in range(WAITS):
        for poller, its_times_ns in zip(pollers, times_ns):
            before = clock()
            reports = poller.wait_for_events(1)
            its_times_ns.append(clock() - before)
            assert reports == expected
    return [statistics.median(its_times_ns) for its_times_ns in times_ns]


@pytest.mark.usefixtures("collector_off", "many_descriptors")
@pytest.mark.timeout(120)
def test_wait_with_many_idle_sockets_costs_what_it_costs_with_10(transport: Transport) -> None:
    many = MANY[transport.name]
    with contextlib.ExitStack() as stack:
        active, other_end = transport.pair()
        other_end.write_all(b"x")
        # Idle at both ends.
        idle: list[StreamSocket] = []
        server = transport.make_server()
        while len(idle) < many:
            idle += [transport.connect(server), transport.accept(server)]
        pollers = []
        for count in (FEW, many):
            # The one backend that promises it.
            poller = stack.enter_context(bbipc.make_poller(BACKENDS[0]))
            for stream in idle[:count]:
                poller.monitor_socket(stream, Events.DATA_AVAILABLE)
            poller.monitor_socket(active, Events.DATA_AVAILABLE)
            pollers.append(poller)
        rounds = [median_wait_ns(pollers, active) for _ in range(ROUNDS)]
        ratios = [with_many / with_few for with_few, with_many in rounds]
        for (with_few, with_many), ratio in zip(rounds, ratios):
            print(f"a wait: {with_few:.0f} ns with {FEW}, {with_many:.0f} ns with {many} idle sockets: {ratio:.3f}")
        assert min(ratios) <= RATIO_MAX
