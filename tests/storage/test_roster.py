"""What the roster remembers, in a real table (Azurite), and what happens when that cannot be reached."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from azure.data.tables import TableServiceClient

from sync.errors import Transient
from sync.storage.roster import TABLE, RosterTable
from sync.storage.tables import StorageTable
from sync.subscriptions.deployment import LIFETIME
from sync.subscriptions.outages import LastRun, Made, Trouble
from tests.world.app import App
from tests.world.fakes import ANNA, BEN, NOW
from tests.world.nowhere import NOWHERE

HOUR = timedelta(hours=1)
MOMENT = datetime(2026, 3, 2, 6, 7, 8, 123_000, tzinfo=UTC)


@pytest.fixture
async def table(storage: str) -> AsyncIterator[RosterTable]:
    table = StorageTable.of_connection_string(storage, TABLE)
    yield RosterTable(table)
    await table.close()


@pytest.fixture
async def nowhere() -> AsyncIterator[RosterTable]:
    table = StorageTable.of_connection_string(NOWHERE, TABLE)
    yield RosterTable(table)
    await table.close()


async def test_before_anything_is_remembered_there_is_nothing_and_no_table_is_needed(table):
    assert await table.troubles() == {}
    assert await table.last_run() is None
    await table.forget(ANNA)


async def test_a_refusal_is_remembered_with_its_reason_and_counted(table):
    await table.remember(ANNA, "403 ExtensionError", MOMENT, rarely=True)
    await table.remember(ANNA, "404 ExtensionError", MOMENT + HOUR, rarely=True)
    expected = Trouble(ANNA, "404 ExtensionError", MOMENT, 2, MOMENT + timedelta(hours=2, minutes=45))
    assert await table.troubles() == {ANNA: expected}


async def test_what_passes_is_remembered_and_due_at_once(table):
    await table.remember(ANNA, "503", MOMENT, rarely=False)
    assert await table.troubles() == {ANNA: Trouble(ANNA, "503", MOMENT, 0, MOMENT)}


async def test_what_is_forgotten_is_gone_and_everybody_elses_stays(table):
    for mailbox in (ANNA, BEN):
        await table.remember(mailbox, "403", NOW, rarely=True)
    await table.forget(ANNA)
    await table.forget(ANNA)
    assert list(await table.troubles()) == [BEN]


async def test_the_last_run_is_the_last_one(table):
    await table.ran(LastRun(NOW, LIFETIME))
    await table.ran(LastRun(MOMENT, timedelta(minutes=4_225), leavers_stay=True))
    assert await table.last_run() == LastRun(MOMENT, timedelta(minutes=4_225), leavers_stay=True)
    await table.ran(LastRun(MOMENT, LIFETIME, unreached_since=NOW))
    assert await table.last_run() == LastRun(MOMENT, LIFETIME, unreached_since=NOW)
    await table.ran(LastRun(MOMENT, LIFETIME))
    assert await table.last_run() == LastRun(MOMENT, LIFETIME)


async def test_what_was_made_for_whom_is_remembered_for_ten_thousand_mailboxes(table):
    assert await table.made() is None
    made = Made("0123456789ab", frozenset(f"{number:012x}" for number in range(10_000)))
    await table.remember_made(made)
    assert await table.made() == made
    await table.remember_made(Made("ba9876543210", frozenset({"0" * 12})))
    assert await table.made() == Made("ba9876543210", frozenset({"0" * 12}))


async def test_a_round_that_ended_is_remembered(table: RosterTable) -> None:
    assert await table.last_round() is None
    await table.remember_round(NOW)
    await table.remember_round(MOMENT)
    assert await table.last_round() == MOMENT
    assert await table.last_run() is None


async def test_times_are_plain_ones_in_utc(table):
    """The library's own kind of datetime is not to be met elsewhere."""
    await table.ran(LastRun(MOMENT, LIFETIME))
    await table.remember(ANNA, "403", MOMENT, rarely=True)
    last, trouble = await table.last_run(), (await table.troubles())[ANNA]
    assert last is not None
    assert {type(each) for each in (last.at, trouble.since, trouble.next_try)} == {datetime}
    assert last.at.utcoffset() == timedelta()


async def test_a_gap_is_remembered_until_the_mailbox_is_well(table):
    await table.remember(ANNA, "its old subscription is deleted", NOW, rarely=False, in_gap=True)
    await table.remember(ANNA, "503", NOW, rarely=False)
    trouble = (await table.troubles())[ANNA]
    assert (trouble.reason, trouble.in_gap) == ("503", True)
    await table.forget(ANNA)
    await table.remember(ANNA, "503", NOW, rarely=False)
    assert not (await table.troubles())[ANNA].in_gap


