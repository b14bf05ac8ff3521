"""A program that uses the whole interface. ``mypy --strict`` must accept it, and reject what it marks as wrong.

A service that answers what it is told in capitals, over both namespaces, in one thread; and clients of it. The tests
run it, so that what mypy is told is what happens.
"""

from __future__ import annotations

import errno
import socket as python_socket
import sys
import threading
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import bbipc
from bbipc import (
    Events,
    Ipv4TcpServer,
    Ipv4TcpStream,
    LocalServer,
    LocalStream,
    Poller,
    Socket,
    SocketError,
    StreamServer,
    StreamSocket,
)

PATIENCE: float = 20.0

ON_WINDOWS: bool = sys.platform == "win32"
BACKENDS: list[str] = {"win32": ["iocp"], "linux": ["epoll", "poll"]}.get(sys.platform, ["kqueue", "poll"])


class Client:
    """One connection of the service."""

    def __init__(self, stream: StreamSocket) -> None:
        self.stream = stream
        self.output = bytearray()

    def wanted(self) -> Events:
        wanted = Events.DATA_AVAILABLE | Events.END_OF_DATA
        if self.output:
            wanted |= Events.WRITE_SPACE | Events.CONNECTION_SEVERED
        return wanted

    def serve(self, events: Events) -> bool:
        """Whether the connection goes on."""
        if events.data_available:
            self.output += self.stream.read().upper()
        if self.output:
            try:
                written: int = self.stream.write(self.output)
            except SocketError:
                return False
            del self.output[:written]
        return not events.connection_severed and not (Events.END_OF_DATA in events and not self.output)


class Service:
    def __init__(self, *servers: StreamServer, backend: str | None = None) -> None:
        self.poller: Poller = bbipc.make_poller(backend)
        self.clients: dict[Socket, Client] = {}
        self.stopping = False
        for server in servers:
            self.poller.monitor_socket(server, Events.CONNECTION_AVAILABLE)

    def run(self) -> None:
        with self.poller as poller:
            while not self.stopping:
                for socket, events in poller.wait_for_events(PATIENCE):
                    if isinstance(socket, StreamServer):
                        self.accept(socket)
                    else:
                        self.serve(self.clients[socket], events)
            assert all(isinstance(one, Socket) for one in poller.monitored_sockets())
        for client in self.clients.values():
            client.stream.close()

    def stop(self) -> None:
        self.stopping = True
        self.poller.wake()

    def accept(self, server: StreamServer) -> None:
        while server.connection_available():
            try:
                stream: StreamSocket = server.accept_connection()
            except bbipc.NoConnectionAvailableError:
                return
            client = self.clients[stream] = Client(stream)
            self.poller.monitor_socket(stream, client.wanted())

    def serve(self, client: Client, events: Events) -> None:
        stream = client.stream
        if client.serve(events):
            if self.poller.monitored_events(stream) != client.wanted():
                self.poller.set_monitored_events(stream, client.wanted())
            return
        self.poller.unmonitor_socket(stream)
        stream.close()
        del self.clients[stream]


def connect(server: Ipv4TcpServer | LocalServer) -> Ipv4TcpStream | LocalStream:
    if isinstance(server, LocalServer):
        pathname: str | bytes = server.local_pathname
        local_stream: LocalStream = bbipc.connect_to_local_server(pathname)
        assert local_stream.local_pathname == pathname
        return local_stream
    where: bbipc.Address = server.address
    with bbipc.connect(where, timeout=PATIENCE) as any_stream:
        known: tuple[str | None, int | None, str | None] = (where.host, where.port, where.pathname)
        assert (any_stream.address, *known) == (str(where), server.host_address, server.port, None)
    address: str | None = bbipc.resolve_ipv4_address(server.host_address)
    assert address is not None
    port: int = server.port
    stream: Ipv4TcpStream = bbipc.connect_to_ipv4_tcp_server(
        address, port, local_host_address=bbipc.IPV4_ANY, local_port=None
    )
    remote: tuple[str, int] = (stream.remote_host_address, stream.remote_port)
    local: tuple[str, int] = (stream.local_host_address, stream.local_port)
    assert remote == (bbipc.IPV4_LOOPBACK, port)
    assert local != remote
    return stream


