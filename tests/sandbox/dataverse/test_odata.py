from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest

from sandbox.dataverse.odata import parse_query
from sandbox.dataverse.tables import Refused, Tables

NINE = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def tables(tables: Tables) -> Tables:
    nina, piet = tables.add_user(name="Nina", object_id="7c1d9e52-3b64-4f0a-9d28-6a5b4c3d2e1f"), tables.add_user()
    ninas, piets = tables.add_resource(nina), tables.add_resource(piet)
    for name, resource, start, status, event_id in (
        ("Boiler", ninas, NINE, "Scheduled", "AAkAx_Y="),
        ("Pump", ninas, NINE + HOUR, "Canceled", "AAkAX_y="),
        ("O'Brien's tap", piets, NINE + 2 * HOUR, "In Progress", "AAk+/="),
        ("Roof", tables.add_resource(name="Van", type=4), NINE + 3 * HOUR, "Scheduled", None),
    ):
        tables.add_booking(resource, start, start + HOUR, tables.status(status), event_id, name=name)
    return tables


def ask(tables: Tables, query: str, table: str = "bookableresourcebooking", *, encode: bool = True) -> list[str]:
    """Names of the rows that a query finds, in its order."""
    raw = quote(query, safe="=&$") if encode else query
    return [row["name"] for row in parse_query(raw, tables.schema[table], tables).matching(tables.rows(table))]


def refusal(tables: Tables, query: str) -> Refused:
    with pytest.raises(Refused) as attempt:
        parse_query(quote(query, safe="=&$"), tables.schema["bookableresourcebooking"], tables)
    return attempt.value


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("name eq 'Boiler'", {"Boiler"}),
        ("name eq 'bOILER'", {"Boiler"}),
        ("name eq 'O''Brien''s tap'", {"O'Brien's tap"}),
        ("contoso_outlookeventid eq 'AAkAx_Y='", {"Boiler", "Pump"}),
        ("contoso_outlookeventid eq null", {"Roof"}),
        ("contoso_outlookeventid ne null", {"Boiler", "Pump", "O'Brien's tap"}),
        ("contoso_outlookeventid ne 'aakax_y='", {"O'Brien's tap", "Roof"}),
        ("statecode eq 0 and duration ge 60", {"Boiler", "Pump", "O'Brien's tap", "Roof"}),
        ("duration gt 60 or duration lt 60", set()),
        ("starttime ge 2026-03-02T11:00:00Z", {"O'Brien's tap", "Roof"}),
        ("starttime lt 2026-03-02T11:00:00+01:00", {"Boiler"}),
        ("starttime ge 2026-03-02 and starttime le 2026-03-03", {"Boiler", "Pump", "O'Brien's tap", "Roof"}),
        ("BookingStatus/status eq 3", {"Pump"}),
        ("BookingStatus/msdyn_fieldservicestatus eq 690970003", {"O'Brien's tap"}),
        ("not (BookingStatus/status eq 3) and name ne 'Roof'", {"Boiler", "O'Brien's tap"}),
        ("not name eq 'Roof' and not name eq 'Pump'", {"Boiler", "O'Brien's tap"}),
        ("Resource/UserId/azureactivedirectoryobjectid eq 7C1D9E52-3b64-4f0a-9d28-6a5b4c3d2e1f", {"Boiler", "Pump"}),
        ("Resource/UserId/isdisabled eq false", {"Boiler", "Pump", "O'Brien's tap"}),
        ("Resource/_userid_value eq null", {"Roof"}),
        ("contains(name,'o')", {"Boiler", "O'Brien's tap", "Roof"}),
        ("startswith(name,'RO') or endswith(name,'MP')", {"Roof", "Pump"}),
        ("contains(name,'p_mp')", {"Pump"}),
        ("contains(name,'b%er')", {"Boiler"}),
        ("startswith(name,'[bp]')", {"Boiler", "Pump"}),
        ("Microsoft.Dynamics.CRM.In(PropertyName='name',PropertyValues=['roof','Pump'])", {"Roof", "Pump"}),
        ("Microsoft.Dynamics.CRM.In(PropertyName='name',PropertyValues=[\"roof\"])", {"Roof"}),
        # "and" binds stronger than "or".
        ("name eq 'Roof' or name eq 'Pump' and duration eq 1", {"Roof"}),
        ("(name eq 'Roof' or name eq 'Pump') and duration eq 1", set()),
    ],
)
def test_a_filter_finds(tables, condition, found):
    assert set(ask(tables, f"$filter={condition}")) == found


def test_a_guid_may_be_quoted(tables):
    resource = next(row for row in tables.rows("bookableresource") if row["name"] == "Nina")
    for literal in (resource.id, f"'{resource.id}'"):
        assert set(ask(tables, f"$filter=_resource_value eq {literal}")) == {"Boiler", "Pump"}
    values = f"PropertyName='resource',PropertyValues=['{resource.id}']"
    assert set(ask(tables, f"$filter=Microsoft.Dynamics.CRM.In({values})")) == {"Boiler", "Pump"}


