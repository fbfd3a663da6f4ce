"""Reads both sides of a pair, in the order that keeps old states from being written. Nothing is decided here.

Order of reads: the event's state is read after the booking whose etag guards the write that follows from it. In the
other order a slow worker could write an older state of the event over a newer one. Example: a worker reads the event at
12:00 and then sleeps. The technician drags the event to 15:00, and another worker moves the booking there. The first
worker wakes up, reads the booking with its new etag, and writes 12:00.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from sync.errors import (
    AccessDenied,
    InvalidId,
    MailboxUnavailable,
    Malformed,
    Mendable,
    NotOurs,
    Refused,
    Stale,
    Withdrawn,
)
from sync.messages.changes import Change, Evidence
from sync.model import Booking, Event, Unreadable
from sync.pairs.actions import Action, CancelBooking, Hold, MoveBooking, Write
from sync.pairs.agreement import agreement_in
from sync.pairs.decision import choose_linked, rival_id
from sync.pairs.entry import Entry, Kind
from sync.pairs.leftovers import left_by
from sync.pairs.pair import Pair
from sync.pairs.reasons import HoldKind


class Events(Protocol):
    """Outlook's side, as far as a pair needs it."""

    async def with_extension(self, mailbox: str) -> Sequence[Event | Unreadable]:
        """The events of the default calendar that carry our extension.

        Raises: MailboxUnavailable, Transient, Refused.
        """

    async def read(self, mailbox: str, event_id: str) -> Event | None:
        """The event, None if it is not there. Raises: MailboxUnavailable, Withdrawn, InvalidId, Transient, Refused."""

    async def stands(self, mailbox: str, event_id: str, event: Event | None) -> bool:
        """Say whether *event* (None if it cannot be read) stands in one of the mailbox's calendars.

        Raises: Stale if it changed while it was looked for.
        """


class Bookings(Protocol):
    """Dynamics' side, as far as a pair needs it."""

    async def read(self, booking_id: str) -> Booking | None:
        """The booking, None if it does not exist. Raises: Transient, Refused."""

    async def linked_to(self, event_id: str) -> Sequence[Booking]:
        """The bookings that hold exactly *event_id*. Raises: Transient, Refused."""

    async def is_own(self, booking: Booking) -> bool:
        """Whether this app wrote *booking* last. Raises: Transient, Refused."""

    async def write(self, action: Write) -> str:
        """Write *action*; return the row's new etag, empty if the answer does not tell.

        Raises: NotWritten if the service refused it, so that nothing was written; Stale, Transient if the row may have
        been written.
        """


