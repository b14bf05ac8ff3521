"""The pictures of the documentation, made of the results alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

from .harness import Comparison, Spread
from .report import TRANSPORT_NAMES, order, size_text
from .results import Results

# Text as text, and the same bytes for the same results.
mpl.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "bbipc",
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)

COLOURS = {"tcp": "#2f6f9f", "local": "#d08a2e"}
#: Of lines, by what they show.
LINE_COLOURS = {
    "C": "#222222",
    "C, epoll": "#222222",
    "socket": "#8c564b",
    "select.epoll": "#8c564b",
    "selectors": "#c49c94",
    "select.poll": "#e377c2",
    "multiprocessing": "#7f7f7f",
    "asyncio Protocol": "#17becf",
    "asyncio streams": "#9edae5",
    "uvloop Protocol": "#9467bd",
    "uvloop streams": "#c5b0d5",
    "trio": "#bcbd22",
    "pyzmq": "#d62728",
    "pynng": "#ff9896",
    "bbipc": "#1f77b4",
    "bbipc, batched": "#2ca02c",
}


#: For each line, the places on both axes.
Points = dict[str, list[tuple[float, float]]]


def save(figure: Any, path: Path, title: str) -> None:
    figure.savefig(path, format="svg", metadata={"Title": title, "Date": None}, bbox_inches="tight")
    plt.close(figure)


def bars(path: Path, comparisons: Sequence[Comparison], title: str, axis: str) -> None:
    """The ratios to the baseline, one bar for each transport, with the middle half of the rounds."""
    names = sorted(dict.fromkeys(name for one in comparisons for name in one.values), key=order)[::-1]
    figure, axes = plt.subplots(figsize=(7.5, 0.8 + 0.42 * len(names)))
    height = 0.8 / len(comparisons)
    largest = 1.0
    for number, comparison in enumerate(comparisons):
        transport = comparison.parameters.get("transport", "local")
        # Not every candidate has every transport.
        measured = [(at, name) for at, name in enumerate(names) if comparison.values.get(name)]
        spreads = [Spread.of(comparison.ratios(name, comparison.baseline)) for _, name in measured]
        medians = [spread.median for spread in spreads]
        largest = max(largest, *medians)
        errors = [[one.median - one.low for one in spreads], [one.high - one.median for one in spreads]]
        places = [at + 0.4 - height * (number + 0.5) for at, _ in measured]
        axes.barh(
            places,
            medians,
            height,
            xerr=errors,
            color=COLOURS[transport],
            label=TRANSPORT_NAMES[transport] if "transport" in comparison.parameters else None,
            error_kw={"elinewidth": 0.8, "ecolor": "#444444"},
        )
        for place, one in zip(places, spreads):
            text = f"{one.median:.2f}"
            axes.annotate(text, (one.high, place), va="center", fontsize=8, xytext=(4, 0), textcoords="offset points")
    axes.axvline(1, color="#444444", linewidth=0.8, linestyle="--")
    if largest > 20:
        axes.set_xscale("log")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel(axis)
    axes.set_title(title, loc="left")
    if any("transport" in one.parameters for one in comparisons):
        axes.legend(frameon=False, loc="best")
    save(figure, path, title)


#: The candidates of the first picture, and the names that its readers know them by.
ANSWERS = {
    "socket": "socket",
    "multiprocessing": "multiprocessing",
    "asyncio streams": "asyncio",
    "pyzmq": "ZeroMQ",
    "bbipc, spinning off": "bbipc, spinning off",
    "bbipc": "bbipc",
}


def answer_bars(path: Path, comparisons: Sequence[Comparison], title: str) -> None:
    """The time of a round trip, for readers who look at no other picture: no ratios, and only bbipc in colour."""
    figure, panels = plt.subplots(1, len(comparisons), figsize=(7.5, 2.6), sharex=True, sharey=True, squeeze=False)
    names = [name for name in ANSWERS if any(name in one.values for one in comparisons)][::-1]
    longest = 0.0
    for axes, comparison in zip(panels[0], comparisons):
        medians = [Spread.of(comparison.values.get(name) or [0]).median / 1000 for name in names]
        colours = [COLOURS["local"] if name == "bbipc" else "#b8bfc6" for name in names]
        axes.barh(range(len(names)), medians, 0.7, color=colours)
        for place, (name, median) in enumerate(zip(names, medians)):
            weight = "bold" if name == "bbipc" else "normal"
            text = f"{median:.1f} µs" if median < 10 else f"{median:.0f} µs"
            axes.annotate(text, (median, place), va="center", weight=weight, xytext=(4, 0), textcoords="offset points")
        longest = max(longest, *medians)
        axes.set_xlim(0, 1.25 * longest)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.set_title(f"{TRANSPORT_NAMES[comparison.parameters['transport']]} sockets", fontsize=10)
    panels[0][0].set_yticks(range(len(names)), [ANSWERS[name] for name in names])
    for label in panels[0][0].get_yticklabels():
        label.set_weight("bold" if label.get_text() == "bbipc" else "normal")
    figure.suptitle(f"{title} (less is better)", x=0.02, ha="left")
    figure.tight_layout()
    save(figure, path, title)


def lines(path: Path, title: str, x_axis: str, y_axis: str, points: Points, ticks: dict[float, str]) -> None:
    """One line for each candidate, over what the ticks name. Both axes are logarithmic."""
    figure, axes = plt.subplots(figsize=(7.5, 4.2))
    for name in sorted(points, key=order):
        line = sorted(points[name])
        ours = name.startswith("bbipc")
        axes.plot(
            [x for x, _ in line],
            [y for _, y in line],
            marker="o",
            markersize=4,
            linewidth=2.2 if ours else 1.2,
            color=LINE_COLOURS.get(name),
            label=name,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    axes.set_xlabel(x_axis)
    axes.set_ylabel(y_axis)
    axes.set_title(title, loc="left")
    axes.grid(visible=True, which="major", linewidth=0.3)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, path, title)


#: Candidates with these words in their names are in the tables only.
NOT_DRAWN = ("ctypes", "spinning off", "server with socket")


def shown(comparison: Comparison) -> Comparison:
    """Without the candidates that are in the tables only."""
    values = {name: each for name, each in comparison.values.items() if not any(part in name for part in NOT_DRAWN)}
    return Comparison(comparison.workload, comparison.parameters, comparison.unit, comparison.baseline, values)


def first_placement(results: Results) -> str:
    """Two processes on one processor each, where there are two."""
    return "apart" if any(results.find(name, placement="apart") for name in ("echo", "round-trip")) else "together"


def draw(results: Results, directory: Path) -> dict[str, str]:
    """Writes the pictures into the directory, and returns the Markdown that shows each."""
    directory.mkdir(parents=True, exist_ok=True)
    shows: dict[str, str] = {}

    def draw_bars(name: str, title: str, comparisons: list[Comparison], axis: str) -> None:
        if comparisons:
            bars(directory / f"{name}.svg", comparisons, title, f"{axis}, as a ratio to {comparisons[0].baseline}")
        shows[name] = f"![{title}]({directory.name}/{name}.svg)" if comparisons else ""

    def draw_lines(name: str, title: str, points: Points, ticks: dict[float, str], x_axis: str, y_axis: str) -> None:
        if points:
            lines(directory / f"{name}.svg", title, x_axis, y_axis, points, ticks)
        shows[name] = f"![{title}]({directory.name}/{name}.svg)" if points else ""

    def find(workload: str, **parameters: Any) -> list[Comparison]:
        return [shown(one) for one in results.find(workload, **parameters)]

    placement = first_placement(results)
    answers = results.find("round-trip", placement=placement)
    title = "A request of 64 bytes and its answer, between two Python programs"
    if answers:
        answer_bars(directory / "answer.svg", answers[::-1], title)
    shows["answer"] = f"![{title}]({directory.name}/answer.svg)" if answers else ""
    draw_bars("pair", "Write and read of 64 bytes in one process", results.find("pair"), "processor time")
    draw_bars(
        "round-trip",
        "64-byte round trip, both processes on one processor",
        find("round-trip", placement="together"),
        "time",
    )
    draw_bars(
        "echo",
        "Echo server, 100 connections, 1 KiB",
        find("echo", placement=placement, connections=100, size=1024),
        "processor time per request",
    )
    draw_bars("messages", "100-byte messages one way", find("messages", size=100), "time")
    draw_bars("memory", "Memory of an echo server per idle connection", find("memory"), "resident memory")
    draw_bars("import", "Import in a new process", find("import"), "processor time")

    points: Points = {}
    ticks: dict[float, str] = {}
    for one in find("echo", placement=placement, transport="tcp", size=1024):
        connections = one.parameters["connections"]
        ticks[connections] = f"{connections:,}"
        for name, values in one.values.items():
            points.setdefault(name, []).append((connections, Spread.of(values).median / 1000))
    title = "Echo server over TCP, 1 KiB: processor time per request, by connections"
    draw_lines("echo-connections", title, points, ticks, "connections", "µs")

    points, ticks = {}, {}
    for one in find("stream", transport="local"):
        size = one.parameters["size"]
        ticks[size] = size_text(size)
        for name, values in one.values.items():
            points.setdefault(name, []).append((size, size / Spread.of(values).median))
    title = "One-way stream over local sockets: throughput, by the size of a write"
    draw_lines("stream", title, points, ticks, "written at once", "GB/s")

    points, ticks = {}, {}
    for one in find("wait", transport="tcp"):
        for name, values in one.values.items():
            candidate, _, idle_text = name.rpartition(", ")
            idle = int(idle_text.split()[0])
            ticks[idle] = f"{idle:,}"
            points.setdefault(candidate, []).append((idle, Spread.of(values).median / 1000))
    title = "One wait that reports one of many TCP sockets, by the number of idle ones"
    draw_lines("wait", title, points, ticks, "idle sockets", "µs")
    return shows
