"""What the library holds, and for how long: descriptors and memory. What is dropped, and what fails or ends."""

from __future__ import annotations

import errno
import gc
import os
import sys
import textwrap
import warnings
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import bbipc
import systems
from bbipc import Events, Poller, Socket, StreamServer, StreamSocket
from bbipc._native.declarations import open_handles
from child_processes import eventually
from counting import COUNTING
from descriptors import open_descriptors
from patience import PATIENCE, QEMU
from peer import run_program
from readiness import RESETS_DISCARD, sever
from systems import BACKENDS, WINDOWS
from transports import Transport, fill

if sys.platform == "win32":
    import windows


class Descriptors:
    """What this process has open now."""

    def __init__(self) -> None:
        self._open = open_descriptors()

    def check_the_same(self) -> None:
        if not WINDOWS:
            assert open_descriptors() == self._open
            return
        # Handles take each other's numbers, and Windows closes some a moment later.
        most = len(self._open)
        eventually(lambda: len(open_descriptors()) <= most, f"{most} handles at the most")


def unkept_pair(transport: Transport) -> tuple[StreamServer, StreamSocket, StreamSocket]:
    """A server and the two ends of a connection, which nobody else closes or keeps alive."""
    server: StreamServer
    connecting: StreamSocket
    if transport.name == "tcp":
        server = tcp = bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 0)
        connecting = bbipc.connect_to_ipv4_tcp_server(tcp.host_address, tcp.port)
    else:
        server = local = bbipc.make_local_server(transport.free_pathname())
        connecting = bbipc.connect_to_local_server(local.local_pathname)
    assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
    return server, connecting, server.accept_connection()


# ---- What is dropped ----


def test_a_dropped_socket_warns_and_is_closed(transport: Transport) -> None:
    before = Descriptors()
    sockets: list[Socket] = list(unkept_pair(transport))
    names = [repr(socket) for socket in sockets]
    while sockets:
        with pytest.warns(ResourceWarning) as caught:
            sockets.pop()
        assert [str(warning.message) for warning in caught] == [f"unclosed {names.pop()}"]
    before.check_the_same()


def test_the_remote_end_learns_that_a_stream_was_dropped(transport: Transport) -> None:
    server, connecting, accepted = unkept_pair(transport)
    with pytest.warns(ResourceWarning):
        del connecting
    assert bbipc.poll_socket(accepted, Events.REMOTE_DISCONNECTED, PATIENCE)
    accepted.close()
    server.close()


def test_a_dropped_local_server_deletes_its_pathname(directory: Path) -> None:
    server = bbipc.make_local_server(directory / "server")
    with pytest.warns(ResourceWarning, match="unclosed <LocalServer"):
        del server
    assert os.listdir(directory) == []
    with pytest.raises(bbipc.NoLocalServerError):
        bbipc.connect_to_local_server(directory / "server")


def test_a_dropped_poller_warns_and_is_closed(transport: Transport, backend: str) -> None:
    stream, remote = transport.pair()
    before = Descriptors()
    poller = bbipc.make_poller(backend)
    poller.monitor_socket(stream, Events.DATA_AVAILABLE)
    with pytest.warns(ResourceWarning, match=f"unclosed <Poller {backend}, 1 socket"):
        del poller
    before.check_the_same()
    remote.write(b"!")
    assert bbipc.poll_socket(stream, Events.DATA_AVAILABLE, PATIENCE)


def test_sockets_in_cycles_are_closed_by_a_collection(transport: Transport, backend: str) -> None:
    class Cycle:
        itself: Cycle
        held: list[Socket | Poller]

    before = Descriptors()
    handles_before = open_handles()
    cycle = Cycle()
    cycle.itself = cycle
    poller = bbipc.make_poller(backend)
    sockets = unkept_pair(transport)
    poller.monitor_socket(sockets[1], Events.DATA_AVAILABLE)
    cycle.held = [poller, *sockets]
    del cycle, poller, sockets
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning] * 4
    before.check_the_same()
    assert open_handles() == handles_before


def test_a_dropped_socket_is_closed_where_warnings_are_errors(directory: Path) -> None:
    """The warning was raised out of the finalizer before it closed."""
    output = run_program(
        COUNTING
        + textwrap.dedent("""
        import os, sys
        import bbipc
        sys.unraisablehook = lambda unraisable: print(unraisable.exc_type.__name__)
        # The first of each kind opens what is opened only once.
        bbipc.make_local_server(sys.argv[1]).close()
        bbipc.make_poller().close()
        before = count()
        server = bbipc.make_local_server(sys.argv[1])
        poller = bbipc.make_poller()
        del server, poller
        check_count(before)
        assert not os.path.exists(sys.argv[1])
        """),
        directory / "server",
        options=("-W", "error"),
    )
    assert output.split() == ["ResourceWarning"] * 2


