"""The errors: their families, what they carry, and that every use of what is closed says so."""

from __future__ import annotations

import builtins
import contextlib
import copy
import errno
import io
import os
import pickle
import re
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

import bbipc
from bbipc import Events, Poller, Socket, StreamServer, StreamSocket, errors
from descriptors import dropping, open_descriptors
from patience import PATIENCE
from readiness import WINE, sever
from systems import BACKENDS, CLIENTS_OUTLIVE_EMFILE, WINDOWS, close_resets, descriptors_of_poller
from transports import Transport

if sys.platform == "win32":
    import _winapi
    import ctypes

    from named_pipes import pipe_name
else:
    import resource

# ---- Families ----

FAMILIES = [
    (bbipc.BbipcError, [Exception]),
    (bbipc.SocketError, [bbipc.BbipcError, OSError]),
    (bbipc.SocketClosedError, [bbipc.SocketError]),
    (bbipc.NoConnectionAvailableError, [bbipc.SocketError, BlockingIOError]),
    (bbipc.NoLocalServerError, [bbipc.SocketError]),  # test_refusals.py: what else it is depends on what is there
    (bbipc.ServerAlreadyRunningError, [bbipc.SocketError]),
    (bbipc.EndOfStreamError, [bbipc.BbipcError, EOFError]),
    (bbipc.TimeoutError, [bbipc.BbipcError, builtins.TimeoutError]),
    (bbipc.MessageTooLargeError, [bbipc.BbipcError, ValueError]),
    (bbipc.PollerClosedError, [bbipc.BbipcError, ValueError]),
    (bbipc.AuthenticationError, [bbipc.BbipcError, PermissionError]),
    (bbipc.AlreadyMonitoredError, [bbipc.BbipcError, ValueError]),
    (bbipc.NotMonitoredError, [bbipc.BbipcError, LookupError]),
    (bbipc.WrongProcessError, [bbipc.BbipcError, RuntimeError]),
    (bbipc.UnsupportedOperationError, [bbipc.BbipcError, io.UnsupportedOperation]),
]


@pytest.mark.parametrize(("error", "bases"), FAMILIES, ids=lambda value: getattr(value, "__name__", ""))
def test_every_error_is_one_of_ours_and_the_built_in_that_fits(error: type, bases: list[type]) -> None:
    for base in bases:
        assert issubclass(error, base)


def test_no_error_is_left_out() -> None:
    public = {getattr(bbipc, name) for name in bbipc.__all__}
    errors = {one for one in public if isinstance(one, type) and issubclass(one, BaseException)}
    assert errors == {error for error, _ in FAMILIES}


# ---- What they say ----


def said_by(action: Callable[[], object]) -> str:
    with pytest.raises(bbipc.BbipcError) as caught:
        action()
    return str(caught.value)


def test_messages_say_what_was_tried_on_what_and_what_to_do(directory: Path) -> None:
    pathname = str(directory / "here.sock")
    with bbipc.make_ipv4_tcp_server("127.0.0.1", 0) as server, bbipc.make_local_server(pathname) as local_server:
        port = server.port
        in_use = said_by(lambda: bbipc.make_ipv4_tcp_server("127.0.0.1", port))
        assert f"listen on 127.0.0.1:{port}" in in_use
        assert "choose another" in in_use

        exists = said_by(lambda: bbipc.make_local_server(pathname))
        assert repr(pathname) in exists
        assert ("choose another name" if WINDOWS else "replace_dead=True") in exists

        nobody = said_by(server.accept_connection)
        assert f"127.0.0.1:{port}" in nobody
        assert "CONNECTION_AVAILABLE" in nobody

        with bbipc.make_poller() as poller:
            poller.monitor_socket(server, Events())
            assert "set_monitored_events" in said_by(lambda: poller.monitor_socket(server, Events()))
            assert "monitor_socket" in said_by(lambda: poller.set_monitored_events(local_server, Events()))

    missing = said_by(lambda: bbipc.connect_to_local_server(pathname))
    assert repr(pathname) in missing
    assert "start the server" in missing


