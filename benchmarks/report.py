"""What a benchmark found, as rows; and the one place that makes a table and plots of rows.

What is measured, and how, is known by each benchmark alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

Progress = Callable[[float], None]
"""Hears which share of a benchmark is done."""

OURS = "booking-sync"


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


def show(rows: Sequence[Row], console: Console) -> None:
    """One line for each row."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in ("benchmark", "case"):
        table.add_column(heading)
    table.add_column(OURS, justify="right")
    for heading in ("beside", "ratio", "unit"):
        table.add_column(heading)
    for benchmark, found in groupby(rows, key=lambda row: row.benchmark):
        for place, row in enumerate(found):
            case = row.case if row.at is None else f"{_number(row.at)} {row.case}"
            beside = ", ".join(f"{name} {_number(theirs)}" for name, theirs in row.others.items())
            ratio = ", ".join(f"{row.ours / theirs:.2f}" if theirs else "-" for theirs in row.others.values())
            table.add_row(benchmark if place == 0 else "", case, _number(row.ours), beside, ratio, row.unit)
        table.add_section()
    console.print(table, soft_wrap=True)


def write(rows: Sequence[Row], folder: Path) -> list[Path]:
    """The table as text, and a plot of each benchmark as PNG and SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    text = folder / "table.txt"
    with text.open("w", encoding="utf-8") as file:
        show(rows, Console(file=file, width=200))
    written = [text]
    for benchmark, found in groupby(rows, key=lambda row: row.benchmark):
        name = re.sub(r"\W+", "-", benchmark.lower()).strip("-")
        paths = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
        _plot(benchmark, list(found), paths)
        written += paths
    return written


def _plot(title: str, rows: Sequence[Row], paths: Sequence[Path]) -> None:
    """A picture for each unit, below one another."""
    import matplotlib as mpl  # costs a second, and only plots need it

    mpl.use("Agg")
    from matplotlib.figure import Figure

    parts = [[row for row in rows if row.unit == unit] for unit in dict.fromkeys(row.unit for row in rows)]
    heights = [4.0 if part[0].at is not None else 0.8 + 0.22 * len(part) * len(_names(part)) for part in parts]
    figure = Figure(figsize=(8, sum(heights) + 0.4), layout="constrained")
    figure.suptitle(title)
    for axes, part in zip(figure.subplots(len(parts), height_ratios=heights, squeeze=False).flat, parts, strict=True):
        is_line = part[0].at is not None
        (_lines if is_line else _bars)(axes, part)
        axes.legend(fontsize="small")
        axes.grid(axis="both" if is_line else "x", alpha=0.3)
    for path in paths:
        figure.savefig(path, dpi=120)


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
    """A line for each of us; both axes are logarithmic if the places are far apart."""
    places = [row.at for row in rows if row.at is not None]
    for name in _names(rows):
        of = {row.at: row.ours if name == OURS else row.others.get(name) for row in rows}
        axes.plot(of.keys(), of.values(), marker="o", label=name)
    if min(places) > 0 and max(places) / min(places) > 20:
        axes.set_xscale("log")
        if all(row.ours > 0 for row in rows):
            axes.set_yscale("log")
    axes.set_xlabel(rows[0].case)
    axes.set_ylabel(rows[0].unit)


def _number(value: float) -> str:
    """Three digits that matter, and no exponent."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else "0.000"
