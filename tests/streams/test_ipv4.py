"""The IPv4 namespace: addresses, ports, and connections that fail."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import bbipc
from bbipc import IPV4_ANY, IPV4_LOOPBACK, Events, Ipv4TcpServer, Ipv4TcpStream
from patience import PATIENCE
from readiness import TELLS_ENDS_LATE, WINE
from systems import LINUX, LOOPBACKS, TCP_WAITS_FOR_BACKLOG, WINDOWS
from transports import STREAM_EVENTS, Transport

#: What holds of a stream that could not connect.
FAILED = (
    Events.DETERMINED
    | Events.CONNECTION_FAILED
    | Events.REMOTE_DISCONNECTED
    | Events.END_OF_DATA
    | Events.CONNECTION_SEVERED
)

BAD_HOST_ADDRESSES = [
    "",
    "1",
    "1.2.3",
    "1.2.3.4.5",
    "256.0.0.1",
    "1.2.3.256",
    "1.2.3.1000",
    "01.2.3.4",
    "1.2.3.00",
    "0x7f.0.0.1",
    "127.0.0.1 ",
    " 127.0.0.1",
    "127.0.0.1\n",
    "127.0.0.1\0",
    "1.2.3.-4",
    "1.2.3.+4",
    "1.2.3.4_0",
    "1..2.3",
    "1.2.3.",
    ".1.2.3",
    "a.b.c.d",
    "localhost",
    "::1",
    "127.0.0.1:80",
    "\uff11.2.3.4",
    "\u00b2.2.3.4",
]


@pytest.fixture
def tcp(directory: Any) -> Iterator[Transport]:
    made = Transport("tcp", directory)
    yield made
    made.close()


@pytest.fixture
def server() -> Iterator[Ipv4TcpServer]:
    with bbipc.make_ipv4_tcp_server(IPV4_LOOPBACK, 0) as made:
        yield made


@pytest.fixture
def unused_port() -> int:
    """One that nobody listens on."""
    with bbipc.make_ipv4_tcp_server(IPV4_LOOPBACK, 0) as made:
        return made.port


def accept(server: Ipv4TcpServer) -> Ipv4TcpStream:
    assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
    return server.accept_connection()


# ---- Arguments ----


@pytest.mark.parametrize("address", BAD_HOST_ADDRESSES)
def test_what_is_no_dotted_quad_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="host_address must be an IPv4 address"):
        bbipc.make_ipv4_tcp_server(address, 0)
    with pytest.raises(ValueError, match="host_address must be an IPv4 address"):
        bbipc.connect_to_ipv4_tcp_server(address, 80)
    with pytest.raises(ValueError, match="local_host_address must be an IPv4 address"):
        bbipc.connect_to_ipv4_tcp_server(IPV4_LOOPBACK, 80, local_host_address=address)


@pytest.mark.parametrize("address", [None, b"127.0.0.1", 0x7F000001, ("127.0.0.1", 80)])
def test_a_host_address_of_another_type_is_refused(address: Any) -> None:
    with pytest.raises(TypeError, match=f"host_address.*{type(address).__name__}"):
        bbipc.make_ipv4_tcp_server(address, 0)
    with pytest.raises(TypeError, match=f"host_address.*{type(address).__name__}"):
        bbipc.connect_to_ipv4_tcp_server(address, 80)
    if address is not None:
        with pytest.raises(TypeError, match=f"local_host_address.*{type(address).__name__}"):
            bbipc.connect_to_ipv4_tcp_server(IPV4_LOOPBACK, 80, local_host_address=address)


@pytest.mark.parametrize("port", [-1, 65536, 2**16 + 80, 2**32 + 80, 2**70, -(2**70)])
def test_a_port_out_of_range_is_refused(port: int) -> None:
    with pytest.raises(ValueError, match=r"port must be 0 to 65535"):
        bbipc.make_ipv4_tcp_server(IPV4_LOOPBACK, port)
    with pytest.raises(ValueError, match=r"port must be 0 to 65535"):
        bbipc.connect_to_ipv4_tcp_server(IPV4_LOOPBACK, port)
    with pytest.raises(ValueError, match=r"local_port must be 0 to 65535"):
        bbipc.connect_to_ipv4_tcp_server(IPV4_LOOPBACK, 80, local_port=port)


@pytest.mark.parametrize("port", ["80", b"80", 80.0, [80]])
def test_a_port_that_is_no_integer_is_refused(port: Any) -> None:
    with pytest.raises(TypeError):
        bbipc.make_ipv4_tcp_server(IPV4_LOOPBACK, port)
    with pytest.raises(TypeError):
        bbipc.connect_to_ipv4_tcp_server(IPV4_LOOPBACK, port)
    with pytest.raises(TypeError):
        bbipc.connect_to_ipv4_tcp_server(IPV4_LOOPBACK, 80, local_port=port)


@pytest.mark.parametrize("backlog", [-1, 2**31, 2**32, 2**70])
def test_a_backlog_out_of_range_is_refused(backlog: int) -> None:
    with pytest.raises(ValueError, match="backlog must be 0 to 2147483647"):
        bbipc.make_ipv4_tcp_server(IPV4_LOOPBACK, 0, backlog=backlog)


@pytest.mark.parametrize("backlog", ["1", 1.0, None])
def test_a_backlog_that_is_no_integer_is_refused(backlog: Any) -> None:
    with pytest.raises(TypeError):
        bbipc.make_ipv4_tcp_server(IPV4_LOOPBACK, 0, backlog=backlog)


@pytest.mark.parametrize("backlog", [0, 1, 2**31 - 1])
def test_every_backlog_in_range_makes_a_server(backlog: int) -> None:
    with bbipc.make_ipv4_tcp_server(IPV4_LOOPBACK, 0, backlog=backlog) as server:
        socket.create_connection((IPV4_LOOPBACK, server.port)).close()
        accept(server).close()


def test_options_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        bbipc.make_ipv4_tcp_server(IPV4_LOOPBACK, 0, True)  # type: ignore[misc]
    with pytest.raises(TypeError):
        bbipc.connect_to_ipv4_tcp_server(IPV4_LOOPBACK, 80, IPV4_LOOPBACK)  # type: ignore[misc]


def test_the_constants() -> None:
    assert IPV4_LOOPBACK == "127.0.0.1"
    assert IPV4_ANY == "0.0.0.0"


# ---- Servers ----


def test_port_0_lets_the_system_choose() -> None:
    with bbipc.make_ipv4_tcp_server(IPV4_LOOPBACK, 0) as one, bbipc.make_ipv4_tcp_server(IPV4_LOOPBACK, 0) as other:
        assert one.port != other.port
        assert one.port > 0
        assert one.host_address == IPV4_LOOPBACK
        assert repr(one) == f"<Ipv4TcpServer 127.0.0.1:{one.port}>"


def test_a_chosen_port_is_listened_on(unused_port: int) -> None:
    with bbipc.make_ipv4_tcp_server(IPV4_LOOPBACK, unused_port) as server:
        assert server.port == unused_port
        with socket.create_connection((IPV4_LOOPBACK, unused_port)), accept(server) as stream:
            assert stream.local_port == unused_port


def test_a_server_for_every_address_tells_so() -> None:
    with bbipc.make_ipv4_tcp_server(IPV4_ANY, 0) as server:
        assert server.host_address == IPV4_ANY
        with bbipc.connect_to_ipv4_tcp_server(LOOPBACKS[-1], server.port) as stream, accept(server) as accepted:
            assert stream.remote_host_address == accepted.local_host_address == LOOPBACKS[-1]


@pytest.mark.parametrize("reuse_address", [False, True])
def test_a_port_in_use_is_refused(server: Ipv4TcpServer, reuse_address: bool) -> None:
    with pytest.raises(bbipc.SocketError) as caught:
        bbipc.make_ipv4_tcp_server(server.host_address, server.port, reuse_address=reuse_address)
    assert caught.value.errno == errno.EADDRINUSE


def test_an_address_of_another_machine_is_refused() -> None:
    # TEST-NET-1 (RFC 5737), which no machine has.
    with pytest.raises(bbipc.SocketError) as caught:
        bbipc.make_ipv4_tcp_server("192.0.2.1", 0)
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_reuse_address_listens_on_a_port_whose_connections_linger() -> None:
    with bbipc.make_ipv4_tcp_server(IPV4_LOOPBACK, 0, reuse_address=True) as server:
        port = server.port
        with bbipc.connect_to_ipv4_tcp_server(IPV4_LOOPBACK, port) as client:
            # Whoever closes first is left in TIME_WAIT.
            accept(server).close()
            assert bbipc.poll_socket(client, Events.REMOTE_DISCONNECTED, PATIENCE)
    if not WINDOWS:
        with pytest.raises(bbipc.SocketError) as caught:
            bbipc.make_ipv4_tcp_server(IPV4_LOOPBACK, port)
        assert caught.value.errno == errno.EADDRINUSE
    with bbipc.make_ipv4_tcp_server(IPV4_LOOPBACK, port, reuse_address=True) as server:
        assert server.port == port


# ---- Streams ----


def test_both_ends_tell_both_addresses(server: Ipv4TcpServer) -> None:
    with bbipc.connect_to_ipv4_tcp_server(IPV4_LOOPBACK, server.port) as stream, accept(server) as accepted:
        assert isinstance(stream, Ipv4TcpStream)
        assert isinstance(accepted, Ipv4TcpStream)
        assert stream.local_host_address == stream.remote_host_address == IPV4_LOOPBACK
        assert accepted.local_host_address == accepted.remote_host_address == IPV4_LOOPBACK
        assert stream.remote_port == accepted.local_port == server.port
        assert stream.local_port == accepted.remote_port
        assert repr(stream) == f"<Ipv4TcpStream 127.0.0.1:{stream.local_port} -> 127.0.0.1:{server.port}>"


def test_addresses_are_told_after_the_remote_end_has_gone(server: Ipv4TcpServer) -> None:
    with bbipc.connect_to_ipv4_tcp_server(IPV4_LOOPBACK, server.port) as stream, accept(server) as accepted:
        port = stream.local_port
        stream.close()
        assert bbipc.poll_socket(accepted, Events.REMOTE_DISCONNECTED, PATIENCE)
        assert (accepted.remote_host_address, accepted.remote_port) == (IPV4_LOOPBACK, port)
        assert (accepted.local_host_address, accepted.local_port) == (IPV4_LOOPBACK, server.port)


def test_the_local_address_can_be_chosen(server: Ipv4TcpServer, unused_port: int) -> None:
    with bbipc.connect_to_ipv4_tcp_server(
        IPV4_LOOPBACK, server.port, local_host_address=LOOPBACKS[-1], local_port=unused_port
    ) as stream:
        assert (stream.local_host_address, stream.local_port) == (LOOPBACKS[-1], unused_port)
        with accept(server) as accepted:
            assert (accepted.remote_host_address, accepted.remote_port) == (LOOPBACKS[-1], unused_port)


def test_the_local_host_address_alone_can_be_chosen(server: Ipv4TcpServer) -> None:
    with bbipc.connect_to_ipv4_tcp_server(IPV4_LOOPBACK, server.port, local_host_address=LOOPBACKS[-1]) as stream:
        assert stream.local_host_address == LOOPBACKS[-1]
        assert stream.local_port > 0


def test_the_local_port_alone_can_be_chosen(server: Ipv4TcpServer, unused_port: int) -> None:
    with bbipc.connect_to_ipv4_tcp_server(IPV4_LOOPBACK, server.port, local_port=unused_port) as stream:
        assert (stream.local_host_address, stream.local_port) == (IPV4_LOOPBACK, unused_port)


def test_local_port_0_lets_the_system_choose(server: Ipv4TcpServer) -> None:
    with bbipc.connect_to_ipv4_tcp_server(IPV4_LOOPBACK, server.port, local_port=0) as stream:
        assert stream.local_port > 0


def test_a_local_port_in_use_is_refused(server: Ipv4TcpServer) -> None:
    with pytest.raises(bbipc.SocketError) as caught:
        bbipc.connect_to_ipv4_tcp_server(IPV4_LOOPBACK, server.port, local_port=server.port)
    assert caught.value.errno == errno.EADDRINUSE
    assert f"connect to 127.0.0.1:{server.port} from 0.0.0.0:{server.port}" in str(caught.value)


def test_a_local_address_of_another_machine_is_refused(server: Ipv4TcpServer) -> None:
    with pytest.raises(bbipc.SocketError) as caught:
        bbipc.connect_to_ipv4_tcp_server(IPV4_LOOPBACK, server.port, local_host_address="192.0.2.1")
    assert caught.value.errno == errno.EADDRNOTAVAIL


@contextlib.contextmanager
def as_python_socket(stream: Ipv4TcpStream) -> Iterator[socket.socket]:
    same = socket.socket(fileno=stream.fileno())
    try:
        yield same
    finally:
        same.detach()


def test_small_writes_leave_at_once(server: Ipv4TcpServer) -> None:
    with bbipc.connect_to_ipv4_tcp_server(IPV4_LOOPBACK, server.port) as stream, accept(server) as accepted:
        for one in (stream, accepted):
            with as_python_socket(one) as same:
                assert same.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# ---- Connections that fail ----


def test_a_refused_connection_fails_and_says_why(unused_port: int) -> None:
    with bbipc.connect_to_ipv4_tcp_server(IPV4_LOOPBACK, unused_port) as stream:
        assert bbipc.poll_socket(stream, Events.DETERMINED, PATIENCE)
        assert bbipc.poll_socket(stream, STREAM_EVENTS, 0) == FAILED
        assert stream.determined()
        assert stream.connection_failed()
        assert not stream.connection_succeeded()
        assert not stream.data_available()
        assert not stream.ready_to_write()
        assert stream.remote_disconnected()
        assert stream.end_of_data()
        assert not stream.write_space()
        assert stream.connection_severed()
        for _ in range(2):
            error = stream.connection_error()
            assert isinstance(error, bbipc.SocketError)
            assert error.errno == errno.ECONNREFUSED
            assert getattr(error, "winerror", 10061) == 10061
            assert error.socket is stream
            assert f"127.0.0.1:{unused_port}" in str(error)


def assert_refuses_everything(stream: Ipv4TcpStream, code: int) -> None:
    for attempt in (
        stream.read,
        lambda: stream.read(peek=True),
        lambda: stream.read_into(bytearray(1)),
        lambda: stream.write(b"x"),
        stream.finish_writing,
        lambda: stream.read_exactly(1, PATIENCE),
        lambda: stream.write_all(b"x", PATIENCE),
    ):
        with pytest.raises(bbipc.SocketError) as caught:
            attempt()
        assert caught.value.errno == code
        assert caught.value.socket is stream


def test_every_use_of_a_refused_connection_says_why(unused_port: int) -> None:
    with bbipc.connect_to_ipv4_tcp_server(IPV4_LOOPBACK, unused_port) as stream:
        if not LINUX:
            # Linux refuses at once.
            assert bbipc.poll_socket(stream, Events.DETERMINED, PATIENCE)
        assert_refuses_everything(stream, errno.ECONNREFUSED)


def test_waiting_to_read_or_write_ends_when_the_connection_is_refused(unused_port: int) -> None:
    for action in (lambda one: one.read_exactly(1, PATIENCE), lambda one: one.write_all(b"x", PATIENCE)):
        with bbipc.connect_to_ipv4_tcp_server(IPV4_LOOPBACK, unused_port) as stream:
            with pytest.raises(bbipc.SocketError) as caught:
                action(stream)
            assert caught.value.errno == errno.ECONNREFUSED


@pytest.mark.parametrize(("address", "port"), [("255.255.255.255", 80), (IPV4_LOOPBACK, 0)])
def test_an_unreachable_server_raises_nothing(address: str, port: int) -> None:
    with bbipc.connect_to_ipv4_tcp_server(address, port) as stream:
        assert bbipc.poll_socket(stream, Events.DETERMINED, PATIENCE)
        assert bbipc.poll_socket(stream, STREAM_EVENTS, 0) == FAILED
        assert isinstance(stream.connection_error(), bbipc.SocketError)
        assert (stream.remote_host_address, stream.remote_port) == (address, port)


@pytest.mark.parametrize("events", [FAILED, Events.CONNECTION_FAILED, Events.REMOTE_DISCONNECTED, Events.END_OF_DATA])
def test_a_refusal_is_the_same_for_every_way_of_asking(unused_port: int, events: Events, backend: str) -> None:
    with bbipc.connect_to_ipv4_tcp_server(IPV4_LOOPBACK, unused_port) as stream, bbipc.make_poller(backend) as poller:
        poller.monitor_socket(stream, events)
        assert poller.wait_for_events(PATIENCE) == [(stream, events)]
    with bbipc.connect_to_ipv4_tcp_server(IPV4_LOOPBACK, unused_port) as stream:
        assert bbipc.poll_socket(stream, events, PATIENCE) == events
    with bbipc.connect_to_ipv4_tcp_server(IPV4_LOOPBACK, unused_port) as stream:
        assert bbipc.poll_sockets([stream], events, PATIENCE) == [events]


CONNECT_WHERE_PORTS_ARE_FEW = """
import ctypes, errno, fcntl, os, socket, struct, sys
import bbipc
from bbipc import Events

