"""Results of calls: zero or more is the answer; less is a failure, the status and the system's code in one number.

So no call needs a second one to learn why it failed.
"""

from __future__ import annotations

from . import declarations
from .handles import SettledHandle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import c_int32

    from .classes import OwnerT
    from .handles import NewHandle

#: No error: a piece of a wait is over, and the code is the wait's place.
TIME_IS_UP = 0

#: What connection_error returns for a connection that could not be established.
CONNECTION_NOT_ESTABLISHED = 2

#: What receive_message returns for a message, and for one that needs more room.
RECEIVED = 1
LARGER_THAN_ROOM = 2

_STATUS_BITS = 8


def pack(result: int, code: int) -> int:
    """The failure of a call that returned this, and stored this code."""
    return -((code << _STATUS_BITS) | -result)


def owner_of(made: NewHandle, code: c_int32, kind: type[OwnerT]) -> OwnerT | int:
    """A new object of this kind, which owns the handle from here on; or the failure of a call that has made none."""
    result = made.value
    if result < 0:
        made.__class__ = SettledHandle  # type: ignore[assignment]
        return pack(result, code.value)
    owner = object.__new__(kind)
    owner._handle = result
    owner._closed = False
    made.__class__ = SettledHandle  # type: ignore[assignment]
    return owner


def status_of(failure: int) -> int:
    """The ``BBIPC_ERROR_`` number in a failure."""
    return -(-failure & ((1 << _STATUS_BITS) - 1))


def code_of(failure: int) -> int:
    """The system's own code in a failure, 0 if it carries none."""
    return -failure >> _STATUS_BITS


def message_of(failure: int) -> str:
    """What the library says of a failure's status."""
    message: bytes = declarations.error_message(status_of(failure))
    return message.decode("ascii")
