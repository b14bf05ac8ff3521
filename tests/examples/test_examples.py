"""The examples, as their users run them: real processes, both transports, good and bad ends. And the README's code.

BBIPC_TESTS_FULL=1 in the environment serves 5,000 clients at a time instead of 500.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import importlib
import os
import random
import re
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import bbipc
import systems
from child_processes import (
    LOOK_AGAIN_S,
    Processes,
    address_of,
    connect,
    descriptor_count,
    ended,
    eventually,
    example,
    exchange,
    interrupt,
    listening_socket,
    processor_seconds,
    ready_address,
    receive_exactly,
    receive_to_end,
    reset,
    resident_bytes,
    stopped,
)
from descriptors import descriptors_for
from patience import PATIENCE
from peer import until_asleep
from systems import BACKLOG_MAX, CLIENTS_OUTLIVE_EMFILE, PATHNAME_MAX, WINDOWS
from transports import PythonPeer, Transport
from tree import EXAMPLES, ROOT, SUPPORT

if sys.platform == "win32":
    import msvcrt

    from windows import WINE
else:
    import pty

    WINE = False

README = ROOT / "README.md"

FULL = bool(os.environ.get("BBIPC_TESTS_FULL"))
CLIENTS = 5000 if FULL else 500

#: Sends a signal.
Send = Callable[["subprocess.Popen[str]"], None]


def terminate(process: subprocess.Popen[str]) -> None:
    """As kill(1) does."""
    process.terminate()


def kill(process: subprocess.Popen[str]) -> None:
    """At once, with nothing put in order."""
    process.kill()


def break_off(process: subprocess.Popen[str]) -> None:
    """Windows' Ctrl-Break, for a process group."""
    os.kill(process.pid, signal.CTRL_BREAK_EVENT)


#: What Ctrl-C and kill(1) send, and the exit status that a shell gives to a program that they ended. Windows has
#: Ctrl-Break instead of the latter.
ENDING_SIGNALS = [pytest.param(interrupt, 130, id="SIGINT")]
if sys.platform == "win32":
    no_break = pytest.mark.skipif(WINE, reason="Wine 8 has no Ctrl-Break: GenerateConsoleCtrlEvent refuses it")
    ENDING_SIGNALS.append(pytest.param(break_off, 149, id="SIGBREAK", marks=no_break))
    ASK_TO_END, ASKED_TO_END = interrupt, 130
    #: The exit status of a program that kill() ended, with nothing put in order.
    KILLED = 1
else:
    ENDING_SIGNALS.append(pytest.param(terminate, 143, id="SIGTERM"))
    ASK_TO_END, ASKED_TO_END = terminate, 143
    KILLED = -signal.SIGKILL
MANY_CLIENTS_SERVERS = ["poller_echo_server.py", "batched_echo_server.py"]
ECHO_SERVERS = ["echo_server.py", *MANY_CLIENTS_SERVERS]
LISTENERS = [*ECHO_SERVERS, "file_transfer.py"]
PROGRAMS = ["echo.py", "echo_client.py", *ECHO_SERVERS, "file_transfer.py"]

MEGABYTE = 1 << 20


@pytest.fixture
def example_module(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """One of the examples as a module, to be called with less patience than its users have."""
    before = set(sys.modules)
    sys.path.insert(0, str(EXAMPLES))
    try:
        yield importlib.import_module(request.param)
    finally:
        sys.path.remove(str(EXAMPLES))
        for name in set(sys.modules) - before:
            if str(EXAMPLES) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]


def block_of_data(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def listening_command(name: str, directory: Path, address: str) -> list[str]:
    """What makes one of the LISTENERS listen at the address."""
    if name == "file_transfer.py":
        return example(name, "receive", directory / "received", address)
    return example(name, address)


def one_line(errors: str) -> str:
    """The line that standard error consists of."""
    line, end, more = errors.partition("\n")
    assert line
    assert (end, more) == ("\n", "")
    return line


def reason_of(number: int) -> str:
    """What the system says of an errno; on Windows of one that comes from its sockets."""
    if sys.platform == "win32":
        return ctypes.FormatError(number).rstrip(" .")
    return os.strerror(number)


# ---- What all programs share ----


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_tells_what_a_program_does(processes: Processes, name: str) -> None:
    completed = processes.run(example(name, "--help"))
    assert completed.returncode == 0
    assert completed.stdout.startswith(f"usage: {name}")
    assert completed.stderr == ""


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("echo.py", ["one", "two"]),
        ("echo_client.py", ["string", "127.0.0.1:12345"]),
        ("echo_client.py", ["string", "tcp:127.0.0.1"]),
        ("echo_client.py", ["string", "tcp:127.0.0.1:65536"]),
        ("echo_client.py", ["string", "tcp::12345"]),
        ("echo_client.py", ["string", "tcp:127.0.0.1:-1"]),
        ("echo_client.py", ["string", "local:"]),
        ("echo_server.py", ["udp:127.0.0.1:0"]),
        ("echo_server.py", ["tcp:127.0.0.1:0", "tcp:127.0.0.1:0"]),
        ("poller_echo_server.py", ["tcp:127.0.0.1:0", "nonsense"]),
        ("batched_echo_server.py", ["tcp:127.0.0.1:0", "nonsense"]),
        ("file_transfer.py", []),
        ("file_transfer.py", ["steal"]),
        ("file_transfer.py", ["send"]),
        ("file_transfer.py", ["receive", "file", "nonsense"]),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(processes: Processes, name: str, arguments: list[str]) -> None:
    completed = processes.run(example(name, *arguments))
    assert completed.returncode == 2
    assert one_line(completed.stderr).startswith(name)
    assert "--help" in completed.stderr
    assert completed.stdout == ""


@pytest.mark.parametrize("command", [["echo_client.py", "string"], ["file_transfer.py", "send", __file__]])
def test_unreachable_server_is_one_line_and_status_1(
    processes: Processes, directory: Path, free_address: str, command: list[str]
) -> None:
    address = free_address
    if address.startswith("tcp"):
        with bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 0) as server:
            address = f"tcp:localhost:{server.port}"
    completed = processes.run(example(*command, address))
    assert completed.returncode == 1
    assert completed.stdout == ""
    line = one_line(completed.stderr)
    if address.startswith("tcp"):
        assert line == f"{command[0]}: cannot connect to {address}: {reason_of(errno.ECONNREFUSED)}"
    else:
        assert line.startswith(f"{command[0]}: no server listens at {str(directory / 'server')!r}: ")


