"""(events, bookings, entries) → differences: which events of a mailbox a sweep has processed. Pure: no IO, no clock.

A list only hints. Each difference goes the way of a notification: it is looked at again, decided and written there. A
rule about one pair belongs into ``pairs/``, not here.

No list can tell of a booking that was never linked, and whose event was made and deleted while no notification came
through. It looks like any booking that never had an event, so it stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sync.messages.changes import Change, Evidence
from sync.model import Booking, Event, Span, Unreadable
from sync.pairs.actions import Action, CancelBooking, Hold, Ignore, LinkBooking, MoveBooking, UnlinkBooking
from sync.pairs.decision import choose_linked
from sync.pairs.entry import GONE, Kind
from sync.pairs.holding import hold_shared
from sync.pairs.overrides import override
from sync.pairs.pair import Pair
from sync.pairs.reasons import HoldKind
from sync.sweep.known import Known, linked_of, ruled

MANY = 3
"""Missing events that are not believed to have been deleted, if they are more than half of all that are linked.

Too small, and two deletions in a small calendar wait for a person; too large, and a restored mailbox, all of whose ids
are new, has its bookings canceled.
"""

_SUSPICIONS: dict[type[Action], str] = {
    LinkBooking: "its booking is not linked to it",
    MoveBooking: "its booking has other times",
    CancelBooking: "its organizer cancelled it",
    UnlinkBooking: "its organizer cancelled it, after its booking was closed",
    Hold: "it is not for a program to settle",
}


@dataclass(frozen=True)
class Difference:
    """A change to be processed, and why; ``start`` is when it matters."""

    change: Change
    suspicion: str
    start: datetime
    hold: Hold | None = None
    """Set where a person is to look at it: nothing is queued then."""
    booking: Booking | None = None

    @property
    def is_held(self) -> bool:
        """Whether nothing is queued."""
        return self.hold is not None

    @property
    def reason(self) -> str:
        """Why the pair is held, or suspected to be out of step."""
        return self.hold.reason if self.hold is not None else self.suspicion


def unlisted(events: Sequence[Event], bookings: Sequence[Booking], window: Span) -> list[str]:
    """The ids of the bookings that *events* of *window* claim, and that are not among *bookings*."""
    near = [event for event in events if event.span.end >= window.start and event.span.start <= window.end]
    claimed = {event.booking_id for event in near if event.booking_id is not None}
    return sorted(claimed.difference(booking.id for booking in bookings))


def missing(mailbox: str, events: Sequence[Event | Unreadable], bookings: Sequence[Booking]) -> frozenset[str]:
    """The ids of the events that *bookings* of the mailbox's user are linked to, and that are not among *events*."""
    return frozenset(linked_of(mailbox, bookings)).difference(event.id for event in events)


def find_differences(known: Known) -> list[Difference]:
    """Say which events are to be processed, the most imminent first; nothing for a pair in step.

    A pair that ``decide`` would leave alone is left alone here: its booking is of another mailbox, inactive, not there,
    or outside the window that was listed. So is a pair that the ledger holds already.
    """
    found, settled = _of_events(known)
    found += _of_absent(known, settled)
    found += _of_leftovers(known)
    found += _of_shared(known)
    return sorted(found, key=lambda difference: abs(difference.start - known.at))


def _of_events(known: Known) -> tuple[list[Difference], set[str]]:
    """The differences of the events that are listed, and the ids of the bookings whose side these settle."""
    by_id = {booking.id: booking for booking in known.bookings}
    listed = {event.id: event for event in known.events}
    found, settled = [], set()
    for event in known.events:
        booking = by_id.get(event.booking_id or "")
        if booking is None:
            continue
        rival = listed.get(booking.event_id or "")
        pair = Pair(Change(known.mailbox, event.id), known.entry(event.id), event, booking, rival)
        action = ruled(pair, known.at)
        if isinstance(action, Ignore):
            continue
        if not _is_held(action, pair):
            found.append(Difference(pair.change, _suspicion(action), booking.span.start, booking=booking))
        if not _is_for_a_person(action):
            settled.add(booking.id)
    return found, settled


def _is_for_a_person(action: Action) -> bool:
    return isinstance(action, Hold) and not action.is_waiting


def _suspicion(action: Action) -> str:
    if isinstance(action, Hold) and action.is_waiting:
        return "its booking was moved, and it was not"
    return _SUSPICIONS[type(action)]


def _is_held(action: Action, pair: Pair) -> bool:
    """Whether the ledger holds just these two states, so that nothing new would come of another look.

    A pair that waits for Outlook is looked at as soon as there is something to do; a pair that waits for a person is
    not. A pair that a person has released is looked at until it is done: the message that was queued for it may be
    lost.
    """
    held, span = pair.entry.held, pair.booking.span if pair.booking is not None else None
    if held is None or (held.version, held.booking_span) != (pair.version, span):
        return False
    if pair.entry.released == pair.version:
        return False
    return not held.is_waiting or isinstance(action, Hold)


