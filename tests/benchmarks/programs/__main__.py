"""Runs one program: ``EVENT-LOOP MODULE FUNCTION ADDRESS [SIZE]``, ``asyncio with_epoll echo_server tcp`` for example.

The event loop, ``asyncio`` or ``uvloop``, is for functions that are coroutines.
"""

from __future__ import annotations

import importlib
import inspect
import sys

from control import prepare

event_loop, module, function, address, *numbers = sys.argv[1:]
prepare()
result = getattr(importlib.import_module(module), function)(address, *map(int, numbers))
if inspect.iscoroutine(result):
    importlib.import_module(event_loop).run(result)
