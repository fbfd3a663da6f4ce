from __future__ import annotations

import asyncio
from datetime import timedelta

from sandbox.dataverse.errors import BAD_GATEWAY_HTML, THROTTLED_REQUESTS


async def test_a_request_without_a_token_is_refused(dataverse):
    answer = await dataverse.client.get("/api/data/v9.2/WhoAmI", headers={"Authorization": ""})
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


async def test_a_token_of_an_unknown_application_is_refused(dataverse):
    dataverse.switches.not_a_member = True
    assert await dataverse.refusal("GET", "WhoAmI") == (403, "0x80072560")
    dataverse.switches.not_a_member = False
    await dataverse.get("WhoAmI")


async def test_too_many_requests_in_five_minutes_must_wait_for_the_first_to_leave_the_window(dataverse, clock):
    dataverse.switches.request_limit = 3
    for _ in range(3):
        await dataverse.get("WhoAmI")
        clock.move(timedelta(seconds=10))
    answer = await dataverse.send("GET", "WhoAmI")
    assert (answer.status, (await answer.json())["error"]["code"]) == (429, "0x80072322")
    assert answer.headers["Retry-After"] == "280"
    assert answer.headers["x-ms-ratelimit-burst-remaining-xrm-requests"] == "0"
    clock.move(timedelta(seconds=280))
    await dataverse.get("WhoAmI")


async def test_pressing_on_lengthens_the_wait(dataverse):
    dataverse.switches.request_limit = 2
    waits = [(await dataverse.send("GET", "WhoAmI")).headers.get("Retry-After") for _ in range(3)]
    assert waits == [None, None, "300"]
    dataverse.clock.move(timedelta(seconds=299))
    assert (await dataverse.send("GET", "WhoAmI")).headers["Retry-After"] == "1"
    dataverse.clock.move(timedelta(seconds=1))
    await dataverse.get("WhoAmI")
    assert (await dataverse.send("GET", "WhoAmI")).headers["Retry-After"] == "300"


async def test_too_many_requests_at_once_are_refused_at_once(dataverse):
    dataverse.switches.concurrency_limit = 2
    dataverse.switches.latency = 0.05
    answers = await asyncio.gather(*(dataverse.send("GET", "WhoAmI") for _ in range(3)))
    assert sorted(answer.status for answer in answers) == [200, 200, 429]
    refused = next(answer for answer in answers if answer.status == 429)
    assert (await refused.json())["error"]["code"] == "0x80072326"
    await dataverse.get("WhoAmI")


async def test_without_limits_nothing_is_refused(dataverse):
    answers = await asyncio.gather(*(dataverse.send("GET", "WhoAmI") for _ in range(60)))
    assert {answer.status for answer in answers} == {200}


def test_an_error_to_order_can_have_any_retry_after():
    fault = THROTTLED_REQUESTS.retry_after("120").fault(times=3, method="PATCH")
    assert (fault.service, fault.status, fault.headers["Retry-After"]) == ("dataverse", 429, "120")
    assert "Retry-After" not in THROTTLED_REQUESTS.retry_after(None).headers


def test_a_gateway_knows_no_json():
    assert isinstance(BAD_GATEWAY_HTML.fault().body, str)
