"""Descriptors from elsewhere, streams that are given away, and pairs without a server."""

from __future__ import annotations

import contextlib
import errno
import os
import socket as python_socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import bbipc
from bbipc import Events, poll_socket
from patience import PATIENCE
from systems import LINUX, MACOS, WINDOWS
from threads import PROMPTLY, Waiting
from transports import Transport, fill, without_ipv6

DATA_OR_END = Events.DATA_AVAILABLE | Events.END_OF_DATA

only_sockets = pytest.mark.skipif(WINDOWS, reason="local streams are named pipes there, which have no descriptors")


def python_server(family: str) -> python_socket.socket:
    if family == "tcp6":
        return python_socket.create_server(("::1", 0), family=python_socket.AF_INET6)
    return python_socket.create_server(("127.0.0.1", 0))


def python_pair(family: str) -> tuple[python_socket.socket, python_socket.socket]:
    """Two connected sockets of Python's own."""
    if family == "local":
        assert sys.platform != "win32"
        return python_socket.socketpair()
    with python_server(family) as listening:
        one = python_socket.create_connection(listening.getsockname()[:2])
        return one, listening.accept()[0]


TCP = ["tcp", pytest.param("tcp6", marks=pytest.mark.skipif(without_ipv6() is not None, reason=str(without_ipv6())))]


@pytest.fixture(params=[*TCP, pytest.param("local", marks=only_sockets)])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[python_socket.socket, python_socket.socket]]:
    one, other = python_pair(request.param)
    other.settimeout(PATIENCE)
    yield one, other
    one.close()
    other.close()


Ends = tuple[python_socket.socket, python_socket.socket]

# ---- Pairs ----


def test_the_two_streams_of_a_pair_are_connected() -> None:
    one, other = bbipc.make_stream_pair()
    with one, other:
        assert one.connection_succeeded()
        assert other.connection_succeeded()
        one.send_message(b"hello")
        assert other.receive_message(PATIENCE) == b"hello"
        other.write_all(b"back")
        assert one.read_exactly(4, PATIENCE) == b"back"
        assert (one.local_pathname, repr(one)) == ("", "<LocalStream unnamed>")
        one.close()
        assert poll_socket(other, Events.END_OF_DATA, PATIENCE)
        assert repr(one) == "<LocalStream closed>"


def test_a_pair_has_room_as_other_local_streams() -> None:
    one, other = bbipc.make_stream_pair()
    with one, other:
        written = fill(one)
        received = 0
        one_ends = threading.Thread(target=one.close)
        one_ends.start()
        while poll_socket(other, DATA_OR_END, PATIENCE).data_available:
            received += len(other.read())
        one_ends.join()
        assert received == written


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork()")
def test_a_pair_connects_a_process_with_its_fork() -> None:
    ours, theirs = bbipc.make_stream_pair()
    process = os.fork()
    if process == 0:
        try:
            ours.close()
            theirs.send_message(theirs.receive_message(PATIENCE).upper())
        finally:
            os._exit(0)
    theirs.close()
    with ours:
        ours.send_message(b"hello")
        assert ours.receive_message(PATIENCE) == b"HELLO"
        os.waitpid(process, 0)
        assert poll_socket(ours, Events.END_OF_DATA, PATIENCE)


# ---- Streams ----


def test_a_python_socket_becomes_a_stream_and_a_python_socket_again(ends: Ends) -> None:
    one, other = ends
    number = one.fileno()
    with bbipc.adopt_stream(one.detach()) as stream:
        assert stream.fileno() == number
        assert stream.connection_succeeded()
        other.sendall(b"ping")
        assert stream.read_exactly(4, PATIENCE) == b"ping"
        stream.write_all(b"pong")
        assert other.recv(100) == b"pong"
        descriptor = stream.detach()
    assert stream.closed
    with python_socket.socket(fileno=descriptor) as again:
        again.setblocking(True)
        other.sendall(b"once more")
        assert again.recv(100) == b"once more"
        again.sendall(b"yes")
        assert other.recv(100) == b"yes"
        # Nobody else holds it.
        again.close()
        assert other.recv(100) == b""


@pytest.mark.parametrize("family", TCP)
def test_the_kind_of_an_adopted_stream_is_that_of_its_address(family: str) -> None:
    one, other = python_pair(family)
    address, remote = one.getsockname()[:2], one.getpeername()[:2]
    with other, bbipc.adopt_stream(one.detach()) as stream:
        assert isinstance(stream, bbipc.Ipv6TcpStream if family == "tcp6" else bbipc.Ipv4TcpStream)
        assert (stream.local_host_address, stream.local_port) == address
        assert (stream.remote_host_address, stream.remote_port) == remote


