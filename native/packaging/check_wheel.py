"""What has to be true of a wheel before anybody installs it: of its name, its files and the library inside.

`faults` says in words what is wrong with one wheel. native/packaging/build_wheels.py asks it of what it builds, and
tests/project/test_wheel.py of wheels that are right and of wheels that are wrong on purpose.

Libraries are read with lief, which only this needs: to build and to install a wheel doesn't.
"""

from __future__ import annotations

import base64
import csv
import email
import hashlib
import importlib
import io
import os
import re
import struct
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from packaging.tags import parse_tag
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from hatch_build import FREEBSD_PLATFORM, Target

ROOT = Path(__file__).resolve().parent.parent.parent

LIBRARY_SIZE_MAX_BYTES = 300_000


class Processor(NamedTuple):
    """How one processor is named: at the end of wheel platforms, and in each format of libraries.

    `elf_flags` are those of ELF's header. A loader refuses a library whose calling convention is not its own: on ARM,
    version 5 of the ABI with floating point in registers; on RISC-V the same for doubles, with compressed instructions;
    on POWER, version 2.
    """

    platforms: tuple[str, ...]
    bits: int = 64
    byte_order: str = "LSB"
    elf: str = ""
    elf_flags: int = 0
    mach_o: str = ""
    pe: str = ""


#: By the first part of a target's name for Zig.
PROCESSORS = {
    "x86_64": Processor(("x86_64", "amd64"), elf="X86_64", mach_o="X86_64", pe="AMD64"),
    "aarch64": Processor(("aarch64", "arm64"), elf="AARCH64", mach_o="ARM64", pe="ARM64"),
    "x86": Processor(("i686", "win32"), bits=32, elf="I386", pe="I386"),
    "arm": Processor(("armv7l",), bits=32, elf="ARM", elf_flags=0x05000400),
    "riscv64": Processor(("riscv64",), elf="RISCV", elf_flags=0x5),
    "s390x": Processor(("s390x",), byte_order="MSB", elf="S390"),
    "powerpc64le": Processor(("ppc64le",), elf="PPC64", elf_flags=0x2),
}

#: What a library may need of each system. The case of Windows' names does not matter.
NEEDED_LIBRARIES: dict[str, set[str]] = {
    "linux": set(),
    "macos": {"/usr/lib/libSystem.B.dylib"},
    "freebsd": {"libc.so.7"},
    "windows": {"kernel32.dll", "ntdll.dll", "ws2_32.dll"},
}

#: The newest names of FreeBSD 14.0's libc have this version, and those of 15.0 the next.
FREEBSD_14_SYMBOLS = (1, 7)

#: Zig's linker adds these to the exported names of a Mach-O library.
MACH_O_LINKER_EXPORTS = {"__mh_dylib_header", "___dso_handle"}

#: Where things are built: on this machine, on others, and as Windows writes it. A library has no business there.
BUILD_PLACES = {str(ROOT), str(Path.home()), tempfile.gettempdir(), sys.prefix, sys.base_prefix} - {"/", "/usr"}
BUILD_PATH = re.compile(
    rb"(?:(?<![\w.])/(?:home|root|tmp|Users|build|github|private|opt|workspace)|(?<!\w)[A-Z]:|%b)[/\\][!-~]+"
    % b"|".join(re.escape(os.fsencode(place)) for place in sorted(BUILD_PLACES))
)


def faults(wheel: Path, target: Target, root: Path = ROOT) -> list[str]:
    """What is wrong with the wheel of a target, if anything."""
    with zipfile.ZipFile(wheel) as archive:
        found = [*name_faults(wheel.name, target, root), *archive_faults(archive, target, root)]
        if f"bbipc/{target.library}" in archive.namelist():
            found += library_faults(archive.read(f"bbipc/{target.library}"), target, root)
    return found


def twins(libraries: dict[str, bytes]) -> list[str]:
    """What is wrong with libraries, by their targets' names, that should all be different."""
    count = Counter(libraries.values())
    alike = [name for name, contents in libraries.items() if count[contents] > 1]
    return [f"the same library is in the wheels for {' and '.join(alike)}"] if alike else []


def library_of(wheel: Path, target: Target) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(f"bbipc/{target.library}")


