"""Timeouts: seconds, as users give them, and what is left of them."""

from __future__ import annotations

import time

from ._ffi import FOREVER

_NS_PER_S = 1_000_000_000
# The library counts in signed 64 bits; nobody lives to see the difference.
_TIMEOUT_NS_MAX = 2**63 - 1


def nanoseconds(timeout: float | None) -> int:
    """A timeout as the library takes it, rounded up so that no wait ends early.

    :raises ValueError: if it is negative or not a number.
    :raises TypeError: if it is neither ``None``, an ``int`` nor a ``float``.
    """
    if timeout is None:
        return FOREVER
    if not isinstance(timeout, (int, float)):
        # Other numbers, such as NumPy's; but not what float() would read as text.
        if not hasattr(timeout, "__float__"):
            raise TypeError(f"a timeout is seconds (int or float) or None, not {type(timeout).__name__}")
        timeout = float(timeout)
    if timeout != timeout:
        raise ValueError("a timeout can't be NaN")
    if timeout < 0:
        raise ValueError(f"a timeout can't be negative: {timeout!r}; None waits for ever, 0 not at all")
    if timeout > _TIMEOUT_NS_MAX // _NS_PER_S:
        return FOREVER
    return -int(-timeout * _NS_PER_S // 1)


class Deadline:
    """When a timeout that began now is over."""

    __slots__ = ("_at_ns", "_timeout_ns")

    def __init__(self, timeout: float | None) -> None:
        self._timeout_ns = nanoseconds(timeout)
        # No clock needs to be read for the two that never change.
        self._at_ns = time.monotonic_ns() + self._timeout_ns if self._timeout_ns > 0 else 0

    def remaining_ns(self) -> int:
        """What is left, as the library takes it: 0 when it is over."""
        return max(0, self._at_ns - time.monotonic_ns()) if self._at_ns else self._timeout_ns
