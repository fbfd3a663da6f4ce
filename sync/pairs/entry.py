"""What is remembered of each event: what it and its booking last agreed on, what was decided last, when and why.

Values and rules without IO; ledger_table.py stores them. The ledger is a cache: what it does not know is read anew. It
holds ids, times and reasons, nothing of what events are about.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sync.model import Span
from sync.pairs.actions import (
    Action,
    CancelBooking,
    Hold,
    Ignore,
    Leave,
    LinkBooking,
    MoveBooking,
    Observed,
    Postpone,
    UnlinkBooking,
)

GONE = "gone"
"""Stands for the version of an event that is no more."""

VERSIONS = 8
"""So many versions of an event are remembered, the newest last: a change is notified up to four times."""

DECISIONS = 20
"""The last ones are kept for ``explain``."""

WOULD_BE = "would be "
"""Begins the outcome of a decision while the app only observes."""


class Kind(StrEnum):
    PAIR = "pair"
    """It carries our extension."""
    GONE = "gone"
    NOT_OURS = "not ours"


@dataclass(frozen=True)
class Intent:
    """Writes that were about to be sent, and the times that the booking has afterwards.

    All were guarded by one *version* of the booking, so that one of them at most took effect.
    """

    spans: tuple[Span, ...]
    """One twice where two were about to write it: that one of them was refused says nothing of the other."""
    version: str


@dataclass(frozen=True)
class Decision:
    """One line of an event's history. The spans are those that were looked at, not those that were written."""

    at: datetime
    cause: str
    outcome: str
    reason: str = ""
    event_version: str = ""
    booking_version: str = ""
    event_span: Span | None = None
    booking_span: Span | None = None
    times: int = 1
    """How often in a row the same was decided of the same versions; *at* is the last time."""

    @property
    def is_observed(self) -> bool:
        """Whether it would have been done, had the app not only observed."""
        return self.outcome.startswith(WOULD_BE)


@dataclass(frozen=True)
class Held:
    """Why a pair is out of step, and since when; ``is_waiting`` for Outlook to follow rather than for a person."""

    reason: str
    since: datetime
    version: str
    """Of the event; a person's word holds for this one only."""
    is_waiting: bool = False
    outcome: str = ""
    """What the booking will have been if a person releases it; empty where nothing can be done."""
    is_missed: bool = False
    """Whether the event was only missed, which is no evidence that it was deleted."""
    booking_span: Span | None = None
    """Where the booking was; a person's word to write over it holds as long as it is there."""
    is_conflict: bool = False
    """Whether both sides were changed. That holds for this version of the event, wherever the booking goes."""


@dataclass(frozen=True)
class Entry:
    """What is known of one event; ``etag`` is that of the stored row, empty if there is none yet."""

    mailbox: str
    event_id: str
    etag: str = ""
    kind: Kind = Kind.PAIR
    booking_id: str | None = None
    agreed: tuple[Span, ...] = ()
    """What both sides last had in common; several where a write of ours is in doubt."""
    intent: Intent | None = None
    versions: tuple[str, ...] = ()
    """Those that need no second look, the newest last."""
    modified: datetime | None = None
    """When the event was modified at the newest of them, by Exchange's clock."""
    booking_version: str = ""
    """The booking's when the event was last seen; as long as it has that one, it was in nobody else's hands since."""
    held: Held | None = None
    released: str | None = None
    """The version of the event for which a person said: do it."""
    discarded: str | None = None
    """The version of the event for which a person said: let it be."""
    history: tuple[Decision, ...] = ()
    expires: datetime | None = None

    @property
    def is_new(self) -> bool:
        return not self.etag

    @property
    def observed(self) -> Decision | None:
        """The last of its decisions that were not carried out because the app only observed."""
        return next((decision for decision in reversed(self.history) if decision.is_observed), None)

    @property
    def is_left_out(self) -> bool:
        """Whether the last write that was decided on was not sent, because the app only observed."""
        decided = (each for each in reversed(self.history) if each.is_observed or each.outcome in _WRITTEN)
        return next((decision.is_observed for decision in decided), False)

    @property
    def was_read(self) -> bool:
        """Whether the event was seen in this mailbox, with a booking that it claims, and not seen to be gone.

        Nothing follows from its being gone while the app only observes, so that it is missed still.
        """
        return GONE in self.versions or (self.kind is Kind.PAIR and bool(self.versions or self.agreed))


_OUTCOMES: dict[type[Action], str] = {
    Ignore: "ignored",
    Leave: "left",
    Postpone: "postponed",
    Hold: "held",
    LinkBooking: "linked",
    UnlinkBooking: "unlinked",
    CancelBooking: "canceled",
    MoveBooking: "moved",
}


_WRITTEN = {_OUTCOMES[kind] for kind in (LinkBooking, UnlinkBooking, CancelBooking, MoveBooking)}


def outcome_of(action: Action) -> str:
    return WOULD_BE + _OUTCOMES[type(action.write)] if isinstance(action, Observed) else _OUTCOMES[type(action)]
