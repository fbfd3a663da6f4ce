"""The assembled world: both services on one port, seen from outside."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from sandbox.faults import Fault
from sandbox.host.child import Child
from sandbox.server import Sandbox
from sandbox.world.people import EXTENSION_NAME, EXTENSION_PROPERTY

NINE = datetime(2030, 1, 7, 9, tzinfo=UTC)
TEN = NINE + timedelta(hours=1)
TOKEN = {"Authorization": "Bearer x"}


async def ask(url: str, method: str = "GET", **options: Any) -> tuple[int, Any]:
    async with aiohttp.ClientSession(headers=TOKEN) as session, session.request(method, url, **options) as answer:
        return answer.status, await answer.json()


async def test_graph_has_the_event_and_dataverse_the_booking_of_one_act() -> None:
    async with Sandbox() as sandbox:
        booking, event = sandbox.people.dispatcher.book(sandbox.people.hire("Ana"), NINE, TEN)
        name = EXTENSION_NAME
        url = f"{sandbox.graph_url}/users/{event.mailbox.id}/events/{event.immutable_id}"
        _, got = await ask(
            f"{url}?$select=id&$expand=extensions($filter=id eq '{name}')", headers={"Prefer": 'IdType="ImmutableId"'}
        )
        assert got["extensions"][0][EXTENSION_PROPERTY] == booking.id
        _, row = await ask(f"{sandbox.dataverse_url}/api/data/v9.2/bookableresourcebookings({booking.id})")
        assert row["starttime"] == "2030-01-07T09:00:00Z"


@pytest.mark.parametrize(
    ("path", "service"),
    [("/v1.0/subscriptions", "graph"), ("/api/data/v9.2/bookingstatuses", "dataverse")],
)
async def test_every_call_is_recorded_and_every_service_can_be_in_trouble(path: str, service: Any) -> None:
    async with Sandbox() as sandbox:
        sandbox.faults.order(Fault(service=service, status=418))
        assert (await ask(sandbox.url + path))[0] == 418
        assert (await ask(sandbox.url + path))[0] == 200
        assert [(call.service, call.status) for call in sandbox.calls] == [(service, 418), (service, 200)]


async def test_a_call_without_a_token_is_refused_and_recorded() -> None:
    async with Sandbox() as sandbox, aiohttp.ClientSession(sandbox.url) as session:
        for path in ("/v1.0/subscriptions", "/api/data/v9.2/bookingstatuses"):
            async with session.get(path) as answer:
                assert answer.status == 401
        assert [call.status for call in sandbox.calls] == [401, 401]


async def test_the_double_slash_that_msgraph_sdk_sends_is_understood() -> None:
    async with Sandbox() as sandbox:
        assert (await ask(f"{sandbox.graph_url}//subscriptions"))[0] == 200


async def test_a_subscriber_hears_of_what_people_do() -> None:
    heard: list[dict[str, Any]] = []

    async def webhook(request: web.Request) -> web.Response:
        if "validationToken" in request.query:
            return web.Response(text=request.query["validationToken"])
        heard.extend((await request.json())["value"])
        return web.Response(status=202)

    app = web.Application()
    app.router.add_post("/", webhook)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with Sandbox() as sandbox:
            ana = sandbox.people.hire("Ana")
            wanted = {
                "changeType": "created,updated,deleted",
                "notificationUrl": f"http://127.0.0.1:{runner.addresses[0][1]}/",
                "resource": f"users/{ana.mailbox.id}/events",
                "expirationDateTime": (sandbox.clock.now() + timedelta(days=1)).isoformat(),
                "clientState": "ours",
            }
            status, _ = await ask(f"{sandbox.graph_url}/subscriptions", "POST", json=wanted)
            assert status == 201
            sandbox.people.dispatcher.book(ana, NINE, TEN)
            await sandbox.delivery.settle()
    finally:
        await runner.cleanup()
    assert [(item["changeType"], item["clientState"]) for item in heard] == [("created", "ours")]


def test_the_same_seed_gives_the_same_world() -> None:
    def ids(seed: int) -> list[str]:
        sandbox = Sandbox(seed)
        booking, event = sandbox.people.dispatcher.book(sandbox.people.hire("Ana"), NINE, TEN)
        return [booking.id, event.immutable_id]

    assert ids(1) == ids(1) != ids(2)


async def test_it_is_served_as_a_command_until_it_is_told_to_stop() -> None:
    with Child("the sandbox", [sys.executable, "-m", "sandbox", "serve", "--port", "0"]) as child:
        url = (await asyncio.to_thread(child.wait_for, r"curl (http\S+)"))[1]
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            assert "Ana, Ben, Cleo" in await answer.text()
        await asyncio.to_thread(child.stop)
        assert child.status == 0


@pytest.mark.parametrize("path", ["/v1.0/subscriptions", "/v1.0/nothing", "/api/data/v9.2/WhoAmI", "/api/data/v9.2/x"])
async def test_every_answer_of_a_service_tells_its_time(path: str) -> None:
    async with Sandbox() as sandbox, aiohttp.ClientSession() as session:
        sandbox.clock.move(timedelta(hours=5))
        async with session.get(sandbox.url + path) as answer:
            told = parsedate_to_datetime(answer.headers["Date"])
        assert abs(told - sandbox.clock.now()) < timedelta(minutes=1)


async def test_without_its_permission_the_app_reaches_no_mailbox() -> None:
    async with Sandbox() as sandbox:
        ana = sandbox.people.hire("Ana")
        sandbox.graph_switches.calendars_read = False
        status, body = await ask(f"{sandbox.graph_url}/users/{ana.mailbox.id}/events")
        assert (status, body["error"]["code"]) == (403, "ErrorAccessDenied")


@pytest.mark.parametrize("readable", [True, False])
async def test_an_app_registration_is_read_by_who_may(readable: bool) -> None:
    async with Sandbox() as sandbox:
        sandbox.graph_switches.application_readable = readable
        sandbox.graph_switches.secrets_end = [NINE]
        status, body = await ask(f"{sandbox.graph_url}/applications(appId='507c3b9a-67b8-463d-88a2-15a8cefb2111')")
        assert status == (200 if readable else 403)
        if readable:
            assert body["passwordCredentials"] == [{"endDateTime": "2030-01-07T09:00:00Z"}]
