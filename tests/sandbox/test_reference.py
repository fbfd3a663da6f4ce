"""The reference of settings says what the code says."""

from __future__ import annotations

from sandbox.reference import PAGE, settings_page
from sync.settings import Settings


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text("utf-8") == settings_page(), "python -m sandbox settings"


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())
