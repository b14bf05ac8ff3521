"""Pollers: who is monitored, what is reported of him, and that everybody gets his turn."""

from __future__ import annotations

import contextlib
import gc
import random
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bbipc
from bbipc import Events, Poller, Socket, StreamSocket
from descriptors import descriptors_for, dropping
from patience import PATIENCE
from readiness import TELLS_ENDS_LATE, Fact, arrives, needs_half_close
from systems import BACKENDS, BACKENDS_LACKING, WINDOWS
from transports import STREAM_EVENTS, Transport, fill

DATA = Events.DATA_AVAILABLE

#: Sockets that one wait reports at the most (the documentation of wait_for_events).
REPORTS_MAX = 1024


# ---- Making one ----


def test_a_backend_is_chosen_by_name(backend: str) -> None:
    with bbipc.make_poller(backend) as poller:
        assert poller.backend == backend
        assert repr(poller) == f"<Poller {backend}, 0 sockets>"
        assert poller.monitored_sockets() == []
        assert poller.wait_for_events(0) == []
        assert not poller.closed


def test_the_best_backend_is_the_default() -> None:
    with bbipc.make_poller() as one, bbipc.make_poller(None) as other:
        assert one.backend == other.backend == BACKENDS[0]


@pytest.mark.parametrize("name", BACKENDS_LACKING)
def test_a_backend_that_other_systems_have_is_not_supported(name: str) -> None:
    with pytest.raises(bbipc.UnsupportedOperationError, match=name):
        bbipc.make_poller(name)


@pytest.mark.parametrize("name", ["", "select", "EPOLL", "epoll ", "kqueue\0"])
def test_an_unknown_backend_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="epoll"):
        bbipc.make_poller(name)


@pytest.mark.parametrize("name", [1, b"epoll", True])
def test_a_backend_of_another_type_is_refused(name: Any) -> None:
    with pytest.raises(TypeError, match="backend"):
        bbipc.make_poller(name)


def test_a_poller_that_is_unfinished_can_be_shown() -> None:
    """A poller that was interrupted while it was made, in a traceback for example. repr() raised an AttributeError."""
    assert repr(object.__new__(Poller)) == "<Poller unfinished>"


# ---- Who is monitored ----


def test_sockets_come_and_go(transport: Transport, poller: Poller) -> None:
    stream, peer = transport.pair()
    server = transport.make_server()
    poller.monitor_socket(stream, DATA)
    poller.monitor_socket(server, Events.CONNECTION_AVAILABLE)
    poller.monitor_socket(peer, Events())
    assert poller.monitored_sockets() == [stream, server, peer]
    assert poller.monitored_events(stream) is DATA
    assert poller.monitored_events(server) is Events.CONNECTION_AVAILABLE
    assert poller.monitored_events(peer) is Events()
    assert repr(poller) == f"<Poller {poller.backend}, 3 sockets>"
    poller.unmonitor_socket(server)
    assert poller.monitored_sockets() == [stream, peer]
    assert poller.monitored_events(server) is Events()
    poller.monitor_socket(server, Events())
    assert poller.monitored_sockets() == [stream, peer, server]
    poller.set_monitored_events(stream, STREAM_EVENTS)
    assert poller.monitored_events(stream) is STREAM_EVENTS
    assert poller.monitored_sockets() == [stream, peer, server]


def test_the_list_of_sockets_is_the_callers_own(transport: Transport, poller: Poller) -> None:
    stream, _ = transport.pair()
    poller.monitor_socket(stream, DATA)
    poller.monitored_sockets().clear()
    assert poller.monitored_sockets() == [stream]


@pytest.mark.parametrize("events", [DATA, Events(), STREAM_EVENTS])
def test_a_socket_is_monitored_once(transport: Transport, poller: Poller, events: Events) -> None:
    stream, _ = transport.pair()
    poller.monitor_socket(stream, DATA)
    with pytest.raises(bbipc.AlreadyMonitoredError, match="set_monitored_events"):
        poller.monitor_socket(stream, events)
    assert poller.monitored_sockets() == [stream]
    assert poller.monitored_events(stream) is DATA
    poller.unmonitor_socket(stream)
    assert poller.monitored_sockets() == []
    poller.monitor_socket(stream, events)
    assert poller.monitored_events(stream) is events


