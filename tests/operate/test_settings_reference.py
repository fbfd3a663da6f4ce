"""The reference of settings says what the code says."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from sync.operate.commands import cli
from sync.operate.settings_reference import setting_rows, settings_page

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "settings.md"


def test_the_page_is_what_the_command_prints() -> None:
    printed = CliRunner().invoke(cli, ["settings", "--markdown"]).stdout
    assert printed == settings_page()
    assert PAGE.read_text("utf-8") == printed, "python -m sync settings --markdown > docs/settings.md"


def test_every_setting_that_is_documented_is_described() -> None:
    assert all(row.what for row in setting_rows())


def test_a_setting_for_tests_only_is_left_out() -> None:
    assert "SETTLE_SECONDS" not in {row.setting for row in setting_rows()}
