"""Rows to JSON and payloads to values, as strictly as the Web API; what a row may hold is in ``tables.py``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from sandbox.dataverse.columns import Column, Table
from sandbox.dataverse.errors import bad_payload
from sandbox.dataverse.odata import COLUMN_TYPES, Query
from sandbox.dataverse.tables import Refused, Row, Tables, does_not_exist

FORMATTED = "OData.Community.Display.V1.FormattedValue"
NAVIGATION = "Microsoft.Dynamics.CRM.associatednavigationproperty"
TARGET = "Microsoft.Dynamics.CRM.lookuplogicalname"

DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,7})?)?(Z|[+-]\d\d:\d\d)?")
GUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
REFERENCE = re.compile(rf"(?:https?://[^/]+/api/data/v9\.\d/|/api/data/v9\.\d/|/)?(\w+)\(({GUID.pattern})\)")


class Renderer:
    """Writes rows as one answer shows them."""

    def __init__(self, tables: Tables, annotations: list[str], fractional_seconds: bool) -> None:
        self._tables = tables
        self._annotations = annotations
        self._fractional_seconds = fractional_seconds

    def row(self, row: Row, query: Query, *, outermost: bool = True) -> dict[str, Any]:
        """Asked-for columns, then the primary key; expanded single rows carry no etag of their own ("Join tables")."""
        table = row.table
        names = list(query.select) or [column.property for column in table.published()]
        # The key comes unasked; a user's is also there as "ownerid", the key of its base type.
        names += [
            name for name in (table.key, *(["ownerid"] if table.name == "systemuser" else [])) if name not in names
        ]
        shown: dict[str, Any] = {"@odata.etag": row.etag} if outermost else {}
        for name in names:
            column = table.columns[name]
            shown |= self._annotated(row, column)
            shown[name] = self._value(row.values[name])
        for expand in query.expand:
            target = self._tables.follow(row, expand.lookup)
            navigation = expand.lookup.navigation or ""
            shown[navigation] = None if target is None else self.row(target, expand.query, outermost=False)
        return shown

    def _value(self, value: Any) -> Any:
        if not isinstance(value, datetime):
            return value
        timespec = "milliseconds" if self._fractional_seconds else "seconds"
        return value.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")

    def _annotated(self, row: Row, column: Column) -> dict[str, Any]:
        """What ``odata.include-annotations`` asked for, in front of the value. Source: "Select columns"."""
        value = row.values[column.property]
        if value is None or not self._annotations:
            return {}
        found = {FORMATTED: self._formatted(row, column)}
        if column.kind == "lookup":
            found |= {NAVIGATION: column.navigation, TARGET: column.target}
        return {
            f"{column.property}@{name}": text
            for name, text in found.items()
            if text is not None and any(fnmatchcase(name, wanted) for wanted in self._annotations)
        }

    def _formatted(self, row: Row, column: Column) -> str | None:
        value = row.values[column.property]
        match column.kind:
            case "choice":
                return (column.choices or {}).get(value)
            case "integer" | "long":
                return f"{value:,}"
            case "boolean":
                return "Yes" if value else "No"
            case "date":
                half = "AM" if value.hour < 12 else "PM"
                return f"{value.month}/{value.day}/{value.year} {value.hour % 12 or 12}:{value.minute:02} {half}"
            case "lookup":
                target = self._tables.follow(row, column)
                return target[target.table.primary_name] if target else None
            case _:
                return None


def parse_payload(payload: Any, table: Table, tables: Tables, *, fractional_seconds: bool) -> dict[str, Any]:
    """A JSON body as values keyed by property; read-only columns and annotations fall out silently.

    Refused: unknown or misspelt properties, literals of the wrong type, links to rows that are not there.
    """
    if not isinstance(payload, Mapping):
        raise bad_payload(table.entity_set, "An entry in JSON must be an object.")
    values: dict[str, Any] = {}
    for name, value in payload.items():
        bare, _, annotation = name.partition("@")
        if annotation == "odata.bind":
            lookup = table.lookup(bare)
            if lookup is None:
                raise bad_payload(
                    table.entity_set,
                    f"An undeclared property '{bare}' which only has property annotations in the payload but no "
                    "property value was found in the payload. In OData, only declared navigation properties and "
                    "declared named streams can be represented as properties without values.",
                )
            values[lookup.property] = parse_reference(value, lookup, table, tables)
        elif annotation:
            continue
        elif (lookup := table.lookup(name)) is not None:
            if value is not None:
                raise bad_payload(table.entity_set, f"Deep updates are not supported: '{name}'.")
            values[lookup.property] = None
        else:
            column = table.column(name)
            if column is None:
                raise bad_payload(
                    table.entity_set,
                    f"The property '{name}' does not exist on type 'Microsoft.Dynamics.CRM.{table.name}'. Make sure "
                    "to only use property names that are defined by the type.",
                )
            if column.kind == "lookup":
                raise Refused(
                    "0x80060888",
                    "CRM do not support direct update of Entity Reference properties, Use Navigation properties "
                    "instead.",
                )
            parsed = parse_literal(value, column, table, fractional_seconds=fractional_seconds)
            # Source: "Column properties", not valid for update: such values are ignored.
            if not column.read_only:
                values[name] = parsed
    return values


def parse_reference(value: Any, lookup: Column, table: Table, tables: Tables) -> str | None:
    """``/bookingstatuses(<guid>)``, with or without the slash or the service's URL; null clears the lookup."""
    if value is None:
        return None
    match = REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise bad_payload(table.entity_set, f"The URI '{value}' of '{lookup.navigation}' is not valid.")
    entity_set, id = match.groups()
    target = next((one for one in tables.schema.values() if one.entity_set == entity_set), None)
    if target is None:
        raise Refused("0x8006088a", f"Resource not found for the segment '{entity_set}'.")
    if target.name != lookup.target:
        raise bad_payload(table.entity_set, f"'{lookup.navigation}' does not lead to '{entity_set}'.")
    if tables.get(target.name, id) is None:
        # So a 404 on PATCH may speak of another row than the one addressed.
        raise does_not_exist(target.name, id)
    return id.lower()


