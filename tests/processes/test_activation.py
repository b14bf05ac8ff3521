"""Servers that systemd makes, and connections that inetd or socat hand over."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import bbipc
from child_processes import LOOK_AGAIN_S, Processes, example
from pages import DOCS, blocks_of
from patience import PATIENCE
from peer import run_program
from systems import LINUX, WINDOWS

GUIDE = DOCS / "guide" / "parents-and-children.md"

SYSTEMD = shutil.which("systemd-socket-activate")
SOCAT = shutil.which("socat")

without_systemd = pytest.mark.skipif(
    not SYSTEMD, reason="systemd-socket-activate is missing (Debian's package systemd)"
)
only_posix = pytest.mark.skipif(WINDOWS, reason="Windows has no systemd, and hands on no descriptors by their numbers")


#: systemd-socket-activate hands on no more of the environment than it is told to.
HANDED_ON = [
    f"--setenv={name}={value}"
    for name, value in os.environ.items()
    if name.startswith(("PYTHON", "BBIPC_", "LD_", "LC_", "LANG"))
]


def connect(address: str | tuple[str, int]) -> socket.socket:
    """A client of a server that is about to be there."""
    give_up_at = time.monotonic() + PATIENCE
    while True:
        assert sys.platform != "win32"
        client = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        client.settimeout(PATIENCE)
        try:
            client.connect(address)
        except OSError:
            client.close()
            assert time.monotonic() < give_up_at
            time.sleep(LOOK_AGAIN_S)
        else:
            return client


def expect_echo(client: socket.socket) -> None:
    with client:
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        received = b""
        while data := client.recv(100):
            received += data
        assert received == b"hello"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


# ---- The programs that hand over ----


@without_systemd
def test_systemd_starts_an_example(processes: Processes, directory: Path) -> None:
    assert SYSTEMD is not None
    pathname, port = str(directory / "echo"), free_port()
    listening = [f"--listen={pathname}", f"--listen=127.0.0.1:{port}", "--fdname=unix:tcp"]
    processes.start([SYSTEMD, *listening, *HANDED_ON, *example("activated_echo_server.py")])
    for address in (pathname, ("127.0.0.1", port)) * 2:
        expect_echo(connect(address))


@without_systemd
def test_systemds_names_and_addresses_are_known(processes: Processes, directory: Path) -> None:
    assert SYSTEMD is not None
    pathname, port = str(directory / "echo"), free_port()
    program = """
        import os, sys, bbipc
        servers = bbipc.activated_servers()
        print(servers.names, [type(one).__name__ for one in servers])
        print([one.local_pathname for one in servers.named("unix")], [one.port for one in servers.named("tcp")])
        print([name for name in os.environ if name.startswith("LISTEN_")], bbipc.activated_servers())
        print([os.get_inheritable(one.fileno()) for one in servers])
        servers[0].accept_connection().close()
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    listening = [f"--listen={pathname}", f"--listen=127.0.0.1:{port}", "--fdname=unix:tcp"]
    process = processes.start([SYSTEMD, *listening, *HANDED_ON, *command])
    with connect(pathname) as client:
        output, _ = process.communicate(timeout=PATIENCE)
        assert output.splitlines() == [
            "('unix', 'tcp') ['LocalServer', 'Ipv4TcpServer']",
            f"[{pathname!r}] [{port}]",
            "[] []",
            "[False, False]",
        ]
        assert client.recv(10) == b""
    # Its file is systemd's.
    assert os.path.exists(pathname)


@without_systemd
def test_a_unit_with_connections_in_the_place_of_servers_is_told_so(processes: Processes, directory: Path) -> None:
    assert SYSTEMD is not None
    program = """
        import os, bbipc
        try:
            bbipc.activated_servers()
        except bbipc.SocketError as error:
            print(error)
        with bbipc.adopt_stream(3) as stream:
            stream.write_all(b"served")
    """
    pathname = str(directory / "echo")
    command = [sys.executable, "-c", textwrap.dedent(program)]
    process = processes.start([SYSTEMD, "--accept", f"--listen={pathname}", *HANDED_ON, *command])
    with connect(pathname) as client:
        assert client.recv(100) == b"served"
        assert client.recv(100) == b""
    process.terminate()
    output, _ = process.communicate(timeout=PATIENCE)
    assert "activated descriptor 3" in output
    assert "adopt_stream() takes one that is connected" in output