@pytest.mark.skipif(WINDOWS, reason="a pipe's name goes with its server: none is ever left behind")
def test_abandoned_local_pathname_is_one_line_and_status_1(processes: Processes, directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(str(directory / "server"))
    completed = processes.run(example("echo_client.py", "string", f"local:{directory}/server"))
    assert completed.returncode == 1
    assert "nobody listens there" in one_line(completed.stderr)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "..", "a" * 64])
def test_host_without_address_is_one_line_and_status_1(processes: Processes, host: str) -> None:
    completed = processes.run(example("echo_client.py", "string", f"tcp:{host}:1"))
    assert completed.returncode == 1
    assert host in one_line(completed.stderr)


@pytest.mark.parametrize("name", LISTENERS)
def test_address_in_use_is_one_line_and_status_1(
    processes: Processes, directory: Path, free_address: str, name: str
) -> None:
    _, address = processes.serve("echo_server.py", free_address)
    completed = processes.run(listening_command(name, directory, address))
    assert completed.returncode == 1
    assert one_line(completed.stderr).startswith(f"{name}: cannot listen ")
    assert completed.stdout == ""
    # The pathname is the first server's, and stays.
    with connect(address):
        pass


def test_local_pathname_that_is_too_long_is_one_line_and_status_1(processes: Processes, directory: Path) -> None:
    completed = processes.run(example("echo_server.py", f"local:{directory}/{'x' * PATHNAME_MAX}"))
    assert completed.returncode == 1
    assert str(PATHNAME_MAX) in one_line(completed.stderr)


@pytest.mark.parametrize("name", LISTENERS)
@pytest.mark.parametrize(("send", "status"), ENDING_SIGNALS)
def test_waiting_server_ends_cleanly(
    processes: Processes, directory: Path, free_address: str, name: str, send: Send, status: int
) -> None:
    server, address = processes.serve_command(listening_command(name, directory, free_address))
    send(server)
    assert ended(server) == (status, "", "")
    # The local pathname is gone.
    assert os.listdir(directory) == []
    assert not answers(address)


@pytest.mark.parametrize("name", ECHO_SERVERS)
@pytest.mark.parametrize(("send", "status"), ENDING_SIGNALS)
def test_busy_server_ends_cleanly(
    processes: Processes, directory: Path, free_address: str, name: str, send: Send, status: int
) -> None:
    server, address = processes.serve(name, free_address)
    with connect(address) as client:
        client.sendall(b"ping")
        assert receive_exactly(client, 4) == b"ping"
        send(server)
        assert ended(server) == (status, "", "")
        assert client.recv(1) == b""
    assert os.listdir(directory) == []


@pytest.mark.parametrize("name", ECHO_SERVERS)
def test_server_starts_again_at_once(processes: Processes, free_address: str, name: str) -> None:
    server, address = processes.serve(name, free_address)
    with connect(address) as client:
        client.sendall(b"ping")
        assert receive_exactly(client, 4) == b"ping"
        ASK_TO_END(server)
        assert ended(server)[0] == ASKED_TO_END
        # The server closed first, so its end of the connection lingers in TIME_WAIT.
        assert client.recv(1) == b""
    processes.serve(name, address)


TOLD_TO_END_TWICE = """
import signal, sys
sys.path.insert(0, sys.argv[1])
from programs import run

def main():
    try:
        signal.raise_signal(int(sys.argv[2]))
    finally:
        signal.raise_signal(int(sys.argv[3]))
        print("all in order")

run(main)
"""


@pytest.mark.parametrize("order", [1, -1], ids=["Ctrl-C first", "Ctrl-C second"])
def test_second_signal_does_not_keep_a_program_from_putting_all_in_order(processes: Processes, order: int) -> None:
    """Ctrl-C in a terminal came to a copy's receiver, then the sender's SIGTERM: it left its file, and a warning."""
    first, second = [signal.SIGINT, signal.SIGBREAK if sys.platform == "win32" else signal.SIGTERM][::order]
    program = [sys.executable, "-c", TOLD_TO_END_TWICE, str(EXAMPLES), str(int(first)), str(int(second))]
    assert ended(processes.start(program)) == (128 + first, "all in order\n", "")


@pytest.mark.parametrize(("send", "status"), ENDING_SIGNALS)
def test_client_ends_cleanly(processes: Processes, directory: Path, free_address: str, send: Send, status: int) -> None:
    with listening_socket(free_address) as listener:
        client = processes.start(example("echo_client.py", "Hello", address_of(listener)))
        connected, _ = listener.accept()
        with connected:
            assert receive_exactly(connected, 5) == b"Hello"
            # Now it waits for an answer.
            send(client)
            assert ended(client) == (status, "", "")
            assert connected.recv(1) == b""


# ---- echo_server.py and echo_client.py ----


@pytest.mark.parametrize("name", ECHO_SERVERS)
# Windows' command lines have 32,767 characters at the most.
@pytest.mark.parametrize("string", ["Hello World", "", "ö€😀", "two\nlines", "x" * (30_001 if WINDOWS else 100_001)])
def test_echo_pair(processes: Processes, free_address: str, name: str, string: str) -> None:
    _, address = processes.serve(name, free_address)
    completed = processes.run(example("echo_client.py", string, address))
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, string + "\n", "")


@pytest.mark.skipif(WINDOWS, reason="arguments are text on Windows")
def test_echo_pair_takes_bytes_that_are_no_text(processes: Processes, free_address: str) -> None:
    _, address = processes.serve("echo_server.py", free_address)
    completed = processes.run(example("echo_client.py", os.fsdecode(b"\xff\xfe"), address), errors="surrogateescape")
    assert (completed.returncode, os.fsencode(completed.stdout), completed.stderr) == (0, b"\xff\xfe\n", "")


@pytest.mark.skipif(not WINDOWS, reason="only Windows has arguments that no bytes make")
def test_echo_pair_takes_half_a_character(processes: Processes, free_address: str) -> None:
    _, address = processes.serve("echo_server.py", free_address)
    completed = processes.run(example("echo_client.py", "half \ud83d", address))
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "half \\xed\\xa0\\xbd\n", "")


@pytest.mark.skipif(not WINDOWS, reason="elsewhere, what is printed is bytes, and any can be")
def test_echo_client_prints_what_the_output_has_no_character_for(processes: Processes, free_address: str) -> None:
    _, address = processes.serve("echo_server.py", free_address)
    completed = subprocess.run(
        example("echo_client.py", "ö€😀", address),
        env={**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        timeout=PATIENCE,
    )
    assert (completed.returncode, completed.stderr) == (0, b"")
    assert completed.stdout.decode("cp1252").splitlines() == ["ö€\\U0001f600"]


def test_echo_pair_by_a_name(processes: Processes, directory: Path) -> None:
    """On Windows a pipe needs no more, elsewhere it is a file of that name."""
    name = f"bbipc-{directory.name}"
    server, address = processes.serve_command(example("echo_server.py", f"local:{name}"), cwd=directory)
    assert address == f"local:{name}"
    completed = processes.run(example("echo_client.py", "string", address), cwd=directory)
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "string\n", "")
    ASK_TO_END(server)
    assert ended(server) == (ASKED_TO_END, "", "")


