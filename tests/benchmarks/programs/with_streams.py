"""asyncio's streams, on its own event loop or uvloop's. Both set TCP_NODELAY themselves.

While a program waits for a command, its event loop stands still.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from control import (
    BACKLOG,
    LENGTH,
    READ_SIZE,
    SERIES,
    Receipt,
    address_of,
    announce,
    answer,
    commands,
    connect,
    fail,
    listen,
    message_of,
    series_of,
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


async def accept_streams(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    accepted: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
    accepted = asyncio.get_running_loop().create_future()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result((reader, writer))

    listener = listen(address)
    await serve_streams(accept, listener)
    announce(address_of(listener))
    return await accepted


async def stream_receiver(address: str, size: int) -> None:
    reader, _writer = await accept_streams(address)
    for count, checked in commands():
        receipt = Receipt(size, count * size, checked)
        while receipt.due:
            data = await reader.read(READ_SIZE) or fail("the sender has closed")
            receipt.due -= len(data)
            if checked:
                receipt.kept += data
        receipt.settle(time.monotonic_ns())


# ---- Messages, with a length before each ----


async def receive_message(reader: asyncio.StreamReader) -> bytes:
    (size,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    return await reader.readexactly(size)


def with_lengths(messages: Sequence[bytes]) -> Iterator[bytes]:
    for message in messages:
        yield LENGTH.pack(len(message))
        yield message


async def message_server(address: str, _size: int) -> None:
    reader, writer = await accept_streams(address)
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            message = await receive_message(reader)
            writer.write(LENGTH.pack(len(message)) + message)
            await writer.drain()


async def message_client(address: str, size: int) -> None:
    reader, writer = await open_streams(address)
    message = message_of(size)
    announce()
    for (count,) in commands():
        start_ns = time.perf_counter_ns()
        for _ in range(count):
            writer.write(LENGTH.pack(len(message)) + message)
            if await receive_message(reader) != message:
                fail("another message came back than was sent")
        answer(time.perf_counter_ns() - start_ns)


async def message_sender(address: str, size: int) -> None:
    _reader, writer = await open_streams(address)
    series = series_of(size)
    announce()
    for (count,) in commands():
        start_ns = time.monotonic_ns()
        for _ in range(count // SERIES):
            writer.writelines(with_lengths(series))
            await writer.drain()
        await flushed(writer.transport)
        answer(start_ns)


async def message_receiver(address: str, size: int) -> None:
    reader, _writer = await accept_streams(address)
    series = series_of(size)
    for count, _checked in commands():
        for _ in range(count // SERIES):
            for expected in series:
                if await receive_message(reader) != expected:
                    fail("another message came than was sent")
        answer(time.monotonic_ns())
