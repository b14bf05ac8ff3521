"""What an attack on the library found: each test is named after what failed."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

import bbipc
import systems
from bbipc import Events, StreamSocket
from bbipc._native import by_ctypes
from bbipc._native.waiting import BEGINNING, Deadline, wait
from bbipc.events import SETS
from pages import ended_program
from patience import PATIENCE, QEMU
from systems import BACKENDS, LINUX, MACOS, WINDOWS
from threads import PROMPTLY
from transports import fill
from tree import ROOT

only_linux = pytest.mark.skipif(not LINUX, reason="the program asks Linux for what it needs")


def short_directory() -> tempfile.TemporaryDirectory[str]:
    """As systems.make_directory, which leaves it."""
    return tempfile.TemporaryDirectory(prefix="bbipc-", dir="/tmp" if MACOS else None)


def printed(program: str, directory: Path | None = None, *arguments: object) -> str:
    finished = ended_program(program, directory, *arguments)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


# ---- A panic ----

#: The backlog is full, so the last stream goes on connecting.
CONNECTING_AND_ASKED = """
import os, socket, sys
import bbipc
from bbipc import Events

with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    streams = [bbipc.connect_to_ipv4_tcp_server("127.0.0.1", listener.getsockname()[1]) for _ in range(6)]
    assert not streams[-1].determined()
    with bbipc.make_poller(sys.argv[1]) as poller:
        poller.monitor_socket(streams[-1], Events.DETERMINED)
        os.close(streams[-1].fileno())
        poller.set_monitored_events(streams[-1], Events.DATA_AVAILABLE)
        print(poller.wait_for_events(0.05))
    # Those that lent their numbers must not be closed by them.
    os._exit(sys.stdout.flush() or 0)
"""


@only_linux
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stream_that_is_asked_now_and_then_may_be_of_no_more_interest_once_its_outcome_is_known(backend: str) -> None:
    """The look that told of the outcome ended the process: the poller no longer asked for that stream."""
    assert printed(CONNECTING_AND_ASKED, None, backend) == "[]"


# ---- A closing that was missed ----


class _Closing(dict[int, Any]):
    """A poller's sockets, as if another thread closed each socket just before it is looked up."""

    def __init__(self, *streams: StreamSocket) -> None:
        super().__init__()
        self._streams = streams

    def get(self, _handle: int, _default: object = None) -> None:
        for stream in self._streams:
            stream.close()


def test_a_socket_that_is_closed_between_its_report_and_its_look_up_ends_the_wait_by_ctypes() -> None:
    with short_directory() as directory, bbipc.make_local_server(Path(directory, "s")) as server:
        first = bbipc.connect_to_local_server(server.local_pathname)
        second = server.accept_connection()
        with first, second, bbipc.make_poller() as poller:
            poller.monitor_socket(second, Events.DATA_AVAILABLE)
            first.write(b"x")
            results: list[object] = []

            def wait_for_ever() -> None:
                arguments = poller._handle, _Closing(second), SETS
                results.append(wait(Deadline(None), by_ctypes.wait_for_events, *arguments, place=BEGINNING))

            thread = threading.Thread(target=wait_for_ever, daemon=True)
            thread.start()
            thread.join(PROMPTLY)
            hangs = thread.is_alive()
            poller.wake()
            thread.join(PATIENCE)
            assert (hangs, results) == (False, [[]])


# ---- A view that outlived its memory ----


class _InterruptedError(Exception):
    pass


def _raise(*_signal: object) -> None:
    raise _InterruptedError


def _can_be_looked_at(view: memoryview) -> bool:
    try:
        return view.nbytes >= 0
    except ValueError:
        return False


@pytest.mark.skipif(WINDOWS, reason="Windows has no such signals")
def test_no_view_of_a_write_that_a_signal_handler_ended_outlives_the_loan_of_its_memory() -> None:
    """The handler ran before the package began to take care of the view, and the traceback kept the view."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(short_directory())
        server = stack.enter_context(bbipc.make_local_server(Path(directory, "s")))
        stream = stack.enter_context(bbipc.connect_to_local_server(server.local_pathname))
        stack.enter_context(server.accept_connection())
        fill(stream)
        stack.callback(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, _raise))
        data = bytearray(100_000)
        signal.setitimer(signal.ITIMER_REAL, 0.002)
        with pytest.raises(_InterruptedError) as raised:
            stream.write_all(data)
        names = [entry.frame.f_locals for entry in raised.traceback]
        views = [one for local in names for one in local.values() if isinstance(one, memoryview)]
        if any(map(_can_be_looked_at, views)):
            # They are lent, so they can't move.
            with pytest.raises(BufferError):
                data.append(0)
        else:
            data.append(0)


# ---- A fork among threads that connect and close ----

FORKS = r"""
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bbipc.h"

enum { threads_count = 8, forks_count = 20 };
static const char *path;
static bbipc_handle server;
static atomic_int ends;

static void *connect_and_close(void *unused) {
    while (!ends) {
        bbipc_handle client = bbipc_connect_to_local_server(path, strlen(path), NULL);
        bbipc_handle stream = bbipc_accept_connection(server, NULL);
        if (client > 0) bbipc_close(client);
        if (stream > 0) bbipc_close(stream);
    }
    return unused;
}

