"""Streams that end, in time or not, in order or not: nothing that arrived is ever lost, and what was done is told."""

from __future__ import annotations

import errno
import mmap
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import bbipc
from bbipc import Events
from patience import PATIENCE
from readiness import RESETS_DISCARD, TELLS_ENDS_LATE, needs_half_close, needs_reset, sever
from streaming import ESTABLISHED, EVENTS_OF_BYTES, GONE, await_event, events_of, pattern, send
from systems import WINDOWS
from transports import STREAM_EVENTS, Transport, fill, reset

# ---- The time is up, or the remote end goes ----


def test_read_exactly_tells_what_it_has_when_the_time_is_up(transport: Transport) -> None:
    one, other = transport.pair()
    send(one, other, b"abc")
    with pytest.raises(bbipc.TimeoutError, match="3 of 10") as caught:
        other.read_exactly(10, 0.01)
    assert caught.value.partial == b"abc"
    assert caught.value.errno == errno.ETIMEDOUT
    one.write_all(b"defg")
    assert other.read_exactly(4, PATIENCE) == b"defg"


def test_read_exactly_without_time_reads_what_is_there(transport: Transport) -> None:
    one, other = transport.pair()
    send(one, other, b"abcdef")
    assert other.read_exactly(3, 0) == b"abc"
    with pytest.raises(bbipc.TimeoutError) as caught:
        other.read_exactly(4, 0)
    assert caught.value.partial == b"def"


def test_write_all_tells_what_it_did_when_the_time_is_up(transport: Transport) -> None:
    one, other = transport.pair()
    size = 20_000_000
    for timeout in (0.1, 0):
        with pytest.raises(bbipc.TimeoutError, match=f"of {size}") as caught:
            one.write_all(pattern(0, size), timeout)
        written = caught.value.bytes_written
        assert 0 < written < size
        assert other.read_exactly(written, PATIENCE) == pattern(0, written)
        assert not bbipc.poll_socket(other, Events.DATA_AVAILABLE, 0.01)
        await_event(one, Events.READY_TO_WRITE)