def parse_literal(value: Any, column: Column, table: Table, *, fractional_seconds: bool) -> Any:
    """One JSON value as its column stores it; Refused if the type does not fit, ``"150"`` is no integer."""
    if value is None:
        return None
    match column.kind:
        case "string" | "memo" if isinstance(value, str):
            return _without_zero_fraction(value)
        case "integer" | "choice" | "long" if isinstance(value, int) and not isinstance(value, bool):
            if abs(value) < 2**31 or column.kind == "long":
                return value
        case "boolean" if isinstance(value, bool):
            return value
        case "guid" if isinstance(value, str) and GUID.fullmatch(value):
            return value.lower()
        case "date" if isinstance(value, str) and DATE.fullmatch(value):
            # A value without a zone is taken as UTC ("Behavior and format of the date and time column").
            parsed = _date(value)
            if parsed is not None:
                return parsed if fractional_seconds else parsed.replace(microsecond=0)
        case _:
            pass
    raise bad_payload(
        table.entity_set, f"Cannot convert the literal '{value}' to the expected type '{COLUMN_TYPES[column.kind]}'."
    )


def _date(text: str) -> datetime | None:
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)


def _without_zero_fraction(text: str) -> str:
    """Text that looks like a time loses the zeros that end its fraction; reported at philcole.org, not documented."""
    return re.sub(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.0+|(\.\d*?)0+)(Z|[+-]\d\d:\d\d)$", r"\1\2\3", text)


def context(root: str, query: Query, *, single: bool) -> str:
    """``@odata.context``: what the answer's columns are."""
    return f"{root}$metadata#{query.table.entity_set}{_columns(query)}{'/$entity' if single else ''}"


def _columns(query: Query) -> str:
    names = [*query.select, *(f"{item.lookup.navigation}{_columns(item.query) or '()'}" for item in query.expand)]
    return f"({','.join(names)})" if names else ""
