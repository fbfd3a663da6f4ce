"""Events and subscriptions of Microsoft Graph, over msgraph-sdk's request builders; raw JSON → our values.

The SDK builds, signs and sends; its models are left out, because the first event they build costs two seconds of
imports and they turn texts that look like GUIDs or dates into something else. What a status means is said in errors.py.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from sys import intern
from typing import Any
from urllib.parse import quote
from uuid import UUID
from weakref import WeakValueDictionary

import httpx
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError
from kiota_abstractions.base_request_configuration import RequestConfiguration
from kiota_abstractions.native_response_handler import NativeResponseHandler
from kiota_abstractions.request_information import RequestInformation
from kiota_authentication_azure.azure_identity_authentication_provider import AzureIdentityAuthenticationProvider
from kiota_http.middleware.options import RedirectHandlerOption, ResponseHandlerOption, RetryHandlerOption
from msgraph.generated.models.subscription import Subscription as SubscriptionBody
from msgraph.generated.users.item.calendars.calendars_request_builder import CalendarsRequestBuilder
from msgraph.generated.users.item.calendars.item.calendar_view.calendar_view_request_builder import (
    CalendarViewRequestBuilder,
)
from msgraph.generated.users.item.events.events_request_builder import EventsRequestBuilder
from msgraph.generated.users.item.events.item.calendar.calendar_request_builder import CalendarRequestBuilder
from msgraph.generated.users.item.events.item.event_item_request_builder import EventItemRequestBuilder
from msgraph.graph_request_adapter import GraphRequestAdapter, options
from msgraph.graph_service_client import GraphServiceClient
from msgraph_core import GraphClientFactory  # type: ignore[import-untyped]  # ships no py.typed

from sync import telemetry
from sync.errors import Malformed, Misconfigured, NotFound, NotOurs, Refused, Service, Stale, Transient, check
from sync.model import Event, EventType, Span, Subscription, Unreadable
from sync.notifications import build_client_state
from sync.pauses import Pauses
from sync.retry import short_waits
from sync.roster import CHANGE_TYPES, resource_of

log = logging.getLogger(__name__)

TIMEOUT = httpx.Timeout(15.0, connect=5.0)
"""Seconds. Creating a subscription takes as long as the handshake, for which Graph waits ten."""

HUNG_FOR = 30.0
"""Seconds for which a mailbox that did not answer is left alone, so that its changes do not keep those of others."""

PAGES = 1_000
"""Of one list; more are a nextLink that leads in a circle."""

PER_MAILBOX = 4
"""Outlook serves so many requests of one app for one mailbox at a time. Source: Graph, "Throttling limits"."""

PAGE_SIZE = 100
"""Events in one answer of a list."""

# What a body in another shape than the documented one leads to; dates beyond all calendars overflow.
_UNREADABLE = (Malformed, KeyError, TypeError, ValueError, AttributeError, ArithmeticError)

_COLUMNS = ["id", "start", "end", "isAllDay", "isCancelled", "type"]

_A_USER, _AN_EVENT = "--user--", "--event--"
"""Stand for ids in a URL, as no name of ours and no id of Entra's does."""

_IMMUTABLE = ("Prefer", 'IdType="ImmutableId"')
_UTC = ("Prefer", 'outlook.timezone="UTC"')


