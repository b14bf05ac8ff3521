"""A server without a descriptor for its client pauses: a plain loop of waits and accepts doesn't spin, and goes on."""

from __future__ import annotations

import contextlib
import errno
import json
import sys
import time
from collections.abc import Iterator
from typing import Callable

import pytest

import bbipc
from bbipc import Events, StreamServer
from child_processes import Processes
from patience import PATIENCE
from systems import BACKENDS, CLIENTS_OUTLIVE_EMFILE, WINDOWS
from transports import Transport
from tree import ROOT

if sys.platform != "win32":
    import resource

pytestmark = [
    pytest.mark.skipif(WINDOWS, reason="Windows has no limit of handles that could be lowered"),
    pytest.mark.skipif(not CLIENTS_OUTLIVE_EMFILE, reason="macOS gives up a client that it has no descriptor for"),
]

Look = Callable[[StreamServer, float], bool]


def by_poller(backend: str) -> Callable[[], contextlib.AbstractContextManager[Look]]:
    @contextlib.contextmanager
    def make() -> Iterator[Look]:
        # It stays, and so has the server from before the failure.
        with bbipc.make_poller(backend) as poller:

            def look(server: StreamServer, timeout: float) -> bool:
                if server not in poller.monitored_sockets():
                    poller.monitor_socket(server, Events.CONNECTION_AVAILABLE)
                return bool(poller.wait_for_events(timeout))

            yield look

    return make


LOOKS: dict[str, Callable[[], contextlib.AbstractContextManager[Look]]] = {
    "poll_socket": lambda: contextlib.nullcontext(
        lambda server, timeout: bool(bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, timeout))
    ),
    "poll_sockets": lambda: contextlib.nullcontext(
        lambda server, timeout: any(bbipc.poll_sockets([server] * 2, Events.CONNECTION_AVAILABLE, timeout))
    ),
    **{backend: by_poller(backend) for backend in BACKENDS},
}


@pytest.fixture(params=LOOKS)
def look(request: pytest.FixtureRequest) -> Iterator[Look]:
    with LOOKS[request.param]() as made:
        yield made


@contextlib.contextmanager
def no_new_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # As many as one poll(2) may ask of.
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def refused(server: StreamServer) -> None:
    with pytest.raises(bbipc.SocketError) as caught:
        server.accept_connection()
    assert caught.value.errno == errno.EMFILE


def server_with_client(transport: Transport, look: Look) -> StreamServer:
    server = transport.make_server()
    transport.connect(server)
    assert look(server, PATIENCE)
    return server


def test_a_server_that_failed_to_accept_is_reported_now_and_then(transport: Transport, look: Look) -> None:
    server = server_with_client(transport, look)
    with no_new_descriptors():
        began = time.perf_counter()
        for _ in range(10):
            refused(server)
            assert look(server, PATIENCE)
        # 10 ms, 20, 40, and then 50 each.
        assert time.perf_counter() - began >= 0.42
    transport.keep(server.accept_connection())
    assert not look(server, 0)


def test_a_pause_is_short_again_after_a_client_was_accepted(transport: Transport, look: Look) -> None:
    server = server_with_client(transport, look)
    with no_new_descriptors():
        for _ in range(5):
            refused(server)
    transport.keep(server.accept_connection())
    transport.connect(server)
    # There is no pause any more.
    assert look(server, PATIENCE)
    transport.keep(server.accept_connection())


def test_to_accept_is_tried_each_time(transport: Transport, look: Look) -> None:
    server = server_with_client(transport, look)
    with no_new_descriptors():
        refused(server)
        refused(server)
    transport.keep(server.accept_connection())


def test_a_close_ends_the_pause(transport: Transport, look: Look) -> None:
    other, _ = transport.pair()
    server = server_with_client(transport, look)
    with no_new_descriptors():
        for _ in range(5):
            refused(server)
        began = time.perf_counter()
        early = look(server, 0)
        # On a machine that stood still, the pause was over.
        assert not early or time.perf_counter() - began > 0.03
        other.close()
        assert look(server, 0)


def test_a_pause_is_its_servers_alone(transport: Transport) -> None:
    stream, peer = transport.pair()
    with bbipc.make_poller() as poller:
        servers = [transport.make_server() for _ in range(2)]
        for server in servers:
            transport.connect(server)
            poller.monitor_socket(server, Events.CONNECTION_AVAILABLE)
        poller.monitor_socket(stream, Events.DATA_AVAILABLE)
        peer.write_all(b"!")
        with no_new_descriptors():
            refused(servers[0])
            reported = dict(poller.wait_for_events(PATIENCE))
            assert reported[servers[1]]
            assert bbipc.poll_socket(stream, Events.DATA_AVAILABLE, PATIENCE)
            # A poller that is busy with others reports it too, when the pause is over.
            give_up_at = time.perf_counter() + PATIENCE
            while servers[0] not in dict(poller.wait_for_events(PATIENCE)):
                assert time.perf_counter() < give_up_at


def test_that_no_client_waits_is_no_reason_for_a_pause(transport: Transport, look: Look) -> None:
    server = transport.make_server()
    with pytest.raises(bbipc.NoConnectionAvailableError):
        server.accept_connection()
    transport.connect(server)
    assert look(server, PATIENCE)
    assert look(server, 0)


#: Of one processor, for a loop that has no descriptor for its client.
SHARE_MAX = 0.02
#: Seconds: the longest pause, and the time between two looks.
DELAY_MAX = 0.12


@pytest.mark.parametrize("name", ["tcp", "local"])
@pytest.mark.parametrize(
    "way", ["poll_socket", "poll_sockets", "wait_for_events", "receive", "receive_messages", "fileno"]
)
def test_a_plain_loop_without_descriptors_sleeps_and_goes_on(processes: Processes, name: str, way: str) -> None:
    program = str(ROOT / "tests" / "support" / "short_of_descriptors.py")
    # What a busy machine does to one run, it seldom does to three.
    for _ in range(3):
        completed = processes.run([sys.executable, program, name, way])
        assert completed.returncode == 0, completed.stderr
        found = json.loads(completed.stdout)
        assert found["tries"] < 60
        if found["share"] < SHARE_MAX and found["delay"] < DELAY_MAX:
            return
    pytest.fail(f"it took {found['share']:.1%} of a processor, and {found['delay']:.3f} s to go on")
