"""What tests of the calling layers share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from call_cases import Scene


@pytest.fixture
def scene() -> Iterator[Scene]:
    with contextlib.closing(Scene()) as made:
        yield made
