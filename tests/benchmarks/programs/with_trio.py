"""trio: its streams over sockets, which set TCP_NODELAY themselves."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import trio
from control import (
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


def stream_of(address: str) -> trio.SocketStream:
    """A stream that is connected."""
    return trio.SocketStream(trio.socket.from_stdlib_socket(connect(address)))


async def accept(address: str) -> trio.SocketStream:
    """The first stream that connects."""
    listener = listen(address)
    announce(address_of(listener))
    return await trio.SocketListener(trio.socket.from_stdlib_socket(listener)).accept()


def run(function: Callable[..., Awaitable[None]], *arguments: object) -> None:
    trio.run(function, *arguments)


# ---- The echo server ----


async def echo(stream: trio.SocketStream) -> None:
    try:
        while data := await stream.receive_some(READ_SIZE):
            await stream.send_all(data)
    except trio.BrokenResourceError:
        pass  # the connection is severed
    finally:
        await stream.aclose()


async def serve(address: str) -> None:
    listener = listen(address)
    announce(address_of(listener))
    await trio.serve_listeners(echo, [trio.SocketListener(trio.socket.from_stdlib_socket(listener))])


def echo_server(address: str) -> None:
    run(serve, address)


def round_trip_server(address: str, _size: int) -> None:
    run(serve, address)


# ---- Two processes ----


async def make_round_trips(address: str, size: int) -> None:
    stream = stream_of(address)
    message = message_of(size)
    announce()
    for (count,) in commands():
        start_ns = time.perf_counter_ns()
        for _ in range(count):
            await stream.send_all(message)
            data = await stream.receive_some(size)
            while len(data) < size:
                data += await stream.receive_some(size - len(data)) or fail("the server has closed")
            if data != message:
                fail("other bytes came back than were sent")
        answer(time.perf_counter_ns() - start_ns)


def round_trip_client(address: str, size: int) -> None:
    run(make_round_trips, address, size)


async def send(address: str, size: int) -> None:
    stream = stream_of(address)
    message = message_of(size)
    announce()
    for (count,) in commands():
        start_ns = time.monotonic_ns()
        for _ in range(count):
            await stream.send_all(message)
        answer(start_ns)


def sender(address: str, size: int) -> None:
    run(send, address, size)


async def receive_stream(address: str, size: int) -> None:
    stream = await accept(address)
    for count, checked in commands():
        receipt = Receipt(size, count * size, checked)
        while receipt.due:
            data = await stream.receive_some(max(size, READ_SIZE)) or fail("the sender has closed")
            if checked:
                receipt.kept += data
            receipt.due -= len(data)
        receipt.settle(time.monotonic_ns())


def stream_receiver(address: str, size: int) -> None:
    run(receive_stream, address, size)
