"""What the library holds, and for how long: descriptors, memory, processor time. What is dropped, and how it ends."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import subprocess
import sys
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
import systems
from bbipc import Events, Poller, Socket, StreamServer, StreamSocket
from bbipc._native.declarations import open_handles
from conftest import PATIENCE, WINDOWS, Transport, fill, open_descriptors, reset
from patience import QEMU, least_of_three
from peer import WAITS, command, run_program, until_asleep
from processes import Processes, eventually, processor_seconds
from readiness import RESETS_DISCARD, TELLS_ENDS_LATE, needs_half_close, sever
from systems import BACKENDS

if sys.platform == "win32":
    import windows

#: Types of handles that Windows' libraries open for themselves.
SYSTEMS_OWN = ("ALPC", "Desktop", "Directory", "EtwRegistration", "Key", "Mutant", "Section", "WindowStation")


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


#: What a program that runs by itself counts: its descriptors, or handles, once they are as many as before.
COUNTING = (
    """
import sys, time
sys.path.insert(0, {tests!r})
if sys.platform == "win32":
    import windows

def count():
    return len(windows.open_handles())

def check_count(expected):
    until = time.perf_counter() + 10
    while count() > expected and time.perf_counter() < until:
        time.sleep(0.01)
    assert count() <= expected, (windows.open_handles(), expected)
"""
    if WINDOWS
    else """
import sys
sys.path.insert(0, {tests!r})
import systems

def count():
    return systems.open_descriptors()

def check_count(expected):
    assert count() == expected
"""
).format(tests=os.path.dirname(os.path.abspath(__file__)))


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
        # What is opened but once, by the first of its kind.
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

#: So that each is emptied, the last one first, and not freed: the program's, where everything is, after the package's.
KEEP_MODULES = "sys.kept = [*sys.modules.values()]"

#: What a program does last, and whether anything is left open then.
ENDINGS = {
    "all closed": ("for one in everything: one.close()", False),
    "globals": ("pass", True),
    "in a module that goes late": ("import builtins; builtins.kept = everything; sys.kept = everything", True),
    "after the modules": (KEEP_MODULES, True),
    "all closed, after the modules": (f"for one in everything: one.close()\n{KEEP_MODULES}", False),
    # Without a GIL, this alone keeps what a program has for longer than what its modules have.
    "a thread that has ended": (
        """
        thread = threading.Thread(target=everything.reverse)
        thread.start()
        thread.join()
        """,
        True,
    ),
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
                with bbipc.make_poller(sys.argv[2]) as own:
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
        run_program(OPEN_EVERYTHING + textwrap.dedent(ending), directory / str(number), BACKENDS[-1])
    if not leaves_open:
        # Nor anything to warn of.
        arguments = (directory / "server", BACKENDS[-1])
        run_program(OPEN_EVERYTHING + textwrap.dedent(ending), *arguments, options=("-X", "dev"))
        assert not (directory / "server").exists()


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
            # It would keep everything alive that it closes in the end.
            transport.let_go()
        gc.collect()
        return Descriptors(), open_handles(), resident_kib()

    repeat(100)
    descriptors, handles_before, memory_before = repeat(200)
    # What is lost is lost each time. Once, the heap of a worker with all tests in it may grow for another reason.
    for _ in range(3):
        _, handles_after, memory_after = repeat(1000)
        descriptors.check_the_same()
        assert handles_after == handles_before
        growth, memory_before = memory_after - memory_before, memory_after
        if growth < 400 / share:
            break
    # A page lost each time would be 4,000.
    assert growth < 400 / share


#: Those whose sockets have a descriptor that can be learnt.
WITH_DESCRIPTORS = ["tcp"] if WINDOWS else ["tcp", "local"]


@pytest.mark.parametrize("namespace", WITH_DESCRIPTORS)
def test_a_descriptor_closed_behind_the_librarys_back_crashes_nothing(directory: Path, namespace: str) -> None:
    """As by socket.socket(fileno=stream.fileno()), whose end closes it. The library said «internal error» and died.

    And errors of TCP sockets recursed for ever: to tell which socket it is, its address was asked, which is an error.
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
    needs_half_close(transport)
    stream, remote = transport.pair()
    remote.finish_writing()
    assert bbipc.poll_socket(stream, Events.END_OF_DATA, PATIENCE)
    return stream


def half_closed_and_full(transport: Transport) -> StreamSocket:
    stream = half_closed(transport)
    fill(stream)
    return stream


