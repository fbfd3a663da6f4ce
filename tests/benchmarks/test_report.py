"""One table and plots of whatever rows there are."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.report import (
    ITSELF,
    OURS,
    Row,
    at_least,
    at_most,
    build_markdown,
    exactly,
    plot,
    power,
    show,
    verdict,
    write_table,
)

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
    assert not any("promises" in line for line in lines)
    assert "ordinary 1 original 4, oracle 0 0.25, - calls" in lines


def test_a_place_on_an_axis_stands_before_what_the_axis_is():
    assert "1,000 changes 2,000 bare 500 4.00 ms" in table(LINE)


def test_a_figure_may_stand_alone():
    assert "Powers memory 0.0041 power" in table(ALONE)


PROMISED = [
    Row("Calls", "moved", "calls", 4.0, {"original": 12.0, "oracle": 3.0}, promised={"oracle": at_most(1.05)}),
    Row("Rate", "moved", "in a second", 9.0, {"bare": 10.0}, promised={"bare": at_least(0.8)}),
    Row("Rate", "known", "calls", 0.0, {"oracle": 0.0}, promised={ITSELF: exactly(0), "oracle": exactly(1)}),
]


def test_beside_a_ratio_stands_what_is_promised_of_it_and_whether_that_is_kept():
    lines = table(PROMISED)
    assert "Calls moved 4 original 12, oracle 3 0.33, 1.33 <= 1.05 oracle NO calls" in lines
    assert "Rate moved 9 bare 10 0.90 >= 0.8 yes in a second" in lines
    assert "known 0 oracle 0 - = 0, = 1 yes, NO calls" in lines, "a ratio that is none keeps nothing"


def test_under_the_table_stands_how_many_promises_are_kept_and_which_are_not():
    assert verdict(PROMISED[1:2]) == "1 of 1 promises are kept"
    assert verdict(PROMISED).startswith(
        "2 of 4 promises are kept; not kept: Calls, moved, <= 1.05 oracle; not kept: Rate"
    )
    assert verdict(PROMISED) in table(PROMISED)


def test_a_page_has_the_same_lines_under_a_heading_for_each_benchmark():
    page = build_markdown(PROMISED)
    assert page.startswith(verdict(PROMISED))
    assert "### Calls" in page
    assert "| moved | 4 | original 12, oracle 3 | 0.33, 1.33 | <= 1.05 oracle | NO | calls |" in page


def test_a_line_says_which_power_of_its_axis_it_grows_with():
    squared = [Row("Growth", "changes", "ms", at**2, {"bare": 3.0}, at=at) for at in (10, 100, 1_000)]
    assert power(squared) == pytest.approx(2)
    assert power(squared, "bare") == pytest.approx(0)
    assert power(squared[:1]) is None
    assert power([*squared, Row("Growth", "changes", "ms", 0.0, at=5)], OURS) == pytest.approx(2), "0 has no logarithm"


def test_the_table_and_a_plot_of_each_benchmark_in_both_forms_are_written(tmp_path: Path):
    rows, folder = [*BARS, *LINE, *ALONE], tmp_path / "results"
    written = [write_table(rows, folder), *plot(rows, folder, ("png", "svg"))]
    assert {path.name for path in written} == {
        "table.txt",
        *(f"{name}.{kind}" for name in ("calls", "growth-time", "powers") for kind in ("png", "svg")),
    }
    assert all(path.stat().st_size > 300 for path in written)
    assert "0.33, 1.33" in (tmp_path / "results" / "table.txt").read_text("utf-8")
