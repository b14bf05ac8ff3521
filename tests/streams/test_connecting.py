"""Waiting until a connection stands: servers that come late, failures that stay, and hosts with several addresses."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bbipc
from bbipc import Events, LocalStream, SocketError, StreamServer, StreamSocket
from bbipc._native import declarations, results
from bbipc.attempts import Race, Target
from bbipc.connecting import _in_turn
from bbipc.patience import Patience
from child_processes import Processes, interrupt
from descriptors import open_descriptors
from patience import PATIENCE, least_of_three
from peer import until_asleep
from systems import TCP_WAITS_FOR_BACKLOG, WINDOWS
from transports import Transport, without_ipv6

attempts = sys.modules["bbipc.attempts"]

only_files = pytest.mark.skipif(WINDOWS, reason="the name of a pipe is no file")
only_silent_backlogs = pytest.mark.skipif(
    not TCP_WAITS_FOR_BACKLOG, reason="this system tells a client of TCP that the backlog is full"
)

#: Seconds until a server is ready that comes late, and how late its client may notice it.
LATE = 0.5
NOTICED = 0.05
#: The part of a processor that waiting may take. Windows' clock of it moves in steps of up to 16 ms, and Wine's calls
#: of the system are dear.
PROCESSOR = 0.1 if WINDOWS else 0.02


def closed_address(transport: Transport) -> str:
    """Where nobody listens."""
    with transport.make_server() as server:
        return str(server.address)


# ---- A server that comes late ----


class Obstacle:
    """What keeps a client out at first; ``remove`` lets it in, by a server of the test's own."""

    def __init__(self, transport: Transport, kind: str) -> None:
        self._transport = transport
        self._kind = kind
        self._server: StreamServer | None = None
        self.address = closed_address(transport)
        if kind == "backlog full":
            self._server = transport.make_server(backlog=1)
            self.address = str(self._server.address)
            with contextlib.suppress(SocketError):
                while True:
                    transport.connect(self._server)
        elif kind == "left behind":
            bbipc.listen(self.address, delete_on_close=False).close()
        elif kind == "no directory":
            self.address += "/inner/s"

    def remove(self) -> float:
        """The time at which it was gone."""
        pathname = bbipc.Address(self.address).pathname
        if self._kind == "left behind":
            os.unlink(str(pathname))
        elif self._kind == "no directory":
            os.makedirs(os.path.dirname(str(pathname)))
        if self._server is None:
            self._server = self._transport.keep(bbipc.listen(self.address))
        else:
            self._server.accept_connection().close()
        return time.perf_counter()


OBSTACLES = [
    ("tcp", "nobody"),
    ("tcp6", "nobody"),
    ("local", "nobody"),
    ("local", "backlog full"),
    pytest.param("local", "left behind", marks=only_files),
    pytest.param("local", "no directory", marks=only_files),
]


def connect_without_address(address: str) -> StreamSocket:
    """As the functions of each namespace do it, for ever."""
    where = bbipc.Address(address)
    if where.pathname is not None:
        return bbipc.connect_to_local_server(where.pathname, timeout=None)
    assert where.host is not None
    assert where.port is not None
    return bbipc.connect_to_tcp_server(where.host, where.port, timeout=None)


@pytest.mark.parametrize(("transport", "kind"), OBSTACLES, indirect=["transport"])
@pytest.mark.parametrize(
    "connect",
    [lambda address: bbipc.connect(address, timeout=PATIENCE), connect_without_address],
    ids=["connect", "others"],
)
def test_a_server_that_comes_late_is_noticed_soon_and_without_spinning(
    transport: Transport, kind: str, connect: Callable[[str], StreamSocket]
) -> None:
    processor: list[float] = []

    def lateness() -> float:
        obstacle = Obstacle(transport, kind)
        ready_at: list[float] = []
        timer = threading.Timer(LATE, lambda: ready_at.append(obstacle.remove()))
        before = time.process_time()
        timer.start()
        with connect(obstacle.address) as stream:
            connected_at = time.perf_counter()
            processor.append(time.process_time() - before)
            assert stream.connection_succeeded()
            timer.join()
        return connected_at - ready_at[0]

    late = least_of_three(lateness, NOTICED)
    print(f"{kind}: noticed {late * 1000:.1f} ms after it was ready; {min(processor) / LATE:.2%} of a processor")
    assert late < NOTICED
    # The timer's thread and the server are in this.
    assert min(processor) < PROCESSOR * LATE + 0.005


