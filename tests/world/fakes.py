"""A calendar and bookings in memory, as strict about etags as the services, and remembering every write.

Both sides let others act between any two of their steps: each awaits ``pause`` first, which tests use to interleave.
"""

from __future__ import annotations

import operator
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from sync.errors import InvalidId, NoAnswer, NotWritten, Stale, SyncError, Transient
from sync.intake.coalescing import Notified
from sync.messages.changes import Batch, Change, Evidence
from sync.model import Booking, Event, Span
from sync.pairs.actions import Action, CancelBooking, Hold, LinkBooking, MoveBooking, UnlinkBooking, Write
from sync.pairs.entry import Entry
from sync.subscriptions.outages import LastRun, Made, Trouble, next_trouble

ANNA = "11111111-1111-4111-8111-111111111111"
BEN = "22222222-2222-4222-8222-222222222222"
NOW = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
APP, DISPATCHER = "app", "dispatcher"
"""Who wrote a booking last."""


def span(hour: float, hours: float = 1, day: int = 0) -> Span:
    """From *hour* o'clock of NOW's day, or so many days later."""
    start = NOW.replace(hour=0) + timedelta(days=day, hours=hour)
    return Span(start, start + timedelta(hours=hours))


def evidence_of(is_deletion: bool) -> Evidence:
    """What a notification tells."""
    return Evidence.TOLD if is_deletion else Evidence.NONE


def waits(action: Action) -> bool:
    """Whether the pair waits for Outlook to follow."""
    return isinstance(action, Hold) and action.is_waiting


async def at_once() -> None:
    return None


@dataclass
class Calendars:
    """The events of all mailboxes. A deleted event stays readable where ``stays_readable`` says so."""

    pause: Callable[[], Awaitable[None]] = at_once
    stays_readable: bool = False
    events: dict[str, Event] = field(default_factory=dict)
    owner: dict[str, str] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    aliases: dict[str, str] = field(default_factory=dict)
    """Older forms of ids."""
    trouble: list[SyncError] = field(default_factory=list)
    """Raised by the next reads, first to last."""
    refuses_foreign_ids: bool = False
    """An id of another mailbox is refused as one that no item can have, as Exchange does in some spellings."""
    trouble_of: dict[str, SyncError] = field(default_factory=dict)
    """Raised by every read of an event, by its id."""
    reads: list[str] = field(default_factory=list)

    version: int = 0

    def put(self, mailbox: str, event: Event) -> Event:
        self.version += 1
        self.events[event.id] = replace(event, etag=f'W/"{self.version}"')
        self.owner[event.id] = mailbox
        return self.events[event.id]

    def change(self, event_id: str, **changes: object) -> None:
        self.put(self.owner[event_id], replace(self.events[event_id], **changes))  # type: ignore[arg-type]

    def delete(self, event_id: str) -> None:
        self.deleted.add(event_id)

    def restore(self, event_id: str) -> None:
        self.deleted.discard(event_id)

    def has(self, event_id: str) -> bool:
        return event_id in self.events and event_id not in self.deleted

    async def read(self, mailbox: str, event_id: str) -> Event | None:
        await self.pause()
        self.reads.append(event_id)
        if self.trouble:
            raise self.trouble.pop(0)
        if event_id in self.trouble_of:
            raise self.trouble_of[event_id]
        event_id = self.aliases.get(event_id, event_id)
        self.check_owner(mailbox, event_id)
        if self.owner.get(event_id) != mailbox or (event_id in self.deleted and not self.stays_readable):
            return None
        return self.events[event_id]

    def check_owner(self, mailbox: str, event_id: str) -> None:
        if self.refuses_foreign_ids and self.owner.get(event_id, mailbox) != mailbox:
            raise InvalidId("400 RequestBrokerParseUri")

    async def stands(self, mailbox: str, event_id: str, event: Event | None) -> bool:
        await self.pause()
        self.reads.append(event_id)
        if self.trouble:
            raise self.trouble.pop(0)
        return self.owner.get(event_id) == mailbox and event_id not in self.deleted

    async def with_extension(self, mailbox: str) -> Sequence[Event]:
        return [
            event
            for event in self.events.values()
            if event.has_extension and self.owner[event.id] == mailbox and self.has(event.id)
        ]

    async def in_other_calendars(self, mailbox: str) -> Sequence[Event]:
        return []


