"""What a benchmark found, as rows; and the one place that makes tables and plots of rows.

What is measured, and how, is known by each benchmark alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import linear_regression
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

Progress = Callable[[float], None]
"""Hears which share of a benchmark is done."""

OURS = "booking-sync"


@dataclass(frozen=True)
class Bound:
    """What is promised of a ratio. It is shown whether it is kept, and nothing fails if not: a machine may be busy."""

    at_least: float = -math.inf
    at_most: float = math.inf

    def is_kept(self, value: float) -> bool:
        return self.at_least <= value <= self.at_most

    def __str__(self) -> str:
        if self.at_least == self.at_most:
            return f"= {_number(self.at_most)}"
        return f">= {_number(self.at_least)}" if math.isinf(self.at_most) else f"<= {_number(self.at_most)}"


def at_most(value: float) -> Bound:
    return Bound(at_most=value)


def at_least(value: float) -> Bound:
    return Bound(at_least=value)


def exactly(value: float) -> Bound:
    return Bound(value, value)


ITSELF = "itself"
"""Names what is promised of ours, whatever others spend."""


@dataclass(frozen=True)
class Row:
    """One figure of ours beside those of others for the same, in the same run."""

    benchmark: str
    """The figure's title; rows of one benchmark stand together."""
    case: str
    unit: str
    ours: float
    others: Mapping[str, float] = field(default_factory=dict)
    """By name; ``ours`` divided by each is the ratio."""
    at: float | None = None
    """Where the row stands on the axis that the case names, if the rows are a line and not bars."""
    promised: Mapping[str, Bound] = field(default_factory=dict)
    """Of the ratio to each of the others, or of ``ITSELF``."""

    def ratio(self, name: str) -> float | None:
        """None where theirs is nothing."""
        theirs = 1.0 if name == ITSELF else self.others[name]
        return self.ours / theirs if theirs else None

    def is_kept(self, name: str) -> bool:
        ratio = self.ratio(name)
        return ratio is not None and self.promised[name].is_kept(ratio)


HEADINGS = ("benchmark", "case", OURS, "beside", "ratio", "promised", "kept", "unit")


