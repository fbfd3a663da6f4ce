"""Mailboxes, events, extensions and subscriptions as Graph writes them in JSON, and bodies of requests read.

Names on the wire live here; what they do to the state lives in ``mailboxes.py`` and ``subscriptions.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, time
from typing import Any
from urllib.parse import quote

from sandbox.graph.errors import GraphError, bad_request
from sandbox.graph.mailboxes import Calendar, Event, Extensions, Mailbox
from sandbox.graph.query import Preferences, parse_zone
from sandbox.graph.subscriptions import Subscription

METADATA = "https://graph.microsoft.com/v1.0/$metadata#"
NO_TIME = "0001-01-01T00:00:00Z"

Json = dict[str, Any]


def write_instant(moment: datetime) -> str:
    """``…Z`` with as many fraction digits as there are, like createdDateTime and expirationDateTime."""
    text = moment.astimezone(UTC).isoformat().removesuffix("+00:00")
    return (text.rstrip("0") if "." in text else text) + "Z"


def _write_time(event: Event, moment: datetime, preferences: Preferences) -> Json:
    """A dateTimeTimeZone: seven digits, no offset. An all-day event is midnight in whatever zone is asked for."""
    shown = moment if event.is_all_day else moment.astimezone(preferences.zone)
    text = shown.replace(tzinfo=None).isoformat(timespec="microseconds")
    return {"dateTime": f"{text}0", "timeZone": preferences.zone_name or "UTC"}


def _id(event: Event, preferences: Preferences) -> str:
    return event.immutable_id if preferences.immutable_ids else event.plain_id


def _location(event: Event) -> Json:
    return {
        "displayName": event.location,
        "locationType": "default",
        "uniqueId": event.location,
        "uniqueIdType": "private",
    }


def _locations(event: Event) -> list[Json]:
    if not event.location:
        return []
    return [{"displayName": event.location, "locationType": "default", "uniqueIdType": "unknown"}]


def _attendee(address: str) -> Json:
    return {
        "type": "required",
        "status": {"response": "none", "time": NO_TIME},
        "emailAddress": {"name": address.partition("@")[0], "address": address},
    }


def _organizer(event: Event) -> Json:
    address = event.mailbox.address if event.is_organizer else "organizer@contoso.example"
    return {"emailAddress": {"name": address.partition("@")[0], "address": address}}


def _response(event: Event) -> Json:
    return {"response": "organizer" if event.is_organizer else "notResponded", "time": NO_TIME}


def _web_link(event: Event, preferences: Preferences) -> str:
    item = quote(_id(event, preferences), safe="")
    return f"https://outlook.office365.com/owa/?itemid={item}&exvsurl=1&path=/calendar/item"


EVENT_PROPERTIES: dict[str, Callable[[Event, Preferences], Any]] = {
    "id": _id,
    "createdDateTime": lambda event, _: write_instant(event.created_at),
    "lastModifiedDateTime": lambda event, _: write_instant(event.modified_at),
    "changeKey": lambda event, _: event.change_key,
    "categories": lambda event, _: event.categories,
    "originalStartTimeZone": lambda event, _: event.time_zone,
    "originalEndTimeZone": lambda event, _: event.time_zone,
    "iCalUId": lambda event, _: event.ical_uid,
    "reminderMinutesBeforeStart": lambda event, _: 15,
    "isReminderOn": lambda event, _: True,
    "hasAttachments": lambda event, _: False,
    "hideAttendees": lambda event, _: False,
    "subject": lambda event, _: event.subject,
    "bodyPreview": lambda event, _: event.body[:255],
    "importance": lambda event, _: "normal",
    "sensitivity": lambda event, _: event.sensitivity,
    "isAllDay": lambda event, _: event.is_all_day,
    "isCancelled": lambda event, _: event.is_cancelled,
    "isDraft": lambda event, _: False,
    "isOrganizer": lambda event, _: event.is_organizer,
    "responseRequested": lambda event, _: True,
    "seriesMasterId": lambda event, preferences: _id(event.master, preferences) if event.master else None,
    "transactionId": lambda event, _: event.transaction_id,
    "showAs": lambda event, _: event.show_as,
    "type": lambda event, _: event.type,
    "webLink": _web_link,
    "onlineMeetingUrl": lambda event, _: None,
    "isOnlineMeeting": lambda event, _: False,
    "onlineMeetingProvider": lambda event, _: "unknown",
    "onlineMeeting": lambda event, _: None,
    "allowNewTimeProposals": lambda event, _: True,
    "responseStatus": lambda event, _: _response(event),
    "body": lambda event, _: {"contentType": "text", "content": event.body},
    "start": lambda event, preferences: _write_time(event, event.start, preferences),
    "end": lambda event, preferences: _write_time(event, event.end, preferences),
    "location": lambda event, _: _location(event),
    "locations": lambda event, _: _locations(event),
    "recurrence": lambda event, _: event.recurrence,
    "attendees": lambda event, _: [_attendee(address) for address in event.attendees],
    "organizer": lambda event, _: _organizer(event),
}


def write_event(event: Event, select: Iterable[str] | None, preferences: Preferences) -> Json:
    """The selected properties of *event*, with its etag; transactionId only where one was given."""
    names = [name for name in EVENT_PROPERTIES if select is None or name in select or name == "id"]
    if event.transaction_id is None:
        names = [name for name in names if name != "transactionId"]
    return {"@odata.etag": event.etag} | {name: EVENT_PROPERTIES[name](event, preferences) for name in names}


def event_context(mailbox: Mailbox, select: Iterable[str] | None, expands: bool) -> str:
    """The ``@odata.context`` of one event or, without its last segment, of a list of events."""
    names = [*select, *(["extensions"] if expands else [])] if select is not None else []
    return f"{METADATA}users('{mailbox.id}')/events" + (f"({','.join(names)})" if names else "")


def extensions_context(event: Event, preferences: Preferences) -> str:
    item = quote(_id(event, preferences), safe="")
    return f"{METADATA}users('{event.mailbox.id}')/events('{item}')/extensions"


def write_extension(name: str, properties: Mapping[str, Any], prefix: str) -> Json:
    return {
        "@odata.type": "#microsoft.graph.openTypeExtension",
        "id": f"{prefix}{name}",
        "extensionName": name,
        **properties,
    }


def write_extensions(
    event: Event, found: Extensions, prefix: str, preferences: Preferences, tenant_id: str | None
) -> Json:
    """What ``$expand`` adds to an event; without *tenant_id* no ``@odata.id``, as in the answer to a POST."""
    written = []
    for name, properties in found.items():
        extension = write_extension(name, properties, prefix)
        if tenant_id is not None:
            path = f"users('{event.mailbox.id}@{tenant_id}')/events('{_id(event, preferences)}')"
            link = f"https://graph.microsoft.com/v1.0/{path}/extensions('{prefix}{name}')"
            extension = {"@odata.id": link} | extension
        written.append(extension)
    return {"extensions@odata.context": extensions_context(event, preferences), "extensions": written}


CALENDAR_PROPERTIES = frozenset({"id", "name", "isDefaultCalendar", "canEdit", "canShare", "isRemovable"})


def write_calendar(calendar: Calendar, select: Iterable[str] | None) -> Json:
    whole = {
        "id": calendar.id,
        "name": calendar.name,
        "isDefaultCalendar": calendar.is_default,
        "canEdit": True,
        "canShare": True,
        "isRemovable": not calendar.is_default,
    }
    return {name: value for name, value in whole.items() if select is None or name in select or name == "id"}


def write_subscription(subscription: Subscription, *, application_id: str, shows_client_state: bool) -> Json:
    """A subscription entity; clientState is null in lists. Source: Graph, "List subscriptions"."""
    return {
        "id": subscription.id,
        "resource": subscription.resource,
        "applicationId": application_id,
        "changeType": subscription.change_type,
        "clientState": subscription.client_state if shows_client_state else None,
        "notificationUrl": subscription.notification_url,
        "notificationQueryOptions": None,
        "notificationContentType": None,
        "lifecycleNotificationUrl": subscription.lifecycle_notification_url,
        "expirationDateTime": write_instant(subscription.expiration),
        "creatorId": application_id,
        "includeResourceData": None,
        "latestSupportedTlsVersion": subscription.tls_version,
        "encryptionCertificate": None,
        "encryptionCertificateId": None,
        "notificationUrlAppId": None,
    }


# Bodies of requests.

_READERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "subject": ("subject", lambda value: value),
    "showAs": ("show_as", lambda value: value),
    "isAllDay": ("is_all_day", lambda value: value),
    "sensitivity": ("sensitivity", lambda value: value),
    "categories": ("categories", list),
    "body": ("body", lambda value: value["content"]),
    "location": ("location", lambda value: value["displayName"]),
    "attendees": ("attendees", lambda value: [attendee["emailAddress"]["address"] for attendee in value]),
}
# Sent by clients and without meaning here.
_IGNORED = frozenset({"isReminderOn", "reminderMinutesBeforeStart", "responseRequested", "importance", "locations"})


def read_event(body: Mapping[str, Any]) -> Json:
    """The fields of an ``Event`` that a POST or PATCH sets; ``extensions`` and ``transactionId`` are not read here.

    Raises: GraphError 400 for properties that events do not have or that are not simulated.
    """
    fields: Json = {}
    for name, value in body.items():
        if name in ("start", "end"):
            fields[name] = _read_time(name, value, bool(body.get("isAllDay")))
        elif name in _READERS:
            field, read = _READERS[name]
            try:
                fields[field] = read(value)
            except (KeyError, TypeError):
                raise bad_request(f"The property '{name}' has not the shape it must have.") from None
        elif name not in _IGNORED and not name.startswith("@odata."):
            raise bad_request(f"The property '{name}' does not exist on type 'microsoft.graph.event' or cannot be set.")
    return fields


def _read_time(name: str, value: Any, is_all_day: bool) -> datetime:
    """A dateTimeTimeZone as an instant; an offset in dateTime overrules timeZone.

    An all-day event has dates rather than instants: midnight of any zone is kept as midnight UTC.
    """
    try:
        moment = datetime.fromisoformat(value["dateTime"])
        zone = parse_zone(value.get("timeZone") or "UTC")
    except (TypeError, KeyError, ValueError, AttributeError):
        raise bad_request(f"The property '{name}' is no dateTimeTimeZone.") from None
    if is_all_day:
        if moment.time() != time(0):
            raise GraphError(
                400,
                "ErrorPropertyValidationFailure",
                f"The Event.{name.capitalize()} property for an all-day event needs to be set to midnight.",
            )
        return moment.replace(tzinfo=UTC)
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)


def read_extension(body: Mapping[str, Any]) -> tuple[str | None, Json]:
    """The extension's name, if given, and its properties: primitives or lists of primitives.

    Source: Graph, "openTypeExtension resource type". Raises: GraphError 400 for anything nested.
    """
    name = body.get("extensionName")
    if name is not None and (not isinstance(name, str) or not name):
        raise bad_request("The property 'extensionName' must be a string.")
    properties = {
        key: value for key, value in body.items() if key not in ("extensionName", "id") and not key.startswith("@odata")
    }
    for key, value in properties.items():
        if any(isinstance(part, dict | list) for part in (value if isinstance(value, list) else [value])):
            raise bad_request(f"The property '{key}' of an open extension must be a primitive.")
    return name, properties
