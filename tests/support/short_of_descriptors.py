"""A plain loop of waits and accepts in a process that has no descriptor left, and then has some again.

A program that is run with the name of a transport and of a way to wait. It prints as JSON what part of a processor the
loop took, how often it was told of its client in a second, and how long it took (seconds) to accept it in the end.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import select
import shutil
import sys
import threading
import time
from typing import Callable

import bbipc
from bbipc import Events, Poller, StreamServer
from systems import make_directory
from transports import Transport

#: Seconds without a descriptor.
LASTS = 1.0
#: Seconds. A wait that hears of nothing ends then.
TIMEOUT = 2.0

#: Of the poller that is watched.
DESCRIPTOR = -1

Wait = Callable[[StreamServer, Poller], object]
WAITS: dict[str, Wait] = {
    "poll_socket": lambda server, _: bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, TIMEOUT),
    "poll_sockets": lambda server, _: bbipc.poll_sockets([server] * 2, Events.CONNECTION_AVAILABLE, TIMEOUT),
    "wait_for_events": lambda _, poller: poller.wait_for_events(TIMEOUT),
    "receive": lambda _, poller: poller.receive(TIMEOUT),
    "receive_messages": lambda _, poller: poller.receive_messages(TIMEOUT),
    "fileno": lambda _, poller: select.select([DESCRIPTOR], [], [], TIMEOUT)[0] and poller.wait_for_events(0),
}


def fill() -> list[int]:
    """Takes all descriptors that there are."""
    taken = []
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.dup(0))
    return taken


def run(transport: Transport, wait: Wait) -> dict[str, float]:
    global DESCRIPTOR
    server = transport.make_server()
    clients = [transport.connect(server) for _ in range(2)]
    poller = bbipc.make_poller()
    poller.monitor_socket(server, Events.CONNECTION_AVAILABLE)
    if wait is WAITS["fileno"]:
        DESCRIPTOR = poller.fileno()
    # What a wait needs is made by the first.
    wait(server, poller)
    transport.accept(server)
    taken = fill()
    tries = 0
    freed_at = 0.0
    used = 0.0

    def free() -> None:
        nonlocal freed_at, used
        used = time.process_time() - used_before
        freed_at = time.perf_counter()
        os.close(taken.pop())

    used_before = time.process_time()
    timer = threading.Timer(LASTS, free)
    timer.start()
    while True:
        if not wait(server, poller):
            continue
        try:
            stream = transport.keep(server.accept_connection())
        except bbipc.SocketError as error:
            if error.errno != errno.EMFILE:
                raise
            tries += 1
        else:
            break
    delay = time.perf_counter() - freed_at
    timer.join()
    clients[1].write_all(b"served")
    assert stream.read_exactly(6, TIMEOUT) == b"served"
    poller.close()
    for number in taken:
        os.close(number)
    return {"share": used / LASTS, "tries": tries / LASTS, "delay": delay}


def main() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    directory = make_directory()
    with contextlib.closing(Transport(sys.argv[1], directory)) as transport:
        print(json.dumps(run(transport, WAITS[sys.argv[2]])))
    shutil.rmtree(directory)


if __name__ == "__main__":
    main()
