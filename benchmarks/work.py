"""What an instance of the app is to work through; known to the services and to the instance, and as light as can be."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Work:
    """One event that a change may be about."""

    mailbox: str
    event: str
    booking: str | None
    """If it is a booking's."""
    is_moved: bool


def write_work(path: Path, work: Iterable[Work]) -> None:
    """One in each line, as JSON."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(each)) + "\n" for each in work)


def read_work(path: Path, times: int = 1) -> Iterator[Work]:
    """One after the other, so that what is still to do takes no memory."""
    for _ in range(times):
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield Work(**json.loads(line))
