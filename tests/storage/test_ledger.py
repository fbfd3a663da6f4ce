"""The ledger in a real table (Azurite): entries come back as they were, and no two workers overwrite each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sync.errors import Stale, Transient
from sync.intake.coalescing import Notified, is_known, is_queued
from sync.messages.changes import Change, Evidence
from sync.pairs.actions import Outcome, Stage
from sync.pairs.entry import Decision, Entry, Held, Intent, Kind
from sync.pairs.reasons import HoldKind
from sync.storage.breaker import Breaker
from sync.storage.ledger import AT_ONCE, TABLE, LedgerTable
from sync.storage.ledger_rows import UNKNOWN, key_of
from sync.storage.queues import StorageQueues
from sync.storage.tables import StorageTable
from tests.world.fakes import ANNA, BEN, NOW, span
from tests.world.nowhere import NOWHERE

GUID = "c5d7e9fa-6b1c-4f11-9f89-000d3adc2b02"
HOUR = timedelta(hours=1)
ODD_ID = "AAMkA-/_+=" + "x" * 1000

FULL = Entry(
    ANNA,
    "E1",
    kind=Kind.PAIR,
    booking_id=GUID,
    agreed=(span(9), span(12)),
    intent=Intent((span(12),), 'W/"7"'),
    versions=('W/"1"', 'W/"2"'),
    modified=NOW,
    held=Held(HoldKind.ALL_DAY, NOW, 'W/"2"'),
    released='W/"2"',
    discarded="gone",
    history=(
        Decision(
            NOW, "told of a change", Outcome.HELD, Stage.DONE, "the event lasts all day", 'W/"2"', "", span(9), None, 3
        ),
    ),
    expires=NOW + timedelta(days=90),
)


@pytest.fixture
async def rows(storage: str) -> AsyncIterator[StorageTable]:
    table = StorageTable.of_connection_string(storage, TABLE)
    yield table
    await table.close()


@pytest.fixture
def ledger(rows: StorageTable) -> LedgerTable:
    return LedgerTable(rows)


@pytest.fixture
async def nowhere() -> AsyncIterator[LedgerTable]:
    ledger = LedgerTable(StorageTable.of_connection_string(NOWHERE, TABLE))
    yield ledger
    await ledger.close()


async def test_of_an_event_nobody_wrote_about_nothing_is_known(ledger: LedgerTable) -> None:
    assert await ledger.read(ANNA, "E1") == Entry(ANNA, "E1")
    assert await ledger.of_mailbox(ANNA) == []


@pytest.mark.parametrize("entry", [FULL, replace(FULL, event_id=ODD_ID), Entry(ANNA, "E1", expires=NOW)])
async def test_an_entry_comes_back_as_it_was(ledger: LedgerTable, entry: Entry) -> None:
    written = await ledger.write(entry)
    assert await ledger.read(ANNA, entry.event_id) == written == replace(entry, etag=written.etag)


async def test_events_whose_ids_differ_by_case_alone_are_two(ledger: LedgerTable) -> None:
    await ledger.write(replace(FULL, event_id="AAb="))
    assert (await ledger.read(ANNA, "AAB=")).is_new
    assert (await ledger.read(BEN, "AAb=")).is_new


async def test_who_has_read_an_older_entry_does_not_write_over_a_newer(ledger: LedgerTable) -> None:
    first = await ledger.write(FULL)
    second = await ledger.write(replace(first, released=None))
    with pytest.raises(Stale):
        await ledger.write(first)
    assert await ledger.read(ANNA, "E1") == second


async def test_of_many_who_write_the_first_entry_one_does(ledger: LedgerTable) -> None:
    results = await asyncio.gather(*(ledger.write(FULL) for _ in range(8)), return_exceptions=True)
    assert [type(result) for result in results].count(Entry) == 1
    assert [type(result) for result in results].count(Stale) == 7


async def test_an_entry_of_another_version_of_the_app_is_begun_anew(ledger: LedgerTable, rows: StorageTable) -> None:
    await ledger.write(FULL)
    row = {"PartitionKey": ANNA, "RowKey": key_of("E1"), "event": "E1", "written": datetime.now(UTC)}
    await rows.put({**row, "entry": '{"mailbox": 7}'})
    blank = await ledger.read(ANNA, "E1")
    assert replace(blank, etag="") == Entry(ANNA, "E1")
    await ledger.write(replace(FULL, etag=blank.etag))
    assert (await ledger.read(ANNA, "E1")).booking_id == GUID


async def test_a_row_of_yesterday_that_somebody_put_back_is_begun_anew(rows: StorageTable) -> None:
    """Nor do the words of people in it count once more; the times at which rows are stored cannot be forged."""
    now = datetime.now(UTC)
    yesterday = LedgerTable(rows, lambda: now - 24 * HOUR)
    await yesterday.write(FULL)
    ledger = LedgerTable(rows)
    blank = await ledger.read(ANNA, "E1")
    assert replace(blank, etag="") == Entry(ANNA, "E1")
    assert await ledger.of_mailbox(ANNA) == [blank]
    written = await ledger.write(replace(FULL, etag=blank.etag))
    assert await ledger.read(ANNA, "E1") == written


@pytest.mark.parametrize("skew", [-30 * timedelta(minutes=1), 30 * timedelta(minutes=1)])
async def test_clocks_that_differ_make_no_row_an_old_one(rows: StorageTable, skew: timedelta) -> None:
    now = datetime.now(UTC)
    written = await LedgerTable(rows, lambda: now + skew).write(FULL)
    assert await LedgerTable(rows).read(ANNA, "E1") == written


async def test_what_is_held_is_found_until_it_is_not_held_any_more(ledger: LedgerTable, rows: StorageTable) -> None:
    held = await ledger.write(FULL)
    await ledger.write(replace(FULL, mailbox=BEN, held=None))
    now = datetime.now(UTC)
    assert [entry async for entry in ledger.held(now)] == [held]
    await ledger.write(replace(held, held=None))
    assert [entry async for entry in ledger.held(now)] == []
    assert await listed(rows) == 1, "as it may be about to be held again"
    assert [entry async for entry in ledger.held(now + 2 * HOUR)] == []
    assert await listed(rows) == 0


async def test_of_what_is_being_held_just_now_nothing_is_forgotten(ledger: LedgerTable, rows: StorageTable) -> None:
    """Somebody reads the list between the two rows that are written."""
    await ledger.write(FULL)
    await ledger.write(replace(await ledger.read(ANNA, "E1"), held=None))
    async for row in rows.query("PartitionKey eq @p", {"p": "held"}):
        await rows.put({name: row[name] for name in row})  # by whoever is about to hold it again
        assert not await rows.delete_if_unchanged(row)
    assert await listed(rows) == 1


async def test_all_that_is_held_is_found(ledger: LedgerTable) -> None:
    many = [replace(FULL, event_id=f"E{number}") for number in range(AT_ONCE * 2 + 1)]
    await asyncio.gather(*map(ledger.write, many))
    assert {entry.event_id async for entry in ledger.held(NOW)} == {entry.event_id for entry in many}


async def test_a_booking_or_an_event_is_found_in_whatever_mailbox(ledger: LedgerTable) -> None:
    first, second = await ledger.write(FULL), await ledger.write(replace(FULL, mailbox=BEN, event_id="E2"))
    await ledger.write(Entry(ANNA, "E3", expires=NOW))
    assert {entry.event_id for entry in await ledger.find(GUID.upper())} == {"E1", "E2"}
    assert await ledger.find(GUID, BEN) == [second]
    assert await ledger.find("E2") == [second]
    assert await ledger.find("E2", ANNA) == []
    assert first in await ledger.of_mailbox(ANNA)
    assert {entry.event_id for entry in await ledger.of_mailbox(ANNA)} == {"E1", "E3"}


async def listed(rows: StorageTable) -> int:
    """How many rows say that something is held."""
    return len([row async for row in rows.query("PartitionKey eq @p", {"p": "held"})])


async def test_what_is_written_while_it_is_forgotten_stays(ledger: LedgerTable, rows: StorageTable) -> None:
    old = await ledger.write(replace(FULL, expires=NOW - timedelta(days=1)))
    async for row in rows.query("expires lt @now", {"now": NOW}, ["PartitionKey", "RowKey"]):
        await ledger.write(replace(old, expires=NOW + timedelta(days=1)))
        assert not await rows.delete_if_unchanged(row)
    assert not (await ledger.read(ANNA, "E1")).is_new


async def test_counted_cancellations_are_forgotten_and_a_tripped_breaker_is_not(
    ledger: LedgerTable, rows: StorageTable
) -> None:
    breaker = Breaker(rows, per_mailbox=0, in_all=10)
    assert await breaker.refuses(ANNA, "E1", NOW)
    assert await ledger.purge(NOW + timedelta(days=2), until=lambda: False) == 1
    assert [each.scope for each in await breaker.tripped()] == [ANNA]


async def test_what_has_expired_is_forgotten(ledger: LedgerTable) -> None:
    await ledger.write(replace(FULL, expires=NOW - timedelta(days=1)))
    await ledger.write(replace(FULL, event_id="E2", expires=NOW + timedelta(days=1)))
    assert await ledger.purge(NOW, until=lambda: True) == 0
    await asyncio.gather(*(ledger.queued(Change(ANNA, f"E{n}"), NOW - timedelta(days=3), 5, 1) for n in range(70)))
    assert await ledger.purge(NOW, until=lambda: False) == 71
    assert (await ledger.read(ANNA, "E1")).is_new
    assert not (await ledger.read(ANNA, "E2")).is_new


DAMAGED = {
    "no columns": {},
    "null": {"entry": "null"},
    "another type": {"entry": "[1]", "versions": 7},
    "naive times": {"entry": f'{{"mailbox": "{ANNA}", "event_id": "E1", "expires": "2026-03-02T06:00:00"}}'},
    "half": {"entry": '{"mailbox": '},
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
async def test_a_row_that_somebody_damaged_is_unknown_and_is_replaced_by_the_next_write(
    ledger: LedgerTable, rows: StorageTable, damage: dict[str, object]
) -> None:
    kept = await ledger.write(replace(Entry(ANNA, "E1"), held=Held(HoldKind.ALL_DAY, NOW, "v1")))
    row = {"PartitionKey": ANNA, "RowKey": key_of("E1"), "event": "E1", "written": datetime.now(UTC), **damage}
    await rows.put(row)
    read = await ledger.read(ANNA, "E1")
    assert (read.held, read.agreed, read.is_new) == (None, (), False)
    [shown] = [entry async for entry in ledger.held(NOW)]
    assert shown.held is not None
    assert (shown.event_id, shown.held.kind) == ("E1", HoldKind.DAMAGED)
    await ledger.of_mailbox(ANNA)
    await ledger.write(replace(kept, etag=read.etag, held=None))
    assert [entry async for entry in ledger.held(NOW)] == []


async def test_an_index_of_holds_needs_no_columns(ledger: LedgerTable, rows: StorageTable) -> None:
    entry = await ledger.write(replace(Entry(ANNA, "E1"), held=Held(HoldKind.ALL_DAY, NOW, "v1")))
    await rows.put({"PartitionKey": "held", "RowKey": f"{ANNA}.{key_of('E1')}"})
    assert [each async for each in ledger.held(NOW)] == [entry]
    assert await ledger.some_held(5) == ([entry], 0)


async def test_what_was_nobodys_under_another_extension_is_forgotten(rows: StorageTable) -> None:
    before, after = LedgerTable(rows, extension="com.other/id"), LedgerTable(rows, extension="com.contoso/id")
    await before.write(replace(Entry(ANNA, "E1"), kind=Kind.NOT_OURS, expires=NOW + timedelta(days=900)))
    [known] = await before.look([Change(ANNA, "E1")], 5.0)
    assert known.kind is Kind.NOT_OURS
    [known] = await after.look([Change(ANNA, "E1")], 5.0)
    assert known.kind is None
    assert (await after.read(ANNA, "E1")).kind is Kind.PAIR


class TestWhatAnAcknowledgementAsks:
    async def test_nothing_is_known_of_a_new_event_but_the_time(self, ledger: LedgerTable) -> None:
        await ledger.write(replace(FULL, mailbox=BEN))
        [known] = await ledger.look([Change(ANNA, "E1")], within=5)
        assert known == Notified(known.at)
        assert known.at > NOW

    async def test_the_versions_that_were_looked_at(self, ledger: LedgerTable) -> None:
        await ledger.write(replace(FULL, expires=(await now(ledger)) + timedelta(days=1)))
        first, second = await ledger.look([Change(ANNA, "E1", version='W/"2"'), Change(ANNA, "E2")], within=5)
        assert is_known(Change(ANNA, "E1", version='W/"2"'), first)
        assert not is_known(Change(ANNA, "E1", version='W/"3"'), first)
        assert not is_known(Change(ANNA, "E2", version='W/"2"'), second)

    async def test_a_row_of_yesterday_that_somebody_put_back_hides_no_news(self, rows: StorageTable) -> None:
        """The event was gone then; it may have come back since, and be gone once more."""
        yesterday = LedgerTable(rows, lambda: datetime.now(UTC) - 24 * HOUR)
        await yesterday.write(replace(FULL, kind=Kind.GONE, expires=datetime.now(UTC) + timedelta(days=1)))
        change = Change(ANNA, "E1", evidence=Evidence.TOLD, version='W/"9"')
        [known] = await LedgerTable(rows).look([change], within=5)
        assert known == Notified(known.at)

    async def test_a_message_that_waits_is_known_by_the_queues_own_clock(
        self, ledger: LedgerTable, storage: str
    ) -> None:
        queues = StorageQueues.of_connection_string(storage)
        change = Change(ANNA, "E1")
        for hidden, expected in [(1, False), (30, True)]:
            [due] = await queues.send("outlook-changes", ["{}"], hidden=hidden)
            await ledger.queued(change, due, hidden, streak=3)
            [known] = await ledger.look([change], within=5)
            assert is_queued(change, known) == expected
            assert (known.settle, known.streak) == (hidden, 3)
        await queues.close()

    async def test_a_table_that_does_not_answer_keeps_nobody(self, nowhere: LedgerTable) -> None:
        assert await nowhere.look([Change(ANNA, "E1"), Change(ANNA, "E2")], within=0.2) == [UNKNOWN, UNKNOWN]
        await nowhere.queued(Change(ANNA, "E1"), NOW, 5, streak=1)

    async def test_a_row_that_nobody_can_read_tells_nothing(self, ledger: LedgerTable, rows: StorageTable) -> None:
        await rows.put({"PartitionKey": ANNA, "RowKey": key_of("E1"), "kind": "?", "versions": "", "expires": 7})
        [known] = await ledger.look([Change(ANNA, "E1")], within=5)
        assert known.kind is None


async def test_a_processing_without_its_ledger_is_told_so(nowhere: LedgerTable) -> None:
    with pytest.raises(Transient):
        await nowhere.read(ANNA, "E1")
    with pytest.raises(Transient):
        await nowhere.write(FULL)


async def now(ledger: LedgerTable):  # type: ignore[no-untyped-def]
    return (await ledger.look([Change(ANNA, "none")], within=5))[0].at


async def test_what_was_not_written_is_found_by_its_time(ledger: LedgerTable) -> None:
    observed = replace(FULL.history[0], outcome=Outcome.MOVED, stage=Stage.OBSERVED)
    await ledger.write(FULL)
    await ledger.write(replace(FULL, event_id="E2", history=(observed, FULL.history[0])))
    await ledger.write(replace(FULL, event_id="E3", history=(replace(observed, at=NOW - timedelta(days=1)),)))
    assert [entry.event_id for entry in await ledger.observed(NOW)] == ["E2"]
    assert await ledger.observed(NOW + timedelta(seconds=1)) == []
