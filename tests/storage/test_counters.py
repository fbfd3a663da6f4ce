"""What was counted, in a real table (Azurite): each process has its row, and whoever reads adds them up."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from sync.errors import Transient
from sync.storage.counters import TABLE, CounterTable
from sync.storage.tables import StorageTable
from sync.subscriptions.standing import Roster, Standing
from sync.telemetry.counters import HOUR, KEPT, QUEUED, Figures, Swept
from tests.world.fakes import ANNA, BEN, NOW
from tests.world.keeper import people
from tests.world.nowhere import NOWHERE

AT = NOW + timedelta(minutes=12, seconds=34)


@pytest.fixture
async def rows(storage: str) -> AsyncIterator[StorageTable]:
    table = StorageTable.of_connection_string(storage, TABLE)
    yield table
    await table.close()


@pytest.fixture
def table(rows: StorageTable) -> CounterTable:
    return CounterTable(rows)


def figures(count: int, **mailboxes: dict) -> Figures:
    return Figures(Counter({QUEUED: count}), **mailboxes)


async def test_before_anything_is_counted_there_is_nothing_and_no_table_is_needed(table: CounterTable) -> None:
    assert await table.hours(NOW) == {}
    assert await table.of_mailboxes(NOW) == Figures()
    assert (await table.roster(), await table.failure()) == (None, None)


async def test_what_processes_counted_in_an_hour_is_added_up(table: CounterTable) -> None:
    await table.put("one", NOW, figures(1))
    await table.put("other", NOW, figures(2))
    await table.put("one", NOW + HOUR, figures(4))
    assert await table.hours(NOW) == {NOW: {QUEUED: 3}, NOW + HOUR: {QUEUED: 4}}
    assert await table.hours(NOW + HOUR) == {NOW + HOUR: {QUEUED: 4}}


async def test_a_process_that_stores_the_same_hour_again_is_not_counted_twice(table: CounterTable) -> None:
    await table.put("one", NOW, figures(1))
    await table.put("one", NOW, figures(3))
    assert await table.hours(NOW) == {NOW: {QUEUED: 3}}


async def test_the_last_of_each_mailbox_is_found_whoever_saw_it(table: CounterTable) -> None:
    await table.put("one", NOW, figures(1, notified={ANNA: AT, BEN: NOW}, swept={ANNA: Swept(NOW, 2)}))
    await table.put("other", NOW, figures(1, notified={ANNA: NOW, BEN: AT}, swept={ANNA: Swept(AT, 0)}))
    found = await table.of_mailboxes(NOW)
    assert found.notified == {ANNA: AT, BEN: AT}
    assert found.swept == {ANNA: Swept(AT, 0)}
    assert await table.of_mailboxes(NOW + HOUR) == Figures()


async def test_thousands_of_mailboxes_fit_in_one_row_and_come_back(table: CounterTable) -> None:
    mailboxes = [f"{os.urandom(4).hex()}{each[8:24]}{os.urandom(6).hex()}" for each in people(20_000)]
    await table.put("one", NOW, figures(1, notified=dict.fromkeys(mailboxes, AT)))
    assert (await table.of_mailboxes(NOW)).notified == dict.fromkeys(mailboxes, AT)
    roster = Roster(AT, NOW, tuple(Standing(each, AT + HOUR, "", AT, Swept(NOW, 1)) for each in mailboxes))
    await table.put_roster(roster)
    assert await table.roster() == roster


async def test_the_mailboxes_stand_as_they_were_stored(table: CounterTable) -> None:
    await table.put_roster(Roster(NOW, NOW - HOUR, tuple(Standing(each) for each in people(500))))
    roster = Roster(AT, NOW, (Standing(ANNA, AT + HOUR, "", AT, Swept(AT, 3)), Standing(BEN, None, "403 ü")))
    await table.put_roster(roster)
    assert await table.roster() == roster
    await table.put_roster(Roster(AT, NOW))
    assert await table.roster() == Roster(AT, NOW), "nobody is wanted"


async def test_why_a_run_came_to_nothing_is_remembered(table: CounterTable) -> None:
    await table.put_failure(AT, "graph 503")
    assert await table.failure() == (AT, "graph 503")


async def test_what_another_version_wrote_is_passed_over(table: CounterTable, rows: StorageTable) -> None:
    await table.put("one", NOW, figures(1, notified={ANNA: AT}))
    for number, odd in enumerate(({}, {"counts": "[]"}, {"counts": "{"}, {"packed0": b"x"}, {"packed7": b"x"})):
        await rows.put({"PartitionKey": f"hour {NOW:%Y-%m-%dT%H}", "RowKey": f"odd{number}", **odd})
    await rows.put({"PartitionKey": "hour x", "RowKey": "odd", "counts": "{}"})
    await rows.put({"PartitionKey": "roster", "RowKey": "last", "packed0": b"x"})
    assert await table.hours(NOW) == {NOW: {QUEUED: 1}}
    assert (await table.of_mailboxes(NOW)).notified == {ANNA: AT}
    assert await table.roster() is None


async def test_what_is_older_than_a_month_is_forgotten_and_the_roster_is_not(table: CounterTable) -> None:
    await table.put("one", NOW, figures(1))
    await table.put("one", NOW + HOUR, figures(2))
    await table.put_roster(Roster(NOW, NOW))
    assert await table.purge(NOW + KEPT + HOUR, until=lambda: True) == 0
    assert await table.purge(NOW + KEPT + HOUR, until=lambda: False) == 1
    assert await table.hours(NOW) == {NOW + HOUR: {QUEUED: 2}}
    assert await table.roster() == Roster(NOW, NOW)


async def test_storage_that_does_not_answer_is_worth_another_try() -> None:
    table = CounterTable(StorageTable.of_connection_string(NOWHERE, TABLE))
    with pytest.raises(Transient):
        await table.put("one", NOW, figures(1))
    await table.close()
