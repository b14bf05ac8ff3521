"""What tests of Windows' pipes share."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator

import pytest

_numbers = itertools.count(1)


@pytest.fixture
def name() -> str:
    """A plain name that no server has."""
    return f"bbipc-test-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    """What is entered here is left after the test."""
    with contextlib.ExitStack() as made:
        yield made
