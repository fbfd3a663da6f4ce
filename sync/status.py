"""(what is stored and counted, now) → the status that people are shown. Without IO.

Mailboxes and bookings are named by their ids; nothing of what events are about is known here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from sync.breaker import Tripped
from sync.counters import AVOIDED, HOUR, NOTIFICATION, OUTCOME, QUEUED, RECEIVED, REDUNDANT, SPENT, Swept, hour_of
from sync.ledger import Entry
from sync.model import SyncMode
from sync.standing import Roster, Standing

HOURS = 24
"""So many are shown, the current one included."""

ROSTER_LATE = timedelta(hours=3)
"""Its timer runs each hour."""

SWEEP_LATE = timedelta(hours=36)
"""Its timer runs each night."""

EXPIRES_SOON = timedelta(days=1)
"""Renewed in time, a subscription never gets there."""

QUEUE_SLOW, QUEUE_STUCK = timedelta(minutes=15), timedelta(minutes=90)
"""A message that can be seen is taken within seconds, but it may have been put back before, hidden for 72 minutes."""

SILENT = timedelta(days=1)

WRITTEN = ("moved", "linked", "canceled", "unlinked")
"""The outcomes that are a write."""


class Level(StrEnum):
    TROUBLE = "trouble"
    """Something does not work."""
    NOTICE = "notice"
    """A person should look, some time."""


@dataclass(frozen=True)
class Finding:
    level: Level
    text: str
    then: str
    """What to do, or what to look at."""


@dataclass(frozen=True)
class Backlog:
    queue: str
    messages: int
    oldest: datetime | None
    """Of those that can be seen now."""
    parked: int
    """In its poison queue."""


@dataclass(frozen=True)
class Gathered:
    """What was read; what could not be is None, and *unread* says why."""

    roster: Roster | None = None
    """Brought up to date."""
    failure: tuple[datetime, str] | None = None
    hours: Mapping[datetime, Counter[str]] = field(default_factory=dict)
    backlogs: Sequence[Backlog] | None = None
    held: tuple[Sequence[Entry], int] | None = None
    """Some of them, and how many more there may be."""
    tripped: Sequence[Tripped] | None = None
    unread: Sequence[str] = ()
    mode: SyncMode = SyncMode.SYNC


class State(StrEnum):
    SUBSCRIBED = "subscribed"
    NOT_SUBSCRIBED = "not subscribed"


@dataclass(frozen=True)
class MailboxRow:
    mailbox: str
    state: State
    expires: datetime | None
    reason: str
    notified: datetime | None
    swept: datetime | None
    differences: int | None


@dataclass(frozen=True)
class Band:
    """So many lie within it, and not within the one before."""

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
    """What is in trouble first, then who is silent longest."""


@dataclass(frozen=True)
class Drift:
    """What the last sweep of each mailbox found."""

    last: datetime | None
    mailboxes: int
    with_differences: int
    differences: int
    not_swept_lately: int


@dataclass(frozen=True)
class HourRow:
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
    mailbox: str
    booking: str | None
    reason: str
    since: datetime
    is_waiting: bool
    """For Outlook to follow rather than for a person."""


@dataclass(frozen=True)
class Holds:
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


@dataclass(frozen=True)
class Status:
    at: datetime
    mode: SyncMode
    is_well: bool
    findings: Sequence[Finding]
    mailboxes: Mailboxes | None
    roster_failure: tuple[datetime, str] | None
    queues: Sequence[Backlog] | None
    hours: Sequence[HourRow]
    """The oldest first, without a gap."""
    notifications: Mapping[str, int]
    outcomes: Mapping[str, int]
    """Of the same hours."""
    holds: Holds | None
    breaker: Sequence[Tripped] | None
    drift: Drift | None
    calls: Calls


def build_status(found: Gathered, now: datetime) -> Status:
    hours = [hour_of(now) - HOUR * ago for ago in reversed(range(HOURS))]
    total = Counter[str]()
    for hour in hours:
        total.update(found.hours.get(hour, {}))
    mailboxes = _mailboxes(found.roster, now) if found.roster else None
    drift = _drift(found.roster, now) if found.roster else None
    failure = found.failure
    if failure and found.roster and failure[0] <= found.roster.at:
        failure = None
    holds = _holds(*found.held) if found.held is not None else None
    findings = [
        *(Finding(Level.TROUBLE, text, "python -m sync doctor: is the storage account well?") for text in found.unread),
        *_of_roster(mailboxes, failure, now),
        *_of_queues(found.backlogs or (), now),
        *_of_holds(holds, found.tripped or ()),
        *_of_drift(drift, now),
        *_of_mode(found.mode),
    ]
    findings.sort(key=lambda finding: finding.level is not Level.TROUBLE)
    return Status(
        at=now,
        mode=found.mode,
        is_well=not any(finding.level is Level.TROUBLE for finding in findings),
        findings=findings,
        mailboxes=mailboxes,
        roster_failure=failure,
        queues=found.backlogs,
        hours=[_hour_row(hour, found.hours.get(hour, Counter())) for hour in hours],
        notifications=_beginning_with(NOTIFICATION, total),
        outcomes=_beginning_with(OUTCOME, total),
        holds=holds,
        breaker=found.tripped,
        drift=drift,
        calls=Calls(_beginning_with(SPENT, total), _beginning_with(AVOIDED, total)),
    )


def summary_lines(status: Status) -> list[str]:
    """The same in a few lines, for a terminal."""
    lines = []
    if status.mailboxes:
        m = status.mailboxes
        lines.append(f"mailboxes wanted: {m.wanted}; subscribed: {m.subscribed}, silent for a day: {m.silent}")
    for each in status.queues or ():
        lines.append(f"queue {each.queue}: {each.messages}, parked: {each.parked}")
    for title, counts in (
        (f"notifications in {HOURS} h", status.notifications),
        (f"changes in {HOURS} h", status.outcomes),
        (f"calls spent in {HOURS} h", status.calls.spent),
        (f"calls avoided in {HOURS} h, at least", status.calls.avoided),
    ):
        lines.append(f"{title}: {_told(counts)}")
    if status.holds:
        lines.append(f"held for a person: {status.holds.for_a_person}; waiting: {status.holds.waiting}")
    if status.drift and status.drift.last:
        drift = status.drift
        lines.append(f"mailboxes swept: {drift.mailboxes}; differences: {drift.differences}")
    for finding in status.findings:
        lines += [f"{finding.level}: {finding.text}", f"  {finding.then}"]
    return lines


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items()) or "none"


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


def _of_roster(mailboxes: Mailboxes | None, failure: tuple[datetime, str] | None, now: datetime) -> Iterator[Finding]:
    if failure is not None:
        yield Finding(
            Level.TROUBLE, f"The last run of the roster came to nothing: {failure[1]}", "python -m sync doctor"
        )
    if mailboxes is None:
        yield Finding(
            Level.NOTICE, "The roster was never kept", "its timer runs each hour; python -m sync subscriptions apply"
        )
        return
    if now - mailboxes.at > ROSTER_LATE:
        yield Finding(
            Level.TROUBLE,
            "The roster was not kept for more than three hours",
            "is the app running? Its timer runs each hour; python -m sync doctor",
        )
    if not mailboxes.wanted:
        yield Finding(
            Level.NOTICE,
            "Nobody is to be synchronized",
            "python -m sync doctor: are there bookable resources of enabled users, and does MAILBOXES name some?",
        )
    if mailboxes.not_subscribed:
        yield Finding(
            Level.TROUBLE,
            f"Mailboxes that are not subscribed: {mailboxes.not_subscribed:,}",
            "python -m sync subscriptions tells the reason of each, docs/runbook.md what to do about it",
        )
    if mailboxes.next_expiry and mailboxes.next_expiry - now < EXPIRES_SOON:
        yield Finding(
            Level.TROUBLE,
            "A subscription expires within a day and was not renewed",
            "python -m sync subscriptions apply renews it, or tells why it cannot",
        )
    if mailboxes.subscribed and now - (mailboxes.last_notified or mailboxes.since) > SILENT:
        yield Finding(
            Level.NOTICE,
            "No notification came for a day, of any mailbox",
            "no trouble where nobody worked; else python -m sync doctor: does Graph reach the app?",
        )


def _of_queues(backlogs: Sequence[Backlog], now: datetime) -> Iterator[Finding]:
    for each in backlogs:
        age = now - each.oldest if each.oldest else timedelta()
        if age > QUEUE_SLOW:
            minutes = int(age / timedelta(minutes=1))
            yield Finding(
                Level.TROUBLE if age > QUEUE_STUCK else Level.NOTICE,
                f"Minutes that a message has waited on {each.queue}: {minutes:,}",
                "the log of the app tells why messages are put back; python -m sync doctor",
            )
        if each.parked:
            yield Finding(
                Level.TROUBLE,
                f"Parked in {each.queue}-poison: {each.parked:,}",
                "python -m sync poison tells the reasons; once they are mended, python -m sync replay",
            )


def _of_holds(holds: Holds | None, tripped: Sequence[Tripped]) -> Iterator[Finding]:
    if tripped:
        scopes = ", ".join(each.scope for each in tripped)
        yield Finding(
            Level.TROUBLE,
            f"Nothing is canceled until a person says so: {scopes}",
            "python -m sync holds; docs/commands.md, The breaker has tripped: what now",
        )
    if holds and holds.for_a_person + holds.not_looked_at:
        more = f", and not looked at here: {holds.not_looked_at:,}" if holds.not_looked_at else ""
        yield Finding(
            Level.NOTICE,
            f"Held for a person: {holds.for_a_person:,}{more}",
            "python -m sync holds lists them; release or discard each",
        )


def _of_drift(drift: Drift | None, now: datetime) -> Iterator[Finding]:
    if drift is None or drift.last is None:
        return
    if now - drift.last > SWEEP_LATE:
        yield Finding(
            Level.TROUBLE,
            "No mailbox was swept for more than 36 hours",
            "is the app running? Its timer runs each night; python -m sync sweep",
        )
    if drift.differences:
        yield Finding(
            Level.NOTICE,
            f"Differences that the last sweeps found: {drift.differences:,}",
            "all are queued or held already. If it goes on, notifications are being missed: python -m sync doctor",
        )


def _of_mode(mode: SyncMode) -> Iterator[Finding]:
    if mode is SyncMode.OBSERVE:
        text = "The app only observes: it writes nothing to Dataverse (SYNC_MODE)"
        yield Finding(Level.NOTICE, text, "python -m sync report shows what it would have written")


def _beginning_with(start: str, counts: Mapping[str, int]) -> dict[str, int]:
    """Without the start; the largest first."""
    found = {name.removeprefix(start): count for name, count in counts.items() if name.startswith(start) and count}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def _counted(reasons: Iterable[str]) -> dict[str, int]:
    """Alike but for the ids in them, they are one; the most frequent first."""
    return dict(Counter(" ".join(_GUID.sub("", reason).split()) for reason in reasons).most_common())
