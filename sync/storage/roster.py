"""Keeps in the table ``roster`` what runs remember of mailboxes, of each other, and of rounds of sweeps.

A table that cannot be reached is as good as an empty one: losing it costs tries, and what operators are shown. Only of
the last run it has to be known whether there was one. No rule about any of it lives here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

from sync.errors import Misconfigured, Transient
from sync.storage.tables import Row, StorageTable
from sync.subscriptions.outages import LastRun, Made, Trouble, next_trouble
from sync.times import as_plain

log = logging.getLogger(__name__)

TABLE = "roster"

_IDS_IN_A_COLUMN = 2_000
"""Short ids in one column, which holds 32,000 characters. Source: Azure Storage, "Table service data model".

Too few, and ten thousand mailboxes need more columns than a row has; too many, and storage refuses the row.
"""

_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError)


class RosterTable:
    """Mailboxes in trouble, the last run, the subscriptions it made, and the last round of sweeps."""

    def __init__(self, table: StorageTable) -> None:
        self._table = table

    async def troubles(self) -> Mapping[str, Trouble]:
        """Return what went wrong, by mailbox; nothing if the table cannot be reached."""
        found = {}
        with _forgiven("read"):
            async for row in self._table.query("PartitionKey eq 'trouble'", {}):
                trouble = _trouble(row)
                if trouble is not None:
                    found[trouble.mailbox] = trouble
        return found

    async def remember(self, mailbox: str, reason: str, now: datetime, rarely: bool, in_gap: bool = False) -> None:
        """Note that one more try of *mailbox* has failed; see ``next_trouble``."""
        with _forgiven("written"):
            known = await self._table.get("trouble", mailbox)
            before = _trouble(known) if known is not None else None
            trouble = next_trouble(mailbox, reason, before, now, rarely, in_gap)
            await self._table.put(
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
        """Note that *mailbox* is well."""
        with _forgiven("written"):
            await self._table.delete("trouble", mailbox)

    async def last_run(self) -> LastRun | None:
        """Return the last run; None if there was none.

        Raises: Transient, as "there was none" would be noted, and the traces of an outage lost with it.
        """
        try:
            row = await self._table.get("run", "last")
        except Misconfigured as error:
            raise Transient(f"table {TABLE}: {error}") from None
        if row is not None:
            with suppress(*_UNREADABLE):
                unreached = row.get("unreached_since")
                return LastRun(
                    at=as_plain(row["at"]),
                    lifetime=timedelta(minutes=row["lifetime"]),
                    leavers_stay=row["leavers_stay"] is True,
                    unreached_since=as_plain(unreached) if unreached is not None else None,
                )
        return None

    async def ran(self, run: LastRun) -> None:
        """Note the last run. Its lifetime is stored in whole minutes."""
        row: dict[str, Any] = {
            "PartitionKey": "run",
            "RowKey": "last",
            "at": run.at,
            "lifetime": int(run.lifetime / timedelta(minutes=1)),
            "leavers_stay": run.leavers_stay,
        }
        if run.unreached_since is not None:
            row["unreached_since"] = run.unreached_since
        with _forgiven("written"):
            await self._table.put(row)

    async def made(self) -> Made | None:
        """Return the subscriptions that were not listed as they were made; None if none are known."""
        with _forgiven("read"), suppress(*_UNREADABLE):
            row = await self._table.get("run", "made")
            if row is not None:
                return Made(str(row["deployment"]), frozenset(_ids(row)))
        return None

    async def remember_made(self, made: Made) -> None:
        """Note these subscriptions. Some 40,000 fit in the row's mebibyte; of more, none is remembered."""
        with _forgiven("written"):
            row = {"PartitionKey": "run", "RowKey": "made", "deployment": made.deployment}
            await self._table.put({**row, **_columns(made.ids)})

    async def last_round(self) -> datetime | None:
        """Return when the last round that ended had begun; None if none is known."""
        with _forgiven("read"), suppress(*_UNREADABLE):
            row = await self._table.get("run", "round")
            if row is not None:
                return as_plain(row["begun"])
        return None

    async def remember_round(self, begun: datetime) -> None:
        """Note a round that ended."""
        with _forgiven("written"):
            await self._table.put({"PartitionKey": "run", "RowKey": "round", "begun": begun})

    async def probe(self) -> None:
        """Write, read and delete a row that no run looks at; the table is created as on first use.

        Raises: Transient, Misconfigured.
        """
        await self._table.put({"PartitionKey": "probe", "RowKey": "probe"})
        await self._table.get("probe", "probe")
        await self._table.delete("probe", "probe")


@contextmanager
def _forgiven(done: str) -> Iterator[None]:
    """Go on if the table cannot be reached, with a line in the log that it could not be *done*."""
    try:
        yield
    except (Transient, Misconfigured) as error:
        log.warning("the roster's table could not be %s reason=%r", done, str(error))


def _columns(ids: frozenset[str]) -> dict[str, str]:
    """Spread *ids* over columns."""
    ordered = sorted(ids)
    return {
        f"ids{place // _IDS_IN_A_COLUMN}": ",".join(ordered[place : place + _IDS_IN_A_COLUMN])
        for place in range(0, len(ordered), _IDS_IN_A_COLUMN)
    }


def _ids(row: Row) -> list[str]:
    parts = [str(row[name]) for name in row if name.startswith("ids")]
    return [each for part in parts for each in part.split(",") if each]


def _trouble(row: Row) -> Trouble | None:
    """Read *row*; None if a person has edited it into another shape."""
    with suppress(*_UNREADABLE):
        return Trouble(
            mailbox=row["RowKey"],
            reason=str(row["reason"]),
            since=as_plain(row["since"]),
            tries=int(row["tries"]),
            next_try=as_plain(row["next_try"]),
            in_gap=row.get("in_gap") is True,
        )
    return None
