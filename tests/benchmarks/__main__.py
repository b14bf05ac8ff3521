"""The command: ``python -m tests.benchmarks --help``."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from .harness import ROOT, BenchmarkError, Session
from .report import conditions_text, page, terminal_report, workload_title
from .results import Results, describe_machine
from .workloads import FULL, QUICK, WORKLOADS, Effort


def measure(effort: Effort, names: Sequence[str], store: Path | None = None) -> Results:
    """Runs the workloads. What has been measured is stored at once, so that a failure does not lose it."""
    rounds = (
        f"starts of the programs: {effort.starts}; rounds after each: {effort.rounds} or more;"
        f" a turn: {effort.turn_ns / 1e6:g} ms or less"
    )
    results = Results(effort.name, {**describe_machine(), "Rounds": rounds})
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bbipc-benchmarks-") as directory:
        session = Session(Path(directory))
        for name in names:
            for comparison in WORKLOADS[name](session, effort):
                results.comparisons.append(comparison)
                if store:
                    results.save(store)
                title, conditions = workload_title(comparison.workload), conditions_text(comparison.parameters)
                what = f"{title}: {conditions}" if conditions else title
                print(f"{time.monotonic() - began:6.0f} s  {what}", file=sys.stderr, flush=True)
    return results


def is_whole(results: Results) -> bool:
    """Whether everything was measured, and in full: what the documentation takes."""
    return results.effort == FULL.name and all(results.find(name) for name in WORKLOADS)


def write(results: Results, docs: Path) -> None:
    """Writes the page of the documentation, its pictures, and the results that they were made of."""
    # Only here, for it is slow to import, and not needed for a look at the figures.
    from .pictures import draw

    pictures = draw(results, docs / "benchmarks")
    results.save(docs / "benchmarks" / "results.json")
    (docs / "benchmarks.md").write_text(page(results, pictures), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measures bbipc against what a program would use instead, and prints the targets, then all tables.",
        epilog="Candidates that are not installed are left out: python -m pip install -e '.[test,benchmarks]'",
    )
    parser.add_argument("--quick", action="store_true", help="little of everything, to see that it works: 3 minutes")
    parser.add_argument(
        "--only", metavar="WORKLOAD", action="append", choices=list(WORKLOADS), help=f"of {', '.join(WORKLOADS)}"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="stores the results")
    parser.add_argument("--from", metavar="FILE", type=Path, dest="stored", help="takes stored results, measures none")
    parser.add_argument(
        "--write", action="store_true", help="writes docs/benchmarks.md, and docs/benchmarks/ with pictures and results"
    )
    parser.add_argument("--docs", metavar="DIRECTORY", type=Path, help="where --write writes instead of docs/")
    options = parser.parse_args(arguments)
    if options.write and not options.docs and (options.quick or options.only):
        parser.error("the documentation takes a whole run: use --write with --docs, or neither --quick nor --only")
    if options.stored:
        results = Results.load(options.stored)
        # The results tell how they were measured; these options don't.
        if options.write and not options.docs and not is_whole(results):
            parser.error(f"the documentation takes a whole run, which {options.stored} is not: use --write with --docs")
    elif not sys.platform.startswith("linux"):
        parser.error("the benchmarks are for Linux: they bind processes to processors, and read /proc")
    else:
        try:
            results = measure(QUICK if options.quick else FULL, options.only or list(WORKLOADS), options.json)
        except BenchmarkError as error:
            sys.exit(f"{parser.prog}: {error}")
    print(terminal_report(results))
    if options.write:
        write(results, options.docs or ROOT / "docs")


if __name__ == "__main__":
    main()
