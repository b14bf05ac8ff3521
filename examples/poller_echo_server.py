"""Sends back what its clients send, thousands of them at once: one thread, one poller.

What such a server owes its clients, and where it is done below:

- Nothing is lost. What the system does not take at once is kept, per client, until it does.
- No client can fill the memory: while too much is kept for it, nothing more is read from it.
- A client that has finished sending (``nc -N``) still gets all that is its.
- A client that dies costs nobody else anything.
- When there is no descriptor left for a new client, it waits until there is one, and so does the server.
"""

from __future__ import annotations

import contextlib
import errno
import sys
import time

from addresses import ADDRESS_FORMS, DEFAULT_ADDRESS, address_of, parse_address
from bbipc import Events, NoConnectionAvailableError, Poller, SocketError, StreamServer, StreamSocket, make_poller
from programs import ArgumentParser, run

#: How much is read from one client before it is the next one's turn.
READ_SIZE = 65536
#: How much may be kept for one client.
KEPT_MAX = 262144
#: Clients that the system keeps for each server until they are accepted.
BACKLOG = 4096
#: How long to wait, at the most, before trying again to accept after the system refused to.
RETRY_S = 1.0
#: What can pass when other sockets, or other programs' sockets, have closed.
SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC})


class Client:
    """A stream, and what still has to be sent back to it."""

    def __init__(self, stream: StreamSocket) -> None:
        self.stream = stream
        self.kept = bytearray()
        #: Whether everything that it will ever send has been read.
        self.finished = False
        self.monitored = self.wanted()

    def wanted(self) -> Events:
        """What the server has to hear of now."""
        # Whoever waits for room alone would never hear that the client died.
        events = Events.CONNECTION_SEVERED
        if self.kept:
            events |= Events.WRITE_SPACE
        if not self.finished and len(self.kept) < KEPT_MAX:
            events |= Events.DATA_AVAILABLE | Events.END_OF_DATA
        return events


class EchoServer:
    """Serves the clients of any number of servers, of every namespace."""

    def __init__(self, poller: Poller, servers: list[StreamServer]) -> None:
        self._poller = poller
        self._servers = servers
        self._clients: dict[StreamSocket, Client] = {}
        self._buffer = bytearray(READ_SIZE)
        self._accept_again_at: float | None = None
        for server in servers:
            poller.monitor_socket(server, Events.CONNECTION_AVAILABLE)

    def serve(self) -> None:
        """Serves for ever."""
        while True:
            for socket, events in self._poller.wait_for_events(self._timeout()):
                if isinstance(socket, StreamServer):
                    self._accept(socket)
                elif isinstance(socket, StreamSocket):
                    self._attend(self._clients[socket], events)

    def close(self) -> None:
        """Closes every client's stream."""
        for client in list(self._clients.values()):
            self._drop(client)

    def _accept(self, server: StreamServer) -> None:
        try:
            # Not without end, so that newcomers don't keep the others waiting.
            for _ in range(BACKLOG):
                self._welcome(Client(server.accept_connection()))
        except NoConnectionAvailableError:
            pass
        except SocketError as error:
            if error.errno not in SHORTAGES:
                raise
            self._pause_accepting()

    def _welcome(self, client: Client) -> None:
        self._clients[client.stream] = client
        try:
            self._poller.monitor_socket(client.stream, client.monitored)
        except SocketError:
            # The system watches no more: without being watched, the client would never be served.
            self._drop(client)
            raise

    def _pause_accepting(self) -> None:
        # The newcomers go on waiting, and every wait would report them.
        for server in self._servers:
            self._poller.set_monitored_events(server, Events())
        self._accept_again_at = time.monotonic() + RETRY_S

    def _resume_accepting(self) -> None:
        for server in self._servers:
            self._poller.set_monitored_events(server, Events.CONNECTION_AVAILABLE)
        self._accept_again_at = None

    def _timeout(self) -> float | None:
        if self._accept_again_at is None:
            return None
        remaining = self._accept_again_at - time.monotonic()
        if remaining > 0:
            return remaining
        self._resume_accepting()
        return None

    def _attend(self, client: Client, events: Events) -> None:
        try:
            if events.write_space:
                written = client.stream.write(client.kept)
                del client.kept[:written]
            if events.data_available:
                self._echo(client)
            elif events.end_of_data:
                client.finished = True
        except SocketError:
            self._drop(client)
            return
        if events.connection_severed or (client.finished and not client.kept):
            self._drop(client)
            return
        wanted = client.wanted()
        if wanted != client.monitored:
            self._poller.set_monitored_events(client.stream, wanted)
            client.monitored = wanted

    def _echo(self, client: Client) -> None:
        size = client.stream.read_into(self._buffer)
        # Straight back, unless older bytes go first. Only what the system does not take has to be kept.
        written = 0 if client.kept else client.stream.write(self._buffer, 0, size)
        client.kept += memoryview(self._buffer)[written:size]

    def _drop(self, client: Client) -> None:
        # Closing takes it out of the poller too.
        client.stream.close()
        del self._clients[client.stream]
        if self._accept_again_at is not None:
            # Its descriptor may be what a newcomer waits for.
            self._resume_accepting()


def allow_many_descriptors() -> None:
    """Raises this process's limit of descriptors as far as the system lets it."""
    if sys.platform == "win32":  # it has no such limit
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    parser = ArgumentParser(description="Sends back what its clients send, thousands of them at once.")
    parser.add_argument(
        "addresses",
        metavar="address",
        nargs="*",
        type=parse_address,
        default=[DEFAULT_ADDRESS],
        help=f"where to listen: {ADDRESS_FORMS}, where port 0 is any that is free (default: {DEFAULT_ADDRESS})",
    )
    arguments = parser.parse_args()
    allow_many_descriptors()
    with contextlib.ExitStack() as stack:
        servers: list[StreamServer] = [stack.enter_context(address.listen(BACKLOG)) for address in arguments.addresses]
        echo_server = EchoServer(stack.enter_context(make_poller()), servers)
        stack.callback(echo_server.close)
        for server in servers:
            print(f"listening on {address_of(server)}", flush=True)
        echo_server.serve()


if __name__ == "__main__":
    run(main)
