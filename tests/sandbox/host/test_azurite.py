from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from azure.core.exceptions import ServiceRequestError
from azure.storage.queue import QueueClient

from sandbox.host.azurite import Azurite, AzuriteMissing
from sandbox.host.child import ChildFailed


def test_it_keeps_messages_while_entered_beside_another_one_and_is_gone_afterwards(storage: str) -> None:
    with Azurite() as azurite, QueueClient.from_connection_string(storage, "a-queue") as of_another:
        queue = QueueClient.from_connection_string(azurite.connection_string, "a-queue", retry_total=0)
        queue.create_queue()
        queue.send_message("hello")
        assert [message.content for message in queue.receive_messages()] == ["hello"]
        of_another.create_queue()  # answers 409 if it were there
        assert of_another.get_queue_properties().approximate_message_count == 0
    with pytest.raises(ServiceRequestError):
        queue.get_queue_properties()


async def test_a_start_that_is_cancelled_leaves_no_process() -> None:
    azurite = Azurite()
    starting = asyncio.create_task(azurite.__aenter__())
    await asyncio.sleep(0.1)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    with pytest.raises(ChildFailed, match="Azurite ended"):
        await azurite.watch()


def test_a_missing_node_is_named_with_its_cure() -> None:
    with pytest.raises(AzuriteMissing, match="Node 20"):
        Azurite(path=os.devnull).start()


def test_a_missing_package_is_named_with_its_cure(tmp_path: Path) -> None:
    with pytest.raises(AzuriteMissing, match="npm ci"):
        Azurite(package=tmp_path).start()


def test_why_it_did_not_start_is_in_the_error() -> None:
    start = "console.log('too old'); process.exit(1)"
    with pytest.raises(ChildFailed, match=r"Azurite ended with status 1:\n  too old"):
        Azurite(start=start).start()
