"""The benchmarks run from end to end, on the least that they can measure; and they notice an echo that is wrong."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import platform
import re
import socket
import threading
from pathlib import Path

import pytest

from systems import LINUX

pytestmark = [
    pytest.mark.skipif(not LINUX, reason="the benchmarks are for Linux: they bind processes to processors"),
    pytest.mark.skipif(
        platform.python_implementation() != "CPython", reason="the benchmarks measure the calling layer for CPython too"
    ),
    pytest.mark.skipif(
        importlib.util.find_spec("ziglang") is None, reason="ziglang, which compiles the load generator, is missing"
    ),
]

if LINUX:
    from benchmarks.__main__ import main, measure
    from benchmarks.harness import BenchmarkError, Session
    from benchmarks.report import page
    from benchmarks.results import Results
    from benchmarks.targets import outcomes
    from benchmarks.workloads import LOAD, QUICK

#: What can be measured without any peer of the extra `benchmarks`.
ALWAYS = {"C, epoll", "select.epoll", "selectors", "asyncio Protocol", "asyncio streams", "bbipc", "bbipc, batched"}


def test_least_run_from_end_to_end(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    effort = dataclasses.replace(
        QUICK, rounds=1, turn_ns=2_000_000, warmup_ns=1_000_000, connections=(3,), sizes=(1024,)
    )
    results = measure(effort, ["pair", "echo", "events"])
    for comparison in results.comparisons:
        assert all(value > 0 for values in comparison.values.values() for value in values), comparison
    for transport in ("tcp", "local"):
        (pair,) = results.find("pair", transport=transport)
        assert set(pair.values) == {"C", "socket", "bbipc", "bbipc, ctypes"}
        (echo, *_) = results.find("echo", transport=transport)
        assert set(echo.values) >= ALWAYS

    # Stored, taken again by the command, and shown.
    stored = directory / "results.json"
    results.save(stored)
    assert Results.load(stored).machine == results.machine
    main(["--from", str(stored)])
    printed = capsys.readouterr().out
    assert printed.startswith("| work |")
    assert re.search(r"\| `write` \+ `read_into` of 64 B.*\| socket \| [\d.]+ \(.*\| (met|missed) \|", printed)
    assert "| asyncio Protocol | **" in printed
    verdicts: dict[str, set[str]] = {}
    for outcome in outcomes(results):
        verdicts.setdefault(outcome.target.workload, set()).add(outcome.verdict)
    assert verdicts["pair"] <= {"met", "missed", "stated"}
    assert verdicts["events"] <= {"met", "missed"}
    assert verdicts["round-trip"] == {"not measured"}
    assert "$" not in page(results, {})


class WrongEcho(threading.Thread):
    """A server that changes one byte of the second answer."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp:{self.listener.getsockname()[1]}"

    def run(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            connection.sendall(connection.recv(65536))
            wrong = bytearray(connection.recv(65536))
            wrong[len(wrong) // 2] ^= 1
            connection.sendall(wrong)
            connection.recv(1)


def test_wrong_byte_in_an_echo_ends_the_run(directory: Path) -> None:
    session = Session(directory)
    server = WrongEcho()
    server.start()
    program = session.command(LOAD, "echo", server.address, 1, 1000, 0, 1_000_000_000, os.getpid())
    try:
        with pytest.raises(BenchmarkError, match="request 2: other bytes came back than were sent"):
            program.finish()
    finally:
        program.close()
        server.listener.close()
        server.join(10)
