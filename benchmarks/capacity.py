"""What sync/operate/capacity.py takes for granted, measured anew beside it: what a change and a night cost.

A change: a mixed day of nothing but ordinary meetings, and one of nothing but bookings' events, each notified of one to
four times. A night: the sweep of mailboxes in step. Storage is one in memory that counts requests.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from benchmarks.day import mixed_day
from benchmarks.parallel import in_parallel
from benchmarks.posts import Item
from benchmarks.replay import HOUR, TheApp, replay, the_app
from benchmarks.report import Progress, Row
from sync.operate.capacity import BOOKINGS_CHANGE, NIGHT, ORDINARY_CHANGE, Cost
from sync.storage.breaker import Breaker
from sync.storage.ledger import LedgerTable
from tests.world.app import KEY
from tests.world.fakes import RowInMemory, RowsInMemory

MAILBOXES = 100

NEVER = 1_000_000
"""Cancellations; the breaker counts them, and does not trip."""


class CountedRows(RowsInMemory):
    """Each method is one request, but for a deletion of many rows, which is one for each hundred."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        super().__init__(now)
        self.requests = 0

    async def get(self, partition: str, key: str) -> RowInMemory | None:
        self.requests += 1
        return await super().get(partition, key)

    async def delete_if_unchanged(self, row: RowInMemory) -> bool:
        self.requests += 1
        return await super().delete_if_unchanged(row)

    async def delete_all_unchanged(self, rows: Sequence[RowInMemory]) -> int:
        self.requests += 1
        return sum([await RowsInMemory.delete_if_unchanged(self, row) for row in rows])

    async def query(self, where: str, values: Mapping[str, Any], *rest: Any, **options: Any) -> AsyncIterator[Any]:
        self.requests += 1
        async for row in super().query(where, values, *rest, **options):
            yield row

    def _store(self, row: Mapping[str, Any]) -> str:
        self.requests += 1
        return super()._store(row)


def measure(quick: bool, progress: Progress) -> list[Row]:
    """The same, quick or not: these are counts."""
    parts: dict[str, tuple[Callable[[], Coroutine[Any, Any, Cost]], Cost]] = {
        "a change of an ordinary meeting": (partial(measure_change, ordinary=1.0), ORDINARY_CHANGE),
        "a change of a booking's event": (partial(measure_change, ordinary=0.0), BOOKINGS_CHANGE),
        "a mailbox's night": (measure_night, NIGHT),
    }
    found: dict[str, Cost] = {}
    for case, cost in in_parallel({case: partial(_run, measured) for case, (measured, _) in parts.items()}):
        found[case] = cost
        progress(len(found) / len(parts))
    return [
        Row(f"Capacity: {case}", name.replace("_", " "), "each", each, {"the calculator": asdict(assumed)[name]})
        for case, (_, assumed) in parts.items()
        for name, each in asdict(found[case]).items()
    ]


def _run(measured: Callable[[], Coroutine[Any, Any, Cost]]) -> Cost:
    return asyncio.run(measured())


async def measure_change(ordinary: float, changes: int = 400) -> Cost:
    """What one costs on average, on a day on which the share *ordinary* is of ordinary meetings."""
    day = mixed_day(1, changes, MAILBOXES, ordinary=ordinary)
    async with the_app() as subject:
        rows = _store_in_rows(subject)
        counted = _Counted(subject)
        await replay(day, counted)
        return _cost(subject, rows, counted.posts, len(day.changes))


async def measure_night() -> Cost:
    """What the sweep of a mailbox costs in which all is in step, with one day's expired row of the ledger."""
    async with the_app() as subject:
        sandbox, app = subject.sandbox, subject.app
        start = sandbox.clock.now() + timedelta(days=3)
        for number in range(MAILBOXES):
            technician = sandbox.people.hire(f"Person {number}")
            booking, event = sandbox.people.dispatcher.book(technician, start, start + HOUR)
            sandbox.tables.link(booking, event.immutable_id)
        await app.rounds.ask_all()
        await _work_off(subject)  # after this, the ledger knows them
        rows = _store_in_rows(subject)
        for technician in sandbox.people:
            await rows.put({"PartitionKey": technician.mailbox.id, "RowKey": "old", "expires": sandbox.clock.now()})
        rows.requests, app.inbox.sent = 0, 0
        sandbox.calls.clear()
        sandbox.clock.move(timedelta(days=1))
        await app.rounds.ask_nightly()
        await _work_off(subject)
        return _cost(subject, rows, 0, MAILBOXES)


class _Counted:
    """A subject whose POSTs are counted."""

    def __init__(self, subject: TheApp) -> None:
        self._subject = subject
        self.sandbox = subject.sandbox
        self.next_due = subject.next_due
        self.work = subject.work
        self.posts = 0

    async def notify(self, items: Sequence[Item]) -> None:
        self.posts += 1
        await self._subject.notify(items)


def _store_in_rows(subject: TheApp) -> CountedRows:
    app = subject.app
    rows: Any = CountedRows(subject.sandbox.clock.now)
    ledger: Any = LedgerTable(rows)
    app.ledger = ledger
    app.install(KEY)
    app.processor.breaker = Breaker(rows, NEVER, NEVER)
    counted: CountedRows = rows
    return counted


async def _work_off(subject: TheApp) -> None:
    clock = subject.sandbox.clock
    while (due := subject.next_due()) is not None:
        clock.move(max(due - clock.now(), timedelta()))
        await subject.work()


def _cost(subject: TheApp, rows: CountedRows, posts: int, number: int) -> Cost:
    calls = Counter(call.service for call in subject.sandbox.calls)
    messages = subject.app.inbox.sent
    return Cost(
        calls["graph"] / number, calls["dataverse"] / number, posts / number, messages / number, rows.requests / number
    )
