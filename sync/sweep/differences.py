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

from sync.ids import is_event_id
from sync.messages.changes import Change, Evidence
from sync.model import Booking, Event, Span, Unreadable
from sync.pairs.actions import Action, CancelBooking, Hold, Ignore, LinkBooking, MoveBooking, UnlinkBooking
from sync.pairs.agreement import agreement_in
from sync.pairs.decision import choose_linked, decide
from sync.pairs.entry import GONE, Entry, Kind
from sync.pairs.observing import is_left_unlinked
from sync.pairs.overrides import override
from sync.pairs.pair import Pair
from sync.pairs.reasons import HoldKind
from sync.pairs.remembering import agree

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


@dataclass(frozen=True)
class Known:
    """One mailbox, as its lists show it and as the ledger remembers it."""

    mailbox: str
    events: Sequence[Event]
    """The events with our extension that the mailbox's lists show."""
    bookings: Sequence[Booking]
    """The active ones of its user, and those that *events* claim."""
    entries: Mapping[str, Entry]
    """By the event's id."""
    at: datetime
    """When they were listed."""
    after_gap: bool = False
    """Whether notifications of the mailbox may have been lost."""

    def entry(self, event_id: str) -> Entry:
        """The entry of the event, a new one if nothing is remembered of it."""
        return self.entries.get(event_id) or Entry(self.mailbox, event_id)


def unlisted(events: Sequence[Event], bookings: Sequence[Booking], window: Span) -> list[str]:
    """The ids of the bookings that *events* of *window* claim, and that are not among *bookings*."""
    near = [event for event in events if event.span.end >= window.start and event.span.start <= window.end]
    claimed = {event.booking_id for event in near if event.booking_id is not None}
    return sorted(claimed.difference(booking.id for booking in bookings))


def missing(mailbox: str, events: Sequence[Event | Unreadable], bookings: Sequence[Booking]) -> frozenset[str]:
    """The ids of the events that *bookings* of the mailbox's user are linked to, and that are not among *events*."""
    return frozenset(_linked(mailbox, bookings)).difference(event.id for event in events)


def find_differences(known: Known) -> list[Difference]:
    """Say which events are to be processed, the most imminent first; nothing for a pair in step.

    A pair that ``decide`` would leave alone is left alone here: its booking is of another mailbox, inactive, not there,
    or outside the window that was listed. So is a pair that the ledger holds already.
    """
    found, settled = _of_events(known)
    found += _of_absent(known, settled)
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
        action = _ruled(pair, known.at)
        if isinstance(action, Ignore):
            continue
        if not _is_held(action, pair):
            found.append(Difference(pair.change, _suspicion(action), booking.span.start, booking=booking))
        if not _is_for_a_person(action):
            settled.add(booking.id)
    return found, settled


def _is_for_a_person(action: Action) -> bool:
    return isinstance(action, Hold) and not action.is_waiting


def _ruled(pair: Pair, now: datetime) -> Action:
    return override(decide(pair, now, agreement_in(pair.entry, pair.booking)), pair, now)


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
    linked = _linked(known.mailbox, known.bookings)
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
    action = _ruled(pair, now)
    is_held = _is_held(action, pair) and not isinstance(action, UnlinkBooking)
    return isinstance(action, Ignore) or is_held


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
    held = [entry for entry in known.entries.values() if entry.held is not None]
    return [
        replace(entry, held=None)
        for entry in held
        if entry.booking_id in by_id and _is_over(entry, by_id[entry.booking_id], listed, known.at)
    ]


def _is_over(entry: Entry, booking: Booking, listed: Mapping[str, Event], now: datetime) -> bool:
    """Whether a held pair has settled itself.

    The event is gone, and the booking has another one, or none though nothing was left out. Or it is there, and the
    booking became another mailbox's, has another event that is there, or is one about which nothing is to be done.
    """
    if booking.mailbox != entry.mailbox:
        return True
    is_linked = booking.event_id == entry.event_id
    change = Change(entry.mailbox, entry.event_id)
    if entry.held is not None and entry.held.version == GONE:
        return not is_linked and not is_left_unlinked(Pair(change, entry, None, booking), now)
    event = listed.get(entry.event_id)
    if event is None:
        return is_linked and not booking.is_open
    pair = Pair(change, entry, event, booking, listed.get(booking.event_id or ""))
    return isinstance(_ruled(pair, now), Ignore)


def _linked(mailbox: str, bookings: Sequence[Booking]) -> dict[str, list[Booking]]:
    """The bookings of the mailbox's user by the id of the event that they are linked to."""
    found: dict[str, list[Booking]] = {}
    for booking in bookings:
        if booking.mailbox == mailbox and booking.event_id is not None and is_event_id(booking.event_id):
            found.setdefault(booking.event_id, []).append(booking)
    return found
