"""asyncio's Protocols, on its own event loop or uvloop's. Both set TCP_NODELAY themselves.

While a program waits for a command, its event loop stands still.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any, cast

from control import (
    BACKLOG,
    Receipt,
    address_of,
    announce,
    answer,
    commands,
    connect,
    fail,
    listen,
    message_of,
)


class Connection(asyncio.Protocol):
    """What the Protocols have in common."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is no subclass.
        self.transport = cast("asyncio.Transport", transport)


ConnectionFactory = Callable[[], Connection]


async def serve(factory: ConnectionFactory, listener: socket.socket) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    if listener.family == socket.AF_UNIX:
        return await loop.create_unix_server(factory, sock=listener, backlog=BACKLOG)
    return await loop.create_server(factory, sock=listener, backlog=BACKLOG)


async def connect_protocol(factory: ConnectionFactory, address: str) -> Any:
    loop = asyncio.get_running_loop()
    connection = connect(address)
    connection.setblocking(False)
    if connection.family == socket.AF_UNIX:
        _, protocol = await loop.create_unix_connection(factory, sock=connection)
    else:
        _, protocol = await loop.create_connection(factory, sock=connection)
    return protocol


# ---- Echo servers ----


class Echo(Connection):
    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


async def echo_server(address: str, _size: int = 0) -> None:
    listener = listen(address)
    server = await serve(Echo, listener)
    announce(address_of(listener))
    await server.serve_forever()


round_trip_server = echo_server


# ---- Round trips ----


class RoundTrips(Connection):
    """Each answer that is complete starts the next one."""

    def __init__(self, size: int) -> None:
        self.message = message_of(size)
        self.data = b""

    def start(self, count: int) -> asyncio.Future[None]:
        self.remaining = count
        self.done = asyncio.get_running_loop().create_future()
        self.transport.write(self.message)
        return self.done

    def data_received(self, data: bytes) -> None:
        if self.data:
            data = self.data + data
        if len(data) < len(self.message):
            self.data = data
            return
        self.data = b""
        if data != self.message:
            fail("other bytes came back than were sent")
        self.remaining -= 1
        if self.remaining:
            self.transport.write(self.message)
        else:
            self.done.set_result(None)


async def round_trip_client(address: str, size: int) -> None:
    protocol = await connect_protocol(lambda: RoundTrips(size), address)
    announce()
    for (count,) in commands():
        start_ns = time.perf_counter_ns()
        await protocol.start(count)
        answer(time.perf_counter_ns() - start_ns)


# ---- One way ----


class Sender(Connection):
    """Writes until the transport asks it to pause."""

    def __init__(self, size: int) -> None:
        self.message = message_of(size)
        self.remaining = 0
        self.paused = False

    def start(self, count: int) -> asyncio.Future[None]:
        self.remaining = count
        self.done = asyncio.get_running_loop().create_future()
        self.proceed()
        return self.done

    def proceed(self) -> None:
        while self.remaining and not self.paused:
            self.remaining -= 1
            self.transport.write(self.message)
        if not self.remaining and not self.done.done():
            self.done.set_result(None)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.proceed()


async def sender(address: str, size: int) -> None:
    protocol = await connect_protocol(lambda: Sender(size), address)
    announce()
    for (count,) in commands():
        start_ns = time.monotonic_ns()
        await protocol.start(count)
        await flushed(protocol.transport)
        answer(start_ns)


async def flushed(transport: asyncio.WriteTransport) -> None:
    """Nothing is left in the program: its event loop stands still while it waits for a command."""
    while transport.get_write_buffer_size():
        await asyncio.sleep(0)


class Receiver(Connection):
    """Counts bytes."""

    def __init__(self) -> None:
        self.made = asyncio.get_running_loop().create_future()
        self.receipt: Receipt | None = None
        #: What came before the command to receive it.
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.made.set_result(None)

    def start(self, receipt: Receipt) -> asyncio.Future[None]:
        self.receipt = receipt
        self.done = asyncio.get_running_loop().create_future()
        early, self.early = self.early, []
        for data in early:
            self.data_received(data)
        return self.done

    def data_received(self, data: bytes) -> None:
        receipt = self.receipt
        if receipt is None:
            self.early.append(data)
            return
        receipt.due -= len(data)
        if receipt.checked:
            receipt.kept += data
        if not receipt.due:
            self.receipt = None
            self.done.set_result(None)


async def stream_receiver(address: str, size: int) -> None:
    protocol = Receiver()
    listener = listen(address)
    server = await serve(lambda: protocol, listener)
    announce(address_of(listener))
    await protocol.made
    server.close()
    for count, checked in commands():
        receipt = Receipt(size, count * size, checked)
        await protocol.start(receipt)
        receipt.settle(time.monotonic_ns())