def exported_names(root: Path = ROOT) -> set[str]:
    """The functions that native/include/bbipc.h declares."""
    header = (root / "native" / "include" / "bbipc.h").read_text(encoding="utf-8")
    code = re.sub(r"/\*.*?\*/|//[^\n]*|^\s*#[^\n]*(?:\\\n[^\n]*)*", "", header, flags=re.DOTALL | re.MULTILINE)
    return set(re.findall(r"\b(bbipc_\w+)\s*\(", code))


def version(root: Path = ROOT) -> str:
    header = (root / "native" / "include" / "bbipc.h").read_text(encoding="utf-8")
    (found,) = re.findall(r'#define BBIPC_VERSION "([^"]+)"', header)
    return str(found)


# ---- The wheel ----


def name_faults(name: str, target: Target, root: Path) -> Iterator[str]:
    expected = f"bbipc-{version(root)}-py3-none-{target.wheel_platform}.whl"
    if name != expected:
        yield f"the wheel is called {name} instead of {expected}"
    try:
        parse_wheel_filename(name)
    except InvalidWheelFilename as error:
        yield f"the wheel's name is malformed: {error}"
    yield from tag_faults(target)


def tag_faults(target: Target) -> Iterator[str]:
    """Whether the target's wheel platform and its name for Zig speak of the same machines."""
    processor = target.zig_target.split("-")[0]
    for platform in target.platforms:
        if not platform.endswith(PROCESSORS[processor].platforms):
            yield f"{platform} does not name the processor {processor}"
        if not re.match(PLATFORM_OF_SYSTEM[system_of(target)], platform):
            yield f"{platform} does not name the system of {target.zig_target}"


#: How wheel platforms begin, with the version for the systems that have one in the library.
PLATFORM_OF_SYSTEM = {
    "linux": r"manylinux|musllinux",
    # 10.16 is what macOS 11 and later call themselves before a Python that was built for older ones, and an older pip
    # then asks for wheels by that name.
    "macos": r"macosx_(11_0|10_16)_",
    "freebsd": FREEBSD_PLATFORM.pattern,
    "windows": r"win32$|win_",
}


def system_of(target: Target) -> str:
    return re.split(r"[-.]", target.zig_target)[1]


def archive_faults(archive: zipfile.ZipFile, target: Target, root: Path) -> Iterator[str]:
    names = archive.namelist()
    yield from (f"{name} is in the wheel {times} times" for name, times in Counter(names).items() if times > 1)

    package = {
        path.relative_to(root).as_posix(): path
        for pattern in ("*.py", "py.typed")
        for path in (root / "bbipc").rglob(pattern)
    }
    package["bbipc/include/bbipc.h"] = root / "native" / "include" / "bbipc.h"
    information = f"bbipc-{version(root)}.dist-info"
    # The entry points: PyInstaller's hook.
    files = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    about = {f"{information}/{name}" for name in files}
    expected = {*package, *about, f"bbipc/{target.library}"}
    yield from (f"{name} is missing" for name in sorted(expected - set(names)))
    yield from (f"{name} does not belong into the wheel" for name in sorted(set(names) - expected))
    for name, path in package.items():
        if name in names and archive.read(name) != path.read_bytes():
            yield f"{name} is not that of the sources"

    if about <= set(names):
        yield from metadata_faults(archive, information, target, root)
        yield from record_faults(archive, f"{information}/RECORD")


def metadata_faults(archive: zipfile.ZipFile, information: str, target: Target, root: Path) -> Iterator[str]:
    metadata = email.message_from_bytes(archive.read(f"{information}/METADATA"))
    if (metadata["Name"], metadata["Version"]) != ("bbipc", version(root)):
        yield f"the metadata is of {metadata['Name']} {metadata['Version']}"
    wheel = email.message_from_bytes(archive.read(f"{information}/WHEEL"))
    if wheel["Root-Is-Purelib"] != "false":
        yield "the wheel says that it holds nothing but Python"
    tags = {tag for text in wheel.get_all("Tag", []) for tag in parse_tag(text)}
    expected = parse_tag(f"py3-none-{target.wheel_platform}")
    if tags != expected:
        yield f"the metadata has the tags {sorted(map(str, tags))} instead of {sorted(map(str, expected))}"


