"""Passes on what each client says to all clients, thousands of them: the core of a chat, or of a feed of news.

- All clients hear the same messages in the same order, also what they have said themselves.
- Nobody is held up by a client that does not read. Messages that it has no room for are kept for it, up to a bound; who
  is over the bound is dropped.
- When there is no descriptor left for a new client, it waits until another has gone.

``serve`` is the server, ``listen`` prints what is said, and ``say`` says something.
"""

from __future__ import annotations

import argparse
import os
import sys

import bbipc
from bbipc import Events, NoConnectionAvailableError, Poller, SocketError, StreamServer, StreamSocket
from programs import ArgumentParser, run, text_of
from reception import BACKLOG, allow_many_descriptors

#: How long a message can be, in bytes.
MESSAGE_MAX = 65536
#: How long it may take the server to pass on what is said.
TIMEOUT_S = 10.0
#: What the server has to hear of a client for which nothing is kept.
READ = Events.MESSAGE_AVAILABLE | Events.END_OF_DATA
#: And of one for which something is. Whoever waits for room alone would never hear that the client died.
READ_AND_WRITE = READ | Events.MESSAGE_SPACE | Events.CONNECTION_SEVERED


def serve(server: StreamServer, poller: Poller, kept_max: int) -> None:
    """Serves for ever."""
    # The clients, each with the messages that it had no room for.
    clients: dict[StreamSocket, list[bytes]] = {}
    poller.monitor_socket(server, Events.CONNECTION_AVAILABLE)

    def drop(client: StreamSocket) -> None:
        client.abort()
        del clients[client]

    while True:
        said: list[bytes] = []
        output: list[tuple[StreamSocket, bytes]] = []
        for socket, events, messages in poller.receive_messages():
            said += messages
            if not isinstance(socket, StreamSocket):
                try:
                    client = server.accept_connection()
                    client.max_message_size = MESSAGE_MAX
                    poller.monitor_socket(client, READ)
                    clients[client] = []
                except (NoConnectionAvailableError, SocketError):
                    pass  # it has gone again; or no descriptor is left, and it waits until there is one
            elif events.message_space:
                output += [(socket, message) for message in clients[socket]]
                clients[socket].clear()
                poller.set_monitored_events(socket, READ)
            elif not messages:
                drop(socket)
        for client, kept in clients.items():
            if kept:
                kept += said
            else:
                output += [(client, message) for message in said]
        for place, _ in bbipc.send_messages(output):
            client, message = output[place]
            clients[client].append(message)
            poller.set_monitored_events(client, READ_AND_WRITE)
        for client, kept in list(clients.items()):
            if len(kept) > kept_max:
                print("dropped a client that does not read", file=sys.stderr, flush=True)
                drop(client)


def run_server(arguments: argparse.Namespace) -> None:
    allow_many_descriptors()
    with bbipc.listen(arguments.address, backlog=BACKLOG) as server, bbipc.make_poller() as poller:
        print(f"listening on {server.address}", flush=True)
        try:
            serve(server, poller, arguments.keep)
        finally:
            for socket in poller.monitored_sockets():
                socket.close()


def run_listener(arguments: argparse.Namespace) -> None:
    with bbipc.connect(arguments.address) as stream:
        for message in stream.messages():
            print(text_of(message), flush=True)


def run_speaker(arguments: argparse.Namespace) -> None:
    said = os.fsencode(arguments.text)
    with bbipc.connect(arguments.address) as stream:
        stream.send_message(said, TIMEOUT_S)
        # Only what has come back has been passed on.
        while stream.receive_message(TIMEOUT_S) != said:
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
            bound = "how many to keep for a client (default: %(default)s)"
            command.add_argument("--keep", metavar="MESSAGES", type=int, default=100, help=bound)
        if name == "say":
            command.add_argument("text", help="what to say")
        command.add_address("the server's")
    arguments = parser.parse_args()
    arguments.run_command(arguments)


if __name__ == "__main__":
    run(main)
