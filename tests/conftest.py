"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest
from azure.data.tables import TableServiceClient
from azure.storage.queue import QueueServiceClient
from tenacity import RetryCallState

from sandbox.clock import Clock
from sandbox.host.azurite import Azurite
from sync.calls import retries as retry
from tests.world.app import App, an_app
from tests.world.keeper import KeeperWorld
from tests.world.services import World, a_world

pytest_plugins = ["tests.world.sizes"]


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """One Azurite for the whole run (with xdist: one for each worker); tests use ``storage``."""
    with Azurite() as azurite:
        yield azurite


@pytest.fixture
def storage(azurite: Azurite) -> Iterator[str]:
    """A connection string of real storage without a queue or table, also for the next test."""
    yield azurite.connection_string
    with QueueServiceClient.from_connection_string(azurite.connection_string) as queues:
        for queue in queues.list_queues():
            queues.delete_queue(queue.name)
    with TableServiceClient.from_connection_string(azurite.connection_string) as tables:
        for table in tables.list_tables():
            tables.delete_table(table.name)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A technician with one booking and its event, and the app's real clients; short waits move the clock."""
    async with a_world() as world:
        leap_over_short_waits(monkeypatch, world.sandbox.clock)
        yield world


@pytest.fixture
async def app(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    """The whole app against the sandbox, its clock standing still but for short waits, which move it."""
    async with an_app() as app:
        leap_over_short_waits(monkeypatch, app.sandbox.clock)
        yield app


def leap_over_short_waits(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """No test waits for them, and the simulated world takes them for over."""
    wait = retry._wait

    def leap(state: RetryCallState) -> float:
        clock.move(timedelta(seconds=math.ceil(wait(state))))  # no times with fractions
        return 0.0

    monkeypatch.setattr(retry, "_wait", leap)


@pytest.fixture
def keeping() -> KeeperWorld:
    """A keeper with everything in memory."""
    return KeeperWorld()
