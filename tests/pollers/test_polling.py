"""Waiting: every way of it tells the same of the same state, at once, again and again, and without spinning."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

import bbipc
from bbipc import Events, Socket, StreamSocket
from bbipc._native.declarations import pending_operations
from child_processes import eventually
from patience import PATIENCE, QEMU, least_of_three
from readiness import (
    RESETS_DISCARD,
    TELLS_ENDS_LATE,
    WINE,
    Fact,
    arrives,
    half_closes,
    needs_half_close,
)
from systems import BACKENDS, LINUX, TCP_DELIVERS_AT_ONCE, TCP_WAITS_FOR_BACKLOG, WINDOWS
from transports import STREAM_EVENTS, TCP_SERVERS, PythonPeer, Transport, fill, reset

if sys.platform != "win32":
    import resource

    import shown

# ---- The states of a stream ----

ESTABLISHED = Events.DETERMINED | Events.CONNECTION_SUCCEEDED
GONE = Events.DETERMINED | Events.CONNECTION_FAILED | Events.REMOTE_DISCONNECTED
SPACE = Events.WRITE_SPACE | Events.MESSAGE_SPACE
WRITABLE = Events.READY_TO_WRITE | SPACE
#: Bytes that begin as no message does: receive_message would raise at once.
UNREAD = Events.DATA_AVAILABLE | Events.MESSAGE_AVAILABLE
#: A remote end that is gone, and every byte of it read.
OVER = GONE | Events.END_OF_DATA
SEVERED = GONE | Events.CONNECTION_SEVERED

#: A stream in a state, and what holds of it. No function of bbipc has looked at the state yet.
Made = tuple[StreamSocket, Events]


def write(stream: StreamSocket, peer: socket.socket, data: bytes = b"unread") -> None:
    peer.sendall(data)
    arrives(stream, Fact.DATA)


def fresh(transport: Transport) -> Made:
    return transport.python_peer()[0], ESTABLISHED | WRITABLE


def with_data(transport: Transport) -> Made:
    stream, peer = transport.python_peer()
    write(stream, peer)
    return stream, ESTABLISHED | WRITABLE | UNREAD


def full(transport: Transport) -> Made:
    stream, _ = transport.python_peer()
    fill(stream)
    return stream, ESTABLISHED


def full_with_data(transport: Transport) -> Made:
    stream, peer = transport.python_peer()
    fill(stream)
    write(stream, peer)
    return stream, ESTABLISHED | UNREAD


def peer_finished(transport: Transport) -> Made:
    needs_half_close(transport)
    stream, peer = transport.python_peer()
    peer.shutdown(socket.SHUT_WR)
    arrives(stream, Fact.FINISHED)
    return stream, OVER | SPACE


def tells_ends_late(transport: Transport) -> bool:
    """Whether the system tells of an end only when no byte before it is unread."""
    return transport.name == "tcp" and TELLS_ENDS_LATE


def end_with_data(transport: Transport, stream: StreamSocket, otherwise: Events) -> Made:
    """A stream with bytes unread whose peer has finished or closed, and what else there is then."""
    if tells_ends_late(transport):
        return stream, ESTABLISHED | WRITABLE | UNREAD
    arrives(stream, Fact.FINISHED)
    return stream, GONE | UNREAD | otherwise


def peer_finished_with_data(transport: Transport) -> Made:
    needs_half_close(transport)
    stream, peer = transport.python_peer()
    write(stream, peer)
    peer.shutdown(socket.SHUT_WR)
    return end_with_data(transport, stream, SPACE)


def peer_finished_while_full(transport: Transport) -> Made:
    needs_half_close(transport)
    stream, peer = transport.python_peer()
    fill(stream)
    peer.shutdown(socket.SHUT_WR)
    arrives(stream, Fact.FINISHED)
    return stream, OVER


def finished(transport: Transport) -> Made:
    needs_half_close(transport)
    stream, _ = transport.python_peer()
    stream.finish_writing()
    return stream, ESTABLISHED


def both_finished(transport: Transport) -> Made:
    needs_half_close(transport)
    stream, peer = transport.python_peer()
    stream.finish_writing()
    peer.shutdown(socket.SHUT_WR)
    arrives(stream, Fact.SEVERED)
    return stream, SEVERED | Events.END_OF_DATA


def both_finished_with_data(transport: Transport) -> Made:
    needs_half_close(transport)
    stream, peer = transport.python_peer()
    write(stream, peer)
    stream.finish_writing()
    peer.shutdown(socket.SHUT_WR)
    arrives(stream, Fact.SEVERED)
    return stream, SEVERED | UNREAD


def after_close(transport: Transport) -> Events:
    """TCP can't tell a peer that has closed from one that has finished, until something is written to it."""
    return SPACE if transport.name == "tcp" else Events.CONNECTION_SEVERED


