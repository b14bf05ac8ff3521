"""What sockets and pollers have in common: each owns a handle of the native library."""

from __future__ import annotations

import sys
from warnings import warn

from . import calls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warns of what a program does, where it does it: outside this package."""
    package = __name__.partition(".")[0]
    frame = sys._getframe(1)
    level = 2
    while frame.f_back is not None and (frame.f_globals.get("__name__") or "").partition(".")[0] == package:
        frame = frame.f_back
        level += 1
    warn(message, category, stacklevel=level)


class HandleOwner:
    """Has a native handle until it is closed, which happens at the latest when it is dropped.

    The calls that make a handle make its owner too, by no method of the class.
    """

    __slots__ = ("__weakref__", "_closed", "_handle")

    if TYPE_CHECKING:
        _handle: int
        _closed: bool

    def close(self) -> None:
        raise NotImplementedError

    def __exit__(self, *_exception: object) -> None:
        self.close()

    # Where Python ends, modules may be empty before all objects are gone; free-threaded builds often do that.
    def __del__(self, _warn: Any = warn, _close: Any = calls.close, _python_ends: Any = sys.is_finalizing) -> None:
        if not hasattr(self, "_closed"):
            return
        if self._closed:
            # In case that was interrupted.
            _close(self._handle)
            return
        try:
            message = f"unclosed {self!r}"
            # First, for a warning may be an error.
            self.close()
        except Exception:
            if not _python_ends():
                raise
            _close(self._handle)
            return
        _warn(message, ResourceWarning, source=self, stacklevel=2)

    def __reduce_ex__(self, _protocol: Any) -> NoReturn:
        # A copy would close the handle under the original.
        raise TypeError(f"objects of type {type(self).__name__} can't be copied or pickled")
