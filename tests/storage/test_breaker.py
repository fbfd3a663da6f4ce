"""How many bookings may be canceled in an hour, counted in a real table (Azurite)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from sync.errors import Transient
from sync.storage.breaker import EVERYBODY, Breaker
from sync.storage.tables import StorageTable
from tests.world.fakes import ANNA, BEN, NOW
from tests.world.nowhere import NOWHERE

MINUTE = timedelta(minutes=1)


@pytest.fixture
async def breaker(storage: str) -> AsyncIterator[Breaker]:
    table = StorageTable.of_connection_string(storage, "ledger")
    yield Breaker(table, per_mailbox=3, in_all=5)
    await table.close()


async def canceled(breaker: Breaker, mailbox: str, *events: str, at=NOW) -> list[bool]:
    return [await breaker.refuses(mailbox, event, at) is None for event in events]


async def test_up_to_the_ceiling_a_mailboxs_bookings_are_canceled(breaker: Breaker) -> None:
    assert await canceled(breaker, ANNA, "1", "2", "3", "4", "5") == [True, True, True, False, False]
    assert await canceled(breaker, BEN, "1") == [True], "another mailbox has a ceiling of its own"
    [tripped] = await breaker.tripped()
    assert (tripped.scope, tripped.count) == (ANNA, 4)


async def test_a_cancellation_that_is_tried_again_counts_once(breaker: Breaker) -> None:
    assert await canceled(breaker, ANNA, "1", "1", "1", "1", "1") == [True] * 5


@pytest.mark.parametrize("event_id", ["AAMk/abc+d=", "x" * 1024])
async def test_an_event_of_any_id_can_be_counted(breaker: Breaker, event_id: str) -> None:
    assert await canceled(breaker, ANNA, event_id, event_id, "2", "3", "4") == [True, True, True, True, False]


async def test_all_mailboxes_together_have_a_ceiling_as_well(breaker: Breaker) -> None:
    carl = "33333333-3333-4333-8333-333333333333"
    assert await canceled(breaker, ANNA, "1", "2", "3") == [True] * 3
    assert await canceled(breaker, BEN, "1", "2", "3") == [True, True, False]
    assert await canceled(breaker, carl, "1") == [False]
    assert [each.scope for each in await breaker.tripped()] == [EVERYBODY]


async def test_what_was_canceled_more_than_an_hour_ago_does_not_count(breaker: Breaker) -> None:
    await canceled(breaker, ANNA, "1", "2", "3")
    assert await canceled(breaker, ANNA, "4", at=NOW + 61 * MINUTE) == [True]


async def test_tripped_it_stays_so_until_a_person_says_otherwise(breaker: Breaker) -> None:
    await canceled(breaker, ANNA, "1", "2", "3", "4")
    assert await canceled(breaker, ANNA, "5", at=NOW + 600 * MINUTE) == [False]
    await breaker.reset(ANNA, NOW + 601 * MINUTE)
    assert await breaker.tripped() == []
    assert await canceled(breaker, ANNA, "5", at=NOW + 602 * MINUTE) == [True]


async def test_after_a_reset_what_was_counted_before_does_not_count(breaker: Breaker) -> None:
    breaker.in_all = 100
    await canceled(breaker, ANNA, "1", "2", "3", "4")
    await breaker.reset(ANNA, NOW + MINUTE)
    later = NOW + 2 * MINUTE
    assert await canceled(breaker, ANNA, "5", "6", "7", "8", at=later) == [True, True, True, False]


@pytest.mark.parametrize("skew", [-15, 15])
async def test_the_clock_of_whoever_resets_it_does_not_matter(breaker: Breaker, skew: int) -> None:
    breaker.in_all = 100
    await canceled(breaker, ANNA, "1", "2", "3", "4")
    await breaker.reset(ANNA, NOW + skew * MINUTE)
    later = NOW + MINUTE
    assert await canceled(breaker, ANNA, "5", "6", "7", "8", at=later) == [True, True, True, False]


async def test_tripped_in_all_it_stays_so_for_mailboxes_that_canceled_nothing(breaker: Breaker) -> None:
    await canceled(breaker, ANNA, "1", "2", "3")
    await canceled(breaker, BEN, "1", "2", "3")
    carl = "33333333-3333-4333-8333-333333333333"
    assert await canceled(breaker, carl, "1", at=NOW + 120 * MINUTE) == [False]


async def test_of_many_at_once_no_more_than_the_ceiling_pass(breaker: Breaker) -> None:
    refusals = await asyncio.gather(*(breaker.refuses(ANNA, str(number), NOW) for number in range(20)))
    assert sum(reason is None for reason in refusals) <= 3


async def test_an_unreachable_count_lets_nothing_pass() -> None:
    table = StorageTable.of_connection_string(NOWHERE, "ledger")
    with pytest.raises(Transient):
        await Breaker(table, 3, 5).refuses(ANNA, "1", NOW)
    await table.close()


@pytest.mark.parametrize(
    "damage",
    [{}, {"count": "many"}, {"count": 4}, {"count": -1}, {"count": float("inf")}, {"at": "yesterday", "count": 4}],
)
async def test_a_row_that_somebody_damaged_lets_nothing_pass_until_a_person_says_so(
    breaker: Breaker, damage: dict[str, object]
) -> None:
    await breaker.table.put({"PartitionKey": "breaker", "RowKey": ANNA, **damage})
    assert await canceled(breaker, ANNA, "1") == [False]
    assert [each.scope for each in await breaker.tripped()] == [ANNA]
    await breaker.reset(ANNA, NOW)
    assert await canceled(breaker, ANNA, "1") == [True]


async def test_a_count_without_its_columns_keeps_nobody_from_canceling(breaker: Breaker) -> None:
    await breaker.table.put({"PartitionKey": "cancellation", "RowKey": f"{ANNA}.x", "at": NOW})
    assert await canceled(breaker, ANNA, "1") == [True]
