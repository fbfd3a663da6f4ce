"""One plan of the roster carried out: many steps side by side, each mailbox's trouble its own.

It may be repeated, stopped anywhere and run twice at the same time: Graph's own list says what is left to do.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from sync.errors import Duplicate, Full, Misconfigured, NotFound, Paused, Refused, SyncError, Unvalidated
from sync.model import Subscription
from sync.subscriptions.deployment import Deployment, mailbox_of
from sync.subscriptions.planning import Plan
from sync.subscriptions.writes import SWEEP_AFTER, Steps, clock

log = logging.getLogger(__name__)

Step = tuple[str, Callable[[], Awaitable[None]]]
"""A mailbox, and what to do for it."""

CONCURRENCY = 16
"""Each creation calls the app back twice, for the handshake, before it is answered."""

SWEEPS_PER_SECOND = 5
"""Sweeps of new subscriptions that begin in one second, as many as in a sweep of all mailboxes.

Too small, and a difference is found late; too large, and changes find Dataverse throttling.
"""

UNVALIDATED_IN_A_ROW = 20
VALIDATED_LATELY = 60.0
"""Failed handshakes after which a run gives up, if none has passed for so many seconds: the app cannot be reached, by
whatever mailbox."""

URGENT = timedelta(days=1)
"""A subscription with less life than this is renewed before missing ones are created."""


@dataclass
class Report:
    """What a run did; ``failed`` says why for each mailbox, ``left`` counts what was not begun in time."""

    wanted: int = 0
    created: int = 0
    adopted: int = 0
    """Somebody else had created them, another run most likely."""
    replaced: int = 0
    renewed: int = 0
    deleted: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    left: int = 0
    done: set[str] = field(default_factory=set)
    """The mailboxes with a step that came to its end."""
    gaps: set[str] = field(default_factory=set)
    """Those of ``failed`` that have lost their subscription."""
    was_away: bool = False
    queued_sweeps: int = 0
    """Of all mailboxes, because the app was away."""
    refusal: str | None = None
    """Why nothing was deleted, although it was planned."""


GAPS_AT_ONCE = 4
"""Subscriptions deleted before the ones that replace them are made: if that turns out not to work, so many mailboxes
may be without one until the next run."""

REPLACE_WITHIN = 60.0
"""Seconds that must be left of a run to delete a subscription before the one that replaces it is made."""


class Run:
    """One plan carried out, all its steps side by side, the most urgent first, as long as there is time."""

    def __init__(
        self,
        steps: Steps,
        deployment: Deployment,
        plan: Plan,
        report: Report,
        deadline: float,
        progress: Callable[[int, int], None],
    ) -> None:
        self._steps = steps
        self._deployment = deployment
        self._plan = plan
        self._report = report
        self._deadline = deadline
        self._progress = progress
        self._leavers = {mailbox for mailbox, _ in plan.leave}
        self._subscribed = {mailbox for mailbox, _ in (*plan.replace, *plan.renew, *plan.prolong, *plan.leave)}
        self._unvalidated = 0
        self._validated_at = -math.inf
        self._adopted: set[str] = set()
        self._adopted_for: set[str] = set()
        """Of these those that stand for a replacement, and have to be as they would be made now."""
        self._is_second_taken: bool | None = None
        """Whether Graph takes a second subscription beside the one that it is to replace; None until it is known."""
        self._has_gap_closed = self._has_gap_stayed = False
        """Where the old one had to go first: whether a new one could be made then, and whether one could not."""
        self._finding_out = asyncio.Lock()
        self._gaps = asyncio.Semaphore(GAPS_AT_ONCE)

    async def carry_out(self) -> None:
        """No gap is made before those of an earlier run are closed."""
        planned, gaps = self._planned(), len(self._plan.gaps)
        await self._work_off(planned[:gaps], 0, len(planned))
        await self._work_off(planned[gaps:], gaps, len(planned))
        await self._look_after_adopted()
        await self._forget_troubles()

    async def _work_off(self, steps: Sequence[Step], done: int, of: int) -> None:
        left = iter(steps)

        async def work() -> None:
            nonlocal done
            for mailbox, act in left:
                await self._attempt(mailbox, act)
                done += 1
                self._progress(done, of)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(CONCURRENCY):
                    group.create_task(work())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _attempt(self, mailbox: str, act: Callable[[], Awaitable[None]]) -> None:
        """One step, if there is time for it; what goes wrong with it is noted, and goes no further.

        Raises: Misconfigured, which would be the trouble of all.
        """
        report = self._report
        if clock() > self._deadline or self._cannot_be_reached():
            report.left += 1
            return
        try:
            await self._steps.remembering(mailbox, act, lambda: self._is_subscribed(mailbox))
        except Misconfigured:
            raise
        except Paused:
            report.left += 1
            return
        except SyncError as error:
            report.failed[mailbox] = str(error)
            log.error("subscription not kept mailbox=%s reason=%r", mailbox, str(error))
            self._unvalidated += isinstance(error, Unvalidated)
            self._has_gap_stayed |= mailbox in self._plan.gaps
        else:
            report.done.add(mailbox)

    def _is_subscribed(self, mailbox: str) -> bool:
        return mailbox in self._subscribed and mailbox not in self._report.gaps

    def _cannot_be_reached(self) -> bool:
        return self._unvalidated >= UNVALIDATED_IN_A_ROW and clock() - self._validated_at > VALIDATED_LATELY

    @property
    def is_reached(self) -> bool | None:
        """Whether Graph can reach the app, as far as this run has shown."""
        if self._validated_at > -math.inf:
            return True
        return False if self._unvalidated else None

    def _validated(self) -> None:
        """A handshake has passed. What fails for another reason says nothing about it, either way."""
        self._unvalidated, self._validated_at = 0, clock()

    def _planned(self) -> list[Step]:
        plan, soon = self._plan, self._steps.now() + URGENT
        replaced, deleted = self._deletions() if plan.refusal is None else ([], [])
        urgent = [(mailbox, held) for mailbox, held in plan.renew if held.expires <= soon]
        validated: list[Step] = [
            *((mailbox, partial(self._renew, mailbox, held)) for mailbox, held in urgent),
            *((mailbox, partial(self._create, mailbox)) for mailbox in plan.create),
            *((mailbox, partial(self._renew, mailbox, held)) for mailbox, held in plan.renew[len(urgent) :]),
            *((mailbox, partial(self._renew, mailbox, held)) for mailbox, held in plan.prolong),
            *replaced,
        ]
        # What failed the last time comes last, and the longest ago first, or it could keep the others from theirs.
        known = plan.troubles
        again = [step for step in validated if step[0] in known and step[0] not in plan.gaps]
        return [
            *(step for step in validated if step[0] in plan.gaps),
            *(step for step in validated if step[0] not in known),
            *sorted(again, key=lambda step: known[step[0]].next_try),
            *deleted,
        ]

    def _deletions(self) -> tuple[list[Step], list[Step]]:
        """The steps that replace, and those that only delete."""
        spare: dict[str, list[Subscription]] = {}
        for held in self._plan.spare:
            spare.setdefault(mailbox_of(held) or "", []).append(held)
        # Theirs go first, or the new one might be taken for a duplicate of what is about to go.
        replaced: list[Step] = [
            (mailbox, partial(self._replace, mailbox, held, spare.pop(mailbox, [])))
            for mailbox, held in self._plan.replace
        ]
        return replaced, [
            *((mailbox, partial(self._retire, mailbox, held)) for mailbox, others in spare.items() for held in others),
            *((mailbox, partial(self._delete, held)) for mailbox, held in self._plan.leave),
        ]

    async def _create(self, mailbox: str) -> None:
        """What another run has subscribed meanwhile is adopted: if it should not be right, the next run sees that."""
        try:
            await self._steps.create(mailbox, self._deadline, self._sweep_after())
        except Duplicate as error:
            if mailbox in self._plan.elsewhere:
                raise _of_another_deployment(error) from None
            self._adopt(mailbox)
        else:
            self._validated()
            self._report.created += 1

    async def _renew(self, mailbox: str, held: Subscription) -> None:
        try:
            await self._steps.renew(held.id, self._deadline)
        except NotFound:
            if mailbox not in self._leavers:
                await self._create(mailbox)
        else:
            self._validated()
            self._report.renewed += 1

    async def _replace(self, mailbox: str, old: Subscription, others: Sequence[Subscription]) -> None:
        """A new one for the *old* one, which is renewed where that fails, and it is in time, and of use still."""
        try:
            for other in others:
                await self._retire(mailbox, other)
            await self._find_out_and_replace(mailbox, old)
        except Misconfigured:
            raise
        except SyncError:
            if mailbox not in self._report.gaps:
                await self._fall_back(mailbox, old)
            raise

    async def _fall_back(self, mailbox: str, old: Subscription) -> None:
        if old.id not in self._plan.fall_back:
            return
        try:
            await self._steps.renew(old.id, self._deadline)
        except Misconfigured:
            raise
        except SyncError as error:
            log.warning("subscription not renewed mailbox=%s reason=%r", mailbox, str(error))
        else:
            self._validated()
            self._report.renewed += 1

    async def _find_out_and_replace(self, mailbox: str, old: Subscription) -> None:
        """The first one finds out how Graph takes it, before many lose their subscription for the same reason."""
        async with self._finding_out:
            if not (self._is_second_taken or self._has_gap_closed or self._has_gap_stayed):
                return await self._replace_one(mailbox, old)
        return await self._replace_one(mailbox, old)

    async def _replace_one(self, mailbox: str, old: Subscription) -> None:
        """The new one first, then the old one goes; repeated notifications in between are harmless.

        Where Graph takes the second for a duplicate, the old one goes first. That is found out by the first: its
        documentation does not say whether another spelling of a resource is another resource. The old one stays where
        another deployment is subscribed as well, as the duplicate may be that one's. It also goes first to make room in
        a mailbox that is full.
        """
        is_elsewhere = mailbox in self._plan.elsewhere
        if is_elsewhere or self._is_second_taken is not False:
            try:
                await self._steps.create_beside(mailbox, old, self._deadline)
            except Duplicate as error:
                if is_elsewhere:
                    raise _of_another_deployment(error) from None
                if error.subscription_id not in (None, old.id.lower()):
                    self._adopted_for.add(mailbox)
                    self._adopt(mailbox)
                    await self._fall_back(mailbox, old)
                    return
                self._is_second_taken = self._is_second_taken or False
            except Full:
                if is_elsewhere:
                    raise
                log.info("subscription has to go first, as the mailbox is full mailbox=%s", mailbox)
            else:
                self._is_second_taken = True
                self._validated()
                await self._steps.retire(mailbox, old, self._deadline, self._sweep_after())
                self._report.replaced += 1
                return
        async with self._gaps:
            await self._replace_with_gap(mailbox, old)

    async def _replace_with_gap(self, mailbox: str, old: Subscription) -> None:
        """The old one goes first, and what happens until there is the new one is swept for.

        The first gap that stays ends this for the whole run, as the next ones might stay as well. Raises: Paused, with
        nothing changed, then, or where there is too little time for both; and what else ``Steps.create`` does.
        """
        if self._has_gap_stayed or self._deadline - clock() < REPLACE_WITHIN:
            raise Paused("subscriptions: not now, as the old one has to go first")
        await self._steps.make_room(mailbox, old, self._deadline)
        try:
            await self._steps.create(mailbox, self._deadline + REPLACE_WITHIN, self._sweep_after())
        except Duplicate:
            self._report.deleted += 1
            self._adopt(mailbox)
        except SyncError as error:
            self._report.deleted += 1
            self._report.gaps.add(mailbox)
            self._has_gap_stayed = True
            log.error("subscription deleted and not replaced mailbox=%s reason=%r", mailbox, str(error))
            raise
        else:
            self._validated()
            self._has_gap_closed = True
            self._report.replaced += 1

    async def _retire(self, mailbox: str, held: Subscription) -> None:
        await self._steps.retire(mailbox, held, self._deadline, self._sweep_after())
        self._report.deleted += 1

    async def _delete(self, held: Subscription) -> None:
        await self._steps.delete(held, self._deadline)
        self._report.deleted += 1

    def _adopt(self, mailbox: str) -> None:
        log.info("subscription exists already mailbox=%s", mailbox)
        self._adopted.add(mailbox)
        self._report.adopted += 1

    def _sweep_after(self) -> float:
        """The sweeps of many new subscriptions are spread like those of the nightly one."""
        report = self._report
        return SWEEP_AFTER + (report.created + report.replaced + report.deleted) / SWEEPS_PER_SECOND

    async def _look_after_adopted(self) -> None:
        """What Graph calls a duplicate has to be in its list, or nobody would know that a mailbox is silent."""
        if not self._adopted:
            return
        steps = self._steps
        found = await steps.list(self._deadline + REPLACE_WITHIN)
        listed = [each for each in found if each.expires > steps.now()]
        ours = {mailbox_of(each) for each in listed if self._deployment.owns(each)}
        right = {mailbox_of(each) for each in listed if self._deployment.is_right(each)}
        for mailbox in sorted((self._adopted - ours) | (self._adopted_for - right)):
            reason = "Graph says that it is subscribed already, but does not list that subscription"
            self._report.failed[mailbox] = reason
            log.error("subscription not kept mailbox=%s reason=%r", mailbox, reason)
            await steps.memory.remember(mailbox, reason, steps.now(), rarely=True)

    async def _forget_troubles(self) -> None:
        """Those of mailboxes that are well, by whomever, or not wanted any more."""
        plan = self._plan
        changing = {mailbox for mailbox, _ in (*plan.renew, *plan.replace, *plan.prolong)}
        for mailbox in self._steps.troubled - changing.union(plan.create, (trouble.mailbox for trouble in plan.wait)):
            await self._steps.memory.forget(mailbox)


def _of_another_deployment(error: Duplicate) -> Refused:
    return Refused(f"another deployment of this app is subscribed: {error}")
