"""A backlog worked off within the documented limits of both services: how much of what they allow is used, and how.

As many workers as the host starts, on a clock that leaps over their waits. To keep it short, the limits and the backlog
are a part of the real ones, and the calls take as much longer; those that are under way as a limit is reached are as
many as ever, so the smaller the part, the more of it they use up.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import re
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from statistics import median
from typing import Any, ParamSpec

from benchmarks.instance import CONCURRENCY
from benchmarks.leaping import LeapingLoop, LoopsClock
from benchmarks.parallel import in_parallel
from benchmarks.replay import HOUR, MIDNIGHT
from benchmarks.report import ITSELF, Progress, Row, at_least, at_most, exactly
from sandbox.calls import Call, Service
from sandbox.dataverse.errors import THROTTLED_REQUESTS
from sandbox.faults import Fault
from sandbox.graph.errors import TOO_MANY_REQUESTS
from sandbox.server import Sandbox
from sync.graph.events import PER_MAILBOX
from sync.messages.changes import Change
from sync.messages.codec import OUTLOOK_CHANGES, build_change_message
from tests.world.app import KEY, App, an_app
from tests.world.taking import take

LATENCY = 0.035
"""Seconds that a call takes."""

CALLS = 2
"""To either service, of a moved event."""

FEW = 5
"""Changes of a mailbox beside one that is at its limit."""

AT_ONCE = timedelta(milliseconds=1)
"""Moments are rounded; what is sent as another one is told has not been told itself."""

POLL = 1.0
"""Seconds between two looks at an empty queue; the host's are up to fifteen."""

P = ParamSpec("P")


@dataclass(frozen=True)
class Limit:
    """So many requests in a sliding window."""

    service: Service
    requests: int
    window: timedelta
    refusal: Fault


# Sources: Dataverse, "Service protection API limits"; Graph, "Outlook service limits", for each mailbox.
DATAVERSE = Limit("dataverse", 6_000, timedelta(minutes=5), THROTTLED_REQUESTS.fault())
OUTLOOK = Limit("graph", 10_000, timedelta(minutes=10), TOO_MANY_REQUESTS.fault())


class Limiter(Fault):
    """Keeps *limit*, and count. A refused request counts as well, so pressing on lengthens the wait."""

    def __init__(
        self,
        limit: Limit,
        now: Callable[[], datetime],
        change_of: Callable[[str], Change],
        mailbox: str | None = None,
        is_shared: bool = False,
        latency: float = 0.0,
    ) -> None:
        """Of all calls, or of those that are about one *mailbox*; each was sent *latency* seconds before it arrives.

        Who is told to wait is the instance; where several share the limit, all that is known is that it has the change.
        """
        super().__init__(status=429, body=limit.refusal.body, times=None)
        self._limit = limit
        self._now = now
        self._change_of = change_of
        self._mailbox = mailbox
        self._lately: deque[datetime] = deque()
        self._is_shared = is_shared
        self._latency = timedelta(seconds=latency)
        self._told: list[tuple[Change, datetime, datetime]] = []
        """Of each refusal: the change, when it was told, and until when to wait."""
        self.answered: list[datetime] = []
        self.refused = 0
        self.too_early = 0
        """Requests that were sent after it had been told to wait, and came before that was over."""

    def fits(self, service: Service, method: str, path: str) -> bool:
        if service != self._limit.service or path.endswith("WhoAmI"):  # asked once for all changes
            return False
        now, change = self._now(), self._change_of(path)
        if self._mailbox not in (None, change.mailbox):
            return False
        self.too_early += any(
            at + AT_ONCE < now - self._latency and now < until
            for told, at, until in self._told
            if not self._is_shared or told == change
        )
        self._lately.append(now)
        while self._lately[0] <= now - self._limit.window:
            self._lately.popleft()
        if len(self._lately) <= self._limit.requests:
            self.answered.append(now)
            return False
        seconds = math.ceil((self._lately[-self._limit.requests] + self._limit.window - now).total_seconds())
        self.refused += 1
        self._told.append((change, now, now + timedelta(seconds=seconds)))
        self.headers = {"Retry-After": str(seconds)}
        return True


