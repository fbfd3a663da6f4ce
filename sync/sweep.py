"""What notifications did not bring: compares the lists of both sides, and queues a change for each difference.

A list only hints. Each difference goes the way of a notification: it is looked at again, decided and written there.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from sync.differences import Difference, find_differences, missing, see, unlisted
from sync.model import Booking, Event, LifecycleNotification, Span
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


class EventLists(Protocol):
    async def with_extension(self, mailbox: str) -> Sequence[Event]:
        """Those of the default calendar. Raises: MailboxUnavailable, Transient, Refused."""

    async def in_other_calendars(self, mailbox: str) -> Sequence[Event]:
        """Those with the extension, as far as these calendars can be read. Raises: as above."""


class Seen(Protocol):
    """Which events of a mailbox earlier sweeps have seen in its list, linked to their bookings; losing it is safe."""

    async def seen(self, mailbox: str) -> frozenset[str]:
        """Marks of events, as ``mark_of`` makes them; those that we have linked count as seen."""

    async def see(self, mailbox: str, marks: frozenset[str]) -> None: ...


class BookingLists(Protocol):
    async def of_mailbox(self, mailbox: str, window: Span) -> Sequence[Booking]:
        """The active ones of its user. Raises: Transient, Refused."""

    async def with_ids(self, booking_ids: Sequence[str]) -> Sequence[Booking]:
        """Those that exist, whoever's they are and in whatever state. Raises: Transient, Refused."""


@dataclass
class Sweeper:
    """Sweeps one mailbox at once, or all of them by way of the queue."""

    wanted: Callable[[], Awaitable[Sequence[str]]]
    events: EventLists
    bookings: BookingLists
    queues: Queues
    seen: Seen
    now: Callable[[], datetime]

    async def compare(self, mailbox: str) -> list[Difference]:
        """The differences of one mailbox, which is looked at for the next time, too.

        Raises: MailboxUnavailable, Transient, Refused.
        """
        now = self.now()
        window = Span.of(now - BEHIND, now + AHEAD)
        # The bookings first: an event that is made and linked between the two lists would else be missing in its own.
        bookings = [*await self.bookings.of_mailbox(mailbox, window)]
        events = [*await self.events.with_extension(mailbox)]
        if claimed := unlisted(events, bookings, window):
            bookings += await self.bookings.with_ids(claimed)
        if absent := missing(mailbox, events, bookings):
            others = await self.events.in_other_calendars(mailbox)
            events += [event for event in others if event.id in absent]
        seen = await self.seen.seen(mailbox)
        differences = find_differences(mailbox, events, bookings, now, seen)
        if (sees := see(mailbox, events, bookings, seen)) != seen:
            await self.seen.see(mailbox, sees)
        return differences

    async def sweep(self, mailbox: str) -> list[Difference]:
        """Queue a change for each difference of one mailbox. Raises: MailboxUnavailable, Transient, Refused."""
        differences = await self.compare(mailbox)
        for held in (each for each in differences if each.is_held):
            log.warning("held mailbox=%s event=%s reason=%r", mailbox, held.change.event_id, held.reason)
        messages = [build_change_message(each.change) for each in differences if not each.is_held]
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
