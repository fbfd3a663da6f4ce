"""(events, bookings) → differences: which events of a mailbox a sweep has processed, without IO.

A list only hints. Each difference goes the way of a notification: it is looked at again, decided and written there.

What no list can tell: a booking that was never linked, and whose event was made and deleted while no notification came
through. It looks like any booking that never had an event, so it stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sync.ids import is_event_id
from sync.messages.changes import Change, Evidence
from sync.model import Booking, Event, Span, Unreadable
from sync.pairs.actions import Action, CancelBooking, Hold, Ignore, Leave, LinkBooking, MoveBooking, UnlinkBooking
from sync.pairs.agreement import agreed_spans
from sync.pairs.decision import choose_linked, decide
from sync.pairs.entry import GONE, Entry, Kind
from sync.pairs.overrides import left_unlinked, override
from sync.pairs.pair import Look
from sync.pairs.remembering import agree

MANY = 3
"""So many missing events, if they are more than half of all, are not believed to have been deleted."""

_SUSPICIONS: dict[type[Action], str] = {
    LinkBooking: "its booking is not linked to it",
    MoveBooking: "its booking has other times",
    CancelBooking: "its organizer cancelled it",
    UnlinkBooking: "its organizer cancelled it, after its booking was closed",
    Leave: "its booking was moved, and it was not",
    Hold: "it is not for a program to settle",
}


@dataclass(frozen=True)
class Difference:
    """A change to be processed, and what made it be suspected; ``start`` is when it matters."""

    change: Change
    reason: str
    start: datetime
    is_held: bool = False
    """For a person to look at: nothing is queued."""
    booking: Booking | None = None


def unlisted(events: Sequence[Event], bookings: Sequence[Booking], window: Span) -> list[str]:
    """The ids of the bookings that *events* of *window* claim, and that are not among *bookings*."""
    near = [event for event in events if event.span.end >= window.start and event.span.start <= window.end]
    claimed = {event.booking_id for event in near if event.booking_id is not None}
    return sorted(claimed.difference(booking.id for booking in bookings))


def missing(mailbox: str, events: Sequence[Event | Unreadable], bookings: Sequence[Booking]) -> frozenset[str]:
    """The ids of the events that *bookings* of the mailbox's user are linked to, and that are not among *events*."""
    return frozenset(_linked(mailbox, bookings)).difference(event.id for event in events)


def find_differences(
    mailbox: str,
    events: Sequence[Event],
    bookings: Sequence[Booking],
    now: datetime,
    entries: Mapping[str, Entry],
) -> list[Difference]:
    """Say which events are to be processed, the most imminent first; nothing for a pair in step.

    *events* are those with our extension that the mailbox's lists show, *bookings* the active ones of its user and
    those that *events* claim, *entries* what the ledger knows of events, by their ids. What ``decide`` would leave
    alone is left alone here: a booking of somebody else, an inactive one, one that does not exist, or is too far away
    to be of interest; and what the ledger holds already.
    """
    by_id = {booking.id: booking for booking in bookings}
    listed = {event.id: event for event in events}
    found, settled = [], set()
    for event in events:
        booking = by_id.get(event.booking_id or "")
        if booking is None:
            continue
        change, entry = Change(mailbox, event.id), entries.get(event.id) or Entry(mailbox, event.id)
        rival = listed.get(booking.event_id or "")
        action = decide(change, event, booking, rival, now, agreed_spans(entry, booking))
        action = override(action, Look(event, booking), entry)
        if not (isinstance(action, Ignore) or _is_held(action, entry, event.etag, booking)):
            found.append(Difference(change, _SUSPICIONS[type(action)], booking.span.start, booking=booking))
        if not isinstance(action, Ignore | Hold):
            settled.add(booking.id)

    linked = _linked(mailbox, list(by_id.values()))
    claimed = {event.booking_id for event in events}
    absent = []
    for event_id, holders in linked.items():
        unsettled = [booking for booking in holders if booking.id not in settled]
        entry = entries.get(event_id) or Entry(mailbox, event_id)
        # An event that is held may claim the booking, too; an id that was never seen may be an older form of its own.
        is_claimed = not claimed.isdisjoint(each.id for each in unsettled)
        if event_id not in listed and unsettled and (entry.was_read or not is_claimed):
            absent += _absent(Change(mailbox, event_id, evidence=Evidence.MISSED), unsettled, entry, now)
    count = sum(not each.is_held for each in absent)
    if count >= MANY and count > len(linked) / 2:
        reason = f"its event is not in the list, nor are {count - 1} of {len(linked)} others"
        absent = [each if each.is_held else replace(each, reason=reason, is_held=True) for each in absent]
    return sorted(found + absent, key=lambda difference: abs(difference.start - now))


