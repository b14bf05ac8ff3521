"""Peers of named pipes that nobody here wrote, in both roles: asyncio, multiprocessing.connection, Win32 programs."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing import connection
from pathlib import Path

import pytest

import bbipc
from bbipc import Events, LocalServer, LocalStream, SocketError, poll_socket
from bbipc._native import declarations
from child_processes import LOOK_AGAIN_S, Processes, ended
from patience import PATIENCE
from readiness import WINE
from transports import fill

if sys.platform != "win32":
    pytest.skip("named pipes are the local streams of Windows only", allow_module_level=True)

import _winapi

import windows
from named_pipes import pipe_name

MEBIBYTE = 1 << 20

#: Around what the ends buffer (asyncio and multiprocessing 8 KiB, a stream of ours 64 KiB), and much more than that.
SIZES = [
    *(1, 2, 3, 1000, 4095, 4096, 4097, 8191, 8192, 8193, 65535, 65536, 65537),
    *(131_071, 200_003, MEBIBYTE, 3_000_017, 16 * MEBIBYTE),
]

DIRECTIONS: dict[str, Callable[[int], tuple[int, int]]] = {
    "to us": lambda size: (size, 0),
    "to them": lambda size: (0, size),
    "both at once": lambda size: (size, size),
}

#: Instead of a size: without end.
ENDLESS = -1


# ---- The peers ----

# Each is run with ROLE CLOSING NAME OUT:IN ..., and makes one connection after the other for the pairs: it sends OUT
# bytes and receives IN. Then it closes (CLOSING is "theirs") or waits for the end ("ours"), and tells what it received.

#: What the two programs have in common.
COMMON = """
import hashlib, random, sys

ENDLESS = -1

def data_of(size):
    return random.Random(size).randbytes(1 << 20 if size == ENDLESS else size)

def tell(received, error=None):
    print(len(received), hashlib.sha256(received).hexdigest(), error, flush=True)

role, closing, name, *exchanges = sys.argv[1:]
exchanges = [tuple(map(int, exchange.split(":"))) for exchange in exchanges]
"""

#: asyncio's pipes. They are of messages, and its client reads bytes from them.
PROACTOR = (
    COMMON
    + """
import asyncio

class Peer(asyncio.Protocol):
    def __init__(self):
        self.out, self.wanted = exchanges.pop(0)
        self.received = bytearray()
        self.paused = False
        self.ended = asyncio.get_running_loop().create_future()
        ends.append(self.ended)

    def connection_made(self, transport):
        self.transport = transport
        self.resume_writing()
        self.close_when_done()

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False
        self.transport.write(data_of(self.out))
        while self.out == ENDLESS and not self.paused:
            self.transport.write(data_of(self.out))
        self.out = min(self.out, 0)

    def data_received(self, data):
        if self.wanted != ENDLESS:
            self.received += data
            self.close_when_done()

    def close_when_done(self):
        if closing == "theirs" and len(self.received) == self.wanted:
            self.transport.close()

    def connection_lost(self, error):
        tell(self.received, error)
        self.ended.set_result(None)

ends = []

async def main():
    loop = asyncio.get_running_loop()
    count = len(exchanges)
    if role == "server":
        [server] = await loop.start_serving_pipe(Peer, name)
        # It begins to accept in the loop's next turn. A client that has come and gone by then is dropped.
        await asyncio.sleep(0)
        print("listening", flush=True)
        while len(ends) < count or not all(end.done() for end in ends):
            await asyncio.sleep(0.01)
        server.close()
    elif role == "clients":
        await asyncio.gather(*(loop.create_pipe_connection(Peer, name) for _ in range(count)))
        await asyncio.gather(*ends)
    else:
        for _ in range(count):
            await loop.create_pipe_connection(Peer, name)
            await ends[-1]

asyncio.run(main())
"""
)

#: Handles that block, for reading and for writing. One call writes all.
PLAIN = (
    COMMON
    + """
import _winapi