def _of_absent(known: Known, settled: set[str]) -> list[Difference]:
    """The differences of events that bookings are linked to, and that no list shows.

    If most of them are missing at once, none is believed to be deleted: a mailbox that was restored has new ids.
    """
    linked = linked_of(known.mailbox, known.bookings)
    evidence = Evidence.MISSED_IN_GAP if known.after_gap else Evidence.MISSED
    absent = [
        each
        for event_id, holders in _unlisted_holders(known, settled, linked)
        for each in _absent(Change(known.mailbox, event_id, evidence), holders, known)
    ]
    count = sum(not each.is_held for each in absent)
    if count < MANY or count <= len(linked) / 2:
        return absent
    hold = Hold(HoldKind.MANY_MISSED, detail=f"{count - 1} of {len(linked)}")
    return [each if each.is_held else replace(each, hold=hold) for each in absent]


def _unlisted_holders(
    known: Known, settled: set[str], linked: Mapping[str, Sequence[Booking]]
) -> Iterator[tuple[str, Sequence[Booking]]]:
    """Yield the ids of *linked* events that no list shows, with their bookings that are not *settled*.

    An event that was never read is left out if another listed event claims its booking: the two may be one event, by
    another form of its id.
    """
    listed = {event.id for event in known.events}
    claimed = {event.booking_id for event in known.events}
    for event_id, holders in linked.items():
        unsettled = [*filter(lambda booking: booking.id not in settled, holders)]
        if event_id in listed or not unsettled:
            continue
        if known.entry(event_id).was_read or claimed.isdisjoint(booking.id for booking in unsettled):
            yield event_id, unsettled


def _absent(change: Change, bookings: Sequence[Booking], known: Known) -> list[Difference]:
    """At most one difference: the event that *bookings* are linked to is in no list.

    It may have been deleted. But the 404 that processing would find is also the answer for an id of another mailbox, as
    a reassigned booking holds it for a while, and for an outdated id. So an event is queued only if it was read in this
    mailbox once, and if its deletion was not judged before, as the booking may have been another person's then.
    Source: Graph, "Obtain immutable identifiers".
    """
    entry = known.entry(change.event_id)
    booking, holders = choose_linked(change, bookings)
    queued = Difference(change, "its event is not in the list", bookings[0].span.start, booking=bookings[0])
    if holders > 1:
        is_discarded = entry.discarded == GONE
        return [] if is_discarded else [replace(queued, hold=Hold(HoldKind.AMBIGUOUS, detail=str(holders)))]
    if _is_left_alone(Pair(change, entry, None, booking), known.at):
        return []
    if entry.was_read or entry.released == GONE or (entry.held is not None and not entry.held.is_missed):
        return [queued]
    kind = HoldKind.DELETED_BEFORE if entry.kind is Kind.GONE else HoldKind.MISSED
    return [replace(queued, hold=Hold(kind))]


def _is_left_alone(pair: Pair, now: datetime) -> bool:
    """Whether nothing is to be done about a pair whose event is absent, or it is held already.

    A booking that was closed while it was held is not left alone: its event's id is to be cleared.
    """
    action = ruled(pair, now)
    is_held = _is_held(action, pair) and not isinstance(action, UnlinkBooking)
    return isinstance(action, Ignore) or is_held


def _of_leftovers(known: Known) -> Iterator[Difference]:
    """Yield the bookings that are open without an event, though the ledger knows of one that is gone."""
    by_id = {booking.id: booking for booking in known.bookings}
    claimed = {event.booking_id for event in known.events}
    for entry in known.entries.values():
        booking = by_id.get(entry.booking_id or "")
        is_gone = entry.kind is Kind.GONE or GONE in entry.versions
        if booking is None or booking.id in claimed or not is_gone:
            continue
        pair = Pair(Change(known.mailbox, entry.event_id, Evidence.MISSED), entry, None, booking)
        action = override(Ignore(""), pair, known.at)
        if isinstance(action, CancelBooking):  # a person released it, and its message may be lost
            yield Difference(pair.change, "a person released it", booking.span.start, booking=booking)
        elif isinstance(action, Hold) and not _is_held(action, pair):
            yield Difference(pair.change, action.reason, booking.span.start, action, booking)


def _of_shared(known: Known) -> Iterator[Difference]:
    """Yield the open bookings that hold the id of a listed event which names another booking.

    Example: a dispatcher copies a booking in Dynamics, and the copy carries the event's id along.
    """
    listed = {event.id: event for event in known.events if event.booking_id is not None}
    for event_id, holders in linked_of(known.mailbox, known.bookings).items():
        event = listed.get(event_id)
        others = [booking for booking in holders if event and booking.id != event.booking_id and booking.is_open]
        for booking in [each for each in others if each.span.end > known.at][:1]:
            hold = Hold(HoldKind.SHARED, booking.id, detail=booking.id)
            if event is not None and hold_shared(known.entry(event_id), event, hold, known.at) is not None:
                yield Difference(Change(known.mailbox, event_id), hold.reason, booking.span.start, hold, booking)