def test_a_poller_keeps_its_sockets_alive(transport: Transport, backend: str) -> None:
    server, connecting, accepted = unkept_pair(transport)
    server.close()
    kept = weakref.ref(connecting)
    with bbipc.make_poller(backend) as poller:
        poller.monitor_socket(connecting, Events.DATA_AVAILABLE)
        del connecting
        gc.collect()
        accepted.write(b"!")
        [(stream, events)] = poller.wait_for_events(PATIENCE)
        assert events == Events.DATA_AVAILABLE
        assert stream is kept()
        accepted.close()
        stream.close()


def test_what_a_poller_no_longer_monitors_is_let_go(transport: Transport, backend: str) -> None:
    """By unmonitoring, by closing the socket and by closing the poller."""
    poller = bbipc.make_poller(backend)

    def unmonitor(stream: StreamSocket) -> None:
        poller.unmonitor_socket(stream)
        stream.close()

    def close_poller(stream: StreamSocket) -> None:
        poller.close()
        stream.close()

    ways: list[Callable[[StreamSocket], None]] = [unmonitor, StreamSocket.close, close_poller]
    for let_go in ways:
        server, stream, remote = unkept_pair(transport)
        poller.monitor_socket(stream, Events.DATA_AVAILABLE)
        let_go(stream)
        reference = weakref.ref(stream)
        del stream
        assert reference() is None
        remote.close()
        server.close()


def test_errors_keep_no_socket_alive(transport: Transport) -> None:
    """An error and a frame that refer to each other are a cycle: what they hold lives until the next collection."""
    server, stream, remote = unkept_pair(transport)
    gc.disable()
    try:
        with pytest.raises(bbipc.TimeoutError):
            stream.read_exactly(1, 0)
        fill(stream)
        with pytest.raises(bbipc.TimeoutError):
            stream.write_all(b"!", 0)
        remote.write(b"!")
        remote.close()
        with pytest.raises(bbipc.EndOfStreamError):
            stream.read_exactly(2, PATIENCE)
        assert bbipc.poll_socket(stream, Events.CONNECTION_SEVERED, PATIENCE)
        with pytest.raises(bbipc.EndOfStreamError):
            stream.write_all(b"!", PATIENCE)
        with pytest.raises(bbipc.NoConnectionAvailableError):
            server.accept_connection()
        stream.close()
        server.close()
        with pytest.raises(bbipc.SocketClosedError):
            stream.read()
        references: list[weakref.ref[Any]] = [weakref.ref(stream), weakref.ref(server)]
        del stream, server
        assert [reference() for reference in references] == [None, None]
    finally:
        gc.enable()


# ---- Memory and descriptors ----


def resident_kib() -> int:
    if sys.platform == "win32":
        return windows.resident_bytes() // 1024
    return systems.resident_bytes(os.getpid()) // 1024


def refused_connection(transport: Transport) -> None:
    # On Windows a local server has as many pipes as its backlog allows clients.
    server = transport.make_server(backlog=1)
    if isinstance(server, bbipc.Ipv4TcpServer):
        address = server.host_address, server.port
        server.close()
        with bbipc.connect_to_ipv4_tcp_server(*address) as stream:
            assert bbipc.poll_socket(stream, Events.CONNECTION_FAILED, PATIENCE)
            assert stream.connection_error() is not None
            with pytest.raises(bbipc.SocketError):
                stream.read()
    else:
        assert isinstance(server, bbipc.LocalServer)
        server.close()
        with pytest.raises(bbipc.NoLocalServerError):
            bbipc.connect_to_local_server(transport.free_pathname())


def address_in_use(transport: Transport) -> None:
    server = transport.make_server(backlog=1)
    again: Callable[[], object]
    if isinstance(server, bbipc.Ipv4TcpServer):
        again = partial(bbipc.make_ipv4_tcp_server, server.host_address, server.port)
    else:
        assert isinstance(server, bbipc.LocalServer)
        again = partial(bbipc.make_local_server, server.local_pathname)
    with pytest.raises(bbipc.SocketError) as caught:
        again()
    assert caught.value.errno == errno.EADDRINUSE
    with pytest.raises(bbipc.NoConnectionAvailableError):
        server.accept_connection()
    server.close()


def severed_connection(transport: Transport) -> None:
    stream, peer = transport.python_peer()
    sever(peer, stream)
    assert bbipc.poll_socket(stream, Events.CONNECTION_SEVERED, PATIENCE)
    uses: list[Callable[[], object]] = [partial(stream.write, b"!")]
    if transport.name == "tcp" or systems.close_resets("local"):
        uses.append(stream.read)
    for use in uses:
        with pytest.raises(bbipc.SocketError):
            use()
    with pytest.raises(bbipc.EndOfStreamError):
        stream.read_exactly(1, 0)
    stream.close()


