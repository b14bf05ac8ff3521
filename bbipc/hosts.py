"""Addresses of hosts as text, and as the numbers that they stand for."""

from __future__ import annotations

#: What stands before an IPv4 address in IPv6's form (RFC 4291, 2.5.5.2).
MAPPED = bytes(10) + b"\xff\xff"

_GROUPS = 8
_HEXADECIMAL = frozenset("0123456789abcdefABCDEF")

#: The numbers that a dotted quad is made of, by how they are written there.
_NUMBERS = {str(number): number for number in range(256)}


def parse_dotted_quad(text: str) -> int:
    """A dotted quad's number. As strict as inet_pton(3), which takes no octal and no short forms.

    :raises ValueError: for anything else.
    """
    try:
        first, second, third, fourth = text.split(".")
        return _NUMBERS[first] << 24 | _NUMBERS[second] << 16 | _NUMBERS[third] << 8 | _NUMBERS[fourth]
    except KeyError as error:
        raise ValueError(f"no number of a dotted quad: {error}") from None


def format_dotted_quad(number: int) -> str:
    """The text of a dotted quad's number."""
    return f"{number >> 24}.{number >> 16 & 0xFF}.{number >> 8 & 0xFF}.{number & 0xFF}"


def _groups_of(text: str) -> bytes:
    """The bytes of groups between which there is no gap; the last may be a dotted quad, which is two of them."""
    if not text:
        return b""
    *groups, last = text.split(":")
    if "." in last:
        end = parse_dotted_quad(last).to_bytes(4, "big")
    else:
        groups.append(last)
        end = b""
    packed = bytearray()
    for group in groups:
        if not 1 <= len(group) <= 4 or not _HEXADECIMAL.issuperset(group):
            raise ValueError(f"no group of an IPv6 address: {group!r}")
        packed += int(group, 16).to_bytes(2, "big")
    return bytes(packed) + end


def parse_ipv6(text: str) -> bytes:
    """The 16 bytes of an address without a scope. As strict as inet_pton(3).

    :raises ValueError: for anything else.
    """
    front, gap, back = text.partition("::")
    if "." in front and gap:
        raise ValueError("a dotted quad stands at the end")
    first, last = _groups_of(front), _groups_of(back)
    missing = 2 * _GROUPS - len(first) - len(last)
    # A gap stands for a group at least.
    if missing < 2 if gap else missing != 0:
        raise ValueError("it has not the size of an IPv6 address")
    return first + bytes(missing) + last


def format_ipv6(host: bytes) -> str:
    """The text of 16 bytes (RFC 5952). An IPv4 address in the mapped form is that of IPv4."""
    if host.startswith(MAPPED):
        return format_dotted_quad(int.from_bytes(host[12:], "big"))
    groups = [int.from_bytes(host[place : place + 2], "big") for place in range(0, 2 * _GROUPS, 2)]
    longest = range(0)
    start = 0
    while start < _GROUPS:
        end = start
        while end < _GROUPS and groups[end] == 0:
            end += 1
        if end - start > max(1, len(longest)):
            longest = range(start, end)
        start = end + 1
    if not longest:
        return ":".join(f"{one:x}" for one in groups)
    before = ":".join(f"{one:x}" for one in groups[: longest.start])
    behind = ":".join(f"{one:x}" for one in groups[longest.stop :])
    return f"{before}::{behind}"


def is_link_local(host: bytes) -> bool:
    """Whether it is one of fe80::/10, which each interface of a machine has for itself."""
    return host[0] == 0xFE and host[1] & 0xC0 == 0x80


def endpoint(host_address: str, port: int) -> str:
    """A host and a port in one text, IPv6 addresses in brackets (RFC 3986)."""
    return f"[{host_address}]:{port}" if ":" in host_address else f"{host_address}:{port}"
