"""trio: its streams over sockets."""

from __future__ import annotations

import functools

import trio
from control import READ_SIZE, address_of, announce, listen


async def echo(stream: trio.SocketStream) -> None:
    # An end of the connection, orderly or not, ends the task.
    try:
        while data := await stream.receive_some(READ_SIZE):
            await stream.send_all(data)
    except trio.BrokenResourceError:
        pass
    finally:
        await stream.aclose()


async def serve(address: str) -> None:
    listener = listen(address)
    announce(address_of(listener))
    # A SocketStream sets TCP_NODELAY itself.
    await trio.serve_listeners(echo, [trio.SocketListener(trio.socket.from_stdlib_socket(listener))])


def echo_server(address: str) -> None:
    trio.run(functools.partial(serve, address))
