"""The simulated services as fixtures, each alone."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from sandbox.clock import Clock
from sandbox.dataverse.columns import Column
from sandbox.dataverse.routes import DataverseSwitches, build_app
from sandbox.dataverse.tables import Row, Tables

NINE = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
TEN = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)


@dataclass
class Dataverse:
    """The Web API over HTTP with its state at hand; there is one user, one resource and one booking."""

    tables: Tables
    switches: DataverseSwitches
    client: TestClient[web.Request, web.Application]
    clock: Clock
    user: Row
    resource: Row
    booking: Row

    @property
    def address(self) -> str:
        return f"bookableresourcebookings({self.booking.id})"

    async def send(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, json: Any = None
    ) -> ClientResponse:
        """*path* below ``/api/data/v9.2/``, or a whole URL as the service gave it."""
        below = path.partition("/api/data/v9.2/")[2] or path
        url = URL(f"/api/data/v9.2/{below}", encoded="://" in path)
        return await self.client.request(method, url, headers=headers, json=json)

    async def get(self, path: str, **headers: str) -> Any:
        """The JSON of a successful GET; underscores in the names of headers become dashes."""
        answer = await self.send("GET", path, {name.replace("_", "-"): value for name, value in headers.items()})
        assert answer.status == 200, await answer.text()
        return await answer.json()

    async def refusal(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, json: Any = None
    ) -> tuple[int, str]:
        """Status and code of the error that this request meets."""
        answer = await self.send(method, path, headers, json)
        return answer.status, (await answer.json())["error"]["code"]


@pytest.fixture
def clock() -> Clock:
    return Clock(stopped_at=datetime(2026, 3, 1, 6, 0, tzinfo=UTC))


@pytest.fixture
def tables(clock: Clock) -> Tables:
    return Tables(clock, random.Random(7))


@pytest.fixture
async def dataverse(tables: Tables, clock: Clock) -> AsyncIterator[Dataverse]:
    tables.add_column("bookableresourcebooking", Column("contoso_outlookeventkey", max_length=64))
    switches = DataverseSwitches()
    user = tables.add_user(name="Nina Nordlund")
    resource = tables.add_resource(user)
    booking = tables.add_booking(resource, NINE, TEN, event_id="AAkA=")
    app = web.Application()
    app.add_subapp("/api/data/v9.2", build_app(tables, switches))
    async with TestClient(TestServer(app), headers={"Authorization": "Bearer dummy"}) as client:
        yield Dataverse(tables, switches, client, clock, user, resource, booking)
