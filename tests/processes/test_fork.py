"""fork(): children use the streams and servers that they inherit, and disturb nothing of their parent's."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import bbipc
from bbipc import Events, Poller, Socket, StreamServer, StreamSocket
from bbipc._native.declarations import open_handles
from descriptors import dropping, open_descriptors
from patience import PATIENCE
from peer import Pattern, run_program, until_asleep
from systems import BACKENDS, FORK_COPIES_POLLERS, LINUX, WINDOWS, descriptors_of_poller
from transports import Transport, monitoring
from tree import SUPPORT

# Since 3.12 Python warns of forking a process that has threads, as every process of these tests has (pytest-timeout's
# alone). That bbipc can be used in such a child is what they are about.
pytestmark = [
    pytest.mark.skipif(WINDOWS, reason="Windows has no fork() and no exec()"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

#: Beside busy threads.
FORKS = 1000 if os.environ.get("BBIPC_TESTS_FULL") == "1" else 60


def fork(work: Callable[[], object]) -> int:
    """Does something in a child, which ends then. Returns its process id."""
    process_id = os.fork()
    if process_id != 0:
        return process_id
    status = 1
    try:
        # A child that hangs is ended by this, and its parent sees it.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(PATIENCE))
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        # Never back into pytest.
        os._exit(status)


def reap(process_id: int) -> None:
    _, status = os.waitpid(process_id, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "the child failed, or hung (-14)"


def in_child(work: Callable[[], object]) -> None:
    reap(fork(work))


def connect(server: StreamServer) -> StreamSocket:
    if isinstance(server, bbipc.Ipv4TcpServer):
        return bbipc.connect_to_ipv4_tcp_server(server.host_address, server.port)
    if isinstance(server, bbipc.Ipv6TcpServer):
        return bbipc.connect_to_ipv6_tcp_server(server.host_address, server.port)
    assert isinstance(server, bbipc.LocalServer)
    return bbipc.connect_to_local_server(server.local_pathname)


def exercise(server: StreamServer) -> None:
    """Uses everything once, with a server of one's own or an inherited one that nobody else uses now."""
    with connect(server) as client:
        assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
        with server.accept_connection() as accepted:
            assert bbipc.poll_socket(client, Events.CONNECTION_SUCCEEDED, PATIENCE)
            client.write_all(b"question", PATIENCE)
            assert accepted.read_exactly(8, PATIENCE) == b"question"
            for backend in BACKENDS:
                with monitoring(client, events=Events.DATA_AVAILABLE, backend=backend) as poller:
                    assert poller.wait_for_events(0.001) == []
                    accepted.write_all(b"answer", PATIENCE)
                    assert poller.wait_for_events(PATIENCE) == [(client, Events.DATA_AVAILABLE)]
                    assert client.read() == b"answer"
            assert bbipc.poll_sockets([client, server], [Events.DATA_AVAILABLE, Events()], 0.001) == [Events()] * 2


# ---- What children can do ----


def test_a_child_uses_the_streams_it_inherits(transport: Transport) -> None:
    stream, remote = transport.pair()
    size = 1 << 20

    def child() -> None:
        assert remote.read_exactly(8, PATIENCE) == b"question"
        remote.write_all(Pattern(1).at(0, size), PATIENCE)
        assert bbipc.poll_socket(remote, Events.DATA_AVAILABLE, PATIENCE)
        assert remote.read() == b"thanks"

    process_id = fork(child)
    stream.write_all(b"question", PATIENCE)
    assert stream.read_exactly(size, PATIENCE) == Pattern(1).at(0, size)
    stream.write(b"thanks")
    reap(process_id)
    # The parent's copy of what the child had stays connected.
    assert remote.connection_succeeded()
    assert not stream.remote_disconnected()


def test_a_child_uses_the_server_it_inherits(transport: Transport) -> None:
    server = transport.make_server()
    in_child(lambda: exercise(server))
    exercise(server)


def test_children_share_a_server(transport: Transport) -> None:
    """The prefork model: each of them accepts, and no two of them get the same client."""
    server = transport.make_server()
    children_count = 3

    def child() -> None:
        while True:
            bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
            try:
                stream = server.accept_connection()
            except bbipc.NoConnectionAvailableError:
                continue
            stream.write_all(str(os.getpid()).encode(), PATIENCE)
            # Until the client has read it.
            stream.finish_writing()
            assert bbipc.poll_socket(stream, Events.END_OF_DATA, PATIENCE)
            return

    children = [fork(child) for _ in range(children_count)]
    clients = [transport.connect(server) for _ in children]
    served_by = []
    for client in clients:
        assert bbipc.poll_socket(client, Events.REMOTE_DISCONNECTED, PATIENCE)
        served_by.append(int(client.read()))
        client.close()
    for process_id in children:
        reap(process_id)
    assert sorted(served_by) == sorted(children)


