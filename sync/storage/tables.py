"""A table of the app's storage account: rows by their keys, guarded by their etags, errors by name.

A missing table is created on first use. This file does not know what a row means.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any

from azure.core import MatchConditions
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.data.tables import TableTransactionError, UpdateMode
from azure.data.tables.aio import TableClient

from sync.errors import Misconfigured, Stale, Transient
from sync.telemetry import spans as telemetry

KEY_REFUSED = "storage refuses the key in AzureWebJobsStorage: was it rotated, or cut off when it was copied?"

Row = Mapping[str, Any]

_OPTIONS: dict[str, Any] = {"retry_total": 1, "connection_timeout": 2, "read_timeout": 5}


class StorageTable:
    """Rows are named by partition and key. All methods raise Transient if storage cannot be reached."""

    def __init__(self, client: TableClient, by_key: bool = False) -> None:
        self._client = client
        self._by_key = by_key

    @classmethod
    def of_connection_string(cls, connection_string: str, name: str) -> StorageTable:
        """Return the table *name* of the account. Raises: Misconfigured if *connection_string* names no account."""
        try:
            return cls(TableClient.from_connection_string(connection_string, name, **_OPTIONS), by_key=True)
        except ValueError:  # the client's way to refuse what it is made of
            raise Misconfigured("AzureWebJobsStorage is no connection string, or names no tables") from None

    @classmethod
    def of_identity(cls, url: str, credential: AsyncTokenCredential, name: str) -> StorageTable:
        """Return the table *name* of the account at *url*."""
        return cls(TableClient(url, name, credential=credential, **_OPTIONS))

    async def get(self, partition: str, key: str) -> Row | None:
        """Return the row, None if there is none."""
        async with self._named_errors():
            with suppress(ResourceNotFoundError):
                row: Row = await self._client.get_entity(partition, key)
                return row
        return None

    async def insert(self, row: Row) -> str:
        """Write a new row, and return its etag. Raises: Stale if there is one already."""
        async with self._named_errors():
            return str((await self._created(lambda: self._client.create_entity(row)))["etag"])

    async def replace(self, row: Row, etag: str) -> str:
        """Write *row* in the place of the one with *etag*, and return the new etag.

        Raises: Stale if the row changed since it was read, or is gone.
        """
        async with self._named_errors():
            try:
                done = await self._client.update_entity(
                    row, mode=UpdateMode.REPLACE, etag=etag, match_condition=MatchConditions.IfNotModified
                )
            except ResourceNotFoundError:
                raise Stale("the row is gone") from None
            return str(done["etag"])

    async def put(self, row: Row) -> None:
        """Write *row* in the place of the present one, whether there is one or not."""
        async with self._named_errors():
            await self._created(lambda: self._client.upsert_entity(row, mode=UpdateMode.REPLACE))

    async def delete(self, partition: str, key: str) -> None:
        """Delete the row; one that is gone already is fine."""
        async with self._named_errors():
            await self._client.delete_entity(partition, key)

    async def delete_if_unchanged(self, row: Row) -> bool:
        """Delete *row* as it was read; False if somebody else wrote it since. One that is gone already is fine."""
        try:
            async with self._named_errors():
                await self._client.delete_entity(
                    row["PartitionKey"],
                    row["RowKey"],
                    etag=etag_of(row),
                    match_condition=MatchConditions.IfNotModified,
                )
        except Stale:
            return False
        return True

    async def delete_all_unchanged(self, rows: Sequence[Row]) -> int:
        """Delete those of *rows*, at most 100 of one partition, that nobody wrote since they were read; how many.

        Source: Azure Storage, "Performing entity group transactions": all in one request, or none of them.
        """
        if len(rows) > 1:
            unchanged = [{"etag": etag_of(row), "match_condition": MatchConditions.IfNotModified} for row in rows]
            deletions = [("delete", dict(row), guard) for row, guard in zip(rows, unchanged, strict=True)]
            with suppress(TableTransactionError):  # one was written, or is gone; each by itself will tell
                async with self._named_errors():
                    await self._client.submit_transaction(deletions)
                    return len(rows)
        return sum(await asyncio.gather(*map(self.delete_if_unchanged, rows)))

    async def query(
        self, where: str, values: Mapping[str, Any], columns: list[str] | None = None, **options: Any
    ) -> AsyncIterator[Row]:
        """Source of *where*: Azure Storage, "Querying tables and entities"; *values* stand for its ``@names``."""
        async with self._named_errors():
            with suppress(ResourceNotFoundError):
                async for row in self._client.query_entities(where, parameters=dict(values), select=columns, **options):
                    yield row

    async def _created(self, write: Callable[[], Any]) -> Any:
        try:
            return await write()
        except ResourceNotFoundError:
            with suppress(ResourceExistsError):  # somebody else was faster
                await self._client.create_table()
            return await write()

    @asynccontextmanager
    async def _named_errors(self) -> AsyncIterator[None]:
        try:
            with telemetry.call("table", self._client.table_name):
                yield
        except TableTransactionError:
            raise
        except (ResourceModifiedError, ResourceExistsError):
            raise Stale(f"table {self._client.table_name}: somebody else wrote it") from None
        except HttpResponseError as error:
            if self._by_key and (error.status_code == 403 or isinstance(error, ClientAuthenticationError)):
                raise Misconfigured(KEY_REFUSED) from None
            if error.status_code == 403:
                raise Misconfigured("403: the app's identity needs the role Storage Table Data Contributor") from None
            raise self._transient(error) from None
        except AzureError as error:
            raise self._transient(error) from None

    def _transient(self, error: AzureError) -> Transient:
        return Transient(f"table {self._client.table_name}: {type(error).__name__}")  # its text may hold secrets

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()


def etag_of(row: Row) -> str:
    """Return the etag of *row* as it was read."""
    return str(row.metadata["etag"])  # type: ignore[attr-defined]  # of the library's own kind of mapping


def written_at(row: Row) -> datetime:
    """Return when *row* was written last, by the storage account's clock."""
    moment: datetime = row.metadata["timestamp"]  # type: ignore[attr-defined]
    return moment
