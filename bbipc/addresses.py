"""Addresses as text: ``tcp:HOST:PORT`` and ``local:PATH``."""

from __future__ import annotations

import os
import sys

from .hosts import MAPPED, endpoint, format_ipv6, is_link_local, parse_dotted_quad, parse_ipv6

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import Self

#: The host of a server that listens on every address of its machine.
EVERY_HOST = "*"

PORT_MAX = 65535

_FORMS = "write tcp:HOST:PORT, as in 'tcp:127.0.0.1:12345' or 'tcp:[::1]:12345', or " + (
    "local:NAME, as in 'local:echo'" if sys.platform == "win32" else "local:PATH, as in 'local:/tmp/echo'"
)


class Address(str):
    r"""Where a server listens, as text: a ``str`` that has been checked.

    ============================  ==============================================================================
    ``tcp:127.0.0.1:12345``       a port of a host, which is given by its IPv4 address,
    ``tcp:[::1]:12345``           by its IPv6 address, in brackets and with its interface if it is link-local,
    ``tcp:example.com:12345``     or by its name
    ``tcp:*:12345``               for a server: a port of every address of its machine, of both families
    ``local:/run/echo``           a local server's pathname: all that is behind the first colon
    ``local:echo``                the same: a relative pathname, or on Windows the name of a pipe
    ============================  ==============================================================================

    IPv6 addresses get the short form of RFC 5952, an IPv4 address in IPv6's form becomes what it is. What bbipc tells
    as an address reads back as an equal one. Names of hosts stay as they are written; nobody is asked for them yet.

    :param text: a ``str``. Bytes of a pathname that are no text are written as ``os.fsdecode`` has them.
    :raises ValueError: for text that is no address; it says what one looks like.
    """

    __slots__ = ("_host", "_pathname", "_port")

    _host: str | None
    _port: int | None
    _pathname: str | None

    def __new__(cls, text: str) -> Self:
        """The address that a text is."""
        if isinstance(text, cls):
            return text
        if not isinstance(text, str):
            raise TypeError(f"an address must be a str such as 'tcp:127.0.0.1:12345', not {type(text).__name__}")
        namespace, colon, rest = text.partition(":")
        if namespace == "local" and colon:
            if not rest:
                raise _no_address(text, "the pathname is missing")
            if "\0" in rest:
                raise _no_address(text, "a pathname can't contain a NUL character")
            return cls._of_pathname(rest)
        if namespace == "tcp" and colon:
            return cls._of_host(*_host_and_port(text, rest))
        raise _no_address(text, "it does not begin with 'tcp:' or 'local:'")

    @classmethod
    def _of_host(cls, host: str, port: int) -> Self:
        """The address of a port of a host, both of which have been checked."""
        address = str.__new__(cls, f"tcp:{endpoint(host, port)}")
        address._host, address._port, address._pathname = host, port, None
        return address

    @classmethod
    def _of_pathname(cls, pathname: str | bytes) -> Self:
        """The address of a pathname. Also of one that no server can be given: that of a stream without a name."""
        plain = os.fsdecode(pathname)
        address = str.__new__(cls, f"local:{plain}")
        address._host, address._port, address._pathname = None, None, plain
        return address

    @property
    def host(self) -> str | None:
        """The host's address, without brackets, or its name; ``"*"`` for every address. ``None`` for a local one."""
        return self._host

    @property
    def port(self) -> int | None:
        """The port. ``None`` for a local one."""
        return self._port

    @property
    def pathname(self) -> str | None:
        """A local server's pathname. ``None`` for TCP."""
        return self._pathname

    def __reduce__(self) -> tuple[object, ...]:
        # Not by the text, which a stream without a name has and nobody may write.
        if self._pathname is not None:
            return type(self)._of_pathname, (self._pathname,)
        return type(self)._of_host, (self._host, self._port)


def _no_address(text: str, why: str) -> ValueError:
    return ValueError(f"{text!r} is no address: {why}; {_FORMS}")


def _host_and_port(text: str, rest: str) -> tuple[str, int]:
    if rest.startswith("//"):
        raise _no_address(text, "there are no slashes behind 'tcp:'")
    in_brackets = rest.startswith("[")
    host, colon, port = rest[1:].rpartition("]:") if in_brackets else rest.rpartition(":")
    if not colon:
        raise _no_address(text, "the port is missing, or the host")
    if not (port.isascii() and port.isdigit() and len(port) <= len(str(PORT_MAX)) and int(port) <= PORT_MAX):
        raise _no_address(text, f"the port must be a number from 0 to {PORT_MAX}, not {port!r}")
    if in_brackets:
        host = _ipv6_host(text, host)
    elif ":" in host:
        raise _no_address(text, "an IPv6 address stands in brackets")
    elif not host:
        raise _no_address(text, f"the host is missing; {EVERY_HOST!r} stands for every address of this machine")
    elif host != EVERY_HOST:
        _check_name(text, host)
    return host, int(port)


def _ipv6_host(text: str, host: str) -> str:
    plain, has_scope, scope = host.partition("%")
    try:
        packed = parse_ipv6(plain)
    except ValueError:
        raise _no_address(text, f"what is in brackets is no IPv6 address: {host!r}") from None
    if packed.startswith(MAPPED):
        # A scope would mean nothing.
        return format_ipv6(packed)
    if has_scope and (not scope or "\0" in scope):
        raise _no_address(text, "what is behind the % must be the name of a network interface, or its number")
    if is_link_local(packed) and not has_scope:
        raise _no_address(
            text,
            f"every network interface can have the link-local address {plain!r}: name the interface behind it, as in"
            f" '{plain}%eth0'",
        )
    return format_ipv6(packed) + has_scope + scope


def is_number(host: str) -> bool:
    """Whether it is meant to be an IPv4 address rather than a name: no name ends in a number (RFC 1123, 2.1)."""
    return host.rpartition(".")[2].isdigit()


def _check_name(text: str, host: str) -> None:
    if is_number(host):
        try:
            parse_dotted_quad(host)
        except ValueError:
            raise _no_address(text, f"the host is no IPv4 address, four numbers from 0 to 255: {host!r}") from None
        return
    if "\0" in host:
        raise _no_address(text, "the name of a host can't contain a NUL character")
    try:
        # As the resolver is asked.
        host.encode("idna")
    except UnicodeError as error:
        raise _no_address(text, f"{host!r} can't be the name of a host ({error})") from None
