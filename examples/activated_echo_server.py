"""Sends back what its clients send, one client at a time, to the servers that systemd has made for it.

systemd listens in its place, and starts it when the first client comes (systemd.socket(5)). Without systemd:

    systemd-socket-activate --listen=/tmp/echo python examples/activated_echo_server.py
"""

from __future__ import annotations

import bbipc
from bbipc import Events
from echo_server import serve_next
from programs import ArgumentParser, ProgramError, run


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
                serve_next(ready)


if __name__ == "__main__":
    run(main)
