"""Servers that systemd has made for this program: socket activation, sd_listen_fds(3)."""

from __future__ import annotations

import errno
import os
import sys
from itertools import repeat

from .adopting import adopt_server
from .errors import SocketError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .sockets import StreamServer

    _Servers = list[StreamServer]
else:
    _Servers = list

#: The first of the descriptors: SD_LISTEN_FDS_START.
_FIRST = 3

#: That of each where LISTEN_FDNAMES says nothing.
_NO_NAME = "unknown"

_VARIABLES = ("LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES")


class ActivatedServers(_Servers):
    """What :func:`activated_servers` returns: a list of servers that also knows their names."""

    #: The name of each, as the unit says it (``FileDescriptorName=``); systemd's default is that of the unit.
    names: tuple[str, ...] = ()

    def named(self, name: str) -> list[StreamServer]:
        """Those of this name, in their order."""
        return [server for server, its in zip(self, self.names) if its == name]


def activated_servers() -> ActivatedServers:
    """The servers that listen already and that systemd handed over when it started this process (``sd_listen_fds(3)``).

    Empty if it handed none over, and on systems without systemd. So a daemon works with it and without::

        servers = bbipc.activated_servers() or [bbipc.make_local_server("/run/daemon/socket", replace_dead=True)]

    The environment variables that tell of them are removed, and the descriptors become close-on-exec, so no child takes
    them for its own, and a second call returns an empty list. To close one deletes no file, and systemd goes on
    listening.

    :raises SocketError: for a descriptor that is no server which :func:`adopt_server` takes: a datagram socket, a FIFO,
        or, where the unit has ``Accept=yes``, a connection (:func:`adopt_stream` takes it). The message tells its
        number. All of them stay open then, and the caller's.
    :raises ValueError: if the variables are not what systemd writes.
    """
    variables = {name: os.environ.pop(name, None) for name in _VARIABLES}
    count, process = variables["LISTEN_FDS"], variables["LISTEN_PID"]
    if sys.platform == "win32" or count is None or process is None:
        return ActivatedServers()
    if _number(process, "LISTEN_PID") != os.getpid():
        # They are for a process that has started this one.
        return ActivatedServers()
    descriptors = range(_FIRST, _FIRST + _number(count, "LISTEN_FDS"))
    names = variables["LISTEN_FDNAMES"]
    parts = names.split(":") if names else None
    if parts is not None and len(parts) != len(descriptors):
        raise ValueError(f"LISTEN_FDNAMES has {len(parts)} names, {names!r}, and LISTEN_FDS is {count}")
    # First all are tried, so that none is taken over where one can't be, and no memory for more than there are.
    for descriptor, name in zip(descriptors, parts or repeat(_NO_NAME)):
        _try(descriptor, name)
    servers = ActivatedServers(adopt_server(descriptor) for descriptor in descriptors)
    servers.names = tuple(parts or repeat(_NO_NAME, len(servers)))
    return servers


def _number(text: str, name: str) -> int:
    # As strict as the original: no sign, no spaces, and not too many.
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(f"the environment variable {name} must be a number, as systemd writes it, not {text!r}")
    return int(text)


def _try(descriptor: int, name: str) -> None:
    """Raises what is wrong with a descriptor, and leaves it as it is."""
    try:
        copy = os.dup(descriptor)
    except OSError as error:
        raise SocketError(
            error.errno or errno.EBADF,
            f"cannot use descriptor {descriptor} ({name}), which LISTEN_FDS counts: {error.strerror}",
        ) from None
    try:
        server = adopt_server(copy)
    except SocketError as error:
        os.close(copy)
        why = f"cannot use the activated descriptor {descriptor} ({name}): {error.strerror}"
        raise SocketError(error.errno, why) from None
    server.close()