def test_echo_pair_takes_the_name_of_a_host(processes: Processes) -> None:
    _, address = processes.serve("echo_server.py", "tcp:localhost:0")
    assert address.startswith("tcp:127.0.0.1:")
    completed = processes.run(example("echo_client.py", "string", address.replace("127.0.0.1", "localhost")))
    assert (completed.returncode, completed.stdout) == (0, "string\n")


@pytest.mark.parametrize("name", ECHO_SERVERS)
def test_echo_pair_with_the_defaults_of_the_original(processes: Processes, name: str) -> None:
    server = processes.start(example(name))
    assert server.stdout is not None
    line = server.stdout.readline()
    if not line:
        assert "cannot listen on 127.0.0.1:12345: " in one_line(ended(server)[2])
        pytest.skip("another program has the original's port, 12345")
    assert line == "listening on tcp:127.0.0.1:12345\n"
    completed = processes.run(example("echo_client.py"))
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "Hello World\n", "")


@pytest.mark.parametrize("example_module", ["echo_server", "echo_client"], indirect=True)
def test_sizes_and_patience_of_the_original(example_module: ModuleType) -> None:
    size = {"echo_server": 10_000, "echo_client": 100_000}[example_module.__name__]
    assert (size, 10, 3) == (example_module.BUFFER_SIZE, example_module.TIMEOUT_S, example_module.ATTEMPTS)


def test_echo_server_serves_one_client_at_a_time(processes: Processes, free_address: str) -> None:
    _, address = processes.serve("echo_server.py", free_address)
    with connect(address) as first, connect(address) as second:
        first.sendall(b"first")
        assert receive_exactly(first, 5) == b"first"
        second.sendall(b"second")
        second.settimeout(0.2)
        with pytest.raises((socket.timeout, TimeoutError)):
            second.recv(1)
        first.close()
        second.settimeout(PATIENCE)
        assert receive_exactly(second, 6) == b"second"


def test_echo_server_loses_nothing(processes: Processes, free_address: str) -> None:
    """The original's server lost what the system did not take at once, and left after three reads."""
    _, address = processes.serve("echo_server.py", free_address)
    data = block_of_data(3 * MEGABYTE)
    with connect(address) as peer:
        assert exchange(peer, data) == data


def test_echo_server_outlives_a_client_that_resets(processes: Processes, free_address: str) -> None:
    server, address = processes.serve("echo_server.py", free_address)
    with connect(address) as client:
        client.sendall(b"ping")
        assert receive_exactly(client, 4) == b"ping"
        reset(client)
    with connect(address) as client:
        client.sendall(b"pong")
        assert receive_exactly(client, 4) == b"pong"
    assert server.poll() is None


@pytest.mark.parametrize("example_module", ["echo_server"], indirect=True)
def test_echo_server_gives_up_a_silent_client_after_three_attempts(
    example_module: ModuleType, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example_module, "TIMEOUT_S", 0.05)
    _, client = transport.pair()
    started_at = time.perf_counter()
    example_module.echo(client)
    assert time.perf_counter() - started_at >= 3 * 0.05


@pytest.mark.parametrize("example_module", ["echo_client"], indirect=True)
def test_echo_client_gives_up_a_silent_server_after_three_attempts(
    example_module: ModuleType, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example_module, "TIMEOUT_S", 0.05)
    client, _ = transport.pair()
    started_at = time.perf_counter()
    with pytest.raises(example_module.ProgramError, match="does not work: it answered 0 of 5 bytes"):
        example_module.send_to_server(client, b"Hello")
    assert time.perf_counter() - started_at >= 3 * 0.05


def test_echo_client_tells_of_a_server_that_leaves(processes: Processes, free_address: str) -> None:
    with listening_socket(free_address) as listener:
        client = processes.start(example("echo_client.py", "Hello", address_of(listener)))
        connected, _ = listener.accept()
        with connected:
            assert receive_exactly(connected, 5) == b"Hello"
            connected.sendall(b"He")
        status, output, errors = ended(client)
    assert (status, output) == (1, "")
    assert one_line(errors) == "echo_client.py: the server closed the connection after 2 of 5 bytes"


# ---- echo.py ----


@pytest.mark.parametrize("string", ["Hello World", "ö€😀", ""])
def test_echo_prints_the_reply_over_both_transports(processes: Processes, string: str) -> None:
    completed = processes.run(example("echo.py", string))
    assert (completed.returncode, completed.stderr) == (0, "")
    over_tcp, over_local = completed.stdout.splitlines()
    assert re.fullmatch(rf"tcp:127\.0\.0\.1:\d+ replied: {re.escape(string)}", over_tcp)
    local_address = r"local:echo-[0-9a-f]{16}" if WINDOWS else "local:/.+"
    assert re.fullmatch(rf"{local_address} replied: {re.escape(string)}", over_local)


def test_echo_runs_in_the_root_of_the_project(processes: Processes) -> None:
    completed = processes.run([sys.executable, "examples/echo.py", "Hello World"], cwd=ROOT)
    assert completed.returncode == 0
    assert completed.stdout.count("replied: Hello World\n") == 2


# ---- poller_echo_server.py and batched_echo_server.py ----