def record_faults(archive: zipfile.ZipFile, record: str) -> Iterator[str]:
    rows = list(csv.reader(io.StringIO(archive.read(record).decode())))
    if sorted(row[0] for row in rows) != sorted(archive.namelist()):
        yield "RECORD does not list the files that there are"
    for name, digest, size in rows:
        if name == record or name not in archive.namelist():
            continue
        contents = archive.read(name)
        sha256 = base64.urlsafe_b64encode(hashlib.sha256(contents).digest()).rstrip(b"=").decode()
        if (digest, size) != (f"sha256={sha256}", str(len(contents))):
            yield f"RECORD has another {name}"


# ---- The library ----


def lief() -> Any:
    module = importlib.import_module("lief")
    # Otherwise it writes about its own memory when Python ends, after the last line of the program that uses it.
    module.disable_leak_warning()
    module.logging.disable()
    return module


def parse(file: Path) -> Any:
    """What lief reads: an ELF or PE file, or the one part of a Mach-O file."""
    parsed = lief().parse(str(file))
    assert parsed is not None, file
    return parsed


def library_faults(contents: bytes, target: Target, root: Path = ROOT) -> Iterator[str]:
    """What is wrong with a library, which is none of the wheel that it is in."""
    if len(contents) > LIBRARY_SIZE_MAX_BYTES:
        yield f"the library has {len(contents)} bytes, more than {LIBRARY_SIZE_MAX_BYTES}"
    yield from path_faults(without_relocations(contents))
    processor = PROCESSORS[target.zig_target.split("-")[0]]
    if target.library.endswith(".dll"):
        yield from pe_faults(contents, processor, target, root)
    elif target.library.endswith(".dylib"):
        yield from mach_o_faults(contents, processor, target, root)
    else:
        yield from elf_faults(contents, processor, target, root)


def without_relocations(contents: bytes) -> bytes:
    """A PE file with zeros in the place of its base relocations, which are numbers but can look like a path."""
    pe = lief().PE.parse(list(contents))
    for section in pe.sections if pe is not None else ():
        if section.name == ".reloc":
            start, size = section.pointerto_raw_data, section.sizeof_raw_data
            return contents[:start] + bytes(size) + contents[start + size :]
    return contents


def path_faults(contents: bytes) -> Iterator[str]:
    for path in sorted(set(BUILD_PATH.findall(contents))):
        yield f"the library tells a path of the machine that built it: {path.decode()}"


def needs_faults(needed: set[str], target: Target) -> Iterator[str]:
    extra = needed - NEEDED_LIBRARIES[system_of(target)]
    yield from (f"the library needs {name}" for name in sorted(extra))


def export_faults(exported: set[str], root: Path) -> Iterator[str]:
    declared = exported_names(root)
    yield from (f"the library does not export {name}" for name in sorted(declared - exported))
    yield from (
        f"the library exports {name}, which the header does not declare" for name in sorted(exported - declared)
    )


def elf_faults(contents: bytes, processor: Processor, target: Target, root: Path) -> Iterator[str]:
    elf = lief().ELF.parse(list(contents))
    if elf is None:
        yield "the library is no ELF file"
        return
    header = elf.header
    kind = (
        header.machine_type.name,
        header.identity_class.name,
        header.identity_data.name,
        header.processor_flag,
        header.file_type.name,
    )
    expected = (processor.elf, f"ELF{processor.bits}", processor.byte_order, processor.elf_flags, "DYN")
    if kind != expected:
        yield f"the library is for {kind} instead of {expected}"

    yield from needs_faults(needed_libraries(elf), target)
    yield from export_faults({symbol.name for symbol in elf.exported_symbols}, root)
    yield from (f"the library has {entry.tag.name}" for entry in elf.dynamic_entries if "PATH" in entry.tag.name)
    kinds = [segment.type.name for segment in elf.segments]
    if system_of(target) == "linux" and "TLS" in kinds:
        yield "the library has thread-local storage"
    stack = [int(segment.flags) for segment in elf.segments if segment.type.name == "GNU_STACK"]
    if len(stack) != 1 or stack[0] & 1:
        yield "the library asks for a stack that can be executed"
    writable_code = [segment for segment in elf.segments if segment.type.name == "LOAD" and int(segment.flags) & 3 == 3]
    if writable_code:
        yield "the library has code that can be written to"
    if processor.elf == "ARM":
        yield from arm_faults(bytes(elf.get_section(".ARM.attributes").content))
    yield from undefined_faults(elf, target)


