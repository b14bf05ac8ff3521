"""The calls of the native library: by ctypes, or by built-in functions of CPython. The classes can't tell which.

Every function returns a number, or what it is named for: zero or more is the answer, less is a failure
(``results.status_of``, ``results.code_of``).

The built-in functions are taken where they can be had. ``BBIPC_CALLS``, ``ctypes`` or ``cpython``, in the environment
chooses otherwise.
"""

from __future__ import annotations

import os

from . import by_ctypes, process
from .by_ctypes import *  # noqa: F403 - all of them, some of which are replaced below

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from .classes import NativePoller, NativeStream


def _take_built_ins(asked: str) -> Literal["cpython", "ctypes"]:
    if asked not in ("", "cpython", "ctypes"):
        raise ImportError(f"the environment variable BBIPC_CALLS must be 'cpython', 'ctypes' or not set, not {asked!r}")
    if asked == "ctypes":
        return "ctypes"
    from . import by_cpython

    try:
        built_in = by_cpython.bind()
    except by_cpython.NotAvailable as error:
        if asked:
            raise ImportError(f"BBIPC_CALLS asks for CPython's built-in functions, but {error}") from error
        return "ctypes"
    for name in by_cpython.function_names():
        globals()[name] = built_in(name.encode("ascii"), getattr(by_ctypes, name))
    return "cpython"


process.begin()
_layer = _take_built_ins(os.environ.get("BBIPC_CALLS", ""))


def calling_layer() -> Literal["cpython", "ctypes"]:
    """How this process calls the native library: by ``"ctypes"``, or by built-in functions of ``"cpython"``.

    The results are the same. Built-in functions cost as little as those of a C extension; ctypes works on any Python,
    PyPy included. The environment variable ``BBIPC_CALLS``, set to one of the two before the import, chooses.
    """
    return _layer


def give_methods(kind: type[NativeStream | NativePoller]) -> None:
    """Gives a class built-in methods in the place of those that do little more than call a built-in function."""
    if _layer == "cpython":
        from . import by_cpython

        by_cpython.give_methods(kind)
