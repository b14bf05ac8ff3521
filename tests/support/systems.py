"""Where operating systems differ, as far as the tests ask: what each answers, and how it is asked about a process.

FreeBSD's answers were measured on its kernels (13.2, 14, 15), those of macOS are read in its sources (XNU). Programs
outside pytest import this too. What only Windows has is in windows.py, and what its pipes can't do in readiness.py.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import tempfile
from pathlib import Path

if sys.platform == "win32":
    import windows
elif sys.platform != "linux":
    # Linux has /proc instead.
    import psutil

WINDOWS = sys.platform == "win32"
LINUX = sys.platform == "linux"
MACOS = sys.platform == "darwin"
FREEBSD = sys.platform.startswith("freebsd")

#: The native library's file, in the package.
LIBRARY = {"win32": "bbipc.dll", "darwin": "libbbipc.dylib"}.get(sys.platform, "libbbipc.so")

# ---- Pollers ----

#: The default comes first.
BACKENDS = {"win32": ["iocp"], "linux": ["epoll", "poll"]}.get(sys.platform, ["kqueue", "poll"])
BACKENDS_LACKING = [name for name in ("epoll", "poll", "iocp", "kqueue") if name not in BACKENDS]


def descriptors_of_poller(backend: str) -> int:
    """How many descriptors it has. An epoll has another to be woken by; a kqueue wakes itself, and poll's waits too."""
    return 2 if backend == "epoll" else 1


#: Whether a forked child has its parent's pollers' descriptors, though no use for them. kqueue(2): it has no kqueue.
FORK_COPIES_POLLERS = LINUX

# ---- Names and addresses ----

#: Of a local server: bytes of sun_path without its NUL; on Windows UTF-16 units of a pipe's whole name.
PATHNAME_MAX = 256 if WINDOWS else 107 if LINUX else 103

#: Whether bind(2) takes a symbolic link that leads nowhere for the name of what it is to make (XNU's unp_bind).
BIND_FOLLOWS_LINKS = MACOS

#: This machine's addresses that begin with 127, or many of them. macOS and FreeBSD have one, unless somebody adds more.
LOOPBACKS = [f"127.0.0.{last}" for last in range(1, 251)] if LINUX or WINDOWS else ["127.0.0.1"]


def make_directory() -> Path:
    """A private directory whose name is short enough for local pathnames, as pytest's tmp_path may not be."""
    # macOS' own for temporary files has a name of 49 bytes.
    return Path(tempfile.mkdtemp(prefix="bbipc-", dir="/tmp" if MACOS else None))


# ---- Backlogs ----

#: What a local client's errno is that finds the backlog full. macOS and FreeBSD say what they say where nobody listens.
FULL_BACKLOG = errno.EAGAIN if LINUX or WINDOWS else errno.ECONNREFUSED

#: Clients that a system keeps waiting at least, if it is asked to (kern.ipc.somaxconn). A server that has no more room
#: refuses local clients on macOS and FreeBSD; FreeBSD may reset those of TCP.
BACKLOG_MAX = 1024 if LINUX or WINDOWS else 128


def backlog_holds(count: int, backlog: int) -> bool:
    """Whether a local server with this backlog may have ``count`` clients that wait."""
    if LINUX:
        return count == backlog + 1
    if WINDOWS:
        return count == max(1, backlog)
    # FreeBSD: three halves of it, and one. macOS: as many as it says, and its own limit if that is 0.
    return count >= max(1, backlog)


#: Whether a TCP client that finds a backlog of 0 full is neither let in nor told, and tries again by itself. XNU's
#: tcp_input drops the request too, but its solisten takes 0 for 128.
TCP_WAITS_FOR_BACKLOG = LINUX

# ---- Ends ----


def close_resets(transport: str) -> bool:
    """Whether closing with bytes unread tells the peer that they are lost: by a reset.

    On FreeBSD it is an orderly end, and TCP's next write brings the reset. macOS resets TCP (XNU's tcp_disconnect).
    Neither resets a local stream.
    """
    return LINUX or WINDOWS or (MACOS and transport == "tcp")


#: Whether what one end of a TCP connection to this machine does is known at the other at once.
TCP_DELIVERS_AT_ONCE = LINUX

#: Bytes that a local stream takes although nobody reads them. macOS and FreeBSD have 8 KiB for both ends.
LOCAL_ROOM = 100_000 if LINUX or WINDOWS else 8_000

#: Whether a client that is not accepted for want of a descriptor goes on waiting. XNU's accept closes it.
CLIENTS_OUTLIVE_EMFILE = not MACOS

# ---- Processes ----


def most_descriptors(hard: int, infinity: int) -> int:
    """Up to how many setrlimit(2) lets a process have, whose hard limit this is."""
    most = sys.maxsize if hard == infinity else hard
    # OPEN_MAX of XNU's syslimits.h, which setrlimit of its libc insists on.
    return min(most, 10240) if MACOS else most


