"""How `python -m pytest` runs the tests: by several workers only where nobody wants a single process."""

from __future__ import annotations

import argparse
import sys
from types import SimpleNamespace
from typing import Any

import pytest

import systems
from patience import QEMU
from workers import divides_the_tests

#: What pytest knows after `python -m pytest` alone, with pytest-xdist installed.
PLAIN = {"numprocesses": None, "dist": "no", "usepdb": False, "capture": "fd"}


def config(source: str = "TESTPATHS", *, without: str = "", worker: bool = False, **options: Any) -> Any:
    """What divides_the_tests looks at."""
    known = {name: value for name, value in {**PLAIN, **options}.items() if name not in without.split()}
    made = SimpleNamespace(option=argparse.Namespace(**known), args_source=pytest.Config.ArgsSource[source])
    if worker:
        made.workerinput = {}
    return made


@pytest.mark.skipif(not systems.LINUX or QEMU or sys.implementation.name != "cpython", reason="not tried here")
def test_all_tests_are_divided() -> None:
    assert divides_the_tests(config())


@pytest.mark.parametrize(
    "one",
    [
        config("ARGS"),
        config("INVOCATION_DIR"),
        config(numprocesses=0),
        config(numprocesses=2, dist="load"),
        config(without="numprocesses dist"),
        config(usepdb=True),
        config(capture="no"),
        config(worker=True),
    ],
    ids=["a file is named", "in a folder", "-n 0", "-n 2", "no pytest-xdist", "--pdb", "-s", "a worker"],
)
def test_tests_are_not_divided(one: Any) -> None:
    assert not divides_the_tests(one)
