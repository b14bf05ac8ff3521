"""What the system refuses: which built-in error it is, what it says is there, what to do, and what travels with it."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import socket as python_socket
from pathlib import Path
from typing import Any, Callable

import pytest

import bbipc
from bbipc import Events, errors
from patience import PATIENCE
from readiness import sever
from systems import BIND_FOLLOWS_LINKS, LINUX, WINDOWS, close_resets
from transports import Transport

only_files = pytest.mark.skipif(WINDOWS, reason="the name of a pipe is no file")

# ---- Which built-in error it is ----

BUILT_IN = {
    "EPIPE": BrokenPipeError,
    "ESHUTDOWN": BrokenPipeError,
    "ECONNRESET": ConnectionResetError,
    "ECONNREFUSED": ConnectionRefusedError,
    "ECONNABORTED": ConnectionAbortedError,
    "EACCES": PermissionError,
    "EPERM": PermissionError,
    "ENOENT": FileNotFoundError,
    "ENOTDIR": NotADirectoryError,
    "EAGAIN": BlockingIOError,
    "EINTR": InterruptedError,
    "ETIMEDOUT": TimeoutError,
    "EADDRINUSE": OSError,
    "EMFILE": OSError,
    "EBADF": OSError,
}


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("kind", [bbipc.SocketError, bbipc.SocketClosedError, bbipc.NoLocalServerError])
def test_a_socket_error_is_the_built_in_error_of_its_errno(kind: type[bbipc.SocketError], name: str) -> None:
    number = getattr(errno, name)
    error = kind(number, "refused")
    assert isinstance(error, kind)
    assert isinstance(error, BUILT_IN[name])
    # Python's own answer, on every version and system.
    built_in = type(OSError(number, ""))
    assert {one for one in type(error).__mro__ if one.__module__ == "builtins"} == set(built_in.__mro__)
    assert type(error) is type(kind(number, "again"))
    # What a traceback shows.
    assert (type(error).__name__, type(error).__qualname__, type(error).__module__) == (
        kind.__name__,
        kind.__name__,
        "bbipc.errors",
    )
    assert type(error).__doc__ == kind.__doc__
    assert (error.errno, error.strerror, error.args) == (number, "refused", (number, "refused"))


def test_a_socket_error_without_errno_is_no_other_error() -> None:
    for error in (bbipc.SocketError(), bbipc.SocketError("text"), bbipc.SocketError(None, "text")):
        assert type(error) is bbipc.SocketError


def test_a_class_that_a_program_derives_is_the_built_in_error_too() -> None:
    class Lost(bbipc.SocketError):
        """A program's own."""

    error = Lost(errno.ECONNRESET, "lost")
    assert isinstance(error, Lost)
    assert isinstance(error, ConnectionResetError)
    assert type(copy.copy(error)) is type(error)


def test_a_class_with_an_init_of_its_own_takes_arguments_as_other_errors_do() -> None:
    class Refused(bbipc.SocketError):
        def __init__(self, why: str, *, retry: bool = False) -> None:
            super().__init__(errno.EPIPE, why)
            self.retry = retry

    error = Refused("in vain", retry=True)
    assert (error.errno, error.strerror, error.args, error.retry) == (
        errno.EPIPE,
        "in vain",
        (errno.EPIPE, "in vain"),
        True,
    )
    assert str(error) == f"[Errno {errno.EPIPE}] in vain"


def test_what_is_no_errno_is_taken_as_other_errors_take_it() -> None:
    for wrong in ("EPIPE", [1], None, 1 << 70):
        error = bbipc.SocketError(wrong, "x")
        assert (error.errno, error.args) == (wrong, (wrong, "x"))
        assert not isinstance(error, ConnectionError)


@pytest.mark.skipif(not WINDOWS, reason="only Windows has codes of its own beside errno")
@pytest.mark.parametrize(
    ("code", "built_in"),
    [
        (5, PermissionError),
        (2, FileNotFoundError),
        (109, BrokenPipeError),
        (232, BrokenPipeError),
        (231, BlockingIOError),
        (10054, ConnectionResetError),
        (10053, ConnectionResetError),
        (10061, ConnectionRefusedError),
        (10060, TimeoutError),
        (10013, PermissionError),
        (1225, ConnectionRefusedError),
    ],
)
def test_a_code_of_windows_is_the_built_in_error_of_its_errno(code: int, built_in: type[OSError]) -> None:
    error = errors.socket_error(code, "do it")
    assert isinstance(error, built_in)
    assert getattr(error, "winerror", None) == code
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.errno, again.winerror, again.args) == (type(error), error.errno, code, error.args)


