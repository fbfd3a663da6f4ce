"""The figures in docs/performance.md, between two marks: `python3 dev.py bench --page` writes them, and nobody else."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.report import Row, build_markdown, name_of, plot
from benchmarks.work import ROOT

PAGE = ROOT / "docs" / "performance.md"
_FIGURES = re.compile(r"(?<=<!-- figures -->\n).*(?=<!-- end of figures -->)", re.DOTALL)

PLOTTED = (
    "Calls: 1 to 4 notifications a change",
    "Calls: 4 notifications a change",
    "Growth with changes",
    "Growth with mailboxes",
)
"""What is seen better than read. All others are bars beside numbers; a run leaves their plots in its folder."""


def write_page(rows: Sequence[Row], conditions: str, page: Path = PAGE) -> list[Path]:
    """Put *rows* into *page*, with pictures in the folder that is called like it. Returns what was written."""
    folder = page.with_suffix("")
    for old in folder.glob("*.svg"):
        old.unlink()
    pictures = plot([row for row in rows if row.benchmark in PLOTTED], folder, ["svg"])
    shown = [f"![{title}]({folder.name}/{name_of(title)}.svg)" for title in PLOTTED if _has(rows, title)]
    text = "\n\n".join([conditions, *shown, build_markdown(rows)])
    page.write_text(fill(page.read_text("utf-8"), text.rstrip() + "\n"), "utf-8")
    return [page, *pictures]


def fill(page: str, figures: str) -> str:
    """*page* with these *figures* between its marks. Raises: ValueError if it has none."""
    filled, count = _FIGURES.subn(lambda _: figures, page)
    if count != 1:
        raise ValueError("the page has no place for figures")
    return filled


def conditions(is_quick: bool, began: datetime, load: float | None, seconds: Mapping[str, float]) -> str:
    """What one has to know of a run to judge it; *load* is the machine's before it began."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    took = ", ".join(f"{name} {duration:.0f} s" for name, duration in seconds.items())
    busy = "" if load is None else f", load average of the minute before {load:.2f}"
    return (
        f"A {'quick' if is_quick else 'full'} run of {began.astimezone(UTC):%Y-%m-%d %H:%M} UTC{_commit()}: {python} on"
        f" {platform.system()}, {os.cpu_count()} processors{busy}. It took: {took}."
    )


def _commit() -> str:
    """Of the clone, if it is one."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f" at commit {said}"


def _has(rows: Sequence[Row], title: str) -> bool:
    return any(row.benchmark == title for row in rows)
