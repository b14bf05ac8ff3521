"""start_process and connect_to_parent: what passes between parents and children, and what doesn't."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import bbipc
from bbipc import Events, poll_socket
from patience import PATIENCE, QEMU
from peer import run_program
from systems import WINDOWS, open_descriptors
from threads import Failing
from tree import ROOT

#: Answers messages until its parent has gone.
ECHO = """
import bbipc
with bbipc.connect_to_parent() as parent:
    for message in parent.messages():
        parent.send_message(message.upper())
"""

#: Says that it is there, and stays until it is told to die.
STAY = """
import os, bbipc
parent = bbipc.connect_to_parent()
parent.send_message(b"there")
parent.read_exactly(1)
os._exit(5)
"""

#: Seconds. Within this time the parent sees that a child has died.
SEEN_WITHIN = 0.1


class Children:
    """Starts children, and ends those that are left over."""

    def __init__(self) -> None:
        self._made: list[tuple[subprocess.Popen[bytes], bbipc.LocalStream]] = []

    def start(
        self, program: str, *arguments: str, **popen: object
    ) -> tuple[subprocess.Popen[bytes], bbipc.LocalStream]:
        return self.start_command([sys.executable, "-c", textwrap.dedent(program), *arguments], **popen)

    def start_command(
        self, command: list[str] | str, **popen: object
    ) -> tuple[subprocess.Popen[bytes], bbipc.LocalStream]:
        made = bbipc.start_process(command, **popen)
        self._made.append(made)
        return made

    def end(self) -> None:
        for process, stream in self._made:
            stream.close()
            process.kill()
            process.communicate(timeout=PATIENCE)
        # Windows' handles of processes go with the objects.
        self._made.clear()


@pytest.fixture
def children() -> Iterator[Children]:
    made = Children()
    yield made
    made.end()


# ---- Both ways ----


def test_messages_pass_between_parent_and_child(children: Children) -> None:
    process, stream = children.start(ECHO)
    assert isinstance(stream, bbipc.LocalStream)
    assert (stream.local_pathname, repr(stream)) == ("", "<LocalStream unnamed>")
    for message in (b"hello", b"", bytes(1 << 20)):
        stream.send_message(message, PATIENCE)
        assert stream.receive_message(PATIENCE) == message.upper()
    assert stream.connection_succeeded()
    # The child sees the end.
    stream.close()
    assert process.wait(PATIENCE) == 0


def test_bytes_that_are_written_at_once_wait_for_the_child(children: Children) -> None:
    process, stream = children.start(
        """
        import bbipc
        parent = bbipc.connect_to_parent()
        assert parent.read_exactly(5) == b"early"
        parent.write_all(b"and late")
        """
    )
    stream.write_all(b"early", PATIENCE)
    assert stream.read_exactly(8, PATIENCE) == b"and late"
    assert poll_socket(stream, Events.END_OF_DATA, PATIENCE)
    assert process.wait(PATIENCE) == 0


def test_a_poller_waits_for_children(children: Children) -> None:
    streams = {children.start(ECHO)[1]: b"%d" % number for number in range(3)}
    with bbipc.make_poller() as poller:
        for stream, message in streams.items():
            poller.monitor_socket(stream, Events.MESSAGE_AVAILABLE | Events.END_OF_DATA)
            stream.send_message(message, PATIENCE)
        received = {}
        while len(received) < len(streams):
            for stream, _, messages in poller.receive_messages(PATIENCE):
                received[stream] = messages[0]
    assert received == streams


# ---- Ends ----


@pytest.mark.skipif(QEMU, reason="a figure of processors, and qemu-user is none")
@pytest.mark.parametrize("way", ["killed", "by itself"])
def test_a_child_that_dies_is_seen_at_once(children: Children, way: str) -> None:
    fastest = PATIENCE
    for _ in range(3):  # a busy machine adds to any figure
        process, stream = children.start(STAY)
        assert stream.receive_message(PATIENCE) == b"there"
        began = time.perf_counter()
        if way == "killed":
            process.kill()
        else:
            stream.write_all(b"!")
        assert poll_socket(stream, Events.REMOTE_DISCONNECTED, PATIENCE)
        fastest = min(fastest, time.perf_counter() - began)
        assert process.wait(PATIENCE) != 0
    assert fastest < SEEN_WITHIN


@pytest.mark.parametrize("program", ["", "raise SystemExit(3)", "import os, signal; os._exit(7)"])
def test_a_child_that_never_connects_and_ends_is_seen(children: Children, program: str) -> None:
    process, stream = children.start(program)
    assert poll_socket(stream, Events.END_OF_DATA, PATIENCE)
    assert stream.determined()
    assert stream.read() == b""
    assert stream.connection_error() is None
    with pytest.raises(bbipc.EndOfStreamError):
        stream.receive_message(PATIENCE)
    assert process.wait(PATIENCE) in (0, 3, 7)


def test_a_child_that_never_connects_holds_nobody_up(children: Children) -> None:
    began = time.perf_counter()
    process, stream = children.start("import time; print(flush=True); time.sleep(1000)", stdout=subprocess.PIPE)
    assert time.perf_counter() - began < PATIENCE / 2
    assert process.stdout is not None
    process.stdout.readline()
    assert not poll_socket(stream, Events.DATA_AVAILABLE | Events.REMOTE_DISCONNECTED, 0)
    process.kill()
    assert poll_socket(stream, Events.REMOTE_DISCONNECTED, PATIENCE)


def test_a_stream_that_the_child_closes_ends_although_the_child_goes_on(children: Children) -> None:
    process, stream = children.start(
        "import time, bbipc; bbipc.connect_to_parent().close(); time.sleep(1000)", close_fds=True
    )
    assert poll_socket(stream, Events.END_OF_DATA, PATIENCE)
    assert process.poll() is None


def test_a_parent_that_closes_before_the_child_connects_is_seen(children: Children) -> None:
    process, stream = children.start(
        """
        import sys, bbipc
        sys.stdin.readline()
        try:
            parent = bbipc.connect_to_parent()
        except bbipc.SocketError as error:
            print("refused", "it has gone" in str(error))
        else:
            print("ended", bbipc.poll_socket(parent, bbipc.Events.END_OF_DATA, 10).end_of_data)
        """,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    stream.close()
    output, _ = process.communicate("\n", timeout=PATIENCE)
    assert output.split() == [("refused" if WINDOWS else "ended"), "True"]


def test_a_pair_is_told_of_its_maker_and_a_pipe_of_the_child(children: Children) -> None:
    """What it tells of others is in test_daemons.py."""
    one, other = bbipc.make_stream_pair()
    process, stream = children.start(ECHO)
    stream.send_message(b"", PATIENCE)
    stream.receive_message(PATIENCE)
    with one, other:
        told = [end.peer_credentials().process_id for end in (one, other, stream)]
    assert told == [os.getpid(), os.getpid(), process.pid if WINDOWS else os.getpid()]


# ---- What the child has ----


def test_the_variable_is_removed_and_a_second_call_is_refused(children: Children) -> None:
    _, stream = children.start(
        """
        import os, subprocess, sys, bbipc
        assert "BBIPC_PARENT" in os.environ
        with bbipc.connect_to_parent() as parent:
            grandchild = [sys.executable, "-c", "import os; print('BBIPC_PARENT' in os.environ)"]
            printed = subprocess.check_output(grandchild, text=True).strip()
            try:
                bbipc.connect_to_parent()
            except bbipc.SocketError as error:
                printed += f" {error.errno} {error}"
            parent.send_message(f"{'BBIPC_PARENT' in os.environ} {printed}".encode())
        """
    )
    message = stream.receive_message(PATIENCE).decode()
    assert message.startswith(f"False False {errno.EALREADY} ")
    assert "connect_to_parent() was called before" in message


def test_a_process_that_was_not_started_so_is_told_what_to_do() -> None:
    output = run_program(
        """
        import os, bbipc
        os.environ.pop("BBIPC_PARENT", None)
        for _ in range(2):
            try:
                bbipc.connect_to_parent()
            except bbipc.SocketError as error:
                print(error.errno, error)
        """
    )
    assert len(output.splitlines()) == 2
    for line in output.splitlines():
        assert line.startswith(f"{errno.ENOTCONN} ")
        assert "not started by bbipc.start_process(); start it so" in line


def test_one_of_several_threads_gets_the_stream(children: Children) -> None:
    _, stream = children.start(
        """
        import threading, bbipc
        together, got = threading.Barrier(8), []
        def connect():
            together.wait()
            try:
                got.append(bbipc.connect_to_parent())
            except bbipc.SocketError as error:
                got.append(error.errno)
        threads = [threading.Thread(target=connect) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (parent,) = [one for one in got if isinstance(one, bbipc.LocalStream)]
        parent.send_message(repr({one for one in got if one is not parent}).encode())
        """
    )
    assert stream.receive_message(PATIENCE) == repr({errno.EALREADY}).encode()


#: Values of a variable that is meant for another process, or for none.
STALE = ["", "5", "999 1:2", "x y", "-1 1:2", "\\\\.\\pipe\\bbipc-child-nobody " + "00" * 64, "0 " + "1" * 400]
#: More than a descriptor can be.
STALE += [f"{2**31} 1:2", "9" * 30 + " 1:2"]


@pytest.mark.parametrize("value", STALE)
def test_a_variable_of_another_process_takes_no_descriptor(value: str) -> None:
    # Its standard input is a socket, and so is what a wrong number may name.
    program = """
        import os, socket, sys, bbipc
        mine = socket.create_server(("127.0.0.1", 0))
        os.environ["BBIPC_PARENT"] = sys.argv[1].replace("5", str(mine.fileno()))
        try:
            bbipc.connect_to_parent()
        except bbipc.SocketError as error:
            print(error.errno, "BBIPC_PARENT is meant for another process" in str(error))
        mine.getsockname()
        try:
            bbipc.connect_to_parent()
        except bbipc.SocketError as error:
            print(error.errno, "was called before" in str(error))
    """
    assert run_program(program, value).split() == [str(errno.ENOTCONN), "True", str(errno.EALREADY), "True"]


@pytest.mark.skipif(WINDOWS, reason="nothing is inherited there, as test_importing.py shows; the next test is for both")
def test_nothing_else_is_inherited(children: Children) -> None:
    server = bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 0)
    others = [children.start(ECHO)[1] for _ in range(3)]
    program = f"""
        import sys
        sys.path[:0] = {[str(ROOT / "tests" / "support")]!r}
        import systems
        before = systems.open_descriptors()
        import bbipc
        with bbipc.connect_to_parent() as parent:
            assert parent.fileno() in before
            parent.send_message(repr(sorted(set(before) - {{parent.fileno()}})).encode())
    """
    _, stream = children.start(program, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert stream.receive_message(PATIENCE) == b"[0, 1, 2]"
    server.close()
    # Nor do children have each other's.
    for other in others:
        other.send_message(b"x", PATIENCE)
        assert other.receive_message(PATIENCE) == b"X"


@pytest.mark.skipif(WINDOWS, reason="no descriptor is handed on there")
def test_a_process_without_standard_streams_has_children() -> None:
    """The numbers of the standard streams are free in it, and its sockets get them."""
    program = """
        import os, subprocess, sys, bbipc
        output = os.dup(1)
        os.close(0)
        os.close(1)
        child = "import bbipc; parent = bbipc.connect_to_parent(); parent.send_message(b'%d' % parent.fileno())"
        nowhere = subprocess.DEVNULL
        process, stream = bbipc.start_process([sys.executable, "-c", child], stdin=nowhere, stdout=nowhere)
        os.write(output, stream.receive_message(30))
        assert process.wait(30) == 0
        stream.close()
    """
    assert int(run_program(program)) > 2


def test_children_are_independent_of_each_other(children: Children) -> None:
    """A child that inherited another's end would keep that one's stream from ending."""
    made = [children.start(ECHO) for _ in range(4)]
    for _, stream in made:
        stream.send_message(b"x", PATIENCE)
        assert stream.receive_message(PATIENCE) == b"X"
    for process, stream in made:
        stream.close()
        assert process.wait(PATIENCE) == 0


# ---- Arguments of Popen ----


def test_what_popen_takes_is_taken(children: Children, tmp_path: Path) -> None:
    process, stream = children.start(
        """
        import os, sys, bbipc
        with bbipc.connect_to_parent() as parent:
            parent.send_message(f"{os.environ['ITS_OWN']} {os.getcwd()} {sys.stdin.read()}".encode())
            print("printed")
        """,
        env={**os.environ, "ITS_OWN": "value"},
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    output, _ = process.communicate("input", timeout=PATIENCE)
    assert output == "printed\n"
    variable, directory, given = stream.receive_message(PATIENCE).decode().split()
    assert (variable, given) == ("value", "input")
    assert os.path.samefile(directory, tmp_path)
    assert "BBIPC_PARENT" not in os.environ


@pytest.mark.skipif(sys.platform == "win32", reason="an environment of bytes is of POSIX systems")
def test_a_stale_variable_in_an_environment_of_bytes_is_replaced(children: Children) -> None:
    environment = {os.fsencode(name): os.fsencode(value) for name, value in os.environ.items()}
    environment = {b"BBIPC_PARENT": b"3 1:2", **environment}
    _, stream = children.start("import bbipc; bbipc.connect_to_parent().send_message(b'here')", env=environment)
    assert stream.receive_message(PATIENCE) == b"here"
    assert environment[b"BBIPC_PARENT"] == b"3 1:2"


@pytest.mark.skipif(sys.platform == "win32", reason="pass_fds, preexec_fn and close_fds=False are of POSIX systems")
def test_descriptors_are_passed_on_besides(children: Children) -> None:
    reading, writing = os.pipe()
    given = [writing]
    _, stream = children.start(
        f"import os, bbipc; os.write({writing}, b'x'); bbipc.connect_to_parent().send_message(b'done')",
        pass_fds=given,
        preexec_fn=lambda: os.setpgid(0, 0),
    )
    os.close(writing)
    assert given == [writing]
    assert stream.receive_message(PATIENCE) == b"done"
    assert os.read(reading, 10) == b"x"
    os.close(reading)
    before = open_descriptors()
    with pytest.raises(ValueError, match="name those that the child is to have in pass_fds"):
        bbipc.start_process([sys.executable, "-c", ""], close_fds=False)
    assert open_descriptors() == before


@pytest.mark.parametrize("wrong", ["program", "argument", "preexec"])
def test_nothing_is_left_where_a_process_can_not_be_started(wrong: str, tmp_path: Path) -> None:
    """no_descriptor_leaks looks at the rest."""
    if wrong == "preexec" and WINDOWS:
        pytest.skip("there is no preexec_fn")
    for _ in range(3):
        if wrong == "program":
            with pytest.raises(FileNotFoundError):
                bbipc.start_process([str(tmp_path / "nothing")])
        elif wrong == "argument":
            with pytest.raises(TypeError):
                bbipc.start_process([sys.executable], no_such_argument=1)
        else:
            with pytest.raises(subprocess.SubprocessError):
                bbipc.start_process([sys.executable, "-c", ""], preexec_fn=lambda: 1 / 0)


# ---- Through others ----

#: Starts what it is told to, and hands on the environment alone: as the python.exe of a virtual environment does.
LAUNCHER = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:], close_fds=True))"


@pytest.mark.skipif(not WINDOWS, reason="elsewhere programs between the two have to hand on a descriptor")
def test_a_launcher_that_hands_on_nothing_may_stand_between(children: Children) -> None:
    process, stream = children.start(LAUNCHER, sys.executable, "-c", ECHO)
    stream.send_message(b"x", PATIENCE)
    assert stream.receive_message(PATIENCE) == b"X"
    stream.close()
    assert process.wait(PATIENCE) == 0


#: Tells the name of its pipe, and waits for a line.
TELL = """
import os, sys
print(os.environ["BBIPC_PARENT"].partition(" ")[0], flush=True)
sys.stdin.readline()
"""


def pipe_of(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


@pytest.mark.skipif(not WINDOWS, reason="a pipe has a name, and others can open it")
def test_a_child_that_ends_while_a_stranger_has_its_pipe_is_seen(children: Children) -> None:
    process, stream = children.start(TELL, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with bbipc.connect_to_local_server(pipe_of(process)):
        process.communicate(b"\n", timeout=PATIENCE)
        # Longer than the parent waits between two looks at the child.
        assert not poll_socket(stream, Events.DETERMINED, 3 * SEEN_WITHIN)
    assert poll_socket(stream, Events.END_OF_DATA, PATIENCE)


@pytest.mark.skipif(not WINDOWS, reason="a pipe has a name, and others can open it")
def test_a_child_waits_while_a_stranger_has_its_pipe(children: Children) -> None:
    process, stream = children.start(TELL + ECHO, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    with bbipc.connect_to_local_server(pipe_of(process)):
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert not poll_socket(stream, Events.DETERMINED, 3 * SEEN_WITHIN)
    stream.send_message(b"x", PATIENCE)
    assert stream.receive_message(PATIENCE) == b"X"


@pytest.mark.skipif(WINDOWS, reason="the test before is for Windows")
def test_a_program_that_closes_descriptors_is_no_launcher(children: Children) -> None:
    child = "import bbipc\ntry:\n  bbipc.connect_to_parent()\nexcept bbipc.SocketError as error:\n  print(error)"
    process, stream = children.start(LAUNCHER, sys.executable, "-c", child, stdout=subprocess.PIPE)
    output, _ = process.communicate(timeout=PATIENCE)
    assert b"closed by a program between the two" in output
    assert poll_socket(stream, Events.END_OF_DATA, PATIENCE)


@pytest.mark.skipif(WINDOWS, reason="it is a shell of POSIX systems")
@pytest.mark.parametrize("command", ['exec "$0" -c "$1"', '"$0" -c "$1"; exit'])
def test_a_shell_may_stand_between(children: Children, command: str) -> None:
    process, stream = children.start_command(["sh", "-c", command, sys.executable, ECHO])
    stream.send_message(b"x", PATIENCE)
    assert stream.receive_message(PATIENCE) == b"X"
    stream.close()
    assert process.wait(PATIENCE) == 0


@pytest.mark.skipif(WINDOWS, reason="the Python of these tests is the embeddable one, which makes no environments")
def test_the_python_of_a_virtual_environment_is_a_child(children: Children, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    # What this process imports is no part of a new environment.
    packages = os.pathsep.join(filter(None, sys.path))
    program = "import sys; assert sys.prefix != sys.base_prefix\n" + ECHO
    command = [str(tmp_path / "venv" / "bin" / "python"), "-c", program]
    process, stream = children.start_command(command, env={**os.environ, "PYTHONPATH": packages})
    stream.send_message(b"x", PATIENCE)
    assert stream.receive_message(PATIENCE) == b"X"
    process.kill()
    assert poll_socket(stream, Events.END_OF_DATA, PATIENCE)


# ---- Many ----


def test_threads_start_processes_at_the_same_time() -> None:
    def start(number: int) -> None:
        for _ in range(2):
            process, stream = bbipc.start_process([sys.executable, "-c", ECHO])
            with process:
                with stream:
                    stream.send_message(b"child %d" % number, PATIENCE)
                    assert stream.receive_message(PATIENCE) == b"CHILD %d" % number
                # Although the other threads' children live.
                assert process.wait(PATIENCE) == 0

    threads = [Failing(partial(start, number)) for number in range(4)]
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("count", [10, pytest.param(500, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
def test_many_children(children: Children, count: int) -> None:
    """Up to 50 at a time: each is a Python."""
    at_a_time = 50
    for first in range(0, count, at_a_time):
        made = [children.start(ECHO) for _ in range(first, min(count, first + at_a_time))]
        for number, (_, stream) in enumerate(made):
            stream.send_message(b"child %d" % number, PATIENCE)
        for number, (_, stream) in enumerate(made):
            assert stream.receive_message(PATIENCE) == b"CHILD %d" % number
        # Half of them end by themselves, half are killed.
        for number, (process, stream) in enumerate(made):
            if number % 2:
                stream.close()
                assert process.wait(PATIENCE) == 0
            else:
                process.kill()
                assert poll_socket(stream, Events.REMOTE_DISCONNECTED, PATIENCE)
