"""Runs a Python program that heeds Ctrl-C in a process group of its own: `python interruptible.py SCRIPT|-c CODE ...`.

Windows lets a process group of its own ignore Ctrl-C until one of its processes asks for it; no program needs to know
that. Without such a group, Ctrl-C would come to the tests as well.
"""

from __future__ import annotations

import os
import runpy
import sys


def main() -> None:
    if sys.platform == "win32":
        import windows

        windows.heed_interrupts()
    del sys.argv[0]
    if sys.argv[0] == "-c":
        code = compile(sys.argv.pop(1), "<string>", "exec")
        sys.path[0] = ""
        exec(code, {"__name__": "__main__", "__builtins__": __builtins__})
    else:
        sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
