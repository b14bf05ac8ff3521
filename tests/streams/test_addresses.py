"""Addresses as text: what is one, what sockets tell as theirs, and servers that listen at one."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bbipc
from bbipc import Address, Events, StreamServer
from patience import PATIENCE
from systems import WINDOWS
from transports import Transport, without_ipv6

needs_ipv6 = pytest.mark.skipif(without_ipv6() is not None, reason=str(without_ipv6()))

#: Text of addresses, its usual form, and what it says: the host, the port, and the pathname.
ADDRESSES = [
    ("tcp:127.0.0.1:12345", None, "127.0.0.1", 12345, None),
    ("tcp:0.0.0.0:0", None, "0.0.0.0", 0, None),
    ("tcp:127.0.0.1:080", "tcp:127.0.0.1:80", "127.0.0.1", 80, None),
    ("tcp:[::1]:65535", None, "::1", 65535, None),
    ("tcp:[0:0::0001]:1", "tcp:[::1]:1", "::1", 1, None),
    ("tcp:[2001:DB8::1]:1", "tcp:[2001:db8::1]:1", "2001:db8::1", 1, None),
    ("tcp:[fe80::1%eth0]:1", None, "fe80::1%eth0", 1, None),
    ("tcp:[fe80::1%7]:1", None, "fe80::1%7", 1, None),
    ("tcp:[fe80::1%a]:b]:1", None, "fe80::1%a]:b", 1, None),
    ("tcp:[::ffff:192.0.2.1]:1", "tcp:192.0.2.1:1", "192.0.2.1", 1, None),
    ("tcp:localhost:1", None, "localhost", 1, None),
    ("tcp:example.com.:1", None, "example.com.", 1, None),
    ("tcp:4ever:1", None, "4ever", 1, None),
    ("tcp:stra\u00dfe.example:1", None, "stra\u00dfe.example", 1, None),
    ("tcp:*:0", None, "*", 0, None),
    ("local:/run/echo", None, None, None, "/run/echo"),
    ("local:echo", None, None, None, "echo"),
    ("local:a:b:", None, None, None, "a:b:"),
    ("local:tcp:127.0.0.1:80", None, None, None, "tcp:127.0.0.1:80"),
    ("local: a b\n", None, None, None, " a b\n"),
    ("local:@x", None, None, None, "@x"),
    (r"local:\\.\pipe\echo", None, None, None, r"\\.\pipe\echo"),
    ("local:C:/run/echo", None, None, None, "C:/run/echo"),
    ("local:\udcff", None, None, None, "\udcff"),
]

NO_ADDRESSES = {
    "": "begin",
    "tcp": "begin",
    "local": "begin",
    "127.0.0.1:80": "begin",
    "/run/echo": "begin",
    "udp:127.0.0.1:80": "begin",
    "TCP:127.0.0.1:80": "begin",
    " tcp:127.0.0.1:80": "begin",
    "tcp://127.0.0.1:80": "slashes",
    "tcp:": "port is missing",
    "tcp:127.0.0.1": "port is missing",
    "tcp:[::1]": "port is missing",
    "tcp:[::1]80": "port is missing",
    "tcp:[::1": "port is missing",
    "tcp::80": "host is missing",
    "tcp:127.0.0.1:": "port must be a number from 0 to 65535, not ''",
    "tcp:127.0.0.1:http": "not 'http'",
    "tcp:127.0.0.1:-1": "not '-1'",
    "tcp:127.0.0.1:65536": "not '65536'",
    "tcp:127.0.0.1: 80": "not ' 80'",
    "tcp:127.0.0.1:\u0661": "port must be",
    "tcp:127.0.0.1:" + "9" * 5000: "port must be",
    "tcp:::1:80": "brackets",
    "tcp:fe80::1%eth0:80": "brackets",
    "tcp:[]:80": "no IPv6 address: ''",
    "tcp:[127.0.0.1]:80": "no IPv6 address",
    "tcp:[localhost]:80": "no IPv6 address",
    "tcp:[::1 ]:80": "no IPv6 address",
    "tcp:[fe80::1]:80": "name the interface",
    "tcp:[fe80::1%]:80": "behind the %",
    "tcp:[fe80::1%\0]:80": "behind the %",
    "tcp:256.0.0.1:80": "no IPv4 address",
    "tcp:127.1:80": "no IPv4 address",
    "tcp:127.0.0.01:80": "no IPv4 address",
    "tcp:2130706433:80": "no IPv4 address",
    "tcp:a..b:80": "can't be the name of a host",
    "tcp:" + "a" * 64 + ":80": "can't be the name of a host",
    "tcp:a\0b:80": "NUL",
    "local:": "pathname is missing",
    "local:\0": "NUL",
    "local:a\0b": "NUL",
}


@pytest.mark.parametrize(("text", "usual", "host", "port", "pathname"), ADDRESSES)
def test_text_is_read(text: str, usual: str | None, host: str | None, port: int | None, pathname: str | None) -> None:
    address = Address(text)
    assert address == (usual or text)
    assert (address.host, address.port, address.pathname) == (host, port, pathname)
    assert type(str(address)) is str
    assert f"{address}" == str(address)
    for again in (Address(str(address)), pickle.loads(pickle.dumps(address)), copy.deepcopy(address)):
        assert type(again) is Address
        assert again == address
        assert hash(again) == hash(address)
        assert (again.host, again.port, again.pathname) == (host, port, pathname)
    assert Address(address) is address


@pytest.mark.parametrize("text", NO_ADDRESSES, ids=lambda text: ascii(text)[:30])
@pytest.mark.parametrize("take", [Address, bbipc.listen, bbipc.connect])
def test_what_is_no_address_is_refused_and_told_what_one_looks_like(take: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError, match="is no address") as caught:
        take(text)
    assert NO_ADDRESSES[text] in str(caught.value)
    assert "tcp:127.0.0.1:12345" in str(caught.value)
    assert "local:" in str(caught.value)
    assert not isinstance(caught.value, bbipc.BbipcError)


@pytest.mark.parametrize("bad", [None, 80, b"tcp:127.0.0.1:80", Path("local:x"), ("127.0.0.1", 80)])
@pytest.mark.parametrize("take", [Address, bbipc.listen, bbipc.connect])
def test_what_is_no_text_is_refused(take: Callable[[Any], object], bad: Any) -> None:
    with pytest.raises(TypeError, match=rf"tcp:127\.0\.0\.1:12345.*{type(bad).__name__}"):
        take(bad)


def test_an_address_can_not_be_changed() -> None:
    with pytest.raises(AttributeError):
        Address("tcp:127.0.0.1:80").port = 81  # type: ignore[misc]


# ---- What sockets tell ----


def test_every_socket_tells_an_address_that_reads_back(transport: Transport) -> None:
    server = transport.make_server()
    assert server.address == server.address
    with bbipc.connect(str(server.address), timeout=PATIENCE) as stream, transport.accept(server) as accepted:
        assert stream.address == server.address
        if transport.name == "local":
            assert accepted.address == server.address
        else:
            assert accepted.address != server.address
        for one in (server, stream, accepted):
            assert type(one.address) is Address
            assert Address(str(one.address)) == one.address


def test_the_remote_end_is_told_after_it_has_gone(transport: Transport) -> None:
    server = transport.make_server()
    stream = transport.connect(server)
    accepted = transport.accept(server)
    before = accepted.address
    stream.close()
    assert bbipc.poll_socket(accepted, Events.REMOTE_DISCONNECTED, PATIENCE)
    assert accepted.address == before


# On Windows a colon ends the name of a drive, and only there.
@pytest.mark.parametrize("name", ["s", "a b", "\u732b", *([] if WINDOWS else ["a:b:", ":", "tcp:1:2", "@x", "\udcff"])])
def test_any_pathname_can_be_an_address(inside: Path, name: str) -> None:
    for pathname in (str(inside / name), f"./{name}", *([] if WINDOWS else [name])):
        address = f"local:{pathname}"
        with bbipc.listen(address) as server, bbipc.connect(address) as stream:
            assert server.address == stream.address == address
            assert isinstance(server, bbipc.LocalServer)
            assert server.local_pathname == pathname
            with server.accept_connection() as accepted:
                assert accepted.address == address
    assert os.listdir(inside) == []


def test_bytes_and_text_of_a_pathname_are_the_same_address(directory: Path) -> None:
    pathname = str(directory / ("s" if WINDOWS else "\udcff"))
    with bbipc.make_local_server(os.fsencode(pathname)) as server:
        assert server.address == f"local:{pathname}"
        with bbipc.connect(server.address, timeout=PATIENCE) as stream:
            assert stream.address == server.address


@needs_ipv6
@pytest.mark.parametrize(
    "make", [lambda: bbipc.make_ipv6_tcp_server("::", 0, dual_stack=True), lambda: bbipc.listen("tcp:*:0")]
)
def test_a_server_for_both_families_tells_so(make: Callable[[], bbipc.Ipv6TcpServer]) -> None:
    with make() as server:
        assert server.address == f"tcp:*:{server.port}"
        for host in ("127.0.0.1", "[::1]"):
            with bbipc.connect(f"tcp:{host}:{server.port}", timeout=PATIENCE) as stream:
                assert stream.address == f"tcp:{host}:{server.port}"
                assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
                with server.accept_connection() as accepted:
                    assert accepted.address == f"tcp:{host}:{accepted.remote_port}"
                    assert accepted.remote_port == stream.local_port  # type: ignore[attr-defined]


@needs_ipv6
def test_a_server_for_one_family_tells_so() -> None:
    with bbipc.listen("tcp:[::]:0") as server:
        assert isinstance(server, bbipc.Ipv6TcpServer)
        assert server.address == f"tcp:[::]:{server.port}"
        with bbipc.listen(f"tcp:0.0.0.0:{server.port}") as other:
            assert other.address == f"tcp:0.0.0.0:{server.port}"


# ---- Listening ----


def test_options_are_those_of_the_server_that_it_makes(directory: Path) -> None:
    with bbipc.listen("tcp:127.0.0.1:0", backlog=1, reuse_address=False):
        pass
    with bbipc.listen(f"local:{directory}/s", backlog=1, delete_on_close=False):
        pass
    assert os.path.exists(directory / "s") is not WINDOWS


@needs_ipv6
def test_options_of_ipv6_are_taken() -> None:
    with bbipc.listen("tcp:[::]:0", backlog=1, reuse_address=False, dual_stack=True) as server:
        assert isinstance(server, bbipc.Ipv6TcpServer)
        assert server.address == f"tcp:*:{server.port}"


@pytest.mark.parametrize(
    ("address", "option", "others"),
    [
        ("tcp:127.0.0.1:0", "dual_stack", "backlog, reuse_address"),
        ("tcp:127.0.0.1:0", "delete_on_close", "backlog, reuse_address"),
        ("tcp:127.0.0.1:0", "local_port", "backlog, reuse_address"),
        ("tcp:[::1]:0", "delete_on_close", "backlog, dual_stack, reuse_address"),
        ("tcp:*:0", "dual_stack", "backlog, reuse_address"),
        ("local:s", "reuse_address", "backlog, delete_on_close"),
        ("local:s", "nonsense", "backlog, delete_on_close"),
    ],
)
def test_option_of_another_kind_of_server_is_refused(inside: Path, address: str, option: str, others: str) -> None:
    with pytest.raises(TypeError) as caught:
        bbipc.listen(address, **{option: 1})
    assert str(caught.value).startswith(f"listen() has no option {option!r} for {address};")
    assert set(others.split(", ")) <= set(str(caught.value).rpartition(" are ")[2].split(", "))
    assert os.listdir(inside) == []


def test_wrong_value_of_an_option_is_refused(inside: Path) -> None:
    for address in ("tcp:127.0.0.1:0", "local:s"):
        with pytest.raises(ValueError, match="backlog must be 0 to 2147483647"):
            bbipc.listen(address, backlog=-1)
    assert os.listdir(inside) == []


def test_a_server_can_start_again_at_once() -> None:
    """Its clients' old connections linger, since it closed first: TIME_WAIT."""
    with bbipc.listen("tcp:127.0.0.1:0") as server, bbipc.connect(server.address, timeout=PATIENCE) as stream:
        address = server.address
        assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
        server.accept_connection().close()
        assert bbipc.poll_socket(stream, Events.END_OF_DATA, PATIENCE)
    with bbipc.listen(address) as server:
        assert server.address == address


