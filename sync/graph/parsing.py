"""Graph's JSON → our values. Pure: this file sends nothing, and it builds no request."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from sys import intern
from typing import Any

from sync.errors import Malformed, NotOurs
from sync.ids import parse_guid
from sync.model import Event, EventType, Span, Subscription
from sync.times import parse_moment

UNREADABLE = (Malformed, KeyError, TypeError, ValueError, AttributeError, ArithmeticError)
"""The errors that a body in an undocumented shape leads to. A date beyond all calendars overflows."""


def parse_event(raw: Any, extension_name: str, extension_property: str) -> Event:
    """Return the event. Raises: Malformed if *raw* is none with times in UTC, NotOurs if it has no extension either."""
    extension = next((found for found in items_of(raw, "extensions") if _is_named(found, extension_name)), None)
    try:
        return Event(
            id=text_of(raw, "id"),
            etag=text_of(raw, "@odata.etag"),
            span=Span.of(_utc(raw["start"]), _utc(raw["end"])),
            type=EventType(raw.get("type") or EventType.SINGLE.value),
            is_all_day=raw.get("isAllDay") is True,
            is_cancelled=raw.get("isCancelled") is True,
            has_extension=extension is not None,
            booking_id=parse_guid(extension.get(extension_property)) if extension else None,
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


def _utc(moment: dict[str, str]) -> datetime:
    """A dateTimeTimeZone; the zone is UTC, because that was asked for."""
    if moment["timeZone"] != "UTC":
        raise ValueError("not in UTC")
    return parse_moment(moment["dateTime"])


def _moment(text: str | None) -> datetime | None:
    return parse_moment(text) if text else None


def items_of(page: Any, name: str = "value") -> list[Any]:
    """Return the list *name* of *page*, empty if there is none. Raises: Malformed if it is no list."""
    items = page.get(name) or [] if isinstance(page, dict) else None
    if not isinstance(items, list):
        raise Malformed(f"graph: an answer without {name}")
    return items


def text_of(raw: Any, name: str) -> str:
    """Return the text *name* of *raw*. Raises: Malformed if there is none, or an empty one."""
    value = raw.get(name) if isinstance(raw, dict) else None
    if not isinstance(value, str) or not value:
        raise Malformed(f"graph: an answer without {name}")
    return value
