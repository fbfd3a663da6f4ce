"""A mixed day as a value: what people change in their calendars, what Graph notifies of it, what an oracle spends.

Nothing here calls anything. ``replay.py`` plays a day against the simulated services.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Literal

HOURS = 3600.0
BEGINS, ENDS = 8 * HOURS, 18 * HOURS
"""Seconds since midnight between which people change things."""

YOUNG = 600.0
"""Seconds after its creation within which an event may still get our extension, so that the app asks again."""

APART = 120.0
"""Seconds at least between two changes of one event, so that its notifications belong to one of them."""

ChangeType = Literal["created", "updated", "deleted"]


class Kind(Enum):
    """What a change is to the app; the text is the row of the table."""

    LINKED = "booking: event created, to be linked"
    MOVED = "booking: event moved"
    DELETED = "booking: event deleted"
    ECHOED = "booking: event edited, not moved"
    MEETING_FIRST = "ordinary meeting: first change"
    MEETING_AGAIN = "ordinary meeting: next changes, until it is known"
    MEETING_KNOWN = "ordinary meeting: next changes, once it is known"
    MEETING_DELETED = "ordinary meeting: deleted"


@dataclass(frozen=True)
class Change:
    """Somebody changes an event. Mailboxes and events are numbers, which a replay gives ids."""

    at: float
    number: int
    kind: Kind
    mailbox: int
    event: int
    minutes: int = 0
    """That the event is moved by."""


@dataclass(frozen=True)
class Save:
    """Exchange saves the event of a change once more, by itself: a new etag, and nothing that anybody sees."""

    at: float
    change: int


@dataclass(frozen=True)
class Notification:
    """Graph notifies of a change. All those of one moment come in one POST."""

    at: float
    change: int
    change_type: ChangeType
    save: int
    """Whose etag it carries: 0 for the change's own, n for the n-th ``Save`` after it."""
    is_redelivery: bool = False


Step = Change | Save | Notification


@dataclass(frozen=True)
class Day:
    mailboxes: int
    steps: tuple[Step, ...]
    """By time."""

    @property
    def changes(self) -> tuple[Change, ...]:
        return tuple(step for step in self.steps if isinstance(step, Change))

    @property
    def notifications(self) -> tuple[Notification, ...]:
        return tuple(step for step in self.steps if isinstance(step, Notification))


def mixed_day(
    seed: int,
    changes: int = 2_000,
    mailboxes: int = 200,
    notifications: tuple[int, int] = (1, 4),
    ordinary: float = 0.8,
    redelivered: float = 0.05,
    apart: float = 1.5,
) -> Day:
    """A day of so many changes, of which the share *ordinary* is none of our business; the same for the same *seed*.

    Each change is notified of so many times, from and to, up to *apart* seconds from one to the next. Of the share
    *redelivered* one notification comes once more, hours later. Source: Graph, "Outlook change notifications";
    microsoft-graph-docs issues 7598 and 3072 for the number of notifications. How far apart they are is not documented.
    """
    rng = random.Random(seed)
    plan = _Plan(rng, mailboxes)
    moments = sorted(rng.uniform(BEGINS, ENDS) for _ in range(changes))
    made = [plan.meeting(at) if rng.random() < ordinary else plan.booking(at) for at in moments]
    steps: list[Step] = list(made)
    for change in made:
        steps += _notify(change, rng.randint(*notifications), apart, rng.random() < redelivered, rng)
    return Day(mailboxes, tuple(sorted(steps, key=lambda step: step.at)))