def arm_faults(attributes: bytes) -> Iterator[str]:
    """What an ARMv7 processor may lack, by the library's own word: see "Build attributes" in the ABI for ARM."""
    # A letter for the version, the size, "aeabi", then a tag for the whole file and the size again.
    rest = iter(attributes[1 + 4 + len(b"aeabi\0") + 1 + 4 :])
    found = {}
    for tag in rest:
        # No number here needs more than the seven bits of one byte; these tags have texts.
        found[tag] = bytes(iter(rest.__next__, 0)) if tag in (4, 5, 65, 67) else next(rest)
    if found.get(12):
        yield "the library is for an ARM with NEON"
    if found.get(10) not in (None, 4):
        yield "the library is for an ARM with 32 registers for doubles"


def mach_o_faults(contents: bytes, processor: Processor, target: Target, root: Path) -> Iterator[str]:
    fat = lief().MachO.parse(list(contents))
    if fat is None or fat.size != 1:
        yield "the library is no Mach-O file for one processor"
        return
    mach_o = fat.at(0)
    kind = (mach_o.header.cpu_type.name, mach_o.header.file_type.name)
    if kind != (processor.mach_o, "DYLIB"):
        yield f"the library is for {kind} instead of {(processor.mach_o, 'DYLIB')}"

    own = [command.name for command in mach_o.commands if command.command.name == "ID_DYLIB"]
    if own != [f"@rpath/{target.library}"]:
        yield f"the library calls itself {own}"
    yield from needs_faults(needed_libraries(mach_o), target)
    exported = {export.symbol.name for export in mach_o.dyld_info.exports} - MACH_O_LINKER_EXPORTS
    yield from export_faults({name.removeprefix("_") for name in exported}, root)

    build = mach_o.build_version
    if build is None or build.platform.name != "MACOS" or list(build.minos) != [11, 0, 0]:
        minimum = None if build is None else (build.platform.name, ".".join(map(str, build.minos)))
        yield f"the library is for {minimum} instead of macOS 11.0"
    # Intel's processors run what is not signed; Zig signs what only Apple's run, as Apple's own linker does.
    if mach_o.has_code_signature:
        signature = mach_o.code_signature
        yield from signature_faults(contents, contents[signature.data_offset :][: signature.data_size])
    elif processor.mach_o == "ARM64":
        yield "the library is not signed"
    yield from undefined_faults(mach_o, target)
    yield from command_faults(mach_o)
    yield from segment_faults(mach_o, len(contents), page_size=0x4000 if processor.mach_o == "ARM64" else 0x1000)
    yield from linkedit_faults(mach_o)


# What macOS' loader, dyld, asks of a library before it loads it (its Policy.cpp, UnsafeHeader.cpp and Image.cpp). Most
# rules hold for libraries that were made with the SDK of a certain year or later. Zig names its newest: all of them do.

#: What a segment may be used for, of reading (1), writing (2) and running (4).
SEGMENT_PERMISSIONS = {"__TEXT": 5, "__DATA": 3, "__DATA_CONST": 3, "__LINKEDIT": 1}
SEGMENT_READ_ONLY = 0x10

#: The size of the header of a 64-bit library.
MACH_HEADER_SIZE = 32


def command_faults(mach_o: Any) -> Iterator[str]:
    """Of the load commands: a UUID, the system's library, once, and no place to look for others."""
    kinds = Counter(command.command.name for command in mach_o.commands)
    if kinds["UUID"] != 1:
        yield f"the library has {kinds['UUID']} UUIDs instead of 1"
    if kinds["RPATH"]:
        yield "the library has RPATH"
    loaded = [library.name for library in mach_o.libraries if library.command.name != "ID_DYLIB"]
    if not loaded:
        yield "the library needs no library, not even the system's"
    yield from (f"the library needs {name} {times} times" for name, times in Counter(loaded).items() if times > 1)
    for command in mach_o.commands:
        if command.size % 8:
            yield f"the load command {command.command.name} has {command.size} bytes, no multiple of 8"