def make_instance(first=0):
    mode = _winapi.PIPE_TYPE_MESSAGE | _winapi.PIPE_READMODE_MESSAGE if role == "message server" else 0
    return _winapi.CreateNamedPipe(name, _winapi.PIPE_ACCESS_DUPLEX | first, mode, 255, 4096, 4096, 0, 0)

def accept(handle):
    try:
        _winapi.ConnectNamedPipe(handle)
    except OSError as error:
        if error.winerror not in (232, 535):  # it came and went, or is here already
            raise

def connect():
    access = _winapi.GENERIC_READ | _winapi.GENERIC_WRITE
    return _winapi.CreateFile(name, access, 0, 0, _winapi.OPEN_EXISTING, 0, 0)

def receive(handle, size):
    received = bytearray()
    while size == ENDLESS or closing == "ours" or len(received) < size:
        try:
            # Where a message is longer, no error is raised.
            data, _ = _winapi.ReadFile(handle, 65536)
        except BrokenPipeError:
            break
        if size != ENDLESS:
            received += data
    return received

def exchange(handle, out, wanted):
    data = data_of(out)
    assert not data or _winapi.WriteFile(handle, data) == (len(data), 0)
    while out == ENDLESS:
        _winapi.WriteFile(handle, data)
    tell(receive(handle, wanted))
    _winapi.CloseHandle(handle)

if role == "client":
    for one in exchanges:
        exchange(connect(), *one)
else:
    handle = make_instance(first=_winapi.FILE_FLAG_FIRST_PIPE_INSTANCE)
    print("listening", flush=True)
    for one in exchanges:
        accept(handle)
        accepted, handle = handle, make_instance()
        exchange(accepted, *one)
