"""Sends back what its clients send, one client at a time, to the servers that systemd has made for it.

systemd listens in its place, and starts it when the first client comes (systemd.socket(5)). Without systemd:

    systemd-socket-activate --listen=/tmp/echo python examples/activated_echo_server.py
"""

from __future__ import annotations

import sys

import bbipc
from bbipc import BbipcError, Events, NoConnectionAvailableError
from echo_server import echo
from programs import ArgumentParser, ProgramError, description, run


def main() -> None:
    ArgumentParser(description="Sends back what its clients send, to the servers that systemd has made.").parse_args()
    servers = bbipc.activated_servers()
    if not servers:
        raise ProgramError("there are no servers: systemd, or systemd-socket-activate, starts this program with some")
    with bbipc.make_poller() as poller:
        for server in servers:
            poller.monitor_socket(server, Events.CONNECTION_AVAILABLE)
        while True:
            for ready, _events in poller.wait_for_events():
                assert isinstance(ready, bbipc.StreamServer)
                try:
                    client = ready.accept_connection()
                except NoConnectionAvailableError:
                    continue  # it has gone again
                with client:
                    try:
                        echo(client)
                    except BbipcError as error:
                        print(f"gave up a client: {description(error)}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