@pytest.mark.skipif(not close_resets("local"), reason="a local peer that closes with bytes unread resets nothing here")
def test_a_severed_stream_raises_what_python_raises(transport: Transport) -> None:
    stream, peer = transport.python_peer()
    sever(peer, stream)
    assert bbipc.poll_socket(stream, Events.CONNECTION_SEVERED, PATIENCE)
    with pytest.raises(ConnectionResetError) as reset:
        stream.read()
    assert isinstance(reset.value, bbipc.SocketError)
    with pytest.raises((BrokenPipeError, ConnectionResetError)) as broken:
        stream.write(b"x")
    assert isinstance(broken.value, bbipc.SocketError)


def test_a_write_after_finish_writing_is_a_broken_pipe() -> None:
    with bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 0) as server:
        stream = bbipc.connect_to_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, server.port)
        with stream:
            assert bbipc.poll_socket(stream, Events.CONNECTION_SUCCEEDED, PATIENCE)
            stream.finish_writing()
            with pytest.raises(BrokenPipeError) as broken:
                stream.write(b"x")
    assert isinstance(broken.value, bbipc.SocketError)


def test_a_refused_connection_is_a_connection_refused_error() -> None:
    with bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 0) as server:
        port = server.port
    with bbipc.connect_to_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, port) as stream:
        assert bbipc.poll_socket(stream, Events.DETERMINED, PATIENCE)
        assert isinstance(stream.connection_error(), ConnectionRefusedError)


# ---- What travels with it ----


def copies(error: Exception) -> dict[str, Exception]:
    made = {f"pickle {one}": pickle.loads(pickle.dumps(error, one)) for one in range(pickle.HIGHEST_PROTOCOL + 1)}
    return {**made, "copy": copy.copy(error), "deepcopy": copy.deepcopy(error)}


def test_a_socket_error_keeps_all_that_it_carries() -> None:
    error: Any = bbipc.SocketError(errno.EPIPE, "cannot write", "a file", None, "another file")
    error.__notes__ = ["while it did this", "and that"]
    error.more = {"of": "the program's"}
    for how, again in copies(error).items():
        what: Any = again
        assert type(what) is type(error), how
        assert isinstance(what, BrokenPipeError), how
        assert (what.errno, what.strerror, what.filename, what.filename2) == (
            errno.EPIPE,
            "cannot write",
            "a file",
            "another file",
        ), how
        assert (str(what), what.args, what.__notes__, what.more) == (
            str(error),
            error.args,
            error.__notes__,
            error.more,
        ), how


@pytest.mark.parametrize("kind", [bbipc.TimeoutError, bbipc.EndOfStreamError])
def test_what_was_done_travels_with_an_error(kind: type[Any]) -> None:
    error = kind(errno.ETIMEDOUT, "the time is up")
    error.partial, error.bytes_written, error.__notes__ = b"half", 7, ["a note"]
    for how, again in copies(error).items():
        what: Any = again
        assert (type(what), str(what), what.args) == (kind, str(error), error.args), how
        assert (what.partial, what.bytes_written, what.__notes__) == (b"half", 7, ["a note"]), how


def test_a_copy_keeps_the_socket_that_a_pickle_can_not(transport: Transport) -> None:
    server = transport.make_server()
    with pytest.raises(bbipc.NoConnectionAvailableError) as caught:
        server.accept_connection()
    assert copy.copy(caught.value).socket is server
    assert pickle.loads(pickle.dumps(caught.value)).socket is None
    assert copy.deepcopy(caught.value).socket is None


# ---- What is at a pathname ----

KINDS = {
    "a regular file": lambda path: Path(path).write_bytes(b"ten years of work"),
    "a directory": os.mkdir,
    "a FIFO": lambda path: os.mkfifo(path),
    "a character device": None,
}


def refusal(action: Callable[[], object]) -> bbipc.SocketError:
    with pytest.raises(bbipc.SocketError) as caught:
        action()
    return caught.value