def test_a_grandchild_uses_what_it_inherits(transport: Transport) -> None:
    server = transport.make_server()
    stream, remote = transport.pair()

    def grandchild() -> None:
        exercise(server)
        remote.write(b"from the grandchild")

    in_child(lambda: in_child(grandchild))
    assert stream.read_exactly(19, PATIENCE) == b"from the grandchild"


def test_a_child_that_a_thread_forks(transport: Transport) -> None:
    server = transport.make_server()
    failures: list[BaseException] = []

    def fork_in_a_thread() -> None:
        try:
            in_child(lambda: exercise(server))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=fork_in_a_thread)
    thread.start()
    thread.join()
    assert not failures


def echo_once(stream: StreamSocket) -> None:
    stream.write_all(stream.read_exactly(5, PATIENCE), PATIENCE)
    # The end of the process closes everything.


def test_multiprocessing_children(transport: Transport) -> None:
    stream, remote = transport.pair()
    server = transport.make_server()
    context = multiprocessing.get_context("fork")
    for target, argument in ((echo_once, remote), (exercise, server)):
        process = context.Process(target=target, args=(argument,))
        process.start()
        if target is echo_once:
            stream.write_all(b"bytes", PATIENCE)
            assert stream.read_exactly(5, PATIENCE) == b"bytes"
        process.join(PATIENCE)
        assert process.exitcode == 0
        process.close()
    assert remote.connection_succeeded()
    exercise(server)


# ---- What children can't disturb ----


def test_closing_in_the_child_disturbs_no_poller_of_the_parent(transport: Transport, backend: str) -> None:
    server = transport.make_server()
    stream, remote = transport.pair()
    with bbipc.make_poller(backend) as poller:
        poller.monitor_socket(server, Events.CONNECTION_AVAILABLE)
        poller.monitor_socket(stream, Events.DATA_AVAILABLE)

        def close_all() -> None:
            for one in (stream, remote, server, poller):
                one.close()

        in_child(close_all)
        assert poller.monitored_sockets() == [server, stream]
        assert poller.wait_for_events(0.01) == []
        remote.write(b"!")
        assert poller.wait_for_events(PATIENCE) == [(stream, Events.DATA_AVAILABLE)]
        client = transport.connect(server)
        assert bbipc.poll_socket(client, Events.DETERMINED, PATIENCE)
        assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
        assert dict(poller.wait_for_events(PATIENCE)) == {
            stream: Events.DATA_AVAILABLE,
            server: Events.CONNECTION_AVAILABLE,
        }
        assert not stream.remote_disconnected()
        assert not remote.remote_disconnected()


@pytest.mark.parametrize("close_first", ["poller", "sockets"])
def test_a_poller_that_waits_while_the_child_closes_its_copy(
    transport: Transport, backend: str, close_first: str
) -> None:
    stream, remote = transport.pair()
    with monitoring(stream, events=Events.DATA_AVAILABLE, backend=backend) as poller:
        results = []
        thread = threading.Thread(target=lambda: results.append(poller.wait_for_events(PATIENCE)))
        thread.start()
        until_asleep(os.getpid(), thread.native_id)

        def close_all() -> None:
            descriptors = open_descriptors()
            closing: list[Socket | Poller] = [poller, stream, remote]
            if close_first == "sockets":
                closing.reverse()
            for one in closing:
                one.close()
            # Also those that a thread of the parent's waited with.
            copied = 2 + (descriptors_of_poller(backend) if FORK_COPIES_POLLERS else 0)
            assert len(descriptors) - len(open_descriptors()) >= copied

        in_child(close_all)
        assert results == []
        remote.write(b"!")
        thread.join(PATIENCE)
        assert results == [[(stream, Events.DATA_AVAILABLE)]]


