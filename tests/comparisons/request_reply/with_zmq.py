"""examples/request_reply.py with pyzmq: a reply socket, and sockets that request.

A request reaches the daemon even if it starts after the client; only a missing file tells that there is none. One that
was killed leaves its file, as ours does, but a client takes that for a daemon that does not answer.
"""

from __future__ import annotations

import json
import os
from typing import Any

import zmq

from programs import ArgumentParser, ProgramError, run

TIMEOUT_S = 10.0


def serve(path: str) -> None:
    values: dict[str, Any] = {}
    # bind() would take the place of another daemon.
    if os.path.exists(path):
        raise ProgramError(f"cannot listen at {path}: it is there already")
    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        try:
            socket.bind(f"ipc://{path}")
        except zmq.ZMQError as error:
            raise ProgramError(f"cannot listen at {path}: {error}") from None
        print(f"listening on local:{path}", flush=True)
        try:
            while True:
                socket.send(reply_to(socket.recv(), values))
        finally:
            os.unlink(path)


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
    if not os.path.exists(path):
        raise ProgramError(f"no server listens at {path}")
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.connect(f"ipc://{path}")
        socket.send_json(request)
        if not socket.poll(TIMEOUT_S * 1000):
            raise ProgramError("the daemon does not answer")
        reply = socket.recv_json()
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
