from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest

NINE = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
NOBODY = "00000000-0000-4000-8000-000000000000"
MOVE = {"starttime": "2026-03-02T12:00:00Z", "endtime": "2026-03-02T13:30:00Z", "duration": 90}
ALL_ANNOTATIONS = {"Prefer": 'odata.include-annotations="*"'}


# -- reading


async def test_one_read_brings_a_booking_its_status_its_resource_and_its_user(dataverse):
    row = await dataverse.get(
        f"{dataverse.address}?$select=starttime,endtime,statecode,contoso_outlookeventid"
        "&$expand=BookingStatus($select=status,msdyn_fieldservicestatus),"
        "Resource($select=resourcetype;$expand=UserId($select=azureactivedirectoryobjectid))"
    )
    assert row.pop("@odata.context").endswith(
        "/api/data/v9.2/$metadata#bookableresourcebookings(starttime,endtime,statecode,contoso_outlookeventid,"
        "BookingStatus(status,msdyn_fieldservicestatus),Resource(resourcetype,UserId(azureactivedirectoryobjectid)))"
        "/$entity"
    )
    assert row == {
        "@odata.etag": dataverse.booking.etag,
        "starttime": "2026-03-02T09:00:00Z",
        "endtime": "2026-03-02T10:00:00Z",
        "statecode": 0,
        "contoso_outlookeventid": "AAkA=",
        "bookableresourcebookingid": dataverse.booking.id,
        "BookingStatus": {
            "status": 2,
            "msdyn_fieldservicestatus": 690970000,
            "bookingstatusid": dataverse.tables.status("Scheduled").id,
        },
        "Resource": {
            "resourcetype": 3,
            "bookableresourceid": dataverse.resource.id,
            "UserId": {
                "azureactivedirectoryobjectid": dataverse.user["azureactivedirectoryobjectid"],
                "systemuserid": dataverse.user.id,
                "ownerid": dataverse.user.id,
            },
        },
    }


async def test_an_expand_of_an_empty_lookup_is_null(dataverse):
    van = dataverse.tables.add_resource(name="Van", type=4)
    assert (await dataverse.get(f"bookableresources({van.id})?$select=name&$expand=UserId"))["UserId"] is None


async def test_without_select_every_published_column_comes(dataverse):
    row = await dataverse.get(dataverse.address)
    assert {"_bookingstatus_value", "versionnumber", "_modifiedby_value", "contoso_outlookeventid"} <= row.keys()
    assert f'W/"{row["versionnumber"]}"' == row["@odata.etag"]


async def test_a_filter_finds_event_ids_that_differ_in_case(dataverse):
    twin = dataverse.tables.add_booking(dataverse.resource, NINE, NINE + HOUR, event_id="aaka=")
    found = await dataverse.get("bookableresourcebookings?$filter=contoso_outlookeventid eq 'AAkA%3D'")
    assert {row["bookableresourcebookingid"] for row in found["value"]} == {dataverse.booking.id, twin.id}


async def test_no_row_found_is_an_empty_list(dataverse):
    assert (await dataverse.get("bookableresourcebookings?$filter=name eq 'none'"))["value"] == []


@pytest.mark.parametrize("options", ["", "&$orderby=name desc"])
async def test_pages_together_are_the_whole_list(dataverse, options):
    for number in range(6):
        dataverse.tables.add_booking(dataverse.resource, NINE, NINE + HOUR, name=f"Booking {number}")
    path = f"bookableresourcebookings?$select=name&$filter=statecode eq 0{options}"
    whole = (await dataverse.get(path))["value"]
    pages = [await dataverse.get(path, Prefer="odata.maxpagesize=3")]
    while "@odata.nextLink" in pages[-1]:
        pages.append(await dataverse.get(pages[-1]["@odata.nextLink"], Prefer="odata.maxpagesize=3"))
    assert [len(page["value"]) for page in pages] == [3, 3, 1]
    assert [row for page in pages for row in page["value"]] == whole


async def test_a_page_goes_on_after_the_last_row_shown_although_rows_went(dataverse):
    for _ in range(3):
        dataverse.tables.add_booking(dataverse.resource, NINE, NINE + HOUR)
    ids = sorted(row.id for row in dataverse.tables.bookings())
    first = await dataverse.get("bookableresourcebookings?$select=name", Prefer="odata.maxpagesize=2")
    dataverse.tables.delete(dataverse.tables.get("bookableresourcebooking", ids[0]))
    second = await dataverse.get(first["@odata.nextLink"], Prefer="odata.maxpagesize=2")
    assert [row["bookableresourcebookingid"] for row in second["value"]] == ids[2:]


