"""The documentation: its code runs and does what it says, its links and pictures are right, no public name is missing.

How a page under docs/ is run:

- Its ``python`` blocks are one program, in their order. What that prints must be what the comments ``# prints ...``
  say; a long one goes on in the next line, indented. No block is left out.
- A ``python`` block with a caption is a file of that name.
- A ``console`` block is a terminal: each ``$ COMMAND`` must print the lines that follow it, and end well. It may still
  be running when the page's next command starts.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

import bbipc
import systems
from pages import DOCS, Block, blocks_of, environment
from patience import PATIENCE
from readiness import TELLS_ENDS_LATE
from reference_tables import with_tables
from systems import CLIENTS_OUTLIVE_EMFILE, WINDOWS, close_resets
from transports import without_ipv6
from tree import ROOT

PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
#: Columns that a block of code has room for.
COLUMNS_MAX = 84
PICTURES = sorted((DOCS / "images").glob("*.svg"))


#: Pages whose programs use what a system lacks, and what that is.
LACKING: dict[str, str] = {}
if WINDOWS:
    LACKING["guide/limits.md"] = "it raises the limit of descriptors (module resource): Windows has none"
    LACKING["guide/daemons.md"] = "it looks at the permissions of a socket's file, and forks: Windows has neither"
    LACKING["guide/threads-fork-signals.md"] = "it forks, and sets a timer that sends a signal: Windows has neither"
if not close_resets("local"):
    LACKING["guide/errors.md"] = "its remote end closes with bytes unread, which resets nothing here"
if not CLIENTS_OUTLIVE_EMFILE:
    LACKING["guide/limits.md"] = "a client that finds no descriptor goes on waiting in it, which macOS gives up"
if TELLS_ENDS_LATE:
    LACKING["guide/events.md"] = "it waits for the end of a TCP stream with bytes unread, of which Wine does not tell"
if without_ipv6() is not None:
    LACKING["guide/ipv6.md"] = f"it uses IPv6, and {without_ipv6()}"


def identifier(path: Path) -> str:
    return path.relative_to(DOCS).as_posix()


def pages_with(language: str, *, as_files: bool = False) -> list[Path]:
    """The pages that have blocks of the language, and those with a caption or those without."""
    return [
        page
        for page in PAGES
        if any(block.language == language and bool(block.caption) == as_files for block in blocks_of(page))
    ]


def runnable(pages: list[Path]) -> list[object]:
    """The pages as parameters of a test that runs their programs, where the system has what these use."""
    return [
        pytest.param(page, marks=pytest.mark.skip(reason=f"{identifier(page)}: {LACKING[identifier(page)]}"))
        if identifier(page) in LACKING
        else page
        for page in pages
    ]


def program_of(page: Path) -> str:
    """The page's program, on the lines that it has in the page, so that a traceback names them."""
    # The page's first line is its title. The guide says that its annotations need this on Python 3.9, and only there.
    lines = ["from __future__ import annotations" if sys.version_info < (3, 10) else ""]
    for block in blocks_of(page):
        if block.language == "python" and not block.caption:
            lines += [""] * (block.line - 1 - len(lines)) + block.code.splitlines()
    return "\n".join(lines) + "\n"


def said_to_be_printed(program: str) -> list[str]:
    comments = re.findall(r"# prints (.*(?:\n# {8}.*)*)", program)
    return [re.sub(r"\n# +", " ", comment) for comment in comments]


@pytest.mark.parametrize("page", runnable(pages_with("python")), ids=identifier)
def test_code_of_page(page: Path, directory: Path) -> None:
    program = program_of(page)
    script = directory / f"{page.name}.py"
    script.write_text(program, encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, str(script)],
        cwd=directory,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    # A socket that the page forgets to close, for example, only says so here.
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == said_to_be_printed(program)


