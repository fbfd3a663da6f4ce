"""Keeps the subscriptions: plans the roster and has it carried out, and follows lifecycle notifications.

Which subscriptions are wanted is decided in roster.py, a plan carried out in roster_run.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sync.calls.pace import Pace
from sync.errors import Duplicate, NotFound, OtherKey, SyncError, Transient, Unagreed
from sync.ids import mark_of
from sync.messages.changes import LifecycleNotification
from sync.subscriptions.deployment import Deployment, mailbox_of
from sync.subscriptions.outages import LastRun, Made, away_since, lifetime_to_ask, unreached_since
from sync.subscriptions.planning import LEAVERS_SHARE, Plan, plan_roster
from sync.subscriptions.run import Report, Run
from sync.subscriptions.writes import SHORTEST, Memory, Steps, Subscriptions, Sweeps, clock
from sync.telemetry import spans as telemetry

log = logging.getLogger(__name__)

BUDGET = 480.0
"""Seconds after which a run begins nothing more; the next one goes on where it stopped."""

SWEEPS_WITHIN = 90.0
"""Seconds beyond ``BUDGET`` to ask for the sweeps of all mailboxes after an outage.

Too short, and a run that used its whole budget never gets them asked for; too long, and the host ends the function.
"""

PATIENCE = 20.0
"""Seconds that a lifecycle notification may wait for its turn; after that its message is put back on the queue."""

WANTED_LATELY, UNWANTED_LATELY = timedelta(minutes=10), timedelta(seconds=30)
"""How long it is believed that a mailbox is wanted, or is not: one that just came is subscribed and swept at once.

