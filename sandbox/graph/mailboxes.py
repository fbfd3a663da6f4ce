"""The state behind Graph: mailboxes, calendars, events and open extensions, and what people do to them. No HTTP here.

Each act tells ``listeners`` what Graph would notify of; who subscribed to it is not known here.
"""

from __future__ import annotations

import copy
import random
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from sandbox.clock import Clock
from sandbox.graph import outlook_ids
from sandbox.graph.switches import GraphSwitches

MailboxState = Literal["ok", "not_enabled", "not_discovered", "invalid_user", "denied", "on_premises"]
EventType = Literal["singleInstance", "occurrence", "exception", "seriesMaster"]
ChangeType = Literal["created", "updated", "deleted"]
Extensions = dict[str, dict[str, Any]]
"""Properties of open extensions by the extension's name, without prefix."""

CHANGEABLE = frozenset(
    {"start", "end", "is_all_day", "subject", "body", "attendees", "show_as", "location", "sensitivity", "categories"}
)

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(eq=False)
class Calendar:
    id: str
    name: str
    is_default: bool = False


@dataclass(eq=False)
class Event:
    """One event as its mailbox has it; ``calendar`` None is in Deleted Items or, if ``is_purged``, nowhere."""

    mailbox: Mailbox
    immutable_id: str
    plain_id: str
    ical_uid: str
    change_key: str
    calendar: Calendar | None
    start: datetime
    end: datetime
    created_at: datetime
    modified_at: datetime
    is_all_day: bool = False
    subject: str = ""
    body: str = ""
    attendees: list[str] = field(default_factory=list)
    """Mail addresses."""
    show_as: str = "busy"
    location: str = ""
    sensitivity: str = "normal"
    categories: list[str] = field(default_factory=list)
    time_zone: str = "UTC"
    type: EventType = "singleInstance"
    is_cancelled: bool = False
    is_organizer: bool = True
    transaction_id: str | None = None
    master: Event | None = None
    recurrence: dict[str, Any] | None = None
    extensions: Extensions = field(default_factory=dict)
    is_purged: bool = False

    @property
    def etag(self) -> str:
        return f'W/"{self.change_key}"'


@dataclass(eq=False)
class Mailbox:
    """One person's mailbox; ``id`` is the user's Entra object id."""

    id: str
    address: str
    deleted_items_id: str
    state: MailboxState = "ok"
    calendars: list[Calendar] = field(default_factory=list)
    events: dict[str, Event] = field(default_factory=dict)
    """By each id an event can be found by today: its immutable one and its present plain one."""

    @property
    def default_calendar(self) -> Calendar:
        return self.calendars[0]

    def calendar(self, calendar_id: str) -> Calendar | None:
        return next((calendar for calendar in self.calendars if calendar.id == calendar_id), None)

    def in_calendar(self, calendar: Calendar) -> list[Event]:
        """All its events with masters, occurrences and exceptions, by their start."""
        found = {id(event): event for event in self.events.values() if event.calendar is calendar}
        return sorted(found.values(), key=lambda event: (event.start, event.immutable_id))


@dataclass(frozen=True)
class Notice:
    """What Graph notifies of: which event changed how, with the ids and the etag of that moment."""

    mailbox: Mailbox
    immutable_id: str
    plain_id: str
    change_type: ChangeType
    etag: str


