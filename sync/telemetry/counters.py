"""Counts of the app's work, hour by hour, for people to see: values and rules without IO.

Counts decide nothing, so what a process takes with it when it dies, less than a minute's, changes no booking.
counter_table.py stores them, counting.py says when.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta

HOUR = timedelta(hours=1)

KEPT = timedelta(days=30)
"""How long what was counted can be looked up."""

HELD_BACK = 24
"""Hours that wait in memory for a storage account that cannot be reached; older ones are given up."""

# Notifications. An event that is known, repeated or waited for already needs no message of its own.
NOTIFICATION = "notifications."
RECEIVED, DROPPED, REPEATED, KNOWN, WAITED_FOR, QUEUED, LIFECYCLE, TURNED_AWAY = (
    NOTIFICATION + name
    for name in ("received", "dropped", "repeated", "known", "waited_for", "queued", "lifecycle", "turned_away")
)
REDUNDANT = (REPEATED, KNOWN, WAITED_FOR)

OUTCOME = "outcome."
"""Before the outcome of a change, such as "moved"."""

SWEPT, DIFFERENCES = "sweeps.mailboxes", "sweeps.differences"

GRAPH, DATAVERSE = "graph", "dataverse"
SPENT, AVOIDED = "spent.", "avoided."
"""Before the service that was called, or was not."""


@dataclass(frozen=True)
class Swept:
    """When a mailbox was compared, and how many differences there were."""

    at: datetime
    differences: int


@dataclass
class Figures:
    """The counts of some time; ``notified`` says when Graph notified last, by mailbox."""

    counts: Counter[str] = field(default_factory=Counter)
    notified: dict[str, datetime] = field(default_factory=dict)
    swept: dict[str, Swept] = field(default_factory=dict)

    def add(self, other: Figures) -> None:
        """Add counts to those there are."""
        self.counts.update(other.counts)
        for mailbox, at in other.notified.items():
            self.notified[mailbox] = max(at, self.notified.get(mailbox, at))
        for mailbox, swept in other.swept.items():
            self.swept[mailbox] = max(swept, self.swept.get(mailbox, swept), key=lambda each: each.at)


class Tally:
    """The counts of one process, until they are stored; hours that are stored and over are forgotten."""

    def __init__(self) -> None:
        self._hours: dict[datetime, Figures] = {}
        self._unsaved: set[datetime] = set()

    def add(self, now: datetime, counts: Mapping[str, int], notified: Set[str] = frozenset()) -> None:
        """Add counts to those there are."""
        if any(counts.values()) or notified:
            self._of(now).add(Figures(Counter(counts), dict.fromkeys(notified, now)))

    def swept(self, now: datetime, mailbox: str, differences: int) -> None:
        """Note a sweep of *mailbox*."""
        counts = Counter({SWEPT: 1, DIFFERENCES: differences})
        self._of(now).add(Figures(counts, swept={mailbox: Swept(now, differences)}))

    def _of(self, now: datetime) -> Figures:
        hour = hour_of(now)
        self._unsaved.add(hour)
        return self._hours.setdefault(hour, Figures())

    def take(self) -> Iterator[tuple[datetime, Figures]]:
        """Each hour whose figures are not stored as they are now; they count as stored when they are taken."""
        for hour in sorted(self._unsaved):
            self._unsaved.discard(hour)
            yield hour, self._hours[hour]

    def put_back(self, hour: datetime) -> None:
        """They could not be stored."""
        self._unsaved.add(hour)

    def forget(self, now: datetime) -> None:
        """Drop the hours before *hour* that are stored."""
        for hour in list(self._hours):
            if hour < hour_of(now) - HELD_BACK * HOUR or (hour < hour_of(now) and hour not in self._unsaved):
                del self._hours[hour]
                self._unsaved.discard(hour)


def hour_of(moment: datetime) -> datetime:
    """The full hour that *moment* lies in."""
    return moment.replace(minute=0, second=0, microsecond=0)


def merged(figures: Iterable[Figures]) -> Figures:
    """The figures of several processes as one, hour by hour."""
    total = Figures()
    for each in figures:
        total.add(each)
    return total


def avoided(is_ours: bool) -> dict[str, int]:
    """The least cost of a notification that did not have to be followed.

    One of an event with our extension is a look at both sides, any other one at the event.
    """
    return {AVOIDED + GRAPH: 1, AVOIDED + DATAVERSE: int(is_ours)}