@dataclass(frozen=True)
class Answer:
    """To a call: *error*, before or after the write is done; *meanwhile* happens before the app hears of it."""

    error: SyncError
    is_done: bool = False
    meanwhile: Callable[[], object] = lambda: None
    of: str = ""
    """The booking whose write is answered so; of whichever comes first if empty."""


@dataclass
class Table:
    """The bookings. ``written`` holds what the app wrote, in order; people change rows by ``edit``."""

    pause: Callable[[], Awaitable[None]] = at_once
    rows: dict[str, Booking] = field(default_factory=dict)
    written: list[Write] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    version: int = 0
    answer_is_lost: bool = False
    """The next write takes effect, but its answer never arrives."""
    answers: list[Answer] = field(default_factory=list)
    """What the next writes are answered with, first to last; without, a write is done."""
    read_answers: list[Answer] = field(default_factory=list)
    """What the next reads of a booking are answered with."""

    def put(self, booking: Booking) -> Booking:
        """Nobody has touched it since the app linked it, unless it says so."""
        self.version += 1
        written_by = booking.modified_by or APP
        self.rows[booking.id] = replace(booking, etag=f'W/"{self.version}"', modified_by=written_by)
        return self.rows[booking.id]

    def edit(self, booking_id: str, **changes: object) -> Booking:
        return self.put(replace(self.rows[booking_id], modified_by=DISPATCHER, **changes))  # type: ignore[arg-type]

    async def read(self, booking_id: str) -> Booking | None:
        await self.pause()
        self.reads.append(booking_id)
        if self.read_answers:
            answer = self.read_answers.pop(0)
            answer.meanwhile()
            raise answer.error
        return self.rows.get(booking_id)

    async def linked_to(self, event_id: str) -> Sequence[Booking]:
        await self.pause()
        self.reads.append(event_id)
        return [booking for booking in self.rows.values() if booking.event_id == event_id]

    async def is_own(self, booking: Booking) -> bool:
        await self.pause()
        return booking.modified_by == APP

    async def of_mailbox(self, mailbox: str, window: Span) -> Sequence[Booking]:
        return [booking for booking in self.rows.values() if booking.mailbox == mailbox and booking.is_active]

    async def with_ids(self, booking_ids: Sequence[str]) -> Sequence[Booking]:
        return [self.rows[booking_id] for booking_id in booking_ids if booking_id in self.rows]

    async def by_start(self, wanted: Sequence[str], window: Span) -> Sequence[str]:
        starts = {booking.mailbox: booking.span.start for booking in self.rows.values()}
        return sorted((mailbox for mailbox in wanted if mailbox in starts), key=lambda mailbox: starts[mailbox])

    async def write(self, action: Write) -> str:
        await self.pause()
        answer = next((each for each in self.answers if each.of in ("", action.booking_id)), None)
        if answer is not None:
            self.answers.remove(answer)
        if answer is not None and not answer.is_done:
            answer.meanwhile()
            raise answer.error
        row = self.rows.get(action.booking_id)
        if row is None or row.etag != action.etag:
            raise NotWritten(Stale("412"))
        match action:
            case LinkBooking():
                row = replace(row, event_id=action.event_id)
            case UnlinkBooking():
                row = replace(row, event_id=None)
            case CancelBooking():
                row = replace(row, is_canceled=True, event_id=None if action.unlink else row.event_id)
            case MoveBooking():
                row = replace(row, span=action.span, event_id=action.event_id or row.event_id)
        written = self.put(replace(row, modified_by=APP))
        self.written.append(action)
        if answer is not None:
            answer.meanwhile()
            raise answer.error
        if self.answer_is_lost:
            self.answer_is_lost = False
            raise NoAnswer("no answer")
        return written.etag


