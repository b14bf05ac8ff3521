"""What the programs of the benchmarks share: each is a process that the harness starts, and talks to by lines.

The first line that a program prints is its address, or ``ready``. Then each line of numbers on its input is answered by
a line of numbers. A program that finds anything wrong ends with an exception, and so does the whole run.

What sleeps nowhere is measured in processor time, which other programs don't add to; the others by the clock.
"""

from __future__ import annotations

import ctypes
import gc
import resource
import signal
import socket
import statistics
import struct
import sys
import time
import timeit
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

BACKLOG = 4096
#: The timeout of waits that are to time out.
TIME_OUT_S = 0.0001
#: How much is read at once. Every program reads as much.
READ_SIZE = 65536

_PR_SET_PDEATHSIG = 1


def prepare() -> None:
    """The program ends with the one who runs it, and may have as many descriptors as the system allows."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def announce(address: str = "ready") -> None:
    print(address, flush=True)


def commands() -> Iterator[tuple[int, ...]]:
    """The lines of numbers on the input, until it ends."""
    while line := sys.stdin.readline():
        yield tuple(map(int, line.split()))


def answer(*numbers: int) -> None:
    print(*numbers, flush=True)


def message_of(size: int) -> bytes:
    """What is sent where each message is the same."""
    period = bytes((at * 7 + 1) % 256 for at in range(256))
    return (period * (size // 256 + 1))[:size]


def fail(what: str) -> NoReturn:
    raise AssertionError(what)


def send_messages(send: Callable[[bytes], object], size: int) -> None:
    """For each COUNT, sends COUNT messages, and tells when it began."""
    message = message_of(size)
    announce()
    for (count,) in commands():
        start_ns = time.monotonic_ns()
        for _ in range(count):
            send(message)
        answer(start_ns)


def ask_in_time(ask: Callable[[bytes], bytes], size: int) -> None:
    """For each COUNT INTERVAL_NS, makes COUNT requests, one an interval, and tells the median time of an answer."""
    message = message_of(size)
    announce()
    for count, interval_ns in commands():
        times_ns = []
        due_ns = time.monotonic_ns()
        for _ in range(count):
            due_ns += interval_ns
            early_ns = due_ns - time.monotonic_ns()
            if early_ns > 0:
                time.sleep(early_ns / 1e9)
            start_ns = time.perf_counter_ns()
            if ask(message) != message:
                fail("other bytes came back than were sent")
            times_ns.append(time.perf_counter_ns() - start_ns)
        answer(int(statistics.median(times_ns)))


class Receipt:
    """What a receiver has got of what is due; checked byte by byte where that is asked for, in a turn of its own."""

    def __init__(self, size: int, due: int, checked: int) -> None:
        self._size = size
        self.due = due
        self.checked = checked
        self.kept = bytearray()

    def settle(self, end_ns: int) -> None:
        """All has come, at that time."""
        if self.checked and self.kept != message_of(self._size) * (len(self.kept) // self._size):
            fail("other bytes came than were sent")
        answer(end_ns)


# ---- Messages ----

#: What a stream has before each message: multiprocessing's own form.
LENGTH = struct.Struct("!i")
#: Different messages, sent over and over. Counts of messages are multiples of it.
SERIES = 100


def series_of(size: int) -> list[bytes]:
    """Each begins with its number, so that none can be lost, come twice, or come too early."""
    return [number.to_bytes(4, "big") + message_of(size - 4) for number in range(SERIES)]


def lists_of(messages: list[bytes], at_once: int) -> list[list[bytes]]:
    return [messages[at : at + at_once] for at in range(0, len(messages), at_once)]


def send_series(send: Callable[[Any], object], things: Sequence[bytes | list[bytes]]) -> None:
    """For each COUNT, sends COUNT messages, and tells when it began. The things, messages or lists, are a series."""
    announce()
    for (count,) in commands():
        start_ns = time.monotonic_ns()
        for _ in range(count // SERIES):
            for thing in things:
                send(thing)
        answer(start_ns)


def receive_series(receive: Callable[[], bytes], size: int) -> None:
    """For each COUNT, receives COUNT messages, and tells when it had all.

    All are compared, in every turn: to ask for the length of each would take as long.
    """
    series = series_of(size)
    for count, _checked in commands():
        for _ in range(count // SERIES):
            for expected in series:
                if receive() != expected:
                    fail("another message came than was sent")
        answer(time.monotonic_ns())


class Deliveries:
    """Compares messages that come in lists, as many as there are."""

    def __init__(self, size: int) -> None:
        self._series = series_of(size)
        self._expected = self._series
        self.due = 0

    def take(self, messages: list[bytes]) -> None:
        place = -self.due % SERIES
        end = place + len(messages)
        if len(self._expected) < end:
            self._expected = self._series * (end // SERIES + 1)
        if messages != self._expected[place:end]:
            fail("other messages came than were sent")
        self.due -= len(messages)
        if self.due < 0:
            fail("more messages came than were sent")


def make_round_trips(send: Callable[[bytes], object], receive: Callable[[], bytes], size: int) -> None:
    """For each COUNT, makes COUNT round trips, and tells the nanoseconds of all."""
    message = message_of(size)
    announce()
    for (count,) in commands():
        start_ns = time.perf_counter_ns()
        for _ in range(count):
            send(message)
            if receive() != message:
                fail("another message came back than was sent")
        answer(time.perf_counter_ns() - start_ns)


# ---- Watching ----


def watch(accept_many: Callable[[int], None], wait: Callable[[int], None]) -> None:
    """Commands to a program that watches idle connections, and one that always has data.

    ``0 COUNT`` accepts COUNT connections; ``1 COUNT`` does too, and tells the bytes that Python has allocated for them,
    which takes longer; ``2 COUNT`` waits COUNT times, and tells the processor nanoseconds of all waits.
    """
    for what, count in commands():
        if what == 2:
            start_ns = time.process_time_ns()
            wait(count)
            answer(time.process_time_ns() - start_ns)
            continue
        if what == 1:
            gc.collect()
            tracemalloc.start()
        accept_many(count)
        if what == 1:
            gc.collect()
            answer(tracemalloc.get_traced_memory()[0])
        else:
            answer(count)


def time_waits(wait: Callable[[], object]) -> None:
    """For each COUNT, waits COUNT times for nothing, and tells the median time of a wait."""
    announce()
    for (count,) in commands():
        times_ns = []
        for _ in range(count):
            start_ns = time.perf_counter_ns()
            if wait():
                fail("a wait that was to time out has reported something")
            times_ns.append(time.perf_counter_ns() - start_ns)
        answer(int(statistics.median(times_ns)))


def time_calls(call: Callable[[], object]) -> None:
    """For each COUNT, the processor nanoseconds of COUNT calls."""
    announce()
    for (count,) in commands():
        gc.collect()
        start_ns = time.process_time_ns()
        for _ in range(count):
            call()
        answer(time.process_time_ns() - start_ns)


def time_statement(statement: str, names: dict[str, Any]) -> None:
    """For each COUNT, the processor nanoseconds of COUNT runs of the statement, without those of the loop."""
    timer = timeit.Timer(statement, timer=time.process_time, globals=names)
    loop = timeit.Timer("pass", timer=time.process_time)
    announce()
    for (count,) in commands():
        answer(max(1, int(1e9 * (timer.timeit(count) - loop.timeit(count)))))


def pathname_of(address: str) -> str | None:
    """The pathname of ``local:PATHNAME``; None for ``tcp`` and ``tcp:PORT``."""
    return address[len("local:") :] if address.startswith("local:") else None


def port_of(address: str) -> int:
    """The port of ``tcp:PORT``; 0, any that is free, for ``tcp``."""
    return int(address[len("tcp:") :] or 0)


def other_address(address: str) -> str:
    """Where a program may listen beside its address."""
    return "tcp" if pathname_of(address) is None else f"{address}.other"


def listen(address: str) -> socket.socket:
    """A blocking socket of Python's own that listens, for all but bbipc."""
    pathname = pathname_of(address)
    if pathname is not None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(pathname)
    else:
        listener = socket.socket()
        listener.bind(("127.0.0.1", port_of(address)))
    listener.listen(BACKLOG)
    return listener


def address_of(listener: socket.socket) -> str:
    name = listener.getsockname()
    return f"local:{name}" if listener.family == socket.AF_UNIX else f"tcp:{name[1]}"


def connect(address: str) -> socket.socket:
    """A blocking socket of Python's own that is connected."""
    pathname = pathname_of(address)
    if pathname is not None:
        connecting = socket.socket(socket.AF_UNIX)
        connecting.connect(pathname)
    else:
        connecting = socket.socket()
        connecting.connect(("127.0.0.1", port_of(address)))
    no_delay(connecting)
    return connecting


def no_delay(connection: socket.socket) -> None:
    if connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
