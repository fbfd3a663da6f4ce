"""Keeps the subscriptions: carries out the roster's plan, and follows lifecycle notifications.

Which subscriptions are wanted is decided in roster.py. A run may be repeated, stopped anywhere and run twice at the
same time: Graph's own list says what is left to do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from sync.differences import Difference
from sync.errors import (
    Duplicate,
    LifetimeRefused,
    MailboxUnavailable,
    Malformed,
    Misconfigured,
    NotFound,
    Paused,
    Refused,
    SyncError,
    Transient,
    Unagreed,
    Unvalidated,
)
from sync.model import LifecycleNotification, Subscription
from sync.notifications import LIFECYCLE, build_lifecycle_message, parse_lifecycle_message
from sync.pacing import Pace
from sync.parking import PARKS, Queues, park, put_back
from sync.roster import LIFETIME, Deployment, LastRun, Plan, Trouble, mailbox_of, plan_roster, without_replacements
from sync.sweep import MAILBOXES_PER_SECOND

log = logging.getLogger(__name__)

CONCURRENCY = 16
"""Each creation calls the app back twice, for the handshake, before it is answered."""

BUDGET = 480.0
"""Seconds after which a run begins nothing more; the next one goes on where it stopped."""

PATIENCE = 20.0
"""Seconds that a lifecycle notification may wait for its turn; after that its message is put back on the queue."""

UNVALIDATED_IN_A_ROW = 20
"""Failed handshakes after which a run gives up: the app cannot be reached, by whatever mailbox."""

URGENT = timedelta(days=1)
"""A subscription with less life than this is renewed before missing ones are created."""

A_FEW = 3
"""More replacements than this are made once for one URL and key: if Graph's list should not show them as they were
made, they would seem wrong for ever, and each replacement costs two handshakes and perhaps a gap."""

REPLACE_WITHIN = 60.0
"""Seconds that must be left of a run to delete a subscription before the one that replaces it is made."""

SHORTEST = timedelta(hours=4)
"""No lifetime below this is agreed to: half of it has to be more than the time between two runs."""

RENEWED_LATELY = timedelta(minutes=10)
"""Within this time of a renewal a reauthorization is not to be asked for, and is not needed either.

