"""examples/job_manager.py with asyncio: jobs and results are lines of JSON on a worker's standard streams.

What jobs print goes to standard error.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import deque
from dataclasses import dataclass

from programs import ArgumentParser, ProgramError, end_by_signal, run

TRIES = 3
NEW_PROCESS_GROUP = subprocess.CREATE_NEW_PROCESS_GROUP if sys.platform == "win32" else 0
#: asyncio wants to know how long a line can be, and has no memory for more.
RESULT_MAX = 1 << 24


@dataclass
class Job:
    expression: str
    crashes: int = 0


async def manage(waiting: deque[Job], worker_count: int) -> None:
    await asyncio.gather(*(employ(waiting) for _ in range(worker_count)))


async def employ(waiting: deque[Job]) -> None:
    """Has jobs done by a worker, and by its successors if it crashes."""
    process = await start_worker()
    try:
        while True:
            try:
                # One step, for Ctrl-C empties the queue.
                job = waiting.popleft()
            except IndexError:
                return
            process.stdin.write(json.dumps(job.expression).encode() + b"\n")
            try:
                line = await process.stdout.readline()
            except ValueError:
                line = b""  # it has too much to say
            if line.endswith(b"\n"):
                print(f"{job.expression} = {json.loads(line)}", flush=True)
                continue
            await end_worker(process)
            process = await start_worker()
            job.crashes += 1
            if job.crashes < TRIES:
                waiting.appendleft(job)
            else:
                print(f"{job.expression}: {TRIES} workers have crashed", flush=True)
    finally:
        await end_worker(process)


async def start_worker() -> Process:
    command = [sys.executable, __file__, "--work"]
    options = {"start_new_session": True, "creationflags": NEW_PROCESS_GROUP, "limit": RESULT_MAX}
    return await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, **options)


async def end_worker(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


def work() -> None:
    # Jobs, and what they start, must not come upon these.
    with os.fdopen(os.dup(0)) as jobs, os.fdopen(os.dup(1), "w") as results:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        for line in jobs:
            print(json.dumps(value_of(json.loads(line))), file=results, flush=True)


def value_of(expression: str) -> str:
    try:
        return repr(eval(expression, {"math": math, "os": os, "time": time}))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def main() -> None:
    parser = ArgumentParser(description="Evaluates Python expressions in worker processes.")
    parser.add_argument("expressions", metavar="expression", nargs="*", help="a job")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="how many (default: %(default)s)")
    parser.add_argument("--work", action="store_true", help="be a worker, for standard input and output")
    arguments = parser.parse_args()
    if arguments.work:
        work()
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
    asyncio.run(manage(waiting, arguments.workers))
    if not_begun:
        raise ProgramError(f"{not_begun} jobs were not begun")


if __name__ == "__main__":
    run(main)
