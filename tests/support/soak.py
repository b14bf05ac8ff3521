"""The same thing very often, and everything at once, a program of test_soak.py: `python soak.py PART ARGUMENT`.

Each part prints its figures: `cycles tcp 100000`, `endings 20000`, `threads 60` (seconds).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import faulthandler
import gc
import itertools
import os
import random
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import bbipc
import systems
from bbipc import Events, Poller, StreamServer, StreamSocket
from bbipc._native.declarations import finish_writes, open_handles, pending_operations
from patience import PATIENCE, QEMU
from peer import Pattern
from systems import BACKENDS

if sys.platform == "win32":
    import windows

THREADS = 64


# ---- What a process holds ----


class Held:
    """How much of everything this process holds now."""

    def __init__(self) -> None:
        gc.collect()
        assert finish_writes(int(PATIENCE * 1e9)) == 1
        self.operations = settled(pending_operations)
        self.handles = open_handles()
        self.threads = threading.active_count()
        if sys.platform == "win32":
            self.descriptors = settled(lambda: len(windows.open_handles()))
            self.rss_kib = self.pss_kib = windows.resident_bytes() // 1024
            return
        # What the allocator keeps for later is nobody's. Only glibc has this.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
        self.descriptors = len(systems.open_descriptors())
        if sys.platform != "linux":
            self.rss_kib = self.pss_kib = systems.resident_bytes(os.getpid()) // 1024
            return
        rollup = Path("/proc/self/smaps_rollup").read_text()
        fields = dict(line.split(":", 1) for line in rollup.splitlines()[1:])
        # PSS leaves out what other processes share, such as the interpreter's own pages.
        self.rss_kib, self.pss_kib = (int(fields[name].split()[0]) for name in ("Rss", "Pss"))

    def __str__(self) -> str:
        return (
            f"descriptors {self.descriptors}, handles {self.handles}, operations {self.operations},"
            f" threads {self.threads}, RSS {self.rss_kib} KiB, PSS {self.pss_kib} KiB"
        )

    def check_not_more_than(self, before: Held, growth_kib_max: int) -> None:
        for name in ("descriptors", "handles", "operations", "threads"):
            assert getattr(self, name) == getattr(before, name), f"{before} -> {self}"
        assert self.rss_kib - before.rss_kib <= growth_kib_max, f"{before} -> {self}"


def settled(look: Callable[[], int]) -> int:
    """A number that no longer changes. Windows ends some things a moment after all has been closed."""
    number = look()
    if sys.platform != "win32":
        return number
    give_up_at = time.perf_counter() + PATIENCE
    looks = 0
    while looks < 20 and time.perf_counter() < give_up_at:
        time.sleep(0.01)
        now = look()
        looks = looks + 1 if now == number else 0
        number = now
    return number


# ---- Connect, echo, close ----

#: KiB. What allocators and caches may settle at after the first cycles. Ten bytes lost in each of 100,000 exceed it.
CYCLES_GROWTH_MAX = 768


class Cycles:
    """Connects, has bytes echoed and closes, over and over, with pollers that stay.

    A closed TCP connection keeps its pair of addresses for a minute (TIME_WAIT), on the side that closed first. Linux
    has 28,000 ports to connect from, to one address. So the connections go to many of the loopback addresses in turn,
    if there are many, rather than being reset, which would be another way to close. The sides take turns at closing
    first.
    """

    def __init__(self, namespace: str, directory: Path) -> None:
        self._server: StreamServer
        self._connect: Callable[[], StreamSocket]
        if namespace == "tcp":
            self._server = tcp = bbipc.make_ipv4_tcp_server(bbipc.IPV4_ANY, 0)
            port = tcp.port
            addresses = itertools.cycle(systems.LOOPBACKS)
            self._connect = lambda: bbipc.connect_to_ipv4_tcp_server(next(addresses), port)
        else:
            pathname = directory / "server"
            self._server = bbipc.make_local_server(pathname)
            self._connect = lambda: bbipc.connect_to_local_server(pathname)
        self._pollers = [bbipc.make_poller(name) for name in BACKENDS]

    def run(self, count: int) -> None:
        for number in range(count):
            poller = self._pollers[number % len(self._pollers)]
            client = self._connect()
            assert bbipc.poll_socket(self._server, Events.CONNECTION_AVAILABLE, PATIENCE)
            accepted = self._server.accept_connection()
            poller.monitor_socket(accepted, Events.DATA_AVAILABLE)
            question = b"%64d" % number
            client.write_all(question, PATIENCE)
            assert poller.wait_for_events(PATIENCE) == [(accepted, Events.DATA_AVAILABLE)]
            accepted.write_all(accepted.read(64), PATIENCE)
            assert client.read_exactly(64, PATIENCE) == question
            first, second = (client, accepted) if number // 2 % 2 else (accepted, client)
            first.close()
            assert bbipc.poll_socket(second, Events.END_OF_DATA, PATIENCE)
            second.close()

    def close(self) -> None:
        self._server.close()
        for poller in self._pollers:
            poller.close()


def soak_cycles(namespace: str, count: str) -> None:
    directory = systems.make_directory()
    cycles = Cycles(namespace, directory)
    cycles.run(1000)
    before = Held()
    began = time.monotonic()
    cycles.run(int(count))
    elapsed = time.monotonic() - began
    after = Held()
    print(f"{count} cycles over {namespace} in {elapsed:.1f} s\nbefore: {before}\nafter:  {after}")
    after.check_not_more_than(before, CYCLES_GROWTH_MAX)
    cycles.close()
    shutil.rmtree(directory)


# ---- Closed in the middle of everything ----


class Endings:
    """Opens local streams, writes and closes, over and over, while all that can be under way is under way.

    Waits for data at both ends, a client that nobody accepts, and a write that the system has no room for. The remote
    end reads afterwards: every byte that was written is there.
    """

    #: Bytes; None for as many as the system takes, and on Windows a write that it has no room for besides.
    SIZES: tuple[int | None, ...] = (1, 4096, 65536, 0, None)

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pollers = [bbipc.make_poller(name) for name in BACKENDS]
        self._random = random.Random(1)
        self.bytes_read = 0
        self.pending_max = 0

    def run(self, count: int) -> None:
        for number in range(count):
            self._run_once(number, self._pollers[number % len(self._pollers)], self.SIZES[number % len(self.SIZES)])

    def _run_once(self, number: int, poller: Poller, size: int | None) -> None:
        # The same few names over and over: each is free again when all is closed.
        server = bbipc.make_local_server(self._directory / str(number % 7), backlog=2)
        streams = [bbipc.connect_to_local_server(server.local_pathname)]
        assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
        streams.append(server.accept_connection())
        if number % 3 == 0:
            streams.append(bbipc.connect_to_local_server(server.local_pathname))
        poller.monitor_socket(server, Events())
        for stream in streams:
            poller.monitor_socket(stream, Events.DATA_AVAILABLE)
        assert poller.wait_for_events(0) == []
        writer, reader = streams[:2] if number % 2 else streams[1::-1]
        written = write_what_fits(writer, Pattern(number), size)
        if number // 2 % 2:
            poller.wait_for_events(0)
        self.pending_max = max(self.pending_max, pending_operations())
        ending = [server, writer, *streams[2:]]
        self._random.shuffle(ending)
        for one in ending:
            one.close()
        assert reader.read_exactly(written, PATIENCE) == Pattern(number).at(0, written)
        assert bbipc.poll_socket(reader, Events.END_OF_DATA, PATIENCE)
        reader.close()
        self.bytes_read += written
        # Where the system still has something of a pipe, its name is not free yet.
        assert finish_writes(int(PATIENCE * 1e9)) == 1

    def close(self) -> None:
        for poller in self._pollers:
            poller.close()


def write_what_fits(stream: StreamSocket, pattern: Pattern, size: int | None) -> int:
    """Writes ``size`` bytes of a pattern, or fewer if the system takes no more. Returns how many it took."""
    written = 0
    while size is None or written < size:
        taken = stream.write(pattern.at(written, 50_000 if size is None else size - written))
        if not taken:
            break
        written += taken
    return written


def soak_endings(count: str) -> None:
    directory = systems.make_directory()
    endings = Endings(directory)
    endings.run(100)
    # What short waits are timed with on Windows; the endings seldom wait.
    with bbipc.make_poller() as poller:
        assert poller.wait_for_events(0.01) == []
    before = Held()
    began = time.perf_counter()
    endings.run(int(count))
    elapsed = time.perf_counter() - began
    after = Held()
    print(f"{count} endings, {endings.bytes_read} bytes in {elapsed:.1f} s\nbefore: {before}\nafter:  {after}")
    print(f"operations under way at once: {endings.pending_max} at the most")
    after.check_not_more_than(before, CYCLES_GROWTH_MAX)
    assert after.operations == 0
    # That something was under way when all was closed.
    assert endings.pending_max >= (5 if sys.platform == "win32" else 0)
    endings.close()
    shutil.rmtree(directory)


# ---- Everything at once ----

#: KiB. The threads' allocations are spread over many arenas, which settle later. A hundred bytes lost in each action of
#: a minute would be twice as much. qemu-user keeps 280 KiB of every thread that has ended.
THREADS_GROWTH_MAX = 8192 + (512 * THREADS if QEMU else 0)

#: What a call may say when others close what it uses.
PERMITTED = (
    bbipc.SocketClosedError,
    bbipc.PollerClosedError,
    bbipc.AlreadyMonitoredError,
    bbipc.NotMonitoredError,
    bbipc.NoConnectionAvailableError,
    bbipc.NoLocalServerError,
    bbipc.EndOfStreamError,
    bbipc.TimeoutError,
)
PERMITTED_CODES = (errno.EPIPE, errno.ECONNRESET, errno.ECONNREFUSED, errno.EAGAIN, errno.ENOTCONN)


class SharedStream:
    """Two ends of a connection that any thread uses. Only one byte is ever written to it."""

    def __init__(self, byte: int, ends: tuple[StreamSocket, StreamSocket]) -> None:
        self.byte = byte
        self.ends = ends


class World:
    """What the threads share. They close it too, and whoever does puts something new in its place."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count(1)
        self._replacing = threading.Lock()
        self.over = False
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self.servers = [self.new_server(number % 2 == 0) for number in range(4)]
        self.streams = [self.new_stream() for _ in range(16)]
        self.pollers = [self.new_poller() for _ in range(4)]

    def number(self) -> int:
        return next(self._numbers)

    def new_server(self, local: bool, backlog: int = 256) -> StreamServer:
        if local:
            return bbipc.make_local_server(self._directory / str(self.number()), backlog=backlog)
        return bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 0, backlog=backlog)

    def new_pair(self) -> tuple[StreamSocket, StreamSocket]:
        # On Windows a local server has a pipe for each client that it has room for.
        with self.new_server(self.number() % 2 == 0, backlog=1) as server:
            connecting = connect(server)
            assert bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, PATIENCE)
            return connecting, server.accept_connection()

    def new_stream(self) -> SharedStream:
        return SharedStream(self.number() % 256, self.new_pair())

    def new_poller(self) -> Poller:
        return bbipc.make_poller(BACKENDS[self.number() % len(BACKENDS)])

    def replace_server(self, index: int) -> None:
        with self._replacing:
            self.servers[index].close()
            self.servers[index] = self.new_server(index % 2 == 0)

    def replace_stream(self, index: int, sides: list[int]) -> None:
        with self._replacing:
            for side in sides:
                self.streams[index].ends[side].close()
            ends = self.streams[index].ends
            self.streams[index] = self.new_stream()
        for end in ends:
            end.close()

    def replace_poller(self, index: int) -> None:
        with self._replacing:
            self.pollers[index].close()
            self.pollers[index] = self.new_poller()

    def add(self, counts: Counter[str]) -> None:
        with self._replacing:
            self.counts.update(counts)

    def close(self) -> None:
        for server in self.servers:
            server.close()
        for shared in self.streams:
            for end in shared.ends:
                end.close()
        for poller in self.pollers:
            poller.close()


