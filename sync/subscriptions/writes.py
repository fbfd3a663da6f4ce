"""Single writes to subscriptions: create, renew, delete, each within its time and remembered if it goes wrong.

In which order, and of which mailboxes, is roster_run.py's and subscribing.py's to say.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from sync.calls.pace import Pace
from sync.errors import LifetimeRefused, Misconfigured, Paused, SyncError, Transient, Unvalidated
from sync.ids import mark_of
from sync.model import Subscription
from sync.subscriptions.deployment import LIFETIME
from sync.subscriptions.outages import LastRun, Made, Trouble
from sync.telemetry.spans import Origin

log = logging.getLogger(__name__)

SHORTEST = timedelta(hours=4)
"""No lifetime below this is agreed to: half of it has to be more than the time between two runs."""

RENEWED_LATELY = timedelta(minutes=10)
"""Within this time of a renewal a reauthorization is not to be asked for, and is not needed either.

Source: Graph, "Reduce missing subscriptions and change notifications".
"""

SWEEP_AFTER = 60.0
"""Seconds from before a creation is sent to the sweep for what happened until then; it takes less to be answered."""


class Subscriptions(Protocol):
    async def list(self) -> Sequence[Subscription]:
        """Raises: Transient, Refused."""

    async def create(self, mailbox: str, expires: datetime, beside: Subscription | None = None) -> str | None:
        """Returns its id, if the answer tells.

        Raises: Duplicate, LifetimeRefused, Unvalidated, MailboxUnavailable, Transient, Refused.
        """

    async def renew(self, subscription_id: str, expires: datetime) -> None:
        """Raises: NotFound, LifetimeRefused, Unvalidated, MailboxUnavailable, Transient, Refused."""

    async def delete(self, subscription_id: str) -> None:
        """Raises: Transient, Refused."""


class Sweeps(Protocol):
    """May be asked for sweeps, which come by way of a queue."""

    async def ask(self, mailbox: str, after: float = 0.0, origin: Origin | None = None) -> None:
        """Have *mailbox* swept in *after* seconds. Raises: Transient."""

    async def ask_all(self, within: float) -> int:
        """Have all wanted mailboxes swept; return how many.

        Raises: Transient if they could not all be asked for *within* seconds; Refused.
        """


class Memory(Protocol):
    """What is known between runs; losing it costs tries, nothing else."""

    async def troubles(self) -> Mapping[str, Trouble]: ...

    async def remember(self, mailbox: str, reason: str, now: datetime, rarely: bool, in_gap: bool = False) -> None:
        """One more try of *mailbox* has failed; *rarely* says how soon the next one is worth while.

        *in_gap* if its old subscription goes before there is a new one; that stays so until it is forgotten.
        """

    async def forget(self, mailbox: str) -> None: ...

    async def last_run(self) -> LastRun | None:
        """None if there was none. Raises: Transient if nobody can tell."""

    async def ran(self, run: LastRun) -> None: ...

    async def made(self) -> Made | None: ...

    async def remember_made(self, made: Made) -> None: ...


@dataclass
class Steps:
    """What one process may do to subscriptions, at one pace; *until* is a time of ``clock``'s.

    Beyond *until* nothing is waited for.
    """

    subscriptions: Subscriptions
    memory: Memory
    sweeps: Sweeps
    now: Callable[[], datetime]
    lifetime: timedelta = LIFETIME
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def __post_init__(self) -> None:
        self.pace = Pace(self.sleep)
        self.is_lifetime_told = False
        """Whether the service has taken, or refused, the one that is asked for, since that was last set."""
        self.renewed: dict[str, datetime] = {}
        self.made: set[str] = set()
        """The marks of the subscriptions' ids that were made here, until they are remembered."""
        self.troubled: set[str] = set()
        """Mailboxes of which something is remembered that success is to make forgotten."""

    async def list(self, until: float) -> Sequence[Subscription]:
        """Raises: as ``Subscriptions.list`` does."""
        return await self.pace.run(self.subscriptions.list, until)

    async def create(self, mailbox: str, until: float, sweep_after: float = SWEEP_AFTER) -> None:
        """Subscribe, and have what happened before that swept.

        The sweep is queued first, so that no crash can come between, and again if the creation has to wait so long
        that the sweep may come before it. Raises: Duplicate, and what else ``Subscriptions.create`` does.
        """
        queued: float | None = None

        async def create(expires: datetime) -> None:
            nonlocal queued
            if queued is None or clock() - queued > sweep_after / 2:
                await self.sweeps.ask(mailbox, sweep_after)
                queued = clock()
            await self._create(mailbox, expires)

        await self._live_as_long_as_allowed(create, until)

    async def create_beside(self, mailbox: str, old: Subscription, until: float) -> None:
        """Subscribe a second time, so that *old* may go without a gap. Raises: as ``create`` does."""
        await self._live_as_long_as_allowed(lambda expires: self._create(mailbox, expires, beside=old), until)

    async def make_room(self, mailbox: str, old: Subscription, until: float) -> None:
        """Delete *old* before there is a new one; remembered before, so that nobody is silent unseen.

        Raises: Paused, with nothing deleted, and what else ``Subscriptions.delete`` does.
        """
        reason = "its old subscription is deleted, and a new one not made yet"
        await self.memory.remember(mailbox, reason, self.now(), rarely=False, in_gap=True)
        self.troubled.add(mailbox)
        try:
            await self.delete(old, until)
        except Paused:
            await self.memory.forget(mailbox)
            raise

    async def renew(self, subscription_id: str, until: float) -> None:
        """Give it its whole lifetime again. Raises: NotFound, and what else ``Subscriptions.renew`` does."""
        now = self.now()
        # Noted before, because repeats come side by side.
        self.renewed = {id: at for id, at in self.renewed.items() if now - at <= RENEWED_LATELY}
        self.renewed[subscription_id] = now
        try:
            await self._live_as_long_as_allowed(
                lambda expires: self.subscriptions.renew(subscription_id, expires), until
            )
        except BaseException:
            self.renewed.pop(subscription_id, None)
            raise

    def is_renewed_lately(self, subscription_id: str) -> bool:
        renewed = self.renewed.get(subscription_id)
        return renewed is not None and self.now() - renewed <= RENEWED_LATELY

    async def delete(self, held: Subscription, until: float) -> None:
        await self.pace.run(lambda: self.subscriptions.delete(held.id), until)

    async def retire(self, mailbox: str, old: Subscription, until: float, sweep_after: float = SWEEP_AFTER) -> None:
        """Delete *old*, beside which there is a better one, and have swept what Graph still retries for it.

        That is what happened before there was the better one, up to four hours ago. The sweep is queued first, so that
        no crash can come between. Source: Graph, "Receive change notifications through webhooks". Raises: as ``delete``
        does.
        """
        is_queued = False

        async def delete() -> None:
            nonlocal is_queued
            if not is_queued:
                await self.sweeps.ask(mailbox, sweep_after)
                is_queued = True
            await self.subscriptions.delete(old.id)

        await self.pace.run(delete, until)

    async def remembering(
        self, mailbox: str, act: Callable[[], Awaitable[None]], is_subscribed: Callable[[], bool] = lambda: False
    ) -> None:
        """Do *act*, and note for operators and later runs what goes wrong with *mailbox*, or that it is well again.

        What refuses a mailbox that *is subscribed* still counts for nothing: when that ends, there is no time to wait.
        Raises: what *act* does.
        """
        try:
            await act()
        except (Paused, Misconfigured):
            raise  # nobody's own trouble: it would be that of all
        except (Transient, Unvalidated) as error:
            await self.memory.remember(mailbox, str(error), self.now(), rarely=False)
            raise
        except SyncError as error:
            await self.memory.remember(mailbox, str(error), self.now(), rarely=not is_subscribed())
            raise
        if mailbox in self.troubled:
            await self.memory.forget(mailbox)

    async def _create(self, mailbox: str, expires: datetime, beside: Subscription | None = None) -> None:
        made = await self.subscriptions.create(mailbox, expires, beside)
        if made is not None:
            self.made.add(mark_of(made))

    async def _live_as_long_as_allowed(self, write: Callable[[datetime], Awaitable[None]], until: float) -> None:
        """*write* with the expiration asked for; if that is refused, with what is allowed, from then on."""
        asked = self.lifetime
        try:
            await self.pace.run(lambda: write(self.now() + asked), until)
        except LifetimeRefused as error:
            allowed = timedelta(minutes=error.minutes - 5)
            if not SHORTEST <= allowed < asked:
                raise
            if allowed < self.lifetime:
                log.warning("subscriptions live for %d minutes at most here", error.minutes)
                self.lifetime = allowed
            await self.pace.run(lambda: write(self.now() + self.lifetime), until)
        self.is_lifetime_told = True


def clock() -> float:
    """The event loop's, in seconds."""
    return asyncio.get_running_loop().time()
