"""The native library's built-in functions for CPython (native/cpython/): calls at the cost of a C extension's.

The library is linked with no Python, and made for no version of it. It tells which functions of CPython it calls, and
is given their addresses; and which built-in functions and methods it has.
"""

from __future__ import annotations

import ctypes
import sys
from array import array

from . import declarations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FunctionType
    from typing import Any

    from .classes import NativePoller, NativeStream

#: The prefix of the names by which built-in methods call the methods in Python that they replace.
IN_PYTHON = "_python_"


class NotAvailable(Exception):  # noqa: N818 - it is no error: there is another way
    """This Python has no such built-in functions."""


def function_names() -> list[str]:
    """The functions of ``by_ctypes`` that there are built-in ones for."""
    names: bytes = declarations.cpython_functions()
    return names.decode("ascii").split()


def method_names(kind: type[NativeStream | NativePoller]) -> list[str]:
    """The methods of a class that there are built-in ones for: the calls that programs make most.

    A function in Python on top of a built-in one would cost as much again.
    """
    names: bytes = declarations.cpython_methods()
    return [name for name in names.decode("ascii").split() if hasattr(kind, name)]


def bind() -> Callable[[bytes, Any], Any]:
    """What makes the built-in function of a name, given the function that takes the unusual arguments.

    :raises NotAvailable: for another Python than CPython, and for one that hides some of its functions.
    """
    if sys.implementation.name != "cpython":
        raise NotAvailable(f"this is {sys.implementation.name}, not CPython")
    names = declarations.cpython_needs().decode("ascii").split()
    try:
        addresses = array("Q", [ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, name)) for name in names])
    except ValueError as error:
        raise NotAvailable(f"this Python hides what they call: {error}") from None
    result = declarations.cpython_bind(addresses.buffer_info()[0], len(addresses))
    assert result == 0, result
    function: Callable[[bytes, Any], Any] = declarations.cpython_function
    return function


def give_methods(kind: type[NativeStream | NativePoller]) -> None:
    """Replaces methods of a class, where they can be: not in another than the main interpreter."""
    for name in method_names(kind):
        in_python = getattr(kind, name)
        text = f"{name}{signature_of(in_python)}\n--\n\n{in_python.__doc__ or ''}".encode()
        method = declarations.cpython_method(kind, name.encode("ascii"), text)
        if method is None:
            return
        setattr(kind, f"{IN_PYTHON}{name}", in_python)
        setattr(kind, name, method)


def signature_of(method: FunctionType) -> str:
    """The signature in the form in which the documentation of built-in methods begins.

    Not by ``inspect``, which takes long to import.
    """
    code, defaults = method.__code__, method.__defaults__ or ()
    by_place = code.co_varnames[1 : code.co_argcount]
    by_name = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    values = {**dict(zip(by_place[len(by_place) - len(defaults) :], defaults)), **(method.__kwdefaults__ or {})}
    shown = [f"{name}={values[name]!r}" if name in values else name for name in (*by_place, *by_name)]
    if by_name:
        shown.insert(len(by_place), "*")
    return f"({', '.join(['$self', *shown])})"
