"""Buffers of every kind: their views, their memory, and ranges of them, for calls by ctypes."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_char
from operator import index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from typing_extensions import Buffer


class _PyBuffer(ctypes.Structure):
    """Py_buffer, as the stable ABI fixes it (PEP 3118, Python/C API, Buffer Protocol)."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_void_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


#: PyPy has no C interface of Python's, and keeps an object that is not used any more until garbage is collected.
PYPY = not hasattr(ctypes, "pythonapi")

_get_buffer: Any = None
_release_buffer: Any = None
if not PYPY:
    _get_buffer = ctypes.pythonapi.PyObject_GetBuffer
    _get_buffer.argtypes = [ctypes.py_object, ctypes.POINTER(_PyBuffer), ctypes.c_int]
    _get_buffer.restype = ctypes.c_int
    _release_buffer = ctypes.pythonapi.PyBuffer_Release
    _release_buffer.argtypes = [ctypes.POINTER(_PyBuffer)]
    _release_buffer.restype = None


def checked_range(start: Any, end: Any, size: int) -> tuple[int, int]:
    """The checked range of a buffer of this size."""
    try:
        first = index(start)
        last = size if end is None else index(end)
    except TypeError:
        raise TypeError(
            f"start and end must be int, and end may be None, not {type(start).__name__} and {type(end).__name__}"
        ) from None
    if not 0 <= first <= last <= size:
        raise ValueError(
            f"start and end must satisfy 0 <= start <= end <= {size}, the buffer's size in bytes;"
            f" they are {first} and {last}"
        )
    return first, last


class _Bytes:
    """The bytes of an object that lends them but can't describe its items: NumPy's arrays of dates."""

    def __init__(self, lender: Any) -> None:
        self._raw = _PyBuffer()
        _get_buffer(lender, byref(self._raw), 0)

    def view(self) -> memoryview:
        memory = (c_char * self._raw.len).from_address(self._raw.buf)
        # Lent as long as the view lives.
        memory.lent = self
        view = memoryview(memory)
        return view.toreadonly() if self._raw.readonly else view

    def __del__(self, _release: Any = _release_buffer) -> None:
        _release(byref(self._raw))


def view_of(buffer: Any, what: str) -> memoryview:
    """A view of a contiguous buffer, which keeps its size as long as the view lives, or until :func:`let_go`."""
    # Not released by a `with`: when an exception leaves it, its traceback still holds what refers to the view, and the
    # release would fail and hide the exception.
    try:
        try:
            view = memoryview(buffer)
        except ValueError:
            if PYPY or isinstance(buffer, memoryview):
                raise
            view = _Bytes(buffer).view()
    except TypeError:
        raise TypeError(f"{what}, not {type(buffer).__name__}") from None
    if not view.c_contiguous:
        raise TypeError(f"{what}; this {type(buffer).__name__} is not contiguous: pass a copy of it")
    return view


def memory_of(view: Any) -> Any:
    """What the library takes for a view's memory, which must be writable. None if that has no address."""
    if not view.nbytes:
        # from_buffer refuses what is empty; nothing is done with the stand-in.
        return byref(c_char())
    if not PYPY:
        return byref(c_char.from_buffer(view))
    # What from_buffer makes would hold the view.
    try:
        return view._pypy_raw_address()
    except ValueError:  # io.BytesIO's, for one
        return None


def let_go(view: memoryview) -> None:
    """Lets a bytearray change its size again, at once, unless an exception's traceback still refers to the view."""
    try:  # noqa: SIM105 -- contextlib is slow to import
        view.release()
    except BufferError:
        pass


def let_go_on_pypy(view: memoryview) -> None:
    # CPython does so by itself, when nobody refers to the view any more.
    if PYPY:
        let_go(view)


def with_memory(data: Buffer, what: str, start: Any, end: Any, call: Callable[[Any, int, int], int]) -> int:
    """Calls with the address of the data, and the checked range."""
    if type(data) is bytes:
        return call(data, *checked_range(start, end, len(data)))
    view = view_of(data, what)
    try:
        first, last = checked_range(start, end, view.nbytes)
        if not view.nbytes:
            return call(b"", 0, 0)
        memory = None if view.readonly else memory_of(view)
        if memory is not None:
            return call(memory, first, last)
        if _get_buffer is None:
            # The address can't be had, so this copies.
            return call(view.cast("B")[first:last].tobytes(), 0, last - first)
        raw = _PyBuffer()
        _get_buffer(view, byref(raw), 0)
        try:
            return call(raw.buf, first, last)
        finally:
            _release_buffer(byref(raw))
    finally:
        let_go_on_pypy(view)
