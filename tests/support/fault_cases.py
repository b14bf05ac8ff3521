"""Programs of test_faults.py, each in a process of its own: `python fault_cases.py NAME [ARGUMENT ...]`.

They change what a process has for itself alone: limits, system call filters, namespaces, directories. One that strace
runs finds a thread of its own stopped where strace delays a system call. An assertion that fails is the test's.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import faulthandler
import os
import platform
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

import bbipc
from bbipc import Events, LocalStream, StreamSocket
from bbipc._native import by_ctypes, declarations, results
from bbipc._native.library import releasing

if sys.platform != "win32":
    # Windows runs none of the programs, but reads their tests.
    import resource

#: Seconds. A program that hangs is ended after these, and says where it hangs.
HANGS = 10.0

#: Seconds. The timeout of a wait that nothing ends.
A_WHILE = 0.2

#: Seconds of processor time that a wait of A_WHILE takes at the most.
BUSY = 0.1


def local_pair(name: str = "pair") -> tuple[LocalStream, LocalStream]:
    with bbipc.make_local_server(name) as server:
        return bbipc.connect_to_local_server(name), server.accept_connection()


def fill(stream: StreamSocket) -> None:
    while stream.write(bytes(65536)):
        pass


def set_soft_limit(count: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def exit_status(process_id: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1])


def in_child(work: Callable[[], object]) -> int:
    """Forks a child that does the work. Its exit status: 0, or 1 if the work raises, or what the work exits with."""
    child = os.fork()
    if child:
        return exit_status(child)
    status = 1
    try:
        work()
        status = 0
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException as error:
        # Where there are no descriptors left, a traceback can't be printed.
        os.write(2, f"in the child: {error!r}\n".encode())
    finally:
        os._exit(status)


class Thread(threading.Thread):
    """A thread, what its work returned or raised, and whether strace has it stopped."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self.result: object = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self._work()
        except Exception as error:
            self.result = error

    def _until(self, state: str, *, other_than: str = "") -> str:
        """Waits until it is in the state for a while, in another system call. The number of that."""
        give_up_at = time.monotonic() + HANGS
        looks = 0
        while True:
            place = f"/proc/self/task/{self.native_id}/"
            with open(place + "stat") as stat, open(place + "syscall") as syscall:
                now, call = stat.read().rpartition(")")[2].split()[0], syscall.read().split()[0]
            looks = looks + 1 if now == state and call != other_than else 0
            if looks == 4:
                return call
            assert time.monotonic() < give_up_at, f"the thread is {now} in {call}, and never {state}"
            time.sleep(0.005)

    def until_delayed(self, other_than: str = "") -> str:
        """Waits until strace delays a system call of the thread."""
        return self._until("t", other_than=other_than)

    def until_asleep(self) -> str:
        return self._until("S")

    def ended(self, within: float = 3.0) -> object:
        """What it returned or raised, in time."""
        self.join(within)
        assert not self.is_alive(), "the thread hangs"
        return self.result


# ---- Descriptors that can't be had ----


def _first_wait_fails(stream: StreamSocket, refuse: Callable[[], None], allow: Callable[[], None]) -> None:
    before = os.fstat(0)
    refuse()
    for _ in range(3):
        with contextlib.suppress(bbipc.SocketError):
            bbipc.poll_socket(stream, Events.DATA_AVAILABLE, 0.01)
    allow()
    now = os.fstat(0)
    assert (now.st_dev, now.st_ino) == (before.st_dev, before.st_ino), os.readlink("/proc/self/fd/0")
    assert bbipc.poll_socket(stream, Events.DATA_AVAILABLE, 0.01) == Events()
    now = os.fstat(0)
    assert (now.st_dev, now.st_ino) == (before.st_dev, before.st_ino), os.readlink("/proc/self/fd/0")


def a_wait_without_descriptors() -> None:
    """The first wait of a forked child that is at its limit."""
    _, stream = local_pair()

    def refuse() -> None:
        set_soft_limit(40)
        with contextlib.suppress(OSError):
            while True:
                os.dup(1)

    assert in_child(lambda: _first_wait_fails(stream, refuse, lambda: set_soft_limit(60))) == 0


