"""Finds and loads the native library, and checks that it is the one this package was made with."""

from __future__ import annotations

import ctypes
import os
import sys

# The same as BBIPC_VERSION in native/bbipc.h; a test compares them.
__version__ = "0.1.0"

_FILE_NAMES = {"win32": "bbipc.dll", "darwin": "libbbipc.dylib"}

_HOW_TO_REPAIR = (
    "Install the package again: 'python -m pip install --force-reinstall bbipc', or in a source tree"
    " 'python -m pip install -e .', which builds the library."
)


def _load() -> tuple[ctypes.CDLL, ctypes.CDLL]:
    """The library twice: calls through the first release the GIL, calls through the second keep it."""
    # Beside this file and nowhere else: a library that is searched for can be another's.
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), _FILE_NAMES.get(sys.platform, "libbbipc.so"))
    if not os.path.exists(path):
        raise ImportError(f"bbipc's native library is missing: there is no {path}. {_HOW_TO_REPAIR}", path=path)
    try:
        releasing = ctypes.CDLL(path)
        # PyPy has no PyDLL; there every call releases the GIL.
        keeping = getattr(ctypes, "PyDLL", ctypes.CDLL)(path)
        get_version = releasing.bbipc_version
    except (OSError, AttributeError) as error:
        raise ImportError(
            f"bbipc's native library {path} does not load: {error}. It may be made for another system."
            f" {_HOW_TO_REPAIR}",
            path=path,
        ) from error
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
