"""Four programs start a server at one pathname, again and again, and some are killed on the way.

    rival_starters.py DIRECTORY ROUNDS SEED

In each round the pathname has what a dead server left, or nothing, or a file that is no socket. A starter that is told
of a living server tries again until the round is over. There must be one server in the end, and never two at once.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import random
import select
import signal
import socket
import sys
import time
from collections import Counter

import bbipc

STARTERS = 4
PATIENCE_SECONDS = 60
PRECIOUS = b"ten years of work"

#: What the starters wait for, in memory that all share.
READY, GO, STOP = range(3)


def is_dying(pid: int) -> bool:
    """Whether it has been killed, though the system may still be closing what it had open."""
    try:
        with open(f"/proc/{pid}/status") as file:
            status = dict(line.split(":\t", 1) for line in file)
        with open(f"/proc/{pid}/stat") as file:
            flags = int(file.read().rsplit(")", 1)[1].split()[6])
    except (OSError, IndexError):
        return True
    pending = int(status["ShdPnd"], 16) | int(status["SigPnd"], 16)
    exiting = 0x4  # PF_EXITING
    return status["State"][0] in "ZX" or bool(flags & exiting) or bool(pending & 1 << (signal.SIGKILL - 1))


def be_the_only_one(witness: int) -> bool:
    """Takes a lock of the test's own, which no other living server may have."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up:
        if locks(witness):
            os.pwrite(witness, b"%020d" % os.getpid(), 0)
            return True
        holder = os.pread(witness, 20, 0)
        if holder and not is_dying(int(holder)):
            return False
    return False


