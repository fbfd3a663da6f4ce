"""(pair, agreement) → action: the rules that keep an event and its booking in step. Pure: no IO, no clock.

Guards come first (``guards.py``), a flat list with their reasons. Then one table, ``VERDICTS``, says for both
directions which side follows. The service that notified the app is no input: a late, repeated or reordered notification
finds the same pair and gets the same answer. The clocks of two services are never compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import Enum

from sync.ids import is_event_id
from sync.messages.changes import Change
from sync.model import Booking, ConflictPolicy, Event
from sync.pairs.actions import Action, Hold, Ignore
from sync.pairs.agreement import NEVER, Agreement
from sync.pairs.following import follow, unlink
from sync.pairs.guards import GUARDS
from sync.pairs.pair import Pair
from sync.pairs.reasons import HoldKind


class Side(Enum):
    """The state of one side, compared with the last agreement."""

    SAME = "same"
    MOVED = "moved"
    ENDED = "ended"
    """The event was deleted or cancelled; the booking was canceled or deactivated."""


class Verdict(Enum):
    """The side that is to follow the other."""

    IN_STEP = "in step"
    BOOKING_FOLLOWS = "the booking follows"
    EVENT_FOLLOWS = "the event follows"
    CONFLICT = "conflict"


VERDICTS: dict[tuple[Side, Side], Verdict] = {
    # the event, the booking
    (Side.SAME, Side.SAME): Verdict.IN_STEP,
    (Side.MOVED, Side.SAME): Verdict.BOOKING_FOLLOWS,
    (Side.ENDED, Side.SAME): Verdict.BOOKING_FOLLOWS,
    (Side.SAME, Side.MOVED): Verdict.EVENT_FOLLOWS,
    (Side.SAME, Side.ENDED): Verdict.EVENT_FOLLOWS,
    (Side.MOVED, Side.MOVED): Verdict.CONFLICT,
    (Side.ENDED, Side.MOVED): Verdict.CONFLICT,
    (Side.MOVED, Side.ENDED): Verdict.EVENT_FOLLOWS,
    (Side.ENDED, Side.ENDED): Verdict.IN_STEP,
}
"""A canceled booking is not revived by an event that moved; a person may say otherwise."""


def decide(
    pair: Pair, now: datetime, agreement: Agreement = NEVER, policy: ConflictPolicy = ConflictPolicy.DATAVERSE
) -> Action:
    """Say what brings *pair* in step, given the *agreement* that both sides last had.

    Example: both agreed on 9:00. The event is at 12:00, the booking at 9:00: the booking follows. If the booking is at
    15:00 by then, both moved: *policy* decides.
    """
    for guard in GUARDS:
        action = guard(pair, now)
        if action is not None:
            return action
    assert pair.booking is not None  # noqa: S101  the guards have seen to that
    verdict = VERDICTS[sides(pair, agreement)]
    if pair.booking.has_begun and pair.booking.is_active and not pair.booking.is_canceled:
        return _begun(verdict, pair.booking, agreement)
    return _ACTIONS[verdict](pair, pair.booking, agreement, policy)


def sides(pair: Pair, agreement: Agreement) -> tuple[Side, Side]:
    """The states of the event and of the booking, compared with their last *agreement*."""
    event, booking = pair.event, pair.booking
    assert booking is not None  # noqa: S101  the guards have seen to that
    if event is None or event.is_cancelled:
        # An event that is cancelled at the booking's times had followed the booking, or the booking had followed it.
        has_followed = event is not None and event.span == booking.span
        return Side.ENDED, _side_of(booking, agreement.booking_moved(booking.span) and not has_followed)
    moved = agreement.moved(event.span, booking.span)
    return Side.MOVED if moved.event else Side.SAME, _side_of(booking, moved.booking)


def _side_of(booking: Booking, is_moved: bool) -> Side:
    if booking.is_canceled or not booking.is_active:
        return Side.ENDED
    return Side.MOVED if is_moved else Side.SAME


def rival_id(change: Change, event: Event | None, booking: Booking | None) -> str | None:
    """The id of the other event that has to be read before deciding, if there is one.

    The booking's id may be an older form of this very event's id, as adopted deployments hold plain ids. Reading it
    with immutable ids asked for tells.
    """
    if event is None or booking is None or booking.event_id in (None, event.id):
        return None
    if booking.mailbox != change.mailbox or event.booking_id != booking.id:
        return None
    # A person may have typed something else into the column.
    return booking.event_id if is_event_id(booking.event_id or "") else None


def choose_linked(change: Change, bookings: Sequence[Booking]) -> tuple[Booking | None, int]:
    """The booking that the event stands for, among *bookings* that hold its id, and how many of them there are.

    Bookings of the change's mailbox come first: a reassigned booking may hold the id for a while.
    """
    ours = [booking for booking in bookings if booking.mailbox == change.mailbox] or list(bookings)
    return (ours[0] if ours else None), len(ours)


def _settle(pair: Pair, booking: Booking, agreement: Agreement, policy: ConflictPolicy) -> Action:
    """Both sides are in step, but perhaps for an id: it is written if both are there, and cleared if both ended."""
    if pair.has_ended:
        return unlink(pair, booking, "the booking is canceled already")
    return follow(pair, booking)


def _booking_follows(pair: Pair, booking: Booking, agreement: Agreement, policy: ConflictPolicy) -> Action:
    return follow(pair, booking)


def _event_follows(pair: Pair, booking: Booking, agreement: Agreement, policy: ConflictPolicy) -> Action:
    """Until the app writes to Outlook, the pair waits for a person or a flow that does."""
    if not booking.is_open:
        return Hold(HoldKind.CLOSED, booking.id)
    return Hold(HoldKind.WAITS_FOR_OUTLOOK, booking.id, follow(pair, booking))


def _conflict(pair: Pair, booking: Booking, agreement: Agreement, policy: ConflictPolicy) -> Action:
    """The policy says whether the event wins, the booking stays, or a person is asked."""
    write = follow(pair, booking)
    if policy is ConflictPolicy.OUTLOOK:
        return write
    kinds = _UNKNOWN if agreement.is_lost else _KNOWN
    hold = Hold(kinds[pair.has_ended], booking.id, write)
    if policy is ConflictPolicy.HOLD:
        return hold
    return Hold(HoldKind.OVERRULED, booking.id, write, hold.reason)


_KNOWN = {False: HoldKind.MOVED_APART, True: HoldKind.MOVED_AND_DELETED}
_UNKNOWN = {False: HoldKind.UNKNOWN_MOVE, True: HoldKind.UNKNOWN_DELETION}
"""By whether the event has ended."""

_ACTIONS = {
    Verdict.IN_STEP: _settle,
    Verdict.BOOKING_FOLLOWS: _booking_follows,
    Verdict.EVENT_FOLLOWS: _event_follows,
    Verdict.CONFLICT: _conflict,
}


def _begun(verdict: Verdict, booking: Booking, agreement: Agreement) -> Action:
    """The event is there, and the booking's work has begun: the booking keeps its times.

    Example: both agreed on 9:00, work began at 9:05, and Field Service sets the booking to that: nothing is to follow.
    The technician drags the event to 12:00: the pair is out of step, and its event is to go back.
    """
    has_moved = agreement.spans and verdict in (Verdict.BOOKING_FOLLOWS, Verdict.CONFLICT)
    return Hold(HoldKind.BEGUN, booking.id) if has_moved else Ignore("the booking takes no changes of time any more")
