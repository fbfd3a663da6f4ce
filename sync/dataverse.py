"""Bookings and bookable resources of Dataverse over one ``requests`` session; JSON → our values.

Called from async functions, so each request runs in a thread. What a status means is said in errors.py.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit
from uuid import UUID

import requests
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError
from requests.adapters import HTTPAdapter

from sync import telemetry
from sync.errors import Malformed, Misconfigured, NotFound, Refused, Stale, Transient, UnknownColumn, check
from sync.model import Booking, CancelBooking, LinkBooking, MoveBooking, Span, UnlinkBooking, Write
from sync.pauses import DATAVERSE, Pauses
from sync.retry import short_waits

log = logging.getLogger(__name__)

TIMEOUT = (5.0, 30.0)
"""Seconds to connect and between bytes; a write runs Field Service's plug-ins before it answers."""

CONNECTIONS = 32
"""Below the 52 concurrent requests a user may have. Source: Dataverse, "Service protection API limits"."""

PAGES = 1_000
"""Of one list; more are a nextLink that leads in a circle."""

ORDER_PAGES = 10
"""Of 5,000 bookings each, to find out which mailboxes come first."""

IDS_AT_ONCE = 40
"""Bookings that one list is asked for by their ids: some 3,500 characters of URL, where 32,768 are allowed.

Source: Dataverse Web API, "Compose HTTP requests and handle errors".
"""

# Source: bookingstatus table, and Field Service's choice msdyn_bookingsystemstatus. On Break stands before In Progress.
_STATUS_CANCELED = 3
_TRAVELING, _ON_BREAK, _IN_PROGRESS, _COMPLETED, _CANCELED = (690970000 + n for n in range(1, 6))
_HAS_BEGUN = frozenset({_TRAVELING, _ON_BREAK, _IN_PROGRESS, _COMPLETED})

_FIELD_SERVICE_STATUS = "msdyn_fieldservicestatus"
_USER_RESOURCE = 3

_TIMES = "starttime,endtime,statecode"
_MODIFIED_BY = "_modifiedby_value"

T = TypeVar("T")