def connect(server: StreamServer) -> StreamSocket:
    if isinstance(server, bbipc.Ipv4TcpServer):
        return bbipc.connect_to_ipv4_tcp_server(server.host_address, server.port)
    assert isinstance(server, bbipc.LocalServer)
    return bbipc.connect_to_local_server(server.local_pathname)


class Worker:
    """One thread of many: does one thing after the other, at random."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._random = random.Random(seed)
        self._actions: list[Callable[[], None]] = [
            self.exchange_on_own,
            self.be_a_client,
            self.be_a_client,
            self.be_a_server,
            self.be_a_server,
            self.write_shared,
            self.write_shared,
            self.read_shared,
            self.read_shared,
            self.poll_shared,
            self.poll_several,
            self.wait_to_read_shared,
            self.monitor_shared,
            self.monitor_shared,
            self.wait_with_shared,
            self.wait_with_shared,
            self.close_shared,
        ]

    def run(self) -> None:
        counts: Counter[str] = Counter()
        while not self._world.over:
            action = self._random.choice(self._actions)
            counts[action.__name__] += 1
            try:
                action()
            except PERMITTED as error:
                counts[type(error).__name__] += 1
            except bbipc.SocketError as error:
                if error.errno not in PERMITTED_CODES:
                    self._fail(action, error)
                counts[errno.errorcode.get(error.errno or 0, "?")] += 1
            except BaseException as error:
                self._fail(action, error)
        self._world.add(counts)

    def _fail(self, action: Callable[[], None], error: BaseException) -> None:
        self._world.failures.append(f"{action.__name__}: {error!r}")
        self._world.over = True

    def _shared(self) -> tuple[int, StreamSocket]:
        shared = self._random.choice(self._world.streams)
        return shared.byte, self._random.choice(shared.ends)

    # ---- Streams of one's own ----

    def exchange_on_own(self) -> None:
        """Both directions at once, with a poller of its own."""
        size = self._random.randrange(1, 300_000)
        ends = self._world.new_pair()
        patterns = Pattern(self._world.number()), Pattern(self._world.number())
        written, read = [0, 0], [0, 0]
        with ends[0], ends[1], self._world.new_poller() as poller:
            for end in ends:
                poller.monitor_socket(end, Events.DATA_AVAILABLE | Events.WRITE_SPACE)
            while min(read) < size:
                for socket, events in poller.wait_for_events(PATIENCE):
                    side = ends.index(socket)
                    if events.write_space:
                        piece = patterns[side].at(written[side], min(50_000, size - written[side]))
                        written[side] += ends[side].write(piece)
                    if events.data_available:
                        data = ends[side].read()
                        check(data == patterns[1 - side].at(read[side], len(data)), "wrong bytes at an own stream")
                        read[side] += len(data)
                    if written[side] == size:
                        poller.set_monitored_events(socket, Events.DATA_AVAILABLE)

    def be_a_client(self) -> None:
        """Of a shared server: writes a pattern, not always to the end."""
        size = self._random.randrange(8, 40_000)
        with connect(self._random.choice(self._world.servers)) as stream:
            stream.write_all(Pattern(self._world.number()).at(0, size), 0.05)

    def be_a_server(self) -> None:
        """Accepts somebody's client, who says with its first bytes which pattern follows."""
        server = self._random.choice(self._world.servers)
        bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, 0.005)
        with server.accept_connection() as stream:
            first = stream.read_exactly(8, 0.05)
            pattern = Pattern(int.from_bytes(first, sys.byteorder) >> 40)
            position = 0
            data = first
            while True:
                check(data == pattern.at(position, len(data)), "wrong bytes at an accepted stream")
                position += len(data)
                if bbipc.poll_socket(stream, Events.DATA_AVAILABLE | Events.END_OF_DATA, 0.05) != Events.DATA_AVAILABLE:
                    return
                data = stream.read()

    # ---- Shared streams ----

    def write_shared(self) -> None:
        byte, stream = self._shared()
        stream.write(bytes([byte]) * self._random.randrange(1, 200_000))

    def read_shared(self) -> None:
        byte, stream = self._shared()
        data = stream.read(self._random.choice([100, 65_536, 200_000]), peek=self._random.random() < 0.2)
        check(data == bytes([byte]) * len(data), "wrong bytes at a shared stream")

    def wait_to_read_shared(self) -> None:
        byte, stream = self._shared()
        data = stream.read_exactly(self._random.randrange(1, 1000), self._timeout())
        check(data == bytes([byte]) * len(data), "wrong bytes at a shared stream")

    def poll_shared(self) -> None:
        _, stream = self._shared()
        bbipc.poll_socket(stream, self._events(), self._timeout())
        repr(stream)

    def poll_several(self) -> None:
        streams = [self._shared()[1] for _ in range(self._random.choice([2, 40]))]
        bbipc.poll_sockets(streams, [self._events() for _ in streams], self._timeout())

    def monitor_shared(self) -> None:
        poller = self._random.choice(self._world.pollers)
        _, stream = self._shared()
        what = self._random.randrange(5)
        if what <= 1:
            poller.monitor_socket(stream, self._events())
        elif what == 2:
            poller.unmonitor_socket(stream)
        elif what == 3:
            poller.set_monitored_events(stream, self._events())
        else:
            poller.monitored_events(stream)
            check(len(poller.monitored_sockets()) <= 1000, "a poller keeps closed sockets")

    def wait_with_shared(self) -> None:
        poller = self._random.choice(self._world.pollers)
        if self._random.random() < 0.2:
            poller.wake()
        reported = [socket for socket, _ in poller.wait_for_events(self._timeout())]
        check(len(set(reported)) == len(reported), "a socket is reported twice")

    def close_shared(self) -> None:
        what = self._random.randrange(10)
        if what == 0:
            self._world.replace_server(self._random.randrange(len(self._world.servers)))
        elif what == 1:
            self._world.replace_poller(self._random.randrange(len(self._world.pollers)))
        else:
            sides = self._random.choice([[0], [1], [0, 1]])
            self._world.replace_stream(self._random.randrange(len(self._world.streams)), sides)

    def _events(self) -> Events:
        return Events(self._random.getrandbits(10)) - Events.CONNECTION_AVAILABLE

    def _timeout(self) -> float:
        return self._random.choice([0, 0, 0.001, 0.01])


