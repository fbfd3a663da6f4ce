"""Two lists compared: which events are looked at, which are held, and that a pair in step is left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.differences import find_differences, missing, see
from sync.marks import mark_of
from sync.model import Booking, Change, Event, EventType, Span
from sync.sweep import AHEAD, BEHIND
from tests.fakes import ANNA, BEN, NOW, span

LINKED, OTHER = "AAkALinked=", "AAkAOther="
BOOKING_ID = "b0000000-0000-4000-8000-000000000001"
WINDOW = Span(NOW - BEHIND, NOW + AHEAD)
EVENT = Event(LINKED, 'W/"1"', span(9), has_extension=True, booking_id=BOOKING_ID)
BOOKING = Booking(BOOKING_ID, 'W/"1"', span(9), LINKED, ANNA)
MOVED = replace(EVENT, span=span(14))
COPY = replace(EVENT, id=OTHER)
OVER = span(9, day=-3)


SEEN = frozenset({mark_of(LINKED), mark_of(OTHER)})


def found(events: list[Event], bookings: list[Booking]) -> list[Change]:
    """What would be queued, where both events were seen by an earlier sweep."""
    differences = find_differences(ANNA, events, bookings, NOW, SEEN)
    return [each.change for each in differences if not each.is_held]


def test_an_event_that_was_never_seen_in_this_mailbox_is_not_taken_for_deleted() -> None:
    """Its booking may have come from another technician with the id of the other's event."""
    [held] = find_differences(ANNA, [], [BOOKING], NOW, frozenset())
    assert held.is_held


def test_most_events_missing_at_once_are_not_taken_for_deleted() -> None:
    """A mailbox that was restored has new ids for all of its events."""
    ids = [f"AAkA{number}=" for number in range(8)]
    bookings = [replace(BOOKING, id=f"b0000000-0000-4000-8000-00000000000{n}", event_id=ids[n]) for n in range(8)]
    events = [replace(EVENT, id=each.event_id or "", booking_id=each.id) for each in bookings]
    seen = frozenset(map(mark_of, ids))
    few = find_differences(ANNA, events[2:], bookings, NOW, seen)
    most = find_differences(ANNA, events[5:], bookings, NOW, seen)
    assert ([each.is_held for each in few], [each.is_held for each in most]) == ([False] * 2, [True] * 5)


def test_what_is_remembered_is_what_is_linked_in_this_mailbox() -> None:
    other = replace(BOOKING, id="b0000000-0000-4000-8000-000000000002", event_id="AAkAElsewhere=")
    assert see(ANNA, [EVENT], [BOOKING, other], frozenset()) == {mark_of(LINKED)}
    assert see(ANNA, [], [BOOKING, other], frozenset({mark_of(LINKED)})) == {mark_of(LINKED)}, (
        "until its booking lets it go"
    )
    assert see(ANNA, [], [replace(BOOKING, event_id=None)], frozenset({mark_of(LINKED)})) == frozenset()


def test_an_event_of_somebody_elses_booking_is_not_remembered_as_the_mailboxs_own() -> None:
    assert see(ANNA, [EVENT], [replace(BOOKING, mailbox=BEN)], SEEN) == frozenset()
    assert missing(ANNA, [], [replace(BOOKING, mailbox=BEN)]) == frozenset()


def test_an_older_form_of_a_held_events_id_is_not_reported_either() -> None:
    older = replace(BOOKING, event_id="AAkAOlderForm=")
    assert find_differences(ANNA, [replace(EVENT, is_all_day=True)], [older], NOW, SEEN) == []


def test_a_missing_event_of_two_bookings_is_held() -> None:
    """As its notification would be: nobody can tell whose it was."""
    other = replace(BOOKING, id="b0000000-0000-4000-8000-000000000002")
    [difference] = find_differences(ANNA, [], [BOOKING, other], NOW, SEEN)
    assert difference.is_held


def test_what_somebody_typed_in_is_not_looked_for() -> None:
    assert find_differences(ANNA, [], [replace(BOOKING, event_id="ask Ben!")], NOW, SEEN) == []


# Two lists, compared.

LOOK, LOOK_AT_OTHER = Change(ANNA, LINKED), Change(ANNA, OTHER)
IS_IT_GONE = Change(ANNA, LINKED, deleted=True)


