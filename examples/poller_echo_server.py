"""Sends back what its clients send, thousands of them at once: one thread, one poller.

What such a server owes its clients. The last point is in reception.py:

- Nothing is lost. What the system does not take at once is kept, per client, until it does.
- No client can fill the memory: while too much is kept for it, nothing more is read from it.
- A client that has finished sending (``nc -N``) still gets its whole echo.
- A client that dies costs nobody else anything.
- When there is no descriptor left for a new client, it waits until there is one, and so does the server.
"""

from __future__ import annotations

from bbipc import Events, Poller, SocketError, StreamServer, StreamSocket
from programs import run
from reception import accept, serve

#: How much is read from one client before it is the next one's turn.
READ_SIZE = 65536
#: How much may be kept for one client.
KEPT_MAX = 262144
#: What the server has to hear of a client at first.
NEWCOMER_EVENTS = Events.DATA_AVAILABLE | Events.END_OF_DATA | Events.CONNECTION_SEVERED


class Client:
    """A stream, and what still has to be sent back to it."""

    def __init__(self, stream: StreamSocket) -> None:
        self.stream = stream
        self.kept = bytearray()
        #: Whether everything that it will ever send has been read.
        self.finished = False
        self.monitored = NEWCOMER_EVENTS

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

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._clients: dict[StreamSocket, Client] = {}
        self._buffer = bytearray(READ_SIZE)

    def serve(self) -> None:
        """Serves for ever."""
        while True:
            for socket, events in self._poller.wait_for_events():
                if isinstance(socket, StreamServer):
                    self._accept(socket)
                elif isinstance(socket, StreamSocket):
                    self._attend(self._clients[socket], events)

    def close(self) -> None:
        """Closes every client's stream."""
        for client in list(self._clients.values()):
            self._drop(client)

    def _accept(self, server: StreamServer) -> None:
        for stream in accept(server, self._poller, NEWCOMER_EVENTS):
            self._clients[stream] = Client(stream)

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


def main() -> None:
    serve("Sends back what its clients send, thousands of them at once.", EchoServer)


if __name__ == "__main__":
    run(main)