class EchoPeer:
    """A client that checks every byte of its answers. Its data are a piece of what all peers share."""

    SHARED = block_of_data(MEGABYTE)
    KINDS = ("plain", "half-closer", "slow reader", "quitter")

    def __init__(self, number: int, address: str) -> None:
        generator = random.Random(number)
        self.kind = self.KINDS[number % len(self.KINDS)]
        # Now and then more than the server keeps for a client.
        size = generator.randrange(1, 20_000) if number % 10 else 400_000
        start = generator.randrange(len(self.SHARED) - size)
        self.data = memoryview(self.SHARED)[start : start + size]
        self.sent = 0
        self.received = 0
        self.finished = False
        self.socket = connect(address)
        if self.kind == "half-closer" and not isinstance(self.socket, socket.socket):
            # A named pipe can't be half-closed.
            self.kind = "plain"

    def send_first_byte(self) -> None:
        self.socket.sendall(self.data[:1])
        self.sent = 1

    def check_first_byte(self) -> None:
        assert self.socket.recv(1) == self.data[:1]
        self.received = 1

    def wanted(self) -> int:
        if self.finished:
            return 0
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self.sent < len(self.data) else 0)

    def attend(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self.sent += self.socket.send(self.data[self.sent :])
            if self.sent == len(self.data) and self.kind == "half-closer":
                self.socket.shutdown(socket.SHUT_WR)
        # A slow reader takes its time: it sends all that it can first, and then reads little at a time.
        if events == selectors.EVENT_READ or (events & selectors.EVENT_READ and self.kind != "slow reader"):
            self._receive(2000 if self.kind == "slow reader" else 65536)

    def _receive(self, size: int) -> None:
        received = self.socket.recv(size)
        assert received == self.data[self.received : self.received + len(received)]
        self.received += len(received)
        if self.kind == "quitter" and self.received >= len(self.data) // 2:
            reset(self.socket)
            self.finished = True
        elif self.kind == "half-closer":
            self.finished = not received
        else:
            assert received
            self.finished = self.received == len(self.data)
        if self.finished and self.kind != "quitter":
            assert self.received == len(self.data)


def steady_descriptor_count(server: subprocess.Popen[str]) -> int:
    """How many descriptors a server has that waits. On Windows it has one more now and then, for a moment."""
    until_asleep(server.pid)
    counts = {descriptor_count(server)}
    if WINDOWS:
        for _ in range(20):
            time.sleep(LOOK_AGAIN_S)
            counts.add(descriptor_count(server))
    return min(counts)


def about(count: int, most_clients: int) -> range:
    """How many descriptors a server may have, where this many are counted.

    On Windows, a poller has a handle of its own for 32 TCP sockets, and keeps it.
    """
    return range(count, count + 1 + (most_clients // 32 if WINDOWS else 0))


def serve_all(peers: list[EchoPeer]) -> None:
    """Lets all of them send and receive at the same time, until every one has what is its."""
    if WINDOWS:
        # Its select() takes 512 sockets at the most, and no pipes.
        try_all(peers)
        return
    with selectors.DefaultSelector() as selector:
        for peer in peers:
            peer.socket.setblocking(False)
            if peer.wanted():
                selector.register(peer.socket, peer.wanted(), peer)
        while selector.get_map():
            ready = selector.select(PATIENCE)
            assert ready, f"{len(selector.get_map())} clients get nothing any more"
            for key, events in ready:
                peer = key.data
                selector.unregister(peer.socket)
                peer.attend(events)
                if peer.wanted():
                    selector.register(peer.socket, peer.wanted(), peer)


def try_all(peers: list[EchoPeer]) -> None:
    """The same, where only trying tells which of them can."""
    for peer in peers:
        peer.socket.setblocking(False)
    unfinished = [peer for peer in peers if peer.wanted()]
    progressed_at = time.perf_counter()
    while unfinished:
        assert time.perf_counter() - progressed_at < PATIENCE, f"{len(unfinished)} clients get nothing any more"
        for peer in unfinished:
            for event in (selectors.EVENT_WRITE, selectors.EVENT_READ):
                if peer.wanted() & event:
                    with contextlib.suppress(BlockingIOError):
                        peer.attend(event)
                        progressed_at = time.perf_counter()
        unfinished = [peer for peer in unfinished if peer.wanted()]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", MANY_CLIENTS_SERVERS)
def test_server_of_many_clients_serves_many_clients(processes: Processes, name: str, free_address: str) -> None:
    with descriptors_for(CLIENTS + 100), contextlib.ExitStack() as stack:
        server, address = processes.serve(name, free_address)
        before = steady_descriptor_count(server)
        started_at = time.perf_counter()
        peers: list[EchoPeer] = []

        def all_are_accepted() -> bool:
            return descriptor_count(server) >= before + len(peers)

        for number in range(CLIENTS):
            peer = EchoPeer(number, address)
            stack.callback(peer.socket.close)
            peers.append(peer)
            if len(peers) % BACKLOG_MAX == 0:
                eventually(all_are_accepted, "the backlog has room for more")
        # All are connected and served at the same time.
        for peer in peers:
            peer.send_first_byte()
        for peer in peers:
            peer.check_first_byte()
        assert descriptor_count(server) in about(before + CLIENTS, CLIENTS)
        serve_all(peers)
        seconds = time.perf_counter() - started_at
        assert all(peer.received == len(peer.data) for peer in peers if peer.kind != "quitter")
        megabytes = sum(peer.received for peer in peers) / 1e6
        print(f"{CLIENTS} clients of {name} at {address}: {megabytes:.1f} MB came back in {seconds:.2f} s;")
        print(f"the server used {processor_seconds(server):.2f} s of processor, {resident_bytes(server) / 1e6:.1f} MB")
        for peer in peers:
            peer.socket.close()
    eventually(lambda: descriptor_count(server) in about(before, CLIENTS), "all clients are dropped")
    ASK_TO_END(server)
    assert ended(server) == (ASKED_TO_END, "", "")


@pytest.mark.parametrize("name", MANY_CLIENTS_SERVERS)
def test_server_of_many_clients_serves_several_addresses(processes: Processes, name: str, directory: Path) -> None:
    server, over_tcp = processes.serve(name, "tcp:127.0.0.1:0", f"local:{directory}/server")
    over_local = ready_address(server)
    data = block_of_data(MEGABYTE)
    with connect(over_tcp) as first, connect(over_local) as second:
        assert exchange(first, data) == data
        assert exchange(second, data) == data


def send_until_full(server: subprocess.Popen[str], client: PythonPeer, piece: bytes, quiet_s: float) -> int:
    """Sends a piece again and again, until there is no room for a time and the server waits. How many bytes it took."""
    client.setblocking(False)
    sent = 0
    had_room_at = time.perf_counter()
    server_waits = False
    while True:
        try:
            sent += client.send(memoryview(piece)[sent % MEGABYTE :])
            had_room_at = time.perf_counter()
            server_waits = False
        except BlockingIOError:
            if time.perf_counter() - had_room_at < quiet_s:
                time.sleep(LOOK_AGAIN_S)
            elif server_waits:
                return sent
            else:
                # On a busy machine it may have had no processor in all that time, and make room now.
                until_asleep(server.pid)
                server_waits = True
        assert sent < 1000 * MEGABYTE, "it reads without end"


@pytest.mark.parametrize("name", MANY_CLIENTS_SERVERS)
def test_server_of_many_clients_stops_reading_from_a_client_that_does_not_read(
    processes: Processes, name: str, free_address: str
) -> None:
    server, address = processes.serve(name, free_address)
    memory_before = resident_bytes(server)
    piece = block_of_data(MEGABYTE)
    with connect(address) as client:
        # A second without room: everything is full, on both ways.
        sent = send_until_full(server, client, piece, 1.0)
        # What it keeps is bounded, whatever the kernel's buffers hold.
        assert resident_bytes(server) - memory_before < 4 * MEGABYTE
        processor_before = processor_seconds(server)
        # Others are served meanwhile.
        with connect(address) as other:
            assert exchange(other, piece) == piece
        assert send_until_full(server, client, piece, 0.5) == 0
        assert processor_seconds(server) - processor_before < 0.25, "it spins while the client does not read"
        # All comes back as soon as it is read.
        client.settimeout(PATIENCE)
        if isinstance(client, socket.socket):
            client.shutdown(socket.SHUT_WR)
        received = 0
        # A named pipe, which can't be half-closed, has no end of its own.
        while isinstance(client, socket.socket) or received < sent:
            chunk = client.recv(MEGABYTE)
            if not chunk:
                break
            position = received % MEGABYTE
            assert chunk == (piece + piece)[position : position + len(chunk)]
            received += len(chunk)
        assert received == sent


@pytest.mark.parametrize("name", MANY_CLIENTS_SERVERS)
def test_server_of_many_clients_drops_a_client_that_dies_with_its_output_piled_up(
    processes: Processes, name: str, free_address: str
) -> None:
    server, address = processes.serve(name, free_address)
    before = steady_descriptor_count(server)
    with connect(address) as client:
        send_until_full(server, client, bytes(MEGABYTE), 0.5)
        assert steady_descriptor_count(server) == before + 1
        reset(client)
    eventually(lambda: descriptor_count(server) == before, "the dead client is dropped")
    assert server.poll() is None


KILLED_CLIENTS = """
import socket, sys
sys.path.insert(0, sys.argv[2])
import named_pipes
namespace, _, rest = sys.argv[1].partition(":")
clients = []
for _ in range(50):
    if namespace == "local" and sys.platform == "win32":
        client = named_pipes.connect(rest)
    else:
        client = socket.socket(socket.AF_INET if namespace == "tcp" else socket.AF_UNIX)
        client.connect(("127.0.0.1", int(rest.rpartition(":")[2])) if namespace == "tcp" else rest)
    client.sendall(b"x" * 50_000)
    clients.append(client)
for client in clients[::2]:
    client.recv(1)
print("connected", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("name", MANY_CLIENTS_SERVERS)
def test_server_of_many_clients_drops_clients_that_are_killed(
    processes: Processes, name: str, free_address: str
) -> None:
    server, address = processes.serve(name, free_address)
    before = steady_descriptor_count(server)
    with connect(address) as survivor:
        survivor.sendall(b"before")
        assert receive_exactly(survivor, 6) == b"before"
        clients = processes.start([sys.executable, "-c", KILLED_CLIENTS, address, str(SUPPORT)])
        assert clients.stdout is not None
        assert clients.stdout.readline() == "connected\n"
        eventually(lambda: descriptor_count(server) in about(before + 51, 51), "all clients are accepted")
        clients.kill()
        eventually(lambda: descriptor_count(server) in about(before + 1, 51), "the killed clients are dropped")
        survivor.sendall(b"after")
        assert receive_exactly(survivor, 5) == b"after"
    assert server.poll() is None


@pytest.mark.skipif(WINDOWS, reason="Windows sets a program no limit of handles")
@pytest.mark.skipif(not CLIENTS_OUTLIVE_EMFILE, reason="macOS gives up a client that it has no descriptor for")
@pytest.mark.parametrize("name", MANY_CLIENTS_SERVERS)
def test_server_of_many_clients_outlives_a_lack_of_descriptors(
    processes: Processes, name: str, free_address: str
) -> None:
    limited = ["sh", "-c", 'ulimit -n 32 && exec "$@"', "sh", *example(name, free_address)]
    server, address = processes.serve_command(limited)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(address)) for _ in range(40)]
        for client in clients:
            client.sendall(b"ping")
        eventually(lambda: descriptor_count(server) == 32, "there is no descriptor left")
        last = clients[-1]
        processor_before = processor_seconds(server)
        last.settimeout(1.5)
        with pytest.raises(socket.timeout):
            last.recv(1)
        assert processor_seconds(server) - processor_before < 0.25, "it spins while it has no descriptor"
        # Those that it has are served, and as they go, the others' turn comes.
        for client in clients:
            client.settimeout(PATIENCE)
            assert receive_exactly(client, 4) == b"ping"
            client.close()
    assert server.poll() is None


# ---- file_transfer.py ----


class Terminal:
    """A terminal for a program's standard error.

    On Windows it is a pipe, which programs started by :func:`at_terminal` take for a terminal: Python has no call for a
    terminal that a program can read.
    """

    def __init__(self) -> None:
        self._ours, self.theirs = os.pipe() if sys.platform == "win32" else pty.openpty()
        self._shown = ""

    def close(self) -> None:
        os.close(self._ours)
        os.close(self.theirs)

    def wait_for(self, pattern: str) -> None:
        while not re.search(pattern, self._shown):
            self._shown += os.read(self._ours, 65536).decode()

    def lines(self) -> list[str]:
        """What is to be seen, once nobody writes any more; a line that was written over shows its last state."""
        os.write(self.theirs, b"end")
        self.wait_for("end$")
        return [line.rpartition("\r")[2] for line in self._shown[: -len("end")].replace("\r\n", "\n").split("\n")]


BELIEVER = """
import os, runpy, sys
sys.stderr.isatty = lambda: True
del sys.argv[0]
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def at_terminal(name: str, *arguments: object) -> list[str]:
    """The command that runs one of the examples with a Terminal as its standard error."""
    command = example(name, *arguments)
    return [command[0], "-c", BELIEVER, *command[1:]] if WINDOWS else command


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


@pytest.fixture
def source(directory: Path) -> Path:
    """What is sent: zeros, more of them than the system takes at once."""
    path = directory / "source"
    path.touch()
    lengthen(path, 50_000_000)
    return path


def make_endless(source: Path) -> None:
    """Makes a file larger than can be sent while a test lasts."""
    lengthen(source, 100_000_000_000)


def lengthen(path: Path, size: int) -> None:
    """Makes a file as long as this. It takes no space."""
    if sys.platform != "win32":
        os.truncate(path, size)
        return
    kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    with path.open("r+b") as file:
        handle = ctypes.c_void_p(msvcrt.get_osfhandle(file.fileno()))
        # FSCTL_SET_SPARSE. Otherwise it would be written full of zeros; Wine has only files that are sparse.
        done = kernel32.DeviceIoControl(handle, 0x900C4, None, 0, None, 0, ctypes.byref(ctypes.c_uint32()), None)
        assert done or WINE, ctypes.get_last_error()
        assert kernel32.SetFilePointerEx(handle, ctypes.c_int64(size), None, 0), ctypes.get_last_error()
        assert kernel32.SetEndOfFile(handle), ctypes.get_last_error()


@pytest.fixture
def destination(directory: Path) -> Path:
    path = directory / "results" / "destination"
    path.parent.mkdir()
    return path


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files_beside(destination: Path) -> list[str]:
    return sorted(os.listdir(destination.parent))


def until_under_way(destination: Path) -> None:
    """Waits until some of the file has arrived. A signal that comes while the receiver opens it makes Python warn."""

    def has_contents() -> bool:
        return any((destination.parent / name).stat().st_size for name in files_beside(destination))

    eventually(has_contents, "the file is under way")


FULL_BAR = r"\[#{40}\] 100% +(\d+\.\d) of \1 MB +\d+\.\d MB/s"
PARTIAL_BAR = r"\[#*-+\] +\d+% .* MB/s"


@pytest.mark.parametrize("size", [0, 1, 262_143, 262_144, 1_000_003, 50_000_000])
def test_file_transfer(processes: Processes, free_address: str, directory: Path, destination: Path, size: int) -> None:
    source = directory / "source"
    source.write_bytes(block_of_data(size))
    receiver, address = processes.serve("file_transfer.py", "receive", destination, free_address)
    sender = processes.run(example("file_transfer.py", "send", source, address))
    sha256 = sha256_of(source)
    assert (sender.returncode, sender.stdout, sender.stderr) == (0, f"sent {source}, SHA-256 {sha256}\n", "")
    assert ended(receiver) == (0, f"received {destination}, SHA-256 {sha256}\n", "")
    assert sha256_of(destination) == sha256
    assert files_beside(destination) == ["destination"]


@pytest.mark.parametrize("size", [0, 1, 50_000_000])
def test_file_transfer_copies(processes: Processes, directory: Path, destination: Path, size: int) -> None:
    source = directory / "source"
    source.write_bytes(block_of_data(size))
    destination.write_bytes(b"an older file")
    completed = processes.run(example("file_transfer.py", "copy", source, destination))
    sha256 = sha256_of(source)
    expected = f"copied {source} to {destination}, SHA-256 {sha256}\n"
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, expected, "")
    assert sha256_of(destination) == sha256
    assert files_beside(destination) == ["destination"]


@pytest.mark.parametrize("command", ["send", "receive", "copy"])
@pytest.mark.parametrize("size", [0, 3_000_000])
def test_file_transfer_shows_a_bar(
    processes: Processes, directory: Path, destination: Path, terminal: Terminal, command: str, size: int
) -> None:
    source = directory / "source"
    source.write_bytes(block_of_data(size))
    shown = {"stderr": terminal.theirs}
    if command == "copy":
        assert ended(processes.start(at_terminal("file_transfer.py", "copy", source, destination), **shown))[0] == 0
    else:
        started = {"send": example, "receive": example, command: at_terminal}
        receive = started["receive"]("file_transfer.py", "receive", destination, f"local:{directory}/receiver")
        receiver, address = processes.serve_command(receive, **(shown if command == "receive" else {}))
        send = started["send"]("file_transfer.py", "send", source, address)
        sender = processes.start(send, **(shown if command == "send" else {}))
        assert (ended(sender)[0], ended(receiver)[0]) == (0, 0)
    bar, rest = terminal.lines()
    assert re.fullmatch(FULL_BAR, bar)
    assert rest == ""


def test_file_transfer_is_quiet_if_told(
    processes: Processes, directory: Path, destination: Path, terminal: Terminal
) -> None:
    command = at_terminal("file_transfer.py", "copy", "--quiet", __file__, destination)
    assert ended(processes.start(command, stderr=terminal.theirs))[0] == 0
    assert terminal.lines() == [""]


@pytest.mark.parametrize(("send", "status"), [*ENDING_SIGNALS, pytest.param(kill, KILLED, id="SIGKILL")])
def test_file_transfer_whose_sender_ends_midway_leaves_nothing(
    processes: Processes,
    free_address: str,
    source: Path,
    destination: Path,
    terminal: Terminal,
    send: Send,
    status: int,
) -> None:
    destination.write_bytes(b"an older file")
    receiver, address = processes.serve("file_transfer.py", "receive", destination, free_address)
    # While it reads nothing, the sender can't get to its end.
    with stopped(receiver):
        sender = processes.start(at_terminal("file_transfer.py", "send", source, address), stderr=terminal.theirs)
        terminal.wait_for(PARTIAL_BAR)
        if WINE and send == kill:
            # Which never closes the socket of a process that is killed within a send.
            until_asleep(sender.pid)
        send(sender)
        assert sender.wait(PATIENCE) == status
    assert ended(receiver) == (1, "", "file_transfer.py: the sender went before the file was transferred\n")
    assert files_beside(destination) == ["destination"]
    assert destination.read_bytes() == b"an older file"
    bar, *rest = terminal.lines()
    assert re.fullmatch(PARTIAL_BAR, bar)
    assert rest == ([] if send == kill else [""])


@pytest.mark.parametrize(("send", "status"), ENDING_SIGNALS)
def test_file_transfer_whose_receiver_ends_midway_leaves_nothing(
    processes: Processes,
    free_address: str,
    destination: Path,
    terminal: Terminal,
    send: Send,
    status: int,
) -> None:
    receive = at_terminal("file_transfer.py", "receive", destination, free_address)
    receiver, address = processes.serve_command(receive, stderr=terminal.theirs)
    with connect(address) as sender:
        sender.sendall(transfer(bytes(MEGABYTE))[:-MEGABYTE])
        terminal.wait_for(PARTIAL_BAR)
        assert len(files_beside(destination)) == 1
        send(receiver)
        assert receiver.wait(PATIENCE) == status
    assert files_beside(destination) == []


def transfer(contents: bytes) -> bytes:
    """What a sender of the contents sends."""
    return b"bbipc-f1" + struct.pack(">Q", len(contents)) + contents + hashlib.sha256(contents).digest()


def test_file_transfer_whose_receiver_is_killed_fails(
    processes: Processes, free_address: str, source: Path, destination: Path, terminal: Terminal
) -> None:
    receiver, address = processes.serve("file_transfer.py", "receive", destination, free_address)
    # Wine never closes the listening socket of a process that is stopped on its way into a wait, and then killed.
    until_asleep(receiver.pid)
    with contextlib.ExitStack() as stack:
        stack.enter_context(stopped(receiver))
        sender = processes.start(at_terminal("file_transfer.py", "send", source, address), stderr=terminal.theirs)
        terminal.wait_for(PARTIAL_BAR)
        receiver.kill()
        # It will not go on.
        stack.pop_all()
    assert sender.wait(PATIENCE) == 1
    _, line, rest = terminal.lines()
    assert line == "file_transfer.py: the receiver went before the file was transferred"
    assert rest == ""
    assert not destination.exists()


def test_file_transfer_whose_file_becomes_shorter_fails(
    processes: Processes, free_address: str, source: Path, destination: Path, terminal: Terminal
) -> None:
    receiver, address = processes.serve("file_transfer.py", "receive", destination, free_address)
    with stopped(receiver):
        sender = processes.start(at_terminal("file_transfer.py", "send", source, address), stderr=terminal.theirs)
        terminal.wait_for(PARTIAL_BAR)
        os.truncate(source, 1)
    assert sender.wait(PATIENCE) == 1
    _, line, _ = terminal.lines()
    assert line == f"file_transfer.py: {source} became shorter while it was sent"
    assert ended(receiver) == (1, "", "file_transfer.py: the sender went before the file was transferred\n")
    assert files_beside(destination) == []


def test_file_transfer_wants_the_contents_that_were_sent(
    processes: Processes, free_address: str, destination: Path
) -> None:
    receiver, address = processes.serve("file_transfer.py", "receive", destination, free_address)
    with connect(address) as sender:
        sender.sendall(transfer(b"contents").replace(b"contents", b"c0ntents"))
        assert receive_to_end(sender) == b""
    assert ended(receiver) == (1, "", "file_transfer.py: what arrived is not what was sent: the SHA-256 differs\n")
    assert files_beside(destination) == []


def test_file_transfer_takes_nothing_from_a_stranger(
    processes: Processes, free_address: str, destination: Path
) -> None:
    receiver, address = processes.serve("file_transfer.py", "receive", destination, free_address)
    with connect(address) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert ended(receiver) == (1, "", "file_transfer.py: the other end is no sender of files\n")
    assert files_beside(destination) == []


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (hashlib.sha256(b"something else").digest(), "what the receiver got is not what was sent: the SHA-256 differs"),
        (b"", "the receiver went before the file was transferred"),
    ],
    ids=["wrong", "none"],
)
def test_file_transfer_wants_a_confirmation(
    processes: Processes, directory: Path, free_address: str, answer: bytes, complaint: str
) -> None:
    source = directory / "source"
    source.write_bytes(b"contents")
    with listening_socket(free_address) as listener:
        sender = processes.start(example("file_transfer.py", "send", source, address_of(listener)))
        receiver, _ = listener.accept()
        with receiver:
            assert receive_exactly(receiver, len(transfer(b"contents"))) == transfer(b"contents")
            receiver.sendall(answer)
        assert ended(sender) == (1, "", f"file_transfer.py: {complaint}\n")


