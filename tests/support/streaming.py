"""What tests of streams share: states of a stream, bytes that tell their place, and bytes that have arrived."""

from __future__ import annotations

import os

import bbipc
from bbipc import Events, StreamSocket
from patience import PATIENCE
from transports import STREAM_EVENTS

ESTABLISHED = Events.DETERMINED | Events.CONNECTION_SUCCEEDED
GONE = Events.DETERMINED | Events.CONNECTION_FAILED | Events.REMOTE_DISCONNECTED
WRITABLE = Events.READY_TO_WRITE | Events.WRITE_SPACE | Events.MESSAGE_SPACE

#: What is told without a look at messages, which moves bytes into the stream's own buffer.
EVENTS_OF_BYTES = STREAM_EVENTS - Events.MESSAGE_AVAILABLE - Events.MESSAGE_SPACE

#: Its length is coprime to that of every buffer, so that a byte in the wrong place is a wrong byte.
PATTERN = os.urandom(65_521)


def pattern(position: int, size: int) -> bytes:
    """What a stream carries at a position."""
    start = position % len(PATTERN)
    return (PATTERN * ((start + size) // len(PATTERN) + 1))[start : start + size]


def events_of(stream: StreamSocket, asked: Events = STREAM_EVENTS) -> Events:
    return bbipc.poll_socket(stream, asked, 0)


def await_event(stream: StreamSocket, events: Events) -> None:
    assert bbipc.poll_socket(stream, events, PATIENCE)


def send(sender: StreamSocket, receiver: StreamSocket, data: bytes) -> None:
    """Writes what fits into the buffers, and waits until it has arrived."""
    sender.write_all(data, PATIENCE)
    await_event(receiver, Events.DATA_AVAILABLE)
    while len(receiver.read(len(data), peek=True)) < len(data):
        pass
