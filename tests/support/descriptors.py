"""What this process holds: descriptors, or handles, and what the library counts; and how many it may have."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator

import pytest

import systems
from bbipc._native import declarations
from systems import WINDOWS

if sys.platform != "win32":
    import resource

#: Types of handles that bbipc never opens, but Windows' libraries when they first need them, or Python for its locks.
_NEVER_OURS = (
    "ALPC Port",
    "Desktop",
    "Directory",
    "EtwRegistration",
    "Key",
    "Mutant",
    "Section",
    "Semaphore",
    "Timer",
    "WindowStation",
)


#: The library keeps some selectors for threads that wait, and how many of them have such a handle (AFD's) changes:
#: native/windows/selectors/poll.zig. soak.py counts them.
_OF_SPARE_SELECTORS = "File 0x100000"


@contextlib.contextmanager
def dropping() -> Iterator[None]:
    """What is dropped inside is gone at the end. CPython does that by itself, PyPy when it collects garbage."""
    yield
    gc.collect()


def open_descriptors() -> dict[int, str]:
    """What this process has open, by number: descriptors, or on Windows handles of the types that bbipc uses."""
    found = systems.open_descriptors()
    if WINDOWS:
        return {number: what for number, what in found.items() if not what.startswith(_NEVER_OURS)}
    return found


def count_of_library() -> tuple[int, int]:
    """How many handles of the C interface are open, and how many operations the system has of this process."""
    return declarations.open_handles(), declarations.pending_operations()


def left_over(before: dict[int, str]) -> dict[int, str]:
    """What is open and was not before."""
    now = open_descriptors()
    if not WINDOWS:
        return {number: what for number, what in now.items() if before.get(number) != what}
    # A handle tells only what kind of thing it is, and takes the number of one that is closed: kinds are counted.
    rest = list(before.values())
    found = {}
    for number, what in now.items():
        if what == _OF_SPARE_SELECTORS:
            continue
        if what in rest:
            rest.remove(what)
        else:
            found[number] = what
    return found


@contextlib.contextmanager
def descriptors_for(needed: int) -> Iterator[None]:
    """Lets this process have ``needed`` descriptors where the system has a limit; skips the test where nobody can."""
    if sys.platform == "win32":
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = systems.most_descriptors(hard, resource.RLIM_INFINITY)
    if most < needed:
        pytest.skip(f"the system allows {most} descriptors, and this needs {needed} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
