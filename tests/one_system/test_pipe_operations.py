"""Operations under way: they outlive the thread that began them, and what is written outlives its stream."""

from __future__ import annotations

import contextlib
import errno
import itertools
import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from functools import partial

import pytest

import bbipc
from bbipc import Events, LocalStream, StreamServer, StreamSocket, poll_socket
from bbipc._native import declarations
from child_processes import Processes, ended, eventually
from patience import PATIENCE
from peer import until_asleep
from transports import Transport, fill

if sys.platform != "win32":
    pytest.skip("pipes with instances, handles and completion ports are Windows' own", allow_module_level=True)

import _winapi

from pipe_checks import (
    BUFFER,
    CLIENT,
    DATA,
    END,
    PIPES,
    SEVERED,
    SPACE,
    accept,
    in_a_thread_that_ends,
    pipe_pair,
    read_to_end,
    refusal,
    settled_holdings,
    when_asleep,
    write_until_pending,
)

# ---- A thread that began an operation ends ----


def wait_alone(stream: StreamSocket | StreamServer, events: Events, timeout: float) -> Events:
    with bbipc.make_poller() as poller:
        poller.monitor_socket(stream, events)
        return dict(poller.wait_for_events(timeout)).get(stream, Events())


WAYS: dict[str, Callable[[StreamSocket | StreamServer, Events, float], Events]] = {
    "poll_socket": poll_socket,
    "poll_sockets": lambda socket, events, timeout: bbipc.poll_sockets([socket], events, timeout)[0],
    "poller": wait_alone,
}

#: Seconds. A wait for what does not come, which leaves its operations behind.
A_MOMENT = 0.02


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("armed_by", WAYS)
def test_a_read_begun_by_a_thread_that_ends_is_still_heard_of(transport: Transport, armed_by: str, way: str) -> None:
    stream, peer = transport.pair()
    in_a_thread_that_ends(lambda: WAYS[armed_by](stream, DATA | END, A_MOMENT))
    with when_asleep(lambda: peer.write_all(b"bytes")):
        assert WAYS[way](stream, DATA, PATIENCE) == DATA
    assert stream.read() == b"bytes"
    in_a_thread_that_ends(lambda: WAYS[armed_by](stream, DATA | END, A_MOMENT))
    with when_asleep(peer.close):
        assert WAYS[way](stream, DATA | END, PATIENCE) == END


def test_a_pollers_watches_outlive_the_thread_that_waited(transport: Transport) -> None:
    """No later wait begins these anew, for they are with the system already."""
    pairs = [transport.pair() for _ in range(3)]
    server = transport.make_server()
    with bbipc.make_poller() as poller:
        for stream, _ in pairs:
            poller.monitor_socket(stream, DATA | END)
        poller.monitor_socket(server, CLIENT)
        in_a_thread_that_ends(lambda: poller.wait_for_events(A_MOMENT))
        for stream, peer in pairs:
            with when_asleep(partial(peer.write, b"x")):
                assert poller.wait_for_events(PATIENCE) == [(stream, DATA)]
            assert stream.read() == b"x"
        with when_asleep(lambda: transport.connect(server)):
            assert poller.wait_for_events(PATIENCE) == [(server, CLIENT)]


@pytest.mark.parametrize("way", WAYS)
def test_a_server_made_by_a_thread_that_ends_goes_on_listening(transport: Transport, way: str) -> None:
    servers: list[StreamServer] = []
    in_a_thread_that_ends(lambda: servers.append(transport.make_server(backlog=2)))
    (server,) = servers

    def connect() -> None:
        clients.append(transport.connect(server))

    def accept_one() -> None:
        accepted.append(transport.keep(server.accept_connection()))

    clients: list[StreamSocket] = []
    accepted: list[StreamSocket] = []
    for _ in range(6):
        with when_asleep(connect):
            assert WAYS[way](server, CLIENT, PATIENCE) == CLIENT
        # The next instance of a pipe is made, and listens, by the thread that accepts.
        in_a_thread_that_ends(accept_one)
        clients[-1].write_all(b"there")
        assert accepted[-1].read_exactly(5, PATIENCE) == b"there"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("closes", [False, True])
