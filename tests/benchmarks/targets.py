"""What bbipc has to show, and whether it does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .harness import Comparison, Spread
from .results import Results

#: The units of bounds on values, in the units of comparisons.
UNITS = {"": 1.0, "ns": 1.0, "µs": 1e3, "B": 1.0}


@dataclass(frozen=True)
class Target:
    """A bound on the ratio of two candidates' values in the same round; or on a candidate's values themselves."""

    work: str
    workload: str
    candidate: str
    #: The other candidate; none where the bound is on values.
    against: str | None
    #: None for what is only to be stated.
    bound: float | None
    unit: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    #: The bound is on the greatest of the candidate's values, as a ratio to the median of the other's.
    worst: bool = False


ONE = {"connections": 1, "size": 1024}
TEN = {"connections": 10, "size": 1024}
HUNDRED = {"connections": 100, "size": 1024}
TOGETHER = {"placement": "together"}
APART = {"placement": "apart"}
TCP = {"transport": "tcp", **APART}
LOCAL = {"transport": "local", **APART}
LOCAL_100 = {"size": 100, **LOCAL}
OFF = "bbipc, spinning off"
MIXED = "bbipc, server with socket"

ROUND_TRIP, NEW = "64 B round trip", "20,000 round trips of new processes"
BOTH = "the same, processor time of both processes"
ARRIVALS = "requests at random, 20 connections, processor time of the server"
PACED = "requests at set times, processor time of both processes"
MESSAGES = "100 B messages one way, lists of 100"
MESSAGE = "round trip of a 64 B message"
TARGETS = (
    Target("`write` + `read_into` of 64 B, one process", "pair", "bbipc", "socket", 1.0),
    Target("the same, ctypes against the CPython layer", "pair", "bbipc, ctypes", "bbipc", None),
    Target(ROUND_TRIP, "round-trip", "bbipc", "socket", 0.2, parameters=TCP),
    Target(ROUND_TRIP, "round-trip", "bbipc", "socket", 0.1, parameters=LOCAL),
    Target(ROUND_TRIP, "round-trip", "bbipc", "socket", 1.05, parameters=TOGETHER),
    Target(ROUND_TRIP, "round-trip", "bbipc", "multiprocessing", 0.75),
    Target(ROUND_TRIP, "round-trip", "bbipc", "pyzmq", 0.4),
    Target(BOTH, "round-trip-work", "bbipc", "socket", 0.35, parameters=APART),
    Target(BOTH, "round-trip-work", "bbipc", "socket", None, parameters=TOGETHER),
    Target(f"{ROUND_TRIP}, the server with `socket`", "round-trip", MIXED, "socket", 0.75, parameters=LOCAL),
    Target(f"{NEW}, the worst of 20 by the median", "starts", "bbipc", "bbipc", 1.5, worst=True),
    Target(NEW, "busy", "bbipc", OFF, 1.1),
    Target(f"{NEW}, the worst of 10 by the median", "busy", "bbipc", OFF, 2.0, worst=True),
    Target(PACED, "paced-work", "bbipc", OFF, 1.05, parameters={"interval": 100_000}),
    Target(PACED, "paced-work", "bbipc", OFF, 1.05, parameters={"interval": 1_000_000}),
    Target(PACED, "paced-work", "bbipc", OFF, 1.05, parameters={"interval": 10_000_000}),
    Target(ARRIVALS, "arrivals", "bbipc", OFF, 1.1),
    Target("the same, median of the answers", "arrivals-latency", "bbipc", OFF, 1.0),
    Target("echo server, 1 connection, 1 KiB, answer", "echo-latency", "bbipc", "select.epoll", 0.4, parameters=ONE),
    Target("the same, processor time", "echo", "bbipc", "select.epoll", 1.0, parameters=ONE),
    Target("echo server, 10 connections, 1 KiB", "echo", "bbipc", "select.epoll", 0.97, parameters=TEN),
    Target("the same, batched", "echo", "bbipc, batched", "select.epoll", 0.88, parameters=TEN),
    Target("the same, batched", "echo", "bbipc, batched", "C, epoll", 1.2, parameters=TEN),
    Target("echo server, 100 connections, 1 KiB", "echo", "bbipc", "select.epoll", 0.97, parameters=HUNDRED),
    Target("echo server, 100 connections, 1 KiB", "echo", "bbipc", "uvloop Protocol", 0.95, parameters=HUNDRED),
    Target("the same, batched", "echo", "bbipc, batched", "select.epoll", 0.88, parameters=HUNDRED),
    Target("the same, batched", "echo", "bbipc, batched", "C, epoll", 1.2, parameters=HUNDRED),
    Target("connect, accept, close of both", "connecting", "bbipc", "socket", 1.0),
    Target("the same, both ends awaited", "connecting", "bbipc, both awaited", "socket", None),
    Target("one-way stream, 64 KiB", "stream", "bbipc", "socket", 1.0, parameters={"size": 65536}),
    Target(BOTH, "stream-work", "bbipc", "socket", None, parameters={"size": 65536}),
    Target(MESSAGES, "messages", "bbipc", "pyzmq", 0.166, parameters=LOCAL_100),
    Target(MESSAGES, "messages", "bbipc", "cloudtoid-interprocess, one at a time", 0.166, parameters=LOCAL_100),
    Target(MESSAGES, "messages", "bbipc", "cloudtoid-interprocess", None, parameters=LOCAL_100),
    Target(MESSAGES, "messages", "bbipc", "socket files", 0.333, parameters=LOCAL_100),
    Target("the same, 1 KiB", "messages", "bbipc", "pyzmq", 0.285, parameters={"size": 1024, **LOCAL}),
    Target(MESSAGE, "message-round-trip", "bbipc", "bbipc, bytes", 1.1, parameters=APART),
    Target(MESSAGE, "message-round-trip", "bbipc", "multiprocessing", 0.15, parameters=APART),
    Target("a wait with 10,000 idle sockets", "wait", "bbipc, 10000 idle", "bbipc, 10 idle", 1.1),
    Target("waiting beside 1,000 idle connections, processor time", "idle", "bbipc", OFF, 1.5),
    Target("a wait that times out after 100 µs", "time-out", "bbipc", None, 250, "µs"),
    Target("one event tested", "events", "bbipc events.data_available", None, 50, "ns"),
    Target("Python memory per idle monitored stream", "python-memory", "bbipc", None, 600, "B"),
)


@dataclass(frozen=True)
class Outcome:
    """A target, and what was measured for it under some conditions."""

    target: Target
    #: Such as the transport.
    conditions: dict[str, Any]
    #: None if it was not measured.
    measured: Spread | None

    @property
    def verdict(self) -> str:
        if self.measured is None:
            return "not measured"
        if self.target.bound is None:
            return "stated"
        return "met" if self.measured.median <= self.target.bound else "missed"


def measured(target: Target, comparison: Comparison) -> Spread | None:
    """None if one of the candidates was not measured."""
    ours = comparison.values.get(target.candidate)
    theirs = comparison.values.get(target.against) if target.against else None
    if not ours or (target.against and not theirs):
        return None
    if target.worst and theirs:
        return Spread.of([max(ours) / Spread.of(theirs).median])
    if target.against:
        return Spread.of(comparison.ratios(target.candidate, target.against))
    return Spread.of([value / UNITS[target.unit] for value in ours])


#: The parameters of a comparison that are told with an outcome. The name of the target tells the others.
CONDITIONS = frozenset({"transport", "placement", "interval", "rate", "duration"})


def conditions_of(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if name in CONDITIONS}


def outcomes(results: Results) -> list[Outcome]:
    found = []
    for target in TARGETS:
        found += [
            Outcome(target, conditions_of(comparison.parameters), measured(target, comparison))
            for comparison in results.find(target.workload, **target.parameters)
        ] or [Outcome(target, conditions_of(target.parameters), None)]
    return found
