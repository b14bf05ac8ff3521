"""What tests ask of Windows that Python has no name for: handles, threads, processor time, memory, and Ctrl-C."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Iterator
from ctypes import byref, c_int32, c_int64, c_size_t, c_uint16, c_uint32, c_void_p, sizeof

assert sys.platform == "win32"

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_ntdll = ctypes.WinDLL("ntdll")

#: Wine says so itself.
WINE = hasattr(_ntdll, "wine_get_version")

_THIS_PROCESS = c_void_p(-1)
_INFO_LENGTH_MISMATCH = 0xC0000004
_INVALID_INFO_CLASS = 0xC0000003
_CTRL_C_EVENT = 0
_STANDARD_HANDLES = (-10, -11, -12)


def _ask(function: ctypes._NamedFuncPointer, *arguments: object) -> ctypes.Array[ctypes.c_char] | None:
    """What one of the NtQuery functions answers, however long; None where there is no such question."""
    size = 1 << 16
    while True:
        buffer = ctypes.create_string_buffer(size)
        status = function(*arguments, buffer, size, None) & 0xFFFFFFFF
        if status == _INVALID_INFO_CLASS:
            return None
        if status != _INFO_LENGTH_MISMATCH:
            assert status == 0, hex(status)
            return buffer
        size *= 2


# ---- Handles ----


class _ProcessHandle(ctypes.Structure):
    """PROCESS_HANDLE_TABLE_ENTRY_INFO."""

    _fields_ = (
        ("number", c_size_t),
        ("handles", c_size_t),
        ("pointers", c_size_t),
        ("access", c_uint32),
        ("type", c_uint32),
        ("attributes", c_uint32),
        ("reserved", c_uint32),
    )


class _SystemHandle(ctypes.Structure):
    """SYSTEM_HANDLE_TABLE_ENTRY_INFO_EX."""

    _fields_ = (
        ("object", c_size_t),
        ("process", c_size_t),
        ("number", c_size_t),
        ("access", c_uint32),
        ("creator", c_uint16),
        ("type", c_uint16),
        ("attributes", c_uint32),
        ("reserved", c_uint32),
    )


def _handles(process: int | None, process_id: int) -> list[_ProcessHandle | _SystemHandle]:
    handle = _THIS_PROCESS if process is None else c_void_p(process)
    # Either answer begins with the number of entries and a reserved word. Wine has only the one of the whole system,
    # which takes long where many processes run.
    buffer = _ask(_ntdll.NtQueryInformationProcess, handle, 51)
    if buffer is not None:
        count = c_size_t.from_buffer(buffer).value
        return list((_ProcessHandle * count).from_buffer(buffer, 2 * sizeof(c_size_t)))
    buffer = _ask(_ntdll.NtQuerySystemInformation, 64)
    assert buffer is not None
    count = c_size_t.from_buffer(buffer).value
    listed = (_SystemHandle * count).from_buffer(buffer, 2 * sizeof(c_size_t))
    return [one for one in listed if one.process == process_id]


def handle_count(process: int, process_id: int) -> int:
    """How many handles another process has; the first argument is a handle of it."""
    return len(_handles(process, process_id))


#: The names of the types of handles, by their numbers.
_types: dict[int, str] = {}


def _type_of(handle: _ProcessHandle | _SystemHandle) -> str:
    if handle.type not in _types:
        buffer = ctypes.create_string_buffer(1024)
        if _ntdll.NtQueryObject(c_void_p(handle.number), 2, buffer, len(buffer), None):
            # It is closed by now.
            return f"type {handle.type}"
        # OBJECT_TYPE_INFORMATION begins with a UNICODE_STRING, whose address follows two lengths.
        length = c_uint16.from_buffer(buffer).value
        address = c_void_p.from_buffer(buffer, sizeof(c_void_p)).value
        assert address is not None
        _types[handle.type] = ctypes.wstring_at(address, length // 2)
    return _types[handle.type]


def open_handles() -> dict[int, str]:
    """What this process has open, by number: its type and access."""
    return {one.number: f"{_type_of(one)} {one.access:#x}" for one in _handles(None, os.getpid())}


# ---- Threads ----


class _UnicodeString(ctypes.Structure):
    _fields_ = (("length", c_uint16), ("maximum", c_uint16), ("buffer", c_void_p))


class _Process(ctypes.Structure):
    """SYSTEM_PROCESS_INFORMATION, without the threads that follow it."""

    _fields_ = (
        ("next", c_uint32),
        ("threads", c_uint32),
        ("unused", c_int64 * 3),
        ("times", c_int64 * 3),
        ("name", _UnicodeString),
        ("priority", c_int32),
        ("number", c_size_t),
        ("parent", c_size_t),
        ("handles", c_uint32),
        ("session", c_uint32),
        ("key", c_size_t),
        ("memory", c_size_t * 2),
        ("faults", c_uint32),
        ("more_memory", c_size_t * 9),
        ("operations", c_int64 * 6),
    )


class _Thread(ctypes.Structure):
    """SYSTEM_THREAD_INFORMATION."""

    _fields_ = (
        ("kernel_time", c_int64),
        ("user_time", c_int64),
        ("created", c_int64),
        ("waited", c_uint32),
        ("start", c_void_p),
        ("process", c_size_t),
        ("number", c_size_t),
        ("priority", c_int32),
        ("base_priority", c_int32),
        ("switches", c_uint32),
        ("state", c_uint32),
        ("reason", c_uint32),
    )


_WAITING = 5
_NOT_TOLD = 0


def _threads(process_id: int) -> Iterator[_Thread]:
    buffer = _ask(_ntdll.NtQuerySystemInformation, 5)
    assert buffer is not None
    offset = 0
    while True:
        process = _Process.from_buffer(buffer, offset)
        if process.number == process_id:
            yield from (_Thread * process.threads).from_buffer(buffer, offset + sizeof(_Process))
        if not process.next:
            return
        offset += process.next


def thread_activity(process_id: int, thread_id: int | None) -> tuple[bool, tuple[int, ...]]:
    """Whether a thread may be asleep, and what stays the same for as long as it is. None: all of the process.

    Wine tells neither the state nor the switches: there only processor time is left, in steps of 10 ms.
    """
    threads = [one for one in _threads(process_id) if thread_id in (None, one.number)]
    assert threads, f"no thread {thread_id} in process {process_id}"
    activity = (number for one in threads for number in (one.kernel_time, one.user_time, one.switches))
    return all(one.state in (_WAITING, _NOT_TOLD) for one in threads), tuple(activity)


# ---- Processor time and memory ----


def processor_seconds(process: int) -> float:
    """How long a process, of which this is a handle, has run on a processor so far."""
    times = [c_int64() for _ in range(4)]
    assert _kernel32.GetProcessTimes(c_void_p(process), *map(byref, times))
    return sum(time.value for time in times[2:]) / 1e7


class _Memory(ctypes.Structure):
    """PROCESS_MEMORY_COUNTERS."""

    _fields_ = (
        ("size", c_uint32),
        ("faults", c_uint32),
        ("peak_working_set", c_size_t),
        ("working_set", c_size_t),
        ("quotas", c_size_t * 4),
        ("pagefile", c_size_t),
        ("peak_pagefile", c_size_t),
    )


def resident_bytes(process: int | None = None) -> int:
    """How much memory a process has; this one by default."""
    memory = _Memory(size=sizeof(_Memory))
    handle = _THIS_PROCESS if process is None else c_void_p(process)
    assert _kernel32.K32GetProcessMemoryInfo(handle, byref(memory), memory.size)
    return int(memory.working_set)


# ---- Suspending ----


def suspend(process: int) -> None:
    """Stops a process, as SIGSTOP does elsewhere."""
    assert _ntdll.NtSuspendProcess(c_void_p(process)) == 0


def resume(process: int) -> None:
    """Lets it go on."""
    assert _ntdll.NtResumeProcess(c_void_p(process)) == 0


# ---- Ctrl-C ----


@functools.cache
def need_console() -> None:
    """Makes sure that there is a console, by which alone Ctrl-C comes. Processes that start later have it too."""
    if _kernel32.GetConsoleProcessList(byref(c_uint32()), 1):
        return
    _kernel32.GetStdHandle.restype = c_void_p
    before = [_kernel32.GetStdHandle(one) for one in _STANDARD_HANDLES]
    # Wine's console may be one that no Ctrl-C comes from.
    _kernel32.FreeConsole()
    assert _kernel32.AllocConsole(), ctypes.get_last_error()
    # The new console has become the standard input and output.
    for one, handle in zip(_STANDARD_HANDLES, before):
        _kernel32.SetStdHandle(one, c_void_p(handle))


def heed_interrupts() -> None:
    """Has this process heed Ctrl-C: what starts in a process group of its own ignores it."""
    assert _kernel32.SetConsoleCtrlHandler(None, False)


def interrupt(process_id: int) -> None:
    """Sends Ctrl-C to the process group that began with this process; only those in it that heed it, hear it."""
    assert _kernel32.GenerateConsoleCtrlEvent(_CTRL_C_EVENT, process_id), ctypes.get_last_error()