class Transport:
    """One client for the process's life: authentication, time-outs, short waits, errors by name.

    *url* is Graph's with the version, without a trailing slash. The token goes to its host only, also when a nextLink
    names another one. *spent* is told of each call.
    """

    def __init__(
        self,
        url: str,
        credential: AsyncTokenCredential,
        now: Callable[[], datetime],
        spent: Callable[[], None] = lambda: None,
    ) -> None:
        root = httpx.URL(url)
        self._now = now
        self._spent = spent
        self.pauses = Pauses(now)
        self._http = GraphClientFactory.create_with_default_middleware(
            # Waits are retry.py's and the queue's; two layers would multiply them.
            options={
                **options,
                RetryHandlerOption.get_key(): RetryHandlerOption(max_retries=0),
                RedirectHandlerOption.get_key(): RedirectHandlerOption(should_redirect=False),
            },
            client=httpx.AsyncClient(timeout=TIMEOUT, http2=root.scheme == "https", follow_redirects=False),
        )
        authentication = AzureIdentityAuthenticationProvider(
            credential, scopes=[f"{root.scheme}://{root.netloc.decode()}/.default"], allowed_hosts=[root.host]
        )
        self._adapter = GraphRequestAdapter(authentication, client=self._http)
        self._adapter.base_url = url
        self.client = GraphServiceClient(request_adapter=self._adapter)

    async def send(self, service: Service, request: RequestInformation, mailbox: str = "") -> Any:
        """The answer's JSON, None if it has none; a pause is that of the *mailbox*, if one is named.

        Pauses of subscriptions are pacing.py's.
        Raises: what ``errors.check`` names, Misconfigured without token.
        """
        async for attempt in short_waits():
            with attempt, nullcontext() if service == "subscriptions" else self.pauses.kept(mailbox or service):
                return await self.send_once(service, request)
        raise AssertionError("unreachable")  # pragma: no cover

    async def send_once(self, service: Service, request: RequestInformation) -> Any:
        request.add_request_options([ResponseHandlerOption(NativeResponseHandler())])
        kind = _kind_of(request)
        # Otherwise the adapter would have the template filled in three times, which takes longer than all else here.
        _set_url(request, self.url_of(request))
        self._spent()
        try:
            sending = self._adapter.send_primitive_async(request, "bytes", {})
            response: Any = await telemetry.called(service, kind, sending)
        except httpx.TimeoutException as error:
            # Not worth a short wait: whoever hangs now will hang in a second.
            patience = HUNG_FOR if service == "graph" else None
            raise Transient(f"{service}: no answer ({type(error).__name__})", patience) from error
        except httpx.HTTPError as error:
            raise Transient(f"{service}: no answer ({type(error).__name__})") from error
        except ClientAuthenticationError as error:
            raise Misconfigured("no token for Graph: is the app's identity set up?") from error
        except AzureError as error:
            raise Transient(f"{service}: no token ({type(error).__name__})") from error
        check(service, response.status_code, response.headers, response.content, self._now())
        if not response.content:
            return None
        try:
            return json.loads(response.content)
        except (ValueError, RecursionError):
            raise Transient(f"{service}: an answer that is no JSON") from None

    def url_of(self, request: RequestInformation) -> str:
        """Its template filled in."""
        self._adapter.set_base_url_for_request_information(request)
        return str(request.url)

    async def close(self) -> None:
        await self._http.aclose()


class GraphEvents:
    """Events with our open extension; nothing of what they are about is asked for."""

    def __init__(self, transport: Transport, extension_name: str, extension_property: str) -> None:
        self._transport = transport
        self._name = extension_name
        self._property = extension_property
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._hung_until: dict[str, float] = {}

    async def read(self, mailbox: str, event_id: str) -> Event | None:
        """The event as it is now, None if Outlook says that this item is not there.

        Source: Graph, "Get event" and "Get openTypeExtension".
        """
        builder = self._transport.client.users.by_user_id(mailbox).events.by_event_id(event_id)
        request = builder.to_get_request_information(_configured(None, _IMMUTABLE, _UTC))
        _set_url(request, self._event_url.replace(_A_USER, quote(mailbox, "")).replace(_AN_EVENT, quote(event_id, "")))
        try:
            return parse_event(await self._send(mailbox, request), self._name, self._property)
        except NotFound:
            return None

    @cached_property
    def _event_url(self) -> str:
        """Of ``_AN_EVENT`` of ``_A_USER``: nothing else is read as often, and the SDK fills it in letter by letter."""
        parameters = EventItemRequestBuilder.EventItemRequestBuilderGetQueryParameters(
            select=[*_COLUMNS, "createdDateTime", "lastModifiedDateTime"],
            # Without the filter Outlook refuses to expand extensions.
            expand=[f"extensions($filter=id eq '{_quoted(self._name)}')"],
        )
        builder = self._transport.client.users.by_user_id(_A_USER).events.by_event_id(_AN_EVENT)
        return self._transport.url_of(builder.to_get_request_information(_configured(parameters)))

    async def with_extension(self, mailbox: str) -> Sequence[Event | Unreadable]:
        """All events of the default calendar that carry our extension, of any time; a filter by time is not documented.

        Source: Graph, "Get openTypeExtension".
        """
        return await self._list(mailbox, self._transport.client.users.by_user_id(mailbox).events)

    async def in_other_calendars(self, mailbox: str) -> Sequence[Event | Unreadable]:
        """Those of all calendars but the default one. Source: Graph, "List calendars", "List events".

        A calendar that cannot be read is left out: it may be somebody else's, shared with the mailbox, or one of those
        that Outlook fills by itself, such as birthdays.
        """
        user = self._transport.client.users.by_user_id(mailbox)
        parameters = CalendarsRequestBuilder.CalendarsRequestBuilderGetQueryParameters(
            select=["id", "isDefaultCalendar"], top=PAGE_SIZE
        )
        request = user.calendars.to_get_request_information(_configured(parameters, _IMMUTABLE))
        found: list[Event | Unreadable] = []
        async for items in self._pages(mailbox, user.calendars, request, _IMMUTABLE):
            for calendar in (_text(item, "id") for item in items if item.get("isDefaultCalendar") is not True):
                try:
                    found += await self._list(mailbox, user.calendars.by_calendar_id(calendar).events)
                except (Refused, Transient, Malformed) as error:
                    log.warning("calendar left out mailbox=%s reason=%r", mailbox, str(error))
        return found

    async def _list(self, mailbox: str, builder: Any) -> list[Event | Unreadable]:
        """The events of one calendar that carry our extension."""
        request = self._with_extension(builder, PAGE_SIZE)
        found: list[Event | Unreadable] = []
        async for items in self._pages(mailbox, builder, request, _IMMUTABLE, _UTC):
            for item in items:
                try:
                    found.append(parse_event(item, self._name, self._property))
                except Malformed as error:
                    with suppress(Malformed):
                        found.append(Unreadable(_text(item, "id")))
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
        request: RequestInformation = builder.to_get_request_information(_configured(parameters, _IMMUTABLE, _UTC))
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
            answer = await self._send(mailbox, builder.to_get_request_information(_configured(parameters, _IMMUTABLE)))
        except NotFound:
            return None
        return _text(answer, "id")

    async def _is_in(self, mailbox: str, view: Any, event: Event) -> bool:
        """Whether the calendar *view* has the event, or an occurrence of it if it is a series."""
        request = view.to_get_request_information(
            _configured(
                CalendarViewRequestBuilder.CalendarViewRequestBuilderGetQueryParameters(
                    start_date_time=_iso(event.span.start),
                    end_date_time=_iso(max(event.span.end, event.span.start + timedelta(seconds=1))),
                    select=["id", "seriesMasterId"],
                    top=PAGE_SIZE,
                ),
                _IMMUTABLE,
            )
        )
        async for items in self._pages(mailbox, view, request, _IMMUTABLE):
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
        for _ in range(PAGES):
            page = await self._send(mailbox, request)
            yield _items(page)
            link = page.get("@odata.nextLink")
            if not link:
                return
            request = builder.with_url(link).to_get_request_information(_configured(None, *headers))
        raise Malformed("graph: a list without an end")