def test_a_childs_own_poller_and_its_parents_do_not_meet(transport: Transport, backend: str) -> None:
    """Both watch the same streams. The kernel's own watch of a descriptor is shared by parent and child."""
    stream, remote = transport.pair()
    with monitoring(stream, events=Events.DATA_AVAILABLE, backend=backend) as poller:

        def child() -> None:
            with monitoring(stream, events=Events.WRITE_SPACE, backend=backend) as own:
                assert own.wait_for_events(PATIENCE) == [(stream, Events.WRITE_SPACE)]
                own.set_monitored_events(stream, Events())
                own.wake()
                assert own.wait_for_events(PATIENCE) == []
                own.unmonitor_socket(stream)
            poller.close()

        in_child(child)
        assert poller.wait_for_events(0.01) == []
        remote.write(b"!")
        assert poller.wait_for_events(PATIENCE) == [(stream, Events.DATA_AVAILABLE)]


def test_the_parent_closes_what_the_child_keeps(transport: Transport, backend: str) -> None:
    """The child's copy keeps the connection up; the parent's poller must not hear of it any more."""
    stream, remote = transport.pair()
    ours, theirs = transport.pair()

    def child() -> None:
        for one in (remote, ours):
            one.close()
        assert theirs.read_exactly(2, PATIENCE) == b"go"
        stream.write_all(b"still connected", PATIENCE)

    with monitoring(stream, events=Events.DATA_AVAILABLE | Events.REMOTE_DISCONNECTED, backend=backend) as poller:
        process_id = fork(child)
        stream.close()
        remote.write(b"for the child")
        assert poller.wait_for_events(0.01) == []
        assert not remote.remote_disconnected()
        ours.write(b"go")
        assert remote.read_exactly(15, PATIENCE) == b"still connected"
        reap(process_id)
        # The last copy went with the child.
        assert bbipc.poll_socket(remote, Events.REMOTE_DISCONNECTED, PATIENCE)


def test_the_child_never_deletes_the_parents_pathname(directory: Path) -> None:
    pathname = directory / "server"
    server = bbipc.make_local_server(pathname)

    def drop() -> None:
        nonlocal server
        with pytest.warns(ResourceWarning), dropping():
            del server

    in_child(server.close)
    in_child(drop)
    context = multiprocessing.get_context("fork")
    process = context.Process(target=server.close)
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == 0
    process.close()

    assert pathname.is_socket()
    exercise(server)
    server.close()
    assert not pathname.exists()


def test_a_childs_own_server_deletes_its_pathname(directory: Path) -> None:
    pathname = directory / "server"

    def child() -> None:
        with bbipc.make_local_server(pathname) as server:
            exercise(server)
        assert not pathname.exists()

    in_child(child)


def test_the_child_counts_the_handles_that_it_has(transport: Transport) -> None:
    stream, remote = transport.pair()
    poller = monitoring(stream, events=Events.DATA_AVAILABLE)
    before = open_handles()

    def child() -> None:
        assert open_handles() == before
        for one in (stream, remote, poller):
            one.close()
        assert open_handles() == before - 3
        with transport.make_server() as server:
            exercise(server)
        assert open_handles() == before - 3

    in_child(child)
    assert open_handles() == before
    poller.close()


# ---- Pollers in another process ----


def test_a_poller_used_in_a_child_says_so(transport: Transport, backend: str) -> None:
    stream, remote = transport.pair()
    other, _ = transport.pair()
    poller = monitoring(stream, events=Events.DATA_AVAILABLE, backend=backend)
    uses: list[Callable[[], object]] = [
        lambda: poller.wait_for_events(),
        lambda: poller.wait_for_events(0),
        lambda: poller.wait_for_events(0.01),
        lambda: poller.monitor_socket(other, Events.DATA_AVAILABLE),
        lambda: poller.monitor_socket(stream, Events.DATA_AVAILABLE),
        lambda: poller.unmonitor_socket(stream),
        lambda: poller.unmonitor_socket(other),
        lambda: poller.set_monitored_events(stream, Events.WRITE_SPACE),
        lambda: poller.monitored_events(stream),
        lambda: poller.monitored_sockets(),
        lambda: poller.wake(),
        lambda: poller.fileno(),
    ]

    def child() -> None:
        for use in uses:
            with pytest.raises(bbipc.WrongProcessError, match="belongs to another process"):
                use()
        assert not poller.closed
        poller.close()
        poller.close()
        assert poller.closed
        with pytest.raises(bbipc.PollerClosedError):
            poller.wait_for_events(0)

    in_child(child)
    remote.write(b"!")
    assert poller.wait_for_events(PATIENCE) == [(stream, Events.DATA_AVAILABLE)]
    poller.close()


