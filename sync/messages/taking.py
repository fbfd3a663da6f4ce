"""Takes one message of the queue to its end: done, put back for later, or parked for a person to see."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from sync.errors import MailboxUnavailable, Malformed, Misconfigured, Refused, Throttled, Transient
from sync.messages.changes import Batch, Change, Evidence
from sync.messages.codec import OUTLOOK_CHANGES, build_change_message, parse_changes
from sync.messages.parking import Queues, park, put_back
from sync.pairs.actions import Action, Done

log = logging.getLogger(__name__)

PATIENCE = 120.0
"""Seconds for one change, all waits included; the host's own time-out would end all changes of the process."""

SPREAD = "spread"
"""What became of a batch: each of its changes has a message of its own now, where it needs one."""


async def _let_in(mailbox: str) -> None:
    return None


async def process_outlook_change(
    text: str,
    process: Callable[[Change], Awaitable[Action]],
    spread: Callable[[Batch], Awaitable[None]],
    queues: Queues,
    let_in: Callable[[str], Awaitable[None]] = _let_in,
) -> str:
    """Take one message of the queue to its end: done, put back for later, or parked for a person to see; which it was.

    It is begun once its mailbox is *let in*, and its patience begins then. A mailbox that cannot be reached at all
    parks nothing and cancels nothing.
    Raises: Transient if the queue itself cannot be reached, so that the host brings the message back.
    """
    try:
        change = parse_changes(text)
    except Malformed as error:
        await park(queues, OUTLOOK_CHANGES, text, error)
        return "parked"
    if isinstance(change, Batch):
        await spread(change)
        for unreadable in change.unreadable:
            await park(queues, OUTLOOK_CHANGES, unreadable, Malformed("a change of a batch"))
        return SPREAD
    try:
        await let_in(change.mailbox)
        action = await asyncio.wait_for(process(change), PATIENCE)
    except TimeoutError:
        await _put_back(queues, change, Transient("it took too long"))
    except MailboxUnavailable as error:
        log.warning("mailbox unavailable mailbox=%s event=%s reason=%r", change.mailbox, change.event_id, str(error))
        return "mailbox unavailable"
    except (Transient, Misconfigured) as error:
        await _put_back(queues, change, error)
    except (Refused, Malformed) as error:
        await park(queues, OUTLOOK_CHANGES, text, error)
        return "parked"
    else:
        done = Done.of(action)
        if done.again_after is not None:
            again = build_change_message(replace(change, evidence=Evidence.MISSED))
            await queues.send(OUTLOOK_CHANGES, [again], hidden=done.again_after)
        log.log(
            logging.WARNING if done.needs_a_person else logging.INFO,
            "processed outcome=%s booking=%s mailbox=%s event=%s reason=%r",
            done.outcome,
            done.booking_id,
            change.mailbox,
            change.event_id,
            done.reason,
        )
        return done.outcome
    return "put back"


async def _put_back(queues: Queues, change: Change, error: Transient | Misconfigured) -> None:
    """Being throttled is no attempt of the change's: however often it is, that does not make it poison."""
    again = change if isinstance(error, Throttled) else replace(change, attempt=change.attempt + 1)
    await put_back(queues, OUTLOOK_CHANGES, build_change_message(again), again.attempt, error)
