"""What pip installs: the wheel, the source distribution, the editable install, and the library inside them."""

from __future__ import annotations

import email
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipapp
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.tags import mac_platforms, sys_tags
from packaging.utils import parse_wheel_filename

import hatch_build
from bbipc import calling_layer
from bbipc._native.library import releasing
from tree import ROOT

# The first build on a machine fills Zig's global cache, which takes more than a minute.
pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("zig_cache")]

HEADER = (ROOT / "native" / "include" / "bbipc.h").read_text(encoding="utf-8")
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
ZIG_VERSION = re.findall(r'^zig-version = "(.*)"$', PYPROJECT, re.MULTILINE)[0]
TARGETS = hatch_build.read_targets(ROOT)
COMPILED = (".so", ".dylib", ".dll", ".pyd", ".o", ".a", ".lib")

#: The library of the package that all tests use.
INSTALLED = Path(releasing._name)
PRINT_INCLUDE = "import bbipc; print(bbipc.get_include())"

ziglang = importlib.util.find_spec("ziglang")
needs_compiler = pytest.mark.skipif(ziglang is None, reason="ziglang, the compiler, is missing")
#: The compiler itself, inside the package.
ZIG = Path(ziglang.origin).parent / "zig" if ziglang is not None and ziglang.origin is not None else None
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="checks how the library is built for Linux")


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


#: In the place of a library.
LEFT_BY_EDITABLE_INSTALL = b"left by an editable install"
LOADED = b"loaded by a running process"


class Rebuilt(NamedTuple):
    wheel: Path
    files_before: set[Path]
    files_after: set[Path]


