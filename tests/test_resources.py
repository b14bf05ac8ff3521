"""What the library holds, and for how long: descriptors, memory, processor time. What is dropped, and how it ends."""

from __future__ import annotations

import errno
import gc
import os
import textwrap
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import bbipc
from bbipc import Events, Poller, Socket, StreamServer, StreamSocket
from bbipc._ffi import open_handles
from conftest import BACKENDS, PATIENCE, Transport, fill, open_descriptors, reset
from peer import run_program


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
    before = open_descriptors()
    sockets: list[Socket] = list(unkept_pair(transport))
    names = [repr(socket) for socket in sockets]
    while sockets:
        with pytest.warns(ResourceWarning) as caught:
            sockets.pop()
        assert [str(warning.message) for warning in caught] == [f"unclosed {names.pop()}"]
    assert open_descriptors() == before


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


def test_a_dropped_poller_warns_and_is_closed(transport: Transport, backend: str) -> None:
    stream, remote = transport.pair()
    before = open_descriptors()
    poller = bbipc.make_poller(backend)
    poller.monitor_socket(stream, Events.DATA_AVAILABLE)
    with pytest.warns(ResourceWarning, match=f"unclosed <Poller {backend}, 1 socket"):
        del poller
    assert open_descriptors() == before
    remote.write(b"!")
    assert bbipc.poll_socket(stream, Events.DATA_AVAILABLE, PATIENCE)


def test_sockets_in_cycles_are_closed_by_a_collection(transport: Transport, backend: str) -> None:
    class Cycle:
        itself: Cycle
        held: list[Socket | Poller]

    before = open_descriptors()
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
    assert open_descriptors() == before
    assert open_handles() == handles_before


def test_a_dropped_socket_is_closed_where_warnings_are_errors(directory: Path) -> None:
    """The warning was raised out of the finalizer before it closed."""
    output = run_program(
        """
        import os, sys
        import bbipc
        sys.unraisablehook = lambda unraisable: print(unraisable.exc_type.__name__)
        before = os.listdir("/proc/self/fd")
        server = bbipc.make_local_server(sys.argv[1])
        poller = bbipc.make_poller()
        del server, poller
        assert os.listdir("/proc/self/fd") == before
        assert not os.path.exists(sys.argv[1])
        """,
        directory / "server",
        options=("-W", "error"),
    )
    assert output.split() == ["ResourceWarning"] * 2


def test_a_poller_keeps_its_sockets_alive(transport: Transport, backend: str) -> None:
    server, connecting, accepted = unkept_pair(transport)
    server.close()
    number = connecting.fileno()
    with bbipc.make_poller(backend) as poller:
        poller.monitor_socket(connecting, Events.DATA_AVAILABLE)
        del connecting
        gc.collect()
        accepted.write(b"!")
        [(stream, events)] = poller.wait_for_events(PATIENCE)
        assert events == Events.DATA_AVAILABLE
        assert stream.fileno() == number
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
    """An error that its own frame refers to is a cycle: all it has waits for a collection then."""
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


# ---- How a program ends ----

OPEN_EVERYTHING = """
import sys, threading
import bbipc
from bbipc import Events

server = bbipc.make_local_server(sys.argv[1])
tcp_server = bbipc.make_ipv4_tcp_server("127.0.0.1", 0)
stream = bbipc.connect_to_local_server(sys.argv[1])
accepted = server.accept_connection()
tcp_stream = bbipc.connect_to_ipv4_tcp_server("127.0.0.1", tcp_server.port)
poller = bbipc.make_poller()
poller.monitor_socket(stream, Events.DATA_AVAILABLE)
everything = [server, tcp_server, stream, accepted, tcp_stream, poller]
"""

