"""(stored, counted) → the figures that people are shown. No finding and no text is made here. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from sync.ids import GUID
from sync.model import SyncMode, Tripped
from sync.pairs.actions import WRITTEN
from sync.pairs.entry import Entry
from sync.subscriptions.standing import Roster, Standing
from sync.telemetry.counters import AVOIDED, HOUR, OUTCOME, QUEUED, RECEIVED, REDUNDANT, SPENT, Swept

HOURS = 24
"""Hours that are shown, the current one included. Fewer hide the night; more fill the page."""

SWEEP_LATE = timedelta(hours=36)
"""Its timer runs each night."""

SILENT = timedelta(days=1)


@dataclass(frozen=True)
class Backlog:
    """One queue and its poison queue."""

    queue: str
    messages: int
    oldest: datetime | None
    """When the oldest message that can be seen now was stored."""
    parked: int
    """In its poison queue."""


@dataclass(frozen=True)
class Gathered:
    """The status's sources, as read from storage. A part that could not be read is None, and *unread* says why."""

    roster: Roster | None = None
    """Brought up to date."""
    failure: tuple[datetime, str] | None = None
    hours: Mapping[datetime, Counter[str]] = field(default_factory=dict)
    shut_out: tuple[datetime, str] | None = None
    """When a service refused the whole app last, and why."""
    refused: str = ""
    """The deployment that was refused lately, as the storage is another one's, and that one; empty if none was."""
    backlogs: Sequence[Backlog] | None = None
    held: tuple[Sequence[Entry], int] | None = None
    """Some of them, and how many more there may be."""
    tripped: Sequence[Tripped] | None = None
    unread: Sequence[str] = ()
    mode: SyncMode = SyncMode.SYNC


class State(StrEnum):
    """A mailbox has a subscription, or has none."""

    SUBSCRIBED = "subscribed"
    NOT_SUBSCRIBED = "not subscribed"


@dataclass(frozen=True)
class MailboxRow:
    """One mailbox, as the page shows it."""

    mailbox: str
    state: State
    expires: datetime | None
    reason: str
    notified: datetime | None
    swept: datetime | None
    differences: int | None


@dataclass(frozen=True)
class Band:
    """A count of mailboxes within a limit, and not within the limit before."""

    within: str
    count: int


@dataclass(frozen=True)
class Mailboxes:
    """As the last run of the roster left them, at this time; notifications are counted *since*."""

    at: datetime
    since: datetime
    wanted: int
    subscribed: int
    not_subscribed: int
    reasons: Mapping[str, int]
    next_expiry: datetime | None
    last_notified: datetime | None
    silent: int
    """Without a notification for a day, or since they are counted."""
    never_notified: int
    expiries: Sequence[Band]
    silence: Sequence[Band]
    """How long ago the last notification came."""
    rows: Sequence[MailboxRow]
    """Mailboxes in trouble first, then those that are silent longest."""


@dataclass(frozen=True)
class Drift:
    """The findings of the last sweep of each mailbox."""

    last: datetime | None
    mailboxes: int
    with_differences: int
    differences: int
    not_swept_lately: int


@dataclass(frozen=True)
class HourRow:
    """One hour of changes, notifications and calls."""

    hour: datetime
    changes: int
    """Processed to an end, whatever that was: written, or any other."""
    written: int
    others: int
    received: int
    queued: int
    redundant: int
    spent: int
    avoided: int


@dataclass(frozen=True)
class HeldRow:
    """One pair that is held, or waits for Outlook."""

    mailbox: str
    booking: str | None
    reason: str
    since: datetime
    is_waiting: bool
    """For Outlook to follow rather than for a person."""


@dataclass(frozen=True)
class Holds:
    """All pairs that are held or wait."""

    total: int
    for_a_person: int
    waiting: int
    reasons: Mapping[str, int]
    rows: Sequence[HeldRow]
    """The longest held first."""
    not_looked_at: int


@dataclass(frozen=True)
class Calls:
    """In the last hours; *avoided* at least."""

    spent: Mapping[str, int]
    avoided: Mapping[str, int]


