"""What begins as no message does, what is too large, and ends and resets in the middle: errors, and no memory."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import bbipc
import systems
from bbipc import Events, StreamSocket
from child_processes import Processes
from framing import AVAILABLE, AVAILABLE_OR_END, framed, long, short
from patience import PATIENCE
from readiness import RESETS_DISCARD, WINE, half_closes, needs_half_close, needs_reset, warned_of_the_rest
from streaming import await_event, pattern
from systems import LINUX, LOCAL_ROOM
from transports import Transport, reset
from tree import SUPPORT

#: What no message begins with.
MALFORMED = {
    "-2": short(-2),
    "-2**31": short(-(2**31)),
    "text": b"\xc3\xa4h",
}

#: What is announced is longer than the bound.
TOO_LONG = {
    "2**31 - 1": short(2**31 - 1),
    "2**24 + 1": short((1 << 24) + 1),
    "text": b"GET / HTTP/1.1\r\n",
    "2**31": long(2**31),
    "2**63 - 1": long(2**63 - 1),
    "2**63": long(2**63),
    "2**64 - 1": long(2**64 - 1),
    "2**64 - 12": long(2**64 - 12),
}

HOSTILE = {**{f"negative {name}": wire for name, wire in MALFORMED.items() if len(wire) == 4}, **TOO_LONG}

#: Everything that receives a message that is there, and raises where there is none.
RECEIVE: dict[str, Callable[[StreamSocket], Any]] = {
    "receive_message": lambda stream: stream.receive_message(PATIENCE),
    "receive_message(0)": lambda stream: stream.receive_message(0),
    "receive_messages": lambda stream: stream.receive_messages(),
    "receive_messages(1)": lambda stream: stream.receive_messages(1),
    "messages": lambda stream: list(stream.messages(PATIENCE)),
}

MIB = 1 << 20


def fill_in(remote: StreamSocket, stream: StreamSocket, data: bytes) -> None:
    """The bytes come, in a message's stream."""
    remote.write_all(data, PATIENCE)
    await_event(stream, AVAILABLE_OR_END)