@pytest.mark.parametrize(
    ("events", "bookings", "expected"),
    [
        pytest.param([EVENT], [BOOKING], [], id="a pair in step"),
        pytest.param([], [], [], id="nothing on either side"),
        pytest.param([MOVED], [BOOKING], [LOOK], id="an event that moved"),
        pytest.param([EVENT], [replace(BOOKING, event_id=None)], [LOOK], id="a booking that is not linked"),
        pytest.param([], [BOOKING], [IS_IT_GONE], id="a linked booking whose event is not listed"),
        pytest.param([], [replace(BOOKING, event_id=None)], [], id="a booking without event"),
        pytest.param([replace(EVENT, is_cancelled=True)], [BOOKING], [LOOK], id="an event that its organizer canceled"),
        pytest.param([EVENT], [], [], id="an event whose booking exists nowhere"),
        pytest.param([MOVED], [replace(BOOKING, is_active=False)], [], id="an event whose booking is inactive"),
        pytest.param([MOVED], [replace(BOOKING, mailbox=BEN)], [], id="the former event of a reassigned booking"),
        pytest.param(
            [EVENT], [replace(BOOKING, span=span(9, day=400))], [LOOK], id="an event whose booking is in another year"
        ),
        pytest.param([replace(EVENT, span=span(9, day=400))], [BOOKING], [LOOK], id="an event that moved far ahead"),
        pytest.param([replace(EVENT, booking_id=None)], [], [], id="an event whose extension holds no booking id"),
        pytest.param([EVENT, COPY], [BOOKING], [], id="a copy beside the original"),
        pytest.param([EVENT, replace(COPY, span=span(14))], [BOOKING], [], id="a copy that moved"),
        pytest.param([COPY], [BOOKING], [LOOK_AT_OTHER], id="another event that claims the booking"),
        pytest.param([replace(MOVED, type=EventType.SERIES_MASTER)], [BOOKING], [], id="a series, which is held"),
        pytest.param([replace(MOVED, is_all_day=True)], [BOOKING], [], id="an event of all day, which is held"),
        pytest.param(
            [replace(COPY, is_all_day=True)], [BOOKING], [IS_IT_GONE], id="a held copy beside an original that is gone"
        ),
        pytest.param(
            [replace(EVENT, is_all_day=True)],
            [replace(BOOKING, event_id="AAkAOlderForm=")],
            [],
            id="a held event whose booking holds an older form of its id",
        ),
        pytest.param(
            [], [replace(BOOKING, is_canceled=True)], [IS_IT_GONE], id="a canceled booking that is still linked"
        ),
        pytest.param([], [replace(BOOKING, is_canceled=True, event_id=None)], [], id="a canceled booking"),
        pytest.param([MOVED], [replace(BOOKING, has_begun=True)], [], id="work that has begun"),
        pytest.param(
            [], [replace(BOOKING, has_begun=True)], [IS_IT_GONE], id="work that has begun, its event not listed"
        ),
        pytest.param(
            [], [replace(BOOKING, span=OVER)], [IS_IT_GONE], id="a booking that is over, its event not listed"
        ),
        pytest.param([], [replace(BOOKING, mailbox=BEN)], [], id="somebody else's booking"),
    ],
)
def test_looked_at_is(events, bookings, expected):
    assert found(events, bookings) == expected


def test_an_id_that_differs_in_case_alone_is_another_event():
    assert found([replace(EVENT, id=LINKED.swapcase())], [BOOKING]) == [Change(ANNA, LINKED.swapcase())]


def test_the_most_imminent_comes_first():
    days = [100, 3, -2, 0, 30]
    bookings = [replace(BOOKING, id=f"b{day}", event_id=f"e{day}", span=span(12, day=day)) for day in days]
    differences = find_differences(ANNA, [], bookings, NOW, frozenset())
    assert [each.change.event_id for each in differences] == ["e0", "e-2", "e3", "e30", "e100"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(-9, 200), st.booleans()), max_size=12))
def test_whatever_the_lists_hold_each_event_is_looked_at_once_at_most(pairs):
    events = [replace(EVENT, id=f"e{e}", booking_id=f"b{b}", span=span(9, day=day)) for e, b, day, _ in pairs]
    unique = list({event.id: event for event in events}.values())
    bookings = [replace(BOOKING, id=f"b{b}", event_id=f"e{e}" if linked else None) for e, b, _, linked in pairs]
    looked_at = [change.event_id for change in found(unique, list({each.id: each for each in bookings}.values()))]
    assert len(looked_at) == len(set(looked_at))