"""
)

PEERS = {
    "asyncio server": (PROACTOR, "server"),
    "asyncio client": (PROACTOR, "client"),
    "asyncio clients": (PROACTOR, "clients"),
    "plain server": (PLAIN, "server"),
    "plain message server": (PLAIN, "message server"),
    "plain client": (PLAIN, "client"),
}

#: One connection at a time.
EVERY_PEER = [name for name in PEERS if name != "asyncio clients"]


def data_of(size: int) -> bytes:
    """What a peer sends: ``size`` bytes, or the same MiB again and again."""
    return random.Random(size).randbytes(MEBIBYTE if size == ENDLESS else size)


@pytest.fixture(params=["plain name", "path"])
def pathname(request: pytest.FixtureRequest, directory: Path) -> str:
    """Of a local server."""
    return str(directory / "peers") if request.param == "path" else f"bbipc-{directory.name}"


def connect(pathname: str) -> LocalStream:
    """A stream to a server that has room for one client at a time."""
    give_up_at = time.monotonic() + PATIENCE
    while True:
        try:
            return bbipc.connect_to_local_server(pathname)
        except SocketError as error:
            if error.errno != errno.EAGAIN or time.monotonic() > give_up_at:
                raise
        time.sleep(LOOK_AGAIN_S)


class Peer:
    """One of the PEERS as a process of its own, and our end, which has the other role."""

    def __init__(
        self, processes: Processes, name: str, closing: str, pathname: str, *exchanges: tuple[int, int]
    ) -> None:
        program, role = PEERS[name]
        pairs = [f"{out}:{wanted}" for out, wanted in exchanges]
        command = [sys.executable, "-c", program, role, closing, pipe_name(pathname), *pairs]
        self._pathname = pathname
        self._server: LocalServer | None = None
        if role.startswith("client"):
            self._server = bbipc.make_local_server(pathname)
        self.process = processes.start(command)
        if self._server is None:
            self.expect("listening")

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._server is not None:
            self._server.close()

    def stream(self) -> LocalStream:
        """Our end of the next connection."""
        if self._server is None:
            return connect(self._pathname)
        if not poll_socket(self._server, Events.CONNECTION_AVAILABLE, PATIENCE):
            self.process.kill()
            raise AssertionError(ended(self.process))
        return self._server.accept_connection()

    def expect(self, line: str) -> None:
        """Reads the line that it prints next."""
        assert self.process.stdout is not None
        lines: list[str] = []
        reading = threading.Thread(target=lambda: lines.append(self.process.stdout.readline()))
        reading.start()
        reading.join(PATIENCE)
        if reading.is_alive():
            # Tells whether the peer waits for us: for a write under way, or a pipe that is not closed.
            ours = (
                declarations.finish_writes(0),
                declarations.pending_operations(),
                Counter(windows.open_handles().values()),
            )
            self.process.kill()
            reading.join()
            raise AssertionError(f"the peer prints nothing; writes are done, operations, our handles: {ours}")
        (printed,) = lines
        if printed != line + "\n":
            self.process.kill()
            raise AssertionError((printed, line, ended(self.process)))

    def kill(self) -> None:
        """Ends it at once: TerminateProcess."""
        self.process.kill()
        self.process.wait(PATIENCE)


def exchange(stream: LocalStream, data: bytes, size: int) -> bytes:
    """Writes the data and reads ``size`` bytes, both at once."""
    received = bytearray()
    written = 0
    while written < len(data) or len(received) < size:
        events = Events.DATA_AVAILABLE | Events.END_OF_DATA
        if written < len(data):
            events |= Events.WRITE_SPACE
        happened = poll_socket(stream, events, PATIENCE)
        assert happened, f"wrote {written} of {len(data)}, read {len(received)} of {size} bytes"
        if happened.write_space:
            written += stream.write(data, written)
        if happened.data_available:
            received += stream.read(MEBIBYTE)
        elif happened.end_of_data:
            break
    return bytes(received)


def check_ended(stream: LocalStream, lost: bool = False) -> None:
    """All that is to be said of a stream whose peer has gone and that has been read to the end."""
    assert poll_socket(stream, Events.END_OF_DATA, PATIENCE)
    assert stream.remote_disconnected()
    assert stream.connection_severed()
    assert stream.connection_failed()
    assert not stream.connection_succeeded()
    assert not stream.data_available()
    assert not stream.write_space()
    if lost:
        # A write was under way, and never got there.
        with pytest.raises(SocketError) as reading:
            stream.read()
        assert reading.value.errno == errno.ECONNRESET
    else:
        assert stream.read() == b""
    with pytest.raises(SocketError) as writing:
        stream.write(b"into the void")
    assert writing.value.errno == errno.EPIPE
    assert writing.value.winerror in (109, 232)


# ---- Exact bytes ----


@pytest.mark.timeout(180)
@pytest.mark.parametrize("closing", ["theirs", "ours"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", EVERY_PEER)
def test_every_byte_arrives(processes: Processes, pathname: str, name: str, direction: str, closing: str) -> None:
    exchanges = [DIRECTIONS[direction](size) for size in SIZES]
    with Peer(processes, name, closing, pathname, *exchanges) as peer:
        for theirs, ours in exchanges:
            data = random.Random(-ours).randbytes(ours)
            with peer.stream() as stream:
                received = exchange(stream, data, theirs)
                assert len(received) == theirs
                assert received == data_of(theirs)
                if closing == "theirs":
                    check_ended(stream)
            peer.expect(f"{ours} {hashlib.sha256(data).hexdigest()} None")
        assert ended(peer.process) == (0, "", "")


@pytest.mark.parametrize("name", ["asyncio server", "asyncio clients"])
def test_many_connections_to_asyncio_at_once(processes: Processes, pathname: str, name: str) -> None:
    """One thread and one loop there, one poller here."""
    count, size = 20, 300_007
    data = random.Random(-size).randbytes(size)
    with Peer(processes, name, "ours", pathname, *[(size, size)] * count) as peer, contextlib.ExitStack() as stack:
        streams = [stack.enter_context(peer.stream()) for _ in range(count)]
        received = {stream: bytearray() for stream in streams}
        written = dict.fromkeys(streams, 0)
        poller = stack.enter_context(bbipc.make_poller())
        for stream in streams:
            poller.monitor_socket(stream, Events.DATA_AVAILABLE | Events.WRITE_SPACE)
        while poller.monitored_sockets():
            reported = poller.wait_for_events(PATIENCE)
            assert reported
            for stream, events in reported:
                assert isinstance(stream, LocalStream)
                if events.write_space:
                    written[stream] += stream.write(data, written[stream])
                if events.data_available:
                    received[stream] += stream.read()
                wanted = Events.DATA_AVAILABLE if len(received[stream]) < size else Events()
                if written[stream] < size:
                    wanted |= Events.WRITE_SPACE
                if wanted:
                    poller.set_monitored_events(stream, wanted)
                else:
                    poller.unmonitor_socket(stream)
        assert all(bytes(one) == data_of(size) for one in received.values())
        for stream in streams:
            stream.close()
        for _ in streams:
            peer.expect(f"{size} {hashlib.sha256(data).hexdigest()} None")
        assert ended(peer.process) == (0, "", "")


# ---- Peers that die ----


@pytest.mark.parametrize("name", EVERY_PEER)
def test_what_a_killed_sender_sent_is_readable(processes: Processes, pathname: str, name: str) -> None:
    block = data_of(ENDLESS)
    with Peer(processes, name, "ours", pathname, (ENDLESS, 0)) as peer, peer.stream() as stream:
        received = bytearray()
        while len(received) < MEBIBYTE:
            assert poll_socket(stream, Events.DATA_AVAILABLE, PATIENCE)
            received += stream.read()
        peer.kill()
        assert poll_socket(stream, Events.REMOTE_DISCONNECTED | Events.CONNECTION_SEVERED, PATIENCE)
        while not stream.end_of_data():
            received += stream.read()
        blocks = block * (len(received) // MEBIBYTE + 1)
        assert bytes(received) == blocks[: len(received)]
        check_ended(stream)


@pytest.mark.parametrize("name", EVERY_PEER)
def test_writing_to_a_receiver_that_is_killed(processes: Processes, pathname: str, name: str) -> None:
    with Peer(processes, name, "ours", pathname, (0, ENDLESS)) as peer, peer.stream() as stream:
        stream.write_all(bytes(4 * MEBIBYTE), PATIENCE)
        peer.kill()
        with pytest.raises(bbipc.EndOfStreamError):
            stream.write_all(bytes(4 * MEBIBYTE), PATIENCE)
        assert poll_socket(stream, Events.CONNECTION_SEVERED, PATIENCE)
        assert stream.end_of_data()
        for _ in range(2):
            with pytest.raises(SocketError) as caught:
                stream.write(b"into the void")
            assert caught.value.errno == errno.EPIPE


@pytest.mark.parametrize("name", ["plain server", "plain message server", "plain client"])
def test_a_write_is_under_way_to_a_peer_that_is_killed(processes: Processes, pathname: str, name: str) -> None:
    """It sends without end, so it never reads; and dies with a write of its own under way."""
    with Peer(processes, name, "ours", pathname, (ENDLESS, 0)) as peer, peer.stream() as stream:
        assert fill(stream) > 0
        assert poll_socket(stream, Events.DATA_AVAILABLE, PATIENCE)
        assert not stream.write_space()
        peer.kill()
        assert poll_socket(stream, Events.WRITE_SPACE | Events.CONNECTION_SEVERED, PATIENCE)
        received = bytearray()
        while not stream.end_of_data():
            received += stream.read()
        blocks = data_of(ENDLESS) * (len(received) // MEBIBYTE + 1)
        assert bytes(received) == blocks[: len(received)]
        check_ended(stream, lost=True)


# ---- What plain Win32 programs do that ours never do ----

#: Writes nothing again and again, each time after a line on its standard input: `ROLE NAME`.
NOTHING = """
import sys
import _winapi

