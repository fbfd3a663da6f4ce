"""Counts for one process, and has the counts stored a minute after the first of them, by a task of its own.

Trouble with that is logged and goes no further, so that counting neither fails nor slows a change. No storage client
is imported before there is something to store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence, Set
from contextvars import Context
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

from sync.errors import SyncError
from sync.telemetry import spans as telemetry
from sync.telemetry.counters import SPENT, Figures, Tally

if TYPE_CHECKING:
    from sync.subscriptions.standing import Roster, Standing

log = logging.getLogger(__name__)

FLUSH_AFTER = 60.0
"""Seconds after the first count until it is stored. Fewer cost calls of storage; more are lost if the process dies."""

PURGE_WITHIN = 30.0
"""Seconds to delete old counts. Fewer leave some to the next night; more hold up the sweep."""


class Counters(Protocol):
    """The table of counts. All methods raise Transient."""

    async def put(self, process: str, hour: datetime, figures: Figures) -> None:
        """Store the counts of one process and hour."""

    async def roster(self) -> Roster | None:
        """How the last run left the mailboxes."""

    async def of_mailboxes(self, since: datetime) -> Figures:
        """When Graph notified of each mailbox last, and when each was swept."""

    async def put_roster(self, roster: Roster) -> None:
        """Store how a run left the mailboxes."""

    async def put_failure(self, at: datetime, reason: str) -> None:
        """Store why a run came to nothing."""

    async def put_shut_out(self, at: datetime, reason: str) -> None:
        """Store that a service refused the whole app."""

    async def purge(self, now: datetime, until: Callable[[], bool]) -> int:
        """Delete old counts, as long as *until* does not say stop; how many rows."""


class Counting:
    """Counts for one process; *table* is asked for when there is something to store."""

    def __init__(self, table: Callable[[], Counters], now: Callable[[], datetime]) -> None:
        self._table = table
        self._now = now
        self._tally = Tally()
        self._process = uuid4().hex
        self._flushing: asyncio.Task[None] | None = None
        self._shut_out: datetime | None = None
        """When this process stored last that a service refused the whole app."""

    def spent(self, service: str) -> None:
        """A call is about to be sent."""
        self.count({SPENT + service: 1})

    def count(self, counts: Mapping[str, int], notified: Set[str] = frozenset()) -> None:
        """Add *counts*, and note that Graph notified of the mailboxes *notified* just now."""
        self._tally.add(self._now(), counts, notified)
        telemetry.counted(counts, bool(notified))
        self._flush_later()

    def swept(self, mailbox: str, differences: int) -> None:
        """Note that *mailbox* was swept just now, and how many differences there were."""
        self._tally.swept(self._now(), mailbox, differences)
        self._flush_later()

    def _flush_later(self) -> None:
        loop = asyncio.get_running_loop()
        if self._flushing is None or self._flushing.done() or self._flushing.get_loop() is not loop:
            # Not as a part of what is being done, and traced, just now.
            self._flushing = loop.create_task(self._flush_in(FLUSH_AFTER), context=Context())

    async def _flush_in(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.flush()

    async def flush(self) -> None:
        """Store what is not stored yet, as far as that is possible."""
        for hour, figures in self._tally.take():
            try:
                await self._table().put(self._process, hour, figures)
            except SyncError as error:
                self._tally.put_back(hour)
                log.warning("counts are not stored yet reason=%r", str(error))
                break
        self._tally.forget(self._now())

    async def roster_kept(self, standings: Sequence[Standing]) -> None:
        """Store how the mailboxes stand, with what all processes have heard of them."""
        from sync.subscriptions.standing import next_roster

        await self.flush()
        now = self._now()
        try:
            table = self._table()
            before = await table.roster()
            figures = await table.of_mailboxes(before.counted_from if before else now)
            await table.put_roster(next_roster(now, standings, before, figures))
        except SyncError as error:
            log.warning("how the mailboxes stand is not stored reason=%r", str(error))

    async def roster_failed(self, reason: str) -> None:
        """Store why a run of the subscriptions came to nothing."""
        try:
            await self._table().put_failure(self._now(), reason)
        except SyncError as error:
            log.warning("why the roster failed is not stored reason=%r", str(error))

    async def shut_out(self, reason: str) -> None:
        """Store that a service refused the whole app just now; at most once a minute, as each change meets it."""
        now = self._now()
        if self._shut_out is not None and now - self._shut_out < timedelta(seconds=FLUSH_AFTER):
            return
        self._shut_out = now
        try:
            await self._table().put_shut_out(now, reason)
        except SyncError as error:
            log.warning("that a service refuses the app is not stored reason=%r", str(error))

    async def purge(self) -> None:
        """Forget what nobody asks for any more."""
        ends = asyncio.get_running_loop().time() + PURGE_WITHIN
        try:
            await self._table().purge(self._now(), lambda: asyncio.get_running_loop().time() > ends)
        except SyncError as error:
            log.warning("old counts are not deleted reason=%r", str(error))

    def close(self) -> None:
        """Stop waiting for the next time to store."""
        if self._flushing is not None and not self._flushing.get_loop().is_closed():
            self._flushing.cancel()