def test_a_socket_error_carries_the_systems_code_and_its_words(directory: Path) -> None:
    with pytest.raises(bbipc.SocketError) as caught:
        # TEST-NET-1 (RFC 5737), which no machine has.
        bbipc.make_ipv4_tcp_server("192.0.2.1", 0)
    assert caught.value.errno == errno.EADDRNOTAVAIL
    assert caught.value.socket is None
    if sys.platform == "win32":
        assert caught.value.winerror == 10049
        # Wine has no words for it.
        words = ctypes.FormatError(10049).rstrip(" .").replace("<no description>", "EADDRNOTAVAIL")
        assert words in str(caught.value)
    else:
        assert os.strerror(errno.EADDRNOTAVAIL) in str(caught.value)
        assert not hasattr(caught.value, "winerror")
        with pytest.raises(bbipc.SocketError) as missing:
            bbipc.make_local_server(directory / "missing" / "s")
        assert missing.value.errno == errno.ENOENT
        assert os.strerror(errno.ENOENT) in str(missing.value)


#: The system's codes, and what they are in the module errno; its Windows version has all of Winsock's names.
WINDOWS_CODES = [
    (2, "ENOENT"),
    (3, "ENOENT"),
    (5, "EACCES"),
    (8, "ENOMEM"),
    (64, "ECONNRESET"),
    (109, "EPIPE"),
    (121, "ETIMEDOUT"),
    (123, "EINVAL"),
    (161, "EINVAL"),
    (206, "ENAMETOOLONG"),
    (230, "ENOTCONN"),
    (231, "EAGAIN"),
    (232, "EPIPE"),
    (233, "EPIPE"),
    (536, "ENOTCONN"),
    (1225, "ECONNREFUSED"),
    (1231, "ENETUNREACH"),
    (1232, "EHOSTUNREACH"),
    (1236, "ECONNABORTED"),
    (1450, "ENOMEM"),
    (10013, "EACCES"),
    (10022, "EINVAL"),
    (10024, "EMFILE"),
    (10048, "EADDRINUSE"),
    (10049, "EADDRNOTAVAIL"),
    (10051, "ENETUNREACH"),
    (10053, "ECONNRESET"),
    (10054, "ECONNRESET"),
    (10055, "ENOBUFS"),
    (10057, "ENOTCONN"),
    (10060, "ETIMEDOUT"),
    (10061, "ECONNREFUSED"),
    (10065, "EHOSTUNREACH"),
]


@pytest.mark.skipif(not WINDOWS, reason="only Windows has codes of its own beside errno")
def test_every_code_of_windows_has_the_errno_of_other_systems() -> None:
    assert sys.platform == "win32"
    for code, name in WINDOWS_CODES:
        error = errors.socket_error(code, "do it")
        assert (error.errno, error.winerror) == (getattr(errno, name), code)
        assert error.args == (error.errno, error.strerror, None, code)
        assert error.strerror is not None
        assert re.match(r"cannot do it: \w", error.strerror)
        assert str(error).startswith(f"[WinError {code}] cannot do it: ")


def every_socket_error(directory: Path) -> Iterator[bbipc.SocketError]:
    """One that the system raised, and one of each that bbipc makes."""
    for attempt in (
        lambda: bbipc.make_ipv4_tcp_server("192.0.2.1", 0),
        lambda: bbipc.connect_to_local_server(directory / "nobody"),
        lambda: bbipc.connect_to_local_server(directory / ("x" * 1000)),
    ):
        with pytest.raises(bbipc.SocketError) as caught:
            attempt()
        yield caught.value
    with bbipc.make_ipv4_tcp_server("127.0.0.1", 0) as server:
        with pytest.raises(bbipc.NoConnectionAvailableError) as nobody:
            server.accept_connection()
        yield nobody.value
    with pytest.raises(bbipc.SocketClosedError) as closed:
        server.accept_connection()
    yield closed.value
    if WINDOWS:
        # OSError would make another errno of this code.
        yield errors.socket_error(231, "connect")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_can_go_to_another_process_but_its_socket_stays(directory: Path, protocol: int) -> None:
    for error in every_socket_error(directory):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is type(error)
        assert (str(again), again.args, again.errno) == (str(error), error.args, error.errno)
        assert getattr(again, "winerror", None) == getattr(error, "winerror", None)
        assert again.socket is None


