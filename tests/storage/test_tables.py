"""Rows of a real table (Azurite) and of the one in memory, and what is said when one cannot be reached."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.transport import AioHttpTransport

from sync.errors import Misconfigured, Stale, Transient
from sync.storage.tables import StorageTable
from tests.world.fakes import NOW, RowsInMemory
from tests.world.nowhere import NOWHERE

ROW = {"PartitionKey": "p", "RowKey": "k", "value": 1}


@pytest.fixture
async def real_table(storage: str) -> AsyncIterator[StorageTable]:
    table = StorageTable.of_connection_string(storage, "things")
    yield table
    await table.close()


@pytest.fixture(params=["in Azurite", "in memory"])
def table(request: pytest.FixtureRequest) -> StorageTable | RowsInMemory:
    """What holds of the real one holds of the fake."""
    return RowsInMemory() if request.param == "in memory" else request.getfixturevalue("real_table")


async def test_a_table_that_is_not_there_is_empty_and_is_made_by_the_first_row(table: StorageTable) -> None:
    assert await table.get("p", "k") is None
    assert [row async for row in table.query("PartitionKey eq @p", {"p": "p"})] == []
    await table.delete("p", "k")
    await asyncio.gather(*(table.put({**ROW, "RowKey": str(number)}) for number in range(5)))
    assert len([row async for row in table.query("PartitionKey eq @p", {"p": "p"})]) == 5


async def test_a_row_is_inserted_once_and_replaced_by_who_knows_it(table: StorageTable) -> None:
    etag = await table.insert(ROW)
    with pytest.raises(Stale):
        await table.insert(ROW)
    await table.replace({**ROW, "value": 2}, etag)
    with pytest.raises(Stale):
        await table.replace({**ROW, "value": 3}, etag)
    row = await table.get("p", "k")
    assert row is not None
    assert row["value"] == 2


async def test_a_row_that_went_is_not_replaced(table: StorageTable) -> None:
    etag = await table.insert(ROW)
    await table.delete("p", "k")
    with pytest.raises(Stale):
        await table.replace(ROW, etag)


async def test_a_row_is_deleted_by_who_knows_it(table: StorageTable) -> None:
    await table.insert(ROW)
    known = await table.get("p", "k")
    assert known is not None
    await table.put({**ROW, "value": 2})
    assert not await table.delete_if_unchanged(known)
    newer = await table.get("p", "k")
    assert newer is not None
    assert await table.delete_if_unchanged(newer)
    assert await table.get("p", "k") is None
    assert await table.delete_if_unchanged(newer), "what is gone already is fine"


async def test_many_rows_are_deleted_but_for_those_that_somebody_wrote(table: StorageTable) -> None:
    for number in range(5):
        await table.put({**ROW, "RowKey": str(number)})
    known = [row async for row in table.query("PartitionKey eq @p", {"p": "p"}, ["PartitionKey", "RowKey"])]
    assert await table.delete_all_unchanged(known[:2]) == 2
    await table.put({**ROW, "RowKey": "3"})
    assert await table.delete_all_unchanged(known[2:]) == 2
    assert [row["RowKey"] async for row in table.query("PartitionKey eq @p", {"p": "p"})] == ["3"]


async def test_a_hundred_rows_of_a_partition_are_deleted_by_one_request(real_table: StorageTable, monkeypatch) -> None:
    await asyncio.gather(*(real_table.put({**ROW, "RowKey": str(number)}) for number in range(100)))
    known = [row async for row in real_table.query("PartitionKey eq @p", {"p": "p"}, ["PartitionKey", "RowKey"])]
    asked: list[str] = []
    send = AioHttpTransport.send

    async def witnessed(self: AioHttpTransport, request: Any, **options: Any) -> Any:
        asked.append(request.method)
        return await send(self, request, **options)

    monkeypatch.setattr(AioHttpTransport, "send", witnessed)
    assert await real_table.delete_all_unchanged(known) == 100
    assert asked == ["POST"]


@pytest.mark.parametrize(
    ("where", "values", "found"),
    [
        ("PartitionKey eq @p", {"p": "p"}, ["1", "2", "3"]),
        ("PartitionKey eq @p and count gt 1", {"p": "p"}, ["2"]),
        ("PartitionKey eq @p and count eq 1", {"p": "p"}, ["1"]),
        ("PartitionKey eq @p and RowKey ge @k and RowKey le @m", {"p": "p", "k": "2", "m": "3"}, ["2", "3"]),
        ("count eq @c or RowKey eq @k", {"c": 1, "k": "3"}, ["1", "3"]),
        ("at lt @now", {"now": NOW}, ["1"]),
    ],
)
async def test_rows_are_found_by_what_they_hold(
    table: StorageTable, where: str, values: dict[str, Any], found: list[str]
) -> None:
    """A row without the column is not found by it."""
    await table.put({**ROW, "RowKey": "1", "count": 1, "at": NOW - timedelta(hours=1), "nothing": None})
    await table.put({**ROW, "RowKey": "2", "count": 2, "at": NOW})
    await table.put({**ROW, "RowKey": "3"})
    assert [row["RowKey"] async for row in table.query(where, values)] == found


async def test_storage_that_does_not_answer_is_worth_another_try() -> None:
    table = StorageTable.of_connection_string(NOWHERE, "things")
    with pytest.raises(Transient, match="table things"):
        await table.get("p", "k")
    await table.close()


@pytest.mark.parametrize(("by_key", "cure"), [(False, "Storage Table Data Contributor"), (True, "was it rotated")])
async def test_a_403_of_storage_names_the_cure_of_how_it_is_asked(real_table: StorageTable, by_key, cure) -> None:
    async def refuse(*_: object) -> None:
        raise HttpResponseError(response=SimpleNamespace(status_code=403, reason="Forbidden"))  # type: ignore[arg-type]

    client = SimpleNamespace(get_entity=refuse, table_name="things")
    with pytest.raises(Misconfigured, match=cure):
        await StorageTable(client, by_key).get("p", "k")  # type: ignore[arg-type]


async def test_a_key_that_was_cut_off_is_named(real_table: StorageTable) -> None:
    cut = "AccountName=a;AccountKey=abc;TableEndpoint=http://127.0.0.1:9/a;QueueEndpoint=http://127.0.0.1:9/a"
    table = StorageTable.of_connection_string(cut, "things")
    with pytest.raises(Misconfigured, match="cut off"):
        await table.get("p", "k")
    await table.close()


def test_a_connection_string_without_tables_is_refused_by_name() -> None:
    with pytest.raises(Misconfigured, match="AzureWebJobsStorage"):
        StorageTable.of_connection_string("nonsense", "things")
