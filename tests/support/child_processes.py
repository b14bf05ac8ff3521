"""Programs run as processes of their own, what can be learnt of them from outside, and sockets of Python's own."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import named_pipes
import systems
from patience import PATIENCE
from systems import WINDOWS
from transports import PythonPeer, abort
from tree import EXAMPLES, SUPPORT

if sys.platform == "win32":
    import windows

if TYPE_CHECKING:
    from typing import Union

    if sys.platform == "win32":
        PythonListener = Union[socket.socket, named_pipes.PipeListener]
    else:
        PythonListener = socket.socket

#: The exit status of a Python program that ends by Ctrl-C without handling it: on Windows STATUS_CONTROL_C_EXIT.
INTERRUPTED = 0xC000013A if WINDOWS else -signal.SIGINT

#: The encoding of what processes print; None is the usual one.
ENCODING = "utf-8" if WINDOWS else None

#: Between two looks at something that sends no event: another process's descriptors, or a directory's files.
LOOK_AGAIN_S = 0.005


def example(name: str, *arguments: object) -> list[str]:
    """The command that runs one of the examples."""
    return [sys.executable, str(EXAMPLES / name), *map(str, arguments)]


class Processes:
    """Starts processes, and ends those that are left over."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._environment = dict(os.environ, PYTHONWARNINGS="always::ResourceWarning")
        if WINDOWS:
            # What they print can have any character, pathnames for example; as elsewhere.
            self._environment["PYTHONUTF8"] = "1"

    def start(self, command: list[str], **options: Any) -> subprocess.Popen[str]:
        """A Python program in a process whose standard streams are pipes, unless the options say otherwise.

        It heeds :func:`interrupt`.
        """
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        with heeded_interrupts():
            process = subprocess.Popen(
                interruptible(command),
                text=True,
                env=self._environment,
                **{"encoding": ENCODING, **streams, **INTERRUPTIBLE, **options},
            )
        self._stack.callback(self._end, process)
        return process

    def serve(self, name: str, *arguments: object) -> tuple[subprocess.Popen[str], str]:
        """An example that listens, and its address."""
        return self.serve_command(example(name, *arguments))

    def serve_command(self, command: list[str], **options: Any) -> tuple[subprocess.Popen[str], str]:
        """A command that runs an example that listens, and its address."""
        process = self.start(command, **options)
        return process, ready_address(process)

    def run(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """A process that has ended."""
        options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=self._environment,
            **{"encoding": ENCODING, **options},
        )

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    @staticmethod
    def _end(process: subprocess.Popen[str]) -> None:
        if process.poll() is None:
            process.kill()
        # Also closes the pipes.
        with process:
            pass


@contextlib.contextmanager
def heeded_interrupts() -> Iterator[None]:
    """Lets processes that start meanwhile heed Ctrl-C: what a shell runs in its background ignores it."""
    before = signal.getsignal(signal.SIGINT)
    if before != signal.SIG_IGN:
        yield
        return
    # A handler, unlike an ignored signal, is not inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


#: What Popen needs besides for a process that can be interrupted: on Windows, Ctrl-C comes to process groups.
INTERRUPTIBLE: dict[str, Any] = {}
if sys.platform == "win32":
    INTERRUPTIBLE["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP


def interruptible(command: list[str]) -> list[str]:
    """The command for a Python program that can be interrupted. Other programs are what they are."""
    if sys.platform != "win32" or command[0] != sys.executable:
        return command
    windows.need_console()
    # Behind the interpreter's own options, such as -Wdefault: those that have no second word.
    first = next(place for place, word in enumerate(command) if place and (word == "-c" or not word.startswith("-")))
    return [*command[:first], str(SUPPORT / "interruptible.py"), *command[first:]]


def interrupt(process: subprocess.Popen[Any]) -> None:
    """Ctrl-C for a process that has been started as one that can be interrupted."""
    if sys.platform == "win32":
        windows.interrupt(process.pid)
    else:
        process.send_signal(signal.SIGINT)


@contextlib.contextmanager
def stopped(process: subprocess.Popen[Any]) -> Iterator[None]:
    """The process does nothing meanwhile: as after SIGSTOP."""
    if sys.platform == "win32":
        windows.suspend(_handle_of(process))
    else:
        process.send_signal(signal.SIGSTOP)
    yield
    if sys.platform == "win32":
        windows.resume(_handle_of(process))
    else:
        process.send_signal(signal.SIGCONT)


def until_stopped(process: subprocess.Popen[Any]) -> None:
    """Waits until a process that has got SIGSTOP does nothing more. On Windows it is so at once."""
    if sys.platform != "win32":
        # Not waitid(), which Python has not had on macOS for long.
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), status


