"""Queue clients of the app's storage account: messages out, in the host's encoding.

The host takes messages from the queues and calls the triggers. This file does not know what a message says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError, ResourceExistsError, ResourceNotFoundError
from azure.storage.queue import TextBase64EncodePolicy
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from sync.errors import Transient
from sync.storage.owner import tagged
from sync.storage.tables import KEY_REFUSED
from sync.telemetry import spans as telemetry

CONCURRENCY = 32
"""Messages sent at a time. Fewer make a sweep slow to queue; more wait for connections."""

PASSED_ON = 30
"""Seconds until a message of another deployment is seen again.

Too few, and it is handed to and fro without a rest; too many, and its own deployment waits.
"""

PEEKED = 32
"""Messages at the front of a queue, as many as can be looked at at once. Source: Azure Storage, "Peek Messages"."""


class StorageQueues:
    """The queues of one storage account; a missing queue is created on first use."""

    def __init__(self, service: QueueServiceClient, by_key: bool = False) -> None:
        self.owner = ""
        """The id of the deployment that sends; each message carries it."""
        self._service = service
        self._by_key = by_key
        self._clients: dict[str, QueueClient] = {}
        self._turns = asyncio.Semaphore(CONCURRENCY)

    @classmethod
    def of_connection_string(cls, connection_string: str) -> StorageQueues:
        """Return the queues of the account that the connection string names."""
        return cls(QueueServiceClient.from_connection_string(connection_string, **_OPTIONS), by_key=True)

    @classmethod
    def of_identity(cls, url: str, credential: AsyncTokenCredential) -> StorageQueues:
        """Return the queues of the account at *url*."""
        return cls(QueueServiceClient(url, credential=credential, **_OPTIONS))

    async def send(
        self, queue: str, messages: Sequence[str], hidden: float = 0, within: float = 20.0
    ) -> Sequence[datetime]:
        """Store all *messages*, hidden for so many seconds, and say when each can be seen; they never expire.

        Raises: Transient if one is not stored *within* seconds; it may still be, later, as may the others.
        """
        if not messages:
            return []
        sending = asyncio.gather(
            *(
                telemetry.called("queue", queue, self._send(self._client(queue), message, round(hidden)))
                for message in [tagged(message, self.owner) for message in messages]
            ),
            return_exceptions=True,
        )
        try:
            # Calls that were begun go on after a time-out. Otherwise a slow first token would never arrive.
            results = await asyncio.wait_for(asyncio.shield(sending), within)
        except TimeoutError:
            raise Transient(f"queue {queue}: no answer in time") from None
        dues = []
        for result in results:
            if isinstance(result, AzureError):
                raise self._transient(queue, result) from None
            if isinstance(result, BaseException):
                raise result
            dues.append(result)
        return dues

    async def pass_on(self, queue: str, message: str) -> None:
        """Store a message of another deployment as it is, hidden for a moment. Raises: Transient."""
        try:
            await self._send(self._client(queue), message, PASSED_ON)
        except AzureError as error:
            raise self._transient(queue, error) from None

    async def _send(self, client: QueueClient, message: str, hidden: int) -> datetime:
        async with self._turns:
            try:
                sent = await client.send_message(message, visibility_timeout=hidden, time_to_live=-1)
            except ResourceNotFoundError:
                with suppress(ResourceExistsError):  # somebody else was faster
                    await client.create_queue()
                sent = await client.send_message(message, visibility_timeout=hidden, time_to_live=-1)
        due = sent.next_visible_on
        return due if isinstance(due, datetime) else datetime.min.replace(tzinfo=UTC)

    async def probe(self) -> None:
        """Write, read and delete a message, in a queue of its own that is gone afterwards.

        Its name is a new one each time: that of a deleted queue is refused for half a minute. Source: Azure Storage,
        "Delete Queue". Raises: Transient.
        """
        client = self._service.get_queue_client(f"probe-{uuid4().hex}", message_encode_policy=TextBase64EncodePolicy())
        try:
            await client.create_queue()
            try:
                await client.send_message("probe", time_to_live=60)
                message = await client.receive_message()
                if message is None:
                    raise Transient("queue: a message that was stored is not seen")
                await client.delete_message(message)
            finally:
                await client.delete_queue()
        except AzureError as error:
            status = getattr(error, "status_code", None) or ""  # its text may hold secrets
            raise Transient(f"queue: {type(error).__name__} {status}".rstrip()) from None

    async def backlog(self, queue: str) -> tuple[int, datetime | None]:
        """How many messages are on *queue*, and since when the oldest is of those that can be seen now.

        The number is approximate, and includes hidden ones. Raises: Transient.
        """
        client = self.as_stored(queue)
        try:
            count = (await client.get_queue_properties()).approximate_message_count
            seen = await client.peek_messages(PEEKED) if count else []
        except ResourceNotFoundError:
            return 0, None
        except AzureError as error:
            raise self._transient(queue, error) from None
        return count or 0, min((each.inserted_on for each in seen if each.inserted_on), default=None)

    def _transient(self, queue: str, error: AzureError) -> Transient:
        """The error without its text, which may hold secrets."""
        is_key = self._by_key and isinstance(error, ClientAuthenticationError)
        return Transient(f"queue {queue}: {KEY_REFUSED if is_key else type(error).__name__}")

    def _client(self, queue: str) -> QueueClient:
        if queue not in self._clients:
            # The host decodes base64 and moves anything else to the poison queue unseen.
            self._clients[queue] = self._service.get_queue_client(queue, message_encode_policy=TextBase64EncodePolicy())
        return self._clients[queue]

    def as_stored(self, queue: str) -> QueueClient:
        """A client that shows messages in whatever encoding they are."""
        return self._service.get_queue_client(queue)

    async def close(self) -> None:
        """Close all connections."""
        await self._service.close()


# The library's own retries wait for 15 s and more, five times as long as Graph does.
_OPTIONS: dict[str, Any] = {"retry_total": 0, "connection_timeout": 1, "read_timeout": 2}
