"""What PyInstaller asks installed packages for: the directory of their hooks, by the entry point in pyproject.toml."""

from __future__ import annotations

import os


def get_hook_dirs() -> list[str]:
    """Where hook-bbipc.py is."""
    return [os.path.dirname(os.path.abspath(__file__))]