def test_waiting_in_vain_does_not_spin(transport: Transport) -> None:
    address = closed_address(transport)

    def wait() -> float:
        before = time.process_time()
        with pytest.raises(bbipc.TimeoutError):
            bbipc.connect(address, timeout=1)
        return time.process_time() - before

    used = least_of_three(wait, PROCESSOR)
    print(f"{transport.name}: {used:.2%} of a processor")
    assert used < PROCESSOR


@only_silent_backlogs
def test_room_in_a_backlog_of_tcp_is_noticed_in_a_second() -> None:
    """The system asks again after 1 second, 3, 7 and so on; a client that comes meanwhile does so every second."""
    with SilentServer("127.0.0.1") as silent:
        timer = threading.Timer(1.2, silent.make_room)
        timer.start()
        began = time.perf_counter()
        with bbipc.connect(silent.address, timeout=PATIENCE) as stream:
            assert stream.connection_succeeded()
            # The system's own next try would come after 3 seconds.
            assert time.perf_counter() - began < 2.7
        timer.join()


# ---- When the time is up ----


@pytest.mark.parametrize(
    ("transport", "kind"),
    [*OBSTACLES, pytest.param("tcp", "silent", marks=only_silent_backlogs)],
    indirect=["transport"],
)
@pytest.mark.parametrize("timeout", [1e-9, 0.2])
def test_the_time_is_up(transport: Transport, kind: str, timeout: float) -> None:
    with SilentServer("127.0.0.1") as silent:
        address = silent.address if kind == "silent" else Obstacle(transport, kind).address
        handles = declarations.open_handles()
        began = time.perf_counter()
        with pytest.raises(bbipc.TimeoutError) as caught:
            bbipc.connect(address, timeout=timeout)
        assert timeout <= time.perf_counter() - began < timeout + 5
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert error.errno == errno.ETIMEDOUT
    assert not isinstance(error, SocketError)
    assert f"the time is up after {timeout:g} s: " in str(error)
    if kind == "silent":
        assert error.__cause__ is None
        assert str(error).endswith(f"cannot connect to {address.removeprefix('tcp:')}: no answer")
    else:
        assert isinstance(error.__cause__, SocketError)
        assert str(error.__cause__.strerror) in str(error)
    assert declarations.open_handles() == handles


@pytest.mark.parametrize("wrong", [-1, -1e-9, float("nan")])
def test_a_wrong_timeout_is_refused(transport: Transport, wrong: float) -> None:
    address = closed_address(transport)
    with pytest.raises(ValueError, match="timeout"):
        bbipc.connect(address, timeout=wrong)
    with pytest.raises(TypeError, match="timeout"):
        bbipc.connect(address, timeout="1")  # type: ignore[arg-type]


INTERRUPTED = """
import sys, time
import bbipc
from bbipc._native import declarations

def pause(seconds, sleep=time.sleep):
    print("waiting", flush=True)
    time.sleep = sleep
    sleep(seconds)

time.sleep = pause
before = declarations.open_handles()
try:
    if sys.argv[2] == "silent":
        print("waiting", flush=True)
    bbipc.connect(sys.argv[1], timeout=None)
except KeyboardInterrupt:
    print(declarations.open_handles() - before)
"""


@pytest.mark.parametrize(
    ("transport", "kind"),
    [("tcp", "nobody"), ("local", "nobody"), pytest.param("tcp", "silent", marks=only_silent_backlogs)],
    indirect=["transport"],
)
def test_an_interrupt_ends_it_and_leaves_nothing_open(processes: Processes, transport: Transport, kind: str) -> None:
    with SilentServer("127.0.0.1") as silent:
        address = silent.address if kind == "silent" else closed_address(transport)
        process = processes.start([sys.executable, "-c", INTERRUPTED, address, kind])
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        if kind == "silent":
            until_asleep(process.pid)
        interrupt(process)
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output) == (0, "0\n"), errors


