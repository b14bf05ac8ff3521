"""What the library is told of this process: that it begins, that it forks, and that it ends."""

from __future__ import annotations

import ctypes
import sys
from ctypes import c_void_p

from . import declarations


def begin() -> None:
    """To be called once, when the package is imported; more often, it does no harm."""
    # Now, so that the number of a program's descriptors does not change with its first wait. Where there is no
    # descriptor left, the first wait says so.
    declarations.prepare_to_wait(None)
    if sys.platform != "win32":
        _register_at_fork()
        return
    import atexit

    # A pipe that has been closed lives until its remote end has read what was written, but not longer than the process.
    # Where there is none, this takes no time.
    atexit.register(declarations.finish_writes, 5_000_000_000)


def _register_at_fork() -> None:
    """Has the library told of every fork of this process.

    By libc itself (pthread_atfork(3)), not by os.register_at_fork: that would run Python code while the library's lock
    is held, and so let in a thread that waits for the lock while the forking thread waits for the GIL.

    musl has pthread_atfork in its libc, macOS in libSystem. FreeBSD has one in libthr, with which every Python is
    linked, and one in libc that calls it.
    """
    libc = ctypes.CDLL(None)
    functions = (declarations.before_fork, declarations.after_fork_in_parent, declarations.after_fork_in_child)
    handlers = [ctypes.cast(one, c_void_p) for one in functions]
    for name, arguments in (
        ("pthread_atfork", handlers),
        # What glibc's pthread_atfork calls; that itself is not in its shared library. The last argument says which
        # library to forget the handlers with: none.
        ("__register_atfork", [*handlers, None]),
    ):
        register = getattr(libc, name, None)
        if register is not None:
            register.argtypes = [c_void_p] * len(arguments)
            if register(*arguments) != 0:
                raise MemoryError("no memory to register bbipc's fork handlers")
            return
    raise ImportError("bbipc can't be told of forks: this system's C library has no pthread_atfork")
