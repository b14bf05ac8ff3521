"""echo_server.py, echo_client.py and echo.py, as their users run them: real processes, both transports."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from child_processes import (
    Processes,
    address_of,
    connect,
    ended,
    example,
    exchange,
    listening_socket,
    receive_exactly,
    reset,
)
from example_programs import ASK_TO_END, ASKED_TO_END, ECHO_SERVERS, MEGABYTE, block_of_data, one_line
from patience import PATIENCE
from systems import WINDOWS
from transports import Transport
from tree import ROOT

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
