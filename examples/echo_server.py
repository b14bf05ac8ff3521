"""Sends back what its clients send, one client at a time.

The server of the original system's echo example. It waits with poll_socket alone; poller_echo_server.py shows how one
thread serves thousands of clients at once.
"""

from __future__ import annotations

import sys

import bbipc
from bbipc import BbipcError, Events, NoConnectionAvailableError, StreamServer, StreamSocket, poll_socket
from programs import ArgumentParser, description, run

BUFFER_SIZE = 10_000
TIMEOUT_S = 10
ATTEMPTS = 3


def run_server(server: StreamServer) -> None:
    """Serves one client after the other, for ever."""
    while True:
        if poll_socket(server, Events.CONNECTION_AVAILABLE, TIMEOUT_S):
            serve_next(server)


def serve_next(server: StreamServer) -> None:
    """Serves the client that has waited longest."""
    try:
        client = server.accept_connection()
    except NoConnectionAvailableError:
        return  # it has gone again
    with client:
        try:
            echo(client)
        except BbipcError as error:
            print(f"gave up a client: {description(error)}", file=sys.stderr)


def echo(client: StreamSocket) -> None:
    """Serves a client until it has finished sending, or nothing came in three attempts."""
    buffer = bytearray(BUFFER_SIZE)
    attempts = 0
    while attempts < ATTEMPTS:
        events = poll_socket(client, Events.DATA_AVAILABLE | Events.END_OF_DATA, TIMEOUT_S)
        if events.data_available:
            size = client.read_into(buffer)
            client.write_all(memoryview(buffer)[:size], ATTEMPTS * TIMEOUT_S)
            attempts = 0
        elif events.end_of_data:
            return
        else:
            attempts += 1


def main() -> None:
    parser = ArgumentParser(description="Sends back what its clients send, one client at a time.")
    parser.add_address("where to listen, where port 0 is any that is free")
    arguments = parser.parse_args()
    with bbipc.listen(arguments.address) as server:
        print(f"listening on {server.address}", flush=True)
        run_server(server)


if __name__ == "__main__":
    run(main)
