"""Makes the declarations for ctypes of the C header: a new function there needs none by hand.

    python native/packaging/make_declarations.py [--check]

It writes two modules of bbipc/_native/, which are checked in: `declarations.py`, with every function and constant, and
`plain_calls.py`, with calls of the functions that take nothing but numbers and names. With --check it writes nothing,
and fails if they are not what it would write; a test does the same.

What the header doesn't say outright, a function's name and parameters do:

- One that makes a handle is called make_..., connect_..., accept_... or adopt_.... Its call takes besides the class of
  what is to own the handle, and returns such an object.
- One that takes a `place` waits for as long as its timeout says, and one that takes a `start` and no timeout copies
  memory. Of these there are two declarations: the plain name keeps the GIL, for a timeout of 0 and for what is small;
  the one with _waiting or _much behind releases it.
- One with a timeout and no place always releases it, and one without a result, which stands around a fork.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
HEADER = ROOT / "native" / "include" / "bbipc.h"
PACKAGE = ROOT / "bbipc" / "_native"

LINE_MAX = 120

NUMBERS = {
    "bbipc_handle": "c_int64",
    "bbipc_result": "c_int64",
    "int32_t": "c_int32",
    "int64_t": "c_int64",
    "uint8_t": "c_uint8",
    "uint16_t": "c_uint16",
    "uint32_t": "c_uint32",
    "uint64_t": "c_uint64",
}

#: The package has asked for it when it found the library.
NOT_DECLARED = {"version"}

#: Pointers to the first of several numbers, and to objects of Python.
ARRAYS = {"addresses", "events", "happened", "messages", "sizes", "sockets"}
OBJECTS = {"reference", "type"}

#: A reason that is no failure comes with the system's code too, which a plain call would drop. What owns an adopted
#: handle depends on what it is.
NOT_PLAIN = {"connection_error", "adopt_stream", "adopt_server"}


class Parameter(NamedTuple):
    """One of a function's, such as ``const void *data``."""

    type: str
    name: str
    is_pointer: bool
    #: Of an array whose size the type says, ``const uint8_t host_address[16]``. Such bytes are always that many.
    is_array: bool = False

    @property
    def for_ctypes(self) -> str:
        """Arrays and buffers are given as addresses, places for one number as references to it."""
        if not self.is_pointer:
            return NUMBERS[self.type]
        if self.type == "char":
            return "c_char_p"
        if self.name in OBJECTS:
            return "py_object"
        is_address = self.type == "void" or self.is_array or self.name in ARRAYS
        return "c_void_p" if is_address else f"POINTER({NUMBERS[self.type]})"


class Function(NamedTuple):
    """One of the header's, without bbipc_ in front of its name."""

    name: str
    result: str
    parameters: list[Parameter]

    def takes(self, name: str) -> bool:
        return any(one.name == name for one in self.parameters)

    @property
    def makes_handle(self) -> bool:
        return self.name.startswith(("make_", "connect_", "accept_", "adopt_"))

    @property
    def for_ctypes(self) -> str:
        if self.makes_handle:
            return "NewHandle"
        special = {"void": "None", "const char *": "c_char_p", "void *": "py_object"}
        return special.get(self.result) or NUMBERS[self.result]

    @property
    def declared_names(self) -> list[tuple[str, str]]:
        """Each name that it is declared by, and the library to call it through: keeping the GIL or releasing it."""
        waits, copies = self.takes("timeout_ns"), self.takes("start")
        if self.result == "void" or (waits and not self.takes("place")):
            return [(self.name, "releasing")]
        if waits or copies:
            return [(self.name, "keeping"), (f"{self.name}_{'waiting' if waits else 'much'}", "releasing")]
        return [(self.name, "keeping")]

    @property
    def is_plain(self) -> bool:
        """Whether a call needs nothing but numbers, names with their sizes, and room for the system's code."""
        if self.result != "bbipc_result" or self.name in NOT_PLAIN or self.takes("timeout_ns"):
            return False
        if not self.makes_handle and any(one.is_array for one in self.parameters):
            # It is filled.
            return False
        if not self.makes_handle and not any(one.type == "bbipc_handle" for one in self.parameters):
            return False
        return all(
            not one.is_pointer or one.name == "system_code" or one.is_array or self.takes(f"{one.name}_size")
            for one in self.parameters
        )


