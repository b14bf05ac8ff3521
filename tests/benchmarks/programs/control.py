"""What the programs of the benchmarks share: each is a process that the harness starts, and talks to by lines.

The first line that a program prints is its address, or ``ready``. Then each line of numbers on its input is answered by
a line of numbers. A program that finds anything wrong ends with an exception, and so does the whole run.
"""

from __future__ import annotations

import ctypes
import resource
import signal
import socket
import sys
from collections.abc import Iterator

BACKLOG = 4096
#: How much is read at once. Every program reads as much.
READ_SIZE = 65536

_PR_SET_PDEATHSIG = 1


def prepare() -> None:
    """The program ends with the one who runs it, and may have as many descriptors as the system allows."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def announce(address: str = "ready") -> None:
    print(address, flush=True)


def commands() -> Iterator[tuple[int, ...]]:
    """The lines of numbers on the input, until it ends."""
    while line := sys.stdin.readline():
        yield tuple(map(int, line.split()))


def answer(*numbers: int) -> None:
    print(*numbers, flush=True)


def message_of(size: int) -> bytes:
    """What is sent where each message is the same."""
    return bytes((at * 7 + 1) % 256 for at in range(size))


def pathname_of(address: str) -> str | None:
    """The pathname of ``local:PATHNAME``; None for ``tcp`` and ``tcp:PORT``."""
    return address[len("local:") :] if address.startswith("local:") else None


def port_of(address: str) -> int:
    """The port of ``tcp:PORT``; 0, any that is free, for ``tcp``."""
    return int(address[len("tcp:") :] or 0)


def listen(address: str) -> socket.socket:
    """A blocking socket of Python's own that listens, for all but bbipc."""
    pathname = pathname_of(address)
    if pathname is not None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(pathname)
    else:
        listener = socket.socket()
        listener.bind(("127.0.0.1", port_of(address)))
    listener.listen(BACKLOG)
    return listener


def address_of(listener: socket.socket) -> str:
    name = listener.getsockname()
    return f"local:{name}" if listener.family == socket.AF_UNIX else f"tcp:{name[1]}"


def connect(address: str) -> socket.socket:
    """A blocking socket of Python's own that is connected."""
    pathname = pathname_of(address)
    if pathname is not None:
        connecting = socket.socket(socket.AF_UNIX)
        connecting.connect(pathname)
    else:
        connecting = socket.create_connection(("127.0.0.1", port_of(address)))
    no_delay(connecting)
    return connecting


def no_delay(connection: socket.socket) -> None:
    if connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