@pytest.mark.parametrize("receive", RECEIVE.values(), ids=RECEIVE)
@pytest.mark.parametrize("wire", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_message_is_an_error_and_stays(
    transport: Transport, wire: bytes, receive: Callable[[StreamSocket], Any]
) -> None:
    stream, remote = transport.pair()
    fill_in(remote, stream, framed(b"before") + wire)
    assert stream.receive_message(PATIENCE) == b"before"
    await_event(stream, AVAILABLE)
    for _ in range(2):
        with pytest.raises(
            bbipc.MessageTooLargeError, match="announced" if wire in TOO_LONG.values() else "no messages"
        ):
            receive(stream)
    assert stream.message_available()
    # Reading has ended, writing has not.
    stream.send_message(b"why?", PATIENCE)
    assert remote.receive_message(PATIENCE) == b"why?"
    assert stream.read_exactly(len(wire), PATIENCE) == wire
    remote.send_message(b"sorry", PATIENCE)
    assert stream.receive_message(PATIENCE) == b"sorry"


@pytest.mark.parametrize("wire", HOSTILE.values(), ids=HOSTILE)
def test_a_poller_reports_it_with_no_messages(transport: Transport, backend: str, wire: bytes) -> None:
    stream, remote = transport.pair()
    with bbipc.make_poller(backend) as poller:
        poller.monitor_socket(stream, AVAILABLE_OR_END)
        remote.write_all(framed(b"one", b"two"), PATIENCE)
        received: list[bytes] = []
        while len(received) < 2:
            ((_, _, messages),) = poller.receive_messages(PATIENCE)
            received += messages
        remote.write_all(wire, PATIENCE)
        for _ in range(2):
            assert poller.receive_messages(PATIENCE) == [(stream, AVAILABLE, [])]
        assert poller.wait_for_events(PATIENCE) == [(stream, AVAILABLE)]
    assert received == [b"one", b"two"]


def resident() -> int:
    gc.collect()
    return systems.resident_bytes(os.getpid())


@pytest.mark.skipif(not LINUX, reason="asks /proc")
@pytest.mark.parametrize("way", ["receive_message", "poll_socket", "poller"])
@pytest.mark.parametrize("header", [short(2**31 - 1), short(1 << 30), long(2**40), long(2**63 - 1), long(2**64 - 1)])
def test_what_is_announced_takes_no_memory(transport: Transport, header: bytes, way: str) -> None:
    pairs = [transport.pair() for _ in range(20)]
    with bbipc.make_poller() as poller:
        for stream, _ in pairs:
            stream.max_message_size = 2**63 - 1
            poller.monitor_socket(stream, AVAILABLE)
        before = resident()
        for stream, remote in pairs:
            remote.write_all(header + b"begins", PATIENCE)
            await_event(stream, Events.DATA_AVAILABLE)
            if way == "poll_socket":
                bbipc.poll_socket(stream, AVAILABLE, 0)
            elif way == "receive_message":
                with pytest.raises((bbipc.TimeoutError, bbipc.MessageTooLargeError)):
                    stream.receive_message(0)
        if way == "poller":
            poller.receive_messages(0)
        assert resident() - before < MIB


@pytest.mark.skipif(not LINUX, reason="asks /proc")
def test_memory_follows_what_has_come(transport: Transport) -> None:
    stream, remote = transport.pair()
    stream.max_message_size = 1 << 40
    piece = bytes(range(250)) * 200
    before = resident()
    remote.write_all(long(1 << 39), PATIENCE)
    for number in range(1, 401):
        remote.write_all(piece, PATIENCE)
        with pytest.raises(bbipc.TimeoutError):
            stream.receive_message(0)
        if number % 100 == 0:
            # It doubles, and moves.
            assert resident() - before < 3 * number * len(piece) + MIB
    assert stream.read_exactly(12 + 400 * len(piece), PATIENCE) == long(1 << 39) + 400 * piece
    assert resident() - before < MIB + 400 * len(piece)


# ---- The bound ----


def test_the_bound_is_the_largest_size_either_way(transport: Transport) -> None:
    stream, remote = transport.pair()
    assert stream.max_message_size == 1 << 24
    stream.max_message_size = remote.max_message_size = 10
    remote.send_message(b"0123456789", PATIENCE)
    assert stream.receive_message(PATIENCE) == b"0123456789"
    for send in (remote.send_message, lambda data: remote.send_messages([b"", data, b""])):
        with pytest.raises(bbipc.MessageTooLargeError, match=r"11 bytes .* 10; nothing has been sent"):
            send(b"0123456789a")
    remote.max_message_size = 11
    remote.send_message(b"0123456789a", PATIENCE)
    for _ in range(2):
        with pytest.raises(bbipc.MessageTooLargeError, match="11 bytes"):
            stream.receive_message(PATIENCE)
    stream.max_message_size = 11
    assert stream.receive_message(PATIENCE) == b"0123456789a"
    assert not stream.data_available()


def test_a_bound_that_is_raised_wakes_nobody_and_one_that_falls_tells(
    transport: Transport, poller: bbipc.Poller
) -> None:
    """What was too large is incomplete with a higher bound, and what is incomplete is too large with a lower one."""
    stream, remote = transport.pair()
    poller.monitor_socket(stream, AVAILABLE)
    fill_in(remote, stream, short(1 << 25) + b"begins")
    assert poller.wait_for_events(PATIENCE) == [(stream, AVAILABLE)]
    stream.max_message_size = 1 << 25
    assert poller.wait_for_events(0.01) == []
    assert not stream.message_available()
    stream.max_message_size = 1 << 24
    assert poller.wait_for_events(PATIENCE) == [(stream, AVAILABLE)]
    with pytest.raises(bbipc.MessageTooLargeError, match=str(1 << 25)):
        stream.receive_message(0)


@pytest.mark.parametrize("bound", [0, 1, 2**31, 2**62, 2**63 - 1])
def test_bounds(transport: Transport, bound: int) -> None:
    stream, remote = transport.pair()
    stream.max_message_size = bound
    assert stream.max_message_size == bound
    stream.send_message(b"", PATIENCE)
    assert remote.receive_message(PATIENCE) == b""


@pytest.mark.parametrize("bound", [-1, 2**63, 2**64, -(2**70)])
def test_no_bounds(transport: Transport, bound: int) -> None:
    stream, _ = transport.pair()
    with pytest.raises(ValueError, match="max_message_size must be 0 to"):
        stream.max_message_size = bound
    assert stream.max_message_size == 1 << 24


@pytest.mark.parametrize("bound", [None, "1", 1.5, b"1"])
def test_bounds_of_another_type(transport: Transport, bound: Any) -> None:
    stream, _ = transport.pair()
    with pytest.raises(TypeError):
        stream.max_message_size = bound


# ---- The end ----

WHOLE = framed(b"whole")
CUT = {
    "in the header": b"\0\0",
    "behind the header": short(3),
    "in the body": short(3) + b"ab",
    "in the long header": long(3)[:9],
    "behind the long header": long(3),
    "in a large body": short(LOCAL_ROOM // 2) + pattern(0, LOCAL_ROOM // 2 - 1),
}


@pytest.mark.parametrize("receive", RECEIVE.values(), ids=RECEIVE)
@pytest.mark.parametrize("rest", CUT.values(), ids=CUT)
def test_the_end_in_the_middle_of_a_message(
    transport: Transport, rest: bytes, receive: Callable[[StreamSocket], Any]
) -> None:
    stream, remote = transport.pair()
    remote.write_all(WHOLE + rest, PATIENCE)
    remote.close()
    assert stream.receive_message(PATIENCE) == b"whole"
    assert bbipc.poll_socket(stream, AVAILABLE_OR_END, PATIENCE) == AVAILABLE
    with pytest.raises(bbipc.EndOfStreamError, match=f"{len(rest)} bytes had come") as raised:
        receive(stream)
    assert raised.value.partial == rest
    assert raised.value.__cause__ is None
    # They have been read by that.
    assert bbipc.poll_socket(stream, AVAILABLE_OR_END, PATIENCE) == Events.END_OF_DATA
    with pytest.raises(bbipc.EndOfStreamError) as again:
        stream.receive_message(PATIENCE)
    assert again.value.partial == b""
    assert stream.receive_messages() == []
    assert list(stream.messages()) == []


@pytest.mark.parametrize("rest", CUT.values(), ids=CUT)
def test_a_poller_reports_the_end_in_the_middle_with_no_messages(
    transport: Transport, poller: bbipc.Poller, rest: bytes
) -> None:
    stream, remote = transport.pair()
    poller.monitor_socket(stream, AVAILABLE_OR_END)
    remote.write_all(WHOLE + rest, PATIENCE)
    assert poller.receive_messages(PATIENCE) == [(stream, AVAILABLE, [b"whole"])]
    assert poller.receive_messages(0.01) == []
    remote.close()
    for _ in range(2):
        assert poller.receive_messages(PATIENCE) == [(stream, AVAILABLE, [])]
    with pytest.raises(bbipc.EndOfStreamError) as raised:
        stream.receive_message(0)
    assert raised.value.partial == rest
    assert poller.receive_messages(PATIENCE) == [(stream, Events.END_OF_DATA, [])]


def test_the_end_between_two_messages(transport: Transport, poller: bbipc.Poller) -> None:
    stream, remote = transport.pair()
    poller.monitor_socket(stream, AVAILABLE_OR_END)
    remote.send_messages([b"one", b"", b"three"], PATIENCE)
    remote.close()
    received: list[bytes] = []
    while len(received) < 3:
        ((_, happened, messages),) = poller.receive_messages(PATIENCE)
        assert happened.message_available
        received += messages
    assert received == [b"one", b"", b"three"]
    assert poller.receive_messages(PATIENCE) == [(stream, Events.END_OF_DATA, [])]
    assert not stream.message_available()
    assert stream.end_of_data()
    with pytest.raises(bbipc.EndOfStreamError) as raised:
        stream.receive_message()
    assert raised.value.partial == b""
    assert raised.value.__cause__ is None
    assert list(stream.messages()) == []


def test_an_answer_behind_the_end(transport: Transport) -> None:
    """The remote end has finished sending, and still receives."""
    needs_half_close(transport)
    stream, remote = transport.pair()
    remote.send_message(b"question", PATIENCE)
    remote.finish_writing()
    assert list(stream.messages(PATIENCE)) == [b"question"]
    stream.send_message(b"answer", PATIENCE)
    assert remote.receive_message(PATIENCE) == b"answer"


# ---- Resets, and peers that are killed ----


@pytest.mark.parametrize("rest", [b"", b"\0\0", short(5) + b"abc"])
@pytest.mark.parametrize("name", ["receive_message", "receive_messages", "messages"])
def test_a_reset(transport: Transport, rest: bytes, name: str) -> None:
    needs_reset(transport)
    if RESETS_DISCARD:
        pytest.skip("what has come is gone")
    if not half_closes(transport):
        pytest.skip("a named pipe tells of an end, and of no reset unless a write was lost")
    stream, peer = transport.python_peer()
    peer.sendall(WHOLE + rest)
    await_event(stream, Events.DATA_AVAILABLE)
    reset(peer, stream)
    await_event(stream, Events.CONNECTION_SEVERED)
    assert stream.receive_message(PATIENCE) == b"whole"
    with pytest.raises(bbipc.BbipcError) as raised:
        RECEIVE[name](stream)
    error = raised.value
    if isinstance(error, bbipc.EndOfStreamError):
        assert error.partial == rest
        error = error.__cause__  # type: ignore[assignment]
    assert isinstance(error, bbipc.SocketError)
    assert error.errno == errno.ECONNRESET
    with pytest.raises(bbipc.BbipcError):
        stream.send_message(b"x", PATIENCE)


#: Sends or receives messages for ever.
PEER = """
import sys
sys.path.insert(0, sys.argv[1])
from peer import accept, connect
role, address, size = sys.argv[2:]
with (accept if role == "listen" else connect)(address) as stream:
    stream.max_message_size = 1 << 30
    number = 0
    while True:
        number += 1
        stream.send_message(number.to_bytes(8, "big") * (int(size) // 8))
"""


@pytest.mark.parametrize("size", [8, 1000, 400_000])
@pytest.mark.parametrize("role", ["listen", "connect"])
def test_a_sender_that_is_killed(transport: Transport, processes: Processes, role: str, size: int) -> None:
    """Whole messages only, in their order, and the end: in the middle of one or between two."""
    if WINE and transport.name == "tcp":
        pytest.skip("Wine keeps the connection of some processes that are killed while they send")
    stream, process = with_peer(transport, processes, role, PEER, size)
    received = 0
    ended = False
    while not ended:
        try:
            for data in stream.messages(PATIENCE):
                received += 1
                assert data == received.to_bytes(8, "big") * (size // 8)
                if received == 50:
                    process.kill()
        except bbipc.EndOfStreamError as error:
            partial, cause = error.partial, error.__cause__
            assert cause is None or (isinstance(cause, bbipc.SocketError) and cause.errno == errno.ECONNRESET)
            assert len(partial) < 4 + size
            expected = framed((received + 1).to_bytes(8, "big") * (size // 8))
            assert expected.startswith(partial)
        ended = True
    assert received >= 50


DEAF = """
import sys
sys.path.insert(0, sys.argv[1])
from peer import accept, connect
role, address, size = sys.argv[2:]
with (accept if role == "listen" else connect)(address) as stream:
    print(len(stream.receive_message()), flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("role", ["listen", "connect"])
def test_a_receiver_that_is_killed(transport: Transport, processes: Processes, role: str) -> None:
    stream, process = with_peer(transport, processes, role, DEAF, 0)
    stream.send_message(b"first", PATIENCE)
    assert process.stdout is not None
    assert process.stdout.readline() == "5\n"
    with pytest.raises(bbipc.TimeoutError) as late:
        stream.send_message(bytes(1 << 24), 0.01)
    assert late.value.accepted == 1
    process.kill()
    with pytest.raises(bbipc.EndOfStreamError) as raised:
        stream.drain(PATIENCE)
    assert isinstance(raised.value.__cause__, bbipc.SocketError)
    with pytest.raises(bbipc.EndOfStreamError) as raised:
        stream.send_message(b"next", PATIENCE)
    assert isinstance(raised.value.__cause__, bbipc.SocketError)
    with warned_of_the_rest(stream):
        stream.close()


def with_peer(
    transport: Transport, processes: Processes, role: str, program: str, size: int
) -> tuple[StreamSocket, subprocess.Popen[str]]:
    """A stream to a program that listens or connects, and the program."""
    server = transport.make_server()
    if role == "connect":
        address = server.address
        process = processes.start([sys.executable, "-c", program, str(SUPPORT), role, address, str(size)])
        return transport.accept(server), process
    server.close()
    address = "tcp:127.0.0.1:0" if transport.name == "tcp" else f"local:{transport.free_pathname()}"
    process = processes.start([sys.executable, "-c", program, str(SUPPORT), role, address, str(size)])
    assert process.stdout is not None
    namespace, _, rest = process.stdout.readline().rstrip("\n").partition(":")
    stream: StreamSocket
    if namespace == "local":
        stream = bbipc.connect_to_local_server(rest)
    else:
        host, _, port = rest.rpartition(":")
        stream = bbipc.connect_to_ipv4_tcp_server(host, int(port))
    return transport.keep(stream), process


# ---- read_until ----


def test_read_until(transport: Transport) -> None:
    stream, remote = transport.pair()
    remote.write_all(b"one\ntwo\r\n\r\nthree", PATIENCE)
    assert stream.read_until(b"\n", PATIENCE) == b"one\n"
    assert stream.read_until(b"\r\n\r\n", PATIENCE) == b"two\r\n\r\n"
    with pytest.raises(bbipc.TimeoutError):
        stream.read_until(b"\n", 0.01)
    assert stream.read(2) == b"th"
    remote.write_all(b"\n", PATIENCE)
    assert stream.read_until(bytearray(b"\n"), PATIENCE) == b"ree\n"
    remote.write_all(b"last", PATIENCE)
    remote.close()
    with pytest.raises(bbipc.EndOfStreamError) as raised:
        stream.read_until(b"\n", PATIENCE)
    assert raised.value.partial == b"last"
    with pytest.raises(bbipc.EndOfStreamError) as raised:
        stream.read_until(b"\n", PATIENCE)
    assert raised.value.partial == b""


def test_read_until_its_limit(transport: Transport) -> None:
    stream, remote = transport.pair()
    remote.write_all(b"0123456789\n", PATIENCE)
    for _ in range(2):
        with pytest.raises(bbipc.MessageTooLargeError, match="not among the first 10 bytes"):
            stream.read_until(b"\n", PATIENCE, max_bytes=10)
    with pytest.raises(bbipc.MessageTooLargeError):
        stream.read_until(b"9\n", PATIENCE, 10)
    assert stream.read_until(b"89", PATIENCE, 10) == b"0123456789"
    assert stream.read_until(b"\n", PATIENCE, 1) == b"\n"
    remote.write_all(pattern(0, LOCAL_ROOM // 2).replace(b"\xff", b"\xfe") + b"\xff", PATIENCE)
    with pytest.raises(bbipc.MessageTooLargeError, match="not among the first"):
        stream.read_until(b"\xff", PATIENCE, LOCAL_ROOM // 2)
    assert len(stream.read_until(b"\xff", PATIENCE, LOCAL_ROOM)) == LOCAL_ROOM // 2 + 1


@pytest.mark.parametrize(
    ("delimiter", "max_bytes", "error"),
    [
        (b"", 10, ValueError),
        (b"abc", 2, ValueError),
        (b"a", 0, ValueError),
        (b"a", -1, ValueError),
        ("a", 10, TypeError),
        (None, 10, TypeError),
        (b"a", None, TypeError),
        (b"a", 1.5, TypeError),
    ],
)
def test_read_until_refuses(transport: Transport, delimiter: Any, max_bytes: Any, error: type[Exception]) -> None:
    stream, remote = transport.pair()
    remote.write_all(b"abc", PATIENCE)
    with pytest.raises(error):
        stream.read_until(delimiter, 0, max_bytes)
    assert stream.read_exactly(3, PATIENCE) == b"abc"


def test_read_until_in_all_cuts_of_two(transport: Transport) -> None:
    stream, remote = transport.pair()
    wire = b"ab-ba--b---\n" + b"--ab"
    for cut in range(1, len(wire)):
        remote.write_all(wire[:cut], PATIENCE)
        first = b""
        try:
            first = stream.read_until(b"---\n", 0)
        except bbipc.TimeoutError:
            assert cut < 12
        remote.write_all(wire[cut:], PATIENCE)
        assert (first or stream.read_until(b"---\n", PATIENCE)) == wire[:12]
        assert stream.read_exactly(4, PATIENCE) == wire[12:]
