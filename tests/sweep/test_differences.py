"""Two lists compared: which events are looked at, which are held, and that a pair in step is left alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.messages.changes import Change, Evidence
from sync.model import Booking, Event, EventType, Span
from sync.pairs.actions import Outcome, Stage
from sync.pairs.entry import GONE, Decision, Entry, Held, Kind
from sync.pairs.reasons import HoldKind
from sync.sweep.differences import find_differences, missing
from sync.sweep.known import Known
from sync.sweep.settling import agreements, settled
from sync.sweep.sweeper import AHEAD, BEHIND
from tests.world.fakes import ANNA, BEN, NOW, span

LINKED, OTHER = "AAkALinked=", "AAkAOther="
BOOKING_ID = "b0000000-0000-4000-8000-000000000001"
WINDOW = Span(NOW - BEHIND, NOW + AHEAD)
EVENT = Event(LINKED, 'W/"1"', span(9), has_extension=True, booking_id=BOOKING_ID)
BOOKING = Booking(BOOKING_ID, 'W/"1"', span(9), LINKED, ANNA)
MOVED = replace(EVENT, span=span(14))
COPY = replace(EVENT, id=OTHER)
OVER = span(9, day=-3)


def seen_before(*event_ids: str) -> dict[str, Entry]:
    """Events that were read in the mailbox before."""
    return {event_id: Entry(ANNA, event_id, "1", versions=('W/"0"',)) for event_id in event_ids}


SEEN = seen_before(LINKED, OTHER)


def known(events: Sequence[Event], bookings: Sequence[Booking], entries: Mapping[str, Entry]) -> Known:
    """What Anna's mailbox shows, and what is remembered of it."""
    return Known(ANNA, events, bookings, entries, NOW)


def found(events: list[Event], bookings: list[Booking]) -> list[Change]:
    """What would be queued, where both events were seen by an earlier sweep."""
    differences = find_differences(known(events, bookings, SEEN))
    return [each.change for each in differences if not each.is_held]


def test_an_event_that_was_never_seen_in_this_mailbox_is_not_taken_for_deleted() -> None:
    """Its booking may have come from another technician with the id of the other's event."""
    [held] = find_differences(known([], [BOOKING], {}))
    assert held.is_held


def test_most_events_missing_at_once_are_not_taken_for_deleted() -> None:
    """A mailbox that was restored has new ids for all of its events."""
    ids = [f"AAkA{number}=" for number in range(8)]
    bookings = [replace(BOOKING, id=f"b0000000-0000-4000-8000-00000000000{n}", event_id=ids[n]) for n in range(8)]
    events = [replace(EVENT, id=each.event_id or "", booking_id=each.id) for each in bookings]
    seen = seen_before(*ids)
    few = find_differences(known(events[2:], bookings, seen))
    most = find_differences(known(events[5:], bookings, seen))
    assert ([each.is_held for each in few], [each.is_held for each in most]) == ([False] * 2, [True] * 5)


def test_the_ledger_learns_of_pairs_in_step_once() -> None:
    [entry] = agreements(known([EVENT], [BOOKING], {}))
    assert (entry.event_id, entry.booking_id, entry.agreed) == (LINKED, BOOKING_ID, (span(9),))
    assert agreements(known([EVENT], [BOOKING], {LINKED: entry})) == []


@pytest.mark.parametrize(
    ("event", "booking"),
    [
        pytest.param(MOVED, BOOKING, id="a pair out of step"),
        pytest.param(EVENT, replace(BOOKING, event_id=OTHER), id="a copy"),
        pytest.param(EVENT, replace(BOOKING, mailbox=BEN), id="somebody else's booking"),
    ],
)
def test_the_ledger_learns_nothing_of(event: Event, booking: Booking) -> None:
    assert agreements(known([event], [booking], {})) == []


def test_an_event_of_somebody_elses_booking_is_not_missing() -> None:
    assert missing(ANNA, [], [replace(BOOKING, mailbox=BEN)]) == frozenset()


