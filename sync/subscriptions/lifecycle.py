"""Follows Graph's lifecycle notifications: reauthorize, recreate, or ask for a sweep.

A message of their queue is taken to its end here as well. The hourly run stands in keeper.py, not here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from sync.errors import (
    Duplicate,
    MailboxUnavailable,
    Malformed,
    Mendable,
    Misconfigured,
    NotFound,
    Refused,
    SyncError,
    Transient,
    Unvalidated,
)
from sync.messages.changes import LifecycleNotification
from sync.messages.codec import LIFECYCLE, build_lifecycle_message, parse_lifecycle_message
from sync.messages.parking import Queues, park, put_back
from sync.subscriptions import writes
from sync.subscriptions.troubles import Troubles
from sync.subscriptions.wanted import PATIENCE, Wanted
from sync.subscriptions.writes import Service, clock
from sync.telemetry import spans as telemetry

log = logging.getLogger(__name__)

FOLLOW_WITHIN = 240.0
"""Seconds for one lifecycle notification; after that its message is put back.

Too short, and a slow Graph is never waited for; too long, and the host ends the process first, after ten minutes.
"""


@dataclass
class Lifecycle:
    """Does what Graph's lifecycle notifications ask for."""

    service: Service
    wanted: Wanted
    troubles: Troubles

    async def follow(self, notification: LifecycleNotification) -> None:
        """Do what *notification* asks for. Repeats are harmless. Leavers are left alone.

        Source: Graph, "Reduce missing subscriptions and change notifications": a renewal reauthorizes as well.
        Raises: Transient, Refused and the other errors of the writes.
        """
        mailbox = notification.mailbox
        match notification.event:
            case "reauthorizationRequired":
                reauthorize = partial(self._reauthorize, mailbox, notification.subscription_id)
                await self.troubles.noting(mailbox, reauthorize, is_subscribed=lambda: True)
            case "subscriptionRemoved":
                create = partial(self._create_if_wanted, mailbox)
                await self.troubles.noting(mailbox, create, is_subscribed=lambda: False)
            case "missed":
                await self.service.sweeps.ask(mailbox, origin=telemetry.origin())
            case _:
                log.warning("lifecycle event=%s mailbox=%s", notification.event, mailbox)

    async def _reauthorize(self, mailbox: str, subscription_id: str) -> None:
        if await self._is_to_end(mailbox):
            log.info("subscription not wanted any more mailbox=%s", mailbox)
            return
        if self.service.is_renewed_lately(subscription_id):
            return
        try:
            await writes.renew(self.service, subscription_id, clock() + PATIENCE)
        except NotFound:
            await self._create_if_wanted(mailbox)

    async def _create_if_wanted(self, mailbox: str) -> None:
        if not await self.wanted.is_wanted(mailbox):
            log.info("subscription not wanted any more mailbox=%s", mailbox)
            return
        try:
            await writes.create(self.service, mailbox, clock() + PATIENCE)
        except Duplicate:
            log.info("subscription exists already mailbox=%s", mailbox)

    async def _is_to_end(self, mailbox: str) -> bool:
        """Say whether the next run deletes the mailbox's subscription.

        If that cannot be told, no: a renewal too many does less harm than one too few.
        """
        try:
            if await self.wanted.is_wanted(mailbox):
                return False
            last = await self.troubles.memory.last_run()
        except SyncError as error:
            log.warning("wanted or not is not known mailbox=%s reason=%r", mailbox, str(error))
            return False
        return last is None or not last.leavers_stay


@dataclass
class LifecycleTaker:
    """Takes messages of the queue of lifecycle notifications: followed, put back for later, or parked for a person."""

    follow: Callable[[LifecycleNotification], Awaitable[None]]
    queues: Queues
    within: float = FOLLOW_WITHIN

    async def take(self, text: str) -> None:
        """Take one message to its end.

        Raises: Transient if the queue itself cannot be reached, so that the host brings the message back.
        """
        try:
            notification = parse_lifecycle_message(text)
        except Malformed as error:
            await park(self.queues, LIFECYCLE, text, error)
            return
        try:
            async with asyncio.timeout(self.within):
                await self.follow(notification)
        except TimeoutError:
            await self._put_back(notification, Transient("it took too long"))
        except MailboxUnavailable as error:
            log.warning("mailbox unavailable mailbox=%s reason=%r", notification.mailbox, str(error))
        except (Transient, Misconfigured, Mendable, Unvalidated) as error:
            await self._put_back(notification, error)
        except (Refused, Malformed) as error:
            await park(self.queues, LIFECYCLE, text, error)

    async def _put_back(self, notification: LifecycleNotification, error: SyncError) -> None:
        again = replace(notification, attempt=notification.attempt + 1)
        await put_back(self.queues, LIFECYCLE, build_lifecycle_message(again), again.attempt, error)
