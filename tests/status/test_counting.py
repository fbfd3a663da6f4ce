"""When counts are stored, and that nobody waits for it or fails because of it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import datetime
from typing import Any

import pytest

from sync.errors import MailboxUnavailable, Malformed, Misconfigured, Refused, SyncError, Transient
from sync.intake.coalescing import Notified
from sync.intake.spreading import spread
from sync.messages.changes import Batch
from sync.messages.codec import OUTLOOK_CHANGES, build_change_message, parse_change_message, parse_changes
from sync.pairs.actions import Ignore, LookAgain
from sync.pairs.entry import Kind
from sync.status.counting import Counting
from sync.subscriptions.standing import Roster, Standing
from sync.telemetry.counters import HOUR, QUEUED, RECEIVED, Figures, Swept, merged
from tests.world.fakes import ANNA, BEN, NOW, LedgerInMemory, QueuesInMemory, no_batch
from tests.world.notifications import ANNA as NOTIFIED
from tests.world.notifications import KEY, change, lifecycle
from tests.world.taking import posted, take


class Rows:
    """The table, in memory; the next call raises ``trouble``."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, datetime], Figures] = {}
        self.writes = 0
        self.last: Roster | None = None
        self.failed: list[str] = []
        self.trouble: SyncError | None = None

    async def put(self, process: str, hour: datetime, figures: Figures) -> None:
        await self._answer()
        self.writes += 1
        self.rows[process, hour] = merged([figures])

    async def of_mailboxes(self, since: datetime) -> Figures:
        return merged(self.rows.values())

    async def roster(self) -> Roster | None:
        await self._answer()
        return self.last

    async def put_roster(self, roster: Roster) -> None:
        self.last = roster

    async def put_failure(self, at: datetime, reason: str) -> None:
        await self._answer()
        self.failed.append(reason)

    async def purge(self, now: datetime, until: Any) -> int:
        await self._answer()
        return 0

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.trouble:
            raise self.trouble

    @property
    def total(self) -> Counter[str]:
        return merged(self.rows.values()).counts


@pytest.fixture
def rows() -> Rows:
    return Rows()


def counting(rows: Rows, now: datetime = NOW) -> Counting:
    return Counting(lambda: rows, lambda: now)  # type: ignore[arg-type, return-value]


async def test_many_invocations_are_stored_once_and_none_of_them_waits(rows: Rows, monkeypatch) -> None:
    monkeypatch.setattr("sync.status.counting.FLUSH_AFTER", 0.05)
    counts = counting(rows)
    for _ in range(100):
        counts.count({QUEUED: 1})
        await asyncio.sleep(0)
    assert rows.writes == 0
    await asyncio.sleep(0.1)
    assert (rows.writes, rows.total[QUEUED]) == (1, 100)
    counts.count({QUEUED: 1})
    await asyncio.sleep(0.1)
    assert (rows.writes, rows.total[QUEUED]) == (2, 101)


async def test_two_processes_write_rows_of_their_own(rows: Rows) -> None:
    one, other = counting(rows), counting(rows)
    one.count({QUEUED: 1})
    other.count({QUEUED: 2})
    await asyncio.gather(one.flush(), other.flush())
    assert (len(rows.rows), rows.total[QUEUED]) == (2, 3)


@pytest.mark.parametrize("trouble", [Transient("503"), Misconfigured("no role")])
async def test_storage_that_refuses_costs_no_count_and_nobody_hears_of_it(rows: Rows, trouble: SyncError) -> None:
    counts = counting(rows)
    counts.count({QUEUED: 1})
    rows.trouble = trouble
    await counts.flush()
    await counts.roster_kept([Standing(ANNA)])
    await counts.roster_failed("graph 503")
    await counts.purge()
    assert (rows.writes, rows.last) == (0, None)
    rows.trouble = None
    counts.count({QUEUED: 1})
    await counts.flush()
    assert rows.total[QUEUED] == 2


async def test_settings_that_are_missing_fail_nothing() -> None:
    def unset() -> Any:
        raise Misconfigured("AzureWebJobsStorage is missing")

    counts = Counting(unset, lambda: NOW)
    counts.count({QUEUED: 1})
    await counts.flush()
    await counts.roster_kept([])
    await counts.roster_failed("graph 503")
    await counts.purge()
    counts.close()


