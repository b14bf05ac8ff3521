"""Signals during waits: Ctrl-C ends every wait, other handlers run and the wait goes on. And the GIL meanwhile."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType

import pytest

import bbipc
from bbipc import Events, Poller, StreamSocket
from bbipc._native.handles import NewHandle
from child_processes import INTERRUPTED as ENDED_BY_CTRL_C
from child_processes import Processes, ended, interrupt, stopped, until_stopped
from patience import PATIENCE
from peer import (
    MANY,
    REST_IS_LEFT,
    STREAM_WAITS,
    WAITS,
    WAITS_FOR_ROOM,
    Pattern,
    answer_to,
    command,
    eager_threads,
    run_program,
    until_asleep,
)
from readiness import goes_on_after_close
from systems import WINDOWS
from transports import Transport, fill
from tree import SUPPORT

pytestmark = pytest.mark.filterwarnings(REST_IS_LEFT)

#: Seconds. How long a wait lasts that nothing ends.
A_WHILE = 0.25


#: The signal of these tests. Windows has but a few, and no other that nobody else uses.
NUMBER = signal.SIGBREAK if sys.platform == "win32" else signal.SIGUSR1


def send(thread: int, number: int) -> None:
    """Sends a thread a signal. On Windows, whose signals are C's own, the calling thread gets it instead."""
    if sys.platform == "win32":
        signal.raise_signal(number)
    else:
        signal.pthread_kill(thread, number)


class Signals:
    """Sends this thread a signal, whose handler is the test's, once it sleeps or at regular intervals."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._before = signal.getsignal(NUMBER)
        self._asked = threading.Semaphore(0)
        self._random = random.Random(2)
        self.count = 0

    def on_signal(self, handle: Callable[[], object]) -> None:
        def handler(_number: int, _frame: object) -> None:
            self.count += 1
            handle()

        signal.signal(NUMBER, handler)

    def _start(self, work: Callable[[], object]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def send_when_asleep(self) -> None:
        this = threading.get_ident()
        this_native = threading.get_native_id()

        def send_one() -> None:
            # The signal must come during the wait that is about to begin, not before.
            until_asleep(os.getpid(), this_native)
            send(this, NUMBER)

        self._start(send_one)

    def send_every(self, interval: float) -> None:
        this = threading.get_ident()

        def send_many() -> None:
            while not self._over.is_set():
                # Event.wait() would be late by up to 16 ms on Windows.
                time.sleep(interval)
                send(this, NUMBER)

        self._start(send_many)

    def send_when_asked(self) -> Callable[[], None]:
        """Returns what asks for one signal, which comes a moment later."""
        this = threading.get_ident()

        def send_asked() -> None:
            while self._asked.acquire() and not self._over.is_set():
                # Moments of all lengths, so that the signals come everywhere.
                time.sleep(self._random.random() * 0.0005)
                send(this, NUMBER)

        self._start(send_asked)
        return self._asked.release

    def close(self) -> None:
        self._over.set()
        self._asked.release()
        for thread in self._threads:
            thread.join()
        signal.signal(NUMBER, self._before)
        # On Windows locks are handles; and pytest keeps this until all fixtures have ended, that for leaks too.
        del self._over, self._asked, self._threads


@pytest.fixture
def signals() -> Iterator[Signals]:
    with contextlib.closing(Signals()) as made:
        yield made


@pytest.fixture
def waited_for(transport: Transport) -> tuple[StreamSocket, StreamSocket]:
    """A stream that has nothing to read, and no room to write; and its remote end."""
    stream, remote = transport.pair()
    fill(stream)
    return stream, remote


def until_it_waits(process: subprocess.Popen[str]) -> None:
    """A process with the job `wait` has come to it."""
    assert process.stdout is not None
    if process.stdout.readline() != "waiting\n":
        raise AssertionError(process.communicate(timeout=PATIENCE)[1])
    until_asleep(process.pid)


# ---- Ctrl-C ----


@pytest.mark.parametrize("timeout", [None, 60.0])
@pytest.mark.parametrize("name", WAITS)
def test_ctrl_c_ends_every_wait(transport: Transport, name: str, timeout: float | None) -> None:
    server = transport.make_server()
    with Processes() as processes:
        process = processes.start(command("wait", "connect", server.address, name, timeout))
        until_it_waits(process)
        accepted = transport.accept(server)
        interrupt(process)
        output, errors = process.communicate(timeout=PATIENCE)
    assert output == ""
    assert errors.rstrip().endswith("KeyboardInterrupt")
    # But of the rest of the message that was being sent.
    left = name == "send_message" and not goes_on_after_close(accepted)
    assert errors.count("ResourceWarning") == errors.count(" bytes of a message unsent") == left
    assert process.returncode == ENDED_BY_CTRL_C


def test_a_program_waits_again_after_ctrl_c(transport: Transport) -> None:
    """Everything still works after an interrupted wait."""
    stream, remote = transport.pair()
    with bbipc.make_poller() as poller:
        poller.monitor_socket(stream, Events.DATA_AVAILABLE)
        waits: list[Callable[[], object]] = [
            partial(bbipc.poll_socket, stream, Events.DATA_AVAILABLE),
            partial(bbipc.poll_sockets, [stream] * 40, Events.DATA_AVAILABLE),
            poller.wait_for_events,
            poller.receive,
            poller.receive_messages,
            partial(stream.read_exactly, 1),
            stream.receive_message,
            partial(stream.read_until, b"!"),
        ]
        for wait in waits:
            with interrupted_when_asleep(), pytest.raises(KeyboardInterrupt):
                wait()
        remote.write(b"!")
        assert bbipc.poll_socket(stream, Events.DATA_AVAILABLE, PATIENCE) == Events.DATA_AVAILABLE
        assert poller.wait_for_events(PATIENCE) == [(stream, Events.DATA_AVAILABLE)]
        assert stream.read_exactly(1, PATIENCE) == b"!"


#: Interrupts itself in every wait of the library, some of which last for ever, and then in those of the package.
INTERRUPT_YOURSELF = """
import os, signal, sys, threading, time
sys.path.insert(0, sys.argv[1])
import bbipc
import windows
from bbipc import Events
from bbipc._native import calls, declarations, results
from peer import connect, until_asleep

