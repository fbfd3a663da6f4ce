"""Short marks of events' ids, for what is remembered of events: an id is long, and no key of a table."""

from __future__ import annotations

import hashlib
import string


def mark_of(event_id: str) -> str:
    """Twelve hexadecimal digits, fit for a key of a table."""
    return hashlib.sha256(event_id.encode()).hexdigest()[:12]


# Exchange ids are base64 of either alphabet. Anything else is refused rather than escaped.
_EVENT_ID = (string.ascii_letters + string.digits + "+/_=-").encode()


def is_event_id(text: str) -> bool:
    """Whether *text* can be the id of an event at all."""
    return 1 <= len(text) <= 1024 and text.isascii() and not text.encode().translate(None, _EVENT_ID)
