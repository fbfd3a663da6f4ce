"""Many notifications for few changes: one run sees all of a burst, across instances, and nobody else waits for it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from sync.graph.client_state import build_client_state
from sync.intake.spreading import spread
from sync.messages.changes import Batch, Change
from sync.messages.codec import OUTLOOK_CHANGES, parse_change_message, parse_changes
from sync.model import Booking, Event
from sync.pairs.actions import Action
from sync.pairs.processing import Processor
from sync.settings.parts import AcknowledgeSettings
from sync.storage.ledger import TABLE, LedgerTable
from sync.storage.queues import StorageQueues
from sync.storage.tables import StorageTable
from tests.world.app import whole_second
from tests.world.fakes import ANNA, BEN, NOW, BreakerInMemory, Calendars, LedgerInMemory, Table, span
from tests.world.taking import posted, take

KEY = "k" * 40
GUIDS = {ANNA: "c5d7e9fa-6b1c-4f11-9f89-000d3adc2b02", BEN: "e0a1b2c3-6b1c-4f11-9f89-000d3adc2b10"}
SETTLE = AcknowledgeSettings.model_fields["settle_seconds"].default


def notification(mailbox: str, event: Event, change_type: str = "updated") -> dict[str, object]:
    return {
        "changeType": change_type,
        "resource": f"Users/{mailbox}/Events/{event.id}",
        "resourceData": {"id": event.id, "@odata.etag": event.etag},
        "clientState": build_client_state(KEY, mailbox),
    }


@dataclass
class Storm:
    """Two instances of the app, which share nothing but the storage account, and a clock that is moved by hand."""

    settle: int = SETTLE
    now: datetime = NOW
    calendars: Calendars = field(default_factory=Calendars)
    table: Table = field(default_factory=Table)
    waiting: list[tuple[datetime, str]] = field(default_factory=list)
    runs: Counter[str] = field(default_factory=Counter)
    delays: dict[str, list[timedelta]] = field(default_factory=dict)
    """Of each mailbox, from a notification that was queued to its run."""

    def __post_init__(self) -> None:
        self.ledger = LedgerInMemory(now=lambda: whole_second(self.now))
        self.processor = Processor(self.calendars, self.table, self.ledger, BreakerInMemory(), lambda: self.now)
        for mailbox, guid in GUIDS.items():
            event = Event(f"E{mailbox[0]}", "", span(9), has_extension=True, booking_id=guid)
            self.calendars.put(mailbox, event)
            self.table.put(Booking(guid, "", span(9), event.id, mailbox))

    async def send(
        self, queue: str, messages: Sequence[str], hidden: float = 0, within: float = 20.0
    ) -> Sequence[datetime]:
        due = self.now + timedelta(seconds=hidden)
        self.waiting += [(due, message) for message in messages if queue == OUTLOOK_CHANGES]
        for change in map(parse_changes, messages):
            if isinstance(change, Change):
                self.delays.setdefault(change.mailbox, []).append(due - self.now)
        return [whole_second(due)] * len(messages)

    async def moves(self, mailbox: str, hour: float) -> None:
        """One change, told by one notification."""
        event_id = f"E{mailbox[0]}"
        self.calendars.change(event_id, span=span(hour))
        await self.told(mailbox)

    async def told(self, mailbox: str, times: int = 1) -> None:
        items = [notification(mailbox, self.calendars.events[f"E{mailbox[0]}"])] * times
        assert (await posted(json.dumps({"value": items}).encode(), [KEY], self)).status == 202

    async def work(self) -> None:
        due = [message for at, message in self.waiting if at <= self.now]
        self.waiting = [(at, message) for at, message in self.waiting if at > self.now]
        for message in due:
            await take(message, self._process, self._spread, self)
        if due:
            await self.work()

    async def _process(self, change: Change) -> Action:
        self.runs[change.mailbox] += 1
        return await self.processor.process(change)

    async def _spread(self, batch: Batch) -> None:
        await spread(batch, self, self.ledger, self.settle)

    async def rest(self) -> None:
        while self.waiting:
            self.now = max(self.now, min(at for at, _ in self.waiting))
            await self.work()


async def test_a_thousand_changes_of_one_event_in_a_minute_take_a_handful_of_runs_and_the_last_one_wins() -> None:
    storm = Storm()
    for number in range(1_000):
        storm.now += timedelta(milliseconds=60)
        await storm.moves(ANNA, 10 + number / 100)
        if number % 100 == 0:
            await storm.moves(BEN, 10 + number / 100)
        await storm.work()
    await storm.rest()
    assert storm.runs[ANNA] <= 6
    assert storm.table.rows[GUIDS[ANNA]].span == span(10 + 999 / 100)
    assert storm.table.rows[GUIDS[BEN]].span == span(19)


async def test_a_noisy_event_does_not_make_others_wait_longer_than_they_would_alone() -> None:
    storm = Storm()
    for number in range(600):
        storm.now += timedelta(milliseconds=100)
        await storm.moves(ANNA, 10 + number / 100)
        await storm.work()
    storm.delays.clear()
    await storm.moves(BEN, 15)
    await storm.work()
    assert storm.delays[BEN] == [timedelta(seconds=SETTLE)]


async def test_four_notifications_of_one_change_cost_one_run_and_their_redelivery_none() -> None:
    storm = Storm()
    await storm.moves(ANNA, 12)
    await storm.told(ANNA, 3)
    await storm.rest()
    assert storm.runs[ANNA] == 1
    storm.now += timedelta(hours=3)
    reads = (len(storm.calendars.reads), len(storm.table.reads))
    await storm.told(ANNA, 3)
    await storm.rest()
    assert storm.runs[ANNA] == 1
    assert (len(storm.calendars.reads), len(storm.table.reads)) == reads


@pytest.mark.parametrize("begins", [0.0, 0.4, 0.999])
@pytest.mark.parametrize("apart", [0.9, 1.0])
async def test_a_burst_of_five_seconds_is_one_run_wherever_in_a_second_it_begins(begins: float, apart: float) -> None:
    storm = Storm(now=NOW + timedelta(seconds=begins))
    for hour in range(11, 17):
        await storm.moves(ANNA, hour)
        await storm.work()
        storm.now += timedelta(seconds=apart)
    await storm.rest()
    assert storm.runs[ANNA] == 1
    assert storm.table.rows[GUIDS[ANNA]].span == span(16)


async def test_if_the_marks_are_unreachable_every_change_is_queued() -> None:
    storm = Storm()
    storm.ledger.is_down = True
    for hour in (12, 13):
        await storm.moves(ANNA, hour)
        await storm.work()
    storm.ledger.is_down = False
    await storm.rest()
    assert storm.runs[ANNA] == 2
    assert storm.table.rows[GUIDS[ANNA]].span == span(13)


@pytest.mark.parametrize("settle", [0, 1])
async def test_turned_off_or_not_a_change_after_the_run_gets_a_run_of_its_own(settle: int) -> None:
    storm = Storm(settle)
    for hour in (12, 13):
        await storm.moves(ANNA, hour)
        await storm.work()
        storm.now += timedelta(seconds=settle)
        await storm.work()
    assert storm.table.rows[GUIDS[ANNA]].span == span(13)


async def test_over_real_storage_two_instances_queue_a_handful_of_messages_for_a_storm(storage: str) -> None:
    queues = [StorageQueues.of_connection_string(storage) for _ in range(2)]
    ledgers = [LedgerTable(StorageTable.of_connection_string(storage, TABLE)) for _ in range(2)]
    sent: list[Change] = []

    class Counting:
        def __init__(self, queues: StorageQueues) -> None:
            self.queues = queues

        async def send(
            self, queue: str, messages: Sequence[str], hidden: float = 0, within: float = 20.0
        ) -> Sequence[datetime]:
            sent.extend(map(parse_change_message, messages))
            return await self.queues.send(queue, messages, hidden, within)

    for burst in range(10):
        await asyncio.gather(
            *(
                spread(
                    Batch((Change(ANNA, "E1", version=f'W/"{burst}.{each}"'),)),
                    Counting(queues[each % 2]),
                    ledgers[each % 2],
                    30,
                )
                for each in range(10)
            )
        )
    # Those that came at once before the first mark was there have each a message of their own.
    assert 1 <= len(sent) <= 10
    for closing in (*queues, *ledgers):
        await closing.close()
