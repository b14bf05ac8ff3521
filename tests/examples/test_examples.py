"""The examples, as their users run them: what all of them do alike, with good and bad ends."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import sys
from pathlib import Path

import pytest

import bbipc
from child_processes import Processes, address_of, connect, ended, example, listening_socket, receive_exactly
from example_programs import (
    ASK_TO_END,
    ASKED_TO_END,
    ECHO_SERVERS,
    ENDING_SIGNALS,
    LISTENERS,
    PROGRAMS,
    Send,
    answers,
    listening_command,
    one_line,
    reason_of,
)
from systems import PATHNAME_MAX, WINDOWS
from tree import EXAMPLES


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
        ("echo_client.py", ["string", "tcp:..:1"]),
        ("echo_client.py", ["string", f"tcp:{'a' * 64}:1"]),
        ("echo_client.py", ["string", "tcp:::1:1"]),
        ("echo_client.py", ["string", "local:"]),
        ("echo_server.py", ["udp:127.0.0.1:0"]),
        ("echo_server.py", ["tcp:127.0.0.1:0", "tcp:127.0.0.1:0"]),
        ("poller_echo_server.py", ["tcp:127.0.0.1:0", "nonsense"]),
        ("batched_echo_server.py", ["tcp:127.0.0.1:0", "nonsense"]),
        ("broadcast.py", []),
        ("broadcast.py", ["say"]),
        ("broadcast.py", ["serve", "nonsense"]),
        ("broadcast.py", ["serve", "--keep", "many"]),
        ("job_manager.py", ["--workers", "many", "1 + 1"]),
        ("request_reply.py", ["local:path"]),
        ("request_reply.py", ["path", "list"]),
        ("request_reply.py", ["local:path", "set", "name"]),
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
    # It may be about to start.
    assert line.startswith(f"{command[0]}: the time is up after 2 s: ")
    if address.startswith("tcp"):
        assert "cannot connect to localhost (127.0.0.1:" in line
        # On Windows itself it takes longer to be refused.
        assert reason_of(errno.ECONNREFUSED) in line or "no answer" in line
    else:
        assert f": no server listens at {str(directory / 'server')!r}: " in line


@pytest.mark.skipif(WINDOWS, reason="a pipe's name goes with its server: none is ever left behind")
def test_abandoned_local_pathname_is_one_line_and_status_1(processes: Processes, directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(str(directory / "server"))
    completed = processes.run(example("echo_client.py", "string", f"local:{directory}/server"))
    assert completed.returncode == 1
    assert "nobody listens there" in one_line(completed.stderr)


def test_host_without_address_is_one_line_and_status_1(processes: Processes) -> None:
    completed = processes.run(example("echo_client.py", "string", "tcp:no-such-host.invalid:1"))
    assert completed.returncode == 1
    assert "no-such-host.invalid" in one_line(completed.stderr)


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


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_use_the_public_interface_only(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"bbipc\._|from bbipc\.|\._handle\b", text)
    used = set(re.findall(r"\bbbipc\.(\w+)", text))
    assert used <= set(bbipc.__all__)
