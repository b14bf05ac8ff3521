"""Sends a string to an echo server and prints what comes back: the client of the original system's echo example."""

from __future__ import annotations

import os

import bbipc
from bbipc import Events, StreamSocket, poll_socket
from programs import CONNECT_TIMEOUT_S, ArgumentParser, ProgramError, run, text_of

BUFFER_SIZE = 100_000
TIMEOUT_S = 10
ATTEMPTS = 3


def send_to_server(client: StreamSocket, data: bytes) -> bytes:
    """Sends the data, and returns as many bytes as the server answers, or more if it sends more."""
    reply = bytearray()
    written = 0
    attempts = 0
    while len(reply) < len(data):
        # Both at once: a server whose answers nobody takes would stop reading.
        events = Events.DATA_AVAILABLE | Events.END_OF_DATA
        if written < len(data):
            events |= Events.WRITE_SPACE
        happened = poll_socket(client, events, TIMEOUT_S)
        if happened.data_available:
            reply += client.read(BUFFER_SIZE)
        elif happened.end_of_data:
            raise ProgramError(f"the server closed the connection after {len(reply)} of {len(data)} bytes")
        if happened.write_space:
            written += client.write(data, written)
        attempts = 0 if happened else attempts + 1
        if attempts == ATTEMPTS:
            raise ProgramError(f"the echo server does not work: it answered {len(reply)} of {len(data)} bytes")
    return bytes(reply)


def main() -> None:
    parser = ArgumentParser(description="Sends a string to an echo server and prints what comes back.")
    parser.add_argument("string", nargs="?", default="Hello World", help="what to send (default: %(default)s)")
    parser.add_address("the server's")
    arguments = parser.parse_args()
    with bbipc.connect(arguments.address, timeout=CONNECT_TIMEOUT_S) as client:
        reply = send_to_server(client, os.fsencode(arguments.string))
    print(text_of(reply))


if __name__ == "__main__":
    run(main)