main = threading.get_native_id()
pressed_at = 0.0

def press(after):
    global pressed_at
    until_asleep(os.getpid(), main)
    time.sleep(after)
    pressed_at = time.perf_counter()
    windows.interrupt(os.getpid())

def pressed(wait, after):
    thread = threading.Thread(target=press, args=(after,))
    thread.start()
    try:
        return wait()
    finally:
        thread.join()

stream = connect(sys.argv[2])
poller = bbipc.make_poller()
poller.monitor_socket(stream, Events.DATA_AVAILABLE)

data = int(Events.DATA_AVAILABLE)
many = calls.SocketList([stream._handle] * 40, [data] * 40)
handled = []
signal.signal(signal.SIGINT, lambda *_: handled.append(True))
for wait in [
    lambda: calls.poll_socket(stream._handle, data, declarations.FOREVER, 0),
    lambda: many.poll(declarations.FOREVER, 0)[0],
    lambda: calls.wait_for_events(poller._handle, {}, {}, declarations.FOREVER, 0),
    lambda: calls.receive(poller._handle, {}, {}, 65536, declarations.FOREVER, 0),
    lambda: calls.receive_messages_of_many(poller._handle, {}, {}, declarations.FOREVER, 0),
    lambda: calls.receive_message(stream._handle, declarations.FOREVER),
]:
    for _ in range(2):
        assert results.status_of(pressed(wait, 0)) == declarations.ERROR_INTERRUPTED
        # C's own handler, which tells Python of it, may come a moment later.
        until = time.perf_counter() + 10
        while not handled and time.perf_counter() < until:
            time.sleep(0.001)
        assert handled.pop()

signal.signal(signal.SIGINT, signal.default_int_handler)
for wait in [
    lambda: bbipc.poll_socket(stream, Events.DATA_AVAILABLE),
    lambda: bbipc.poll_sockets([stream] * 40, Events.DATA_AVAILABLE),
    poller.wait_for_events,
    poller.receive,
    lambda: stream.read_exactly(1),
]:
    try:
        # When it comes back to look for signals only once a second.
        pressed(wait, 1.35)
        raise AssertionError("the wait was not interrupted")
    except KeyboardInterrupt:
        assert time.perf_counter() - pressed_at < 0.4