def peer_closed(transport: Transport) -> Made:
    stream, peer = transport.python_peer()
    peer.close()
    arrives(stream, Fact.FINISHED)
    return stream, OVER | after_close(transport)


def peer_closed_with_data(transport: Transport) -> Made:
    stream, peer = transport.python_peer()
    write(stream, peer)
    peer.close()
    return end_with_data(transport, stream, after_close(transport))


def close_while_full(transport: Transport, stream: StreamSocket, peer: PythonPeer) -> Made:
    under_way = pending_operations()
    # Closing with bytes unread severs the connection, or else TCP's next try to deliver more does.
    peer.close()
    arrives(stream, Fact.SEVERED)
    if under_way and transport.name == "local":
        # Windows tells a moment later what became of the write, and so what kind of end it is.
        eventually(lambda: pending_operations() < under_way, "the end of the write")
    return stream, SEVERED | Events.END_OF_DATA


def peer_closed_while_full(transport: Transport) -> Made:
    stream, peer = transport.python_peer()
    fill(stream)
    return close_while_full(transport, stream, peer)


def severed(transport: Transport) -> Made:
    stream, peer = transport.python_peer()
    reset(peer, stream)
    arrives(stream, Fact.SEVERED)
    return stream, SEVERED | Events.END_OF_DATA


def severed_with_data(transport: Transport) -> Made:
    stream, peer = transport.python_peer()
    write(stream, peer)
    reset(peer, stream)
    arrives(stream, Fact.SEVERED)
    if transport.name == "tcp" and RESETS_DISCARD:
        return stream, SEVERED | Events.END_OF_DATA
    return stream, SEVERED | UNREAD


def connect_in_vain(transport: Transport) -> StreamSocket:
    server = transport.make_server()
    assert isinstance(server, TCP_SERVERS)
    connect = bbipc.connect_to_ipv4_tcp_server
    if isinstance(server, bbipc.Ipv6TcpServer):
        connect = bbipc.connect_to_ipv6_tcp_server
    host_address, port = server.host_address, server.port
    server.close()
    return transport.keep(connect(host_address, port))


def refused(transport: Transport) -> Made:
    if transport.name == "local":
        # A local stream connects at once or not at all.
        return severed(transport)
    stream = connect_in_vain(transport)
    arrives(stream, Fact.SEVERED)
    return stream, SEVERED | Events.END_OF_DATA


def has_connections_under_way(transport: Transport) -> bool:
    return transport.name == "local" or TCP_WAITS_FOR_BACKLOG or WINDOWS


def needs_connection_under_way(transport: Transport) -> None:
    if not has_connections_under_way(transport):
        pytest.skip("no connection to this machine stays under way: one without room is let in and reset, or refused")


def under_way(transport: Transport) -> Made:
    if transport.name == "local":
        return fresh(transport)
    if WINDOWS and not WINE:
        # Windows believes a refusal, also that of a full server, only after two more attempts, half a second apart.
        return connect_in_vain(transport), Events()
    needs_connection_under_way(transport)
    server = transport.make_server(backlog=0)
    first, second = transport.connect(server), transport.connect(server)
    arrives(first, Fact.ROOM)
    return second, Events()


# ---- Its states with messages ----


#: A message, and one of which a byte is wanting.
MESSAGE = b"\0\0\0\x05whole"
PART = b"\0\0\0\x05part"


def with_message(transport: Transport) -> Made:
    stream, peer = transport.python_peer()
    write(stream, peer, MESSAGE + PART)
    return stream, ESTABLISHED | WRITABLE | UNREAD


def with_part(transport: Transport) -> Made:
    stream, peer = transport.python_peer()
    write(stream, peer, PART)
    return stream, ESTABLISHED | WRITABLE | Events.DATA_AVAILABLE


def full_with_part(transport: Transport) -> Made:
    stream, peer = transport.python_peer()
    fill(stream)
    write(stream, peer, PART[:2])
    return stream, ESTABLISHED | Events.DATA_AVAILABLE


