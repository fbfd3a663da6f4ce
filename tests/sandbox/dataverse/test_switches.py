"""Both positions of each switch of the simulated Web API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

NINE = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
NOBODY = "00000000-0000-4000-8000-000000000000"
MOVE = {"starttime": "2026-03-02T12:00:00Z", "endtime": "2026-03-02T13:30:00Z", "duration": 90}
ALL_ANNOTATIONS = {"Prefer": 'odata.include-annotations="*"'}


async def test_an_upsert_needs_the_required_columns(dataverse):
    path = f"bookableresourcebookings({NOBODY})"
    assert await dataverse.refusal("PATCH", path, None, MOVE) == (400, "0x80040203")


async def test_an_upsert_may_also_leave_a_row_without_resource(dataverse):
    dataverse.switches.upsert_needs_required = False
    await dataverse.send("PATCH", f"bookableresourcebookings({NOBODY})", None, MOVE)
    assert dataverse.tables.get("bookableresourcebooking", NOBODY)["_resource_value"] is None


@pytest.mark.parametrize(("recalculates", "minutes"), [(False, 60), (True, 90)])
async def test_duration_is_kept_or_recalculated(dataverse, recalculates, minutes):
    dataverse.switches.recalculates_duration = recalculates
    await dataverse.send("PATCH", dataverse.address, {"If-Match": "*"}, {"endtime": "2026-03-02T10:30:00Z"})
    assert dataverse.booking["duration"] == minutes
    assert await dataverse.refusal("PATCH", dataverse.address, None, {"starttime": None}) == (400, "0x80040203")


async def test_without_optimistic_concurrency_an_etag_is_refused(dataverse):
    dataverse.switches.optimistic_concurrency = False
    headers = {"If-Match": dataverse.booking.etag}
    assert await dataverse.refusal("PATCH", dataverse.address, headers, MOVE) == (400, "0x8006088d")
    assert (await dataverse.send("PATCH", dataverse.address, {"If-Match": "*"}, MOVE)).status == 204


@pytest.mark.parametrize("whom", ["this one", "*"])
async def test_a_plugin_refuses_in_its_own_words(dataverse, whom):
    other = dataverse.tables.add_booking(dataverse.resource, NINE, NINE + HOUR)
    dataverse.switches.plugin_refuses = {dataverse.booking.id if whom == "this one" else whom: "Locked by payroll."}
    answer = await dataverse.send("PATCH", dataverse.address, {"If-Match": "*", **ALL_ANNOTATIONS}, MOVE)
    error = (await answer.json())["error"]
    assert (answer.status, error["code"], error["message"]) == (400, "0x80040265", "Locked by payroll.")
    assert error["@Microsoft.PowerApps.CDS.InnerError.Message"] == "Locked by payroll."
    answer = await dataverse.send("PATCH", f"bookableresourcebookings({other.id})", {"If-Match": "*"}, MOVE)
    assert answer.status == (204 if whom == "this one" else 400)


async def test_a_plugin_that_touches_the_row_makes_the_writers_etag_stale(dataverse):
    dataverse.switches.plugin_touches = True
    await dataverse.send("PATCH", dataverse.address, {"If-Match": dataverse.booking.etag}, MOVE)
    _, mine, plugins = dataverse.tables.writes_to(dataverse.booking)
    assert (mine.by, plugins.by) == (dataverse.tables.app_user.id, dataverse.tables.system.id)
    assert not plugins.columns & set(MOVE)


async def test_error_codes_may_be_empty(dataverse):
    dataverse.switches.error_codes = False
    assert await dataverse.refusal("PATCH", dataverse.address, {"If-Match": 'W/"1"'}, MOVE) == (412, "")


async def test_times_may_carry_fractions(dataverse):
    dataverse.switches.fractional_seconds = True
    assert (await dataverse.get(dataverse.address))["starttime"] == "2026-03-02T09:00:00.000Z"
    body = {"starttime": "2026-03-02T09:00:00.1230000Z"}
    await dataverse.send("PATCH", dataverse.address, {"If-Match": "*"}, body)
    assert (await dataverse.get(dataverse.address))["starttime"] == "2026-03-02T09:00:00.123Z"


@pytest.mark.parametrize(
    ("privilege", "method", "path"),
    [
        ("prvReadBookingStatus", "GET", "bookingstatuses"),
        ("prvWriteBookableResourceBooking", "PATCH", None),
        ("prvDeleteBookableResourceBooking", "DELETE", None),
    ],
)
async def test_a_missing_privilege_is_named(dataverse, privilege, method, path):
    dataverse.switches.missing_privileges = {privilege}
    answer = await dataverse.send(method, path or dataverse.address, None, MOVE if method == "PATCH" else None)
    error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (403, "0x80040220")
    assert f"is missing {privilege} privilege" in error["message"]


@pytest.mark.parametrize("privilege", ["prvAppendBookableResourceBooking", "prvAppendToBookingStatus"])
async def test_a_lookup_is_written_by_who_may_append_on_both_sides(dataverse, privilege):
    status = {"BookingStatus@odata.bind": f"/bookingstatuses({dataverse.tables.status('Canceled').id})"}
    dataverse.switches.missing_privileges = {privilege}
    assert await dataverse.refusal("PATCH", dataverse.address, {"If-Match": "*"}, status) == (403, "0x80040220")
    assert (await dataverse.send("PATCH", dataverse.address, {"If-Match": "*"}, MOVE)).status == 204


async def test_what_the_caller_may_do_with_a_secured_column_is_told(dataverse):
    user = (await dataverse.get("WhoAmI"))["UserId"]
    path = f"systemusers({user})/Microsoft.Dynamics.CRM.RetrievePrincipalAttributePrivileges()"
    assert (await dataverse.get(path))["AttributePrivileges"] == []
    dataverse.switches.secured_columns, dataverse.switches.column_rights = {"contoso_outlookeventid"}, {"read"}
    table = "EntityDefinitions(LogicalName='bookableresourcebooking')"
    definition = f"{table}/Attributes(LogicalName='{{}}')?$select=IsSecured"
    column = await dataverse.get(definition.format("contoso_outlookeventid"))
    assert column["IsSecured"] is True
    assert (await dataverse.get(definition.format("duration")))["IsSecured"] is False
    [told] = (await dataverse.get(path))["AttributePrivileges"]
    assert told == {"AttributeId": column["MetadataId"], "CanCreate": 0, "CanRead": 4, "CanUpdate": 0}
    dataverse.switches.column_rights = set()
    assert (await dataverse.get(path))["AttributePrivileges"] == []
    dataverse.switches.missing_privileges = {"prvReadUser"}
    assert await dataverse.refusal("GET", path) == (403, "0x80040220")


@pytest.mark.parametrize("function", ["RetrieveUserPrivileges", "RetrieveUserPrivileges()"])
async def test_the_callers_privileges_are_told_by_name_and_depth(dataverse, function):
    dataverse.switches.missing_privileges = {"prvWriteBookableResourceBooking"}
    dataverse.switches.privilege_depth = "Local"
    user = (await dataverse.get("WhoAmI"))["UserId"]
    answer = await dataverse.get(f"systemusers({user})/Microsoft.Dynamics.CRM.{function}")
    held = {each["PrivilegeName"]: each["Depth"] for each in answer["RolePrivileges"]}
    assert held["prvReadUser"] == held["prvReadBookableResourceBooking"] == "Local"
    assert "prvWriteBookableResourceBooking" not in held
