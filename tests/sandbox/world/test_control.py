"""The routes that a person with curl uses."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest

from sandbox.server import Sandbox
from sandbox.world.control import ACTS


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        for name in ("Ana", "Ben"):
            sandbox.people.hire(name)
        yield sandbox


@pytest.fixture
async def web(sandbox: Sandbox) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(sandbox.url) as session:
        yield session


async def post(web: aiohttp.ClientSession, path: str, **options: object) -> tuple[int, str]:
    async with web.post(f"/sandbox/{path}", **options) as answer:
        return answer.status, await answer.text()


async def test_every_act_works_as_the_help_shows_it(sandbox: Sandbox, web: aiohttp.ClientSession) -> None:
    async with web.get("/sandbox") as answer:
        text = await answer.text()
    commands = dict(re.findall(rf'curl -X POST "{sandbox.url}/sandbox/([a-z/]+)\?(\S+)"', text))
    assert commands.keys() >= {act.path for act in ACTS}
    for path, query in commands.items():
        await post(web, "dispatcher/book?technician=Ana")
        handle = f"B{len(sandbox.tables.bookings())}" if path == "dispatcher/delete" else "B1"
        if path == "technician/restore":
            await post(web, "technician/delete?event=E1")
        assert (path, *(await post(web, f"{path}?{query.replace('B1', handle)}"))[:1]) == (path, 200)


async def test_an_act_answers_with_both_sides_as_they_are_then(web: aiohttp.ClientSession) -> None:
    await post(web, "dispatcher/book?technician=ana&start=2030-01-07T09:00&minutes=45")
    _, text = await post(web, "technician/move?event=E1&minutes=60")
    assert "Mon 07 Jan 09:00-09:45" in text
    assert "Mon 07 Jan 10:00-10:45" in text


async def test_the_state_is_json_unless_text_is_asked_for(sandbox: Sandbox, web: aiohttp.ClientSession) -> None:
    start = datetime(2030, 1, 7, 9, tzinfo=UTC)
    booking, event = sandbox.people.dispatcher.book(sandbox.people.technicians[0], start, start + timedelta(hours=1))
    async with web.get("/sandbox/state") as answer:
        (line,) = await answer.json()
    assert (line["booking_id"], line["event_id"], line["in_step"]) == (booking.id, event.immutable_id, False)
    assert line["booked_from"] == "2030-01-07T09:00:00+00:00"
    async with web.get("/sandbox/state?format=text") as answer:
        assert await answer.text() == sandbox.overview.table()


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("technician/move?event=E9", 404, "no event E9"),
        ("technician/move", 400, "event= is missing"),
        ("dispatcher/cancel?booking=B9", 404, "no booking B9"),
        ("dispatcher/book?technician=Zoe", 404, "Ana, Ben"),
        ("dispatcher/book?technician=Ana&minutes=an-hour", 400, "minutes="),
        ("dispatcher/book?technician=Ana&start=tomorrow", 400, "start="),
        ("technician/restore?event=E1", 409, "not in Deleted Items"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_a_reason(
    web: aiohttp.ClientSession, path: str, status: int, says: str
) -> None:
    await post(web, "technician/meet?technician=Ana")
    answered, text = await post(web, path)
    assert answered == status
    assert says in text


async def test_what_is_no_fault_is_refused(web: aiohttp.ClientSession) -> None:
    assert (await post(web, "faults"))[0] == 400
    assert (await post(web, "faults", json={"colour": 1}))[0] == 400
    assert (await post(web, "faults", json=["dataverse"]))[0] == 400


async def test_a_fault_strikes_until_it_is_called_off(web: aiohttp.ClientSession) -> None:
    assert (await post(web, "faults", json={"service": "dataverse", "status": 503, "times": None}))[0] == 204
    token = {"Authorization": "Bearer x"}
    async with web.get("/api/data/v9.2/bookingstatuses", headers=token) as answer:
        assert answer.status == 503
    async with web.delete("/sandbox/faults"), web.get("/api/data/v9.2/bookingstatuses", headers=token) as answer:
        assert answer.status == 200


async def test_the_calls_are_told_and_forgotten(web: aiohttp.ClientSession) -> None:
    async with web.get("/v1.0/subscriptions", headers={"Authorization": "Bearer x"}):
        pass
    async with web.get("/sandbox/calls") as answer:
        (call,) = await answer.json()
    assert (call["service"], call["method"], call["path"], call["status"]) == ("graph", "GET", "/subscriptions", 200)
    async with web.get("/sandbox/calls?format=text") as answer:
        assert "graph GET /subscriptions 200" in await answer.text()
    async with web.delete("/sandbox/calls"), web.get("/sandbox/calls") as answer:
        assert await answer.json() == []


async def test_the_clock_is_moved(sandbox: Sandbox, web: aiohttp.ClientSession) -> None:
    before = sandbox.clock.now()
    await post(web, "clock?minutes=600")
    assert timedelta(hours=10) <= sandbox.clock.now() - before < timedelta(hours=11)


async def test_switches_are_thrown_by_their_names(sandbox: Sandbox, web: aiohttp.ClientSession) -> None:
    status, text = await post(
        web, "switches?dataverse.optimistic_concurrency=false&dataverse.missing_privileges=prvReadUser,prvReadTeam"
    )
    assert status == 200
    assert not sandbox.dataverse_switches.optimistic_concurrency
    assert sandbox.dataverse_switches.missing_privileges == {"prvReadUser", "prvReadTeam"}
    async with web.get("/sandbox/switches") as answer:
        assert await answer.text() == text
    assert "dataverse.missing_privileges=prvReadTeam,prvReadUser\n" in text
    assert "graph.calendars_read=True\n" in text
    await post(web, "switches?graph.calendars_read=false&dataverse.missing_privileges=")
    assert (sandbox.graph_switches.calendars_read, sandbox.dataverse_switches.missing_privileges) == (False, set())


@pytest.mark.parametrize(
    ("query", "status"), [("graph.nothing=true", 404), ("calendars_read=true", 404), ("graph.calendars_read=7", 400)]
)
async def test_a_switch_that_cannot_be_meant_is_refused(web: aiohttp.ClientSession, query: str, status: int) -> None:
    assert (await post(web, f"switches?{query}"))[0] == status
