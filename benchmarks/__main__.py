"""Measures what is asked for, shows one table of ratios, and writes it and plots of it to a folder.

python -m benchmarks --quick calls growth
python -m benchmarks --page
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from benchmarks import acknowledging, calls, capacity, cold_start, growth, throughput
from benchmarks.page import PAGE, conditions, fill, write_figures
from benchmarks.report import Row, plot, show, write_table
from benchmarks.work import ROOT

BENCHMARKS = {
    "calls": calls.measure,
    "acknowledging": acknowledging.measure,
    "cold_start": cold_start.measure,
    "throughput": throughput.measure,
    "growth": growth.measure,
    "capacity": capacity.measure,
}
QUICK = [name for name in BENCHMARKS if name != "capacity"]
"""What *--quick* measures unless it is told; capacity counts what the tests count, and takes as long."""

FOLDER = Path("build") / "benchmarks"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 dev.py bench", description="Measures what the app spends.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all if none is given")
    quick = "small numbers, fewer cases and no capacity: two minutes on two cores"
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"for the table and the plots, {FOLDER} by default")
    parser.add_argument("--page", action="store_true", help=f"write the figures into {PAGE.relative_to(ROOT)} as well")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    names = options.names or (QUICK if options.quick else list(BENCHMARKS))
    try:
        if options.folder == FOLDER and FOLDER.exists():
            shutil.rmtree(FOLDER)  # plots of another run; in somebody's own folder nothing is ours to delete
        options.folder.mkdir(parents=True, exist_ok=True)
        for name in names if options.page else ():
            fill(PAGE.read_text("utf-8"), name, "")
    except (OSError, ValueError) as error:
        parser.error(str(error))
    logging.disable(logging.CRITICAL)  # what the app says of each change
    try:
        rows = measure(names, options.quick, options.folder, options.page)
    except KeyboardInterrupt:
        print(f"stopped; what was found by then is in {options.folder}", file=sys.stderr)
        return 130
    show(rows, Console(width=None if sys.stdout.isatty() else 240))
    print(f"\nin {options.folder}" + (f" and in {PAGE.relative_to(ROOT)}" if options.page else ""))
    return 0


def measure(names: list[str], is_quick: bool, folder: Path, on_page: bool) -> list[Row]:
    """All *names*, one after the other, as nothing else is to run beside what is measured.

    What is found is in *folder*, and *on the page*, as soon as one has ended: who stops a long run keeps that.
    """
    columns = (TextColumn("{task.description:14}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    rows: list[Row] = []
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None  # later it would be that of what was measured
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        tasks = {name: progress.add_task(name, total=1.0, start=False) for name in names}
        for name, task in tasks.items():
            progress.start_task(task)
            began = datetime.now(UTC)
            found = BENCHMARKS[name](is_quick, partial(_show_share, progress, task))
            seconds = (datetime.now(UTC) - began).total_seconds()
            rows += found
            write_table(rows, folder)
            plot(found, folder, ("png", "svg"))
            if on_page:
                write_figures(name, found, conditions(is_quick, began, load, seconds))
            progress.update(task, completed=1.0)
            progress.stop_task(task)
            if not console.is_terminal:
                print(f"{name}: {seconds:.0f} s", file=sys.stderr, flush=True)
    return rows


def _show_share(progress: Progress, task: TaskID, share: float) -> None:
    progress.update(task, completed=share)


if __name__ == "__main__":
    sys.exit(main())
