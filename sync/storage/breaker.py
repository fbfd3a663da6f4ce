"""How many bookings may be canceled in an hour, per mailbox and in all; beyond that a person has to say so.

Each cancellation is counted before it is made, so that no two workers can pass the ceiling side by side. The rows
hold ids and times only, and stand in the ledger's table. This file cancels nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sync.ids import short_id_of
from sync.model import Tripped
from sync.storage.tables import StorageTable, written_at
from sync.times import as_plain

WINDOW = timedelta(hours=1)
_KEPT = timedelta(days=1)

EVERYBODY = "all"
"""Stands for all mailboxes together."""


@dataclass
class Breaker:
    """Counts, and stays tripped. All methods raise Transient if storage cannot be reached."""

    table: StorageTable
    per_mailbox: int
    in_all: int

    async def tripped(self) -> Sequence[Tripped]:
        """Return the scopes in which nothing is canceled now."""
        rows = self.table.query("PartitionKey eq @p and count gt 0", {"p": "breaker"})
        return [Tripped(str(row["RowKey"]), as_plain(row["at"]), int(row["count"])) async for row in rows]

    async def refuses(self, mailbox: str, event_id: str, now: datetime) -> str | None:
        """Return why a booking of *mailbox* must not be canceled now, None if it may; the same event counts once."""
        found = {each.scope for each in await self.tripped()}
        if not found.isdisjoint({mailbox, EVERYBODY}):
            return _reason(EVERYBODY if EVERYBODY in found else mailbox)
        await self.table.put(
            {
                "PartitionKey": "cancellation",
                "RowKey": f"{mailbox}.{short_id_of(event_id)}",
                "mailbox": mailbox,
                "at": now,
                "expires": now + _KEPT,
            }
        )
        since = await self._reset_times()
        mine = everybodys = 0
        async for row in self.table.query(
            "PartitionKey eq @p and at gt @since", {"p": "cancellation", "since": now - WINDOW}
        ):
            at = written_at(row)
            everybodys += at > since.get(EVERYBODY, at - WINDOW)
            mine += row["mailbox"] == mailbox and at > since.get(mailbox, at - WINDOW)
        for scope, count, ceiling in ((EVERYBODY, everybodys, self.in_all), (mailbox, mine, self.per_mailbox)):
            if count > ceiling:
                await self.table.put({"PartitionKey": "breaker", "RowKey": scope, "at": now, "count": count})
                return _reason(scope)
        return None

    async def reset(self, scope: str, now: datetime) -> None:
        """Let bookings be canceled again; what was counted before does not count any more, by storage's clock."""
        await self.table.put({"PartitionKey": "breaker", "RowKey": scope, "at": now, "count": 0})

    async def _reset_times(self) -> dict[str, datetime]:
        rows = self.table.query("PartitionKey eq @p and count eq 0", {"p": "breaker"})
        return {str(row["RowKey"]): written_at(row) async for row in rows}


def _reason(scope: str) -> str:
    whose = "in all" if scope == EVERYBODY else "of this mailbox"
    return f"too many bookings {whose} were to be canceled within an hour"