class Transport:
    """One session, one pool, for the process's life: authentication, time-outs, short waits, errors by name.

    *url* is the environment's, like ``https://contoso.crm4.dynamics.com``. *spent* is told of each call. Unless it
    *may_write*, nothing but reads is sent, whoever asks for it.
    """

    def __init__(
        self,
        url: str,
        credential: AsyncTokenCredential,
        now: Callable[[], datetime],
        spent: Callable[[], None] = lambda: None,
        may_write: bool = True,
    ) -> None:
        self._spent = spent
        self._may_write = may_write
        self._root = f"{url.rstrip('/')}/api/data/v9.2/"
        self._scope = f"{urlsplit(url).scheme}://{urlsplit(url).netloc}/.default"
        self._credential = credential
        self._now = now
        self.pauses = Pauses(now)
        self._session = requests.Session()
        self._session.mount(url, HTTPAdapter(pool_connections=1, pool_maxsize=CONNECTIONS, pool_block=True))
        # Not asyncio's own few threads, which also look up the names of hosts for everybody else.
        self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="dataverse")
        self._session.auth = _leave_alone
        # The affinity cookie would tie all instances' calls to one web server and its limits.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers.update(
            {
                "Accept": "application/json",
                "OData-MaxVersion": "4.0",
                "OData-Version": "4.0",
                "If-None-Match": "null",
            }
        )

    async def get(self, path: str, page_size: int | None = None, headers: Mapping[str, str] | None = None) -> Any:
        """The JSON at *path*, which is relative or the nextLink of an earlier page, its query percent-encoded."""
        prefer = {"Prefer": f"odata.maxpagesize={page_size}"} if page_size else {}
        return await self._send("GET", path, {**prefer, **(headers or {})}, None)

    async def patch(self, path: str, columns: dict[str, Any], etag: str) -> Any:
        """The row afterwards, with those of its columns that *path* selects.

        Source: Dataverse Web API, "Perform conditional operations": without If-Match, PATCH creates rows; "Update with
        data returned".
        """
        return await self._send("PATCH", path, {"If-Match": etag, "Prefer": "return=representation"}, columns)

    async def post(self, path: str, body: dict[str, Any], headers: Mapping[str, str] | None = None) -> None:
        """Sent once: nobody knows what an unanswered one has done."""
        await self._send_once("POST", self._root + path, dict(headers or {}), body)

    async def _send(self, method: str, path: str, headers: dict[str, str], columns: dict[str, Any] | None) -> Any:
        url = self._root + path if not path.startswith(("https://", "http://")) else path
        if not url.startswith(self._root):
            raise Malformed("dataverse: a nextLink to elsewhere")
        async for attempt in short_waits():
            with attempt, self.pauses.kept(DATAVERSE):
                try:
                    return await self._send_once(method, url, headers, columns)
                except Stale as error:
                    error.is_certain = attempt.retry_state.attempt_number == 1
                    raise
        raise AssertionError("unreachable")  # pragma: no cover

    async def _send_once(self, method: str, url: str, headers: dict[str, str], columns: dict[str, Any] | None) -> Any:
        if method != "GET" and not self._may_write:
            raise Refused("dataverse: nothing is written while SYNC_MODE is observe")
        try:
            token = (await self._credential.get_token(self._scope)).token
            ask = partial(
                self._session.request,
                method,
                url,
                headers={**headers, "Authorization": f"Bearer {token}"},
                json=columns,
                timeout=TIMEOUT,
                allow_redirects=False,
            )
            self._spent()
            answer = asyncio.get_running_loop().run_in_executor(self._threads, ask)
            table = re.split(r"[(?]", url.removeprefix(self._root))[0]
            response = await telemetry.called("dataverse", f"{method} {table}", answer)
        except requests.RequestException as error:
            raise Transient(f"dataverse: no answer ({type(error).__name__})") from error
        except ClientAuthenticationError as error:
            raise Misconfigured("no token for Dataverse: is the app's identity set up?") from error
        except AzureError as error:
            raise Transient(f"dataverse: no token ({type(error).__name__})") from error
        check("dataverse", response.status_code, response.headers, response.content, self._now())
        if not response.content:
            return None
        try:
            return json.loads(response.content)
        except (ValueError, RecursionError):
            raise Transient("dataverse: an answer that is no JSON") from None

    def close(self) -> None:
        self._session.close()
        self._threads.shutdown(wait=False)


