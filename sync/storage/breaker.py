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
from sync.storage.tables import Row, StorageTable, written_at
from sync.times import as_plain

WINDOW = timedelta(hours=1)
_KEPT = timedelta(days=1)

_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, OverflowError)

UNREADABLE_COUNT = 1
"""Stands for the count in a row that cannot be read: nothing is canceled until a person has reset the breaker."""

EVERYBODY = "all"
"""Stands for all mailboxes together."""


@dataclass
class Breaker:
    """Counts, and stays tripped. All methods raise Transient if storage cannot be reached."""

    table: StorageTable
    per_mailbox: int
    in_all: int

    async def tripped(self) -> Sequence[Tripped]:
        """Return the scopes in which nothing is canceled now. A row that somebody damaged counts as one."""
        return [each for each in await self._rows() if each.count > 0]

    async def refuses(self, mailbox: str, event_id: str, now: datetime) -> str | None:
        """Return why a booking of *mailbox* must not be canceled now, None if it may; the same event counts once."""
        rows = await self._rows()
        found = {each.scope for each in rows if each.count > 0}
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
        since = {each.scope: each.at for each in rows}
        mine = everybodys = 0
        async for row in self.table.query(
            "PartitionKey eq @p and at gt @since", {"p": "cancellation", "since": now - WINDOW}
        ):
            at = written_at(row)
            everybodys += at > since.get(EVERYBODY, at - WINDOW)
            mine += str(row["RowKey"]).startswith(f"{mailbox}.") and at > since.get(mailbox, at - WINDOW)
        for scope, count, ceiling in ((EVERYBODY, everybodys, self.in_all), (mailbox, mine, self.per_mailbox)):
            if count > ceiling:
                await self.table.put({"PartitionKey": "breaker", "RowKey": scope, "at": now, "count": count})
                return _reason(scope)
        return None

    async def reset(self, scope: str, now: datetime) -> None:
        """Let bookings be canceled again; what was counted before does not count any more, by storage's clock."""
        await self.table.put({"PartitionKey": "breaker", "RowKey": scope, "at": now, "count": 0})

    async def _rows(self) -> list[Tripped]:
        """Every scope that tripped or was reset once: with a count of 0, it was reset at that time."""
        rows = self.table.query("PartitionKey eq @p", {"p": "breaker"})
        return [_parsed(row) async for row in rows]


def _parsed(row: Row) -> Tripped:
    scope = str(row["RowKey"])
    try:
        count = int(row["count"])
        if count < 0:
            raise ValueError("a negative count")
        return Tripped(scope, as_plain(row["at"]) if count else written_at(row), count)
    except _UNREADABLE:
        return Tripped(scope, written_at(row), UNREADABLE_COUNT)


def _reason(scope: str) -> str:
    whose = "in all" if scope == EVERYBODY else "of this mailbox"
    return f"too many bookings {whose} were to be canceled within an hour"
