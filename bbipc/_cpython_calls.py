"""The native library's built-in functions for CPython (native/cpython/): calls at the cost of a C extension's.

The library is linked with no Python, and made for no version of it. It tells which functions of CPython it calls, and
is given their addresses.
"""

from __future__ import annotations

import ctypes
import sys
from array import array

from . import _ffi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: The functions of ``_ctypes_calls`` that there are built-in ones for.
NAMES = (
    "close",
    "fileno",
    "monitor_socket",
    "monitored_events",
    "poll_socket",
    "read",
    "read_exactly",
    "read_into",
    "receive",
    "set_monitored_events",
    "unmonitor_socket",
    "wait_for_events",
    "wake",
    "write",
    "write_all",
    "write_many",
)


#: The methods that there are built-in ones for, by their class: the calls that programs make most, for which a function
#: in Python on top of one of those above would cost as much again.
_METHODS = {
    "Poller": {
        "receive": "($self, timeout=None, max_bytes=65536)",
        "wait_for_events": "($self, timeout=None)",
    },
    "StreamSocket": {
        "read": "($self, max_bytes=65536, *, peek=False)",
        "read_exactly": "($self, size, timeout=None)",
        "read_into": "($self, buffer, start=0, end=None, *, peek=False)",
        "write": "($self, data, start=0, end=None)",
        "write_all": "($self, data, timeout=None)",
    },
}


class NotAvailable(Exception):  # noqa: N818 - it is no error: there is another way
    """This Python has no such built-in functions."""


def bind() -> Callable[[bytes, Any], Any]:
    """What makes the built-in function of a name, given the function that takes the unusual arguments.

    :raises NotAvailable: for another Python than CPython, and for one that hides some of its functions.
    """
    if sys.implementation.name != "cpython":
        raise NotAvailable(f"this is {sys.implementation.name}, not CPython")
    names = _ffi.cpython_needs().decode("ascii").split()
    try:
        addresses = array("Q", [ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, name)) for name in names])
    except ValueError as error:
        raise NotAvailable(f"this Python hides what they call: {error}") from None
    result = _ffi.cpython_bind(addresses.buffer_info()[0], len(addresses))
    assert result == 0, result
    function: Callable[[bytes, Any], Any] = _ffi.cpython_function
    return function


def give_methods(kind: type[Any]) -> None:
    """Replaces methods of a class, where they can be: not in another than the main interpreter.

    Those in Python stay, under the names by which the built-in ones call them for unusual arguments.
    """
    for name, signature in _METHODS[kind.__name__].items():
        in_python = getattr(kind, name)
        text = f"{name}{signature}\n--\n\n{in_python.__doc__ or ''}".encode()
        method = _ffi.cpython_method(kind, name.encode("ascii"), text)
        if method is None:
            return
        setattr(kind, f"_python_{name}", in_python)
        setattr(kind, name, method)
