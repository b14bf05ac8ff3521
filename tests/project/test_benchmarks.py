"""The benchmarks run from end to end, on the least that they can measure; and they notice an echo that is wrong."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import platform
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from systems import LINUX

pytestmark = [
    pytest.mark.long,
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
    from benchmarks.harness import ROOT, BenchmarkError, Candidate, Comparison, Session, Spread
    from benchmarks.report import PICTURES, SECTIONS, page
    from benchmarks.results import Results
    from benchmarks.targets import OFF, outcomes
    from benchmarks.workloads import LOAD, QUICK, WORKLOADS

#: What can be measured without any peer of the extra `benchmarks`.
ALWAYS = {"C, epoll", "select.epoll", "selectors", "asyncio Protocol", "asyncio streams", "bbipc", "bbipc, batched"}
WITH_LENGTHS = {"socket files", "multiprocessing", "asyncio streams", "bbipc"}


@pytest.fixture(scope="module")
def least() -> Results:
    """A run of all workloads: the least of each that can be measured, and drawn."""
    effort = dataclasses.replace(
        QUICK,
        rounds=1,
        turn_ns=2_000_000,
        warmup_ns=1_000_000,
        connections=(3, 100),
        sizes=(1024,),
        fresh_starts=2,
        fresh_trips=100,
        intervals_ns=(1_000_000,),
        paced_ns=1,
        rates=(5000,),
        random_least=100,
        idle=(3, 10),
        held=50,
        rest_ns=100_000_000,
    )
    return measure(effort, list(WORKLOADS))


def only(results: Results, *workloads: str, effort: str | None = None) -> Results:
    """The results of some workloads."""
    found = [one for name in workloads for one in results.find(name)]
    return Results(effort or results.effort, results.machine, found)


# It starts hundreds of programs, and .ci/run runs it behind others.
@pytest.mark.timeout(600)
def test_least_run_from_end_to_end(least: Results, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in WORKLOADS:
        assert least.find(name), name
    for comparison in least.comparisons:
        assert all(value > 0 for values in comparison.values.values() for value in values), comparison
        assert comparison.baseline in comparison.values
    for transport in ("tcp", "local"):
        (pair,) = least.find("pair", transport=transport)
        assert set(pair.values) == {"C", "socket", "bbipc", "bbipc, ctypes"}
        (echo, *_) = least.find("echo", transport=transport)
        assert set(echo.values) >= ALWAYS
        (messages, *_) = least.find("messages", transport=transport)
        assert set(messages.values) >= {*WITH_LENGTHS, "bbipc, lists of 10", "bbipc, one at a time"}
        (message_round_trip, *_) = least.find("message-round-trip", transport=transport)
        assert set(message_round_trip.values) >= {*WITH_LENGTHS, "bbipc, spinning off", "bbipc, bytes"}

    # Stored, taken again by the command, and shown.
    stored = directory / "results.json"
    least.save(stored)
    assert Results.load(stored).machine == least.machine
    main(["--from", str(stored)])
    printed = capsys.readouterr().out
    assert printed.startswith("| work |")
    assert re.search(r"\| `write` \+ `read_into` of 64 B.*\| socket \| [\d.]+ \(.*\| (met|missed) \|", printed)
    assert "| asyncio Protocol | **" in printed
    # All that is measured has its place.
    assert {one.workload for one in least.comparisons} == {section.workload for section in SECTIONS}
    assert "Not measured." not in page(least, {})


@pytest.mark.timeout(600)
def test_verdicts_are_of_what_was_measured(least: Results) -> None:
    verdicts: dict[str, set[str]] = {}
    for outcome in outcomes(only(least, "pair", "events")):
        verdicts.setdefault(outcome.target.workload, set()).add(outcome.verdict)
    assert verdicts["pair"] <= {"met", "missed", "stated"}
    assert verdicts["events"] <= {"met", "missed"}
    assert verdicts["round-trip"] == {"not measured"}
    assert "$" not in page(only(least, "pair", "events"), {})


@pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="matplotlib, which draws the pictures, is missing"
)
@pytest.mark.timeout(600)
def test_the_page_shows_every_picture_that_is_drawn(least: Results, directory: Path) -> None:
    stored = directory / "results.json"
    least.save(stored)
    # A process of its own, for matplotlib keeps the files of its fonts open.
    command = [sys.executable, "-m", "tests.benchmarks", "--from", stored, "--write", "--docs", directory]
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    text = (directory / "benchmarks.md").read_text(encoding="utf-8")
    assert "$" not in text
    shown = re.findall(r"!\[[^\]]+\]\(benchmarks/([^)]+)\)", text)
    assert sorted(shown) == sorted(f"{name}.svg" for name in PICTURES)
    assert sorted([*shown, "results.json"]) == sorted(path.name for path in (directory / "benchmarks").iterdir())
    assert Results.load(directory / "benchmarks" / "results.json").comparisons


@pytest.mark.timeout(600)
def test_the_documentation_takes_no_part_of_a_run(
    least: Results, directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stored quick run took the place of a whole one, for only the options of the present run were looked at."""
    written: list[Path] = []
    monkeypatch.setattr("benchmarks.__main__.write", lambda _results, docs: written.append(docs))
    stored = directory / "results.json"
    names = list(WORKLOADS)
    for part in (only(least, *names, effort="quick"), only(least, *names[1:], effort="full"), Results("full", {}, [])):
        part.save(stored)
        with pytest.raises(SystemExit) as raised:
            main(["--from", str(stored), "--write"])
        assert raised.value.code == 2
        assert f"takes a whole run, which {stored} is not" in capsys.readouterr().err
        main(["--from", str(stored), "--write", "--docs", str(directory)])
    for options in (["--quick"], ["--only", "pair"]):
        with pytest.raises(SystemExit):
            main([*options, "--write"])
    assert written == [directory] * 3

    only(least, *names, effort="full").save(stored)
    main(["--from", str(stored), "--write"])
    assert written[3:] == [ROOT / "docs"]


