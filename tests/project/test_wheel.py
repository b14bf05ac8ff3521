"""Each wheel of targets.json and the library inside: that nothing is wrong with them, or else that it is told.

The wheels are built first, all of them, unless BBIPC_TESTS_WHEELS in the environment names a folder that has them.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import build_wheels
import check_wheel
from hatch_build import FREEBSD_PLATFORM, Target, choose_target, read_targets
from tree import ROOT

# The first build on a machine fills Zig's global cache, which takes more than a minute.
pytestmark = [pytest.mark.other_systems, pytest.mark.timeout(900), pytest.mark.usefixtures("zig_cache")]

TARGETS = read_targets(ROOT)
BUILT_ELSEWHERE = os.environ.get("BBIPC_TESTS_WHEELS")

has_compiler = importlib.util.find_spec("ziglang") is not None
needs_compiler = pytest.mark.skipif(not has_compiler, reason="ziglang, the compiler, is missing")
needs_wheels = pytest.mark.skipif(
    not has_compiler and not BUILT_ELSEWHERE,
    reason="ziglang, the compiler, is missing, and BBIPC_TESTS_WHEELS names no wheels",
)
every_target = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.zig_target)


def target_of(platform: str) -> Target:
    return choose_target(TARGETS, platform)


def zig(*arguments: str | Path, cwd: Path) -> None:
    command = [sys.executable, "-m", "ziglang", *arguments]
    finished = subprocess.run(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert finished.returncode == 0, f"{command} failed:\n{finished.stdout}"


@pytest.fixture(scope="module", autouse=True)
def lief() -> None:
    pytest.importorskip("lief", reason="reads libraries with lief, which has no package for this machine")
    check_wheel.lief()


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All wheels, by the targets' names for Zig."""
    if BUILT_ELSEWHERE is None:
        found = build_wheels.build_all(TARGETS, tmp_path_factory.mktemp("wheels"))
    else:
        found = sorted(Path(BUILT_ELSEWHERE).glob("*.whl"))
    by_platform = {wheel.stem.split("-")[-1]: wheel for wheel in found}
    assert set(by_platform) == {target.wheel_platform for target in TARGETS}
    return {target.zig_target: by_platform[target.wheel_platform] for target in TARGETS}


@needs_wheels
class TestEveryWheel:
    @every_target
    def test_is_without_fault(self, wheels: dict[str, Path], target: Target) -> None:
        assert check_wheel.faults(wheels[target.zig_target], target) == []

    def test_has_a_library_of_its_own(self, wheels: dict[str, Path]) -> None:
        libraries = {target.zig_target: check_wheel.library_of(wheels[target.zig_target], target) for target in TARGETS}
        assert check_wheel.twins(libraries) == []

    @needs_compiler
    def test_has_the_library_that_zig_build_makes(self, wheels: dict[str, Path], tmp_path: Path) -> None:
        # The hook calls the compiler itself, which takes seconds where `zig build` takes minutes on a fresh machine.
        def differs(target: Target) -> bool:
            prefix = tmp_path / target.zig_target
            processor = [f"-Dcpu={target.cpu}"] if target.cpu else []
            zig("build", f"-Dtarget={target.zig_target}", *processor, "--prefix", prefix, cwd=ROOT)
            folder = "bin" if target.library.endswith(".dll") else "lib"
            built = (prefix / folder / target.library).read_bytes()
            return built != check_wheel.library_of(wheels[target.zig_target], target)

        with ThreadPoolExecutor(os.cpu_count()) as threads:
            differences = list(threads.map(differs, TARGETS))
        assert [target.zig_target for target, different in zip(TARGETS, differences) if different] == []

    @needs_compiler
    # One of each format; test_packaging.py does the same for this machine.
    @pytest.mark.parametrize("platform", ["macosx_11_0_arm64", "win_amd64", "freebsd_14_0_release_amd64"])
    def test_has_the_same_bytes_built_elsewhere_from_nothing(
        self, wheels: dict[str, Path], platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("LOCAL", "GLOBAL"):
            monkeypatch.setenv(f"ZIG_{name}_CACHE_DIR", str(tmp_path / name))
        tree = tmp_path / "another place"
        tree.mkdir()
        for name in ("bbipc", "native", ".gitignore", "LICENSE", "README.md", "pyproject.toml"):
            copy: Callable[..., object] = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, tree / name)
        target = target_of(platform)
        again = build_wheels.build(target, tmp_path, root=tree)
        assert again.name == wheels[target.zig_target].name
        assert again.read_bytes() == wheels[target.zig_target].read_bytes()