async def test_the_service_sets_the_largest_page(dataverse):
    dataverse.switches.page_size = 2
    page = await dataverse.get("bookingstatuses?$select=name", Prefer="odata.maxpagesize=5000")
    assert len(page["value"]) == 2
    assert "@odata.nextLink" in page


async def test_top_is_ignored_together_with_a_page_size(dataverse):
    assert len((await dataverse.get("bookingstatuses?$top=2"))["value"]) == 2
    for top in (2, 20):
        assert "@odata.nextLink" not in await dataverse.get(f"bookingstatuses?$top={top}")
    assert len((await dataverse.get("bookingstatuses?$top=2", Prefer="odata.maxpagesize=4"))["value"]) == 4


async def test_a_count_is_of_all_rows(dataverse):
    page = await dataverse.get("bookingstatuses?$count=true&$select=name", Prefer="odata.maxpagesize=1")
    assert (page["@odata.count"], len(page["value"])) == (6, 1)


async def test_annotations_come_when_preferred(dataverse):
    path = f"{dataverse.address}?$select=starttime,duration,statecode,_bookingstatus_value"
    row = await dataverse.get(path, **ALL_ANNOTATIONS)
    annotation = "_bookingstatus_value@Microsoft.Dynamics.CRM"
    assert row[f"{annotation}.associatednavigationproperty"] == "BookingStatus"
    assert row[f"{annotation}.lookuplogicalname"] == "bookingstatus"
    formatted = "@OData.Community.Display.V1.FormattedValue"
    assert row[f"_bookingstatus_value{formatted}"] == "Scheduled"
    assert (row[f"statecode{formatted}"], row[f"starttime{formatted}"]) == ("Active", "3/2/2026 9:00 AM")
    only = await dataverse.get(path, Prefer='odata.include-annotations="Microsoft.Dynamics.CRM.*"')
    assert f"{annotation}.lookuplogicalname" in only
    assert f"statecode{formatted}" not in only
    assert not [name for name in await dataverse.get(path) if name.startswith("_") and "@" in name]


@pytest.mark.parametrize(
    ("options", "headers", "concurrent", "status"),
    [
        pytest.param("?$select=name", {}, True, 304, id="unchanged"),
        pytest.param("?$expand=BookingStatus", {}, True, 200, id="not with an expand"),
        pytest.param("", ALL_ANNOTATIONS, True, 200, id="not with annotations"),
        pytest.param("", {}, False, 200, id="not without optimistic concurrency"),
        pytest.param("", {"If-None-Match": 'W/"1"'}, True, 200, id="another etag"),
        pytest.param("", {"If-None-Match": "null"}, True, 200, id="the header that asks for fresh rows"),
    ],
)
async def test_an_unchanged_row_is_not_sent_again(dataverse, options, headers, concurrent, status):
    dataverse.switches.optimistic_concurrency = concurrent
    headers = {"If-None-Match": dataverse.booking.etag, **headers}
    assert (await dataverse.send("GET", f"{dataverse.address}{options}", headers)).status == status


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (f"bookableresourcebookings({NOBODY})", 404, "0x80040217"),
        ("bookableresourcebookings(42)", 400, "0x80060888"),
        ("bookableresourcebooking", 404, "0x8006088a"),
        ("BookableResourceBookings", 404, "0x8006088a"),
        ("bookableresourcebookings?$select=contoso_nothing", 400, "0x80060888"),
        ("bookableresourcebookings?$skip=1", 400, "0x80060888"),
        ("bookableresourcebookings?$skiptoken=page2", 400, "0x80060888"),
        ("bookableresourcebookings(contoso_outlookeventid='AAkA=')", 400, "0x80060888"),
    ],
)
async def test_a_read_that_cannot_be_served_is_refused(dataverse, path, status, code):
    assert await dataverse.refusal("GET", path) == (status, code)


