"""Every row of the decision table is a case here, told as a sentence."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from sync.messages.changes import Change, Evidence
from sync.model import Booking, ConflictPolicy, Event, EventType, Span
from sync.pairs.actions import Action, CancelBooking, Hold, Ignore, LinkBooking, LookAgain, MoveBooking, UnlinkBooking
from sync.pairs.agreement import LOST, NEVER, Agreement
from sync.pairs.decision import VERDICTS, Side, choose_linked, decide, rival_id
from sync.pairs.entry import Entry
from sync.pairs.pair import Pair
from sync.pairs.reasons import HOLDS, HoldKind, reason_of
from tests.world.fakes import ANNA, BEN, NOW, span

GUID = "c5d7e9fa-6b1c-4f11-9f89-000d3adc2b02"
CHANGE = Change(ANNA, "E1")
TOLD = Change(ANNA, "E1", evidence=Evidence.TOLD)
EVENT = Event("E1", "", span(9), has_extension=True, booking_id=GUID)
BOOKING = Booking(GUID, 'W/"7"', span(9), "E1", ANNA)

MOVED = replace(EVENT, span=span(13))
CANCELLED = replace(EVENT, is_cancelled=True)
OTHERS = replace(EVENT, id="E2")
UNLINKED = replace(BOOKING, event_id=None)
LINKED_TO_E2 = replace(BOOKING, event_id="E2")
REASSIGNED = replace(BOOKING, mailbox=BEN)
OF_NO_USER = replace(BOOKING, mailbox=None)
INACTIVE = replace(BOOKING, is_active=False)
CANCELED = replace(BOOKING, is_canceled=True)
BEGUN = replace(BOOKING, has_begun=True)
OVER = replace(BOOKING, span=Span(span(4).start, NOW))
ENDS_SOON = replace(BOOKING, span=Span(span(4).start, span(6, 0.01).end))

CANCEL = CancelBooking(GUID, 'W/"7"', unlink=True)
LINK = LinkBooking(GUID, 'W/"7"', "E1")
MOVE = MoveBooking(GUID, 'W/"7"', span(13))
CLOSED = Hold(HoldKind.CLOSED, GUID)


def unlink(reason: str) -> UnlinkBooking:
    return UnlinkBooking(GUID, 'W/"7"', reason)


def ruled(
    event: Event | None,
    booking: Booking | None,
    change: Change | None = None,
    agreement: Agreement = NEVER,
    policy: ConflictPolicy = ConflictPolicy.DATAVERSE,
    **read: Any,
) -> Action:
    """The decision at six o'clock; Graph has told of the deletion of an event that is gone, unless *change* differs."""
    change = change or (CHANGE if event is not None else TOLD)
    return decide(Pair(change, Entry(ANNA, "E1"), event, booking, **read), NOW, agreement, policy)


GONE = [
    pytest.param(None, None, Ignore, id="a deleted event without a booking was born in Outlook"),
    pytest.param(None, UNLINKED, Ignore, id="a deleted event does not cancel a booking that is not linked to it"),
    pytest.param(None, LINKED_TO_E2, Ignore, id="a deleted copy does not cancel the original's booking"),
    pytest.param(None, REASSIGNED, Ignore, id="a deleted event does not cancel a booking that was reassigned"),
    pytest.param(None, OF_NO_USER, Ignore, id="a deleted event does not cancel a booking of a crew or room"),
    pytest.param(None, INACTIVE, Ignore, id="an inactive booking is not ours to change"),
    pytest.param(None, CANCELED, unlink("the booking is canceled already"), id="a canceled booking forgets its event"),
    pytest.param(None, replace(CANCELED, event_id=None), Ignore, id="a canceled booking without event stays"),
    pytest.param(None, BEGUN, unlink("the booking's work has begun"), id="work that has begun is not canceled"),
    pytest.param(None, OVER, unlink("the booking is over"), id="a booking that is over is not canceled"),
    pytest.param(None, ENDS_SOON, CANCEL, id="a booking that is not yet over is canceled"),
    pytest.param(None, BOOKING, CANCEL, id="a deleted event cancels its booking and is forgotten by it"),
]

