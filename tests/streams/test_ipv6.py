"""The IPv6 namespace: addresses and their text, scopes, servers for both families, and peers that nobody here wrote.

What any stream does is tested over IPv6 by the other files.
"""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Union

import pytest

import bbipc
from bbipc import IPV6_ANY, IPV6_LOOPBACK, Events, Ipv4TcpServer, Ipv4TcpStream, Ipv6TcpServer, Ipv6TcpStream
from bbipc.hosts import format_ipv6, parse_ipv6
from patience import PATIENCE
from systems import LINUX, WINDOWS
from transports import without_ipv6

TcpServer = Union[Ipv4TcpServer, Ipv6TcpServer]
TcpStream = Union[Ipv4TcpStream, Ipv6TcpStream]

needs_ipv6 = pytest.mark.skipif(without_ipv6() is not None, reason=str(without_ipv6()))

BAD_HOST_ADDRESSES = [
    "",
    ":",
    ":::",
    "1",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "1:2:3:4:5:6:7:8::",
    "::1:2:3:4:5:6:7:8",
    "1::2::3",
    ":1:2:3:4:5:6:7:8",
    "1:2:3:4:5:6:7:8:",
    "12345::",
    "g::",
    "-1::",
    "+1::",
    "1_0::",
    "::1 ",
    " ::1",
    "::1\n",
    "::1\0",
    "::\uff11",
    "::1.2.3",
    "::1.2.3.256",
    "::01.2.3.4",
    "1.2.3.4::",
    "::1.2.3.4:5",
    "1:2:3:4:5:6:7:1.2.3.4",
    "[::1]",
    "[::1]:80",
    "::1/128",
    "127.0.0.1",
    "localhost",
]

#: RFC 5952, 4 and 5; and RFC 4291's examples.
TEXTS = {
    "::": "::",
    "::1": "::1",
    "0:0:0:0:0:0:0:1": "::1",
    "2001:DB8::00A1": "2001:db8::a1",
    "2001:0db8:0:0:1:0:0:1": "2001:db8::1:0:0:1",
    "2001:db8:0:1:1:1:1:1": "2001:db8:0:1:1:1:1:1",
    "2001:db8::1:1:1:1:1": "2001:db8:0:1:1:1:1:1",
    "1:0:0:2:0:0:0:3": "1:0:0:2::3",
    "1::": "1::",
    "1:2:3:4:5:6:7::": "1:2:3:4:5:6:7:0",
    "::2:3:4:5:6:7:8": "0:2:3:4:5:6:7:8",
    "64:ff9b::192.0.2.33": "64:ff9b::c000:221",
    "::ffff:192.0.2.33": "192.0.2.33",
    "::ffff:c000:221": "192.0.2.33",
    "::fffe:c000:221": "::fffe:c000:221",
    "::192.0.2.33": "::c000:221",
}


class Family(NamedTuple):
    """The functions of one family of TCP."""

    make_server: Callable[..., TcpServer]
    connect: Callable[..., TcpStream]
    loopback: str


IPV4 = Family(bbipc.make_ipv4_tcp_server, bbipc.connect_to_ipv4_tcp_server, bbipc.IPV4_LOOPBACK)
IPV6 = Family(bbipc.make_ipv6_tcp_server, bbipc.connect_to_ipv6_tcp_server, IPV6_LOOPBACK)
families = pytest.mark.parametrize("family", [IPV4, pytest.param(IPV6, marks=needs_ipv6)], ids=["ipv4", "ipv6"])


@pytest.fixture
def server() -> Iterator[Ipv6TcpServer]:
    if without_ipv6() is not None:
        pytest.skip(str(without_ipv6()))
    with bbipc.make_ipv6_tcp_server(IPV6_LOOPBACK, 0) as made:
        yield made


def accept(server: Any) -> Any:
    assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
    return server.accept_connection()


# ---- Text ----


@pytest.mark.parametrize("text", TEXTS)
def test_an_address_is_written_as_rfc_5952_says(text: str) -> None:
    assert format_ipv6(parse_ipv6(text)) == TEXTS[text]


