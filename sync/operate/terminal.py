"""Prints for a command: a table or one JSON document on stdout; an error, progress bars and logs on stderr.

No command and none of our words are known here.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

UNBOUNDED = 10_000
"""Columns where nobody looks: into a file or pipe goes the whole of each row, on one line."""

GAP = 3
"""Characters between columns."""

SHORT = 36
"""Characters, a GUID's."""

NARROWEST = 24
"""Characters in a line of a longer text; where a screen has no room for that, it wraps the rows."""


class Terminal:
    """Colours and bars are for a terminal only; with *as_json* stdout gets one document and nothing else."""

    def __init__(self, as_json: bool = False, verbose: bool = False) -> None:
        self._as_json = as_json
        self._is_watched = sys.stdout.isatty()
        self._out = Console(
            force_terminal=self._is_watched,
            width=None if self._is_watched else UNBOUNDED,
            markup=False,
            emoji=False,
            highlight=False,
        )
        logging.basicConfig(
            level=logging.INFO,
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
            handlers=[logging.StreamHandler() if verbose else logging.NullHandler()],
        )

    def show(
        self, document: dict[str, Any], lines: Sequence[str], rows: Sequence[Any] = (), columns: Sequence[str] = ()
    ) -> None:
        """Print *document*, or of *rows* (dataclasses) the *columns* as a table, and *lines* below it."""
        if self._as_json:
            print(json.dumps(document, default=_plain, indent=2))
            return
        if rows:
            self._out.print(self._table(rows, columns), crop=False)
        self.tell(lines)

    def tell(self, lines: Sequence[str]) -> None:
        """Print *lines*, unless a document is wanted."""
        for line in () if self._as_json else lines:
            self._out.print(_printable(line), soft_wrap=True)

    def agrees(self, question: str) -> bool:
        """The person's answer; no if nobody is there, or if only a document is wanted."""
        if self._as_json:
            return False
        print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def fail(self, text: str) -> None:
        """Say in one line on stderr what is wrong; with JSON, in the document, too."""
        line = " ".join(text.split())
        if self._as_json:
            print(json.dumps({"error": line}, indent=2))
        self.complain(line)

    def complain(self, text: str) -> None:
        """Say in one line on stderr what is wrong, where a document is shown all the same."""
        print(f"error: {_printable(' '.join(text.split()))}", file=sys.stderr)

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """A bar while entered; it is told how many are done, and of how many."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        is_hidden = not (self._is_watched and sys.stderr.isatty())
        with Progress(*columns, console=Console(stderr=True), transient=True, disable=is_hidden) as progress:
            task = progress.add_task(what, total=None)
            yield lambda done, of: progress.update(task, completed=done, total=of)

    def _table(self, rows: Sequence[Any], columns: Sequence[str]) -> Table:
        """A column without a value is left out; ids and times, which are short, stay in one piece to be copied."""
        used = [column for column in columns if any(getattr(row, column) is not None for row in rows)]
        cells = [[_cell(getattr(row, column)) for column in used] for row in rows]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        least = -GAP
        for place, column in enumerate(used):
            unit = " (UTC)" if any(isinstance(getattr(row, column), datetime) for row in rows) else ""
            heading = column.replace("_", " ") + unit
            width = max(len(heading), *(len(row[place]) for row in cells))
            table.add_column(heading, overflow="fold", no_wrap=width <= SHORT)
            least += GAP + (width if width <= SHORT else NARROWEST)
        for row in cells:
            table.add_row(*row)
        table.width = least if least > self._out.width else None
        return table


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%M}"
        case timedelta():
            hours, minutes = divmod(int(value / timedelta(minutes=1)), 60)
            return f"{hours // 24} d {hours % 24} h" if hours >= 24 else f"{hours} h {minutes} min"
    return _printable(str(value))


def _printable(text: str) -> str:
    """*text* without what would steer the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _plain(value: Any) -> Any:
    """A value that JSON has no form for: a row, a moment, or a span, which is told in seconds."""
    match value:
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        case timedelta():
            return int(value.total_seconds())
    return asdict(value)
