"""Takes one message of the queue ``outlook-changes`` to its end: done, put back for later, or parked for a person.

How a pair is brought in step stands in ``pairs/``, how a batch is spread in ``intake/``; neither is known here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

from sync.errors import MailboxUnavailable, Malformed, Mendable, Misconfigured, Refused, ShutOut, Throttled, Transient
from sync.messages.changes import Batch, Change, Evidence, SweepRequest
from sync.messages.codec import OUTLOOK_CHANGES, SWEEPS, build_change_message, build_sweep_message, parse_changes
from sync.messages.parking import Queues, park, put_back

log = logging.getLogger(__name__)

PATIENCE = 120.0
"""Seconds for one change, all waits included.

Too short, and a change that waits for a slow service is begun again and again; too long, and the host's own time-out
ends all changes of the process.
"""

MAILBOX_TRIES = 8
"""How often a change is put back whose mailbox cannot be reached; with the waits of parking.py, for about an hour.

A mailbox that has just notified the app exists: its access policy is being changed, or Exchange moves it. Too small,
and the change is given up while that goes on; too large, and nobody sees for long that the mailbox is in trouble.
"""

SPREAD, PUT_BACK, PARKED, UNAVAILABLE = "spread", "put back", "parked", "mailbox unavailable"
"""A message's end, where no pair was decided on. *Spread*: each change of a batch has its own message now."""


class Done(Protocol):
    """A change at its end."""

    @property
    def outcome(self) -> str:
        """In one word."""

    @property
    def reason(self) -> str:
        """For a person; empty if there is nothing to say."""

    @property
    def booking_id(self) -> str | None:
        """The booking, if there is one."""

    @property
    def again_after(self) -> float | None:
        """Seconds until one more look; None if there is nothing left to look at."""

    @property
    def needs_a_person(self) -> bool:
        """Whether the pair is held for a person."""


async def _always_open(mailbox: str) -> None:
    return None


@dataclass
class ChangeTaker:
    """Takes changes: each is processed, put back or parked; a batch of them is spread."""

    process: Callable[[Change], Awaitable[Done]]
    """Brings the pair in step. Raises: MailboxUnavailable, Transient, Misconfigured, Refused, Malformed."""
    spread: Callable[[Batch], Awaitable[None]]
    """Gives each change a message of its own. Raises: Transient."""
    queues: Queues
    let_in: Callable[[str], Awaitable[None]] = _always_open
    """Returns once the mailbox and Dataverse take calls; the change's patience begins then. Raises: Throttled."""
    patience: float = PATIENCE

    async def take(self, text: str) -> str:
        """Take one message to its end, and return what became of it in one word.

        A mailbox that cannot be reached parks nothing and cancels nothing. After an hour its change is given up, and
        the mailbox is swept as soon as it answers.
        Raises: Transient if the queue cannot be reached, so that the host brings the message back.
        """
        try:
            change = parse_changes(text)
        except Malformed as error:
            await park(self.queues, OUTLOOK_CHANGES, text, error)
            return PARKED
        if isinstance(change, Batch):
            await self.spread(change)
            for unreadable in change.unreadable:
                await park(self.queues, OUTLOOK_CHANGES, unreadable, Malformed("a change of a batch"))
            return SPREAD
        return await self._take(change, text)

    async def _take(self, change: Change, text: str) -> str:
        try:
            await self.let_in(change.mailbox)
            done = await asyncio.wait_for(self.process(change), self.patience)
        except TimeoutError:
            return await self._put_back(change, Transient("it took too long"))
        except MailboxUnavailable as error:
            return await self._give_up(change, error)
        except (Transient, Misconfigured, Mendable) as error:
            return await self._put_back(change, error)
        except (Refused, Malformed) as error:
            await park(self.queues, OUTLOOK_CHANGES, text, error)
            return PARKED
        return await self._conclude(change, done)

    async def _conclude(self, change: Change, done: Done) -> str:
        if done.again_after is not None:
            again = replace(change, evidence=max(change.evidence, Evidence.MISSED), is_second_look=True)
            await self.queues.send(OUTLOOK_CHANGES, [build_change_message(again)], hidden=done.again_after)
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

    async def _give_up(self, change: Change, error: MailboxUnavailable) -> str:
        """Put *change* back, for about an hour; then have its mailbox swept instead, which waits until it answers."""
        if change.attempt < MAILBOX_TRIES:
            again = replace(change, attempt=change.attempt + 1)
            await put_back(self.queues, OUTLOOK_CHANGES, build_change_message(again), again.attempt, error)
            return PUT_BACK
        await self.queues.send(SWEEPS, [build_sweep_message(SweepRequest(change.mailbox, after_gap=True))])
        where = (change.mailbox, change.event_id)
        log.warning("mailbox unavailable mailbox=%s event=%s reason=%r", *where, str(error))
        return UNAVAILABLE

    async def _put_back(self, change: Change, error: Transient | Misconfigured | Mendable) -> str:
        """Being throttled or shut out is no attempt of the change: it is never parked for that."""
        again = change if isinstance(error, Throttled | ShutOut) else replace(change, attempt=change.attempt + 1)
        await put_back(self.queues, OUTLOOK_CHANGES, build_change_message(again), again.attempt, error)
        return PUT_BACK
