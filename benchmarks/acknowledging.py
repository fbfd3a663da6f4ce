"""What it takes to answer a POST of Graph's: `notifications` beside a function that only queues the raw body.

Both alternate in one process, against real storage (Azurite). Graph waits three seconds for the answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from statistics import median, quantiles
from unittest.mock import patch

from azure.storage.queue import BinaryBase64EncodePolicy
from azure.storage.queue.aio import QueueClient

from benchmarks.posts import build_post
from benchmarks.report import Progress, Row, at_most
from sandbox.host.azurite import Azurite
from sync import triggers
from sync.graph.notifications import parse_notifications
from sync.messages.codec import OUTLOOK_CHANGES, build_batch_messages
from sync.wiring.app import App

KEY = "k" * 40
ROUNDS = {1: (100, 1_000), 10: (0, 500), 100: (100, 300)}
"""By the number of items in a POST; quick, where 0 leaves it out, and full. Of fewer than 100 there is no p99."""

POSTS = {
    "1": (1, 1, 1),
    "10": (10, 10, 1),
    "100": (100, 10, 1),
    "100, each of another mailbox": (100, 100, 1),
    "100, four of each event": (100, 10, 4),
}
"""Items, mailboxes, and items of each event, of what our own code is timed with; each mailbox costs a hash."""

LARGEST = 48 * 1024
"""Bytes of one queue message before base64 makes 64 KiB of them. Source: Azure Storage, "Scalability targets"."""

WARM_UP = 10


def measure(quick: bool, progress: Progress) -> list[Row]:
    rounds = {items: times for items, each in ROUNDS.items() if (times := each[0 if quick else 1])}
    with Azurite() as azurite, environment({"AzureWebJobsStorage": azurite.connection_string, "CLIENT_STATE_KEY": KEY}):
        answers = asyncio.run(_answers(azurite.connection_string, rounds, progress))
        beside = asyncio.run(_beside_floods(10 if quick else 40))
    return [*answers, *beside, *(row for post in POSTS for row in _code(post, 100 if quick else 300))]


@contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    with patch.dict(os.environ, settings):
        yield


@asynccontextmanager
async def served(app: App) -> AsyncIterator[None]:
    """Have the triggers use *app* meanwhile."""
    with triggers.serving(app):
        yield


async def _answers(storage: str, rounds: Mapping[int, int], progress: Progress) -> list[Row]:
    rows, done = [], 0
    app = App(os.environ)
    rng = random.Random(1)
    raw = QueueClient.from_connection_string(storage, "raw", message_encode_policy=BinaryBase64EncodePolicy())
    changes = QueueClient.from_connection_string(storage, OUTLOOK_CHANGES)
    async with raw, changes, served(app):
        await asyncio.gather(raw.create_queue(), changes.create_queue())

        async def ours(body: bytes) -> None:
            answer = await triggers.notifications({}, body)
            assert answer["status_code"] == 202

        async def nothing_but_queue(body: bytes) -> None:
            parts = [body[at : at + LARGEST] for at in range(0, len(body), LARGEST)]
            await asyncio.gather(*(raw.send_message(part) for part in parts))

        for items, count in rounds.items():
            milliseconds: dict[str, list[float]] = {"ours": [], "theirs": []}
            for turn in range(-WARM_UP, count):
                body = build_post(rng, KEY, items, min(items, 10))
                for name, answer in _in_turn(turn, {"ours": ours, "theirs": nothing_but_queue}):
                    begun = time.perf_counter()
                    await answer(body)
                    if turn >= 0:
                        milliseconds[name].append((time.perf_counter() - begun) * 1_000)
                if turn % 20 == 0:  # what nobody takes out of the queue would slow Azurite down
                    await asyncio.gather(raw.clear_messages(), changes.clear_messages())
                progress((done := done + 1) / (sum(rounds.values()) + WARM_UP * len(rounds)))
            for name, place in (("p50", 49), ("p99", 98)):
                us, them = (quantiles(milliseconds[each], n=100, method="inclusive")[place] for each in milliseconds)
                case = f"{name} of a POST of {items}"
                bounds = {"queueing the raw body": at_most(2)} if name == "p99" else {}
                rows.append(Row("Acknowledging", case, "ms", us, {"queueing the raw body": them}, promised=bounds))
    await app.close()
    return rows


FLOODS = {
    "nothing": b"",
    "four POSTs of 4 MB of {}": b'{"value": [' + b"{}," * 1_398_000 + b"{}]}",
    "four POSTs of 4 MB of notifications": b"",
}
"""What comes at the same moment as the POST that is timed. Whoever sends it needs the function's key."""


async def _beside_floods(times: int) -> list[Row]:
    """How long a POST of ten notifications waits beside large ones, at most."""
    rng, rows = random.Random(1), []
    body = build_post(rng, KEY, 10, 10)
    floods = FLOODS | {"four POSTs of 4 MB of notifications": build_post(rng, KEY, 4_200, 1_000)}
    app = App(os.environ)
    async with served(app):
        for name, flood in floods.items():
            found = []
            for _ in range(times):
                sending = [asyncio.ensure_future(triggers.notifications({}, flood)) for _ in range(4 if flood else 0)]
                begun = time.perf_counter()
                answer = await triggers.notifications({}, body)
                found.append((time.perf_counter() - begun) * 1_000)
                assert answer["status_code"] == 202
                await asyncio.gather(*sending)
            rows.append(Row("Acknowledging: beside others", f"a POST of 10, beside {name}: longest", "ms", max(found)))
    await app.close()
    return rows


def _in_turn(
    turn: int, both: dict[str, Callable[[bytes], Awaitable[None]]]
) -> Iterator[tuple[str, Callable[[bytes], Awaitable[None]]]]:
    """Each is the first one every other time."""
    found = list(both.items())
    return iter(found if turn % 2 else reversed(found))


def _code(post: str, times: int) -> list[Row]:
    """What of the time is our own code's."""
    body = build_post(random.Random(1), KEY, *POSTS[post])
    loads, parse, build = _microseconds(
        times,
        lambda: json.loads(body),
        lambda: parse_notifications(body, (KEY,)),
        lambda: build_batch_messages(parse_notifications(body, (KEY,)).changes),
    )
    title, unit, beside = "Acknowledging: our own code", "microseconds", {"json.loads": loads}
    bounds = {"json.loads": at_most(3)} if POSTS[post][0] == 100 else {}
    return [
        Row(title, f"parse, verify and collapse a POST of {post}", unit, parse, beside, promised=bounds),
        Row(title, f"the same, and build messages of a POST of {post}", unit, build, beside),
    ]


def _microseconds(times: int, *work: Callable[[], object]) -> list[float]:
    """The median of so many for each, in turn, after ten: so what else the machine does is all of theirs."""
    taken: list[list[float]] = [[] for _ in work]
    for _ in range(times + 10):
        for each, found in zip(work, taken, strict=True):
            begun = time.perf_counter()
            each()
            found.append((time.perf_counter() - begun) * 1e6)
    return [median(found[10:]) for found in taken]
