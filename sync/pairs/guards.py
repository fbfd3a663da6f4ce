"""(pair, now) → action, or none: what is settled about a pair before it matters which side moved. Pure: no IO.

Each guard's docstring is a row of the decision table in docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sync.model import EventType
from sync.pairs.actions import Action, Hold, Ignore, LookAgain
from sync.pairs.following import follow, unlink
from sync.pairs.pair import Pair
from sync.pairs.reasons import HoldKind


def _born_in_outlook(pair: Pair, now: datetime) -> Action | None:
    """The event names no booking: no extension of ours, or one without a booking's id; and none is linked | nothing"""
    event = pair.event
    if event is None or event.booking_id is not None or pair.is_linked:
        return None
    if not event.has_extension:
        return Ignore("the event was born in Outlook")
    return Ignore("the event's extension holds no booking id")


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


def _lost_extension(pair: Pair, now: datetime) -> Action | None:
    """The event names no booking, and one is linked to it | held, until the booking is closed or over"""
    event, booking = pair.event, pair.booking
    if event is None or booking is None or event.booking_id is not None:
        return None
    if not booking.is_open or booking.span.end <= now:
        return Ignore("the event names no booking, and the one that is linked to it takes no changes any more")
    return Hold(HoldKind.LOST_EXTENSION, booking.id, follow(pair, booking))


def _copy(pair: Pair, now: datetime) -> Action | None:
    """The event is a copy: its booking is linked to another event that stands and names it too | nothing"""
    # This comes before a cancellation: if the organizer cancels the copy, the original's booking stays.
    is_copy = pair.has_rival and pair.rival is not None and pair.rival.booking_id == pair.event_names
    return Ignore("the event is a copy, its booking is linked to another event") if is_copy else None


def _crossed(pair: Pair, now: datetime) -> Action | None:
    """The booking is linked to another event that stands and does not name it | held, until the booking is closed"""
    booking = pair.booking
    if booking is None or not pair.has_rival:
        return None
    if not booking.is_open:
        return Ignore("the booking is linked to another event, and takes no changes any more")
    return Hold(HoldKind.NAMES_ANOTHER, booking.id, follow(pair, booking))


def _former_unread(pair: Pair, now: datetime) -> Action | None:
    """The booking is linked to another event, and Graph refuses to say whether that one stands | held"""
    booking = pair.booking
    if booking is None or not pair.rival_trouble:
        return None
    return Hold(HoldKind.FORMER_UNREAD, booking.id, follow(pair, booking), pair.rival_trouble)


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
        return unlink(pair, booking, "the booking's work has begun")
    return unlink(pair, booking, "the booking is over") if booking.span.end <= now else None


def _in_step(pair: Pair, now: datetime) -> Action | None:
    """The event is there and linked, and the open booking has its times | nothing"""
    if pair.has_ended or pair.event is None or pair.booking is None or not pair.is_linked:
        return None
    is_in_step = pair.booking.is_open and pair.event.span == pair.booking.span
    return Ignore("the booking is in step") if is_in_step else None


def _over(pair: Pair, now: datetime) -> Action | None:
    """The event is there and over, the booking closed | nothing"""
    event, booking = pair.event, pair.booking
    if event is None or booking is None or pair.has_ended or booking.is_open:
        return None
    return Ignore("the booking is closed, and its event over") if event.span.end <= now else None


def _odd_event(pair: Pair, now: datetime) -> Action | None:
    """The event ends before it starts, is of a series, or lasts all day; the booking is open | held"""
    event, booking = pair.event, pair.booking
    if event is None or booking is None or pair.has_ended or not booking.is_open:
        return None
    if not event.span.is_positive:
        return Hold(HoldKind.BACKWARDS, booking.id)
    if event.type is not EventType.SINGLE:
        return Hold(HoldKind.SERIES, booking.id, follow(pair, booking), event.type.value)
    return Hold(HoldKind.ALL_DAY, booking.id, follow(pair, booking)) if event.is_all_day else None


Guard = Callable[[Pair, datetime], Action | None]

GUARDS: tuple[Guard, ...] = (
    _born_in_outlook,
    _ambiguous,
    _no_booking,
    _another_mailbox,
    _lost_extension,
    _copy,
    _crossed,
    _former_unread,
    _inactive,
    _without_evidence,
    _done_work,
    _in_step,
    _over,
    _odd_event,
)
"""The first one that has an answer decides. Each docstring is a row of the decision table: condition | action."""
