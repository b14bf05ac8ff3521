"""What is measured, and with which programs."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .harness import TRANSPORTS, BenchmarkError, Candidate, Comparison, Program, Session


@dataclass(frozen=True)
class Effort:
    """How much is measured: enough for the documentation, or to see that everything works."""

    name: str
    #: How often programs are started anew: the addresses of their memory make a difference of some percent.
    starts: int
    #: How many rounds are made after each start.
    rounds: int
    #: How long one candidate is measured in one round, and how long it warms up before that.
    turn_ns: int
    warmup_ns: int
    #: Of the echo servers.
    connections: tuple[int, ...]
    sizes: tuple[int, ...]
    #: How often new processes are started for round trips, and how many round trips each start makes.
    fresh_starts: int
    fresh_trips: int
    #: Nanoseconds between requests at set times, and how long a client makes such requests in one round.
    intervals_ns: tuple[int, ...]
    paced_ns: int
    #: Requests a second at random times, and the least number of requests in one round.
    rates: tuple[int, ...]
    random_least: int
    #: How many connections are idle while one has data.
    idle: tuple[int, ...]
    #: How many idle connections memory is measured with.
    held: int
    #: How long a program waits for nothing.
    rest_ns: int


FULL = Effort(
    "full",
    starts=2,
    rounds=4,
    turn_ns=100_000_000,
    warmup_ns=20_000_000,
    connections=(1, 10, 100, 1000),
    sizes=(64, 1024, 65536),
    fresh_starts=20,
    fresh_trips=20_000,
    intervals_ns=(100_000, 1_000_000, 10_000_000, 100_000_000),
    paced_ns=300_000_000,
    rates=(300, 2000, 8000, 15000, 20000, 30000),
    random_least=200,
    idle=(10, 100, 1000, 10000),
    held=5000,
    rest_ns=60_000_000_000,
)
QUICK = Effort(
    "quick",
    starts=1,
    rounds=3,
    turn_ns=20_000_000,
    warmup_ns=5_000_000,
    connections=(1, 10, 100),
    sizes=(64, 1024),
    fresh_starts=4,
    fresh_trips=5_000,
    intervals_ns=(100_000, 1_000_000, 10_000_000),
    paced_ns=50_000_000,
    rates=(300, 2000, 8000, 15000, 20000, 30000),
    random_least=50,
    idle=(10, 10000),
    held=1000,
    rest_ns=5_000_000_000,
)


def installed(candidates: Sequence[Candidate], transport: str | None = None) -> list[Candidate]:
    """Those that are, and that have the transport."""
    return [
        one
        for one in candidates
        if all(importlib.util.find_spec(module) for module in one.needs)
        and (transport is None or transport in one.transports)
    ]


# ---- Turns of programs that answer to a count ----


def fitting_count(turn: Callable[[int], int], turn_ns: int, *, least: int = 16, step: int = 1) -> int:
    """About how many operations fit into a turn, as a multiple of the step, of which the least number is one too."""
    count = least
    while (elapsed_ns := turn(count)) < turn_ns / 10:
        count *= 4
    return max(1, int(count * turn_ns / elapsed_ns) // step) * step


def turn_of(turn: Callable[[int], int], turn_ns: int, *, least: int = 16) -> Callable[[], float]:
    """Nanoseconds for one operation, over as many as fit into a turn."""
    count = fitting_count(turn, turn_ns, least=least)
    return lambda: turn(count) / count


def elapsed(program: Program) -> Callable[[int], int]:
    """Nanoseconds that the program took for a number of operations."""
    return lambda count: program.ask(count)[0]


# ---- One process: write and read ----

PAIR = (
    Candidate("C", "blocking", native=True),
    Candidate("socket", "with_socket"),
    Candidate("bbipc", "with_bbipc"),
    Candidate("bbipc, ctypes", "with_bbipc", calls="ctypes"),
)


def one_process(
    session: Session, effort: Effort, function: str, candidates: Sequence[Candidate], parameters: dict[str, Any]
) -> Iterator[Comparison]:
    for transport in TRANSPORTS:
        comparison = Comparison(function, {"transport": transport, **parameters}, "ns", "socket")
        for _ in range(effort.starts):
            with session.programs() as start:
                turns = {}
                for candidate in candidates:
                    program = start(candidate, function, session.address(transport), 64)
                    program.line()
                    # Short ones, and many: this is where the least differences count.
                    turns[candidate.name] = turn_of(elapsed(program), effort.turn_ns // 5)
                session.take_turns(comparison, turns, 3 * effort.rounds)
        yield comparison


def pair(session: Session, effort: Effort) -> Iterator[Comparison]:
    return one_process(session, effort, "pair", PAIR, {"size": 64})


def connecting(session: Session, effort: Effort) -> Iterator[Comparison]:
    """Connect, accept, and close of both ends."""
    candidates = (*PAIR, Candidate("bbipc, both awaited", "with_bbipc", "awaited_"))
    return one_process(session, effort, "connecting", candidates, {})


COPIES = Candidate("bbipc", "with_bbipc")
NO_NEIGHBOUR = -1


def gil(session: Session, effort: Effort) -> Iterator[Comparison]:
    """What it costs to release the GIL for a write and a read, and what to keep it: COPY_HOLDING_GIL_MAX."""
    neighbours = {"": NO_NEIGHBOUR, ", beside a busy thread": session.processors[session.other("apart")]}
    for transport, size in itertools.product(TRANSPORTS, (4096, 65536, 262144)):
        comparison = Comparison("gil", {"transport": transport, "size": size}, "ns", "keeps it")
        for _ in range(effort.starts):
            with session.programs() as start:
                turns = {}
                for beside, (releases, what) in itertools.product(neighbours, enumerate(("keeps it", "releases it"))):
                    address = session.address(transport)
                    program = start(COPIES, "copies", address, size, releases, neighbours[beside])
                    program.line()
                    turns[what + beside] = turn_of(elapsed(program), effort.turn_ns)
                session.take_turns(comparison, turns, effort.rounds)
        yield comparison


# ---- Two processes: round trips, and one way ----


#: The least number of requests at set times in one round.
REQUESTS_LEAST = 5


class BetweenTwo:
    """Measures pairs of processes: by the clock, and the processor time of both."""

    def __init__(
        self, session: Session, effort: Effort, workload: str, parameters: dict[str, Any], baseline: str = "socket"
    ) -> None:
        self._session = session
        self._effort = effort
        self.time = Comparison(workload, parameters, "ns", baseline)
        self.work = Comparison(f"{workload}-work", parameters, "ns", baseline)
        self._turns: dict[str, Callable[[], float]] = {}

    def add(
        self, name: str, programs: Sequence[Program], turn: Callable[[int], int], *, least: int = 16, step: int = 1
    ) -> None:
        """A candidate. The turn takes a count, a multiple of the step, and returns nanoseconds."""
        count = fitting_count(turn, self._effort.turn_ns, least=least, step=step)
        self.work.values.setdefault(name, [])
        self._turns[name] = partial(self._measure, name, programs, turn, count)

    def add_paced(self, name: str, server: Program, client: Program) -> None:
        """A candidate whose client makes requests at set times, and tells the median time of an answer."""
        interval_ns = self.time.parameters["interval"]
        count = max(REQUESTS_LEAST, self._effort.paced_ns // interval_ns)
        self.work.values.setdefault(name, [])

        def turn(count: int) -> int:
            return count * client.ask(count, interval_ns)[0]

        self._turns[name] = partial(self._measure, name, (server, client), turn, count)

    def add_fresh(self, candidate: Candidate, count: int) -> None:
        """A candidate whose processes are new in every turn: the time that they take to learn is measured too."""
        self.work.values.setdefault(candidate.name, [])

        def turn() -> float:
            with self._session.programs() as start:
                programs = start_pair(self._session, start, candidate, self.time.parameters, ANSWERING)
                return self._measure(candidate.name, programs, elapsed(programs[1]), count)

        self._turns[candidate.name] = turn

    def _measure(self, name: str, programs: Sequence[Program], turn: Callable[[int], int], count: int) -> float:
        before_ns = sum(program.processor_ns() for program in programs)
        elapsed_ns = turn(count)
        work_ns = sum(program.processor_ns() for program in programs) - before_ns
        self.work.values[name].append(work_ns / count)
        return elapsed_ns / count

    def take_turns(self, rounds: int | None = None) -> None:
        self._session.take_turns(self.time, self._turns, rounds or self._effort.rounds)


BETWEEN_TWO = (
    Candidate("C", "blocking", native=True),
    Candidate("socket", "with_socket"),
    Candidate("multiprocessing", "with_multiprocessing"),
    Candidate("asyncio Protocol", "with_protocols"),
    Candidate("asyncio streams", "with_streams"),
    Candidate("uvloop Protocol", "with_protocols", loop="uvloop", needs=("uvloop",)),
    Candidate("uvloop streams", "with_streams", loop="uvloop", needs=("uvloop",)),
    Candidate("trio", "with_trio", needs=("trio",)),
    Candidate("pyzmq", "with_zmq", needs=("zmq",)),
    Candidate("pynng", "with_nng", needs=("pynng",)),
    Candidate("bbipc", "with_bbipc"),
    Candidate("bbipc, ctypes", "with_bbipc", calls="ctypes"),
)
SPINNING_OFF = Candidate("bbipc, spinning off", "with_bbipc", spinning="off")
ROUND_TRIP = (
    *BETWEEN_TWO,
    SPINNING_OFF,
    Candidate("bbipc, server with socket", "with_bbipc", peer="with_socket"),
)


def start_pair(
    session: Session,
    start: Callable[..., Program],
    candidate: Candidate,
    parameters: dict[str, Any],
    functions: tuple[str, str],
) -> tuple[Program, Program]:
    """A server that sends back what it gets, and a client of it."""
    serving, asking = session.processors_of(parameters["placement"])
    size = parameters["size"]
    server_candidate = dataclasses.replace(candidate, module=candidate.peer or candidate.module)
    address = session.address(parameters["transport"])
    serve, ask = functions
    server = start(server_candidate, serve, address, size, processor=serving)
    connected = start(candidate, ask, server.line(), size, processor=asking)
    connected.line()
    return server, connected


@dataclass(frozen=True)
class RoundTrips:
    """What goes to another process and back, and the functions of the server and the client."""

    candidates: tuple[Candidate, ...]
    baseline: str
    functions: tuple[str, str]

    def measure(self, session: Session, effort: Effort, workload: str) -> Iterator[Comparison]:
        for transport, placement in itertools.product(TRANSPORTS, session.placements):
            parameters = {"transport": transport, "placement": placement, "size": 64}
            pairs = BetweenTwo(session, effort, workload, parameters, self.baseline)
            for _ in range(effort.starts):
                with session.programs() as start:
                    for candidate in installed(self.candidates, transport):
                        programs = start_pair(session, start, candidate, parameters, self.functions)
                        pairs.add(candidate.name, programs, elapsed(programs[1]))
                    pairs.take_turns()
            yield pairs.time
            yield pairs.work


#: Of programs that answer bytes.
ANSWERING = ("round_trip_server", "round_trip_client")


def round_trip(session: Session, effort: Effort) -> Iterator[Comparison]:
    return RoundTrips(ROUND_TRIP, "socket", ANSWERING).measure(session, effort, "round-trip")


# ---- Two processes: what a start has to learn, neighbours, and pauses ----

SOCKET = Candidate("socket", "with_socket")
SPINNING_ON = Candidate("bbipc", "with_bbipc")


def starts(session: Session, effort: Effort) -> Iterator[Comparison]:
    """Round trips of new processes. The worst start counts: a program has only one."""
    for transport in TRANSPORTS:
        parameters = {"transport": transport, "placement": session.placements[0], "size": 64}
        pairs = BetweenTwo(session, effort, "starts", parameters, SPINNING_OFF.name)
        # A few are enough for waits that have nothing to learn.
        pairs.add_fresh(SPINNING_OFF, effort.fresh_trips // 4)
        pairs.add_fresh(SPINNING_ON, effort.fresh_trips)
        pairs.take_turns(effort.fresh_starts)
        yield pairs.time
        yield pairs.work


NEIGHBOUR = Candidate("neighbour", "compute")


def busy(session: Session, effort: Effort) -> Iterator[Comparison]:
    """The same beside two programs that only compute. The scheduler places all four."""
    for transport in TRANSPORTS:
        parameters = {"transport": transport, "placement": "busy", "size": 64}
        pairs = BetweenTwo(session, effort, "busy", parameters)
        for candidate in (SOCKET, SPINNING_OFF, SPINNING_ON):
            pairs.add_fresh(candidate, effort.fresh_trips)
        with session.programs() as start:
            for _ in range(2):
                start(NEIGHBOUR, "endlessly", "none", processor=None).line()
            pairs.take_turns(effort.fresh_starts // 2)
        yield pairs.time
        yield pairs.work


PACED = ("round_trip_server", "paced_client")


def paced(session: Session, effort: Effort) -> Iterator[Comparison]:
    """Requests at set times. The client sleeps between them."""
    for transport in TRANSPORTS:
        parameters = {"transport": transport, "placement": session.placements[0], "size": 64}
        all_pairs = [
            BetweenTwo(session, effort, "paced", {**parameters, "interval": interval_ns})
            for interval_ns in effort.intervals_ns
        ]
        for _ in range(effort.starts):
            with session.programs() as start:
                programs = {
                    candidate.name: start_pair(session, start, candidate, parameters, PACED)
                    for candidate in (SOCKET, SPINNING_OFF, SPINNING_ON)
                }
                for pairs in all_pairs:
                    for name, (server, client) in programs.items():
                        pairs.add_paced(name, server, client)
                    pairs.take_turns()
        for pairs in all_pairs:
            yield pairs.time
            yield pairs.work


#: Bytes. What is checked byte by byte, before anything is measured.
CHECKED = 4 << 20


@dataclass(frozen=True)
class OneWay:
    """What goes from one process to another, and the functions of the sender and the receiver."""

    candidates: tuple[Candidate, ...]
    baseline: str
    functions: tuple[str, str]
    sizes: tuple[int, ...]
    #: Counts are multiples of it.
    step: int = 1

    def measure(self, session: Session, effort: Effort, workload: str) -> Iterator[Comparison]:
        for transport, size in itertools.product(TRANSPORTS, self.sizes):
            parameters = {"transport": transport, "placement": session.placements[0], "size": size}
            pairs = BetweenTwo(session, effort, workload, parameters, self.baseline)
            for _ in range(effort.starts):
                with session.programs() as start:
                    for candidate in installed(self.candidates, transport):
                        self._add(session, start, candidate, pairs)
                    pairs.take_turns()
            yield pairs.time
            yield pairs.work

    def _add(self, session: Session, start: Callable[..., Program], candidate: Candidate, pairs: BetweenTwo) -> None:
        size, transport, placement = (pairs.time.parameters[name] for name in ("size", "transport", "placement"))
        send, receive = self.functions
        receiver = start(candidate, receive, session.address(transport), size)
        sender = start(candidate, send, receiver.line(), size, processor=session.other(placement))
        sender.line()
        turn = partial(transfer, receiver, sender)
        turn(CHECKED // size // self.step * self.step, checked=True)
        pairs.add(candidate.name, (receiver, sender), turn, least=max(4, self.step), step=self.step)


def transfer(receiver: Program, sender: Program, count: int, *, checked: bool = False) -> int:
    """Nanoseconds from when the sender began until the receiver had all."""
    receiver.send(count, int(checked))
    (start_ns,) = sender.ask(count)
    (end_ns,) = receiver.answer()
    return end_ns - start_ns


STREAM = OneWay(BETWEEN_TWO, "socket", ("sender", "stream_receiver"), (4096, 65536, 1048576))


def stream(session: Session, effort: Effort) -> Iterator[Comparison]:
    return STREAM.measure(session, effort, "stream")


# ---- Two processes: messages ----

QUEUES = Candidate(
    "cloudtoid-interprocess", "with_interprocess", needs=("cloudtoid_interprocess",), transports=("local",)
)
OF_MESSAGES = (
    Candidate("socket files", "with_files"),
    Candidate("multiprocessing", "with_multiprocessing"),
    Candidate("asyncio streams", "with_streams"),
    Candidate("uvloop streams", "with_streams", loop="uvloop", needs=("uvloop",)),
    Candidate("pyzmq", "with_zmq", needs=("zmq",)),
    Candidate("pynng", "with_nng", needs=("pynng",)),
    QUEUES,
)
MESSAGES = OneWay(
    (
        *OF_MESSAGES,
        dataclasses.replace(QUEUES, name=f"{QUEUES.name}, one at a time", variant="single_"),
        Candidate("bbipc", "with_bbipc"),
        Candidate("bbipc, lists of 10", "with_bbipc", variant="tens_"),
        Candidate("bbipc, one at a time", "with_bbipc", variant="single_"),
    ),
    "socket files",
    ("message_sender", "message_receiver"),
    (100, 1024),
    step=100,  # SERIES of the programs
)
MESSAGE_ROUND_TRIPS = RoundTrips(
    (
        *OF_MESSAGES,
        SPINNING_ON,
        SPINNING_OFF,
        Candidate("bbipc, bytes", "with_bbipc", variant="bytes_"),
    ),
    "socket files",
    ("message_server", "message_client"),
)


def messages(session: Session, effort: Effort) -> Iterator[Comparison]:
    return MESSAGES.measure(session, effort, "messages")


def message_round_trip(session: Session, effort: Effort) -> Iterator[Comparison]:
    return MESSAGE_ROUND_TRIPS.measure(session, effort, "message-round-trip")


# ---- Echo servers under the load generator ----

ECHO = (
    Candidate("C, epoll", "epoll_server", native=True),
    Candidate("select.epoll", "with_epoll"),
    Candidate("selectors", "with_selectors"),
    Candidate("asyncio Protocol", "with_protocols"),
    Candidate("asyncio streams", "with_streams"),
    Candidate("uvloop Protocol", "with_protocols", loop="uvloop", needs=("uvloop",)),
    Candidate("uvloop streams", "with_streams", loop="uvloop", needs=("uvloop",)),
    Candidate("trio", "with_trio", needs=("trio",)),
    Candidate("bbipc", "with_bbipc"),
    Candidate("bbipc, batched", "with_bbipc", variant="batched_"),
    Candidate("bbipc, ctypes", "with_bbipc", calls="ctypes"),
    Candidate("bbipc, batched, ctypes", "with_bbipc", variant="batched_", calls="ctypes"),
)

LOAD = Candidate("load", "load", native=True)

#: The size of requests where most candidates are compared.
COMPARED_SIZE = 1024

Servers = dict[str, tuple[Program, str]]


def start_servers(
    session: Session, start: Callable[..., Program], transport: str, candidates: Sequence[Candidate]
) -> Servers:
    """The echo servers and their addresses, by their candidates' names."""
    servers = {}
    for candidate in installed(candidates):
        server = start(candidate, "echo_server", session.address(transport))
        servers[candidate.name] = server, server.line()
    return servers


