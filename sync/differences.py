"""(events, bookings) → differences: which events of a mailbox a sweep has processed, without IO.

A list only hints. Each difference goes the way of a notification: it is looked at again, decided and written there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sync.decide import decide
from sync.marks import mark_of
from sync.model import (
    Action,
    Booking,
    CancelBooking,
    Change,
    Event,
    Hold,
    Ignore,
    LinkBooking,
    MoveBooking,
    Span,
    UnlinkBooking,
    is_event_id,
)

MANY = 3
"""So many missing events, if they are more than half of all, are not believed to have been deleted."""

_SUSPICIONS: dict[type[Action], str] = {
    LinkBooking: "its booking is not linked to it",
    MoveBooking: "its booking has other times",
    CancelBooking: "its organizer cancelled it",
    UnlinkBooking: "its organizer cancelled it, after its booking was closed",
}


@dataclass(frozen=True)
class Difference:
    """A change to be processed, and what made it be suspected; ``start`` is when it matters."""

    change: Change
    reason: str
    start: datetime
    is_held: bool = False
    """For a person to look at: nothing is queued."""


def find_differences(
    mailbox: str,
    events: Sequence[Event],
    bookings: Sequence[Booking],
    window: Span,
    now: datetime,
    seen: frozenset[str],
) -> list[Difference]:
    """Say which events are to be processed, the most imminent first; nothing for a pair in step.

    *bookings* are the active ones of the mailbox's user within *window*, *events* all with our extension that the list
    of the mailbox shows. What is not in the list may have been deleted; but the 404 that processing would find is also
    the answer for an id of another mailbox, as a reassigned booking holds it for a while, and for an outdated id. So
    only an event that was *seen* in this mailbox's list before is queued, and none if most of them are missing at once,
    as after a mailbox was restored and all its ids are new. Source: Graph, "Obtain immutable identifiers".
    """
    by_booking = {booking.id: booking for booking in bookings}
    listed = {event.id: event for event in events}
    claimed = {event.booking_id for event in events}
    found = []
    for event in events:
        booking = by_booking.get(event.booking_id or "")
        change = Change(mailbox, event.id)
        if booking is None:
            if event.booking_id and event.span.end >= window.start and event.span.start <= window.end:
                found.append(Difference(change, "its booking is not among those of its time", event.span.start))
            continue
        action = decide(change, event, booking, listed.get(booking.event_id or ""), now)
        if not isinstance(action, Ignore | Hold):
            found.append(Difference(change, _SUSPICIONS[type(action)], booking.span.start))
    linked = [booking for booking in bookings if is_event_id(booking.event_id or "")]
    absent = []
    for booking in linked:
        event_id = booking.event_id or ""
        # What a listed event claims is that one's affair: the id may be an older form of its own, and stale.
        if event_id in listed or booking.id in claimed:
            continue
        change = Change(mailbox, event_id, deleted=True)
        if not isinstance(decide(change, None, booking, None, now), Ignore):
            absent.append(Difference(change, "its event is not in the list", booking.span.start))
    too_many = len(absent) >= MANY and len(absent) > len(linked) / 2
    for difference in absent:
        if too_many:
            reason = f"its event is not in the list, nor are {len(absent) - 1} of {len(linked)} others"
            found.append(replace(difference, reason=reason, is_held=True))
        elif mark_of(difference.change.event_id) not in seen:
            reason = "its event is not in the list, and never was seen there"
            found.append(replace(difference, reason=reason, is_held=True))
        else:
            found.append(difference)
    return sorted(found, key=lambda difference: abs(difference.start - now))


def see(events: Sequence[Event], bookings: Sequence[Booking], seen: frozenset[str]) -> frozenset[str]:
    """The marks to remember: of the events in the list that are linked, and of linked ones that were seen before."""
    listed = {event.id: event.booking_id for event in events}
    linked = {booking.event_id: booking.id for booking in bookings if booking.event_id}
    return frozenset(
        mark
        for event_id, booking_id in linked.items()
        if (mark := mark_of(event_id)) in seen or listed.get(event_id) == booking_id
    )
