"""examples/broadcast.py with pyzmq: a router, which listeners say hello to.

Who is over the bound is sent nothing any more, but is not disconnected, and does not learn of it. A client does not
learn that there is no server, or that it has gone; one that has gone is forgotten when something is to be sent to it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zmq

from bbipc import Address
from programs import ArgumentParser, ProgramError, run, text_of
from reception import BACKLOG, allow_many_descriptors

MESSAGE_MAX = 65536
TIMEOUT_S = 10.0
HELLO = b""


def serve(server: zmq.Socket) -> None:
    clients: set[bytes] = set()
    while True:
        sender, message = server.recv_multipart()
        clients.add(sender)
        if message == HELLO:
            continue
        for client in list(clients):
            try:
                server.send_multipart([client, message], zmq.DONTWAIT)
            except zmq.ZMQError as error:  # noqa: PERF203
                clients.remove(client)
                if error.errno == zmq.EAGAIN:
                    print("dropped a client that does not read", file=sys.stderr, flush=True)


def run_server(arguments: argparse.Namespace) -> None:
    allow_many_descriptors()
    address = arguments.address
    # It would take the place of another server.
    if address.pathname is not None and os.path.exists(address.pathname):
        raise ProgramError(f"cannot listen at {address.pathname}: it is there already")
    with zmq.Context() as context, context.socket(zmq.ROUTER) as server:
        context.max_sockets = 65535
        server.router_mandatory = True
        server.maxmsgsize = MESSAGE_MAX
        server.sndhwm = arguments.keep
        server.backlog = BACKLOG
        server.linger = 0
        try:
            server.bind(endpoint(address))
        except zmq.ZMQError as error:
            raise ProgramError(f"cannot listen at {address}: {error}") from None
        if address.pathname is None:
            address = Address(server.last_endpoint.decode().replace("://", ":"))
        print(f"listening on {address}", flush=True)
        try:
            serve(server)
        finally:
            if address.pathname is not None:
                Path(address.pathname).unlink(missing_ok=True)


def endpoint(address: Address) -> str:
    if address.pathname is None:
        return f"tcp://{address.host}:{address.port or '*'}"
    return f"ipc://{address.pathname}"


@contextmanager
def connect(address: Address) -> Iterator[zmq.Socket]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as client:
        client.linger = 0
        client.connect(endpoint(address))
        yield client


def run_listener(arguments: argparse.Namespace) -> None:
    with connect(arguments.address) as client:
        client.send(HELLO)
        while True:
            print(text_of(client.recv()), flush=True)


def run_speaker(arguments: argparse.Namespace) -> None:
    said = os.fsencode(arguments.text)
    with connect(arguments.address) as client:
        client.send(said)
        # Only what has come back has been passed on.
        while client.poll(TIMEOUT_S * 1000):
            if client.recv() == said:
                return
    raise ProgramError("the server does not answer")


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
            bound = "how many to keep for a client (default: %(default)s)"
            command.add_argument("--keep", metavar="MESSAGES", type=int, default=100, help=bound)
        if name == "say":
            command.add_argument("text", help="what to say")
        command.add_address("the server's")
    arguments = parser.parse_args()
    arguments.run_command(arguments)


if __name__ == "__main__":
    run(main)
