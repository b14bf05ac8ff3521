"""examples/job_manager.py with pyzmq: a router, which workers say hello to.

ZeroMQ does not tell that a peer has gone, so the manager looks after its processes ten times a second. Where a worker
crashes just after it has sent its result, its next job counts as crashed, or that one is done twice.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass

import zmq

from programs import ArgumentParser, ProgramError, end_by_signal, run

TRIES = 3
LOOK_AGAIN_MS = 100
NEW_PROCESS_GROUP = subprocess.CREATE_NEW_PROCESS_GROUP if sys.platform == "win32" else 0


@dataclass
class Job:
    expression: str
    crashes: int = 0


def manage(waiting: deque[Job], worker_count: int) -> None:
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        address = f"ipc://{directory}/manager"
        manager = stack.enter_context(stack.enter_context(zmq.Context()).socket(zmq.ROUTER))
        manager.linger = 0
        manager.bind(address)
        processes: dict[bytes, subprocess.Popen[bytes]] = {}
        under_way: dict[bytes, Job] = {}

        def start_worker() -> None:
            name = secrets.token_hex(8)
            command = [sys.executable, __file__, "--work-for", address, name]
            process = subprocess.Popen(command, start_new_session=True, creationflags=NEW_PROCESS_GROUP)
            stack.enter_context(process)
            stack.callback(process.kill)
            processes[name.encode()] = process

        def employ(worker: bytes) -> None:
            try:
                # One step, for Ctrl-C empties the queue.
                job = under_way[worker] = waiting.popleft()
            except IndexError:
                return
            manager.send_multipart([worker, os.fsencode(job.expression)])

        for _ in range(worker_count):
            start_worker()
        while under_way or waiting:
            if manager.poll(LOOK_AGAIN_MS):
                worker, result = manager.recv_multipart()
                if job := under_way.pop(worker, None):
                    print(f"{job.expression} = {result.decode()}", flush=True)
                employ(worker)
            for worker in [name for name, process in processes.items() if process.poll() is not None]:
                del processes[worker]
                start_worker()
                if job := under_way.pop(worker, None):
                    job.crashes += 1
                    if job.crashes < TRIES:
                        waiting.appendleft(job)
                    else:
                        print(f"{job.expression}: {TRIES} workers have crashed", flush=True)


def work(address: str, name: str) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as manager:
        manager.identity = name.encode()
        manager.connect(address)
        manager.send(b"")
        while True:
            manager.send(value_of(os.fsdecode(manager.recv())).encode(errors="backslashreplace"))


def value_of(expression: str) -> str:
    try:
        return repr(eval(expression, {"math": math, "os": os, "time": time}))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def main() -> None:
    parser = ArgumentParser(description="Evaluates Python expressions in worker processes.")
    parser.add_argument("expressions", metavar="expression", nargs="*", help="a job")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="how many (default: %(default)s)")
    parser.add_argument("--work-for", metavar=("ADDRESS", "NAME"), nargs=2, help="be a worker of the manager there")
    arguments = parser.parse_args()
    if arguments.work_for:
        work(*arguments.work_for)
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
