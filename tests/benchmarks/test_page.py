"""The page of figures: what a run writes into it, and that nothing of it is missing."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHMARKS
from benchmarks.page import PAGE, PLOTTED, conditions, fill, write_figures
from benchmarks.report import Row, at_most

CALLS = "<!-- calls -->\nkept\n<!-- end of calls -->\n"
PROSE = f"# Performance\n\n<!-- growth -->\nold\n<!-- end of growth -->\n\n{CALLS}\nThe end.\n"
ROWS = [
    Row(PLOTTED[0], "moved", "calls", 3.0, {"original": 12.0}, promised={"original": at_most(1 / 3)}),
    Row("Growth with changes", "changes", "ms", 2.0, at=10),
    Row("Growth with changes", "changes", "ms", 2.5, at=100),
    Row("Acknowledging", "p99", "ms", 5.0, {"queueing the raw body": 4.0}),
]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    page = tmp_path / "performance.md"
    page.write_text(PROSE, "utf-8")
    return page


def test_figures_stand_between_the_marks_and_the_prose_stays(page: Path) -> None:
    write_figures("growth", ROWS, "A quick run.", page)
    text = page.read_text("utf-8")
    assert text.startswith("# Performance\n\n<!-- growth -->\nA quick run.\n")
    assert text.endswith("|\n<!-- end of growth -->\n\n<!-- calls -->\nkept\n<!-- end of calls -->\n\nThe end.\n")
    assert "1 of 1 promises are kept." in text
    assert "| moved | 3 | original 12 | 0.25 | <= 0.333 | yes | calls |" in text
    assert "old" not in text


def test_the_same_rows_make_the_same_page_and_the_same_pictures(page: Path) -> None:
    first = {path: path.read_bytes() for path in write_figures("growth", ROWS, "A quick run.", page)}
    assert {path: path.read_bytes() for path in write_figures("growth", ROWS, "A quick run.", page)} == first
    assert len(first) == 3


def test_a_picture_that_no_run_draws_any_more_goes(page: Path) -> None:
    write_figures("growth", ROWS, "", page)
    write_figures("growth", ROWS[:1], "", page)
    [picture] = page.with_suffix("").iterdir()
    assert f"]({page.stem}/{picture.name})" in page.read_text("utf-8")


def test_a_page_without_its_marks_is_an_error() -> None:
    with pytest.raises(ValueError, match="no place for the figures of calls"):
        fill("# Performance", "calls", "figures")


def test_a_run_says_under_which_conditions_it_was() -> None:
    text = conditions(True, datetime(2026, 3, 2, 9, tzinfo=UTC), 0.25, 12.3)
    assert re.match(r"A quick run of 2026-03-02 09:00 UTC( at commit \w+)?: CPython", text)
    assert "load average before the first benchmark 0.25; 12 s." in text
    assert "load" not in conditions(False, datetime(2026, 3, 2, 9, tzinfo=UTC), None, 1.0)


def test_each_picture_on_the_page_is_there_and_small_and_there_is_no_other() -> None:
    named = {PAGE.parent / name for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", PAGE.read_text("utf-8"))}
    assert named == {*PAGE.with_suffix("").glob("*")}
    assert all(picture.stat().st_size < 150_000 for picture in named)


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_the_page_has_a_place_for_each_benchmark(benchmark: str) -> None:
    assert fill(PAGE.read_text("utf-8"), benchmark, "")
