"""The values that a decision can ask for: a write to one side, a hold, another look, or nothing.

The words that people see for each of them stand here as well, each in one table. Nothing is decided and nothing is
carried out in this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import NamedTuple

from sync.model import Span

GRACE = 60.0
"""Seconds until an event is looked for again that was not found, though Graph had not notified of its deletion.

Too short, and the second look meets the same delay of Exchange's as the first; too long, and a deletion that Graph
did not notify of reaches the booking late.
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


class Acts(Enum):
    """The side that a hold waits for."""

    PERSON = "a person"
    OUTLOOK = "Outlook"


class HoldKind(StrEnum):
    """Why a pair is out of step and stays so for now; ``HOLDS`` says of each what people need to know."""

    SERIES = "series"
    ALL_DAY = "all-day"
    BACKWARDS = "backwards"
    MOVED_APART = "moved-apart"
    MOVED_AND_DELETED = "moved-and-deleted"
    UNKNOWN_MOVE = "unknown-move"
    UNKNOWN_DELETION = "unknown-deletion"
    EDITED_SINCE = "edited-since"
    MISSED = "missed"
    MANY_MISSED = "many-missed"
    DELETED_BEFORE = "deleted-before"
    TOO_MANY = "too-many"
    AMBIGUOUS = "ambiguous"
    UNLINKED = "unlinked"
    WAITS_FOR_OUTLOOK = "waits-for-outlook"
    OVERRULED = "overruled"


class HoldWords(NamedTuple):
    """The words for one kind of hold."""

    acts: Acts
    reason: str
    """``{}`` is filled in with the hold's detail."""
    release: str
    """The booking's fate if a person releases the hold."""
    is_conflict: bool = False
    """Whether both sides were changed. Such a decision stands for this version of the event, wherever the booking goes.

    Example: both agreed on 9:00, the event went to 12:00 and the booking to 15:00, and the booking stays. A dispatcher
    moves the booking back to 9:00: the event's move to 12:00 was overruled, so the booking does not follow it now.
    """


_MOVES = "the booking gets the event's times"
_CANCELS = "the booking is canceled"
_NOTHING = "nothing"

HOLDS: dict[HoldKind, HoldWords] = {
    HoldKind.SERIES: HoldWords(Acts.PERSON, "the event is of a series ({})", _MOVES),
    HoldKind.ALL_DAY: HoldWords(Acts.PERSON, "the event lasts all day", _MOVES),
    HoldKind.BACKWARDS: HoldWords(Acts.PERSON, "the event ends before it starts", _NOTHING),
    HoldKind.MOVED_APART: HoldWords(Acts.PERSON, "booking and event were moved apart", _MOVES, is_conflict=True),
    HoldKind.MOVED_AND_DELETED: HoldWords(
        Acts.PERSON, "the booking was moved, and its event deleted or cancelled", _CANCELS, is_conflict=True
    ),
    HoldKind.UNKNOWN_MOVE: HoldWords(
        Acts.PERSON, "booking and event differ, and which of them was moved is not known", _MOVES, is_conflict=True
    ),
    HoldKind.UNKNOWN_DELETION: HoldWords(
        Acts.PERSON,
        "the event is deleted or cancelled, and whether its booking was moved before is not known",
        _CANCELS,
        is_conflict=True,
    ),
    HoldKind.EDITED_SINCE: HoldWords(
        Acts.PERSON,
        "its event is gone without a notification, and the booking was edited since the event was seen",
        _CANCELS,
    ),
    HoldKind.MISSED: HoldWords(Acts.PERSON, "its event is not in the list, and never was seen there", _CANCELS),
    HoldKind.MANY_MISSED: HoldWords(Acts.PERSON, "its event is not in the list, nor are {} others", _CANCELS),
    HoldKind.DELETED_BEFORE: HoldWords(
        Acts.PERSON, "its event was deleted at a time when the booking was not to be canceled for that", _CANCELS
    ),
    HoldKind.TOO_MANY: HoldWords(Acts.PERSON, "{}", _CANCELS),
    HoldKind.AMBIGUOUS: HoldWords(Acts.PERSON, "{} bookings hold this event's id", _NOTHING),
    HoldKind.UNLINKED: HoldWords(
        Acts.PERSON, "its event was deleted, and while the app only observed nothing linked them", _CANCELS
    ),
    HoldKind.WAITS_FOR_OUTLOOK: HoldWords(
        Acts.OUTLOOK, "the booking was moved in Dynamics, and its event is to follow", _MOVES
    ),
    HoldKind.OVERRULED: HoldWords(Acts.OUTLOOK, "{}: the booking stays", "as asked", is_conflict=True),
}
"""Every reason for which a pair stays out of step.

OVERRULED is a conflict that CONFLICT_POLICY has settled; its detail is the reason of the conflict. The reason of
TOO_MANY is the breaker's, as it alone knows which ceiling was reached.
"""


def reason_of(kind: HoldKind, detail: str) -> str:
    """Why a pair is held, in words for a person."""
    return HOLDS[kind].reason.format(detail)


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
