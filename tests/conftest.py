"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from azure.data.tables import TableServiceClient
from azure.storage.queue import QueueServiceClient

from sandbox.azurite import Azurite


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """One Azurite for the whole run (with xdist: one for each worker); tests use ``storage``."""
    with Azurite() as azurite:
        yield azurite


@pytest.fixture
def storage(azurite: Azurite) -> Iterator[str]:
    """A connection string of real storage without a queue or table, also for the next test."""
    yield azurite.connection_string
    with QueueServiceClient.from_connection_string(azurite.connection_string) as queues:
        for queue in queues.list_queues():
            queues.delete_queue(queue.name)
    with TableServiceClient.from_connection_string(azurite.connection_string) as tables:
        for table in tables.list_tables():
            tables.delete_table(table.name)
