"""What the import takes, and what the library opens then and at its first use."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import bbipc
from bbipc import Events, StreamSocket
from counting import COUNTING
from patience import PATIENCE, QEMU
from peer import run_program
from systems import WINDOWS
from transports import Transport

#: Types of handles that Windows' libraries open for themselves.
SYSTEMS_OWN = ("ALPC", "Desktop", "Directory", "EtwRegistration", "Key", "Mutant", "Section", "WindowStation")


# ---- Importing ----


MEASURE_IMPORT = """
import sys, time
import ctypes
before = set(sys.modules)
# Of the processor: it waits for nothing, but on a busy machine for its turn. Windows counts that in steps of 16 ms.
clock = time.perf_counter if sys.platform == "win32" else time.process_time
began = clock()
import bbipc
print(clock() - began, *(set(sys.modules) - before))
"""

#: Seconds. Windows, and Wine more so, takes long to open a file.
IMPORT_MAX = 0.25 if WINDOWS else 0.015


@pytest.fixture
def bytecode_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs find compiled modules, as an installed package has them, also where Python is told to write none."""
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "")


@pytest.mark.skipif(QEMU, reason="a figure of processors, and qemu-user is none")
@pytest.mark.usefixtures("bytecode_cache")
def test_the_import_takes_little_time_after_ctypes() -> None:
    run_program(MEASURE_IMPORT)
    # The best of several: what it costs, without what the machine did besides.
    best = min(float(run_program(MEASURE_IMPORT).split()[0]) for _ in range(7))
    assert best < IMPORT_MAX


def test_the_import_brings_no_large_modules() -> None:
    _, *modules = run_program(MEASURE_IMPORT).split()
    large = {"asyncio", "enum", "inspect", "logging", "re", "select", "selectors", "socket", "subprocess", "signal"}
    large |= {"dataclasses", "multiprocessing", "random", "tempfile", "typing", "typing_extensions"}
    assert {name.partition(".")[0] for name in modules} & large == set()
    assert "bbipc.polling" in modules


@pytest.mark.skipif(WINDOWS, reason="Windows counts them otherwise: the next test")
def test_the_import_opens_one_descriptor_and_no_thread() -> None:
    output = run_program(
        COUNTING
        + textwrap.dedent("""
        import ctypes, threading  # ctypes first: some builds of libffi keep a file open
        before, threads_before = len(count()), systems.thread_count()
        import bbipc
        print(len(count()) - before, systems.thread_count() - threads_before)
        """)
    )
    assert output.split() == ["1", "0"]


# ---- What Windows has besides ----


THREADS = """
import os

def thread_count():
    return sum(1 for _ in windows._threads(os.getpid()))
"""


@pytest.mark.skipif(not WINDOWS, reason="elsewhere the test before does it")
def test_the_import_opens_a_completion_port_and_no_thread() -> None:
    output = run_program(
        COUNTING
        + THREADS
        + textwrap.dedent("""
        # The system's own libraries, which open some for themselves.
        import ctypes, socket
        socket.socket().close()
        handles, threads = windows.open_handles(), thread_count()
        import bbipc
        assert thread_count() == threads
        new = [what for number, what in windows.open_handles().items() if number not in handles]
        print(*(what.split()[0] for what in new))
        """)
    )
    opened = [name for name in output.split() if not name.startswith(SYSTEMS_OWN)]
    assert opened == ["IoCompletion"]


@pytest.mark.skipif(not WINDOWS, reason="only Windows' pipes need a thread")
def test_the_first_pipe_starts_the_only_thread(directory: Path) -> None:
    output = run_program(
        COUNTING
        + THREADS
        + textwrap.dedent("""
        import bbipc
        from bbipc import Events

        def use(server, connect):
            with server, connect() as stream, bbipc.make_poller() as poller:
                assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, 10)
                with server.accept_connection() as accepted:
                    poller.monitor_socket(accepted, Events.DATA_AVAILABLE)
                    assert not any(bbipc.poll_sockets([stream, accepted], Events.DATA_AVAILABLE, 0.01))
                    stream.write_all(b"!", 10)
                    assert poller.wait_for_events(10) == [(accepted, Events.DATA_AVAILABLE)]
                    print(thread_count() - before)

        def tcp():
            server = bbipc.make_ipv4_tcp_server("127.0.0.1", 0)
            use(server, lambda: bbipc.connect_to_ipv4_tcp_server("127.0.0.1", server.port))

        def local(number):
            name = sys.argv[1] + number
            use(bbipc.make_local_server(name), lambda: bbipc.connect_to_local_server(name))

        # The system's own libraries start some for themselves.
        before = 0
        tcp()
        before = thread_count()
        tcp()
        local("1")
        local("2")
        tcp()
        """),
        directory / "server",
    )
    # The first number is that before "before" was set.
    assert output.split()[1:] == ["0", "1", "1", "1"]


@pytest.mark.skipif(not WINDOWS, reason="test_fork.py does it where there are fork() and exec()")
def test_no_process_inherits_what_is_open(transport: Transport) -> None:
    """Not even a process that gets every handle that can be inherited: the remote end sees what is closed here."""
    server = transport.make_server()
    connect: Callable[[], StreamSocket]
    if isinstance(server, bbipc.Ipv4TcpServer):
        connect = partial(bbipc.connect_to_ipv4_tcp_server, server.host_address, server.port)
    else:
        assert isinstance(server, bbipc.LocalServer)
        connect = partial(bbipc.connect_to_local_server, server.local_pathname)
    connecting = transport.connect(server)
    accepted = transport.accept(server)
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "close_fds": False}
    with subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], **options) as process:
        assert process.stdout is not None
        process.stdout.readline()
        server.close()
        connecting.close()
        assert bbipc.poll_socket(accepted, Events.END_OF_DATA, PATIENCE)
        accepted.close()
        # Nobody listens any more.
        with contextlib.suppress(bbipc.NoLocalServerError), connect() as refused:
            assert bbipc.poll_socket(refused, Events.DETERMINED, PATIENCE)
            assert refused.connection_failed()
        process.communicate(b"\n", timeout=PATIENCE)
    assert process.returncode == 0
