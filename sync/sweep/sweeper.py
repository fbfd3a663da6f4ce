"""What notifications did not bring: compares the lists of both sides, and queues a change for each difference.

A list only hints. Each difference goes the way of a notification: it is looked at again, decided and written there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from sync.errors import Malformed, Refused, Stale, SyncError, Transient
from sync.ids import mark_of
from sync.messages.changes import Change, Evidence, LifecycleNotification
from sync.messages.codec import CHANGES, LIFECYCLE, build_change_message, build_lifecycle_message
from sync.messages.parking import Queues
from sync.model import Booking, Event, Span, Unreadable
from sync.pairs.entry import Entry
from sync.pairs.remembering import hold_missing
from sync.sweep.differences import Difference, agreements, find_differences, missing, settled, unlisted
from sync.sweep.rounds import Round, does_for_now, left_of, resume
from sync.telemetry import spans as telemetry

log = logging.getLogger(__name__)

BEHIND = timedelta(days=7)
AHEAD = timedelta(days=180)
"""The bookings around now that are compared."""

MAILBOXES_PER_SECOND = 5
"""A sweep of all mailboxes is spread: each takes two Dataverse reads, of which 6,000 are allowed in five minutes, and
changes need some as well. Source: Dataverse, "Service protection API limits"."""

MAILBOXES_AT_ONCE = 25
"""Their messages are sent together, and seen at the same second."""

MESSAGES_AT_ONCE = 100
"""Sent in one call of the queue, which has little time."""

PATIENCE = 240.0
"""Seconds for one mailbox; after that its message is put back. The host ends a whole process after ten minutes."""

GRACE = 60.0
"""Seconds until an event that is in no list is looked at: one that is on its way elsewhere has then arrived."""

APART = timedelta(seconds=60)
"""Between two sweeps of one mailbox that are asked for by messages."""

EARLY = timedelta(seconds=5)
"""Its message is hidden for so much longer, as the queue's clock is another one, and ours may be put back meanwhile. If
it came while it is still believed to be hidden, it would be taken for one more that asks, and nobody would sweep."""

ORDER_WITHIN = 30.0
"""Seconds to find out which mailboxes come first."""

BUDGET = 60.0
"""Seconds to queue the sweeps of all mailboxes, at the end of a timer that may have used eight of its ten minutes.

Against Azurite, 10,000 took 22 seconds.
"""

PURGE_FOR = 120.0
"""Seconds at night to forget what is of no use any more; what is left then is forgotten an hour or a day later."""

REMEMBERED_EACH = 1_000
"""Mailboxes after which it is remembered how far it got, as the process may die; what is repeated does no harm."""


class EventLists(Protocol):
    async def with_extension(self, mailbox: str) -> Sequence[Event | Unreadable]:
        """Those of the default calendar. Raises: MailboxUnavailable, Transient, Refused."""

    async def in_other_calendars(self, mailbox: str) -> Sequence[Event | Unreadable]:
        """Those with the extension, as far as these calendars can be read. Raises: as above."""


class Ledger(Protocol):
    async def of_mailbox(self, mailbox: str) -> Sequence[Entry]:
        """What is known of its events. Raises: Transient."""

    async def write(self, entry: Entry) -> Entry:
        """Raises: Stale if somebody else wrote it since it was read, Transient."""

    async def purge(self, now: datetime, until: Callable[[], bool]) -> int:
        """Forget what has expired, as long as *until* does not say stop; how much. Raises: Transient."""


class Rounds(Protocol):
    """Remembers how far the last sweep of all mailboxes got; losing it costs repeated sweeps."""

    async def last_round(self) -> Round | None: ...

    async def remember_round(self, current: Round) -> None: ...


class BookingLists(Protocol):
    async def of_mailbox(self, mailbox: str, window: Span) -> Sequence[Booking]:
        """The active ones of its user. Raises: Transient, Refused."""

    async def with_ids(self, booking_ids: Sequence[str]) -> Sequence[Booking]:
        """Those that exist, whoever's they are and in whatever state. Raises: Transient, Refused."""

    async def by_start(self, wanted: Sequence[str], window: Span) -> Sequence[str]:
        """Those of the mailboxes that have bookings within *window*, the most imminent first.

        Raises: Transient, Refused.
        """


