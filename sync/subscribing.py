"""Keeps the subscriptions: plans the roster and has it carried out, and follows lifecycle notifications.

Which subscriptions are wanted is decided in roster.py, a plan carried out in roster_run.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from sync import telemetry
from sync.differences import Difference
from sync.errors import (
    Duplicate,
    MailboxUnavailable,
    Malformed,
    Misconfigured,
    NotFound,
    OtherKey,
    Refused,
    Transient,
    Unagreed,
    Unvalidated,
)
from sync.model import LifecycleNotification
from sync.notifications import LIFECYCLE, build_lifecycle_message, parse_lifecycle_message
from sync.parking import PARKS, Queues, park, put_back
from sync.roster import LEAVERS_SHARE, Deployment, LastRun, Plan, plan_roster, without_replacements
from sync.roster_run import Report, Run
from sync.steps import SHORTEST, Memory, Steps, Subscriptions, clock

log = logging.getLogger(__name__)

BUDGET = 480.0
"""Seconds after which a run begins nothing more; the next one goes on where it stopped."""

PATIENCE = 20.0
"""Seconds that a lifecycle notification may wait for its turn; after that its message is put back on the queue."""

A_FEW = 3
"""More replacements than this are made once for one URL and key: if Graph's list should not show them as they were
made, they would seem wrong for ever, and each replacement costs two handshakes and perhaps a gap."""

WANTED_LATELY, UNWANTED_LATELY = timedelta(minutes=10), timedelta(seconds=30)
"""How long it is believed that a mailbox is wanted, or is not: one that just came is subscribed and swept at once."""

OUTAGE = timedelta(hours=3)
"""A timer that runs each hour and has not for so long was away; so were the answers to Graph."""

SKEW = timedelta(minutes=5)
"""Between two machines' clocks. A last run later than that was noted by a clock that was wrong, so nobody knows when
it was, and the app counts as away."""

FOLLOW_WITHIN = 240.0
"""Seconds for one lifecycle notification, sweep included; the host ends a function after ten minutes (host.json)."""


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
    leavers_share: float = LEAVERS_SHARE
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    progress: Callable[[int, int], None] = lambda done, of: None

    def __post_init__(self) -> None:
        self.steps = Steps(self.subscriptions, self.memory, self.queues, self.now, sleep=self.sleep)
        self._wanted_lately: tuple[datetime, frozenset[str]] | None = None

    async def plan(self) -> Plan:
        """What a run would do now. Raises: Transient, Refused if mailboxes or subscriptions cannot be listed."""
        plan, _ = await self._plan()
        return plan

    async def _plan(self) -> tuple[Plan, LastRun | None]:
        wanted, present, troubles, last = await asyncio.gather(
            self._read_wanted(), self.subscriptions.list(), self.memory.troubles(), self.memory.last_run()
        )
        self.steps.troubled = set(troubles)
        if last is not None:
            self.steps.lifetime = max(min(self.steps.lifetime, last.lifetime), SHORTEST)
        lifetime = self.steps.lifetime
        plan = plan_roster(
            wanted, present, self.deployment, self.now(), troubles, lifetime, leavers_share=self.leavers_share
        )
        return plan, last

    async def keep(self, leavers_agreed: bool = False, new_key_agreed: bool = True) -> Report:
        """Carry out the plan, each mailbox's trouble its own; after an outage, have all mailboxes swept.

        The app itself knows its own key; a person at another machine may have another one.
        Raises: Transient, Refused if mailboxes or subscriptions cannot be listed; Unagreed, with nothing changed, if
        too many mailboxes are to be left, or most subscriptions have another key, and nobody *agreed* to it.
        """
        deadline = clock() + BUDGET
        began = self.now()
        plan, last = await self._plan()
        if plan.refusal is not None and not leavers_agreed:
            raise Unagreed(f"roster: {plan.refusal}")
        if plan.other_key is not None and not new_key_agreed:
            raise OtherKey(f"roster: {plan.other_key}")
        replaced_for = last.replaced_for if last is not None else ""
        if len(plan.replace) > A_FEW and replaced_for == self.deployment.mark:
            log.error("subscriptions are listed otherwise than they were made count=%d", len(plan.replace))
            plan = without_replacements(plan, self.now(), self.steps.lifetime)
        report = Report(wanted=plan.wanted, was_away=last is not None and not -SKEW <= began - last.at <= OUTAGE)
        await Run(self.steps, self.deployment, plan, report, deadline, self.progress).carry_out()
        if report.replaced > A_FEW and not report.left:
            replaced_for = self.deployment.mark
        if report.was_away:
            log.warning("the app was away: all mailboxes are swept")
            report.queued_sweeps = await self.sweep_all()
        # Last of all: a run that did not come to its end has not been.
        await self.memory.ran(LastRun(began, self.steps.lifetime, replaced_for))
        failed, waiting = len(report.failed), len(plan.wait)
        kept = report.wanted - failed - waiting - report.left
        for state, count in {"kept": kept, "failed": failed, "waiting": waiting, "left": report.left}.items():
            telemetry.measure(telemetry.SUBSCRIPTIONS, count, state=state)
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
        mailbox, until = notification.mailbox, clock() + PATIENCE
        match notification:
            case LifecycleNotification(event="reauthorizationRequired", subscription_id=str(subscription_id)):
                await self.steps.remembering(mailbox, partial(self._reauthorize, mailbox, subscription_id, until))
            case LifecycleNotification(event="subscriptionRemoved"):
                await self.steps.remembering(mailbox, partial(self._create_if_wanted, mailbox, until))
            case LifecycleNotification(event="missed"):
                if await self._is_wanted(mailbox):
                    await self.sweep(mailbox)
            case _:
                log.warning("lifecycle event=%s mailbox=%s", notification.event, mailbox)

    async def _reauthorize(self, mailbox: str, subscription_id: str, until: float) -> None:
        if self.steps.is_renewed_lately(subscription_id):
            return
        try:
            await self.steps.renew(subscription_id, until)
        except NotFound:
            await self._create_if_wanted(mailbox, until)

    async def _create_if_wanted(self, mailbox: str, until: float) -> None:
        if not await self._is_wanted(mailbox):
            log.info("subscription not wanted any more mailbox=%s", mailbox)
            return
        try:
            await self.steps.create(mailbox, until)
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
    again = replace(notification, attempt=notification.attempt + 1)
    is_sweep = notification.event == "missed" and notification.subscription_id is None
    try:
        async with asyncio.timeout(FOLLOW_WITHIN):
            await follow(notification)
    except TimeoutError:
        late = Transient("it took too long")
        await put_back(queues, LIFECYCLE, build_lifecycle_message(again), again.attempt, late)
    except MailboxUnavailable as error:
        log.warning("mailbox unavailable mailbox=%s reason=%r", notification.mailbox, str(error))
    except (Transient, Misconfigured, Unvalidated) as error:
        if is_sweep and again.attempt > PARKS:
            log.warning("sweep given up mailbox=%s reason=%r", notification.mailbox, str(error))
        else:
            await put_back(queues, LIFECYCLE, build_lifecycle_message(again), again.attempt, error)
    except (Refused, Malformed) as error:
        if is_sweep:
            log.warning("sweep given up mailbox=%s reason=%r", notification.mailbox, str(error))
        else:
            await park(queues, LIFECYCLE, text, error)