def a_wait_without_eventfd() -> None:
    """eventfd2 is refused from a child's first wait on, and descriptor 0 is the program's own socket."""

    def work() -> None:
        os.close(0)
        with socket.socket(socket.AF_UNIX) as mine:
            assert mine.fileno() == 0
            deny(["eventfd2"], errno.ENFILE)
            _, stream = local_pair()
            for _ in range(2):
                with contextlib.suppress(bbipc.SocketError):
                    bbipc.poll_socket(stream, Events.DATA_AVAILABLE, 0.01)
            mine.getsockname()

    assert in_child(work) == 0


# ---- RLIMIT_NOFILE 0 ----


def no_descriptors_allowed(what: str) -> None:
    """The answer is right, or there is an error: no wrong answer, and no endless wait."""
    other, stream = local_pair()
    empty, full = local_pair("second")
    fill(full)
    server = bbipc.make_local_server("server")
    client = bbipc.connect_to_local_server("server")
    made = {backend: bbipc.make_poller(backend) for backend in ("epoll", "poll")}
    for poller in made.values():
        poller.monitor_socket(stream, Events.DATA_AVAILABLE)
    other.write(b"hello")
    both = [(stream, Events.DATA_AVAILABLE)]
    answers: dict[str, tuple[Callable[[], object], object]] = {
        "data_available": (stream.data_available, True),
        "end_of_data": (stream.end_of_data, False),
        "ready_to_write": (stream.ready_to_write, True),
        "connection_available": (server.connection_available, True),
        "connection_error": (stream.connection_error, None),
        "read": (lambda: stream.read(peek=True), b"hello"),
        "poll_socket now": (lambda: bbipc.poll_socket(stream, Events.DATA_AVAILABLE, 0), Events.DATA_AVAILABLE),
        "poll_socket": (lambda: bbipc.poll_socket(stream, Events.DATA_AVAILABLE, A_WHILE), Events.DATA_AVAILABLE),
        "poll_socket of nothing": (lambda: bbipc.poll_socket(other, Events.DATA_AVAILABLE, A_WHILE), Events()),
        "poll_sockets": (
            lambda: bbipc.poll_sockets([stream, other], Events.DATA_AVAILABLE, A_WHILE),
            [*both[0][1:], Events()],
        ),
        "epoll": (lambda: made["epoll"].wait_for_events(A_WHILE), both),
        "poll": (lambda: made["poll"].wait_for_events(A_WHILE), both),
        "read_exactly": (lambda: stream.read_exactly(5, A_WHILE), b"hello"),
        "read_exactly of more": (lambda: stream.read_exactly(6, A_WHILE), None),
        "write_all of more": (lambda: full.write_all(bytes(9), A_WHILE), None),
        "signal": (lambda: bbipc.poll_socket(other, Events.DATA_AVAILABLE), None),
    }
    call, right = answers[what]
    handled: list[int] = []
    if what == "signal":
        # A wait without a timeout lets the handler run, which ends it.
        signal.signal(signal.SIGALRM, lambda *_: (handled.append(1), other.close()))
        signal.setitimer(signal.ITIMER_REAL, A_WHILE)
    set_soft_limit(0)
    began, used = time.monotonic(), time.process_time()
    try:
        answer: object = call()
    except (bbipc.BbipcError, MemoryError):
        pass
    else:
        assert answer == right, f"{what} answers {answer!r}, right is {right!r}"
    took, used = time.monotonic() - began, time.process_time() - used
    assert took < 10 * A_WHILE, f"{what} takes {took} s"
    assert used < BUSY, f"{what} takes {used} s of a processor"
    set_soft_limit(100)
    for one in (empty, client, server, *made.values()):
        one.close()


