"""Which mailboxes a sweep of all queues, in which order, and which of an interrupted one are left."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sync.ids import mark_of
from sync.sweep.rounds import LASTS, SKEW, Round, does_for_now, left_of, resume
from tests.world.fakes import ANNA, BEN, NOW

CLEO = "00000000-0000-4000-8000-00000000000c"
QUEUED = frozenset({mark_of(ANNA)})
AHEAD = NOW + timedelta(days=30)
LATE = NOW + LASTS + timedelta(seconds=1)


def test_who_has_bookings_comes_first_and_nobody_is_left_out() -> None:
    assert left_of(Round(NOW), {ANNA, BEN, CLEO}, [BEN, ANNA]) == [BEN, ANNA, CLEO]


def test_who_is_queued_or_not_wanted_is_not_queued() -> None:
    assert left_of(Round(NOW, QUEUED), {ANNA, BEN}, [ANNA, CLEO]) == [BEN]


@pytest.mark.parametrize(
    ("last", "now", "left", "is_done"),
    [
        pytest.param(None, NOW, [ANNA, BEN], False, id="no round is known"),
        pytest.param(Round(NOW, QUEUED), NOW + LASTS, [BEN], False, id="an interrupted one is gone on with"),
        pytest.param(Round(NOW, QUEUED), LATE, [ANNA, BEN], False, id="an old interrupted one is not"),
        pytest.param(Round(NOW, is_over=True), NOW + LASTS, [ANNA, BEN], True, id="a finished one does for now"),
        pytest.param(Round(NOW, is_over=True), LATE, [ANNA, BEN], False, id="until it is old"),
        pytest.param(Round(NOW + SKEW, QUEUED), NOW, [BEN], False, id="a clock may be a little ahead"),
        pytest.param(Round(NOW + SKEW, is_over=True), NOW, [ANNA, BEN], True, id="or that of a finished one"),
        pytest.param(Round(AHEAD, QUEUED), NOW, [ANNA, BEN], False, id="one of a wrong clock is not gone on with"),
        pytest.param(Round(AHEAD, is_over=True), NOW, [ANNA, BEN], False, id="nor does it do for now"),
    ],
)
def test_a_round_goes_on_or_begins_anew(last, now, left, is_done) -> None:
    assert left_of(resume(last, now), {ANNA, BEN}, []) == left
    assert does_for_now(last, now) is is_done


def test_a_round_from_before_an_outage_is_not_gone_on_with() -> None:
    last, hour = Round(NOW, QUEUED), timedelta(hours=1)
    assert resume(last, NOW + hour, since=NOW) == last
    assert resume(last, NOW + hour, since=NOW + timedelta(seconds=1)) == Round(NOW + hour)
