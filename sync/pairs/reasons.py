"""The reasons for which a pair is out of step and stays so for now, and the words that people see for each. No rule."""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import NamedTuple


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
    UNTOLD = "untold"
    MISSED = "missed"
    MANY_MISSED = "many-missed"
    DELETED_BEFORE = "deleted-before"
    TOO_MANY = "too-many"
    AMBIGUOUS = "ambiguous"
    UNLINKED = "unlinked"
    REOPENED = "reopened"
    SHARED = "shared"
    DAMAGED = "damaged"
    LOST_EXTENSION = "lost-extension"
    NAMES_ANOTHER = "names-another"
    FORMER_UNREAD = "former-unread"
    WAITS_FOR_OUTLOOK = "waits-for-outlook"
    CLOSED = "closed"
    BEGUN = "begun"
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
    HoldKind.UNTOLD: HoldWords(
        Acts.PERSON, "its event is gone, and Graph notified of no deletion, nor that any were lost", _CANCELS
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
    HoldKind.REOPENED: HoldWords(
        Acts.PERSON,
        "the booking was canceled with its event, and opened again since",
        _CANCELS,
        is_conflict=True,
    ),
    HoldKind.SHARED: HoldWords(Acts.PERSON, "booking {} holds this event's id as well", _NOTHING),
    HoldKind.DAMAGED: HoldWords(
        Acts.PERSON, "the app's own row of the pair is damaged, until its event or a sweep replaces it", _NOTHING
    ),
    HoldKind.LOST_EXTENSION: HoldWords(
        Acts.PERSON, "the event whose id the booking holds does not name the booking", _MOVES
    ),
    HoldKind.NAMES_ANOTHER: HoldWords(
        Acts.PERSON, "the booking is linked to another event, which does not name it", _MOVES
    ),
    HoldKind.FORMER_UNREAD: HoldWords(
        Acts.PERSON, "whether the event that the booking is linked to still stands is not known ({})", _MOVES
    ),
    HoldKind.WAITS_FOR_OUTLOOK: HoldWords(
        Acts.OUTLOOK, "the booking was moved in Dynamics, and its event is to follow", _MOVES
    ),
    HoldKind.CLOSED: HoldWords(Acts.OUTLOOK, "the booking is canceled or inactive, and its event stands", _NOTHING),
    HoldKind.BEGUN: HoldWords(Acts.OUTLOOK, "the booking's work has begun, and its event was moved", _NOTHING),
    HoldKind.OVERRULED: HoldWords(Acts.OUTLOOK, "{}: the booking stays", "as asked", is_conflict=True),
}
"""Every reason for which a pair stays out of step.

OVERRULED is a conflict that CONFLICT_POLICY has settled; its detail is the reason of the conflict. The reason of
TOO_MANY is the breaker's, as it alone knows which ceiling was reached.
"""


def reason_of(kind: HoldKind, detail: str) -> str:
    """Why a pair is held, in words for a person."""
    return HOLDS[kind].reason.format(detail)