@needs_compiler
class TestCommand:
    """python native/packaging/build_wheels.py"""

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, ROOT / "native" / "packaging" / "build_wheels.py", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    def test_builds_what_it_is_asked_for_and_prints_a_table(self, tmp_path: Path) -> None:
        names = ("win_arm64", "musllinux_1_1_x86_64")
        finished = self.run("--output", tmp_path, *(word for name in names for word in ("--target", name)))
        assert (finished.returncode, finished.stderr) == (0, "")
        head, windows, linux, summary = finished.stdout.splitlines()
        assert re.fullmatch(r"minimum system +library +wheel +tag", head)
        assert re.fullmatch(r"Windows 10 1809 +[\d,]+ +[\d,]+  py3-none-win_arm64", windows)
        assert re.fullmatch(
            r"glibc 2\.17 or musl 1\.1 +[\d,]+ +[\d,]+  py3-none-manylinux2014_x86_64\.musllinux_1_1_x86_64", linux
        )
        assert summary.startswith(f"2 wheels in {tmp_path}, built in ")
        expected = {f"bbipc-{check_wheel.version()}-py3-none-{target_of(name).wheel_platform}.whl" for name in names}
        assert {path.name for path in tmp_path.iterdir()} == expected

    def test_target_that_there_is_not_is_an_error(self, tmp_path: Path) -> None:
        finished = self.run("--output", tmp_path, "--target", "amiga_68000")
        assert (finished.returncode, finished.stdout) == (1, "")
        assert "amiga_68000" in finished.stderr
        assert list(tmp_path.iterdir()) == []

    @every_target
    def test_minimum_system_is_that_of_the_documentation(self, target: Target) -> None:
        page = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
        (row,) = (line for line in page.splitlines() if line.startswith("| ") and f"`{target.platforms[0]}" in line)
        assert row.split(" | ")[-1] == f"{build_wheels.minimum_system(target)} |"
        if last := FREEBSD_PLATFORM.fullmatch(target.platforms[-1]):
            assert f" up to {last['major']}.{last['minor']} " in row
        else:
            assert f"`{target.wheel_platform}`" in row


# ---- Wheels that are wrong on purpose ----


def repack(
    wheel: Path,
    directory: Path,
    *,
    name: str | None = None,
    files: Mapping[str, bytes | None],
    record: bool = True,
) -> Path:
    """A copy of a wheel under another name, with some files changed, added or (None) left out, and RECORD made anew."""
    with zipfile.ZipFile(wheel) as archive:
        contents: dict[str, bytes | None] = {each: archive.read(each) for each in archive.namelist()}
    contents.update(files)
    kept = {each: held for each, held in contents.items() if held is not None}
    if record:
        (place,) = (each for each in kept if each.endswith("/RECORD"))
        kept[place] = "".join(
            f"{each},sha256={base64.urlsafe_b64encode(hashlib.sha256(held).digest()).rstrip(b'=').decode()},{len(held)}\n"
            if each != place
            else f"{place},,\n"
            for each, held in kept.items()
        ).encode()
    directory.mkdir(parents=True, exist_ok=True)
    changed = directory / (name or wheel.name)
    with zipfile.ZipFile(changed, "w") as archive:
        for each, held in kept.items():
            archive.writestr(each, held)
    return changed


