"""Calls of either layer in several threads: what they may disturb, and which of them keep the GIL."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import bbipc
import call_cases
from bbipc import Events, StreamSocket
from bbipc._native import by_cpython
from bbipc._native import calls as native_calls
from call_cases import Scene
from layers import CPYTHON, needs_cpython, needs_gil
from patience import PATIENCE
from peer import Pattern, run_program
from systems import WINDOWS
from threads import Failing
from transports import Transport
from tree import SUPPORT


@needs_cpython
def test_built_in_functions_in_many_threads(transport: Transport) -> None:
    """Each with a stream of its own, and all with one poller and one list of items."""
    pairs = [transport.pair() for _ in range(8)]
    functions = call_cases.built_in_functions()
    errors: list[BaseException] = []
    begin = threading.Barrier(len(pairs))
    sets = call_cases.SETS
    with bbipc.make_poller() as poller:
        for one, _ in pairs:
            poller.monitor_socket(one, Events.WRITE_SPACE)

        def work(place: int) -> None:
            one, other = pairs[place]
            pattern = Pattern(place)
            buffer = bytearray(1000)
            read = 0
            try:
                begin.wait(PATIENCE)
                for turn in range(150):
                    position = turn * 1000
                    data = pattern.at(position, 1000)
                    assert functions["write"](one._handle, data, 0, 300) == 300
                    assert functions["write_many"]([(one, memoryview(data)[300:])], StreamSocket) == []
                    reports = functions["wait_for_events"](poller._handle, poller._sockets, sets, 0, 0)
                    assert all(socket in dict(pairs) and events == Events.WRITE_SPACE for socket, events in reports)
                    while read < position + 1000:
                        if turn % 2:
                            got = functions["read_exactly"](other._handle, position + 1000 - read, -1)
                        else:
                            count = functions["read_into"](other._handle, buffer, 0, None, False)
                            got = bytes(buffer[:count])
                        assert got == pattern.at(read, len(got))
                        read += len(got)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(place,), daemon=True) for place in range(len(pairs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
    assert not errors, errors


EXIT_WHILE_WAITING = """
import contextlib, os, sys, threading, time
sys.path.insert(0, sys.argv[1])
import bbipc
from bbipc import Events
from peer import until_asleep

server = bbipc.make_ipv4_tcp_server("127.0.0.1", 0)
stream = bbipc.connect_to_ipv4_tcp_server("127.0.0.1", server.port)
bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, 20)
remote = server.accept_connection()
poller = bbipc.make_poller()
poller.monitor_socket(stream, Events.DATA_AVAILABLE)
message_poller = bbipc.make_poller()
message_poller.monitor_socket(stream, Events.MESSAGE_AVAILABLE)
much, into = bytes(100_000), bytearray(100_000)

def copy():
    while True:
        stream.write(much)
        remote.read_into(into)

name, when = sys.argv[2:]
waits = {
    "poll_socket": lambda: bbipc.poll_socket(stream, Events.DATA_AVAILABLE),
    "wait_for_events": poller.wait_for_events,
    "receive": poller.receive,
    "read_exactly": lambda: stream.read_exactly(1),
    "receive_message": stream.receive_message,
    "receive_messages": message_poller.receive_messages,
    "send_message": lambda: stream.send_message(bytes(16 << 20)),
    "write_all": lambda: stream.write_all(bytes(64 << 20)),
    "copies": copy,
}

def work():
    # The remote end may go while Python still runs.
    with contextlib.suppress(bbipc.BbipcError):
        waits[name]()

thread = threading.Thread(target=work, daemon=True)
thread.start()
if name != "copies":
    until_asleep(os.getpid(), thread.native_id)

class Last:
    # Of what Python takes down last: the wait ends when there is no interpreter to come back to.
    def __init__(self, descriptor):
        self._descriptor = descriptor

    def __del__(self, read=os.read, write=os.write, sleep=time.sleep, reads=name in ("write_all", "send_message")):
        if reads:
            for _ in range(20):
                try:
                    read(self._descriptor, 1 << 20)
                except BlockingIOError:
                    # Faster than the thread writes.
                    sleep(0.001)
        else:
            write(self._descriptor, b"!")
        # No event tells of a thread that Python ends, or holds for ever.
        sleep(0.02)

if when == "after":
    last = Last(os.dup(remote.fileno()))
elif when == "before":
    remote.close()
"""


@pytest.mark.parametrize(
    "when", ["never", "before", pytest.param("after", marks=pytest.mark.skipif(WINDOWS, reason="sockets are no files"))]
)
@pytest.mark.parametrize(
    "name",
    [
        *("poll_socket", "wait_for_events", "receive", "read_exactly", "write_all", "copies"),
        *("receive_message", "receive_messages", "send_message"),
    ],
)
def test_a_program_ends_while_a_daemon_thread_is_in_a_call(name: str, when: str) -> None:
    """The thread's wait never ends, or ends shortly before the interpreter does, or after it."""
    if not CPYTHON and when == "after":
        pytest.skip("only CPython tells when it takes down what")
    # The thread may warn of its stream, which is closed while it waits.
    run_program(EXIT_WHILE_WAITING, SUPPORT, name, when, options=["-W", "ignore::ResourceWarning"])


