"""Sends a file to another process, with a progress bar, and makes sure that it arrived.

``receive`` waits for one file, ``send`` sends it, and ``copy`` does both, with a process for each.

What travels, each line a message:

    ============  ===================================================================================
    from sender   ``bbipc-f2``, and the size of the contents: 8 bytes, with the most significant first
                  the contents, in as many messages as it takes
                  their SHA-256
    to sender     the SHA-256 of what the receiver got, once the file is in its place
    ============  ===================================================================================

The file appears at its destination complete or not at all.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import secrets
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import bbipc
from bbipc import EndOfStreamError, Events, NoConnectionAvailableError, StreamServer, StreamSocket, poll_socket
from programs import CONNECT_TIMEOUT_S, ArgumentParser, ProgramError, private_local_address, run, server_process

MAGIC = b"bbipc-f2"
SIZE_BYTES = 8
CHUNK_SIZE = 262144
#: How long the other process may keep us waiting.
TIMEOUT_S = 30.0
#: How long it may take the receiver to bring the file onto its disk.
CONFIRMATION_TIMEOUT_S = 300.0
#: How long a receiver may take to end by Ctrl-C.
MOMENT_S = 5.0
MEGABYTE = 1_000_000


class PeerGoneError(ProgramError):
    """The other process has gone, and knows the reason better."""


def open_source(path: Path) -> BinaryIO:
    """The file to send."""
    # Opening one of the others could wait for ever.
    if path.exists() and not path.is_file():
        raise ProgramError(f"not a file with contents: {path}")
    return open(path, "rb")


def send(file: BinaryIO, stream: StreamSocket, progress_bar: bool = True) -> str:
    """Sends a file, and returns its SHA-256 once the receiver has confirmed it."""
    with patience_with("receiver"):
        size = os.fstat(file.fileno()).st_size
        stream.send_message(MAGIC + size.to_bytes(SIZE_BYTES, "big"), TIMEOUT_S)
        sha256 = hashlib.sha256()
        with Progress(size, progress_bar) as progress:
            progress.advance(0)
            while progress.done < size:
                chunk = file.read(min(CHUNK_SIZE, size - progress.done))
                if not chunk:
                    raise ProgramError(f"{file.name} became shorter while it was sent")
                stream.send_message(chunk, TIMEOUT_S)
                sha256.update(chunk)
                progress.advance(len(chunk))
        if file.read(1):
            raise ProgramError(f"{file.name} became longer while it was sent")
        stream.send_message(sha256.digest(), TIMEOUT_S)
        confirmed = stream.receive_message(CONFIRMATION_TIMEOUT_S)
    if confirmed != sha256.digest():
        raise ProgramError("what the receiver got is not what was sent: the SHA-256 differs")
    return sha256.hexdigest()


def receive(stream: StreamSocket, destination: Path, progress_bar: bool = True) -> str:
    """Receives a file, and returns its SHA-256 once it is in its place."""
    stream.max_message_size = CHUNK_SIZE
    with patience_with("sender"):
        announcement = stream.receive_message(TIMEOUT_S)
        if not announcement.startswith(MAGIC):
            raise ProgramError("the other end is no sender of files")
        size = int.from_bytes(announcement[len(MAGIC) :], "big")
        sha256 = hashlib.sha256()
        with complete_or_absent(destination) as file:
            with Progress(size, progress_bar) as progress:
                progress.advance(0)
                while progress.done < size:
                    chunk = stream.receive_message(TIMEOUT_S)
                    file.write(chunk)
                    sha256.update(chunk)
                    progress.advance(len(chunk))
            if stream.receive_message(TIMEOUT_S) != sha256.digest():
                raise ProgramError("what arrived is not what was sent: the SHA-256 differs")
    # The file is in its place, whether or not the sender waits to hear of it.
    with contextlib.suppress(EndOfStreamError):
        stream.send_message(sha256.digest(), TIMEOUT_S)
    return sha256.hexdigest()


@contextlib.contextmanager
def patience_with(who: str) -> Iterator[None]:
    """Tells in the user's words that the other process has gone, does nothing, or is another program."""
    try:
        yield
    except EndOfStreamError:
        raise PeerGoneError(f"the {who} went before the file was transferred") from None
    except bbipc.TimeoutError:
        raise ProgramError(f"the {who} does nothing: the time is up") from None
    except bbipc.MessageTooLargeError:
        raise ProgramError(f"the other end is no {who} of files") from None


@contextlib.contextmanager
def stream_to(address: str) -> Iterator[StreamSocket]:
    """A stream to a receiver. If the block fails, the rest of a message is given up, which needs no warning."""
    with bbipc.connect(address, timeout=CONNECT_TIMEOUT_S) as stream:
        try:
            yield stream
        except BaseException:
            # Not abort(): most systems forget a connection that is reset before it is accepted.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                stream.close()
            raise


