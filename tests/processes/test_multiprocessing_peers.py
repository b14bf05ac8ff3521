"""multiprocessing.connection at the other end, unchanged, of every CPython that is found: as client and as server.

What takes long has two of them by default, the oldest and the newest that bbipc runs on; all of them with
BBIPC_TESTS_FULL=1 in the environment.
"""

from __future__ import annotations

import mmap
import os
import pickle
import subprocess
import sys
from collections.abc import Callable

import pytest

import bbipc
from bbipc import StreamSocket
from child_processes import Processes, ended
from multiprocessing_peer import message_of, random_messages
from patience import PATIENCE
from peer import connect
from pythons import VERSIONS, cpython
from systems import WINDOWS, available_memory
from threads import Failing
from transports import Transport
from tree import SUPPORT

KEY = "a key of both"

#: Sizes around those where multiprocessing sends the header by itself, and more than a socket takes at once.
SIZES = [0, 1, 16383, 16384, 16385, 1 << 20]

#: Messages of random sizes.
SOME, MANY = 3_000, 100_000

#: Bytes. More than the short form of the header can say.
LARGE = (2 << 30) + 1

#: Seconds for one of those.
LONG_PATIENCE = 120.0

#: Of what a peer may send by send(), in a form of pickle that every Python reads.
OBJECTS = [None, True, -1, 1 << 80, 0.1, "\u00fc\U0001f40d", (1, [2, {"three": 4.0}]), list(range(10_000)), {1, 2}]
PICKLE_PROTOCOL = 2

#: Bytes of memory that its receiver takes: its pieces are collected, and then joined. It may be either process.
LARGE_MEMORY = 3 * LARGE


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=["listens", "connects"])
def role(request: pytest.FixtureRequest) -> str:
    """What the peer does. This end does the other."""
    name: str = request.param
    return name


class Peer:
    """A process with the other end of a stream."""

    def __init__(self, process: subprocess.Popen[str], stream: StreamSocket) -> None:
        self.stream = stream
        self._process = process

    def check_end(self, *printed: str) -> None:
        """It has ended, without a complaint, and has printed that."""
        assert ended(self._process) == (0, "".join(f"{line}\n" for line in printed), "")


StartPeer = Callable[..., Peer]


@pytest.fixture
def start_peer(transport: Transport, processes: Processes) -> StartPeer:
    """Starts a peer with some jobs. Its connection stands, and nothing has been sent yet."""
    if WINDOWS and transport.name == "local":
        pytest.skip("multiprocessing leaves the size of a message to the pipe; streams have it among their bytes")

    def start(version: str, role: str, key: str, *jobs: str) -> Peer:
        # Nothing but its standard library.
        command = [cpython(version), "-E", "-s", str(SUPPORT / "multiprocessing_peer.py")]
        if role == "listens":
            where = "tcp:127.0.0.1:0" if transport.name == "tcp" else f"local:{transport.free_pathname()}"
            process, address = processes.serve_command([*command, "listen", where, key, *jobs])
            return Peer(process, transport.keep(connect(address)))
        server = transport.make_server()
        process = processes.start([*command, "connect", server.address, key, *jobs])
        stream = transport.accept(server)
        server.close()
        return Peer(process, stream)

    return start


def authenticate(stream: StreamSocket, role: str, key: str) -> None:
    """This end's part, by its own role."""
    if role == "listens":
        bbipc.authenticate(stream, key.encode("ascii"), PATIENCE)
        bbipc.authenticate_peer(stream, key.encode("ascii"), PATIENCE)
    else:
        bbipc.authenticate_peer(stream, key.encode("ascii"), PATIENCE)
        bbipc.authenticate(stream, key.encode("ascii"), PATIENCE)


@pytest.mark.parametrize("key", ["", KEY], ids=["no key", "key"])
def test_messages_and_objects_go_both_ways(start_peer: StartPeer, version: str, role: str, key: str) -> None:
    objects = [*OBJECTS, b"\0\xff"] if version != "2.7" else OBJECTS
    peer = start_peer(version, role, key, f"echo:{len(SIZES)}", f"echo_objects:{len(objects)}", "until_the_end")
    if key:
        authenticate(peer.stream, role, key)
    for size in SIZES:
        message = message_of(size, size)
        peer.stream.send_message(message, PATIENCE)
        assert peer.stream.receive_message(PATIENCE) == message
    for one in objects:
        peer.stream.send_message(pickle.dumps(one, PICKLE_PROTOCOL), PATIENCE)
        assert pickle.loads(peer.stream.receive_message(PATIENCE)) == one
    peer.stream.close()
    peer.check_end("the end")


def test_messages_after_which_the_peer_closes(start_peer: StartPeer, version: str, role: str) -> None:
    peer = start_peer(version, role, "", "echo:1")
    peer.stream.send_message(b"last", PATIENCE)
    assert list(peer.stream.messages(PATIENCE)) == [b"last"]
    peer.check_end()