@needs_wheels
class TestWrongWheelIsToldOf:
    LINUX = target_of("manylinux2014_x86_64")
    ARM = target_of("manylinux2014_aarch64")

    @pytest.fixture
    def wheel(self, wheels: dict[str, Path]) -> Path:
        return wheels[self.LINUX.zig_target]

    def metadata(self, wheel: Path, name: str) -> tuple[str, bytes]:
        """The path of a file of the metadata, and what is in it."""
        with zipfile.ZipFile(wheel) as archive:
            (path,) = (each for each in archive.namelist() if each.endswith(f".dist-info/{name}"))
            return path, archive.read(path)

    def test_but_not_of_a_copy(self, wheel: Path, tmp_path: Path) -> None:
        assert check_wheel.faults(repack(wheel, tmp_path, files={}), self.LINUX) == []

    def test_tag_of_another_processor(self, wheels: dict[str, Path], tmp_path: Path) -> None:
        path, text = self.metadata(wheels[self.ARM.zig_target], "WHEEL")
        wrong = repack(
            wheels[self.LINUX.zig_target], tmp_path, name=wheels[self.ARM.zig_target].name, files={path: text}
        )
        (fault,) = check_wheel.faults(wrong, self.ARM)
        assert re.fullmatch(r"the library is for \('X86_64', .* instead of \('AARCH64', .*", fault)

    def test_tag_in_its_name_alone(self, wheel: Path, tmp_path: Path) -> None:
        name = wheel.name.replace("manylinux2014_x86_64.", "manylinux_2_5_x86_64.")
        (fault,) = check_wheel.faults(repack(wheel, tmp_path, name=name, files={}), self.LINUX)
        assert fault == f"the wheel is called {name} instead of {wheel.name}"

    def test_tag_in_its_metadata_alone(self, wheel: Path, tmp_path: Path) -> None:
        path, text = self.metadata(wheel, "WHEEL")
        wrong = repack(wheel, tmp_path, files={path: text.replace(b"manylinux2014", b"manylinux1")})
        (fault,) = check_wheel.faults(wrong, self.LINUX)
        assert "the metadata has the tags ['py3-none-manylinux1_x86_64', 'py3-none-musllinux_1_1_x86_64']" in fault

    def test_target_whose_tag_and_library_are_of_different_machines(self) -> None:
        assert list(check_wheel.tag_faults(Target("win_amd64", "aarch64-windows.win10_rs5", "bbipc.dll"))) == [
            "win_amd64 does not name the processor aarch64"
        ]
        assert list(check_wheel.tag_faults(Target("musllinux_1_1_x86_64", "x86_64-macos.11.0", "libbbipc.dylib"))) == [
            "musllinux_1_1_x86_64 does not name the system of x86_64-macos.11.0"
        ]
        assert list(check_wheel.tag_faults(Target("macosx_10_9_x86_64", "x86_64-macos.11.0", "libbbipc.dylib"))) == [
            "macosx_10_9_x86_64 does not name the system of x86_64-macos.11.0"
        ]

    def test_missing_file(self, wheel: Path, tmp_path: Path) -> None:
        wrong = repack(wheel, tmp_path, files={"bbipc/py.typed": None})
        assert check_wheel.faults(wrong, self.LINUX) == ["bbipc/py.typed is missing"]

    def test_missing_header(self, wheel: Path, tmp_path: Path) -> None:
        wrong = repack(wheel, tmp_path, files={"bbipc/include/bbipc.h": None})
        assert check_wheel.faults(wrong, self.LINUX) == ["bbipc/include/bbipc.h is missing"]

    def test_missing_library(self, wheel: Path, tmp_path: Path) -> None:
        wrong = repack(wheel, tmp_path, files={"bbipc/libbbipc.so": None})
        assert check_wheel.faults(wrong, self.LINUX) == ["bbipc/libbbipc.so is missing"]

    def test_file_too_many(self, wheel: Path, tmp_path: Path) -> None:
        wrong = repack(wheel, tmp_path, files={"bbipc/bbipc.pdb": b"debugging"})
        assert check_wheel.faults(wrong, self.LINUX) == ["bbipc/bbipc.pdb does not belong into the wheel"]

    def test_module_that_is_not_of_these_sources(self, wheel: Path, tmp_path: Path) -> None:
        wrong = repack(wheel, tmp_path, files={"bbipc/errors.py": b"pass\n"})
        assert check_wheel.faults(wrong, self.LINUX) == ["bbipc/errors.py is not that of the sources"]

    def test_record_of_another_file(self, wheel: Path, tmp_path: Path) -> None:
        path, text = self.metadata(wheel, "METADATA")
        wrong = repack(wheel, tmp_path, files={path: text + b"\n"}, record=False)
        assert check_wheel.faults(wrong, self.LINUX) == [f"RECORD has another {path}"]

    def test_record_that_is_not_whole(self, wheel: Path, tmp_path: Path) -> None:
        path, text = self.metadata(wheel, "RECORD")
        lines = [line for line in text.splitlines(keepends=True) if not line.startswith(b"bbipc/py.typed,")]
        wrong = repack(wheel, tmp_path, files={path: b"".join(lines)}, record=False)
        assert check_wheel.faults(wrong, self.LINUX) == ["RECORD does not list the files that there are"]

    def test_same_library_in_two(self) -> None:
        libraries = {"one": b"1", "other": b"2", "third": b"1"}
        assert check_wheel.twins(libraries) == ["the same library is in the wheels for one and third"]