class TestWhatTheLedgerKnows:
    ENTRY = Entry(ANNA, LINKED, "1", booking_id=BOOKING_ID, agreed=(span(9),), versions=('W/"1"',))
    LEFT = replace(BOOKING, span=span(16))

    def looked_at(self, events: list[Event], booking: Booking, entry: Entry) -> list[Change]:
        return [each.change for each in find_differences(known(events, [booking], {LINKED: entry}))]

    def test_a_booking_that_was_moved_in_dynamics_is_looked_at_until_it_is_known_to_wait(self) -> None:
        assert self.looked_at([EVENT], self.LEFT, self.ENTRY) == [Change(ANNA, LINKED)]
        waiting = replace(self.ENTRY, held=Held(HoldKind.WAITS_FOR_OUTLOOK, NOW, EVENT.etag, booking_span=span(16)))
        assert self.looked_at([EVENT], self.LEFT, waiting) == []

    def test_what_is_held_is_not_looked_at_again_until_it_changes(self) -> None:
        all_day = replace(MOVED, is_all_day=True)
        held = replace(self.ENTRY, held=Held(HoldKind.ALL_DAY, NOW, EVENT.etag, booking_span=span(9)))
        assert self.looked_at([all_day], BOOKING, held) == []
        assert self.looked_at([replace(all_day, etag='W/"2"')], BOOKING, held) == [Change(ANNA, LINKED)]

    def test_a_deletion_that_was_judged_before_is_for_a_person(self) -> None:
        gone = replace(self.ENTRY, kind=Kind.GONE)
        [difference] = find_differences(known([], [BOOKING], {LINKED: gone}))
        assert difference.is_held

    def test_a_cancellation_that_is_held_is_not_asked_for_each_night(self) -> None:
        gone = replace(self.ENTRY, kind=Kind.GONE)
        assert (
            self.looked_at([], BOOKING, replace(gone, held=Held(HoldKind.ALL_DAY, NOW, GONE, booking_span=span(9))))
            == []
        )
        assert self.looked_at([], BOOKING, replace(gone, discarded=GONE)) == []

    def test_a_cancellation_that_waits_is_asked_for_as_soon_as_it_may_be(self) -> None:
        waiting = replace(
            self.ENTRY, kind=Kind.GONE, held=Held(HoldKind.WAITS_FOR_OUTLOOK, NOW, GONE, booking_span=span(16))
        )
        assert self.looked_at([], self.LEFT, waiting) == []
        assert self.looked_at([], BOOKING, waiting) == [Change(ANNA, LINKED, evidence=Evidence.MISSED)]

    def test_what_a_person_released_is_looked_at_until_it_is_done(self) -> None:
        """The message that the release queued may have been lost."""
        released = replace(self.ENTRY, released=EVENT.etag, held=Held(HoldKind.WAITS_FOR_OUTLOOK, NOW, EVENT.etag))
        assert self.looked_at([EVENT], self.LEFT, released) == [Change(ANNA, LINKED)]
        gone = replace(self.ENTRY, kind=Kind.GONE, released=GONE, held=Held(HoldKind.ALL_DAY, NOW, GONE))
        assert self.looked_at([], BOOKING, gone) == [Change(ANNA, LINKED, evidence=Evidence.MISSED)]

    @pytest.mark.parametrize("version", [EVENT.etag, GONE])
    def test_what_is_held_is_looked_at_again_once_its_booking_is_moved(self, version: str) -> None:
        """It may be settled by that; Dataverse tells nobody."""
        held = replace(self.ENTRY, held=Held(HoldKind.ALL_DAY, NOW, version, booking_span=span(15)))
        events = [] if version == GONE else [MOVED]
        [change] = self.looked_at(events, self.LEFT, held)
        assert change.event_id == LINKED
        held = replace(self.ENTRY, held=Held(HoldKind.ALL_DAY, NOW, version, booking_span=span(16)))
        assert self.looked_at(events, self.LEFT, held) == []

    def test_a_cancellation_that_is_held_is_over_once_a_dispatcher_has_canceled(self) -> None:
        held = replace(self.ENTRY, kind=Kind.GONE, held=Held(HoldKind.ALL_DAY, NOW, GONE, booking_span=span(9)))
        canceled = replace(BOOKING, is_canceled=True)
        assert self.looked_at([], canceled, held) == [Change(ANNA, LINKED, evidence=Evidence.MISSED)]

    def test_what_a_person_discarded_is_left_alone(self) -> None:
        all_day = replace(MOVED, is_all_day=True)
        assert self.looked_at([all_day], BOOKING, replace(self.ENTRY, discarded=EVENT.etag)) == []

    def test_an_event_that_was_none_of_ours_was_never_read_as_the_mailboxs_own(self) -> None:
        [difference] = find_differences(known([], [BOOKING], {LINKED: replace(self.ENTRY, kind=Kind.NOT_OURS)}))
        assert difference.is_held