class GraphSubscriptions:
    """The app registration's subscriptions to the events of mailboxes; *url* is where they are to notify.

    A write is sent once: all writes share one limit, so it is pacing.py that waits and tries again.
    """

    def __init__(self, transport: Transport, url: str, client_state_key: str) -> None:
        self._transport = transport
        self._url = url
        self._key = client_state_key

    async def list(self) -> Sequence[Subscription]:
        """All of them, those of other deployments included; a page may be empty and still name a next one.

        One that cannot be read is left out: whoever made it, it must not keep the others from their renewal.
        """
        builder = self._transport.client.subscriptions
        found: list[Subscription] = []
        request = builder.to_get_request_information()
        for _ in range(PAGES):
            page = await self._transport.send("subscriptions", request)
            for item in _items(page):
                try:
                    found.append(parse_subscription(item))
                except Malformed as error:
                    log.warning("subscription left out reason=%r", str(error))
            link = page.get("@odata.nextLink")
            if not link:
                return found
            request = builder.with_url(link).to_get_request_information()
        raise Malformed("graph: a list without an end")

    async def create(self, mailbox: str, expires: datetime, beside: Subscription | None = None) -> str | None:
        """Subscribe to all changes of the default calendar, with immutable ids and lifecycle notifications.

        Both URLs are validated before this returns: its id, None if the answer does not tell. Source: Graph, "Create
        subscription", "Obtain immutable identifiers for Outlook resources".
        """
        body = SubscriptionBody(
            change_type=",".join(sorted(CHANGE_TYPES)),
            notification_url=self._url,
            lifecycle_notification_url=self._url,
            resource=resource_of(mailbox, beside),
            expiration_date_time=expires,
            client_state=build_client_state(self._key, mailbox),
        )
        builder = self._transport.client.subscriptions
        made = await self._transport.send_once(
            "subscriptions", builder.to_post_request_information(body, _configured(None, _IMMUTABLE))
        )
        return str(made["id"]) if isinstance(made, dict) and "id" in made else None

    async def renew(self, subscription_id: str, expires: datetime) -> None:
        """Source: Graph, "Update subscription"; it also renews the authorization."""
        builder = self._transport.client.subscriptions.by_subscription_id(subscription_id)
        body = SubscriptionBody(expiration_date_time=expires)
        await self._transport.send_once("subscriptions", builder.to_patch_request_information(body))

    async def delete(self, subscription_id: str) -> None:
        """Source: Graph, "Delete subscription"; one that is gone already is fine."""
        builder = self._transport.client.subscriptions.by_subscription_id(subscription_id)
        with suppress(NotFound):
            await self._transport.send_once("subscriptions", builder.to_delete_request_information())


