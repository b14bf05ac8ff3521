"""file_transfer.py, as its users run it: whole files, and nothing of a file that did not arrive whole."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import systems
from child_processes import (
    Processes,
    address_of,
    connect,
    ended,
    eventually,
    example,
    interrupt,
    listening_socket,
    receive_exactly,
    receive_to_end,
    stopped,
)
from example_programs import ENDING_SIGNALS, KILLED, MEGABYTE, Send, block_of_data, kill, message, one_line
from patience import PATIENCE
from peer import until_asleep
from systems import WINDOWS
from transports import Transport

if sys.platform == "win32":
    import msvcrt

    from windows import WINE
else:
    import pty

    WINE = False


class Terminal:
    """A terminal for a program's standard error.

    On Windows it is a pipe, which programs started by :func:`at_terminal` take for a terminal: Python has no call for a
    terminal that a program can read.
    """

    def __init__(self) -> None:
        self._ours, self.theirs = os.pipe() if sys.platform == "win32" else pty.openpty()
        self._shown = ""

    def close(self) -> None:
        os.close(self._ours)
        os.close(self.theirs)

    def wait_for(self, pattern: str) -> None:
        while not re.search(pattern, self._shown):
            self._shown += os.read(self._ours, 65536).decode()

    def lines(self) -> list[str]:
        """What is to be seen, once nobody writes any more; a line that was written over shows its last state."""
        os.write(self.theirs, b"end")
        self.wait_for("end$")
        return [line.rpartition("\r")[2] for line in self._shown[: -len("end")].replace("\r\n", "\n").split("\n")]


BELIEVER = """
import os, runpy, sys
sys.stderr.isatty = lambda: True
del sys.argv[0]
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def at_terminal(name: str, *arguments: object) -> list[str]:
    """The command that runs one of the examples with a Terminal as its standard error."""
    command = example(name, *arguments)
    return [command[0], "-c", BELIEVER, *command[1:]] if WINDOWS else command


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


@pytest.fixture
def source(directory: Path) -> Path:
    """What is sent: zeros, more of them than the system takes at once."""
    path = directory / "source"
    path.touch()
    lengthen(path, 50_000_000)
    return path


def make_endless(source: Path) -> None:
    """Makes a file larger than can be sent while a test lasts."""
    lengthen(source, 100_000_000_000)


def lengthen(path: Path, size: int) -> None:
    """Makes a file as long as this. It takes no space."""
    if sys.platform != "win32":
        os.truncate(path, size)
        return
    kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    with path.open("r+b") as file:
        handle = ctypes.c_void_p(msvcrt.get_osfhandle(file.fileno()))
        # FSCTL_SET_SPARSE. Otherwise it would be written full of zeros; Wine has only files that are sparse.
        done = kernel32.DeviceIoControl(handle, 0x900C4, None, 0, None, 0, ctypes.byref(ctypes.c_uint32()), None)
        assert done or WINE, ctypes.get_last_error()
        assert kernel32.SetFilePointerEx(handle, ctypes.c_int64(size), None, 0), ctypes.get_last_error()
        assert kernel32.SetEndOfFile(handle), ctypes.get_last_error()


@pytest.fixture
def destination(directory: Path) -> Path:
    path = directory / "results" / "destination"
    path.parent.mkdir()
    return path


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files_beside(destination: Path) -> list[str]:
    return sorted(os.listdir(destination.parent))


def until_under_way(destination: Path) -> None:
    """Waits until some of the file has arrived. A signal that comes while the receiver opens it makes Python warn."""

    def has_contents() -> bool:
        return any((destination.parent / name).stat().st_size for name in files_beside(destination))

    eventually(has_contents, "the file is under way")


#: How much of a file there is in a message.
CHUNK_SIZE = 262_144

FULL_BAR = r"\[#{40}\] 100% +(\d+\.\d) of \1 MB +\d+\.\d MB/s"
PARTIAL_BAR = r"\[#*-+\] +\d+% .* MB/s"