def test_file_transfer_refuses_what_is_no_file(processes: Processes, directory: Path, destination: Path) -> None:
    if sys.platform == "win32":
        device = Path("NUL")
    else:
        device = directory / "fifo"
        os.mkfifo(device)
    for source in (directory, device, directory / "missing"):
        completed = processes.run(example("file_transfer.py", "copy", source, destination))
        assert completed.returncode == 1
        # Windows' own messages quote pathnames as Python does.
        assert str(source) in one_line(completed.stderr).replace("\\\\", "\\")
    assert files_beside(destination) == []


@pytest.mark.parametrize("command", ["receive", "copy"])
@pytest.mark.parametrize("place", [".", "missing/file"])
def test_file_transfer_refuses_a_destination_that_can_not_be_one(
    processes: Processes, directory: Path, command: str, place: str
) -> None:
    arguments = [directory / place, f"local:{directory}/server"]
    if command == "copy":
        arguments = [__file__, directory / place]
    completed = processes.run(example("file_transfer.py", command, *arguments))
    assert completed.returncode == 1
    assert f"{directory / place} can't be a file's name" in one_line(completed.stderr)
    assert completed.stdout == ""


if sys.platform == "win32":

    class ProcessEntry(ctypes.Structure):
        """PROCESSENTRY32W."""

        _fields_ = (
            ("size", ctypes.c_uint32),
            ("usage", ctypes.c_uint32),
            ("process", ctypes.c_uint32),
            ("heap", ctypes.c_size_t),
            ("module", ctypes.c_uint32),
            ("threads", ctypes.c_uint32),
            ("parent", ctypes.c_uint32),
            ("priority", ctypes.c_int32),
            ("flags", ctypes.c_uint32),
            ("name", ctypes.c_wchar * 260),
        )

    def parents_of_processes() -> dict[int, int]:
        """Every process, and which one has started it."""
        kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel32.CreateToolhelp32Snapshot.restype = ctypes.c_void_p
        snapshot = ctypes.c_void_p(kernel32.CreateToolhelp32Snapshot(2, 0))
        entry = ProcessEntry(size=ctypes.sizeof(ProcessEntry))
        parents = {}
        more = kernel32.Process32FirstW(snapshot, ctypes.byref(entry))
        while more:
            parents[entry.process] = entry.parent
            more = kernel32.Process32NextW(snapshot, ctypes.byref(entry))
        kernel32.CloseHandle(snapshot)
        return parents

    def receiver_of(copying: subprocess.Popen[str]) -> int:
        """The number of the process that a copy has started."""
        # The last of a chain: a virtual environment's Python runs another.
        number = copying.pid
        while children := [child for child, parent in parents_of_processes().items() if parent == number]:
            number = children[0]
        assert number != copying.pid
        return number

    def runs(number: int) -> bool:
        """Whether there is such a process."""
        return number in parents_of_processes()

