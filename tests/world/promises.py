"""Pairs of bookings and events, the people around them, and the promises P1 to P5, told from the world alone."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sync.errors import SyncError
from sync.messages.changes import Batch, Change, Evidence, SweepRequest
from sync.messages.codec import OUTLOOK_CHANGES, SWEEPS, build_change_message, build_sweep_message, parse_changes
from sync.model import Booking, ConflictPolicy, Event, Span
from sync.pairs.actions import GRACE, CancelBooking, MoveBooking, Write
from sync.pairs.entry import GONE, Entry, Kind
from sync.storage.ledger import LedgerTable
from tests.world.crashing import Hosted
from tests.world.fakes import ANNA, BEN, NOW, Calendars, Table, evidence_of, span

E1, E2 = "E1", "E2"
"""What a scenario is about; their bookings are B1 and B2."""
B1, B2 = "b0000000-0000-4000-8000-000000000001", "b0000000-0000-4000-8000-000000000002"
BYSTANDERS = {"E8": (ANNA, "b0000000-0000-4000-8000-000000000008"), "E9": (BEN, "b0000000-0000-4000-8000-000000000009")}


class JudgedTable(Table):
    """Shows each write of the app to the world at the moment it is made."""

    world: World

    async def write(self, action: Write) -> str:
        before = self.rows[action.booking_id]
        written = await super().write(action)
        self.world.judge(before, action)
        return written


class TroubledCalendars(Calendars):
    """Answers with an error where one is due, and remembers since when an event was seen to be missing."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.errors: dict[str, SyncError] = {}
        self.answers_from = NOW + timedelta(days=7)
        self.missing_since: dict[str, datetime] = {}

    async def read(self, mailbox: str, event_id: str) -> Event | None:
        if event_id in self.errors and self.world.now < self.answers_from:
            raise self.errors[event_id]
        event = await super().read(mailbox, event_id)
        if event is None:
            self.missing_since.setdefault(event_id, self.world.now)
        return event

    async def with_extension(self, mailbox: str) -> Any:
        for event_id in self.deleted:
            self.missing_since.setdefault(event_id, self.world.now)
        return await super().with_extension(mailbox)


