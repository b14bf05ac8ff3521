"""What all tests share: every transport and every backend through the same tests, and nobody leaks a descriptor."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar, Union

import pytest

import bbipc
import named_pipes
import systems
from bbipc import Events, Socket, StreamServer, StreamSocket
from bbipc._native import declarations
from patience import PATIENCE, QEMU
from systems import BACKENDS, WINDOWS, make_directory

if sys.platform == "win32":
    import windows
else:
    import resource


def divides_the_tests(config: pytest.Config) -> bool:
    """Whether all tests are asked for, on a system where that has been tried, and nothing that wants one process."""
    if not systems.LINUX or QEMU or sys.implementation.name != "cpython" or hasattr(config, "workerinput"):
        return False
    chosen = config.option
    if getattr(chosen, "numprocesses", 0) is not None or chosen.dist != "no":
        return False  # pytest-xdist is missing, or has been told what to do
    return config.args_source == pytest.Config.ArgsSource.TESTPATHS and not chosen.usepdb and chosen.capture != "no"


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Starts workers. The tests of files that are named run in this process: their output is simpler."""
    if divides_the_tests(config):
        # No more than shorten it: a container may have fewer processors than it is shown. And one more, since many
        # tests wait: on two processors, three workers take three quarters of the time of two, four no less.
        config.option.numprocesses = min(len(os.sched_getaffinity(0)), 8) + 1
        config.option.dist = "worksteal"


#: Every event that a stream can have.
STREAM_EVENTS = ~Events.CONNECTION_AVAILABLE

SocketT = TypeVar("SocketT", bound=Socket)

if sys.platform == "win32":
    PythonPeer = Union[socket.socket, named_pipes.PipePeer]
else:
    PythonPeer = socket.socket


class Transport:
    """One namespace, as tests use it. What it makes, it closes."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self._directory = directory
        self._count = 0
        self._stack = contextlib.ExitStack()

    def free_pathname(self) -> str:
        """Where no server listens yet. On Windows a pathname is the name of a pipe, and no file."""
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

    def address(self, server: StreamServer) -> str:
        """The server's address as the examples write it: tcp:HOST:PORT or local:PATH."""
        if isinstance(server, bbipc.Ipv4TcpServer):
            return f"tcp:{server.host_address}:{server.port}"
        assert isinstance(server, bbipc.LocalServer)
        return f"local:{server.local_pathname!s}"

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
    if isinstance(server, bbipc.Ipv4TcpServer):
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
        if refused == 1 and isinstance(stream, bbipc.Ipv4TcpStream):
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


@pytest.fixture
def directory() -> Iterator[Path]:
    """A private directory whose name is short enough for local pathnames, as pytest's tmp_path may not be."""
    path = make_directory()
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


#: Types of handles that bbipc never opens, but Windows' libraries when they first need them, or Python for its locks.
_NEVER_OURS = (
    "ALPC Port",
    "Desktop",
    "Directory",
    "EtwRegistration",
    "Key",
    "Mutant",
    "Section",
    "Semaphore",
    "Timer",
    "WindowStation",
)


#: The library keeps some selectors for threads that wait, each with such a handle (AFD's) or none, and which these are
#: changes: native/windows/selectors/poll.zig. test_soak counts them.
_OF_SPARE_SELECTORS = "File 0x100000"


@contextlib.contextmanager
def dropping() -> Iterator[None]:
    """What is dropped inside is gone at the end. CPython sees to that by itself, PyPy when it collects garbage."""
    yield
    gc.collect()


def open_descriptors() -> dict[int, str]:
    """What this process has open, by number: descriptors, or on Windows handles of the types that bbipc uses."""
    found = systems.open_descriptors()
    if WINDOWS:
        return {number: what for number, what in found.items() if not what.startswith(_NEVER_OURS)}
    return found


def count_of_library() -> tuple[int, int]:
    """How many handles of the C interface are open, and how many operations the system has of this process."""
    return declarations.open_handles(), declarations.pending_operations()


