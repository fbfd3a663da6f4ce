"""The screen of the tour: plain lines, and on a terminal a spinner below them while something is going on.

It prints ASCII only, for terminals and files of any encoding. It does not know what it shows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

INDENT = " " * 10
"""Below the time of day."""


class Timeline:
    """Prints lines in the order of time."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()

    @property
    def is_live(self) -> bool:
        """Whether a person looks at a terminal."""
        return self._console.is_terminal

    def say(self, text: str = "", style: str = "") -> None:
        """*text* as it is, wrapped by the terminal if at all."""
        self._console.print(Text(text, style), soft_wrap=True)

    def at(self, text: str, style: str = "") -> None:
        """*text* with the time of day."""
        self.say(f"{datetime.now():%H:%M:%S}  {text}", style)

    def outcome(self, is_good: bool, text: str, details: str = "") -> None:
        """Print the outcome of the line above, and *details* below it."""
        self.say(f"{INDENT}{'+' if is_good else 'x'} {text}", "green" if is_good else "bold red")
        if details:
            self.say("\n".join(f"{INDENT}  {line}" for line in details.splitlines()), "dim" if is_good else "")

    @contextmanager
    def starting(self, what: str) -> Iterator[None]:
        """Tell what is being started and, once it is, how long that took."""
        began = time.monotonic()
        if not self.is_live:
            self.say(f"Starting {what} ...")
        with self.waiting(f"Starting {what}"):
            yield
        took = f"{time.monotonic() - began:.1f} s"
        self.say(f"+ {what} ({took})" if self.is_live else f"  started in {took}")

    @contextmanager
    def waiting(self, what: str) -> Iterator[Callable[[str], None]]:
        """On a terminal a spinner with the seconds so far; what is yielded changes its text."""
        columns = (SpinnerColumn("line"), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True, disable=not self.is_live) as progress:
            task = progress.add_task(what)
            yield lambda text: progress.update(task, description=text)
