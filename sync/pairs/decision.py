"""(pair, agreement) → action: the rules that keep an event and its booking in step. Pure: no IO, no clock.

Guards come first, a flat list with their reasons. Then one table says for both directions which side follows:
``VERDICTS``. The service that notified the app is no input: a late, repeated or reordered notification finds the same
pair and gets the same answer. The clocks of two services are never compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from enum import Enum

from sync.ids import is_event_id
from sync.messages.changes import Change
from sync.model import Booking, ConflictPolicy, Event, EventType
from sync.pairs.actions import Action, CancelBooking, Hold, Ignore, LinkBooking, LookAgain, MoveBooking, UnlinkBooking
from sync.pairs.agreement import NEVER, Agreement
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


# --- guards ---


def _born_in_outlook(pair: Pair, now: datetime) -> Action | None:
    """The event does not carry our extension, or the extension holds no id of a booking | nothing"""
    if pair.event is None:
        return None
    if not pair.event.has_extension:
        return Ignore("the event was born in Outlook")
    return Ignore("the event's extension holds no booking id") if pair.event.booking_id is None else None


def _ambiguous(pair: Pair, now: datetime) -> Action | None:
    """The event is gone, and several bookings of the mailbox hold its id | held"""
    if pair.event is not None or pair.holders < 2:
        return None
    hold = Hold(HoldKind.AMBIGUOUS, detail=str(pair.holders))
    return hold if pair.is_hinted else LookAgain(hold.reason)


def _no_booking(pair: Pair, now: datetime) -> Action | None:
    """The event's booking does not exist; or the event is gone, and no booking is linked to it | nothing"""
    if pair.event is None:
        return None if pair.is_linked else Ignore("no booking is linked to the event")
    return None if pair.booking is not None else Ignore("the event's booking does not exist")


def _another_mailbox(pair: Pair, now: datetime) -> Action | None:
    """The booking belongs to another mailbox | nothing"""
    is_ours = pair.booking is not None and pair.booking.mailbox == pair.change.mailbox
    return None if is_ours else Ignore("the booking belongs to another mailbox")


def _copy(pair: Pair, now: datetime) -> Action | None:
    """The event is a copy: its booking is linked to another event that still stands | nothing"""
    # This comes before a cancellation: if the organizer cancels the copy, the original's booking stays.
    is_copy = pair.event is not None and pair.rival is not None and pair.rival.id != pair.event.id
    return Ignore("the event is a copy, its booking is linked to another event") if is_copy else None


def _former_unread(pair: Pair, now: datetime) -> Action | None:
    """The booking is linked to another event, and Graph refuses to say whether that one stands | held"""
    booking = pair.booking
    if booking is None or not pair.rival_trouble:
        return None
    return Hold(HoldKind.FORMER_UNREAD, booking.id, _follow(pair, booking), pair.rival_trouble)


def _inactive(pair: Pair, now: datetime) -> Action | None:
    """The event is gone or cancelled, the booking inactive | nothing"""
    is_inactive = pair.booking is not None and not pair.booking.is_active
    return Ignore("the booking is inactive") if pair.has_ended and is_inactive else None


def _without_evidence(pair: Pair, now: datetime) -> Action | None:
    """The event is not there, and nothing told of its deletion | look again"""
    if pair.event is not None or pair.is_hinted or pair.booking is None:
        return None
    return LookAgain("the event is not there, and nobody told of its deletion", pair.booking.id)


def _done_work(pair: Pair, now: datetime) -> Action | None:
    """The event is gone or cancelled, the booking's work has begun, or it is over | clear the event's id"""
    booking = pair.booking
    if not pair.has_ended or booking is None or booking.is_canceled:
        return None
    if booking.has_begun:
        return _unlink(pair, booking, "the booking's work has begun")
    return _unlink(pair, booking, "the booking is over") if booking.span.end <= now else None


def _in_step(pair: Pair, now: datetime) -> Action | None:
    """The event is there and linked, and the booking has its times, or is closed | nothing"""
    if pair.has_ended or pair.event is None or pair.booking is None or not pair.is_linked:
        return None
    if not pair.booking.is_open:
        return Ignore("the booking takes no changes of time any more")
    return Ignore("the booking is in step") if pair.event.span == pair.booking.span else None


def _odd_event(pair: Pair, now: datetime) -> Action | None:
    """The event ends before it starts, is of a series, or lasts all day | held"""
    event, booking = pair.event, pair.booking
    if event is None or booking is None or pair.has_ended:
        return None
    if booking.is_open and not event.span.is_positive:
        return Hold(HoldKind.BACKWARDS, booking.id)
    if event.type is not EventType.SINGLE:
        return Hold(HoldKind.SERIES, booking.id, _follow(pair, booking), event.type.value)
    return Hold(HoldKind.ALL_DAY, booking.id, _follow(pair, booking)) if event.is_all_day else None


def _closed(pair: Pair, now: datetime) -> Action | None:
    """The event is there, the booking is closed and not linked to it | link"""
    event, booking = pair.event, pair.booking
    if event is None or booking is None or pair.has_ended or booking.is_open:
        return None
    return LinkBooking(booking.id, booking.etag, event.id)


Guard = Callable[[Pair, datetime], Action | None]

GUARDS: tuple[Guard, ...] = (
    _born_in_outlook,
    _ambiguous,
    _no_booking,
    _another_mailbox,
    _copy,
    _former_unread,
    _inactive,
    _without_evidence,
    _done_work,
    _in_step,
    _odd_event,
    _closed,
)
"""The first one that has an answer decides. Each docstring is a row of the decision table: condition | action."""


# --- what follows from a verdict ---


def _settle(pair: Pair, booking: Booking, agreement: Agreement, policy: ConflictPolicy) -> Action:
    """Both sides are in step, but perhaps for an id: it is written if both are there, and cleared if both ended."""
    if pair.has_ended:
        return _unlink(pair, booking, "the booking is canceled already")
    return _follow(pair, booking)


def _booking_follows(pair: Pair, booking: Booking, agreement: Agreement, policy: ConflictPolicy) -> Action:
    return _follow(pair, booking)


def _event_follows(pair: Pair, booking: Booking, agreement: Agreement, policy: ConflictPolicy) -> Action:
    """Until the app writes to Outlook, the pair waits for a person or a flow that does."""
    return Hold(HoldKind.WAITS_FOR_OUTLOOK, booking.id, _follow(pair, booking))


def _conflict(pair: Pair, booking: Booking, agreement: Agreement, policy: ConflictPolicy) -> Action:
    """The policy says whether the event wins, the booking stays, or a person is asked."""
    write = _follow(pair, booking)
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


def _follow(pair: Pair, booking: Booking) -> LinkBooking | CancelBooking | MoveBooking:
    """The write with which the booking follows its event: the event's times, its id, or its end."""
    event = pair.event
    if event is None or event.is_cancelled:
        return CancelBooking(booking.id, booking.etag, unlink=booking.event_id is not None)
    if not booking.is_open or event.span == booking.span:
        return LinkBooking(booking.id, booking.etag, event.id)
    return MoveBooking(booking.id, booking.etag, event.span, None if pair.is_linked else event.id)


def _unlink(pair: Pair, booking: Booking, reason: str) -> Action:
    if booking.event_id is None:
        return Ignore(reason)
    return UnlinkBooking(booking.id, booking.etag, reason)
