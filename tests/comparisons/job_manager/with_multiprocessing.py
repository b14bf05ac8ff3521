"""examples/job_manager.py with multiprocessing: its processes, and its pipes to them.

The manager waits for a worker that is stopped amid a result. On Windows, Ctrl-C ends a worker that is just starting.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

from programs import ArgumentParser, ProgramError, end_by_signal, run

TRIES = 3


@dataclass
class Job:
    expression: str
    crashes: int = 0


def manage(waiting: deque[Job], worker_count: int) -> None:
    under_way: dict[Connection, Job] = {}

    def employ(worker: Connection) -> None:
        try:
            # One step, for Ctrl-C empties the queue.
            job = under_way[worker] = waiting.popleft()
        except IndexError:
            worker.close()
            return
        with contextlib.suppress(OSError):
            worker.send(job.expression)

    for _ in range(worker_count):
        employ(start_worker())
    while under_way:
        try:
            ready = wait(list(under_way))
        except InterruptedError:
            continue  # by Ctrl-C, on Windows
        for worker in ready:
            job = under_way.pop(worker)
            try:
                print(f"{job.expression} = {worker.recv()}", flush=True)
            except (EOFError, OSError):
                worker.close()
                worker = start_worker()
                job.crashes += 1
                if job.crashes < TRIES:
                    waiting.appendleft(job)
                else:
                    print(f"{job.expression}: {TRIES} workers have crashed", flush=True)
            employ(worker)


def start_worker() -> Connection:
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe()
    # A terminal's Ctrl-C is for the manager alone.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    spawning.Process(target=work, args=(theirs,), daemon=True).start()
    signal.signal(signal.SIGINT, handler)
    theirs.close()
    return ours


def work(manager: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, OSError):
        while True:
            manager.send(value_of(manager.recv()))


def value_of(expression: str) -> str:
    try:
        return repr(eval(expression, {"math": math, "os": os, "time": time}))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def main() -> None:
    parser = ArgumentParser(description="Evaluates Python expressions in worker processes.")
    parser.add_argument("expressions", metavar="expression", nargs="*", help="a job")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="how many (default: %(default)s)")
    arguments = parser.parse_args()
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