print("alive", flush=True)
assert stream.read_exactly(1, 10) == b"!"
poller.close()
stream.close()
"""


@pytest.mark.skipif(not WINDOWS, reason="elsewhere Ctrl-C is a signal, and a signal interrupts system calls by itself")
def test_ctrl_c_ends_the_librarys_waits_at_once(transport: Transport) -> None:
    server = transport.make_server()
    with Processes() as processes:
        program = [sys.executable, "-c", INTERRUPT_YOURSELF, str(SUPPORT), server.address]
        process = processes.start(program)
        accepted = transport.accept(server)
        assert process.stdout is not None
        line = process.stdout.readline()
        accepted.write(b"!")
        assert (line, *ended(process)) == ("alive\n", 0, "", "")


@contextlib.contextmanager
def interrupted_when_asleep() -> Iterator[None]:
    """Ctrl-C for this thread, which must be the main one, as soon as it sleeps."""
    this, this_native = threading.get_ident(), threading.get_native_id()

    def interrupt() -> None:
        until_asleep(os.getpid(), this_native)
        send(this, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        thread.join(PATIENCE)


# ---- Other signals ----


def outcome(wait: Callable[[], object]) -> object:
    """What a wait returned, or the library's timeout."""
    try:
        return wait()
    except bbipc.TimeoutError as error:
        return error


@pytest.mark.parametrize("name", WAITS)
def test_a_wait_goes_on_for_the_time_left(
    waited_for: tuple[StreamSocket, StreamSocket], signals: Signals, name: str
) -> None:
    stream, _ = waited_for
    signals.on_signal(lambda: None)
    signals.send_every(0.01)
    began = time.perf_counter()
    result = outcome(partial(WAITS[name], stream, A_WHILE))
    elapsed = time.perf_counter() - began
    assert elapsed >= A_WHILE
    # It does not begin anew with each signal.
    assert elapsed < A_WHILE + 1
    # Where no signal interrupts a wait, handlers run when the wait looks for signals, which it does less and less
    # often. A busy machine has few moments for that.
    assert signals.count >= 3
    # poll_sockets has an empty set for each.
    assert isinstance(result, bbipc.TimeoutError) or result in (Events(), [], [Events()] * MANY)


def test_a_handler_runs_during_the_wait_not_after_it(transport: Transport, signals: Signals) -> None:
    """It ends the wait itself, by what it does."""
    stream, remote = transport.pair()
    signals.on_signal(lambda: remote.write(b"from the handler"))
    signals.send_when_asleep()
    assert stream.read_exactly(16, PATIENCE) == b"from the handler"


def test_a_handler_runs_although_another_thread_gets_the_signal(transport: Transport, signals: Signals) -> None:
    """Python runs it in the main thread, whose wait isn't interrupted, as by a signal that comes just before it."""
    stream, remote = transport.pair()
    signals.on_signal(lambda: remote.write(b"!"))
    this_native = threading.get_native_id()

    def receive_signal() -> None:
        until_asleep(os.getpid(), this_native)
        send(threading.get_ident(), NUMBER)

    thread = threading.Thread(target=receive_signal, daemon=True)
    thread.start()
    assert stream.read_exactly(1, PATIENCE) == b"!"
    thread.join(PATIENCE)


@pytest.mark.parametrize("name", WAITS)
def test_an_exception_from_a_handler_ends_the_wait(
    waited_for: tuple[StreamSocket, StreamSocket], signals: Signals, name: str
) -> None:
    stream, remote = waited_for

    class FromTheHandlerError(Exception):
        pass

    def fail() -> None:
        raise FromTheHandlerError

    signals.on_signal(fail)
    signals.send_when_asleep()
    with pytest.raises(FromTheHandlerError):
        WAITS[name](stream, None)
    remote.write(b"!")
    assert stream.read_exactly(1, PATIENCE) == b"!"


class InterruptionError(Exception):
    """What a handler raises, as Ctrl-C's does."""


def read_into_array(stream: StreamSocket, _poller: Poller) -> None:
    stream.read_into(array("I", bytes(40_000)))


def monitor(stream: StreamSocket, poller: Poller) -> None:
    poller.unmonitor_socket(stream)
    poller.monitor_socket(stream, Events.DATA_AVAILABLE)
    poller.wait_for_events(0.0001)