def test_text_is_taken_as_by_inet_pton() -> None:
    numbers = random.Random(1)
    taken = 0
    for _ in range(100_000):
        text = "".join(numbers.choice("0:1:::fA.%g2") for _ in range(numbers.randrange(18)))
        try:
            expected = socket.inet_pton(socket.AF_INET6, text) if "%" not in text else None
        except OSError:
            expected = None
        try:
            found = parse_ipv6(text)
        except ValueError:
            assert expected is None, text
        else:
            assert found == expected, text
            taken += 1
    assert taken > 1000


def test_every_address_comes_back() -> None:
    numbers = random.Random(2)
    for _ in range(20_000):
        zeros = numbers.choice([0.1, 0.5, 0.9])
        host = bytes(0 if numbers.random() < zeros else numbers.randrange(256) for _ in range(16))
        text = format_ipv6(host)
        assert text == text.lower()
        assert parse_ipv6(text) == socket.inet_pton(socket.AF_INET6, text) == host


@pytest.mark.parametrize("address", BAD_HOST_ADDRESSES)
def test_what_is_no_ipv6_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"^host_address must be an IPv6 address"):
        bbipc.make_ipv6_tcp_server(address, 0)
    with pytest.raises(ValueError, match=r"^host_address must be an IPv6 address"):
        bbipc.connect_to_ipv6_tcp_server(address, 80)
    with pytest.raises(ValueError, match=r"^local_host_address must be an IPv6 address"):
        bbipc.connect_to_ipv6_tcp_server(IPV6_LOOPBACK, 80, local_host_address=address)


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("[::1]", "without brackets"),
        ("127.0.0.1", "the functions for IPv4"),
        ("localhost", "resolve_ipv6_address"),
        ("::ffff:127.0.0.1", "give '127.0.0.1' to the functions for IPv4"),
        ("::ffff:7f00:1", "give '127.0.0.1' to the functions for IPv4"),
        ("fe80::1", "'fe80::1%eth0'"),
        ("febf::1", "'febf::1%eth0'"),
        ("fe80::1%", "name of a network interface, or a number from 1 to 4294967295, not ''"),
        ("fe80::1%0", "not '0'"),
        ("fe80::1%4294967296", "not '4294967296'"),
        ("fe80::1%" + "9" * 5000, "from 1 to 4294967295"),
        ("fe80::1%lo\0", "not 'lo"),
    ],
)
def test_a_wrong_address_says_what_to_do(address: str, hint: str) -> None:
    for attempt in (
        lambda: bbipc.make_ipv6_tcp_server(address, 0),
        lambda: bbipc.connect_to_ipv6_tcp_server(address, 80),
        lambda: bbipc.connect_to_ipv6_tcp_server(IPV6_LOOPBACK, 80, local_host_address=address),
    ):
        with pytest.raises(ValueError, match=re.escape(hint)):
            attempt()


def test_the_ipv4_functions_say_whose_an_ipv6_address_is() -> None:
    with pytest.raises(ValueError, match="the functions for IPv6"):
        bbipc.make_ipv4_tcp_server("::1", 0)


@pytest.mark.parametrize("address", [None, b"::1", bytes(16), 1, ("::1", 80)])
def test_a_host_address_of_another_type_is_refused(address: Any) -> None:
    with pytest.raises(TypeError, match=f"^host_address.*{type(address).__name__}"):
        bbipc.make_ipv6_tcp_server(address, 0)
    with pytest.raises(TypeError, match=f"^host_address.*{type(address).__name__}"):
        bbipc.connect_to_ipv6_tcp_server(address, 80)


@pytest.mark.parametrize("port", [-1, 65536, 2**70])
def test_a_port_out_of_range_is_refused(port: int) -> None:
    with pytest.raises(ValueError, match=r"^port must be 0 to 65535"):
        bbipc.make_ipv6_tcp_server(IPV6_LOOPBACK, port)
    with pytest.raises(ValueError, match=r"^port must be 0 to 65535"):
        bbipc.connect_to_ipv6_tcp_server(IPV6_LOOPBACK, port)
    with pytest.raises(ValueError, match=r"^local_port must be 0 to 65535"):
        bbipc.connect_to_ipv6_tcp_server(IPV6_LOOPBACK, 80, local_port=port)