CLONE_NEWUSER, CLONE_NEWNET, SIOCSIFFLAGS, IFF_UP = 0x10000000, 0x40000000, 0x8914, 0x1
if ctypes.CDLL(None).unshare(CLONE_NEWNET if os.geteuid() == 0 else CLONE_NEWNET | CLONE_NEWUSER) != 0:
    sys.exit(77)
with socket.socket() as control:
    fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
for last_port in (40000, 40001, 40003):
    with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
        file.write(f"40000 {last_port}")
    for _ in range(20):
        try:
            with bbipc.connect_to_ipv4_tcp_server("127.0.0.1", 40000) as stream:
                assert bbipc.poll_socket(stream, Events.DETERMINED, 10)
                assert stream.connection_failed(), stream
        except bbipc.SocketError as error:
            # It met itself at each of several tries.
            assert error.errno == errno.ECONNREFUSED
    # Nothing of it lingers that would keep the port from a server.
    bbipc.make_ipv4_tcp_server("127.0.0.1", 40000).close()
"""


@pytest.mark.skipif(not LINUX, reason="only Linux lets a test have a network of its own (unshare(2))")
def test_a_stream_never_connects_to_itself() -> None:
    # TCP allows it (simultaneous open, RFC 9293, 3.5) where the port that the system chooses for this end is the one
    # that is connected to. In a network of its own with one to four ports, that is likely.
    finished = subprocess.run([sys.executable, "-c", CONNECT_WHERE_PORTS_ARE_FEW], timeout=PATIENCE)
    if finished.returncode == 77:
        pytest.skip("this user may not make a network namespace (unshare(2))")
    assert finished.returncode == 0


# ---- Connections that are under way ----


@pytest.fixture
def pending(tcp: Transport) -> tuple[Ipv4TcpServer, Ipv4TcpStream]:
    """A server whose backlog is full, and a stream whose request it does not answer."""
    if not (TCP_WAITS_FOR_BACKLOG or WINDOWS):
        pytest.skip("a client that the backlog has no room for is let in, and reset a moment later, or refused")
    server = tcp.make_server(backlog=0)
    assert isinstance(server, Ipv4TcpServer)
    streams: list[Ipv4TcpStream] = []
    # Linux keeps one connection more than the backlog says.
    for _ in range(2):
        stream = tcp.connect(server)
        assert isinstance(stream, Ipv4TcpStream)
        streams.append(stream)
    assert bbipc.poll_socket(streams[0], Events.DETERMINED, PATIENCE)
    # Windows asks three times before it gives up; under Wine it is Linux that leaves the request unanswered.
    if WINDOWS and bbipc.poll_socket(streams[-1], Events.DETERMINED, 0.05 if WINE else 3):
        pytest.skip("Windows refuses a connection that the backlog has no room for, or keeps more of them")
    assert not streams[-1].determined()
    return server, streams[-1]


def test_a_stream_under_way_has_no_events(pending: tuple[Ipv4TcpServer, Ipv4TcpStream], backend: str) -> None:
    stream = pending[1]
    assert not bbipc.poll_socket(stream, STREAM_EVENTS, 0.02)
    with bbipc.make_poller(backend) as poller:
        poller.monitor_socket(stream, STREAM_EVENTS)
        assert poller.wait_for_events(0.02) == []
    assert stream.connection_error() is None
    assert not stream.connection_failed()
    assert not stream.connection_succeeded()
    assert not stream.remote_disconnected()


def test_a_stream_under_way_neither_reads_nor_writes(pending: tuple[Ipv4TcpServer, Ipv4TcpStream]) -> None:
    stream = pending[1]
    assert stream.read() == b""
    assert stream.read(peek=True) == b""
    assert stream.read_into(bytearray(8)) == 0
    assert stream.write(b"too early") == 0
    with pytest.raises(bbipc.TimeoutError) as reading:
        stream.read_exactly(1, 0.01)
    assert reading.value.partial == b""
    with pytest.raises(bbipc.TimeoutError) as writing:
        stream.write_all(b"too early", 0.01)
    assert writing.value.bytes_written == 0
    with pytest.raises(bbipc.SocketError) as finishing:
        stream.finish_writing()
    assert finishing.value.errno == errno.ENOTCONN
    # The attempt goes on.
    assert not stream.determined()


def test_a_stream_under_way_tells_its_addresses(pending: tuple[Ipv4TcpServer, Ipv4TcpStream]) -> None:
    server, stream = pending
    assert (stream.remote_host_address, stream.remote_port) == (IPV4_LOOPBACK, server.port)
    assert stream.local_port > 0


def test_a_wait_under_way_learns_of_the_connection(pending: tuple[Ipv4TcpServer, Ipv4TcpStream], backend: str) -> None:
    server, stream = pending
    succeeded = Events.DETERMINED | Events.CONNECTION_SUCCEEDED
    with bbipc.make_poller(backend) as poller, bbipc.make_poller(backend) as other:
        poller.monitor_socket(stream, succeeded | Events.CONNECTION_FAILED)
        other.monitor_socket(stream, Events.CONNECTION_SUCCEEDED)
        accept(server).close()
        # TCP repeats its request after a second.
        assert poller.wait_for_events(PATIENCE) == [(stream, succeeded)]
        # That the first poller has heard of it does not keep it from the second.
        assert other.wait_for_events(PATIENCE) == [(stream, Events.CONNECTION_SUCCEEDED)]


def test_what_is_written_under_way_follows_the_connection(pending: tuple[Ipv4TcpServer, Ipv4TcpStream]) -> None:
    server, stream = pending
    accept(server).close()
    stream.write_all(b"early, and yet sent", PATIENCE)
    with accept(server) as accepted:
        assert accepted.read_exactly(19, PATIENCE) == b"early, and yet sent"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a connection time out soon (TCP_USER_TIMEOUT)")
def test_a_connection_that_times_out_fails_and_says_why(pending: tuple[Ipv4TcpServer, Ipv4TcpStream]) -> None:
    stream = pending[1]
    with as_python_socket(stream) as same:
        same.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1)
    assert bbipc.poll_socket(stream, STREAM_EVENTS, PATIENCE) == FAILED
    error = stream.connection_error()
    assert error is not None
    assert error.errno == errno.ETIMEDOUT
    assert_refuses_everything(stream, errno.ETIMEDOUT)


def test_closing_a_stream_under_way_ends_the_attempt(pending: tuple[Ipv4TcpServer, Ipv4TcpStream]) -> None:
    server, stream = pending
    stream.close()
    accept(server).close()
    assert not server.connection_available()


# ---- Urgent data ----


def test_bytes_behind_urgent_data_are_not_lost(tcp: Transport) -> None:
    # FIONREAD stops at the urgent byte, as if there were nothing behind it.
    stream, peer = tcp.python_peer()
    peer.sendall(b"before")
    peer.send(b"!", socket.MSG_OOB)
    peer.sendall(b"behind")
    peer.close()
    assert TELLS_ENDS_LATE or bbipc.poll_socket(stream, Events.REMOTE_DISCONNECTED, PATIENCE)
    received = bytearray()
    while not stream.end_of_data():
        assert bbipc.poll_socket(stream, Events.DATA_AVAILABLE | Events.END_OF_DATA, PATIENCE)
        received += stream.read()
    assert bytes(received) == b"beforebehind"


# ---- Names ----


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_a_name_is_resolved(name: str) -> None:
    assert bbipc.resolve_ipv4_address(name) == "127.0.0.1"


def test_a_name_without_an_ipv4_address_gives_none() -> None:
    assert bbipc.resolve_ipv4_address("::1") is None


#: Windows' are numbers of Winsock; the last is WSANO_DATA, for which the socket module has no name. Not every FreeBSD
#: has all of the others.
NO_SUCH_NAME = [socket.EAI_NONAME, 11004]
if not WINDOWS:
    names = ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY")
    NO_SUCH_NAME = [getattr(socket, name) for name in names if hasattr(socket, name)]
RESOLVER_FAILS = [socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_MEMORY]
if not WINDOWS:
    RESOLVER_FAILS.append(socket.EAI_SYSTEM)


@pytest.mark.parametrize("code", NO_SUCH_NAME)
def test_every_way_of_not_existing_gives_none(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def fail(*_arguments: object) -> None:
        raise socket.gaierror(code, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert bbipc.resolve_ipv4_address("nobody.invalid") is None


@pytest.mark.parametrize("code", RESOLVER_FAILS)
def test_a_resolver_that_fails_is_a_socket_error(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def fail(*_arguments: object) -> None:
        raise socket.gaierror(code, "the resolver's own words")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(bbipc.SocketError, match=r"somebody\.invalid.*the resolver's own words") as caught:
        bbipc.resolve_ipv4_address("somebody.invalid")
    assert isinstance(caught.value.__cause__, socket.gaierror)
    assert caught.value.errno == (errno.EAGAIN if code == socket.EAI_AGAIN else errno.EIO)
    assert getattr(caught.value, "winerror", code) == code


def test_a_resolver_that_the_system_refuses_is_a_socket_error(monkeypatch: pytest.MonkeyPatch) -> None:
    # So Python tells of EAI_SYSTEM: it is no gaierror then.
    def fail(*_arguments: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    for resolve in (bbipc.resolve_ipv4_address, lambda name: bbipc.connect(f"tcp:{name}:1", timeout=1)):
        with pytest.raises(bbipc.SocketError, match=r"cannot resolve 'somebody\.invalid': Too many") as caught:
            resolve("somebody.invalid")
        assert caught.value.errno == errno.EMFILE


def test_an_answer_without_addresses_gives_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments: [])
    assert bbipc.resolve_ipv4_address("nobody.invalid") is None


@pytest.mark.parametrize("name", ["a" * 64 + ".invalid", "a..invalid", "localhost\0.invalid"])
def test_what_can_not_be_a_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        bbipc.resolve_ipv4_address(name)


@pytest.mark.parametrize("name", [None, b"localhost", 1])
def test_a_name_of_another_type_is_refused(name: Any) -> None:
    with pytest.raises(TypeError, match=type(name).__name__):
        bbipc.resolve_ipv4_address(name)


def test_an_empty_name_resolves_to_nothing() -> None:
    assert bbipc.resolve_ipv4_address("") is None


# ---- What the system's own tools see ----


def test_descriptors_serve_the_standard_library(tcp: Transport) -> None:
    stream, peer = tcp.pair()
    peer.write_all(b"x")
    readable, _, _ = select.select([stream], [], [], PATIENCE)
    assert readable == [stream]
