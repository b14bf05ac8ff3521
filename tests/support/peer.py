"""The other process of a test: `python peer.py JOB listen|connect ADDRESS [ARGUMENT ...]`; and what both sides need.

A job runs until it is done, killed or interrupted. Addresses are those of the examples: tcp:HOST:PORT, local:PATH. One
that listens prints its address first.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import textwrap
import time
from array import array
from collections.abc import Callable, Iterable, Iterator

import bbipc
import systems
from bbipc import Events, StreamServer, StreamSocket
from patience import PATIENCE
from systems import BACKENDS

#: Bytes per write or read of a transfer.
PIECE = 40_009


class Pattern:
    """A stream's own endless bytes: every eight of them are the stream's number and their place in it."""

    def __init__(self, number: int) -> None:
        self._first = number << 40

    def at(self, position: int, size: int) -> bytes:
        first, last = position // 8, (position + size + 7) // 8
        words = array("Q", range(self._first + first, self._first + last))
        return words.tobytes()[position % 8 :][:size]


def write_piece(stream: StreamSocket, pattern: Pattern, position: int) -> int:
    """Writes what the stream takes now of the pattern's next piece. Returns the position after it."""
    return position + stream.write(pattern.at(position, PIECE))


def read_piece(stream: StreamSocket, pattern: Pattern, position: int) -> int:
    """Reads what is there now, and checks it. Returns the position after it."""
    data = stream.read(PIECE)
    assert data == pattern.at(position, len(data)), f"wrong bytes after {position}"
    return position + len(data)


#: Enough sockets that the library has to allocate memory for a wait.
MANY = 40


def _poll_many(stream: StreamSocket, timeout: float | None) -> object:
    return bbipc.poll_sockets([stream] * MANY, Events.DATA_AVAILABLE, timeout)


def _wait_with_poller(backend: str, stream: StreamSocket, timeout: float | None) -> object:
    with bbipc.make_poller(backend) as poller:
        poller.monitor_socket(stream, Events.DATA_AVAILABLE)
        return poller.wait_for_events(timeout)


def _receive(stream: StreamSocket, timeout: float | None) -> object:
    with bbipc.make_poller() as poller:
        poller.monitor_socket(stream, Events.DATA_AVAILABLE)
        return poller.receive(timeout)


def _receive_messages(stream: StreamSocket, timeout: float | None) -> object:
    with bbipc.make_poller() as poller:
        poller.monitor_socket(stream, Events.MESSAGE_AVAILABLE)
        return poller.receive_messages(timeout)


#: Every way to wait for a stream that its remote end neither reads nor writes.
WAITS: dict[str, Callable[[StreamSocket, float | None], object]] = {
    "poll_socket": lambda stream, timeout: bbipc.poll_socket(stream, Events.DATA_AVAILABLE, timeout),
    "poll_sockets": _poll_many,
    **{f"wait_for_events ({backend})": functools.partial(_wait_with_poller, backend) for backend in BACKENDS},
    "receive": _receive,
    "receive_messages": _receive_messages,
    "receive_message": lambda stream, timeout: stream.receive_message(timeout),
    # A stream keeps the rest of this, of which a close warns: REST_IS_LEFT.
    "send_message": lambda stream, timeout: stream.send_message(bytes(16 << 20), timeout),
    "read_until": lambda stream, timeout: stream.read_until(b"!", timeout),
    "read_exactly": lambda stream, timeout: stream.read_exactly(1, timeout),
    "write_all": lambda stream, timeout: stream.write_all(bytes(64 << 20), timeout),
}

#: Those of them that are with the stream itself, and end with an error when it is closed.
STREAM_WAITS = {
    name: wait
    for name, wait in WAITS.items()
    if not name.startswith("wait_for_events") and name not in ("receive", "receive_messages")
}

#: For tests that give up in the middle of a message: a filter of warnings.
REST_IS_LEFT = "ignore:.* bytes of a message unsent:ResourceWarning"

#: Those that wait for room, which comes when the remote end reads.
WAITS_FOR_ROOM = ("write_all", "send_message")


def answer_to(name: str) -> bytes:
    """What the remote end writes to end one of the other waits."""
    return b"\0\0\0\x01!" if name.startswith("receive_message") else b"!"


