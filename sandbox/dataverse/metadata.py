"""Table definitions over HTTP: what a setup command asks for and creates; rows are served by ``dataverse.py``.

Sources: "Query table definitions using the Web API", "Create and update column definitions using the Web API".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import unquote_plus

from aiohttp import web

from sandbox.dataverse.answers import build_empty, build_json, not_found, root_of, split_segment
from sandbox.dataverse.columns import Column, Table
from sandbox.dataverse.errors import bad_payload, privilege_missing
from sandbox.dataverse.odata import refused
from sandbox.dataverse.switches import DataverseSwitches
from sandbox.dataverse.tables import Refused, Tables

STRING = "Microsoft.Dynamics.CRM.StringAttributeMetadata"
MEMO = "Microsoft.Dynamics.CRM.MemoAttributeMetadata"
CACHED = timedelta(seconds=30)
ATTRIBUTE_TYPES = {
    "guid": "Uniqueidentifier",
    "string": "String",
    "memo": "Memo",
    "integer": "Integer",
    "long": "BigInt",
    "boolean": "Boolean",
    "date": "DateTime",
    "choice": "Picklist",
    "lookup": "Lookup",
}


class Definitions:
    def __init__(self, tables: Tables, switches: DataverseSwitches) -> None:
        self._tables = tables
        self._switches = switches

    def publish(self, body: Any) -> None:
        """Publish the tables that the XML names, or all of them without a body."""
        self._needs("prvPublishCustomization")
        if body is None:
            self._tables.publish()
            return
        xml = body.get("ParameterXml") if isinstance(body, Mapping) else None
        if not isinstance(xml, str) or not re.fullmatch(r"<importexportxml>.*</importexportxml>", xml, re.DOTALL):
            raise bad_payload("PublishXml", "A 'ParameterXml' with an importexportxml was expected.")
        named = re.findall(r"<entity>(\w+)</entity>", xml)
        for name in named:
            if name not in self._tables.schema:
                raise Refused("0x80040217", f"Could not find an entity with the specified name: {name}.")
        self._tables.publish(named)

    def answer(self, request: web.Request, key: str, rest: list[str], raw_query: str, body: Any) -> web.Response:
        """``EntityDefinitions(key)`` and what stands below it."""
        if not self._switches.definitions_readable:
            raise privilege_missing("prvReadEntity", "entity", "Entity", self._tables.app_user.id)
        table = self._tables.schema.get(_name(key))
        if table is None:
            raise Refused("0x80040217", f"Could not find an entity with the specified name: {_name(key)}.")
        match request.method, rest:
            case "GET", []:
                definition = self._definition(table)
                return _one(request, definition, "EntityDefinitions", "EntityMetadata", raw_query)
            case "GET", ["ManyToOneRelationships"]:
                return self._relationships(request, table, raw_query)
            case "POST", ["Attributes"]:
                return self._create(request, table, body)
            case "GET", [attribute, *cast] if attribute.startswith("Attributes("):
                return self._attribute(request, table, split_segment(attribute)[1] or "", cast, raw_query)
        raise not_found(rest[-1] if rest else key)

    def _definition(self, table: Table) -> dict[str, Any]:
        booking = table.name == "bookableresourcebooking"
        return {
            "LogicalName": table.name,
            "SchemaName": table.schema_name,
            "EntitySetName": table.entity_set,
            "PrimaryIdAttribute": table.key,
            "PrimaryNameAttribute": table.primary_name,
            "IsOptimisticConcurrencyEnabled": self._switches.optimistic_concurrency or not booking,
            "ChangeTrackingEnabled": True,
            "MetadataId": table.metadata_id,
        }

    def _relationships(self, request: web.Request, table: Table, raw_query: str) -> web.Response:
        relationships = [
            {
                "SchemaName": f"{lookup.target}_{table.name}_{lookup.navigation}",
                "ReferencedEntity": lookup.target,
                "ReferencingEntity": table.name,
                "ReferencingAttribute": lookup.name,
                "ReferencingEntityNavigationPropertyName": lookup.navigation,
                "MetadataId": lookup.metadata_id,
            }
            for lookup in table.lookups()
            if lookup.navigation is not None
        ]
        names = _selected(raw_query)
        below = f"EntityDefinitions('{table.name}')/ManyToOneRelationships"
        return build_json(
            {
                "@odata.context": _context(request, below, names),
                "value": [_shown(one, names, "OneToManyRelationshipMetadata") for one in relationships],
            }
        )

    def _attribute(self, request: web.Request, table: Table, key: str, cast: list[str], raw_query: str) -> web.Response:
        """A definition is there at once; that the column may be used in queries takes publishing."""
        name = _name(key)
        column = next((column for column in table.columns.values() if name in (column.name, column.metadata_id)), None)
        is_strong = request.headers.get("Consistency") == "Strong"
        if column is not None and not is_strong and self._is_new(column):
            column = None
        if column is None or (cast and cast != [{"string": STRING, "memo": MEMO}.get(column.kind)]):
            raise Refused("0x80040217", f"Could not find an attribute with the specified name: {name}.")
        definition: dict[str, Any] = {
            "LogicalName": column.name,
            "SchemaName": column.schema_name or column.name,
            "AttributeType": ATTRIBUTE_TYPES[column.kind],
            "RequiredLevel": {"Value": "SystemRequired" if column.required else "None"},
            "IsSecured": column.name in self._switches.secured_columns,
            "MetadataId": column.metadata_id,
        }
        below = f"EntityDefinitions('{table.name}')/Attributes"
        # Length and format belong to the type of the column, so they need the cast.
        if cast:
            definition |= {"MaxLength": column.max_length, "FormatName": {"Value": "Text"}}
            return _one(request, definition, f"{below}/{cast[0]}", cast[0].rpartition(".")[2], raw_query)
        return _one(request, definition, below, "AttributeMetadata", raw_query)

    def _create(self, request: web.Request, table: Table, body: Any) -> web.Response:
        """A text column. It lands in the solution of the header, else in the default one."""
        self._needs("prvCreateAttribute")
        if not isinstance(body, Mapping) or body.get("@odata.type", "").lstrip("#") != STRING:
            raise bad_payload("EntityDefinitions", f"Only {STRING} is served here.")
        schema_name, length = body.get("SchemaName"), body.get("MaxLength", 100)
        if not isinstance(schema_name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9]{1,7}_\w+", schema_name):
            raise Refused("0x8004f02e", "The schema name must start with a valid customization prefix.")
        # The codes of these two are in no documentation.
        solution, solutions = request.headers.get("MSCRM.SolutionUniqueName"), self._switches.solutions
        if solution is not None and solution not in solutions:
            raise Refused("0x80040217", f"The solution {solution} was not found.")
        prefix = schema_name.partition("_")[0].lower()
        if prefix not in ([solutions[solution]] if solution else solutions.values()):
            raise Refused("0x8004f02e", f"{prefix} is not the customization prefix of the solution's publisher.")
        if not isinstance(length, int) or not 1 <= length <= 4000:
            raise Refused("0x80044331", f"The MaxLength {length} of a string column is outside of 1 to 4000.")
        for label in re.findall(r"'LanguageCode': (\d+)", str(body)):
            if int(label) not in self._switches.languages:
                raise Refused("0x80040203", f"The language code {label} is not a valid language for this organization.")
        if schema_name.lower() in table.columns:
            raise Refused("0x80044153", f"An attribute with the specified name {schema_name} already exists.")
        column = Column(
            schema_name.lower(),
            max_length=length,
            schema_name=schema_name,
            published=not self._switches.column_needs_publishing,
            solution=solution,
            added_at=self._tables.clock.now(),
        )
        self._tables.add_column(table.name, column)
        address = f"EntityDefinitions(LogicalName='{table.name}')/Attributes({column.metadata_id})"
        return build_empty(headers={"OData-EntityId": f"{root_of(request)}{address}"})

    def _is_new(self, column: Column) -> bool:
        if not self._switches.definitions_are_cached or column.added_at is None:
            return False
        return self._tables.clock.now() - column.added_at < CACHED

    def _needs(self, privilege: str) -> None:
        if privilege in self._switches.missing_privileges:
            raise privilege_missing(privilege, "attribute", "Attribute", self._tables.app_user.id)


def _name(key: str) -> str:
    """``LogicalName='x'``, or a MetadataId."""
    match = re.fullmatch(r"LogicalName='(\w+)'", key)
    return match[1] if match else key


def _selected(raw_query: str) -> list[str]:
    names: list[str] = []
    for pair in filter(None, raw_query.split("&")):
        option, _, value = (unquote_plus(part) for part in pair.partition("="))
        if option != "$select":
            raise refused(f"The query parameter {option} is not supported")
        names = [name.strip() for name in value.split(",")]
    return names


def _one(request: web.Request, definition: dict[str, Any], below: str, type: str, raw_query: str) -> web.Response:
    names = _selected(raw_query)
    return build_json(
        {"@odata.context": f"{_context(request, below, names)}/$entity", **_shown(definition, names, type)}
    )


def _shown(definition: dict[str, Any], names: list[str], type: str) -> dict[str, Any]:
    for name in names:
        if name not in definition:
            raise refused(f"Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.{type}'.")
    wanted = [*names, "MetadataId"] if names else list(definition)
    return {name: definition[name] for name in dict.fromkeys(wanted)}


def _context(request: web.Request, below: str, names: list[str]) -> str:
    return f"{root_of(request)}$metadata#{below}{'(' + ','.join(names) + ')' if names else ''}"
