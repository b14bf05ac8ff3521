"""What tests of Windows' pipes are made of. Only Windows can import it."""

from __future__ import annotations

import _winapi
import contextlib
import errno
import os
import pickle
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Union

import pytest

import bbipc
import windows
from bbipc import Events, LocalServer, LocalStream, SocketError, StreamSocket, poll_socket
from bbipc._native import declarations
from child_processes import eventually
from patience import PATIENCE
from peer import until_asleep

CLIENT = Events.CONNECTION_AVAILABLE
DATA = Events.DATA_AVAILABLE
END = Events.END_OF_DATA
SEVERED = Events.CONNECTION_SEVERED
SPACE = Events.WRITE_SPACE

#: Bytes that a pipe keeps in each direction; also what one write takes at the most.
BUFFER = 65536

PIPES = "\\\\.\\pipe\\"
LIMIT = 256

READ_WRITE = _winapi.GENERIC_READ | _winapi.GENERIC_WRITE

Pathname = Union[str, bytes, "os.PathLike[str]"]


def accept(server: LocalServer) -> LocalStream:
    assert poll_socket(server, CLIENT, PATIENCE)
    return server.accept_connection()


@contextlib.contextmanager
def pipe_pair(name: str, accepted_writes: bool = False) -> Iterator[tuple[LocalStream, LocalStream]]:
    """The two ends of a pipe: the client and the accepted one, or the other way round."""
    with bbipc.make_local_server(name) as server, bbipc.connect_to_local_server(name) as client, accept(server) as ours:
        server.close()
        yield (ours, client) if accepted_writes else (client, ours)


def refusal(attempt: Callable[[], object]) -> SocketError:
    """The error that an attempt must end with."""
    with pytest.raises(SocketError) as caught:
        attempt()
    return caught.value


def check_code(error: BaseException | None, winerror: int, number: int) -> None:
    """An error has these codes, both as they are, and in another process."""
    assert isinstance(error, SocketError)
    assert isinstance(error, OSError)
    assert (error.winerror, error.errno) == (winerror, number)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (copy.winerror, copy.errno, str(copy)) == (winerror, number, str(error))


def check_busy(name: Pathname) -> None:
    check_code(refusal(partial(bbipc.connect_to_local_server, name)), 231, errno.EAGAIN)


def check_taken(name: Pathname) -> None:
    check_code(refusal(partial(bbipc.make_local_server, name)), 10048, errno.EADDRINUSE)


def check_nobody(name: Pathname) -> None:
    error = refusal(partial(bbipc.connect_to_local_server, name))
    check_code(error, 2, errno.ENOENT)
    assert isinstance(error, bbipc.NoLocalServerError)
    assert isinstance(error, FileNotFoundError)


def check_talk(server: LocalServer, name: Pathname) -> None:
    with bbipc.connect_to_local_server(name) as client, accept(server) as accepted:
        client.write_all(b"there")
        assert accepted.read_exactly(5, PATIENCE) == b"there"
        accepted.write_all(b"back")
        assert client.read_exactly(4, PATIENCE) == b"back"


def read_to_end(stream: StreamSocket, sizes: Iterator[int] | None = None) -> bytes:
    """All that comes, in pieces of these sizes."""
    received = bytearray()
    while not stream.end_of_data():
        assert poll_socket(stream, DATA | END, PATIENCE)
        received += stream.read(next(sizes) if sizes else BUFFER)
    return bytes(received)


def write_until_pending(stream: StreamSocket, data: bytes) -> int:
    """Writes until all is written, or a write is under way. Returns how many bytes were taken."""
    count = 0
    while count < len(data):
        taken = stream.write(data, count)
        if taken == 0:
            break
        count += taken
    return count


def in_a_thread_that_ends(work: Callable[[], object]) -> None:
    """Does it in a thread that is gone afterwards, for the system too: it takes back what such a thread has begun."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not failures, failures
    this_process = os.getpid()
    eventually(lambda: thread.native_id not in {one.number for one in windows._threads(this_process)}, "it has ended")


def in_threads(*works: Callable[[], object]) -> list[threading.Thread]:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    return threads


@contextlib.contextmanager
def when_asleep(work: Callable[[], object]) -> Iterator[None]:
    """Does something when this thread sleeps, as it must inside."""
    this_process, this_thread = os.getpid(), threading.get_native_id()
    done: list[object] = []

    def run() -> None:
        until_asleep(this_process, this_thread)
        done.append(work())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert done


#: The types of handles that bbipc opens. Windows' own libraries open others, whenever they like.
TYPES = ("Event", "File", "IoCompletion", "Thread")

Holdings = tuple[Counter[str], int, int]


def holdings() -> Holdings:
    """What handles the process has, how many operations the system has of it, and the library's own handles."""
    handles = Counter(what for what in windows.open_handles().values() if what.startswith(TYPES))
    return handles, declarations.pending_operations(), declarations.open_handles()


def settled_holdings() -> Holdings:
    """The same, once what ends a moment after its call has ended."""
    give_up_at = time.perf_counter() + PATIENCE
    found = holdings()
    looks = 0
    while looks < 10 and time.perf_counter() < give_up_at:
        time.sleep(0.01)
        now = holdings()
        looks = looks + 1 if now == found else 0
        found = now
    return found
