"""The rules of the house hold, and what breaks one is noticed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tidy import faults
from tree import ROOT


def test_the_tree_is_tidy() -> None:
    assert list(faults(ROOT)) == []


ASSERTION = "pub fn f(a: bool, b: bool) void {\n    std.debug.assert(a and b);\n}\n"

#: A file, what is added to it, and what is said of that.
BREACHES = {
    "an import that points up": (
        "native/base/status.zig",
        'const up = @import("../core/handles.zig");\n',
        "stands above",
    ),
    "a platform in the other": ("native/posix/sys.zig", 'const w = @import("../windows/sys.zig");\n', "stands beside"),
    "a circle": ("native/core/server.zig", 'const poller = @import("poller.zig");\n', "a circle of imports: core/"),
    "a long function": (
        "native/base/places.zig",
        "fn long() void {\n" + "    f();\n" * 69 + "}\n",
        "long has 71 lines",
    ),
    "a wide line": ("native/base/places.zig", f"// {'x' * 118}\n", "has 121 columns"),
    "two conditions": ("native/base/places.zig", ASSERTION, "asserts two conditions"),
    "a second switch": ("native/core/server.zig", "const x = builtin.os.tag == .linux;\n", "asks which system"),
    "a second name": ("native/core/transfer.zig", 'const names = @import("handles.zig");\n', "has the names"),
    "a platform past its door": (
        "native/core/server.zig",
        'const s = @import("../posix/lock.zig");\n',
        "past the door",
    ),
    "the core past its door": ("native/c_api.zig", 'const w = @import("core/waiters.zig");\n', "past the door"),
    "the root": ("native/core/server.zig", 'const r = @import("root");\n', "imports the root"),
    "a system's calls": ("native/core/server.zig", "const l = std.os.linux;\n", "calls a system by std.os.linux"),
    "a function that is not inlined": (
        "native/base/places.zig",
        "fn short() void {}\nnoinline fn long() void {\n" + "    f();\n" * 69 + "}\n",
        "long has 71 lines",
    ),
    "two conditions in two lines": (
        "native/base/places.zig",
        ASSERTION.replace(" and ", " and\n        "),
        "asserts two",
    ),
    "a module above": ("bbipc/events.py", "from .polling import Poller\n", "bbipc.polling, which stands above it"),
    "a circle of modules": ("bbipc/errors.py", "from . import sockets\n", "a circle of imports: bbipc."),
    "a circle for type checkers": (
        "bbipc/events.py",
        "if TYPE_CHECKING:\n    from .sockets import Socket\n",
        "a circle of imports: bbipc.",
    ),
    "a long method": (
        "bbipc/events.py",
        "class C:\n    def long(self):\n" + "        f()\n" * 71,
        "long has 71 lines",
    ),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_is_noticed(tmp_path: Path, breach: str) -> None:
    name, added, said = BREACHES[breach]
    for folder in ("native", "bbipc"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    with (tmp_path / name).open("a", encoding="utf-8") as file:
        file.write(added)
    found = list(faults(tmp_path))
    assert found != []
    assert any(said in fault for fault in found), found


def test_a_file_without_a_floor_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "native" / "attic").mkdir(parents=True)
    (tmp_path / "native" / "attic" / "old.zig").write_text('const up = @import("other.zig");\n', encoding="utf-8")
    with pytest.raises(LookupError, match=r"old\.zig stands on no floor|other\.zig stands on no floor"):
        list(faults(tmp_path))