role, name = sys.argv[1:]
if role == "client":
    access = _winapi.GENERIC_READ | _winapi.GENERIC_WRITE
    handle = _winapi.CreateFile(name, access, 0, 0, _winapi.OPEN_EXISTING, 0, 0)
else:
    mode = _winapi.PIPE_TYPE_MESSAGE | _winapi.PIPE_READMODE_MESSAGE if role == "message server" else 0
    handle = _winapi.CreateNamedPipe(name, _winapi.PIPE_ACCESS_DUPLEX, mode, 1, 4096, 4096, 0, 0)
    print("listening", flush=True)
for line in sys.stdin:
    for data in (b"", line.strip().encode(), b""):
        _winapi.WriteFile(handle, data)
    print("written", flush=True)
"""


@pytest.mark.parametrize("role", ["server", "message server", "client"])
@pytest.mark.parametrize("how", ["poll_socket", "poller"])
def test_writing_nothing_is_no_end_and_no_data(processes: Processes, pathname: str, role: str, how: str) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(bbipc.make_local_server(pathname)) if role == "client" else None
        writer = processes.start([sys.executable, "-c", NOTHING, role, pipe_name(pathname)])
        if server is None:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "listening\n"
            stream = stack.enter_context(connect(pathname))
        else:
            assert poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
            stream = stack.enter_context(server.accept_connection())
        told = Events.DATA_AVAILABLE | Events.END_OF_DATA | Events.REMOTE_DISCONNECTED | Events.CONNECTION_SEVERED
        poller = stack.enter_context(bbipc.make_poller())
        poller.monitor_socket(stream, told)

        def happened(timeout: float) -> Events:
            if how == "poll_socket":
                return poll_socket(stream, told, timeout)
            return dict(poller.wait_for_events(timeout)).get(stream, Events())

        def write(line: str) -> None:
            assert writer.stdin is not None
            assert writer.stdout is not None
            writer.stdin.write(line + "\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == "written\n"

        for number in range(20):
            # Also while somebody waits.
            waits: list[Events] = []
            waiting = threading.Thread(target=lambda waits=waits: waits.append(happened(0.05)))
            waiting.start()
            write("")
            waiting.join()
            assert waits == [Events()]
            assert happened(0) == Events()
            assert stream.read() == b""
            assert stream.connection_succeeded()
            write(f"line {number}")
            assert happened(PATIENCE) == Events.DATA_AVAILABLE
            assert stream.read() == f"line {number}".encode()
        write("")
        started_at = time.process_time()
        assert happened(0.5) == Events()
        assert time.process_time() - started_at < 0.2, "it spins on what is nothing"
        assert writer.stdin is not None
        writer.stdin.close()
        assert writer.wait(PATIENCE) == 0
        assert poll_socket(stream, Events.END_OF_DATA, PATIENCE)
        check_ended(stream)


@contextlib.contextmanager
def instance(pathname: str, access: int = 3, mode: int = 0, buffers: int = 4096) -> Iterator[int]:
    """One instance of a pipe, made by the system's own call, that waits for a client."""
    handle = _winapi.CreateNamedPipe(pipe_name(pathname), access, mode, 1, buffers, buffers, 0, 0)
    try:
        yield handle
    finally:
        _winapi.CloseHandle(handle)


