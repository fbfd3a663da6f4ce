"""Sweeps one mailbox: reads the lists of both sides, and queues a change for each difference.

A list only hints. Each difference goes the way of a notification: it is looked at again, decided and written there.
Differences are found in differences.py. Sweeps are asked for in rounds.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from sync.errors import Stale, Transient
from sync.messages.changes import Change, Evidence, SweepRequest
from sync.messages.codec import OUTLOOK_CHANGES, build_change_message
from sync.messages.parking import Queues
from sync.model import Booking, Event, Span, Unreadable
from sync.pairs.entry import Entry
from sync.pairs.holding import hold_missing, hold_shared
from sync.pairs.reasons import HoldKind
from sync.sweep.differences import Difference, find_differences, missing, unlisted
from sync.sweep.known import Known
from sync.sweep.rounds import AHEAD, ask
from sync.sweep.settling import agreements, settled
from sync.telemetry import spans as telemetry

log = logging.getLogger(__name__)

BEHIND = timedelta(days=7)
"""How far back bookings are compared. Too short, and late edits of past work are never found; too long costs reads."""

MESSAGES_AT_ONCE = 100
"""Changes in one call of the queue. Too few take many calls; too many are not stored in the time that a call has."""

PATIENCE = 240.0
"""Seconds for one mailbox; after that its sweep has failed. The host ends a whole process after ten minutes.

Too short, and a mailbox with very many events is never swept; too long, and the host ends the process first.
"""

GRACE = 60.0
"""Seconds until an event that is in no list is looked at. An event on its way to another calendar has then arrived.

Too short, and the event is taken for deleted; too long, and its booking is canceled late.
"""

APART = timedelta(seconds=60)
"""Time between two sweeps of one mailbox that are asked for by messages.

Too short, and a flood of requests is a flood of sweeps; too long, and a difference is found late.
"""

EARLY = timedelta(seconds=5)
"""Added to the time for which the message of a postponed sweep is hidden.

Our clock and the queue's may differ by seconds. Without this margin the message could arrive before ``due`` by our
clock, be mistaken for one more request, and be dropped. A much larger one only delays the sweep.
"""


class EventLists(Protocol):
    """Lists the events of one mailbox: ``Event``, or ``Unreadable`` for one in a shape that we do not know."""

    async def with_extension(self, mailbox: str) -> Sequence[Event | Unreadable]:
        """Return the events with our extension in the default calendar.

        Raises: MailboxUnavailable, Transient, Refused.
        """

    async def in_other_calendars(self, mailbox: str) -> Sequence[Event | Unreadable]:
        """Return the events with our extension in the other calendars that can be read. Raises: as above."""


class Ledger(Protocol):
    """Remembers events."""

    async def of_mailbox(self, mailbox: str) -> Sequence[Entry]:
        """Return the entries of the mailbox's events. Raises: Transient."""

    async def write(self, entry: Entry) -> Entry:
        """Store *entry*. Raises: Stale if it was written since it was read, Transient."""


class BookingLists(Protocol):
    """Lists bookings."""

    async def of_mailbox(self, mailbox: str, window: Span) -> Sequence[Booking]:
        """Return the active bookings of the mailbox's user within *window*. Raises: Transient, Refused."""

    async def with_ids(self, booking_ids: Sequence[str]) -> Sequence[Booking]:
        """Return the bookings with these ids, of any user and in any state. Raises: Transient, Refused."""


@dataclass(frozen=True)
class _Lists:
    """Both sides of one mailbox, as they were listed."""

    events: Sequence[Event]
    bookings: Sequence[Booking]
    """Without the bookings of events that cannot be read: those wait for a notification that can."""


@dataclass(frozen=True)
class _Compared:
    differences: list[Difference]
    learned: list[Entry]
    """Entries for the ledger to store."""


