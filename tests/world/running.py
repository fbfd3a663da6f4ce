"""The whole app in the local host: real Azurite, real HTTP, real queues, both services simulated.

What more than one file of tests needs to run the app as it is deployed lives here. Tests of their own do not.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.queue.aio import QueueClient

from sandbox.dataverse import errors as dataverse_errors
from sandbox.dataverse.tables import Row
from sandbox.faults import Fault
from sandbox.graph import errors as graph_errors
from sandbox.graph.notification_bodies import Hostility
from sandbox.host.functions_host import FunctionsHost, free_port
from sandbox.server import Sandbox
from sandbox.world.people import Technician
from sync import triggers
from sync.wiring.app import App
from tests.world.waits import leave_out_waits

ROOT = Path(__file__).resolve().parent.parent.parent
KEY = "the-key-of-all-client-states-0123456789"
CODE = "the-function-key"
HOUR = timedelta(hours=1)
TOMORROW = datetime.now(UTC).replace(hour=9, minute=0, second=0, microsecond=0) + timedelta(days=1)


@dataclass
class Running:
    """The app, and the world it runs in."""

    sandbox: Sandbox
    host: FunctionsHost
    storage: str
    sent: list[str] = field(default_factory=list)
    """Every queue message that the app stored."""

    async def post(self, path: str, body: Any) -> int:
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.host.url + path, data=body if isinstance(body, bytes) else json.dumps(body)) as answer,
        ):
            return answer.status

    async def subscribe(self) -> None:
        assert await self.post("/admin/functions/renew_subscriptions", {"input": ""}) == 202
        wanted = len(self.sandbox.people.technicians)
        await until(lambda: len(list(self.sandbox.subscriptions)) == wanted)

    async def quiet(self) -> None:
        """All notifications delivered and all messages processed, for a moment at least."""
        await self.sandbox.delivery.settle()
        async with QueueClient.from_connection_string(self.storage, "outlook-changes") as queue:
            calm = 0
            while calm < 3:
                await asyncio.sleep(0.1)
                count = (await queue.get_queue_properties()).approximate_message_count
                calm = calm + 1 if not count else 0

    async def parked(self, queue: str = "outlook-changes-poison") -> list[dict[str, Any]]:
        async with QueueClient.from_connection_string(self.storage, queue) as client:
            if "not found" in str(await _properties(client)):
                return []
            return [json.loads(base64.b64decode(message.content)) async for message in client.receive_messages()]


async def _properties(client: QueueClient) -> Any:
    try:
        return await client.get_queue_properties()
    except ResourceNotFoundError:
        return "not found"


async def until(is_true: Callable[[], Any], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not is_true():  # noqa: ASYNC110  the world is watched, it has no event to wait for
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(
    storage: str, monkeypatch: pytest.MonkeyPatch, seed: int = 1, **others: str
) -> AsyncIterator[Running]:
    """Run the app and its world while entered; *others* are settings beside those that the app needs here.

    A change waits for no more of the same: SETTLE_SECONDS is 0. The one test of that wait sets it.
    """
    monkeypatch.setattr("sync.messages.parking.wait_seconds", lambda attempt, retry_after, chance: 1.0)
    leave_out_waits(monkeypatch)
    sent: list[str] = []
    send = QueueClient.send_message

    async def recorded(self: QueueClient, content: str, **options: Any) -> Any:
        sent.append(content)
        return await send(self, content, **options)

    monkeypatch.setattr(QueueClient, "send_message", recorded)
    port = free_port()
    async with Sandbox(seed, time_scale=0.001) as sandbox:
        settings = {
            **sandbox.settings,
            "AzureWebJobsStorage": storage,
            "CLIENT_STATE_KEY": KEY,
            "NOTIFICATION_URL": f"http://127.0.0.1:{port}/api/notifications?code={CODE}",
            "AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:00.1",
            "AzureFunctionsJobHost__extensions__queues__visibilityTimeout": "00:00:01",
            "SETTLE_SECONDS": "0",
            **others,
        }
        async with FunctionsHost(ROOT, settings, port=port, key=None) as host:
            app = App(os.environ)
            with triggers.serving(app):
                yield Running(sandbox, host, storage, sent)
            await app.close()


def in_step(app: Running, booking: Row) -> bool:
    """Told from the world: the booking has the times of the event it is linked to."""
    mailbox = app.sandbox.people.assignee(booking).mailbox
    event = mailbox.events.get(booking["contoso_outlookeventid"] or "")
    return event is not None and (booking["starttime"], booking["endtime"]) == (event.start, event.end)


def is_canceled(app: Running, booking: Row) -> bool:
    return bool(booking["_bookingstatus_value"] == app.sandbox.tables.status("Canceled").id)


def turn_hostile(sandbox: Sandbox, seed: int) -> None:
    """Notifications of all kinds, each service failing before and after the effect of a call, and both throttled."""
    sandbox.delivery.hostility = Hostility.all()
    sandbox.graph_switches.deleted_stay_readable = seed % 2 == 0
    for service in ("graph", "dataverse"):
        for status in (None, 500, 503):
            sandbox.faults.order(Fault(service, status=status, times=6, chance=0.1))  # type: ignore[arg-type]
            sandbox.faults.order(Fault(service, status=status, moment="after", times=6, chance=0.1))  # type: ignore[arg-type]
    sandbox.faults.order(dataverse_errors.THROTTLED_REQUESTS.fault(service="dataverse", times=3, chance=0.1))
    sandbox.faults.order(graph_errors.TOO_MANY_REQUESTS.fault(service="graph", times=3, chance=0.1))


def act(rng: random.Random, technician: Technician, event: Any, gone: set[int], number: int) -> None:
    match rng.choice(["move", "move", "edit", "meet", "delete"]):
        case "move":
            technician.move(event, rng.randint(-5, 5) * timedelta(minutes=15))
        case "edit":
            technician.edit(event)
        case "meet":
            technician.edit(technician.meet(TOMORROW, TOMORROW + HOUR))
        case "delete":
            technician.delete(event)
            gone.add(number)


async def until_exists(queue: QueueClient) -> None:
    try:
        await queue.create_queue()
    except ResourceExistsError:
        return