def test_a_write_begun_by_a_thread_that_ends_goes_on(name: str, way: str, closes: bool) -> None:
    data = random.Random(9).randbytes(2 * BUFFER)
    with pipe_pair(name) as (stream, peer):

        def work() -> None:
            assert write_until_pending(stream, data) == len(data)
            if closes:
                stream.close()

        in_a_thread_that_ends(work)
        assert declarations.pending_operations() > 0
        if closes:
            assert read_to_end(peer) == data
            return
        assert not stream.write_space()
        received = bytearray()

        def read() -> None:
            while len(received) < len(data):
                received.extend(peer.read_exactly(1000 if len(received) < 64000 else len(data) - len(received)))

        with when_asleep(read):
            assert WAYS[way](stream, SPACE, PATIENCE) == SPACE
        assert bytes(received) == data
        assert stream.connection_error() is None


# ---- A write under way when its stream is closed ----


@pytest.mark.parametrize("accepted_writes", [False, True], ids=["client", "accepted"])
@pytest.mark.parametrize("piece", [1000, 8192, 50_001, BUFFER])
@pytest.mark.parametrize("size", [1, BUFFER - 1, BUFFER, BUFFER + 1, 100_000, 2 * BUFFER])
def test_every_byte_arrives_after_close(name: str, size: int, piece: int, accepted_writes: bool) -> None:
    data = random.Random(size).randbytes(size)
    written = 0
    with pipe_pair(name, accepted_writes) as (stream, peer):
        while written < size:
            taken = stream.write(data, written, min(written + piece, size))
            if taken == 0:
                break
            written += taken
        # Room for a buffer, and one write more.
        assert written >= min(size, BUFFER + 1)
        stream.close()
        assert peer.connection_error() is None
        chance = random.Random(size)
        assert read_to_end(peer, iter(lambda: chance.choice((1, 777, 4096, 70_000)), 0)) == data[:written]
        assert peer.connection_error() is None
    assert declarations.finish_writes(int(PATIENCE * 1e9)) == 1


def test_closed_streams_wait_for_their_readers_one_by_one(name: str, stack: contextlib.ExitStack) -> None:
    pairs = [stack.enter_context(pipe_pair(f"{name}-{number}", bool(number % 2))) for number in range(10)]
    filled = [fill(stream) for stream, _ in pairs]
    assert filled == [2 * BUFFER] * len(pairs)
    for stream, _ in pairs:
        stream.close()
    random.Random(10).shuffle(pairs)
    for _, peer in pairs:
        assert declarations.finish_writes(0) == 0
        assert len(read_to_end(peer)) == 2 * BUFFER
    assert declarations.finish_writes(int(PATIENCE * 1e9)) == 1


def test_a_wait_for_closed_streams_ends_when_the_last_is_read(name: str) -> None:
    with pipe_pair(name) as (stream, peer):
        fill(stream)
        stream.close()
        began = time.perf_counter()
        assert declarations.finish_writes(100_000_000) == 0
        assert time.perf_counter() - began >= 0.1
        received: list[bytes] = []
        with when_asleep(lambda: received.append(read_to_end(peer))):
            assert declarations.finish_writes(int(PATIENCE * 1e9)) == 1
        assert len(received[0]) == 2 * BUFFER


@pytest.mark.parametrize("goes", ["the peer", "the peer, unread bytes and all"])
def test_what_nobody_reads_is_given_back_when_the_peer_goes(name: str, goes: str) -> None:
    before = settled_holdings()
    for number in range(10):
        with pipe_pair(name, accepted_writes=bool(number % 2)) as (stream, peer):
            fill(stream)
            if goes == "the peer":
                assert peer.read(1000)
            else:
                fill(peer)
            stream.close()
            assert declarations.finish_writes(0) == 0
            peer.close()
            assert declarations.finish_writes(int(PATIENCE * 1e9)) == 1
    assert settled_holdings() == before


def test_what_is_written_to_a_closed_stream_loses_nothing_of_what_it_wrote(name: str) -> None:
    """It throws away what comes while its own write is under way: else a peer that writes first would wait for ever."""
    data = random.Random(11).randbytes(2 * BUFFER)
    with pipe_pair(name) as (stream, peer):
        assert write_until_pending(stream, data) == len(data)
        stream.close()
        peer.write_all(bytes(100 * BUFFER), PATIENCE)
        received = bytearray()
        while len(received) < len(data):
            received += peer.read_exactly(1024, PATIENCE)
        assert bytes(received) == data
        assert poll_socket(peer, SEVERED, PATIENCE)
        assert refusal(partial(peer.write, b"x")).errno == errno.EPIPE


