"""What the system knows of a stream, asked without bbipc, which has yet to find out. And where systems differ in it."""

from __future__ import annotations

import contextlib
import ctypes
import select
import struct
import sys
import time
from enum import Enum

import pytest

import bbipc
import systems
from bbipc import Socket, StreamSocket
from patience import PATIENCE
from systems import WINDOWS
from transports import Transport, fill, reset

if sys.platform == "win32":
    from windows import WINE

    class _PollFd(ctypes.Structure):
        """WSAPOLLFD of winsock2.h."""

        _fields_ = (("fd", ctypes.c_size_t), ("events", ctypes.c_short), ("revents", ctypes.c_short))

    _winsock = ctypes.WinDLL("ws2_32")
    _FIONREAD = 0x4004667F
else:
    import fcntl
    import termios

    WINE = False

#: Windows throws away what a TCP peer sent and nobody has read when that peer breaks the connection off. Linux keeps
#: it, also below Wine.
RESETS_DISCARD = WINDOWS and not WINE

#: Wine does not tell that a TCP peer has finished or closed before its last byte has been read.
TELLS_ENDS_LATE = WINE


class Fact(Enum):
    """What the system can know of a socket: its bits in Linux' poll(2), and those in WSAPoll."""

    #: Bytes, or a client.
    DATA = (0x001, 0x100)
    ROOM = (0x004, 0x010)
    #: The remote end has finished or is gone.
    FINISHED = (0x2000, 0x002)
    #: Nothing travels any more; Windows has one bit for both, and another for what could not be established.
    SEVERED = (0x010, 0x003)


def knows(one: Socket, fact: Fact, timeout: float = 0) -> bool:
    """Whether the system knows of something, now or within a time (seconds)."""
    if sys.platform == "linux":
        waiting = select.poll()
        waiting.register(one, fact.value[0])
        return any(seen & fact.value[0] for _, seen in waiting.poll(timeout * 1000))
    if WINDOWS and isinstance(one, (bbipc.LocalServer, bbipc.LocalStream)):
        # What is done at one end of a pipe is so at the other at once.
        return True
    if WINDOWS and isinstance(one, bbipc.StreamServer):
        # It may hold the client already, of whom the system tells nobody any more.
        return bool(bbipc.poll_socket(one, bbipc.Events.CONNECTION_AVAILABLE, timeout))
    # By looking: of Windows' calls, and of macOS' and FreeBSD's, none waits for each of the facts alone.
    give_up_at = time.perf_counter() + timeout
    while not _knows_now(one, fact):
        if time.perf_counter() >= give_up_at:
            return False
        time.sleep(0.001)
    return True


def _knows_now(one: Socket, fact: Fact) -> bool:
    if sys.platform == "win32":
        # Room is always asked for, or nothing but errors would be told.
        entry = _PollFd(one.fileno(), 0x110, 0)
        assert _winsock.WSAPoll(ctypes.byref(entry), 1, 0) >= 0
        return bool(entry.revents & fact.value[1])
    # poll(2) of macOS does not say which direction has ended; kqueue(2) does.
    filters = (select.KQ_FILTER_READ, select.KQ_FILTER_WRITE)
    with contextlib.closing(select.kqueue()) as queue:
        changes = [select.kevent(one.fileno(), number, select.KQ_EV_ADD) for number in filters]
        reported = {event.filter: event for event in queue.control(changes, len(filters), 0)}
    read, write = (reported.get(number) for number in filters)
    ended = [event is not None and bool(event.flags & select.KQ_EV_EOF) for event in (read, write)]
    return {
        Fact.DATA: read is not None and read.data > 0,
        Fact.ROOM: write is not None and not ended[1],
        Fact.FINISHED: ended[0],
        Fact.SEVERED: all(ended),
    }[fact]


def arrives(one: Socket, fact: Fact) -> None:
    """Waits until the system knows of something."""
    assert knows(one, fact, PATIENCE), fact


def unread_bytes(stream: StreamSocket) -> int:
    """How many bytes lie there to be read."""
    if sys.platform != "win32":
        return int(struct.unpack("i", fcntl.ioctl(stream, termios.FIONREAD, bytes(4)))[0])
    count = ctypes.c_ulong()
    socket = ctypes.c_size_t(stream.fileno())
    assert _winsock.ioctlsocket(socket, ctypes.c_long(_FIONREAD), ctypes.byref(count)) == 0
    return count.value


# ---- What named pipes can't do ----


def half_closes(transport: Transport) -> bool:
    """Whether one end of its streams can finish writing and go on reading."""
    return transport.name == "tcp" or not WINDOWS


def needs_half_close(transport: Transport) -> None:
    if not half_closes(transport):
        pytest.skip("a named pipe can't be half-closed")


def needs_reset(transport: Transport) -> None:
    """For tests of what a stream tells whose connection was reset, and did not just end."""
    if transport.name == "local" and not systems.close_resets("local"):
        pytest.skip("nothing resets a local stream here: its remote end closes, and whatever is unread is gone unheard")


def sever(peer: object, stream: StreamSocket) -> None:
    """Closes the peer so that the stream is severed, and so that bytes of its own are known to be lost."""
    if WINDOWS and isinstance(stream, bbipc.LocalStream):
        # A pipe tells of the loss of a write that is under way, not of bytes that lay there unread.
        fill(stream)
    reset(peer, stream)


def goes_on_after_close(stream: bbipc.StreamSocket) -> bool:
    """Whether the system goes on with what is left: a native test looks at the bytes."""
    return WINDOWS and isinstance(stream, bbipc.LocalStream)


def warned_of_the_rest(stream: bbipc.StreamSocket) -> contextlib.AbstractContextManager[object]:
    """For the close of a stream that keeps the rest of a message."""
    if goes_on_after_close(stream):
        return contextlib.nullcontext()
    return pytest.warns(ResourceWarning, match="bytes of a message unsent")
