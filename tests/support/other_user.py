"""What another user sees of a server's start, and who it is to that server. Only root can run this.

other_user.py refused DIRECTORY STARTS     how often a start lets the other user in: never
other_user.py allowed DIRECTORY STARTS     the same where everybody may: it has to happen
other_user.py credentials DIRECTORY        who the other user's client is
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
import time
from collections import Counter
from collections.abc import Callable

import bbipc

OTHER_USER, OTHER_GROUP = 65534, 65533


def as_other_user(act: Callable[[], None]) -> int:
    """Starts a process that does it. A new program could not be started, where Python belongs to root alone."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(OTHER_GROUP)
            os.setuid(OTHER_USER)
            act()
            status = 0
        finally:
            os._exit(status)
    return pid


def assert_succeeds(pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    assert status == 0, status


def connect_again_and_again(pathname: str, shared: mmap.mmap, report: int) -> None:
    seen: Counter[str] = Counter()
    while shared[0] == 0:
        try:
            bbipc.connect_to_local_server(pathname).close()
        except OSError as error:
            seen[errno.errorcode[error.errno]] += 1
        else:
            seen["connected"] += 1
        shared[1] = 1
    os.write(report, repr(dict(seen)).encode())


def start_again_and_again(directory: str, starts: int, permissions: int) -> None:
    """Prints what became of each attempt to connect meanwhile."""
    pathname = os.path.join(directory, "s")
    os.chmod(directory, 0o755)
    # Without a word about permissions, everybody could connect.
    os.umask(0)
    shared = mmap.mmap(-1, mmap.PAGESIZE)
    reports, report = os.pipe()
    other = as_other_user(lambda: connect_again_and_again(pathname, shared, report))
    while not shared[1]:
        time.sleep(0.001)
    for number in range(starts):
        with bbipc.make_local_server(pathname, permissions=permissions, replace_dead=number % 2 == 0):
            # Until the other has looked at this server at least once.
            shared[1] = 0
            while not shared[1]:
                os.sched_yield()
    shared[0] = 1
    assert_succeeds(other)
    print(os.read(reports, 65536).decode())


def tell_credentials(directory: str) -> None:
    """Prints who the client and the server are to each other."""
    pathname = os.path.join(directory, "s")
    os.chmod(directory, 0o755)
    reports, report = os.pipe()

    def connect() -> None:
        with bbipc.connect_to_local_server(pathname) as stream:
            os.write(report, repr(tuple(stream.peer_credentials())).encode())
            stream.write_all(b"here")
            stream.read_exactly(1, 60)

    with bbipc.make_local_server(pathname, permissions=0o666) as server:
        other = as_other_user(connect)
        assert bbipc.poll_socket(server, bbipc.Events.CONNECTION_AVAILABLE, 60)
        with server.accept_connection() as stream:
            stream.read_exactly(4, 60)
            client = stream.peer_credentials()
            stream.write_all(b".")
            assert_succeeds(other)
            # The end does not change who it was.
            assert stream.peer_credentials() == client
    assert client == (OTHER_USER, OTHER_GROUP, other, None), (client, other)
    told = os.read(reports, 1000).decode()
    assert told == repr((os.getuid(), os.getgid(), os.getpid(), None)), told


if __name__ == "__main__":
    what, where = sys.argv[1:3]
    if what == "credentials":
        tell_credentials(where)
    else:
        start_again_and_again(where, int(sys.argv[3]), 0o600 if what == "refused" else 0o666)
