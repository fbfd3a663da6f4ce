"""What the calculator takes for granted is what is measured; if this fails, copy what `dev.py bench capacity` shows."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from benchmarks.capacity import measure_change, measure_night
from sync.operate.capacity import BOOKINGS_CHANGE, NIGHT, ORDINARY_CHANGE


async def test_a_change_of_an_ordinary_meeting_costs_what_the_calculator_says():
    assert asdict(await measure_change(ordinary=1.0)) == pytest.approx(asdict(ORDINARY_CHANGE), rel=1e-6)


async def test_a_change_of_a_bookings_event_costs_what_the_calculator_says():
    assert asdict(await measure_change(ordinary=0.0)) == pytest.approx(asdict(BOOKINGS_CHANGE), rel=1e-6)


async def test_a_mailboxs_night_costs_what_the_calculator_says():
    assert asdict(await measure_night()) == pytest.approx(asdict(NIGHT), rel=1e-6)