@dataclass(frozen=True)
class _Compared:
    differences: list[Difference]
    learned: list[Entry]
    """What the ledger is to know."""


@dataclass
class Sweeper:
    """Sweeps one mailbox at once, or all of them by way of the queue."""

    wanted: Callable[[], Awaitable[Sequence[str]]]
    events: EventLists
    bookings: BookingLists
    queues: Queues
    ledger: Ledger
    rounds: Rounds
    now: Callable[[], datetime]
    begun: dict[str, datetime] = field(default_factory=dict, init=False)
    """When this process began to sweep each mailbox, by its own clock."""
    due: dict[str, datetime] = field(default_factory=dict, init=False)
    """Until when nobody sees the message that has the mailbox swept again."""

    async def compare(self, mailbox: str) -> list[Difference]:
        """The differences of one mailbox; nothing is written. Raises: MailboxUnavailable, Transient, Refused."""
        return (await self._compare(mailbox)).differences

    async def _compare(self, mailbox: str) -> _Compared:
        now = self.now()
        window = Span.of(now - BEHIND, now + AHEAD)
        entries = {entry.event_id: entry for entry in await self.ledger.of_mailbox(mailbox)}
        # The bookings first: an event that is made and linked between the two lists would else be missing in its own.
        bookings = [*await self.bookings.of_mailbox(mailbox, window)]
        listed = [*await self.events.with_extension(mailbox)]
        if claimed := unlisted(_readable(listed), bookings, window):
            bookings += await self.bookings.with_ids(claimed)
        if absent := missing(mailbox, listed, bookings):
            others = await self.events.in_other_calendars(mailbox)
            listed += [event for event in others if event.id in absent]
        events = _readable(listed)
        # An event that cannot be read is there all the same; its booking is left alone until a notification tells more.
        unreadable = {event.id for event in listed if isinstance(event, Unreadable)}
        bookings = [booking for booking in bookings if booking.event_id not in unreadable]
        differences = find_differences(mailbox, events, bookings, now, entries)
        learned = [*agreements(events, bookings, entries, mailbox, now), *settled(events, bookings, entries, now)]
        for each in (each for each in differences if each.is_held):
            entry = entries.get(each.change.event_id) or Entry(mailbox, each.change.event_id)
            held = hold_missing(entry, each.booking, each.reason, now)
            learned += [] if held is None else [held]
        return _Compared(differences, learned)

    async def sweep_in_turn(self, mailbox: str) -> list[Difference] | None:
        """``sweep``; if that was begun just now, it is done again a while later, once for all who ask until then.

        None if it is later. A message that is not to be seen yet tells for sure that a sweep will come, whatever the
        clocks of others say; what this process does not know of costs a sweep. Raises: as ``sweep`` does.
        """
        now, begun, due = self.now(), self.begun.get(mailbox), self.due.get(mailbox)
        if due is not None and due - APART <= now < due:
            return None
        if begun is None or not begun <= now < begun + APART:
            self.begun[mailbox] = now
            try:
                return await self.sweep(mailbox)
            except BaseException:
                self.begun.pop(mailbox, None)
                raise
        self.due[mailbox] = now + APART
        try:
            again = build_lifecycle_message(LifecycleNotification(mailbox, None, "missed"))
            await self.queues.send(LIFECYCLE, [again], hidden=(APART + EARLY).total_seconds())
        except BaseException:
            self.due.pop(mailbox, None)
            raise
        return None

    async def sweep(self, mailbox: str) -> list[Difference]:
        """Queue a change for each difference of one mailbox, and let the ledger learn what is in step.

        Raises: MailboxUnavailable, Transient (also if it takes too long), Refused.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._sweep(mailbox)
        except TimeoutError:
            raise Transient("the sweep took too long") from None

    async def _sweep(self, mailbox: str) -> list[Difference]:
        compared = await self._compare(mailbox)
        differences = compared.differences
        for entry in compared.learned:
            with suppress(Stale):  # who wrote since it was read knows better
                await self.ledger.write(entry)
        for held in (each for each in differences if each.is_held):
            log.warning("held mailbox=%s event=%s reason=%r", mailbox, held.change.event_id, held.reason)
        origin = telemetry.origin()
        changes = [replace(each.change, origin=origin) for each in differences if not each.is_held]
        fates = {"queued": len(changes), "held": len(differences) - len(changes)}
        telemetry.measure_each(telemetry.DRIFT, "fate", fates)
        await self._queue([change for change in changes if change.evidence is Evidence.NONE])
        await self._queue([change for change in changes if change.evidence is not Evidence.NONE], hidden=GRACE)
        log.info("swept mailbox=%s differences=%d", mailbox, len(differences))
        return differences

    async def _queue(self, changes: Sequence[Change], hidden: float = 0) -> None:
        messages = [build_change_message(change) for change in changes]
        for place in range(0, len(messages), MESSAGES_AT_ONCE):
            await self.queues.send(CHANGES, messages[place : place + MESSAGES_AT_ONCE], hidden)

    async def sweep_nightly(self) -> int:
        """``sweep_all``, unless that was done in these hours: the timer comes again in case that it was not.

        What the ledger has no use for any more is forgotten afterwards.
        """
        is_done = does_for_now(await self.rounds.last_round(), self.now())
        count = 0 if is_done else await self.sweep_all()
        await self._purge()
        return count

    async def _purge(self) -> None:
        clock = asyncio.get_running_loop().time
        ends = clock() + PURGE_FOR
        try:
            count = await self.ledger.purge(self.now(), lambda: clock() > ends)
        except SyncError as error:
            log.warning("the ledger was not purged error=%s reason=%r", type(error).__name__, str(error))
        else:
            log.info("purged the ledger rows=%d", count)

    async def sweep_all(self, since: datetime | None = None) -> int:
        """Queue a sweep for each wanted mailbox, the most imminent bookings first, spread over time; how many.

        An interrupted round that began before *since* is not gone on with.
        Raises: Transient if not all of them could be queued; the next call goes on with the others.
        """
        current = resume(await self.rounds.last_round(), self.now(), since)
        wanted = await self.wanted()
        mailboxes = left_of(current, frozenset(wanted), await self._by_start(wanted))
        ends = asyncio.get_running_loop().time() + BUDGET
        try:
            for place in range(0, len(mailboxes), MAILBOXES_AT_ONCE):
                if asyncio.get_running_loop().time() > ends:
                    raise Transient("the sweep of all mailboxes took too long")
                if place and place % REMEMBERED_EACH == 0:
                    await self.rounds.remember_round(current)
                due = mailboxes[place : place + MAILBOXES_AT_ONCE]
                messages = [build_lifecycle_message(LifecycleNotification(mailbox, None, "missed")) for mailbox in due]
                await self.queues.send(LIFECYCLE, messages, hidden=place // MAILBOXES_PER_SECOND)
                current = replace(current, queued=current.queued.union(map(mark_of, due)))
            current = Round(current.begun, is_over=True)
        finally:
            await self.rounds.remember_round(current)
        log.info("sweep of all mailboxes queued mailboxes=%d", len(mailboxes))
        return len(mailboxes)

    async def _by_start(self, wanted: Sequence[str]) -> Sequence[str]:
        """*wanted* in the order of their next bookings; none if that cannot be told, as any order is better than none.

        Raises: Misconfigured.
        """
        now = self.now()
        try:
            async with asyncio.timeout(ORDER_WITHIN):
                return await self.bookings.by_start(wanted, Span.of(now, now + AHEAD))
        except (TimeoutError, Transient, Refused, Malformed) as error:
            log.warning("mailboxes are swept in no order error=%s", type(error).__name__)
            return []


def _readable(listed: Sequence[Event | Unreadable]) -> list[Event]:
    return [event for event in listed if isinstance(event, Event)]