def _leave_alone(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keeps requests from putting what a .netrc file says in the place of our token."""
    return request


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
        Raises: Stale (the row changed, or is gone), Transient, Refused.
        """
        columns: dict[str, Any]
        match action:
            case LinkBooking():
                columns = {self._column: action.event_id}
            case UnlinkBooking():
                columns = {self._column: None}
            case CancelBooking():
                columns = {"BookingStatus@odata.bind": f"/bookingstatuses({await self._canceled()})"}
                if action.unlink:
                    columns[self._column] = None
            case MoveBooking(span=span):
                # All three, because whether the server derives the duration is not documented.
                columns = {"starttime": _iso(span.start), "endtime": _iso(span.end), "duration": span.minutes}
                if action.event_id is not None:
                    columns[self._column] = action.event_id
        try:
            path = f"bookableresourcebookings({UUID(action.booking_id)})?$select=bookableresourcebookingid"
            row = await self._transport.patch(path, columns, action.etag)
        except NotFound as error:
            # Gone is the booking, or the status that it should get.
            self._canceled_found = None
            if isinstance(action, CancelBooking) and self._canceled_setting and await self.read(action.booking_id):
                raise Misconfigured("CANCELED_STATUS_ID names no booking status of this environment") from None
            raise Stale(str(error)) from None
        return str(row.get("@odata.etag") or "") if isinstance(row, dict) else ""

    async def of_mailbox(self, mailbox: str, window: Span) -> Sequence[Booking]:
        """The active bookings of the mailbox's user within *window*."""
        resources = await self._transport.get(
            "bookableresources?$select=bookableresourceid"
            f"&$filter=resourcetype%20eq%20{_USER_RESOURCE}"
            f"%20and%20UserId/azureactivedirectoryobjectid%20eq%20{UUID(mailbox)}"
        )
        ids = [_guid(row["bookableresourceid"]) for row in _rows(resources)]
        if not ids:
            return []
        any_of_them = "%20or%20".join(f"_resource_value%20eq%20{resource_id}" for resource_id in ids)
        return await self._where(
            f"statecode%20eq%200%20and%20({any_of_them})"
            f"%20and%20endtime%20ge%20{_iso(window.start)}%20and%20starttime%20le%20{_iso(window.end)}"
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
            f"%20and%20endtime%20ge%20{_iso(window.start)}%20and%20starttime%20le%20{_iso(window.end)}"
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
        row = next((row for row in rows if _guid(row["bookingstatusid"]) == chosen), None)
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
                    found.add(_guid(user["azureactivedirectoryobjectid"]))
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


def choose_canceled(rows: Sequence[Any]) -> str:
    """The id of the one active booking status that means Canceled: by Field Service's value, else by ``status``.

    Statuses are rows that can be renamed and multiplied at will, so a name tells nothing.
    Raises: Misconfigured if there is none or several.
    """
    found = [row for row in rows if row.get(_FIELD_SERVICE_STATUS) == _CANCELED]
    found = found or [row for row in rows if row.get("status") == _STATUS_CANCELED]
    if len(found) == 1:
        return _guid(found[0]["bookingstatusid"])
    names = ", ".join(f"{row.get('name')} ({row.get('bookingstatusid')})" for row in found) or "none"
    raise Misconfigured(f"CANCELED_STATUS_ID must say which booking status means Canceled; found: {names}")


def parse_booking(row: Any, event_id_column: str) -> Booking:
    """Raises: Malformed if *row* is no booking with its status and resource expanded."""
    try:
        status = row["BookingStatus"] or {}
        user = (row["Resource"] or {}).get("UserId") or {}
        object_id = user.get("azureactivedirectoryobjectid")
        field_service = status.get(_FIELD_SERVICE_STATUS)
        return Booking(
            id=_guid(row["bookableresourcebookingid"]),
            etag=str(row["@odata.etag"]),
            span=Span.of(_moment(row["starttime"]), _moment(row["endtime"])),
            event_id=row.get(event_id_column) or None,
            mailbox=_guid(object_id) if object_id else None,
            is_active=row["statecode"] == 0,
            is_canceled=_is_canceled(status),
            has_begun=field_service in _HAS_BEGUN,
            modified_by=_guid(row[_MODIFIED_BY]) if row.get(_MODIFIED_BY) else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise Malformed(f"dataverse: a booking that cannot be read ({type(error).__name__})") from None


def _own_id(answer: Any) -> str:
    try:
        return _guid(answer["UserId"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Malformed("dataverse: WhoAmI without a UserId") from None


def _is_canceled(status: Any) -> bool:
    """Of a row of booking statuses: Field Service's value tells, and ``status`` where it has none."""
    field_service = status.get(_FIELD_SERVICE_STATUS)
    return bool(field_service == _CANCELED if field_service is not None else status.get("status") == _STATUS_CANCELED)


def _rows(page: Any) -> list[Any]:
    rows = page.get("value") if isinstance(page, dict) else None
    if not isinstance(rows, list):
        raise Malformed("dataverse: a list without value")
    return list(rows)


def _moment(text: str) -> datetime:
    """Times come in UTC; one without a zone is UTC as well. Source: Dataverse, "Behavior and format"."""
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _guid(text: str) -> str:
    return str(UUID(text))


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
