"""Starts an echo server as a process of its own, sends it a string, and prints the reply: over TCP, then local."""

from __future__ import annotations

import os

import bbipc
from echo_client import send_to_server
from programs import CONNECT_TIMEOUT_S, ArgumentParser, private_local_address, run, server_process, text_of


def echo(string: str, address: str) -> None:
    """Prints what a server at the address makes of the string."""
    with server_process("echo_server.py", address) as (_, ready_address):
        with bbipc.connect(ready_address, timeout=CONNECT_TIMEOUT_S) as client:
            reply = send_to_server(client, os.fsencode(string))
        print(f"{ready_address} replied: {text_of(reply)}", flush=True)


def main() -> None:
    parser = ArgumentParser(
        description="Starts an echo server as a process of its own, sends it a string, and prints the reply:"
        " over TCP, then over a local stream."
    )
    parser.add_argument("string", nargs="?", default="Hello World", help="what to send (default: %(default)s)")
    string = parser.parse_args().string
    echo(string, "tcp:127.0.0.1:0")
    with private_local_address("echo") as address:
        echo(string, address)


if __name__ == "__main__":
    run(main)
