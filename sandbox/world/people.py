"""The people of the simulated company: a dispatcher who plans in Dynamics and technicians who live in Outlook.

The dispatcher's acts also play the other direction, from Dynamics to Outlook, as the customer has it today: a booking
gets its event, which follows when the booking moves, changes hands or is canceled. Everything happens on the states of
both services at once, without HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sandbox.dataverse.tables import Row, Tables, minutes
from sandbox.graph.mailboxes import Event, Mailbox, Mailboxes

EXTENSION_NAME = "Com.Anttipajunen.BookingSyncOpenExtension"
EXTENSION_PROPERTY = "bookingSyncGuid"


@dataclass(eq=False)
class Technician:
    """Works in the field: a user with a mailbox, and the bookable resource of that user."""

    name: str
    mailbox: Mailbox
    user: Row
    resource: Row
    _mailboxes: Mailboxes

    def meet(self, start: datetime, end: datetime, subject: str = "Team meeting") -> Event:
        """An ordinary event, no booking's."""
        return self._mailboxes.create(self.mailbox, start, end, subject=subject)

    def move(self, event: Event, by: timedelta) -> None:
        self._mailboxes.change(event, start=event.start + by, end=event.end + by)

    def edit(self, event: Event, subject: str = "Bring the long ladder") -> None:
        """Anything but its time."""
        self._mailboxes.change(event, subject=subject)

    def copy(self, event: Event) -> Event:
        return self._mailboxes.copy(event)

    def delete(self, event: Event) -> None:
        self._mailboxes.delete(event)

    def restore(self, event: Event) -> None:
        """Undo ``delete``."""
        self._mailboxes.restore(event)

    def file(self, event: Event, calendar: str = "Private") -> None:
        """Drag *event* into another calendar of the same mailbox, made if it is not there."""
        found = next((each for each in self.mailbox.calendars if each.name == calendar), None)
        self._mailboxes.move(event, found or self._mailboxes.add_calendar(self.mailbox, calendar))


class Dispatcher:
    """Plans bookings. An act on a booking reaches its event unless the technician has deleted that."""

    def __init__(self, mailboxes: Mailboxes, tables: Tables) -> None:
        self._mailboxes = mailboxes
        self._tables = tables
        self._user = tables.add_user(name="Dora Dispatcher")
        self._events: dict[str, Event] = {}
        """What the other direction made for each booking, by the booking's id."""

    def book(self, technician: Technician, start: datetime, end: datetime, name: str = "Repair") -> tuple[Row, Event]:
        """A new booking, and its event, which carries the booking's id; the booking does not know its event's yet."""
        booking = self._tables.add_booking(technician.resource, start, end, by=self._user.id, name=name)
        return booking, self._put_event(booking, technician)

    def event_of(self, booking: Row) -> Event | None:
        """The event that was made for *booking*, deleted ones included."""
        return self._events.get(booking.id)

    def move(self, booking: Row, by: timedelta) -> None:
        self.reschedule(booking, by)
        self.update_event(booking)

    def reschedule(self, booking: Row, by: timedelta) -> None:
        """The booking alone, as the other direction takes its time to ``update_event``."""
        start, end = booking["starttime"] + by, booking["endtime"] + by
        self._write(booking, starttime=start, endtime=end, duration=minutes(start, end))

    def update_event(self, booking: Row) -> None:
        event = self._living_event(booking)
        if event is not None:
            self._mailboxes.change(event, start=booking["starttime"], end=booking["endtime"])

    def rename(self, booking: Row, name: str = "Repair, urgent") -> None:
        """An edit that has nothing to do with Outlook, but gives the row a new etag."""
        self._write(booking, name=name)

    def reassign(self, booking: Row, technician: Technician) -> Event:
        """To *technician*; the event goes from the one calendar and a new one appears in the other."""
        self.hand_over(booking, technician)
        return self.bring_event(booking, technician)

    def hand_over(self, booking: Row, technician: Technician) -> None:
        """The booking alone, as the other direction takes its time to ``bring_event``."""
        self._write(booking, _resource_value=technician.resource.id)

    def bring_event(self, booking: Row, technician: Technician) -> Event:
        self._remove_event(booking)
        return self._put_event(booking, technician)

    def start(self, booking: Row) -> None:
        self._write(booking, _bookingstatus_value=self._tables.status("In Progress").id)

    def complete(self, booking: Row) -> None:
        self._write(booking, _bookingstatus_value=self._tables.status("Completed").id)

    def cancel(self, booking: Row) -> None:
        self._write(booking, _bookingstatus_value=self._tables.status("Canceled").id)
        self._remove_event(booking)

    def delete(self, booking: Row) -> None:
        """Remove the row itself."""
        self._tables.delete(booking, by=self._user.id)
        self._remove_event(booking)

    def _write(self, booking: Row, **columns: object) -> None:
        self._tables.update(booking, columns, by=self._user.id)

    def _put_event(self, booking: Row, technician: Technician) -> Event:
        event = self._mailboxes.create(
            technician.mailbox,
            booking["starttime"],
            booking["endtime"],
            subject=booking["name"],
            extensions={EXTENSION_NAME: {EXTENSION_PROPERTY: booking.id}},
        )
        self._events[booking.id] = event
        return event

    def _living_event(self, booking: Row) -> Event | None:
        event = self.event_of(booking)
        return event if event is not None and event.calendar is not None else None

    def _remove_event(self, booking: Row) -> None:
        event = self._living_event(booking)
        if event is not None:
            self._mailboxes.delete(event)


class People:
    """The dispatcher and everyone hired so far."""

    def __init__(self, mailboxes: Mailboxes, tables: Tables) -> None:
        self._mailboxes = mailboxes
        self._tables = tables
        self.dispatcher = Dispatcher(mailboxes, tables)
        self.technicians: list[Technician] = []

    def __iter__(self) -> Iterator[Technician]:
        return iter(self.technicians)

    def hire(self, name: str) -> Technician:
        address = f"{name.lower().replace(' ', '.')}@contoso.example"
        mailbox = self._mailboxes.add(address=address)
        user = self._tables.add_user(object_id=mailbox.id, name=name)
        resource = self._tables.add_resource(user)
        self.technicians.append(Technician(name, mailbox, user, resource, self._mailboxes))
        return self.technicians[-1]

    def owner(self, event: Event) -> Technician:
        return next(technician for technician in self if technician.mailbox is event.mailbox)

    def assignee(self, booking: Row) -> Technician:
        return next(technician for technician in self if technician.resource.id == booking["_resource_value"])
