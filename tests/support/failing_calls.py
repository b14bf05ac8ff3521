"""What bbipc does while system calls fail: `python failing_calls.py SOCKET`, a program of test_failing_system_calls.py.

It imports bbipc once, and forks a child for each line that it reads, which names a scenario. The child tells the test
at the Unix socket that it is there, waits until strace is attached to it, runs the scenario, and sends what was wrong.
It talks to the test by sendmsg(2) and recvmsg(2), and the scenario begins and ends with getppid(2): calls that the
library does not make.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import gc
import json
import os
import select
import signal
import socket
import stat
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import bbipc
from bbipc import Events, StreamServer, StreamSocket
from bbipc._native import declarations

#: Seconds. How long a wait lasts that is in vain after a failed call.
SHORT = 0.15

#: Seconds. More than all waits of a scenario together; what takes longer hangs.
LONG = 10.0

#: Seconds of processor time that a scenario takes at the most, and that a wait which spins exceeds.
BUSY = 0.1

#: Errors that end the connection, or that keep it from being made, by the call; and a close(2) that is not made.
_ENDS = {
    "recvfrom": {"ECONNRESET", "ETIMEDOUT"},
    "sendto": {"ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH", "EPIPE"},
    "close": {"EIO", "EINTR", "ENOSPC"},
}


class Case:
    """One run of a scenario, in which perhaps a system call fails: what was raised, and what was wrong."""

    def __init__(self, transport: str, call: str, error: str, number: str) -> None:
        self.transport = transport
        #: Whether every call of the name fails, and so what it is for can't be had.
        self.always = number.endswith("+")
        self.call, self.error = call, error
        #: Whether the failure may be one of the connection, after which nothing is certain of it.
        # A connect that is refused for its getsockname(2) leaves the server a client that has gone.
        self.ends = call in ("connect", "getsockname") or error in _ENDS.get(call, ())
        self.raised: list[str] = []
        self.wrong: list[str] = []
        self.warned: list[str] = []
        #: What the scenario does when all is closed.
        self.afterwards: list[Callable[[], None]] = []
        self._made: list[Any] = []

    def keep(self, made: Any) -> Any:
        self._made.append(made)
        return made

    def close_all(self) -> None:
        while self._made:
            one = self._made.pop()
            self.attempt(f"close of {type(one).__name__}", one.close, 1)
            if not one.closed:
                self.wrong.append(f"{one!r} is open after close()")

    def attempt(self, what: str, call: Callable[[], Any], tries: int = 3) -> Any:
        """What the call returns, if need be the second or third time. None if it fails each time."""
        for _ in range(tries):
            done, result = self._once(what, call)
            if done:
                return result
        return None

    def _once(self, what: str, call: Callable[[], Any]) -> tuple[bool, Any]:
        try:
            return True, call()
        except (bbipc.BbipcError, MemoryError) as error:
            self._note(what, error)
            return False, None
        except Exception as error:
            self.wrong.append(f"{what} raises {error!r}: {''.join(traceback.format_tb(error.__traceback__)[-2:])}")
            return True, None

    def _note(self, what: str, error: Exception) -> None:
        number = getattr(error, "errno", None)
        code = errno.errorcode.get(number or 0, "ENOMEM" if isinstance(error, MemoryError) else "none")
        self.raised.append(f"{code}: {what}: {type(error).__name__} {str(error)[:100]}")
        if isinstance(error, OSError) and number is None and not isinstance(error, (TimeoutError, bbipc.TimeoutError)):
            self.wrong.append(f"{what} raises {error!r} without an errno")

    def succeeds(self, what: str, call: Callable[[], Any]) -> bool:
        return self.attempt(what, lambda: (call(), True)) is not None

    def expect(self, what: str, call: Callable[[], Any], *right: Any) -> Any:
        """The right answer, or an error: what is not known is not stated."""
        answer = self.attempt(what, call)
        if answer is not None and answer not in right and not self.ends:
            self.wrong.append(f"{what} answers {answer!r}, right is {' or '.join(map(repr, right))}")
        return answer

    def wait(self, what: str, call: Callable[[], Any], *right: Any) -> Any:
        """The same of a wait that has a timeout, and must not use the processor meanwhile."""
        began = time.thread_time()
        result = self.expect(what, call, *right)
        if time.thread_time() - began > BUSY:
            self.wrong.append(f"{what} uses a processor for {time.thread_time() - began:.2f} s")
        return result

    # ---- Connections ----

    def server(self, pathname: str = "server") -> StreamServer | None:
        if self.transport == "tcp":
            made = self.attempt("listen", lambda: bbipc.make_ipv4_tcp_server("127.0.0.1", 0, reuse_address=True))
        else:
            made = self.attempt("listen", lambda: bbipc.make_local_server(pathname))
        return self.keep(made) if made is not None else None

    def address(self, server: StreamServer) -> Any:
        if isinstance(server, bbipc.Ipv4TcpServer):
            return self.attempt("port", lambda: server.port)
        return server.local_pathname

    def connect(self, address: Any) -> StreamSocket | None:
        if self.transport == "tcp":
            made = self.attempt("connect", lambda: bbipc.connect_to_ipv4_tcp_server("127.0.0.1", address))
        else:
            made = self.attempt("connect", lambda: bbipc.connect_to_local_server(address))
        return self.keep(made) if made is not None else None


def pair(case: Case) -> tuple[StreamSocket, StreamSocket, StreamServer]:
    """A connection, made before anything fails, and without a wait of the library's."""
    server = case.server("pair")
    assert server is not None
    ours = case.connect(case.address(server))
    assert ours is not None
    give_up_at = time.monotonic() + LONG
    while True:
        with contextlib.suppress(bbipc.NoConnectionAvailableError):
            theirs = case.keep(server.accept_connection())
            break
        assert time.monotonic() < give_up_at
    while not ours.determined():
        assert time.monotonic() < give_up_at
    return ours, theirs, server


