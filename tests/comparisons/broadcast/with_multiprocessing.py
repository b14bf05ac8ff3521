"""examples/broadcast.py with multiprocessing.connection: two threads and a queue for each client.

For as many clients as the system has room for threads. A client that stops in the middle of a message keeps a thread.
Only for systems with Unix sockets: a thread that waits for a pipe of Windows can't be told to give up.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
import threading
from multiprocessing.connection import Client, Connection, Listener
from queue import Full, Queue

from bbipc import Address
from programs import ArgumentParser, ProgramError, run, text_of
from reception import BACKLOG, allow_many_descriptors

MESSAGE_MAX = 65536
TIMEOUT_S = 10.0


class Broadcast:
    def __init__(self, kept_max: int) -> None:
        self._kept_max = kept_max
        self._queues: dict[Connection, Queue[bytes | None]] = {}
        self._lock = threading.Lock()

    def serve(self, listener: Listener) -> None:
        while True:
            with contextlib.suppress(ConnectionError):
                client = listener.accept()
                queue = Queue(self._kept_max)
                with self._lock:
                    self._queues[client] = queue
                threading.Thread(target=self._read, args=(client, queue), daemon=True).start()

    def _read(self, client: Connection, queue: Queue[bytes | None]) -> None:
        writer = threading.Thread(target=self._write, args=(client, queue), daemon=True)
        writer.start()
        with client:
            with contextlib.suppress(EOFError, OSError):
                while True:
                    self._pass_on(client.recv_bytes(MESSAGE_MAX))
            with self._lock:
                self._queues.pop(client, None)
            disconnect(client)
            # It waits for a message, or finds that it can't send one.
            with contextlib.suppress(Full):
                queue.put_nowait(None)
            writer.join()

    def _write(self, client: Connection, queue: Queue[bytes | None]) -> None:
        with contextlib.suppress(OSError):
            while (message := queue.get()) is not None:
                client.send_bytes(message)

    def _pass_on(self, message: bytes) -> None:
        with self._lock:
            for client, queue in list(self._queues.items()):
                try:
                    queue.put_nowait(message)
                except Full:  # noqa: PERF203
                    print("dropped a client that does not read", file=sys.stderr, flush=True)
                    del self._queues[client]
                    disconnect(client)


def disconnect(client: Connection) -> None:
    """Ends what threads wait for. To close it would not."""
    with socket.socket(fileno=os.dup(client.fileno())) as same, contextlib.suppress(OSError):
        same.shutdown(socket.SHUT_RDWR)


def name_of(address: Address) -> tuple[str, int] | str:
    return (address.host, address.port) if address.pathname is None else address.pathname


def run_server(arguments: argparse.Namespace) -> None:
    allow_many_descriptors()
    with Listener(name_of(arguments.address), backlog=BACKLOG) as listener:
        name = listener.address
        print("listening on", f"tcp:{name[0]}:{name[1]}" if isinstance(name, tuple) else f"local:{name}", flush=True)
        Broadcast(arguments.keep).serve(listener)


def run_listener(arguments: argparse.Namespace) -> None:
    with Client(name_of(arguments.address)) as client, contextlib.suppress(EOFError):
        while True:
            print(text_of(client.recv_bytes()), flush=True)


def run_speaker(arguments: argparse.Namespace) -> None:
    said = os.fsencode(arguments.text)
    with Client(name_of(arguments.address)) as client:
        client.send_bytes(said)
        # Only what has come back has been passed on.
        while client.poll(TIMEOUT_S):
            if client.recv_bytes() == said:
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
