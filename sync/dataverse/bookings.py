"""Bookings of Dataverse: read one, find several, write one.

This file builds queries and the columns of a write. ``parsing.py`` reads rows, ``statuses.py`` knows booking statuses,
and ``calls/answers.py`` knows what an answer means.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote
from uuid import UUID

from sync.dataverse.parsing import MODIFIED_BY, event_id_of, parse_booking, parse_own_id
from sync.dataverse.resources import Resources
from sync.dataverse.statuses import Statuses
from sync.dataverse.transport import PAGE_SIZE, Transport
from sync.errors import Incomplete, Malformed, Misconfigured, NotFound, NotWritten, Stale, SyncError, UnknownColumn
from sync.ids import comparable_id, spellings_of
from sync.model import Booking, Span
from sync.pairs.actions import CancelBooking, LinkBooking, MoveBooking, UnlinkBooking, Write
from sync.times import build_moment

log = logging.getLogger(__name__)

IDS_AT_ONCE = 40
"""Bookings that one list is asked for by their ids: some 3,500 characters of URL. If this is too small, a sweep makes
more calls. Above some 350, the URL is longer than the 32,768 characters that Dataverse allows.

Source: Dataverse Web API, "Compose HTTP requests and handle errors".
"""

_LINKED_PAGE_SIZE = 50
"""Rows in one answer about the bookings of one event: there is one, and rarely a second."""

_TIMES = "starttime,endtime,statecode"


class DataverseBookings:
    """The bookings of one environment, each read with its status, its resource and the resource's user.

    *event_id_column* is the logical name of the column that holds the event's id.
    """

    def __init__(self, transport: Transport, event_id_column: str, canceled_status_id: str | None = None) -> None:
        self._transport = transport
        self._column = event_id_column
        self.resources = Resources(transport)
        self.statuses = Statuses(transport, canceled_status_id)
        self._own_id: str | None = None
        self._own_id_lock = asyncio.Lock()

    async def read(self, booking_id: str) -> Booking | None:
        """Return the booking as it is now, None if there is none.

        Raises: ValueError if *booking_id* is no GUID; Transient, Refused, Malformed.
        """
        try:
            row = await self.statuses.with_columns(
                lambda status: self._transport.get(
                    f"bookableresourcebookings({UUID(booking_id)})?{self._columns(status)}"
                )
            )
        except NotFound:
            return None
        return parse_booking(row, self._column)

    async def is_own(self, booking: Booking) -> bool:
        """Say whether the app wrote *booking* last. The app's own id is asked for once.

        Source: Dataverse Web API, "WhoAmI". Raises: Transient, Refused, Malformed.
        """
        async with self._own_id_lock:
            if self._own_id is None:
                self._own_id = parse_own_id(await self._transport.get("WhoAmI"))
        return booking.modified_by == self._own_id

    async def linked_to(self, event_id: str) -> Sequence[Booking]:
        """Return the bookings that hold exactly *event_id*, in either alphabet.

        Dataverse compares without case. The ids of two events can differ by case alone, so rows of other events come
        along and are left out here. Raises: Transient, Refused, Malformed.
        Source: Dataverse Web API, "Filter rows"; Graph, "Obtain immutable identifiers for Outlook resources".
        """
        literals = [quote("'" + spelling.replace("'", "''") + "'", safe="") for spelling in spellings_of(event_id)]
        condition = "%20or%20".join(f"{self._column}%20eq%20{literal}" for literal in literals)
        rows = await self._rows_where(condition, _LINKED_PAGE_SIZE)
        wanted = comparable_id(event_id)
        return [parse_booking(row, self._column) for row in rows if event_id_of(row, self._column) == wanted]

    async def write(self, action: Write) -> str:
        """Write *action* to its booking, unless the row changed since it was read; only the columns that change.

        Return the row's new etag, an empty text if the answer does not tell it.
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

    async def of_mailbox(self, mailbox: str, window: Span) -> Sequence[Booking]:
        """Return the active bookings of the mailbox's user within *window*; a row that cannot be read is left out.

        Raises: Transient, Refused, Malformed.
        """
        ids = await self.resources.ids_of(mailbox)
        if not ids:
            return []
        any_of_them = "%20or%20".join(f"_resource_value%20eq%20{resource_id}" for resource_id in ids)
        return await self._where(
            f"statecode%20eq%200%20and%20({any_of_them})"
            f"%20and%20endtime%20ge%20{build_moment(window.start)}%20and%20starttime%20le%20{build_moment(window.end)}"
        )

    async def with_ids(self, booking_ids: Sequence[str]) -> Sequence[Booking]:
        """Return the bookings with these ids, of any user and in any state; an id without a booking is left out.

        Raises: ValueError if one is no GUID; Transient, Refused, Malformed.
        """
        found: list[Booking] = []
        for place in range(0, len(booking_ids), IDS_AT_ONCE):
            some = booking_ids[place : place + IDS_AT_ONCE]
            found += await self._where(
                "%20or%20".join(f"bookableresourcebookingid%20eq%20{UUID(booking_id)}" for booking_id in some)
            )
        return found

    async def knows_event_id_column(self) -> bool:
        """Say whether queries know the event-id column; a new column is unknown until it is published."""
        try:
            await self._transport.get(f"bookableresourcebookings?$select={self._column}&$top=1")
        except UnknownColumn:
            return False
        return True

    async def knows_names(self) -> bool:
        """Say whether queries know all other names that the app uses; the case of navigation properties matters."""
        try:
            await self.statuses.with_columns(
                lambda status: self._transport.get(
                    f"bookableresourcebookings?$select={_TIMES}&{_expanded(status)}&$top=1"
                )
            )
        except Misconfigured:
            return False
        return True

    async def _columns_of(self, action: Write) -> dict[str, Any]:
        """The columns that *action* changes, as the Web API takes them."""
        match action:
            case LinkBooking():
                return {self._column: action.event_id}
            case UnlinkBooking():
                return {self._column: None}
            case CancelBooking():
                status = f"/bookingstatuses({await self.statuses.canceled_id()})"
                columns: dict[str, Any] = {"BookingStatus@odata.bind": status}
                return columns | ({self._column: None} if action.unlink else {})
            case MoveBooking(span=span):
                start, end = build_moment(span.start), build_moment(span.end)
                # All three, because whether the server derives the duration is not documented.
                columns = {"starttime": start, "endtime": end, "duration": span.minutes}
                return columns | ({self._column: action.event_id} if action.event_id is not None else {})

    async def _why_not_found(self, action: Write, error: NotFound) -> SyncError:
        """Tell which row is gone: the booking, or the status that the booking was to get."""
        self.statuses.forget_canceled()
        if isinstance(action, CancelBooking) and self.statuses.is_set and await self.read(action.booking_id):
            return Misconfigured("CANCELED_STATUS_ID names no booking status of this environment")
        return Stale(str(error))

    async def _where(self, condition: str) -> list[Booking]:
        """The bookings that fit. A row that cannot be read is left out, so that the others are still swept."""
        found = []
        for row in await self._rows_where(f"{condition}&$orderby=starttime", PAGE_SIZE):
            try:
                found.append(parse_booking(row, self._column))
            except (Malformed, Incomplete) as error:
                log.warning("booking left out reason=%r", str(error))
        return found

    async def _rows_where(self, condition: str, page_size: int) -> list[Any]:
        return await self.statuses.with_columns(
            lambda status: self._transport.get_rows(
                f"bookableresourcebookings?{self._columns(status)}&$filter={condition}", page_size
            )
        )

    def _columns(self, status: str) -> str:
        return f"$select={_TIMES},{MODIFIED_BY},{self._column}&{_expanded(status)}"


def _expanded(status: str) -> str:
    return (
        f"$expand=BookingStatus($select={status}),"
        "Resource($select=resourcetype;$expand=UserId($select=azureactivedirectoryobjectid))"
    )
