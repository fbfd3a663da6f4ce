"""Tells which notifications need no message, and how long the others wait for more of the same. Pure."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sync.messages.changes import Change
from sync.pairs.entry import Kind

LONGEST_SETTLE = 60
"""Seconds that a change waits at most for more of the same.

Too short, and an event that never rests costs many runs; too long, and its booking lags behind. Measured: a thousand
changes of one event in a minute take five runs, and would take eleven if the wait did not grow.
"""

STREAK = 2
"""Runs in a row after which the wait grows. Fewer, and a technician who tries where an event fits waits longer."""


@dataclass(frozen=True)
class Notified:
    """The knowledge of an event when a notification of it comes in; all times are the storage account's own."""

    at: datetime
    kind: Kind | None = None
    versions: Set[str] = field(default_factory=frozenset)
    expires: datetime | None = None
    due: datetime | None = None
    """When the message that was queued last can be seen, and processed."""
    due_is_deletion: bool = False
    settle: int = 0
    """Seconds for which that one was hidden."""
    streak: int = 0
    """How many messages were queued in a row, each soon after the one before was processed."""


def is_known(change: Change, known: Notified) -> bool:
    """Whether the notification tells nothing new, so that neither service needs to be asked."""
    if known.kind is None or known.expires is None or known.expires <= known.at:
        return False
    match known.kind:
        case Kind.NOT_OURS:
            return True
        case Kind.GONE:
            # Without a version it may stand for several, of which one tells that the event is back.
            return change.is_deletion and change.version is not None
        case _:
            return not change.is_deletion and change.version in known.versions


_GRAIN = timedelta(seconds=1)
"""Storage tells its time in whole seconds. One second more is left between its queues' clock and its tables'."""


def is_queued(change: Change, known: Notified) -> bool:
    """Whether a message for the same event waits unseen: its run will see this change as well.

    Example: a message that can be seen at 9:00:07 waits. A change that comes at 9:00:05 needs none of its own; one
    that comes at 9:00:06 or later does.
    """
    if known.due is None or known.at + _GRAIN >= known.due:
        return False
    return known.due_is_deletion or not change.is_deletion


def settle_seconds(change: Change, known: Notified, settle: int) -> int:
    """Seconds to wait for more of the same: twice as long each time for an event that does not rest.

    A deletion never waits longer, as nothing follows it that would be worth waiting for.
    """
    if change.is_deletion or not settle or streak(known) <= STREAK:
        return settle
    return max(settle, min(known.settle * 2, LONGEST_SETTLE))


def streak(known: Notified) -> int:
    """How many runs in a row it makes with the message that is queued now."""
    is_row = known.due is not None and known.at - known.due <= timedelta(seconds=LONGEST_SETTLE)
    return known.streak + 1 if is_row else 1