class _Plan:
    """Who changes which event next."""

    def __init__(self, rng: random.Random, mailboxes: int) -> None:
        self._rng = rng
        self._mailboxes = mailboxes
        self._changes = 0
        self._events = 0
        self._meetings: dict[int, Change] = {}
        """The last change of each event that is there, by the event; those changed last at the end."""
        self._bookings: dict[int, Change] = {}
        self._created: dict[int, float] = {}
        self._known: dict[int, tuple[float, float]] = {}
        """Until when each meeting is surely known to be nobody's booking, and from when it surely is not any more."""

    def meeting(self, at: float) -> Change:
        """Some are edited again and again: most changes are of one that was changed lately."""
        last = self._pick(self._meetings, at)
        if last is None or self._rng.random() < 0.3:
            return self._put(self._meetings, at, Kind.MEETING_FIRST)
        if self._rng.random() < 0.15:
            return self._remove(self._meetings, at, Kind.MEETING_DELETED, last)
        kind = Kind.MEETING_KNOWN if self._is_known(last.event, at) else Kind.MEETING_AGAIN
        return self._put(self._meetings, at, kind, last, self._rng.choice((0, 15, 30)))

    def _is_known(self, event: int, at: float) -> bool:
        """Whether the app surely knows then that a meeting is nobody's booking, so that it need not look.

        It knows that for as long again as the meeting was old when it looked. Just at the end of that time,
        notifications a few seconds apart decide whether it looks.
        """
        age = at - self._created[event]
        if age <= YOUNG + APART:
            return False
        surely, perhaps = self._known.get(event, (0.0, 0.0))
        if at < surely:
            return True
        is_looked_at = at > perhaps
        self._known[event] = (at + age - APART if is_looked_at else 0.0, max(perhaps, at + age + APART))
        return False

    def booking(self, at: float) -> Change:
        last = self._pick(self._bookings, at)
        kind = self._rng.choices((Kind.LINKED, Kind.MOVED, Kind.ECHOED, Kind.DELETED), (35, 30, 20, 15))[0]
        if last is None or kind is Kind.LINKED:
            return self._put(self._bookings, at, Kind.LINKED)
        if kind is Kind.DELETED:
            return self._remove(self._bookings, at, kind, last)
        by = self._rng.choice((15, 30, 60, 120)) if kind is Kind.MOVED else 0
        return self._put(self._bookings, at, kind, last, by)

    def _pick(self, events: dict[int, Change], at: float) -> Change | None:
        """One of the thirty that were changed last, but not just now."""
        rested = [change for change in islice(reversed(events.values()), 30) if at - change.at >= APART]
        return self._rng.choice(rested) if rested else None

    def _put(
        self, events: dict[int, Change], at: float, kind: Kind, last: Change | None = None, minutes: int = 0
    ) -> Change:
        if last is None:
            mailbox, event = self._rng.randrange(self._mailboxes), self._events
            self._created[event] = at
            self._events += 1
        else:
            mailbox, event = last.mailbox, last.event
            del events[event]
        events[event] = Change(at, self._changes, kind, mailbox, event, minutes)
        self._changes += 1
        return events[event]

    def _remove(self, events: dict[int, Change], at: float, kind: Kind, last: Change) -> Change:
        removed = self._put(events, at, kind, last)
        del events[last.event]
        return removed


def _notify(change: Change, times: int, apart: float, redelivered: bool, rng: random.Random) -> list[Step]:
    """Half of those after the first follow a save of Exchange's own, which has given the event another etag by then."""
    steps: list[Step] = []
    at, save = change.at + rng.uniform(1, 5), 0
    deleted = change.kind in (Kind.DELETED, Kind.MEETING_DELETED)
    created = change.kind in (Kind.LINKED, Kind.MEETING_FIRST)
    found: list[Notification] = []
    for turn in range(times):
        if turn and rng.random() < 0.7:  # the others come in the same POST
            at += rng.uniform(0.2, apart)
            if not deleted and rng.random() < 0.5:
                save += 1
                steps.append(Save(at - 0.4, change.number))
        change_type: ChangeType = "deleted" if deleted else "created" if created and not turn else "updated"
        found.append(Notification(at, change.number, change_type, save))
    if redelivered:
        one = rng.choice(found)
        later = at + rng.uniform(1, 5) * HOURS
        steps.append(Notification(later, change.number, one.change_type, one.save, is_redelivery=True))
    return [*steps, *found]


# The oracle.


@dataclass(frozen=True)
class Calls:
    """Graph's reads, Dataverse's reads and Dataverse's writes; nothing is written to Graph."""

    graph: int = 0
    reads: int = 0
    writes: int = 0

    @property
    def total(self) -> int:
        return self.graph + self.reads + self.writes

    def __add__(self, other: Calls) -> Calls:
        return Calls(self.graph + other.graph, self.reads + other.reads, self.writes + other.writes)


ORACLE: Mapping[Kind, Calls] = {
    Kind.LINKED: Calls(graph=1, reads=1, writes=1),
    Kind.MOVED: Calls(graph=1, reads=1, writes=1),
    Kind.DELETED: Calls(graph=1, reads=1, writes=1),
    Kind.ECHOED: Calls(graph=1, reads=1),
    Kind.MEETING_FIRST: Calls(graph=1),
    Kind.MEETING_AGAIN: Calls(graph=1),
    Kind.MEETING_KNOWN: Calls(graph=1),
    Kind.MEETING_DELETED: Calls(graph=1),
}
"""What an oracle spends on a change: it knows which notifications belong to one change, and which event is whose.

- A changed event is read once for each change, however often that is notified of, and never for a redelivery.
- The booking of an event that has one is read once for each change of the event.
- One write for each link, move and cancellation, and no other.
- Nothing else is read: no user, no resource, no status.

Who remembers that an ordinary meeting is one can do with less where it is changed again.
"""


def oracle(changes: Sequence[Change]) -> dict[Kind, Calls]:
    """What the oracle spends on *changes* in all, by kind."""
    return {kind: _times(ORACLE[kind], count) for kind, count in Counter(change.kind for change in changes).items()}


def _times(calls: Calls, count: int) -> Calls:
    return Calls(calls.graph * count, calls.reads * count, calls.writes * count)
