"""Evaluates Python expressions in worker processes, and outlives what these do.

- A worker that crashes is replaced, and its job comes back: it is tried three times in all.
- Ctrl-C drains: no job is begun any more, those under way are finished, and their results are printed. A second Ctrl-C,
  or SIGTERM, ends everything at once.
- No worker stays behind, also if the manager is killed: a worker whose stream ends goes as well.

Try it with a job that crashes: ``job_manager.py "2 ** 100" "sum(range(10 ** 8))" "os._exit(1)"``.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass

import bbipc
from bbipc import Events, Socket, StreamSocket
from programs import ArgumentParser, ProgramError, end_by_signal, private_local_address, run

#: How often a job is tried, if each of its workers crashes.
TRIES = 3
#: How long a worker may take to start.
START_TIMEOUT_S = 30.0
#: Without one, a terminal's Ctrl-C would come to the workers too.
NEW_PROCESS_GROUP = subprocess.CREATE_NEW_PROCESS_GROUP if sys.platform == "win32" else 0


@dataclass
class Job:
    """An expression, and how many workers it has cost."""

    expression: str
    crashes: int = 0


def manage(waiting: deque[Job], worker_count: int) -> None:
    """Has the jobs done, until none is waiting or under way."""
    with private_local_address("manager") as address, bbipc.make_poller() as poller, contextlib.ExitStack() as stack:
        server = stack.enter_context(bbipc.listen(address))
        under_way: dict[Socket, Job] = {}

        def start_worker() -> StreamSocket:
            command = [sys.executable, __file__, "--work-for", address]
            process = subprocess.Popen(command, start_new_session=True, creationflags=NEW_PROCESS_GROUP)
            stack.enter_context(process)
            stack.callback(process.kill)
            bbipc.poll_socket(server, Events.CONNECTION_AVAILABLE, START_TIMEOUT_S)
            stream = stack.enter_context(server.accept_connection())
            poller.monitor_socket(stream, Events.MESSAGE_AVAILABLE | Events.END_OF_DATA)
            return stream

        def employ(stream: Socket) -> None:
            try:
                # One step, for Ctrl-C empties the queue.
                job = under_way[stream] = waiting.popleft()
            except IndexError:
                stream.close()
                return
            # If the worker has gone, the poller tells of it.
            bbipc.send_messages([(stream, os.fsencode(job.expression))])

        for _ in range(worker_count):
            employ(start_worker())
        while under_way:
            for stream, _, results in poller.receive_messages():
                job = under_way.pop(stream)
                if results:
                    print(f"{job.expression} = {results[0].decode()}", flush=True)
                else:
                    stream.close()
                    stream = start_worker()
                    job.crashes += 1
                    if job.crashes < TRIES:
                        waiting.appendleft(job)
                    else:
                        print(f"{job.expression}: {TRIES} workers have crashed", flush=True)
                employ(stream)


def work(address: str) -> None:
    """Does the jobs of the manager that listens there."""
    with bbipc.connect(address) as stream:
        for expression in stream.messages():
            stream.send_message(value_of(os.fsdecode(expression)).encode(errors="backslashreplace"))


def value_of(expression: str) -> str:
    try:
        return repr(eval(expression, {"math": math, "os": os, "time": time}))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def main() -> None:
    parser = ArgumentParser(description="Evaluates Python expressions in worker processes.")
    parser.add_argument("expressions", metavar="expression", nargs="*", help="a job")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="how many (default: %(default)s)")
    parser.add_argument("--work-for", metavar="ADDRESS", help="be a worker of the manager that listens there")
    arguments = parser.parse_args()
    if arguments.work_for:
        work(arguments.work_for)
        return
    waiting = deque(map(Job, arguments.expressions))
    not_begun = 0

    def drain(number: int, _frame: object) -> None:
        nonlocal not_begun
        signal.signal(number, end_by_signal)
        not_begun = len(waiting)
        waiting.clear()
        print("the jobs under way are finished; another Ctrl-C ends them", file=sys.stderr, flush=True)

    signal.signal(signal.SIGINT, drain)
    manage(waiting, arguments.workers)
    if not_begun:
        raise ProgramError(f"{not_begun} jobs were not begun")


if __name__ == "__main__":
    run(main)
