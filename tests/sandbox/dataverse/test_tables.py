from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from sandbox.clock import Clock
from sandbox.dataverse.columns import Column
from sandbox.dataverse.tables import Refused, Row, Tables

NINE = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
TEN = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)


@pytest.fixture
def booking(tables: Tables) -> Row:
    return tables.add_booking(tables.add_resource(tables.add_user()), NINE, TEN, event_id="AAkA=")


def code_of(attempt: pytest.ExceptionInfo[Refused]) -> str:
    return attempt.value.code


def test_the_same_seed_makes_the_same_ids(clock):
    assert [Tables(clock, random.Random(1)).status("Canceled").id for _ in range(2)] == [
        Tables(clock, random.Random(1)).status("Canceled").id
    ] * 2


def test_the_usual_statuses_are_there(tables):
    assert {row["name"]: row["msdyn_fieldservicestatus"] for row in tables.rows("bookingstatus")} == {
        "Scheduled": 690970000,
        "Traveling": 690970001,
        "On Break": 690970002,
        "In Progress": 690970003,
        "Completed": 690970004,
        "Canceled": 690970005,
    }


def test_without_field_service_its_columns_do_not_exist(clock):
    tables = Tables(clock, random.Random(1), field_service=False)
    assert tables.status("Canceled")["status"] == 3
    assert "msdyn_fieldservicestatus" not in tables.status("Canceled").values
    assert tables.add_booking(tables.add_resource(tables.add_user()), NINE, TEN)["duration"] == 60


def test_a_new_booking_is_active_solid_and_owned(tables, booking):
    assert (booking["statecode"], booking["statuscode"], booking["bookingtype"]) == (0, 1, 1)
    assert booking["duration"] == 60
    assert booking["_ownerid_value"] == tables.system.id


def test_every_write_raises_the_etag_even_one_that_changes_nothing(tables, booking):
    etags = [booking.etag]
    for _ in range(3):
        tables.update(booking, {"name": booking["name"]})
        etags.append(booking.etag)
    assert len(set(etags)) == 4
    assert etags == sorted(etags)


def test_no_two_rows_ever_share_an_etag(tables):
    rows = [row for table in tables.schema for row in tables.rows(table)]
    assert len({row.etag for row in rows}) == len(rows)


def test_a_write_says_when_and_by_whom(tables, booking, clock):
    clock.move(timedelta(hours=1))
    tables.update(booking, {"endtime": TEN + timedelta(hours=1)}, by=tables.app_user.id)
    assert booking["modifiedon"] == clock.now()
    assert booking["_modifiedby_value"] == tables.app_user.id
    assert booking["_createdby_value"] == tables.system.id


def test_the_history_holds_every_write(tables, booking):
    tables.update(booking, {"endtime": TEN + timedelta(hours=1)}, by=tables.app_user.id)
    tables.delete(booking)
    created, moved, deleted = tables.writes_to(booking)
    assert (created.kind, moved.kind, deleted.kind) == ("create", "update", "delete")
    assert (moved.by, moved.columns, moved.before["endtime"]) == (tables.app_user.id, {"endtime"}, TEN)
    assert deleted.before["endtime"] == TEN + timedelta(hours=1)


@pytest.mark.parametrize(
    "column",
    ["starttime", "endtime", "duration", "bookingtype", "_bookingstatus_value", "_resource_value", "_ownerid_value"],
)
def test_a_required_column_is_never_null(tables, booking, column):
    with pytest.raises(Refused) as attempt:
        tables.update(booking, {column: None})
    assert code_of(attempt) == "0x80040203"
    assert attempt.value.message == f"Attribute: {booking.table.columns[column].name} cannot be set to NULL"


def test_the_event_id_may_be_null(tables, booking):
    tables.update(booking, {"contoso_outlookeventid": None})
    assert booking["contoso_outlookeventid"] is None


@pytest.mark.parametrize(
    ("column", "value", "code"),
    [
        pytest.param("name", "x" * 101, "0x80044331", id="a text that is too long"),
        pytest.param("name", "\U0001f527" * 51, "0x80044331", id="counted in UTF-16"),
        pytest.param("contoso_outlookeventid", "x" * 1025, "0x80044331", id="an event id that is too long"),
        pytest.param("bookingtype", 3, "0x8004431a", id="a choice that is none"),
        pytest.param("duration", -1, "0x80040203", id="less than no time"),
        pytest.param("starttime", datetime(1752, 12, 31, tzinfo=UTC), "0x80040239", id="before 1753"),
        pytest.param("_resource_value", "00000000-0000-4000-8000-000000000000", "0x80040217", id="a link to nothing"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_and_nothing_changes(tables, booking, column, value, code):
    etag, before = booking.etag, dict(booking.values)
    with pytest.raises(Refused) as attempt:
        tables.update(booking, {"name": "fits", column: value})
    assert code_of(attempt) == code
    assert (booking.etag, booking.values) == (etag, before)


def test_a_state_brings_its_status_reason(tables, booking):
    tables.update(booking, {"statecode": 1})
    assert booking["statuscode"] == 2


def test_a_status_reason_of_another_state_is_refused(tables, booking):
    with pytest.raises(Refused) as attempt:
        tables.update(booking, {"statuscode": 2})
    assert code_of(attempt) == "0x80048408"


def test_a_status_in_use_cannot_be_deleted(tables, booking):
    with pytest.raises(Refused) as attempt:
        tables.delete(tables.status("Scheduled"))
    assert code_of(attempt) == "0x80040227"
    tables.delete(booking)
    tables.delete(tables.status("Scheduled"))


def test_an_id_exists_once(tables, booking):
    with pytest.raises(Refused) as attempt:
        tables.create("bookableresourcebooking", dict(booking.values), id=booking.id.upper())
    assert code_of(attempt) == "0x80040237"


def test_an_alternate_key_is_unique_without_regard_to_case(tables, booking):
    tables.add_key("bookableresourcebooking", "Outlook Event Key", "contoso_outlookeventid")
    with pytest.raises(Refused) as attempt:
        tables.add_booking(tables.get("bookableresource", booking["_resource_value"]), NINE, TEN, event_id="aaka=")
    assert code_of(attempt) == "0x80060892"
    tables.update(booking, {"contoso_outlookeventid": "AAkA="})


def test_a_new_column_is_null_in_rows_that_were_there(tables, booking):
    tables.add_column("bookableresourcebooking", Column("contoso_note", max_length=10, published=False))
    assert booking["contoso_note"] is None
    assert booking.table.column("contoso_note") is None
    tables.publish()
    assert booking.table.column("contoso_note") is not None


def test_several_resources_may_be_one_user(tables):
    user = tables.add_user(name="Nina Nordlund")
    assert {tables.add_resource(user)["name"] for _ in range(2)} == {"Nina Nordlund"}
    assert tables.add_resource(name="Van 7", type=4)["_userid_value"] is None


def test_time_comes_from_the_clock():
    clock = Clock(stopped_at=datetime(2030, 1, 1, 12, 0, 0, 999, tzinfo=UTC))
    assert Tables(clock, random.Random(1)).system["createdon"] == datetime(2030, 1, 1, 12, tzinfo=UTC)
