"""How long tests wait for what must come: also in programs outside pytest."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

#: Whether qemu-user translates this program, of another processor, and its system calls: .ci/emulated-python. It makes
#: most of what a process can ask of itself look as if the program ran by itself, but not this.
QEMU = sys.platform == "linux" and Path("/proc/self/comm").read_text(encoding="utf-8").startswith("qemu-")

#: Seconds. Longer than any wait that succeeds; reached only by one that fails. Under qemu-user a program's start takes
#: ten times as long.
PATIENCE = 100.0 if QEMU else 20.0


def least_of_three(measure: Callable[[], float], limit: float) -> float:
    """Seconds of processor time that something took: the first figure below the limit, or the least of three.

    A slow or busy machine adds to any of them now and then; what spins takes its time every time.
    """
    least = measure()
    for _ in range(2):
        if least < limit:
            break
        least = min(least, measure())
    return least