@pytest.mark.skipif(not SOCAT or WINDOWS, reason="socat is missing (Debian's package socat)")
@pytest.mark.parametrize("kind", ["socketpair of its own", "the connection itself"])
def test_socat_hands_a_descriptor_to_a_program(processes: Processes, directory: Path, kind: str) -> None:
    assert SOCAT is not None
    # The guide's.
    (code,) = [block.code for block in blocks_of(GUIDE) if block.caption == "inetd_echo.py"]
    program = directory / "inetd_echo.py"
    program.write_text(code, encoding="utf-8")
    pathname = str(directory / "echo")
    options = "" if kind == "socketpair of its own" else ",nofork"
    processes.start([SOCAT, f"UNIX-LISTEN:{pathname}", f"EXEC:{sys.executable} {program}{options}"])
    expect_echo(connect(pathname))


# ---- The protocol ----

#: What systemd does: descriptors from 3 on, and variables with the number of the very process.
PROTOCOL = """
import contextlib, os, socket, sys, bbipc
kinds, names, process = sys.argv[1:]
made = []
for kind in kinds.split():
    one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM)
    if kind == "server":
        one.bind("\\0bbipc-%d-%d" % (os.getpid(), len(made)))
        one.listen()
    made.append(one)
# Out of the way first: bbipc has a descriptor for itself from its import on.
numbers = [os.dup2(one.fileno(), 100 + place) for place, one in enumerate(made)]
for one in made:
    one.close()
taken = []
for place, number in enumerate(numbers):
    with contextlib.suppress(OSError):
        taken.append((os.dup(3 + place), 3 + place))
    os.dup2(number, 3 + place, inheritable=True)
    os.close(number)
os.environ["LISTEN_FDS"] = str(len(made))
os.environ["LISTEN_PID"] = process or str(os.getpid())
if names:
    os.environ["LISTEN_FDNAMES"] = names
try:
    servers = bbipc.activated_servers()
    print(len(servers), list(servers.names), [one.fileno() for one in servers])
except (bbipc.SocketError, ValueError) as error:
    print(type(error).__name__, error)
print([name for name in os.environ if name.startswith("LISTEN_")])
print([os.get_inheritable(3 + place) for place in range(len(made))])
"""


def activated(kinds: str, names: str = "", process: str = "", **environment: str) -> list[str]:
    command = [sys.executable, "-c", PROTOCOL, kinds, names, process]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, env={**os.environ, **environment}
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


only_linux = pytest.mark.skipif(not LINUX, reason="the program listens at abstract names, which only Linux has")


@only_linux
def test_servers_are_taken_over_in_their_order() -> None:
    assert activated("server server", "one:two") == ["2 ['one', 'two'] [3, 4]", "[]", "[False, False]"]
    assert activated("server") == ["1 ['unknown'] [3]", "[]", "[False]"]
    assert activated("")[0] == "0 [] []"


@only_linux
def test_what_is_meant_for_another_process_is_left_alone() -> None:
    assert activated("server", process="1") == ["0 [] []", "[]", "[True]"]


@only_linux
@pytest.mark.parametrize("kind", ["datagram", "unconnected"])
def test_where_one_is_no_server_none_is_taken_over(kind: str) -> None:
    error, variables, inheritable = activated(f"server {kind}", "a:b")
    assert error.startswith("SocketError")
    assert "descriptor 4 (b)" in error
    # Not even made close-on-exec.
    assert (variables, inheritable) == ("[]", "[True, True]")


@only_linux
def test_variables_that_are_not_systemds_are_refused() -> None:
    assert activated("server", "one:two")[0].startswith("ValueError LISTEN_FDNAMES has 2 names")
    assert activated("server", process="x")[0].startswith("ValueError the environment variable LISTEN_PID")
    assert activated("server", process="-1")[0].startswith("ValueError the environment variable LISTEN_PID")


def test_without_systemd_there_are_none() -> None:
    servers = bbipc.activated_servers()
    assert servers == []
    assert servers.names == ()
    assert servers.named("anything") == []
    assert isinstance(servers, list)


@only_posix
def test_a_count_of_descriptors_that_are_not_there_is_refused() -> None:
    output = run_program(
        """
        import os, socket, bbipc
        listening = socket.create_server(("127.0.0.1", 0))
        os.dup2(listening.fileno(), 3)
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="999")
        try:
            bbipc.activated_servers()
        except bbipc.SocketError as error:
            print("LISTEN_FDS" in os.environ, os.get_inheritable(3), error)
        """
    )
    assert output.startswith(f"False True [Errno {errno.EBADF}] cannot use descriptor ")
    assert "which LISTEN_FDS counts" in output


@only_posix
def test_a_count_that_lies_takes_no_memory() -> None:
    output = run_program(
        """
        import os, resource, bbipc
        resource.setrlimit(resource.RLIMIT_AS, (2**30, resource.getrlimit(resource.RLIMIT_AS)[1]))
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="999999999")
        try:
            bbipc.activated_servers()
        except bbipc.SocketError as error:
            print(error)
        """
    )
    assert "cannot use" in output