def programs_of_pages() -> dict[str, str]:
    """Every Python program of the pages and of the README, by the name of a module."""
    programs = {}
    for page in [ROOT / "README.md", *PAGES]:
        name = re.sub(r"\W", "_", page.relative_to(ROOT).with_suffix("").as_posix())
        blocks = [block for block in blocks_of(page) if block.language == "python"]
        if page.name == "README.md":
            programs.update({f"{name}_{block.line}": block.code for block in blocks})
            continue
        programs.update({f"{name}_{Path(block.caption).stem}": block.code for block in blocks if block.caption})
        if any(not block.caption for block in blocks):
            programs[name] = program_of(page)
    return programs


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is missing: [test] has it")
@pytest.mark.timeout(300)
def test_code_of_the_pages_passes_mypy_strict_as_it_stands(directory: Path) -> None:
    for name, program in programs_of_pages().items():
        (directory / f"{name}.py").write_text(program + "\n", encoding="utf-8")
    # gevent, which a page shows, need not be installed. Pages that are about POSIX systems are checked everywhere.
    options = ["--strict", "--ignore-missing-imports", "--platform", "linux", "--cache-dir", str(directory / "cache")]
    command = [sys.executable, "-m", "mypy", *options, *sorted(str(one) for one in directory.glob("*.py"))]
    ran = subprocess.run(
        command, cwd=directory, env=environment(), capture_output=True, text=True, timeout=240, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("name", sorted(programs_of_pages()))
def test_types_in_the_pages_cost_one_isinstance_at_most(name: str) -> None:
    tree = ast.parse(programs_of_pages()[name])
    assert {"Any", "cast"}.isdisjoint(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    assert "type: ignore" not in programs_of_pages()[name]
    for loop in ast.walk(tree):
        if isinstance(loop, (ast.For, ast.While, ast.FunctionDef)):
            tested = [ast.unparse(node) for node in ast.walk(loop) if isinstance(node, ast.Call)]
            assert sum(call.startswith("isinstance(") for call in tested) <= 1, tested


@pytest.mark.parametrize("page", pages_with("console"), ids=identifier)
def test_terminals_of_page(page: Path, directory: Path) -> None:
    for block in blocks_of(page):
        if block.language == "python" and block.caption:
            (directory / block.caption).write_text(block.code + "\n", encoding="utf-8")
    with contextlib.ExitStack() as stack:
        running = []
        for block in blocks_of(page):
            if block.language != "console":
                continue
            for command, output in commands_of(block):
                process = stack.enter_context(started(command, directory))
                running.append(process)
                assert process.stdout is not None
                for line in output:
                    assert process.stdout.readline() == line + "\n", command
        for process in running:
            printed, complaints = process.communicate(timeout=PATIENCE)
            assert (process.returncode, printed, complaints) == (0, "", "")


def commands_of(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Each command of a terminal, with the lines that it prints."""
    command = ""
    output: list[str] = []
    for line in block.code.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, output
            command, output = line[2:], []
        else:
            output.append(line)
    yield command, output


@contextlib.contextmanager
def started(command: str, directory: Path) -> Iterator[subprocess.Popen[str]]:
    program, *arguments = command.split()
    # Windows would look for it elsewhere first.
    found = shutil.which(program, path=environment()["PATH"])
    assert found, program
    process = subprocess.Popen(
        [found, *arguments],
        cwd=directory,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("page", PAGES, ids=identifier)
def test_code_fits_into_the_page(page: Path) -> None:
    # Readers would have to scroll to the end of longer lines.
    assert [line for block in blocks_of(page) for line in block.code.splitlines() if len(line) > COLUMNS_MAX] == []


def test_the_files_that_the_architecture_names_are_there() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`((?:native|bbipc|tests)/[\w./]+)`", text))
    assert len(names) > 20
    assert [name for name in sorted(names) if not (ROOT / name).exists()] == []


@pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None, reason="ziglang, which compiles the C program, is missing"
)
@pytest.mark.timeout(300)  # the first time on a machine, Zig builds what every C program needs
@pytest.mark.parametrize("page", pages_with("c", as_files=True), ids=identifier)
def test_c_program_of_page(page: Path, directory: Path) -> None:
    library = Path(bbipc.__file__).with_name(systems.LIBRARY)
    for block in blocks_of(page):
        if block.language != "c":
            continue
        source = directory / block.caption
        source.write_text(block.code + "\n", encoding="utf-8")
        program = source.with_suffix(".exe" if WINDOWS else "")
        compiler = [sys.executable, "-m", "ziglang", "cc", "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
        files = [f"-I{ROOT / 'native' / 'include'}", str(source), str(library), "-o", str(program)]
        if WINDOWS:
            # Windows looks for the library beside the program.
            shutil.copy(library, directory)
        else:
            files.append(f"-Wl,-rpath,{library.parent}")
        subprocess.run([*compiler, *files], check=True)
        ran = subprocess.run(
            [str(program)], cwd=directory, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout.splitlines() == re.findall(r"prints (.*?) \*/", block.code)


# ---- The reference, the links and the pictures ----


def test_every_public_name_is_in_the_reference() -> None:
    documented: list[str] = []
    for page in (DOCS / "reference").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        documented += re.findall(r"^\.\. auto[a-z]+:: bbipc\.(\w+)$", text, re.MULTILINE)
    assert sorted(documented) == sorted(bbipc.__all__)


@pytest.mark.parametrize("page", sorted((DOCS / "reference").glob("*.md")), ids=identifier)
def test_the_reference_can_be_read_without_sphinx(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == with_tables(text), "write it anew: python tests/support/reference_tables.py"
    plain = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    for name in re.findall(r"^\.\. auto[a-z]+:: bbipc\.([A-Za-z]\w+)$", text, re.MULTILINE):
        assert re.search(rf"^\| (\*\*class\*\* )?`{name}\b[^|]*` \| \S[^|]*\. \|$", plain, re.MULTILINE), name


def headings_of(page: Path) -> set[str]:
    """The anchors that a source host, and Sphinx, make of a page's headings."""
    text = re.sub(r"^(`{3,}).*?^\1$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_links_have_a_text_and_lead_somewhere_on_a_source_page(page: Path) -> None:
    text = re.sub(r"^(`{3,}).*?^\1$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert "[](" not in text
    assert "{py:" not in text
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        linked = page if not file else page.parent / file
        assert linked.exists(), target
        if anchor:
            assert anchor in headings_of(linked), target


def public_members(owner: type) -> list[str]:
    # What a base that is not public gives it is its own.
    hidden = [
        base for base in owner.__bases__ if base.__module__.startswith("bbipc.") and base.__name__ not in bbipc.__all__
    ]
    return [
        name
        for kind in (owner, *hidden)
        for name, value in vars(kind).items()
        if not name.startswith("_") and (callable(value) or isinstance(value, property))
    ]


def test_every_public_member_has_a_docstring() -> None:
    # The reference leaves out what has none.
    for name in bbipc.__all__:
        value = getattr(bbipc, name)
        if isinstance(value, type):
            assert value.__doc__, name
            for member in public_members(value):
                assert getattr(value, member).__doc__, f"{name}.{member}"


@pytest.mark.skipif(
    importlib.util.find_spec("sphinx") is None,
    reason="Sphinx is missing: python -m pip install '.[docs]'; .ci/run builds the documentation in any case",
)
@pytest.mark.timeout(300)
def test_documentation_builds_without_a_warning(directory: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    built = subprocess.run(
        [*command, "-d", str(directory / "doctrees"), str(DOCS), str(directory / "html")],
        env={**environment(), "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    reference = "".join(path.read_text(encoding="utf-8") for path in (directory / "html/reference").glob("*.html"))
    shown = set(re.findall(r'id="bbipc\.([\w.]+)"', reference))
    for name in bbipc.__all__:
        assert name in shown
        value = getattr(bbipc, name)
        if isinstance(value, type) and value is not bbipc.Events:
            assert {f"{name}.{member}" for member in public_members(value)} <= shown
    # A built-in method would show no types.
    (signature,) = re.findall(r'id="bbipc\.StreamSocket\.read_into".*?</dt>', reference, re.DOTALL)
    assert "Buffer" in signature


def test_there_are_pictures() -> None:
    assert [path.name for path in PICTURES] == ["connection-life.svg", "what-a-poll-sees.svg"]


@pytest.mark.parametrize("picture", PICTURES, ids=identifier)
def test_picture_is_well_formed_and_names_only_events_that_exist(picture: Path) -> None:
    root = xml.etree.ElementTree.parse(picture).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    text = " ".join(root.itertext())
    named = set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", text)) | {"DETERMINED"}
    assert named <= {str(event) for event in ~bbipc.Events(0)}
    # Whoever can't see it is told what it shows.
    assert root.find("{http://www.w3.org/2000/svg}title") is not None
    assert root.find("{http://www.w3.org/2000/svg}desc") is not None