#: The least that has nothing wrong with it: all exported functions, doing nothing, and nothing of Zig's own.
SOUND = """
const builtin = @import("builtin");
pub const panic = @import("std").debug.no_panic;
pub const DllMainCRTStartup = start;
fn start(_: *anyopaque, _: u32, _: ?*anyopaque) callconv(.winapi) c_int {
    return 1;
}
comptime {
    if (builtin.os.tag == .windows) @export(&start, .{ .name = "DllMainCRTStartup", .visibility = .hidden });
}
""" + "".join(f"export fn {name}() void {{}}\n" for name in sorted(check_wheel.exported_names()))

#: The same, with all the segments of a library for macOS: data, and an address that the loader has to write.
DYLD_SOUND = SOUND.replace(
    "bbipc_version() void {}", "bbipc_version() *const fn () callconv(.c) void {\n    return kept;\n}"
)
DYLD_SOUND += "var kept: *const fn () callconv(.c) void = &bbipc_close;\n"


@needs_compiler
class TestWrongLibraryIsToldOf:
    """What is wrong with libraries that are made for it, by the same compiler, in each format."""

    LINUX = target_of("manylinux2014_x86_64")
    MACOS = target_of("macosx_11_0_arm64")
    INTEL_MACOS = target_of("macosx_11_0_x86_64")
    FREEBSD = target_of("freebsd_14_0_release_amd64")
    ARM = target_of("manylinux2014_armv7l")
    WINDOWS = target_of("win_amd64")
    one_of_each_format = pytest.mark.parametrize("target", [LINUX, MACOS, WINDOWS], ids=["ELF", "Mach-O", "PE"])

    @pytest.fixture
    def compile(self, tmp_path: Path) -> Callable[..., bytes]:
        def compile_library(
            target: Target, source: str = SOUND, *options: str | Path, zig_target: str = "", install_name: str = ""
        ) -> bytes:
            (tmp_path / "library.zig").write_text(source, encoding="utf-8")
            command: list[str | Path] = ["build-lib", "-dynamic", "-Ofast", "-fstrip", "-fno-unwind-tables"]
            command += ["-target", zig_target or target.zig_target, "--name", "bbipc"]
            command += [f"-mcpu={target.cpu}"] if target.cpu else []
            command += ["-lc"] if target.needs_libc else []
            if target.library.endswith(".dylib"):
                command += ["-install_name", install_name or f"@rpath/{target.library}"]
            zig(*command, f"-femit-bin={target.library}", *options, "library.zig", cwd=tmp_path)
            return (tmp_path / target.library).read_bytes()

        return compile_library

    def faults(self, library: bytes, target: Target) -> list[str]:
        return list(check_wheel.library_faults(library, target))

    @pytest.fixture
    def modify(self, tmp_path: Path) -> Callable[..., bytes]:
        def modify_library(library: bytes, target: Target, change: Callable[[Any], object]) -> bytes:
            (tmp_path / target.library).write_bytes(library)
            parsed = check_wheel.parse(tmp_path / target.library)
            change(parsed)
            parsed.write(str(tmp_path / target.library))
            return (tmp_path / target.library).read_bytes()

        return modify_library

    @pytest.mark.parametrize(
        "target", [LINUX, ARM, MACOS, INTEL_MACOS, FREEBSD, WINDOWS], ids=lambda target: target.zig_target
    )
    def test_but_not_of_one_that_is_sound(self, compile: Callable[..., bytes], target: Target) -> None:
        assert self.faults(compile(target), target) == []

    @one_of_each_format
    def test_missing_export(self, compile: Callable[..., bytes], target: Target) -> None:
        library = compile(target, SOUND.replace("export fn bbipc_close(", "fn bbipc_close("))
        assert self.faults(library, target) == ["the library does not export bbipc_close"]

    @one_of_each_format
    def test_export_that_the_header_does_not_declare(self, compile: Callable[..., bytes], target: Target) -> None:
        library = compile(target, f"{SOUND}export fn another() void {{}}\n")
        assert self.faults(library, target) == ["the library exports another, which the header does not declare"]

    @one_of_each_format
    def test_path_of_the_machine_that_built_it(self, compile: Callable[..., bytes], target: Target) -> None:
        path = "/home/somebody/bbipc/native/root.zig"
        source = SOUND.replace("bbipc_version() void {}", f'bbipc_version() [*:0]const u8 {{\n    return "{path}";\n}}')
        library = compile(target, source)
        assert self.faults(library, target) == [f"the library tells a path of the machine that built it: {path}"]

    @one_of_each_format
    def test_file_of_another_format(self, target: Target) -> None:
        (fault,) = self.faults(b"no library at all", target)
        assert fault.startswith("the library is no ")

    @one_of_each_format
    def test_too_large(self, compile: Callable[..., bytes], target: Target) -> None:
        faults = self.faults(compile(target) + bytes(300_000), target)
        assert re.fullmatch(r"the library has 3\d\d\d\d\d bytes, more than 300000", faults[0])

    def test_library_that_it_needs_on_linux(self, compile: Callable[..., bytes], tmp_path: Path) -> None:
        another = tmp_path / "another.zig"
        another.write_text("export fn another() void {}\n", encoding="utf-8")
        options = ["build-lib", "-dynamic", "-target", self.LINUX.zig_target, "-femit-bin=libanother.so", another]
        zig(*options, cwd=tmp_path)
        library = compile(self.LINUX, SOUND, "-needed-lanother", "-L", ".")
        assert self.faults(library, self.LINUX) == ["the library needs libanother.so"]

    def test_libc_on_linux(self, compile: Callable[..., bytes]) -> None:
        source = SOUND.replace("bbipc_version() void {}", "bbipc_version() void {\n    exit(1);\n}")
        source += 'extern "c" fn exit(status: c_int) noreturn;\n'
        library = compile(self.LINUX, source, "-lc", zig_target="x86_64-linux-gnu.2.17")
        assert self.faults(library, self.LINUX) == [
            "the library needs libc.so.6",
            "the library takes exit from somewhere",
        ]

    def test_library_that_it_needs_on_macos(self, compile: Callable[..., bytes], tmp_path: Path) -> None:
        another = tmp_path / "another.zig"
        another.write_text("export fn another() void {}\n", encoding="utf-8")
        options = ["build-lib", "-dynamic", "-target", self.MACOS.zig_target, "-lc", "-femit-bin=libanother.dylib"]
        zig(*options, "-install_name", "/usr/lib/libanother.dylib", another, cwd=tmp_path)
        library = compile(self.MACOS, SOUND, "-needed-lanother", "-L", ".")
        assert self.faults(library, self.MACOS) == ["the library needs /usr/lib/libanother.dylib"]

    def test_library_that_it_needs_on_freebsd(self, compile: Callable[..., bytes]) -> None:
        source = SOUND.replace(
            "bbipc_version() void {}", "bbipc_version() c_int {\n    return pthread_getthreadid_np();\n}"
        )
        source += 'extern "c" fn pthread_getthreadid_np() c_int;\n'
        assert self.faults(compile(self.FREEBSD, source), self.FREEBSD) == ["the library needs libthr.so.3"]

    def test_library_that_it_needs_on_windows(self, compile: Callable[..., bytes]) -> None:
        source = SOUND.replace("bbipc_version() void {}", "bbipc_version() c_int {\n    return MessageBeep(0);\n}")
        source += 'extern "user32" fn MessageBeep(kind: c_uint) callconv(.winapi) c_int;\n'
        assert self.faults(compile(self.WINDOWS, source), self.WINDOWS) == ["the library needs user32.dll"]

    @pytest.mark.parametrize(
        ("target", "name", "fault"),
        [
            (LINUX, "write", "the library takes write from somewhere"),
            (FREEBSD, "inotify_add_watch_at", "FreeBSD 14.0 has no inotify_add_watch_at"),
            (
                MACOS,
                "os_sync_wait_on_address",
                "_os_sync_wait_on_address is not among the names that macOS 11 is known to have, "
                "in macos_11_symbols.txt",
            ),
        ],
        ids=["Linux", "FreeBSD 15", "macOS 14"],
    )
    def test_name_that_the_oldest_system_does_not_have(
        self, compile: Callable[..., bytes], target: Target, name: str, fault: str
    ) -> None:
        source = SOUND.replace("bbipc_version() void {}", f"bbipc_version() c_int {{\n    return {name}();\n}}")
        library = compile(target, f"{source}extern fn {name}() c_int;\n", "-fallow-shlib-undefined")
        assert self.faults(library, target) == [fault]

    @pytest.mark.parametrize(
        ("target", "zig_target"),
        [
            (LINUX, "x86-linux-none"),
            (LINUX, "aarch64-linux-none"),
            (MACOS, "x86_64-macos.11.0"),
            (WINDOWS, "x86-windows.win8_1"),
        ],
        ids=["another size", "another processor", "Mach-O", "PE"],
    )
    def test_other_processor(self, compile: Callable[..., bytes], target: Target, zig_target: str) -> None:
        faults = self.faults(compile(target, zig_target=zig_target), target)
        assert re.fullmatch(r"the library is for .* instead of .*", faults[0])

    def test_arm_without_floating_point_in_registers(self, compile: Callable[..., bytes]) -> None:
        (fault,) = self.faults(compile(self.ARM, zig_target="arm-linux-eabi"), self.ARM)
        assert fault == (
            f"the library is for ('ARM', 'ELF32', 'LSB', {0x05000200}, 'DYN') "
            f"instead of ('ARM', 'ELF32', 'LSB', {0x05000400}, 'DYN')"
        )

    def test_instructions_that_not_every_arm_has(self, compile: Callable[..., bytes]) -> None:
        faults = self.faults(compile(self.ARM._replace(cpu="")), self.ARM)
        assert faults == [
            "the library is for an ARM with NEON",
            "the library is for an ARM with 32 registers for doubles",
        ]

    def test_thread_local_storage_on_linux(self, compile: Callable[..., bytes]) -> None:
        source = SOUND.replace("bbipc_version() void {}", "bbipc_version() *u8 {\n    return &kept;\n}")
        faults = self.faults(compile(self.LINUX, f"{source}threadlocal var kept: u8 = 1;\n"), self.LINUX)
        assert "the library has thread-local storage" in faults

    def test_place_to_look_for_libraries(self, compile: Callable[..., bytes]) -> None:
        (fault,) = self.faults(compile(self.LINUX, SOUND, "-rpath", "$ORIGIN"), self.LINUX)
        assert fault in ("the library has RUNPATH", "the library has RPATH")

    def test_stack_that_can_be_executed(self, compile: Callable[..., bytes], modify: Callable[..., bytes]) -> None:
        def change(elf: Any) -> None:
            (stack,) = (segment for segment in elf.segments if segment.type.name == "GNU_STACK")
            stack.add(check_wheel.lief().ELF.Segment.FLAGS.X)

        library = modify(compile(self.LINUX), self.LINUX, change)
        assert self.faults(library, self.LINUX) == ["the library asks for a stack that can be executed"]

    def test_elf_code_that_can_be_written_to(self, compile: Callable[..., bytes], modify: Callable[..., bytes]) -> None:
        def change(elf: Any) -> None:
            flags = check_wheel.lief().ELF.Segment.FLAGS
            (code,) = (segment for segment in elf.segments if segment.type.name == "LOAD" and segment.has(flags.X))
            code.add(flags.W)

        library = modify(compile(self.LINUX), self.LINUX, change)
        assert self.faults(library, self.LINUX) == ["the library has code that can be written to"]

    def test_younger_macos(self, compile: Callable[..., bytes]) -> None:
        library = compile(self.INTEL_MACOS, zig_target="x86_64-macos.12.3")
        assert self.faults(library, self.INTEL_MACOS) == [
            "the library is for ('MACOS', '12.3.0') instead of macOS 11.0"
        ]

    def test_name_with_the_place_where_it_was_built(self, compile: Callable[..., bytes]) -> None:
        library = compile(self.MACOS, install_name="/somewhere/libbbipc.dylib")
        assert self.faults(library, self.MACOS) == ["the library calls itself ['/somewhere/libbbipc.dylib']"]

    def test_no_signature(self, compile: Callable[..., bytes], modify: Callable[..., bytes]) -> None:
        library = modify(compile(self.MACOS), self.MACOS, lambda mach_o: mach_o.remove_signature())
        assert self.faults(library, self.MACOS) == ["the library is not signed"]

    def test_signature_of_other_bytes(self, compile: Callable[..., bytes]) -> None:
        library = bytearray(compile(self.MACOS))
        # Between the load commands and the code, where nothing else notices.
        library[0x3000] ^= 1
        assert self.faults(bytes(library), self.MACOS) == ["the library's signature is of other bytes"]

    def test_signature_with_a_signer(self, compile: Callable[..., bytes]) -> None:
        library = bytearray(compile(self.MACOS))
        directory = library.index(b"\xfa\xde\x0c\x02")
        library[directory + 12 : directory + 16] = bytes(4)
        assert self.faults(bytes(library), self.MACOS) == ["the library's signature is not ad hoc"]

    @pytest.mark.parametrize(
        ("command", "offset", "value", "fault"),
        [
            # By <mach-o/loader.h>: where a value of 32 bits stands in the command, counted from its beginning. Sections
            # follow their segment's 72 bytes.
            ("UUID", 0, 0x7F, "the library has 0 UUIDs instead of 1"),
            ("__TEXT", 60, 7, "__TEXT has the permissions 7"),
            ("__LINKEDIT", 60, 3, "__LINKEDIT has the permissions 3"),
            ("__DATA", 60, 1, "__DATA has the permissions 1"),
            ("__DATA_CONST", 68, 0, "__DATA_CONST does not become read-only"),
            ("__LINKEDIT", 8, int.from_bytes(b"LINK", "little"), "the library has no segment __LINKEDIT"),
            ("__DATA_CONST", 12, int.from_bytes(b"TA\0\0", "little"), "the library has 2 segments __DATA"),
            ("__DATA", 32, 1, "__DATA has less room than bytes, or more bytes than the file"),
            ("__LINKEDIT", 48, 0x1000000, "__LINKEDIT has less room than bytes, or more bytes than the file"),
            ("__DATA", 40, 0x10, "__DATA does not begin with a page of 4096 bytes"),
            ("__DATA", 24, 0, "__DATA does not come after __DATA_CONST"),
            ("__TEXT", 72 + 40, 0x1000000, "__text is not inside of its segment __TEXT"),
            ("__TEXT", 48, 8, "the load commands are not inside of __TEXT"),
            ("DYSYMTAB", 56, 0x3001, "the indirect symbols stand at 12289, no multiple of 4"),
            ("DYSYMTAB", 56, 0x3000, "the indirect symbols overlap something, or leave __LINKEDIT"),
            ("DYSYMTAB", 28, 100, "the library counts its symbols in two ways"),
        ],
    )
    def test_library_that_dyld_refuses(
        self, compile: Callable[..., bytes], tmp_path: Path, command: str, offset: int, value: int, fault: str
    ) -> None:
        library = bytearray(compile(self.INTEL_MACOS, DYLD_SOUND))
        assert self.faults(bytes(library), self.INTEL_MACOS) == []
        parsed = check_wheel.parse(tmp_path / self.INTEL_MACOS.library)
        (start,) = (
            one.command_offset
            for one in parsed.commands
            if command == (one.name if one.command.name == "SEGMENT_64" else one.command.name)
        )
        struct.pack_into("<I", library, start + offset, value)
        assert fault in self.faults(bytes(library), self.INTEL_MACOS)

    def test_library_that_is_named_twice_on_macos(
        self, compile: Callable[..., bytes], modify: Callable[..., bytes]
    ) -> None:
        name = "/usr/lib/libSystem.B.dylib"
        library = modify(compile(self.INTEL_MACOS), self.INTEL_MACOS, lambda mach_o: mach_o.add_library(name))
        assert f"the library needs {name} 2 times" in self.faults(library, self.INTEL_MACOS)

    def test_place_to_look_for_libraries_on_macos(self, compile: Callable[..., bytes]) -> None:
        library = compile(self.MACOS, SOUND, "-rpath", "/usr/local/lib")
        assert "the library has RPATH" in self.faults(library, self.MACOS)

    def test_younger_windows(self, compile: Callable[..., bytes]) -> None:
        library = bytearray(compile(self.WINDOWS))
        header = int.from_bytes(library[0x3C:0x40], "little") + 24
        library[header + 48 : header + 50] = (10).to_bytes(2, "little")
        (fault,) = self.faults(bytes(library), self.WINDOWS)
        assert fault.startswith("the library does not load on Windows 8.1: it asks for (10, ")

    def test_protection_that_is_off(self, compile: Callable[..., bytes]) -> None:
        library = bytearray(compile(self.WINDOWS))
        header = int.from_bytes(library[0x3C:0x40], "little") + 24
        library[header + 70 : header + 72] = bytes(2)
        assert self.faults(bytes(library), self.WINDOWS) == [
            f"the library goes without the protection {name}"
            for name in ("DYNAMIC_BASE", "HIGH_ENTROPY_VA", "NX_COMPAT")
        ]

    def test_pe_code_that_can_be_written_to(self, compile: Callable[..., bytes]) -> None:
        library = bytearray(compile(self.WINDOWS))
        code = library.index(b".text\0\0\0")
        library[code + 39] |= 0x80
        assert self.faults(bytes(library), self.WINDOWS) == ["the library has code that can be written to: .text"]