Source: Graph, "Reduce missing subscriptions and change notifications".
"""

WANTED_LATELY, UNWANTED_LATELY = timedelta(minutes=10), timedelta(seconds=30)
"""How long it is believed that a mailbox is wanted, or is not: one that just came is subscribed and swept at once."""

SWEEP_AFTER = 60.0
"""Seconds from before a creation is sent to the sweep for what happened until then; it takes less to be answered."""

OUTAGE = timedelta(hours=3)
"""A timer that runs each hour and has not for so long was away; so were the answers to Graph."""


class Subscriptions(Protocol):
    async def list(self) -> Sequence[Subscription]:
        """Raises: Transient, Refused."""

    async def create(self, mailbox: str, expires: datetime, beside: Subscription | None = None) -> None:
        """Raises: Duplicate, LifetimeRefused, Unvalidated, MailboxUnavailable, Transient, Refused."""

    async def renew(self, subscription_id: str, expires: datetime) -> None:
        """Raises: NotFound, LifetimeRefused, Unvalidated, MailboxUnavailable, Transient, Refused."""

    async def delete(self, subscription_id: str) -> None:
        """Raises: Transient, Refused."""


class Memory(Protocol):
    """What is known between runs; losing it costs tries, nothing else."""

    async def troubles(self) -> Mapping[str, Trouble]: ...

    async def remember(self, mailbox: str, reason: str, now: datetime, rarely: bool) -> None:
        """One more try of *mailbox* has failed; *rarely* says how soon the next one is worth while."""

    async def forget(self, mailbox: str) -> None: ...

    async def last_run(self) -> LastRun | None: ...

    async def ran(self, run: LastRun) -> None: ...


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
    was_away: bool = False
    queued_sweeps: int = 0
    """Of all mailboxes, because the app was away."""


@dataclass
class Keeper:
    """Keeps one right subscription for each wanted mailbox, and none for the others."""

    wanted: Callable[[], Awaitable[Sequence[str]]]
    subscriptions: Subscriptions
    deployment: Deployment
    memory: Memory
    queues: Queues
    now: Callable[[], datetime]
    sweep: Callable[[str], Awaitable[Sequence[Difference]]]
    sweep_all: Callable[[], Awaitable[int]]
    lifetime: timedelta = LIFETIME
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    progress: Callable[[int, int], None] = lambda done, of: None

    def __post_init__(self) -> None:
        self._pace = Pace(self.sleep)
        self._renewed: dict[str, datetime] = {}
        self._one_at_a_time = False
        self.troubled: frozenset[str] = frozenset()
        """When the plan was made."""
        self._wanted_lately: tuple[datetime, frozenset[str]] | None = None

    async def plan(self) -> Plan:
        """What a run would do now. Raises: Transient, Refused if mailboxes or subscriptions cannot be listed."""
        plan, _ = await self._plan()
        return plan

    async def _plan(self) -> tuple[Plan, LastRun | None]:
        wanted, present, troubles, last = await asyncio.gather(
            self._read_wanted(), self.subscriptions.list(), self.memory.troubles(), self.memory.last_run()
        )
        self.troubled = frozenset(troubles)
        if last is not None:
            self.lifetime = max(min(self.lifetime, last.lifetime), SHORTEST)
        return plan_roster(wanted, present, self.deployment, self.now(), troubles, self.lifetime), last

    async def keep(self, leavers_agreed: bool = False) -> Report:
        """Carry out the plan, each mailbox's trouble its own; after an outage, have all mailboxes swept.

        Raises: Transient, Refused if mailboxes or subscriptions cannot be listed; Unagreed, with nothing changed, if
        too many mailboxes are to be left and nobody *agreed* to it.
        """
        deadline = _clock() + BUDGET
        began = self.now()
        plan, last = await self._plan()
        if plan.refusal is not None and not leavers_agreed:
            raise Unagreed(f"roster: {plan.refusal}")
        replaced_for = last.replaced_for if last is not None else ""
        if len(plan.replace) > A_FEW and replaced_for == self.deployment.mark:
            log.error("subscriptions are listed otherwise than they were made count=%d", len(plan.replace))
            plan = without_replacements(plan, self.now(), self.lifetime)
        report = Report(wanted=plan.wanted, was_away=last is not None and began - last.at > OUTAGE)
        await _Run(self, plan, report, deadline).carry_out()
        if report.replaced > A_FEW and not report.left:
            replaced_for = self.deployment.mark
        if report.was_away:
            log.warning("the app was away: all mailboxes are swept")
            report.queued_sweeps = await self.sweep_all()
        # Last of all: a run that did not come to its end has not been.
        await self.memory.ran(LastRun(began, self.lifetime, replaced_for))
        log.info(
            "roster wanted=%d created=%d adopted=%d replaced=%d renewed=%d deleted=%d waiting=%d failed=%d left=%d",
            *(report.wanted, report.created, report.adopted, report.replaced, report.renewed, report.deleted),
            *(len(plan.wait), len(report.failed), report.left),
        )
        return report

    async def follow(self, notification: LifecycleNotification) -> None:
        """Do what a lifecycle notification asks for; repeats are harmless, and leavers are left alone.

        Source: Graph, "Reduce missing subscriptions and change notifications": a renewal reauthorizes as well.
        """
        mailbox, until = notification.mailbox, _clock() + PATIENCE
        match notification:
            case LifecycleNotification(event="reauthorizationRequired", subscription_id=str(subscription_id)):
                await self.remembering(mailbox, partial(self._reauthorize, mailbox, subscription_id, until))
            case LifecycleNotification(event="subscriptionRemoved"):
                await self.remembering(mailbox, partial(self._create_if_wanted, mailbox, until))
            case LifecycleNotification(event="missed"):
                if await self._is_wanted(mailbox):
                    await self.sweep(mailbox)
            case _:
                log.warning("lifecycle event=%s mailbox=%s", notification.event, mailbox)

    async def _reauthorize(self, mailbox: str, subscription_id: str, until: float) -> None:
        renewed = self._renewed.get(subscription_id)
        if renewed is not None and self.now() - renewed <= RENEWED_LATELY:
            return
        try:
            await self.renew(subscription_id, until)
        except NotFound:
            await self._create_if_wanted(mailbox, until)

    async def _create_if_wanted(self, mailbox: str, until: float) -> None:
        if not await self._is_wanted(mailbox):
            log.info("subscription not wanted any more mailbox=%s", mailbox)
            return
        try:
            await self.create(mailbox, until)
        except Duplicate:
            log.info("subscription exists already mailbox=%s", mailbox)

    async def _is_wanted(self, mailbox: str) -> bool:
        if self._wanted_lately is not None:
            read, wanted = self._wanted_lately
            if self.now() - read <= (WANTED_LATELY if mailbox in wanted else UNWANTED_LATELY):
                return mailbox in wanted
        return mailbox in await self._read_wanted()

    async def _read_wanted(self) -> Sequence[str]:
        read, wanted = self.now(), await self.wanted()
        self._wanted_lately = read, frozenset(wanted)
        return wanted

    # --- single steps; *until* is a time of the event loop's, beyond which nothing is waited for ---

    async def create(self, mailbox: str, until: float, sweep_after: float = SWEEP_AFTER) -> None:
        """Subscribe, and have what happened before that swept.

        The sweep is queued first, so that no crash can come between, and again if the creation has to wait so long
        that the sweep may come before it. Raises: Duplicate, and what else ``Subscriptions.create`` does.
        """
        queued: float | None = None

        async def create(expires: datetime) -> None:
            nonlocal queued
            if queued is None or _clock() - queued > sweep_after / 2:
                swept = LifecycleNotification(mailbox, None, "missed")
                await self.queues.send(LIFECYCLE, [build_lifecycle_message(swept)], hidden=sweep_after)
                queued = _clock()
            await self.subscriptions.create(mailbox, expires)

        await self._live_as_long_as_allowed(create, until)

    async def replace(
        self,
        mailbox: str,
        old: Subscription,
        until: float,
        sweep_after: float = SWEEP_AFTER,
        is_elsewhere: bool = False,
    ) -> None:
        """The new one first, then the old one goes; repeated notifications in between are harmless.

        Where Graph takes the second for a duplicate, the old one goes first, and the gap is swept. That is found out
        once: its documentation does not say whether another spelling of a resource is another resource. The old one
        stays where another deployment is subscribed as well, as the duplicate may be that one's, and where there is too
        little time for both. Raises: Duplicate, Paused, and what else ``Subscriptions.create`` does.
        """
        if is_elsewhere or not self._one_at_a_time:
            try:
                await self._live_as_long_as_allowed(
                    lambda expires: self.subscriptions.create(mailbox, expires, beside=old), until
                )
            except Duplicate:
                if is_elsewhere:
                    raise
            else:
                await self.delete(old, until)
                return
        if until - _clock() < REPLACE_WITHIN:
            raise Paused("subscriptions: no time left to replace one")
        await self.delete(old, until)
        await self.create(mailbox, until + REPLACE_WITHIN, sweep_after)
        self._one_at_a_time = True

    async def renew(self, subscription_id: str, until: float) -> None:
        """Give it its whole lifetime again. Raises: NotFound, and what else ``Subscriptions.renew`` does."""
        now = self.now()
        # Noted before, because repeats come side by side.
        self._renewed = {id: at for id, at in self._renewed.items() if now - at <= RENEWED_LATELY}
        self._renewed[subscription_id] = now
        try:
            await self._live_as_long_as_allowed(
                lambda expires: self.subscriptions.renew(subscription_id, expires), until
            )
        except BaseException:
            self._renewed.pop(subscription_id, None)
            raise

    async def delete(self, held: Subscription, until: float) -> None:
        await self._pace.run(lambda: self.subscriptions.delete(held.id), until)

    async def remembering(self, mailbox: str, act: Callable[[], Awaitable[None]]) -> None:
        """Do *act*, and note for operators and later runs what goes wrong with *mailbox*, or that it is well again.

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
            await self.memory.remember(mailbox, str(error), self.now(), rarely=True)
            raise
        if mailbox in self.troubled:
            await self.memory.forget(mailbox)

    async def _live_as_long_as_allowed(self, write: Callable[[datetime], Awaitable[None]], until: float) -> None:
        """*write* with the expiration asked for; if that is refused, with what is allowed, from then on."""
        asked = self.lifetime
        try:
            await self._pace.run(lambda: write(self.now() + asked), until)
        except LifetimeRefused as error:
            allowed = timedelta(minutes=error.minutes - 5)
            if not SHORTEST <= allowed < asked:
                raise
            if allowed < self.lifetime:
                log.warning("subscriptions live for %d minutes at most here", error.minutes)
                self.lifetime = allowed
            await self._pace.run(lambda: write(self.now() + self.lifetime), until)


