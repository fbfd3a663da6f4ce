"""Connections to Graph: requests arrive as built, answers as sent, and what goes wrong has httpx's names."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from sync.connections import Connections

Serve = Callable[[web.Request], Awaitable[web.StreamResponse]]
Client = Callable[[Serve], Awaitable[httpx.AsyncClient]]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """Makes one whose base is a server that answers as it is told."""
    closing: list[Callable[[], Awaitable[None]]] = []

    async def make(serve: Serve) -> httpx.AsyncClient:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", serve)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = httpx.URL(f"http://127.0.0.1:{runner.addresses[0][1]}")
        made = httpx.AsyncClient(base_url=url, transport=Connections(url), timeout=httpx.Timeout(5.0))
        closing.extend((made.aclose, runner.cleanup))
        return made

    yield make
    for close in closing:
        await close()


async def echo(request: web.Request) -> web.StreamResponse:
    body = (await request.read()).decode()
    return web.json_response(
        {
            "method": request.method,
            "path": request.raw_path,
            "prefer": request.headers.getall("Prefer", []),
            "authorization": request.headers.get("Authorization"),
            "body": body,
        },
        headers={"Retry-After": "7"},
        status=429,
    )


async def test_a_request_arrives_as_it_was_built_and_its_answer_as_it_was_sent(client: Client) -> None:
    """The percent signs included: an id may hold what has a meaning in a path."""
    path = "/v1.0/users/a/events/AA%2FB%2Bc%3D?$select=id,start&$expand=extensions($filter=id%20eq%20'x')"
    headers = [("Prefer", "one"), ("Prefer", "two"), ("Authorization", "Bearer token")]
    answer = await (await client(echo)).patch(path, headers=headers, json={"a": "ä"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    assert answer.json() == {
        "method": "PATCH",
        "path": path,
        "prefer": ["one", "two"],
        "authorization": "Bearer token",
        "body": '{"a":"ä"}',
    }


async def test_no_netrc_takes_the_place_of_a_token(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    answer = await (await client(echo)).get("/", headers={"Authorization": "Bearer token"})
    assert answer.json()["authorization"] == "Bearer token"


async def test_a_compressed_answer_is_read(client: Client) -> None:
    async def serve(request: web.Request) -> web.StreamResponse:
        assert "gzip" in request.headers["Accept-Encoding"]
        body = gzip.compress(b'{"id": "E1"}')
        return web.Response(body=body, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})

    assert (await (await client(serve)).get("/")).json() == {"id": "E1"}


async def test_a_redirection_is_an_answer(client: Client) -> None:
    asked = []

    async def serve(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    assert (await (await client(serve)).get("/")).status_code == 302
    assert asked == ["/"]


async def test_one_that_hangs_is_a_time_out(client: Client) -> None:
    async def serve(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(5)
        return web.Response()

    made = await client(serve)
    made.timeout = httpx.Timeout(0.1)
    with pytest.raises(httpx.ReadTimeout):
        await made.get("/")


@pytest.mark.parametrize("part", [b"", b'{"id": '], ids=["before the answer", "in its middle"])
async def test_a_connection_that_is_cut_is_no_time_out(client: Client, part: bytes) -> None:
    """Who does not answer in time is left alone for a while, and this one is not to be."""

    async def serve(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        if part:
            await response.prepare(request)
            await response.write(part)
        assert request.transport is not None
        request.transport.abort()
        return response

    with pytest.raises(httpx.NetworkError):
        await (await client(serve)).post("/")


async def test_who_is_not_there_is_a_network_error() -> None:
    url = httpx.URL("http://127.0.0.1:9")
    async with httpx.AsyncClient(transport=Connections(url)) as made:
        with pytest.raises(httpx.NetworkError):
            await made.get(url)


async def test_the_proxy_of_the_environment_is_asked(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(request: web.Request) -> web.StreamResponse:
        return web.Response(text=f"{request.method} {request.raw_path}")

    proxy = await client(serve)
    monkeypatch.setenv("http_proxy", str(proxy.base_url))
    monkeypatch.setenv("no_proxy", "localhost")
    beyond, near = httpx.URL("http://graph.example/v1.0"), httpx.URL("http://localhost:9")
    async with httpx.AsyncClient(transport=Connections(beyond)) as made:
        assert "GET " in (await made.get(beyond)).text
    async with httpx.AsyncClient(transport=Connections(near)) as made:
        with pytest.raises(httpx.NetworkError):
            await made.get(near)