@pytest.fixture(scope="module")
def rebuilt(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Rebuilt:
    """The wheel that the source distribution makes, in a tree that has been an editable install."""
    directory = tmp_path_factory.mktemp("rebuilt")
    tree = unpack(sdist, directory / "source")
    for target in TARGETS:
        (tree / "bbipc" / target.library).write_bytes(LEFT_BY_EDITABLE_INSTALL)
    before = set(tree.rglob("*"))
    with pytest.MonkeyPatch.context() as patch:
        # So that Zig compiles the library again, and would leave its cache in the default place.
        patch.delenv("ZIG_LOCAL_CACHE_DIR")
        wheel = build("wheel", tree, directory / "built", {"PYTHONDONTWRITEBYTECODE": "1"})
    return Rebuilt(wheel, before, set(tree.rglob("*")))


class Editable(NamedTuple):
    tree: Path
    wheel: Path
    #: What a process now reads that had the older library open.
    loaded: bytes


@pytest.fixture(scope="module")
def editable(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Editable:
    """An editable install in the place of another, whose library is in use."""
    directory = tmp_path_factory.mktemp("editable")
    tree = unpack(sdist, directory / "source")
    installed = tree / "bbipc" / INSTALLED.name
    installed.write_bytes(LOADED)
    if os.name == "nt":
        # Windows does not let a library in use be replaced.
        return Editable(tree, build_editable(tree, directory / "built"), LOADED)
    with installed.open("rb") as loaded:
        return Editable(tree, build_editable(tree, directory / "built"), loaded.read())


@pytest.fixture(scope="module")
def library(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library inside the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(COMPILED))
        return Path(archive.extract(name, tmp_path_factory.mktemp("library")))


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
        assert library in {f"bbipc/{target.library}" for target in TARGETS}
        package = ROOT / "bbipc"
        sources = {path for pattern in ("*.py", "py.typed") for path in package.rglob(pattern)}
        files = {path.relative_to(ROOT).as_posix() for path in sources}
        assert names - {library} == {*files, "bbipc/include/bbipc.h"}
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

    def test_tells_pyinstaller_where_its_hook_is(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
            entry_points = archive.read(name).decode()
        assert "[pyinstaller40]\nhook-dirs = bbipc._pyinstaller:get_hook_dirs\n" in entry_points

    def test_same_bytes_from_the_source_distribution_in_another_place(self, wheel: Path, rebuilt: Rebuilt) -> None:
        assert rebuilt.wheel.name == wheel.name
        assert rebuilt.wheel.read_bytes() == wheel.read_bytes()

    def test_build_leaves_nothing_in_the_source_tree(self, rebuilt: Rebuilt) -> None:
        assert rebuilt.files_after == rebuilt.files_before

    def test_does_not_take_the_library_of_an_editable_install(self, rebuilt: Rebuilt) -> None:
        with zipfile.ZipFile(rebuilt.wheel) as archive:
            held = [archive.read(name) for name in archive.namelist() if name.endswith(COMPILED)]
        assert len(held) == 1
        assert held != [LEFT_BY_EDITABLE_INSTALL]

    def test_works_installed(self, wheel: Path, tmp_path: Path) -> None:
        python = make_environment(tmp_path / "environment", wheel)
        script = "import bbipc; bbipc.make_poller().close(); print(bbipc.__version__, bbipc.__file__)"
        version, file = run([python, "-I", "-c", script], cwd=tmp_path).split(maxsplit=1)
        assert f"-{version}-" in wheel.name
        assert Path(file).is_relative_to(tmp_path / "environment")

    def test_tells_where_the_header_and_the_library_are(self, wheel: Path, tmp_path: Path) -> None:
        python = make_environment(tmp_path / "environment", wheel)
        folder = Path(run([python, "-I", "-c", PRINT_INCLUDE], cwd=tmp_path).strip())
        assert folder.is_relative_to(tmp_path / "environment")
        assert (folder / "bbipc.h").read_text(encoding="utf-8") == HEADER
        library = Path(run([python, "-I", "-c", "import bbipc; print(bbipc.get_library())"], cwd=tmp_path).strip())
        assert library.is_relative_to(tmp_path / "environment")
        assert library.name == INSTALLED.name
        assert library.stat().st_size > 0
        (folder / "bbipc.h").unlink()
        # Of another package, or of another version.
        stranger = folder.parent.parent / "native" / "include"
        stranger.mkdir(parents=True)
        (stranger / "bbipc.h").write_text('#define BBIPC_VERSION "0.0.0"\n', encoding="utf-8")
        failed = run_unchecked([python, "-I", "-c", PRINT_INCLUDE], cwd=tmp_path)
        assert "FileNotFoundError: there is no bbipc.h of version" in failed.stderr


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
    def test_uses_the_sources_in_place(self, editable: Editable, library: Path, tmp_path: Path) -> None:
        python = make_environment(tmp_path / "environment", editable.wheel)
        file = run([python, "-I", "-c", "import bbipc; print(bbipc.__file__)"], cwd=tmp_path).strip()
        assert Path(file).samefile(editable.tree / "bbipc" / "__init__.py")
        held = [path.name for path in (editable.tree / "bbipc").iterdir() if path.name.endswith(COMPILED)]
        assert held == [library.name]
        folder = Path(run([python, "-I", "-c", PRINT_INCLUDE], cwd=tmp_path).strip())
        assert folder.samefile(editable.tree / "native" / "include")

    @pytest.mark.skipif(os.name == "nt", reason="Windows does not let a loaded library be replaced")
    def test_replaces_the_library_without_touching_the_file_that_is_loaded(
        self, editable: Editable, library: Path
    ) -> None:
        assert editable.loaded == LOADED
        package = editable.tree / "bbipc"
        assert (package / library.name).read_bytes() == library.read_bytes()
        assert {path.name for path in package.iterdir() if path.name.startswith(".")} == set()


class TestBuildHook:
    def test_target_can_be_named_by_a_part_of_its_platform(self) -> None:
        for target in hatch_build.read_targets(ROOT):
            for name in (target.wheel_platform, *target.wheel_platform.split(".")):
                assert hatch_build.choose_target([target], name) is target

    def test_unknown_target_is_an_error_that_lists_the_known_ones(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path]
        finished = run_unchecked(command, cwd=ROOT, env={"BBIPC_WHEEL_TARGET": "amiga_68000"})
        assert finished.returncode != 0
        output = finished.stdout + finished.stderr
        assert "BBIPC_WHEEL_TARGET is 'amiga_68000'" in output
        assert "Traceback" not in output
        assert all(target.wheel_platform in output for target in TARGETS)

    def test_machine_without_a_target_is_an_error_that_says_what_to_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hatch_build, "platform_tags", lambda: iter(["amiga_68000"]))
        with pytest.raises(
            hatch_build.BuildError, match=r"this machine is amiga_68000.*add it to native/packaging/targets\.json"
        ):
            hatch_build.choose_target(TARGETS)

    def test_mac_of_python_for_older_systems_has_a_target(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # What macOS 11 and later call themselves before a Python that was built for older ones.
        monkeypatch.setattr(hatch_build, "platform_tags", lambda: mac_platforms((10, 16), "x86_64"))
        assert hatch_build.choose_target(TARGETS).zig_target == "x86_64-macos.11.0"

    @pytest.mark.parametrize(
        ("platform", "zig_target"),
        [
            ("freebsd_14_0_release_amd64", "x86_64-freebsd.14.0"),
            ("freebsd_14_3_release_p5_amd64", "x86_64-freebsd.14.0"),
            ("freebsd_15_1_release_arm64", "aarch64-freebsd.14.0"),
            ("freebsd_16_0_current_arm64", "aarch64-freebsd.14.0"),
        ],
    )
    def test_freebsd_of_any_release_has_a_target_whose_wheel_installs_there(
        self, platform: str, zig_target: str
    ) -> None:
        target = hatch_build.choose_target(TARGETS, platform)
        assert target.zig_target == zig_target
        assert platform in target.platforms

    @pytest.mark.parametrize("platform", ["freebsd_13_5_release_amd64", "freebsd_14_1_release_i386"])
    def test_freebsd_that_is_too_old_or_of_another_processor_has_none(self, platform: str) -> None:
        with pytest.raises(hatch_build.BuildError, match=platform):
            hatch_build.choose_target(TARGETS, platform)

    def test_version_of_zig_is_the_same_everywhere(self) -> None:
        build_zig = (ROOT / "build.zig").read_text(encoding="utf-8")
        assert re.findall(r'^const zig_version = "(.*)";$', build_zig, re.MULTILINE) == [ZIG_VERSION]
        assert re.findall(r'^ +"ziglang==([^";]+)', PYPROJECT, re.MULTILINE) == [ZIG_VERSION]

    @pytest.mark.skipif(os.name == "nt", reason="stands in for zig with a shell script")
    def test_zig_on_path_is_used_only_in_the_pinned_version(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("PATH", f"{make_zig(tmp_path, 'echo 1.2.3')}{os.pathsep}{os.environ['PATH']}")
        assert hatch_build.find_zig("1.2.3") == ["zig"]
        with pytest.raises(
            hatch_build.BuildError, match=r"found here: .*zig 1\.2\.3.*pip install \"ziglang==9\.9\.9\""
        ):
            hatch_build.find_zig("9.9.9")

    @pytest.mark.parametrize(
        ("platforms", "made"),
        [
            (["manylinux_2_36_x86_64", "manylinux_2_17_x86_64", "linux_x86_64"], True),
            (["musllinux_1_2_aarch64", "musllinux_1_1_aarch64"], True),
            (["manylinux_2_35_riscv64", "manylinux_2_31_riscv64"], True),
            (["macosx_15_0_arm64", "macosx_13_0_arm64", "macosx_11_0_arm64"], True),
            (["win32"], True),
            (["macosx_12_0_arm64", "macosx_11_0_arm64"], False),
            (["linux_armv6l"], False),
            (["freebsd_14_1_release_amd64"], False),
            (["netbsd_10_0_amd64"], False),
        ],
    )
    def test_compiler_is_asked_for_where_there_is_a_package_of_it(self, platforms: list[str], made: bool) -> None:
        assert hatch_build.ziglang_is_for(platforms) is made

    def test_caches_stay_where_the_caller_wants_them(self, tmp_path: Path) -> None:
        chosen = {"HOME": "/nonexistent", "ZIG_LOCAL_CACHE_DIR": "/local", "ZIG_GLOBAL_CACHE_DIR": "/global"}
        assert hatch_build.zig_environment(chosen, tmp_path) == chosen
        assert "ZIG_GLOBAL_CACHE_DIR" not in hatch_build.zig_environment({"HOME": str(tmp_path)}, tmp_path)
        assert Path(hatch_build.zig_environment({}, tmp_path)["ZIG_LOCAL_CACHE_DIR"]).parent == tmp_path

    @pytest.mark.skipif(os.name == "nt", reason="Windows names another folder for caches")
    def test_build_service_without_a_home_gets_a_cache(self, tmp_path: Path) -> None:
        for environment in ({}, {"HOME": "/nonexistent"}):
            assert Path(hatch_build.zig_environment(environment, tmp_path)["ZIG_GLOBAL_CACHE_DIR"]).parent == tmp_path

    @pytest.mark.skipif(os.name != "nt", reason="only Windows does not let a loaded library be replaced")
    def test_library_that_is_loaded_is_an_error_that_says_so(self, tmp_path: Path) -> None:
        loaded = Path(shutil.copy(INSTALLED, tmp_path))
        program = "import ctypes, sys; ctypes.CDLL(sys.argv[1]); print(flush=True); sys.stdin.read()"
        with subprocess.Popen(
            [sys.executable, "-c", program, loaded], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == b""
            with pytest.raises(hatch_build.BuildError, match="a running program has loaded it"):
                hatch_build.replace_file(INSTALLED, loaded)
            process.communicate()
        assert list(tmp_path.iterdir()) == [loaded]
        hatch_build.replace_file(INSTALLED, loaded)
        assert loaded.read_bytes() == INSTALLED.read_bytes()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what build-system.requires names, made of what is installed here."""
    directory = tmp_path_factory.mktemp("index")
    for name in sorted(closure("hatchling")):
        make_wheel_of_installed(name, directory)
    return directory


@pytest.fixture(scope="module")
def freebsd_index(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, where `packaging` takes every machine for a FreeBSD."""
    directory = tmp_path_factory.mktemp("freebsd-index") / "index"
    shutil.copytree(index, directory)
    (packaging,) = directory.glob("packaging-*.whl")
    packaging.unlink()
    pretence = "\n\ndef platform_tags():\n    return iter(['freebsd_14_1_release_p3_amd64'])\n"
    make_wheel_of_installed("packaging", directory, {"packaging/tags.py": pretence})
    return directory


@needs_compiler
@on_linux
class TestInstallationFromSource:
    """pip's whole way, with an environment for the build and an index that has no ziglang, as on FreeBSD."""

    def test_with_zig_on_path_pip_installs_no_compiler(
        self, sdist: Path, wheel: Path, index: Path, tmp_path: Path
    ) -> None:
        zig = make_zig(tmp_path, f'exec {ZIG} "$@"')
        finished = build_by_pip(sdist, index, zig, tmp_path / "built")
        assert finished.returncode == 0, finished.stdout + finished.stderr
        (built,) = (tmp_path / "built").iterdir()
        assert built.name == wheel.name
        assert built.read_bytes() == wheel.read_bytes()

    def test_without_zig_pip_asks_the_index_for_it(self, sdist: Path, index: Path, tmp_path: Path) -> None:
        finished = build_by_pip(sdist, index, make_zig(tmp_path, "echo 0.1.0"), tmp_path / "built")
        assert finished.returncode != 0
        assert f"No matching distribution found for ziglang=={ZIG_VERSION}" in finished.stdout + finished.stderr

    def test_without_zig_where_there_is_no_ziglang_it_says_what_to_install(
        self, sdist: Path, freebsd_index: Path, tmp_path: Path
    ) -> None:
        finished = build_by_pip(sdist, freebsd_index, make_zig(tmp_path, "echo 0.1.0"), tmp_path / "built")
        assert finished.returncode != 0
        (message,) = re.findall(r"bbipc: .*", finished.stdout + finished.stderr)
        assert f"built by Zig {ZIG_VERSION}" in message
        assert "found here: zig 0.1.0" in message
        assert "not made for this machine (freebsd_14_1_release_p3_amd64)" in message
        assert "ziglang.org/download" in message
        assert "on PATH" in message
        assert "Traceback" not in finished.stdout + finished.stderr

    @pytest.mark.other_systems
    def test_with_zig_on_path_it_builds_where_there_is_no_ziglang(
        self, sdist: Path, freebsd_index: Path, tmp_path: Path
    ) -> None:
        zig = make_zig(tmp_path, f'exec {ZIG} "$@"')
        finished = build_by_pip(sdist, freebsd_index, zig, tmp_path / "built")
        assert finished.returncode == 0, finished.stdout + finished.stderr
        (built,) = (tmp_path / "built").iterdir()
        assert built.name.endswith("-py3-none-freebsd_14_1_release_p3_amd64.whl")


def make_zig(directory: Path, script: str) -> Path:
    """A folder for PATH with a program `zig` that this line of shell script is."""
    folder = directory / "zig-on-path"
    folder.mkdir()
    zig = folder / "zig"
    zig.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    zig.chmod(0o755)
    return folder


def build_by_pip(sdist: Path, index: Path, zig: Path, destination: Path) -> subprocess.CompletedProcess[str]:
    """Lets pip build a wheel with the packages in the folder `index`, and the program in the folder `zig`."""
    settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)}
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            patch.delenv(name)
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", destination, sdist]
        return run_unchecked(command, cwd=zig, env={**settings, "PATH": f"{zig}{os.pathsep}{os.environ['PATH']}"})


def closure(name: str) -> set[str]:
    """An installed distribution and all that it needs."""
    needed = {name}
    for text in importlib.metadata.requires(name) or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            needed |= closure(requirement.name)
    return needed


def make_wheel_of_installed(name: str, directory: Path, additions: Mapping[str, str] | None = None) -> None:
    """Makes a wheel of an installed distribution, with text added to the end of some files."""
    distribution = importlib.metadata.distribution(name)
    tag = email.message_from_string(distribution.read_text("WHEEL") or "")["Tag"]
    stem = f"{name.replace('-', '_')}-{distribution.version}"
    with zipfile.ZipFile(directory / f"{stem}-{tag}.whl", "w") as archive:
        for file in distribution.files or []:
            # Programs lie elsewhere, and pip makes them anew.
            if ".." not in file.parts and file.suffix != ".pyc":
                contents = Path(distribution.locate_file(file)).read_bytes()
                archive.writestr(file.as_posix(), contents + (additions or {}).get(file.as_posix(), "").encode())


@on_linux
@needs_compiler
class TestLinuxLibrary:
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


def import_error(package: Path, before: str = "") -> str:
    """The last line of the traceback of `import bbipc`, empty if it worked."""
    command = [sys.executable, "-c", f"{before}import bbipc; print(bbipc.__file__)"]
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
        (module,) = (path for path in package.rglob("*.py") if pattern.search(path.read_text("utf-8")))
        text = module.read_text("utf-8")
        (version,) = pattern.findall(text)
        module.write_text(pattern.sub('__version__ = "0.0.1"', text), encoding="utf-8")
        message = import_error(package)
        assert message.startswith("ImportError: ")
        assert "0.0.1" in message
        assert version in message
        assert "pip install" in message

    def test_library_inside_of_an_archive(self, package: Path, tmp_path: Path) -> None:
        (package.parent / "__main__.py").write_text("import bbipc", encoding="utf-8")
        archive = tmp_path / "program.pyz"
        zipapp.create_archive(package.parent, archive)
        finished = run_unchecked([sys.executable, archive], cwd=tmp_path)
        message = finished.stderr.strip().splitlines()[-1]
        assert message.startswith("ImportError: ")
        assert f"inside of the archive {archive}" in message
        assert "Install bbipc beside the archive" in message
        # The library would be there again, and of no use.
        assert "pip install" not in message

    def test_frozen_without_the_library(self, package: Path) -> None:
        (package / INSTALLED.name).unlink()
        message = import_error(package, "import sys; sys.frozen = True; ")
        assert message.startswith("ImportError: ")
        assert "--collect-binaries bbipc" in message
        assert "pip install" not in message

    def test_library_on_a_file_system_mounted_noexec(self, package: Path, tmp_path: Path) -> None:
        if sys.platform != "linux":
            pytest.skip("mounts a file system as Linux does")
        place = tmp_path / "noexec"
        place.mkdir()
        script = 'mount -t tmpfs -o noexec tmpfs "$1" && cp -R "$2" "$1" && shift 2 && exec "$@"'
        command = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh", place, package]
        if run_unchecked([*command, "true"], cwd=tmp_path).returncode != 0:
            pytest.skip("mounts a file system in a namespace of its own, which this machine forbids")
        finished = run_unchecked(
            [*command, sys.executable, "-c", "import bbipc"], cwd=tmp_path, env={"PYTHONPATH": str(place)}
        )
        message = finished.stderr.strip().splitlines()[-1]
        assert message.startswith("ImportError: ")
        assert "mounted with 'noexec'" in message
        assert "Install bbipc elsewhere" in message
        assert "pip install" not in message


@pytest.mark.skipif(importlib.util.find_spec("PyInstaller") is None, reason="PyInstaller is missing: [test] has it")
@pytest.mark.skipif(
    os.name == "nt" and importlib.util.find_spec("win32ctypes") is None,
    reason="pip on Linux leaves out what PyInstaller needs on Windows only: pywin32-ctypes",
)
class TestFrozenProgram:
    def test_takes_the_library_along_by_the_hook(self, tmp_path: Path) -> None:
        points = importlib.metadata.distribution("bbipc").entry_points
        assert [point.value for point in points if point.group == "pyinstaller40"] == [
            "bbipc._pyinstaller:get_hook_dirs"
        ]
        program = tmp_path / "program.py"
        program.write_text(FROZEN_PROGRAM, encoding="utf-8")
        command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "WARN", program]
        # A cache of its own, for what is in the user's could hide a fault.
        built = run_unchecked(command, cwd=tmp_path, env={"PYINSTALLER_CONFIG_DIR": str(tmp_path / "cache")})
        if "PythonLibraryNotFoundError" in built.stderr:
            pytest.skip("this Python has no shared library, which PyInstaller needs (Debian: libpython3)")
        assert built.returncode == 0, built.stderr
        folder = tmp_path / "dist" / "program"
        (library,) = folder.rglob(INSTALLED.name)
        frozen = folder / ("program.exe" if os.name == "nt" else "program")
        # Without this environment, which has the package.
        said = run([frozen], cwd=tmp_path, env={"PATH": os.defpath}).splitlines()
        assert said == [f"True {calling_layer()}", "b'hello'"]
        library.unlink()
        broken = run_unchecked([frozen], cwd=tmp_path)
        assert broken.returncode != 0
        assert "--collect-binaries bbipc" in broken.stderr


FROZEN_PROGRAM = """
import sys

import bbipc

print(sys.frozen, bbipc.calling_layer())
with bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 0) as server:
    with bbipc.connect_to_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, server.port) as client:
        bbipc.poll_socket(server, bbipc.Events.CONNECTION_AVAILABLE)
        with server.accept_connection() as stream:
            stream.write_all(b"hello")
            print(client.read_exactly(5))
"""