def a_limit_below_what_a_poller_has() -> None:
    low_numbers = [os.dup(1) for _ in range(4)]
    pairs = [local_pair(f"pair{number}") for number in range(40)]
    made = [bbipc.make_poller(backend) for backend in ("epoll", "poll")]
    for poller in made:
        for _, stream in pairs:
            poller.monitor_socket(stream, Events.DATA_AVAILABLE)
    writer, stream = pairs[7]
    writer.write(b"x")
    set_soft_limit(20)
    for one in low_numbers:
        os.close(one)
    for poller in made:
        assert poller.wait_for_events(A_WHILE) == [(stream, Events.DATA_AVAILABLE)]
    assert stream.read() == b"x"
    # And it waits, rather than ask again and again; what comes meanwhile ends the wait.
    for poller in made:
        used = time.process_time()
        assert poller.wait_for_events(A_WHILE) == []
        assert time.process_time() - used < BUSY, "the wait uses the processor"
    waiting = [Thread(poller.wait_for_events) for poller in made]
    for one in waiting:
        one.until_asleep()
    writer.write(b"y")
    for one in waiting:
        assert one.ended() == [(stream, Events.DATA_AVAILABLE)], one.result


# ---- Filters of system calls (seccomp(2)) ----

_NUMBERS = {
    "x86_64": (0xC000003E, {"eventfd2": 290, "statx": 332}),
    "aarch64": (0xC00000B7, {"eventfd2": 19, "statx": 291}),
}


def can_deny() -> bool:
    return platform.machine() in _NUMBERS


def deny(names: list[str], code: int) -> None:
    """The system calls fail with the code from here on."""
    libc = ctypes.CDLL(None, use_errno=True)
    architecture, numbers = _NUMBERS[platform.machine()]
    load, equal, answer = 0x20, 0x15, 0x06
    # Calls of another architecture are let through: nobody makes any.
    filters = [(load, 0, 0, 4), (equal, 1, 0, architecture), (answer, 0, 0, 0x7FFF0000), (load, 0, 0, 0)]
    for name in names:
        filters += [(equal, 0, 1, numbers[name]), (answer, 0, 0, 0x00050000 | code)]
    filters.append((answer, 0, 0, 0x7FFF0000))
    code_bytes = b"".join(struct.pack("HBBI", *one) for one in filters)
    kept = ctypes.create_string_buffer(code_bytes, len(code_bytes))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(filters), ctypes.addressof(kept)))
    assert libc.prctl(38, 1, 0, 0, 0) == 0, "PR_SET_NO_NEW_PRIVS"
    assert libc.prctl(22, 2, program, 0, 0) == 0, f"PR_SET_SECCOMP: {os.strerror(ctypes.get_errno())}"


def a_server_without_statx(error: str) -> None:
    deny(["statx"], getattr(errno, error))
    for _ in range(2):  # The second finds the pathname free.
        with bbipc.make_local_server("server"), bbipc.connect_to_local_server("server"):
            pass
        assert not os.path.lexists("server")
    # It is still told from another's file.
    with bbipc.make_local_server("server"):
        os.rename("server", "moved")
        with open("server", "w"):
            pass
    assert os.path.exists("server")


# ---- Mappings that can't be split ----


