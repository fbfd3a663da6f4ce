"""The ledger in a table of the app's storage account: one partition for each mailbox, one row for each event.

Beside an event's row stands its queued note: when a message about it that waits on the queue can be seen. A pair that
is held has one row more, so that it is found without looking at all others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from sync.errors import SyncError
from sync.intake.coalescing import Notified
from sync.messages.changes import Change
from sync.pairs.entry import Entry, Held, Kind
from sync.pairs.reasons import HoldKind
from sync.storage.ledger_rows import SETTLED, UNKNOWN, entry_of, key_of, known_of, row_of
from sync.storage.tables import Row, StorageTable, etag_of, written_at

TABLE = "ledger"

AT_ONCE = 32

PURGED_AT_ONCE = 1_000
"""Rows, one page of the service's."""

_TOGETHER = 100
"""Rows of one partition that one request deletes. Source: Azure Storage, "Performing entity group transactions"."""

_NOTE_KEPT = timedelta(days=1)

_LOOKED_AT = ["RowKey", "Timestamp", "written", "kind", "versions", "expires", "extension"]
_LOOKED_AT += ["due", "deleted", "settle", "streak"]


class LedgerTable:
    """Entries guarded by their etags. All methods raise Transient if storage cannot be reached."""

    def __init__(
        self, table: StorageTable, now: Callable[[], datetime] = lambda: datetime.now(UTC), extension: str = ""
    ) -> None:
        """*extension* names what makes an event ours: under another name, what was nobody's may be ours."""
        self._table = table
        self._now = now
        self._extension = extension
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def read(self, mailbox: str, event_id: str) -> Entry:
        """A new one if nothing is known of the event."""
        row = await self._table.get(mailbox, key_of(event_id))
        blank = Entry(mailbox, event_id)
        return blank if row is None else self._parsed(row, blank) or replace(blank, etag=etag_of(row))

    def _parsed(self, row: Row, blank: Entry) -> Entry | None:
        """The entry in *row*, None if it cannot be read; *blank*, to be written over it, if it is out of date."""
        entry = entry_of(row, blank)
        if entry is not None and entry.kind is Kind.NOT_OURS and row.get("extension", "") != self._extension:
            return replace(blank, etag=entry.etag)
        return entry

    async def write(self, entry: Entry) -> Entry:
        """Store *entry*. Raises: Stale if somebody else has since it was read."""
        row = row_of(entry) | {"written": self._now()}
        if entry.kind is Kind.NOT_OURS:
            row["extension"] = self._extension
        if entry.held is not None:
            # First, so that no crash can leave something held that nobody is shown.
            await self._table.put(
                {"PartitionKey": "held", "RowKey": _held_key(entry), "mailbox": entry.mailbox, "event": entry.event_id}
            )
        etag = await (self._table.insert(row) if entry.is_new else self._table.replace(row, entry.etag))
        return replace(entry, etag=etag)

    async def held(self, now: datetime) -> AsyncIterator[Entry]:
        """All entries that are held or waiting. A row whose pair is not held any more is deleted on the way."""
        async for page in _pages(self._table.query("PartitionKey eq @p", {"p": "held"}), AT_ONCE):
            entries = await asyncio.gather(*map(self._of_index, page))
            for row, entry in zip(page, entries, strict=True):
                if entry.held is not None:
                    yield entry
                elif now - written_at(row) > SETTLED:  # else its entry may be about to be written
                    await self._table.delete_if_unchanged(row)

    async def some_held(self, at_most: int) -> tuple[Sequence[Entry], int]:
        """Some of the entries that are held or waiting, read side by side, and how many more there may be."""
        rows = [row async for row in self._table.query("PartitionKey eq @p", {"p": "held"})]
        turns = asyncio.Semaphore(AT_ONCE // 2)  # not those that acknowledgements wait for

        async def read(row: Row) -> Entry:
            async with turns:
                return await self._of_index(row)

        entries = await asyncio.gather(*map(read, rows[:at_most]))
        return [entry for entry in entries if entry.held is not None], max(0, len(rows) - at_most)

    async def _of_index(self, row: Row) -> Entry:
        """The entry that a row of the index of holds stands for. One that cannot be read is shown as damaged."""
        mailbox, _, key = str(row["RowKey"]).partition(".")
        stored = await self._table.get(mailbox, key)
        blank = Entry(mailbox, str((stored or row).get("event") or row.get("event") or key))
        entry = blank if stored is None else self._parsed(stored, blank)
        if entry is not None:
            return entry
        return replace(blank, etag=etag_of(stored or row), held=Held(HoldKind.DAMAGED, written_at(row), ""))

    async def of_mailbox(self, mailbox: str) -> Sequence[Entry]:
        """All entries of the mailbox's events."""
        return [entry async for entry in self._entries("PartitionKey eq @p", p=mailbox)]

    async def find(self, booking_or_event: str, mailbox: str | None = None) -> Sequence[Entry]:
        """All entries of a booking or an event; has the whole table read where no *mailbox* is named."""
        named = {"b": booking_or_event.lower(), "k": key_of(booking_or_event)}
        if mailbox is None:
            return [entry async for entry in self._entries("booking eq @b or RowKey eq @k", **named)]
        # The library knows names between blanks only, so there are no parentheses.
        where = "PartitionKey eq @p and booking eq @b or PartitionKey eq @p and RowKey eq @k"
        return [entry async for entry in self._entries(where, p=mailbox, **named)]

    async def observed(self, since: datetime) -> Sequence[Entry]:
        """All entries with a write that was not sent *since* then, as the app only observed; reads the whole table."""
        return [entry async for entry in self._entries("observed ge @t", t=since)]

    async def _entries(self, where: str, **values: Any) -> AsyncIterator[Entry]:
        # A kind is a text of a type of its own, which the library does not know.
        plain = {name: value if isinstance(value, datetime) else str(value) for name, value in values.items()}
        async for row in self._table.query(where, plain):
            if "entry" in row and "event" in row:
                entry = self._parsed(row, Entry(str(row["PartitionKey"]), str(row["event"])))
                if entry is not None and not entry.is_new:
                    yield entry

    async def purge(self, now: datetime, until: Callable[[], bool]) -> int:
        """Delete expired rows, as long as *until* does not say stop; how many. A row written meanwhile stays."""
        count = 0
        rows = self._table.query("expires lt @now", {"now": now}, ["PartitionKey", "RowKey"])
        turns = asyncio.Semaphore(AT_ONCE)

        async def forget(group: Sequence[Row]) -> int:
            async with turns:
                return await self._table.delete_all_unchanged(group)

        async for page in _pages(rows, PURGED_AT_ONCE):
            if until():
                break
            count += sum(await asyncio.gather(*map(forget, _together(page))))
        return count

    async def look(self, changes: Sequence[Change], within: float) -> Sequence[Notified]:
        """The knowledge of each one's event; nothing of those that cannot be asked *within* so many seconds."""
        looks = [asyncio.ensure_future(self._look(change)) for change in changes]
        if not looks:
            return []
        done, late = await asyncio.wait(looks, timeout=within)
        for look in late:
            look.cancel()
        return [look.result() if look in done else UNKNOWN for look in looks]

    async def _look(self, change: Change) -> Notified:
        now: list[datetime] = []
        key = key_of(change.event_id)
        known = UNKNOWN
        with suppress(SyncError):
            async with self._turns:
                rows = self._table.query(
                    "PartitionKey eq @p and RowKey ge @k and RowKey le @m",
                    {"p": change.mailbox, "k": key, "m": _note_key(key)},
                    _LOOKED_AT,
                    raw_response_hook=lambda response: now.append(_date(response.http_response.headers.get("Date"))),
                )
                async for row in rows:
                    known = known_of(row, key, known, self._extension)
        return replace(known, at=now[0]) if now else UNKNOWN

    async def queued(self, change: Change, due: datetime, settle: int, streak: int) -> None:
        """Note that a message is on the queue, hidden until *due*; failing that costs one run more."""
        with suppress(SyncError):
            async with self._turns:
                await self._table.put(
                    {
                        "PartitionKey": change.mailbox,
                        "RowKey": _note_key(key_of(change.event_id)),
                        "due": due,
                        "deleted": change.is_deletion,
                        "settle": settle,
                        "streak": streak,
                        "expires": due + _NOTE_KEPT,
                    }
                )

    async def close(self) -> None:
        """Close the client."""
        await self._table.close()


def _note_key(key: str) -> str:
    return f"{key}.due"


def _held_key(entry: Entry) -> str:
    return f"{entry.mailbox}.{key_of(entry.event_id)}"


async def _pages(rows: AsyncIterator[Row], size: int) -> AsyncIterator[Sequence[Row]]:
    page: list[Row] = []
    async for row in rows:
        page.append(row)
        if len(page) == size:
            yield page
            page = []
    if page:
        yield page


def _together(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """*rows*, which come in order, in groups that one request deletes."""
    for _, group in groupby(rows, key=itemgetter("PartitionKey")):
        partition = [*group]
        for place in range(0, len(partition), _TOGETHER):
            yield partition[place : place + _TOGETHER]


def _date(header: str | None) -> datetime:
    return parsedate_to_datetime(header or "").astimezone(UTC)
