"""A day replayed: everything is in step in the end, and the calls are those that each change caused."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import pytest

from benchmarks.day import Calls, Change, Day, Kind, Notification, mixed_day, oracle
from benchmarks.replay import replay, the_app, the_original


@pytest.fixture(autouse=True)
def quietly(caplog: pytest.LogCaptureFixture) -> None:
    """A day's log is long."""
    caplog.set_level(logging.CRITICAL)


def total(spent: Mapping[Kind, Calls]) -> int:
    return sum(spent.values(), Calls()).total


async def test_over_a_day_the_app_spends_a_third_of_the_original_and_little_more_than_an_oracle():
    """And its writes are the oracle's."""
    day = mixed_day(seed=5, changes=400, mailboxes=40)
    async with the_app() as app:
        ours = await replay(day, app)
    async with the_original() as original:
        theirs = await replay(day, original)
    knowing = oracle(day.changes)
    assert total(ours) <= 1.05 * total(knowing)
    assert total(ours) <= total(theirs) / 3
    known = {change.number for change in day.changes if change.kind is Kind.MEETING_KNOWN}
    late = sum(each.is_redelivery and each.change in known for each in day.notifications)
    assert total({Kind.MEETING_KNOWN: ours[Kind.MEETING_KNOWN]}) <= late, "what is known to be nobody's costs nothing"
    assert {kind: calls.writes for kind, calls in ours.items()} == {kind: c.writes for kind, c in knowing.items()}


async def test_every_call_is_billed():
    day = mixed_day(seed=6, changes=60, mailboxes=5)
    async with the_app() as app:
        spent = await replay(day, app)
        assert total(spent) == len(app.sandbox.calls)


async def test_a_redelivery_is_billed_to_the_change_that_it_tells_of():
    steps = (
        Change(0.0, 0, Kind.LINKED, 0, 0),
        Notification(1.0, 0, "created", 0),
        Change(200.0, 1, Kind.ECHOED, 0, 0),
        Notification(9_000.0, 0, "created", 0, is_redelivery=True),
    )
    async with the_original() as original:
        spent = await replay(Day(1, steps), original)
    assert spent[Kind.LINKED] == Calls(graph=2, reads=2, writes=2)
    assert spent[Kind.ECHOED] == Calls()


async def test_an_event_that_nobody_looked_at_is_an_error_and_no_thrift():
    unheard = Day(1, (Change(0.0, 0, Kind.MEETING_FIRST, 0, 0),))
    async with the_app() as app:
        with pytest.raises(AssertionError, match="1 events were never looked at"):
            await replay(unheard, app)


async def test_a_booking_that_is_not_in_step_in_the_end_is_an_error():
    unheard = Day(1, (Change(0.0, 0, Kind.LINKED, 0, 0),))
    async with the_app() as app:
        with pytest.raises(AssertionError, match="1 bookings are not in step"):
            await replay(unheard, app)
