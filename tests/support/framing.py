"""Messages as they are on the wire, by another hand than the library's; and every way to receive them."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator
from functools import partial

import bbipc
from bbipc import Events, StreamSocket
from systems import BACKENDS

AVAILABLE = Events.MESSAGE_AVAILABLE
AVAILABLE_OR_END = AVAILABLE | Events.END_OF_DATA


def short(size: int) -> bytes:
    """The header of multiprocessing.connection for sizes below 2 GiB; or one that announces nonsense."""
    return struct.pack("!i", size)


def long(size: int) -> bytes:
    """The header for any other size."""
    return b"\xff\xff\xff\xff" + struct.pack("!Q", size)


def framed(*messages: bytes) -> bytes:
    return b"".join(short(len(one)) + one for one in messages)


def framed_long(*messages: bytes) -> bytes:
    """As no sender does it, but every receiver has to take it."""
    return b"".join(long(len(one)) + one for one in messages)


#: Messages of a stream that come within a time (seconds), perhaps some of them only. None if it is over.
Receive = Callable[[float], list[bytes]]


def _one(stream: StreamSocket, timeout: float) -> list[bytes]:
    try:
        return [stream.receive_message(timeout)]
    except bbipc.TimeoutError:
        return []


def _iterated(stream: StreamSocket, timeout: float) -> list[bytes]:
    try:
        return [next(stream.messages(timeout))]
    except bbipc.TimeoutError:
        return []


def _polled(stream: StreamSocket, max_messages: int | None, timeout: float) -> list[bytes]:
    happened = bbipc.poll_socket(stream, AVAILABLE_OR_END, timeout)
    received = stream.receive_messages(max_messages)
    assert bool(received) == happened.message_available, (received, happened)
    return received


def _polled_among_others(stream: StreamSocket, timeout: float) -> list[bytes]:
    happened, _ = bbipc.poll_sockets([stream, stream], [AVAILABLE, AVAILABLE | Events.CONNECTION_SEVERED], timeout)
    return [stream.receive_message(0)] if happened else []


@contextlib.contextmanager
def _with_poller(
    backend: str, receive: Callable[[bbipc.Poller, StreamSocket, float], list[bytes]], stream: StreamSocket
) -> Iterator[Receive]:
    with bbipc.make_poller(backend) as poller:
        poller.monitor_socket(stream, AVAILABLE)
        yield partial(receive, poller, stream)


def _waited_for(poller: bbipc.Poller, stream: StreamSocket, timeout: float) -> list[bytes]:
    reports = poller.wait_for_events(timeout)
    assert reports in ([], [(stream, AVAILABLE)])
    return [stream.receive_message(0)] if reports else []


def _received(poller: bbipc.Poller, stream: StreamSocket, timeout: float) -> list[bytes]:
    reports = poller.receive_messages(timeout)
    if not reports:
        return []
    ((one, happened, messages),) = reports
    assert (one, happened) == (stream, AVAILABLE)
    assert messages
    return messages


@contextlib.contextmanager
def _plain(receive: Callable[[StreamSocket, float], list[bytes]], stream: StreamSocket) -> Iterator[Receive]:
    yield partial(receive, stream)


#: Each makes, for a stream, what receives from it.
WAYS: dict[str, Callable[[StreamSocket], contextlib.AbstractContextManager[Receive]]] = {
    "receive_message": partial(_plain, _one),
    "messages": partial(_plain, _iterated),
    "receive_messages": partial(_plain, lambda stream, timeout: _polled(stream, None, timeout)),
    "receive_messages(1)": partial(_plain, lambda stream, timeout: _polled(stream, 1, timeout)),
    "receive_messages(2)": partial(_plain, lambda stream, timeout: _polled(stream, 2, timeout)),
    "poll_sockets": partial(_plain, _polled_among_others),
    **{f"wait_for_events ({backend})": partial(_with_poller, backend, _waited_for) for backend in BACKENDS},
    **{f"Poller.receive_messages ({backend})": partial(_with_poller, backend, _received) for backend in BACKENDS},
}