else:

    def receiver_of(copying: subprocess.Popen[str]) -> int:
        """The number of the process that a copy has started."""
        return systems.child_of(copying.pid)

    runs = systems.runs


@pytest.mark.parametrize(("send", "status"), ENDING_SIGNALS)
def test_file_transfer_copy_ends_cleanly(
    processes: Processes,
    source: Path,
    destination: Path,
    terminal: Terminal,
    send: Send,
    status: int,
) -> None:
    make_endless(source)
    copying = processes.start(at_terminal("file_transfer.py", "copy", source, destination), stderr=terminal.theirs)
    terminal.wait_for(PARTIAL_BAR)
    until_under_way(destination)
    receiver = receiver_of(copying)
    send(copying)
    assert copying.wait(PATIENCE) == status
    assert not runs(receiver)
    bar, rest = terminal.lines()
    assert re.fullmatch(PARTIAL_BAR, bar)
    assert rest == ""
    assert files_beside(destination) == []


def test_ctrl_c_in_a_terminal_ends_both_processes_of_a_copy(
    processes: Processes, source: Path, destination: Path, terminal: Terminal
) -> None:
    make_endless(source)
    command = at_terminal("file_transfer.py", "copy", source, destination)
    copying = processes.start(command, stderr=terminal.theirs, **({} if WINDOWS else {"start_new_session": True}))
    terminal.wait_for(PARTIAL_BAR)
    until_under_way(destination)
    # A terminal sends it to all of its foreground processes.
    if sys.platform == "win32":
        interrupt(copying)
    else:
        os.killpg(copying.pid, signal.SIGINT)
    assert copying.wait(PATIENCE) == 130
    bar, rest = terminal.lines()
    assert re.fullmatch(PARTIAL_BAR, bar)
    assert rest == ""
    assert files_beside(destination) == []


