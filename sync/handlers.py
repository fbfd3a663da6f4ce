"""Receive and process: gather → decide → apply, for one POST of Graph's or one message of the queue.

What is said to the services stays in the edges, what is right stays in decide.py. Clients come in as protocols, time
as an argument.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from sync.decide import choose_linked, decide, rival_id
from sync.errors import (
    InvalidId,
    MailboxUnavailable,
    Malformed,
    Misconfigured,
    NotOurs,
    Refused,
    Stale,
    Transient,
    Withdrawn,
)
from sync.model import Action, Booking, Change, Event, Hold, Ignore, LinkBooking, MoveBooking, Write
from sync.notifications import (
    CHANGES,
    LIFECYCLE,
    build_change_message,
    build_lifecycle_message,
    parse_change_message,
    parse_notifications,
)
from sync.parking import Queues, park, put_back

log = logging.getLogger(__name__)

ACK_WITHIN = 2.0
"""Seconds to store what a POST holds: Graph waits three for its answer."""

PATIENCE = 120.0
"""Seconds for one change, all waits included; the host's own time-out would end all changes of the process."""

LOOKS = 5
"""How often one change is looked at anew because its row changed meanwhile, before the queue brings it back."""


class Events(Protocol):
    async def read(self, mailbox: str, event_id: str) -> Event | None:
        """Raises: MailboxUnavailable, Withdrawn, InvalidId, Transient, Refused."""

    async def stands(self, mailbox: str, event_id: str, event: Event | None) -> bool:
        """Say whether *event* (None if it cannot be read) stands in one of the mailbox's calendars.

        Raises: Stale if it changed while it was looked for.
        """


class Links(Protocol):
    """Remembers which events we have linked, so that a sweep knows them as the mailbox's own."""

    async def linked(self, mailbox: str, event_id: str) -> None: ...


class Bookings(Protocol):
    async def read(self, booking_id: str) -> Booking | None: ...

    async def linked_to(self, event_id: str) -> Sequence[Booking]:
        """The bookings that hold exactly *event_id*."""

    async def write(self, action: Write) -> None:
        """Raises: Stale if the row changed since it was read, Transient, Refused."""


@dataclass(frozen=True)
class Reply:
    """An HTTP answer in plain text."""

    status: int
    body: str = ""


async def receive(body: bytes, keys: Sequence[str], queues: Queues) -> Reply:
    """Put what a POST of Graph's says on the queues: 202 when all of it is stored, 503 if Graph is to come again.

    Dropped items do not change the answer: an error would only make Graph repeat them, and tell a forger something.
    """
    try:
        received = parse_notifications(body, keys)
    except Malformed as error:
        log.warning("notifications refused reason=%r", str(error))
        return Reply(400, "not a collection of change notifications")
    for reason, count in sorted(received.dropped.items()):
        log.warning("notifications dropped count=%d reason=%r", count, reason)
    try:
        await asyncio.gather(
            queues.send(CHANGES, [build_change_message(change) for change in received.changes], within=ACK_WITHIN),
            queues.send(LIFECYCLE, [build_lifecycle_message(item) for item in received.lifecycle], within=ACK_WITHIN),
        )
    except Transient as error:
        log.error("notifications not queued reason=%r", str(error))
        return Reply(503)
    log.info("notifications queued changes=%d lifecycle=%d", len(received.changes), len(received.lifecycle))
    return Reply(202)


async def process_change(
    text: str, process: Callable[[Change], Awaitable[Action]], queues: Queues, deliveries: int = 1
) -> None:
    """Take one message of the queue to its end: done, put back for later, or parked for a person to see.

    A mailbox that cannot be reached at all parks nothing and cancels nothing. *deliveries* is how often the host has
    handed out this message; more than once means that somebody died over it.
    Raises: Transient if the queue itself cannot be reached, so that the host brings the message back.
    """
    try:
        change = parse_change_message(text)
    except Malformed as error:
        await park(queues, CHANGES, text, error)
        return
    if deliveries > 1:
        change = look_closer(change)
    try:
        async with asyncio.timeout(PATIENCE):
            action = await process(change)
    except TimeoutError:
        again = look_closer(replace(change, attempt=change.attempt + 1))
        await put_back(queues, CHANGES, build_change_message(again), again.attempt, Transient("it took too long"))
    except MailboxUnavailable as error:
        log.warning("mailbox unavailable mailbox=%s event=%s reason=%r", change.mailbox, change.event_id, str(error))
    except (Transient, Misconfigured) as error:
        again = look_closer(replace(change, attempt=change.attempt + 1))
        await put_back(queues, CHANGES, build_change_message(again), again.attempt, error)
    except (Refused, Malformed) as error:
        await park(queues, CHANGES, text, error)
    else:
        log.log(
            logging.WARNING if isinstance(action, Hold) else logging.INFO,
            "processed action=%s booking=%s mailbox=%s event=%s reason=%r",
            type(action).__name__,
            getattr(action, "booking_id", None),
            change.mailbox,
            change.event_id,
            getattr(action, "reason", ""),
        )


