"""Ids are recognized by their shape; short ids are alike for one id, and differ for ids that differ by case alone."""

from __future__ import annotations

import re

import pytest

from sync.ids import guid_of, is_etag, is_event_id, is_guid, parse_guid, short_id_of

GUID = "01234567-89ab-cdef-0123-456789abcdef"


@pytest.mark.parametrize("text", [GUID, GUID.upper(), f"{{{GUID}}}", GUID.replace("-", "")])
def test_a_guid_is_read_in_lower_case_with_hyphens(text: str) -> None:
    assert guid_of(text) == GUID
    assert parse_guid(text) == GUID


@pytest.mark.parametrize("value", ["", "no guid", GUID[:-1], GUID + "0", None, 7, ["x"]])
def test_another_value_is_no_guid(value: object) -> None:
    assert parse_guid(value) is None
    assert not is_guid(value)


def test_a_text_that_is_no_guid_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="hexadecimal"):
        guid_of("no guid")


@pytest.mark.parametrize("value", ["AAkA/x+y=", "AAkA-x_y=", "x" * 1024])
def test_event_ids_are_base64_of_either_alphabet(value: str) -> None:
    assert is_event_id(value)


@pytest.mark.parametrize("value", ["", "x" * 1025, "a b", "ä", "AAkA?", "a\n", None, 7])
def test_another_value_is_no_event_id(value: object) -> None:
    assert not is_event_id(value)


def test_an_etag_is_a_weak_one_in_quotes() -> None:
    assert is_etag('W/"1a+b="')
    for value in ("", '"1"', 'W/""', 'W/"a b"', 'W/"a"b"', 'W/"' + "x" * 201 + '"', None, 7):
        assert not is_etag(value)


def test_a_short_id_is_fit_for_a_key_of_a_table_whatever_the_id_holds() -> None:
    for event_id in ("AAkA/x+y=", "ä#?\\", "x" * 1024):
        assert re.fullmatch("[0-9a-f]{12}", short_id_of(event_id))


def test_ids_that_differ_by_case_alone_have_different_short_ids() -> None:
    assert short_id_of("AAkAb=") != short_id_of("AAkAB=")
    assert short_id_of("AAkAb=") == short_id_of("AAkAb=")