# ---- Failures that stay ----


def raises_at_once(address: str) -> SocketError:
    began = time.perf_counter()
    with pytest.raises(SocketError) as caught:
        bbipc.connect(address, timeout=60)
    assert time.perf_counter() - began < 5
    assert not isinstance(caught.value, bbipc.TimeoutError)
    return caught.value


@only_files
def test_what_is_not_a_socket_is_told_at_once(directory: Path) -> None:
    (directory / "file").touch()
    os.symlink("file", directory / "link")
    for name, words in (("", "a directory is there"), ("file", "a regular file is there"), ("link", "a regular file")):
        error = raises_at_once(f"local:{directory}/{name}")
        assert isinstance(error, bbipc.NoLocalServerError)
        assert words in str(error)
    assert raises_at_once(f"local:{directory}/file/s").errno == errno.ENOTDIR


@only_files
def test_a_socket_of_another_kind_is_told_at_once(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(directory / "s"))
        assert raises_at_once(f"local:{directory}/s").errno == errno.EPROTOTYPE


def test_a_pathname_too_long_is_told_at_once(directory: Path) -> None:
    assert raises_at_once(f"local:{directory}/{'x' * 300}").errno == errno.ENAMETOOLONG


def answers_of_the_system(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> list[int]:
    """What connecting to a local server fails with, one time after the other. Gives what is left of it."""
    real = bbipc.local.calls.connect_to_local_server
    left = list(numbers)

    def connect(pathname: bytes, kind: type[LocalStream]) -> LocalStream | int:
        return results.pack(declarations.ERROR_SYSTEM, left.pop(0)) if left else real(pathname, kind)

    monkeypatch.setattr(bbipc.local.calls, "connect_to_local_server", connect)
    return left


#: Missing permission, in the system's own code.
FORBIDDEN = 5 if WINDOWS else errno.EACCES


def test_missing_permission_is_told_when_it_is_said_again(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = answers_of_the_system(monkeypatch, *[FORBIDDEN] * 10)
    assert raises_at_once(f"local:{directory}/s").errno == errno.EACCES
    assert len(left) == 8


def test_a_server_that_is_about_to_give_permission_is_reached(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between bind() and chmod() its file has the permissions of the umask."""
    missing = 2 if WINDOWS else errno.ENOENT
    with bbipc.listen(f"local:{directory}/s") as server:
        left = answers_of_the_system(monkeypatch, missing, FORBIDDEN, missing, FORBIDDEN)
        bbipc.connect(server.address, timeout=PATIENCE).close()
        assert left == []


def test_no_way_into_a_network_is_told_at_once() -> None:
    # No connection of TCP goes to all machines at once.
    error = raises_at_once("tcp:255.255.255.255:80")
    assert error.errno in (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EACCES, errno.EINVAL)
    assert "cannot connect to 255.255.255.255:80: " in str(error)


def test_an_address_of_another_machine_for_this_end_is_told_at_once() -> None:
    with pytest.raises(SocketError) as caught:
        bbipc.connect("tcp:127.0.0.1:80", timeout=60, local_host_address="192.0.2.1")
    assert caught.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize("timeout", [0, None, 5])
def test_what_is_no_address_to_connect_to_is_refused(timeout: float | None) -> None:
    with pytest.raises(ValueError, match="port must be 1 to 65535"):
        bbipc.connect("tcp:127.0.0.1:0", timeout=timeout)
    with pytest.raises(ValueError, match="connect to one of them"):
        bbipc.connect("tcp:*:80", timeout=timeout)
    for host in ("127.1", "::1::", "fe80::1", "a..b", "a\0b"):
        with pytest.raises(ValueError, match=r"address|name"):
            bbipc.connect_to_tcp_server(host, 80, timeout)
    with pytest.raises(SocketError, match="no address"):
        bbipc.connect_to_tcp_server("", 80, timeout)
    for wrong in (-1, 65536):
        with pytest.raises(ValueError, match="port must be 0 to 65535"):
            bbipc.connect_to_tcp_server("127.0.0.1", wrong, timeout)
    with pytest.raises(TypeError, match="hostname must be a str"):
        bbipc.connect_to_tcp_server(5, 80, timeout)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="local_host_address must be a str"):
        bbipc.connect_to_tcp_server("127.0.0.1", 80, timeout, local_host_address=5)  # type: ignore[arg-type]


def test_option_of_another_kind_of_stream_is_refused() -> None:
    with pytest.raises(TypeError, match=r"connect\(\) has no option 'local_port' for local:s; it has none there"):
        bbipc.connect("local:s", local_port=80)
    with pytest.raises(
        TypeError, match=r"no option 'backlog' for tcp:.*: *.*local_host_address, local_port, reuse_add"
    ):
        bbipc.connect("tcp:127.0.0.1:80", backlog=1)


# ---- Without waiting ----


def test_without_a_timeout_nobody_waits(transport: Transport) -> None:
    address = closed_address(transport)
    if transport.name == "local":
        with pytest.raises(bbipc.NoLocalServerError):
            bbipc.connect(address)
        return
    with bbipc.connect(address) as stream:
        assert bbipc.poll_socket(stream, Events.DETERMINED, PATIENCE)
        assert isinstance(stream.connection_error(), ConnectionRefusedError)


def test_options_of_this_end_are_taken() -> None:
    with bbipc.listen("tcp:127.0.0.1:0") as server, bbipc.listen("tcp:127.0.0.1:0") as other:
        assert isinstance(other, bbipc.Ipv4TcpServer)
        port = other.port
        other.close()
        for timeout in (0, PATIENCE):
            with bbipc.connect(
                server.address, timeout=timeout, local_host_address="127.0.0.1", local_port=port, reuse_address=True
            ) as stream:
                assert isinstance(stream, bbipc.Ipv4TcpStream)
                assert (stream.local_host_address, stream.local_port) == ("127.0.0.1", port)
                stream.abort()  # or its port would linger


# ---- Hosts with several addresses ----


class SilentServer:
    """Its backlog is full, of which Linux tells a client of TCP nothing."""

    def __init__(self, host: str, port: int = 0) -> None:
        self._listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._listener.bind((host, port))
        self._listener.listen(0)
        self.port: int = self._listener.getsockname()[1]
        self.address = f"tcp:{host}:{self.port}"
        self._clients = []
        if TCP_WAITS_FOR_BACKLOG:
            for _ in range(4):
                client = socket.socket(self._listener.family)
                client.setblocking(False)
                client.connect_ex((host, self.port))
                self._clients.append(client)

    def make_room(self) -> None:
        self._listener.accept()[0].close()
        for client in self._clients:
            client.close()
        self._listener.listen(128)

    def __enter__(self) -> SilentServer:
        return self

    def __exit__(self, *_exception: object) -> None:
        for one in (*self._clients, self._listener):
            one.close()


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has any name resolved to these addresses, in this order."""

    def resolve_to(*hosts: str) -> None:
        found: list[Any] = [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (host, 0, 0, 0))
            if ":" in host
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0))
            for host in hosts
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments: found)

    return resolve_to