def exchange(peer: Peer, count: int) -> None:
    """Messages of random sizes in both directions at once."""

    def send() -> None:
        for message in random_messages(2, count):
            peer.stream.send_message(message, PATIENCE)

    sending = Failing(send)
    for number, message in enumerate(random_messages(1, count)):
        assert peer.stream.receive_message(PATIENCE) == message, number
    sending.join()
    peer.stream.close()
    peer.check_end("wrong: 0", "the end")


def test_messages_of_random_sizes_in_both_directions_at_once(start_peer: StartPeer, version: str) -> None:
    peer = start_peer(version, "connects", KEY, f"exchange:{SOME}:1:2", "until_the_end")
    authenticate(peer.stream, "connects", KEY)
    exchange(peer, SOME)


@pytest.fixture
def two_versions(version: str) -> None:
    if version not in ("3.8", "3.13") and os.environ.get("BBIPC_TESTS_FULL") != "1":
        pytest.skip("only with BBIPC_TESTS_FULL=1 for all versions")


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("two_versions")
def test_many_messages_of_random_sizes(start_peer: StartPeer, version: str) -> None:
    peer = start_peer(version, "listens", KEY, f"exchange:{MANY}:1:2", "until_the_end")
    authenticate(peer.stream, "listens", KEY)
    exchange(peer, MANY)


def test_another_key(start_peer: StartPeer, version: str, role: str) -> None:
    peer = start_peer(version, role, "another key")
    told = "digest sent was rejected"
    expected = "sent a wrong answer"
    if role == "listens":
        told, expected = "digest received was wrong", "refuses this end's answer"
    with pytest.raises(bbipc.AuthenticationError, match=expected):
        authenticate(peer.stream, role, KEY)
    peer.stream.close()
    peer.check_end(f"AuthenticationError: {told}")


def test_a_client_without_a_key(start_peer: StartPeer, version: str) -> None:
    peer = start_peer(version, "connects", "", "echo:1", "until_the_end")
    with pytest.raises(bbipc.AuthenticationError, match="sent a challenge where it should send an answer"):
        authenticate(peer.stream, "connects", KEY)
    peer.stream.close()
    peer.check_end("not the end: " + ("'#FAILURE#'" if version == "2.7" else "b'#FAILURE#'"))


def test_a_server_without_a_key(start_peer: StartPeer, version: str) -> None:
    peer = start_peer(version, "listens", "", "until_the_end")
    with pytest.raises(bbipc.TimeoutError, match="did not send a challenge"):
        bbipc.authenticate(peer.stream, KEY.encode("ascii"), 0.05)
    peer.stream.close()
    peer.check_end("the end")


# ---- 2 GiB and one byte ----


@pytest.fixture
def large_messages(version: str) -> None:
    if version in ("2.7", "3.6", "3.7"):
        pytest.skip(f"multiprocessing of Python {version} can't send or receive 2 GiB")
    if sys.maxsize < 2**32:
        pytest.skip("2 GiB are too many for a process of 32 bits")
    available = available_memory()
    if available is None:
        pytest.skip("nothing here tells how much memory is available, and this takes much")
    if available < LARGE_MEMORY:
        pytest.skip(f"it takes {LARGE_MEMORY >> 20} MiB of memory, and {available >> 20} MiB are available")


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("two_versions", "large_messages")
@pytest.mark.parametrize("transport", ["local"], indirect=True)
def test_a_message_of_2_gib_to_the_peer(start_peer: StartPeer, version: str) -> None:
    peer = start_peer(version, "listens", KEY, "receive_large", "until_the_end")
    authenticate(peer.stream, "listens", KEY)
    peer.stream.max_message_size = LARGE
    with mmap.mmap(-1, LARGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as message:
        # All between are zeros, which take no memory.
        message[:1], message[-1:] = b"<", b">"
        peer.stream.send_message(message, LONG_PATIENCE)
    peer.stream.close()
    peer.check_end(f"{LARGE} {ord('<')} {ord('>')} {LARGE - 2}", "the end")


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("two_versions", "large_messages")
@pytest.mark.parametrize("transport", ["local"], indirect=True)
def test_a_message_of_2_gib_from_the_peer(start_peer: StartPeer, version: str) -> None:
    peer = start_peer(version, "connects", KEY, f"send_large:{LARGE}", "until_the_end")
    authenticate(peer.stream, "connects", KEY)
    with pytest.raises(bbipc.MessageTooLargeError, match=str(LARGE)):
        peer.stream.receive_message(PATIENCE)
    peer.stream.max_message_size = LARGE
    message = peer.stream.receive_message(LONG_PATIENCE)
    assert (len(message), message[:1], message[-1:], message.count(0)) == (LARGE, b"<", b">", LARGE - 2)
    peer.stream.close()
    peer.check_end("the end")
