"""Short marks of events' ids, for what is remembered of events: an id is long, and no key of a table."""

from __future__ import annotations

import hashlib


def mark_of(event_id: str) -> str:
    """Twelve hexadecimal digits, fit for a key of a table."""
    return hashlib.sha256(event_id.encode()).hexdigest()[:12]
