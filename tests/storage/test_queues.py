"""Messages into real queues (Azurite), and what happens when storage cannot be reached."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError
from azure.storage.queue import QueueServiceClient
from azure.storage.queue.aio import QueueClient

from sync.errors import Transient
from sync.storage.queues import StorageQueues


@pytest.fixture
async def queues(storage: str) -> AsyncIterator[StorageQueues]:
    queues = StorageQueues.of_connection_string(storage)
    yield queues
    await queues.close()


def stored(storage: str, queue: str) -> list[str]:
    """The raw messages that are to be seen now."""
    with QueueServiceClient.from_connection_string(storage) as service:
        return [message.content for message in service.get_queue_client(queue).peek_messages(max_messages=32)]


async def test_a_message_is_stored_in_base64_in_a_queue_made_for_it(queues: StorageQueues, storage: str) -> None:
    await queues.send("outlook-changes", ['{"event": "ä="}'])
    [content] = stored(storage, "outlook-changes")
    assert base64.b64decode(content).decode() == '{"event": "ä="}'


async def test_many_messages_race_to_make_their_queue_and_all_arrive(queues: StorageQueues, storage: str) -> None:
    await asyncio.gather(
        queues.send("outlook-changes", [str(n) for n in range(10)]), queues.send("outlook-changes", ["x"])
    )
    assert len(stored(storage, "outlook-changes")) == 11


async def test_a_hidden_message_is_seen_when_its_time_has_come(queues: StorageQueues, storage: str) -> None:
    await queues.send("outlook-changes", ["later"], hidden=1)
    assert stored(storage, "outlook-changes") == []
    await asyncio.sleep(1.2)
    assert len(stored(storage, "outlook-changes")) == 1


async def test_nothing_to_send_asks_nothing_of_storage() -> None:
    nowhere = StorageQueues.of_connection_string(NOWHERE)
    await nowhere.send("outlook-changes", [])
    await nowhere.close()


NOWHERE = "DefaultEndpointsProtocol=http;AccountName=nobody;AccountKey=bm9ib2R5;QueueEndpoint=http://127.0.0.1:9/nobody"


async def test_storage_that_cannot_be_reached_is_transient() -> None:
    nowhere = StorageQueues.of_connection_string(NOWHERE)
    with pytest.raises(Transient):
        await nowhere.send("outlook-changes", ["x"])
    await nowhere.close()


async def test_storage_that_does_not_answer_in_time_is_transient(
    queues: StorageQueues, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graph waits three seconds; a late 202 would be none. What is under way goes on."""

    stored = asyncio.Event()

    async def slow(self: QueueClient, content: str, **options: Any) -> None:
        await asyncio.sleep(0.2)
        stored.set()

    monkeypatch.setattr(QueueClient, "send_message", slow)
    with pytest.raises(Transient, match="in time"):
        await queues.send("outlook-changes", ["x"], within=0.05)
    await asyncio.wait_for(stored.wait(), 5)


async def test_one_message_that_is_refused_is_enough(queues: StorageQueues, monkeypatch: pytest.MonkeyPatch) -> None:
    send = QueueClient.send_message

    async def not_this_one(self: QueueClient, content: str, **options: Any) -> Any:
        if content == "7":
            raise ServiceRequestError("refused")
        return await send(self, content, **options)

    monkeypatch.setattr(QueueClient, "send_message", not_this_one)
    with pytest.raises(Transient):
        await queues.send("outlook-changes", [str(n) for n in range(10)])


async def test_a_bug_is_not_taken_for_an_outage(queues: StorageQueues, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(self: QueueClient, content: str, **options: Any) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr(QueueClient, "send_message", broken)
    with pytest.raises(TypeError):
        await queues.send("outlook-changes", ["x"])


@pytest.mark.parametrize("step", ["", "receive_message", "delete_message"])
async def test_a_probe_leaves_no_queue_however_it_ends(
    queues: StorageQueues, storage: str, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    async def refuse(self: QueueClient, *arguments: Any, **options: Any) -> None:
        raise ServiceRequestError("refused, with a secret")

    if step:
        monkeypatch.setattr(QueueClient, step, refuse)
        with pytest.raises(Transient, match=r"queue: ServiceRequestError$"):
            await queues.probe()
    else:
        await queues.probe()
    with QueueServiceClient.from_connection_string(storage) as service:
        assert list(service.list_queues()) == []


async def test_a_message_that_is_stored_and_not_seen_is_no_success(
    queues: StorageQueues, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(self: QueueClient, **options: Any) -> None:
        return None

    monkeypatch.setattr(QueueClient, "receive_message", nothing)
    with pytest.raises(Transient, match="not seen"):
        await queues.probe()