# ---- Scenarios: what is made before, and what runs while calls fail ----


def connecting(case: Case) -> Callable[[], None]:
    """A server, its clients, and what can be asked of them."""

    def run() -> None:
        server = case.server()
        if server is None:
            return
        case.expect("connection_available", server.connection_available, False)
        address = case.address(server)
        if address is None:
            return
        ours = case.connect(address)
        if ours is None:
            return
        case.wait(
            "poll_socket(server)", lambda: bool(bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, SHORT)), True
        )
        case.expect("connection_available", server.connection_available, True)
        case.wait("poll_socket(client)", lambda: bool(bbipc.poll_socket(ours, Events.DETERMINED, SHORT)), True)
        case.expect("determined", ours.determined, True)
        case.expect("connection_failed", ours.connection_failed, False)
        case.expect("connection_succeeded", ours.connection_succeeded, True)
        theirs = case.attempt("accept", server.accept_connection)
        if theirs is None:
            if not case.ends and not case.always:
                case.wrong.append("a client that waits is never accepted")
            return
        case.keep(theirs)
        case.attempt("repr", lambda: repr((server, ours, theirs)))
        if case.transport == "tcp":
            case.attempt("local_port", lambda: (ours.local_port, theirs.remote_port))
            _connect_from(case, address)
        case.expect("ready_to_write", ours.ready_to_write, True)
        case.expect("data_available", theirs.data_available, False)
        case.attempt("close", theirs.close)
        case.wait("poll_socket(ends)", lambda: bool(bbipc.poll_socket(ours, Events.END_OF_DATA, SHORT)), True)

    return run


def _connect_from(case: Case, port: int) -> None:
    def connect() -> StreamSocket:
        return bbipc.connect_to_ipv4_tcp_server("127.0.0.1", port, local_host_address="127.0.0.1")

    made = case.attempt("connect from an address", connect)
    if made is not None:
        case.keep(made)
        case.wait("poll_socket", lambda: bool(bbipc.poll_socket(made, Events.DETERMINED, SHORT)), True)


def streams(case: Case) -> Callable[[], None]:
    """Bytes there and back, in every way to write and read; and the ends."""
    ours, theirs, _ = pair(case)

    def run() -> None:
        case.expect("data_available", theirs.data_available, False)
        written = case.attempt("write", lambda: ours.write(b"hello") or ours.write(b"hello"))
        if not written:
            return
        case.expect("data_available", theirs.data_available, True)
        case.attempt("connection_error", ours.connection_error)
        case.wait("read_exactly", lambda: theirs.read_exactly(5, SHORT), b"hello")
        case.attempt("write_all", lambda: theirs.write_all(b"abc", SHORT), 1)
        case.wait("end_of_data", ours.end_of_data, False)
        case.expect("read", lambda: ours.read(), b"abc", b"")
        case.attempt("write_many", lambda: bbipc.write_many([(ours, b"12"), (theirs, b"34"), (ours, b"5")]), 1)
        case.attempt("read_exactly", lambda: ours.read_exactly(2, SHORT), 1)
        case.attempt("read_into", lambda: theirs.read_into(bytearray(10)))
        if not case.succeeds("finish_writing", ours.finish_writing):
            return
        case.attempt("read", theirs.read)
        case.expect("remote_disconnected", theirs.remote_disconnected, True)
        case.expect("connection_severed", theirs.connection_severed, False)
        # Even where nothing could be read, the end is found.
        case.attempt("read", theirs.read)
        case.expect("end_of_data", theirs.end_of_data, True)
        case.expect("connection_error", lambda: theirs.connection_error() is None, True)

    return run


