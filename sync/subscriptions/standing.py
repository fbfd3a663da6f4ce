"""Tells how each wanted mailbox stands after a run: its subscription, and what was last heard of it.

The status page shows this instead of asking Graph and Dataverse each time. Nothing is read or stored here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sync.telemetry.counters import Figures, Swept, hour_of

if TYPE_CHECKING:
    from sync.subscriptions.planning import Plan
    from sync.subscriptions.result import Result

LATE = timedelta(minutes=5)
"""The longest time from counting figures to storing them, while storage can be reached.

Too short, and a figure that was stored late is never shown; too long, and more hours of figures are read.
"""

NOT_BEGUN = "there was no time for it in the last run"


@dataclass(frozen=True)
class Standing:
    """How one mailbox stands. ``expires`` is None without a subscription; ``reason`` says what went wrong last."""

    mailbox: str
    expires: datetime | None = None
    reason: str = ""
    notified: datetime | None = None
    swept: Swept | None = None


@dataclass(frozen=True)
class Roster:
    """How all mailboxes stand after the run at this time. Notifications are counted since ``since``."""

    at: datetime
    since: datetime
    standings: tuple[Standing, ...] = ()

    @property
    def counted_from(self) -> datetime:
        """The first hour whose figures may be missing in the standings."""
        return hour_of(self.at - LATE)


def standings_after(plan: Plan, result: Result, lives_until: datetime) -> Iterator[Standing]:
    """Yield how the mailboxes of *plan* stand after it was carried out; what was made or renewed *lives until* then."""
    for mailbox in plan.create:
        yield _standing(mailbox, None, result, lives_until)
    for mailbox, current in plan.replace:
        yield _standing(mailbox, None if mailbox in result.gaps else current.expires, result, lives_until)
    for mailbox, current in plan.renew:
        yield _standing(mailbox, current.expires, result, lives_until)
    for mailbox, current in plan.keep:
        yield Standing(mailbox, current.expires)
    for trouble in plan.wait:
        yield Standing(trouble.mailbox, None, trouble.reason)


def _standing(mailbox: str, expires: datetime | None, result: Result, lives_until: datetime) -> Standing:
    if mailbox in result.failed:
        return Standing(mailbox, expires, result.failed[mailbox])
    if mailbox in result.done:
        return Standing(mailbox, lives_until)
    return Standing(mailbox, expires, NOT_BEGUN)


def counts_after(plan: Plan, result: Result) -> Mapping[str, int]:
    """Count the mailboxes of *plan* that are as they should be, and the others by what is in the way."""
    failed, waiting = len(result.failed), len(plan.wait)
    return {
        "kept": result.wanted - failed - waiting - result.not_begun,
        "failed": failed,
        "waiting": waiting,
        "left": result.not_begun,
    }


def next_roster(now: datetime, standings: Sequence[Standing], before: Roster | None, figures: Figures) -> Roster:
    """Return the *standings* with what was last heard of each: by the run *before*, or counted since."""
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
    """Return *roster* with what was counted since."""
    return replace(roster, standings=tuple(_brought_up_to_date(each, figures) for each in roster.standings))


def _brought_up_to_date(standing: Standing, figures: Figures) -> Standing:
    notified, swept = figures.notified.get(standing.mailbox), figures.swept.get(standing.mailbox)
    if notified is not None and (standing.notified is None or standing.notified < notified):
        standing = replace(standing, notified=notified)
    if swept is not None and (standing.swept is None or standing.swept.at < swept.at):
        standing = replace(standing, swept=swept)
    return standing