def no_mapping_is_left(what: str) -> None:
    """munmap(2) fails with ENOMEM where it must split a mapping, at vm.max_map_count."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    pollers = [bbipc.make_poller() for _ in range(8)]
    servers = [bbipc.make_local_server(f"server{number}") for number in range(8)]
    stream = bbipc.connect_to_local_server("server0")
    count = 0
    # The kernel does not join neighbours that differ. No list of them is kept, for it would need memory itself.
    while libc.mmap(None, 4096, 1 if count & 1 else 3, 0x22, -1, 0) not in (None, 2**64 - 1, 2**32 - 1):
        count += 1
    if what == "poller":
        pollers[3].close()
    elif what == "server":
        servers[3].close()
    else:
        for _ in range(50):
            with contextlib.suppress(MemoryError):
                happened = bbipc.poll_sockets([stream] * 600, Events.READY_TO_WRITE, 0)
                assert happened == [Events.READY_TO_WRITE] * 600
    for one in (*pollers, *servers, stream):
        one.close()


# ---- What happens just then: strace delays a system call ----


def finish_writing_before_the_wait() -> None:
    """The library has been told that there is no room, and does not wait yet: sendto is delayed behind.

    That is one call of the library's, which releases the GIL and waits for ever.
    """
    stream, other = local_pair()
    fill(stream)
    writing = Thread(lambda: by_ctypes.write_all(stream._handle, b"more", 0, declarations.FOREVER))
    writing.until_delayed()
    stream.finish_writing()
    result = writing.ended()
    assert isinstance(result, int), result
    # It is woken, with nothing written, or fails at once.
    assert result == 0 or results.code_of(result) in (0, errno.EPIPE), result
    other.close()


def a_question_beside_finish_writing() -> None:
    """A thread finishes a stream while another asks whether it has data: both calls of poll are delayed behind.

    To finish it without the GIL is what only Pythons without one do.
    """
    stream, other = local_pair()
    finish = releasing.bbipc_finish_writing
    finish.argtypes = [ctypes.c_int64, ctypes.POINTER(ctypes.c_int32)]
    finishing = Thread(lambda: finish(stream._handle, ctypes.byref(ctypes.c_int32())))
    finishing.until_delayed()
    assert stream.data_available() is False
    assert finishing.ended() == 0
    assert other.end_of_data()
    other.close()
    stream.close()


def until_delayed(process_id: int) -> None:
    """Waits until strace delays a system call of another process's main thread."""
    give_up_at = time.monotonic() + HANGS
    looks = 0
    while looks < 4:
        with open(f"/proc/{process_id}/stat") as stat:
            looks = looks + 1 if stat.read().rpartition(")")[2].split()[0] == "t" else 0
        assert time.monotonic() < give_up_at
        time.sleep(0.005)


def a_client_that_another_takes() -> None:
    """A child made the shared listener blocking, and takes the only client just before accept4, which is delayed."""
    server = bbipc.make_ipv4_tcp_server("127.0.0.1", 0)
    thief = os.fork()
    if thief == 0:
        listener = socket.socket(fileno=os.dup(server.fileno()))
        # A thread's first accept4 is delayed: the child's is this one.
        listener.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            listener.accept()
        listener.setblocking(True)
        until_delayed(os.getppid())
        listener.accept()
        os._exit(0)
    while not os.get_blocking(server.fileno()):
        time.sleep(0.005)
    client = socket.create_connection(("127.0.0.1", server.port))
    assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, HANGS)
    began = time.monotonic()
    with contextlib.suppress(bbipc.NoConnectionAvailableError):
        server.accept_connection()
        raise AssertionError("the client has been accepted twice")
    assert time.monotonic() - began < 3
    assert exit_status(thief) == 0
    client.close()
    server.close()


