"""The simulated Microsoft Graph v1.0 as an aiohttp application: routes, tokens, limits, and errors as Graph words them.

What it answers about events stands in ``graph_events.py``; what a webhook is told in ``delivery.py``. Left out: delta,
$batch, translateExchangeIds, notifications with resource data. Where the documentation is silent: ``GraphSwitches``.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from sandbox.graph import wire as graph_json
from sandbox.graph.errors import (
    ACCESS_DENIED,
    BAD_GATEWAY_HTML,
    INTERNAL_ERROR,
    MAILBOX_INFO_STALE,
    THROTTLED,
    TOKEN_REFUSED,
    TOO_MANY_REQUESTS,
    UNAVAILABLE,
    ErrorAnswer,
    GraphError,
    bad_request,
    build_error,
    error,
    throttled,
)
from sandbox.graph.events import Answer, Asked, Events
from sandbox.graph.mailboxes import Mailboxes
from sandbox.graph.query import next_link, page, parse_path, parse_preferences
from sandbox.graph.subscriptions import Subscription, Subscriptions
from sandbox.graph.switches import GraphSwitches

__all__ = [
    "ACCESS_DENIED",
    "BAD_GATEWAY_HTML",
    "INTERNAL_ERROR",
    "MAILBOX_INFO_STALE",
    "THROTTLED",
    "TOKEN_REFUSED",
    "TOO_MANY_REQUESTS",
    "UNAVAILABLE",
    "ErrorAnswer",
    "GraphSwitches",
    "build_app",
    "error",
]

APPLICATION_ID = "507c3b9a-67b8-463d-88a2-15a8cefb2111"

Handler = Callable[..., Answer | Awaitable[Answer]]


def build_app(mailboxes: Mailboxes, subscriptions: Subscriptions) -> web.Application:
    """Mount it under ``/v1.0``; its switches are ``mailboxes.switches``."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", _Graph(mailboxes, subscriptions).answer)
    return app