class _Run:
    """One plan carried out, all its steps side by side, the most urgent first, as long as there is time."""

    def __init__(self, keeper: Keeper, plan: Plan, report: Report, deadline: float) -> None:
        self._keeper = keeper
        self._plan = plan
        self._report = report
        self._deadline = deadline
        self._unvalidated = 0
        self._adopted: set[str] = set()

    async def carry_out(self) -> None:
        steps = self._steps()
        left, done = iter(steps), 0

        async def work() -> None:
            nonlocal done
            for mailbox, act in left:
                await self._attempt(mailbox, act)
                done += 1
                self._keeper.progress(done, len(steps))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(CONCURRENCY):
                    group.create_task(work())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        await self._look_after_adopted()
        await self._forget_troubles()

    async def _attempt(self, mailbox: str, act: Callable[[], Awaitable[None]]) -> None:
        """One step, if there is time for it; what goes wrong with it is noted, and goes no further.

        Raises: Misconfigured, which would be the trouble of all.
        """
        report = self._report
        if _clock() > self._deadline or self._unvalidated >= UNVALIDATED_IN_A_ROW:
            report.left += 1
            return
        try:
            await self._keeper.remembering(mailbox, act)
        except Misconfigured:
            raise
        except Paused:
            report.left += 1
            return
        except SyncError as error:
            report.failed[mailbox] = str(error)
            log.error("subscription not kept mailbox=%s reason=%r", mailbox, str(error))
            self._unvalidated = self._unvalidated + 1 if isinstance(error, Unvalidated) else 0
        else:
            self._unvalidated = 0

    def _steps(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        plan, soon = self._plan, self._keeper.now() + URGENT
        spare: dict[str, list[Subscription]] = {}
        for held in plan.spare:
            spare.setdefault(mailbox_of(held) or "", []).append(held)
        # Theirs go first, or the new one might be taken for a duplicate of what is about to go.
        replaced = [(mailbox, (held, spare.pop(mailbox, []))) for mailbox, held in plan.replace]
        urgent = [(mailbox, held) for mailbox, held in plan.renew if held.expires <= soon]
        return [
            *((mailbox, partial(self._renew, mailbox, held)) for mailbox, held in urgent),
            *((mailbox, partial(self._create, mailbox)) for mailbox in plan.create),
            *((mailbox, partial(self._renew, mailbox, held)) for mailbox, held in plan.renew[len(urgent) :]),
            *((mailbox, partial(self._replace, mailbox, *which)) for mailbox, which in replaced),
            *((mailbox, partial(self._delete, held)) for mailbox, others in spare.items() for held in others),
            *((mailbox, partial(self._delete, held)) for mailbox, held in plan.leave),
        ]

    async def _create(self, mailbox: str) -> None:
        """What another run has subscribed meanwhile is adopted: if it should not be right, the next run sees that."""
        try:
            await self._keeper.create(mailbox, self._deadline, self._sweep_after())
        except Duplicate as error:
            if mailbox in self._plan.elsewhere:
                raise Refused(f"another deployment of this app is subscribed: {error}") from None
            self._adopt(mailbox)
        else:
            self._report.created += 1

    async def _renew(self, mailbox: str, held: Subscription) -> None:
        try:
            await self._keeper.renew(held.id, self._deadline)
        except NotFound:
            await self._create(mailbox)
        else:
            self._report.renewed += 1

    async def _replace(self, mailbox: str, old: Subscription, others: Sequence[Subscription]) -> None:
        for other in others:
            await self._delete(other)
        try:
            is_elsewhere = mailbox in self._plan.elsewhere
            await self._keeper.replace(mailbox, old, self._deadline, self._sweep_after(), is_elsewhere)
        except Duplicate as error:
            if mailbox in self._plan.elsewhere:
                raise Refused(f"another deployment of this app is subscribed: {error}") from None
            self._adopt(mailbox)
        else:
            self._report.replaced += 1

    async def _delete(self, held: Subscription) -> None:
        await self._keeper.delete(held, self._deadline)
        self._report.deleted += 1

    def _adopt(self, mailbox: str) -> None:
        log.info("subscription exists already mailbox=%s", mailbox)
        self._adopted.add(mailbox)
        self._report.adopted += 1

    def _sweep_after(self) -> float:
        """The sweeps of many new subscriptions are spread like those of the nightly one."""
        return SWEEP_AFTER + (self._report.created + self._report.replaced) / MAILBOXES_PER_SECOND

    async def _look_after_adopted(self) -> None:
        """What Graph calls a duplicate has to be in its list, or nobody would know that a mailbox is silent."""
        if not self._adopted:
            return
        keeper = self._keeper
        listed = [each for each in await keeper.subscriptions.list() if each.expires > keeper.now()]
        ours = {mailbox_of(each) for each in listed if keeper.deployment.owns(each)}
        for mailbox in sorted(self._adopted - ours):
            reason = "Graph says that it is subscribed already, but does not list that subscription"
            self._report.failed[mailbox] = reason
            log.error("subscription not kept mailbox=%s reason=%r", mailbox, reason)
            await keeper.memory.remember(mailbox, reason, keeper.now(), rarely=True)

    async def _forget_troubles(self) -> None:
        """Those of mailboxes that are well, by whomever, or not wanted any more."""
        plan = self._plan
        changing = {mailbox for mailbox, _ in (*plan.renew, *plan.replace)}
        for mailbox in self._keeper.troubled - changing.union(plan.create, (trouble.mailbox for trouble in plan.wait)):
            await self._keeper.memory.forget(mailbox)


def _clock() -> float:
    return asyncio.get_running_loop().time()


async def process_lifecycle(
    text: str, follow: Callable[[LifecycleNotification], Awaitable[None]], queues: Queues
) -> None:
    """Take one lifecycle message to its end: done, put back for later, or parked for a person to see.

    A sweep of our own is not parked: the next night's does the same, and there would be one more each night.
    Raises: Transient if the queue itself cannot be reached, so that the host brings the message back.
    """
    try:
        notification = parse_lifecycle_message(text)
    except Malformed as error:
        await park(queues, LIFECYCLE, text, error)
        return
    is_sweep = notification.event == "missed" and notification.subscription_id is None
    try:
        await follow(notification)
    except MailboxUnavailable as error:
        log.warning("mailbox unavailable mailbox=%s reason=%r", notification.mailbox, str(error))
    except (Transient, Misconfigured, Unvalidated) as error:
        again = replace(notification, attempt=notification.attempt + 1)
        if is_sweep and again.attempt > PARKS:
            log.warning("sweep given up mailbox=%s reason=%r", notification.mailbox, str(error))
        else:
            await put_back(queues, LIFECYCLE, build_lifecycle_message(again), again.attempt, error)
    except (Refused, Malformed) as error:
        if is_sweep:
            log.warning("sweep given up mailbox=%s reason=%r", notification.mailbox, str(error))
        else:
            await park(queues, LIFECYCLE, text, error)
