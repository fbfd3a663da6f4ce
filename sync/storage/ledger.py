"""The ledger in a table of the app's storage account: one partition for each mailbox, one row for each event.

Beside an event's row stands its queued note: when a message about it that waits on the queue can be seen. A pair that
is held has one row more, so that it is found without looking at all others.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sync.errors import SyncError
from sync.intake.coalescing import Notified
from sync.messages.changes import Change
from sync.pairs.entry import Entry, Kind
from sync.pairs.observing import last_left_out
from sync.storage.tables import Row, StorageTable, etag_of, written_at

TABLE = "ledger"

AT_ONCE = 32

PURGED_AT_ONCE = 1_000
"""Rows, one page of the service's."""

_TOGETHER = 100
"""Rows of one partition that one request deletes. Source: Azure Storage, "Performing entity group transactions"."""

_NOTE_KEPT = timedelta(days=1)

_SETTLED = timedelta(hours=1)
"""Time after which a worker that was about to write an entry has done so, or died; no two clocks differ by more."""

_LOOKED_AT = ["RowKey", "Timestamp", "written", "kind", "versions", "expires", "due", "deleted", "settle", "streak"]


class LedgerTable:
    """Entries guarded by their etags. All methods raise Transient if storage cannot be reached."""

    def __init__(self, table: StorageTable, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._table = table
        self._now = now
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def read(self, mailbox: str, event_id: str) -> Entry:
        """A new one if nothing is known of the event."""
        row = await self._table.get(mailbox, key_of(event_id))
        return Entry(mailbox, event_id) if row is None else _entry(row, Entry(mailbox, event_id))

    async def write(self, entry: Entry) -> Entry:
        """Store *entry*. Raises: Stale if somebody else has since it was read."""
        row = _row(entry) | {"written": self._now()}
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
            entries = await asyncio.gather(*(self.read(str(row["mailbox"]), str(row["event"])) for row in page))
            for row, entry in zip(page, entries, strict=True):
                if entry.held is not None:
                    yield entry
                elif now - written_at(row) > _SETTLED:  # else its entry may be about to be written
                    await self._table.delete_if_unchanged(row)

    async def some_held(self, at_most: int) -> tuple[Sequence[Entry], int]:
        """Some of the entries that are held or waiting, read side by side, and how many more there may be."""
        rows = [row async for row in self._table.query("PartitionKey eq @p", {"p": "held"})]
        turns = asyncio.Semaphore(AT_ONCE // 2)  # not those that acknowledgements wait for

        async def read(row: Row) -> Entry:
            async with turns:
                return await self.read(str(row["mailbox"]), str(row["event"]))

        entries = await asyncio.gather(*map(read, rows[:at_most]))
        return [entry for entry in entries if entry.held is not None], max(0, len(rows) - at_most)

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
                entry = _entry(row, Entry(str(row["PartitionKey"]), str(row["event"])))
                if not entry.is_new:
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
                    known = _known(row, key, known)
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


UNKNOWN = Notified(datetime.min.replace(tzinfo=UTC))


def key_of(event_id: str) -> str:
    """Fit for a row's key, whatever the id holds. Source: Azure Storage, "Table service data model"."""
    return hashlib.sha256(event_id.encode()).hexdigest()[:40]


def _note_key(key: str) -> str:
    return f"{key}.due"


def _held_key(entry: Entry) -> str:
    return f"{entry.mailbox}.{key_of(entry.event_id)}"


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "PartitionKey": entry.mailbox,
        "RowKey": key_of(entry.event_id),
        "event": entry.event_id,
        "booking": entry.booking_id or "",
        "kind": entry.kind.value,
        "versions": "\n".join(entry.versions),
        "expires": entry.expires,
        **({"observed": observed.at} if (observed := last_left_out(entry)) is not None else {}),
        "entry": _adapter().dump_json(entry, exclude={"etag"}, exclude_defaults=True).decode(),
    }


def _entry(row: Row, blank: Entry) -> Entry:
    """The entry in *row*; *blank*, to be written over it, if it is a copy, or another version of this app wrote it."""
    etag = etag_of(row)
    if _is_copy(row):
        return replace(blank, etag=etag)
    try:
        entry = _adapter().validate_json(str(row["entry"]))
    except (ValidationError, KeyError):
        return replace(blank, etag=etag)
    return replace(entry if entry.event_id == blank.event_id else blank, etag=etag)


def _is_copy(row: Row) -> bool:
    """Whether somebody put an old row back: what both sides agreed on then, and people said, may not be so any more.

    Storage stamps a row when it is stored, the app stamped it when it wrote it.
    """
    written = row.get("written")
    return not isinstance(written, datetime) or written_at(row) - written > _SETTLED


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


@cache
def _adapter() -> TypeAdapter[Entry]:
    return TypeAdapter(Entry)


def _known(row: Row, key: str, known: Notified) -> Notified:
    """*known* with what one of the two rows of an event tells; nothing if it is not as we write it."""
    with suppress(KeyError, TypeError, ValueError, AttributeError):
        if row["RowKey"] == key:
            if _is_copy(row):
                return known
            versions = frozenset(filter(None, str(row["versions"]).split("\n")))
            return replace(known, kind=Kind(row["kind"]), versions=versions, expires=_plain(row["expires"]))
        return replace(
            known,
            due=_plain(row["due"]),
            due_is_deletion=bool(row["deleted"]),
            settle=int(row["settle"]),
            streak=int(row["streak"]),
        )
    return known


def _plain(moment: datetime) -> datetime:
    """Without the library's own kind of datetime."""
    return datetime.fromtimestamp(moment.timestamp(), UTC)


def _date(header: str | None) -> datetime:
    return parsedate_to_datetime(header or "").astimezone(UTC)