#: What a program does last, and whether anything is left open then.
ENDINGS = {
    "all closed": ("for one in everything: one.close()", False),
    "globals": ("pass", True),
    "in a module that goes late": ("import builtins; builtins.kept = everything; sys.kept = everything", True),
    "in a cycle": ("everything.append(everything); del server, stream, accepted, tcp_server, tcp_stream, poller", True),
    "closed at exit": (
        """
        import atexit
        atexit.register(lambda: [one.close() for one in everything])
        """,
        False,
    ),
    "an exit in the middle": ("sys.exit(0)", True),
    "threads that wait": (
        """
        waits = [
            lambda: bbipc.poll_socket(stream, Events.DATA_AVAILABLE),
            lambda: bbipc.poll_sockets([stream] * 40, Events.DATA_AVAILABLE),
            poller.wait_for_events,
            lambda: stream.read_exactly(1),
            lambda: accepted.write_all(bytes(1 << 24)),
        ]
        for wait in waits:
            threading.Thread(target=wait, daemon=True).start()
        """,
        True,
    ),
    "threads that call": (
        """
        def call():
            while True:
                poller.wait_for_events(0.0001)
                with bbipc.make_poller("poll") as own:
                    own.monitor_socket(accepted, Events.WRITE_SPACE)
                    own.wait_for_events()
                stream.write(b"!")
                accepted.read()

        for _ in range(3):
            threading.Thread(target=call, daemon=True).start()
        bbipc.poll_sockets([], [], 0.05)
        """,
        True,
    ),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_program_ends_well_whatever_is_open(directory: Path, name: str) -> None:
    """No crash, no hang, and not a word: these warnings are off by default."""
    ending, leaves_open = ENDINGS[name]
    for number in range(3 if "threads" in name else 1):
        run_program(OPEN_EVERYTHING + textwrap.dedent(ending), directory / str(number))
    if not leaves_open:
        # Nor anything to warn of.
        run_program(OPEN_EVERYTHING + textwrap.dedent(ending), directory / "server", options=("-X", "dev"))
        assert not (directory / "server").exists()


# ---- Memory and descriptors ----


def resident_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def refused_connection(transport: Transport) -> None:
    server = transport.make_server()
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
    server = transport.make_server()
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
    reset(peer, stream)
    assert bbipc.poll_socket(stream, Events.CONNECTION_SEVERED, PATIENCE)
    for use in (partial(stream.write, b"!"), stream.read):
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
    assert not any(bbipc.poll_sockets([stream] * 100, Events.DATA_AVAILABLE, 0.00001))
    with pytest.raises(bbipc.TimeoutError):
        stream.read_exactly(100_000, 0)
    assert stream.read(1 << 20) == b""
    stream.close()
    remote.close()


@pytest.mark.parametrize(
    "repeated", [refused_connection, address_in_use, severed_connection, pollers, waits], ids=lambda each: each.__name__
)
def test_nothing_is_left_of_what_fails_or_ends(transport: Transport, repeated: Callable[[Transport], None]) -> None:
    def repeat(count: int) -> tuple[dict[int, str], int, int]:
        for _ in range(count):
            repeated(transport)
            # It would keep everything alive that it closes in the end.
            transport.let_go()
        gc.collect()
        return open_descriptors(), open_handles(), resident_kib()

    repeat(100)
    *counted_before, memory_before = repeat(200)
    *counted_after, memory_after = repeat(1000)
    assert counted_after == counted_before
    # A page lost each time would be 4,000.
    assert memory_after - memory_before < 400


def test_a_descriptor_closed_behind_the_librarys_back_crashes_nothing(directory: Path) -> None:
    """As by socket.socket(fileno=stream.fileno()), whose end closes it. The library said «internal error» and died."""
    run_program(
        """
        import os, sys
        import bbipc
        from bbipc import Events

        for number, backend in enumerate(["epoll", "poll"]):
            server = bbipc.make_local_server(sys.argv[1] + str(number))
            stream = bbipc.connect_to_local_server(sys.argv[1] + str(number))
            poller = bbipc.make_poller(backend)
            poller.monitor_socket(server, Events.CONNECTION_AVAILABLE)
            poller.monitor_socket(stream, Events.DATA_AVAILABLE)
            os.close(server.fileno())
            os.close(stream.fileno())
            poller.wait_for_events(0)
            try:
                stream.write(b"!")
                raise AssertionError("a closed descriptor took bytes")
            except bbipc.SocketError:
                pass
            poller.set_monitored_events(stream, Events.DATA_AVAILABLE | Events.READY_TO_WRITE)
            poller.unmonitor_socket(stream)
            server.close()
            stream.close()
            poller.close()
        """,
        directory / "server",
    )


# ---- Processor time ----


def established(transport: Transport) -> StreamSocket:
    return transport.pair()[0]


def full(transport: Transport) -> StreamSocket:
    stream, _ = transport.pair()
    fill(stream)
    return stream


def with_unread_bytes(transport: Transport) -> StreamSocket:
    stream, remote = transport.pair()
    remote.write(b"unread")
    assert bbipc.poll_socket(stream, Events.DATA_AVAILABLE, PATIENCE)
    return stream


def half_closed(transport: Transport) -> StreamSocket:
    stream, remote = transport.pair()
    remote.finish_writing()
    assert bbipc.poll_socket(stream, Events.END_OF_DATA, PATIENCE)
    return stream


def half_closed_and_full(transport: Transport) -> StreamSocket:
    stream = half_closed(transport)
    fill(stream)
    return stream


def half_closed_and_unread(transport: Transport) -> StreamSocket:
    stream, remote = transport.pair()
    remote.write(b"unread")
    remote.finish_writing()
    assert bbipc.poll_socket(stream, Events.REMOTE_DISCONNECTED, PATIENCE)
    return stream


def finished_writing(transport: Transport) -> StreamSocket:
    stream, _ = transport.pair()
    stream.finish_writing()
    return stream


def finished_at_both_ends(transport: Transport) -> StreamSocket:
    stream, remote = transport.pair()
    remote.finish_writing()
    stream.finish_writing()
    assert bbipc.poll_socket(stream, Events.CONNECTION_SEVERED, PATIENCE)
    return stream


def severed(transport: Transport) -> StreamSocket:
    stream, peer = transport.python_peer()
    reset(peer, stream)
    assert bbipc.poll_socket(stream, Events.CONNECTION_SEVERED, PATIENCE)
    return stream


def severed_and_unread(transport: Transport) -> StreamSocket:
    stream, peer = transport.python_peer()
    peer.sendall(b"unread")
    assert bbipc.poll_socket(stream, Events.DATA_AVAILABLE, PATIENCE)
    reset(peer, stream)
    assert bbipc.poll_socket(stream, Events.CONNECTION_SEVERED, PATIENCE)
    return stream


WRITING = Events.READY_TO_WRITE | Events.WRITE_SPACE
GONE = Events.REMOTE_DISCONNECTED | Events.CONNECTION_FAILED | Events.CONNECTION_SEVERED

#: What a stream is like, and events that don't hold then: some never again, though the kernel reports the socket for
#: ever.
IDLE: list[tuple[Callable[[Transport], StreamSocket], Events]] = [
    (established, Events.DATA_AVAILABLE | Events.END_OF_DATA | GONE),
    (established, Events()),
    (full, WRITING | Events.DATA_AVAILABLE),
    (with_unread_bytes, Events.END_OF_DATA | GONE),
    (with_unread_bytes, Events()),
    (half_closed, Events.DATA_AVAILABLE | Events.READY_TO_WRITE | Events.CONNECTION_SUCCEEDED),
    (half_closed, Events.CONNECTION_SEVERED),
    (half_closed_and_full, Events.WRITE_SPACE | Events.CONNECTION_SEVERED),
    (half_closed_and_unread, Events.END_OF_DATA),
    (half_closed_and_unread, Events.READY_TO_WRITE | Events.CONNECTION_SEVERED),
    (finished_writing, WRITING | Events.DATA_AVAILABLE | GONE),
    (finished_at_both_ends, WRITING | Events.DATA_AVAILABLE | Events.CONNECTION_SUCCEEDED),
    (severed, WRITING | Events.DATA_AVAILABLE | Events.CONNECTION_SUCCEEDED),
    (severed, Events()),
    (severed_and_unread, WRITING | Events.CONNECTION_SUCCEEDED),
]


@pytest.mark.parametrize(("make", "events"), IDLE, ids=lambda case: getattr(case, "__name__", str(case)))
def test_a_wait_for_nothing_costs_no_processor_time(
    transport: Transport, make: Callable[[Transport], StreamSocket], events: Events
) -> None:
    stream = make(transport)
    check_idle(stream, events)


def test_a_wait_for_a_server_costs_no_processor_time(transport: Transport) -> None:
    server = transport.make_server()
    check_idle(server, Events.CONNECTION_AVAILABLE)
    transport.connect(server)
    assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
    check_idle(server, Events())


def check_idle(socket: Socket, events: Events) -> None:
    """Waits in every way at once, each of which lasts as long as it shall and takes no time of the processor."""
    lasts = 0.15
    failures: list[str] = []

    def measure(name: str, wait: Callable[[float], object]) -> None:
        began, worked = time.monotonic(), time.thread_time()
        result = wait(lasts)
        elapsed, worked = time.monotonic() - began, time.thread_time() - worked
        if result or elapsed < lasts or worked > lasts / 10:
            failures.append(f"{name}: {result!r} after {elapsed} s, {worked} s of them working")

    with bbipc.make_poller("epoll") as first, bbipc.make_poller("poll") as second:
        waits: dict[str, Callable[[float], object]] = {
            "poll_socket": partial(bbipc.poll_socket, socket, events),
            "poll_sockets": lambda timeout: any(bbipc.poll_sockets([socket] * 20, events, timeout)),
            "epoll": first.wait_for_events,
            "poll": second.wait_for_events,
        }
        for poller in (first, second):
            poller.monitor_socket(socket, events)
        first_named, *others = waits.items()
        threads = [threading.Thread(target=measure, args=named) for named in others]
        for thread in threads:
            thread.start()
        # The main thread waits in another way, for the sake of signals.
        measure(*first_named)
        for thread in threads:
            thread.join()
    assert not failures


# ---- Importing ----

MEASURE_IMPORT = """
import sys, time
import ctypes
before = set(sys.modules)
# Of the processor: it waits for nothing, but on a busy machine for its turn.
began = time.process_time()
import bbipc
print(time.process_time() - began, *(set(sys.modules) - before))
"""

#: Seconds.
IMPORT_MAX = 0.015


@pytest.fixture
def bytecode_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs find compiled modules, as an installed package has them, also where Python is told to write none."""
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "")


@pytest.mark.usefixtures("bytecode_cache")
def test_the_import_takes_little_time_after_ctypes() -> None:
    run_program(MEASURE_IMPORT)
    # The best of several: what it costs, without what the machine did besides.
    best = min(float(run_program(MEASURE_IMPORT).split()[0]) for _ in range(7))
    assert best < IMPORT_MAX


def test_the_import_brings_no_large_modules() -> None:
    _, *modules = run_program(MEASURE_IMPORT).split()
    large = {"asyncio", "enum", "inspect", "logging", "re", "select", "selectors", "socket", "subprocess", "signal"}
    large |= {"dataclasses", "multiprocessing", "random", "tempfile", "typing", "typing_extensions"}
    assert {name.partition(".")[0] for name in modules} & large == set()
    assert "bbipc.polling" in modules


def test_the_import_opens_one_descriptor_and_no_thread() -> None:
    output = run_program(
        """
        import os, threading
        before = len(os.listdir("/proc/self/fd"))
        import bbipc
        print(len(os.listdir("/proc/self/fd")) - before, len(os.listdir("/proc/self/task")))
        """
    )
    assert output.split() == ["1", "1"]
