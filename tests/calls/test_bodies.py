"""No answer fills the memory, however small it is on the wire."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sync.calls.bodies import LARGEST, Collected
from sync.calls.credentials import LoopbackCredential
from sync.dataverse.transport import Transport as ToDataverse
from sync.errors import Malformed
from sync.graph.events import GraphEvents
from sync.graph.transport import Transport as ToGraph
from tests.world.fakes import ANNA, NOW


@asynccontextmanager
async def a_service_that_answers(body: bytes) -> AsyncIterator[str]:
    """Its URL; every request is answered with *body*, compressed."""
    packed = gzip.compress(body)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"{head}Connection: close\r\n\r\n".encode() + packed)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_an_answer_of_graphs_that_unpacks_to_too_much_is_refused_by_name() -> None:
    async with a_service_that_answers(bytes(LARGEST + 1)) as url:
        transport = ToGraph(url, LoopbackCredential(), lambda: NOW)
        with pytest.raises(Malformed, match="graph: an answer of more than 32 MiB"):
            await GraphEvents(transport, "com.contoso.booking", "bookingId").read(ANNA, "E1")
        await transport.close()


async def test_an_answer_of_dataverses_that_unpacks_to_too_much_is_refused_by_name() -> None:
    async with a_service_that_answers(bytes(LARGEST + 1)) as url:
        transport = ToDataverse(url, LoopbackCredential(), lambda: NOW)
        with pytest.raises(Malformed, match="dataverse: an answer of more than 32 MiB"):
            await transport.get("bookableresources")
        transport.close()


def test_a_body_within_the_bound_is_whole() -> None:
    collected = Collected("graph", largest=6)
    collected.add(b"abc")
    collected.add(b"def")
    assert collected.body() == b"abcdef"
    with pytest.raises(Malformed):
        collected.add(b"g")
