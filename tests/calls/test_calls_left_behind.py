"""Calls of either layer leave nothing behind, no reference and no memory, also where there is no memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bbipc
import call_cases
import call_checks
from call_cases import Case, Scene
from layers import NAMES, needs_cpython
from patience import PATIENCE, QEMU
from readiness import WINE
from tree import SUPPORT


@needs_cpython
def test_every_built_in_function_and_method_has_cases(scene: Scene) -> None:
    assert {case.name for case in call_cases.cases_of(scene)} == set(NAMES)


@needs_cpython
@pytest.mark.skipif(WINE, reason="the code that counts references is that of every system, and Wine takes minutes")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", NAMES)
def test_no_call_leaves_a_reference_or_memory_behind(scene: Scene, name: str) -> None:
    found = call_checks.leaking_cases(scene, call_cases.built_in_functions(), [name])
    assert not found, "\n".join(found)


@needs_cpython
def test_what_is_left_behind_is_noticed() -> None:
    import ctypes

    kept: list[object] = []
    argument, shared = object(), object()
    case = Case("none", (argument, [shared]))
    watched = call_checks.watched_objects(case)

    def take_reference(one: object) -> None:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))

    def drop_reference(one: object) -> None:
        ctypes.pythonapi.Py_DecRef(ctypes.py_object(one))

    assert call_checks.left_behind(lambda: None, watched) == ""
    for one in (argument, shared):
        found = call_checks.left_behind(lambda one=one: take_reference(one), watched)  # type: ignore[misc]
        assert f"references to {one!r}" in found
        # One too few ends in a crash, if it is not noticed before.
        for _ in range(4000):
            take_reference(one)
        found = call_checks.left_behind(lambda one=one: drop_reference(one), watched)  # type: ignore[misc]
        assert f"-{16 * call_checks.FACTORS[-1]} references to {one!r}" in found
    found = call_checks.left_behind(lambda: kept.append(object()), watched)
    assert "blocks" in found


def debug_python() -> str:
    """A debug build of CPython, which counts all references."""
    found = shutil.which("python3-dbg")
    if found is None:
        pytest.skip("there is no python3-dbg, Debian's debug build of Python")
    look = "import sys; sys.gettotalrefcount(); print(sys.version_info >= (3, 9))"
    checked = subprocess.run([found, "-c", look], capture_output=True, text=True)
    if checked.stdout != "True\n":
        pytest.skip(f"python3-dbg is no debug build of Python 3.9 or later: {checked.stderr or checked.stdout}")
    return found


def run_cases(python: str, what: str, **environment: str) -> None:
    """call_checks.py as a program."""
    paths = os.pathsep.join([str(Path(bbipc.__file__).resolve().parent.parent), str(SUPPORT)])
    result = subprocess.run(
        [python, "-W", "error", str(SUPPORT / "call_checks.py"), what],
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        env={**os.environ, "PYTHONPATH": paths, **environment},
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.long
@needs_cpython
@pytest.mark.skipif(QEMU, reason="the debug build is of another processor than this Python")
@pytest.mark.timeout(120)
def test_a_debug_build_finds_no_reference_left_behind() -> None:
    """It counts those to all objects, and checks what it is asked to do."""
    run_cases(debug_python(), "references", BBIPC_CALLS="cpython")


@pytest.fixture
def failing_memory() -> None:
    pytest.importorskip("_testcapi", reason="only CPython's own tests have what makes allocations fail")


@needs_cpython
@pytest.mark.usefixtures("failing_memory")
def test_calls_without_memory_fail_and_lose_no_byte() -> None:
    run_cases(sys.executable, "memory", BBIPC_CALLS="cpython")


@needs_cpython
@pytest.mark.usefixtures("failing_memory")
def test_receive_without_memory_does_not_lose_what_many_streams_had() -> None:
    """It was lost with the list, or with the bytes of one stream, if there was no memory to make that smaller."""
    run_cases(sys.executable, "receive", BBIPC_CALLS="cpython")


@needs_cpython
@pytest.mark.skipif(QEMU, reason="the debug build is of another processor than this Python")
def test_a_debug_build_finds_nothing_wrong_in_calls_without_memory() -> None:
    """Python was called with an exception pending: the bytes of a stream had been lost without one."""
    python = debug_python()
    if subprocess.run([python, "-c", "import _testcapi"], capture_output=True).returncode:
        pytest.skip("python3-dbg lacks _testcapi, which only CPython's own tests need")
    run_cases(python, "memory", BBIPC_CALLS="cpython")
