"""The rules of the house, as far as a program can check them: CONTRIBUTING.md tells of them in words.

`faults` says of a tree what breaks them.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

LINES_MAX = 70
COLUMNS_MAX = 120

#: The floors of native/, the lowest first. A file imports what stands on its own floor or below.
FLOORS = (
    ("base/",),
    ("net/",),
    ("posix/", "windows/"),
    ("platform.zig",),
    ("core/",),
    ("calls.zig",),
    ("c_api.zig", "cpython/"),
    ("tests/",),
    ("root.zig", "random_calls.zig"),
)

#: Where the library may ask which system this is: once among all, once among the POSIX systems, and in a file that is
#: about two of them.
SWITCHES = {"platform.zig", "posix/kernel.zig", "posix/bsd.zig"}

#: Folders that have one door: which files may import from them.
DOORS = {
    ("posix/", "windows/"): ("posix/", "windows/", "platform.zig", "tests/"),
    ("core/",): ("core/", "calls.zig", "tests/", "root.zig"),
}

#: The floors of bbipc/, the lowest first.
PYTHON_FLOORS = (
    ("bbipc._native",),
    ("bbipc.events", "bbipc.errors", "bbipc.credentials", "bbipc.hosts", "bbipc.addresses", "bbipc.patience"),
    ("bbipc.messages",),
    ("bbipc.sockets",),
    ("bbipc.tcp",),
    ("bbipc.polling", "bbipc.ipv4", "bbipc.ipv6", "bbipc.local", "bbipc.authentication"),
    ("bbipc.adopting", "bbipc.attempts", "bbipc.connecting"),
    ("bbipc.processes", "bbipc.activation"),
    ("bbipc", "bbipc._pyinstaller"),
)

#: For type checkers alone: an error has the socket that it is about, and to name that class is worth more to users than
#: a Protocol in its place.
KNOWN_TO_CHECKERS = {("bbipc.errors", "bbipc.sockets")}

Graph = Mapping[str, set[str]]


def faults(root: Path) -> Iterator[str]:
    """What is wrong with a tree, one fault after the other."""
    sources = {
        path.relative_to(root / "native").as_posix(): path.read_text(encoding="utf-8")
        for path in sorted((root / "native").rglob("*.zig"))
    }
    imports = {name: set(zig_imports(name, text).values()) for name, text in sources.items()}
    yield from upward_imports(imports)
    yield from imports_past_a_door(imports)
    yield from (f"native/: a circle of imports: {circle}" for circle in circles(imports))
    yield from different_aliases(sources)
    for name, text in sources.items():
        for fault in (*long_zig_functions(text), *wide_lines(text), *double_assertions(text), *switches(name, text)):
            yield f"native/{name}:{fault}"

    modules = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((root / "bbipc").rglob("*.py"))
        if "-" not in path.name
    }
    graph = {name: python_imports(name, path, set(modules)) for name, path in modules.items()}
    yield from (f"bbipc/: a circle of imports: {circle}" for circle in circles(graph))
    for name, targets in graph.items():
        for target in sorted(targets):
            if python_floor(target) > python_floor(name):
                yield f"{name}: imports {target}, which stands above it"
    for path in modules.values():
        yield from (f"{path.relative_to(root).as_posix()}:{fault}" for fault in long_python_functions(path))


# ---- Imports ----


def zig_imports(name: str, text: str) -> dict[str, str]:
    """The files that a file imports, by how the import is written."""
    written = re.findall(r'@import\("([^"]+\.zig)"\)', text)
    return {one: posixpath.normpath(posixpath.join(posixpath.dirname(name), one)) for one in written}


def floor(name: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if any(name == room or (room.endswith("/") and name.startswith(room)) for room in rooms):
            return number
    raise LookupError(f"native/{name} stands on no floor: tests/support/tidy.py lists them")


def upward_imports(imports: Graph) -> Iterator[str]:
    for name, targets in imports.items():
        for target in sorted(targets):
            if floor(target) > floor(name):
                yield f"native/{name}: imports {target}, which stands above it"
            systems = {name.partition("/")[0], target.partition("/")[0]}
            if systems == {"posix", "windows"} or systems == {"c_api.zig", "cpython"}:
                yield f"native/{name}: imports {target}, which stands beside it"


def imports_past_a_door(imports: Graph) -> Iterator[str]:
    for name, targets in imports.items():
        for rooms, allowed in DOORS.items():
            for target in sorted(targets):
                if target.startswith(rooms) and not name.startswith(allowed):
                    yield f"native/{name}: imports {target} past the door of that room"


def python_floor(name: str) -> int:
    for number, rooms in enumerate(PYTHON_FLOORS):
        if any(name == room or (room != "bbipc" and name.startswith(room + ".")) for room in rooms):
            return number
    raise LookupError(f"{name} stands on no floor: tests/support/tidy.py lists them")


def circles(graph: Graph) -> list[str]:
    """The imports that lead back to where they begin, one for each circle that is found."""
    found: list[str] = []
    done: set[str] = set()

    def follow(name: str, way: list[str]) -> None:
        if name in way:
            found.append(" > ".join([*way[way.index(name) :], name]))
        elif name not in done:
            for target in sorted(graph.get(name, ())):
                follow(target, [*way, name])
            done.add(name)

    for name in sorted(graph):
        follow(name, [])
    return found


def python_imports(name: str, path: Path, modules: set[str]) -> set[str]:
    """The modules of the package that a module imports, those for type checkers and in functions included."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = modules_imported(tree, package, modules) - {name}
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            checkers = {one for one in modules_imported(node, package, modules) if (name, one) in KNOWN_TO_CHECKERS}
            node.body = []
            found -= checkers - modules_imported(tree, package, modules)
    return found


