"""Traps that the documentation once led into: what happens in them, and that what the guide shows does not."""

from __future__ import annotations

import errno
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bbipc
from bbipc import Events
from child_processes import heeded_interrupts
from pages import DOCS, blocks_of, ended_program, environment
from patience import PATIENCE
from pythons import python_with
from readiness import needs_half_close
from systems import LINUX, WINDOWS
from threads import Failing
from transports import Transport, fill

READABLE = Events.DATA_AVAILABLE | Events.END_OF_DATA

only_posix = pytest.mark.skipif(WINDOWS, reason="Windows has no such signals, and no descriptors that a child inherits")


def code_of(page: str, *marks: str) -> str:
    """The blocks of a page of the guide that contain one of the marks, as one program."""
    blocks = [block.code for block in blocks_of(DOCS / "guide" / page) if any(mark in block.code for mark in marks)]
    assert len(blocks) == len(marks)
    return "from __future__ import annotations\n" + "\n".join(blocks) + "\n"


def names_of(program: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(program, "page", "exec", dont_inherit=True), names)
    return names


# ---- Closing ----


def read_to_the_end(stream: bbipc.StreamSocket) -> tuple[int, bbipc.SocketError | None]:
    arrived = 0
    try:
        while not bbipc.poll_socket(stream, READABLE, PATIENCE).end_of_data:
            arrived += len(stream.read())
    except bbipc.SocketError as error:
        return arrived, error
    return arrived, stream.connection_error()


@pytest.mark.skipif(not LINUX, reason="how much of what was written a reset loses, each system decides for itself")
def test_close_with_bytes_unread_loses_what_was_written_over_tcp_alone(transport: Transport) -> None:
    server, client = transport.pair()
    client.write_all(b"unread", PATIENCE)
    assert bbipc.poll_socket(server, Events.DATA_AVAILABLE, PATIENCE)
    written = fill(server)
    server.close()
    arrived, error = read_to_the_end(client)
    assert error is not None
    assert error.errno == errno.ECONNRESET
    assert (arrived < written) if transport.name == "tcp" else (arrived == written)


def test_the_lingering_close_of_the_guide_loses_nothing(transport: Transport) -> None:
    needs_half_close(transport)
    imports = "import bbipc\nfrom bbipc import Events, StreamSocket\n"
    recipe = code_of("streams.md", "def close_when_delivered").partition("tcp_server =")[0]
    close_when_delivered = names_of(recipe.replace("import threading\n", imports))["close_when_delivered"]
    server, client = transport.pair()
    # The client is there, and does not finish.
    assert not close_when_delivered(server, 0)
    assert server.closed

    server, client = transport.pair()
    client.write_all(b"unread", PATIENCE)
    written = fill(server)
    arrived: list[object] = []

    def read_and_finish() -> None:
        arrived.extend(read_to_the_end(client))
        client.close()

    reading = Failing(read_and_finish)
    assert close_when_delivered(server, PATIENCE)
    reading.join()
    assert arrived == [written, None]


# ---- Waiting for room ----


def test_ready_to_write_never_comes_from_a_peer_that_has_finished_and_write_space_does(transport: Transport) -> None:
    needs_half_close(transport)
    server, client = transport.pair()
    client.finish_writing()
    assert bbipc.poll_socket(server, Events.END_OF_DATA, PATIENCE)
    fill(server)
    while client.read() or not server.write_space():
        pass
    assert not server.ready_to_write()
    assert bbipc.poll_socket(server, Events.READY_TO_WRITE, 0.01) == Events()
    assert bbipc.poll_socket(server, Events.WRITE_SPACE | Events.CONNECTION_SEVERED, PATIENCE) == Events.WRITE_SPACE


# ---- Beside asyncio ----


def asyncio_program(rest: str) -> str:
    blocks = code_of(
        "event-loops.md", "import asyncio\nimport threading", "async def ask", "class PollerThread", "class Streams"
    )
    program, _, _ = blocks.partition("\nasync def main")
    program = program.replace(program[program.index("\nours, theirs") : program.index("\nclass PollerThread")], "")
    return program + rest


ENDS = {
    "with the streams in a with statement": (0, "a fault"),
    "with the streams forgotten": (1, ""),
}


