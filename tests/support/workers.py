"""Whether `python -m pytest` divides the tests among workers."""

from __future__ import annotations

import sys

import pytest

import systems
from patience import QEMU


def divides_the_tests(config: pytest.Config) -> bool:
    """Whether all tests are asked for, on a system where workers have been tried, and no option wants one process."""
    if not systems.LINUX or QEMU or sys.implementation.name != "cpython" or hasattr(config, "workerinput"):
        return False
    chosen = config.option
    if getattr(chosen, "numprocesses", 0) is not None or chosen.dist != "no":
        return False  # pytest-xdist is missing, or has been told what to do
    return config.args_source == pytest.Config.ArgsSource.TESTPATHS and not chosen.usepdb and chosen.capture != "no"
