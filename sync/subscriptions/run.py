"""Carries out one plan: its steps side by side, the most urgent first, each mailbox's trouble its own.

A run may be repeated, stopped anywhere and done twice at the same time: Graph's own list says what is left to do.
The plan is made in planning.py. The memory between runs is keeper.py's.
"""

from __future__ import annotations

import logging
from asyncio import TaskGroup
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from sync.errors import Misconfigured, Paused, SyncError, Unvalidated
from sync.ids import short_id_of
from sync.model import Subscription
from sync.subscriptions import writes
from sync.subscriptions.deployment import Deployment, mailbox_of
from sync.subscriptions.planning import Plan
from sync.subscriptions.replacing import REPLACE_WITHIN, Replacements
from sync.subscriptions.result import UNVALIDATED_IN_A_ROW, VALIDATED_LATELY, Handshakes, Result
from sync.subscriptions.steps import Steps
from sync.subscriptions.troubles import Troubles
from sync.subscriptions.writes import SWEEP_AFTER, Service, clock

log = logging.getLogger(__name__)

Step = tuple[str, Callable[[], Awaitable[None]]]
"""A mailbox, and what to do for it."""

CONCURRENCY = 16
"""Steps at the same time. At each creation Graph calls the app twice, for the handshake, before it answers.

Too few, and a run of thousands takes long; too many, and the handshakes slow each other until Graph gives up.
"""

URGENT = timedelta(days=1)
"""A subscription with less life ahead is renewed before missing ones are created.

Too short, and one may end while others are created; too long, and new mailboxes wait.
"""


@dataclass(frozen=True)
class Limits:
    """The bounds of a run."""

    concurrency: int = CONCURRENCY
    sweep_after: float = SWEEP_AFTER
    unvalidated_in_a_row: int = UNVALIDATED_IN_A_ROW
    validated_lately: float = VALIDATED_LATELY