def test_who_writes_to_a_closed_stream_and_never_reads_learns_of_the_end(name: str) -> None:
    """It does not throw bytes away for ever: that would look like a reader."""
    with pipe_pair(name) as (stream, peer):
        write_until_pending(stream, bytes(2 * BUFFER))
        stream.close()
        with pytest.raises(bbipc.EndOfStreamError) as caught:
            peer.write_all(bytes(80 << 20), PATIENCE)
        assert 64 << 20 <= caught.value.bytes_written < 65 << 20
        # What the pipe had taken can be read all the same.
        assert len(peer.read_exactly(BUFFER, PATIENCE)) == BUFFER
    eventually(lambda: declarations.pending_operations() == 0, "nothing is under way")


#: Writes as many of SIZE bytes as a pipe takes at once, and ends in one of the ways.
WRITE_AND_EXIT = """
import random, sys
import bbipc

name, size, way = sys.argv[1], int(sys.argv[2]), sys.argv[3]
stream = bbipc.connect_to_local_server(name)
data = random.Random(size).randbytes(size)
count = 0
while count < size:
    taken = stream.write(data, count)
    if taken == 0:
        break
    count += taken
print(count, flush=True)
if way != "never closed":
    stream.close()
if way == "exit":
    sys.exit(3)
if way == "exception":
    raise SystemExit(4)
"""

EXITS = {"end": 0, "exit": 3, "exception": 4, "never closed": 0}

#: Seconds. Longer than Python needs to end, and shorter than a process stays for what nobody reads.
PROMPT = 3.0
LINGER = 5.0


def write_and_exit(
    processes: Processes, name: str, size: int, way: str
) -> tuple[subprocess.Popen[str], LocalStream, float]:
    """The process, our end of its pipe, and when the process had written all."""
    with bbipc.make_local_server(name) as server:
        process = processes.start([sys.executable, "-Wignore", "-c", WRITE_AND_EXIT, name, str(size), way])
        stream = accept(server)
    assert process.stdout is not None
    assert process.stdout.readline() == f"{size}\n"
    return process, stream, time.perf_counter()


@pytest.mark.parametrize("way", EXITS)
def test_a_process_ends_when_all_that_it_wrote_is_read(processes: Processes, name: str, way: str) -> None:
    process, stream, _ = write_and_exit(processes, name, 2 * BUFFER, way)
    with stream:
        # It waits for us, and not for ever.
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        assert read_to_end(stream) == random.Random(2 * BUFFER).randbytes(2 * BUFFER)
        began = time.perf_counter()
        assert ended(process) == (EXITS[way], "", "")
        assert time.perf_counter() - began < PROMPT


@pytest.mark.parametrize("size", [0, 1, BUFFER])
def test_a_process_does_not_wait_for_what_the_pipe_keeps(processes: Processes, name: str, size: int) -> None:
    process, stream, began = write_and_exit(processes, name, size, "end")
    with stream:
        assert ended(process) == (0, "", "")
        assert time.perf_counter() - began < PROMPT
        assert read_to_end(stream) == random.Random(size).randbytes(size)


def test_a_process_waits_for_a_peer_that_never_reads_but_not_for_ever(processes: Processes, name: str) -> None:
    process, stream, began = write_and_exit(processes, name, 2 * BUFFER, "end")
    with stream:
        assert ended(process) == (0, "", "")
        assert LINGER - 1 < time.perf_counter() - began < LINGER + PROMPT
        # What the pipe kept is there, and nothing that was never written.
        rest = read_to_end(stream)
        assert random.Random(2 * BUFFER).randbytes(2 * BUFFER)[: len(rest)] == rest
        assert len(rest) >= BUFFER


def test_a_process_does_not_wait_for_a_peer_that_has_gone(processes: Processes, name: str) -> None:
    process, stream, _ = write_and_exit(processes, name, 2 * BUFFER, "end")
    with stream:
        until_asleep(process.pid)
    began = time.perf_counter()
    assert ended(process) == (0, "", "")
    assert time.perf_counter() - began < PROMPT