def pollers(transport: Transport) -> None:
    stream, remote = transport.pair()
    for backend in BACKENDS:
        poller = bbipc.make_poller(backend)
        poller.monitor_socket(stream, Events.DATA_AVAILABLE)
        poller.monitor_socket(remote, Events())
        with pytest.raises(bbipc.AlreadyMonitoredError):
            poller.monitor_socket(stream, Events.DATA_AVAILABLE)
        poller.wake()
        assert poller.wait_for_events() == []
        poller.unmonitor_socket(stream)
        poller.close()
    stream.close()
    remote.close()


def waits(transport: Transport) -> None:
    stream, remote = transport.pair()
    # Windows begins an operation for each and takes it back, which Wine is slow at.
    many = 20 if WINDOWS else 100
    assert not any(bbipc.poll_sockets([stream] * many, Events.DATA_AVAILABLE, 0.00001))
    with pytest.raises(bbipc.TimeoutError):
        stream.read_exactly(100_000, 0)
    assert stream.read(1 << 20) == b""
    stream.close()
    remote.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "repeated",
    [
        refused_connection,
        address_in_use,
        severed_connection,
        pollers,
        pytest.param(
            waits, marks=pytest.mark.skipif(QEMU, reason="qemu-user remembers every page that was ever mapped")
        ),
    ],
    ids=lambda each: each.__name__,
)
def test_nothing_is_left_of_what_fails_or_ends(transport: Transport, repeated: Callable[[Transport], None]) -> None:
    # Real Windows believes a refusal only after two seconds: one in fifty has to do.
    share = 50 if RESETS_DISCARD and repeated is refused_connection and transport.name == "tcp" else 1

    def repeat(count: int) -> tuple[Descriptors, int, int]:
        for _ in range(count // share):
            repeated(transport)
            # Otherwise the transport would keep everything alive until it closes.
            transport.let_go()
        gc.collect()
        return Descriptors(), open_handles(), resident_kib()

    repeat(100)
    descriptors, handles_before, memory_before = repeat(200)
    # A leak grows each time. The heap of a worker with all tests in it may grow once for another reason.
    for _ in range(3):
        _, handles_after, memory_after = repeat(1000)
        descriptors.check_the_same()
        assert handles_after == handles_before
        growth, memory_before = memory_after - memory_before, memory_after
        if growth < 400 / share:
            break
    # A page lost each time would be 4,000.
    assert growth < 400 / share


#: Namespaces whose sockets have a descriptor that can be learnt.
WITH_DESCRIPTORS = ["tcp"] if WINDOWS else ["tcp", "local"]


@pytest.mark.parametrize("namespace", WITH_DESCRIPTORS)
def test_a_descriptor_closed_behind_the_librarys_back_crashes_nothing(directory: Path, namespace: str) -> None:
    """As socket.socket(fileno=stream.fileno()) does at its end. The library said "internal error" and died.

    And errors of TCP sockets recursed for ever: they name the socket by its address, and asking for that failed.
    """
    run_program(
        """
        import socket, sys
        import bbipc
        from bbipc import Events

        namespace, pathname, *backends = sys.argv[1:]
        for number, backend in enumerate(backends):
            if namespace == "tcp":
                server = bbipc.make_ipv4_tcp_server("127.0.0.1", 0)
                stream = bbipc.connect_to_ipv4_tcp_server("127.0.0.1", server.port)
            else:
                server = bbipc.make_local_server(pathname + str(number))
                stream = bbipc.connect_to_local_server(pathname + str(number))
            poller = bbipc.make_poller(backend)
            poller.monitor_socket(server, Events.CONNECTION_AVAILABLE)
            poller.monitor_socket(stream, Events.DATA_AVAILABLE)
            if number % 2 or len(backends) == 1:
                # So that Windows has an operation of each.
                assert poller.wait_for_events(10)
            socket.close(server.fileno())
            socket.close(stream.fileno())
            poller.wait_for_events(0)
            try:
                stream.write(b"!")
                raise AssertionError("a closed descriptor took bytes")
            except bbipc.SocketError:
                pass
            for use in (
                stream.read,
                server.accept_connection,
                lambda: bbipc.poll_socket(stream, Events.DATA_AVAILABLE, 0),
                lambda: bbipc.poll_sockets([server, stream], [Events.CONNECTION_AVAILABLE, Events.READY_TO_WRITE], 0),
                lambda: poller.set_monitored_events(stream, Events.DATA_AVAILABLE | Events.READY_TO_WRITE),
                lambda: poller.wait_for_events(0),
            ):
                try:
                    use()
                except bbipc.SocketError:
                    pass
            assert namespace in repr(stream).lower() and namespace in repr(server).lower()
            poller.unmonitor_socket(stream)
            server.close()
            stream.close()
            poller.close()
        """,
        namespace,
        directory / "server",
        *BACKENDS,
    )