def test_a_pipe_without_buffers(pathname: str) -> None:
    """The system keeps nothing: a write is under way until the peer reads, also after close()."""
    with instance(pathname, buffers=0) as handle:
        with connect(pathname) as stream:
            assert stream.write(b"under way") == 9
            assert stream.write(b"more") == 0
            assert not stream.write_space()
            assert _winapi.ReadFile(handle, 5) == (b"under", 0)
            assert stream.write(b"more") == 0
            assert _winapi.ReadFile(handle, 100) == (b" way", 0)
            assert poll_socket(stream, Events.WRITE_SPACE, PATIENCE)
            assert stream.write(b"last words") == 10
        assert _winapi.ReadFile(handle, 100) == (b"last words", 0)
        with pytest.raises(BrokenPipeError):
            _winapi.ReadFile(handle, 100)


@pytest.mark.parametrize("mode", ["bytes", "messages"])
def test_the_ends_of_messages_are_not_seen(pathname: str, mode: str) -> None:
    pipe_mode = _winapi.PIPE_TYPE_MESSAGE | _winapi.PIPE_READMODE_MESSAGE if mode == "messages" else 0
    with instance(pathname, mode=pipe_mode) as handle, connect(pathname) as stream:
        for piece in (b"one", b"two", b"three"):
            _winapi.WriteFile(handle, piece)
        assert poll_socket(stream, Events.DATA_AVAILABLE, PATIENCE)
        # The system decides how many messages one look or one read takes.
        assert b"onet".startswith(stream.read(4, peek=True) or b"nothing")
        assert stream.read_exactly(4, PATIENCE) == b"onet"
        assert stream.read_exactly(7, PATIENCE) == b"wothree"
        # The other way, what one write took is one message.
        assert (stream.write(b"first"), stream.write(b""), stream.write(b"second")) == (5, 0, 6)
        received = [_winapi.ReadFile(handle, 3), _winapi.ReadFile(handle, 100)]
        if mode == "messages":
            assert received == [(b"fir", 234), (b"st", 0)]
            assert _winapi.ReadFile(handle, 100) == (b"second", 0)
        else:
            assert received == [(b"fir", 0), (b"stsecond", 0)]


