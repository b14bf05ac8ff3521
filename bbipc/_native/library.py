"""Finds the native library, loads it, and checks that it is the one this package was made with. Finds its header."""

from __future__ import annotations

import ctypes
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The same as BBIPC_VERSION in native/include/bbipc.h; a test compares them.
__version__ = "0.1.0"

#: The folder of the package.
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

_FILE_NAMES = {"win32": "bbipc.dll", "darwin": "libbbipc.dylib"}

_HOW_TO_REPAIR = (
    "Install the package again: 'python -m pip install --force-reinstall bbipc', or in a source tree"
    " 'python -m pip install -e .', which builds the library."
)
_HOW_TO_FREEZE = (
    "This program was frozen without it. PyInstaller takes the library along by itself where it finds bbipc's hook, in"
    " the installed package; else give it '--collect-binaries bbipc'. Tell any other such tool to put the file there."
)


def _why_missing(path: str) -> str:
    """Why there is no library, and what to do."""
    if getattr(sys, "frozen", False):
        return _HOW_TO_FREEZE
    archive = os.path.dirname(path)
    while archive != os.path.dirname(archive) and not os.path.exists(archive):
        archive = os.path.dirname(archive)
    if os.path.isfile(archive):
        return (
            f"The package is inside of the archive {archive}, and systems load libraries from files only. Install bbipc"
            " beside the archive, or make the archive by a tool that unpacks it before it runs, such as shiv or pex."
        )
    return _HOW_TO_REPAIR


def _why_not_loaded(path: str) -> str:
    """Why there is a library that does not load, and what to do."""
    if sys.platform != "win32" and os.statvfs(path).f_flag & getattr(os, "ST_NOEXEC", 0):  # macOS has no such name
        return (
            "It lies on a file system that is mounted with 'noexec', which forbids to run anything from there. Install"
            " bbipc elsewhere (a virtual environment in another directory), or mount without 'noexec'; a program that"
            " unpacks itself there takes another directory if TMPDIR names one."
        )
    return f"It may be made for another system. {_HOW_TO_REPAIR}"


def get_library() -> str:
    """The file of the native library that this process uses, for what loads or links it itself.

    :returns: its absolute path: ``libbbipc.so``, on macOS ``libbbipc.dylib``, on Windows ``bbipc.dll``, in the package.
        :func:`get_include` tells where its header is.
    """
    # In the package and nowhere else: a library that is searched for can be another's.
    return os.path.join(_PACKAGE, _FILE_NAMES.get(sys.platform, "libbbipc.so"))


def _load() -> tuple[ctypes.CDLL, ctypes.CDLL]:
    """The library twice: calls through the first release the GIL, calls through the second keep it."""
    path = get_library()
    if not os.path.exists(path):
        raise ImportError(f"bbipc's native library is missing: there is no {path}. {_why_missing(path)}", path=path)
    try:
        releasing = ctypes.CDLL(path)
        # PyPy has no PyDLL; there every call releases the GIL.
        keeping = getattr(ctypes, "PyDLL", ctypes.CDLL)(path)
        get_version = releasing.bbipc_version
    except (OSError, AttributeError) as error:
        why = _why_not_loaded(path)
        raise ImportError(f"bbipc's native library {path} does not load: {error}. {why}", path=path) from error
    get_version.argtypes = []
    get_version.restype = ctypes.c_char_p
    version = (get_version() or b"").decode("ascii", "replace")
    if version != __version__:
        raise ImportError(
            f"bbipc's native library {path} is version {version}, but the Python package is version {__version__}."
            f" {_HOW_TO_REPAIR}",
            path=path,
        )
    return releasing, keeping


releasing, keeping = _load()


def declare(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    """A function of the library, as ctypes has to call it."""
    function = getattr(library, f"bbipc_{name}")
    function.restype = result
    function.argtypes = list(arguments)
    return function


def get_include() -> str:
    """The folder of ``bbipc.h``, the header of the C interface: what a C compiler takes as ``-I``.

    :returns: its absolute path: inside of the installed package, or in the source tree of an editable install. The
        header is that of the package's version.
    :raises FileNotFoundError: where there is no such header: in a program that was frozen, for example.
    """
    # Nothing is built into a source tree, so only one of these can be there.
    for folder in (os.path.join(_PACKAGE, "include"), os.path.join(os.path.dirname(_PACKAGE), "native", "include")):
        try:
            with open(os.path.join(folder, "bbipc.h"), encoding="utf-8") as header:
                is_ours = f'#define BBIPC_VERSION "{__version__}"\n' in header
        except OSError:
            continue
        # Beside an installed package, what has that name can be another's.
        if is_ours:
            return folder
    raise FileNotFoundError(
        f"there is no bbipc.h of version {__version__} in the package {_PACKAGE}: a tool that copies programs may leave"
        " it out. It is in bbipc's wheels and in its sources, as native/include/bbipc.h."
    )