def half_closed_and_unread(transport: Transport) -> StreamSocket:
    needs_half_close(transport)
    stream, remote = transport.pair()
    remote.write(b"unread")
    remote.finish_writing()
    known = Events.DATA_AVAILABLE if TELLS_ENDS_LATE else Events.REMOTE_DISCONNECTED
    assert bbipc.poll_socket(stream, known, PATIENCE)
    return stream


def finished_writing(transport: Transport) -> StreamSocket:
    needs_half_close(transport)
    stream, _ = transport.pair()
    stream.finish_writing()
    return stream


def finished_at_both_ends(transport: Transport) -> StreamSocket:
    needs_half_close(transport)
    stream, remote = transport.pair()
    remote.finish_writing()
    stream.finish_writing()
    assert bbipc.poll_socket(stream, Events.CONNECTION_SEVERED, PATIENCE)
    return stream


def severed(transport: Transport) -> StreamSocket:
    stream, peer = transport.python_peer()
    sever(peer, stream)
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
    (half_closed_and_unread, Events.CONNECTION_SEVERED | (Events() if TELLS_ENDS_LATE else Events.READY_TO_WRITE)),
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
    # Windows counts processor time in steps of 16 ms.
    lasts = 0.6 if WINDOWS else 0.15
    failures: list[str] = []

    def measure(name: str, wait: Callable[[float], object]) -> None:
        def work() -> float:
            began, worked = time.perf_counter(), time.thread_time()
            result = wait(lasts)
            elapsed, worked = time.perf_counter() - began, time.thread_time() - worked
            if result or elapsed < lasts:
                failures.append(f"{name}: {result!r} after {elapsed} s")
            return worked

        worked = least_of_three(work, lasts / 10)
        if worked >= lasts / 10:
            failures.append(f"{name}: {worked} s of {lasts} working")

    with contextlib.ExitStack() as stack:
        waits: dict[str, Callable[[float], object]] = {
            "poll_socket": partial(bbipc.poll_socket, socket, events),
            "poll_sockets": lambda timeout: any(bbipc.poll_sockets([socket] * 20, events, timeout)),
        }
        for backend in BACKENDS:
            poller = stack.enter_context(bbipc.make_poller(backend))
            poller.monitor_socket(socket, events)
            waits[backend] = poller.wait_for_events
        first_named, *others = waits.items()
        threads = [threading.Thread(target=measure, args=named) for named in others]
        for thread in threads:
            thread.start()
        # The main thread waits in another way, for the sake of signals.
        measure(*first_named)
        for thread in threads:
            thread.join()
    assert not failures


@pytest.mark.parametrize("name", WAITS)
def test_a_program_that_only_waits_uses_no_processor(transport: Transport, name: str) -> None:
    """Nor do threads that the library may have."""
    server = transport.make_server(backlog=1)
    with Processes() as processes:
        process = processes.start(command("wait", "connect", transport.address(server), name, None))
        transport.accept(server)
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        until_asleep(process.pid)

        def work() -> float:
            before = processor_seconds(process)
            # Systems count in steps of 10 or 16 ms.
            assert not bbipc.poll_sockets([], [], 1.5 if WINDOWS else 0.5)
            return processor_seconds(process) - before

        worked = least_of_three(work, 0.04)
        assert process.poll() is None
    assert worked < 0.04


@pytest.mark.parametrize("events", [Events.REMOTE_DISCONNECTED, Events.CONNECTION_SEVERED, Events.END_OF_DATA])
def test_a_wait_for_the_end_beside_unread_bytes_hardly_uses_the_processor(
    transport: Transport, backend: str, events: Events
) -> None:
    """Of all the process's threads: where no system call waits for the one and not the other, somebody has to look."""
    stream = with_unread_bytes(transport)
    # Windows counts in steps of 16 ms.
    lasts = 3.0 if WINDOWS else 0.5
    most = 0.03 * lasts
    with bbipc.make_poller(backend) as poller:
        poller.monitor_socket(stream, events)
        assert not poller.wait_for_events(0)

        def work() -> float:
            before = time.process_time()
            assert not poller.wait_for_events(lasts)
            return time.process_time() - before

        assert least_of_three(work, most) < most


# ---- Importing ----

MEASURE_IMPORT = """
import sys, time
import ctypes
before = set(sys.modules)
# Of the processor: it waits for nothing, but on a busy machine for its turn. Windows counts that in steps of 16 ms.
clock = time.perf_counter if sys.platform == "win32" else time.process_time
began = clock()
import bbipc
print(clock() - began, *(set(sys.modules) - before))
"""