@pytest.mark.skipif(not WINDOWS, reason="a one-way pipe is what Windows forbids to open both ways")
@pytest.mark.skipif(WINE, reason="Wine forbids that only to who asks for the generic rights")
def test_a_pipe_that_may_not_be_opened_is_a_socket_error(directory: Path) -> None:
    assert sys.platform == "win32"
    name = str(directory / "one way")
    handle = _winapi.CreateNamedPipe(
        pipe_name(name), _winapi.PIPE_ACCESS_INBOUND | _winapi.FILE_FLAG_OVERLAPPED, 0, 1, 0, 0, 0, 0
    )
    try:
        with pytest.raises(bbipc.SocketError, match="this user may not") as caught:
            bbipc.connect_to_local_server(name)
    finally:
        _winapi.CloseHandle(handle)
    assert (caught.value.errno, caught.value.winerror) == (errno.EACCES, 5)
    assert not isinstance(caught.value, bbipc.NoLocalServerError)


@pytest.mark.skipif(WINDOWS, reason="no user can be changed to on Windows without a password")
def test_a_refused_permission_is_a_socket_error_that_does_not_speak_of_ports(directory: Path) -> None:
    # Root may do everything, so a child that runs as the user nobody tries.
    program = """
import errno, os, sys
import bbipc
os.chdir(sys.argv[1])
server = bbipc.make_local_server("closed")
os.chmod("closed", 0)
os.chmod(".", 0o755)
if os.geteuid() == 0:
    os.setegid(65534)
    os.seteuid(65534)
attempts = [lambda: bbipc.connect_to_local_server("closed")]
if os.geteuid() == 65534:
    attempts.append(lambda: bbipc.make_local_server("forbidden"))
for attempt in attempts:
    try:
        attempt()
    except PermissionError as error:
        assert isinstance(error, bbipc.SocketError)
        assert error.errno == errno.EACCES, error
        assert not isinstance(error, bbipc.NoLocalServerError)
        print(error)
    else:
        raise AssertionError("permitted")
if os.getuid() == 0:
    os.seteuid(0)
server.close()
"""
    command = [sys.executable, "-c", program, str(directory)]
    ran = subprocess.run(command, check=True, timeout=PATIENCE, capture_output=True, text=True)
    said = ran.stdout.splitlines()
    assert "this user may not write to what is there" in said[0]
    assert all("this user may not make a file in that directory" in line for line in said[1:])
    assert "port" not in ran.stdout


def test_errors_name_their_socket(transport: Transport) -> None:
    server = transport.make_server()
    with pytest.raises(bbipc.NoConnectionAvailableError) as no_connection:
        server.accept_connection()
    assert no_connection.value.socket is server
    assert no_connection.value.errno == errno.EAGAIN

    stream, peer = transport.python_peer()
    sever(peer, stream)
    assert bbipc.poll_socket(stream, Events.CONNECTION_SEVERED, PATIENCE)
    if transport.name == "local" and not close_resets("local"):
        with pytest.raises(bbipc.SocketError) as severed:
            stream.write(b"x")
        assert severed.value.socket is stream
        return
    with pytest.raises(bbipc.SocketError) as severed:
        stream.read()
    assert severed.value.socket is stream
    assert severed.value.errno == errno.ECONNRESET
    reason = stream.connection_error()
    assert reason is not None
    assert reason.socket is stream


# ---- What is closed ----