def unread_end(case: Case) -> Callable[[], None]:
    """The remote end has finished, and its bytes are still unread."""
    ours, theirs, _ = pair(case)
    ours.write(b"last words")
    ours.finish_writing()

    def run() -> None:
        case.expect("end_of_data", theirs.end_of_data, False)
        case.expect("data_available", theirs.data_available, True)
        case.wait("poll_socket", lambda: bool(bbipc.poll_socket(theirs, Events.DATA_AVAILABLE, SHORT)), True)
        case.wait("poll_socket(end)", lambda: bbipc.poll_socket(theirs, Events.END_OF_DATA, 0.02), Events())
        case.wait("poll_sockets", lambda: bbipc.poll_sockets([theirs], Events.END_OF_DATA, 0.02), [Events()])
        case.expect("read", theirs.read, b"last words", *([b""] if case.error == "EAGAIN" else ()))
        case.attempt("read", theirs.read)
        case.attempt("read", theirs.read)
        case.wait("poll_socket(end)", lambda: bool(bbipc.poll_socket(theirs, Events.END_OF_DATA, SHORT)), True)

    return run


def severed(case: Case) -> Callable[[], None]:
    """The remote end closes with bytes unread, which resets the connection."""
    ours, theirs, _ = pair(case)
    ours.write(b"unread")
    theirs.close()

    def run() -> None:
        case.expect("remote_disconnected", ours.remote_disconnected, True)
        case.expect("connection_severed", ours.connection_severed, True)
        case.expect("write_space", ours.write_space, False)
        case.attempt("write", lambda: ours.write(b"x"), 1)
        case.attempt("read", ours.read, 1)
        case.attempt("read_exactly", lambda: ours.read_exactly(1, SHORT), 1)
        case.attempt("finish_writing", ours.finish_writing, 1)
        case.attempt("connection_error", ours.connection_error)
        case.expect("end_of_data", ours.end_of_data, True)

    return run


def refused(case: Case) -> Callable[[], None]:
    """Nobody listens."""
    server = case.server("gone")
    assert server is not None
    address = case.address(server)
    server.close()

    def run() -> None:
        ours = case.connect(address)
        if ours is None:
            return
        case.wait("poll_socket", lambda: bool(bbipc.poll_socket(ours, Events.DETERMINED, SHORT)), True)
        case.expect("connection_failed", ours.connection_failed, True)
        case.expect("connection_succeeded", ours.connection_succeeded, False)
        case.attempt("connection_error", ours.connection_error)
        case.attempt("write", lambda: ours.write(b"x"), 1)
        case.attempt("finish_writing", ours.finish_writing, 1)

    return run


def _collect(case: Case, poller: bbipc.Poller, stream: StreamSocket, size: int) -> bytes | None:
    """What the poller receives of a stream until there are ``size`` bytes. None if it can't wait."""
    collected = b""
    for _ in range(6):
        received = case.attempt("receive", lambda: poller.receive(SHORT))
        if received is None:
            return None
        for one, happened, data in received:
            if one is stream and happened.data_available and not data:
                # The read has failed, and the next one says why.
                data = case.attempt("read", stream.read)
                if data is None:
                    return None
            collected += data if one is stream else b""
        if len(collected) >= size:
            break
    return collected


def pollers(case: Case, backend: str) -> Callable[[], None]:
    """A poller, from its making to its closing."""
    ours, theirs, server = pair(case)

    def monitor(poller: bbipc.Poller, socket: Any, events: Events) -> None:
        try:
            poller.monitor_socket(socket, events)
        except bbipc.AlreadyMonitoredError:
            case.wrong.append("a socket stays monitored that monitor_socket() refused")

    def run() -> None:
        poller = case.attempt("make_poller", lambda: bbipc.make_poller(backend))
        if poller is None:
            return
        case.keep(poller)
        case.attempt("monitor", lambda: monitor(poller, theirs, Events.DATA_AVAILABLE | Events.REMOTE_DISCONNECTED))
        case.attempt("monitor", lambda: monitor(poller, server, Events.CONNECTION_AVAILABLE))
        case.attempt("monitor", lambda: monitor(poller, ours, Events.READY_TO_WRITE))
        case.wait("wait", lambda: poller.wait_for_events(0), [(ours, Events.READY_TO_WRITE)])
        case.attempt("set", lambda: poller.set_monitored_events(ours, Events()))
        case.attempt("set", lambda: poller.set_monitored_events(ours, Events.DATA_AVAILABLE))
        case.wait("wait", lambda: poller.wait_for_events(0.01), [])
        if not case.succeeds("write", lambda: ours.write_all(b"hello", SHORT)):
            return
        if case.wait("receive", lambda: _collect(case, poller, theirs, 5), b"hello") is None:
            return
        case.attempt("wake", poller.wake)
        began = time.monotonic()
        case.wait("wait after wake", lambda: poller.wait_for_events(2.0), [])
        if time.monotonic() - began > 1.5:
            case.wrong.append("the wake-up is lost")
        case.attempt("unmonitor", lambda: poller.unmonitor_socket(server))
        if not case.succeeds("finish_writing", ours.finish_writing):
            return
        case.wait("wait for the end", lambda: poller.wait_for_events(SHORT), [(theirs, Events.REMOTE_DISCONNECTED)])
        case.attempt("close of a socket", theirs.close)
        case.expect("monitored_sockets", poller.monitored_sockets, [ours])

    return run


