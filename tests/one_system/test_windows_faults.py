"""Faults that were found on Windows, one test or more for each: named after what failed."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import bbipc
from bbipc import Events, LocalServer, LocalStream, Poller, StreamServer, poll_socket, poll_sockets
from bbipc._native import declarations
from child_processes import Processes, eventually
from patience import PATIENCE
from peer import until_asleep
from transports import Transport, abort, connect_with_python, fill

if sys.platform != "win32":
    pytest.skip("sockets below AFD, and pipes, are Windows' own", allow_module_level=True)

import named_pipes
import windows

CLIENT = Events.CONNECTION_AVAILABLE
DATA = Events.DATA_AVAILABLE
END = Events.END_OF_DATA
SPACE = Events.WRITE_SPACE

PIPES = "\\\\.\\pipe\\"

#: Seconds in which nothing must happen.
SHORT = 0.2


@pytest.fixture
def server() -> Iterator[StreamServer]:
    with bbipc.make_ipv4_tcp_server("127.0.0.1", 0) as made:
        yield made


# ---- A client that is reset before it is accepted ----


def wait_by_poll_socket(server: StreamServer, timeout: float) -> bool:
    return bool(poll_socket(server, CLIENT, timeout))


def wait_by_poll_sockets(server: StreamServer, timeout: float) -> bool:
    return any(poll_sockets([server, server], CLIENT, timeout))


def wait_by_poller(server: StreamServer, timeout: float) -> bool:
    with bbipc.make_poller() as poller:
        poller.monitor_socket(server, CLIENT)
        return poller.wait_for_events(timeout) == [(server, CLIENT)]


def ask(server: StreamServer, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if server.connection_available():
            return True
    return False


WAYS: list[Callable[[StreamServer, float], bool]] = [wait_by_poll_socket, wait_by_poll_sockets, wait_by_poller, ask]


@pytest.mark.parametrize("way", WAYS)
def test_a_client_that_was_reset_is_not_available(
    server: StreamServer, way: Callable[[StreamServer, float], bool]
) -> None:
    for _ in range(5):
        abort(connect_with_python(server))
    # No client is available, or one that has gone and that the system hands out: it can be accepted.
    while way(server, SHORT):
        server.accept_connection().close()
    with pytest.raises(bbipc.NoConnectionAvailableError):
        server.accept_connection()
    with connect_with_python(server) as client:
        client.sendall(b"alive")
        assert way(server, PATIENCE)
        with server.accept_connection() as accepted:
            assert accepted.read_exactly(5, PATIENCE) == b"alive"


@pytest.mark.parametrize("way", WAYS)
def test_a_client_that_is_available_can_be_accepted_though_it_is_reset_meanwhile(
    server: StreamServer, way: Callable[[StreamServer, float], bool]
) -> None:
    client = connect_with_python(server)
    assert way(server, PATIENCE)
    abort(client)
    assert way(server, PATIENCE)
    with server.accept_connection() as accepted:
        assert poll_socket(accepted, Events.CONNECTION_SEVERED | END, PATIENCE)


UNGUARDED = """
import sys
import bbipc
from bbipc import Events

with bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 0) as server:
    print(server.port, flush=True)
    while True:
        bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE)
        try:
            client = server.accept_connection()
        except bbipc.NoConnectionAvailableError:
            continue  # it has gone again
        with client:
            try:
                while not bbipc.poll_socket(client, Events.DATA_AVAILABLE | Events.END_OF_DATA).end_of_data:
                    client.write_all(client.read(), timeout=30)
            except bbipc.BbipcError as error:
                print(f"lost a client: {error}")
