"""The README: its programs run, as do all servers, with a client that has gone again; and it names what is there."""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path

import pytest

import bbipc
from child_processes import Processes, connect, ended, eventually, receive_exactly, reset
from example_programs import LISTENERS, answers, listening_command, message, receive_message
from tree import EXAMPLES, ROOT

README = ROOT / "README.md"


def readme_programs() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("namespace", ["tcp", "local"])
def test_server_and_client_of_the_readme(processes: Processes, directory: Path, namespace: str) -> None:
    server_program, client_program = readme_programs()[2:]
    # A free port, and the change that the README describes.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    changes = {"12345": port}
    if namespace == "local":
        changes = {'"tcp:127.0.0.1:12345"': repr(f"local:{directory / 'echo'}")}
    for old, new in changes.items():
        assert old in server_program
        assert old in client_program
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


def test_server_and_client_of_the_readme_for_messages(processes: Processes, directory: Path) -> None:
    pathname = str(directory / "capitals")
    server_program, client_program = (
        program.replace('"local:/tmp/capitals"', repr(f"local:{pathname}")) for program in readme_programs()[:2]
    )
    assert pathname.replace("\\", "\\\\") in server_program
    server = processes.start([sys.executable, "-c", server_program])
    eventually(lambda: server.poll() is not None or answers_messages(pathname), "the server listens")
    for _ in range(2):
        completed = processes.run([sys.executable, "-c", client_program])
        assert (completed.returncode, completed.stdout, completed.stderr) == (0, "HELLO WORLD\n", "")
    server.kill()


def answers_messages(pathname: str) -> bool:
    try:
        with bbipc.connect_to_local_server(pathname) as stream:
            stream.send_message(b"ping", timeout=10)
            return stream.receive_message(timeout=10) == b"PING"
    except bbipc.BbipcError:
        return False


#: In front of a program: the client of the first CONNECTION_AVAILABLE has gone when the program accepts. On macOS and
#: FreeBSD that is a client that resets its TCP connection.
FIRST_HAS_GONE = """
import bbipc
from bbipc.sockets import StreamServer

def accept(server, kind, accept=StreamServer._accept, gone=[]):
    stream = accept(server, kind)
    if not gone:
        gone.append(stream.close())
        raise bbipc.NoConnectionAvailableError("gone")
    return stream

StreamServer._accept = accept
"""


@pytest.mark.parametrize("name", ["README.md", *LISTENERS])
def test_a_client_that_has_gone_again_ends_no_server(processes: Processes, directory: Path, name: str) -> None:
    if name == "README.md":
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = str(listener.getsockname()[1])
        server = processes.start([sys.executable, "-c", FIRST_HAS_GONE + readme_programs()[2].replace("12345", port)])
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
        elif name == "broadcast.py":
            client.sendall(message(b"ping"))
            assert receive_message(client) == b"ping"
        else:
            client.sendall(b"ping")
            assert receive_exactly(client, 4) == b"ping"


def test_readme_names_what_is_there() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (README.parent / link).exists(), link
