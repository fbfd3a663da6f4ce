"""Open bookings that lost their event without being canceled for it, and to which no event is linked. Pure: no IO.

Dynamics shows such a booking like any that never had an event. The ledger's entry of the event tells them apart.
"""

from __future__ import annotations

from datetime import datetime

from sync.pairs.actions import WRITTEN, Action, CancelBooking, Hold, Ignore, Outcome, Stage
from sync.pairs.entry import Entry, Kind
from sync.pairs.pair import Pair
from sync.pairs.reasons import HoldKind


def left_by(entry: Entry) -> HoldKind | None:
    """Why the booking may be open without an event, as the last write to it tells; None if it should not be.

    - Observing kept the app from linking it, and its event is gone.
    - The app cleared the id of its event, as work had begun. Example: the event was deleted at 9:10, during the work
      that a dispatcher had begun by mistake, and at 9:30 the booking is set back to Scheduled.
    - The app canceled it for its event, and a person opened it again.
    """
    decided = (each for each in reversed(entry.history) if each.outcome in WRITTEN and each.stage != Stage.INTENDED)
    last = next(decided, None)
    if last is None:
        return None
    if last.stage is Stage.OBSERVED:
        return HoldKind.UNLINKED
    if entry.kind is not Kind.GONE:
        return None
    return {Outcome.UNLINKED: HoldKind.DELETED_BEFORE, Outcome.CANCELED: HoldKind.REOPENED}.get(last.outcome)


def is_left_over(pair: Pair, now: datetime) -> bool:
    """Whether *pair*'s event is gone, and its booking is open and without an event."""
    booking, entry = pair.booking, pair.entry
    if booking is None or left_by(entry) is None or booking.id != entry.booking_id:
        return False
    is_free = booking.event_id is None and booking.mailbox == entry.mailbox
    return is_free and booking.is_open and booking.span.end > now


def left_over(action: Action, pair: Pair, now: datetime) -> Hold | None:
    """The hold of a booking that is left over; None if *action* is right as it is."""
    if pair.event is not None or not pair.is_hinted or not isinstance(action, Ignore):
        return None
    kind, booking = left_by(pair.entry), pair.booking
    if kind is None or booking is None or not is_left_over(pair, now):
        return None
    return Hold(kind, booking.id, CancelBooking(booking.id, booking.etag, unlink=False))
