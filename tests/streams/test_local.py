"""The local namespace: pathnames, and the file that a server makes and deletes."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union

import pytest

import bbipc
import named_pipes
from bbipc import Events, LocalServer, LocalStream
from descriptors import dropping
from patience import PATIENCE
from systems import BIND_FOLLOWS_LINKS, FULL_BACKLOG, PATHNAME_MAX, WINDOWS, backlog_holds
from transports import Transport, connect_with_python

Pathname = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]

#: What every pipe's name begins with. It counts too.
PIPES = "\\\\.\\pipe\\"

#: Bytes (unix(7)); on Windows UTF-16 units of a path.
LIMIT = PATHNAME_MAX - (len(PIPES) if WINDOWS else 0)

only_files = pytest.mark.skipif(WINDOWS, reason="the name of a pipe is no file")
only_pipes = pytest.mark.skipif(not WINDOWS, reason="only Windows has named pipes of this kind")


@pytest.fixture
def pathname(directory: Path) -> str:
    return str(directory / "s")


def assert_they_talk(server: LocalServer, pathname: Pathname) -> None:
    with bbipc.connect_to_local_server(pathname) as stream:
        assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
        with server.accept_connection() as accepted:
            stream.write_all(b"there")
            assert accepted.read_exactly(5, PATIENCE) == b"there"
            accepted.write_all(b"back")
            assert stream.read_exactly(4, PATIENCE) == b"back"


# ---- Pathnames ----


class BytesPath:
    """A path-like whose path is bytes."""

    def __init__(self, path: bytes) -> None:
        self.path = path

    def __fspath__(self) -> bytes:
        return self.path


def every_form(pathname: str) -> list[Pathname]:
    return [pathname, os.fsencode(pathname), Path(pathname), BytesPath(os.fsencode(pathname))]


NAMES = ["s", "with space", "stra\u00dfe-\u732b", "\udcff\udc80"]
#: Of these Windows doesn't take every part in a path.
NAMES += ["\U0001f408", "'%$"] if WINDOWS else ["line\nbreak", "'\"%$*", "..."]


@pytest.mark.parametrize("name", NAMES)
def test_every_form_of_every_name_is_taken(directory: Path, name: str) -> None:
    pathname = str(directory / name)
    for form in every_form(pathname):
        plain = os.fspath(form)
        with bbipc.make_local_server(form) as server:
            assert isinstance(server, LocalServer)
            assert server.local_pathname == plain
            assert WINDOWS or stat.S_ISSOCK(os.stat(pathname).st_mode)
            assert repr(server) == f"<LocalServer {plain!r}>"
            for other_form in every_form(pathname):
                with bbipc.connect_to_local_server(other_form) as stream:
                    assert isinstance(stream, LocalStream)
                    assert stream.local_pathname == os.fspath(other_form)
                with server.accept_connection() as accepted:
                    assert isinstance(accepted, LocalStream)
                    assert accepted.local_pathname == plain
                    assert repr(accepted) == f"<LocalStream {plain!r}>"
        assert not os.path.exists(pathname)


def test_relative_pathnames_are_taken(inside: Path) -> None:
    # On Windows it needs a separator to be one.
    with bbipc.make_local_server("./s" if WINDOWS else "s") as server:
        assert server.local_pathname == ("./s" if WINDOWS else "s")
        assert_they_talk(server, "./s")
        assert_they_talk(server, inside / "s")


@pytest.fixture
def plain_name(directory: Path) -> str:
    """One that nobody else has."""
    return directory.name


@only_pipes
def test_a_plain_name_is_that_of_a_pipe(inside: Path, plain_name: str) -> None:
    with bbipc.make_local_server(plain_name) as server:
        assert server.local_pathname == plain_name
        for name in (
            plain_name,
            plain_name.encode(),
            plain_name.upper(),
            PIPES + plain_name,
            "//./PIPE/" + plain_name,
            "\\\\?\\pipe\\" + plain_name,
        ):
            assert_they_talk(server, name)
        # A path is something else.
        for path in (inside / plain_name, "./" + plain_name):
            with pytest.raises(bbipc.NoLocalServerError):
                bbipc.connect_to_local_server(path)
    with bbipc.make_local_server("//./pipe/" + plain_name) as server:
        assert server.local_pathname == "//./pipe/" + plain_name
        assert_they_talk(server, plain_name)


@only_pipes
def test_a_path_is_the_same_pipe_however_it_is_written(inside: Path, directory: Path) -> None:
    with bbipc.make_local_server(directory / "inner" / "s") as server:
        straight = str(directory / "inner" / "s")
        for path in (
            straight.upper(),
            straight.replace("\\", "/"),
            "\\\\?\\" + straight,
            "inner\\s",
            "inner/../inner/./s",
            f"{directory}/other/../inner/s",
            PIPES + straight,
        ):
            assert_they_talk(server, path)
        with named_pipes.connect(straight) as stranger:
            assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
            with server.accept_connection() as accepted:
                stranger.sendall(b"a pipe")
                assert accepted.read_exactly(6, PATIENCE) == b"a pipe"
    assert list(directory.iterdir()) == []


@only_pipes
@pytest.mark.parametrize("path", ["//machine/share/s", "\\\\machine\\share\\dir\\s"])
def test_a_path_on_another_machine_is_a_pipe_on_this_one(path: str) -> None:
    with bbipc.make_local_server(path) as server:
        assert_they_talk(server, path)


def padded(directory: Path, size: int) -> bytes:
    """A pathname of ``size`` bytes."""
    start = os.fsencode(directory) + b"/"
    return start + b"x" * (size - len(start))


def test_the_longest_pathname_works(directory: Path) -> None:
    longest = padded(directory, LIMIT)
    with bbipc.make_local_server(longest) as server:
        assert_they_talk(server, longest)
        connect_with_python(server).close()
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("size", [LIMIT + 1, LIMIT + 2, 4096, 1_000_000])
def test_a_pathname_too_long_is_refused_and_the_limit_stated(directory: Path, size: int) -> None:
    # On Windows what counts is the pipe's whole name.
    extra = len(PIPES) if WINDOWS else 0
    for action in (bbipc.make_local_server, bbipc.connect_to_local_server):
        with pytest.raises(bbipc.SocketError, match=rf"\b{size + extra}\b.*\b{LIMIT + extra}\b") as caught:
            action(padded(directory, size))
        assert caught.value.errno == errno.ENAMETOOLONG
        assert not isinstance(caught.value, bbipc.NoLocalServerError)


def test_the_limit_counts_bytes_not_characters(directory: Path) -> None:
    # On Windows UTF-16 units: cats beyond the first plane have two of them, and those within it one.
    name = "\U0001f408" * 120 if WINDOWS else "\u732b" * 30
    long = f"{directory}/{name}"
    size = len(long.encode("utf-16-le")) // 2 if WINDOWS else len(os.fsencode(long))
    assert len(long) <= LIMIT < size
    with pytest.raises(bbipc.SocketError) as caught:
        bbipc.make_local_server(long)
    assert caught.value.errno == errno.ENAMETOOLONG


@only_pipes
def test_a_name_at_the_limit_may_have_more_bytes(directory: Path) -> None:
    start = f"{directory}/"
    longest = start + "\u732b" * (LIMIT - len(start))
    with bbipc.make_local_server(longest) as server:
        assert_they_talk(server, longest)


MALFORMED = ["", b"", "a\0b", b"a\0b", "\0abstract", b"\0", "s\0", BytesPath(b"")]
# A lone surrogate stands for no byte of a pathname; but it may be in a pipe's name, whose beginning is not enough.
MALFORMED += [PIPES, "//./pipe/", b"\xff"] if WINDOWS else ["\ud800"]


@pytest.mark.parametrize("bad", MALFORMED)
def test_a_malformed_pathname_is_refused(inside: Path, bad: Pathname) -> None:
    for action in (bbipc.make_local_server, bbipc.connect_to_local_server):
        with pytest.raises(ValueError, match=r"pathname|surrogates|codec"):
            action(bad)
    assert list(inside.iterdir()) == []


@pytest.mark.parametrize("bad", [None, 3, 1.5, ["s"], bytearray(b"s"), object()])
def test_a_pathname_of_another_type_is_refused(inside: Path, bad: Any) -> None:
    for action in (bbipc.make_local_server, bbipc.connect_to_local_server):
        with pytest.raises(TypeError, match=type(bad).__name__):
            action(bad)
    assert list(inside.iterdir()) == []


@pytest.mark.parametrize("backlog", [-1, 2**31, 2**70])
def test_a_backlog_out_of_range_is_refused(pathname: str, backlog: int) -> None:
    with pytest.raises(ValueError, match="backlog must be 0 to 2147483647"):
        bbipc.make_local_server(pathname, backlog=backlog)
    assert not os.path.exists(pathname)


@pytest.mark.parametrize("backlog", ["1", 1.0, None])
def test_a_backlog_that_is_no_integer_is_refused(pathname: str, backlog: Any) -> None:
    with pytest.raises(TypeError):
        bbipc.make_local_server(pathname, backlog=backlog)
    assert not os.path.exists(pathname)


def test_options_are_given_by_name(pathname: str) -> None:
    with pytest.raises(TypeError):
        bbipc.make_local_server(pathname, 5)  # type: ignore[misc]


# ---- Where no server can be made ----


@only_pipes
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_files_are_nothing_to_a_server(pathname: str, kind: str) -> None:
    make_existing(kind, pathname)
    with bbipc.make_local_server(pathname) as server:
        assert_they_talk(server, pathname)
    assert os.path.isdir(pathname) if kind == "directory" else Path(pathname).read_bytes() == b"precious"


@only_pipes
def test_a_directory_need_not_exist(directory: Path) -> None:
    with bbipc.make_local_server(directory / "missing" / "s") as server:
        assert_they_talk(server, directory / "missing" / "s")
    assert list(directory.iterdir()) == []


def make_existing(kind: str, pathname: str) -> None:
    if kind == "file":
        Path(pathname).write_bytes(b"precious")
    elif kind == "directory":
        os.mkdir(pathname)
    elif kind == "symbolic link to nothing":
        os.symlink("nothing", pathname)
    elif kind == "pipe":
        assert sys.platform != "win32"
        os.mkfifo(pathname)
    else:
        assert kind == "abandoned socket"
        bbipc.make_local_server(pathname, delete_on_close=False).close()


EXISTING = ["file", "directory", "pipe", "abandoned socket"]
if not BIND_FOLLOWS_LINKS:
    EXISTING.append("symbolic link to nothing")


@only_files
@pytest.mark.parametrize("kind", EXISTING)
@pytest.mark.parametrize("delete_on_close", [False, True])
def test_what_exists_is_in_use_and_stays(pathname: str, kind: str, delete_on_close: bool) -> None:
    make_existing(kind, pathname)
    before = os.lstat(pathname)
    with pytest.raises(bbipc.SocketError, match=re.escape(repr(pathname))) as caught:
        bbipc.make_local_server(pathname, delete_on_close=delete_on_close)
    assert caught.value.errno == errno.EADDRINUSE
    assert os.lstat(pathname) == before


def test_two_servers_do_not_share_a_pathname(pathname: str) -> None:
    with bbipc.make_local_server(pathname) as server:
        with pytest.raises(bbipc.SocketError) as caught:
            bbipc.make_local_server(pathname)
        assert caught.value.errno == errno.EADDRINUSE
        assert_they_talk(server, pathname)


@only_pipes
@pytest.mark.parametrize("whose", ["ours", "a stranger's"])
def test_a_name_is_taken_while_a_stream_of_its_server_lives(local: Transport, whose: str) -> None:
    """Its last handle takes a pipe's name with it; until then no client finds anybody, and none is told so."""
    server = local.make_server()
    assert isinstance(server, LocalServer)
    name = server.local_pathname
    client = local.connect(server) if whose == "ours" else connect_with_python(server)
    accepted = local.accept(server)
    server.close()
    with pytest.raises(bbipc.SocketError, match="still open") as taken:
        bbipc.make_local_server(name)
    assert (taken.value.errno, taken.value.winerror) == (errno.EADDRINUSE, 10048)  # type: ignore[attr-defined]
    with pytest.raises(bbipc.SocketError) as busy:
        bbipc.connect_to_local_server(name)
    assert (busy.value.errno, busy.value.winerror) == (errno.EAGAIN, 231)  # type: ignore[attr-defined]
    assert not isinstance(busy.value, bbipc.NoLocalServerError)
    accepted.close()
    client.close()
    with pytest.raises(bbipc.NoLocalServerError) as gone:
        bbipc.connect_to_local_server(name)
    assert (gone.value.errno, gone.value.winerror) == (errno.ENOENT, 2)  # type: ignore[attr-defined]
    with bbipc.make_local_server(name) as server:
        assert_they_talk(server, name)