#: For every method and property of a socket, a use of it.
SOCKET_USES: dict[str, Callable[[Any], object]] = {
    "address": lambda socket: socket.address,
    "fileno": lambda socket: socket.fileno(),
    "__enter__": lambda socket: socket.__enter__(),
}
SERVER_USES: dict[str, Callable[[Any], object]] = {
    **SOCKET_USES,
    "accept_connection": lambda server: server.accept_connection(),
    "connection_available": lambda server: server.connection_available(),
}
STREAM_USES: dict[str, Callable[[Any], object]] = {
    **SOCKET_USES,
    "determined": lambda stream: stream.determined(),
    "connection_failed": lambda stream: stream.connection_failed(),
    "connection_succeeded": lambda stream: stream.connection_succeeded(),
    "data_available": lambda stream: stream.data_available(),
    "ready_to_write": lambda stream: stream.ready_to_write(),
    "remote_disconnected": lambda stream: stream.remote_disconnected(),
    "end_of_data": lambda stream: stream.end_of_data(),
    "write_space": lambda stream: stream.write_space(),
    "connection_severed": lambda stream: stream.connection_severed(),
    "connection_error": lambda stream: stream.connection_error(),
    "read_into": lambda stream: stream.read_into(bytearray(1)),
    "read": lambda stream: stream.read(),
    "write": lambda stream: stream.write(b"x"),
    "finish_writing": lambda stream: stream.finish_writing(),
    "detach": lambda stream: stream.detach(),
    "read_exactly": lambda stream: stream.read_exactly(1, 0),
    "write_all": lambda stream: stream.write_all(b"x", 0),
    "max_message_size": lambda stream: stream.max_message_size,
    "__setattr__": lambda stream: setattr(stream, "max_message_size", 1),
    "message_available": lambda stream: stream.message_available(),
    "message_space": lambda stream: stream.message_space(),
    "send_message": lambda stream: stream.send_message(b"x", 0),
    "send_messages": lambda stream: stream.send_messages([b"x"], 0),
    "drain": lambda stream: stream.drain(0),
    "unsent": lambda stream: stream.unsent(),
    "receive_message": lambda stream: stream.receive_message(0),
    "receive_messages": lambda stream: stream.receive_messages(),
    "messages": lambda stream: list(stream.messages(0)),
    "read_until": lambda stream: stream.read_until(b"x", 0),
}
USES: dict[type, dict[str, Callable[[Any], object]]] = {
    bbipc.Ipv4TcpServer: {
        **SERVER_USES,
        "host_address": lambda server: server.host_address,
        "port": lambda server: server.port,
    },
    bbipc.Ipv4TcpStream: {
        **STREAM_USES,
        "local_host_address": lambda stream: stream.local_host_address,
        "local_port": lambda stream: stream.local_port,
        "remote_host_address": lambda stream: stream.remote_host_address,
        "remote_port": lambda stream: stream.remote_port,
    },
    bbipc.Ipv6TcpServer: {
        **SERVER_USES,
        "host_address": lambda server: server.host_address,
        "port": lambda server: server.port,
    },
    bbipc.Ipv6TcpStream: {
        **STREAM_USES,
        "local_host_address": lambda stream: stream.local_host_address,
        "local_port": lambda stream: stream.local_port,
        "remote_host_address": lambda stream: stream.remote_host_address,
        "remote_port": lambda stream: stream.remote_port,
    },
    bbipc.LocalServer: {**SERVER_USES, "local_pathname": lambda server: server.local_pathname},
    bbipc.LocalStream: {
        **STREAM_USES,
        "local_pathname": lambda stream: stream.local_pathname,
        "peer_credentials": lambda stream: stream.peer_credentials(),
    },
}
#: What a closed socket still does.
HARMLESS = {"close", "closed"}


def every_kind(transport: Transport) -> list[Socket]:
    return [transport.make_server(), *transport.pair()]


def raised_by(use: Callable[..., object], *arguments: object) -> Exception | None:
    try:
        use(*arguments)
    except Exception as error:
        return error
    return None