@pytest.mark.parametrize("backlog", [-1, 2**31])
def test_a_backlog_out_of_range_is_refused(backlog: int) -> None:
    with pytest.raises(ValueError, match=r"^backlog must be 0 to 2147483647"):
        bbipc.make_ipv6_tcp_server(IPV6_LOOPBACK, 0, backlog=backlog)


def test_the_constants() -> None:
    assert (IPV6_LOOPBACK, IPV6_ANY) == ("::1", "::")


USE_WITHOUT_SOCKET = """
import sys
import bbipc
with bbipc.make_ipv6_tcp_server("::1", 0) as server:
    with bbipc.connect_to_ipv6_tcp_server("::1", server.port) as stream:
        assert (stream.remote_host_address, stream.remote_port) == ("::1", server.port)
assert not {"socket", "_socket", "ipaddress"} & set(sys.modules), sys.modules
"""


@needs_ipv6
def test_ipv6_needs_no_other_module() -> None:
    subprocess.run([sys.executable, "-c", USE_WITHOUT_SOCKET], timeout=PATIENCE, check=True)


# ---- Servers and streams ----


def test_both_ends_tell_both_addresses(server: Ipv6TcpServer) -> None:
    with bbipc.connect_to_ipv6_tcp_server(IPV6_LOOPBACK, server.port) as stream, accept(server) as accepted:
        assert type(stream) is type(accepted) is Ipv6TcpStream
        assert stream.local_host_address == stream.remote_host_address == server.host_address == "::1"
        assert accepted.local_host_address == accepted.remote_host_address == "::1"
        assert stream.remote_port == accepted.local_port == server.port
        assert stream.local_port == accepted.remote_port
        assert repr(server) == f"<Ipv6TcpServer [::1]:{server.port}>"
        assert repr(stream) == f"<Ipv6TcpStream [::1]:{stream.local_port} -> [::1]:{server.port}>"
        port = stream.local_port
        stream.close()
        assert bbipc.poll_socket(accepted, Events.REMOTE_DISCONNECTED, PATIENCE)
        assert (accepted.remote_host_address, accepted.remote_port) == ("::1", port)


def test_the_local_address_can_be_chosen(server: Ipv6TcpServer) -> None:
    connect = bbipc.connect_to_ipv6_tcp_server
    with connect(IPV6_LOOPBACK, server.port, local_host_address=IPV6_LOOPBACK) as stream, accept(server) as accepted:
        assert (accepted.remote_host_address, accepted.remote_port) == ("::1", stream.local_port)
    with bbipc.make_ipv6_tcp_server(IPV6_LOOPBACK, 0) as scout:
        port = scout.port
    with connect("0::1", server.port, local_port=port) as stream:
        assert (stream.local_host_address, stream.local_port) == ("::1", port)


@pytest.mark.parametrize("reuse_address", [False, True])
def test_a_port_in_use_is_refused(server: Ipv6TcpServer, reuse_address: bool) -> None:
    with pytest.raises(bbipc.SocketError) as caught:
        bbipc.make_ipv6_tcp_server(IPV6_LOOPBACK, server.port, reuse_address=reuse_address)
    assert caught.value.errno == errno.EADDRINUSE
    assert f"cannot listen on [::1]:{server.port}: " in str(caught.value)
    with pytest.raises(bbipc.SocketError) as caught:
        bbipc.connect_to_ipv6_tcp_server(IPV6_LOOPBACK, server.port, local_port=server.port)
    assert caught.value.errno == errno.EADDRINUSE
    assert f"connect to [::1]:{server.port} from [::]:{server.port}" in str(caught.value)


def test_an_address_of_another_machine_is_refused(server: Ipv6TcpServer) -> None:
    # The addresses of documentation (RFC 3849), which no machine has.
    for attempt in (
        lambda: bbipc.make_ipv6_tcp_server("2001:db8::1", 0),
        lambda: bbipc.connect_to_ipv6_tcp_server(IPV6_LOOPBACK, server.port, local_host_address="2001:db8::1"),
    ):
        with pytest.raises(bbipc.SocketError) as caught:
            attempt()
        assert caught.value.errno == errno.EADDRNOTAVAIL
        assert "no network interface of this machine has that address" in str(caught.value)


