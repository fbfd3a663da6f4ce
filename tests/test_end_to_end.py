"""The whole app in the local host: real Azurite, real HTTP, real queues, a hostile world, and nothing of it leaks."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from azure.storage.queue.aio import QueueClient

from sandbox.dataverse import errors as dataverse_errors
from sandbox.dataverse.tables import Row
from sandbox.faults import Fault
from sandbox.graph import errors as graph_errors
from sandbox.graph.notification_bodies import Hostility
from sandbox.host.functions_host import FunctionsHost, free_port
from sandbox.server import Sandbox
from sandbox.world.people import Technician
from sync import wiring

ROOT = Path(__file__).resolve().parent.parent
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
        async with QueueClient.from_connection_string(self.storage, "booking-changes") as queue:
            calm = 0
            while calm < 3:
                await asyncio.sleep(0.1)
                count = (await queue.get_queue_properties()).approximate_message_count
                calm = calm + 1 if not count else 0

    async def parked(self, queue: str = "booking-changes-poison") -> list[dict[str, Any]]:
        async with QueueClient.from_connection_string(self.storage, queue) as client:
            if "not found" in str(await _properties(client)):
                return []
            return [json.loads(base64.b64decode(message.content)) async for message in client.receive_messages()]


async def _properties(client: QueueClient) -> Any:
    from azure.core.exceptions import ResourceNotFoundError

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
    """*others* are settings beside those that the app needs here."""
    monkeypatch.setattr("sync.messages.parking.wait_seconds", lambda attempt, retry_after, chance: 1.0)
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
            **others,
        }
        async with FunctionsHost(ROOT, settings, port=port, key=None) as host:
            yield Running(sandbox, host, storage, sent)
            await wiring.close()


@pytest.fixture
async def app(storage: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    monkeypatch.setattr("sync.messages.taking.GRACE", 1.0)
    async with running(storage, monkeypatch) as app:
        yield app


def in_step(app: Running, booking: Row) -> bool:
    """Told from the world: the booking has the times of the event it is linked to."""
    mailbox = app.sandbox.people.assignee(booking).mailbox
    event = mailbox.events.get(booking["contoso_outlookeventid"] or "")
    return event is not None and (booking["starttime"], booking["endtime"]) == (event.start, event.end)


def is_canceled(app: Running, booking: Row) -> bool:
    return bool(booking["_bookingstatus_value"] == app.sandbox.tables.status("Canceled").id)


async def test_a_booking_lives_with_its_event(app: Running) -> None:
    """Subscribed with the handshake, linked, moved, canceled; and an ordinary meeting is nobody's business."""
    ana = app.sandbox.people.hire("Ana")
    await app.subscribe()
    booking, event = app.sandbox.people.dispatcher.book(ana, TOMORROW, TOMORROW + HOUR)
    await until(lambda: booking["contoso_outlookeventid"] == event.immutable_id)
    ana.move(event, 3 * HOUR)
    await until(lambda: booking["starttime"] == TOMORROW + 3 * HOUR)
    meeting = ana.meet(TOMORROW, TOMORROW + HOUR)
    ana.edit(meeting)
    ana.delete(event)
    await until(lambda: is_canceled(app, booking))
    await app.quiet()
    assert booking["contoso_outlookeventid"] is None
    assert len(app.sandbox.tables.writes_to(booking)) == 4, "booked, linked, moved, canceled"