@pytest.mark.skipif(WINE, reason="Wine forbids that only to who asks for the generic rights")
@pytest.mark.parametrize("access", [1, 2], ids=["inbound", "outbound"])
def test_a_pipe_of_one_direction_is_refused(pathname: str, access: int) -> None:
    with instance(pathname, access=access), pytest.raises(SocketError) as caught:
        bbipc.connect_to_local_server(pathname)
    assert (caught.value.errno, caught.value.winerror) == (errno.EACCES, 5)


def test_a_server_that_is_busy(pathname: str) -> None:
    with instance(pathname), connect(pathname):
        with pytest.raises(SocketError) as caught:
            bbipc.connect_to_local_server(pathname)
        assert (caught.value.errno, caught.value.winerror) == (errno.EAGAIN, 231)


def test_a_client_that_came_and_went(pathname: str) -> None:
    """It is no error of the server, which hands out what the client wrote."""
    access = _winapi.GENERIC_READ | _winapi.GENERIC_WRITE
    with bbipc.make_local_server(pathname) as server:
        for words in (b"last words", b""):
            handle = _winapi.CreateFile(pipe_name(pathname), access, 0, 0, _winapi.OPEN_EXISTING, 0, 0)
            if words:
                _winapi.WriteFile(handle, words)
            _winapi.CloseHandle(handle)
            assert poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
            with server.accept_connection() as stream:
                assert stream.read() == words
                check_ended(stream)


@pytest.mark.parametrize("access", ["read", "write"])
def test_a_client_of_one_direction(pathname: str, access: str) -> None:
    """Our pipes have both, and a client may ask for one of them only."""
    wanted = _winapi.GENERIC_READ if access == "read" else _winapi.GENERIC_WRITE
    with bbipc.make_local_server(pathname) as server:
        handle = _winapi.CreateFile(pipe_name(pathname), wanted, 0, 0, _winapi.OPEN_EXISTING, 0, 0)
        try:
            assert poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
            with server.accept_connection() as stream:
                if access == "read":
                    assert stream.write(b"to be read") == 10
                    assert _winapi.ReadFile(handle, 100) == (b"to be read", 0)
                else:
                    _winapi.WriteFile(handle, b"written")
                    assert poll_socket(stream, Events.DATA_AVAILABLE, PATIENCE)
                    assert stream.read() == b"written"
        finally:
            _winapi.CloseHandle(handle)


# ---- multiprocessing.connection ----


@pytest.fixture
def listener(pathname: str) -> Iterator[connection.Listener]:
    with connection.Listener(pipe_name(pathname), "AF_PIPE") as made:
        yield made


