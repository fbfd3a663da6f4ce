"""The simulated Graph's answers about events, their open extensions and their calendars.

Each method is one call of the API: it gets the request as read by ``graph.py`` and the ids in its path, and returns
status and body, or raises ``GraphError``. Source of each: Graph v1.0 reference, page of the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.graph import outlook_ids
from sandbox.graph import wire as graph_json
from sandbox.graph.errors import GraphError, bad_request, item_not_found, item_of_another_mailbox
from sandbox.graph.mailboxes import Calendar, Event, Mailbox, Mailboxes
from sandbox.graph.query import (
    Preferences,
    next_link,
    page,
    parse_expand,
    parse_extension_filter,
    parse_moment,
    parse_page_size,
    parse_query,
    parse_select,
    short_name,
)
from sandbox.graph.wire import CALENDAR_PROPERTIES, EVENT_PROPERTIES, Json

Answer = tuple[int, Json | None]
EVENT_TYPE = "microsoft.graph.event"


@dataclass(frozen=True)
class Asked:
    """One request; ``url`` is without its query."""

    url: str
    raw_query: str
    preferences: Preferences
    headers: Mapping[str, str]
    body: Json

    def options(self, *allowed: str) -> dict[str, str]:
        return parse_query(self.raw_query, allowed)


class Events:
    def __init__(self, mailboxes: Mailboxes) -> None:
        self._mailboxes = mailboxes
        self._switches = mailboxes.switches

    # Events.

    def list_events(self, asked: Asked, user: str, calendar_id: str | None = None) -> Answer:
        """Single events and series masters; occurrences stand in calendar views only."""
        mailbox = self._mailbox(user)
        calendar = self._calendar(mailbox, calendar_id)
        options = asked.options("$select", "$expand", "$filter", "$top", "$skiptoken")
        wanted = parse_extension_filter(options.get("$filter"))
        spans_all = calendar_id is None and self._switches.events_list_spans_calendars
        found = [
            event
            for calendar in (mailbox.calendars if spans_all else [calendar])
            for event in mailbox.in_calendar(calendar)
            if event.master is None and (wanted is None or wanted in event.extensions)
        ]
        return self._list(asked, options, mailbox, found)

    def create_event(self, asked: Asked, user: str) -> Answer:
        mailbox = self._mailbox(user)
        asked.options()
        body = dict(asked.body)
        transaction_id = body.pop("transactionId", None)
        extensions = [graph_json.read_extension(each) for each in body.pop("extensions", [])]
        fields = graph_json.read_event(body)
        if not {"start", "end"} <= fields.keys():
            raise bad_request("The properties 'start' and 'end' are required.")
        if fields["end"] < fields["start"]:
            raise GraphError(400, "ErrorPropertyValidationFailure", "Start time must be before end time.")
        event = self._of_transaction(mailbox, transaction_id) or self._mailboxes.create(
            mailbox,
            transaction_id=transaction_id,
            time_zone=body["start"].get("timeZone") or "UTC",
            extensions={_named(name): properties for name, properties in extensions},
            **fields,
        )
        answer = self._write(asked, event)
        if extensions:
            prefix = self._switches.extension_prefix
            answer |= graph_json.write_extensions(event, event.extensions, prefix, asked.preferences, tenant_id=None)
        return 201, answer

    def get_event(self, asked: Asked, user: str, event_id: str) -> Answer:
        options = asked.options("$select", "$expand")
        select = parse_select(options.get("$select"), _selectable(), EVENT_TYPE)
        name = parse_expand(options.get("$expand"))
        event = self._find(asked, self._mailbox(user), event_id)
        return 200, self._write(asked, event, self._expanded(event, name), select, expands=name is not None)

    def update_event(self, asked: Asked, user: str, event_id: str) -> Answer:
        asked.options()
        event = self._find_alive(asked, self._mailbox(user), event_id)
        self._check_etag(asked, event)
        fields = graph_json.read_event({"isAllDay": event.is_all_day, **asked.body})
        if fields.get("end", event.end) < fields.get("start", event.start):
            raise GraphError(400, "ErrorPropertyValidationFailure", "Start time must be before end time.")
        self._mailboxes.change(event, **fields)
        return 200, self._write(asked, event)

    def delete_event(self, asked: Asked, user: str, event_id: str) -> Answer:
        asked.options()
        event = self._find(asked, self._mailbox(user), event_id)
        if event.calendar is None:
            # Seen for messages that an immutable id still finds in Deleted Items (msgraph-sdk-dotnet issue 3047).
            raise GraphError(403, "ErrorCannotDeleteObject", "The object cannot be deleted.")
        self._check_etag(asked, event)
        self._mailboxes.delete(event)
        return 204, None

    def cancel_event(self, asked: Asked, user: str, event_id: str) -> Answer:
        asked.options()
        event = self._find_alive(asked, self._mailbox(user), event_id)
        if not event.is_organizer:
            message = "Your request can't be completed. You need to be an organizer to cancel a meeting."
            raise GraphError(400, "ErrorInvalidRequest", message)
        self._mailboxes.delete(event)
        return 202, None

    # Open extensions.

    def list_extensions(self, asked: Asked, user: str, event_id: str) -> Answer:
        self._find(asked, self._mailbox(user), event_id)
        raise GraphError(400, "ErrorInvalidRequest", "The OData request is not supported.")

    def create_extension(self, asked: Asked, user: str, event_id: str) -> Answer:
        asked.options()
        event = self._find_alive(asked, self._mailbox(user), event_id)
        given, properties = graph_json.read_extension(asked.body)
        name = _named(given)
        if name in event.extensions:
            raise GraphError(409, "NameAlreadyExists", "An extension already exists with given id.")
        self._mailboxes.set_extension(event, name, properties)
        return 201, self._write_extension(asked, event, name)

    def get_extension(self, asked: Asked, user: str, event_id: str, extension_id: str) -> Answer:
        asked.options()
        event = self._find(asked, self._mailbox(user), event_id)
        name = short_name(extension_id)
        if name not in self._mailboxes.extensions_of(event):
            raise item_not_found()
        return 200, self._write_extension(asked, event, name)

    def update_extension(self, asked: Asked, user: str, event_id: str, extension_id: str) -> Answer:
        asked.options()
        event = self._find_alive(asked, self._mailbox(user), event_id)
        name = short_name(extension_id)
        _, properties = graph_json.read_extension(asked.body)
        if name not in event.extensions:
            raise item_not_found()
        kept = {} if self._switches.extension_patch_replaces else event.extensions[name]
        self._mailboxes.set_extension(event, name, kept | properties)
        return 200, self._write_extension(asked, event, name)

    def delete_extension(self, asked: Asked, user: str, event_id: str, extension_id: str) -> Answer:
        asked.options()
        event = self._find_alive(asked, self._mailbox(user), event_id)
        name = short_name(extension_id)
        if name not in event.extensions:
            raise item_not_found()
        self._mailboxes.remove_extension(event, name)
        return 204, None

    # Calendars.

    def list_calendars(self, asked: Asked, user: str) -> Answer:
        mailbox = self._mailbox(user)
        options = asked.options("$select", "$top", "$skiptoken")
        select = parse_select(options.get("$select"), CALENDAR_PROPERTIES, "microsoft.graph.calendar")
        size = parse_page_size(options, asked.preferences)
        calendars, token = page(
            mailbox.calendars, size, options.get("$skiptoken"), with_empty=self._switches.empty_page
        )
        body: Json = {"@odata.context": f"{graph_json.METADATA}users('{mailbox.id}')/calendars"}
        if token:
            body["@odata.nextLink"] = next_link(asked.url, options, token)
        return 200, body | {"value": [graph_json.write_calendar(calendar, select) for calendar in calendars]}

    def calendar_of_event(self, asked: Asked, user: str, event_id: str) -> Answer:
        mailbox = self._mailbox(user)
        options = asked.options("$select")
        select = parse_select(options.get("$select"), CALENDAR_PROPERTIES, "microsoft.graph.calendar")
        calendar = self._find(asked, mailbox, event_id).calendar
        if calendar is None and self._switches.calendar_of_deleted == "default":
            calendar = mailbox.default_calendar
        if calendar is None and self._switches.calendar_of_deleted == "folder":
            calendar = Calendar(mailbox.deleted_items_id, "Deleted Items")
        if calendar is None:
            raise item_not_found()
        context = f"{graph_json.METADATA}users('{mailbox.id}')/calendars/$entity"
        return 200, {"@odata.context": context} | graph_json.write_calendar(calendar, select)

    def calendar_view(self, asked: Asked, user: str, calendar_id: str | None = None) -> Answer:
        """Single events, occurrences and exceptions that overlap the window; the default calendar if none is named."""
        mailbox = self._mailbox(user)
        calendar = self._calendar(mailbox, calendar_id)
        options = asked.options("$select", "$expand", "$filter", "$top", "$skiptoken")
        if parse_extension_filter(options.get("$filter")) is not None:
            # As reported in msgraph-sdk-dotnet issue 2375; the same filter works on /events.
            raise GraphError(
                500,
                "ErrorInternalServerError",
                "An internal server error occurred. The operation failed.",
                with_inner=False,
            )
        start, end = parse_moment(options.get("startdatetime")), parse_moment(options.get("enddatetime"))
        if start is None or end is None:
            message = (
                "This request requires a time window specified by the query string parameters"
                " StartDateTime and EndDateTime."
            )
            raise GraphError(400, "ErrorInvalidParameter", message)
        found = [
            event
            for event in mailbox.in_calendar(calendar)
            if event.type != "seriesMaster" and event.start < end and (event.end > start or event.start >= start)
        ]
        return self._list(asked, options, mailbox, found, not_selectable=("createdDateTime", "lastModifiedDateTime"))

    # What they share.

    def _mailbox(self, user: str) -> Mailbox:
        """Raises: GraphError, with the four 404 that are about the mailbox and do not mean "event deleted"."""
        mailbox = self._mailboxes.get(user.partition("@")[0]) or self._mailboxes.get(user)
        if mailbox is None or mailbox.state == "invalid_user":
            message = f"The requested user '{user}@{self._mailboxes.tenant_id}' is invalid."
            raise GraphError(404, "ErrorInvalidUser", message)
        if not self._mailboxes.switches.calendars_read:
            raise GraphError(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
        match mailbox.state:
            case "not_enabled" | "on_premises":
                message = "The mailbox is either inactive, soft-deleted, or is hosted on-premise."
                raise GraphError(404, "MailboxNotEnabledForRESTAPI", message)
            case "not_discovered":
                raise GraphError(404, "ResourceNotFound", "Resource could not be discovered.")
            case "denied":
                raise GraphError(403, "ErrorAccessDenied", "Access to OData is disabled.")
        return mailbox

    def _calendar(self, mailbox: Mailbox, calendar_id: str | None) -> Calendar:
        """The one with this id, the default one if none is named."""
        calendar = mailbox.default_calendar if calendar_id is None else mailbox.calendar(calendar_id)
        if calendar is None:
            raise item_not_found()
        return calendar

    def _find(self, asked: Asked, mailbox: Mailbox, event_id: str) -> Event:
        if not outlook_ids.is_well_formed(event_id):
            raise GraphError(400, "ErrorInvalidIdMalformed", "Id is malformed.")
        if not outlook_ids.is_url_safe(event_id):
            if self._switches.classic_ids == "refused":
                raise GraphError(400, "RequestBroker--ParseUri", "Resource not found for the segment.")
            event_id = outlook_ids.to_url_safe(event_id)
        event = self._mailboxes.find(mailbox, event_id, immutable=asked.preferences.immutable_ids)
        if event is None:
            is_foreign = event_id not in mailbox.events and self._mailboxes.is_known(event_id)
            names_it = is_foreign and self._switches.foreign_ids == "invalid_mailbox_item"
            raise item_of_another_mailbox() if names_it else item_not_found()
        return event

    def _find_alive(self, asked: Asked, mailbox: Mailbox, event_id: str) -> Event:
        event = self._find(asked, mailbox, event_id)
        if event.calendar is None:
            raise item_not_found()
        return event

    def _of_transaction(self, mailbox: Mailbox, transaction_id: str | None) -> Event | None:
        """The event that an earlier POST with the same transactionId made."""
        if transaction_id is None:
            return None
        events = mailbox.events.values()
        event = next((event for event in events if event.transaction_id == transaction_id), None)
        if event is not None and self._switches.repeated_transaction == "conflict":
            raise GraphError(409, "ErrorDuplicateTransactionId", "Your request can't be completed: it is a repeat.")
        return event

    def _check_etag(self, asked: Asked, event: Event) -> None:
        expected = asked.headers.get("If-Match", "*")
        if self._switches.honour_if_match and expected not in ("*", event.etag):
            message = (
                "The send or update operation could not be performed because the change key passed in the request"
                " does not match the current change key for the item."
            )
            raise GraphError(412, "ErrorIrresolvableConflict", message)

    def _expanded(self, event: Event, name: str | None) -> dict[str, Any] | None:
        """The extensions to show; None shows no ``extensions`` at all."""
        if name is None:
            return None
        found = {key: value for key, value in self._mailboxes.extensions_of(event).items() if key == name}
        return found or ({} if self._switches.no_extension == "empty" else None)

    def _write(
        self,
        asked: Asked,
        event: Event,
        extensions: dict[str, Any] | None = None,
        select: list[str] | None = None,
        *,
        expands: bool = False,
    ) -> Json:
        context = graph_json.event_context(event.mailbox, select, expands) + "/$entity"
        return {"@odata.context": context} | self._entity(asked, event, extensions, select)

    def _entity(self, asked: Asked, event: Event, extensions: dict[str, Any] | None, select: list[str] | None) -> Json:
        entity = graph_json.write_event(event, select, asked.preferences)
        if extensions is None:
            return entity
        prefix, tenant_id = self._switches.extension_prefix, self._mailboxes.tenant_id
        return entity | graph_json.write_extensions(event, extensions, prefix, asked.preferences, tenant_id)

    def _write_extension(self, asked: Asked, event: Event, name: str) -> Json:
        properties = self._mailboxes.extensions_of(event)[name]
        context = graph_json.extensions_context(event, asked.preferences) + "/$entity"
        written = graph_json.write_extension(name, properties, self._switches.extension_prefix)
        return {"@odata.context": context} | written

    def _list(
        self,
        asked: Asked,
        options: Mapping[str, str],
        mailbox: Mailbox,
        events: list[Event],
        not_selectable: tuple[str, ...] = (),
    ) -> Answer:
        select = parse_select(options.get("$select"), _selectable(*not_selectable), EVENT_TYPE)
        name = parse_expand(options.get("$expand"))
        size = parse_page_size(options, asked.preferences)
        shown, token = page(events, size, options.get("$skiptoken"), with_empty=self._switches.empty_page)
        body: Json = {"@odata.context": graph_json.event_context(mailbox, select, name is not None)}
        if token:
            body["@odata.nextLink"] = next_link(asked.url, options, token)
        body["value"] = [self._entity(asked, event, self._expanded(event, name), select) for event in shown]
        return 200, body


def _selectable(*without: str) -> frozenset[str]:
    return frozenset(EVENT_PROPERTIES) - frozenset(without)


def _named(name: str | None) -> str:
    if name is None:
        raise bad_request("The property 'extensionName' is required.")
    return short_name(name)