def test_a_peer_that_is_busy_with_one_large_write_gets_what_was_written_before_close(
    processes: Processes, name: str
) -> None:
    program = """
        import _winapi, sys
        access = _winapi.GENERIC_READ | _winapi.GENERIC_WRITE
        pipe = _winapi.CreateFile(sys.argv[1], access, 0, 0, _winapi.OPEN_EXISTING, 0, 0)
        # It does not return before all of it is read.
        written, _ = _winapi.WriteFile(pipe, bytes(int(sys.argv[2])))
        received = 0
        try:
            while True:
                received += len(_winapi.ReadFile(pipe, 65536)[0])
        except BrokenPipeError:
            print(written, received)
    """
    size = 16 << 20
    with bbipc.make_local_server(name) as server:
        peer = processes.start([sys.executable, "-c", textwrap.dedent(program), PIPES + name, str(size)])
        stream = accept(server)
        assert poll_socket(stream, DATA, PATIENCE)
        written = fill(stream)
        stream.close()
        assert ended(peer) == (0, f"{size} {written}\n", "")
    eventually(lambda: declarations.pending_operations() == 0, "nothing is under way")


# ---- Writes of nothing ----


MODES = {"bytes": 0, "messages": _winapi.PIPE_TYPE_MESSAGE | _winapi.PIPE_READMODE_MESSAGE}


@pytest.mark.parametrize("count", [1, 10, 100])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", MODES)
def test_writes_of_nothing_are_no_end_and_cost_no_processor(name: str, mode: str, way: str, count: int) -> None:
    """Also more of them than are passed over in one go. What is written behind them arrives."""
    handle = _winapi.CreateNamedPipe(
        PIPES + name,
        _winapi.PIPE_ACCESS_DUPLEX | _winapi.FILE_FLAG_OVERLAPPED,
        MODES[mode],
        1,
        BUFFER,
        BUFFER,
        0,
        _winapi.NULL,
    )
    try:
        with bbipc.connect_to_local_server(name) as stream:

            def write(data: bytes) -> None:
                writing, _ = _winapi.WriteFile(handle, data, overlapped=True)
                writes.append(writing)

            def write_all() -> None:
                for data in (b"", b"bytes", b""):
                    write(data)

            writes: list[_winapi.Overlapped] = []
            for _ in range(count):
                write(b"")
            began = time.process_time()
            assert not WAYS[way](stream, DATA | END | SEVERED, 0.5)
            assert time.process_time() - began < 0.25
            with when_asleep(write_all):
                assert WAYS[way](stream, DATA | END, PATIENCE) == DATA
            assert stream.read_exactly(5, PATIENCE) == b"bytes"
            assert not WAYS[way](stream, DATA | END | SEVERED, A_MOMENT)
            assert stream.read() == b""
            for writing in writes:
                writing.GetOverlappedResult(True)
    finally:
        _winapi.CloseHandle(handle)


@pytest.mark.parametrize("size", [1, 4096, BUFFER, 100_000])
def test_messages_of_a_foreign_server_arrive_whole(name: str, size: int) -> None:
    messages = [random.Random(number).randbytes(size) for number in range(5)]
    handle = _winapi.CreateNamedPipe(
        PIPES + name,
        _winapi.PIPE_ACCESS_DUPLEX | _winapi.FILE_FLAG_OVERLAPPED,
        MODES["messages"],
        1,
        BUFFER,
        BUFFER,
        0,
        _winapi.NULL,
    )
    try:
        with bbipc.connect_to_local_server(name) as stream:
            for pieces in ([size], [1, size // 2 + 1], [70_000]):
                writes = [_winapi.WriteFile(handle, message, overlapped=True)[0] for message in messages]
                received = bytearray()
                for piece in itertools.cycle(pieces):
                    if len(received) == len(messages) * size:
                        break
                    assert poll_socket(stream, DATA, PATIENCE)
                    received += stream.read(piece)
                assert bytes(received) == b"".join(messages)
                assert not stream.data_available()
                for writing in writes:
                    assert writing.GetOverlappedResult(True) == (size, 0)
    finally:
        _winapi.CloseHandle(handle)