def test_an_interface_that_is_not_there_is_refused() -> None:
    for attempt in (
        lambda: bbipc.make_ipv6_tcp_server("fe80::1%nowhere9", 0),
        lambda: bbipc.connect_to_ipv6_tcp_server("fe80::1%nowhere9", 80),
    ):
        with pytest.raises(bbipc.SocketError, match="no network interface 'nowhere9'") as caught:
            attempt()
        assert caught.value.errno == errno.ENODEV


def test_a_refused_connection_fails_and_says_why(server: Ipv6TcpServer) -> None:
    port = server.port
    server.close()
    with bbipc.connect_to_ipv6_tcp_server(IPV6_LOOPBACK, port) as stream:
        assert bbipc.poll_socket(stream, Events.CONNECTION_FAILED, PATIENCE)
        error = stream.connection_error()
        assert isinstance(error, bbipc.SocketError)
        assert error.errno == errno.ECONNREFUSED
        assert f"[::1]:{port}" in str(error)


def test_the_address_of_all_addresses_is_this_machine_for_a_client() -> None:
    if without_ipv6() is not None:
        pytest.skip(str(without_ipv6()))
    with bbipc.make_ipv6_tcp_server(IPV6_ANY, 0) as server:
        assert server.host_address == "::"
        with bbipc.connect_to_ipv6_tcp_server(IPV6_ANY, server.port) as stream, accept(server) as accepted:
            assert stream.remote_host_address == "::"
            assert accepted.local_host_address == "::1"


def option_of(one: TcpServer | TcpStream) -> int:
    same = socket.socket(fileno=one.fileno())
    try:
        return same.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    finally:
        same.detach()


@needs_ipv6
def test_whether_a_socket_takes_ipv4_is_never_left_to_the_system() -> None:
    for dual_stack in (False, True):
        with bbipc.make_ipv6_tcp_server(IPV6_ANY, 0, dual_stack=dual_stack) as server:
            assert option_of(server) == (not dual_stack)
            with bbipc.connect_to_ipv6_tcp_server(IPV6_LOOPBACK, server.port) as stream:
                assert option_of(stream) == 1


@needs_ipv6
def test_a_server_for_both_families_shows_clients_of_ipv4_as_they_are() -> None:
    with bbipc.make_ipv6_tcp_server(IPV6_ANY, 0, dual_stack=True) as server:
        with bbipc.connect_to_ipv4_tcp_server("127.0.0.1", server.port) as stream, accept(server) as accepted:
            assert type(accepted) is Ipv6TcpStream
            assert (accepted.remote_host_address, accepted.remote_port) == ("127.0.0.1", stream.local_port)
            assert (accepted.local_host_address, accepted.local_port) == ("127.0.0.1", server.port)
            assert repr(accepted) == f"<Ipv6TcpStream 127.0.0.1:{server.port} -> 127.0.0.1:{stream.local_port}>"
            stream.write_all(b"from IPv4", PATIENCE)
            assert accepted.read_exactly(9, PATIENCE) == b"from IPv4"
        with bbipc.connect_to_ipv6_tcp_server(IPV6_LOOPBACK, server.port), accept(server) as accepted:
            assert accepted.remote_host_address == "::1"


@needs_ipv6
def test_a_server_for_ipv6_alone_refuses_ipv4() -> None:
    with bbipc.make_ipv6_tcp_server(IPV6_ANY, 0) as server:
        with bbipc.connect_to_ipv4_tcp_server("127.0.0.1", server.port) as stream:
            assert bbipc.poll_socket(stream, Events.DETERMINED, PATIENCE)
            error = stream.connection_error()
            assert error is not None
            assert error.errno == errno.ECONNREFUSED
        # And leaves the port of IPv4 to others.
        with bbipc.make_ipv4_tcp_server(bbipc.IPV4_ANY, server.port) as other:
            stream = bbipc.connect_to_ipv4_tcp_server("127.0.0.1", server.port)
            with stream, accept(other):
                assert not server.connection_available()