def converse(server: Ipv4TcpServer | LocalServer) -> None:
    with connect(server) as stream:
        events: Events = bbipc.poll_socket(stream, Events.DETERMINED, PATIENCE)
        assert events.determined
        error: SocketError | None = stream.connection_error()
        assert error is None
        # A pipe on Windows has no descriptor, and no half-close.
        piped: bool = ON_WINDOWS and isinstance(stream, LocalStream)
        if not piped:
            number: int = stream.fileno()
            assert number >= 0
        standing: list[bool] = [
            stream.determined(),
            stream.connection_succeeded(),
            stream.ready_to_write(),
            stream.write_space(),
            stream.message_space(),
        ]
        gone: list[bool] = [
            stream.connection_failed(),
            stream.remote_disconnected(),
            stream.end_of_data(),
            stream.connection_severed(),
            stream.message_available(),
            stream.closed,
        ]
        assert all(standing)
        assert not any(gone)

        stream.write_all(b"hello, ", timeout=PATIENCE)
        written: int = stream.write(memoryview(b"<world>"), 1, 6)
        assert written == 5
        answer: bytes = stream.read_exactly(12, PATIENCE)
        assert answer == b"HELLO, WORLD"
        assert not stream.data_available()

        stream.write_all(array("B", b"again"), 5)
        together: list[Events] = bbipc.poll_sockets(
            [stream, server], [Events.DATA_AVAILABLE, Events.CONNECTION_AVAILABLE], PATIENCE
        )
        assert [bool(one) for one in together] == [True, False]
        buffer = bytearray(16)
        assert stream.read_into(buffer, 2, peek=True) >= 1
        assert stream.read(1, peek=True) == b"A"
        assert stream.read_exactly(5) == b"AGAIN"

        # The service answers in capitals. The sizes before these have no letters.
        stream.send_message(memoryview(b"one"), timeout=PATIENCE)
        stream.send_messages([b"two", bytearray(b"three")], PATIENCE)
        stream.drain()
        message: bytes = stream.receive_message(PATIENCE)
        assert message == b"ONE"
        iterator: Iterator[bytes] = stream.messages(timeout=PATIENCE)
        assert next(iterator) == b"TWO"
        ended_by: bytes = stream.read_until(b"EE", PATIENCE, max_bytes=100)
        assert ended_by == b"\0\0\0\x05THREE"
        several: list[bytes] = stream.receive_messages(max_messages=2)
        assert several == []
        bound: int = stream.max_message_size
        stream.max_message_size = bound - 1
        too_large = error_of(lambda: stream.send_message(bytes(bound), 0))
        assert isinstance(too_large, bbipc.MessageTooLargeError)

        if piped:
            assert isinstance(error_of(stream.finish_writing), bbipc.UnsupportedOperationError)
            assert isinstance(error_of(stream.fileno), bbipc.UnsupportedOperationError)
            return
        stream.finish_writing()
        ended = error_of(lambda: stream.read_exactly(1, PATIENCE))
        assert isinstance(ended, bbipc.EndOfStreamError)
        partial: bytes = ended.partial
        assert partial == b""


def error_of(action: Callable[[], object]) -> bbipc.BbipcError | None:
    try:
        action()
    except bbipc.BbipcError as error:
        return error
    return None


def refusals(directory: Path) -> None:
    missing = error_of(lambda: bbipc.connect_to_local_server(directory / "nobody"))
    assert isinstance(missing, bbipc.NoLocalServerError)
    assert isinstance(missing, FileNotFoundError)
    code: int | None = missing.errno
    culprit: Socket | None = missing.socket
    assert (code, culprit) == (errno.ENOENT, None)
    with bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 0, reuse_address=True, backlog=16) as server:
        stream = bbipc.connect_to_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, server.port)
        late = error_of(lambda: stream.read_exactly(1, 0.001))
        assert isinstance(late, bbipc.TimeoutError)
        done: tuple[bytes, int, int] = (late.partial, late.bytes_written, late.accepted)
        assert done == (b"", 0, 0)
        stream.close()
        closed = error_of(lambda: stream.write(b"x"))
        assert isinstance(closed, bbipc.SocketClosedError)
        assert closed.socket is stream


def sets_of_events(events: Events) -> tuple[Events, int, str]:
    changed: Events = (events | Events.DETERMINED) & ~Events.WRITE_SPACE ^ Events(4)
    changed -= Events.CONNECTION_FAILED
    names: list[str] = [str(one) for one in changed]
    has: bool = Events.DETERMINED in changed and bool(changed)
    assert has
    return changed, int(changed), ", ".join(names)


