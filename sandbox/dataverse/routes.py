"""The simulated Dataverse Web API v9.2: HTTP in front of ``tables.py``; definitions are in ``dataverse_metadata.py``.

Sources: "Compose HTTP requests and handle errors", "Update and delete table rows", "Perform conditional operations",
"Query data using the Web API", "Associate and disassociate table rows".
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote
from uuid import NAMESPACE_OID, uuid5

from aiohttp import web

from sandbox.dataverse.answers import (
    ROOT,
    Preferences,
    build_empty,
    build_json,
    build_next_link,
    find_page,
    not_found,
    parse_preferences,
    root_of,
    split_segment,
    url_of,
)
from sandbox.dataverse.columns import Column, Table
from sandbox.dataverse.errors import bad_payload, privilege_missing
from sandbox.dataverse.metadata import Definitions
from sandbox.dataverse.odata import Query, parse_query, refused
from sandbox.dataverse.protection import protect
from sandbox.dataverse.switches import DataverseSwitches
from sandbox.dataverse.tables import Refused, Row, Tables, does_not_exist, minutes
from sandbox.dataverse.wire import GUID, Renderer, context, parse_literal, parse_payload, parse_reference

__all__ = ["DataverseSwitches", "build_app"]

BOOKING = "bookableresourcebooking"
BUSINESS_UNIT = "69535865-29b0-4b11-8236-000d3a874bd8"
PRIVILEGES = "Microsoft.Dynamics.CRM.RetrieveUserPrivileges"
COLUMN_PRIVILEGES = "Microsoft.Dynamics.CRM.RetrievePrincipalAttributePrivileges"
NOT_ALLOWED, ALLOWED = 0, 4
"""Of the global choice field_security_permission_type."""
RIGHTS = ("Create", "Read", "Write", "Delete", "Append", "AppendTo")


def build_app(tables: Tables, switches: DataverseSwitches | None = None) -> web.Application:
    """A sub-application to be mounted at ``/api/data/v9.2``."""
    switches = switches or DataverseSwitches()
    app = web.Application(middlewares=[protect(tables, switches)])
    app.router.add_route("*", "/{address:.*}", WebApi(tables, switches).answer)
    return app


@dataclass(frozen=True)
class Address:
    """Where a row is, or would be: its table and id, or an alternate key for which there is no id yet."""

    table: Table
    id: str | None
    row: Row | None
    key_values: dict[str, Any]
    """What the address says about a row that does not exist."""


class WebApi:
    def __init__(self, tables: Tables, switches: DataverseSwitches) -> None:
        self._tables = tables
        self._switches = switches
        self._definitions = Definitions(tables, switches)

    async def answer(self, request: web.Request) -> web.Response:
        """One request, by the shape of its path; segments are cut before they are decoded, so a key may hold %2F."""
        path, _, query = request.raw_path.partition("?")
        segments = [unquote(part) for part in path.partition(ROOT)[2].split("/")]
        name, key = split_segment(segments[0])
        body = await _body(request)
        match request.method, name, segments[1:]:
            case "GET", "WhoAmI", []:
                return self._who_am_i(request)
            case "POST", "PublishXml" | "PublishAllXml", []:
                self._definitions.publish(body if name == "PublishXml" else None)
                return build_empty()
            case _, "EntityDefinitions", rest if key:
                return self._definitions.answer(request, key, rest, query, body)
        table = next((table for table in self._tables.schema.values() if table.entity_set == name), None)
        if table is None:
            raise not_found(name)
        if key is None:
            match request.method, segments[1:]:
                case "GET", []:
                    return self._list(request, table, query)
                case "POST", []:
                    return self._post(request, table, query, body)
            raise web.HTTPMethodNotAllowed(request.method, ["GET", "POST"])
        match request.method, segments[1:]:
            case "GET", [function] if table.name == "systemuser" and function.removesuffix("()") == PRIVILEGES:
                return self._privileges(request, self._address(table, key))
            case "GET", [function] if table.name == "systemuser" and function.removesuffix("()") == COLUMN_PRIVILEGES:
                return self._column_privileges(request, self._address(table, key))
            case "GET", []:
                return self._get(request, self._address(table, key, add_user=True), query)
            case "PATCH", []:
                return self._patch(request, self._address(table, key), query, body)
            case "DELETE", []:
                return self._delete(request, self._address(table, key))
            case "PUT" | "DELETE", [column] if column != "$ref":
                return self._column(request, self._address(table, key), column, body)
            case "PUT" | "DELETE", [navigation, "$ref"]:
                return self._reference(request, self._address(table, key), navigation, body)
        raise web.HTTPMethodNotAllowed(request.method, ["GET", "PATCH", "DELETE", "PUT"])

    # -- reading

    def _get(self, request: web.Request, address: Address, raw_query: str) -> web.Response:
        self._needs("Read", address.table)
        query = parse_query(raw_query, address.table, self._tables, single=True)
        prefer = parse_preferences(request)
        row = _existing(address)
        # Not with $expand or annotations ("Perform conditional operations", conditional retrievals).
        if (
            request.headers.get("If-None-Match") == row.etag
            and self._is_concurrent(address.table)
            and not query.expand
            and not prefer.annotations
        ):
            return build_empty(304)
        return self._row(request, row, query, prefer)

    def _list(self, request: web.Request, table: Table, raw_query: str) -> web.Response:
        self._needs("Read", table)
        query = parse_query(raw_query, table, self._tables)
        prefer = parse_preferences(request)
        found = query.matching(self._tables.rows(table.name))
        page_size = min(prefer.page_size or self._switches.page_size, self._switches.page_size)
        page, start = find_page(query.skiptoken, found, page_size)
        # Together with odata.maxpagesize, $top is ignored ("Page results").
        end = len(found) if query.top is None or prefer.page_size else min(query.top, len(found))
        rows = found[start : min(start + page_size, end)]
        body: dict[str, Any] = {"@odata.context": context(root_of(request), query, single=False)}
        if query.count:
            body["@odata.count"] = len(found)
        renderer = self._renderer(prefer)
        body["value"] = [renderer.row(row, query) for row in rows]
        if start + len(rows) < end:
            body["@odata.nextLink"] = build_next_link(request, raw_query, page + 1, rows)
        return build_json(body, applied=prefer.applied)

    def _row(
        self, request: web.Request, row: Row, query: Query, prefer: Preferences, status: int = 200
    ) -> web.Response:
        body = {"@odata.context": context(root_of(request), query, single=True)}
        body |= self._renderer(prefer).row(row, query)
        headers = {"OData-EntityId": url_of(request, row)} if status == 201 else {}
        return build_json(body, status, applied=prefer.applied, headers=headers)

    def _renderer(self, prefer: Preferences) -> Renderer:
        return Renderer(self._tables, prefer.annotations, self._switches.fractional_seconds)

    def _who_am_i(self, request: web.Request) -> web.Response:
        body = {
            "@odata.context": f"{root_of(request)}$metadata#Microsoft.Dynamics.CRM.WhoAmIResponse",
            "BusinessUnitId": BUSINESS_UNIT,
            "UserId": self._tables.app_user.id,
            "OrganizationId": "4ef5b371-e89e-4711-8122-000d3aa2331c",
        }
        return build_json(body)

    def _privileges(self, request: web.Request, address: Address) -> web.Response:
        """Source: Web API reference, "RetrieveUserPrivileges", "RolePrivilege"; every user here holds the same."""
        user = _existing(address)
        held = [
            {
                "Depth": self._switches.privilege_depth,
                "PrivilegeId": str(uuid5(NAMESPACE_OID, privilege)),
                "BusinessUnitId": BUSINESS_UNIT,
                "PrivilegeName": privilege,
                "RecordFilterId": "00000000-0000-0000-0000-000000000000",
                "RecordFilterUniqueName": "",
            }
            for table in self._tables.schema.values()
            for right in RIGHTS
            if (privilege := f"prv{right}{table.schema_name}") not in self._switches.missing_privileges
        ]
        below = "Microsoft.Dynamics.CRM.RetrieveUserPrivilegesResponse"
        held = held if user is self._tables.app_user else []
        return build_json({"@odata.context": f"{root_of(request)}$metadata#{below}", "RolePrivileges": held})

    def _column_privileges(self, request: web.Request, address: Address) -> web.Response:
        """Source: Web API reference, "RetrievePrincipalAttributePrivileges", "AttributePrivilege"."""
        self._needs("Read", address.table)
        user = _existing(address)
        rights = self._switches.column_rights if user is self._tables.app_user else set()
        may = {right: ALLOWED if right in rights else NOT_ALLOWED for right in ("create", "read", "update")}
        held = [
            {
                "AttributeId": column.metadata_id,
                "CanCreate": may["create"],
                "CanRead": may["read"],
                "CanUpdate": may["update"],
            }
            for column in self._tables.schema["bookableresourcebooking"].columns.values()
            if rights and column.name in self._switches.secured_columns
        ]
        below = f"{COLUMN_PRIVILEGES}Response"
        return build_json({"@odata.context": f"{root_of(request)}$metadata#{below}", "AttributePrivileges": held})

    # -- writing

    def _post(self, request: web.Request, table: Table, raw_query: str, body: Any) -> web.Response:
        query = parse_query(raw_query, table, self._tables, single=True)
        return self._create(request, Address(table, None, None, {}), query, body)

    def _patch(self, request: web.Request, address: Address, raw_query: str, body: Any) -> web.Response:
        """Update, or create where nothing is: a PATCH is an upsert unless If-Match says otherwise."""
        query = parse_query(raw_query, address.table, self._tables, single=True)
        self._meets_conditions(request, address)
        if address.row is None:
            return self._create(request, address, query, body)
        self._update(address.row, self._payload(body, address.table))
        return self._written(request, address.row, query, 200)

    def _create(self, request: web.Request, address: Address, query: Query, body: Any) -> web.Response:
        self._needs("Create", address.table)
        values = self._payload(body, address.table) | address.key_values
        id = address.id or (body.get(address.table.key) if isinstance(body, dict) else None)
        # Columns that are not valid for create are ignored.
        values.pop("statecode", None)
        values.pop("statuscode", None)
        self._plugin_may_refuse(address.table, id)
        self._recalculate(values)
        row = self._tables.create(
            address.table.name,
            values,
            id=id,
            by=self._tables.app_user.id,
            needs_required=self._switches.upsert_needs_required or request.method == "POST",
        )
        self._plugin_touches(row)
        return self._written(request, row, query, 201)

    def _delete(self, request: web.Request, address: Address) -> web.Response:
        self._needs("Delete", address.table)
        self._meets_conditions(request, address)
        row = _existing(address)
        self._plugin_may_refuse(address.table, row.id)
        self._tables.delete(row, by=self._tables.app_user.id)
        return build_empty()

    def _column(self, request: web.Request, address: Address, name: str, body: Any) -> web.Response:
        """``PUT {"value": …}`` or DELETE of one column; lookups are written through ``$ref``."""
        self._meets_conditions(request, address)
        row = _existing(address)
        column = address.table.column(name)
        if column is None or column.kind == "lookup" or column.read_only:
            raise not_found(name)
        value = None
        if request.method == "PUT":
            if not isinstance(body, dict) or "value" not in body:
                raise bad_payload(address.table.entity_set, "A 'value' property was expected.")
            value = self._literal(body["value"], column, address.table)
        self._update(row, {column.property: value})
        return build_empty()

    def _reference(self, request: web.Request, address: Address, navigation: str, body: Any) -> web.Response:
        self._meets_conditions(request, address)
        row = _existing(address)
        lookup = address.table.lookup(navigation)
        if lookup is None:
            raise not_found(navigation)
        target = None
        if request.method == "PUT":
            reference = body.get("@odata.id") if isinstance(body, dict) else None
            if reference is None:
                raise bad_payload(address.table.entity_set, "An '@odata.id' was expected.")
            target = parse_reference(reference, lookup, address.table, self._tables)
        self._update(row, {lookup.property: target})
        return build_empty()

    def _update(self, row: Row, values: dict[str, Any]) -> None:
        self._needs("Write", row.table)
        self._needs_to_link(row.table, values)
        self._plugin_may_refuse(row.table, row.id)
        self._recalculate(values, row)
        self._tables.update(row, values, by=self._tables.app_user.id)
        self._plugin_touches(row)

    def _recalculate(self, values: dict[str, Any], row: Row | None = None) -> None:
        if self._switches.recalculates_duration and values.keys() & {"starttime", "endtime"}:
            start, end = (values.get(name, row and row[name]) for name in ("starttime", "endtime"))
            if start and end:
                values["duration"] = max(0, minutes(start, end))

    def _written(self, request: web.Request, row: Row, query: Query, status: int) -> web.Response:
        prefer = parse_preferences(request)
        if not prefer.representation:
            return build_empty(headers={"OData-EntityId": url_of(request, row)})
        # $expand is ignored in the answer to a write.
        return self._row(request, row, Query(row.table, query.select), prefer, status)

    def _payload(self, body: Any, table: Table) -> dict[str, Any]:
        return parse_payload(body, table, self._tables, fractional_seconds=self._switches.fractional_seconds)

    def _literal(self, value: Any, column: Column, table: Table) -> Any:
        return parse_literal(value, column, table, fractional_seconds=self._switches.fractional_seconds)

    # -- conditions, rights, plug-ins

    def _meets_conditions(self, request: web.Request, address: Address) -> None:
        """Source: "Perform conditional operations using the Web API"."""
        row, if_match = address.row, request.headers.get("If-Match")
        if if_match is not None:
            if row is None:
                raise does_not_exist(address.table.name, address.id or "")
            if if_match != "*":
                if not self._is_concurrent(address.table):
                    raise Refused("0x8006088d", f"Optimistic concurrency isn't enabled for {address.table.name}.")
                if not re.fullmatch(r'W/"\d+"', if_match):
                    raise Refused("0x80060883", "The RowVersion property must be provided.")
                if if_match != row.etag:
                    raise Refused(
                        "0x80060882",
                        "The version of the existing record doesn't match the RowVersion property provided.",
                    )
        if request.headers.get("If-None-Match") == "*" and row is not None:
            raise Refused("0x80040237", "A record with matching key values already exists.")

    def _is_concurrent(self, table: Table) -> bool:
        return self._switches.optimistic_concurrency or table.name != BOOKING

    def _needs(self, right: str, table: Table) -> None:
        privilege = f"prv{right}{table.schema_name}"
        if privilege in self._switches.missing_privileges:
            raise privilege_missing(privilege, table.name, table.display_name, self._tables.app_user.id)

    def _needs_to_link(self, table: Table, values: dict[str, Any]) -> None:
        """A row is set as a lookup's value by who may append it there. Source: "Security roles and privileges"."""
        for lookup in table.lookups():
            if lookup.target and values.get(lookup.property) is not None:
                self._needs("Append", table)
                self._needs("AppendTo", self._tables.schema[lookup.target])

    def _plugin_may_refuse(self, table: Table, id: str | None) -> None:
        refusals = self._switches.plugin_refuses
        message = refusals.get(id or "", refusals.get("*"))
        if table.name == BOOKING and message is not None:
            raise Refused("0x80040265", message)

    def _plugin_touches(self, row: Row) -> None:
        if self._switches.plugin_touches and row.table.name == BOOKING:
            self._tables.update(row, {"name": row["name"]})

    # -- addresses

    def _address(self, table: Table, key: str, *, add_user: bool = False) -> Address:
        """``(<guid>)``, ``(bookingstatusid=<guid>)`` or an alternate key ``(column='value')``."""
        name, equals, literal = key.partition("=")
        if not equals or name == table.key:
            id = (literal if equals else key).lower()
            if not GUID.fullmatch(id):
                raise refused(f"Error in query syntax: '{key}' is no key of {table.entity_set}.")
            return Address(table, id, self._tables.get(table.name, id), {})
        column = table.column(name)
        if column is None or all(alternate.column != name for alternate in table.alternate_keys):
            raise refused(f"The specified key '{name}' is not an alternate key of {table.name}.")
        # Source: "Define alternate keys": such values cannot be used in an address, encoded or not.
        if column.kind == "string" and re.search(r"[/<>*%&:\\?+]", literal):
            raise refused(f"A potentially dangerous Request.Path value was detected from the client ({literal}).")
        value = self._literal(literal.strip("'").replace("''", "'"), column, table)
        row = self._tables.find(table.name, name, value)
        # Source: Web API, "Work with Microsoft Entra ID users": the look-up itself adds a missing user.
        if row is None and add_user and table.name == "systemuser":
            row = self._tables.add_user(object_id=value)
        return Address(table, row.id if row else None, row, {name: value})


async def _body(request: web.Request) -> Any:
    content = await request.read()
    try:
        return json.loads(content) if content else None
    except ValueError:
        raise bad_payload("", "A valid JSON body was expected.") from None


def _existing(address: Address) -> Row:
    if address.row is None:
        raise does_not_exist(address.table.name, address.id or str(*address.key_values.values()))
    return address.row
