"""Sends back what its clients send, thousands of them at once, in batches: one thread, one poller.

In each round, one call waits and reads from every client that has sent something, and one call writes to all of them.
It owes its clients the same as poller_echo_server.py:

- Nothing is lost. What the system does not take at once is kept, per client, until it does.
- No client can fill the memory: while something is kept for it, nothing more is read from it.
- A client that has finished sending (``nc -N``) still gets its whole echo.
- A client that dies costs nobody else anything.
- When there is no descriptor left for a new client, it waits until there is one, and so does the server.
"""

from __future__ import annotations

from bbipc import Events, Poller, StreamServer, StreamSocket, write_many
from programs import run
from reception import accept, serve

#: How much is read from one client in a round, and the most that is ever kept for it.
READ_SIZE = 65536
#: What the server has to hear of a client for which nothing is kept.
READ = Events.DATA_AVAILABLE | Events.END_OF_DATA
#: And of one for which something is. Whoever waits for room alone would never hear that the client died.
WRITE = Events.WRITE_SPACE | Events.CONNECTION_SEVERED


class BatchedEchoServer:
    """Serves the clients of any number of servers, of every namespace."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        #: The clients, each with what still has to be sent back to it.
        self._clients: dict[StreamSocket, bytes] = {}

    def serve(self) -> None:
        """Serves for ever."""
        while True:
            self._write(self._read())

    def close(self) -> None:
        """Closes every client's stream."""
        for stream in list(self._clients):
            self._drop(stream)

    def _read(self) -> list[tuple[StreamSocket, bytes]]:
        """What is to be written in this round."""
        output = []
        for socket, events, data in self._poller.receive(max_bytes=READ_SIZE):
            if isinstance(socket, StreamServer):
                for stream in accept(socket, self._poller, READ):
                    self._clients[stream] = b""
            elif isinstance(socket, StreamSocket):
                if data:
                    output.append((socket, data))
                elif events.write_space:
                    output.append((socket, self._clients[socket]))
                    self._keep(socket, b"", READ)
                elif events.end_of_data or events.connection_severed:
                    self._drop(socket)
                # Otherwise the read failed, and the next round tells its end.
        return output

    def _write(self, output: list[tuple[StreamSocket, bytes]]) -> None:
        # Most of the time the system takes everything, and there is nothing to go through.
        for place, written in write_many(output):
            stream, data = output[place]
            if isinstance(written, int):
                self._keep(stream, data[written:], WRITE)
            else:
                self._drop(stream)

    def _keep(self, stream: StreamSocket, data: bytes, events: Events) -> None:
        self._clients[stream] = data
        self._poller.set_monitored_events(stream, events)

    def _drop(self, stream: StreamSocket) -> None:
        # Closing takes it out of the poller too.
        stream.close()
        del self._clients[stream]


def main() -> None:
    serve("Sends back what its clients send, thousands of them at once, in batches.", BatchedEchoServer)


if __name__ == "__main__":
    run(main)
