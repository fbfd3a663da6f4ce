"""A pair that came to be out of step is listed, whoever brought it there, and at the latest after a night."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sandbox.dataverse.tables import Row
from sandbox.world.people import EXTENSION_NAME, EXTENSION_PROPERTY
from sync.pairs.entry import Entry
from sync.pairs.holding import discard
from sync.pairs.reasons import HoldKind
from tests.world.app import COLUMN, DAY, HOUR, START, App, is_canceled, is_in_step
from tests.world.sweeping import hire, pairs_of, sweep_all

if TYPE_CHECKING:
    from sandbox.graph.mailboxes import Event


async def settle(app: App) -> None:
    """All that is told of is done, second looks included."""
    for _ in range(3):
        app.sandbox.clock.move(timedelta(minutes=2))
        await app.work()


async def a_night(app: App) -> None:
    app.sandbox.clock.move(5 * HOUR)
    await sweep_all(app, after_gap=False)
    await settle(app)


def held(app: App) -> list[Entry]:
    return [entry for entry in app.ledger.entries.values() if entry.held is not None]


def reasons(app: App) -> dict[str | None, HoldKind]:
    """Why each booking is listed."""
    return {entry.booking_id: entry.held.kind for entry in held(app) if entry.held is not None}


def set_back(app: App, booking: Row) -> None:
    """A dispatcher sets the booking's status to Scheduled."""
    app.sandbox.tables.update(booking, {"_bookingstatus_value": app.sandbox.tables.status("Scheduled").id})


def names(app: App, event: Event, booking: Row) -> None:
    """A program writes the booking's GUID into the event's extension."""
    app.sandbox.mailboxes.set_extension(event, EXTENSION_NAME, {EXTENSION_PROPERTY: booking.id})


async def test_an_event_that_was_restored_after_its_booking_was_canceled(app: App) -> None:
    (ana,) = hire(app, "Ana")
    ((booking, event),) = await pairs_of(app, ana, 1)
    ana.delete(event)
    await settle(app)
    assert is_canceled(app.sandbox, booking)
    ana.restore(event)
    await settle(app)
    assert reasons(app) == {booking.id: HoldKind.CLOSED}
    await a_night(app)
    assert reasons(app) == {booking.id: HoldKind.CLOSED}
    ana.delete(event)
    await settle(app)
    assert reasons(app) == {}


async def test_an_event_whose_organizer_took_the_cancellation_back(app: App) -> None:
    (ana,) = hire(app, "Ana")
    ((booking, event),) = await pairs_of(app, ana, 1)
    app.sandbox.mailboxes.cancel_by_organizer(event)
    await settle(app)
    assert is_canceled(app.sandbox, booking)
    app.sandbox.mailboxes.uncancel_by_organizer(event)
    await settle(app)
    assert reasons(app) == {booking.id: HoldKind.CLOSED}


async def test_a_booking_that_is_opened_again_stays_open_and_is_listed(app: App) -> None:
    """The organizer cancelled the event at 9:00, and at 10:00 the dispatcher set the booking back on purpose."""
    (ana,) = hire(app, "Ana")
    ((booking, event),) = await pairs_of(app, ana, 1)
    app.sandbox.mailboxes.cancel_by_organizer(event)
    await settle(app)
    set_back(app, booking)
    for _ in range(3):
        await a_night(app)
        assert not is_canceled(app.sandbox, booking)
        assert reasons(app) == {booking.id: HoldKind.REOPENED}


async def test_a_booking_that_is_opened_again_after_its_event_was_deleted_is_listed(app: App) -> None:
    (ana,) = hire(app, "Ana")
    ((booking, event),) = await pairs_of(app, ana, 1)
    ana.delete(event)
    await settle(app)
    set_back(app, booking)
    for _ in range(2):
        await a_night(app)
        assert not is_canceled(app.sandbox, booking)
        assert reasons(app) == {booking.id: HoldKind.REOPENED}
    app.sandbox.people.dispatcher.bring_event(booking, ana)
    await settle(app)
    await a_night(app)
    assert reasons(app) == {}


