"""The tables of docs/reference: every public name with its first sentence, for who reads the pages without Sphinx.

``python tests/support/reference_tables.py`` writes them anew from the docstrings; a test compares.
"""

from __future__ import annotations

import ast
import re
from typing import Union

from tree import ROOT

REFERENCE = ROOT / "docs" / "reference"
BEGIN, END = "<!-- From the docstrings: python tests/support/reference_tables.py -->", "<!-- The same, by Sphinx: -->"

#: The package's modules that define what is public.
MODULES = (
    "_native/calls",
    "_native/library",
    "_native/spinning",
    "activation",
    "addresses",
    "adopting",
    "authentication",
    "connecting",
    "errors",
    "events",
    "ipv4",
    "ipv6",
    "local",
    "credentials",
    "messages",
    "polling",
    "processes",
    "sockets",
)

#: Classes that are not public, by the module that defines them: what they give to a class is its own.
HIDDEN = {"MessageMethods": "messages", "TcpServerMethods": "tcp", "TcpStreamMethods": "tcp"}

Definition = Union[ast.ClassDef, ast.FunctionDef, ast.Assign]


class Module:
    """A module's source: what it defines, and the comments ``#:`` above it."""

    def __init__(self, name: str) -> None:
        self.name = name
        source = (ROOT / "bbipc" / f"{name}.py").read_text(encoding="utf-8")
        self._lines = source.splitlines()
        self.defined: dict[str, Definition] = {}
        for node in ast.parse(source).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                self.defined[node.name] = node
            elif isinstance(node, ast.Assign):
                self.defined[ast.unparse(node.targets[0])] = node

    def rows_of(self, name: str) -> list[str]:
        node = self.defined[name]
        if isinstance(node, ast.Assign):
            return [row(f"`{name}`", self._comment(node))]
        if isinstance(node, ast.FunctionDef):
            return [row(f"`{signature(node, method=False)}`", docstring(node))]
        bases = [base for base in map(ast.unparse, node.bases) if not base.startswith("_")]
        bases = [base for base in bases if base != "HandleOwner" and base not in HIDDEN]
        named = f"{name}({', '.join(bases)})" if bases else name
        rows = [row(f"**class** `{named}`", docstring(node))]
        if name == "Events":
            return rows
        rows += self._members_of(node)
        for base in self.hidden_bases_of(name):
            module = Module(HIDDEN[base])
            hidden = module.defined[base]
            assert isinstance(hidden, ast.ClassDef)
            rows += module._members_of(hidden)
        return rows

    def hidden_bases_of(self, name: str) -> list[str]:
        """A class's bases from other modules that are not public."""
        node = self.defined.get(name)
        bases = node.bases if isinstance(node, ast.ClassDef) else []
        return [base for base in map(ast.unparse, bases) if base in HIDDEN]

    def _members_of(self, kind: ast.ClassDef) -> list[str]:
        # What a base that is not public gives it is its own.
        bases = [self.defined.get(ast.unparse(base)) for base in kind.bases if ast.unparse(base).startswith("_")]
        rows = []
        for member in [*(node for base in bases if isinstance(base, ast.ClassDef) for node in base.body), *kind.body]:
            if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
                decorators = [ast.unparse(decorator) for decorator in member.decorator_list]
                if f"{member.name}.setter" in decorators:
                    continue
                what = member.name if "property" in decorators else signature(member, method=True)
                rows.append(row(f"`.{what}`", docstring(member)))
            elif isinstance(member, ast.AnnAssign) and not ast.unparse(member.target).startswith("_"):
                rows.append(row(f"`.{ast.unparse(member.target)}`", self._comment(member)))
        return rows

    def _comment(self, node: ast.stmt) -> str:
        first = node.lineno - 1
        while self._lines[first - 1].strip().startswith("#:"):
            first -= 1
        return " ".join(line.strip()[2:] for line in self._lines[first : node.lineno - 1])


def docstring(node: ast.ClassDef | ast.FunctionDef) -> str:
    return (ast.get_docstring(node) or "").split("\n\n")[0]


def row(name: str, text: str) -> str:
    """A row of a table: a name, and the first sentence of its documentation, in Markdown."""
    sentence = re.split(r"(?<=\.)\s", " ".join(text.split()))[0]
    sentence = re.sub(r":\w+:`~(?:\w+\.)*(\w+)`|:\w+:`([\w.]+)`", r"`\1\2`", sentence).replace("``", "`")
    return f"| {name} | {sentence} |".replace("\\", "\\\\")


def signature(function: ast.FunctionDef, *, method: bool) -> str:
    """A function's name and parameters, with their defaults and without their types."""
    names = function.args
    shown = ast.arguments(
        posonlyargs=[ast.arg(arg=one.arg) for one in names.posonlyargs],
        args=[ast.arg(arg=one.arg) for one in names.args[1 if method else 0 :]],
        vararg=names.vararg,
        kwonlyargs=[ast.arg(arg=one.arg) for one in names.kwonlyargs],
        kw_defaults=names.kw_defaults,
        kwarg=names.kwarg,
        defaults=names.defaults,
    )
    return f"{function.name}({ast.unparse(shown)})"


def tables_of(page: str) -> str:
    """The tables of a page's text: one for each module that its names are from."""
    modules = [Module(name) for name in MODULES]
    names = re.findall(r"^\.\. auto(?:function|class|exception|data):: bbipc\.([A-Za-z]\w+)$", page, re.MULTILINE)
    tables: list[str] = []
    for module in modules:
        rows = [one for name in names if name in module.defined for one in module.rows_of(name)]
        if rows:
            hidden = {HIDDEN[base] for name in names for base in module.hidden_bases_of(name)}
            links = " and ".join(f"[`bbipc/{one}.py`](../../bbipc/{one}.py)" for one in (module.name, *sorted(hidden)))
            tables += ["| name | in short |", "|---|---|", *rows, ""]
            tables += [f"The docstrings in {links} tell all of it: the parameters, the results, the errors.", ""]
    return "\n".join([BEGIN, "", *tables, END])


def with_tables(page: str) -> str:
    """A page's text with its tables as they have to be."""
    if BEGIN in page:
        return page[: page.index(BEGIN)] + tables_of(page) + page[page.index(END) + len(END) :]
    return page.replace("```{eval-rst}", f"{tables_of(page)}\n\n```{{eval-rst}}", 1)


if __name__ == "__main__":
    for path in sorted(REFERENCE.glob("*.md")):
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