def _mailboxes(roster: Roster, now: datetime) -> Mailboxes:
    rows = [_row(standing, now) for standing in roster.standings]
    subscribed = [row for row in rows if row.state is State.SUBSCRIBED]
    silent = [row for row in subscribed if now - (row.notified or roster.since) > SILENT]
    long_ago = datetime.min.replace(tzinfo=now.tzinfo)
    return Mailboxes(
        at=roster.at,
        since=roster.since,
        wanted=len(rows),
        subscribed=len(subscribed),
        not_subscribed=len(rows) - len(subscribed),
        reasons=_counted(row.reason for row in rows if row.reason),
        next_expiry=min((row.expires for row in subscribed if row.expires), default=None),
        last_notified=max((row.notified for row in rows if row.notified), default=None),
        silent=len(silent),
        never_notified=sum(row.notified is None for row in subscribed),
        expiries=_bands([row.expires - now for row in subscribed if row.expires], _EXPIRIES),
        silence=[
            *_bands([now - row.notified for row in subscribed if row.notified], _SILENCES),
            Band("never", sum(row.notified is None for row in subscribed)),
        ],
        rows=sorted(
            rows,
            key=lambda row: (row.state is State.SUBSCRIBED, not row.reason, row.notified or long_ago, row.mailbox),
        ),
    )


_EXPIRIES = {
    **{f"{days} d" if days > 1 else "a day": timedelta(days=days) for days in range(1, 8)},
    "longer": timedelta.max,
}
_SILENCES = {
    "an hour": HOUR,
    "a day": timedelta(days=1),
    "3 d": timedelta(days=3),
    "7 d": timedelta(days=7),
    "longer": timedelta.max,
}


def _bands(spans: Sequence[timedelta], limits: Mapping[str, timedelta]) -> list[Band]:
    places = Counter(next(name for name, limit in limits.items() if span <= limit) for span in spans)
    return [Band(name, places[name]) for name in limits]


def _row(standing: Standing, now: datetime) -> MailboxRow:
    is_subscribed = standing.expires is not None and standing.expires > now
    reason = standing.reason
    if not (is_subscribed or reason):
        reason = "its subscription has expired"
    swept = standing.swept or Swept(now, 0)
    return MailboxRow(
        standing.mailbox,
        State.SUBSCRIBED if is_subscribed else State.NOT_SUBSCRIBED,
        standing.expires,
        reason,
        standing.notified,
        swept.at if standing.swept else None,
        swept.differences if standing.swept else None,
    )


def _drift(roster: Roster, now: datetime) -> Drift:
    swept = [each.swept for each in roster.standings if each.swept is not None]
    lately = [each for each in swept if now - each.at <= SWEEP_LATE]
    return Drift(
        last=max((each.at for each in swept), default=None),
        mailboxes=len(swept),
        with_differences=sum(each.differences > 0 for each in swept),
        differences=sum(each.differences for each in swept),
        not_swept_lately=len(roster.standings) - len(lately),
    )


def _hour_row(hour: datetime, counts: Counter[str]) -> HourRow:
    changes = sum(_beginning_with(OUTCOME, counts).values())
    written = sum(counts[OUTCOME + name] for name in WRITTEN)
    return HourRow(
        hour,
        changes=changes,
        written=written,
        others=changes - written,
        received=counts[RECEIVED],
        queued=counts[QUEUED],
        redundant=sum(counts[name] for name in REDUNDANT),
        spent=sum(_beginning_with(SPENT, counts).values()),
        avoided=sum(_beginning_with(AVOIDED, counts).values()),
    )


def _holds(entries: Sequence[Entry], more: int) -> Holds:
    rows = sorted(
        (
            HeldRow(entry.mailbox, entry.booking_id, held.reason, held.since, held.is_waiting)
            for entry in entries
            if (held := entry.held) is not None
        ),
        key=lambda row: row.since,
    )
    waiting = sum(row.is_waiting for row in rows)
    reasons = _counted(row.reason for row in rows)
    return Holds(len(rows) + more, len(rows) - waiting, waiting, reasons, rows, more)


def _beginning_with(start: str, counts: Mapping[str, int]) -> dict[str, int]:
    """Without the start; the largest first."""
    found = {name.removeprefix(start): count for name, count in counts.items() if name.startswith(start) and count}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _counted(reasons: Iterable[str]) -> dict[str, int]:
    """Alike but for the ids in them, they are one; the most frequent first."""
    return dict(Counter(" ".join(GUID.sub("", reason).split()) for reason in reasons).most_common())