def pollers(socket: Socket, events: Events) -> None:
    poller = bbipc.make_poller(BACKENDS[-1])
    backend: str = poller.backend
    assert backend == BACKENDS[-1]
    try:
        poller.set_monitored_events(socket, events)
    except bbipc.NotMonitoredError:
        poller.monitor_socket(socket, events)
    twice = error_of(lambda: poller.monitor_socket(socket, events))
    assert isinstance(twice, bbipc.AlreadyMonitoredError)
    reports: list[tuple[Socket, Events]] = poller.wait_for_events(0)
    assert reports == []
    received: list[tuple[Socket, Events, bytes]] = poller.receive(0)
    messages: list[tuple[Socket, Events, list[bytes]]] = poller.receive_messages(0)
    untaken: list[tuple[int, Exception]] = bbipc.send_messages(
        [(one, message) for one, _, several in messages for message in several]
    )
    assert untaken == []
    unfinished: list[tuple[int, int | Exception]] = bbipc.write_many([(one, data) for one, _, data in received])
    assert unfinished == []
    poller.close()
    assert poller.closed
    unusable = error_of(poller.wake)
    assert isinstance(unusable, bbipc.PollerClosedError)
    assert not isinstance(unusable, (bbipc.WrongProcessError, bbipc.UnsupportedOperationError))


def family() -> None:
    """Pairs, children, and descriptors from elsewhere."""
    one, other = bbipc.make_stream_pair()
    with one, other:
        unnamed: str | bytes = other.local_pathname
        assert unnamed == ""
    process, stream = bbipc.start_process([sys.executable, "-c", "import bbipc; bbipc.connect_to_parent()"])
    with process, stream:
        code: int = process.wait()
        assert code == 0
    plain, peer = python_socket.socketpair()
    adopted: bbipc.StreamSocket = bbipc.adopt_stream(plain.detach())
    descriptor: int = adopted.detach()
    python_socket.socket(fileno=descriptor).close()
    peer.close()
    activated: list[bbipc.StreamServer] = bbipc.activated_servers()
    assert activated == []


def main(directory: Path) -> None:
    version: str = bbipc.__version__
    assert version
    include: str = bbipc.get_include()
    assert include
    library: str = bbipc.get_library()
    assert library
    family()
    tcp_server: Ipv4TcpServer = bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 0)
    local_server: LocalServer = bbipc.make_local_server(directory / "service", backlog=5, delete_on_close=True)
    with tcp_server, local_server:
        pollers(tcp_server, Events.CONNECTION_AVAILABLE)
        for backend in (None, *BACKENDS):
            service = Service(tcp_server, local_server, backend=backend)
            serving = threading.Thread(target=service.run)
            serving.start()
            try:
                converse(tcp_server)
                converse(local_server)
            finally:
                service.stop()
                serving.join()
    refusals(directory)
    assert sets_of_events(Events.DATA_AVAILABLE) == (
        Events.DETERMINED | Events.CONNECTION_SUCCEEDED | Events.DATA_AVAILABLE,
        0x16,
        "DETERMINED, CONNECTION_SUCCEEDED, DATA_AVAILABLE",
    )


def rejected(stream: StreamSocket, server: StreamServer, poller: Poller, events: Events) -> None:
    """Never called. If mypy accepted one of these, it would complain of the comment that expects the error."""
    stream.write("text")  # type: ignore[arg-type]
    stream.write_all(None)  # type: ignore[arg-type]
    stream.write_all(b"x", "soon")  # type: ignore[arg-type]
    stream.read_into([0, 0])  # type: ignore[arg-type]
    stream.read_into(bytearray(8), peeking=True)  # type: ignore[call-arg]
    stream.read("many")  # type: ignore[arg-type]
    stream.read_exactly(1.5)  # type: ignore[arg-type]
    stream.send_message("text")  # type: ignore[arg-type]
    stream.send_messages(b"one")  # type: ignore[arg-type]
    stream.receive_messages("many")  # type: ignore[arg-type]
    stream.max_message_size = "large"  # type: ignore[assignment]
    server.send_message(b"x")  # type: ignore[attr-defined]
    stream.accept_connection()  # type: ignore[attr-defined]
    server.write(b"x")  # type: ignore[attr-defined]
    text: str = stream.read()  # type: ignore[assignment]
    error: SocketError = stream.connection_error()  # type: ignore[assignment]
    poller.monitor_socket(stream.fileno(), events)  # type: ignore[arg-type]
    poller.monitor_socket(stream, 16)  # type: ignore[arg-type]
    poller.wait_for_events("soon")  # type: ignore[arg-type]
    bbipc.poll_socket(poller, events)  # type: ignore[arg-type]
    bbipc.poll_sockets([stream], 16)  # type: ignore[arg-type]
    bbipc.make_ipv4_tcp_server("127.0.0.1", "80")  # type: ignore[arg-type]
    bbipc.make_ipv4_tcp_server("127.0.0.1", 80, reuse=True)  # type: ignore[call-arg]
    bbipc.connect_to_local_server(5)  # type: ignore[arg-type]
    bbipc.make_poller(1)  # type: ignore[arg-type]
    events.data_available = True  # type: ignore[misc]

    combined = events | 16  # type: ignore[operator]
    print(text, error, combined, events.no_such_event)  # type: ignore[attr-defined]
