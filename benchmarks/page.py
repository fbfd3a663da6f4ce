"""The figures in docs/performance.md, each benchmark's between two marks: `python3 dev.py bench --page` writes them.

Nobody else does. What a benchmark measured is written as soon as it has ended, with what one has to know of its run.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.report import Row, build_markdown, name_of, plot
from benchmarks.work import ROOT

PAGE = ROOT / "docs" / "performance.md"

PLOTTED = (
    "Calls: 1 to 4 notifications a change",
    "Calls: 4 notifications a change",
    "Growth with changes",
    "Growth with mailboxes",
)
"""What is seen better than read. All others are bars beside numbers; a run leaves their plots in its folder."""


def write_figures(benchmark: str, rows: Sequence[Row], conditions: str, page: Path = PAGE) -> list[Path]:
    """Put *rows* into the *page*, with pictures in the folder that is called like it. Returns what was written."""
    folder = page.with_suffix("")
    pictures = plot([row for row in rows if row.benchmark in PLOTTED], folder, ["svg"])
    titles = [title for title in PLOTTED if any(row.benchmark == title for row in rows)]
    shown = [f"![{title}]({folder.name}/{name_of(title)}.svg)" for title in titles]
    text = fill(page.read_text("utf-8"), benchmark, "\n\n".join([conditions, *shown, build_markdown(rows)]))
    page.write_text(text, "utf-8")
    for picture in folder.glob("*.svg"):
        if picture.name not in text:
            picture.unlink()
    return [page, *pictures]


def fill(page: str, benchmark: str, figures: str) -> str:
    """*page* with these *figures* between the marks of a *benchmark*. Raises: ValueError if it has none."""
    begin, end = re.escape(f"<!-- {benchmark} -->\n"), re.escape(f"<!-- end of {benchmark} -->")
    filled, count = re.subn(f"(?<={begin}).*(?={end})", lambda _: figures.rstrip() + "\n", page, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"the page has no place for the figures of {benchmark}")
    return filled


def conditions(is_quick: bool, began: datetime, load: float | None, seconds: float) -> str:
    """What one has to know of a run to judge it; *load* is the machine's before anything was measured."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    busy = "" if load is None else f", load average before the first benchmark {load:.2f}"
    return (
        f"A {'quick' if is_quick else 'full'} run of {began.astimezone(UTC):%Y-%m-%d %H:%M} UTC{_commit()}: {python} on"
        f" {platform.system()}, {os.cpu_count()} processors{busy}; {seconds:.0f} s."
    )


def _commit() -> str:
    """Of the clone, if it is one."""
    command = ["git", "describe", "--always", "--exclude=*"]
    try:
        said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f" at commit {said}"
