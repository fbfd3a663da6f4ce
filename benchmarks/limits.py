"""A backlog worked off within the documented limits of both services: how much of what they allow is used, and how.

On the simulated clock, which each call moves on by its share of an instance's time; nobody waits. To keep it short, the
limits and the backlog are a part of the real ones, and the calls take as much longer.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from statistics import median
from unittest.mock import patch

from tenacity import RetryCallState

from benchmarks.instance import CONCURRENCY
from benchmarks.replay import HOUR, TheApp, the_app
from benchmarks.report import Row
from sandbox.calls import Call, Service
from sandbox.dataverse_errors import THROTTLED_REQUESTS
from sandbox.faults import Fault
from sandbox.graph_errors import TOO_MANY_REQUESTS
from sync import retry
from sync.graph import PER_MAILBOX
from sync.model import Action, Change
from sync.notifications import CHANGES, build_change_message
from tests.app import COLUMN

LATENCY = 0.035
"""Seconds that a call takes."""


@dataclass(frozen=True)
class Limit:
    """So many requests in a sliding window."""

    service: Service
    requests: int
    window: timedelta
    refusal: Fault
    at_once: int
    """Calls of one instance."""


# Sources: Dataverse, "Service protection API limits"; Graph, "Outlook service limits", for each mailbox.
DATAVERSE = Limit("dataverse", 6_000, timedelta(minutes=5), THROTTLED_REQUESTS.fault(), CONCURRENCY)
OUTLOOK = Limit("graph", 10_000, timedelta(minutes=10), TOO_MANY_REQUESTS.fault(), PER_MAILBOX)

WINDOWS = 4
"""Of work in the backlog."""


@dataclass
class Limiter(Fault):
    """Keeps *limit*, and count. A refused request counts as well, so pressing on lengthens the wait."""

    limit: Limit = DATAVERSE
    now: Callable[[], datetime] = datetime.now
    arrivals: deque[datetime] = field(default_factory=deque)
    answered: int = 0
    refused: int = 0
    too_early: int = 0
    """Requests of a change that had been told to wait."""
    change: str = ""
    """The event of the one that is being processed."""
    not_before: dict[str, datetime] = field(default_factory=dict)

    def fits(self, service: Service, method: str, path: str) -> bool:
        if service != self.limit.service:
            return False
        now = self.now()
        self.too_early += now < self.not_before.get(self.change, now)
        self.arrivals.append(now)
        while self.arrivals[0] <= now - self.limit.window:
            self.arrivals.popleft()
        if len(self.arrivals) <= self.limit.requests:
            self.answered += 1
            return False
        seconds = math.ceil((self.arrivals[-self.limit.requests] + self.limit.window - now).total_seconds())
        self.refused += 1
        self.not_before[self.change] = now + timedelta(seconds=seconds)
        self.status, self.body = 429, self.limit.refusal.body
        self.headers = {"Retry-After": str(seconds)}
        return True


def measure(quick: bool) -> list[Row]:
    part = 0.01 if quick else 0.05
    return [
        *asyncio.run(work_off("Limits: 6,000 calls in 5 min of Dataverse", DATAVERSE, mailboxes=20, part=part)),
        *asyncio.run(work_off("Limits: 10,000 calls in 10 min of a mailbox", OUTLOOK, mailboxes=1, part=part)),
    ]


async def work_off(title: str, limit: Limit, mailboxes: int, part: float) -> list[Row]:
    """Moved events, each of which takes two calls to either service; the first window's worth may be done at once."""
    allowed = round(limit.requests * part)
    async with the_app() as subject:
        sandbox, clock = subject.sandbox, subject.sandbox.clock
        limiter = Limiter(times=None, limit=replace(limit, requests=allowed), now=clock.now)
        sandbox.faults.order(limiter)
        backlog = _backlog(subject, allowed * WINDOWS // 2, mailboxes)
        await subject.app.inbox.send(CHANGES, [build_change_message(change) for change in backlog])
        short_wait = retry._wait
        done: dict[str, datetime] = {}
        """When each mailbox was last written for."""
        share_of_time = timedelta(seconds=LATENCY / limit.at_once / part)

        mailbox_of = {change.event_id: change.mailbox for change in backlog}
        process = subject.app.processor.process

        async def process_witnessed(change: Change) -> Action:
            limiter.change = change.event_id
            return await process(change)

        def pass_time(call: Call) -> None:
            clock.move(share_of_time)
            if call.is_write and call.status == 204:
                done[mailbox_of[limiter.change]] = clock.now()

        def pass_short_wait(state: RetryCallState) -> float:
            clock.move(timedelta(seconds=short_wait(state)))
            return 0.0

        subject.app.processor.process = process_witnessed  # type: ignore[method-assign]
        sandbox.calls.listeners.append(pass_time)
        begun = clock.now()
        with patch("sync.retry._wait", pass_short_wait):
            while (due := subject.next_due()) is not None:
                clock.move(max(due - clock.now(), timedelta()))
                await subject.work()
        took = (clock.now() - begun) / limit.window
    needed = 2 * len(backlog)
    seconds = [(at - begun).total_seconds() for at in done.values()]
    return [
        Row(title, "time for the backlog", "windows", took, {"at the limit": needed / allowed - 1}),
        Row(title, "calls to the service", "calls", limiter.answered + limiter.refused, {"needed": needed}),
        Row(title, "of them, of a change before its Retry-After", "calls", limiter.too_early),
        Row(title, "last mailbox done", "seconds", max(seconds), {"median mailbox": median(seconds)}),
    ]


def _backlog(subject: TheApp, count: int, mailboxes: int) -> list[Change]:
    sandbox = subject.sandbox
    technicians = [sandbox.people.hire(f"Person {number}") for number in range(mailboxes)]
    start = sandbox.clock.now() + timedelta(days=30)
    changes = []
    for number in range(count):
        technician = technicians[number % mailboxes]
        booking, event = sandbox.people.dispatcher.book(technician, start, start + HOUR)
        start += 2 * HOUR  # so that a look at the calendar finds one event
        sandbox.tables.update(booking, {COLUMN: event.immutable_id})
        technician.move(event, HOUR)
        changes.append(Change(technician.mailbox.id, event.immutable_id))
    return changes
