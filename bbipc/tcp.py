"""What the namespaces of TCP have in common: ports and backlogs, the addresses of sockets, advice, names of hosts."""

from __future__ import annotations

import errno
import sys
from operator import index

from .addresses import PORT_MAX, Address
from .errors import SocketError
from .hosts import endpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_BACKLOG_MAX = 2**31 - 1


def _integer(value: int, name: str) -> int:
    try:
        return index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, not {type(value).__name__}") from None


def check_port(port: int, name: str) -> int:
    """The port as the library takes it."""
    number = _integer(port, name)
    if not 0 <= number <= PORT_MAX:
        raise ValueError(f"{name} must be 0 to {PORT_MAX}, not {number}")
    return number


def check_backlog(backlog: int) -> int:
    """The backlog as the library takes it, of local servers too."""
    number = _integer(backlog, "backlog")
    if not 0 <= number <= _BACKLOG_MAX:
        raise ValueError(f"backlog must be 0 to {_BACKLOG_MAX}, not {number}")
    return number


def check_local(local_port: int | None, *, reuse_address: bool) -> int:
    """The port to connect from as the library takes it: 0 for any."""
    number = 0 if local_port is None else check_port(local_port, "local_port")
    if reuse_address and not number:
        raise ValueError("reuse_address needs a local_port: a port that the system chooses is free in any case")
    return number


# ---- Sockets ----


class TcpServerMethods:
    """What a TCP server tells of its address."""

    __slots__ = ()

    def _address(self, *, remote: bool) -> tuple[str, int]:
        raise NotImplementedError

    @property
    def host_address(self) -> str:
        """The address that it listens on, as text. (The original's ``host-address``.)"""
        return self._address(remote=False)[0]

    @property
    def port(self) -> int:
        """The port that it listens on, also if the system chose it. (``port``.)"""
        return self._address(remote=False)[1]

    def _describe(self) -> str:
        return endpoint(*self._address(remote=False))

    def _make_address(self) -> Address:
        return Address._of_host(*self._address(remote=False))


class TcpStreamMethods:
    """What a TCP stream tells of the addresses of both ends."""

    __slots__ = ()

    def _address(self, *, remote: bool) -> tuple[str, int]:
        raise NotImplementedError

    @property
    def local_host_address(self) -> str:
        """This end's address, as text. (``local-host-address``.)"""
        return self._address(remote=False)[0]

    @property
    def local_port(self) -> int:
        """This end's port. (``local-port``.)"""
        return self._address(remote=False)[1]

    @property
    def remote_host_address(self) -> str:
        """The remote end's address, as text, also after it has gone. (``remote-host-address``.)"""
        return self._address(remote=True)[0]

    @property
    def remote_port(self) -> int:
        """The remote end's port, also after it has gone. (``remote-port``.)"""
        return self._address(remote=True)[1]

    def _describe(self) -> str:
        return f"{endpoint(*self._address(remote=False))} -> {endpoint(*self._address(remote=True))}"

    def _make_address(self) -> Address:
        return Address._of_host(*self._address(remote=True))


# ---- Advice ----

_EACCES = "this user may not; a port below 1024 needs permission, and a firewall or a sandbox can forbid any"
_IN_USE = "another socket has that address and port; choose another, or end the program that has it"
#: The system does not tell which of the two it is.
_IN_USE_OR_LINGERING = (
    "another socket has that address and port: choose another; or connections of a server that has ended linger there"
    " (TIME_WAIT), for a minute or so: pass reuse_address=True, each time that this server is made"
)
#: Of a port that a stream is to connect from.
_LOCAL_IN_USE = "another socket has that local port: choose another, or leave the choice to the system"
_LOCAL_IN_USE_OR_LINGERING = (
    "another socket has that local port: choose another; or an earlier connection from there lingers (TIME_WAIT), for a"
    " minute or so: pass reuse_address=True, each time that a stream connects from it"
)
if sys.platform == "win32":
    _EACCES = "this user may not; the system can keep a port back"
    _KEPT_BACK = (
        "; or Windows keeps the port back, for Hyper-V and WSL for example: 'netsh interface {0} show"
        " excludedportrange protocol=tcp' lists such ports"
    )
    _IN_USE += _KEPT_BACK
    _IN_USE_OR_LINGERING += _KEPT_BACK
    _LOCAL_IN_USE_OR_LINGERING = _LOCAL_IN_USE


def advice_for_server(family: str, *, reuse_address: bool) -> Mapping[int, str]:
    """What to do where the system refuses a server of ``"ipv4"`` or ``"ipv6"``."""
    in_use = _IN_USE if reuse_address else _IN_USE_OR_LINGERING
    return {errno.EADDRINUSE: in_use.format(family), errno.EACCES: _EACCES}


def advice_for_stream(*, reuse_address: bool, local_port: int) -> Mapping[int, str]:
    """What to do where the system refuses to set up a stream."""
    if not local_port:
        return {}
    return {errno.EADDRINUSE: _LOCAL_IN_USE if reuse_address else _LOCAL_IN_USE_OR_LINGERING, errno.EACCES: _EACCES}


# ---- Names of hosts ----

#: What Windows says of a name that exists and has no address of a family; Python's socket module has no name for it.
_WSANO_DATA = 11004


def _resolver_error(error: OSError, hostname: str, *, again: bool) -> SocketError:
    number = errno.EAGAIN if again else errno.EIO
    message = f"cannot resolve {hostname!r}: {error.strerror or error}"
    if sys.platform == "win32" and error.errno is not None:
        # The resolver's codes are Windows'; but errno has no names for them.
        return SocketError(number, message, None, error.errno)
    return SocketError(number, message)


def addresses_of(hostname: str, family: str) -> list[tuple[Any, ...]]:
    """The addresses of a host's name as the module socket has them, best first; none if it has none.

    :param family: ``"AF_INET"``, ``"AF_INET6"``, or ``"AF_UNSPEC"`` for both.
    :raises ValueError: if it can't be a host's name.
    :raises SocketError: if the resolver fails.
    """
    # Here, because nothing else needs it and it takes long to import.
    import socket

    if not isinstance(hostname, str):
        raise TypeError(f"hostname must be a str, not {type(hostname).__name__}")
    if not hostname:
        # Windows would take it for this machine's own.
        return []
    if "\0" in hostname:
        # The resolver would take what is before it.
        raise ValueError(f"{hostname!r} can't be a host's name: it contains a NUL character")
    try:
        found = socket.getaddrinfo(hostname, None, getattr(socket, family), socket.SOCK_STREAM)
    except socket.gaierror as error:
        no_such = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
        # Linux' number, which Wine hands on.
        no_such.add(getattr(socket, "EAI_ADDRFAMILY", -9))
        no_such.add(_WSANO_DATA)
        if error.errno in no_such:
            return []
        raise _resolver_error(error, hostname, again=error.errno == socket.EAI_AGAIN) from error
    except OSError as error:
        # EAI_SYSTEM: no descriptor is left for a resolver's file or socket, for example.
        raise SocketError(
            error.errno or errno.EIO, f"cannot resolve {hostname!r}: {error.strerror or error}"
        ) from error
    except UnicodeError as error:
        raise ValueError(f"{hostname!r} can't be a host's name: {error}") from error
    return [one[4] for one in found]