class Mailboxes:
    """All mailboxes of one tenant."""

    def __init__(self, clock: Clock, rng: random.Random, switches: GraphSwitches | None = None) -> None:
        self.clock = clock
        self.switches = switches or GraphSwitches()
        self.listeners: list[Callable[[Notice], None]] = []
        self.tenant_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        self._rng = rng
        self._mailboxes: dict[str, Mailbox] = {}

    def __iter__(self) -> Iterator[Mailbox]:
        return iter(self._mailboxes.values())

    def get(self, key: str) -> Mailbox | None:
        """By object id or by address, without regard to case."""
        wanted = key.lower()
        found = self._mailboxes.get(wanted)
        return found or next((mailbox for mailbox in self if mailbox.address.lower() == wanted), None)

    def find(self, mailbox: Mailbox, event_id: str, *, immutable: bool = True) -> Event | None:
        """What a GET finds; *immutable* says whether the request asked for immutable ids.

        Source: Graph, "Obtain immutable identifiers for Outlook resources". A plain id is understood either way.
        """
        event = mailbox.events.get(event_id)
        if event is None or (event.calendar is None and not self.switches.deleted_stay_readable):
            return None
        if event_id == event.immutable_id and not immutable and self.switches.immutable_ids_need_header:
            return None
        return event

    def is_known(self, event_id: str) -> bool:
        """Say whether any mailbox has an event of this id."""
        return any(event_id in mailbox.events for mailbox in self)

    # People.

    def add(self, mailbox_id: str | None = None, *, address: str | None = None, state: MailboxState = "ok") -> Mailbox:
        """A new mailbox with its default calendar."""
        mailbox_id = mailbox_id or str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        address = address or f"{mailbox_id[:8]}@contoso.example"
        mailbox = Mailbox(mailbox_id, address, outlook_ids.folder_id(self._rng), state)
        mailbox.calendars.append(Calendar(outlook_ids.folder_id(self._rng), "Calendar", is_default=True))
        self._mailboxes[mailbox_id.lower()] = mailbox
        return mailbox

    def add_calendar(self, mailbox: Mailbox, name: str) -> Calendar:
        mailbox.calendars.append(Calendar(outlook_ids.folder_id(self._rng), name))
        return mailbox.calendars[-1]

    # What is done to events.

    def create(
        self,
        mailbox: Mailbox,
        start: datetime,
        end: datetime,
        *,
        calendar: Calendar | None = None,
        extensions: Extensions | None = None,
        twin_of: Event | None = None,
        **fields: Any,
    ) -> Event:
        """A new event; *twin_of* gives it ids that differ from that event's in letter case alone."""
        event = self._new(mailbox, calendar or mailbox.default_calendar, start, end, twin_of)
        event.extensions = copy.deepcopy(extensions or {})
        for name, value in fields.items():
            if not hasattr(event, name):
                raise TypeError(f"an event has no {name!r}")
            setattr(event, name, value)
        self._notify(event, "created")
        return event

    def create_series(
        self, mailbox: Mailbox, start: datetime, end: datetime, *, weeks: int, **fields: Any
    ) -> tuple[Event, list[Event]]:
        """A weekly series: its master and its occurrences. Only the master is notified of."""
        recurrence = _weekly(start, weeks)
        master = self.create(mailbox, start, end, type="seriesMaster", recurrence=recurrence, **fields)
        occurrences = []
        for week in range(weeks):
            later = timedelta(weeks=week)
            occurrence = self._new(mailbox, master.calendar or mailbox.default_calendar, start + later, end + later)
            occurrence.type, occurrence.master, occurrence.subject = "occurrence", master, master.subject
            occurrences.append(occurrence)
        return master, occurrences

    def copy(self, event: Event, calendar: Calendar | None = None) -> Event:
        """A person's copy: another event with the same contents, and the extensions if the switch says so."""
        carried = event.extensions if self.switches.copies_carry_extensions else {}
        contents = {name: copy.copy(getattr(event, name)) for name in CHANGEABLE - {"start", "end"}}
        return self.create(
            event.mailbox,
            event.start,
            event.end,
            calendar=calendar or event.calendar,
            extensions=carried,
            is_organizer=event.is_organizer,
            **contents,
        )

    def change(self, event: Event, **fields: Any) -> None:
        """Set any of ``CHANGEABLE``; a changed occurrence becomes an exception of its series."""
        if unknown := fields.keys() - CHANGEABLE:
            raise TypeError(f"not changeable: {sorted(unknown)}")
        for name, value in fields.items():
            setattr(event, name, value)
        if event.type == "occurrence":
            event.type = "exception"
        self._save(event)
        self._notify(event, "updated")

    def move(self, event: Event, calendar: Calendar) -> None:
        """To another calendar of the same mailbox: another plain id, the same immutable one."""
        if calendar is event.calendar:
            return
        self._notify(event, "deleted")
        event.calendar = calendar
        self._renumber(event)
        self._save(event)
        self._notify(event, "created")

    def delete(self, event: Event) -> None:
        """To Deleted Items; a series goes with all its occurrences, one occurrence changes its master."""
        if event.type in ("occurrence", "exception"):
            self.delete_occurrence(event)
            return
        self._notify(event, "deleted")
        for gone in (event, *self._occurrences(event)):
            gone.calendar = None
            self._renumber(gone)
            self._save(gone)

    def delete_occurrence(self, event: Event) -> None:
        """Graph notifies of it as `updated` on the master, and in no other way."""
        if event.master is None:
            raise ValueError("not an occurrence of a series")
        event.calendar = None
        self._forget(event)
        self._save(event.master)
        self._notify(event.master, "updated")

    def purge(self, event: Event) -> None:
        """Out of Deleted Items, or at once out of its calendar: no id finds it any more."""
        self._notify(event, "deleted")
        for gone in (event, *self._occurrences(event)):
            gone.calendar = None
            self._forget(gone)

    def restore(self, event: Event, calendar: Calendar | None = None) -> None:
        """Back from Deleted Items (undo) with the same immutable id; an event like a new one to subscribers."""
        if event.calendar is not None or event.is_purged:
            raise ValueError("not in Deleted Items")
        for back in (event, *self._occurrences(event)):
            back.calendar = calendar or event.mailbox.default_calendar
            self._renumber(back)
            self._save(back)
        self._notify(event, "created")

    def cancel_by_organizer(self, event: Event) -> None:
        """The organizer, someone else, cancelled: this attendee's event stays, marked, until it is removed."""
        event.is_organizer = False
        event.is_cancelled = True
        event.subject = f"Canceled: {event.subject}"
        event.show_as = "free"
        self._save(event)
        self._notify(event, "updated")

    def uncancel_by_organizer(self, event: Event) -> None:
        """The organizer sends the meeting again: the attendee's event is as it was before."""
        event.is_cancelled = False
        event.subject = event.subject.removeprefix("Canceled: ")
        event.show_as = "busy"
        self._save(event)
        self._notify(event, "updated")

    # Open extensions.

    def set_extension(self, event: Event, name: str, properties: dict[str, Any]) -> None:
        event.extensions[name] = dict(properties)
        self._extension_written(event)

    def remove_extension(self, event: Event, name: str) -> None:
        del event.extensions[name]
        self._extension_written(event)

    def extensions_of(self, event: Event) -> Extensions:
        """What a request sees; for occurrences it may be the master's."""
        if event.master is not None and self.switches.occurrences_show_master_extensions:
            return event.master.extensions | event.extensions
        return event.extensions

    # How it is kept.

    def _new(
        self, mailbox: Mailbox, calendar: Calendar, start: datetime, end: datetime, twin_of: Event | None = None
    ) -> Event:
        now, rng = self.clock.now(), self._rng
        event = Event(
            mailbox=mailbox,
            immutable_id=outlook_ids.twin(rng, twin_of.immutable_id) if twin_of else outlook_ids.immutable_id(rng),
            plain_id=outlook_ids.twin(rng, twin_of.plain_id) if twin_of else outlook_ids.plain_id(rng),
            ical_uid=outlook_ids.ical_uid(rng),
            change_key=outlook_ids.change_key(rng),
            calendar=calendar,
            start=start,
            end=end,
            created_at=now,
            modified_at=now,
        )
        mailbox.events |= {event.immutable_id: event, event.plain_id: event}
        return event

    def _occurrences(self, master: Event) -> Iterable[Event]:
        return {id(event): event for event in master.mailbox.events.values() if event.master is master}.values()

    def _renumber(self, event: Event) -> None:
        del event.mailbox.events[event.plain_id]
        event.plain_id = outlook_ids.plain_id(self._rng)
        event.mailbox.events[event.plain_id] = event

    def _forget(self, event: Event) -> None:
        event.is_purged = True
        del event.mailbox.events[event.plain_id]
        del event.mailbox.events[event.immutable_id]

    def _save(self, event: Event) -> None:
        event.change_key = outlook_ids.change_key(self._rng)
        event.modified_at = self.clock.now()

    def _extension_written(self, event: Event) -> None:
        if self.switches.extension_write_is_a_change:
            self._save(event)
            self._notify(event, "updated")

    def _notify(self, event: Event, change_type: ChangeType) -> None:
        """Graph notifies of ``users/{id}/events`` for the default calendar only, as far as is reported."""
        calendar = event.calendar
        if calendar is None or not (calendar.is_default or self.switches.other_calendars_notify):
            return
        notice = Notice(event.mailbox, event.immutable_id, event.plain_id, change_type, event.etag)
        for listener in self.listeners:
            listener(notice)


def _weekly(start: datetime, weeks: int) -> dict[str, Any]:
    """Graph's patternedRecurrence of a series that begins at *start*."""
    return {
        "pattern": {
            "type": "weekly",
            "interval": 1,
            "month": 0,
            "dayOfMonth": 0,
            "daysOfWeek": [WEEKDAYS[start.weekday()]],
            "firstDayOfWeek": "sunday",
            "index": "first",
        },
        "range": {
            "type": "endDate",
            "startDate": start.date().isoformat(),
            "endDate": (start + timedelta(weeks=weeks - 1)).date().isoformat(),
            "recurrenceTimeZone": "UTC",
            "numberOfOccurrences": 0,
        },
    }
