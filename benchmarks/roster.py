"""Measures runs of the roster: calls against the least that is possible, duration, memory; by number of mailboxes.

    python -m benchmarks.roster 100 1000 10000

The simulated services, with Graph's limit of writes switched on, run in a process of their own, and the app in another
one for each number, so that memory is the app's alone. Each handshake comes back to the app, as it does in Azure.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import math
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import aiohttp
from aiohttp import web

from sandbox.server import Sandbox
from sync.calls.credentials import LoopbackCredential
from sync.dataverse import bookings as dataverse_bookings
from sync.dataverse import transport as dataverse_transport
from sync.graph import subscriptions as graph_subscriptions
from sync.graph import transport as graph_transport
from sync.subscriptions.deployment import Deployment
from sync.subscriptions.keeper import Keeper
from tests.world.fakes import MemoryInMemory
from tests.world.keeper import SweepsInMemory

COLUMN = "contoso_outlookeventid"
KEY, NEW_KEY = "k" * 40, "n" * 40
MAX_RUNS = 5
"""Of the timer, for one phase to come to its end."""


async def serve(mailboxes: int) -> None:
    """The services, until stdin ends; says its URL first."""
    async with Sandbox(seed=1) as sandbox:
        sandbox.graph_switches.limit_subscription_writes = True
        for number in range(mailboxes):
            sandbox.people.hire(f"Person {number}")
        print(sandbox.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


class Services:
    """The other process, seen over HTTP."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session
        self._ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    async def move_clock(self, by: timedelta) -> None:
        self._ahead += by
        await self._session.post(f"{self.url}/sandbox/clock?minutes={by // timedelta(minutes=1)}")

    async def forget_calls(self) -> None:
        await self._session.delete(f"{self.url}/sandbox/calls")

    async def calls(self) -> list[dict[str, object]]:
        async with self._session.get(f"{self.url}/sandbox/calls") as answer:
            found: list[dict[str, object]] = await answer.json()
            return found


@asynccontextmanager
async def webhook() -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=request.query.get("validationToken", ""))

    app = web.Application()
    app.router.add_post("/api/notifications", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/api/notifications?code=functionkey"
    await runner.cleanup()


async def measure(url: str, mailboxes: int) -> None:
    """Four phases, each of as many runs as it takes; one line for each."""
    async with webhook() as own_url, aiohttp.ClientSession() as session:
        services = Services(url, session)
        to_graph = graph_transport.Transport(f"{url}/v1.0", LoopbackCredential(), services.now)
        to_dataverse = dataverse_transport.Transport(url, LoopbackCredential(), services.now)
        bookings = dataverse_bookings.DataverseBookings(to_dataverse, COLUMN)
        sweeps, memory = SweepsInMemory(), MemoryInMemory()

        def keeper(key: str) -> Keeper:
            deployment = Deployment.of(own_url, key, url, COLUMN)

            return Keeper(
                bookings.resources.mailboxes,
                graph_subscriptions.GraphSubscriptions(to_graph, deployment.url, key),
                deployment,
                memory,
                sweeps,
                services.now,
            )

        people = math.ceil(mailboxes / 5_000)
        pages = math.ceil(mailboxes / 100)
        # The least for each: who is wanted, who is subscribed (nobody at first), and the writes.
        await phase("missing", keeper(KEY), services, mailboxes, people + 1 + mailboxes)
        await phase("kept", keeper(KEY), services, mailboxes, people + pages)
        await services.move_clock(timedelta(days=4))
        await phase("past half", keeper(KEY), services, mailboxes, people + pages + mailboxes)
        await phase("new key", keeper(NEW_KEY), services, mailboxes, people + pages + 2 * mailboxes)
        await to_graph.close()
        to_dataverse.close()


async def phase(name: str, keeper: Keeper, services: Services, mailboxes: int, least: int) -> None:
    await services.forget_calls()
    seconds: list[float] = []
    left = 1
    while left and len(seconds) < MAX_RUNS:
        begun = time.monotonic()
        result = await keeper.keep()
        seconds.append(time.monotonic() - begun)
        left = result.not_begun + len(result.failed)
        print(
            f"{mailboxes:>6} {name:>9}  run {len(seconds)}: {seconds[-1]:6.1f} s  created {result.created}"
            f" adopted {result.adopted} renewed {result.renewed} replaced {result.replaced}"
            f" failed {len(result.failed)} left {result.not_begun}",
            file=sys.stderr,
        )
    calls = await services.calls()
    throttled = sum(call["status"] == 429 for call in calls)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    print(
        f"{mailboxes:>9} {name:>10} {len(seconds):>5} {max(seconds):>8.1f} {len(calls):>7} {least:>7}"
        f" {len(calls) / least - 1:>+7.1%} {throttled:>5} {peak:>7.0f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures runs of the roster.")
    parser.add_argument("mailboxes", type=int, nargs="*", default=[100, 1_000, 10_000])
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    if options.serve is not None:
        asyncio.run(serve(options.serve))
    elif options.measure is not None:
        asyncio.run(measure(options.measure[0], int(options.measure[1])))
    else:
        print("mailboxes      phase  runs  longest   calls   least    over   429  MB RSS", flush=True)
        for mailboxes in options.mailboxes:
            run(mailboxes)


def run(mailboxes: int) -> None:
    own = [sys.executable, "-m", "benchmarks.roster"]
    with subprocess.Popen(
        [*own, "--serve", str(mailboxes)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as services:
        assert services.stdin is not None
        assert services.stdout is not None
        try:
            url = services.stdout.readline().strip()
            subprocess.run([*own, "--measure", url, str(mailboxes)], check=True)
        finally:
            with contextlib.suppress(OSError):
                services.stdin.close()


if __name__ == "__main__":
    main()