def test_file_transfer_copy_whose_receiver_is_killed_fails(
    processes: Processes, source: Path, destination: Path, terminal: Terminal
) -> None:
    make_endless(source)
    copying = processes.start(at_terminal("file_transfer.py", "copy", source, destination), stderr=terminal.theirs)
    terminal.wait_for(PARTIAL_BAR)
    # On Windows every signal kills.
    os.kill(receiver_of(copying), signal.SIGTERM if WINDOWS else signal.SIGKILL)
    assert copying.wait(PATIENCE) == 1
    _, line, rest = terminal.lines()
    assert line == "file_transfer.py: the receiver went before the file was transferred"
    assert rest == ""
    assert not destination.exists()


@pytest.mark.skipif(not WINDOWS, reason="elsewhere an open file can be replaced")
@pytest.mark.parametrize(
    "hindrance",
    [
        "open",
        pytest.param("read-only", marks=pytest.mark.skipif(WINE, reason="Wine replaces it")),
    ],
)
def test_file_transfer_tells_of_a_destination_that_can_not_be_replaced(
    processes: Processes, destination: Path, hindrance: str
) -> None:
    destination.write_bytes(b"an older file")
    with contextlib.ExitStack() as stack:
        if hindrance == "open":
            stack.enter_context(destination.open("rb"))
        else:
            destination.chmod(0o444)
            stack.callback(destination.chmod, 0o666)
        completed = processes.run(example("file_transfer.py", "copy", __file__, destination))
    assert (completed.returncode, completed.stdout) == (1, "")
    receivers, senders = completed.stderr.splitlines()
    why = "is it open in another program, or read-only?"
    assert receivers == f"file_transfer.py: can't replace {destination}: {why}"
    assert senders == "file_transfer.py: the receiver went before the file was transferred"
    assert destination.read_bytes() == b"an older file"
    assert files_beside(destination) == ["destination"]


