"""Puts a queue message that could not be processed back for later, or parks it for a person to see.

The host's own retry has one fixed delay and gives up after minutes, so an outage of an hour would end every change in
the poison queue. It stays for bugs and for a queue that cannot be reached.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from sync.errors import SyncError
from sync.telemetry import spans as telemetry

log = logging.getLogger(__name__)

PARKS = 30
"""How often a message is put back; with the waits below, for about a day."""

_LONGEST = 86_400.0
"""Seconds; a message can be hidden for seven days at most. Source: Azure Storage, "Put Message"."""

_KEPT = 8_000
"""Characters of an unreadable message that are kept, so that it fits in one message with its reason: none takes more
than six bytes below, and 48 KiB make 64 KiB in base64. Source: Azure Storage, "Put Message"."""

_REASON = 500


class Queues(Protocol):
    """The storage account's queues, as far as messages are sent."""

    async def send(
        self, queue: str, messages: Sequence[str], hidden: float = 0, within: float = 20.0
    ) -> Sequence[datetime]:
        """Store all *messages*, hidden for so many seconds; when each can be seen, by the queue's own clock.

        Raises: Transient if one is not stored *within* seconds.
        """


async def put_back(queues: Queues, queue: str, message: str, attempt: int, error: SyncError) -> None:
    """Store *message*, to be seen for the *attempt*-th time again, hidden as long as the service or patience asks.

    After ``PARKS`` times it is poison. Raises: Transient if the queue cannot be reached.
    """
    if attempt > PARKS:
        await park(queues, queue, message, error)
        return
    seconds = wait_seconds(attempt, getattr(error, "retry_after", None), random.random())  # noqa: S311  jitter only
    await queues.send(queue, [message], hidden=seconds)
    telemetry.measure(telemetry.PUT_BACK, queue=queue)
    telemetry.event("put back", attempt=attempt, seconds=round(seconds), error=type(error).__name__)
    log.warning("put back queue=%s for=%ds attempt=%d reason=%r", queue, seconds, attempt, str(error))


def wait_seconds(attempt: int, retry_after: float | None, chance: float) -> float:
    """From 15 s doubling to one hour, at least what the service asked for; *chance* in [0, 1) spreads the herd.

    It does so over our own patience only: what a service allows after the time it named is not to be left unused.
    """
    patience = min(15.0 * 2.0 ** min(max(attempt - 1, 0), 10), 3_600.0)
    return min(max(patience, retry_after or 0.0), _LONGEST) + 0.2 * chance * patience


async def park(queues: Queues, queue: str, message: str, error: SyncError) -> None:
    """Store *message* in the queue's poison queue with the reason. Raises: Transient if it cannot be reached."""
    parked = {"queue": queue, "error": type(error).__name__, "reason": str(error)[:_REASON], "message": message[:_KEPT]}
    await queues.send(f"{queue}-poison", [json.dumps(parked, ensure_ascii=False)])
    telemetry.measure(telemetry.PARKED, queue=queue, error=type(error).__name__)
    telemetry.event("parked", error=type(error).__name__)
    log.error("parked queue=%s-poison error=%s reason=%r", queue, type(error).__name__, str(error))