@only_silent_backlogs
@pytest.mark.parametrize(
    "hosts",
    [
        pytest.param(
            ["::1", "127.0.0.1"], marks=pytest.mark.skipif(without_ipv6() is not None, reason=str(without_ipv6()))
        ),
        ["127.0.0.2", "127.0.0.1"],
        ["127.0.0.2", "127.0.0.3", "127.0.0.1"],
    ],
    ids=lambda hosts: hosts[0],
)
def test_a_silent_address_holds_up_the_next_for_250_ms(resolver: Callable[..., None], hosts: list[str]) -> None:
    resolver(*hosts)
    with bbipc.listen(f"tcp:{hosts[-1]}:0") as server, SilentServer(hosts[0], server.port):  # type: ignore[attr-defined]
        # Where there are three, nobody listens at the second, which says so at once.
        before = open_descriptors()

        def connect() -> float:
            began = time.perf_counter()
            with bbipc.connect(f"tcp:somebody.invalid:{server.port}", timeout=PATIENCE) as stream:  # type: ignore[attr-defined]
                seconds = time.perf_counter() - began
                assert stream.address == server.address
                assert seconds >= 0.25
                # What has lost is closed.
                assert len(open_descriptors()) == len(before) + 1
            assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
            server.accept_connection().close()
            return seconds

        seconds = least_of_three(connect, 0.4)
        print(f"connected after {seconds * 1000:.0f} ms")
        assert seconds < 0.4