async def test_looking_a_user_up_by_object_id_adds_the_user(dataverse):
    there = dataverse.user["azureactivedirectoryobjectid"]
    row = await dataverse.get(f"systemusers(azureactivedirectoryobjectid={there})?$select=fullname")
    assert row["systemuserid"] == dataverse.user.id
    users = len(dataverse.tables.rows("systemuser"))
    await dataverse.get(f"systemusers(azureactivedirectoryobjectid={NOBODY})")
    assert len(dataverse.tables.rows("systemuser")) == users + 1
    by_filter = await dataverse.get("systemusers?$filter=azureactivedirectoryobjectid eq 1" + NOBODY[1:])
    assert by_filter["value"] == []
    assert len(dataverse.tables.rows("systemuser")) == users + 1


@pytest.mark.parametrize("sign", "/<>*%&:\\?+")
async def test_an_alternate_key_with_a_special_sign_cannot_be_addressed(dataverse, sign):
    dataverse.tables.add_key("bookableresourcebooking", "Outlook Event", "contoso_outlookeventid")
    dataverse.tables.update(dataverse.booking, {"contoso_outlookeventid": f"AAk{sign}A"})
    key = quote(f"AAk{sign}A", safe="")
    url = f"http://x/api/data/v9.2/bookableresourcebookings(contoso_outlookeventid='{key}')"
    assert (await dataverse.refusal("GET", url))[0] == 400


async def test_an_alternate_key_addresses_its_row(dataverse):
    dataverse.tables.add_key("bookableresourcebooking", "Outlook Event Key", "contoso_outlookeventkey")
    dataverse.tables.update(dataverse.booking, {"contoso_outlookeventkey": "b50e25fe"})
    row = await dataverse.get("bookableresourcebookings(contoso_outlookeventkey='b50e25fe')?$select=name")
    assert row["bookableresourcebookingid"] == dataverse.booking.id


async def test_who_am_i_is_the_app_user(dataverse):
    assert (await dataverse.get("WhoAmI"))["UserId"] == dataverse.tables.app_user.id


# -- writing


async def test_a_patch_writes_what_it_names(dataverse):
    answer = await dataverse.send("PATCH", dataverse.address, {"If-Match": dataverse.booking.etag}, MOVE)
    assert (answer.status, await answer.text()) == (204, "")
    assert answer.headers["OData-EntityId"].endswith(f"/api/data/v9.2/{dataverse.address}")
    change = dataverse.tables.writes_to(dataverse.booking)[-1]
    assert (change.by, change.columns) == (dataverse.tables.app_user.id, set(MOVE))
    assert (dataverse.booking["starttime"], dataverse.booking["duration"]) == (NINE + 3 * HOUR, 90)


async def test_one_patch_cancels_and_unlinks(dataverse):
    canceled = dataverse.tables.status("Canceled")
    body = {"BookingStatus@odata.bind": f"/bookingstatuses({canceled.id})", "contoso_outlookeventid": None}
    await dataverse.send("PATCH", dataverse.address, {"If-Match": dataverse.booking.etag}, body)
    assert dataverse.booking["_bookingstatus_value"] == canceled.id
    assert dataverse.booking["contoso_outlookeventid"] is None


EQUAL, OTHER = "equal", 'W/"1"'


@pytest.mark.parametrize(
    ("method", "header", "value", "missing", "status", "code"),
    [
        ("PATCH", None, None, False, 204, None),
        ("PATCH", "If-Match", "*", False, 204, None),
        ("PATCH", "If-Match", EQUAL, False, 204, None),
        ("PATCH", "If-Match", OTHER, False, 412, "0x80060882"),
        ("PATCH", "If-Match", "81000001", False, 400, "0x80060883"),
        ("PATCH", "If-None-Match", "*", False, 412, "0x80040237"),
        ("PATCH", "If-None-Match", "null", False, 204, None),
        ("PATCH", "If-Match", "*", True, 404, "0x80040217"),
        ("PATCH", "If-Match", EQUAL, True, 404, "0x80040217"),
        ("DELETE", None, None, False, 204, None),
        ("DELETE", "If-Match", EQUAL, False, 204, None),
        ("DELETE", "If-Match", OTHER, False, 412, "0x80060882"),
        ("DELETE", None, None, True, 404, "0x80040217"),
    ],
)
async def test_conditions_are_kept(dataverse, method, header, value, missing, status, code):
    headers = {header: dataverse.booking.etag if value == EQUAL else value} if header else {}
    if missing:
        dataverse.tables.delete(dataverse.booking)
    writes = len(dataverse.tables.history)
    answer = await dataverse.send(method, dataverse.address, headers, MOVE if method == "PATCH" else None)
    assert answer.status == status, await answer.text()
    assert len(dataverse.tables.history) == writes + (status == 204)
    if code:
        assert (await answer.json())["error"]["code"] == code


