"""How the example programs begin, end, and start each other."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, NoReturn

from bbipc import BbipcError


class ProgramError(Exception):
    """What keeps a program from doing its work, in words for its user."""


class ArgumentParser(argparse.ArgumentParser):
    """One that reports wrong usage in one line."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with status 2."""
        self.exit(2, f"{self.prog}: {message} (--help tells more)\n")


def run(main: Callable[[], None]) -> NoReturn:
    """Runs a program to its end, also one that Ctrl-C or SIGTERM brings, with everything closed and no traceback.

    The exit status is 0, 1 after a failure, which standard error tells in one line, or 128 and the signal's number.
    """
    # Arguments and pathnames may be any bytes: what os.fsdecode made of them is written as it was.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")
    # As an exception, so that all `with` and `finally` blocks are left in order.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except (ProgramError, BbipcError, OSError) as error:
        sys.exit(f"{os.path.basename(sys.argv[0])}: {description(error)}")
    sys.exit()


def description(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, BbipcError) and isinstance(error, OSError):
        # str() would put the error's number in front, which bbipc's messages make superfluous.
        return str(error.strerror)
    return str(error)


@contextlib.contextmanager
def server_process(program: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another example as a process of its own: the process, and the address that it listens on."""
    command = [sys.executable, str(Path(__file__).with_name(program)), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="surrogateescape") as process:
        try:
            assert process.stdout is not None
            ready, _, address = process.stdout.readline().strip().partition("listening on ")
            if ready or not address:
                # It has told why on standard error.
                sys.exit(process.wait())
            yield process, address
        finally:
            process.terminate()