def ready_address(process: subprocess.Popen[str]) -> str:
    """What the next line says of where an example listens."""
    assert process.stdout is not None
    line = process.stdout.readline()
    start = "listening on "
    if not line.startswith(start):
        _, errors = process.communicate(timeout=PATIENCE)
        raise AssertionError(f"{process.args!r} does not listen: {line!r} {errors!r}")
    return line[len(start) :].rstrip("\n")


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """The exit status of a process that ends by itself, and what it has still printed."""
    output, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, output, errors


def eventually(condition: Callable[[], object], what: str) -> None:
    """Waits for something that can only be looked at."""
    give_up_at = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up_at, f"never so: {what}"
        time.sleep(LOOK_AGAIN_S)


def connect(address: str) -> PythonPeer:
    """A socket of Python's own, connected to where an example listens. On Windows an end of a pipe for a local one."""
    namespace, _, rest = address.partition(":")
    if namespace == "tcp":
        host, _, port = rest.rpartition(":")
        return socket.create_connection((host, int(port)), PATIENCE)
    if sys.platform == "win32":
        return named_pipes.connect(rest, PATIENCE)
    connected = socket.socket(socket.AF_UNIX)
    try:
        connected.settimeout(PATIENCE)
        connected.connect(rest)
    except OSError:
        connected.close()
        raise
    return connected


def listening_socket(address: str) -> PythonListener:
    """A server of Python's own; at any free port for TCP."""
    namespace, _, rest = address.partition(":")
    if sys.platform == "win32" and namespace == "local":
        pipe = named_pipes.PipeListener(rest)
        pipe.settimeout(PATIENCE)
        return pipe
    listener = socket.socket(socket.AF_INET if namespace == "tcp" else socket.AF_UNIX)
    listener.settimeout(PATIENCE)
    listener.bind(("127.0.0.1", 0) if namespace == "tcp" else rest)
    listener.listen()
    return listener


def address_of(listener: PythonListener) -> str:
    """Where a socket listens, as the examples write it."""
    name = listener.getsockname()
    return f"local:{name}" if isinstance(name, str) else f"tcp:{name[0]}:{name[1]}"


def receive_exactly(connected: PythonPeer, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        chunk = connected.recv(size - len(received))
        assert chunk, f"the end after {len(received)} of {size} bytes"
        received += chunk
    return bytes(received)


def receive_to_end(connected: PythonPeer) -> bytes:
    return b"".join(iter(lambda: connected.recv(1 << 20), b""))


def exchange(connected: PythonPeer, data: bytes) -> bytes:
    """What comes back, to the end of it, while the data go out, and their end behind them.

    A pipe can't send that end: for one it is as many bytes as go out, and no more.
    """
    if not isinstance(connected, socket.socket):
        return _exchange_by_pipe(connected, data)
    received = bytearray()
    unsent = memoryview(data)
    connected.setblocking(False)
    with selectors.DefaultSelector() as selector:
        selector.register(connected, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while True:
            ready = selector.select(PATIENCE)
            assert ready, f"nothing more after {len(received)} of {len(data)} bytes"
            events = ready[0][1]
            if events & selectors.EVENT_WRITE:
                unsent = unsent[connected.send(unsent) :]
                if not unsent:
                    connected.shutdown(socket.SHUT_WR)
                    selector.modify(connected, selectors.EVENT_READ)
            if events & selectors.EVENT_READ:
                chunk = connected.recv(1 << 20)
                if not chunk:
                    return bytes(received)
                received += chunk


def _exchange_by_pipe(connected: named_pipes.PipePeer, data: bytes) -> bytes:
    connected.settimeout(PATIENCE)
    sending = threading.Thread(target=connected.sendall, args=(data,))
    sending.start()
    try:
        received = receive_exactly(connected, len(data))
    finally:
        sending.join()
    assert connected.unread() == 0
    return received


def reset(connected: PythonPeer) -> None:
    """Closes with a reset rather than in order (socket(7), SO_LINGER); a Unix socket, or a pipe, just closes."""
    abort(connected)


def _handle_of(process: subprocess.Popen[Any]) -> int:
    """Windows' handle of the process, which subprocess keeps."""
    return int(process._handle)  # type: ignore[attr-defined]


def descriptor_count(process: subprocess.Popen[str]) -> int:
    """How many descriptors, or on Windows handles, it has open."""
    if sys.platform == "win32":
        return windows.handle_count(_handle_of(process), process.pid)
    return systems.descriptor_count(process.pid)


def processor_seconds(process: subprocess.Popen[str]) -> float:
    """How long it has run on a processor so far."""
    if sys.platform == "win32":
        return windows.processor_seconds(_handle_of(process))
    return systems.processor_seconds(process.pid)


def resident_bytes(process: subprocess.Popen[str]) -> int:
    """How much memory it has, without the kernel's buffers."""
    if sys.platform == "win32":
        return windows.resident_bytes(_handle_of(process))
    return systems.resident_bytes(process.pid)
