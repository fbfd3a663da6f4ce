"""A simulated Graph on a free port with a webhook beside it, for the tests of its parts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import web

from sandbox.clock import Clock
from sandbox.graph.delivery import Delivery
from sandbox.graph.handshake import Handshake
from sandbox.graph.mailboxes import Mailboxes
from sandbox.graph.routes import build_app
from sandbox.graph.subscriptions import Subscription, Subscriptions
from sandbox.graph.switches import GraphSwitches

NOW = datetime(2026, 3, 10, 6, 0, tzinfo=UTC)
ELEVEN = datetime(2026, 3, 17, 11, 0, tzinfo=UTC)
NOON = ELEVEN + timedelta(hours=1)
EXTENSION = "com.contoso.fieldBooking"
BOOKING = {EXTENSION: {"bookingId": "3fa85f64-5717-4562-b3fc-2c963f66afa6", "revision": 7}}
IMMUTABLE = {"Prefer": 'IdType="ImmutableId"'}


class Webhook:
    """Answers as told: ``reply`` gets each request, or the handshake is done and notifications are taken with 202."""

    def __init__(self) -> None:
        self.url = ""
        self.tokens: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.queries: list[str] = []
        self.reply: Callable[[web.Request], web.Response] | None = None
        self.delay = 0.0

    @property
    def items(self) -> list[dict[str, Any]]:
        return [item for body in self.bodies for item in body["value"]]

    @property
    def change_types(self) -> list[str]:
        return [item["changeType"] for item in self.items]

    async def answer(self, request: web.Request) -> web.Response:
        await asyncio.sleep(self.delay)
        token = request.query.get("validationToken")
        if token is not None:
            self.tokens.append(token)
        else:
            self.bodies.append(await request.json())
            self.queries.append(request.rel_url.raw_query_string)
        if self.reply is not None:
            return self.reply(request)
        return web.Response(status=202) if token is None else web.Response(text=token)


class World:
    def __init__(self, *, answer_within: float = 2.0, retry_within: float = 5.0, **switches: Any) -> None:
        self.rng = random.Random(7)
        self.clock = Clock(stopped_at=NOW)
        self.switches = GraphSwitches(**switches)
        self.mailboxes = Mailboxes(self.clock, self.rng, self.switches)
        self.mailbox = self.mailboxes.add(address="ann@contoso.example")
        self.subscriptions = Subscriptions(self.mailboxes, self.clock, self.rng, Handshake(self.rng, within=2.0))
        self.delivery = Delivery(
            self.mailboxes,
            self.subscriptions,
            self.clock,
            self.rng,
            time_scale=1e-7,
            answer_within=answer_within,
            retry_within=retry_within,
        )
        self.webhook = Webhook()

    async def __aenter__(self) -> World:
        app = web.Application()
        app.router.add_post("/hook", self.webhook.answer)
        app.add_subapp("/v1.0", build_app(self.mailboxes, self.subscriptions))
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        port = self._runner.addresses[0][1]
        self.origin = f"http://127.0.0.1:{port}"
        self.webhook.url = f"{self.origin}/hook?code=se%2Fcret"
        self._session = aiohttp.ClientSession(headers={"Authorization": "Bearer any"})
        await self.delivery.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.delivery.stop()
        await self._session.close()
        await self._runner.cleanup()

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON (None without a body); *path* below ``/v1.0``, or a whole URL."""
        answer = await self.response(method, path, body, **headers)
        raw = await answer.read()
        return answer.status, await answer.json() if raw else None

    async def response(self, method: str, path: str, body: Any = None, **headers: str) -> aiohttp.ClientResponse:
        url = path if path.startswith("http") else f"{self.origin}/v1.0{path}"
        answer = await self._session.request(method, url, json=body, headers=headers)
        await answer.read()
        return answer

    def path(self, event_id: str) -> str:
        return f"/users/{self.mailbox.id}/events/{quote(event_id, safe='')}"

    def wanted(self, **changes: Any) -> dict[str, Any]:
        """A body that creates a subscription; a property that is changed to ``...`` is left out."""
        body = {
            "changeType": "created,updated,deleted",
            "notificationUrl": self.webhook.url,
            "lifecycleNotificationUrl": self.webhook.url,
            "resource": f"users/{self.mailbox.id}/events",
            "expirationDateTime": (self.clock.now() + timedelta(days=6)).isoformat(),
            "clientState": "2f6f0a4c0c6f4d0e9a7d1b8e5c3a9f10",
            "latestSupportedTlsVersion": "v1_2",
        } | changes
        return {name: value for name, value in body.items() if value is not ...}

    async def subscribe(self, *, immutable_ids: bool = True, **changes: Any) -> Subscription:
        return await self.subscriptions.create(self.wanted(**changes), immutable_ids=immutable_ids)
