"""examples/request_reply.py with asyncio: its streams, and a line of JSON for each message. Not for Windows.

A client that does not read its replies is not dropped; no more of its requests are read.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from asyncio import StreamReader, StreamWriter
from pathlib import Path
from typing import Any

from programs import ArgumentParser, ProgramError, run

TIMEOUT_S = 10.0
#: asyncio wants to know how long a line can be.
LINE_MAX = 1 << 24


async def serve(path: str) -> None:
    values: dict[str, Any] = {}

    async def serve_client(reader: StreamReader, writer: StreamWriter) -> None:
        # Too long a line is a ValueError.
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, ValueError, asyncio.CancelledError):
            while line := await reader.readline():
                writer.write(reply_to(line, values) + b"\n")
                await writer.drain()

    # It would take the place of another daemon.
    if os.path.exists(path):
        raise ProgramError(f"cannot listen at {path}: it is there already")
    server = await asyncio.start_unix_server(serve_client, path, limit=LINE_MAX)
    print(f"listening on local:{path}", flush=True)
    try:
        await server.serve_forever()
    finally:
        Path(path).unlink(missing_ok=True)


def reply_to(request: bytes, values: dict[str, Any]) -> bytes:
    try:
        return json.dumps({"value": execute(json.loads(request), values)}).encode()
    except Exception as error:
        return json.dumps({"error": f"{type(error).__name__}: {error}"}).encode()


def execute(request: dict[str, str], values: dict[str, str]) -> Any:
    if request["do"] == "list":
        return sorted(values)
    if request["do"] == "set":
        values[request["name"]] = request["value"]
    return values[request["name"]]


async def ask(path: str, request: dict[str, str]) -> Any:
    reader, writer = await asyncio.open_unix_connection(path, limit=LINE_MAX)
    with contextlib.closing(writer):
        writer.write(json.dumps(request).encode() + b"\n")
        reply = json.loads(await asyncio.wait_for(reader.readline(), TIMEOUT_S))
    if "error" in reply:
        raise ProgramError(reply["error"])
    return reply["value"]


def main() -> None:
    parser = ArgumentParser(description="Keeps values by their names in a daemon.")
    parser.add_argument("path", help="where the daemon listens")
    commands = parser.add_subparsers(required=True, metavar="command", dest="do")
    for name, operands, purpose in (
        ("serve", [], "be the daemon"),
        ("set", ["name", "value"], "give a value a name"),
        ("get", ["name"], "print the value of that name"),
        ("list", [], "print all names"),
    ):
        command = commands.add_parser(name, help=purpose, description=f"{purpose.capitalize()}.")
        for operand in operands:
            command.add_argument(operand)
    arguments = parser.parse_args()
    if arguments.do == "serve":
        asyncio.run(serve(arguments.path))
    else:
        print(json.dumps(asyncio.run(ask(arguments.path, vars(arguments)))))


if __name__ == "__main__":
    run(main)