@only_pipes
def test_a_strangers_server_has_its_name(pathname: str) -> None:
    assert sys.platform == "win32"
    with named_pipes.PipeListener(pathname):
        with pytest.raises(bbipc.SocketError) as caught:
            bbipc.make_local_server(pathname)
        assert caught.value.errno == errno.EADDRINUSE
        with bbipc.connect_to_local_server(pathname) as stream:
            assert stream.connection_succeeded()


@only_files
def test_a_missing_directory_is_a_socket_error(directory: Path) -> None:
    with pytest.raises(bbipc.SocketError, match="directory") as caught:
        bbipc.make_local_server(directory / "missing" / "s")
    assert caught.value.errno == errno.ENOENT
    assert not isinstance(caught.value, bbipc.NoLocalServerError)


# ---- Where no server listens ----


def test_no_file_means_no_server(pathname: str) -> None:
    with pytest.raises(bbipc.NoLocalServerError, match=re.escape(repr(pathname))) as caught:
        bbipc.connect_to_local_server(pathname)
    assert caught.value.errno == errno.ENOENT


def test_no_directory_means_no_server(directory: Path) -> None:
    with pytest.raises(bbipc.NoLocalServerError):
        bbipc.connect_to_local_server(directory / "missing" / "s")


def test_a_file_for_a_directory_means_no_server(directory: Path) -> None:
    (directory / "file").touch()
    with pytest.raises(bbipc.NoLocalServerError):
        bbipc.connect_to_local_server(directory / "file" / "s")