@pytest.mark.parametrize("how", ENDS)
def test_a_program_with_a_poller_thread_ends_after_an_exception(directory: Path, how: str) -> None:
    entered = "with Streams() as streams:" if ENDS[how][0] == 0 else "streams = Streams()\n    if streams:"
    program = asyncio_program(f"""
async def main():
    {entered}
        ours, theirs = make_pair()
        streams.add(theirs)
        waiting = asyncio.ensure_future(streams.wait(theirs, READABLE))
        await asyncio.sleep(0)
        try:
            raise ValueError("a fault")
        finally:
            ours.close()


try:
    asyncio.run(main())
except ValueError as error:
    if {ENDS[how][0]}:
        raise
    print(error)
server.close()
""")
    ended = ended_program(program, directory)
    assert (ended.returncode, ended.stdout.strip()) == ENDS[how], ended.stderr


def test_two_tasks_wait_for_one_stream(directory: Path) -> None:
    program = asyncio_program("""
async def main():
    with Streams() as streams:
        ours, theirs = make_pair()
        streams.add(theirs)
        reading = [asyncio.ensure_future(streams.wait(theirs, READABLE)) for _ in range(3)]
        print(await streams.wait(theirs, WRITABLE))
        reading.pop().cancel()
        await asyncio.sleep(0)
        ours.write_all(b"for both")
        print(*await asyncio.gather(*reading))
        waiting = asyncio.ensure_future(streams.wait(theirs, Events.END_OF_DATA))
        await asyncio.sleep(0)
        streams.close(theirs)
        print(type((await asyncio.gather(waiting, return_exceptions=True))[0]).__name__)
        ours.close()


asyncio.run(main())
server.close()
""")
    ended = ended_program(program, directory)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["WRITE_SPACE", "DATA_AVAILABLE DATA_AVAILABLE", "CancelledError"]


@only_posix
def test_ctrl_c_ends_a_program_whose_loop_waits_for_a_thread(directory: Path) -> None:
    program = asyncio_program("""
import os
import signal

ours, theirs = make_pair()


def interrupt():
    theirs.read_exactly(1)
    os.kill(os.getpid(), signal.SIGINT)


def come_back():  # for a signal of the moment before the loop's system call, which Python sees only after it
    asyncio.get_running_loop().call_later(0.02, come_back)


async def main():
    come_back()
    await ask(ours, b"?")


threading.Thread(target=interrupt).start()
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted", ours.closed)
theirs.close()
server.close()
""")
    with heeded_interrupts():
        ended = ended_program(program, directory)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "interrupted True\n", "")


# ---- Ending ----


@only_posix
@pytest.mark.parametrize("handled", [False, True])
def test_sigterm_leaves_the_socket_file_unless_it_is_handled(directory: Path, handled: bool) -> None:
    marks = ("import signal", "def end(")
    handler = code_of("daemons.md", *marks).partition("try:")[0] if handled else "import os, signal\n"
    program = f"""{handler}
import bbipc
import os
with bbipc.make_local_server("s"):
    os.kill(os.getpid(), signal.SIGTERM)
"""
    ended = ended_program(program, directory)
    assert ended.returncode == (128 + signal.SIGTERM if handled else -signal.SIGTERM), ended.stderr
    assert (directory / "s").exists() is not handled
    if not handled:
        with pytest.raises(bbipc.SocketError, match="replace_dead=True") as refused:
            bbipc.make_local_server(directory / "s")
        assert refused.value.errno == errno.EADDRINUSE


@only_posix
@pytest.mark.parametrize("kind", ["file", "directory", "fifo", "link"])
def test_in_place_of_a_dead_server_nothing_but_a_socket_is_deleted(directory: Path, kind: str) -> None:
    pathname = str(directory / "precious")
    if kind == "file":
        Path(pathname).write_bytes(b"ten years of work")
    elif kind == "link":
        (directory / "file").write_bytes(b"ten years of work")
        os.symlink("file", pathname)
    else:
        {"directory": os.mkdir, "fifo": os.mkfifo}[kind](pathname)  # type: ignore[operator]
    before = os.lstat(pathname)
    with pytest.raises(bbipc.SocketError) as refused:
        bbipc.make_local_server(pathname, replace_dead=True)
    assert refused.value.errno == errno.EADDRINUSE
    assert os.lstat(pathname) == before
    # But a socket file that was left is what it is for.
    bbipc.make_local_server(directory / "left", delete_on_close=False).close()
    bbipc.make_local_server(directory / "left", replace_dead=True).close()
    bbipc.make_local_server(directory / "new", replace_dead=True).close()


