"""The beginning of programs that count what they hold."""

from __future__ import annotations

from systems import WINDOWS
from tree import SUPPORT

#: What a program that runs by itself counts: its descriptors, or handles, once they are as many as before.
COUNTING = (
    """
import sys, time
sys.path.insert(0, {support!r})
if sys.platform == "win32":
    import windows

def count():
    return len(windows.open_handles())

def check_count(expected):
    until = time.perf_counter() + 10
    while count() > expected and time.perf_counter() < until:
        time.sleep(0.01)
    assert count() <= expected, (windows.open_handles(), expected)
"""
    if WINDOWS
    else """
import sys
sys.path.insert(0, {support!r})
import systems

def count():
    return systems.open_descriptors()

def check_count(expected):
    assert count() == expected
"""
).format(support=str(SUPPORT))