class Section(NamedTuple):
    """What stands under one of the header's headings, ``/* ---- Errors ---- */``."""

    title: str
    constants: list[tuple[str, str]]
    functions: list[Function]


def read_header(text: str) -> list[Section]:
    parts = re.split(r"/\* ---- (.*?) ---- \*/", text)
    return [read_section(title, part) for title, part in zip(parts[1::2], parts[2::2])]


def read_section(title: str, text: str) -> Section:
    code = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)
    constants = re.findall(r"^#define BBIPC_([A-Z0-9_]+) +\(?(-?\w+?)u?\)? *$", code, flags=re.MULTILINE)
    functions = re.findall(r"((?:const )?\w+[ *]+)bbipc_(\w+)\(([^)]*)\);", code)
    read = [read_function(*one) for one in functions]
    return Section(title, constants, [one for one in read if one.name not in NOT_DECLARED])


def read_function(result: str, name: str, parameters: str) -> Function:
    texts = [] if parameters.strip() == "void" else parameters.split(",")
    return Function(name, " ".join(result.split()), [read_parameter(one.strip()) for one in texts])


def read_parameter(text: str) -> Parameter:
    pattern = r"(?:const )?(?P<type>\w+) (?P<star>(?:\*const )?\*?)(?P<name>\w+)(?P<array>\[\d+\])?"
    match = re.fullmatch(pattern, text)
    assert match, text
    return Parameter(match["type"], match["name"], bool(match["star"] or match["array"]), bool(match["array"]))


# ---- Writing ----


def call_of(before: str, arguments: Sequence[str], after: str = "") -> Iterator[str]:
    """The lines of a call, or of the beginning of a definition, as the formatter breaks them."""
    indent = re.match(" *", before)
    assert indent
    inner = f"{indent[0]}    "
    joined = ", ".join(arguments)
    if len(f"{before}({joined}){after}") <= LINE_MAX:
        yield f"{before}({joined}){after}"
        return
    yield f"{before}("
    if len(inner + joined) <= LINE_MAX:
        yield inner + joined
    else:
        yield from (f"{inner}{one}," for one in arguments)
    yield f"{indent[0]}){after}"


def declarations_of(sections: Sequence[Section]) -> Iterator[str]:
    yield '"""The C interface, declared for ctypes: the constants and functions of native/include/bbipc.h in its order.'
    yield ""
    yield "Made from the header by native/packaging/make_declarations.py, which says what releases the GIL. Not to be"
    yield "changed by hand."
    yield '"""'
    yield ""
    yield "from __future__ import annotations"
    yield ""
    types = {one for section in sections for function in section.functions for one in types_of(function)}
    yield from imports_of("ctypes", types - {"NewHandle", "None"})
    yield ""
    yield "from .handles import NewHandle"
    yield "from .library import declare, keeping, releasing"
    for section in sections:
        yield ""
        yield f"# {section.title}"
        yield from (f"{name} = {value.upper().replace('X', 'x')}" for name, value in section.constants)
        backends = [name for name, _ in section.constants if name.startswith("BACKEND_") and name != "BACKEND_DEFAULT"]
        if backends:
            items = ", ".join(f'"{name[len("BACKEND_") :].lower()}": {name}' for name in backends)
            yield f"BACKENDS = {{{items}}}"
        for function in section.functions:
            arguments = [f'"{function.name}"', function.for_ctypes, *(one.for_ctypes for one in function.parameters)]
            for name, library in function.declared_names:
                yield from call_of(f"{name} = declare", [library, *arguments])