def shown(case: Case) -> Callable[[], None]:
    """A poller's descriptor, in a loop that is not the library's. It tells of what holds, if it is told at all."""
    ours, theirs, _ = pair(case)

    def readable(timeout: float = 0) -> bool:
        return bool(select.select([number], [], [], timeout)[0])

    poller = case.attempt("make_poller", bbipc.make_poller)
    case.keep(poller)
    number = -1

    def run() -> None:
        nonlocal number
        number = case.attempt("fileno", poller.fileno)
        if number is None:
            # The poller is as good as before.
            case.attempt("monitor", lambda: poller.monitor_socket(ours, Events.DETERMINED))
            case.wait("wait", lambda: poller.wait_for_events(0), [(ours, Events.DETERMINED)])
            return
        case.attempt("wake", poller.wake)
        if not readable():
            case.wrong.append("the descriptor does not tell of a wake-up")
        case.wait("wait after wake", lambda: poller.wait_for_events(0), [])
        case.attempt("monitor", lambda: poller.monitor_socket(theirs, Events.END_OF_DATA), 1)
        if not case.succeeds("write", lambda: ours.write_all(b"!", SHORT)):
            return
        ours.close()
        case.wait("wait", lambda: poller.wait_for_events(0), [])
        if case.expect("read", lambda: theirs.read_exactly(1, SHORT), b"!") is None:
            return
        if theirs not in poller.monitored_sockets() or case.ends:
            return
        # At once, or by the alarm, if the look that follows the read has failed.
        if not readable(SHORT):
            case.wrong.append("the descriptor does not tell of the end")
        case.wait("wait for the end", lambda: poller.wait_for_events(0), [(theirs, Events.END_OF_DATA)])

    return run


def poll_sockets(case: Case) -> Callable[[], None]:
    """poll_socket and poll_sockets, of one socket and of more than fit without memory."""
    ours, theirs, server = pair(case)
    listed = [server, ours, theirs] * 8
    asked = [Events.CONNECTION_AVAILABLE, Events.DATA_AVAILABLE, Events.DATA_AVAILABLE] * 8
    nothing = [Events()] * 24

    def run() -> None:
        case.wait("poll_socket now", lambda: bbipc.poll_socket(ours, Events.READY_TO_WRITE, 0), Events.READY_TO_WRITE)
        case.wait("poll_socket", lambda: bbipc.poll_socket(ours, Events.DATA_AVAILABLE, 0.01), Events())
        case.wait("poll_sockets, 24", lambda: bbipc.poll_sockets(listed, asked, 0.01), nothing)
        if case.succeeds("write", lambda: ours.write_all(b"!", SHORT)):
            found = [Events(), Events(), Events.DATA_AVAILABLE] * 8
            case.wait("poll_sockets, 24", lambda: bbipc.poll_sockets(listed, asked, SHORT), found)
            case.wait("poll_sockets, 1", lambda: bbipc.poll_sockets([theirs], asked[2], 0), [asked[2]])
            case.wait("read_exactly", lambda: theirs.read_exactly(1, SHORT), b"!")
        case.attempt("read_exactly of nothing", lambda: theirs.read_exactly(1, 0.01), 1)

    return run


def _write_whole(stream: StreamSocket, data: bytes, failed: list[Exception]) -> None:
    done = 0
    while done < len(data) and not failed:
        done += _write_some(stream, data[done:], failed)


def _write_some(stream: StreamSocket, data: bytes, failed: list[Exception]) -> int:
    try:
        stream.write_all(data, 1.0)
    except bbipc.TimeoutError as error:
        return error.bytes_written
    except (bbipc.BbipcError, MemoryError) as error:
        # The error does not always tell how much was written: the other end finds less, and no wrong byte.
        failed.append(error)
        with contextlib.suppress(bbipc.BbipcError):
            stream.finish_writing()
    return len(data)


