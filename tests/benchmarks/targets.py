"""What bbipc has to show, and whether it does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .harness import Spread
from .results import Results


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


ECHO = {"connections": 100, "size": 1024}
TARGETS = (
    Target("`write` + `read_into` of 64 B, one process", "pair", "bbipc", "socket", 1.0),
    Target("the same, ctypes against the CPython layer", "pair", "bbipc, ctypes", "bbipc", None),
    Target("64 B round trip", "round-trip", "bbipc", "socket", 1.05),
    Target("64 B round trip", "round-trip", "bbipc", "multiprocessing", 0.75),
    Target("64 B round trip", "round-trip", "bbipc", "pyzmq", 0.4),
    Target("the same, processor time of both processes", "round-trip-work", "bbipc", "socket", None),
    Target("echo server, 100 connections, 1 KiB", "echo", "bbipc", "select.epoll", 1.0, parameters=ECHO),
    Target("echo server, 100 connections, 1 KiB", "echo", "bbipc", "uvloop Protocol", 0.95, parameters=ECHO),
    Target("the same, batched", "echo", "bbipc, batched", "select.epoll", 0.9, parameters=ECHO),
    Target("the same, batched", "echo", "bbipc, batched", "C, epoll", 1.25, parameters=ECHO),
    Target("one-way stream, 64 KiB", "stream", "bbipc", "socket", 1.0, parameters={"size": 65536}),
    Target(
        "the same, processor time of both processes", "stream-work", "bbipc", "socket", None, parameters={"size": 65536}
    ),
    Target("a wait with 10,000 idle sockets", "wait", "bbipc, 10000 idle", "bbipc, 10 idle", 1.1),
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


def outcomes(results: Results) -> list[Outcome]:
    found = []
    for target in TARGETS:
        comparisons = results.find(target.workload, **target.parameters)
        for comparison in comparisons:
            values = comparison.values
            if target.candidate not in values or (target.against and target.against not in values):
                measured = None
            elif target.against:
                measured = Spread.of(comparison.ratios(target.candidate, target.against))
            else:
                measured = Spread.of(values[target.candidate])
            conditions = {
                name: value for name, value in comparison.parameters.items() if name in {"transport", "placement"}
            }
            found.append(Outcome(target, conditions, measured))
        if not comparisons:
            found.append(Outcome(target, {}, None))
    return found
