"""PyInstaller's hook for bbipc: a frozen program takes the native library along, which no import statement names."""

from __future__ import annotations

from PyInstaller.utils.hooks import collect_dynamic_libs

binaries: list[tuple[str, str]] = collect_dynamic_libs("bbipc")
# The hook itself is of no use in the program.
excludedimports = ["bbipc._pyinstaller"]
