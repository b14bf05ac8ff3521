"""How long waits may look before they sleep (native/core/spinning.zig)."""

from __future__ import annotations

import os

from . import declarations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

_NS_PER_S = 1_000_000_000
_LOOK_MAX_S = 1

#: What takes the place of a number.
_NAMED_NS = {"adaptive": declarations.SPINNING_ADAPTIVE, "off": declarations.SPINNING_OFF}


def set_spinning(mode: Literal["adaptive", "off"] | float) -> None:
    """Chooses how waits of this process may look before they sleep, from the next wait on.

    A wait that looks asks the system again and again whether its event has come, and keeps its processor busy
    meanwhile. Where answers come soon, that makes a round trip several times faster and takes less processor time than
    to sleep and be woken. Each stream and each poller finds out by itself whether it is so.

    The environment variable ``BBIPC_SPINNING``, with one of these values, chooses at import.

    :param mode: ``"adaptive"``, the default, looks for up to 0.2 ms where that has proved to be better; ``"off"``
        always sleeps at once. A number from 0 to 1 is ``"adaptive"`` with that number of seconds as the most that a
        wait looks.
    :raises ValueError: for another text, and for a number that is not from 0 to 1.
    :raises TypeError: if it is neither a ``str``, an ``int`` nor a ``float``.
    """
    _set(mode)


def _set(mode: str | float) -> None:
    result = declarations.set_spinning(_nanoseconds(mode))
    assert result == 0, result


def _nanoseconds(mode: str | float) -> int:
    if isinstance(mode, str):
        if mode in _NAMED_NS:
            return _NAMED_NS[mode]
        raise ValueError(f"spinning is 'adaptive', 'off' or a number of seconds, not {mode!r}")
    if isinstance(mode, bool) or not hasattr(mode, "__float__"):
        raise TypeError(f"spinning is 'adaptive', 'off' or a number of seconds, not {type(mode).__name__}")
    try:
        seconds = float(mode)
    except OverflowError:
        seconds = float("inf")
    if not 0 <= seconds <= _LOOK_MAX_S:
        raise ValueError(f"a wait looks for 0 to {_LOOK_MAX_S} seconds at the most, not {mode!r}")
    # Rounded up: the least that is not 0 is not off.
    return -int(-seconds * _NS_PER_S // 1)


def _begin(asked: str) -> None:
    """Does as the environment says."""
    if not asked:
        return
    try:
        _set(asked if asked in _NAMED_NS else float(asked))
    except ValueError:
        raise ImportError(
            "the environment variable BBIPC_SPINNING must be 'adaptive', 'off', a number of seconds from 0 to"
            f" {_LOOK_MAX_S}, or not set, not {asked!r}"
        ) from None


_begin(os.environ.get("BBIPC_SPINNING", ""))
