"""A poller in a loop that is not bbipc's: a program that is run with the loop's name, and prints what it saw as JSON.

What it does is the same in each loop: messages that are received in the loop, one after the other, a wake-up, an event
that no kernel tells, the end after the last byte was read outside of the poller, and then nothing for a while.
"""

from __future__ import annotations

import asyncio
import json
import select
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable

import bbipc
from bbipc import Events

#: The exit status of a program that lacks its loop. The reason is in its last line.
MISSING = 77
MESSAGES = 200
#: Seconds without an event, in which nothing may be called.
QUIET = 0.3

#: Calls a function while a poller's descriptor is readable, until `stop` says so.
Loop = Callable[[bbipc.Poller, Callable[[], object], Callable[[], bool]], object]


class Scenario:
    """What happens, step by step. Each call of `ready` is a wake-up of the loop."""

    def __init__(self, directory: str) -> None:
        with bbipc.make_local_server(str(Path(directory) / "server")) as server:
            self.ours = bbipc.connect_to_local_server(server.local_pathname)
            self.theirs = server.accept_connection()
        self.poller = bbipc.make_poller()
        self.poller.monitor_socket(self.theirs, Events.MESSAGE_AVAILABLE | Events.END_OF_DATA)
        self.seen: list[str] = []
        self.wakeups = 0
        self.in_vain = 0
        self.quiet_since = 0.0
        self.send(0)

    def send(self, number: int) -> None:
        """In two parts: half a message is no event, but the kernel has to tell of it."""
        message = b"\0\0\0\x04%04d" % number
        self.ours.write_all(message[:5])
        self.ours.write_all(message[5:])

    def ready(self) -> None:
        self.wakeups += 1
        reports = self.poller.receive_messages(0)
        if not reports:
            if self.seen and self.seen[-1] == "all received":
                self.woken()
            else:
                self.in_vain += 1
        for _, events, messages in reports:
            for message in messages:
                self.received(int(message))
            if events.determined:
                self.stood()
            if events.end_of_data:
                self.ended()

    def received(self, number: int) -> None:
        if number + 1 < MESSAGES:
            self.send(number + 1)
            return
        self.seen.append("all received")
        self.poller.wake()

    def woken(self) -> None:
        self.seen.append("woken")
        self.poller.set_monitored_events(self.theirs, Events.DETERMINED)

    def stood(self) -> None:
        self.seen.append("stood")
        self.poller.set_monitored_events(self.theirs, Events.END_OF_DATA)
        self.ours.write_all(b"last")
        self.ours.finish_writing()
        assert bbipc.poll_socket(self.theirs, Events.REMOTE_DISCONNECTED, 10)
        # The last byte: no kernel tells of what this makes true.
        assert self.theirs.read_exactly(4) == b"last"

    def ended(self) -> None:
        self.seen.append("ended")
        self.poller.unmonitor_socket(self.theirs)
        self.quiet_since = time.monotonic()

    def is_over(self) -> bool:
        return bool(self.quiet_since) and time.monotonic() - self.quiet_since >= QUIET

    def close(self) -> None:
        for one in (self.poller, self.ours, self.theirs):
            one.close()


#: Seconds between two looks whether all is over: not a wake-up of the poller.
TICK = 0.05


def with_select(poller: bbipc.Poller, ready: Callable[[], object], is_over: Callable[[], bool]) -> None:
    descriptor = poller.fileno()
    while not is_over():
        if select.select([descriptor], [], [], TICK)[0]:
            ready()


def with_poll(poller: bbipc.Poller, ready: Callable[[], object], is_over: Callable[[], bool]) -> None:
    waiting = select.poll()
    waiting.register(poller, select.POLLIN)
    while not is_over():
        if waiting.poll(TICK * 1000):
            ready()


def with_epoll(poller: bbipc.Poller, ready: Callable[[], object], is_over: Callable[[], bool]) -> None:
    with select.epoll() as waiting:
        waiting.register(poller, select.EPOLLIN)
        while not is_over():
            if waiting.poll(TICK):
                ready()


def with_kqueue(poller: bbipc.Poller, ready: Callable[[], object], is_over: Callable[[], bool]) -> None:
    kernel: Any = select
    waiting = kernel.kqueue()
    waiting.control([kernel.kevent(poller, kernel.KQ_FILTER_READ, kernel.KQ_EV_ADD)], 0)
    while not is_over():
        if waiting.control([], 1, TICK):
            ready()
    waiting.close()


async def in_asyncio(poller: bbipc.Poller, ready: Callable[[], object], is_over: Callable[[], bool]) -> None:
    loop = asyncio.get_running_loop()
    loop.add_reader(poller, ready)
    while not is_over():
        await asyncio.sleep(TICK)
    loop.remove_reader(poller)


def with_asyncio(poller: bbipc.Poller, ready: Callable[[], object], is_over: Callable[[], bool]) -> None:
    asyncio.run(in_asyncio(poller, ready, is_over))


def with_uvloop(poller: bbipc.Poller, ready: Callable[[], object], is_over: Callable[[], bool]) -> None:
    import uvloop

    loop = uvloop.new_event_loop()
    loop.run_until_complete(in_asyncio(poller, ready, is_over))
    loop.close()


def with_glib(poller: bbipc.Poller, ready: Callable[[], object], is_over: Callable[[], bool]) -> None:
    from gi.repository import GLib

    loop = GLib.MainLoop()

    def readable(*_arguments: object) -> bool:
        ready()
        return True

    def look() -> bool:
        if is_over():
            loop.quit()
        return True

    sources = [
        GLib.io_add_watch(poller.fileno(), GLib.PRIORITY_DEFAULT, GLib.IOCondition.IN, readable),
        GLib.timeout_add(int(TICK * 1000), look),
    ]
    loop.run()
    for source in sources:
        GLib.source_remove(source)


def with_qt(poller: bbipc.Poller, ready: Callable[[], object], is_over: Callable[[], bool]) -> None:
    from PySide2.QtCore import QCoreApplication, QSocketNotifier, QTimer

    application = QCoreApplication([])
    notifier = QSocketNotifier(poller.fileno(), QSocketNotifier.Read)
    notifier.activated.connect(lambda *_: ready())
    timer = QTimer()
    timer.timeout.connect(lambda: application.quit() if is_over() else None)
    timer.start(int(TICK * 1000))
    application.exec_()
    notifier.setEnabled(False)


LOOPS: dict[str, Loop] = {
    "select": with_select,
    "poll": with_poll,
    "epoll": with_epoll,
    "kqueue": with_kqueue,
    "asyncio": with_asyncio,
    "uvloop": with_uvloop,
    "glib": with_glib,
    "qt": with_qt,
}


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        scenario = Scenario(directory)
        try:
            LOOPS[sys.argv[1]](scenario.poller, scenario.ready, scenario.is_over)
        except ImportError as error:
            scenario.close()
            print(error)
            sys.exit(MISSING)
        scenario.close()
    print(json.dumps({"seen": scenario.seen, "wakeups": scenario.wakeups, "in_vain": scenario.in_vain}))


if __name__ == "__main__":
    main()
