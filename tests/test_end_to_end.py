"""The whole app in the local host: real Azurite, real HTTP, real queues, a hostile world, and nothing of it leaks."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError
from azure.storage.queue.aio import QueueClient

from sandbox.dataverse import errors as dataverse_errors
from sandbox.faults import Fault
from sandbox.graph import errors as graph_errors
from tests.world.running import (
    CODE,
    HOUR,
    KEY,
    TOMORROW,
    Running,
    act,
    in_step,
    is_canceled,
    running,
    turn_hostile,
    until,
    until_exists,
)


@pytest.fixture
async def app(storage: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    monkeypatch.setattr("sync.pairs.actions.GRACE", 1.0)
    async with running(storage, monkeypatch) as app:
        yield app


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


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
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
        pairs = [people.dispatcher.book(rng.choice(technicians), TOMORROW, TOMORROW + HOUR) for _ in range(6)]
        gone: set[int] = set()
        for _ in range(18):
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
    async with QueueClient.from_connection_string(app.storage, "outlook-changes") as queue:
        await until_exists(queue)
        await queue.send_message(base64.b64encode(b'{"id": "x", "mailbox": "../users/all"}').decode())
    booking, _ = app.sandbox.people.dispatcher.book(ana, TOMORROW, TOMORROW + HOUR)
    await until(lambda: in_step(app, booking))
    await until(lambda: any("Malformed" in message for message in app.sent))
    [parked] = await app.parked()
    assert (parked["error"], parked["reason"]) == ("Malformed", "mailbox")


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