class _Graph:
    def __init__(self, mailboxes: Mailboxes, subscriptions: Subscriptions) -> None:
        self._mailboxes = mailboxes
        self._subscriptions = subscriptions
        self._switches = mailboxes.switches
        self._at_work: Counter[str] = Counter()
        events = Events(mailboxes)
        self._routes: dict[str, dict[str, Handler]] = {
            "users/*/events": {"GET": events.list_events, "POST": events.create_event},
            "users/*/events/*": {
                "GET": events.get_event,
                "PATCH": events.update_event,
                "DELETE": events.delete_event,
            },
            "users/*/events/*/cancel": {"POST": events.cancel_event},
            "users/*/events/*/calendar": {"GET": events.calendar_of_event},
            "users/*/events/*/extensions": {"GET": events.list_extensions, "POST": events.create_extension},
            "users/*/events/*/extensions/*": {
                "GET": events.get_extension,
                "PATCH": events.update_extension,
                "DELETE": events.delete_extension,
            },
            "users/*/calendars": {"GET": events.list_calendars},
            "users/*/calendars/*/events": {"GET": events.list_events},
            "users/*/calendarview": {"GET": events.calendar_view},
            "users/*/calendars/*/calendarview": {"GET": events.calendar_view},
            "subscriptions": {"GET": self._list_subscriptions, "POST": self._create_subscription},
            "subscriptions/*": {
                "GET": self._get_subscription,
                "PATCH": self._renew_subscription,
                "DELETE": self._delete_subscription,
            },
            "subscriptions/*/reauthorize": {"POST": self._reauthorize_subscription},
            "applications/*": {"GET": self._get_application},
        }

    async def answer(self, request: web.Request) -> web.Response:
        request_id = str(uuid.uuid4())
        ids = {"request-id": request_id, "client-request-id": request.headers.get("client-request-id", request_id)}
        try:
            status, body, applied = await self._dispatch(request)
        except GraphError as refusal:
            body = build_error(refusal.code, refusal.message, self._mailboxes.clock.now(), *ids.values())
            if not refusal.with_inner:
                del body["error"]["innerError"]
            return web.json_response(body, status=refusal.status, headers=refusal.headers | ids)
        if body is None:
            return web.Response(status=status, headers=applied | ids)
        return web.json_response(body, status=status, headers=applied | ids)

    async def _dispatch(self, request: web.Request) -> tuple[int, Any, dict[str, str]]:
        if not request.headers.get("Authorization", "").lower().startswith("bearer "):
            raise GraphError(
                401, "InvalidAuthenticationToken", "Access token is empty.", {"WWW-Authenticate": "Bearer"}
            )
        raw_path, _, raw_query = request.raw_path.partition("?")
        parts = parse_path(raw_path)
        handler, ids = self._route(request.method, parts)
        asked = Asked(
            url=f"{request.scheme}://{request.host}{raw_path}",
            raw_query=raw_query,
            preferences=parse_preferences(request.headers.getall("Prefer", [])),
            headers=request.headers,
            body=await _read_body(request),
        )
        async with self._slot(parts):
            answer = handler(asked, *ids)
            status, body = await answer if inspect.isawaitable(answer) else answer
        return status, body, asked.preferences.applied

    def _route(self, method: str, parts: list[str]) -> tuple[Handler, list[str]]:
        """Words are compared without case; whatever stands at a ``*`` is an id and left as it is."""
        for pattern, methods in self._routes.items():
            words = pattern.split("/")
            if len(words) != len(parts):
                continue
            if all(word in ("*", part.lower()) for word, part in zip(words, parts, strict=True)):
                if method not in methods:
                    raise GraphError(
                        405, "Request_BadRequest", "Specified HTTP method is not allowed for the request target."
                    )
                return methods[method], [part for word, part in zip(words, parts, strict=True) if word == "*"]
        raise bad_request(f"Resource not found for the segment '{parts[-1] if parts else ''}'.")

    @asynccontextmanager
    async def _slot(self, parts: list[str]) -> AsyncIterator[None]:
        """One of the requests a mailbox may have at the same time. Source: Graph, "Outlook service limits"."""
        if parts[0].lower() != "users":
            yield
            return
        mailbox, limit = parts[1].lower(), self._switches.mailbox_concurrency
        if limit is not None and self._at_work[mailbox] >= limit:
            raise throttled()
        self._at_work[mailbox] += 1
        try:
            if self._switches.latency:
                await asyncio.sleep(self._switches.latency)
            yield
        finally:
            self._at_work[mailbox] -= 1

    # Subscriptions.

    def _list_subscriptions(self, asked: Asked) -> Answer:
        """No OData query options. Source: Graph, "List subscriptions"."""
        options = asked.options("$skiptoken")
        shown, token = page(
            self._subscriptions.listed(),
            self._switches.subscriptions_page_size,
            options.get("$skiptoken"),
            with_empty=self._switches.empty_page,
        )
        body: dict[str, Any] = {"@odata.context": f"{graph_json.METADATA}subscriptions"}
        if token:
            body["@odata.nextLink"] = next_link(asked.url, options, token)
        body["value"] = [_subscription(each, shows_client_state=False) for each in shown]
        return 200, body

    async def _create_subscription(self, asked: Asked) -> Answer:
        asked.options()
        immutable_ids = asked.preferences.immutable_ids
        return 201, _entity(await self._subscriptions.create(asked.body, immutable_ids=immutable_ids))

    def _get_subscription(self, asked: Asked, subscription_id: str) -> Answer:
        asked.options()
        return 200, _entity(self._subscriptions.get(subscription_id))

    async def _renew_subscription(self, asked: Asked, subscription_id: str) -> Answer:
        asked.options()
        renewed = await self._subscriptions.renew(subscription_id, asked.body)
        return 200, _entity(renewed, shows_client_state=self._switches.renewal_shows_client_state)

    def _delete_subscription(self, asked: Asked, subscription_id: str) -> Answer:
        asked.options()
        self._subscriptions.delete(subscription_id)
        return 204, None

    async def _reauthorize_subscription(self, asked: Asked, subscription_id: str) -> Answer:
        asked.options()
        await self._subscriptions.reauthorize(subscription_id)
        return 204, None

    def _get_application(self, asked: Asked, app_id: str) -> Answer:
        """The app registration itself. Source: Graph, "Get application"; the 403 is that of other directory objects."""
        asked.options("$select")
        if not self._switches.application_readable:
            message = "Insufficient privileges to complete the operation."
            raise GraphError(403, "Authorization_RequestDenied", message)
        ends = [graph_json.write_instant(end) for end in self._switches.secrets_end]
        body = {"id": APPLICATION_ID, "appId": app_id, "keyCredentials": []}
        return 200, body | {"passwordCredentials": [{"endDateTime": end} for end in ends]}


async def _read_body(request: web.Request) -> dict[str, Any]:
    raw = await request.read()
    try:
        body = json.loads(raw) if raw else {}
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise bad_request("Unable to read JSON request payload.")
    return body


def _subscription(subscription: Subscription, *, shows_client_state: bool = True) -> dict[str, Any]:
    return graph_json.write_subscription(
        subscription, application_id=APPLICATION_ID, shows_client_state=shows_client_state
    )


def _entity(subscription: Subscription, *, shows_client_state: bool = True) -> dict[str, Any]:
    context = {"@odata.context": f"{graph_json.METADATA}subscriptions/$entity"}
    return context | _subscription(subscription, shows_client_state=shows_client_state)
