"""Writes single subscriptions: create, renew, replace, delete, each within its time.

Mailboxes are chosen in planning.py and put in order in run.py, not here. Errors are remembered in troubles.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from sync.calls.pace import Pace
from sync.errors import LifetimeRefused
from sync.ids import short_id_of
from sync.model import Subscription
from sync.subscriptions.deployment import LIFETIME
from sync.telemetry.origin import Origin

log = logging.getLogger(__name__)

SHORTEST = timedelta(hours=4)
"""The shortest lifetime that is agreed to. Half of it has to be more than the time between two runs.

Too short, and subscriptions end between two runs; too long, and a service that allows less gets no subscription at all.
"""

RENEWED_LATELY = timedelta(minutes=10)
"""Time after a renewal in which a reauthorization is not sent: Graph forbids it, and it is not needed either.

Too short, and Graph refuses; too long, and a reauthorization that is needed comes late.
Source: Graph, "Reduce missing subscriptions and change notifications".
"""

SWEEP_AFTER = 60.0
"""Seconds from before a creation is sent to the sweep for what happened until then.

Too short, and the sweep comes before the creation is answered, so that changes in between are lost; too long, and they
are found late.
"""


class Subscriptions(Protocol):
    """Graph's subscriptions."""

    async def list(self) -> Sequence[Subscription]:
        """Return all of the app registration. Raises: Transient, Refused."""

    async def create(self, mailbox: str, expires: datetime, beside: Subscription | None = None) -> str | None:
        """Subscribe to *mailbox*; return the new id, if the answer tells.

        Raises: Duplicate, LifetimeRefused, Unvalidated, MailboxUnavailable, Transient, Refused.
        """

    async def renew(self, subscription_id: str, expires: datetime) -> None:
        """Let it live until *expires*.

        Raises: NotFound, LifetimeRefused, Unvalidated, MailboxUnavailable, Transient, Refused.
        """

    async def delete(self, subscription_id: str) -> None:
        """Delete it; one that is gone already is fine. Raises: Transient, Refused."""


class Sweeps(Protocol):
    """May be asked for sweeps, which come by way of a queue."""

    async def ask(self, mailbox: str, after: float = 0.0, origin: Origin | None = None) -> None:
        """Have *mailbox* swept in *after* seconds, as its notifications may have been lost. Raises: Transient."""

    async def ask_all(self, within: float, after_gap: bool) -> int:
        """Have all wanted mailboxes swept, *after_gap* if notifications may have been lost; return how many.

        Raises: Transient if they could not all be asked for *within* seconds; Refused.
        """


@dataclass
class Service:
    """Graph's subscriptions as one process writes them: at one pace, with the lifetime that Graph allows."""

    subscriptions: Subscriptions
    sweeps: Sweeps
    now: Callable[[], datetime]
    pace: Pace = field(default_factory=Pace)
    lifetime: timedelta = LIFETIME
    """The lifetime to ask for. It shrinks when Graph refuses it."""
    is_lifetime_told: bool = False
    """Whether Graph has taken or refused ``lifetime`` since this was last set to False."""
    made: set[str] = field(default_factory=set)
    """Short ids of the subscriptions that were made here, until they are remembered."""
    renewed: dict[str, datetime] = field(default_factory=dict)
    """When each subscription was renewed, lately and here."""

    async def list(self, until: float) -> Sequence[Subscription]:
        """Return all subscriptions of the app registration; wait no longer than *until*, by ``clock``.

        Raises: Paused, and as ``Subscriptions.list`` does.
        """
        return await self.pace.run(self.subscriptions.list, until)

    def is_renewed_lately(self, subscription_id: str) -> bool:
        """Say whether this process renewed it within the last ten minutes."""
        renewed = self.renewed.get(subscription_id)
        return renewed is not None and self.now() - renewed <= RENEWED_LATELY


async def create(service: Service, mailbox: str, until: float, sweep_after: float = SWEEP_AFTER) -> None:
    """Subscribe to *mailbox*, and have swept what happened before, in *sweep_after* seconds.

    The sweep is asked for first, so that no crash can come between. It is asked for again if the creation has to wait
    so long that the sweep may come before it.
    Raises: Paused, Duplicate, and what else ``Subscriptions.create`` does.
    """
    asked: float | None = None

    async def write(expires: datetime) -> None:
        nonlocal asked
        if asked is None or clock() - asked > sweep_after / 2:
            await service.sweeps.ask(mailbox, sweep_after)
            asked = clock()
        await _create(service, mailbox, expires)

    await _live_as_long_as_allowed(service, write, until)


async def create_beside(service: Service, mailbox: str, old: Subscription, until: float) -> None:
    """Subscribe to *mailbox* a second time, so that *old* may go without a gap. Raises: as ``create`` does."""
    await _live_as_long_as_allowed(service, lambda expires: _create(service, mailbox, expires, beside=old), until)


async def renew(service: Service, subscription_id: str, until: float) -> None:
    """Give the subscription its whole lifetime again.

    Raises: Paused, NotFound, and what else ``Subscriptions.renew`` does.
    """
    now = service.now()
    # Noted before the write, because repeated reauthorizations come side by side.
    service.renewed = {id: at for id, at in service.renewed.items() if now - at <= RENEWED_LATELY}
    service.renewed[subscription_id] = now
    try:
        await _live_as_long_as_allowed(
            service, lambda expires: service.subscriptions.renew(subscription_id, expires), until
        )
    except BaseException:
        service.renewed.pop(subscription_id, None)
        raise


async def delete(service: Service, subscription_id: str, until: float) -> None:
    """Delete the subscription. Raises: Paused, and what else ``Subscriptions.delete`` does."""
    await service.pace.run(lambda: service.subscriptions.delete(subscription_id), until)


async def retire(
    service: Service, mailbox: str, old: Subscription, until: float, sweep_after: float = SWEEP_AFTER
) -> None:
    """Delete *old*, beside which there is a better one, and have swept what Graph still retries for it.

    Graph retries for up to four hours what happened before there was the better one. The sweep is asked for first, so
    that no crash can come between. Raises: as ``delete`` does.
    Source: Graph, "Receive change notifications through webhooks".
    """
    is_asked = False

    async def write() -> None:
        nonlocal is_asked
        if not is_asked:
            await service.sweeps.ask(mailbox, sweep_after)
            is_asked = True
        await service.subscriptions.delete(old.id)

    await service.pace.run(write, until)


async def _create(service: Service, mailbox: str, expires: datetime, beside: Subscription | None = None) -> None:
    made = await service.subscriptions.create(mailbox, expires, beside)
    if made is not None:
        service.made.add(short_id_of(made))


async def _live_as_long_as_allowed(
    service: Service, write: Callable[[datetime], Awaitable[None]], until: float
) -> None:
    """Do *write* with the expiration asked for; if that is refused, with what is allowed, from then on."""
    asked = service.lifetime
    try:
        await service.pace.run(lambda: write(service.now() + asked), until)
    except LifetimeRefused as error:
        allowed = timedelta(minutes=error.minutes - 5)
        if not SHORTEST <= allowed < asked:
            raise
        if allowed < service.lifetime:
            log.warning("subscriptions live for %d minutes at most here", error.minutes)
            service.lifetime = allowed
        await service.pace.run(lambda: write(service.now() + service.lifetime), until)
    service.is_lifetime_told = True


def clock() -> float:
    """Return the event loop's time, in seconds. All deadlines here are times of this clock."""
    return asyncio.get_running_loop().time()
