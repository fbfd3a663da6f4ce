"""How each wanted mailbox stands after a run of the roster: its subscription, and what was last heard of it.

The status shows this instead of asking Graph and Dataverse each time somebody looks. Without IO.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sync.telemetry.counters import Figures, Swept, hour_of

if TYPE_CHECKING:
    from sync.subscriptions.planning import Plan
    from sync.subscriptions.run import Report

LATE = timedelta(minutes=5)
"""Figures are stored so long after they were counted, at most, while storage can be reached."""

NOT_BEGUN = "there was no time for it in the last run"


@dataclass(frozen=True)
class Standing:
    """``expires`` is None without a subscription; ``reason`` says what went wrong with it the last time."""

    mailbox: str
    expires: datetime | None = None
    reason: str = ""
    notified: datetime | None = None
    swept: Swept | None = None


@dataclass(frozen=True)
class Roster:
    """What a run at this time left; notifications are counted since *since*."""

    at: datetime
    since: datetime
    standings: tuple[Standing, ...] = ()

    @property
    def counted_from(self) -> datetime:
        """The first hour whose figures may not be in the standings yet."""
        return hour_of(self.at - LATE)


def standings_after(plan: Plan, report: Report, lives_until: datetime) -> Iterator[Standing]:
    """How the mailboxes of *plan* stand after it was carried out; what was made or renewed *lives until* then."""
    for mailbox in plan.create:
        yield _standing(mailbox, None, report, lives_until)
    for mailbox, held in plan.replace:
        yield _standing(mailbox, None if mailbox in report.gaps else held.expires, report, lives_until)
    for mailbox, held in plan.renew:
        yield _standing(mailbox, held.expires, report, lives_until)
    for mailbox, held in plan.keep:
        yield Standing(mailbox, held.expires)
    for trouble in plan.wait:
        yield Standing(trouble.mailbox, None, trouble.reason)


def _standing(mailbox: str, expires: datetime | None, report: Report, lives_until: datetime) -> Standing:
    if mailbox in report.failed:
        return Standing(mailbox, expires, report.failed[mailbox])
    if mailbox in report.done:
        return Standing(mailbox, lives_until)
    return Standing(mailbox, expires, NOT_BEGUN)


def counts_after(plan: Plan, report: Report) -> Mapping[str, int]:
    """Of the same mailboxes: those that are as they should be, and those that are not, by what is in the way."""
    failed, waiting = len(report.failed), len(plan.wait)
    return {
        "kept": report.wanted - failed - waiting - report.left,
        "failed": failed,
        "waiting": waiting,
        "left": report.left,
    }


def next_roster(now: datetime, standings: Sequence[Standing], before: Roster | None, figures: Figures) -> Roster:
    """The *standings* with what was last heard of each, by the run *before* or by what was counted since."""
    known = {each.mailbox: each for each in before.standings} if before else {}
    told = [
        replace(each, notified=known[each.mailbox].notified, swept=known[each.mailbox].swept)
        if each.mailbox in known
        else each
        for each in standings
    ]
    ordered = tuple(sorted(told, key=lambda each: each.mailbox))
    return brought_up_to_date(Roster(now, before.since if before else now, ordered), figures)


def brought_up_to_date(roster: Roster, figures: Figures) -> Roster:
    """*roster* with what was counted since."""
    return replace(roster, standings=tuple(_brought_up_to_date(each, figures) for each in roster.standings))


def _brought_up_to_date(standing: Standing, figures: Figures) -> Standing:
    notified, swept = figures.notified.get(standing.mailbox), figures.swept.get(standing.mailbox)
    if notified is not None and (standing.notified is None or standing.notified < notified):
        standing = replace(standing, notified=notified)
    if swept is not None and (standing.swept is None or standing.swept.at < swept.at):
        standing = replace(standing, swept=swept)
    return standing