@pytest.mark.skipif(bbipc.calling_layer() != "cpython", reason="by ctypes all methods are in Python")
def test_keywords_are_for_the_built_in_methods(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The methods in Python, which are for unusual arguments, take four times as long."""
    for kind in (StreamSocket, bbipc.Poller):
        for name in by_cpython.method_names(kind):
            monkeypatch.setattr(kind, f"_python_{name}", None)
    stream, remote = scene.stream, scene.remote
    scene.unread()
    buffer = bytearray(8)
    remote.write_all(data=b"abcdefgh", timeout=PATIENCE)
    with bbipc.make_poller() as poller:
        poller.monitor_socket(stream, Events.DATA_AVAILABLE)
        assert poller.wait_for_events(timeout=PATIENCE) == [(stream, Events.DATA_AVAILABLE)]
        assert poller.receive(max_bytes=1, timeout=PATIENCE) == [(stream, Events.DATA_AVAILABLE, b"a")]
        assert poller.receive(PATIENCE, max_bytes=1) == [(stream, Events.DATA_AVAILABLE, b"b")]
    assert stream.read_into(end=2, buffer=buffer, peek=True) == 2
    assert stream.read_into(buffer, end=4, start=3) == 1
    assert buffer == b"cd\0c\0\0\0\0"
    assert stream.read(peek=True, max_bytes=2) == b"de"
    assert stream.read(max_bytes=2) == b"de"
    assert stream.read_exactly(timeout=PATIENCE, size=3) == b"fgh"
    assert remote.write(data=b"abc", start=1, end=2) == 1
    assert stream.read_exactly(1, timeout=PATIENCE) == b"b"
    remote.send_message(data=b"one", timeout=PATIENCE)
    remote.send_message(b"two", timeout=PATIENCE)
    assert stream.receive_message(timeout=PATIENCE) == b"one"
    assert stream.receive_message(PATIENCE) == b"two"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="buffers by Python code are of Python 3.12")
def test_what_a_signals_handler_raises_amid_an_arguments_code_comes_out(scene: Scene) -> None:
    class InterruptionError(Exception):
        pass

    class Lender:
        asked = 0

        def __buffer__(self, _flags: int) -> memoryview:
            self.asked += 1
            if self.asked == 1:
                raise InterruptionError
            return memoryview(b"data")

    for call in (scene.stream.write, scene.stream.write_all):
        lender = Lender()
        with pytest.raises(InterruptionError):
            call(lender)
        assert lender.asked == 1


def test_what_one_thread_reads_into_serves_another(scene: Scene) -> None:
    """Without a GIL, only the thread that made an object can change its size."""
    stream, remote = scene.stream, scene.remote
    scene.unread()
    for size in (1, 8192, 8193, 60_000, 65536, 1, 60_000):
        for max_bytes in (65536, 1 << 20):
            sent = os.urandom(size)
            remote.write_all(sent, PATIENCE)
            parts: list[bytes] = []

            def read(parts: list[bytes] = parts, size: int = size, max_bytes: int = max_bytes) -> None:
                while sum(map(len, parts)) < size:
                    bbipc.poll_socket(stream, Events.DATA_AVAILABLE, PATIENCE)
                    parts.append(stream.read(max_bytes))

            Failing(read).join()
            assert b"".join(parts) == sent


class Counter:
    """A thread that counts how often it gets the GIL. No thread forces a switch: a call gives the GIL up, or not."""

    def __init__(self) -> None:
        self._over = False
        self.count = 0
        self._interval = sys.getswitchinterval()
        sys.setswitchinterval(1000)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        pause = threading.Event()
        while not self._over:
            self.count += 1
            # Lets go of the GIL, for no longer than it takes to want it again.
            pause.wait(1e-6)

    def close(self) -> None:
        self._over = True
        self._thread.join(PATIENCE)
        sys.setswitchinterval(self._interval)

    def turns_during(self, call: Callable[[], object], times: int) -> int:
        """How often the thread ran during this number of calls."""
        before = self.count
        for _ in itertools.repeat(None, times):
            call()
        return self.count - before


@pytest.fixture
def counter() -> Iterator[Counter]:
    with contextlib.closing(Counter()) as made:
        yield made


def short_calls(scene: Scene) -> dict[str, Callable[[], object]]:
    arguments = call_cases.good(scene)
    stream = scene.stream
    calls: dict[str, Callable[[], object]] = {}
    for name in by_cpython.function_names():
        calls[name] = lambda name=name: call_cases.let_go(  # type: ignore[misc]
            getattr(native_calls, name)(*arguments[name])
        )
    # These release the GIL if they wait for more than is there.
    del calls["read_exactly"], calls["write_all"]
    if bbipc.calling_layer() != "cpython":
        # By ctypes these always release it.
        del calls["receive_message"], calls["receive_messages_of_many"], calls["send_messages"]
        del calls["send_messages_to_many"]
    buffer = bytearray(8)
    calls["StreamSocket.write"] = lambda: stream.write(b"12345678")
    calls["StreamSocket.read_into"] = lambda: stream.read_into(buffer)
    calls["StreamSocket.read"] = lambda: stream.read(8)
    calls["poll_sockets"] = lambda: bbipc.poll_sockets([stream, scene.remote], Events.READY_TO_WRITE, 0)
    return calls


@needs_gil
def test_a_short_call_keeps_the_gil(scene: Scene, counter: Counter) -> None:
    for name, call in short_calls(scene).items():
        # Once for what is made once.
        call()
        assert counter.turns_during(call, 100) == 0, name
        scene.begin()


@needs_gil
@pytest.mark.skipif(bbipc.calling_layer() != "cpython", reason="by ctypes these always release it")
def test_what_ends_at_once_keeps_the_gil(scene: Scene, counter: Counter) -> None:
    stream, remote = scene.stream, scene.remote

    def exchange() -> None:
        remote.write(b"12345678")
        stream.read_exactly(8)
        stream.write_all(b"12345678")
        remote.read(8)
        remote.send_message(b"12345678")
        stream.receive_message()
        stream.send_messages([b"one", b"two"])
        remote.receive_messages()

    scene.unread()
    exchange()
    assert counter.turns_during(exchange, 100) == 0


def long_calls(scene: Scene) -> dict[str, Callable[[], object]]:
    stream, remote, full, poller = scene.stream, scene.remote, scene.full, scene.poller
    message_poller = scene.message_poller
    message_poller.set_monitored_events(stream, Events.MESSAGE_AVAILABLE)
    message_poller.unmonitor_socket(scene.ended)
    scene.unread()
    much, into = bytes(100_000), bytearray(100_000)
    poller.set_monitored_events(stream, Events())
    poller.unmonitor_socket(scene.ended)
    # So brief that a wait may return at once, which is not known before the call.
    brief = 0.0001

    def copy_much() -> None:
        stream.write(much)
        remote.read_into(into)

    def read_much() -> None:
        remote.write(much)
        stream.read(1 << 20)

    def receive_much() -> None:
        stream.write(much)
        assert remote.read(65536)
        remote.read()

    def write_much_to_many() -> None:
        # Each item is small, all together are large.
        bbipc.write_many([(stream, bytes(30_000))] * 4)
        remote.read_into(bytearray(200_000))

    def write_one_large_item() -> None:
        bbipc.write_many([(stream, much)])
        remote.read_into(into)

    def exchange_a_large_message() -> None:
        stream.send_message(much)
        remote.receive_message()

    def send_many_messages() -> None:
        # Each is small, all together are large.
        stream.send_messages([bytes(1000)] * 100)
        remote.read_exactly(100 * 1004)

    def receive_in_vain() -> None:
        with contextlib.suppress(bbipc.TimeoutError):
            scene.other.receive_message(brief)

    def send_in_vain() -> None:
        with contextlib.suppress(bbipc.TimeoutError):
            full.send_message(b"x", brief)

    def read_in_vain() -> None:
        with contextlib.suppress(bbipc.TimeoutError):
            scene.other.read_exactly(1, brief)

    def write_in_vain() -> None:
        with contextlib.suppress(bbipc.TimeoutError):
            full.write_all(b"x", brief)

    return {
        "poll_socket": lambda: bbipc.poll_socket(scene.other, Events.DATA_AVAILABLE, brief),
        "wait_for_events": lambda: poller.wait_for_events(brief),
        "receive": lambda: poller.receive(brief),
        "receive_messages": lambda: message_poller.receive_messages(brief),
        "receive_message": receive_in_vain,
        "send_message": send_in_vain,
        "send_message and receive_message": exchange_a_large_message,
        "send_messages": send_many_messages,
        "read_exactly": read_in_vain,
        "write_all": write_in_vain,
        "read_into and write": copy_much,
        "read": read_much,
        "write_many": write_much_to_many,
        "write_many of a large item": write_one_large_item,
    }


@needs_gil
def test_waits_and_large_copies_let_go_of_the_gil(scene: Scene, counter: Counter) -> None:
    for name, call in long_calls(scene).items():
        # The system chooses which thread goes on, and not always the same one.
        over = time.perf_counter() + PATIENCE
        while not (turns := counter.turns_during(call, 10)) and time.perf_counter() < over:
            pass
        assert turns > 0, name
