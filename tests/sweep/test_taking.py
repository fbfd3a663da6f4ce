"""Requests for sweeps are taken: swept, put back, or given up; and a flood of them costs two sweeps."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import timedelta

import pytest

from sync.errors import MailboxUnavailable, Malformed, Misconfigured, Refused, SyncError, Transient
from sync.messages.changes import SweepRequest
from sync.messages.codec import SWEEPS, build_sweep_message, parse_sweep_message
from sync.messages.parking import PARKS
from sync.model import Event
from sync.sweep.taking import SweepTaker
from tests.world.app import HOUR, is_in_step
from tests.world.fakes import ANNA, QueuesInMemory
from tests.world.sweeping import be_deaf, hire, pairs_of

LIST = r"^/users/[^/]+/events$"


async def test_a_sweep_that_takes_too_long_is_put_back(app):
    (ana,) = hire(app, "Ana")
    await app.keeper.keep()
    app.inbox.messages.clear()
    app.sweeper.patience = 0.05

    async def hangs(mailbox: str) -> list[Event]:
        await asyncio.Event().wait()
        return []

    app.sweeper.events.with_extension = hangs
    await app.rounds.ask_all()
    await app.work()
    [put_back] = map(parse_sweep_message, app.inbox.of(SWEEPS))
    assert (put_back.mailbox, put_back.attempt) == (ana.mailbox.id, 1)


async def anybody(mailbox: str) -> bool:
    return True


def taker(error: SyncError | None = None, within: float = 60.0) -> SweepTaker:
    """A taker whose sweeps raise *error*, or last for ever if there is none."""

    async def sweep(mailbox: str) -> None:
        if error is not None:
            raise error
        await asyncio.Event().wait()

    return SweepTaker(sweep, anybody, QueuesInMemory(), within)


@pytest.mark.parametrize("error", [Transient("503"), Misconfigured("no token"), Refused("403"), Malformed("no list")])
async def test_a_sweep_that_never_comes_through_is_given_up_as_the_next_night_brings_another(error, caplog):
    taking = taker(error)
    await taking.take(build_sweep_message(SweepRequest(ANNA, attempt=PARKS)))
    assert taking.queues.sent == []
    assert f"sweep given up mailbox={ANNA}" in caplog.text


@pytest.mark.parametrize("error", [Transient("503", retry_after=400.0), Misconfigured("no token")], ids=repr)
async def test_a_sweep_that_may_work_later_is_put_back_and_counted(error):
    taking = taker(error)
    await taking.take(build_sweep_message(SweepRequest(ANNA, attempt=1)))
    [(queue, message, hidden)] = taking.queues.sent
    assert (queue, parse_sweep_message(message)) == (SWEEPS, SweepRequest(ANNA, attempt=2))
    assert hidden >= (getattr(error, "retry_after", None) or 30)


async def test_a_sweep_that_does_not_end_is_put_back():
    taking = taker(within=0.05)
    await taking.take(build_sweep_message(SweepRequest(ANNA)))
    assert [parse_sweep_message(text) for text in taking.queues.of(SWEEPS)] == [SweepRequest(ANNA, attempt=1)]


async def test_a_mailbox_that_is_out_of_reach_is_not_swept_for_again(caplog):
    taking = taker(MailboxUnavailable("403"))
    await taking.take(build_sweep_message(SweepRequest(ANNA)))
    assert taking.queues.sent == []
    assert ANNA in caplog.text


@pytest.mark.parametrize("text", ["", "hello", "{}", "[]", '{"sweep": "anna"}'])
async def test_a_message_that_is_no_request_is_parked_at_once(text):
    taking = taker(Refused("nobody is asked"))
    await taking.take(text)
    [(queue, message, _)] = taking.queues.sent
    assert (queue, json.loads(message)["message"]) == (f"{SWEEPS}-poison", text)


async def test_a_leaver_is_not_swept(caplog):
    async def nobody(mailbox: str) -> bool:
        return False

    taking = taker(Refused("a leaver was swept"))
    taking.looks_after = nobody
    await taking.take(build_sweep_message(SweepRequest(ANNA)))
    assert taking.queues.sent == []
    assert "given up" not in caplog.text


async def test_a_request_is_left_to_the_host_while_the_queue_refuses():
    for text, trouble in (("hello", None), (build_sweep_message(SweepRequest(ANNA)), Transient("503"))):
        taking = taker(trouble)
        taking.queues.refuses = True
        with pytest.raises(Transient):
            await taking.take(text)


async def test_a_flood_of_missed_costs_two_sweeps_and_leaves_nothing_unfound(app):
    """The second one begins after the last of them came in."""
    (ana,) = hire(app, "Ana")
    before, after = await pairs_of(app, ana, 2)
    app.sandbox.clock.move(timedelta(minutes=2))
    [held] = app.held(ana)
    be_deaf(app)
    ana.move(before[1], HOUR)
    app.sandbox.calls.clear()
    for count in range(50):
        app.sandbox.delivery.send_lifecycle(held, "missed")
        await app.work()
        if count == 25:
            ana.move(after[1], HOUR)
    assert (is_in_step(app.sandbox, *before), is_in_step(app.sandbox, *after)) == (True, False)
    assert [parse_sweep_message(text) for text in app.inbox.of(SWEEPS)] == [
        SweepRequest(ana.mailbox.id, after_gap=True)
    ]
    app.sandbox.clock.move(timedelta(minutes=2))
    await app.work()
    assert is_in_step(app.sandbox, *after)
    lists = [call for call in app.sandbox.calls if re.fullmatch(LIST, call.path)]
    assert len(lists) == 2
    assert app.inbox.messages == []
