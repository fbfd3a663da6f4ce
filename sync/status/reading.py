"""Gathers what the status is made of, from storage alone, side by side; what cannot be read is named in its place.

Neither Graph nor Dataverse is asked, so that looking costs them nothing and works while they do not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sync.errors import SyncError
from sync.messages.codec import LIFECYCLE, OUTLOOK_CHANGES, SWEEPS
from sync.model import SyncMode
from sync.status.figures import HOURS, Backlog, Gathered
from sync.status.findings import Status, build_status
from sync.storage.breaker import Breaker
from sync.storage.counters import CounterTable
from sync.storage.ledger import LedgerTable
from sync.storage.queues import StorageQueues
from sync.subscriptions.standing import Roster, brought_up_to_date
from sync.telemetry.counters import HOUR, hour_of

HELD_ROWS = 30
"""So many entries that are held are read; each is a call of its own."""

T = TypeVar("T")


@dataclass
class Overview:
    counters: CounterTable
    ledger: LedgerTable
    breaker: Breaker
    queues: StorageQueues
    now: Callable[[], datetime]
    mode: SyncMode = SyncMode.SYNC

    async def read(self) -> Status:
        now = self.now()
        unread: list[str] = []

        async def tried(what: str, work: Awaitable[T]) -> T | None:
            try:
                return await work
            except SyncError as error:
                unread.append(f"{what} could not be read: {error}")
                return None

        roster, failure, hours, backlogs, held, tripped = await asyncio.gather(
            tried("The mailboxes", self._roster()),
            tried("The last failure of the roster", self.counters.failure()),
            tried("The counts", self.counters.hours(hour_of(now) - HOUR * (HOURS - 1))),
            tried("The queues", asyncio.gather(*map(self._backlog, (OUTLOOK_CHANGES, LIFECYCLE, SWEEPS)))),
            tried("The holds", self.ledger.some_held(HELD_ROWS)),
            tried("The breaker", self.breaker.tripped()),
        )
        found = Gathered(roster, failure, hours or {}, backlogs, held, tripped, sorted(unread), self.mode)
        # With thousands of mailboxes this takes long enough for an acknowledgement to notice.
        return await asyncio.to_thread(build_status, found, now)

    async def _roster(self) -> Roster | None:
        roster = await self.counters.roster()
        if roster is None:
            return None
        return brought_up_to_date(roster, await self.counters.of_mailboxes(roster.counted_from))

    async def _backlog(self, queue: str) -> Backlog:
        (messages, oldest), (parked, _) = await asyncio.gather(
            self.queues.backlog(queue), self.queues.backlog(f"{queue}-poison")
        )
        return Backlog(queue, messages, oldest, parked)
