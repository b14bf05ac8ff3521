"""Tables and the page of the documentation, made of the results alone."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .harness import Comparison, Spread
from .results import Results
from .targets import Outcome, outcomes

PAGE = Path(__file__).resolve().parent / "page.md"

TRANSPORT_NAMES = {"tcp": "TCP", "local": "local"}
PLACEMENT_NAMES = {
    "apart": "on one processor each",
    "together": "both on one processor",
    "busy": "beside two busy programs",
}


def size_text(size: int) -> str:
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor and size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size} B"


def parameter_text(name: str, value: Any) -> str:
    if name == "transport":
        return TRANSPORT_NAMES[value]
    if name == "placement":
        return PLACEMENT_NAMES[value]
    if name == "interval":
        return f"every {value / 1e6:g} ms" if value >= 1e6 else f"every {value / 1e3:g} µs"
    if name == "duration":
        return f"{value / 1e9:g} s"
    if name == "rate":
        return f"{value:,}/s"
    if name == "size":
        return size_text(value)
    if name == "connections":
        return f"{value:,} connection" + ("s" if value != 1 else "")
    return str(value)


def conditions_text(conditions: dict[str, Any]) -> str:
    return ", ".join(parameter_text(name, value) for name, value in conditions.items())


def number_text(value: float) -> str:
    """Three significant digits."""
    return f"{float(f'{value:.3g}'):,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def value_text(value: float, unit: str) -> str:
    if unit == "ns":
        for larger, factor in (("ms", 1e6), ("µs", 1e3)):
            if value >= factor:
                return f"{number_text(value / factor)} {larger}"
    if unit == "1/s":
        return f"{float(f'{value:.3g}'):,.0f}/s"
    return f"{number_text(value)} {unit}"


def spread_text(spread: Spread, number: Any = number_text) -> str:
    return f"{number(spread.median)} ({number(spread.low)} to {number(spread.high)})"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# ---- The targets ----


def three_places(value: float) -> str:
    return f"{value:.3f}"


def measured_text(outcome: Outcome, number: Any, unit: str) -> str:
    if outcome.measured is None:
        return ""
    # The worst of many starts is a single value.
    return number(outcome.measured.median) if outcome.target.worst else spread_text(outcome.measured, number) + unit


def targets_table(results: Results) -> str:
    def row(outcome: Outcome) -> list[str]:
        target = outcome.target
        number = number_text if target.unit else three_places
        unit = f" {target.unit}" if target.unit else ""
        return [
            target.work,
            conditions_text(outcome.conditions),
            target.against or "",
            measured_text(outcome, number, unit),
            "" if target.bound is None else f"{target.bound:g}{unit}",
            outcome.verdict,
        ]

    head = ["work", "how", "against", "ratio (middle half)", "at most", ""]
    return markdown_table(head, [row(outcome) for outcome in outcomes(results)])


# ---- The workloads ----


@dataclass(frozen=True)
class Section:
    """How the comparisons of a workload are shown: one table for all that differ in one parameter only."""

    workload: str
    #: That parameter. Its values are the columns.
    columns: str
    #: Only comparisons with these parameters.
    only: dict[str, Any] = field(default_factory=dict)


SECTIONS = (
    Section("pair", "transport"),
    Section("round-trip", "transport"),
    Section("round-trip-work", "transport"),
    Section("starts", "transport"),
    Section("starts-work", "transport"),
    Section("busy", "transport"),
    Section("busy-work", "transport"),
    Section("paced", "interval"),
    Section("paced-work", "interval"),
    Section("echo", "connections"),
    Section("echo-latency", "connections", {"size": 1024}),
    Section("echo-rate", "connections", {"size": 1024}),
    Section("arrivals", "rate"),
    Section("arrivals-latency", "rate"),
    Section("stream", "size"),
    Section("stream-work", "size"),
    Section("messages", "transport"),
    Section("messages-work", "transport"),
    Section("message-round-trip", "transport"),
    Section("message-round-trip-work", "transport"),
    Section("connecting", "transport"),
    Section("connect", "transport"),
    Section("connect-rate", "transport"),
    Section("wait", "transport"),
    Section("idle", "transport"),
    Section("time-out", ""),
    Section("memory", "transport"),
    Section("python-memory", "transport"),
    Section("gil", "size"),
    Section("events", ""),
    Section("import", ""),
)


#: Those of the page.
PICTURES = (
    "answer",
    "pair",
    "round-trip",
    "echo",
    "echo-connections",
    "stream",
    "messages",
    "wait",
    "memory",
    "import",
)


def groups(results: Results, section: Section) -> Iterator[tuple[dict[str, Any], list[Comparison]]]:
    """What each table is about, and the comparisons that are its columns."""
    found: list[tuple[dict[str, Any], list[Comparison]]] = []
    for comparison in results.find(section.workload, **section.only):
        common = {name: value for name, value in comparison.parameters.items() if name != section.columns}
        for conditions, comparisons in found:
            if conditions == common:
                comparisons.append(comparison)
                break
        else:
            found.append((common, [comparison]))
    return iter(found)


def cell(comparison: Comparison, name: str) -> str:
    values = comparison.values.get(name)
    if not values:
        return ""
    median = Spread.of(values).median
    value = value_text(median, comparison.unit)
    if comparison.workload == "stream":
        # Bytes in a nanosecond are gigabytes in a second.
        value += f", {number_text(comparison.parameters['size'] / median)} GB/s"
    if comparison.workload in {"starts", "busy"}:
        value += f", at worst {value_text(max(values), comparison.unit)}"
    if name == comparison.baseline:
        return f"**1**, {value}"
    return f"**{spread_text(Spread.of(comparison.ratios(name, comparison.baseline)))}**, {value}"


def section_tables(results: Results, section: Section) -> str:
    tables = []
    for conditions, comparisons in groups(results, section):
        names = list(dict.fromkeys(name for comparison in comparisons for name in comparison.values))
        names.sort(key=order)
        head = [""] + [
            parameter_text(section.columns, one.parameters[section.columns]) if section.columns else "ratio, median"
            for one in comparisons
        ]
        rows = [[name, *(cell(comparison, name) for comparison in comparisons)] for name in names]
        caption = conditions_text(conditions)
        caption = caption[:1].upper() + caption[1:]
        tables.append((f"{caption}:\n\n" if caption else "") + markdown_table(head, rows))
    return "\n\n".join(tables) or "Not measured."


def order(name: str) -> tuple[bool, ...]:
    """bbipc last, C first, the others as they are listed."""
    return name.startswith("bbipc"), name != "C" and not name.startswith("C,")


def workload_title(workload: str) -> str:
    return workload.replace("-", " ")


def terminal_report(results: Results) -> str:
    """The targets first, then everything."""
    sections = [
        f"## {workload_title(section.workload)}\n\n{section_tables(results, section)}"
        for section in SECTIONS
        if results.find(section.workload)
    ]
    return "\n\n".join([targets_table(results), *sections])


def page(results: Results, pictures: dict[str, str]) -> str:
    """The page of the documentation, with the Markdown that shows each picture."""
    machine = markdown_table(["", ""], [[name, value] for name, value in results.machine.items()])
    values = {
        "machine": machine,
        "targets": targets_table(results),
        **{f"table_{section.workload.replace('-', '_')}": section_tables(results, section) for section in SECTIONS},
        **{f"picture_{name.replace('-', '_')}": pictures.get(name, "") for name in PICTURES},
    }
    return string.Template(PAGE.read_text(encoding="utf-8")).substitute(values)