def complete(dataverse) -> dict[str, Any]:
    return {
        "name": "New",
        "starttime": "2026-03-02T12:00:00Z",
        "endtime": "2026-03-02T13:30:00Z",
        "BookingStatus@odata.bind": f"/bookingstatuses({dataverse.tables.status('Scheduled').id})",
        "Resource@odata.bind": f"/bookableresources({dataverse.resource.id})",
    }


@pytest.mark.parametrize("headers", [{}, {"If-None-Match": "*"}])
async def test_a_patch_without_if_match_creates_what_is_missing(dataverse, headers):
    path = f"bookableresourcebookings({NOBODY})"
    assert (await dataverse.send("PATCH", path, headers, complete(dataverse))).status == 204
    assert dataverse.tables.get("bookableresourcebooking", NOBODY)["duration"] == 90


async def test_a_post_creates(dataverse):
    answer = await dataverse.send("POST", "bookableresourcebookings", None, complete(dataverse))
    id = re.search(r"\((.*)\)$", answer.headers["OData-EntityId"])[1]
    assert (answer.status, dataverse.tables.get("bookableresourcebooking", id)["name"]) == (204, "New")


async def test_a_representation_is_the_row_after_the_write(dataverse):
    headers = {"Prefer": "return=representation"}
    created = await dataverse.send("POST", "bookableresourcebookings?$select=name", headers, complete(dataverse))
    assert (created.status, (await created.json())["name"]) == (201, "New")
    path = f"{dataverse.address}?$select=duration&$expand=BookingStatus"
    written = await dataverse.send("PATCH", path, headers | {"If-Match": dataverse.booking.etag}, MOVE)
    assert (written.status, written.headers["Preference-Applied"]) == (200, "return=representation")
    row = await written.json()
    assert (row["@odata.etag"], row["duration"], "BookingStatus" in row) == (dataverse.booking.etag, 90, False)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        pytest.param({"bookingstatus@odata.bind": "/bookingstatuses(x)"}, 400, "0x80048d19", id="bind in wrong case"),
        pytest.param({"BookingStatus@odata.bind": None}, 400, "0x80040203", id="a required lookup to null"),
        pytest.param({"BookingStatus": None}, 400, "0x80040203", id="the same, shorter"),
        pytest.param({"BookingStatus@odata.bind": "Canceled"}, 400, "0x80048d19", id="a bind that is no link"),
        pytest.param({"BookingStatus@odata.bind": f"/bookingstatuses({NOBODY})"}, 404, "0x80040217", id="to no row"),
        pytest.param({"BookingStatus@odata.bind": f"/systemusers({NOBODY})"}, 400, "0x80048d19", id="other table"),
        pytest.param({"_bookingstatus_value": NOBODY}, 400, "0x80060888", id="a lookup written directly"),
        pytest.param({"contoso_nothing": "x"}, 400, "0x80048d19", id="an unknown column"),
        pytest.param({"Name": "x"}, 400, "0x80048d19", id="a column in wrong case"),
        pytest.param({"name": 42}, 400, "0x80048d19", id="a number for a text"),
        pytest.param({"duration": "90"}, 400, "0x80048d19", id="a text for a number"),
        pytest.param({"duration": 90.5}, 400, "0x80048d19", id="half a minute"),
        pytest.param({"duration": True}, 400, "0x80048d19", id="a truth for a number"),
        pytest.param({"duration": 2**31}, 400, "0x80048d19", id="too many minutes"),
        pytest.param({"starttime": "tomorrow"}, 400, "0x80048d19", id="no time"),
        pytest.param({"starttime": "2026-03-02T09:00:00-08:00Z"}, 400, "0x80048d19", id="zone twice"),
        pytest.param({"starttime": "2026-02-30T09:00:00Z"}, 400, "0x80048d19", id="no such day"),
        pytest.param({"starttime": None}, 400, "0x80040203", id="a required time to null"),
        pytest.param({"contoso_outlookeventid": "x" * 1025}, 400, "0x80044331", id="a text too long"),
        pytest.param({"statecode": 1, "statuscode": 1}, 400, "0x80048408", id="status of another state"),
        pytest.param([], 400, "0x80048d19", id="no object"),
    ],
)
async def test_a_payload_that_does_not_fit_is_refused_and_writes_nothing(dataverse, body, status, code):
    etag = dataverse.booking.etag
    assert await dataverse.refusal("PATCH", dataverse.address, {"If-Match": "*"}, body) == (status, code)
    assert dataverse.booking.etag == etag