INTERRUPTED: dict[str, Callable[[StreamSocket, Poller], object]] = {
    "read": lambda stream, _: stream.read(),
    "read much": lambda stream, _: stream.read(300_000),
    "read into a bytearray": lambda stream, _: stream.read_into(bytearray(300_000)),
    "read into an array": read_into_array,
    "read exactly": lambda stream, _: stream.read_exactly(1),
    "write bytes": lambda stream, _: stream.write(bytes(300_000)),
    "write a bytearray": lambda stream, _: stream.write(bytearray(300_000)),
    "write a view": lambda stream, _: stream.write(memoryview(bytes(300_000))),
    "poll_sockets": lambda stream, _: bbipc.poll_sockets([stream] * 40, Events.DATA_AVAILABLE, 0.0001),
    "monitor": monitor,
}


@pytest.mark.parametrize("name", INTERRUPTED)
@pytest.mark.parametrize("transport", ["local"], indirect=True)
@eager_threads()
def test_an_exception_from_a_handler_is_hidden_by_no_other(transport: Transport, signals: Signals, name: str) -> None:
    """Whatever the call is at, also while it holds a buffer."""
    stream, remote = transport.pair()
    over = threading.Event()
    received = bytearray(1 << 20)
    sent = bytes(300_000)

    def exchange() -> None:
        while not over.is_set():
            remote.read_into(received)
            if remote.write(sent) == 0:
                bbipc.poll_socket(remote, Events.DATA_AVAILABLE | Events.WRITE_SPACE, 0.001)

    def interrupt() -> None:
        raise InterruptionError

    poller = bbipc.make_poller()

    ask = signals.send_when_asked()

    def call_until_interrupted() -> None:
        ask()
        while True:
            INTERRUPTED[name](stream, poller)

    exchanging = threading.Thread(target=exchange, daemon=True)
    exchanging.start()
    signals.on_signal(interrupt)
    try:
        # As often as it takes for signals to come at every place where they can.
        for _ in range(300):
            with pytest.raises(InterruptionError):
                call_until_interrupted()
        poller.unmonitor_socket(stream)
        assert poller.monitored_sockets() == []
    finally:
        over.set()
        exchanging.join(PATIENCE)
        poller.close()


def test_a_storm_of_signals_stops_no_transfer(transport: Transport, signals: Signals) -> None:
    """No call is cut short, and no byte lost or doubled."""
    stream, remote = transport.pair()
    size = 32 << 20
    signals.on_signal(lambda: None)
    failures: list[BaseException] = []

    def write() -> None:
        try:
            remote.write_all(Pattern(1).at(0, size), PATIENCE)
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=write, daemon=True)
    signals.send_every(0.0002)
    writer.start()
    assert stream.read_exactly(size, PATIENCE) == Pattern(1).at(0, size)
    writer.join(PATIENCE)
    assert not failures
    assert signals.count > 10


@pytest.mark.parametrize("timeout", [None, 60.0])
@pytest.mark.parametrize("name", [name for name in WAITS if name not in WAITS_FOR_ROOM])
def test_a_stopped_process_waits_on_when_it_continues(transport: Transport, name: str, timeout: float | None) -> None:
    """SIGCONT interrupts waits too, without any handler (signal(7))."""
    server = transport.make_server()
    with Processes() as processes:
        process = processes.start(command("wait", "connect", server.address, name, timeout))
        until_it_waits(process)
        with stopped(process):
            # The process must have stopped before it goes on.
            until_stopped(process)
        until_asleep(process.pid)
        transport.accept(server).write(answer_to(name))
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
    assert "DATA_AVAILABLE" in output or "b'!'" in output


@pytest.mark.skipif(WINDOWS, reason="Windows has no SIGPIPE")
def test_writing_to_a_severed_stream_is_no_sigpipe(transport: Transport) -> None:
    """Not even in a process that enables SIGPIPE, which Python ignores."""
    server = transport.make_server()
    run = partial(
        run_program,
        """
        import signal, sys
        import bbipc
        from bbipc import Events

        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        address = sys.argv[1].split(":", 1)[1]
        if sys.argv[1].startswith("local:"):
            stream = bbipc.connect_to_local_server(address)
        else:
            host, port = address.split(":")
            stream = bbipc.connect_to_ipv4_tcp_server(host, int(port))
        with stream:
            assert bbipc.poll_socket(stream, Events.REMOTE_DISCONNECTED, 20)
            for _ in range(3):
                try:
                    stream.write(b"!")
                except bbipc.SocketError as error:
                    print(error.errno)
                bbipc.poll_socket(stream, Events.CONNECTION_SEVERED, 20)
        """,
        server.address,
    )
    closing = threading.Thread(target=lambda: transport.accept(server).close())
    closing.start()
    assert str(errno.EPIPE) in run().split()
    closing.join(PATIENCE)