def until_asleep(process_id: int, thread_id: int | None = None) -> None:
    """Waits until a thread (a process's main thread by default) sleeps in the kernel, as one that waits does.

    Elsewhere than on Linux all threads of the process by default: nothing there says which one is the main thread.
    """
    if thread_id is not None and systems.TIME_TO_SLEEP is not None:
        time.sleep(systems.TIME_TO_SLEEP)
        return
    # Not monotonic(), which moves in steps of 16 ms on Windows.
    give_up_at = time.perf_counter() + PATIENCE
    before: object = None
    looks = 0
    while True:
        asleep, activity = systems.thread_activity(process_id, thread_id)
        looks = looks + 1 if asleep and activity == before else 0
        if looks == systems.LOOKS:
            return
        before = activity
        assert time.perf_counter() < give_up_at, f"thread {thread_id} of process {process_id} never sleeps: {activity}"
        time.sleep(0.01)


@contextlib.contextmanager
def eager_threads() -> Iterator[None]:
    """Threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def run_program(program: str, *arguments: object, options: Iterable[str] = (), errors: str = "") -> str:
    """Runs a program in a process of its own, which must end well, in time, with these errors. Returns its output."""
    result = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (result.returncode, result.stderr) == (0, errors), result.stderr
    return result.stdout


# ---- Jobs ----


def send(stream: StreamSocket, number: str) -> None:
    """Writes its pattern for ever."""
    position = 0
    pattern = Pattern(int(number))
    while True:
        position = write_piece(stream, pattern, position)
        bbipc.poll_socket(stream, Events.READY_TO_WRITE | Events.REMOTE_DISCONNECTED)


def receive(stream: StreamSocket, number: str) -> None:
    """Reads and checks a pattern for ever."""
    position = 0
    pattern = Pattern(int(number))
    while True:
        position = read_piece(stream, pattern, position)
        bbipc.poll_socket(stream, Events.DATA_AVAILABLE)


def exchange(stream: StreamSocket, sent: str, received: str) -> None:
    """Writes one pattern and reads the other, for ever."""
    written = read = 0
    out, into = Pattern(int(sent)), Pattern(int(received))
    while True:
        written = write_piece(stream, out, written)
        read = read_piece(stream, into, read)
        bbipc.poll_socket(stream, Events.DATA_AVAILABLE | Events.READY_TO_WRITE)


def hold(stream: StreamSocket, sent: str, size: str) -> None:
    """Writes ``size`` bytes of its pattern, and reads nothing."""
    stream.write_all(Pattern(int(sent)).at(0, int(size)))
    print("holding", flush=True)
    sys.stdin.read()


def wait(stream: StreamSocket, name: str, timeout: str) -> None:
    """Waits in one of the ways, and prints how long and what came of it."""
    print("waiting", flush=True)
    # Not monotonic(), which moves in steps of 16 ms on Windows.
    began = time.perf_counter()
    try:
        result: object = WAITS[name](stream, None if timeout == "None" else float(timeout))
    except bbipc.TimeoutError as error:
        result = error
    print(time.perf_counter() - began, repr(result), flush=True)


JOBS: dict[str, Callable[..., None]] = {job.__name__: job for job in (send, receive, exchange, hold, wait)}


def command(job: str, *arguments: object) -> list[str]:
    """The command that runs a job in a process of its own."""
    return [sys.executable, os.path.abspath(__file__), job, *map(str, arguments)]


def connect(address: str) -> StreamSocket:
    namespace, _, rest = address.partition(":")
    if namespace == "local":
        return bbipc.connect_to_local_server(rest)
    host, _, port = rest.rpartition(":")
    stream = bbipc.connect_to_ipv4_tcp_server(host, int(port))
    assert bbipc.poll_socket(stream, Events.CONNECTION_SUCCEEDED, PATIENCE)
    return stream


def accept(address: str) -> StreamSocket:
    """The first client of a server at the address. The server goes."""
    namespace, _, rest = address.partition(":")
    server: StreamServer
    if namespace == "local":
        server = bbipc.make_local_server(rest)
        print(address, flush=True)
    else:
        host, _, port = rest.rpartition(":")
        server = tcp = bbipc.make_ipv4_tcp_server(host, int(port))
        print(f"tcp:{tcp.host_address}:{tcp.port}", flush=True)
    with server:
        assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
        return server.accept_connection()


def main() -> None:
    job, role, address, *arguments = sys.argv[1:]
    with {"listen": accept, "connect": connect}[role](address) as stream:
        JOBS[job](stream, *arguments)


if __name__ == "__main__":
    main()