def test_a_server_for_both_families_needs_every_address() -> None:
    with pytest.raises(ValueError, match="dual_stack needs host_address '::'"):
        bbipc.make_ipv6_tcp_server(IPV6_LOOPBACK, 0, dual_stack=True)


# ---- Ports that linger, of both families ----


@families
def test_reuse_address_listens_on_a_port_whose_connections_linger(family: Family) -> None:
    with family.make_server(family.loopback, 0, reuse_address=True) as server:
        port = server.port
        with family.connect(family.loopback, port) as client:
            # Whoever closes first is left in TIME_WAIT.
            accept(server).close()
            assert bbipc.poll_socket(client, Events.REMOTE_DISCONNECTED, PATIENCE)
    if not WINDOWS:
        with pytest.raises(bbipc.SocketError, match="reuse_address=True") as caught:
            family.make_server(family.loopback, port)
        assert caught.value.errno == errno.EADDRINUSE
    with family.make_server(family.loopback, port, reuse_address=True) as server:
        assert server.port == port


@families
def test_reuse_address_connects_from_a_port_whose_connections_linger(family: Family) -> None:
    with family.make_server(family.loopback, 0) as first, family.make_server(family.loopback, 0) as second:
        with family.make_server(family.loopback, 0) as scout:
            port = scout.port
        stream = family.connect(family.loopback, first.port, local_port=port, reuse_address=True)
        with accept(first) as accepted:
            # Whoever closes first is left in TIME_WAIT.
            stream.close()
            assert bbipc.poll_socket(accepted, Events.REMOTE_DISCONNECTED, PATIENCE)
        if not WINDOWS:
            with pytest.raises(bbipc.SocketError, match="reuse_address=True") as caught:
                family.connect(family.loopback, second.port, local_port=port)
            assert caught.value.errno == errno.EADDRINUSE
        with family.connect(family.loopback, second.port, local_port=port, reuse_address=True) as stream:
            assert bbipc.poll_socket(stream, Events.CONNECTION_SUCCEEDED, PATIENCE)
            with accept(second) as accepted:
                assert accepted.remote_port == port


@families
def test_reuse_address_never_takes_a_port_from_a_server(family: Family) -> None:
    with family.make_server(family.loopback, 0, reuse_address=True) as server:
        with pytest.raises(bbipc.SocketError) as caught:
            family.connect(family.loopback, server.port, local_port=server.port, reuse_address=True)
        assert caught.value.errno == errno.EADDRINUSE
        assert "another socket has that local port" in str(caught.value)


@families
@pytest.mark.parametrize("local_port", [None, 0])
def test_reuse_address_needs_a_local_port(family: Family, local_port: int | None) -> None:
    with pytest.raises(ValueError, match="reuse_address needs a local_port"):
        family.connect(family.loopback, 80, local_port=local_port, reuse_address=True)


# ---- A network of its own ----

