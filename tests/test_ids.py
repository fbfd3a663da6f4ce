"""Marks of events are short, alike for one id, and different for ids that differ by case alone."""

from __future__ import annotations

import re

from sync.ids import mark_of


def test_a_mark_is_fit_for_a_key_of_a_table_whatever_the_id_holds() -> None:
    for event_id in ("AAkA/x+y=", "ä#?\\", "x" * 1024):
        assert re.fullmatch("[0-9a-f]{12}", mark_of(event_id))


def test_ids_that_differ_by_case_alone_have_different_marks() -> None:
    assert mark_of("AAkAb=") != mark_of("AAkAB=")
    assert mark_of("AAkAb=") == mark_of("AAkAb=")
