"""The simulated services in a process of their own, so that time and memory of who is measured are its alone.

    with services(Order(mailboxes=10, moved=100)) as found: found.url, found.work
    with world(Order(mailboxes=10, moved=100)) as found: found.settings

Started as ``python -m benchmarks.services ORDER``, with the order as JSON; they end when stdin does.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from urllib.request import urlopen

from benchmarks.work import ROOT, Work, write_work
from sandbox.clock import Clock
from sandbox.host.azurite import Azurite
from sandbox.host.child import Child
from sandbox.server import Sandbox
from tests.world.app import COLUMN, KEY

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Order:
    """What is there to be worked on."""

    mailboxes: int
    ordinary: int = 0
    """Meetings, none of our business, which were edited."""
    in_step: int = 0
    """Bookings linked to their events, with the same times."""
    moved: int = 0
    """Bookings linked to their events, which have other times."""
    latency: float = 0.0
    """Seconds that each request takes."""
    one_mailbox: int = 0
    """Of the moved, so many more are all of the first mailbox, and come first."""


@dataclass(frozen=True)
class Services:
    url: str
    work: Path
    """The file with all of it, in random order."""
    storage: str = ""
    """Its connection string, if there is one of their own."""

    def count_calls(self) -> int:
        """How many they got so far, to either service."""
        with urlopen(f"{self.url}/sandbox/calls?format=text") as answer:  # noqa: S310  this machine's own
            return sum(1 for _ in answer)

    @property
    def settings(self) -> dict[str, str]:
        """The app's, without its storage if there is none."""
        return {
            "GRAPH_URL": f"{self.url}/v1.0",
            "DATAVERSE_URL": self.url,
            "EVENT_ID_COLUMN": COLUMN,
            "CLIENT_STATE_KEY": KEY,
            "NOTIFICATION_URL": "http://127.0.0.1:9/api/notifications?code=functionkey",
            **({"AzureWebJobsStorage": self.storage} if self.storage else {}),
        }


@contextmanager
def services(order: Order) -> Iterator[Services]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "work"
        command: list[str | Path] = [sys.executable, "-m", "benchmarks.services", json.dumps(asdict(order)), path]
        with Child("the services", command, cwd=ROOT) as child:
            yield Services(child.wait_for(r"serving at (http\S+)", seconds=300)[1], path)


@contextmanager
def world(order: Order) -> Iterator[Services]:
    """The services and storage of their own, both new: work that is done is none any more, and what is stored is known.

    They come up side by side, as each takes seconds.
    """
    with ExitStack() as stack, ThreadPoolExecutor(1) as thread:
        azurite = thread.submit(stack.enter_context, Azurite())
        with services(order) as found:
            yield replace(found, storage=azurite.result().connection_string)


async def serve(order: Order, path: Path) -> None:
    async with Sandbox(seed=1, clock=Clock()) as sandbox:
        work = list(_prepare(sandbox, order))
        first, others = work[: order.one_mailbox], work[order.one_mailbox :]
        random.Random(1).shuffle(others)
        write_work(path, [*first, *others])
        sandbox.graph_switches.latency = sandbox.dataverse_switches.latency = order.latency
        sandbox.dataverse_switches.concurrency_limit = 52  # documented, as are Graph's four for each mailbox
        print(f"serving at {sandbox.url}", flush=True)
        await asyncio.to_thread(sys.stdin.read)


def _prepare(sandbox: Sandbox, order: Order) -> Iterator[Work]:
    """All of it is an hour old, and the meetings were edited since: of a young one, nothing would be remembered."""
    sandbox.clock.move(-HOUR)
    technicians = [sandbox.people.hire(f"Person {number}") for number in range(order.mailboxes)]
    start = sandbox.clock.now().replace(minute=0, second=0, microsecond=0) + timedelta(days=2)
    for number in range(order.one_mailbox + order.moved + order.in_step):
        owner = technicians[0 if number < order.one_mailbox else number % order.mailboxes]
        booking, event = sandbox.people.dispatcher.book(owner, start, start + HOUR)
        sandbox.tables.link(booking, event.immutable_id)
        is_moved = number < order.one_mailbox + order.moved
        if is_moved:
            owner.move(event, HOUR)
        yield Work(owner.mailbox.id, event.immutable_id, booking.id, is_moved)
    meetings = []
    for number in range(order.ordinary):
        owner = technicians[(number + order.in_step) % order.mailboxes]  # who has no booking has a meeting
        meetings.append((owner, owner.meet(start, start + HOUR)))
    sandbox.clock.move(HOUR)
    for owner, meeting in meetings:
        owner.edit(meeting)
        yield Work(owner.mailbox.id, meeting.immutable_id, None, False)


if __name__ == "__main__":
    asyncio.run(serve(Order(**json.loads(sys.argv[1])), Path(sys.argv[2])))
