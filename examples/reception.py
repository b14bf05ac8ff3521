"""How a server of many clients takes them in, also when the system is short of something."""

from __future__ import annotations

import contextlib
import errno
import sys
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
#: What can pass when other sockets, or other programs' sockets, have closed.
SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC})


def accept(server: StreamServer, poller: Poller, events: Events) -> Iterator[StreamSocket]:
    """The streams of the clients that wait, which the poller monitors from then on for these events.

    When there is no descriptor left for a new client, it waits until there is one, and nobody else notices: the library
    does not report the server again before it is worth another try.
    """
    try:
        # A limited number, so that newcomers don't keep the others waiting.
        for _ in range(BACKLOG):
            yield _monitored(server.accept_connection(), poller, events)
    except NoConnectionAvailableError:
        pass
    except SocketError as error:
        if error.errno not in SHORTAGES:
            raise


def _monitored(stream: StreamSocket, poller: Poller, events: Events) -> StreamSocket:
    try:
        poller.monitor_socket(stream, events)
    except SocketError:
        # The system watches no more: without being watched, the client would never be served.
        stream.close()
        raise
    return stream


class ManyClientsServer(Protocol):
    """What :func:`serve` runs."""

    def serve(self) -> None:
        """Serves for ever."""

    def close(self) -> None:
        """Closes every client's stream."""


def serve(description: str, make_server: Callable[[Poller], ManyClientsServer]) -> None:
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
        poller = stack.enter_context(make_poller())
        for listening in servers:
            poller.monitor_socket(listening, Events.CONNECTION_AVAILABLE)
        server = make_server(poller)
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