@pytest.mark.parametrize("size", [0, 1, 262_143, 262_144, 1_000_003, 50_000_000])
def test_file_transfer(processes: Processes, free_address: str, directory: Path, destination: Path, size: int) -> None:
    source = directory / "source"
    source.write_bytes(block_of_data(size))
    receiver, address = processes.serve("file_transfer.py", "receive", destination, free_address)
    sender = processes.run(example("file_transfer.py", "send", source, address))
    sha256 = sha256_of(source)
    assert (sender.returncode, sender.stdout, sender.stderr) == (0, f"sent {source}, SHA-256 {sha256}\n", "")
    assert ended(receiver) == (0, f"received {destination}, SHA-256 {sha256}\n", "")
    assert sha256_of(destination) == sha256
    assert files_beside(destination) == ["destination"]


@pytest.mark.parametrize("size", [0, 1, 50_000_000])
def test_file_transfer_copies(processes: Processes, directory: Path, destination: Path, size: int) -> None:
    source = directory / "source"
    source.write_bytes(block_of_data(size))
    destination.write_bytes(b"an older file")
    completed = processes.run(example("file_transfer.py", "copy", source, destination))
    sha256 = sha256_of(source)
    expected = f"copied {source} to {destination}, SHA-256 {sha256}\n"
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, expected, "")
    assert sha256_of(destination) == sha256
    assert files_beside(destination) == ["destination"]


@pytest.mark.parametrize("command", ["send", "receive", "copy"])
@pytest.mark.parametrize("size", [0, 3_000_000])
def test_file_transfer_shows_a_bar(
    processes: Processes, directory: Path, destination: Path, terminal: Terminal, command: str, size: int
) -> None:
    source = directory / "source"
    source.write_bytes(block_of_data(size))
    shown = {"stderr": terminal.theirs}
    if command == "copy":
        assert ended(processes.start(at_terminal("file_transfer.py", "copy", source, destination), **shown))[0] == 0
    else:
        started = {"send": example, "receive": example, command: at_terminal}
        receive = started["receive"]("file_transfer.py", "receive", destination, f"local:{directory}/receiver")
        receiver, address = processes.serve_command(receive, **(shown if command == "receive" else {}))
        send = started["send"]("file_transfer.py", "send", source, address)
        sender = processes.start(send, **(shown if command == "send" else {}))
        assert (ended(sender)[0], ended(receiver)[0]) == (0, 0)
    bar, rest = terminal.lines()
    assert re.fullmatch(FULL_BAR, bar)
    assert rest == ""


def test_file_transfer_is_quiet_if_told(
    processes: Processes, directory: Path, destination: Path, terminal: Terminal
) -> None:
    command = at_terminal("file_transfer.py", "copy", "--quiet", __file__, destination)
    assert ended(processes.start(command, stderr=terminal.theirs))[0] == 0
    assert terminal.lines() == [""]


@pytest.mark.parametrize(("send", "status"), [*ENDING_SIGNALS, pytest.param(kill, KILLED, id="SIGKILL")])
def test_file_transfer_whose_sender_ends_midway_leaves_nothing(
    processes: Processes,
    free_address: str,
    source: Path,
    destination: Path,
    terminal: Terminal,
    send: Send,
    status: int,
) -> None:
    destination.write_bytes(b"an older file")
    receiver, address = processes.serve("file_transfer.py", "receive", destination, free_address)
    # While it reads nothing, the sender can't get to its end.
    with stopped(receiver):
        sender = processes.start(at_terminal("file_transfer.py", "send", source, address), stderr=terminal.theirs)
        terminal.wait_for(PARTIAL_BAR)
        if WINE and send == kill:
            # Wine never closes the socket of a process that is killed within a send.
            until_asleep(sender.pid)
        send(sender)
        assert sender.wait(PATIENCE) == status
    assert ended(receiver) == (1, "", "file_transfer.py: the sender went before the file was transferred\n")
    assert files_beside(destination) == ["destination"]
    assert destination.read_bytes() == b"an older file"
    bar, *rest = terminal.lines()
    assert re.fullmatch(PARTIAL_BAR, bar)
    assert rest == ([] if send == kill else [""])


