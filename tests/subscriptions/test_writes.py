"""Single writes to subscriptions: how long they live, and what is swept for a creation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from sync.errors import Throttled
from sync.model import Subscription
from sync.subscriptions import run as roster_run
from sync.subscriptions.deployment import LIFETIME
from sync.subscriptions.outages import LastRun
from tests.world.fakes import ANNA, BEN, NOW

# The lifetime.


async def test_a_lifetime_that_is_refused_is_asked_for_once_and_the_allowed_one_remembered(desk):
    desk.graph.longest = timedelta(minutes=4_230)
    await desk.keeper(ANNA).keep()
    assert [held.expires for held in desk.graph.held.values()] == [NOW + timedelta(minutes=4_225)]
    assert desk.memory.last == LastRun(NOW, timedelta(minutes=4_225))
    desk.graph.calls.clear()
    await desk.keeper(ANNA, BEN).keep()
    assert desk.graph.writes == [("create", BEN)]


async def test_refusals_that_come_side_by_side_are_all_answered(desk):
    desk.graph.longest = timedelta(minutes=4_230)
    mailboxes = [f"{number:08}-0000-4000-8000-000000000000" for number in range(50)]
    report = await desk.keeper(*mailboxes).keep()
    assert (report.created, report.failed) == (50, {})
    assert len(desk.graph.writes) <= 50 + 16


async def test_the_whole_lifetime_is_asked_for_again_once_a_week(desk):
    """One odd answer would shorten all lifetimes for ever."""
    desk.graph.longest = timedelta(minutes=300)
    await desk.keeper(ANNA).keep()
    for hour in range(1, 24 * 8):
        desk.now = NOW + timedelta(hours=hour)
        desk.graph.longest = timedelta(minutes=300) + (desk.now - NOW)
        await desk.keeper(ANNA).keep()
        assert all(held.expires > desk.now for held in desk.graph.held.values())
    renewals = [call for call in desk.graph.writes if call[0] == "renew"]
    assert len(renewals) <= 24 * 8, "refused once or twice in that time"
    desk.graph.longest = timedelta(days=90)
    for hour in range(24 * 8, 24 * 16):
        desk.now = NOW + timedelta(hours=hour)
        await desk.keeper(ANNA).keep()
    assert desk.memory.last is not None
    assert desk.memory.last.lifetime == LIFETIME
    assert min(held.expires for held in desk.graph.held.values()) > desk.now + LIFETIME / 3


async def test_a_lifetime_that_nobody_was_asked_for_is_not_taken_for_allowed(desk):
    await desk.memory.ran(LastRun(NOW - timedelta(days=8), timedelta(minutes=4_225)))
    await desk.keeper().keep()
    assert desk.memory.last == LastRun(NOW, timedelta(minutes=4_225))


async def test_a_lifetime_shorter_than_the_time_between_two_runs_is_no_lifetime(desk):
    desk.graph.longest = timedelta(minutes=45)
    report = await desk.keeper(ANNA).keep()
    assert list(report.failed) == [ANNA]
    assert desk.memory.last == LastRun(NOW, LIFETIME)


# The sweep after a creation.


async def test_a_creation_that_had_to_wait_is_swept_after_it(desk, monkeypatch):
    """Or what happened between the sweep that was queued before the wait and the creation would be lost."""
    monkeypatch.setattr(roster_run, "SWEEP_AFTER", 0.2)
    times: list[tuple[str, float]] = []
    send, create = desk.queues.send, desk.graph.create

    async def sent(queue: str, messages: Sequence[str], hidden: float = 0) -> None:
        times.append(("seen", time.monotonic() + hidden))
        await send(queue, messages, hidden)

    async def created(mailbox: str, expires: datetime, beside: Subscription | None = None) -> str | None:
        made = await create(mailbox, expires, beside)
        times.append(("created", time.monotonic()))
        return made

    desk.queues.send, desk.graph.create = sent, created
    desk.graph.trouble[ANNA] = [Throttled("429", 0.5)]
    keeper = desk.keeper(ANNA)
    keeper.steps.pace._sleep = asyncio.sleep
    await keeper.keep()
    assert len(desk.graph.held) == 1
    assert max(at for what, at in times if what == "seen") > next(at for what, at in times if what == "created")
