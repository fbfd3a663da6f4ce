"""A person's answer, and evidence too weak for a cancellation, stand above the rule of decision.py. Pure."""

from __future__ import annotations

from datetime import datetime

from sync.messages.changes import Evidence
from sync.pairs.actions import Action, CancelBooking, Hold, Ignore, MoveBooking
from sync.pairs.agreement import agreement_in
from sync.pairs.entry import Entry, Kind
from sync.pairs.leftovers import left_over
from sync.pairs.observing import is_left_out
from sync.pairs.pair import Pair
from sync.pairs.reasons import HoldKind

PATIENT = 3
"""Tries after which an event that Exchange shows as older than the ledger knows it is believed.

The clocks of two Exchange servers need not agree for ever. Too small, and a lagging copy is taken for the event; too
large, and a pair waits for a clock.
"""


def override(action: Action, pair: Pair, now: datetime) -> Action:
    """*action*, unless a person has said otherwise of just this version of the event."""
    action = left_over(action, pair, now) or _reopened(action, pair) or action
    if isinstance(action, Hold) and action.write is not None and is_released(pair):
        return action.write
    return _discarded(action, pair) or _still_in_conflict(action, pair) or action


def _reopened(action: Action, pair: Pair) -> Hold | None:
    """The hold of a booking that a person opened again, after it was canceled for this version of the event."""
    if not isinstance(action, CancelBooking) or pair.entry.ended != pair.version:
        return None
    return Hold(HoldKind.REOPENED, action.booking_id, action)


def _discarded(action: Action, pair: Pair) -> Action | None:
    """What is left of *action* if a person let this version of the event be; None if nobody did.

    The answer holds as long as the booking is where it was. Afterwards, the person is asked anew.
    """
    if not isinstance(action, Hold | CancelBooking | MoveBooking) or pair.entry.discarded != pair.version:
        return None
    then, booking = pair.entry.discarded_span, pair.booking
    if then is None or booking is None or booking.span == then:
        return Ignore("a person decided to let it be")
    if isinstance(action, Hold):
        return action
    kind = HoldKind.MOVED_AND_DELETED if pair.has_ended else HoldKind.MOVED_APART
    return Hold(kind, action.booking_id, action)


def weighed(action: Action, pair: Pair) -> Action:
    """*action*; a hold in place of a cancellation that no person has released and that lacks evidence."""
    booking = pair.booking
    if not isinstance(action, CancelBooking) or booking is None or is_released(pair) or not lacks_evidence(pair):
        return action
    is_edited = pair.entry.booking_version not in ("", booking.etag)
    return Hold(HoldKind.EDITED_SINCE if is_edited else HoldKind.UNTOLD, booking.id, action)


def is_released(pair: Pair) -> bool:
    """Whether a person has said "do it" of what is there now.

    The answer does not hold if the booking was moved after the person was asked.
    """
    held, span = pair.entry.held, pair.booking.span if pair.booking is not None else None
    return held is not None and held.booking_span == span and pair.entry.released == pair.version


def _still_in_conflict(action: Action, pair: Pair) -> Hold | None:
    """The hold of a conflict that was decided of this version of the event; a booking that moves back ends it not."""
    held = pair.entry.held
    if held is None or not held.is_conflict or held.version != pair.version or is_released(pair):
        return None
    if not isinstance(action, CancelBooking | MoveBooking):
        return None
    return Hold(held.kind, action.booking_id, action, held.detail)


def lacks_evidence(pair: Pair) -> bool:
    """Whether the event's absence alone is too weak a reason to cancel the booking.

    Graph would have notified of a deletion, unless notifications were lost. Example: a mailbox is restored, and all its
    events have new ids; or a resource points to another user for an hour. Nothing was deleted there.

    After a gap in the notifications, the app believes that an event was deleted, but cancels only a booking that still
    has the version it had when the app last saw its event. Example: the booking is reassigned from Anna to Ben and
    back. Anna's first event was removed for that, and her new one may not exist yet.
    """
    entry, booking = pair.entry, pair.booking
    if pair.event is not None or booking is None:
        return False
    if pair.change.is_deletion or (entry.kind is Kind.GONE and _is_told_of(entry)):
        return False
    return pair.change.evidence is not Evidence.MISSED_IN_GAP or booking.etag != entry.booking_version


def _is_told_of(entry: Entry) -> bool:
    """Whether the deletion that was judged was this booking's: held for it, or told before the booking was linked."""
    return not entry.held.is_missed if entry.held is not None else not entry.booking_version


def is_stale(pair: Pair) -> bool:
    """Whether the event may have been read from a copy of Exchange's that lags behind.

    Either the ledger knows a newer state of it, by Exchange's own clock. Or Graph notified of a version that is not
    known yet, and the version that was read is a known one. One more try tells that from a late notification.
    """
    event, entry, change = pair.event, pair.entry, pair.change
    if event is None:
        return False
    if event.modified is not None and entry.modified is not None and event.modified < entry.modified:
        return change.attempt < PATIENT
    is_unknown = change.version not in (None, event.etag, *entry.versions)
    return change.attempt == 0 and is_unknown and event.etag in entry.versions


def is_unsettled(pair: Pair) -> bool:
    """Whether a write in doubt is given some time, so that the worker that sent it can note that it was refused.

    Example: two workers send 12:00, a dispatcher edits the booking's name, and both are refused. The first one looks
    again before the second one has noted its refusal. One more try tells that from a write that nobody concludes.
    """
    entry = pair.entry
    is_doubted = entry.intent is not None and len(agreement_in(entry, pair.booking).spans) > 1
    return is_doubted and pair.change.attempt == 0 and not is_left_out(entry)