def test_a_poller_dropped_in_a_child_disturbs_no_parent(transport: Transport, backend: str) -> None:
    stream, remote = transport.pair()
    poller: Poller | None = monitoring(stream, events=Events.DATA_AVAILABLE, backend=backend)
    assert poller is not None

    def drop() -> None:
        nonlocal poller
        with pytest.warns(ResourceWarning, match="unclosed <Poller"), dropping():
            poller = None

    in_child(drop)
    remote.write(b"!")
    assert poller.wait_for_events(PATIENCE) == [(stream, Events.DATA_AVAILABLE)]
    poller.close()


# ---- Forking while other threads are at it ----


class Busy:
    """Threads that wait, and threads that call whatever there is, for as long as the block runs."""

    def __init__(self, transport: Transport) -> None:
        self._over = threading.Event()
        self._server = transport.make_server(backlog=1024)
        self._stream, self._remote = transport.pair()
        self._full_pair = transport.pair()
        self._pollers = [
            monitoring(self._stream, events=Events.DATA_AVAILABLE, backend=backend) for backend in BACKENDS
        ]
        self._errors: list[BaseException] = []
        works = [
            lambda: bbipc.poll_socket(self._stream, Events.DATA_AVAILABLE),
            lambda: bbipc.poll_sockets([self._stream] * 40, Events.DATA_AVAILABLE),
            *[poller.wait_for_events for poller in self._pollers],
            self._open_and_close,
            self._open_and_close,
            self._poll_and_wake,
            self._write_much,
        ]
        self._threads = [threading.Thread(target=self._run, args=(work,), daemon=True) for work in works]

    def __enter__(self) -> Busy:
        for thread in self._threads:
            thread.start()
        for thread in self._threads[:4]:
            until_asleep(os.getpid(), thread.native_id)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        self._remote.write(b"!")
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a thread of the parent hangs"
        for poller in self._pollers:
            poller.close()
        assert not self._errors

    def _run(self, work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            self._errors.append(error)

    def _open_and_close(self) -> None:
        while not self._over.is_set():
            with connect(self._server) as stream, monitoring(stream, events=Events.DETERMINED) as poller:
                assert poller.wait_for_events(PATIENCE)
            # Whoever comes first takes one.
            with contextlib.suppress(bbipc.NoConnectionAvailableError):
                self._server.accept_connection().close()

    def _poll_and_wake(self) -> None:
        while not self._over.is_set():
            bbipc.poll_socket(self._stream, Events.DATA_AVAILABLE, 0.0002)
            with bbipc.make_poller("poll") as poller:
                poller.monitor_socket(self._server, Events())
                poller.wait_for_events(0.0002)
                poller.wake()
                poller.wait_for_events()

    def _write_much(self) -> None:
        """Large enough for the calls to release the GIL."""
        buffer = bytearray(1 << 20)
        one, other = self._full_pair
        while not self._over.is_set():
            one.write(buffer)
            other.read_into(buffer)


@pytest.mark.timeout(300)
def test_fork_beside_threads_that_wait_and_call(transport: Transport) -> None:
    """The child has one thread, and copies of what the others were at."""
    server = transport.make_server()
    with Busy(transport):
        for _ in range(FORKS):
            in_child(lambda: exercise(server))


def test_fork_with_hooks_that_give_way_to_threads(directory: Path) -> None:
    """Hooks (logging has some) ran while the forking thread held the library's lock: others waited with the GIL."""
    run_program(
        """
        import os, sys, threading, time
        # Before the import of bbipc: it is the order in which they run that matters.
        os.register_at_fork(before=lambda: time.sleep(0.005), after_in_parent=lambda: time.sleep(0.005))
        import bbipc
        from bbipc import Events

        over = threading.Event()
        server = bbipc.make_local_server(sys.argv[1])

        def call():
            while not over.is_set():
                server.connection_available()
                bbipc.make_poller().close()

        threads = [threading.Thread(target=call) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            process_id = os.fork()
            if process_id == 0:
                server.close()
                os._exit(0)
            os.waitpid(process_id, 0)
        over.set()
        for thread in threads:
            thread.join()
        server.close()
        """,
        directory / "server",
        # As for the tests here, at the top.
        options=("-W", "ignore::DeprecationWarning"),
    )


@pytest.mark.parametrize("when", ["before", "after_in_parent", "after_in_child"])
def test_fork_with_a_hook_that_uses_sockets(directory: Path, when: str) -> None:
    """Such a hook hung in the library's own lock if it was registered before bbipc was imported."""
    run_program(
        """
        import os, sys
        streams = []

        def hook():
            for stream in streams:
                stream.write(b"!")
                stream.close()

        os.register_at_fork(**{sys.argv[2]: hook})
        import bbipc
        server = bbipc.make_local_server(sys.argv[1])
        stream = bbipc.connect_to_local_server(sys.argv[1])
        accepted = server.accept_connection()
        streams.append(stream)
        process_id = os.fork()
        if process_id == 0:
            os._exit(0)
        assert os.waitpid(process_id, 0)[1] == 0
        assert accepted.read_exactly(1, 10) == b"!"
        for one in (server, stream, accepted):
            one.close()
        """,
        directory / "server",
        when,
    )


@pytest.mark.skipif(not hasattr(gc, "set_threshold"), reason="PyPy collects garbage when it likes")
def test_fork_while_garbage_is_collected(directory: Path) -> None:
    """A collection in a fork hook closes forgotten sockets, which hung in the library's own lock."""
    run_program(
        """
        import logging  # has fork hooks
        import gc, os, sys, warnings
        import bbipc

        class Cycle:
            pass

        warnings.simplefilter("ignore", ResourceWarning)
        server = bbipc.make_local_server(sys.argv[1], backlog=1000)
        gc.set_threshold(1)
        for _ in range(100):
            gc.disable()
            cycle = Cycle()
            cycle.itself = cycle
            cycle.stream = bbipc.connect_to_local_server(sys.argv[1])
            del cycle
            gc.enable()
            process_id = os.fork()
            if process_id == 0:
                os._exit(0)
            assert os.waitpid(process_id, 0)[1] == 0
        server.close()
        """,
        directory / "server",
    )


@pytest.mark.timeout(300)
def test_a_popen_with_preexec_fn_beside_busy_threads(transport: Transport) -> None:
    with Busy(transport):
        for _ in range(10):
            subprocess.run(["true"], preexec_fn=lambda: None, check=True, timeout=PATIENCE)


# ---- exec ----

LIST_DESCRIPTORS = """
import sys
sys.path.insert(0, sys.argv[1])
import systems
for number, what in systems.open_descriptors().items():
    print(number, what)
"""


@pytest.fixture
def everything(transport: Transport) -> Iterator[set[str]]:
    """One of everything that has a descriptor, and what the descriptors are."""
    before = open_descriptors()
    server = transport.make_server()
    connecting = transport.connect(server)
    transport.accept(server)
    with contextlib.ExitStack() as stack:
        for backend in BACKENDS:
            stack.enter_context(monitoring(connecting, events=Events.DATA_AVAILABLE, backend=backend))
        assert not bbipc.poll_socket(connecting, Events.DATA_AVAILABLE, 0.001)
        opened = {f"{fd} {what}" for fd, what in open_descriptors().items() if before.get(fd) != what}
        assert len(opened) >= 3 + sum(map(descriptors_of_poller, BACKENDS))
        yield opened


def test_descriptors_are_closed_by_exec(everything: set[str]) -> None:
    listing = subprocess.run(
        [sys.executable, "-c", LIST_DESCRIPTORS, str(SUPPORT)],
        close_fds=False,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    inherited = set(listing.stdout.splitlines())
    assert any(line.startswith("1 ") for line in inherited)
    assert not everything & inherited
    if LINUX:
        # The library's own descriptor is not inherited either. Elsewhere that is a kqueue, which no child has.
        assert any("eventfd" in what for what in open_descriptors().values())
        assert not any("eventfd" in line for line in inherited)


@pytest.mark.parametrize("again", ["purge", "reload"])
def test_two_copies_of_the_package_in_one_process_do_not_stop_a_fork(again: str) -> None:
    """Each registers its handlers, and the second one took the library's lock again: the fork hung."""
    run_program(
        """
        import importlib, os, sys
        import bbipc
        if sys.argv[1] == "reload":
            importlib.reload(bbipc._native.calls)
        else:
            for name in [name for name in sys.modules if name.startswith("bbipc")]:
                del sys.modules[name]
            import bbipc
        for _ in range(3):
            with bbipc.make_ipv4_tcp_server("127.0.0.1", 0) as server:
                child = os.fork()
                if not child:
                    bbipc.poll_socket(server, bbipc.Events.CONNECTION_AVAILABLE, 0)
                    os._exit(0)
                assert os.waitpid(child, 0) == (child, 0)
        """,
        again,
    )