@only_sockets
def test_an_adopted_local_stream_knows_the_pathname_of_its_server(directory: Path) -> None:
    pathname = directory / "sö"
    with python_socket.socket(python_socket.AF_UNIX) as listening:
        listening.bind(os.fspath(pathname))
        listening.listen()
        one = python_socket.socket(python_socket.AF_UNIX)
        one.connect(os.fspath(pathname))
        other, _ = listening.accept()
        for end in (one, other):
            with bbipc.adopt_stream(end.detach()) as stream:
                assert isinstance(stream, bbipc.LocalStream)
                assert stream.local_pathname == os.fspath(pathname)
                assert repr(stream) == f"<LocalStream {os.fspath(pathname)!r}>"


@pytest.mark.skipif(not LINUX, reason="only Linux has abstract names: unix(7)")
@pytest.mark.parametrize("size", [20, 108])
def test_an_abstract_name_begins_with_a_nul(size: int) -> None:
    name = (b"\0bbipc-%d-" % os.getpid()).ljust(size, b"x")
    with python_socket.socket(python_socket.AF_UNIX) as listening:
        listening.bind(name)
        listening.listen()
        one = python_socket.socket(python_socket.AF_UNIX)
        one.connect(name)
        with bbipc.adopt_stream(one.detach()) as stream:
            assert isinstance(stream, bbipc.LocalStream)
            assert stream.local_pathname == name.decode()


@only_sockets
def test_adopting_makes_a_descriptor_close_on_exec_and_leaves_its_description_alone(ends: Ends) -> None:
    one, other = ends
    one.set_inheritable(True)
    with one.dup() as sharing:
        assert os.get_blocking(sharing.fileno())
        with bbipc.adopt_stream(one.detach()) as stream:
            assert not os.get_inheritable(stream.fileno())
            assert os.get_blocking(sharing.fileno()) != MACOS
            # None of these waits.
            assert stream.read() == b""
            assert fill(stream) > 0
            assert stream.write(b"x") == 0
            assert os.get_blocking(sharing.fileno()) != MACOS
        other.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while other.recv(1 << 20):
                pass
        # The connection goes on for who shares it.
        sharing.sendall(b"x")
        other.setblocking(True)
        assert other.recv(100) == b"x"


def test_an_adopted_tcp_stream_has_nagles_algorithm_off() -> None:
    one, other = python_pair("tcp")
    with other, bbipc.adopt_stream(one.detach()) as stream, python_socket.socket(fileno=stream.detach()) as again:
        assert again.getsockopt(python_socket.IPPROTO_TCP, python_socket.TCP_NODELAY) != 0


@only_sockets
@pytest.mark.parametrize("written", [b"", b"last words"])
def test_who_has_gone_before_the_adoption_is_heard_to_the_end(written: bytes) -> None:
    one, other = python_pair("local")
    other.sendall(written)
    other.close()
    with bbipc.adopt_stream(one.detach()) as stream:
        if written:
            assert stream.read_exactly(len(written), PATIENCE) == written
        assert poll_socket(stream, Events.END_OF_DATA, PATIENCE)


# ---- What can't be adopted ----


def refusal(descriptor: int, *, as_server: bool = False) -> bbipc.SocketError:
    with pytest.raises(bbipc.SocketError) as caught:
        (bbipc.adopt_server if as_server else bbipc.adopt_stream)(descriptor)
    assert str(descriptor) in str(caught.value)
    return caught.value