SCOPES = """
import errno, os, socket
import bbipc
from bbipc import Events

def pair(server, host_address, **options):
    stream = bbipc.connect_to_ipv6_tcp_server(host_address, server.port, **options)
    assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, 10)
    return stream, server.accept_connection()

# The same address, and the same port, at two interfaces.
one = bbipc.make_ipv6_tcp_server("fe80::1%v0", 0)
other = bbipc.make_ipv6_tcp_server(f"fe80::1%{socket.if_nametoindex('v1')}", one.port)
for server, name in ((one, "v0"), (other, "v1")):
    assert server.host_address == f"fe80::1%{name}"
    assert repr(server) == f"<Ipv6TcpServer [fe80::1%{name}]:{one.port}>"
    assert server.address == f"tcp:[fe80::1%{name}]:{one.port}"
    with bbipc.connect(str(server.address), timeout=10) as stream:
        assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, 10)
        with server.accept_connection() as accepted:
            for end in (stream, accepted):
                assert bbipc.Address(str(end.address)) == end.address == f"tcp:[fe80::1%{name}]:{end.remote_port}"
    for host_address in (server.host_address, f"fe80::1%{socket.if_nametoindex(name)}"):
        stream, accepted = pair(server, host_address)
        with stream, accepted:
            assert stream.remote_host_address == stream.local_host_address == f"fe80::1%{name}", stream
            assert accepted.remote_host_address == accepted.local_host_address == f"fe80::1%{name}", accepted
            stream.write_all(name.encode(), 10)
            assert accepted.read_exactly(2, 10) == name.encode()
    local = f"fe80::1%{name}"
    with bbipc.connect_to_ipv6_tcp_server(local, server.port, local_host_address=local) as stream:
        assert stream.local_host_address == local
    assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, 10)
    server.accept_connection().close()

# From one end of the cable to the other.
with bbipc.make_ipv6_tcp_server("fe80::2%v1", 0) as far:
    stream, accepted = pair(far, "fe80::2%v0", local_host_address="fe80::3%v0")
    with stream, accepted:
        assert (stream.remote_host_address, stream.local_host_address) == ("fe80::2%v0", "fe80::3%v0"), stream
        assert (accepted.local_host_address, accepted.remote_host_address) == ("fe80::2%v1", "fe80::3%v1"), accepted

assert bbipc.resolve_ipv6_address("fe80::1%v1") == "fe80::1%v1"

# A number of no interface; an address that the interface has not.
for address, code in (("fe80::1%999999", errno.ENODEV), ("fe80::4%v0", errno.EADDRNOTAVAIL)):
    try:
        bbipc.make_ipv6_tcp_server(address, 0)
    except bbipc.SocketError as error:
        assert error.errno == code, error
    else:
        raise AssertionError(address)

# There is no way to other networks.
with bbipc.connect_to_ipv6_tcp_server("2001:db8::1", 80) as stream:
    assert bbipc.poll_socket(stream, Events.CONNECTION_FAILED, 10)
    assert stream.connection_error().errno == errno.ENETUNREACH
    assert "no way into that network" in str(stream.connection_error())

# An interface that has gone has no name.
number = socket.if_nametoindex("v0")
os.system("ip link del v0")
assert one.host_address == f"fe80::1%{number}", one
one.close()
other.close()
"""

SILENT_NEIGHBOUR = """
import os, socket, time
import bbipc
from bbipc import Events

# Nobody answers for the first address.
HOSTS = [
    (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::77", 0, 0, socket.if_nametoindex("v0"))),
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
]
socket.getaddrinfo = lambda *_arguments: HOSTS

for _ in range(3):
    with bbipc.listen("tcp:127.0.0.1:0") as server:
        before = len(os.listdir("/proc/self/fd"))
        began = time.perf_counter()
        with bbipc.connect(f"tcp:somebody.invalid:{server.address.port}", timeout=10) as stream:
            seconds = time.perf_counter() - began
            assert stream.address == server.address
            # The attempt that has lost is closed.
            assert len(os.listdir("/proc/self/fd")) == before + 1
        assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, 10)
        server.accept_connection().close()
    assert seconds >= 0.25
    if seconds < 0.4:
        break
else:
    raise AssertionError(f"connected after {seconds} s")

# There is no way to other networks, which no server changes.
began = time.perf_counter()
for address in ("tcp:192.0.2.1:80", "tcp:[2001:db8::1]:80"):
    try:
        bbipc.connect(address, timeout=50)
    except bbipc.SocketError as error:
        assert "no way into that network" in str(error), error
    else:
        raise AssertionError(address)
assert time.perf_counter() - began < 10
"""

SELF_CONNECTIONS = """
import errno
import bbipc
from bbipc import Events

for last_port in (40000, 40001, 40003):
    with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
        file.write(f"40000 {last_port}")
    for host_address in ("::1", "::"):
        for _ in range(20):
            try:
                with bbipc.connect_to_ipv6_tcp_server(host_address, 40000) as stream:
                    assert bbipc.poll_socket(stream, Events.DETERMINED, 10)
                    assert stream.connection_failed(), stream
            except bbipc.SocketError as error:
                # It met itself at each of several tries.
                assert error.errno == errno.ECONNREFUSED
    bbipc.make_ipv6_tcp_server("::1", 40000).close()
"""

