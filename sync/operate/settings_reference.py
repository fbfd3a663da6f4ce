"""The reference of all settings as Markdown, written from the code that reads them: docs/settings.md."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydantic.fields import FieldInfo

from sync.settings.parts import UNDOCUMENTED, Settings

_HEAD = """# Settings

The settings as the code reads them; `python -m sync settings --markdown` prints this page, and a test compares it.
Locally they stand in `local.settings.json` under `Values`, in Azure among the app's environment variables. An empty one
counts as missing. The first part of the app that needs a setting names all that are missing or unreadable at once, with
their cure; `python -m sync doctor` tries them.

| setting | default | |
|---|---|---|
"""


@dataclass(frozen=True)
class SettingRow:
    """One setting; ``default`` is "required" for one that has none."""

    setting: str
    default: str
    what: str


def setting_rows() -> list[SettingRow]:
    """All documented settings, the required ones first."""
    documented = [field for field in Settings.model_fields.values() if field.description != UNDOCUMENTED]
    fields = sorted(documented, key=lambda field: (not _is_required(field), str(field.alias)))
    return [SettingRow(str(field.alias), _default(field), str(field.description)) for field in fields]


def settings_page() -> str:
    """The whole page."""
    return _HEAD + "".join(f"| `{row.setting}` | {row.default} | {row.what} |\n" for row in setting_rows())


def _is_required(field: FieldInfo) -> bool:
    # Storage has a default that a validator refuses, as an identity may take its place.
    return field.is_required() or bool(field.validate_default)


def _default(field: FieldInfo) -> str:
    default: Any = field.default
    if _is_required(field):
        return "required"
    if isinstance(default, Enum):
        default = default.value
    return f"`{default}`" if default or default == 0 else ""
