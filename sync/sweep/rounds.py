"""Asks for sweeps by way of the queue: of one mailbox, of all mailboxes, and of all mailboxes each night.

A sweep of all mailboxes is called a round. How one mailbox is swept stands in sweeper.py, not here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from sync.errors import Malformed, Refused, SyncError, Transient
from sync.messages.changes import SweepRequest
from sync.messages.codec import SWEEPS, build_sweep_message
from sync.messages.parking import Queues
from sync.model import Span
from sync.telemetry.origin import Origin

log = logging.getLogger(__name__)

AHEAD = timedelta(days=180)
"""How far ahead bookings are compared. Too short, and work planned early is out of step; too long costs reads."""

MAILBOXES_PER_SECOND = 5
"""Sweeps that begin in one second of a round. Each takes two Dataverse reads; 6,000 are allowed in five minutes.

Too small, and a round of thousands lasts into the morning; too large, and changes find Dataverse throttling.
Source: Dataverse, "Service protection API limits".
"""

MAILBOXES_AT_ONCE = 25
"""Requests that are sent together and seen at the same second.

Too small, and a round takes long to queue; too large, and so many sweeps begin at the same moment.
"""

ORDER_WITHIN = 30.0
"""Seconds to find out which mailboxes have the most imminent bookings.

Too short, and they are swept in no order; too long, and a slow Dataverse keeps the round waiting.
"""

BUDGET = 400.0
"""Seconds to queue a round, of the ten minutes that the host gives a function. docs/capacity.md says how many it takes.

Too short, and a round of very many mailboxes never ends; too long, and the host ends the process first.
"""

PURGE_FOR = 120.0
"""Seconds at night for the ledger to forget expired rows. The rows that remain are forgotten an hour or a day later.

Too short, and the ledger grows; too long, and the host ends the process, which may be sweeping as well.
"""

LASTS = timedelta(hours=4)
"""How long a round counts as the one of this night. The timer comes three times, an hour apart.

Too short, and mailboxes are swept twice a night; too long, and a round by a person in the evening replaces the night's.
"""

SKEW = timedelta(minutes=5)
"""The difference that two machines' clocks may have. A round that is further in the future was noted by a wrong clock.

Too small, and a night's round is repeated; too large, and a wrong clock may keep the app from sweeping.
"""


class RoundMemory(Protocol):
    """Remembers when the last round that ended had begun. Losing it costs repeated sweeps, and nothing else."""

    async def last_round(self) -> datetime | None:
        """Return when it began; None if none is known."""

    async def remember_round(self, begun: datetime) -> None:
        """Note a round that ended."""


class BookingOrder(Protocol):
    """Knows which mailboxes have bookings soon."""

    async def by_start(self, wanted: Sequence[str], window: Span) -> Sequence[str]:
        """Return the mailboxes that have bookings within *window*, the most imminent first.

        Raises: Transient, Refused.
        """


class Expiring(Protocol):
    """Holds rows that expire: the ledger."""

    async def purge(self, now: datetime, until: Callable[[], bool]) -> int:
        """Forget rows that have expired, as long as *until* returns False; return how many. Raises: Transient."""


async def ask(queues: Queues, request: SweepRequest, after: float = 0.0) -> None:
    """Queue *request*, hidden for *after* seconds. Raises: Transient."""
    await queues.send(SWEEPS, [build_sweep_message(request)], hidden=after)


@dataclass
class Rounds:
    """Queues requests for sweeps. It sweeps nothing itself."""

    wanted: Callable[[], Awaitable[Sequence[str]]]
    bookings: BookingOrder
    queues: Queues
    ledger: Expiring
    memory: RoundMemory
    now: Callable[[], datetime]
    mailboxes_at_once: int = MAILBOXES_AT_ONCE
    purge_for: float = PURGE_FOR

    async def ask(self, mailbox: str, after: float = 0.0, origin: Origin | None = None) -> None:
        """Queue the request to sweep *mailbox* after a gap in its notifications, hidden for *after* seconds.

        Raises: Transient.
        """
        await ask(self.queues, SweepRequest(mailbox, origin=origin, after_gap=True), after)

    async def ask_nightly(self) -> int:
        """Queue a round, unless one ended in these hours; return how many mailboxes.

        Example: the timer comes at 2:23, 3:23 and 4:23. At 2:23 the queue refused, so nothing is remembered. At 3:23
        all mailboxes are queued. At 4:23 there is nothing to do. Afterwards the ledger forgets expired rows.
        Raises: as ``ask_all`` does.
        """
        is_done = does_for_now(await self.memory.last_round(), self.now())
        count = 0 if is_done else await self.ask_all()
        await self._purge()
        return count

    async def ask_all(self, within: float = BUDGET, after_gap: bool = False) -> int:
        """Queue a request for each wanted mailbox *within* seconds, the most imminent bookings first; return how many.

        *after_gap* says that notifications of any mailbox may have been lost.

        Messages are hidden so that sweeps are spread over time. An interrupted round is queued again from the start:
        a mailbox that is swept twice takes no harm.
        Raises: Transient if not all of them could be queued; Refused if mailboxes cannot be listed.
        """
        begun, wanted = self.now(), await self.wanted()
        mailboxes = in_order(wanted, await self._by_start(wanted))
        await self._queue(mailboxes, within, after_gap)
        await self.memory.remember_round(begun)
        log.info("sweep of all mailboxes queued mailboxes=%d", len(mailboxes))
        return len(mailboxes)

    async def _queue(self, mailboxes: Sequence[str], within: float, after_gap: bool) -> None:
        clock = asyncio.get_running_loop().time
        ends = clock() + within
        for place in range(0, len(mailboxes), self.mailboxes_at_once):
            if clock() > ends:
                raise Transient("the sweeps of all mailboxes took too long to queue")
            due = mailboxes[place : place + self.mailboxes_at_once]
            messages = [build_sweep_message(SweepRequest(mailbox, after_gap=after_gap)) for mailbox in due]
            await self.queues.send(SWEEPS, messages, hidden=place // MAILBOXES_PER_SECOND)

    async def _by_start(self, wanted: Sequence[str]) -> Sequence[str]:
        """Return *wanted* in the order of their next bookings; nothing if Dataverse cannot tell in time.

        Raises: Misconfigured.
        """
        now = self.now()
        try:
            async with asyncio.timeout(ORDER_WITHIN):
                return await self.bookings.by_start(wanted, Span.of(now, now + AHEAD))
        except (TimeoutError, Transient, Refused, Malformed) as error:
            log.warning("mailboxes are swept in no order error=%s", type(error).__name__)
            return []

    async def _purge(self) -> None:
        clock = asyncio.get_running_loop().time
        ends = clock() + self.purge_for
        try:
            count = await self.ledger.purge(self.now(), lambda: clock() > ends)
        except SyncError as error:
            log.warning("the ledger was not purged error=%s reason=%r", type(error).__name__, str(error))
        else:
            log.info("purged the ledger rows=%d", count)


def does_for_now(last: datetime | None, now: datetime) -> bool:
    """Say whether the *last* round that ended had begun lately enough to count as this night's."""
    return last is not None and -SKEW <= now - last <= LASTS


def in_order(wanted: Collection[str], by_start: Sequence[str]) -> list[str]:
    """Return the *wanted* mailboxes in the order of *by_start*; mailboxes that it does not name come last."""
    known = frozenset(wanted)
    return [*(each for each in by_start if each in known), *sorted(known.difference(by_start))]
