"""A call that comes between any two instructions of another, and one that Ctrl-C interrupts there.

A thread is stopped at every instruction of bbipc's Python code in turn, and another call is made there: by another
thread, or in the same one as a signal handler would. CPython with a GIL switches threads at some of these places
only; which, changes from version to version, and without a GIL it is all of them.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import bbipc
from bbipc import Events, Socket, StreamSocket
from bbipc._native.declarations import open_handles
from patience import PATIENCE

PACKAGE = os.path.dirname(bbipc.__file__)


class Stopping(threading.Thread):
    """Does something, and something else when it comes to its instruction (or line) number `at` in bbipc."""

    def __init__(
        self, work: Callable[[], object], at: int, meanwhile: Callable[[], object], unit: str = "opcode"
    ) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._unit = unit
        self._units_left = at
        self._meanwhile = meanwhile
        self.stopped = False
        self.error: BaseException | None = None
        self.start()
        self.join(PATIENCE)
        assert not self.is_alive(), "the thread hangs"

    def run(self) -> None:
        # Python 3.12 traces instructions only if a frame asked for it before.
        sys._getframe().f_trace_opcodes = self._unit == "opcode"
        sys.settrace(self._trace)
        try:
            self._work()
        except BaseException as error:
            self.error = error
        finally:
            sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, _argument: object) -> Any:
        # Finalizers run in whichever thread happens to collect, and have nothing to do with its work.
        if not frame.f_code.co_filename.startswith(PACKAGE) or frame.f_code.co_name == "__del__":
            return None
        frame.f_trace_opcodes = self._unit == "opcode"
        if event == self._unit:
            self._units_left -= 1
            if self._units_left == 0:
                self.stopped = True
                self._meanwhile()
        return self._trace


class Scene:
    """What the interleaved calls are made on. Everything is new for every interleaving."""

    def __init__(self, directory: Path) -> None:
        # On Windows a server has a pipe for each client that it has room for, and there are thousands of scenes.
        self.server = bbipc.make_local_server(str(directory / "s"), backlog=2)
        self.stream = bbipc.connect_to_local_server(self.server.local_pathname)
        self.remote = self.server.accept_connection()
        self.client = bbipc.connect_to_local_server(self.server.local_pathname)
        self.poller = bbipc.make_poller()
        self.other_poller = bbipc.make_poller()
        self.accepted: list[StreamSocket] = []
        self.received: list[bytes] = []

    def monitor(self) -> None:
        self.poller.monitor_socket(self.stream, Events.WRITE_SPACE)

    def monitor_elsewhere(self) -> None:
        self.other_poller.monitor_socket(self.stream, Events.WRITE_SPACE)

    def unmonitor(self) -> None:
        self.poller.unmonitor_socket(self.stream)

    def change(self) -> None:
        self.poller.set_monitored_events(self.stream, Events.WRITE_SPACE | Events.DATA_AVAILABLE)

    def wait(self) -> None:
        result = self.poller.wait_for_events(0)
        assert len({socket for socket, _ in result}) == len(result)

    def close_stream(self) -> None:
        self.stream.close()
        assert self.stream.closed

    def close_poller(self) -> None:
        self.poller.close()
        assert self.poller.closed

    def accept(self) -> None:
        self.accepted.append(self.server.accept_connection())

    def write(self) -> None:
        self.stream.write(b"bytes")

    def read(self) -> None:
        self.received.append(self.remote.read(3))

    def read_exactly(self) -> None:
        self.received.append(self.remote.read_exactly(3, 0))

    def read_much(self) -> None:
        self.received.append(self.remote.read(200_000))

    def read_into_bytearray(self) -> None:
        self._read_into(bytearray(5))

    def read_into_view(self) -> None:
        self._read_into(memoryview(bytearray(5)))

    def _read_into(self, buffer: bytearray | memoryview) -> None:
        size = self.remote.read_into(buffer)
        self.received.append(bytes(buffer[:size]))

    def write_bytearray(self) -> None:
        self.stream.write(bytearray(b"bytes"))

    def write_view(self) -> None:
        self.stream.write(memoryview(b"bytes"))

    def write_all(self) -> None:
        self.stream.write_all(b"bytes", PATIENCE)

    def close_remote(self) -> None:
        self.remote.close()

    def poll(self) -> None:
        bbipc.poll_socket(self.stream, Events.WRITE_SPACE, 0)

    def poll_several(self) -> None:
        bbipc.poll_sockets([self.remote, self.stream, self.server], [Events.DATA_AVAILABLE] * 2 + [Events()], 0)

    def describe(self) -> None:
        assert repr(self.stream).startswith("<LocalStream")
        assert repr(self.poller).startswith("<Poller")

    def list_sockets(self) -> None:
        self.poller.monitored_sockets()

    def check(self) -> None:
        """Whatever came of the calls, everything agrees afterwards."""
        pollers = [poller for poller in (self.poller, self.other_poller) if not poller.closed]
        for poller in pollers:
            # What Python keeps and what the library monitors are the same.
            monitored = not self.stream.closed and bool(poller.monitored_events(self.stream))
            assert poller.monitored_sockets() == [self.stream] * monitored
            assert [socket for socket, _ in poller.wait_for_events(0)] == [self.stream] * monitored
        # Which of two calls read first can't be told from the order in which they return.
        in_order, reverse = b"".join(self.received), b"".join(self.received[::-1])
        assert b"bytes".startswith(in_order) or b"bytes".startswith(reverse)
        assert len(self.accepted) <= 1
        self.stream.close()
        for poller in pollers:
            assert poller.monitored_sockets() == []

    def close(self) -> None:
        sockets: list[Socket] = [self.server, self.stream, self.remote, self.client, *self.accepted]
        for socket in sockets:
            socket.close()
        for poller in (self.poller, self.other_poller):
            poller.close()


#: What is done before, what is interrupted, and what is done then.
INTERLEAVINGS: list[tuple[list[Callable[[Scene], None]], Callable[[Scene], None], Callable[[Scene], None]]] = [
    ([], Scene.monitor, Scene.monitor),
    ([], Scene.monitor, Scene.unmonitor),
    ([], Scene.monitor, Scene.wait),
    ([], Scene.monitor, Scene.close_stream),
    ([], Scene.monitor, Scene.close_poller),
    ([], Scene.monitor, Scene.monitor_elsewhere),
    ([Scene.monitor], Scene.unmonitor, Scene.unmonitor),
    ([Scene.monitor], Scene.unmonitor, Scene.monitor),
    ([Scene.monitor], Scene.unmonitor, Scene.monitor_elsewhere),
    ([Scene.monitor], Scene.unmonitor, Scene.close_stream),
    ([Scene.monitor], Scene.unmonitor, Scene.close_poller),
    ([Scene.monitor], Scene.change, Scene.unmonitor),
    ([Scene.monitor], Scene.change, Scene.close_stream),
    ([Scene.monitor], Scene.change, Scene.close_poller),
    ([Scene.monitor], Scene.wait, Scene.wait),
    ([Scene.monitor], Scene.wait, Scene.unmonitor),
    ([Scene.monitor], Scene.wait, Scene.close_stream),
    ([Scene.monitor], Scene.wait, Scene.close_poller),
    ([Scene.monitor], Scene.list_sockets, Scene.close_stream),
    ([Scene.monitor], Scene.list_sockets, Scene.close_poller),
    ([Scene.monitor, Scene.monitor_elsewhere], Scene.close_stream, Scene.close_stream),
    ([Scene.monitor], Scene.close_stream, Scene.close_poller),
    ([Scene.monitor], Scene.close_stream, Scene.unmonitor),
    ([], Scene.close_stream, Scene.monitor),
    ([Scene.monitor], Scene.close_poller, Scene.close_poller),
    ([Scene.monitor], Scene.close_poller, Scene.close_stream),
    ([Scene.monitor], Scene.close_poller, Scene.unmonitor),
    ([], Scene.close_poller, Scene.monitor),
    ([Scene.monitor], Scene.close_poller, Scene.monitor_elsewhere),
    ([], Scene.accept, Scene.accept),
    ([], Scene.write, Scene.close_stream),
    ([Scene.write], Scene.read, Scene.read),
    ([Scene.write], Scene.read, Scene.close_remote),
    ([Scene.write], Scene.read_exactly, Scene.close_remote),
    ([Scene.write], Scene.read_exactly, Scene.close_stream),
    ([Scene.write], Scene.read_much, Scene.read),
    ([Scene.write], Scene.read_into_bytearray, Scene.close_remote),
    ([Scene.write], Scene.read_into_view, Scene.close_remote),
    ([], Scene.write_bytearray, Scene.close_stream),
    ([], Scene.write_view, Scene.close_stream),
    ([], Scene.write_all, Scene.close_stream),
    ([], Scene.poll, Scene.close_stream),
    ([], Scene.poll_several, Scene.close_stream),
    ([Scene.monitor], Scene.describe, Scene.close_stream),
    ([Scene.monitor], Scene.describe, Scene.close_poller),
]

#: What a call may say when another came in between.
PERMITTED = (
    bbipc.AlreadyMonitoredError,
    bbipc.NotMonitoredError,
    bbipc.SocketClosedError,
    bbipc.PollerClosedError,
    bbipc.NoConnectionAvailableError,
)


class Interleaving:
    """One call that is interrupted at its instruction number `at`, and another that is made there."""

    def __init__(self, interrupted: Callable[[], None], then: Callable[[], None], at: int, by_a_thread: bool) -> None:
        self._then = then
        self._thread = threading.Thread(target=self._call, daemon=True)
        self._error: BaseException | None = None
        stopping = Stopping(interrupted, at, self._call_in_a_thread if by_a_thread else self._call)
        self.happened = stopping.stopped
        if self.happened and by_a_thread:
            self._thread.join(PATIENCE)
            assert not self._thread.is_alive(), "the call hangs"
        for error in (self._error, stopping.error):
            if error is not None and not isinstance(error, PERMITTED):
                raise AssertionError(f"at instruction {at}") from error

    def _call(self) -> None:
        try:
            self._then()
        except BaseException as error:
            self._error = error

    def _call_in_a_thread(self) -> None:
        self._thread.start()
        # The call may have to wait for the interrupted one, and then comes after it.
        self._thread.join(0.2)


#: If these are built-in methods, nothing can interrupt them.
BUILT_IN = (
    {
        Scene.read,
        Scene.read_much,
        Scene.read_exactly,
        Scene.read_into_bytearray,
        Scene.read_into_view,
        Scene.wait,
        Scene.write,
        Scene.write_all,
        Scene.write_bytearray,
        Scene.write_view,
    }
    if not inspect.isfunction(StreamSocket.write)
    else set()
)


def least_instructions(interrupted: Callable[[Scene], None], in_python: int) -> int:
    return 0 if interrupted in BUILT_IN else in_python


def interleaving_name(case: object) -> str | None:
    if isinstance(case, list):
        return " ".join(step.__name__ for step in case) or "nothing"
    return getattr(case, "__name__", None)


@pytest.mark.parametrize("by_a_thread", [True, False], ids=["thread", "signal handler"])
@pytest.mark.parametrize(("before", "interrupted", "then"), INTERLEAVINGS, ids=interleaving_name)
def test_a_call_that_comes_between(
    directory: Path,
    before: list[Callable[[Scene], None]],
    interrupted: Callable[[Scene], None],
    then: Callable[[Scene], None],
    by_a_thread: bool,
) -> None:
    handles_before = open_handles()
    for at in range(1, 10_000):
        scene = Scene(directory)
        try:
            for step in before:
                step(scene)
            interleaving = Interleaving(partial(interrupted, scene), partial(then, scene), at, by_a_thread)
            scene.check()
        finally:
            scene.close()
        assert open_handles() == handles_before
        if not interleaving.happened:
            assert at > least_instructions(interrupted, 10), "nothing was interrupted"
            return


INTERRUPTED: list[tuple[list[Callable[[Scene], None]], Callable[[Scene], None]]] = [
    ([Scene.write], Scene.read),
    ([Scene.write], Scene.read_much),
    ([Scene.write], Scene.read_into_view),
    ([Scene.write], Scene.read_exactly),
    ([], Scene.write),
    ([], Scene.write_view),
    ([], Scene.write_all),
    ([], Scene.monitor),
    ([Scene.monitor], Scene.unmonitor),
    ([Scene.monitor], Scene.change),
    ([Scene.monitor], Scene.wait),
    ([], Scene.poll),
    ([], Scene.poll_several),
    ([Scene.monitor], Scene.close_stream),
    ([Scene.monitor], Scene.close_poller),
]


@pytest.mark.parametrize(("before", "interrupted"), INTERRUPTED, ids=interleaving_name)
def test_a_call_that_is_interrupted_can_be_made_again(
    directory: Path, before: list[Callable[[Scene], None]], interrupted: Callable[[Scene], None]
) -> None:
    """Ctrl-C before any line of bbipc: nothing is lost but what the call was about to do."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    handles_before = open_handles()
    for at in range(1, 10_000):
        scene = Scene(directory)
        try:
            for step in before:
                step(scene)
            stopping = Stopping(partial(interrupted, scene), at, interrupt, "line")
            if not stopping.stopped:
                assert at > least_instructions(interrupted, 3), "nothing was interrupted"
                return
            assert type(stopping.error) is KeyboardInterrupt
            # The call may have done its work already.
            with contextlib.suppress(bbipc.AlreadyMonitoredError, bbipc.TimeoutError):
                interrupted(scene)
            # Bytes that were read, but not returned, are lost.
            scene.received.clear()
            scene.check()
        finally:
            scene.close()
        assert open_handles() == handles_before, f"interrupted before line number {at}"