def test_stream_to_a_listener_of_multiprocessing(pathname: str, listener: connection.Listener) -> None:
    """Its pipe is of messages, which have no headers: one is what was sent, no more and no less."""
    with connect(pathname) as stream, listener.accept() as accepted:
        accepted.send_bytes(b"one")
        accepted.send_bytes(b"")
        accepted.send_bytes(b"two")
        assert stream.read_exactly(6, PATIENCE) == b"onetwo"
        assert not poll_socket(stream, Events.DATA_AVAILABLE | Events.END_OF_DATA, 0)
        assert stream.write(b"three") == 5
        assert accepted.recv_bytes() == b"three"
        # Longer than the 128 bytes that it reads at first.
        assert stream.write(bytes(range(256)) * 10) == 2560
        assert accepted.recv_bytes() == bytes(range(256)) * 10
        assert not accepted.poll()
        accepted.close()
        check_ended(stream)


@pytest.mark.parametrize("size", SIZES)
def test_every_byte_to_and_from_a_listener_of_multiprocessing(
    pathname: str, listener: connection.Listener, size: int
) -> None:
    theirs, ours = data_of(size), random.Random(-size).randbytes(size)
    results: list[bytes] = []
    with connect(pathname) as stream, listener.accept() as accepted:

        def serve() -> None:
            accepted.send_bytes(theirs)
            received = bytearray()
            while len(received) < size:
                received += accepted.recv_bytes()
            results.append(bytes(received))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            assert exchange(stream, ours, size) == theirs
        finally:
            thread.join(PATIENCE)
        assert results == [ours]


def test_listener_of_multiprocessing_hears_of_our_end(pathname: str, listener: connection.Listener) -> None:
    with connect(pathname) as stream, listener.accept() as accepted:
        stream.write(b"last words")
        stream.close()
        assert accepted.recv_bytes() == b"last words"
        with pytest.raises(EOFError):
            accepted.recv_bytes()


#: multiprocessing's client, which leaves its handle open where it fails: so in a process of its own.
CLIENT = """
import sys
from multiprocessing.connection import Client

try:
    Client(sys.argv[1], "AF_PIPE")
except OSError as error:
    print(error.winerror)
"""


def test_client_of_multiprocessing_can_not_use_a_server_of_ours(processes: Processes, pathname: str) -> None:
    """It insists on reading messages, which a pipe of bytes refuses (87, ERROR_INVALID_PARAMETER)."""
    with bbipc.make_local_server(pathname) as server:
        completed = processes.run([sys.executable, "-c", CLIENT, pipe_name(pathname)])
        assert (completed.returncode, completed.stdout, completed.stderr) == (0, "87\n", "")
        assert poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
        with server.accept_connection() as stream:
            check_ended(stream)
        # The server does not mind.
        with connect(pathname) as client, server.accept_connection() as stream:
            client.write(b"hello")
            assert stream.read_exactly(5, PATIENCE) == b"hello"


@pytest.mark.parametrize("size", [1, 128, 129, 65536, MEBIBYTE])
def test_connection_of_multiprocessing_in_byte_mode(pathname: str, size: int) -> None:
    """What its client makes of its handle works, but for the messages: it reads 128 bytes at the most at a time."""
    data = data_of(size)
    access = _winapi.GENERIC_READ | _winapi.GENERIC_WRITE
    with bbipc.make_local_server(pathname) as server:
        overlapped = _winapi.FILE_FLAG_OVERLAPPED
        handle = _winapi.CreateFile(pipe_name(pathname), access, 0, 0, _winapi.OPEN_EXISTING, overlapped, 0)
        with connection.PipeConnection(handle) as client:
            assert poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
            with server.accept_connection() as stream:
                thread = threading.Thread(target=client.send_bytes, args=(data,))
                thread.start()
                try:
                    assert stream.read_exactly(size, PATIENCE) == data
                finally:
                    thread.join(PATIENCE)
                received = bytearray()
                written = 0
                while len(received) < size:
                    written += stream.write(data, written)
                    piece = client.recv_bytes()
                    assert 0 < len(piece) <= 128
                    received += piece
                assert bytes(received) == data
                client.close()
                check_ended(stream)
