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

from aiolimiter import AsyncLimiter

from sync.errors import (
    Duplicate,
    LifetimeRefused,
    MailboxUnavailable,
    Malformed,
    Misconfigured,
    NotFound,
    Refused,
    SyncError,
    Transient,
    Unagreed,
)
from sync.model import LifecycleNotification, Subscription
from sync.notifications import LIFECYCLE, build_lifecycle_message, parse_lifecycle_message
from sync.parking import Queues, park, put_back
from sync.roster import LIFETIME, Deployment, LastRun, Plan, Trouble, plan_roster
from sync.sweep import Difference

log = logging.getLogger(__name__)

WRITES = 900
WRITES_WITHIN = 20.0
"""Writes to subscriptions in so many seconds. Graph allows one app 1,000 in a tenant. Source: "Throttling limits"."""

CONCURRENCY = 16
"""Each creation calls the app back twice, for the handshake, before it is answered."""

TRIES = 4
"""Of one write in one run while Graph throttles or is not to be reached."""

BUDGET = 480.0
"""Seconds after which a run begins nothing more; the next one goes on where it stopped."""

RENEWED_LATELY = timedelta(minutes=10)
"""Within this time of a renewal a reauthorization is not to be asked for, and is not needed either.

Source: Graph, "Reduce missing subscriptions and change notifications".
"""

SWEEP_AFTER = 60.0
"""Seconds from a new subscription to the sweep for what happened before it."""

OUTAGE = timedelta(hours=3)
"""A timer that runs each hour and has not for so long was away; so were the answers to Graph."""


class Subscriptions(Protocol):
    async def list(self) -> Sequence[Subscription]:
        """Raises: Transient, Refused."""

    async def create(self, mailbox: str, expires: datetime, beside: Subscription | None = None) -> None:
        """Raises: Duplicate, LifetimeRefused, MailboxUnavailable, Transient, Refused."""

    async def renew(self, subscription_id: str, expires: datetime) -> None:
        """Raises: NotFound, LifetimeRefused, MailboxUnavailable, Transient, Refused."""

    async def delete(self, subscription_id: str) -> None:
        """Raises: Transient, Refused."""


class Memory(Protocol):
    """What is known between runs; losing it costs tries, nothing else."""

    async def troubles(self) -> Mapping[str, Trouble]: ...

    async def remember(self, mailbox: str, reason: str, now: datetime) -> None:
        """One more try of *mailbox* has failed."""

    async def forget(self, mailbox: str) -> None: ...

    async def last_run(self) -> LastRun | None: ...

    async def ran(self, run: LastRun) -> None: ...


