"""Starts the programs that are measured, and lets them take turns.

Every candidate of a comparison is measured once in every round, in an order that changes from round to round. A round
takes seconds, so what else the machine does meanwhile meets all candidates alike; and what is told is the ratio to the
baseline of the same round, not times from different minutes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).resolve().parent / "programs"
NATIVE = Path(__file__).resolve().parent / "native"
ROOT = Path(__file__).resolve().parent.parent.parent

#: How long a program may take to answer. A turn takes less than a second.
PATIENCE_S = 60

TRANSPORTS = ("tcp", "local")


class BenchmarkError(Exception):
    """A program failed, or found something wrong. The message has what it printed."""


# ---- Results ----


@dataclass
class Comparison:
    """What the candidates took for the same work, in every round."""

    workload: str
    #: What sets this comparison apart from others of its workload, such as the transport and the size.
    parameters: dict[str, Any]
    unit: str
    baseline: str
    #: For each candidate, the value of each round.
    values: dict[str, list[float]] = field(default_factory=dict)

    def ratios(self, candidate: str, against: str) -> list[float]:
        """In every round, the candidate's value divided by that of the other."""
        return [ours / theirs for ours, theirs in zip(self.values[candidate], self.values[against])]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Spread:
    """The median of some values, and what the middle half of them lies between."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(low, median, high)


# ---- Programs ----


class Program:
    """A process, and the lines that go to it and come from it."""

    def __init__(self, arguments: Sequence[str | Path], environment: dict[str, str] | None = None) -> None:
        self._arguments = [str(argument) for argument in arguments]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 -- close() closes it
        self._process = subprocess.Popen(
            self._arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.pid = self._process.pid

    def line(self) -> str:
        assert self._process.stdout is not None
        # It never prints two lines at once, so none can be in the buffer.
        if not select.select([self._process.stdout], [], [], PATIENCE_S)[0]:
            raise BenchmarkError(f"{self} has not answered for {PATIENCE_S} seconds:\n{self.errors()}")
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            self._process.wait()
            raise self._failure()
        return line.strip()

    def send(self, *numbers: int) -> None:
        assert self._process.stdin is not None
        try:
            print(*numbers, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            self._process.wait()
            raise self._failure() from None

    def answer(self) -> list[int]:
        return [int(number) for number in self.line().split()]

    def ask(self, *numbers: int) -> list[int]:
        """What the program answers to these numbers."""
        self.send(*numbers)
        return self.answer()

    def finish(self) -> list[str]:
        """What else it prints until it ends by itself, which it must do well."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        lines = self._process.stdout.read().splitlines()
        if self._process.wait() != 0:
            raise self._failure()
        return lines

    def processor_ns(self) -> int:
        """The processor time that it has had, user and system, of all its threads.

        Waits until the process sleeps: Linux updates another process's clock then, and else only at its ticks.
        """
        give_up_at = time.monotonic() + PATIENCE_S
        # Behind the name in parentheses, which may contain parentheses too.
        while Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "S":
            if time.monotonic() > give_up_at:
                raise BenchmarkError(f"{self} does not rest:\n{self.errors()}")
            time.sleep(50e-6)
        # The clock of clock_getcpuclockid(3), a function that Python lacks.
        return time.clock_gettime_ns(~self.pid << 3 | 2)

    def errors(self) -> str:
        """What it has printed on its standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip()

    def __str__(self) -> str:
        return " ".join(self._arguments)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def _failure(self) -> BenchmarkError:
        return BenchmarkError(f"{self} ended with {self._process.returncode}:\n{self.errors()}")


@dataclass(frozen=True)
class Candidate:
    """One that is measured, and how its programs are started."""

    name: str
    #: The module in programs/, or the C program in native/.
    module: str
    #: What the names of its functions begin with.
    variant: str = ""
    native: bool = False
    #: Modules that have to be installed.
    needs: tuple[str, ...] = ()
    #: bbipc's calling layer.
    calls: str = "cpython"
    #: BBIPC_SPINNING: whether waits of bbipc look before they sleep. The default is that of the package.
    spinning: str = "adaptive"
    #: The module of the server, where it differs from that of the client.
    peer: str = ""
    #: The event loop that coroutines run on.
    loop: str = "asyncio"
    transports: tuple[str, ...] = TRANSPORTS


class Session:
    """One run: the directory for sockets and compiled programs, and what has been started."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pathnames = itertools.count()
        self._stack = contextlib.ExitStack()
        self._compiled: dict[str, Path] = {}
        self.random = random.Random(1)
        available = sorted(os.sched_getaffinity(0))
        #: The processor of one process, and that of the other.
        self.processors = available[-1], available[0]
        #: Two processes are on one processor each, or together on one.
        self.placements = ("apart", "together") if len(available) > 1 else ("together",)

    def native(self, name: str) -> Path:
        """A C program, compiled."""
        if name not in self._compiled:
            program = self._directory / name
            source = str(NATIVE / f"{name}.c")
            command = [sys.executable, "-m", "ziglang", "cc", "-O2", "-o", str(program), source, "-lm"]
            # Not in the tree, where the compiler would put it.
            environment = {"ZIG_LOCAL_CACHE_DIR": str(self._directory / "zig"), **os.environ}
            built = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if built.returncode != 0:
                raise BenchmarkError(f"{name}.c does not compile:\n{built.stderr}")
            self._compiled[name] = program
        return self._compiled[name]

    def address(self, transport: str) -> str:
        """Where a server may listen."""
        return "tcp" if transport == "tcp" else f"local:{self._directory / f'{next(self._pathnames)}.sock'}"

    def command(self, candidate: Candidate, function: str, *arguments: Any, processor: int | None = 0) -> Program:
        """Starts a program of the candidate, on one of the two processors: 0 or 1; None for either.

        Nearly every process is bound to one. The scheduler's own choice changes within a run, and with it what a round
        trip costs, tenfold: two processes that take turns may share a processor, or wake each other's from its idle
        state.
        """
        if candidate.native:
            words: list[str | Path] = [self.native(candidate.module), function]
        else:
            words = [sys.executable, PROGRAMS, candidate.loop, candidate.module, candidate.variant + function]
        environment = {"BBIPC_CALLS": candidate.calls, "BBIPC_SPINNING": candidate.spinning}
        mine = os.sched_getaffinity(0)
        os.sched_setaffinity(0, mine if processor is None else {self.processors[processor]})
        try:
            return Program([*words, *map(str, arguments)], environment)
        finally:
            os.sched_setaffinity(0, mine)

    def other(self, placement: str) -> int:
        """The processor of the second of two processes."""
        return self.processors_of(placement)[1] or 0

    def processors_of(self, placement: str) -> tuple[int | None, int | None]:
        """The processors of the first and the second of two processes; None for any."""
        if placement == "busy":
            return None, None
        return 0, 1 if placement == "apart" and "apart" in self.placements else 0

    @contextlib.contextmanager
    def programs(self) -> Iterator[Callable[..., Program]]:
        """Starts programs, as `command` does, and ends them."""
        with contextlib.ExitStack() as stack:

            def start(candidate: Candidate, function: str, *arguments: Any, processor: int | None = 0) -> Program:
                program = self.command(candidate, function, *arguments, processor=processor)
                stack.callback(program.close)
                return program

            yield start

    def take_turns(self, comparison: Comparison, turns: Mapping[str, Callable[[], float]], rounds: int) -> None:
        """Measures every candidate in every round."""
        names = list(turns)
        for name in names:
            comparison.values.setdefault(name, [])
        for _ in range(rounds):
            self.random.shuffle(names)
            for name in names:
                comparison.values[name].append(turns[name]())
