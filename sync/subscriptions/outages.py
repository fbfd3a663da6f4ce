"""Was the app away, and when is a mailbox that refused tried again? Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sync.subscriptions.deployment import LIFETIME

LONGEST_WAIT = timedelta(days=1)
"""For another try of a mailbox that refuses; more can only come from a clock that was wrong."""

OUTAGE = timedelta(hours=3)
"""A timer that runs each hour and has not for so long was away; so were the answers to Graph, which tries again for
four hours. Source: Graph, "Receive change notifications through webhooks"."""

SKEW = timedelta(minutes=5)
"""Between two machines' clocks. A last run later than that was noted by a clock that was wrong, so nobody knows when
it was, and the app counts as away."""


@dataclass(frozen=True)
class Trouble:
    """Why a mailbox could not be subscribed, or its subscription not be renewed, and when to try again."""

    mailbox: str
    reason: str
    since: datetime
    tries: int
    next_try: datetime
    in_gap: bool = False
    """Its old subscription was deleted to make room for a new one, which is not made yet."""


@dataclass(frozen=True)
class LastRun:
    """When the roster was last kept, and the lifetime that the service allowed then."""

    at: datetime
    lifetime: timedelta
    leavers_stay: bool = False
    """Too many mailboxes were to be left then, so all stay subscribed until a person agrees."""
    unreached_since: datetime | None = None
    """The last run before Graph could not reach the app any more, None while it can."""


@dataclass(frozen=True)
class Made:
    """Subscriptions that we made, and that Graph's list has not shown since as they were made.

    If that list should never show them so, they would seem wrong for ever, and each replacement of one costs two
    handshakes and perhaps a gap. So these are not replaced again, as long as they would be made the same today.
    """

    deployment: str
    """The mark of the one that they were made for."""
    ids: frozenset[str] = frozenset()
    """As ``mark_of`` makes them."""


def lifetime_to_ask(last: LastRun, now: datetime) -> timedelta:
    """What the service allowed; the whole one in the first run of each week, or one odd answer would last for ever."""
    return last.lifetime if _week(last.at) == _week(now) else LIFETIME


def _week(moment: datetime) -> int:
    return int(moment.timestamp() // timedelta(weeks=1).total_seconds())


def away_since(last: LastRun | None, now: datetime, is_reached: bool | None) -> datetime | None:
    """Since when the app was away or Graph could not reach it, if that is over *now* and was long enough to lose some.

    *is_reached* says whether Graph can reach it now, None if nobody knows.
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
    """What to remember of it."""
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
    """What to remember of a mailbox that went wrong; a gap lasts until all is well.

    Where it is the mailbox that refuses, it is tried *rarely*: after an hour, doubling to a day, and a little less, so
    that the timer's run of that hour finds it due. All else is tried again by each run, and not counted as a refusal.
    """
    since, tries = (before.since, before.tries) if before else (now, 0)
    in_gap = in_gap or (before is not None and before.in_gap)
    if not rarely:
        return Trouble(mailbox, reason, since, tries, now, in_gap)
    wait = min(timedelta(hours=2.0 ** min(tries, 5)), LONGEST_WAIT) - timedelta(minutes=15)
    return Trouble(mailbox, reason, since, tries + 1, now + wait, in_gap)