def public_names(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize("kind", USES, ids=lambda kind: kind.__name__)
def test_the_uses_are_complete(kind: type) -> None:
    harmless = HARMLESS | {"abort"} if issubclass(kind, StreamSocket) else HARMLESS
    assert public_names(kind) == {name for name in USES[kind] if not name.startswith("_")} | harmless


def test_every_use_of_a_closed_socket_says_that_it_is_closed(transport: Transport) -> None:
    for socket in every_kind(transport):
        assert not socket.closed
        socket.close()
        assert socket.closed
        for name, use in USES[type(socket)].items():
            error = raised_by(use, socket)
            assert isinstance(error, bbipc.SocketClosedError), f"{type(socket).__name__}.{name}: {error!r}"
            assert "closed" in str(error)
            assert error.errno == errno.EBADF
            assert error.socket is socket


def test_a_closed_socket_closes_again_and_prints_itself(transport: Transport) -> None:
    for socket in every_kind(transport):
        socket.close()
        socket.close()
        assert repr(socket) == f"<{type(socket).__name__} closed>"


@pytest.mark.parametrize(
    "use",
    [
        lambda stream: stream.read_into(bytearray()),
        lambda stream: stream.read(0),
        lambda stream: stream.write(b""),
        lambda stream: stream.read_exactly(0),
        lambda stream: stream.write_all(b""),
        lambda stream: stream.send_messages([]),
        lambda stream: stream.drain(),
        lambda stream: bbipc.poll_socket(stream, Events(), 0),
    ],
)
def test_a_closed_stream_refuses_even_what_would_do_nothing(transport: Transport, use: Callable[[Any], object]) -> None:
    stream, _ = transport.pair()
    stream.close()
    with pytest.raises(bbipc.SocketClosedError):
        use(stream)


def test_polling_a_closed_socket_names_it(transport: Transport) -> None:
    server, stream, peer = every_kind(transport)
    stream.close()
    with pytest.raises(bbipc.SocketClosedError) as one:
        bbipc.poll_socket(stream, Events.DATA_AVAILABLE, 0)
    assert one.value.socket is stream
    events = [Events.CONNECTION_AVAILABLE, Events.READY_TO_WRITE, Events.DATA_AVAILABLE]
    with pytest.raises(bbipc.SocketClosedError) as several:
        bbipc.poll_sockets([server, peer, stream], events, 0)
    assert several.value.socket is stream


POLLER_USES: dict[str, Callable[[Poller, Socket], object]] = {
    "backend": lambda poller, _: poller.backend,
    "monitor_socket": lambda poller, socket: poller.monitor_socket(socket, Events()),
    "unmonitor_socket": lambda poller, socket: poller.unmonitor_socket(socket),
    "monitored_events": lambda poller, socket: poller.monitored_events(socket),
    "set_monitored_events": lambda poller, socket: poller.set_monitored_events(socket, Events()),
    "monitored_sockets": lambda poller, _: poller.monitored_sockets(),
    "wait_for_events": lambda poller, _: poller.wait_for_events(0),
    "receive": lambda poller, _: poller.receive(0),
    "receive_messages": lambda poller, _: poller.receive_messages(0),
    "wake": lambda poller, _: poller.wake(),
    "fileno": lambda poller, _: poller.fileno(),
    "__enter__": lambda poller, _: poller.__enter__(),
}


def test_every_use_of_a_closed_poller_says_that_it_is_closed(transport: Transport, backend: str) -> None:
    assert public_names(Poller) == {name for name in POLLER_USES if not name.startswith("_")} | HARMLESS
    stream, _ = transport.pair()
    poller = bbipc.make_poller(backend)
    poller.monitor_socket(stream, Events.DATA_AVAILABLE)
    assert not poller.closed
    poller.close()
    poller.close()
    assert poller.closed
    for name, use in POLLER_USES.items():
        error = raised_by(use, poller, stream)
        assert isinstance(error, bbipc.PollerClosedError), f"Poller.{name}: {error!r}"
        assert "closed" in str(error)
    assert repr(poller) == "<Poller closed>"


# ---- What is dropped, copied or made by hand ----


def one_of_each(transport: Transport) -> list[Any]:
    """Open, and held by nobody else."""
    server = transport.make_server()
    made = [transport.connect(server), transport.accept(server), bbipc.make_poller(), server]
    transport.let_go()
    return made


def test_what_is_dropped_without_close_warns_and_is_closed(transport: Transport) -> None:
    dropped = one_of_each(transport)
    before = open_descriptors()
    handles = bbipc._native.declarations.open_handles()
    while dropped:
        gone = weakref.ref(dropped[-1])
        with pytest.warns(ResourceWarning, match=re.escape(f"unclosed {dropped[-1]!r}")), dropping():
            dropped.pop()
        assert gone() is None
    assert bbipc._native.declarations.open_handles() == handles - 4
    if not WINDOWS:
        # Three sockets and a poller. On Windows a pipe's server has many handles, which close a moment later; that none
        # is left is for no_descriptor_leaks to see.
        assert len(open_descriptors()) == len(before) - 3 - descriptors_of_poller(BACKENDS[0])


def test_a_with_statement_closes_although_its_body_fails(transport: Transport) -> None:
    for one in one_of_each(transport):
        with contextlib.suppress(KeyError), one as entered:
            raise KeyError
        assert entered is one
        assert one.closed


def test_nothing_can_be_copied_or_pickled(transport: Transport) -> None:
    for one in one_of_each(transport):
        for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="copied"):
                attempt(one)
        assert not one.closed
        one.close()