@pytest.mark.parametrize(("send", "status"), ENDING_SIGNALS)
def test_file_transfer_whose_receiver_ends_midway_leaves_nothing(
    processes: Processes,
    free_address: str,
    destination: Path,
    terminal: Terminal,
    send: Send,
    status: int,
) -> None:
    receive = at_terminal("file_transfer.py", "receive", destination, free_address)
    receiver, address = processes.serve_command(receive, stderr=terminal.theirs)
    with connect(address) as sender:
        sender.sendall(transfer(bytes(MEGABYTE))[:-MEGABYTE])
        terminal.wait_for(PARTIAL_BAR)
        assert len(files_beside(destination)) == 1
        send(receiver)
        assert receiver.wait(PATIENCE) == status
    assert files_beside(destination) == []


def transfer(contents: bytes) -> bytes:
    """What a sender of the contents sends."""
    chunks = [contents[place : place + CHUNK_SIZE] for place in range(0, len(contents), CHUNK_SIZE)]
    announcement = b"bbipc-f2" + struct.pack(">Q", len(contents))
    return b"".join(map(message, [announcement, *chunks, hashlib.sha256(contents).digest()]))


def test_file_transfer_whose_receiver_is_killed_fails(
    processes: Processes, free_address: str, source: Path, destination: Path, terminal: Terminal
) -> None:
    receiver, address = processes.serve("file_transfer.py", "receive", destination, free_address)
    # Wine never closes the listening socket of a process that is stopped on its way into a wait, and then killed.
    until_asleep(receiver.pid)
    with contextlib.ExitStack() as stack:
        stack.enter_context(stopped(receiver))
        sender = processes.start(at_terminal("file_transfer.py", "send", source, address), stderr=terminal.theirs)
        terminal.wait_for(PARTIAL_BAR)
        receiver.kill()
        # It will not go on.
        stack.pop_all()
    assert sender.wait(PATIENCE) == 1
    _, line, rest = terminal.lines()
    assert line == "file_transfer.py: the receiver went before the file was transferred"
    assert rest == ""
    assert not destination.exists()


def test_file_transfer_whose_file_becomes_shorter_fails(
    processes: Processes, free_address: str, source: Path, destination: Path, terminal: Terminal
) -> None:
    receiver, address = processes.serve("file_transfer.py", "receive", destination, free_address)
    with stopped(receiver):
        sender = processes.start(at_terminal("file_transfer.py", "send", source, address), stderr=terminal.theirs)
        terminal.wait_for(PARTIAL_BAR)
        os.truncate(source, 1)
    assert sender.wait(PATIENCE) == 1
    _, line, _ = terminal.lines()
    assert line == f"file_transfer.py: {source} became shorter while it was sent"
    assert ended(receiver) == (1, "", "file_transfer.py: the sender went before the file was transferred\n")
    assert files_beside(destination) == []


def test_file_transfer_wants_the_contents_that_were_sent(
    processes: Processes, free_address: str, destination: Path
) -> None:
    receiver, address = processes.serve("file_transfer.py", "receive", destination, free_address)
    with connect(address) as sender:
        sender.sendall(transfer(b"contents").replace(b"contents", b"c0ntents"))
        assert receive_to_end(sender) == b""
    assert ended(receiver) == (1, "", "file_transfer.py: what arrived is not what was sent: the SHA-256 differs\n")
    assert files_beside(destination) == []


