"""What all tests share: every transport and every backend through the same tests, and nobody leaks a descriptor."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import socket
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

import bbipc
from bbipc import Events, Socket, StreamServer, StreamSocket

#: Seconds. Longer than any wait that succeeds; reached only by one that fails.
PATIENCE = 20.0

#: Every event that a stream can have.
STREAM_EVENTS = ~Events.CONNECTION_AVAILABLE

SocketT = TypeVar("SocketT", bound=Socket)

BACKENDS = ["epoll", "poll"]


class Transport:
    """One namespace, as tests use it. What it makes, it closes."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self._directory = directory
        self._count = 0
        self._stack = contextlib.ExitStack()

    def free_pathname(self) -> str:
        self._count += 1
        return str(self._directory / f"{self._count}.sock")

    def make_server(self, *, backlog: int = 128) -> StreamServer:
        server: StreamServer
        if self.name == "tcp":
            server = bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 0, backlog=backlog)
        else:
            server = bbipc.make_local_server(self.free_pathname(), backlog=backlog)
        return self.keep(server)

    def connect(self, server: StreamServer) -> StreamSocket:
        """A stream to the server, whose connection may still be under way."""
        stream: StreamSocket
        if isinstance(server, bbipc.Ipv4TcpServer):
            stream = bbipc.connect_to_ipv4_tcp_server(server.host_address, server.port)
        else:
            assert isinstance(server, bbipc.LocalServer)
            stream = bbipc.connect_to_local_server(server.local_pathname)
        return self.keep(stream)

    def accept(self, server: StreamServer) -> StreamSocket:
        assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
        return self.keep(server.accept_connection())

    def pair(self) -> tuple[StreamSocket, StreamSocket]:
        """The two ends of a connection that stands: the one that connected, and the accepted one."""
        server = self.make_server()
        connecting = self.connect(server)
        accepted = self.accept(server)
        assert bbipc.poll_socket(connecting, Events.CONNECTION_SUCCEEDED, PATIENCE)
        server.close()
        return connecting, accepted

    def python_peer(self) -> tuple[StreamSocket, socket.socket]:
        """A stream, and a socket of Python's own at its other end, which can do what a stream can't."""
        server = self.make_server()
        if isinstance(server, bbipc.Ipv4TcpServer):
            peer = socket.create_connection((server.host_address, server.port))
        else:
            assert isinstance(server, bbipc.LocalServer)
            peer = socket.socket(socket.AF_UNIX)
            peer.connect(server.local_pathname)
        self._stack.callback(peer.close)
        accepted = self.accept(server)
        server.close()
        return accepted, peer

    def address(self, server: StreamServer) -> str:
        """The server's address as the examples write it: tcp:HOST:PORT or local:PATH."""
        if isinstance(server, bbipc.Ipv4TcpServer):
            return f"tcp:{server.host_address}:{server.port}"
        assert isinstance(server, bbipc.LocalServer)
        return f"local:{server.local_pathname!s}"

    def keep(self, socket: SocketT) -> SocketT:
        self._stack.callback(socket.close)
        return socket

    def let_go(self) -> None:
        """Closes nothing of what it has made until now."""
        self._stack.pop_all()

    def close(self) -> None:
        self._stack.close()


def fill(stream: StreamSocket) -> int:
    """Writes until the system takes no more. Returns the number of bytes."""
    total = 0
    refused = 0
    while refused < 2:
        taken = stream.write(bytes(65536))
        total += taken
        refused = 0 if taken else refused + 1
        if refused == 1 and isinstance(stream, bbipc.Ipv4TcpStream):
            # It still moves some bytes to the other end.
            bbipc.poll_socket(stream, Events.WRITE_SPACE, 0.05)
    return total


def reset(peer: socket.socket, stream: StreamSocket) -> None:
    """Closes the peer so that the stream is severed: TCP resets it at once, a local one for a byte left unread."""
    stream.write(b"!")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


@pytest.fixture
def directory() -> Iterator[Path]:
    """A private directory whose name is short enough for local pathnames, as pytest's tmp_path may not be."""
    path = Path(tempfile.mkdtemp(prefix="bbipc-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(params=["tcp", "local"])
def transport(request: pytest.FixtureRequest, directory: Path) -> Iterator[Transport]:
    made = Transport(request.param, directory)
    yield made
    made.close()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def open_descriptors() -> dict[int, str]:
    """What this process has open, by number."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        # The listing's own descriptor is gone by now.
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


@pytest.fixture(autouse=True)
def no_descriptor_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that ends with a descriptor that it did not begin with."""
    gc.collect()
    # So that the collection after the test looks at what the test made, and not at all that was there before.
    gc.freeze()
    before = open_descriptors()
    yield
    gc.collect()
    leaked = {number: what for number, what in open_descriptors().items() if before.get(number) != what}
    assert not leaked, f"{request.node.nodeid} leaks descriptors: {leaked}"