def check(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


def run_threads(directory: Path, seconds: float, seed: int) -> Counter[str]:
    world = World(directory)
    workers = [Worker(world, seed + index) for index in range(THREADS)]
    threads = [threading.Thread(target=worker.run, daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at and not world.over:
        bbipc.poll_sockets([], [], 0.1)
    world.over = True
    for thread in threads:
        thread.join(PATIENCE)
        if thread.is_alive():
            faulthandler.dump_traceback(all_threads=True)
            # Without waiting for the thread that hangs.
            os._exit(3)
    world.close()
    assert not world.failures, world.failures
    return world.counts


def wait_in_all_threads() -> None:
    """What a thread waits with on Windows is kept for the next wait, of any thread: here all there will ever be."""
    with contextlib.ExitStack() as stack:
        # No wait of these tests is for more.
        servers = [stack.enter_context(bbipc.make_ipv4_tcp_server(bbipc.IPV4_LOOPBACK, 0)) for _ in range(40)]
        # The main thread waits too.
        start = threading.Barrier(THREADS + 1)

        def wait() -> None:
            start.wait(PATIENCE)
            assert not any(bbipc.poll_sockets(servers, Events.CONNECTION_AVAILABLE, 1))

        threads = [threading.Thread(target=wait) for _ in range(THREADS + 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def soak_threads(seconds: str) -> None:
    directory = systems.make_directory()
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}", flush=True)
    # The allocators' arenas, one for each thread, come into being.
    run_threads(directory, 1, seed)
    wait_in_all_threads()
    before = Held()
    counts = run_threads(directory, float(seconds), seed + THREADS)
    after = Held()
    print(f"{THREADS} threads for {seconds} s, {sum(counts.values())} actions\nbefore: {before}\nafter:  {after}")
    print(", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    after.check_not_more_than(before, THREADS_GROWTH_MAX)
    shutil.rmtree(directory)


if __name__ == "__main__":
    parts: dict[str, Callable[..., None]] = {
        "cycles": soak_cycles,
        "endings": soak_endings,
        "threads": soak_threads,
    }
    parts[sys.argv[1]](*sys.argv[2:])
