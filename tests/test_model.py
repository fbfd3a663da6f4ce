"""Spans, the only words that calculate."""

from __future__ import annotations

from datetime import timedelta, timezone

import pytest

from sync.model import Span
from tests.world.fakes import NOW

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("microseconds", "seconds"), [(0, 0), (1, 0), (499_999, 0), (500_000, 1), (999_999, 1), (59_999_999, 60)]
)
def test_a_span_is_rounded_to_whole_seconds(microseconds, seconds):
    moment = NOW + timedelta(microseconds=microseconds)
    assert Span.of(moment, moment + HOUR) == Span(
        NOW + timedelta(seconds=seconds), NOW + timedelta(seconds=seconds) + HOUR
    )


def test_spans_are_equal_if_their_instants_are():
    elsewhere = timezone(timedelta(hours=-8))
    assert Span.of(NOW.astimezone(elsewhere), (NOW + HOUR).astimezone(elsewhere)) == Span.of(NOW, NOW + HOUR)


@pytest.mark.parametrize(("length", "positive"), [(HOUR, True), (timedelta(), False), (-HOUR, False)])
def test_a_span_is_positive_if_it_ends_after_it_starts(length, positive):
    assert Span.of(NOW, NOW + length).is_positive is positive


@pytest.mark.parametrize(("seconds", "minutes"), [(3600, 60), (0, 0), (29, 0), (31, 1), (86_400, 1440)])
def test_the_duration_is_in_whole_minutes(seconds, minutes):
    assert Span.of(NOW, NOW + timedelta(seconds=seconds)).minutes == minutes
