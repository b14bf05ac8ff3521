"""Who may connect to a local server, and what it takes the place of."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import bbipc
from bbipc import Events
from descriptors import open_descriptors
from patience import PATIENCE
from systems import PATHNAME_MAX, WINDOWS

only_files = pytest.mark.skipif(WINDOWS, reason="the name of a pipe is no file")


@pytest.fixture
def pathname(directory: Path) -> str:
    return str(directory / "s")


def leave_dead_socket(pathname: str) -> None:
    """As a server that is killed."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(pathname)
        dead.listen(1)


def assert_serves(server: bbipc.LocalServer, pathname: str) -> None:
    with bbipc.connect_to_local_server(pathname) as client:
        assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
        with server.accept_connection() as stream:
            client.write_all(b"there")
            assert stream.read_exactly(5, PATIENCE) == b"there"


def replace(pathname: str) -> bbipc.LocalServer:
    return bbipc.make_local_server(pathname, replace_dead=True)


def names_in(pathname: str) -> list[str]:
    return sorted(os.listdir(os.path.dirname(pathname)))


# ---- Taking the place of a dead server ----


def test_without_a_dead_server_it_is_one_as_any_other(pathname: str) -> None:
    for _ in range(3):
        with replace(pathname) as server:
            assert_serves(server, pathname)
        if not WINDOWS:
            assert names_in(pathname) == []


@only_files
def test_a_dead_servers_socket_is_replaced(pathname: str) -> None:
    leave_dead_socket(pathname)
    dead = os.lstat(pathname)
    with replace(pathname) as server:
        assert_serves(server, pathname)
        assert names_in(pathname) == ["s", "s.lock"]
        assert os.lstat(pathname) != dead
        assert stat.S_IMODE(os.stat(pathname + ".lock").st_mode) == 0o600
    assert names_in(pathname) == []


def test_a_living_server_is_left_alone(pathname: str) -> None:
    with replace(pathname) as server:
        for _ in range(3):
            with pytest.raises(bbipc.ServerAlreadyRunningError, match="another server") as caught:
                replace(pathname)
            assert caught.value.errno == errno.EADDRINUSE
            assert isinstance(caught.value, bbipc.SocketError)
        assert_serves(server, pathname)


def test_a_living_server_that_holds_no_lock_is_left_alone(pathname: str) -> None:
    with bbipc.make_local_server(pathname) as server:
        with pytest.raises(bbipc.ServerAlreadyRunningError):
            replace(pathname)
        if not WINDOWS:
            assert names_in(pathname) == ["s"]
            # The one that looked is gone, and no client.
            assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
            server.accept_connection().close()
        assert_serves(server, pathname)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a full backlog from nobody")
def test_a_living_server_whose_backlog_is_full_is_left_alone(pathname: str) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(bbipc.make_local_server(pathname, backlog=0))
        stack.enter_context(bbipc.connect_to_local_server(pathname))
        with pytest.raises(bbipc.SocketError) as full:
            bbipc.connect_to_local_server(pathname)
        assert full.value.errno == errno.EAGAIN
        with pytest.raises(bbipc.ServerAlreadyRunningError):
            replace(pathname)
        server.accept_connection().close()


@only_files
@pytest.mark.parametrize("also_linked", [False, True])
def test_what_a_start_leaves_that_is_killed_on_the_way_hinders_nobody(pathname: str, also_linked: bool) -> None:
    with open(pathname + ".lock", "w"):
        pass
    leave_dead_socket(pathname + ".new")
    if also_linked:
        os.link(pathname + ".new", pathname)
    with replace(pathname) as server:
        assert_serves(server, pathname)
        assert names_in(pathname) == ["s", "s.lock"]
    assert names_in(pathname) == []


@only_files
def test_the_file_of_a_later_server_is_left_alone(pathname: str) -> None:
    with replace(pathname):
        os.unlink(pathname)
        os.unlink(pathname + ".lock")
        later = replace(pathname)
    assert names_in(pathname) == ["s", "s.lock"]
    with later, pytest.raises(bbipc.ServerAlreadyRunningError):
        replace(pathname)
    assert names_in(pathname) == []


@only_files
def test_a_file_that_stays_is_replaced_by_the_next_server(pathname: str) -> None:
    bbipc.make_local_server(pathname, replace_dead=True, delete_on_close=False).close()
    assert names_in(pathname) == ["s"]
    with replace(pathname) as server:
        assert_serves(server, pathname)


@only_files
@pytest.mark.parametrize("base_size", [1, 12, 40])
def test_the_longest_pathname_is_long_enough(directory: Path, monkeypatch: pytest.MonkeyPatch, base_size: int) -> None:
    inner = directory / ("d" * (PATHNAME_MAX - len(str(directory)) - 2 - base_size))
    inner.mkdir()
    longest = str(inner / ("s" * base_size))
    assert len(longest) == PATHNAME_MAX
    if sys.platform != "linux" and base_size < 20:
        with pytest.raises(bbipc.SocketError, match="use a shorter directory") as caught:
            replace(longest)
        assert caught.value.errno == errno.ENAMETOOLONG
        return
    leave_dead_socket(longest)
    # The second is absolute too long for a socket.
    monkeypatch.chdir(inner)
    for name in (longest, "t" * (base_size + 20), "u"):
        with replace(name) as server:
            assert_serves(server, name)
            assert sorted(os.listdir(inner)) == sorted([os.path.basename(name), os.path.basename(name) + ".lock"])
        assert os.listdir(inner) == []


# ---- What is not to be replaced ----