# ---- What does not see bbipc ----

REFUSES_TO_CONNECT = """
#include <errno.h>

int connect(int descriptor, const void *address, unsigned size) {
    (void)descriptor, (void)address, (void)size;
    errno = EPERM;
    return -1;
}
"""

CONNECTS_TWICE = """
import socket
import bbipc

with bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 0) as server:
    try:
        socket.create_connection((bbipc.IPV4_LOOPBACK, server.port))
    except PermissionError:
        print("Python's socket goes through LD_PRELOAD")
    with bbipc.connect_to_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, server.port) as stream:
        bbipc.poll_socket(stream, bbipc.Events.DETERMINED, 10)
        if stream.connection_succeeded():
            print("bbipc does not")
"""


@pytest.mark.skipif(not LINUX, reason="only on Linux the library does without a C library")
@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang, which compiles C, is missing")
@pytest.mark.timeout(300)  # the first time on a machine, Zig builds what every C program needs
def test_tools_of_ld_preload_see_nothing_of_bbipc(directory: Path) -> None:
    (directory / "refuses.c").write_text(REFUSES_TO_CONNECT, encoding="utf-8")
    compiler = [sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", "-O2"]
    subprocess.run([*compiler, "refuses.c", "-o", "refuses.so"], cwd=directory, check=True)
    ended = subprocess.run(
        [sys.executable, "-c", CONNECTS_TWICE],
        cwd=directory,
        env={**environment(), "LD_PRELOAD": str(directory / "refuses.so")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.stdout.splitlines() == ["Python's socket goes through LD_PRELOAD", "bbipc does not"], ended.stderr


@pytest.mark.skipif(WINDOWS, reason="a named pipe has no descriptor for gevent to wait for")
@pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="gevent is missing: pip install gevent")
def test_the_guides_program_with_gevent(directory: Path) -> None:
    (program,) = (
        block.code for block in blocks_of(DOCS / "guide" / "event-loops.md") if block.caption == "with_gevent.py"
    )
    ended = ended_program("import warnings; warnings.simplefilter('default')\n" + program, directory)
    others = [f"another greenlet: {number}" for number in range(3)]
    assert ended.stdout.splitlines() == [*others, "b'hello'"] * 2, ended.stderr


#: What the guide's programs with a poller in another loop need, and print.
LOOP_PROGRAMS = {
    "with_asyncio.py": ("asyncio", ["ONE", "TWO"]),
    "with_glib.py": ("gi.repository.GLib", ["through GLib's loop"]),
    "with_qt.py": ("PySide2.QtCore", ["through Qt's loop"]),
}


@only_posix
@pytest.mark.parametrize("caption", LOOP_PROGRAMS)
def test_the_guides_programs_with_a_poller_in_another_loop(directory: Path, caption: str) -> None:
    module, printed = LOOP_PROGRAMS[caption]
    (program,) = (block.code for block in blocks_of(DOCS / "guide" / "event-loops.md") if block.caption == caption)
    # Without the warnings of other packages, but with those of sockets that are left open.
    program = f"import warnings; warnings.simplefilter('ignore'); import {module}\n{program}"
    program = program.replace("\n", "\nwarnings.simplefilter('default')\n", 1)
    ended = subprocess.run(
        [python_with(module), "-c", program],
        cwd=directory,
        env={**environment(), "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.stdout.splitlines() == printed, ended.stderr
    assert ended.stderr == ""


@only_posix
@pytest.mark.parametrize("blocking", [False, True])
def test_a_stream_as_standard_input_fails_unless_it_is_made_blocking(directory: Path, blocking: bool) -> None:
    with bbipc.make_local_server(directory / "s") as server:
        ours = bbipc.connect_to_local_server(directory / "s")
        theirs = server.accept_connection()
    if blocking:
        os.set_blocking(theirs.fileno(), True)
    program = """
import os
try:
    print("begun", flush=True)
    print(os.read(0, 4).decode())
except BlockingIOError as error:
    print("EAGAIN")
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=theirs.fileno(), stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        if not blocking:
            assert child.stdout.read() == b"EAGAIN\n"
        else:
            # Our stream still does not wait, although both share the setting.
            assert theirs.read() == b""
            ours.write_all(b"done")
            assert child.stdout.read() == b"done\n"
    for socket in (ours, theirs):
        socket.close()