class Load:
    """Measures echo servers under a load, one after the other: their processor time, and how fast they were."""

    def __init__(self, session: Session, effort: Effort, workload: str, mode: str, parameters: dict[str, Any]) -> None:
        self._session = session
        self._effort = effort
        self._mode = mode
        #: Processor nanoseconds of the server for each request.
        self.work = Comparison(workload, parameters, "ns", "select.epoll")
        self.speed = Comparison(f"{workload}-rate", parameters, "1/s", "select.epoll")
        #: The median time of an answer.
        self.latency = Comparison(f"{workload}-latency", parameters, "ns", "select.epoll")

    @property
    def compares_spinning(self) -> bool:
        """Whether candidates with spinning off are measured too. Other sizes of requests would show nothing else."""
        return self._mode == "random" or self.work.parameters["size"] == COMPARED_SIZE

    def take_turns(self, servers: Servers) -> None:
        parameters = self.work.parameters
        for name in servers:
            self.speed.values.setdefault(name, [])
            self.latency.values.setdefault(name, [])
        turns = {name: partial(self._turn, name, *server) for name, server in servers.items()}
        compared_most = (parameters["connections"], parameters["size"]) == (100, COMPARED_SIZE)
        self._session.take_turns(self.work, turns, self._effort.rounds * (2 if compared_most else 1))

    def _durations(self) -> tuple[int, ...]:
        """The nanoseconds of the warm-up and of the measured part; and the rate, if the load has one."""
        rate = self.work.parameters.get("rate")
        if rate is None:
            return self._effort.warmup_ns, self._effort.turn_ns
        measured_ns = max(2 * self._effort.turn_ns, self._effort.random_least * 10**9 // rate)
        return measured_ns // 4, measured_ns, rate

    def _turn(self, name: str, server: Program, address: str) -> float:
        parameters = self.work.parameters
        warmup_ns, measured_ns, *rate = self._durations()
        program = self._session.command(
            LOAD,
            self._mode,
            address,
            parameters["connections"],
            parameters["size"],
            warmup_ns,
            measured_ns,
            server.pid,
            *rate,
            processor=self._session.other(parameters["placement"]),
        )
        try:
            (line,) = program.finish()
        except BenchmarkError as error:
            raise BenchmarkError(f"{error}\nThe server, {server}, said:\n{server.errors()}") from None
        finally:
            program.close()
        requests, elapsed_ns, server_ns, latency_ns = map(int, line.split())
        self.speed.values[name].append(requests * 1e9 / elapsed_ns)
        self.latency.values[name].append(latency_ns)
        return server_ns / requests


def under_load(
    session: Session, transport: str, loads: Sequence[Load], starts: int, candidates: Sequence[Candidate]
) -> None:
    for _ in range(starts):
        with session.programs() as start:
            servers = start_servers(session, start, transport, candidates)
            plain = {name: server for name, server in servers.items() if "spinning off" not in name}
            for load in loads:
                load.take_turns(servers if load.compares_spinning else plain)


#: Connections and size of what is measured with server and load together on one processor too.
TOGETHER = frozenset({(1, 64), (100, 64), (100, 1024)})
#: Connections and size that take longest, and show no more than fewer connections do.
TOO_MUCH = (1000, 65536)
BATCHED_OFF = Candidate("bbipc, batched, spinning off", "with_bbipc", "batched_", spinning="off")


def echo(session: Session, effort: Effort) -> Iterator[Comparison]:
    for transport in TRANSPORTS:
        loads = [
            Load(
                session,
                effort,
                "echo",
                "echo",
                {"transport": transport, "placement": placement, "connections": connections, "size": size},
            )
            for placement in session.placements
            for size in effort.sizes
            for connections in effort.connections
            if (connections, size) != TOO_MUCH
            and (placement == session.placements[0] or (connections, size) in TOGETHER)
        ]
        under_load(session, transport, loads, effort.starts, (*ECHO, SPINNING_OFF, BATCHED_OFF))
        for load in loads:
            yield load.work
            yield load.latency
            yield load.speed


def arrivals(session: Session, effort: Effort) -> Iterator[Comparison]:
    """Requests at random times: most waits last until the next request, and looking for it is in vain."""
    parameters = {"transport": "tcp", "placement": session.placements[0], "connections": 20, "size": 64}
    loads = [Load(session, effort, "arrivals", "random", {**parameters, "rate": rate}) for rate in effort.rates]
    candidates = (Candidate("select.epoll", "with_epoll"), SPINNING_OFF, SPINNING_ON)
    under_load(session, "tcp", loads, effort.starts, candidates)
    for load in loads:
        yield load.work
        yield load.latency


def connect(session: Session, effort: Effort) -> Iterator[Comparison]:
    for transport in TRANSPORTS:
        parameters = {"transport": transport, "placement": session.placements[0], "connections": 10, "size": 64}
        load = Load(session, effort, "connect", "connect", parameters)
        under_load(session, transport, [load], effort.starts, ECHO)
        yield load.work
        yield load.speed


# ---- Idle connections ----


def memory(session: Session, effort: Effort) -> Iterator[Comparison]:
    """What an echo server's resident memory grows by for each connection, one request on each."""
    for transport in TRANSPORTS:
        comparison = Comparison("memory", {"transport": transport, "connections": effort.held}, "B", "select.epoll")
        turns = {
            candidate.name: partial(memory_growth, session, candidate, transport, effort.held)
            for candidate in installed(ECHO)
        }
        session.take_turns(comparison, turns, min(effort.rounds, 5))
        yield comparison


def memory_growth(session: Session, candidate: Candidate, transport: str, connections: int) -> float:
    with session.programs() as start:
        server = start(candidate, "echo_server", session.address(transport))
        address = server.line()
        # What is made with the first connections is not theirs.
        start(LOAD, "idle", address, 10, 64).line()
        before = resident(server.pid)
        start(LOAD, "idle", address, connections, 64).line()
        return max(1, resident(server.pid) - before) / connections


def resident(pid: int) -> int:
    """Bytes of the process's memory."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise BenchmarkError(f"the kernel does not tell the memory of process {pid}")


WATCHERS = (
    Candidate("select.epoll", "with_epoll"),
    Candidate("select.poll", "with_poll"),
    Candidate("selectors", "with_selectors"),
    Candidate("bbipc", "with_bbipc"),
    Candidate("bbipc, ctypes", "with_bbipc", calls="ctypes"),
)
#: Commands of these programs.
ACCEPT, ACCEPT_TRACED, WAIT = 0, 1, 2


@dataclass(frozen=True)
class Watcher:
    """A program that watches idle connections, and the one that holds their other ends."""

    program: Program
    accepted: int

    @classmethod
    def start(
        cls, session: Session, start: Callable[..., Program], candidate: Candidate, transport: str, idle: int, what: int
    ) -> Watcher:
        program = start(candidate, "watcher", session.address(transport))
        holder = start(LOAD, "idle", program.line(), idle, 0, processor=session.other("apart"))
        (accepted,) = program.ask(what, idle)
        holder.line()
        return cls(program, accepted)

    def wait(self, count: int) -> int:
        return self.program.ask(WAIT, count)[0]


def wait(session: Session, effort: Effort) -> Iterator[Comparison]:
    """What one wait takes that reports one of many sockets."""
    for transport in TRANSPORTS:
        least = effort.idle[0]
        comparison = Comparison("wait", {"transport": transport}, "ns", f"select.epoll, {least} idle")
        for _ in range(effort.starts):
            with session.programs() as start:
                turns = {}
                for candidate, idle in itertools.product(WATCHERS, effort.idle):
                    watcher = Watcher.start(session, start, candidate, transport, idle, ACCEPT)
                    turns[f"{candidate.name}, {idle} idle"] = turn_of(watcher.wait, effort.turn_ns // 5)
                session.take_turns(comparison, turns, 2 * effort.rounds)
        yield comparison


def python_memory(session: Session, effort: Effort) -> Iterator[Comparison]:
    """What Python allocates for each stream that is monitored (tracemalloc)."""
    for transport in TRANSPORTS:
        count = effort.held
        comparison = Comparison("python-memory", {"transport": transport, "connections": count}, "B", "select.epoll")
        turns = {candidate.name: partial(traced_memory, session, candidate, transport, count) for candidate in WATCHERS}
        session.take_turns(comparison, turns, min(effort.rounds, 3))
        yield comparison


def traced_memory(session: Session, candidate: Candidate, transport: str, count: int) -> float:
    with session.programs() as start:
        return Watcher.start(session, start, candidate, transport, count, ACCEPT_TRACED).accepted / count


def idle(session: Session, effort: Effort) -> Iterator[Comparison]:
    """The processor time of a program that waits for nothing. All candidates are measured at once."""
    count = min(effort.held, 1000)
    parameters = {"transport": "tcp", "connections": count, "duration": effort.rest_ns}
    comparison = Comparison("idle", parameters, "ns", SPINNING_OFF.name)
    with session.programs() as start:
        programs = {}
        for candidate in (Candidate("select.epoll", "with_epoll"), SPINNING_OFF, SPINNING_ON):
            program = programs[candidate.name] = start(candidate, "resting", session.address("tcp"), count)
            start(LOAD, "idle", program.line(), count, 0, processor=session.other("apart")).line()
            program.line()
        # By then, all have begun to wait.
        time.sleep(0.2)
        began_ns = {name: program.processor_ns() for name, program in programs.items()}
        time.sleep(effort.rest_ns / 1e9)
        for name, program in programs.items():
            # A program that only slept has had no processor time, and 0 has no ratio to anything.
            comparison.values[name] = [max(1, program.processor_ns() - began_ns[name])]
    yield comparison


TIME_OUTS = (
    Candidate("select.epoll", "with_epoll"),
    Candidate("select.select", "with_poll", "select_"),
    SPINNING_OFF,
    SPINNING_ON,
)


def time_out(session: Session, effort: Effort) -> Iterator[Comparison]:
    """The time of a wait that times out after 100 us."""
    comparison = Comparison("time-out", {}, "ns", "select.epoll")
    with session.programs() as start:
        turns = {}
        for candidate in TIME_OUTS:
            program = start(candidate, "time_out", session.address("local"))
            program.line()
            # The program tells the median, so all candidates wait equally often.
            turns[candidate.name] = partial(median_wait, program, effort.turn_ns // 2_000_000)
        session.take_turns(comparison, turns, 2 * effort.rounds)
    yield comparison


def median_wait(program: Program, count: int) -> float:
    return program.ask(count)[0]


# ---- Events, and import ----

EVENT_TESTS = (
    Candidate("int &", "with_enum", variant="number_"),
    Candidate("enum.IntFlag &", "with_enum", variant="flag_"),
    Candidate("bbipc events.data_available", "with_bbipc", variant="event_"),
)


def events(session: Session, effort: Effort) -> Iterator[Comparison]:
    comparison = Comparison("events", {}, "ns", "int &")
    for _ in range(effort.starts):
        with session.programs() as start:
            turns = {}
            for candidate in EVENT_TESTS:
                program = start(candidate, "test", "none")
                program.line()
                # Enough runs that the cost of the clock and of the loop doesn't count.
                turns[candidate.name] = turn_of(elapsed(program), effort.turn_ns // 5, least=100_000)
            session.take_turns(comparison, turns, 2 * effort.rounds)
    yield comparison


IMPORTED = {
    "socket": "socket",
    "selectors": "selectors",
    "multiprocessing": "multiprocessing.connection",
    "asyncio": "asyncio",
    "uvloop": "uvloop",
    "trio": "trio",
    "pyzmq": "zmq",
    "pynng": "pynng",
    "bbipc": "bbipc",
}


def import_time(session: Session, effort: Effort) -> Iterator[Comparison]:
    """What the import takes in a new process that has imported nothing else."""
    comparison = Comparison("import", {}, "ns", "socket")
    turns = {
        name: partial(import_ns, module)
        for name, module in IMPORTED.items()
        if importlib.util.find_spec(module.partition(".")[0])
    }
    session.take_turns(comparison, turns, 1)  # for the files to be in memory
    comparison.values.clear()
    session.take_turns(comparison, turns, 4 * effort.rounds)
    yield comparison


def import_ns(module: str) -> float:
    program = f"import time; start = time.process_time_ns(); import {module}; print(time.process_time_ns() - start)"
    finished = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise BenchmarkError(f"import {module}:\n{finished.stderr}")
    return int(finished.stdout)


Workload = Callable[[Session, Effort], Iterator[Comparison]]

#: By the names that the command takes.
WORKLOADS: dict[str, Workload] = {
    "pair": pair,
    "round-trip": round_trip,
    "starts": starts,
    "busy": busy,
    "paced": paced,
    "echo": echo,
    "arrivals": arrivals,
    "stream": stream,
    "messages": messages,
    "message-round-trip": message_round_trip,
    "connecting": connecting,
    "connect": connect,
    "wait": wait,
    "idle": idle,
    "time-out": time_out,
    "memory": memory,
    "python-memory": python_memory,
    "gil": gil,
    "events": events,
    "import": import_time,
}