class Queue:
    """Hands out one message after the other, as they can be seen."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._messages: list[tuple[datetime, int, str]] = []
        self._numbers = count()
        self.taken = 0
        """Of them by workers that are not done yet."""

    async def send(
        self, queue: str, messages: Sequence[str], hidden: float = 0, within: float = 20.0
    ) -> Sequence[datetime]:
        if queue != OUTLOOK_CHANGES:
            raise AssertionError(f"sent to {queue}: {messages[0]}")
        visible_at = self._now() + timedelta(seconds=hidden)
        for message in messages:
            heapq.heappush(self._messages, (visible_at, next(self._numbers), message))
        return [visible_at] * len(messages)

    async def work_off(self, process: Callable[[str], Awaitable[object]]) -> None:
        """Be one of the workers, until nothing is left to do for any of them."""
        while self._messages or self.taken:
            if not self._messages or self._messages[0][0] > self._now():
                await asyncio.sleep(POLL)
                continue
            self.taken += 1
            await process(heapq.heappop(self._messages)[2])
            self.taken -= 1


def measure(quick: bool, progress: Progress) -> list[Row]:
    """All at once: their time is simulated, so that they are in nobody's way."""
    of_dataverse, of_outlook, windows = (0.1, 0.02, 2) if quick else (0.2, 0.2, 4)
    dataverse, outlook = "Limits: 6,000 calls in 5 min of Dataverse", "Limits: 10,000 calls in 10 min of a mailbox"
    cases = {
        dataverse: partial(work_off, dataverse, DATAVERSE, of_dataverse, windows, mailboxes=20),
        outlook: partial(work_off, outlook, OUTLOOK, of_outlook, windows, mailboxes=1, others=20),
    }
    if not quick:
        title = f"{dataverse}, two instances"
        cases[title] = partial(work_off, title, DATAVERSE, of_dataverse, windows, mailboxes=20, instances=2)
    found = {}
    for case, rows in in_parallel({case: partial(_run, each) for case, each in cases.items()}):
        found[case] = rows
        progress(len(found) / len(cases))
    return [row for case in cases for row in found[case]]


def _run(case: Callable[[], Coroutine[Any, Any, list[Row]]]) -> list[Row]:
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        return runner.run(case())


