"""The results of a run: what was measured, on what. Stored as JSON, so that tables and pictures can be made again."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .harness import Comparison

#: The distributions whose versions are told.
DISTRIBUTIONS = ("bbipc", "uvloop", "trio", "pyzmq", "pynng", "cloudtoid-interprocess", "ziglang")


@dataclass
class Results:
    effort: str
    #: What the machine and the programs are, in the order in which they are told.
    machine: dict[str, str]
    comparisons: list[Comparison] = field(default_factory=list)

    def find(self, workload: str, **parameters: Any) -> list[Comparison]:
        """The comparisons of a workload that have these parameters."""
        return [
            one
            for one in self.comparisons
            if one.workload == workload and all(one.parameters.get(name) == parameters[name] for name in parameters)
        ]

    def save(self, path: Path) -> None:
        # One comparison a line: a file that can be looked at, and that is not mostly spaces.
        lines = ",\n".join(json.dumps(rounded(one.as_json())) for one in self.comparisons)
        head = json.dumps({"effort": self.effort, "machine": self.machine})[:-1]
        path.write_text(f'{head}, "comparisons": [\n{lines}\n]}}\n', encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Results:
        stored = json.loads(path.read_text(encoding="utf-8"))
        comparisons = [Comparison(**one) for one in stored["comparisons"]]
        return cls(stored["effort"], stored["machine"], comparisons)


def rounded(comparison: dict[str, Any]) -> dict[str, Any]:
    values = {name: [float(f"{value:.5g}") for value in each] for name, each in comparison["values"].items()}
    return {**comparison, "values": values}


def describe_machine() -> dict[str, str]:
    information = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"^(?:model name|Model)\s*: (.*)$", information, re.MULTILINE)
    virtual = ", virtual machine" if re.search(r"^flags\s*:.*\bhypervisor\b", information, re.MULTILINE) else ""
    cores = len(os.sched_getaffinity(0))
    # Without what a distribution adds.
    kernel = re.match(r"[\d.]*\d", platform.release())
    one, five, fifteen = os.getloadavg()
    library, library_version = platform.libc_ver()
    machine = {
        "Processor": f"{model[1] if model else platform.machine()}, {cores} cores{virtual}",
        "Kernel": f"{platform.system()} {kernel[0] if kernel else platform.release()}, {platform.machine()}",
        "Load average before": f"{one:.2f} {five:.2f} {fifteen:.2f}",
        "Date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "C library": f"{library} {library_version}",
    }
    machine.update({name: version_of(name) for name in DISTRIBUTIONS})
    if machine["pyzmq"] != "not installed":
        import zmq

        machine["pyzmq"] += f" with libzmq {zmq.zmq_version()}"
    return machine


def version_of(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
