"""A write that was not sent, beside what became of its booking without it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from sync.model import Booking
from sync.operate.observed import Fate, claimed, observed_rows
from sync.pairs.actions import Outcome, Stage
from sync.pairs.entry import GONE, Decision, Entry, Held
from sync.pairs.reasons import HoldKind
from tests.world.fakes import ANNA, BEN, NOW, span

GUID = "c5d7e9fa-6b1c-4f11-9f89-000d3adc2b02"
HOUR = timedelta(hours=1)
BOOKING = Booking(GUID, "b1", span(9), "E1", ANNA)


def would_be(what: str, at: float = 0) -> Decision:
    return Decision(
        NOW + at * HOUR, "told of a change", Outcome(what), Stage.OBSERVED, "", "v2", "b1", span(12), span(9)
    )


def entry(*history: Decision, event_id: str = "E1", booking_id: str | None = GUID) -> Entry:
    return Entry(ANNA, event_id, "1", booking_id=booking_id, history=history)


MOVED = replace(BOOKING, etag="b2", span=span(12))
CANCELED = replace(BOOKING, etag="b2", is_canceled=True, event_id=None)


@pytest.mark.parametrize(
    ("what", "booking", "expected"),
    [
        pytest.param("moved", MOVED, Fate.SAME, id="moved to where its event is"),
        pytest.param("moved", BOOKING, Fate.NOTHING, id="not moved"),
        pytest.param("moved", replace(BOOKING, etag="b2"), Fate.NOTHING, id="not moved, but renamed"),
        pytest.param("moved", replace(MOVED, span=span(15)), Fate.ELSE, id="moved elsewhere"),
        pytest.param("moved", replace(MOVED, is_canceled=True), Fate.ELSE, id="moved and canceled"),
        pytest.param("moved", CANCELED, Fate.ELSE, id="canceled in place of moved"),
        pytest.param("moved", None, Fate.ELSE, id="deleted in place of moved"),
        pytest.param("canceled", CANCELED, Fate.SAME, id="canceled"),
        pytest.param("canceled", BOOKING, Fate.NOTHING, id="not canceled"),
        pytest.param("canceled", MOVED, Fate.ELSE, id="moved in place of canceled"),
        pytest.param("linked", replace(BOOKING, etag="b2"), Fate.SAME, id="linked"),
        pytest.param("linked", replace(BOOKING, event_id=None), Fate.NOTHING, id="not linked"),
        pytest.param("unlinked", CANCELED, Fate.SAME, id="unlinked"),
        pytest.param("unlinked", replace(CANCELED, event_id="E1"), Fate.NOTHING, id="canceled before, not unlinked"),
    ],
)
def test_since_then_it_was(what, booking, expected):
    [row] = observed_rows([entry(would_be(what))], [booking] if booking else [], NOW)
    assert row.outcome is expected


def test_what_the_app_has_written_since_is_not_taken_for_somebody_elses():
    moved = Decision(NOW + HOUR, "told of a change", Outcome.MOVED, Stage.DONE, "", "v2", "b1", span(12), span(9))
    [row] = observed_rows([entry(would_be("moved"), moved)], [MOVED], NOW)
    assert row.outcome is Fate.WRITTEN


def test_what_is_held_by_now_is_said_to_be():
    held = replace(entry(would_be("linked")), held=Held(HoldKind.DELETED_BEFORE, NOW, GONE, Outcome.CANCELED))
    [row] = observed_rows([held], [replace(BOOKING, event_id=None)], NOW)
    assert (row.outcome, row.would_be) == (Fate.HELD, "canceled, if released")


def test_a_later_look_that_found_nothing_to_do_has_overtaken_it():
    ignored = Decision(
        NOW + HOUR,
        "told of a change",
        Outcome.IGNORED,
        Stage.DONE,
        "the booking is in step",
        "v3",
        "b1",
        span(9),
        span(9),
    )
    [row] = observed_rows([entry(would_be("moved"), ignored)], [BOOKING], NOW)
    assert row.outcome is Fate.OVERTAKEN
    [row] = observed_rows([entry(would_be("moved"), ignored)], [MOVED], NOW)
    assert row.outcome is Fate.SAME


def test_the_last_one_stands_for_those_before_it_and_the_newest_is_shown_last():
    older = entry(would_be("linked", -3), would_be("moved", 2))
    newer = replace(entry(would_be("canceled", 3), event_id="E2"), mailbox=BEN)
    rows = observed_rows([newer, older], [BOOKING], NOW)
    assert [(row.event, row.would_be.split()[0]) for row in rows] == [("E1", "moved"), ("E2", "canceled,")]


def test_what_is_older_is_left_out_as_is_what_was_written():
    written = Decision(NOW, "told of a change", Outcome.MOVED, Stage.DONE, "", "v2", "b1", span(12), span(9))
    assert observed_rows([entry(would_be("moved", -1)), entry(written)], [BOOKING], NOW) == []


def test_a_row_tells_both_sides_and_what_they_are_now():
    [row] = observed_rows([entry(would_be("moved"))], [replace(MOVED, has_begun=True)], NOW)
    assert row.would_be == "moved from 2026-03-02 09:00-10:00 to 2026-03-02 12:00-13:00"
    assert row.now == "at 2026-03-02 12:00-13:00, begun, linked"
    assert (row.event_version, row.booking_version) == ("v2", "b1")


def test_all_bookings_are_asked_for_once():
    assert claimed([entry(), entry(event_id="E2"), entry(booking_id=None)]) == [GUID]
