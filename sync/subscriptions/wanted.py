"""Knows which mailboxes are wanted, and which are subscribed; believes what it read for a while.

Lifecycle notifications and sweeps come by the thousand. They must not ask Dataverse and Graph each time.
Nothing is decided or written here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sync.subscriptions.deployment import Deployment, mailbox_of
from sync.subscriptions.writes import Service, clock

WANTED_LATELY = timedelta(minutes=10)
"""How long it is believed that a mailbox is wanted.

Too short, and Dataverse is asked for each notification; too long, and a leaver is subscribed for so much longer.
"""

UNWANTED_LATELY = timedelta(seconds=30)
"""How long it is believed that a mailbox is not wanted, or which subscriptions live.

Too short, and Dataverse is asked for each notification; too long, and a newcomer's first sweep is dropped: it comes a
minute after the subscription.
"""

PATIENCE = 20.0
"""Seconds that a lifecycle notification or a sweep may wait for its turn; then its message is put back on the queue.

Too short, and Graph's pauses make messages go to and fro; too long, and the function waits instead of working.
"""


@dataclass
class Wanted:
    """Tells which mailboxes are wanted, and which are subscribed."""

    read_all: Callable[[], Awaitable[Sequence[str]]]
    """Reads the wanted mailboxes. Raises: Transient, Refused."""
    service: Service
    deployment: Deployment
    now: Callable[[], datetime]
    _wanted: tuple[datetime, frozenset[str]] | None = field(default=None, init=False)
    _subscribed: tuple[datetime, frozenset[str]] | None = field(default=None, init=False)

    async def read(self) -> Sequence[str]:
        """Return the wanted mailboxes as they are now. Raises: Transient, Refused."""
        read, wanted = self.now(), await self.read_all()
        self._wanted = read, frozenset(wanted)
        return wanted

    async def looks_after(self, mailbox: str) -> bool:
        """Say whether *mailbox* is wanted, or still subscribed. Raises: Transient, Refused if that cannot be asked.

        The query for mailboxes may return half of the people for a while. The others stay subscribed until a person
        agrees, and so they are swept.
        """
        return await self.is_wanted(mailbox) or await self._is_subscribed(mailbox)

    async def is_wanted(self, mailbox: str) -> bool:
        """Say whether *mailbox* is wanted. Raises: Transient, Refused if that cannot be asked."""
        if self._wanted is not None:
            read, wanted = self._wanted
            if self.now() - read <= (WANTED_LATELY if mailbox in wanted else UNWANTED_LATELY):
                return mailbox in wanted
        return mailbox in await self.read()

    async def _is_subscribed(self, mailbox: str) -> bool:
        if self._subscribed is None or self.now() - self._subscribed[0] > UNWANTED_LATELY:
            read, present = self.now(), await self.service.list(clock() + PATIENCE)
            living = (each for each in present if self.deployment.owns(each) and each.expires > read)
            self._subscribed = read, frozenset(filter(None, map(mailbox_of, living)))
        return mailbox in self._subscribed[1]