# ---- Handlers that use bbipc themselves ----


def test_a_handler_uses_the_poller_that_waits(transport: Transport, backend: str, signals: Signals) -> None:
    stream, remote = transport.pair()
    other, other_remote = transport.pair()
    inner: list[object] = []
    with bbipc.make_poller(backend) as poller:
        poller.monitor_socket(stream, Events.DATA_AVAILABLE)

        def handle() -> None:
            inner.append(poller.wait_for_events(0.01))
            poller.monitor_socket(other, Events.WRITE_SPACE)
            inner.append(poller.wait_for_events(PATIENCE))
            poller.set_monitored_events(other, Events.DATA_AVAILABLE)
            inner.append(poller.wait_for_events(0))
            other_remote.write(b"!")

        signals.on_signal(handle)
        signals.send_when_asleep()
        assert poller.wait_for_events(PATIENCE) == [(other, Events.DATA_AVAILABLE)]
        assert inner == [[], [(other, Events.WRITE_SPACE)], []]
        assert other.read() == b"!"

        # And one that takes away what the wait is for.
        def handle_again() -> None:
            poller.unmonitor_socket(other)
            other_remote.write(b"?")
            remote.write(b"?")

        signals.on_signal(handle_again)
        signals.send_when_asleep()
        assert poller.wait_for_events(PATIENCE) == [(stream, Events.DATA_AVAILABLE)]


def test_a_handler_uses_the_stream_that_waits(transport: Transport, signals: Signals) -> None:
    stream, remote = transport.pair()
    taken: list[bytes] = []

    def handle() -> None:
        remote.write(b"handler" + b"waiter")
        taken.append(stream.read_exactly(7, PATIENCE))
        assert bbipc.poll_socket(stream, Events.DATA_AVAILABLE, PATIENCE)
        stream.write_all(b"answer", PATIENCE)

    signals.on_signal(handle)
    signals.send_when_asleep()
    assert stream.read_exactly(6, PATIENCE) == b"waiter"
    assert taken == [b"handler"]
    assert remote.read_exactly(6, PATIENCE) == b"answer"


@pytest.mark.parametrize("name", STREAM_WAITS)
def test_a_handler_closes_the_stream_that_waits(
    waited_for: tuple[StreamSocket, StreamSocket], signals: Signals, name: str
) -> None:
    stream, _ = waited_for
    signals.on_signal(stream.close)
    signals.send_when_asleep()
    with pytest.raises(bbipc.SocketClosedError) as caught:
        STREAM_WAITS[name](stream, None)
    assert caught.value.socket is stream


def test_a_handler_closes_the_poller_that_waits(transport: Transport, backend: str, signals: Signals) -> None:
    stream, _ = transport.pair()
    poller: Poller = bbipc.make_poller(backend)
    poller.monitor_socket(stream, Events.DATA_AVAILABLE)
    signals.on_signal(poller.close)
    signals.send_when_asleep()
    with pytest.raises(bbipc.PollerClosedError):
        poller.wait_for_events()


def test_a_handler_wakes_the_poller_that_waits(backend: str, signals: Signals) -> None:
    with bbipc.make_poller(backend) as poller:
        signals.on_signal(poller.wake)
        signals.send_when_asleep()
        assert poller.wait_for_events(PATIENCE) == []
        assert signals.count == 1


@pytest.mark.skipif(WINDOWS, reason="Windows has no fork()")
def test_a_handler_forks(transport: Transport, signals: Signals) -> None:
    stream, remote = transport.pair()

    def handle() -> None:
        # A fork with little in between: the child is `true`.
        subprocess.run(["true"], check=True, preexec_fn=lambda: None, timeout=PATIENCE)
        remote.write(b"!")

    signals.on_signal(handle)
    signals.send_when_asleep()
    assert stream.read_exactly(1, PATIENCE) == b"!"


# ---- The GIL ----


