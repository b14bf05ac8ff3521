"""How the example programs begin, end, and start each other."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, NoReturn

from bbipc import Address, BbipcError

#: How to print what is no text, or can't be printed. Arguments and pathnames of POSIX systems may be any bytes: what
#: os.fsdecode made of them is written as it was. On Windows they are text, but not every console can show it all.
OUTPUT_ERRORS = "backslashreplace" if sys.platform == "win32" else "surrogateescape"

#: Where the servers listen, and the clients connect to, if they are not told.
DEFAULT_ADDRESS = "tcp:127.0.0.1:12345"
#: What a user can write. Windows' local servers are pipes, which have names but are no files; a path is as good a name.
ADDRESS_FORMS = "tcp:HOST:PORT or local:NAME" if sys.platform == "win32" else "tcp:HOST:PORT or local:PATH"
#: How long a client waits for a server that is not up yet, in seconds.
CONNECT_TIMEOUT_S = 2.0

#: What Ctrl-C and kill(1) send. Windows has Ctrl-Break instead of the latter.
ENDING_SIGNALS = (signal.SIGINT, signal.SIGBREAK if sys.platform == "win32" else signal.SIGTERM)


class ProgramError(Exception):
    """What keeps a program from doing its work, in words for its user."""


class ArgumentParser(argparse.ArgumentParser):
    """One that reports wrong usage in one line."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with status 2."""
        self.exit(2, f"{self.prog}: {message} (--help tells more)\n")

    def add_address(self, what: str) -> None:
        """Takes an address, or none, as the last argument."""
        about = f"{what}: {ADDRESS_FORMS} (default: %(default)s)"
        self.add_argument("address", nargs="?", type=parse_address, default=DEFAULT_ADDRESS, help=about)


def parse_address(text: str) -> Address:
    """The address that a user wrote; a ``type`` for argparse."""
    try:
        return Address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(main: Callable[[], None]) -> NoReturn:
    """Runs a program to its end, also one that Ctrl-C or SIGTERM brings, with everything closed and no traceback.

    On Windows, which has no SIGTERM, Ctrl-Break brings it too.

    The exit status is 0, 1 after a failure, which standard error tells in one line, or 128 and the signal's number.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=OUTPUT_ERRORS)
    for number in ENDING_SIGNALS:
        # A shell makes what it runs in its background ignore Ctrl-C.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end_by_signal)
    try:
        main()
    except (ProgramError, BbipcError, OSError) as error:
        sys.exit(f"{os.path.basename(sys.argv[0])}: {description(error)}")
    finally:
        # The program is at its end. Another signal would only make Python complain amid it.
        for number in ENDING_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    sys.exit()


def end_by_signal(number: int, _frame: object) -> NoReturn:
    """Ends the program with the status that a shell gives to one that a signal ended.

    It does so by an exception, so that all `with` and `finally` blocks are left in order. A second signal must not
    raise another one amid them. A receiver in a terminal does get two: Ctrl-C, and SIGTERM from the sender.
    """
    for each in ENDING_SIGNALS:
        signal.signal(each, heed_no_more)
    sys.exit(128 + number)


def heed_no_more(_number: int, _frame: object) -> None:
    """Takes a signal that came while the program ended by another; Python complains where SIG_IGN takes it so late."""


def description(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, BbipcError) and isinstance(error, OSError):
        # str() would put the error's number in front, which bbipc's messages make superfluous.
        return str(error.strerror)
    return str(error)


def text_of(data: bytes) -> str:
    """Bytes that should be text, ready to be printed."""
    return data.decode(sys.getfilesystemencoding(), OUTPUT_ERRORS)


@contextlib.contextmanager
def server_process(program: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another example as a process of its own: the process, and the address that it listens on."""
    command = [sys.executable, str(Path(__file__).with_name(program)), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors=OUTPUT_ERRORS) as process:
        try:
            assert process.stdout is not None
            ready, _, address = process.stdout.readline().strip().partition("listening on ")
            if ready or not address:
                # It has told why on standard error.
                sys.exit(process.wait())
            yield process, address
        finally:
            process.terminate()


@contextlib.contextmanager
def private_local_address(name: str) -> Iterator[str]:
    """A local address that nobody else has."""
    if sys.platform == "win32":
        # A pipe lies in no directory that could keep others out: its server does that.
        yield f"local:{name}-{secrets.token_hex(8)}"
    else:
        with tempfile.TemporaryDirectory() as directory:
            yield f"local:{directory}/{name}"
