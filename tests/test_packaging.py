"""What pip installs: the wheel, the source distribution, the editable install, and the library inside them."""

from __future__ import annotations

import email
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename

from bbipc import _library

# The first build on a machine fills Zig's global cache, which takes more than a minute.
pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).resolve().parent.parent
HEADER = (ROOT / "native" / "bbipc.h").read_text(encoding="utf-8")
TARGETS: list[dict[str, str]] = json.loads((ROOT / "native" / "targets.json").read_text(encoding="utf-8"))
COMPILED = (".so", ".dylib", ".dll", ".pyd", ".o", ".a", ".lib")

WINDOWS_TARGETS = [target["zig_target"] for target in TARGETS if target["library"].endswith(".dll")]

#: The library of the package that all tests use.
INSTALLED = Path(_library.releasing._name)

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None, reason="ziglang, the compiler, is missing"
)
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="checks how the library is built for Linux")


def functions_of_the_header() -> set[str]:
    code = re.sub(r"/\*.*?\*/|//[^\n]*|^\s*#[^\n]*(?:\\\n[^\n]*)*", "", HEADER, flags=re.DOTALL | re.MULTILINE)
    declared = set(re.findall(r"\b(bbipc_\w+)\s*\(", code))
    assert declared
    return declared


def run(command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Runs a command that must succeed, and returns what it printed."""
    finished = run_unchecked(command, cwd=cwd, env=env)
    assert finished.returncode == 0, f"{command} failed:\n{finished.stdout}\n{finished.stderr}"
    return finished.stdout


def run_unchecked(
    command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("BBIPC_WHEEL_TARGET", "PYTHONPATH")
    }
    return subprocess.run(
        command, cwd=cwd, env={**environment, **(env or {})}, capture_output=True, text=True, check=False
    )


def build(kind: str, source: Path, destination: Path, env: Mapping[str, str] | None = None) -> Path:
    """Builds a "wheel" or an "sdist" from a source tree."""
    destination.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", destination]
    run(command, cwd=source, env=env)
    (built,) = destination.iterdir()
    return built


def build_editable(source: Path, destination: Path) -> Path:
    """What `pip install --editable` asks the build system for."""
    destination.mkdir(parents=True, exist_ok=True)
    script = "import sys; from hatchling.build import build_editable; build_editable(sys.argv[1])"
    run([sys.executable, "-c", script, destination], cwd=source)
    (built,) = destination.iterdir()
    return built


def unpack(sdist: Path, directory: Path) -> Path:
    """Unpacks a source distribution and returns the tree inside it."""
    with tarfile.open(sdist) as archive:
        archive.extractall(directory, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (tree,) = directory.iterdir()
    return tree


def make_environment(directory: Path, wheel: Path) -> Path:
    """Makes a virtual environment that has this wheel and nothing else; returns its Python."""
    import venv  # not part of Windows' embeddable Python

    venv.create(directory, symlinks=os.name != "nt", with_pip=False)
    python = directory / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps", wheel]
    run(install, cwd=directory)
    return python


def lief_module() -> Any:
    lief = pytest.importorskip("lief", reason="reads libraries with lief, which has no package for this machine")
    # What it says of its own memory when Python ends would stand behind pytest's last line.
    lief.disable_leak_warning()
    return lief


@pytest.fixture(scope="module", autouse=True)
def zig_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cache for the builds of this file, so that the library is compiled anew only where a test wants it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZIG_LOCAL_CACHE_DIR", str(tmp_path_factory.mktemp("zig")))
        yield


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture
def source_tree(sdist: Path, tmp_path: Path) -> Path:
    """A copy of the sources that a test may change."""
    return unpack(sdist, tmp_path / "source")


@pytest.fixture(scope="module")
def library(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library inside the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(COMPILED))
        return Path(archive.extract(name, tmp_path_factory.mktemp("library")))


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The library in the wheel of every target, by the target's name for Zig."""
    found = {}
    for target in TARGETS:
        name = target["zig_target"]
        wheel = build("wheel", ROOT, tmp_path_factory.mktemp("wheel"), {"BBIPC_WHEEL_TARGET": target["wheel_platform"]})
        assert wheel.name.endswith(f"-py3-none-{target['wheel_platform']}.whl")
        with zipfile.ZipFile(wheel) as archive:
            (held,) = (held for held in archive.namelist() if held.endswith((*COMPILED, ".pdb")))
            assert held == f"bbipc/{target['library']}"
            found[name] = Path(archive.extract(held, tmp_path_factory.mktemp("library")))
    return found


@pytest.fixture(scope="module")
def elf(library: Path) -> Any:
    lief = lief_module()
    return lief.ELF.parse(str(library))


@needs_compiler
class TestEveryTarget:
    @pytest.mark.parametrize("target", TARGETS, ids=lambda target: target["zig_target"])
    def test_library_is_for_the_machine_that_the_wheel_names(
        self, libraries: dict[str, Path], target: dict[str, str]
    ) -> None:
        machine = {"amd64": "x86_64", "arm64": "aarch64"}  # as Windows' format names them
        found = lief_module().parse(str(libraries[target["zig_target"]])).header
        name = (found.machine.name if target["library"].endswith(".dll") else found.machine_type.name).lower()
        assert machine.get(name, name) == target["zig_target"].split("-")[0]
        assert target["wheel_platform"].endswith(("_x86_64", "_amd64") if "x86_64" in machine.get(name, name) else "64")

    def test_no_two_wheels_hold_the_same_library(self, libraries: dict[str, Path]) -> None:
        assert len({library.read_bytes() for library in libraries.values()}) == len(TARGETS)

    @pytest.mark.parametrize("target", TARGETS, ids=lambda target: target["zig_target"])
    def test_library_has_the_bytes_that_zig_build_makes(
        self, libraries: dict[str, Path], target: dict[str, str], tmp_path: Path
    ) -> None:
        # The hook calls the compiler itself, which takes seconds where `zig build` takes minutes on a fresh machine.
        name = target["zig_target"]
        run([sys.executable, "-m", "ziglang", "build", f"-Dtarget={name}", "--prefix", tmp_path], cwd=ROOT)
        folder = "bin" if target["library"].endswith(".dll") else "lib"
        assert (tmp_path / folder / target["library"]).read_bytes() == libraries[name].read_bytes()

    @pytest.mark.parametrize("target", TARGETS, ids=lambda target: target["zig_target"])
    def test_library_tells_nothing_of_the_machine_that_built_it(
        self, libraries: dict[str, Path], target: dict[str, str]
    ) -> None:
        places = {str(ROOT), str(Path.home()), tempfile.gettempdir(), sys.prefix, sys.base_prefix} - {"/"}
        contents = libraries[target["zig_target"]].read_bytes()
        assert [place for place in places if os.fsencode(place) in contents] == []


@needs_compiler
@pytest.mark.parametrize("target", WINDOWS_TARGETS)
class TestWindowsLibrary:
    @pytest.fixture
    def pe(self, libraries: dict[str, Path], target: str) -> Any:
        return lief_module().PE.parse(str(libraries[target]))

    def test_needs_no_library_but_those_of_the_system_and_no_c_run_time(self, pe: Any) -> None:
        needed = {imported.name.lower() for imported in pe.imports}
        assert "kernel32.dll" in needed
        assert needed <= {"kernel32.dll", "ntdll.dll", "ws2_32.dll"}
        assert list(pe.delay_imports) == []

    def test_exports_the_functions_of_the_header_and_nothing_else(self, pe: Any) -> None:
        assert {entry.name for entry in pe.get_export().entries} == functions_of_the_header()

    def test_loads_on_windows_8_1(self, pe: Any) -> None:
        header = pe.optional_header
        assert (header.major_subsystem_version, header.minor_subsystem_version) <= (6, 3)
        assert (header.major_operating_system_version, header.minor_operating_system_version) <= (6, 3)

    def test_takes_every_protection_that_windows_offers(self, pe: Any) -> None:
        protections = {flag.name for flag in pe.optional_header.dll_characteristics_lists}
        assert protections >= {"DYNAMIC_BASE", "HIGH_ENTROPY_VA", "NX_COMPAT"}
        writable_code = [
            section.name
            for section in pe.sections
            if {"MEM_EXECUTE", "MEM_WRITE"} <= {flag.name for flag in section.characteristics_lists}
        ]
        assert writable_code == []

    def test_is_small(self, libraries: dict[str, Path], target: str) -> None:
        assert libraries[target].stat().st_size < 300_000


@needs_compiler
class TestWheel:
    def test_installs_on_this_machine_and_on_any_python_3(self, wheel: Path) -> None:
        name, version, build_number, tags = parse_wheel_filename(wheel.name)
        assert (name, build_number) == ("bbipc", ())
        assert f'"{version}"' in HEADER
        assert {(tag.interpreter, tag.abi) for tag in tags} == {("py3", "none")}
        assert tags & set(sys_tags())

    def test_holds_the_package_and_exactly_one_library(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (library,) = {name for name in names if name.endswith(COMPILED)}
        assert library in {f"bbipc/{target['library']}" for target in TARGETS}
        package = ROOT / "bbipc"
        sources = {path for pattern in ("*.py", "py.typed") for path in package.rglob(pattern)}
        assert names - {library} == {path.relative_to(ROOT).as_posix() for path in sources}
        assert "bbipc/py.typed" in names

    def test_metadata_asks_for_no_other_package(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            files = {Path(name).name: name for name in archive.namelist() if ".dist-info/" in name}
            metadata = email.message_from_bytes(archive.read(files["METADATA"]))
            tags = email.message_from_bytes(archive.read(files["WHEEL"]))
        assert metadata["Requires-Python"] == ">=3.9"
        assert metadata["License-Expression"] == "MIT"
        assert [needed for needed in metadata.get_all("Requires-Dist", []) if "extra ==" not in needed] == []
        assert tags["Root-Is-Purelib"] == "false"
        assert "LICENSE" in files

    def test_same_bytes_from_the_source_distribution_in_another_place(
        self, wheel: Path, source_tree: Path, tmp_path: Path
    ) -> None:
        # With an empty cache, so that Zig compiles the library again.
        rebuilt = build("wheel", source_tree, tmp_path / "rebuilt", {"ZIG_LOCAL_CACHE_DIR": str(tmp_path / "zig")})
        assert rebuilt.name == wheel.name
        assert rebuilt.read_bytes() == wheel.read_bytes()

    def test_build_leaves_nothing_in_the_source_tree(
        self, source_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("ZIG_LOCAL_CACHE_DIR")
        before = set(source_tree.rglob("*"))
        build("wheel", source_tree, tmp_path / "built", {"PYTHONDONTWRITEBYTECODE": "1"})
        assert set(source_tree.rglob("*")) == before

    def test_does_not_take_the_library_of_an_editable_install(
        self, wheel: Path, source_tree: Path, tmp_path: Path
    ) -> None:
        for target in TARGETS:
            (source_tree / "bbipc" / target["library"]).write_bytes(b"left by an editable install")
        assert build("wheel", source_tree, tmp_path / "built").read_bytes() == wheel.read_bytes()

    def test_works_installed(self, wheel: Path, tmp_path: Path) -> None:
        python = make_environment(tmp_path / "environment", wheel)
        script = "import bbipc; bbipc.make_poller().close(); print(bbipc.__version__, bbipc.__file__)"
        version, file = run([python, "-I", "-c", script], cwd=tmp_path).split(maxsplit=1)
        assert f"-{version}-" in wheel.name
        assert Path(file).is_relative_to(tmp_path / "environment")


class TestSourceDistribution:
    def test_holds_what_it_takes_to_build_and_test(self, source_tree: Path) -> None:
        for name in ("bbipc", "build.zig", "docs", "examples", "native", "tests", "pyproject.toml"):
            assert (source_tree / name).exists(), name
        for name in ("README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md"):
            assert (source_tree / name).stat().st_size > 0, name

    def test_holds_every_file_of_the_checkout_but_those_for_ci(self, source_tree: Path) -> None:
        if not (ROOT / ".git").exists():
            pytest.skip("compares with the files that git knows, and this is no git checkout")
        if not shutil.which("git"):
            pytest.skip("compares with the files that git knows, and git is not installed")
        listing = run_unchecked(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT)
        assert listing.returncode == 0, listing.stderr
        known = {name for name in listing.stdout.splitlines() if (ROOT / name).is_file()}
        expected = {name for name in known if not name.startswith((".ci/", ".github/"))}
        held = {path.relative_to(source_tree).as_posix() for path in source_tree.rglob("*") if path.is_file()}
        assert held - {"PKG-INFO"} == expected

    def test_holds_nothing_compiled(self, source_tree: Path) -> None:
        compiled = (*COMPILED, ".pyc", ".whl")
        assert [path for path in source_tree.rglob("*") if path.name.endswith(compiled)] == []


@needs_compiler
class TestEditableInstall:
    def test_uses_the_sources_in_place(self, source_tree: Path, library: Path, tmp_path: Path) -> None:
        python = make_environment(tmp_path / "environment", build_editable(source_tree, tmp_path / "built"))
        file = run([python, "-I", "-c", "import bbipc; print(bbipc.__file__)"], cwd=tmp_path).strip()
        assert Path(file).samefile(source_tree / "bbipc" / "__init__.py")
        held = [path.name for path in (source_tree / "bbipc").iterdir() if path.name.endswith(COMPILED)]
        assert held == [library.name]

    @pytest.mark.skipif(os.name == "nt", reason="Windows does not let a loaded library be replaced")
    def test_replaces_the_library_without_touching_the_file_that_is_loaded(
        self, source_tree: Path, library: Path, tmp_path: Path
    ) -> None:
        installed = source_tree / "bbipc" / library.name
        installed.write_bytes(b"loaded by a running process")
        with installed.open("rb") as loaded:
            build_editable(source_tree, tmp_path / "built")
            assert loaded.read() == b"loaded by a running process"
        assert installed.read_bytes() == library.read_bytes()
        assert {path.name for path in installed.parent.iterdir() if path.name.startswith(".")} == set()


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    """native/hatch_build.py as a module."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "native" / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # NamedTuple looks its module up while the class statement runs.
    sys.modules["hatch_build"] = module
    spec.loader.exec_module(module)
    return module


class TestBuildHook:
    def test_target_can_be_named_by_a_part_of_its_platform(self, hook: ModuleType) -> None:
        for target in hook.read_targets(ROOT):
            for name in (target.wheel_platform, *target.wheel_platform.split(".")):
                assert hook.choose_target([target], name) is target

    def test_unknown_target_is_an_error_that_lists_the_known_ones(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path]
        finished = run_unchecked(command, cwd=ROOT, env={"BBIPC_WHEEL_TARGET": "amiga_68000"})
        assert finished.returncode != 0
        output = finished.stdout + finished.stderr
        assert "BBIPC_WHEEL_TARGET is 'amiga_68000'" in output
        assert "Traceback" not in output
        assert all(target["wheel_platform"] in output for target in TARGETS)

    def test_machine_without_a_target_is_an_error(self, hook: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hook, "platform_tags", lambda: iter(["amiga_68000"]))
        with pytest.raises(hook.BuildError, match="this machine is amiga_68000"):
            hook.choose_target(hook.read_targets(ROOT))

    def test_version_of_zig_is_the_pinned_one(self, hook: ModuleType) -> None:
        assert hook.pinned_zig_version(["hatchling", "ziglang == 1.2.3; sys_platform != 'x'"]) == "1.2.3"
        with pytest.raises(hook.BuildError, match="pins no ziglang"):
            hook.pinned_zig_version(["hatchling", "ziglang>=1.2.3"])

    @pytest.mark.skipif(os.name == "nt", reason="stands in for zig with a shell script")
    def test_zig_on_path_is_used_only_in_the_pinned_version(
        self, hook: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        zig = tmp_path / "zig"
        zig.write_text("#!/bin/sh\necho 1.2.3\n", encoding="utf-8")
        zig.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        assert hook.find_zig("1.2.3") == ["zig"]
        with pytest.raises(hook.BuildError, match=r"found here: .*zig 1\.2\.3.*pip install \"ziglang==9\.9\.9\""):
            hook.find_zig("9.9.9")

    def test_caches_stay_where_the_caller_wants_them(self, hook: ModuleType, tmp_path: Path) -> None:
        chosen = {"HOME": "/nonexistent", "ZIG_LOCAL_CACHE_DIR": "/local", "ZIG_GLOBAL_CACHE_DIR": "/global"}
        assert hook.zig_environment(chosen, tmp_path) == chosen
        assert "ZIG_GLOBAL_CACHE_DIR" not in hook.zig_environment({"HOME": str(tmp_path)}, tmp_path)
        assert Path(hook.zig_environment({}, tmp_path)["ZIG_LOCAL_CACHE_DIR"]).parent == tmp_path

    @pytest.mark.skipif(os.name == "nt", reason="Windows names another folder for caches")
    def test_build_service_without_a_home_gets_a_cache(self, hook: ModuleType, tmp_path: Path) -> None:
        for environment in ({}, {"HOME": "/nonexistent"}):
            assert Path(hook.zig_environment(environment, tmp_path)["ZIG_GLOBAL_CACHE_DIR"]).parent == tmp_path

    @pytest.mark.skipif(os.name != "nt", reason="only Windows does not let a loaded library be replaced")
    def test_library_that_is_loaded_is_an_error_that_says_so(self, hook: ModuleType, tmp_path: Path) -> None:
        loaded = Path(shutil.copy(INSTALLED, tmp_path))
        program = "import ctypes, sys; ctypes.CDLL(sys.argv[1]); print(flush=True); sys.stdin.read()"
        with subprocess.Popen(
            [sys.executable, "-c", program, loaded], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == b""
            with pytest.raises(hook.BuildError, match="a running program has loaded it"):
                hook.replace_file(INSTALLED, loaded)
            process.communicate()
        assert list(tmp_path.iterdir()) == [loaded]
        hook.replace_file(INSTALLED, loaded)
        assert loaded.read_bytes() == INSTALLED.read_bytes()


@on_linux
@needs_compiler
class TestLinuxLibrary:
    def test_needs_no_other_library(self, elf: Any) -> None:
        assert list(elf.libraries) == []

    def test_has_no_thread_local_storage(self, elf: Any) -> None:
        assert [segment.type.name for segment in elf.segments if segment.type.name == "TLS"] == []

    def test_stack_is_not_executable(self, elf: Any) -> None:
        (stack,) = [segment for segment in elf.segments if segment.type.name == "GNU_STACK"]
        assert int(stack.flags) & 1 == 0

    def test_exports_the_functions_of_the_header_and_nothing_else(self, elf: Any) -> None:
        assert {symbol.name for symbol in elf.exported_symbols} == functions_of_the_header()

    def test_imports_nothing(self, elf: Any) -> None:
        assert {symbol.name for symbol in elf.imported_symbols if symbol.name} == set()

    def test_is_small(self, library: Path) -> None:
        assert library.stat().st_size < 200_000

    def test_loads_in_a_program_of_musl(self, library: Path, tmp_path: Path) -> None:
        if not list(Path("/lib").glob("ld-musl-*.so.1")):
            pytest.skip("runs a program that musl's loader loads, and musl is not installed")
        source = tmp_path / "program.c"
        source.write_text(MUSL_PROGRAM, encoding="utf-8")
        # Without -O2, Zig adds its own checks, and those ask for a newer musl than a system may have.
        compiler = [
            sys.executable,
            "-m",
            "ziglang",
            "cc",
            "-target",
            f"{os.uname().machine}-linux-musl",
            "-dynamic",
            "-O2",
        ]
        run([*compiler, "-o", "program", source], cwd=tmp_path)
        assert b"/lib/ld-musl-" in (tmp_path / "program").read_bytes()
        version = run([tmp_path / "program", library], cwd=tmp_path).strip()
        assert f'#define BBIPC_VERSION "{version}"' in HEADER


MUSL_PROGRAM = """
#include <dlfcn.h>
#include <stdio.h>

int main(int count, char **arguments) {
    void *library = dlopen(arguments[count - 1], RTLD_NOW);
    if (!library) {
        fprintf(stderr, "%s\\n", dlerror());
        return 1;
    }
    const char *(*version)(void) = (const char *(*)(void))dlsym(library, "bbipc_version");
    if (!version) {
        fprintf(stderr, "%s\\n", dlerror());
        return 1;
    }
    puts(version());
    return 0;
}
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the installed package that a test may break."""
    copy = tmp_path / "site" / "bbipc"
    shutil.copytree(INSTALLED.parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def import_error(package: Path) -> str:
    """The last line of the traceback of `import bbipc`, empty if it worked."""
    command = [sys.executable, "-c", "import bbipc; print(bbipc.__file__)"]
    finished = run_unchecked(command, cwd=package.parent, env={"PYTHONPATH": str(package.parent)})
    if finished.returncode == 0:
        assert Path(finished.stdout.strip()).samefile(package / "__init__.py")
        return ""
    return finished.stderr.strip().splitlines()[-1]


class TestImportError:
    def test_not_raised_for_a_whole_package(self, package: Path) -> None:
        assert import_error(package) == ""

    def test_missing_library(self, package: Path) -> None:
        (package / INSTALLED.name).unlink()
        message = import_error(package)
        assert message.startswith("ImportError: ")
        assert INSTALLED.name in message
        assert "pip install" in message

    def test_file_that_is_no_library(self, package: Path) -> None:
        (package / INSTALLED.name).write_bytes(b"of another system")
        message = import_error(package)
        assert message.startswith("ImportError: ")
        assert INSTALLED.name in message
        assert "pip install" in message

    def test_library_of_another_version(self, package: Path) -> None:
        pattern = re.compile(r'^__version__ = "([^"]+)"', re.MULTILINE)
        (module,) = (path for path in package.glob("*.py") if pattern.search(path.read_text("utf-8")))
        text = module.read_text("utf-8")
        (version,) = pattern.findall(text)
        module.write_text(pattern.sub('__version__ = "0.0.1"', text), encoding="utf-8")
        message = import_error(package)
        assert message.startswith("ImportError: ")
        assert "0.0.1" in message
        assert version in message
        assert "pip install" in message
