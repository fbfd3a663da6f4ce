"""What is remembered of an event, and what follows from it: rules without IO."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sync.intake.coalescing import LONGEST_SETTLE, Notified, is_known, is_queued, settle_seconds, streak
from sync.messages.changes import Change, Evidence
from sync.model import Booking, Event
from sync.pairs.actions import (
    Action,
    CancelBooking,
    Hold,
    Ignore,
    LinkBooking,
    LookAgain,
    MoveBooking,
    Observed,
    Outcome,
    Stage,
    Write,
    in_words,
)
from sync.pairs.agreement import agreement_in
from sync.pairs.entry import DECISIONS, GONE, VERSIONS, Decision, Entry, Held, Intent, Kind
from sync.pairs.holding import discard, hold_missing, release
from sync.pairs.leftovers import is_left_over
from sync.pairs.observing import is_left_out, last_left_out
from sync.pairs.overrides import is_released, is_stale, override
from sync.pairs.pair import Pair
from sync.pairs.reasons import HoldKind
from sync.pairs.remembering import (
    GONE_KEPT,
    KEPT,
    KEPT_AFTER_END,
    agree,
    conclude,
    intend,
    withdraw,
)
from tests.world.fakes import ANNA, BEN, NOW, span

GUID = "c5d7e9fa-6b1c-4f11-9f89-000d3adc2b02"
CHANGE = Change(ANNA, "E1", version="v2")
TOLD = Change(ANNA, "E1", evidence=Evidence.TOLD)
MISSED = replace(CHANGE, evidence=Evidence.MISSED)
EVENT = Event("E1", "v2", span(9), has_extension=True, booking_id=GUID)
BOOKING = Booking(GUID, "b7", span(9), "E1", ANNA)
MOVED = replace(EVENT, span=span(12))
MEETING = Event("E1", "v2", span(9), created=NOW - timedelta(days=3), modified=NOW)
MOVE = MoveBooking(GUID, "b7", span(12))
CANCEL = CancelBooking(GUID, "b7", unlink=True)
NEW = Entry(ANNA, "E1")
DAY = timedelta(days=1)
IN_STEP = Ignore("in step")


@dataclass(frozen=True)
class Look:
    """Both sides as they were seen."""

    event: Event | None
    booking: Booking | None


def of(look: Look, entry: Entry, change: Change | None = None) -> Pair:
    """The pair that was seen."""
    change = change or (TOLD if look.event is None else CHANGE)
    return Pair(change, entry, look.event, look.booking)


WAITING = Hold(HoldKind.WAITS_FOR_OUTLOOK, GUID, MOVE)
MISSING = Hold(HoldKind.MISSED)
ALL_DAY = Hold(HoldKind.ALL_DAY, GUID, MOVE)


def told(history: Iterable[Decision]) -> list[str]:
    """What became of each change, in words."""
    return [in_words(each.outcome, each.stage) for each in history]


def concluded(action: Action, event: Event | None, booking: Booking | None, entry: Entry = NEW) -> Entry:
    change = TOLD if event is None else CHANGE
    known = conclude(entry, action, of(Look(event, booking), entry, change), NOW)
    assert known is not None
    return known


class TestWhatIsAgreedOn:
    @pytest.mark.parametrize(
        ("action", "event", "expected"),
        [
            pytest.param(IN_STEP, EVENT, (span(9),), id="what both have in step"),
            pytest.param(MOVE, replace(EVENT, span=span(12)), (span(12),), id="what the booking was moved to"),
            pytest.param(WAITING, replace(EVENT, span=span(12)), (), id="nothing, if the booking is left"),
            pytest.param(ALL_DAY, replace(EVENT, span=span(12)), (), id="nothing, if it is held"),
        ],
    )
    def test_after_an_action(self, action: Action, event: Event, expected: object) -> None:
        assert concluded(action, event, BOOKING).agreed == expected

    def test_a_booking_that_was_canceled_has_nothing_in_common_with_its_cancelled_event(self) -> None:
        assert concluded(CANCEL, replace(EVENT, is_cancelled=True), BOOKING).agreed == ()

    def test_what_was_agreed_on_before_stays_where_nothing_new_is(self) -> None:
        before = replace(NEW, agreed=(span(7),))
        assert concluded(WAITING, replace(EVENT, span=span(12)), BOOKING, before).agreed == (span(7),)
        assert concluded(CANCEL, None, BOOKING, before).agreed == (span(7),)

    def test_a_booking_that_is_not_linked_agrees_on_nothing_until_it_is(self) -> None:
        unlinked = replace(BOOKING, event_id=None)
        assert concluded(IN_STEP, EVENT, unlinked).agreed == ()
        assert concluded(LinkBooking(GUID, "b7", "E1"), EVENT, unlinked).agreed == (span(9),)

    def test_a_link_that_was_left_out_because_the_app_only_observed_is_agreed_on_as_if_it_had_been_written(
        self,
    ) -> None:
        unlinked = replace(BOOKING, event_id=None)
        assert concluded(Observed(LinkBooking(GUID, "b7", "E1")), EVENT, unlinked).agreed == (span(9),)
        assert concluded(Observed(MOVE), MOVED, unlinked).agreed == ()

    def test_what_a_sweep_finds_in_step_is_agreed_on(self) -> None:
        entry = agree(NEW, EVENT, BOOKING, NOW)
        assert entry is not None
        assert (entry.agreed, entry.booking_id, entry.versions) == ((span(9),), GUID, ("v2",))
        assert agree(entry, EVENT, BOOKING, NOW) is None, "once is enough"

    def test_what_a_sweep_has_found_is_kept_until_some_time_after_it_is_over(self) -> None:
        assert agree(NEW, EVENT, BOOKING, NOW).expires == NOW + KEPT  # type: ignore[union-attr]
        far = span(9, day=200)
        entry = agree(NEW, replace(EVENT, span=far), replace(BOOKING, span=far), NOW)
        assert entry is not None
        assert entry.expires == far.end + KEPT_AFTER_END

    def test_a_pair_that_is_back_is_no_more_gone(self) -> None:
        before = replace(NEW, kind=Kind.GONE, versions=("v1", "v2", "v0"))
        entry = agree(before, EVENT, BOOKING, NOW)
        assert entry is not None
        assert (entry.kind, entry.versions) == (Kind.PAIR, ("v1", "v0", "v2"))

    def test_a_list_that_lags_behind_teaches_nothing(self) -> None:
        entry = replace(NEW, modified=NOW)
        assert agree(entry, replace(EVENT, modified=NOW - DAY), BOOKING, NOW) is None
        assert agree(entry, replace(EVENT, modified=NOW), BOOKING, NOW) is not None

    def test_a_pair_that_came_in_step_without_a_notification_is_not_held_any_more(self) -> None:
        known = concluded(IN_STEP, EVENT, BOOKING)
        entry = agree(replace(known, held=Held(HoldKind.WAITS_FOR_OUTLOOK, NOW, "v2")), EVENT, BOOKING, NOW)
        assert entry is not None
        assert entry.held is None

    @pytest.mark.parametrize(
        ("event", "booking"),
        [
            (EVENT, replace(BOOKING, span=span(12))),
            (EVENT, replace(BOOKING, event_id="E2")),
            (replace(EVENT, booking_id=None), BOOKING),
        ],
    )
    def test_what_a_sweep_finds_out_of_step_is_not(self, event: Event, booking: Booking) -> None:
        assert agree(NEW, event, booking, NOW) is None


class TestAWriteInDoubt:
    """It was intended on version b7 of the booking, and nobody knows what became of it."""

    ENTRY = replace(NEW, agreed=(span(9),), intent=Intent((span(12),), "b7"))

    def test_the_booking_is_unchanged_so_nothing_was_written(self) -> None:
        assert agreement_in(self.ENTRY, BOOKING).spans == {span(9)}

    def test_the_booking_has_the_times_so_it_was_written(self) -> None:
        assert agreement_in(self.ENTRY, replace(BOOKING, etag="b8", span=span(12))).spans == {span(12)}

    def test_the_booking_has_other_times_so_nobody_knows(self) -> None:
        assert agreement_in(self.ENTRY, replace(BOOKING, etag="b8")).spans == {span(9), span(12)}

    def test_a_refusal_that_is_certain_says_that_it_was_not_written(self) -> None:
        changed = replace(BOOKING, etag="b8")
        assert agreement_in(withdraw(self.ENTRY, MOVE, BOOKING), changed).spans == {span(9)}
        assert agreement_in(withdraw(self.ENTRY, replace(MOVE, etag="b6"), BOOKING), changed).spans == {
            span(9),
            span(12),
        }

    def test_a_refusal_says_nothing_of_what_somebody_else_intended(self) -> None:
        both = replace(self.ENTRY, intent=Intent((span(12), span(15)), "b7"))
        moved = replace(BOOKING, etag="b8", span=span(12))
        assert agreement_in(withdraw(both, replace(MOVE, span=span(15)), BOOKING), moved).spans == {span(12)}

    def test_a_refusal_says_nothing_of_the_same_times_of_another_worker(self) -> None:
        """Theirs may have been done, and a dispatcher have moved the booking back since."""
        entry = intend(self.ENTRY, MOVE, of(Look(replace(EVENT, span=span(12)), BOOKING), self.ENTRY, CHANGE), NOW)
        entry = intend(entry, MOVE, of(Look(replace(EVENT, span=span(12)), BOOKING), entry, CHANGE), NOW)
        assert entry.intent == Intent((span(12), span(12)), "b7")
        moved_back = replace(BOOKING, etag="b9")
        assert agreement_in(withdraw(entry, MOVE, BOOKING), moved_back).spans == {span(9), span(12)}

    def test_a_booking_that_is_back_where_it_was_may_have_been_moved_in_between(self) -> None:
        """One worker was about to move it, another one to cancel it where it is."""
        both = replace(self.ENTRY, intent=Intent((span(12), span(9)), "b7"))
        assert agreement_in(both, replace(BOOKING, etag="b9")).spans == {span(9), span(12)}

    def test_the_id_of_the_event_tells_that_a_link_was_written(self) -> None:
        first = replace(self.ENTRY, agreed=())
        assert agreement_in(first, replace(BOOKING, etag="b8", span=span(20))).spans == {span(12)}
        assert agreement_in(first, replace(BOOKING, etag="b8", span=span(20), event_id=None)).spans == set()

    def test_intents_on_one_version_of_the_booking_stand_side_by_side(self) -> None:
        look = Look(replace(EVENT, span=span(15)), BOOKING)
        entry = intend(self.ENTRY, replace(MOVE, span=span(15)), of(look, self.ENTRY, CHANGE), NOW)
        assert entry.intent == Intent((span(12), span(15)), "b7")

    def test_what_is_about_to_be_done_is_noted_with_the_times_that_the_booking_has_then(self) -> None:
        entry = intend(NEW, LinkBooking(GUID, "b7", "E1"), of(Look(EVENT, BOOKING), NEW, CHANGE), NOW)
        assert (entry.booking_id, entry.intent, entry.expires) == (GUID, Intent((span(9),), "b7"), NOW + KEPT)
        assert [each.at for each in entry.history] == [NOW]
        assert told(entry.history) == ["about to be linked"]
        assert intend(NEW, CANCEL, of(Look(None, None), NEW, CHANGE), NOW).intent == Intent((), "b7")

    def test_an_intent_on_a_newer_version_settles_the_older_ones(self) -> None:
        newer = replace(BOOKING, etag="b8", span=span(12))
        entry = intend(
            self.ENTRY, replace(MOVE, etag="b8", span=span(15)), of(Look(EVENT, newer), self.ENTRY, CHANGE), NOW
        )
        assert (entry.agreed, entry.intent) == ((span(12),), Intent((span(15),), "b8"))

    def test_what_is_gone_stays_so_while_a_write_is_in_doubt(self) -> None:
        """Who comes after a crash would else not be sure of it, and conclude nothing."""
        gone = replace(self.ENTRY, kind=Kind.GONE)
        assert intend(gone, CANCEL, of(Look(None, BOOKING), gone, CHANGE), NOW).kind is Kind.GONE
        assert intend(gone, MOVE, of(Look(EVENT, BOOKING), gone, CHANGE), NOW).kind is Kind.PAIR

    def test_who_was_about_to_write_may_only_be_slow(self) -> None:
        """Somebody else finds the pair in step, and then the write of an older state of the event comes after all."""
        for entry in (concluded(IN_STEP, EVENT, BOOKING, self.ENTRY), agree(self.ENTRY, EVENT, BOOKING, NOW)):
            assert entry is not None
            assert agreement_in(entry, BOOKING).spans == {span(9)}
            assert agreement_in(entry, replace(BOOKING, etag="b8", span=span(12))).spans == {span(12)}

    @pytest.mark.parametrize(("event", "change"), [(None, TOLD), (replace(EVENT, span=span(20)), CHANGE)])
    def test_what_became_of_it_is_remembered_as_far_as_it_is_known(self, event: Event | None, change: Change) -> None:
        def agreed(booking: Booking, entry: Entry = self.ENTRY) -> object:
            known = conclude(entry, WAITING, of(Look(event, booking), entry, change), NOW)
            return known is not None and known.agreed

        moved, changed = replace(BOOKING, etag="b8", span=span(12)), replace(BOOKING, etag="b8")
        assert agreed(moved) == (span(12),)
        assert agreed(changed) == (span(9), span(12))
        assert agreed(changed, withdraw(self.ENTRY, MOVE, BOOKING)) == (span(9),)

    def test_once_the_booking_has_changed_nobody_can_write_any_more(self) -> None:
        changed = replace(BOOKING, etag="b8")
        assert concluded(IN_STEP, EVENT, changed, self.ENTRY).intent is None
        assert agree(self.ENTRY, EVENT, changed, NOW).intent is None  # type: ignore[union-attr]

    def test_what_is_possible_is_stored_in_one_order(self) -> None:
        spans = [span(hour, hours) for hour in (3, 5, 8) for hours in (1, 2, 4)]
        entry = replace(self.ENTRY, agreed=tuple(reversed(spans)))
        moved = replace(EVENT, span=span(20))
        known = concluded(WAITING, moved, replace(BOOKING, etag="b8"), entry)
        assert known.agreed == (*spans, span(12))

    def test_done_it_is_in_doubt_no_more(self) -> None:
        assert concluded(MOVE, replace(EVENT, span=span(12)), BOOKING, self.ENTRY).intent is None


class TestWhatNeedsNoSecondLook:
    def test_a_pair_is_not_forgotten_because_one_look_did_not_show_its_extension(self) -> None:
        known = concluded(IN_STEP, EVENT, BOOKING)
        assert conclude(known, IN_STEP, of(Look(MEETING, None), known, CHANGE), NOW) is None

    def test_the_versions_that_were_notified_and_read(self) -> None:
        entry = concluded(IN_STEP, replace(EVENT, etag="v3"), BOOKING)
        assert entry.versions == ("v2", "v3")

    def test_the_newest_ones_are_kept(self) -> None:
        before = replace(NEW, versions=tuple(f"old{number}" for number in range(VERSIONS)))
        versions = concluded(IN_STEP, EVENT, BOOKING, before).versions
        assert (len(versions), versions[-1]) == (VERSIONS, "v2")

    def test_an_event_whose_booking_is_not_there_may_need_one(self) -> None:
        assert concluded(Ignore("no booking"), EVENT, None).versions == ()

    def test_of_an_event_that_is_back_none_but_the_new_ones(self) -> None:
        gone = replace(NEW, kind=Kind.GONE, versions=("v1",))
        back = concluded(IN_STEP, EVENT, BOOKING, gone)
        assert (back.kind, back.versions) == (Kind.PAIR, ("v2",))

    def test_of_an_event_that_is_gone_none(self) -> None:
        assert concluded(CANCEL, None, BOOKING, replace(NEW, versions=("v1",))).versions == ()

    def test_for_some_time_and_until_it_is_long_over(self) -> None:
        assert concluded(IN_STEP, EVENT, BOOKING).expires == NOW + KEPT
        far = span(9, day=200)
        known = concluded(IN_STEP, replace(EVENT, span=far), replace(BOOKING, span=far))
        assert known.expires == far.end + KEPT_AFTER_END

    def test_an_event_without_our_extension_that_a_sweep_came_back_to_is_not_ours(self) -> None:
        young = replace(MEETING, created=NOW)
        for event in (MEETING, young):
            entry = conclude(NEW, IN_STEP, of(Look(event, None), NEW, MISSED), NOW)
            assert entry is not None
            assert entry.kind is Kind.NOT_OURS

    @pytest.mark.parametrize(
        ("minutes", "believed"),
        [
            pytest.param(11, 11, id="at 9:11 an event of 9:00 is nobody's until 9:22"),
            pytest.param(90, 90, id="at 10:30 it is so until 12:00"),
            pytest.param(60 * 24 * 3, 60 * 24, id="three days later it is so for a day"),
        ],
    )
    def test_an_event_is_nobodys_for_as_long_again_as_it_is_old(self, minutes: float, believed: float) -> None:
        assert MEETING.created is not None
        edited = replace(MEETING, modified=MEETING.created + timedelta(minutes=minutes))
        assert concluded(IN_STEP, edited, None).expires == NOW + timedelta(minutes=believed)

    def test_a_young_event_that_came_back_after_its_deletion_may_still_get_our_extension(self) -> None:
        back, young = replace(NEW, etag="1", kind=Kind.GONE), replace(MEETING, created=MEETING.modified)
        look, looked_for = (
            Look(young, None),
            MISSED,
        )  # as a deletion was told of before
        assert conclude(back, IN_STEP, of(look, back, looked_for), NOW) is None
        assert conclude(NEW, IN_STEP, of(look, NEW, looked_for), NOW) is not None

    def test_an_old_meeting_of_somebodys_own_is_not_ours_for_a_day(self) -> None:
        entry = concluded(IN_STEP, MEETING, None)
        assert (entry.kind, entry.expires) == (Kind.NOT_OURS, NOW + DAY)

    @pytest.mark.parametrize(
        "event",
        [
            pytest.param(replace(MEETING, created=NOW - timedelta(minutes=10)), id="it is young"),
            pytest.param(replace(MEETING, created=None), id="nobody knows its age"),
        ],
    )
    def test_a_meeting_is_looked_at_again_if(self, event: Event) -> None:
        assert conclude(NEW, IN_STEP, of(Look(event, None), NEW, CHANGE), NOW) is None

    def test_a_deletion_that_was_told_of_and_seen(self) -> None:
        assert concluded(CANCEL, None, BOOKING).kind is Kind.GONE

    def test_a_deletion_that_nobody_told_of_is_not_remembered(self) -> None:
        assert conclude(NEW, LookAgain("", GUID), of(Look(None, BOOKING), NEW, TOLD), NOW) is None
        assert conclude(NEW, Ignore(""), of(Look(None, None), NEW, CHANGE), NOW) is None

    @pytest.mark.parametrize(
        ("known", "change", "expected"),
        [
            pytest.param({}, CHANGE, False, id="a new event does"),
            pytest.param({"kind": Kind.PAIR, "versions": {"v1", "v2"}}, CHANGE, True, id="a known version does not"),
            pytest.param({"kind": Kind.PAIR, "versions": {"v1"}}, CHANGE, False, id="an unknown version does"),
            pytest.param({"kind": Kind.PAIR, "versions": {"v1"}}, Change(ANNA, "E1"), False, id="no version does"),
            pytest.param({"kind": Kind.PAIR, "versions": {"v2"}}, replace(TOLD, version="v2"), False, id="a deletion"),
            pytest.param({"kind": Kind.GONE}, replace(TOLD, version="v2"), True, id="a deletion of what is gone"),
            pytest.param({"kind": Kind.GONE}, TOLD, False, id="a deletion that may stand for more than itself does"),
            pytest.param({"kind": Kind.GONE}, CHANGE, False, id="a change of what was gone does"),
            pytest.param({"kind": Kind.NOT_OURS}, CHANGE, True, id="somebody's own meeting does not"),
            pytest.param({"kind": Kind.NOT_OURS}, TOLD, True, id="nor does its deletion"),
            pytest.param({"kind": Kind.NOT_OURS, "expires": NOW}, CHANGE, False, id="until that has expired"),
            pytest.param({"kind": Kind.NOT_OURS, "expires": None}, CHANGE, False, id="or where nobody knows when"),
        ],
    )
    def test_of_a_notification(self, known: dict[str, object], change: Change, expected: bool) -> None:
        assert is_known(change, Notified(NOW, **{"expires": NOW + DAY, **known})) == expected  # type: ignore[arg-type]


class TestAStateThatLagsBehind:
    KNOWN = replace(NEW, versions=("v1", "v2"), modified=NOW)

    def test_modified_before_what_is_known(self) -> None:
        older = Look(replace(EVENT, etag="v0", modified=NOW - timedelta(seconds=1)), BOOKING)
        assert is_stale(of(older, self.KNOWN, CHANGE))
        assert not is_stale(of(older, self.KNOWN, replace(CHANGE, attempt=3))), "servers' clocks may differ for ever"

    def test_modified_before_what_somebody_is_about_to_write(self) -> None:
        about_to = intend(NEW, MOVE, of(Look(replace(EVENT, modified=NOW), BOOKING), NEW, CHANGE), NOW)
        older = Look(replace(EVENT, etag="v0", modified=NOW - timedelta(seconds=1)), BOOKING)
        assert is_stale(of(older, about_to, CHANGE))

    def test_a_new_version_was_told_of_and_a_known_one_read(self) -> None:
        look = Look(replace(EVENT, modified=NOW), BOOKING)
        assert is_stale(of(look, self.KNOWN, replace(CHANGE, version="v9")))
        assert not is_stale(of(look, self.KNOWN, replace(CHANGE, version="v9", attempt=1))), (
            "it was an old notification"
        )

    @pytest.mark.parametrize("version", ["v1", "v2", None])
    def test_what_is_known_was_told_of(self, version: str | None) -> None:
        assert not is_stale(of(Look(EVENT, BOOKING), self.KNOWN, replace(CHANGE, version=version)))

    def test_a_newer_state_or_none_at_all(self) -> None:
        assert not is_stale(of(Look(replace(EVENT, etag="v9", modified=NOW), BOOKING), self.KNOWN, CHANGE))
        assert not is_stale(of(Look(None, BOOKING), self.KNOWN, TOLD))


class TestHeld:
    def test_with_its_reason_and_since_when(self) -> None:
        entry = concluded(ALL_DAY, EVENT, BOOKING)
        assert entry.held == Held(HoldKind.ALL_DAY, NOW, "v2", Outcome.MOVED, booking_span=span(9))
        again = conclude(entry, ALL_DAY, of(Look(EVENT, BOOKING), entry, CHANGE), NOW + DAY)
        assert again is not None
        assert again.held == entry.held, "since the first time"

    def test_what_waits_for_outlook_is_told_apart(self) -> None:
        held = concluded(WAITING, EVENT, BOOKING).held
        assert held is not None
        assert held.is_waiting
        assert held.outcome is Outcome.MOVED

    def test_in_step_again_it_is_not_held(self) -> None:
        assert concluded(IN_STEP, EVENT, BOOKING, replace(NEW, held=Held(HoldKind.ALL_DAY, NOW, "v1"))).held is None

    @pytest.mark.parametrize(("event", "version"), [(EVENT, "v2"), (None, GONE)])
    def test_a_release_holds_for_this_version_of_the_event_only(self, event: Event | None, version: str) -> None:
        hold, look = ALL_DAY, Look(event, BOOKING)
        held = concluded(hold, event, BOOKING)
        assert override(hold, of(look, replace(held, released=version)), NOW) == MOVE
        assert override(WAITING, of(look, replace(held, released=version)), NOW) == MOVE
        assert override(hold, of(look, replace(held, released="another")), NOW) == hold
        assert override(replace(hold, write=None), of(look, replace(held, released=version)), NOW) == replace(
            hold, write=None
        )

    def test_a_release_holds_as_long_as_the_booking_is_where_it_was(self) -> None:
        """A dispatcher who moves it afterwards knows of it, or has another reason; a note changes its version only."""
        hold = ALL_DAY
        held = replace(concluded(hold, EVENT, BOOKING), released="v2")
        assert override(hold, of(Look(EVENT, replace(BOOKING, etag="b8")), held), NOW) == MOVE
        assert override(hold, of(Look(EVENT, replace(BOOKING, etag="b8", span=span(20))), held), NOW) == hold
        assert not is_released(of(Look(EVENT, None), held))

    @pytest.mark.parametrize("action", [ALL_DAY, WAITING, CANCEL, MOVE])
    def test_what_a_person_discards_stays_as_it_is(self, action: Action) -> None:
        look = Look(EVENT, BOOKING)
        assert override(action, of(look, replace(NEW, discarded="v2")), NOW) == Ignore("a person decided to let it be")
        assert override(action, of(look, replace(NEW, discarded="v1")), NOW) == action

    def test_a_word_is_forgotten_with_the_version_it_was_said_of(self) -> None:
        entry = concluded(MOVE, EVENT, BOOKING, replace(NEW, released="v2", discarded="v1"))
        assert (entry.released, entry.discarded) == (None, None)
        assert concluded(IN_STEP, EVENT, BOOKING, replace(NEW, discarded="v2")).discarded == "v2"

    def test_released_it_is_held_until_it_is_done(self) -> None:
        entry = concluded(ALL_DAY, EVENT, BOOKING, replace(NEW, discarded="v2"))
        assert entry.held is not None
        released = release(entry, entry.held, NOW + DAY)
        assert (released.released, released.discarded, released.held) == ("v2", None, entry.held)
        said = Decision(NOW + DAY, "said by a person", Outcome.RELEASED, Stage.DONE, "the event lasts all day", "v2")
        assert released.history[-1] == said
        assert concluded(MOVE, EVENT, BOOKING, released).held is None

    def test_discarded_it_is_held_no_more(self) -> None:
        entry = concluded(ALL_DAY, EVENT, BOOKING)
        assert entry.held is not None
        discarded = discard(replace(entry, released="v2"), entry.held, NOW + DAY)
        assert (discarded.released, discarded.discarded, discarded.held) == (None, "v2", None)
        said = Decision(NOW + DAY, "said by a person", Outcome.DISCARDED, Stage.DONE, "the event lasts all day", "v2")
        assert discarded.history[-1] == said

    def test_what_a_sweep_misses_is_held_once(self) -> None:
        entry = hold_missing(replace(NEW, booking_id="another"), BOOKING, MISSING, NOW)
        assert entry is not None
        assert entry.held == Held(HoldKind.MISSED, NOW, GONE, Outcome.CANCELED, True, span(9))
        assert (entry.booking_id, entry.expires) == (GUID, NOW + KEPT)
        assert hold_missing(entry, BOOKING, MISSING, NOW + DAY) is None

    def test_what_a_sweep_misses_is_not_forgotten_earlier_for_that(self) -> None:
        entry = hold_missing(replace(NEW, expires=NOW + 2 * KEPT), BOOKING, MISSING, NOW)
        assert entry is not None
        assert entry.expires == NOW + 2 * KEPT

    @pytest.mark.parametrize(
        ("booking", "hold"),
        [
            (BOOKING, Hold(HoldKind.MANY_MISSED, detail="2 of 3")),
            (replace(BOOKING, span=span(15)), MISSING),
            (None, MISSING),
        ],
    )
    def test_what_a_sweep_misses_is_held_anew_if_it_is_another_thing(self, booking: Booking, hold: Hold) -> None:
        entry = hold_missing(NEW, BOOKING, MISSING, NOW)
        assert entry is not None
        again = hold_missing(entry, booking, hold, NOW + DAY)
        assert again is not None
        assert again.held is not None
        assert (again.booking_id, again.held.reason, again.held.since) == (GUID, hold.reason, NOW + DAY)

    def test_of_a_deletion_it_is_known_until_some_time_after_the_end_of_the_booking(self) -> None:
        later = replace(BOOKING, span=span(9, day=200))
        assert (
            concluded(Hold(HoldKind.TOO_MANY, GUID, CANCEL, "too many"), None, later).expires
            == later.span.end + GONE_KEPT
        )
        assert concluded(IN_STEP, None, None).expires == NOW + GONE_KEPT


class TestHistory:
    def test_a_decision_tells_what_was_seen_on_both_sides(self) -> None:
        [decision] = concluded(MOVE, replace(EVENT, span=span(12)), BOOKING).history
        assert decision == Decision(
            NOW, "told of a change", Outcome.MOVED, Stage.DONE, "", "v2", "b7", span(12), span(9)
        )
        [decision] = concluded(Ignore("not there"), EVENT, None).history
        assert decision == Decision(
            NOW, "told of a change", Outcome.IGNORED, Stage.DONE, "not there", "v2", "", span(9)
        )

    @pytest.mark.parametrize(
        ("change", "cause"),
        [
            (TOLD, "told of its deletion"),
            (MISSED, "not found before"),
            (replace(CHANGE, attempt=2), "told of a change, try 3"),
        ],
    )
    def test_a_decision_tells_what_brought_it_about(self, change: Change, cause: str) -> None:
        known = conclude(NEW, IN_STEP, of(Look(EVENT, BOOKING), NEW, change), NOW)
        assert known is not None
        assert [each.cause for each in known.history] == [cause]

    def test_what_was_about_to_be_done_gives_way_to_what_was_done(self) -> None:
        about_to = intend(NEW, MOVE, of(Look(EVENT, BOOKING), NEW, CHANGE), NOW)
        assert told(about_to.history) == ["about to be moved"]
        assert told(concluded(MOVE, EVENT, BOOKING, about_to).history) == ["moved"]
        later = intend(
            concluded(IN_STEP, EVENT, BOOKING),
            MOVE,
            of(Look(EVENT, BOOKING), concluded(IN_STEP, EVENT, BOOKING), CHANGE),
            NOW,
        )
        assert told(concluded(MOVE, EVENT, BOOKING, later).history) == ["ignored", "moved"]
        after_a_crash = concluded(IN_STEP, EVENT, BOOKING, about_to).history
        assert told(after_a_crash) == ["about to be moved", "ignored"]

    def test_the_same_again_is_counted(self) -> None:
        entry: Entry | None = concluded(MOVE, EVENT, BOOKING)
        for day in range(3):
            assert entry is not None
            change = replace(CHANGE, attempt=day)
            entry = conclude(entry, IN_STEP, of(Look(EVENT, BOOKING), entry, change), NOW + day * DAY)
        assert entry is not None
        assert [(each.outcome, each.times) for each in entry.history] == [("moved", 1), ("ignored", 3)]
        assert (entry.history[-1].at, entry.history[-1].cause) == (NOW + 2 * DAY, "told of a change, try 3")

    def test_it_does_not_grow_for_ever(self) -> None:
        entry = NEW
        for number in range(DECISIONS + 5):
            entry = concluded(Ignore(str(number)), EVENT, BOOKING, entry)
        assert len(entry.history) == DECISIONS
        assert entry.history[-1].reason == str(DECISIONS + 4)


class TestBursts:
    """A message was queued at NOW and can be seen five seconds later."""

    KNOWN = Notified(NOW, due=NOW + timedelta(seconds=5), settle=5, streak=1)

    def at(self, seconds: float, **changes: object) -> Notified:
        return replace(self.KNOWN, at=NOW + timedelta(seconds=seconds), **changes)  # type: ignore[arg-type]

    @pytest.mark.parametrize(("seconds", "expected"), [(0, True), (3.9, True), (4, False), (5, False), (900, False)])
    def test_what_comes_before_it_can_be_seen_needs_no_message_of_its_own(self, seconds: float, expected: bool) -> None:
        assert is_queued(CHANGE, self.at(seconds)) == expected

    def test_the_first_one_needs_one(self) -> None:
        assert not is_queued(CHANGE, Notified(NOW))

    def test_a_deletion_needs_one_that_tells_of_it(self) -> None:
        assert not is_queued(TOLD, self.at(1))
        assert is_queued(TOLD, self.at(1, due_is_deletion=True))
        assert is_queued(CHANGE, self.at(1, due_is_deletion=True))

    def test_an_event_that_does_not_rest_is_looked_at_less_and_less_often(self) -> None:
        waits, known = [], Notified(NOW)
        for _ in range(8):
            waits.append(settle_seconds(CHANGE, known, 5))
            due = known.at + timedelta(seconds=waits[-1])
            known = Notified(due, due=due, settle=waits[-1], streak=streak(known))
        assert waits == [5, 5, 10, 20, 40, 60, 60, 60]

    def test_once_it_has_rested_it_is_as_any_other(self) -> None:
        assert streak(self.at(5 + LONGEST_SETTLE, streak=9)) == 10
        rested = self.at(6 + LONGEST_SETTLE, streak=9, settle=60)
        assert (settle_seconds(CHANGE, rested, 5), streak(rested)) == (5, 1)

    def test_a_deletion_never_waits_longer(self) -> None:
        assert settle_seconds(TOLD, self.at(5, streak=9, settle=60), 5) == 5

    def test_turned_off_nothing_waits(self) -> None:
        assert settle_seconds(CHANGE, self.at(5, streak=9, settle=60), 0) == 0


class TestTheYear9999:
    def test_an_event_then_is_remembered_as_any_other(self) -> None:
        at_the_end = replace(span(9), end=datetime(9999, 12, 31, tzinfo=UTC))
        event, booking = replace(EVENT, span=at_the_end), replace(BOOKING, span=at_the_end)
        for entry in (concluded(IN_STEP, event, booking), agree(NEW, event, booking, NOW)):
            assert entry is not None
            assert entry.agreed == (at_the_end,)
        gone = conclude(NEW, IN_STEP, of(Look(None, booking), NEW, TOLD), NOW)
        assert gone is not None
        assert gone.expires is not None


class TestAnotherBooking:
    def test_what_was_agreed_on_with_one_booking_says_nothing_of_another(self) -> None:
        entry = replace(NEW, booking_id="other", agreed=(span(9),), intent=Intent((span(12),), "b1"))
        assert agreement_in(entry, BOOKING).spans == set()


class TestAConflict:
    HELD = Held(HoldKind.OVERRULED, NOW, "v2", booking_span=span(16), detail="moved apart")

    @pytest.mark.parametrize("write", [MOVE, CANCEL])
    def test_what_was_decided_of_an_event_stands_when_the_booking_moves_back(self, write: Write) -> None:
        entry = replace(NEW, held=self.HELD)
        kept = override(write, of(Look(EVENT, BOOKING), entry), NOW)
        assert kept == Hold(HoldKind.OVERRULED, GUID, write, "moved apart")
        asked = replace(entry, held=replace(self.HELD, kind=HoldKind.MOVED_APART))
        assert isinstance(override(write, of(Look(EVENT, BOOKING), asked), NOW), Hold)

    def test_a_new_version_of_the_event_is_judged_anew(self) -> None:
        assert override(MOVE, of(Look(replace(EVENT, etag="v3"), BOOKING), replace(NEW, held=self.HELD)), NOW) == MOVE

    def test_a_booking_that_only_waited_for_its_event_follows_it_again(self) -> None:
        entry = replace(NEW, held=replace(self.HELD, kind=HoldKind.WAITS_FOR_OUTLOOK))
        assert override(MOVE, of(Look(EVENT, BOOKING), entry), NOW) == MOVE

    def test_a_person_may_say_otherwise(self) -> None:
        entry = release(replace(NEW, held=self.HELD), self.HELD, NOW)
        assert override(MOVE, of(Look(EVENT, replace(BOOKING, span=span(16))), entry), NOW) == MOVE


class TestObserved:
    """A write that was not sent."""

    def concluded(self, entry: Entry, write: MoveBooking | CancelBooking, event: Event | None = MOVED) -> Entry:
        look = Look(event, BOOKING)
        found = conclude(entry, Observed(write), of(look, entry, TOLD if event is None else CHANGE), NOW)
        assert found is not None
        return found

    def test_it_is_told_as_what_would_have_been_done(self) -> None:
        assert told(self.concluded(NEW, MOVE).history) == ["would be moved"]

    def test_it_is_in_doubt_like_a_write_that_was_sent_as_somebody_else_may_do_it(self) -> None:
        found = self.concluded(replace(NEW, agreed=(span(9),)), MOVE)
        assert is_left_out(found)
        assert agreement_in(found, BOOKING).spans == {span(9)}
        assert agreement_in(found, replace(BOOKING, etag="b8", span=span(12))).spans == {span(12)}
        assert agreement_in(found, replace(BOOKING, etag="b8", span=span(20))).spans == {span(9), span(12)}

    def test_a_later_write_that_was_sent_is_none_that_was_left_out(self) -> None:
        found = conclude(
            self.concluded(NEW, MOVE), MOVE, of(Look(MOVED, BOOKING), self.concluded(NEW, MOVE), CHANGE), NOW
        )
        assert found is not None
        assert not is_left_out(found)

    @pytest.mark.parametrize(
        ("changes", "is_held"),
        [
            ({"event_id": None}, True),
            ({"event_id": "E2"}, False),
            ({"event_id": None, "mailbox": BEN}, False),
            ({"event_id": None, "is_canceled": True}, False),
            ({"event_id": None, "has_begun": True}, False),
            ({"event_id": None, "span": span(0)}, False),
        ],
    )
    def test_a_booking_that_only_observing_left_unlinked_is_not_forgotten_with_its_event(
        self, changes: dict[str, Any], is_held: bool
    ) -> None:
        booking, left_out = replace(BOOKING, **changes), self.concluded(NEW, MOVE)
        assert (is_left_over(of(Look(None, booking), left_out), NOW)) == is_held
        assert not is_left_over(of(Look(None, booking), NEW), NOW)
        assert not is_left_over(of(Look(None, None), left_out), NOW)

    def test_the_version_is_known(self) -> None:
        assert self.concluded(NEW, MOVE).versions == ("v2",)

    def test_of_an_event_that_is_gone_a_sweep_still_knows_that_it_was_there(self) -> None:
        gone = self.concluded(NEW, CANCEL, None)
        assert gone.was_read
        assert gone.booking_id == GUID
        assert self.concluded(gone, CANCEL, None).versions == (GONE,)
        assert is_known(replace(TOLD, version="v1"), Notified(NOW, gone.kind, frozenset(gone.versions), gone.expires))

    def test_a_persons_word_holds_until_it_is_done(self) -> None:
        held = Held(HoldKind.ALL_DAY, NOW, "v2")
        found = self.concluded(replace(NEW, released="v2", held=held), MOVE)
        assert (found.released, found.held) == ("v2", held)

    def test_it_is_the_last_one_that_is_reported(self) -> None:
        found = self.concluded(self.concluded(NEW, MOVE), CANCEL, None)
        assert last_left_out(found) is not None
        assert told([last_left_out(found)]) == ["would be canceled"]
        assert last_left_out(NEW) is None
