"""The pages of the documentation: their blocks of code, and programs run as their readers run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import bbipc
from patience import PATIENCE
from tree import ROOT

DOCS = ROOT / "docs"


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    caption: str
    code: str
    #: The number of the code's first line in its page.
    line: int


def blocks_of(page: Path) -> list[Block]:
    found = []
    lines = page.read_text(encoding="utf-8").splitlines()
    at = 0
    while at < len(lines):
        opening = re.match(r"(?P<fence>`{3,})(\{code-block\} *)?(?P<language>.*)$", lines[at])
        if not opening:
            assert not re.match(r"\s+```", lines[at]), f"{page}:{at + 1}: a block that is indented would not be run"
            at += 1
            continue
        end = lines.index(opening["fence"], at + 1)
        start = at + 1
        caption = ""
        while option := re.fullmatch(r":([a-z-]+):(.*)", lines[start]):
            caption = option[2].strip() if option[1] == "caption" else caption
            start += 1
        found.append(Block(opening["language"], caption, "\n".join(lines[start:end]), start + 1))
        at = end + 1
    return found


def environment() -> dict[str, str]:
    """Programs find the package that is tested, and `python` is the Python that tests it."""
    paths = [os.path.dirname(sys.executable), os.environ.get("PATH", "")]
    return {
        **os.environ,
        "PATH": os.pathsep.join(paths),
        "PYTHONPATH": os.path.dirname(os.path.dirname(bbipc.__file__)),
        "PYTHONWARNINGS": "error",
    }


def ended_program(program: str, directory: Path | None = None, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a program as a reader of its page does, to whatever end. Returns its status and its output."""
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=directory,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
