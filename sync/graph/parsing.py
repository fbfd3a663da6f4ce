"""Graph's JSON → our values. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from sys import intern
from typing import Any
from uuid import UUID

from sync.errors import Malformed, NotOurs
from sync.model import Event, EventType, Span, Subscription

# What a body in another shape than the documented one leads to; dates beyond all calendars overflow.
_UNREADABLE = (Malformed, KeyError, TypeError, ValueError, AttributeError, ArithmeticError)


def parse_event(raw: Any, extension_name: str, extension_property: str) -> Event:
    """Raises: Malformed if *raw* is no event with its times in UTC, NotOurs if it has no extension of ours either."""
    extension = next((found for found in _items(raw, "extensions") if _is_named(found, extension_name)), None)
    try:
        return Event(
            id=_text(raw, "id"),
            etag=_text(raw, "@odata.etag"),
            span=Span.of(_utc(raw["start"]), _utc(raw["end"])),
            type=EventType(raw.get("type") or EventType.SINGLE.value),
            is_all_day=raw.get("isAllDay") is True,
            is_cancelled=raw.get("isCancelled") is True,
            has_extension=extension is not None,
            booking_id=_guid(extension.get(extension_property)) if extension else None,
            created=_moment(raw.get("createdDateTime")),
            modified=_moment(raw.get("lastModifiedDateTime")),
        )
    except _UNREADABLE as error:
        kind = Malformed if extension is not None else NotOurs
        raise kind(f"graph: an event that cannot be read ({type(error).__name__})") from None


def parse_subscription(raw: Any) -> Subscription:
    """Raises: Malformed if *raw* is no subscription."""
    try:
        return Subscription(
            id=_text(raw, "id"),
            resource=_text(raw, "resource"),
            change_types=_change_types(_text(raw, "changeType")),
            notification_url=_shared(raw.get("notificationUrl")) or "",
            lifecycle_url=_shared(raw.get("lifecycleNotificationUrl")),
            expires=_aware(datetime.fromisoformat(raw["expirationDateTime"])),
        )
    except _UNREADABLE as error:
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
    return _aware(datetime.fromisoformat(moment["dateTime"]))


def _moment(text: str | None) -> datetime | None:
    return _aware(datetime.fromisoformat(text)) if text else None


def _aware(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _guid(value: Any) -> str | None:
    try:
        return str(UUID(value))
    except (ValueError, TypeError, AttributeError):
        return None


def _items(page: Any, name: str = "value") -> list[Any]:
    items = page.get(name) or [] if isinstance(page, dict) else None
    if not isinstance(items, list):
        raise Malformed(f"graph: an answer without {name}")
    return items


def _text(raw: Any, name: str) -> str:
    value = raw.get(name) if isinstance(raw, dict) else None
    if not isinstance(value, str) or not value:
        raise Malformed(f"graph: an answer without {name}")
    return value
