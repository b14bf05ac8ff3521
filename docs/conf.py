"""Sphinx's settings. Build with: python -m sphinx -W --keep-going -b html docs docs/_build/html"""

from __future__ import annotations

import builtins
import os
import re
from typing import Any

# Before the import, which looks at it: the reference shows the methods in Python. Built-in ones tell their parameters,
# but not the types of these.
os.environ["BBIPC_CALLS"] = "ctypes"

import bbipc

project = "bbipc"
author = "The bbipc contributors"
copyright = "The bbipc contributors"
version = release = bbipc.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
root_doc = "index"

html_theme = "furo"
html_title = f"bbipc {release}"
html_static_path = ["_static"]
html_css_files = ["pictures.css"]
html_show_copyright = False
html_copy_source = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 80

# A reference that leads nowhere is an error. Names of the standard library are outside this documentation.
nitpicky = True
nitpick_ignore_regex = [
    ("py:class", r"Buffer|Pathname|Iterable|Sequence"),
    ("py:(class|exc|obj)", r"(builtins\.)?[A-Za-z]*(Error|Exception)"),
    ("py:(class|obj)", r"(builtins\.)?(bool|bytes|bytearray|float|int|list|memoryview|object|str|tuple|None)"),
    ("py:class", r"io\.UnsupportedOperation|subprocess\.Popen"),
]

#: Classes that their own functions make: to show how they are called would mislead.
_MADE_BY_FUNCTIONS = re.compile(r"bbipc\.(Socket|Stream\w+|Ipv[46]\w+|Local\w+|Poller)")


def _hide_constructor(
    _app: Any, what: str, name: str, _object: Any, _options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    if what == "class" and _MADE_BY_FUNCTIONS.fullmatch(name):
        return "", ""
    return signature, returns


def _name_bases(_app: Any, _name: str, _object: Any, _options: Any, bases: list[type | str]) -> None:
    bases[:] = [
        # Not a reference, which would lead to bbipc's own error of that name.
        "``TimeoutError`` of Python" if base is builtins.TimeoutError else base
        for base in bases
        if isinstance(base, str) or base.__name__ in bbipc.__all__ or not base.__module__.startswith("bbipc.")
    ]


def setup(app: Any) -> None:
    app.connect("autodoc-process-signature", _hide_constructor)
    app.connect("autodoc-process-bases", _name_bases)