def test_an_address_that_refuses_holds_up_nobody(resolver: Callable[..., None]) -> None:
    refusing = "127.0.0.1" if without_ipv6() else "::1"
    resolver(refusing, *["127.0.0.1"] * 2)
    with bbipc.listen("tcp:127.0.0.1:0") as server:
        began = time.perf_counter()
        address = f"tcp:somebody.invalid:{bbipc.Address(server.address).port}"
        with bbipc.connect(address, timeout=PATIENCE) as stream:
            assert stream.address == server.address
        # Windows asks again for two seconds before it tells of a refusal: the next one's turn comes before.
        assert time.perf_counter() - began < (2 if WINDOWS else 0.2)
        # Without a timeout too.
        if not WINDOWS:
            with bbipc.connect(address) as stream:
                assert stream.address == server.address


@only_silent_backlogs
def test_a_server_that_comes_late_beside_a_silent_address(resolver: Callable[..., None]) -> None:
    resolver("127.0.0.2", "127.0.0.1")
    with SilentServer("127.0.0.2") as silent:

        def lateness() -> float:
            made: list[tuple[StreamServer, float]] = []

            def listen() -> None:
                made.append((bbipc.listen(f"tcp:127.0.0.1:{silent.port}"), time.perf_counter()))

            # After the second round of the silent one.
            timer = threading.Timer(1.3, listen)
            timer.start()
            with bbipc.connect(f"tcp:somebody.invalid:{silent.port}", timeout=PATIENCE) as stream:
                connected_at = time.perf_counter()
                assert stream.address == f"tcp:127.0.0.1:{silent.port}"
            timer.join()
            server, ready_at = made[0]
            server.close()
            return connected_at - ready_at

        before = time.process_time()
        late = least_of_three(lateness, NOTICED)
        print(f"noticed {late * 1000:.1f} ms after it was ready; {time.process_time() - before:.3f} s of processor")
        assert late < NOTICED


def test_an_address_of_the_family_of_this_ends_is_chosen(resolver: Callable[..., None]) -> None:
    resolver("::1", "127.0.0.1")
    with bbipc.listen("tcp:127.0.0.1:0") as server:
        address = f"tcp:somebody.invalid:{bbipc.Address(server.address).port}"
        for timeout in (0, PATIENCE):
            with bbipc.connect(address, timeout=timeout, local_host_address="127.0.0.1") as stream:
                assert stream.address == server.address
    resolver("::1")
    with pytest.raises(SocketError, match=r"no address of the family of 127\.0\.0\.1"):
        bbipc.connect(address, timeout=PATIENCE, local_host_address="127.0.0.1")


def test_families_take_turns() -> None:
    for hosts, expected in (
        (["1", "2"], ["1", "2"]),
        (["::1", "::2", "1", "2"], ["::1", "1", "::2", "2"]),
        (["1", "2", "3", "::1"], ["1", "::1", "2", "3"]),
        (["::1", "1", "2", "3"], ["::1", "1", "2", "3"]),
        (["::1"], ["::1"]),
    ):
        assert _in_turn(hosts) == expected


