"""A storage account belongs to one deployment of the app: what it queued is its own, and a second one is refused."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from sync.errors import Misconfigured
from sync.messages.changes import Change
from sync.messages.codec import build_change_message, parse_change_message
from sync.storage.owner import CHECKED, Ownership, id_of, tag_of, tagged
from sync.storage.queues import StorageQueues
from sync.storage.tables import StorageTable
from tests.world.fakes import ANNA, NOW

PRODUCTION = "https://contoso.crm4.dynamics.com by way of https://sync.example/api/notifications"
TEST = "https://contoso-test.crm4.dynamics.com by way of https://test.example/api/notifications"
CHANGE = Change(ANNA, "E1")


class Clock:
    now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
async def roster(storage: str) -> AsyncIterator[StorageTable]:
    table = StorageTable.of_connection_string(storage, "roster")
    yield table
    await table.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_the_second_deployment_is_refused_and_both_are_named(roster: StorageTable, clock: Clock) -> None:
    production, test = Ownership(roster, PRODUCTION, clock), Ownership(roster, TEST, clock)
    await production.check()
    with pytest.raises(Misconfigured) as caught:
        await test.check()
    assert PRODUCTION in str(caught.value)
    assert TEST in str(caught.value)
    assert test.refusal
    await production.check()
    owner, refused = await production.known()
    assert owner is not None
    assert refused is not None
    assert (owner.name, refused.name) == (PRODUCTION, TEST)


async def test_a_deployment_that_says_something_each_hour_keeps_its_account(roster: StorageTable, clock: Clock) -> None:
    production, test = Ownership(roster, PRODUCTION, clock), Ownership(roster, TEST, clock)
    for _ in range(5):
        await production.check()
        clock.now += timedelta(hours=1)
        with pytest.raises(Misconfigured):
            await test.check()


async def test_an_owner_that_was_stopped_for_days_is_still_the_owner(roster: StorageTable, clock: Clock) -> None:
    """A slot beside it would else take its messages over the weekend."""
    await Ownership(roster, PRODUCTION, clock).check()
    clock.now += timedelta(days=3)
    with pytest.raises(Misconfigured, match="take-over"):
        await Ownership(roster, TEST, clock).check()
    await Ownership(roster, PRODUCTION, clock).check()


async def test_a_person_may_say_that_the_app_moved(roster: StorageTable, clock: Clock) -> None:
    production, moved = Ownership(roster, PRODUCTION, clock), Ownership(roster, TEST, clock)
    await production.check()
    with pytest.raises(Misconfigured):
        await moved.check()
    before = await moved.take_over()
    assert before is not None
    assert before.name == PRODUCTION
    await moved.check()
    clock.now += CHECKED
    with pytest.raises(Misconfigured):
        await production.check()
    assert moved.is_own(tagged("{}", id_of(PRODUCTION)))


async def test_of_two_that_come_first_at_once_one_owns_it(roster: StorageTable, clock: Clock) -> None:
    first = Ownership(roster, PRODUCTION, clock)
    await first.check()
    clock.now += CHECKED
    await first.check()
    await Ownership(roster, PRODUCTION, clock).check()


@pytest.mark.parametrize("damage", [{"seen": "yesterday"}, {"name": 7, "seen": NOW}, {}])
async def test_a_row_that_somebody_damaged_is_written_anew(
    roster: StorageTable, clock: Clock, damage: dict[str, object]
) -> None:
    await roster.put({"PartitionKey": "owner", "RowKey": "this", **damage})
    production = Ownership(roster, PRODUCTION, clock)
    await production.check()
    owner, _ = await production.known()
    assert owner is not None
    assert owner.name == PRODUCTION


async def test_what_asks_storage_alone_is_nobodys_and_is_not_refused(roster: StorageTable, clock: Clock) -> None:
    await Ownership(roster, PRODUCTION, clock).check()
    operator = Ownership(roster, "", clock)
    await operator.check()
    assert operator.is_own("{}")
    assert not operator.is_own(tagged(build_change_message(CHANGE), id_of(PRODUCTION)))


async def test_a_message_says_whose_it_is_and_is_read_as_before(storage: str) -> None:
    queues = StorageQueues.of_connection_string(storage)
    queues.owner = id_of(PRODUCTION)
    await queues.send("things", [build_change_message(CHANGE)])
    message = await queues._client("things").receive_message()
    assert message is not None
    text = b64decode(message.content).decode()
    assert tag_of(text) == id_of(PRODUCTION)
    assert parse_change_message(text) == CHANGE
    await queues.close()


async def test_a_message_that_is_passed_on_stays_as_it_was(storage: str) -> None:
    queues = StorageQueues.of_connection_string(storage)
    queues.owner = id_of(TEST)
    text = tagged(build_change_message(CHANGE), id_of(PRODUCTION))
    for message in (text, build_change_message(CHANGE)):
        await queues.pass_on("things", message)
    assert await queues.backlog("things") == (2, None), "hidden for a moment"
    await queues.close()
