"""(figures, now) → the findings: what is wrong, how urgent it is, and its cure. Pure.

Mailboxes and bookings are named by their ids; nothing of what events are about is known here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sync.model import SyncMode, Tripped
from sync.status.figures import (
    HOURS,
    SILENT,
    SWEEP_LATE,
    Backlog,
    Calls,
    Drift,
    Gathered,
    Holds,
    HourRow,
    Mailboxes,
    _beginning_with,
    _drift,
    _holds,
    _hour_row,
    _mailboxes,
)
from sync.telemetry.counters import AVOIDED, HOUR, NOTIFICATION, OUTCOME, SPENT, hour_of

ROSTER_LATE = timedelta(hours=3)
"""Its timer runs each hour."""

EXPIRES_SOON = timedelta(days=1)
"""Renewed in time, a subscription never gets there."""

WAITS_LONG = timedelta(hours=1)
"""Outlook follows its booking within minutes where anything makes it follow."""

QUEUE_SLOW, QUEUE_STUCK = timedelta(minutes=15), timedelta(minutes=90)
"""A message that can be seen is taken within seconds, but it may have been put back before, hidden for 72 minutes."""


SHUT_OUT = timedelta(minutes=10)
"""A service that refuses the whole app is asked every two minutes while changes wait."""

UNAVAILABLE = "mailbox unavailable"
"""The outcome of a change that was given up, as its mailbox did not answer."""


class Level(StrEnum):
    """How urgent a finding is."""

    TROUBLE = "trouble"
    """Something does not work."""
    NOTICE = "notice"
    """A person should look, some time."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and its cure."""

    level: Level
    text: str
    then: str
    """The next thing to do, or to look at."""


@dataclass(frozen=True)
class Status:
    """The whole status, as people are shown it."""

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
    """In the same hours."""
    holds: Holds | None
    breaker: Sequence[Tripped] | None
    drift: Drift | None
    calls: Calls


def build_status(found: Gathered, now: datetime) -> Status:
    """Tell figures and findings from what was *found* in storage; *now* is the present."""
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
        *_of_owner(found.refused),
        *_of_services(found.shut_out, total, now),
        *_of_roster(mailboxes, failure, now),
        *_of_queues(found.backlogs or (), now),
        *_of_holds(holds, found.tripped or (), now),
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


def _of_owner(refused: str) -> Iterator[Finding]:
    if refused:
        yield Finding(
            Level.TROUBLE,
            f"Two deployments share this storage account: {refused}",
            "give each its own (AzureWebJobsStorage); docs/deploy.md, Slots and test systems",
        )


def _of_services(shut_out: tuple[datetime, str] | None, total: Mapping[str, int], now: datetime) -> Iterator[Finding]:
    if shut_out is not None and now - shut_out[0] < SHUT_OUT:
        yield Finding(
            Level.TROUBLE,
            f"A service refuses the whole app: {shut_out[1]}",
            "nothing is lost: changes wait, and are followed within minutes once it lets the app in",
        )
    if count := total[f"{OUTCOME}{UNAVAILABLE}"]:
        yield Finding(
            Level.NOTICE,
            f"Changes in {HOURS} h whose mailbox could not be reached for an hour: {count:,}",
            "their mailboxes are swept once they answer; the log tells which (mailbox unavailable), and why",
        )


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


def _of_holds(holds: Holds | None, tripped: Sequence[Tripped], now: datetime) -> Iterator[Finding]:
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
    if holds and (long := sum(row.is_waiting and now - row.since > WAITS_LONG for row in holds.rows)):
        yield Finding(
            Level.NOTICE,
            f"Out of step for more than an hour, as the event has not followed its booking: {long:,}",
            "python -m sync holds lists them: move each event in Outlook, or the booking back",
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