def test_what_is_not_monitored_has_no_events_to_change(transport: Transport, poller: Poller) -> None:
    stream, _ = transport.pair()
    with pytest.raises(bbipc.NotMonitoredError, match="monitor_socket"):
        poller.set_monitored_events(stream, DATA)
    assert poller.monitored_events(stream) is Events()
    poller.monitor_socket(stream, DATA)
    poller.unmonitor_socket(stream)
    with pytest.raises(bbipc.NotMonitoredError):
        poller.set_monitored_events(stream, DATA)


def test_to_unmonitor_one_that_is_not_there_is_no_error(transport: Transport, poller: Poller) -> None:
    stream, peer = transport.pair()
    poller.unmonitor_socket(stream)
    poller.monitor_socket(stream, DATA)
    poller.unmonitor_socket(peer)
    poller.unmonitor_socket(stream)
    poller.unmonitor_socket(stream)
    peer.close()
    poller.unmonitor_socket(peer)
    assert poller.monitored_sockets() == []


def test_a_refused_change_changes_nothing(transport: Transport, poller: Poller) -> None:
    stream, _ = transport.pair()
    poller.monitor_socket(stream, DATA)
    with pytest.raises(ValueError, match="CONNECTION_AVAILABLE"):
        poller.set_monitored_events(stream, DATA | Events.CONNECTION_AVAILABLE)
    with pytest.raises(TypeError):
        poller.set_monitored_events(stream, 16)  # type: ignore[arg-type]
    assert poller.monitored_events(stream) is DATA


@pytest.mark.parametrize("bad", [None, 3, "socket", object()])
def test_only_sockets_are_monitored(transport: Transport, poller: Poller, bad: Any) -> None:
    _, python = transport.python_peer()
    with bbipc.make_poller() as other:
        for one in (bad, python, poller, other, python.fileno()):
            name = type(one).__name__
            with pytest.raises(TypeError, match=name):
                poller.monitor_socket(one, Events())
            with pytest.raises(TypeError, match=name):
                poller.unmonitor_socket(one)
            with pytest.raises(TypeError, match=name):
                poller.monitored_events(one)
            with pytest.raises(TypeError, match=name):
                poller.set_monitored_events(one, Events())
    assert poller.monitored_sockets() == []


def test_a_closed_socket_can_not_be_monitored(transport: Transport, poller: Poller) -> None:
    stream, _ = transport.pair()
    stream.close()
    for attempt in (
        lambda: poller.monitor_socket(stream, DATA),
        lambda: poller.monitor_socket(stream, Events()),
        lambda: poller.set_monitored_events(stream, DATA),
    ):
        with pytest.raises(bbipc.SocketClosedError) as caught:
            attempt()
        assert caught.value.socket is stream
    assert poller.monitored_events(stream) is Events()
    assert poller.monitored_sockets() == []


