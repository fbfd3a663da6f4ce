"""What runs of the roster remember, in a table of the app's storage account.

A table that cannot be reached is as good as an empty one: losing it costs tries, and what operators are shown. Only of
the last run it has to be known whether there was one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient

from sync.errors import Transient
from sync.subscriptions.outages import LastRun, Made, Trouble, next_trouble

log = logging.getLogger(__name__)

TABLE = "roster"

_MARKS = 2_000

_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError)

_OPTIONS: dict[str, Any] = {"retry_total": 1, "connection_timeout": 2, "read_timeout": 5}


class RosterTable:
    """Mailboxes that could not be subscribed, and the last run; the table is created on first use."""

    def __init__(self, table: TableClient) -> None:
        self._table = table

    @classmethod
    def of_connection_string(cls, connection_string: str) -> RosterTable:
        return cls(TableClient.from_connection_string(connection_string, TABLE, **_OPTIONS))

    @classmethod
    def of_identity(cls, url: str, credential: AsyncTokenCredential) -> RosterTable:
        return cls(TableClient(url, TABLE, credential=credential, **_OPTIONS))

    async def troubles(self) -> Mapping[str, Trouble]:
        found = {}
        with _forgiven("read"):
            async for entity in self._table.query_entities("PartitionKey eq 'trouble'"):
                trouble = _trouble(entity)
                if trouble is not None:
                    found[trouble.mailbox] = trouble
        return found

    async def remember(self, mailbox: str, reason: str, now: datetime, rarely: bool, in_gap: bool = False) -> None:
        with _forgiven("written"):
            before = None
            with suppress(ResourceNotFoundError):
                before = _trouble(await self._table.get_entity("trouble", mailbox))
            trouble = next_trouble(mailbox, reason, before, now, rarely, in_gap)
            await self._put(
                {
                    "PartitionKey": "trouble",
                    "RowKey": mailbox,
                    "reason": trouble.reason,
                    "since": trouble.since,
                    "tries": trouble.tries,
                    "next_try": trouble.next_try,
                    "in_gap": trouble.in_gap,
                }
            )

    async def forget(self, mailbox: str) -> None:
        with _forgiven("written"):
            await self._table.delete_entity("trouble", mailbox)

    async def last_run(self) -> LastRun | None:
        """Raises: Transient, as "there was none" would be noted, and the traces of an outage lost with it."""
        try:
            entity = await self._table.get_entity("run", "last")
        except ResourceNotFoundError:
            return None
        except AzureError as error:
            raise _unreachable(error) from None
        with suppress(*_UNREADABLE):
            lifetime = timedelta(minutes=entity["lifetime"])
            unreached = entity.get("unreached_since")
            return LastRun(
                _moment(entity["at"]),
                lifetime,
                entity.get("leavers_stay") is True,
                _moment(unreached) if unreached is not None else None,
            )
        return None

    async def ran(self, run: LastRun) -> None:
        lifetime = int(run.lifetime / timedelta(minutes=1))
        with _forgiven("written"):
            last = {"at": run.at, "lifetime": lifetime, "leavers_stay": run.leavers_stay}
            unreached = {"unreached_since": run.unreached_since} if run.unreached_since else {}
            await self._put({"PartitionKey": "run", "RowKey": "last", **last, **unreached})

    async def made(self) -> Made | None:
        with _forgiven("read"), suppress(ResourceNotFoundError):
            entity = await self._table.get_entity("run", "made")
            with suppress(*_UNREADABLE):
                return Made(str(entity["deployment"]), frozenset(_marks(entity)))
        return None

    async def remember_made(self, made: Made) -> None:
        """Some 40,000 fit in the entity's mebibyte; of more, nothing is remembered."""
        with _forgiven("written"):
            row = {"PartitionKey": "run", "RowKey": "made", "deployment": made.deployment}
            await self._put({**row, **_columns(made.ids)})

    async def last_round(self) -> datetime | None:
        """Return when the last round that ended had begun; None if none is known."""
        with _forgiven("read"), suppress(ResourceNotFoundError):
            entity = await self._table.get_entity("run", "round")
            with suppress(*_UNREADABLE):
                return _moment(entity["begun"])
        return None

    async def remember_round(self, begun: datetime) -> None:
        """Note a round that ended."""
        with _forgiven("written"):
            await self._put({"PartitionKey": "run", "RowKey": "round", "begun": begun})

    async def probe(self) -> None:
        """Write, read and delete a row that no run looks at; the table is created as on first use.

        Raises: Transient.
        """
        try:
            await self._put({"PartitionKey": "probe", "RowKey": "probe"})
            await self._table.get_entity("probe", "probe")
            await self._table.delete_entity("probe", "probe")
        except AzureError as error:
            raise _unreachable(error) from None

    async def _put(self, entity: dict[str, Any]) -> None:
        try:
            await self._table.upsert_entity(entity, mode=UpdateMode.REPLACE)
        except ResourceNotFoundError:
            with suppress(ResourceExistsError):
                await self._table.create_table()
            await self._table.upsert_entity(entity, mode=UpdateMode.REPLACE)

    async def close(self) -> None:
        await self._table.close()


@contextmanager
def _forgiven(what: str) -> Iterator[None]:
    try:
        yield
    except ResourceNotFoundError:
        pass  # no table yet
    except AzureError as error:
        log.warning("the roster's table could not be %s error=%s", what, type(error).__name__)


def _unreachable(error: AzureError) -> Transient:
    status = getattr(error, "status_code", None) or ""
    return Transient(f"table: {type(error).__name__} {status}".rstrip())


def _columns(marks: frozenset[str]) -> dict[str, str]:
    """In several columns, as one holds 32,000 characters. Source: Azure Storage, "Table service data model"."""
    ordered = sorted(marks)
    return {
        f"marks{place // _MARKS}": ",".join(ordered[place : place + _MARKS]) for place in range(0, len(ordered), _MARKS)
    }


def _marks(entity: Mapping[str, Any]) -> list[str]:
    parts = [str(entity[name]) for name in entity if name.startswith("marks")]
    return [mark for part in parts for mark in part.split(",") if mark]


def _trouble(entity: Mapping[str, Any]) -> Trouble | None:
    """None if somebody else wrote it, or another version of this app."""
    with suppress(*_UNREADABLE):
        since, next_try = _moment(entity["since"]), _moment(entity["next_try"])
        in_gap = entity.get("in_gap") is True
        return Trouble(entity["RowKey"], str(entity["reason"]), since, int(entity["tries"]), next_try, in_gap)
    return None


def _moment(value: datetime) -> datetime:
    """A plain datetime in UTC, of the library's own kind."""
    return datetime.fromtimestamp(value.timestamp(), UTC)