def types_of(function: Function) -> Iterator[str]:
    for text in (function.for_ctypes, *(one.for_ctypes for one in function.parameters)):
        yield from re.findall(r"\w+", text)


def imports_of(module: str, names: set[str]) -> Iterator[str]:
    # Constants come first, as in any sorted import.
    ordered = sorted(names, key=lambda name: (not name.isupper(), name))
    line = f"from {module} import {', '.join(ordered)}"
    if len(line) <= LINE_MAX:
        yield line
        return
    yield f"from {module} import ("
    yield from (f"    {name}," for name in ordered)
    yield ")"


def plain_calls_of(sections: Sequence[Section]) -> Iterator[str]:
    functions = [function for section in sections for function in section.functions if function.is_plain]
    yield '"""Calls by ctypes of the functions that take nothing but numbers and names.'
    yield ""
    yield "Made from native/include/bbipc.h by native/packaging/make_declarations.py. Not to be changed by hand."
    yield '"""'
    yield ""
    yield "from __future__ import annotations"
    yield ""
    yield "from ctypes import byref, c_int32"
    yield ""
    yield "from . import declarations"
    yield "from .results import owner_of, pack"
    yield ""
    yield "TYPE_CHECKING = False"
    yield "if TYPE_CHECKING:"
    yield "    from collections.abc import Callable"
    yield ""
    yield "    from .classes import OwnerT"
    yield "    from .handles import NewHandle"
    yield ""
    yield "__all__ = ["
    yield from (f'    "{name}",' for name in sorted(function.name for function in functions))
    yield "]"
    direct = [function for function in functions if not function.takes("system_code")]
    yield ""
    for function in direct:
        numbers = ", ".join("int" for _ in function.parameters)
        yield f"{function.name}: Callable[[{numbers}], int] = declarations.{function.name}"
    for function in functions:
        if function not in direct:
            yield from definition_of(function)


def definition_of(function: Function) -> Iterator[str]:
    names = [one.name for one in function.parameters if one.is_pointer and one.name != "system_code"]
    sizes = {f"{name}_size": f"len({name})" for name in names}
    taken = [one.name for one in function.parameters if one.name not in sizes and one.name != "system_code"]
    given = [sizes.get(one.name, one.name) for one in function.parameters if one.name != "system_code"]
    parameters = [f"{name}: {'bytes' if name in names else 'int'}" for name in taken]
    if function.makes_handle:
        parameters.append("kind: type[OwnerT]")
    returned = "OwnerT | int" if function.makes_handle else "int"
    yield ""
    yield ""
    yield from call_of(f"def {function.name}", parameters, f" -> {returned}:")
    yield "    code = c_int32()"
    call = f"declarations.{function.name}"
    if function.makes_handle:
        yield from call_of(f"    made: NewHandle = {call}", [*given, "byref(code)"])
        yield "    return owner_of(made, code, kind)"
    else:
        yield from call_of(f"    result: int = {call}", [*given, "byref(code)"])
        yield "    return result if result >= 0 else pack(result, code.value)"


def made_of(header: str) -> dict[str, str]:
    """The text of each module, by its name."""
    sections = read_header(header)
    modules = {"declarations.py": declarations_of(sections), "plain_calls.py": plain_calls_of(sections)}
    return {name: "\n".join(lines) + "\n" for name, lines in modules.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="makes the declarations for ctypes of the C header")
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if they are not up to date")
    checks = parser.parse_args(arguments).check
    stale = []
    for name, text in made_of(HEADER.read_text(encoding="utf-8")).items():
        path = PACKAGE / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path.relative_to(ROOT).as_posix())
        if not checks:
            path.write_text(text, encoding="utf-8")
    if checks and stale:
        print(f"not what the header makes: {', '.join(stale)}. Run: python native/packaging/make_declarations.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
