"""Single writes to subscriptions: how long they live, and what is swept for a creation."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta

from sync.errors import Throttled
from sync.model import Subscription
from sync.subscriptions.deployment import LIFETIME
from sync.subscriptions.outages import LastRun
from sync.subscriptions.run import Limits
from tests.world.fakes import ANNA, BEN, NOW

# The lifetime.


async def test_a_lifetime_that_is_refused_is_asked_for_once_and_the_allowed_one_remembered(keeping):
    keeping.graph.longest = timedelta(minutes=4_230)
    await keeping.keeper(ANNA).keep()
    assert [held.expires for held in keeping.graph.held.values()] == [NOW + timedelta(minutes=4_225)]
    assert keeping.memory.last == LastRun(NOW, timedelta(minutes=4_225))
    keeping.graph.calls.clear()
    await keeping.keeper(ANNA, BEN).keep()
    assert keeping.graph.writes == [("create", BEN)]


async def test_refusals_that_come_side_by_side_are_all_answered(keeping):
    keeping.graph.longest = timedelta(minutes=4_230)
    mailboxes = [f"{number:08}-0000-4000-8000-000000000000" for number in range(50)]
    report = await keeping.keeper(*mailboxes).keep()
    assert (report.created, report.failed) == (50, {})
    assert len(keeping.graph.writes) <= 50 + 16


async def test_the_whole_lifetime_is_asked_for_again_once_a_week(keeping):
    """One odd answer would shorten all lifetimes for ever."""
    keeping.graph.longest = timedelta(minutes=300)
    await keeping.keeper(ANNA).keep()
    for hour in range(1, 24 * 8):
        keeping.now = NOW + timedelta(hours=hour)
        keeping.graph.longest = timedelta(minutes=300) + (keeping.now - NOW)
        await keeping.keeper(ANNA).keep()
        assert all(held.expires > keeping.now for held in keeping.graph.held.values())
    renewals = [call for call in keeping.graph.writes if call[0] == "renew"]
    assert len(renewals) <= 24 * 8, "refused once or twice in that time"
    keeping.graph.longest = timedelta(days=90)
    for hour in range(24 * 8, 24 * 16):
        keeping.now = NOW + timedelta(hours=hour)
        await keeping.keeper(ANNA).keep()
    assert keeping.memory.last is not None
    assert keeping.memory.last.lifetime == LIFETIME
    assert min(held.expires for held in keeping.graph.held.values()) > keeping.now + LIFETIME / 3


async def test_a_lifetime_that_nobody_was_asked_for_is_not_taken_for_allowed(keeping):
    await keeping.memory.ran(LastRun(NOW - timedelta(days=8), timedelta(minutes=4_225)))
    await keeping.keeper().keep()
    assert keeping.memory.last == LastRun(NOW, timedelta(minutes=4_225))


async def test_a_lifetime_shorter_than_the_time_between_two_runs_is_no_lifetime(keeping):
    keeping.graph.longest = timedelta(minutes=45)
    report = await keeping.keeper(ANNA).keep()
    assert list(report.failed) == [ANNA]
    assert keeping.memory.last == LastRun(NOW, LIFETIME)


# The sweep after a creation.


async def test_a_creation_that_had_to_wait_is_swept_after_it(keeping):
    """Or what happened between the sweep that was queued before the wait and the creation would be lost."""
    keeping.limits, keeping.sleep = Limits(sweep_after=0.2), asyncio.sleep
    times: list[tuple[str, float]] = []
    ask, create = keeping.sweeps.ask, keeping.graph.create

    async def asked(mailbox: str, after: float = 0.0) -> None:
        times.append(("seen", time.monotonic() + after))
        await ask(mailbox, after)

    async def created(mailbox: str, expires: datetime, beside: Subscription | None = None) -> str | None:
        made = await create(mailbox, expires, beside)
        times.append(("created", time.monotonic()))
        return made

    keeping.sweeps.ask, keeping.graph.create = asked, created
    keeping.graph.trouble[ANNA] = [Throttled("429", 0.5)]
    keeper = keeping.keeper(ANNA)
    await keeper.keep()
    assert len(keeping.graph.held) == 1
    assert max(at for what, at in times if what == "seen") > next(at for what, at in times if what == "created")