async def test_a_write_with_an_unreadable_query_writes_nothing(dataverse):
    etag = dataverse.booking.etag
    assert (await dataverse.refusal("PATCH", f"{dataverse.address}?$select=nothing", None, MOVE))[0] == 400
    assert dataverse.booking.etag == etag


async def test_read_only_columns_are_ignored_silently(dataverse):
    body = {
        "name": "New",
        "modifiedon": "1999-01-01T00:00:00Z",
        "bookableresourcebookingid": NOBODY,
        "versionnumber": 1,
    }
    assert (await dataverse.send("PATCH", dataverse.address, {"If-Match": "*"}, body)).status == 204
    assert dataverse.tables.writes_to(dataverse.booking)[-1].columns == {"name"}


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        ("2026-03-02T09:00:00Z", "2026-03-02T09:00:00Z"),
        ("2026-03-02T09:00:00+00:00", "2026-03-02T09:00:00Z"),
        ("2026-03-02T09:00:00-08:00", "2026-03-02T17:00:00Z"),
        ("2026-03-02T09:00:00", "2026-03-02T09:00:00Z"),
        ("2026-03-02T09:00:00.9876543Z", "2026-03-02T09:00:00Z"),
    ],
)
async def test_times_are_utc_in_whole_seconds(dataverse, sent, answered):
    await dataverse.send("PATCH", dataverse.address, {"If-Match": "*"}, {"starttime": sent})
    assert (await dataverse.get(dataverse.address))["starttime"] == answered


async def test_a_text_that_looks_like_a_time_loses_trailing_zeros(dataverse):
    await dataverse.send("PATCH", dataverse.address, {"If-Match": "*"}, {"name": "2012-07-14T00:00:00.0000Z"})
    assert dataverse.booking["name"] == "2012-07-14T00:00:00Z"


async def test_one_column_can_be_put_and_deleted(dataverse):
    column = f"{dataverse.address}/contoso_outlookeventid"
    assert (await dataverse.send("PUT", column, {"If-Match": "*"}, {"value": "AAkB="})).status == 204
    assert dataverse.booking["contoso_outlookeventid"] == "AAkB="
    assert (await dataverse.send("DELETE", column)).status == 204
    assert dataverse.booking["contoso_outlookeventid"] is None
    assert await dataverse.refusal("DELETE", f"{dataverse.address}/starttime") == (400, "0x80040203")
    assert (await dataverse.refusal("PUT", f"{dataverse.address}/_resource_value", None, {"value": NOBODY}))[0] == 404


async def test_a_lookup_can_be_put_and_deleted_through_its_reference(dataverse):
    canceled = dataverse.tables.status("Canceled").id
    reference = f"{dataverse.address}/BookingStatus/$ref"
    body = {"@odata.id": f"https://contoso.crm4.dynamics.com/api/data/v9.2/bookingstatuses({canceled})"}
    assert (await dataverse.send("PUT", reference, None, body)).status == 204
    assert dataverse.booking["_bookingstatus_value"] == canceled
    assert await dataverse.refusal("DELETE", reference) == (400, "0x80040203")
    assert (await dataverse.send("DELETE", f"bookableresources({dataverse.resource.id})/UserId/$ref")).status == 204
    assert dataverse.resource["_userid_value"] is None
    assert (await dataverse.refusal("DELETE", f"{dataverse.address}/bookingstatus/$ref"))[0] == 404


async def test_a_row_others_point_at_is_not_deleted(dataverse):
    status, code = await dataverse.refusal("DELETE", f"bookableresources({dataverse.resource.id})")
    assert (status, code) == (405, "0x80040227")


async def test_the_answer_tells_the_odata_version(dataverse):
    for method, path in (("GET", "WhoAmI"), ("GET", "nothing"), ("DELETE", dataverse.address)):
        assert (await dataverse.send(method, path)).headers["OData-Version"] == "4.0"