@pytest.mark.skipif(WINDOWS, reason="descriptors are numbers of the C run-time there, and none of the system's")
def test_a_file_and_a_pipe_are_refused_and_stay_open(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with (tmp_path / "file").open("wb") as file:
        for number in (file.fileno(), reading, writing):
            for as_server in (False, True):
                error = refusal(number, as_server=as_server)
                assert error.errno == errno.ENOTSOCK
                assert "only sockets can be adopted" in str(error)
            os.fstat(number)
    os.close(reading)
    os.close(writing)


def test_sockets_of_other_kinds_are_refused_and_stay_open() -> None:
    with python_socket.socket(type=python_socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        error = refusal(datagrams.fileno())
        assert error.errno == errno.EPROTOTYPE
        assert "datagrams" in str(error)
        assert datagrams.getsockname()[1] > 0
    with python_socket.socket() as unconnected:
        assert refusal(unconnected.fileno()).errno == errno.ENOTCONN
        assert unconnected.getblocking()
    with python_socket.create_server(("127.0.0.1", 0)) as listening:
        error = refusal(listening.fileno())
        assert error.errno == errno.EINVAL
        assert "adopt_server() takes it" in str(error)
        with python_socket.create_connection(listening.getsockname()) as connected:
            error = refusal(connected.fileno(), as_server=True)
            assert error.errno == errno.EINVAL
            assert "adopt_stream() takes one" in str(error)
            listening.accept()[0].close()


@only_sockets
def test_a_local_socket_that_is_not_connected_is_refused() -> None:
    with python_socket.socket(python_socket.AF_UNIX) as unconnected:
        assert refusal(unconnected.fileno()).errno == errno.ENOTCONN


@pytest.mark.parametrize("as_server", [False, True])
def test_a_socket_of_another_family_is_refused(as_server: bool) -> None:
    if not hasattr(python_socket, "AF_VSOCK"):
        pytest.skip("this Python knows no family of streams that bbipc has not")
    try:
        other = python_socket.socket(python_socket.AF_VSOCK)
    except OSError as error:
        pytest.skip(f"this kernel has no sockets for virtual machines: {error}")
    with other:
        error = refusal(other.fileno(), as_server=as_server)
        assert error.errno == errno.EAFNOSUPPORT
        assert "TCP" in str(error)


def test_a_descriptor_that_is_closed_is_refused() -> None:
    one, other = python_pair("tcp")
    number = one.fileno()
    one.close()
    other.close()
    assert refusal(number).errno == (errno.ENOTSOCK if WINDOWS else errno.EBADF)
    assert refusal(2**31).errno == (errno.ENOTSOCK if WINDOWS else errno.EBADF)


def test_what_a_socket_of_bbipc_has_is_refused(transport: Transport) -> None:
    if WINDOWS and transport.name == "local":
        pytest.skip("named pipes have no descriptors")
    server = transport.make_server()
    one = transport.connect(server)
    other = transport.accept(server)
    for socket in (server, one, other):
        for as_server in (False, True):
            error = refusal(socket.fileno(), as_server=as_server)
            assert error.errno == errno.EBUSY
            assert "has it already" in str(error)
    one.write_all(b"x")
    assert other.read_exactly(1, PATIENCE) == b"x"


def test_one_of_several_threads_adopts_a_descriptor() -> None:
    for _ in range(20):
        one, other = python_pair("tcp")
        number = one.detach()
        outcomes: list[object] = []
        together = threading.Barrier(4)

        def adopt(
            number: int = number, outcomes: list[object] = outcomes, together: threading.Barrier = together
        ) -> None:
            together.wait(PATIENCE)
            try:
                outcomes.append(bbipc.adopt_stream(number))
            except bbipc.SocketError as error:
                outcomes.append(error.errno)

        threads = [threading.Thread(target=adopt) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        adopted = [one for one in outcomes if isinstance(one, bbipc.StreamSocket)]
        assert len(adopted) == 1
        assert outcomes.count(errno.EBUSY) == 3
        adopted[0].close()
        other.close()


@pytest.mark.parametrize("adopt", [bbipc.adopt_stream, bbipc.adopt_server])
def test_a_descriptor_is_a_number(adopt: object) -> None:
    assert callable(adopt)
    with (
        python_socket.socket() as plain,
        pytest.raises(TypeError, match=r"give up a Python socket's by its detach\(\)"),
    ):
        adopt(plain)
    with pytest.raises(TypeError, match="descriptor must be an int, not str"):
        adopt("3")
    for number in (-1, 2**63, -(2**80)):
        with pytest.raises(ValueError, match=str(number)):
            adopt(number)


# ---- Servers ----


@pytest.mark.parametrize("family", TCP)
def test_a_python_server_is_adopted(family: str) -> None:
    listening = python_server(family)
    address = listening.getsockname()[:2]
    with bbipc.adopt_server(listening.detach()) as server:
        assert isinstance(server, bbipc.Ipv6TcpServer if family == "tcp6" else bbipc.Ipv4TcpServer)
        assert (server.host_address, server.port) == address
        with python_socket.create_connection(address) as peer:
            assert poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
            with server.accept_connection() as stream:
                peer.sendall(b"x")
                assert stream.read_exactly(1, PATIENCE) == b"x"
        with pytest.raises(bbipc.NoConnectionAvailableError):
            server.accept_connection()


@only_sockets
def test_an_adopted_local_server_leaves_its_file(directory: Path) -> None:
    pathname = os.fspath(directory / "server")
    listening = python_socket.socket(python_socket.AF_UNIX)
    listening.bind(pathname)
    listening.listen()
    with bbipc.adopt_server(listening.detach()) as server:
        assert isinstance(server, bbipc.LocalServer)
        assert server.local_pathname == pathname
        with bbipc.connect_to_local_server(pathname) as one, server.accept_connection() as other:
            assert isinstance(other, bbipc.LocalStream)
            assert (other.local_pathname, one.local_pathname) == (pathname, pathname)
            one.write_all(b"x")
            assert other.read_exactly(1, PATIENCE) == b"x"
    assert os.path.exists(pathname)


# ---- Detaching ----


def test_a_stream_that_is_detached_leaves_pollers_and_ends_waits(transport: Transport) -> None:
    one, other = transport.pair()
    with bbipc.make_poller() as poller:
        poller.monitor_socket(one, Events.DATA_AVAILABLE)
        if WINDOWS and transport.name == "local":
            with pytest.raises(bbipc.UnsupportedOperationError):
                one.detach()
            assert list(poller.monitored_sockets()) == [one]
            return
        waiting = Waiting(lambda: poll_socket(one, Events.DATA_AVAILABLE, PATIENCE))
        descriptor = one.detach()
        with pytest.raises(bbipc.SocketClosedError):
            waiting.result()
        assert list(poller.monitored_sockets()) == []
        assert one.closed
        # The connection goes on, and is none of the poller's.
        other.write_all(b"x")
        assert poller.wait_for_events(0) == []
    with python_socket.socket(fileno=descriptor) as plain:
        plain.settimeout(PATIENCE)
        assert plain.recv(10) == b"x"
    assert poll_socket(other, Events.END_OF_DATA, PATIENCE)
    with pytest.raises(bbipc.SocketClosedError):
        one.detach()
    one.close()


@pytest.mark.skipif(WINDOWS, reason="local streams are named pipes there")
def test_nothing_that_a_stream_keeps_is_lost_by_detaching() -> None:
    one, other = bbipc.make_stream_pair()
    with one, other:
        other.write_all(b"\0\0\0\5hel")
        with pytest.raises(bbipc.TimeoutError):
            one.receive_message(0)
        with pytest.raises(bbipc.SocketError, match=r"receive them, or read\(\) them") as caught:
            one.detach()
        assert caught.value.errno == errno.EBUSY
        other.write_all(b"lo")
        assert one.receive_message(PATIENCE) == b"hello"

        with pytest.raises(bbipc.TimeoutError):
            one.send_message(bytes(4 << 20), timeout=0)
        with pytest.raises(bbipc.SocketError, match=r"drain\(\)") as caught:
            one.detach()
        assert caught.value.errno == errno.EBUSY
        assert not one.closed
        receiving = threading.Thread(target=other.receive_message, args=(PATIENCE,))
        receiving.start()
        one.drain(PATIENCE)
        receiving.join()
        os.close(one.detach())
        assert poll_socket(other, Events.END_OF_DATA, PATIENCE)


@pytest.mark.skipif(WINDOWS, reason="local streams are named pipes there")
def test_what_another_thread_has_read_is_with_its_error() -> None:
    one, other = bbipc.make_stream_pair()
    with one, other:
        other.write_all(b"half")
        waiting = Waiting(lambda: one.read_exactly(8, PATIENCE))
        with python_socket.socket(fileno=one.detach()) as plain:
            with pytest.raises(bbipc.SocketClosedError) as caught:
                waiting.result()
            other.write_all(b"rest")
            read = getattr(caught.value, "partial", b"")
            plain.settimeout(PATIENCE)
            assert read + plain.recv(10) == b"halfrest"


def detached(stream: bbipc.StreamSocket) -> int:
    """The descriptor, as soon as the stream keeps nothing."""
    while True:
        with contextlib.suppress(OSError):
            return stream.detach()


@pytest.mark.skipif(WINDOWS, reason="local streams are named pipes there")
def test_messages_are_whole_whoever_receives_them_around_a_detach() -> None:
    """Threads receive while another gives the stream away: each message goes to one or to the other side."""
    for round_number in range(10):
        one, other = bbipc.make_stream_pair()
        received: list[bytes] = []

        def receive(one: bbipc.LocalStream = one, received: list[bytes] = received) -> None:
            with contextlib.suppress(bbipc.SocketClosedError):
                while True:
                    received.append(one.receive_message(PATIENCE))

        messages = [b"%d" % number * (number % 50) for number in range(2000)]
        sending = threading.Thread(target=other.send_messages, args=(messages, PATIENCE))
        receiving = threading.Thread(target=receive)
        receiving.start()
        sending.start()
        while len(received) < 30 * round_number:
            pass
        descriptor = detached(one)
        receiving.join(PROMPTLY)
        assert not receiving.is_alive()
        with bbipc.adopt_stream(descriptor) as rest:
            while len(received) < len(messages):
                received.append(rest.receive_message(PATIENCE))
        sending.join()
        assert received == messages
        other.close()


def test_a_descriptor_that_was_detached_is_not_inherited(transport: Transport) -> None:
    if WINDOWS and transport.name == "local":
        pytest.skip("named pipes can't be detached")
    one, _ = transport.pair()
    with python_socket.socket(fileno=one.detach()) as plain:
        assert not plain.get_inheritable()