CANCELLED_BY_ORGANIZER = [
    pytest.param(CANCELLED, None, Ignore, id="a cancelled event's booking may not exist"),
    pytest.param(CANCELLED, REASSIGNED, Ignore, id="a cancelled event does not cancel a reassigned booking"),
    pytest.param(CANCELLED, INACTIVE, Ignore, id="a cancelled event does not change an inactive booking"),
    pytest.param(CANCELLED, CANCELED, unlink("the booking is canceled already"), id="a cancelled event is forgotten"),
    pytest.param(CANCELLED, replace(CANCELED, event_id=None), Ignore, id="a cancelled event is forgotten once"),
    pytest.param(CANCELLED, BEGUN, unlink("the booking's work has begun"), id="begun work survives the organizer"),
    pytest.param(CANCELLED, OVER, unlink("the booking is over"), id="past work survives the organizer"),
    pytest.param(CANCELLED, BOOKING, CANCEL, id="an event cancelled by its organizer cancels its booking"),
    pytest.param(
        CANCELLED,
        UNLINKED,
        replace(CANCEL, unlink=False),
        id="a write clears no event id where there is none",
    ),
]

PRESENT = [
    pytest.param(Event("E1", "", span(9)), None, Ignore, id="an event without our extension was born in Outlook"),
    pytest.param(
        Event("E1", "", span(9)), BOOKING, Hold, id="an event that names no booking, though one holds it, is held"
    ),
    pytest.param(Event("E1", "", span(9)), BEGUN, Ignore, id="until the booking's work has begun"),
    pytest.param(Event("E1", "", span(9)), OVER, Ignore, id="or is over"),
    pytest.param(Event("E1", "", span(9)), UNLINKED, Ignore, id="an event that no booking holds is left alone"),
    pytest.param(
        Event("E1", "", span(9), has_extension=True), None, Ignore, id="an extension without a GUID says nothing"
    ),
    pytest.param(EVENT, None, Ignore, id="an event whose booking does not exist is left alone"),
    pytest.param(MOVED, REASSIGNED, Ignore, id="a reassigned booking does not follow the old event"),
    pytest.param(MOVED, OF_NO_USER, Ignore, id="a booking of a crew or room does not follow"),
    *(
        pytest.param(replace(MOVED, type=kind), BOOKING, Hold, id=f"an event of a series is held ({kind.value})")
        for kind in EventType
        if kind is not EventType.SINGLE
    ),
    pytest.param(replace(MOVED, is_all_day=True), BOOKING, Hold, id="an all-day event is held"),
    pytest.param(replace(EVENT, span=span(9, 0)), BOOKING, Hold, id="an event of no length is held"),
    pytest.param(replace(EVENT, span=span(9, -1)), BOOKING, Hold, id="an event that ends before it starts is held"),
    pytest.param(replace(EVENT, is_all_day=True), UNLINKED, Hold, id="a held event is not linked either"),
    pytest.param(MOVED, CANCELED, CLOSED, id="a canceled booking does not follow, and its event is to go"),
    pytest.param(EVENT, CANCELED, CLOSED, id="nor does one whose event was not moved"),
    pytest.param(MOVED, INACTIVE, CLOSED, id="an inactive booking does not follow, and its event is to go"),
    pytest.param(MOVED, BEGUN, Ignore, id="a booking whose work has begun does not follow"),
    pytest.param(MOVED, replace(CANCELED, event_id=None), CLOSED, id="a canceled booking is not linked any more"),
    pytest.param(MOVED, replace(INACTIVE, event_id=None), CLOSED, id="an inactive booking is not linked any more"),
    pytest.param(MOVED, replace(BEGUN, event_id=None), Ignore, id="nor is a booking whose work has begun"),
    pytest.param(replace(EVENT, span=span(4)), CANCELED, Ignore, id="an event that is over may stay"),
    pytest.param(EVENT, UNLINKED, LINK, id="a new booking learns its event's id and nothing else"),
    pytest.param(EVENT, LINKED_TO_E2, LINK, id="a booking whose event is gone is linked to its successor"),
    pytest.param(EVENT, BOOKING, Ignore, id="a booking in step is not written"),
    pytest.param(replace(EVENT, is_all_day=True), BOOKING, Ignore, id="in step with an all-day event, nothing is held"),
    pytest.param(replace(EVENT, type=EventType.OCCURRENCE), BOOKING, Ignore, id="nor with an event of a series"),
    pytest.param(replace(MOVED, is_all_day=True), BEGUN, Ignore, id="nor if the booking does not follow any more"),
    pytest.param(MOVED, BOOKING, MOVE, id="a booking follows its event"),
    pytest.param(MOVED, OVER, MOVE, id="a booking of yesterday follows its event, too"),
    pytest.param(MOVED, UNLINKED, replace(MOVE, event_id="E1"), id="one write moves and links"),
]


