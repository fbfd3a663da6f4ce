"""What is booked and what stands in the calendars, side by side: for people to look at, as values and as a table.

Whether the app did right is judged by tests on the states themselves, not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sandbox.dataverse.tables import Row, Tables
from sandbox.graph.mailboxes import Event, Mailboxes
from sandbox.handles import Handles
from sandbox.world.people import EXTENSION_NAME, EXTENSION_PROPERTY, People

CANCELED = 3
"""``bookingstatus.status``."""


@dataclass(frozen=True)
class Line:
    """One booking with its event, or either alone; ``in_step`` is None where there is nothing to compare.

    A copy of a linked event is compared with nothing, too.
    """

    technician: str
    booking: str | None = None
    booking_id: str | None = None
    status: str | None = None
    booked_from: datetime | None = None
    booked_to: datetime | None = None
    linked_event_id: str | None = None
    event: str | None = None
    event_id: str | None = None
    event_from: datetime | None = None
    event_to: datetime | None = None
    event_deleted: bool = False
    in_step: bool | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(self).items()
        }


class Overview:
    """Knows bookings and events by their handles, B1 and E1."""

    def __init__(self, mailboxes: Mailboxes, tables: Tables, people: People) -> None:
        self._mailboxes = mailboxes
        self._tables = tables
        self._people = people
        self.bookings = Handles("B")
        self.events = Handles("E")

    def find_booking(self, text: str) -> Row | None:
        """By handle or id."""
        self.lines()  # hands out the handles that are due
        return self._tables.get("bookableresourcebooking", self.bookings.id_of(text))

    def find_event(self, text: str) -> Event | None:
        """By handle or id."""
        self.lines()
        id = self.events.id_of(text)
        return next((mailbox.events[id] for mailbox in self._mailboxes if id in mailbox.events), None)

    def lines(self) -> list[Line]:
        """Bookings first, oldest first, each with the events that carry its id; then all other events."""
        events = self._events()
        paired = [
            (booking, event)
            for booking in self._tables.bookings()
            for event in _shown([event for event in events if _booking_id(event) == booking.id]) or [None]
        ]
        seen = {id(event) for _, event in paired}
        alone = [event for event in events if id(event) not in seen and event.calendar is not None]
        return [*(self._line(*pair) for pair in paired), *(self._line(None, event) for event in alone)]

    def table(self) -> str:
        rows = [
            ("TECHNICIAN", "BOOKING", "STATUS", "BOOKED", "EVENT", "IN OUTLOOK", "IN STEP"),
            *map(_cells, self.lines()),
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows) + "\n"

    def _events(self) -> list[Event]:
        found = {id(event): event for mailbox in self._mailboxes for event in mailbox.events.values()}
        return sorted(found.values(), key=lambda event: event.created_at)

    def _line(self, booking: Row | None, event: Event | None) -> Line:
        of_booking = self._of_booking(booking) if booking is not None else {}
        of_event = self._of_event(event) if event is not None else {}
        technician = self._people.owner(event) if event is not None else booking and self._people.assignee(booking)
        in_step = None if booking is None else self._is_in_step(booking, event)
        return Line(technician.name if technician else "", **of_booking, **of_event, in_step=in_step)

    def _of_booking(self, booking: Row) -> dict[str, Any]:
        status = self._tables.get("bookingstatus", booking["_bookingstatus_value"])
        return {
            "booking": self.bookings.of(booking.id),
            "booking_id": booking.id,
            "status": status and status["name"],
            "booked_from": booking["starttime"],
            "booked_to": booking["endtime"],
            "linked_event_id": self._linked_event_id(booking),
        }

    def _of_event(self, event: Event) -> dict[str, Any]:
        return {
            "event": self.events.of(event.immutable_id),
            "event_id": event.immutable_id,
            "event_from": event.start,
            "event_to": event.end,
            "event_deleted": event.calendar is None,
        }

    def _linked_event_id(self, booking: Row) -> str | None:
        column = self._tables.event_id_column
        return booking[column] if column else None

    def _is_in_step(self, booking: Row, event: Event | None) -> bool | None:
        linked = self._linked_event_id(booking)
        other = event.mailbox.events.get(linked or "") if event is not None else None
        if other is not None and other is not event and other.calendar is not None:
            return None  # a copy
        if event is None or event.calendar is None:
            status = self._tables.get("bookingstatus", booking["_bookingstatus_value"])
            return linked is None and status is not None and status["status"] == CANCELED
        return linked == event.immutable_id and (booking["starttime"], booking["endtime"]) == (event.start, event.end)


def _booking_id(event: Event) -> str | None:
    text = event.extensions.get(EXTENSION_NAME, {}).get(EXTENSION_PROPERTY)
    return text.lower() if isinstance(text, str) else None


def _shown(events: Sequence[Event]) -> Sequence[Event | None]:
    """Deleted events count only where no other is left."""
    return [event for event in events if event.calendar is not None] or list(events)


def _cells(line: Line) -> tuple[str, ...]:
    event = f"{line.event} deleted" if line.event_deleted else line.event or "-"
    in_step = "-" if line.in_step is None else "yes" if line.in_step else "no"
    return (
        line.technician,
        line.booking or "-",
        line.status or "-",
        _span(line.booked_from, line.booked_to),
        event,
        _span(line.event_from, line.event_to),
        in_step,
    )


def _span(start: datetime | None, end: datetime | None) -> str:
    return f"{start:%a %d %b %H:%M}-{end:%H:%M}" if start and end else "-"
