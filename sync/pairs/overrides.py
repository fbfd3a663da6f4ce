"""What stands above the rule: a person's answer, and evidence that is too weak for a cancellation. Pure."""

from __future__ import annotations

from datetime import datetime

from sync.messages.changes import Change
from sync.model import Booking
from sync.pairs.actions import Action, CancelBooking, Hold, Ignore, Leave, MoveBooking
from sync.pairs.entry import Entry, Kind
from sync.pairs.pair import Look


def is_released(entry: Entry, look: Look) -> bool:
    """Whether a person has said "do it" of what is there now: who moves the booking afterwards has not been asked."""
    span = look.booking.span if look.booking is not None else None
    return entry.held is not None and entry.held.booking_span == span and entry.released == look.version


def override(action: Action, look: Look, entry: Entry) -> Action:
    """*action*, unless a person has said otherwise of just this version of the event."""
    if isinstance(action, Hold | Leave) and action.write is not None and is_released(entry, look):
        return action.write
    if isinstance(action, Hold | Leave | CancelBooking | MoveBooking) and entry.discarded == look.version:
        return Ignore("a person decided to let it be")
    return _still_in_conflict(action, look, entry) or action


def _still_in_conflict(action: Action, look: Look, entry: Entry) -> Leave | Hold | None:
    """What was decided of the event as it is stands, also if a dispatcher moves the booking back again."""
    held = entry.held
    if held is None or not held.is_conflict or held.version != look.version or is_released(entry, look):
        return None
    if not isinstance(action, CancelBooking | MoveBooking):
        return None
    if held.is_waiting:
        return Leave(held.reason, action.booking_id, is_conflict=True, write=action)
    return Hold(held.reason, action.booking_id, action, is_conflict=True)


def left_unlinked(entry: Entry, booking: Booking | None, now: datetime) -> Hold | None:
    """What becomes of *booking*, which the entry names, when its event is gone and no booking is linked to that.

    Linked, it would be canceled; but that it is not is only because a link was left out. A person is to say.
    """
    if booking is None or not entry.is_left_out or booking.mailbox != entry.mailbox:
        return None
    if booking.event_id is not None or not booking.is_open or booking.span.end <= now:
        return None
    cancel = CancelBooking(booking.id, booking.etag, unlink=False)
    return Hold("its event was deleted, and while the app only observed nothing linked them", booking.id, cancel)


def doubt(look: Look, change: Change, entry: Entry) -> str | None:
    """Why *look*'s booking is not to be canceled for its event's being gone without a person's word, None if it may.

    It may have been somebody else's for a while: its event went then, and Outlook has not followed it back yet. A
    booking that is as it was when the event was seen was in one hand; of any other, somebody has to have told.
    """
    if look.event is not None or look.booking is None or look.booking.etag == entry.booking_version:
        return None
    if change.is_deletion or (entry.kind is Kind.GONE and _is_told_of(entry)):
        return None
    return "its event is gone, which nobody told of, and the booking was edited since the event was seen"


def _is_told_of(entry: Entry) -> bool:
    """Whether the deletion that was judged was this booking's: held for it, or told before the booking was linked."""
    return not entry.held.is_missed if entry.held is not None else not entry.booking_version


def is_stale(change: Change, look: Look, entry: Entry) -> bool:
    """Whether the event may have been read from a copy that lags behind.

    It was known in a newer state, by Exchange's own clock; or a version was notified that is not known yet, and what
    was read is one that was. Once more is enough to tell that from a late notification.
    """
    event = look.event
    if event is None:
        return False
    if event.modified is not None and entry.modified is not None and event.modified < entry.modified:
        return change.attempt < 3  # the clocks of two Exchange servers need not agree for ever
    return (
        change.attempt == 0
        and change.version not in (None, event.etag, *entry.versions)
        and event.etag in entry.versions
    )
