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
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
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


async def the_app(work: Work) -> None:
    from sync import wiring

    change = {"mailbox": work.mailbox, "event": work.event, "deleted": False}
    await wiring.process_change(json.dumps(change).encode())


async def the_libraries(work: Work) -> None:
    """The app's requests, those to its tables included, by the clients that it sends them with: nothing is decided."""
    from sync import wiring
    from sync.ledger_table import key_of
    from sync.model import MoveBooking

    looked_at, table = (await wiring.parts()).looked_at, wiring._table("ledger")
    row = {"PartitionKey": work.mailbox, "RowKey": key_of(work.event), "event": work.event, "entry": "x" * 300}
    await table.get(row["PartitionKey"], row["RowKey"])
    event = await looked_at.events.read(work.mailbox, work.event)
    if work.booking is not None:
        booking = await looked_at.bookings.read(work.booking)
        if work.is_moved:
            event = await looked_at.events.read(work.mailbox, work.event)
            assert event is not None
            assert booking is not None
            await looked_at.bookings.is_own(booking)
            await table.put(row)
            await looked_at.bookings.write(MoveBooking(booking.id, booking.etag, event.span))
    await table.put(row)


def bare(session: aiohttp.ClientSession) -> Do:
    """The calls that *work* needs as the app is now, read in the same order: no decision, no errors, no retries."""
    graph, dataverse = os.environ["GRAPH_URL"], f"{os.environ['DATAVERSE_URL']}/api/data/v9.2"

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

    return do


async def measure(what: str, path: Path, times: int) -> Result:
    storage_calls = count() if what == "bare" else count_storage_calls()
    headers = {"Authorization": "Bearer loopback", "Prefer": 'IdType="ImmutableId"'}
    async with aiohttp.ClientSession(headers=headers) as session:
        do = {"bare": bare(session), "libraries": the_libraries, "app": the_app}[what]
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
