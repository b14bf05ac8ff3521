"""The addresses that the examples take, one form for each namespace: ``tcp:HOST:PORT`` and ``local:PATH``.

On Windows the latter is ``local:NAME``: its local servers are pipes, which have names but are no files. A path is as
good a name as any.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Union

import bbipc
from bbipc import Events, SocketError, StreamServer, StreamSocket
from programs import ProgramError

PORT_MAX = 65535


@dataclass(frozen=True)
class TcpAddress:
    """A port of a host, which is given by its IPv4 address or its name."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp:{self.host}:{self.port}"

    def listen(self, backlog: int = 128) -> bbipc.Ipv4TcpServer:
        """A server. Its clients' old connections do not keep it from starting again at once."""
        return bbipc.make_ipv4_tcp_server(self._host_address(), self.port, reuse_address=True, backlog=backlog)

    def connect(self) -> bbipc.Ipv4TcpStream:
        """A stream whose connection may still be under way."""
        return bbipc.connect_to_ipv4_tcp_server(self._host_address(), self.port)

    def _host_address(self) -> str:
        try:
            host_address = bbipc.resolve_ipv4_address(self.host)
        except ValueError as error:
            raise ProgramError(str(error)) from None
        if host_address is None:
            raise ProgramError(f"the host {self.host!r} has no IPv4 address")
        return host_address


@dataclass(frozen=True)
class LocalAddress:
    """A pathname of this machine, or a pipe's name."""

    path: str

    def __str__(self) -> str:
        return f"local:{self.path}"

    def listen(self, backlog: int = 128) -> bbipc.LocalServer:
        """A server."""
        return bbipc.make_local_server(self.path, backlog=backlog)

    def connect(self) -> bbipc.LocalStream:
        """A stream."""
        return bbipc.connect_to_local_server(self.path)


Address = Union[TcpAddress, LocalAddress]

#: What a user can write.
ADDRESS_FORMS = "tcp:HOST:PORT or local:NAME" if sys.platform == "win32" else "tcp:HOST:PORT or local:PATH"

#: Where the servers listen, and the clients connect to, if they are not told.
DEFAULT_ADDRESS = TcpAddress(bbipc.IPV4_LOOPBACK, 12345)


def parse_address(text: str) -> Address:
    """The address that a user wrote; a ``type`` for argparse."""
    namespace, _, rest = text.partition(":")
    if namespace == "tcp":
        host, _, port = rest.rpartition(":")
        if host and port.isascii() and port.isdigit() and int(port) <= PORT_MAX:
            return TcpAddress(host, int(port))
    elif namespace == "local" and rest:
        return LocalAddress(rest)
    raise argparse.ArgumentTypeError(f"{text!r} is no address: write {ADDRESS_FORMS}")


def address_of(server: StreamServer) -> Address:
    """Where a server really listens: the system may have chosen its port."""
    if isinstance(server, bbipc.Ipv4TcpServer):
        return TcpAddress(server.host_address, server.port)
    assert isinstance(server, bbipc.LocalServer)
    return LocalAddress(os.fsdecode(server.local_pathname))


def connect(address: Address, timeout: float = 10.0) -> StreamSocket:
    """A stream whose connection is established within the timeout, in seconds."""
    stream = address.connect()
    if bbipc.poll_socket(stream, Events.DETERMINED, timeout):
        error = stream.connection_error()
        if error is None:
            return stream
        reason = reason_of(error)
    else:
        reason = f"no answer in {timeout:g} seconds"
    stream.close()
    raise ProgramError(f"cannot connect to {address}: {reason}")


def reason_of(error: SocketError) -> str:
    """What the system has to say of its own code."""
    if sys.platform == "win32":
        return ctypes.FormatError(error.winerror).rstrip(" .")
    return os.strerror(error.errno)


@contextlib.contextmanager
def private_local_address(name: str) -> Iterator[str]:
    """A local address that nobody else has."""
    if sys.platform == "win32":
        # A pipe lies in no directory that could keep others out: its server does that.
        yield f"local:{name}-{secrets.token_hex(8)}"
    else:
        with tempfile.TemporaryDirectory() as directory:
            yield f"local:{directory}/{name}"
