"""What one process counts, hour by hour, until it is stored; and what a redundant notification would have cost."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from sync.telemetry.counters import (
    AVOIDED,
    DATAVERSE,
    GRAPH,
    HELD_BACK,
    HOUR,
    QUEUED,
    SWEPT,
    Figures,
    Swept,
    Tally,
    avoided,
    hour_of,
    merged,
)
from tests.world.fakes import ANNA, BEN, NOW
from tests.world.services import NINE, TEN, World


def taken(tally: Tally) -> dict:
    return dict(tally.take())


def test_each_hour_is_counted_by_itself():
    tally = Tally()
    tally.add(NOW, {QUEUED: 1})
    tally.add(NOW + timedelta(minutes=59), {QUEUED: 2})
    tally.add(NOW + HOUR, {QUEUED: 4})
    assert {hour: figures.counts[QUEUED] for hour, figures in tally.take()} == {NOW: 3, NOW + HOUR: 4}


def test_what_is_stored_is_taken_again_only_when_more_was_counted_and_then_as_a_whole():
    tally = Tally()
    tally.add(NOW, {QUEUED: 1})
    assert taken(tally)[NOW].counts[QUEUED] == 1
    assert taken(tally) == {}
    tally.add(NOW, {QUEUED: 2})
    assert taken(tally)[NOW].counts[QUEUED] == 3


def test_what_could_not_be_stored_is_taken_again():
    tally = Tally()
    tally.add(NOW, {QUEUED: 1})
    for hour, _ in tally.take():
        tally.put_back(hour)
    assert list(taken(tally)) == [NOW]


def test_nothing_that_was_counted_is_nothing_to_store():
    tally = Tally()
    tally.add(NOW, {QUEUED: 0})
    assert taken(tally) == {}


def test_an_hour_that_is_over_is_forgotten_once_it_is_stored():
    tally = Tally()
    tally.add(NOW, {QUEUED: 1})
    tally.forget(NOW + HOUR)
    assert list(taken(tally)) == [NOW]
    tally.forget(NOW + HOUR)
    tally.add(NOW, {QUEUED: 5})
    assert taken(tally)[NOW].counts[QUEUED] == 5, "and not 6"


def test_storage_that_is_away_for_a_day_does_not_fill_the_memory():
    tally = Tally()
    for hours in range(100):
        tally.add(NOW + hours * HOUR, {QUEUED: 1})
        tally.forget(NOW + hours * HOUR)
    assert len(taken(tally)) == HELD_BACK + 1


def test_the_last_notification_and_the_last_sweep_count_whoever_tells_of_them():
    one = Figures(Counter({QUEUED: 1}), {ANNA: NOW, BEN: NOW + HOUR}, {ANNA: Swept(NOW, 7)})
    other = Figures(Counter({QUEUED: 2}), {ANNA: NOW + HOUR, BEN: NOW}, {ANNA: Swept(NOW + HOUR, 0)})
    for total in (merged([one, other]), merged([other, one])):
        assert total.counts == {QUEUED: 3}
        assert total.notified == {ANNA: NOW + HOUR, BEN: NOW + HOUR}
        assert total.swept == {ANNA: Swept(NOW + HOUR, 0)}


def test_a_sweep_is_counted_with_what_it_found():
    tally = Tally()
    tally.swept(NOW, ANNA, 3)
    [figures] = taken(tally).values()
    assert (figures.counts[SWEPT], figures.counts["sweeps.differences"]) == (1, 3)
    assert figures.swept == {ANNA: Swept(NOW, 3)}


def test_hours_begin_at_their_beginning():
    assert hour_of(NOW + timedelta(minutes=59, seconds=59, microseconds=9)) == NOW


async def test_what_is_said_to_be_avoided_is_what_the_same_notification_costs_if_it_is_followed(world: World):
    meeting = world.technician.meet(NINE, TEN)
    graph_reads, dataverse_reads, _ = await world.counted(meeting)
    assert avoided(is_ours=False) == {AVOIDED + GRAPH: graph_reads, AVOIDED + DATAVERSE: dataverse_reads}
    await world.link()
    world.technician.edit(world.event)
    graph_reads, dataverse_reads, _ = await world.counted(world.event)
    assert avoided(is_ours=True) == {AVOIDED + GRAPH: graph_reads, AVOIDED + DATAVERSE: dataverse_reads}
