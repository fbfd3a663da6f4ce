from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sandbox.clock import Clock
from sandbox.handles import Handles
from sandbox.server import Sandbox

NINE = datetime(2030, 1, 7, 9, tzinfo=UTC)
TEN = NINE + timedelta(hours=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def sandbox() -> Sandbox:
    sandbox = Sandbox(clock=Clock(stopped_at=NINE - timedelta(days=1)))
    sandbox.people.hire("Ana")
    sandbox.people.hire("Ben")
    return sandbox


def test_handles_are_numbered_as_they_are_asked_for_and_stay() -> None:
    handles = Handles("E")
    assert [handles.of("x"), handles.of("y"), handles.of("x")] == ["E1", "E2", "E1"]
    assert (handles.id_of("e2"), handles.id_of("y"), handles.id_of("E9")) == ("y", "y", "E9")


def test_a_booking_stands_beside_its_event(sandbox: Sandbox) -> None:
    ana = sandbox.people.technicians[0]
    booking, event = sandbox.people.dispatcher.book(ana, NINE, TEN)
    (line,) = sandbox.overview.lines()
    assert (line.technician, line.booking, line.event, line.status) == ("Ana", "B1", "E1", "Scheduled")
    assert (line.booking_id, line.event_id) == (booking.id, event.immutable_id)
    assert (line.booked_from, line.booked_to, line.event_from, line.event_to) == (NINE, TEN, NINE, TEN)


def test_in_step_is_linked_with_the_same_times(sandbox: Sandbox) -> None:
    ana = sandbox.people.technicians[0]
    booking, event = sandbox.people.dispatcher.book(ana, NINE, TEN)
    assert sandbox.overview.lines()[0].in_step is False
    sandbox.tables.update(booking, {"contoso_outlookeventid": event.immutable_id})
    assert sandbox.overview.lines()[0].in_step is True
    ana.move(event, HOUR)
    assert sandbox.overview.lines()[0].in_step is False


def test_in_step_with_a_deleted_event_is_canceled_and_no_longer_linked(sandbox: Sandbox) -> None:
    ana = sandbox.people.technicians[0]
    booking, event = sandbox.people.dispatcher.book(ana, NINE, TEN)
    ana.delete(event)
    assert (sandbox.overview.lines()[0].event_deleted, sandbox.overview.lines()[0].in_step) == (True, False)
    sandbox.tables.update(booking, {"_bookingstatus_value": sandbox.tables.status("Canceled").id})
    assert sandbox.overview.lines()[0].in_step is True


def test_a_copy_of_a_linked_event_is_compared_with_nothing(sandbox: Sandbox) -> None:
    ana = sandbox.people.technicians[0]
    booking, event = sandbox.people.dispatcher.book(ana, NINE, TEN)
    sandbox.tables.update(booking, {"contoso_outlookeventid": event.immutable_id})
    ana.copy(event)
    assert [(line.event, line.in_step) for line in sandbox.overview.lines()] == [("E1", True), ("E2", None)]
    ana.delete(event)
    assert [(line.event, line.in_step) for line in sandbox.overview.lines()] == [("E2", False)]


def test_after_a_reassignment_only_the_new_event_is_shown(sandbox: Sandbox) -> None:
    ana, ben = sandbox.people.technicians
    booking, _ = sandbox.people.dispatcher.book(ana, NINE, TEN)
    event = sandbox.people.dispatcher.reassign(booking, ben)
    (line,) = sandbox.overview.lines()
    assert (line.technician, line.event_id) == ("Ben", event.immutable_id)


def test_other_events_follow_alone_and_are_compared_with_nothing(sandbox: Sandbox) -> None:
    ana = sandbox.people.technicians[0]
    meeting = ana.meet(NINE, TEN)
    sandbox.people.dispatcher.book(ana, NINE, TEN)
    lines = sandbox.overview.lines()
    assert [(line.booking is None, line.in_step is None) for line in lines] == [(False, False), (True, True)]
    ana.delete(meeting)
    assert len(sandbox.overview.lines()) == 1


def test_things_are_found_by_handle_and_by_id(sandbox: Sandbox) -> None:
    booking, event = sandbox.people.dispatcher.book(sandbox.people.technicians[0], NINE, TEN)
    assert sandbox.overview.find_booking("b1") is sandbox.overview.find_booking(booking.id) is booking
    assert sandbox.overview.find_event("E1") is sandbox.overview.find_event(event.immutable_id) is event
    assert sandbox.overview.find_event("E2") is sandbox.overview.find_booking("B2") is None


def test_the_table_is_for_reading(sandbox: Sandbox) -> None:
    ana = sandbox.people.technicians[0]
    sandbox.people.dispatcher.book(ana, NINE, TEN)
    ana.meet(NINE, TEN)
    assert sandbox.overview.table().splitlines() == [
        "TECHNICIAN  BOOKING  STATUS     BOOKED                  EVENT  IN OUTLOOK              IN STEP",
        "Ana         B1       Scheduled  Mon 07 Jan 09:00-10:00  E1     Mon 07 Jan 09:00-10:00  no",
        "Ana         -        -          -                       E2     Mon 07 Jan 09:00-10:00  -",
    ]
