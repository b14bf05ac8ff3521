"""How long tests wait for what must come: also for programs outside pytest, which can't import conftest.py."""

from __future__ import annotations

import sys
from pathlib import Path

#: Whether qemu-user translates this program, of another processor, and its system calls: .ci/emulated-python. It makes
#: most of what a process can ask of itself look as if the program ran by itself, but not this.
QEMU = sys.platform == "linux" and Path("/proc/self/comm").read_text(encoding="utf-8").startswith("qemu-")

#: Seconds. Longer than any wait that succeeds; reached only by one that fails. Under qemu-user a program's start takes
#: ten times as long.
PATIENCE = 100.0 if QEMU else 20.0