def resolves_to(*hosts: str) -> Callable[..., list[Any]]:
    """A resolver that knows these addresses of any name, in this order."""
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (host, 0, 0, 0))
        if ":" in host
        else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0))
        for host in hosts
    ]
    return lambda *_arguments: found


@pytest.mark.parametrize("hosts", [["127.0.0.1"], ["::1", "127.0.0.1"], ["127.0.0.1", "::1"], ["::ffff:127.0.0.1"]])
def test_a_name_is_resolved_to_an_address_of_ipv4(monkeypatch: pytest.MonkeyPatch, hosts: list[str]) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolves_to(*hosts))
    with bbipc.listen("tcp:somebody.invalid:0") as server:
        assert isinstance(server, bbipc.Ipv4TcpServer)
        assert server.address == f"tcp:127.0.0.1:{server.port}"


@needs_ipv6
def test_a_name_without_one_is_resolved_to_one_of_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolves_to("::1"))
    with bbipc.listen("tcp:somebody.invalid:0", dual_stack=False) as server:
        assert isinstance(server, bbipc.Ipv6TcpServer)
        assert server.address == f"tcp:[::1]:{server.port}"


@pytest.mark.parametrize(
    "take", [bbipc.listen, bbipc.connect, lambda address: bbipc.connect(address, timeout=PATIENCE)]
)
def test_a_name_without_an_address_is_a_socket_error(
    monkeypatch: pytest.MonkeyPatch, take: Callable[[str], object]
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolves_to())
    with pytest.raises(bbipc.SocketError, match=r"'somebody\.invalid' has no address"):
        take("tcp:somebody.invalid:80")