class Run:
    """One plan, carried out as long as there is time."""

    def __init__(
        self,
        plan: Plan,
        service: Service,
        troubles: Troubles,
        deadline: float,
        progress: Callable[[int, int], None] = lambda done, of: None,
        limits: Limits = Limits(),
    ) -> None:
        self._plan = plan
        self._service = service
        self._troubles = troubles
        self._progress = progress
        self._concurrency = limits.concurrency
        self._result = Result(wanted=plan.wanted, refusal=plan.refusal)
        self._handshakes = Handshakes(limits.unvalidated_in_a_row, limits.validated_lately)
        self._steps = Steps(service, plan, deadline, self._result, self._handshakes, limits.sweep_after)
        self._replacements = Replacements(self._steps, troubles)
        subscribed = (*plan.replace, *plan.renew, *plan.prolong, *plan.remove)
        self._subscribed = {mailbox for mailbox, _ in subscribed}

    async def carry_out(self, deployment: Deployment) -> Result:
        """Do all steps, and return what was done. No gap is made before the gaps of an earlier run are closed.

        Raises: Misconfigured, which is the trouble of all; Transient, Refused if adopted ones cannot be looked for.
        """
        steps, gaps = self._in_order(), len(self._plan.gaps)
        await self._work_off(steps[:gaps], 0, len(steps))
        await self._work_off(steps[gaps:], gaps, len(steps))
        await self._look_after_adopted(deployment)
        await self._forget_troubles()
        self._result.is_reached = self._handshakes.is_reached
        return self._result

    async def _work_off(self, steps: Sequence[Step], done: int, of: int) -> None:
        waiting = iter(steps)

        async def work() -> None:
            nonlocal done
            for mailbox, act in waiting:
                await self._attempt(mailbox, act)
                done += 1
                self._progress(done, of)

        try:
            async with TaskGroup() as group:
                for _ in range(self._concurrency):
                    group.create_task(work())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _attempt(self, mailbox: str, act: Callable[[], Awaitable[None]]) -> None:
        """Do one step, if there is time for it. An error is noted, and goes no further.

        Raises: Misconfigured, which would be the trouble of all.
        """
        result = self._result
        if clock() > self._steps.deadline or self._handshakes.are_hopeless(clock()):
            result.not_begun += 1
            return
        try:
            await self._troubles.noting(mailbox, act, is_subscribed=lambda: self._is_subscribed(mailbox))
        except Misconfigured:
            raise
        except Paused:
            result.not_begun += 1
        except SyncError as error:
            self._note_failure(mailbox, error)
        else:
            result.done.add(mailbox)

    def _note_failure(self, mailbox: str, error: SyncError) -> None:
        self._result.failed[mailbox] = str(error)
        log.error("subscription not kept mailbox=%s reason=%r", mailbox, str(error))
        if isinstance(error, Unvalidated):
            self._handshakes.failed()
        if mailbox in self._plan.gaps:
            self._result.gaps.add(mailbox)

    def _is_subscribed(self, mailbox: str) -> bool:
        return mailbox in self._subscribed and mailbox not in self._result.gaps

    def _in_order(self) -> list[Step]:
        """Return the steps, the most urgent first.

        First come mailboxes whose old subscription is deleted already. A mailbox that failed the last time comes after
        the others, or it could keep them from their step; of these, the longest ago comes first. Deletions come last.
        """
        plan, spares = self._plan, self._spares()
        steps = [*self._renewals_and_creations(), *self._replacing(spares)]
        failed_before = [step for step in steps if step[0] in plan.troubles and step[0] not in plan.gaps]
        return [
            *(step for step in steps if step[0] in plan.gaps),
            *(step for step in steps if step[0] not in plan.troubles),
            *sorted(failed_before, key=lambda step: plan.troubles[step[0]].next_try),
            *self._deleting(spares),
        ]

    def _replacing(self, spares: dict[str, list[Subscription]]) -> Sequence[Step]:
        """Return the steps that replace, and take out of *spares* those that go with them."""
        if self._plan.refusal is not None:
            return []
        return [
            (mailbox, partial(self._replacements.replace, mailbox, old, spares.pop(mailbox, [])))
            for mailbox, old in self._plan.replace
        ]

    def _renewals_and_creations(self) -> Sequence[Step]:
        plan, steps, soon = self._plan, self._steps, self._service.now() + URGENT
        urgent = sum(current.expires <= soon for _, current in plan.renew)  # they come first
        renewals: list[Step] = [
            (mailbox, partial(steps.renew, mailbox, current)) for mailbox, current in (*plan.renew, *plan.prolong)
        ]
        creations: list[Step] = [(mailbox, partial(steps.create, mailbox)) for mailbox in plan.create]
        return [*renewals[:urgent], *creations, *renewals[urgent:]]

    def _spares(self) -> dict[str, list[Subscription]]:
        """Return the spare subscriptions by mailbox."""
        spares: dict[str, list[Subscription]] = {}
        for spare in self._plan.spare:
            spares.setdefault(mailbox_of(spare) or "", []).append(spare)
        return spares

    def _deleting(self, spares: dict[str, list[Subscription]]) -> Sequence[Step]:
        """Return the steps that only delete."""
        if self._plan.refusal is not None:
            return []
        steps = self._steps
        return [
            *((mailbox, partial(steps.retire, mailbox, one)) for mailbox, all_ in spares.items() for one in all_),
            *((mailbox, partial(steps.remove, current)) for mailbox, current in self._plan.remove),
        ]

    async def _look_after_adopted(self, deployment: Deployment) -> None:
        """Look whether Graph lists the subscriptions that it called duplicates, or a mailbox would be silent unseen."""
        adopted, replacements = self._steps.adopted, self._replacements.adopted
        if not adopted:
            return
        found = await self._service.list(self._steps.deadline + REPLACE_WITHIN)
        living = [each for each in found if each.expires > self._service.now()]
        ours = {mailbox_of(each) for each in living if deployment.owns(each)}
        right = {mailbox_of(each) for each in living if deployment.is_right(each)}
        for mailbox in sorted((adopted.keys() - ours) | (replacements - right)):
            if mailbox not in replacements and await self._lives(adopted.get(mailbox)):
                continue
            reason = "Graph says that it is subscribed already, but does not list that subscription"
            self._result.failed[mailbox] = reason
            log.error("subscription not kept mailbox=%s reason=%r", mailbox, reason)
            await self._troubles.note(mailbox, reason, rarely=True)

    async def _lives(self, subscription_id: str | None) -> bool:
        """Say whether the subscription that Graph named is there, though it is not listed yet; it is renewed by that.

        If Graph refuses to say, the next run asks again.
        """
        if subscription_id is None:
            return False
        try:
            await writes.renew(self._service, subscription_id, self._steps.deadline + REPLACE_WITHIN)
        except SyncError as error:
            log.warning("subscription not adopted subscription=%s reason=%r", short_id_of(subscription_id), str(error))
            return False
        return True

    async def _forget_troubles(self) -> None:
        """Forget the troubles of mailboxes that are not wanted any more, or well without a step of this run."""
        plan = self._plan
        stepped = {mailbox for mailbox, _ in (*plan.renew, *plan.replace, *plan.prolong)}
        waiting = {trouble.mailbox for trouble in plan.wait}
        for mailbox in self._troubles.mailboxes - stepped - waiting - {*plan.create}:
            await self._troubles.forget(mailbox)