"""


def test_clients_that_are_reset_do_not_end_a_server_without_a_guard() -> None:
    with Processes() as processes:
        process = processes.start([sys.executable, "-c", UNGUARDED])
        assert process.stdout is not None
        address = ("127.0.0.1", int(process.stdout.readline()))
        for _ in range(10):
            # The server is busy with this one, while others come and are reset.
            with socket.create_connection(address, PATIENCE) as busy:
                busy.sendall(b"x")
                assert busy.recv(1) == b"x"
                for _ in range(3):
                    abort(socket.create_connection(address, PATIENCE))
            until_asleep(process.pid)
        with socket.create_connection(address, PATIENCE) as last:
            last.sendall(b"still there?")
            assert last.recv(100) == b"still there?"
        assert process.poll() is None


def test_a_client_whom_the_server_holds_is_told_to_everybody(server: StreamServer) -> None:
    """The first to ask has the client accepted: AFD tells nobody of it any more."""
    with contextlib.ExitStack() as stack:
        pollers = [stack.enter_context(bbipc.make_poller()) for _ in range(3)]
        for poller in pollers:
            poller.monitor_socket(server, CLIENT)
        # Of these, the first has a watch with AFD, and the last has none yet.
        assert pollers[0].wait_for_events(0) == []
        stack.enter_context(connect_with_python(server))
        assert ask(server, PATIENCE)
        for _ in range(3):
            for poller in pollers:
                assert poller.wait_for_events(PATIENCE) == [(server, CLIENT)]
            assert poll_socket(server, CLIENT, PATIENCE)
            assert wait_by_poll_sockets(server, PATIENCE)
        server.accept_connection().close()
        assert not ask(server, SHORT)
        for poller in pollers:
            assert poller.wait_for_events(0) == []
        stack.enter_context(connect_with_python(server))
        for poller in reversed(pollers):
            assert poller.wait_for_events(PATIENCE) == [(server, CLIENT)]


def test_threads_that_wait_for_a_client_hear_of_one_whom_the_server_holds(server: StreamServer) -> None:
    heard: list[object] = []

    def by_poller(poller: Poller) -> None:
        poller.monitor_socket(server, CLIENT)
        heard.append(poller.wait_for_events(PATIENCE) == [(server, CLIENT)])

    def by_poll_socket() -> None:
        heard.append(bool(poll_socket(server, CLIENT, PATIENCE)))

    with contextlib.ExitStack() as stack:
        threads = [threading.Thread(target=by_poll_socket) for _ in range(3)]
        for _ in range(3):
            poller = stack.enter_context(bbipc.make_poller())
            threads.append(threading.Thread(target=by_poller, args=(poller,)))
        for thread in threads:
            thread.start()
        for thread in threads:
            until_asleep(os.getpid(), thread.native_id)
        stack.enter_context(connect_with_python(server))
        for thread in threads:
            thread.join(PATIENCE)
    assert heard == [True] * len(threads)


@pytest.mark.parametrize("sends", [b"", b"unread"])
def test_a_client_whom_the_server_holds_sees_its_end(server: StreamServer, sends: bytes) -> None:
    handles = len(windows.open_handles())
    with connect_with_python(server) as client:
        client.sendall(sends)
        assert ask(server, PATIENCE)
        server.close()
        with contextlib.suppress(ConnectionError):
            assert client.recv(1) == b""
    assert len(windows.open_handles()) < handles


def test_many_clients_come_in_order_though_the_server_holds_one(server: StreamServer) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(20):
            stack.enter_context(connect_with_python(server)).sendall(bytes([number]))
            assert ask(server, PATIENCE)
        for number in range(20):
            with server.accept_connection() as accepted:
                assert accepted.read_exactly(1, PATIENCE) == bytes([number])


# ---- Writes that nobody reads ----


def accept(server: LocalServer) -> LocalStream:
    assert poll_socket(server, CLIENT, PATIENCE)
    return server.accept_connection()


def check_name_is_free(name: str) -> None:
    def is_free() -> bool:
        try:
            bbipc.make_local_server(name).close()
        except bbipc.SocketError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        return True

    eventually(is_free, "the name is free")


@pytest.fixture
def name(directory: Path) -> str:
    return directory.name


def test_a_client_that_does_not_read_holds_no_name_after_abort(name: str) -> None:
    operations = declarations.pending_operations()
    with bbipc.make_local_server(name) as server, named_pipes.connect(name) as client:
        stream = accept(server)
        assert fill(stream) > 0
        server.close()
        stream.abort()
        assert stream.closed
        stream.abort()
        check_name_is_free(name)
        # What was left is lost.
        with contextlib.suppress(OSError):
            assert client.recv(1) == b""
    eventually(lambda: declarations.pending_operations() <= operations, "the write has ended")


def test_a_client_that_aborts_leaves_a_server_that_does_not_read(name: str) -> None:
    operations = declarations.pending_operations()
    with bbipc.make_local_server(name) as server:
        client = bbipc.connect_to_local_server(name)
        taken = fill(client)
        with accept(server) as stream:
            server.close()
            client.abort()
            # What the pipe kept can be read; then comes the end.
            received = 0
            while not poll_socket(stream, DATA | END, PATIENCE).end_of_data:
                received += len(stream.read())
            assert received <= taken
    eventually(lambda: declarations.pending_operations() <= operations, "the write has ended")
    check_name_is_free(name)


def test_threads_that_use_a_stream_hear_of_its_abort(transport: Transport) -> None:
    one, other = transport.pair()
    fill(one)
    errors: list[BaseException] = []

    def write() -> None:
        try:
            one.write_all(b"x", PATIENCE)
        except bbipc.BbipcError as error:
            errors.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    until_asleep(os.getpid(), thread.native_id)
    one.abort()
    thread.join(PATIENCE)
    assert [type(error) for error in errors] == [bbipc.SocketClosedError]
    other.close()


# ---- Names and addresses ----


def test_names_that_windows_takes_for_devices_stay_in_their_directories(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(directory)
    for last in ("aux", "nul", "COM1", "con.sock"):
        paths = [str(directory / "one" / last), str(directory / "other" / last), str(directory / last)]
        with contextlib.ExitStack() as stack:
            for path in paths:
                server = stack.enter_context(bbipc.make_local_server(path, backlog=1))
                same = path.replace("\\", "/")
                if path is paths[-1]:
                    same = "./" + last
                stack.enter_context(bbipc.connect_to_local_server(same))
                accept(server).close()
                with named_pipes.connect(PIPES + path):
                    accept(server).close()


@pytest.mark.parametrize("pathname", ["\\\\localhost\\pipe\\x", "//127.0.0.1/PIPE/x/y", b"\\\\box\\pipe\\x"])
def test_a_pipe_of_another_machine_is_refused_with_its_name_here(pathname: str | bytes) -> None:
    for use in (bbipc.make_local_server, bbipc.connect_to_local_server):
        with pytest.raises(ValueError, match=re.escape(repr(PIPES + "x")[:-1])):
            use(pathname)


def test_a_client_of_every_address_reaches_this_machine(server: StreamServer) -> None:
    assert isinstance(server, bbipc.Ipv4TcpServer)
    with bbipc.connect_to_ipv4_tcp_server("0.0.0.0", server.port) as client:
        assert poll_socket(client, Events.DETERMINED, PATIENCE)
        assert client.connection_succeeded()
        assert client.remote_host_address == "0.0.0.0"
        assert wait_by_poll_socket(server, PATIENCE)
        with server.accept_connection() as accepted:
            assert accepted.remote_host_address == "127.0.0.1"


def test_a_port_in_use_may_be_one_that_windows_keeps_back(server: StreamServer) -> None:
    assert isinstance(server, bbipc.Ipv4TcpServer)
    with pytest.raises(bbipc.SocketError, match="netsh interface ipv4 show excludedportrange"):
        bbipc.make_ipv4_tcp_server("127.0.0.1", server.port)


# ---- What piles up ----


def test_packets_of_cancelled_watches_do_not_pile_up(directory: Path) -> None:
    """The interest changes all the time, while something is ready at every wait, and takes all the wait's room."""
    transport = Transport("tcp", directory)
    count, rounds = 600, 8
    with contextlib.closing(transport), bbipc.make_poller() as poller:
        standing, _peer = transport.pair()
        poller.monitor_socket(standing, Events.CONNECTION_SUCCEEDED)
        pairs = [transport.pair() for _ in range(count)]
        settled = 0
        for number in range(rounds):
            for stream, _ in pairs:
                poller.monitor_socket(stream, DATA)
            assert poller.wait_for_events(0) == [(standing, Events.CONNECTION_SUCCEEDED)]
            for stream, _ in pairs:
                poller.unmonitor_socket(stream)
            if number == 0:
                settled = declarations.pending_operations()
        # Each round has cancelled `count` watches more.
        assert declarations.pending_operations() <= settled + count
        # A stream that has something to say does not wait behind them.
        stream, peer = pairs[0]
        poller.monitor_socket(stream, DATA)
        poller.wait_for_events(0)
        peer.write_all(b"now")
        reported = [poller.wait_for_events(0) for _ in range(3)]
        assert (stream, DATA) in [report for reports in reported for report in reports]


# ---- Waits that ended at a tick of the clock ----


def test_a_short_wait_hears_what_comes(server: StreamServer) -> None:
    with bbipc.make_poller() as poller:
        poller.monitor_socket(server, CLIENT)
        for number in range(200):
            with bbipc.connect_to_ipv4_tcp_server("127.0.0.1", server.port) as client:
                until = time.perf_counter() + PATIENCE
                while not poller.wait_for_events(0.0001 * (number % 5 + 1)):
                    assert time.perf_counter() < until
                server.accept_connection().close()
                client.close()