SYSTEM_FOR_BOTH = """
import bbipc
from bbipc import Events

for setting in "01":
    with open("/proc/sys/net/ipv6/bindv6only", "w") as file:
        file.write(setting)
    for dual_stack in (False, True):
        with bbipc.make_ipv6_tcp_server("::", 0, dual_stack=dual_stack) as server:
            with bbipc.connect_to_ipv4_tcp_server("127.0.0.1", server.port) as stream:
                assert bbipc.poll_socket(stream, Events.DETERMINED, 10)
                assert stream.connection_succeeded() is dual_stack, (setting, dual_stack)
"""

WITHOUT_LOOPBACK = """
import errno
import bbipc

try:
    bbipc.make_ipv6_tcp_server("::1", 0)
except bbipc.SocketError as error:
    assert error.errno == errno.EADDRNOTAVAIL
    assert "without IPv6 not even ::1 is there" in str(error), error
else:
    raise AssertionError("it listens")
"""

WITHOUT_IPV6 = """
import bbipc

with bbipc.listen("tcp:*:0", backlog=5) as server:
    bbipc.connect(f"tcp:127.0.0.1:{server.port}", timeout=10).close()
    server.accept_connection().close()
"""

CABLE = "ip link add v0 type veth peer name v1 && ip link set v0 up && ip link set v1 up"
ADDRESSES = " && ".join(
    f"ip -6 address add {address} dev {name} nodad"
    for address, name in (("fe80::1/64", "v0"), ("fe80::1/64", "v1"), ("fe80::2/64", "v1"), ("fe80::3/64", "v0"))
)


def run_in_own_network(commands: str, program: str) -> None:
    """Runs a program of Python in a network that only it has, which the commands of a shell set up."""
    if not LINUX:
        pytest.skip("only Linux lets a test have a network of its own (unshare(2))")
    for name, package in (("unshare", "util-linux"), ("ip", "iproute2")):
        if not shutil.which(name):
            pytest.skip(f"{name} is not installed (Debian's package {package})")
    unshare = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    script = f'({commands}) >&2 || exit 77; exec "$0" -c "$1"'
    finished = subprocess.run(
        [*unshare, "sh", "-c", script, sys.executable, program], timeout=60, stderr=subprocess.PIPE, text=True
    )
    if finished.returncode == 77 or finished.stderr.startswith("unshare: "):
        pytest.skip(f"this user or this kernel has no such network for a test: {finished.stderr}")
    assert finished.returncode == 0, finished.stderr


def test_scopes_are_taken_and_given_back() -> None:
    run_in_own_network(f"ip link set lo up && {CABLE} && {ADDRESSES}", SCOPES)


def test_a_silent_address_holds_up_the_next_for_250_ms() -> None:
    run_in_own_network(f"ip link set lo up && {CABLE} && {ADDRESSES}", SILENT_NEIGHBOUR)


def test_a_stream_never_connects_to_itself() -> None:
    run_in_own_network("ip link set lo up", SELF_CONNECTIONS)


def test_the_systems_setting_for_both_families_changes_nothing() -> None:
    run_in_own_network("ip link set lo up", SYSTEM_FOR_BOTH)


def test_a_machine_without_ipv6_is_told_from_a_wrong_address() -> None:
    run_in_own_network("true", WITHOUT_LOOPBACK)


def test_every_address_of_a_machine_whose_ipv6_is_switched_off() -> None:
    disable = "for conf in /proc/sys/net/ipv6/conf/*; do echo 1 > $conf/disable_ipv6; done"
    run_in_own_network(f"ip link set lo up && {disable}", WITHOUT_IPV6)


# ---- Peers that nobody here wrote ----

#: More than the system takes at once.
MUCH = random.Random(1).randbytes(5_000_000)


