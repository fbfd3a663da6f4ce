"""Keeps one right subscription for each wanted mailbox: plans a run, has it carried out, and remembers it.

Planning is decided in planning.py. How a plan is carried out stands in run.py. Lifecycle notifications are followed in
lifecycle.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sync.calls.pace import Pace
from sync.errors import OtherKey, Transient, Unagreed
from sync.ids import short_id_of
from sync.subscriptions.deployment import Deployment
from sync.subscriptions.lifecycle import Lifecycle
from sync.subscriptions.outages import LastRun, Made, away_since, lifetime_to_ask, unreached_since
from sync.subscriptions.planning import LEAVERS_SHARE, Plan, Situation, Terms, plan_subscriptions
from sync.subscriptions.result import Result
from sync.subscriptions.run import Limits, Run
from sync.subscriptions.troubles import Memory, Troubles
from sync.subscriptions.wanted import Wanted
from sync.subscriptions.writes import SHORTEST, Service, Subscriptions, Sweeps, clock

log = logging.getLogger(__name__)

BUDGET = 480.0
"""Seconds after which a run begins no more steps; the next one goes on where it stopped.

Too short, and thousands of mailboxes take several hours; too long, and the host ends the function, after ten minutes.
"""

SWEEPS_WITHIN = 90.0
"""Seconds beyond ``BUDGET`` to ask for the sweeps of all mailboxes after an outage.

Too short, and a run that used its whole budget never gets them asked for; too long, and the host ends the function.
"""

KNOCK_AFTER = timedelta(minutes=30)
"""Time since the last run after which a run renews one subscription early, so that Graph calls the app.