@pytest.mark.parametrize(
    "take", [bbipc.listen, bbipc.connect, lambda address: bbipc.connect(address, timeout=PATIENCE)]
)
def test_a_resolver_that_fails_is_a_socket_error(
    monkeypatch: pytest.MonkeyPatch, take: Callable[[str], object]
) -> None:
    def fail(*_arguments: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "the resolver's own words")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(bbipc.SocketError, match="the resolver's own words"):
        take("tcp:somebody.invalid:80")


@pytest.mark.parametrize("number", ["EAFNOSUPPORT", "EADDRNOTAVAIL"])
def test_every_address_of_a_machine_without_ipv6(monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    def refuse(*_arguments: object, **_options: object) -> StreamServer:
        raise bbipc.SocketError(getattr(errno, number), "there is no IPv6")

    monkeypatch.setattr(sys.modules["bbipc.connecting"], "make_ipv6_tcp_server", refuse)
    with bbipc.listen("tcp:*:0", backlog=5) as server:
        assert isinstance(server, bbipc.Ipv4TcpServer)
        assert server.address == f"tcp:0.0.0.0:{server.port}"


def test_a_port_in_use_is_no_sign_of_a_machine_without_ipv6() -> None:
    with bbipc.listen("tcp:*:0") as server, pytest.raises(bbipc.SocketError, match="port"):
        bbipc.listen(server.address)