@pytest.mark.parametrize("seed", [1, 2])
async def test_everything_converges_in_a_hostile_world(
    storage: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Late, repeated, reordered, forged and mixed notifications; throttled, failing and cut-off services."""
    rng = random.Random(seed)
    async with running(storage, monkeypatch, seed) as app:
        people, faults = app.sandbox.people, app.sandbox.faults
        technicians = [people.hire(name) for name in ("Ana", "Ben", "Cleo")]
        await app.subscribe()
        turn_hostile(app.sandbox, seed)
        pairs = [people.dispatcher.book(rng.choice(technicians), TOMORROW, TOMORROW + HOUR) for _ in range(8)]
        gone: set[int] = set()
        for _ in range(25):
            number = rng.randrange(len(pairs))
            technician = people.owner(pairs[number][1])
            if number not in gone:
                act(rng, technician, pairs[number][1], gone, number)
            await asyncio.sleep(0.01)
        await app.sandbox.delivery.settle()
        faults.clear()
        await app.quiet()
        for number, (booking, event) in enumerate(pairs):
            if number in gone:
                assert is_canceled(app, booking) or booking["contoso_outlookeventid"] is None
                assert not in_step(app, booking)
            else:
                assert in_step(app, booking), f"{number}: {event}"
                assert not is_canceled(app, booking)
        assert await app.parked() == []


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


async def test_a_throttled_change_waits_and_is_done(app: Running) -> None:
    """A Retry-After that is too long to sleep hides the message, and nobody calls before it is over."""
    ana = app.sandbox.people.hire("Ana")
    await app.subscribe()
    throttled = dataverse_errors.THROTTLED_REQUESTS.retry_after("3")
    app.sandbox.faults.order(throttled.fault(service="dataverse", path="bookableresourcebookings"))
    booking, event = app.sandbox.people.dispatcher.book(ana, TOMORROW, TOMORROW + HOUR)
    await until(lambda: booking["contoso_outlookeventid"] == event.immutable_id)
    [refused] = [call.at for call in app.sandbox.calls if call.status == 429]
    following = min(call.at for call in app.sandbox.calls if call.service == "dataverse" and call.at > refused)
    assert following - refused >= timedelta(seconds=3)


async def test_a_refused_change_is_parked_once_with_its_reason(app: Running) -> None:
    ana = app.sandbox.people.hire("Ana")
    await app.subscribe()
    booking, event = app.sandbox.people.dispatcher.book(ana, TOMORROW, TOMORROW + HOUR)
    await until(lambda: in_step(app, booking))
    await app.quiet()
    app.sandbox.dataverse_switches.plugin_refuses = {booking.id: "locked"}
    ana.move(event, HOUR)
    await until(lambda: any("0x80040265" in message for message in app.sent))
    await app.quiet()
    [parked] = await app.parked()
    assert parked["error"] == "Refused"
    assert json.loads(parked["message"])["event"] == event.immutable_id


async def test_a_malformed_message_is_parked_at_once_and_the_others_go_on(app: Running) -> None:
    ana = app.sandbox.people.hire("Ana")
    await app.subscribe()
    async with QueueClient.from_connection_string(app.storage, "booking-changes") as queue:
        await until_exists(queue)
        await queue.send_message(base64.b64encode(b'{"id": "x", "mailbox": "../users/all"}').decode())
    booking, _ = app.sandbox.people.dispatcher.book(ana, TOMORROW, TOMORROW + HOUR)
    await until(lambda: in_step(app, booking))
    await until(lambda: any("Malformed" in message for message in app.sent))
    [parked] = await app.parked()
    assert (parked["error"], parked["reason"]) == ("Malformed", "mailbox")


async def until_exists(queue: QueueClient) -> None:
    from azure.core.exceptions import ResourceExistsError

    try:
        await queue.create_queue()
    except ResourceExistsError:
        return


async def test_without_a_queue_graph_is_told_to_come_again(app: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """And when it does, the change is not lost."""
    ana = app.sandbox.people.hire("Ana")
    await app.subscribe()
    refusals = 3
    recorded = QueueClient.send_message

    async def refused(self: QueueClient, content: str, **options: Any) -> Any:
        nonlocal refusals
        if refusals:
            refusals -= 1
            from azure.core.exceptions import ServiceRequestError

            raise ServiceRequestError("the storage account is not to be reached")
        return await recorded(self, content, **options)

    monkeypatch.setattr(QueueClient, "send_message", refused)
    booking, _ = app.sandbox.people.dispatcher.book(ana, TOMORROW, TOMORROW + HOUR)
    await until(lambda: in_step(app, booking))
    assert refusals == 0


async def test_one_mailbox_in_trouble_does_not_hold_up_the_others(app: Running) -> None:
    ana, ben = app.sandbox.people.hire("Ana"), app.sandbox.people.hire("Ben")
    await app.subscribe()
    app.sandbox.faults.order(graph_errors.TOO_MANY_REQUESTS.fault(service="graph", path=ana.mailbox.id, times=None))
    for _ in range(20):
        app.sandbox.people.dispatcher.book(ana, TOMORROW, TOMORROW + HOUR)
    booking, _ = app.sandbox.people.dispatcher.book(ben, TOMORROW, TOMORROW + HOUR)
    await until(lambda: in_step(app, booking))
    app.sandbox.faults.clear()
    await until(lambda: all(in_step(app, row) for row in app.sandbox.tables.bookings()))


async def test_bad_posts_are_answered_and_queue_nothing(app: Running) -> None:
    bodies: list[bytes] = [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b'"text"',
        b'{"value": {}}',
        b'{"value": 7}',
        b"[" * 100_000,
        b'{"value": ' * 50_000,
        b'{"value": [' + b"1," * 100_000 + b"1]}",
        b'{"value": [' + b'"' + b"x" * 10_000_000 + b'"]}',
        bytes(range(256)),
        b"\xff\xfe\x00",
        b'{"value": [{"clientState": 1, "resource": 2, "changeType": 3}]}',
        b'{"value": [{"clientState": "x", "lifecycleEvent": {"a": []}}]}',
    ]
    for body in bodies:
        assert await app.post("/api/notifications", body) in (202, 400), body[:40]
    assert app.sent == []


async def test_nothing_personal_and_no_secret_is_asked_for_logged_or_queued(
    app: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """Planted: a subject, a body, an attendee, an address, a booking's name; the keys and all clientStates."""
    caplog.set_level(logging.DEBUG)
    ana = app.sandbox.people.hire("Ana")
    await app.subscribe()
    secrets = [subscription.client_state for subscription in app.sandbox.subscriptions]
    personal = {"subject": "Planted subject", "body": "Planted body", "attendees": ["planted.guest@contoso.example"]}
    booking, event = app.sandbox.people.dispatcher.book(ana, TOMORROW, TOMORROW + HOUR, name="Planted booking")
    app.sandbox.mailboxes.change(event, **personal)
    meeting = ana.meet(TOMORROW, TOMORROW + HOUR, subject="Planted meeting")
    await until(lambda: in_step(app, booking))
    app.sandbox.faults.order(Fault("graph", status=500, body={"error": {"code": "X", "message": "Planted message"}}))
    ana.move(event, HOUR)
    ana.delete(meeting)
    await until(lambda: booking["starttime"] == TOMORROW + HOUR)
    await app.post(
        "/api/notifications",
        {"value": [{"changeType": "updated", "resource": "Planted", "clientState": "Planted state"}]},
    )
    app.sandbox.dataverse_switches.plugin_refuses = {"*": "Planted refusal"}
    ana.delete(event)
    await until(lambda: any("0x80040265" in message for message in app.sent))
    await app.quiet()

    ours = [record for record in caplog.records if not record.name.startswith(("sandbox", "aiohttp", "asyncio"))]
    log = "\n".join(record.getMessage() for record in ours)
    requests = "\n".join(f"{call.path}?{call.query} {call.headers} {call.body!r}" for call in app.sandbox.calls)
    messages = "\n".join(app.sent)
    assert ours
    for text in (log, requests, messages):
        assert "planted" not in text.lower()
        assert "contoso.example" not in text
    for secret in [KEY, CODE, "loopback", *filter(None, secrets)]:
        assert secret not in log
        assert secret not in messages
    subscribed = [call for call in app.sandbox.calls if call.method == "POST"]
    assert len(subscribed) == 1, "clientState and function key are told to Graph, once, and to nobody else"
    others = "\n".join(f"{call.path}?{call.query} {call.body!r}" for call in app.sandbox.calls if call.method != "POST")
    assert KEY not in requests
    assert CODE not in others
    assert not any(state in others for state in secrets if state)
