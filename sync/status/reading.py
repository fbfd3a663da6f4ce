"""Gathers what the status is made of, from storage alone, side by side; what cannot be read is named in its place.

Neither Graph nor Dataverse is asked, so that looking costs them nothing and works while they do not.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from sync.errors import SyncError
from sync.messages.codec import LIFECYCLE, OUTLOOK_CHANGES, SWEEPS
from sync.model import SyncMode, Tripped
from sync.pairs.entry import Entry
from sync.status.figures import HOURS, Backlog, Gathered
from sync.status.findings import Status, build_status
from sync.subscriptions.standing import Roster, brought_up_to_date
from sync.telemetry.counters import HOUR, Figures, hour_of

HELD_ROWS = 30
"""Holds that are read, each by a call of its own. Fewer show too little; more slow the page."""

T = TypeVar("T")


class Counters(Protocol):
    """The counts of all processes. All methods raise Transient."""

    async def shut_out(self) -> tuple[datetime, str] | None:
        """When a service refused the whole app last, and why."""

    async def failure(self) -> tuple[datetime, str] | None:
        """When and why a run of the subscriptions came to nothing."""

    async def hours(self, since: datetime) -> Mapping[datetime, Counter[str]]:
        """The counts by hour."""

    async def roster(self) -> Roster | None:
        """How the last run left the mailboxes."""

    async def of_mailboxes(self, since: datetime) -> Figures:
        """When Graph notified of each mailbox last, and when each was swept."""


class Held(Protocol):
    """The memory of pairs, as far as holds go."""

    async def some_held(self, at_most: int) -> tuple[Sequence[Entry], int]:
        """Some of the pairs that are held, and how many more there may be. Raises: Transient."""


class Breaker(Protocol):
    """Counts cancellations."""

    async def tripped(self) -> Sequence[Tripped]:
        """The scopes in which nothing is canceled now. Raises: Transient."""


class Deployed(Protocol):
    """A deployment, as it is noted in the storage."""

    @property
    def name(self) -> str:
        """The environment and the notification URL."""

    @property
    def seen(self) -> datetime:
        """When it noted itself last."""


class Ownership(Protocol):
    """Whose the storage account is."""

    async def known(self) -> tuple[Deployed | None, Deployed | None]:
        """The owner, and the deployment that was refused last. Raises: Transient."""


class Queues(Protocol):
    """The queues, as far as their lengths go."""

    async def backlog(self, queue: str) -> tuple[int, datetime | None]:
        """How many messages *queue* holds, and since when the oldest can be seen. Raises: Transient."""


@dataclass
class Overview:
    """Reads all that the status is built from, side by side."""

    counters: Counters
    ledger: Held
    breaker: Breaker
    queues: Queues
    now: Callable[[], datetime]
    ownership: Ownership
    mode: SyncMode = SyncMode.SYNC

    async def read(self) -> Status:
        """The status now. A part that cannot be read is named in it."""
        now = self.now()
        unread: list[str] = []

        async def tried(what: str, work: Awaitable[T]) -> T | None:
            try:
                return await work
            except SyncError as error:
                unread.append(f"{what} could not be read: {error}")
                return None

        roster, failures, hours, backlogs, held, tripped = await asyncio.gather(
            tried("The mailboxes", self._roster()),
            tried("The last failures", asyncio.gather(self.counters.failure(), self.counters.shut_out())),
            tried("The counts", self.counters.hours(hour_of(now) - HOUR * (HOURS - 1))),
            tried("The queues", asyncio.gather(*map(self._backlog, (OUTLOOK_CHANGES, LIFECYCLE, SWEEPS)))),
            tried("The holds", self.ledger.some_held(HELD_ROWS)),
            tried("The breaker", self.breaker.tripped()),
        )
        failure, shut_out = failures or (None, None)
        refused = await tried("The owner of the storage", self._refused(now)) or ""
        found = Gathered(
            roster, failure, hours or {}, shut_out, refused, backlogs, held, tripped, sorted(unread), self.mode
        )
        # With thousands of mailboxes this takes long enough for an acknowledgement to notice.
        return await asyncio.to_thread(build_status, found, now)

    async def _refused(self, now: datetime) -> str:
        """The deployment that was refused lately, and the owner; empty if none was."""
        owner, refused = await self.ownership.known()
        if owner is None or refused is None or now - refused.seen > timedelta(hours=2):
            return ""
        return f"{owner.name} works with it, {refused.name} is refused"

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
