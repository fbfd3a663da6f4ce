"""The shapes of ids: GUIDs, event ids, etags and short ids.

A file that reads, compares or shortens an id uses a function of this file. No function here looks anything up.
"""

from __future__ import annotations

import hashlib
import re
import string
from typing import TypeGuard
from uuid import UUID

GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
"""A GUID with hyphens, in either case."""

# Exchange ids are base64 of either alphabet. The app refuses other characters instead of escaping them.
_EVENT_ID = (string.ascii_letters + string.digits + "+/_=-").encode()

_TO_URL_SAFE = str.maketrans("+/", "-_")
_TO_CLASSIC = str.maketrans("-_", "+/")

_LONGEST_EVENT_ID = 1024
"""Characters; the event-id column of a booking is as long. If this is too small, the app refuses real events. If it is
too large, an id may not fit into the column."""

_ETAG = re.compile(r'W/"[\x21\x23-\x7e]{1,200}"')


def is_guid(value: object) -> TypeGuard[str]:
    """Say whether *value* is a text of the form 01234567-89ab-cdef-0123-456789abcdef, in either case."""
    return isinstance(value, str) and GUID.fullmatch(value) is not None


def guid_of(text: str) -> str:
    """Return the GUID in lower case and with hyphens; *text* may be in braces, in upper case or without hyphens.

    Raises: ValueError if *text* is no GUID.
    """
    return text.lower() if is_guid(text) else str(UUID(text))


def parse_guid(value: object) -> str | None:
    """Return the GUID as ``guid_of`` does, or None if *value* is no text or no GUID."""
    if not isinstance(value, str):
        return None
    try:
        return guid_of(value)
    except ValueError:
        return None


def is_event_id(value: object) -> TypeGuard[str]:
    """Say whether *value* has the shape of an event's id: base64, 1 to 1,024 characters."""
    if not isinstance(value, str) or not 1 <= len(value) <= _LONGEST_EVENT_ID or not value.isascii():
        return False
    return not value.encode().translate(None, _EVENT_ID)


def comparable_id(event_id: str) -> str:
    """Return *event_id* in the alphabet that is safe in URLs, so that two spellings of one id are equal.

    Example: ``AA+b/c=`` of one interface of Exchange is ``AA-b_c=`` of another. Source: RFC 4648, section 5.
    """
    return event_id.translate(_TO_URL_SAFE)


def spellings_of(event_id: str) -> list[str]:
    """Return *event_id* in both alphabets; one text if no letter of it differs."""
    return list(dict.fromkeys([comparable_id(event_id), event_id.translate(_TO_CLASSIC)]))


def is_etag(value: object) -> TypeGuard[str]:
    """Say whether *value* has the shape of Graph's etags: ``W/"..."`` with 1 to 200 visible characters."""
    return isinstance(value, str) and _ETAG.fullmatch(value) is not None


def short_id_of(item_id: str) -> str:
    """Return 12 hexadecimal digits that stand for *item_id*, which is too long for a table's key."""
    return hashlib.sha256(item_id.encode()).hexdigest()[:12]
