"""Events of Microsoft Graph: read one, list those of a mailbox, find out whether one is in a calendar.

The SDK builds, signs and sends requests. Its models are not used: the first event that they build costs two seconds of
imports, and they turn texts that look like GUIDs or dates into something else. ``parsing.py`` reads the JSON, and
``calls/answers.py`` knows what a status means.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from functools import cached_property
from typing import Any
from urllib.parse import quote
from weakref import WeakValueDictionary

import httpx
from kiota_abstractions.request_information import RequestInformation
from msgraph.generated.users.item.calendars.calendars_request_builder import CalendarsRequestBuilder
from msgraph.generated.users.item.calendars.item.calendar_view.calendar_view_request_builder import (
    CalendarViewRequestBuilder,
)
from msgraph.generated.users.item.events.events_request_builder import EventsRequestBuilder
from msgraph.generated.users.item.events.item.calendar.calendar_request_builder import CalendarRequestBuilder
from msgraph.generated.users.item.events.item.event_item_request_builder import EventItemRequestBuilder

from sync.calls.shapes import list_of
from sync.errors import Incomplete, Malformed, NotFound, Refused, Stale, Transient
from sync.graph.parsing import parse_event, text_of
from sync.graph.transport import HUNG_FOR, IMMUTABLE, Transport, configured, set_url
from sync.model import Event, EventType, Unreadable
from sync.times import build_moment

log = logging.getLogger(__name__)

PER_MAILBOX = 4
"""Requests for one mailbox at a time. Outlook serves four of one app. Fewer make a sweep slow, and more are throttled.
Source: Graph, "Throttling limits"."""

PAGE_SIZE = 100
"""Events in one answer of a list."""

_COLUMNS = ["id", "start", "end", "isAllDay", "isCancelled", "type"]

_A_USER, _AN_EVENT = "--user--", "--event--"
"""Stand for ids in a URL. No id and no name in the URL contains them."""

_UTC = ("Prefer", 'outlook.timezone="UTC"')


class GraphEvents:
    """Events with the app's open extension. Subjects, bodies and attendees are never asked for."""

    def __init__(self, transport: Transport, extension_name: str, extension_property: str) -> None:
        self._transport = transport
        self._name = extension_name
        self._property = extension_property
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._hung_until: dict[str, float] = {}

    async def read(self, mailbox: str, event_id: str) -> Event | None:
        """Return the event as it is now, None if Outlook says that this item is not there.

        Raises: Malformed, NotOurs, Transient, Refused.

        Source: Graph, "Get event" and "Get openTypeExtension".
        """
        builder = self._transport.client.users.by_user_id(mailbox).events.by_event_id(event_id)
        request = builder.to_get_request_information(configured(None, IMMUTABLE, _UTC))
        set_url(request, self._event_url.replace(_A_USER, quote(mailbox, "")).replace(_AN_EVENT, quote(event_id, "")))
        try:
            return parse_event(await self._send(mailbox, request), self._name, self._property)
        except NotFound:
            return None

    @cached_property
    def _event_url(self) -> str:
        """The URL of ``_AN_EVENT`` of ``_A_USER``. It is made once, as the SDK takes long to fill in a template."""
        parameters = EventItemRequestBuilder.EventItemRequestBuilderGetQueryParameters(
            select=[*_COLUMNS, "createdDateTime", "lastModifiedDateTime"],
            # Without the filter Outlook refuses to expand extensions.
            expand=[f"extensions($filter=id eq '{_quoted(self._name)}')"],
        )
        builder = self._transport.client.users.by_user_id(_A_USER).events.by_event_id(_AN_EVENT)
        return self._transport.url_of(builder.to_get_request_information(configured(parameters)))

    async def with_extension(self, mailbox: str) -> Sequence[Event | Unreadable]:
        """Return the events of the default calendar that carry the app's extension, of any time.

        A filter by time beside the one by extension is not documented. Source: Graph, "Get openTypeExtension".
        """
        return await self._list(mailbox, self._transport.client.users.by_user_id(mailbox).events)

    async def in_other_calendars(self, mailbox: str) -> Sequence[Event | Unreadable]:
        """Return the events that carry the app's extension in all calendars but the default one.

        A calendar that cannot be read is left out. Another person may have shared it with the mailbox, or Outlook fills
        it by itself, such as birthdays. Source: Graph, "List calendars", "List events".
        """
        user = self._transport.client.users.by_user_id(mailbox)
        parameters = CalendarsRequestBuilder.CalendarsRequestBuilderGetQueryParameters(
            select=["id", "isDefaultCalendar"], top=PAGE_SIZE
        )
        request = user.calendars.to_get_request_information(configured(parameters, IMMUTABLE))
        found: list[Event | Unreadable] = []
        async for items in self._pages(mailbox, user.calendars, request, IMMUTABLE):
            for calendar in (text_of(item, "id") for item in items if item.get("isDefaultCalendar") is not True):
                try:
                    found += await self._list(mailbox, user.calendars.by_calendar_id(calendar).events)
                except (Refused, Transient, Malformed) as error:
                    log.warning("calendar left out mailbox=%s reason=%r", mailbox, str(error))
        return found

    async def _list(self, mailbox: str, builder: Any) -> list[Event | Unreadable]:
        """The events of one calendar that carry our extension."""
        request = self._with_extension(builder, PAGE_SIZE)
        found: list[Event | Unreadable] = []
        async for items in self._pages(mailbox, builder, request, IMMUTABLE, _UTC):
            for item in items:
                try:
                    found.append(parse_event(item, self._name, self._property))
                except (Malformed, Incomplete) as error:
                    with suppress(Malformed):
                        found.append(Unreadable(text_of(item, "id")))
                    log.warning("event left out mailbox=%s reason=%r", mailbox, str(error))
        return found

    async def check_access(self, mailbox: str) -> None:
        """Return if the mailbox's events can be listed. Raises: AccessDenied, MailboxUnavailable, Transient."""
        await self._send(mailbox, self._with_extension(self._transport.client.users.by_user_id(mailbox).events, 1))

    def _with_extension(self, builder: Any, page_size: int) -> RequestInformation:
        name = _quoted(self._name)
        parameters = EventsRequestBuilder.EventsRequestBuilderGetQueryParameters(
            select=_COLUMNS,
            expand=[f"Extensions($filter=id eq '{name}')"],
            filter=f"Extensions/any(f:f/id eq '{name}')",
            top=page_size,
        )
        request: RequestInformation = builder.to_get_request_information(configured(parameters, IMMUTABLE, _UTC))
        return request

    async def stands(self, mailbox: str, event_id: str, event: Event | None) -> bool:
        """Say whether an event that can still be read stands in a calendar, over its own span.

        The default calendar is looked at first, then the one that the event names; what a deleted event answers there
        is not documented, so both ways of saying no are understood. *event* is None if it cannot be read.
        Raises: Stale if it changed while it was looked for, Refused if it cannot be read but names a calendar.
        """
        user = self._transport.client.users.by_user_id(mailbox)
        if event is not None and await self._is_in(mailbox, user.calendar_view, event):
            return True
        calendar = await self._calendar(mailbox, event_id)
        if calendar is None:
            return False
        if event is None:
            raise Refused("graph: an event that cannot be read names a calendar")
        if event.type is not EventType.SINGLE:
            return True  # its own span is that of one occurrence, which may be gone or moved by itself
        with suppress(NotFound):  # what it names may be no calendar but a folder
            if await self._is_in(mailbox, user.calendars.by_calendar_id(calendar).calendar_view, event):
                return True
        now = await self.read(mailbox, event_id)
        if now is not None and (now.etag != event.etag or await self._calendar(mailbox, event_id) != calendar):
            raise Stale("the event changed while it was looked for")
        return False

    async def _calendar(self, mailbox: str, event_id: str) -> str | None:
        """The id of the calendar that the event says it is in. Source: Graph, "event resource type", calendar."""
        parameters = CalendarRequestBuilder.CalendarRequestBuilderGetQueryParameters(select=["id"])
        builder = self._transport.client.users.by_user_id(mailbox).events.by_event_id(event_id).calendar
        try:
            answer = await self._send(mailbox, builder.to_get_request_information(configured(parameters, IMMUTABLE)))
        except NotFound:
            return None
        return text_of(answer, "id")

    async def _is_in(self, mailbox: str, view: Any, event: Event) -> bool:
        """Whether the calendar *view* has the event, or an occurrence of it if it is a series."""
        request = view.to_get_request_information(
            configured(
                CalendarViewRequestBuilder.CalendarViewRequestBuilderGetQueryParameters(
                    start_date_time=build_moment(event.span.start),
                    end_date_time=build_moment(max(event.span.end, event.span.start + timedelta(seconds=1))),
                    select=["id", "seriesMasterId"],
                    top=PAGE_SIZE,
                ),
                IMMUTABLE,
            )
        )
        async for items in self._pages(mailbox, view, request, IMMUTABLE):
            if any(event.id in (item.get("id"), item.get("seriesMasterId")) for item in items):
                return True
        return False

    async def _send(self, mailbox: str, request: RequestInformation) -> Any:
        async with self._turns.setdefault(mailbox, asyncio.Semaphore(PER_MAILBOX)):
            clock = asyncio.get_running_loop().time
            hangs_on = self._hung_until.get(mailbox, 0.0) - clock()
            if hangs_on > 0:
                raise Transient("graph: the mailbox did not answer lately", hangs_on)
            self._hung_until.pop(mailbox, None)
            try:
                answer = await self._transport.send("graph", request, mailbox)
            except Transient as error:
                if isinstance(error.__cause__, httpx.TimeoutException):
                    self._hung_until[mailbox] = clock() + HUNG_FOR
                raise
        if answer is None:
            raise Transient("graph: an empty answer")
        return answer

    async def _pages(self, mailbox: str, builder: Any, request: RequestInformation, *headers: tuple[str, str]) -> Any:
        """Each page of a list; one may be empty and still name a next one."""
        for _ in range(self._transport.pages):
            page = await self._send(mailbox, request)
            yield list_of("graph", page)
            link = page.get("@odata.nextLink")
            if not link:
                return
            request = builder.with_url(self._transport.followed(link)).to_get_request_information(
                configured(None, *headers)
            )
        raise Malformed("graph: a list without an end")


def _quoted(literal: str) -> str:
    """For an OData string literal."""
    return literal.replace("'", "''")
