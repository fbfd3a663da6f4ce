"""A round is a sweep of all mailboxes: which come first, and which are left if it was interrupted; without IO."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sync.ids import mark_of

LASTS = timedelta(hours=4)
"""For so long an interrupted round is gone on with, and a finished one does for the night."""

SKEW = timedelta(minutes=5)
"""Between two machines' clocks. A round that begins later than that was noted by a wrong clock, and is none."""


@dataclass(frozen=True)
class Round:
    begun: datetime
    queued: frozenset[str] = field(default_factory=frozenset)
    """The marks of the mailboxes whose sweeps are queued, as ``mark_of`` makes them; none once it is over."""
    is_over: bool = False


def resume(last: Round | None, now: datetime, since: datetime | None = None) -> Round:
    """The *last* round if it is to be gone on with, and did not begin before *since*; else a new one."""
    if last is None or last.is_over or not _is_of_late(last, now) or (since is not None and last.begun < since):
        return Round(now)
    return last


def does_for_now(last: Round | None, now: datetime) -> bool:
    """Whether the *last* round was finished, and lately."""
    return last is not None and last.is_over and _is_of_late(last, now)


def _is_of_late(last: Round, now: datetime) -> bool:
    return -SKEW <= now - last.begun <= LASTS


def left_of(current: Round, wanted: Collection[str], by_start: Sequence[str]) -> list[str]:
    """The *wanted* mailboxes that are still to be queued: in the order of *by_start*, those it does not name last."""
    unnamed = sorted(set(wanted).difference(by_start))
    return [each for each in (*by_start, *unnamed) if each in wanted and mark_of(each) not in current.queued]
