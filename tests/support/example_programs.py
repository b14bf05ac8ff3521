"""What tests of the examples share: which there are, how they are ended, and what they say."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from child_processes import connect, example, interrupt, receive_exactly
from transports import PythonPeer

if sys.platform == "win32":
    from windows import WINE
else:
    WINE = False


#: Sends a signal.
Send = Callable[["subprocess.Popen[str]"], None]


def terminate(process: subprocess.Popen[str]) -> None:
    """As kill(1) does."""
    process.terminate()


def kill(process: subprocess.Popen[str]) -> None:
    """At once, with nothing put in order."""
    process.kill()


def break_off(process: subprocess.Popen[str]) -> None:
    """Windows' Ctrl-Break, for a process group."""
    os.kill(process.pid, signal.CTRL_BREAK_EVENT)


#: What Ctrl-C and kill(1) send, and the exit status that a shell gives to a program that they ended. Windows has
#: Ctrl-Break instead of the latter.
ENDING_SIGNALS = [pytest.param(interrupt, 130, id="SIGINT")]
if sys.platform == "win32":
    no_break = pytest.mark.skipif(WINE, reason="Wine 8 has no Ctrl-Break: GenerateConsoleCtrlEvent refuses it")
    ENDING_SIGNALS.append(pytest.param(break_off, 149, id="SIGBREAK", marks=no_break))
    ASK_TO_END, ASKED_TO_END = interrupt, 130
    #: The exit status of a program that kill() ended, with nothing put in order.
    KILLED = 1
else:
    ENDING_SIGNALS.append(pytest.param(terminate, 143, id="SIGTERM"))
    ASK_TO_END, ASKED_TO_END = terminate, 143
    KILLED = -signal.SIGKILL
MANY_CLIENTS_SERVERS = ["poller_echo_server.py", "batched_echo_server.py"]
ECHO_SERVERS = ["echo_server.py", *MANY_CLIENTS_SERVERS]
LISTENERS = [*ECHO_SERVERS, "broadcast.py", "file_transfer.py"]
PROGRAMS = ["echo.py", "echo_client.py", "job_manager.py", "request_reply.py", *LISTENERS]

MEGABYTE = 1 << 20


def block_of_data(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def listening_command(name: str, directory: Path, address: str) -> list[str]:
    """What makes one of the LISTENERS listen at the address."""
    arguments = {
        "broadcast.py": ["serve", address],
        "file_transfer.py": ["receive", directory / "received", address],
    }
    return example(name, *arguments.get(name, [address]))


def message(data: bytes) -> bytes:
    """What travels for a message."""
    return struct.pack(">i", len(data)) + data


def receive_message(connected: PythonPeer) -> bytes:
    return receive_exactly(connected, struct.unpack(">i", receive_exactly(connected, 4))[0])


def one_line(errors: str) -> str:
    """The line that standard error consists of."""
    line, end, more = errors.partition("\n")
    assert line
    assert (end, more) == ("\n", "")
    return line


def reason_of(number: int) -> str:
    """What the system says of an errno; on Windows of one that comes from its sockets."""
    if sys.platform == "win32":
        return ctypes.FormatError(number).rstrip(" .")
    return os.strerror(number)


def answers(address: str) -> bool:
    try:
        connect(address).close()
    except OSError:
        return False
    return True
