"""Graph's JSON → our values. Pure: this file sends nothing, and it builds no request."""

from __future__ import annotations

import re
import string
from datetime import datetime
from functools import cache
from sys import intern
from typing import Any
from zoneinfo import ZoneInfo

from sync.calls.shapes import fields_of
from sync.errors import Incomplete, Malformed, NotOurs
from sync.ids import parse_guid
from sync.model import Event, EventType, Span, Subscription
from sync.times import in_utc, parse_moment

_BLANKS = string.whitespace + "\ufeff\u200b\u200e\u00a0"

_UTC_NAMES = frozenset({"utc", "tzone://microsoft/utc", "etc/utc", "etc/gmt", "gmt", "z"})
_IANA = re.compile(r"[A-Z][A-Za-z]+(?:/[A-Za-z0-9_+-]+){1,2}")
"""Names like Europe/Berlin. ZoneInfo would also open other files."""

UNREADABLE = (Malformed, KeyError, TypeError, ValueError, AttributeError, ArithmeticError)
"""The errors that a body in an undocumented shape leads to. A date beyond all calendars overflows."""


def parse_event(raw: Any, extension_name: str, extension_property: str) -> Event:
    """Return the event.

    Raises: Incomplete if *raw* does not have what was asked for; Malformed if its times cannot be read, NotOurs if it
    has no extension either.
    """
    fields_of("graph", raw, ("id", "@odata.etag", "start", "end"))
    extensions = raw.get("extensions") or []
    if not isinstance(extensions, list):
        raise Incomplete("graph: extensions that are no list")
    extension = next((found for found in extensions if _is_named(found, extension_name)), None)
    try:
        return Event(
            id=text_of(raw, "id"),
            etag=text_of(raw, "@odata.etag"),
            span=Span.of(_utc(raw["start"]), _utc(raw["end"])),
            type=EventType(raw.get("type") or EventType.SINGLE.value),
            is_all_day=raw.get("isAllDay") is True,
            is_cancelled=raw.get("isCancelled") is True,
            has_extension=extension is not None,
            booking_id=_booking_id(extension, extension_property) if extension else None,
            created=_moment(raw.get("createdDateTime")),
            modified=_moment(raw.get("lastModifiedDateTime")),
        )
    except UNREADABLE as error:
        kind = Malformed if extension is not None else NotOurs
        raise kind(f"graph: an event that cannot be read ({type(error).__name__})") from None


def parse_subscription(raw: Any) -> Subscription:
    """Return the subscription. Raises: Malformed if *raw* is none."""
    try:
        return Subscription(
            id=text_of(raw, "id"),
            resource=text_of(raw, "resource"),
            change_types=_change_types(text_of(raw, "changeType")),
            notification_url=_shared(raw.get("notificationUrl")) or "",
            lifecycle_url=_shared(raw.get("lifecycleNotificationUrl")),
            expires=parse_moment(raw["expirationDateTime"]),
        )
    except UNREADABLE as error:
        raise Malformed(f"graph: a subscription that cannot be read ({type(error).__name__})") from None


@cache
def _change_types(text: str) -> frozenset[str]:
    return frozenset(text.replace(" ", "").lower().split(","))


def _shared(text: str | None) -> str | None:
    """The same object for equal texts: thousands of subscriptions have one URL."""
    return None if text is None else intern(text)


def _is_named(extension: Any, name: str) -> bool:
    """Whether it is ours; its id carries one of two prefixes, so it is the name that counts."""
    if not isinstance(extension, dict):
        return False
    found = extension.get("extensionName") or str(extension.get("id", "")).partition("OpenTypeExtension.")[2]
    return isinstance(found, str) and found.casefold() == name.casefold()


def _booking_id(extension: dict[str, Any], name: str) -> str | None:
    """The GUID in the property *name*, whose case no program can be trusted to keep; blanks around it say nothing."""
    named = (value for key, value in extension.items() if key.casefold() == name.casefold())
    found = extension.get(name) or next(named, None)
    return parse_guid(found.strip(_BLANKS)) if isinstance(found, str) else None


def _utc(moment: dict[str, str]) -> datetime:
    """A dateTimeTimeZone. UTC was asked for; where another zone comes all the same, it says which instant is meant.

    Source: Graph, "dateTimeTimeZone resource type"; tzone://Microsoft/Utc is what Exchange writes for events of others.
    """
    zone = moment["timeZone"]
    if zone.casefold() in _UTC_NAMES:
        return parse_moment(moment["dateTime"])
    if not _IANA.fullmatch(zone):
        raise ValueError("neither in UTC nor in a zone of the tz database")
    local = datetime.fromisoformat(moment["dateTime"])
    return in_utc(local if local.tzinfo else local.replace(tzinfo=ZoneInfo(zone)))


def _moment(text: object) -> datetime | None:
    """None also for what Exchange writes where it knows none, such as 0000-12-31: it decides nothing."""
    try:
        return parse_moment(text) if isinstance(text, str) and text else None
    except (ValueError, OverflowError):
        return None


def text_of(raw: Any, name: str) -> str:
    """Return the text *name* of *raw*. Raises: Malformed if there is none, or an empty one."""
    value = raw.get(name) if isinstance(raw, dict) else None
    if not isinstance(value, str) or not value:
        raise Malformed(f"graph: an answer without {name}")
    return value
