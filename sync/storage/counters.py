"""Counters, and how the mailboxes stand, in a table of the app's storage account.

Each process writes a row of its own for each hour, so no process waits for another. The reader adds them up. All
mailboxes fit in one row, as long as there are no more than some 30,000: packed, they take about 30 bytes each, and a
row holds a mebibyte. Source: Azure Storage, "Understanding the Table service data model".
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sync.storage.tables import Row, StorageTable
from sync.subscriptions.standing import Roster, Standing
from sync.telemetry.counters import KEPT, Figures, Swept
from sync.times import as_plain, from_seconds

TABLE = "status"

_CHUNK = 60_000
"""Bytes in one column, which holds 64 KiB. Source: as above."""

_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, IndexError, zlib.error)
"""The errors that a row in another shape leads to, after a person has edited it."""


class CounterTable:
    """All methods raise Transient if storage cannot be reached."""

    def __init__(self, table: StorageTable) -> None:
        self._table = table

    async def put(self, process: str, hour: datetime, figures: Figures) -> None:
        """Store what *process* has counted in this hour so far, in the place of what it stored before."""
        mailboxes = {
            "notified": {mailbox: _seconds(at) for mailbox, at in figures.notified.items()},
            "swept": {mailbox: [_seconds(each.at), each.differences] for mailbox, each in figures.swept.items()},
        }
        await self._table.put(
            {
                "PartitionKey": _partition(hour),
                "RowKey": process,
                "counts": json.dumps(figures.counts),
                "expires": hour + KEPT,
                **(_packed(mailboxes) if any(mailboxes.values()) else {}),
            }
        )

    async def hours(self, since: datetime) -> dict[datetime, Counter[str]]:
        """Return the counts of all processes together, for each hour since *since*."""
        found: dict[datetime, Counter[str]] = {}
        async for row in self._rows(since, ["PartitionKey", "counts"]):
            try:
                hour, counts = _hour(str(row["PartitionKey"])), json.loads(row["counts"])
                found.setdefault(hour, Counter()).update({str(name): int(count) for name, count in counts.items()})
            except _UNREADABLE:
                continue
        return found

    async def of_mailboxes(self, since: datetime) -> Figures:
        """When each mailbox was notified of and swept last, as far as that was after *since*."""
        total = Figures()
        async for row in self._rows(since):
            try:
                known = _unpacked(row) or {"notified": {}, "swept": {}}
                total.add(
                    Figures(
                        notified={mailbox: from_seconds(at) for mailbox, at in known["notified"].items()},
                        swept={mailbox: Swept(from_seconds(at), int(n)) for mailbox, (at, n) in known["swept"].items()},
                    )
                )
            except _UNREADABLE:
                continue
        return total

    async def put_roster(self, roster: Roster) -> None:
        """Store how the mailboxes stand, in the place of the last roster."""
        standings = [
            [each.mailbox, _seconds(each.expires), each.reason, _seconds(each.notified)]
            + ([_seconds(each.swept.at), each.swept.differences] if each.swept else [])
            for each in roster.standings
        ]
        row = {"PartitionKey": "roster", "RowKey": "last", "at": roster.at, "since": roster.since}
        await self._table.put({**row, **_packed(standings)})

    async def roster(self) -> Roster | None:
        """Return how the mailboxes stood last, None if that is unknown or unreadable."""
        row = await self._table.get("roster", "last")
        if row is None:
            return None
        try:
            at, since = as_plain(row["at"]), as_plain(row["since"])
            return Roster(at, since, tuple(_standing(*each) for each in _unpacked(row) or []))
        except _UNREADABLE:
            return None

    async def put_failure(self, at: datetime, reason: str) -> None:
        """Store that the run of the roster at *at* failed."""
        await self._table.put({"PartitionKey": "roster", "RowKey": "failed", "at": at, "reason": reason[:1_000]})

    async def failure(self) -> tuple[datetime, str] | None:
        """Return when the last failed run of the roster was, and why it failed; None if no run has failed."""
        return _failure(await self._table.get("roster", "failed"))

    async def put_shut_out(self, at: datetime, reason: str) -> None:
        """Store that a service refused the whole app at *at*."""
        await self._table.put({"PartitionKey": "services", "RowKey": "refused", "at": at, "reason": reason[:1_000]})

    async def shut_out(self) -> tuple[datetime, str] | None:
        """Return when a service refused the whole app last, and why; None if none has."""
        return _failure(await self._table.get("services", "refused"))

    async def purge(self, now: datetime, until: Callable[[], bool]) -> int:
        """Forget what has expired, as long as *until* does not say stop; how many rows."""
        count = 0
        async for row in self._table.query("expires lt @now", {"now": now}, ["PartitionKey", "RowKey"]):
            if until():
                break
            await self._table.delete(str(row["PartitionKey"]), str(row["RowKey"]))
            count += 1
        return count

    async def close(self) -> None:
        """Close the connection."""
        await self._table.close()

    def _rows(self, since: datetime, columns: list[str] | None = None) -> Any:
        bounds = {"from": _partition(since), "to": "hour~"}
        return self._table.query("PartitionKey ge @from and PartitionKey lt @to", bounds, columns)


def _failure(row: Row | None) -> tuple[datetime, str] | None:
    """None also for a row that cannot be read: the next failure replaces it."""
    if row is None:
        return None
    try:
        return as_plain(row["at"]), str(row["reason"])
    except _UNREADABLE:
        return None


def _partition(hour: datetime) -> str:
    return f"hour {hour.astimezone(UTC):%Y-%m-%dT%H}"


def _hour(partition: str) -> datetime:
    return datetime.strptime(partition, "hour %Y-%m-%dT%H").replace(tzinfo=UTC)


def _packed(value: Any) -> dict[str, bytes]:
    packed = zlib.compress(json.dumps(value, separators=(",", ":")).encode())
    return {f"packed{place // _CHUNK}": packed[place : place + _CHUNK] for place in range(0, len(packed), _CHUNK)}


def _unpacked(row: Row) -> Any:
    columns = [row[f"packed{number}"] for number in range(sum(name.startswith("packed") for name in row))]
    return json.loads(zlib.decompress(b"".join(columns))) if columns else None


def _standing(
    mailbox: str,
    expires: int | None,
    reason: str,
    notified: int | None,
    swept_at: int | None = None,
    differences: int = 0,
) -> Standing:
    return Standing(
        mailbox,
        None if expires is None else from_seconds(expires),
        reason,
        None if notified is None else from_seconds(notified),
        None if swept_at is None else Swept(from_seconds(swept_at), differences),
    )


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