def bulk(case: Case) -> Callable[[], None]:
    """More bytes than buffers hold go through whole and in order, with waits on both sides."""
    ours, theirs, _ = pair(case)
    data = bytes(range(256)) * 3000
    asked = Events.DATA_AVAILABLE | Events.END_OF_DATA
    failed: list[Exception] = []
    # It is there before calls fail: that a thread can't be had is Python's own.
    writing = _Sleeper(lambda: _write_whole(ours, data, failed))
    case.afterwards.append(writing.close)

    def run() -> None:
        writing.begin()
        received = b""
        while len(received) < len(data):
            piece = case.attempt("read", theirs.read)
            if piece is None:
                return
            received += piece
            if not piece:
                case.attempt("poll_socket", lambda: bbipc.poll_socket(theirs, asked, SHORT))
                if case.attempt("end_of_data", theirs.end_of_data) or failed:
                    break
        if not data.startswith(received):
            case.wrong.append("bytes are mixed up")
        if len(received) < len(data) and not failed and not case.raised and not case.ends:
            case.wrong.append(f"{len(received)} of {len(data)} bytes come, and nobody hears why")

    return run


#: Of all sizes, the last of which no buffer takes.
_MESSAGES = [b"hello", b"", *(bytes([number]) * 1000 for number in range(9)), bytes(70_000), bytes(range(256)) * 20_000]


def _send(case: Case, stream: StreamSocket, sent: list[bytes]) -> None:
    """Sends the messages, none of which may be sent again once it was accepted, as far as the time goes."""
    while len(sent) < len(_MESSAGES):
        place = len(sent)
        # One alone, then several, then the large one alone.
        some = _MESSAGES[place : place + 1] if place in (0, len(_MESSAGES) - 1) else _MESSAGES[place:-1]
        try:
            stream.send_messages(some, SHORT / 3) if len(some) > 1 else stream.send_message(some[0], SHORT / 3)
            sent += some
        except (bbipc.BbipcError, MemoryError) as error:
            sent += some[: getattr(error, "accepted", 0)]
            if not isinstance(error, bbipc.TimeoutError):
                case._note("send", error)
            if len(sent) == place:
                return