def test_the_worst_of_many_is_compared_with_the_median() -> None:
    """Nineteen good starts hid one that took ten times as long."""
    values = {OFF: [60.0] * 20, "bbipc": [5.0] * 19 + [50.0]}
    comparisons = [Comparison(name, {"transport": "tcp"}, "ns", OFF, values) for name in ("starts", "busy")]
    found = {
        (one.target.workload, one.target.worst): one
        for one in outcomes(Results("full", {}, comparisons))
        if one.measured
    }
    worst = found["starts", True]
    assert worst.measured == Spread(10.0, 10.0, 10.0)
    assert worst.verdict == "missed"
    assert found["busy", False].verdict == found["busy", True].verdict == "met"


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


@pytest.mark.parametrize(("mode", "rate"), [("echo", ()), ("random", (100,))])
def test_wrong_byte_in_an_echo_ends_the_run(directory: Path, mode: str, rate: tuple[int, ...]) -> None:
    session = Session(directory)
    server = WrongEcho()
    server.start()
    program = session.command(LOAD, mode, server.address, 1, 1000, 0, 1_000_000_000, os.getpid(), *rate)
    try:
        with pytest.raises(BenchmarkError, match="request 2: other bytes came back than were sent"):
            program.finish()
    finally:
        program.close()
        server.listener.close()
        server.join(10)


@pytest.mark.parametrize("module", ["with_files", "with_bbipc"])
def test_wrong_byte_in_a_message_ends_the_run(directory: Path, module: str) -> None:
    size = 100 * (4 + 100)
    session = Session(directory)
    with socket.create_server(("127.0.0.1", 0)) as listener, session.programs() as start:
        listener.settimeout(10)
        sender = start(Candidate("sender", "with_files"), "message_sender", f"tcp:{listener.getsockname()[1]}", 100)
        receiver = start(Candidate("receiver", module), "message_receiver", "tcp", 100)
        port = int(receiver.line().partition(":")[2])
        with listener.accept()[0] as source, socket.create_connection(("127.0.0.1", port)) as sink:
            sender.line()
            for last_byte in (0, 1):
                receiver.send(100, 0)
                sender.ask(100)
                series = bytearray(source.recv(size, socket.MSG_WAITALL))
                series[-1] ^= last_byte
                sink.sendall(series)
                if not last_byte:
                    receiver.answer()
            with pytest.raises(BenchmarkError, match="came than w"):
                receiver.answer()
