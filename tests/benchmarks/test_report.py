"""One table and plots of whatever rows there are."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from benchmarks.report import Row, show, write

BARS = [
    Row("Calls", "moved", "calls", 4.0, {"original": 12.0, "oracle": 3.0}),
    Row("Calls", "ordinary", "calls", 1.0, {"original": 4.0, "oracle": 0.0}),
]
LINE = [Row("Growth: time", "changes", "ms", 2.0 * at, {"bare": at / 2}, at=at) for at in (100, 1_000, 10_000)]
ALONE = [Row("Powers", "memory", "power", 0.0041)]


def table(rows: list[Row]) -> list[str]:
    console = Console(file=io.StringIO(), width=200)
    show(rows, console)
    assert isinstance(console.file, io.StringIO)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def test_a_ratio_is_ours_by_theirs_and_none_where_theirs_is_nothing():
    lines = table(BARS)
    assert "Calls moved 4 original 12, oracle 3 0.33, 1.33 calls" in lines
    assert "ordinary 1 original 4, oracle 0 0.25, - calls" in lines


def test_a_place_on_an_axis_stands_before_what_the_axis_is():
    assert "1,000 changes 2,000 bare 500 4.00 ms" in table(LINE)


def test_a_figure_may_stand_alone():
    assert "Powers memory 0.0041 power" in table(ALONE)


def test_the_table_and_a_plot_of_each_benchmark_in_both_forms_are_written(tmp_path: Path):
    written = write([*BARS, *LINE, *ALONE], tmp_path / "results")
    assert {path.name for path in written} == {
        "table.txt",
        *(f"{name}.{kind}" for name in ("calls", "growth-time", "powers") for kind in ("png", "svg")),
    }
    assert all(path.stat().st_size > 300 for path in written)
    assert "0.33, 1.33" in (tmp_path / "results" / "table.txt").read_text("utf-8")