def modules_imported(tree: ast.AST, package: str, modules: set[str]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            parent = ".".join(parts[: len(parts) + 1 - node.level]) if node.level else ""
            source = ".".join(filter(None, (parent, node.module or "")))
            for alias in node.names:
                submodule = f"{source}.{alias.name}"
                found.add(submodule if submodule in modules else source)
    return found & modules


def different_aliases(sources: Mapping[str, str]) -> Iterator[str]:
    """Files that are known under two names. What is passed on (`pub const`) has the name that it is passed on by."""
    aliases: dict[str, dict[str, str]] = {}
    for name, text in sources.items():
        paths = zig_imports(name, text)
        for alias, written in re.findall(r'(?m)^ *const (\w+) = @import\("([^"]+\.zig)"\);', text):
            aliases.setdefault(paths[written], {}).setdefault(alias, name)
    for target, names in aliases.items():
        if len(names) > 1:
            yield f"native/{target}: has the names " + ", ".join(f"{alias} ({name})" for alias, name in names.items())


# ---- Lines ----


def long_zig_functions(text: str) -> Iterator[str]:
    lines = text.split("\n")
    for start, line in enumerate(lines):
        found = re.match(r"( *)(?:pub |export |inline |noinline )*fn (\w+)", line)
        if not found or line.endswith(("}", ";")):
            continue
        ends = (number for number in range(start, len(lines)) if lines[number].startswith(found[1] + "}"))
        end = next(ends, len(lines) - 1)
        # A function that makes a type contains all functions of the type.
        head = next((one for one in lines[start:] if one.endswith("{")), "")
        if end + 1 - start > LINES_MAX and not head.endswith(" type {"):
            yield f"{start + 1}: {found[2]} has {end + 1 - start} lines"


def long_python_functions(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            # The docstring may take as many lines as it needs.
            first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0]
            count = (node.end_lineno or 0) + 1 - first.lineno
            if count > LINES_MAX:
                yield f"{node.lineno}: {node.name} has {count} lines"


def wide_lines(text: str) -> Iterator[str]:
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > COLUMNS_MAX:
            yield f"{number}: has {len(line)} columns"


def double_assertions(text: str) -> Iterator[str]:
    for found in re.finditer(r"\bassert\([^;]*?\band\b[^;]*;", text):
        number = text.count("\n", 0, found.start()) + 1
        yield f"{number}: asserts two conditions, and would not tell which failed"


def switches(name: str, text: str) -> Iterator[str]:
    if name.startswith("tests/"):
        return
    for number, line in enumerate(text.split("\n"), 1):
        if name not in SWITCHES and re.search(r"\bos\.tag\b|\bisMinGW\b|\bisDarwin\b|\bobject_format\b", line):
            yield f"{number}: asks which system this is, which platform.zig is for"
        of_system = re.search(r"\bstd\.os\.(linux|windows|plan9|wasi)\b", line)
        if of_system and not name.startswith({"linux": "posix/", "windows": "windows/"}.get(of_system[1], "-")):
            yield f"{number}: calls a system by {of_system[0]}, which its own room is for"
        if '@import("root")' in line:
            yield f"{number}: imports the root, which stands above everything"