#: Seconds. Windows, and Wine more so, takes long to open a file.
IMPORT_MAX = 0.25 if WINDOWS else 0.015


@pytest.fixture
def bytecode_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs find compiled modules, as an installed package has them, also where Python is told to write none."""
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "")


@pytest.mark.skipif(QEMU, reason="a figure of processors, and qemu-user is none")
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


@pytest.mark.skipif(WINDOWS, reason="Windows counts them otherwise: the next test")
def test_the_import_opens_one_descriptor_and_no_thread() -> None:
    output = run_program(
        COUNTING
        + textwrap.dedent("""
        import ctypes, threading  # ctypes first: some builds of libffi keep a file open
        before, threads_before = len(count()), systems.thread_count()
        import bbipc
        print(len(count()) - before, systems.thread_count() - threads_before)
        """)
    )
    assert output.split() == ["1", "0"]


# ---- What Windows has besides ----

THREADS = """
import os

def thread_count():
    return sum(1 for _ in windows._threads(os.getpid()))
"""


@pytest.mark.skipif(not WINDOWS, reason="elsewhere the test before does it")
def test_the_import_opens_a_completion_port_and_no_thread() -> None:
    output = run_program(
        COUNTING
        + THREADS
        + textwrap.dedent("""
        # The system's own libraries, which open some for themselves.
        import ctypes, socket
        socket.socket().close()
        handles, threads = windows.open_handles(), thread_count()
        import bbipc
        assert thread_count() == threads
        new = [what for number, what in windows.open_handles().items() if number not in handles]
        print(*(what.split()[0] for what in new))
        """)
    )
    opened = [name for name in output.split() if not name.startswith(SYSTEMS_OWN)]
    assert opened == ["IoCompletion"]


@pytest.mark.skipif(not WINDOWS, reason="only Windows' pipes need a thread")
def test_the_first_pipe_starts_the_only_thread(directory: Path) -> None:
    output = run_program(
        COUNTING
        + THREADS
        + textwrap.dedent("""
        import bbipc
        from bbipc import Events

        def use(server, connect):
            with server, connect() as stream, bbipc.make_poller() as poller:
                assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, 10)
                with server.accept_connection() as accepted:
                    poller.monitor_socket(accepted, Events.DATA_AVAILABLE)
                    assert not any(bbipc.poll_sockets([stream, accepted], Events.DATA_AVAILABLE, 0.01))
                    stream.write_all(b"!", 10)
                    assert poller.wait_for_events(10) == [(accepted, Events.DATA_AVAILABLE)]
                    print(thread_count() - before)

        def tcp():
            server = bbipc.make_ipv4_tcp_server("127.0.0.1", 0)
            use(server, lambda: bbipc.connect_to_ipv4_tcp_server("127.0.0.1", server.port))

        def local(number):
            name = sys.argv[1] + number
            use(bbipc.make_local_server(name), lambda: bbipc.connect_to_local_server(name))

        # The system's own libraries start some for themselves.
        before = 0
        tcp()
        before = thread_count()
        tcp()
        local("1")
        local("2")
        tcp()
        """),
        directory / "server",
    )
    # The first says what there was before "before".
    assert output.split()[1:] == ["0", "1", "1", "1"]


@pytest.mark.skipif(not WINDOWS, reason="test_fork.py does it where there are fork() and exec()")
def test_no_process_inherits_what_is_open(transport: Transport) -> None:
    """Not even one that gets every handle that can be inherited: what is closed here is closed for its remote end."""
    server = transport.make_server()
    connect: Callable[[], StreamSocket]
    if isinstance(server, bbipc.Ipv4TcpServer):
        connect = partial(bbipc.connect_to_ipv4_tcp_server, server.host_address, server.port)
    else:
        assert isinstance(server, bbipc.LocalServer)
        connect = partial(bbipc.connect_to_local_server, server.local_pathname)
    connecting = transport.connect(server)
    accepted = transport.accept(server)
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "close_fds": False}
    with subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], **options) as process:
        assert process.stdout is not None
        process.stdout.readline()
        server.close()
        connecting.close()
        assert bbipc.poll_socket(accepted, Events.END_OF_DATA, PATIENCE)
        accepted.close()
        # Nor does anybody listen any more.
        with contextlib.suppress(bbipc.NoLocalServerError), connect() as refused:
            assert bbipc.poll_socket(refused, Events.DETERMINED, PATIENCE)
            assert refused.connection_failed()
        process.communicate(b"\n", timeout=PATIENCE)
    assert process.returncode == 0
