"""The programs here begin, take their arguments, and end as the examples do, by the examples' own modules for that."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from child_processes import Processes
from tree import EXAMPLES


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Processes]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(EXAMPLES), os.environ.get("PYTHONPATH")])))
    with Processes() as made:
        yield made