MAKING: dict[str, Callable[[Path, Scene], object]] = {
    "ipv4 server": lambda _path, _scene: bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 0),
    "local server": lambda path, _scene: bbipc.make_local_server(path / "another"),
    "ipv4 stream": lambda _path, _scene: bbipc.connect_to_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 1),
    "local stream": lambda path, _scene: bbipc.connect_to_local_server(path / "s"),
    "accepted stream": lambda _path, scene: scene.server.accept_connection(),
    "poller": lambda _path, _scene: bbipc.make_poller(),
}


@pytest.mark.parametrize("make", MAKING.values(), ids=MAKING)
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_what_is_interrupted_while_it_is_made_loses_no_handle(
    directory: Path, make: Callable[[Path, Scene], object]
) -> None:
    """Ctrl-C before any line of bbipc: what was there by then is closed."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    with contextlib.closing(Scene(directory)) as scene:
        made: list[object] = []
        for at in range(1, 100):
            handles_before = open_handles()
            stopping = Stopping(lambda: made.append(make(directory, scene)), at, interrupt, "line")
            if not stopping.stopped:
                assert at > 3, "nothing was interrupted"
                made.pop().close()  # type: ignore[attr-defined]
                return
            assert type(stopping.error) is KeyboardInterrupt
            # Its traceback has what was being made.
            stopping.error = None
            assert made == []
            assert open_handles() == handles_before, f"interrupted before line number {at}"
            # The backlog has little room.
            while scene.server.connection_available():
                scene.server.accept_connection().close()
            scene.client.close()
            scene.client = bbipc.connect_to_local_server(scene.server.local_pathname)
