"""Every system call that the library makes fails in turn, with every error that it may have: strace's fault injection.

The program is failing_calls.py. strace first lists the calls that a scenario makes; then each of them fails in a run of
its own. What has to be true of every run is checked there: clean errors, no hang, nothing left open, nothing closed
that belongs to the program, no wrong answer, no processor time while it waits.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from patience import QEMU
from systems import LINUX, make_directory
from tree import SUPPORT

pytestmark = [
    pytest.mark.skipif(not LINUX, reason="strace is a program for Linux"),
    pytest.mark.skipif(QEMU, reason="strace would see the calls of qemu-user"),
    pytest.mark.skipif(sys.maxsize < 2**32, reason="the calls of 32-bit processors have other names"),
]

#: What each system call may fail with, by its manual page and by what sandboxes answer (EPERM, ENOSYS).
ERRORS = {
    "accept4": "EAGAIN EINTR EMFILE ENFILE ENOMEM ENOBUFS ECONNABORTED EPROTO EPERM ENOSYS",
    "bind": "EADDRINUSE EACCES EPERM ENOMEM EROFS ENOSPC",
    "chmod": "EPERM EACCES EIO EROFS ENOSYS",
    "close": "EIO EINTR ENOSPC",
    "connect": "ECONNREFUSED EAGAIN EINTR ETIMEDOUT ENETUNREACH EADDRNOTAVAIL EACCES EPERM ENOBUFS ENOMEM",
    "epoll_create1": "EMFILE ENFILE ENOMEM ENOSYS EPERM",
    "epoll_ctl": "ENOMEM ENOSPC EPERM",
    "epoll_pwait": "EINTR EPERM ENOSYS",
    "epoll_pwait2": "EINTR EPERM ENOSYS EACCES",
    "epoll_wait": "EINTR EPERM ENOSYS",
    "eventfd2": "EMFILE ENFILE ENOMEM ENODEV ENOSYS EPERM",
    "fchmod": "EPERM EIO ENOSYS",
    "fchmodat": "EPERM EACCES EIO EROFS ENOSYS",
    "fchmodat2": "EPERM EACCES EIO EROFS ENOSYS",
    "fcntl": "EPERM ENOSYS",
    "flock": "EINTR ENOLCK ENOMEM EPERM ENOSYS",
    "fstat": "EIO ENOMEM EPERM",
    "getcwd": "ENOENT ERANGE ENOMEM EACCES EPERM ENOSYS",
    "getpeername": "ENOTCONN ENOBUFS EPERM",
    "getsockname": "ENOBUFS EPERM",
    "getsockopt": "ENOBUFS EPERM",
    "link": "EPERM EACCES EMLINK ENOSPC EROFS EIO ENOSYS",
    "linkat": "EPERM EACCES EMLINK ENOSPC EROFS EIO ENOSYS",
    "listen": "EADDRINUSE EPERM ENOBUFS",
    "lstat": "ENOENT EACCES EIO ENOMEM EPERM",
    "madvise": "EAGAIN ENOMEM EINVAL EPERM",
    "mmap": "ENOMEM EAGAIN EPERM",
    "mremap": "ENOMEM",
    "munmap": "ENOMEM EPERM",
    "newfstatat": "ENOENT EACCES EIO ENOMEM EPERM ENOSYS",
    "open": "EMFILE ENFILE ENOMEM EACCES ENOENT",
    "openat": "EMFILE ENFILE ENOMEM EACCES ENOENT",
    "poll": "EINTR ENOMEM EINVAL EPERM ENOSYS",
    "ppoll": "EINTR ENOMEM EINVAL EPERM ENOSYS",
    "read": "EAGAIN EINTR",
    "recvfrom": "EAGAIN EINTR ENOMEM ENOBUFS ECONNRESET ETIMEDOUT EPERM",
    "rename": "EPERM EACCES EBUSY ENOSPC EROFS EIO ENOSYS",
    "renameat": "EPERM EACCES EBUSY ENOSPC EROFS EIO ENOSYS",
    "sched_yield": "EPERM ENOSYS",
    "sendto": "EAGAIN EINTR ENOMEM ENOBUFS ECONNRESET EPIPE EHOSTUNREACH ETIMEDOUT EPERM",
    "setsockopt": "ENOMEM ENOBUFS ENOPROTOOPT EPERM",
    "shutdown": "ENOTCONN ENOBUFS EPERM",
    "socket": "EMFILE ENFILE ENOMEM ENOBUFS EACCES EPERM EAFNOSUPPORT",
    "socketpair": "EMFILE ENFILE ENOMEM ENOBUFS EAFNOSUPPORT EPERM",
    "stat": "ENOENT EACCES EIO ENOMEM EPERM",
    "statx": "ENOENT EACCES EIO ENOMEM ENOSYS EPERM",
    "timerfd_create": "EMFILE ENFILE ENODEV ENOMEM EPERM ENOSYS",
    "timerfd_settime": "EPERM ENOSYS",
    "unlink": "EACCES EPERM EROFS ENOENT EBUSY EIO ENOMEM ENOSYS",
    "unlinkat": "EACCES EPERM EROFS ENOENT EBUSY EIO ENOMEM ENOSYS",
    # To an eventfd, which is read whenever it has something: EAGAIN would mean that it wakes already.
    "write": "",
}

#: Made by Python, or by the C library for its threads; and what does not fail.
NOT_OURS = {
    *("clone", "clone3", "exit", "exit_group", "rseq", "set_robust_list", "sigaltstack", "mprotect", "brk", "futex"),
    *(
        "getpid",
        "getppid",
        "gettid",
        "geteuid",
        "prctl",
        "rt_sigaction",
        "rt_sigprocmask",
        "rt_sigreturn",
        "restart_syscall",
    ),
    *("recvmsg", "sendmsg", "pread64", "lseek", "readlink", "getdents64", "getrandom"),
    *("readv", "writev", "wait4"),
    *("clock_gettime", "clock_nanosleep", "pselect6"),
    # fchmodat2, whose name strace does not know before 6.6. Where it fails, chmod is called.
    "syscall_0x1c4",
}

#: Python makes these calls often for itself: if each of them failed, only Python's failures would be seen.
ONCE_ONLY = {"close", "mmap", "munmap", "brk", "read", "write", "openat", "fstat", "newfstatat", "madvise"}

#: A sandbox's answers, to every call of a name.
SANDBOX = ("EPERM", "ENOSYS")

#: Where the same call is made again and again, these many are made to fail: the first ones.
MOST_OF_A_KIND = 12

#: Seconds until a run is given up. Much more than failing_calls.LONG.
PATIENCE = 30.0

RUNS_AT_A_TIME = 3

#: Every scenario of failing_calls.py, by its transport.
SCENARIOS = {
    "local": [
        *("connecting", "streams", "unread_end", "severed", "refused", "poller_epoll", "poller_poll", "poll_sockets"),
        *("bulk", "closing", "forking", "thread_poll_socket", "thread_epoll", "thread_poll"),
        *("messages_streams", "messages_epoll", "messages_poll", "lines", "replacing", "shown", "elsewhere"),
    ],
    "tcp": [
        *("connecting", "streams", "unread_end", "severed", "refused", "poller_epoll", "poller_poll", "poll_sockets"),
        *("bulk", "closing", "thread_epoll", "messages_streams", "elsewhere"),
    ],
}

EACH = [(scenario, transport) for transport, scenarios in SCENARIOS.items() for scenario in scenarios]


class Fault(NamedTuple):
    """One call that fails. Its number counts the calls of this name in each thread."""

    call: str
    error: str
    number: str


class Tracing:
    """The program, and strace attached to its children, one for each run of a scenario."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(directory / "test"))
        self._listener.listen()
        self._listener.settimeout(PATIENCE)
        program = SUPPORT / "failing_calls.py"
        self._program = subprocess.Popen(
            [sys.executable, str(program), str(directory / "test")],
            stdin=subprocess.PIPE,
            text=True,
            env=dict(os.environ, PYTHONDONTWRITEBYTECODE="1"),
        )
        self._starting = threading.Lock()
        self._count = 0

    def close(self) -> None:
        with self._program as program:
            program.kill()
        self._listener.close()

    def run(self, scenario: str, transport: str, fault: Fault | None) -> tuple[dict[str, Any], str]:
        """What the program says of a run, and strace's list of the calls."""
        call, error, number = fault or Fault("none", "none", "0")
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={number}"] if fault else []
        with self._starting:
            self._count += 1
            place = self._directory / str(self._count)
            place.mkdir()
            assert self._program.stdin is not None
            self._program.stdin.write(f"{scenario} {transport} {call} {error} {number} {place}\n")
            self._program.stdin.flush()
            child, _ = self._listener.accept()
        try:
            with child:
                child.settimeout(PATIENCE)
                process_id = int(child.recv(100))
                log = place / "log"
                told = self._traced(child, process_id, ["-f", "-o", str(log), *inject])
                if not told:
                    printed = (place / "errors").read_text(encoding="utf-8", errors="replace")
                    told = {"wrong": [f"the process hangs or dies: {printed[:1500]}"], "raised": []}
            return told, log.read_text(encoding="utf-8", errors="replace")
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _traced(self, child: socket.socket, process_id: int, options: list[str]) -> dict[str, Any]:
        command = ["strace", *options, "-p", str(process_id)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr is not None
            line = strace.stderr.readline()
            if "attached" not in line:
                os.kill(process_id, signal.SIGKILL)
                pytest.skip(f"strace can't be attached to a process: {line.strip()}")
            child.send(b"!")
            told = self._told(child, process_id)
            with contextlib.suppress(OSError):
                child.send(b"!")
        return told

    def _told(self, child: socket.socket, process_id: int) -> dict[str, Any]:
        try:
            data = child.recv(1 << 20)
            if data:
                told: dict[str, Any] = json.loads(data)
                return told
        except socket.timeout:
            # Python then says where all its threads are.
            os.kill(process_id, signal.SIGABRT)
            with contextlib.suppress(OSError):
                child.recv(1)
        except ConnectionResetError:
            pass
        return {}


@pytest.fixture(scope="module")
def tracing() -> Iterator[Tracing]:
    if shutil.which("strace") is None:
        pytest.skip("there is no strace: apt-get install strace")
    directory = make_directory()
    made = Tracing(directory)
    yield made
    made.close()
    shutil.rmtree(directory, ignore_errors=True)


def calls_of(log: str) -> dict[str, list[int]]:
    """The numbers of the calls of each name between the two marks, in the thread that makes the marks or in others."""
    counts: dict[tuple[str, str], int] = {}
    found: dict[str, set[int]] = {}
    within = False
    for line in log.splitlines():
        made = re.match(r"(\d+) +(\w+)\(", line)
        if made is None:
            continue
        thread, call = made.groups()
        if call == "getppid":
            within = not within
        number = counts[thread, call] = counts.get((thread, call), 0) + 1
        # The kernel never refuses to forget what it has.
        if within and "EPOLL_CTL_DEL" not in line:
            found.setdefault(call, set()).add(number)
    return {call: sorted(numbers) for call, numbers in found.items()}


def faults_of(calls: dict[str, list[int]], thorough: bool) -> list[Fault]:
    """Every call with every error; or else the first and the last of a name, each with one of its errors."""
    faults = []
    for call, numbers in sorted(calls.items()):
        if call in NOT_OURS:
            continue
        errors = ERRORS[call].split()
        if not errors:
            continue
        if thorough:
            faults += [Fault(call, error, str(number)) for error in errors for number in numbers[:MOST_OF_A_KIND]]
        else:
            ends = sorted({numbers[0], numbers[:MOST_OF_A_KIND][-1]})
            faults += [Fault(call, errors[place % len(errors)], str(number)) for place, number in enumerate(ends)]
        if call not in ONCE_ONLY:
            faults += [Fault(call, error, f"{numbers[0]}+") for error in SANDBOX[: None if thorough else 1]]
    return faults


def codes_of(told: dict[str, Any]) -> set[str]:
    """The names of the errors that were raised."""
    return {raised.partition(":")[0] for raised in told["raised"]}


def run_all(tracing: Tracing, scenario: str, transport: str, *, thorough: bool) -> list[str]:
    """What was wrong in all the runs."""
    told, log = tracing.run(scenario, transport, None)
    assert told["wrong"] == [], told
    calls = calls_of(log)
    unknown = calls.keys() - ERRORS.keys() - NOT_OURS
    assert not unknown, f"the library makes calls for which no errors are listed here: {sorted(unknown)}"
    faults = faults_of(calls, thorough)
    assert faults

    # Without more memory from the kernel, for whatever reason, there is a MemoryError.
    usual = {"none", "ETIMEDOUT", "EAGAIN", "ENOMEM", *codes_of(told)}
    if scenario == "replacing":
        # What seemed not to be there is there when the server's file gets its place.
        usual.add("EADDRINUSE")

    def one(fault: Fault) -> list[str]:
        told, log = tracing.run(scenario, transport, fault)
        if "INJECTED" not in log:
            return []  # A call fewer than before: Python's own, for memory.
        wrong = list(told["wrong"])
        if not told.get("ends"):
            wrong += [f"an error of another kind: {code}" for code in codes_of(told) - usual - {fault.error}]
        return [f"{fault}: {what} (raised: {told['raised'][:3]})" for what in wrong]

    print(f"{scenario} over {transport}: {len(faults)} runs, in each of which a call fails")
    with ThreadPoolExecutor(RUNS_AT_A_TIME) as pool:
        return [what for wrong in pool.map(one, faults) for what in wrong]


@pytest.mark.parametrize(("scenario", "transport"), EACH)
def test_a_failing_system_call_is_a_clean_error(tracing: Tracing, scenario: str, transport: str) -> None:
    wrong = run_all(tracing, scenario, transport, thorough=False)
    assert not wrong, "\n".join([f"{len(wrong)} wrong:", *wrong])


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("scenario", "transport"), EACH)
def test_every_system_call_fails_with_every_error(tracing: Tracing, scenario: str, transport: str) -> None:
    wrong = run_all(tracing, scenario, transport, thorough=True)
    assert not wrong, "\n".join([f"{len(wrong)} wrong:", *wrong])