@pytest.mark.parametrize("kind", ["file", "directory"] if WINDOWS else EXISTING)
def test_a_file_that_nobody_listens_on_means_no_server(pathname: str, kind: str) -> None:
    make_existing(kind, pathname)
    with pytest.raises(bbipc.NoLocalServerError, match=re.escape(repr(pathname))) as caught:
        bbipc.connect_to_local_server(pathname)
    assert caught.value.errno in (errno.ENOENT, errno.ECONNREFUSED)


@only_files
def test_a_socket_that_does_not_listen_means_no_server(pathname: str) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(pathname)
        with pytest.raises(bbipc.NoLocalServerError):
            bbipc.connect_to_local_server(pathname)


@only_files
def test_a_socket_of_another_type_is_an_error(pathname: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(pathname)
        with pytest.raises(bbipc.SocketError) as caught:
            bbipc.connect_to_local_server(pathname)
        assert caught.value.errno == errno.EPROTOTYPE


# ---- A full backlog ----


def fill_backlog(transport: Transport, server: LocalServer) -> int:
    count = 0
    while True:
        try:
            transport.connect(server)
        except bbipc.SocketError as error:
            if error.errno != FULL_BACKLOG:
                raise
            return count
        count += 1


@pytest.fixture
def local(directory: Path) -> Iterator[Transport]:
    made = Transport("local", directory)
    yield made
    made.close()


@pytest.mark.parametrize("backlog", [0, 1, 5])
def test_a_full_backlog_says_so(local: Transport, backlog: int) -> None:
    server = local.make_server(backlog=backlog)
    assert isinstance(server, LocalServer)
    assert backlog_holds(fill_backlog(local, server), backlog)
    with pytest.raises(bbipc.SocketError, match="backlog is full") as caught:
        bbipc.connect_to_local_server(server.local_pathname)
    assert caught.value.errno == FULL_BACKLOG
    assert getattr(caught.value, "winerror", 231) == 231
    # Where the system does not tell the two apart, it may be either.
    assert isinstance(caught.value, bbipc.NoLocalServerError) is (errno.ECONNREFUSED == FULL_BACKLOG)
    local.accept(server)
    with bbipc.connect_to_local_server(server.local_pathname) as stream:
        assert stream.connection_succeeded()


def test_a_stream_may_write_and_close_before_it_is_accepted(local: Transport) -> None:
    server = local.make_server()
    stream = local.connect(server)
    assert stream.determined()
    assert stream.write(b"before anybody looked") == 21
    stream.close()
    accepted = local.accept(server)
    assert accepted.read_exactly(21, PATIENCE) == b"before anybody looked"
    assert accepted.end_of_data()


# ---- The file that the server made ----


def test_close_deletes_the_file(pathname: str) -> None:
    server = bbipc.make_local_server(pathname)
    server.close()
    assert not os.path.lexists(pathname)
    with bbipc.make_local_server(pathname) as server:
        assert_they_talk(server, pathname)


def test_a_server_that_is_dropped_deletes_its_file(pathname: str) -> None:
    with pytest.warns(ResourceWarning, match="unclosed"), dropping():
        bbipc.make_local_server(pathname)
    assert not os.path.lexists(pathname)


@only_pipes
@pytest.mark.parametrize("delete_on_close", [False, True])
def test_a_pipes_name_goes_with_its_server(pathname: str, delete_on_close: bool) -> None:
    for _ in range(2):
        bbipc.make_local_server(pathname, delete_on_close=delete_on_close).close()
        with pytest.raises(bbipc.NoLocalServerError):
            bbipc.connect_to_local_server(pathname)


@only_files
def test_close_leaves_the_file_if_told(pathname: str) -> None:
    bbipc.make_local_server(pathname, delete_on_close=False).close()
    assert stat.S_ISSOCK(os.stat(pathname).st_mode)
    with pytest.raises(bbipc.NoLocalServerError):
        bbipc.connect_to_local_server(pathname)


def test_accepted_streams_that_close_leave_the_file(local: Transport) -> None:
    server = local.make_server()
    assert isinstance(server, LocalServer)
    stream = local.connect(server)
    local.accept(server).close()
    stream.close()
    assert_they_talk(server, server.local_pathname)


@only_files
def test_close_does_not_miss_a_file_that_is_gone(pathname: str) -> None:
    server = bbipc.make_local_server(pathname)
    os.unlink(pathname)
    server.close()
    assert server.closed


@only_files
def test_close_does_not_miss_a_directory_that_is_gone(directory: Path) -> None:
    (directory / "inner").mkdir()
    server = bbipc.make_local_server(directory / "inner" / "s")
    (directory / "inner" / "s").unlink()
    (directory / "inner").rmdir()
    server.close()


@only_files
@pytest.mark.parametrize("kind", ["file", "directory", "symbolic link to nothing", "pipe"])
def test_close_leaves_what_has_taken_the_place_of_its_file(pathname: str, kind: str) -> None:
    server = bbipc.make_local_server(pathname)
    os.unlink(pathname)
    make_existing(kind, pathname)
    before = os.lstat(pathname)
    server.close()
    assert os.lstat(pathname) == before


@only_files
def test_close_leaves_the_file_of_another_server(pathname: str) -> None:
    # More than once: a file system may give the inode that has become free to the next file.
    servers = []
    for _ in range(5):
        if servers:
            os.unlink(pathname)
        servers.append(bbipc.make_local_server(pathname))
    last = servers.pop()
    for server in servers:
        server.close()
    assert_they_talk(last, pathname)
    last.close()
    assert not os.path.lexists(pathname)


@only_files
def test_close_leaves_a_link_to_its_own_file(directory: Path, pathname: str) -> None:
    server = bbipc.make_local_server(pathname)
    os.rename(pathname, directory / "moved")
    os.symlink("moved", pathname)
    server.close()
    assert os.path.islink(pathname)
    assert (directory / "moved").is_socket()


@only_files
def test_close_deletes_nothing_but_its_own_name(directory: Path, pathname: str) -> None:
    server = bbipc.make_local_server(pathname)
    os.link(pathname, directory / "second name")
    server.close()
    assert [entry.name for entry in directory.iterdir()] == ["second name"]


@only_files
def test_close_finds_its_file_from_another_directory(inside: Path) -> None:
    (inside / "elsewhere").mkdir()
    server = bbipc.make_local_server("s")
    os.chdir("elsewhere")
    Path("s").write_bytes(b"somebody else's")
    server.close()
    assert not (inside / "s").exists()
    assert (inside / "elsewhere" / "s").read_bytes() == b"somebody else's"
    os.chdir(inside)


@only_files
def test_a_pathname_that_leads_upwards_is_found_from_another_directory(inside: Path) -> None:
    (inside / "here").mkdir()
    os.chdir("here")
    server = bbipc.make_local_server("../s")
    os.chdir("/")
    server.close()
    assert not (inside / "s").exists()


CLOSE_IN_CHILD = """
import os, sys
import bbipc

pathname, how = sys.argv[1:]
server = bbipc.make_local_server(pathname)
child = os.fork()
if child == 0:
    if how == "close":
        server.close()
    elif how == "drop":
        import warnings
        warnings.simplefilter("ignore")
        del server
    elif how == "exit":
        sys.exit(0)
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert os.path.exists(pathname), "the child has deleted its parent's file"
with bbipc.connect_to_local_server(pathname):
    server.accept_connection().close()
server.close()
assert not os.path.exists(pathname)
"""


@pytest.mark.skipif(WINDOWS, reason="Windows has no fork")
@pytest.mark.parametrize("how", ["close", "drop", "exit"])
def test_a_child_that_closes_leaves_the_file(pathname: str, how: str) -> None:
    command = [sys.executable, "-W", "ignore::ResourceWarning", "-c", CLOSE_IN_CHILD, pathname, how]
    subprocess.run(command, check=True, timeout=PATIENCE)


@pytest.mark.skipif(WINDOWS, reason="Windows has no fork")
def test_a_child_deletes_the_file_of_a_server_of_its_own(pathname: str) -> None:
    program = """
import os, sys
import bbipc

pathname = sys.argv[1]
with bbipc.make_local_server(pathname + "1"):
    child = os.fork()
    if child == 0:
        bbipc.make_local_server(pathname + "2").close()
        os._exit(os.path.exists(pathname + "2"))
    _, status = os.waitpid(child, 0)
    assert status == 0, status
"""
    subprocess.run([sys.executable, "-c", program, pathname], check=True, timeout=PATIENCE)


def test_a_killed_server_leaves_its_file_and_no_server(pathname: str) -> None:
    program = "import bbipc, sys; server = bbipc.make_local_server(sys.argv[1]); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program, pathname]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with bbipc.connect_to_local_server(pathname) as stream:
            process.kill()
            assert bbipc.poll_socket(stream, Events.CONNECTION_SEVERED, PATIENCE)
    with pytest.raises(bbipc.NoLocalServerError):
        bbipc.connect_to_local_server(pathname)
    if not WINDOWS:
        with pytest.raises(bbipc.SocketError, match="replace_dead=True"):
            bbipc.make_local_server(pathname)
        os.unlink(pathname)
    with bbipc.make_local_server(pathname) as server:
        assert_they_talk(server, pathname)


def test_close_in_another_thread_deletes_the_file(pathname: str) -> None:
    server = bbipc.make_local_server(pathname)
    closing = threading.Thread(target=server.close)
    closing.start()
    closing.join()
    assert not os.path.lexists(pathname)


@only_files
def test_the_file_has_the_permissions_of_the_umask(pathname: str) -> None:
    assert sys.platform != "win32"
    before = os.umask(0o077)
    try:
        with bbipc.make_local_server(pathname):
            assert stat.S_IMODE(os.stat(pathname).st_mode) == 0o700
    finally:
        os.umask(before)
