"""What is measured, and with which programs."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from .harness import TRANSPORTS, BenchmarkError, Candidate, Comparison, Program, Session

Report = Callable[[str], None]


@dataclass(frozen=True)
class Effort:
    """How much is measured: enough for the documentation, or to see that everything works."""

    rounds: int
    #: How long one candidate is measured in one round.
    turn_ns: int
    warmup_ns: int
    #: How often programs are started anew, for where their memory lies decides over some percent too.
    starts: int
    connections: tuple[int, ...]
    sizes: tuple[int, ...]


FULL = Effort(
    rounds=5,
    turn_ns=200_000_000,
    warmup_ns=30_000_000,
    starts=4,
    connections=(1, 10, 100, 1000),
    sizes=(64, 1024, 65536),
)
QUICK = Effort(rounds=3, turn_ns=20_000_000, warmup_ns=5_000_000, starts=1, connections=(1, 100), sizes=(64, 1024))


def installed(candidates: Sequence[Candidate]) -> list[Candidate]:
    return [one for one in candidates if all(importlib.util.find_spec(module) for module in one.needs)]


def bytes_text(size: int) -> str:
    return f"{size // 1024} KiB" if size >= 1024 and size % 1024 == 0 else f"{size} B"


# ---- One process: write and read ----

PAIR = (
    Candidate("C", "blocking", native=True),
    Candidate("socket", "with_socket"),
    Candidate("bbipc", "with_bbipc"),
    Candidate("bbipc, ctypes", "with_bbipc", calls="ctypes"),
)


def repeated(program: Program, count: int) -> Callable[[], float]:
    """Nanoseconds for one of so many in a turn."""
    return lambda: program.ask(count)[0] / count


def fitting_count(program: Program, turn_ns: int) -> int:
    """How many fit into a turn, about."""
    count = 16
    while True:
        elapsed_ns = program.ask(count)[0]
        if elapsed_ns > turn_ns / 10:
            return max(1, int(count * turn_ns / elapsed_ns))
        count *= 4


def pair(session: Session, effort: Effort) -> Iterator[Comparison]:
    for transport in TRANSPORTS:
        comparison = Comparison("pair", {"transport": transport, "size": 64}, "ns", "socket")
        for _ in range(effort.starts):
            with session.programs() as start:
                turns = {}
                for candidate in PAIR:
                    program = start(candidate, "pair", session.address(transport), 64)
                    program.line()
                    turns[candidate.name] = repeated(program, fitting_count(program, effort.turn_ns // 4))
                session.take_turns(comparison, turns, effort.rounds)
        yield comparison


# ---- Two processes: round trips ----

ROUND_TRIP = (
    Candidate("C", "blocking", native=True),
    Candidate("socket", "with_socket"),
    Candidate("bbipc", "with_bbipc"),
    Candidate("bbipc, ctypes", "with_bbipc", calls="ctypes"),
)


def round_trip(session: Session, effort: Effort) -> Iterator[Comparison]:
    for transport, placement in itertools.product(TRANSPORTS, session.placements):
        parameters = {"transport": transport, "placement": placement, "size": 64}
        comparison = Comparison("round-trip", parameters, "ns", "socket")
        for _ in range(effort.starts):
            with session.programs() as start:
                turns = {}
                for candidate in installed(ROUND_TRIP):
                    names = ("server", "client") if candidate.native else ("round_trip_server", "round_trip_client")
                    server = start(candidate, names[0], session.address(transport), 64)
                    other = 1 if placement == "apart" else 0
                    program = start(candidate, names[1], server.line(), 64, processor=other)
                    program.line()
                    turns[candidate.name] = repeated(program, fitting_count(program, effort.turn_ns))
                session.take_turns(comparison, turns, effort.rounds)
        yield comparison


# ---- Echo servers ----

ECHO = (
    Candidate("C, epoll", "epoll_server", native=True),
    Candidate("select.epoll", "with_epoll", "echo_server"),
    Candidate("selectors", "with_selectors", "echo_server"),
    Candidate("asyncio Protocol", "with_asyncio", "protocol_echo_server"),
    Candidate("asyncio streams", "with_asyncio", "streams_echo_server"),
    Candidate("uvloop Protocol", "with_asyncio", "uvloop_protocol_echo_server", needs=("uvloop",)),
    Candidate("uvloop streams", "with_asyncio", "uvloop_streams_echo_server", needs=("uvloop",)),
    Candidate("trio", "with_trio", "echo_server", needs=("trio",)),
    Candidate("bbipc", "with_bbipc", "echo_server"),
    Candidate("bbipc, batched", "with_bbipc", "batched_echo_server"),
    Candidate("bbipc, ctypes", "with_bbipc", "echo_server", calls="ctypes"),
    Candidate("bbipc, batched, ctypes", "with_bbipc", "batched_echo_server", calls="ctypes"),
)

LOAD = Candidate("load", "load", native=True)


Servers = dict[str, tuple[Program, str]]


def start_servers(
    session: Session, start: Callable[..., Program], candidates: Sequence[Candidate], transport: str
) -> Servers:
    """The echo servers and their addresses, by their candidates' names."""
    servers = {}
    for candidate in candidates:
        server = start(candidate, candidate.function, session.address(transport))
        servers[candidate.name] = server, server.line()
    return servers


class Load:
    """Measures echo servers under a load, one after the other: their processor time, and how fast they were."""

    def __init__(self, session: Session, effort: Effort, mode: str, parameters: dict[str, Any]) -> None:
        self._session = session
        self._effort = effort
        self._mode = mode
        #: Processor nanoseconds of the server for each request.
        self.work = Comparison(mode, parameters, "ns", "select.epoll")
        self.speed = Comparison(f"{mode}-rate", parameters, "1/s", "select.epoll")

    def take_turns(self, servers: Servers, rounds: int) -> None:
        for name in servers:
            self.speed.values.setdefault(name, [])
        self._session.take_turns(
            self.work, {name: partial(self._turn, name, *server) for name, server in servers.items()}, rounds
        )

    def _turn(self, name: str, server: Program, address: str) -> float:
        parameters = self.work.parameters
        program = self._session.command(
            LOAD,
            self._mode,
            address,
            parameters["connections"],
            parameters["size"],
            self._effort.warmup_ns,
            self._effort.turn_ns,
            server.pid,
            processor=1 if parameters["placement"] == "apart" else 0,
        )
        try:
            (line,) = program.finish()
        except BenchmarkError as error:
            raise BenchmarkError(f"{error}\nThe server, {server}, said:\n{server.errors()}") from None
        finally:
            program.close()
        requests, elapsed_ns, server_ns = map(int, line.split())
        self.speed.values[name].append(requests * 1e9 / elapsed_ns)
        return server_ns / requests


def echo(session: Session, effort: Effort) -> Iterator[Comparison]:
    for transport in TRANSPORTS:
        loads = [
            Load(
                session,
                effort,
                "echo",
                {"transport": transport, "placement": placement, "connections": n, "size": size},
            )
            for placement in session.placements
            for size in effort.sizes
            for n in effort.connections
            # The rest shows nothing else.
            if placement == "apart" or (n, size) in {(1, 64), (100, 64), (100, 1024)}
        ]
        for _ in range(effort.starts):
            with session.programs() as start:
                servers = start_servers(session, start, installed(ECHO), transport)
                for load in loads:
                    load.take_turns(servers, effort.rounds)
        for load in loads:
            yield load.work
            yield load.speed


WORKLOADS: dict[str, Callable[[Session, Effort], Iterator[Comparison]]] = {
    "pair": pair,
    "round-trip": round_trip,
    "echo": echo,
}
