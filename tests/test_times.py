"""Moments are always aware and in UTC, whatever zone or kind they come in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from sync.times import as_plain, build_moment, from_seconds, in_utc, parse_moment

NINE = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["2026-03-02T09:00:00Z", "2026-03-02T10:00:00+01:00", "2026-03-02T09:00:00", "2026-03-02T09:00:00.0000000"]
)
def test_a_text_is_read_in_utc(text: str) -> None:
    assert parse_moment(text) == NINE
    assert parse_moment(text).tzinfo is UTC


def test_a_moment_is_written_in_utc_and_whole_seconds() -> None:
    ten = datetime(2026, 3, 2, 10, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=1)))
    assert build_moment(ten) == "2026-03-02T09:00:00Z"
    assert build_moment(NINE.replace(tzinfo=None)) == "2026-03-02T09:00:00Z"


def test_a_moment_without_a_zone_is_in_utc() -> None:
    assert in_utc(NINE.replace(tzinfo=None)) == NINE


def test_a_librarys_kind_of_moment_becomes_an_ordinary_one() -> None:
    class Other(datetime):
        """A datetime as the library of tables has it."""

    plain = as_plain(Other(2026, 3, 2, 9, 0, tzinfo=UTC))
    assert type(plain) is datetime
    assert plain == from_seconds(NINE.timestamp()) == NINE
