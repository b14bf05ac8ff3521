"""New handles, which are lost to nobody."""

from __future__ import annotations

from ctypes import c_int64

from .library import keeping


class NewHandle(c_int64):
    """A handle that the library has just made, or a failure. Closes what nobody takes.

    It is there before Python looks for signals again. So when a handler raises, the handle is not lost with the result.
    """

    def __del__(self) -> None:
        if self.value > 0:
            keeping.bbipc_close(self)


class SettledHandle(c_int64):
    """What a NewHandle becomes when somebody has taken it, or when it is a failure.

    Nothing is left to close, and no code runs when it goes. For Python looks for signals where a function begins, and
    what a handler raises inside of a ``__del__`` is lost. CPython 3.14 finds many there.
    """
