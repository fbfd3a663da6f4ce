"""Booking statuses: which one means Canceled, and whether the environment has Field Service.

Both are asked once and kept for the life of the process. Rows of statuses are judged in ``parsing.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from sync.dataverse.parsing import FIELD_SERVICE_STATUS, choose_canceled, is_canceled
from sync.dataverse.transport import Transport
from sync.errors import Misconfigured, UnknownColumn
from sync.ids import guid_of

log = logging.getLogger(__name__)

PAGE_SIZE = 500
"""Rows in one answer. An environment has some ten statuses, so one answer has all of them."""

T = TypeVar("T")


class Statuses:
    """The booking statuses of one environment; *canceled_id* is the one that the settings name, if they do."""

    def __init__(self, transport: Transport, canceled_id: str | None = None) -> None:
        self._transport = transport
        self._canceled_setting = canceled_id
        self._canceled_found: str | None = None
        self._canceled_lock = asyncio.Lock()
        self._has_field_service = True
        self._field_service_lock = asyncio.Lock()

    @property
    def is_set(self) -> bool:
        """Whether the settings name the status to cancel with."""
        return self._canceled_setting is not None

    async def with_columns(self, ask: Callable[[str], Awaitable[T]]) -> T:
        """Call *ask* with the columns of a status that a query can name, separated by commas.

        The first try names Field Service's column. In an environment without that column, *ask* is called once more.
        Raises: Misconfigured if another column is the unknown one; what *ask* raises.
        """
        asked_for_it = self._has_field_service
        try:
            return await ask(self._columns())
        except UnknownColumn as error:
            if not asked_for_it or await self._finds_field_service():
                raise Misconfigured(str(error)) from None
        return await ask(self._columns())

    async def canceled_id(self) -> str:
        """Return the id of the booking status that means Canceled; it is looked up once.

        Raises: Misconfigured, naming the rows, if it is not exactly one; Transient, Refused.
        """
        if self._canceled_setting is not None:
            return self._canceled_setting
        async with self._canceled_lock:
            if self._canceled_found is None:
                self._canceled_found = choose_canceled(await self._rows())
            return self._canceled_found

    def forget_canceled(self) -> None:
        """Look up the status again for the next cancellation, as the one that was found may be deleted."""
        self._canceled_found = None

    async def canceled_status(self) -> str:
        """Return the name and id of the booking status to cancel with, as it is configured or found now.

        Raises: Misconfigured if it is not exactly one, or does not mean Canceled; Transient, Refused.
        """
        rows = await self._rows()
        chosen = self._canceled_setting or choose_canceled(rows)
        row = next((row for row in rows if guid_of(row["bookingstatusid"]) == chosen), None)
        if row is None:
            raise Misconfigured("CANCELED_STATUS_ID names no active booking status of this environment")
        if not is_canceled(row):
            raise Misconfigured(f"CANCELED_STATUS_ID names {row.get('name')}, which does not mean Canceled")
        return f"{row.get('name')} ({chosen})"

    def _columns(self) -> str:
        return f"status,{FIELD_SERVICE_STATUS}" if self._has_field_service else "status"

    async def _finds_field_service(self) -> bool:
        """Ask for the column by itself, so that another unknown column is not taken for it.

        Without the column, the app cannot tell work that has begun from other work.
        """
        async with self._field_service_lock:
            if self._has_field_service:
                try:
                    await self._transport.get(f"bookingstatuses?$select={FIELD_SERVICE_STATUS}&$top=1")
                except UnknownColumn:
                    self._has_field_service = False
                    log.info("no Field Service in this environment: booking statuses are told by 'status' alone")
            return self._has_field_service

    async def _rows(self) -> list[Any]:
        return await self.with_columns(
            lambda columns: self._transport.get_rows(
                f"bookingstatuses?$select=name,{columns}&$filter=statecode%20eq%200", PAGE_SIZE
            )
        )
