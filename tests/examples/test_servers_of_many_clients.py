"""poller_echo_server.py and batched_echo_server.py with many clients, slow and dying ones among them.

BBIPC_TESTS_FULL=1 in the environment serves 5,000 clients at a time instead of 500.
"""

from __future__ import annotations

import contextlib
import os
import random
import selectors
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from child_processes import (
    LOOK_AGAIN_S,
    Processes,
    connect,
    descriptor_count,
    ended,
    eventually,
    example,
    exchange,
    processor_seconds,
    ready_address,
    receive_exactly,
    reset,
    resident_bytes,
)
from descriptors import descriptors_for
from example_programs import ASK_TO_END, ASKED_TO_END, MANY_CLIENTS_SERVERS, MEGABYTE, block_of_data
from patience import PATIENCE
from peer import until_asleep
from systems import BACKLOG_MAX, CLIENTS_OUTLIVE_EMFILE, WINDOWS
from transports import PythonPeer
from tree import SUPPORT

FULL = bool(os.environ.get("BBIPC_TESTS_FULL"))
CLIENTS = 5000 if FULL else 500


class EchoPeer:
    """A client that checks every byte of its answers. Its data are a piece of what all peers share."""

    SHARED = block_of_data(MEGABYTE)
    KINDS = ("plain", "half-closer", "slow reader", "quitter")

    def __init__(self, number: int, address: str) -> None:
        generator = random.Random(number)
        self.kind = self.KINDS[number % len(self.KINDS)]
        # Now and then more than the server keeps for a client.
        size = generator.randrange(1, 20_000) if number % 10 else 400_000
        start = generator.randrange(len(self.SHARED) - size)
        self.data = memoryview(self.SHARED)[start : start + size]
        self.sent = 0
        self.received = 0
        self.finished = False
        self.socket = connect(address)
        if self.kind == "half-closer" and not isinstance(self.socket, socket.socket):
            # A named pipe can't be half-closed.
            self.kind = "plain"

    def send_first_byte(self) -> None:
        self.socket.sendall(self.data[:1])
        self.sent = 1

    def check_first_byte(self) -> None:
        assert self.socket.recv(1) == self.data[:1]
        self.received = 1

    def wanted(self) -> int:
        if self.finished:
            return 0
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self.sent < len(self.data) else 0)

    def attend(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self.sent += self.socket.send(self.data[self.sent :])
            if self.sent == len(self.data) and self.kind == "half-closer":
                self.socket.shutdown(socket.SHUT_WR)
        # A slow reader takes its time: it sends all that it can first, and then reads little at a time.
        if events == selectors.EVENT_READ or (events & selectors.EVENT_READ and self.kind != "slow reader"):
            self._receive(2000 if self.kind == "slow reader" else 65536)

    def _receive(self, size: int) -> None:
        received = self.socket.recv(size)
        assert received == self.data[self.received : self.received + len(received)]
        self.received += len(received)
        if self.kind == "quitter" and self.received >= len(self.data) // 2:
            reset(self.socket)
            self.finished = True
        elif self.kind == "half-closer":
            self.finished = not received
        else:
            assert received
            self.finished = self.received == len(self.data)
        if self.finished and self.kind != "quitter":
            assert self.received == len(self.data)


def steady_descriptor_count(server: subprocess.Popen[str]) -> int:
    """How many descriptors a server has that waits. On Windows it has one more now and then, for a moment."""
    until_asleep(server.pid)
    counts = {descriptor_count(server)}
    if WINDOWS:
        for _ in range(20):
            time.sleep(LOOK_AGAIN_S)
            counts.add(descriptor_count(server))
    return min(counts)


def about(count: int, most_clients: int) -> range:
    """How many descriptors a server may have, where this many are counted.

    On Windows, a poller has a handle of its own for 32 TCP sockets, and keeps it.
    """
    return range(count, count + 1 + (most_clients // 32 if WINDOWS else 0))


def serve_all(peers: list[EchoPeer]) -> None:
    """Lets all of them send and receive at the same time, until every one has what is its."""
    if WINDOWS:
        # Its select() takes 512 sockets at the most, and no pipes.
        try_all(peers)
        return
    with selectors.DefaultSelector() as selector:
        for peer in peers:
            peer.socket.setblocking(False)
            if peer.wanted():
                selector.register(peer.socket, peer.wanted(), peer)
        while selector.get_map():
            ready = selector.select(PATIENCE)
            assert ready, f"{len(selector.get_map())} clients get nothing any more"
            for key, events in ready:
                peer = key.data
                selector.unregister(peer.socket)
                peer.attend(events)
                if peer.wanted():
                    selector.register(peer.socket, peer.wanted(), peer)


def try_all(peers: list[EchoPeer]) -> None:
    """The same, where only trying tells which of them can."""
    for peer in peers:
        peer.socket.setblocking(False)
    unfinished = [peer for peer in peers if peer.wanted()]
    progressed_at = time.perf_counter()
    while unfinished:
        assert time.perf_counter() - progressed_at < PATIENCE, f"{len(unfinished)} clients get nothing any more"
        for peer in unfinished:
            for event in (selectors.EVENT_WRITE, selectors.EVENT_READ):
                if peer.wanted() & event:
                    with contextlib.suppress(BlockingIOError):
                        peer.attend(event)
                        progressed_at = time.perf_counter()
        unfinished = [peer for peer in unfinished if peer.wanted()]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", MANY_CLIENTS_SERVERS)
def test_server_of_many_clients_serves_many_clients(processes: Processes, name: str, free_address: str) -> None:
    with descriptors_for(CLIENTS + 100), contextlib.ExitStack() as stack:
        server, address = processes.serve(name, free_address)
        before = steady_descriptor_count(server)
        started_at = time.perf_counter()
        peers: list[EchoPeer] = []

        def all_are_accepted() -> bool:
            return descriptor_count(server) >= before + len(peers)

        for number in range(CLIENTS):
            peer = EchoPeer(number, address)
            stack.callback(peer.socket.close)
            peers.append(peer)
            if len(peers) % BACKLOG_MAX == 0:
                eventually(all_are_accepted, "the backlog has room for more")
        # All are connected and served at the same time.
        for peer in peers:
            peer.send_first_byte()
        for peer in peers:
            peer.check_first_byte()
        assert descriptor_count(server) in about(before + CLIENTS, CLIENTS)
        serve_all(peers)
        seconds = time.perf_counter() - started_at
        assert all(peer.received == len(peer.data) for peer in peers if peer.kind != "quitter")
        megabytes = sum(peer.received for peer in peers) / 1e6
        print(f"{CLIENTS} clients of {name} at {address}: {megabytes:.1f} MB came back in {seconds:.2f} s;")
        print(f"the server used {processor_seconds(server):.2f} s of processor, {resident_bytes(server) / 1e6:.1f} MB")
        for peer in peers:
            peer.socket.close()
    eventually(lambda: descriptor_count(server) in about(before, CLIENTS), "all clients are dropped")
    ASK_TO_END(server)
    assert ended(server) == (ASKED_TO_END, "", "")


@pytest.mark.parametrize("name", MANY_CLIENTS_SERVERS)
def test_server_of_many_clients_serves_several_addresses(processes: Processes, name: str, directory: Path) -> None:
    server, over_tcp = processes.serve(name, "tcp:127.0.0.1:0", f"local:{directory}/server")
    over_local = ready_address(server)
    data = block_of_data(MEGABYTE)
    with connect(over_tcp) as first, connect(over_local) as second:
        assert exchange(first, data) == data
        assert exchange(second, data) == data


def send_until_full(server: subprocess.Popen[str], client: PythonPeer, piece: bytes, quiet_s: float) -> int:
    """Sends a piece again and again, until there is no room for a time and the server waits. How many bytes it took."""
    client.setblocking(False)
    sent = 0
    had_room_at = time.perf_counter()
    server_waits = False
    while True:
        try:
            sent += client.send(memoryview(piece)[sent % MEGABYTE :])
            had_room_at = time.perf_counter()
            server_waits = False
        except BlockingIOError:
            if time.perf_counter() - had_room_at < quiet_s:
                time.sleep(LOOK_AGAIN_S)
            elif server_waits:
                return sent
            else:
                # On a busy machine it may have had no processor in all that time, and make room now.
                until_asleep(server.pid)
                server_waits = True
        assert sent < 1000 * MEGABYTE, "it reads without end"


@pytest.mark.parametrize("name", MANY_CLIENTS_SERVERS)
def test_server_of_many_clients_stops_reading_from_a_client_that_does_not_read(
    processes: Processes, name: str, free_address: str
) -> None:
    server, address = processes.serve(name, free_address)
    memory_before = resident_bytes(server)
    piece = block_of_data(MEGABYTE)
    with connect(address) as client:
        # A second without room: everything is full, on both ways.
        sent = send_until_full(server, client, piece, 1.0)
        # What it keeps is bounded, whatever the kernel's buffers hold.
        assert resident_bytes(server) - memory_before < 4 * MEGABYTE
        processor_before = processor_seconds(server)
        # Others are served meanwhile.
        with connect(address) as other:
            assert exchange(other, piece) == piece
        assert send_until_full(server, client, piece, 0.5) == 0
        assert processor_seconds(server) - processor_before < 0.25, "it spins while the client does not read"
        # All comes back as soon as it is read.
        client.settimeout(PATIENCE)
        if isinstance(client, socket.socket):
            client.shutdown(socket.SHUT_WR)
        received = 0
        # A named pipe, which can't be half-closed, has no end of its own.
        while isinstance(client, socket.socket) or received < sent:
            chunk = client.recv(MEGABYTE)
            if not chunk:
                break
            position = received % MEGABYTE
            assert chunk == (piece + piece)[position : position + len(chunk)]
            received += len(chunk)
        assert received == sent


@pytest.mark.parametrize("name", MANY_CLIENTS_SERVERS)
def test_server_of_many_clients_drops_a_client_that_dies_with_its_output_piled_up(
    processes: Processes, name: str, free_address: str
) -> None:
    server, address = processes.serve(name, free_address)
    before = steady_descriptor_count(server)
    with connect(address) as client:
        send_until_full(server, client, bytes(MEGABYTE), 0.5)
        assert steady_descriptor_count(server) == before + 1
        reset(client)
    eventually(lambda: descriptor_count(server) == before, "the dead client is dropped")
    assert server.poll() is None


KILLED_CLIENTS = """
import socket, sys
sys.path.insert(0, sys.argv[2])
import named_pipes
namespace, _, rest = sys.argv[1].partition(":")
clients = []
for _ in range(50):
    if namespace == "local" and sys.platform == "win32":
        client = named_pipes.connect(rest)
    else:
        client = socket.socket(socket.AF_INET if namespace == "tcp" else socket.AF_UNIX)
        client.connect(("127.0.0.1", int(rest.rpartition(":")[2])) if namespace == "tcp" else rest)
    client.sendall(b"x" * 50_000)
    clients.append(client)
for client in clients[::2]:
    client.recv(1)
print("connected", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("name", MANY_CLIENTS_SERVERS)
def test_server_of_many_clients_drops_clients_that_are_killed(
    processes: Processes, name: str, free_address: str
) -> None:
    server, address = processes.serve(name, free_address)
    before = steady_descriptor_count(server)
    with connect(address) as survivor:
        survivor.sendall(b"before")
        assert receive_exactly(survivor, 6) == b"before"
        clients = processes.start([sys.executable, "-c", KILLED_CLIENTS, address, str(SUPPORT)])
        assert clients.stdout is not None
        assert clients.stdout.readline() == "connected\n"
        eventually(lambda: descriptor_count(server) in about(before + 51, 51), "all clients are accepted")
        clients.kill()
        eventually(lambda: descriptor_count(server) in about(before + 1, 51), "the killed clients are dropped")
        survivor.sendall(b"after")
        assert receive_exactly(survivor, 5) == b"after"
    assert server.poll() is None


@pytest.mark.skipif(WINDOWS, reason="Windows sets a program no limit of handles")
@pytest.mark.skipif(not CLIENTS_OUTLIVE_EMFILE, reason="macOS gives up a client that it has no descriptor for")
@pytest.mark.parametrize("name", MANY_CLIENTS_SERVERS)
def test_server_of_many_clients_outlives_a_lack_of_descriptors(
    processes: Processes, name: str, free_address: str
) -> None:
    limited = ["sh", "-c", 'ulimit -n 32 && exec "$@"', "sh", *example(name, free_address)]
    server, address = processes.serve_command(limited)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(address)) for _ in range(40)]
        for client in clients:
            client.sendall(b"ping")
        eventually(lambda: descriptor_count(server) == 32, "there is no descriptor left")
        last = clients[-1]
        processor_before = processor_seconds(server)
        last.settimeout(1.5)
        with pytest.raises(socket.timeout):
            last.recv(1)
        assert processor_seconds(server) - processor_before < 0.25, "it spins while it has no descriptor"
        # Those that it has are served, and as they go, the others' turn comes.
        for client in clients:
            client.settimeout(PATIENCE)
            assert receive_exactly(client, 4) == b"ping"
            client.close()
    assert server.poll() is None
