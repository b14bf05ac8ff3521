"""Runs one program: ``MODULE FUNCTION ADDRESS [SIZE]``, ``with_epoll echo_server tcp`` for example."""

from __future__ import annotations

import importlib
import sys

from control import prepare

module, function, address, *numbers = sys.argv[1:]
prepare()
getattr(importlib.import_module(module), function)(address, *map(int, numbers))