@pytest.mark.parametrize(("event", "booking", "expected"), [*GONE, *CANCELLED_BY_ORGANIZER, *PRESENT])
def test_the_decision_table(event: Event | None, booking: Booking | None, expected: object) -> None:
    action = ruled(event, booking)

    assert isinstance(action, expected) if isinstance(expected, type) else action == expected


def ignored(event: Event | None, booking: Booking | None, reason: str) -> object:
    return pytest.param(event, booking, Ignore(reason), id=reason)


def held(event: Event, hold: Hold, reason: str) -> object:
    return pytest.param(event, BOOKING, hold, id=reason)


@pytest.mark.parametrize(
    ("event", "booking", "expected"),
    [
        ignored(replace(MOVED, has_extension=False, booking_id=None), None, "the event was born in Outlook"),
        ignored(replace(MOVED, booking_id=None), None, "the event's extension holds no booking id"),
        ignored(EVENT, None, "the event's booking does not exist"),
        ignored(MOVED, REASSIGNED, "the booking belongs to another mailbox"),
        ignored(None, REASSIGNED, "the booking belongs to another mailbox"),
        ignored(None, UNLINKED, "no booking is linked to the event"),
        ignored(None, INACTIVE, "the booking is inactive"),
        ignored(CANCELLED, replace(CANCELED, event_id=None), "the booking is canceled already"),
        ignored(EVENT, BOOKING, "the booking is in step"),
        ignored(MOVED, BEGUN, "the booking takes no changes of time any more"),
        held(replace(EVENT, span=span(9, -1)), Hold(HoldKind.BACKWARDS, GUID), "the event ends before it starts"),
        held(
            replace(MOVED, type=EventType.OCCURRENCE),
            Hold(HoldKind.SERIES, GUID, MOVE, "occurrence"),
            "the event is of a series (occurrence)",
        ),
        held(replace(MOVED, is_all_day=True), Hold(HoldKind.ALL_DAY, GUID, MOVE), "the event lasts all day"),
        held(
            replace(MOVED, booking_id=None),
            Hold(HoldKind.LOST_EXTENSION, GUID, MOVE),
            "the event whose id the booking holds does not name the booking",
        ),
    ],
)
def test_what_is_not_done_tells_why(
    event: Event | None, booking: Booking | None, expected: object, request: pytest.FixtureRequest
) -> None:
    action = ruled(event, booking)
    assert action == expected
    assert isinstance(action, Hold | Ignore)
    assert action.reason == request.node.callspec.id.rstrip("01")  # the same reason twice is numbered


@pytest.mark.parametrize("event", [EVENT, MOVED, CANCELLED, replace(MOVED, is_all_day=True)])
def test_a_copy_changes_nothing_while_the_original_exists(event: Event) -> None:
    reason = "the event is a copy, its booking is linked to another event"
    assert ruled(event, LINKED_TO_E2, rival=OTHERS) == Ignore(reason)


