"""Waiting: timeouts as users give them, what is left of them, and signals that come meanwhile."""

from __future__ import annotations

import sys
import time

from .declarations import ERROR_INTERRUPTED, ERROR_WOKEN, FOREVER
from .results import TIME_IS_UP, code_of, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    Result = TypeVar("Result")

_NS_PER_S = 1_000_000_000
_FIRST_SLICE_NS = 5_000_000
_LAST_SLICE_NS = 1_000_000_000
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
        # No clock needs to be read for the two that never change. This one is the same as monotonic(), but on Windows,
        # where that moves in steps of 16 ms before Python 3.13.
        self._at_ns = time.perf_counter_ns() + self._timeout_ns if self._timeout_ns > 0 else 0

    def remaining_ns(self) -> int:
        """What is left, as the library takes it: 0 when it is over."""
        if not self._at_ns:
            return self._timeout_ns
        return max(0, self._at_ns - time.perf_counter_ns())

    def passed(self) -> bool:
        """Whether nothing is left."""
        return self.remaining_ns() == 0


#: The deadline of every wait that lasts for ever.
NEVER = Deadline(None)


#: threading takes long to import. If nobody imported it, another thread is unlikely; a mistake costs it a few looks.
#: Kept once found: where Python ends, without a GIL, a look among the modules can wait for ever (seen with 3.13).
_threading: Any = None


def _in_main_thread() -> bool:
    global _threading
    if _threading is None:
        _threading = sys.modules.get("threading")
    return _threading is None or _threading.get_ident() == _threading.main_thread().ident


#: Where a wait is before its first piece.
BEGINNING = 0


def wait(deadline: Deadline, call: Callable[..., Result], *arguments: Any, place: int | None = None) -> Result | int:
    """The result of a native wait, called with these arguments and a timeout. Empty when that is over, or it was woken.

    It goes on after signals for the time that is left. A call that takes a place gets it behind the timeout: so nothing
    that ends the wait is missed between two pieces of it.

    Python runs a signal's handler in the main thread, when that is back from the native call. A signal interrupts the
    call, unless it came in the moment after Python has looked for signals last and before the system call began, or the
    system gave it to another thread. So the main thread comes back now and then: soon at first, for most such signals
    come while a program starts, then seldom. And soon again after an interruption: on Windows the library may hear of
    Ctrl-C a moment before Python does.
    """
    more = () if place is None else (place,)
    # Most waits end here, before it is worth asking which thread this is.
    remaining_ns = timeout_ns = deadline.remaining_ns()
    if not 0 <= remaining_ns <= _FIRST_SLICE_NS:
        timeout_ns = _FIRST_SLICE_NS
    result = call(*arguments, timeout_ns, *more)
    slice_ns = 2 * _FIRST_SLICE_NS
    while True:
        status = TIME_IS_UP
        if result.__class__ is list:
            # Empty though something was reported: another thread has closed those sockets since, or taken them out.
            return result
        if result:
            if result.__class__ is not int or result > 0:  # type: ignore[operator]
                return result
            status = status_of(result)  # type: ignore[arg-type]
            if status == ERROR_WOKEN:
                return 0
            if status not in (ERROR_INTERRUPTED, TIME_IS_UP):
                return result
            if more:
                more = (code_of(result),)  # type: ignore[arg-type]
        if status == ERROR_INTERRUPTED:
            slice_ns = _FIRST_SLICE_NS
        elif timeout_ns == remaining_ns:
            return 0 if result.__class__ is int else result
        remaining_ns = timeout_ns = deadline.remaining_ns()
        if not 0 <= remaining_ns <= slice_ns and _in_main_thread():
            timeout_ns = slice_ns
            slice_ns = min(2 * slice_ns, _LAST_SLICE_NS)
        result = call(*arguments, timeout_ns, *more)
