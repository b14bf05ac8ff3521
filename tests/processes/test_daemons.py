"""Local servers that start again, at once, and for other users: programs of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bbipc
from bbipc import Events
from patience import PATIENCE, QEMU
from systems import WINDOWS
from tree import SUPPORT

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc who is being killed")
only_files = pytest.mark.skipif(WINDOWS, reason="Windows has no fork() and no socket files")
only_root = pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root can become another user")


def printed(name: str, *arguments: object, seconds: float = 3 * PATIENCE) -> str:
    command = [sys.executable, str(SUPPORT / name), *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=seconds).stdout


# ---- One server only ----


def assert_one_starts(directory: Path, rounds: int, seed: int) -> None:
    said = printed("rival_starters.py", directory, rounds, seed, seconds=60 + rounds)
    counts = dict(part.split(": ") for part in said.strip().split(", "))
    assert int(counts["kills"]) >= int(counts["with kills"]) >= rounds // 6


@only_linux
@pytest.mark.skipif(QEMU, reason="qemu-user is slow to start processes")
def test_of_many_starters_one_becomes_the_server(directory: Path) -> None:
    assert_one_starts(directory, 40, 1)


@only_linux
@pytest.mark.long
def test_of_many_starters_one_becomes_the_server_a_thousand_times(directory: Path) -> None:
    assert_one_starts(directory, 1000, 2)


FORKED = """
import os, sys
import bbipc

pathname, what = sys.argv[1:]
server = bbipc.make_local_server(pathname, replace_dead=True)
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    os.close(writer)
    if what == "closes":
        server.close()
    os.read(reader, 1)
    os._exit(0)
try:
    if what == "parent closes":
        server.close()
        # The child still has the socket and the lock, but no right to them.
        bbipc.make_local_server(pathname, replace_dead=True).close()
    else:
        try:
            bbipc.make_local_server(pathname, replace_dead=True)
        except bbipc.ServerAlreadyRunningError:
            pass
        else:
            raise AssertionError("the child has closed the parent's server")
        server.close()
    assert os.listdir(os.path.dirname(pathname)) == [], os.listdir(os.path.dirname(pathname))
finally:
    os.close(writer)
_, status = os.waitpid(child, 0)
assert status == 0, status
"""


@only_files
@pytest.mark.parametrize("what", ["closes", "lives on", "parent closes"])
def test_a_forked_child_neither_ends_the_lock_nor_keeps_it(directory: Path, what: str) -> None:
    subprocess.run([sys.executable, "-c", FORKED, str(directory / "s"), what], check=True, timeout=PATIENCE)


DAEMON = """
import os, sys
import bbipc

server = bbipc.make_local_server(sys.argv[1], replace_dead=True)
if os.fork():
    os._exit(0)
print(os.getpid(), flush=True)
sys.stdin.read()
os._exit(0)
"""


@only_files
def test_a_daemon_that_forks_after_it_listens_keeps_the_place(directory: Path) -> None:
    pathname = str(directory / "s")
    command = [sys.executable, "-c", DAEMON, pathname]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        assert parent.stdout.readline()
        parent.wait(PATIENCE)
        with pytest.raises(bbipc.ServerAlreadyRunningError):
            bbipc.make_local_server(pathname, replace_dead=True)
        parent.stdin.close()
        # Its end, when nobody has the pipe any more.
        assert parent.stdout.read() == b""
    bbipc.make_local_server(pathname, replace_dead=True).close()
    assert os.listdir(directory) == []


# ---- Other users ----


@only_root
@pytest.mark.skipif(QEMU, reason="qemu-user is too slow")
def test_another_user_is_refused_at_every_moment_of_a_start(directory: Path) -> None:
    seen = eval(printed("other_user.py", "refused", directory, 300))
    assert seen["EACCES"] >= 300
    assert set(seen) == {"EACCES", "ENOENT"}


@only_root
@pytest.mark.long
def test_another_user_is_refused_at_every_moment_of_ten_thousand_starts(directory: Path) -> None:
    seen = eval(printed("other_user.py", "refused", directory, 10_000))
    assert seen["EACCES"] >= 10_000
    assert set(seen) == {"EACCES", "ENOENT"}


@only_root
@pytest.mark.skipif(QEMU, reason="qemu-user is too slow")
def test_another_user_is_let_in_where_everybody_may(directory: Path) -> None:
    assert eval(printed("other_user.py", "allowed", directory, 100))["connected"] > 0


@only_root
def test_another_users_client_is_told_apart(directory: Path) -> None:
    printed("other_user.py", "credentials", directory)


# ---- Another process ----

CLIENT = """
import os, sys
import bbipc

with bbipc.connect_to_local_server(sys.argv[1]) as stream:
    told = stream.peer_credentials()
    stream.write_all(f"{os.getpid()} {told.process_id} {told.security_id}\\n".encode())
    stream.read_exactly(1, 60)
"""


def test_a_client_in_another_process_is_told_with_its_process(directory: Path) -> None:
    pathname = str(directory / "s")
    command = [sys.executable, "-c", CLIENT, pathname]
    with bbipc.make_local_server(pathname) as server, subprocess.Popen(command) as process:
        assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
        with server.accept_connection() as stream:
            client, told, security = stream.read_until(b"\n", PATIENCE).decode().split()
            who = stream.peer_credentials()
            stream.write_all(b".")
        assert process.wait(PATIENCE) == 0
    assert who.process_id == int(client)
    assert int(told) == os.getpid()
    assert security == str(who.security_id)
    if sys.platform != "win32":
        assert (who.user_id, who.group_id) == (os.geteuid(), os.getegid())
