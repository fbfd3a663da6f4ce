"""What notifications did not bring: compares the lists of both sides, and queues a change for each difference.

A list only hints. Each difference goes the way of a notification: it is looked at again, decided and written there.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from sync.decide import decide
from sync.model import (
    Action,
    Booking,
    CancelBooking,
    Change,
    Event,
    Hold,
    Ignore,
    LifecycleNotification,
    LinkBooking,
    MoveBooking,
    Span,
    UnlinkBooking,
)
from sync.notifications import CHANGES, LIFECYCLE, build_change_message, build_lifecycle_message
from sync.parking import Queues

log = logging.getLogger(__name__)

BEHIND = timedelta(days=7)
AHEAD = timedelta(days=180)
"""The bookings around now that are compared."""

MAILBOXES_PER_SECOND = 5
"""A sweep of all mailboxes is spread: each takes two Dataverse reads, of which 6,000 are allowed in five minutes, and
changes need some as well. Source: Dataverse, "Service protection API limits"."""

MESSAGES_AT_ONCE = 100
"""Sent in one call of the queue, which has little time."""


_SUSPICIONS: dict[type[Action], str] = {
    LinkBooking: "its booking is not linked to it",
    MoveBooking: "its booking has other times",
    CancelBooking: "its organizer cancelled it",
    UnlinkBooking: "its organizer cancelled it, after its booking was closed",
}


class EventLists(Protocol):
    async def with_extension(self, mailbox: str) -> Sequence[Event]:
        """Raises: MailboxUnavailable, Transient, Refused."""


class BookingLists(Protocol):
    async def of_mailbox(self, mailbox: str, window: Span) -> Sequence[Booking]:
        """The active ones, the most imminent first. Raises: Transient, Refused."""


@dataclass(frozen=True)
class Difference:
    """A change to be processed, and what made it be suspected; ``start`` is when it matters."""

    change: Change
    reason: str
    start: datetime


def find_differences(
    mailbox: str, events: Sequence[Event], bookings: Sequence[Booking], window: Span, now: datetime
) -> list[Difference]:
    """Say which events are to be processed, the most imminent first; nothing for a pair in step.

    *bookings* are the active ones of the mailbox's user within *window*, *events* all with our extension that the list
    of the mailbox shows.
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
    for booking in bookings:
        # What a listed event claims is that one's affair: the id may be an older form of its own, and stale.
        if booking.event_id is None or booking.event_id in listed or booking.id in claimed:
            continue
        change = Change(mailbox, booking.event_id, deleted=True)
        if not isinstance(decide(change, None, booking, None, now), Ignore):
            found.append(Difference(change, "its event is not in the list", booking.span.start))
    return sorted(found, key=lambda difference: abs(difference.start - now))


@dataclass
class Sweeper:
    """Sweeps one mailbox at once, or all of them by way of the queue."""

    wanted: Callable[[], Awaitable[Sequence[str]]]
    events: EventLists
    bookings: BookingLists
    queues: Queues
    now: Callable[[], datetime]

    async def compare(self, mailbox: str) -> list[Difference]:
        """The differences of one mailbox. Raises: MailboxUnavailable, Transient, Refused."""
        now = self.now()
        window = Span.of(now - BEHIND, now + AHEAD)
        # The bookings first: what happens between the two lists then looks like an event ahead of its booking.
        bookings = await self.bookings.of_mailbox(mailbox, window)
        events = await self.events.with_extension(mailbox)
        return find_differences(mailbox, events, bookings, window, now)

    async def sweep(self, mailbox: str) -> list[Difference]:
        """Queue a change for each difference of one mailbox. Raises: MailboxUnavailable, Transient, Refused."""
        differences = await self.compare(mailbox)
        messages = [build_change_message(each.change) for each in differences]
        for place in range(0, len(messages), MESSAGES_AT_ONCE):
            await self.queues.send(CHANGES, messages[place : place + MESSAGES_AT_ONCE])
        log.info("swept mailbox=%s differences=%d", mailbox, len(differences))
        return differences

    async def sweep_all(self) -> int:
        """Queue a sweep for each wanted mailbox, spread over time; how many.

        Raises: Transient if not all of them could be queued; those that were are swept all the same.
        """
        mailboxes = await self.wanted()
        for place in range(0, len(mailboxes), MAILBOXES_PER_SECOND):
            due = mailboxes[place : place + MAILBOXES_PER_SECOND]
            messages = [build_lifecycle_message(LifecycleNotification(mailbox, None, "missed")) for mailbox in due]
            await self.queues.send(LIFECYCLE, messages, hidden=place // MAILBOXES_PER_SECOND)
        log.info("sweep of all mailboxes queued mailboxes=%d", len(mailboxes))
        return len(mailboxes)