@contextlib.contextmanager
def complete_or_absent(destination: Path) -> Iterator[BinaryIO]:
    """A file under another name, which gets its own if the block ends well, and is deleted if not."""
    # Not made of the file's own name, which may be as long as a name can be.
    partial = destination.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        with open(partial, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        replace(partial, destination)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def replace(partial: Path, destination: Path) -> None:
    """Gives a file another's name and place."""
    try:
        os.replace(partial, destination)
    except PermissionError as error:
        if sys.platform != "win32":
            raise
        # Windows says no more than that it denies access, and not to what.
        raise ProgramError(f"can't replace {destination}: is it open in another program, or read-only?") from error


class Progress:
    """A bar on standard error, if that is a terminal."""

    WIDTH = 40
    REDRAW_S = 0.1

    def __init__(self, size: int, wanted: bool) -> None:
        self.done = 0
        self._size = size
        self._started_at = time.monotonic()
        self._drawn_at = 0.0
        self._visible = wanted and sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._visible:
            self._draw(time.monotonic())
            print(file=sys.stderr)

    def advance(self, size: int) -> None:
        """Counts more bytes as done."""
        self.done += size
        now = time.monotonic()
        if self._visible and now - self._drawn_at >= self.REDRAW_S:
            self._draw(now)

    def _draw(self, now: float) -> None:
        self._drawn_at = now
        part = self.done / self._size if self._size else 1.0
        bar = "#" * int(part * self.WIDTH)
        rate = self.done / MEGABYTE / max(now - self._started_at, 1e-6)
        print(
            f"\r[{bar:-<{self.WIDTH}}] {part:4.0%}"
            f" {self.done / MEGABYTE:9.1f} of {self._size / MEGABYTE:.1f} MB {rate:7.1f} MB/s",
            end="",
            file=sys.stderr,
            flush=True,
        )


def copy(file: BinaryIO, destination: Path, progress_bar: bool = True) -> str:
    """Sends a file to a receiver that is started for it, and returns its SHA-256."""
    with private_local_address("receiver") as local_address:
        receiver = ("receive", "--quiet", str(destination), local_address)
        with server_process("file_transfer.py", *receiver) as (process, address):
            with stream_to(address) as stream:
                try:
                    sha256 = send(file, stream, progress_bar)
                except PeerGoneError:
                    status = process.wait()
                    # A receiver that failed has told why. On Windows one that was killed has the same status.
                    if status > 0 and sys.platform != "win32":
                        sys.exit(status)
                    raise
                except BaseException:
                    end_receiver(process, stream)
                    raise
            process.wait()
    return sha256


def end_receiver(process: subprocess.Popen[str], stream: StreamSocket) -> None:
    """Ends a receiver amid a transfer, and waits until it has deleted what it has of the file."""
    # Before the stream ends, for the receiver would complain about that too.
    if sys.platform == "win32":
        # terminate() would not let it delete anything. Ctrl-C has reached the receiver as well, and takes a moment. Of
        # anything else it learns by the end of the stream.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(MOMENT_S)
        stream.abort()
    else:
        process.terminate()
    process.wait()


def first_client(server: StreamServer) -> StreamSocket:
    while True:
        poll_socket(server, Events.CONNECTION_AVAILABLE)
        try:
            return server.accept_connection()
        except NoConnectionAvailableError:
            pass  # it has gone again


def run_receiver(arguments: argparse.Namespace) -> None:
    destination: Path = arguments.destination
    if destination.is_dir() or not destination.parent.is_dir():
        raise ProgramError(f"{destination} can't be a file's name: it is a directory, or its directory does not exist")
    if destination.exists() and not destination.is_file():
        raise ProgramError(f"{destination} is a device, a socket or a pipe, and would be replaced by a file")
    with contextlib.ExitStack() as stack:
        with bbipc.listen(arguments.address) as server:
            print(f"listening on {server.address}", flush=True)
            stream = stack.enter_context(first_client(server))
        # The server is closed: a second sender learns at once that it comes too late.
        sha256 = receive(stream, destination, not arguments.quiet)
    print(f"received {destination}, SHA-256 {sha256}")


def run_sender(arguments: argparse.Namespace) -> None:
    with open_source(arguments.file) as file, stream_to(arguments.address) as stream:
        sha256 = send(file, stream, not arguments.quiet)
    print(f"sent {arguments.file}, SHA-256 {sha256}")


def run_copy(arguments: argparse.Namespace) -> None:
    with open_source(arguments.file) as file:
        sha256 = copy(file, arguments.destination, not arguments.quiet)
    print(f"copied {arguments.file} to {arguments.destination}, SHA-256 {sha256}")


def main() -> None:
    parser = ArgumentParser(description="Sends a file to another process, and makes sure that it arrived.")
    commands = parser.add_subparsers(required=True, metavar="command", dest="command")
    for name, run_command, purpose in (
        ("receive", run_receiver, "wait for one file"),
        ("send", run_sender, "send one file to a receiver"),
        ("copy", run_copy, "send one file to a receiver that is started for it"),
    ):
        command = commands.add_parser(name, help=purpose, description=f"{purpose.capitalize()}.")
        command.set_defaults(run_command=run_command)
        command.add_argument("--quiet", action="store_true", help="show no progress bar")
        if name != "receive":
            command.add_argument("file", type=Path, help="what to send")
        if name != "send":
            command.add_argument("destination", type=Path, help="what to save it as; a file there is replaced")
        if name != "copy":
            command.add_address("the receiver's")
    arguments = parser.parse_args()
    arguments.run_command(arguments)


if __name__ == "__main__":
    run(main)
