"""Hatchling's build hook: compiles the native library for one target and names the wheel after it.

A wheel is built for the machine that builds it, or for the wheel platform that the environment variable
BBIPC_WHEEL_TARGET names: one of those in targets.json, whole or one of its dotted parts. An editable install is for
this machine always, and gets the library put into bbipc/, where the package looks for it.

pip installs the compiler for the time of the build only where there is no `zig` of the right version already. So the
package `ziglang` is not in build-system.requires, and a machine for which there is no such package can build too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

TARGET_VARIABLE = "BBIPC_WHEEL_TARGET"

#: The platforms of the wheels of `ziglang` in the pinned version, by their oldest tags. It has no source distribution.
ZIGLANG_PLATFORMS = re.compile(
    r"(manylinux_2_17|musllinux_1_1)_(aarch64|armv7l|i686|ppc64le|s390x|x86_64)"
    r"|(manylinux_2_31|musllinux_1_1)_riscv64"
    r"|macosx_13_0_(arm64|x86_64)"
    r"|win32|win_(amd64|arm64)"
)

#: FreeBSD's own tag, which names the kernel's release and patch level: freebsd_14_1_release_p3_amd64.
FREEBSD_PLATFORM = re.compile(r"freebsd_(?P<major>\d+)_(?P<minor>\d+)_\w+_(?P<machine>[a-z0-9]+)")


class Target(NamedTuple):
    """One entry of native/packaging/targets.json.

    The version in a Windows target is the oldest that the library is for: 8.1 has every function that it calls, and on
    ARM64 Windows 10 1809 (rs5) is the first with a CPython.

    `cpu` is for processors of which Zig takes the oldest for younger than the wheel platform does: i686 has no SSE2,
    ARMv7 need not have NEON or more than 16 registers for doubles, and no IBM Z before z13 has vectors.
    """

    wheel_platform: str
    zig_target: str
    library: str
    cpu: str = ""

    @property
    def platforms(self) -> list[str]:
        """The single platform tags that wheel_platform joins with dots."""
        return self.wheel_platform.split(".")

    @property
    def needs_libc(self) -> bool:
        """Linux is called directly, and Windows through its own libraries. Elsewhere libc is the way to the kernel."""
        return not re.search("-(linux|windows)", self.zig_target)


class BuildError(Exception):
    """The library can't be built here; the message says what to do about it."""


class NativeLibraryHook(BuildHookInterface[Any]):
    """Builds the library before hatchling collects the files of a wheel."""

    temporary: tempfile.TemporaryDirectory[str]

    def dependencies(self) -> list[str]:
        """What the front end installs for the build, besides build-system.requires."""
        version = self.config["zig-version"]
        # Where there is no such package, `initialize` says what to do; the front end would only say that it found none.
        return [f"ziglang=={version}"] if ziglang_is_for(platform_tags()) and not find_zigs(version).fit else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        editable = version == "editable"
        self.temporary = tempfile.TemporaryDirectory(prefix="bbipc-build-")
        try:
            target = choose_target(read_targets(root), "" if editable else os.environ.get(TARGET_VARIABLE, ""))
            zig = find_zig(self.config["zig-version"])
            library = build_library(root, zig, target, Path(self.temporary.name))
            if editable:
                replace_file(library, root / "bbipc" / target.library)
        except BuildError as error:
            self.app.abort(f"bbipc: {error}")

        if not editable:
            build_data["force_include"][str(library)] = f"bbipc/{target.library}"
            # In an editable install, bbipc.get_include() names the sources'.
            build_data["force_include"][str(root / "native" / "include" / "bbipc.h")] = "bbipc/include/bbipc.h"
        # Any Python 3 can load the library, whereas hatchling's own guess names the one that builds.
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{target.wheel_platform}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self.temporary.cleanup()


def read_targets(root: Path) -> list[Target]:
    entries = json.loads((root / "native" / "packaging" / "targets.json").read_text(encoding="utf-8"))
    return [Target(**entry) for entry in entries]


def choose_target(targets: Sequence[Target], name: str = "") -> Target:
    """The target of this name, or without one the target whose wheels install on this machine."""
    # FreeBSD's have capitals, and tags of wheels have none.
    wanted = [name] if name else [tag.lower() for tag in platform_tags()]
    for platform in wanted:
        for target in targets:
            if platform in (target.wheel_platform, *target.platforms):
                return target
            if runs_libraries_of(platform, target):
                return target._replace(wheel_platform=platform)
    known = ", ".join(target.wheel_platform for target in targets)
    asked = f"{TARGET_VARIABLE} is {name!r}" if name else f"this machine is {wanted[0]}"
    raise BuildError(
        f"{asked}, but the library is built only for {known}. "
        f"For another processor under one of these systems, add it to native/packaging/targets.json and try"
    )


