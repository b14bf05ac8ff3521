"""Which calling layer there is, as far as tests need one or the other."""

from __future__ import annotations

import sys

import pytest

import call_cases
from bbipc._native import by_cpython
from call_cases import METHODS, METHODS_ARE_BUILT_IN

CPYTHON = sys.implementation.name == "cpython"
needs_cpython = pytest.mark.skipif(not CPYTHON, reason="there are built-in functions for CPython only")
needs_built_in_methods = pytest.mark.skipif(not METHODS_ARE_BUILT_IN, reason="BBIPC_CALLS asks for ctypes")
needs_gil = pytest.mark.skipif(not CPYTHON or not call_cases.HAS_GIL, reason="this Python has no GIL of CPython's")

#: Built-in functions, and the methods if they are.
NAMES = [*by_cpython.function_names(), *(METHODS if METHODS_ARE_BUILT_IN else [])]
