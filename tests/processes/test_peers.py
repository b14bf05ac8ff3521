"""Two processes, and one of them is killed: what arrived is readable, then the end is told. Nothing hangs or raises."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bbipc
from bbipc import Events, StreamSocket
from child_processes import Processes, stopped, until_stopped
from patience import PATIENCE
from peer import Pattern, command, read_piece, until_asleep, write_piece
from readiness import RESETS_DISCARD, TELLS_ENDS_LATE, WINE
from systems import BACKENDS, LOCAL_ROOM, WINDOWS
from transports import Transport, fill

#: Bytes. More than what the system buffers for a local stream, so that a transfer is under way when the peer is killed.
TRANSFERRED_FIRST = 1 << 20

#: The number of the pattern that goes to the peer, and of the one that comes from it.
OUT, IN = 1, 2


def kill(process: subprocess.Popen[str]) -> None:
    """Ends it at once."""
    if WINE:
        # Wine 8 never closes the socket of a process that is killed within a call that sends or receives. On a busy
        # machine, an idle process may still be within a call.
        for _ in range(4):
            until_asleep(process.pid)
    process.kill()
    process.wait(PATIENCE)


class Peer:
    """A process with the other end of a stream."""

    def __init__(self, process: subprocess.Popen[str], stream: StreamSocket) -> None:
        self.process = process
        self.stream = stream

    def kill(self) -> None:
        kill(self.process)

    def expect(self, line: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == line + "\n"


def resets_discard(stream: StreamSocket) -> bool:
    """Whether what a killed peer sent, and nobody has read, is lost.

    Windows breaks off the TCP connections of a program that is killed, and keeps nothing of one that is broken off.
    """
    return RESETS_DISCARD and isinstance(stream, bbipc.Ipv4TcpStream)


StartPeer = Callable[..., Peer]


@pytest.fixture(params=["accepting", "connecting"])
def start_peer(request: pytest.FixtureRequest, transport: Transport) -> Iterator[StartPeer]:
    """Starts a peer with a job. This end accepts its connection, or connects to it."""
    with Processes() as processes:

        def start(job: str, *arguments: Any) -> Peer:
            if request.param == "accepting":
                server = transport.make_server()
                process = processes.start(command(job, "connect", server.address, *arguments))
                while not bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, 0.1):
                    if process.poll() is not None:
                        raise AssertionError(process.communicate()[1])
                stream = transport.accept(server)
                server.close()
                return Peer(process, stream)
            where = "tcp:127.0.0.1:0" if transport.name == "tcp" else f"local:{transport.free_pathname()}"
            process = processes.start(command(job, "listen", where, *arguments))
            assert process.stdout is not None
            namespace, _, rest = process.stdout.readline().rstrip("\n").partition(":")
            if namespace == "tcp":
                host, port = rest.split(":")
                stream = transport.keep(bbipc.connect_to_ipv4_tcp_server(host, int(port)))
            else:
                stream = transport.keep(bbipc.connect_to_local_server(rest))
            assert bbipc.poll_socket(stream, Events.CONNECTION_SUCCEEDED, PATIENCE)
            return Peer(process, stream)

        yield start


#: Ways to wait for one stream's events.
Poll = Callable[[StreamSocket, Events], Events]


def poll_with(backend: str) -> Poll:
    def poll(stream: StreamSocket, events: Events) -> Events:
        with bbipc.make_poller(backend) as poller:
            poller.monitor_socket(stream, events)
            return dict(poller.wait_for_events(PATIENCE)).get(stream, Events())

    return poll


POLLS: dict[str, Poll] = {
    "poll_socket": lambda stream, events: bbipc.poll_socket(stream, events, PATIENCE),
    "poll_sockets": lambda stream, events: bbipc.poll_sockets([stream], events, PATIENCE)[0],
    **{backend: poll_with(backend) for backend in BACKENDS},
}


@pytest.fixture(params=POLLS)
def poll(request: pytest.FixtureRequest) -> Poll:
    return POLLS[request.param]


def read_while_data(stream: StreamSocket, position: int, poll: Poll) -> int:
    """Reads and checks for as long as polling promises data. Returns the position of the end."""
    while True:
        events = poll(stream, Events.DATA_AVAILABLE | Events.END_OF_DATA)
        if events == Events.END_OF_DATA:
            return position
        assert events == Events.DATA_AVAILABLE
        before = position
        position = read_last_piece(stream, position)
        assert position > before or resets_discard(stream)


def read_last_piece(stream: StreamSocket, position: int) -> int:
    """Reads and checks what there is, perhaps for the last time. Returns the position after it."""
    try:
        return read_piece(stream, Pattern(IN), position)
    except bbipc.SocketError as error:
        if not resets_discard(stream) or error.errno != errno.ECONNRESET:
            raise
        return position


def check_ended(stream: StreamSocket) -> None:
    """All that is to be said of a stream whose remote end has gone and that has been read to the end."""
    assert stream.remote_disconnected()
    assert stream.end_of_data()
    assert not stream.data_available()
    assert stream.connection_failed()
    assert not stream.connection_succeeded()
    assert not stream.ready_to_write()
    assert stream.determined()
    assert bbipc.poll_socket(stream, ~Events.CONNECTION_AVAILABLE, 0) & Events.REMOTE_DISCONNECTED
    with pytest.raises(bbipc.EndOfStreamError) as caught:
        stream.read_exactly(1, PATIENCE)
    assert caught.value.partial == b""


def check_unwritable(stream: StreamSocket) -> None:
    """Nobody takes what is written any more. TCP learns it from the answer to what is written first."""
    with contextlib.suppress(bbipc.SocketError):
        stream.write(b"into the void")
    assert bbipc.poll_socket(stream, Events.CONNECTION_SEVERED, PATIENCE)
    for _ in range(2):
        with pytest.raises(bbipc.SocketError) as caught:
            stream.write(b"into the void")
        assert caught.value.socket is stream
    with pytest.raises(bbipc.EndOfStreamError) as ended:
        stream.write_all(b"into the void", PATIENCE)
    assert ended.value.bytes_written == 0
    assert not stream.write_space()


# ---- The peer sends ----


def test_what_a_killed_sender_sent_is_readable(transport: Transport, start_peer: StartPeer, poll: Poll) -> None:
    peer = start_peer("send", IN)
    position = 0
    while position < TRANSFERRED_FIRST:
        assert poll(peer.stream, Events.DATA_AVAILABLE)
        position = read_piece(peer.stream, Pattern(IN), position)
    # Its buffers are full, and it waits.
    until_asleep(peer.process.pid)
    peer.kill()
    if transport.name == "local":
        assert poll(peer.stream, Events.REMOTE_DISCONNECTED)
    # With TCP the system may not know of the end yet: bytes that have no room come before it, until these are read.
    assert peer.stream.data_available() or resets_discard(peer.stream)
    end = read_while_data(peer.stream, position, poll)
    assert end > position or resets_discard(peer.stream)
    check_ended(peer.stream)
    check_unwritable(peer.stream)


def test_the_end_is_learnt_by_reading_alone(start_peer: StartPeer) -> None:
    """A program that never polls for the end: it reads, until a read says that there is no more."""
    peer = start_peer("send", IN)
    position = 0
    while position < TRANSFERRED_FIRST:
        position = read_piece(peer.stream, Pattern(IN), position)
    peer.kill()
    while not peer.stream.end_of_data():
        position = read_last_piece(peer.stream, position)
    assert read_last_piece(peer.stream, position) == position
    check_ended(peer.stream)


def test_read_exactly_has_what_arrived_before_the_kill(start_peer: StartPeer) -> None:
    peer = start_peer("hold", IN, LOCAL_ROOM)
    peer.expect("holding")
    results: list[bytes] = []

    def read() -> None:
        with pytest.raises(bbipc.EndOfStreamError) as caught:
            peer.stream.read_exactly(LOCAL_ROOM + 1)
        results.append(caught.value.partial)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    until_asleep(os.getpid(), thread.native_id)
    peer.kill()
    thread.join(PATIENCE)
    assert results == [Pattern(IN).at(0, LOCAL_ROOM)]
    check_ended(peer.stream)


# ---- The peer reads ----


def test_writing_to_a_receiver_that_is_killed(start_peer: StartPeer, poll: Poll) -> None:
    peer = start_peer("receive", OUT)
    position = 0
    while position < TRANSFERRED_FIRST:
        assert poll(peer.stream, Events.READY_TO_WRITE)
        position = write_piece(peer.stream, Pattern(OUT), position)
    assert peer.process.poll() is None, "it found wrong bytes"
    peer.kill()
    if WINE:
        # Wine calls a process ended a moment before it has closed what the process had.
        assert poll(peer.stream, Events.REMOTE_DISCONNECTED)
    assert poll(peer.stream, Events.REMOTE_DISCONNECTED | Events.READY_TO_WRITE) & Events.REMOTE_DISCONNECTED
    assert poll(peer.stream, Events.END_OF_DATA)
    check_unwritable(peer.stream)
    check_ended(peer.stream)


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_write_all_to_a_receiver_that_is_killed(start_peer: StartPeer, timeout: float | None) -> None:
    """It waits for room, which never comes."""
    peer = start_peer("hold", IN, 0)
    peer.expect("holding")
    size = 64 << 20
    written: list[int] = []

    def write() -> None:
        with pytest.raises(bbipc.EndOfStreamError) as caught:
            peer.stream.write_all(bytes(size), timeout)
        written.append(caught.value.bytes_written)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    until_asleep(os.getpid(), thread.native_id)
    peer.kill()
    thread.join(PATIENCE)
    assert len(written) == 1
    assert 0 < written[0] < size
    check_ended(peer.stream)


@pytest.mark.parametrize(
    "events",
    [Events.WRITE_SPACE | Events.CONNECTION_SEVERED, Events.READY_TO_WRITE | Events.REMOTE_DISCONNECTED],
    ids=str,
)
def test_waiting_for_room_at_a_receiver_that_is_killed(start_peer: StartPeer, poll: Poll, events: Events) -> None:
    peer = start_peer("hold", IN, 0)
    peer.expect("holding")
    fill(peer.stream)
    peer.kill()
    assert poll(peer.stream, events) & (Events.CONNECTION_SEVERED | Events.REMOTE_DISCONNECTED)


# ---- Both at once ----


def test_a_peer_killed_amid_an_exchange(transport: Transport, start_peer: StartPeer, poll: Poll) -> None:
    """The peer leaves bytes unread, so TCP resets the connection. What it had sent before is there all the same."""
    if WINE and transport.name == "tcp":
        pytest.skip("Wine 8 never closes the socket of a process that is killed with news of it not yet delivered")
    peer = start_peer("exchange", IN, OUT)
    written = read = 0
    while min(written, read) < TRANSFERRED_FIRST:
        events = poll(peer.stream, Events.DATA_AVAILABLE | Events.READY_TO_WRITE)
        if events.data_available:
            read = read_piece(peer.stream, Pattern(IN), read)
        if events.ready_to_write:
            written = write_piece(peer.stream, Pattern(OUT), written)
    assert peer.process.poll() is None, "it found wrong bytes"
    # The peer writes until its bytes fill the buffers, and then does not read what fills those of the other direction.
    until_asleep(peer.process.pid)
    with contextlib.ExitStack() as stack:
        stack.enter_context(stopped(peer.process))
        until_stopped(peer.process)
        fill(peer.stream)
        assert peer.stream.data_available()
        peer.kill()
        # It will not go on.
        stack.pop_all()
    assert poll(peer.stream, Events.REMOTE_DISCONNECTED)
    end = read_while_data(peer.stream, read, poll)
    assert end > read or resets_discard(peer.stream)
    check_ended(peer.stream)
    check_unwritable(peer.stream)


def test_a_peer_killed_with_bytes_unread_at_both_ends(start_peer: StartPeer, poll: Poll) -> None:
    """The same of a peer that neither reads nor waits."""
    size = LOCAL_ROOM // 2
    peer = start_peer("hold", IN, size)
    peer.expect("holding")
    fill(peer.stream)
    assert poll(peer.stream, Events.DATA_AVAILABLE)
    peer.kill()
    assert poll(peer.stream, Events.REMOTE_DISCONNECTED)
    end = read_while_data(peer.stream, 0, poll)
    assert end == size or resets_discard(peer.stream)
    check_ended(peer.stream)
    check_unwritable(peer.stream)


def test_many_peers_killed_at_once(transport: Transport, backend: str) -> None:
    """One poller with all of them: those that live are served on, and every end is told."""
    server = transport.make_server()
    with Processes() as processes, bbipc.make_poller(backend) as poller:
        started = [processes.start(command("send", "connect", server.address, IN)) for _ in range(4)]
        streams = [transport.accept(server) for _ in started]
        positions = dict.fromkeys(streams, 0)
        for stream in streams:
            poller.monitor_socket(stream, Events.DATA_AVAILABLE | Events.END_OF_DATA)
        while min(positions.values()) < TRANSFERRED_FIRST:
            serve(poller, positions)
        for process in started[:2]:
            kill(process)
        while len(poller.monitored_sockets()) > 2:
            serve(poller, positions)
        served = {stream: positions[stream] for stream in streams if not stream.closed}
        while min(positions[stream] - served[stream] for stream in served) < TRANSFERRED_FIRST:
            serve(poller, positions)
        for process in started[2:]:
            kill(process)
        while poller.monitored_sockets():
            serve(poller, positions)


def serve(poller: bbipc.Poller, positions: dict[StreamSocket, int]) -> None:
    reported = poller.wait_for_events(PATIENCE)
    assert reported
    for stream, events in reported:
        assert isinstance(stream, StreamSocket)
        if events.data_available:
            positions[stream] = read_piece(stream, Pattern(IN), positions[stream])
        else:
            assert events == Events.END_OF_DATA
            check_ended(stream)
            stream.close()


# ---- Peers that are killed before or between ----


def test_a_client_killed_before_it_is_accepted(transport: Transport) -> None:
    """It is no error of the server, which still hands out what the client sent."""
    server = transport.make_server()
    size = LOCAL_ROOM // 2
    with Processes() as processes:
        process = processes.start(command("hold", "connect", server.address, IN, size))
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        kill(process)
    stream = transport.accept(server)
    if not TELLS_ENDS_LATE or transport.name == "local":
        assert bbipc.poll_socket(stream, Events.REMOTE_DISCONNECTED, PATIENCE)
    assert read_while_data(stream, 0, POLLS["poll_socket"]) == size or resets_discard(stream)
    check_ended(stream)
    assert not server.connection_available()


@pytest.mark.skipif(not WINDOWS, reason="elsewhere a local server is a file")
def test_a_killed_servers_name_is_free_again(directory: Path) -> None:
    pathname = directory / "server"
    with Processes() as processes:
        for _ in range(2):
            process = processes.start(command("hold", "listen", f"local:{pathname}", IN, 0))
            assert process.stdout is not None
            assert process.stdout.readline() == f"local:{pathname}\n"
            with pytest.raises(bbipc.SocketError, match="another server listens"):
                bbipc.make_local_server(pathname)
            kill(process)
            with pytest.raises(bbipc.NoLocalServerError, match="no such pipe"):
                bbipc.connect_to_local_server(pathname)
    bbipc.make_local_server(pathname).close()


@pytest.mark.skipif(WINDOWS, reason="a pipe's name goes with its server: none is ever left behind")
def test_a_killed_servers_pathname_stays_and_nobody_listens(directory: Path) -> None:
    pathname = directory / "server"
    with Processes() as processes:
        process = processes.start(command("hold", "listen", f"local:{pathname}", IN, 0))
        assert process.stdout is not None
        assert process.stdout.readline() == f"local:{pathname}\n"
        kill(process)
    assert pathname.is_socket()
    with pytest.raises(bbipc.NoLocalServerError, match="nobody listens"):
        bbipc.connect_to_local_server(pathname)
    with pytest.raises(bbipc.SocketError, match="ended badly"):
        bbipc.make_local_server(pathname)
    pathname.unlink()
    bbipc.make_local_server(pathname).close()


def test_a_killed_servers_waiting_clients_are_told(transport: Transport, backend: str) -> None:
    """The system connected them, but the server, which serves one client, never accepted them."""
    where = "tcp:127.0.0.1:0" if transport.name == "tcp" else f"local:{transport.free_pathname()}"
    with Processes() as processes, bbipc.make_poller(backend) as poller:
        process = processes.start(command("hold", "listen", where, IN, 0))
        assert process.stdout is not None
        namespace, _, rest = process.stdout.readline().rstrip("\n").partition(":")
        # Before it accepts the first, which ends its server.
        until_asleep(process.pid)
        stack = contextlib.ExitStack()
        stack.enter_context(stopped(process))
        clients: list[StreamSocket] = []
        for _ in range(3):
            if namespace == "tcp":
                host, port = rest.split(":")
                clients.append(transport.keep(bbipc.connect_to_ipv4_tcp_server(host, int(port))))
            else:
                clients.append(transport.keep(bbipc.connect_to_local_server(rest)))
        for client in clients:
            assert bbipc.poll_socket(client, Events.CONNECTION_SUCCEEDED, PATIENCE)
            poller.monitor_socket(client, Events.CONNECTION_FAILED)
        assert poller.wait_for_events(0) == []
        kill(process)
        # It will not go on.
        stack.pop_all()
        told: set[StreamSocket] = set()
        while len(told) < len(clients):
            reported = poller.wait_for_events(PATIENCE)
            assert reported
            assert {events for _, events in reported} == {Events.CONNECTION_FAILED}
            told.update(client for client in clients if client in dict(reported))
        for client in clients:
            assert client.connection_severed()
            check_ended(client)
            check_unwritable(client)
