"""Takes one lifecycle message of the queue to its end: done, put back for later, or parked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from sync.errors import MailboxUnavailable, Malformed, Misconfigured, Refused, Transient, Unvalidated
from sync.messages.changes import LifecycleNotification
from sync.messages.codec import LIFECYCLE, build_lifecycle_message, parse_lifecycle_message
from sync.messages.parking import PARKS, Queues, park, put_back

log = logging.getLogger(__name__)

FOLLOW_WITHIN = 240.0
"""Seconds for one lifecycle notification, sweep included; the host ends a function after ten minutes (host.json)."""


async def process_lifecycle(
    text: str, follow: Callable[[LifecycleNotification], Awaitable[None]], queues: Queues
) -> None:
    """Take one lifecycle message to its end: done, put back for later, or parked for a person to see.

    A sweep of our own is not parked: the next night's does the same, and there would be one more each night.
    Raises: Transient if the queue itself cannot be reached, so that the host brings the message back.
    """
    try:
        notification = parse_lifecycle_message(text)
    except Malformed as error:
        await park(queues, LIFECYCLE, text, error)
        return
    again = replace(notification, attempt=notification.attempt + 1)
    is_sweep = notification.event == "missed" and notification.subscription_id is None
    try:
        async with asyncio.timeout(FOLLOW_WITHIN):
            await follow(notification)
    except TimeoutError:
        late = Transient("it took too long")
        await put_back(queues, LIFECYCLE, build_lifecycle_message(again), again.attempt, late)
    except MailboxUnavailable as error:
        log.warning("mailbox unavailable mailbox=%s reason=%r", notification.mailbox, str(error))
    except (Transient, Misconfigured, Unvalidated) as error:
        if is_sweep and again.attempt > PARKS:
            log.warning("sweep given up mailbox=%s reason=%r", notification.mailbox, str(error))
        else:
            await put_back(queues, LIFECYCLE, build_lifecycle_message(again), again.attempt, error)
    except (Refused, Malformed) as error:
        if is_sweep:
            log.warning("sweep given up mailbox=%s reason=%r", notification.mailbox, str(error))
        else:
            await park(queues, LIFECYCLE, text, error)