def test_what_fails_for_good_at_each_address_is_told_at_once(resolver: Callable[..., None]) -> None:
    resolver("255.255.255.255", "255.255.255.255")
    error = raises_at_once("tcp:somebody.invalid:80")
    assert "cannot connect to somebody.invalid (255.255.255.255:80): " in str(error)


class Attempts:
    """Attempts that fail at once, or stay silent."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.started: list[StreamSocket] = []
        #: How many there were at a time, at the most.
        self.most = 0

    def target(self, *failures: int | None) -> Target:
        """One whose attempts fail with these errors, one after the other; None is for silence. The last stays."""
        rest = itertools.chain(failures, itertools.repeat(failures[-1]))

        def start() -> Any:
            number = next(rest)
            if number is not None:
                raise SocketError(number, f"failure {number}")
            self.started.append(self._transport.pair()[0])
            return self.started[-1]

        return Target("somewhere", start)

    def poll(self, sockets: list[StreamSocket], _events: Events, seconds: float) -> list[Events]:
        self.most = max(self.most, len(sockets))
        time.sleep(seconds)
        return [Events()] * len(sockets)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch, directory: Path) -> Iterator[Attempts]:
    transport = Transport("local", directory)
    made = Attempts(transport)
    monkeypatch.setattr(attempts, "_AGAIN_AFTER", 0.05)
    monkeypatch.setattr(attempts, "_NEXT_AFTER", 0.01)
    monkeypatch.setattr(attempts, "poll_sockets", made.poll)
    yield made
    transport.close()


def test_a_silent_address_has_three_attempts_at_a_time(tried: Attempts) -> None:
    with pytest.raises(bbipc.TimeoutError, match="cannot connect to somewhere: no answer"):
        Race([tried.target(None)], Patience(0.5)).winner()
    assert 3 <= len(tried.started) <= 11
    assert tried.most == 3
    assert all(stream.closed for stream in tried.started)


def test_a_silent_address_has_one_attempt_from_one_port(tried: Attempts) -> None:
    target = tried.target(None)
    with pytest.raises(bbipc.TimeoutError, match="no answer"):
        Race([Target("somewhere", target.start, one_at_a_time=True)], Patience(0.3)).winner()
    assert [stream.closed for stream in tried.started] == [True]


def test_each_of_many_addresses_has_its_own_attempts(tried: Attempts) -> None:
    with pytest.raises(bbipc.TimeoutError, match="cannot connect to somewhere, somewhere, somewhere: no answer"):
        Race([tried.target(None) for _ in range(3)], Patience(0.5)).winner()
    assert tried.most == 9
    assert all(stream.closed for stream in tried.started)


def test_a_failure_that_stays_is_no_reason_to_give_up_the_others(tried: Attempts) -> None:
    with pytest.raises(bbipc.TimeoutError, match=f"failure {errno.ECONNREFUSED}") as caught:
        Race([tried.target(errno.ENETUNREACH), tried.target(errno.ECONNREFUSED)], Patience(0.2)).winner()
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    # Until nothing is left to hope for.
    changes = tried.target(errno.ECONNREFUSED, errno.ECONNREFUSED, errno.ENETUNREACH)
    with pytest.raises(SocketError, match=f"failure {errno.ENETUNREACH}"):
        Race([tried.target(errno.EADDRNOTAVAIL), changes], Patience(PATIENCE)).winner()


def test_an_interrupt_closes_what_runs(tried: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt_it(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(attempts, "poll_sockets", interrupt_it)
    with pytest.raises(KeyboardInterrupt):
        Race([tried.target(None)], Patience(None)).winner()
    assert [stream.closed for stream in tried.started] == [True]


MANY_TIMES = """
import sys
import bbipc
from bbipc._native import declarations

for _ in range(20):
    try:
        bbipc.connect(sys.argv[1], timeout=0.02)
    except bbipc.TimeoutError:
        pass
assert declarations.open_handles() == 0
"""


def test_nothing_is_left_of_many_tries(transport: Transport) -> None:
    address = closed_address(transport)
    ran = subprocess.run(
        [sys.executable, "-Werror", "-c", MANY_TIMES, address], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
