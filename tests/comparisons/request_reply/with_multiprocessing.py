"""examples/request_reply.py with multiprocessing.connection: a thread for each client.

A thread waits for a client that stops in the middle of a request, or does not read its replies, as long as it likes.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

from programs import ArgumentParser, ProgramError, run

TIMEOUT_S = 10.0


def address_of(path: str) -> str:
    return rf"\\.\pipe\{path}" if sys.platform == "win32" else path


def serve(path: str) -> None:
    values: dict[str, Any] = {}
    with Listener(address_of(path)) as listener:
        print(f"listening on local:{path}", flush=True)
        while True:
            threading.Thread(target=serve_client, args=(listener.accept(), values), daemon=True).start()


def serve_client(client: Connection, values: dict[str, Any]) -> None:
    with client, contextlib.suppress(EOFError, OSError):
        while True:
            client.send_bytes(reply_to(client.recv_bytes(), values))


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


def ask(path: str, request: dict[str, str]) -> Any:
    with Client(address_of(path)) as daemon:
        daemon.send_bytes(json.dumps(request).encode())
        if not daemon.poll(TIMEOUT_S):
            raise ProgramError("the daemon does not answer")
        reply = json.loads(daemon.recv_bytes())
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
        serve(arguments.path)
    else:
        print(json.dumps(ask(arguments.path, vars(arguments))))


if __name__ == "__main__":
    run(main)