def cells(row: Row) -> tuple[str, ...]:
    """One line of a table, under ``HEADINGS``."""
    ratios = (row.ratio(name) for name in row.others)
    return (
        row.benchmark,
        row.case if row.at is None else f"{_number(row.at)} {row.case}",
        _number(row.ours),
        ", ".join(f"{name} {_number(theirs)}" for name, theirs in row.others.items()),
        ", ".join("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
        ", ".join(_promise(row, name) for name in row.promised),
        ", ".join("yes" if row.is_kept(name) else "NO" for name in row.promised),
        row.unit,
    )


def verdict(rows: Sequence[Row]) -> str:
    """How many promises are kept, and which are not."""
    promised = [(row, name) for row in rows for name in row.promised]
    broken = [(row, name) for row, name in promised if not row.is_kept(name)]
    text = f"{len(promised) - len(broken)} of {len(promised)} promises are kept"
    return text + "".join(
        f"; not kept: {row.benchmark}, {cells(row)[1]}, {_promise(row, name)}" for row, name in broken
    )


def _promise(row: Row, name: str) -> str:
    return f"{row.promised[name]} {name if name != ITSELF and len(row.others) > 1 else ''}".rstrip()


def show(rows: Sequence[Row], console: Console) -> None:
    """One line for each row."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading == OURS else "left")
    for _, found in groupby(rows, key=lambda row: row.benchmark):
        for place, row in enumerate(found):
            benchmark, *rest = cells(row)
            table.add_row(benchmark if place == 0 else "", *rest)
        table.add_section()
    console.print(table, soft_wrap=True)
    if any(row.promised for row in rows):
        console.print(f"\n{verdict(rows)}", soft_wrap=True)


def build_markdown(rows: Sequence[Row]) -> str:
    """The same table for a page, a heading for each benchmark."""
    lines = []
    for benchmark, found in groupby(rows, key=lambda row: row.benchmark):
        lines += [f"### {benchmark}", "", f"| {' | '.join(HEADINGS[1:])} |", "|---|---:|---|---|---|---|---|"]
        lines += [f"| {' | '.join(cells(row)[1:])} |" for row in found]
        lines.append("")
    return "\n".join([f"{verdict(rows)}.", "", *lines])


def write_table(rows: Sequence[Row], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = folder / "table.txt"
    with text.open("w", encoding="utf-8") as file:
        show(rows, Console(file=file, width=240))
    return text


def plot(rows: Sequence[Row], folder: Path, kinds: Sequence[str]) -> list[Path]:
    """A picture of each benchmark."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for benchmark, found in groupby(rows, key=lambda row: row.benchmark):
        paths = [folder / f"{name_of(benchmark)}.{kind}" for kind in kinds]
        _plot(benchmark, list(found), paths)
        written += paths
    return written


def name_of(benchmark: str) -> str:
    """Of its files."""
    return re.sub(r"\W+", "-", benchmark.lower()).strip("-")


def power(rows: Sequence[Row], name: str = OURS) -> float | None:
    """Which power of the axis the figure grows with: 0 is not at all, 1 in proportion; None if no line can be laid."""
    values = [(row.at, row.ours if name == OURS else row.others.get(name)) for row in rows]
    line = [(math.log(at), math.log(value)) for at, value in values if at and value and min(at, value) > 0]
    return linear_regression(*zip(*line, strict=True)).slope if len(line) > 1 else None


def _plot(title: str, rows: Sequence[Row], paths: Sequence[Path]) -> None:
    """A picture for each unit, below one another."""
    import matplotlib as mpl  # costs a second, and only plots need it

    mpl.use("Agg")
    # Texts stay texts, and the same rows make the same file.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "booking-sync"})
    from matplotlib.figure import Figure

    parts = [[row for row in rows if row.unit == unit] for unit in dict.fromkeys(row.unit for row in rows)]
    heights = [2.6 if part[0].at is not None else 0.8 + 0.22 * len(part) * len(_names(part)) for part in parts]
    figure = Figure(figsize=(8, sum(heights) + 0.4), layout="constrained")
    figure.suptitle(title)
    for axes, part in zip(figure.subplots(len(parts), height_ratios=heights, squeeze=False).flat, parts, strict=True):
        is_line = part[0].at is not None
        (_lines if is_line else _bars)(axes, part)
        outside = {} if is_line else {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}  # it would cover bars
        axes.legend(fontsize="small", **outside)
        axes.grid(axis="both" if is_line else "x", alpha=0.3)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # once laid out is enough for all files
    for path in paths:
        figure.savefig(path, dpi=120, metadata={"Date": None} if path.suffix == ".svg" else None)


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys([OURS, *(name for row in rows for name in row.others)]))


def _bars(axes: Any, rows: Sequence[Row]) -> None:
    """A group for each case, the first on top."""
    names = _names(rows)
    height = 0.8 / len(names)
    for place, name in enumerate(names):
        values = [row.ours if name == OURS else row.others.get(name, 0.0) for row in rows]
        bars = axes.barh([at + place * height for at in range(len(rows))], values, height, label=name)
        labels = [
            _number(value) if name in (OURS, *row.others) else "" for row, value in zip(rows, values, strict=True)
        ]
        axes.bar_label(bars, labels, padding=2, fontsize="x-small")
    axes.set_yticks([at + 0.4 - height / 2 for at in range(len(rows))], [row.case for row in rows], fontsize="small")
    axes.invert_yaxis()
    axes.set_xlabel(rows[0].unit)
    axes.margins(x=0.1)


def _lines(axes: Any, rows: Sequence[Row]) -> None:
    """A line for each of us, and the power it grows with; both axes are logarithmic if the places are far apart."""
    from matplotlib.ticker import LogLocator

    places = [row.at for row in rows if row.at is not None]
    for name in _names(rows):
        of = {row.at: row.ours if name == OURS else row.others.get(name) for row in rows}
        grows = power(rows, name)
        label = name if grows is None else f"{name}, power {grows:.2f}"
        axes.plot(of.keys(), of.values(), marker="o", label=label)
    if min(places) > 0 and max(places) / min(places) > 20:
        axes.set_xscale("log")
        values = [value for row in rows for value in (row.ours, *row.others.values())]
        if min(values) > 0:
            axes.set_yscale("log")
            axes.set_ylim(min(values) / 2, max(values) * 2)  # what differs by a hundredth is to look flat
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(lambda value, _: _number(value))
            axes.yaxis.set_minor_formatter(lambda value, _: "")
    axes.set_xlabel(rows[0].case)
    axes.set_ylabel(rows[0].unit)


def _number(value: float) -> str:
    """Three digits that matter, and no exponent."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else "0.000"
