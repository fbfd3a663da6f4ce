"""The reference of all settings, docs/settings.md, written from the code that reads them."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from sync.settings import Settings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"

_HEAD = """# Settings

All of them, as the code reads them; `python -m sandbox settings` writes this page, and a test compares it. Locally they
stand in `local.settings.json` under `Values`, in Azure among the app's environment variables. An empty one counts as
missing. What is missing or unreadable is named all at once, with its cure, by the first part of the app that needs it;
`python -m sync doctor` tries them.

| setting | default | |
|---|---|---|
"""


def settings_page() -> str:
    fields = sorted(Settings.model_fields.values(), key=lambda field: (not _is_required(field), str(field.alias)))
    return _HEAD + "".join(f"| `{field.alias}` | {_default(field)} | {field.description} |\n" for field in fields)


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