@dataclass
class Report:
    """What a run did; ``failed`` says why for each mailbox, ``left`` counts what was not begun in time."""

    wanted: int = 0
    created: int = 0
    replaced: int = 0
    renewed: int = 0
    deleted: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    left: int = 0
    was_away: bool = False


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
    lifetime: timedelta = LIFETIME
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    progress: Callable[[int, int], None] = lambda done, of: None

    def __post_init__(self) -> None:
        self._pace = AsyncLimiter(WRITES, WRITES_WITHIN)
        self._pause_until = 0.0
        self._renewed: dict[str, datetime] = {}
        self._troubled: frozenset[str] = frozenset()
        self._wanted_lately: tuple[datetime, frozenset[str]] | None = None

    async def plan(self) -> Plan:
        """What a run would do now. Raises: Transient, Refused if mailboxes or subscriptions cannot be listed."""
        wanted, present, troubles = await asyncio.gather(
            self.wanted(), self.subscriptions.list(), self.memory.troubles()
        )
        self._troubled = frozenset(troubles)
        return plan_roster(wanted, present, self.deployment, self.now(), troubles, self.lifetime)

    async def keep(self, leavers_agreed: bool = False) -> Report:
        """Carry out the plan, each mailbox's trouble its own.

        Raises: Transient, Refused if mailboxes or subscriptions cannot be listed; Unagreed, with nothing changed, if
        too many mailboxes are to be left and nobody *agreed* to it.
        """
        began, last = self.now(), await self.memory.last_run()
        if last is not None:
            self.lifetime = min(self.lifetime, last.lifetime)
        plan = await self.plan()
        if plan.refusal is not None and not leavers_agreed:
            raise Unagreed(f"roster: {plan.refusal}")
        report = Report(wanted=plan.wanted, was_away=last is not None and began - last.at > OUTAGE)
        await self._carry_out(plan, report)
        await self.memory.ran(LastRun(began, self.lifetime))
        log.info(
            "roster wanted=%d created=%d replaced=%d renewed=%d deleted=%d waiting=%d failed=%d left=%d",
            *(report.wanted, report.created, report.replaced, report.renewed, report.deleted),
            *(len(plan.wait), len(report.failed), report.left),
        )
        return report

    async def follow(self, notification: LifecycleNotification) -> None:
        """Do what a lifecycle notification asks for; repeats are harmless.

        Source: Graph, "Reduce missing subscriptions and change notifications": a renewal reauthorizes as well.
        """
        match notification:
            case LifecycleNotification(event="reauthorizationRequired", subscription_id=str(subscription_id)):
                renewed = self._renewed.get(subscription_id)
                if renewed is None or self.now() - renewed > RENEWED_LATELY:
                    await self._renew_or_create(notification.mailbox, subscription_id)
            case LifecycleNotification(event="subscriptionRemoved"):
                await self._create_if_wanted(notification.mailbox)
            case LifecycleNotification(event="missed"):
                await self.sweep(notification.mailbox)
            case _:
                log.warning("lifecycle event=%s mailbox=%s", notification.event, notification.mailbox)

    # --- carrying out a plan ---

    async def _carry_out(self, plan: Plan, report: Report) -> None:
        """Do all steps of *plan* side by side, the most urgent first, as long as the budget lasts."""
        steps = self._steps(plan, report)
        left = iter(steps)
        clock = asyncio.get_running_loop().time
        deadline = clock() + BUDGET
        done = 0

        async def work() -> None:
            nonlocal done
            for mailbox, act in left:
                if clock() > deadline:
                    report.left += 1
                    continue
                await self._attempt(mailbox, act, report)
                done += 1
                self.progress(done, len(steps))

        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))

    def _steps(self, plan: Plan, report: Report) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        async def create(mailbox: str) -> None:
            await self._create(mailbox, mailbox in plan.elsewhere)
            report.created += 1

        async def replace_(mailbox: str, old: Subscription) -> None:
            await self._replace(mailbox, old)
            report.replaced += 1

        async def renew(mailbox: str, held: Subscription) -> None:
            await self._renew_or_create(mailbox, held.id)
            report.renewed += 1

        async def delete(held: Subscription) -> None:
            await self._write(lambda: self.subscriptions.delete(held.id))
            report.deleted += 1

        return [
            *((mailbox, partial(create, mailbox)) for mailbox in plan.create),
            *((mailbox, partial(renew, mailbox, held)) for mailbox, held in plan.renew),
            *((mailbox, partial(replace_, mailbox, held)) for mailbox, held in plan.replace),
            *((held.resource, partial(delete, held)) for held in plan.spare),
            *((mailbox, partial(delete, held)) for mailbox, held in plan.leave),
        ]

    async def _attempt(self, mailbox: str, act: Callable[[], Awaitable[None]], report: Report) -> None:
        """One step; what goes wrong with it is noted, and remembered if another try would give the same."""
        try:
            await act()
        except Misconfigured:
            raise  # nobody's own trouble: it would be that of all
        except SyncError as error:
            report.failed[mailbox] = str(error)
            log.error("subscription not kept mailbox=%s reason=%r", mailbox, str(error))

    async def _create(self, mailbox: str, is_elsewhere: bool = False) -> None:
        """Subscribe, and have what happened before that swept.

        The sweep is queued first, so that no crash can come between. What another run has subscribed meanwhile is
        adopted: if it should not be right, the next run sees that.
        """
        swept = LifecycleNotification(mailbox, None, "missed")
        await self.queues.send(LIFECYCLE, [build_lifecycle_message(swept)], hidden=SWEEP_AFTER)
        try:
            await self._subscribe(mailbox)
        except Duplicate as error:
            if is_elsewhere:
                await self.memory.remember(mailbox, "another deployment of this app is subscribed", self.now())
                raise Refused(f"another deployment of this app is subscribed: {error}") from None
            log.info("subscription exists already mailbox=%s", mailbox)
        except Refused as error:
            await self.memory.remember(mailbox, str(error), self.now())
            raise
        if mailbox in self._troubled:
            await self.memory.forget(mailbox)

    async def _create_if_wanted(self, mailbox: str) -> None:
        now = self.now()
        if self._wanted_lately is None or now - self._wanted_lately[0] > RENEWED_LATELY:
            self._wanted_lately = now, frozenset(await self.wanted())
        if mailbox in self._wanted_lately[1]:
            await self._create(mailbox)

    async def _subscribe(self, mailbox: str, beside: Subscription | None = None) -> None:
        await self._live_as_long_as_allowed(lambda expires: self.subscriptions.create(mailbox, expires, beside))

    async def _replace(self, mailbox: str, old: Subscription) -> None:
        """The new one first, then the old one goes; repeated notifications in between are harmless.

        Where Graph takes the second for a duplicate, the old one goes first, and the gap is swept.
        """
        try:
            await self._subscribe(mailbox, beside=old)
        except Duplicate:
            await self._write(lambda: self.subscriptions.delete(old.id))
            await self._create(mailbox)
        else:
            await self._write(lambda: self.subscriptions.delete(old.id))

    async def _renew_or_create(self, mailbox: str, subscription_id: str) -> None:
        try:
            await self._live_as_long_as_allowed(lambda expires: self.subscriptions.renew(subscription_id, expires))
        except NotFound:
            await self._create(mailbox)
        else:
            self._renewed[subscription_id] = self.now()

    async def _live_as_long_as_allowed(self, write: Callable[[datetime], Awaitable[None]]) -> None:
        """*write* with the expiration asked for; if that is refused, with what is allowed, from then on."""
        try:
            await self._write(lambda: write(self.now() + self.lifetime))
        except LifetimeRefused as error:
            allowed = timedelta(minutes=error.minutes - 5)
            if allowed >= self.lifetime:
                raise
            log.warning("subscriptions live for %d minutes at most here", error.minutes)
            self.lifetime = allowed
            await self._write(lambda: write(self.now() + self.lifetime))

    async def _write(self, write: Callable[[], Awaitable[None]]) -> None:
        """One write within Graph's limits; when it throttles, all writes of the run wait."""
        for attempt in range(1, TRIES + 1):
            loop = asyncio.get_running_loop()
            while (pause := self._pause_until - loop.time()) > 0:
                await self.sleep(pause)
            async with self._pace:
                try:
                    return await write()
                except Transient as error:
                    if attempt == TRIES:
                        raise
                    if error.retry_after is not None:
                        self._pause_until = max(self._pause_until, loop.time() + error.retry_after)
        return None


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
