"""The write with which a booking follows its event. Pure: no IO, no clock. When it is sent, decision.py says."""

from __future__ import annotations

from sync.model import Booking
from sync.pairs.actions import Action, CancelBooking, Ignore, LinkBooking, MoveBooking, UnlinkBooking
from sync.pairs.pair import Pair


def follow(pair: Pair, booking: Booking) -> LinkBooking | CancelBooking | MoveBooking:
    """The write with which the booking follows its event: the event's times, its id, or its end."""
    event = pair.event
    if event is None or event.is_cancelled:
        return CancelBooking(booking.id, booking.etag, unlink=booking.event_id is not None)
    if event.span == booking.span:
        return LinkBooking(booking.id, booking.etag, event.id)
    return MoveBooking(booking.id, booking.etag, event.span, None if pair.is_linked else event.id)


def unlink(pair: Pair, booking: Booking, reason: str) -> Action:
    """The write that clears the event's id of a closed booking; nothing if the booking holds none."""
    if booking.event_id is None:
        return Ignore(reason)
    return UnlinkBooking(booking.id, booking.etag, reason)