def test_closing_a_socket_removes_it_from_every_poller(transport: Transport) -> None:
    stream, peer = transport.pair()
    peer.write_all(b"x")
    assert bbipc.poll_socket(stream, DATA, PATIENCE)
    with contextlib.ExitStack() as stack:
        pollers = [stack.enter_context(bbipc.make_poller(name)) for name in BACKENDS * 3]
        for number, poller in enumerate(pollers):
            # Armed, standing and parked ones alike.
            poller.monitor_socket(stream, [DATA, Events.DETERMINED, Events()][number // len(BACKENDS)])
            poller.monitor_socket(peer, Events())
        stream.close()
        for poller in pollers:
            assert poller.monitored_sockets() == [peer]
            assert poller.monitored_events(stream) is Events()
            assert poller.wait_for_events(0) == []


def test_closing_a_poller_leaves_its_sockets(transport: Transport, backend: str) -> None:
    stream, peer = transport.pair()
    poller = bbipc.make_poller(backend)
    poller.monitor_socket(stream, DATA)
    poller.close()
    peer.write_all(b"still")
    assert stream.read_exactly(5, PATIENCE) == b"still"
    stream.close()


def test_a_poller_keeps_its_sockets_and_a_socket_not_its_pollers(transport: Transport, backend: str) -> None:
    stream, peer = transport.pair()
    transport.let_go()
    poller = bbipc.make_poller(backend)
    poller.monitor_socket(stream, DATA)
    kept = weakref.ref(stream)
    del stream
    peer.write_all(b"x")
    ((reported, _),) = poller.wait_for_events(PATIENCE)
    assert reported is kept()
    gone = weakref.ref(poller)
    with pytest.warns(ResourceWarning, match="unclosed <Poller"), dropping():
        del poller
    assert gone() is None
    assert reported.read() == b"x"
    for one in (reported, peer):
        one.close()


def test_pollers_and_sockets_that_close_in_any_order_leave_nothing(transport: Transport, backend: str) -> None:
    handles = bbipc._native.declarations.open_handles()
    for seed in range(20):
        everything: list[Any] = [*transport.pair(), transport.make_server()]
        pollers = [bbipc.make_poller(backend) for _ in range(2)]
        for poller in pollers:
            for one in everything:
                poller.monitor_socket(one, Events())
        everything += pollers
        random.Random(seed).shuffle(everything)
        for one in everything:
            one.close()
    transport.close()
    gc.collect()
    assert bbipc._native.declarations.open_handles() == handles


# ---- What is reported ----


def test_what_holds_is_reported_by_every_wait(transport: Transport, poller: Poller) -> None:
    stream, peer = transport.pair()
    poller.monitor_socket(stream, DATA | Events.CONNECTION_FAILED)
    assert poller.wait_for_events(0) == []
    peer.write_all(b"ab")
    for _ in range(3):
        assert poller.wait_for_events(PATIENCE) == [(stream, DATA)]
    stream.read(1)
    for _ in range(3):
        assert poller.wait_for_events(PATIENCE) == [(stream, DATA)]
    stream.read(1)
    for _ in range(3):
        assert poller.wait_for_events(0) == []


def test_only_what_is_monitored_is_reported(transport: Transport, poller: Poller) -> None:
    stream, peer = transport.pair()
    peer.write_all(b"x")
    assert bbipc.poll_socket(stream, DATA, PATIENCE)
    for events, expected in (
        (DATA, DATA),
        (Events.END_OF_DATA, Events()),
        (DATA | Events.WRITE_SPACE | Events.END_OF_DATA, DATA | Events.WRITE_SPACE),
        (Events(), Events()),
        (Events.REMOTE_DISCONNECTED, Events()),
        (STREAM_EVENTS, bbipc.poll_socket(stream, STREAM_EVENTS, 0)),
    ):
        if stream in poller.monitored_sockets():
            poller.set_monitored_events(stream, events)
        else:
            poller.monitor_socket(stream, events)
        for timeout in (0, 0.001):
            assert poller.wait_for_events(timeout) == ([(stream, expected)] if expected else [])


def test_an_empty_set_keeps_the_socket_and_reports_nothing(transport: Transport, poller: Poller) -> None:
    stream, peer = transport.pair()
    poller.monitor_socket(stream, Events())
    peer.write_all(b"x")
    peer.close()
    known = DATA if TELLS_ENDS_LATE and transport.name == "tcp" else Events.REMOTE_DISCONNECTED
    assert bbipc.poll_socket(stream, known, PATIENCE)
    assert poller.wait_for_events(0.01) == []
    assert poller.monitored_sockets() == [stream]
    poller.set_monitored_events(stream, DATA)
    assert poller.wait_for_events(PATIENCE) == [(stream, DATA)]
    poller.set_monitored_events(stream, Events())
    assert poller.wait_for_events(0.01) == []


def test_one_that_left_is_not_reported(transport: Transport, poller: Poller) -> None:
    stream, peer = transport.pair()
    poller.monitor_socket(stream, DATA)
    peer.write_all(b"x")
    assert poller.wait_for_events(PATIENCE) == [(stream, DATA)]
    poller.unmonitor_socket(stream)
    assert poller.wait_for_events(0) == []
    poller.monitor_socket(stream, DATA)
    assert poller.wait_for_events(PATIENCE) == [(stream, DATA)]


def test_a_new_socket_with_an_old_number_is_not_mistaken(transport: Transport, poller: Poller) -> None:
    if WINDOWS and transport.name == "local":
        pytest.skip("the number of a pipe can't be learnt")
    stream, peer = transport.pair()
    poller.monitor_socket(stream, DATA | Events.REMOTE_DISCONNECTED)
    number = stream.fileno()
    peer.write_all(b"x")
    server = transport.make_server()
    stream.close()
    # Windows gives numbers anew in an order of its own.
    for _ in range(200 if WINDOWS else 1):
        again, other_peer = transport.connect(server), transport.accept(server)
        if number in (again.fileno(), other_peer.fileno()):
            break
    numbers = {again.fileno(), other_peer.fileno()}
    assert number in numbers
    other_peer.write_all(b"x")
    again.write_all(b"x")
    assert bbipc.poll_socket(again, DATA, PATIENCE)
    assert poller.wait_for_events(0) == []


def test_what_the_connection_is_can_be_asked_while_the_buffer_is_full(transport: Transport, poller: Poller) -> None:
    stream, _ = transport.pair()
    poller.monitor_socket(stream, Events.READY_TO_WRITE)
    fill(stream)
    assert poller.wait_for_events(0) == []
    for events in (Events.DETERMINED, Events.CONNECTION_SUCCEEDED, Events.DETERMINED | Events.CONNECTION_SUCCEEDED):
        poller.set_monitored_events(stream, events | Events.WRITE_SPACE)
        assert poller.wait_for_events(PATIENCE) == [(stream, events)]
        assert bbipc.poll_socket(stream, events | Events.WRITE_SPACE, PATIENCE) is events


def test_two_kinds_of_readiness_do_not_hide_each_other(transport: Transport, poller: Poller) -> None:
    # One that is determined for ever, one that is only watched for data: the first must not keep the second waiting.
    standing, _ = transport.pair()
    watched, peer = transport.pair()
    poller.monitor_socket(standing, Events.DETERMINED)
    poller.monitor_socket(watched, DATA)
    assert poller.wait_for_events(PATIENCE) == [(standing, Events.DETERMINED)]
    peer.write_all(b"x")
    assert bbipc.poll_socket(watched, DATA, PATIENCE)
    # Of pipes Windows' poller hears a moment late.
    give_up_at = time.perf_counter() + (PATIENCE if WINDOWS else 0)
    while (reported := dict(poller.wait_for_events(PATIENCE))) == {standing: Events.DETERMINED}:
        assert time.perf_counter() < give_up_at, "the first keeps the second waiting"
    assert reported == {standing: Events.DETERMINED, watched: DATA}


def test_one_socket_is_in_several_pollers_and_polled_at_once(transport: Transport) -> None:
    stream, peer = transport.pair()
    with contextlib.ExitStack() as stack:
        pollers = [stack.enter_context(bbipc.make_poller(name)) for name in (BACKENDS * 4)[:4]]
        results: dict[str, object] = {}
        waiting = [
            threading.Thread(target=lambda: results.update(one=bbipc.poll_socket(stream, DATA, PATIENCE))),
            threading.Thread(target=lambda: results.update(many=bbipc.poll_sockets([peer, stream], DATA, PATIENCE))),
        ]
        for number, poller in enumerate(pollers):
            poller.monitor_socket(stream, DATA)
            # Each as if it were alone: what one monitors is nothing to the others.
            poller.monitor_socket(peer, Events.END_OF_DATA if number % 2 else Events())

            def wait(number: int = number, poller: Poller = poller) -> None:
                results[f"poller {number}"] = poller.wait_for_events(PATIENCE)

            waiting.append(threading.Thread(target=wait))
        for thread in waiting:
            thread.start()
        peer.write_all(b"x")
        for thread in waiting:
            thread.join()
        assert results == {
            "one": DATA,
            "many": [Events(), DATA],
            **{f"poller {number}": [(stream, DATA)] for number in range(4)},
        }
        pollers[0].unmonitor_socket(stream)
        for poller in pollers[1:]:
            assert poller.wait_for_events(PATIENCE) == [(stream, DATA)]
        assert pollers[0].wait_for_events(0) == []


@pytest.mark.parametrize("events", [DATA, Events.DETERMINED, Events.READY_TO_WRITE, Events.END_OF_DATA])
def test_a_wait_under_way_learns_of_a_new_socket(transport: Transport, poller: Poller, events: Events) -> None:
    stream, peer = transport.pair()
    if events == Events.END_OF_DATA:
        peer.close()
    else:
        peer.write_all(b"x")
    assert bbipc.poll_socket(stream, events, PATIENCE)
    monitor = threading.Timer(0.01, poller.monitor_socket, [stream, events])
    monitor.start()
    assert poller.wait_for_events(PATIENCE) == [(stream, events)]
    monitor.join()


@pytest.mark.parametrize("events", [DATA, Events.DETERMINED, Events.READY_TO_WRITE, Events.END_OF_DATA])
def test_a_wait_under_way_learns_of_new_events(transport: Transport, poller: Poller, events: Events) -> None:
    stream, peer = transport.pair()
    if events == Events.END_OF_DATA:
        peer.close()
    else:
        peer.write_all(b"x")
    assert bbipc.poll_socket(stream, events, PATIENCE)
    poller.monitor_socket(stream, Events())
    change = threading.Timer(0.01, poller.set_monitored_events, [stream, events])
    change.start()
    assert poller.wait_for_events(PATIENCE) == [(stream, events)]
    change.join()


def test_a_wait_under_way_learns_of_removals(transport: Transport, poller: Poller) -> None:
    stream, peer = transport.pair()
    poller.monitor_socket(stream, DATA)
    poller.monitor_socket(peer, DATA)

    def act() -> None:
        poller.unmonitor_socket(stream)
        peer.write_all(b"for nobody")
        poller.wake()

    timer = threading.Timer(0.01, act)
    timer.start()
    assert poller.wait_for_events(PATIENCE) == []
    timer.join()


def test_an_end_that_another_poller_has_seen_is_reported_beside_what_stands(transport: Transport, backend: str) -> None:
    """The report came after up to 16 waits: the socket was asked now and then, and no selector told of the end."""
    needs_half_close(transport)
    standing, (ours, theirs) = transport.pair()[0], transport.pair()
    with bbipc.make_poller(backend) as first, bbipc.make_poller(backend) as second:
        second.monitor_socket(standing, Events.DETERMINED)
        theirs.finish_writing()
        arrives(ours, Fact.FINISHED)
        first.monitor_socket(ours, Events.DETERMINED)
        assert first.wait_for_events(0) == [(ours, Events.DETERMINED)]
        second.monitor_socket(ours, Events.END_OF_DATA)
        assert dict(second.wait_for_events(0)) == {standing: Events.DETERMINED, ours: Events.END_OF_DATA}


# ---- Waking ----


def test_a_wake_ends_the_wait_under_way(transport: Transport, poller: Poller) -> None:
    stream, _ = transport.pair()
    poller.monitor_socket(stream, DATA)
    timer = threading.Timer(0.01, poller.wake)
    timer.start()
    begun = time.perf_counter()
    assert poller.wait_for_events(PATIENCE) == []
    assert time.perf_counter() - begun < PATIENCE
    timer.join()


@pytest.mark.parametrize("times", [1, 3])
def test_a_wake_before_the_wait_ends_one_wait(poller: Poller, times: int) -> None:
    for _ in range(times):
        poller.wake()
    begun = time.perf_counter()
    assert poller.wait_for_events(None) == []
    assert poller.wait_for_events(0.05) == []
    assert time.perf_counter() - begun >= 0.05


def test_a_wake_hides_no_events(transport: Transport, poller: Poller) -> None:
    stream, peer = transport.pair()
    poller.monitor_socket(stream, DATA)
    peer.write_all(b"x")
    assert bbipc.poll_socket(stream, DATA, PATIENCE)
    poller.wake()
    assert poller.wait_for_events(PATIENCE) in ([(stream, DATA)], [])
    assert poller.wait_for_events(PATIENCE) == [(stream, DATA)]
    stream.read()
    assert poller.wait_for_events(0.01) == []


def test_a_wake_is_its_pollers_alone(transport: Transport) -> None:
    stream, _ = transport.pair()
    with bbipc.make_poller() as one, bbipc.make_poller() as other:
        one.wake()
        begun = time.perf_counter()
        assert other.wait_for_events(0.02) == []
        assert not bbipc.poll_socket(stream, DATA, 0.02)
        assert time.perf_counter() - begun >= 0.04
        assert one.wait_for_events(PATIENCE) == []


# ---- Everybody gets his turn ----


@pytest.fixture
def many_pairs(directory: Path) -> Iterator[list[StreamSocket]]:
    """More connected streams than one wait can report."""
    with descriptors_for(3000), contextlib.ExitStack() as stack:
        pairs = []
        for name, count in {"tcp": 1040, "local": 260}.items() if WINDOWS else [("local", 1300)]:
            transport = stack.enter_context(contextlib.closing(Transport(name, directory)))
            server = transport.make_server()
            made = [(transport.connect(server), transport.accept(server)) for _ in range(count)]
            server.close()
            for connecting, _ in made:
                assert bbipc.poll_socket(connecting, Events.CONNECTION_SUCCEEDED, PATIENCE)
            pairs += made
        if WINDOWS:
            # Windows watches the two kinds in different ways.
            random.Random(1).shuffle(pairs)
        yield [stream for pair in pairs for stream in pair]


def waits_until_all_reported(poller: Poller, expected: set[Socket], waits_max: int) -> None:
    missing = set(expected)
    for _ in range(waits_max):
        reports = poller.wait_for_events(PATIENCE)
        assert 0 < len(reports) <= REPORTS_MAX
        reported = {one for one, _ in reports}
        assert len(reported) == len(reports)
        missing -= reported
        if not missing:
            return
    pytest.fail(f"{len(missing)} of {len(expected)} sockets were not reported in {waits_max} waits")


@pytest.mark.parametrize("events", [Events.READY_TO_WRITE, Events.DETERMINED])
def test_whoever_was_not_reported_comes_first_in_the_next_wait(
    many_pairs: list[StreamSocket], poller: Poller, events: Events
) -> None:
    for stream in many_pairs:
        poller.monitor_socket(stream, events)
    times: dict[Socket, int] = dict.fromkeys(many_pairs, 0)
    for waits in range(1, 21):
        for stream, happened in poller.wait_for_events(PATIENCE):
            assert happened is events
            times[stream] += 1
        assert max(times.values()) - min(times.values()) <= 1, "somebody was reported twice before another once"
        assert sum(times.values()) >= waits * 512


def test_nobody_starves_among_sockets_of_different_interest(many_pairs: list[StreamSocket], poller: Poller) -> None:
    kinds = [Events.READY_TO_WRITE, Events.DETERMINED, DATA, Events.WRITE_SPACE | Events.CONNECTION_SUCCEEDED]
    expected: set[Socket] = set()
    for number, stream in enumerate(many_pairs):
        events = kinds[number % len(kinds)]
        poller.monitor_socket(stream, events)
        if events is not DATA:
            expected.add(stream)
    for _ in range(2):
        waits_until_all_reported(poller, expected, 12)
    # Even while those that are served stay ready.
    for stream in many_pairs[3::4]:
        stream.write(b"x")
    expected |= {many_pairs[number] for number in range(2, len(many_pairs), 4)}
    for _ in range(2):
        waits_until_all_reported(poller, expected, 12)


def test_nobody_starves_while_sockets_come_and_go(many_pairs: list[StreamSocket], poller: Poller) -> None:
    late = many_pairs[-200:]
    expected: set[Socket] = set(many_pairs[:-200])
    for stream in many_pairs[:-200]:
        poller.monitor_socket(stream, Events.READY_TO_WRITE)
    for round_number in range(12):
        reports = poller.wait_for_events(PATIENCE)
        expected -= {stream for stream, _ in reports}
        if not expected:
            return
        for stream in late[round_number * 10 : round_number * 10 + 10]:
            poller.monitor_socket(stream, Events.READY_TO_WRITE)
        for stream, _ in reports[:20]:
            poller.unmonitor_socket(stream)
    pytest.fail(f"{len(expected)} sockets were not reported")