async def read_secrets_ends(transport: Transport, app_id: str) -> Sequence[datetime]:
    """When the secrets and certificates of the app registration end, soonest first.

    It takes Application.Read.All, which the app is not to have. Source: Graph, "Get application".
    Raises: Refused, most likely; Transient, Malformed.
    """
    builder = transport.client.applications_with_app_id(app_id)
    answer = await transport.send("graph", builder.to_get_request_information())
    try:
        credentials = [*_items(answer, "passwordCredentials"), *_items(answer, "keyCredentials")]
        return sorted(_aware(datetime.fromisoformat(each["endDateTime"])) for each in credentials)
    except _UNREADABLE as error:
        raise Malformed(f"graph: an application that cannot be read ({type(error).__name__})") from None


def parse_event(raw: Any, extension_name: str, extension_property: str) -> Event:
    """Raises: Malformed if *raw* is no event with its times in UTC, NotOurs if it has no extension of ours either."""
    extension = next((found for found in _items(raw, "extensions") if _is_named(found, extension_name)), None)
    try:
        return Event(
            id=_text(raw, "id"),
            etag=_text(raw, "@odata.etag"),
            span=Span.of(_utc(raw["start"]), _utc(raw["end"])),
            type=EventType(raw.get("type") or EventType.SINGLE.value),
            is_all_day=raw.get("isAllDay") is True,
            is_cancelled=raw.get("isCancelled") is True,
            has_extension=extension is not None,
            booking_id=_guid(extension.get(extension_property)) if extension else None,
            created=_moment(raw.get("createdDateTime")),
            modified=_moment(raw.get("lastModifiedDateTime")),
        )
    except _UNREADABLE as error:
        kind = Malformed if extension is not None else NotOurs
        raise kind(f"graph: an event that cannot be read ({type(error).__name__})") from None


def parse_subscription(raw: Any) -> Subscription:
    """Raises: Malformed if *raw* is no subscription."""
    try:
        return Subscription(
            id=_text(raw, "id"),
            resource=_text(raw, "resource"),
            change_types=_change_types(_text(raw, "changeType")),
            notification_url=_shared(raw.get("notificationUrl")) or "",
            lifecycle_url=_shared(raw.get("lifecycleNotificationUrl")),
            expires=_aware(datetime.fromisoformat(raw["expirationDateTime"])),
        )
    except _UNREADABLE as error:
        raise Malformed(f"graph: a subscription that cannot be read ({type(error).__name__})") from None


@cache
def _change_types(text: str) -> frozenset[str]:
    return frozenset(text.replace(" ", "").lower().split(","))


def _shared(text: str | None) -> str | None:
    """The same object for equal texts: thousands of subscriptions have one URL."""
    return None if text is None else intern(text)


def _is_named(extension: Any, name: str) -> bool:
    """Whether it is ours; its id carries one of two prefixes, so it is the name that counts."""
    if not isinstance(extension, dict):
        return False
    found = extension.get("extensionName") or str(extension.get("id", "")).partition("OpenTypeExtension.")[2]
    return isinstance(found, str) and found.casefold() == name.casefold()


def _utc(moment: dict[str, str]) -> datetime:
    """A dateTimeTimeZone; the zone is UTC, because that was asked for."""
    if moment["timeZone"] != "UTC":
        raise ValueError("not in UTC")
    return _aware(datetime.fromisoformat(moment["dateTime"]))


def _moment(text: str | None) -> datetime | None:
    return _aware(datetime.fromisoformat(text)) if text else None


def _aware(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _guid(value: Any) -> str | None:
    try:
        return str(UUID(value))
    except (ValueError, TypeError, AttributeError):
        return None


def _items(page: Any, name: str = "value") -> list[Any]:
    items = page.get(name) or [] if isinstance(page, dict) else None
    if not isinstance(items, list):
        raise Malformed(f"graph: an answer without {name}")
    return items


def _text(raw: Any, name: str) -> str:
    value = raw.get(name) if isinstance(raw, dict) else None
    if not isinstance(value, str) or not value:
        raise Malformed(f"graph: an answer without {name}")
    return value


def _configured(parameters: Any, *headers: tuple[str, str]) -> RequestConfiguration[Any]:
    configuration: RequestConfiguration[Any] = RequestConfiguration(query_parameters=parameters)
    for name, value in headers:
        configuration.headers.add(name, value)
    return configuration


def _set_url(request: RequestInformation, url: str) -> None:
    request.path_parameters = {}  # those it has are its builder's as well, and are about to be cleared
    request.url = url


def _kind_of(request: RequestInformation) -> str:
    """Like ``GET /users/{user-id}/events/{event-id}``: the template that the SDK fills in, which holds no value."""
    template = str(request.url_template or "").removeprefix("{+baseurl}").partition("{?")[0].replace("%2D", "-")
    return f"{request.http_method.value if request.http_method else ''} {template if '+' not in template else 'page'}"


def _quoted(literal: str) -> str:
    """For an OData string literal."""
    return literal.replace("'", "''")


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
