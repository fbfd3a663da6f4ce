"""The queue half of the local Functions host: polling, hiding, retrying and poisoning as the real host does it.

How a message gets to a function lives here; what the function does with it, and everything of HTTP and timers, is in
``host.py``. The behaviour is that of the Azure Functions host's queue extension 5.x (azure-sdk-for-net,
Microsoft.Azure.WebJobs.Extensions.Storage.Queues: QueueListener, QueueProcessor).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import azure.functions as func
from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.functions.meta import Datum
from azure.storage.queue import QueueMessage
from azure.storage.queue.aio import QueueClient

INVISIBLE = 600
"""Seconds a message is hidden while its function runs; renewed at half of it."""
SHORTEST_POLL = 0.1
LONGEST_POLL = 2.0
"""Seconds; the host's limit in the development environment, whatever host.json says."""
GRACE = 10.0
"""Seconds that running functions get when the host stops."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class QueueOptions:
    """host.json's ``extensions.queues``; times in seconds, defaults as documented ("host.json settings", queues)."""

    batch_size: int = 16
    new_batch_threshold: int = 8
    max_dequeue_count: int = 5
    visibility_timeout: float = 0.0
    max_polling_interval: float = LONGEST_POLL
    base64: bool = True


def parse_options(section: Mapping[str, Any]) -> QueueOptions:
    """*section*: host.json's ``extensions.queues``.

    Raises: ValueError for a value that would stop the real host.
    """
    batch_size = int(section.get("batchSize", 16))
    options = QueueOptions(
        batch_size,
        int(section.get("newBatchThreshold", batch_size // 2)),
        int(section.get("maxDequeueCount", 5)),
        parse_time_span(section.get("visibilityTimeout", "00:00:00")),
        min(parse_time_span(section.get("maxPollingInterval", "00:01:00")), LONGEST_POLL),
        str(section.get("messageEncoding", "base64")).lower() == "base64",
    )
    if not 1 <= options.batch_size <= 32 or options.new_batch_threshold < 0 or options.max_dequeue_count < 1:
        raise ValueError("batchSize is 1 to 32, newBatchThreshold 0 or more, maxDequeueCount 1 or more")
    if options.max_polling_interval < SHORTEST_POLL:
        raise ValueError("maxPollingInterval is 100 ms or more")
    return options


def parse_time_span(text: str) -> float:
    """Seconds of a .NET time span, ``[d.]hh:mm:ss[.fff]``.

    Raises: ValueError.
    """
    match = re.fullmatch(r"(?:(\d+)\.)?(\d+):(\d+):(\d+(?:\.\d+)?)", text)
    if match is None:
        raise ValueError(f"{text!r} is not a time span, [d.]hh:mm:ss[.fff]")
    days, hours, minutes, seconds = match.groups(default="0")
    return int(days) * 86400 + int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def build_message(text: str, **properties: Any) -> func.QueueMessage:
    """What a function gets for *text*, decoded by azure-functions as the worker does it.

    Trap of the real host: top-level properties of a JSON message replace the message's own of that name, so that
    ``{"id": "x"}`` arrives with ``message.id == "x"`` (azure-functions-python-worker, issue 1373).
    """
    metadata = {
        "Id": "",
        "DequeueCount": 0,
        "InsertionTime": None,
        "ExpirationTime": None,
        "NextVisibleTime": None,
        "PopReceipt": "",
        **properties,
    }
    with contextlib.suppress(ValueError):
        body = json.loads(text)
        names = {name.lower(): name for name in metadata}
        for name, value in body.items() if isinstance(body, dict) else ():
            if name.lower() in names and value is not None and not isinstance(value, list):
                metadata[names[name.lower()]] = value
    converter = func.get_binding_registry().get("queueTrigger")  # type: ignore[no-untyped-call]
    message = converter.decode(
        Datum(text, "string"),
        trigger_metadata={
            name: Datum(value, "string") if isinstance(value, str) else Datum(json.dumps(value), "json")
            for name, value in metadata.items()
            if value is not None
        },
    )
    return cast(func.QueueMessage, message)


class QueueListener:
    """Polls one queue and hands its messages to ``run``, which says whether the function succeeded."""

    def __init__(
        self,
        connection: str,
        queue_name: str,
        options: QueueOptions,
        run: Callable[[str, dict[str, Any]], Awaitable[bool]],
    ) -> None:
        """*connection*: a connection string; *run* gets the text and the properties for :func:`build_message`."""
        # The library's own retries wait for minutes, which a listener that polls anyway has no use for.
        self._queue, self._poison = (
            QueueClient.from_connection_string(connection, name, retry_total=1, initial_backoff=1)
            for name in (queue_name, queue_name + "-poison")
        )
        # A poison queue has no poison queue of its own: what fails there stays hidden until it times out.
        self._parks = not queue_name.endswith("-poison")
        self._options = options
        self._run = run

    async def listen(self, stopping: asyncio.Event) -> None:
        """Poll until *stopping* is set, then let what runs come to its end."""
        running: set[asyncio.Task[None]] = set()
        pause = SHORTEST_POLL
        async with self._queue, self._poison:
            while not stopping.is_set():
                messages = await self._receive()
                running |= {asyncio.create_task(self._process(message)) for message in messages}
                if messages:
                    pause = SHORTEST_POLL
                    while len(running) > self._options.new_batch_threshold and not stopping.is_set():
                        _, running = await asyncio.wait(
                            running, timeout=LONGEST_POLL, return_when=asyncio.FIRST_COMPLETED
                        )
                else:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(stopping.wait(), pause)
                    pause = min(pause * random.uniform(1.5, 2.5), self._options.max_polling_interval)
            if running:
                _, late = await asyncio.wait(running, timeout=GRACE)
                for task in late:
                    task.cancel()
                await asyncio.gather(*late, return_exceptions=True)

    async def _receive(self) -> list[QueueMessage]:
        try:
            return [
                message
                async for message in self._queue.receive_messages(
                    max_messages=self._options.batch_size, visibility_timeout=INVISIBLE
                )
            ]
        except ResourceNotFoundError:
            return []  # the first message makes the queue
        except AzureError as error:
            log.warning("Polling the queue %s failed: %s", self._queue.queue_name, error)
            return []

    async def _process(self, message: QueueMessage) -> None:
        try:
            await self._deliver(message)
        except ResourceNotFoundError:
            log.warning("Message %s of %s was deleted or taken over meanwhile", message.id, self._queue.queue_name)
        except AzureError as error:
            log.warning("Message %s of %s: %s", message.id, self._queue.queue_name, error)

    async def _deliver(self, message: QueueMessage) -> None:
        try:
            text = self._decode(message.content or "")
        except ValueError:
            log.error("Message %s of %s is not base64 and is never run", message.id, self._queue.queue_name)
            await self._park(message)
            return
        if self._parks and (message.dequeue_count or 0) > self._options.max_dequeue_count:
            await self._park(message)
            return
        renewal = asyncio.create_task(self._renew(message))
        try:
            succeeded = await self._run(text, _properties(message))
        finally:
            renewal.cancel()
        if succeeded:
            await self._queue.delete_message(message)
        elif self._parks and (message.dequeue_count or 0) >= self._options.max_dequeue_count:
            await self._park(message)
        elif self._parks:
            await self._hide(message, self._options.visibility_timeout)

    def _decode(self, content: str) -> str:
        if not self._options.base64:
            return content
        return base64.b64decode("".join(content.split()), validate=True).decode("utf-8", "replace")

    async def _renew(self, message: QueueMessage) -> None:
        while True:
            await asyncio.sleep(INVISIBLE / 2)
            with contextlib.suppress(AzureError):
                await self._hide(message, INVISIBLE)

    async def _hide(self, message: QueueMessage, seconds: float) -> None:
        updated = await self._queue.update_message(message, visibility_timeout=int(seconds))
        message.pop_receipt = updated.pop_receipt

    async def _park(self, message: QueueMessage) -> None:
        """Move *message* as it is to the poison queue, where it is a new message with an id of its own."""
        if not self._parks:
            return
        log.warning("Message %s moves to the queue %s", message.id, self._poison.queue_name)
        with contextlib.suppress(ResourceExistsError):
            await self._poison.create_queue()
        await self._poison.send_message(message.content)
        await self._queue.delete_message(message)


def _properties(message: QueueMessage) -> dict[str, Any]:
    times = {
        "InsertionTime": message.inserted_on,
        "ExpirationTime": message.expires_on,
        "NextVisibleTime": message.next_visible_on,
    }
    return {
        "Id": message.id,
        "DequeueCount": message.dequeue_count,
        "PopReceipt": message.pop_receipt,
        **{name: time and time.isoformat() for name, time in times.items()},
    }
