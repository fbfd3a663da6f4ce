"""Notes what goes wrong with each mailbox, for operators and later runs, and forgets it when the mailbox is well.

Nothing is written to Graph here. When a mailbox is tried again is a rule of outages.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from sync.errors import Misconfigured, Paused, SyncError, Transient, Unvalidated
from sync.subscriptions.outages import LastRun, Made, Trouble


class Memory(Protocol):
    """Keeps what is known between runs. Losing it costs tries, and nothing else."""

    async def troubles(self) -> Mapping[str, Trouble]:
        """Return what went wrong, by mailbox."""

    async def remember(self, mailbox: str, reason: str, now: datetime, rarely: bool, in_gap: bool = False) -> None:
        """Note that one more try of *mailbox* has failed; *rarely* says how soon the next one is worth while.

        *in_gap* if its old subscription goes before there is a new one; that stays so until it is forgotten.
        """

    async def forget(self, mailbox: str) -> None:
        """Note that *mailbox* is well."""

    async def last_run(self) -> LastRun | None:
        """Return the last run; None if there was none. Raises: Transient if that cannot be told."""

    async def ran(self, run: LastRun) -> None:
        """Note the last run."""

    async def made(self) -> Made | None:
        """Return the subscriptions that are not listed as they were made; None if none are known."""

    async def remember_made(self, made: Made) -> None:
        """Note the subscriptions that are not listed as they were made."""


@dataclass
class Troubles:
    """Notes the troubles of mailboxes."""

    memory: Memory
    now: Callable[[], datetime]
    mailboxes: set[str] = field(default_factory=set)
    """Mailboxes of which something is remembered, to be forgotten when they are well."""

    async def noting(
        self, mailbox: str, write: Callable[[], Awaitable[None]], is_subscribed: Callable[[], bool]
    ) -> None:
        """Do *write*; note what goes wrong with *mailbox*, or that it is well again.

        A mailbox that refuses, and is subscribed no more, is tried rarely. One that *is subscribed* still is tried by
        each run: there is no time to wait until its subscription ends.
        Raises: what *write* does.
        """
        try:
            await write()
        except (Paused, Misconfigured):
            raise  # the trouble of all, not of this mailbox
        except SyncError as error:
            is_own = not isinstance(error, Transient | Unvalidated)
            await self.note(mailbox, str(error), rarely=is_own and not is_subscribed())
            raise
        if mailbox in self.mailboxes:
            await self.memory.forget(mailbox)

    async def note(self, mailbox: str, reason: str, *, rarely: bool, in_gap: bool = False) -> None:
        """Remember *reason*. With *in_gap*, this process forgets it as soon as the mailbox is well."""
        await self.memory.remember(mailbox, reason, self.now(), rarely=rarely, in_gap=in_gap)
        if in_gap:
            self.mailboxes.add(mailbox)

    async def forget(self, mailbox: str) -> None:
        """Remember nothing of *mailbox* any more."""
        await self.memory.forget(mailbox)
