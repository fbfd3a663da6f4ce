"""Replaces a subscription that is not right any more: the new one first, or the old one first where Graph wants that.

How Graph takes a second subscription to a mailbox is not documented, so the first replacement of a run finds it out.
The section "How a subscription is replaced" of docs/architecture.md tells it in order. Nothing else is decided here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from enum import Enum, auto

from sync.errors import Duplicate, Full, Misconfigured, Paused, SyncError
from sync.model import Subscription
from sync.subscriptions import writes
from sync.subscriptions.steps import Steps, of_another_deployment
from sync.subscriptions.troubles import Troubles
from sync.subscriptions.writes import clock

log = logging.getLogger(__name__)

GAPS_AT_ONCE = 4
"""Old subscriptions that are deleted at the same time before the new ones are made.

Too few, and replacing thousands takes long; too many, and so many mailboxes have none until the next run if it fails.
"""

REPLACE_WITHIN = 60.0
"""Seconds that must be left of a run to delete a subscription before its replacement is made.

Too short, and a run may end in between; too long, and runs end without using their time.
"""


class Second(Enum):
    """How Graph takes a second subscription to a mailbox, beside the one that it is to replace."""

    UNKNOWN = auto()
    """Not tried yet in this run. Replacements come one at a time."""
    BESIDE = auto()
    """Taken: the new one is made first."""
    GAP_FIRST = auto()
    """Refused as a duplicate: the old one goes first, and the mailbox has none for a moment."""


class Replacements:
    """Replaces subscriptions within one run."""

    def __init__(self, steps: Steps, troubles: Troubles) -> None:
        self.second = Second.UNKNOWN
        self.adopted: set[str] = set()
        """Mailboxes where somebody else's replacement was found; it has to be as it would be made now."""
        self._steps = steps
        self._troubles = troubles
        self._finding_out = asyncio.Lock()
        self._turns = asyncio.Semaphore(GAPS_AT_ONCE)

    async def replace(self, mailbox: str, old: Subscription, spares: Sequence[Subscription]) -> None:
        """Make a new subscription for *old*. Where that fails, renew *old* if it would end soon.

        *spares* go first, or the new one might be taken for a duplicate of one of them.
        Raises: Paused if it is for a later run; and what the writes raise.
        """
        try:
            for spare in spares:
                await self._steps.retire(mailbox, spare)
            if mailbox in self._steps.plan.elsewhere:
                await self._replace_elsewhere(mailbox, old)
            else:
                await self._replace(mailbox, old)
        except Misconfigured:
            raise
        except SyncError:
            if mailbox not in self._steps.result.gaps:
                await self._steps.fall_back(mailbox, old)
            raise

    async def _replace(self, mailbox: str, old: Subscription) -> None:
        """Replace *old* in the way that Graph takes; the first one finds out which that is.

        It is found out for one mailbox, before many lose their subscription for the same reason.
        """
        is_tried = False
        async with self._finding_out:
            if self.second is Second.UNKNOWN:
                is_tried = True
                if await self._is_replaced_beside(mailbox, old):
                    return
                if self.goes_first:
                    await self._replace_with_gap(mailbox, old)
                    return
        if self.second is Second.BESIDE and not is_tried and await self._is_replaced_beside(mailbox, old):
            return
        async with self._turns:
            await self._replace_with_gap(mailbox, old)

    @property
    def goes_first(self) -> bool:
        """Whether the old one is known to have to go first."""
        return self.second is Second.GAP_FIRST

    async def _is_replaced_beside(self, mailbox: str, old: Subscription) -> bool:
        """Make the new one beside *old*, then retire *old*. False if *old* has to go first.

        Repeated notifications in between are harmless. *old* has to go first where Graph takes the second for its
        duplicate, and in a mailbox that is full.
        """
        try:
            await writes.create_beside(self._steps.service, mailbox, old, self._steps.deadline)
        except Duplicate as error:
            if error.subscription_id not in (None, old.id.lower()):
                self.adopted.add(mailbox)
                self._steps.adopt(mailbox, error.subscription_id)
                await self._steps.fall_back(mailbox, old)
                return True
            if self.second is Second.UNKNOWN:
                self.second = Second.GAP_FIRST
            return False
        except Full:
            log.info("subscription has to go first, as the mailbox is full mailbox=%s", mailbox)
            return False
        await self._retire_replaced(mailbox, old)
        return True

    async def _replace_elsewhere(self, mailbox: str, old: Subscription) -> None:
        """Make the new one beside *old*, or leave *old* as it is: a duplicate may be another deployment's.

        Raises: Refused if it is.
        """
        try:
            await writes.create_beside(self._steps.service, mailbox, old, self._steps.deadline)
        except Duplicate as error:
            raise of_another_deployment(error) from None
        await self._retire_replaced(mailbox, old)

    async def _retire_replaced(self, mailbox: str, old: Subscription) -> None:
        steps = self._steps
        self.second = Second.BESIDE
        steps.validated()
        await writes.retire(steps.service, mailbox, old, steps.deadline, steps.sweep_after())
        steps.result.replaced += 1

    async def _replace_with_gap(self, mailbox: str, old: Subscription) -> None:
        """Delete *old*, then make the new one, and have swept what happens in between.

        The first gap that stays open ends this for the whole run: the next ones might stay open as well.
        Raises: Paused, with nothing changed, then, or where there is too little time for both; and what else
        ``writes.create`` does.
        """
        steps, result = self._steps, self._steps.result
        if result.gaps or steps.deadline - clock() < REPLACE_WITHIN:
            raise Paused("subscriptions: not now, as the old one has to go first")
        await self._make_room(mailbox, old)
        try:
            await writes.create(steps.service, mailbox, steps.deadline + REPLACE_WITHIN, steps.sweep_after())
        except Duplicate as error:
            result.deleted += 1
            steps.adopt(mailbox, error.subscription_id)
        except SyncError as error:
            result.deleted += 1
            result.gaps.add(mailbox)
            log.error("subscription deleted and not replaced mailbox=%s reason=%r", mailbox, str(error))
            raise
        else:
            steps.validated()
            result.replaced += 1

    async def _make_room(self, mailbox: str, old: Subscription) -> None:
        """Delete *old* before there is a new one. That is remembered first, so that no mailbox is silent unseen.

        Raises: Paused, with nothing deleted; and what else ``writes.delete`` does.
        """
        reason = "its old subscription is deleted, and a new one not made yet"
        await self._troubles.note(mailbox, reason, rarely=False, in_gap=True)
        try:
            await writes.delete(self._steps.service, old.id, self._steps.deadline)
        except Paused:
            await self._troubles.forget(mailbox)
            raise
