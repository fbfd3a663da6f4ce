"""Takes one lifecycle message of the queue to its end: done, put back for later, or parked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from sync.errors import MailboxUnavailable, Malformed, Misconfigured, Refused, Transient, Unvalidated
from sync.messages.changes import LifecycleNotification
from sync.messages.codec import LIFECYCLE, build_lifecycle_message, parse_lifecycle_message
from sync.messages.parking import Queues, park, put_back

log = logging.getLogger(__name__)

FOLLOW_WITHIN = 240.0
"""Seconds for one lifecycle notification; after that its message is put back.

Too short, and a slow Graph is never waited for; too long, and the host ends the process first, after ten minutes.
"""


async def process_lifecycle(
    text: str,
    follow: Callable[[LifecycleNotification], Awaitable[None]],
    queues: Queues,
    within: float = FOLLOW_WITHIN,
) -> None:
    """Take one lifecycle message to its end: done, put back for later, or parked for a person to see.

    Raises: Transient if the queue itself cannot be reached, so that the host brings the message back.
    """
    try:
        notification = parse_lifecycle_message(text)
    except Malformed as error:
        await park(queues, LIFECYCLE, text, error)
        return
    again = replace(notification, attempt=notification.attempt + 1)
    try:
        async with asyncio.timeout(within):
            await follow(notification)
    except TimeoutError:
        late = Transient("it took too long")
        await put_back(queues, LIFECYCLE, build_lifecycle_message(again), again.attempt, late)
    except MailboxUnavailable as error:
        log.warning("mailbox unavailable mailbox=%s reason=%r", notification.mailbox, str(error))
    except (Transient, Misconfigured, Unvalidated) as error:
        await put_back(queues, LIFECYCLE, build_lifecycle_message(again), again.attempt, error)
    except (Refused, Malformed) as error:
        await park(queues, LIFECYCLE, text, error)