async def work_off(
    title: str, limit: Limit, part: float, windows: int, mailboxes: int, others: int = 0, instances: int = 1
) -> list[Row]:
    """Moved events of so many *mailboxes*, of which the first window's worth may be done at once.

    *others* have few, which come last. If there are any, the limit is that of one mailbox.
    """
    loop = asyncio.get_running_loop()
    assert isinstance(loop, LeapingLoop)
    allowed, latency = round(limit.requests * part), LATENCY / part
    async with an_app(clock=LoopsClock(loop, MIDNIGHT)) as first:
        sandbox, now = first.sandbox, first.sandbox.clock.now
        backlog = _Backlog(sandbox)
        backlog.add(allowed * windows // CALLS, mailboxes)
        limited, needed = {change.mailbox for change in backlog.changes}, CALLS * len(backlog.changes)
        backlog.add(FEW * others, others)
        hot = backlog.changes[0].mailbox if others else None
        limiter = Limiter(
            replace(limit, requests=allowed), now, backlog.change_of, hot, is_shared=instances > 1, latency=latency
        )
        sandbox.faults.order(limiter)
        done: dict[str, datetime] = {}
        """When each mailbox was last written for."""

        def witness(call: Call) -> None:
            if call.is_write and call.status == 200:
                done[backlog.change_of(call.path).mailbox] = now()

        sandbox.calls.listeners.append(witness)
        queue = Queue(now)
        await queue.send(OUTLOOK_CHANGES, [build_change_message(change) for change in backlog.changes])
        begun = now()
        async with asyncio.TaskGroup() as group:
            for app in [first, *(_another(first) for _ in range(instances - 1))]:
                _delay(app, loop, latency)
                process = partial(
                    take,
                    process=app.processor.process,
                    spread=app.spread,
                    queues=queue,
                    let_in=app.door.let_in,
                )
                for _ in range(CONCURRENCY):
                    group.create_task(queue.work_off(process))
    # The last window's worth cannot begin before all others have passed, and takes as long as its calls do.
    last = timedelta(seconds=allowed * latency / min(CONCURRENCY * instances / 2, PER_MAILBOX * mailboxes))
    at_best = (windows - 1) * limit.window + last
    in_time = sum(at - begun <= at_best for at in limiter.answered)
    taken = (max(done.values()) - begun) / limit.window
    seconds = [(at - begun).total_seconds() for mailbox, at in done.items() if mailbox in limited]
    beside = [(at - begun).total_seconds() for mailbox, at in done.items() if mailbox not in limited]
    rows = [
        Row(
            title,
            "answered in the time of a backlog at the limit",
            "calls",
            in_time,
            {"allowed": needed},
            promised={"allowed": at_least(0.95)},
        ),
        Row(title, "time for the backlog", "windows", taken, {"at the limit": at_best / limit.window}),
        Row(title, "calls in all", "calls", len(limiter.answered) + limiter.refused, {"needed": needed}),
        Row(title, "of them refused", "calls", limiter.refused),
        Row(
            title,
            "of them before a Retry-After was over",
            "calls",
            limiter.too_early,
            promised={ITSELF: exactly(0)},
        ),
    ]
    if others:
        case, theirs, fair = "last of the other mailboxes done", {"this one": max(seconds)}, at_most(1 / 3)
        rows.append(Row(title, case, "seconds", max(beside), theirs, promised={"this one": fair}))
    else:
        case, theirs, fair = "last mailbox done", {"median mailbox": median(seconds)}, at_most(1.1)
        rows.append(Row(title, case, "seconds", max(seconds), theirs, promised={"median mailbox": fair}))
    return rows


class _Backlog:
    """Changes of events that were moved, the mailboxes in turn."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.changes: list[Change] = []
        self._by_name: dict[str, Change] = {}
        self._sandbox = sandbox
        self._start = sandbox.clock.now() + timedelta(days=30)

    def add(self, count: int, mailboxes: int) -> None:
        """So many changes, of new mailboxes."""
        technicians = [self._sandbox.people.hire(f"Person {number}") for number in range(mailboxes)]
        for number in range(count):
            technician = technicians[number % mailboxes]
            booking, event = self._sandbox.people.dispatcher.book(technician, self._start, self._start + HOUR)
            self._start += 2 * HOUR  # so that a look at the calendar finds one event
            self._sandbox.tables.link(booking, event.immutable_id)
            technician.move(event, HOUR)
            change = Change(technician.mailbox.id, event.immutable_id)
            self.changes.append(change)
            self._by_name |= {booking.id: change, event.immutable_id: change}

    def change_of(self, path: str) -> Change:
        """The one that a call is about, which names its booking or its event."""
        return self._by_name[re.findall(r"[A-Za-z0-9_=-]{30,}", path)[-1]]


def _another(first: App) -> App:
    """One more instance, with the same storage."""
    another = App(first.sandbox, first.webhook)
    another.ledger = first.ledger
    another.install(KEY)
    return another


def _delay(app: App, loop: LeapingLoop, latency: float) -> None:
    """Each call is under way for so long before it arrives, and is answered at once."""

    def delayed(send: Callable[P, Coroutine[Any, Any, Any]]) -> Callable[P, Coroutine[Any, Any, Any]]:
        async def send_later(*arguments: P.args, **options: P.kwargs) -> Any:
            await asyncio.sleep(latency)
            with loop.under_way():
                return await send(*arguments, **options)

        return send_later

    app.to_graph.send_once = delayed(app.to_graph.send_once)  # type: ignore[method-assign]
    app.to_dataverse._send_once = delayed(app.to_dataverse._send_once)  # type: ignore[method-assign]
