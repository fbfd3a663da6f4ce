"""Lists and entries → entries: pairs that a sweep has found in step, and holds that have settled themselves. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sync.messages.changes import Change
from sync.model import Booking, Event
from sync.pairs.actions import Ignore
from sync.pairs.entry import GONE, Entry
from sync.pairs.leftovers import is_left_over
from sync.pairs.pair import Pair
from sync.pairs.reasons import HoldKind
from sync.pairs.remembering import agree
from sync.sweep.known import Known, linked_of, ruled


def agreements(known: Known) -> list[Entry]:
    """Return entries for the ledger to store: both sides of these pairs are in step."""
    by_id = {booking.id: booking for booking in known.bookings if booking.mailbox == known.mailbox}
    found = []
    for event in known.events:
        booking = by_id.get(event.booking_id or "")
        learned = None if booking is None else agree(known.entry(event.id), event, booking, known.at)
        if learned is not None:
            found.append(learned)
    return found


def settled(known: Known) -> list[Entry]:
    """The entries that need not be held any more."""
    by_id = {booking.id: booking for booking in known.bookings}
    listed = {event.id: event for event in known.events}
    linked = linked_of(known.mailbox, [booking for booking in known.bookings if booking.is_open])
    held = [entry for entry in known.entries.values() if entry.held is not None]
    return [
        replace(entry, held=None)
        for entry in held
        if entry.booking_id in by_id
        and _is_over(entry, by_id[entry.booking_id], listed, linked.get(entry.event_id, []), known.at)
    ]


def _is_over(
    entry: Entry, booking: Booking, listed: Mapping[str, Event], holders: Sequence[Booking], now: datetime
) -> bool:
    """Whether a held pair has settled itself.

    The event is gone, and the booking has another one, or none though nothing was left out. Or it is there, and the
    booking became another mailbox's, has another event that is there, or is one about which nothing is to be done.
    """
    if booking.mailbox != entry.mailbox:
        return True
    is_linked = booking.event_id == entry.event_id
    if entry.held is not None and entry.held.kind is HoldKind.SHARED:
        return entry.held.detail not in {each.id for each in holders}
    change = Change(entry.mailbox, entry.event_id)
    if entry.held is not None and entry.held.version == GONE:
        return not is_linked and not is_left_over(Pair(change, entry, None, booking), now)
    event = listed.get(entry.event_id)
    if event is None:
        return is_linked and not booking.is_open
    pair = Pair(change, entry, event, booking, listed.get(booking.event_id or ""))
    return isinstance(ruled(pair, now), Ignore)