@dataclass
class World(Hosted):
    """Pairs of bookings and events, the people around them, and the promises."""

    calendars: TroubledCalendars = field(default_factory=TroubledCalendars)
    bookings: JudgedTable = field(default_factory=JudgedTable)
    unagreed: dict[str, Span] = field(default_factory=dict)
    """Where dispatchers moved linked bookings to, as long as their events never were there."""
    common: dict[str, Span] = field(default_factory=dict)
    """What both sides last had in common."""
    linked_once: set[str] = field(default_factory=set)
    told_deleted: set[str] = field(default_factory=set)
    released: set[str] = field(default_factory=set)
    canceled: int = 0
    """Without a person's word."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.calendars.world = self.bookings.world = self
        for event_id, (mailbox, booking_id) in BYSTANDERS.items():
            self.pair(event_id, booking_id, mailbox)

    # --- people ---

    def pair(self, event_id: str, booking_id: str, mailbox: str = ANNA, linked: bool = True) -> None:
        long_ago = NOW - timedelta(days=1)
        event = Event(event_id, "", span(9), has_extension=True, booking_id=booking_id)
        self.calendars.put(mailbox, replace(event, created=long_ago, modified=long_ago))
        self.bookings.put(Booking(booking_id, "", span(9), event_id if linked else None, mailbox))
        self.note_common(self.calendars.events[event_id])
        if linked:
            self.linked_once.add(booking_id)

    def changes(self, event_id: str, told: bool = True, **changes: object) -> None:
        """A technician, or who keeps Outlook in step with Dynamics."""
        self.calendars.change(event_id, modified=self.now, **changes)
        self.note_common(self.calendars.events[event_id])
        if told:
            self.tells(event_id)

    def note_common(self, event: Event) -> None:
        booking = self.bookings.rows[event.booking_id or ""]
        if booking.span == event.span and booking.event_id is not None:
            self.common[booking.id] = event.span
            self.unagreed.pop(booking.id, None)

    def deletes(self, event_id: str, told: bool = True) -> None:
        self.calendars.delete(event_id)
        if told:
            self.told_deleted.add(event_id)
            self.tells(event_id, deleted=True)

    def tells(self, event_id: str, deleted: bool = False) -> None:
        version = None if deleted else self.calendars.events[event_id].etag
        self.posts.append(Change(self.calendars.owner[event_id], event_id, evidence_of(deleted), version=version))

    def dispatcher_moves(self, booking_id: str, to: Span) -> None:
        if self.bookings.edit(booking_id, span=to).event_id is not None:
            self.unagreed[booking_id] = to
        if self.common.get(booking_id) == to:
            self.unagreed.pop(booking_id, None)  # as if nothing had been

    async def release(self) -> None:
        """What the command does for each event that is held: first the word, then the message."""
        for entry in [entry async for entry in self.ledger().held(NOW)]:
            assert entry.held is not None
            self.released.add(entry.event_id)
            if (entry.booking_id, entry.held.booking_span) in self.unagreed.items():
                del self.unagreed[entry.booking_id or ""]  # this is what was shown
            await self.ledger().write(replace(entry, released=entry.held.version))
            await self.queues().send(OUTLOOK_CHANGES, [build_change_message(Change(entry.mailbox, entry.event_id))])

    async def discard(self) -> None:
        """The same with the other word."""
        for entry in [entry async for entry in self.ledger().held(NOW)]:
            assert entry.held is not None
            await self.ledger().write(replace(entry, discarded=entry.held.version))
            await self.queues().send(OUTLOOK_CHANGES, [build_change_message(Change(entry.mailbox, entry.event_id))])

    # --- promises ---

    def judge(self, before: Booking, action: Write) -> None:
        """P3, P4 and P5 at the moment of a write."""
        after = self.bookings.rows[before.id]
        assert replace(after, etag="") != replace(before, etag=""), "P5: a write that changes nothing"
        if after.event_id is not None:
            self.linked_once.add(before.id)
        event = self.calendars.events[getattr(action, "event_id", None) or before.event_id or ""]
        if isinstance(action, MoveBooking):
            assert action.span == event.span, "P3: not the event's state as it is now"
        if isinstance(action, MoveBooking | CancelBooking):
            is_lost = before.id in self.unagreed and self.policy is not ConflictPolicy.OUTLOOK
            assert not is_lost, "P3: a dispatcher's edit is written over"
        self.note_common(event)
        if isinstance(action, CancelBooking):
            assert event.is_cancelled or not self.calendars.has(event.id), "P4: the event is there"
            waited = self.now - self.calendars.missing_since.get(event.id, self.now)
            is_known = event.is_cancelled or event.id in self.told_deleted or waited >= timedelta(seconds=GRACE)
            assert is_known, "P4: nobody told, and it was looked for only once"
            self.canceled += event.id not in self.released
            assert self.canceled <= self.ceiling, "P4: more are canceled than the breaker lets pass"

    async def acknowledged(self, change: Change) -> None:
        """P2: there is a message, or nothing new in it."""
        contents = [parse_changes(message.text) for message in self.messages if message.queue == OUTLOOK_CHANGES]
        queued = [each for found in contents for each in (found.changes if isinstance(found, Batch) else (found,))]
        entry = await self.known_of(change.event_id)
        is_known = entry.kind is Kind.GONE if change.is_deletion else change.version in entry.versions
        is_queued = change in queued or replace(change, evidence=Evidence.TOLD) in queued
        assert is_known or is_queued, "P2: acknowledged, and neither queued nor known"

    async def listed(self) -> dict[str, Entry]:
        """What is shown to people, by its event."""
        known = [entry for mailbox in (ANNA, BEN) for entry in await self.ledger().of_mailbox(mailbox)]
        listed = {entry.event_id: entry async for entry in self.ledger().held(NOW)}
        assert {entry.event_id for entry in known if entry.held} == set(listed), "held, and nobody is shown"
        return listed

    def waits(self, entry: Entry) -> bool:
        """Whether an event that is there is to follow its booking."""
        is_there = self.calendars.has(entry.event_id) and not self.calendars.events[entry.event_id].is_cancelled
        return is_there and entry.held is not None and entry.held.is_waiting

    def parked(self) -> set[str]:
        return {
            f"{wrapped['error']}: {wrapped['reason']} {wrapped['message']}"
            for message in self.messages
            if message.queue.endswith("-poison")
            for wrapped in [json.loads(message.text)]
        }

    async def check_in_step(self) -> None:
        """P1, from the world alone."""
        told = " ".join([*await self.listed(), *self.parked()])
        for event in self.calendars.events.values():
            booking, entry = self.bookings.rows[event.booking_id or ""], await self.known_of(event.id)
            version = event.etag if self.calendars.has(event.id) else GONE
            is_in_step = self.is_in_step(booking, event) or entry.discarded == version
            assert is_in_step or event.id in told, f"P1: out of step, and nobody is told: {booking} {event}"

    async def known_of(self, event_id: str) -> Entry:
        """Not by way of the tape: who judges has no effects."""
        return await LedgerTable(self.rows).read(self.calendars.owner[event_id], event_id)

    def is_in_step(self, booking: Booking, event: Event) -> bool:
        if self.calendars.has(event.id) and not event.is_cancelled:
            return booking.event_id == event.id and (booking.span == event.span or not booking.is_open)
        done = booking.is_canceled or booking.has_begun or booking.id not in self.linked_once
        return booking.event_id is None and done

    async def check_quiet(self) -> None:
        """P5: whatever is said once more, nothing is written."""
        written = len(self.bookings.written)
        listed = await self.listed()
        for event_id, mailbox in self.calendars.owner.items():
            # That an event was deleted which was only missed, and is held for that, would be news.
            is_news = event_id in listed and not self.calendars.has(event_id) and event_id not in self.told_deleted
            for deleted in (False,) if is_news else (False, True):
                self.posts.append(Change(mailbox, event_id, evidence_of(deleted)))
        await self.sweep()
        assert len(self.bookings.written) == written, "P5: nothing has changed, and something was written"

    async def sweep(self) -> None:
        await self.queues().send(SWEEPS, [build_sweep_message(SweepRequest(mailbox)) for mailbox in (ANNA, BEN)])
        await self.run()

    async def outcome(self) -> tuple[Any, ...]:
        """What remains of a scenario, whoever else was there."""
        rows = [replace(self.bookings.rows[booking], etag="") for booking in (B1, B2) if booking in self.bookings.rows]
        writes = [
            (booking, type(write).__name__)
            for booking in (B1, B2)
            for write in self.bookings.written
            if write.booking_id == booking
        ]
        reasons = sorted(
            (event_id, entry.held.reason) for event_id, entry in (await self.listed()).items() if entry.held
        )
        return rows, writes, reasons, self.parked()