def locks(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def serve(server: bbipc.LocalServer, shared: mmap.mmap, witness: int) -> None:
    """Tells clients who serves them."""
    with server:
        while shared[0] != STOP:
            if bbipc.poll_socket(server, bbipc.Events.CONNECTION_AVAILABLE, 0.005):
                try:
                    with server.accept_connection() as stream:
                        stream.write_all(b"%020d" % os.getpid())
                except (bbipc.NoConnectionAvailableError, bbipc.EndOfStreamError):
                    pass  # another starter looked whether somebody is there
        # Before the place is free.
        fcntl.flock(witness, fcntl.LOCK_UN)


def start(pathname: str, shared: mmap.mmap, report: int) -> None:
    """One starter, in a process of its own."""
    witness = os.open(pathname + ".witness", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    while shared[0] == READY:
        pass
    while True:
        is_over = shared[0] == STOP
        try:
            server = bbipc.make_local_server(pathname, replace_dead=True, permissions=0o600)
        except bbipc.ServerAlreadyRunningError:
            if is_over:
                return
            time.sleep(0.001)
            continue
        except bbipc.SocketError as error:
            os.write(report, b"%c%020d" % (b"E" if error.errno == errno.EADDRINUSE else b"?", os.getpid()))
            return
        os.write(report, b"%c%020d" % (b"W" if be_the_only_one(witness) else b"2", os.getpid()))
        serve(server, shared, witness)
        return


class Round:
    """The starters of one round, and what they have reported."""

    def __init__(self, pathname: str, chance: random.Random) -> None:
        self.pathname, self.chance = pathname, chance
        self.shared = mmap.mmap(-1, mmap.PAGESIZE)
        self.reports, report = os.pipe()
        self.killed: set[int] = set()
        self.servers: list[int] = []
        self.refused: list[int] = []
        self.pids = [self._fork(report) for _ in range(STARTERS)]
        os.close(report)

    def _fork(self, report: int) -> int:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                start(self.pathname, self.shared, report)
                status = 0
            finally:
                os._exit(status)
        return pid

    def kill(self, pid: int) -> None:
        self.killed.add(pid)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    def kill_some(self) -> None:
        """At random points of what they do in the first milliseconds."""
        for pid in self.chance.sample(self.pids, self.chance.randint(1, STARTERS - 1)):
            until = time.perf_counter() + self.chance.choice((0.0001, 0.0003, 0.001)) * self.chance.random()
            while time.perf_counter() < until:
                pass
            self.kill(pid)

    def read_report(self) -> None:
        ready, _, _ = select.select([self.reports], [], [], PATIENCE_SECONDS)
        assert ready, "no starter has become the server"
        report = os.read(self.reports, 21)
        assert report, "every starter has ended, and none is the server"
        self._note(report)

    def _note(self, report: bytes) -> None:
        kind, pid = report[:1], int(report[1:])
        assert kind in (b"W", b"E"), (kind, pid)
        (self.servers if kind == b"W" else self.refused).append(pid)

    def living_servers(self) -> list[int]:
        return [pid for pid in self.servers if pid not in self.killed]

    def assert_one_serves(self) -> None:
        while not self.living_servers():
            self.read_report()
        (pid,) = self.living_servers()
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE_SECONDS)
            client.connect(self.pathname)
            assert int(client.recv(20)) == pid
        assert os.stat(self.pathname).st_mode & 0o777 == 0o600
        assert not os.path.lexists(self.pathname + ".new")

    def assert_all_are_refused(self) -> None:
        while len([pid for pid in self.refused if pid not in self.killed]) < STARTERS - len(self.killed):
            self.read_report()
        assert not self.servers

    def end(self) -> None:
        # A server that is killed leaves its file for the next round.
        if self.chance.random() < 1 / 3:
            for pid in self.living_servers():
                self.kill(pid)
        self.shared[0] = STOP
        for pid in self.pids:
            if pid not in self.killed:
                _, status = os.waitpid(pid, 0)
                assert status == 0, status
        while report := os.read(self.reports, 21):
            self._note(report)
        # Either there is a place, or there is none for anybody.
        assert not self.servers or not self.refused, (self.servers, self.refused)
        os.close(self.reports)
        self.shared.close()


def leave_dead_socket(pathname: str) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(pathname)


def play(pathname: str, chance: random.Random, kinds: Counter[str]) -> None:
    """One round."""
    kind = chance.choice(("dead", "dead", "dead", "as it is", "as it is", "half made", "no socket"))
    kinds[kind] += 1
    if kind in ("dead", "no socket") and os.path.lexists(pathname):
        os.unlink(pathname)
    if kind == "dead":
        leave_dead_socket(pathname)
    if kind == "half made" and not os.path.lexists(pathname + ".new"):
        leave_dead_socket(pathname + ".new")
    if kind == "no socket":
        with open(pathname, "wb") as file:
            file.write(PRECIOUS)
    one = Round(pathname, chance)
    one.shared[0] = GO
    try:
        if chance.random() < 1 / 3:
            kinds["with kills"] += 1
            one.kill_some()
        kinds["kills"] += len(one.killed)
        if kind == "no socket":
            one.assert_all_are_refused()
            with open(pathname, "rb") as file:
                assert file.read() == PRECIOUS
            os.unlink(pathname)
        else:
            one.assert_one_serves()
        one.end()
    except BaseException:
        for pid in one.pids:
            # Those that have ended are not waited for before the last check.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        raise


def main(directory: str, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    kinds: Counter[str] = Counter()
    pathname = os.path.join(directory, "s")
    # Neighbours, whose names begin alike.
    with open(pathname + "2", "wb") as file:
        file.write(PRECIOUS)
    with bbipc.make_local_server(pathname + "1"):
        for _ in range(rounds):
            play(pathname, chance, kinds)
        bbipc.connect_to_local_server(pathname + "1").close()
    # Nothing hinders the next start, and that leaves nothing.
    bbipc.make_local_server(pathname, replace_dead=True).close()
    assert sorted(os.listdir(directory)) == ["s.witness", "s2"], os.listdir(directory)
    print(*(f"{name}: {count}" for name, count in sorted(kinds.items())), sep=", ")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
