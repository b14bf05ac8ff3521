"""A daemon that keeps values by their names, and the command line to ask it: JSON in messages.

``serve`` is the daemon. ``set NAME VALUE``, ``get NAME`` and ``list`` send it a request, and print its reply.

- The daemon serves any number of clients with one thread. Each may ask as often as it likes.
- Nobody is held up by a client that stops in the middle of a request. One that does not read its replies is dropped.
- What is not a request gets an error for a reply.
- A client learns at once that there is no daemon, and in ten seconds that it does not answer.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

import bbipc
from bbipc import Events, SocketError, StreamSocket
from programs import ADDRESS_FORMS, ArgumentParser, ProgramError, parse_address, run

#: How long the daemon may take to answer.
TIMEOUT_S = 10.0
#: What the daemon has to hear of a client.
READ = Events.MESSAGE_AVAILABLE | Events.END_OF_DATA


def serve(address: str) -> None:
    """Answers requests for ever."""
    values: dict[str, Any] = {}
    with bbipc.listen(address) as server, bbipc.make_poller() as poller:
        poller.monitor_socket(server, Events.CONNECTION_AVAILABLE)
        print(f"listening on {server.address}", flush=True)
        try:
            while True:
                for socket, _, requests in poller.receive_messages():
                    if not isinstance(socket, StreamSocket):
                        # It may have gone again, or there is no descriptor for it yet.
                        with contextlib.suppress(SocketError):
                            poller.monitor_socket(server.accept_connection(), READ)
                    elif not requests or bbipc.send_messages([(socket, reply_to(one, values)) for one in requests]):
                        socket.abort()
        finally:
            for socket in poller.monitored_sockets():
                socket.close()


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


def ask(address: str, request: dict[str, str]) -> Any:
    """The value that the daemon replies with."""
    with bbipc.connect(address) as stream:
        stream.send_message(json.dumps(request).encode(), TIMEOUT_S)
        reply = json.loads(stream.receive_message(TIMEOUT_S))
    if "error" in reply:
        raise ProgramError(reply["error"])
    return reply["value"]


def main() -> None:
    parser = ArgumentParser(description="Keeps values by their names in a daemon.")
    parser.add_argument("address", type=parse_address, help=f"where the daemon listens: {ADDRESS_FORMS}")
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
        serve(arguments.address)
    else:
        print(json.dumps(ask(arguments.address, vars(arguments))))


if __name__ == "__main__":
    run(main)