@dataclass
class Looker:
    """Reads pairs. The three methods after ``look`` ask what only some decisions rest on."""

    events: Events
    bookings: Bookings

    async def look(self, change: Change, entry: Entry) -> Pair:
        """Read both sides of the pair that *change* names.

        Raises: Stale if the reads do not fit together, NotOurs if the event is none of ours and cannot be read,
        MailboxUnavailable, Transient, Refused.
        """
        if entry.kind is Kind.GONE:  # a deletion was told of before, and it was so
            change = replace(change, evidence=max(change.evidence, Evidence.MISSED))
        known = None if entry.booking_id is None else await self.bookings.read(entry.booking_id)
        pair = Pair(change, entry, None, known)
        if pair.is_hinted and not pair.is_linked:
            pair = await self._with_linked(pair)
        event = await self._event_now(change, matters=pair.booking is not None)
        if event is None:
            return await self._without_event(pair, known)
        if event.booking_id is None:
            return _by_the_column(pair, event)
        booking, is_newer = pair.booking, pair.booking is not None and pair.booking.id == event.booking_id
        if not is_newer:
            booking = await self.bookings.read(event.booking_id)
        pair = replace(pair, event=event, booking=booking, event_is_newer=is_newer)
        other = rival_id(change, event, booking)
        return pair if other is None else await self._with_rival(pair, event, other)

    async def who_wrote(self, pair: Pair, action: Action) -> Pair:
        """*pair* with the answer whether the app wrote the booking last, if *action* rests on it.

        It does where the ledger has forgotten what a linked pair agreed on. A booking that the app wrote last was in
        step then, and nobody has moved it since; a booking that somebody else wrote last may have been moved. At first
        contact the booking follows its event in any case, but it is canceled only if it stands where the event stood.
        """
        booking = pair.booking
        if booking is None or not isinstance(action, CancelBooking | MoveBooking):
            return pair
        is_first_contact = booking.event_id is None and isinstance(action, MoveBooking)
        if is_first_contact or agreement_in(pair.entry, booking).spans:
            return pair
        return replace(pair, is_own=await self.bookings.is_own(booking))

    async def event_again(self, pair: Pair, action: Action) -> Pair:
        """*pair* with its event read once more, if *action* writes the times of an event read before its booking.

        Raises: Stale if the event is gone by now, or belongs to another booking.
        """
        if pair.event_is_newer or not isinstance(action, MoveBooking):
            return pair
        event = await self._event_now(pair.change, matters=True)
        if event is None or event.booking_id != action.booking_id:
            raise Stale("the event went, or got another booking")
        return replace(pair, event=event, event_is_newer=True)

    async def whether_it_stands(self, pair: Pair, action: Action) -> Pair:
        """*pair* without its event, if *action* is to hold it beside a closed booking, and it is in no calendar.

        An event that can be read may lie in Deleted Items. Then both sides have ended, and nothing is out of step.
        """
        event, held = pair.event, pair.entry.held
        if not isinstance(action, Hold) or action.kind is not HoldKind.CLOSED or event is None or pair.is_hinted:
            return pair
        if held is not None and (held.kind, held.version) == (action.kind, event.etag):
            return pair
        if await self.events.stands(pair.change.mailbox, event.id, event):
            return pair
        return replace(pair, event=None)

    async def successor(self, pair: Pair) -> Event | None:
        """The other event of the default calendar that claims the booking of *pair*, whose event has ended.

        Somebody copied the event before, or a flow replaces events instead of moving them. Among several, it is the one
        at the booking's times, else the earliest. Other calendars are not searched, as that takes a call for each.
        """
        booking = pair.booking
        if booking is None:
            return None
        listed = await self.events.with_extension(pair.change.mailbox)
        ended = {pair.change.event_id, pair.event.id if pair.event is not None else None}
        claimants = [
            event
            for event in listed
            if isinstance(event, Event)
            and event.booking_id == booking.id
            and event.id not in ended
            and not event.is_cancelled
        ]
        return min(claimants, key=lambda event: (event.span != booking.span, event.span.start, event.id), default=None)

    async def is_replacement_likely(self, pair: Pair) -> bool:
        """Whether a deletion may be the first half of a replacement, the second of which is yet to come.

        Example: a dispatcher moves the booking from 9:00 to 12:00, and a flow deletes the event at 9:00 and makes one
        at 12:00. The booking was edited by somebody else since its event was last seen. One change waits once for it.
        """
        booking, entry = pair.booking, pair.entry
        if pair.event is not None or booking is None or pair.change.is_second_look:
            return False
        if entry.booking_version in ("", booking.etag):
            return False
        return not await self.bookings.is_own(booking)

    async def _without_event(self, pair: Pair, known: Booking | None) -> Pair:
        if not pair.is_hinted and not pair.is_linked:
            pair = await self._with_linked(pair)
        # A booking that is left over is known by the ledger alone.
        if pair.booking is None and pair.is_hinted and left_by(pair.entry) is not None:
            return replace(pair, booking=known)
        return pair

    async def _with_linked(self, pair: Pair) -> Pair:
        holders = await self.bookings.linked_to(pair.change.event_id)
        booking, count = choose_linked(pair.change, holders)
        return replace(pair, booking=booking, holders=count)

    async def _event_now(self, change: Change, matters: bool) -> Event | None:
        """The event, None if it is gone.

        With immutable ids a deleted event may stay readable in Deleted Items. So if there is evidence that it is gone,
        a readable event has to stand in a calendar, too. That is not asked if it does not matter, as no booking is in
        sight.
        """
        is_hinted = change.evidence is not Evidence.NONE
        try:
            event = await self.events.read(change.mailbox, change.event_id)
        except Withdrawn:
            if is_hinted and not await self.events.stands(change.mailbox, change.event_id, None):
                return None
            raise
        except InvalidId:
            if is_hinted:  # an id of another mailbox may be refused so: no item of this one has it
                return None
            raise
        if event is None or not is_hinted or not (matters or event.has_extension):
            return event
        return event if await self.events.stands(change.mailbox, change.event_id, event) else None

    async def _with_rival(self, pair: Pair, event: Event, other: str) -> Pair:
        """*pair* with the *other* event that the booking is linked to, if that one stands in a calendar.

        It may have been deleted without a notification, and still be readable in Deleted Items. An id that is of no
        item of this mailbox names no event that stands in it. Any other refusal leaves it open whether one does.
        """
        try:
            rival = await self.events.read(pair.change.mailbox, other)
            is_there = (
                rival is not None
                and not rival.is_cancelled
                and (rival.id == event.id or await self.events.stands(pair.change.mailbox, rival.id, rival))
            )
        except (InvalidId, Withdrawn, NotOurs):
            return pair
        except (Refused, Malformed) as error:
            is_of_all = isinstance(error, MailboxUnavailable | Mendable) and not isinstance(error, AccessDenied)
            if is_of_all:
                raise  # the whole mailbox or service went since the event was read
            return replace(pair, rival_trouble=str(error))
        return replace(pair, rival=rival if is_there else None)


def _by_the_column(pair: Pair, event: Event) -> Pair:
    """*pair* with an *event* that names no booking, though one may be linked to it.

    If both have agreed on times before, the event has lost our extension, and is still the booking's event. If not, it
    may be anybody's: a person may have typed its id into the column.
    """
    linked = replace(pair, event=event)
    booking, entry = pair.booking, pair.entry
    if booking is None or not linked.is_linked:
        return replace(linked, booking=None)
    is_known = entry.kind is Kind.PAIR and entry.booking_id == booking.id and bool(entry.agreed)
    if not is_known:
        return linked
    return replace(linked, event=replace(event, has_extension=True, booking_id=booking.id), event_is_newer=True)