async def test_an_event_that_was_moved_after_work_had_begun_is_followed_once_the_booking_is_set_back(app: App) -> None:
    (ana,) = hire(app, "Ana")
    ((booking, event),) = await pairs_of(app, ana, 1)
    app.sandbox.people.dispatcher.start(booking)
    ana.move(event, HOUR)
    await settle(app)
    assert reasons(app) == {booking.id: HoldKind.BEGUN}
    set_back(app, booking)
    await a_night(app)
    assert is_in_step(app.sandbox, booking, event)
    assert reasons(app) == {}


async def test_an_event_that_was_deleted_after_work_had_begun_is_missed_once_the_booking_is_set_back(app: App) -> None:
    (ana,) = hire(app, "Ana")
    ((booking, event),) = await pairs_of(app, ana, 1)
    app.sandbox.people.dispatcher.start(booking)
    ana.delete(event)
    await settle(app)
    assert reasons(app) == {}, "work that was done needs no event"
    set_back(app, booking)
    await a_night(app)
    assert not is_canceled(app.sandbox, booking)
    assert reasons(app) == {booking.id: HoldKind.DELETED_BEFORE}


async def test_a_booking_that_was_copied_in_dynamics_with_its_events_id(app: App) -> None:
    (ana,) = hire(app, "Ana")
    ((booking, event),) = await pairs_of(app, ana, 1)
    start, end = booking["starttime"], booking["endtime"]
    copy = app.sandbox.tables.add_booking(ana.resource, start, end, event_id=event.immutable_id)
    ana.move(event, HOUR)
    await settle(app)
    assert is_in_step(app.sandbox, booking, event)
    await a_night(app)
    [entry] = held(app)
    assert entry.held is not None
    assert (entry.held.kind, entry.held.detail) == (HoldKind.SHARED, copy.id)
    ana.move(event, HOUR)
    await a_night(app)
    assert is_in_step(app.sandbox, booking, event), "and its own booking goes on following"
    assert len(held(app)) == 1
    app.sandbox.tables.update(copy, {COLUMN: None})
    await a_night(app)
    assert held(app) == []


async def test_two_events_that_swapped_their_extensions(app: App) -> None:
    (ana,) = hire(app, "Ana")
    (one, event), (other, another) = await pairs_of(app, ana, 2)
    names(app, event, other)
    names(app, another, one)
    await settle(app)
    await a_night(app)
    assert reasons(app) == {one.id: HoldKind.NAMES_ANOTHER, other.id: HoldKind.NAMES_ANOTHER}
    names(app, event, one)
    names(app, another, other)
    await settle(app)
    await a_night(app)
    assert held(app) == []


async def test_an_event_whose_extension_was_garbled_is_still_followed(app: App) -> None:
    (ana,) = hire(app, "Ana")
    ((booking, event),) = await pairs_of(app, ana, 1)
    app.sandbox.mailboxes.set_extension(event, EXTENSION_NAME, {EXTENSION_PROPERTY: "see the work order"})
    ana.move(event, HOUR)
    await settle(app)
    assert is_in_step(app.sandbox, booking, event)


async def test_a_private_meeting_whose_id_was_typed_into_the_booking(app: App) -> None:
    (ana,) = hire(app, "Ana")
    ((booking, event),) = await pairs_of(app, ana, 1)
    meeting = ana.meet(START + 2 * DAY, START + 2 * DAY + HOUR)
    app.sandbox.tables.update(booking, {COLUMN: meeting.immutable_id})
    app.sandbox.mailboxes.delete(event)
    await settle(app)
    await a_night(app)
    assert not is_canceled(app.sandbox, booking)
    assert [entry.booking_id for entry in held(app)] == [booking.id]


async def test_a_deletion_that_a_person_let_be_is_asked_anew_once_the_booking_is_moved(app: App) -> None:
    (ana,) = hire(app, "Ana")
    (booking, event), _ = await pairs_of(app, ana, 2)
    app.sandbox.tables.update(booking, {"starttime": START + 3 * DAY, "endtime": START + 3 * DAY + HOUR})
    ana.delete(event)
    await settle(app)
    [entry] = held(app)
    assert entry.held is not None
    await app.ledger.write(discard(entry, entry.held, app.sandbox.clock.now()))
    await a_night(app)
    assert held(app) == []
    app.sandbox.tables.update(booking, {"starttime": START + 4 * DAY, "endtime": START + 4 * DAY + HOUR})
    await a_night(app)
    assert not is_canceled(app.sandbox, booking)
    assert [entry.booking_id for entry in held(app)] == [booking.id]