async def test_what_is_counted_while_it_is_stored_is_stored_the_next_time(rows: Rows) -> None:
    counts = counting(rows)
    counts.count({QUEUED: 1})
    flushing = asyncio.create_task(counts.flush())
    await asyncio.sleep(0)
    counts.count({QUEUED: 1})
    await flushing
    await counts.flush()
    assert rows.total[QUEUED] == 2


async def test_a_run_of_the_roster_takes_in_what_all_have_heard(rows: Rows) -> None:
    other = counting(rows)
    other.count({QUEUED: 1}, {ANNA})
    other.swept(BEN, 2)
    await other.flush()
    await counting(rows, NOW + HOUR).roster_kept([Standing(ANNA), Standing(BEN)])
    assert rows.last is not None
    assert rows.last.standings == (Standing(ANNA, notified=NOW), Standing(BEN, swept=Swept(NOW, 2)))


async def test_a_process_whose_event_loop_is_a_new_one_goes_on(rows: Rows, monkeypatch) -> None:
    monkeypatch.setattr("sync.status.counting.FLUSH_AFTER", 0.0)
    counts = counting(rows)

    async def once() -> None:
        counts.count({QUEUED: 1})
        await asyncio.sleep(0.05)

    await asyncio.to_thread(asyncio.run, once())
    await once()
    assert rows.total[QUEUED] == 2
    counts.close()


# What a handler tells to be counted.


async def counted(items: list[Any], ledger: LedgerInMemory | None = None, settle: int = 5) -> dict[str, int]:
    body = json.dumps({"value": items}).encode()
    queues, counts = QueuesInMemory(), Counter[str]()
    reply = await posted(body, [KEY], queues)
    assert reply.notified == ({NOTIFIED} if reply.counts[RECEIVED] else set())
    counts.update(reply.counts)
    for batch in map(parse_changes, queues.of(OUTLOOK_CHANGES)):
        assert isinstance(batch, Batch)
        counts.update(await spread(batch, queues, ledger or LedgerInMemory(), settle))
    return {name.removeprefix("notifications."): count for name, count in counts.items() if count}


async def test_what_becomes_of_each_notification_is_counted() -> None:
    items = [change(), change(), change(clientState="forged"), lifecycle(), None]
    assert await counted(items) == {"received": 2, "repeated": 1, "dropped": 2, "lifecycle": 1, "queued": 1}


@pytest.mark.parametrize(
    ("kind", "spared"),
    [
        (Kind.NOT_OURS, {"avoided.graph": 1}),
        (Kind.GONE, {"avoided.graph": 1, "avoided.dataverse": 1}),
    ],
)
async def test_what_is_known_is_counted_with_what_it_would_have_cost(kind: Kind, spared: dict[str, int]) -> None:
    class Knowing(LedgerInMemory):
        async def look(self, changes, within):
            return [Notified(NOW, kind=kind, expires=NOW + HOUR) for _ in changes]

    assert await counted([change(changeType="deleted")], Knowing()) == {"received": 1, "known": 1, **spared}


async def test_a_second_notification_of_a_burst_is_counted_as_waited_for() -> None:
    ledger = LedgerInMemory()
    await counted([change()], ledger)
    assert await counted([change()], ledger) == {"received": 1, "waited_for": 1, "avoided.graph": 1}


async def test_a_post_that_cannot_be_queued_is_counted_as_turned_away() -> None:
    body = json.dumps({"value": [change()]}).encode()
    reply = await posted(body, [KEY], QueuesInMemory(refuses=True))
    assert (reply.status, reply.counts) == (503, {"notifications.turned_away": 1})


MESSAGE = build_change_message(parse_change_message(json.dumps({"mailbox": ANNA, "event": "AAMk="})))


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (Ignore("in step"), "ignored"),
        (LookAgain("not found"), "postponed"),
        (Transient("503"), "put back"),
        (Misconfigured("no status"), "put back"),
        (MailboxUnavailable("404"), "put back"),
        (Refused("403"), "parked"),
        (Malformed("an event"), "parked"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
async def test_a_change_ends_in_one_of_a_few_ways(result: Any, outcome: str) -> None:
    async def process(change: Any) -> Any:
        if isinstance(result, SyncError):
            raise result
        return result

    assert await take(MESSAGE, process, no_batch, QueuesInMemory()) == outcome
    assert await take("no JSON", process, no_batch, QueuesInMemory()) == "parked"
