"""(agreed, event, booking) → action: the rules of the synchronization, without IO.

A change notification only says where to look. What to do follows from the event and the booking as they stand, and
from what both last agreed on: a late, repeated or reordered notification finds the same and gets the same answer. No
two systems' clocks are compared.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from datetime import datetime

from sync.ids import is_event_id
from sync.messages.changes import Change, Evidence
from sync.model import Booking, ConflictPolicy, Event, EventType, Span
from sync.pairs.actions import (
    Action,
    CancelBooking,
    Hold,
    Ignore,
    Leave,
    LinkBooking,
    MoveBooking,
    Postpone,
    UnlinkBooking,
    Write,
)


def decide(
    change: Change,
    event: Event | None,
    booking: Booking | None,
    rival: Event | None,
    now: datetime,
    agreed: Set[Span] | None = frozenset(),
    policy: ConflictPolicy = ConflictPolicy.DATAVERSE,
) -> Action:
    """Say what brings *booking* in step with *event*, as both stand now; None is 'not there'.

    *rival* is the other event that the booking is linked to (see ``rival_id``), None if there is none any more.
    *agreed* is what both sides last had in common: no span if they never had anything, two while it is not known
    whether a write of ours took effect. It tells who moved: at first contact, the event. None if they had something in
    common, and nobody remembers what: any difference is a conflict then.
    """
    if event is None:
        return _decide_gone(change, booking, now, agreed, policy)
    if not event.has_extension:
        return Ignore("the event was born in Outlook")
    if event.booking_id is None:
        return Ignore("the event's extension holds no booking id")
    if booking is None:
        return Ignore("the event's booking does not exist")
    if booking.mailbox != change.mailbox:
        return Ignore("the booking belongs to another mailbox")
    # Asked before a cancellation, too: a copy that its organizer cancels must not cancel the original's booking.
    if rival is not None and rival.id != event.id:
        return Ignore("the event is a copy, its booking is linked to another event")
    if event.is_cancelled:
        # One that had followed its booking, or that the booking had followed, does not contradict it.
        return _cancel(booking, now, agreed if event.span != booking.span else frozenset(), policy)
    return _decide_present(event, booking, agreed, policy)


def rival_id(change: Change, event: Event | None, booking: Booking | None) -> str | None:
    """The id of the other event that must be read before deciding, if any.

    The booking's id may be an older form of this very event's id (adopted deployments hold plain ids): reading it
    with immutable ids asked for tells.
    """
    if event is None or booking is None or booking.event_id in (None, event.id):
        return None
    if booking.mailbox != change.mailbox or event.booking_id != booking.id:
        return None
    return booking.event_id if is_event_id(booking.event_id or "") else None  # somebody typed in something else


def choose_linked(change: Change, bookings: Sequence[Booking]) -> Booking | Hold | None:
    """The one booking linked to the event, among *bookings* that hold its id."""
    ours = [booking for booking in bookings if booking.mailbox == change.mailbox] or list(bookings)
    if len(ours) > 1:
        return Hold(f"{len(ours)} bookings hold this event's id")
    return ours[0] if ours else None


def _decide_gone(
    change: Change, booking: Booking | None, now: datetime, agreed: Set[Span] | None, policy: ConflictPolicy
) -> Action:
    if booking is None or booking.event_id != change.event_id:
        return Ignore("no booking is linked to the event")
    if booking.mailbox != change.mailbox:
        return Ignore("the booking belongs to another mailbox")
    action = _cancel(booking, now, agreed, policy)
    if change.evidence is Evidence.NONE and not isinstance(action, Ignore):
        return Postpone("the event is not there, and nobody told of its deletion", booking.id)
    return action


def _cancel(booking: Booking, now: datetime, agreed: Set[Span] | None, policy: ConflictPolicy) -> Action:
    """What becomes of a booking whose event is gone or cancelled: done work is never cancelled."""
    linked = booking.event_id is not None
    if not booking.is_active:
        return Ignore("the booking is inactive")
    if booking.is_canceled:
        reason = "the booking is canceled already"
    elif booking.has_begun:
        reason = "the booking's work has begun"
    elif booking.span.end <= now:
        reason = "the booking is over"
    else:
        cancel = CancelBooking(booking.id, booking.etag, unlink=linked)
        if agreed is None:
            reason = "the event is deleted or cancelled, and whether its booking was moved before is not known"
            return _conflict(reason, cancel, policy)
        if agreed and agreed != {booking.span}:
            return _conflict("the booking was moved, and its event deleted or cancelled", cancel, policy)
        return cancel
    return UnlinkBooking(booking.id, booking.etag, reason) if linked else Ignore(reason)


def _decide_present(event: Event, booking: Booking, agreed: Set[Span] | None, policy: ConflictPolicy) -> Action:
    linked = booking.event_id == event.id
    write: Write | None = None if linked else LinkBooking(booking.id, booking.etag, event.id)
    if booking.is_open and not event.span.is_positive:
        return Hold("the event ends before it starts", booking.id)
    if booking.is_open and event.span != booking.span:
        write = MoveBooking(booking.id, booking.etag, event.span, None if linked else event.id)
    if write is None:
        return Ignore("the booking is in step" if booking.is_open else "the booking takes no changes of time any more")
    # In step they are nobody's business, so what a person has released once is not held again.
    if event.type is not EventType.SINGLE:
        return Hold(f"the event is of a series ({event.type.value})", booking.id, write)
    if event.is_all_day:
        return Hold("the event lasts all day", booking.id, write)
    if isinstance(write, MoveBooking) and (agreed is None or agreed):
        return _decide_moved(event, booking, write, agreed, policy)
    return write


def _decide_moved(
    event: Event, booking: Booking, move: MoveBooking, agreed: Set[Span] | None, policy: ConflictPolicy
) -> Action:
    """Who moved, told by what both last agreed on."""
    if agreed is None:
        return _conflict("booking and event differ, and which of them was moved is not known", move, policy)
    if booking.span not in agreed and event.span in agreed:
        return Leave("the booking was moved in Dynamics, and its event is to follow", booking.id, write=move)
    if booking.span in agreed and len(agreed) == 1:
        return move
    return _conflict("booking and event were moved apart", move, policy)


def _conflict(reason: str, write: CancelBooking | MoveBooking, policy: ConflictPolicy) -> Action:
    match policy:
        case ConflictPolicy.OUTLOOK:
            return write
        case ConflictPolicy.HOLD:
            return Hold(reason, write.booking_id, write, is_conflict=True)
        case _:
            return Leave(f"{reason}: the booking stays", write.booking_id, is_conflict=True, write=write)
