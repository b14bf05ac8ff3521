"""Poller.fileno(): one descriptor for the whole poller, in loops that are not bbipc's.

Of every state of a stream test_polling.py watches it as one more way to wait, and test_poller_model.py in any sequence
of operations.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import bbipc
import foreign_loops
from bbipc import Events, Poller, StreamSocket
from child_processes import Processes
from descriptors import open_descriptors
from patience import PATIENCE
from pythons import python_with
from readiness import needs_half_close
from systems import BACKENDS, TCP_DELIVERS_AT_ONCE, WINDOWS
from threads import Failing, Waiting
from transports import Transport, fill

if sys.platform != "win32":
    from shown import is_quiet, is_readable, reports

SHOWN = [name for name in BACKENDS if name not in {"poll", "iocp"}]

posix_only = pytest.mark.skipif(WINDOWS, reason="a completion port has no descriptor")


@pytest.fixture(params=SHOWN)
def shown(request: pytest.FixtureRequest) -> Iterator[Poller]:
    """A poller whose descriptor is watched."""
    with bbipc.make_poller(request.param) as made:
        made.fileno()
        yield made


@pytest.mark.parametrize("name", [name for name in BACKENDS if name not in SHOWN])
def test_a_backend_without_a_descriptor_says_what_to_do(name: str) -> None:
    with bbipc.make_poller(name) as poller, pytest.raises(bbipc.UnsupportedOperationError, match=f"'{name}'.*: "):
        poller.fileno()


@posix_only
def test_the_descriptor_is_the_pollers_and_stays_the_same(shown: Poller) -> None:
    before = open_descriptors()
    assert {shown.fileno() for _ in range(3)} == {shown.fileno()}
    assert shown.fileno() in before
    assert open_descriptors() == before
    assert not os.get_inheritable(shown.fileno())


@posix_only
def test_a_poller_that_nobody_watches_has_no_descriptor_more(backend: str) -> None:
    with bbipc.make_poller(backend) as poller:
        before = open_descriptors()
        if backend in SHOWN:
            poller.fileno()
            assert len(open_descriptors()) - len(before) == (1 if backend == "epoll" else 0)
        poller.wait_for_events(0)


@posix_only
def test_what_holds_before_the_descriptor_is_asked_for_is_told(transport: Transport) -> None:
    stream, peer = transport.pair()
    peer.write_all(b"!")
    for events in (Events.DETERMINED, Events.DATA_AVAILABLE, Events.WRITE_SPACE):
        with bbipc.make_poller() as poller:
            poller.monitor_socket(stream, events)
            poller.fileno()
            assert is_readable(poller, PATIENCE)
            assert reports(poller, 0) == [(stream, events)]
    with bbipc.make_poller() as poller:
        poller.wake()
        poller.fileno()
        assert is_readable(poller)


@posix_only
def test_a_wake_is_told_until_a_wait_has_ended_by_it(shown: Poller) -> None:
    assert is_quiet(shown)
    for _ in range(2):
        shown.wake()
        shown.wake()
        assert is_readable(shown)
        assert shown.wait_for_events(0) == []
        assert is_quiet(shown)
    thread = Failing(shown.wake)
    assert is_readable(shown, PATIENCE)
    thread.join()
    assert shown.wait_for_events() == []


@posix_only
def test_a_wake_that_ends_another_threads_wait_is_over(shown: Poller) -> None:
    waiting = Waiting(shown.wait_for_events)
    shown.wake()
    assert waiting.result() == []
    assert is_quiet(shown)


@posix_only
def test_an_event_that_stands_is_told_until_it_is_not_asked_for(transport: Transport, shown: Poller) -> None:
    stream, peer = transport.pair()
    shown.monitor_socket(stream, Events.DETERMINED)
    for _ in range(3):
        assert reports(shown, 0) == [(stream, Events.DETERMINED)]
        assert is_readable(shown)
    shown.set_monitored_events(stream, Events())
    assert not is_readable(shown)
    shown.set_monitored_events(stream, Events.CONNECTION_SUCCEEDED)
    assert is_readable(shown)
    shown.unmonitor_socket(stream)
    assert not is_readable(shown)
    shown.monitor_socket(peer, Events.CONNECTION_SUCCEEDED)
    assert is_readable(shown)
    peer.close()
    assert not is_readable(shown)


@posix_only
def test_the_end_after_ones_own_last_read_is_told(transport: Transport, shown: Poller) -> None:
    stream, peer = transport.pair()
    shown.monitor_socket(stream, Events.END_OF_DATA)
    peer.write_all(b"last")
    peer.close()
    assert bbipc.poll_socket(stream, Events.REMOTE_DISCONNECTED, PATIENCE)
    assert reports(shown, 0) == []
    stream.read(2)
    assert reports(shown, 0) == []
    assert is_quiet(shown)
    Failing(lambda: stream.read_exactly(2, PATIENCE)).join()
    assert is_readable(shown)
    assert reports(shown, 0) == [(stream, Events.END_OF_DATA)]


@posix_only
def test_the_end_after_somebody_elses_last_read_is_told_soon(transport: Transport, shown: Poller) -> None:
    """No kernel tells of it: the poller looks."""
    stream, peer = transport.pair()
    shown.monitor_socket(stream, Events.END_OF_DATA)
    peer.write_all(b"last")
    peer.close()
    assert bbipc.poll_socket(stream, Events.REMOTE_DISCONNECTED, PATIENCE)
    assert reports(shown, 0) == []
    assert os.read(stream.fileno(), 4) == b"last"
    assert reports(shown, PATIENCE) == [(stream, Events.END_OF_DATA)]
    assert is_readable(shown)


@posix_only
def test_the_half_of_a_message_is_taken_in_and_then_silent(transport: Transport, shown: Poller) -> None:
    stream, peer = transport.pair()
    shown.monitor_socket(stream, Events.MESSAGE_AVAILABLE)
    for part in (b"\0\0", b"\0\x05", b"who"):
        peer.write_all(part)
        assert is_readable(shown, PATIENCE)
        assert shown.receive_messages(0) == []
        assert is_quiet(shown)
    peer.write_all(b"le\0\0\0\x04next")
    assert is_readable(shown, PATIENCE)
    assert reports(shown, 0) == [(stream, Events.MESSAGE_AVAILABLE)]
    # Both are in the stream now, of which the kernel knows nothing any more.
    assert is_readable(shown)
    assert stream.receive_message(0) == b"whole"
    assert is_readable(shown)
    assert shown.receive_messages(0) == [(stream, Events.MESSAGE_AVAILABLE, [b"next"])]
    assert is_quiet(shown)


@posix_only
def test_messages_that_another_thread_receives_are_not_told(transport: Transport, shown: Poller) -> None:
    stream, peer = transport.pair()
    shown.monitor_socket(stream, Events.MESSAGE_AVAILABLE)
    peer.send_messages([b"one", b"two"])
    assert reports(shown, PATIENCE) == [(stream, Events.MESSAGE_AVAILABLE)]
    thread = Failing(stream.receive_messages)
    thread.join()
    assert is_quiet(shown)


@posix_only
def test_the_rest_of_a_message_goes_in_the_loop(transport: Transport, shown: Poller) -> None:
    stream, peer = transport.pair()
    shown.monitor_socket(stream, Events.MESSAGE_SPACE)
    with pytest.raises(bbipc.TimeoutError):
        stream.send_message(bytes(stream.max_message_size), 0)
    receiving = Failing(lambda: peer.receive_message(PATIENCE))
    assert reports(shown, PATIENCE) == [(stream, Events.MESSAGE_SPACE)]
    receiving.join()
    assert stream.unsent() == 0


@posix_only
def test_ones_own_end_is_told_with_what_follows(transport: Transport, shown: Poller) -> None:
    needs_half_close(transport)
    stream, peer = transport.pair()
    shown.monitor_socket(stream, Events.CONNECTION_SEVERED)
    peer.finish_writing()
    assert bbipc.poll_socket(stream, Events.REMOTE_DISCONNECTED, PATIENCE)
    assert reports(shown, 0) == []
    stream.finish_writing()
    assert reports(shown, PATIENCE) == [(stream, Events.CONNECTION_SEVERED)]


@posix_only
def test_each_poller_of_a_stream_tells_for_itself(transport: Transport) -> None:
    stream, peer = transport.pair()
    with bbipc.make_poller() as one, bbipc.make_poller() as other:
        for poller in (one, other):
            poller.fileno()
            poller.monitor_socket(stream, Events.MESSAGE_AVAILABLE | Events.END_OF_DATA)
        peer.send_message(b"hello")
        assert reports(one, PATIENCE) == [(stream, Events.MESSAGE_AVAILABLE)]
        assert is_readable(other)
        assert reports(other, 0) == [(stream, Events.MESSAGE_AVAILABLE)]
        assert stream.receive_message(0) == b"hello"
        assert is_quiet(one)
        assert is_quiet(other)
        peer.close()
        assert reports(other, PATIENCE) == [(stream, Events.END_OF_DATA)]
        assert is_readable(one)


@posix_only
def test_room_that_comes_and_goes_is_told(transport: Transport, shown: Poller) -> None:
    stream, peer = transport.pair()
    shown.monitor_socket(stream, Events.WRITE_SPACE)
    assert is_readable(shown)
    size = fill(stream)
    assert is_quiet(shown)
    peer.read_exactly(size, PATIENCE)
    assert reports(shown, PATIENCE) == [(stream, Events.WRITE_SPACE)]


@posix_only
def test_a_wait_that_sleeps_and_a_loop_that_watches_hear_both(transport: Transport, shown: Poller) -> None:
    stream, peer = transport.pair()
    shown.monitor_socket(stream, Events.END_OF_DATA)
    peer.write_all(b"last")
    waiting = Waiting(shown.wait_for_events)
    peer.close()
    assert stream.read_exactly(4, PATIENCE) == b"last"
    assert waiting.result() == [(stream, Events.END_OF_DATA)]
    assert is_readable(shown)
    stream.close()
    assert is_quiet(shown)
    # And sleeps again: nothing is left that would wake it.
    assert shown.wait_for_events(0.05) == []


# ---- In other loops ----


#: Where each is from.
MODULES = {
    "uvloop": "uvloop",
    "glib": "gi.repository.GLib",
    "qt": "PySide2.QtCore",
}


def missing_loop(name: str) -> str | None:
    """What the system lacks of it."""
    if name == "epoll" and sys.platform != "linux":
        return "epoll is Linux'"
    if name == "kqueue" and sys.platform in {"linux", "win32"}:
        return "kqueue is macOS' and FreeBSD's"
    return None


@posix_only
@pytest.mark.parametrize("name", foreign_loops.LOOPS)
def test_another_loop_misses_nothing_and_does_not_spin(processes: Processes, name: str) -> None:
    missing = missing_loop(name)
    if missing is not None:
        pytest.skip(missing)
    python = python_with(MODULES[name]) if name in MODULES else sys.executable
    program = str(foreign_loops.__file__)
    # The system's Python doesn't know where the package is.
    path = Path(bbipc.__file__).parent.parent
    completed = processes.run(["env", f"PYTHONPATH={path}", python, program, name])
    assert completed.returncode == 0, completed.stderr
    found = json.loads(completed.stdout)
    assert found["seen"] == ["all received", "woken", "stood", "ended"]
    # Each message, and each of the three besides, is an event of its own.
    assert found["wakeups"] - found["in_vain"] <= foreign_loops.MESSAGES + 3
    # Half of a message may wake it before the other half has come.
    assert found["in_vain"] <= foreign_loops.MESSAGES


# ---- With threads ----


class Crowd:
    """Threads that do to a poller and its streams what comes to their minds."""

    def __init__(self, transport: Transport, poller: Poller, seed: int) -> None:
        self.poller = poller
        self.pairs = [transport.pair() for _ in range(3)]
        self.seed = seed
        for stream, _ in self.pairs:
            poller.monitor_socket(stream, Events.MESSAGE_AVAILABLE | Events.END_OF_DATA)

    def work(self, number: int) -> None:
        chance = random.Random(self.seed * 10 + number)
        for _ in range(40):
            stream, peer = chance.choice(self.pairs)
            action = chance.choice([self.send, self.receive, self.wake, self.wait, self.change, self.read_some])
            action(chance, stream, peer)

    def send(self, chance: random.Random, _: StreamSocket, peer: StreamSocket) -> None:
        if chance.random() < 0.5:
            peer.send_message(b"message", 0)
        else:
            # Two ways to write on one stream take turns: whole messages only.
            peer.write_all(b"\0\0\0\x02hi", PATIENCE)

    def receive(self, _: random.Random, stream: StreamSocket, __: StreamSocket) -> None:
        with contextlib.suppress(bbipc.MessageTooLargeError):
            stream.receive_messages()

    def read_some(self, chance: random.Random, stream: StreamSocket, _: StreamSocket) -> None:
        stream.read(chance.choice([1, 6, 100]))

    def wake(self, *_: object) -> None:
        self.poller.wake()

    def wait(self, chance: random.Random, *_: object) -> None:
        self.poller.wait_for_events(chance.choice([0, 0, 0.001]))

    def change(self, chance: random.Random, stream: StreamSocket, _: StreamSocket) -> None:
        asked = [Events.MESSAGE_AVAILABLE, Events.END_OF_DATA, Events.DETERMINED, Events(), Events.DATA_AVAILABLE]
        self.poller.set_monitored_events(stream, chance.choice(asked))


@posix_only
@pytest.mark.parametrize("seed", range(3))
def test_the_descriptor_tells_the_truth_after_whatever_threads_did(
    transport: Transport, shown: Poller, seed: int
) -> None:
    if transport.name == "tcp" and not TCP_DELIVERS_AT_ONCE:
        pytest.skip("bytes would still come between one look and the next")
    crowd = Crowd(transport, shown, seed)
    for number in range(40):
        threads = [Failing(partial(crowd.work, 3 * number + one)) for one in range(3)]
        for thread in threads:
            thread.join()
        if number % 2:
            shown.wake()
            assert is_readable(shown)
        reported = reports(shown, 0)
        assert is_readable(shown) == bool(reported)
        assert dict(shown.wait_for_events(0)) == dict(reported)
