"""The codes of Windows' errors, descriptors for Python's select, and what a pipe can't."""

from __future__ import annotations

import errno
import pickle
import select
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import bbipc
from bbipc import Events, poll_socket
from patience import PATIENCE
from transports import Transport, abort, fill

if sys.platform != "win32":
    pytest.skip("pipes with instances, handles and completion ports are Windows' own", allow_module_level=True)


from pipe_checks import CLIENT, DATA, END, PIPES, SEVERED, accept, check_code, check_taken, pipe_pair, refusal

# ---- The system's codes ----


def loopback_socket() -> socket.socket:
    one = socket.socket()
    one.bind(("127.0.0.1", 0))
    return one


@pytest.mark.parametrize("reuse_address", [False, True])
@pytest.mark.parametrize("listens", [False, True])
@pytest.mark.parametrize("option", [None, socket.SO_EXCLUSIVEADDRUSE])
def test_a_port_that_another_program_has_is_in_use(option: int | None, listens: bool, reuse_address: bool) -> None:
    with socket.socket() as other:
        if option is not None:
            other.setsockopt(socket.SOL_SOCKET, option, 1)
        other.bind(("127.0.0.1", 0))
        if listens:
            other.listen()
        port = other.getsockname()[1]
        attempt = partial(bbipc.make_ipv4_tcp_server, "127.0.0.1", port, reuse_address=reuse_address)
        check_code(refusal(attempt), 10048, errno.EADDRINUSE)
    with attempt():
        check_code(refusal(attempt), 10048, errno.EADDRINUSE)


def test_no_program_can_take_a_servers_port_from_it() -> None:
    """Windows lets SO_REUSEADDR take it, unless the first server has the port for itself."""
    with bbipc.make_ipv4_tcp_server("127.0.0.1", 0) as server, socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(PermissionError) as caught:
            thief.bind(("127.0.0.1", server.port))
        assert caught.value.winerror == 10013
        # Python's view of our socket, which stays ours.
        ours = socket.socket(fileno=server.fileno())
        try:
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE)
        finally:
            ours.detach()
    with bbipc.make_ipv4_tcp_server("127.0.0.1", 0, reuse_address=True) as server:
        ours = socket.socket(fileno=server.fileno())
        try:
            assert not ours.getsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE)
            # It would let two servers have one port here.
            assert not ours.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        finally:
            ours.detach()


def test_a_refused_connection_says_so_for_ever() -> None:
    with loopback_socket() as silent:
        stream = bbipc.connect_to_ipv4_tcp_server("127.0.0.1", silent.getsockname()[1])
        with stream:
            assert poll_socket(stream, Events.DETERMINED, PATIENCE)
            for _ in range(2):
                assert stream.connection_failed()
                check_code(stream.connection_error(), 10061, errno.ECONNREFUSED)
                for use in (stream.read, partial(stream.write, b"x"), stream.finish_writing):
                    check_code(refusal(use), 10061, errno.ECONNREFUSED)
                    assert refusal(use).socket is stream


def test_a_reset_is_told_by_reading_and_by_writing(directory: Path) -> None:
    transport = Transport("tcp", directory)
    try:
        stream, peer = transport.python_peer()
        abort(peer)
        assert poll_socket(stream, SEVERED, PATIENCE)
        for _ in range(2):
            check_code(stream.connection_error(), 10054, errno.ECONNRESET)
            check_code(refusal(stream.read), 10054, errno.ECONNRESET)
            assert refusal(partial(stream.write, b"x")).errno in (errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE)
    finally:
        transport.close()


@pytest.mark.parametrize("accepted_writes", [False, True], ids=["client", "accepted"])
def test_a_pipe_whose_remote_end_has_gone(name: str, accepted_writes: bool) -> None:
    with pipe_pair(name, accepted_writes) as (stream, peer):
        peer.write_all(b"last words")
        peer.close()
        # At once, also with bytes unread.
        assert poll_socket(stream, ~CLIENT, 0) & (SEVERED | Events.REMOTE_DISCONNECTED | DATA | END) == (
            SEVERED | Events.REMOTE_DISCONNECTED | DATA
        )
        check_code(refusal(partial(stream.write, b"x")), 232, errno.EPIPE)
        assert stream.read() == b"last words"
        for _ in range(2):
            assert stream.read() == b""
            assert stream.end_of_data()
            error = refusal(partial(stream.write, b"x"))
            assert error.socket is stream
            check_code(error, 232, errno.EPIPE)
            assert stream.connection_error() is None


