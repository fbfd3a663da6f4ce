"""Parked messages in the poison queues: list them, and put them back on the queue that they came from.

A message lies there in one of two forms: wrapped with its reason (parking.py), or as it was, moved by the host. Nothing
here prints.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.storage.queue import QueueMessage

from sync.errors import Malformed, Transient
from sync.messages.changes import Batch, Change, LifecycleNotification, SweepRequest
from sync.messages.codec import (
    OUTLOOK_CHANGES,
    SWEEPS,
    build_batch_messages,
    build_change_message,
    build_lifecycle_message,
    build_sweep_message,
    parse_changes,
    parse_lifecycle_message,
    parse_sweep_message,
)
from sync.storage.queues import StorageQueues

PAGE = 32
"""Messages received at once, as many as Azure Storage allows."""

HIDDEN_FOR = 120
"""Seconds for which messages are hidden from others while a command looks at them. If this is too small, a long list
sees its first messages twice. If it is too large, a command that died keeps them from the next one."""


Content = Change | Batch | LifecycleNotification | SweepRequest

_PARSERS: dict[str, Callable[[str], Content]] = {OUTLOOK_CHANGES: parse_changes, SWEEPS: parse_sweep_message}


@dataclass(frozen=True)
class Parked:
    """A message of a poison queue; ``queue`` is where it came from, ``reason`` why it is here."""

    id: str
    queue: str
    at: datetime | None
    reason: str
    content: Content | None
    """As it is put back, its tries counted anew; None if it is malformed."""
    receipt: str = field(repr=False)


@dataclass
class Replayed:
    """The messages that a replay put back, and those that it refused."""

    done: list[Parked] = field(default_factory=list)
    refused: list[Parked] = field(default_factory=list)
    """Malformed: another try gives the same."""


def parse_parked(queue: str, stored: str) -> tuple[str, Content | None]:
    """The reason, and the message to put back on *queue*; None if it is none of ours.

    The host decodes base64 and ignores blanks in it; what is no base64 it has moved here unseen.
    """
    reason = "given up by the host, whose log tells why"
    try:
        text = base64.b64decode("".join(stored.split()), validate=True).decode("utf-8", "replace")
    except ValueError:
        text, reason = stored, "not base64, so never processed"
    with suppress(ValueError, RecursionError):
        match json.loads(text):
            case {"message": str(message), "error": str(error), "reason": str(why)}:
                text, reason = message, f"{error}: {why}"
    try:
        content = _PARSERS.get(queue, parse_lifecycle_message)(text)
        return reason, content if isinstance(content, Batch) else replace(content, attempt=0)
    except Malformed as error:
        return reason if reason.startswith("Malformed") else f"{reason} (Malformed: {error})", None


class PoisonQueue:
    """The parked messages of one queue.

    Storage shows the first 32 messages only unless they are received, so even a list receives them all. They are seen
    by others again when it is done, or after ``HIDDEN_FOR`` seconds if it never is.
    """

    def __init__(self, queue: str, storage: StorageQueues, hidden_for: int = HIDDEN_FOR) -> None:
        self.queue = queue
        self._hidden_for = hidden_for
        self._storage = storage
        self._client = storage.as_stored(f"{queue}-poison")

    async def list(self) -> list[Parked]:
        """All messages, the oldest first. Raises: Transient."""
        async with self._received() as received:
            return sorted(
                received.values(), key=lambda parked: (parked.at.timestamp() if parked.at else 0.0, parked.id)
            )

    async def replay(
        self, ids: Collection[str] | None = None, progress: Callable[[int, int], None] = lambda done, of: None
    ) -> Replayed:
        """Put the messages with these *ids*, or all, back on their queue; malformed ones stay. Raises: Transient."""
        result = Replayed()
        async with self._received() as received:
            chosen = [parked for parked in received.values() if ids is None or parked.id in ids]
            result.refused = [parked for parked in chosen if parked.content is None]
            contents = [(parked, parked.content) for parked in chosen if parked.content is not None]
            for place in range(0, len(contents), PAGE):
                page = contents[place : place + PAGE]
                await self._put_back(page)
                for parked, _ in page:
                    del received[parked.id]
                    result.done.append(parked)
                progress(len(result.done), len(contents))
        return result

    async def _put_back(self, page: Sequence[tuple[Parked, Content]]) -> None:
        """Send, then delete: a crash in between repeats messages, which is harmless, and loses none."""
        await self._storage.send(self.queue, [message for _, content in page for message in _build(content)])
        await asyncio.gather(*(self._delete(parked) for parked, _ in page))

    @asynccontextmanager
    async def _received(self) -> AsyncIterator[dict[str, Parked]]:
        """All messages by their ids; those that are left in it at the end are seen by others again."""
        received: dict[str, Parked] = {}
        try:
            try:
                messages = self._client.receive_messages(messages_per_page=PAGE, visibility_timeout=self._hidden_for)
                async for message in messages:
                    if message.id in received:
                        break  # so many that the first are seen again already
                    received[message.id] = self._parse(message)
            except ResourceNotFoundError:
                pass  # nothing was ever parked
            except AzureError as error:
                raise Transient(f"queue {self.queue}-poison: {type(error).__name__}") from error
            yield received
        finally:
            await asyncio.gather(*(self._release(parked) for parked in received.values()))

    def _parse(self, message: QueueMessage) -> Parked:
        reason, content = parse_parked(self.queue, message.content or "")
        return Parked(message.id, self.queue, message.inserted_on, reason, content, message.pop_receipt or "")

    async def _release(self, parked: Parked) -> None:
        with suppress(AzureError):  # it is seen again anyway, only later
            await self._client.update_message(parked.id, parked.receipt, visibility_timeout=0)

    async def _delete(self, parked: Parked) -> None:
        try:
            await self._client.delete_message(parked.id, parked.receipt)
        except ResourceNotFoundError:
            pass  # somebody else was faster
        except AzureError as error:
            raise Transient(f"queue {self.queue}-poison: {type(error).__name__}") from error


def _build(content: Content) -> Sequence[str]:
    match content:
        case Batch(changes, unreadable=unreadable):
            return [*build_batch_messages(changes), *unreadable]
        case Change():
            return [build_change_message(content)]
        case SweepRequest():
            return [build_sweep_message(content)]
        case LifecycleNotification():
            return [build_lifecycle_message(content)]
