"""What tests of the examples share."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from tree import EXAMPLES


@pytest.fixture
def example_module(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """One of the examples as a module, to be called with less patience than its users have."""
    before = set(sys.modules)
    sys.path.insert(0, str(EXAMPLES))
    try:
        yield importlib.import_module(request.param)
    finally:
        sys.path.remove(str(EXAMPLES))
        for name in set(sys.modules) - before:
            if str(EXAMPLES) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]
