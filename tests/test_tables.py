"""Rows of a real table (Azurite), and what is said when one cannot be reached."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from azure.core.exceptions import HttpResponseError

from sync.errors import Misconfigured, Stale, Transient
from sync.tables import StorageTable
from tests.test_ledger_table import NOWHERE

ROW = {"PartitionKey": "p", "RowKey": "k", "value": 1}


@pytest.fixture
async def table(storage: str) -> AsyncIterator[StorageTable]:
    table = StorageTable.of_connection_string(storage, "things")
    yield table
    await table.close()


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


async def test_storage_that_does_not_answer_is_worth_another_try() -> None:
    table = StorageTable.of_connection_string(NOWHERE, "things")
    with pytest.raises(Transient, match="table things"):
        await table.get("p", "k")
    await table.close()


async def test_an_identity_without_the_role_is_told_which(table: StorageTable, monkeypatch) -> None:
    async def refuse(*_: object) -> None:
        raise HttpResponseError(response=SimpleNamespace(status_code=403, reason="Forbidden"))  # type: ignore[arg-type]

    monkeypatch.setattr(table._client, "get_entity", refuse)
    with pytest.raises(Misconfigured, match="Storage Table Data Contributor"):
        await table.get("p", "k")


def test_a_connection_string_without_tables_is_refused_by_name() -> None:
    with pytest.raises(Misconfigured, match="AzureWebJobsStorage"):
        StorageTable.of_connection_string("nonsense", "things")