@pytest.mark.parametrize("greeting", [b"GET / HTTP/1.1\r\n\r\n", message(b"hello"), message(b"")])
def test_file_transfer_takes_nothing_from_a_stranger(
    processes: Processes, free_address: str, destination: Path, greeting: bytes
) -> None:
    receiver, address = processes.serve("file_transfer.py", "receive", destination, free_address)
    with connect(address) as stranger:
        stranger.sendall(greeting)
        assert ended(receiver) == (1, "", "file_transfer.py: the other end is no sender of files\n")
    assert files_beside(destination) == []


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (
            message(hashlib.sha256(b"something else").digest()),
            "what the receiver got is not what was sent: the SHA-256 differs",
        ),
        (b"", "the receiver went before the file was transferred"),
    ],
    ids=["wrong", "none"],
)
def test_file_transfer_wants_a_confirmation(
    processes: Processes, directory: Path, free_address: str, answer: bytes, complaint: str
) -> None:
    source = directory / "source"
    source.write_bytes(b"contents")
    with listening_socket(free_address) as listener:
        sender = processes.start(example("file_transfer.py", "send", source, address_of(listener)))
        receiver, _ = listener.accept()
        with receiver:
            assert receive_exactly(receiver, len(transfer(b"contents"))) == transfer(b"contents")
            receiver.sendall(answer)
        assert ended(sender) == (1, "", f"file_transfer.py: {complaint}\n")


def test_file_transfer_refuses_what_is_no_file(processes: Processes, directory: Path, destination: Path) -> None:
    if sys.platform == "win32":
        device = Path("NUL")
    else:
        device = directory / "fifo"
        os.mkfifo(device)
    for source in (directory, device, directory / "missing"):
        completed = processes.run(example("file_transfer.py", "copy", source, destination))
        assert completed.returncode == 1
        # Windows' own messages quote pathnames as Python does.
        assert str(source) in one_line(completed.stderr).replace("\\\\", "\\")
    assert files_beside(destination) == []


@pytest.mark.parametrize("command", ["receive", "copy"])
@pytest.mark.parametrize("place", [".", "missing/file"])
def test_file_transfer_refuses_a_destination_that_can_not_be_one(
    processes: Processes, directory: Path, command: str, place: str
) -> None:
    arguments = [directory / place, f"local:{directory}/server"]
    if command == "copy":
        arguments = [__file__, directory / place]
    completed = processes.run(example("file_transfer.py", command, *arguments))
    assert completed.returncode == 1
    assert f"{directory / place} can't be a file's name" in one_line(completed.stderr)
    assert completed.stdout == ""


if sys.platform == "win32":

    class ProcessEntry(ctypes.Structure):
        """PROCESSENTRY32W."""

        _fields_ = (
            ("size", ctypes.c_uint32),
            ("usage", ctypes.c_uint32),
            ("process", ctypes.c_uint32),
            ("heap", ctypes.c_size_t),
            ("module", ctypes.c_uint32),
            ("threads", ctypes.c_uint32),
            ("parent", ctypes.c_uint32),
            ("priority", ctypes.c_int32),
            ("flags", ctypes.c_uint32),
            ("name", ctypes.c_wchar * 260),
        )

    def parents_of_processes() -> dict[int, int]:
        """Every process, and which one has started it."""
        kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel32.CreateToolhelp32Snapshot.restype = ctypes.c_void_p
        snapshot = ctypes.c_void_p(kernel32.CreateToolhelp32Snapshot(2, 0))
        entry = ProcessEntry(size=ctypes.sizeof(ProcessEntry))
        parents = {}
        more = kernel32.Process32FirstW(snapshot, ctypes.byref(entry))
        while more:
            parents[entry.process] = entry.parent
            more = kernel32.Process32NextW(snapshot, ctypes.byref(entry))
        kernel32.CloseHandle(snapshot)
        return parents

    def receiver_of(copying: subprocess.Popen[str]) -> int:
        """The number of the process that a copy has started."""
        # The last of a chain: a virtual environment's Python runs another.
        number = copying.pid
        while children := [child for child, parent in parents_of_processes().items() if parent == number]:
            number = children[0]
        assert number != copying.pid
        return number

    def runs(number: int) -> bool:
        """Whether there is such a process."""
        return number in parents_of_processes()

else:

    def receiver_of(copying: subprocess.Popen[str]) -> int:
        """The number of the process that a copy has started."""
        return systems.child_of(copying.pid)

    runs = systems.runs


