"""Servers of every namespace: who waits is accepted, in order, whatever has become of him."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from typing import Any

import pytest

import bbipc
from bbipc import Events, StreamServer, StreamSocket
from patience import PATIENCE
from streaming import ESTABLISHED, WRITABLE
from transports import STREAM_EVENTS, Transport, abort, connect_with_python


def test_kinds(transport: Transport) -> None:
    server = transport.make_server()
    stream = transport.connect(server)
    accepted = transport.accept(server)
    assert isinstance(server, StreamServer)
    assert isinstance(server, bbipc.Socket)
    assert isinstance(stream, StreamSocket)
    assert isinstance(stream, bbipc.Socket)
    assert type(accepted) is type(stream)


def test_without_a_client_accept_raises_at_once(transport: Transport) -> None:
    server = transport.make_server()
    assert not server.connection_available()
    for _ in range(2):
        with pytest.raises(bbipc.NoConnectionAvailableError) as caught:
            server.accept_connection()
        assert caught.value.errno == errno.EAGAIN
        assert caught.value.socket is server
    assert isinstance(caught.value, BlockingIOError)


def test_a_client_is_available_until_it_is_accepted(transport: Transport) -> None:
    server = transport.make_server()
    transport.connect(server)
    assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE) is Events.CONNECTION_AVAILABLE
    assert server.connection_available()
    assert server.connection_available()
    transport.accept(server)
    assert not server.connection_available()
    with pytest.raises(bbipc.NoConnectionAvailableError):
        server.accept_connection()


def test_clients_are_accepted_in_the_order_in_which_they_came(transport: Transport) -> None:
    server = transport.make_server()
    clients = []
    for number in range(20):
        client = transport.connect(server)
        assert bbipc.poll_socket(client, Events.CONNECTION_SUCCEEDED, PATIENCE)
        client.write_all(bytes([number]), PATIENCE)
        clients.append(client)
    for number, client in enumerate(clients):
        accepted = transport.accept(server)
        assert accepted.read_exactly(1, PATIENCE) == bytes([number])
        accepted.write_all(bytes([100 + number]), PATIENCE)
        assert client.read_exactly(1, PATIENCE) == bytes([100 + number])


def test_both_ends_of_a_new_connection_have_the_same_events(transport: Transport) -> None:
    expected = ESTABLISHED | WRITABLE
    for stream in transport.pair():
        assert bbipc.poll_socket(stream, STREAM_EVENTS, 0) == expected
        assert stream.determined()
        assert stream.connection_succeeded()
        assert not stream.connection_failed()
        assert not stream.data_available()
        assert stream.ready_to_write()
        assert not stream.remote_disconnected()
        assert not stream.end_of_data()
        assert stream.write_space()
        assert not stream.connection_severed()
        assert not stream.message_available()
        assert stream.message_space()
        assert stream.connection_error() is None


def test_an_accepted_stream_outlives_its_server(transport: Transport) -> None:
    server = transport.make_server()
    client = transport.connect(server)
    accepted = transport.accept(server)
    server.close()
    client.write_all(b"still", PATIENCE)
    assert accepted.read_exactly(5, PATIENCE) == b"still"
    accepted.write_all(b"here", PATIENCE)
    assert client.read_exactly(4, PATIENCE) == b"here"


def test_a_client_that_was_never_accepted_learns_that_the_server_closed(transport: Transport) -> None:
    server = transport.make_server()
    client = transport.connect(server)
    assert bbipc.poll_socket(client, Events.DETERMINED, PATIENCE)
    server.close()
    assert bbipc.poll_socket(client, Events.REMOTE_DISCONNECTED, PATIENCE)
    assert client.connection_failed()
    with pytest.raises(bbipc.EndOfStreamError):
        client.read_exactly(1, PATIENCE)


def test_a_client_that_went_before_the_accept_is_no_error(transport: Transport) -> None:
    server = transport.make_server()
    client = connect_with_python(server)
    client.sendall(b"left behind")
    client.close()
    accepted = transport.accept(server)
    assert accepted.read_exactly(11, PATIENCE) == b"left behind"
    assert bbipc.poll_socket(accepted, Events.END_OF_DATA, PATIENCE)
    assert accepted.remote_disconnected()


def test_a_client_that_was_reset_before_the_accept_is_no_error(transport: Transport) -> None:
    server = transport.make_server()
    for _ in range(3):
        abort(connect_with_python(server))
    client = connect_with_python(server)
    transport.on_close(client.close)
    client.sendall(b"the living one")
    received = b""
    while not received:
        assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
        # A system may hand out the dead, or pass them over.
        accepted = transport.keep(server.accept_connection())
        try:
            received = accepted.read_exactly(14, PATIENCE)
        except bbipc.EndOfStreamError:
            assert accepted.connection_severed()
    assert received == b"the living one"


def test_a_server_reports_a_client_by_every_way_of_waiting(transport: Transport, backend: str) -> None:
    server = transport.make_server()
    asked = Events.CONNECTION_AVAILABLE
    with bbipc.make_poller(backend) as poller:
        poller.monitor_socket(server, asked)
        assert poller.wait_for_events(0) == []
        assert bbipc.poll_sockets([server], asked, 0) == [Events()]
        transport.connect(server)
        for _ in range(3):
            assert poller.wait_for_events(PATIENCE) == [(server, asked)]
            assert bbipc.poll_sockets([server], asked, PATIENCE) == [asked]
        transport.accept(server)
        assert poller.wait_for_events(0) == []


@pytest.mark.parametrize("events", [*STREAM_EVENTS, ~Events()])
def test_a_server_has_no_events_of_streams(transport: Transport, backend: str, events: Events) -> None:
    server = transport.make_server()
    name = str(events - Events.CONNECTION_AVAILABLE)
    with bbipc.make_poller(backend) as poller:
        for attempt in (
            lambda: bbipc.poll_socket(server, events, 0),
            lambda: bbipc.poll_sockets([server], events, 0),
            lambda: poller.monitor_socket(server, events),
        ):
            with pytest.raises(ValueError, match=name):
                attempt()
        assert poller.monitored_sockets() == []
        poller.monitor_socket(server, Events.CONNECTION_AVAILABLE)
        with pytest.raises(ValueError, match=name):
            poller.set_monitored_events(server, events)
        assert poller.monitored_events(server) is Events.CONNECTION_AVAILABLE


@pytest.mark.parametrize("events", [None, 1, "CONNECTION_AVAILABLE", [Events.CONNECTION_AVAILABLE]])
def test_events_of_another_type_are_refused(transport: Transport, backend: str, events: Any) -> None:
    server = transport.make_server()
    with bbipc.make_poller(backend) as poller:
        with pytest.raises(TypeError, match=type(events).__name__):
            bbipc.poll_socket(server, events, 0)
        with pytest.raises(TypeError, match=type(events).__name__):
            poller.monitor_socket(server, events)
        poller.monitor_socket(server, Events())
        with pytest.raises(TypeError, match=type(events).__name__):
            poller.set_monitored_events(server, events)


def test_many_clients_at_once(transport: Transport) -> None:
    server = transport.make_server()
    clients = [transport.connect(server) for _ in range(100)]
    for number, client in enumerate(clients):
        client.write_all(struct.pack("I", number), PATIENCE)
    seen = []
    for _ in clients:
        (number,) = struct.unpack("I", transport.accept(server).read_exactly(4, PATIENCE))
        seen.append(number)
    assert sorted(seen) == list(range(100))
    assert not server.connection_available()


def test_servers_say_where_they_are(transport: Transport) -> None:
    server = transport.make_server()
    client = transport.connect(server)
    # As in a literal: Windows' paths have backslashes.
    where = repr(server.address.split(":", 1)[1])[1:-1]
    assert where in repr(server)
    assert where in repr(client)


def test_accept_does_not_block_where_somebody_made_the_descriptor_blocking(transport: Transport) -> None:
    # A child that shares it can, for example.
    server = transport.make_server()
    if sys.platform != "win32":
        os.set_blocking(server.fileno(), True)
    elif transport.name == "local":
        pytest.skip("a pipe on Windows has no descriptor that could be made blocking")
    else:
        same = socket.socket(fileno=server.fileno())
        same.setblocking(True)
        same.detach()
    with pytest.raises(bbipc.NoConnectionAvailableError):
        server.accept_connection()
    client = transport.connect(server)
    assert bbipc.poll_socket(client, Events.CONNECTION_SUCCEEDED, PATIENCE)
    transport.accept(server)
