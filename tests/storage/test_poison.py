"""What lies in the poison queues, in all its forms, read from real storage (Azurite) and put back."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from azure.core.exceptions import ResourceNotFoundError, ServiceRequestError
from azure.storage.queue.aio import QueueClient

from sync.errors import Refused, Transient
from sync.messages.changes import Batch, Change, Evidence, LifecycleNotification, SweepRequest
from sync.messages.codec import (
    LIFECYCLE,
    OUTLOOK_CHANGES,
    SWEEPS,
    build_batch_messages,
    build_change_message,
    build_lifecycle_message,
    build_sweep_message,
    parse_changes,
)
from sync.messages.parking import park
from sync.storage.poison import PoisonQueue, parse_parked
from sync.storage.queues import StorageQueues

MAILBOX = "0d5c8f5e-0000-4000-8000-00000000000a"
CHANGE = Change(MAILBOX, "AAMk=", evidence=Evidence.TOLD)
MISSED = LifecycleNotification(MAILBOX, MAILBOX, "missed")


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def wrapped(message: str, error: str = "Refused", reason: str = "dataverse 403") -> str:
    return in_base64(json.dumps({"queue": OUTLOOK_CHANGES, "error": error, "reason": reason, "message": message}))


GIVEN_UP = "given up by the host, whose log tells why"


@pytest.mark.parametrize(
    ("queue", "stored", "expected"),
    [
        pytest.param(
            OUTLOOK_CHANGES,
            wrapped(build_change_message(CHANGE)),
            ("Refused: dataverse 403", CHANGE),
            id="parked by the app",
        ),
        pytest.param(
            OUTLOOK_CHANGES,
            wrapped(build_change_message(Change(MAILBOX, "AAMk=", Evidence.TOLD, attempt=31))),
            ("Refused: dataverse 403", CHANGE),
            id="its tries are counted anew",
        ),
        pytest.param(
            LIFECYCLE, wrapped(build_lifecycle_message(MISSED)), ("Refused: dataverse 403", MISSED), id="lifecycle"
        ),
        pytest.param(
            SWEEPS,
            in_base64(build_sweep_message(SweepRequest(MAILBOX, attempt=3))),
            (GIVEN_UP, SweepRequest(MAILBOX)),
            id="a request for a sweep",
        ),
        pytest.param(
            OUTLOOK_CHANGES, in_base64(build_change_message(CHANGE)), (GIVEN_UP, CHANGE), id="moved by the host"
        ),
        pytest.param(
            OUTLOOK_CHANGES,
            in_base64(*build_batch_messages([CHANGE, CHANGE])),
            (GIVEN_UP, Batch((CHANGE, CHANGE))),
            id="a batch moved by the host",
        ),
        pytest.param(
            OUTLOOK_CHANGES,
            in_base64('{"changes": [7, ' + build_change_message(CHANGE) + "]}"),
            (GIVEN_UP, Batch((CHANGE,), unreadable=("7",))),
            id="a batch with a change that is none",
        ),
        pytest.param(
            OUTLOOK_CHANGES,
            "\n".join(in_base64(build_change_message(CHANGE)).partition("e")),
            (GIVEN_UP, CHANGE),
            id="the host does not mind blanks",
        ),
        pytest.param(
            OUTLOOK_CHANGES,
            build_change_message(CHANGE),
            ("not base64, so never processed", CHANGE),
            id="not encoded, which a replay cures",
        ),
        pytest.param(
            OUTLOOK_CHANGES,
            wrapped("{}", "Malformed", "mailbox"),
            ("Malformed: mailbox", None),
            id="malformed from the start",
        ),
        pytest.param(
            OUTLOOK_CHANGES,
            wrapped(build_change_message(CHANGE)[:20]),
            ("Refused: dataverse 403 (Malformed: not JSON)", None),
            id="cut when it was parked",
        ),
        pytest.param(
            OUTLOOK_CHANGES,
            in_base64(build_lifecycle_message(MISSED)),
            (f"{GIVEN_UP} (Malformed: event id)", None),
            id="of the other queue",
        ),
        pytest.param(OUTLOOK_CHANGES, "", (f"{GIVEN_UP} (Malformed: not JSON)", None), id="empty"),
        pytest.param(OUTLOOK_CHANGES, in_base64("[" * 99_999), (f"{GIVEN_UP} (Malformed: not JSON)", None), id="deep"),
        pytest.param(
            OUTLOOK_CHANGES,
            in_base64('{"message": 1, "error": 2, "reason": 3}'),
            (f"{GIVEN_UP} (Malformed: mailbox)", None),
        ),
    ],
)
def test_the_reason_and_the_message_are_read(queue: str, stored: str, expected: tuple[str, Any]) -> None:
    assert parse_parked(queue, stored) == expected


@pytest.fixture
async def storage_queues(storage: str) -> AsyncIterator[StorageQueues]:
    queues = StorageQueues.of_connection_string(storage)
    yield queues
    await queues.close()


@pytest.fixture
def queue(storage_queues: StorageQueues) -> PoisonQueue:
    return PoisonQueue(OUTLOOK_CHANGES, storage_queues)


async def fill(queues: StorageQueues, count: int) -> None:
    for number in range(count):
        await park(
            queues, OUTLOOK_CHANGES, build_change_message(Change(MAILBOX, f"e{number}")), Refused("dataverse 403")
        )


async def events(queues: StorageQueues, queue: str) -> list[str]:
    found = queues.as_stored(queue).receive_messages(visibility_timeout=1)
    return [json.loads(base64.b64decode(message.content))["event"] async for message in found]


async def test_a_queue_that_was_never_needed_is_empty(queue: PoisonQueue) -> None:
    assert await queue.list() == []
    assert (await queue.replay()).done == []


async def test_more_than_storage_shows_at_once_are_listed_again_and_again(
    queue: PoisonQueue, storage_queues: StorageQueues
) -> None:
    await fill(storage_queues, 40)
    once, twice = await queue.list(), await queue.list()
    assert {parked.content for parked in once} == {Change(MAILBOX, f"e{number}") for number in range(40)}
    assert [parked.id for parked in once] == [parked.id for parked in twice]


async def test_a_list_leaves_what_is_stored_as_it_is(queue: PoisonQueue, storage_queues: StorageQueues) -> None:
    """Whatever it is: <markup>, and no base64."""
    raw = storage_queues.as_stored(f"{OUTLOOK_CHANGES}-poison")
    await raw.create_queue()
    await raw.send_message("<a>&amp; ä")
    await queue.list()
    assert [message.content for message in await raw.peek_messages()] == ["<a>&amp; ä"]


async def test_a_replay_that_fails_leaves_the_message_to_be_seen(
    queue: PoisonQueue, storage_queues: StorageQueues, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(storage_queues, 1)

    async def unreachable(*arguments: Any, **options: Any) -> None:
        raise ServiceRequestError("not to be reached")

    for method in ("send_message", "delete_message"):
        with monkeypatch.context() as patched:
            patched.setattr(QueueClient, method, unreachable)
            with pytest.raises(Transient):
                await queue.replay()
        assert len(await queue.list()) == 1
    assert await events(storage_queues, OUTLOOK_CHANGES) == ["e0"], "sent before it was deleted"


async def test_a_batch_is_replayed_with_all_its_changes(queue: PoisonQueue, storage_queues: StorageQueues) -> None:
    changes = [Change(MAILBOX, f"e{number}") for number in range(3)]
    await storage_queues.send(f"{OUTLOOK_CHANGES}-poison", build_batch_messages(changes))
    await queue.replay()
    found = storage_queues.as_stored(OUTLOOK_CHANGES).receive_messages()
    texts = [base64.b64decode(message.content).decode() async for message in found]
    assert [parse_changes(text) for text in texts] == [Batch(tuple(changes))]


async def test_two_who_replay_at_once_are_no_trouble(
    queue: PoisonQueue, storage_queues: StorageQueues, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(storage_queues, 1)
    delete = QueueClient.delete_message

    async def deleted_already(self: QueueClient, *arguments: Any, **options: Any) -> None:
        await delete(self, *arguments, **options)
        raise ResourceNotFoundError("somebody else was faster")

    monkeypatch.setattr(QueueClient, "delete_message", deleted_already)
    assert len((await queue.replay()).done) == 1
    assert await queue.list() == []


async def test_a_list_ends_though_messages_are_seen_again_meanwhile(
    storage_queues: StorageQueues, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if there were more than can be looked at in the time for which they are hidden."""
    await fill(storage_queues, 3)
    queue = PoisonQueue(OUTLOOK_CHANGES, storage_queues, hidden_for=1)
    receive = QueueClient.receive_messages

    def again(self: QueueClient, **options: Any) -> Any:
        async def messages() -> AsyncIterator[Any]:
            first = [message async for message in receive(self, **options)]
            for message in first * 2:
                yield message

        return messages()

    monkeypatch.setattr(QueueClient, "receive_messages", again)
    assert len(await queue.list()) == 3


async def test_progress_is_told_page_by_page(queue: PoisonQueue, storage_queues: StorageQueues) -> None:
    await fill(storage_queues, 40)
    told: list[tuple[int, int]] = []
    await queue.replay(progress=lambda done, of: told.append((done, of)))
    assert told == [(32, 40), (40, 40)]
