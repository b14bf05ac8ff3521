"""Nothing is left on Windows: handles, and operations under way, come back whatever is closed."""

from __future__ import annotations

import errno
import os
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import bbipc
from bbipc import Events, LocalServer, poll_socket
from patience import PATIENCE
from peer import until_asleep
from transports import Transport, fill

if sys.platform != "win32":
    pytest.skip("pipes with instances, handles and completion ports are Windows' own", allow_module_level=True)


from pipe_checks import (
    CLIENT,
    DATA,
    END,
    SPACE,
    Holdings,
    check_busy,
    check_code,
    check_nobody,
    check_taken,
    in_threads,
    refusal,
    settled_holdings,
)


def close_server_with_clients_waiting(transport: Transport) -> None:
    server = transport.make_server(backlog=5)
    clients = [transport.connect(server) for _ in range(3)]
    assert poll_socket(server, CLIENT, PATIENCE)
    clients[0].close()
    server.close()


def close_while_reads_are_under_way(transport: Transport) -> None:
    stream, peer = transport.pair()
    for one in (stream, peer):
        assert not poll_socket(one, DATA | END, 0.001)
    stream.close()


def close_while_a_write_is_under_way(transport: Transport) -> None:
    stream, peer = transport.pair()
    fill(stream)
    stream.close()
    peer.close()


def close_a_poller_that_watches(transport: Transport) -> None:
    stream, peer = transport.pair()
    server = transport.make_server()
    with bbipc.make_poller() as poller:
        for one in (stream, peer):
            poller.monitor_socket(one, DATA | END)
        poller.monitor_socket(server, CLIENT)
        assert poller.wait_for_events(0.001) == []


def close_what_a_poller_watches(transport: Transport) -> None:
    stream, peer = transport.pair()
    with bbipc.make_poller() as poller:
        for one in (stream, peer):
            poller.monitor_socket(one, DATA | END)
        assert poller.wait_for_events(0.001) == []
        stream.close()
        peer.close()
        assert poller.wait_for_events(0) == []


def change_what_a_poller_watches(transport: Transport) -> None:
    stream, peer = transport.pair()
    with bbipc.make_poller() as poller:
        poller.monitor_socket(stream, DATA)
        for events in (END, DATA | SPACE, Events(), DATA):
            poller.wait_for_events(0.001)
            poller.set_monitored_events(stream, events)
        for _ in range(3):
            poller.unmonitor_socket(stream)
            poller.monitor_socket(stream, DATA)
            assert poller.wait_for_events(0.001) == []
        peer.write(b"x")
        assert poller.wait_for_events(PATIENCE) == [(stream, DATA)]


def close_a_poller_while_another_thread_waits(transport: Transport) -> None:
    stream, _ = transport.pair()
    server = transport.make_server()
    poller = bbipc.make_poller()
    poller.monitor_socket(stream, DATA | END)
    poller.monitor_socket(server, CLIENT)
    outcomes: list[str] = []

    def wait() -> None:
        try:
            poller.wait_for_events(PATIENCE)
        except bbipc.PollerClosedError:
            outcomes.append("closed")

    threads = in_threads(wait, wait)
    # They wait, or begin to.
    time.sleep(random.random() * 0.01)
    poller.close()
    for thread in threads:
        thread.join()
    assert outcomes == ["closed"] * 2


def close_a_socket_while_other_threads_wait(transport: Transport) -> None:
    stream, _ = transport.pair()
    outcomes: list[str] = []

    def wait() -> None:
        try:
            poll_socket(stream, DATA, PATIENCE)
        except bbipc.SocketClosedError:
            outcomes.append("closed")

    threads = in_threads(wait, wait)
    time.sleep(random.random() * 0.01)
    stream.close()
    for thread in threads:
        thread.join()
    assert outcomes == ["closed"] * 2


def fail_to_connect(transport: Transport) -> None:
    server = transport.make_server(backlog=1)
    gone = transport.make_server()
    if isinstance(server, LocalServer):
        assert isinstance(gone, LocalServer)
        check_taken(server.local_pathname)
        transport.connect(server)
        check_busy(server.local_pathname)
        gone.close()
        check_nobody(transport.free_pathname())
    else:
        assert isinstance(server, bbipc.Ipv4TcpServer)
        assert isinstance(gone, bbipc.Ipv4TcpServer)
        check_code(
            refusal(partial(bbipc.make_ipv4_tcp_server, bbipc.IPV4_LOOPBACK, server.port)), 10048, errno.EADDRINUSE
        )
        port = gone.port
        gone.close()
        # While it is still under way.
        transport.keep(bbipc.connect_to_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, port)).close()


@pytest.mark.parametrize(
    "scenario",
    [
        close_server_with_clients_waiting,
        close_while_reads_are_under_way,
        close_while_a_write_is_under_way,
        close_a_poller_that_watches,
        close_what_a_poller_watches,
        change_what_a_poller_watches,
        close_a_poller_while_another_thread_waits,
        close_a_socket_while_other_threads_wait,
        fail_to_connect,
    ],
)
def test_handles_and_operations_come_back(
    directory: Path, transport: Transport, scenario: Callable[[Transport], None]
) -> None:
    def repeat(times: int) -> Holdings:
        for _ in range(times):
            scenario(transport)
            transport.close()
        return settled_holdings()

    # This makes what is kept for good, for as many threads as ever wait at once.
    stream, peer = transport.pair()
    threads = in_threads(*[lambda: poll_socket(stream, DATA, PATIENCE)] * 3)
    for thread in threads:
        until_asleep(os.getpid(), thread.native_id)
    peer.write_all(b"x")
    for thread in threads:
        thread.join()
    transport.close()
    before = repeat(3)
    assert repeat(25) == before


def test_many_watches_of_one_poller_come_back(directory: Path) -> None:
    tcp, local = Transport("tcp", directory), Transport("local", directory)
    before = settled_holdings()
    for _ in range(2):
        # Several times what one of the helpers serves.
        streams = [end for transport in (tcp, local) for _ in range(40) for end in transport.pair()]
        with bbipc.make_poller() as poller:
            for stream in streams:
                poller.monitor_socket(stream, DATA | END)
            assert poller.wait_for_events(0.01) == []
            for stream in streams[::2]:
                poller.unmonitor_socket(stream)
            for stream in streams[1::4]:
                stream.close()
            poller.wait_for_events(0.01)
        tcp.close()
        local.close()
        assert settled_holdings() == before