ELSEWHERE = replace(BOOKING, event_id=OTHER)


@pytest.mark.parametrize(
    ("version", "booking", "is_over"),
    [
        pytest.param(EVENT.etag, BOOKING, True, id="a booking that is in step has nothing to wait for"),
        pytest.param(EVENT.etag, replace(BOOKING, span=span(12)), False, id="an open one may still follow"),
        pytest.param(EVENT.etag, replace(BOOKING, is_canceled=True), False, id="a canceled one is out of step"),
        pytest.param(EVENT.etag, replace(BOOKING, has_begun=True), True, id="one whose work has begun follows no more"),
        pytest.param(EVENT.etag, replace(BOOKING, is_active=False), False, id="an inactive one is out of step, too"),
        pytest.param(EVENT.etag, replace(BOOKING, mailbox=BEN), True, id="a reassigned one does not follow"),
        pytest.param(
            EVENT.etag, replace(BOOKING, event_id=None, is_canceled=True), False, id="one that is not linked yet may be"
        ),
        pytest.param(EVENT.etag, ELSEWHERE, True, id="nor one that another event has that is there"),
        pytest.param(EVENT.etag, replace(BOOKING, event_id="E9"), False, id="an event that is gone has none"),
        pytest.param(GONE, BOOKING, False, id="whose event is gone, waits"),
        pytest.param(GONE, replace(BOOKING, is_canceled=True), False, id="a canceled one has its event's id to lose"),
        pytest.param(GONE, ELSEWHERE, True, id="one that has another event has lost nothing"),
    ],
)
def test_what_is_held_for_a_booking_is_over_once_nothing_can_be_done_to_it(
    version: str, booking: Booking, is_over: bool
) -> None:
    held = Entry(ANNA, LINKED, "1", booking_id=BOOKING_ID, held=Held(HoldKind.ALL_DAY, NOW, version))
    events = [replace(EVENT, id=OTHER), *([] if version == GONE else [EVENT])]
    assert settled(known(events, [booking], {LINKED: held})) == ([replace(held, held=None)] if is_over else [])


def test_a_deletion_that_is_held_as_only_observing_left_its_booking_unlinked_stays_so_until_that_is_closed() -> None:
    left_out = Decision(NOW, "told of a change", Outcome.LINKED, Stage.OBSERVED)
    held = Entry(
        ANNA, LINKED, "1", booking_id=BOOKING_ID, held=Held(HoldKind.DELETED_BEFORE, NOW, GONE), history=(left_out,)
    )
    unlinked = replace(BOOKING, event_id=None)
    assert settled(known([], [unlinked], {LINKED: held})) == []
    assert settled(known([], [replace(unlinked, is_canceled=True)], {LINKED: held})) == [replace(held, held=None)]


