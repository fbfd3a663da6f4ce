"""Bookings and bookable resources of Dataverse over one ``requests`` session; JSON → our values.

Called from async functions, so each request runs in a thread. What a status means is said in errors.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote
from uuid import UUID

from sync.dataverse.parsing import (
    _FIELD_SERVICE_STATUS,
    _MODIFIED_BY,
    _is_canceled,
    _own_id,
    _rows,
    choose_canceled,
    parse_booking,
)
from sync.dataverse.transport import PAGES, Transport
from sync.errors import Malformed, Misconfigured, NotFound, NotWritten, Stale, SyncError, UnknownColumn
from sync.ids import guid_of
from sync.model import Booking, Span
from sync.pairs.actions import CancelBooking, LinkBooking, MoveBooking, UnlinkBooking, Write
from sync.times import build_moment

log = logging.getLogger(__name__)

ORDER_PAGES = 10
"""Of 5,000 bookings each, to find out which mailboxes come first."""

IDS_AT_ONCE = 40
"""Bookings that one list is asked for by their ids: some 3,500 characters of URL, where 32,768 are allowed.

Source: Dataverse Web API, "Compose HTTP requests and handle errors".
"""
_USER_RESOURCE = 3

_TIMES = "starttime,endtime,statecode"


class DataverseBookings:
    """Bookings with what the decision needs of their status, resource and user, in one read each."""

    def __init__(self, transport: Transport, event_id_column: str, canceled_status_id: str | None = None) -> None:
        self._transport = transport
        self._column = event_id_column
        self._canceled_setting = canceled_status_id
        self._canceled_found: str | None = None
        self._field_service_lock = asyncio.Lock()
        self._canceled_lock = asyncio.Lock()
        self._own_id: str | None = None
        self._own_id_lock = asyncio.Lock()
        self._has_field_service = True

    async def read(self, booking_id: str) -> Booking | None:
        try:
            row = await self._with_status_columns(
                lambda: self._transport.get(f"bookableresourcebookings({UUID(booking_id)})?{self._columns()}")
            )
        except NotFound:
            return None
        return parse_booking(row, self._column)

    async def is_own(self, booking: Booking) -> bool:
        """Whether it was this app that wrote *booking* last. Source: Dataverse Web API, "WhoAmI"; asked once."""
        async with self._own_id_lock:
            if self._own_id is None:
                self._own_id = _own_id(await self._transport.get("WhoAmI"))
        return booking.modified_by == self._own_id

    async def linked_to(self, event_id: str) -> Sequence[Booking]:
        """The bookings that hold exactly *event_id*.

        Dataverse compares without case and Exchange's ids differ by case alone, so rows of other events come along.
        Source: Dataverse Web API, "Filter rows"; Graph, "Obtain immutable identifiers for Outlook resources".
        """
        literal = quote("'" + event_id.replace("'", "''") + "'", safe="")
        page = await self._with_status_columns(
            lambda: self._transport.get(
                f"bookableresourcebookings?{self._columns()}&$filter={self._column}%20eq%20{literal}", page_size=50
            )
        )
        rows = await self._all_rows(page, page_size=50)
        return [parse_booking(row, self._column) for row in rows if row.get(self._column) == event_id]

    async def write(self, action: Write) -> str:
        """Write *action* to its booking, unless the row changed since it was read; only the columns that change.

        The row's new etag, empty if the answer does not tell.
        Raises: NotWritten if certainly nothing was written; its reason is Stale (the row changed, or is gone),
        Throttled, Refused, or what else was in the way. Transient, Stale, NoAnswer if the row may have been written.
        """
        try:
            columns = await self._columns_of(action)
        except SyncError as error:
            raise NotWritten(error) from error
        path = f"bookableresourcebookings({UUID(action.booking_id)})?$select=bookableresourcebookingid"
        try:
            row = await self._transport.patch(path, columns, action.etag)
        except NotWritten as error:
            if not isinstance(error.reason, NotFound):
                raise
            raise NotWritten(await self._why_not_found(action, error.reason)) from error
        except NotFound as error:
            raise Stale(str(error)) from error
        return str(row.get("@odata.etag") or "") if isinstance(row, dict) else ""

    async def _columns_of(self, action: Write) -> dict[str, Any]:
        """The columns that *action* changes, as the Web API takes them."""
        match action:
            case LinkBooking():
                return {self._column: action.event_id}
            case UnlinkBooking():
                return {self._column: None}
            case CancelBooking():
                columns: dict[str, Any] = {"BookingStatus@odata.bind": f"/bookingstatuses({await self._canceled()})"}
                return columns | ({self._column: None} if action.unlink else {})
            case MoveBooking(span=span):
                # All three, because whether the server derives the duration is not documented.
                columns = {
                    "starttime": build_moment(span.start),
                    "endtime": build_moment(span.end),
                    "duration": span.minutes,
                }
                return columns | ({self._column: action.event_id} if action.event_id is not None else {})

    async def _why_not_found(self, action: Write, error: NotFound) -> SyncError:
        """Gone is the booking, or the status that it should get."""
        self._canceled_found = None
        if isinstance(action, CancelBooking) and self._canceled_setting and await self.read(action.booking_id):
            return Misconfigured("CANCELED_STATUS_ID names no booking status of this environment")
        return Stale(str(error))

    async def of_mailbox(self, mailbox: str, window: Span) -> Sequence[Booking]:
        """The active bookings of the mailbox's user within *window*."""
        resources = await self._transport.get(
            "bookableresources?$select=bookableresourceid"
            f"&$filter=resourcetype%20eq%20{_USER_RESOURCE}"
            f"%20and%20UserId/azureactivedirectoryobjectid%20eq%20{UUID(mailbox)}"
        )
        ids = [guid_of(row["bookableresourceid"]) for row in _rows(resources)]
        if not ids:
            return []
        any_of_them = "%20or%20".join(f"_resource_value%20eq%20{resource_id}" for resource_id in ids)
        return await self._where(
            f"statecode%20eq%200%20and%20({any_of_them})"
            f"%20and%20endtime%20ge%20{build_moment(window.start)}%20and%20starttime%20le%20{build_moment(window.end)}"
        )

    async def with_ids(self, booking_ids: Sequence[str]) -> Sequence[Booking]:
        """The bookings with these ids, whoever's they are and in whatever state; what does not exist is left out."""
        found: list[Booking] = []
        for place in range(0, len(booking_ids), IDS_AT_ONCE):
            some = booking_ids[place : place + IDS_AT_ONCE]
            found += await self._where(
                "%20or%20".join(f"bookableresourcebookingid%20eq%20{UUID(booking_id)}" for booking_id in some)
            )
        return found

    async def _where(self, condition: str) -> list[Booking]:
        """The bookings that fit; one that cannot be read is left out, it must not keep the others from their sweep."""
        page = await self._with_status_columns(
            lambda: self._transport.get(
                f"bookableresourcebookings?{self._columns()}&$filter={condition}&$orderby=starttime", page_size=5000
            )
        )
        found = []
        for row in await self._all_rows(page, page_size=5000):
            try:
                found.append(parse_booking(row, self._column))
            except Malformed as error:
                log.warning("booking left out reason=%r", str(error))
        return found

    async def by_start(self, wanted: Sequence[str], window: Span) -> Sequence[str]:
        """Those of the mailboxes that have bookings within *window*, in the order of their first one.

        Read until all of them are found, or ``ORDER_PAGES`` pages: who has no booking there is in no hurry.
        """
        path: str | None = (
            "bookableresourcebookings?$select=starttime"
            "&$expand=Resource($select=resourcetype;$expand=UserId($select=azureactivedirectoryobjectid))"
            f"&$filter=statecode%20eq%200%20and%20Resource/resourcetype%20eq%20{_USER_RESOURCE}"
            f"%20and%20endtime%20ge%20{build_moment(window.start)}%20and%20starttime%20le%20{build_moment(window.end)}"
            "&$orderby=starttime"
        )
        left, found = set(wanted), []
        for _ in range(ORDER_PAGES):
            if not path or not left:
                break
            page = await self._transport.get(path, page_size=5000)
            for row in _rows(page):
                user = (row.get("Resource") or {}).get("UserId") or {}
                mailbox = str(user.get("azureactivedirectoryobjectid")).lower()
                if mailbox in left:
                    left.remove(mailbox)
                    found.append(mailbox)
            path = page.get("@odata.nextLink")
        return found

    async def knows_event_id_column(self) -> bool:
        """Whether queries know it, which a column that is not published yet may have to wait for."""
        try:
            await self._transport.get(f"bookableresourcebookings?$select={self._column}&$top=1")
        except UnknownColumn:
            return False
        return True

    async def knows_names(self) -> bool:
        """Whether all else of a booking is called as it is here; the case of navigation properties matters."""
        try:
            await self._with_status_columns(
                lambda: self._transport.get(f"bookableresourcebookings?$select={_TIMES}&{self._expanded()}&$top=1")
            )
        except Misconfigured:
            return False
        return True

    async def canceled_status(self) -> str:
        """The name and id of the booking status to cancel with, as it is configured or found now.

        Raises: Misconfigured if it is not exactly one, or does not mean Canceled.
        """
        rows = await self._statuses()
        chosen = self._canceled_setting or choose_canceled(rows)
        row = next((row for row in rows if guid_of(row["bookingstatusid"]) == chosen), None)
        if row is None:
            raise Misconfigured("CANCELED_STATUS_ID names no active booking status of this environment")
        if not _is_canceled(row):
            raise Misconfigured(f"CANCELED_STATUS_ID names {row.get('name')}, which does not mean Canceled")
        return f"{row.get('name')} ({chosen})"

    async def mailboxes(self) -> Sequence[str]:
        """The Entra object ids of all enabled users who are active bookable resources, in lower case, sorted."""
        path = (
            "bookableresources?$select=bookableresourceid"
            f"&$filter=resourcetype%20eq%20{_USER_RESOURCE}%20and%20statecode%20eq%200"
            "&$expand=UserId($select=azureactivedirectoryobjectid,isdisabled)"
        )
        rows = await self._all_rows(await self._transport.get(path, page_size=5000), page_size=5000)
        found = set()
        for user in (row.get("UserId") or {} for row in rows):
            if user.get("azureactivedirectoryobjectid") and not user.get("isdisabled"):
                try:
                    found.add(guid_of(user["azureactivedirectoryobjectid"]))
                except ValueError:
                    log.warning("a user whose Entra object id is no GUID is left out")
        return sorted(found)

    async def _all_rows(self, page: Any, page_size: int) -> list[Any]:
        rows: list[Any] = _rows(page)
        for _ in range(PAGES):
            link = page.get("@odata.nextLink")
            if not link:
                return rows
            page = await self._transport.get(str(link), page_size=page_size)
            rows += _rows(page)
        raise Malformed("dataverse: a list without an end")

    def _columns(self) -> str:
        return f"$select={_TIMES},{_MODIFIED_BY},{self._column}&{self._expanded()}"

    def _expanded(self) -> str:
        status = f"status,{_FIELD_SERVICE_STATUS}" if self._has_field_service else "status"
        return (
            f"$expand=BookingStatus($select={status}),"
            "Resource($select=resourcetype;$expand=UserId($select=azureactivedirectoryobjectid))"
        )

    async def _with_status_columns(self, ask: Callable[[], Any]) -> Any:
        """Ask with Field Service's column, and without it where the environment has no such column.

        Raises: Misconfigured if another column is the unknown one.
        """
        asked_for_it = self._has_field_service
        try:
            return await ask()
        except UnknownColumn as error:
            if not asked_for_it or await self._finds_field_service():
                raise Misconfigured(str(error)) from None
        return await ask()

    async def _finds_field_service(self) -> bool:
        """Whether the column exists, asked for by itself: without it, work that has begun is not told from other work.

        So no other column that is unknown, or not yet published, may be taken for it.
        """
        async with self._field_service_lock:
            if self._has_field_service:
                try:
                    await self._transport.get(f"bookingstatuses?$select={_FIELD_SERVICE_STATUS}&$top=1")
                except UnknownColumn:
                    self._has_field_service = False
                    log.info("no Field Service in this environment: booking statuses are told by 'status' alone")
            return self._has_field_service

    async def _canceled(self) -> str:
        """The id of the booking status for Canceled; looked up once.

        Raises: Misconfigured, naming the rows, if it is not exactly one.
        """
        if self._canceled_setting is not None:
            return self._canceled_setting
        async with self._canceled_lock:
            if self._canceled_found is None:
                self._canceled_found = choose_canceled(await self._statuses())
            return self._canceled_found

    async def _statuses(self) -> list[Any]:
        def ask() -> Any:
            columns = f"status,{_FIELD_SERVICE_STATUS}" if self._has_field_service else "status"
            return self._transport.get(
                f"bookingstatuses?$select=name,{columns}&$filter=statecode%20eq%200", page_size=500
            )

        return await self._all_rows(await self._with_status_columns(ask), page_size=500)