def test_an_unencoded_plus_is_a_space(tables):
    assert ask(tables, "$filter=contoso_outlookeventid+eq+'AAk%2B/%3D'", encode=False) == ["O'Brien's tap"]
    assert ask(tables, "$filter=contoso_outlookeventid eq 'AAk+/='", encode=False) == []


def test_rows_come_in_the_order_asked_for(tables):
    assert ask(tables, "$orderby=starttime desc") == ["Roof", "O'Brien's tap", "Pump", "Boiler"]
    assert ask(tables, "$orderby=BookingStatus/status desc,name asc") == ["Pump", "Boiler", "O'Brien's tap", "Roof"]
    assert ask(tables, "$orderby=contoso_outlookeventid")[0] == "Roof"


def test_without_an_order_rows_come_by_id(tables):
    by_id = sorted(tables.bookings(), key=lambda row: row.id)
    assert ask(tables, "") == [row["name"] for row in by_id]


def test_the_callers_own_parameters_are_let_through(tables):
    assert ask(tables, "tag=booking-sync&$filter=name eq 'Roof'") == ["Roof"]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("$select=contoso_nothing", "contoso_nothing"),
        ("$select=Name", "Name"),
        ("$select=bookingstatus", "bookingstatus"),
        ("$select=BookingStatus", "BookingStatus"),
        ("$filter=Starttime eq null", "Starttime"),
        ("$orderby=start", "start"),
        ("$expand=bookingstatus", "bookingstatus"),
        ("$expand=Resource($expand=userid)", "userid"),
        ("$filter=resource/_userid_value eq null", "resource"),
        ("$filter=BookingStatus/nothing eq 3", "nothing"),
    ],
)
def test_an_unknown_or_misspelt_name_is_refused(tables, query, named):
    refused = refusal(tables, query)
    assert refused.code == "0x80060888"
    assert f"Could not find a property named '{named}' on type 'Microsoft.Dynamics.CRM." in refused.message


@pytest.mark.parametrize(
    "query",
    [
        "$skip=5",
        "$search=boiler",
        "$format=json",
        "$apply=aggregate($count as n)",
        "$Select=name",
        "$FILTER=name eq 'x'",
        "$top=0",
        "$top=-1",
        "$top=many",
        "$count=yes",
        "$select=name&$select=duration",
        "$select=name,",
        "$filter=",
        "$filter=name",
        "$filter=name eq",
        "$filter=name EQ 'x'",
        "$filter=name like 'x'",
        "$filter=name eq 'x",
        "$filter=name eq 'x' And duration eq 1",
        "$filter=(name eq 'x'",
        "$filter=name eq 'x')",
        "$filter=name eq x",
        "$filter=name eq 1",
        "$filter=duration eq '60'",
        "$filter=duration eq 6.5",
        "$filter=statecode eq true",
        "$filter=starttime ge '2026-03-02T00:00:00Z'",
        "$filter=starttime ge 2026-03-02T00:00:00",
        "$filter=_resource_value eq 'nobody'",
        "$filter=contains(duration,'6')",
        "$filter=Microsoft.Dynamics.CRM.In(PropertyName='name',PropertyValues=[])",
        "$filter=Microsoft.Dynamics.CRM.Between(PropertyName='name',PropertyValues=['a','b'])",
        "$expand=BookingStatus(name)",
        "$expand=BookingStatus($filter=status eq 3)",
        "$expand=BookingStatus($top=1)",
        "$expand=BookingStatus()",
        "$expand=BookingStatus/$ref",
        "$orderby=name descending",
    ],
)
def test_what_the_service_does_not_take_is_refused(tables, query):
    assert refusal(tables, query).code == "0x80060888"


def test_the_function_in_knows_logical_names_only(tables):
    query = "$filter=Microsoft.Dynamics.CRM.In(PropertyName='_resource_value',PropertyValues=['x'])"
    assert "doesn't contain attribute with Name = '_resource_value'" in refusal(tables, query).message


def test_a_single_row_takes_no_options_of_lists(tables):
    for option in ("$filter=name eq 'x'", "$top=1", "$orderby=name", "$count=true"):
        with pytest.raises(Refused):
            parse_query(quote(option, safe="=$"), tables.schema["bookableresourcebooking"], tables, single=True)


def test_fifteen_expands_are_the_most(tables):
    chain = "Resource($expand=UserId,ownerid)"  # three
    assert (
        len(parse_query(f"$expand={','.join([chain] * 5)}", tables.schema["bookableresourcebooking"], tables).expand)
        == 5
    )
    assert "15" in refusal(tables, f"$expand={','.join([chain] * 5)},BookingStatus").message


def test_without_field_service_its_column_is_unknown(clock):
    tables = Tables(clock, random.Random(1), field_service=False)
    assert (
        "msdyn_fieldservicestatus" in refusal(tables, "$expand=BookingStatus($select=msdyn_fieldservicestatus)").message
    )


def test_an_expand_carries_its_own_options(tables):
    query = parse_query(
        "$expand=BookingStatus($select=name,status),Resource($select=name;$expand=UserId($select=isdisabled))",
        tables.schema["bookableresourcebooking"],
        tables,
    )
    status, resource = query.expand
    assert status.query.select == ("name", "status")
    assert resource.query.expand[0].query.select == ("isdisabled",)
