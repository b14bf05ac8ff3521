"""Other Pythons of this machine."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from patience import PATIENCE
from systems import WINDOWS

#: Those that are looked for, whatever this machine has, so that all workers have the same tests.
VERSIONS = ("2.7", *(f"3.{minor}" for minor in range(6, 15)))

_TELL = (
    "import sys, platform; sys.stdout.write('%s %d.%d' % ((platform.python_implementation(),) + sys.version_info[:2]))"
)


def cpython(version: str) -> str:
    """The path of a CPython of this version, 3.8 for example. Skips the test where there is none."""
    path = _find(version)
    if path is None:
        pytest.skip(f"there is no CPython {version} here: none of pyenv, and no python{version} in the PATH")
    return path


def python_with(module: str) -> str:
    """The path of a Python that has a module: this one, or the system's own. Skips the test where neither has it."""
    path = _find_with(module)
    if path is None:
        pytest.skip(f"neither this Python nor the system's own has the module {module}")
    return path


@functools.cache
def _find_with(module: str) -> str | None:
    # A virtual environment lacks what the system's packages have.
    for path in (sys.executable, shutil.which("python3", path="/usr/bin")):
        if path is None:
            continue
        command = [path, "-c", f"import {module}"]
        if subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False).returncode == 0:
            return path
    return None


@functools.cache
def _find(version: str) -> str | None:
    return next((path for path in _candidates(version) if _tells(path) == f"CPython {version}"), None)


def _candidates(version: str) -> Iterator[str]:
    if version == f"{sys.version_info[0]}.{sys.version_info[1]}":
        yield sys.executable
    # What pyenv puts into the PATH fails for versions that are not chosen there.
    for folder in (Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions").glob(f"{version}.*"):
        yield str(folder / ("python.exe" if WINDOWS else "bin/python"))
    # Under Wine, the programs of the system below would be found as well.
    found = shutil.which(f"python{version}{'.exe' if WINDOWS else ''}")
    if found:
        yield found


def _tells(path: str) -> str:
    try:
        asked = subprocess.run(
            [path, "-E", "-c", _TELL],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "nothing"
    return asked.stdout