def runs_libraries_of(platform: str, target: Target) -> bool:
    """Whether the platform is a FreeBSD that loads the target's library, though its tag is not among the target's.

    FreeBSD keeps what older programs need. But its tags change with each release and each patch of the kernel, and pip
    takes a wheel only if it has the very tag of the machine. So that tag goes on the wheel.
    """
    ours = FREEBSD_PLATFORM.fullmatch(target.platforms[0])
    asked = FREEBSD_PLATFORM.fullmatch(platform)
    if ours is None or asked is None or ours["machine"] != asked["machine"]:
        return False
    return (int(asked["major"]), int(asked["minor"])) >= (int(ours["major"]), int(ours["minor"]))


class Zigs(NamedTuple):
    """The Zig compilers that are installed here: the command of the one to use, if any, and all that were found."""

    fit: list[str] | None
    found: list[str]


def find_zigs(version: str) -> Zigs:
    """Looks for a compiler of exactly this version: the ziglang package's, or else a `zig` on PATH."""
    found = []
    for zig in ([sys.executable, "-m", "ziglang"], ["zig"]):
        try:
            answer = subprocess.run([*zig, "version"], capture_output=True, text=True, check=False)
        except OSError:
            continue
        if answer.returncode != 0:
            continue
        found.append(f"{zig[-1]} {answer.stdout.strip()}")
        if answer.stdout.strip() == version:
            return Zigs(zig, found)
    return Zigs(None, found)


def find_zig(version: str) -> list[str]:
    """The command of a Zig compiler of exactly this version."""
    zigs = find_zigs(version)
    if zigs.fit is not None:
        return zigs.fit
    platforms = list(platform_tags())
    if ziglang_is_for(platforms):
        advice = (
            f'Install it with: {sys.executable} -m pip install "ziglang=={version}", '
            f"or put a zig of this version on PATH"
        )
    else:
        advice = (
            f"The package ziglang, which pip would use, is not made for this machine ({platforms[0]}): "
            f"get Zig {version} from your system's packages or from ziglang.org/download, and put its `zig` on PATH"
        )
    raise BuildError(
        f"bbipc is built by Zig {version}, and no other version; found here: {' and '.join(zigs.found) or 'none'}. "
        f"{advice}"
    )


def ziglang_is_for(platforms: Iterable[str]) -> bool:
    """Whether there is a wheel of `ziglang` for a machine with these platform tags."""
    return any(ZIGLANG_PLATFORMS.fullmatch(platform) for platform in platforms)


def build_library(root: Path, zig: Sequence[str], target: Target, directory: Path) -> Path:
    """Builds the library inside `directory` and returns its path.

    The same bytes as `zig build` makes, which a test compares; but that compiles build.zig and all of Zig's build
    system first, and would let everybody who installs bbipc wait for a minute or two instead of seconds.
    """
    library = directory / target.library
    options = ["-dynamic", "-Osafe", "-fstrip", "-fno-unwind-tables", "-target", target.zig_target, "--name", "bbipc"]
    if target.cpu:
        options.append(f"-mcpu={target.cpu}")
    if target.needs_libc:
        options.append("-lc")
    if target.library.endswith(".dylib"):
        # Otherwise Zig writes into the library where it was built.
        options += ["-install_name", f"@rpath/{target.library}"]
    command = [*zig, "build-lib", *options, f"-femit-bin={library}", "-Mroot=native/root.zig"]
    # Zig's messages go to the standard error: on the standard output some front ends read the name of the wheel.
    built = subprocess.run(
        command, cwd=root, env=zig_environment(os.environ, directory), stdout=sys.stderr, check=False
    )
    if built.returncode != 0:
        raise BuildError(f"Zig could not build the library for {target.zig_target}: see its messages above")
    return library


def zig_environment(environment: Mapping[str, str], directory: Path) -> dict[str, str]:
    """The environment with Zig's caches outside the source tree, where the caller has chosen no place for them."""
    result = {"ZIG_LOCAL_CACHE_DIR": str(directory / "zig-local-cache"), **environment}
    # The global cache is kept for the next build. But some build services have no home to keep it in.
    home = environment.get("XDG_CACHE_HOME") or environment.get("HOME") or ""
    if os.name == "posix" and not os.access(home, os.W_OK):
        result.setdefault("ZIG_GLOBAL_CACHE_DIR", str(directory / "zig-global-cache"))
    return result


def replace_file(source: Path, destination: Path) -> None:
    """Copies in one step: a running process may have the old file mapped, and crashes if its bytes change."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{destination.name}.", dir=destination.parent)
    os.close(descriptor)
    try:
        shutil.copy(source, temporary)
        os.replace(temporary, destination)
    except BaseException as error:
        os.unlink(temporary)
        if os.name == "nt" and isinstance(error, PermissionError):
            # Windows keeps the file of a library that is loaded as it is.
            raise BuildError(
                f"{destination} can't be replaced, probably because a running program has loaded it. "
                f"End the Python programs that use bbipc, then install it again"
            ) from error
        raise