@pytest.mark.parametrize("example_module", ["file_transfer"], indirect=True)
def test_file_transfer_gives_up_a_silent_sender(
    example_module: ModuleType, transport: Transport, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example_module, "TIMEOUT_S", 0.1)
    sender, stream = transport.pair()
    sender.write_all(transfer(b"contents")[:-1], PATIENCE)
    with pytest.raises(example_module.ProgramError, match="the sender does nothing: the time is up"):
        example_module.receive(stream, destination)
    assert files_beside(destination) == []


# ---- README.md ----


def readme_programs() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("namespace", ["tcp", "local"])
def test_server_and_client_of_the_readme(processes: Processes, directory: Path, namespace: str) -> None:
    server_program, client_program = readme_programs()
    # A free port, and the change that the README describes.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    changes = {"12345": port}
    if namespace == "local":
        pathname = repr(str(directory / "echo"))
        changes = {
            "make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 12345, reuse_address=True)": f"make_local_server({pathname})",
            "connect_to_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 12345)": f"connect_to_local_server({pathname})",
        }
    for old, new in changes.items():
        assert old in server_program + client_program
        server_program = server_program.replace(old, new)
        client_program = client_program.replace(old, new)

    server = processes.start([sys.executable, "-c", server_program])
    address = f"tcp:127.0.0.1:{port}" if namespace == "tcp" else f"local:{directory / 'echo'}"
    eventually(lambda: server.poll() is not None or answers(address), "the server listens")
    for _ in range(2):
        completed = processes.run([sys.executable, "-c", client_program])
        assert (completed.returncode, completed.stdout, completed.stderr) == (0, "Hello World\n", "")
    # It outlives a client that dies.
    with connect(address) as client:
        client.sendall(b"Hello World")
        assert receive_exactly(client, 1) == b"H"
        reset(client)
    assert processes.run([sys.executable, "-c", client_program]).stdout == "Hello World\n"
    server.kill()
    server.wait()
    completed = processes.run([sys.executable, "-c", client_program])
    assert completed.returncode == 1
    assert completed.stdout == ""


#: In front of a program: whom the first CONNECTION_AVAILABLE told of has gone when the program accepts. On macOS and
#: FreeBSD that is a client that resets its TCP connection.
FIRST_HAS_GONE = """
import bbipc
from bbipc.sockets import StreamServer

def accept(server, accept=StreamServer.accept_connection, gone=[]):
    stream = accept(server)
    if not gone:
        gone.append(stream.close())
        raise bbipc.NoConnectionAvailableError("gone")
    return stream

StreamServer.accept_connection = accept
"""


@pytest.mark.parametrize("name", ["README.md", *LISTENERS])
def test_a_client_that_has_gone_again_ends_no_server(processes: Processes, directory: Path, name: str) -> None:
    if name == "README.md":
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = str(listener.getsockname()[1])
        server = processes.start([sys.executable, "-c", FIRST_HAS_GONE + readme_programs()[0].replace("12345", port)])
        address = f"tcp:127.0.0.1:{port}"
    else:
        command = listening_command(name, directory, "tcp:127.0.0.1:0")
        run = f"import runpy, sys; sys.argv = {command[1:]}; sys.path.insert(0, {str(EXAMPLES)!r})\n"
        run += f"runpy.run_path({command[1]!r}, run_name='__main__')"
        server, address = processes.serve_command([sys.executable, "-c", FIRST_HAS_GONE + run])
    eventually(lambda: server.poll() is not None or answers(address), "the first has come and gone")
    with connect(address) as client:
        if name == "file_transfer.py":
            client.close()
            _, _, errors = ended(server)
            assert "Traceback" not in errors
            assert "NoConnection" not in errors
        else:
            client.sendall(b"ping")
            assert receive_exactly(client, 4) == b"ping"


def answers(address: str) -> bool:
    try:
        connect(address).close()
    except OSError:
        return False
    return True


def test_readme_names_what_is_there() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (README.parent / link).exists(), link


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_use_the_public_interface_only(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"bbipc\._|from bbipc\.|\._handle\b", text)
    used = set(re.findall(r"\bbbipc\.(\w+)", text))
    assert used <= set(bbipc.__all__)
