"""The four Dataverse tables of the sandbox: columns, types, lengths, required levels; rows live in ``tables.py``.

Sources: table reference "BookableResourceBooking"; Web API entity types "bookableresource", "bookingstatus",
"systemuser".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Kind = Literal["guid", "string", "memo", "integer", "long", "boolean", "date", "choice", "lookup"]

TEXTS = ("string", "memo")
"""One line, or several."""

STATE = {0: "Active", 1: "Inactive"}
STATUS_REASON = {1: "Active", 2: "Inactive"}
REASONS_OF_STATE = {0: 1, 1: 2}
"""On these tables each state has one status reason."""

RESOURCE_TYPES = {
    1: "Generic",
    2: "Contact",
    3: "User",
    4: "Equipment",
    5: "Account",
    6: "Crew",
    7: "Facility",
    8: "Pool",
}
STATUSES = {1: "Proposed", 2: "Committed", 3: "Canceled"}
FIELD_SERVICE_STATUSES = {
    690970000: "Scheduled",
    690970001: "Traveling",
    690970002: "On Break",
    690970003: "In Progress",
    690970004: "Completed",
    690970005: "Canceled",
}


@dataclass
class Column:
    """One column; a lookup is read as ``_name_value`` and written through its navigation property."""

    name: str
    kind: Kind = "string"
    max_length: int | None = None
    choices: Mapping[int, str] | None = None
    required: bool = False
    """SystemRequired: null is refused."""
    read_only: bool = False
    navigation: str | None = None
    """Of a lookup; its case matters, columns are always lower case."""
    target: str | None = None
    """Of a lookup: the table it points into."""
    schema_name: str = ""
    published: bool = True
    """Queries and payloads know a new column once the customization is published."""
    solution: str | None = None
    added_at: datetime | None = None
    """When it was made by a customizer; None if it was there before."""
    metadata_id: str = "00000000-0000-0000-0000-000000000000"

    @property
    def property(self) -> str:
        """Its name in JSON and in queries."""
        return f"_{self.name}_value" if self.kind == "lookup" else self.name


@dataclass
class AlternateKey:
    name: str
    column: str


@dataclass
class Table:
    name: str
    entity_set: str
    key: str
    primary_name: str
    schema_name: str
    display_name: str
    columns: dict[str, Column] = field(default_factory=dict)
    """By property."""
    alternate_keys: list[AlternateKey] = field(default_factory=list)
    metadata_id: str = "00000000-0000-0000-0000-000000000000"

    def column(self, name: str) -> Column | None:
        """The published column whose property is *name*."""
        column = self.columns.get(name)
        return column if column is not None and column.published else None

    def lookup(self, navigation: str) -> Column | None:
        """The lookup with this navigation property; the case must fit."""
        return next((column for column in self.lookups() if column.navigation == navigation), None)

    def lookups(self) -> list[Column]:
        return [column for column in self.columns.values() if column.kind == "lookup"]

    def published(self) -> list[Column]:
        return [column for column in self.columns.values() if column.published]

    def add(self, columns: Iterable[Column]) -> None:
        self.columns.update((column.property, column) for column in columns)


def four_tables(field_service: bool) -> dict[str, Table]:
    """By logical name; without Field Service its columns do not exist."""
    user = Table("systemuser", "systemusers", "systemuserid", "fullname", "User", "User")
    user.add(
        [
            Column("systemuserid", "guid", read_only=True),
            # The primary key of the base type "principal"; always the same value.
            Column("ownerid", "guid", read_only=True),
            Column("azureactivedirectoryobjectid", "guid", read_only=True),
            Column("domainname", max_length=1024),
            Column("internalemailaddress", max_length=100),
            Column("fullname", max_length=200, read_only=True),
            Column("isdisabled", "boolean"),
            Column("accessmode", "integer"),
            Column("applicationid", "guid"),
            *_kept_by_the_platform(),
        ]
    )
    user.alternate_keys.append(AlternateKey("azureactivedirectoryobjectid", "azureactivedirectoryobjectid"))

    resource = Table(
        "bookableresource",
        "bookableresources",
        "bookableresourceid",
        "name",
        "BookableResource",
        "Bookable Resource",
    )
    resource.add(
        [
            Column("bookableresourceid", "guid", read_only=True),
            Column("name", max_length=100),
            Column("resourcetype", "choice", choices=RESOURCE_TYPES, required=True),
            Column("timezone", "integer"),
            Column("userid", "lookup", navigation="UserId", target="systemuser"),
            *_owned(),
        ]
    )

    status = Table("bookingstatus", "bookingstatuses", "bookingstatusid", "name", "BookingStatus", "Booking Status")
    status.add(
        [
            Column("bookingstatusid", "guid", read_only=True),
            Column("name", max_length=100),
            Column("description", max_length=2000),
            Column("status", "choice", choices=STATUSES),
            *_owned(),
        ]
    )

    booking = Table(
        "bookableresourcebooking",
        "bookableresourcebookings",
        "bookableresourcebookingid",
        "name",
        "BookableResourceBooking",
        "Bookable Resource Booking",
    )
    booking.add(
        [
            Column("bookableresourcebookingid", "guid", read_only=True),
            Column("name", max_length=100),
            Column("starttime", "date", required=True),
            Column("endtime", "date", required=True),
            # In minutes.
            Column("duration", "integer", required=True),
            Column("bookingtype", "choice", choices={1: "Solid", 2: "Liquid"}, required=True),
            Column("bookingstatus", "lookup", navigation="BookingStatus", target="bookingstatus", required=True),
            Column("resource", "lookup", navigation="Resource", target="bookableresource", required=True),
            *_owned(),
        ]
    )
    if field_service:
        status.add([Column("msdyn_fieldservicestatus", "choice", choices=FIELD_SERVICE_STATUSES)])
        booking.add(
            [
                Column("msdyn_cascadecrewchanges", "boolean"),
                Column("msdyn_acceptcascadecrewchanges", "boolean"),
                Column("msdyn_internalflags", max_length=4000),
            ]
        )
    return {table.name: table for table in (user, resource, status, booking)}


def _kept_by_the_platform() -> list[Column]:
    return [
        Column("createdon", "date", read_only=True),
        Column("modifiedon", "date", read_only=True),
        Column("versionnumber", "long", read_only=True),
        # Their navigation properties are named differently from page to page, so none is served.
        Column("createdby", "lookup", target="systemuser", read_only=True),
        Column("modifiedby", "lookup", target="systemuser", read_only=True),
    ]


def _owned() -> list[Column]:
    return [
        Column("statecode", "choice", choices=STATE, required=True),
        Column("statuscode", "choice", choices=STATUS_REASON),
        Column("ownerid", "lookup", navigation="ownerid", target="systemuser", required=True),
        *_kept_by_the_platform(),
    ]