def test_an_event_that_two_bookings_hold_is_not_held_again_once_a_person_has_let_it_be() -> None:
    both = [BOOKING, replace(BOOKING, id="b0000000-0000-4000-8000-000000000002")]
    [difference] = find_differences(known([], both, SEEN))
    assert difference.is_held
    assert find_differences(known([], both, {LINKED: replace(SEEN[LINKED], discarded=GONE)})) == []


def test_an_older_form_of_a_held_events_id_is_not_reported_either() -> None:
    older = replace(BOOKING, event_id="AAkAOlderForm=")
    assert found([replace(EVENT, is_all_day=True)], [older]) == [LOOK]


def test_a_missing_event_of_two_bookings_is_held() -> None:
    """As its notification would be: nobody can tell whose it was."""
    other = replace(BOOKING, id="b0000000-0000-4000-8000-000000000002")
    [difference] = find_differences(known([], [BOOKING, other], SEEN))
    assert difference.is_held


def test_what_somebody_typed_in_is_not_looked_for() -> None:
    assert find_differences(known([], [replace(BOOKING, event_id="ask Ben!")], SEEN)) == []


# Two lists, compared.

LOOK, LOOK_AT_OTHER = Change(ANNA, LINKED), Change(ANNA, OTHER)
IS_IT_GONE = Change(ANNA, LINKED, evidence=Evidence.MISSED)


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
        pytest.param([MOVED], [replace(BOOKING, is_active=False)], [LOOK], id="an event whose booking is inactive"),
        pytest.param(
            [replace(MOVED, span=span(1, day=-1))],
            [replace(BOOKING, is_active=False)],
            [],
            id="an event that is over, as is its booking",
        ),
        pytest.param([MOVED], [replace(BOOKING, mailbox=BEN)], [], id="the former event of a reassigned booking"),
        pytest.param(
            [EVENT], [replace(BOOKING, span=span(9, day=400))], [LOOK], id="an event whose booking is in another year"
        ),
        pytest.param([replace(EVENT, span=span(9, day=400))], [BOOKING], [LOOK], id="an event that moved far ahead"),
        pytest.param([replace(EVENT, booking_id=None)], [], [], id="an event whose extension holds no booking id"),
        pytest.param([EVENT, COPY], [BOOKING], [], id="a copy beside the original"),
        pytest.param([EVENT, replace(COPY, span=span(14))], [BOOKING], [], id="a copy that moved"),
        pytest.param([COPY], [BOOKING], [LOOK_AT_OTHER], id="another event that claims the booking"),
        pytest.param(
            [replace(MOVED, type=EventType.SERIES_MASTER)], [BOOKING], [LOOK], id="a series, which is to be held"
        ),
        pytest.param(
            [replace(MOVED, is_all_day=True)], [BOOKING], [LOOK], id="an event of all day, which is to be held"
        ),
        pytest.param(
            [replace(COPY, is_all_day=True)],
            [BOOKING],
            [LOOK_AT_OTHER, IS_IT_GONE],
            id="a held copy beside an original that is gone",
        ),
        pytest.param(
            [replace(EVENT, is_all_day=True)],
            [replace(BOOKING, event_id="AAkAOlderForm=")],
            [LOOK],
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
    differences = find_differences(known([], bookings, {}))
    assert [each.change.event_id for each in differences] == ["e0", "e-2", "e3", "e30", "e100"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(-9, 200), st.booleans()), max_size=12))
def test_whatever_the_lists_hold_each_event_is_looked_at_once_at_most(pairs):
    events = [replace(EVENT, id=f"e{e}", booking_id=f"b{b}", span=span(9, day=day)) for e, b, day, _ in pairs]
    unique = list({event.id: event for event in events}.values())
    bookings = [replace(BOOKING, id=f"b{b}", event_id=f"e{e}" if linked else None) for e, b, _, linked in pairs]
    looked_at = [change.event_id for change in found(unique, list({each.id: each for each in bookings}.values()))]
    assert len(looked_at) == len(set(looked_at))
