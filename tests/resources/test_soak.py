"""The same thing very often, and everything at once: nothing is left over, nothing hangs, no byte goes astray.

Some seconds of it by default; all of it with BBIPC_TESTS_FULL=1 in the environment. The program is soak.py, whose parts
can be run by themselves.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import systems
from tree import SUPPORT

pytestmark = pytest.mark.long

FULL = os.environ.get("BBIPC_TESTS_FULL") == "1"
CYCLES = 100_000 if FULL else 10_000
if sys.platform == "win32":
    # Each takes several times as long there; and a client's port is taken for two minutes after its connection.
    CYCLES //= 5
elif len(systems.LOOPBACKS) == 1:
    # macOS connects from 16,000 ports, and each is taken for a while after its connection.
    CYCLES = 10_000
ENDINGS = 20_000 if FULL else 2_000
SECONDS = 60 if FULL else 3


#: Makes every call release the GIL, also the short ones that otherwise keep it. Other threads' calls can then come in
#: the middle of a call, as on a Python without a GIL. (PyPy has no PyDLL, and calls like this.)
RELEASING = """
import ctypes, os, runpy, sys
ctypes.PyDLL = ctypes.CDLL
os.environ["BBIPC_CALLS"] = "ctypes"
del sys.argv[0]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_soak(*arguments: object, options: tuple[str, ...] = ()) -> None:
    """In a process of its own: what it holds is its own, and a crash ends only it."""
    result = subprocess.run(
        [sys.executable, *options, str(SUPPORT / "soak.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=1200,
    )
    print(result.stdout)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("namespace", ["tcp", "local"])
def test_cycles_of_connect_echo_and_close_leave_nothing(namespace: str) -> None:
    run_soak("cycles", namespace, CYCLES)


@pytest.mark.timeout(1200)
def test_streams_closed_in_the_middle_of_everything_leave_nothing() -> None:
    run_soak("endings", ENDINGS)


# Development mode: Python's own checks of memory, and all warnings.
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "options", [("-X", "dev"), ("-X", "dev", "-c", RELEASING)], ids=["as it is", "every call releases the GIL"]
)
def test_many_threads_do_everything_at_once(options: tuple[str, ...]) -> None:
    run_soak("threads", SECONDS, options=options)
