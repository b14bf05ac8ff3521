"""asyncio, on its own event loop and on uvloop's: Protocols and streams."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

from control import READ_SIZE, address_of, announce, listen

# ---- Echo servers ----


class Echo(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is no subclass.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


async def serve_protocol(listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    if listener.family == socket.AF_UNIX:
        server = await loop.create_unix_server(Echo, sock=listener)
    else:
        server = await loop.create_server(Echo, sock=listener)
    announce(address_of(listener))
    await server.serve_forever()


async def echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(READ_SIZE):
        writer.write(data)
        await writer.drain()
    writer.close()


async def serve_streams(listener: socket.socket) -> None:
    if listener.family == socket.AF_UNIX:
        server = await asyncio.start_unix_server(echo_stream, sock=listener)
    else:
        server = await asyncio.start_server(echo_stream, sock=listener)
    announce(address_of(listener))
    await server.serve_forever()


def run(coroutine: Any) -> None:
    asyncio.run(coroutine)


def run_uvloop(coroutine: Any) -> None:
    import uvloop

    uvloop.run(coroutine)


def protocol_echo_server(address: str) -> None:
    run(serve_protocol(listen(address)))


def streams_echo_server(address: str) -> None:
    run(serve_streams(listen(address)))


def uvloop_protocol_echo_server(address: str) -> None:
    run_uvloop(serve_protocol(listen(address)))


def uvloop_streams_echo_server(address: str) -> None:
    run_uvloop(serve_streams(listen(address)))