def peer_program(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed (Debian's package {package})")
    return path


def echo_once(server: Ipv6TcpServer) -> None:
    """Sends back what one client sends, to its end."""
    with accept(server) as stream:
        assert stream.remote_host_address == "::1"
        while not stream.end_of_data():
            wanted = Events.DATA_AVAILABLE | Events.END_OF_DATA
            assert bbipc.poll_socket(stream, wanted, PATIENCE)
            stream.write_all(stream.read(), PATIENCE)
        stream.finish_writing()


@pytest.mark.parametrize("program", ["nc", "socat"])
def test_a_client_that_nobody_here_wrote(server: Ipv6TcpServer, program: str) -> None:
    port = str(server.port)
    if program == "nc":
        command = [peer_program("nc.openbsd", "netcat-openbsd"), "-6", "-N", "::1", port]
    else:
        command = [peer_program("socat", "socat"), "-t", str(PATIENCE), "STDIO", f"TCP6:[::1]:{port}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin is not None
        client.stdin.write(b"Hello IPv6")
        client.stdin.close()
        client.stdin = None
        echo_once(server)
        output, _ = client.communicate(timeout=PATIENCE)
    assert (client.returncode, output) == (0, b"Hello IPv6")


@pytest.mark.parametrize("data", [b"Hello IPv6", MUCH], ids=["little", "much"])
def test_a_socat_that_listens(data: bytes) -> None:
    if without_ipv6() is not None:
        pytest.skip(str(without_ipv6()))
    path = peer_program("socat", "socat")
    command = [path, "-d", "-d", "-t", str(PATIENCE), "TCP6-LISTEN:0,bind=[::1]", "EXEC:cat"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as listener:
        assert listener.stderr is not None
        # "... N listening on AF=10 [0000:0000:0000:0000:0000:0000:0000:0001]:40123"
        name = next(line.rstrip() for line in listener.stderr if " listening on AF=" in line)
        with bbipc.connect_to_ipv6_tcp_server(IPV6_LOOPBACK, int(name.rpartition(":")[2])) as stream:
            received = bytearray()
            written = 0
            while len(received) < len(data):
                wanted = Events.DATA_AVAILABLE | (Events.WRITE_SPACE if written < len(data) else Events())
                happened = bbipc.poll_socket(stream, wanted | Events.CONNECTION_FAILED, PATIENCE)
                assert happened
                assert not happened.connection_failed
                if happened.write_space:
                    written += stream.write(data, written)
                received += stream.read()
            stream.finish_writing()
            assert bytes(received) == data
            assert bbipc.poll_socket(stream, Events.END_OF_DATA, PATIENCE)
        listener.stderr.read()
        assert listener.wait(PATIENCE) == 0


# ---- Names ----


@needs_ipv6
def test_a_number_is_resolved() -> None:
    assert bbipc.resolve_ipv6_address("0:0::1") == "::1"


def answers(*hosts: tuple[str, int]) -> Callable[..., list[Any]]:
    found = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (host, 0, 0, scope)) for host, scope in hosts]
    return lambda *_arguments: found


def test_the_first_address_of_a_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answers(("2001:DB8:0:0::1", 0), ("2001:db8::2", 0)))
    assert bbipc.resolve_ipv6_address("somebody.invalid") == "2001:db8::1"
    # Where IPv6 is missing, some resolvers give IPv4 addresses in its form.
    monkeypatch.setattr(socket, "getaddrinfo", answers(("::ffff:192.0.2.1", 0), ("2001:db8::2", 0)))
    assert bbipc.resolve_ipv6_address("somebody.invalid") == "2001:db8::2"
    monkeypatch.setattr(socket, "getaddrinfo", answers(("::ffff:192.0.2.1", 0)))
    assert bbipc.resolve_ipv6_address("somebody.invalid") is None
    # Systems differ in whether the text has the scope too.
    for text in ("fe80::1", "fe80::1%4294967295"):
        monkeypatch.setattr(socket, "getaddrinfo", answers((text, 4294967295)))
        assert bbipc.resolve_ipv6_address("somebody.invalid") == "fe80::1%4294967295"


def test_a_name_without_an_ipv6_address_gives_none() -> None:
    assert bbipc.resolve_ipv6_address("127.0.0.1") is None
    assert bbipc.resolve_ipv6_address("") is None


def test_a_resolver_that_fails_is_a_socket_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "the resolver's own words")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(bbipc.SocketError, match=r"somebody\.invalid.*the resolver's own words") as caught:
        bbipc.resolve_ipv6_address("somebody.invalid")
    assert caught.value.errno == errno.EAGAIN


@pytest.mark.parametrize("name", ["a" * 64 + ".invalid", "localhost\0.invalid"])
def test_what_can_not_be_a_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        bbipc.resolve_ipv6_address(name)
