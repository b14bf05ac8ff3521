"""How a server of many clients takes them in, also when the system is short of something."""

from __future__ import annotations

import contextlib
import errno
import sys
import time
from collections.abc import Iterator
from typing import Callable, Protocol

from bbipc import (
    Events,
    NoConnectionAvailableError,
    Poller,
    SocketError,
    StreamServer,
    StreamSocket,
    listen,
    make_poller,
)
from programs import ADDRESS_FORMS, DEFAULT_ADDRESS, ArgumentParser, parse_address

#: Clients that the system keeps for each server until they are accepted.
BACKLOG = 4096
#: How long to wait, at the most, before trying again to accept after the system refused to.
RETRY_S = 1.0
#: What can pass when other sockets, or other programs' sockets, have closed.
SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC})


class Reception:
    """Accepts the clients of any number of servers, of every namespace, for a poller.

    When there is no descriptor left for a new client, it waits until there is one, and nobody else notices.
    """

    def __init__(self, poller: Poller, servers: list[StreamServer]) -> None:
        self._poller = poller
        self._servers = servers
        self._accept_again_at: float | None = None
        for server in servers:
            poller.monitor_socket(server, Events.CONNECTION_AVAILABLE)

    def accept(self, server: StreamServer, events: Events) -> Iterator[StreamSocket]:
        """The streams of the clients that wait, which the poller monitors from then on for these events."""
        try:
            # A limited number, so that newcomers don't keep the others waiting.
            for _ in range(BACKLOG):
                yield self._monitored(server.accept_connection(), events)
        except NoConnectionAvailableError:
            pass
        except SocketError as error:
            if error.errno not in SHORTAGES:
                raise
            self._pause()

    def timeout(self) -> float | None:
        """How long the poller may wait, in seconds, before this is asked again."""
        if self._accept_again_at is None:
            return None
        remaining = self._accept_again_at - time.monotonic()
        if remaining > 0:
            return remaining
        self._resume()
        return None

    def client_left(self) -> None:
        """Has to be called when a client's stream has been closed."""
        if self._accept_again_at is not None:
            # Its descriptor may be what a newcomer waits for.
            self._resume()

    def _monitored(self, stream: StreamSocket, events: Events) -> StreamSocket:
        try:
            self._poller.monitor_socket(stream, events)
        except SocketError:
            # The system watches no more: without being watched, the client would never be served.
            stream.close()
            raise
        return stream

    def _pause(self) -> None:
        # The newcomers go on waiting, and every wait would report them.
        for server in self._servers:
            self._poller.set_monitored_events(server, Events())
        self._accept_again_at = time.monotonic() + RETRY_S

    def _resume(self) -> None:
        for server in self._servers:
            self._poller.set_monitored_events(server, Events.CONNECTION_AVAILABLE)
        self._accept_again_at = None


class ManyClientsServer(Protocol):
    """What :func:`serve` runs."""

    def serve(self) -> None:
        """Serves for ever."""

    def close(self) -> None:
        """Closes every client's stream."""


def serve(description: str, make_server: Callable[[Poller, list[StreamServer]], ManyClientsServer]) -> None:
    """Listens where the program's arguments say, and serves."""
    parser = ArgumentParser(description=description)
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
        servers = [stack.enter_context(listen(address, backlog=BACKLOG)) for address in arguments.addresses]
        server = make_server(stack.enter_context(make_poller()), servers)
        stack.callback(server.close)
        for listening in servers:
            print(f"listening on {listening.address}", flush=True)
        server.serve()


def allow_many_descriptors() -> None:
    """Raises this process's limit of descriptors as far as the system lets it."""
    if sys.platform == "win32":  # it has no such limit
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
