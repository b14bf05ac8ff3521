"""Builds the wheels for all targets in targets.json on one machine, checks them, and prints a table of them.

    python native/packaging/build_wheels.py [--output DIRECTORY] [--target PLATFORM]...

It takes what the tests take (`python -m pip install -e ".[test]"`), and builds each wheel by the hook that builds it
for everybody, native/packaging/hatch_build.py. The wheels have the same bytes whenever and wherever they are built.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import check_wheel
from hatch_build import TARGET_VARIABLE, BuildError, Target, choose_target, read_targets

ROOT = Path(__file__).resolve().parent.parent.parent

#: What the Windows versions in Zig's targets are called by people.
WINDOWS_VERSIONS = {"win8_1": "Windows 8.1", "win10_rs5": "Windows 10 1809"}


class WheelError(Exception):
    """A wheel could not be built. The message has what the build printed."""


def build(target: Target, directory: Path, root: Path = ROOT) -> Path:
    """Builds the wheel of one target and returns its path."""
    directory.mkdir(parents=True, exist_ok=True)
    # By itself, for several may be built at once.
    with tempfile.TemporaryDirectory(prefix=".wheel-", dir=directory) as temporary:
        finished = subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", temporary],
            cwd=root,
            env={**os.environ, TARGET_VARIABLE: target.wheel_platform},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if finished.returncode != 0:
            raise WheelError(f"no wheel for {target.wheel_platform}:\n{finished.stdout}")
        (wheel,) = Path(temporary).glob("*.whl")
        return wheel.replace(directory / wheel.name)


def build_all(targets: Sequence[Target], directory: Path, root: Path = ROOT) -> list[Path]:
    """Builds the wheels of several targets, as many at once as there are processors. In the order of the targets."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(threads.map(lambda target: build(target, directory, root), targets))


def minimum_system(target: Target) -> str:
    """The oldest system that the wheel is for, as its tags and the target's name for Zig say it."""
    system = check_wheel.system_of(target)
    if system == "linux":
        glibc = re.findall(r"manylinux_?(\d+_\d+|2014)_", target.wheel_platform)
        musl = re.findall(r"musllinux_(\d+_\d+)_", target.wheel_platform)
        versions = {"2014": "2_17"}
        return f"glibc {versions.get(glibc[0], glibc[0])} or musl {musl[0]}".replace("_", ".")
    version = target.zig_target.split(f"-{system}.")[1]
    if system == "windows":
        return WINDOWS_VERSIONS[version]
    return {"macos": "macOS", "freebsd": "FreeBSD"}[system] + f" {version}"


def print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        # Figures to the right, and the widest column last, so that a line ends where its text does.
        system, library, wheel, tag = row
        print(f"{system:{widths[0]}}  {library:>{widths[1]}}  {wheel:>{widths[2]}}  {tag}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Builds, checks and lists the wheels for all platforms.")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="where the wheels go (default: dist/)")
    parser.add_argument(
        "--target", action="append", metavar="PLATFORM", help="only this wheel platform; may be repeated"
    )
    arguments = parser.parse_args()
    every = read_targets(ROOT)
    try:
        check_wheel.lief()
        targets = [choose_target(every, name) for name in arguments.target or []] or every
        started = time.monotonic()
        wheels = build_all(targets, arguments.output)
    except ModuleNotFoundError as error:
        print(f'{error}, which checks the wheels: python -m pip install -e ".[test]"', file=sys.stderr)
        return 1
    except (BuildError, WheelError) as error:
        print(error, file=sys.stderr)
        return 1
    seconds = time.monotonic() - started

    rows = [("minimum system", "library", "wheel", "tag")]
    faults = []
    libraries = {}
    for target, wheel in zip(targets, wheels):
        faults += [f"{wheel.name}: {fault}" for fault in check_wheel.faults(wheel, target)]
        library = libraries[target.wheel_platform] = check_wheel.library_of(wheel, target)
        size, wheel_size = f"{len(library):,}", f"{wheel.stat().st_size:,}"
        rows.append((minimum_system(target), size, wheel_size, f"py3-none-{target.wheel_platform}"))
    faults += check_wheel.twins(libraries)
    print_table(rows)
    print(f"{len(wheels)} wheels in {arguments.output}, built in {seconds:.0f} s")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