@pytest.mark.parametrize(
    "kind",
    [
        Socket,
        StreamServer,
        StreamSocket,
        bbipc.Ipv4TcpServer,
        bbipc.Ipv4TcpStream,
        bbipc.Ipv6TcpServer,
        bbipc.Ipv6TcpStream,
        bbipc.LocalServer,
        bbipc.LocalStream,
        Poller,
    ],
)
@pytest.mark.parametrize("arguments", [(), (1,), ("127.0.0.1", 0)])
def test_classes_say_which_function_makes_them(kind: Any, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match="make_"):
        kind(*arguments)


# ---- When the system has no more descriptors ----


@pytest.fixture
def no_descriptor_left() -> Iterator[list[int]]:
    """No descriptor can be opened. Closing one of the numbers makes room for one."""
    if sys.platform == "win32":
        pytest.skip("Windows has no limit of handles that could be lowered")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_descriptors()) + 8, before[1]))
    taken = []
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    yield taken
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    for number in taken:
        os.close(number)


def assert_emfile(attempt: Callable[[], object]) -> None:
    with pytest.raises(bbipc.SocketError, match="ulimit") as caught:
        attempt()
    assert caught.value.errno == errno.EMFILE


@pytest.fixture
def prepared(transport: Transport) -> tuple[Transport, StreamServer]:
    """A server whose client waits to be accepted, made before the descriptors run out."""
    server = transport.make_server()
    transport.connect(server)
    assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
    return transport, server


def test_without_a_descriptor_nothing_is_made_and_nothing_leaks(
    prepared: tuple[Transport, StreamServer], backend: str, no_descriptor_left: list[int], directory: Path
) -> None:
    transport, server = prepared
    handles = bbipc._native.declarations.open_handles()
    for _ in range(3 if CLIENTS_OUTLIVE_EMFILE else 1):
        assert_emfile(transport.make_server)
        assert_emfile(lambda: transport.connect(server))
        assert_emfile(server.accept_connection)
        assert_emfile(lambda: bbipc.make_poller(backend))
    assert bbipc._native.declarations.open_handles() == handles
    os.close(no_descriptor_left.pop())
    if descriptors_of_poller(backend) > 1:
        # The first does not stay.
        for _ in range(3):
            assert_emfile(lambda: bbipc.make_poller(backend))
    else:
        bbipc.make_poller(backend).close()
    assert len(list(directory.iterdir())) == (1 if transport.name == "local" else 0)
    if CLIENTS_OUTLIVE_EMFILE:
        # It has waited all the time, and the server pauses for a moment only.
        transport.accept(server)
    else:
        assert not server.connection_available()


def test_what_is_open_works_without_a_descriptor(transport: Transport) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no limit of handles that could be lowered")
    stream, peer = transport.pair()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        stream.write_all(b"works")
        assert bbipc.poll_socket(peer, Events.DATA_AVAILABLE, PATIENCE)
        assert any(bbipc.poll_sockets([stream, peer], Events.DATA_AVAILABLE, PATIENCE))
        assert peer.read_exactly(5, PATIENCE) == b"works"
        assert not bbipc.poll_socket(peer, Events.DATA_AVAILABLE, 0.01)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# ---- Descriptors ----


def test_descriptors_are_close_on_exec_and_non_blocking(transport: Transport, backend: str) -> None:
    before = open_descriptors()
    sockets = every_kind(transport)
    with bbipc.make_poller(backend) as poller:
        if sys.platform == "win32":
            # So that it opens all that it needs.
            for socket in sockets:
                poller.monitor_socket(socket, socket._EVENTS)
            poller.wait_for_events(0)
        made = set(open_descriptors()) - set(before)
        if sys.platform == "win32":
            # Both ends and the poller at least; nobody but Windows knows what blocks.
            assert len(made) >= 3
            assert not any(os.get_handle_inheritable(number) for number in made)
            assert transport.name == "local" or {socket.fileno() for socket in sockets} <= made
            return
        assert len(made) == 3 + descriptors_of_poller(backend)
        assert not any(os.get_inheritable(number) for number in made)
    for socket in sockets:
        assert socket.fileno() in made
        assert not os.get_blocking(socket.fileno())