So long it is also believed which subscriptions live: what happened before one was made is swept for a minute later.
"""

Note = Callable[[Plan, Report, datetime], Awaitable[None]]
"""Remembers for people how a run left the mailboxes; what it made or renewed lives until the time given."""


async def _note_nothing(plan: Plan, report: Report, lives_until: datetime) -> None:
    return None


KNOCK_AFTER = timedelta(minutes=30)
"""Since the last run, in which Graph has called the app most likely."""


@dataclass(frozen=True)
class _Look:
    """What a run is to do, and what it has to know of the ones before it."""

    at: datetime
    deadline: float
    """Of the whole run, by ``clock``."""
    plan: Plan
    last: LastRun | None
    is_last_known: bool
    """Whether there was none, if it is None."""
    made: frozenset[str]
    """The marks of what they made, and what was not listed since as it was made."""
    lifetime: timedelta
    """What the service allowed until now."""


@dataclass
class Keeper:
    """Keeps one right subscription for each wanted mailbox, and none for the others."""

    wanted: Callable[[], Awaitable[Sequence[str]]]
    subscriptions: Subscriptions
    deployment: Deployment
    memory: Memory
    sweeps: Sweeps
    now: Callable[[], datetime]
    leavers_share: float = LEAVERS_SHARE
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    progress: Callable[[int, int], None] = lambda done, of: None
    note: Note = _note_nothing

    def __post_init__(self) -> None:
        self.steps = Steps(self.subscriptions, self.memory, self.sweeps, self.now, sleep=self.sleep)
        self._wanted_lately: tuple[datetime, frozenset[str]] | None = None
        self._held_lately: tuple[datetime, frozenset[str]] | None = None

    async def plan(self) -> Plan:
        """What a run would do now. Raises: Transient, Refused if mailboxes or subscriptions cannot be listed."""
        return (await self._look()).plan

    async def _look(self, leavers_agreed: bool = False, is_app: bool = False) -> _Look:
        at, deadline = self.now(), clock() + BUDGET
        wanted, present, troubles, (last, is_last_known), made = await asyncio.gather(
            Pace(self.sleep).run(self._read_wanted, deadline),
            self.steps.list(deadline),
            self.memory.troubles(),
            self._read_last(),
            self.memory.made(),
        )
        self.steps.troubled = set(troubles)
        lifetime = self.steps.lifetime if last is None else max(last.lifetime, SHORTEST)
        if last is not None:
            self.steps.lifetime = max(lifetime_to_ask(last, at), SHORTEST)
        self.steps.is_lifetime_told = False
        known = made.ids if made is not None and made.deployment == self.deployment.mark else frozenset()
        plan = plan_roster(
            *(wanted, present, self.deployment, self.now(), troubles, lifetime),
            leavers_share=self.leavers_share,
            leavers_agreed=leavers_agreed,
            made=known.union(self.steps.made),
            knock=is_app and last is not None and abs(at - last.at) > KNOCK_AFTER,
        )
        return _Look(at, deadline, plan, last, is_last_known, known, lifetime)

    async def _read_last(self) -> tuple[LastRun | None, bool]:
        try:
            return await self.memory.last_run(), True
        except Transient as error:
            log.warning("the last run is not known reason=%r", str(error))
            return None, False

    async def keep(self) -> Report:
        """Carry out the plan, as the app does each hour, each mailbox's trouble its own; sweep all after an outage.

        Raises: Transient, Refused if mailboxes or subscriptions cannot be listed; Unagreed if too many mailboxes are to
        be left: all else is done then, and nothing is deleted.
        """
        report = await self._keep(await self._look(is_app=True), is_app=True)
        if report.refusal is not None:
            raise Unagreed(f"roster: {report.refusal}")
        return report

    async def apply(self, leavers_agreed: bool = False, new_key_agreed: bool = False) -> Report:
        """The same by a person, who may *agree* to more, and be at another machine with another key.

        The report says if too many mailboxes are to be left.
        Raises: Transient, Refused as ``keep`` does; OtherKey, with nothing changed, if most subscriptions have another
        key, and nobody agreed to it.
        """
        look = await self._look(leavers_agreed)
        if look.plan.other_key is not None and not new_key_agreed:
            raise OtherKey(f"roster: {look.plan.other_key}")
        return await self._keep(look, is_app=False)

    async def _keep(self, look: _Look, is_app: bool) -> Report:
        plan, last, began = look.plan, look.last, look.at
        if plan.refusal is not None:
            log.error("roster: %s", plan.refusal)
        if plan.mislisted:
            log.error("subscriptions are listed otherwise than they were made count=%d", len(plan.mislisted))
        report = Report(wanted=plan.wanted, refusal=plan.refusal)
        run = Run(self.steps, self.deployment, plan, report, look.deadline, self.progress)
        try:
            await run.carry_out()
        finally:
            await self._remember_made(look)
        since = away_since(last, began, run.is_reached)
        report.was_away = since is not None
        if since is not None:
            log.warning("the app was away, or out of reach: all mailboxes are swept")
            report.queued_sweeps = await self.sweeps.ask_all(within=look.deadline - clock() + SWEEPS_WITHIN)
        # Last of all: a run that did not come to its end has not been. Nor does a person's tell that the app was there.
        if look.is_last_known:
            at = began if is_app or report.was_away or last is None else last.at
            unreached = unreached_since(last, began, run.is_reached)
            lifetime = self.steps.lifetime if self.steps.is_lifetime_told else look.lifetime
            await self.memory.ran(LastRun(at, lifetime, plan.refusal is not None, unreached))
        await self.note(plan, report, began + self.steps.lifetime)
        log.info(
            "roster wanted=%d created=%d adopted=%d replaced=%d renewed=%d deleted=%d waiting=%d failed=%d left=%d",
            *(report.wanted, report.created, report.adopted, report.replaced, report.renewed, report.deleted),
            *(len(plan.wait), len(report.failed), report.left),
        )
        return report

    async def _remember_made(self, look: _Look) -> None:
        """Also if the run did not come to its end; what is made and not remembered may be replaced once."""
        made = frozenset(self.steps.made.union(map(mark_of, look.plan.mislisted)))
        self.steps.made.clear()
        if made != look.made:
            await self.memory.remember_made(Made(self.deployment.mark, made))

    async def follow(self, notification: LifecycleNotification) -> None:
        """Do what a lifecycle notification asks for; repeats are harmless, and leavers are left alone.

        Source: Graph, "Reduce missing subscriptions and change notifications": a renewal reauthorizes as well.
        """
        mailbox = notification.mailbox
        match notification:
            case LifecycleNotification(event="reauthorizationRequired"):
                reauthorize = partial(self._reauthorize, mailbox, notification.subscription_id)
                await self.steps.remembering(mailbox, reauthorize, lambda: True)
            case LifecycleNotification(event="subscriptionRemoved"):
                await self.steps.remembering(mailbox, partial(self._create_if_wanted, mailbox))
            case LifecycleNotification(event="missed"):
                await self.sweeps.ask(mailbox, origin=telemetry.origin())
            case _:
                log.warning("lifecycle event=%s mailbox=%s", notification.event, mailbox)

    async def looks_after(self, mailbox: str) -> bool:
        """Say whether *mailbox* is wanted, or still subscribed. Raises: Transient, Refused if that cannot be asked."""
        return await self._is_wanted(mailbox) or await self._is_subscribed(mailbox)

    async def _reauthorize(self, mailbox: str, subscription_id: str) -> None:
        if await self._is_to_end(mailbox):
            log.info("subscription not wanted any more mailbox=%s", mailbox)
            return
        if self.steps.is_renewed_lately(subscription_id):
            return
        try:
            await self.steps.renew(subscription_id, clock() + PATIENCE)
        except NotFound:
            await self._create_if_wanted(mailbox)

    async def _create_if_wanted(self, mailbox: str) -> None:
        if not await self._is_wanted(mailbox):
            log.info("subscription not wanted any more mailbox=%s", mailbox)
            return
        try:
            await self.steps.create(mailbox, clock() + PATIENCE)
        except Duplicate:
            log.info("subscription exists already mailbox=%s", mailbox)

    async def _is_to_end(self, mailbox: str) -> bool:
        """Whether the next run deletes what *mailbox* has; if nobody can tell, a renewal too many does less harm."""
        try:
            if await self._is_wanted(mailbox):
                return False
            last = await self.memory.last_run()
        except SyncError as error:
            log.warning("wanted or not is not known mailbox=%s reason=%r", mailbox, str(error))
            return False
        return last is None or not last.leavers_stay

    async def _is_wanted(self, mailbox: str) -> bool:
        if self._wanted_lately is not None:
            read, wanted = self._wanted_lately
            if self.now() - read <= (WANTED_LATELY if mailbox in wanted else UNWANTED_LATELY):
                return mailbox in wanted
        return mailbox in await self._read_wanted()

    async def _is_subscribed(self, mailbox: str) -> bool:
        """Whether a subscription of ours lives, as that of somebody does whom the query for mailboxes has left out."""
        if self._held_lately is None or self.now() - self._held_lately[0] > UNWANTED_LATELY:
            read, present = self.now(), await self.steps.list(clock() + PATIENCE)
            held = (each for each in present if self.deployment.owns(each) and each.expires > read)
            self._held_lately = read, frozenset(filter(None, map(mailbox_of, held)))
        return mailbox in self._held_lately[1]

    async def _read_wanted(self) -> Sequence[str]:
        read, wanted = self.now(), await self.wanted()
        self._wanted_lately = read, frozenset(wanted)
        return wanted
