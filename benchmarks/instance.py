"""One instance of the app in a process of its own, working through changes as the host hands them out.

Or, to compare, the calls that they need and nothing else: by a bare HTTP client, or by the libraries that the app calls
with. ``python -m benchmarks.instance app|bare|libraries WORK TIMES`` works through the file *WORK* so many times, and
prints one ``Result`` as JSON. What is imported is part of its memory, so nothing of the app is imported for all.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

import aiohttp

from benchmarks.work import ROOT, Work, read_work

HOST = json.loads((ROOT / "host.json").read_text("utf-8"))["extensions"]["queues"]
CONCURRENCY = HOST["batchSize"] + HOST["newBatchThreshold"]
"""Of one instance. Source: Azure Functions, "Queue storage trigger", concurrency."""

Do = Callable[[Work], Awaitable[None]]
What = Literal["app", "bare", "libraries"]


@dataclass(frozen=True)
class Result:
    changes: int
    seconds: float
    storage_calls: int
    megabytes: float
    """The process's peak."""
    done: Mapping[str, float]
    """Seconds until the last change of each mailbox was done."""

    @property
    def per_second(self) -> float:
        return self.changes / self.seconds


def run(what: What, work: Path, settings: Mapping[str, str], times: int = 1) -> Result:
    """In a new process, with these settings."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.instance", what, work, str(times)],
        cwd=ROOT,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Result(**json.loads(done.stdout))


async def work_through(work: Iterable[Work], do: Do) -> tuple[int, float, dict[str, float]]:
    """How many, how long, and when each mailbox was done; so many at a time as the host starts."""
    waiting, done, count = iter(work), dict[str, float](), 0
    begun = time.perf_counter()

    async def one_after_the_other() -> None:
        nonlocal count
        for each in waiting:
            await do(each)
            done[each.mailbox] = time.perf_counter() - begun
            count += 1

    await asyncio.gather(*(one_after_the_other() for _ in range(CONCURRENCY)))
    return count, time.perf_counter() - begun, done


@asynccontextmanager
async def the_app() -> AsyncIterator[Do]:
    """Raises: RuntimeError for a change that is not done at once; it would be a quick one."""
    from sync import triggers
    from sync.messages.taking import ChangeTaker
    from sync.wiring.app import App

    class Strict(ChangeTaker):
        async def take(self, text: str) -> str:
            outcome = await super().take(text)
            if outcome not in {"linked", "moved", "ignored"}:
                raise RuntimeError(f"a change was not done: {outcome}")
            return outcome

    app = App(os.environ)
    changes = app.changes
    app.changes = Strict(changes.process, changes.spread, changes.queues, changes.let_in)

    async def do(work: Work) -> None:
        change = {"mailbox": work.mailbox, "event": work.event}
        await triggers.process_outlook_change(json.dumps(change).encode())

    with triggers.serving(app):
        yield do
    await app.close()


@asynccontextmanager
async def the_libraries() -> AsyncIterator[Do]:
    """The app's requests, those to its tables included, by the libraries that it uses and nothing of its own.

    So there is no decision, no short wait, no limit, no name for an error, and no answer is read further than as JSON.
    """
    import requests
    from azure.core.exceptions import ResourceNotFoundError
    from azure.data.tables.aio import TableServiceClient
    from kiota_abstractions.base_request_configuration import RequestConfiguration
    from kiota_abstractions.native_response_handler import NativeResponseHandler
    from kiota_authentication_azure.azure_identity_authentication_provider import AzureIdentityAuthenticationProvider
    from kiota_http.middleware.options import ResponseHandlerOption
    from msgraph.generated.users.item.events.item.event_item_request_builder import EventItemRequestBuilder
    from msgraph.graph_request_adapter import GraphRequestAdapter
    from msgraph.graph_service_client import GraphServiceClient

    from sandbox.world.people import EXTENSION_NAME
    from sync.calls.credentials import LoopbackCredential

    url = os.environ["GRAPH_URL"]
    host = url.split("/")[2].partition(":")[0]
    adapter = GraphRequestAdapter(AzureIdentityAuthenticationProvider(LoopbackCredential(), allowed_hosts=[host]))
    adapter.base_url = url
    graph = GraphServiceClient(request_adapter=adapter)
    asked: Any = RequestConfiguration(
        query_parameters=EventItemRequestBuilder.EventItemRequestBuilderGetQueryParameters(
            select=["id", "start", "end"], expand=[f"extensions($filter=id eq '{EXTENSION_NAME}')"]
        )
    )
    asked.headers.try_add("Prefer", 'IdType="ImmutableId"')
    dataverse = requests.Session()
    dataverse.headers["Authorization"] = "Bearer loopback"
    bookings = f"{os.environ['DATAVERSE_URL']}/api/data/v9.2/bookableresourcebookings"

    async def read_event(work: Work) -> None:
        request = graph.users.by_user_id(work.mailbox).events.by_event_id(work.event).to_get_request_information(asked)
        request.add_request_options([ResponseHandlerOption(NativeResponseHandler())])
        answer: Any = await adapter.send_primitive_async(request, "bytes", {})
        answer.raise_for_status()
        json.loads(answer.content)

    async def call_dataverse(method: str, work: Work, **options: Any) -> None:
        answer = await asyncio.to_thread(
            dataverse.request, method, f"{bookings}({work.booking})", timeout=30, **options
        )
        answer.raise_for_status()

    async def do(work: Work) -> None:
        row = {"PartitionKey": work.mailbox, "RowKey": work.event, "entry": "x" * 300}
        with suppress(ResourceNotFoundError):
            await table.get_entity(row["PartitionKey"], row["RowKey"])
        await read_event(work)
        if work.booking is not None:
            await call_dataverse("GET", work)
        if work.is_moved:
            await read_event(work)
            await table.upsert_entity(row)
            await call_dataverse("PATCH", work, json={os.environ["EVENT_ID_COLUMN"]: work.event})
        await table.upsert_entity(row)

    with dataverse:
        async with TableServiceClient.from_connection_string(os.environ["AzureWebJobsStorage"]) as storage:  # noqa: SIM112
            table = await storage.create_table_if_not_exists("libraries")
            async with table:
                yield do


@asynccontextmanager
async def bare() -> AsyncIterator[Do]:
    """The calls that *work* needs as the app is now, read in the same order: no decision, no errors, no retries."""
    graph, dataverse = os.environ["GRAPH_URL"], f"{os.environ['DATAVERSE_URL']}/api/data/v9.2"
    headers = {"Authorization": "Bearer loopback", "Prefer": 'IdType="ImmutableId"'}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def call(method: str, url: str, **options: Any) -> None:
            async with session.request(method, url, **options) as answer:
                answer.raise_for_status()
                await answer.read()

        async def do(work: Work) -> None:
            event = f"{graph}/users/{work.mailbox}/events/{work.event}"
            await call("GET", event)
            if work.booking is not None:
                await call("GET", f"{dataverse}/bookableresourcebookings({work.booking})")
            if work.is_moved:
                await call("GET", event)
                columns = {os.environ["EVENT_ID_COLUMN"]: work.event}
                await call("PATCH", f"{dataverse}/bookableresourcebookings({work.booking})", json=columns)

        yield do


async def measure(what: str, path: Path, times: int) -> Result:
    if hasattr(os, "sched_setaffinity"):  # one core, where the system can be told
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    storage_calls = count() if what == "bare" else count_storage_calls()
    async with {"bare": bare, "libraries": the_libraries, "app": the_app}[what]() as do:
        await do(next(read_work(path)))  # what is imported and connected once is no matter of throughput
        changes, seconds, done = await work_through(read_work(path, times), do)
    return Result(changes, seconds, next(storage_calls), peak_megabytes(), done)


def count_storage_calls() -> Iterator[int]:
    """Says next how many requests Azure's client libraries have sent: those of storage, here."""
    from azure.core.pipeline.transport import AioHttpTransport

    calls = count()
    send = AioHttpTransport.send

    async def counted(self: AioHttpTransport, request: Any, **options: Any) -> Any:
        next(calls)
        return await send(self, request, **options)

    AioHttpTransport.send = counted
    return calls


def peak_megabytes() -> float:
    """Of this process. Linux's rusage counts what the parent held when it started it; Windows has none."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text("utf-8").partition("VmHWM:")[2].split()[0]) / 1_024
    if sys.platform == "win32":
        return float("nan")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024**2


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    print(json.dumps(asdict(asyncio.run(measure(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))))
