"""The status of a real storage account (Azurite): read side by side, and with whatever of it cannot be read named."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from azure.data.tables.aio import TableClient
from azure.storage.queue.aio import QueueClient

from sync.errors import Transient
from sync.pairs.entry import Entry, Held
from sync.pairs.reasons import HoldKind
from sync.status.findings import Level
from sync.status.reading import Overview
from sync.storage.breaker import EVERYBODY, Breaker
from sync.storage.counters import CounterTable
from sync.storage.ledger import LedgerTable
from sync.storage.owner import Ownership
from sync.storage.queues import StorageQueues
from sync.storage.tables import StorageTable
from sync.subscriptions.standing import Roster, Standing
from sync.telemetry.counters import HOUR, Figures, hour_of
from tests.world.fakes import ANNA, BEN
from tests.world.keeper import people
from tests.world.nowhere import NOWHERE, UNREACHABLE

NOW = datetime.now(UTC)
HELD = Held(HoldKind.ALL_DAY, NOW, "1")


def an_overview(tables: str, queues: str) -> Overview:
    ledger = StorageTable.of_connection_string(tables, "ledger")
    return Overview(
        CounterTable(StorageTable.of_connection_string(tables, "status")),
        LedgerTable(ledger),
        Breaker(ledger, 0, 0),
        StorageQueues.of_connection_string(queues),
        lambda: NOW,
        Ownership(StorageTable.of_connection_string(tables, "roster"), "here", lambda: NOW),
    )


async def close(overview: Overview) -> None:
    await overview.counters.close()
    await overview.ledger.close()
    await overview.ownership.table.close()  # type: ignore[attr-defined]
    await overview.queues.close()


@pytest.fixture
async def overview(storage: str) -> AsyncIterator[Overview]:
    overview = an_overview(storage, storage)
    yield overview
    await close(overview)


async def test_a_new_storage_account_is_well(overview: Overview) -> None:
    status = await overview.read()
    assert status.is_well
    assert status.mailboxes is None
    assert [(each.messages, each.oldest, each.parked) for each in status.queues or ()] == [(0, None, 0)] * 3


async def test_all_parts_come_together(overview: Overview, storage: str) -> None:
    await overview.counters.put_roster(Roster(NOW, NOW - HOUR, (Standing(ANNA, NOW + 5 * HOUR),)))
    await overview.counters.put("one", hour_of(NOW), Figures(notified={ANNA: hour_of(NOW)}))
    entry = await overview.ledger.write(Entry(ANNA, "E1", held=HELD, expires=NOW))
    await overview.ledger.write(Entry(BEN, "E2", held=replace(HELD, kind=HoldKind.WAITS_FOR_OUTLOOK), expires=NOW))
    await overview.breaker.table.put({"PartitionKey": "breaker", "RowKey": EVERYBODY, "at": NOW, "count": 201})
    await overview.queues.send("outlook-changes", ["one", "two"])
    await overview.queues.send("outlook-changes", ["later"], hidden=60)
    await overview.queues.send("subscription-lifecycle-poison", ["x"])
    await overview.queues.send("sweeps", ["y"])
    status = await overview.read()
    assert status.mailboxes is not None
    assert status.mailboxes.last_notified == hour_of(NOW)
    assert status.holds is not None
    assert (status.holds.for_a_person, status.holds.waiting) == (1, 1)
    assert [each.scope for each in status.breaker or ()] == [EVERYBODY]
    changes, lifecycle, sweeps = status.queues or ()
    assert (changes.messages, lifecycle.parked, sweeps.messages) == (3, 1, 1)
    assert changes.oldest is not None
    assert abs(changes.oldest - datetime.now(UTC)) < timedelta(minutes=1)

    await overview.ledger.write(replace(entry, held=None))
    status = await overview.read()
    assert status.holds is not None
    assert (status.holds.for_a_person, status.holds.waiting) == (0, 1), "what is not held any more is not shown"


async def test_of_many_holds_some_are_looked_at_and_the_others_counted(overview: Overview, monkeypatch) -> None:
    monkeypatch.setattr("sync.status.reading.HELD_ROWS", 3)
    for number in range(5):
        await overview.ledger.write(Entry(ANNA, f"E{number}", held=HELD, expires=NOW))
    holds = (await overview.read()).holds
    assert holds is not None
    assert (len(holds.rows), holds.not_looked_at, holds.total) == (3, 2, 5)


async def test_messages_that_are_no_base64_are_counted_like_others(overview: Overview, storage: str) -> None:
    async with QueueClient.from_connection_string(storage, "outlook-changes") as queue:
        await queue.create_queue()
        await queue.send_message("no base64 at all!")
        await queue.send_message(base64.b64encode(b"\xff").decode())
    [changes, *_] = (await overview.read()).queues or ()
    assert changes.messages == 2


@pytest.mark.parametrize(
    ("tables", "queues", "named"),
    [
        (False, True, ["breaker", "counts", "failures", "holds", "mailboxes", "owner"]),
        (True, False, ["queues"]),
        (False, False, ["breaker", "counts", "failures", "holds", "mailboxes", "owner", "queues"]),
    ],
)
async def test_what_cannot_be_read_is_named_and_the_rest_is_shown(
    storage: str, tables: bool, queues: bool, named: list[str]
) -> None:
    overview = an_overview(storage if tables else NOWHERE, storage if queues else UNREACHABLE)
    status = await overview.read()
    troubles = [finding.text.lower() for finding in status.findings if finding.level is Level.TROUBLE]
    assert len(troubles) == len(named)
    assert all(any(name in text for text in troubles) for name in named)
    assert (status.queues is None, status.holds is None) == (not queues, not tables)
    await close(overview)


async def test_looking_costs_as_many_calls_for_thousands_of_mailboxes_as_for_one(
    overview: Overview, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def counted(method: Callable[..., object]) -> Callable[..., object]:
        def called(*arguments: object, **options: object) -> object:
            nonlocal calls
            calls += 1
            return method(*arguments, **options)

        return called

    for kind, names in (
        (TableClient, ("get_entity", "query_entities", "upsert_entity", "delete_entity")),
        (QueueClient, ("get_queue_properties", "peek_messages", "receive_messages")),
    ):
        for name in names:
            monkeypatch.setattr(kind, name, counted(getattr(kind, name)))
    costs = []
    for count in (1, 5_000):
        standings = tuple(Standing(each, NOW + HOUR, "", NOW) for each in people(count))
        await overview.counters.put_roster(Roster(NOW, NOW - HOUR, standings))
        await overview.counters.put("one", hour_of(NOW), Figures(notified=dict.fromkeys(people(count), NOW)))
        calls = 0
        status = await overview.read()
        assert status.mailboxes is not None
        assert status.mailboxes.subscribed == count
        costs.append(calls)
    assert costs == [15, 15], "four of the counts, two of the owner, one of each other table, six queues"


async def test_an_answer_that_is_none_of_storages_is_not_hidden(overview: Overview) -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    overview.breaker.tripped = broken  # type: ignore[assignment, method-assign]
    with pytest.raises(ZeroDivisionError):
        await overview.read()

    async def absent() -> None:
        raise Transient("table ledger: ServiceRequestError")

    overview.breaker.tripped = absent  # type: ignore[assignment, method-assign]
    status = await overview.read()
    assert (status.breaker, status.is_well) == (None, False)