@dataclass
class Sweeper:
    """Sweeps one mailbox at a time."""

    events: EventLists
    bookings: BookingLists
    queues: Queues
    ledger: Ledger
    now: Callable[[], datetime]
    patience: float = PATIENCE
    messages_at_once: int = MESSAGES_AT_ONCE
    begun: dict[str, datetime] = field(default_factory=dict, init=False)
    """When this process began to sweep each mailbox, by its own clock."""
    due: dict[tuple[str, bool], datetime] = field(default_factory=dict, init=False)
    """Until when the message that has the mailbox swept again is hidden; by mailbox, and whether after a gap."""

    async def compare(self, mailbox: str) -> list[Difference]:
        """Return the differences of one mailbox; write nothing. Raises: MailboxUnavailable, Transient, Refused."""
        return (await self._compare(mailbox, after_gap=False)).differences

    async def _compare(self, mailbox: str, after_gap: bool) -> _Compared:
        now = self.now()
        entries = {entry.event_id: entry for entry in await self.ledger.of_mailbox(mailbox)}
        lists = await self._list(mailbox, Span.of(now - BEHIND, now + AHEAD))
        known = Known(mailbox, lists.events, lists.bookings, entries, now, after_gap)
        differences = find_differences(known)
        learned = [*agreements(known), *settled(known), *_held(known, differences)]
        return _Compared(differences, learned)

    async def _list(self, mailbox: str, window: Span) -> _Lists:
        # The bookings first: an event that is made and linked between the two lists would else be missing in its own.
        bookings = [*await self.bookings.of_mailbox(mailbox, window)]
        listed = [*await self.events.with_extension(mailbox)]
        if claimed := unlisted(_readable(listed), bookings, window):
            bookings += await self.bookings.with_ids(claimed)
        if absent := missing(mailbox, listed, bookings):
            others = await self.events.in_other_calendars(mailbox)
            listed += [event for event in others if event.id in absent]
        unreadable = {event.id for event in listed if isinstance(event, Unreadable)}
        return _Lists(_readable(listed), [booking for booking in bookings if booking.event_id not in unreadable])

    async def sweep_in_turn(self, request: SweepRequest) -> list[Difference] | None:
        """``sweep``, but at most once a minute; return None if it is done later.

        Example: requests come at 9:00:00, 9:00:10 and 9:00:20. The first is swept. The second puts a request on the
        queue for 9:01:10, and the third adds nothing, unless it comes after a gap and the second did not. A request
        that another process put off costs one more sweep.
        Raises: as ``sweep`` does; Transient also if the queue cannot be reached.
        """
        mailbox, now = request.mailbox, self.now()
        begun = self.begun.get(mailbox)
        if self._is_due(mailbox, True, now) or (not request.after_gap and self._is_due(mailbox, False, now)):
            return None
        if begun is None or not begun <= now < begun + APART:
            self.begun[mailbox] = now
            try:
                return await self.sweep(mailbox, request.after_gap)
            except BaseException:
                self.begun.pop(mailbox, None)
                raise
        self.due[mailbox, request.after_gap] = now + APART
        try:
            again = SweepRequest(mailbox, after_gap=request.after_gap)
            await ask(self.queues, again, after=(APART + EARLY).total_seconds())
        except BaseException:
            self.due.pop((mailbox, request.after_gap), None)
            raise
        return None

    def _is_due(self, mailbox: str, after_gap: bool, now: datetime) -> bool:
        """Whether a message that has the mailbox swept again is hidden still."""
        due = self.due.get((mailbox, after_gap))
        return due is not None and due - APART <= now < due

    async def sweep(self, mailbox: str, after_gap: bool = False) -> list[Difference]:
        """Queue a change for each difference of one mailbox, and store in the ledger which pairs are in step.

        Raises: MailboxUnavailable, Transient (also if it takes too long), Refused.
        """
        try:
            async with asyncio.timeout(self.patience):
                return await self._sweep(mailbox, after_gap)
        except TimeoutError:
            raise Transient("the sweep took too long") from None

    async def _sweep(self, mailbox: str, after_gap: bool) -> list[Difference]:
        compared = await self._compare(mailbox, after_gap)
        for entry in compared.learned:
            with suppress(Stale):  # the entry was written since it was read, from a later look
                await self.ledger.write(entry)
        await self._queue_changes(compared.differences)
        log.info("swept mailbox=%s differences=%d", mailbox, len(compared.differences))
        return compared.differences

    async def _queue_changes(self, differences: Sequence[Difference]) -> None:
        held = [each for each in differences if each.is_held]
        for each in held:
            log.warning("held mailbox=%s event=%s reason=%r", each.change.mailbox, each.change.event_id, each.reason)
        origin = telemetry.origin()
        changes = [replace(each.change, origin=origin) for each in differences if not each.is_held]
        telemetry.measure_each(telemetry.DRIFT, "fate", {"queued": len(changes), "held": len(held)})
        await self._queue([change for change in changes if change.evidence is Evidence.NONE])
        await self._queue([change for change in changes if change.evidence is not Evidence.NONE], hidden=GRACE)

    async def _queue(self, changes: Sequence[Change], hidden: float = 0) -> None:
        messages = [build_change_message(change) for change in changes]
        for place in range(0, len(messages), self.messages_at_once):
            await self.queues.send(OUTLOOK_CHANGES, messages[place : place + self.messages_at_once], hidden)


def _held(known: Known, differences: Sequence[Difference]) -> list[Entry]:
    """Return entries for the ledger to store: differences that are held."""
    events = {event.id: event for event in known.events}
    found = []
    for each in differences:
        entry, event = known.entry(each.change.event_id), events.get(each.change.event_id)
        if each.hold is None:
            continue
        if event is not None and each.hold.kind is HoldKind.SHARED:
            found.append(hold_shared(entry, event, each.hold, known.at))
        else:
            found.append(hold_missing(entry, each.booking, each.hold, known.at))
    return [entry for entry in found if entry is not None]


def _readable(listed: Sequence[Event | Unreadable]) -> list[Event]:
    return [event for event in listed if isinstance(event, Event)]