@only_files
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_socket_is_named_and_nobody_says_to_delete_it(directory: Path, kind: str) -> None:
    make = KINDS[kind]
    pathname = str(directory / "precious.db") if make else os.devnull
    if make:
        make(pathname)
    before = os.lstat(pathname)
    for given in (pathname, os.fsencode(pathname)):
        listening = refusal(lambda: bbipc.make_local_server(given))  # noqa: B023 - called at once
        connecting = refusal(lambda: bbipc.connect_to_local_server(given))  # noqa: B023 - called at once
        assert listening.errno == errno.EADDRINUSE
        assert isinstance(connecting, bbipc.NoLocalServerError)
        assert connecting.errno == errno.ECONNREFUSED
        assert isinstance(connecting, ConnectionRefusedError)
        assert not isinstance(connecting, FileNotFoundError)
        for error in (listening, connecting):
            assert f"{kind} is there, not a socket" in str(error)
            assert "delete" not in str(error)
            assert "start the server" not in str(error)
    assert os.lstat(pathname) == before


@only_files
def test_a_link_is_told_from_what_it_leads_to(directory: Path) -> None:
    (directory / "file").touch()
    os.symlink("file", directory / "link")
    os.symlink("nothing", directory / "nowhere")
    assert "a regular file is there" in str(refusal(lambda: bbipc.connect_to_local_server(directory / "link")))
    nowhere = refusal(lambda: bbipc.connect_to_local_server(directory / "nowhere"))
    assert "a symbolic link is there that leads nowhere" in str(nowhere)
    assert isinstance(nowhere, FileNotFoundError)
    for name in ("link",) if BIND_FOLLOWS_LINKS else ("link", "nowhere"):
        said = str(refusal(lambda: bbipc.make_local_server(directory / name)))  # noqa: B023 - called at once
        assert "a symbolic link is there, not a socket" in said
        assert "delete" not in said


def test_where_nothing_is_no_server_is_a_file_not_found_error(directory: Path) -> None:
    for name in ("nobody", "missing/nobody"):
        error = refusal(lambda: bbipc.connect_to_local_server(directory / name))  # noqa: B023 - called at once
        assert isinstance(error, bbipc.NoLocalServerError)
        assert isinstance(error, FileNotFoundError)
        assert not isinstance(error, ConnectionError)


@only_files
def test_a_socket_that_a_server_left_refuses_connections(directory: Path) -> None:
    bbipc.make_local_server(directory / "left", delete_on_close=False).close()
    error = refusal(lambda: bbipc.connect_to_local_server(directory / "left"))
    assert isinstance(error, bbipc.NoLocalServerError)
    assert isinstance(error, ConnectionRefusedError)
    assert not isinstance(error, FileNotFoundError)
    assert "nobody listens there" in str(error)
    assert "replace_dead=True" in str(refusal(lambda: bbipc.make_local_server(directory / "left")))


@only_files
def test_a_file_in_the_place_of_a_directory_is_a_not_a_directory_error(directory: Path) -> None:
    (directory / "file").touch()
    for action in (bbipc.make_local_server, bbipc.connect_to_local_server):
        error = refusal(lambda: action(directory / "file" / "s"))  # noqa: B023 - called at once
        assert isinstance(error, NotADirectoryError)
        assert "before the last is not a directory" in str(error)


@only_files
def test_a_socket_of_datagrams_is_named(directory: Path) -> None:
    with python_socket.socket(python_socket.AF_UNIX, python_socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(str(directory / "datagrams"))
        error = refusal(lambda: bbipc.connect_to_local_server(directory / "datagrams"))
    assert not isinstance(error, bbipc.NoLocalServerError)
    assert "not one of streams" in str(error)


# ---- A port that lingers ----


def lingering_port(*, reuse_address: bool) -> int:
    """The port of a server that has ended, and whose end of a connection closed first."""
    with bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 0, reuse_address=reuse_address) as server:
        with bbipc.connect_to_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, server.port) as client:
            assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
            server.accept_connection().close()
            assert bbipc.poll_socket(client, Events.END_OF_DATA, PATIENCE)
        return server.port


@pytest.mark.skipif(not LINUX, reason="which connections keep a port, each system decides for itself")
def test_a_port_that_lingers_after_a_restart_names_reuse_address() -> None:
    port = lingering_port(reuse_address=False)
    error = refusal(lambda: bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, port))
    assert error.errno == errno.EADDRINUSE
    assert "TIME_WAIT" in str(error)
    assert "reuse_address=True" in str(error)
    # And the advice is right.
    port = lingering_port(reuse_address=True)
    bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, port, reuse_address=True).close()


def test_a_port_in_use_does_not_name_what_was_passed_already() -> None:
    with bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 0, reuse_address=True) as server:
        said = str(refusal(lambda: bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, server.port, reuse_address=True)))
        assert "reuse_address" not in said
        assert "choose another" in said
