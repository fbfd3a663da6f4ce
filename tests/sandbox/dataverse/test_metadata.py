from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sandbox.dataverse.columns import Column

TABLE = "EntityDefinitions(LogicalName='bookableresourcebooking')"
STRING = "Microsoft.Dynamics.CRM.StringAttributeMetadata"


def column(schema_name: str = "contoso_OtherId", **other: Any) -> dict[str, Any]:
    return {
        "@odata.type": STRING,
        "SchemaName": schema_name,
        "MaxLength": 450,
        "FormatName": {"Value": "Text"},
        **other,
    }


def published(table: str) -> dict[str, str]:
    return {"ParameterXml": f"<importexportxml><entities><entity>{table}</entity></entities></importexportxml>"}


@pytest.mark.parametrize("enabled", [True, False])
async def test_a_table_tells_whether_it_supports_etags(dataverse, enabled):
    dataverse.switches.optimistic_concurrency = enabled
    definition = await dataverse.get(f"{TABLE}?$select=LogicalName,IsOptimisticConcurrencyEnabled")
    assert definition["IsOptimisticConcurrencyEnabled"] is enabled
    assert "EntitySetName" not in definition


async def test_a_column_that_is_absent_is_not_found(dataverse):
    path = f"{TABLE}/Attributes(LogicalName='contoso_otherid')?$select=LogicalName"
    assert await dataverse.refusal("GET", path) == (404, "0x80040217")
    assert (await dataverse.refusal("GET", "EntityDefinitions(LogicalName='contoso_nothing')"))[0] == 404


async def test_the_length_of_a_text_column_takes_a_cast(dataverse):
    path = f"{TABLE}/Attributes(LogicalName='contoso_outlookeventid')"
    assert (await dataverse.get(f"{path}/{STRING}?$select=MaxLength"))["MaxLength"] == 1024
    assert await dataverse.refusal("GET", f"{path}?$select=MaxLength") == (400, "0x80060888")
    assert (await dataverse.refusal("GET", f"{TABLE}/Attributes(LogicalName='starttime')/{STRING}"))[0] == 404


async def test_relationships_tell_the_case_of_navigation_properties(dataverse):
    path = f"{TABLE}/ManyToOneRelationships?$select=ReferencingAttribute,ReferencingEntityNavigationPropertyName"
    found = {
        row["ReferencingAttribute"]: row["ReferencingEntityNavigationPropertyName"]
        for row in (await dataverse.get(path))["value"]
    }
    assert found == {"bookingstatus": "BookingStatus", "resource": "Resource", "ownerid": "ownerid"}


async def test_a_new_column_is_invisible_until_it_is_published(dataverse):
    headers = {"MSCRM.SolutionUniqueName": "ContosoBookingSync"}
    answer = await dataverse.send("POST", f"{TABLE}/Attributes", headers, column())
    assert (answer.status, "/Attributes(" in answer.headers["OData-EntityId"]) == (204, True)
    path = f"{TABLE}/Attributes(LogicalName='contoso_otherid')?$select=SchemaName"
    definition = await dataverse.get(path, Consistency="Strong")
    assert definition["SchemaName"] == "contoso_OtherId"
    query, body = f"{dataverse.address}?$select=contoso_otherid", {"contoso_otherid": "x"}
    assert await dataverse.refusal("GET", query) == (400, "0x80060888")
    assert await dataverse.refusal("PATCH", dataverse.address, {"If-Match": "*"}, body) == (400, "0x80048d19")
    assert (await dataverse.send("POST", "PublishXml", None, published("bookingstatus"))).status == 204
    assert await dataverse.refusal("GET", query) == (400, "0x80060888")
    assert (await dataverse.send("POST", "PublishXml", None, published("bookableresourcebooking"))).status == 204
    assert (await dataverse.get(query))["contoso_otherid"] is None
    assert (await dataverse.send("PATCH", dataverse.address, {"If-Match": "*"}, body)).status == 204
    assert dataverse.booking.table.columns["contoso_otherid"].solution == "ContosoBookingSync"


async def test_a_new_column_may_also_be_visible_at_once(dataverse):
    dataverse.switches.column_needs_publishing = False
    await dataverse.send("POST", f"{TABLE}/Attributes", None, column())
    assert (await dataverse.get(f"{dataverse.address}?$select=contoso_otherid"))["contoso_otherid"] is None


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(column("OtherId"), id="no prefix"),
        pytest.param(column(MaxLength=4001), id="too long"),
        pytest.param(column("contoso_OutlookEventId"), id="there already"),
        pytest.param({**column(), "@odata.type": "Microsoft.Dynamics.CRM.MemoAttributeMetadata"}, id="another type"),
        pytest.param([], id="no object"),
    ],
)
async def test_a_column_that_cannot_be_is_refused(dataverse, body):
    assert (await dataverse.refusal("POST", f"{TABLE}/Attributes", None, body))[0] == 400


@pytest.mark.parametrize("body", [{}, {"ParameterXml": "<x/>"}, published("contoso_nothing")])
async def test_publishing_takes_xml_that_names_tables(dataverse, body):
    assert (await dataverse.refusal("POST", "PublishXml", None, body))[0] in (400, 404)


@pytest.mark.parametrize("cached", [True, False])
async def test_a_new_definition_is_found_at_once_with_strong_consistency_only(dataverse, clock, cached):
    dataverse.switches.definitions_are_cached = cached
    await dataverse.send("POST", f"{TABLE}/Attributes", None, column())
    path = f"{TABLE}/Attributes(LogicalName='contoso_otherid')"
    assert (await dataverse.send("GET", path, {"Consistency": "Strong"})).status == 200
    assert (await dataverse.send("GET", path)).status == (404 if cached else 200)
    clock.move(timedelta(seconds=31))
    assert (await dataverse.send("GET", path)).status == 200


async def test_a_text_of_several_lines_takes_a_cast_of_its_own(dataverse):
    dataverse.tables.add_column("bookableresourcebooking", Column("contoso_notes", "memo", max_length=2000))
    path = f"{TABLE}/Attributes(LogicalName='contoso_notes')"
    assert (await dataverse.get(f"{path}?$select=AttributeType"))["AttributeType"] == "Memo"
    memo = STRING.replace("String", "Memo")
    assert (await dataverse.get(f"{path}/{memo}?$select=MaxLength"))["MaxLength"] == 2000
    assert (await dataverse.send("GET", f"{path}/{STRING}?$select=MaxLength")).status == 404


@pytest.mark.parametrize(("language", "status"), [(1033, 204), (1031, 400)])
async def test_a_label_is_in_a_language_of_the_environment(dataverse, language, status):
    label = {"LocalizedLabels": [{"Label": "Other id", "LanguageCode": language}]}
    assert (await dataverse.send("POST", f"{TABLE}/Attributes", None, column(DisplayName=label))).status == status


async def test_definitions_may_be_out_of_reach(dataverse):
    dataverse.switches.definitions_readable = False
    assert await dataverse.refusal("GET", TABLE) == (403, "0x80040220")


async def test_customizing_takes_privileges(dataverse):
    dataverse.switches.missing_privileges = {"prvCreateAttribute", "prvPublishCustomization"}
    assert await dataverse.refusal("POST", f"{TABLE}/Attributes", None, column()) == (403, "0x80040220")
    assert await dataverse.refusal("POST", "PublishAllXml") == (403, "0x80040220")