@pytest.mark.parametrize("name", WAITS)
def test_other_threads_run_during_a_wait(waited_for: tuple[StreamSocket, StreamSocket], name: str) -> None:
    """What another thread does meanwhile ends the wait. If the GIL were kept, neither would go on."""
    stream, remote = waited_for
    this = threading.get_native_id()
    received = bytearray(64 << 20)

    def answer() -> None:
        until_asleep(os.getpid(), this)
        if name not in WAITS_FOR_ROOM:
            remote.write(answer_to(name))
            return
        while Events.END_OF_DATA not in bbipc.poll_socket(remote, Events.DATA_AVAILABLE | Events.END_OF_DATA):
            remote.read_into(received)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    WAITS[name](stream, PATIENCE)
    stream.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_other_threads_run_during_large_copies(transport: Transport) -> None:
    """A busy thread gets its share while another moves much at a time."""
    stream, remote = transport.pair()
    over = threading.Event()
    counted = 0

    def count() -> None:
        nonlocal counted
        while not over.is_set():
            counted += 1

    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    buffer = bytearray(8 << 20)
    for _ in range(20):
        stream.write(buffer)
        remote.read_into(buffer)
    over.set()
    thread.join(PATIENCE)
    assert counted > 0


ALARM = """
import signal, sys

class Alarm(Exception):
    pass
"""

#: Each runs the program that it is given, which sets alarms: a handler raises soon after, and not after 0 is set.
POSIX_ALARM = (
    ALARM
    + """
def raise_alarm(*_):
    raise Alarm

def set_alarm(seconds):
    signal.setitimer(signal.ITIMER_REAL, seconds)

signal.signal(signal.SIGALRM, raise_alarm)
exec(sys.argv[1])
"""
)

WINDOWS_ALARM = (
    ALARM
    + """
import threading, time

set_to = 0

def raise_alarm(*_):
    global set_to
    if set_to:
        set_to = 0
        raise Alarm

def set_alarm(seconds):
    global set_to
    set_to = seconds

def raise_signals():
    while True:
        # Soon enough by itself: the loop and the handler take turns.
        signal.raise_signal(signal.SIGBREAK)
        time.sleep(0)

signal.signal(signal.SIGBREAK, raise_alarm)
sys.setswitchinterval(1e-6)
threading.Thread(target=raise_signals, daemon=True).start()
exec(sys.argv[1])
"""
)


def test_a_handle_is_not_lost_to_a_handler_that_raises() -> None:
    """The signal came right after the native call, whose result was lost with the exception and never closed."""
    run_program(
        WINDOWS_ALARM if WINDOWS else POSIX_ALARM,
        textwrap.dedent("""
        import itertools, time
        import bbipc
        from bbipc._native.declarations import open_handles

        server = bbipc.make_ipv4_tcp_server("127.0.0.1", 0)
        port = server.port
        # From soon after the call begins to soon after it ends.
        delays = itertools.cycle(range(1, 26))
        alarms = 0
        begun = time.monotonic()
        # Where threads hardly take turns, as under Wine on a busy machine, a second holds few alarms.
        while time.monotonic() < begun + (1.0 if alarms > 10 else 15.0):
            stream = None
            # Two, for one may be left when its alarm comes.
            try:
                try:
                    set_alarm(next(delays) * 1e-6)
                    stream = bbipc.connect_to_ipv4_tcp_server("127.0.0.1", port)
                finally:
                    set_alarm(0)
            except Alarm:
                alarms += 1
            if stream is not None:
                stream.close()
            while server.connection_available():
                server.accept_connection().close()
        assert alarms > 10, alarms
        assert open_handles() == 1, open_handles()
        server.close()
        """),
        options=["-W", "ignore::ResourceWarning"],
    )


def test_no_code_runs_when_a_handle_is_dropped_that_has_an_owner_or_is_a_failure() -> None:
    """Python 3.14 looks for signals where a ``__del__`` begins, and lost what a handler raised there, say Ctrl-C."""
    called = set()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            called.add(frame.f_code)

    with bbipc.make_ipv4_tcp_server("127.0.0.1", 0) as server:
        sys.setprofile(note)
        try:
            bbipc.make_poller().close()
            server.accept_connection()
        except bbipc.NoConnectionAvailableError:
            pass
        finally:
            sys.setprofile(None)
    assert {bbipc.make_poller.__code__, bbipc.StreamServer._accept.__code__} <= called
    assert NewHandle.__del__.__code__ not in called