@pytest.mark.parametrize(("event", "expected"), [(EVENT, LINK), (MOVED, replace(MOVE, event_id="E1"))])
def test_an_older_form_of_the_same_id_is_no_other_event(event: Event, expected: object) -> None:
    """The booking holds a plain id; reading it with immutable ids gives this very event."""
    booking = replace(BOOKING, event_id="PLAIN")

    assert rival_id(CHANGE, event, booking) == "PLAIN"
    assert ruled(event, booking, rival=event) == expected


@pytest.mark.parametrize(
    ("event", "booking"),
    [
        pytest.param(EVENT, BOOKING, id="linked to this one"),
        pytest.param(EVENT, UNLINKED, id="linked to none"),
        pytest.param(EVENT, None, id="no booking"),
        pytest.param(None, LINKED_TO_E2, id="this one is gone"),
        pytest.param(EVENT, replace(LINKED_TO_E2, mailbox=BEN), id="reassigned"),
        pytest.param(EVENT, replace(BOOKING, event_id="see Outlook!"), id="linked to what can be no event"),
        pytest.param(EVENT, replace(BOOKING, event_id=""), id="linked to nothing"),
    ],
)
def test_the_other_event_is_read_only_where_it_decides(event: Event | None, booking: Booking | None) -> None:
    assert rival_id(CHANGE, event, booking) is None


def test_the_hint_of_a_deletion_decides_nothing_of_an_event_that_is_there() -> None:
    for event, booking in [(EVENT, BOOKING), (MOVED, BOOKING), (EVENT, UNLINKED), (CANCELLED, BOOKING)]:
        assert ruled(event, booking, TOLD) == ruled(event, booking, CHANGE)


@pytest.mark.parametrize("booking", [BOOKING, BEGUN, OVER, CANCELED])
def test_an_event_that_is_not_there_though_nobody_told_is_looked_for_again(booking: Booking) -> None:
    reason = "the event is not there, and nobody told of its deletion"
    assert ruled(None, booking, CHANGE) == LookAgain(reason, GUID)
    missed = ruled(None, booking, replace(CHANGE, evidence=Evidence.MISSED))
    assert missed == ruled(None, booking, TOLD)
    assert not isinstance(missed, LookAgain)


def test_an_event_without_length_is_nobodys_business_once_its_bookings_work_has_begun() -> None:
    no_length = replace(EVENT, span=Span(EVENT.span.start, EVENT.span.start))
    assert isinstance(ruled(no_length, BOOKING), Hold)
    assert isinstance(ruled(no_length, BEGUN), Ignore)


@pytest.mark.parametrize("event", [EVENT, MOVED, CANCELLED])
def test_of_two_events_that_swapped_their_extensions_a_person_says_which_is_which(event: Event) -> None:
    """The booking of this one is linked to the other one, and that one names another booking."""
    swapped = replace(OTHERS, booking_id="b0000000-0000-4000-8000-000000000002")
    decided = ruled(event, LINKED_TO_E2, rival=swapped)
    assert isinstance(decided, Hold)
    assert (decided.kind, decided.write is None) == (HoldKind.NAMES_ANOTHER, False)
    assert isinstance(ruled(event, replace(LINKED_TO_E2, is_canceled=True), rival=swapped), Ignore)


def overruled(kind: HoldKind, write: MoveBooking | CancelBooking) -> Hold:
    """The booking stays, as the policy says."""
    return Hold(HoldKind.OVERRULED, GUID, write, Hold(kind).reason)


def told(action: Action) -> tuple[bool, str]:
    """Whether the pair waits for Outlook, and why."""
    assert isinstance(action, Hold)
    return action.is_waiting, action.reason