def segment_faults(mach_o: Any, file_size: int, page_size: int) -> Iterator[str]:
    """Of each segment: its permissions, its place in the file and in memory, and what is in it."""
    segments = list(mach_o.segments)
    names = [segment.name for segment in segments]
    yield from (f"the library has {times} segments {name}" for name, times in Counter(names).items() if times > 1)
    yield from (f"the library has no segment {name}" for name in ("__TEXT", "__LINKEDIT") if name not in names)
    for segment in segments:
        name, start, size = segment.name, segment.virtual_address, segment.virtual_size
        permissions = int(segment.init_protection)
        if permissions != SEGMENT_PERMISSIONS.get(name, permissions) or permissions & 6 == 6:
            yield f"{name} has the permissions {permissions}"
        if name == "__DATA_CONST" and not segment.flags & SEGMENT_READ_ONLY:
            yield f"{name} does not become read-only"
        if segment.file_size > size or segment.file_offset + segment.file_size > file_size:
            yield f"{name} has less room than bytes, or more bytes than the file"
        if start % page_size or segment.file_offset % page_size:
            yield f"{name} does not begin with a page of {page_size} bytes"
        for section in segment.sections:
            if section.virtual_address < start or section.virtual_address + section.size > start + size:
                yield f"{section.name} is not inside of its segment {name}"
    for before, after in zip(segments, segments[1:]):
        if before.virtual_address + before.virtual_size > after.virtual_address or (
            before.file_offset + before.file_size > after.file_offset
        ):
            yield f"{after.name} does not come after {before.name}"
    if segments[0].file_offset or segments[0].file_size < MACH_HEADER_SIZE + mach_o.header.sizeof_cmds:
        yield f"the load commands are not inside of {names[0]}"


def linkedit_faults(mach_o: Any) -> Iterator[str]:
    """Of what the loader reads in the last segment: that each part is aligned, inside, and apart from the others."""
    symbols, dynamic, info = mach_o.symbol_command, mach_o.dynamic_symbol_command, mach_o.dyld_info
    parts = [
        ("the symbols", 8, symbols.symbol_offset, 16 * symbols.numberof_symbols),
        ("the symbols' names", 1, symbols.strings_offset, symbols.strings_size),
        ("the indirect symbols", 4, dynamic.indirect_symbol_offset, 4 * dynamic.nb_indirect_symbols),
        *((f"dyld's {kind}", 8, *getattr(info, kind)) for kind in ("rebase", "bind", "weak_bind", "lazy_bind")),
        ("dyld's exports", 8, *info.export_info),
    ]
    for name in ("function_starts", "data_in_code", "code_signature"):
        if getattr(mach_o, f"has_{name}"):
            command = getattr(mach_o, name)
            parts.append((name.replace("_", " "), 8, command.data_offset, command.data_size))
    end, last = next(
        ((one.file_offset, one.file_offset + one.file_size) for one in mach_o.segments if one.name == "__LINKEDIT"),
        (0, 0),
    )
    for name, alignment, offset, size in sorted((part for part in parts if part[3]), key=lambda part: part[2]):
        if offset % alignment:
            yield f"{name} stand at {offset}, no multiple of {alignment}"
        if not end <= offset <= offset + size <= last:
            yield f"{name} overlap something, or leave __LINKEDIT"
        end = offset + size
    if dynamic.nb_local_symbols + dynamic.nb_external_define_symbols + dynamic.nb_undefined_symbols != (
        symbols.numberof_symbols
    ):
        yield "the library counts its symbols in two ways"
    if dynamic.nb_local_relocations or dynamic.nb_external_relocations:
        yield "the library has relocations of the old kind beside dyld's"
    fixed = {fixup.segment.name for fixup in [*info.bindings, *mach_o.relocations]}
    for name in sorted(fixed - {"__DATA", "__DATA_CONST"}):
        yield f"the loader has to write into {name}"


def signature_faults(contents: bytes, signature: bytes) -> Iterator[str]:
    """Whether the signature is one without a signer ("ad hoc"), and of these very bytes: the kernel kills for less."""
    magic, _length, count = struct.unpack_from(">III", signature)
    blobs = [struct.unpack_from(">II", signature, 12 + 8 * number) for number in range(count)]
    directories = [offset for kind, offset in blobs if kind == 0]
    if magic != 0xFADE0CC0 or len(directories) != 1:
        yield "the library's signature has no code directory"
        return
    directory = signature[directories[0] :]
    flags, hashes_offset, _identifier, _specials, pages, limit, size, kind, _platform, page_shift = struct.unpack_from(
        ">IIIIIIBBBB", directory, 12
    )
    if not flags & 2:
        yield "the library's signature is not ad hoc"
    if (size, kind) != (32, 2):
        yield "the library's signature is not made with SHA-256"
        return
    page_size = 1 << page_shift
    digests = [directory[hashes_offset + 32 * page :][:32] for page in range(pages)]
    actual = [hashlib.sha256(contents[at : min(at + page_size, limit)]).digest() for at in range(0, limit, page_size)]
    if digests != actual:
        yield "the library's signature is of other bytes"