def peer_finished_with_part(transport: Transport) -> Made:
    needs_half_close(transport)
    stream, peer = transport.python_peer()
    write(stream, peer, PART)
    peer.shutdown(socket.SHUT_WR)
    return end_with_data(transport, stream, SPACE)


def peer_closed_with_message(transport: Transport) -> Made:
    stream, peer = transport.python_peer()
    write(stream, peer, MESSAGE)
    peer.close()
    return end_with_data(transport, stream, after_close(transport))


def severed_with_part(transport: Transport) -> Made:
    stream, peer = transport.python_peer()
    write(stream, peer, PART)
    reset(peer, stream)
    arrives(stream, Fact.SEVERED)
    if transport.name == "tcp" and RESETS_DISCARD:
        return stream, SEVERED | Events.END_OF_DATA
    return stream, SEVERED | UNREAD


def keep_rest(transport: Transport, stream: StreamSocket) -> None:
    """Has it keep the rest of a message for which the system has no room."""
    with pytest.raises(bbipc.TimeoutError) as caught:
        stream.send_message(bytes(stream.max_message_size), 0)
    assert caught.value.accepted == 1
    # A close would warn of what is lost.
    transport.on_close(stream.abort)


def full_with_rest(transport: Transport) -> Made:
    stream, peer = transport.python_peer()
    keep_rest(transport, stream)
    write(stream, peer, MESSAGE)
    return stream, ESTABLISHED | UNREAD


def peer_closed_while_full_with_rest(transport: Transport) -> Made:
    stream, peer = transport.python_peer()
    keep_rest(transport, stream)
    return close_while_full(transport, stream, peer)


STATES = [
    fresh,
    with_data,
    full,
    full_with_data,
    peer_finished,
    peer_finished_with_data,
    peer_finished_while_full,
    finished,
    both_finished,
    both_finished_with_data,
    peer_closed,
    peer_closed_with_data,
    peer_closed_while_full,
    severed,
    severed_with_data,
    refused,
    under_way,
    with_message,
    with_part,
    full_with_part,
    peer_finished_with_part,
    peer_closed_with_message,
    severed_with_part,
    full_with_rest,
    peer_closed_while_full_with_rest,
]

#: States that named pipes never come to.
HALF_CLOSED = [
    peer_finished,
    peer_finished_with_data,
    peer_finished_while_full,
    finished,
    both_finished,
    both_finished_with_data,
    peer_finished_with_part,
]

#: States in which bytes are unread before an end that the peer chose.
ENDS_BEHIND_DATA = [peer_finished_with_data, peer_closed_with_data, peer_finished_with_part, peer_closed_with_message]

# ---- The ways of waiting ----

Way = Callable[[Socket, Events, Any], Events]


def by_poller(backend: str) -> Way:
    def wait(one: Socket, events: Events, timeout: Any) -> Events:
        with bbipc.make_poller(backend) as poller:
            poller.monitor_socket(one, events)
            reports = poller.wait_for_events(timeout)
        assert len(reports) <= 1
        for reported, happened in reports:
            assert reported is one
            assert happened
            return happened
        return Events()

    return wait


def by_descriptor(one: Socket, events: Events, timeout: Any) -> Events:
    """In a loop that watches the poller's descriptor, which must not miss anything, nor spin."""
    with bbipc.make_poller() as poller:
        poller.fileno()
        poller.monitor_socket(one, events)
        reports = shown.reports(poller, 3600 if timeout is None else timeout)
    return reports[0][1] if reports else Events()


WAYS: dict[str, Way] = {
    "poll_socket": bbipc.poll_socket,
    "poll_sockets": lambda one, events, timeout: bbipc.poll_sockets([one], events, timeout)[0],
    **{name: by_poller(name) for name in BACKENDS},
}
if not WINDOWS:
    WAYS["fileno"] = by_descriptor

PREDICATES: dict[Events, Callable[[StreamSocket], bool]] = {
    Events.DETERMINED: lambda stream: stream.determined(),
    Events.CONNECTION_SUCCEEDED: lambda stream: stream.connection_succeeded(),
    Events.CONNECTION_FAILED: lambda stream: stream.connection_failed(),
    Events.DATA_AVAILABLE: lambda stream: stream.data_available(),
    Events.READY_TO_WRITE: lambda stream: stream.ready_to_write(),
    Events.REMOTE_DISCONNECTED: lambda stream: stream.remote_disconnected(),
    Events.END_OF_DATA: lambda stream: stream.end_of_data(),
    Events.WRITE_SPACE: lambda stream: stream.write_space(),
    Events.CONNECTION_SEVERED: lambda stream: stream.connection_severed(),
    Events.MESSAGE_AVAILABLE: lambda stream: stream.message_available(),
    Events.MESSAGE_SPACE: lambda stream: stream.message_space(),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]


