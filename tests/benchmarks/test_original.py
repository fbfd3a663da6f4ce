"""The port of the original's calls spends what its author's description counts: Graph's calls and Dataverse's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from benchmarks.day import Calls, Change, Day, Kind, Notification, Step
from benchmarks.replay import TheOriginal, replay, the_original
from sandbox.calls import Calls as Recorded
from tests.world.services import NINE, TEN


@pytest.fixture
async def original() -> AsyncIterator[TheOriginal]:
    async with the_original() as original:
        yield original


def day(*kinds: Kind, times: int) -> Day:
    """One event's changes, an hour apart; the last is notified of so many times, those before it once."""
    steps: list[Step] = []
    for number, kind in enumerate(kinds):
        at = 3600.0 * number
        steps.append(Change(at, number, kind, 0, 0, minutes=30))
        for turn in range(times if number == len(kinds) - 1 else 1):
            steps.append(Notification(at + 1 + turn, number, "updated", 0))
    return Day(1, tuple(steps))


@pytest.mark.parametrize(
    ("kinds", "times", "graph", "dataverse"),
    [
        pytest.param([Kind.LINKED], 1, 1, 2, id="a new booking"),
        pytest.param([Kind.LINKED, Kind.MOVED], 1, 1, 2, id="a moved event"),
        pytest.param([Kind.LINKED, Kind.MOVED], 4, 4, 8, id="a moved event, notified of four times: 12"),
        pytest.param([Kind.LINKED, Kind.ECHOED], 4, 4, 8, id="an edited event, written although nothing changed"),
        pytest.param([Kind.LINKED, Kind.DELETED], 1, 1, 10, id="a deleted event"),
        pytest.param([Kind.LINKED, Kind.DELETED], 4, 4, 19, id="a deleted event, notified of four times: 23"),
        pytest.param([Kind.MEETING_FIRST], 1, 1, 0, id="an ordinary meeting"),
        pytest.param([Kind.MEETING_FIRST, Kind.MEETING_AGAIN], 4, 4, 0, id="an ordinary meeting, four times"),
        pytest.param([Kind.MEETING_FIRST, Kind.MEETING_DELETED], 1, 1, 3, id="a deleted ordinary meeting"),
        pytest.param([Kind.MEETING_FIRST, Kind.MEETING_DELETED], 4, 4, 12, id="a deleted ordinary meeting, four times"),
    ],
)
async def test_the_original_spends_on(original, kinds, times, graph, dataverse):
    spent = (await replay(day(*kinds, times=times), original))[kinds[-1]]
    assert (spent.graph, spent.reads + spent.writes) == (graph, dataverse)


async def test_a_deleted_event_takes_the_original_three_writes(original):
    spent = await replay(day(Kind.LINKED, Kind.DELETED, times=1), original)
    assert spent[Kind.DELETED] == Calls(graph=1, reads=7, writes=3)


@pytest.mark.parametrize(("times", "graph", "dataverse"), [(1, 1, 7), (4, 4, 16)])
async def test_the_original_spends_on_a_deleted_event_whose_booking_is_canceled_already(
    original, times, graph, dataverse
):
    sandbox = original.sandbox
    technician = sandbox.people.hire("Ana")
    booking, event = sandbox.people.dispatcher.book(technician, NINE, TEN)
    await original.flows.run(technician.mailbox.id, event.immutable_id)
    sandbox.people.dispatcher.cancel(booking)
    assert counted(sandbox.calls) == (1, 2)
    sandbox.calls.clear()
    for _ in range(times):
        await original.flows.run(technician.mailbox.id, event.immutable_id)
    assert counted(sandbox.calls) == (graph, dataverse)


async def test_a_reassigned_booking_is_left_alone(original):
    sandbox = original.sandbox
    ana, ben = sandbox.people.hire("Ana"), sandbox.people.hire("Ben")
    booking, event = sandbox.people.dispatcher.book(ana, NINE, TEN)
    await original.flows.run(ana.mailbox.id, event.immutable_id)
    sandbox.people.dispatcher.reassign(booking, ben)
    await original.flows.run(ana.mailbox.id, event.immutable_id)
    assert booking["_bookingstatus_value"] == sandbox.tables.status("Scheduled").id


def counted(calls: Recorded) -> tuple[int, int]:
    return calls.reads("graph"), calls.reads("dataverse") + calls.writes("dataverse")
