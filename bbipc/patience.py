"""Patience with servers that are not up yet: which failures may pass, and how long to wait between two tries."""

from __future__ import annotations

import errno
import time

from ._native.waiting import Deadline, nanoseconds
from .errors import TimeoutError

#: Seconds. What the pauses between tries are at first, and at the most: a server is noticed soon, and a try takes some
#: 50 microseconds of a processor.
FIRST_PAUSE = 0.001
LONGEST_PAUSE = 0.025

_NS_PER_S = 1_000_000_000

#: What a server, or its machine, that starts puts an end to.
_MAY_PASS = frozenset(
    {
        errno.ENOENT,  # no socket file, or pipe, yet
        errno.ECONNREFUSED,  # nobody listens; or the backlog is full, on macOS, FreeBSD and Windows
        errno.EAGAIN,  # a local server's backlog is full, on Linux and Windows
        errno.ECONNRESET,  # FreeBSD's way to say that TCP's backlog is full
        errno.ECONNABORTED,
        errno.ETIMEDOUT,  # the system has given up; not so the caller
        errno.EHOSTUNREACH,  # no machine answers for that address
        errno.EHOSTDOWN,
    }
)


def may_pass(number: int) -> bool:
    """Whether a failure to connect, with this errno, may be over when the server has started."""
    return number in _MAY_PASS


class Patience:
    """How long to try to connect. It is false where only one try is to be made, and no waiting is done.

    :raises ValueError: if the timeout is negative or NaN.
    """

    __slots__ = ("_deadline", "_pause", "_timeout")

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._deadline = Deadline(timeout)
        self._pause = FIRST_PAUSE

    def __bool__(self) -> bool:
        return nanoseconds(self._timeout) != 0

    def at_most(self, seconds: float) -> float:
        """These seconds, or what is left of the timeout."""
        left_ns = self._deadline.remaining_ns()
        return seconds if left_ns < 0 else min(seconds, left_ns / _NS_PER_S)

    def over(self) -> bool:
        """Whether the time is up."""
        return self._deadline.passed()

    def pause(self) -> bool:
        """Pauses before another try, a little longer each time. False, at once, if the time is up."""
        if self.over():
            return False
        time.sleep(self.at_most(self._pause))
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return True

    def time_is_up(self, why: Exception | str) -> TimeoutError:
        """The error for a server that has not come in time."""
        words = why if isinstance(why, str) else getattr(why, "strerror", None) or str(why)
        # Some numbers have no such format; and of those that never end, no time is up.
        error = TimeoutError(errno.ETIMEDOUT, f"the time is up after {float(self._timeout or 0):g} s: {words}")
        error.__cause__ = None if isinstance(why, str) else why
        return error


#: That of a call that does not wait.
NO_PATIENCE = Patience(0)