def look_closer(change: Change) -> Change:
    """*change*, to be looked at as if its event had been deleted; for a change that was begun before.

    It may have linked its booking and then missed that the event went to Deleted Items in the meantime, from where it
    may still be read. The hint decides nothing, it only has the calendars asked.
    """
    return replace(change, deleted=True)


@dataclass
class Processor:
    """Brings the booking of one event in step with it, whatever happens to either in the meantime."""

    events: Events
    bookings: Bookings
    now: Callable[[], datetime]
    links: Links | None = None

    async def process(self, change: Change) -> Action:
        """Look at both sides, decide, write what is needed; return what was done.

        Raises: MailboxUnavailable, Transient (Stale if the row kept changing), Refused.
        """
        booking_id: str | None = None
        trouble = ""
        for _ in range(LOOKS):
            try:
                action, event = await self._look(change, booking_id)
                if isinstance(action, Ignore | Hold):
                    return action
                booking_id = action.booking_id
                # A deletion that is processed before this link is written finds nothing to cancel, so whoever links,
                # or does not know whether it did, looks once more. All else is guarded by the etag of the row.
                event_id = linked_id(action)
                if event_id is not None:
                    change = look_closer(change)
                await self.bookings.write(action)
                if event_id is not None and self.links is not None:
                    await self.links.linked(change.mailbox, event_id)
                if event_id is None or await self.events.stands(change.mailbox, event_id, event):
                    return action
            except Stale as error:
                trouble = str(error)
            except NotOurs as error:
                return Ignore(str(error))
        raise Stale(f"looked at {LOOKS} times: {trouble}")

    async def _look(self, change: Change, booking_id: str | None) -> tuple[Action, Event | None]:
        """Gather what the decision needs, and decide; the event is the one that the decision is based on.

        The event's state is read after the booking whose etag guards the write that follows from it; otherwise a slow
        worker could write an older state over a newer one. Where the booking is known by its event only, the event is
        read again if times are about to be written, or if nobody has told of its deletion.
        Raises: Stale if the two reads do not fit together.
        """
        booking: Booking | Hold | None = None
        if booking_id is not None:
            booking = await self.bookings.read(booking_id)
        elif change.deleted:
            booking = await self._linked(change)

        event = await self._event_now(change, matters=booking is not None)
        if event is None:
            if booking is None and not change.deleted:
                booking = await self._linked(change)
                if booking is not None and await self._event_now(change) is not None:
                    raise Stale("the event was out of sight for a moment")
            if isinstance(booking, Hold):
                return booking, None
            return decide(change, None, booking, None, self.now()), None

        if event.booking_id is None:
            return decide(change, event, None, None, self.now()), event
        event_is_newer = isinstance(booking, Booking) and booking.id == event.booking_id
        if not isinstance(booking, Booking) or booking.id != event.booking_id:
            booking = await self.bookings.read(event.booking_id)
        rival = await self._rival(change, event, booking)
        action = decide(change, event, booking, rival, self.now())
        if isinstance(action, MoveBooking) and not event_is_newer:
            event = await self._event_now(change)
            if event is not None and event.booking_id != action.booking_id:
                raise Stale("the event got another booking")
            action = decide(change, event, booking, rival, self.now())
        # An event that can still be read may be in Deleted Items. A link to that would only have to be undone.
        event_id = None if change.deleted else linked_id(action)
        if event_id is not None and not await self.events.stands(change.mailbox, event_id, event):
            action = Ignore("the event is in no calendar")
        return action, event

    async def _linked(self, change: Change) -> Booking | Hold | None:
        return choose_linked(change, await self.bookings.linked_to(change.event_id))

    async def _event_now(self, change: Change, matters: bool = True) -> Event | None:
        """The event, None if it is gone.

        With immutable ids a deleted event may stay readable from Deleted Items. So after its deletion was notified, a
        readable event has to stand in a calendar, too; unless that does not *matter*, as no booking is in sight.
        """
        try:
            event = await self.events.read(change.mailbox, change.event_id)
        except Withdrawn:
            if change.deleted and not await self.events.stands(change.mailbox, change.event_id, None):
                return None
            raise
        if event is None or not change.deleted or not (matters or event.has_extension):
            return event
        return event if await self.events.stands(change.mailbox, change.event_id, event) else None

    async def _rival(self, change: Change, event: Event, booking: Booking | None) -> Event | None:
        """The other event that the booking is linked to, None if there is none (any more).

        It may have been deleted without anybody's having told of it, and still be readable.
        """
        other = rival_id(change, event, booking)
        if other is None:
            return None
        try:
            rival = await self.events.read(change.mailbox, other)
        except (InvalidId, Withdrawn, NotOurs):
            return None
        if rival is None or rival.id == event.id or await self.events.stands(change.mailbox, rival.id, rival):
            return rival
        return None  # in Deleted Items


def linked_id(action: Action) -> str | None:
    """The event id that *action* makes its booking hold, if any."""
    return action.event_id if isinstance(action, LinkBooking | MoveBooking) else None
