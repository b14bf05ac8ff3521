"""A server's start is killed at each of its system calls: strace's fault injection. The next start must succeed."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import bbipc
from patience import PATIENCE, QEMU
from systems import LINUX

pytestmark = [
    pytest.mark.skipif(not LINUX, reason="strace is a program for Linux"),
    pytest.mark.skipif(QEMU, reason="strace would see the calls of qemu-user"),
    pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace: apt-get install strace"),
]

#: Between two calls that the library does not make.
PROGRAM = """
import os
import bbipc

os.getppid()
server = bbipc.make_local_server("s", replace_dead=True, permissions=0o666)
server.close()
os.getppid()
"""


def traced(directory: Path, *options: str) -> str:
    """strace's list of the program's calls."""
    log = directory.parent / f"{directory.name}.log"
    command = ["strace", "-o", str(log), *options, sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=directory, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False)
    if "PTRACE" in done.stderr:
        pytest.skip(f"strace can't start a process: {done.stderr}")
    text = log.read_text(errors="replace")
    log.unlink()
    return text


def calls_between_the_marks(log: str) -> list[tuple[str, int]]:
    """The names, and which call of its name each is."""
    counts: dict[str, int] = {}
    found, within = [], False
    for call in re.findall(r"^(\w+)\(", log, re.MULTILINE):
        counts[call] = counts.get(call, 0) + 1
        if call == "getppid":
            within = not within
        elif within:
            found.append((call, counts[call]))
    return found


def prepare(directory: Path, kind: str) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    (directory / "s2").write_bytes(b"ten years of work")
    if kind == "dead":
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(directory / "s"))


@pytest.mark.parametrize("kind", ["dead", "nothing"])
def test_a_start_that_is_killed_anywhere_hinders_nobody(directory: Path, kind: str) -> None:
    place = directory / "d"
    prepare(place, kind)
    calls = [call for call in calls_between_the_marks(traced(place)) if not call[0].startswith("syscall_")]
    assert {"flock", "statx", "bind", "listen", "unlink"} <= {name for name, _ in calls}
    left = set()
    for name, number in calls:
        prepare(place, kind)
        log = traced(place, "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={number}")
        assert "killed by SIGKILL" in log, (name, number)
        left.add(tuple(sorted(os.listdir(place))))
        with bbipc.make_local_server(place / "s", replace_dead=True) as server:
            bbipc.connect_to_local_server(place / "s").close()
            assert bbipc.poll_socket(server, bbipc.Events.CONNECTION_AVAILABLE, PATIENCE)
        assert os.listdir(place) == ["s2"], (name, number)
        assert (place / "s2").read_bytes() == b"ten years of work"
    # It was killed with the lock alone, with the new file, and with all.
    assert {("s", "s.lock", "s.new", "s2"), ("s", "s.lock", "s2")} <= left