def _left_over(before: dict[int, str]) -> dict[int, str]:
    """What is open and was not before."""
    now = open_descriptors()
    if not WINDOWS:
        return {number: what for number, what in now.items() if before.get(number) != what}
    # A handle tells only what kind of thing it is, and takes the number of one that is closed: kinds are counted.
    rest = list(before.values())
    found = {}
    for number, what in now.items():
        if what == _OF_SPARE_SELECTORS:
            continue
        if what in rest:
            rest.remove(what)
        else:
            found[number] = what
    return found


@contextlib.contextmanager
def descriptors_for(needed: int) -> Iterator[None]:
    """Lets this process have so many, where the system has a limit; skips the test where nobody can."""
    if sys.platform == "win32":
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = systems.most_descriptors(hard, resource.RLIM_INFINITY)
    if most < needed:
        pytest.skip(f"the system allows {most} descriptors, and this needs {needed} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


#: More than tests need that don't ask for more by themselves.
DESCRIPTORS = 4096


@pytest.fixture(scope="session", autouse=True)
def enough_descriptors() -> None:
    """Systems allow 1024 at first, macOS 256; but more to whoever asks."""
    if sys.platform != "win32":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if 0 <= soft < DESCRIPTORS:
            wanted = min(DESCRIPTORS, systems.most_descriptors(hard, resource.RLIM_INFINITY))
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@pytest.fixture(scope="session", autouse=True)
def warmed_up() -> None:
    """Has the libraries, the system's and ours, open now what they open once: on Windows that is at their first use."""
    if not WINDOWS:
        return
    directory = make_directory()
    for name in ("tcp", "local"):
        transport = Transport(name, directory)
        for one in (transport.pair()[0], transport.python_peer()[0]):
            for backend in BACKENDS:
                with bbipc.make_poller(backend) as poller:
                    poller.monitor_socket(one, Events.DATA_AVAILABLE)
                    poller.wait_for_events(0.01)
            bbipc.poll_socket(one, Events.DATA_AVAILABLE, 0.01)
            bbipc.poll_sockets([one], Events.DATA_AVAILABLE, 0.01)
        transport.close()
    shutil.rmtree(directory, ignore_errors=True)
    bbipc.resolve_ipv4_address("localhost")
    # For so many threads that wait at once the library keeps what they wait with.
    with bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 0) as server:
        wait = (server, Events.CONNECTION_AVAILABLE, 0.5)
        threads = [threading.Thread(target=bbipc.poll_socket, args=wait) for _ in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    windows.need_console()
    subprocess.run([sys.executable, "-c", ""], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    time.sleep(SETTLING)


#: Seconds. What Windows finishes a moment after a call has returned: an operation that was taken back, a thread.
SETTLING = 2.0


@pytest.fixture(autouse=True)
def no_descriptor_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that ends with a descriptor, or anything of the library's, that it did not begin with."""
    gc.collect()
    if hasattr(gc, "freeze"):  # not on PyPy
        # So that the collection after the test looks at what the test made, and not at all that was there before.
        gc.freeze()
    before = open_descriptors()
    counts_before = count_of_library()
    yield
    gc.collect()
    give_up_at = time.perf_counter() + (SETTLING if WINDOWS else 0)
    while True:
        leaked, counts = _left_over(before), count_of_library()
        left = [now - then for now, then in zip(counts, counts_before)]
        if (not leaked and max(left) <= 0) or time.perf_counter() >= give_up_at:
            break
        time.sleep(0.01)
    assert not leaked, f"{request.node.nodeid} leaks descriptors: {leaked}"
    assert max(left) <= 0, f"{request.node.nodeid} leaves {left[0]} handles open and {left[1]} operations under way"


@pytest.fixture(scope="session")
def zig_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cache for all builds of wheels, so that a library is compiled anew only where a test wants it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZIG_LOCAL_CACHE_DIR", str(tmp_path_factory.mktemp("zig")))
        yield