@dataclass
class LedgerInMemory:
    """Entries with etags; ``is_down`` is a storage account that does not answer."""

    pause: Callable[[], Awaitable[None]] = at_once
    entries: dict[tuple[str, str], Entry] = field(default_factory=dict)
    notes: dict[tuple[str, str], Notified] = field(default_factory=dict)
    now: Callable[[], datetime] = lambda: NOW
    """The storage account's own clock."""
    version: int = 0
    is_down: bool = False

    async def read(self, mailbox: str, event_id: str) -> Entry:
        await self.pause()
        self._check()
        return self.entries.get((mailbox, event_id)) or Entry(mailbox, event_id)

    async def write(self, entry: Entry) -> Entry:
        await self.pause()
        self._check()
        place = (entry.mailbox, entry.event_id)
        if (self.entries[place].etag if place in self.entries else "") != entry.etag:
            raise Stale("somebody else wrote the entry")
        self.version += 1
        self.entries[place] = replace(entry, etag=str(self.version))
        return self.entries[place]

    async def of_mailbox(self, mailbox: str) -> Sequence[Entry]:
        self._check()
        return [entry for entry in self.entries.values() if entry.mailbox == mailbox]

    async def look(self, changes: Sequence[Change], within: float) -> Sequence[Notified]:
        return [self._look(change) for change in changes]

    def _look(self, change: Change) -> Notified:
        place = (change.mailbox, change.event_id)
        known = self.notes.get(place) or Notified(NOW)
        entry = self.entries.get(place)
        if self.is_down:
            return Notified(NOW)
        if entry is not None:
            known = replace(known, kind=entry.kind, versions=frozenset(entry.versions), expires=entry.expires)
        return replace(known, at=self.now())

    async def queued(self, change: Change, due: datetime, settle: int, streak: int) -> None:
        if not self.is_down:
            note = Notified(NOW, due=due, due_is_deletion=change.is_deletion, settle=settle, streak=streak)
            self.notes[change.mailbox, change.event_id] = note

    async def purge(self, now: datetime, until: Callable[[], bool]) -> int:
        self._check()
        expired = [place for place, entry in self.entries.items() if entry.expires is not None and entry.expires < now]
        for place in expired:
            del self.entries[place]
        return len(expired)

    def wipe(self) -> None:
        self.entries.clear()
        self.notes.clear()

    def _check(self) -> None:
        if self.is_down:
            raise Transient("table ledger: no answer")


class RowInMemory(dict[str, Any]):
    """A row that tells its etag where the library's own kind of mapping does."""

    def __init__(self, row: Mapping[str, Any], version: int, now: datetime) -> None:
        super().__init__({name: value for name, value in row.items() if value is not None})
        self.metadata = {"etag": str(version), "timestamp": now}