#: Descriptors get the lowest free number. After this many free numbers in a row, none is in use.
_FREE_NUMBERS = 2048


def open_descriptors() -> dict[int, str]:
    """What this process has open, by number: descriptors, or on Windows handles of every kind."""
    if sys.platform == "win32":
        return windows.open_handles()
    found: dict[int, str] = {}
    if sys.platform == "linux":
        for name in os.listdir("/proc/self/fd"):
            # The listing's own descriptor is gone by now.
            with contextlib.suppress(OSError):
                found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        return found
    # FreeBSD's /dev/fd lists the first three, unless somebody mounts the whole.
    number = free = 0
    while free < _FREE_NUMBERS:
        try:
            what = os.fstat(number)
        except OSError:
            free += 1
        else:
            free = 0
            found[number] = f"{stat.S_IFMT(what.st_mode):o}:{what.st_dev}:{what.st_ino}"
        number += 1
    return found


def descriptor_count(process_id: int) -> int:
    """How many descriptors a process has open."""
    if sys.platform == "linux":
        return len(os.listdir(f"/proc/{process_id}/fd"))
    assert sys.platform != "win32"
    # FreeBSD counts a process's directory, program and terminal with them; ours has the same.
    not_descriptors = psutil.Process().num_fds() - len(open_descriptors())
    return psutil.Process(process_id).num_fds() - not_descriptors


def processor_seconds(process_id: int) -> float:
    """How long a process has run on a processor so far."""
    if sys.platform == "linux":
        # The name, in parentheses, may contain spaces: proc(5). User and system time are fields 14 and 15.
        fields = Path(f"/proc/{process_id}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    assert sys.platform != "win32"
    times = psutil.Process(process_id).cpu_times()
    return float(times.user + times.system)


def resident_bytes(process_id: int) -> int:
    """How much memory a process has, without the kernel's buffers."""
    if sys.platform == "linux":
        pages = int(Path(f"/proc/{process_id}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    assert sys.platform != "win32"
    return int(psutil.Process(process_id).memory_info().rss)


def available_memory() -> int | None:
    """Bytes that programs can still have without swapping; None where nothing tells."""
    if sys.platform == "win32":
        return None
    if sys.platform != "linux":
        return int(psutil.virtual_memory().available)
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    available = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    # A container may have less: cgroups(7), version 2.
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (most := limit.read_text(encoding="ascii").strip()) != "max":
        used = int(limit.with_name("memory.current").read_text(encoding="ascii"))
        available = min(available, int(most) - used)
    return available


def thread_count() -> int:
    """How many threads this process has, Python's or not."""
    if sys.platform == "linux":
        return len(os.listdir("/proc/self/task"))
    assert sys.platform != "win32"
    return int(psutil.Process().num_threads())


def child_of(process_id: int) -> int:
    """The number of the only process that a process has started."""
    if sys.platform == "linux":
        return int(Path(f"/proc/{process_id}/task/{process_id}/children").read_text(encoding="ascii"))
    assert sys.platform != "win32"
    (child,) = psutil.Process(process_id).children()
    return int(child.pid)


def runs(process_id: int) -> bool:
    """Whether there is such a process."""
    if sys.platform == "linux":
        return os.path.exists(f"/proc/{process_id}")
    assert sys.platform != "win32"
    return psutil.pid_exists(process_id)


#: Looks, a hundredth of a second apart, in which a thread must not have moved. Linux says of each whether it sleeps;
#: but one that waits for the GIL wakes up every 5 ms, to ask for it. Wine tells of its moves late.
LOOKS = 1 if LINUX else 4

#: Seconds that a thread gets to fall asleep, a hundred times what it takes, where nothing says whether it has. None
#: where something does.
TIME_TO_SLEEP = None if LINUX or WINDOWS else 0.1


def thread_activity(process_id: int, thread_id: int | None) -> tuple[bool, object]:
    """Whether a thread sleeps in the kernel, and what changes when it moves.

    Without a number, that of the process's main thread; or of all its threads where nothing says which is the main one.
    """
    if sys.platform == "win32":
        return windows.thread_activity(process_id, thread_id)
    if sys.platform == "linux":
        lines = Path(f"/proc/{process_id}/task/{thread_id or process_id}/status").read_text().splitlines()
        state = next(line for line in lines if line.startswith("State:"))
        switches = next(line for line in lines if line.startswith("voluntary_ctxt_switches:"))
        return state.split()[1] == "S", (state, switches)
    assert thread_id is None
    # macOS has no such state. A thread that has not moved for a while has slept.
    process = psutil.Process(process_id)
    return True, (process.num_ctx_switches(), process.cpu_times())