def messages(case: Case, way: str) -> Callable[[], None]:
    """Messages with waits on both sides, and the rest of one: each comes once, and whole."""
    ours, theirs, _ = pair(case)
    poller = None if way == "streams" else case.keep(bbipc.make_poller(way))
    if poller is not None:
        poller.monitor_socket(theirs, Events.MESSAGE_AVAILABLE | Events.END_OF_DATA)
        poller.monitor_socket(ours, Events.MESSAGE_AVAILABLE)

    def receive() -> list[bytes]:
        if poller is not None:
            reports = poller.receive_messages(SHORT / 10)
            received = [data for one, _, listed in reports if one is theirs for data in listed]
            # Where it would raise, the list is empty.
            return received or (theirs.receive_messages(1) if reports else [])
        bbipc.poll_socket(ours, Events.MESSAGE_SPACE, 0)
        if bbipc.poll_socket(theirs, Events.MESSAGE_AVAILABLE | Events.END_OF_DATA, SHORT / 10).message_available:
            return [theirs.receive_message(SHORT)]
        return theirs.receive_messages()

    def run() -> None:
        case.expect("message_space", ours.message_space, True)
        case.expect("message_available", theirs.message_available, False)
        sent: list[bytes] = []
        received: list[bytes] = []
        _send(case, ours, sent)
        for _ in range(200):
            # After the end nothing comes. Here something does, for the connection only seemed to end.
            some = case.attempt("receive", receive, 1 if case.ends else 3)
            if some is None or (len(sent) == len(received) == len(_MESSAGES)):
                break
            received += some
            if not some and len(sent) < len(_MESSAGES):
                _send(case, ours, sent)
        if received != _MESSAGES[: len(received)]:
            case.wrong.append(f"other messages come: {[(len(one), one[:9]) for one in received]}")
        if len(received) < len(sent) and not case.ends and not case.always and not case.raised:
            case.wrong.append(f"{len(received)} of {len(sent)} messages come, and nobody hears why")
        if len(received) == len(_MESSAGES):
            case.expect("drain", lambda: ours.drain(SHORT) or True, True)
            if case.succeeds("finish_writing", ours.finish_writing):
                case.attempt("receive", theirs.receive_messages)
                case.expect("end_of_data", theirs.end_of_data, True)
                case.attempt("receive_message", lambda: theirs.receive_message(0), 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            case.attempt("close", ours.close)

    return run


def lines(case: Case) -> Callable[[], None]:
    """read_until and peeks, mixed with messages."""
    ours, theirs, _ = pair(case)

    def run() -> None:
        if not case.succeeds("write_all", lambda: ours.write_all(b"line\n\0\0\0\2okrest\n", SHORT)):
            return
        case.wait("read_until", lambda: theirs.read_until(b"\n", SHORT), b"line\n")
        case.wait("receive_message", lambda: theirs.receive_message(SHORT), b"ok")
        unread = (b"rest\n", *([b""] if case.error == "EAGAIN" else ()))
        case.expect("peek", lambda: theirs.read(100, peek=True), *unread)
        case.wait("read_exactly", lambda: theirs.read_exactly(2, SHORT), b"re")
        case.wait("read_until", lambda: theirs.read_until(b"\n", SHORT), b"st\n")
        case.attempt("read_until", lambda: theirs.read_until(b"\n", SHORT / 10), 1)

    return run


class _Sleeper(threading.Thread):
    """A thread that begins its work when it is told to; whether it then sleeps is asked by pread(2) alone."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._begin = threading.Event()
        self.start()
        self._calls = os.open(f"/proc/self/task/{self.native_id}/syscall", os.O_RDONLY)

    def run(self) -> None:
        self._begin.wait()
        self._work()

    def begin(self) -> None:
        self._begin.set()

    def until_it_waits(self) -> None:
        """Until it stays in a call that is not the lock's (futex), or has ended."""
        futex = self._call().split()[0]
        self.begin()
        before, looks = b"", 0
        give_up_at = time.monotonic() + LONG / 2
        while self.is_alive() and looks < 4 and time.monotonic() < give_up_at:
            now = self._call()
            stays = now == before and now.split()[0] not in (futex, b"running")
            before, looks = now, looks + 1 if stays else 0
            time.sleep(0.003)

    def _call(self) -> bytes:
        """The system call that it is in, with its arguments."""
        try:
            return os.pread(self._calls, 200, 0)
        except OSError:
            return b"ended"

    def close(self) -> None:
        """Of a thread that has nothing to wait for any more."""
        self._begin.set()
        self.join(LONG)
        assert not self.is_alive(), "a thread hangs"
        with contextlib.suppress(OSError):
            os.close(self._calls)


def threads(case: Case, wait: str) -> Callable[[], None]:
    """A thread waits; others write, wake it, and close what it waits for."""
    ours, theirs, _ = pair(case)
    made: list[bbipc.Poller] = []

    def waits() -> None:
        if wait == "poll_socket":
            case.attempt("poll_socket", lambda: bbipc.poll_socket(theirs, Events.DATA_AVAILABLE, 3.0), 2)
        elif made:
            case.attempt("wait", lambda: made[0].wait_for_events(3.0), 2)

    waiting = [_Sleeper(waits) for _ in range(2)]
    case.afterwards += [one.close for one in waiting]

    def run() -> None:
        if wait != "poll_socket":
            poller = case.attempt("make_poller", lambda: bbipc.make_poller(wait))
            if poller is None:
                return
            made.append(case.keep(poller))
            case.attempt("monitor", lambda: poller.monitor_socket(theirs, Events.DATA_AVAILABLE))
        for one, end in zip(waiting, (lambda: ours.write_all(b"!", SHORT), theirs.close)):
            one.until_it_waits()
            began = time.monotonic()
            if not case.succeeds("end of the wait", end):
                break
            one.join(LONG)
            took = time.monotonic() - began
            if one.is_alive() or (took > 2.0 and not case.raised and not case.ends):
                case.wrong.append(f"a wait goes on for {took:.1f} s after what ends it")
            case.attempt("read", theirs.read, 1)

    return run


def closing(case: Case) -> Callable[[], None]:
    """Everything is closed: sockets that a poller has, pollers that have sockets, and a server that has a client."""
    ours, theirs, server = pair(case)
    made = [case.keep(bbipc.make_poller(backend)) for backend in ("epoll", "poll") * 3]
    for poller in made:
        for one in (ours, theirs):
            poller.monitor_socket(one, Events.DATA_AVAILABLE)
    other = case.connect(case.address(server))
    assert other is not None
    return case.close_all


def forking(case: Case) -> Callable[[], None]:
    """A child uses what it inherits, closes its copies, and leaves its parent's alone."""
    ours, theirs, server = pair(case)
    poller = case.keep(bbipc.make_poller())
    poller.monitor_socket(theirs, Events.DATA_AVAILABLE)
    ours.write(b"!")
    reading, writing = os.pipe()
    os.set_blocking(reading, False)

    def close_pipe() -> None:
        for one in (reading, writing):
            with contextlib.suppress(OSError):
                os.close(one)

    case.afterwards.append(close_pipe)

    def child() -> None:
        case.wait("poll_socket", lambda: bbipc.poll_socket(theirs, Events.DATA_AVAILABLE, SHORT), Events.DATA_AVAILABLE)
        case.wait("poll_socket", lambda: bbipc.poll_socket(ours, Events.DATA_AVAILABLE, 0.01), Events())
        with contextlib.suppress(bbipc.WrongProcessError):
            poller.wait_for_events(0)
            case.wrong.append("a child uses its parent's poller")
        for one in (poller, theirs, ours, server):
            case.attempt("close", one.close, 1)

    def run() -> None:
        process_id = os.fork()
        if process_id == 0:
            try:
                child()
            except BaseException as error:
                case.wrong.append(repr(error))
            finally:
                os.writev(writing, [json.dumps([case.raised, case.wrong]).encode()])
                os._exit(0)
        # SIGCHLD is ignored, and so there is no status to wait for, but there is the end.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process_id, 0)
        room = bytearray(1 << 16)
        raised, wrong = json.loads(room[: os.readv(reading, [room])])
        case.raised += [f"{one}, in the child" for one in raised]
        case.wrong += [f"in the child: {one}" for one in wrong]
        found = [(theirs, Events.DATA_AVAILABLE)]
        case.wait("poller", lambda: poller.wait_for_events(SHORT), found)
        case.expect("read", theirs.read, b"!", *([b""] if case.error == "EAGAIN" else ()))

    return run


def replacing(case: Case) -> Callable[[], None]:
    """A server takes the place of a dead one, and keeps it; the next start is hindered by nothing that is left."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind("server")

    def start() -> bbipc.LocalServer:
        return bbipc.make_local_server("server", replace_dead=True, permissions=0o666)

    def start_another() -> str:
        try:
            start().close()
        except bbipc.ServerAlreadyRunningError:
            return "refused"
        return "started"

    def run() -> None:
        server = case.attempt("listen at server", start)
        if server is None:
            return
        case.keep(server)
        case.expect("another server", start_another, "refused")
        ours = case.connect("server")
        if ours is not None:
            case.expect("peer_credentials", lambda: ours.peer_credentials().process_id, os.getpid())

    def start_again() -> None:
        if case.always:
            return
        for _ in range(2):
            if not case.succeeds("listen at server", lambda: start().close()):
                case.wrong.append("what is left hinders the next start")
        left = [name for name in ("server", "server.lock", "server.new") if os.path.lexists(name)]
        if left and case.call not in ("statx", "unlink"):
            case.wrong.append(f"{left} are left")

    case.afterwards.append(start_again)
    return run


def elsewhere(case: Case) -> Callable[[], None]:
    """A stream that is given away and adopted again, a server that is adopted, and a pair."""
    ours, theirs, server = pair(case)

    def adopted(make: Callable[[int], Any], descriptor: int) -> Any:
        made = case.attempt(make.__name__, lambda: make(descriptor))
        if made is not None:
            return case.keep(made)
        # It is still ours, each time.
        assert stat.S_ISSOCK(os.fstat(descriptor).st_mode)
        with contextlib.suppress(OSError):
            os.close(descriptor)
        return None

    def run() -> None:
        # The copy may be what fails.
        with contextlib.suppress(OSError):
            listening = adopted(bbipc.adopt_server, os.dup(server.fileno()))
            if listening is not None:
                case.attempt("repr", lambda: repr(listening))
        if case.transport == "local":
            made = case.attempt("make_stream_pair", bbipc.make_stream_pair)
            if made is not None:
                one, other = map(case.keep, made)
                case.attempt("write_all", lambda: one.write_all(b"x", SHORT))
                case.expect("read", lambda: other.read_exactly(1, SHORT), b"x")
        descriptor = case.attempt("detach", ours.detach)
        if descriptor is None:
            case.expect("connection_succeeded", ours.connection_succeeded, True)
            return
        again = adopted(bbipc.adopt_stream, descriptor)
        if again is None:
            return
        case.attempt("repr", lambda: repr(again))
        case.attempt("write_all", lambda: again.write_all(b"x", SHORT))
        case.expect("read", lambda: theirs.read_exactly(1, SHORT), b"x")

    return run


SCENARIOS: dict[str, Callable[[Case], Callable[[], None]]] = {
    "connecting": connecting,
    "streams": streams,
    "unread_end": unread_end,
    "severed": severed,
    "refused": refused,
    "poller_epoll": lambda case: pollers(case, "epoll"),
    "poller_poll": lambda case: pollers(case, "poll"),
    "shown": shown,
    "poll_sockets": poll_sockets,
    "bulk": bulk,
    "messages_streams": lambda case: messages(case, "streams"),
    "messages_epoll": lambda case: messages(case, "epoll"),
    "messages_poll": lambda case: messages(case, "poll"),
    "lines": lines,
    "elsewhere": elsewhere,
    "thread_poll_socket": lambda case: threads(case, "poll_socket"),
    "thread_epoll": lambda case: threads(case, "epoll"),
    "thread_poll": lambda case: threads(case, "poll"),
    "closing": closing,
    "forking": forking,
    "replacing": replacing,
}


# ---- What must be so afterwards ----


def _descriptors() -> dict[int, tuple[int, int]]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            file = os.fstat(int(name))
            if not stat.S_ISDIR(file.st_mode):
                found[int(name)] = file.st_dev, file.st_ino
    return found


class Surroundings:
    """What the program has besides: its descriptors, and what the library has open."""

    def __init__(self) -> None:
        self._handles = declarations.open_handles()
        self._before = _descriptors()

    def check(self, case: Case) -> None:
        gc.collect()
        now = _descriptors()
        for number, file in self._before.items():
            if now.get(number) != file:
                case.wrong.append(f"descriptor {number} of the program is {'another' if number in now else 'closed'}")
        left = sorted(os.readlink(f"/proc/self/fd/{one}") for one in now.keys() - self._before.keys())
        # What wakes the threads in poll_sockets is kept for the next wait.
        if "anon_inode:[eventfd]" in left:
            left.remove("anon_inode:[eventfd]")
        # strace has not made the close(2) that failed, and nothing may repeat it: its descriptor alone is left.
        # Each thread counts its calls.
        if len(left) > (4 if case.call == "close" else 0):
            case.wrong.append(f"descriptors are left: {left}")
        if declarations.open_handles() != self._handles:
            case.wrong.append(f"{declarations.open_handles() - self._handles} handles are left open")


def _check_files(case: Case) -> None:
    if case.error == "ENOENT":
        return  # The file seemed to be gone.
    for name in ("server", "pair", "gone"):
        if os.path.lexists(name) and not any(name in text for text in [*case.warned, *case.raised]):
            case.wrong.append(f"the socket file {name!r} is left, without a word")


def _run(scenario: str, case: Case, go: Callable[[], None]) -> Case:
    warnings.simplefilter("always")
    warnings.showwarning = lambda message, kind, *_more: case.warned.append(f"{kind.__name__}: {message}")
    sys.unraisablehook = lambda what: case.wrong.append(f"unraisable: {what.exc_value!r} of {what.object!r}")
    threading.excepthook = lambda what: case.wrong.append(f"a thread raises {what.exc_value!r}")
    holes = [os.open(os.devnull, os.O_RDONLY) for _ in range(6)]
    for hole in holes[::2]:
        os.close(hole)
    surroundings = Surroundings()
    run = SCENARIOS[scenario](case)
    gc.collect()
    gc.disable()
    go()
    os.getppid()
    began = time.monotonic()
    try:
        run()
    except MemoryError:
        case.raised.append("ENOMEM: Python itself has no memory")
    except Exception as failure:
        case.wrong.append(f"{failure!r}: {''.join(traceback.format_tb(failure.__traceback__)[-2:])}")
    finally:
        case.close_all()
    try:
        for do in case.afterwards:
            do()
    except Exception as failure:
        case.wrong.append(repr(failure))
    os.getppid()
    if time.monotonic() - began > LONG:
        case.wrong.append(f"takes {time.monotonic() - began:.1f} s")
    del run
    surroundings.check(case)
    _check_files(case)
    case.wrong += [text for text in case.warned if text.startswith("ResourceWarning: unclosed")]
    return case


def _child(address: str, words: Iterable[str]) -> None:
    scenario, transport, call, error, number, directory = words
    os.chdir(directory)
    errors = os.open("errors", os.O_WRONLY | os.O_CREAT)
    os.dup2(errors, 2)
    os.close(errors)
    with socket.socket(socket.AF_UNIX) as test:
        test.connect(address)

        def go() -> None:
            test.sendmsg([str(os.getpid()).encode()])
            assert test.recvmsg(1)[0]

        case = _run(scenario, Case(transport, call, error, number), go)
        test.sendmsg([json.dumps({"wrong": case.wrong, "raised": case.raised, "ends": case.ends}).encode()])
        # Until strace has gone.
        test.recvmsg(1)


def main() -> None:
    faulthandler.enable()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        if os.fork() == 0:
            status = 1
            try:
                nothing = os.open(os.devnull, os.O_RDONLY)
                os.dup2(nothing, 0)
                os.close(nothing)
                _child(sys.argv[1], line.split())
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)


if __name__ == "__main__":
    main()