class TestWhatBothAgreedOnIsForgotten:
    """And the booking cannot tell either, as somebody else wrote it last."""

    MOVE_UNSURE, CANCEL_UNSURE = HoldKind.UNKNOWN_MOVE, HoldKind.UNKNOWN_DELETION

    @pytest.mark.parametrize(
        ("event", "write", "kind"),
        [
            pytest.param(MOVED, MOVE, MOVE_UNSURE, id="the event has other times"),
            pytest.param(None, CANCEL, CANCEL_UNSURE, id="the event is deleted"),
            pytest.param(replace(CANCELLED, span=span(13)), CANCEL, CANCEL_UNSURE, id="it is cancelled elsewhere"),
        ],
    )
    def test_any_difference_is_a_conflict(
        self, event: Event | None, write: MoveBooking | CancelBooking, kind: HoldKind
    ) -> None:
        found = {policy: ruled(event, BOOKING, agreement=LOST, policy=policy) for policy in ConflictPolicy}
        assert found == {
            ConflictPolicy.DATAVERSE: overruled(kind, write),
            ConflictPolicy.OUTLOOK: write,
            ConflictPolicy.HOLD: Hold(kind, GUID, write),
        }

    @pytest.mark.parametrize(("event", "booking"), [(EVENT, BOOKING), (MOVED, BEGUN), (CANCELLED, CANCELED)])
    def test_what_needs_no_such_knowledge_is_decided_without(self, event: Event, booking: Booking) -> None:
        assert ruled(event, booking, agreement=LOST) == ruled(event, booking)

    def test_an_organizer_who_cancels_where_the_booking_is_contradicts_nobody(self) -> None:
        assert ruled(CANCELLED, BOOKING, agreement=LOST) == CANCEL


class TestWhoMoved:
    """Both sides last agreed on nine o'clock."""

    AGREED = frozenset([span(9)])
    BY_DISPATCHER = replace(BOOKING, span=span(16))

    def decide(
        self,
        event: Event | None,
        booking: Booking,
        policy: ConflictPolicy = ConflictPolicy.DATAVERSE,
        agreed: frozenset[Span] = AGREED,
    ) -> Action:
        return ruled(event, booking, agreement=Agreement.on(agreed), policy=policy)

    def test_only_the_event_so_the_booking_follows(self) -> None:
        assert self.decide(MOVED, BOOKING) == MOVE

    @pytest.mark.parametrize("policy", ConflictPolicy)
    def test_only_the_booking_so_it_is_left(self, policy: ConflictPolicy) -> None:
        would_be_done = replace(MOVE, span=span(9))  # as a person may say that the event is right
        waiting = Hold(HoldKind.WAITS_FOR_OUTLOOK, GUID, would_be_done)
        assert self.decide(EVENT, self.BY_DISPATCHER, policy) == waiting
        assert waiting.is_waiting

    @pytest.mark.parametrize("policy", ConflictPolicy)
    def test_both_to_the_same_so_they_are_in_step(self, policy: ConflictPolicy) -> None:
        assert isinstance(self.decide(MOVED, replace(BOOKING, span=span(13)), policy), Ignore)

    def test_both_apart_and_the_dispatcher_wins(self) -> None:
        decided = self.decide(MOVED, self.BY_DISPATCHER)
        assert decided == overruled(HoldKind.MOVED_APART, MOVE)
        assert told(decided) == (True, "booking and event were moved apart: the booking stays")

    def test_both_apart_and_outlook_wins_where_that_is_set(self) -> None:
        assert self.decide(MOVED, self.BY_DISPATCHER, ConflictPolicy.OUTLOOK) == MOVE

    def test_both_apart_and_a_person_is_asked_where_that_is_set(self) -> None:
        decided = self.decide(MOVED, self.BY_DISPATCHER, ConflictPolicy.HOLD)
        assert decided == Hold(HoldKind.MOVED_APART, GUID, MOVE)
        assert told(decided) == (False, "booking and event were moved apart")

    @pytest.mark.parametrize("gone", [None, CANCELLED])
    def test_a_deletion_against_a_move_is_a_conflict_too(self, gone: Event | None) -> None:
        kind = HoldKind.MOVED_AND_DELETED
        assert [self.decide(gone, self.BY_DISPATCHER, policy) for policy in ConflictPolicy] == [
            overruled(kind, CANCEL),
            CANCEL,
            Hold(kind, GUID, CANCEL),
        ]

    @pytest.mark.parametrize("gone", [None, CANCELLED])
    def test_a_deletion_of_what_nobody_moved_cancels(self, gone: Event | None) -> None:
        assert self.decide(gone, BOOKING) == CANCEL

    @pytest.mark.parametrize("policy", ConflictPolicy)
    def test_an_event_that_had_followed_and_is_cancelled_then_cancels(self, policy: ConflictPolicy) -> None:
        followed = replace(CANCELLED, span=self.BY_DISPATCHER.span)
        assert self.decide(followed, self.BY_DISPATCHER, policy) == CANCEL

    def test_nothing_is_known_so_it_was_the_event(self) -> None:
        assert self.decide(MOVED, self.BY_DISPATCHER, agreed=frozenset()) == MOVE
        assert self.decide(None, self.BY_DISPATCHER, agreed=frozenset()) == CANCEL

    def test_a_write_of_ours_is_in_doubt_and_the_booking_is_as_it_was(self) -> None:
        """Either it was not written, or a dispatcher moved it back: the dispatcher wins."""
        doubt = frozenset([span(9), span(13)])
        assert told(self.decide(MOVED, BOOKING, agreed=doubt))[0]
        assert told(self.decide(MOVED, self.BY_DISPATCHER, agreed=doubt))[0]
        assert told(self.decide(None, BOOKING, agreed=doubt))[0]

    def test_an_event_that_is_there_is_to_follow_a_canceled_booking(self) -> None:
        for event in (EVENT, MOVED):
            assert self.decide(event, replace(self.BY_DISPATCHER, is_canceled=True)) == CLOSED
        assert CLOSED.is_waiting

    def test_an_event_that_is_moved_after_work_has_begun_is_to_go_back(self) -> None:
        begun = Hold(HoldKind.BEGUN, GUID)
        assert self.decide(MOVED, BEGUN) == begun
        assert self.decide(MOVED, replace(self.BY_DISPATCHER, has_begun=True)) == begun
        assert begun.is_waiting

    def test_the_times_at_which_work_was_done_need_no_event(self) -> None:
        """Field Service writes them to the booking while the work goes on."""
        assert isinstance(self.decide(EVENT, replace(self.BY_DISPATCHER, has_begun=True)), Ignore)

    def test_a_booking_moved_and_not_linked_is_not_linked_to_an_event_of_other_times(self) -> None:
        assert told(self.decide(EVENT, replace(self.BY_DISPATCHER, event_id=None)))[0]


