"""A Dataverse environment about itself: the caller, the caller's rights, how a table is defined; adds one column.

Operators' commands use this file. The app itself reads and writes bookings in ``bookings.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sync.dataverse.transport import Transport
from sync.errors import Malformed, NotFound

TABLE = "bookableresourcebooking"

LENGTH = 1024
"""Characters. Graph names no longest event id; Dataverse's own mapping table for bookings gives it as many."""

DEPTHS = ("Basic", "Local", "Deep", "Global")
"""How far a privilege reaches: own rows, those of the business unit, of the units below it, of the organization."""

_TABLE = f"EntityDefinitions(LogicalName='{TABLE}')"
_TEXTS = ("String", "Memo")

_ALLOWED = 4
"""The right is given: a value of the choice field_security_permission_type. Source: Dataverse, "FieldPermission
table"."""

# A definition that has just been changed is read from a cache for half a minute. Source: Dataverse Web API, "Query
# table definitions".
_FRESH = {"Consistency": "Strong"}


@dataclass(frozen=True)
class Column:
    """A column as it is defined, published or not; ``max_length`` is None if it is no text."""

    type: str
    max_length: int | None
    secured_as: str | None = None
    """Its MetadataId if it is under column security, where ``rights`` tells who may do what with it."""


@dataclass(frozen=True)
class User:
    """A user of the environment: a person, or an application."""

    is_enabled: bool
    application_id: str | None
    """The Entra application id; a person has None."""


class Definitions:
    """One environment's users, rights and definitions. All methods raise Transient, Refused and Malformed."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def who_am_i(self) -> str:
        """The caller's own systemuserid. Source: Dataverse Web API, "WhoAmI"."""
        return str(_of(await self._transport.get("WhoAmI"), "UserId"))

    async def user(self, user_id: str) -> User:
        """Return the user with this systemuserid."""
        row = await self._transport.get(f"systemusers({user_id})?$select=isdisabled,applicationid")
        return User(_of(row, "isdisabled") is False, _of(row, "applicationid"))

    async def privileges(self, user_id: str) -> Mapping[str, str]:
        """The privileges of all roles of the user and of the user's teams by their name, with their depth.

        Source: Dataverse Web API reference, "RetrieveUserPrivileges", "RolePrivilege".
        """
        path = f"systemusers({user_id})/Microsoft.Dynamics.CRM.RetrieveUserPrivileges()"
        held: dict[str, str] = {}
        for each in _of(await self._transport.get(path), "RolePrivileges"):
            name, depth = str(_of(each, "PrivilegeName")), str(_of(each, "Depth"))
            held[name] = max(held.get(name, depth), depth, key=_reach)
        return held

    async def has_optimistic_concurrency(self) -> bool:
        """Whether a write of a booking can carry the etag it was decided on. Source: "Optimistic concurrency"."""
        definition = await self._transport.get(f"{_TABLE}?$select=IsOptimisticConcurrencyEnabled")
        return _of(definition, "IsOptimisticConcurrencyEnabled") is True

    async def column(self, name: str) -> Column | None:
        """The column of bookings with this logical name, None if there is none."""
        path = f"{_TABLE}/Attributes(LogicalName='{name}')"
        try:
            names = "LogicalName,AttributeType,IsSecured,MetadataId"
            definition = await self._transport.get(f"{path}?$select={names}", headers=_FRESH)
            kind = str(_of(definition, "AttributeType"))
            secured_as = str(_of(definition, "MetadataId")) if _of(definition, "IsSecured") else None
            if kind not in _TEXTS:
                return Column(kind, None, secured_as)
            # The length belongs to the type of the column, so it takes a cast.
            cast = f"{path}/Microsoft.Dynamics.CRM.{kind}AttributeMetadata?$select=MaxLength"
            return Column(kind, int(_of(await self._transport.get(cast, headers=_FRESH), "MaxLength")), secured_as)
        except NotFound:
            return None

    async def rights(self, user_id: str, column_id: str) -> frozenset[str]:
        """Return which of "read" and "update" the user may do with this secured column, by profiles of users and teams.

        Source: Dataverse Web API reference, "RetrievePrincipalAttributePrivileges", "AttributePrivilege".
        """
        path = f"systemusers({user_id})/Microsoft.Dynamics.CRM.RetrievePrincipalAttributePrivileges()"
        for each in _of(await self._transport.get(path), "AttributePrivileges"):
            if str(_of(each, "AttributeId")).lower() == column_id.lower():
                names = {"read": "CanRead", "update": "CanUpdate"}
                return frozenset(right for right, name in names.items() if _of(each, name) == _ALLOWED)
        return frozenset()

    async def create_column(self, name: str, solution: str | None, language: int) -> None:
        """Add the event-id column, with a label in this language, to the solution or the default one.

        Source: Dataverse Web API, "Create and update column definitions".
        """
        headers = {"MSCRM.SolutionUniqueName": solution} if solution else {}
        await self._transport.post(f"{_TABLE}/Attributes", build_column(name, language), headers)

    async def publish(self) -> None:
        """Make queries know what has changed of the table. Source: Dataverse Web API reference, "PublishXml"."""
        xml = f"<importexportxml><entities><entity>{TABLE}</entity></entities></importexportxml>"
        await self._transport.post("PublishXml", {"ParameterXml": xml})


def why_unfit(column: Column) -> str | None:
    """Why *column* cannot hold event ids, None if it can."""
    if column.max_length is None:
        return f"is of type {column.type}, not a text"
    if column.max_length < LENGTH:
        return f"holds {column.max_length} characters only, and event ids may be longer: {LENGTH} are needed"
    return None


def build_column(name: str, language: int) -> dict[str, Any]:
    """Return the definition of the event-id column, with a label in this language (a number, such as 1033)."""
    return {
        "@odata.type": "Microsoft.Dynamics.CRM.StringAttributeMetadata",
        # The logical name is this in lower case, which is how the setting has it.
        "SchemaName": name,
        "DisplayName": _label("Event id for booking sync", language),
        "Description": _label("Id of the Outlook event of this booking; booking-sync writes it", language),
        "RequiredLevel": {"Value": "None"},
        "FormatName": {"Value": "Text"},
        "MaxLength": LENGTH,
    }


def _label(text: str, language: int) -> dict[str, Any]:
    label = {"@odata.type": "Microsoft.Dynamics.CRM.LocalizedLabel", "Label": text, "LanguageCode": language}
    return {"@odata.type": "Microsoft.Dynamics.CRM.Label", "LocalizedLabels": [label]}


def _reach(depth: str) -> int:
    return DEPTHS.index(depth) if depth in DEPTHS else -1


def _of(raw: Any, name: str) -> Any:
    """Raises: Malformed if *raw* does not have it."""
    if not isinstance(raw, dict) or name not in raw:
        raise Malformed(f"dataverse: an answer without {name}")
    return raw[name]
