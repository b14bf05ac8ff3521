"""asyncio's streams, on its own event loop or uvloop's. Both set TCP_NODELAY themselves.

While a program waits for a command, its event loop stands still.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

from control import (
    BACKLOG,
    READ_SIZE,
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


async def serve_streams(
    callback: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]], listener: socket.socket
) -> asyncio.Server:
    if listener.family == socket.AF_UNIX:
        return await asyncio.start_unix_server(callback, sock=listener, backlog=BACKLOG)
    return await asyncio.start_server(callback, sock=listener, backlog=BACKLOG)


async def open_streams(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    connection = connect(address)
    connection.setblocking(False)
    if connection.family == socket.AF_UNIX:
        return await asyncio.open_unix_connection(sock=connection)
    return await asyncio.open_connection(sock=connection)


# ---- The echo server ----


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(READ_SIZE):
        writer.write(data)
        await writer.drain()
    writer.close()


async def echo_server(address: str, _size: int = 0) -> None:
    listener = listen(address)
    server = await serve_streams(echo, listener)
    announce(address_of(listener))
    await server.serve_forever()


round_trip_server = echo_server


# ---- Two processes ----


async def round_trip_client(address: str, size: int) -> None:
    reader, writer = await open_streams(address)
    message = message_of(size)
    announce()
    for (count,) in commands():
        start_ns = time.perf_counter_ns()
        for _ in range(count):
            writer.write(message)
            if await reader.readexactly(size) != message:
                fail("other bytes came back than were sent")
        answer(time.perf_counter_ns() - start_ns)


async def sender(address: str, size: int) -> None:
    _, writer = await open_streams(address)
    message = message_of(size)
    announce()
    for (count,) in commands():
        start_ns = time.monotonic_ns()
        for _ in range(count):
            writer.write(message)
            await writer.drain()
        await flushed(writer.transport)
        answer(start_ns)


async def flushed(transport: asyncio.WriteTransport) -> None:
    """Nothing is left in the program: its event loop stands still while it waits for a command."""
    while transport.get_write_buffer_size():
        await asyncio.sleep(0)


async def receive(address: str, size: int, splits: bool) -> None:
    accepted: asyncio.Future[asyncio.StreamReader] = asyncio.get_running_loop().create_future()
    writers = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)  # which would close the connection when it is dropped
        accepted.set_result(reader)

    listener = listen(address)
    await serve_streams(accept, listener)
    announce(address_of(listener))
    reader = await accepted
    for count, checked in commands():
        receipt = Receipt(size, count if splits else count * size, checked)
        while receipt.due:
            if splits:
                data = await reader.readexactly(size)
                receipt.due -= 1
            else:
                data = await reader.read(READ_SIZE) or fail("the sender has closed")
                receipt.due -= len(data)
            if checked:
                receipt.kept += data
        receipt.settle(time.monotonic_ns())


async def stream_receiver(address: str, size: int) -> None:
    await receive(address, size, splits=False)


async def message_receiver(address: str, size: int) -> None:
    await receive(address, size, splits=True)
