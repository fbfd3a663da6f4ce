"""Keeps the subscriptions: applies the roster's plan, and follows lifecycle notifications.

Which subscriptions are wanted is decided in roster.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from sync.errors import Duplicate, MailboxUnavailable, Malformed, Misconfigured, NotFound, Refused, SyncError, Transient
from sync.model import LifecycleNotification, Subscription
from sync.notifications import LIFECYCLE, build_lifecycle_message, parse_lifecycle_message
from sync.parking import Queues, park, put_back
from sync.roster import LIFETIME, plan_roster

log = logging.getLogger(__name__)


class Subscriptions(Protocol):
    async def list(self) -> Sequence[Subscription]: ...

    async def create(self, mailbox: str, expires: datetime) -> None:
        """Raises: Duplicate, MailboxUnavailable, Transient, Refused."""

    async def renew(self, subscription_id: str, expires: datetime) -> None:
        """Raises: NotFound, MailboxUnavailable, Transient, Refused."""


@dataclass
class Keeper:
    """Keeps one subscription for each wanted mailbox."""

    wanted: Callable[[], Awaitable[Sequence[str]]]
    subscriptions: Subscriptions
    notification_url: str
    now: Callable[[], datetime]
    concurrency: int = 8
    """Graph's handshake calls the app back for each subscription, so that many are answered at once."""

    async def keep(self) -> None:
        """Create what is missing, renew what is past half of its life; each mailbox's trouble is its own.

        Raises: Transient, Refused if the mailboxes or the subscriptions cannot be listed.
        """
        wanted, present = await asyncio.gather(self.wanted(), self.subscriptions.list())
        plan = plan_roster(wanted, present, self.notification_url, self.now())
        turns = asyncio.Semaphore(self.concurrency)

        async def take(subject: str, act: Awaitable[None]) -> bool:
            async with turns:
                try:
                    await act
                except SyncError as error:
                    log.error("subscription not kept resource=%s reason=%r", subject, str(error))
                    return False
            return True

        created = await asyncio.gather(*(take(mailbox, self._create(mailbox)) for mailbox in plan.create))
        renewed = await asyncio.gather(*(take(mailbox, self._renew(mailbox, held)) for mailbox, held in plan.renew))
        log.info(
            "roster wanted=%d created=%d renewed=%d failed=%d",
            *(len(wanted), sum(created), sum(renewed), [*created, *renewed].count(False)),
        )

    async def follow(self, notification: LifecycleNotification) -> None:
        """Do what a lifecycle notification asks for; repeats are harmless.

        Source: Graph, "Reduce missing subscriptions and change notifications": a renewal reauthorizes as well.
        """
        match notification.event:
            case "reauthorizationRequired":
                await self._renew(notification.mailbox, notification.subscription_id)
            case "subscriptionRemoved":
                await self._create(notification.mailbox)
            case _:
                log.warning("lifecycle event=%s mailbox=%s", notification.event, notification.mailbox)

    async def _create(self, mailbox: str) -> None:
        try:
            await self.subscriptions.create(mailbox, self.now() + LIFETIME)
        except Duplicate:
            log.warning("subscription exists already mailbox=%s", mailbox)

    async def _renew(self, mailbox: str, subscription_id: str) -> None:
        try:
            await self.subscriptions.renew(subscription_id, self.now() + LIFETIME)
        except NotFound:
            await self._create(mailbox)


async def process_lifecycle(
    text: str, follow: Callable[[LifecycleNotification], Awaitable[None]], queues: Queues
) -> None:
    """Take one lifecycle message to its end: done, put back for later, or parked for a person to see.

    Raises: Transient if the queue itself cannot be reached, so that the host brings the message back.
    """
    try:
        notification = parse_lifecycle_message(text)
    except Malformed as error:
        await park(queues, LIFECYCLE, text, error)
        return
    try:
        await follow(notification)
    except MailboxUnavailable as error:
        log.warning("mailbox unavailable mailbox=%s reason=%r", notification.mailbox, str(error))
    except (Transient, Misconfigured) as error:
        again = replace(notification, attempt=notification.attempt + 1)
        await put_back(queues, LIFECYCLE, build_lifecycle_message(again), again.attempt, error)
    except (Refused, Malformed) as error:
        await park(queues, LIFECYCLE, text, error)