@pytest.mark.parametrize(("send", "status"), ENDING_SIGNALS)
def test_file_transfer_copy_ends_cleanly(
    processes: Processes,
    source: Path,
    destination: Path,
    terminal: Terminal,
    send: Send,
    status: int,
) -> None:
    make_endless(source)
    copying = processes.start(at_terminal("file_transfer.py", "copy", source, destination), stderr=terminal.theirs)
    terminal.wait_for(PARTIAL_BAR)
    until_under_way(destination)
    receiver = receiver_of(copying)
    send(copying)
    assert copying.wait(PATIENCE) == status
    assert not runs(receiver)
    bar, rest = terminal.lines()
    assert re.fullmatch(PARTIAL_BAR, bar)
    assert rest == ""
    assert files_beside(destination) == []


def test_ctrl_c_in_a_terminal_ends_both_processes_of_a_copy(
    processes: Processes, source: Path, destination: Path, terminal: Terminal
) -> None:
    make_endless(source)
    command = at_terminal("file_transfer.py", "copy", source, destination)
    copying = processes.start(command, stderr=terminal.theirs, **({} if WINDOWS else {"start_new_session": True}))
    terminal.wait_for(PARTIAL_BAR)
    until_under_way(destination)
    # A terminal sends it to all of its foreground processes.
    if sys.platform == "win32":
        interrupt(copying)
    else:
        os.killpg(copying.pid, signal.SIGINT)
    assert copying.wait(PATIENCE) == 130
    bar, rest = terminal.lines()
    assert re.fullmatch(PARTIAL_BAR, bar)
    assert rest == ""
    assert files_beside(destination) == []


def test_file_transfer_copy_whose_receiver_is_killed_fails(
    processes: Processes, source: Path, destination: Path, terminal: Terminal
) -> None:
    make_endless(source)
    copying = processes.start(at_terminal("file_transfer.py", "copy", source, destination), stderr=terminal.theirs)
    terminal.wait_for(PARTIAL_BAR)
    # On Windows every signal kills.
    os.kill(receiver_of(copying), signal.SIGTERM if WINDOWS else signal.SIGKILL)
    assert copying.wait(PATIENCE) == 1
    _, line, rest = terminal.lines()
    assert line == "file_transfer.py: the receiver went before the file was transferred"
    assert rest == ""
    assert not destination.exists()


@pytest.mark.skipif(not WINDOWS, reason="elsewhere an open file can be replaced")
@pytest.mark.parametrize(
    "hindrance",
    [
        "open",
        pytest.param("read-only", marks=pytest.mark.skipif(WINE, reason="Wine replaces it")),
    ],
)
def test_file_transfer_tells_of_a_destination_that_can_not_be_replaced(
    processes: Processes, destination: Path, hindrance: str
) -> None:
    destination.write_bytes(b"an older file")
    with contextlib.ExitStack() as stack:
        if hindrance == "open":
            stack.enter_context(destination.open("rb"))
        else:
            destination.chmod(0o444)
            stack.callback(destination.chmod, 0o666)
        completed = processes.run(example("file_transfer.py", "copy", __file__, destination))
    assert (completed.returncode, completed.stdout) == (1, "")
    receivers, senders = completed.stderr.splitlines()
    why = "is it open in another program, or read-only?"
    assert receivers == f"file_transfer.py: can't replace {destination}: {why}"
    assert senders == "file_transfer.py: the receiver went before the file was transferred"
    assert destination.read_bytes() == b"an older file"
    assert files_beside(destination) == ["destination"]


@pytest.mark.parametrize("example_module", ["file_transfer"], indirect=True)
def test_file_transfer_gives_up_a_silent_sender(
    example_module: ModuleType, transport: Transport, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example_module, "TIMEOUT_S", 0.1)
    sender, stream = transport.pair()
    sender.write_all(transfer(b"contents")[:-1], PATIENCE)
    with pytest.raises(example_module.ProgramError, match="the sender does nothing: the time is up"):
        example_module.receive(stream, destination)
    assert files_beside(destination) == []