@pytest.mark.parametrize("accepted_writes", [False, True], ids=["client", "accepted"])
@pytest.mark.parametrize("asked_first", ["read", "write", "error"])
def test_a_pipe_whose_remote_end_has_gone_without_a_write_that_was_taken(
    name: str, asked_first: str, accepted_writes: bool
) -> None:
    with pipe_pair(name, accepted_writes) as (stream, peer):
        fill(stream)
        peer.close()
        assert poll_socket(stream, SEVERED, PATIENCE) == SEVERED
        checks: dict[str, Callable[[], object]] = {
            "read": lambda: check_code(refusal(stream.read), 10054, errno.ECONNRESET),
            "write": lambda: check_code(refusal(partial(stream.write, b"x")), 232, errno.EPIPE),
            "error": lambda: check_code(stream.connection_error(), 10054, errno.ECONNRESET),
        }
        checks[asked_first]()
        for check in checks.values():
            check()


def test_writing_after_finish_writing(directory: Path) -> None:
    transport = Transport("tcp", directory)
    try:
        stream, peer = transport.pair()
        stream.finish_writing()
        check_code(refusal(partial(stream.write, b"x")), 10058, errno.EPIPE)
        peer.write_all(b"answer")
        assert stream.read_exactly(6, PATIENCE) == b"answer"
    finally:
        transport.close()


@pytest.mark.parametrize("rest", ["..", "../COM1", ".", "a.", "a ", "a/../b"])
def test_whole_names_of_pipes_are_taken_to_the_letter(name: str, rest: str) -> None:
    # Windows makes something else of such paths: a device, or another name.
    with bbipc.make_local_server(PIPES + name + rest):
        check_taken(PIPES + name + rest)
        for other in (name, name + "a", name + "b"):
            with pytest.raises(bbipc.NoLocalServerError):
                bbipc.connect_to_local_server(PIPES + other)


def test_what_bbipc_itself_refuses_has_no_code_of_the_system(transport: Transport) -> None:
    server = transport.make_server()
    with pytest.raises(bbipc.NoConnectionAvailableError) as none_waits:
        server.accept_connection()
    server.close()
    with pytest.raises(bbipc.SocketClosedError) as closed:
        server.accept_connection()
    for error, number in ((none_waits.value, errno.EAGAIN), (closed.value, errno.EBADF)):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        for one in (error, copy):
            assert getattr(one, "winerror", 0) is None
            assert (one.errno, one.args) == (number, error.args)


# ---- Descriptors, and what a pipe can't ----


def test_pythons_select_takes_what_fileno_tells(directory: Path) -> None:
    transport = Transport("tcp", directory)
    try:
        server = transport.make_server()
        assert select.select([server.fileno()], [], [], 0) == ([], [], [])
        client = transport.connect(server)
        assert select.select([server], [], [], PATIENCE) == ([server], [], [])
        accepted = transport.accept(server)
        assert len({server.fileno(), client.fileno(), accepted.fileno()}) == 3
        assert select.select([], [client.fileno()], [], PATIENCE) == ([], [client.fileno()], [])
        assert select.select([accepted.fileno()], [], [], 0) == ([], [], [])
        client.write_all(b"x")
        assert select.select([accepted, server], [accepted], [], PATIENCE) == ([accepted], [accepted], [])
    finally:
        transport.close()


def test_pipes_have_no_descriptor_and_no_half_close(name: str) -> None:
    with bbipc.make_local_server(name) as server, bbipc.connect_to_local_server(name) as client, accept(server) as ours:
        for one in (server, client, ours):
            with pytest.raises(bbipc.UnsupportedOperationError, match="wait for it with bbipc's own functions"):
                one.fileno()
            with pytest.raises(bbipc.UnsupportedOperationError):
                select.select([one], [], [], 0)
        for stream, other in ((client, ours), (ours, client)):
            with pytest.raises(bbipc.UnsupportedOperationError, match="half-closed"):
                stream.finish_writing()
            # It has done nothing.
            stream.write_all(b"on")
            assert other.read_exactly(2, PATIENCE) == b"on"