def test_more_than_there_is_memory_for_is_a_memory_error(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = transport.pair()
    send(one, other, b"abcdef")

    def no_memory(*_arguments: object) -> object:
        raise OSError(errno.ENOMEM, "no memory")

    with monkeypatch.context() as patched:
        patched.setattr(mmap, "mmap", no_memory)
        with pytest.raises(MemoryError, match="2097152 bytes"):
            other.read(1 << 21)
    assert other.read(1 << 21) == b"abcdef"


def test_nothing_is_lost_when_the_remote_end_writes_and_closes_at_once(transport: Transport, backend: str) -> None:
    one, other = transport.pair()
    written = 0
    # Or less, if the stream takes no more.
    while written < 40_000 and (taken := one.write(pattern(written, 10_000))):
        written += taken
    one.close()
    if transport.name == "local" or not TELLS_ENDS_LATE:
        await_event(other, Events.REMOTE_DISCONNECTED)
    await_event(other, Events.DATA_AVAILABLE)
    assert other.data_available()
    assert not other.end_of_data()
    with bbipc.make_poller(backend) as poller:
        poller.monitor_socket(other, Events.DATA_AVAILABLE | Events.END_OF_DATA)
        read = 0
        while True:
            ((_, happened),) = poller.wait_for_events(PATIENCE)
            if happened.end_of_data:
                break
            data = other.read(10_000)
            assert data
            assert data == pattern(read, len(data))
            read += len(data)
    assert read == written
    assert not other.data_available()
    assert other.end_of_data()
    assert other.connection_error() is None


def test_after_an_orderly_close_reads_are_empty_for_ever(transport: Transport) -> None:
    one, other = transport.pair()
    one.close()
    await_event(other, Events.END_OF_DATA)
    for _ in range(3):
        assert other.read() == b""
        assert other.read_into(bytearray(8)) == 0
        assert other.read(peek=True) == b""
        assert GONE | Events.END_OF_DATA in events_of(other)
        assert other.connection_error() is None


def test_read_exactly_tells_what_it_has_when_the_remote_end_closes(transport: Transport) -> None:
    one, other = transport.pair()
    one.write_all(b"abc")
    one.close()
    with pytest.raises(bbipc.EndOfStreamError, match="3 of 10") as caught:
        other.read_exactly(10, PATIENCE)
    assert caught.value.partial == b"abc"
    assert caught.value.__cause__ is None
    with pytest.raises(bbipc.EndOfStreamError) as again:
        other.read_exactly(1)
    assert again.value.partial == b""


def test_read_exactly_reads_the_last_bytes_of_a_closed_stream(transport: Transport) -> None:
    one, other = transport.pair()
    one.write_all(b"abc")
    one.close()
    assert other.read_exactly(3, PATIENCE) == b"abc"
    assert other.read_exactly(0) == b""


def test_read_exactly_tells_what_it_has_when_the_connection_is_reset(transport: Transport) -> None:
    needs_reset(transport)
    stream, peer = transport.python_peer()
    peer.sendall(b"abc")
    await_event(stream, Events.DATA_AVAILABLE)
    sever(peer, stream)
    kept = b"" if RESETS_DISCARD and transport.name == "tcp" else b"abc"
    if not kept:
        await_event(stream, Events.CONNECTION_SEVERED)
    with pytest.raises(bbipc.EndOfStreamError, match=f"{len(kept)} of 10") as caught:
        stream.read_exactly(10, PATIENCE)
    assert caught.value.partial == kept
    assert isinstance(caught.value.__cause__, bbipc.SocketError)
    assert caught.value.__cause__.errno == errno.ECONNRESET


def test_write_all_tells_what_it_did_when_the_remote_end_has_closed(transport: Transport) -> None:
    one, other = transport.pair()
    other.close()
    await_event(one, Events.REMOTE_DISCONNECTED)
    with pytest.raises(bbipc.EndOfStreamError, match="of 20000000") as caught:
        one.write_all(bytes(20_000_000), PATIENCE)
    assert 0 <= caught.value.bytes_written < 20_000_000
    assert isinstance(caught.value.__cause__, bbipc.SocketError)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_write_all_ends_when_the_remote_end_goes_meanwhile(transport: Transport, how: str) -> None:
    stream, peer = transport.python_peer()
    fill(stream)
    goes = threading.Timer(0.02, peer.close if how == "close" else lambda: reset(peer, stream))
    goes.start()
    with pytest.raises(bbipc.EndOfStreamError) as caught:
        stream.write_all(bytes(20_000_000), PATIENCE)
    goes.join()
    assert caught.value.bytes_written == 0


# ---- The connection is severed ----


@pytest.mark.parametrize("asked", [EVENTS_OF_BYTES, STREAM_EVENTS])
def test_a_reset_leaves_what_had_arrived_readable(transport: Transport, asked: Events) -> None:
    needs_reset(transport)
    stream, peer = transport.python_peer()
    peer.sendall(b"abc")
    await_event(stream, Events.DATA_AVAILABLE)
    sever(peer, stream)
    await_event(stream, Events.CONNECTION_SEVERED)
    if not (RESETS_DISCARD and transport.name == "tcp"):
        unread = GONE | Events.CONNECTION_SEVERED | Events.DATA_AVAILABLE | Events.MESSAGE_AVAILABLE
        assert events_of(stream, asked) == unread & asked
        assert stream.read(peek=True) == b"abc"
        assert stream.read(2) == b"ab"
        assert stream.read() == b"c"
    assert events_of(stream, asked) == GONE | Events.CONNECTION_SEVERED | Events.END_OF_DATA
    for _ in range(2):
        for attempt in (stream.read, lambda: stream.read_into(bytearray(8)), lambda: stream.read(peek=True)):
            with pytest.raises(bbipc.SocketError) as caught:
                attempt()
            assert caught.value.errno == errno.ECONNRESET
            assert caught.value.socket is stream


@pytest.mark.parametrize("first", ["read", "write", "connection_error"])
def test_why_a_connection_was_reset_is_told_whoever_asks_first(transport: Transport, first: str) -> None:
    needs_reset(transport)
    stream, peer = transport.python_peer()
    sever(peer, stream)
    await_event(stream, Events.CONNECTION_SEVERED)
    if first == "read":
        with pytest.raises(bbipc.SocketError):
            stream.read()
    elif first == "write":
        with pytest.raises(bbipc.SocketError):
            stream.write(b"x")
    for _ in range(2):
        error = stream.connection_error()
        assert isinstance(error, bbipc.SocketError)
        assert error.errno == errno.ECONNRESET
        assert error.socket is stream
    with pytest.raises(bbipc.SocketError) as reading:
        stream.read()
    assert reading.value.errno == errno.ECONNRESET


def test_a_write_to_a_reset_stream_raises_and_sends_no_signal(transport: Transport) -> None:
    stream, peer = transport.python_peer()
    reset(peer, stream)
    await_event(stream, Events.CONNECTION_SEVERED)
    for _ in range(3):
        with pytest.raises(bbipc.SocketError) as caught:
            stream.write(b"x")
        assert caught.value.errno in (errno.ECONNRESET, errno.EPIPE)
        assert caught.value.socket is stream


def test_a_write_to_a_closed_remote_end_raises(transport: Transport) -> None:
    one, other = transport.pair()
    other.close()
    await_event(one, Events.REMOTE_DISCONNECTED)
    if transport.name == "tcp":
        # TCP finds out that nobody reads by writing.
        assert one.write(b"x") == 1
        await_event(one, Events.CONNECTION_SEVERED)
    with pytest.raises(bbipc.SocketError) as caught:
        one.write(b"x")
    assert caught.value.errno in (errno.ECONNRESET, errno.EPIPE)


@pytest.mark.skipif(WINDOWS, reason="Windows has no SIGPIPE")
def test_no_write_sends_sigpipe(directory: Path) -> None:
    # Python ignores the signal. In this program it has its default action: it kills.
    program = """
import signal, sys
import bbipc
from bbipc import Events

signal.signal(signal.SIGPIPE, signal.SIG_DFL)
for server, connect in (
    (bbipc.make_ipv4_tcp_server("127.0.0.1", 0), lambda one: bbipc.connect_to_ipv4_tcp_server("127.0.0.1", one.port)),
    (bbipc.make_local_server(sys.argv[1]), lambda one: bbipc.connect_to_local_server(one.local_pathname)),
):
    with server, connect(server) as stream:
        bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, 10)
        server.accept_connection().close()
        bbipc.poll_socket(stream, Events.REMOTE_DISCONNECTED, 10)
        for _ in range(3):
            try:
                stream.write(b"x" * 1000)
            except bbipc.SocketError:
                pass
            else:
                bbipc.poll_socket(stream, Events.CONNECTION_SEVERED, 10)
        try:
            stream.write_all(b"x" * 1000000)
        except bbipc.EndOfStreamError:
            pass
print("alive")
"""
    command = [sys.executable, "-c", program, str(directory / "s")]
    assert subprocess.run(command, check=True, timeout=PATIENCE, stdout=subprocess.PIPE).stdout == b"alive\n"


# ---- The half-close ----


def test_a_half_close_leaves_the_other_direction_open(transport: Transport) -> None:
    needs_half_close(transport)
    one, other = transport.pair()
    for finishing, answering in ((one, other), (other, one)):
        finishing.write_all(b"question")
        finishing.finish_writing()
        assert answering.read_exactly(8, PATIENCE) == b"question"
        await_event(answering, Events.END_OF_DATA)
        if finishing is other:
            break
        assert events_of(finishing) == ESTABLISHED
        assert events_of(answering) == GONE | Events.END_OF_DATA | Events.WRITE_SPACE | Events.MESSAGE_SPACE
        assert answering.connection_error() is None
        assert answering.write(b"answer") == 6
        answering.write_all(b" and more", PATIENCE)
        assert finishing.read_exactly(15, PATIENCE) == b"answer and more"
        assert events_of(finishing) == ESTABLISHED
    severed = GONE | Events.END_OF_DATA | Events.CONNECTION_SEVERED
    await_event(one, Events.CONNECTION_SEVERED)
    await_event(other, Events.CONNECTION_SEVERED)
    assert events_of(one) == events_of(other) == severed
    assert one.connection_error() is None
    assert other.connection_error() is None


def test_after_finish_writing_nothing_more_can_be_written(transport: Transport) -> None:
    needs_half_close(transport)
    one, other = transport.pair()
    one.finish_writing()
    for attempt in (lambda: one.write(b"x"), lambda: one.write_all(b"x", PATIENCE)):
        with pytest.raises(bbipc.SocketError) as caught:
            attempt()
        assert caught.value.errno == errno.EPIPE
        assert "finish_writing" in str(caught.value)
    assert one.connection_succeeded()
    assert one.write(b"") == 0
    await_event(other, Events.END_OF_DATA)


def test_a_half_close_loses_nothing_that_was_written_before(transport: Transport) -> None:
    needs_half_close(transport)
    one, other = transport.pair()
    written = fill(one)
    one.finish_writing()
    assert len(other.read_exactly(written, PATIENCE)) == written
    await_event(other, Events.END_OF_DATA)


def test_write_all_serves_a_peer_that_has_finished_and_still_reads(transport: Transport) -> None:
    needs_half_close(transport)
    stream, peer = transport.python_peer()
    peer.shutdown(socket.SHUT_WR)
    await_event(stream, Events.END_OF_DATA)
    data = pattern(0, 10_000_000)
    received = bytearray()

    def read_all() -> None:
        while len(received) < len(data):
            received.extend(peer.recv(1_000_000))

    reading = threading.Thread(target=read_all)
    reading.start()
    stream.write_all(data, PATIENCE)
    reading.join()
    assert received == data


@pytest.mark.parametrize("asked", [EVENTS_OF_BYTES, STREAM_EVENTS])
def test_bytes_unread_when_both_ends_have_finished_are_not_lost(transport: Transport, asked: Events) -> None:
    needs_half_close(transport)
    one, other = transport.pair()
    one.finish_writing()
    await_event(other, Events.END_OF_DATA)
    other.write_all(b"last words")
    other.finish_writing()
    await_event(one, Events.CONNECTION_SEVERED)
    unread = GONE | Events.CONNECTION_SEVERED | Events.DATA_AVAILABLE | Events.MESSAGE_AVAILABLE
    assert events_of(one, asked) == unread & asked
    assert one.read_exactly(10, PATIENCE) == b"last words"
    assert events_of(one, asked) == GONE | Events.CONNECTION_SEVERED | Events.END_OF_DATA
    assert one.connection_error() is None


def test_whoever_waits_for_space_alone_is_told_that_it_will_not_come(transport: Transport, backend: str) -> None:
    stream, peer = transport.python_peer()
    fill(stream)
    with bbipc.make_poller(backend) as poller:
        poller.monitor_socket(stream, Events.WRITE_SPACE | Events.CONNECTION_SEVERED)
        assert poller.wait_for_events(0) == []
        reset(peer, stream)
        assert poller.wait_for_events(PATIENCE) == [(stream, Events.CONNECTION_SEVERED)]
        assert not stream.write_space()


def test_a_stream_read_by_python_and_back(transport: Transport) -> None:
    stream, peer = transport.python_peer()
    stream.write_all(b"to python")
    assert peer.recv(100) == b"to python"
    peer.sendall(b"from python")
    assert stream.read_exactly(11, PATIENCE) == b"from python"