def make_file(pathname: str) -> None:
    with open(pathname, "w") as file:
        file.write("ten years of work")


def make_others_socket(pathname: str) -> None:
    assert sys.platform != "win32"
    leave_dead_socket(pathname)
    os.chown(pathname, 65534, 65534)


def make_others_lock(pathname: str) -> None:
    assert sys.platform != "win32"
    make_file(pathname + ".lock")
    os.chown(pathname + ".lock", 65534, 65534)


def make_dangling_link(pathname: str) -> None:
    os.symlink("nowhere", pathname)


KEPT: list[tuple[Callable[[str], None], int, str]] = []
if sys.platform != "win32":
    KEPT = [
        (make_file, errno.EADDRINUSE, "a regular file is there, not a socket"),
        (os.mkdir, errno.EADDRINUSE, "a directory is there"),
        (os.mkfifo, errno.EADDRINUSE, "a FIFO is there"),
        (make_dangling_link, errno.EADDRINUSE, "a symbolic link is there"),
        (lambda name: os.mkdir(name + ".lock"), errno.EISDIR, "a directory is at .*s.lock'"),
        (lambda name: os.mkfifo(name + ".lock"), errno.EACCES, "a FIFO is at .*s.lock'"),
        (lambda name: make_dangling_link(name + ".lock"), errno.ELOOP, "a symbolic link is at .*s.lock'"),
        (lambda name: make_file(name + ".new"), errno.EADDRINUSE, "a regular file is at .*s.new'"),
    ]
    if os.geteuid() == 0:
        KEPT += [
            (
                make_others_socket,
                errno.EADDRINUSE,
                "a socket of another user is there, of the one with the number 65534",
            ),
            (make_others_lock, errno.EACCES, "the file of the user with the number 65534"),
        ]


@only_files
@pytest.mark.parametrize(("make", "number", "words"), KEPT)
def test_what_no_dead_server_left_is_kept(pathname: str, make: Callable[[str], None], number: int, words: str) -> None:
    make(pathname)
    there = {name: os.lstat(os.path.join(os.path.dirname(pathname), name)) for name in names_in(pathname)}
    before = open_descriptors()
    for _ in range(2):
        with pytest.raises(bbipc.SocketError, match=words) as caught:
            replace(pathname)
        assert not isinstance(caught.value, bbipc.ServerAlreadyRunningError)
        if sys.platform != "freebsd" or number != errno.ELOOP:
            assert caught.value.errno == number
    assert open_descriptors() == before
    after = {name: os.lstat(os.path.join(os.path.dirname(pathname), name)) for name in names_in(pathname)}
    assert {name: (one.st_ino, one.st_mode, one.st_size) for name, one in there.items()} == {
        name: (one.st_ino, one.st_mode, one.st_size) for name, one in after.items()
    }


@only_files
def test_a_socket_of_datagrams_that_lives_is_kept(pathname: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(pathname)
        with pytest.raises(bbipc.SocketError, match="no server of streams has left") as caught:
            replace(pathname)
        assert caught.value.errno == errno.EADDRINUSE
        assert names_in(pathname) == ["s"]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.sendto(b"alive", pathname)
        assert one.recv(5) == b"alive"


# ---- Permissions ----


@pytest.fixture
def _any_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@only_files
@pytest.mark.usefixtures("_any_umask")
@pytest.mark.parametrize("replace_dead", [False, True])
def test_the_file_has_the_permissions_whatever_the_umask(pathname: str, replace_dead: bool) -> None:
    for umask in (0o077, 0, 0o777):
        for permissions in (0o600, 0o666, 0o620, 0o777, 0):
            os.umask(umask)
            with bbipc.make_local_server(pathname, permissions=permissions, replace_dead=replace_dead):
                assert stat.S_IMODE(os.stat(pathname).st_mode) == permissions
            assert os.umask(umask) == umask


@pytest.mark.parametrize("permissions", [0o600, 0o666])
def test_a_server_with_permissions_serves(pathname: str, permissions: int) -> None:
    with bbipc.make_local_server(pathname, permissions=permissions) as server:
        assert_serves(server, pathname)


@pytest.mark.parametrize("permissions", [-1, 0o1000, 0o10600, 1 << 40, *([0o644, 0] if WINDOWS else [])])
def test_other_permissions_are_refused(pathname: str, permissions: int) -> None:
    with pytest.raises(ValueError, match="permissions must be"):
        bbipc.make_local_server(pathname, permissions=permissions)
    with pytest.raises(TypeError):
        bbipc.make_local_server(pathname, permissions="0600")  # type: ignore[arg-type]
    assert not os.path.lexists(pathname)


# ---- Who is there ----


def test_both_ends_tell_this_process(pathname: str) -> None:
    with bbipc.make_local_server(pathname) as server, bbipc.connect_to_local_server(pathname) as client:
        assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
        with server.accept_connection() as stream:
            for one in (client, stream):
                told = one.peer_credentials()
                assert isinstance(told, bbipc.PeerCredentials)
                assert told.process_id == os.getpid()
                if sys.platform == "win32":
                    assert (told.user_id, told.group_id) == (None, None)
                    assert told.security_id is not None
                    assert told.security_id.startswith("S-1-5-")
                else:
                    assert told == (os.geteuid(), os.getegid(), os.getpid(), None)


def test_the_credentials_of_a_closed_stream(pathname: str) -> None:
    with bbipc.make_local_server(pathname):
        client = bbipc.connect_to_local_server(pathname)
        client.close()
        with pytest.raises(bbipc.SocketClosedError):
            client.peer_credentials()
