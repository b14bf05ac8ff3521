"""examples/broadcast.py with asyncio: its streams, and a size in front of each message.

The bound is one of bytes. On Windows there are no local addresses.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from asyncio import StreamReader, StreamWriter
from pathlib import Path

from bbipc import Address
from programs import ArgumentParser, ProgramError, run, text_of
from reception import BACKLOG, allow_many_descriptors

SIZE_BYTES = 4
MESSAGE_MAX = 65536
TIMEOUT_S = 10.0


class Broadcast:
    def __init__(self, kept_max: int) -> None:
        self._kept_max = kept_max
        self._clients: set[StreamWriter] = set()

    async def serve_client(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._clients.add(writer)
        try:
            while True:
                self._pass_on(await receive(reader))
        except (EOFError, ConnectionError, ProgramError, asyncio.CancelledError):
            pass  # it has gone, or is not one of ours, or the server ends
        finally:
            self._clients.remove(writer)
            writer.close()

    def _pass_on(self, message: bytes) -> None:
        for client in self._clients:
            send(client, message)
            if client.transport.get_write_buffer_size() > self._kept_max:
                print("dropped a client that does not read", file=sys.stderr, flush=True)
                client.transport.abort()


def send(writer: StreamWriter, message: bytes) -> None:
    writer.write(len(message).to_bytes(SIZE_BYTES, "big") + message)


async def receive(reader: StreamReader) -> bytes:
    size = int.from_bytes(await reader.readexactly(SIZE_BYTES), "big")
    if size > MESSAGE_MAX:
        raise ProgramError(f"a message of {size} bytes is too long")
    return await reader.readexactly(size)


async def connect(address: Address) -> tuple[StreamReader, StreamWriter]:
    if address.pathname is None:
        return await asyncio.wait_for(asyncio.open_connection(address.host, address.port), TIMEOUT_S)
    return await asyncio.open_unix_connection(address.pathname)


async def run_server(arguments: argparse.Namespace) -> None:
    allow_many_descriptors()
    serve_client = Broadcast(arguments.keep).serve_client
    address = arguments.address
    if address.pathname is None:
        server = await asyncio.start_server(serve_client, address.host, address.port, backlog=BACKLOG)
        address = Address("tcp:{}:{}".format(*server.sockets[0].getsockname()))
    else:
        # It would take the place of another server.
        if os.path.exists(address.pathname):
            raise ProgramError(f"cannot listen at {address.pathname}: it is there already")
        server = await asyncio.start_unix_server(serve_client, address.pathname, backlog=BACKLOG)
    print(f"listening on {address}", flush=True)
    try:
        await server.serve_forever()
    finally:
        if address.pathname is not None:
            Path(address.pathname).unlink(missing_ok=True)


async def run_listener(arguments: argparse.Namespace) -> None:
    reader, writer = await connect(arguments.address)
    with contextlib.closing(writer), contextlib.suppress(EOFError):
        while True:
            print(text_of(await receive(reader)), flush=True)


async def run_speaker(arguments: argparse.Namespace) -> None:
    said = os.fsencode(arguments.text)
    reader, writer = await connect(arguments.address)
    with contextlib.closing(writer):
        send(writer, said)
        # Only what has come back has been passed on.
        while await asyncio.wait_for(receive(reader), TIMEOUT_S) != said:
            pass


def main() -> None:
    parser = ArgumentParser(description="Passes on what each client says to all clients.")
    commands = parser.add_subparsers(required=True, metavar="command", dest="command")
    for name, run_command, purpose in (
        ("serve", run_server, "pass on what is said"),
        ("listen", run_listener, "print what is said"),
        ("say", run_speaker, "say something"),
    ):
        command = commands.add_parser(name, help=purpose, description=f"{purpose.capitalize()}.")
        command.set_defaults(run_command=run_command)
        if name == "serve":
            bound = "how many bytes to keep for a client (default: %(default)s)"
            command.add_argument("--keep", metavar="BYTES", type=int, default=1 << 20, help=bound)
        if name == "say":
            command.add_argument("text", help="what to say")
        command.add_address("the server's")
    arguments = parser.parse_args()
    asyncio.run(arguments.run_command(arguments))


if __name__ == "__main__":
    run(main)
