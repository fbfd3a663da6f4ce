"""Tells whether the app was away, and when a mailbox that refused is tried again.

Only rules about time and what is remembered of runs live here. Nothing is read or stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sync.subscriptions.deployment import LIFETIME

LONGEST_WAIT = timedelta(days=1)
"""The longest time between two tries of a mailbox that refuses. A longer one can only come from a wrong clock.

Too short, and hopeless mailboxes cost calls each run; too long, and a mailbox that is well again waits.
"""

OUTAGE = timedelta(hours=3)
"""Time without a run after which the app counts as away. Its timer runs each hour, and Graph tries again for four.

Too short, and one missed run has all mailboxes swept; too long, and notifications that Graph gave up are not swept for.
Source: Graph, "Receive change notifications through webhooks".
"""

SKEW = timedelta(minutes=5)
"""The difference that two machines' clocks may have. A last run further in the future was noted by a wrong clock.

Its time is not known then, so the app counts as away. Too small, and that happens often; too large, and an outage may
be hidden by a wrong clock.
"""


@dataclass(frozen=True)
class Trouble:
    """Why a mailbox could not be subscribed, or its subscription not be renewed, and when to try again."""

    mailbox: str
    reason: str
    since: datetime
    tries: int
    """How often the mailbox itself has refused."""
    next_try: datetime
    in_gap: bool = False
    """Its old subscription was deleted to make room for a new one, which is not made yet."""


@dataclass(frozen=True)
class LastRun:
    """The last run, as it is remembered."""

    at: datetime
    lifetime: timedelta
    """The lifetime that Graph allowed."""
    leavers_stay: bool = False
    """Too many mailboxes would have lost their subscription, so all keep theirs until a person agrees."""
    unreached_since: datetime | None = None
    """The last run before Graph could not reach the app any more; None while it can."""


@dataclass(frozen=True)
class Made:
    """Subscriptions that we made, and that Graph's list has not shown since as they were made.

    If that list should never show them so, they would seem wrong for ever, and each replacement of one costs two
    handshakes and perhaps a gap. So these are not replaced again, as long as they would be made the same today.
    """

    deployment: str
    """The fingerprint of the deployment that made them."""
    ids: frozenset[str] = frozenset()
    """Short ids of the subscriptions."""


def lifetime_to_ask(last: LastRun, now: datetime) -> timedelta:
    """Return the lifetime to ask for: the one that Graph allowed, but the whole one in the first run of each week.

    Without that, one odd answer of Graph's would last for ever.
    """
    return last.lifetime if _week(last.at) == _week(now) else LIFETIME


def _week(moment: datetime) -> int:
    return int(moment.timestamp() // timedelta(weeks=1).total_seconds())


def away_since(last: LastRun | None, now: datetime, is_reached: bool | None) -> datetime | None:
    """Return since when notifications may have been lost, if that is over *now*; None if none can be lost.

    *is_reached* says whether Graph can reach the app now; None if this run has not shown it.
    Example: the last run was at 2:07, and it is 9:07. The app was away since 2:07. Another: runs came each hour, but
    from 2:07 on Graph could not reach the app, and at 9:07 it can. Notifications may be lost since 2:07.
    """
    if last is None:
        return None
    if _is_outage(last.at, now):
        return last.at
    since = last.unreached_since
    return since if is_reached and since is not None and _is_outage(since, now) else None


def _is_outage(since: datetime, now: datetime) -> bool:
    return not -SKEW <= now - since <= OUTAGE


def unreached_since(last: LastRun | None, now: datetime, is_reached: bool | None) -> datetime | None:
    """Return the ``unreached_since`` to remember after a run that has shown *is_reached*."""
    before = last.unreached_since if last else None
    match is_reached:
        case True:
            return None
        case False:
            return before or (last.at if last else now)
        case None:
            return before


def next_trouble(
    mailbox: str, reason: str, before: Trouble | None, now: datetime, rarely: bool, in_gap: bool = False
) -> Trouble:
    """Return what to remember of a *mailbox* that went wrong once more. A gap lasts until all is well.

    A mailbox that itself refuses is tried *rarely*. Example: it refuses at 9:07. Tries come after 45 minutes, then
    after 1:45 h, 3:45 h and so on up to a day: always a quarter of an hour early, so that the timer's run finds it due.
    Any other trouble is tried again by each run, and is not counted.
    """
    since, tries = (before.since, before.tries) if before else (now, 0)
    in_gap = in_gap or (before is not None and before.in_gap)
    if not rarely:
        return Trouble(mailbox, reason, since, tries, now, in_gap)
    wait = min(timedelta(hours=2.0 ** min(tries, 5)), LONGEST_WAIT) - timedelta(minutes=15)
    return Trouble(mailbox, reason, since, tries + 1, now + wait, in_gap)
