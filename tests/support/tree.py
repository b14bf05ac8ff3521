"""Where things are in the project's tree."""

from __future__ import annotations

from pathlib import Path

#: The folder of this module: programs that tests start have it on their path, to find the modules beside this one.
SUPPORT = Path(__file__).resolve().parent

ROOT = SUPPORT.parent.parent
EXAMPLES = ROOT / "examples"
