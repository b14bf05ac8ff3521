"""Faults that bbipc had on POSIX systems, each named after what failed. Those that every test of a part would find are
with that part's tests."""

from __future__ import annotations

import ctypes
import functools
import gc
import itertools
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bbipc
import fault_cases
from bbipc import Events, Poller, StreamSocket
from bbipc.sockets import open_pollers
from descriptors import dropping, open_descriptors
from patience import PATIENCE, QEMU
from peer import MANY
from systems import LINUX, WINDOWS
from threads import Waiting
from transports import Transport, fill

linux_only = pytest.mark.skipif(not LINUX, reason="limits, filters and namespaces of Linux")
signals_only = pytest.mark.skipif(WINDOWS, reason="Windows has no timers that send signals")


def run_case(name: str, *arguments: str, directory: Path, before: list[str] | None = None) -> None:
    """Runs a program of fault_cases.py in the directory, which must end well."""
    program = Path(fault_cases.__file__)
    result = subprocess.run(
        [*(before or []), sys.executable, "-Wignore::ResourceWarning", str(program), name, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE + fault_cases.HANGS,
        cwd=directory,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 0, result.stderr


@functools.cache
def _refused(command: tuple[str, ...]) -> str:
    """Why a command can't be run here; nothing if it can."""
    if QEMU:
        return "qemu-user runs no program that looks into another"
    if shutil.which(command[0]) is None:
        return f"there is no {command[0]}"
    result = subprocess.run([*command, "true"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return f"{' '.join(command)}: {result.stderr.strip()}" if result.returncode else ""


def delaying(*faults: str) -> list[str]:
    """strace, which delays system calls: each fault is a call, delay_enter or delay_exit with its time, and when."""
    command = ["strace", "-f", "-qq", "-o", os.devnull]
    command += ["-e", "trace=" + ",".join(fault.partition(":")[0] for fault in faults)]
    for fault in faults:
        command += ["-e", f"inject={fault}"]
    reason = _refused(tuple(command))
    if reason:
        pytest.skip(reason)
    return command


def in_namespace() -> list[str]:
    """What makes a program process 1 of a namespace of its own."""
    command = ["unshare", "--pid", "--fork", "--mount-proc"]
    reason = _refused(tuple(command))
    if reason:
        pytest.skip(reason)
    return command


def begun(work: Callable[[], object]) -> threading.Thread:
    """A thread that does the work."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


# ---- Limits ----


@linux_only
def test_a_wait_without_descriptors_closes_none_of_the_program(directory: Path) -> None:
    run_case("a_wait_without_descriptors", directory=directory)


@linux_only
@pytest.mark.skipif(not fault_cases.can_deny() if LINUX else True, reason="the filter is for x86-64 and AArch64")
def test_an_eventfd_that_is_refused_closes_none_of_the_program(directory: Path) -> None:
    run_case("a_wait_without_eventfd", directory=directory)


@linux_only
@pytest.mark.parametrize(
    "what",
    [
        *("data_available", "end_of_data", "ready_to_write", "connection_available", "connection_error", "read"),
        *("poll_socket now", "poll_socket", "poll_socket of nothing", "poll_sockets", "epoll", "poll"),
        *("read_exactly", "read_exactly of more", "write_all of more", "signal"),
    ],
)
def test_no_descriptors_allowed_makes_nothing_hang_or_lie(what: str, directory: Path) -> None:
    run_case("no_descriptors_allowed", what, directory=directory)


@linux_only
def test_a_limit_below_what_a_poller_has_ends_no_wait(directory: Path) -> None:
    run_case("a_limit_below_what_a_poller_has", directory=directory)


@linux_only
@pytest.mark.skipif(not fault_cases.can_deny() if LINUX else True, reason="the filter is for x86-64 and AArch64")
@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_a_server_deletes_its_file_without_statx(error: str, directory: Path) -> None:
    run_case("a_server_without_statx", error, directory=directory)


@linux_only
@pytest.mark.parametrize("what", ["poller", "server", "poll_sockets"])
def test_a_mapping_that_cannot_be_split_ends_no_process(what: str, directory: Path) -> None:
    most = int(Path("/proc/sys/vm/max_map_count").read_text())
    if most > 300_000:
        pytest.skip(f"the system allows {most} mappings, too many to make (vm.max_map_count)")
    run_case("no_mapping_is_left", what, directory=directory)


# ---- Signals ----


@pytest.fixture
def frequent_signals() -> Iterator[None]:
    """A signal with a handler every 100 microseconds, until the test ends."""
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@signals_only
def test_predicates_raise_nothing_when_signals_come(transport: Transport, frequent_signals: None) -> None:
    server = transport.make_server()
    ours = transport.connect(server)
    theirs = transport.accept(server)
    ours.write(b"!")
    give_up_at = time.perf_counter() + 0.5
    while time.perf_counter() < give_up_at:
        for _ in range(50):
            assert theirs.data_available()
            assert not theirs.end_of_data()
            assert not theirs.connection_severed()
            assert theirs.ready_to_write()
            assert not server.connection_available()


@signals_only
def test_calls_that_do_not_wait_raise_nothing_when_signals_come(
    transport: Transport, backend: str, frequent_signals: None
) -> None:
    ours, theirs = transport.pair()
    ours.write(b"!")
    with bbipc.make_poller(backend) as poller:
        poller.monitor_socket(theirs, Events.DATA_AVAILABLE)
        give_up_at = time.perf_counter() + 0.3
        while time.perf_counter() < give_up_at:
            for _ in range(50):
                assert bbipc.poll_socket(theirs, Events.DATA_AVAILABLE, 0) == Events.DATA_AVAILABLE
                assert bbipc.poll_socket(theirs, Events.END_OF_DATA, 0) == Events()
                assert bbipc.poll_sockets([theirs] * MANY, Events.DATA_AVAILABLE, 0)[0]
                assert poller.wait_for_events(0) == [(theirs, Events.DATA_AVAILABLE)]
                assert theirs.connection_error() is None


# ---- What happens between the pieces of a wait ----

#: Seconds. A wait that nothing ends, and within which time one is ended.
LONG, PROMPTLY = 8.0, 4.0


@pytest.fixture
def on_signal() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Does something in a signal's handler, which Python runs between two pieces of the main thread's wait."""
    before = signal.getsignal(signal.SIGALRM)

    def arrange(act: Callable[[], object]) -> None:
        signal.signal(signal.SIGALRM, lambda *_: act())
        # By then the thread waits, or begins to: either is right.
        signal.setitimer(signal.ITIMER_REAL, 0.1)

    yield arrange
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def seconds_of(wait: Callable[[], object]) -> float:
    began = time.perf_counter()
    wait()
    return time.perf_counter() - began


@signals_only
@pytest.mark.parametrize("how", ["wait_for_events", "receive"])
def test_a_wait_ends_whose_socket_is_closed_between_its_pieces(
    transport: Transport, backend: str, how: str, on_signal: Callable[[Callable[[], object]], None]
) -> None:
    ours, _ = transport.pair()
    with bbipc.make_poller(backend) as poller:
        poller.monitor_socket(ours, Events.DATA_AVAILABLE)
        on_signal(ours.close)
        assert seconds_of(lambda: getattr(poller, how)(LONG)) < PROMPTLY


@signals_only
@pytest.mark.parametrize("count", [1, MANY])
def test_a_wait_for_room_ends_whose_stream_is_finished_between_its_pieces(
    transport: Transport, count: int, on_signal: Callable[[Callable[[], object]], None]
) -> None:
    ours, _ = transport.pair()
    fill(ours)
    on_signal(ours.finish_writing)
    if count == 1:
        took = seconds_of(lambda: bbipc.poll_socket(ours, Events.WRITE_SPACE, LONG))
    else:
        took = seconds_of(lambda: bbipc.poll_sockets([ours] * count, Events.WRITE_SPACE, LONG))
    assert took < PROMPTLY


@signals_only
def test_a_write_ends_whose_stream_is_finished_between_its_pieces(
    transport: Transport, on_signal: Callable[[Callable[[], object]], None]
) -> None:
    ours, _ = transport.pair()
    fill(ours)
    on_signal(ours.finish_writing)
    began = time.perf_counter()
    with pytest.raises((bbipc.SocketError, bbipc.EndOfStreamError)):
        ours.write_all(b"more" * 1000, LONG)
    assert time.perf_counter() - began < PROMPTLY


#: The numbers of the calls that wait: epoll_wait, epoll_pwait, poll, ppoll.
WAITING_CALLS = {"x86_64": ("232", "281", "7", "271"), "aarch64": ("22", "73")}


def _act_while_a_wait_needs_the_gil(wait: Callable[[], object], act: Callable[[], object]) -> float:
    """Begins a wait in a thread, keeps the GIL for longer than the first piece of the wait, and acts.

    The thread is then between two pieces of its wait, unless it was quicker. Returns how long it still takes.
    """
    interval = sys.getswitchinterval()
    thread = begun(wait)
    place = f"/proc/self/task/{thread.native_id}/syscall"
    give_up_at = time.perf_counter() + PATIENCE
    while Path(place).read_text().split()[0] not in WAITING_CALLS[platform.machine()]:
        assert time.perf_counter() < give_up_at
    sys.setswitchinterval(100.0)
    try:
        until = time.perf_counter() + 0.03
        while time.perf_counter() < until:
            pass
        act()
    finally:
        sys.setswitchinterval(interval)
    began = time.perf_counter()
    thread.join(PROMPTLY)
    return time.perf_counter() - began


@linux_only
@pytest.mark.skipif(
    QEMU or platform.machine() not in WAITING_CALLS, reason="the calls of this processor are not listed"
)
def test_a_threads_wait_ends_whose_socket_is_closed_between_its_pieces(transport: Transport, backend: str) -> None:
    for _ in range(10):
        ours, _ = transport.pair()
        with bbipc.make_poller(backend) as poller:
            poller.monitor_socket(ours, Events.DATA_AVAILABLE)
            took = _act_while_a_wait_needs_the_gil(lambda: poller.wait_for_events(LONG), ours.close)
            assert took < PROMPTLY


@linux_only
@pytest.mark.skipif(
    QEMU or platform.machine() not in WAITING_CALLS, reason="the calls of this processor are not listed"
)
def test_a_threads_wait_for_room_ends_whose_stream_is_finished_between_its_pieces(transport: Transport) -> None:
    for _ in range(10):
        ours, _ = transport.pair()
        fill(ours)
        wait = functools.partial(bbipc.poll_socket, ours, Events.WRITE_SPACE, LONG)
        assert _act_while_a_wait_needs_the_gil(wait, ours.finish_writing) < PROMPTLY


# ---- Threads ----


@linux_only
def test_write_all_ends_whose_stream_is_finished_just_before_it_waits(directory: Path) -> None:
    run_case("finish_writing_before_the_wait", directory=directory, before=delaying("sendto:delay_exit=300ms:when=1"))


@linux_only
def test_a_predicate_is_not_woken_by_finish_writing(directory: Path) -> None:
    run_case("a_question_beside_finish_writing", directory=directory, before=delaying("?poll,ppoll:delay_exit=300ms"))


@linux_only
def test_accept_connection_never_blocks_on_a_listener_that_was_made_blocking(directory: Path) -> None:
    run_case("a_client_that_another_takes", directory=directory, before=delaying("accept4:delay_enter=300ms:when=1"))


@linux_only
@pytest.mark.parametrize("what", ["taken", "free"])
def test_a_changed_directory_lets_no_server_delete_anothers_file(what: str, directory: Path) -> None:
    delays = delaying("chdir:delay_enter=300ms:when=1", "bind:delay_enter=300ms:when=2")
    run_case("the_directory_changes", what, directory=directory, before=delays)


@linux_only
def test_a_fork_before_the_last_close_leaves_the_child_no_descriptor(directory: Path) -> None:
    delays = delaying("ppoll:delay_exit=100ms", "close:delay_enter=300ms:when=1")
    run_case("a_fork_before_the_last_close", directory=directory, before=delays)


# ---- Process numbers ----


@linux_only
def test_a_child_with_its_parents_number_is_another_process(directory: Path) -> None:
    run_case("a_child_with_the_same_number", directory=directory, before=in_namespace())


@linux_only
def test_a_process_with_a_dead_makers_number_is_another_process(directory: Path) -> None:
    run_case("a_process_with_its_makers_number", directory=directory, before=in_namespace())


# ---- Buffers ----


class _View(ctypes.Structure):
    """A Py_buffer, as far as anybody here looks into it."""

    _fields_ = (("memory", ctypes.c_void_p), ("more", ctypes.c_void_p * 20))


class _Slot(ctypes.Structure):
    _fields_ = (("number", ctypes.c_int), ("function", ctypes.c_void_p))


class _Spec(ctypes.Structure):
    _fields_ = (
        *(("name", ctypes.c_char_p), ("size", ctypes.c_int), ("item_size", ctypes.c_int)),
        *(("flags", ctypes.c_uint), ("slots", ctypes.POINTER(_Slot))),
    )


@ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(_View), ctypes.c_int)
def _get_buffer(exporter: Any, view: Any, flags: int) -> int:
    data = exporter.next_bytes()
    address = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p)
    fill = ctypes.pythonapi.PyBuffer_FillInfo
    fill.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_int]
    result: int = fill(ctypes.addressof(view.contents), exporter, address, len(data), 1, flags)
    return result


def _make_exporting_type() -> Any:
    """What a class statement makes from Python 3.12 on, where __buffer__ is: a type that hands out buffers."""
    slots = (_Slot * 2)(_Slot(1, ctypes.cast(_get_buffer, ctypes.c_void_p)))  # Py_bf_getbuffer
    default_and_base = 1 << 18 | 1 << 10
    spec = _Spec(b"tests.Exporting", object.__basicsize__, 0, default_and_base, slots)
    make = ctypes.pythonapi.PyType_FromSpec
    make.restype = ctypes.py_object
    return make(ctypes.byref(spec))


Exporting = _make_exporting_type() if sys.implementation.name == "cpython" else object
needs_exporters = pytest.mark.skipif(Exporting is object, reason="makes a type by CPython's own functions")


class Exporter(Exporting):  # type: ignore[misc]
    """Makes other bytes for each that asks for its buffer."""

    def __init__(self, *sizes: int) -> None:
        self._sizes = list(sizes)
        self._kept: list[bytes] = []

    @property
    def count(self) -> int:
        return len(self._kept)

    def next_bytes(self) -> bytes:
        size = self._sizes[min(self.count + 1, len(self._sizes)) - 1]
        self._kept.append(bytes([self.count + 1]) * size)
        return self._kept[-1]


@needs_exporters
@pytest.mark.parametrize("sizes", [(400_000, 400_000), (400_000, 10), (400_000, 900_000)])
def test_write_all_asks_for_the_buffer_once(transport: Transport, sizes: tuple[int, int]) -> None:
    ours, theirs = transport.pair()
    exporter: Any = Exporter(*sizes)
    before = fill(ours)
    writing = Waiting(lambda: ours.write_all(exporter, PATIENCE))
    theirs.read_exactly(before, PATIENCE)
    assert theirs.read_exactly(400_000, PATIENCE) == b"\1" * 400_000
    writing.result()
    assert exporter.count == 1
    assert theirs.read() == b""


# ---- Streams of a remote end that has finished ----


def half_closed(transport: Transport) -> tuple[StreamSocket, StreamSocket]:
    """A stream whose remote end has finished and left bytes unread, and that end."""
    ours, theirs = transport.pair()
    ours.write(b"request")
    ours.finish_writing()
    assert bbipc.poll_socket(theirs, Events.REMOTE_DISCONNECTED, PATIENCE)
    return theirs, ours


@linux_only
@pytest.mark.parametrize("how", ["poll_socket", "epoll", "poll"])
def test_room_beside_an_end_is_told_as_early_as_room_alone(transport: Transport, how: str) -> None:
    asked = Events.WRITE_SPACE | Events.END_OF_DATA
    stream, remote = half_closed(transport)
    fill(stream)
    with bbipc.make_poller(None if how == "poll_socket" else how) as poller:
        poller.monitor_socket(stream, asked)

        def wait() -> float:
            if how == "poll_socket":
                happened = bbipc.poll_socket(stream, asked, PATIENCE)
            else:
                ((_, happened),) = poller.wait_for_events(PATIENCE)
            assert happened == Events.WRITE_SPACE
            return time.perf_counter()

        late = []
        while len(late) < 3 and min(late, default=1.0) > 0.01:
            fill(stream)
            told: list[float] = []
            waiting = begun(lambda: told.append(wait()))  # noqa: B023 - it ends in this turn
            # By then, a wait that asks only now and then asks seldom.
            waiting.join(0.3)
            assert waiting.is_alive()
            began = time.perf_counter()
            while remote.read(1 << 20):
                pass
            waiting.join(PATIENCE)
            late.append(told[0] - began)
    assert min(late) < 0.01, f"the room was told after {late} s"


@linux_only
def test_clients_that_have_finished_cost_the_others_nothing(transport: Transport) -> None:
    count = 1000

    def microseconds(poller: Poller, ours: StreamSocket, theirs: StreamSocket) -> float:
        times = []
        for _ in range(60):
            began = time.perf_counter()
            ours.write(b"ping")
            assert poller.receive(PATIENCE) == [(theirs, Events.DATA_AVAILABLE, b"ping")]
            times.append(time.perf_counter() - began)
        return sorted(times)[len(times) // 2] * 1e6

    with bbipc.make_poller() as poller:
        ours, theirs = transport.pair()
        poller.monitor_socket(theirs, Events.DATA_AVAILABLE)
        alone = microseconds(poller, ours, theirs)
        for _ in range(count):
            poller.monitor_socket(half_closed(transport)[0], Events.END_OF_DATA)
        assert poller.wait_for_events(0) == []
        beside = microseconds(poller, ours, theirs)
    # Each wait asks a few of them.
    assert beside < 20 * alone, f"a message takes {beside:.0f} us beside {count} such clients, {alone:.0f} us without"


# ---- Interruptions ----


def _raising_at(place: int) -> Callable[..., Any]:
    """A trace function that raises at the line of that number in Poller.close."""
    lines = itertools.count()

    def in_close(_frame: types.FrameType, event: str, _argument: object) -> Any:
        if event == "line" and next(lines) == place:
            raise KeyboardInterrupt
        return in_close

    def trace(frame: types.FrameType, _event: str, _argument: object) -> Any:
        return in_close if frame.f_code is Poller.close.__code__ else None

    return trace


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_poller_whose_close_is_interrupted_leaves_no_trace(transport: Transport) -> None:
    ours, _ = transport.pair()
    before = len(open_pollers)
    descriptors = open_descriptors()
    interrupted = 0
    for place in range(50):
        poller = bbipc.make_poller()
        poller.monitor_socket(ours, Events.DATA_AVAILABLE)
        sys.settrace(_raising_at(place))
        try:
            poller.close()
        except KeyboardInterrupt:
            interrupted += 1
        finally:
            sys.settrace(None)
        with dropping():
            del poller
        if interrupted == place:
            break
    assert interrupted > 2
    gc.collect()
    assert open_descriptors() == descriptors
    assert len(open_pollers) == before


def test_what_read_exactly_has_read_is_not_lost_where_memory_ends(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_arguments: object) -> bytes:
        raise MemoryError

    stream, remote = transport.pair()
    remote.write_all(b"first", PATIENCE)
    assert bbipc.poll_socket(stream, Events.DATA_AVAILABLE, PATIENCE)
    assert stream.read(5, peek=True) == b"first"
    if bbipc.calling_layer() == "ctypes":
        first = iter([b"first"])
        monkeypatch.setattr(bbipc._native.calls, "read_exactly", lambda *_arguments: next(first, None) or no_memory())
    else:
        # The built-in method has read what is there before it goes on with the function.
        monkeypatch.setattr(bbipc._native.calls, "read_exactly", no_memory)
    with pytest.raises(MemoryError) as ended:
        stream.read_exactly(8, PATIENCE)
    assert b"".join(vars(ended.value)["chunks"]) == b"first"