async def test_many_race_to_make_the_table_and_all_are_remembered(table):
    mailboxes = [f"{number:08}-0000-4000-8000-000000000000" for number in range(20)]
    await asyncio.gather(*(table.remember(mailbox, "403", NOW, rarely=True) for mailbox in mailboxes))
    assert sorted(await table.troubles()) == mailboxes


async def test_more_than_a_page_of_the_service_is_read(table, storage):
    await table.remember(ANNA, "403", NOW, rarely=True)
    with TableServiceClient.from_connection_string(storage) as service:
        client = service.get_table_client(TABLE)
        for place in range(0, 1_100, 100):
            rows = [_row(f"{number:08}") for number in range(place, place + 100)]
            client.submit_transaction([("upsert", row) for row in rows])
    assert len(await table.troubles()) == 1_101


def _row(key: str) -> dict[str, object]:
    return {"PartitionKey": "trouble", "RowKey": key, "reason": "403", "since": NOW, "tries": 1, "next_try": NOW}


async def test_a_row_that_somebody_has_edited_is_left_out(table, storage):
    await table.remember(ANNA, "403", NOW, rarely=True)
    with TableServiceClient.from_connection_string(storage) as service:
        client = service.get_table_client(TABLE)
        client.upsert_entity({"PartitionKey": "trouble", "RowKey": BEN, "why": "in other words"})
        client.upsert_entity(_row("c") | {"tries": "many"})
        client.upsert_entity({"PartitionKey": "run", "RowKey": "last", "at": "yesterday"})
        client.upsert_entity({"PartitionKey": "run", "RowKey": "made", "ids0": "000000000000"})
    assert list(await table.troubles()) == [ANNA]
    assert await table.last_run() is None
    assert await table.made() is None
    await table.remember(BEN, "404", NOW, rarely=True)
    assert (await table.troubles())[BEN].tries == 1


async def test_a_table_that_cannot_be_reached_is_as_good_as_an_empty_one_but_for_the_last_run(nowhere, caplog):
    begun = time.monotonic()
    assert await nowhere.troubles() == {}
    with pytest.raises(Transient, match="table"):
        await nowhere.last_run()
    assert await nowhere.made() is None
    await nowhere.remember_made(Made("0123456789ab"))
    assert await nowhere.last_round() is None
    await nowhere.remember_round(NOW)
    await nowhere.remember(ANNA, "403", NOW, rarely=True)
    await nowhere.forget(ANNA)
    await nowhere.ran(LastRun(NOW, LIFETIME))
    assert time.monotonic() - begun < 20
    assert {record.levelno for record in caplog.records if record.name == "sync.storage.roster"} == {logging.WARNING}


async def test_without_its_table_the_roster_is_kept_all_the_same(app: App, nowhere, storage):
    ana, ben = app.sandbox.people.hire("Ana"), app.sandbox.people.hire("Ben")
    ben.mailbox.state = "denied"
    app.memory = nowhere
    app.install("k" * 40)
    for _ in range(2):
        report = await app.keeper.keep()
        assert list(report.failed) == [ben.mailbox.id], "tried by each run, for want of memory"
        assert len(app.held(ana)) == 1


async def test_a_run_remembers_in_the_table_what_the_next_process_reads(app: App, table, storage):
    ana, ben = app.sandbox.people.hire("Ana"), app.sandbox.people.hire("Ben")
    ben.mailbox.state = "denied"
    app.sandbox.graph_switches.longest_subscription = timedelta(minutes=4_230)
    app.memory = table
    app.install("k" * 40)
    await app.keeper.keep()
    another = StorageTable.of_connection_string(storage, TABLE)
    app.memory = RosterTable(another)
    app.install("k" * 40)
    plan = await app.keeper.plan()
    await another.close()
    assert [trouble.mailbox for trouble in plan.wait] == [ben.mailbox.id]
    assert "403 ExtensionError" in plan.wait[0].reason
    assert [mailbox for mailbox, _ in plan.keep] == [ana.mailbox.id]
    last = await table.last_run()
    assert last is not None
    assert last.lifetime == timedelta(minutes=4_225)


async def test_a_probe_tells_what_nothing_else_here_does(table, nowhere):
    await table.probe()
    with pytest.raises(Transient, match=r"table roster: ServiceRequestError$"):
        await nowhere.probe()
