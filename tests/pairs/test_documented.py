"""The page that developers read shows the tables that decide."""

from __future__ import annotations

import pytest

from tests.world.documented import PAGE, PARTS, documented


@pytest.mark.parametrize("part", PARTS)
def test_the_page_has_a_place_for(part: str) -> None:
    assert f"<!-- {part} -->" in PAGE.read_text("utf-8")


def test_the_page_shows_the_tables_as_they_are() -> None:
    page = PAGE.read_text("utf-8")
    assert documented(page) == page, "python -m tests.world.documented writes them"