def the_directory_changes(what: str) -> None:
    """Another thread changes the directory after getcwd and before bind; perhaps somebody listens at the old name.

    chdir is delayed, and bind for longer.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    os.makedirs("a")
    os.makedirs("b")
    os.chdir("a")  # This thread's first chdir, and its first bind, are delayed now.
    other = bbipc.make_local_server("x" if what == "taken" else "other")
    changing = Thread(lambda: libc.chdir(b"../b"))
    changing.until_delayed()
    server = None
    try:
        server = bbipc.make_local_server("x")
    except bbipc.SocketError as error:
        if (error.errno, what) != (errno.EADDRINUSE, "taken"):
            raise
    assert changing.ended() == 0
    assert os.path.basename(os.getcwd()) == "b"
    if server is not None:
        server.close()
    os.chdir("..")
    assert os.listdir("b") == []
    assert os.listdir("a") == ["x" if what == "taken" else "other"], "a wrong file has been deleted, or none"
    if what == "taken":
        bbipc.connect_to_local_server("a/x").close()
    os.chdir("a")
    other.close()


def a_fork_before_the_last_close() -> None:
    """A thread ends its wait for a stream that has been closed, and is about to close the descriptor.

    ppoll is delayed behind, so that the thread is the last that uses the stream; and close before.
    """
    stream, other = local_pair()
    # This thread's first close is delayed now.
    os.close(os.open(os.devnull, os.O_RDONLY))
    bbipc.poll_socket(stream, Events.DATA_AVAILABLE, 0.001)
    file = os.fstat(stream.fileno())
    waiting = Thread(lambda: bbipc.poll_socket(stream, Events.DATA_AVAILABLE))
    wait = waiting.until_asleep()
    stream.close()
    waiting.until_delayed(other_than=wait)

    def look() -> None:
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                one = os.fstat(int(name))
                assert (one.st_dev, one.st_ino) != (file.st_dev, file.st_ino), f"the child has it as {name}"

    assert in_child(look) == 0
    assert isinstance(waiting.ended(), bbipc.SocketClosedError), waiting.result
    other.close()


# ---- Process numbers: in a PID namespace of their own ----


def a_child_with_the_same_number() -> None:
    """This process has the number 1, and so has its child in the next namespace."""
    assert os.getpid() == 1
    libc = ctypes.CDLL(None, use_errno=True)
    server = bbipc.make_local_server("server")
    poller = bbipc.make_poller()
    poller.monitor_socket(server, Events.CONNECTION_AVAILABLE)
    assert libc.unshare(0x20000000) == 0, os.strerror(ctypes.get_errno())

    def work() -> None:
        assert os.getpid() == 1
        for use in (lambda: poller.unmonitor_socket(server), lambda: poller.wait_for_events(0)):
            with contextlib.suppress(bbipc.WrongProcessError):
                use()
                raise AssertionError("a child uses its parent's poller")
        poller.close()
        server.close()

    assert in_child(work) == 0
    assert os.path.exists("server"), "a child has deleted its parent's socket file"
    with bbipc.connect_to_local_server("server"):
        assert poller.wait_for_events(A_WHILE) == [(server, Events.CONNECTION_AVAILABLE)]
    poller.close()
    server.close()
    assert not os.path.exists("server")


def a_process_with_its_makers_number() -> None:
    """A server's maker has ended; what gets its number later is another process, and the server lives."""

    def maker() -> None:
        number = os.getpid()
        server = bbipc.make_local_server("server")
        child = os.fork()
        if child:
            os._exit(0)
        while os.getppid() == number:
            time.sleep(0.001)
        os._exit(heir(number, server))

    def heir(number: int, server: bbipc.LocalServer) -> int:
        for _ in range(200):
            with open("/proc/sys/kernel/ns_last_pid", "w") as file:
                file.write(str(number - 1))
            grandchild = os.fork()
            if grandchild == 0:
                if os.getpid() == number:
                    server.close()
                    os._exit(7)
                os._exit(0)
            if exit_status(grandchild) == 7:
                bbipc.connect_to_local_server("server").close()
                return 0 if os.path.exists("server") else 2
        return 3

    assert os.getpid() == 1
    child = os.fork()
    if child == 0:
        maker()
    assert exit_status(child) == 0
    # As process 1, this one gets the orphans.
    status = exit_status(-1)
    assert status == 0, {1: "it failed", 2: "the socket file has been deleted", 3: "the number never came again"}[
        status
    ]


PROGRAMS: dict[str, Callable[..., None]] = {
    program.__name__: program
    for program in (
        a_wait_without_descriptors,
        a_wait_without_eventfd,
        no_descriptors_allowed,
        a_limit_below_what_a_poller_has,
        a_server_without_statx,
        no_mapping_is_left,
        finish_writing_before_the_wait,
        a_question_beside_finish_writing,
        a_client_that_another_takes,
        the_directory_changes,
        a_fork_before_the_last_close,
        a_child_with_the_same_number,
        a_process_with_its_makers_number,
    )
}

if __name__ == "__main__":
    faulthandler.dump_traceback_later(HANGS, exit=True)
    PROGRAMS[sys.argv[1]](*sys.argv[2:])
    faulthandler.cancel_dump_traceback_later()