def pe_faults(contents: bytes, processor: Processor, target: Target, root: Path) -> Iterator[str]:
    pe = lief().PE.parse(list(contents))
    if pe is None:
        yield "the library is no PE file"
        return
    if pe.header.machine.name != processor.pe:
        yield f"the library is for {pe.header.machine.name} instead of {processor.pe}"
    yield from needs_faults({imported.name.lower() for imported in [*pe.imports, *pe.delay_imports]}, target)
    yield from export_faults({entry.name for entry in pe.get_export().entries} if pe.has_exports else set(), root)

    header = pe.optional_header
    versions = (
        (header.major_subsystem_version, header.minor_subsystem_version),
        (header.major_operating_system_version, header.minor_operating_system_version),
    )
    if max(versions) > (6, 3):
        yield f"the library does not load on Windows 8.1: it asks for {max(versions)}"
    protections = {"DYNAMIC_BASE", "NX_COMPAT", *(["HIGH_ENTROPY_VA"] if processor.bits == 64 else [])}
    missing = protections - {flag.name for flag in header.dll_characteristics_lists}
    yield from (f"the library goes without the protection {name}" for name in sorted(missing))
    for section in pe.sections:
        if {"MEM_EXECUTE", "MEM_WRITE"} <= {flag.name for flag in section.characteristics_lists}:
            yield f"the library has code that can be written to: {section.name}"


# ---- What a library or a program takes from the system ----


class Undefined(NamedTuple):
    """A name that the system's C library has to supply. `version` is FreeBSD's: FBSD_1.0, or "" for none."""

    name: str
    version: str = ""


def undefined_symbols(binary: Any) -> list[Undefined]:
    """Of an ELF or Mach-O file that lief has read."""
    found = set()
    # A program that is not stripped has them twice, and the second time without a version.
    is_elf = isinstance(binary, lief().ELF.Binary)
    for symbol in binary.dynamic_symbols if is_elf else binary.imported_symbols:
        if not symbol.name or (is_elf and symbol.shndx != 0):
            continue
        needed = ""
        if is_elf and symbol.has_version and symbol.symbol_version.has_auxiliary_version:
            needed = symbol.symbol_version.symbol_version_auxiliary.name
        found.add(Undefined(symbol.name, needed))
    return sorted(found)


def needed_libraries(binary: Any) -> set[str]:
    """Of an ELF or Mach-O file that lief has read."""
    if isinstance(binary, lief().ELF.Binary):
        return set(binary.libraries)
    own = {command.name for command in binary.commands if command.command.name == "ID_DYLIB"}
    return {library.name for library in binary.libraries} - own


def undefined_faults(binary: Any, target: Target) -> Iterator[str]:
    """Which of them the oldest system that the target is for does not have."""
    undefined = undefined_symbols(binary)
    system = system_of(target)
    if system == "linux":
        yield from (f"the library takes {symbol.name} from somewhere" for symbol in undefined)
    elif system == "macos":
        known = macos_11_symbols()
        yield from (
            f"{symbol.name} is not among the names that macOS 11 is known to have, in macos_11_symbols.txt"
            for symbol in undefined
            if symbol.name not in known
        )
    elif system == "freebsd":
        # Zig's linker knows every release's names, and gives a version to those that the target's has.
        for symbol in undefined:
            number = re.fullmatch(r"FBSD_(\d+)\.(\d+)", symbol.version)
            if number is None or (int(number[1]), int(number[2])) > FREEBSD_14_SYMBOLS:
                yield f"FreeBSD 14.0 has no {symbol.name} {symbol.version}".rstrip()


def macos_11_symbols() -> set[str]:
    lines = (ROOT / "native" / "packaging" / "macos_11_symbols.txt").read_text(encoding="utf-8").splitlines()
    return {line for line in lines if not line.startswith("#")}