@pytest.mark.parametrize("state", STATES)
def test_every_way_tells_the_same_of_every_state(transport: Transport, way: Way, state: Callable[..., Made]) -> None:
    every = STREAM_EVENTS
    if state in ENDS_BEHIND_DATA and tells_ends_late(transport):
        # To ask for it reads the bytes before the end, and changes the state: see the next test.
        every &= ~Events.MESSAGE_AVAILABLE
    # A state is slow to make where a buffer is filled.
    singles = [] if "full" in state.__name__ else list(every)
    for asked in [*singles, every]:
        stream, expected = state(transport)
        for _ in range(2):
            assert way(stream, asked, 0) is asked & expected
    every_set = [Events(number << 1) & every for number in range(int(STREAM_EVENTS) // 2 + 1)]
    for asked in random.Random(state.__name__).sample(every_set, 100):
        assert way(stream, asked, 0) is asked & expected


@pytest.mark.parametrize("state", ENDS_BEHIND_DATA)
def test_who_asks_for_a_message_hears_of_the_end_behind_it(
    transport: Transport, way: Way, state: Callable[..., Made]
) -> None:
    stream, _ = state(transport)
    assert way(stream, Events.MESSAGE_AVAILABLE, PATIENCE) is Events.MESSAGE_AVAILABLE
    assert way(stream, Events.REMOTE_DISCONNECTED, PATIENCE) is Events.REMOTE_DISCONNECTED
    told = way(stream, STREAM_EVENTS, 0)
    assert told & (ESTABLISHED | GONE | UNREAD | Events.END_OF_DATA) == GONE | UNREAD


@pytest.mark.parametrize("state", STATES)
def test_predicates_tell_the_same_of_every_state(transport: Transport, state: Callable[..., Made]) -> None:
    assert list(PREDICATES) == list(STREAM_EVENTS)
    for event, predicate in PREDICATES.items():
        stream, expected = state(transport)
        for _ in range(2):
            assert predicate(stream) is (event in expected)
        if "full" in state.__name__:
            for other_event, other_predicate in PREDICATES.items():
                assert other_predicate(stream) is (other_event in expected)
            break


@pytest.mark.parametrize("state", STATES)
def test_an_event_that_holds_ends_the_wait_at_once(transport: Transport, way: Way, state: Callable[..., Made]) -> None:
    stream, expected = state(transport)
    for event in expected:
        assert way(stream, event, PATIENCE) is event
        assert way(stream, event, None) is event


#: Seconds. How long the waits below last, and how much processor time all of them together may take: some hundred
#: threads, of which one that spins would take most of the time alone. Windows counts in ticks of 16 ms, which some
#: threads are charged for less; on macOS and FreeBSD each wait makes a kqueue for itself; and a system call of a
#: program for i686 (int 0x80) can take ten times as long as others.
QUIET = 0.3
QUIET_CPU_MAX = 0.12 if LINUX and sys.maxsize > 2**32 else 0.2


def quiet_cases(transport: Transport) -> Iterator[tuple[str, StreamSocket, Events]]:
    """Every state with every event that does not hold of it, alone and all together."""
    for state in STATES:
        if state in HALF_CLOSED and not half_closes(transport):
            continue
        if state is under_way and not has_connections_under_way(transport):
            continue
        stream, expected = state(transport)
        missing = STREAM_EVENTS - expected
        for asked in [*missing, missing, Events()]:
            # Where one wait reads a part of a message, the others for the same stream look once more.
            if "full" not in state.__name__ or state is full_with_part:
                stream, _ = state(transport)
            yield f"{state.__name__}: {asked}", stream, asked


@pytest.mark.skipif(QEMU, reason="counts a processor's time, most of which qemu-user takes to start the threads")
@pytest.mark.parametrize("name", WAYS)
def test_waiting_for_what_does_not_come_costs_nothing(transport: Transport, name: str) -> None:
    way = WAYS[name]
    costs: dict[str, float] = {}

    def all_at_once() -> float:
        costs.clear()
        happened: dict[str, Events] = {}

        def wait(case: str, stream: StreamSocket, asked: Events) -> None:
            begun = time.thread_time()
            happened[case] = way(stream, asked, QUIET)
            costs[case] = time.thread_time() - begun

        threads = [threading.Thread(target=wait, args=case) for case in quiet_cases(transport)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(costs) == len(threads)
        assert not any(happened.values()), happened
        return sum(costs.values())

    worked = least_of_three(all_at_once, QUIET_CPU_MAX)
    most = sorted(((cost, case) for case, cost in costs.items()), reverse=True)[:5]
    assert worked < QUIET_CPU_MAX, most


# ---- Events that come while somebody waits ----


def soon(action: Callable[[], object]) -> threading.Timer:
    """Does something when the wait that follows has begun, most likely."""
    timer = threading.Timer(0.01, action)
    timer.start()
    return timer


def finishes(_stream: StreamSocket, peer: socket.socket) -> None:
    peer.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(
    ("asked", "act"),
    [
        (Events.DATA_AVAILABLE, lambda stream, peer: peer.send(b"x")),
        (Events.REMOTE_DISCONNECTED, lambda stream, peer: peer.close()),
        (Events.REMOTE_DISCONNECTED, finishes),
        (Events.REMOTE_DISCONNECTED, lambda stream, peer: reset(peer, stream)),
        (Events.CONNECTION_FAILED, lambda stream, peer: peer.close()),
        (Events.CONNECTION_FAILED, lambda stream, peer: reset(peer, stream)),
        (Events.END_OF_DATA, lambda stream, peer: peer.close()),
        (Events.END_OF_DATA, lambda stream, peer: reset(peer, stream)),
        (Events.CONNECTION_SEVERED, lambda stream, peer: reset(peer, stream)),
        (Events.MESSAGE_AVAILABLE, lambda stream, peer: peer.send(MESSAGE)),
        (Events.MESSAGE_AVAILABLE, lambda stream, peer: [peer.send(MESSAGE[:3]), peer.send(MESSAGE[3:])]),
        (Events.MESSAGE_AVAILABLE, lambda stream, peer: [peer.send(PART), peer.close()]),
        (Events.MESSAGE_AVAILABLE | Events.END_OF_DATA, lambda stream, peer: peer.close()),
        (Events.DATA_AVAILABLE | Events.END_OF_DATA, lambda stream, peer: peer.close()),
        (STREAM_EVENTS - ESTABLISHED - WRITABLE, lambda stream, peer: peer.close()),
    ],
)
def test_a_wait_ends_when_its_event_comes(
    transport: Transport, way: Way, asked: Events, act: Callable[[StreamSocket, socket.socket], object]
) -> None:
    if act is finishes:
        needs_half_close(transport)
    stream, peer = transport.python_peer()
    timer = soon(lambda: act(stream, peer))
    happened = way(stream, asked, PATIENCE)
    timer.join()
    assert happened
    assert happened in asked
    assert way(stream, asked, 0) == bbipc.poll_socket(stream, asked, 0)


@pytest.mark.parametrize("asked", [Events.READY_TO_WRITE, Events.WRITE_SPACE, Events.MESSAGE_SPACE, WRITABLE])
def test_a_wait_ends_when_there_is_room(transport: Transport, way: Way, asked: Events) -> None:
    stream, peer = transport.python_peer()
    filled = fill(stream)

    def read_all() -> None:
        left = filled
        while left > 0:
            left -= len(peer.recv(1_000_000))

    timer = soon(read_all)
    assert way(stream, asked, PATIENCE) is asked
    timer.join()


@pytest.mark.parametrize("asked", [Events.READY_TO_WRITE, Events.WRITE_SPACE, Events.MESSAGE_SPACE, WRITABLE])
def test_a_wait_for_room_sends_the_rest_of_a_message_and_ends(transport: Transport, way: Way, asked: Events) -> None:
    stream, peer = transport.python_peer()
    size = stream.max_message_size
    with pytest.raises(bbipc.TimeoutError):
        stream.send_message(bytes(size), 0)
    received = 0

    def read_all() -> None:
        nonlocal received
        while received < 4 + size:
            received += len(peer.recv(1_000_000))

    timer = soon(read_all)
    assert way(stream, asked, PATIENCE) is asked
    timer.join()
    assert received == 4 + size
    # Nothing is left.
    stream.drain(0)


def test_a_wait_for_a_message_keeps_what_it_has_read_of_one(transport: Transport, way: Way) -> None:
    """In the stream, where reads find it."""
    stream, peer = transport.python_peer()
    write(stream, peer, PART)
    assert way(stream, Events.MESSAGE_AVAILABLE, 0.01) is Events()
    assert way(stream, Events.DATA_AVAILABLE, PATIENCE) is Events.DATA_AVAILABLE
    assert stream.read(peek=True) == PART
    peer.sendall(b"!" + MESSAGE)
    assert way(stream, Events.MESSAGE_AVAILABLE, PATIENCE) is Events.MESSAGE_AVAILABLE
    assert stream.receive_message(0) == b"part!"
    assert way(stream, Events.MESSAGE_AVAILABLE, PATIENCE) is Events.MESSAGE_AVAILABLE
    assert stream.read_exactly(len(MESSAGE), PATIENCE) == MESSAGE
    assert way(stream, UNREAD | Events.END_OF_DATA, 0) is Events()


@pytest.mark.parametrize("state", STATES)
def test_message_space_and_write_space_hold_together(
    transport: Transport, way: Way, state: Callable[..., Made]
) -> None:
    stream, expected = state(transport)
    assert expected.message_space == expected.write_space
    assert way(stream, SPACE, 0) is expected & SPACE


@pytest.mark.parametrize("state", STATES)
def test_message_available_says_what_receive_message_does(
    transport: Transport, way: Way, state: Callable[..., Made]
) -> None:
    """It returns or raises, but for the end between two messages, which is END_OF_DATA."""
    stream, expected = state(transport)
    assert way(stream, Events.MESSAGE_AVAILABLE, 0) is expected & Events.MESSAGE_AVAILABLE
    if expected.message_available or expected.end_of_data:
        if "with_message" in state.__name__ or state is full_with_rest:
            assert stream.receive_message(0) == b"whole"
        else:
            with pytest.raises((bbipc.EndOfStreamError, bbipc.MessageTooLargeError, bbipc.SocketError)) as caught:
                stream.receive_message(0)
            cut = isinstance(caught.value, bbipc.EndOfStreamError) and caught.value.partial != b""
            assert cut == ("with_part" in state.__name__ and expected.message_available)
    else:
        with pytest.raises(bbipc.TimeoutError):
            stream.receive_message(0)


def test_a_wait_ends_when_a_client_comes(transport: Transport, way: Way) -> None:
    server = transport.make_server()
    timer = soon(lambda: transport.connect(server))
    assert way(server, Events.CONNECTION_AVAILABLE, PATIENCE) is Events.CONNECTION_AVAILABLE
    timer.join()


def test_a_wait_for_the_end_ends_when_somebody_else_reads_the_last_byte(transport: Transport, way: Way) -> None:
    make = peer_finished_with_data if half_closes(transport) else peer_closed_with_data
    stream, expected = make(transport)
    assert expected.data_available
    timer = soon(stream.read)
    assert way(stream, Events.END_OF_DATA, PATIENCE) is Events.END_OF_DATA
    timer.join()


def test_events_follow_the_stream_through_its_life(transport: Transport, way: Way) -> None:
    stream, peer = transport.python_peer()
    asked = Events.DATA_AVAILABLE | Events.END_OF_DATA | Events.REMOTE_DISCONNECTED
    assert way(stream, asked, 0) is Events()
    write(stream, peer)
    assert way(stream, asked, PATIENCE) is Events.DATA_AVAILABLE
    stream.read(5)
    assert way(stream, asked, PATIENCE) is Events.DATA_AVAILABLE
    stream.read(1)
    assert way(stream, asked, 0) is Events()
    write(stream, peer)
    if half_closes(transport):
        peer.shutdown(socket.SHUT_WR)
    else:
        peer.close()
    _, expected = end_with_data(transport, stream, Events())
    assert way(stream, asked, PATIENCE) is asked & expected
    stream.read(5)
    assert way(stream, asked, PATIENCE) is asked & expected
    stream.read(1)
    arrives(stream, Fact.FINISHED)
    assert way(stream, asked, PATIENCE) is Events.END_OF_DATA | Events.REMOTE_DISCONNECTED
    assert stream.read() == b""
    assert way(stream, asked, PATIENCE) is Events.END_OF_DATA | Events.REMOTE_DISCONNECTED


def test_an_empty_set_of_events_waits_for_nothing(transport: Transport, way: Way) -> None:
    stream, _ = with_data(transport)
    for timeout in (0, 0.01):
        assert way(stream, Events(), timeout) is Events()


# ---- Arguments ----


@pytest.mark.parametrize("events", [Events.CONNECTION_AVAILABLE, ~Events(), Events(0x11)])
def test_a_stream_has_no_event_of_servers(transport: Transport, way: Way, events: Events) -> None:
    stream, _ = transport.pair()
    with pytest.raises(ValueError, match="CONNECTION_AVAILABLE"):
        way(stream, events, 0)


@pytest.mark.parametrize("events", [None, 16, 1.0])
def test_events_of_another_type_are_refused(transport: Transport, way: Way, events: Any) -> None:
    stream, _ = transport.pair()
    with pytest.raises(TypeError):
        way(stream, events, 0)


@pytest.mark.parametrize("bad", [None, 3, "socket", b"", object()])
def test_what_is_no_socket_is_refused(way: Way, bad: Any) -> None:
    with pytest.raises(TypeError, match=type(bad).__name__):
        way(bad, Events.DATA_AVAILABLE, 0)


def test_the_sockets_of_others_are_refused(transport: Transport, way: Way) -> None:
    _, peer = transport.python_peer()
    with pytest.raises(TypeError, match=type(peer).__name__):
        way(peer, Events.DATA_AVAILABLE, 0)  # type: ignore[arg-type]
    with bbipc.make_poller() as poller, pytest.raises(TypeError, match="Poller"):
        way(poller, Events.DATA_AVAILABLE, 0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="int"):
        way(peer.fileno(), Events.DATA_AVAILABLE, 0)  # type: ignore[arg-type]


# ---- Several sockets ----


def test_no_sockets_are_polled_for_a_time_only() -> None:
    assert bbipc.poll_sockets([], Events(), 0) == []
    assert bbipc.poll_sockets([], [], 0) == []
    # The clock that has no ticks of 16 ms on Windows.
    begun = time.perf_counter()
    assert bbipc.poll_sockets([], Events.DATA_AVAILABLE, 0.02) == []
    assert time.perf_counter() - begun >= 0.02
    with pytest.raises(ValueError, match="for ever"):
        bbipc.poll_sockets([], Events(), None)


def test_results_stand_in_the_order_of_the_arguments(transport: Transport) -> None:
    quiet, _ = fresh(transport)
    talking, _ = with_data(transport)
    gone, _ = peer_finished(transport) if half_closes(transport) else peer_closed(transport)
    server = transport.make_server()
    transport.connect(server)
    assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
    data_or_end = Events.DATA_AVAILABLE | Events.END_OF_DATA
    expected = {
        quiet: (data_or_end, Events()),
        talking: (data_or_end, Events.DATA_AVAILABLE),
        gone: (data_or_end, Events.END_OF_DATA),
        server: (Events.CONNECTION_AVAILABLE, Events.CONNECTION_AVAILABLE),
    }
    for seed in range(10):
        order: list[Any] = list(expected) * 3
        random.Random(seed).shuffle(order)
        asked = [expected[one][0] for one in order]
        for timeout in (0, PATIENCE, None):
            assert bbipc.poll_sockets(order, asked, timeout) == [expected[one][1] for one in order]


def test_one_socket_may_be_asked_twice_at_once(transport: Transport) -> None:
    stream, _ = with_data(transport)
    asked = [Events.DATA_AVAILABLE, Events.WRITE_SPACE, Events(), Events.END_OF_DATA]
    assert bbipc.poll_sockets([stream] * 4, asked, 0) == [*asked[:2], Events(), Events()]


def test_sockets_and_events_may_come_from_any_iterable(transport: Transport) -> None:
    stream, _ = with_data(transport)
    asked = Events.DATA_AVAILABLE
    assert bbipc.poll_sockets((stream,), (asked,), 0) == [asked]
    assert bbipc.poll_sockets({stream}, [asked], 0) == [asked]
    assert bbipc.poll_sockets((one for one in [stream, stream]), asked, 0) == [asked, asked]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_as_many_events_as_sockets_are_needed(transport: Transport, count: int) -> None:
    pair = transport.pair()
    with pytest.raises(ValueError, match=f"2 sockets and {count} events"):
        bbipc.poll_sockets(pair, [Events.DATA_AVAILABLE] * count, 0)


@pytest.mark.parametrize("sockets", [None, 3, "ab", [None], [b"x"]])
def test_what_are_no_sockets_are_refused(sockets: Any) -> None:
    with pytest.raises(TypeError):
        bbipc.poll_sockets(sockets, Events.DATA_AVAILABLE, 0)


@pytest.mark.parametrize("events", [[16, 16], ["DATA_AVAILABLE", "DATA_AVAILABLE"], None, 5])
def test_what_are_no_events_are_refused(transport: Transport, events: Any) -> None:
    with pytest.raises(TypeError):
        bbipc.poll_sockets(transport.pair(), events, 0)


def test_a_wrong_event_among_many_names_the_kind(transport: Transport) -> None:
    stream, peer = transport.pair()
    server = transport.make_server()
    with pytest.raises(ValueError, match=type(server).__name__):
        bbipc.poll_sockets([stream, server, peer], Events.DATA_AVAILABLE, 0)


def test_thousands_of_sockets_of_every_kind(directory: Path) -> None:
    transports = [Transport(name, directory) for name in ("tcp", "local")]
    sockets: list[Any] = []
    for transport in transports:
        # On Windows a local server has as many pipes as its backlog allows clients.
        sockets += [transport.make_server(backlog=1) for _ in range(100)]
        for _ in range(450):
            sockets += transport.pair()
    assert len(sockets) == 2000
    random.Random(2).shuffle(sockets)
    quiet = [Events.DATA_AVAILABLE if isinstance(one, StreamSocket) else Events.CONNECTION_AVAILABLE for one in sockets]
    assert bbipc.poll_sockets(sockets, quiet, 0.01) == [Events()] * 2000
    ready = [Events.WRITE_SPACE | Events.END_OF_DATA if asked.data_available else asked for asked in quiet]
    assert bbipc.poll_sockets(sockets, ready, PATIENCE) == [asked & Events.WRITE_SPACE for asked in ready]

    finishing = bbipc.Ipv4TcpStream if WINDOWS else StreamSocket
    streams = [index for index, one in enumerate(sockets) if isinstance(one, finishing)]
    for index in (streams[0], streams[len(streams) // 2], streams[-1]):
        sockets[index].finish_writing()
    happened = bbipc.poll_sockets(sockets, quiet, 0)
    assert not any(happened)
    ends = [Events.END_OF_DATA & ~Events.CONNECTION_AVAILABLE if asked.data_available else asked for asked in quiet]
    if not TCP_DELIVERS_AT_ONCE:
        eventually(lambda: sum(map(bool, bbipc.poll_sockets(sockets, ends, PATIENCE))) == 3, "three ends")
    assert sum(map(bool, bbipc.poll_sockets(sockets, ends, PATIENCE))) == 3

    closed = sockets[1234]
    closed.close()
    with pytest.raises(bbipc.SocketClosedError, match="closed") as caught:
        bbipc.poll_sockets(sockets, quiet, PATIENCE)
    assert caught.value.socket is closed
    for transport in transports:
        transport.close()


@pytest.mark.skipif(WINDOWS, reason="select() of Windows limits how many sockets it takes, not their numbers")
def test_descriptors_beyond_fd_setsize_are_polled(transport: Transport) -> None:
    # select(2) stops at 1024; nothing here may.
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    stream, _ = with_data(transport)
    assert stream.fileno() > 1024
    for way in WAYS.values():
        assert way(stream, Events.DATA_AVAILABLE, PATIENCE) is Events.DATA_AVAILABLE
    for number in taken:
        os.close(number)


@contextlib.contextmanager
def few_descriptors() -> Iterator[None]:
    """The system allows this process 256, where it has such a limit."""
    if sys.platform == "win32":
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_more_entries_than_the_limit_of_descriptors(transport: Transport) -> None:
    """poll(2) refuses more than RLIMIT_NOFILE, and the same socket may be listed many times."""
    server = transport.make_server()
    with few_descriptors():
        many = [server] * 1000
        assert not any(bbipc.poll_sockets(many, Events.CONNECTION_AVAILABLE, 0))
        assert not any(bbipc.poll_sockets(many, Events.CONNECTION_AVAILABLE, 0.05))
        transport.connect(server)
        assert all(bbipc.poll_sockets(many, Events.CONNECTION_AVAILABLE, PATIENCE))
        assert all(bbipc.poll_sockets(many, Events.CONNECTION_AVAILABLE, 0))