class TestBookingsThatHoldOneEventsId:
    def test_one_is_the_one(self) -> None:
        assert choose_linked(CHANGE, [BOOKING]) == (BOOKING, 1)

    def test_none_is_none(self) -> None:
        assert choose_linked(CHANGE, []) == (None, 0)

    def test_the_mailbox_tells_two_apart(self) -> None:
        assert choose_linked(CHANGE, [replace(REASSIGNED, id="other"), BOOKING]) == (BOOKING, 1)

    def test_a_reassigned_one_is_still_found(self) -> None:
        assert choose_linked(CHANGE, [REASSIGNED]) == (REASSIGNED, 1)

    def test_two_of_one_mailbox_are_for_a_person_to_settle(self) -> None:
        """A booking copied in Dynamics takes the event's id along; which of them the event stands for is unknown."""
        assert choose_linked(CHANGE, [BOOKING, replace(BOOKING, id="other")]) == (BOOKING, 2)
        reason = "2 bookings hold this event's id"
        assert told(ruled(None, BOOKING, holders=2)) == (False, reason)
        assert ruled(None, BOOKING, CHANGE, holders=2) == LookAgain(reason)


def test_every_pair_of_sides_has_a_verdict() -> None:
    assert set(VERDICTS) == set(product(Side, Side))


def test_every_reason_to_hold_is_told_in_words() -> None:
    assert set(HOLDS) == set(HoldKind)
    assert all(reason_of(kind, "x") for kind in HoldKind)