Too short, and commands typed one after the other cost renewals; too long, and an outage is noticed late.
"""

Note = Callable[[Plan, Result, datetime], Awaitable[None]]
"""Shows people how a run left the mailboxes. Subscriptions that it made or renewed live until the time given."""


async def _note_nothing(plan: Plan, result: Result, lives_until: datetime) -> None:
    return None


@dataclass(frozen=True)
class _Begun:
    """A run at its beginning."""

    at: datetime
    deadline: float
    """The end of the whole run, by ``clock``."""
    situation: Situation
    plan: Plan
    last: LastRun | None
    is_last_known: bool
    """Whether ``last`` is known; if it is None then, there was no run before."""
    remembered: frozenset[str]
    """Short ids of the subscriptions that earlier runs made, and that were not listed as they were made."""


@dataclass
class Keeper:
    """Keeps one right subscription for each wanted mailbox, and none for the others."""

    wanted: Callable[[], Awaitable[Sequence[str]]]
    """Reads the wanted mailboxes. Raises: Transient, Refused."""
    subscriptions: Subscriptions
    deployment: Deployment
    memory: Memory
    sweeps: Sweeps
    now: Callable[[], datetime]
    progress: Callable[[int, int], None] = lambda done, of: None
    note: Note = _note_nothing
    leavers_share: float = LEAVERS_SHARE
    budget: float = BUDGET
    limits: Limits = field(default_factory=Limits)
    make_pace: Callable[[], Pace] = Pace

    def __post_init__(self) -> None:
        """Build the parts that one process has once."""
        self.service = Service(self.subscriptions, self.sweeps, self.now, self.make_pace())
        self.troubles = Troubles(self.memory, self.now)
        self.roster = Wanted(self.wanted, self.service, self.deployment, self.now)
        self.lifecycle = Lifecycle(self.service, self.roster, self.troubles)

    async def plan(self) -> Plan:
        """Return what a run would do now. Raises: Transient, Refused if mailboxes or subscriptions cannot be listed."""
        return (await self._begin()).plan

    async def keep(self) -> Result:
        """Carry out the plan, as the app does each hour; after an outage have all mailboxes swept.

        Raises: Transient, Refused if mailboxes or subscriptions cannot be listed; Unagreed if too many mailboxes are
        not wanted any more: all else is done then, and nothing is deleted.
        """
        result = await self._carry_out(await self._begin(is_timer=True), is_timer=True)
        if result.refusal is not None:
            raise Unagreed(f"roster: {result.refusal}")
        return result

    async def apply(self, leavers_agreed: bool = False, new_key_agreed: bool = False) -> Result:
        """Do the same by a person, who may agree to more, and be at a machine with another key.

        The result says if too many mailboxes are not wanted any more.
        Raises: Transient, Refused as ``keep`` does; OtherKey, with nothing changed, if most subscriptions have another
        key, and the person has not agreed to that.
        """
        begun = await self._begin(leavers_agreed)
        if begun.plan.other_key is not None and not new_key_agreed:
            raise OtherKey(f"roster: {begun.plan.other_key}")
        return await self._carry_out(begun, is_timer=False)

    async def _begin(self, leavers_agreed: bool = False, is_timer: bool = False) -> _Begun:
        """Read what there is, and plan. Only the timer's runs knock: a person's leave no trace of their own."""
        at, deadline = self.now(), clock() + self.budget
        wanted, present, troubles, (last, is_last_known), made = await asyncio.gather(
            self.make_pace().run(self.roster.read, deadline),
            self.service.list(deadline),
            self.memory.troubles(),
            self._read_last(),
            self.memory.made(),
        )
        self.troubles.mailboxes = set(troubles)
        known = made.ids if made is not None and made.deployment == self.deployment.fingerprint else frozenset()
        situation = Situation(
            wanted=wanted,
            present=present,
            deployment=self.deployment,
            at=self.now(),
            troubles=troubles,
            lifetime=self._allowed_lifetime(last, at),
            made=known | self.service.made,
        )
        is_long_ago = last is not None and abs(at - last.at) > KNOCK_AFTER
        terms = Terms(self.leavers_share, leavers_agreed, knock=is_timer and is_long_ago)
        return _Begun(at, deadline, situation, plan_subscriptions(situation, terms), last, is_last_known, known)

    def _allowed_lifetime(self, last: LastRun | None, at: datetime) -> timedelta:
        """Return the lifetime that Graph has allowed until now, and have the service ask for the right one."""
        self.service.is_lifetime_told = False
        if last is None:
            return self.service.lifetime
        self.service.lifetime = max(lifetime_to_ask(last, at), SHORTEST)
        return max(last.lifetime, SHORTEST)

    async def _read_last(self) -> tuple[LastRun | None, bool]:
        try:
            return await self.memory.last_run(), True
        except Transient as error:
            log.warning("the last run is not known reason=%r", str(error))
            return None, False

    async def _carry_out(self, begun: _Begun, is_timer: bool) -> Result:
        plan = begun.plan
        if plan.refusal is not None:
            log.error("roster: %s", plan.refusal)
        if plan.mislisted:
            log.error("subscriptions are listed otherwise than they were made count=%d", len(plan.mislisted))
        run = Run(plan, self.service, self.troubles, begun.deadline, self.progress, self.limits)
        try:
            result = await run.carry_out(self.deployment)
        finally:
            await self._remember_made(begun)
        result = await self._after_outage(begun, result)
        # Remembered last of all: a run that did not come to its end counts as none.
        await self._remember_run(begun, result, is_timer)
        await self.note(plan, result, begun.at + self.service.lifetime)
        _log(plan, result)
        return result

    async def _after_outage(self, begun: _Begun, result: Result) -> Result:
        """Have all mailboxes swept if the app was away. Raises: Transient, Refused; then the next run tries again."""
        if away_since(begun.last, begun.at, result.is_reached) is None:
            return result
        log.warning("the app was away, or out of reach: all mailboxes are swept")
        queued = await self.sweeps.ask_all(begun.deadline - clock() + SWEEPS_WITHIN, after_gap=True)
        return replace(result, was_away=True, queued_sweeps=queued)

    async def _remember_run(self, begun: _Begun, result: Result, is_timer: bool) -> None:
        """Note this run, unless it is not known whether there was one before: an outage would be forgotten.

        A person's run does not tell that the app was there. So it keeps the time of the last one, unless it has had all
        mailboxes swept.
        """
        if not begun.is_last_known:
            return
        last = begun.last
        await self.memory.ran(
            LastRun(
                at=begun.at if is_timer or result.was_away or last is None else last.at,
                lifetime=self.service.lifetime if self.service.is_lifetime_told else begun.situation.lifetime,
                leavers_stay=begun.plan.refusal is not None,
                unreached_since=unreached_since(last, begun.at, result.is_reached),
            )
        )

    async def _remember_made(self, begun: _Begun) -> None:
        """Note what was made, also if the run did not come to its end.

        A subscription that is not noted may be replaced once.
        """
        made = frozenset(self.service.made.union(map(short_id_of, begun.plan.mislisted)))
        self.service.made.clear()
        if made != begun.remembered:
            await self.memory.remember_made(Made(self.deployment.fingerprint, made))


def _log(plan: Plan, result: Result) -> None:
    counts = {
        "wanted": result.wanted,
        "created": result.created,
        "adopted": result.adopted,
        "replaced": result.replaced,
        "renewed": result.renewed,
        "deleted": result.deleted,
        "waiting": len(plan.wait),
        "failed": len(result.failed),
        "not_begun": result.not_begun,
    }
    log.info("roster %s", " ".join(f"{name}={count}" for name, count in counts.items()))
