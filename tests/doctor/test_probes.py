"""A handshake as Graph has it, and the clock of whoever answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from sync.doctor.probes import clock_offset, shake_hands
from sync.errors import Transient

NOW = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
TOKEN = "Validation: 1+1=2 & ÄÖ€?"


@asynccontextmanager
async def serving(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("query", ["", "?code=a%2Fb"])
async def test_the_token_arrives_as_it_is_whatever_else_the_url_says(query: str) -> None:
    async def echo(request: web.Request) -> web.Response:
        assert (request.method, await request.read()) == ("POST", b"")
        assert request.query.get("code") == ("a/b" if query else None)
        return web.Response(text=request.query["validationToken"])

    async with serving(echo) as url:
        answer = await shake_hands(url + query, TOKEN)
    assert (answer.status, answer.media_type, answer.body) == (200, "text/plain", TOKEN.encode())


async def test_a_redirection_is_not_followed() -> None:
    async def redirect(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    async with serving(redirect) as url:
        assert (await shake_hands(url, TOKEN)).status == 307


async def test_a_handshake_that_hangs_is_given_so_many_seconds() -> None:
    async def hang(request: web.Request) -> web.Response:
        await asyncio.sleep(0.3)
        return web.Response()

    async with serving(hang) as url:
        with pytest.raises(Transient, match=r"no answer within 0\.1 seconds"):
            await shake_hands(url, TOKEN, within=0.1)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/?code=SECRET", "https://[/?code=SECRET"])
async def test_nobody_there_is_told_without_the_key(url: str) -> None:
    with pytest.raises(Transient) as info:
        await shake_hands(url, TOKEN)
    assert "SECRET" not in str(info.value)
    assert info.value.__cause__ is None


@pytest.mark.parametrize(
    ("date", "offset"),
    [
        ("Mon, 02 Mar 2026 06:03:00 GMT", timedelta(minutes=3)),
        ("Mon, 02 Mar 2026 05:59:00 GMT", timedelta(minutes=-1)),
        ("yesterday", None),
    ],
)
async def test_any_answer_tells_the_time(date: str, offset: timedelta | None) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=401, headers={"Date": date})

    async with serving(refuse) as url:
        found = await clock_offset(url, lambda: NOW)
    assert found == (None if offset is None else offset + timedelta(seconds=0.5))


async def test_nobody_there_tells_no_time() -> None:
    assert await clock_offset("http://127.0.0.1:9/", lambda: NOW) is None
