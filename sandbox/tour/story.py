"""The tour's story: what people do, step by step, and what must be true of both services once the app has seen it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sandbox.dataverse.errors import THROTTLED_REQUESTS
from sandbox.dataverse.tables import Row
from sandbox.graph.mailboxes import Event
from sandbox.server import Sandbox
from sandbox.world.people import Technician

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Step:
    """*then* is what the app makes of *what*, in words; ``is_true`` and ``writes`` say the same to be checked."""

    what: str
    then: str
    is_true: Callable[[], bool]
    writes: int = 0
    """How many writes to Graph and Dataverse it takes, exactly."""


class Story:
    """Happens in *world*, from the first technician hired to the last event dragged."""

    def __init__(self, world: Sandbox) -> None:
        """Make the world as it is before the app: three technicians, two bookings linked to events, one meeting.

        There is also a mailbox that the app may not read.
        """
        self._world = world
        self._ana, self._ben, self._cleo = (world.people.hire(name) for name in ("Ana", "Ben", "Cleo"))
        tomorrow = (world.clock.now() + timedelta(days=1)).replace(hour=9, minute=0, second=0, microsecond=0)
        self._nine = tomorrow
        self._bens = self._book_linked(self._ben, self._nine)
        self._cleos = self._book_linked(self._cleo, self._nine)
        self._meeting = self._cleo.meet(self._nine + 4 * HOUR, self._nine + 5 * HOUR)
        self.stranger = world.mailboxes.add(address="stefan.stranger@contoso.example", state="denied")
        """The mailbox of a person whom the access policy leaves out."""
        self.anas_booking: Row
        self.anas_event: Event
        """Both are made by the first step."""

    def subscribed(self) -> Step:
        """Return the first step: all three mailboxes are subscribed."""
        world = self._world
        mailboxes = {technician.mailbox.id for technician in world.people}
        return Step(
            "The app is told to look after its subscriptions (POST /admin/functions/renew_subscriptions)",
            f"{len(mailboxes)} mailboxes are subscribed, each after Graph's validation handshakes with the app",
            lambda: (
                {subscription.mailbox.id for subscription in world.subscriptions} == mailboxes
                and len(world.handshake.passed) >= len(mailboxes)
            ),
            writes=len(mailboxes),
        )

    def steps(self) -> Iterator[Step]:
        """Each step happens when it is asked for."""
        dora, ana, ben, cleo = self._world.people.dispatcher, self._ana, self._ben, self._cleo

        booking, event = dora.book(ana, self._nine, self._nine + 2 * HOUR)
        self.anas_booking, self.anas_event = booking, event
        yield Step(
            f"Dora, the dispatcher, books Ana for two hours: {self._named(booking, event)}",
            "the booking is linked to its event",
            lambda: self._in_step(booking, event),
            writes=1,
        )

        ana.move(event, 3 * HOUR)
        yield Step(
            f"Ana, a technician, drags {self._name(event)} three hours down in Outlook",
            "the booking has followed",
            lambda: self._in_step(booking, event),
            writes=1,
        )

        bens_booking, bens_event = self._bens
        ben.delete(bens_event)
        yield Step(
            f"Ben deletes his event {self._name(bens_event)}",
            f"its booking {self._world.overview.bookings.of(bens_booking.id)} is canceled and holds no event any more",
            lambda: self._status(bens_booking) == "Canceled" and self._linked_to(bens_booking) is None,
            writes=1,
        )

        cleo.edit(self._meeting)
        yield Step(
            f"Cleo renames an ordinary meeting, {self._name(self._meeting)}",
            "nothing is touched, Dataverse is not even asked",
            lambda: self._world.calls.reads("dataverse") == 0,
        )

        copy = ana.copy(event)
        yield Step(
            f"Ana copies her event; {self._name(copy)} carries the same booking's id",
            "nothing is touched, the booking belongs to the original",
            lambda: self._in_step(booking, event),
        )

        start = booking["starttime"]
        dora.reschedule(booking, -HOUR)
        ana.edit(event)
        yield Step(
            f"Dora moves booking {self._world.overview.bookings.of(booking.id)} up an hour, and before Outlook is told,"
            f" Ana renames {self._name(event)}",
            "the booking stays where Dora put it: its event has not moved since both last agreed",
            lambda: booking["starttime"] == start - HOUR != event.start and self._linked_to(booking) is not None,
        )

        dora.update_event(booking)
        yield Step(
            f"Outlook is told: {self._name(event)} follows its booking",
            "both agree again, and nothing is touched",
            lambda: self._in_step(booking, event),
        )

        cleos_booking, cleos_event = self._cleos
        self._world.faults.order(THROTTLED_REQUESTS.retry_after("1").fault())
        cleo.move(cleos_event, HOUR)
        yield Step(
            f"Cleo drags {self._name(cleos_event)} down an hour, while Dataverse answers 429 (Retry-After: 1)",
            "the booking has followed all the same",
            lambda: self._in_step(cleos_booking, cleos_event),
            writes=1,
        )

        cleo.file(cleos_event)
        yield Step(
            f"Cleo drags {self._name(cleos_event)} into another calendar, which Graph reports as deleted",
            "nothing is touched, the event still exists",
            lambda: self._in_step(cleos_booking, cleos_event),
        )

    def _book_linked(self, technician: Technician, start: datetime) -> tuple[Row, Event]:
        world = self._world
        booking, event = world.people.dispatcher.book(technician, start, start + HOUR)
        if world.tables.event_id_column is not None:
            world.tables.link(booking, event.immutable_id)
        self._named(booking, event)
        return booking, event

    def _named(self, booking: Row, event: Event) -> str:
        return f"booking {self._world.overview.bookings.of(booking.id)}, event {self._name(event)}"

    def _name(self, event: Event) -> str:
        return self._world.overview.events.of(event.immutable_id)

    def _linked_to(self, booking: Row) -> str | None:
        column = self._world.tables.event_id_column
        return booking[column] if column else None

    def _status(self, booking: Row) -> str:
        status = self._world.tables.get("bookingstatus", booking["_bookingstatus_value"])
        return str(status["name"]) if status else ""

    def _in_step(self, booking: Row, event: Event) -> bool:
        return (
            self._linked_to(booking) == event.immutable_id
            and self._status(booking) == "Scheduled"
            and (booking["starttime"], booking["endtime"]) == (event.start, event.end)
        )
