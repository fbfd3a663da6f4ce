"""The values that a decision can ask for: a write to one side, a hold, another look, or nothing.

The words that people see for an outcome stand here as well; those for a hold stand in ``reasons.py``. Nothing is
decided and nothing is carried out in this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sync.model import Span
from sync.pairs.reasons import HOLDS, Acts, HoldKind, reason_of

GRACE = 60.0
"""Seconds until a second look: at an event that was not found, though Graph had not notified of its deletion; and at
one that was deleted after its booking was edited.

Too short, and the second look meets the same delay of Exchange's as the first, or a flow has not made the new event
yet; too long, and the booking is canceled late.
"""


class Outcome(StrEnum):
    """A change's end in one word; it is counted, and kept in a pair's history."""

    IGNORED = "ignored"
    WAITING = "left"
    """Outlook is to follow the booking."""
    POSTPONED = "postponed"
    HELD = "held"
    LINKED = "linked"
    UNLINKED = "unlinked"
    CANCELED = "canceled"
    MOVED = "moved"
    RELEASED = "released"
    """A person said: do it."""
    DISCARDED = "discarded"
    """A person said: let the booking be."""


class Stage(StrEnum):
    """How far a write came."""

    INTENDED = "intended"
    """It was noted, and about to be sent."""
    OBSERVED = "observed"
    """It was not sent, because the app only observes."""
    DONE = "done"


_STAGES = {Stage.INTENDED: "about to be ", Stage.OBSERVED: "would be ", Stage.DONE: ""}


def in_words(outcome: Outcome, stage: Stage = Stage.DONE) -> str:
    """How people read it: ``would be moved``, ``about to be moved``, ``moved``."""
    return f"{_STAGES[stage]}{outcome}"


@dataclass(frozen=True)
class Ignore:
    """Nothing is to be done, and why."""

    reason: str


@dataclass(frozen=True)
class LookAgain:
    """Look again after ``GRACE``, as one look is too weak an evidence."""

    reason: str
    booking_id: str | None = None


@dataclass(frozen=True)
class Hold:
    """The pair is out of step, and the app leaves it so."""

    kind: HoldKind
    booking_id: str | None = None
    write: Write | None = None
    """The write that follows if a person releases it; None where the app can do nothing."""
    detail: str = ""
    """Completes the reason."""

    @property
    def reason(self) -> str:
        """In words for a person."""
        return reason_of(self.kind, self.detail)

    @property
    def is_waiting(self) -> bool:
        """Whether Outlook is to follow, rather than a person to say."""
        return HOLDS[self.kind].acts is Acts.OUTLOOK


@dataclass(frozen=True)
class LinkBooking:
    """Write the event's id to the booking."""

    booking_id: str
    etag: str
    event_id: str


@dataclass(frozen=True)
class UnlinkBooking:
    """Clear the event's id of a booking that is closed."""

    booking_id: str
    etag: str
    reason: str


@dataclass(frozen=True)
class CancelBooking:
    """Set the booking's status to Canceled."""

    booking_id: str
    etag: str
    unlink: bool
    """Whether the row holds an event id, which the same write clears."""


@dataclass(frozen=True)
class MoveBooking:
    """Write the event's times to the booking."""

    booking_id: str
    etag: str
    span: Span
    event_id: str | None = None
    """Set where the same write links the booking as well."""


Write = LinkBooking | UnlinkBooking | CancelBooking | MoveBooking


@dataclass(frozen=True)
class Observed:
    """A write that was decided on and not sent, because the app only observes."""

    write: Write

    @property
    def booking_id(self) -> str:
        """The booking that would have been written."""
        return self.write.booking_id

    @property
    def reason(self) -> str:
        """Names the write."""
        return f"not written: {type(self.write).__name__}"


Action = Ignore | LookAgain | Hold | Observed | Write

_OUTCOMES: dict[type[Action], Outcome] = {
    Ignore: Outcome.IGNORED,
    LookAgain: Outcome.POSTPONED,
    LinkBooking: Outcome.LINKED,
    UnlinkBooking: Outcome.UNLINKED,
    CancelBooking: Outcome.CANCELED,
    MoveBooking: Outcome.MOVED,
}

WRITTEN = frozenset({Outcome.LINKED, Outcome.UNLINKED, Outcome.CANCELED, Outcome.MOVED})
"""The outcomes that are a write to a booking."""


def outcome_of(action: Action) -> tuple[Outcome, Stage]:
    """*action* in one word, and how far it came."""
    match action:
        case Observed(write=write):
            return _OUTCOMES[type(write)], Stage.OBSERVED
        case Hold():
            return (Outcome.WAITING if action.is_waiting else Outcome.HELD), Stage.DONE
        case _:
            return _OUTCOMES[type(action)], Stage.DONE


@dataclass(frozen=True)
class Done:
    """A change at its end, as the taker of its message tells it."""

    outcome: str
    reason: str = ""
    booking_id: str | None = None
    again_after: float | None = None
    """Seconds until one more look; None if there is nothing left to look at."""
    needs_a_person: bool = False

    @classmethod
    def of(cls, action: Action) -> Done:
        """Tell *action*."""
        return cls(
            in_words(*outcome_of(action)),
            getattr(action, "reason", ""),
            getattr(action, "booking_id", None),
            GRACE if isinstance(action, LookAgain) else None,
            isinstance(action, Hold) and not action.is_waiting,
        )
