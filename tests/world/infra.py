"""The Bicep files of ``infra/``, read once, and the settings that a deployment makes. Tests stay out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.world.bicep import Bicep, value, walk

ROOT = Path(__file__).resolve().parent.parent.parent
INFRA = ROOT / "infra"
FILES = {path.relative_to(INFRA).as_posix(): Bicep(path) for path in sorted(INFRA.rglob("*.bicep"))}
MAIN, APP, STORAGE = FILES["main.bicep"], FILES["modules/app.bicep"], FILES["modules/storage.bicep"]


def app_settings() -> dict[str, str]:
    """Every setting that a deployment may make, with its source."""
    (node,) = (one.node for one in APP.resources if one.body.get("name") == "appsettings")
    found = {}
    for inner in walk(node):
        if inner.type == "object_property" and len(inner.named_children) == 2:
            name, content = (child.text.decode() for child in inner.named_children)
            if re.fullmatch(r"[A-Z][A-Za-z_]+", name):
                found[name] = content
    (given,) = (module for module in main_module_bodies() if module["name"] == "app")
    return found | given["params"]["settings"]


def main_module_bodies() -> list[dict[str, Any]]:
    return [value(node.named_children[-1]) for node in walk(MAIN.root) if node.type == "module_declaration"]
