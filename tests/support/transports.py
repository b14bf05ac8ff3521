"""Streams and servers of every namespace for the tests, and what is done to them and to peers of Python's own."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar, Union

import bbipc
import named_pipes
import systems
from bbipc import Events, Poller, Socket, StreamServer, StreamSocket
from patience import PATIENCE
from systems import WINDOWS

#: Every event that a stream can have.
STREAM_EVENTS = ~Events.CONNECTION_AVAILABLE

#: TCP's servers and streams, of both families.
TCP_SERVERS = (bbipc.Ipv4TcpServer, bbipc.Ipv6TcpServer)
TCP_STREAMS = (bbipc.Ipv4TcpStream, bbipc.Ipv6TcpStream)

SocketT = TypeVar("SocketT", bound=Socket)

if sys.platform == "win32":
    PythonPeer = Union[socket.socket, named_pipes.PipePeer]
else:
    PythonPeer = socket.socket


@cache
def without_ipv6() -> str | None:
    """Why no test can use IPv6 here; None where it can."""
    if not socket.has_ipv6:
        return "this Python has no IPv6"
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind((bbipc.IPV6_LOOPBACK, 0))
    except OSError as error:
        return f"this machine has no {bbipc.IPV6_LOOPBACK}, IPv6's address for itself: {error}"
    return None


class Transport:
    """One namespace, as tests use it: tcp, tcp6 or local. What it makes, it closes."""

    def __init__(self, namespace: str, directory: Path) -> None:
        self._has_ipv6 = namespace == "tcp6"
        #: TCP behaves alike over both families.
        self.name = "tcp" if self._has_ipv6 else namespace
        self._directory = directory
        self._count = 0
        self._stack = contextlib.ExitStack()

    def free_pathname(self) -> str:
        """Where no server listens yet. On Windows a pathname is the name of a pipe, and no file."""
        self._count += 1
        return str(self._directory / f"{self._count}.sock")

    def make_server(self, *, backlog: int = 128) -> StreamServer:
        server: StreamServer
        if self._has_ipv6:
            server = bbipc.make_ipv6_tcp_server(bbipc.IPV6_LOOPBACK, 0, backlog=backlog)
        elif self.name == "tcp":
            server = bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 0, backlog=backlog)
        else:
            server = bbipc.make_local_server(self.free_pathname(), backlog=backlog)
        return self.keep(server)

    def connect(self, server: StreamServer) -> StreamSocket:
        """A stream to the server, whose connection may still be under way."""
        stream: StreamSocket
        if isinstance(server, bbipc.Ipv4TcpServer):
            stream = bbipc.connect_to_ipv4_tcp_server(server.host_address, server.port)
        elif isinstance(server, bbipc.Ipv6TcpServer):
            stream = bbipc.connect_to_ipv6_tcp_server(server.host_address, server.port)
        else:
            assert isinstance(server, bbipc.LocalServer)
            stream = bbipc.connect_to_local_server(server.local_pathname)
        return self.keep(stream)

    def accept(self, server: StreamServer) -> StreamSocket:
        assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
        return self.keep(server.accept_connection())

    def pair(self) -> tuple[StreamSocket, StreamSocket]:
        """The two ends of a connection that stands: the one that connected, and the accepted one."""
        server = self.make_server(backlog=1)
        connecting = self.connect(server)
        accepted = self.accept(server)
        assert bbipc.poll_socket(connecting, Events.CONNECTION_SUCCEEDED, PATIENCE)
        server.close()
        return connecting, accepted

    def python_peer(self) -> tuple[StreamSocket, PythonPeer]:
        """A stream, and a socket of Python's own at its other end, which can do what a stream can't."""
        server = self.make_server(backlog=1)
        peer = connect_with_python(server)
        self.on_close(peer.close)
        accepted = self.accept(server)
        server.close()
        return accepted, peer

    def keep(self, socket: SocketT) -> SocketT:
        self.on_close(socket.close)
        return socket

    def on_close(self, action: Callable[[], object]) -> None:
        self._stack.callback(action)

    def let_go(self) -> None:
        """Closes nothing of what it has made until now."""
        self._stack.pop_all()

    def close(self) -> None:
        self._stack.close()


def connect_with_python(server: StreamServer) -> PythonPeer:
    """A client that nobody here wrote: a socket of Python's own, or on Windows an end of a pipe."""
    if isinstance(server, TCP_SERVERS):
        return socket.create_connection((server.host_address, server.port))
    assert isinstance(server, bbipc.LocalServer)
    if sys.platform == "win32":
        return named_pipes.connect(os.fsdecode(server.local_pathname))
    client = socket.socket(socket.AF_UNIX)
    client.connect(server.local_pathname)
    return client


def fill(stream: StreamSocket) -> int:
    """Writes until the system takes no more. Returns the number of bytes."""
    total = 0
    refused = 0
    while refused < 2:
        taken = stream.write(bytes(65536))
        total += taken
        refused = 0 if taken else refused + 1
        if refused == 1 and isinstance(stream, TCP_STREAMS):
            # It still moves some bytes to the other end; and where that takes its time, buffers grow meanwhile.
            bbipc.poll_socket(stream, Events.WRITE_SPACE, 0.2 if systems.MACOS or systems.FREEBSD else 0.05)
    return total


def reset(peer: PythonPeer, stream: StreamSocket) -> None:
    """Closes the peer so that the stream is severed: TCP resets it at once, a local one for a byte left unread.

    A pipe is severed either way, and so is any local stream of macOS and FreeBSD: systems.close_resets.
    """
    stream.write(b"!")
    abort(peer)


def abort(peer: PythonPeer) -> None:
    """Closes with a reset rather than in order (socket(7), SO_LINGER). A Unix socket, or a pipe, just closes."""
    if isinstance(peer, socket.socket):
        # Two of Windows' numbers have 16 bits.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("HH" if WINDOWS else "ii", 1, 0))
    peer.close()


def monitoring(*sockets: Socket, events: Events, backend: str | None = None) -> Poller:
    """A poller that monitors the sockets already."""
    poller = bbipc.make_poller(backend)
    for one in sockets:
        poller.monitor_socket(one, events)
    return poller