int main(int count, char **arguments) {
    pthread_t threads[threads_count];
    if (count != 2) return 2;
    path = arguments[1];
    pthread_atfork(bbipc_before_fork, bbipc_after_fork_in_parent, bbipc_after_fork_in_child);
    server = bbipc_make_local_server(path, strlen(path), 128, -1, BBIPC_DELETE_ON_CLOSE, NULL);
    if (server < 0) return 3;
    for (int i = 0; i < threads_count; i++) pthread_create(&threads[i], NULL, connect_and_close, NULL);
    for (int i = 0; i < forks_count; i++) {
        int result;
        pid_t child = fork();
        if (child == 0) {
            bbipc_handle poller = bbipc_make_poller(BBIPC_BACKEND_DEFAULT, NULL);
            _exit(poller < 0 || bbipc_close(poller) != 0);
        }
        if (waitpid(child, &result, 0) != child || result != 0) return 4;
    }
    ends = 1;
    for (int i = 0; i < threads_count; i++) pthread_join(threads[i], NULL);
    bbipc_close(server);
    printf("%d handles\n", (int)bbipc_open_handles());
    return 0;
}
"""


@pytest.mark.skipif(WINDOWS, reason="Windows has no fork")
@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang, the compiler, is missing")
@pytest.mark.timeout(600)  # the first time on a machine, the compiler takes more than a minute
def test_a_fork_comes_to_its_turn_while_other_threads_connect_and_close(tmp_path: Path) -> None:
    """It waited for a moment in which no thread did. Under load that did not come: not for a minute with 16 threads."""
    source, program = tmp_path / "forks.c", tmp_path / "forks"
    source.write_text(FORKS, encoding="utf-8")
    library = Path(bbipc.__file__).with_name(systems.LIBRARY)
    compiler = [sys.executable, "-m", "ziglang", "cc", "-std=gnu11", "-pthread", f"-I{ROOT / 'native' / 'include'}"]
    # A cache outside the tree.
    cache = {**os.environ, "ZIG_LOCAL_CACHE_DIR": str(tmp_path / "zig")}
    subprocess.run([*compiler, source, library, f"-Wl,-rpath,{library.parent}", "-o", program], env=cache, check=True)
    with short_directory() as directory:
        finished = subprocess.run(
            [program, Path(directory, "s")], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    assert (finished.returncode, finished.stdout) == (0, "0 handles\n"), finished.stderr


# ---- A file that was left without a word ----

OUT_OF_REACH = """
import os, sys, warnings
import bbipc

os.chdir("reached")
os.chmod("..", 0o700)
os.setgid(65534)
os.setuid(65534)
server = bbipc.make_local_server("s")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    server.close()
print(os.listdir(), [one.category.__name__ for one in caught])
"""


@only_linux
@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root can become another user")
def test_a_file_that_can_not_be_found_by_its_absolute_name_is_not_left_without_a_warning(tmp_path: Path) -> None:
    reached = tmp_path / "reached"
    reached.mkdir()
    reached.chmod(0o777)
    assert printed(OUT_OF_REACH, tmp_path) == "['s'] ['RuntimeWarning']"


# ---- A socket that can't be asked, in a busy poller ----

STUCK = """
import os, socket, sys
from bbipc import Events, connect_to_local_server, make_poller

listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
listening.listen(5)
streams, peers = [], []
for _ in range(2):
    streams.append(connect_to_local_server(sys.argv[1]))
    peers.append(listening.accept()[0])
poller = make_poller()
poller.monitor_socket(streams[0], Events.DATA_AVAILABLE | Events.END_OF_DATA)
poller.monitor_socket(streams[1], Events.DATA_AVAILABLE)
peers[0].send(b"x")
peers[0].shutdown(socket.SHUT_WR)
peers[1].send(b"y")
for _ in range(1000):
    assert poller.wait_for_events(1)
os._exit(0)
"""


@pytest.mark.skipif(not LINUX or QEMU, reason="strace, which makes calls fail, is for Linux")
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is missing: apt-get install strace")
def test_a_socket_that_cannot_be_asked_costs_little_beside_others(directory: Path) -> None:
    """Each wait took it out of epoll and put it back: 2,000 calls for 1,000 waits. Now one wait in 17 asks it."""
    log = directory / "calls"
    strace = ["strace", "-f", "-o", str(log), "-e", "trace=epoll_ctl,recvfrom", "-e", "inject=recvfrom:error=EPERM"]
    program = [sys.executable, "-c", STUCK, str(directory / "s")]
    ended = subprocess.run([*strace, *program], capture_output=True, text=True, timeout=PATIENCE, check=False)
    if "ptrace" in ended.stderr:
        pytest.skip(f"strace can't be attached to a process: {ended.stderr.strip()}")
    assert (ended.returncode, ended.stderr) == (0, "")
    calls = log.read_text().splitlines()
    assert 0 < sum("epoll_ctl" in call for call in calls) < 300
    assert 0 < sum("recvfrom" in call for call in calls) < 300