_COMPARED = {name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")}


@dataclass
class RowsInMemory:
    """A table of the storage account, for what is built on a ``StorageTable``."""

    now: Callable[[], datetime] = lambda: NOW
    """The storage account's own clock, which an answer's ``Date`` tells."""
    rows: dict[tuple[str, str], RowInMemory] = field(default_factory=dict)
    version: int = 0

    async def get(self, partition: str, key: str) -> RowInMemory | None:
        return self.rows.get((partition, key))

    async def insert(self, row: Mapping[str, Any]) -> str:
        if _place(row) in self.rows:
            raise Stale("there is one already")
        return self._store(row)

    async def replace(self, row: Mapping[str, Any], etag: str) -> str:
        before = self.rows.get(_place(row))
        if before is None or before.metadata["etag"] != etag:
            raise Stale("somebody else wrote it")
        return self._store(row)

    async def put(self, row: Mapping[str, Any]) -> None:
        self._store(row)

    async def delete(self, partition: str, key: str) -> None:
        self.rows.pop((partition, key), None)

    async def delete_if_unchanged(self, row: RowInMemory) -> bool:
        now = self.rows.get(_place(row))
        if now is not None and now.metadata["etag"] != row.metadata["etag"]:
            return False
        self.rows.pop(_place(row), None)
        return True

    async def delete_all_unchanged(self, rows: Sequence[RowInMemory]) -> int:
        return sum([await self.delete_if_unchanged(row) for row in rows])

    async def query(
        self,
        where: str,
        values: Mapping[str, Any],
        columns: list[str] | None = None,
        raw_response_hook: Callable[[Any], None] = lambda answer: None,
    ) -> AsyncIterator[RowInMemory]:
        date = self.now().strftime("%a, %d %b %Y %H:%M:%S GMT")
        raw_response_hook(SimpleNamespace(http_response=SimpleNamespace(headers={"Date": date})))
        for row in [row for _, row in sorted(self.rows.items()) if _fits(row, where, values)]:
            yield row

    def _store(self, row: Mapping[str, Any]) -> str:
        self.version += 1
        self.rows[_place(row)] = RowInMemory(row, self.version, self.now())
        return str(self.version)


def _place(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["PartitionKey"], row["RowKey"]


def _fits(row: Mapping[str, Any], where: str, values: Mapping[str, Any]) -> bool:
    """As much of the filters' language as is used: comparisons, joined by ``and``, and these by ``or``."""
    return any(
        all(_holds(row, comparison, values) for comparison in both.split(" and ")) for both in where.split(" or ")
    )


def _holds(row: Mapping[str, Any], comparison: str, values: Mapping[str, Any]) -> bool:
    column, compared, operand = comparison.split()
    value = values[operand[1:]] if operand.startswith("@") else int(operand)
    return column in row and bool(_COMPARED[compared](row[column], value))


@dataclass
class BreakerInMemory:
    """Refuses once more than so many cancellations were asked for."""

    ceiling: int = 1_000_000
    asked: set[tuple[str, str]] = field(default_factory=set)

    async def refuses(self, mailbox: str, event_id: str, now: datetime) -> str | None:
        self.asked.add((mailbox, event_id))
        return "too many" if len(self.asked) > self.ceiling else None


@dataclass
class QueuesInMemory:
    """What was sent, as (queue, message, seconds hidden)."""

    sent: list[tuple[str, str, float]] = field(default_factory=list)
    refuses: bool = False

    async def send(
        self, queue: str, messages: Sequence[str], hidden: float = 0, within: float = 20.0
    ) -> Sequence[datetime]:
        if self.refuses:
            raise Transient("the queue refuses")
        self.sent += [(queue, message, hidden) for message in messages]
        return [NOW + timedelta(seconds=hidden)] * len(messages)

    def of(self, queue: str) -> list[str]:
        return [message for name, message, _ in self.sent if name == queue]


async def no_batch(batch: Batch) -> None:
    """For who processes changes alone."""
    raise AssertionError(f"nobody sent {batch}")


@dataclass
class MemoryInMemory:
    """What the roster remembers between runs, also over restarts of the app."""

    known: dict[str, Trouble] = field(default_factory=dict)
    last: LastRun | None = None
    made_last: Made | None = None
    is_unreadable: bool = False
    """The last run is; it can be written all the same."""
    round: datetime | None = None

    async def last_round(self) -> datetime | None:
        return self.round

    async def remember_round(self, begun: datetime) -> None:
        self.round = begun

    async def troubles(self) -> Mapping[str, Trouble]:
        return dict(self.known)

    async def remember(self, mailbox: str, reason: str, now: datetime, rarely: bool, in_gap: bool = False) -> None:
        self.known[mailbox] = next_trouble(mailbox, reason, self.known.get(mailbox), now, rarely, in_gap)

    async def forget(self, mailbox: str) -> None:
        self.known.pop(mailbox, None)

    async def last_run(self) -> LastRun | None:
        if self.is_unreadable:
            raise Transient("table: no answer")
        return self.last

    async def ran(self, run: LastRun) -> None:
        self.last = run

    async def made(self) -> Made | None:
        return self.made_last

    async def remember_made(self, made: Made) -> None:
        self.made_last = made
