"""What people do reaches both sides as it does at the customer's."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from sandbox.clock import Clock
from sandbox.dataverse.tables import Tables
from sandbox.graph.mailboxes import Mailboxes, Notice
from sandbox.world.people import EXTENSION_NAME, EXTENSION_PROPERTY, People, Technician

NINE = datetime(2030, 1, 7, 9, tzinfo=UTC)
TEN = NINE + timedelta(hours=1)
HOUR = timedelta(hours=1)


class Company:
    def __init__(self) -> None:
        clock, rng = Clock(stopped_at=NINE - timedelta(days=1)), random.Random(0)
        self.mailboxes = Mailboxes(clock, rng)
        self.tables = Tables(clock, rng)
        self.people = People(self.mailboxes, self.tables)
        self.ana, self.ben = self.people.hire("Ana"), self.people.hire("Ben")
        self.booking, self.event = self.people.dispatcher.book(self.ana, NINE, TEN)
        self.notices: list[Notice] = []
        self.mailboxes.listeners.append(self.notices.append)

    @property
    def dispatcher(self):
        return self.people.dispatcher

    def status(self) -> str:
        return self.tables.get("bookingstatus", self.booking["_bookingstatus_value"])["name"]

    def noticed(self) -> list[tuple[Technician, str]]:
        return [(self.people.owner(notice), notice.change_type) for notice in self.notices]


@pytest.fixture
def company() -> Company:
    return Company()


def test_a_technicians_user_resource_and_mailbox_are_one_person(company: Company) -> None:
    assert company.ana.user["azureactivedirectoryobjectid"] == company.ana.mailbox.id
    assert company.ana.resource["_userid_value"] == company.ana.user.id
    assert company.ana.resource["resourcetype"] == 3


def test_a_new_booking_has_an_event_that_carries_its_id_but_does_not_know_it_yet(company: Company) -> None:
    assert (company.event.start, company.event.end) == (NINE, TEN)
    assert company.event.mailbox is company.ana.mailbox
    assert company.event.extensions == {EXTENSION_NAME: {EXTENSION_PROPERTY: company.booking.id}}
    assert company.booking[company.tables.event_id_column] is None
    assert company.status() == "Scheduled"


def test_the_event_follows_a_moved_booking(company: Company) -> None:
    company.dispatcher.move(company.booking, HOUR)
    assert (company.booking["starttime"], company.booking["endtime"]) == (TEN, TEN + HOUR)
    assert (company.event.start, company.event.end) == (TEN, TEN + HOUR)
    assert company.noticed() == [(company.ana, "updated")]


def test_a_reassigned_booking_leaves_one_calendar_for_another(company: Company) -> None:
    event = company.dispatcher.reassign(company.booking, company.ben)
    assert company.event.calendar is None
    assert event.mailbox is company.ben.mailbox
    assert event.extensions == company.event.extensions
    assert company.people.assignee(company.booking) is company.ben
    assert company.noticed() == [(company.ana, "deleted"), (company.ben, "created")]


def test_a_canceled_booking_loses_its_event(company: Company) -> None:
    company.dispatcher.cancel(company.booking)
    assert company.status() == "Canceled"
    assert company.noticed() == [(company.ana, "deleted")]


def test_a_deleted_booking_loses_its_event(company: Company) -> None:
    company.dispatcher.delete(company.booking)
    assert company.tables.bookings() == []
    assert company.event.calendar is None


@pytest.mark.parametrize(("act", "status"), [("start", "In Progress"), ("complete", "Completed")])
def test_work_is_begun_and_completed_without_a_trace_in_outlook(company: Company, act: str, status: str) -> None:
    getattr(company.dispatcher, act)(company.booking)
    assert company.status() == status
    assert company.notices == []


def test_renaming_a_booking_changes_its_etag_alone(company: Company) -> None:
    before = company.booking.etag
    company.dispatcher.rename(company.booking)
    assert company.booking.etag != before
    assert company.notices == []


def test_the_dispatcher_is_who_wrote(company: Company) -> None:
    company.dispatcher.move(company.booking, HOUR)
    writers = {change.by for change in company.tables.writes_to(company.booking)}
    assert writers.isdisjoint({company.tables.system.id, company.tables.app_user.id})


@pytest.mark.parametrize("act", ["cancel", "delete"])
def test_an_event_that_the_technician_deleted_is_left_alone(company: Company, act: str) -> None:
    company.ana.delete(company.event)
    getattr(company.dispatcher, act)(company.booking)
    assert company.noticed() == [(company.ana, "deleted")]


def test_moving_a_booking_does_not_bring_a_deleted_event_back(company: Company) -> None:
    company.ana.delete(company.event)
    company.dispatcher.move(company.booking, HOUR)
    assert company.event.start == NINE


def test_a_technician_moves_edits_deletes_and_restores(company: Company) -> None:
    company.ana.move(company.event, HOUR)
    assert (company.event.start, company.event.end) == (TEN, TEN + HOUR)
    company.ana.edit(company.event)
    assert company.event.start == TEN
    company.ana.delete(company.event)
    company.ana.restore(company.event)
    assert [change for _, change in company.noticed()] == ["updated", "updated", "deleted", "created"]
    assert company.booking["starttime"] == NINE


def test_a_copy_carries_the_bookings_id_as_well(company: Company) -> None:
    copy = company.ana.copy(company.event)
    assert copy.immutable_id != company.event.immutable_id
    assert copy.extensions == company.event.extensions


def test_an_event_can_be_filed_in_another_calendar_more_than_once(company: Company) -> None:
    other = company.ana.meet(NINE, TEN)
    company.ana.file(company.event)
    company.ana.file(other)
    assert company.event.calendar is other.calendar
    assert [calendar.name for calendar in company.ana.mailbox.calendars] == ["Calendar", "Private"]


def test_an_ordinary_meeting_is_no_bookings(company: Company) -> None:
    assert company.ana.meet(NINE, TEN).extensions == {}