# ---- The native tests, for systems that this may not be ----

LIBC_TARGETS = [target for target in TARGETS if target.needs_libc]


@pytest.fixture(scope="module")
def native_tests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders with the native tests for the systems whose libc they need, by the targets' names for Zig."""
    folder = tmp_path_factory.mktemp("native-tests")

    def build(target: Target) -> Path:
        prefix = folder / target.zig_target
        zig("build", "test-binary", f"-Dtarget={target.zig_target}", "--prefix", prefix, cwd=ROOT)
        return prefix / "bin"

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return {target.zig_target: binaries for target, binaries in zip(LIBC_TARGETS, threads.map(build, LIBC_TARGETS))}


@needs_compiler
@pytest.mark.parametrize("name", ["bbipc-tests", "random-calls"])
@pytest.mark.parametrize("target", LIBC_TARGETS, ids=lambda target: target.zig_target)
class TestNativeTestsForOtherSystems:
    """What they take from the system: `pytest -m other_systems -rP -n 0 -k OtherSystems` lists it."""

    def test_oldest_system_has_all_that_they_take_from_it(
        self, native_tests: dict[str, Path], target: Target, name: str
    ) -> None:
        program = check_wheel.parse(native_tests[target.zig_target] / name)
        undefined = check_wheel.undefined_symbols(program)
        print(f"{name} for {target.zig_target} takes {len(undefined)} names:")
        print(*(f"  {symbol.name} {symbol.version}".rstrip() for symbol in undefined), sep="\n")
        assert undefined
        assert list(check_wheel.undefined_faults(program, target)) == []
        # The tests start threads.
        threads = {"libthr.so.3"} if check_wheel.system_of(target) == "freebsd" else set()
        allowed = check_wheel.NEEDED_LIBRARIES[check_wheel.system_of(target)] | threads
        assert check_wheel.needed_libraries(program) <= allowed
