"""Waits that look before they sleep: where it is better they do, where nothing comes they don't, and nothing is late.

What a look must not miss (bytes, closing, waking, forks) is tested natively: native/tests/end_to_end/looks.zig.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import bbipc
from bbipc import Events, StreamSocket
from bbipc._native import declarations
from patience import PATIENCE, QEMU, least_of_three
from peer import run_program
from systems import BACKENDS, WINDOWS
from threads import Failing
from transports import Transport, monitoring


def waits_look() -> bool:
    """Whether there are two processors for this process, which a container's quota may deny."""
    if (os.cpu_count() or 1) < 2:
        return False
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return quota == "max" or int(quota) >= 2 * int(period)
    with contextlib.suppress(OSError, ValueError):
        tree = Path("/sys/fs/cgroup/cpu")
        quota, period = ((tree / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period"))
        return int(quota) < 0 or int(quota) >= 2 * int(period)
    return True


needs_looks = pytest.mark.skipif(not waits_look(), reason="with one processor, or the time of one, no wait looks")
needs_fine_clock = pytest.mark.skipif(
    WINDOWS or QEMU,
    reason="Windows counts a thread's time in steps of 16 ms; under qemu-user a wait takes as long as a look",
)

#: A wait for bytes, with all that it has learnt: a function of the timeout.
Place = Callable[[Transport, StreamSocket], Callable[[float], object]]


def poller_of(backend: str) -> Place:
    def place(transport: Transport, stream: StreamSocket) -> Callable[[float], object]:
        poller = monitoring(stream, events=Events.DATA_AVAILABLE, backend=backend)
        transport.on_close(poller.close)
        return poller.wait_for_events

    return place


PLACES: dict[str, Place] = {
    "poll_socket": lambda _, stream: partial(bbipc.poll_socket, stream, Events.DATA_AVAILABLE),
    "read_exactly": lambda _, stream: partial(stream.read_exactly, 1),
    "poll_sockets": lambda _, stream: partial(bbipc.poll_sockets, [stream, stream], Events.DATA_AVAILABLE),
    **{f"wait_for_events ({backend})": poller_of(backend) for backend in BACKENDS},
}
each_place = pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)


@pytest.fixture(autouse=True)
def adaptive() -> Iterator[None]:
    yield
    bbipc.set_spinning("adaptive")


# ---- Setting it ----


@pytest.mark.parametrize("mode", ["adaptive", "off", 0, 0.0, 1, 1.0, 0.0001, 1e-12])
def test_spinning_can_be_set(mode: Any) -> None:
    bbipc.set_spinning(mode)


@pytest.mark.parametrize(
    "mode", ["", "on", "0.1", "ADAPTIVE", -1, -1e-9, 1.1, 1e300, 10**400, float("nan"), float("inf")]
)
def test_a_wrong_value_is_refused(mode: Any) -> None:
    with pytest.raises(ValueError, match=r"spinning is 'adaptive', 'off' or a number|looks for 0 to 1 seconds"):
        bbipc.set_spinning(mode)


@pytest.mark.parametrize("mode", [None, True, b"off", [], object()])
def test_a_wrong_type_is_refused(mode: Any) -> None:
    with pytest.raises(TypeError, match="spinning is 'adaptive', 'off' or a number of seconds, not "):
        bbipc.set_spinning(mode)


def test_the_c_interface_has_the_same_limits() -> None:
    for wrong in (-2, 1_000_000_001, 2**63 - 1, -(2**63)):
        assert declarations.set_spinning(wrong) == declarations.ERROR_INVALID_ARGUMENT
    for right in (declarations.SPINNING_ADAPTIVE, declarations.SPINNING_OFF, 1_000_000_000):
        assert declarations.set_spinning(right) == 0


@pytest.mark.parametrize("asked", ["", "off", "adaptive", "0", "0.0001", "1"])
def test_the_environment_chooses(asked: str) -> None:
    assert (
        run_program("import os, sys; os.environ['BBIPC_SPINNING'] = sys.argv[1]; import bbipc; print(1)", asked)
        == "1\n"
    )


@pytest.mark.parametrize("asked", ["on", "2", "-1", "nan", "0,1"])
def test_a_wrong_value_in_the_environment_is_told(asked: str) -> None:
    program = """
import os, sys
os.environ["BBIPC_SPINNING"] = sys.argv[1]
try:
    import bbipc
except ImportError as error:
    print(error)
"""
    told = run_program(program, asked)
    assert told.startswith("the environment variable BBIPC_SPINNING must be 'adaptive', 'off', a number of seconds")
    assert told.endswith(f"not {asked!r}\n")


# ---- Looking ----

#: Seconds after which bytes come. Less than the first piece of a wait, and more than what sleeping costs.
SOON = 0.002


def cost_of_waits(place: Place, transport: Transport, count: int) -> list[float]:
    """Seconds of this thread's processor time that each wait of a new place takes."""
    stream, remote = transport.pair()
    wait = place(transport, stream)
    asked = threading.Semaphore(0)

    def write() -> None:
        for _ in range(count):
            asked.acquire()
            time.sleep(SOON)
            remote.write(b"x")

    writer = Failing(write)
    costs = []
    for _ in range(count):
        asked.release()
        began = time.thread_time()
        assert wait(PATIENCE)
        costs.append(time.thread_time() - began)
        while stream.read():
            pass
    writer.join()
    return costs


def looks_of(costs: list[float]) -> int:
    """How many of these waits looked: for a good part of the time in which nothing came."""
    return sum(cost > SOON / 8 for cost in costs)


@needs_looks
@needs_fine_clock
# What waits for several sockets have learnt in other tests can't be forgotten.
@pytest.mark.parametrize("place", [PLACES[name] for name in PLACES if name != "poll_sockets"])
def test_after_four_waits_some_try_to_look(transport: Transport, place: Place) -> None:
    def missing() -> float:
        return float(abs(looks_of(cost_of_waits(place, transport, 20)) - 4))

    bbipc.set_spinning(0.1)
    # Of 20 waits the fifth to the eighth look, in vain, which ends the try. A busy machine may disturb one.
    assert least_of_three(missing, 2) < 2


@needs_fine_clock
@each_place
@pytest.mark.parametrize("mode", ["off", SOON / 10])
def test_no_wait_looks_that_may_not(transport: Transport, place: Place, mode: Any) -> None:
    """Because none does, or because sleeping takes longer than a look may."""
    bbipc.set_spinning(mode)
    assert least_of_three(lambda: float(looks_of(cost_of_waits(place, transport, 20))), 1) < 1


@each_place
def test_a_program_that_waits_for_nothing_takes_no_processor_time(transport: Transport, place: Place) -> None:
    """Also after round trips in which every wait looked."""
    lasts = 0.5
    stream, remote = transport.pair()
    wait = place(transport, stream)

    def answer() -> None:
        for _ in range(300):
            remote.read_exactly(1, PATIENCE)
            remote.write(b"x")

    answering = Failing(answer)
    for _ in range(300):
        stream.write(b"x")
        assert wait(PATIENCE)
        stream.read()
    answering.join()

    def cost() -> float:
        began = time.thread_time()
        with contextlib.suppress(bbipc.TimeoutError):
            wait(lasts)
        return time.thread_time() - began

    assert least_of_three(cost, lasts / 10) < lasts / 10


# ---- Signals ----

#: Connects with a process that answers, and stops for this number of seconds now and then.
CONNECT = """
import os, signal, sys, time
import bbipc

signals_asked, pause_s = int(sys.argv[1]), float(sys.argv[2])
signals_count = 0
server = bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 0)
near = bbipc.connect_to_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, server.port)
bbipc.poll_socket(server, bbipc.Events.CONNECTION_AVAILABLE)
far = server.accept_connection()
if os.fork() == 0:
    near.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        while True:
            for _ in range(100):
                far.write_all(far.read_exactly(64))
            time.sleep(pause_s)
    except (bbipc.EndOfStreamError, bbipc.SocketError):
        os._exit(0)
far.close()
poller = bbipc.make_poller()
poller.monitor_socket(near, bbipc.Events.DATA_AVAILABLE)
told = None
"""

ROUND_TRIPS = f"""{CONNECT}
def count(number, frame):
    global signals_count
    signals_count += 1

signal.signal(signal.SIGINT, count)
message = bytes(64)
while True:
    # Not by the handler: the next signal would interrupt that.
    if signals_count != told:
        told = signals_count
        os.write(1, b"%d\\n" % told)
        if told == signals_asked:
            break
    near.write_all(message)
    if told % 2:
        poller.wait_for_events()
    near.read_exactly(64)
"""

PAUSES = f"""{CONNECT}
class Heard(Exception):
    pass

is_armed = False

def hear(number, frame):
    global signals_count, is_armed
    signals_count += 1
    if is_armed:
        is_armed = False
        raise Heard

signal.signal(signal.SIGINT, hear)
data = bbipc.Events.DATA_AVAILABLE
waits = [
    lambda: bbipc.poll_socket(near, data),
    lambda: bbipc.poll_sockets([near, near], data),
    poller.wait_for_events,
]
near.write(bytes(64))
while True:
    if signals_count != told:
        told = signals_count
        os.write(1, b"%d\\n" % told)
        if told == signals_asked:
            break
        continue
    try:
        is_armed = True
        if signals_count == told:
            waits[told % len(waits)]()
        is_armed = False
        near.write(near.read())
    except Heard:
        pass
"""


def times_to_hear(program: str, count: int, pause_s: float) -> list[float]:
    """Seconds until a program has told that it heard each of these signals, the next sent thereafter."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(count), str(pause_s)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "0\n"
    taken = []
    for number in range(1, count + 1):
        began = time.perf_counter()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == f"{number}\n"
        taken.append(time.perf_counter() - began)
    process.stdout.close()
    assert process.wait(PATIENCE) == 0
    return taken


@pytest.mark.skipif(WINDOWS, reason="Windows has no fork(), and Ctrl-C there is no signal")
# A pause is so long that a signal which is heard only after it is late.
@pytest.mark.parametrize(("program", "pause_s"), [(ROUND_TRIPS, 0), (PAUSES, 0.5)], ids=["round trips", "pauses"])
def test_ctrl_c_is_heard_at_once(program: str, pause_s: float) -> None:
    taken = times_to_hear(program, 10_000 if os.environ.get("BBIPC_TESTS_FULL") == "1" else 500, pause_s)
    # A busy machine is late now and then.
    assert statistics.quantiles(taken, n=20)[-1] < 0.05