def _is_held(action: Action, entry: Entry, version: str, booking: Booking | None) -> bool:
    """Whether the ledger holds just these two states, so that nothing new would come of another look.

    What waits for Outlook is looked at as soon as there is something to do; what a person is to say, not before. What a
    person has released is looked at until it is done, as the message that was queued for it may be lost.
    """
    held, span = entry.held, booking.span if booking is not None else None
    if held is None or (held.version, held.booking_span) != (version, span) or entry.released == version:
        return False
    return not held.is_waiting or isinstance(action, Hold | Leave)


def _absent(change: Change, bookings: Sequence[Booking], entry: Entry, now: datetime) -> list[Difference]:
    """At most one difference: the event that *bookings* are linked to is in no list.

    It may have been deleted; but the 404 that processing would find is also the answer for an id of another mailbox, as
    a reassigned booking holds it for a while, and for an outdated id. So only an event that was read in this mailbox
    once is queued, and whose deletion was not judged before, as the booking may have been somebody else's then; and
    none if most of them are missing at once, as after a mailbox was restored and all its ids are new.
    Source: Graph, "Obtain immutable identifiers".
    """
    booking, start = choose_linked(change, bookings), bookings[0].span.start
    if isinstance(booking, Hold):
        is_discarded = entry.discarded == GONE
        return [] if is_discarded else [Difference(change, booking.reason, start, True, bookings[0])]
    action = decide(change, None, booking, None, now, agreed_spans(entry, booking))
    action = override(action, Look(None, booking), entry)
    is_lost = entry.kind is Kind.NOT_OURS and entry.expires is not None and entry.expires > now
    # A booking that was closed meanwhile has nothing left to hold: its event's id is to be cleared.
    is_held = _is_held(action, entry, GONE, booking) and not isinstance(action, UnlinkBooking)
    if isinstance(action, Ignore) or is_lost or is_held:
        return []
    if entry.was_read or entry.released == GONE or (entry.held is not None and not entry.held.is_missed):
        return [Difference(change, "its event is not in the list", start, booking=bookings[0])]
    if entry.kind is Kind.GONE:
        reason = "its event was deleted at a time when the booking was not to be canceled for that"
    else:
        reason = "its event is not in the list, and never was seen there"
    return [Difference(change, reason, start, True, bookings[0])]


def agreements(
    events: Sequence[Event],
    bookings: Sequence[Booking],
    entries: Mapping[str, Entry],
    mailbox: str,
    now: datetime,
) -> list[Entry]:
    """What the ledger is to learn of pairs that are in step."""
    by_id = {booking.id: booking for booking in bookings if booking.mailbox == mailbox}
    found = []
    for event in events:
        booking = by_id.get(event.booking_id or "")
        known = entries.get(event.id) or Entry(mailbox, event.id)
        learned = None if booking is None else agree(known, event, booking, now)
        if learned is not None:
            found.append(learned)
    return found


def settled(
    events: Sequence[Event], bookings: Sequence[Booking], entries: Mapping[str, Entry], now: datetime
) -> list[Entry]:
    """*entries* that need not be held any more.

    The event is gone, and the booking has another one, or none though nothing was left out; or it is there, and the
    booking was closed, became somebody else's or has another one that is there, so that it takes no times any more.
    """
    by_id = {booking.id: booking for booking in bookings}
    listed = {event.id for event in events}
    found = []
    for entry in entries.values():
        booking = by_id.get(entry.booking_id or "")
        if entry.held is None or booking is None:
            continue
        is_linked = booking.event_id == entry.event_id
        if entry.held.version == GONE:
            is_over = not is_linked and left_unlinked(entry, booking, now) is None
        else:
            takes_no_times = not booking.is_open if is_linked else booking.event_id in listed
            is_over = booking.mailbox != entry.mailbox or takes_no_times
        if is_over:
            found.append(replace(entry, held=None))
    return found


def _linked(mailbox: str, bookings: Sequence[Booking]) -> dict[str, list[Booking]]:
    """The bookings of the mailbox's user by the id of the event that they are linked to."""
    found: dict[str, list[Booking]] = {}
    for booking in bookings:
        if booking.mailbox == mailbox and booking.event_id is not None and is_event_id(booking.event_id):
            found.setdefault(booking.event_id, []).append(booking)
    return found
