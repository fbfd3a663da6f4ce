"""Whether an answer has the fields that were asked for. Pure.

A gateway, a proxy or a service in trouble may answer 200 with something else: ``{}``, ``null``, ``{"error": …}``. That
says nothing of the item that was asked for, so it is no answer, and the call is tried again.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from sync.errors import Incomplete

_SHOWN = 8
"""Names of fields that an error tells; an answer in the wrong shape may have thousands."""


def fields_of(service: str, raw: Any, names: Collection[str]) -> dict[str, Any]:
    """Return the object *raw*. Raises: Incomplete, with the names that it has, if one of *names* is missing or null."""
    if not isinstance(raw, dict):
        raise Incomplete(f"{service}: an answer that is no object but a {type(raw).__name__}")
    missing = [name for name in names if raw.get(name) is None]
    if missing:
        has = ", ".join(re.sub(r"[^\w.@-]", "", str(name))[:40] for name in list(raw)[:_SHOWN]) or "nothing"
        raise Incomplete(f"{service}: an answer without {', '.join(missing)}; it has {has}")
    return raw


def list_of(service: str, page: Any, name: str = "value") -> list[Any]:
    """Return the list *name* of *page*. Raises: Incomplete if there is none."""
    items = fields_of(service, page, [name])[name]
    if not isinstance(items, list):
        raise Incomplete(f"{service}: {name} is no list but a {type(items).__name__}")
    return items
