"""The command: ``python -m tests.benchmarks --help``."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from .harness import Comparison, Session, Spread
from .workloads import FULL, QUICK, WORKLOADS


def show(comparison: Comparison) -> None:
    print(comparison.workload, comparison.parameters, comparison.unit, flush=True)
    for name, values in comparison.values.items():
        ratio = Spread.of(comparison.ratios(name, comparison.baseline))
        value = Spread.of(values)
        print(
            f"  {name:24} {ratio.median:6.3f} [{ratio.low:6.3f} {ratio.high:6.3f}]",
            f"  {value.median:10.0f} [{value.low:.0f} {value.high:.0f}]",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="append", choices=list(WORKLOADS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    comparisons = []
    with tempfile.TemporaryDirectory(prefix="bbipc-benchmarks-") as directory:
        session = Session(Path(directory))
        for name in arguments.only or WORKLOADS:
            for comparison in WORKLOADS[name](session, QUICK if arguments.quick else FULL):
                show(comparison)
                comparisons.append(comparison.as_json())
    if arguments.json:
        arguments.json.write_text(json.dumps(comparisons, indent=1))


if __name__ == "__main__":
    main()
